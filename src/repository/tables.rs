//! Tables of packs that are kept on this machine, for those who write to a store far away.
//!
//! A file that changed is compared with what it was before, which asks for the table of each block
//! that it was in: for nearly as many tables as files changed, and each is a round trip. The tables
//! of a pack stand together and never change. So they are kept as they are stored when a pack is
//! put or its names are learned, and else are read all at once, those of several packs at a time.
//!
//! What is kept says what stands where in the pack of that name, never that the pack is there. A
//! table verifies itself, by the id of its block; a file that lies costs a request. Who reads for a
//! restore or a check looks into the repository itself.

use crate::base::error::Result;
use crate::base::id::BlockId;
use crate::base::id::PackId;
use crate::base::limits::KEPT_TABLES_BYTES_MAX;
use crate::base::limits::STORED_TABLES_BYTES_MAX;
use crate::codec::crypt::Part;
use crate::format::block::Table;
use crate::format::pack::BlockRow;
use crate::repository::Repository;
use crate::repository::ahead;
use crate::repository::index::Location;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

/// Folder of the cache.
const FOLDER: &str = "tables";
/// Bytes behind the tables: where in the pack they begin, and the checksum of the cache.
const TAIL_BYTES: u64 = 4 + 32;
/// What the smallest file takes on a disk.
const FILE_BYTES_MIN: u64 = 4096;
/// Locks on packs, so that each is fetched by one thread while others fetch others.
const SHARDS: usize = 256;

/// What became of the tables of a pack in this run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Looked {
    /// There is a file that an earlier run has kept.
    Found,
    /// They were fetched or put just now; they are not fetched again, whatever came of it.
    Fetched,
}

/// What a run knows of the tables that are kept.
pub(crate) struct KeptTables {
    looked: Vec<Mutex<HashMap<PackId, Looked>>>,
    /// Bytes added since the folder was last looked through.
    added: AtomicU64,
}

impl Default for KeptTables {
    fn default() -> Self {
        let looked = (0..SHARDS).map(|_| Mutex::default()).collect();
        KeptTables { looked, added: AtomicU64::new(0) }
    }
}

impl KeptTables {
    fn shard(&self, pack: &PackId) -> MutexGuard<'_, HashMap<PackId, Looked>> {
        let shard = &self.looked[usize::from(pack.as_bytes()[0]) % SHARDS];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn file_name(pack: &PackId) -> String {
    format!("{FOLDER}/{pack}")
}

/// Returns where in their pack the tables of rows stand, where it is not too much to read at once.
fn stretch<'a>(rows: impl Iterator<Item = &'a BlockRow>) -> Option<Range<u32>> {
    let ends = rows.map(|row| (row.table_offset, row.table_offset.checked_add(row.table_length)));
    let joined = ends.reduce(|(start, end), (other_start, other_end)| {
        (start.min(other_start), end.zip(other_end).map(|(a, b)| a.max(b)))
    });
    let (start, end) = joined?;
    Some(start..end?).filter(is_bearable)
}

fn is_bearable(stretch: &Range<u32>) -> bool {
    stretch.len() <= STORED_TABLES_BYTES_MAX
}

impl Repository {
    /// Says whether each answer of the store is long in coming.
    pub(crate) fn is_far(&self) -> bool {
        self.store().backend().capabilities().ahead() > 1
    }

    /// Returns the table of a block for a writer, who leans on a place of it only when it is
    /// pinned or its pack is there. Without a round trip where it is kept.
    ///
    /// # Errors
    /// Those of [`Repository::table`].
    pub fn table_at_hand(&self, block: &BlockId) -> Result<Arc<Table>> {
        if self.is_far()
            && !self.has_table(block)
            && let Some(location) = self.locate_block(block)?.first()
            && let Some(table) = self.kept_or_fetched(location)
        {
            self.remember_table(*block, &table);
            return Ok(table);
        }
        self.table(block)
    }

    /// Sees to it that the tables of these blocks are at hand, by one request for each pack and
    /// several at a time. What cannot be read is for whoever asks for it.
    pub fn bring_tables<'a>(&self, blocks: impl Iterator<Item = &'a BlockId>) {
        if !self.is_far() {
            return;
        }
        let unknown = blocks.filter(|block| !self.has_table(block));
        let located = unknown.filter_map(|block| self.locate_block(block).ok()?.first().cloned());
        let packs: BTreeSet<PackId> = located.map(|location| location.pack.pack).collect();
        let is_new = |pack: &PackId| !self.tables_kept().shard(pack).contains_key(pack);
        let packs: Vec<PackId> = packs.into_iter().filter(is_new).collect();
        // Nobody is told of errors here, and a store that is gone is not asked for the rest.
        let _ = ahead::map(self.store(), &packs, &|pack| self.look(pack, false));
    }

    /// Returns the tables of copies that stand in one pack; None for one that is not what its row
    /// says. None at all when they are too much to keep, or cannot be kept.
    pub(super) fn kept_tables(&self, copies: &[Location]) -> Option<Vec<Option<Arc<Table>>>> {
        let pack = copies.first()?.pack.pack;
        let read = || {
            let kept = Kept::open(self, &pack)?;
            Some(copies.iter().map(|copy| kept.table(self, copy)).collect::<Vec<_>>())
        };
        self.look(&pack, false).ok()?;
        let tables = read()?;
        if tables.iter().all(Option::is_some) {
            return Some(tables);
        }
        self.look(&pack, true).ok()?;
        read()
    }

    fn kept_or_fetched(&self, location: &Location) -> Option<Arc<Table>> {
        let pack = &location.pack.pack;
        let read = || Kept::open(self, pack).and_then(|kept| kept.table(self, location));
        for is_suspect in [false, true] {
            self.look(pack, is_suspect).ok()?;
            if let Some(table) = read() {
                return Some(table);
            }
        }
        None
    }

    /// Fetches the tables of a pack, once in a run, unless they are kept; though they are, when
    /// what is kept `is_suspect`.
    fn look(&self, pack: &PackId, is_suspect: bool) -> Result<()> {
        // Who wants the same pack waits for it to come.
        let mut looked = self.tables_kept().shard(pack);
        let is_enough = match looked.get(pack) {
            Some(Looked::Fetched) => return Ok(()),
            Some(Looked::Found) => !is_suspect,
            None => !is_suspect && self.cache().path(&file_name(pack)).exists(),
        };
        looked.insert(*pack, if is_enough { Looked::Found } else { Looked::Fetched });
        if is_enough {
            return Ok(());
        }
        let Some(stretch) = self.index().tables_of(pack).filter(is_bearable) else {
            return Ok(());
        };
        let length = stretch.end - stretch.start;
        let bytes = self.read_range(pack, stretch.start, length)?;
        self.keep(pack, stretch.start, bytes);
        Ok(())
    }

    /// Keeps the tables of a pack that was just put.
    pub(super) fn keep_tables(&self, pack: &PackId, rows: &[BlockRow], bytes: &[u8]) {
        if !self.is_far() {
            return;
        }
        let Some(stretch) = stretch(rows.iter()) else { return };
        if let Some(tables) = bytes.get(stretch.start as usize..stretch.end as usize) {
            self.keep(pack, stretch.start, tables.to_vec());
            self.tables_kept().shard(pack).insert(*pack, Looked::Fetched);
        }
    }

    fn keep(&self, pack: &PackId, start: u32, mut tables: Vec<u8>) {
        tables.extend_from_slice(&start.to_le_bytes());
        self.cache().write(&file_name(pack), &tables);
        let weight = weight(tables.len() as u64);
        let added = self.tables_kept().added.fetch_add(weight, Ordering::Relaxed) + weight;
        if added >= KEPT_TABLES_BYTES_MAX / 8 {
            self.sweep_tables(KEPT_TABLES_BYTES_MAX);
        }
    }

    /// Removes what was kept longest once all of it is more than `bytes_max`: an eighth more than
    /// needs be, so that it is not at once too much again. Nothing happens where none was added.
    pub(super) fn sweep_tables(&self, bytes_max: u64) {
        if self.tables_kept().added.swap(0, Ordering::Relaxed) == 0 {
            return;
        }
        let look = |name: String| {
            let name = format!("{FOLDER}/{name}");
            let metadata = self.cache().path(&name).metadata().ok()?;
            let written = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            Some((written, weight(metadata.len()), name))
        };
        let mut files: Vec<_> = self.cache().list(FOLDER).into_iter().filter_map(look).collect();
        let mut total: u64 = files.iter().map(|(_, weight, _)| *weight).sum();
        if total <= bytes_max {
            return;
        }
        files.sort_unstable();
        for (_, weight, name) in files {
            if total <= bytes_max - bytes_max / 8 {
                break;
            }
            self.cache().remove(&name);
            total -= weight;
        }
    }
}

fn weight(length: u64) -> u64 {
    length.next_multiple_of(FILE_BYTES_MIN).max(FILE_BYTES_MIN)
}

/// The file with the tables of a pack. It is not verified, as each table is.
struct Kept {
    file: File,
    start: u32,
}

impl Kept {
    fn open(repository: &Repository, pack: &PackId) -> Option<Self> {
        let file = File::open(repository.cache().path(&file_name(pack))).ok()?;
        let length = file.metadata().ok()?.len().checked_sub(TAIL_BYTES)?;
        let mut start = [0; 4];
        file.read_exact_at(&mut start, length).ok()?;
        Some(Kept { file, start: u32::from_le_bytes(start) })
    }

    fn table(&self, repository: &Repository, location: &Location) -> Option<Arc<Table>> {
        let row = &location.row;
        let from = row.table_offset.checked_sub(self.start)?;
        let mut sealed = vec![0; row.table_length as usize];
        self.file.read_exact_at(&mut sealed, from.into()).ok()?;
        let cipher = repository.pack_cipher(location).ok()?;
        let plain = cipher.open(Part::Table, row.number, &mut sealed).ok()?;
        Table::decode(plain, &row.block).ok().map(Arc::new)
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
    use crate::base::time::Timestamp;
    use crate::repository::cache::CachePlace;
    use crate::repository::open;
    use crate::repository::open::CreateOptions;
    use std::time::Duration;

    struct FarAway;

    impl Around for FarAway {
        fn run<T: Outcome>(&self, _: Call<'_>, work: &dyn Fn() -> Result<T>) -> Result<T> {
            work()
        }

        fn capabilities(&self, inner: Capabilities) -> Capabilities {
            Capabilities { uploads: 4, parallel: 4, ..inner }
        }
    }

    #[test]
    fn what_is_kept_longest_goes_and_no_more_than_must() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = CachePlace::Kept(folder.path().into());
        let backend: Arc<dyn Backend> =
            Arc::new(Wrapper::around(Arc::new(MemoryBackend::new()), FarAway));
        let now = Timestamp::new(1_800_000_000, 0);
        let repository =
            open::create(backend, &CreateOptions::default(), &place, now).expect("created");
        let path = |n: u8| repository.cache().path(&file_name(&PackId::new([n; 32])));
        for n in 0..16_u8 {
            repository.keep(&PackId::new([n; 32]), 100, vec![n; 8_000]);
            let written = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 - u64::from(n));
            let file = File::options().write(true).open(path(n)).expect("kept");
            file.set_modified(written).expect("set");
        }
        let kept = || (0..16).filter(|n| path(*n).exists()).collect::<Vec<u8>>();

        // Two pages of a disk each: 128 KiB in all.
        repository.sweep_tables(16 * 8192);
        assert_eq!(kept().len(), 16);
        // Nothing was added since.
        repository.sweep_tables(0);
        assert_eq!(kept().len(), 16);
        repository.keep(&PackId::new([0; 32]), 100, vec![0; 8_000]);
        repository.sweep_tables(8 * 8192);

        // The later ones were made the older ones.
        assert_eq!(kept(), (0..7).collect::<Vec<u8>>());
    }
}
