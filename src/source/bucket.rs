//! The objects of a bucket, or what begins with a prefix in it, as a tree of files.
//!
//! A slash in a key ends a folder. The bucket is listed folder by folder and each folder is
//! sorted, as the order of keys is not that of paths (`a-b/x` comes before `a/x`, `a-b` behind
//! `a`). Memory holds one folder for each level, and the names of all folders.
//!
//! | kept | as |
//! |---|---|
//! | when it was put | time of the last change, in whole seconds, as stores tell it |
//! | content type | attribute `user.s3.content-type` |
//! | own metadata | attributes `user.s3.meta.<name>`, names in small letters |
//! | tags | attributes `user.s3.tag.<name>` |
//!
//! An object that has size, time and ETag of the last backup is unchanged. Most stores change none
//! of them when tags are changed: a run that reads everything sees that.
//!
//! Keys that are no paths are reported and not stored: with an empty part, `.` or `..`, a part of
//! over 255 bytes, an object beside a folder of its name. An empty object whose key ends with a
//! slash is how people make folders, and shows as one.
//!
//! An object is read as it was when it was opened: what replaces it meanwhile is another object,
//! and what broke off is only gone on with while it is the same.

use crate::base::cancel::Cancel;
use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::limits::NAME_BYTES_MAX;
use crate::base::limits::S3_FOLDER_ROWS_MAX;
use crate::base::limits::S3_OPENS_MAX;
use crate::base::metadata::Detection;
use crate::base::metadata::Kind;
use crate::base::metadata::Metadata;
use crate::base::metadata::Xattr;
use crate::base::path::EntryPath;
use crate::base::path::display;
use crate::base::time::Timestamp;
use crate::net::s3::client::Client;
use crate::net::s3::listing::Depth;
use crate::net::s3::listing::Row;
use crate::net::s3::objects::Head;
use crate::net::s3::objects::Opened;
use crate::source::OpenedEntry;
use crate::source::Scan;
use crate::source::ScanItem;
use crate::source::Source;
use crate::source::SourceEntry;
use crate::source::SourceReader;
use crate::source::filter::Filter;
use crate::source::filter::FolderRules;
use std::collections::BTreeMap;
use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::time::Duration;

/// Buckets know no permissions of files; these suit whoever gets them back.
const FILE_MODE: u32 = 0o644;
const FOLDER_MODE: u32 = 0o755;
/// The wait before an object that broke off is opened again.
const BREAK_WAIT: Duration = Duration::from_secs(1);

/// A bucket as a source.
#[derive(Debug)]
pub struct BucketSource {
    client: Client,
    /// Empty, or with a slash at its end.
    prefix: String,
    /// Leaves entries out.
    filter: Option<Filter>,
    /// Those that the last scan met, so that opening one asks nobody.
    folders: Mutex<HashSet<EntryPath>>,
}

/// What a folder holds.
enum Child {
    File(SourceEntry),
    Folder(EntryPath),
    Unfit(EntryPath, Error),
}

impl BucketSource {
    /// Makes a source of the objects whose keys begin with `prefix` and a slash; of all where it
    /// is empty.
    pub fn new(client: Client, prefix: &str) -> Self {
        let prefix = prefix.trim_matches('/');
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        BucketSource { client, prefix, filter: None, folders: Mutex::default() }
    }

    /// Leaves out what the filter says; rules that stand in files of the source are not read.
    pub fn filtered(mut self, filter: Filter) -> Self {
        self.filter = Some(filter);
        self
    }

    fn leaves_out(&self, path: &EntryPath, kind: Kind, size: u64) -> bool {
        let excludes = |filter: &Filter| filter.excludes(path, kind, size, &FolderRules::none());
        self.filter.as_ref().is_some_and(excludes)
    }

    fn folders(&self) -> MutexGuard<'_, HashSet<EntryPath>> {
        self.folders.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn key(&self, path: &EntryPath) -> Result<String> {
        let text = std::str::from_utf8(path.as_bytes());
        let text = text.map_err(|_| at_source(Error::invalid("a key of a bucket is UTF-8")))?;
        Ok(format!("{}{text}", self.prefix))
    }

    /// Lists a folder, sorted by name.
    fn children(&self, folder: &EntryPath) -> Result<Vec<Child>> {
        let prefix = match folder.is_root() {
            true => self.prefix.clone(),
            false => format!("{}/", self.key(folder)?),
        };
        let mut rows: BTreeMap<Vec<u8>, Child> = BTreeMap::new();
        let mut unfit: Vec<(String, Error)> = Vec::new();
        let listed = self.client.list(&prefix, Depth::Folder, &mut |row| {
            if rows.len() + unfit.len() >= S3_FOLDER_ROWS_MAX {
                return Err(Error::new(ErrorKind::Unsupported, "the folder has too many names"));
            }
            let (key, is_folder) = match &row {
                Row::Folder(key) => (key.clone(), true),
                Row::Object(object) => (object.key.clone(), false),
            };
            let name = key.strip_prefix(&prefix).unwrap_or(&key);
            let name = if is_folder { name.strip_suffix('/').unwrap_or(name) } else { name };
            if let Row::Object(object) = &row
                && name.is_empty()
                && object.size == 0
            {
                return Ok(());
            }
            let below = match folder.join(name.as_bytes()) {
                Ok(below) => below,
                Err(e) => {
                    unfit.push((name.to_owned(), self.unfit(&key, e)));
                    return Ok(());
                }
            };
            let child = match row {
                Row::Folder(_) => Child::Folder(below),
                Row::Object(object) => {
                    let mtime = whole_seconds(object.modified);
                    Child::File(file(below, object.size, mtime, &object.etag))
                }
            };
            let is_object = matches!(child, Child::File(_));
            match rows.get(name.as_bytes()) {
                // The folder holds more.
                Some(other) if is_object != matches!(other, Child::File(_)) => {
                    let e = Error::invalid("an object and a folder have one name");
                    unfit.push((name.to_owned(), self.unfit(&key, e)));
                    if !is_object {
                        rows.insert(name.as_bytes().to_vec(), child);
                    }
                }
                _ => {
                    rows.insert(name.as_bytes().to_vec(), child);
                }
            }
            Ok(())
        });
        listed.map_err(at_source)?;
        for (name, error) in unfit {
            let name = stand_in(&name, &rows);
            if let Ok(path) = folder.join(&name) {
                rows.insert(name, Child::Unfit(path, error));
            }
        }
        Ok(rows.into_values().collect())
    }

    fn unfit(&self, key: &str, e: Error) -> Error {
        let shown = display(self.client.shown(key).as_bytes());
        let message = format!("{shown} is not stored, as its key is no path of a file");
        at_source(Error::new(ErrorKind::Unsupported, message).caused_by(e))
    }

    /// Returns what stands beside the content as attributes.
    fn attributes(&self, key: &str, head: &Head) -> Result<Vec<Xattr>> {
        let attribute = |name: String, value: &str| Xattr {
            name: format!("user.s3.{name}").into_bytes(),
            value: value.as_bytes().to_vec(),
        };
        let mut all = Vec::new();
        if let Some(content_type) = &head.content_type {
            all.push(attribute("content-type".to_owned(), content_type));
        }
        for (name, value) in &head.own {
            all.push(attribute(format!("meta.{name}"), value));
        }
        if head.tags > 0 {
            for (name, value) in &self.client.tags(key, head.version.as_deref())? {
                all.push(attribute(format!("tag.{name}"), value));
            }
        }
        all.sort();
        Ok(all)
    }
}

/// Returns a name that can stand in a path for one that cannot, and that nobody else has.
fn stand_in(name: &str, rows: &BTreeMap<Vec<u8>, Child>) -> Vec<u8> {
    let mut text = match name {
        "" => "%2F".to_owned(),
        "." | ".." => name.replace('.', "%2E"),
        _ => name.replace(['/', '\0'], "%"),
    };
    // Room for what makes it the only one.
    let mut end = text.len().min(NAME_BYTES_MAX - 32);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    let mut only = text.clone().into_bytes();
    for number in 1_u32.. {
        if !rows.contains_key(&only) {
            break;
        }
        only = format!("{text}%{number}").into_bytes();
    }
    only
}

/// The heads of objects tell whole seconds where some listings tell more.
fn whole_seconds(time: Option<Timestamp>) -> Timestamp {
    Timestamp::new(time.unwrap_or_default().seconds(), 0)
}

fn file(path: EntryPath, size: u64, mtime: Timestamp, etag: &str) -> SourceEntry {
    SourceEntry {
        path,
        kind: Kind::File,
        size,
        metadata: Metadata { mode: FILE_MODE, mtime, ..Metadata::default() },
        detection: Detection { tag: etag.as_bytes().to_vec(), ..Detection::default() },
        hard_link: None,
        device: (0, 0),
        maybe_sparse: false,
    }
}

/// Folders are nothing but the beginnings of keys: they have no times.
fn folder(path: EntryPath) -> SourceEntry {
    let entry = file(path, 0, Timestamp::default(), "");
    let metadata = Metadata { mode: FOLDER_MODE, ..entry.metadata };
    SourceEntry { kind: Kind::Directory, metadata, ..entry }
}

impl Source for BucketSource {
    fn location(&self) -> String {
        self.client.shown(self.prefix.trim_end_matches('/'))
    }

    fn detects_changes(&self) -> bool {
        true
    }

    fn scan(&self, cancel: &Cancel) -> Result<Scan<'_>> {
        let top = self.children(&EntryPath::root())?;
        if top.is_empty() && !self.prefix.is_empty() {
            let message = format!("there is nothing in {}", self.location());
            return Err(at_source(Error::new(ErrorKind::NotFound, message))
                .hint("keys begin with the prefix and a slash"));
        }
        self.folders().clear();
        self.folders().insert(EntryPath::root());
        Ok(Box::new(Walk {
            source: self,
            cancel: cancel.clone(),
            root: Some(folder(EntryPath::root())),
            levels: vec![top.into_iter()],
        }))
    }

    fn reader(&self) -> Result<Box<dyn SourceReader + Send + '_>> {
        Ok(Box::new(Reader { source: self, open: None, stream: None }))
    }
}

/// A scan under way.
struct Walk<'a> {
    source: &'a BucketSource,
    cancel: Cancel,
    root: Option<SourceEntry>,
    levels: Vec<std::vec::IntoIter<Child>>,
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
            match self.levels.last_mut()?.next() {
                None => {
                    self.levels.pop();
                }
                Some(Child::File(entry)) => {
                    if !self.source.leaves_out(&entry.path, Kind::File, entry.size) {
                        return Some(ScanItem::Entry(entry));
                    }
                }
                Some(Child::Unfit(path, error)) => return Some(ScanItem::Failed(path, error)),
                Some(Child::Folder(path)) => {
                    if self.source.leaves_out(&path, Kind::Directory, 0) {
                        continue;
                    }
                    return Some(match self.source.children(&path) {
                        Ok(children) => {
                            self.levels.push(children.into_iter());
                            self.source.folders().insert(path.clone());
                            ScanItem::Entry(folder(path))
                        }
                        Err(e) => ScanItem::Failed(path, e),
                    });
                }
            }
        }
    }
}

struct Reader<'a> {
    source: &'a BucketSource,
    /// What is open, with its key; a folder has none.
    open: Option<(SourceEntry, Option<String>)>,
    /// What is being read, and where it stands.
    stream: Option<(Opened, u64)>,
}

impl Reader<'_> {
    /// Reads some bytes at an offset, from the stream that is open or from another.
    fn some(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let Some((entry, Some(key))) = &self.open else {
            return Err(Error::bug("no object is open"));
        };
        if offset >= entry.size {
            return Ok(0);
        }
        let here = self.stream.take().filter(|(_, at)| *at == offset);
        let (mut stream, at) = match here {
            Some(here) => here,
            None => {
                let etag = String::from_utf8_lossy(&entry.detection.tag);
                let etag = Some(etag.as_ref()).filter(|etag| !etag.is_empty());
                let opened = self.source.client.open(key, None, offset, etag);
                (opened.map_err(|e| changed(key, e))?, offset)
            }
        };
        let read = stream.read(buffer)?;
        self.stream = Some((stream, at + read as u64));
        Ok(read)
    }
}

fn changed(key: &str, e: Error) -> Error {
    if e.kind() == ErrorKind::AlreadyExists || e.kind() == ErrorKind::NotFound {
        let message = format!("{} was replaced while it was read", display(key.as_bytes()));
        return Error::new(ErrorKind::Io, message).caused_by(e);
    }
    e
}

impl SourceReader for Reader<'_> {
    fn open(&mut self, path: &EntryPath) -> Result<OpenedEntry> {
        self.stream = None;
        self.open = None;
        if path.is_root() || self.source.folders().contains(path) {
            let entry = folder(path.clone());
            self.open = Some((entry.clone(), None));
            return Ok(OpenedEntry::plain(entry));
        }
        let client = &self.source.client;
        let key = self.source.key(path)?;
        let opened = client.open(&key, None, 0, None).map_err(at_source)?;
        let head = &opened.head;
        let entry = file(path.clone(), head.size, whole_seconds(head.modified), &head.etag);
        let xattrs = self.source.attributes(&key, head).map_err(at_source)?;
        self.open = Some((entry.clone(), Some(key)));
        self.stream = Some((opened, 0));
        let metadata = Metadata { xattrs, ..entry.metadata };
        Ok(OpenedEntry::plain(SourceEntry { metadata, ..entry }))
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let mut filled = 0;
        let mut breaks = 0;
        while filled < buffer.len() {
            match self.some(offset + filled as u64, &mut buffer[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(e) if e.kind() == ErrorKind::Unreachable && breaks < S3_OPENS_MAX => {
                    breaks += 1;
                    self.source.client.wait(BREAK_WAIT).map_err(at_source)?;
                }
                Err(e) => return Err(at_source(e)),
            }
        }
        Ok(filled)
    }

    fn finish(&mut self) -> Result<SourceEntry> {
        self.stream = None;
        let open = self.open.take();
        open.map(|(entry, _)| entry).ok_or_else(|| Error::bug("no object is open"))
    }
}

fn at_source(e: Error) -> Error {
    e.at(Origin::Source)
}
