//! Settles tombstones: copies what is live and nowhere else, then deletes what they name.
//!
//! Everybody who could lean on a doomed pack is over, and the mark was made after that. A copy
//! counts only in a pack that exists and that no tombstone names, looked up after the own
//! tombstone was put; so two prunes never rely on each other's packs. A pack that needs no copy
//! is deleted before anything is copied, which makes room on a full disk; where there is not room
//! for all copies, it goes on pack by pack, and each makes room for the next.

use crate::backend::Durability;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::id::BlockId;
use crate::base::id::IndexId;
use crate::base::id::PackId;
use crate::base::limits::PRUNE_ROUNDS_MAX;
use crate::base::planted;
use crate::base::planted::Rule;
use crate::base::progress::Counter;
use crate::base::progress::Phase;
use crate::base::progress::Totals;
use crate::base::progress::Warning;
use crate::base::time::Stopwatch;
use crate::engine::Context;
use crate::engine::pool::Pool;
use crate::engine::prune::jobs::Job;
use crate::engine::prune::jobs::bytes_of;
use crate::engine::prune::jobs::largest_first;
use crate::engine::prune::jobs::of_one_pack;
use crate::engine::prune::jobs::window_of;
use crate::engine::prune::mark::Marked;
use crate::engine::prune::marks::Live;
use crate::format::pack::EncodedBlock;
use crate::repository::Repository;
use crate::repository::doom;
use crate::repository::doom::Tombstones;
use crate::repository::index::IndexView;
use crate::repository::index::Location;
use crate::repository::rescue;
use crate::repository::rescue::Copier;
use crate::repository::stock;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::collections::HashSet;
use std::time::Duration;

/// Why a pack stays whose tombstone vanished while a prune worked under it.
pub const TOMBSTONE_GONE: &str = "its tombstone is gone; the next prune looks at it again";

/// Doomed packs whose rows are held at a time: some MB.
const PACKS_LOOKED_AT: usize = 4096;

/// What was done.
#[derive(Debug, Default)]
pub(super) struct Settled {
    pub(super) packs_deleted: u64,
    pub(super) bytes_deleted: u64,
    pub(super) bytes_written: u64,
    pub(super) indexes_replaced: u64,
    pub(super) stuck: Vec<(PackId, String)>,
}

/// How often a wait looks whether it was cancelled.
const LOOK_EACH: Duration = Duration::from_millis(100);

/// What one look at the doomed packs has left.
struct Look {
    view: IndexView,
    /// What must be copied, of each pack that is there.
    to_copy: Vec<Vec<Job>>,
    /// Packs that are needed and not listed.
    unseen: Vec<PackId>,
    /// All of these.
    left: HashSet<PackId>,
}

struct Settle<'a> {
    repository: &'a Repository,
    marked: &'a Marked,
    /// Packs that were there when this prune began.
    seen: &'a HashSet<PackId>,
    disk_wait: Duration,
    context: &'a Context<'a>,
    settled: Settled,
    stuck: BTreeMap<PackId, String>,
    /// Index objects of the copies that this run has made.
    own: Vec<IndexId>,
    /// When the last of them was put.
    copied: Option<Stopwatch>,
    /// Copies, by pack and offset, of which this run has read all that is live.
    good: HashSet<(PackId, u32)>,
}

/// Settles tombstones.
///
/// # Errors
/// Those of the backend; what is not settled then is left to the next prune.
pub(super) fn settle(
    repository: &Repository,
    tombstones: &Tombstones,
    marked: &Marked,
    seen: &HashSet<PackId>,
    disk_wait: Duration,
    context: &Context<'_>,
) -> Result<Settled> {
    let mut work = Settle {
        repository,
        marked,
        seen,
        disk_wait,
        context,
        settled: Settled::default(),
        stuck: BTreeMap::new(),
        own: Vec::new(),
        copied: None,
        good: HashSet::new(),
    };
    let doomed: BTreeSet<PackId> = tombstones.packs().into_iter().collect();
    let left = work.delete_packs(&doomed)?;
    work.replace_indexes(tombstones, &doomed, &left)?;
    for record in &tombstones.records {
        let is_kept = record.packs.iter().any(|pack| left.contains(pack));
        if !is_kept || !planted::keeps(Rule::KeepsDoom) {
            doom::delete_tombstone(repository.store(), &record.tombstone)?;
        }
    }
    work.settled.stuck = work.stuck.into_iter().collect();
    Ok(work.settled)
}

impl Settle<'_> {
    /// Deletes doomed packs, after copying what must stay. Returns those that are still there.
    fn delete_packs(&mut self, doomed: &BTreeSet<PackId>) -> Result<HashSet<PackId>> {
        let (mut round, mut deleted) = (0, 0);
        loop {
            let mut look = self.delete_unneeded(doomed)?;
            look.left.extend(self.stuck.keys());
            let is_done = look.to_copy.is_empty() && look.unseen.is_empty();
            if is_done || !planted::keeps(Rule::KeepsDoom) {
                return Ok(look.left);
            }
            if round + 1 == PRUNE_ROUNDS_MAX {
                self.give_up(&look)?;
                return Ok(look.left);
            }
            // Where there is little room, those that need the least of it make more.
            look.to_copy.sort_by_key(|jobs| bytes_of(jobs));
            let jobs: Vec<Job> = look.to_copy.into_iter().flatten().collect();
            let is_whole = self.copy(&jobs, &look.view)?;
            // Where there is little room, packs go a few at a time: no sign of others at work.
            let has_gone_on = self.settled.packs_deleted > deleted;
            deleted = self.settled.packs_deleted;
            round += usize::from(is_whole || !has_gone_on);
        }
    }

    /// Deletes those of the doomed packs that need no copy, and says what becomes of the others.
    fn delete_unneeded(&mut self, doomed: &BTreeSet<PackId>) -> Result<Look> {
        self.context.cancel.check()?;
        let store = self.repository.store();
        let mut all_doomed = Tombstones::list(store)?.packs();
        let keeps_doom = planted::keeps(Rule::KeepsDoom);
        if !planted::keeps(Rule::CopiesToTheLiving) {
            all_doomed = doomed.iter().copied().collect();
        }
        let there = stock::packs(store)?;
        self.repository.refresh_index()?;
        // What the mark has seen, what tombstones say, and copies that others have put and may
        // have died before syncing must not be taken back by a power cut once something was
        // deleted for it.
        store.settle()?;
        self.wait_for_the_disk()?;
        let view = self.repository.index().view();
        let packs = self.own.iter().flat_map(|index| view.packs_of(index));
        let own: HashSet<PackId> = packs.map(|pack| pack.pack).collect();
        let counts = |copy: &Location| {
            there.get(&copy.pack.pack) == Some(&copy.pack.size)
                && !all_doomed.contains(&copy.pack.pack)
        };
        let (mut to_copy, mut unseen, mut left) = (Vec::new(), Vec::new(), HashSet::new());
        let doomed: Vec<PackId> =
            doomed.iter().filter(|pack| !self.stuck.contains_key(pack)).copied().collect();
        for some in doomed.chunks(PACKS_LOOKED_AT) {
            let rows = self.rows_of_packs(&some.iter().copied().collect(), &there)?;
            for pack in some {
                let rows = rows.get(pack).map(Vec::as_slice).unwrap_or_default();
                let missing = self.missing(rows, &view, &own, &counts)?;
                match there.get(pack) {
                    // Backups that began since may lean on it: nothing told them not to.
                    Some(_) if !all_doomed.contains(pack) && keeps_doom => {
                        self.stuck.insert(*pack, TOMBSTONE_GONE.to_owned());
                        left.insert(*pack);
                    }
                    Some(&size) if missing.is_empty() => self.delete_pack(pack, size)?,
                    None if missing.is_empty() => {}
                    // Another prune has settled it, and its tombstone with it.
                    None if !all_doomed.contains(pack) && !stock::is_there(store, pack)? => {}
                    is_there => {
                        left.insert(*pack);
                        match is_there {
                            Some(_) => to_copy.push(missing),
                            None => unseen.push(*pack),
                        }
                    }
                }
            }
        }
        Ok(Look { view, to_copy, unseen, left })
    }

    /// Says of what is still there after the last round why it cannot go.
    fn give_up(&mut self, look: &Look) -> Result<()> {
        for job in look.to_copy.iter().flatten() {
            let why = "it is listed, and what is needed of it could not be copied elsewhere";
            self.stuck.entry(job.location.pack.pack).or_insert_with(|| why.to_owned());
        }
        for pack in &look.unseen {
            if let Some(why) = self.why_unseen(pack)? {
                self.stuck.insert(*pack, why.to_owned());
            }
        }
        Ok(())
    }

    /// Says why a doomed pack that is not listed cannot go, as to drop its rows would hide what it
    /// holds. What was there when this run began and is gone was taken by another prune, which
    /// has yet to delete its tombstone: it stays doomed, and the next prune looks at it again.
    fn why_unseen(&self, pack: &PackId) -> Result<Option<&'static str>> {
        if !self.seen.contains(pack) {
            return Ok(Some("it is not there, and something in it is needed and not elsewhere"));
        }
        let is_there = stock::is_there(self.repository.store(), pack)?;
        Ok(is_there.then_some("it is there, but a listing lacks it"))
    }

    /// Deletes a pack whose copies others may have put and not made durable.
    fn delete_pack(&mut self, pack: &PackId, size: u64) -> Result<()> {
        stock::delete_pack(self.repository.store(), pack)?;
        self.settled.packs_deleted += 1;
        self.settled.bytes_deleted += size;
        Ok(())
    }

    /// Returns the rows of doomed packs, each pack from one index object, by offset.
    fn rows_of_packs(
        &self,
        packs: &BTreeSet<PackId>,
        there: &HashMap<PackId, u64>,
    ) -> Result<HashMap<PackId, Vec<Location>>> {
        let view = self.marked.marks.view();
        let mut rows: HashMap<PackId, Vec<Location>> = HashMap::new();
        for (index, _, _) in view.objects() {
            let here: HashSet<PackId> = view
                .packs_of(&index)
                .map(|pack| pack.pack)
                .filter(|pack| packs.contains(pack) && !rows.contains_key(pack))
                .collect();
            if here.is_empty() {
                continue;
            }
            for location in view.rows_of(&index) {
                if here.contains(&location.pack.pack) {
                    rows.entry(location.pack.pack).or_default().push(location);
                }
            }
        }
        for pack in packs {
            if let Some(&size) = there.get(pack).filter(|_| !rows.contains_key(pack)) {
                rows.insert(*pack, self.rows_by_footer(pack, size)?);
            }
        }
        rows.values_mut().for_each(|rows| rows.sort_by_key(|location| location.row.offset));
        Ok(rows)
    }

    /// Returns the rows of a pack that no index object names. One may have, and was not seen at
    /// the mark, which passed by what others say of the same blocks. Where the footer cannot be
    /// read nobody finds anything in it.
    fn rows_by_footer(&self, pack: &PackId, size: u64) -> Result<Vec<Location>> {
        self.context.cancel.check()?;
        let ((pack, rows), _) = match stock::read_footer(self.repository, pack, size) {
            Err(e) if e.kind().is_unreadable() => {
                return Ok(Vec::new());
            }
            footer => footer?,
        };
        Ok(rows.into_iter().map(|row| Location { pack, row }).collect())
    }

    /// Returns what must be copied of one doomed pack: of each block the live places it has,
    /// unless one other copy that counts has all of them, and they verify. That it is listed is
    /// not enough: of two copies the good one may be the doomed one.
    fn missing(
        &mut self,
        rows: &[Location],
        view: &IndexView,
        own: &HashSet<PackId>,
        counts: &dyn Fn(&Location) -> bool,
    ) -> Result<Vec<Job>> {
        let mut jobs = Vec::new();
        for location in rows {
            let row = &location.row;
            let live = self.marked.marks.live(&row.block, row.places).within(row);
            let live = live.without(|place| self.marked.lost.contains(&row.block, place));
            let copies = view.copies(&row.block).into_iter().filter(|copy| counts(copy));
            let mut covering = copies.filter(|copy| live.is_covered_by(&copy.row));
            let mut is_held = live.is_empty();
            while !is_held && let Some(copy) = covering.next() {
                is_held = own.contains(&copy.pack.pack) || self.is_good(&copy)?;
            }
            if !is_held {
                jobs.push(Job { location: location.clone(), live });
            }
        }
        Ok(jobs)
    }

    /// Reads what is live of a copy, and says whether it verifies.
    fn is_good(&mut self, copy: &Location) -> Result<bool> {
        let at = (copy.pack.pack, copy.row.offset);
        if self.good.contains(&at) {
            return Ok(true);
        }
        self.context.cancel.check()?;
        let live = self.marked.marks.live(&copy.row.block, copy.row.places).within(&copy.row);
        let is_wanted =
            |place: u32| live.has(place) && !self.marked.lost.contains(&copy.row.block, place);
        match rescue::verify_copy(self.repository, copy, &is_wanted) {
            Ok(()) => _ = self.good.insert(at),
            Err(e) if e.kind() == ErrorKind::Corrupt || e.kind() == ErrorKind::NotFound => {
                return Ok(false);
            }
            Err(e) => return Err(e),
        }
        Ok(true)
    }

    /// Copies, a window at a time, pack by pack and in the order of offsets. Where there is no
    /// room for all, some are copied, and what they free makes room for others; says false then.
    fn copy(&mut self, jobs: &[Job], view: &IndexView) -> Result<bool> {
        if jobs.is_empty() {
            return Ok(true);
        }
        let totals = Totals { files: None, bytes: Some(bytes_of(jobs)) };
        self.context.progress.start(Phase::Prune, totals);
        let done = match self.copy_all(jobs, view) {
            Err(e) if e.kind() == ErrorKind::Full => match of_one_pack(jobs) {
                few if few.len() < jobs.len() => self.copy_all(few, view).map(|_| false),
                _ => Err(e),
            },
            done => done,
        };
        self.context.progress.finish();
        done
    }

    /// Says false when there was no room for all of them, and for some.
    fn copy_all(&mut self, jobs: &[Job], view: &IndexView) -> Result<bool> {
        let mut copier = Copier::start(self.repository)?;
        let filled = self.fill(&mut copier, jobs, view);
        let finished = filled.and_then(|()| copier.finish());
        let is_whole = finished.is_ok();
        let report = match finished {
            Ok(report) => report,
            Err(e) if e.kind() == ErrorKind::Full => {
                let report = copier.put_so_far();
                if report.indexes.is_empty() {
                    return Err(e);
                }
                report
            }
            Err(e) => return Err(e),
        };
        self.settled.bytes_written += report.stored_bytes;
        self.own.extend(report.indexes);
        self.copied = Some(Stopwatch::start());
        Ok(is_whole)
    }

    /// Waits until what was copied is on the disk of the store's machine, where nothing else can
    /// make it durable: a power cut would take the copies, and the deletion of what they are of
    /// may stand.
    fn wait_for_the_disk(&self) -> Result<()> {
        let durability = self.repository.store().backend().capabilities().durability;
        let Some(copied) = self.copied.as_ref().filter(|_| durability == Durability::Nothing)
        else {
            return Ok(());
        };
        let left = || self.disk_wait.saturating_sub(copied.elapsed());
        if !left().is_zero() {
            let seconds = self.disk_wait.as_secs();
            let message = format!(
                "the server has {seconds} s to write what was copied to its disk, before what it \
                 is a copy of is deleted"
            );
            self.context.progress.warn(&Warning::general(message));
        }
        while !left().is_zero() {
            self.context.cancel.check()?;
            std::thread::sleep(left().min(LOOK_EACH));
        }
        Ok(())
    }

    /// Copies the largest of several copies of one block first, and then only what it lacks: two
    /// doomed packs may hold the same block, and a copy within another would be chosen, and made
    /// again, by each later prune.
    fn fill(&mut self, copier: &mut Copier, jobs: &[Job], view: &IndexView) -> Result<()> {
        let pool = Pool::new(self.context.threads)?;
        let mut copied: HashMap<BlockId, Vec<&Live>> = HashMap::new();
        let jobs = largest_first(jobs);
        let mut rest = jobs.as_slice();
        while !rest.is_empty() {
            self.context.cancel.check()?;
            let (window, after) = rest.split_at(window_of(rest));
            rest = after;
            let encoded = pool.map(window, |job| self.encode(job, view));
            for (job, encoded) in window.iter().zip(encoded) {
                let bytes = u64::from(job.location.row.length);
                self.context.progress.count(Counter::Bytes, bytes);
                match encoded {
                    Ok(block) => {
                        let lives = copied.entry(job.location.row.block).or_default();
                        if !lives.iter().any(|live| job.live.is_part_of(live)) {
                            lives.push(&job.live);
                            copier.add(block)?;
                        }
                    }
                    // Another prune was quicker with it; the next round sees that it is gone.
                    Err(e) if e.kind() == ErrorKind::NotFound => {}
                    Err(e) if e.kind() == ErrorKind::Corrupt => {
                        self.stuck.insert(job.location.pack.pack, e.full_message());
                    }
                    Err(e) => return Err(e),
                }
            }
        }
        Ok(())
    }

    /// Encodes the live places anew, from the doomed copy, or where that is damaged from another
    /// that has them.
    fn encode(&self, job: &Job, view: &IndexView) -> Result<EncodedBlock> {
        let keeps = |place: u32| job.live.has(place);
        let first = match rescue::encode_copy(self.repository, &job.location, &keeps) {
            Ok(block) => return Ok(block),
            Err(e) => e,
        };
        for copy in view.copies(&job.location.row.block) {
            let is_other = copy != job.location && job.live.is_covered_by(&copy.row);
            if is_other && let Ok(block) = rescue::encode_copy(self.repository, &copy, &keeps) {
                return Ok(block);
            }
        }
        Err(first)
    }

    /// Replaces the doomed index objects by others that hold the rows of what is left.
    fn replace_indexes(
        &mut self,
        tombstones: &Tombstones,
        doomed: &BTreeSet<PackId>,
        left: &HashSet<PackId>,
    ) -> Result<()> {
        let mut going: BTreeSet<IndexId> = tombstones.indexes();
        if going.is_empty() {
            return Ok(());
        }
        let store = self.repository.store();
        let all_doomed = Tombstones::list(store)?.indexes();
        if planted::keeps(Rule::KeepsDoom) {
            // What no tombstone names any more, another prune may take to hold the rows of others.
            going.retain(|index| all_doomed.contains(index));
        }
        let gone = doomed.iter().filter(|pack| !left.contains(pack)).copied().collect();
        self.repository.hold_rows_elsewhere(&going, &all_doomed, &gone)?;
        // Objects of others hold some of the rows.
        store.settle()?;
        for id in &going {
            stock::delete_index(store, id)?;
            self.settled.indexes_replaced += 1;
        }
        self.repository.refresh_index()
    }
}
