//! A server of files that is a local folder, with the ways of real servers as switches, and with
//! connections that can be cut at any call.

use crate::support::ways::Ways;
use crate::support::ways::failed;
use crate::support::ways::in_a_line;
use crate::support::ways::kind_of;
use crate::support::ways::refused;
use icecore::base::error::Error;
use icecore::base::error::ErrorKind;
use icecore::base::error::Result;
use icecore::base::metadata::Kind;
use icecore::base::time::Timestamp;
use icecore::net::files::Abilities;
use icecore::net::files::Connect;
use icecore::net::files::Files;
use icecore::net::files::Found;
use icecore::net::files::Look;
use icecore::net::files::Marked;
use icecore::net::files::Marks;
use icecore::net::files::Modified;
use icecore::net::files::Precision;
use icecore::net::files::Proof;
use std::ffi::OsStr;
use std::fs::File;
use std::io::ErrorKind as Io;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;

/// Where the connection breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Before this call is done, counted from 1.
    Before(u64),
    /// After it is done: the reply is lost.
    After(u64),
}

/// What a server remembers.
#[derive(Default)]
struct State {
    calls: Vec<String>,
    cut: Option<Cut>,
    /// A call that is refused.
    refused: Option<String>,
    /// A file of which only the first half stays, so many times, and nobody says so.
    halved: Option<(Vec<u8>, usize)>,
    /// From this call on nothing is answered any more.
    dies_at: Option<u64>,
    /// From this call on there is no room for what is written.
    full_from: Option<u64>,
    /// Sessions that were opened before the last hang-up are dead.
    era: u64,
    open: usize,
    opened: usize,
    most_open: usize,
}

/// The server.
pub(crate) struct Server {
    root: PathBuf,
    ways: Ways,
    state: Mutex<State>,
}

/// One session with it.
struct Session {
    server: Arc<Server>,
    era: u64,
    is_dead: bool,
    reading: Option<File>,
    writing: Option<(File, u64, PathBuf)>,
}

/// Makes it a [`Connect`].
pub(crate) struct Door(pub(crate) Arc<Server>);

impl Server {
    pub(crate) fn new(root: &Path, ways: Ways) -> Arc<Self> {
        Arc::new(Server { root: root.to_owned(), ways, state: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Counts calls from 1 again, and breaks the connection at one of them.
    pub(crate) fn cut(&self, cut: Option<Cut>) {
        let mut state = self.lock();
        state.calls.clear();
        state.cut = cut;
    }

    /// Answers nothing from this call on, though it lets sessions in.
    pub(crate) fn die_at(&self, call: u64) {
        self.lock().dies_at = Some(call);
    }

    /// Has no room for what is written from this call on.
    pub(crate) fn fill_from(&self, call: u64) {
        self.lock().full_from = Some(call);
    }

    /// Refuses a call, written as in [`Server::calls`].
    pub(crate) fn refuse(&self, call: &str) {
        self.lock().refused = Some(call.to_owned());
    }

    /// Keeps only the first half of a file, so many times, and says that all is well.
    pub(crate) fn halve(&self, path: &str, times: usize) {
        self.lock().halved = Some((path.as_bytes().to_vec(), times));
    }

    /// Hangs up on everybody.
    pub(crate) fn hang_up(&self) {
        self.lock().era += 1;
    }

    /// Returns what was asked since the calls were counted anew.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.lock().calls.clone()
    }

    /// Returns how many sessions were opened, and how many at a time at most.
    pub(crate) fn sessions(&self) -> (usize, usize) {
        let state = self.lock();
        (state.opened, state.most_open)
    }

    fn place(&self, path: &[u8]) -> PathBuf {
        self.ways.place(&self.root, path)
    }
}

impl Connect for Door {
    fn connect(&self) -> Result<Box<dyn Files>> {
        let mut state = self.0.lock();
        if state.open >= self.0.ways.sessions_max {
            return Err(Error::new(ErrorKind::RateLimited, "too many sessions"));
        }
        state.open += 1;
        state.opened += 1;
        state.most_open = state.most_open.max(state.open);
        let era = state.era;
        let server = Arc::clone(&self.0);
        Ok(Box::new(Session { server, era, is_dead: false, reading: None, writing: None }))
    }

    fn shown(&self) -> String {
        "fake://server".to_owned()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.server.lock().open -= 1;
    }
}

fn lost() -> Error {
    Error::new(ErrorKind::Unreachable, "the connection was cut")
}

impl Session {
    /// Does a call, unless the connection is cut before it; the reply may be lost.
    fn call<T>(
        &mut self,
        what: &str,
        path: &[u8],
        work: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        let (is_cut, is_late) = {
            let mut state = self.server.lock();
            state.calls.push(format!("{what} {}", String::from_utf8_lossy(path)));
            if state.calls.last() == state.refused.as_ref() {
                return Err(Error::new(ErrorKind::Denied, "550 no"));
            }
            let number = state.calls.len() as u64;
            let is_full = state.full_from.is_some_and(|from| from <= number);
            if is_full && matches!(what, "create" | "write" | "make_folder") {
                return Err(Error::new(ErrorKind::Full, "452 no space left"));
            }
            let (before, after) = (Some(Cut::Before(number)), Some(Cut::After(number)));
            let is_over = self.is_dead
                || state.dies_at.is_some_and(|at| at <= number)
                || state.era != self.era;
            (is_over || state.cut == before, state.cut == after)
        };
        if is_cut {
            self.is_dead = true;
            // What was being written stays as far as it came.
            if let Some((file, written, _)) = self.writing.take() {
                file.set_len(written / 2).unwrap();
            }
            return Err(lost());
        }
        let done = work(self);
        if is_late {
            self.is_dead = true;
            return Err(lost());
        }
        done
    }

    fn look_of(&self, place: &Path, precision: Precision) -> std::io::Result<Look> {
        let ways = &self.server.ways;
        let metadata = match place.symlink_metadata() {
            Ok(link) if link.is_symlink() && !ways.symlinks => place.metadata()?,
            other => other?,
        };
        let kind = kind_of(metadata.file_type());
        let step = match precision {
            Precision::Second => 1,
            Precision::Minute => 60,
            Precision::Vague => 86_400,
        };
        let time = Timestamp::new(metadata.mtime().div_euclid(step) * step, 0);
        let unique = format!("{}-{}", metadata.dev(), metadata.ino()).into_bytes();
        Ok(Look {
            kind,
            size: (kind == Kind::File).then_some(metadata.len()),
            modified: Some(Modified { time, precision }),
            mode: Some(metadata.mode() & 0o7777),
            owner: None,
            unique: if ways.unique { unique } else { Vec::new() },
        })
    }

    fn rename_as(&mut self, from: &[u8], to: &[u8], replaces: bool) -> Result<()> {
        let (old, new) = (self.server.place(from), self.server.place(to));
        let ways = self.server.ways.clone();
        ways.sweep(&old, &new);
        if old.is_dir() {
            let is_empty = new.is_dir() && new.read_dir().unwrap().next().is_none();
            if new.is_dir() && (!is_empty && !ways.folders_refuse) {
                // Two at once may both find something there to take away.
                let _ = std::fs::remove_dir_all(&new);
            }
            if is_empty && ways.empty_folders_refuse {
                return Err(refused(to));
            }
            return match std::fs::rename(&old, &new) {
                Err(e) if e.kind() == Io::DirectoryNotEmpty => Err(refused(to)),
                other => other.map_err(|e| failed(to, e)),
            };
        }
        if replaces {
            return std::fs::rename(&old, &new).map_err(|e| failed(to, e));
        }
        // As OpenSSH does it.
        std::fs::hard_link(&old, &new).map_err(|e| match e.kind() {
            Io::AlreadyExists => refused(to),
            _ => failed(to, e),
        })?;
        std::fs::remove_file(&old).map_err(|e| failed(from, e))
    }
}

impl Files for Session {
    fn abilities(&self) -> Abilities {
        let ways = &self.server.ways;
        Abilities {
            replace: ways.rename_over,
            link: ways.links,
            rename_refuses: !ways.rename_replaces,
            rename_folder_refuses: true,
            sync: ways.links,
            set_time: true,
            set_mode: true,
            set_owner: ways.links,
            symlinks: ways.symlinks,
        }
    }

    fn reads_links(&self) -> bool {
        self.server.ways.symlinks && !self.server.ways.untold_links
    }

    fn list(&mut self, folder: &[u8], visit: &mut dyn FnMut(Found) -> Result<()>) -> Result<()> {
        self.call("list", folder, |this| {
            let place = this.server.place(folder);
            // In an order that is nobody's.
            let mut entries: Vec<_> =
                place.read_dir().map_err(|e| failed(folder, e))?.map(|it| it.unwrap()).collect();
            entries.sort_by_key(|entry| std::cmp::Reverse(entry.file_name()));
            for it in entries {
                // It may be gone meanwhile, or lead nowhere.
                let Ok(look) = this.look_of(&it.path(), this.server.ways.listed) else { continue };
                visit(Found { name: in_a_line(&it.file_name()), look })?;
            }
            Ok(())
        })
    }

    fn look_at(&mut self, path: &[u8]) -> Result<Option<Look>> {
        self.call("look", path, |this| {
            match this.look_of(&this.server.place(path), Precision::Second) {
                Ok(look) => Ok(Some(look)),
                Err(e) if matches!(e.kind(), Io::NotFound | Io::NotADirectory) => Ok(None),
                Err(e) => Err(failed(path, e)),
            }
        })
    }

    fn read_link(&mut self, path: &[u8]) -> Result<Vec<u8>> {
        self.call("read_link", path, |this| {
            if !this.server.ways.symlinks {
                return Err(Error::new(ErrorKind::Unsupported, "no links here"));
            }
            let target = std::fs::read_link(this.server.place(path));
            Ok(target.map_err(|e| failed(path, e))?.into_os_string().into_vec())
        })
    }

    fn open(&mut self, path: &[u8], offset: u64) -> Result<()> {
        self.call("open", path, |this| {
            this.reading = None;
            let file = File::open(this.server.place(path)).map_err(|e| failed(path, e))?;
            let metadata = file.metadata().unwrap();
            if metadata.is_dir() || offset > metadata.len() {
                return Err(refused(path));
            }
            this.reading = Some(file);
            Ok(())
        })
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        self.call("read", b"", |this| {
            let file = this.reading.as_ref().expect("a file is open");
            let mut filled = 0;
            while filled < buffer.len() {
                match file.read_at(&mut buffer[filled..], offset + filled as u64) {
                    Ok(0) => break,
                    Ok(got) => filled += got,
                    Err(e) => return Err(failed(b"", e)),
                }
            }
            Ok(filled)
        })
    }

    fn close(&mut self) -> Result<()> {
        self.reading = None;
        Ok(())
    }

    fn create(&mut self, path: &[u8]) -> Result<()> {
        self.call("create", path, |this| {
            let place = this.server.place(path);
            let file = File::create(&place).map_err(|e| failed(path, e))?;
            this.writing = Some((file, 0, place));
            Ok(())
        })
    }

    fn create_new(&mut self, path: &[u8]) -> Result<()> {
        self.server.ways.refuse_taken(&self.server.place(path))?;
        self.create(path)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.call("write", b"", |this| {
            let (file, written, _) = this.writing.as_mut().expect("a file is open");
            file.write_all(bytes).map_err(|e| failed(b"", e))?;
            *written += bytes.len() as u64;
            Ok(())
        })
    }

    fn finish(&mut self) -> Result<()> {
        self.call("finish", b"", |this| {
            let (_, written, place) = this.writing.take().expect("a file is open");
            let size = place.metadata().map_err(|e| failed(b"", e))?.len();
            if size == written { Ok(()) } else { Err(refused(b"another size")) }
        })
    }

    fn finish_with(&mut self, path: &[u8], marks: Marks, proof: Proof) -> Result<Marked> {
        let is_proven = !(self.server.ways.proves_later && proof == Proof::Later);
        let halved = match &mut self.server.lock().halved {
            Some((halved, times)) if halved == path && *times > 0 => {
                *times -= 1;
                true
            }
            _ => false,
        };
        if let Some((file, written, _)) = self.writing.as_ref().filter(|_| halved) {
            file.set_len(written / 2).unwrap();
        }
        match is_proven {
            true => self.finish()?,
            false => self.call("close", b"", |_| Ok(()))?,
        }
        self.writing = None;
        let mode = self.set_mode(path, marks.mode);
        let time = self.set_time(path, marks.time);
        match (mode, time) {
            (Err(e), _) | (_, Err(e)) if e.kind() == ErrorKind::Unreachable => Err(e),
            (mode, time) => Ok(Marked { is_proven, mode, time }),
        }
    }

    fn rename(&mut self, from: &[u8], to: &[u8]) -> Result<()> {
        self.call("rename", to, |this| {
            let replaces = this.server.ways.rename_replaces;
            this.rename_as(from, to, replaces)
        })
    }

    fn rename_over(&mut self, from: &[u8], to: &[u8]) -> Result<()> {
        self.call("rename_over", to, |this| {
            if !this.server.ways.rename_over {
                return Err(Error::new(ErrorKind::Unsupported, "no such rename"));
            }
            this.rename_as(from, to, true)
        })
    }

    fn link(&mut self, from: &[u8], to: &[u8]) -> Result<()> {
        self.call("link", to, |this| {
            if !this.server.ways.links {
                return Err(Error::new(ErrorKind::Unsupported, "no links here"));
            }
            let (old, new) = (this.server.place(from), this.server.place(to));
            std::fs::hard_link(old, new).map_err(|e| failed(to, e))
        })
    }

    fn make_symlink(&mut self, path: &[u8], to: &[u8]) -> Result<()> {
        self.call("make_symlink", path, |this| {
            let made = std::os::unix::fs::symlink(OsStr::from_bytes(to), this.server.place(path));
            made.map_err(|e| failed(path, e))
        })
    }

    fn make_folder(&mut self, path: &[u8]) -> Result<()> {
        self.call("make_folder", path, |this| {
            std::fs::create_dir(this.server.place(path)).map_err(|e| failed(path, e))
        })
    }

    fn remove_folder(&mut self, path: &[u8]) -> Result<()> {
        self.call("remove_folder", path, |this| {
            match std::fs::remove_dir(this.server.place(path)) {
                Err(e) if e.kind() == Io::NotFound => Ok(()),
                other => other.map_err(|e| failed(path, e)),
            }
        })
    }

    fn remove(&mut self, path: &[u8]) -> Result<()> {
        self.call("remove", path, |this| match std::fs::remove_file(this.server.place(path)) {
            Err(e) if matches!(e.kind(), Io::NotFound | Io::NotADirectory) => Ok(()),
            other => other.map_err(|e| failed(path, e)),
        })
    }

    fn set_time(&mut self, path: &[u8], time: Timestamp) -> Result<()> {
        self.call("set_time", path, |this| {
            let seconds = u64::try_from(time.seconds().max(0)).unwrap_or(0);
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
            let file = File::open(this.server.place(path)).map_err(|e| failed(path, e))?;
            file.set_modified(time).map_err(|e| failed(path, e))
        })
    }

    fn set_mode(&mut self, path: &[u8], mode: u32) -> Result<()> {
        self.call("set_mode", path, |this| {
            let mode = std::fs::Permissions::from_mode(mode);
            let place = this.server.place(path);
            std::fs::set_permissions(place, mode).map_err(|e| failed(path, e))
        })
    }

    fn set_owner(&mut self, path: &[u8], (user, group): (u32, u32)) -> Result<()> {
        self.call("set_owner", path, |this| {
            let place = this.server.place(path);
            std::os::unix::fs::chown(place, Some(user), Some(group)).map_err(|e| failed(path, e))
        })
    }

    fn keep_alive(&mut self) -> Result<()> {
        self.call("keep_alive", b"", |_| Ok(()))
    }
}
