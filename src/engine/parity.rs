//! Parity objects: added to packs that have none, taken away, counted.
//!
//! Each pack is read whole, one a thread, and parity is made of it only when its bytes have its
//! name: parity of a damaged pack would keep the damage. Nothing leans on what is put here, so any
//! number may run, beside everything else, and be killed at any moment: the next run goes on.
//! Memory: a thread holds one pack about three times.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::id::PackId;
use crate::base::limits::PACK_BYTES_MAX;
use crate::base::limits::PARITY_PERCENT_MAX;
use crate::base::progress::Counter;
use crate::base::progress::Phase;
use crate::base::progress::Totals;
use crate::base::threads::at_once;
use crate::engine::Context;
use crate::engine::check::damage_of;
use crate::repository::Repository;
use crate::repository::doom::Tombstones;
use crate::repository::layout;
use crate::repository::parity;
use crate::repository::parity::Listed;
use crate::repository::stock;
use crate::repository::store::Store;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

/// How many percent of a pack may be damaged, unless said otherwise.
pub const PERCENT: u8 = 5;

/// What adding parity did.
#[derive(Clone, Debug, Default)]
pub struct AddReport {
    /// Packs that had it already, for as many percent or more.
    pub had: u64,
    /// Packs that have got it.
    pub packs: u64,
    /// Their bytes.
    pub pack_bytes: u64,
    /// Bytes of the parity that was put.
    pub bytes: u64,
    /// Packs that could not be given any, and why.
    pub failed: Vec<(PackId, String)>,
    /// How long it took, in seconds.
    pub seconds: f64,
}

/// What is taken away, or was.
#[derive(Clone, Debug, Default)]
pub struct RemoveReport {
    /// Parity objects.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Which packs have parity.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// Packs that are there, without those that a prune will delete.
    pub packs: u64,
    /// Their bytes.
    pub pack_bytes: u64,
    /// Packs of them that have parity.
    pub with_parity: u64,
    /// The bytes of these.
    pub with_parity_bytes: u64,
    /// How many packs have parity for how many percent.
    pub percents: BTreeMap<u8, u64>,
    /// Parity objects, those of packs that are gone among them.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A pack that is to have parity.
struct Job {
    pack: PackId,
    size: u64,
}

/// Adds parity to packs that have none, or some for fewer percent, which it replaces.
///
/// # Errors
/// `InvalidInput` for a percentage that is not offered; `Cancelled`; those of the backend that
/// concern more than one object. What was put until then stays.
pub fn add(repository: &Repository, percent: u8, context: &Context<'_>) -> Result<AddReport> {
    if !(1..=PARITY_PERCENT_MAX).contains(&percent) {
        let message = format!("parity is made for 1 to {PARITY_PERCENT_MAX} percent of a pack");
        return Err(Error::invalid(message));
    }
    let started = context.clock.now();
    let store = repository.store();
    let listed = parity::list(store)?;
    let packs = packs(store)?;
    // What is there already was maybe put by one that died before it was durable.
    store.settle()?;
    let mut report = AddReport::default();
    let lacks = |pack: &PackId| listed.of(pack).iter().all(|object| object.percent < percent);
    let mut jobs: Vec<Job> = packs
        .iter()
        .filter(|(pack, _)| lacks(pack))
        .map(|(pack, size)| Job { pack: *pack, size: *size })
        .collect();
    jobs.sort_unstable_by_key(|job| job.pack);
    report.had = (packs.len() - jobs.len()) as u64;
    let bytes = jobs.iter().map(|job| job.size).fold(0, u64::saturating_add);
    context.progress.start(Phase::Parity, Totals { files: None, bytes: Some(bytes) });
    let added = add_all(store, &listed, &jobs, percent, context);
    context.progress.finish();
    for (job, added) in jobs.iter().zip(added?) {
        match added {
            // Not come to, or gone meanwhile: a prune was quicker.
            Added::Nothing => {}
            Added::Parity(bytes) => {
                report.packs += 1;
                report.pack_bytes += job.size;
                report.bytes += bytes;
            }
            Added::Failed(why) => report.failed.push((job.pack, why)),
        }
    }
    report.seconds = context.clock.now().seconds_since(started).max(0.0);
    Ok(report)
}

/// What came of one pack.
#[derive(Clone)]
enum Added {
    Nothing,
    Parity(u64),
    Failed(String),
}

fn add_all(
    store: &Store,
    listed: &Listed,
    jobs: &[Job],
    percent: u8,
    context: &Context<'_>,
) -> Result<Vec<Added>> {
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<Added>> = Mutex::new(vec![Added::Nothing; jobs.len()]);
    let failed: Mutex<Option<Error>> = Mutex::default();
    let work = || {
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            let Some(job) = jobs.get(n) else { return };
            let added = context.cancel.check().and_then(|()| add_one(store, listed, job, percent));
            match added {
                Ok(added) => {
                    context.progress.count(Counter::Bytes, job.size);
                    if let Added::Parity(bytes) = added {
                        context.progress.count(Counter::StoredBytes, bytes);
                    }
                    done.lock().unwrap_or_else(PoisonError::into_inner)[n] = added;
                }
                Err(e) => {
                    next.store(jobs.len(), Ordering::Relaxed);
                    failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(e);
                }
            }
        }
    };
    at_once(context.threads.min(jobs.len()), work);
    if let Some(error) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    Ok(done.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Gives one pack its parity. What is wrong with the pack alone is no error.
fn add_one(store: &Store, listed: &Listed, job: &Job, percent: u8) -> Result<Added> {
    let key = layout::pack(&job.pack)?;
    let bytes = match store.backend().get(&key, PACK_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Added::Nothing),
        Err(e) => return Ok(Added::Failed(damage_of(e.at(Origin::Repository))?.full_message())),
    };
    let put = match parity::put(store, &job.pack, &bytes, percent) {
        Ok(put) => put,
        // A prune was quicker, and has swept what was put for a pack that is gone.
        Err(e) if e.kind() == ErrorKind::Corrupt && store.backend().stat(&key)?.is_none() => {
            return Ok(Added::Nothing);
        }
        Err(e) if e.kind() == ErrorKind::Corrupt => return Ok(Added::Failed(e.full_message())),
        Err(e) => return Err(e),
    };
    // The better one is there: the others only take space.
    for old in listed.of(&job.pack) {
        parity::delete(store, old)?;
    }
    Ok(Added::Parity(put.bytes))
}

/// Takes all parity away, or with `dry_run` says what would go. No backup needs any of it.
///
/// # Errors
/// `Cancelled`; those of the backend.
pub fn remove(
    repository: &Repository,
    dry_run: bool,
    context: &Context<'_>,
) -> Result<RemoveReport> {
    let store = repository.store();
    let listed = parity::list(store)?;
    let mut report = RemoveReport::default();
    for object in listed.by_pack.values().flatten() {
        context.cancel.check()?;
        if !dry_run {
            parity::delete(store, object)?;
        }
        report.objects += 1;
        report.bytes = report.bytes.saturating_add(object.bytes);
    }
    Ok(report)
}

/// Says which packs have parity, by listing alone.
///
/// # Errors
/// Those of the backend.
pub fn status(repository: &Repository) -> Result<Status> {
    let store = repository.store();
    let listed = parity::list(store)?;
    let mut status = Status::default();
    for (pack, size) in packs(store)? {
        status.packs += 1;
        status.pack_bytes = status.pack_bytes.saturating_add(size);
        if let Some(best) = listed.of(&pack).first() {
            status.with_parity += 1;
            status.with_parity_bytes = status.with_parity_bytes.saturating_add(size);
            *status.percents.entry(best.percent).or_default() += 1;
        }
    }
    for object in listed.by_pack.values().flatten() {
        status.objects += 1;
        status.bytes = status.bytes.saturating_add(object.bytes);
    }
    Ok(status)
}

/// Returns the packs that are there and stay.
fn packs(store: &Store) -> Result<HashMap<PackId, u64>> {
    let mut packs = stock::packs(store)?;
    let doomed = Tombstones::list(store)?.packs();
    packs.retain(|pack, _| !doomed.contains(pack));
    Ok(packs)
}
