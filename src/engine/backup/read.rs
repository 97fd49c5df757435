//! One thread's way with a unit: open, read, cut, hash, look up, gather into blocks, compress.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::limits::PIECE_BYTES;
use crate::base::metadata::Extent;
use crate::base::metadata::Kind;
use crate::base::path::EntryPath;
use crate::base::planted;
use crate::base::planted::Rule;
use crate::base::progress::Counter;
use crate::base::progress::Warning;
use crate::chunk;
use crate::chunk::Cut;
use crate::codec::compress::Compressor;
use crate::engine::Context;
use crate::engine::Failures;
use crate::engine::backup::old;
use crate::engine::backup::old::Old;
use crate::engine::backup::sample::compresses;
use crate::engine::backup::tracked::bare_folder;
use crate::engine::backup::tracked::to_tracked;
use crate::engine::backup::unit;
use crate::engine::backup::unit::Item;
use crate::engine::backup::unit::LargeFile;
use crate::engine::backup::unit::Outcome;
use crate::engine::backup::unit::Stretch;
use crate::engine::backup::unit::Unit;
use crate::engine::backup::unit::UnitResult;
use crate::engine::backup::unit::push_stretch;
use crate::format::entry::Content;
use crate::format::entry::TrackedEntry;
use crate::format::pack::EncodedBlock;
use crate::repository::lost::LostPlaces;
use crate::repository::ranges::BlockBuilder;
use crate::repository::ranges::CLASS_CONTENT;
use crate::repository::transaction::Known;
use crate::repository::transaction::Transaction;
use crate::source::OpenedEntry;
use crate::source::SourceEntry;
use crate::source::SourceReader;
use std::sync::Arc;

/// A file that changes while it is read is read once more, then taken as it is.
const READ_TRIES: usize = 2;

/// What one worker needs.
pub struct Worker<'a> {
    transaction: &'a Transaction,
    lost: &'a LostPlaces,
    failures: &'a Failures<'a>,
    context: &'a Context<'a>,
    reader: Box<dyn SourceReader + Send + 'a>,
    store: BlobStore<'a>,
    /// What was read of the file at hand, and room behind it that is not cleared in between.
    buffer: Vec<u8>,
    filled: usize,
}

/// New blobs of one worker on their way into blocks.
struct BlobStore<'a> {
    transaction: &'a Transaction,
    compressor: Compressor,
    block: BlockBuilder,
    blocks: Vec<EncodedBlock>,
    old: Old,
    new_bytes: u64,
}

impl BlobStore<'_> {
    /// Takes the first `length` bytes of the block's room as a blob, unless it is known.
    fn take(&mut self, length: usize) -> Result<Known> {
        let blob = self.transaction.repository().name_blob(self.block.room(length));
        if let Some(known) = self.old.find(self.transaction, &blob)? {
            return Ok(known);
        }
        let place = self.block.next_place(self.transaction)?;
        if let Some(theirs) = self.transaction.names().claim(&blob, place) {
            return Ok(Known::Written(theirs));
        }
        self.block.take_blob(blob, length);
        self.new_bytes += length as u64;
        self.seal_if_full()?;
        Ok(Known::Written(place))
    }

    /// Stores one chunk unless it is known.
    fn add(&mut self, chunk: &[u8]) -> Result<Known> {
        let blob = self.transaction.repository().name_blob(chunk);
        if let Some(known) = self.old.find(self.transaction, &blob)? {
            return Ok(known);
        }
        let place = self.block.next_place(self.transaction)?;
        if let Some(theirs) = self.transaction.names().claim(&blob, place) {
            return Ok(Known::Written(theirs));
        }
        self.block.room(chunk.len()).copy_from_slice(chunk);
        self.block.take_blob(blob, chunk.len());
        self.new_bytes += chunk.len() as u64;
        self.seal_if_full()?;
        Ok(Known::Written(place))
    }

    fn seal_if_full(&mut self) -> Result<()> {
        let target = self.transaction.repository().config().block_bytes as usize;
        let is_full = self.block.bytes() >= target
            || self.block.len() >= crate::base::limits::BLOCK_PLACES_MAX;
        if is_full { self.seal() } else { Ok(()) }
    }

    fn seal(&mut self) -> Result<()> {
        self.blocks.extend(self.block.seal(self.transaction, &mut self.compressor)?);
        Ok(())
    }
}

impl<'a> Worker<'a> {
    /// Makes a worker with a reader of its own.
    ///
    /// # Errors
    /// When the source cannot be reached or zstd cannot start.
    pub fn new(
        transaction: &'a Transaction,
        lost: &'a LostPlaces,
        reader: Box<dyn SourceReader + Send + 'a>,
        failures: &'a Failures<'a>,
        context: &'a Context<'a>,
    ) -> Result<Self> {
        let store = BlobStore {
            transaction,
            compressor: Compressor::new(transaction.repository().config().compression)?,
            block: BlockBuilder::new(CLASS_CONTENT),
            blocks: Vec::new(),
            old: Old::default(),
            new_bytes: 0,
        };
        let buffer = Vec::new();
        Ok(Worker { transaction, lost, failures, context, reader, store, buffer, filled: 0 })
    }

    /// Takes a unit through all stages.
    ///
    /// # Errors
    /// Those of the repository only; an entry's failure is an outcome.
    pub fn process(&mut self, unit: Unit) -> Result<UnitResult> {
        let mut outcomes = Vec::with_capacity(unit.items.len());
        self.transaction.bring_tables(unit.blocks_before())?;
        for item in unit.items {
            self.context.cancel.check()?;
            outcomes.push(match item {
                Item::Keep(kept) => Outcome::Keep(kept),
                Item::Unseen(kept) => Outcome::Unseen(kept),
                Item::Delete(gone) => Outcome::Delete(gone),
                Item::Piece { file, extents, is_last } => self.piece(file, &extents, is_last)?,
                Item::Streamed { file, offset, data, is_last } => {
                    self.streamed(file, offset, data, is_last)?
                }
                Item::Read { now, before, journal } => self.entry(now, before, journal)?,
            });
        }
        self.read_changed_again(&mut outcomes)?;
        self.store.seal()?;
        Ok(UnitResult {
            number: unit.number,
            outcomes,
            blocks: std::mem::take(&mut self.store.blocks),
            new_bytes: std::mem::take(&mut self.store.new_bytes),
        })
    }

    fn entry(
        &mut self,
        now: SourceEntry,
        before: Option<Box<TrackedEntry>>,
        journal: Option<Box<TrackedEntry>>,
    ) -> Result<Outcome> {
        self.context.progress.working_on(&now.path);
        if let Some(journal) = journal
            && may_resume(self.transaction, &journal)?
        {
            self.context.progress.count(Counter::Bytes, now.size);
            return Ok(Outcome::Resumed(journal, before));
        }
        let folder = (now.kind == Kind::Directory).then(|| bare_folder(&now));
        let outcome = self.read(now.path, before, 1)?;
        Ok(match folder {
            Some(folder) => unit::or_bare(outcome, folder),
            None => outcome,
        })
    }

    /// Reads again what changed while it was read, as the reader's later look shows.
    fn read_changed_again(&mut self, outcomes: &mut [Outcome]) -> Result<()> {
        for path in self.reader.settle() {
            self.context.cancel.check()?;
            let again = outcomes.iter_mut().find_map(|outcome| match outcome {
                Outcome::Put(read, _, before) if read.entry.path == path => {
                    let before = before.take();
                    Some((outcome, before))
                }
                _ => None,
            });
            let (outcome, before) =
                again.ok_or_else(|| Error::bug("what is read again was not read"))?;
            *outcome = self.read(path, before, READ_TRIES)?;
        }
        Ok(())
    }

    /// Reads an entry; `attempt` is the first, or a later one that is told at once what changed.
    fn read(
        &mut self,
        path: EntryPath,
        before: Option<Box<TrackedEntry>>,
        attempt: usize,
    ) -> Result<Outcome> {
        match self.read_entry(&path, before.as_deref(), attempt) {
            Ok((tracked, stretches)) => Ok(Outcome::Put(Box::new(tracked), stretches, before)),
            Err(e) if ends_the_run(&e) => Err(e),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(Outcome::Vanished(path, before)),
            Err(e) => Ok(Outcome::Failed(path, e, before)),
        }
    }

    fn read_entry(
        &mut self,
        path: &EntryPath,
        before: Option<&TrackedEntry>,
        first: usize,
    ) -> Result<(TrackedEntry, Vec<Stretch>)> {
        for attempt in first..=READ_TRIES {
            let mut opened = self.reader.open(path)?;
            if opened.entry.kind != Kind::File {
                return Ok((to_tracked(opened, 0)?, Vec::new()));
            }
            // A file that grew large since the scan is read as far as a piece reaches; the next
            // backup reads it whole.
            opened.truncate(PIECE_BYTES);
            let is_last_try = attempt == READ_TRIES;
            let (cut, stretches) = self.read_file(&mut opened, before)?;
            let after = match is_last_try {
                true => self.reader.finish()?,
                false => self.reader.finish_soon()?,
            };
            if same_file(&opened.entry, &after) || is_last_try {
                if !same_file(&opened.entry, &after) {
                    self.warn_changed(&opened.entry);
                }
                return Ok((to_tracked(opened, cut.to_code())?, stretches));
            }
        }
        Err(Error::bug("the last try returns"))
    }

    fn warn_changed(&self, entry: &SourceEntry) {
        self.failures.warn(&Warning {
            path: Some(entry.path.clone()),
            message: "changed while it was read; it is stored as it was read".to_owned(),
            is_error: true,
        });
    }

    /// Reads a file of at most one piece. A file that ends early gets the length that was read.
    fn read_file(
        &mut self,
        opened: &mut OpenedEntry,
        before: Option<&TrackedEntry>,
    ) -> Result<(Cut, Vec<Stretch>)> {
        let size = opened.entry.size;
        let old = before.and_then(|before| before.entry.file());
        let parameters = &self.transaction.repository().config().chunks;
        let kept = old.and_then(|old| Cut::from_code(old.cut).ok());
        let kept = kept.filter(|cut| chunk::still_fits(*cut, size, parameters));
        let repository = self.transaction.repository();
        let runs = old.map(|old| repository.runs_of(old).unwrap_or_default()).unwrap_or_default();
        self.store.old.start(old::shunned(repository, before, &opened.entry, &runs));
        self.store.old.learn(repository, self.lost, &runs, 0..u64::MAX);
        let is_whole =
            matches!(kept.unwrap_or_else(|| chunk::choose_cut(size, true, parameters)), Cut::Whole);
        let mut stretches = Vec::new();
        if is_whole && opened.extents.is_none() {
            let got = self.read_whole(size as usize)?;
            if got > 0 {
                let known = self.store.take(got)?;
                push_stretch(&mut stretches, known, got as u64);
            }
            opened.entry.size = got as u64;
            self.context.progress.count(Counter::Bytes, got as u64);
            return Ok((Cut::Whole, stretches));
        }
        let extents = match &opened.extents {
            Some(extents) => extents.clone(),
            None => vec![Extent { offset: 0, length: size }],
        };
        let got = self.fill_buffer(&extents)?;
        let wanted: u64 = extents.iter().map(|extent| extent.length).sum();
        if (got as u64) < wanted {
            if opened.extents.is_some() {
                return Err(Error::new(ErrorKind::Io, "became shorter while it was read")
                    .at(Origin::Source));
            }
            opened.entry.size = got as u64;
        }
        let cut = match kept {
            Some(cut) => cut,
            None => {
                let compresses =
                    compresses(&self.buffer[..self.filled], &mut self.store.compressor)?;
                chunk::choose_cut(size, compresses, parameters)
            }
        };
        self.store_buffer(&extents, cut, &mut stretches)?;
        Ok((cut, stretches))
    }

    /// Reads a whole small file into the block's room.
    fn read_whole(&mut self, size: usize) -> Result<usize> {
        if size == 0 { Ok(0) } else { self.reader.read_at(0, self.store.block.room(size)) }
    }

    fn fill_buffer(&mut self, extents: &[Extent]) -> Result<usize> {
        let total: u64 = extents.iter().map(|extent| extent.length).sum();
        if (self.buffer.len() as u64) < total {
            self.buffer.resize(total as usize, 0);
        }
        self.filled = 0;
        for extent in extents {
            let end = self.filled + extent.length as usize;
            let got = self.reader.read_at(extent.offset, &mut self.buffer[self.filled..end])?;
            self.filled += got;
            if self.filled < end {
                break;
            }
        }
        self.context.progress.count(Counter::Bytes, self.filled as u64);
        Ok(self.filled)
    }

    /// Cuts each extent in the buffer on its own, and stores the chunks.
    fn store_buffer(
        &mut self,
        extents: &[Extent],
        cut: Cut,
        stretches: &mut Vec<Stretch>,
    ) -> Result<()> {
        let gear = self.transaction.repository().gear();
        let mut start = 0;
        for extent in extents {
            let end = (start + extent.length as usize).min(self.filled);
            let data = &self.buffer[start..end];
            let store = &mut self.store;
            let mut failed = None;
            chunk::cut_lengths(data, cut, gear, |range| {
                if failed.is_some() {
                    return;
                }
                let length = range.len() as u64;
                match store.add(&data[range]) {
                    Ok(known) => push_stretch(stretches, known, length),
                    Err(e) => failed = Some(e),
                }
            });
            if let Some(error) = failed {
                return Err(error);
            }
            start = end;
        }
        Ok(())
    }

    fn piece(
        &mut self,
        file: Arc<LargeFile>,
        extents: &[Extent],
        is_last: bool,
    ) -> Result<Outcome> {
        self.context.progress.working_on(&file.opened.entry.path);
        let mut stretches = Vec::new();
        let done = self.read_piece(&file, extents, &mut stretches);
        match done {
            Ok(()) => {}
            Err(e) if ends_the_run(&e) => return Err(e),
            Err(e) => file.fail(e),
        }
        Ok(Outcome::Piece(file, stretches, is_last))
    }

    /// Cuts and stores what came of a stream.
    fn streamed(
        &mut self,
        file: Arc<LargeFile>,
        offset: u64,
        data: Vec<u8>,
        is_last: bool,
    ) -> Result<Outcome> {
        let mut stretches = Vec::new();
        self.learn_near(&file, offset);
        self.filled = data.len();
        self.buffer = data;
        let extents = [Extent { offset, length: self.filled as u64 }];
        self.store_buffer(&extents, file.cut.grown(offset), &mut stretches)?;
        Ok(Outcome::Piece(file, stretches, is_last))
    }

    /// Learns where the chunks of an older version are that stood about where a piece begins.
    fn learn_near(&mut self, file: &LargeFile, start: u64) {
        self.store.old.start(Arc::clone(&file.shunned));
        let window = start.saturating_sub(PIECE_BYTES)..start.saturating_add(2 * PIECE_BYTES);
        let repository = self.transaction.repository();
        self.store.old.learn(repository, self.lost, &file.before_runs, window);
    }

    fn read_piece(
        &mut self,
        file: &LargeFile,
        extents: &[Extent],
        stretches: &mut Vec<Stretch>,
    ) -> Result<()> {
        let entry = &file.opened.entry;
        let opened = self.reader.open(&entry.path)?;
        self.learn_near(file, extents.first().map_or(0, |extent| extent.offset));
        let got = self.fill_buffer(extents)?;
        let wanted: u64 = extents.iter().map(|extent| extent.length).sum();
        if (got as u64) < wanted {
            return Err(
                Error::new(ErrorKind::Io, "became shorter while it was read").at(Origin::Source)
            );
        }
        self.store_buffer(extents, file.cut, stretches)?;
        let after = self.reader.finish()?;
        if (!same_file(entry, &after) || !same_file(entry, &opened.entry)) && file.mark_changed() {
            self.warn_changed(entry);
        }
        Ok(())
    }
}

/// Says whether what a backup that died has stored of an entry is still all there.
///
/// # Errors
/// Those of the repository.
pub fn may_resume(transaction: &Transaction, journal: &TrackedEntry) -> Result<bool> {
    let Some(file) = journal.entry.file() else { return Ok(true) };
    for run in file.content.direct() {
        if !transaction.may_lean_on_run(run)? {
            return Ok(false);
        }
    }
    if let Content::Listed(_) = file.content {
        let Ok(runs) = transaction.repository().runs_of(file) else { return Ok(false) };
        for run in runs {
            if !transaction.may_lean_on_run(&run)? {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// Says whether an error ends the backup: any but that of an entry which cannot be read.
pub(super) fn ends_the_run(e: &Error) -> bool {
    let is_taken_so = planted::keeps(Rule::FullEndsIt) || e.kind() != ErrorKind::Full;
    e.origin() != Origin::Source && is_taken_so
}

fn same_file(a: &SourceEntry, b: &SourceEntry) -> bool {
    (a.kind, a.size, a.metadata.mtime, &a.detection)
        == (b.kind, b.size, b.metadata.mtime, &b.detection)
}
