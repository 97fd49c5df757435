//! A bucket of an S3-compatible store, or what begins with a prefix in it.
//!
//! ```text
//!   <prefix>/<key>                  objects
//!   <prefix>/tmp/class              what was found out of the store when the repository was made
//!   <prefix>/tmp/probe-<random>     what a probe left that died; swept after a day
//! ```
//!
//! Whether the store knows an atomic create is found out when a repository is made, and kept: see
//! `class`.
//!
//! A bucket shows what it has stored, so there is nothing to settle. No key is the folder of
//! another one, as one store (MinIO) hides what lies below an object from its listings.

use crate::backend::Backend;
use crate::backend::Capabilities;
use crate::backend::Durability;
use crate::backend::KEYS;
use crate::backend::Listed;
use crate::backend::ObjectInfo;
use crate::backend::foreign::is_of_a_system;
use crate::backend::key::FolderKey;
use crate::backend::key::ObjectKey;
use crate::backend::s3::class::Class;
use crate::backend::wrap::sleeper::Sleeper;
use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::limits::S3_CONFLICTS_MAX;
use crate::base::limits::S3_EMPTY_PAGES_MAX;
use crate::base::limits::S3_FOLDER_ROWS_MAX;
use crate::base::limits::S3_LISTS_MAX;
use crate::base::limits::S3_PUT_BYTES_MAX;
use crate::base::path::display;
use crate::base::time::Clock;
use crate::net::s3::client::Client;
use crate::net::s3::client::Counts;
use crate::net::s3::client::Options;
use crate::net::s3::client::Refused;
use crate::net::s3::listing::Depth;
use crate::net::s3::listing::Row;
use crate::net::s3::objects::Beside;
use crate::net::s3::upload::Taken;
use crate::net::s3::xml::Object;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

mod class;

/// Requests at a time that a store makes use of.
const PARALLEL: usize = 16;
/// Packs on their way at a time: each waits for a round trip, and takes its own memory.
const UPLOADS: usize = 4;
/// Where probes are put; nothing below it is an object.
const TEMPORARY: &str = "tmp";
/// What died is left alone for so long, by the store's own clock.
const SWEEP_SECONDS: i64 = 24 * 3600;
/// The wait before a conditional put that met another one is begun again.
const CONFLICT_WAIT: Duration = Duration::from_millis(50);

/// A bucket as a place for objects.
#[derive(Clone, Debug)]
pub struct S3Options {
    /// The bucket, and how it is reached.
    pub bucket: Options,
    /// What all keys begin with; empty for the whole bucket.
    pub prefix: String,
    /// Whether the store has an atomic create, where that is known; else it is tried.
    pub atomic_create: Option<bool>,
}

/// Objects in a bucket.
#[derive(Debug)]
pub struct S3Backend {
    client: Client,
    /// Empty, or with a slash at its end.
    prefix: String,
    class: Class,
    /// Whether the store was seen to do what its class says.
    is_proven: AtomicBool,
}

impl S3Backend {
    /// Opens a bucket that is there.
    ///
    /// # Errors
    /// `NoRepository` without the bucket; `Denied`; `InvalidInput` for a wrong region.
    pub fn open(
        options: &S3Options,
        clock: Arc<dyn Clock>,
        sleeper: Arc<dyn Sleeper>,
    ) -> Result<Self> {
        let wait = Arc::new(move |time| sleeper.sleep(time));
        let client = Client::new(&options.bucket, clock, wait).map_err(at_repository)?;
        let prefix = options.prefix.trim_matches('/');
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        let known = options.atomic_create;
        let class = if known == Some(true) { Class::Atomic } else { Class::Plain };
        let is_proven = AtomicBool::new(known.is_some());
        let mut backend = S3Backend { client, prefix, class, is_proven };
        if known.is_some() {
            return Ok(backend);
        }
        if let Some(class) = backend.marked().map_err(at_repository)? {
            backend.class = class;
            return Ok(backend);
        }
        // A store may make a bucket for whoever puts something there.
        if !backend.client.has_bucket().map_err(at_repository)? {
            return Err(backend.no_bucket());
        }
        backend.class = backend.probe().map_err(at_repository)?;
        backend.is_proven = AtomicBool::new(true);
        Ok(backend)
    }

    /// Makes the bucket where it is missing, opens it, and leaves a mark there of what its store
    /// can do.
    ///
    /// # Errors
    /// Those of [`S3Backend::open`]; `Denied` where the key may not make buckets.
    pub fn create(
        options: &S3Options,
        clock: Arc<dyn Clock>,
        sleeper: Arc<dyn Sleeper>,
    ) -> Result<Self> {
        let known = S3Options { atomic_create: Some(false), ..options.clone() };
        let bucket = S3Backend::open(&known, Arc::clone(&clock), Arc::clone(&sleeper))?;
        if !bucket.client.has_bucket().map_err(at_repository)? {
            bucket.client.create_bucket().map_err(at_repository)?;
        }
        let backend = S3Backend::open(options, clock, sleeper)?;
        if options.atomic_create.is_none() {
            backend.leave_mark().map_err(at_repository)?;
        }
        Ok(backend)
    }

    fn no_bucket(&self) -> Error {
        let message = format!("there is no bucket {}", self.client.bucket());
        Error::new(ErrorKind::NoRepository, message)
            .hint("`icecore init` makes it; or is its name wrong, or the endpoint?")
            .at(Origin::Repository)
    }

    /// Returns what was asked of the store so far.
    pub fn counts(&self) -> Counts {
        self.client.counts()
    }

    fn place(&self, key: &ObjectKey) -> Result<String> {
        if is_temporary(key.as_str()) {
            return Err(Error::invalid(format!("{key} cannot be a key in {}", self.location())));
        }
        Ok(format!("{}{key}", self.prefix))
    }

    fn place_to_write(&self, key: &ObjectKey) -> Result<String> {
        if self.class == Class::ReadOnly {
            let message = format!("cannot write to {}: its store refuses it", self.location());
            return Err(
                Error::new(ErrorKind::Denied, message).hint("the key may read and not write")
            );
        }
        self.place(key)
    }

    fn store(&self, place: &str, bytes: &[u8]) -> Result<()> {
        if bytes.len() <= S3_PUT_BYTES_MAX {
            return self.client.put(place, bytes, &Beside::default());
        }
        match self.client.put_in_parts(place, bytes, Taken::Replace) {
            // The answer may be lost of a completion that was one.
            Err(refused) if refused.is_doubtful && self.has(place, bytes)? == Some(true) => Ok(()),
            other => other.map_err(Refused::into_error),
        }
    }

    fn store_new(&self, place: &str, bytes: &[u8]) -> Result<()> {
        let mut tries = 1;
        loop {
            // However large, by one request: of uploads in parts SeaweedFS lets several win.
            let outcome = self.client.put_new(place, bytes);
            let Err(Refused { error, is_doubtful, .. }) = outcome else { return Ok(()) };
            let is_conflict = error.kind() == ErrorKind::Busy;
            if !is_conflict && !is_doubtful {
                return Err(error);
            }
            // What cannot be looked at now stays in doubt.
            match self.has(place, bytes) {
                Ok(Some(true)) => return Ok(()),
                Ok(Some(false)) => {
                    let message = format!("cannot store {place}: there is one already");
                    return Err(Error::new(ErrorKind::AlreadyExists, message));
                }
                Ok(None) if is_conflict && tries < S3_CONFLICTS_MAX => tries += 1,
                Ok(None) | Err(_) if is_conflict => {
                    let message = format!("cannot store {place}: others are at it all the time");
                    return Err(Error::new(ErrorKind::RateLimited, message).caused_by(error));
                }
                Ok(None) | Err(_) => return Err(error.after_a_lost_answer()),
            }
            self.client.wait(CONFLICT_WAIT)?;
        }
    }

    /// Says whether these bytes are what is at a place; None when nothing is.
    fn has(&self, place: &str, bytes: &[u8]) -> Result<Option<bool>> {
        match self.client.get(place, bytes.len()) {
            Ok(there) => Ok(Some(there == bytes)),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) if e.kind() == ErrorKind::Corrupt => Ok(Some(false)),
            Err(e) => Err(e),
        }
    }

    fn stretch(&self, key: &ObjectKey, range: Range<u64>) -> Result<Vec<u8>> {
        let ends_early = || {
            let shown = self.client.shown(&format!("{}{key}", self.prefix));
            Error::corrupt(format!("cannot read {shown}: it ends before {}", range.end))
        };
        if range.start > range.end {
            let message = format!("cannot read {key}: the stretch is reversed");
            return Err(Error::invalid(message));
        }
        let place = self.place(key)?;
        // Nothing cannot be asked for, and numbers beyond what is signed are misread.
        if range.is_empty() || i64::try_from(range.end).is_err() {
            let head = self.client.head(&place, None)?;
            let head = head.ok_or_else(|| {
                let shown = self.client.shown(&place);
                Error::new(ErrorKind::NotFound, format!("cannot read {shown}: it is not there"))
            })?;
            return if range.end <= head.size { Ok(Vec::new()) } else { Err(ends_early()) };
        }
        let bytes = self.client.get_range(&place, None, range.clone())?;
        if bytes.len() as u64 == range.end - range.start { Ok(bytes) } else { Err(ends_early()) }
    }

    /// Makes a row of a listing; none for what has no good key.
    fn row(&self, folder: &FolderKey, prefix: &str, row: Row) -> Option<Listed> {
        match row {
            Row::Folder(text) => {
                let name = text.strip_prefix(prefix)?.strip_suffix('/')?;
                // Nothing is no name: it would be the folder itself, and again for ever.
                if name.is_empty() {
                    return None;
                }
                let below = folder.folder(name).ok()?;
                (!is_temporary(below.as_str())).then_some(Listed::Folder(below))
            }
            Row::Object(object) => {
                let name = object.key.strip_prefix(prefix)?;
                let key =
                    if name.contains('/') { return None } else { folder.object(name).ok()? };
                let (size, modified) = (Some(object.size), object.modified);
                (!is_temporary(key.as_str())).then_some(Listed::Object(ObjectInfo {
                    key,
                    size,
                    modified,
                }))
            }
        }
    }

    /// Lists a folder.
    fn rows(&self, folder: &FolderKey, prefix: &str) -> Result<Vec<Listed>> {
        self.sensibly(folder, prefix, Depth::Folder, &|row| self.row(folder, prefix, row))
    }

    /// Returns the name of a row of the top that keeps a repository from being made there.
    fn foreign_name(&self, row: Row) -> Option<String> {
        let (Row::Object(Object { key, .. }) | Row::Folder(key)) = row;
        let name = key.strip_prefix(&self.prefix)?;
        let shown = name.strip_suffix('/').unwrap_or(name);
        // The object that stands for the folder itself is nobody's data.
        let may_stand = name.is_empty()
            || (shown != name && [KEYS, TEMPORARY].contains(&shown))
            || is_of_a_system(shown.as_bytes());
        let shown = if shown.is_empty() { name } else { shown };
        (!may_stand).then(|| display(shown.as_bytes()))
    }

    /// Lists what `pick` takes; what makes no sense is asked for again, before it is believed:
    /// `rclone serve s3` shows a key twice for a moment while two put it.
    fn sensibly<T>(
        &self,
        folder: &FolderKey,
        prefix: &str,
        depth: Depth,
        pick: &dyn Fn(Row) -> Option<T>,
    ) -> Result<Vec<T>> {
        let mut tries = 1;
        loop {
            let (mut rows, before) = (Vec::new(), self.client.counts().requests);
            let listed = self.client.list(prefix, depth, &mut |row| {
                if rows.len() >= S3_FOLDER_ROWS_MAX {
                    return Err(Error::corrupt(format!("the list of {folder} does not end")));
                }
                rows.extend(pick(row));
                Ok(())
            });
            let Err(e) = listed else { return Ok(rows) };
            // Not of one that goes in circles, or has no end.
            let pages = self.client.counts().requests - before;
            let is_short = rows.is_empty() && pages < S3_EMPTY_PAGES_MAX as u64;
            if e.kind() != ErrorKind::Corrupt || !is_short || tries == S3_LISTS_MAX {
                return Err(e);
            }
            tries += 1;
            self.client.wait(CONFLICT_WAIT)?;
        }
    }

    fn sweep_uploads(&self) -> Result<u64> {
        let (uploads, now) = match self.client.list_uploads(&self.prefix) {
            Ok(found) => found,
            Err(e) if e.kind() == ErrorKind::Unsupported => return Ok(0),
            Err(e) => return Err(e),
        };
        // Without the store's clock nothing is old.
        let Some(now) = now else { return Ok(0) };
        let mut freed = 0;
        for upload in uploads {
            let is_old = upload.begun.is_some_and(|it| it.plus_seconds(SWEEP_SECONDS) < now);
            let key = upload.key.strip_prefix(&self.prefix).map(ObjectKey::new);
            if is_old && matches!(key, Some(Ok(_))) {
                freed += self.client.upload_bytes(&upload.key, &upload.upload).unwrap_or(0);
                self.client.abort_upload(&upload.key, &upload.upload)?;
            }
        }
        Ok(freed)
    }

    fn sweep_probes(&self) -> Result<u64> {
        let mut probes = Vec::new();
        let prefix = format!("{}{TEMPORARY}/probe-", self.prefix);
        let now = self.client.list(&prefix, Depth::All, &mut |row| {
            if let Row::Object(object) = row {
                probes.push(object);
            }
            Ok(())
        })?;
        let Some(now) = now else { return Ok(0) };
        let mut freed = 0;
        for probe in probes {
            if probe.modified.is_some_and(|it| it.plus_seconds(SWEEP_SECONDS) < now) {
                self.client.delete(&probe.key)?;
                freed += probe.size;
            }
        }
        Ok(freed)
    }
}

impl Backend for S3Backend {
    fn location(&self) -> String {
        self.client.shown(self.prefix.trim_end_matches('/'))
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            atomic_create: self.class == Class::Atomic,
            parallel: PARALLEL,
            uploads: UPLOADS,
            durability: Durability::Whole,
        }
    }

    fn put(&self, key: &ObjectKey, bytes: &[u8]) -> Result<()> {
        let place = self.place_to_write(key).map_err(at_repository)?;
        self.store(&place, bytes).map_err(at_repository)
    }

    fn put_new(&self, key: &ObjectKey, bytes: &[u8]) -> Result<()> {
        let place = self.place_to_write(key).map_err(at_repository)?;
        if self.class != Class::Atomic {
            let message = format!("cannot store {key} once: {} cannot do it", self.location());
            return Err(at_repository(Error::new(ErrorKind::Unsupported, message)));
        }
        self.prove().and_then(|()| self.store_new(&place, bytes)).map_err(at_repository)
    }

    fn get(&self, key: &ObjectKey, bytes_max: usize) -> Result<Vec<u8>> {
        let place = self.place(key);
        place.and_then(|place| self.client.get(&place, bytes_max)).map_err(at_repository)
    }

    fn get_range(&self, key: &ObjectKey, range: Range<u64>) -> Result<Vec<u8>> {
        self.stretch(key, range).map_err(at_repository)
    }

    fn stat(&self, key: &ObjectKey) -> Result<Option<u64>> {
        let head = self.place(key).and_then(|place| self.client.head(&place, None));
        Ok(head.map_err(at_repository)?.map(|head| head.size))
    }

    fn list(&self, folder: &FolderKey, visit: &mut dyn FnMut(Listed) -> Result<()>) -> Result<()> {
        if is_temporary(folder.as_str()) {
            return Ok(());
        }
        let prefix = match folder.as_str() {
            "" => self.prefix.clone(),
            text => format!("{}{text}/", self.prefix),
        };
        let rows = self.rows(folder, &prefix).map_err(at_repository)?;
        rows.into_iter().try_for_each(visit)
    }

    fn lists_deep(&self) -> bool {
        true
    }

    /// By one request for a thousand objects, in whatever folders they are.
    fn list_deep(&self, folder: &FolderKey) -> Result<Vec<ObjectInfo>> {
        let prefix = format!("{}{folder}/", self.prefix);
        let objects = self.sensibly(folder, &prefix, Depth::All, &|row| {
            let Row::Object(object) = row else { return None };
            // What has no good key is nobody's object.
            let key = ObjectKey::new(object.key.strip_prefix(&self.prefix)?).ok()?;
            Some(ObjectInfo { key, size: Some(object.size), modified: object.modified })
        });
        objects.map_err(at_repository)
    }

    /// Of names that are no keys of a repository as well, which its lists leave out.
    fn foreign(&self) -> Result<Option<String>> {
        let mut found = None;
        let listed = self.client.list(&self.prefix, Depth::Folder, &mut |row| {
            found = self.foreign_name(row);
            if found.is_some() { Err(Error::cancelled()) } else { Ok(()) }
        });
        match listed {
            _ if found.is_some() => Ok(found),
            Ok(_) => Ok(None),
            Err(e) if e.kind() == ErrorKind::Corrupt => {
                let pick = |row| self.foreign_name(row);
                let names = self.sensibly(&FolderKey::top(), &self.prefix, Depth::Folder, &pick);
                Ok(names.map_err(at_repository)?.into_iter().next())
            }
            Err(e) => Err(at_repository(e)),
        }
    }

    fn delete(&self, key: &ObjectKey) -> Result<()> {
        let place = self.place_to_write(key).map_err(at_repository)?;
        match self.client.delete(&place) {
            // One store fails where it has nothing but a folder of that name.
            Err(e) if e.kind() == ErrorKind::Unreachable => match self.client.head(&place, None) {
                Ok(None) => Ok(()),
                _ => Err(at_repository(e)),
            },
            other => other.map_err(at_repository),
        }
    }

    fn sweep(&self) -> Result<u64> {
        let uploads = self.sweep_uploads().map_err(at_repository)?;
        Ok(uploads + self.sweep_probes().map_err(at_repository)?)
    }
}

fn is_temporary(key: &str) -> bool {
    key.split('/').next() == Some(TEMPORARY)
}

fn at_repository(e: Error) -> Error {
    e.at(Origin::Repository)
}
