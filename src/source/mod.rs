//! Floor 2: where data comes from, each kind shown as a tree of virtual files.
//!
//! A [`Source`] lists its entries once, sorted, and hands out a [`SourceReader`] to every
//! worker thread. What counts as unchanged is decided by the engine from the entry's metadata
//! and [`Detection`]; a source without such marks leaves them at their defaults and says so by
//! [`Source::detects_changes`].

use crate::base::cancel::Cancel;
use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::metadata::Detection;
use crate::base::metadata::Extent;
use crate::base::metadata::Kind;
use crate::base::metadata::Metadata;
use crate::base::metadata::Xattr;
use crate::base::path::EntryPath;

mod ahead;
pub mod bucket;
pub mod files;
pub mod filter;
pub mod listed;
pub mod local;
mod looks;
pub mod memory;
pub mod single;
pub mod stream;

/// One entry as a scan shows it: what one `stat` tells, nothing that needs the entry opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceEntry {
    /// Where it is below the source's root.
    pub path: EntryPath,
    /// What it is.
    pub kind: Kind,
    /// Bytes of content with holes counted; 0 for what is not a file.
    pub size: u64,
    /// Mode, owner, time; extended attributes come with [`SourceReader::open`].
    pub metadata: Metadata,
    /// What tells a change.
    pub detection: Detection,
    /// Group of names for one file: equal numbers are links to one inode. None for a file
    /// with one name.
    pub hard_link: Option<u64>,
    /// Device number, for devices: major and minor.
    pub device: (u32, u32),
    /// Whether fewer bytes are allocated than the size says, so that holes are worth a look.
    pub maybe_sparse: bool,
}

/// One item of a scan.
#[derive(Debug)]
pub enum ScanItem {
    /// An entry.
    Entry(SourceEntry),
    /// An entry, or a folder's list of entries, that could not be read; the scan goes on.
    /// What lies below the path is unknown, so the engine keeps what the last backup had there.
    Failed(EntryPath, Error),
    /// Something left out on purpose, with the reason for people (a socket, the repository
    /// itself). Not an error.
    Skipped(EntryPath, String),
}

impl ScanItem {
    /// Returns the path it is about.
    pub fn path(&self) -> &EntryPath {
        match self {
            ScanItem::Entry(entry) => &entry.path,
            ScanItem::Failed(path, _) | ScanItem::Skipped(path, _) => path,
        }
    }
}

/// The sorted stream of a scan.
pub type Scan<'a> = Box<dyn Iterator<Item = ScanItem> + Send + 'a>;

/// Data presented as a tree of virtual files.
///
/// Contract: a scan gives the root first, then every entry in [`EntryPath`] order, each path
/// once; it ends early only when cancelled. A failure of one entry never hides its neighbours.
pub trait Source: Send + Sync {
    /// Returns where the data is, safe to print and to store: an absolute path or a URL
    /// without credentials.
    fn location(&self) -> String;

    /// Says whether unchanged entries can be told by their metadata; if not, the engine reads
    /// everything each time.
    fn detects_changes(&self) -> bool;

    /// Says whether a scan tells kinds but folders apart, and tells mode, owner and time; if not,
    /// size and [`Detection`] alone tell a change.
    fn tells_metadata(&self) -> bool {
        true
    }

    /// Says whether programs may have its files mapped into their memory, and write to them for a
    /// while without a later time.
    fn may_be_mapped(&self) -> bool {
        false
    }

    /// Says whether its files can be read once only, by one reader, each from its beginning to its
    /// end, which alone tells its size; the times of such files say nothing.
    fn is_stream(&self) -> bool {
        false
    }

    /// Says how many readers at a time are of use although they wait most of their time: more than
    /// there are processors where each file costs round trips.
    fn parallel(&self) -> usize {
        1
    }

    /// Returns what a person should know of what was left out, when a scan has ended.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }

    /// Starts a scan.
    ///
    /// # Errors
    /// Only when the root itself cannot be looked at.
    fn scan(&self, cancel: &Cancel) -> Result<Scan<'_>>;

    /// Returns a reader for one thread.
    ///
    /// # Errors
    /// When the source cannot be reached.
    fn reader(&self) -> Result<Box<dyn SourceReader + Send + '_>>;
}

/// A source of a kind that is not known before it runs.
impl<S: Source + ?Sized> Source for Box<S> {
    fn location(&self) -> String {
        (**self).location()
    }

    fn detects_changes(&self) -> bool {
        (**self).detects_changes()
    }

    fn tells_metadata(&self) -> bool {
        (**self).tells_metadata()
    }

    fn may_be_mapped(&self) -> bool {
        (**self).may_be_mapped()
    }

    fn is_stream(&self) -> bool {
        (**self).is_stream()
    }

    fn parallel(&self) -> usize {
        (**self).parallel()
    }

    fn notes(&self) -> Vec<String> {
        (**self).notes()
    }

    fn scan(&self, cancel: &Cancel) -> Result<Scan<'_>> {
        (**self).scan(cancel)
    }

    fn reader(&self) -> Result<Box<dyn SourceReader + Send + '_>> {
        (**self).reader()
    }
}

/// What opening adds to a scanned entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenedEntry {
    /// The entry as it is now; `metadata.xattrs` is filled.
    pub entry: SourceEntry,
    /// Where a symlink points; empty for everything else.
    pub link_target: Vec<u8>,
    /// Where the data of a sparse file is, sorted and apart; None when the file has no holes.
    /// Always within `entry.size`.
    pub extents: Option<Vec<Extent>>,
}

impl OpenedEntry {
    /// Makes one without attributes, target or holes.
    pub fn plain(entry: SourceEntry) -> Self {
        OpenedEntry { entry, link_target: Vec::new(), extents: None }
    }

    /// Leaves of a file's bytes the first `size` at most.
    pub fn truncate(&mut self, size: u64) {
        self.entry.size = self.entry.size.min(size);
        if let Some(extents) = &mut self.extents {
            extents.retain(|extent| extent.offset < size);
            if let Some(last) = extents.last_mut() {
                last.length = last.length.min(size - last.offset);
            }
        }
    }

    /// Returns the entry's extended attributes.
    pub fn xattrs(&self) -> &[Xattr] {
        &self.entry.metadata.xattrs
    }
}

/// Reads entries for one thread, one open at a time. Neighbouring entries are cheap to open one
/// after the other.
pub trait SourceReader {
    /// Opens an entry (closing the one before) and returns it as it is now. A symlink is not
    /// followed; a fifo or device is not opened, only looked at.
    ///
    /// # Errors
    /// `NotFound` when it vanished; `Denied` and others as the system says.
    fn open(&mut self, path: &EntryPath) -> Result<OpenedEntry>;

    /// Reads content of the open file at `offset` until `buffer` is full or the file ends, and
    /// returns how many bytes that were; fewer than asked means the end.
    ///
    /// # Errors
    /// As the system says.
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize>;

    /// Looks at the open entry once more, closes it, and returns it as it is now, without
    /// extended attributes; a difference to [`SourceReader::open`] means it changed while it
    /// was read.
    ///
    /// # Errors
    /// As the system says.
    fn finish(&mut self) -> Result<SourceEntry>;

    /// As [`SourceReader::finish`], but where another look is costly it may come later, with those
    /// at other entries: [`SourceReader::settle`] tells then. Until it did, what is returned is a
    /// guess.
    ///
    /// # Errors
    /// Those of [`SourceReader::finish`].
    fn finish_soon(&mut self) -> Result<SourceEntry> {
        self.finish()
    }

    /// Looks at what [`SourceReader::finish_soon`] has put off, and returns the paths of what is
    /// not certain to be as it was read: each is to be opened and read again.
    fn settle(&mut self) -> Vec<EntryPath> {
        Vec::new()
    }

    /// Closes what is open without another look at it; a session that it holds is free for others
    /// then. To be called where an entry is not finished and no other one is opened soon.
    fn close(&mut self) {}
}
