//! Connections over TCP with limits on each wait.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::limits::CONNECT_SECONDS;
use crate::base::limits::SILENCE_SECONDS;
use crate::base::sys;
use std::io::ErrorKind as Io;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::net::ToSocketAddrs;
use std::time::Duration;

/// How long the other end may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Until a connection stands, for each address of a host.
    pub connect: Duration,
    /// Without a byte.
    pub silence: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connect: Duration::from_secs(CONNECT_SECONDS),
            silence: Duration::from_secs(SILENCE_SECONDS),
        }
    }
}

/// Connects with a host: with the first of its addresses that answers.
///
/// # Errors
/// `Unreachable`, with what the last address said.
pub fn connect(host: &str, port: u16, limits: &Limits) -> Result<TcpStream> {
    let addresses = (host, port)
        .to_socket_addrs()
        .map_err(|e| unreachable(format!("host {host} is not found"), e).hint(NAME_HINT))?;
    let mut failed = None;
    for address in addresses {
        match connect_to(address, limits) {
            Ok(stream) => return Ok(stream),
            Err(e) => failed = Some(e),
        }
    }
    let cause = failed.unwrap_or_else(|| Io::NotFound.into());
    let message = format!("cannot connect with {host}, port {port}");
    Err(unreachable(message, cause).hint(PORT_HINT))
}

/// What to do about a host that is not found.
pub(crate) const NAME_HINT: &str = "check the name of the host, and that this machine is online";

/// What to do about a server that does not take a connection.
pub(crate) const PORT_HINT: &str = "is the server running, and are host and port right?";

/// Connects with one address. The connection sends what it is given at once, and each of its
/// reads and writes has a limit.
///
/// # Errors
/// As the system says.
pub fn connect_to(address: SocketAddr, limits: &Limits) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, limits.connect)?;
    stream.set_read_timeout(Some(limits.silence))?;
    stream.set_write_timeout(Some(limits.silence))?;
    stream.set_nodelay(true)?;
    sys::keep_alive(&stream)?;
    Ok(stream)
}

/// Makes the error of a connection that failed: whatever the system calls it, the other end is
/// not there.
pub fn unreachable(message: impl Into<String>, cause: std::io::Error) -> Error {
    let error = Error::new(ErrorKind::Unreachable, message);
    match cause.kind() {
        // How Linux tells that a limit of a socket has passed.
        Io::WouldBlock | Io::TimedOut => error.caused_by("no answer within the time limit"),
        _ => error.caused_by(cause),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::TcpListener;

    #[test]
    fn a_silent_server_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let limits = Limits { silence: Duration::from_millis(20), ..Limits::default() };
        let mut stream = connect("127.0.0.1", port, &limits).expect("it listens");

        let cause = stream.read(&mut [0]).expect_err("it says nothing");

        let error = unreachable("cannot read", cause);
        assert_eq!(error.kind(), ErrorKind::Unreachable);
        assert_eq!(error.full_message(), "cannot read: no answer within the time limit");
    }

    #[test]
    fn nobody_there_is_unreachable() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        drop(listener);
        let error = connect("127.0.0.1", port, &Limits::default()).expect_err("nobody listens");
        assert_eq!(error.kind(), ErrorKind::Unreachable);
    }
}
