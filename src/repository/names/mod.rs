//! The name index: blob name to block and place. A local cache made from tables, needed only
//! where something may be new, never to read.
//!
//! Rows of the run so far are in memory, sharded by name; when there are too many they go to a
//! sorted segment file ([`segment`]). A row in a file holds eight bytes of the name, so a hit is
//! only a candidate: the caller confirms it with the block's table. Blocks are numbered locally
//! ([`numbers`]), as a number is a quarter of an id.
//!
//! One process at a time adds to the kept index of a repository; another one that runs beside it
//! reads what is there and keeps its own rows for itself.

pub mod filter;
pub mod numbers;
pub mod segment;

use crate::base::error::Result;
use crate::base::id::BlobId;
use crate::base::id::BlockId;
use crate::base::id::IndexId;
use crate::base::id::to_hex;
use crate::base::limits::NAMES_MEMORY_ROWS;
use crate::base::sys;
use crate::codec::serial;
use crate::format::block::SHORT_NAME_BYTES;
use crate::repository::cache::Cache;
use crate::repository::names::numbers::BlockNumbers;
use crate::repository::names::segment::Segment;
use serde::Deserialize;
use serde::Serialize;
use std::collections::HashMap;
use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::RwLock;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

const SHARDS: usize = 64;
/// So many segments of about one size are merged into one.
const MERGE_FAN: usize = 8;

/// Where a blob is, in local numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamePlace {
    /// Local number of the block.
    pub number: u32,
    /// Place in its table.
    pub place: u32,
}

#[derive(Default, Serialize, Deserialize)]
struct StateV1 {
    /// Blocks numbered so far.
    blocks: u32,
    segments: Vec<String>,
    /// Index objects whose tables are in the segments.
    absorbed: Vec<IndexId>,
}

/// The name index of one repository, open for one run.
pub struct NameIndex {
    shards: Vec<Mutex<HashMap<BlobId, NamePlace>>>,
    rows: AtomicUsize,
    segments: RwLock<Vec<Segment>>,
    numbers: BlockNumbers,
    absorbed: Mutex<HashSet<IndexId>>,
    /// Held while this process is the one that adds to the kept index.
    lock: Option<File>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl NameIndex {
    /// Opens the name index in a cache. What is damaged there is left out; it comes back from
    /// the repository.
    ///
    /// # Errors
    /// When the cache folder cannot be written at all.
    pub fn open(cache: &Cache) -> Result<Self> {
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(cache.path("names/lock"))
            .ok()
            .filter(|file| file.try_lock().is_ok());
        let state = cache.read("names/state").and_then(|b| serial::decode(&b, "names").ok());
        let mut state: StateV1 = state.unwrap_or_default();
        let segments: Option<Vec<Segment>> =
            state.segments.iter().map(|name| Segment::open(cache, name)).collect();
        let numbers = BlockNumbers::open(cache, state.blocks, lock.is_some());
        let (segments, numbers) = match (segments, numbers) {
            (Some(segments), Some(numbers)) => (segments, numbers),
            _ => {
                state = StateV1::default();
                (Vec::new(), BlockNumbers::create(cache, lock.is_some())?)
            }
        };
        if lock.is_some() {
            remove_strangers(cache, &segments);
        }
        Ok(NameIndex {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            rows: AtomicUsize::new(0),
            segments: RwLock::new(segments),
            numbers,
            absorbed: Mutex::new(state.absorbed.into_iter().collect()),
            lock,
        })
    }

    fn shard(&self, blob: &BlobId) -> &Mutex<HashMap<BlobId, NamePlace>> {
        &self.shards[usize::from(blob.as_bytes()[SHORT_NAME_BYTES - 1]) % SHARDS]
    }

    /// Returns where this run put a blob, or will have put it.
    pub fn find_recent(&self, blob: &BlobId) -> Option<NamePlace> {
        lock(self.shard(blob)).get(blob).copied()
    }

    /// Claims a blob for `place` unless somebody did; then returns theirs.
    pub fn claim(&self, blob: &BlobId, place: NamePlace) -> Option<NamePlace> {
        let mut shard = lock(self.shard(blob));
        if let Some(&theirs) = shard.get(blob) {
            return Some(theirs);
        }
        shard.insert(*blob, place);
        self.rows.fetch_add(1, Ordering::Relaxed);
        None
    }

    /// Returns candidates from the files: blocks whose table may hold the blob, with the local
    /// number and the place.
    pub fn find_kept(&self, blob: &BlobId) -> Vec<(NamePlace, BlockId)> {
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        let mut found = Vec::new();
        for segment in segments.iter().rev() {
            for at in segment.find(blob) {
                if let Some(block) = self.numbers.block(at.number) {
                    found.push((at, block));
                }
            }
        }
        found
    }

    /// Returns how many numbers are in use.
    pub fn count(&self) -> u32 {
        self.numbers.count()
    }

    /// Returns a number for a block that is being filled.
    pub fn allocate(&self) -> u32 {
        self.numbers.allocate()
    }

    /// Says which block a number stands for, once it is known.
    ///
    /// # Errors
    /// When the cache cannot be written.
    pub fn settle(&self, number: u32, block: &BlockId) -> Result<()> {
        self.numbers.settle(number, block)
    }

    /// Returns the block of a number, or None while it is not settled.
    pub fn block(&self, number: u32) -> Option<BlockId> {
        self.numbers.block(number)
    }

    /// Says whether the tables of an index object are in here.
    pub fn has_absorbed(&self, id: &IndexId) -> bool {
        lock(&self.absorbed).contains(id)
    }

    /// Says that the tables of an index object are in here now.
    pub fn absorbed(&self, id: IndexId) {
        lock(&self.absorbed).insert(id);
    }

    /// Forgets that objects are in here which are there no more: each prune replaces some, and the
    /// list of them is read and written by each run.
    pub fn keep_absorbed(&self, there: &[IndexId]) {
        let there: HashSet<&IndexId> = there.iter().collect();
        lock(&self.absorbed).retain(|id| there.contains(id));
    }

    /// Adds rows of tables that were read from the repository; their blocks are settled.
    ///
    /// # Errors
    /// When the cache cannot be written.
    pub fn learn(&self, cache: &Cache, mut rows: Vec<(BlobId, NamePlace)>) -> Result<()> {
        rows.sort_unstable_by_key(|row| row.0);
        self.add_segment(cache, &rows)
    }

    fn add_segment(&self, cache: &Cache, sorted: &[(BlobId, NamePlace)]) -> Result<()> {
        if sorted.is_empty() {
            return Ok(());
        }
        let segment = Segment::write(cache, &fresh_name()?, sorted.iter().copied())?;
        let mut segments = self.segments.write().unwrap_or_else(PoisonError::into_inner);
        segments.push(segment);
        merge(cache, &mut segments)
    }

    /// Writes the rows in memory to a segment once there are many.
    ///
    /// # Errors
    /// When the cache cannot be written.
    pub fn relieve(&self, cache: &Cache) -> Result<()> {
        if self.rows.load(Ordering::Relaxed) < NAMES_MEMORY_ROWS {
            return Ok(());
        }
        self.flush(cache)
    }

    /// Moves settled rows from memory to a segment. Rows of a block still being filled stay.
    fn flush(&self, cache: &Cache) -> Result<()> {
        let mut rows: Vec<(BlobId, NamePlace)> = Vec::new();
        for shard in &self.shards {
            let shard = lock(shard);
            rows.extend(
                shard
                    .iter()
                    .filter(|(_, at)| self.numbers.block(at.number).is_some())
                    .map(|(blob, at)| (*blob, *at)),
            );
        }
        rows.sort_unstable_by_key(|row| row.0);
        // The segment is in use before the rows leave memory, so no look-up misses them.
        self.add_segment(cache, &rows)?;
        for (blob, _) in &rows {
            lock(self.shard(blob)).remove(blob);
        }
        self.rows.fetch_sub(rows.len(), Ordering::Relaxed);
        Ok(())
    }

    /// Keeps what this run learned for the next one.
    ///
    /// # Errors
    /// When the cache cannot be written; nothing but time is lost then.
    pub fn save(&self, cache: &Cache) -> Result<()> {
        if self.lock.is_none() {
            return Ok(());
        }
        self.flush(cache)?;
        let mut segments = self.segments.write().unwrap_or_else(PoisonError::into_inner);
        segments.iter_mut().for_each(|segment| segment.add_filter(cache));
        let mut absorbed: Vec<IndexId> = lock(&self.absorbed).iter().copied().collect();
        absorbed.sort_unstable();
        self.numbers.fill_up()?;
        let state = StateV1 {
            blocks: self.numbers.count(),
            segments: segments.iter().map(|segment| segment.name().to_owned()).collect(),
            absorbed,
        };
        cache.write("names/state", &serial::encode(&state)?);
        remove_strangers(cache, &segments);
        Ok(())
    }
}

fn fresh_name() -> Result<String> {
    let unique: [u8; 8] = sys::random()?;
    Ok(format!("names/segment-{}", to_hex(&unique)))
}

/// Merges the newest segments while there are many of about one size.
fn merge(cache: &Cache, segments: &mut Vec<Segment>) -> Result<()> {
    loop {
        let class = |segment: &Segment| segment.rows().max(1).ilog2() / MERGE_FAN.ilog2();
        let Some(last) = segments.last() else { return Ok(()) };
        let alike = segments.iter().rev().take_while(|s| class(s) <= class(last)).count();
        if alike < MERGE_FAN {
            return Ok(());
        }
        let newest = segments.split_off(segments.len() - alike);
        segments.push(Segment::merge(cache, &fresh_name()?, &newest)?);
    }
}

/// Removes segment files that no state names: left by a run that died, or merged away.
fn remove_strangers(cache: &Cache, segments: &[Segment]) {
    for file in cache.list("names") {
        let name = format!("names/{file}");
        let is_known = segments
            .iter()
            .any(|segment| name == segment.name() || name == filter::file_name(segment.name()));
        if file.starts_with("segment-") && !is_known {
            cache.remove(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::hash;
    use crate::base::id::RepositoryId;
    use crate::repository::cache::CachePlace;

    fn blob(n: u32) -> BlobId {
        BlobId::new(hash::hash(&n.to_le_bytes()))
    }

    fn cache(folder: &std::path::Path) -> Cache {
        let kept = CachePlace::Kept(folder.into());
        Cache::open(&kept, &RepositoryId::new([1; 16])).expect("opens")
    }

    fn fill(names: &NameIndex, cache: &Cache, range: std::ops::Range<u32>) {
        for n in range {
            if n % 1000 == 0 {
                let number = names.allocate();
                names.settle(number, &BlockId::new([number as u8 + 1; 32])).expect("settles");
            }
            let number = n / 1000;
            assert_eq!(names.claim(&blob(n), NamePlace { number, place: n % 1000 }), None);
            names.relieve(cache).expect("relieves");
        }
    }

    #[test]
    fn names_are_found_again_in_the_next_run() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = cache(folder.path());
        let names = NameIndex::open(&cache).expect("opens");
        fill(&names, &cache, 0..150_000);
        names.save(&cache).expect("saves");
        drop(names);
        let names = NameIndex::open(&cache).expect("opens");
        for n in (0..150_000).step_by(777) {
            let at = NamePlace { number: n / 1000, place: n % 1000 };
            let block = BlockId::new([(n / 1000) as u8 + 1; 32]);
            assert_eq!(names.find_kept(&blob(n)), [(at, block)], "{n}");
        }
        assert!(names.find_kept(&blob(999_999_999)).is_empty());
    }

    /// All of it was thrown away, and read from the repository again.
    #[test]
    fn names_stay_though_a_block_was_begun_that_was_never_written() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = cache(folder.path());
        let names = NameIndex::open(&cache).expect("opens");
        fill(&names, &cache, 0..3_000);
        let (begun, other) = (names.allocate(), names.allocate());
        names.save(&cache).expect("saves");
        drop(names);

        let names = NameIndex::open(&cache).expect("opens");

        assert_eq!(names.find_kept(&blob(2_500)).len(), 1);
        assert!(names.block(begun).is_none() && names.block(other).is_none());
        assert_eq!(names.allocate(), other + 1);
    }

    #[test]
    fn a_second_process_reads_what_is_kept_and_disturbs_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = cache(folder.path());
        let first = NameIndex::open(&cache).expect("opens");
        fill(&first, &cache, 0..2_000);
        first.save(&cache).expect("saves");
        let second = NameIndex::open(&cache).expect("opens beside it");
        assert_eq!(second.find_kept(&blob(1_500)).len(), 1);
        let number = second.allocate();
        second.settle(number, &BlockId::new([99; 32])).expect("settles");
        second.save(&cache).expect("does nothing");
        let number = first.allocate();
        first.settle(number, &BlockId::new([2; 32])).expect("settles");
        assert_eq!(first.block(number), Some(BlockId::new([2; 32])));
    }

    #[test]
    fn random_bytes_in_the_cache_are_no_trouble() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = cache(folder.path());
        let names = NameIndex::open(&cache).expect("opens");
        fill(&names, &cache, 0..3_000);
        names.save(&cache).expect("saves");
        drop(names);
        for file in cache.list("names") {
            let path = cache.path(&format!("names/{file}"));
            // With a damaged state the index begins anew and removes what no state names.
            let Ok(kept) = std::fs::read(&path) else { continue };
            std::fs::write(&path, vec![0xa5; kept.len()]).expect("write");
            let names = NameIndex::open(&cache).expect("opens");
            let _ = names.find_kept(&blob(5));
            drop(names);
            std::fs::write(&path, kept).expect("write");
        }
    }

    #[test]
    fn a_filter_that_is_lost_or_damaged_is_done_without_and_made_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = cache(folder.path());
        let names = NameIndex::open(&cache).expect("opens");
        fill(&names, &cache, 0..5_000);
        names.save(&cache).expect("saves");
        drop(names);
        let filters = || {
            let files = cache.list("names").into_iter();
            files.filter(|file| file.ends_with(".filter")).collect::<Vec<_>>()
        };
        let [filter] = &filters()[..] else { panic!("one filter, not {:?}", filters()) };
        let path = cache.path(&format!("names/{filter}"));
        let sound = std::fs::read(&path).expect("read");
        for damaged in [None, Some(Vec::new()), Some(sound[1..].to_vec())] {
            match damaged {
                Some(bytes) => std::fs::write(&path, bytes).expect("write"),
                None => std::fs::remove_file(&path).expect("remove"),
            }
            let names = NameIndex::open(&cache).expect("opens");
            for n in 0..5_000 {
                let at = NamePlace { number: n / 1000, place: n % 1000 };
                assert_eq!(names.find_kept(&blob(n)).first().map(|found| found.0), Some(at));
            }
            names.save(&cache).expect("saves");
            assert_eq!(std::fs::read(&path).expect("read"), sound);
        }
        let at = |number, place| NamePlace { number, place };
        // Merged segments take their filters with them.
        let names = NameIndex::open(&cache).expect("opens");
        for n in 1..9 {
            let rows = (n * 70_000..(n + 1) * 70_000).map(|n| (blob(n), at(4, 0))).collect();
            names.learn(&cache, rows).expect("learns");
        }
        names.save(&cache).expect("saves");
        let segments = names.segments.read().expect("segments").len();
        assert_eq!((filters().len(), cache.list("names").len()), (segments, 2 * segments + 3));
    }
}
