//! Versions that go back into a bucket, in the order in which they were.
//!
//! A restore writes as packs come. So what has versions is sent as uploads that are not completed,
//! which nobody sees, and at the end those of each key are completed one after the other, oldest
//! first; `order` looks whether the store shows them so. What is held meanwhile is a name for each
//! version and one for each of its parts. A bucket that keeps no versions gets them as the objects
//! that a folder would have as files. Where a key has versions already, those of the backup are not
//! put between or behind them.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::limits::S3_AT_A_TIME;
use crate::base::metadata::Metadata;
use crate::base::path::EntryPath;
use crate::net::s3::listing::Depth;
use crate::net::s3::listing::VersionRow;
use crate::net::s3::objects::Beside;
use crate::net::s3::upload::Part;
use crate::target::at_a_time;
use crate::target::bucket::BucketTarget;
use crate::target::bucket::content::Content;
use crate::target::bucket::failed;
use crate::target::bucket::order::Put;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::PoisonError;

const SUFFIX: &[u8] = b"@versions";
const VERSION: &[u8] = b"user.s3.version";
const DELETED: &[u8] = b"user.s3.version-deleted";

/// Where an entry belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Under the key of its path.
    Own,
    /// Among the versions of this key: an older one.
    Older(String),
    /// Among the versions of this key: the last.
    Newest(String),
}

/// What is put when its turn comes.
pub(super) enum Held {
    Bytes(Vec<u8>, Beside),
    Parts { upload: String, parts: Vec<Part>, beside: Beside, size: u64 },
    Deletion,
}

/// What is held of one key.
#[derive(Default)]
pub(super) struct History {
    /// By their names, which go in the order of time.
    older: BTreeMap<EntryPath, Held>,
    newest: Option<(EntryPath, Held)>,
}

/// A version that was put, as it is read back.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub(super) key: String,
    pub(super) version: Option<String>,
    pub(super) size: u64,
}

fn has(metadata: &Metadata, name: &[u8]) -> bool {
    metadata.xattrs.iter().any(|xattr| xattr.name == name)
}

/// Says whether an entry is a mark that an object was deleted.
pub(super) fn is_deletion(metadata: &Metadata) -> bool {
    has(metadata, DELETED)
}

/// Returns the path of the object whose versions a folder holds, by its name.
fn object_of(folder: &EntryPath) -> Option<EntryPath> {
    let name = folder.name().strip_suffix(SUFFIX).filter(|name| !name.is_empty())?;
    folder.parent()?.join(name).ok()
}

impl BucketTarget {
    /// Says where an entry belongs.
    pub(super) fn place_of(&self, path: &EntryPath, metadata: &Metadata) -> Result<Place> {
        if !has(metadata, VERSION) {
            return Ok(Place::Own);
        }
        if !self.keeps_versions()? {
            self.state().lost_versions = true;
            return Ok(Place::Own);
        }
        let folder = path.parent().unwrap_or_else(EntryPath::root);
        match object_of(&folder) {
            Some(object) => Ok(Place::Older(self.key(&object)?)),
            None => Ok(Place::Newest(self.key(path)?)),
        }
    }

    /// Says whether the bucket keeps versions, which is asked once.
    fn keeps_versions(&self) -> Result<bool> {
        if let Some(known) = self.state().keeps_versions {
            return Ok(known);
        }
        let keeps = match self.ask(|| self.client.keeps_versions()) {
            // A store that does not know the question keeps none.
            Err(e) if matches!(e.kind(), ErrorKind::Unsupported | ErrorKind::NotFound) => false,
            other => other?,
        };
        self.state().keeps_versions = Some(keeps);
        Ok(keeps)
    }

    /// Notes a folder of versions whose key has some already.
    pub(super) fn look_for_history(&self, folder: &EntryPath) -> Result<()> {
        let Some(object) = object_of(folder) else { return Ok(()) };
        if !self.keeps_versions()? {
            return Ok(());
        }
        let key = self.key(&object)?;
        let has_some = Cell::new(false);
        self.ask(|| {
            let listed = self.client.list_versions(&key, Depth::Folder, &mut |row| {
                // Those of the key itself come first.
                let is_own = matches!(row, VersionRow::Version(it) if it.object.key == key);
                has_some.set(is_own);
                Err(Error::cancelled())
            });
            match listed {
                Err(e) if e.kind() != ErrorKind::Cancelled => Err(e),
                _ => Ok(()),
            }
        })?;
        if has_some.get() {
            self.state().kept_histories.insert(key);
        }
        Ok(())
    }

    /// Says whether an entry is a version of a key that has some already.
    pub(super) fn was_left_out(&self, path: &EntryPath) -> bool {
        let object = path.parent().and_then(|folder| object_of(&folder));
        let key = object.and_then(|object| self.key(&object).ok());
        key.is_some_and(|key| self.state().kept_histories.contains(&key))
    }

    /// Holds what was gathered of a version until its turn comes.
    pub(super) fn hold(
        &self,
        path: &EntryPath,
        place: &Place,
        content: &mut Content,
        metadata: &Metadata,
        beside: &Beside,
    ) -> Result<()> {
        let (key, is_older) = match place {
            Place::Own => return Err(Error::bug("this entry is no version")),
            Place::Older(key) => (key, true),
            Place::Newest(key) => (key, false),
        };
        if is_older && self.state().kept_histories.contains(key) {
            if let Some(upload) = content.take_upload() {
                self.client.abort_upload(key, &upload)?;
            }
            self.show_folder_of(path);
            return Ok(());
        }
        let size = content.spool.len();
        let held = if is_deletion(metadata) {
            Held::Deletion
        } else if size == 0 {
            Held::Bytes(Vec::new(), beside.clone())
        } else {
            let (upload, parts) = self.send_all(key, content, beside)?;
            let _ = content.take_upload();
            Held::Parts { upload, parts, beside: beside.clone(), size }
        };
        self.hold_ready(path, place, held);
        Ok(())
    }

    /// Holds what is ready.
    pub(super) fn hold_ready(&self, path: &EntryPath, place: &Place, held: Held) {
        self.show_folder_of(path);
        let mut state = self.state();
        match place {
            Place::Own => {}
            Place::Older(key) if state.kept_histories.contains(key) => {}
            Place::Older(key) => {
                state.held.entry(key.clone()).or_default().older.insert(path.clone(), held);
            }
            Place::Newest(key) => {
                state.held.entry(key.clone()).or_default().newest = Some((path.clone(), held));
            }
        }
    }

    /// Puts all that is held, the versions of each key one after the other. Returns what failed.
    pub(super) fn put_held(&self) -> Vec<(EntryPath, Error)> {
        let held: Vec<_> = std::mem::take(&mut self.state().held).into_iter().collect();
        let held: Vec<Mutex<Option<(String, History)>>> =
            held.into_iter().map(|it| Mutex::new(Some(it))).collect();
        let trouble = Mutex::new(Vec::new());
        at_a_time(held.len(), S3_AT_A_TIME, &|number| {
            let taken = held[number].lock().unwrap_or_else(PoisonError::into_inner).take();
            let Some((key, history)) = taken else { return };
            let failed = self.put_history(&key, history);
            trouble.lock().unwrap_or_else(PoisonError::into_inner).extend(failed);
        });
        trouble.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts the versions of one key; returns what failed.
    fn put_history(&self, key: &str, history: History) -> Vec<(EntryPath, Error)> {
        let (mut put, mut trouble) = (Vec::new(), Vec::new());
        for (path, held) in history.older.into_iter().chain(history.newest) {
            if let Err(e) = self.put_one(key, &path, held, &mut put) {
                let error = failed("cannot put the version", &path, e);
                trouble.push((path, error));
            }
        }
        if let Err(e) = self.keep_order(key, &mut put)
            && let Some(Put { path, .. }) = put.pop()
        {
            let error = failed("cannot keep the order of the versions up to", &path, e);
            trouble.push((path, error));
        }
        trouble
    }

    /// Puts a version, and notes it in `put` as soon as it stands.
    fn put_one(&self, key: &str, path: &EntryPath, held: Held, put: &mut Vec<Put>) -> Result<()> {
        let mut untagged = None;
        let (version, object) = match held {
            Held::Deletion => (self.ask(|| self.client.mark_deleted(key))?, None),
            Held::Bytes(bytes, beside) => {
                let version = self.ask(|| self.client.put_version(key, &bytes, &beside))?;
                (version, Some((bytes.len() as u64, beside)))
            }
            Held::Parts { upload, parts, beside, size } => {
                let done = self.complete(key, &upload, &parts, size, &beside);
                if done.is_err() {
                    // What failed is the error to report.
                    let _ = self.client.abort_upload(key, &upload);
                }
                let version = done?;
                untagged = Some(beside.tags.clone()).filter(|tags| !tags.is_empty());
                (version, Some((size, beside)))
            }
        };
        let size = object.as_ref().map_or(0, |(size, _)| *size);
        let placed = Placed { key: key.to_owned(), version: version.clone(), size };
        self.state().placed.insert(path.clone(), placed);
        put.push(Put { path: path.clone(), version: version.clone(), object });
        untagged.map_or(Ok(()), |tags| self.tag(key, version.as_deref(), &tags))
    }

    /// Sets the tags of a version. Stores have a right of its own for those of a version by its
    /// name: without it they are set as those of the last, while it is that.
    fn tag(&self, key: &str, version: Option<&str>, tags: &[(String, String)]) -> Result<()> {
        let denied = match self.ask(|| self.client.set_tags(key, version, tags)) {
            Err(e) if e.kind() == ErrorKind::Denied && version.is_some() => e,
            other => return other,
        };
        let last = self.ask(|| self.last_versions(key, 1))?;
        match last.first().is_some_and(|it| it.is_latest && version == Some(&it.version)) {
            true => self.ask(|| self.client.set_tags(key, None, tags)),
            false => Err(denied),
        }
    }

    /// Gives up what is held.
    pub(super) fn give_up_held(&self) {
        for (key, history) in std::mem::take(&mut self.state().held) {
            let newest = history.newest.map(|(_, held)| held);
            for held in history.older.into_values().chain(newest) {
                if let Held::Parts { upload, .. } = held {
                    // What stays is swept by the store's own rules for such uploads.
                    let _ = self.client.abort_upload(&key, &upload);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_versions_are_told_by_their_names() {
        let of = |text: &str| {
            let path = EntryPath::new(text.as_bytes()).expect("a path");
            object_of(&path).map(|path| path.to_string())
        };
        assert_eq!(of("d/a.jpg@versions").as_deref(), Some("d/a.jpg"));
        assert_eq!(of("a@versions").as_deref(), Some("a"));
        assert_eq!((of("a"), of("@versions"), of("d/@versions")), (None, None, None));
    }
}
