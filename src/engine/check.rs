//! Looks for damage: only its face, until the real one lands.

use crate::base::error::Error;
use crate::base::error::Result;
use crate::engine::Context;
use crate::format::dataset::DatasetName;
use crate::repository::Repository;

/// How deep a check looks.
#[derive(Clone, Debug, Default)]
pub struct CheckOptions {
    /// Read whole packs.
    pub read_packs: bool,
    /// Read and verify this much of the data, in percent.
    pub read_data: Option<f64>,
    /// Only this dataset.
    pub dataset: Option<DatasetName>,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// Left by an interrupted run.
    Garbage,
    /// Something is lost.
    Damage,
}

/// One thing found.
#[derive(Clone, Debug)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What it is about.
    pub object: String,
    /// What is wrong.
    pub message: String,
    /// Backups that suffer.
    pub backups: Vec<String>,
    /// Paths that suffer.
    pub paths: Vec<String>,
}

/// What a check found.
#[derive(Clone, Debug, Default)]
pub struct CheckReport {
    /// All findings.
    pub findings: Vec<Finding>,
    /// Datasets looked at.
    pub datasets: u64,
    /// Backups looked at.
    pub backups: u64,
    /// Packs looked at.
    pub packs: u64,
    /// Blocks looked at.
    pub blocks: u64,
    /// Blobs looked at.
    pub blobs: u64,
    /// Bytes read.
    pub bytes_read: u64,
    /// How long it took.
    pub seconds: f64,
}

impl CheckReport {
    /// Says whether there is no damage.
    pub fn is_ok(&self) -> bool {
        self.findings.iter().all(|finding| finding.severity != Severity::Damage)
    }
}

/// Checks a repository.
///
/// # Errors
/// Always, as it is not written yet.
pub fn run(
    repository: &Repository,
    options: &CheckOptions,
    context: &Context<'_>,
) -> Result<CheckReport> {
    let _ = (repository, options, context);
    Err(Error::bug("check is not written yet"))
}
