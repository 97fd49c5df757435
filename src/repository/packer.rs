//! Gathers encoded blocks into packs and puts them, one thread behind the others.
//!
//! One pack is filled while one is being put: the channel between has no room, so at most two
//! packs are in memory. After every few packs an interim index names them, so that a backup that
//! dies can be gone on with.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::id::IndexId;
use crate::base::id::LeaseId;
use crate::base::limits::INTERIM_INDEX_PACKS;
use crate::format::pack::BlockRow;
use crate::format::pack::EncodedBlock;
use crate::format::pack::FinishedPack;
use crate::format::pack::PackBuilder;
use crate::format::pack_index::IndexedPack;
use crate::repository::Repository;
use crate::repository::layout;
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
    to_uploader: Option<mpsc::SyncSender<FinishedPack>>,
    buffers: mpsc::Receiver<Vec<u8>>,
    uploader: Option<JoinHandle<Result<PackedReport>>>,
}

impl Packer {
    /// Starts the thread that puts packs.
    ///
    /// # Errors
    /// `Io` when no thread can be started.
    pub fn start(repository: &Repository, lease: LeaseId) -> Result<Self> {
        let (to_uploader, packs) = mpsc::sync_channel(0);
        let (to_packer, buffers) = mpsc::channel();
        let uploader = Uploader {
            repository: repository.clone(),
            lease,
            packs: Vec::new(),
            rows: Vec::new(),
            report: PackedReport::default(),
        };
        let thread = std::thread::Builder::new()
            .name("upload".to_owned())
            .spawn(move || uploader.run(&packs, &to_packer))
            .map_err(|e| Error::io("cannot start a thread", e))?;
        Ok(Packer {
            repository: repository.clone(),
            builder: None,
            to_uploader: Some(to_uploader),
            buffers,
            uploader: Some(thread),
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
        if builder.size() >= self.repository.config().pack_bytes as usize {
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
        let sent = self.to_uploader.as_ref().map(|sender| sender.send(pack));
        match sent {
            Some(Ok(())) => Ok(()),
            // The uploader ends early only with an error, which is the one to report.
            _ => self.join().and(Err(Error::bug("the uploader ended early"))),
        }
    }

    fn join(&mut self) -> Result<PackedReport> {
        self.to_uploader = None;
        let Some(thread) = self.uploader.take() else {
            return Err(Error::new(ErrorKind::Io, "packs can no longer be written"));
        };
        thread.join().unwrap_or_else(|_| Err(Error::bug("the uploader panicked")))
    }

    /// Puts what is left, and the index that names it. With this all is durable.
    ///
    /// # Errors
    /// What failed while a pack or an index was put.
    pub fn finish(mut self) -> Result<PackedReport> {
        self.flush()?;
        self.repository.spare().clear();
        self.join()
    }
}

struct Uploader {
    repository: Repository,
    lease: LeaseId,
    packs: Vec<IndexedPack>,
    rows: Vec<(u32, BlockRow)>,
    report: PackedReport,
}

impl Uploader {
    fn run(
        mut self,
        packs: &mpsc::Receiver<FinishedPack>,
        buffers: &mpsc::Sender<Vec<u8>>,
    ) -> Result<PackedReport> {
        while let Ok(pack) = packs.recv() {
            self.put(&pack)?;
            // Nobody may be left to use the buffer again.
            let _ = buffers.send(pack.bytes);
            if self.packs.len() >= INTERIM_INDEX_PACKS {
                self.put_index()?;
            }
        }
        self.put_index()?;
        Ok(self.report)
    }

    fn put(&mut self, pack: &FinishedPack) -> Result<()> {
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
        let number = self.packs.len() as u32;
        self.packs.push(indexed);
        self.rows.extend(pack.rows.iter().map(|row| (number, row.clone())));
        self.report.stored_bytes += size;
        Ok(())
    }

    fn put_index(&mut self) -> Result<()> {
        if self.packs.is_empty() {
            return Ok(());
        }
        let rows: Vec<(u32, &BlockRow)> = self.rows.iter().map(|(n, row)| (*n, row)).collect();
        let repository = &self.repository;
        let (id, bytes) = repository.index().put(
            repository.store(),
            repository.cache(),
            self.lease,
            &self.packs,
            &rows,
        )?;
        self.report.stored_bytes += bytes;
        self.report.indexes.push(id);
        self.packs.clear();
        self.rows.clear();
        Ok(())
    }
}
