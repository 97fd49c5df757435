//! A file that is open to write: pieces under way, their answers looked at when they come.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::limits::SFTP_UNDER_WAY_BYTES;
use crate::net::sftp::packet::Answer;
use crate::net::sftp::packet::Attributes;
use crate::net::sftp::packet::OPEN_CREATE;
use crate::net::sftp::packet::OPEN_WRITE;
use crate::net::sftp::packet::Request;
use crate::net::sftp::session::EXTENSION_SYNC;
use crate::net::sftp::session::Refused;
use crate::net::sftp::session::STATUS_OK;
use crate::net::sftp::session::Session;
use crate::net::sftp::session::refused;
use std::collections::VecDeque;

/// A file that is open to write.
pub(super) struct Writing {
    handle: Vec<u8>,
    /// For messages.
    pub(super) path: Vec<u8>,
    /// Bytes that were handed to the session.
    offset: u64,
    /// Bytes that do not make a whole piece yet.
    gathered: Vec<u8>,
    /// Requests under way, with how many bytes each holds.
    under_way: VecDeque<(u32, usize)>,
    under_way_bytes: usize,
}

fn is_done(answer: Answer) -> std::result::Result<(), Refused> {
    match answer {
        Answer::Status(STATUS_OK, _) => Ok(()),
        other => Err(Refused::By(other)),
    }
}

impl Writing {
    /// Makes an empty file, by `OPEN_TRUNCATE` or `OPEN_EXCLUSIVE` where there is one.
    ///
    /// # Errors
    /// As the server says.
    pub(super) fn create(
        session: &mut Session,
        path: &[u8],
        there: u32,
    ) -> std::result::Result<Self, Refused> {
        let flags = OPEN_WRITE | OPEN_CREATE | there;
        let attributes = Attributes::default();
        let handle = match session.ask(&Request::Open { path, flags, attributes })? {
            Answer::Handle(handle) => handle,
            other => return Err(Refused::By(other)),
        };
        Ok(Writing {
            handle,
            path: path.to_vec(),
            offset: 0,
            gathered: Vec::new(),
            under_way: VecDeque::new(),
            under_way_bytes: 0,
        })
    }

    /// Appends. An error may be that of an earlier piece.
    ///
    /// # Errors
    /// As the server says.
    pub(super) fn write(
        &mut self,
        session: &mut Session,
        mut bytes: &[u8],
    ) -> std::result::Result<(), Refused> {
        let most = session.transfer()?.write;
        while !bytes.is_empty() {
            if self.gathered.is_empty() && bytes.len() >= most {
                let (piece, rest) = bytes.split_at(most);
                self.send(session, piece)?;
                bytes = rest;
                continue;
            }
            let (taken, rest) = bytes.split_at(bytes.len().min(most - self.gathered.len()));
            self.gathered.extend_from_slice(taken);
            bytes = rest;
            if self.gathered.len() == most {
                self.send_gathered(session)?;
            }
        }
        Ok(())
    }

    fn send_gathered(&mut self, session: &mut Session) -> std::result::Result<(), Refused> {
        let mut gathered = std::mem::take(&mut self.gathered);
        if !gathered.is_empty() {
            self.send(session, &gathered)?;
            gathered.clear();
        }
        self.gathered = gathered;
        Ok(())
    }

    fn send(&mut self, session: &mut Session, data: &[u8]) -> std::result::Result<(), Refused> {
        let request = Request::Write { handle: &self.handle, offset: self.offset, data };
        let number = session.send(&request)?;
        session.flush()?;
        self.offset += data.len() as u64;
        self.under_way.push_back((number, data.len()));
        self.under_way_bytes += data.len();
        while let Some((number, length)) = self.under_way.front().copied() {
            // What came is looked at; what did not is waited for only when too much is under way.
            let answer = match session.look(number)? {
                Some(answer) => answer,
                None if self.under_way_bytes > SFTP_UNDER_WAY_BYTES => session.wait(number)?,
                None => break,
            };
            self.under_way.pop_front();
            self.under_way_bytes -= length;
            is_done(answer)?;
        }
        Ok(())
    }

    /// Closes the file and makes sure that the server has all of it. It is asked to make it
    /// durable, for its size and to close it, at once: a server does what concerns one file in the
    /// order it was asked.
    ///
    /// # Errors
    /// As the server says; `Io` when it has another size than was written.
    pub(super) fn finish(mut self, session: &mut Session) -> std::result::Result<(), Refused> {
        if let Err(refused) = self.send_gathered(session) {
            self.abandon(session)?;
            return Err(refused);
        }
        let mut numbers: Vec<u32> = self.under_way.drain(..).map(|(number, _)| number).collect();
        if session.has(EXTENSION_SYNC) {
            let request = Request::Extended { name: EXTENSION_SYNC, strings: &[&self.handle] };
            numbers.push(session.send(&request)?);
        }
        let size = session.send(&Request::LookAtHandle { handle: &self.handle })?;
        let close = session.send(&Request::Close { handle: &self.handle })?;
        // All are waited for, so that what is left of this file cannot touch the next.
        let mut result = Ok(());
        for number in numbers {
            let done = is_done(session.wait(number)?);
            result = result.and(done);
        }
        let size = session.wait(size)?;
        let close = is_done(session.wait(close)?);
        result?;
        match size {
            Answer::Attributes(attributes) => match attributes.size {
                Some(size) if size != self.offset => {
                    let message = format!("it has {size} bytes there, {} were sent", self.offset);
                    return Err(Error::new(ErrorKind::Io, message).into());
                }
                _ => {}
            },
            other => return Err(refused(other).into()),
        }
        close
    }

    /// Closes the file and leaves it as it is.
    ///
    /// # Errors
    /// `Unreachable`.
    pub(super) fn abandon(mut self, session: &mut Session) -> Result<()> {
        for (number, _) in self.under_way.drain(..) {
            session.forget(number);
        }
        let number = session.send(&Request::Close { handle: &self.handle })?;
        session.forget(number);
        session.flush()
    }
}
