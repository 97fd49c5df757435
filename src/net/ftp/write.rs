//! Writing a file: content, then the proof that all of it is there, and what the file has beside.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::limits::FTP_UNHEARD_BYTES_MAX;
use crate::base::metadata::Kind;
use crate::net::files::Found;
use crate::net::files::Look;
use crate::net::files::Marked;
use crate::net::files::Marks;
use crate::net::files::Proof;
use crate::net::ftp::control::Command;
use crate::net::ftp::control::broken;
use crate::net::ftp::data::Data;
use crate::net::ftp::facts::time_text;
use crate::net::ftp::learn::is_odd;
use crate::net::ftp::learn::split;
use crate::net::ftp::reply::Reply;
use crate::net::ftp::row::row;
use crate::net::ftp::session::Begun;
use crate::net::ftp::session::Session;
use crate::net::ftp::session::Transfer;
use crate::net::ftp::session::size_of;
use crate::net::tcp::unreachable;
use std::mem;

/// A file that is written.
#[derive(Debug)]
pub(crate) struct Writing {
    pub(crate) path: Vec<u8>,
    pub(crate) data: Data,
    written: u64,
}

impl Session {
    pub(crate) fn create_at(&mut self, path: &[u8]) -> Result<()> {
        self.settle()?;
        match self.begin(&[], false, Command::new("STOR", path), 0)?.1 {
            Begun::Open(data) => {
                self.transfer =
                    Transfer::Writing(Writing { path: path.to_vec(), data, written: 0 });
                Ok(())
            }
            Begun::Refused(reply) => Err(self.refused_new(path, &reply)),
        }
    }

    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let Transfer::Writing(writing) = &mut self.transfer else {
            return Err(Error::bug("no file is open to write"));
        };
        writing.written += bytes.len() as u64;
        if writing.written > FTP_UNHEARD_BYTES_MAX
            && let Some(refused) = self.hear()?
        {
            return Err(self.not_begun(&refused));
        }
        let Transfer::Writing(writing) = &mut self.transfer else {
            return Err(Error::bug("a file was open to write"));
        };
        let Err(failed) = writing.data.write_all(bytes) else { return Ok(()) };
        // A server that takes no more, as its disk is full, says why.
        if let Ok(Some(refused)) = self.hear() {
            return Err(self.not_begun(&refused));
        }
        if let Transfer::Writing(writing) = mem::replace(&mut self.transfer, Transfer::None)
            && let Ok(reply) = self.end(writing.data)
            && !reply.is_done()
        {
            return Err(reply.refused_upload());
        }
        Err(unreachable("the data connection is gone", failed))
    }

    /// Closes a transfer that the server has refused, and makes the error of it.
    fn not_begun(&mut self, refused: &Reply) -> Error {
        let path = self.open_path();
        self.transfer = Transfer::None;
        self.refused_new(&path, refused)
    }

    pub(crate) fn finish_writing(&mut self) -> Result<()> {
        let (path, written) = self.end_content()?;
        let told = self.ask("SIZE", &path)?;
        self.confirm_written(&path, written, size_of(&told))
    }

    /// As [`Session::finish_writing`], and asks at once for mode and time where it is known how.
    ///
    /// A new file often has the wanted mode already. MLST or STAT tells, of the first one in a
    /// folder; the next ones there come to the same mode, and SIZE costs a server less. A proof
    /// that may come later is only given here where nothing more is to be asked for it.
    pub(crate) fn finish_marked(&mut self, marks: Marks, proof: Proof) -> Result<Marked> {
        let (path, written) = self.end_content()?;
        let usual = self.learned.new_mode_in(split(&path).0);
        let looks = usual.is_none() && self.features.shows("unix.mode");
        let stats = usual.is_none() && !looks && self.learned.stat_tells;
        let has_mode = looks || stats || usual == Some(marks.mode);
        let mode = (self.learned.sets_mode && !has_mode).then(|| chmod_argument(&path, marks.mode));
        let time = self.learned.proven_time_by().zip(time_text(marks.time));
        let time = time.map(|(by, text)| by.command(&text, &path));
        let proves = looks || proof == Proof::Now || is_odd(split(&path).1);
        let look = Command::new(if looks { "MLST" } else { "SIZE" }, &path);
        let commands: Vec<Command<'_>> = mode
            .iter()
            .map(|argument| Command::new("SITE", argument))
            .chain(time.iter().map(|(verb, argument)| Command::new(verb, argument)))
            .chain(stats.then_some(Command::new("STAT", &path)))
            .chain(proves.then_some(look))
            .collect();
        let mut replies = self.control.ask_all(&commands)?.into_iter();
        let mode_reply = mode.is_some().then(|| replies.next()).flatten();
        let time_reply = time.is_some().then(|| replies.next()).flatten();
        let stat_reply = stats.then(|| replies.next()).flatten();
        let mut look = None;
        if proves {
            let told = replies.next().ok_or_else(|| Error::bug("a command has no reply"))?;
            look = if looks { self.look_told(&path, &told)? } else { None };
            let size = if looks { look.as_ref().and_then(|it| it.size) } else { size_of(&told) };
            self.confirm_written(&path, written, size)?;
        }
        let listed = stat_reply.and_then(|reply| self.mode_told(&reply, written));
        self.learned.stat_tells &= !stats || listed.is_some();
        let shown = look.and_then(|look| look.mode).or(listed).or(usual);
        self.learned.new_mode = shown.map(|mode| (split(&path).0.to_vec(), mode));
        let mode = match mode_reply {
            Some(reply) => self.mode_set(&path, &reply),
            None if shown == Some(marks.mode) => Ok(()),
            None => self.set_mode_of(&path, marks.mode),
        };
        let time = match time_reply {
            Some(reply) if reply.is_done() => Ok(()),
            // Whatever is to be learned of the server, or of the file, is asked one by one.
            _ => self.set_time_of(&path, marks.time),
        };
        Marked { is_proven: proves, mode, time }.on_a_session()
    }

    /// Reads the mode of a file of so many bytes out of an answer to STAT, which is a listing.
    fn mode_told(&self, reply: &Reply, size: u64) -> Option<u32> {
        let now = self.clock.now();
        let found: Vec<Found> =
            reply.lines.iter().filter_map(|line| row(line, now).ok().flatten()).collect();
        match found.as_slice() {
            [it] if it.look.kind == Kind::File && it.look.size == Some(size) => it.look.mode,
            _ => None,
        }
    }

    /// Ends the content, and hears that the server has it; returns the path and the bytes of it.
    fn end_content(&mut self) -> Result<(Vec<u8>, u64)> {
        let Transfer::Writing(writing) = mem::replace(&mut self.transfer, Transfer::None) else {
            return Err(Error::bug("no file is open to write"));
        };
        let finished = writing.data.finish();
        if let Some(refused) = self.hear()? {
            return Err(self.refused_new(&writing.path, &refused));
        }
        let reply = self.last_word()?;
        if !reply.is_done() {
            return Err(reply.refused_upload());
        }
        finished.map_err(|e| unreachable("the data connection is gone", e))?;
        Ok((writing.path, writing.written))
    }

    /// Reads an answer to MLST; None where it is none.
    fn look_told(&mut self, path: &[u8], reply: &Reply) -> Result<Option<Look>> {
        if reply.code == 250 { self.read_look(path, reply).map(Some) } else { Ok(None) }
    }

    /// Makes sure that the server has what was written, by the size that it told, or by another
    /// look where it told none.
    fn confirm_written(&mut self, path: &[u8], written: u64, size: Option<u64>) -> Result<()> {
        let size = match size {
            Some(size) => Some(size),
            None => self.look(path)?.and_then(|look| look.size),
        };
        match size {
            Some(size) if size == written => self.confirm_name(path),
            // The connection ended too early for the server, which cannot tell that from its end.
            Some(size) if size < written => {
                Err(broken(&format!("the server has {size} bytes of {written} written")))
            }
            Some(size) => Err(Error::new(
                ErrorKind::Io,
                format!("the server has {size} bytes, and {written} were written"),
            )),
            None => Err(Error::new(ErrorKind::Io, "the server does not show what was written")
                .hint("it may have put it elsewhere: some rename what is there already")),
        }
    }
}

/// Returns what `SITE` is to be asked for a mode to be set.
pub(crate) fn chmod_argument(path: &[u8], mode: u32) -> Vec<u8> {
    [format!("CHMOD {:03o} ", mode & 0o7777).as_bytes(), path].concat()
}
