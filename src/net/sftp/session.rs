//! One SFTP session over whatever carries its bytes: requests out, answers in, many under way.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::path::display;
use crate::net::sftp::packet;
use crate::net::sftp::packet::Answer;
use crate::net::sftp::packet::Attributes;
use crate::net::sftp::packet::Name;
use crate::net::sftp::packet::PACKET_BYTES_MAX;
use crate::net::sftp::packet::Request;
use std::collections::HashMap;
use std::collections::VecDeque;
use std::io::Read;
use std::io::Write;

/// Bytes of one read or write: what every server takes (the draft asks for 32 KiB).
const TRANSFER_BYTES: usize = 32 * 1024;
/// Reads or writes under way at a time: 2 MiB fill a line of 300 Mbit/s at 50 ms.
const UNDER_WAY_MAX: usize = 64;

const STATUS_OK: u32 = 0;
const STATUS_EOF: u32 = 1;
const STATUS_NO_SUCH_FILE: u32 = 2;
const STATUS_PERMISSION_DENIED: u32 = 3;
const STATUS_NO_CONNECTION: u32 = 6;
const STATUS_CONNECTION_LOST: u32 = 7;
const STATUS_UNSUPPORTED: u32 = 8;
const STATUS_EXISTS: u32 = 11;
const STATUS_NO_SPACE: u32 = 14;
const STATUS_QUOTA: u32 = 15;

const EXTENSION_RENAME: &str = "posix-rename@openssh.com";
const EXTENSION_LINK: &str = "hardlink@openssh.com";
const EXTENSION_FSYNC: &str = "fsync@openssh.com";

/// What carries the bytes of a session.
pub trait Wire: Read + Write + Send {}
impl<T: Read + Write + Send> Wire for T {}

/// An open file or folder of one session.
#[derive(Debug)]
pub struct Handle(Vec<u8>);

/// A session. After an error of kind `Unreachable` it is of no more use.
pub struct Session {
    wire: Box<dyn Wire>,
    extensions: Vec<String>,
    next: u32,
    /// Answers that came before they were waited for.
    early: HashMap<u32, Answer>,
    out: Vec<u8>,
}

impl Session {
    /// Begins a session.
    ///
    /// # Errors
    /// `Unreachable` when the other end is gone or is no SFTP server.
    pub fn start(wire: Box<dyn Wire>) -> Result<Self> {
        let early = HashMap::new();
        let mut session = Session { wire, extensions: Vec::new(), next: 0, early, out: Vec::new() };
        session.out = packet::init();
        session.flush()?;
        let extensions = packet::read_version(&session.receive()?)?;
        session.extensions = extensions.into_iter().map(|(name, _)| name).collect();
        Ok(session)
    }

    fn has(&self, extension: &str) -> bool {
        self.extensions.iter().any(|known| known == extension)
    }

    /// Says whether a file can be given a second name, and only where that is free.
    pub fn can_link(&self) -> bool {
        self.has(EXTENSION_LINK)
    }

    /// Says whether a file can be made durable.
    pub fn can_sync(&self) -> bool {
        self.has(EXTENSION_FSYNC)
    }

    /// Says whether a rename may replace.
    pub fn can_replace(&self) -> bool {
        self.has(EXTENSION_RENAME)
    }

    fn send(&mut self, request: &Request<'_>) -> u32 {
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        request.put(number, &mut self.out);
        number
    }

    fn flush(&mut self) -> Result<()> {
        let sent = self.wire.write_all(&self.out).and_then(|()| self.wire.flush());
        self.out.clear();
        sent.map_err(lost)
    }

    fn receive(&mut self) -> Result<Vec<u8>> {
        let mut length = [0; 4];
        self.wire.read_exact(&mut length).map_err(lost)?;
        let length = u32::from_be_bytes(length) as usize;
        if length == 0 || length > PACKET_BYTES_MAX {
            return Err(Error::new(
                ErrorKind::Unreachable,
                "the server sent a packet of an impossible length",
            )
            .hint("it may be no SFTP server; a login that prints text does this"));
        }
        let mut packet = vec![0; length];
        self.wire.read_exact(&mut packet).map_err(lost)?;
        Ok(packet)
    }

    /// Waits for the answer to a request.
    fn wait(&mut self, number: u32) -> Result<Answer> {
        self.flush()?;
        loop {
            if let Some(answer) = self.early.remove(&number) {
                return Ok(answer);
            }
            let (of, answer) = packet::read_answer(&self.receive()?)?;
            // Nobody asked: what it answers is unknown, and so is what else is wrong.
            let age = self.next.wrapping_sub(of);
            if age == 0 || age as usize > 2 * UNDER_WAY_MAX || self.early.contains_key(&of) {
                return Err(Error::new(
                    ErrorKind::Unreachable,
                    "the server answers what was not asked",
                ));
            }
            self.early.insert(of, answer);
        }
    }

    fn ask(&mut self, request: &Request<'_>) -> Result<Answer> {
        let number = self.send(request);
        self.wait(number)
    }

    fn expect_done(&mut self, request: &Request<'_>) -> Result<()> {
        match self.ask(request)? {
            Answer::Status(STATUS_OK, _) => Ok(()),
            other => Err(refused(other)),
        }
    }

    /// Looks at what a path names; links are not followed. None where nothing is.
    ///
    /// # Errors
    /// As the server says.
    pub fn look_at(&mut self, path: &[u8]) -> Result<Option<Attributes>> {
        let answer = self.ask(&Request::LookAt { path })?;
        found(answer).map_err(|e| e.context(shown("look at", path)))
    }

    /// Looks at what a path leads to. None where nothing is.
    ///
    /// # Errors
    /// As the server says.
    pub fn follow(&mut self, path: &[u8]) -> Result<Option<Attributes>> {
        let answer = self.ask(&Request::Follow { path })?;
        found(answer).map_err(|e| e.context(shown("look at", path)))
    }

    /// Opens a file.
    ///
    /// # Errors
    /// As the server says.
    pub fn open(&mut self, path: &[u8], flags: u32, attributes: Attributes) -> Result<Handle> {
        match self.ask(&Request::Open { path, flags, attributes })? {
            Answer::Handle(handle) => Ok(Handle(handle)),
            other => Err(refused(other).context(shown("open", path))),
        }
    }

    /// Looks at an open file.
    ///
    /// # Errors
    /// As the server says.
    pub fn look_at_handle(&mut self, handle: &Handle) -> Result<Attributes> {
        match self.ask(&Request::LookAtHandle { handle: &handle.0 })? {
            Answer::Attributes(attributes) => Ok(attributes),
            other => Err(refused(other)),
        }
    }

    /// Closes a file or a folder.
    ///
    /// # Errors
    /// As the server says: what was written may not be there then.
    pub fn close(&mut self, handle: Handle) -> Result<()> {
        self.expect_done(&Request::Close { handle: &handle.0 })
    }

    /// Makes what was written durable.
    ///
    /// # Errors
    /// `Unsupported` where the server cannot.
    pub fn sync(&mut self, handle: &Handle) -> Result<()> {
        self.expect_done(&Request::Extended { name: EXTENSION_FSYNC, strings: &[&handle.0] })
    }

    /// Reads from `offset` until `buffer` is full or the file ends; returns how many bytes that
    /// were. Many requests are under way at a time.
    ///
    /// # Errors
    /// As the server says.
    pub fn read(&mut self, handle: &Handle, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let mut under_way: VecDeque<(u32, usize, usize)> = VecDeque::new();
        let mut asked = 0;
        let mut end = buffer.len();
        loop {
            while asked < end && under_way.len() < UNDER_WAY_MAX {
                let length = TRANSFER_BYTES.min(end - asked);
                let number = self.send(&Request::Read {
                    handle: &handle.0,
                    offset: offset + asked as u64,
                    length: length as u32,
                });
                under_way.push_back((number, asked, length));
                asked += length;
            }
            let Some((number, at, length)) = under_way.pop_front() else { return Ok(end) };
            match self.wait(number)? {
                Answer::Data(data) if data.len() <= length && !data.is_empty() => {
                    let taken = data.len();
                    buffer[at..at + taken].copy_from_slice(&data);
                    // A server may give less than was asked: the rest is asked for again.
                    if taken < length && at + taken < end {
                        let (at, length) = (at + taken, length - taken);
                        let number = self.send(&Request::Read {
                            handle: &handle.0,
                            offset: offset + at as u64,
                            length: length as u32,
                        });
                        under_way.push_front((number, at, length));
                    }
                }
                Answer::Status(STATUS_EOF, _) => end = end.min(at),
                other => {
                    self.forget(under_way.iter().map(|(number, ..)| *number))?;
                    return Err(refused(other));
                }
            }
        }
    }

    /// Writes all of `data` at `offset`.
    ///
    /// # Errors
    /// As the server says.
    pub fn write(&mut self, handle: &Handle, offset: u64, data: &[u8]) -> Result<()> {
        let mut under_way: VecDeque<u32> = VecDeque::new();
        let mut offset = offset;
        let mut pieces = data.chunks(TRANSFER_BYTES).peekable();
        while pieces.peek().is_some() || !under_way.is_empty() {
            while under_way.len() < UNDER_WAY_MAX
                && let Some(data) = pieces.next()
            {
                under_way.push_back(self.send(&Request::Write { handle: &handle.0, offset, data }));
                offset += data.len() as u64;
                // What is under way must not pile up on both sides, each waiting for the other.
                self.flush()?;
            }
            let Some(number) = under_way.pop_front() else { break };
            match self.wait(number)? {
                Answer::Status(STATUS_OK, _) => {}
                other => {
                    self.forget(under_way.into_iter())?;
                    return Err(refused(other));
                }
            }
        }
        Ok(())
    }

    /// Waits for answers that nobody wants any more, so that none is left for another's request.
    fn forget(&mut self, numbers: impl Iterator<Item = u32>) -> Result<()> {
        for number in numbers.collect::<Vec<_>>() {
            self.wait(number)?;
        }
        Ok(())
    }

    /// Shows every name in a folder, but for itself and the one above.
    ///
    /// # Errors
    /// As the server says: never a shorter list.
    pub fn list(
        &mut self,
        path: &[u8],
        visit: &mut dyn FnMut(Name) -> Result<()>,
    ) -> Result<()> {
        let handle = match self.ask(&Request::OpenFolder { path })? {
            Answer::Handle(handle) => Handle(handle),
            other => return Err(refused(other).context(shown("list", path))),
        };
        let listed = self.list_open(&handle, visit).map_err(|e| e.context(shown("list", path)));
        match listed {
            Err(e) if e.kind() == ErrorKind::Unreachable => Err(e),
            listed => self.close(handle).and(listed),
        }
    }

    fn list_open(
        &mut self,
        handle: &Handle,
        visit: &mut dyn FnMut(Name) -> Result<()>,
    ) -> Result<()> {
        loop {
            match self.ask(&Request::ReadFolder { handle: &handle.0 })? {
                Answer::Names(names) if !names.is_empty() => {
                    let real = |name: &Name| name.name != b"." && name.name != b"..";
                    names.into_iter().filter(real).try_for_each(&mut *visit)?;
                }
                Answer::Status(STATUS_EOF, _) => return Ok(()),
                other => return Err(refused(other)),
            }
        }
    }

    /// Sets attributes of what a path leads to.
    ///
    /// # Errors
    /// As the server says.
    pub fn set(&mut self, path: &[u8], attributes: Attributes) -> Result<()> {
        let done = self.expect_done(&Request::Set { path, attributes });
        done.map_err(|e| e.context(shown("set attributes of", path)))
    }

    /// Removes a file or a link.
    ///
    /// # Errors
    /// As the server says.
    pub fn remove(&mut self, path: &[u8]) -> Result<()> {
        let done = self.expect_done(&Request::Remove { path });
        done.map_err(|e| e.context(shown("remove", path)))
    }

    /// Makes a folder.
    ///
    /// # Errors
    /// As the server says; for one that is there many say no more than that it failed.
    pub fn make_folder(&mut self, path: &[u8]) -> Result<()> {
        let done = self.expect_done(&Request::MakeFolder { path });
        done.map_err(|e| e.context(shown("make the folder", path)))
    }

    /// Removes an empty folder.
    ///
    /// # Errors
    /// As the server says.
    pub fn remove_folder(&mut self, path: &[u8]) -> Result<()> {
        let done = self.expect_done(&Request::RemoveFolder { path });
        done.map_err(|e| e.context(shown("remove the folder", path)))
    }

    /// Renames; what stands at the new name may stop it, or be replaced.
    ///
    /// # Errors
    /// As the server says.
    pub fn rename(&mut self, from: &[u8], to: &[u8]) -> Result<()> {
        let done = self.expect_done(&Request::Rename { from, to });
        done.map_err(|e| e.context(shown("rename to", to)))
    }

    /// Renames, in one step over what stands at the new name.
    ///
    /// # Errors
    /// `Unsupported` where the server cannot.
    pub fn rename_over(&mut self, from: &[u8], to: &[u8]) -> Result<()> {
        let done =
            self.expect_done(&Request::Extended { name: EXTENSION_RENAME, strings: &[from, to] });
        done.map_err(|e| e.context(shown("rename to", to)))
    }

    /// Gives a file a second name, which has to be free.
    ///
    /// # Errors
    /// As the server says; for a name that is taken OpenSSH says no more than that it failed.
    pub fn link(&mut self, from: &[u8], to: &[u8]) -> Result<()> {
        let done =
            self.expect_done(&Request::Extended { name: EXTENSION_LINK, strings: &[from, to] });
        done.map_err(|e| e.context(shown("make the name", to)))
    }

    /// Makes a symbolic link.
    ///
    /// # Errors
    /// As the server says.
    pub fn make_link(&mut self, path: &[u8], to: &[u8]) -> Result<()> {
        let done = self.expect_done(&Request::MakeLink { to, path });
        done.map_err(|e| e.context(shown("make the link", path)))
    }

    /// Returns where a symbolic link points.
    ///
    /// # Errors
    /// As the server says.
    pub fn read_link(&mut self, path: &[u8]) -> Result<Vec<u8>> {
        let answer = self.ask(&Request::ReadLink { path })?;
        one_name(answer).map_err(|e| e.context(shown("read the link", path)))
    }

    /// Returns a path from the root for one that begins where the login lands.
    ///
    /// # Errors
    /// As the server says.
    pub fn real_path(&mut self, path: &[u8]) -> Result<Vec<u8>> {
        let answer = self.ask(&Request::RealPath { path })?;
        one_name(answer).map_err(|e| e.context(shown("find", path)))
    }
}

fn shown(what: &str, path: &[u8]) -> String {
    format!("cannot {what} {}", display(path))
}

fn lost(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Unreachable, "the connection to the server broke").caused_by(error)
}

fn found(answer: Answer) -> Result<Option<Attributes>> {
    match answer {
        Answer::Attributes(attributes) => Ok(Some(attributes)),
        Answer::Status(STATUS_NO_SUCH_FILE, _) => Ok(None),
        other => Err(refused(other)),
    }
}

fn one_name(answer: Answer) -> Result<Vec<u8>> {
    match answer {
        Answer::Names(names) if names.len() == 1 => {
            Ok(names.into_iter().next().map(|name| name.name).unwrap_or_default())
        }
        other => Err(refused(other)),
    }
}

/// Makes the error of an answer that is not the one wanted.
fn refused(answer: Answer) -> Error {
    let Answer::Status(status, message) = answer else {
        let message = "the server answers something else than was asked";
        return Error::new(ErrorKind::Unreachable, message);
    };
    let kind = match status {
        STATUS_NO_SUCH_FILE => ErrorKind::NotFound,
        STATUS_PERMISSION_DENIED => ErrorKind::Denied,
        STATUS_NO_CONNECTION | STATUS_CONNECTION_LOST => ErrorKind::Unreachable,
        STATUS_UNSUPPORTED => ErrorKind::Unsupported,
        STATUS_EXISTS => ErrorKind::AlreadyExists,
        STATUS_NO_SPACE | STATUS_QUOTA => ErrorKind::Full,
        _ => ErrorKind::Io,
    };
    let said = display(message.as_bytes());
    let said = if said.is_empty() { format!("status {status}") } else { said.to_string() };
    Error::new(kind, format!("the server says: {said}"))
}
