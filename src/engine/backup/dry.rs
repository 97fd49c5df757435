//! A dry run: reads what a backup would read, compares it with what is stored, and stores nothing.
//!
//! Not even a lease is taken, so it goes beside a backup, and on a repository that can only be
//! read. Content is cut as a backup would cut it, and the names of the chunks tell what is new. A
//! backup that ran now would say the same, but for three things: chunks that are stored once more
//! because a file lies in too many blocks are not counted, content that comes twice is counted
//! twice when more than [`DRY_RUN_NAMES_MAX`] new chunks lie in between, and what the snapshot
//! itself takes is not told.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::id::BackupId;
use crate::base::id::BlobId;
use crate::base::limits::CHAIN_MANIFESTS_MAX;
use crate::base::limits::DRY_RUN_NAMES_MAX;
use crate::base::limits::PIECE_BYTES;
use crate::base::metadata::Extent;
use crate::base::metadata::Kind;
use crate::base::path::EntryPath;
use crate::base::progress::Counter;
use crate::base::progress::Phase;
use crate::base::progress::Totals;
use crate::base::progress::Warning;
use crate::chunk;
use crate::chunk::Cut;
use crate::codec::compress::Compressor;
use crate::engine::Context;
use crate::engine::Failures;
use crate::engine::backup::BackupKind;
use crate::engine::backup::BackupOptions;
use crate::engine::backup::BackupReport;
use crate::engine::backup::read::compresses;
use crate::engine::backup::read::ends_the_run;
use crate::engine::backup::read::to_tracked;
use crate::engine::backup::refuse_another_source;
use crate::engine::backup::scan::LARGE_SAMPLE_BYTES;
use crate::engine::backup::scan::Pieces;
use crate::engine::backup::unit::differs_in_time_only;
use crate::engine::compare::Compared;
use crate::engine::compare::Comparison;
use crate::engine::compare::Rules;
use crate::engine::content::Parts;
use crate::engine::pool;
use crate::format::backup::Counts;
use crate::format::dataset::DatasetName;
use crate::format::entry::Entry;
use crate::format::entry::EntryNode;
use crate::format::entry::FileNode;
use crate::format::entry::TrackedEntry;
use crate::repository::Repository;
use crate::repository::history::Snapshot;
use crate::repository::known::KnownBlobs;
use crate::repository::lost::LostPlaces;
use crate::source::OpenedEntry;
use crate::source::Scan;
use crate::source::Source;
use crate::source::SourceEntry;
use crate::source::SourceReader;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::mpsc;

/// Entries that wait to be looked at, for each thread.
const WAITING_PER_THREAD: usize = 64;

/// An entry to look at.
struct Look {
    now: SourceEntry,
    before: Option<Box<TrackedEntry>>,
}

/// Reads and compares.
///
/// # Errors
/// Those of the repository and of the source as a whole; `Cancelled`.
pub(super) fn run(
    repository: &Repository,
    name: &DatasetName,
    source: &dyn Source,
    scan: Scan<'_>,
    options: &BackupOptions,
    context: &Context<'_>,
) -> Result<BackupReport> {
    let started = context.clock.now();
    let (parent, next) = newest(repository, name)?;
    if let Some(parent) = &parent {
        refuse_another_source(name, parent, source, options)?;
    }
    let lost = repository.lost_places()?;
    let rules = Rules {
        read_all: options.read_all || !source.detects_changes(),
        tells_metadata: source.tells_metadata(),
        checked: parent.as_ref().map_or(started, |parent| parent.backup().header.read_from),
        lost: lost.clone(),
    };
    let failures = Failures::new(context.progress);
    let dry = DryRun {
        repository,
        source,
        context,
        failures: &failures,
        lost,
        known: Mutex::new(None),
        seen: Mutex::default(),
        tally: Mutex::default(),
        error: Mutex::default(),
    };
    let before = parent.as_ref().map(|parent| parent.backup().header.counts);
    let totals = before.map(|c| Totals { files: Some(c.files), bytes: Some(c.bytes) });
    context.progress.start(Phase::Backup, totals.unwrap_or_default());
    let previous = parent.iter().flat_map(Snapshot::entries);
    let done = dry.compare(Comparison::new(scan, previous, rules));
    context.progress.finish();
    done?;
    let Tally { mut counts, rows, is_changed } =
        dry.tally.into_inner().unwrap_or_else(PoisonError::into_inner);
    counts.errors = failures.count();
    let kind = match &parent {
        None => BackupKind::Full,
        Some(_) if !is_changed && !options.allow_unchanged => BackupKind::Unchanged,
        Some(parent) if options.full || wants_full(parent, rows, &counts) => BackupKind::Full,
        Some(_) => BackupKind::Partial,
    };
    let newest = parent.as_ref().map_or(next, Snapshot::number);
    Ok(BackupReport {
        dataset: name.clone(),
        backup: if kind == BackupKind::Unchanged { newest } else { next },
        kind,
        counts,
        errors: failures.into_list(),
        seconds: context.clock.now().seconds_since(started).max(0.0),
    })
}

/// Returns the backup to compare with, and the number that the next one gets.
fn newest(repository: &Repository, name: &DatasetName) -> Result<(Option<Snapshot>, BackupId)> {
    let dataset = match repository.dataset(name) {
        Ok(dataset) => dataset,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok((None, BackupId(0))),
        Err(e) => return Err(e),
    };
    let numbers = dataset.newest_numbers()?;
    let newest = dataset.newest_readable(&numbers)?.map(Arc::new);
    let parent = newest.map(|newest| dataset.snapshot(&numbers, newest)).transpose()?;
    Ok((parent, numbers.next()))
}

fn wants_full(parent: &Snapshot, rows: u64, counts: &Counts) -> bool {
    let header = &parent.backup().header;
    header.chain.len() + 1 > CHAIN_MANIFESTS_MAX || header.counts.chain_rows + rows > counts.entries
}

/// What all threads share.
struct DryRun<'a> {
    repository: &'a Repository,
    source: &'a dyn Source,
    context: &'a Context<'a>,
    failures: &'a Failures<'a>,
    lost: LostPlaces,
    /// Asked for when the first chunk comes that is not where it was.
    known: Mutex<Option<Arc<KnownBlobs>>>,
    /// New chunks that were counted.
    seen: Mutex<HashSet<BlobId>>,
    tally: Mutex<Tally>,
    /// What ended a thread.
    error: Mutex<Option<Error>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl DryRun<'_> {
    fn compare(&self, comparison: impl Iterator<Item = Result<Compared>>) -> Result<()> {
        let threads = self.context.threads.max(self.source.parallel()).max(1);
        let (sender, looks) = mpsc::sync_channel(threads * WAITING_PER_THREAD);
        let looks = Mutex::new(looks);
        let work = |_| {
            if let Err(e) = self.work(&looks) {
                lock(&self.error).get_or_insert(e);
                // Whoever hands out more must not wait for ever.
                while lock(&looks).recv().is_ok() {}
            }
        };
        let led = pool::beside(threads, work, || self.lead(comparison, sender))?;
        let failed = lock(&self.error).take();
        failed.map_or(led, Err)
    }

    /// Counts what needs no look, and hands out the rest.
    fn lead(
        &self,
        comparison: impl Iterator<Item = Result<Compared>>,
        looks: mpsc::SyncSender<Look>,
    ) -> Result<()> {
        for compared in comparison {
            self.context.cancel.check()?;
            if lock(&self.error).is_some() {
                return Ok(());
            }
            match compared? {
                Compared::Same(kept) => self.keep(&kept.entry),
                Compared::Gone(gone) => lock(&self.tally).delete(&gone.entry),
                Compared::Look(now, before, _) => {
                    // The other end hangs up only when all threads have ended.
                    let look = Look { now, before };
                    looks.send(look).map_err(|_| Error::cancelled())?;
                }
                Compared::Failed(_, e) if e.kind() == ErrorKind::Cancelled => return Err(e),
                Compared::Failed(path, e) => self.failures.warn(&Warning::failed(&path, &e)),
                Compared::Skipped(path, why) => self.failures.warn(&Warning::note(&path, why)),
            }
        }
        // A scan that was interrupted ends early; what it did not reach is not gone.
        self.context.cancel.check()
    }

    fn work(&self, looks: &Mutex<mpsc::Receiver<Look>>) -> Result<()> {
        let mut reader = None;
        loop {
            let next = lock(looks).recv();
            let Ok(Look { now, before }) = next else { return Ok(()) };
            let reader = match &mut reader {
                Some(reader) => reader,
                slot => slot.insert(Reader::new(self)?),
            };
            self.context.cancel.check()?;
            self.context.progress.working_on(&now.path);
            match reader.read(&now.path, before.as_deref()) {
                Ok(tracked) => {
                    self.told(&tracked.entry);
                    lock(&self.tally).put(&tracked, before.as_deref());
                }
                Err(e) if ends_the_run(&e) => return Err(e),
                Err(e) if e.kind() == ErrorKind::NotFound => {
                    let what = "vanished while it was looked at; it is left out";
                    self.failures.warn(&Warning::note(&now.path, what));
                    before.iter().for_each(|before| lock(&self.tally).delete(&before.entry));
                }
                Err(e) => {
                    self.failures.warn(&Warning::failed(&now.path, &e));
                    before.iter().for_each(|before| self.keep(&before.entry));
                }
            }
        }
    }

    fn keep(&self, kept: &Entry) {
        self.context.progress.count(Counter::Bytes, kept.size());
        self.told(kept);
        lock(&self.tally).count(kept);
    }

    fn told(&self, entry: &Entry) {
        if !matches!(entry.node, EntryNode::Directory) {
            self.context.progress.count(Counter::Files, 1);
        }
    }

    fn known(&self) -> Result<Arc<KnownBlobs>> {
        let mut known = lock(&self.known);
        if let Some(known) = &*known {
            return Ok(Arc::clone(known));
        }
        let looked = Arc::new(KnownBlobs::look(self.repository)?);
        Ok(Arc::clone(known.insert(looked)))
    }

    /// Counts a chunk that a backup would store.
    fn take(&self, blob: BlobId, length: u64) -> Result<()> {
        if lock(&self.seen).contains(&blob) || self.known()?.has(&blob) {
            return Ok(());
        }
        let mut seen = lock(&self.seen);
        if seen.len() >= DRY_RUN_NAMES_MAX {
            seen.clear();
        }
        if seen.insert(blob) {
            lock(&self.tally).counts.new_bytes += length;
        }
        Ok(())
    }
}

/// What was counted.
#[derive(Default)]
struct Tally {
    counts: Counts,
    /// Rows that the manifest would have.
    rows: u64,
    /// Whether anything but times of folders differs.
    is_changed: bool,
}

impl Tally {
    fn count(&mut self, entry: &Entry) {
        self.counts.entries += 1;
        self.counts.files += u64::from(!matches!(entry.node, EntryNode::Directory));
        self.counts.bytes += entry.size();
    }

    fn put(&mut self, tracked: &TrackedEntry, before: Option<&TrackedEntry>) {
        self.count(&tracked.entry);
        let is_folder = matches!(tracked.entry.node, EntryNode::Directory);
        let Some(before) = before else {
            self.rows += 1;
            self.is_changed = true;
            self.counts.added += u64::from(!is_folder);
            return;
        };
        if before.entry == tracked.entry {
            return;
        }
        self.rows += 1;
        if !is_folder || !differs_in_time_only(&before.entry, &tracked.entry) {
            self.is_changed = true;
            self.counts.modified += 1;
        }
    }

    fn delete(&mut self, gone: &Entry) {
        self.rows += 1;
        self.is_changed = true;
        self.counts.deleted += u64::from(!matches!(gone.node, EntryNode::Directory));
    }
}

/// What one thread reads with.
struct Reader<'a> {
    dry: &'a DryRun<'a>,
    reader: Box<dyn SourceReader + Send + 'a>,
    compressor: Compressor,
    buffer: Vec<u8>,
}

impl<'a> Reader<'a> {
    fn new(dry: &'a DryRun<'a>) -> Result<Self> {
        Ok(Reader {
            dry,
            reader: dry.source.reader()?,
            compressor: Compressor::new(dry.repository.config().compression)?,
            buffer: Vec::new(),
        })
    }

    /// Returns the entry as a backup would store it. Where its content is that of before, its
    /// runs are, too; else it has none.
    fn read(&mut self, path: &EntryPath, before: Option<&TrackedEntry>) -> Result<TrackedEntry> {
        let mut opened = self.reader.open(path)?;
        if !matches!(opened.entry.kind, Kind::File) {
            return to_tracked(opened, 0);
        }
        let (cut, is_same) = self.read_file(&mut opened, before)?;
        self.reader.close();
        let mut tracked = to_tracked(opened, cut.to_code())?;
        let old = before.and_then(|before| before.entry.file());
        if let (EntryNode::File(file), Some(old), true) = (&mut tracked.entry.node, old, is_same) {
            file.content = old.content.clone();
        }
        Ok(tracked)
    }

    /// Reads a file, and says how it would be cut and whether it holds what it held.
    fn read_file(
        &mut self,
        opened: &mut OpenedEntry,
        before: Option<&TrackedEntry>,
    ) -> Result<(Cut, bool)> {
        let size = opened.entry.size;
        let parameters = &self.dry.repository.config().chunks;
        let old = before.and_then(|before| before.entry.file());
        let kept = old.and_then(|old| Cut::from_code(old.cut).ok());
        let mut cut = kept.filter(|cut| chunk::still_fits(*cut, size, parameters));
        // Lost content is stored once more where it is read, though the file is as it was.
        let is_lost = before.is_some_and(|before| self.dry.lost.touches(&before.entry));
        let mut old = OldBlobs::of(self.dry.repository, old);
        let extents = match &opened.extents {
            Some(extents) => extents.clone(),
            None if size == 0 => Vec::new(),
            None => vec![Extent { offset: 0, length: size }],
        };
        let is_large = size > PIECE_BYTES;
        if cut.is_none() && is_large {
            cut = Some(self.sample(opened)?);
        }
        for piece in Pieces::of(extents) {
            self.dry.context.cancel.check()?;
            let wanted: u64 = piece.iter().map(|extent| extent.length).sum();
            let filled = self.fill(&piece, wanted)?;
            if filled < wanted {
                if is_large || opened.extents.is_some() {
                    return Err(Error::new(ErrorKind::Io, "became shorter while it was read")
                        .at(Origin::Source));
                }
                opened.entry.size = filled;
            }
            let cut = match cut {
                Some(cut) => cut,
                None => *cut.insert(self.choose(filled, size)?),
            };
            self.name(&piece, filled, cut, |dry, blob, length| {
                let is_as_before = old.is_next(&blob);
                if is_as_before && !is_lost { Ok(()) } else { dry.take(blob, length) }
            })?;
        }
        let cut = match cut {
            Some(cut) => cut,
            None => self.choose(0, size)?,
        };
        Ok((cut, old.is_at_end()))
    }

    /// Chooses how a file is cut by what was read of it.
    fn choose(&mut self, filled: u64, size: u64) -> Result<Cut> {
        let compresses = compresses(&self.buffer[..filled as usize], &mut self.compressor)?;
        Ok(chunk::choose_cut(size, compresses, &self.dry.repository.config().chunks))
    }

    /// Chooses how a large file is cut, by the same sample as a backup.
    fn sample(&mut self, opened: &OpenedEntry) -> Result<Cut> {
        let offset = match &opened.extents {
            None => opened.entry.size / 2,
            Some(extents) => extents.first().map_or(0, |extent| extent.offset),
        };
        self.buffer.resize(self.buffer.len().max(LARGE_SAMPLE_BYTES), 0);
        let got = self.reader.read_at(offset, &mut self.buffer[..LARGE_SAMPLE_BYTES])?;
        self.choose(got as u64, opened.entry.size)
    }

    /// Reads the extents of a piece one behind the other; returns how many bytes there were.
    fn fill(&mut self, piece: &[Extent], wanted: u64) -> Result<u64> {
        self.buffer.resize(self.buffer.len().max(wanted as usize), 0);
        let mut filled = 0;
        for extent in piece {
            let end = filled + extent.length as usize;
            filled += self.reader.read_at(extent.offset, &mut self.buffer[filled..end])?;
            if filled < end {
                break;
            }
        }
        self.dry.context.progress.count(Counter::Bytes, filled as u64);
        Ok(filled as u64)
    }

    /// Cuts each extent of the buffer on its own and names the chunks.
    fn name(
        &self,
        piece: &[Extent],
        filled: u64,
        cut: Cut,
        mut visit: impl FnMut(&DryRun<'_>, BlobId, u64) -> Result<()>,
    ) -> Result<()> {
        let repository = self.dry.repository;
        let mut done = Ok(());
        let mut start = 0;
        for extent in piece {
            let end = (start + extent.length as usize).min(filled as usize);
            let data = &self.buffer[start..end];
            chunk::cut_lengths(data, cut, repository.gear(), |range| {
                if done.is_ok() {
                    let length = range.len() as u64;
                    done = visit(self.dry, repository.name_blob(&data[range]), length);
                }
            });
            start = end;
        }
        done
    }
}

/// The chunks that a file had, asked one after the other.
struct OldBlobs {
    parts: Option<Parts>,
}

impl OldBlobs {
    fn of(repository: &Repository, old: Option<&FileNode>) -> Self {
        OldBlobs { parts: old.map(|old| Parts::of(repository, old)) }
    }

    /// Returns the next one. What cannot be read is not as it was.
    fn next(&mut self) -> Option<BlobId> {
        let parts = self.parts.as_mut()?;
        parts.find(|part| part.as_ref().map_or(true, |part| part.data.is_some()))?.ok()?.whole()
    }

    fn is_next(&mut self, blob: &BlobId) -> bool {
        let is_it = self.next().as_ref() == Some(blob);
        if !is_it {
            self.parts = None;
        }
        is_it
    }

    /// Says whether all of them have come, and nothing else.
    fn is_at_end(mut self) -> bool {
        let has_had_all = self.parts.is_some();
        has_had_all && self.next().is_none()
    }
}
