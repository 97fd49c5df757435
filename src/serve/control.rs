//! The connection that commands come from and replies go to: bytes in, lines out.
//!
//! Bytes are taken as they come. Telnet has 0xFF twice for itself, and once before its commands, of
//! which most clients know nothing: a server that hears Telnet takes what such a client says of
//! `a\xff\xff` to be about `a\xff`. Lines are bounded, and so is what waits while a transfer is
//! under way.

use crate::base::cancel::Cancel;
use crate::base::limits::SERVE_LINE_BYTES_MAX;
use crate::base::limits::SERVE_NOISE_BYTES_MAX;
use crate::base::limits::SERVE_QUEUE_BYTES_MAX;
use crate::base::sys;
use crate::base::time::Clock;
use crate::net::tls::server::ServerStream;
use crate::serve::reply::Reply;
use crate::serve::stream::Silence;
use crate::serve::stream::Stream;
use crate::serve::stream::is_tick;
use std::io;
use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

/// How long a client may take to read a reply.
const REPLY_LIMIT: Duration = Duration::from_secs(10);

/// What came next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A line, without its end.
    Line(Vec<u8>),
    /// A line that is too long; it was thrown away.
    TooLong,
    /// Nothing, for too long.
    Idle,
    /// The client went, or sends what is no protocol.
    Gone,
    /// Somebody asked the server to stop.
    Stopping,
}

/// What a look at the connection during a transfer shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    /// Nothing of interest.
    None,
    /// The next command is ABOR.
    Abort,
    /// The client went, and has nothing more to ask.
    Gone,
}

/// The connection.
#[derive(Debug)]
pub(super) struct Control {
    stream: Stream,
    /// What came and was not taken yet.
    queue: Vec<u8>,
    /// Bytes thrown away of a line that is too long; None within one that is not.
    noise: Option<usize>,
    is_ended: bool,
    /// It broke, and did not merely end.
    is_broken: bool,
}

impl Control {
    /// Takes a new connection over.
    pub(super) fn new(socket: TcpStream) -> io::Result<Self> {
        // Clients send ABOR in haste, some its very end.
        sys::take_urgent_inline(&socket)?;
        let stream = Stream::new(socket)?;
        Ok(Control { stream, queue: Vec::new(), noise: None, is_ended: false, is_broken: false })
    }

    /// Says whether it is within TLS.
    pub(super) fn is_tls(&self) -> bool {
        self.stream.is_tls()
    }

    /// Says whether something came that was not taken yet.
    pub(super) fn has_more(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Goes on within TLS, once the handshake is done.
    pub(super) fn upgrade(&mut self, stream: ServerStream) {
        self.stream = Stream::Tls(Box::new(stream));
    }

    /// Returns a handle of the socket below.
    pub(super) fn socket(&self) -> io::Result<TcpStream> {
        self.stream.socket().try_clone()
    }

    /// Waits for the next line, at most until `limit` is over.
    pub(super) fn next(&mut self, limit: Duration, clock: &dyn Clock, cancel: &Cancel) -> Next {
        let since = clock.now();
        loop {
            if let Some(next) = self.take() {
                return next;
            }
            if cancel.is_cancelled() {
                return Next::Stopping;
            }
            if self.is_ended || self.noise.is_some_and(|bytes| bytes > SERVE_NOISE_BYTES_MAX) {
                return Next::Gone;
            }
            // Asked of the clock, as a byte now and then makes no command either.
            if clock.now().seconds_since(since) > limit.as_secs_f64() {
                return Next::Idle;
            }
            match self.fill() {
                Ok(()) => {}
                Err(e) if is_tick(&e) => {}
                Err(_) => self.is_ended = true,
            }
        }
    }

    /// Looks at what came during a transfer, without waiting.
    pub(super) fn look(&mut self) -> Sign {
        if self.can_be_heard() {
            let mut looked = self.stream.socket().set_nonblocking(true);
            // To the last of what came, as the end may stand behind it.
            while looked.is_ok() && self.can_be_heard() {
                looked = self.fill();
            }
            let waits = self.stream.socket().set_nonblocking(false);
            let is_sound = looked.as_ref().err().is_none_or(is_tick);
            self.is_broken |= !is_sound || waits.is_err();
            self.is_ended |= self.is_broken;
        }
        let line = self.queue.split(|&byte| byte == b'\n').next().unwrap_or_default();
        let is_whole = line.len() < self.queue.len() && self.noise.is_none();
        if is_whole && without_marks(line).trim_ascii().eq_ignore_ascii_case(b"ABOR") {
            return Sign::Abort;
        }
        let is_gone = self.is_broken || (self.is_ended && self.queue.is_empty());
        if is_gone { Sign::Gone } else { Sign::None }
    }

    /// Says whether the last look could tell that the client is there still: it has not hung up,
    /// and has not said so much ahead that nobody hears whether it does.
    pub(super) fn can_be_heard(&self) -> bool {
        !self.is_ended && self.queue.len() < SERVE_QUEUE_BYTES_MAX
    }

    /// Sends a reply; false when the client does not take it.
    pub(super) fn say(&mut self, reply: &Reply) -> bool {
        let mut silence = Silence::new(REPLY_LIMIT);
        let bytes = reply.encode();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            match self.stream.write(rest) {
                Ok(0) => return false,
                Ok(written) => rest = &rest[written..],
                Err(e) if is_tick(&e) && silence.lasts() => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        loop {
            match self.stream.flush() {
                Ok(()) => return true,
                Err(e) if is_tick(&e) && silence.lasts() => {}
                Err(_) => return false,
            }
        }
    }

    /// Ends the connection.
    pub(super) fn close(mut self) {
        self.stream.say_goodbye();
        // The client may be gone already.
        let _ = self.stream.flush();
        self.stream.shut();
    }

    /// Takes the next line off the queue, or notes that it is too long.
    fn take(&mut self) -> Option<Next> {
        let end = self.queue.iter().position(|&byte| byte == b'\n');
        if let Some(noise) = self.noise {
            let thrown = end.map_or(self.queue.len(), |end| end + 1);
            self.queue.drain(..thrown);
            self.noise = if end.is_some() { None } else { Some(noise.saturating_add(thrown)) };
            return end.map(|_| Next::TooLong);
        }
        let length = end.unwrap_or(self.queue.len());
        if length > SERVE_LINE_BYTES_MAX {
            self.noise = Some(0);
            return self.take();
        }
        let mut line: Vec<u8> = self.queue.drain(..end? + 1).collect();
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Some(Next::Line(line))
    }

    /// Reads once.
    fn fill(&mut self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        let length = self.stream.read(&mut buffer)?;
        self.is_ended = length == 0;
        self.queue.extend_from_slice(&buffer[..length]);
        Ok(())
    }
}

/// Returns a line without what stands in front of it of Telnet's way to make haste, `FF F4 FF F2`,
/// or of a part of that.
pub(super) fn without_marks(line: &[u8]) -> &[u8] {
    let marks = line.iter().take_while(|&&byte| byte >= 240).count();
    &line[marks..]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::FixedClock;
    use std::net::TcpListener;

    fn heard(bytes: &[u8]) -> Vec<Next> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut control = Control::new(listener.accept().unwrap().0).unwrap();
        client.write_all(bytes).unwrap();
        drop(client);
        let (clock, cancel) = (FixedClock::default(), Cancel::new());
        let mut heard = Vec::new();
        loop {
            match control.next(Duration::from_secs(60), &clock, &cancel) {
                Next::Gone => return heard,
                next => heard.push(next),
            }
        }
    }

    fn line(text: &[u8]) -> Next {
        Next::Line(text.to_vec())
    }

    #[test]
    fn lines_end_with_a_newline_with_or_without_a_return() {
        let lines = heard(b"NOOP\r\nCWD  a \nPWD\r\r\nQUIT without an end");
        assert_eq!(lines, [line(b"NOOP"), line(b"CWD  a "), line(b"PWD\r")]);
    }

    #[test]
    fn names_keep_their_bytes() {
        let lines = heard(b"RETR a\xff\xffb\nRETR \xff\xfby\nRETR \xff\n");
        let wanted: [&[u8]; 3] = [b"RETR a\xff\xffb", b"RETR \xff\xfby", b"RETR \xff"];
        assert_eq!(lines, wanted.map(line));
        for haste in [&b"\xff\xf4\xff\xf2ABOR"[..], b"\xf2ABOR", b"ABOR"] {
            assert_eq!(without_marks(haste), b"ABOR");
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_thrown_away_and_an_endless_one_ends_it() {
        let mut bytes = vec![b'x'; SERVE_LINE_BYTES_MAX + 1];
        bytes.extend(b"\nNOOP\n");
        assert_eq!(heard(&bytes), [Next::TooLong, line(b"NOOP")]);
        let longest = [vec![b'x'; SERVE_LINE_BYTES_MAX], b"\n".to_vec()].concat();
        assert_eq!(heard(&longest), [line(&longest[..SERVE_LINE_BYTES_MAX])]);
        assert_eq!(heard(&vec![b'x'; SERVE_NOISE_BYTES_MAX / 2]), []);
    }
}
