//! Units: runs of neighbouring entries that one thread takes through all stages, and what comes
//! back of them.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Origin;
use crate::base::id::BlockId;
use crate::base::metadata::Extent;
use crate::base::path::EntryPath;
use crate::chunk::Cut;
use crate::engine::backup::old::Shunned;
use crate::format::entry::Content;
use crate::format::entry::Entry;
use crate::format::entry::EntryNode;
use crate::format::entry::Run;
use crate::format::entry::TrackedEntry;
use crate::format::pack::EncodedBlock;
use crate::repository::transaction::Known;
use crate::source::OpenedEntry;
use crate::source::SourceEntry;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

/// A large file that several units read piece by piece.
#[derive(Debug)]
pub struct LargeFile {
    /// The file as it was opened first.
    pub opened: OpenedEntry,
    /// The entry before, if there was one.
    pub before: Option<Box<TrackedEntry>>,
    /// The runs of the entry before, to look for chunks in first.
    pub before_runs: Vec<Run>,
    /// Blocks it should not lean on.
    pub shunned: Shunned,
    /// How it is cut.
    pub cut: Cut,
    trouble: Mutex<Trouble>,
}

#[derive(Debug, Default)]
struct Trouble {
    failure: Option<Error>,
    has_changed: bool,
}

impl LargeFile {
    /// Makes a file whose pieces are about to be read.
    pub fn new(
        opened: OpenedEntry,
        before: Option<Box<TrackedEntry>>,
        before_runs: Vec<Run>,
        shunned: Shunned,
        cut: Cut,
    ) -> Self {
        LargeFile { opened, before, before_runs, shunned, cut, trouble: Mutex::default() }
    }

    fn trouble(&self) -> MutexGuard<'_, Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that a piece could not be read.
    pub fn fail(&self, error: Error) {
        self.trouble().failure.get_or_insert(error);
    }

    /// Returns what went wrong with any of its pieces.
    pub fn take_failure(&self) -> Option<Error> {
        self.trouble().failure.take()
    }

    /// Says that it changed while it was read; returns whether this is the first to say so.
    pub fn mark_changed(&self) -> bool {
        !std::mem::replace(&mut self.trouble().has_changed, true)
    }
}

/// One thing to do, in path order.
#[derive(Debug)]
pub enum Item {
    /// Nothing: the entry is as before.
    Keep(Box<TrackedEntry>),
    /// Nothing: the entry could not be looked at, and stays as before.
    Unseen(Box<TrackedEntry>),
    /// Open, and read when it is a file.
    Read {
        /// As scanned.
        now: SourceEntry,
        /// As before.
        before: Option<Box<TrackedEntry>>,
        /// As a backup that died has stored it.
        journal: Option<Box<TrackedEntry>>,
    },
    /// Read some extents of a large file.
    Piece {
        /// The file.
        file: Arc<LargeFile>,
        /// What to read of it.
        extents: Vec<Extent>,
        /// Whether the file ends with this piece.
        is_last: bool,
    },
    /// Store what came of a stream.
    Streamed {
        /// The file that it becomes.
        file: Arc<LargeFile>,
        /// Bytes that came before.
        offset: u64,
        /// What came.
        data: Vec<u8>,
        /// Whether nothing comes behind it.
        is_last: bool,
    },
    /// Nothing: the entry is gone.
    Delete(Box<TrackedEntry>),
}

/// A unit of work.
#[derive(Debug)]
pub struct Unit {
    /// Its place in the order.
    pub number: u64,
    /// What to do.
    pub items: Vec<Item>,
}

impl Unit {
    /// Returns the blocks in which the files that are to be read had their content before.
    pub fn blocks_before(&self) -> impl Iterator<Item = &BlockId> {
        let before = self.items.iter().filter_map(|item| match item {
            Item::Read { before, .. } => before.as_ref()?.entry.file(),
            _ => None,
        });
        let runs = before.flat_map(|file| match &file.content {
            Content::Runs(runs) => runs.as_slice(),
            // Those of very large files are brought as their pieces come.
            Content::Listed(_) => &[],
        });
        runs.map(|run| &run.block)
    }
}

/// Blobs that follow each other: `count` places from `at`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Where the first one is.
    pub at: Known,
    /// How many.
    pub count: u32,
    /// How many bytes.
    pub bytes: u64,
}

/// What came of one item.
#[derive(Debug)]
pub enum Outcome {
    /// As before.
    Keep(Box<TrackedEntry>),
    /// Could not be looked at; the entry stays as before, and is read again as soon as it can be.
    Unseen(Box<TrackedEntry>),
    /// Read; a file's content is in the stretches, and its entry's is empty.
    Put(Box<TrackedEntry>, Vec<Stretch>, Option<Box<TrackedEntry>>),
    /// Stored by a backup that died, and still there: the entry is complete.
    Resumed(Box<TrackedEntry>, Option<Box<TrackedEntry>>),
    /// A piece of a large file.
    Piece(Arc<LargeFile>, Vec<Stretch>, bool),
    /// Could not be read; the entry before stays.
    Failed(EntryPath, Error, Option<Box<TrackedEntry>>),
    /// Vanished since the scan: as if it had not been there.
    Vanished(EntryPath, Option<Box<TrackedEntry>>),
    /// A folder that could not be read, or vanished: it stays as before, or is as the scan saw it,
    /// since what is in it needs one.
    Bare(Box<TrackedEntry>, Error, Option<Box<TrackedEntry>>),
    /// Gone.
    Delete(Box<TrackedEntry>),
}

/// What came of a unit.
#[derive(Debug)]
pub struct UnitResult {
    /// Its place in the order.
    pub number: u64,
    /// What came of its items, in order.
    pub outcomes: Vec<Outcome>,
    /// New blocks, in order.
    pub blocks: Vec<EncodedBlock>,
    /// Bytes of new blobs.
    pub new_bytes: u64,
}

/// Adds one blob to a list of stretches, going on with the last where it can.
pub fn push_stretch(stretches: &mut Vec<Stretch>, at: Known, bytes: u64) {
    if let Some(last) = stretches.last_mut()
        && follows(last, &at)
    {
        last.count += 1;
        last.bytes += bytes;
        return;
    }
    stretches.push(Stretch { at, count: 1, bytes });
}

fn follows(last: &Stretch, next: &Known) -> bool {
    match (last.at, *next) {
        (Known::Stored(a, first), Known::Stored(b, place)) => {
            a == b && first.checked_add(last.count) == Some(place)
        }
        (Known::Written(a), Known::Written(b)) => {
            a.number == b.number && a.place + last.count == b.place
        }
        _ => false,
    }
}

/// Puts the folder as it was scanned in the place of an outcome that would leave what is in it
/// without one.
pub fn or_bare(outcome: Outcome, folder: Box<TrackedEntry>) -> Outcome {
    match outcome {
        Outcome::Failed(_, error, before) => Outcome::Bare(folder, error, before),
        Outcome::Vanished(_, before) => {
            let vanished = Error::new(ErrorKind::NotFound, "vanished").at(Origin::Source);
            Outcome::Bare(folder, vanished, before)
        }
        other => other,
    }
}

/// Says of two versions of an entry that differ whether that is worth a backup: the time alone of
/// a folder is not.
pub fn matters(before: &Entry, now: &Entry) -> bool {
    if !matches!(now.node, EntryNode::Directory) {
        return true;
    }
    let mut before = before.clone();
    before.metadata.mtime = now.metadata.mtime;
    before != *now
}

/// Gives what came of a stream the time it had before when nothing else differs: when it came is
/// no change.
pub fn keep_time(before: &Entry, now: &mut Entry) {
    if before.node == now.node {
        now.metadata.mtime = before.metadata.mtime;
    }
}

/// Says whether nothing has to be done for an item.
pub fn is_kept(item: &Item) -> bool {
    matches!(item, Item::Keep(_) | Item::Unseen(_))
}

/// Returns the result of a unit in which nothing has to be looked at.
pub fn kept(unit: Unit) -> UnitResult {
    let outcomes = unit.items.into_iter().filter_map(|item| match item {
        Item::Keep(kept) => Some(Outcome::Keep(kept)),
        Item::Unseen(kept) => Some(Outcome::Unseen(kept)),
        _ => None,
    });
    UnitResult {
        number: unit.number,
        outcomes: outcomes.collect(),
        blocks: Vec::new(),
        new_bytes: 0,
    }
}
