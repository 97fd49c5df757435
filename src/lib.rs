//! Content-addressed snapshots of datasets: record every version, get any version back, exactly.
//!
//! A *dataset* (a folder) is recorded as a line of backups, `backup_0`, `backup_1`, ...; each
//! stores only what was added, modified and deleted. [`make_backup`] and [`recover_backup`] are
//! the two calls most programs need. Behind them the house has floors, and a module uses only
//! floors below its own:
//!
//! ```text
//!  8  cli         a person at a terminal
//!  5  config      who is who: words to open repositories and sources
//!  4  engine      what: backup restore check list find diff export stats
//!     serve       a folder behind FTP, for other machines
//!  3  repository  the content-addressed store: packs, index, datasets, history, leases
//!  2  format      backend      source        target
//!     records     where kept   where from    where to
//!  1  codec       chunk        bytes to bytes, bytes to pieces
//!  0  base        errors, ids, hash, paths, time, progress, cancel, limits
//! ```
//!
//! The layered use, here with everything in memory:
//!
//! ```
//! use icecore::backend::memory::MemoryBackend;
//! use icecore::base::cancel::Cancel;
//! use icecore::base::path::EntryPath;
//! use icecore::base::progress::Silent;
//! use icecore::base::time::{Clock, SystemClock};
//! use icecore::engine::{Context, backup, list, restore};
//! use icecore::repository::{cache::CachePlace, open};
//! use icecore::source::memory::MemorySource;
//! use icecore::target::memory::MemoryTarget;
//! use std::sync::Arc;
//!
//! # fn main() -> icecore::base::error::Result<()> {
//! let scratch = CachePlace::Scratch(std::env::temp_dir());
//! let backend = Arc::new(MemoryBackend::new());
//! let repository =
//!     open::create(backend, &open::CreateOptions::default(), &scratch, SystemClock.now())?;
//! let cancel = Cancel::new();
//! let context =
//!     Context { progress: &Silent, cancel: &cancel, clock: &SystemClock, threads: 2 };
//!
//! let source = MemorySource::new("cats").file("tom", b"meow");
//! let name = "cats".parse()?;
//! let report = backup::run(&repository, &name, &source, &Default::default(), &context)?;
//!
//! let dataset = repository.dataset(&name)?;
//! let newest = dataset.backups()?.remove(0);
//! let snapshot = list::snapshot(&dataset, newest)?;
//! let target = MemoryTarget::new();
//! restore::run(&snapshot, &target, &Default::default(), &context)?;
//! assert_eq!(report.backup.to_string(), "backup_0");
//! # Ok(())
//! # }
//! ```

#[forbid(unsafe_code)]
pub mod backend;
pub mod base;
#[forbid(unsafe_code)]
pub mod chunk;
#[forbid(unsafe_code)]
pub mod cli;
#[forbid(unsafe_code)]
pub mod codec;
#[forbid(unsafe_code)]
pub mod config;
#[forbid(unsafe_code)]
pub mod docs;
#[forbid(unsafe_code)]
pub mod engine;
#[forbid(unsafe_code)]
pub mod format;
#[forbid(unsafe_code)]
pub mod net;
#[forbid(unsafe_code)]
pub mod repository;
#[forbid(unsafe_code)]
pub mod serve;
#[forbid(unsafe_code)]
pub mod source;
#[forbid(unsafe_code)]
pub mod target;

pub use config::program::make_backup;
pub use config::program::recover_backup;

/// Runs the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
