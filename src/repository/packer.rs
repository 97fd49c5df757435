//! Gathers encoded blocks into packs and puts them, on threads of their own.
//!
//! One pack is filled while others are being put, as many as the backend makes use of: the
//! channel between has no room, so one pack more than that is in memory at most. After every few
//! packs an interim index names them, so that a backup that dies can be gone on with.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::id::IndexId;
use crate::base::id::LeaseId;
use crate::base::limits::INTERIM_INDEX_PACKS;
use crate::base::panic::caught;
use crate::format::pack::BlockRow;
use crate::format::pack::EncodedBlock;
use crate::format::pack::FinishedPack;
use crate::format::pack::PackBuilder;
use crate::format::pack_index::IndexedPack;
use crate::repository::Repository;
use crate::repository::layout;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::mpsc;
use std::thread::JoinHandle;

/// What was put.
#[derive(Debug, Default)]
pub struct PackedReport {
    /// Bytes of packs and index objects.
    pub stored_bytes: u64,
    /// Index objects that name the packs.
    pub indexes: Vec<IndexId>,
}

/// Fills packs. Blocks come in order from one thread.
pub struct Packer {
    repository: Repository,
    builder: Option<PackBuilder>,
    to_uploaders: Option<mpsc::SyncSender<FinishedPack>>,
    buffers: mpsc::Receiver<Vec<u8>>,
    uploads: Arc<Uploads>,
    threads: Vec<JoinHandle<Result<()>>>,
}

impl Packer {
    /// Starts the threads that put packs.
    ///
    /// # Errors
    /// `Io` when no thread can be started.
    pub fn start(repository: &Repository, lease: LeaseId) -> Result<Self> {
        let (to_uploaders, packs) = mpsc::sync_channel(0);
        let (to_packer, buffers) = mpsc::channel();
        let threads = repository.store().backend().capabilities().uploads.max(1);
        let uploads = Arc::new(Uploads {
            repository: repository.clone(),
            lease,
            threads,
            packs: Mutex::new(Some(packs)),
            put: Mutex::default(),
        });
        let start = |_| {
            let (uploads, to_packer) = (Arc::clone(&uploads), to_packer.clone());
            std::thread::Builder::new()
                .name("upload".to_owned())
                .spawn(move || uploads.run(&to_packer))
                .map_err(|e| Error::io("cannot start a thread", e))
        };
        Ok(Packer {
            repository: repository.clone(),
            builder: None,
            to_uploaders: Some(to_uploaders),
            buffers,
            threads: (0..threads).map(start).collect::<Result<_>>()?,
            uploads,
        })
    }

    /// Adds a block; hands the pack on once it is full.
    ///
    /// # Errors
    /// What failed while a pack was put.
    pub fn add(&mut self, block: EncodedBlock) -> Result<()> {
        let builder = match self.builder.take() {
            Some(builder) => builder,
            None => self.start_pack()?,
        };
        let builder = self.builder.insert(builder);
        builder.add(&block)?;
        self.repository.spare().give(block.stored);
        if builder.is_full(self.repository.config().pack_bytes as usize) {
            self.flush()?;
        }
        Ok(())
    }

    fn start_pack(&self) -> Result<PackBuilder> {
        let buffer = self.buffers.try_recv().unwrap_or_default();
        let keys = self.repository.store().sealer().keys();
        PackBuilder::new(&self.repository.id(), keys, buffer)
    }

    fn flush(&mut self) -> Result<()> {
        let Some(builder) = self.builder.take() else { return Ok(()) };
        let pack = builder.finish()?;
        let sent = self.to_uploaders.as_ref().map(|sender| sender.send(pack));
        match sent {
            Some(Ok(())) => Ok(()),
            // The uploaders end early only with an error, which is the one to report.
            _ => self.join().and(Err(Error::bug("the uploaders ended early"))),
        }
    }

    fn join(&mut self) -> Result<()> {
        if self.to_uploaders.take().is_none() {
            return Err(Error::new(ErrorKind::Io, "packs can no longer be written"));
        }
        let join = |thread: JoinHandle<Result<()>>| {
            thread.join().unwrap_or_else(|_| Err(Error::bug("an uploader panicked")))
        };
        // All of them are waited for, so that nothing is put after an error was reported.
        let ended: Vec<Result<()>> = self.threads.drain(..).map(join).collect();
        ended.into_iter().collect()
    }

    /// Puts what is left, and the index that names it. With this all is durable.
    ///
    /// # Errors
    /// What failed while a pack or an index was put.
    pub fn finish(&mut self) -> Result<PackedReport> {
        self.flush()?;
        self.repository.spare().clear();
        self.join()?;
        Ok(self.put_so_far())
    }

    /// Returns what was put and named, also when something failed, and counts it only once.
    pub fn put_so_far(&mut self) -> PackedReport {
        std::mem::take(&mut self.uploads.put().report)
    }
}

/// What the threads share that put packs.
struct Uploads {
    repository: Repository,
    lease: LeaseId,
    /// How many there are.
    threads: usize,
    /// None once one of them has failed: then all stop, and the packer with them.
    packs: Mutex<Option<mpsc::Receiver<FinishedPack>>>,
    put: Mutex<Put>,
}

/// What was put so far.
#[derive(Default)]
struct Put {
    unnamed: Unnamed,
    /// How many threads are through.
    ended: usize,
    /// Whether one of them found no room.
    is_full: bool,
    report: PackedReport,
}

/// Packs that no index names yet.
#[derive(Default)]
struct Unnamed {
    packs: Vec<IndexedPack>,
    rows: Vec<(u32, BlockRow)>,
}

impl Unnamed {
    /// Takes packs back whose index could not be put.
    fn take_back(&mut self, other: Unnamed) {
        let first = self.packs.len() as u32;
        self.packs.extend(other.packs);
        self.rows.extend(other.rows.into_iter().map(|(number, row)| (first + number, row)));
    }
}

impl Uploads {
    fn put(&self) -> MutexGuard<'_, Put> {
        self.put.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn packs(&self) -> MutexGuard<'_, Option<mpsc::Receiver<FinishedPack>>> {
        self.packs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Option<FinishedPack> {
        self.packs().as_ref()?.recv().ok()
    }

    /// Puts packs until there are no more. Whoever ends last names what has no index, also when
    /// the backup is given up, or when there is no room for more: the next one goes on from there.
    fn run(&self, buffers: &mpsc::Sender<Vec<u8>>) -> Result<()> {
        let done = caught("an uploader", || self.put_all(buffers));
        if done.is_err() {
            *self.packs() = None;
        }
        let mut put = self.put();
        put.ended += 1;
        put.is_full |= done.as_ref().is_err_and(|e| e.kind() == ErrorKind::Full);
        let has_failed = self.packs().is_none();
        if put.ended < self.threads || has_failed && !put.is_full {
            return done;
        }
        let rest = std::mem::take(&mut put.unnamed);
        drop(put);
        // An index is small beside the pack that found no room; without it that is what is told.
        let named = self.put_index(&rest);
        if has_failed { done } else { named }
    }

    fn put_all(&self, buffers: &mpsc::Sender<Vec<u8>>) -> Result<()> {
        while let Some(pack) = self.next() {
            if let Some(full) = self.put_pack(&pack)? {
                let named = self.put_index(&full);
                if let Err(e) = named {
                    self.put().unnamed.take_back(full);
                    return Err(e);
                }
            }
            // Nobody may be left to use the buffer again.
            let _ = buffers.send(pack.bytes);
        }
        Ok(())
    }

    /// Puts a pack; returns those that an index is to name now.
    fn put_pack(&self, pack: &FinishedPack) -> Result<Option<Unnamed>> {
        let key = layout::pack(&pack.id)?;
        let backend = self.repository.store().backend();
        let size = pack.bytes.len() as u64;
        let put = backend.put(&key, &pack.bytes).and_then(|()| backend.stat(&key));
        let there = put.map_err(|e| {
            e.context(format!("cannot write pack {}", pack.id.short())).at(Origin::Repository)
        })?;
        if there != Some(size) {
            let message = format!("pack {} was written but is not there whole", pack.id.short());
            return Err(Error::new(ErrorKind::Io, message).at(Origin::Repository));
        }
        let indexed = IndexedPack { pack: pack.id, size, salt: pack.salt };
        self.repository.index().add_pending(&indexed, &pack.rows)?;
        self.repository.keep_tables(&pack.id, &pack.rows, &pack.bytes);
        let mut put = self.put();
        put.report.stored_bytes += size;
        let unnamed = &mut put.unnamed;
        let number = unnamed.packs.len() as u32;
        unnamed.packs.push(indexed);
        unnamed.rows.extend(pack.rows.iter().map(|row| (number, row.clone())));
        let is_full = unnamed.packs.len() >= INTERIM_INDEX_PACKS;
        Ok(is_full.then(|| std::mem::take(unnamed)))
    }

    fn put_index(&self, unnamed: &Unnamed) -> Result<()> {
        if unnamed.packs.is_empty() {
            return Ok(());
        }
        let rows: Vec<(u32, &BlockRow)> = unnamed.rows.iter().map(|(n, row)| (*n, row)).collect();
        let repository = &self.repository;
        let (id, bytes) = repository.index().put(
            repository.store(),
            repository.cache(),
            self.lease,
            &unnamed.packs,
            &rows,
        )?;
        let mut put = self.put();
        put.report.stored_bytes += bytes;
        put.report.indexes.push(id);
        Ok(())
    }
}
