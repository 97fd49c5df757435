//! Counts what a restore asks of a repository, in a child of the bench.

use crate::place;
use crate::place::Place;
use crate::support::PASSWORD;
use icecore::backend::Backend;
use icecore::backend::local::LocalBackend;
use icecore::backend::wrap::Operation;
use icecore::backend::wrap::record::RecordBackend;
use icecore::base::cancel::Cancel;
use icecore::base::error::Result;
use icecore::base::id::BackupId;
use icecore::base::progress::Silent;
use icecore::base::secret::Secret;
use icecore::base::time::SystemClock;
use icecore::engine::Context;
use icecore::engine::address;
use icecore::engine::address::Version;
use icecore::engine::restore;
use icecore::repository::cache::CachePlace;
use icecore::repository::open;
use icecore::target::local::LocalTarget;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

/// The word that makes this program count.
const WORD: &str = "--count";

/// What one restore asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    /// Calls of the backend.
    pub(crate) requests: u64,
    /// Objects of which anything was read.
    pub(crate) objects: u64,
    /// Bytes that came.
    pub(crate) bytes: u64,
}

/// A repository, a backup in it, and where to restore it.
pub(crate) struct Asked {
    repository: PathBuf,
    number: u64,
    out: PathBuf,
}

/// Returns what a program of this kind was started for, if it was.
pub(crate) fn asked_for() -> Option<Asked> {
    let mut arguments = std::env::args_os().skip(1);
    arguments.next().filter(|first| first == WORD)?;
    let repository = arguments.next()?.into();
    let number = arguments.next()?.to_str()?.parse().ok()?;
    Some(Asked { repository, number, out: arguments.next()?.into() })
}

/// Lets a child of this program count; by this path it is there though it was built anew.
pub(crate) fn ask(place: &Place, number: u64) -> io::Result<Counts> {
    let mut command = Command::new("/proc/self/exe");
    command.arg(WORD).arg(place.repository()).arg(number.to_string()).arg(place.out());
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let numbers: Vec<u64> = said.split_whitespace().flat_map(str::parse).collect();
    let &[requests, objects, bytes] = numbers.as_slice() else {
        return Err(io::Error::other(said.trim().to_owned()));
    };
    fs::remove_dir_all(place.out())?;
    Ok(Counts { requests, objects, bytes })
}

/// Restores, and prints the counts.
pub(crate) fn print(asked: &Asked) -> io::Result<()> {
    let Counts { requests, objects, bytes } = count(asked).map_err(io::Error::other)?;
    println!("{requests} {objects} {bytes}");
    Ok(())
}

fn count(asked: &Asked) -> Result<Counts> {
    let backend = Arc::new(RecordBackend::new(Arc::new(LocalBackend::open(&asked.repository)?)));
    let password = Secret::new(PASSWORD.into());
    let cache = CachePlace::Scratch(asked.repository.parent().unwrap_or(Path::new("/")).into());
    let counted = Arc::clone(&backend) as Arc<dyn Backend>;
    let repository = open::open(counted, Some(&password), &cache)?;
    let dataset = repository.dataset(&place::DATASET.parse()?)?;
    let found = address::resolve(&dataset, &Version::Number(BackupId(asked.number)))?;
    let snapshot = dataset.snapshot(&found.numbers, found.backup)?;
    let cancel = Cancel::new();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let context = Context { progress: &Silent, cancel: &cancel, clock: &SystemClock, threads };
    let target = LocalTarget::new(&asked.out);
    restore::run(&snapshot, &target, &Default::default(), &context)?;
    let calls = backend.calls();
    let reads = calls.iter().filter(|call| {
        call.failed.is_none() && matches!(call.operation, Operation::Get | Operation::GetRange)
    });
    let objects: BTreeSet<&str> = reads.map(|call| call.key.as_str()).collect();
    Ok(Counts {
        requests: calls.len() as u64,
        objects: objects.len() as u64,
        bytes: calls.iter().map(|call| call.bytes_down).sum(),
    })
}
