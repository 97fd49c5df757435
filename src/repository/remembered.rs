//! What this machine remembers of a repository, in the cache: how far it has seen each dataset, as
//! a store that shows less hides something, which forgotten backups were accounted for, and which
//! packs were read.
//!
//! The highest number is only raised. A copy of a repository may lag behind, so all of it goes by
//! where the repository is, as what is kept of its objects does; for one that was put back to an
//! earlier state it takes a person's word (`icecore cache clear`).

use crate::base::hash;
use crate::base::id::BackupId;
use crate::base::id::DatasetId;
use crate::base::id::PackId;
use crate::base::id::to_hex;
use crate::repository::Repository;
use crate::repository::datasets::Dataset;
use std::collections::BTreeSet;
use std::collections::HashMap;

const FOLDER: &str = "seen";
const PREFIX: &str = "highest-";
const ACCOUNTED: &str = "accounted-";
const PACKS_READ: &str = "packs-read";

/// Packs whose data was read, and whether they were sound then.
pub(crate) type PacksRead = HashMap<PackId, bool>;

impl Dataset {
    /// Returns below which number this machine has seen backups.
    pub(crate) fn highest_seen(&self) -> u64 {
        self.repository().highest_seen_of(&self.id())
    }

    /// Remembers that all numbers below one were taken. What is remembered must not be taken back
    /// by a power cut, so it is made durable first; where it cannot be, nothing is remembered.
    pub(crate) fn remember(&self, next: BackupId) {
        self.repository().remember_highest(&self.id(), next.0);
    }
}

impl Repository {
    /// Returns below which number this machine has seen backups of a dataset.
    pub(crate) fn highest_seen_of(&self, dataset: &DatasetId) -> u64 {
        read(self, &format!("{PREFIX}{dataset}{}", self.suffix())).unwrap_or(0)
    }

    /// Does what [`Dataset::remember`] does.
    pub(crate) fn remember_highest(&self, dataset: &DatasetId, next: u64) {
        let is_higher = || next > self.highest_seen_of(dataset);
        // Another process may have written a higher one while this one was made durable.
        if is_higher() && self.store().settle().is_ok() && is_higher() {
            let name = format!("{FOLDER}/{PREFIX}{dataset}{}", self.suffix());
            self.cache().write(&name, &next.to_le_bytes());
        }
    }

    /// Returns below which number this machine has seen backups of each dataset.
    pub(super) fn highest_seen(&self) -> Vec<(DatasetId, u64)> {
        let suffix = self.suffix();
        let known = self.cache().list(FOLDER).into_iter().filter_map(|name| {
            let id = name.strip_prefix(PREFIX)?.strip_suffix(&suffix)?.parse().ok()?;
            Some((id, read(self, &name)?))
        });
        known.collect()
    }

    /// Returns the forgotten backups of a dataset that a prune has accounted for: their headers
    /// stay for what is replayed from them, and what only they needed is gone.
    pub(super) fn accounted(&self, dataset: &DatasetId) -> BTreeSet<u64> {
        let name = format!("{FOLDER}/{ACCOUNTED}{dataset}{}", self.suffix());
        let bytes = self.cache().read(&name).unwrap_or_default();
        let (numbers, _) = bytes.as_chunks::<8>();
        numbers.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect()
    }

    /// Remembers which forgotten backups of a dataset a prune has accounted for: of those that are
    /// still `replayed` the ones that earlier prunes have, and those that it `freed`.
    pub(crate) fn remember_accounted(
        &self,
        dataset: &DatasetId,
        replayed: &BTreeSet<u64>,
        freed: &BTreeSet<u64>,
    ) {
        let before = self.accounted(dataset);
        let is_done = |n: &&u64| before.contains(n) || freed.contains(n);
        let numbers: BTreeSet<u64> = replayed.iter().filter(is_done).copied().collect();
        if numbers != before {
            let name = format!("{FOLDER}/{ACCOUNTED}{dataset}{}", self.suffix());
            let bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
            self.cache().write(&name, &bytes);
        }
    }

    /// Returns the packs that checks of a part of the data have read in this turn.
    pub(crate) fn packs_read(&self) -> PacksRead {
        let name = format!("{FOLDER}/{PACKS_READ}{}", self.suffix());
        let bytes = self.cache().read(&name).unwrap_or_default();
        let row = |row: &[u8]| {
            let (is_sound, pack) = row.split_last()?;
            Some((PackId::from_slice(pack).ok()?, *is_sound == 1))
        };
        bytes.chunks_exact(PackId::LENGTH + 1).filter_map(row).collect()
    }

    /// Remembers which packs checks of a part of the data have read in this turn.
    pub(crate) fn remember_packs_read(&self, packs: &PacksRead) {
        let mut bytes = Vec::with_capacity(packs.len() * (PackId::LENGTH + 1));
        for (pack, is_sound) in packs {
            bytes.extend_from_slice(pack.as_bytes());
            bytes.push(u8::from(*is_sound));
        }
        self.cache().write(&format!("{FOLDER}/{PACKS_READ}{}", self.suffix()), &bytes);
    }

    fn suffix(&self) -> String {
        let place = hash::hash(self.location().as_bytes());
        format!("-{}", to_hex(&place[..8]))
    }
}

fn read(repository: &Repository, name: &str) -> Option<u64> {
    let bytes = repository.cache().read(&format!("{FOLDER}/{name}"))?;
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}
