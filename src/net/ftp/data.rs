//! The data connection: one for each listing and each file.

use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::limits::FTP_LINE_BYTES_MAX;
use crate::base::limits::KIB;
use crate::net::ftp::control::Wire;
use crate::net::ftp::control::broken;
use crate::net::tcp::unreachable;
use crate::net::tls;
use crate::net::tls::TlsStream;
use std::io::ErrorKind as Io;
use std::net::TcpStream;

/// A data connection that stands.
#[derive(Debug)]
pub(crate) struct Data {
    wire: Wire,
    /// Whether the other end said that this was all. In the clear nobody says so; within TLS a
    /// connection that just ends may have been cut by somebody between.
    pub(crate) is_whole: bool,
}

impl Data {
    /// Takes a connection over, within TLS where the session is.
    pub(crate) fn new(socket: TcpStream, secure: Option<(&tls::Session, &str)>) -> Result<Self> {
        let wire = match secure {
            None => Wire::Plain(socket),
            Some((session, host)) => {
                Wire::Secure(Box::new(TlsStream::connect(session, host, socket)?))
            }
        };
        Ok(Data { wire, is_whole: false })
    }

    /// Reads some bytes; none is the end.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        match self.wire.read(buffer) {
            Ok(0) => {
                self.is_whole = matches!(self.wire, Wire::Secure(_));
                Ok(0)
            }
            Ok(count) => Ok(count),
            // TLS without its last word.
            Err(e) if e.kind() == Io::UnexpectedEof => Ok(0),
            Err(e) => Err(unreachable("the data connection is gone", e)),
        }
    }

    pub(crate) fn write_all(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.wire.write_all(bytes)
    }

    /// Reads over what is still to come, if that is no more than so many bytes. Says whether.
    pub(crate) fn drain(&mut self, bytes: usize) -> Result<bool> {
        let mut rest = [0; 16 * KIB];
        let mut drained = 0;
        while drained < bytes {
            match self.read(&mut rest)? {
                0 => return Ok(true),
                count => drained += count,
            }
        }
        Ok(false)
    }

    /// Says that nothing more comes.
    pub(crate) fn finish(self) -> std::io::Result<()> {
        match self.wire {
            Wire::Plain(_) => Ok(()),
            Wire::Secure(stream) => stream.finish(),
        }
    }
}

/// Lines of a listing.
pub(crate) struct Lines<'a> {
    data: &'a mut Data,
    buffer: Vec<u8>,
    from: usize,
}

impl<'a> Lines<'a> {
    pub(crate) fn new(data: &'a mut Data) -> Self {
        Lines { data, buffer: Vec::new(), from: 0 }
    }

    /// Returns the next line without its end; None after the last one. Empty ones are passed over.
    pub(crate) fn next(&mut self) -> Result<Option<Vec<u8>>> {
        loop {
            let line = match self.rest_until_end()? {
                None => return Ok(None),
                Some(line) => line,
            };
            if !line.is_empty() {
                return Ok(Some(line));
            }
        }
    }

    fn rest_until_end(&mut self) -> Result<Option<Vec<u8>>> {
        let mut searched = self.from;
        loop {
            if let Some(at) = self.buffer[searched..].iter().position(|&byte| byte == b'\n') {
                let end = searched + at;
                let line = &self.buffer[self.from..end];
                let line = line.strip_suffix(b"\r").unwrap_or(line).to_vec();
                self.from = end + 1;
                return Ok(Some(line));
            }
            self.buffer.drain(..self.from);
            self.from = 0;
            searched = self.buffer.len();
            if searched > FTP_LINE_BYTES_MAX {
                return Err(Error::corrupt("a line of the listing has no end"));
            }
            let mut more = [0; 16 * KIB];
            match self.data.read(&mut more)? {
                0 if self.buffer.is_empty() => return Ok(None),
                0 => return Err(broken("the listing ends within a line")),
                count => self.buffer.extend_from_slice(&more[..count]),
            }
        }
    }
}
