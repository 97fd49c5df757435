//! One folder of a bucket: listed, sorted, and without what a filter leaves out.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::limits::NAME_BYTES_MAX;
use crate::base::limits::S3_FOLDER_ROWS_MAX;
use crate::base::metadata::Detection;
use crate::base::metadata::Kind;
use crate::base::path::EntryPath;
use crate::base::path::display;
use crate::net::s3::listing::Depth;
use crate::net::s3::listing::Row;
use crate::net::s3::listing::VersionRow;
use crate::net::s3::xml::Version;
use crate::source::SourceEntry;
use crate::source::bucket::BucketSource;
use crate::source::bucket::Look;
use crate::source::bucket::at_source;
use crate::source::bucket::detection;
use crate::source::bucket::file;
use crate::source::bucket::versions;
use crate::source::filter::CACHE_TAG_NAME;
use crate::source::filter::CACHE_TAG_SIGNATURE;
use crate::source::filter::Filter;
use crate::source::filter::FolderRules;
use crate::source::filter::GITIGNORE_BYTES_MAX;
use crate::source::filter::GITIGNORE_NAME;
use std::collections::BTreeMap;

/// What a folder holds.
#[derive(Debug)]
pub(super) enum Child {
    File(Box<SourceEntry>, Look),
    Folder(EntryPath),
    /// The folder of an object's versions, with them.
    Versions(EntryPath, Vec<Child>),
    Unfit(EntryPath, Error),
}

impl Child {
    pub(super) fn path(&self) -> &EntryPath {
        match self {
            Child::File(entry, _) => &entry.path,
            Child::Folder(path) | Child::Versions(path, _) | Child::Unfit(path, _) => path,
        }
    }
}

/// A folder that was listed.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) children: std::vec::IntoIter<Child>,
    /// What tells a change of the object that stands for the folder, if one does.
    pub(super) marker: Option<Detection>,
    /// Rules of this folder and those above it.
    pub(super) rules: FolderRules,
    /// Whether no key begins so.
    pub(super) is_nothing: bool,
}

impl Listing {
    pub(super) fn of_versions(files: Vec<Child>, rules: FolderRules) -> Self {
        Listing { children: files.into_iter(), marker: None, rules, is_nothing: false }
    }
}

/// Rows on their way to a listing.
struct Rows<'a> {
    source: &'a BucketSource,
    folder: &'a EntryPath,
    prefix: String,
    children: BTreeMap<Vec<u8>, Child>,
    unfit: Vec<(String, Error)>,
    marker: Option<Detection>,
    total: usize,
}

impl Rows<'_> {
    fn count(&mut self) -> Result<()> {
        self.total += 1;
        if self.total > S3_FOLDER_ROWS_MAX {
            return Err(Error::new(ErrorKind::Unsupported, "the folder has too many names"));
        }
        Ok(())
    }

    /// Returns the path of a key in this folder, unless it is none.
    fn path(&mut self, key: &str, is_folder: bool) -> Option<EntryPath> {
        let name = key.strip_prefix(&self.prefix).unwrap_or(key);
        let name = if is_folder { name.strip_suffix('/').unwrap_or(name) } else { name };
        match self.folder.join(name.as_bytes()) {
            Ok(path) => Some(path),
            Err(e) => {
                self.unfit.push((name.to_owned(), self.source.unfit(key, e)));
                None
            }
        }
    }

    fn add_folder(&mut self, key: &str) -> Result<()> {
        self.count()?;
        if let Some(path) = self.path(key, true) {
            self.add(Child::Folder(path));
        }
        Ok(())
    }

    fn add_object(&mut self, key: &str, size: u64, tells: Detection, has_older: bool) {
        if key == self.prefix && size == 0 {
            self.marker = Some(tells);
        } else if let Some(path) = self.path(key, false) {
            self.add(Child::File(Box::new(file(path, size, tells)), Look::File { has_older }));
        }
    }

    /// Adds what has a path. Of two with one name the folder stays, as it holds more.
    fn add(&mut self, child: Child) {
        let name = child.path().name().to_vec();
        let rank = |child: &Child| match child {
            Child::Folder(_) => 2,
            Child::Versions(..) => 1,
            Child::File(..) | Child::Unfit(..) => 0,
        };
        let (one, other) = (rank(&child), self.children.get(&name).map(rank));
        let Some(other) = other.filter(|other| *other != one) else {
            self.children.insert(name, child);
            return;
        };
        let e = Error::invalid(match one.min(other) {
            1 => "a folder has the name of that of an object's older versions",
            _ => "an object and a folder have one name",
        });
        let text = String::from_utf8_lossy(&name).into_owned();
        let key = format!("{}{text}", self.prefix);
        self.unfit.push((text, self.source.unfit(&key, e)));
        if one > other {
            self.children.insert(name, child);
        }
    }

    /// Adds all versions of one key, newest first.
    fn add_versions(&mut self, mut all: Vec<Version>) -> Result<()> {
        let Some(key) = all.first().map(|version| version.object.key.clone()) else {
            return Ok(());
        };
        let current = versions::older(&mut all);
        let has_older = !all.is_empty();
        if let Some(Version { object, version, .. }) = &current {
            let tells = detection(object.modified, &object.etag, Some(version));
            self.add_object(&key, object.size, tells, has_older);
        }
        // Of the object that stands for a folder only the current one says something.
        if !has_older || key == self.prefix {
            return Ok(());
        }
        let Some(path) = self.path(&key, false) else { return Ok(()) };
        let files = versions::folder_of(&path).and_then(|folder| {
            let files = versions::files(&folder, &all)?;
            Ok((folder, files))
        });
        match files {
            Ok((folder, files)) => self.add(Child::Versions(folder, files)),
            Err(e) => {
                let e = e.context("its older versions");
                let name = String::from_utf8_lossy(path.name()).into_owned();
                self.unfit.push((name, self.source.unfit(&key, e)));
            }
        }
        Ok(())
    }
}

impl BucketSource {
    /// Lists a folder, sorted by name.
    pub(super) fn list(&self, folder: &EntryPath, above: &FolderRules) -> Result<Listing> {
        let prefix = self.folder_key(folder)?;
        let mut rows = Rows {
            source: self,
            folder,
            prefix: prefix.clone(),
            children: BTreeMap::new(),
            unfit: Vec::new(),
            marker: None,
            total: 0,
        };
        let listed = match self.has_versions {
            true => self.list_versions(&prefix, &mut rows),
            false => self.list_objects(&prefix, &mut rows),
        };
        listed.map_err(at_source)?;
        let Rows { mut children, unfit, marker, total, .. } = rows;
        let rules = self.apply_marks(folder, above, &mut children);
        children.retain(|_, child| !self.leaves_out(child, &rules));
        for (name, error) in unfit {
            let name = stand_in(&name, &children);
            if let Ok(path) = folder.join(&name) {
                children.insert(name, Child::Unfit(path, error));
            }
        }
        let children = children.into_values().collect::<Vec<_>>().into_iter();
        Ok(Listing { children, marker, rules, is_nothing: total == 0 })
    }

    fn list_objects(&self, prefix: &str, rows: &mut Rows<'_>) -> Result<()> {
        self.client.list(prefix, Depth::Folder, &mut |row| match row {
            Row::Folder(key) => rows.add_folder(&key),
            Row::Object(object) => {
                rows.count()?;
                let tells = detection(object.modified, &object.etag, None);
                rows.add_object(&object.key, object.size, tells, false);
                Ok(())
            }
        })?;
        Ok(())
    }

    fn list_versions(&self, prefix: &str, rows: &mut Rows<'_>) -> Result<()> {
        let mut of_key: Vec<Version> = Vec::new();
        let listed = self.client.list_versions(prefix, Depth::Folder, &mut |row| match row {
            VersionRow::Folder(key) => rows.add_folder(&key),
            VersionRow::Version(version) => {
                rows.count()?;
                let is_other = of_key.first().is_some_and(|it| it.object.key != version.object.key);
                if is_other {
                    rows.add_versions(std::mem::take(&mut of_key))?;
                }
                of_key.push(version);
                Ok(())
            }
        });
        listed.map_err(|e| self.without_versions(e))?;
        rows.add_versions(of_key)
    }

    /// A store without versions refuses to list them, or answers something else.
    fn without_versions(&self, e: Error) -> Error {
        let kinds = [ErrorKind::Unsupported, ErrorKind::Corrupt, ErrorKind::Io];
        if !kinds.contains(&e.kind()) {
            return e;
        }
        let message = format!("the store at {} does not list versions", self.client.host());
        Error::new(ErrorKind::Unsupported, message)
            .caused_by(e)
            .hint("without --versions the objects are backed up as they are now")
    }

    fn leaves_out(&self, child: &Child, rules: &FolderRules) -> bool {
        let excludes = |path: &EntryPath, kind: Kind, size: u64| {
            self.filter.as_ref().is_some_and(|filter| filter.excludes(path, kind, size, rules))
        };
        match child {
            Child::File(entry, _) => excludes(&entry.path, Kind::File, entry.size),
            Child::Folder(path) => excludes(path, Kind::Directory, 0),
            // What leaves an object out leaves its versions out.
            Child::Versions(path, _) => {
                let name = path.name().strip_suffix(versions::SUFFIX).unwrap_or_default();
                let object = path.parent().unwrap_or_else(EntryPath::root).join(name);
                excludes(path, Kind::Directory, 0)
                    || object.is_ok_and(|object| excludes(&object, Kind::File, 0))
            }
            Child::Unfit(..) => false,
        }
    }

    /// Obeys objects in the folder that speak about it; returns the rules that count in it.
    fn apply_marks(
        &self,
        folder: &EntryPath,
        above: &FolderRules,
        children: &mut BTreeMap<Vec<u8>, Child>,
    ) -> FolderRules {
        let Some(filter) = &self.filter else { return above.clone() };
        let start = |name: &[u8], bytes_max: usize| match children.get(name) {
            Some(Child::File(entry, _)) => self.read_start(entry, bytes_max),
            _ => None,
        };
        let is_cache = filter.reads_cache_tags()
            && start(CACHE_TAG_NAME, CACHE_TAG_SIGNATURE.len())
                .is_some_and(|bytes| bytes == CACHE_TAG_SIGNATURE);
        let own = filter.reads_gitignore().then(|| start(GITIGNORE_NAME, GITIGNORE_BYTES_MAX));
        let rules = match own.flatten() {
            Some(content) => above.with_file(folder, &content),
            None => above.clone(),
        };
        if is_cache || children.keys().any(|name| filter.is_marker(name)) {
            children.retain(|name, _| is_mark(filter, name, is_cache));
        }
        rules
    }

    /// Reads the first bytes of an object; what cannot be read says nothing.
    fn read_start(&self, entry: &SourceEntry, bytes_max: usize) -> Option<Vec<u8>> {
        let length = entry.size.min(bytes_max as u64);
        if length == 0 {
            return None;
        }
        self.client.get_range(&self.key(&entry.path).ok()?, None, 0..length).ok()
    }

    fn unfit(&self, key: &str, e: Error) -> Error {
        let shown = display(self.client.shown(key).as_bytes());
        let message = format!("{shown} is not stored, as its key is no path of a file");
        at_source(Error::new(ErrorKind::Unsupported, message).caused_by(e))
    }
}

fn is_mark(filter: &Filter, name: &[u8], is_cache: bool) -> bool {
    filter.is_marker(name) || (is_cache && name == CACHE_TAG_NAME)
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
