//! What an operation tells of itself while it runs. The library never prints.

use crate::base::error::Error;
use crate::base::path::EntryPath;
use std::sync::Mutex;

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// A backup reads its source.
    Backup,
    /// A restore writes its target.
    Restore,
    /// A restore reads back what it wrote.
    Verify,
    /// A check looks at what is stored.
    Check,
    /// A prune copies what must stay.
    Prune,
    /// An export writes an archive.
    Export,
    /// A copy reads from one repository and writes to another.
    Copy,
    /// Packs are read, and parity is made of them.
    Parity,
}

impl Phase {
    /// Returns the word for people and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Phase::Backup => "backup",
            Phase::Restore => "restore",
            Phase::Verify => "verify",
            Phase::Check => "check",
            Phase::Prune => "prune",
            Phase::Export => "export",
            Phase::Copy => "copy",
            Phase::Parity => "parity",
        }
    }
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// Entries done that are not folders.
    Files,
    /// Bytes of content done.
    Bytes,
    /// Bytes that went into the repository.
    StoredBytes,
}

/// How much there is to do, where that is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Entries that are not folders.
    pub files: Option<u64>,
    /// Bytes of content.
    pub bytes: Option<u64>,
}

impl Totals {
    /// Leaves out what was guessed too low, as more is done already.
    pub fn unless_passed(self, files: u64, bytes: u64) -> Self {
        Totals {
            files: self.files.filter(|&total| total >= files),
            bytes: self.bytes.filter(|&total| total >= bytes),
        }
    }
}

/// Something that went otherwise than asked while the operation went on.
#[derive(Debug)]
pub struct Warning {
    /// The entry concerned, if it is about one.
    pub path: Option<EntryPath>,
    /// What happened.
    pub message: String,
    /// Whether the exit code must show it; a mere note (a skipped socket) is not.
    pub is_error: bool,
}

impl Warning {
    /// Makes the warning of an entry that could not be handled.
    pub fn failed(path: &EntryPath, error: &Error) -> Self {
        Warning { path: Some(path.clone()), message: error.full_message(), is_error: true }
    }

    /// Makes a note on an entry, which does not change the exit code.
    pub fn note(path: &EntryPath, message: impl Into<String>) -> Self {
        Warning { path: Some(path.clone()), message: message.into(), is_error: false }
    }

    /// Makes a note on the whole operation.
    pub fn general(message: impl Into<String>) -> Self {
        Warning { path: None, message: message.into(), is_error: false }
    }
}

/// Receives what an operation tells; called from many threads, so it must be quick.
pub trait Progress: Send + Sync {
    /// Says that a phase begins.
    fn start(&self, phase: Phase, totals: Totals);
    /// Adds to a counter.
    fn count(&self, counter: Counter, amount: u64);
    /// Names the entry being worked on.
    fn working_on(&self, path: &EntryPath);
    /// Passes on a warning; it also stands in the operation's report.
    fn warn(&self, warning: &Warning);
    /// Says that the phase is over.
    fn finish(&self);
}

/// Says nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn start(&self, _: Phase, _: Totals) {}
    fn count(&self, _: Counter, _: u64) {}
    fn working_on(&self, _: &EntryPath) {}
    fn warn(&self, _: &Warning) {}
    fn finish(&self) {}
}

/// Keeps the text of warnings, for tests.
#[derive(Debug, Default)]
pub struct Collector(Mutex<Vec<String>>);

impl Collector {
    /// Returns the warnings so far, each as `path: message`.
    pub fn warnings(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }
}

impl Progress for Collector {
    fn start(&self, _: Phase, _: Totals) {}
    fn count(&self, _: Counter, _: u64) {}
    fn working_on(&self, _: &EntryPath) {}
    fn warn(&self, warning: &Warning) {
        let text = match &warning.path {
            Some(path) => format!("{path}: {}", warning.message),
            None => warning.message.clone(),
        };
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(text);
    }
    fn finish(&self) {}
}
