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
use crate::repository::layout;
use crate::repository::store::Store;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::OnceLock;
use std::sync::PoisonError;
use std::sync::RwLock;

type Segment = IndexTable<Slice>;

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

/// All index objects of a repository.
#[derive(Default)]
pub struct PackIndex {
    segments: RwLock<Option<BTreeMap<IndexId, Arc<Segment>>>>,
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
        let loaded = self.loaded();
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
        *self.segments.write().unwrap_or_else(PoisonError::into_inner) = Some(segments);
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
        *self.segments.write().unwrap_or_else(PoisonError::into_inner) = Some(segments);
        (bytes, damaged)
    }

    fn loaded(&self) -> BTreeMap<IndexId, Arc<Segment>> {
        let guard = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        guard.clone().unwrap_or_default()
    }

    /// Loads the index unless it was loaded before.
    ///
    /// # Errors
    /// Those of [`PackIndex::refresh`].
    pub fn ensure(&self, store: &Store, cache: &Cache) -> Result<()> {
        let is_loaded = self.segments.read().unwrap_or_else(PoisonError::into_inner).is_some();
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
        let guard = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        let mut found: Vec<Location> = Vec::new();
        for segment in guard.iter().flat_map(BTreeMap::values) {
            for (pack, row) in segment.find(block) {
                let is_known =
                    found.iter().any(|l| l.pack.pack == pack.pack && l.row.offset == row.offset);
                if !is_known {
                    found.push(Location { pack, row });
                }
                if found.len() == BLOCK_COPIES_MAX {
                    return found;
                }
            }
        }
        found
    }

    /// Returns the ids of the loaded objects.
    pub fn ids(&self) -> Vec<IndexId> {
        self.loaded().into_keys().collect()
    }

    /// Goes through all rows of one loaded object.
    ///
    /// # Errors
    /// Those of `visit`.
    pub fn visit(&self, id: &IndexId, visit: &mut dyn FnMut(Location) -> Result<()>) -> Result<()> {
        let Some(segment) = self.loaded().get(id).cloned() else { return Ok(()) };
        for n in 0..segment.len() {
            if let Some((pack, row)) = segment.row(n) {
                visit(Location { pack, row })?;
            }
        }
        Ok(())
    }

    /// Returns the packs covered by one loaded object.
    pub fn packs_of(&self, id: &IndexId) -> Vec<IndexedPack> {
        self.loaded().get(id).map(|segment| segment.packs().collect()).unwrap_or_default()
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
        let segments: Vec<_> = self.loaded().into_iter().collect();
        let mut starts = Vec::with_capacity(segments.len());
        let mut rows = 0;
        for (_, segment) in &segments {
            starts.push(rows);
            rows += segment.len();
        }
        IndexView { segments, starts, rows, order: OnceLock::new() }
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
        let mut guard = self.segments.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(segments) = guard.as_mut() {
            segments.insert(id, segment);
            drop(guard);
            let mut pending = self.pending.write().unwrap_or_else(PoisonError::into_inner);
            packs.iter().for_each(|pack| drop(pending.remove(&pack.pack)));
        }
        Ok((id, sealed.len() as u64))
    }
}

/// The index objects of one moment, which stay what they are while it is held.
pub struct IndexView {
    segments: Vec<(IndexId, Arc<Segment>)>,
    starts: Vec<usize>,
    rows: usize,
    /// The numbers of all rows by their blocks, made when first asked for: to ask each of
    /// hundreds of objects takes a hundred times as long.
    order: OnceLock<Vec<u32>>,
}

impl IndexView {
    /// Returns how many rows there are in all.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Returns the number of the first row of a block: one for each block, whatever copies it
    /// has.
    pub fn rank(&self, block: &BlockId) -> Option<usize> {
        self.numbers_of(block).next()
    }

    /// Returns all copies of a block; one that several objects name comes once.
    pub fn copies(&self, block: &BlockId) -> Vec<Location> {
        let mut found: Vec<Location> = Vec::new();
        for (segment, n) in self.numbers_of(block).filter_map(|number| self.segment_of(number)) {
            let Some((pack, row)) = segment.row(n) else { continue };
            let is_known =
                found.iter().any(|l| l.pack.pack == pack.pack && l.row.offset == row.offset);
            if !is_known {
                found.push(Location { pack, row });
            }
        }
        found
    }

    /// Goes through the numbers of the rows of a block, the least first.
    fn numbers_of<'a>(&'a self, block: &'a BlockId) -> impl Iterator<Item = usize> + 'a {
        let order = self.order.get_or_init(|| self.in_order());
        let start = order.partition_point(|number| self.prefix(*number) < prefix_of(block));
        let alike = order[start..].iter().take_while(|n| self.prefix(**n) == prefix_of(block));
        let numbers = alike.map(|number| *number as usize);
        numbers.filter(move |number| self.block(*number) == Some(*block))
    }

    fn in_order(&self) -> Vec<u32> {
        let prefixes = (0..self.rows as u32).map(|number| (self.prefix(number), number));
        let mut prefixes: Vec<(u64, u32)> = prefixes.collect();
        prefixes.sort_unstable();
        prefixes.into_iter().map(|(_, number)| number).collect()
    }

    fn segment_of(&self, number: usize) -> Option<(&Segment, usize)> {
        let after = self.starts.partition_point(|start| *start <= number);
        let at = after.checked_sub(1)?;
        Some((&self.segments[at].1, number - self.starts[at]))
    }

    fn block(&self, number: usize) -> Option<BlockId> {
        self.segment_of(number).and_then(|(segment, n)| segment.block(n))
    }

    fn prefix(&self, number: u32) -> u64 {
        self.block(number as usize).map_or(0, |block| prefix_of(&block))
    }

    /// Goes through the objects: id, lease they were put under, number of rows.
    pub fn objects(&self) -> impl Iterator<Item = (IndexId, LeaseId, usize)> + '_ {
        self.segments.iter().map(|(id, segment)| (*id, segment.lease(), segment.len()))
    }

    /// Goes through the packs of one object.
    pub fn packs_of(&self, id: &IndexId) -> impl Iterator<Item = IndexedPack> + '_ {
        let found = self.segments.binary_search_by_key(id, |(other, _)| *other).ok();
        found.into_iter().flat_map(|n| self.segments[n].1.packs())
    }

    /// Goes through the rows of one object.
    pub fn rows_of(&self, id: &IndexId) -> impl Iterator<Item = Location> + '_ {
        let found = self.segments.binary_search_by_key(id, |(other, _)| *other).ok();
        found.into_iter().flat_map(|n| segment_rows(&self.segments[n].1))
    }

    /// Goes through all rows with their numbers.
    pub fn all_rows(&self) -> impl Iterator<Item = (usize, Location)> + '_ {
        self.segments.iter().flat_map(|(_, segment)| segment_rows(segment)).enumerate()
    }
}

fn prefix_of(block: &BlockId) -> u64 {
    block.as_bytes().first_chunk::<8>().map_or(0, |first| u64::from_be_bytes(*first))
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
