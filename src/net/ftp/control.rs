//! The control connection: commands out, replies in, one reply for each command.
//!
//! Whatever breaks here ends the session: once it is unclear which reply belongs to which command,
//! a "done" could be another's.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::limits::FTP_LINE_BYTES_MAX;
use crate::base::limits::FTP_REPLY_BYTES_MAX;
use crate::base::limits::KIB;
use crate::base::path::display;
use crate::net::ftp::reply::Reply;
use crate::net::ftp::reply::head;
use crate::net::tcp::unreachable;
use crate::net::tls;
use crate::net::tls::TlsStream;
use std::io::Read;
use std::io::Write;
use std::net::IpAddr;
use std::net::TcpStream;
use std::time::Duration;

/// A connection with or without TLS.
#[derive(Debug)]
pub(crate) enum Wire {
    Plain(TcpStream),
    Secure(Box<TlsStream>),
}

impl Wire {
    pub(crate) fn socket(&self) -> &TcpStream {
        match self {
            Wire::Plain(socket) => socket,
            Wire::Secure(stream) => stream.socket(),
        }
    }

    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        loop {
            let read = match self {
                Wire::Plain(socket) => socket.read(buffer),
                Wire::Secure(stream) => stream.read(buffer),
            };
            match read {
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }

    pub(crate) fn write_all(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match self {
            Wire::Plain(socket) => socket.write_all(bytes),
            Wire::Secure(stream) => {
                stream.write_all(bytes)?;
                stream.flush()
            }
        }
    }
}

/// A command: its word, and what it is about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Command<'a> {
    pub(crate) verb: &'a str,
    pub(crate) argument: &'a [u8],
}

impl<'a> Command<'a> {
    pub(crate) fn new(verb: &'a str, argument: &'a [u8]) -> Self {
        Command { verb, argument }
    }

    pub(crate) fn bare(verb: &'a str) -> Self {
        Command { verb, argument: b"" }
    }
}

/// The connection that commands go over.
#[derive(Debug)]
pub(crate) struct Control {
    wire: Wire,
    buffer: Vec<u8>,
    /// What of the buffer is not read yet.
    from: usize,
    /// Whether 0xFF in a command is said twice, as Telnet has it.
    pub(crate) doubles: bool,
    /// Whether several commands may be sent before the first of them is answered.
    pub(crate) ahead: bool,
    /// Replies still to come that nobody waits for.
    unread: usize,
    /// Whether the login is behind us, after which a 421 is the end.
    pub(crate) is_open: bool,
}

impl Control {
    pub(crate) fn new(wire: Wire) -> Self {
        Control {
            wire,
            buffer: Vec::new(),
            from: 0,
            doubles: false,
            ahead: false,
            unread: 0,
            is_open: false,
        }
    }

    /// Returns the address of the server.
    pub(crate) fn peer(&self) -> Result<IpAddr> {
        let address = self.wire.socket().peer_addr();
        Ok(address.map_err(|e| unreachable("the connection is gone", e))?.ip())
    }

    /// Returns what the connection is encrypted by.
    pub(crate) fn security(&self) -> &'static str {
        match &self.wire {
            Wire::Plain(_) => "",
            Wire::Secure(stream) => stream.version(),
        }
    }

    /// Sets how long a reply may take.
    pub(crate) fn wait_at_most(&mut self, silence: Duration) -> Result<()> {
        let set = self.wire.socket().set_read_timeout(Some(silence));
        set.map_err(|e| unreachable("the connection is gone", e))
    }

    /// Goes on within TLS.
    pub(crate) fn secure(self, session: &tls::Session, host: &str) -> Result<Self> {
        // What came before the keys were agreed on, anybody may have sent.
        if self.from < self.buffer.len() {
            return Err(broken("the server speaks before TLS has begun"));
        }
        let Wire::Plain(socket) = self.wire else {
            return Err(Error::bug("TLS within TLS"));
        };
        Ok(Control::new(Wire::Secure(Box::new(TlsStream::connect(session, host, socket)?))))
    }

    /// Sends a command and reads its reply.
    pub(crate) fn ask(&mut self, verb: &str, argument: &[u8]) -> Result<Reply> {
        self.send(&[Command { verb, argument }])?;
        self.reply()
    }

    /// Sends a command whose reply is read later, before anything else is said.
    pub(crate) fn say(&mut self, command: Command<'_>) -> Result<()> {
        self.send(&[command])
    }

    /// Sends commands whose replies say nothing that anybody waits for: they are read over when the
    /// next one is.
    pub(crate) fn mention(&mut self, commands: &[Command<'_>]) -> Result<()> {
        if !self.ahead {
            return self.ask_all(commands).map(drop);
        }
        self.send(commands)?;
        self.unread += commands.len();
        Ok(())
    }

    /// Sends commands and reads a reply to each: in one round trip where the server may be told
    /// several at once. None of them may depend on another's success.
    pub(crate) fn ask_all(&mut self, commands: &[Command<'_>]) -> Result<Vec<Reply>> {
        if self.ahead {
            self.send(commands)?;
            return commands.iter().map(|_| self.reply()).collect();
        }
        commands.iter().map(|command| self.ask(command.verb, command.argument)).collect()
    }

    fn send(&mut self, commands: &[Command<'_>]) -> Result<()> {
        let mut lines = Vec::new();
        for command in commands {
            sayable(command.argument)?;
            lines.extend_from_slice(command.verb.as_bytes());
            if !command.argument.is_empty() {
                lines.push(b' ');
                for &byte in command.argument {
                    lines.push(byte);
                    if byte == 0xFF && self.doubles {
                        lines.push(byte);
                    }
                }
            }
            lines.extend_from_slice(b"\r\n");
        }
        if self.from < self.buffer.len() && self.unread == 0 {
            // Nobody asked: it hangs up, or is out of step.
            let reply = self.reply()?;
            let said = format!("the server says {} {} unasked", reply.code, reply.text());
            return Err(broken(&said));
        }
        self.wire.write_all(&lines).map_err(|e| unreachable("the server is gone", e))
    }

    /// Reads a reply, all of its lines.
    pub(crate) fn reply(&mut self) -> Result<Reply> {
        while self.unread > 0 {
            self.unread -= 1;
            self.next_reply()?;
        }
        self.next_reply()
    }

    fn next_reply(&mut self) -> Result<Reply> {
        let first = self.line()?;
        let Some(begin) = head(&first) else {
            let shown: String = display(&first).chars().take(80).collect();
            return Err(broken(&format!("the server sends what is no reply: {shown}")));
        };
        let text = |line: &[u8]| line.get(4..).unwrap_or_default().to_vec();
        let mut lines = vec![text(&first)];
        let mut bytes = first.len();
        let mut goes_on = begin.goes_on;
        while goes_on {
            let line = self.line()?;
            bytes += line.len() + 1;
            if bytes > FTP_REPLY_BYTES_MAX {
                return Err(broken("a reply of the server has no end"));
            }
            match head(&line) {
                // Lines between may begin with numbers; only the same one ends it.
                Some(head) if head.code == begin.code => {
                    goes_on = head.goes_on;
                    lines.push(text(&line));
                }
                _ => lines.push(line),
            }
        }
        let reply = Reply { code: begin.code, lines };
        match reply.code {
            421 if self.is_open => Err(reply.refusal()),
            _ => Ok(reply),
        }
    }

    /// Reads a line, without its end.
    fn line(&mut self) -> Result<Vec<u8>> {
        let mut searched = self.from;
        loop {
            if let Some(at) = self.buffer[searched..].iter().position(|&byte| byte == b'\n') {
                let end = searched + at;
                let line = &self.buffer[self.from..end];
                let line = line.strip_suffix(b"\r").unwrap_or(line).to_vec();
                self.from = end + 1;
                if self.from == self.buffer.len() {
                    self.buffer.clear();
                    self.from = 0;
                }
                return Ok(line);
            }
            self.buffer.drain(..self.from);
            self.from = 0;
            searched = self.buffer.len();
            if searched > FTP_LINE_BYTES_MAX {
                return Err(broken("a line of the server has no end"));
            }
            let mut more = [0; 4 * KIB];
            let count = self.wire.read(&mut more);
            match count.map_err(|e| unreachable("the server does not answer", e))? {
                0 => return Err(broken("the server has closed the connection")),
                count => self.buffer.extend_from_slice(&more[..count]),
            }
        }
    }
}

/// Makes the error of a session that cannot go on.
pub(crate) fn broken(message: &str) -> Error {
    Error::new(ErrorKind::Unreachable, message)
}

/// Refuses what would end a command before its end.
pub(crate) fn sayable(argument: &[u8]) -> Result<()> {
    if argument.iter().any(|byte| matches!(byte, b'\r' | b'\n' | b'\0')) {
        let message = format!("`{}` cannot be said to an FTP server", display(argument));
        return Err(Error::invalid(message).hint("it holds the end of a line, or a NUL"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// A client whose server has said something and hung up.
    fn hearing(said: &[u8]) -> Control {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let client = TcpStream::connect(listener.local_addr().expect("one")).expect("it listens");
        let (mut server, _) = listener.accept().expect("a client");
        let said = said.to_vec();
        std::thread::spawn(move || server.write_all(&said));
        Control::new(Wire::Plain(client))
    }

    #[test]
    fn replies_of_many_lines_end_with_their_own_number() {
        let mut control =
            hearing(b"220-hello\r\n200 users\r\n220-more\r\n 220 x\r\n220 go\r\n200 ok\n");
        let reply = control.reply().expect("whole");
        assert_eq!((reply.code, reply.text().as_str()), (220, "hello 200 users more 220 x go"));
        assert_eq!(control.reply().expect("whole").code, 200);
        assert_eq!(control.reply().expect_err("over").kind(), ErrorKind::Unreachable);
    }

    #[test]
    fn bytes_that_are_no_reply_end_the_session() {
        let endless = [b"220-", &b"x".repeat(FTP_LINE_BYTES_MAX + 10)[..]].concat();
        let lines = [b"220-a\r\n", &b"line\r\n".repeat(FTP_REPLY_BYTES_MAX / 4)[..]].concat();
        for said in
            [&b"SSH-2.0-x\r\n"[..], b"\r\n", b"22", b"220 ok", b"421 over\r\n", &endless, &lines]
        {
            let mut control = hearing(said);
            control.is_open = true;
            let error = control.reply().expect_err("no reply");
            assert_eq!(error.kind(), ErrorKind::Unreachable);
        }
    }

    #[test]
    fn the_end_of_a_line_is_not_sent() {
        for bad in [&b"a\r\nDELE b"[..], b"a\n", b"a\r", b"a\0b"] {
            let mut control = hearing(b"200 ok\r\n");
            let error = control.ask("RETR", bad).expect_err("refused");
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
        }
    }
}
