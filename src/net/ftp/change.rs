//! Changes: names, folders, times and rights. And the session as others see it.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::metadata::Kind;
use crate::base::time::Timestamp;
use crate::net::files::Abilities;
use crate::net::files::Files;
use crate::net::files::Found;
use crate::net::files::Look;
use crate::net::files::Manner;
use crate::net::files::Marked;
use crate::net::files::Marks;
use crate::net::files::Proof;
use crate::net::ftp::control::Command;
use crate::net::ftp::control::sayable;
use crate::net::ftp::facts::LINK;
use crate::net::ftp::facts::time_text;
use crate::net::ftp::learn::ListBy;
use crate::net::ftp::learn::split;
use crate::net::ftp::learn::time_of;
use crate::net::ftp::reply::Cause;
use crate::net::ftp::reply::Reply;
use crate::net::ftp::session::Session;
use crate::net::ftp::session::Transfer;
use crate::net::ftp::write::chmod_argument;

impl Session {
    fn move_to(&mut self, from: &[u8], to: &[u8]) -> Result<()> {
        self.settle()?;
        sayable(to)?;
        self.learn_doubling(to)?;
        let commands = [Command::new("RNFR", from), Command::new("RNTO", to)];
        let replies = self.control.ask_all(&commands)?;
        let [first, second] = replies.as_slice() else {
            return Err(Error::bug("a command has no reply"));
        };
        if first.code != 350 {
            return Err(self.refused_file(from, first));
        }
        if second.is_done() {
            return self.confirm_name(to);
        }
        Err(self.refused_name(to, second))
    }

    /// Makes the error of a new name that is not given: taken, or as [`Session::refused_new`].
    fn refused_name(&mut self, path: &[u8], reply: &Reply) -> Error {
        if matches!(reply.code, 421 | 425 | 426) || reply.is_unknown() {
            return reply.refusal();
        }
        // Another look costs a round trip, and is of use only where the words leave it open.
        match reply.cause() {
            Some(Cause::Missing | Cause::NotFolder | Cause::Full) => {
                return self.refused_new(path, reply);
            }
            Some(Cause::NotEmpty | Cause::Exists) => {
                return Error::new(ErrorKind::AlreadyExists, reply.said());
            }
            Some(Cause::Denied | Cause::IsFolder) | None => {}
        }
        match self.look(path) {
            Ok(Some(_)) => Error::new(ErrorKind::AlreadyExists, reply.said()),
            Err(e) if e.kind() == ErrorKind::Unreachable => e,
            _ => self.refused_new(path, reply),
        }
    }

    /// Makes the error of something that is not made: no folder for it, or as the server says.
    pub(crate) fn refused_new(&mut self, path: &[u8], reply: &Reply) -> Error {
        if reply.cause() == Some(Cause::NotFolder) {
            return Error::new(ErrorKind::NotFound, reply.said());
        }
        if reply.cause().is_some() || !matches!(reply.code, 450 | 451 | 550 | 553) {
            return reply.refusal();
        }
        match self.look(split(path).0) {
            Ok(None) => Error::new(ErrorKind::NotFound, reply.said()),
            Ok(Some(look)) if look.kind == Kind::File => {
                Error::new(ErrorKind::NotFound, reply.said())
            }
            Ok(Some(_)) => reply.refusal(),
            Err(e) => e,
        }
    }

    fn make(&mut self, path: &[u8]) -> Result<()> {
        self.settle()?;
        let reply = self.ask("MKD", path)?;
        if reply.is_done() {
            return self.confirm_name(path);
        }
        Err(self.refused_name(path, &reply))
    }

    fn remove_by(&mut self, verb: &str, path: &[u8]) -> Result<()> {
        self.settle()?;
        let reply = self.ask(verb, path)?;
        if reply.is_done() {
            return Ok(());
        }
        let is_open = match reply.cause() {
            Some(Cause::Missing) if verb == "DELE" => return Ok(()),
            Some(Cause::Missing | Cause::NotFolder) | None => !reply.is_unknown(),
            Some(_) => false,
        };
        if !is_open {
            return Err(reply.refusal());
        }
        match self.look(path)? {
            None => Ok(()),
            Some(_) => Err(reply.refusal()),
        }
    }

    pub(crate) fn set_time_of(&mut self, path: &[u8], time: Timestamp) -> Result<()> {
        self.settle()?;
        let Some(text) = time_text(time) else {
            return Err(Error::new(ErrorKind::Unsupported, "FTP has no such year"));
        };
        while let Some(&by) = self.learned.time_by.first() {
            let (verb, argument) = by.command(&text, path);
            let reply = self.ask(verb, &argument)?;
            if reply.is_done() && self.is_set(path, time)? {
                self.learned.time_is_proven = true;
                return Ok(());
            }
            if !reply.is_done() && !reply.is_unknown() {
                match self.look(path)? {
                    None => return Err(Error::new(ErrorKind::NotFound, reply.said())),
                    // Some set times of files only.
                    Some(look) if look.kind != Kind::File => {
                        return Err(Error::new(ErrorKind::Unsupported, reply.said()));
                    }
                    Some(_) if self.learned.time_is_proven => return Err(reply.refusal()),
                    Some(_) => {}
                }
            }
            self.learned.time_by.remove(0);
            self.learned.time_is_proven = false;
        }
        Err(Error::new(ErrorKind::Unsupported, "the server sets no times"))
    }

    /// Says whether a time was set, where that was not seen before: MDTM is a question to most
    /// servers, and what SITE does differs.
    fn is_set(&mut self, path: &[u8], time: Timestamp) -> Result<bool> {
        if self.learned.time_is_proven {
            return Ok(true);
        }
        let told = time_of(&self.ask("MDTM", path)?);
        Ok(told.is_some_and(|told| told.seconds() == time.seconds()))
    }

    pub(crate) fn set_mode_of(&mut self, path: &[u8], mode: u32) -> Result<()> {
        self.settle()?;
        if !self.learned.sets_mode {
            return Err(no_permissions());
        }
        let reply = self.ask("SITE", &chmod_argument(path, mode))?;
        self.mode_set(path, &reply)
    }

    /// Reads the answer to a mode that was to be set.
    pub(crate) fn mode_set(&mut self, path: &[u8], reply: &Reply) -> Result<()> {
        if reply.is_done() {
            return Ok(());
        }
        if reply.is_unknown() {
            self.learned.sets_mode = false;
            return Err(no_permissions());
        }
        Err(self.refused_file(path, reply))
    }
}

fn no_permissions() -> Error {
    Error::new(ErrorKind::Unsupported, "the server sets no permissions")
}

fn unsupported(what: &str) -> Error {
    Error::new(ErrorKind::Unsupported, format!("FTP has no way to {what}"))
}

impl Files for Session {
    fn abilities(&self) -> Abilities {
        Abilities {
            // All servers that were looked at replace; one may be told not to.
            replace: true,
            link: false,
            rename_refuses: false,
            rename_folder_refuses: true,
            sync: false,
            set_time: !self.learned.time_by.is_empty(),
            set_mode: self.learned.sets_mode,
            set_owner: false,
            symlinks: false,
        }
    }

    fn reads_links(&self) -> bool {
        self.features.shows(LINK)
    }

    fn manner(&self) -> Manner {
        let lists_by = match self.learned.list_by {
            ListBy::Mlsd => "MLSD",
            ListBy::ListAll => "LIST -a",
            ListBy::List => "LIST",
        };
        Manner { lists_by, security: self.control.security() }
    }

    fn list(&mut self, folder: &[u8], visit: &mut dyn FnMut(Found) -> Result<()>) -> Result<()> {
        self.about("list", folder, |session, folder| session.list_all(folder, visit))
    }

    fn look_at(&mut self, path: &[u8]) -> Result<Option<Look>> {
        self.about("look at", path, Session::look)
    }

    fn read_link(&mut self, path: &[u8]) -> Result<Vec<u8>> {
        self.about("read the link", path, Session::link_at)
    }

    fn open(&mut self, path: &[u8], offset: u64) -> Result<()> {
        self.about("read", path, |session, path| session.open_at(path, offset))
    }

    fn expect_size(&mut self, size: u64) {
        self.expected = Some(size);
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let path = self.open_path();
        self.about("read", &path, |session, _| session.read_from(offset, buffer))
    }

    fn close(&mut self) -> Result<()> {
        let path = self.open_path();
        self.about("close", &path, |session, _| session.settle())
    }

    fn create(&mut self, path: &[u8]) -> Result<()> {
        self.about("write", path, Session::create_at)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let path = self.open_path();
        self.about("write", &path, |session, _| session.append(bytes))
    }

    fn finish(&mut self) -> Result<()> {
        let path = self.open_path();
        self.about("write", &path, |session, _| session.finish_writing())
    }

    fn finish_with(&mut self, path: &[u8], marks: Marks, proof: Proof) -> Result<Marked> {
        self.about("write", path, |session, _| session.finish_marked(marks, proof))
    }

    fn rename(&mut self, from: &[u8], to: &[u8]) -> Result<()> {
        self.about("rename to", to, |session, to| {
            let from = session.absolute(from);
            sayable(&from)?;
            session.learn_doubling(&from)?;
            session.move_to(&from, to)
        })
    }

    fn rename_over(&mut self, from: &[u8], to: &[u8]) -> Result<()> {
        self.rename(from, to).map_err(|e| match e.kind() {
            ErrorKind::AlreadyExists => {
                let message = "the server does not rename over what is there";
                Error::new(ErrorKind::Unsupported, message).caused_by(e)
            }
            _ => e,
        })
    }

    fn link(&mut self, _: &[u8], to: &[u8]) -> Result<()> {
        self.about("link", to, |_, _| Err(unsupported("give a file a second name")))
    }

    fn make_symlink(&mut self, path: &[u8], _: &[u8]) -> Result<()> {
        self.about("link", path, |_, _| Err(unsupported("make a symbolic link")))
    }

    fn make_folder(&mut self, path: &[u8]) -> Result<()> {
        self.about("make folder", path, Session::make)
    }

    fn remove_folder(&mut self, path: &[u8]) -> Result<()> {
        self.about("remove folder", path, |session, path| session.remove_by("RMD", path))
    }

    fn remove(&mut self, path: &[u8]) -> Result<()> {
        self.about("remove", path, |session, path| session.remove_by("DELE", path))
    }

    fn set_time(&mut self, path: &[u8], time: Timestamp) -> Result<()> {
        self.about("set the time of", path, |session, path| session.set_time_of(path, time))
    }

    fn set_mode(&mut self, path: &[u8], mode: u32) -> Result<()> {
        self.about("set the mode of", path, |session, path| session.set_mode_of(path, mode))
    }

    fn set_owner(&mut self, path: &[u8], _: (u32, u32)) -> Result<()> {
        self.about("set the owner of", path, |_, _| Err(unsupported("set an owner")))
    }

    fn keep_alive(&mut self) -> Result<()> {
        self.about("keep up the session in", b"", |session, _| {
            // A transfer shows by itself that the session is used.
            if !matches!(session.transfer, Transfer::None) {
                return Ok(());
            }
            session.ask("NOOP", b"").map(|_| ())
        })
    }
}
