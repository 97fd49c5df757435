//! [`Files`] over a session.
//!
//! Servers refuse much with no more than "Failure" (OpenSSH: what is there already, a folder that
//! is not empty, a full disk). Then the server is asked again, until the kind of the error is
//! known; where it cannot be known, it stays the server's own words.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::metadata::Kind;
use crate::base::path::display;
use crate::base::time::Timestamp;
use crate::net::files::Abilities;
use crate::net::files::Files;
use crate::net::files::Found;
use crate::net::files::Look;
use crate::net::files::Manner;
use crate::net::sftp::list;
use crate::net::sftp::look::kind_of;
use crate::net::sftp::look::look;
use crate::net::sftp::packet;
use crate::net::sftp::packet::Answer;
use crate::net::sftp::packet::Attributes;
use crate::net::sftp::packet::EXTENSION_SET_LINK;
use crate::net::sftp::packet::OPEN_EXCLUSIVE;
use crate::net::sftp::packet::OPEN_TRUNCATE;
use crate::net::sftp::packet::Request;
use crate::net::sftp::read::Reading;
use crate::net::sftp::session::EXTENSION_LINK;
use crate::net::sftp::session::EXTENSION_RENAME;
use crate::net::sftp::session::EXTENSION_ROOM;
use crate::net::sftp::session::EXTENSION_SYNC;
use crate::net::sftp::session::EXTENSION_VERSIONS;
use crate::net::sftp::session::Refused;
use crate::net::sftp::session::STATUS_FAILURE;
use crate::net::sftp::session::STATUS_NO_SUCH_FILE;
use crate::net::sftp::session::STATUS_OK;
use crate::net::sftp::session::STATUS_PERMISSION_DENIED;
use crate::net::sftp::session::Session;
use crate::net::sftp::session::refused;
use crate::net::sftp::session::refused_as;
use crate::net::sftp::write::Writing;

/// One session with what it has open.
pub(super) struct Tree {
    session: Session,
    reading: Option<Reading>,
    writing: Option<Writing>,
}

/// Returns a path as the server is to hear it: where the login landed is its dot.
fn heard(path: &[u8]) -> &[u8] {
    if path.is_empty() { b"." } else { path }
}

/// Returns the folder that a path is in.
fn above(path: &[u8]) -> &[u8] {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(0) => b"/",
        Some(at) => &path[..at],
        None => b".",
    }
}

impl Tree {
    /// Takes a session over.
    pub(super) fn new(session: Session) -> Self {
        Tree { session, reading: None, writing: None }
    }

    /// Says in an error what could not be done to what, and where.
    fn to_tell(&self, what: &str, path: &[u8]) -> impl FnOnce(Error) -> Error + use<> {
        let text = format!("cannot {what} {} on {}", display(path), self.session.place());
        move |error| error.context(text)
    }

    /// Waits for a request to be done. Where the server says no more than that it failed, `why`
    /// finds out.
    fn done(
        &mut self,
        request: &Request<'_>,
        why: impl FnOnce(&mut Self) -> Result<Option<ErrorKind>>,
    ) -> Result<()> {
        match self.session.ask(request)? {
            Answer::Status(STATUS_OK, _) => Ok(()),
            answer => Err(self.explained(answer, why)),
        }
    }

    fn explained(
        &mut self,
        answer: Answer,
        why: impl FnOnce(&mut Self) -> Result<Option<ErrorKind>>,
    ) -> Error {
        match answer {
            Answer::Status(STATUS_FAILURE, message) => match why(self) {
                Ok(kind) => refused_as(kind.unwrap_or(ErrorKind::Io), STATUS_FAILURE, &message),
                Err(error) => error,
            },
            // mod_sftp refuses so to open what a file is in the way of.
            Answer::Status(STATUS_PERMISSION_DENIED, message) => match why(self) {
                Ok(Some(ErrorKind::NotFound)) => {
                    refused_as(ErrorKind::NotFound, STATUS_PERMISSION_DENIED, &message)
                }
                _ => refused_as(ErrorKind::Denied, STATUS_PERMISSION_DENIED, &message),
            },
            other => refused(other),
        }
    }

    /// Looks at a name. Servers that follow links here are asked for a link at the same time.
    fn attributes(&mut self, path: &[u8]) -> Result<Option<Attributes>> {
        let path = heard(path);
        let first = self.session.send(&Request::LookAt { path })?;
        let link = match self.session.has(EXTENSION_SET_LINK) {
            // OpenSSH: it knows links from what they lead to.
            true => None,
            // mod_sftp of proftpd does not, here.
            false => Some(self.session.send(&Request::ReadLink { path })?),
        };
        let looked = self.session.wait(first)?;
        let is_link = match link {
            Some(number) => matches!(self.session.wait(number)?, Answer::Names(_)),
            None => false,
        };
        match looked {
            Answer::Attributes(mut attributes) => {
                if is_link {
                    attributes.mode = Some(0o120_777);
                }
                Ok(Some(attributes))
            }
            Answer::Status(STATUS_NO_SUCH_FILE, _) => Ok(None),
            // What a file is in the way of is not there; mod_sftp says that it failed.
            Answer::Status(STATUS_FAILURE, message) => match self.has_folder(path)? {
                true => Err(refused(Answer::Status(STATUS_FAILURE, message))),
                false => Ok(None),
            },
            other => Err(refused(other)),
        }
    }

    /// Says whether what a path is in may be a folder: false when it is not there, or a file.
    fn has_folder(&mut self, mut path: &[u8]) -> Result<bool> {
        while path != above(path) {
            path = above(path);
            match self.session.ask(&Request::LookAt { path })? {
                Answer::Attributes(it) => return Ok(it.mode.and_then(kind_of) != Some(Kind::File)),
                Answer::Status(STATUS_NO_SUCH_FILE, _) => return Ok(false),
                Answer::Status(STATUS_FAILURE, _) => {}
                other => return Err(refused(other)),
            }
        }
        Ok(true)
    }

    fn kind(&mut self, path: &[u8]) -> Result<Option<Kind>> {
        let attributes = self.attributes(path)?;
        attributes.map(|it| look(&it).map(|look| look.kind)).transpose()
    }

    fn exists(&mut self, path: &[u8]) -> Result<bool> {
        Ok(self.attributes(path)?.is_some())
    }

    /// Finds out whether something is not there.
    fn why_missing(&mut self, path: &[u8]) -> Result<Option<ErrorKind>> {
        Ok((!self.exists(path)?).then_some(ErrorKind::NotFound))
    }

    /// Finds out why `to` could not be made: it is there, or it has no folder, or there is no room.
    fn why_not_made(&mut self, to: &[u8]) -> Result<Option<ErrorKind>> {
        if self.exists(to)? {
            return Ok(Some(ErrorKind::AlreadyExists));
        }
        match self.kind(above(to))? {
            None | Some(Kind::File) => Ok(Some(ErrorKind::NotFound)),
            Some(_) => self.why_no_room(above(to), 1),
        }
    }

    /// Finds out why `from` could not get the name `to`.
    fn why_not_renamed(&mut self, from: &[u8], to: &[u8]) -> Result<Option<ErrorKind>> {
        if !self.exists(from)? {
            return Ok(Some(ErrorKind::NotFound));
        }
        self.why_not_made(to)
    }

    /// Finds out whether there is too little room for so many bytes.
    fn why_no_room(&mut self, path: &[u8], bytes: u64) -> Result<Option<ErrorKind>> {
        if !self.session.has(EXTENSION_ROOM) {
            return Ok(None);
        }
        let request = Request::Extended { name: EXTENSION_ROOM, strings: &[heard(path)] };
        let Answer::Extended(answer) = self.session.ask(&request)? else { return Ok(None) };
        // Block size, fragment size, blocks, free, free to us, files, free, free to us, ...
        let numbers = packet::read_numbers(&answer);
        let [_, fragment, _, _, free, files, _, free_files, ..] = numbers[..] else {
            return Ok(None);
        };
        let is_full = free.saturating_mul(fragment) < bytes || (files > 0 && free_files == 0);
        Ok(is_full.then_some(ErrorKind::Full))
    }

    /// Makes the error of a write that was refused.
    fn not_written(&mut self, refusal: Refused, path: &[u8]) -> Error {
        match refusal {
            Refused::Other(error) => error,
            Refused::By(answer) => self.explained(answer, |tree| {
                let piece = tree.session.transfer()?.write as u64;
                tree.why_no_room(path, piece)
            }),
        }
    }

    /// Sets attributes; of a link itself where the server can and `is_link_safe`.
    fn set(&mut self, path: &[u8], attributes: Attributes, is_link_safe: bool) -> Result<()> {
        let path = heard(path);
        let request = match is_link_safe && self.session.has(EXTENSION_SET_LINK) {
            true => Request::SetLink { path, attributes },
            false => Request::Set { path, attributes },
        };
        self.done(&request, |tree| tree.why_missing(path))
    }

    /// Finds out why `from` could not replace `to`.
    fn why_not_replaced(&mut self, from: &[u8], to: &[u8]) -> Result<Option<ErrorKind>> {
        if !self.exists(from)? || !self.exists(above(to))? {
            return Ok(Some(ErrorKind::NotFound));
        }
        if self.kind(to)? == Some(Kind::Directory) {
            return Ok(Some(ErrorKind::AlreadyExists));
        }
        self.why_no_room(above(to), 1)
    }

    /// Says whether links are told as they are, and a name that is taken refuses a rename even when
    /// others do the same at that time. mod_sftp, which lets one choose among versions, shows where
    /// a link leads to in its own view, and not what is written in it.
    fn is_exact(&self) -> bool {
        !self.session.has(EXTENSION_VERSIONS)
    }

    fn needs_links(&self) -> Result<()> {
        if self.is_exact() {
            return Ok(());
        }
        let message = format!("{} does not tell links as they are", self.session.place());
        Err(Error::new(ErrorKind::Unsupported, message))
    }

    fn needs(&self, extension: &str) -> Result<()> {
        if self.session.has(extension) {
            return Ok(());
        }
        let message = format!("{} does not offer {extension}", self.session.place());
        Err(Error::new(ErrorKind::Unsupported, message))
    }

    fn begin_to_write(&mut self, path: &[u8], there: u32) -> Result<()> {
        if let Some(writing) = self.writing.take() {
            writing.abandon(&mut self.session)?;
        }
        match Writing::create(&mut self.session, heard(path), there) {
            Ok(writing) => {
                self.writing = Some(writing);
                Ok(())
            }
            Err(Refused::Other(error)) => Err(self.to_tell("create", path)(error)),
            Err(Refused::By(answer)) => {
                let error = self.explained(answer, |tree| match tree.kind(path)? {
                    None => tree.why_not_made(path),
                    Some(Kind::File) if there == OPEN_TRUNCATE => tree.why_no_room(above(path), 1),
                    Some(_) => Ok(Some(ErrorKind::AlreadyExists)),
                });
                Err(self.to_tell("create", path)(error))
            }
        }
    }
}

impl Files for Tree {
    fn abilities(&self) -> Abilities {
        let replace = self.session.has(EXTENSION_RENAME);
        let is_exact = self.is_exact();
        Abilities {
            replace,
            link: self.session.has(EXTENSION_LINK),
            // The draft says so; a server that offers the other kind, too, means it. mod_sftp looks
            // first and renames then: of six sessions at once, two got through in 4 of 60 rounds.
            rename_refuses: replace && is_exact,
            rename_folder_refuses: replace,
            sync: self.session.has(EXTENSION_SYNC),
            set_time: true,
            set_mode: true,
            set_owner: true,
            symlinks: is_exact,
        }
    }

    fn manner(&self) -> Manner {
        // Whether the wire is one of SSH, or of pipes, is not known here.
        Manner { lists_by: "READDIR", security: "" }
    }

    fn list(&mut self, folder: &[u8], visit: &mut dyn FnMut(Found) -> Result<()>) -> Result<()> {
        let tell = self.to_tell("list", folder);
        list::list(&mut self.session, heard(folder), visit).map_err(tell)
    }

    fn look_at(&mut self, path: &[u8]) -> Result<Option<Look>> {
        let tell = self.to_tell("look at", path);
        let attributes = self.attributes(path);
        let seen = attributes.and_then(|it| it.map(|it| look(&it)).transpose());
        seen.map_err(tell)
    }

    fn read_link(&mut self, path: &[u8]) -> Result<Vec<u8>> {
        self.needs_links()?;
        let tell = self.to_tell("read the link", path);
        match self.session.ask(&Request::ReadLink { path: heard(path) })? {
            Answer::Names(names) if names.len() == 1 => {
                Ok(names.into_iter().next().map(|name| name.name).unwrap_or_default())
            }
            other => Err(tell(refused(other))),
        }
    }

    fn open(&mut self, path: &[u8], offset: u64) -> Result<()> {
        self.close()?;
        let tell = self.to_tell("open", path);
        match Reading::open(&mut self.session, heard(path), offset) {
            Ok(reading) => {
                self.reading = Some(reading);
                Ok(())
            }
            Err(Refused::Other(error)) => Err(tell(error)),
            Err(Refused::By(answer)) => {
                Err(tell(self.explained(answer, |tree| tree.why_missing(path))))
            }
        }
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let Some(reading) = &mut self.reading else {
            return Err(Error::bug("no file is open to read"));
        };
        match reading.read_at(&mut self.session, offset, buffer) {
            Ok(length) => Ok(length),
            Err(error) => {
                let path = reading.path.clone();
                Err(self.to_tell("read", &path)(error))
            }
        }
    }

    fn close(&mut self) -> Result<()> {
        match self.reading.take() {
            Some(reading) => reading.close(&mut self.session),
            None => Ok(()),
        }
    }

    fn create(&mut self, path: &[u8]) -> Result<()> {
        self.begin_to_write(path, OPEN_TRUNCATE)
    }

    fn create_new(&mut self, path: &[u8]) -> Result<()> {
        self.begin_to_write(path, OPEN_EXCLUSIVE)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(writing) = &mut self.writing else {
            return Err(Error::bug("no file is open to write"));
        };
        let Err(refusal) = writing.write(&mut self.session, bytes) else { return Ok(()) };
        let path = writing.path.clone();
        if let Some(writing) = self.writing.take() {
            // Whether that works is of no interest any more.
            let _ = writing.abandon(&mut self.session);
        }
        let error = self.not_written(refusal, &path);
        Err(self.to_tell("write", &path)(error))
    }

    fn finish(&mut self) -> Result<()> {
        let Some(writing) = self.writing.take() else {
            return Err(Error::bug("no file is open to write"));
        };
        let path = writing.path.clone();
        let Err(refusal) = writing.finish(&mut self.session) else { return Ok(()) };
        let error = self.not_written(refusal, &path);
        Err(self.to_tell("write", &path)(error))
    }

    fn rename(&mut self, from: &[u8], to: &[u8]) -> Result<()> {
        let tell = self.to_tell(&format!("rename {} to", display(from)), to);
        let done = self.done(&Request::Rename { from, to }, |tree| tree.why_not_renamed(from, to));
        done.map_err(tell)
    }

    fn rename_over(&mut self, from: &[u8], to: &[u8]) -> Result<()> {
        self.needs(EXTENSION_RENAME)?;
        let tell = self.to_tell(&format!("rename {} to", display(from)), to);
        let request = Request::Extended { name: EXTENSION_RENAME, strings: &[from, to] };
        self.done(&request, |tree| tree.why_not_replaced(from, to)).map_err(tell)
    }

    fn link(&mut self, from: &[u8], to: &[u8]) -> Result<()> {
        self.needs(EXTENSION_LINK)?;
        let request = Request::Extended { name: EXTENSION_LINK, strings: &[from, to] };
        let tell = self.to_tell("make", to);
        self.done(&request, |tree| tree.why_not_renamed(from, to)).map_err(tell)
    }

    fn make_symlink(&mut self, path: &[u8], to: &[u8]) -> Result<()> {
        self.needs_links()?;
        let tell = self.to_tell("make the link", path);
        let done = self.done(&Request::MakeLink { to, path }, |tree| tree.why_not_made(path));
        done.map_err(tell)
    }

    fn make_folder(&mut self, path: &[u8]) -> Result<()> {
        let tell = self.to_tell("make the folder", path);
        let done = self.done(&Request::MakeFolder { path }, |tree| tree.why_not_made(path));
        done.map_err(tell)
    }

    fn remove_folder(&mut self, path: &[u8]) -> Result<()> {
        let tell = self.to_tell("remove the folder", path);
        match self.done(&Request::RemoveFolder { path }, |tree| tree.why_missing(path)) {
            // OpenSSH says so of a file, too.
            Err(e) if e.kind() == ErrorKind::NotFound => match self.exists(path) {
                Ok(false) => Ok(()),
                Ok(true) => {
                    let message = "it is no folder";
                    Err(tell(Error::new(ErrorKind::InvalidInput, message)))
                }
                Err(error) => Err(tell(error)),
            },
            done => done.map_err(tell),
        }
    }

    fn remove(&mut self, path: &[u8]) -> Result<()> {
        let tell = self.to_tell("remove", path);
        match self.done(&Request::Remove { path }, |tree| tree.why_missing(path)) {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
            done => done.map_err(tell),
        }
    }

    fn set_time(&mut self, path: &[u8], time: Timestamp) -> Result<()> {
        let tell = self.to_tell("set the time of", path);
        let Ok(seconds) = u32::try_from(time.seconds()) else {
            let message = "SFTP knows no time before 1970 or after 2106";
            return Err(tell(Error::new(ErrorKind::Unsupported, message)));
        };
        let times = Some((seconds, seconds));
        self.set(path, Attributes { times, ..Attributes::default() }, true).map_err(tell)
    }

    fn set_mode(&mut self, path: &[u8], mode: u32) -> Result<()> {
        let tell = self.to_tell("set the mode of", path);
        let mode = Some(mode & 0o7777);
        self.set(path, Attributes { mode, ..Attributes::default() }, false).map_err(tell)
    }

    fn set_owner(&mut self, path: &[u8], owner: (u32, u32)) -> Result<()> {
        let tell = self.to_tell("set the owner of", path);
        let owner = Some(owner);
        self.set(path, Attributes { owner, ..Attributes::default() }, true).map_err(tell)
    }

    fn keep_alive(&mut self) -> Result<()> {
        // What it answers is of no interest, only that it does.
        self.session.ask(&Request::RealPath { path: b"." }).map(|_| ())
    }
}
