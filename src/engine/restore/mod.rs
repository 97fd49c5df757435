//! Brings a backup back: only its face, until the real one lands.

use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::path::EntryPath;
use crate::engine::Context;
use crate::engine::Failure;
use crate::repository::history::Snapshot;
use crate::source::filter::Filter;
use crate::target::Target;

/// What happens to what stands in the target already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overwrite {
    /// It is replaced.
    Always,
    /// It is replaced when it differs.
    IfChanged,
    /// It is replaced when it is older.
    IfNewer,
    /// It stays.
    Never,
}

/// What a restore does beyond the ordinary.
#[derive(Clone, Debug)]
pub struct RestoreOptions {
    /// None: refuse a target that is not empty.
    pub overwrite: Option<Overwrite>,
    /// Delete what the backup does not have.
    pub delete: bool,
    /// Read back what was written.
    pub verify: bool,
    /// Only say what would be done.
    pub dry_run: bool,
    /// Set owners.
    pub owner: bool,
    /// Restore only what is below, as seen from there.
    pub strip: EntryPath,
    /// Restore only these, where they are.
    pub paths: Vec<EntryPath>,
    /// What is left out.
    pub filter: Filter,
}

/// What a restore did.
#[derive(Clone, Debug, Default)]
pub struct RestoreReport {
    /// Entries that are not folders.
    pub files: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Bytes that were written.
    pub written_bytes: u64,
    /// Entries deleted.
    pub deleted: u64,
    /// Entries that failed.
    pub errors: Vec<Failure>,
    /// How long it took.
    pub seconds: f64,
    /// What a dry run would do.
    pub plan: Vec<PlannedAction>,
}

/// One row of a plan.
#[derive(Clone, Debug)]
pub struct PlannedAction {
    /// The entry.
    pub path: EntryPath,
    /// What would be done.
    pub action: &'static str,
}

/// Restores a snapshot.
///
/// # Errors
/// Always, as it is not written yet.
pub fn run(
    snapshot: &Snapshot,
    target: &dyn Target,
    options: &RestoreOptions,
    context: &Context<'_>,
) -> Result<RestoreReport> {
    let _ = (snapshot, target, options, context);
    Err(Error::bug("restore is not written yet"))
}
