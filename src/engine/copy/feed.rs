//! Hands all entries of one backup to the committer, window by window.

use crate::base::error::Error;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::id::BackupId;
use crate::base::id::BlockId;
use crate::base::limits::COPY_BLOCKS_KEPT_MAX;
use crate::base::limits::COPY_ENTRIES_MAX;
use crate::base::limits::COPY_PLACES_MAX;
use crate::base::limits::COPY_RUNS_MAX;
use crate::base::limits::RESTORE_WINDOW_BYTES;
use crate::base::metadata::Extent;
use crate::base::progress::Counter;
use crate::engine::backup::attempt::Attempt;
use crate::engine::backup::store::Committer;
use crate::engine::backup::unit::Outcome;
use crate::engine::backup::unit::Stretch;
use crate::engine::backup::unit::UnitResult;
use crate::engine::backup::unit::push_stretch;
use crate::engine::copy::changes::Look;
use crate::engine::copy::changes::Step;
use crate::engine::copy::changes::Steps;
use crate::engine::copy::fetch;
use crate::engine::copy::fetch::Wanted;
use crate::engine::copy::hints::Hints;
use crate::engine::copy::known::Carried;
use crate::engine::copy::known::Lookup;
use crate::engine::copy::known::Taken;
use crate::engine::copy::settle::Fate;
use crate::engine::copy::settle::Settler;
use crate::format::backup::Header;
use crate::format::backup::Original;
use crate::format::config::Encryption;
use crate::format::entry::Content;
use crate::format::entry::EntryNode;
use crate::format::entry::FileNode;
use crate::format::entry::Run;
use crate::format::entry::TrackedEntry;
use crate::repository::Repository;
use crate::repository::history::Snapshot;
use crate::repository::transaction::Known;
use std::cell::Cell;
use std::collections::HashMap;
use std::sync::atomic::AtomicU64;

/// What kept a backup from being copied that is no damage of its own.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    is_overtaken: Cell<bool>,
    has_lost_base: Cell<bool>,
}

impl Trouble {
    /// Says whether the number that was planned is taken.
    pub(super) fn is_overtaken(&self) -> bool {
        self.is_overtaken.get()
    }

    /// Says whether the backup before it does not serve.
    pub(super) fn has_lost_base(&self) -> bool {
        self.has_lost_base.get()
    }
}

/// One backup and where it goes.
pub(super) struct Feed<'a> {
    pub(super) source: &'a Repository,
    pub(super) snapshot: &'a Snapshot,
    /// The backup of the source that the target's newest is a copy of.
    pub(super) base: Option<&'a Snapshot>,
    pub(super) newest: Option<Original>,
    pub(super) next: BackupId,
    pub(super) carried: &'a Carried,
    pub(super) taken: &'a mut Taken,
    pub(super) read_bytes: &'a AtomicU64,
    pub(super) trouble: &'a Trouble,
}

impl Feed<'_> {
    /// Hands every entry to the committer.
    ///
    /// # Errors
    /// Of origin source when the backup cannot be read; those of the target; `Cancelled`.
    pub(super) fn run(self, attempt: &Attempt<'_>, committer: &mut Committer<'_>) -> Result<()> {
        let transaction = attempt.transaction()?;
        if transaction.number() != self.next {
            // What was planned by may be copied by somebody else meanwhile.
            self.trouble.is_overtaken.set(true);
            return Err(Error::cancelled());
        }
        let target = attempt.dataset.repository();
        let plain = |it: &Repository| it.config().encryption == Encryption::None;
        let same_names = plain(self.source) && plain(target);
        let is_base = |header: &Header| {
            self.newest.is_some() && Some(header.origin(target.id())) == self.newest
        };
        let parent = attempt.parent.as_ref().map(|parent| &parent.backup().header);
        // Where places are lost every file is looked at, so that what is there again heals them.
        let serves = parent.is_some_and(is_base) && attempt.lost.is_empty();
        let base = self.base.filter(|_| serves);
        let lookup = Lookup { transaction, lost: &attempt.lost, carried: self.carried, same_names };
        let settler = Settler {
            source: self.source,
            target,
            transaction,
            same_names,
            read_bytes: self.read_bytes,
        };
        let mut steps = Steps::new(self.snapshot, base, attempt.previous_entries()?);
        let taken = self.taken;
        let mut gathering =
            Gathering { attempt, committer, lookup, settler, taken, window: Window::default() };
        let mut sums = Sums::default();
        let counts = &self.snapshot.backup().header.counts;
        let gathered = loop {
            match steps.next() {
                None => break gathering.flush(),
                Some(Err(e)) => break Err(e),
                Some(Ok(step)) => {
                    sums.add(&step);
                    if let Err(e) = gathering.take(step) {
                        break Err(e);
                    }
                }
            }
        };
        let differs = (sums.entries, sums.bytes) != (counts.entries, counts.bytes);
        let is_wrong = gathered.is_ok() && base.is_some() && differs;
        if steps.has_lost_base() || is_wrong {
            self.trouble.has_lost_base.set(true);
        }
        match is_wrong {
            true => Err(Error::corrupt("the backup before does not fit").at(Origin::Source)),
            false => gathered,
        }
    }
}

/// What the entries come to, to be compared with what the header says.
#[derive(Default)]
struct Sums {
    entries: u64,
    bytes: u64,
}

impl Sums {
    fn add(&mut self, step: &Step) {
        if let Step::Keep(tracked) | Step::Look(Look { now: tracked, .. }) = step {
            self.entries += 1;
            self.bytes += tracked.entry.size();
        }
    }
}

/// A run that is wanted by a file of the window.
struct Use {
    run: Run,
    file: usize,
    known: Option<Known>,
}

/// A file whose runs are looked up.
struct FileItem {
    tracked: TrackedEntry,
    before: Option<Box<TrackedEntry>>,
    stretches: Vec<Stretch>,
}

enum Item {
    Done(Outcome),
    File(Box<FileItem>),
}

/// Entries on their way, in order.
#[derive(Default)]
struct Window {
    items: Vec<Item>,
    uses: Vec<Use>,
    places: u64,
    weight: usize,
}

impl Window {
    fn is_full(&self) -> bool {
        self.items.len() >= COPY_ENTRIES_MAX
            || self.uses.len() >= COPY_RUNS_MAX
            || self.places >= COPY_PLACES_MAX
            || self.weight >= RESTORE_WINDOW_BYTES
    }

    fn push(&mut self, item: Item, weight: usize) {
        self.weight += weight;
        self.items.push(item);
    }
}

/// Returns how many bytes an entry takes in memory, beside what all take.
fn weigh(tracked: &TrackedEntry) -> usize {
    let xattrs = tracked.entry.metadata.xattrs.iter();
    let file = tracked.entry.file();
    let extents = file.and_then(|file| file.extents.as_ref()).map_or(0, Vec::len);
    let runs = file.map_or(0, |file| file.content.direct().len());
    tracked.entry.path.as_bytes().len()
        + xattrs.map(|xattr| xattr.name.len() + xattr.value.len()).sum::<usize>()
        + extents * size_of::<Extent>()
        + runs * size_of::<Run>()
}

struct Gathering<'g, 'a, 'c> {
    attempt: &'g Attempt<'a>,
    committer: &'g mut Committer<'c>,
    lookup: Lookup<'g>,
    settler: Settler<'g>,
    taken: &'g mut Taken,
    window: Window,
}

impl Gathering<'_, '_, '_> {
    fn take(&mut self, step: Step) -> Result<()> {
        self.attempt.context.cancel.check()?;
        match step {
            Step::Keep(kept) => {
                let weight = weigh(&kept);
                self.window.push(Item::Done(Outcome::Keep(kept)), weight);
            }
            Step::Gone(gone) => {
                let weight = weigh(&gone);
                self.window.push(Item::Done(Outcome::Delete(gone)), weight);
            }
            Step::Look(look) => self.look(look)?,
        }
        let is_due = match self.window.uses.is_empty() {
            // Nothing has to be looked up: there is no reason to wait.
            true => self.window.items.len() >= COPY_ENTRIES_MAX / 16,
            false => false,
        };
        if is_due || self.window.is_full() { self.flush() } else { Ok(()) }
    }

    fn look(&mut self, look: Look) -> Result<()> {
        let Look { now, base, before } = look;
        self.attempt.context.progress.working_on(&now.entry.path);
        self.attempt.context.progress.count(Counter::Bytes, now.entry.size());
        let weight = weigh(&now);
        let Some(file) = now.entry.file().cloned() else {
            self.window.push(Item::Done(Outcome::Put(now, Vec::new(), before)), weight);
            return Ok(());
        };
        if let Some(content) = self.same_content(&file, base.as_deref(), before.as_deref()) {
            let tracked = Box::new(with_content(*now, content));
            self.window.push(Item::Done(Outcome::Resumed(tracked, before)), weight);
            return Ok(());
        }
        let hints = self.hints(base.as_deref(), before.as_deref());
        let tracked = with_content(*now, Content::Runs(Vec::new()));
        let stretches = Vec::new();
        let item = Box::new(FileItem { tracked, before, stretches });
        self.window.push(Item::File(item), weight);
        for run in self.settler.source.runs(&file) {
            let run = run.map_err(|e| self.at_file(self.window.items.len() - 1, e))?;
            if self.window.is_full() && !self.window.uses.is_empty() {
                self.attempt.context.cancel.check()?;
                self.flush_but_last()?;
            }
            let known = self.lookup.find(&run, &hints, self.taken)?;
            self.window.places += u64::from(run.count);
            let file = self.window.items.len() - 1;
            self.window.uses.push(Use { run, file, known });
        }
        Ok(())
    }

    /// Returns the content of a file in the target, when it is that of the former version.
    fn same_content(
        &self,
        file: &FileNode,
        base: Option<&TrackedEntry>,
        before: Option<&TrackedEntry>,
    ) -> Option<Content> {
        let before = before?;
        let there = before.entry.file()?;
        let is_base = base.and_then(|base| base.entry.file()).is_some_and(|base| {
            base.content == file.content && base.data_bytes() == file.data_bytes()
        });
        // The id of a block is made of what is in it.
        let is_there = self.lookup.same_names && there.content == file.content;
        let is_same = (is_base || is_there) && !self.attempt.lost.touches(&before.entry);
        is_same.then(|| there.content.clone())
    }

    /// Compares the former version of a file on both sides, if there is one.
    fn hints(&self, base: Option<&TrackedEntry>, before: Option<&TrackedEntry>) -> Hints {
        let base = base.and_then(|base| base.entry.file());
        let before = before.and_then(|before| before.entry.file());
        let Some((base, before)) = base.zip(before) else { return Hints::default() };
        // Lists that cannot be read give no hints: the content is read then.
        let here = self.settler.source.runs_of(base);
        let there = self.settler.target.runs_of(before);
        match (here, there) {
            (Ok(here), Ok(there)) => Hints::between(&here, &there),
            _ => Hints::default(),
        }
    }

    fn at_file(&self, item: usize, error: Error) -> Error {
        let path = self.window.items.get(item).and_then(|item| match item {
            Item::File(file) => Some(&file.tracked.entry.path),
            Item::Done(_) => None,
        });
        let error = error.at(Origin::Source);
        match path {
            Some(path) => error.context(format!("cannot read {path}")),
            None => error,
        }
    }

    /// Copies what the window wants, and hands its entries on.
    fn flush(&mut self) -> Result<()> {
        self.resolve()?;
        let window = std::mem::take(&mut self.window);
        let outcomes = window.items.into_iter().map(Item::into_outcome).collect();
        self.committer.take(result(outcomes))
    }

    /// Like `flush`, while more runs of the last file are to come.
    fn flush_but_last(&mut self) -> Result<()> {
        self.resolve()?;
        let mut window = std::mem::take(&mut self.window);
        self.window.items.extend(window.items.pop());
        let outcomes = window.items.into_iter().map(Item::into_outcome).collect();
        self.committer.take(result(outcomes))
    }

    /// Turns all runs of the window into stretches of the target.
    fn resolve(&mut self) -> Result<()> {
        let mut wanted: HashMap<BlockId, Wanted> = HashMap::new();
        for (number, one) in self.window.uses.iter().enumerate() {
            if one.known.is_none() {
                let wanted = wanted.entry(one.run.block).or_insert_with(|| Wanted::new(number));
                wanted.runs.push(one.run);
            }
        }
        let fates = match wanted.is_empty() {
            true => HashMap::new(),
            false => {
                let wanted = wanted.into_values().collect();
                let context = self.attempt.context;
                let fetched = fetch::run(&self.settler, wanted, context, self.committer);
                // A target that fails is no source that cannot be read: the backup would be left
                // out, and with a later one on top of it for good.
                fetched.map_err(|lost| match lost.of {
                    Some(number) if lost.error.origin() == Origin::Source => {
                        self.at_file(self.window.uses[number].file, lost.error)
                    }
                    _ => lost.error,
                })?
            }
        };
        for one in std::mem::take(&mut self.window.uses) {
            let Some(Item::File(file)) = self.window.items.get_mut(one.file) else {
                return Err(Error::bug("a run belongs to no file"));
            };
            match (one.known, fates.get(&one.run.block)) {
                (Some(at), _) => add(&mut file.stretches, at, &one.run),
                (None, Some(fate)) => fate.place(&one.run, &mut file.stretches)?,
                (None, None) => return Err(Error::bug("a block was passed over")),
            }
        }
        for (block, fate) in fates {
            if let Fate::Taken { number, id, thin: None } = fate
                && self.taken.len() < COPY_BLOCKS_KEPT_MAX
            {
                self.taken.insert(block, (number, id));
            }
        }
        self.window.places = 0;
        Ok(())
    }
}

impl Item {
    fn into_outcome(self) -> Outcome {
        match self {
            Item::Done(outcome) => outcome,
            Item::File(file) => {
                let FileItem { tracked, before, stretches } = *file;
                Outcome::Put(Box::new(tracked), stretches, before)
            }
        }
    }
}

fn result(outcomes: Vec<Outcome>) -> UnitResult {
    UnitResult { number: 0, outcomes, blocks: Vec::new(), new_bytes: 0 }
}

fn with_content(mut tracked: TrackedEntry, content: Content) -> TrackedEntry {
    if let EntryNode::File(file) = &mut tracked.entry.node {
        file.content = content;
    }
    tracked
}

/// Adds a run whose places follow each other in the target as they do in the source.
pub(super) fn add(stretches: &mut Vec<Stretch>, at: Known, run: &Run) {
    stretches.push(Stretch { at, count: run.count, bytes: run.bytes });
}

/// Adds one place.
pub(super) fn add_place(stretches: &mut Vec<Stretch>, at: Known, bytes: u64) {
    push_stretch(stretches, at, bytes);
}
