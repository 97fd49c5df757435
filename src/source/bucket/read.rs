//! Reads objects, and what stands beside them.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::limits::LINK_BYTES_MAX;
use crate::base::limits::S3_OPENS_MAX;
use crate::base::metadata::Detection;
use crate::base::metadata::Kind;
use crate::base::metadata::Metadata;
use crate::base::metadata::Xattr;
use crate::base::path::EntryPath;
use crate::base::path::display;
use crate::net::s3::kept;
use crate::net::s3::kept::Kept;
use crate::net::s3::listing::Depth;
use crate::net::s3::listing::Row;
use crate::net::s3::objects::Head;
use crate::net::s3::objects::Opened;
use crate::source::OpenedEntry;
use crate::source::SourceEntry;
use crate::source::SourceReader;
use crate::source::bucket::BucketSource;
use crate::source::bucket::Look;
use crate::source::bucket::at_source;
use crate::source::bucket::detection;
use crate::source::bucket::file;
use crate::source::bucket::folder;
use crate::source::bucket::versions::Named;
use std::time::Duration;

/// The wait before an object that broke off is opened again.
const BREAK_WAIT: Duration = Duration::from_secs(1);
/// The name that versions from before there were any have.
const NO_VERSION: &str = "null";

pub(super) struct Reader<'a> {
    source: &'a BucketSource,
    open: Option<Open>,
    /// What is being read, and where it stands.
    stream: Option<(Opened, u64)>,
}

struct Open {
    entry: SourceEntry,
    /// The object that is read; None for what has no content.
    object: Option<Object>,
}

struct Object {
    key: String,
    version: Option<String>,
    etag: String,
}

impl<'a> Reader<'a> {
    pub(super) fn new(source: &'a BucketSource) -> Self {
        Reader { source, open: None, stream: None }
    }

    /// Reads some bytes at an offset, from the stream that is open or from another.
    fn some(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let Some(Open { entry, object: Some(object) }) = &self.open else {
            return Err(Error::bug("no object is open"));
        };
        if offset >= entry.size {
            return Ok(0);
        }
        let here = self.stream.take().filter(|(_, at)| *at == offset);
        let (mut stream, at) = match here {
            Some(here) => here,
            None => {
                let Object { key, version, etag } = object;
                let etag = Some(etag.as_str()).filter(|etag| !etag.is_empty());
                let opened = self.source.client.open(key, version.as_deref(), offset, etag);
                let opened = opened.map_err(|e| changed(key, e))?;
                // Some stores do not hear what it has to be still.
                let head = &opened.head;
                let is_same = etag.is_none_or(|etag| head.etag.is_empty() || head.etag == etag);
                if !is_same || head.size.checked_add(offset) != Some(entry.size) {
                    return Err(replaced(key));
                }
                (opened, offset)
            }
        };
        let read = stream.read(buffer)?;
        self.stream = Some((stream, at + read as u64));
        Ok(read)
    }

    fn keep(&mut self, entry: &SourceEntry, object: Option<Object>) {
        self.open = Some(Open { entry: entry.clone(), object });
    }

    fn open_folder(&mut self, path: &EntryPath, marker: Option<Detection>) -> Result<OpenedEntry> {
        let mut entry = folder(path.clone(), marker.clone());
        let key = self.source.folder_key(path)?;
        let head = match marker {
            Some(_) if !key.is_empty() => self.source.client.head(&key, None)?,
            _ => None,
        };
        if let Some(head) = head {
            let told = self.source.told(&key, &head, None, &[])?;
            if let Some(kept) = told.kept {
                entry.metadata = kept.metadata;
            }
            entry.metadata.xattrs = told.xattrs;
        }
        self.keep(&entry, None);
        Ok(OpenedEntry::plain(entry))
    }

    /// Opens the object at a path: the one that a plain look at its key shows, or a version.
    fn open_object(
        &mut self,
        path: &EntryPath,
        named: Option<Named>,
        has_older: bool,
    ) -> Result<OpenedEntry> {
        let source = self.source;
        let key = match &named {
            Some(named) => named.key.clone(),
            None => source.key(path)?,
        };
        let version = named.map(|named| named.version.version);
        let opened = source.client.open(&key, version.as_deref(), 0, None);
        let opened = opened.map_err(|e| source.reason(&key, version.as_deref(), e))?;
        let head = opened.head.clone();
        let shown = version.clone().or_else(|| head.version.clone());
        let shown = shown.unwrap_or_else(|| NO_VERSION.to_owned());
        let of_versions = source.has_versions.then_some(shown.as_str());
        let tells = detection(head.modified, &head.etag, of_versions);
        let entry = file(path.clone(), head.size, tells);
        let mut more = Vec::new();
        if has_older || version.is_some() {
            more.push(attribute("version", &shown));
        }
        let told = source.told(&key, &head, version.as_deref(), &more)?;
        let object = Object { key, version, etag: head.etag };
        self.stream = Some((opened, 0));
        self.keep(&entry, Some(object));
        let Some(kept) = told.kept.filter(|kept| kept.kind != Kind::Directory) else {
            let metadata = Metadata { xattrs: told.xattrs, ..entry.metadata };
            return Ok(OpenedEntry::plain(SourceEntry { metadata, ..entry }));
        };
        self.as_kept(entry, kept, told.xattrs)
    }

    /// Makes an object what it was before it became one.
    fn as_kept(
        &mut self,
        entry: SourceEntry,
        kept: Kept,
        xattrs: Vec<Xattr>,
    ) -> Result<OpenedEntry> {
        let mut link_target = Vec::new();
        if kept.kind == Kind::Symlink {
            let length = usize::try_from(entry.size).unwrap_or(usize::MAX);
            if length > LINK_BYTES_MAX {
                return Err(Error::invalid(format!("cannot read the link {}", entry.path)));
            }
            link_target = vec![0; length];
            let read = self.read_at(0, &mut link_target)?;
            link_target.truncate(read);
        }
        let Kept { kind, metadata, device } = kept;
        let metadata = Metadata { xattrs, ..metadata };
        let size = if kind == Kind::File { entry.size } else { 0 };
        let entry = SourceEntry { kind, size, metadata, device, ..entry };
        let object = self.open.take().and_then(|open| open.object);
        self.keep(&SourceEntry { metadata: entry.metadata.clone(), ..entry.clone() }, object);
        Ok(OpenedEntry { entry, link_target, extents: None })
    }

    /// Opens a mark of deletion: nothing but that it is there is known of it.
    fn open_mark(&mut self, path: &EntryPath, named: &Named) -> OpenedEntry {
        let (object, version) = (&named.version.object, &named.version.version);
        let tells = detection(object.modified, &object.etag, Some(version));
        let mut entry = file(path.clone(), 0, tells);
        self.keep(&entry, None);
        entry.metadata.xattrs =
            vec![attribute("version", version), attribute("version-deleted", "true")];
        OpenedEntry::plain(entry)
    }

    /// Finds out what stands at a path that no scan has seen of late.
    fn look(&self, path: &EntryPath) -> Result<Look> {
        let source = self.source;
        let prefix = source.folder_key(path)?;
        let mut is_folder = path.is_root();
        if !is_folder {
            let listed = source.client.list(&prefix, Depth::Folder, &mut |_| {
                is_folder = true;
                // One is enough to know.
                Err(Error::cancelled())
            });
            match listed {
                Err(e) if e.kind() != ErrorKind::Cancelled => return Err(e),
                _ => {}
            }
        }
        if is_folder {
            let head = match prefix.is_empty() {
                true => None,
                false => source.client.head(&prefix, None)?,
            };
            let of_versions = source.has_versions.then_some(NO_VERSION);
            let marker = head.map(|head| {
                let version = head.version.as_deref().filter(|_| source.has_versions);
                detection(head.modified, &head.etag, version.or(of_versions))
            });
            return Ok(Look::Folder(marker));
        }
        if source.has_versions
            && let Some(named) = source.find_version(path)?
        {
            return Ok(Look::Version(named));
        }
        Ok(Look::File { has_older: source.has_versions && source.has_older(path)? })
    }
}

/// What stands beside an object.
struct Told {
    kept: Option<Kept>,
    xattrs: Vec<Xattr>,
}

fn attribute(name: &str, value: &str) -> Xattr {
    Xattr { name: format!("user.s3.{name}").into_bytes(), value: value.as_bytes().to_vec() }
}

/// An object whose tags are not found is there all the same.
fn without_tags(e: Error) -> Error {
    if e.kind() != ErrorKind::NotFound {
        return e;
    }
    Error::new(ErrorKind::Io, "its tags are not found").caused_by(e)
}

impl BucketSource {
    /// Returns why an object could not be opened. One that the store does not find has vanished,
    /// unless it is listed still: to leave it out without a word would lose it.
    fn reason(&self, key: &str, version: Option<&str>, error: Error) -> Error {
        if error.kind() != ErrorKind::NotFound {
            return error;
        }
        match self.is_listed(key, version) {
            Ok(false) => error,
            Ok(true) => {
                let message = "the store lists it, and does not find it when it is asked for";
                Error::new(ErrorKind::Unsupported, message).caused_by(error)
            }
            Err(e) => e.context("cannot see whether it is listed still"),
        }
    }

    fn is_listed(&self, key: &str, version: Option<&str>) -> Result<bool> {
        if let Some(version) = version {
            return Ok(self.versions_of(key)?.iter().any(|it| it.version == version));
        }
        let mut is_listed = false;
        let listed = self.client.list(key, Depth::Folder, &mut |row| match row {
            Row::Object(object) if object.key == key => {
                is_listed = true;
                // That is all there is to know.
                Err(Error::cancelled())
            }
            _ => Ok(()),
        });
        match listed {
            Err(e) if !is_listed => Err(e),
            _ => Ok(is_listed),
        }
    }

    /// Reads what stands beside an object: what this program kept of a file, and as attributes all
    /// else. What it kept is shown as it was where nobody has added anything.
    fn told(&self, key: &str, head: &Head, version: Option<&str>, more: &[Xattr]) -> Result<Told> {
        let kept = Kept::read(&head.own);
        let mut all = more.to_vec();
        let usual = match key.ends_with('/') {
            true => kept::FOLDER_TYPE,
            false => kept::content_type(key.rsplit('/').next().unwrap_or(key).as_bytes()),
        };
        let is_plain = head.tags == 0
            && head.said.is_empty()
            && more.is_empty()
            && head.content_type.as_deref().is_none_or(|it| it == usual)
            && head.own.iter().all(|(name, _)| kept::is_ours(name));
        if kept.is_none() || !is_plain {
            all.extend(head.content_type.iter().map(|it| attribute("content-type", it)));
            all.extend(head.said.iter().map(|(name, value)| attribute(name, value)));
            let own = head.own.iter();
            all.extend(own.map(|(name, value)| attribute(&format!("meta.{name}"), value)));
            if head.tags > 0 {
                let tags = self.client.tags(key, version).map_err(without_tags)?;
                for (name, value) in &tags {
                    all.push(attribute(&format!("tag.{name}"), value));
                }
            }
        }
        all.extend(kept.iter().flat_map(|kept| kept.metadata.xattrs.iter().cloned()));
        all.sort();
        all.dedup_by(|a, b| a.name == b.name);
        Ok(Told { kept, xattrs: all })
    }
}

fn changed(key: &str, e: Error) -> Error {
    match e.kind() {
        ErrorKind::AlreadyExists | ErrorKind::NotFound => replaced(key).caused_by(e),
        _ => e,
    }
}

fn replaced(key: &str) -> Error {
    let message = format!("{} was replaced while it was read", display(key.as_bytes()));
    Error::new(ErrorKind::Io, message)
}

impl SourceReader for Reader<'_> {
    fn open(&mut self, path: &EntryPath) -> Result<OpenedEntry> {
        self.stream = None;
        self.open = None;
        let seen = self.source.looks().get(path).cloned();
        let look = match seen {
            Some(look) => look,
            None => self.look(path).map_err(at_source)?,
        };
        let opened = match look {
            Look::Folder(marker) => self.open_folder(path, marker),
            Look::File { has_older } => self.open_object(path, None, has_older),
            Look::Version(named) if named.version.is_deletion => Ok(self.open_mark(path, &named)),
            Look::Version(named) => self.open_object(path, Some(named), false),
        };
        opened.map_err(at_source)
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
        open.map(|open| open.entry).ok_or_else(|| Error::bug("no object is open"))
    }
}
