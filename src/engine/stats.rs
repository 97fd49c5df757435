//! Sizes, deduplication and growth.

use crate::base::error::Result;
use crate::base::id::BackupId;
use crate::base::id::PackId;
use crate::base::time::Timestamp;
use crate::format::dataset::DatasetName;
use crate::repository::Repository;
use crate::repository::datasets::Dataset;
use crate::repository::ranges::CLASS_METADATA;
use crate::repository::stock;
use std::collections::HashMap;
use std::collections::HashSet;

const SECONDS_PER_DAY: f64 = 86_400.0;

/// What one dataset holds and costs.
#[derive(Clone, Debug, PartialEq)]
pub struct DatasetStats {
    /// Its name.
    pub name: DatasetName,
    /// How many backups are visible.
    pub backups: u64,
    /// The newest.
    pub latest: Option<BackupId>,
    /// When the first visible one was made.
    pub first_time: Option<Timestamp>,
    /// When the newest was made.
    pub time: Option<Timestamp>,
    /// Entries of the newest that are not folders.
    pub files: u64,
    /// Bytes of the newest.
    pub bytes: u64,
    /// Bytes of all visible backups together, as if each were a copy.
    pub logical_bytes: u64,
    /// Bytes of content that were new to the repository.
    pub new_bytes: u64,
    /// Bytes that the visible backups put into the repository.
    pub stored_bytes: u64,
    /// Bytes stored a day since the first backup, that one left out; None within the first day,
    /// which tells nothing.
    pub stored_bytes_per_day: Option<f64>,
    /// Bytes by which the newest is larger than the first.
    pub growth_bytes: i64,
}

/// What the whole repository holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RepositoryStats {
    /// Every dataset, sorted by name.
    pub datasets: Vec<DatasetStats>,
    /// Packs.
    pub packs: u64,
    /// Bytes of all packs.
    pub pack_bytes: u64,
    /// Blocks, each copy counted.
    pub blocks: u64,
    /// Blobs in them.
    pub blobs: u64,
    /// Bytes of the blocks as they were before compression.
    pub plain_bytes: u64,
    /// Bytes of all backups of all datasets together, as if each were a copy.
    pub logical_bytes: u64,
    /// What every stored byte is for.
    pub stored: StoredBytes,
}

/// What the bytes of a repository are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoredBytes {
    /// Blocks of files' content.
    pub content: u64,
    /// Blocks of ranges, lists and what detects changes: manifests and full indexes.
    pub metadata: u64,
    /// Tables of blocks: names and lengths of blobs.
    pub tables: u64,
    /// Heads, footers and checksums of packs, and blocks that no index names.
    pub packing: u64,
    /// Pack index objects.
    pub indexes: u64,
    /// Headers, names, leases, floors, tombstones, keys and the config.
    pub records: u64,
}

impl StoredBytes {
    /// Returns the sum.
    pub fn total(&self) -> u64 {
        let parts =
            [self.content, self.metadata, self.tables, self.packing, self.indexes, self.records];
        total(parts.into_iter())
    }

    /// Returns the share of what is not content, from 0 to 1; None for nothing.
    pub fn overhead(&self) -> Option<f64> {
        let total = self.total();
        (total > 0).then(|| (total - self.content.min(total)) as f64 / total as f64)
    }
}

impl RepositoryStats {
    /// Returns how many bytes of backups one byte of packs holds; None for an empty repository.
    pub fn ratio(&self) -> Option<f64> {
        quotient(self.logical_bytes, self.pack_bytes)
    }

    /// Returns what compression alone brings: bytes before it for each byte of packs.
    pub fn compression(&self) -> Option<f64> {
        quotient(self.plain_bytes, self.pack_bytes)
    }
}

fn quotient(large: u64, small: u64) -> Option<f64> {
    (small > 0).then(|| large as f64 / small as f64)
}

/// Adds up what headers and indexes tell, which may be absurd.
fn total(numbers: impl Iterator<Item = u64>) -> u64 {
    numbers.fold(0, u64::saturating_add)
}

fn growth(from: u64, to: u64) -> i64 {
    let size = i64::try_from(from.abs_diff(to)).unwrap_or(i64::MAX);
    if from > to { -size } else { size }
}

/// Looks at every header and at the pack index.
///
/// # Errors
/// Those of the repository.
pub fn run(repository: &Repository) -> Result<RepositoryStats> {
    let shown = repository.shown_datasets()?;
    if let Some(problem) = shown.problems.into_iter().next() {
        return Err(problem);
    }
    let datasets: Vec<DatasetStats> =
        shown.readable.iter().map(of_dataset).collect::<Result<_>>()?;
    let logical_bytes = total(datasets.iter().map(|dataset| dataset.logical_bytes));
    let mut stats = RepositoryStats { datasets, logical_bytes, ..RepositoryStats::default() };
    count_packs(repository, &mut stats)?;
    count_objects(repository, &mut stats.stored)?;
    Ok(stats)
}

/// Looks at the headers of one dataset.
///
/// # Errors
/// Those of the repository.
pub fn of_dataset(dataset: &Dataset) -> Result<DatasetStats> {
    let backups = dataset.backups()?;
    let sum = |of: fn(&crate::format::backup::Counts) -> u64| -> u64 {
        total(backups.iter().map(|backup| of(&backup.header.counts)))
    };
    let first = backups.first().map(|backup| &backup.header);
    let latest = backups.last().map(|backup| &backup.header);
    let bytes = latest.map_or(0, |header| header.counts.bytes);
    let stored_bytes = sum(|counts| counts.stored_bytes);
    let days = match (first, latest) {
        (Some(first), Some(latest)) => {
            latest.started.seconds_since(first.started) / SECONDS_PER_DAY
        }
        _ => 0.0,
    };
    let since_first = stored_bytes - first.map_or(0, |header| header.counts.stored_bytes);
    Ok(DatasetStats {
        name: dataset.name().clone(),
        backups: backups.len() as u64,
        latest: latest.map(|header| header.number),
        first_time: first.map(|header| header.started),
        time: latest.map(|header| header.started),
        files: latest.map_or(0, |header| header.counts.files),
        bytes,
        logical_bytes: sum(|counts| counts.bytes),
        new_bytes: sum(|counts| counts.new_bytes),
        stored_bytes,
        stored_bytes_per_day: (days >= 1.0).then(|| since_first as f64 / days),
        growth_bytes: growth(first.map_or(0, |header| header.counts.bytes), bytes),
    })
}

/// Several index objects may name one pack; its rows are counted from one of them.
fn count_packs(repository: &Repository, stats: &mut RepositoryStats) -> Result<()> {
    repository.refresh_index()?;
    let index = repository.index();
    let mut sizes: HashMap<PackId, u64> = HashMap::new();
    for id in index.ids() {
        let fresh: HashSet<PackId> = index
            .packs_of(&id)
            .iter()
            .filter(|pack| sizes.insert(pack.pack, pack.size).is_none())
            .map(|pack| pack.pack)
            .collect();
        index.visit(&id, &mut |location| {
            if fresh.contains(&location.pack.pack) {
                let row = &location.row;
                let present: u32 = row.present.iter().map(|bits| bits.count_ones()).sum();
                let places = if row.present.is_empty() { row.places } else { present };
                stats.blocks += 1;
                stats.blobs += u64::from(places);
                stats.plain_bytes += u64::from(row.plain_length);
                let length = u64::from(row.length);
                match row.class {
                    CLASS_METADATA => stats.stored.metadata += length,
                    _ => stats.stored.content += length,
                }
                stats.stored.tables += u64::from(row.table_length);
            }
            Ok(())
        })?;
    }
    stats.packs = sizes.len() as u64;
    stats.pack_bytes = total(sizes.values().copied());
    Ok(())
}

/// Counts the objects themselves, those without an index among them.
fn count_objects(repository: &Repository, stored: &mut StoredBytes) -> Result<()> {
    let blocks = total([stored.content, stored.metadata, stored.tables].into_iter());
    let mut records = 0_u64;
    for (folder, bytes) in stock::bytes_by_folder(repository.store())? {
        match folder {
            "packs" => stored.packing = bytes.saturating_sub(blocks),
            "index" => stored.indexes = bytes,
            _ => records = records.saturating_add(bytes),
        }
    }
    stored.records = records;
    Ok(())
}
