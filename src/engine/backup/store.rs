//! The one thread that takes what the workers bring, in order: blocks into packs, entries into
//! the manifest or the full index, into the snapshot's hash and into the saved snapshot.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::hash;
use crate::base::id::SnapshotHash;
use crate::base::metadata::Detection;
use crate::base::path::EntryPath;
use crate::base::progress::Counter;
use crate::base::progress::Warning;
use crate::engine::backup::attempt::Attempt;
use crate::engine::backup::tracked::to_tracked;
use crate::engine::backup::unit;
use crate::engine::backup::unit::LargeFile;
use crate::engine::backup::unit::Outcome;
use crate::engine::backup::unit::Stretch;
use crate::engine::backup::unit::UnitResult;
use crate::engine::backup::unit::matters;
use crate::format::backup::Body;
use crate::format::backup::Counts;
use crate::format::entry::EntryNode;
use crate::format::entry::Run;
use crate::format::entry::TrackedEntry;
use crate::format::entry::snapshot_hasher;
use crate::format::range::Change;
use crate::format::range::RangeRow;
use crate::repository::packer::PackedReport;
use crate::repository::ranges::MetadataWriter;
use crate::repository::ranges::RangeWriter;
use crate::repository::saved::SavedKind;
use crate::repository::saved::SavedReader;
use crate::repository::saved::SavedWriter;
use crate::repository::transaction::Known;
use std::collections::VecDeque;

/// What was gathered when all units are in.
pub struct Gathered {
    /// Counts, complete but for what is stored after.
    pub counts: Counts,
    /// Whether anything but detection and times of folders changed.
    pub is_changed: bool,
    /// Whether any entry was looked at again and found as before.
    pub looked: bool,
    /// The snapshot's hash; of no meaning when nothing was awake.
    pub snapshot: SnapshotHash,
    /// The saved snapshot, when anything differs from the one before.
    pub saved: Option<SavedWriter>,
}

/// The committer.
pub struct Committer<'a> {
    attempt: &'a Attempt<'a>,
    metadata: Option<MetadataWriter<'a>>,
    /// Rows of the manifest, or of the full index of a first backup.
    rows: RangeWriter,
    saved: Option<SavedWriter>,
    hasher: hash::Hasher,
    scratch: Vec<u8>,
    waiting: VecDeque<Outcome>,
    large: Vec<Stretch>,
    counts: Counts,
    is_changed: bool,
    looked: bool,
    /// Whether the cache has no snapshot of the parent.
    saves_all: bool,
}

/// Says whether the cache has the entries of the parent.
fn has_saved_snapshot(attempt: &Attempt<'_>) -> bool {
    let (cache, id) = (attempt.dataset.repository().cache(), attempt.dataset.id());
    SavedReader::open(cache, SavedKind::Snapshot, &id, &attempt.digest()).is_some()
}

impl<'a> Committer<'a> {
    /// Starts with nothing.
    pub fn new(attempt: &'a Attempt<'a>) -> Self {
        let rows = if attempt.parent.is_none() {
            RangeWriter::for_full_index()
        } else {
            RangeWriter::default()
        };
        Committer {
            attempt,
            metadata: None,
            rows,
            saved: None,
            hasher: snapshot_hasher(),
            scratch: Vec::new(),
            waiting: VecDeque::new(),
            large: Vec::new(),
            counts: Counts::default(),
            is_changed: attempt.parent.is_none(),
            looked: false,
            saves_all: attempt.parent.is_some() && !has_saved_snapshot(attempt),
        }
    }

    /// Takes the next unit's result.
    ///
    /// # Errors
    /// Those of the repository.
    pub fn take(&mut self, result: UnitResult) -> Result<()> {
        if !result.blocks.is_empty() {
            let metadata = self.metadata()?;
            result.blocks.into_iter().try_for_each(|block| metadata.add_block(block))?;
            let transaction = self.attempt.transaction()?;
            transaction.names().relieve(self.attempt.dataset.repository().cache())?;
        }
        self.counts.new_bytes += result.new_bytes;
        self.attempt.context.progress.count(Counter::StoredBytes, result.new_bytes);
        self.waiting.extend(result.outcomes);
        self.drain()
    }

    fn metadata(&mut self) -> Result<&mut MetadataWriter<'a>> {
        if self.metadata.is_none() {
            self.metadata = Some(MetadataWriter::new(self.attempt.transaction()?)?);
        }
        self.metadata.as_mut().ok_or_else(|| Error::bug("the writer was just made"))
    }

    /// Goes on with outcomes whose blobs have their blocks. One may wait for a block that another
    /// worker is still filling; its unit is on the way.
    fn drain(&mut self) -> Result<()> {
        while let Some(next) = self.waiting.front() {
            if !self.is_settled(next)? {
                return Ok(());
            }
            if let Some(outcome) = self.waiting.pop_front() {
                self.handle(outcome)?;
            }
        }
        Ok(())
    }

    fn is_settled(&self, outcome: &Outcome) -> Result<bool> {
        let (Outcome::Put(_, stretches, _) | Outcome::Piece(_, stretches, _)) = outcome else {
            return Ok(true);
        };
        for stretch in stretches {
            if let Known::Written(at) = stretch.at
                && self.attempt.transaction()?.names().block(at.number).is_none()
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn handle(&mut self, outcome: Outcome) -> Result<()> {
        match outcome {
            Outcome::Keep(kept) => {
                self.attempt.context.progress.count(Counter::Bytes, kept.entry.size());
                self.keep(*kept)
            }
            Outcome::Unseen(kept) => {
                self.attempt.context.progress.count(Counter::Bytes, kept.entry.size());
                self.unseen(*kept)
            }
            Outcome::Put(tracked, stretches, before) => self.put(*tracked, &stretches, before),
            Outcome::Resumed(tracked, before) => self.emit(*tracked, before),
            Outcome::Delete(gone) => self.delete(&gone),
            Outcome::Failed(path, error, before) => {
                self.attempt.failures.warn(&Warning::failed(&path, &error));
                before.map_or(Ok(()), |before| self.unseen(*before))
            }
            Outcome::Vanished(path, before) => {
                let what = "vanished while the backup ran; it is left out";
                self.attempt.failures.warn(&Warning::note(&path, what));
                before.map_or(Ok(()), |before| self.delete(&before))
            }
            Outcome::Bare(folder, error, before) => self.bare(*folder, &error, before),
            Outcome::Piece(file, stretches, is_last) => {
                self.large.extend(stretches);
                if is_last { self.end_large(&file) } else { Ok(()) }
            }
        }
    }

    fn end_large(&mut self, file: &LargeFile) -> Result<()> {
        let stretches = std::mem::take(&mut self.large);
        if let Some(error) = file.take_failure() {
            let path = file.opened.entry.path.clone();
            return self.handle(Outcome::Failed(path, error, file.before.clone()));
        }
        let mut opened = file.opened.clone();
        if opened.extents.is_none() {
            // Of a stream it is not known before.
            opened.entry.size = stretches.iter().map(|stretch| stretch.bytes).sum();
        }
        let path = opened.entry.path.clone();
        match to_tracked(opened, file.cut.to_code()) {
            Ok(tracked) => self.put(tracked, &stretches, file.before.clone()),
            Err(e) => self.handle(Outcome::Failed(path, e, file.before.clone())),
        }
    }

    /// A folder that could not be read, or vanished. Entries in it may have been there, and without
    /// a folder nobody could restore them.
    fn bare(
        &mut self,
        folder: TrackedEntry,
        error: &Error,
        before: Option<Box<TrackedEntry>>,
    ) -> Result<()> {
        let path = &folder.entry.path;
        self.attempt.failures.warn(&match error.kind() {
            ErrorKind::NotFound => {
                Warning::note(path, "vanished while the backup ran; it is kept as it was listed")
            }
            _ => Warning::failed(path, error),
        });
        match before {
            Some(before) if matches!(before.entry.node, EntryNode::Directory) => {
                self.unseen(*before)
            }
            before => self.emit(folder, before),
        }
    }

    fn put(
        &mut self,
        mut tracked: TrackedEntry,
        stretches: &[Stretch],
        before: Option<Box<TrackedEntry>>,
    ) -> Result<()> {
        if let EntryNode::File(file) = &mut tracked.entry.node {
            let runs = self.settle(stretches)?;
            file.content = match before.as_ref().and_then(|before| before.entry.file()) {
                // The same runs make the same lists; they need not be made again.
                Some(old) if self.same_runs(old, &runs) => old.content.clone(),
                _ if runs.is_empty() => crate::format::entry::Content::Runs(runs),
                _ => self.metadata()?.content(runs)?,
            };
        }
        if let (Some(streamed), EntryNode::File(_)) = (self.attempt.streamed, &tracked.entry.node) {
            if let Some(before) = &before {
                unit::keep_time(&before.entry, &mut tracked.entry);
            }
            streamed.put(&tracked);
        }
        self.emit(tracked, before)
    }

    fn same_runs(&self, old: &crate::format::entry::FileNode, runs: &[Run]) -> bool {
        self.attempt.dataset.repository().runs_of(old).is_ok_and(|old| old == runs)
    }

    fn settle(&self, stretches: &[Stretch]) -> Result<Vec<Run>> {
        let mut runs: Vec<Run> = Vec::with_capacity(stretches.len());
        for stretch in stretches {
            let (block, first) = match stretch.at {
                Known::Stored(block, place) => (block, place),
                Known::Written(at) => {
                    let block = self.attempt.transaction()?.names().block(at.number);
                    let unsettled = || Error::bug("a block is without an id when all are in");
                    (block.ok_or_else(unsettled)?, at.place)
                }
            };
            match runs.last_mut() {
                Some(last)
                    if last.block == block && last.first.checked_add(last.count) == Some(first) =>
                {
                    last.count += stretch.count;
                    last.bytes += stretch.bytes;
                }
                _ => runs.push(Run { block, first, count: stretch.count, bytes: stretch.bytes }),
            }
        }
        Ok(runs)
    }

    /// An entry that was looked at: finds out what changed.
    fn emit(&mut self, tracked: TrackedEntry, before: Option<Box<TrackedEntry>>) -> Result<()> {
        let Some(before) = before else {
            return self.changed(tracked, Change::Added, true);
        };
        if before.entry != tracked.entry {
            let matters = matters(&before.entry, &tracked.entry);
            return self.changed(tracked, Change::Modified, matters);
        }
        self.looked = true;
        if before.detection == tracked.detection {
            return self.keep(tracked);
        }
        self.wake(&tracked.entry.path)?;
        self.keep(tracked)
    }

    fn changed(&mut self, tracked: TrackedEntry, change: Change, matters: bool) -> Result<()> {
        self.wake(&tracked.entry.path)?;
        let is_folder = matches!(tracked.entry.node, EntryNode::Directory);
        match change {
            Change::Added if !is_folder => self.counts.added += 1,
            Change::Modified if matters => self.counts.modified += 1,
            _ => {}
        }
        self.count(&tracked);
        self.record(&tracked);
        let change = if self.attempt.parent.is_none() { Change::Present } else { change };
        self.push_row(&RangeRow::Put(change, tracked), matters)
    }

    fn delete(&mut self, gone: &TrackedEntry) -> Result<()> {
        self.wake(&gone.entry.path)?;
        if !matches!(gone.entry.node, EntryNode::Directory) {
            self.counts.deleted += 1;
        }
        self.push_row(&RangeRow::Deleted(gone.entry.path.clone()), true)
    }

    fn push_row(&mut self, row: &RangeRow, matters: bool) -> Result<()> {
        self.is_changed |= matters;
        if !self.is_changed {
            if !self.rows.hold(row)? {
                self.is_changed = true;
            }
            return Ok(());
        }
        if self.metadata.is_none() {
            self.metadata()?;
        }
        match &mut self.metadata {
            Some(metadata) => self.rows.push(row, metadata),
            None => Err(Error::bug("the writer was just made")),
        }
    }

    /// Keeps an entry of which nobody knows whether it is as before: what it looked like is
    /// forgotten, or the next backup might take it for unchanged.
    fn unseen(&mut self, mut kept: TrackedEntry) -> Result<()> {
        if kept.detection != Detection::default() {
            self.wake(&kept.entry.path)?;
            kept.detection = Detection::default();
        }
        self.keep(kept)
    }

    fn keep(&mut self, kept: TrackedEntry) -> Result<()> {
        self.count(&kept);
        self.record(&kept);
        Ok(())
    }

    fn count(&mut self, tracked: &TrackedEntry) {
        self.counts.entries += 1;
        if !matches!(tracked.entry.node, EntryNode::Directory) {
            self.counts.files += 1;
            self.attempt.context.progress.count(Counter::Files, 1);
        }
        self.counts.bytes += tracked.entry.size();
    }

    /// Takes an entry into the snapshot's hash and into the saved snapshot, once awake. It is awake
    /// from the first entry on where the cache has no snapshot: else each run without changes
    /// would read it from the repository again.
    fn record(&mut self, tracked: &TrackedEntry) {
        if self.saves_all && self.saved.is_none() {
            let attempt = self.attempt;
            let cache = attempt.dataset.repository().cache();
            let (id, digest) = (attempt.dataset.id(), attempt.journal_digest());
            self.saved = Some(SavedWriter::start(cache, &id, &digest, attempt.started));
        }
        if let Some(saved) = &mut self.saved {
            tracked.entry.hash_into(&mut self.hasher, &mut self.scratch);
            saved.push(tracked);
        }
    }

    /// The first difference: from here on entries are recorded, and those before it are taken
    /// over from the snapshot before, which they equal.
    fn wake(&mut self, first: &EntryPath) -> Result<()> {
        if self.saved.is_some() {
            return Ok(());
        }
        let attempt = self.attempt;
        let cache = attempt.dataset.repository().cache();
        let started = attempt.started;
        self.saved = Some(SavedWriter::start(
            cache,
            &attempt.dataset.id(),
            &attempt.journal_digest(),
            started,
        ));
        for tracked in attempt.previous_entries()? {
            let tracked = tracked?;
            if tracked.entry.path >= *first {
                break;
            }
            self.record(&tracked);
        }
        Ok(())
    }

    /// Ends: all units are in. A first backup without a single entry wakes up here.
    ///
    /// # Errors
    /// Those of the repository; `Bug` when something waits for ever.
    pub fn finish(mut self, with_rows: bool) -> Result<(Gathered, Option<WrittenRows<'a>>)> {
        self.drain()?;
        if !self.waiting.is_empty() {
            return Err(Error::bug("an entry waits for a block that never came"));
        }
        if let Some(saved) = &mut self.saved {
            saved.end();
        }
        let gathered = Gathered {
            counts: self.counts,
            is_changed: self.is_changed,
            looked: self.looked,
            snapshot: SnapshotHash::new(self.hasher.finish()),
            saved: self.saved.take(),
        };
        if !(gathered.is_changed || with_rows) {
            // Lost content that was read again makes the very blocks that were lost: no entry
            // changes, and all backups that need them are whole again.
            if let Some(metadata) = self.metadata.take() {
                metadata.finish()?;
            }
            return Ok((gathered, None));
        }
        self.metadata()?;
        let written =
            self.metadata.take().map(|metadata| WrittenRows { metadata, rows: self.rows });
        Ok((gathered, written))
    }

    /// Gives the journal up to the next backup, after a failure.
    pub fn leave(self) -> Option<MetadataWriter<'a>> {
        if let Some(saved) = self.saved {
            saved.leave();
        }
        self.metadata
    }
}

/// The rows of a backup, about to be ended.
pub struct WrittenRows<'a> {
    metadata: MetadataWriter<'a>,
    rows: RangeWriter,
}

impl WrittenRows<'_> {
    /// Returns how many rows there are.
    pub fn count(&self) -> u64 {
        self.rows.rows()
    }

    /// Replaces the manifest by a full index of all entries.
    ///
    /// # Errors
    /// Those of the entries and of the repository.
    pub fn make_full(&mut self, entries: impl Iterator<Item = Result<TrackedEntry>>) -> Result<()> {
        self.rows = RangeWriter::for_full_index();
        for tracked in entries {
            self.rows.push(&RangeRow::Put(Change::Present, tracked?), &mut self.metadata)?;
        }
        Ok(())
    }

    /// Ends the rows, and puts all packs and their index; everything is durable then.
    ///
    /// # Errors
    /// Those of the repository.
    pub fn finish(mut self) -> Result<(Body, PackedReport)> {
        let body = self.rows.finish(&mut self.metadata)?;
        Ok((body, self.metadata.finish()?))
    }
}
