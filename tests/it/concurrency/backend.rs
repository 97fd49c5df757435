//! The backend of one actor: the shared memory, with the scheduler before each call.

use crate::concurrency::scheduler::Scheduler;
use icecore::backend::Backend;
use icecore::backend::Capabilities;
use icecore::backend::Listed;
use icecore::backend::key::FolderKey;
use icecore::backend::key::ObjectKey;
use icecore::backend::memory::MemoryBackend;
use icecore::backend::wrap::Operation;
use icecore::base::error::Error;
use icecore::base::error::Result;
use icecore::base::id::RepositoryId;
use icecore::codec::frame::ObjectKind;
use icecore::codec::seal::Sealer;
use icecore::format::lease::LeaseRecord;
use std::ops::Range;
use std::sync::Arc;
use std::sync::OnceLock;

pub(super) struct Scheduled {
    pub(super) actor: usize,
    pub(super) inner: Arc<MemoryBackend>,
    /// Set once the actor is at work; before, calls pass.
    pub(super) scheduler: OnceLock<Arc<Scheduler>>,
    /// Makes leases of this actor look as if its machine had been booted since.
    pub(super) looks_dead: bool,
    pub(super) sealer: Sealer,
    /// Loses the reply of the first commit: it is done, and an error is said.
    pub(super) loses_reply: bool,
}

impl Scheduled {
    fn call<T>(
        &self,
        operation: Operation,
        key: &str,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let Some(scheduler) = self.scheduler.get() else { return work() };
        scheduler.enter(self.actor, operation, key)?;
        let outcome = work();
        let failed = outcome.as_ref().err().map(Error::kind);
        scheduler.leave(self.actor, operation, key, failed);
        outcome
    }

    fn disguise(&self, key: &ObjectKey, bytes: &[u8]) -> Option<Vec<u8>> {
        let is_lease = key.as_str().starts_with("leases/") && !key.name().contains('.');
        if self.looks_dead && is_lease { Some(bury(&self.sealer, key, bytes)) } else { None }
    }
}

/// Makes a lease one of an earlier boot of this machine.
pub(super) fn bury(sealer: &Sealer, key: &ObjectKey, bytes: &[u8]) -> Vec<u8> {
    let opened = sealer.open_record(ObjectKind::Lease, key.as_str(), bytes);
    let mut record: LeaseRecord = opened.unwrap();
    record.process.boot = "an earlier boot".to_owned();
    sealer.seal_record(ObjectKind::Lease, key.as_str(), &record).unwrap()
}

pub(super) fn sealer(repository: RepositoryId) -> Sealer {
    Sealer::new(repository, None)
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
        let bytes = disguised.as_deref().unwrap_or(bytes);
        self.call(Operation::Put, key.as_str(), || self.inner.put(key, bytes))
    }

    fn put_new(&self, key: &ObjectKey, bytes: &[u8]) -> Result<()> {
        self.call(Operation::PutNew, key.as_str(), || self.inner.put_new(key, bytes))?;
        if !self.loses_reply {
            return Ok(());
        }
        // What a backend that tries again makes of a reply that was lost.
        self.call(Operation::PutNew, key.as_str(), || self.inner.put_new(key, bytes))
    }

    fn get(&self, key: &ObjectKey, bytes_max: usize) -> Result<Vec<u8>> {
        self.call(Operation::Get, key.as_str(), || self.inner.get(key, bytes_max))
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
                rows.push(row);
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
        rows.into_iter().try_for_each(visit)
    }

    fn delete(&self, key: &ObjectKey) -> Result<()> {
        self.call(Operation::Delete, key.as_str(), || self.inner.delete(key))
    }
}
