//! Measures this machine: what each step of a backup can do, and whole backups and restores.
//!
//! Steps run on made-up data, text-like and random, the same in every run: [`stages`]. Backups
//! run in a folder of their own that is removed at the end, also when it is interrupted:
//! [`place`]. How fast anything is depends on the machine alone, so nothing is promised here.

pub mod data;
pub mod place;
pub mod stages;

use crate::base::error::Result;
use crate::engine::Context;
use std::path::Path;

/// What is measured, and for how long.
#[derive(Clone, Debug)]
pub struct BenchOptions {
    /// Seconds for each step.
    pub seconds: f64,
    /// Files that are made up for a backup; some are large.
    pub files: u64,
    /// Bytes in all of them.
    pub bytes: u64,
}

impl Default for BenchOptions {
    /// Enough files that their number counts, and enough bytes that starting does not.
    fn default() -> Self {
        BenchOptions { seconds: 1.0, files: 4_000, bytes: 256 * 1024 * 1024 }
    }
}

/// What one step, or one whole operation, did.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// What it was.
    pub name: String,
    /// On how many threads.
    pub threads: usize,
    /// How many bytes it went through.
    pub bytes: u64,
    /// How many files it went through; none for a step.
    pub files: Option<u64>,
    /// What it stored; only of a backup.
    pub stored_bytes: Option<u64>,
    /// How long it took.
    pub seconds: f64,
}

/// Measures everything: steps, then backup and restore of `folder`, or of files made up below
/// `place`, where the repository is made for as long as it is needed.
///
/// # Errors
/// `Cancelled`; those of the folders. Whatever happens, what was made is removed.
pub fn run(
    folder: Option<&Path>,
    place: &Path,
    options: &BenchOptions,
    context: &Context<'_>,
) -> Result<Vec<Measured>> {
    let mut measured = stages::run(options.seconds, context)?;
    measured.extend(place::run(folder, place, options, context)?);
    Ok(measured)
}
