//! Look-up: the name index, asked for names that it has and that it has not.

use crate::measure::Done;
use crate::measure::Side;
use crate::measure::Unit;
use crate::measure::ensure;
use crate::measure::row;
use crate::measure::side;
use crate::measure::timed;
use crate::settings::Settings;
use crate::support::Numbers;
use icecore::base::id::BlobId;
use icecore::base::id::BlockId;
use icecore::base::id::RepositoryId;
use icecore::base::limits::NAMES_MEMORY_ROWS;
use icecore::repository::cache::Cache;
use icecore::repository::cache::CachePlace;
use icecore::repository::names::NameIndex;
use icecore::repository::names::NamePlace;
use std::collections::HashMap;
use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::path::Path;

const NAMES: usize = 1_000_000;
const NAMES_PER_BLOCK: usize = 128;
/// Names looked up in one pass, in no order.
const ASKED: usize = 50_000;
const PAGE_BYTES: usize = 4096;
/// Bytes of one name in a segment, which bounds what a look-up has to read in.
const ROW_BYTES: usize = 16;

fn names(seed: u64, count: usize) -> Vec<BlobId> {
    let mut numbers = Numbers::new(seed);
    (0..count).map(|_| BlobId::new(numbers.id())).collect()
}

fn place(n: usize) -> NamePlace {
    NamePlace { number: (n / NAMES_PER_BLOCK) as u32, place: (n % NAMES_PER_BLOCK) as u32 }
}

/// Learns names as they come from a repository.
fn learn(index: &NameIndex, cache: &Cache, names: &[BlobId]) -> Done<()> {
    let mut numbers = Numbers::new(9);
    for _ in 0..names.len().div_ceil(NAMES_PER_BLOCK) {
        index.settle(index.allocate(), &BlockId::new(numbers.id()))?;
    }
    for (batch, names) in names.chunks(NAMES_MEMORY_ROWS).enumerate() {
        let start = batch * NAMES_MEMORY_ROWS;
        let rows = names.iter().enumerate().map(|(n, name)| (*name, place(start + n)));
        index.learn(cache, rows.collect())?;
    }
    Ok(())
}

fn in_map<'a>(map: &'a HashMap<BlobId, NamePlace>, asked: &'a [BlobId], found: usize) -> Side<'a> {
    side(format!("a HashMap of {} in memory", map.len()), move || {
        let (count, taken) =
            timed(|| asked.iter().filter(|name| black_box(map.get(*name)).is_some()).count());
        ensure(count == found, "the map does not have what it was given")?;
        Ok(taken)
    })
}

/// Names that are kept in files, names that are nowhere, and names of this run.
pub(crate) fn look_up(settings: &Settings, folder: &Path) -> Done<()> {
    let place_of_cache = CachePlace::Scratch(folder.to_owned());
    let cache = Cache::open(&place_of_cache, &RepositoryId::new([1; 16]))?;
    let index = NameIndex::open(&cache)?;
    let kept = names(1, settings.part(NAMES, ASKED));
    learn(&index, &cache, &kept)?;
    index.save(&cache)?;
    let mut numbers = Numbers::new(5);
    let asked: Vec<usize> = (0..ASKED).map(|_| numbers.below(kept.len() as u64) as usize).collect();
    let present: Vec<BlobId> = asked.iter().map(|n| kept[*n]).collect();
    let absent = names(2, ASKED);
    let map: HashMap<_, _> = kept.iter().enumerate().map(|(n, name)| (*name, place(n))).collect();

    let ours = side(format!("a name that is kept, of {}", kept.len()), || {
        let (is_right, taken) = timed(|| {
            asked
                .iter()
                .zip(&present)
                .all(|(n, name)| index.find_kept(name).iter().any(|(at, _)| *at == place(*n)))
        });
        ensure(is_right, "a name that is kept was not found in its place")?;
        Ok(taken)
    });
    let path = folder.join("pages");
    std::fs::write(&path, vec![1; (kept.len() * ROW_BYTES).next_multiple_of(PAGE_BYTES)])?;
    let pages = File::open(&path)?;
    let count = (kept.len() * ROW_BYTES).div_ceil(PAGE_BYTES) as u64;
    let limit = side("one pread of a page of as large a file", || {
        let (mut page, mut numbers) = ([0; PAGE_BYTES], Numbers::new(7));
        let mut read = || {
            let offset = numbers.below(count) * PAGE_BYTES as u64;
            pages.read_exact_at(black_box(&mut page), offset)
        };
        let (done, taken) = timed(|| (0..ASKED).try_for_each(|_| read()));
        done?;
        Ok(taken)
    });
    row(settings, "look-up", (Unit::Single("name"), ASKED), ours, limit)?;

    let ours = side(format!("a name that is not, among {}", kept.len()), || {
        let is_known = |name: &&BlobId| !index.find_kept(name).is_empty();
        let (found, taken) = timed(|| absent.iter().filter(is_known).count());
        ensure(found == 0, "a name was found that is not there")?;
        Ok(taken)
    });
    row(settings, "look-up", (Unit::Single("name"), ASKED), ours, in_map(&map, &absent, 0))?;

    let recent = &kept[..NAMES_MEMORY_ROWS.min(kept.len())];
    recent.iter().enumerate().for_each(|(n, name)| _ = index.claim(name, place(n)));
    let asked: Vec<BlobId> =
        (0..ASKED).map(|_| recent[numbers.below(recent.len() as u64) as usize]).collect();
    let ours = side(format!("a name of this run, of {}", recent.len()), || {
        let (found, taken) =
            timed(|| asked.iter().filter(|name| index.find_recent(name).is_some()).count());
        ensure(found == ASKED, "a name of this run was not found")?;
        Ok(taken)
    });
    let map: HashMap<_, _> = recent.iter().enumerate().map(|(n, name)| (*name, place(n))).collect();
    row(settings, "look-up", (Unit::Single("name"), ASKED), ours, in_map(&map, &asked, ASKED))
}
