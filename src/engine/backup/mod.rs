//! Makes a backup.

use crate::base::error::Result;
use crate::base::id::BackupId;
use crate::base::time::Timestamp;
use crate::engine::Context;
use crate::engine::Failure;
use crate::format::backup::Counts;
use crate::format::dataset::DatasetName;
use crate::repository::Repository;
use crate::source::Source;

/// What a backup does beyond the ordinary.
#[derive(Clone, Debug, Default)]
pub struct BackupOptions {
    /// Write a full index.
    pub full: bool,
    /// Read every file, whatever its metadata says.
    pub read_all: bool,
    /// Store a backup even when nothing changed.
    pub allow_unchanged: bool,
    /// Read and compare, and store nothing.
    pub dry_run: bool,
    /// Tags for the backup.
    pub tags: Vec<String>,
    /// Description for the backup.
    pub description: String,
    /// The backup's time, instead of now.
    pub time: Option<Timestamp>,
    /// The machine's name, instead of the real one.
    pub host: Option<String>,
    /// Whether a person named the dataset: then another host or source than the parent's is meant.
    pub dataset_was_named: bool,
}

/// What kind of backup was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackupKind {
    /// One with a full index.
    Full,
    /// One with a manifest.
    Partial,
    /// None, as nothing changed.
    Unchanged,
}

/// What a backup did.
#[derive(Clone, Debug)]
pub struct BackupReport {
    /// The dataset.
    pub dataset: DatasetName,
    /// The new backup; with [`BackupKind::Unchanged`] the newest there is; with a dry run the
    /// number it would get.
    pub backup: BackupId,
    /// What was made.
    pub kind: BackupKind,
    /// What was counted.
    pub counts: Counts,
    /// Entries that could not be read.
    pub errors: Vec<Failure>,
    /// How long it took, in seconds.
    pub seconds: f64,
}

/// Makes a backup of `source` as the next of dataset `name`, which is made when it is new.
///
/// # Errors
/// Those of the repository; `Busy` while another backup of the dataset runs; `Cancelled`.
pub fn run(
    repository: &Repository,
    name: &DatasetName,
    source: &dyn Source,
    options: &BackupOptions,
    context: &Context<'_>,
) -> Result<BackupReport> {
    let _ = (repository, name, source, options, context);
    Err(crate::base::error::Error::bug("not written yet"))
}
