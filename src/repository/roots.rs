//! What must stay: the first half of a prune's mark.
//!
//! The order of looks is the protocol's: forget markers, then leases, then headers. A marker that
//! comes later is obeyed by the next prune; a backup that comes later leans on nothing doomed.

use crate::backend::Listed;
use crate::backend::key::FolderKey;
use crate::base::error::Error;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::id::BackupId;
use crate::base::id::DatasetId;
use crate::base::id::LeaseId;
use crate::repository::Repository;
use crate::repository::ahead;
use crate::repository::datasets::Backup;
use crate::repository::datasets::Dataset;
use crate::repository::fence::Observer;
use crate::repository::layout;
use crate::repository::lease;
use crate::repository::lease::SeenLease;
use crate::repository::numbers::Slot;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::collections::HashSet;

/// Metadata that one entry may take: what a forgotten backup explains beside its content.
const ENTRY_BYTES: u64 = 300;

/// A header that is replayed: its number, and which of those at the number. There is more than
/// one only without an atomic create.
pub type HeaderAt = (u64, usize);

/// What must stay of one dataset.
pub struct DatasetRoots {
    /// The dataset; its name is its id when it has none any more.
    pub dataset: Dataset,
    /// The number after the highest that was ever taken.
    next: BackupId,
    /// The floor: every number below it is taken for good.
    floor: u64,
    /// Each root with the numbers of the chain that is replayed before it, in order. Lists and no
    /// maps, as there may be a hundred thousand datasets of one backup each.
    pub roots: Vec<(HeaderAt, Vec<u64>)>,
    /// Those of them that are forgotten and stay as leases name them, each with one of these.
    pub held: BTreeMap<u64, LeaseId>,
    /// What was listed of the roots and of their chains, in order.
    headers: Vec<(u64, Slot)>,
    /// Numbers that are forgotten and that no root has as ancestor.
    pub unneeded: Vec<BackupId>,
    /// Those that are forgotten, and that a root has as ancestor.
    pub replayed: BTreeSet<u64>,
    /// Bytes of the snapshots of forgotten backups whose headers are there, but for those that
    /// this machine's last prune has accounted for.
    pub forgotten_bytes: u64,
}

/// What must stay of a repository.
pub struct Roots {
    /// Of each dataset.
    pub datasets: Vec<DatasetRoots>,
    /// All leases as listed after the markers and before the headers.
    pub leases: HashMap<LeaseId, SeenLease>,
    /// Those of them whose holders may be alive and, of writers, may still commit.
    pub at_work: BTreeSet<LeaseId>,
    /// Datasets that this machine has seen with backups and that are not listed any more.
    pub missing: Vec<DatasetId>,
}

impl Repository {
    /// Returns the ids of all folders of datasets, named or not.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn dataset_folders(&self) -> Result<Vec<DatasetId>> {
        let list = |folder: &FolderKey| {
            let mut folders: Vec<FolderKey> = Vec::new();
            let listed = self.store().backend().list(folder, &mut |listed| {
                if let Listed::Folder(below) = listed {
                    folders.push(below);
                }
                Ok(())
            });
            let listed = listed.map(|()| folders);
            listed.map_err(|e| e.context("cannot list datasets").at(Origin::Repository))
        };
        let halves = list(&layout::folder("datasets")?)?;
        let folders = ahead::map(self.store(), &halves, &list)?;
        let mut ids: Vec<DatasetId> =
            folders.iter().flatten().filter_map(|folder| folder.name().parse().ok()).collect();
        ids.sort_unstable();
        Ok(ids)
    }

    /// Returns all datasets by their folders, with their names where they have one.
    fn all_datasets(&self) -> Result<Vec<Dataset>> {
        let mut found = self.datasets()?;
        let named: BTreeSet<DatasetId> = found.iter().map(Dataset::id).collect();
        for id in self.dataset_folders()? {
            if !named.contains(&id) {
                found.push(Dataset::of_folder(self, id)?);
            }
        }
        Ok(found)
    }

    /// Finds what must stay.
    ///
    /// # Errors
    /// Those of the backend; `Corrupt` for a header that is needed and cannot be read: what it
    /// leans on is unknown then.
    pub fn roots(&self, observer: &Observer<'_>) -> Result<Roots> {
        let mut forgotten: HashMap<DatasetId, BTreeSet<u64>> = HashMap::new();
        for dataset in self.all_datasets()? {
            let hidden = dataset.forgotten_numbers()?;
            if !hidden.is_empty() {
                forgotten.entry(dataset.id()).or_default().extend(hidden);
            }
        }
        let leases = lease::list(self.store())?;
        let mut pins: HashMap<DatasetId, BTreeMap<u64, LeaseId>> = HashMap::new();
        let mut at_work = BTreeSet::new();
        for (id, seen) in &leases {
            let is_dead = self.is_dead(seen, observer);
            let is_over = match seen.record.number {
                None => is_dead,
                Some(_) => self.is_over(seen)?,
            };
            if !is_over && !is_dead {
                at_work.insert(*id);
            }
            if let Some(parent) = seen.record.parent.filter(|_| !is_over) {
                pins.entry(seen.record.dataset).or_default().insert(parent.0, *id);
            }
        }
        // Before the listings, which need not show what others put and remember while they run.
        let seen = self.highest_seen();
        let mut datasets: Vec<DatasetRoots> = Vec::new();
        let (mut known, empty, nobody) = (HashSet::new(), BTreeSet::new(), BTreeMap::new());
        for dataset in self.all_datasets()? {
            let id = dataset.id();
            if !known.insert(id) {
                continue;
            }
            let forgotten = forgotten.get(&id).unwrap_or(&empty);
            datasets.push(dataset.roots(forgotten, pins.get(&id).unwrap_or(&nobody))?);
        }
        let missing = missing_datasets(&seen, &datasets);
        Ok(Roots { datasets, leases, at_work, missing })
    }
}

/// Returns the datasets that this machine's cache knew with backups, and that are gone or show
/// less than they did.
fn missing_datasets(seen: &[(DatasetId, u64)], datasets: &[DatasetRoots]) -> Vec<DatasetId> {
    let next = |known: &DatasetRoots| (known.dataset.id(), known.next.0);
    let next: HashMap<DatasetId, u64> = datasets.iter().map(next).collect();
    let is_there = |id: &DatasetId, highest: u64| next.get(id).is_some_and(|next| *next >= highest);
    let missing = seen.iter().filter(|(id, highest)| *highest > 0 && !is_there(id, *highest));
    missing.map(|(id, _)| *id).collect()
}

impl Dataset {
    fn roots(
        &self,
        forgotten: &BTreeSet<u64>,
        pins: &BTreeMap<u64, LeaseId>,
    ) -> Result<DatasetRoots> {
        let numbers = self.all_numbers()?;
        let (mut roots, mut held) = (Vec::new(), BTreeMap::new());
        let mut ancestors: BTreeSet<u64> = BTreeSet::new();
        let mut hidden = Vec::new();
        let mut forgotten_bytes = 0_u64;
        let accounted = self.repository().accounted(&self.id());
        for n in numbers.iter() {
            let is_forgotten = forgotten.contains(&n.0);
            let holder = pins.get(&n.0).filter(|_| is_forgotten);
            held.extend(holder.map(|lease| (n.0, *lease)));
            if is_forgotten && holder.is_none() {
                hidden.push(n);
                if accounted.contains(&n.0) {
                    continue;
                }
                // A forgotten header that cannot be read explains nothing, and is not needed.
                for backup in self.kept_at(&numbers, n).unwrap_or_default() {
                    let counts = backup.header.counts;
                    let metadata = counts.entries.saturating_mul(ENTRY_BYTES);
                    let bytes = counts.bytes.saturating_add(metadata);
                    forgotten_bytes = forgotten_bytes.saturating_add(bytes);
                }
                continue;
            }
            for (which, backup) in self.kept_at(&numbers, n)?.iter().enumerate() {
                let chain: Vec<u64> = backup.header.chain.iter().map(|link| link.0).collect();
                ancestors.extend(chain.iter());
                roots.push(((n.0, which), chain));
            }
        }
        let is_root = |n: u64| roots.binary_search_by_key(&n, |((root, _), _)| *root).is_ok();
        let needed = numbers.iter().filter(|n| is_root(n.0) || ancestors.contains(&n.0));
        let needed = needed.filter(|n| !numbers.is_below_floor(*n));
        let mut headers: Vec<(u64, Slot)> =
            needed.filter_map(|n| Some((n.0, numbers.slots.get(&n.0)?.bare()))).collect();
        headers.shrink_to_fit();
        roots.shrink_to_fit();
        let is_unneeded = |n: &BackupId| !ancestors.contains(&n.0) && !numbers.is_below_floor(*n);
        let unneeded = hidden.iter().copied().filter(is_unneeded).collect();
        let is_replayed = |n: &BackupId| ancestors.contains(&n.0);
        let replayed = hidden.iter().filter(|n| is_replayed(n)).map(|n| n.0).collect();
        Ok(DatasetRoots {
            dataset: self.clone(),
            next: numbers.next(),
            floor: numbers.floor(),
            roots,
            held,
            headers,
            unneeded,
            replayed,
            forgotten_bytes,
        })
    }
}

impl Roots {
    /// Leaves out what stays only as leases name it.
    pub fn leave_out_held(&mut self) {
        for dataset in &mut self.datasets {
            dataset.roots.retain(|((n, _), _)| !dataset.held.contains_key(n));
        }
    }

    /// Returns the bytes that forgotten backups explain when they go.
    pub fn forgotten_bytes(&self) -> u64 {
        let bytes = self.datasets.iter().map(|dataset| dataset.forgotten_bytes);
        bytes.fold(0, u64::saturating_add)
    }
}

impl DatasetRoots {
    /// Returns the chain that is replayed before a root; nothing before what is none.
    pub fn chain(&self, root: HeaderAt) -> &[u64] {
        let found = self.roots.binary_search_by_key(&root, |(at, _)| *at).ok();
        found.and_then(|n| self.roots.get(n)).map(|(_, chain)| chain.as_slice()).unwrap_or_default()
    }

    /// Says whether something of it may go: a forgotten header that no chain needs, or what an
    /// earlier prune that put a floor left below it.
    pub fn may_retire(&self) -> bool {
        !self.unneeded.is_empty() || self.floor > 0
    }

    /// Reads one header again.
    ///
    /// # Errors
    /// `Corrupt` when it is not there any more, or cannot be read.
    pub fn header(&self, at: HeaderAt) -> Result<Backup> {
        let (n, which) = at;
        let listed = self.headers.binary_search_by_key(&n, |(number, _)| *number).ok();
        let found = match listed.and_then(|at| self.headers.get(at)) {
            Some((_, slot)) => self.dataset.kept_in(BackupId(n), slot)?.into_iter().nth(which),
            None => None,
        };
        found.ok_or_else(|| {
            let name = self.dataset.name();
            Error::corrupt(format!("{} of {name} is missing, and others need it", BackupId(n)))
                .hint("`icecore check` says what is affected")
                .at(Origin::Repository)
        })
    }
}
