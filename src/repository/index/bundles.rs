//! Small index objects as the cache keeps them: many in one file.
//!
//! A small backup makes an object of some hundred bytes. A file for each, opened, checked and
//! mapped by each run, is what made runs slow after some thousand backups, and a process may
//! have some 65 000 maps. So what is small is held in memory, and once many such files lie about
//! a bundle takes their place; bundles of about one size are joined in turn.
//!
//! A bundle is a row of objects: id (16), length (4, little endian), plain bytes. Like any file
//! of the cache it ends in a checksum, is written once, and may be gone at any time.

use crate::base::id::IndexId;
use crate::base::id::to_hex;
use crate::base::limits::MIB;
use crate::base::mapped::Mapped;
use crate::base::sys;
use crate::format::pack_index::IndexTable;
use crate::repository::cache::CHECKSUM_BYTES;
use crate::repository::cache::Cache;
use crate::repository::index::Segment;
use crate::repository::index::Segments;
use crate::repository::index::Slice;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// Objects of so many plain bytes are small: some 600 rows.
pub(super) const SMALL_BYTES_MAX: usize = 64 * 1024;
/// So many small files in the cache, each opened by each run, become a bundle.
const FILES_MAX: usize = 64;
/// So many bundles of about one size are joined: each object is written anew a few times in all.
const JOINED: usize = 8;
/// Bundles of this size are left as they are, as joining is done in memory.
const BUNDLE_BYTES_MAX: u64 = 8 * MIB as u64;
const PREFIX: &str = "bundle-";

/// Says whether a file in the cache is a bundle.
pub(super) fn is_bundle(name: &str) -> bool {
    name.starts_with(PREFIX)
}

/// Returns those of the objects in bundles that are `wanted`, and removes bundles that hold none.
pub(super) fn load(cache: &Cache, wanted: &dyn Fn(&IndexId) -> bool) -> HashMap<IndexId, Segment> {
    let mut found = HashMap::new();
    for name in cache.list("index").into_iter().filter(|name| is_bundle(name)) {
        let parts = open(cache, &name);
        let before = found.len();
        for (id, slice) in parts.into_iter().filter(|(id, _)| wanted(id)) {
            found.extend(IndexTable::new(slice).ok().map(|segment| (id, segment)));
        }
        // One that another process is about to write has another name.
        if found.len() == before && !name.ends_with(".tmp") {
            cache.remove(&format!("index/{name}"));
        }
    }
    found
}

/// Bundles the small files of the cache once there are many; `names` are those of its files. What
/// was bundled is used from there: mapped, and no longer in memory.
pub(super) fn gather(cache: &Cache, names: &[String], segments: &mut Segments) {
    let small = names.iter().filter_map(|name| {
        let id: IndexId = name.parse().ok()?;
        let segment = segments.get(&id)?;
        (segment.bytes().len() <= SMALL_BYTES_MAX).then(|| (id, Arc::clone(segment)))
    });
    let mut parts: BTreeMap<IndexId, Arc<Segment>> = small.collect();
    if parts.len() < FILES_MAX {
        return;
    }
    let mut replaced: Vec<String> = parts.keys().map(IndexId::to_string).collect();
    let sizes = names.iter().filter(|name| is_bundle(name) && !name.ends_with(".tmp"));
    let sizes = sizes.filter_map(|name| {
        let length = std::fs::metadata(cache.path(&format!("index/{name}"))).ok()?.len();
        (length < BUNDLE_BYTES_MAX).then_some((length, name))
    });
    let mut tiers: BTreeMap<u32, Vec<&String>> = BTreeMap::new();
    sizes.for_each(|(length, name)| tiers.entry(tier(length)).or_default().push(name));
    let mut bytes: usize = parts.values().map(|segment| segment.bytes().len()).sum();
    while let Some(alike) = tiers.remove(&tier(bytes as u64)).filter(|it| it.len() + 1 >= JOINED) {
        for name in alike {
            for (id, _) in open(cache, name) {
                parts.extend(segments.get(&id).map(|segment| (id, Arc::clone(segment))));
            }
            replaced.push(name.clone());
        }
        bytes = parts.values().map(|segment| segment.bytes().len()).sum();
    }
    let bundled = write_all(cache, parts);
    // Gone only when the bundles are there: a full disk costs no more than it did.
    let Some(bundled) = bundled else { return };
    replaced.iter().for_each(|old| cache.remove(&format!("index/{old}")));
    segments.extend(bundled.into_iter().map(|(id, segment)| (id, Arc::new(segment))));
}

/// Bundles of one tier differ in size by less than eight times.
fn tier(bytes: u64) -> u32 {
    bytes.max(1).ilog2() / 3
}

/// Writes bundles of bounded size, and returns what is in them; None when one cannot be written.
fn write_all(
    cache: &Cache,
    parts: BTreeMap<IndexId, Arc<Segment>>,
) -> Option<HashMap<IndexId, Segment>> {
    let mut bundled = HashMap::new();
    let mut content = Vec::new();
    for (id, segment) in parts {
        let length = u32::try_from(segment.bytes().len()).ok()?;
        content.extend_from_slice(id.as_bytes());
        content.extend_from_slice(&length.to_le_bytes());
        content.extend_from_slice(segment.bytes());
        if content.len() as u64 >= BUNDLE_BYTES_MAX {
            bundled.extend(write(cache, &content)?);
            content.clear();
        }
    }
    if !content.is_empty() {
        bundled.extend(write(cache, &content)?);
    }
    Some(bundled)
}

fn write(cache: &Cache, content: &[u8]) -> Option<Vec<(IndexId, Segment)>> {
    let unique: [u8; 8] = sys::random().ok()?;
    let name = format!("{PREFIX}{}", to_hex(&unique));
    cache.write(&format!("index/{name}"), content);
    let segments = open(cache, &name).into_iter();
    let segments: Vec<_> = segments
        .map(|(id, slice)| Some((id, IndexTable::new(slice).ok()?)))
        .collect::<Option<_>>()?;
    (!segments.is_empty()).then_some(segments)
}

/// Returns the objects of a bundle; none of one that is gone or damaged.
fn open(cache: &Cache, name: &str) -> Vec<(IndexId, Slice)> {
    let Some(mapped) = cache.map(&format!("index/{name}")) else { return Vec::new() };
    parts_of(&Arc::new(mapped)).unwrap_or_default()
}

fn parts_of(mapped: &Arc<Mapped>) -> Option<Vec<(IndexId, Slice)>> {
    let end = mapped.len().checked_sub(CHECKSUM_BYTES)?;
    let mut parts = Vec::new();
    let mut at = 0;
    while at < end {
        let (id, length) = mapped.get(at..at + 20)?.split_at(16);
        let length = u32::from_le_bytes(length.try_into().ok()?) as usize;
        let range: Range<usize> = at + 20..at.checked_add(20)?.checked_add(length)?;
        at = range.end;
        if at > end {
            return None;
        }
        let id = IndexId::new(id.try_into().ok()?);
        parts.push((id, Slice { bytes: Arc::clone(mapped), range }));
    }
    Some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::memory::MemoryBackend;
    use crate::base::hash;
    use crate::base::id::BlockId;
    use crate::base::id::LeaseId;
    use crate::base::id::PackId;
    use crate::base::id::RepositoryId;
    use crate::codec::seal::Sealer;
    use crate::format::pack_index::IndexedPack;
    use crate::format::pack_index::samples;
    use crate::repository::cache::CachePlace;
    use crate::repository::index::PackIndex;
    use crate::repository::store::Store;

    fn id(n: u32) -> IndexId {
        let mut bytes = [7; 16];
        bytes[..4].copy_from_slice(&n.to_be_bytes());
        IndexId::new(bytes)
    }

    fn plain(n: u32, rows: u32) -> Vec<u8> {
        let block =
            |at: u32| BlockId::new(hash::hash(&[n.to_be_bytes(), at.to_be_bytes()].concat()));
        let rows = (0..rows).map(|at| samples::row(block(at), at));
        samples::table(n as u8, &rows.collect::<Vec<_>>())
    }

    fn cache(folder: &std::path::Path) -> Cache {
        let kept = CachePlace::Kept(folder.into());
        Cache::open(&kept, &RepositoryId::new([1; 16])).expect("opens")
    }

    /// Each run puts some objects, and then looks as the next one does.
    #[test]
    fn few_files_hold_very_many_small_objects() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = cache(folder.path());
        let mut segments = Segments::new();
        let mut files_most = 0;
        for n in 0..3_000 {
            let bytes = plain(n, 1 + n % 3);
            cache.write(&format!("index/{}", id(n)), &bytes);
            let segment = IndexTable::new(Slice::memory(bytes)).expect("sound");
            segments.insert(id(n), Arc::new(segment));
            if n % 10 == 9 {
                gather(&cache, &cache.list("index"), &mut segments);
                files_most = files_most.max(cache.list("index").len());
            }
        }
        assert!(files_most < FILES_MAX + 10 + 3 * JOINED, "{files_most} files");

        let mut found = load(&cache, &|_| true);
        for name in cache.list("index") {
            let Ok(loose) = name.parse::<IndexId>() else { continue };
            let bytes = cache.read(&format!("index/{name}")).expect("sound");
            assert!(!found.contains_key(&loose), "it is in one place");
            found.insert(loose, IndexTable::new(Slice::memory(bytes)).expect("sound"));
        }
        assert_eq!(found.len(), 3_000);
        assert!(found.iter().all(|(id, segment)| segment.bytes() == segments[id].bytes()));
    }

    /// One run of very much puts thousands, and looks at the repository once.
    #[test]
    fn what_one_run_puts_does_not_stay_in_memory() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = cache(folder.path());
        let backend = Arc::new(MemoryBackend::new());
        let store = Store::new(backend, Sealer::new(RepositoryId::new([1; 16]), None));
        let index = PackIndex::default();
        index.refresh(&store, &cache).expect("nothing is there");
        let count = 5 * FILES_MAX as u32 + 7;
        for n in 0..count {
            let pack = PackId::new(hash::hash(&n.to_le_bytes()));
            let packs = [IndexedPack { pack, size: 5000, salt: [7; 32] }];
            let row = samples::row(BlockId::new(hash::hash(&n.to_be_bytes())), n);
            index.put(&store, &cache, LeaseId::new([1; 16]), &packs, &[(0, &row)]).expect("puts");
        }

        let segments = index.segments();
        assert_eq!(segments.len(), count as usize);
        let in_memory = segments.values().filter(|segment| !segment.source().is_mapped()).count();
        assert!(in_memory <= FILES_MAX, "{in_memory} of {count}");
        let block = BlockId::new(hash::hash(&3_u32.to_be_bytes()));
        assert_eq!(index.find(&block).len(), 1);
    }

    #[test]
    fn many_that_come_at_once_fill_several_bundles() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = cache(folder.path());
        let mut segments = Segments::new();
        for n in 0..400 {
            let bytes = plain(n, 500);
            cache.write(&format!("index/{}", id(n)), &bytes);
            segments.insert(id(n), Arc::new(IndexTable::new(Slice::memory(bytes)).expect("sound")));
        }
        let bytes: usize = segments.values().map(|segment| segment.bytes().len()).sum();
        gather(&cache, &cache.list("index"), &mut segments);

        let names = cache.list("index");
        assert!(names.iter().all(|name| is_bundle(name)));
        assert_eq!(names.len() as u64, (bytes as u64).div_ceil(BUNDLE_BYTES_MAX));
        assert!(names.len() > 1, "{bytes}");
        let found = load(&cache, &|_| true);
        assert_eq!(found.len(), 400);
        assert!(found.iter().all(|(id, segment)| segment.bytes() == segments[id].bytes()));
        assert!(
            segments.values().all(|segment| segment.source().is_mapped()),
            "none is held twice"
        );
    }

    #[test]
    fn what_is_not_wanted_is_left_out_and_an_idle_bundle_goes() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = cache(folder.path());
        let parts = (0..9).map(|n| {
            (id(n), Arc::new(IndexTable::new(Slice::memory(plain(n, 2))).expect("sound")))
        });
        assert_eq!(write_all(&cache, parts.collect()).expect("written").len(), 9);

        assert_eq!(load(&cache, &|wanted| *wanted == id(3)).len(), 1);
        assert_eq!(cache.list("index").len(), 1);
        assert!(load(&cache, &|_| false).is_empty());
        assert!(cache.list("index").is_empty());
    }

    #[test]
    fn bytes_that_are_no_bundle_hold_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = cache(folder.path());
        let mut parts = Vec::new();
        parts.extend_from_slice(id(1).as_bytes());
        parts.extend_from_slice(&8_u32.to_le_bytes());
        for content in
            [&[][..], &[1; 19], &parts, &[0xff; 40], &[parts.as_slice(), &[0; 7]].concat()]
        {
            cache.write("index/bundle-x", content);
            assert!(load(&cache, &|_| true).is_empty());
            assert!(cache.list("index").is_empty(), "it was thrown away");
        }
    }
}
