//! The backend of one actor: the shared memory, with the scheduler before each call, and the ways
//! of real stores: replies that are lost, calls that come late, uploads that can be seen half-way.

use crate::concurrency::actors::Actor;
use crate::concurrency::scheduler::Scheduler;
use crate::concurrency::time::Beats;
use crate::concurrency::time::Time;
use icecore::backend::Backend;
use icecore::backend::Capabilities;
use icecore::backend::Listed;
use icecore::backend::key::FolderKey;
use icecore::backend::key::ObjectKey;
use icecore::backend::memory::MemoryBackend;
use icecore::backend::wrap::Operation;
use icecore::base::error::Error;
use icecore::base::error::Result;
use icecore::base::id::to_hex;
use icecore::base::sys;
use icecore::codec::frame::ObjectKind;
use icecore::codec::seal::Sealer;
use icecore::format::lease::BeatRecord;
use icecore::format::lease::LeaseRecord;
use icecore::repository::layout;
use icecore::repository::store::Store;
use std::ops::Range;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::OnceLock;

/// How the store takes what an actor writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ways {
    /// As it should.
    Plain,
    /// Everything is done, its reply is lost, and it is done again.
    LosesReplies,
    /// What is written below these folders comes once more, at any time after: a request that
    /// seemed lost and was not.
    Late(&'static [&'static str]),
    /// An object is uploaded under another name, in two parts, and then gets its own.
    Staged,
}

pub(super) struct Scheduled {
    pub(super) number: usize,
    pub(super) actor: Actor,
    pub(super) inner: Arc<MemoryBackend>,
    /// Set once the actor is at work; before, calls pass.
    pub(super) scheduler: OnceLock<Arc<Scheduler>>,
    /// Seals what this actor seems to have written.
    pub(super) store: Store,
    pub(super) time: Arc<Time>,
    /// The actor that brings what comes late.
    pub(super) network: Option<usize>,
    pub(super) beats: Mutex<Beats>,
}

/// Does what a write says.
fn apply(
    inner: &MemoryBackend,
    time: &Time,
    operation: Operation,
    key: &ObjectKey,
    bytes: &[u8],
) -> Result<()> {
    match operation {
        Operation::Put => inner.put(key, bytes)?,
        Operation::PutNew => inner.put_new(key, bytes)?,
        _ => inner.delete(key)?,
    }
    time.note(key);
    Ok(())
}

impl Scheduled {
    fn call<T>(
        &self,
        operation: Operation,
        key: &str,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let Some(scheduler) = self.scheduler.get() else { return work() };
        scheduler.enter(self.number, operation, key)?;
        let outcome = work();
        let failed = outcome.as_ref().err().map(Error::kind);
        scheduler.leave(self.number, operation, key, failed);
        outcome
    }

    fn write(&self, operation: Operation, key: &ObjectKey, bytes: &[u8]) -> Result<()> {
        let half = self.upload_half(operation, bytes)?;
        let write = || {
            let apply = || apply(&self.inner, &self.time, operation, key, bytes);
            self.call(operation, key.as_str(), apply)
        };
        let mut outcome = write();
        if outcome.is_ok() {
            self.bring_late(operation, key, bytes);
            if self.actor.ways == Ways::LosesReplies {
                // What a backend that tries again makes of a reply that was lost.
                outcome = write();
            }
        }
        if let Some(half) = half {
            let gone = self.call(Operation::Delete, half.as_str(), || self.inner.delete(&half));
            return outcome.and(gone);
        }
        outcome
    }

    /// Puts the beginning of an object under a name of its own, where the store does so.
    fn upload_half(&self, operation: Operation, bytes: &[u8]) -> Result<Option<ObjectKey>> {
        if self.actor.ways != Ways::Staged || operation == Operation::Delete {
            return Ok(None);
        }
        let half = ObjectKey::new(format!("tmp/{}", to_hex(&sys::random::<16>()?)))?;
        let part = &bytes[..bytes.len() / 2];
        self.call(Operation::Put, half.as_str(), || self.inner.put(&half, part))?;
        Ok(Some(half))
    }

    fn bring_late(&self, operation: Operation, key: &ObjectKey, bytes: &[u8]) {
        let Ways::Late(folders) = self.actor.ways else { return };
        let (Some(network), Some(scheduler)) = (self.network, self.scheduler.get()) else { return };
        if !folders.iter().any(|folder| key.as_str().starts_with(folder)) {
            return;
        }
        let (inner, time) = (Arc::clone(&self.inner), Arc::clone(&self.time));
        let (late, bytes) = (key.clone(), bytes.to_vec());
        let work = move || apply(&inner, &time, operation, &late, &bytes);
        scheduler.later(network, operation, key.as_str(), work);
    }

    fn disguise(&self, key: &ObjectKey, bytes: &[u8]) -> Option<Vec<u8>> {
        if !is_lease(key) {
            return None;
        }
        let sealer = self.store.sealer();
        match self.actor.machine {
            _ if self.actor.looks_dead => Some(bury(sealer, key, bytes)),
            Some(machine) => Some(move_away(sealer, key, bytes, machine.name)),
            None => None,
        }
    }

    /// Gives the signs of life that are due: a minute is over, or this machine has slept. What
    /// was under way when it fell asleep is done first.
    fn beat(&self) {
        let due = self.beats.lock().unwrap().due(self.time.seconds());
        for (lease, beat) in due {
            let key = layout::beat(&lease, beat).unwrap();
            let record = BeatRecord { lease, beat };
            let sealer = self.store.sealer();
            let bytes = sealer.seal_record(ObjectKind::Beat, key.as_str(), &record).unwrap();
            // A beat that fails means nothing.
            let _ = self.write(Operation::Put, &key, &bytes);
        }
    }

    /// Takes back the beats of a lease that is given back.
    fn stop_beating(&self, key: &ObjectKey) {
        let beats = self.beats.lock().unwrap().stop(key);
        for beat in beats {
            let _ = self.write(Operation::Delete, &beat, &[]);
        }
    }
}

fn is_lease(key: &ObjectKey) -> bool {
    key.as_str().starts_with("leases/") && !key.name().contains('.')
}

fn change_lease(
    sealer: &Sealer,
    key: &ObjectKey,
    bytes: &[u8],
    change: impl FnOnce(&mut LeaseRecord),
) -> Vec<u8> {
    let opened = sealer.open_record(ObjectKind::Lease, key.as_str(), bytes);
    let mut record: LeaseRecord = opened.unwrap();
    change(&mut record);
    sealer.seal_record(ObjectKind::Lease, key.as_str(), &record).unwrap()
}

/// Makes a lease one of an earlier boot of this machine.
pub(super) fn bury(sealer: &Sealer, key: &ObjectKey, bytes: &[u8]) -> Vec<u8> {
    change_lease(sealer, key, bytes, |record| {
        record.process.host = sys::host_name();
        record.process.boot = "an earlier boot".to_owned();
    })
}

/// Makes a lease one of another machine, of which nobody knows whether it lives.
pub(super) fn move_away(sealer: &Sealer, key: &ObjectKey, bytes: &[u8], host: &str) -> Vec<u8> {
    change_lease(sealer, key, bytes, |record| {
        record.process.host = host.to_owned();
        record.process.boot = format!("the boot of {host}");
    })
}

impl Backend for Scheduled {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn put(&self, key: &ObjectKey, bytes: &[u8]) -> Result<()> {
        let disguised = self.disguise(key, bytes);
        let put = self.write(Operation::Put, key, disguised.as_deref().unwrap_or(bytes));
        if put.is_ok() && is_lease(key) && self.actor.machine.is_some() {
            self.beats.lock().unwrap().start(key, self.time.seconds());
        }
        self.beat();
        put
    }

    fn put_new(&self, key: &ObjectKey, bytes: &[u8]) -> Result<()> {
        let put = self.write(Operation::PutNew, key, bytes);
        self.beat();
        put
    }

    fn get(&self, key: &ObjectKey, bytes_max: usize) -> Result<Vec<u8>> {
        let got = self.call(Operation::Get, key.as_str(), || self.inner.get(key, bytes_max));
        self.beat();
        got
    }

    fn get_range(&self, key: &ObjectKey, range: Range<u64>) -> Result<Vec<u8>> {
        self.call(Operation::GetRange, key.as_str(), || self.inner.get_range(key, range))
    }

    fn stat(&self, key: &ObjectKey) -> Result<Option<u64>> {
        self.call(Operation::Stat, key.as_str(), || self.inner.stat(key))
    }

    fn list(&self, folder: &FolderKey, visit: &mut dyn FnMut(Listed) -> Result<()>) -> Result<()> {
        let mut rows = self.call(Operation::List, folder.as_str(), || {
            let mut rows = Vec::new();
            self.inner.list(folder, &mut |row| {
                rows.push(self.time.stamp(row));
                Ok(())
            })?;
            Ok(rows)
        })?;
        if let Some(scheduler) = self.scheduler.get() {
            // Sorted by what is not random, so that a run can be repeated.
            rows.sort_by_cached_key(|row| match row {
                Listed::Object(object) => scheduler.rank(object.key.as_str(), false),
                Listed::Folder(folder) => scheduler.rank(folder.as_str(), true),
            });
        }
        self.beat();
        rows.into_iter().try_for_each(visit)
    }

    fn delete(&self, key: &ObjectKey) -> Result<()> {
        if is_lease(key) {
            self.stop_beating(key);
        }
        self.write(Operation::Delete, key, &[])
    }
}
