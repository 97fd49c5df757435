//! Reads the blocks that a window wants: by pack, neighbours in one read, on all threads.
//!
//! What goes wrong with such a read is no failure yet: the other copies of a block are tried, one
//! by one, and what each has is put together.

use crate::base::error::Error;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::id::BlockId;
use crate::base::limits::COPY_READERS_MAX;
use crate::base::limits::RESTORE_GAP_BYTES;
use crate::base::limits::RESTORE_READ_BYTES;
use crate::base::limits::STORED_BLOCK_BYTES_MAX;
use crate::codec::crypt::Part;
use crate::engine::Context;
use crate::engine::backup::store::Committer;
use crate::engine::backup::unit::UnitResult;
use crate::engine::copy::settle::Fate;
use crate::engine::copy::settle::Own;
use crate::engine::copy::settle::Settler;
use crate::engine::pool;
use crate::engine::restore::reads;
use crate::engine::restore::reads::Spot;
use crate::engine::restore::work::stops;
use crate::format::block::Table;
use crate::format::entry::Run;
use crate::repository::Repository;
use crate::repository::index::Location;
use crate::repository::layout;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::sync::mpsc;

/// A block of which some runs are wanted.
pub(super) struct Wanted {
    pub(super) runs: Vec<Run>,
    /// The first use of it, of the window's.
    use_number: usize,
    /// The copy that is read first, when the index knows one that has all.
    location: Option<Location>,
}

/// What could not be fetched.
pub(super) struct Lost {
    /// The use that wanted it, when it is about one.
    pub(super) of: Option<usize>,
    pub(super) error: Error,
}

impl From<Error> for Lost {
    fn from(error: Error) -> Self {
        Lost { of: None, error }
    }
}

impl Wanted {
    /// Begins with no runs, for a use of the window.
    pub(super) fn new(use_number: usize) -> Self {
        Wanted { runs: Vec::new(), use_number, location: None }
    }

    /// Returns the block.
    pub(super) fn block(&self) -> Option<BlockId> {
        self.runs.first().map(|run| run.block)
    }

    fn locate(&mut self, source: &Repository) -> Result<()> {
        self.runs.sort_unstable_by_key(|run| (run.first, run.count, run.bytes));
        self.runs.dedup();
        let Some(block) = self.block() else { return Ok(()) };
        let has_all = |location: &Location| {
            let last = |run: &Run| run.first.checked_add(run.count.saturating_sub(1));
            let ends = self.runs.iter().all(|run| {
                location.row.has_place(run.first)
                    && last(run).is_some_and(|last| location.row.has_place(last))
            });
            ends && location.row.length as usize <= STORED_BLOCK_BYTES_MAX
        };
        self.location = source.locate_block(&block)?.into_iter().find(has_all);
        Ok(())
    }

    fn spot(&self) -> Option<Spot> {
        let Location { pack, row } = self.location.as_ref()?;
        let start = u64::from(row.offset);
        Some(Spot { pack: pack.pack, start, end: start + u64::from(row.length) })
    }
}

/// What the threads share.
struct Work<'w> {
    settler: &'w Settler<'w>,
    wanted: &'w [Wanted],
    /// Neighbours of one pack each; blocks of which no copy is known stand alone.
    groups: Vec<Range<usize>>,
    next: AtomicUsize,
    is_stopped: AtomicBool,
    lost: Mutex<Option<Lost>>,
    fates: Mutex<HashMap<BlockId, Fate>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Fetches all that is wanted; what is new goes to the committer. Returns what became of each
/// block.
///
/// # Errors
/// The first failure of any thread.
pub(super) fn run(
    settler: &Settler<'_>,
    mut wanted: Vec<Wanted>,
    context: &Context<'_>,
    committer: &mut Committer<'_>,
) -> std::result::Result<HashMap<BlockId, Fate>, Lost> {
    let source = settler.source;
    let located = wanted.iter_mut().try_for_each(|one| one.locate(source));
    located.map_err(|e| e.at(Origin::Source))?;
    wanted.sort_by_key(Wanted::spot);
    let capabilities = source.store().backend().capabilities();
    // Where a read waits for a round trip, more threads than the machine has are of use.
    let threads = match capabilities.uploads > 1 {
        true => context.threads.max(capabilities.parallel.min(COPY_READERS_MAX)),
        false => context.threads.max(1),
    };
    let groups = group(&wanted, threads);
    let threads = threads.min(groups.len()).max(1);
    let work = Work {
        settler,
        wanted: &wanted,
        groups,
        next: AtomicUsize::new(0),
        is_stopped: AtomicBool::new(false),
        lost: Mutex::new(None),
        fates: Mutex::new(HashMap::with_capacity(wanted.len())),
    };
    let (to_committer, results) = mpsc::sync_channel::<UnitResult>(threads);
    // Each thread takes one and drops it when it ends, so that the end of all is seen.
    let senders = Mutex::new(vec![to_committer; threads]);
    let one_thread = |_| {
        let sender = lock(&senders).pop();
        if let Some(sender) = sender {
            work.run(&sender, context);
        }
    };
    let collected = pool::beside(threads, one_thread, || {
        let mut failed = None;
        for result in results {
            if failed.is_none()
                && let Err(e) = committer.take(result)
            {
                work.is_stopped.store(true, Ordering::Relaxed);
                failed = Some(e);
            }
        }
        failed
    });
    if let Some(error) = collected? {
        return Err(Lost::from(error));
    }
    match work.lost.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(lost) => Err(lost),
        None => Ok(work.fates.into_inner().unwrap_or_else(PoisonError::into_inner)),
    }
}

/// Joins neighbours into reads; what has no place in a pack comes first, each alone.
fn group(wanted: &[Wanted], threads: usize) -> Vec<Range<usize>> {
    let nowhere = wanted.iter().take_while(|one| one.location.is_none()).count();
    let spots: Vec<Spot> = wanted.iter().filter_map(Wanted::spot).collect();
    let bytes = reads::read_bytes(&spots, threads, RESTORE_READ_BYTES as u64);
    let joined = reads::joined(&spots, bytes).into_iter();
    let shifted = joined.map(|range| range.start + nowhere..range.end + nowhere);
    (0..nowhere).map(|number| number..number + 1).chain(shifted).collect()
}

impl Work<'_> {
    fn run(&self, sender: &mpsc::SyncSender<UnitResult>, context: &Context<'_>) {
        let mut own = Own::new(sender);
        let done =
            self.run_all(&mut own, context).and_then(|()| Ok(self.settler.seal(&mut own)?));
        if let Err(lost) = done {
            self.is_stopped.store(true, Ordering::Relaxed);
            lock(&self.lost).get_or_insert(lost);
        }
    }

    fn run_all(&self, own: &mut Own<'_>, context: &Context<'_>) -> std::result::Result<(), Lost> {
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(group) = self.groups.get(number) else { return Ok(()) };
            if self.is_stopped.load(Ordering::Relaxed) {
                return Ok(());
            }
            context.cancel.check()?;
            self.group(&self.wanted[group.clone()], own)?;
        }
    }

    fn group(&self, members: &[Wanted], own: &mut Own<'_>) -> std::result::Result<(), Lost> {
        let mut read = Stretches::default();
        match read.tables(self.settler, members) {
            Err(e) if stops(&e) => return Err(Lost::from(e.at(Origin::Source))),
            _ => {}
        }
        let mut left = Vec::with_capacity(members.len());
        for (number, member) in members.iter().enumerate() {
            let table = read.tables.get(number).and_then(Option::as_ref);
            let fate = match table {
                Some(table) => self.settler.settle_by_table(member, table)?,
                None => None,
            };
            match fate {
                Some(fate) => self.settled(member, fate),
                None => left.push(number),
            }
        }
        match read.blocks(self.settler, members, &left) {
            Err(e) if stops(&e) => return Err(Lost::from(e.at(Origin::Source))),
            _ => {}
        }
        for number in left {
            let member = &members[number];
            let fate = self.one(member, number, &mut read, own);
            let fate = fate.map_err(|error| Lost { of: Some(member.use_number), error })?;
            self.settled(member, fate);
        }
        Ok(())
    }

    fn settled(&self, member: &Wanted, fate: Fate) {
        if let Some(block) = member.block() {
            lock(&self.fates).insert(block, fate);
        }
    }

    /// Settles one block by what was read of it, or else by whatever copies there are.
    fn one(
        &self,
        member: &Wanted,
        number: usize,
        read: &mut Stretches,
        own: &mut Own<'_>,
    ) -> Result<Fate> {
        let at_source = |e: Error| e.at(Origin::Source);
        if let Some((location, table, sealed)) = read.take(member, number)
            && let Ok(stored) = self.settler.source.open_copy(location, sealed)
        {
            let plain = std::mem::take(&mut own.plain);
            let decoded = self.settler.source.decode_opened(location, table, stored, plain);
            if let Ok(block) = decoded
                && let Ok(checked) = self.settler.check(member, &block)
            {
                let class = location.row.class;
                let fate = self.settler.settle(&checked, &block, Some((stored, class)), own)?;
                own.plain = block.plain;
                own.plain.clear();
                return Ok(fate);
            }
        }
        let Some(id) = member.block() else { return Err(Error::bug("nobody wants a block")) };
        let places: Vec<(u32, u32)> =
            member.runs.iter().map(|run| (run.first, run.count)).collect();
        let block = self.settler.source.read_block(&id, &places).map_err(at_source)?;
        let checked = self.settler.check(member, &block).map_err(at_source)?;
        self.settler.settle(&checked, &block, None, own)
    }
}

/// What was read of neighbours in a pack.
#[derive(Default)]
struct Stretches {
    tables: Vec<Option<Arc<Table>>>,
    start: u64,
    bytes: Vec<u8>,
}

impl Stretches {
    /// Reads the tables of all members, and their blocks with them where little lies in between.
    fn tables(&mut self, settler: &Settler<'_>, members: &[Wanted]) -> Result<()> {
        let rows = || members.iter().filter_map(|one| Some(&one.location.as_ref()?.row));
        let location = members.first().and_then(|one| one.location.as_ref());
        let start = rows().map(|row| u64::from(row.table_offset)).min();
        let end = rows().map(|row| u64::from(row.table_offset) + u64::from(row.table_length));
        let Some(((location, start), end)) = location.zip(start).zip(end.max()) else {
            return Ok(());
        };
        let spots = || members.iter().filter_map(Wanted::spot);
        let first = spots().map(|spot| spot.start).min().unwrap_or(start);
        let last = spots().map(|spot| spot.end).max().unwrap_or(start);
        let is_near = start.checked_sub(last).is_some_and(|gap| gap <= RESTORE_GAP_BYTES);
        let together = is_near && end - first <= RESTORE_READ_BYTES as u64;
        let from = if together { first } else { start };
        let mut bytes = settler.read(location, from..end)?;
        let cipher = settler.source.pack_cipher(location)?;
        let one = |member: &Wanted| {
            let row = &member.location.as_ref()?.row;
            let at = usize::try_from(u64::from(row.table_offset).checked_sub(from)?).ok()?;
            let sealed = bytes.get_mut(at..at.checked_add(row.table_length as usize)?)?;
            let plain = cipher.open(Part::Table, row.number, sealed).ok()?;
            Table::decode(plain, &row.block).ok().map(Arc::new)
        };
        self.tables = members.iter().map(one).collect();
        if together {
            (self.start, self.bytes) = (from, bytes);
        }
        Ok(())
    }

    /// Reads the blocks of some members, unless they came with the tables.
    fn blocks(&mut self, settler: &Settler<'_>, members: &[Wanted], left: &[usize]) -> Result<()> {
        if !self.bytes.is_empty() || self.tables.is_empty() {
            return Ok(());
        }
        let spots = || left.iter().filter_map(|&number| members[number].spot());
        let location = left.first().and_then(|&number| members[number].location.as_ref());
        let (start, end) = (spots().map(|spot| spot.start).min(), spots().map(|spot| spot.end));
        let Some(((location, start), end)) = location.zip(start).zip(end.max()) else {
            return Ok(());
        };
        self.bytes = settler.read(location, start..end)?;
        self.start = start;
        Ok(())
    }

    /// Returns what was read of one member.
    fn take<'s, 'm>(
        &'s mut self,
        member: &'m Wanted,
        number: usize,
    ) -> Option<(&'m Location, Arc<Table>, &'s mut [u8])> {
        let location = member.location.as_ref()?;
        let table = Arc::clone(self.tables.get(number)?.as_ref()?);
        let at = u64::from(location.row.offset).checked_sub(self.start)?;
        let at = usize::try_from(at).ok()?;
        let sealed = self.bytes.get_mut(at..at.checked_add(location.row.length as usize)?)?;
        Some((location, table, sealed))
    }
}

impl Settler<'_> {
    /// Reads a stretch of a pack of the source.
    fn read(&self, location: &Location, range: Range<u64>) -> Result<Vec<u8>> {
        let key = layout::pack(&location.pack.pack)?;
        self.read_bytes.fetch_add(range.end - range.start, std::sync::atomic::Ordering::Relaxed);
        let bytes = self.source.store().backend().get_range(&key, range);
        bytes.map_err(|e| e.at(Origin::Source))
    }
}
