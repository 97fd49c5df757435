//! A client that says what it is told to, and nothing of its own.

use rustls::ClientConfig;
use rustls::ClientConnection;
use rustls::StreamOwned;
use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

/// Longer than anything here takes: a server that hangs fails a test.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection, in the clear or within TLS.
pub(super) enum Wire {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Wire {
    pub(super) fn connect(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        Wire::Plain(socket)
    }

    pub(super) fn within(self, config: &Arc<ClientConfig>) -> Self {
        let name = "localhost".try_into().unwrap();
        let connection = ClientConnection::new(Arc::clone(config), name).unwrap();
        Wire::Tls(Box::new(StreamOwned::new(connection, self.into_socket())))
    }

    pub(super) fn into_socket(self) -> TcpStream {
        match self {
            Wire::Plain(socket) => socket,
            Wire::Tls(stream) => stream.sock,
        }
    }

    /// Ends as a client does that is done.
    pub(super) fn end(mut self) {
        if let Wire::Tls(stream) = &mut self {
            stream.flush().unwrap();
            stream.conn.send_close_notify();
            stream.flush().unwrap();
        }
    }

    /// Breaks off, as a connection does whose machine is gone.
    #[expect(unsafe_code, reason = "std cannot make a socket break off")]
    pub(super) fn reset(self) {
        let socket = self.into_socket();
        let linger = libc::linger { l_onoff: 1, l_linger: 0 };
        let length = libc::socklen_t::try_from(size_of::<libc::linger>()).unwrap();
        // SAFETY: the option is read from a value of its own type and length.
        let set = unsafe {
            let value = (&raw const linger).cast();
            libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, value, length)
        };
        assert_eq!(set, 0);
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Wire::Plain(socket) => socket.read(buffer),
            Wire::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Wire::Plain(socket) => socket.write(bytes),
            Wire::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Wire::Plain(socket) => socket.flush(),
            Wire::Tls(stream) => stream.flush(),
        }
    }
}

/// What the server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) code: u16,
    /// All lines, with their codes and ends.
    pub(super) bytes: Vec<u8>,
}

impl Said {
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// One session.
pub(super) struct Client {
    wire: Option<Wire>,
    address: SocketAddr,
    /// What data connections are within.
    pub(super) data_tls: Option<Arc<ClientConfig>>,
}

impl Client {
    pub(super) fn connect(address: SocketAddr) -> Self {
        Client { wire: Some(Wire::connect(address)), address, data_tls: None }
    }

    pub(super) fn wire(&mut self) -> &mut Wire {
        self.wire.as_mut().unwrap()
    }

    pub(super) fn into_wire(mut self) -> Wire {
        self.wire.take().unwrap()
    }

    /// Sends bytes as they are.
    pub(super) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.wire().write_all(bytes.as_ref()).unwrap();
        self.wire().flush().unwrap();
    }

    /// Hears a reply to its end; None when the server hung up instead.
    pub(super) fn hear(&mut self) -> Option<Said> {
        let mut bytes = Vec::new();
        let mut start = 0;
        loop {
            let mut byte = [0];
            match self.wire().read(&mut byte) {
                Ok(1) => bytes.push(byte[0]),
                Ok(_) => return None,
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => panic!("no reply: {e}"),
                Err(_) => return None,
            }
            if byte[0] != b'\n' {
                continue;
            }
            let line = &bytes[start..];
            start = bytes.len();
            let is_last = line.len() > 4 && line[..3].iter().all(u8::is_ascii_digit);
            if is_last && line[3] == b' ' {
                let code = std::str::from_utf8(&line[..3]).unwrap().parse().unwrap();
                return Some(Said { code, bytes });
            }
        }
    }

    /// Expects a reply with this code.
    pub(super) fn hears(&mut self, code: u16) -> Said {
        let said = self.hear().unwrap_or_else(|| panic!("hung up instead of {code}"));
        assert_eq!(said.code, code, "{said:?}");
        said
    }

    /// Expects that the server has hung up.
    pub(super) fn is_left_alone(&mut self) {
        assert_eq!(self.hear(), None);
    }

    /// Says a command and hears the reply.
    pub(super) fn ask(&mut self, line: impl AsRef<[u8]>) -> Said {
        self.send([line.as_ref(), b"\r\n"].concat());
        self.hear().unwrap_or_else(|| panic!("hung up after {:?}", line.as_ref()))
    }

    /// Says a command and expects a code.
    pub(super) fn asks(&mut self, code: u16, line: impl AsRef<[u8]>) -> String {
        let said = self.ask(&line);
        assert_eq!(said.code, code, "{:?}: {said:?}", String::from_utf8_lossy(line.as_ref()));
        said.text()
    }

    pub(super) fn login(&mut self, user: &str, password: &str) {
        self.asks(331, format!("USER {user}"));
        self.asks(230, format!("PASS {password}"));
    }

    /// Goes on within TLS.
    pub(super) fn secure(&mut self, config: &Arc<ClientConfig>) {
        self.asks(234, "AUTH TLS");
        self.wire = Some(self.wire.take().unwrap().within(config));
    }

    /// Returns the address of the next data connection.
    pub(super) fn passive(&mut self) -> SocketAddr {
        let text = self.asks(229, "EPSV");
        let port = text.split('|').nth(3).unwrap().parse().unwrap();
        (self.address.ip(), port).into()
    }

    /// Begins a transfer; the data connection is open, and 150 was heard.
    pub(super) fn begin(&mut self, line: impl AsRef<[u8]>) -> Wire {
        let data = Wire::connect(self.passive());
        self.asks(150, line);
        match &self.data_tls {
            Some(config) => data.within(&Arc::clone(config)),
            None => data,
        }
    }

    /// Receives what a command sends.
    pub(super) fn get(&mut self, line: impl AsRef<[u8]>) -> Vec<u8> {
        let mut data = self.begin(line);
        let mut bytes = Vec::new();
        data.read_to_end(&mut bytes).unwrap();
        self.hears(226);
        bytes
    }

    pub(super) fn get_text(&mut self, line: impl AsRef<[u8]>) -> String {
        String::from_utf8_lossy(&self.get(line)).into_owned()
    }

    /// Sends a file.
    pub(super) fn put(&mut self, line: impl AsRef<[u8]>, bytes: &[u8]) {
        let mut data = self.begin(line);
        data.write_all(bytes).unwrap();
        data.end();
        self.hears(226);
    }
}
