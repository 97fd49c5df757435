//! A session: what is under way, and how a transfer begins and ends.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::limits::FTP_DRAIN_BYTES_MAX;
use crate::base::limits::FTP_FIRST_BYTE_MILLIS;
use crate::base::limits::FTP_LEAVE_SECONDS;
use crate::base::limits::FTP_REPLIES_AHEAD_MAX;
use crate::base::limits::FTP_SKIP_BYTES_MAX;
use crate::base::limits::KIB;
use crate::base::path::display;
use crate::base::time::Clock;
use crate::net::ftp::control::Command;
use crate::net::ftp::control::Control;
use crate::net::ftp::control::broken;
use crate::net::ftp::control::sayable;
use crate::net::ftp::data::Data;
use crate::net::ftp::facts::number;
use crate::net::ftp::learn::Learned;
use crate::net::ftp::login::Features;
use crate::net::ftp::reply::Cause;
use crate::net::ftp::reply::Reply;
use crate::net::ftp::reply::extended_port;
use crate::net::ftp::reply::passive_port;
use crate::net::ftp::write::Writing;
use crate::net::tcp;
use crate::net::tcp::unreachable;
use crate::net::tls;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

/// One login, and one thing at a time.
pub(crate) struct Session {
    pub(crate) control: Control,
    pub(crate) features: Features,
    pub(crate) learned: Learned,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) transfer: Transfer,
    place: String,
    secure: Option<(tls::Session, String)>,
    limits: tcp::Limits,
    home: Vec<u8>,
    /// The size of what is opened next, as a listing has told.
    pub(crate) expected: Option<u64>,
    /// What ended a transfer before it was over.
    early: Option<Reply>,
    /// Whether the server's first word on the transfer is still to come.
    is_unheard: bool,
    is_lost: bool,
}

/// What is open.
#[derive(Debug)]
pub(crate) enum Transfer {
    None,
    Reading(Reading),
    Writing(Writing),
}

/// A file that is read.
#[derive(Debug)]
pub(crate) struct Reading {
    path: Vec<u8>,
    size: Option<u64>,
    /// Whether the size is what a listing told: nobody has asked for it.
    is_told: bool,
    /// Where the next byte comes from.
    position: u64,
    /// None once the end was seen and confirmed, which is at `position`.
    data: Option<Data>,
}

/// How the beginning of a transfer went.
pub(crate) enum Begun {
    Open(Data),
    Refused(Reply),
}

impl Session {
    pub(crate) fn new(
        control: Control,
        place: String,
        secure: Option<(tls::Session, String)>,
        limits: tcp::Limits,
        features: Features,
        home: Vec<u8>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let learned = Learned::new(&features);
        Session {
            control,
            features,
            learned,
            clock,
            transfer: Transfer::None,
            place,
            secure,
            limits,
            home,
            expected: None,
            early: None,
            is_unheard: false,
            is_lost: false,
        }
    }

    /// Does something about a path, which is made absolute. After a lost connection nothing can be
    /// done any more.
    pub(crate) fn about<T>(
        &mut self,
        doing: &str,
        path: &[u8],
        act: impl FnOnce(&mut Self, &[u8]) -> Result<T>,
    ) -> Result<T> {
        let path = self.absolute(path);
        let done = match self.is_lost {
            true => Err(broken("the session has ended before")),
            false => sayable(&path)
                .and_then(|()| self.learn_doubling(&path))
                .and_then(|()| act(self, &path)),
        };
        done.map_err(|e| {
            if e.kind() == ErrorKind::Unreachable {
                self.lose();
            }
            e.context(format!("cannot {doing} {} on {}", display(&path), self.place))
        })
    }

    pub(crate) fn is_secure(&self) -> bool {
        self.secure.is_some()
    }

    pub(crate) fn lose(&mut self) {
        self.is_lost = true;
        self.transfer = Transfer::None;
    }

    pub(crate) fn absolute(&self, path: &[u8]) -> Vec<u8> {
        let mut whole = match path.first() {
            Some(b'/') => Vec::new(),
            _ => [&self.home[..], b"/"].concat(),
        };
        whole.extend_from_slice(path);
        let mut clean = Vec::with_capacity(whole.len());
        for part in whole.split(|&byte| byte == b'/').filter(|part| !part.is_empty()) {
            clean.push(b'/');
            clean.extend_from_slice(part);
        }
        if clean.is_empty() { b"/".to_vec() } else { clean }
    }

    /// Sends a command about a path and reads its reply.
    pub(crate) fn ask(&mut self, verb: &str, argument: &[u8]) -> Result<Reply> {
        self.control.ask(verb, argument)
    }

    /// Begins a transfer: asks what is to be asked before, opens a data connection, and sends the
    /// command. With `first_counts` a refusal of the first of `before` ends it there.
    pub(crate) fn begin(
        &mut self,
        before: &[Command<'_>],
        first_counts: bool,
        command: Command<'_>,
        offset: u64,
    ) -> Result<(Vec<Reply>, Begun)> {
        let rest = offset.to_string();
        let restart = Command::new("REST", rest.as_bytes());
        let restart = (offset > 0).then_some(restart);
        let mut commands = before.to_vec();
        commands.push(Command::bare(if self.learned.extended { "EPSV" } else { "PASV" }));
        commands.extend(restart);
        let mut replies = self.control.ask_all(&commands)?;
        let mut restarted = restart.and_then(|_| replies.pop());
        let mut passive = replies.pop().ok_or_else(|| Error::bug("a command has no reply"))?;
        if let Some(refused) = replies.first().filter(|reply| first_counts && !reply.is_done()) {
            let refused = refused.clone();
            return Ok((replies, Begun::Refused(refused)));
        }
        // What is not there for certain needs no data connection to be asked for.
        let is_missing = |reply: &&Reply| reply.cause() == Some(Cause::Missing);
        if let Some(refused) = replies.first().filter(is_missing) {
            let refused = refused.clone();
            return Ok((replies, Begun::Refused(refused)));
        }
        let mut port = match self.learned.extended {
            true => extended_port(&passive).filter(|_| passive.code == 229),
            false => None,
        };
        if port.is_none() {
            if self.learned.extended {
                self.learned.extended = false;
                let again: Vec<Command<'_>> =
                    [Command::bare("PASV")].into_iter().chain(restart).collect();
                let mut replies = self.control.ask_all(&again)?;
                restarted = restart.and_then(|_| replies.pop());
                passive = replies.pop().ok_or_else(|| Error::bug("a command has no reply"))?;
            }
            port = passive_port(&passive).filter(|_| passive.code == 227);
        }
        let Some(port) = port else { return Ok((replies, Begun::Refused(passive))) };
        if let Some(refused) = restarted.filter(|reply| reply.code != 350) {
            return Ok((replies, Begun::Refused(refused)));
        }
        let begun = self.open_data(port, command)?;
        Ok((replies, begun))
    }

    fn open_data(&mut self, port: u16, command: Command<'_>) -> Result<Begun> {
        // Always the host that was connected with: what a reply names may be behind a translating
        // router, or somebody who has nothing to do with it.
        let address = SocketAddr::new(self.control.peer()?, port);
        // Said before the connection stands, as the server waits for it: one round trip for both.
        self.control.say(command)?;
        let socket = match tcp::connect_to(address, &self.limits) {
            Ok(socket) => socket,
            Err(e) => {
                let failed = unreachable(format!("no data connection with {address}"), e);
                return self.refused_before_data(failed);
            }
        };
        self.early = None;
        self.is_unheard = true;
        // To wait for a word each time, and then for content, is to be woken twice for each file.
        let may_wait = self.secure.is_none()
            && match command.verb {
                "STOR" => true,
                "RETR" | "MLSD" | "LIST" => speaks_soon(&socket),
                _ => false,
            };
        if !may_wait && let Some(refused) = self.hear()? {
            return Ok(Begun::Refused(refused));
        }
        let secure = self.secure.as_ref().map(|(session, host)| (session, host.as_str()));
        match Data::new(socket, secure) {
            Ok(data) => Ok(Begun::Open(data)),
            Err(e) => {
                // The server's word on it is still to come, and nobody waits for it.
                self.lose();
                Err(e)
            }
        }
    }

    /// Hears why no data connection came about: a server that refuses a command may close the port
    /// before anybody reached it. Where it says nothing of that, `failed` ends the session.
    fn refused_before_data(&mut self, failed: Error) -> Result<Begun> {
        let silence = self.limits.silence;
        self.control.wait_at_most(silence.min(Duration::from_secs(FTP_LEAVE_SECONDS)))?;
        match self.control.reply() {
            Ok(reply) if !reply.is_done() && !reply.is_preliminary() => {
                self.control.wait_at_most(silence)?;
                Ok(Begun::Refused(reply))
            }
            _ => {
                // Its last word on the command is still to come, and nobody waits for it.
                self.lose();
                Err(failed)
            }
        }
    }

    /// Hears the server's first word on a transfer, if nobody has yet; returns a refusal.
    pub(crate) fn hear(&mut self) -> Result<Option<Reply>> {
        if !std::mem::take(&mut self.is_unheard) {
            return Ok(None);
        }
        let reply = self.control.reply()?;
        match reply.is_done() {
            true => self.early = Some(reply),
            false if reply.is_preliminary() => {}
            false => return Ok(Some(reply)),
        }
        Ok(None)
    }

    /// Returns how the server says that a transfer went whose data connection is closed.
    pub(crate) fn last_word(&mut self) -> Result<Reply> {
        if let Some(refused) = self.hear()? {
            return Ok(refused);
        }
        match self.early.take() {
            Some(reply) => Ok(reply),
            None => self.control.reply(),
        }
    }

    /// Closes a data connection, and returns how the server says that the transfer went.
    pub(crate) fn end(&mut self, data: Data) -> Result<Reply> {
        drop(data);
        self.last_word()
    }

    /// Closes a data connection that content comes from before its end, and gets in step with the
    /// server again. Its word on that is a 426, or a 226 where it had sent all, and of pure-ftpd a
    /// 150.
    pub(crate) fn abandon(&mut self, mut data: Data) -> Result<()> {
        if self.is_secure() && data.drain(FTP_DRAIN_BYTES_MAX)? {
            self.end(data)?;
            return Ok(());
        }
        drop(data);
        self.find_step()
    }

    /// Hears how a transfer ended that is left, and makes sure that nothing else is still to come.
    fn find_step(&mut self) -> Result<()> {
        let silence = self.limits.silence;
        self.control.wait_at_most(silence.min(Duration::from_secs(FTP_LEAVE_SECONDS)))?;
        self.last_word()?;
        let mut reply = self.control.ask("NOOP", b"")?;
        for _ in 0..FTP_REPLIES_AHEAD_MAX {
            if reply.code == 200 {
                return self.control.wait_at_most(silence);
            }
            reply = self.control.reply()?;
        }
        Err(broken("the server is out of step"))
    }

    /// Ends whatever is open, before anything else is asked.
    pub(crate) fn settle(&mut self) -> Result<()> {
        match std::mem::replace(&mut self.transfer, Transfer::None) {
            Transfer::None => Ok(()),
            Transfer::Reading(reading) => reading.data.map_or(Ok(()), |data| self.abandon(data)),
            Transfer::Writing(writing) => {
                // What came stays in the file, however it ends.
                let _ = writing.data.finish();
                self.find_step()
            }
        }
    }

    pub(crate) fn open_at(&mut self, path: &[u8], offset: u64) -> Result<()> {
        let told = self.expected.take().filter(|_| offset == 0);
        self.settle()?;
        let mut reading = self.start_reading(path, told, offset)?;
        reading.is_told = told.is_some();
        self.transfer = Transfer::Reading(reading);
        Ok(())
    }

    /// Asks for a file from `offset` on, and for its size where that is not known yet.
    fn start_reading(&mut self, path: &[u8], size: Option<u64>, offset: u64) -> Result<Reading> {
        let at_end = |size: u64| Reading {
            path: path.to_vec(),
            size: Some(size),
            is_told: false,
            position: offset,
            data: None,
        };
        if let Some(size) = size.filter(|size| offset > 0 && offset >= *size) {
            return Ok(at_end(size));
        }
        let ask_size = [Command::new("SIZE", path)];
        let before = if size.is_some() { &[][..] } else { &ask_size[..] };
        let (replies, begun) = self.begin(before, false, Command::new("RETR", path), offset)?;
        let size = size.or(replies.first().and_then(size_of));
        match begun {
            Begun::Open(data) => {
                let (path, data) = (path.to_vec(), Some(data));
                Ok(Reading { path, size, is_told: false, position: offset, data })
            }
            Begun::Refused(reply) => match size.filter(|size| offset > 0 && offset >= *size) {
                // To begin where the file ends is refused by some.
                Some(size) => Ok(at_end(size)),
                None => Err(self.refused_file(path, &reply)),
            },
        }
    }

    /// Makes the error of a file that cannot be had: nothing is there, or as the server says.
    pub(crate) fn refused_file(&mut self, path: &[u8], reply: &Reply) -> Error {
        let is_open = matches!(reply.code, 550 | 553 | 450);
        if reply.cause().is_some_and(|cause| cause != Cause::NotFolder) || !is_open {
            return reply.refusal();
        }
        match self.look(path) {
            Ok(None) => Error::new(ErrorKind::NotFound, reply.said()),
            Ok(Some(_)) => reply.refusal(),
            Err(e) => e,
        }
    }

    pub(crate) fn read_from(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let Transfer::Reading(mut reading) = std::mem::replace(&mut self.transfer, Transfer::None)
        else {
            return Err(Error::bug("no file is open to read"));
        };
        let gap = offset.checked_sub(reading.position);
        let is_near = gap.is_some_and(|gap| gap <= FTP_SKIP_BYTES_MAX);
        let is_past_end = reading.data.is_none() && gap.is_some();
        if !is_near && !is_past_end {
            if let Some(data) = reading.data.take() {
                self.abandon(data)?;
            }
            reading = self.start_reading(&reading.path, reading.size, offset)?;
        }
        let mut scratch = [0; 16 * KIB];
        while reading.data.is_some() && reading.position < offset {
            let gap = usize::try_from(offset - reading.position).unwrap_or(usize::MAX);
            let length = gap.min(scratch.len());
            self.read_some(&mut reading, &mut scratch[..length])?;
        }
        let mut filled = 0;
        while reading.data.is_some() && filled < buffer.len() {
            filled += self.read_some(&mut reading, &mut buffer[filled..])?;
        }
        self.transfer = Transfer::Reading(reading);
        Ok(filled)
    }

    /// Reads what comes. At the end it is made sure that it is the end.
    fn read_some(&mut self, reading: &mut Reading, buffer: &mut [u8]) -> Result<usize> {
        let Some(mut data) = reading.data.take() else { return Ok(0) };
        let count = data.read(buffer)?;
        reading.position += count as u64;
        if count > 0 {
            reading.data = Some(data);
            return Ok(count);
        }
        let is_whole = data.is_whole || self.secure.is_none();
        let reply = self.end(data)?;
        if !reply.is_done() {
            return Err(reply.refusal());
        }
        let ends_early =
            |reading: &Reading| reading.size.is_some_and(|size| reading.position < size);
        if reading.is_told && ends_early(reading) {
            // It may have become shorter since it was listed.
            reading.size = size_of(&self.ask("SIZE", &reading.path)?);
            reading.is_told = false;
        }
        let is_short = ends_early(reading);
        let is_sure = is_whole || reading.size.is_some();
        if is_short || !is_sure {
            let said = format!("it ends after {} bytes, too early", reading.position);
            return Err(broken(&said));
        }
        Ok(0)
    }

    /// Returns the path of the file that is open.
    pub(crate) fn open_path(&self) -> Vec<u8> {
        match &self.transfer {
            Transfer::None => b"/".to_vec(),
            Transfer::Reading(reading) => reading.path.clone(),
            Transfer::Writing(writing) => writing.path.clone(),
        }
    }
}

/// Waits a moment for content, and says whether some came. What ends without any may be empty, or
/// refused: the server says which.
fn speaks_soon(socket: &TcpStream) -> bool {
    let soon = Duration::from_millis(FTP_FIRST_BYTE_MILLIS);
    let Ok(patience) = socket.read_timeout() else { return false };
    let has_come = socket.set_read_timeout(Some(soon)).is_ok()
        && socket.peek(&mut [0]).is_ok_and(|count| count > 0);
    socket.set_read_timeout(patience).is_ok() && has_come
}

/// Reads the reply to SIZE.
pub(crate) fn size_of(reply: &Reply) -> Option<u64> {
    let line = reply.lines.last().filter(|_| reply.code == 213)?;
    number(line.trim_ascii(), 10)
}
