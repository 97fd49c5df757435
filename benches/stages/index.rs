//! Index: rows of a pack index written, loaded and asked.

use crate::bytes::bare_zstd;
use crate::data;
use crate::data::Place;
use crate::measure::Done;
use crate::measure::Unit;
use crate::measure::ensure;
use crate::measure::row;
use crate::measure::side;
use crate::measure::timed;
use crate::settings::Settings;
use crate::support::Numbers;
use icecore::base::id::BlockId;
use icecore::base::id::LeaseId;
use icecore::base::id::PackId;
use icecore::base::limits::BLOCK_BYTES_TARGET;
use icecore::base::limits::PACK_BYTES_TARGET;
use icecore::codec::compress::LEVEL_DEFAULT;
use icecore::format::pack::BlockRow;
use icecore::format::pack_index;
use icecore::format::pack_index::IndexedPack;
use icecore::repository::Repository;
use icecore::repository::index::PackIndex;
use std::collections::HashMap;
use std::hint::black_box;
use std::path::Path;

const ROWS: usize = 100_000;
/// About what a block that compresses takes in a pack.
const STORED_BYTES: usize = 350_000;
const BLOCKS_PER_PACK: usize = PACK_BYTES_TARGET / STORED_BYTES;
/// What a table has for each place.
const PLACE_BYTES: u32 = 32;
/// Blocks looked up in one pass, in no order.
const ASKED: usize = 20_000;
const LEASE: LeaseId = LeaseId::new([1; 16]);

/// Packs and rows as backups of content that compresses make them.
struct Rows {
    packs: Vec<IndexedPack>,
    rows: Vec<(u32, BlockRow)>,
}

impl Rows {
    fn make(count: usize) -> Self {
        let mut numbers = Numbers::new(1);
        let (mut packs, mut rows) = (Vec::new(), Vec::with_capacity(count));
        let (mut offset, size) = (0, PACK_BYTES_TARGET as u64);
        let places = BLOCK_BYTES_TARGET as u64 >> data::averages_log2()[0];
        for n in 0..count {
            if n % BLOCKS_PER_PACK == 0 {
                let pack = PackId::new(numbers.id());
                packs.push(IndexedPack { pack, size, salt: numbers.id() });
                offset = 80;
            }
            let length = STORED_BYTES as u32 - 100_000 + numbers.below(200_000) as u32;
            let places = (places / 2 + numbers.below(places)) as u32;
            let row = BlockRow {
                block: BlockId::new(numbers.id()),
                offset,
                length,
                plain_length: BLOCK_BYTES_TARGET as u32 + numbers.below(1 << 14) as u32,
                table_offset: (size - numbers.below(1 << 18)) as u32,
                table_length: places * PLACE_BYTES,
                places,
                number: (n % BLOCKS_PER_PACK) as u32,
                class: 0,
                present: Vec::new(),
                hooks: (0..3).map(|_| numbers.next() >> 7).collect(),
            };
            offset += length;
            rows.push((packs.len() as u32 - 1, row));
        }
        Rows { packs, rows }
    }

    fn borrowed(&self) -> Vec<(u32, &BlockRow)> {
        self.rows.iter().map(|(pack, row)| (*pack, row)).collect()
    }
}

/// An index written, loaded from the repository and from the cache, and asked.
pub(crate) fn index(settings: &Settings, folder: &Path) -> Done<()> {
    let rows = Rows::make(settings.part(ROWS, ASKED));
    let plain = pack_index::encode(LEASE, &rows.packs, &rows.borrowed())?;
    encode(settings, &rows, &plain)?;
    let (_, repository) = Place::create(folder, true)?;
    put(settings, &rows, &plain, folder)?;
    let borrowed = rows.borrowed();
    let (store, cache) = (repository.store(), repository.cache());
    repository.index().put(store, cache, LEASE, &rows.packs, &borrowed)?;
    load(settings, &rows, &plain, &repository)?;
    find(settings, &rows, &repository)
}

fn encode(settings: &Settings, rows: &Rows, plain: &[u8]) -> Done<()> {
    let borrowed = rows.borrowed();
    let count = borrowed.len();
    let ours = side(format!("encode {count} rows, {:.1} MB", plain.len() as f64 / 1e6), || {
        let (made, taken) = timed(|| pack_index::encode(LEASE, &rows.packs, &borrowed));
        ensure(made? == plain, "the same rows make another index")?;
        Ok(taken)
    });
    let limit = side("sorting the ids alone, copying the bytes", || {
        let mut ids: Vec<BlockId> = borrowed.iter().map(|(_, row)| row.block).collect();
        let (_, taken) = timed(|| {
            ids.sort_unstable();
            black_box(plain).to_vec()
        });
        ensure(ids.is_sorted(), "the ids are not sorted")?;
        Ok(taken)
    });
    row(settings, "index", (Unit::Things("rows"), count), ours, limit)
}

fn put(settings: &Settings, rows: &Rows, plain: &[u8], folder: &Path) -> Done<()> {
    let borrowed = rows.borrowed();
    let ours = side("encode, compress, seal, put, keep in the cache", || {
        // A new one each time, as objects are never replaced.
        let (_, repository) = Place::create(folder, true)?;
        let (store, cache) = (repository.store(), repository.cache());
        let put = || repository.index().put(store, cache, LEASE, &rows.packs, &borrowed);
        let (put, taken) = timed(put);
        ensure(put?.1 > 0, "no index was put")?;
        Ok(taken)
    });
    let mut zstd = bare_zstd(LEVEL_DEFAULT)?;
    let mut packed = vec![0; zstd::zstd_safe::compress_bound(plain.len())];
    let limit = side(format!("zstd {LEVEL_DEFAULT}"), || {
        let (made, taken) = timed(|| zstd.compress_to_buffer(plain, &mut packed[..]));
        ensure(made? > 0, "zstd made nothing")?;
        Ok(taken)
    });
    row(settings, "index", (Unit::Things("rows"), borrowed.len()), ours, limit)
}

fn load(settings: &Settings, rows: &Rows, plain: &[u8], repository: &Repository) -> Done<()> {
    let (store, cache) = (repository.store(), repository.cache());
    repository.refresh_index()?;
    let ids = repository.index().ids();
    let count = rows.rows.len();
    let is_loaded = |index: &PackIndex| {
        let view = index.view();
        ensure(view.rows() == count, "the loaded index has not all rows")
    };
    let ours = side("load from the repository", || {
        let index = PackIndex::default();
        let ((_, damaged), taken) = timed(|| index.load_anew(store, cache, &ids));
        ensure(damaged.is_empty(), "the index is damaged")?;
        is_loaded(&index)?;
        Ok(taken)
    });
    let packed = bare_zstd(LEVEL_DEFAULT)?.compress(plain)?;
    let mut zstd = zstd::bulk::Decompressor::new()?;
    let mut back = vec![0; plain.len()];
    let limit = side("zstd and BLAKE3", || {
        let ((length, _), taken) =
            timed(|| (zstd.decompress_to_buffer(&packed, &mut back[..]), blake3::hash(&back)));
        ensure(length? == plain.len() && back == plain, "nothing was decoded")?;
        Ok(taken)
    });
    row(settings, "index", (Unit::Things("rows"), count), ours, limit)?;

    let ours = side("load from the cache", || {
        let index = PackIndex::default();
        let (loaded, taken) = timed(|| index.refresh(store, cache));
        loaded?;
        is_loaded(&index)?;
        Ok(taken)
    });
    let limit = side("BLAKE3", || Ok(timed(|| blake3::hash(black_box(plain))).1));
    row(settings, "index", (Unit::Things("rows"), count), ours, limit)
}

fn find(settings: &Settings, rows: &Rows, repository: &Repository) -> Done<()> {
    let mut numbers = Numbers::new(2);
    let some = |_| rows.rows[numbers.below(rows.rows.len() as u64) as usize].1.block;
    let asked: Vec<BlockId> = (0..ASKED).map(some).collect();
    let ours = side(format!("find a block among {}", rows.rows.len()), || {
        let is_found = |block: &BlockId| {
            let found = repository.index().find(block);
            found.len() == 1 && found[0].row.block == *block
        };
        let (all_found, taken) = timed(|| asked.iter().all(is_found));
        ensure(all_found, "a block was not found")?;
        Ok(taken)
    });
    let map: HashMap<BlockId, &BlockRow> =
        rows.rows.iter().map(|(_, row)| (row.block, row)).collect();
    let limit = side("a HashMap in memory", || {
        let is_there = |block: &&BlockId| black_box(map.get(*block)).is_some();
        let (found, taken) = timed(|| asked.iter().filter(is_there).count());
        ensure(found == ASKED, "the map does not have what it was given")?;
        Ok(taken)
    });
    row(settings, "index", (Unit::Single("block"), ASKED), ours, limit)
}
