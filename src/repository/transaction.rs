//! A backup being written: which blobs are known, where new ones go, and the commit.
//!
//! The steps are those of PROTOCOL, class A: list, lease, list again, tombstones, existence;
//! then packs and their index, then `put_new` of the number that the lease names. In class B the
//! header has a key of its own and is acknowledged only when nobody has asked whether its lease
//! still stands.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::hash;
use crate::base::id::BackupId;
use crate::base::id::BlobId;
use crate::base::id::BlockId;
use crate::base::id::LeaseId;
use crate::base::id::PackId;
use crate::base::limits::COMMIT_TRIES_MAX;
use crate::base::limits::KEPT_TABLES_BYTES_MAX;
use crate::base::planted;
use crate::base::planted::Rule;
use crate::base::time::Timestamp;
use crate::codec::frame::ObjectKind;
use crate::format::backup;
use crate::format::backup::Header;
use crate::format::entry::Run;
use crate::format::lease::MarkRecord;
use crate::repository::Repository;
use crate::repository::absorb;
use crate::repository::datasets::Backup;
use crate::repository::datasets::Dataset;
use crate::repository::datasets::Numbers;
use crate::repository::doom::Tombstones;
use crate::repository::fence::Observer;
use crate::repository::history::Snapshot;
use crate::repository::layout;
use crate::repository::lease;
use crate::repository::lease::Lease;
use crate::repository::names::NameIndex;
use crate::repository::names::NamePlace;
use crate::repository::outset::outrun;
use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::OnceLock;
use std::sync::PoisonError;

pub use crate::repository::outset::LeanOn;
pub use crate::repository::outset::Looked;

/// Says whether a block may be leaned on.
pub type MayBe<'a> = &'a dyn Fn(&BlockId) -> bool;

/// Where a blob is that need not be stored again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// At a place of a block in the repository.
    Stored(BlockId, u32),
    /// In a block that this run fills or has filled, by its local number.
    Written(NamePlace),
}

/// A backup being written under a lease.
pub struct Transaction {
    dataset: Dataset,
    lease: Lease,
    number: BackupId,
    parent: Option<Snapshot>,
    lean_on: LeanOn,
    doomed: OnceLock<HashSet<PackId>>,
    names: NameIndex,
    /// First local number of this run: blocks from here up are this run's own.
    own_from: OnceLock<u32>,
    catching_up: Mutex<()>,
    packs_there: Mutex<HashMap<PackId, bool>>,
}

/// How a commit ended.
#[derive(Debug)]
pub enum Committed {
    /// The backup exists; the digest of its header object.
    Yes(hash::Digest),
    /// Somebody took the number, or ended the lease: start again.
    Lost,
}

impl Transaction {
    /// Takes a lease on the next number of a dataset and looks at what may be leaned on.
    ///
    /// # Errors
    /// `Busy` when another writer is at work on the dataset; those of the backend.
    pub fn begin(dataset: &Dataset, now: Timestamp) -> Result<Self> {
        Transaction::begin_on(dataset, now, LeanOn::Parent, None)
    }

    /// Like [`Transaction::begin`], maybe without a parent, and going out from what was `looked`
    /// at before. That may be out of date: the listing after the lease tells, which the protocol
    /// needs in any case, and then all begins anew. So one who has just listed does not list twice.
    ///
    /// # Errors
    /// Those of [`Transaction::begin`].
    pub fn begin_on(
        dataset: &Dataset,
        now: Timestamp,
        lean_on: LeanOn,
        mut looked: Option<Looked>,
    ) -> Result<Self> {
        let store = dataset.repository().store();
        for _ in 0..COMMIT_TRIES_MAX {
            let Looked { numbers, parent } = Looked::or_now(looked.take(), dataset, lean_on)?;
            // What is leaned on must not be taken back by a power cut.
            store.settle()?;
            let parent_number = parent.as_ref().map(|parent| parent.header.number);
            let number = numbers.next();
            let purpose = format!("backup of {}", dataset.name());
            let lease =
                Lease::take(store, dataset.id(), Some(number), parent_number, &purpose, now)?;
            let looked = refuse_busy(dataset, &lease, now).and_then(|()| {
                let again = dataset.newest_numbers()?;
                let parent_stands = still_stands(dataset, &again, parent_number)?;
                Ok((again, parent_stands))
            });
            let (again, parent_stands) = match looked {
                Ok(looked) => looked,
                Err(e) => {
                    lease.give_back();
                    return Err(e);
                }
            };
            // Taken meanwhile, or even retired.
            if !parent_stands || again.next() != number {
                lease.give_back();
                continue;
            }
            let parent = parent.map(|parent| dataset.snapshot(&again, parent)).transpose();
            let opened = parent
                .and_then(|parent| Ok((parent, NameIndex::open(dataset.repository().cache())?)));
            let (parent, names) = match opened {
                Ok(opened) => opened,
                Err(e) => {
                    lease.give_back();
                    return Err(e);
                }
            };
            let transaction = Transaction {
                dataset: dataset.clone(),
                lease,
                number,
                parent,
                lean_on,
                doomed: OnceLock::new(),
                names,
                own_from: OnceLock::new(),
                catching_up: Mutex::new(()),
                packs_there: Mutex::new(HashMap::new()),
            };
            if planted::keeps(Rule::TombstonesFirst)
                && let Err(e) = transaction.doomed()
            {
                transaction.abandon();
                return Err(e);
            }
            return Ok(transaction);
        }
        Err(outrun(dataset.name()))
    }

    /// Returns the packs that tombstones name, which are listed before it is asked what is there.
    fn doomed(&self) -> Result<&HashSet<PackId>> {
        if let Some(doomed) = self.doomed.get() {
            return Ok(doomed);
        }
        let doomed = Tombstones::list(self.repository().store())?.packs();
        Ok(self.doomed.get_or_init(|| doomed))
    }

    /// Returns the dataset.
    pub fn dataset(&self) -> &Dataset {
        &self.dataset
    }

    /// Returns the repository.
    pub fn repository(&self) -> &Repository {
        self.dataset.repository()
    }

    /// Returns the number that will be committed.
    pub fn number(&self) -> BackupId {
        self.number
    }

    /// Returns the lease's id.
    pub fn lease_id(&self) -> LeaseId {
        self.lease.id()
    }

    /// Returns the backup that this one is compared with.
    pub fn parent(&self) -> Option<&Snapshot> {
        self.parent.as_ref()
    }

    /// Returns the name index of this run.
    pub fn names(&self) -> &NameIndex {
        &self.names
    }

    /// Reads the tables of packs that other machines or lost caches have left unknown here, once
    /// and before the first block of this run gets its number.
    fn catch_up(&self) -> Result<u32> {
        if let Some(&own_from) = self.own_from.get() {
            return Ok(own_from);
        }
        let _one_at_a_time = self.catching_up.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(&own_from) = self.own_from.get() {
            return Ok(own_from);
        }
        absorb::catch_up(self.repository(), &self.names)?;
        Ok(*self.own_from.get_or_init(|| self.names.count()))
    }

    /// Sees to it that the tables of these blocks are at hand where each answer of the store is
    /// long in coming: those that are about to be asked for.
    ///
    /// # Errors
    /// Those of the backend, when the name index has to catch up.
    pub fn bring_tables<'a>(&self, blocks: impl Iterator<Item = &'a BlockId>) -> Result<()> {
        let mut blocks = blocks.peekable();
        if self.repository().is_far() && blocks.peek().is_some() {
            // It lists the index, which then need not be listed to find the blocks.
            self.catch_up()?;
            self.repository().bring_tables(blocks);
        }
        Ok(())
    }

    /// Returns a local number for a block of this run.
    ///
    /// # Errors
    /// Those of the backend, when the name index has to catch up.
    pub fn new_block(&self) -> Result<u32> {
        self.catch_up()?;
        Ok(self.names.allocate())
    }

    /// Returns where a blob is, if it may be leaned on: of blocks that are not of this run only in
    /// those that `may_be` lets through.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn look_up(&self, blob: &BlobId, may_be: MayBe<'_>) -> Result<Option<Known>> {
        let own_from = self.catch_up()?;
        if let Some(at) = self.names.find_recent(blob) {
            return Ok(Some(Known::Written(at)));
        }
        for (at, block) in self.names.find_kept(blob) {
            let is_own = at.number >= own_from;
            let is_usable = is_own || may_be(&block) && self.may_lean_on(&block, at.place)?;
            // A table that cannot be read confirms nothing; the blob is stored again.
            let is_there =
                is_usable && self.repository().blob_is_at(blob, &block, at.place).unwrap_or(false);
            if is_there {
                return Ok(Some(Known::Stored(block, at.place)));
            }
        }
        Ok(None)
    }

    /// Returns where a blob of metadata is, if it may be leaned on. When the parent cannot be
    /// read, nothing is: ranges of this run would be those that are damaged.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn look_up_metadata(&self, blob: &BlobId) -> Result<Option<Known>> {
        match self.lean_on {
            LeanOn::Parent => self.look_up(blob, &|_| true),
            LeanOn::Nothing => Ok(self.names.find_recent(blob).map(Known::Written)),
        }
    }

    /// Says whether a place of a block is in a pack that no tombstone names and that is there:
    /// step 5 of the protocol.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn may_lean_on(&self, block: &BlockId, place: u32) -> Result<bool> {
        self.may_lean_on_run(&Run { block: *block, first: place, count: 1, bytes: 0 })
    }

    /// Says whether all places of a run are in one pack that no tombstone names and that is there.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn may_lean_on_run(&self, run: &Run) -> Result<bool> {
        self.catch_up()?;
        let Some(end) = run.first.checked_add(run.count) else { return Ok(false) };
        // Packs that another run of this process has put, and whose index may never come, do not
        // count: nobody else would find them.
        for location in self.repository().index().find_named(&run.block) {
            let (pack, row) = (location.pack, location.row);
            if !planted::keeps(Rule::TombstonesFirst) {
                self.pack_is_there(&pack.pack, pack.size)?;
            }
            let is_doomed =
                self.doomed()?.contains(&pack.pack) && planted::keeps(Rule::ShunsTheDoomed);
            let is_whole = row.present.is_empty() && end <= row.places;
            let has_all = is_whole || (run.first..end).all(|place| row.has_place(place));
            let holds = has_all && !is_doomed;
            if holds && self.pack_is_there(&pack.pack, pack.size)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn pack_is_there(&self, pack: &PackId, size: u64) -> Result<bool> {
        let lock = || self.packs_there.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(&is_there) = lock().get(pack) {
            return Ok(is_there);
        }
        let is_there = self.repository().pack_exists(pack, size)?;
        lock().insert(*pack, is_there);
        Ok(is_there)
    }

    /// Says whether the parent is still visible and the newest: asked at the end of a run without
    /// changes, so that `unchanged` is true when it is said.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn parent_still_stands(&self) -> Result<bool> {
        let numbers = self.dataset.newest_numbers()?;
        let newest = self
            .dataset
            .newest_readable(&numbers, &mut |_, _| {})?
            .map(|backup| backup.header.number);
        Ok(newest == self.parent.as_ref().map(Snapshot::number))
    }

    /// Commits: all that the header names must be durable. The lease is given back, unless it is
    /// not known whether the header will be there: until then it keeps what that one needs.
    ///
    /// # Errors
    /// Those of the backend; the backup does not exist then, unless only the reply was lost, or
    /// what comes behind its header has failed: the lease is not given back then.
    pub fn commit(self, header: &Header) -> Result<Committed> {
        let store = self.repository().store().clone();
        // Names, parent, indexes and packs that others have put, and may have died before syncing.
        let sealed = match store.settle().and_then(|()| self.seal(header)) {
            Ok(sealed) => sealed,
            Err(e) => {
                self.abandon();
                return Err(e);
            }
        };
        if !self.lease.is_there()? {
            return Ok(Committed::Lost);
        }
        let is_first = match self.put_header(&sealed) {
            // It was refused, and will not come later.
            Err(e)
                if matches!(e.kind(), ErrorKind::Full | ErrorKind::Denied) && !e.may_be_done() =>
            {
                self.abandon();
                return Err(e);
            }
            put => put?,
        };
        let stands = is_first && (store.is_class_a() || self.stood()?);
        let committed = stands && !self.dataset.is_passed(self.number)?;
        if committed {
            self.dataset.remember(BackupId(self.number.0 + 1));
        }
        let (_, names, repository) =
            (self.lease.give_back(), self.names, self.dataset.repository());
        // A cache that cannot be saved costs the next run time, and nothing else.
        let _ = names.save(repository.cache());
        repository.sweep_tables(KEPT_TABLES_BYTES_MAX);
        Ok(if committed { Committed::Yes(hash::hash(&sealed)) } else { Committed::Lost })
    }

    fn seal(&self, header: &Header) -> Result<Vec<u8>> {
        let key = self.header_key()?;
        let plain = backup::encode(header)?;
        self.repository().store().sealer().seal(ObjectKind::Backup, key.as_str(), &plain)
    }

    fn header_key(&self) -> Result<crate::backend::key::ObjectKey> {
        let id = self.dataset.id();
        if self.repository().store().is_class_a() {
            layout::header(&id, self.number)
        } else {
            layout::header_of_lease(&id, self.number, &self.lease.id())
        }
    }

    /// Puts the header; with an atomic create, says whether it is the first of its number.
    fn put_header(&self, sealed: &[u8]) -> Result<bool> {
        let store = self.repository().store();
        let key = self.header_key()?;
        if store.is_class_a() {
            return store.put_new_bytes(ObjectKind::Backup, &key, sealed);
        }
        let put = store.backend().put(&key, sealed);
        put.map_err(|e| {
            e.context(format!("cannot write backup header {key}")).at(Origin::Repository)
        })?;
        Ok(true)
    }

    /// Class B, when the header is put: looks whether somebody asked if the lease stands.
    fn stood(&self) -> Result<bool> {
        let store = self.repository().store();
        let lease = self.lease.id();
        if planted::keeps(Rule::RereadsMarks) && !lease::marks_on(store, &lease)?.is_empty() {
            return Ok(false);
        }
        // Whoever asks from here on finds the header; this tells readers that it stood before.
        let by = "its writer".to_owned();
        let key = layout::mark(&lease, lease::MARK_ACKNOWLEDGED)?;
        store.put(ObjectKind::Verdict, &key, &MarkRecord { lease, by })?;
        Ok(true)
    }

    /// Ends without a backup and keeps what was learned.
    pub fn abandon(self) {
        let _ = self.names.save(self.dataset.repository().cache());
        self.lease.give_back();
    }
}

/// Says whether a parent is still the newest that can be leaned on. It is looked for as it was
/// found, so that the answers differ only by what came in between.
fn still_stands(dataset: &Dataset, again: &Numbers, parent: Option<BackupId>) -> Result<bool> {
    if parent.is_none() || !planted::keeps(Rule::LooksAgain) {
        return Ok(true);
    }
    let newest = dataset.newest_readable(again, &mut |_, _| {})?;
    Ok(newest.map(|newest| newest.header.number) == parent)
}

/// Refuses to begin while another writer is at work on the dataset.
fn refuse_busy(dataset: &Dataset, own: &Lease, now: Timestamp) -> Result<()> {
    let store = dataset.repository().store();
    // Where the commit decides, a lease that cannot be read stops nobody.
    let readable = || lease::list_readable(store).map(|(seen, _)| seen);
    let seen = if store.is_class_a() { readable()? } else { lease::list(store)? };
    lease::expect_listed(store, &own.id(), &seen)?;
    let store_now = seen.get(&own.id()).and_then(|own| own.last_sign);
    let writers = seen.values().filter(|other| {
        other.record.lease != own.id()
            && other.record.dataset == dataset.id()
            && other.record.number.is_some()
    });
    let observer = Observer { now, store_now, ended: &[] };
    let mut at_work = None;
    for other in writers {
        // Without an atomic create two could commit one number, so there anybody counts who is not
        // over; of two who look at once both may go, never none. One that is dead is ended first:
        // it may live after all, and only a mark keeps its header from counting. With one, who is
        // over has left a lease behind: killed on a machine that has gone on with its number since.
        let counts = if store.is_class_a() {
            other.is_fresh(store_now) && !dataset.repository().is_over(other)?
        } else if planted::keeps(Rule::EndsRivals) {
            !dataset.repository().end_lease(other, &observer)?
        } else {
            !other.is_certainly_dead() && !dataset.repository().is_over(other)?
        };
        if counts {
            at_work = Some(other);
        }
    }
    let Some(other) = at_work else { return Ok(()) };
    let process = &other.record.process;
    let message = format!(
        "another backup of {} is running: process {} on {}, since {}",
        dataset.name(),
        process.pid,
        process.host,
        other.record.taken.to_local_text()
    );
    Err(Error::new(ErrorKind::Busy, message).hint("wait until it is done, then try again"))
}

/// Returns a backup by number.
///
/// # Errors
/// `NotFound` when it is not there or was forgotten.
pub fn visible(dataset: &Dataset, number: BackupId) -> Result<Arc<Backup>> {
    let numbers = dataset.shown_numbers()?;
    let found = dataset.backup(&numbers, number)?;
    found.map(Arc::new).ok_or_else(|| {
        let message = format!("{} has no {number}", dataset.name());
        Error::new(ErrorKind::NotFound, message)
            .hint(format!("`icecore list {}` shows its backups", dataset.name()))
    })
}
