//! Leases and tombstones at work: who may run beside whom.
//!
//! | running \ starting | writer, same dataset | writer, another | reader | prune |
//! |---|---|---|---|---|
//! | writer | refused (exit 11); in a race the commit decides | yes | yes | yes (a) |
//! | reader | yes | yes | yes | yes (b) |
//! | prune | yes (c) | yes (c) | yes | yes (d) |
//!
//! (a) it stops before it deletes what the writer may lean on; (b) it keeps what the reader's
//! lease pins; (c) the writer leans on no doomed pack; (d) each goes on with the other's
//! tombstones.
//!
//! A lease is never a lock: nothing is decided by its absence, and a writer that is taken for
//! dead loses its number, not its data. See PROTOCOL in `src/docs/format.md`.

use crate::backend::all_below;
use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::id::BackupId;
use crate::base::id::DatasetId;
use crate::base::id::LeaseId;
use crate::base::limits::BEAT_SECONDS;
use crate::base::limits::FRESH_SECONDS;
use crate::base::planted;
use crate::base::planted::Rule;
use crate::base::sys;
use crate::base::sys::ProcessIdentity;
use crate::base::time::Timestamp;
use crate::codec::frame::ObjectKind;
use crate::format::lease::BeatRecord;
use crate::format::lease::LeaseRecord;
use crate::format::lease::MarkRecord;
use crate::repository::ahead;
use crate::repository::layout;
use crate::repository::store::Store;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::thread::JoinHandle;
use std::time::Duration;

/// The mark by which a prune ends a lease: its header is void whenever it appears.
pub const MARK_VOID: &str = "v";
/// The mark by which a writer says that it put its header before anybody asked.
pub const MARK_ACKNOWLEDGED: &str = "a";
/// How the mark begins by which a prune asks whether a lease still stands.
pub const MARK_ASKED: &str = "r";

/// A lease that this process holds. It beats until it is dropped or given back.
pub struct Lease {
    record: LeaseRecord,
    store: Store,
    signal: Arc<(Mutex<bool>, Condvar)>,
    beating: Option<JoinHandle<u64>>,
}

impl Lease {
    /// Puts a lease and starts its beat.
    ///
    /// # Errors
    /// Those of the backend. A reader goes on without a lease then.
    pub fn take(
        store: &Store,
        dataset: DatasetId,
        number: Option<BackupId>,
        parent: Option<BackupId>,
        purpose: &str,
        now: Timestamp,
    ) -> Result<Self> {
        let record = LeaseRecord {
            lease: LeaseId::new(layout::in_few_folders(sys::random()?, 1)),
            dataset,
            number,
            parent: parent.filter(|_| planted::keeps(Rule::PinsParents)),
            process: ProcessIdentity::current(),
            taken: now,
            purpose: purpose.to_owned(),
        };
        store.put(ObjectKind::Lease, &layout::lease(&record.lease)?, &record)?;
        let signal = Arc::new((Mutex::new(false), Condvar::new()));
        let (id, to_store, to_signal) = (record.lease, store.clone(), Arc::clone(&signal));
        let beating = std::thread::Builder::new()
            .name("beat".to_owned())
            .spawn(move || beat(&to_store, id, &to_signal))
            .ok();
        Ok(Lease { record, store: store.clone(), signal, beating })
    }

    /// Returns its id.
    pub fn id(&self) -> LeaseId {
        self.record.lease
    }

    fn stop(&mut self) -> u64 {
        let (stopped, wake) = &*self.signal;
        *stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
        wake.notify_all();
        self.beating.take().and_then(|thread| thread.join().ok()).unwrap_or(0)
    }

    /// Says whether it is still in store. Where it is not, as after a power cut of a server that
    /// had not written it, prunes take away what its holder leans on.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn is_there(&self) -> Result<bool> {
        let there = self.store.backend().stat(&layout::lease(&self.record.lease)?);
        Ok(there.map_err(|e| e.at(Origin::Repository))?.is_some())
    }

    /// Gives the lease back: it and its last beat are deleted. One that cannot be deleted is
    /// over all the same, and goes with the next prune.
    pub fn give_back(mut self) {
        let last_beat = self.stop();
        let id = self.record.lease;
        if last_beat > 0
            && let Ok(key) = layout::beat(&id, last_beat)
        {
            let _ = self.store.delete(&key);
        }
        if let Ok(key) = layout::lease(&id) {
            let _ = self.store.delete(&key);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Puts a new beat each time, and deletes the one before. Returns the number of the last.
fn beat(store: &Store, lease: LeaseId, signal: &(Mutex<bool>, Condvar)) -> u64 {
    let (stopped, wake) = signal;
    let mut last = 0;
    loop {
        let guard = stopped.lock().unwrap_or_else(PoisonError::into_inner);
        let pause = Duration::from_secs(BEAT_SECONDS);
        let waited = wake.wait_timeout_while(guard, pause, |stopped| !*stopped);
        let is_stopped = *waited.unwrap_or_else(PoisonError::into_inner).0;
        if is_stopped {
            return last;
        }
        let record = BeatRecord { lease, beat: last + 1 };
        // A beat that fails means nothing; the next one may succeed.
        let put = layout::beat(&lease, last + 1)
            .and_then(|key| store.put(ObjectKind::Beat, &key, &record));
        if put.is_ok() {
            if last > 0
                && let Ok(key) = layout::beat(&lease, last)
            {
                let _ = store.delete(&key);
            }
            last += 1;
        }
    }
}

/// A lease as others see it.
#[derive(Clone, Debug)]
pub struct SeenLease {
    /// What it says.
    pub record: LeaseRecord,
    /// Marks on it (class B): names behind its id.
    pub marks: Vec<String>,
    /// Its latest beat; 0 before the first.
    pub beat: u64,
    /// When it or its latest beat was put, by the store's own clock, where the store tells.
    pub last_sign: Option<Timestamp>,
}

impl SeenLease {
    /// Returns what the marks on it say; they are read when there are any.
    ///
    /// # Errors
    /// Those of [`standing`].
    pub fn standing(&self, store: &Store) -> Result<Standing> {
        if self.marks.is_empty() {
            Ok(Standing::Stands)
        } else {
            standing(store, &self.record.lease)
        }
    }

    /// Says whether its holder is certainly gone.
    pub fn is_certainly_dead(&self) -> bool {
        self.record.process.is_certainly_dead()
    }

    /// Says whether its holder is at work as far as can be told at one look: its process runs on
    /// this machine, or its last sign is fresh by the store's clock, of which `store_now` is the
    /// time.
    pub fn is_fresh(&self, store_now: Option<Timestamp>) -> bool {
        if self.record.process.is_certainly_alive() {
            return true;
        }
        if self.is_certainly_dead() {
            return false;
        }
        match (self.last_sign, store_now) {
            (Some(sign), Some(now)) => now.seconds_since(sign) < FRESH_SECONDS as f64,
            _ => false,
        }
    }
}

/// Returns all leases, by id. One that is gone between listing and reading is left out.
///
/// # Errors
/// Those of the backend; `Corrupt` for a lease that cannot be read.
pub fn list(store: &Store) -> Result<HashMap<LeaseId, SeenLease>> {
    let (seen, unreadable) = list_readable(store)?;
    match unreadable.first() {
        None => Ok(seen),
        Some(id) => {
            let message = format!("lease {id} cannot be read, so who is at work is unknown");
            Err(Error::corrupt(message)
                .hint("`icecore repair` says what can be done about it")
                .at(Origin::Repository))
        }
    }
}

/// Returns all leases that can be read, and the ids of the others: enough to be polite, not to
/// delete anything.
///
/// # Errors
/// Those of the backend.
pub fn list_readable(store: &Store) -> Result<(HashMap<LeaseId, SeenLease>, Vec<LeaseId>)> {
    let mut signs: HashMap<LeaseId, Option<Timestamp>> = HashMap::new();
    let mut marks: HashMap<LeaseId, Vec<String>> = HashMap::new();
    let mut beats: HashMap<LeaseId, u64> = HashMap::new();
    let mut leases = Vec::new();
    for object in all_below(store.backend(), &layout::folder("leases")?)? {
        let (id, suffix) = object.key.name().split_once('.').unwrap_or((object.key.name(), ""));
        let Ok(id) = id.parse::<LeaseId>() else { continue };
        match (suffix, suffix.strip_prefix("beat-").map(layout::plain_number)) {
            ("", _) => leases.push(id),
            (_, Some(beat)) => {
                let latest = beats.entry(id).or_default();
                *latest = (*latest).max(beat.unwrap_or(0));
            }
            (mark, None) => marks.entry(id).or_default().push(mark.to_owned()),
        }
        let sign = signs.entry(id).or_default();
        *sign = (*sign).max(object.modified);
    }
    let read = |id: &LeaseId| match store.get(ObjectKind::Lease, &layout::lease(id)?) {
        Ok(LeaseRecord { lease, .. }) if lease != *id => Ok(Some(Err(*id))),
        Ok(record) => Ok(Some(Ok(record))),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) if e.kind() == ErrorKind::Corrupt => Ok(Some(Err(*id))),
        Err(e) => Err(e),
    };
    let mut seen = HashMap::new();
    let mut unreadable = Vec::new();
    for read in ahead::map(store, &leases, &read)?.into_iter().flatten() {
        let record = match read {
            Ok(record) => record,
            Err(id) => {
                unreadable.push(id);
                continue;
            }
        };
        let id = record.lease;
        let last_sign = signs.get(&id).copied().flatten();
        let marks = marks.remove(&id).unwrap_or_default();
        let beat = beats.get(&id).copied().unwrap_or(0);
        seen.insert(id, SeenLease { record, marks, beat, last_sign });
    }
    Ok((seen, unreadable))
}

/// Refuses a store that does not list a lease which is there: it may hide others as well, and
/// what their holders need would be deleted.
///
/// # Errors
/// `Corrupt` when the lease is there and not among those that were listed; those of the backend.
pub fn expect_listed(
    store: &Store,
    own: &LeaseId,
    listed: &HashMap<LeaseId, SeenLease>,
) -> Result<()> {
    let key = layout::lease(own)?;
    if listed.contains_key(own) || store.backend().stat(&key)?.is_none() {
        return Ok(());
    }
    let message = format!("lease {own} was put and is there, but the store does not list it");
    Err(Error::corrupt(message)
        .hint("a store must list what was put, at once and from everywhere; nothing was deleted")
        .at(Origin::Repository))
}

/// What is said of a lease's header by marks on it (class B).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing speaks against it, or its writer saw that nothing did: it is shown.
    Stands,
    /// A prune asked before its writer could see that nobody had: it is kept, and not shown.
    Asked,
    /// It is void whenever it appears.
    Void,
}

impl Standing {
    /// Reads the marks on a lease.
    pub fn of(marks: &[String]) -> Self {
        let has = |mark: &str| marks.iter().any(|other| other == mark);
        if has(MARK_VOID) {
            Standing::Void
        } else if marks.is_empty() || has(MARK_ACKNOWLEDGED) {
            Standing::Stands
        } else {
            Standing::Asked
        }
    }
}

/// Returns the marks on one lease (class B), by listing its folder.
///
/// # Errors
/// Those of the backend.
pub fn marks_on(store: &Store, lease: &LeaseId) -> Result<Vec<String>> {
    let prefix = format!("{lease}.");
    let names = store.names_below(&layout::lease_folder(lease)?)?;
    let marks = names.iter().filter_map(|key| key.name().strip_prefix(&prefix));
    Ok(marks.filter(|mark| !mark.starts_with("beat-")).map(str::to_owned).collect())
}

/// Returns what is said of a lease's header by the marks on it (class B). Marks are read, not
/// believed by their names: whoever could put one without the key could hide a backup.
///
/// # Errors
/// Those of the backend; `Corrupt` for a mark that is none of this lease.
pub fn standing(store: &Store, lease: &LeaseId) -> Result<Standing> {
    let marks = marks_on(store, lease)?;
    for mark in &marks {
        let asks = mark.starts_with(MARK_ASKED);
        let kind = if asks { ObjectKind::Revoke } else { ObjectKind::Verdict };
        let key = layout::mark(lease, mark)?;
        let belongs_here = match store.get::<MarkRecord>(kind, &key) {
            Ok(record) => record.lease == *lease,
            // A prune took it away since the listing, and the header before it.
            Err(e) if e.kind() == ErrorKind::NotFound => true,
            Err(e) => return Err(e),
        };
        if !belongs_here {
            let message = format!("the mark {key} belongs elsewhere");
            return Err(Error::corrupt(message).at(Origin::Repository));
        }
    }
    Ok(Standing::of(&marks))
}
