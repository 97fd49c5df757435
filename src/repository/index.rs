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
use crate::repository::cache::CHECKSUM_BYTES;
use crate::repository::cache::Cache;
use crate::repository::index::loaded::Loaded;
use crate::repository::layout;
use crate::repository::store::Store;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::RwLock;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

mod bundles;
mod loaded;
mod stretches;
mod view;

pub use view::IndexView;

type Segment = IndexTable<Slice>;
/// After so many objects that a process has put, the small ones are bundled.
const BUNDLED_EACH: usize = 64;

type Segments = BTreeMap<IndexId, Arc<Segment>>;

/// Folders that index objects lie in: one server lists 10 000 names of each, and with so many
/// objects it is high time for a prune.
const INDEX_FOLDERS: u8 = 4;
/// Objects up to this size are loaded several at a time.
const EARLY_BYTES_MAX: u64 = 4 * MIB as u64;

/// The plain bytes of one index object: a file in the cache, a part of one, or memory.
#[derive(Debug)]
pub struct Slice {
    bytes: Arc<Mapped>,
    range: Range<usize>,
}

impl Slice {
    fn memory(mut plain: Vec<u8>) -> Self {
        // There may be a hundred thousand of a few hundred bytes.
        plain.shrink_to_fit();
        Slice { range: 0..plain.len(), bytes: Arc::new(Mapped::Memory(plain)) }
    }

    /// Whether it lies in a file and takes no memory of this process.
    #[cfg(test)]
    fn is_mapped(&self) -> bool {
        !matches!(*self.bytes, Mapped::Memory(_))
    }
}

impl std::ops::Deref for Slice {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes[self.range.clone()]
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
    loaded: RwLock<Option<Loaded>>,
    /// Packs that this process has put and no index object names yet.
    pending: RwLock<BTreeMap<PackId, Arc<Segment>>>,
    /// Objects that cannot be read, by the beginning of their ids.
    damaged: RwLock<Vec<String>>,
    /// Whether all objects were loaded past the cache.
    was_loaded_anew: Mutex<bool>,
    /// How many objects this process has put.
    put_count: AtomicUsize,
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
        let (objects, ids) = self.list(store)?;
        if self.has_just(&ids) {
            return Ok(true);
        }
        let loaded = self.segments();
        let mut early = if loaded.is_empty() {
            let wanted: HashSet<&IndexId> = ids.iter().collect();
            let bundled = bundles::load(cache, &|id| wanted.contains(id));
            bundled.into_iter().map(|(id, segment)| (id, Ok(segment))).collect()
        } else {
            HashMap::new()
        };
        load_early(&objects, &loaded, &mut early, store, cache)?;
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
        let kept = cache.list("index");
        for stale in &kept {
            let is_known = stale.parse().is_ok_and(|id: IndexId| segments.contains_key(&id));
            if !is_known && !bundles::is_bundle(stale) && !stale.ends_with(".tmp") {
                cache.remove(&format!("index/{stale}"));
            }
        }
        bundles::gather(cache, &kept, &mut segments);
        self.use_only(segments);
        Ok(true)
    }

    /// Lists the objects, in the order of the listing, so that runs over equal listings make equal
    /// calls. One that is loaded and gone was replaced by another, and of a listing folder by
    /// folder the new one may be missing as well: it was put where this had listed already. So
    /// then this lists until nothing went between two listings.
    fn list(&self, store: &Store) -> Result<(Vec<ObjectInfo>, Vec<IndexId>)> {
        let folder = layout::folder("index")?;
        let id_of = |object: &ObjectInfo| object.key.name().parse::<IndexId>().ok();
        let mut before = self.ids();
        let mut look = 1;
        loop {
            let objects = store.listed_below(&folder)?;
            let ids: Vec<IndexId> = objects.iter().filter_map(id_of).collect();
            let there: HashSet<IndexId> = ids.iter().copied().collect();
            if before.iter().all(|id| there.contains(id)) || look == INDEX_LOOKS_MAX {
                return Ok((objects, ids));
            }
            before = ids;
            look += 1;
        }
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

    /// Says whether these are loaded, and nothing else, and none was damaged: after most backups
    /// of a process a listing shows what is in use already.
    fn has_just(&self, ids: &[IndexId]) -> bool {
        let guard = self.loaded.read().unwrap_or_else(PoisonError::into_inner);
        let Some(loaded) = guard.as_ref().filter(|_| self.damaged().is_empty()) else {
            return false;
        };
        let mut sorted = ids.to_vec();
        sorted.sort();
        sorted.iter().eq(loaded.segments().keys())
    }

    fn segments(&self) -> Segments {
        let guard = self.loaded.read().unwrap_or_else(PoisonError::into_inner);
        guard.as_ref().map(|loaded| loaded.segments().clone()).unwrap_or_default()
    }

    fn segment(&self, id: &IndexId) -> Option<Arc<Segment>> {
        let guard = self.loaded.read().unwrap_or_else(PoisonError::into_inner);
        guard.as_ref().and_then(|loaded| loaded.segments().get(id).cloned())
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
        guard.as_ref()?.tables_of(pack)
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
        let segment = IndexTable::new(Slice::memory(plain))?;
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
            loaded.add(id, segment);
            drop(guard);
            let mut pending = self.pending.write().unwrap_or_else(PoisonError::into_inner);
            packs.iter().for_each(|pack| drop(pending.remove(&pack.pack)));
        }
        if (self.put_count.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(BUNDLED_EACH) {
            self.bundle(cache);
        }
        Ok((id, sealed.len() as u64))
    }

    /// Lets what is small and in memory be used out of bundles: one run may put thousands of them.
    fn bundle(&self, cache: &Cache) {
        let mut guard = self.loaded.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(loaded) = guard.as_mut() {
            let mut segments = loaded.segments().clone();
            bundles::gather(cache, &cache.list("index"), &mut segments);
            *loaded = Loaded::new(segments);
        }
    }
}

fn segment_rows(segment: &Segment) -> impl Iterator<Item = Location> + '_ {
    (0..segment.len()).filter_map(|n| segment.row(n).map(|(pack, row)| Location { pack, row }))
}

/// Loads several objects at a time, where that is of use: those that are small, so that what is
/// under way is. What is wrong with one is for whoever asks for it.
fn load_early(
    objects: &[ObjectInfo],
    loaded: &Segments,
    early: &mut HashMap<IndexId, Result<Segment>>,
    store: &Store,
    cache: &Cache,
) -> Result<()> {
    if store.backend().capabilities().ahead() == 1 {
        return Ok(());
    }
    let is_small = |object: &&ObjectInfo| object.size.is_some_and(|size| size <= EARLY_BYTES_MAX);
    let ids = objects.iter().filter(is_small).filter_map(|object| object.key.name().parse().ok());
    let ids: Vec<IndexId> =
        ids.filter(|id| !loaded.contains_key(id) && !early.contains_key(id)).collect();
    let load = |id: &IndexId| match load(id, store, cache) {
        Err(e) if !e.kind().is_unreadable() => Err(e),
        outcome => Ok((*id, outcome)),
    };
    early.extend(ahead::map(store, &ids, &load)?);
    Ok(())
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
    let length = bytes.len().checked_sub(CHECKSUM_BYTES)?;
    let slice = match length <= bundles::SMALL_BYTES_MAX {
        true => Slice::memory(bytes[..length].to_vec()),
        false => Slice { bytes: Arc::new(bytes), range: 0..length },
    };
    IndexTable::new(slice).ok()
}

fn keep(id: &IndexId, plain: Vec<u8>, cache: Option<&Cache>) -> Result<Segment> {
    if let Some(cache) = cache {
        cache.write(&format!("index/{id}"), &plain);
    }
    // What is large is used as the cache has it: pages that the system may take back.
    let is_large = plain.len() > bundles::SMALL_BYTES_MAX;
    match cache.filter(|_| is_large).and_then(|cache| from_cache(id, cache)) {
        Some(segment) => Ok(segment),
        None => IndexTable::new(Slice::memory(plain)).map_err(|e: Error| e.at(Origin::Repository)),
    }
}
