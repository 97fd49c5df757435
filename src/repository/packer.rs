//! Gathers encoded blocks into packs and puts them, on threads of their own.
//!
//! One pack is filled while others are being put, as many as the backend makes use of: the
//! channel between has no room, so one pack more than that is in memory at most. After every few
//! packs an interim index names them, so that a backup that dies can be gone on with.

use crate::backend::Durability;
use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::id::IndexId;
use crate::base::id::LeaseId;
use crate::base::id::PackId;
use crate::base::limits::CUT_SECONDS_MIN;
use crate::base::limits::INTERIM_INDEX_PACKS;
use crate::base::panic::caught;
use crate::base::time::Stopwatch;
use crate::format::pack::BlockRow;
use crate::format::pack::EncodedBlock;
use crate::format::pack::FinishedPack;
use crate::format::pack::PackBuilder;
use crate::format::pack_index::IndexedPack;
use crate::repository::Repository;
use crate::repository::layout;
use crate::repository::stock;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::mpsc;
use std::thread::JoinHandle;

/// Of more packs a listing is asked for than each is looked for: it takes one request for each of
/// their 256 folders.
const LOOKED_FOR_MAX: usize = 256;

fn at_repository(error: Error) -> Error {
    error.at(Origin::Repository)
}

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
        Packer::start_with(repository, lease, CUT_SECONDS_MIN)
    }

    fn start_with(repository: &Repository, lease: LeaseId, cut_seconds: u64) -> Result<Self> {
        let (to_uploaders, packs) = mpsc::sync_channel(0);
        let (to_packer, buffers) = mpsc::channel();
        let capabilities = repository.store().backend().capabilities();
        let threads = capabilities.uploads.max(1);
        let uploads = Arc::new(Uploads {
            repository: repository.clone(),
            lease,
            threads,
            is_at_risk: capabilities.durability != Durability::Whole,
            started: Stopwatch::start(),
            cut_seconds,
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
        if self.uploads.is_at_risk {
            self.uploads.look_again()?;
        }
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
    /// Whether a power cut of the store may take back what was put.
    is_at_risk: bool,
    started: Stopwatch,
    /// How old what was put has to be to be looked for again.
    cut_seconds: u64,
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
    /// Where a power cut of the store may take it back: what was put, with its size, and when.
    at_risk: Vec<AtRisk>,
}

struct AtRisk {
    pack: PackId,
    size: u64,
    /// When it was put, in seconds since the packer started.
    seconds: u64,
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
        if self.is_at_risk {
            let seconds = self.started.elapsed().as_secs();
            put.at_risk.push(AtRisk { pack: pack.id, size, seconds });
        }
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

    /// Looks whether what was put a while ago is still there, where the store's machine may have
    /// lost power since, and its clients just connected anew.
    fn look_again(&self) -> Result<()> {
        let mut at_risk = std::mem::take(&mut self.put().at_risk);
        let now = self.started.elapsed().as_secs();
        at_risk.retain(|it| it.seconds.saturating_add(self.cut_seconds) <= now);
        let store = self.repository.store();
        let listed = match at_risk.len() > LOOKED_FOR_MAX {
            true => Some(stock::packs(store)?),
            false => None,
        };
        for AtRisk { pack, size, .. } in at_risk {
            let there = match &listed {
                Some(listed) => listed.get(&pack).copied(),
                None => store.backend().stat(&layout::pack(&pack)?).map_err(at_repository)?,
            };
            if there != Some(size) {
                let message = format!("pack {} was written and is gone", pack.short());
                let hint = "its server may have lost power; run this again";
                return Err(Error::new(ErrorKind::Io, message).hint(hint).at(Origin::Repository));
            }
        }
        for id in &self.put().report.indexes {
            let there = store.backend().stat(&layout::index(id)?).map_err(at_repository)?;
            if there.is_none() {
                let message = format!("pack index {id} was written and is gone");
                let hint = "its server may have lost power; run this again";
                return Err(Error::new(ErrorKind::Io, message).hint(hint).at(Origin::Repository));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Backend;
    use crate::backend::Capabilities;
    use crate::backend::memory::MemoryBackend;
    use crate::backend::wrap::Around;
    use crate::backend::wrap::Call;
    use crate::backend::wrap::Outcome;
    use crate::backend::wrap::Wrapper;
    use crate::base::id::BlobId;
    use crate::base::id::BlockId;
    use crate::base::time::Timestamp;
    use crate::format::block::Row;
    use crate::format::block::Table;
    use crate::repository::cache::CachePlace;
    use crate::repository::open;
    use crate::repository::open::CreateOptions;

    /// A store on a machine that may lose power.
    struct AtRiskOf(Durability);

    impl Around for AtRiskOf {
        fn run<T: Outcome>(&self, _: Call<'_>, work: &dyn Fn() -> Result<T>) -> Result<T> {
            work()
        }

        fn capabilities(&self, inner: Capabilities) -> Capabilities {
            Capabilities { durability: self.0, ..inner }
        }
    }

    fn block(n: u32) -> EncodedBlock {
        let blob = BlobId::new(crate::base::hash::hash(&n.to_le_bytes()));
        let table = Table::new(&[Row { blob, length: 4 }]);
        EncodedBlock {
            id: BlockId::new(crate::base::hash::hash(blob.as_bytes())),
            table,
            stored: vec![0, 1, 2, 3, 4],
            class: 0,
        }
    }

    /// Puts packs, takes some away, and says how it ends.
    fn cut(durability: Durability, packs: u32, takes: &str, cut_seconds: u64) -> Result<()> {
        let memory = Arc::new(MemoryBackend::new());
        let inner = Arc::clone(&memory) as Arc<dyn Backend>;
        let backend = Arc::new(Wrapper::around(inner, AtRiskOf(durability)));
        let place = tempfile::tempdir().expect("a folder");
        let options = CreateOptions::default();
        let cache = CachePlace::Kept(place.path().to_owned());
        let repository = open::create(backend, &options, &cache, Timestamp::new(1, 0))?;
        let lease = LeaseId::new([1; 16]);
        let mut packer = Packer::start_with(&repository, lease, cut_seconds)?;
        (0..packs).try_for_each(|n| packer.add(block(n)).and_then(|()| packer.flush()))?;
        packer.join()?;
        let keys = memory.objects().into_keys();
        let taken = keys.filter(|key| key.as_str().starts_with(takes)).take(1);
        taken.for_each(|key| assert!(memory.remove_raw(&key)));
        packer.uploads.look_again()
    }

    #[test]
    fn what_a_power_cut_took_back_meanwhile_is_noticed() {
        for durability in [Durability::Nothing, Durability::Content] {
            for packs in [3, LOOKED_FOR_MAX as u32 + 1] {
                for takes in ["packs/", "index/"] {
                    let error = cut(durability, packs, takes, 0).expect_err("something is gone");
                    assert!(error.full_message().contains("is gone"), "{error:?}");
                }
                cut(durability, packs, "nothing", 0).expect("all is there");
                cut(durability, packs, "packs/", 3_600).expect("it was put just now");
            }
        }
        cut(Durability::Whole, 3, "packs/", 0).expect("nobody looks");
    }
}
