//! Looks until everything that can be known is: what a replay needs and cannot have makes packs
//! suspicious, and these are read; packs that no index names are looked into for it as well.

use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::id::IndexId;
use crate::base::id::PackId;
use crate::base::progress::Phase;
use crate::base::progress::Totals;
use crate::engine::check;
use crate::engine::check::Run;
use crate::engine::check::damage_of;
use crate::engine::check::datasets::View;
use crate::engine::check::ledger::Ledger;
use crate::engine::check::objects;
use crate::engine::check::packs;
use crate::engine::check::packs::Job;
use crate::engine::check::replay;
use crate::engine::check::stock::Gathered;
use crate::engine::check::stock::Indexed;
use crate::engine::check::stock::Stock;
use crate::repository::Repository;
use crate::repository::index::Location;
use crate::repository::lease::Lease;
use crate::repository::stock;
pub(super) use crate::repository::stock::Footer;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashSet;

/// Packs that are in use here by their footers, and packs that are read as parity heals them, until
/// it is dropped.
pub(super) struct Overlay<'a> {
    repository: &'a Repository,
    pub(super) footers: BTreeMap<PackId, Footer>,
}

impl<'a> Overlay<'a> {
    pub(super) fn new(repository: &'a Repository) -> Self {
        Overlay { repository, footers: BTreeMap::new() }
    }

    /// Reads the footer of a pack and takes the pack into use; says whether that is new.
    fn open(&mut self, run: &Run<'_>, stock: &mut Stock, id: &PackId) -> Result<bool> {
        let Some(&size) = stock.there.get(id).filter(|_| !self.footers.contains_key(id)) else {
            return Ok(false);
        };
        let (pack, rows) = match stock::read_footer(run.repository, id, size) {
            Ok((footer, bytes)) => {
                run.count_read(bytes);
                footer
            }
            Err(e) => {
                let e = damage_of(e)?;
                if !e.kind().is_damage() {
                    stock.unjudged.insert(*id, e.full_message());
                }
                return Ok(false);
            }
        };
        self.repository.index().add_pending(&pack, &rows)?;
        let told = Indexed { size: pack.size, salt: pack.salt, rows: rows.len() as u64 };
        stock.indexed.insert(*id, told);
        self.footers.insert(*id, (pack, rows));
        Ok(true)
    }
}

impl Drop for Overlay<'_> {
    fn drop(&mut self) {
        self.footers.keys().for_each(|pack| self.repository.index().drop_pending(pack));
        self.repository.read_as_stored();
    }
}

/// What was found.
pub(super) struct Looked {
    pub(super) views: Vec<View>,
    pub(super) stock: Stock,
    pub(super) ledger: Ledger,
    pub(super) gathered: Gathered,
    /// Packs that no index names and that backups need.
    pub(super) needed: BTreeSet<PackId>,
    /// Readable index objects that tell what is not so.
    pub(super) wrong_indexes: BTreeSet<IndexId>,
    /// Footers that were read.
    pub(super) footers: BTreeMap<PackId, Footer>,
}

/// Looks at everything.
pub(super) fn all(
    run: &Run<'_>,
    overlay: &mut Overlay<'_>,
    leases: &mut Vec<Lease>,
) -> Result<Looked> {
    let mut ledger = Ledger::default();
    let (views, mut stock, _) = check::begin(run, leases, &mut ledger)?;
    stock.heals = true;
    let unindexed: Vec<PackId> =
        stock.unindexed().into_iter().filter(|pack| !stock.doomed.contains(pack)).collect();
    let mut jobs = packs::jobs(run, &stock);
    jobs.iter_mut().for_each(|job| job.data = run.options.read_data.is_some());
    let files = views.iter().map(View::files).sum();
    let bytes = jobs.iter().map(|job| job.size).sum();
    run.context.progress.start(Phase::Check, Totals { files: Some(files), bytes: Some(bytes) });
    let read = packs::read_all(run, &mut stock, &jobs, &mut ledger);
    let mut inspected: HashSet<PackId> = jobs.iter().map(|job| job.pack).collect();
    let mut looked = read.and_then(|()| {
        let mut rounds = Rounds { run, overlay, stock: &mut stock, inspected: &mut inspected };
        rounds.go(&views, &unindexed, &mut ledger)
    });
    run.context.progress.finish();
    let (gathered, needed, wrong_indexes) = match &mut looked {
        Ok(found) => std::mem::take(found),
        Err(_) => return Err(looked.err().unwrap_or_else(Error::cancelled)),
    };
    objects::report_unknown_blocks(&stock, &mut ledger);
    let footers = overlay.footers.clone();
    Ok(Looked { views, stock, ledger, gathered, needed, wrong_indexes, footers })
}

type Found = (Gathered, BTreeSet<PackId>, BTreeSet<IndexId>);

struct Rounds<'a, 'b, 'r> {
    run: &'a Run<'a>,
    overlay: &'b mut Overlay<'r>,
    stock: &'b mut Stock,
    inspected: &'b mut HashSet<PackId>,
}

impl Rounds<'_, '_, '_> {
    /// Replays until nothing new is suspicious. Each round reads packs that none has read.
    fn go(&mut self, views: &[View], unindexed: &[PackId], ledger: &mut Ledger) -> Result<Found> {
        let mut is_first = true;
        let mut wrong_indexes = BTreeSet::new();
        loop {
            wrong_indexes.extend(self.wrong_indexes(ledger));
            self.open_misindexed(&wrong_indexes)?;
            self.stock.forget_touched();
            self.stock.gathered = Some(self.watched());
            let found = replay::all(self.run, views, self.stock, is_first)?;
            is_first = false;
            let gathered = self.stock.gathered.take().unwrap_or_default();
            let mut goes_on = false;
            if !found.is_empty() && self.misses_something(&gathered, &found) {
                for pack in unindexed {
                    self.run.context.cancel.check()?;
                    goes_on |= self.overlay.open(self.run, self.stock, pack)?;
                }
            }
            let needed = self.needed(unindexed);
            let mut suspicious: BTreeSet<PackId> = needed.clone();
            suspicious.extend(damaged_packs(ledger).chain(damaged_packs(&found)));
            let jobs = self.jobs(&suspicious);
            if !goes_on && jobs.is_empty() {
                ledger.merge(found);
                return Ok((gathered, needed, wrong_indexes));
            }
            packs::read_all(self.run, self.stock, &jobs, ledger)?;
            self.inspected.extend(jobs.iter().map(|job| job.pack));
        }
    }

    fn misses_something(&self, gathered: &Gathered, found: &Ledger) -> bool {
        !gathered.missing.is_empty()
            || !gathered.unknown.is_empty()
            || !gathered.suffered.is_empty()
            || found.damaged_objects().next().is_some()
    }

    fn jobs(&self, packs: &BTreeSet<PackId>) -> Vec<Job> {
        let new = packs.iter().filter(|pack| !self.inspected.contains(*pack));
        let job = |pack: &PackId| {
            let size = *self.stock.there.get(pack)?;
            Some(Job { pack: *pack, size, data: true })
        };
        new.filter_map(job).collect()
    }

    /// Every block of a bad pack is watched: which of its places do backups need?
    fn watched(&self) -> Gathered {
        let mut gathered = Gathered::default();
        let (index, bad) = (self.run.repository.index(), &self.stock.bad);
        if bad.is_empty() {
            return gathered;
        }
        let mut watch = |location: &Location| {
            if bad.contains_key(&location.pack.pack) {
                gathered.live.entry(location.row.block).or_default();
            }
        };
        for id in index.ids() {
            // The visit does not fail, as what it calls does not.
            let _ = index.visit(&id, &mut |location| {
                watch(&location);
                Ok(())
            });
        }
        for (pack, rows) in self.overlay.footers.values() {
            rows.iter().for_each(|row| watch(&Location { pack: *pack, row: row.clone() }));
        }
        gathered
    }

    /// Returns the packs without an index that give backups what no other gives.
    fn needed(&self, unindexed: &[PackId]) -> BTreeSet<PackId> {
        let index = self.run.repository.index();
        let is_needed = |pack: &&PackId| {
            let Some((_, rows)) = self.overlay.footers.get(*pack) else { return false };
            rows.iter().filter(|row| self.stock.is_touched(&row.block)).any(|row| {
                let mut named = index.find_named(&row.block);
                named.retain(|copy| self.stock.named.contains(&copy.pack.pack));
                (0..row.places)
                    .filter(|&place| row.has_place(place))
                    .any(|place| !named.iter().any(|copy| self.stock.can_give(copy, place)))
            })
        };
        unindexed.iter().filter(is_needed).copied().collect()
    }

    /// Returns the readable index objects of which damage was told.
    fn wrong_indexes(&self, ledger: &Ledger) -> Vec<IndexId> {
        let index = self.run.repository.index();
        let objects = ledger.damaged_objects().filter_map(|object| object.strip_prefix("index/"));
        let ids = objects.filter_map(|object| object.get(3..)?.parse().ok());
        let readable: HashSet<IndexId> = index.ids().into_iter().collect();
        let mut wrong: Vec<IndexId> = ids.filter(|id| readable.contains(id)).collect();
        for id in readable {
            let packs = index.packs_of(&id);
            let names_one = packs.iter().any(|it| self.stock.misindexed.contains(&it.pack));
            if names_one && !self.stock.doomed_indexes.contains(&id) {
                wrong.push(id);
            }
        }
        wrong
    }

    fn open_misindexed(&mut self, wrong: &BTreeSet<IndexId>) -> Result<()> {
        for id in wrong {
            for pack in self.run.repository.index().packs_of(id) {
                self.overlay.open(self.run, self.stock, &pack.pack)?;
            }
        }
        Ok(())
    }
}

fn damaged_packs(ledger: &Ledger) -> impl Iterator<Item = PackId> {
    let objects = ledger.damaged_objects().filter_map(|object| object.strip_prefix("packs/"));
    objects.filter_map(|object| object.get(3..)?.parse().ok())
}
