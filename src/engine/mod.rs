//! Floor 4: one operation per file, each with its options, its report and a `run`.
//!
//! | operation | keeps the sentence |
//! |---|---|
//! | [`backup`] | all that a header names is durable before the header is |
//! | [`restore`] | what is written was verified against its name; nothing outside the target |
//! | [`prune`] | what a visible backup needs is never deleted |
//! | [`check`] | changes nothing, and names what suffers |
//! | [`mod@copy`] | nothing is copied that was not verified, and nothing twice |
//! | [`forget`] | markers only, never for all backups; [`retention`] decides what stays |
//! | [`tag`] | no change of somebody else's is lost |
//! | [`repair`] | puts copies first and dooms what is bad; never makes things worse |
//! | [`mod@parity`] | side objects that nothing leans on; what they heal is verified by its name |
//! | [`list`] | datasets, backups, entries |
//! | [`mod@bench`] | what was made for it is removed, however it ends |
//! | [`diff`] | never calls equal content different |
//! | [`export`] | nothing stands in the archive that was not verified |
//! | [`find`] | each version of a path once, whatever backups hold it |
//! | [`stats`] | sizes, deduplication, growth |
//! | [`address`] | what a person types for a backup, and which one that is |
//!
//! Nothing here prints, reads the environment, or asks for the time but through [`Context`].

use crate::base::cancel::Cancel;
use crate::base::path::EntryPath;
use crate::base::progress::Progress;
use crate::base::progress::Warning;
use crate::base::time::Clock;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

pub mod address;
pub mod backup;
pub mod bench;
mod chains;
pub mod check;
pub mod compare;
pub(crate) mod content;
pub mod copy;
pub mod diff;
pub mod export;
pub mod find;
pub mod forget;
pub mod list;
pub mod parity;
pub mod pool;
pub mod prune;
pub mod repair;
pub mod restore;
pub mod retention;
pub mod stats;
pub mod tag;

/// What every operation is given besides its arguments.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Receives what is going on.
    pub progress: &'a dyn Progress,
    /// Tells when to stop.
    pub cancel: &'a Cancel,
    /// Tells the time.
    pub clock: &'a dyn Clock,
    /// How many worker threads to use; at least one.
    pub threads: usize,
}

/// An entry that could not be handled, while the operation went on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The entry, if it is about one.
    pub path: Option<EntryPath>,
    /// What happened.
    pub message: String,
}

/// Gathers failures from many threads and passes each on as a warning.
pub struct Failures<'a> {
    progress: &'a dyn Progress,
    list: Mutex<Vec<Failure>>,
    count: AtomicU64,
}

/// Failures that a report lists by name; more are counted, as each could be a path of 64 KiB.
const FAILURES_LISTED_MAX: usize = 10_000;

impl<'a> Failures<'a> {
    /// Starts with none.
    pub fn new(progress: &'a dyn Progress) -> Self {
        Failures { progress, list: Mutex::new(Vec::new()), count: AtomicU64::new(0) }
    }

    /// Passes a warning on, and keeps it when it is an error.
    pub fn warn(&self, warning: &Warning) {
        self.progress.warn(warning);
        if !warning.is_error {
            return;
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        if list.len() < FAILURES_LISTED_MAX {
            list.push(Failure { path: warning.path.clone(), message: warning.message.clone() });
        }
    }

    /// Returns how many there are.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Returns them all.
    pub fn into_list(self) -> Vec<Failure> {
        self.list.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}
