//! Requests out, answers in, many under way, in any order.
//!
//! Every request has a number, and an answer is taken only for a number that is under way. A
//! session that broke stays broken: each later call says so at once. Nothing here knows what a
//! request is for; [`crate::net::sftp::tree`] does.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::limits::SFTP_PACKET_BYTES_MAX;
use crate::base::limits::SFTP_TRANSFER_BYTES;
use crate::base::limits::SFTP_TRANSFER_BYTES_MAX;
use crate::base::limits::SFTP_UNDER_WAY_MAX;
use crate::base::path::display;
use crate::net::sftp::packet;
use crate::net::sftp::packet::Answer;
use crate::net::sftp::packet::Request;
use crate::net::sftp::wire::Wire;
use std::collections::HashMap;
use std::io;
use std::time::Duration;

pub(super) const STATUS_OK: u32 = 0;
pub(super) const STATUS_EOF: u32 = 1;
pub(super) const STATUS_NO_SUCH_FILE: u32 = 2;
pub(super) const STATUS_PERMISSION_DENIED: u32 = 3;
pub(super) const STATUS_FAILURE: u32 = 4;
const STATUS_NO_CONNECTION: u32 = 6;
const STATUS_CONNECTION_LOST: u32 = 7;
const STATUS_UNSUPPORTED: u32 = 8;
const STATUS_EXISTS: u32 = 11;
const STATUS_NO_SPACE: u32 = 14;
const STATUS_QUOTA: u32 = 15;

/// Renames in one step over what is there.
pub(super) const EXTENSION_RENAME: &str = "posix-rename@openssh.com";
/// Gives a file a second name.
pub(super) const EXTENSION_LINK: &str = "hardlink@openssh.com";
/// Makes a file durable.
pub(super) const EXTENSION_SYNC: &str = "fsync@openssh.com";
/// Tells how much room there is.
pub(super) const EXTENSION_ROOM: &str = "statvfs@openssh.com";
/// Offers a choice among versions of the protocol.
pub(super) const EXTENSION_VERSIONS: &str = "versions";
const EXTENSION_LIMITS: &str = "limits@openssh.com";

/// What becomes of an answer.
enum Fate {
    Wanted,
    Forgotten,
}

/// A session. After an error of kind `Unreachable` it is of no more use.
pub(super) struct Session {
    wire: Box<dyn Wire>,
    /// The server, for messages.
    place: String,
    silence: Duration,
    extensions: Vec<String>,
    next: u32,
    /// Requests that were not handed to the wire yet.
    out: Vec<u8>,
    incoming: Incoming,
    under_way: HashMap<u32, Fate>,
    /// Answers that came before they were waited for.
    early: HashMap<u32, Answer>,
    /// The request for limits, until its answer was looked at.
    limits: Option<u32>,
    transfer: Transfer,
    is_broken: bool,
}

/// Most bytes of one read and of one write.
#[derive(Clone, Copy)]
pub(super) struct Transfer {
    pub(super) read: usize,
    pub(super) write: usize,
}

impl Session {
    /// Begins a session.
    ///
    /// # Errors
    /// `Unreachable` when the other end is gone or is no SFTP server.
    pub(super) fn start(wire: Box<dyn Wire>, place: String, silence: Duration) -> Result<Self> {
        let transfer = Transfer { read: SFTP_TRANSFER_BYTES, write: SFTP_TRANSFER_BYTES };
        let mut session = Session {
            wire,
            place,
            silence,
            extensions: Vec::new(),
            next: 0,
            out: packet::init(),
            incoming: Incoming::default(),
            under_way: HashMap::new(),
            early: HashMap::new(),
            limits: None,
            transfer,
            is_broken: false,
        };
        session.flush()?;
        let answer = session.receive()?;
        let extensions = packet::read_version(&answer).map_err(|e| session.broken(e))?;
        session.extensions = extensions.into_iter().map(|(name, _)| name).collect();
        if session.has(EXTENSION_LIMITS) {
            // Nobody waits for it before the first read or write.
            let request = Request::Extended { name: EXTENSION_LIMITS, strings: &[] };
            session.limits = Some(session.send(&request)?);
            session.flush()?;
        }
        Ok(session)
    }

    /// Returns the server, for messages.
    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// Says whether the server offers an extension.
    pub(super) fn has(&self, extension: &str) -> bool {
        self.extensions.iter().any(|known| known == extension)
    }

    /// Returns how much may be read or written at a time.
    ///
    /// # Errors
    /// `Unreachable`.
    pub(super) fn transfer(&mut self) -> Result<Transfer> {
        if let Some(number) = self.limits.take()
            && let Answer::Extended(bytes) = self.wait(number)?
        {
            let numbers = packet::read_numbers(&bytes);
            let limit = |at: usize| match numbers.get(at).copied().unwrap_or(0) {
                0 => SFTP_TRANSFER_BYTES,
                told => (told.min(SFTP_TRANSFER_BYTES_MAX as u64) as usize).max(512),
            };
            // Longest packet, longest read, longest write, most handles.
            self.transfer = Transfer { read: limit(1), write: limit(2) };
        }
        Ok(self.transfer)
    }

    /// Numbers a request, to be sent with the next flush.
    ///
    /// # Errors
    /// `Unreachable`.
    pub(super) fn send(&mut self, request: &Request<'_>) -> Result<u32> {
        while self.under_way.len() >= SFTP_UNDER_WAY_MAX {
            self.flush()?;
            self.take_answer()?;
        }
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        request.put(number, &mut self.out);
        self.under_way.insert(number, Fate::Wanted);
        Ok(number)
    }

    /// Hands to the wire what was not yet.
    ///
    /// # Errors
    /// `Unreachable`.
    pub(super) fn flush(&mut self) -> Result<()> {
        self.is_whole()?;
        if self.out.is_empty() {
            return Ok(());
        }
        let out = std::mem::take(&mut self.out);
        self.wire.send(out).map_err(|cause| self.lost(cause))
    }

    /// Waits for the answer to a request.
    ///
    /// # Errors
    /// `Unreachable`; whether the server refused is told by the answer.
    pub(super) fn wait(&mut self, number: u32) -> Result<Answer> {
        self.flush()?;
        loop {
            if let Some(answer) = self.early.remove(&number) {
                return Ok(answer);
            }
            self.take_answer()?;
        }
    }

    /// Returns the answer to a request if it is there already.
    ///
    /// # Errors
    /// `Unreachable`.
    pub(super) fn look(&mut self, number: u32) -> Result<Option<Answer>> {
        self.flush()?;
        loop {
            if let Some(answer) = self.early.remove(&number) {
                return Ok(Some(answer));
            }
            match self.packet(Duration::ZERO) {
                Ok(Some(packet)) => self.sort(packet)?,
                Ok(None) => return Err(self.lost(io::ErrorKind::UnexpectedEof.into())),
                Err(e) if e.kind() == io::ErrorKind::TimedOut => return Ok(None),
                Err(e) => return Err(self.lost(e)),
            }
        }
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// `Unreachable`.
    pub(super) fn ask(&mut self, request: &Request<'_>) -> Result<Answer> {
        let number = self.send(request)?;
        self.wait(number)
    }

    /// Lets the answer to a request be thrown away when it comes.
    pub(super) fn forget(&mut self, number: u32) {
        if self.early.remove(&number).is_none()
            && let Some(fate) = self.under_way.get_mut(&number)
        {
            *fate = Fate::Forgotten;
        }
    }

    fn take_answer(&mut self) -> Result<()> {
        let packet = self.receive()?;
        self.sort(packet)
    }

    /// Puts an answer where it is looked for.
    fn sort(&mut self, packet: Vec<u8>) -> Result<()> {
        let (number, answer) = packet::read_answer(packet).map_err(|e| self.broken(e))?;
        match self.under_way.remove(&number) {
            Some(Fate::Wanted) => {
                self.early.insert(number, answer);
                Ok(())
            }
            Some(Fate::Forgotten) => Ok(()),
            None => {
                let message = "the server answers what was not asked";
                Err(self.broken(Error::new(ErrorKind::Unreachable, message)))
            }
        }
    }

    /// Waits for the next packet.
    fn receive(&mut self) -> Result<Vec<u8>> {
        self.is_whole()?;
        match self.packet(self.silence) {
            Ok(Some(packet)) => Ok(packet),
            Ok(None) => Err(self.lost(io::ErrorKind::UnexpectedEof.into())),
            Err(e) => Err(self.lost(e)),
        }
    }

    fn packet(&mut self, limit: Duration) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(packet) = self.incoming.next()? {
                return Ok(Some(packet));
            }
            match self.wire.receive(limit)? {
                Some(bytes) => self.incoming.add(bytes),
                None => return Ok(None),
            }
        }
    }

    fn is_whole(&self) -> Result<()> {
        if !self.is_broken {
            return Ok(());
        }
        let message = format!("the connection to {} broke before", self.place);
        Err(Error::new(ErrorKind::Unreachable, message))
    }

    /// Ends the session over an answer that makes no sense.
    fn broken(&mut self, error: Error) -> Error {
        self.is_broken = true;
        error.context(&self.place)
    }

    /// Ends the session over a connection that is gone.
    fn lost(&mut self, cause: io::Error) -> Error {
        self.is_broken = true;
        let message = match cause.kind() {
            io::ErrorKind::TimedOut => {
                format!("{} did not answer within {} s", self.place, self.silence.as_secs_f32())
            }
            io::ErrorKind::UnexpectedEof => format!("{} closed the connection", self.place),
            _ => format!("the connection to {} broke: {cause}", self.place),
        };
        let said = self.wire.said();
        let said = display(said.trim().as_bytes());
        let message = if said.is_empty() { message } else { format!("{message}: {said}") };
        Error::new(ErrorKind::Unreachable, message)
    }
}

/// Bytes that came, cut into packets.
#[derive(Default)]
struct Incoming {
    /// What came last, and how much of it was used.
    piece: Vec<u8>,
    used: usize,
    /// The length in front of a packet, as far as it came.
    header: Vec<u8>,
    /// The packet behind it, as far as it came; None before its length is known.
    packet: Option<Vec<u8>>,
    length: usize,
}

impl Incoming {
    /// Takes a piece, after the one before was used up.
    fn add(&mut self, bytes: Vec<u8>) {
        self.piece = bytes;
        self.used = 0;
    }

    /// Moves bytes until `into` has so many. False when there are too few.
    fn fill(&mut self, into: &mut Vec<u8>, length: usize) -> bool {
        let missing = length.saturating_sub(into.len());
        let left = self.piece.get(self.used..).unwrap_or_default();
        let taken = left.len().min(missing);
        into.extend_from_slice(&left[..taken]);
        self.used += taken;
        taken == missing
    }

    /// Returns a packet if one is whole.
    fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut packet = match self.packet.take() {
            Some(packet) => packet,
            None => {
                let mut header = std::mem::take(&mut self.header);
                if !self.fill(&mut header, 4) {
                    self.header = header;
                    return Ok(None);
                }
                let number = header.first_chunk::<4>().copied().unwrap_or_default();
                self.length = u32::from_be_bytes(number) as usize;
                if self.length == 0 || self.length > SFTP_PACKET_BYTES_MAX {
                    let shown = display(&header);
                    return Err(io::Error::other(format!(
                        "`{shown}` begins no packet: this may be no SFTP server, or its login \
                         prints text"
                    )));
                }
                Vec::with_capacity(self.length)
            }
        };
        if !self.fill(&mut packet, self.length) {
            self.packet = Some(packet);
            return Ok(None);
        }
        Ok(Some(packet))
    }
}

/// Why something was not done: a refusal, as the server answered, or anything else.
pub(super) enum Refused {
    /// To find out why.
    By(Answer),
    /// What there is nothing to find out about.
    Other(Error),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Refused::Other(error)
    }
}

/// Makes the error of an answer that is not the one wanted.
pub(super) fn refused(answer: Answer) -> Error {
    match answer {
        Answer::Status(status, message) if status != STATUS_OK => {
            refused_as(kind_of(status), status, &message)
        }
        _ => {
            let message = "the server answers something else than was asked";
            Error::new(ErrorKind::Unreachable, message)
        }
    }
}

/// Makes the error of a status whose kind is known better than the server says.
pub(super) fn refused_as(kind: ErrorKind, status: u32, message: &str) -> Error {
    let said: String = display(message.as_bytes()).chars().take(200).collect();
    let said = if said.is_empty() { format!("status {status}") } else { said };
    Error::new(kind, format!("the server says: {said}"))
}

fn kind_of(status: u32) -> ErrorKind {
    match status {
        STATUS_NO_SUCH_FILE => ErrorKind::NotFound,
        STATUS_PERMISSION_DENIED => ErrorKind::Denied,
        STATUS_NO_CONNECTION | STATUS_CONNECTION_LOST => ErrorKind::Unreachable,
        STATUS_UNSUPPORTED => ErrorKind::Unsupported,
        STATUS_EXISTS => ErrorKind::AlreadyExists,
        STATUS_NO_SPACE | STATUS_QUOTA => ErrorKind::Full,
        _ => ErrorKind::Io,
    }
}
