//! A file that is open to read: requests under way ahead of whoever reads on.
//!
//! A read sends all its requests at once. From the second read on that goes on where the one
//! before ended, more is asked for than is wanted, as much again as was read, up to a bound: so a
//! large file comes at the speed of the line however long a round trip takes, and whoever reads
//! here and there makes the server send nothing in vain. The size is asked for with the first
//! read, in the same round trip, so that the end of a file need not be run into.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::limits::SFTP_UNDER_WAY_BYTES;
use crate::base::metadata::Kind;
use crate::net::sftp::look::kind_of;
use crate::net::sftp::packet::Answer;
use crate::net::sftp::packet::Attributes;
use crate::net::sftp::packet::Content;
use crate::net::sftp::packet::OPEN_READ;
use crate::net::sftp::packet::Request;
use crate::net::sftp::session::Refused;
use crate::net::sftp::session::STATUS_EOF;
use crate::net::sftp::session::Session;
use crate::net::sftp::session::refused;
use std::collections::VecDeque;

/// Asked for before the size of a file is known, and at least ahead of whoever reads on.
const FIRST_BYTES: u64 = 256 * 1024;

/// A request for a stretch of the file.
struct Piece {
    number: u32,
    offset: u64,
    length: u64,
}

/// What is known of the size.
enum Size {
    /// Not asked for yet.
    New,
    /// The request for it.
    Asked(u32),
    /// Told by the server.
    Told(u64),
    /// Not told, or wrongly: the end is where a read says so.
    Unknown,
}

/// A file that is open to read.
pub(super) struct Reading {
    handle: Vec<u8>,
    /// For messages.
    pub(super) path: Vec<u8>,
    /// Where the next read is expected to begin.
    next: u64,
    /// Up to where the file was asked for.
    asked: u64,
    /// Requests for what lies between the two, in order.
    under_way: VecDeque<Piece>,
    /// What came behind the end of the last read: it begins at `next`.
    left: Option<Content>,
    size: Size,
    /// Bytes read in one go without a jump, and in how many reads.
    run_bytes: u64,
    run_reads: u64,
}

impl Reading {
    /// Opens a file.
    ///
    /// # Errors
    /// As the server says.
    pub(super) fn open(
        session: &mut Session,
        path: &[u8],
        offset: u64,
    ) -> std::result::Result<Self, Refused> {
        let attributes = Attributes::default();
        let handle = match session.ask(&Request::Open { path, flags: OPEN_READ, attributes })? {
            Answer::Handle(handle) => handle,
            other => return Err(Refused::By(other)),
        };
        Ok(Reading {
            handle,
            path: path.to_vec(),
            next: offset,
            asked: offset,
            under_way: VecDeque::new(),
            left: None,
            size: Size::New,
            run_bytes: 0,
            run_reads: 0,
        })
    }

    /// Closes the file; nobody waits for it.
    ///
    /// # Errors
    /// `Unreachable`.
    pub(super) fn close(mut self, session: &mut Session) -> Result<()> {
        self.drop_ahead(session);
        if let Size::Asked(number) = self.size {
            session.forget(number);
        }
        let number = session.send(&Request::Close { handle: &self.handle })?;
        session.forget(number);
        session.flush()
    }

    /// Reads from `offset` until `buffer` is full or the file ends.
    ///
    /// # Errors
    /// As the server says.
    pub(super) fn read_at(
        &mut self,
        session: &mut Session,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<usize> {
        if offset != self.next {
            self.drop_ahead(session);
            (self.next, self.asked) = (offset, offset);
            (self.run_bytes, self.run_reads) = (0, 0);
        }
        if buffer.is_empty() {
            return Ok(0);
        }
        let end = offset.saturating_add(buffer.len() as u64);
        let ahead = match self.run_reads {
            0 => 0,
            _ => self.run_bytes.clamp(FIRST_BYTES, SFTP_UNDER_WAY_BYTES as u64),
        };
        self.run_reads += 1;

        let mut done = 0;
        while done < buffer.len() {
            self.ask(session, end, ahead)?;
            let rest = &mut buffer[done..];
            if let Some(content) = &mut self.left {
                let taken = content.bytes().len().min(rest.len());
                rest[..taken].copy_from_slice(&content.bytes()[..taken]);
                content.skip(taken);
                if content.bytes().is_empty() {
                    self.left = None;
                }
                self.next += taken as u64;
                done += taken;
            } else if !self.take(session)? {
                break;
            }
        }
        self.run_bytes = self.run_bytes.saturating_add(done as u64);
        // What lies ahead is asked for before whoever reads has done with what came.
        self.ask(session, end, ahead)?;
        Ok(done)
    }

    /// Asks for what is wanted, and what may be wanted next.
    fn ask(&mut self, session: &mut Session, end: u64, ahead: u64) -> Result<()> {
        if let Size::New = self.size {
            let request = Request::LookAtHandle { handle: &self.handle };
            self.size = Size::Asked(session.send(&request)?);
        }
        let limit = match self.size {
            Size::New | Size::Asked(_) => end.min(self.next.saturating_add(FIRST_BYTES)),
            Size::Told(size) => end.max(self.next.saturating_add(ahead)).min(size),
            // Nobody knows where it ends, so nothing is asked for that nobody wants.
            Size::Unknown => end,
        };
        let bound = self.next.saturating_add(SFTP_UNDER_WAY_BYTES as u64);
        let limit = limit.min(bound);
        let most = session.transfer()?.read as u64;
        while self.asked < limit {
            let length = most.min(limit - self.asked);
            // Nothing is asked for in crumbs only because it may be wanted.
            let is_last = matches!(self.size, Size::Told(size) if size == limit);
            if self.asked >= end && length < most && !is_last {
                break;
            }
            self.send(session, self.asked, length)?;
            self.asked += length;
        }
        session.flush()
    }

    fn send(&mut self, session: &mut Session, offset: u64, length: u64) -> Result<()> {
        let number = self.request(session, offset, length)?;
        self.under_way.push_back(Piece { number, offset, length });
        Ok(())
    }

    fn request(&self, session: &mut Session, offset: u64, length: u64) -> Result<u32> {
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        session.send(&Request::Read { handle: &self.handle, offset, length })
    }

    /// Takes the answer to the first request under way. False where the file ends.
    fn take(&mut self, session: &mut Session) -> Result<bool> {
        let Some(piece) = self.under_way.pop_front() else {
            // As many bytes as the server told came.
            return Ok(false);
        };
        let answer = session.wait(piece.number)?;
        self.learn_size(session)?;
        match answer {
            Answer::Data(content) => self.take_content(session, piece, content).map(|()| true),
            Answer::Status(STATUS_EOF, _) => {
                // It ends here, or before.
                self.drop_ahead(session);
                self.size = match self.size {
                    Size::Told(size) => Size::Told(size.min(piece.offset)),
                    _ => Size::Told(piece.offset),
                };
                Ok(false)
            }
            other => {
                self.drop_ahead(session);
                Err(refused(other))
            }
        }
    }

    fn take_content(
        &mut self,
        session: &mut Session,
        piece: Piece,
        content: Content,
    ) -> Result<()> {
        let length = content.bytes().len() as u64;
        if length == 0 || length > piece.length {
            self.drop_ahead(session);
            let message = "the server gives other bytes than were asked for";
            return Err(Error::new(ErrorKind::Unreachable, message));
        }
        let end = piece.offset + length;
        if matches!(self.size, Size::Told(size) if size < end) {
            self.size = Size::Unknown;
        }
        let is_end = matches!(self.size, Size::Told(size) if size == end);
        if length < piece.length && is_end {
            // Nothing behind it is worth waiting for.
            self.drop_ahead(session);
            self.asked = end;
        } else if length < piece.length {
            let length = piece.length - length;
            let number = self.request(session, end, length)?;
            self.under_way.push_front(Piece { number, offset: end, length });
            session.flush()?;
        }
        self.left = Some(content);
        Ok(())
    }

    /// Looks at what the server tells of the size, which came with the first content.
    fn learn_size(&mut self, session: &mut Session) -> Result<()> {
        let Size::Asked(number) = self.size else { return Ok(()) };
        self.size = Size::Unknown;
        if let Answer::Attributes(attributes) = session.wait(number)? {
            if attributes.mode.and_then(kind_of) == Some(Kind::Directory) {
                self.drop_ahead(session);
                return Err(Error::new(ErrorKind::InvalidInput, "it is a folder"));
            }
            self.size = attributes.size.map_or(Size::Unknown, Size::Told);
        }
        Ok(())
    }

    /// Lets go of what was asked for ahead.
    fn drop_ahead(&mut self, session: &mut Session) {
        for piece in self.under_way.drain(..) {
            session.forget(piece.number);
        }
        self.left = None;
        self.asked = self.next;
    }
}
