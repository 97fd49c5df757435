//! The pack index in use: which pack and offset hold a block.
//!
//! Every index object of the repository is one segment, kept as a mapped file in the cache (it
//! is immutable, so once fetched it is never fetched again; which ones count is asked of the
//! repository each run). Look-ups ask the newest first. The index is a hint: what it says is
//! there is confirmed by reading it, or before a writer leans on it, by a stat.

use crate::backend::ObjectInfo;
use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::id::BlockId;
use crate::base::id::IndexId;
use crate::base::id::LeaseId;
use crate::base::id::PackId;
use crate::base::limits::BLOCK_COPIES_MAX;
use crate::base::limits::INDEX_BYTES_MAX;
use crate::base::limits::INDEX_EXPANSION_MAX;
use crate::base::limits::INDEX_LOOKS_MAX;
use crate::base::limits::MIB;
use crate::base::mapped::Mapped;
use crate::base::sys;
use crate::codec::frame::ObjectKind;
use crate::format::pack::BlockRow;
use crate::format::pack_index;
use crate::format::pack_index::IndexTable;
use crate::format::pack_index::IndexedPack;
use crate::repository::ahead;
use crate::repository::cache::Cache;
use crate::repository::index::stretches::TableStretches;
use crate::repository::layout;
use crate::repository::store::Store;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::OnceLock;
use std::sync::PoisonError;
use std::sync::RwLock;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

mod stretches;
mod view;

pub use view::IndexView;

type Segment = IndexTable<Slice>;
type Segments = BTreeMap<IndexId, Arc<Segment>>;

/// So many segments are always asked one after the other.
const SEGMENTS_FEW: usize = 8;

/// Folders that index objects lie in: one server lists 10 000 names of each, and with so many
/// objects it is high time for a prune.
const INDEX_FOLDERS: u8 = 4;
/// Objects up to this size are loaded several at a time.
const EARLY_BYTES_MAX: u64 = 4 * MIB as u64;

/// The plain bytes of one index object.
#[derive(Debug)]
pub struct Slice {
    bytes: Mapped,
    length: usize,
}

impl std::ops::Deref for Slice {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// One copy of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// The pack.
    pub pack: IndexedPack,
    /// Where in the pack.
    pub row: BlockRow,
}

/// The objects in use.
#[derive(Default)]
struct Loaded {
    segments: Segments,
    rows: usize,
    /// How many blocks were looked for in all segments, one after the other.
    looks: AtomicUsize,
    /// All rows in one order, made when the looks have cost as much as making it.
    view: OnceLock<IndexView>,
    /// Made when a writer far away first asks for the tables of a whole pack.
    stretches: OnceLock<TableStretches>,
}

impl Loaded {
    fn new(segments: Segments) -> Self {
        let rows = segments.values().map(|segment| segment.len()).sum();
        Loaded { segments, rows, ..Loaded::default() }
    }

    /// Returns copies of a block.
    fn find(&self, block: &BlockId) -> Vec<Location> {
        let looks = self.looks.fetch_add(1, Ordering::Relaxed);
        if self.segments.len() > SEGMENTS_FEW
            && looks.saturating_mul(self.segments.len()) >= self.rows
        {
            let view = self.view.get_or_init(|| IndexView::of(&self.segments));
            return view.copies_up_to(block, BLOCK_COPIES_MAX);
        }
        let segments = self.segments.values();
        distinct(segments.flat_map(|segment| segment.find(block)), BLOCK_COPIES_MAX)
    }
}

/// All index objects of a repository.
#[derive(Default)]
pub struct PackIndex {
    loaded: RwLock<Option<Loaded>>,
    /// Packs that this process has put and no index object names yet.
    pending: RwLock<BTreeMap<PackId, Arc<Segment>>>,
    /// Objects that cannot be read, by the beginning of their ids.
    damaged: RwLock<Vec<String>>,
    /// Whether all objects were loaded past the cache.
    was_loaded_anew: Mutex<bool>,
}

impl PackIndex {
    /// Returns the beginnings of the ids of index objects that cannot be read.
    pub fn damaged(&self) -> Vec<String> {
        self.damaged.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Loads every index object that is not loaded yet, and drops those that are gone. A damaged
    /// one is left out, and told by [`PackIndex::damaged`].
    ///
    /// # Errors
    /// Those of the backend.
    pub fn refresh(&self, store: &Store, cache: &Cache) -> Result<()> {
        let mut look = 1;
        while !self.try_to_refresh(store, cache, look == INDEX_LOOKS_MAX)? {
            look += 1;
        }
        Ok(())
    }

    /// Says false when an object went between listing and reading: what replaces it was put
    /// before, and is in the next listing. At the `last` look it is left out.
    fn try_to_refresh(&self, store: &Store, cache: &Cache, last: bool) -> Result<bool> {
        let objects = store.objects_below(&layout::folder("index")?)?;
        let id_of = |object: &ObjectInfo| object.key.name().parse::<IndexId>().ok();
        // In the order of the listing, so that runs over equal listings make equal calls.
        let ids: Vec<IndexId> = objects.iter().filter_map(id_of).collect();
        let loaded = self.segments();
        let mut early = load_early(&objects, &loaded, store, cache)?;
        let mut segments = BTreeMap::new();
        let mut damaged = Vec::new();
        for id in &ids {
            let segment = match loaded.get(id) {
                Some(segment) => Arc::clone(segment),
                None => match early.remove(id).unwrap_or_else(|| load(id, store, cache)) {
                    Ok(segment) => Arc::new(segment),
                    // One damaged object does not stop the others: readers find what the others
                    // name, writers store again what this one named.
                    Err(e) if e.kind() == ErrorKind::Corrupt => {
                        damaged.push(id.short());
                        continue;
                    }
                    Err(e) if e.kind() == ErrorKind::NotFound && last => continue,
                    Err(e) if e.kind() == ErrorKind::NotFound => return Ok(false),
                    Err(e) => return Err(e),
                },
            };
            segments.insert(*id, segment);
        }
        *self.damaged.write().unwrap_or_else(PoisonError::into_inner) = damaged;
        for stale in cache.list("index") {
            let is_known = stale.parse().is_ok_and(|id: IndexId| segments.contains_key(&id));
            if !is_known && !stale.ends_with(".tmp") {
                cache.remove(&format!("index/{stale}"));
            }
        }
        self.use_only(segments);
        Ok(true)
    }

    /// Looks again when what the index says was not found: a kept file may lie, so the first time
    /// all objects are loaded past the cache, and later only those that came since.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn look_again(&self, store: &Store, cache: &Cache) -> Result<()> {
        let mut was_loaded = self.was_loaded_anew.lock().unwrap_or_else(PoisonError::into_inner);
        if *was_loaded {
            return self.refresh(store, cache);
        }
        let names = store.names_below(&layout::folder("index")?)?;
        let ids: Vec<IndexId> = names.iter().filter_map(|key| key.name().parse().ok()).collect();
        let (_, unread) = self.load_anew(store, cache, &ids);
        let mut damaged = Vec::new();
        for (id, error) in unread {
            match error.kind() {
                ErrorKind::Corrupt => damaged.push(id.short()),
                ErrorKind::NotFound => {}
                _ => return Err(error),
            }
        }
        *self.damaged.write().unwrap_or_else(PoisonError::into_inner) = damaged;
        *was_loaded = true;
        Ok(())
    }

    /// Loads these objects anew, past the cache, in place of all that was loaded. Returns how many
    /// bytes were read, and those that cannot be used: the others are in use without them.
    pub fn load_anew(
        &self,
        store: &Store,
        cache: &Cache,
        ids: &[IndexId],
    ) -> (u64, Vec<(IndexId, Error)>) {
        let mut bytes = 0;
        let mut damaged = Vec::new();
        let mut segments = BTreeMap::new();
        for id in ids {
            match fetch(id, store, Some(cache)) {
                Ok((segment, length)) => {
                    bytes += length;
                    segments.insert(*id, Arc::new(segment));
                }
                Err(e) => damaged.push((*id, e)),
            }
        }
        self.use_only(segments);
        (bytes, damaged)
    }

    fn segments(&self) -> Segments {
        let guard = self.loaded.read().unwrap_or_else(PoisonError::into_inner);
        guard.as_ref().map(|loaded| loaded.segments.clone()).unwrap_or_default()
    }

    fn segment(&self, id: &IndexId) -> Option<Arc<Segment>> {
        let guard = self.loaded.read().unwrap_or_else(PoisonError::into_inner);
        guard.as_ref().and_then(|loaded| loaded.segments.get(id).cloned())
    }

    fn use_only(&self, segments: Segments) {
        let loaded = Loaded::new(segments);
        *self.loaded.write().unwrap_or_else(PoisonError::into_inner) = Some(loaded);
    }

    /// Loads the index unless it was loaded before.
    ///
    /// # Errors
    /// Those of [`PackIndex::refresh`].
    pub fn ensure(&self, store: &Store, cache: &Cache) -> Result<()> {
        let is_loaded = self.loaded.read().unwrap_or_else(PoisonError::into_inner).is_some();
        if is_loaded { Ok(()) } else { self.refresh(store, cache) }
    }

    /// Returns all copies of a block that the loaded index knows, and those that this process has
    /// put and no index object names yet.
    pub fn find(&self, block: &BlockId) -> Vec<Location> {
        let mut found = self.find_named(block);
        let pending = self.pending.read().unwrap_or_else(PoisonError::into_inner);
        for segment in pending.values() {
            found.extend(segment.find(block).map(|(pack, row)| Location { pack, row }));
        }
        found
    }

    /// Returns the copies of a block that an index object names: what another writer may lean on.
    pub fn find_named(&self, block: &BlockId) -> Vec<Location> {
        let guard = self.loaded.read().unwrap_or_else(PoisonError::into_inner);
        guard.as_ref().map(|loaded| loaded.find(block)).unwrap_or_default()
    }

    /// Returns the bytes of a pack in which its tables are; None when no object names it.
    pub(super) fn tables_of(&self, pack: &PackId) -> Option<Range<u32>> {
        let guard = self.loaded.read().unwrap_or_else(PoisonError::into_inner);
        let loaded = guard.as_ref()?;
        loaded.stretches.get_or_init(|| TableStretches::of(&loaded.segments)).find(pack)
    }

    /// Returns the ids of the loaded objects.
    pub fn ids(&self) -> Vec<IndexId> {
        self.segments().into_keys().collect()
    }

    /// Goes through all rows of one loaded object.
    ///
    /// # Errors
    /// Those of `visit`.
    pub fn visit(&self, id: &IndexId, visit: &mut dyn FnMut(Location) -> Result<()>) -> Result<()> {
        let Some(segment) = self.segment(id) else { return Ok(()) };
        for n in 0..segment.len() {
            if let Some((pack, row)) = segment.row(n) {
                visit(Location { pack, row })?;
            }
        }
        Ok(())
    }

    /// Returns the packs covered by one loaded object.
    pub fn packs_of(&self, id: &IndexId) -> Vec<IndexedPack> {
        self.segment(id).map(|segment| segment.packs().collect()).unwrap_or_default()
    }

    /// Takes a pack into use that this process has put, before an index object names it.
    ///
    /// # Errors
    /// `Bug` of the encoder.
    pub fn add_pending(&self, pack: &IndexedPack, rows: &[BlockRow]) -> Result<()> {
        let rows: Vec<(u32, &BlockRow)> = rows.iter().map(|row| (0, row)).collect();
        let plain = pack_index::encode(LeaseId::new([0; 16]), &[*pack], &rows)?;
        let length = plain.len();
        let segment = IndexTable::new(Slice { bytes: Mapped::Memory(plain), length })?;
        let mut pending = self.pending.write().unwrap_or_else(PoisonError::into_inner);
        pending.insert(pack.pack, Arc::new(segment));
        Ok(())
    }

    /// Returns the rows of a pack that is in use and that no index object names.
    pub fn pending_rows(&self, pack: &PackId) -> Vec<Location> {
        let pending = self.pending.read().unwrap_or_else(PoisonError::into_inner);
        pending.get(pack).map(|segment| segment_rows(segment).collect()).unwrap_or_default()
    }

    /// Takes a pack out of use that no index object names.
    pub fn drop_pending(&self, pack: &PackId) {
        self.pending.write().unwrap_or_else(PoisonError::into_inner).remove(pack);
    }

    /// Reads one object again from the store, past the cache, and returns its rows.
    ///
    /// # Errors
    /// Those of the backend; `Corrupt`.
    pub fn read_again(&self, store: &Store, id: &IndexId) -> Result<Vec<Location>> {
        let (segment, _) = fetch(id, store, None)?;
        Ok(segment_rows(&segment).collect())
    }

    /// Returns the loaded objects as they are now, in the order of their ids.
    pub fn view(&self) -> IndexView {
        IndexView::of(&self.segments())
    }

    /// Puts an index object for packs that are durable, and takes it into use.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn put(
        &self,
        store: &Store,
        cache: &Cache,
        lease: LeaseId,
        packs: &[IndexedPack],
        rows: &[(u32, &BlockRow)],
    ) -> Result<(IndexId, u64)> {
        let plain = pack_index::encode(lease, packs, rows)?;
        let id = IndexId::new(layout::in_few_folders(sys::random()?, INDEX_FOLDERS));
        let key = layout::index(&id)?;
        let sealed = store.sealer().seal(ObjectKind::PackIndex, key.as_str(), &plain)?;
        store.backend().put(&key, &sealed).map_err(|e| {
            e.context(format!("cannot write pack index {key}")).at(Origin::Repository)
        })?;
        let segment = Arc::new(keep(&id, plain, Some(cache))?);
        let mut guard = self.loaded.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(loaded) = guard.as_mut() {
            let mut segments = std::mem::take(&mut loaded.segments);
            segments.insert(id, segment);
            *loaded = Loaded::new(segments);
            drop(guard);
            let mut pending = self.pending.write().unwrap_or_else(PoisonError::into_inner);
            packs.iter().for_each(|pack| drop(pending.remove(&pack.pack)));
        }
        Ok((id, sealed.len() as u64))
    }
}

/// Takes so many copies at most, each once whatever objects name it.
fn distinct(copies: impl Iterator<Item = (IndexedPack, BlockRow)>, most: usize) -> Vec<Location> {
    let mut found: Vec<Location> = Vec::new();
    for (pack, row) in copies {
        let is_known = found.iter().any(|l| l.pack.pack == pack.pack && l.row.offset == row.offset);
        if !is_known {
            found.push(Location { pack, row });
        }
        if found.len() == most {
            break;
        }
    }
    found
}

fn segment_rows(segment: &Segment) -> impl Iterator<Item = Location> + '_ {
    (0..segment.len()).filter_map(|n| segment.row(n).map(|(pack, row)| Location { pack, row }))
}

/// Loads several objects at a time, where that is of use: those that are small, so that what is
/// under way is. What is wrong with one is for whoever asks for it.
fn load_early(
    objects: &[ObjectInfo],
    loaded: &BTreeMap<IndexId, Arc<Segment>>,
    store: &Store,
    cache: &Cache,
) -> Result<HashMap<IndexId, Result<Segment>>> {
    if store.backend().capabilities().ahead() == 1 {
        return Ok(HashMap::new());
    }
    let is_small = |object: &&ObjectInfo| object.size.is_some_and(|size| size <= EARLY_BYTES_MAX);
    let ids = objects.iter().filter(is_small).filter_map(|object| object.key.name().parse().ok());
    let ids: Vec<IndexId> = ids.filter(|id| !loaded.contains_key(id)).collect();
    let load = |id: &IndexId| match load(id, store, cache) {
        Err(e) if !matches!(e.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => Err(e),
        outcome => Ok((*id, outcome)),
    };
    Ok(ahead::map(store, &ids, &load)?.into_iter().collect())
}

fn load(id: &IndexId, store: &Store, cache: &Cache) -> Result<Segment> {
    match from_cache(id, cache) {
        Some(segment) => Ok(segment),
        None => fetch(id, store, Some(cache)).map(|(segment, _)| segment),
    }
}

/// Gets one object from the repository, and keeps it where there is a cache; returns its size as
/// well.
fn fetch(id: &IndexId, store: &Store, cache: Option<&Cache>) -> Result<(Segment, u64)> {
    let key = layout::index(id)?;
    let bytes = store
        .backend()
        .get(&key, INDEX_BYTES_MAX)
        .map_err(|e| e.context(format!("cannot read pack index {key}")).at(Origin::Repository))?;
    let plain_max = INDEX_BYTES_MAX.min(bytes.len().saturating_mul(INDEX_EXPANSION_MAX));
    let opened = store.sealer().open(ObjectKind::PackIndex, key.as_str(), &bytes, plain_max);
    let plain = opened.map_err(|e| e.at(Origin::Repository))?;
    let segment = keep(id, plain, cache)
        .map_err(|e| e.context(format!("pack index {key}")).at(Origin::Repository))?;
    Ok((segment, bytes.len() as u64))
}

fn from_cache(id: &IndexId, cache: &Cache) -> Option<Segment> {
    let bytes = cache.map(&format!("index/{id}"))?;
    let length = bytes.len().checked_sub(32)?;
    IndexTable::new(Slice { bytes, length }).ok()
}

fn keep(id: &IndexId, plain: Vec<u8>, cache: Option<&Cache>) -> Result<Segment> {
    let kept = cache.and_then(|cache| {
        cache.write(&format!("index/{id}"), &plain);
        from_cache(id, cache)
    });
    match kept {
        Some(segment) => Ok(segment),
        None => {
            let length = plain.len();
            IndexTable::new(Slice { bytes: Mapped::Memory(plain), length })
                .map_err(|e: Error| e.at(Origin::Repository))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::hash;

    fn block(n: u8) -> BlockId {
        // Some begin alike.
        let mut bytes = hash::hash(&[n / 3]);
        bytes[31] = n % 3;
        BlockId::new(bytes)
    }

    fn segment(n: u8, blocks: &[u8]) -> (IndexId, Arc<Segment>) {
        let row = |&number: &u8| BlockRow {
            block: block(number),
            offset: 100 + u32::from(number),
            length: 5,
            plain_length: 50,
            table_offset: 1000,
            table_length: 40,
            places: 20,
            number: number.into(),
            class: 0,
            present: Vec::new(),
            hooks: Vec::new(),
        };
        let rows: Vec<BlockRow> = blocks.iter().map(row).collect();
        let rows: Vec<(u32, &BlockRow)> = rows.iter().map(|row| (0, row)).collect();
        let pack = IndexedPack { pack: PackId::new([n / 2; 32]), size: 5000, salt: [7; 32] };
        let plain = pack_index::encode(LeaseId::new([1; 16]), &[pack], &rows).expect("encodes");
        let length = plain.len();
        let table = IndexTable::new(Slice { bytes: Mapped::Memory(plain), length });
        (IndexId::new([n; 16]), Arc::new(table.expect("sound")))
    }

    /// Segments by twos name the same pack, so that half of the copies come twice.
    #[test]
    fn many_segments_are_asked_at_once_with_the_same_answer() {
        let segments: Segments = (0..40).map(|n| segment(n, &[n / 4, 100 + n / 2, 200])).collect();
        let loaded = Loaded::new(segments);
        let all: Vec<BlockId> = (0..=255).map(block).collect();
        let asked = |loaded: &Loaded| all.iter().map(|id| loaded.find(id)).collect::<Vec<_>>();
        loaded.looks.store(0, Ordering::Relaxed);
        let one_by_one: Vec<Vec<Location>> = all
            .iter()
            .map(|id| distinct(loaded.segments.values().flat_map(|it| it.find(id)), usize::MAX))
            .map(|mut found| {
                found.truncate(BLOCK_COPIES_MAX);
                found
            })
            .collect();
        assert_eq!(one_by_one.iter().filter(|found| !found.is_empty()).count(), 10 + 20 + 1);
        assert!(one_by_one.iter().all(|found| found.len() <= 20));
        assert!(loaded.view.get().is_none());
        assert_eq!(asked(&loaded), one_by_one);
        assert!(loaded.view.get().is_some(), "they were asked often enough");
        assert_eq!(asked(&loaded), one_by_one);
    }
}
