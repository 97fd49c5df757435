//! Frees what nothing refers to, while others write, read, forget and prune.
//!
//! ```text
//! carry on    tombstones that lie about: end their leases, mark, settle them
//! plan        mark; weigh the packs; choose all dead, too wasteful, too small
//! doom        put a tombstone: from here on nothing new leans on those packs
//! end         leases listed after that: over, or ended, or else stop: a later prune goes on
//! mark        again: what was committed meanwhile is live
//! settle      copy what is live and nowhere else, delete packs and indexes, the tombstone last
//! retire      headers of forgotten backups that nothing needs, by a floor
//! clean       leases of the dead, unfinished files, parity of packs that are gone
//! ```
//!
//! It never waits and holds nothing that could go stale. Killed anywhere, it leaves tombstones,
//! copies and voids, and the next prune goes on from there. Memory: scratch bits (see `marks`),
//! some 100 bytes a pack, some 300 for each block that is to be copied and 4 for each of its
//! places, one window of blocks being copied.

mod guard;
mod jobs;
mod mark;
mod marks;
mod plan;
mod settle;

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::id::BackupId;
use crate::base::id::DatasetId;
use crate::base::id::IndexId;
use crate::base::id::LeaseId;
use crate::base::id::PackId;
use crate::base::limits::DISK_WAIT_SECONDS;
use crate::base::limits::INDEX_ROWS_TARGET;
use crate::base::limits::SMALL_INDEXES_MAX;
use crate::base::planted;
use crate::base::planted::Rule;
use crate::base::time::Timestamp;
use crate::engine::Context;
use crate::engine::prune::mark::Marked;
use crate::engine::prune::plan::Stock;
use crate::engine::prune::settle::Settled;
use crate::repository::Repository;
use crate::repository::doom;
use crate::repository::doom::Tombstones;
use crate::repository::fence::Observer;
use crate::repository::lease;
use crate::repository::lease::Lease;
use crate::repository::lease::SeenLease;
use crate::repository::parity;
use crate::repository::rescue::NO_LEASE;
use crate::repository::roots::DatasetRoots;
use crate::repository::roots::Roots;
use crate::repository::stock;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::collections::HashSet;
use std::time::Duration;

pub use crate::engine::prune::plan::Plan;
pub use crate::engine::prune::settle::TOMBSTONE_GONE;

/// The share of the used bytes that may stay unused, unless said otherwise: 5 %.
const UNUSED_MAX: f64 = 0.05;

/// What is asked of a prune.
#[derive(Clone, Debug)]
pub struct PruneOptions {
    /// The share of the used bytes that may stay unused, as 0.05.
    pub max_unused: f64,
    /// Leases whose holders a person says are dead.
    pub end_leases: Vec<LeaseId>,
    /// Go on although a dataset is missing, or most of the repository would go.
    pub force: bool,
    /// How long the store's machine may take to write to its disk what was copied, before what it
    /// is a copy of is deleted: for stores that a power cut takes objects from.
    pub disk_wait: Duration,
    /// Only say what would be done.
    pub dry_run: bool,
}

impl Default for PruneOptions {
    fn default() -> Self {
        let end_leases = Vec::new();
        let disk_wait = Duration::from_secs(DISK_WAIT_SECONDS);
        PruneOptions { max_unused: UNUSED_MAX, end_leases, force: false, disk_wait, dry_run: false }
    }
}

/// A writer that a prune stops for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitsFor {
    /// Its lease.
    pub lease: LeaseId,
    /// Machine.
    pub host: String,
    /// Process.
    pub pid: u32,
    /// What it does.
    pub purpose: String,
    /// Since when.
    pub since: Timestamp,
}

/// What a prune did, or with `dry_run` would do.
#[derive(Clone, Debug, Default)]
pub struct PruneReport {
    /// What was chosen.
    pub plan: Plan,
    /// Tombstones of earlier runs that were settled.
    pub carried_on: u64,
    /// Writers that were ended.
    pub leases_ended: u64,
    /// Packs that were deleted.
    pub packs_deleted: u64,
    /// Their bytes.
    pub bytes_deleted: u64,
    /// Bytes of packs and indexes that were written.
    pub bytes_written: u64,
    /// Pack index objects that were replaced.
    pub indexes_replaced: u64,
    /// Headers of forgotten backups that were deleted.
    pub headers_retired: u64,
    /// Bytes of unfinished files that were deleted.
    pub leftovers_bytes: u64,
    /// Parity objects of packs that are gone, which were deleted.
    pub parity_deleted: u64,
    /// Their bytes.
    pub parity_bytes_deleted: u64,
    /// Writers at work: what is doomed goes with a later prune.
    pub waits_for: Vec<WaitsFor>,
    /// Packs that cannot go, as something that is needed cannot be read out of them.
    pub stuck: Vec<(PackId, String)>,
    /// How long it took, in seconds.
    pub seconds: f64,
}

/// Prunes a repository.
///
/// # Errors
/// `InvalidInput` for a share that is none, or a lease that is none; `Denied` where the guard
/// stops it; `Corrupt` when what must stay cannot be told, `Busy` when that is so only of forgotten
/// backups that leases hold; those of the backend. Whatever the error, nothing that is needed was
/// deleted, and the next prune goes on.
pub fn run(
    repository: &Repository,
    options: &PruneOptions,
    context: &Context<'_>,
) -> Result<PruneReport> {
    if !options.max_unused.is_finite() || options.max_unused < 0.0 {
        return Err(Error::invalid("the share that may stay unused is 0 or more"));
    }
    let started = context.clock.now();
    let nobody = DatasetId::new(NO_LEASE);
    // Tells other prunes to leave packs without an index alone; best effort, as readers' are.
    let own = match options.dry_run {
        true => None,
        false => Lease::take(repository.store(), nobody, None, None, "prune", started).ok(),
    };
    let own_id = own.as_ref().map(Lease::id);
    let (ended, seen, forgotten) = (HashSet::new(), HashSet::new(), HashMap::new());
    let report = PruneReport::default();
    let mut work = Work { repository, options, context, own_id, ended, seen, forgotten, report };
    let done = work.run_with_room();
    own.into_iter().for_each(Lease::give_back);
    done?;
    work.report.seconds = context.clock.now().seconds_since(started);
    Ok(work.report)
}

/// Forgotten backups of one dataset whose headers are there.
#[derive(Default)]
struct Forgotten {
    /// Those that no chain needs.
    unneeded: BTreeSet<BackupId>,
    /// Those that others are replayed from.
    replayed: BTreeSet<u64>,
}

struct Work<'a> {
    repository: &'a Repository,
    options: &'a PruneOptions,
    context: &'a Context<'a>,
    own_id: Option<LeaseId>,
    ended: HashSet<LeaseId>,
    /// Packs that were there when this run began: who is gone since was taken by another prune.
    seen: HashSet<PackId>,
    /// Forgotten backups by dataset, as they were when it was chosen what goes: what only they
    /// needed is chosen.
    forgotten: HashMap<DatasetId, Forgotten>,
    report: PruneReport,
}

impl Work<'_> {
    /// On a full store, where something must be written before anything can be deleted, goes on
    /// with the space that was set aside for it: a prune may begin again after any failure.
    fn run_with_room(&mut self) -> Result<()> {
        match self.run() {
            Err(e) if e.kind() == ErrorKind::Full && !self.options.dry_run => {
                if !self.repository.store().backend().release_reserve()? {
                    return Err(e);
                }
                self.run()
            }
            done => done,
        }
    }

    fn run(&mut self) -> Result<()> {
        let store = self.repository.store();
        let olds = Tombstones::list(store)?;
        self.check_ended()?;
        if !self.options.dry_run {
            // The dead are ended in any case: until then they pin what they leaned on.
            self.end_leases(&olds)?;
        }
        if olds.records.is_empty() {
            self.report.waits_for.clear();
        }
        let mut before = stock::packs(store)?;
        self.seen.extend(before.keys());
        let mut marked = mark::mark(self.repository, &self.observer(None), self.context)?;
        self.guard_datasets(&marked)?;
        if !self.options.dry_run && !olds.records.is_empty() && self.report.waits_for.is_empty() {
            self.guard_doomed(&olds, &marked, &before)?;
            let settled = self.settle(&olds, &marked)?;
            self.count(settled);
            self.report.carried_on += olds.records.len() as u64;
            // That mark knows nothing of the copies that were just made.
            drop(marked);
            before = stock::packs(store)?;
            marked = mark::mark(self.repository, &self.observer(None), self.context)?;
            self.guard_datasets(&marked)?;
        }
        let (packs, indexes) = self.choose(&marked, before)?;
        if self.options.dry_run {
            self.say_who_is_at_work(&marked);
            return Ok(());
        }
        self.forgotten = forgotten(&marked.roots);
        drop(marked);
        self.doom_and_settle(&packs, &indexes)?;
        self.clean()
    }

    /// Plans, and returns the packs and index objects that go. `before` is what was in store when
    /// the mark began.
    fn choose(
        &mut self,
        marked: &Marked,
        before: HashMap<PackId, u64>,
    ) -> Result<(Vec<PackId>, Vec<IndexId>)> {
        let stock = self.stock(marked, before)?;
        let uses = plan::weigh(&marked.marks, &stock);
        let pack_bytes = u64::from(self.repository.config().pack_bytes);
        self.report.plan = plan::choose(&uses, self.options.max_unused, pack_bytes);
        self.guard_share(marked, &stock)?;
        Ok(self.going(marked, &stock))
    }

    fn observer(&self, store_now: Option<Timestamp>) -> Observer<'_> {
        Observer { now: self.context.clock.now(), store_now, ended: &self.options.end_leases }
    }

    /// A person's word ends a lease that is there, and not one whose holder runs on this machine or
    /// has given a sign just now.
    fn check_ended(&self) -> Result<()> {
        if self.options.end_leases.is_empty() {
            return Ok(());
        }
        let seen = lease::list(self.repository.store())?;
        let own = self.own_id.and_then(|own| seen.get(&own)).and_then(|own| own.last_sign);
        for id in &self.options.end_leases {
            let Some(lease) = seen.get(id) else {
                return Err(Error::new(ErrorKind::NotFound, format!("there is no lease {id}"))
                    .hint("a prune names the leases that it stops for"));
            };
            let process = &lease.record.process;
            if lease.is_fresh(own) && !self.options.force {
                let message = format!(
                    "lease {id} lives: process {} on {} ({})",
                    process.pid, process.host, lease.record.purpose
                );
                return Err(Error::new(ErrorKind::Busy, message).hint(
                    "wait for it, or stop it and try again in some minutes; --force ends it: it \
                     would start again",
                ));
            }
        }
        Ok(())
    }

    /// Ends the writers' leases that are listed after the tombstones were seen; those that may
    /// live are who this prune stops for.
    fn end_leases(&mut self, tombstones: &Tombstones) -> Result<()> {
        if !planted::keeps(Rule::WaitsForLeases) {
            self.report.waits_for.clear();
            return Ok(());
        }
        let seen = lease::list(self.repository.store())?;
        self.expect_own(&seen)?;
        let own = self.own_id.and_then(|own| seen.get(&own)).and_then(|own| own.last_sign);
        let store_now = tombstones.newest.max(own);
        let mut waits_for = Vec::new();
        let mut ended = Vec::new();
        for lease in seen.values().filter(|lease| lease.record.number.is_some()) {
            if self.repository.is_over(lease)? {
                continue;
            }
            let observer = Observer { store_now, ..self.observer(None) };
            if self.repository.end_standing_lease(lease, &observer)? {
                ended.push(lease.record.lease);
            } else {
                waits_for.push(waits_for_it(lease));
            }
        }
        waits_for.sort_by_key(|waits| (waits.since, waits.lease));
        self.ended.extend(ended);
        self.report.leases_ended = self.ended.len() as u64;
        self.report.waits_for = waits_for;
        Ok(())
    }

    fn say_who_is_at_work(&mut self, marked: &Marked) {
        let at_work = marked.roots.at_work.iter().filter_map(|id| marked.roots.leases.get(id));
        let writers = at_work.filter(|lease| lease.record.number.is_some());
        self.report.waits_for.extend(writers.map(waits_for_it));
        self.report.waits_for.sort_by_key(|waits| (waits.since, waits.lease));
    }

    /// A store that hides this prune's own lease may hide those of writers.
    fn expect_own(&self, seen: &HashMap<LeaseId, SeenLease>) -> Result<()> {
        match &self.own_id {
            Some(own) => lease::expect_listed(self.repository.store(), own, seen),
            None => Ok(()),
        }
    }

    /// Says what is in store; `before` is what was there when the mark began.
    fn stock(&self, marked: &Marked, before: HashMap<PackId, u64>) -> Result<Stock> {
        // After the index: a pack that an index names was put before it.
        let there = stock::packs(self.repository.store())?;
        let doomed = Tombstones::list(self.repository.store())?.packs();
        // As they were before the mark: what those have put who ended since, it may not know.
        let may_write = |id: &&LeaseId| {
            let record = marked.roots.leases.get(*id).map(|seen| &seen.record);
            record.is_some_and(|record| record.number.is_some() || record.parent.is_none())
                && Some(**id) != self.own_id
        };
        let writers: HashSet<LeaseId> =
            marked.roots.at_work.iter().filter(may_write).copied().collect();
        let view = marked.marks.view();
        let busy = view.objects().filter(|(_, lease, _)| writers.contains(lease));
        Ok(Stock {
            before: before.into_keys().collect(),
            there,
            doomed,
            busy_indexes: busy.map(|(id, _, _)| id).collect(),
            unnamed_are_busy: !writers.is_empty() || marked.index_lacks_some,
        })
    }

    /// Returns the packs and index objects that go: what was chosen, packs that indexes name and
    /// that are gone although nothing needs them, and the index objects that name any of these.
    fn going(&self, marked: &Marked, stock: &Stock) -> (Vec<PackId>, Vec<IndexId>) {
        let view = marked.marks.view();
        let mut packs = self.report.plan.going();
        packs.extend(plan::stale_packs(marked, stock));
        let chosen: HashSet<PackId> = packs.iter().copied().collect();
        let mut indexes: BTreeMap<IndexId, bool> = BTreeMap::new();
        let mut small = Vec::new();
        for (id, _, rows) in view.objects() {
            if view.packs_of(&id).any(|pack| chosen.contains(&pack.pack)) {
                indexes.insert(id, true);
            } else if rows < INDEX_ROWS_TARGET && !stock.busy_indexes.contains(&id) {
                small.push(id);
            }
        }
        if small.len() + indexes.len() >= SMALL_INDEXES_MAX {
            indexes.extend(small.into_iter().map(|id| (id, true)));
        }
        (packs, indexes.into_keys().collect())
    }

    fn doom_and_settle(&mut self, packs: &[PackId], indexes: &[IndexId]) -> Result<()> {
        let store = self.repository.store();
        if !self.options.end_leases.is_empty() {
            self.end_leases(&Tombstones::default())?;
        }
        if packs.is_empty() && indexes.is_empty() && self.report.waits_for.is_empty() {
            // Nothing is doomed; forgotten headers may still go, and that takes no mark of places.
            let roots = self.repository.roots(&self.observer(None))?;
            return self.retire(&roots);
        }
        let now = self.context.clock.now();
        doom::put_tombstones(store, packs, indexes, self.report.plan.freed_bytes, now)?;
        let mut tombstones = Tombstones::list(store)?;
        if !planted::keeps(Rule::CopiesToTheLiving) {
            tombstones.records.retain(|record| record.packs == packs);
        }
        self.end_leases(&tombstones)?;
        if !self.report.waits_for.is_empty() {
            return Ok(());
        }
        let marked = mark::mark(self.repository, &self.observer(None), self.context)?;
        self.guard_datasets(&marked)?;
        let settled = self.settle(&tombstones, &marked)?;
        self.count(settled);
        self.retire(&marked.roots)
    }

    fn settle(&self, tombstones: &Tombstones, marked: &Marked) -> Result<Settled> {
        let wait = self.options.disk_wait;
        settle::settle(self.repository, tombstones, marked, &self.seen, wait, self.context)
    }

    fn retire(&mut self, roots: &Roots) -> Result<()> {
        let now = self.context.clock.now();
        // What stays unused by the plan, or was forgotten after it was made, is still to be
        // explained when it goes.
        let plan = &self.report.plan;
        let unused = plan.tolerated_bytes.saturating_add(plan.busy_bytes);
        let goes_all = unused as f64 <= plan.used_bytes as f64 * UNUSED_MAX;
        let nothing = Forgotten::default();
        for dataset in &roots.datasets {
            let id = dataset.dataset.id();
            let freed = self.forgotten.get(&id).filter(|_| goes_all).unwrap_or(&nothing);
            // Most have nothing to retire, and each look at one takes several listings.
            if dataset.may_retire() {
                let is_freed = |n: &&BackupId| freed.unneeded.contains(n);
                let goes: Vec<BackupId> =
                    dataset.unneeded.iter().filter(is_freed).copied().collect();
                self.report.headers_retired += dataset.dataset.retire(&goes, now)?;
            }
            self.repository.remember_accounted(&id, &dataset.replayed, &freed.replayed);
        }
        Ok(())
    }

    fn count(&mut self, settled: Settled) {
        let report = &mut self.report;
        report.packs_deleted += settled.packs_deleted;
        report.bytes_deleted += settled.bytes_deleted;
        report.bytes_written += settled.bytes_written;
        report.indexes_replaced += settled.indexes_replaced;
        report.stuck = settled.stuck;
    }

    /// Sweeps what the dead have left. What cannot be swept stays for the next prune.
    fn clean(&mut self) -> Result<()> {
        let observer = self.observer(None);
        self.repository.sweep_leases(&observer)?;
        let (objects, bytes) = parity::sweep(self.repository)?;
        self.report.parity_deleted = objects;
        self.report.parity_bytes_deleted = bytes;
        let backend = self.repository.store().backend();
        self.report.leftovers_bytes = backend.sweep().unwrap_or(0);
        // Without room for it there is none; the next prune tries again.
        let _ = backend.keep_reserve();
        Ok(())
    }
}

fn forgotten(roots: &Roots) -> HashMap<DatasetId, Forgotten> {
    let datasets = roots.datasets.iter();
    let some = datasets.filter(|it| !it.unneeded.is_empty() || !it.replayed.is_empty());
    let of = |it: &DatasetRoots| Forgotten {
        unneeded: it.unneeded.iter().copied().collect(),
        replayed: it.replayed.clone(),
    };
    some.map(|it| (it.dataset.id(), of(it))).collect()
}

fn waits_for_it(lease: &SeenLease) -> WaitsFor {
    let record = &lease.record;
    WaitsFor {
        lease: record.lease,
        host: record.process.host.clone(),
        pid: record.process.pid,
        purpose: record.purpose.clone(),
        since: record.taken,
    }
}
