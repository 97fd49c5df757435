//! What stands in a bucket: folders listed, objects looked at, many at a time.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::limits::S3_AT_A_TIME;
use crate::base::limits::S3_FOLDER_ROWS_MAX;
use crate::base::metadata::Kind;
use crate::base::metadata::Metadata;
use crate::base::path::EntryPath;
use crate::base::path::display;
use crate::base::time::Timestamp;
use crate::net::s3::kept::Kept;
use crate::net::s3::listing::Depth;
use crate::net::s3::listing::Row;
use crate::net::s3::objects::Head;
use crate::target::TargetEntry;
use crate::target::at_a_time;
use crate::target::bucket::BucketTarget;
use crate::target::bucket::ORIGIN;
use crate::target::bucket::failed;
use crate::target::bucket::stand::Stand;
use crate::target::bucket::stand::Standing;
use crate::target::bucket::stand::unseen;
use crate::target::known::Names;
use crate::target::known::Word;
use std::cell::Cell;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

/// Waits before a request is made again that the client has given up: a store that starts anew is
/// back by then.
const WAITS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(10)];
/// Objects that are looked at together.
const LOOKS_AHEAD: usize = 64;
/// Keys of a folder that are deleted together: those of a page.
const KEYS_AT_A_TIME: usize = 1000;
/// Keys that are no paths and are remembered by name.
const UNFIT_MAX: usize = 1000;
/// What is told of objects and folders of which no mode is kept.
const MODE_FILE: u32 = 0o644;
const MODE_FOLDER: u32 = 0o755;

/// Says whether a store that took no notice may take some later.
pub(super) fn is_passing(e: &Error) -> bool {
    matches!(e.kind(), ErrorKind::Unreachable | ErrorKind::RateLimited)
}

impl BucketTarget {
    /// Asks what may be asked twice.
    pub(super) fn ask<T>(&self, work: impl Fn() -> Result<T>) -> Result<T> {
        for wait in WAITS {
            match work() {
                Err(e) if is_passing(&e) => self.client.wait(wait)?,
                other => return other,
            }
        }
        work()
    }

    /// Says whether anything is there; fails without the bucket.
    pub(super) fn look_at_root(&self) -> Result<bool> {
        let location = || format!("cannot restore to {}", crate::target::Target::location(self));
        let at_target = |e: Error| e.context(location()).at(ORIGIN);
        // A listing would not tell, as some stores make buckets that are missing.
        if !self.ask(|| self.client.has_bucket()).map_err(at_target)? {
            let message = format!("{}: there is no such bucket", location());
            return Err(Error::invalid(message)
                .hint("is its name right, and the endpoint? A restore makes no buckets")
                .at(ORIGIN));
        }
        let (names, has_more) = self.list_folder(&EntryPath::root()).map_err(at_target)?;
        let is_there = has_more || !names.is_empty();
        self.state().known.learn(b"", names);
        Ok(is_there)
    }

    /// Lists a folder; says also whether it has an object of its own or keys that are no paths.
    fn list_folder(&self, folder: &EntryPath) -> Result<(Names<Stand>, bool)> {
        self.list_telling(folder, &|key| self.leave(key))
    }

    /// Returns the names in a folder that may go, as the store lists them, each with whether it is
    /// a folder. Whoever deletes it tells of the keys that are no paths.
    pub(super) fn list_to_go(&self, folder: &EntryPath) -> Result<Vec<(Vec<u8>, bool)>> {
        let (names, _) = self.list_telling(folder, &|_| {})?;
        Ok(names.into_iter().map(|(name, stand)| (name, stand.is_folder)).collect())
    }

    fn list_telling(
        &self,
        folder: &EntryPath,
        tell_unfit: &dyn Fn(&str),
    ) -> Result<(Names<Stand>, bool)> {
        let prefix = self.folder_key(folder)?;
        self.ask(|| {
            let (mut names, mut has_more) = (Names::new(), false);
            self.client.list(&prefix, Depth::Folder, &mut |row| {
                if names.len() >= S3_FOLDER_ROWS_MAX {
                    return Err(Error::new(ErrorKind::Unsupported, "it has too many names"));
                }
                let (key, object) = match row {
                    Row::Folder(key) => (key, None),
                    Row::Object(object) => {
                        let (size, modified) = (object.size, object.modified);
                        (object.key, Some(Standing { size, modified, head: None }))
                    }
                };
                let name = key.strip_prefix(&prefix).unwrap_or(&key);
                let is_folder = object.is_none();
                let name = if is_folder { name.strip_suffix('/').unwrap_or(name) } else { name };
                if name.is_empty() && !is_folder {
                    has_more = true;
                    return Ok(());
                }
                if folder.join(name.as_bytes()).is_err() {
                    has_more = true;
                    tell_unfit(&key);
                    return Ok(());
                }
                let stand: &mut Stand = names.entry(name.as_bytes().to_vec()).or_default();
                stand.is_folder |= is_folder;
                stand.object = stand.object.take().or(object);
                Ok(())
            })?;
            Ok((names, has_more))
        })
    }

    /// Notes a key that is no path of a file.
    pub(super) fn leave(&self, key: &str) {
        let mut state = self.state();
        if state.unfit.len() < UNFIT_MAX {
            state.unfit.insert(display(key.as_bytes()));
        }
    }

    /// Returns what stands at a path, also what was begun or made and no store shows yet.
    /// `NotFound` where there is no such folder, `AlreadyExists` where something else stands there.
    pub(super) fn look(&self, path: &EntryPath) -> Result<Option<Stand>> {
        if path.is_root() {
            return Ok(Some(Stand::folder()));
        }
        let word = {
            let mut state = self.state();
            if state.made.contains_key(path) {
                return Ok(Some(Stand::folder()));
            }
            if let Some(begun) = state.begun.get(path).map(Arc::clone) {
                drop(state);
                return Ok(Some(Stand::file(begun.content().spool.len())));
            }
            state.known.look(path)
        };
        match word {
            Word::There(stand) => return Ok(Some(stand)),
            Word::Nothing => return Ok(None),
            Word::Alone => return self.look_alone(path),
            Word::Unknown => {}
        }
        self.check_folder_of(path)?;
        let folder = path.parent().unwrap_or_else(EntryPath::root);
        let (names, _) = self.list_folder(&folder)?;
        let stand = names.get(path.name()).cloned();
        self.state().known.learn(folder.as_bytes(), names);
        Ok(stand)
    }

    /// Asks for a path by itself, whose folder is one.
    fn look_alone(&self, path: &EntryPath) -> Result<Option<Stand>> {
        let (key, below) = (self.key(path)?, self.folder_key(path)?);
        if let Some(head) = self.ask(|| self.client.head(&key, None))? {
            let mut stand = Stand::file(head.size);
            stand.saw(&Arc::new(head));
            return Ok(Some(stand));
        }
        let is_folder = Cell::new(false);
        self.ask(|| {
            let listed = self.client.list(&below, Depth::Folder, &mut |_| {
                is_folder.set(true);
                // The first row is enough to know.
                Err(Error::cancelled())
            });
            match listed {
                Err(e) if e.kind() != ErrorKind::Cancelled => Err(e),
                _ => Ok(()),
            }
        })?;
        Ok(is_folder.get().then(Stand::folder))
    }

    /// As [`Self::look`], where nothing can stand in what is no folder.
    pub(super) fn look_or_nothing(&self, path: &EntryPath) -> Result<Option<Stand>> {
        match self.look(path) {
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::AlreadyExists) => {
                Ok(None)
            }
            other => other,
        }
    }

    /// Makes sure that a path's folder is one.
    pub(super) fn check_folder_of(&self, path: &EntryPath) -> Result<()> {
        let Some(folder) = path.parent().filter(|folder| !folder.is_root()) else { return Ok(()) };
        match self.look(&folder)? {
            Some(stand) if stand.is_folder => Ok(()),
            Some(_) => {
                let message = "an object stands where a folder must be";
                Err(Error::new(ErrorKind::AlreadyExists, message))
            }
            None => Err(Error::new(ErrorKind::NotFound, "its folder is missing")),
        }
    }

    /// Looks whether a path is free for something new.
    pub(super) fn make_room(&self, path: &EntryPath) -> Result<()> {
        self.key(path)?;
        let stand = self.look(path).map_err(|e| failed("cannot make", path, e))?;
        let Some(stand) = stand else { return Ok(()) };
        let what = if stand.is_folder { "a folder" } else { "something" };
        let message = format!("cannot make {path}: {what} stands there");
        Err(Error::new(ErrorKind::AlreadyExists, message).at(ORIGIN))
    }

    /// Returns the names in a folder, with what no store shows yet.
    pub(super) fn names(&self, folder: &EntryPath) -> Result<Vec<Vec<u8>>> {
        let known =
            self.state().known.names(folder.as_bytes()).map(|it| it.keys().cloned().collect());
        let mut names: Vec<Vec<u8>> = match known {
            Some(names) => names,
            None => {
                let (names, _) = self.list_folder(folder)?;
                let all = names.keys().cloned().collect();
                self.state().known.learn(folder.as_bytes(), names);
                all
            }
        };
        let state = self.state();
        let is_in = |path: &&EntryPath| !path.is_root() && path.parent_bytes() == folder.as_bytes();
        let more = state.begun.keys().chain(state.made.keys()).filter(is_in);
        names.extend(more.map(|path| path.name().to_vec()));
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    /// Looks at an object that a listing shows, and at those behind it that will be asked for
    /// next. None when it is gone.
    pub(super) fn see(&self, path: &EntryPath, standing: &Standing) -> Result<Option<Arc<Head>>> {
        if let Some(head) = &standing.head {
            return Ok(Some(Arc::clone(head)));
        }
        let names = unseen(&self.state().known, path, LOOKS_AHEAD);
        let folder = path.parent().unwrap_or_else(EntryPath::root);
        let others = names.iter().filter(|name| name[..] != *path.name());
        let others = others.filter_map(|name| folder.join(name).ok());
        let all: Vec<EntryPath> = std::iter::once(path.clone()).chain(others).collect();
        let own: Mutex<Result<Option<Arc<Head>>>> = Mutex::new(Ok(None));
        at_a_time(all.len(), S3_AT_A_TIME, &|number| {
            let at = &all[number];
            let head = self.key(at).and_then(|key| self.ask(|| self.client.head(&key, None)));
            let head = head.map(|head| head.map(Arc::new));
            // Of the others what fails is asked again in its turn.
            if let Ok(Some(head)) = &head {
                self.state().known.change(at, |stand| stand.saw(head));
            }
            if number == 0 {
                *own.lock().unwrap_or_else(PoisonError::into_inner) = head;
            }
        });
        own.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Deletes all that is in a folder, some of it at a time: a folder may hold any number.
    pub(super) fn delete_below(&self, folder: &EntryPath) -> Result<()> {
        let mut before = Vec::new();
        loop {
            let keys = self.ask(|| self.first_keys_below(folder))?;
            if keys.is_empty() {
                return Ok(());
            }
            if keys == before {
                let message = "the store goes on to list what was deleted";
                return Err(Error::new(ErrorKind::Unsupported, message));
            }
            self.delete_all(&keys)?;
            before = keys;
        }
    }

    /// Returns the first keys of what is in a folder, without those that are no paths.
    fn first_keys_below(&self, folder: &EntryPath) -> Result<Vec<String>> {
        let prefix = self.folder_key(folder)?;
        let mut keys = Vec::new();
        let listed = self.client.list(&prefix, Depth::All, &mut |row| {
            let Row::Object(object) = row else { return Ok(()) };
            if keys.len() == KEYS_AT_A_TIME {
                return Err(Error::cancelled());
            }
            let below = object.key.strip_prefix(&self.prefix).unwrap_or_default();
            let below = below.strip_suffix('/').unwrap_or(below);
            match EntryPath::new(below.as_bytes()) {
                Ok(_) if !below.is_empty() => keys.push(object.key),
                _ => self.leave(&object.key),
            }
            Ok(())
        });
        match listed {
            Err(e) if keys.len() < KEYS_AT_A_TIME => Err(e),
            _ => Ok(keys),
        }
    }
}

/// Returns what stands in a bucket as a restore sees it.
pub(super) fn entry_of(stand: &Stand, head: Option<&Head>) -> TargetEntry {
    let plain = |mode: u32, mtime: Timestamp| Metadata { mode, mtime, ..Metadata::default() };
    let Some(object) = stand.as_file() else {
        let metadata = plain(MODE_FOLDER, Timestamp::default());
        return TargetEntry::plain(Kind::Directory, 0, metadata);
    };
    let kept = head.and_then(|head| Kept::read(&head.own));
    match kept.filter(|kept| kept.kind != Kind::Directory) {
        Some(kept) => {
            let size = if kept.kind == Kind::File { object.size } else { 0 };
            let metadata = Metadata { xattrs: Vec::new(), ..kept.metadata };
            TargetEntry::plain(kept.kind, size, metadata)
        }
        None => {
            let modified = head.and_then(|head| head.modified).or(object.modified);
            let metadata = plain(MODE_FILE, modified.unwrap_or_default());
            TargetEntry::plain(Kind::File, object.size, metadata)
        }
    }
}
