//! The objects of a bucket, or what begins with a prefix in it, as a tree of files.
//!
//! A slash in a key ends a folder. The bucket is listed folder by folder and each folder is
//! sorted, as the order of keys is not that of paths (`a-b/x` comes before `a/x`, `a-b` behind
//! `a`). Memory holds one folder for each level, and a bounded number of looks.
//!
//! | kept | as |
//! |---|---|
//! | when it was put | time of the last change, in whole seconds, as stores tell it |
//! | content type | attribute `user.s3.content-type` |
//! | `cache-control` and the like | attributes `user.s3.cache-control` ... |
//! | own metadata | attributes `user.s3.meta.<name>`, names in small letters |
//! | tags | attributes `user.s3.tag.<name>` |
//! | what this program kept of a file | the file as it was: see [`crate::net::s3::kept`] |
//!
//! An object whose size, time and ETag are those of the last backup is unchanged. Most stores
//! change none of them when tags are changed: a run that reads everything sees that.
//!
//! Keys that are no paths are reported and not stored: with an empty part, `.` or `..`, a part of
//! over 255 bytes, an object beside a folder of its name. An empty object whose key ends with a
//! slash is how people make folders, and shows as one.
//!
//! An object is read as it was when it was opened: what replaces it meanwhile is another object,
//! and what broke off is only gone on with while it is the same.
//!
//! With [`BucketSource::with_versions`] older versions are entries, too: see `versions`.

use crate::base::cancel::Cancel;
use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::limits::REMOTE_READERS_MAX;
use crate::base::metadata::Detection;
use crate::base::metadata::Kind;
use crate::base::metadata::Metadata;
use crate::base::path::EntryPath;
use crate::base::time::Timestamp;
use crate::net::s3::client::Client;
use crate::source::Scan;
use crate::source::ScanItem;
use crate::source::Source;
use crate::source::SourceEntry;
use crate::source::SourceReader;
use crate::source::bucket::list::Child;
use crate::source::bucket::list::Listing;
use crate::source::bucket::read::Reader;
use crate::source::filter::Filter;
use crate::source::filter::FolderRules;
use crate::source::looks::Looks;
use std::sync::Mutex;
use std::sync::MutexGuard;

mod list;
mod read;
mod versions;

/// Buckets know no permissions of files; these suit whoever gets them back.
const FILE_MODE: u32 = 0o644;
const FOLDER_MODE: u32 = 0o755;

/// A bucket as a source.
#[derive(Debug)]
pub struct BucketSource {
    client: Client,
    /// Empty, or with a slash at its end.
    prefix: String,
    /// Leaves entries out.
    filter: Option<Filter>,
    has_versions: bool,
    /// A folder that is left out whole.
    excluded: Option<EntryPath>,
    /// What the last scan met, so that opening it needs no question of what it is.
    looks: Mutex<Looks<Look>>,
}

/// What a scan saw at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Look {
    /// An object, and whether it has older versions that are kept.
    File { has_older: bool },
    /// A folder, with what tells a change of the object that stands for it, if one does.
    Folder(Option<Detection>),
    /// A version of the object with this key.
    Version(versions::Named),
}

impl BucketSource {
    /// Makes a source of the objects whose keys begin with `prefix` and a slash; of all where it
    /// is empty.
    pub fn new(client: Client, prefix: &str) -> Self {
        let prefix = prefix.trim_matches('/');
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        BucketSource {
            client,
            prefix,
            filter: None,
            has_versions: false,
            excluded: None,
            looks: Mutex::default(),
        }
    }

    /// Leaves a folder out, such as the repository's when it is in the same bucket.
    pub fn without(mut self, folder: EntryPath) -> Self {
        self.excluded = Some(folder);
        self
    }

    /// Leaves out what the filter says.
    pub fn filtered(mut self, filter: Filter) -> Self {
        self.filter = Some(filter);
        self
    }

    /// Shows older versions, too, each in a folder `NAME@versions` beside its object.
    pub fn with_versions(mut self) -> Self {
        self.has_versions = true;
        self
    }

    fn looks(&self) -> MutexGuard<'_, Looks<Look>> {
        self.looks.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn key(&self, path: &EntryPath) -> Result<String> {
        let text = std::str::from_utf8(path.as_bytes());
        let text = text.map_err(|_| at_source(Error::invalid("a key of a bucket is UTF-8")))?;
        Ok(format!("{}{text}", self.prefix))
    }

    /// Returns what the keys of all that is in a folder begin with.
    fn folder_key(&self, folder: &EntryPath) -> Result<String> {
        match folder.is_root() {
            true => Ok(self.prefix.clone()),
            false => Ok(format!("{}/", self.key(folder)?)),
        }
    }
}

/// The heads of objects tell whole seconds where some listings tell more.
fn whole_seconds(time: Option<Timestamp>) -> Timestamp {
    Timestamp::new(time.unwrap_or_default().seconds(), 0)
}

/// Returns what tells a change of an object.
fn detection(modified: Option<Timestamp>, etag: &str, version: Option<&str>) -> Detection {
    let tag = match version {
        None => etag.to_owned(),
        // Versions without a name are replaced by others without one.
        Some(version) => format!("{version}:{etag}"),
    };
    Detection { ctime: whole_seconds(modified), inode: 0, tag: tag.into_bytes() }
}

fn file(path: EntryPath, size: u64, detection: Detection) -> SourceEntry {
    SourceEntry {
        path,
        kind: Kind::File,
        size,
        metadata: Metadata { mode: FILE_MODE, mtime: detection.ctime, ..Metadata::default() },
        detection,
        hard_link: None,
        device: (0, 0),
        maybe_sparse: false,
    }
}

/// Folders are nothing but the beginnings of keys, unless an object stands for them.
fn folder(path: EntryPath, marker: Option<Detection>) -> SourceEntry {
    let entry = file(path, 0, marker.unwrap_or_default());
    let metadata = Metadata { mode: FOLDER_MODE, mtime: Timestamp::default(), ..entry.metadata };
    SourceEntry { kind: Kind::Directory, metadata, ..entry }
}

impl Source for BucketSource {
    fn location(&self) -> String {
        self.client.shown(self.prefix.trim_end_matches('/'))
    }

    fn detects_changes(&self) -> bool {
        true
    }

    /// A listing shows neither what was kept of a file nor that it is a link.
    fn tells_metadata(&self) -> bool {
        false
    }

    fn parallel(&self) -> usize {
        REMOTE_READERS_MAX
    }

    fn scan(&self, cancel: &Cancel) -> Result<Scan<'_>> {
        let root = EntryPath::root();
        let top = self.list(&root, &FolderRules::none())?;
        if top.is_nothing && !self.prefix.is_empty() {
            let message = format!("there is nothing in {}", self.location());
            return Err(at_source(Error::new(ErrorKind::NotFound, message))
                .hint("keys begin with the prefix and a slash"));
        }
        *self.looks() = Looks::default();
        self.looks().put(&root, Look::Folder(top.marker.clone()));
        Ok(Box::new(Walk {
            source: self,
            cancel: cancel.clone(),
            root: Some(folder(root, top.marker.clone())),
            levels: vec![top],
        }))
    }

    fn reader(&self) -> Result<Box<dyn SourceReader + Send + '_>> {
        Ok(Box::new(Reader::new(self)))
    }
}

/// A scan under way.
struct Walk<'a> {
    source: &'a BucketSource,
    cancel: Cancel,
    root: Option<SourceEntry>,
    levels: Vec<Listing>,
}

impl Iterator for Walk<'_> {
    type Item = ScanItem;

    fn next(&mut self) -> Option<ScanItem> {
        if let Some(root) = self.root.take() {
            return Some(ScanItem::Entry(root));
        }
        loop {
            if self.cancel.is_cancelled() {
                return None;
            }
            let level = self.levels.last_mut()?;
            match level.children.next() {
                None => {
                    self.levels.pop();
                }
                Some(Child::File(entry, look)) => {
                    self.source.looks().put(&entry.path, look);
                    return Some(ScanItem::Entry(*entry));
                }
                Some(Child::Unfit(path, error)) => return Some(ScanItem::Failed(path, error)),
                Some(Child::Versions(path, files)) => {
                    let listing = Listing::of_versions(files, level.rules.clone());
                    self.levels.push(listing);
                    self.source.looks().put(&path, Look::Folder(None));
                    return Some(ScanItem::Entry(folder(path, None)));
                }
                Some(Child::Folder(path)) if self.source.excluded.as_ref() == Some(&path) => {
                    let note = "the repository itself is left out";
                    return Some(ScanItem::Skipped(path, note.to_owned()));
                }
                Some(Child::Folder(path)) => {
                    let rules = level.rules.clone();
                    return Some(match self.source.list(&path, &rules) {
                        Ok(listing) => {
                            let marker = listing.marker.clone();
                            self.source.looks().put(&path, Look::Folder(marker.clone()));
                            self.levels.push(listing);
                            ScanItem::Entry(folder(path, marker))
                        }
                        Err(e) => ScanItem::Failed(path, e),
                    });
                }
            }
        }
    }
}

fn at_source(e: Error) -> Error {
    e.at(Origin::Source)
}
