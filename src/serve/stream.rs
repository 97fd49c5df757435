//! A connection, in the clear or within TLS. Its socket has a time limit of one [`TICK`], so that
//! whoever waits looks around now and then.

use crate::net::tls::server::ServerStream;
use std::io;
use std::io::Read;
use std::io::Write;
use std::net::Shutdown;
use std::net::TcpStream;
use std::time::Duration;

/// How long one read or write waits before it says `WouldBlock`.
pub(super) const TICK: Duration = Duration::from_millis(250);

/// A connection.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<ServerStream>),
}

impl Stream {
    /// Takes a new connection over.
    pub(super) fn new(socket: TcpStream) -> io::Result<Self> {
        socket.set_nonblocking(false)?;
        socket.set_read_timeout(Some(TICK))?;
        socket.set_write_timeout(Some(TICK))?;
        // What is written is written whole: there is nothing to wait for and add to.
        socket.set_nodelay(true)?;
        Ok(Stream::Plain(socket))
    }

    /// Returns the socket below.
    pub(super) fn socket(&self) -> &TcpStream {
        match self {
            Stream::Plain(socket) => socket,
            Stream::Tls(stream) => stream.socket(),
        }
    }

    /// Says whether it is within TLS.
    pub(super) fn is_tls(&self) -> bool {
        matches!(self, Stream::Tls(_))
    }

    /// Puts the last word of TLS, if any, before what the next flush sends.
    pub(super) fn say_goodbye(&mut self) {
        if let Stream::Tls(stream) = self {
            stream.say_goodbye();
        }
    }

    /// Says that nothing more is written. A client that hung up knows.
    pub(super) fn shut(&self) {
        let _ = self.socket().shutdown(Shutdown::Write);
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(socket) => socket.read(buffer),
            Stream::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(socket) => socket.write(bytes),
            Stream::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Stream::Plain(socket) => socket.flush(),
            Stream::Tls(stream) => stream.flush(),
        }
    }
}

/// Says whether an error only means that a tick is over.
pub(super) fn is_tick(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// Counts ticks in which nothing moved.
#[derive(Debug)]
pub(super) struct Silence {
    left: Duration,
    limit: Duration,
}

impl Silence {
    /// Begins to count.
    pub(super) fn new(limit: Duration) -> Self {
        Silence { left: limit, limit }
    }

    /// Something moved.
    pub(super) fn break_off(&mut self) {
        self.left = self.limit;
    }

    /// A tick is over; false when it lasted too long.
    pub(super) fn lasts(&mut self) -> bool {
        self.left = self.left.saturating_sub(TICK);
        !self.left.is_zero()
    }
}
