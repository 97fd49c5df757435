//! Floor 2: where a restore writes.
//!
//! A [`Target`] hands out a [`TargetWriter`] to every worker thread. All paths are relative to
//! the target's root; nothing outside it is ever written, and no symlink below it is followed.

use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::metadata::Kind;
use crate::base::metadata::Metadata;
use crate::base::path::EntryPath;
use crate::base::threads::at_once;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

pub mod bucket;
pub mod file;
pub mod files;
mod forgotten;
mod known;
pub mod local;
pub mod memory;
mod spool;

/// What stands in the target already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetEntry {
    /// What it is.
    pub kind: Kind,
    /// Bytes of content; 0 for what is not a file.
    pub size: u64,
    /// Mode, owner, time, without extended attributes.
    pub metadata: Metadata,
    /// How many names the file has; 1 where links do not exist.
    pub links: u64,
    /// Which file it is, of one with several names: its names alone have the same numbers. None
    /// where it has extended attributes, which are not shown, or the target does not tell.
    pub identity: Option<(u64, u64)>,
    /// What it is, where it is neither a file nor a folder. None in the same cases.
    pub node: Option<Node>,
    /// Which thing it is, whatever it is: what has the same numbers is the same thing by another
    /// name, unless the file system gives numbers twice. None where the target does not tell.
    pub inode: Option<(u64, u64)>,
    /// Whether it is a folder with which another file system begins than the one it is in.
    pub is_mount: bool,
}

impl TargetEntry {
    /// Makes one of which no more is told.
    pub(crate) fn plain(kind: Kind, size: u64, metadata: Metadata) -> Self {
        TargetEntry {
            kind,
            size,
            metadata,
            links: 1,
            identity: None,
            node: None,
            inode: None,
            is_mount: false,
        }
    }
}

/// Things that are neither files nor folders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A symbolic link with its target, any bytes.
    Symlink(Vec<u8>),
    /// A named pipe.
    Fifo,
    /// A character device: major, minor.
    CharDevice(u32, u32),
    /// A block device: major, minor.
    BlockDevice(u32, u32),
}

/// What of an entry's metadata a restore sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetadataRules {
    /// Whether uid and gid are set (`--no-owner` clears it).
    pub owner: bool,
}

impl Default for MetadataRules {
    fn default() -> Self {
        MetadataRules { owner: true }
    }
}

/// What will be written to a file before it is finished.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// Its size, holes counted.
    pub size: u64,
    /// Equal marks are of equal content; the other way round that need not be.
    pub mark: [u8; 16],
    /// What will be set when it is finished.
    pub metadata: &'a Metadata,
    /// What of that is set.
    pub rules: MetadataRules,
}

/// What came of the end of a restore.
#[derive(Debug, Default)]
pub struct Finished {
    /// What a person should know that is no failure.
    pub notes: Vec<String>,
    /// Entries that failed only now.
    pub failed: Vec<(EntryPath, Error)>,
}

/// A place to write a tree of files.
pub trait Target: Send + Sync {
    /// Returns where it is, for people.
    fn location(&self) -> String;

    /// Makes the root when it is missing, with all folders above it, and says whether it was
    /// there.
    ///
    /// # Errors
    /// `InvalidInput` when the root is there and no folder; else as the system says.
    fn prepare(&self) -> Result<bool>;

    /// Says how many writers at a time are of use although they wait most of their time: more than
    /// there are processors where each file costs round trips.
    fn parallel(&self) -> usize {
        1
    }

    /// Returns a writer for one thread.
    ///
    /// # Errors
    /// When the target cannot be reached.
    fn writer(&self) -> Result<Box<dyn TargetWriter + Send + '_>>;

    /// Says whether what is written to a file that stands there changes it at once; else it is as it
    /// was until it is finished.
    fn writes_in_place(&self) -> bool {
        true
    }

    /// Does what can be done only when all entries are there. To be called once, when no writer is
    /// at work any more.
    ///
    /// # Errors
    /// What concerns more than one entry.
    fn finish(&self) -> Result<Finished> {
        Ok(Finished::default())
    }

    /// Leaves no finished file without all of its content, as far as that can be done, when a
    /// restore ends early and [`Target::finish`] is not called.
    fn break_off(&self) {}
}

/// Writes for one thread, one file open at a time.
pub trait TargetWriter {
    /// Returns what stands at `path`, not following a link; None when nothing does.
    ///
    /// # Errors
    /// As the system says.
    fn stat(&mut self, path: &EntryPath) -> Result<Option<TargetEntry>>;

    /// Returns the names in a folder, sorted bytewise.
    ///
    /// # Errors
    /// As the system says.
    fn list(&mut self, path: &EntryPath) -> Result<Vec<Vec<u8>>>;

    /// Returns the names in a folder, sorted bytewise, each with whether it is a folder that would
    /// be removed with this one: none on another file system is. What was begun and not finished
    /// may be missing.
    ///
    /// # Errors
    /// As the system says.
    fn list_folders(&mut self, path: &EntryPath) -> Result<Vec<(Vec<u8>, bool)>> {
        let mut names = Vec::new();
        for name in self.list(path)? {
            let there = self.stat(&path.join(&name)?)?;
            let is_folder = |it: TargetEntry| it.kind == Kind::Directory && !it.is_mount;
            names.push((name, there.is_some_and(is_folder)));
        }
        Ok(names)
    }

    /// Says whether what is listed as a folder may be a link, shown as what it leads to.
    fn shows_links_as_folders(&mut self) -> Result<bool> {
        Ok(false)
    }

    /// Removes what is listed as a folder if it is a link shown so, or empty, where links are; says
    /// whether it did.
    ///
    /// # Errors
    /// As the system says.
    fn remove_link(&mut self, _: &EntryPath) -> Result<bool> {
        Ok(false)
    }

    /// Makes a folder that can be written to until [`TargetWriter::set_metadata`]; one that
    /// is there is made writable, if need be, and kept.
    ///
    /// # Errors
    /// `AlreadyExists` when something else stands there.
    fn create_directory(&mut self, path: &EntryPath) -> Result<()>;

    /// Makes a folder like [`TargetWriter::create_directory`] where nothing stands.
    ///
    /// # Errors
    /// `AlreadyExists` when anything stands there, where that costs no round trip to see.
    fn create_new_directory(&mut self, path: &EntryPath) -> Result<()> {
        self.create_directory(path)
    }

    /// Makes a new empty file and opens it for writing.
    ///
    /// # Errors
    /// `AlreadyExists` when anything stands there.
    fn create_file(&mut self, path: &EntryPath) -> Result<()>;

    /// Makes a new empty file in the place of what is there, and opens it for writing. Where a
    /// file is only seen when it was finished, a file that stands there stays until then;
    /// [`TargetWriter::remove`] before that leaves it.
    ///
    /// # Errors
    /// As the system says.
    fn replace_file(&mut self, path: &EntryPath) -> Result<()> {
        self.remove(path)?;
        self.create_file(path)
    }

    /// Says what the file that was opened just now will hold when it is finished, for targets that
    /// can make use of it.
    fn expect(&mut self, _expected: &Expected<'_>) {}

    /// Says whether the open file holds what was said by [`TargetWriter::expect`] already, by a
    /// mark that this program left there. No is always a good answer.
    ///
    /// # Errors
    /// As the system says.
    fn holds_expected(&mut self) -> Result<bool> {
        Ok(false)
    }

    /// Opens a file that is there for reading and writing, never through a link; makes it
    /// writable if need be. One that has other names may be read alone: writing it is
    /// `AlreadyExists` where a name could lead to a file outside.
    ///
    /// # Errors
    /// `InvalidInput` when it is no regular file.
    fn open_file(&mut self, path: &EntryPath) -> Result<()>;

    /// Writes all of `bytes` at `offset` of the open file.
    ///
    /// # Errors
    /// `Full` on a full disk; else as the system says.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<()>;

    /// Reads from the open file at `offset` until `buffer` is full or the file ends; returns
    /// how many bytes that were.
    ///
    /// # Errors
    /// As the system says.
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize>;

    /// Makes a stretch of the open file a hole that reads as zeros.
    ///
    /// # Errors
    /// As the system says.
    fn punch_hole(&mut self, offset: u64, length: u64) -> Result<()>;

    /// Sets the length of the open file, which adds a hole at the end or cuts it off.
    ///
    /// # Errors
    /// As the system says.
    fn set_length(&mut self, length: u64) -> Result<()>;

    /// Sets the metadata of the open file and closes it. Returns what could not be set
    /// (an owner without the right to, an attribute the file system does not know), which is
    /// reported and does not undo the content.
    ///
    /// # Errors
    /// When content may not have been written.
    fn finish_file(&mut self, metadata: &Metadata, rules: MetadataRules) -> Result<Vec<String>>;

    /// Closes the open file without touching its metadata. Somewhere else its content may only be
    /// seen once the file was finished, or with [`TargetWriter::sync`].
    ///
    /// # Errors
    /// When content may not have been written.
    fn close_file(&mut self) -> Result<()>;

    /// Forgets what was written to a file that nobody has finished and that stood there before,
    /// where the target keeps that back.
    ///
    /// # Errors
    /// As the system says.
    fn abandon(&mut self, _path: &EntryPath) -> Result<()> {
        Ok(())
    }

    /// Refuses what [`TargetWriter::create_node`] could not make anywhere here: nothing is to be
    /// removed for it.
    ///
    /// # Errors
    /// `Unsupported`; when the target cannot be reached.
    fn check_node(&mut self, _path: &EntryPath, _node: &Node) -> Result<()> {
        Ok(())
    }

    /// Makes a symlink, fifo or device with its metadata; returns what could not be set.
    ///
    /// # Errors
    /// `AlreadyExists` when anything stands there; `Denied` for a device without the right.
    fn create_node(
        &mut self,
        path: &EntryPath,
        node: &Node,
        metadata: &Metadata,
        rules: MetadataRules,
    ) -> Result<Vec<String>>;

    /// Gives the file at `existing` a second name.
    ///
    /// # Errors
    /// `AlreadyExists` when anything stands at `path`.
    fn link(&mut self, path: &EntryPath, existing: &EntryPath) -> Result<()>;

    /// Sets the metadata of what stands at `path`, whatever its kind: for a folder when all of
    /// its contents are there, for a file whose content was right already. Returns what could
    /// not be set.
    ///
    /// # Errors
    /// As the system says.
    fn set_metadata(
        &mut self,
        path: &EntryPath,
        metadata: &Metadata,
        rules: MetadataRules,
    ) -> Result<Vec<String>>;

    /// Removes what stands at `path`, a folder with all below it, following no link. What is
    /// not there is success.
    ///
    /// # Errors
    /// As the system says; where a folder would go in which another file system is mounted.
    fn remove(&mut self, path: &EntryPath) -> Result<()>;

    /// Makes everything written so far durable.
    ///
    /// # Errors
    /// As the system says.
    fn sync(&mut self) -> Result<()>;
}

/// Does so many things, each once, on so many threads at most.
fn at_a_time(total: usize, threads: usize, act: &(dyn Fn(usize) + Sync)) {
    let next = AtomicUsize::new(0);
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= total {
                return;
            }
            act(number);
        }
    };
    match total.min(threads) {
        0 | 1 => work(),
        threads => at_once(threads, work),
    }
}
