//! Performs a plan, in the order in which a kill leaves copies too many and never too few.

use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::id::BlockId;
use crate::base::id::IndexId;
use crate::base::id::LeaseId;
use crate::base::id::PackId;
use crate::base::id::TombstoneId;
use crate::base::sys;
use crate::codec::frame::ObjectKind;
use crate::engine::Context;
use crate::engine::repair::RepairPlan;
use crate::engine::repair::content::Content;
use crate::engine::repair::look::Footer;
use crate::engine::repair::small;
use crate::format::dataset::LostRecord;
use crate::format::pack::BlockRow;
use crate::format::pack::EncodedBlock;
use crate::format::pack_index::IndexedPack;
use crate::repository::Repository;
use crate::repository::doom;
use crate::repository::index::Location;
use crate::repository::layout;
use crate::repository::parity;
use crate::repository::rescue;
use crate::repository::rescue::Copier;
use crate::repository::rescue::NO_LEASE;
use crate::repository::stock;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashSet;

/// Packs that one new index object names; as many as a record of a few MB holds.
const PACKS_PER_INDEX: usize = 1000;
/// Blocks that one record of lost places names, so that it stays within what a reader accepts.
const BLOCKS_PER_RECORD: usize = 4096;
/// Places that one record of lost places names at most.
const PLACES_PER_RECORD: usize = 256 * 1024;

/// Performs all of a plan.
pub(super) fn all(repository: &Repository, plan: &RepairPlan, context: &Context<'_>) -> Result<()> {
    // What the plan leaves alone as it is there may have been put by a repair that was killed
    // before it was durable.
    repository.store().settle()?;
    let content = &plan.content;
    for footers in content.index.chunks(PACKS_PER_INDEX) {
        put_index(repository, footers)?;
    }
    let mut doomed: Vec<IndexId> = Vec::new();
    for (id, stands_in) in &content.replace {
        context.cancel.check()?;
        if !stands_in.is_empty() {
            put_index(repository, stands_in)?;
        }
        doomed.push(*id);
    }
    salvage(repository, content, context)?;
    declare(repository, &content.lost, context)?;
    // What is doomed from here on is needed no more.
    context.cancel.check()?;
    let there = stock::packs(repository.store())?;
    let freed_bytes = content.doom.iter().filter_map(|pack| there.get(pack)).sum();
    let now = context.clock.now();
    doom::put_tombstones(repository.store(), &content.doom, &doomed, freed_bytes, now)?;
    small::execute(repository, &plan.small, context)
}

/// Puts an index object and reads it back: it must name just these packs and rows.
fn put_index(repository: &Repository, footers: &[Footer]) -> Result<()> {
    let (store, cache, index) = (repository.store(), repository.cache(), repository.index());
    let packs: Vec<IndexedPack> = footers.iter().map(|(pack, _)| *pack).collect();
    let numbered = footers.iter().enumerate();
    let rows: Vec<(u32, &BlockRow)> =
        numbered.flat_map(|(n, (_, rows))| rows.iter().map(move |row| (n as u32, row))).collect();
    let (id, _) = index.put(store, cache, LeaseId::new(NO_LEASE), &packs, &rows)?;
    let mut expected: Vec<Location> = footers
        .iter()
        .flat_map(|(pack, rows)| rows.iter().map(|row| Location { pack: *pack, row: row.clone() }))
        .collect();
    let mut there = index.read_again(store, &id)?;
    expected.sort_by_key(order);
    there.sort_by_key(order);
    if there == expected {
        return Ok(());
    }
    let message = format!("pack index {} does not hold what was put into it", id.short());
    Err(Error::corrupt(message).hint("nothing was doomed; repair it again"))
}

fn order(location: &Location) -> (PackId, u32) {
    (location.pack.pack, location.row.number)
}

/// Copies places to new packs, and proves that an index names them there.
fn salvage(repository: &Repository, content: &Content, context: &Context<'_>) -> Result<()> {
    if content.salvage.is_empty() && content.heal.is_empty() {
        return Ok(());
    }
    let index = repository.index();
    let mut copier = Copier::start(repository)?;
    for (block, places) in &content.salvage {
        context.cancel.check()?;
        copier.add(copy(repository, block, places)?)?;
    }
    if !content.heal.is_empty() {
        let listed = parity::list(repository.store())?;
        for (pack, places) in &content.heal {
            context.cancel.check()?;
            let healed = parity::heal(repository.store(), pack, listed.of(pack));
            let healed = healed.map_err(|e| e.context(format!("pack {}", pack.short())))?;
            for (block, places) in places {
                copier.add(copy_healed(repository, pack, &healed.bytes, block, places)?)?;
            }
        }
    }
    let packed = copier.finish()?;
    let packs = packed.indexes.iter().flat_map(|id| index.packs_of(id));
    let packs: HashSet<PackId> = packs.map(|pack| pack.pack).collect();
    for (block, places) in content.salvage.iter().chain(content.heal.values().flatten()) {
        let copies = repository.index().find_named(block);
        let is_there = places.iter().all(|&place| {
            copies.iter().any(|it| it.row.has_place(place) && packs.contains(&it.pack.pack))
        });
        if !is_there {
            return Err(Error::bug(format!("block {} was not copied", block.short())));
        }
    }
    Ok(())
}

/// Reads a copy that has all of the places, whichever that is; every blob is verified.
fn copy(repository: &Repository, block: &BlockId, places: &[u32]) -> Result<EncodedBlock> {
    repository.with_copy(block, &mut |location| {
        if !places.iter().all(|&place| location.row.has_place(place)) {
            return Err(Error::corrupt("places are not in this copy of the block"));
        }
        rescue::encode_copy(repository, location, &|place| places.contains(&place))
    })
}

/// Takes places out of a pack that was healed in memory; every blob is verified.
fn copy_healed(
    repository: &Repository,
    pack: &PackId,
    bytes: &[u8],
    block: &BlockId,
    places: &[u32],
) -> Result<EncodedBlock> {
    let copies = repository.index().find(block);
    let has_them = |copy: &&Location| {
        copy.pack.pack == *pack && places.iter().all(|&place| copy.row.has_place(place))
    };
    let copy = copies.iter().find(has_them).ok_or_else(|| {
        Error::corrupt(format!("block {} is not in its pack any more", block.short()))
    })?;
    rescue::encode_copy_in(repository, copy, bytes, &|place| places.contains(&place))
}

fn declare(
    repository: &Repository,
    lost: &BTreeMap<BlockId, BTreeSet<u32>>,
    context: &Context<'_>,
) -> Result<()> {
    let written = context.clock.now();
    let mut record = LostRecord { blocks: Vec::new(), places: Vec::new(), written };
    let mut places_total = 0;
    for (block, places) in lost {
        record.blocks.extend_from_slice(block.as_bytes());
        record.places.push(places.iter().copied().collect());
        places_total += places.len();
        if record.places.len() >= BLOCKS_PER_RECORD || places_total >= PLACES_PER_RECORD {
            put_record(repository, &record)?;
            record = LostRecord { blocks: Vec::new(), places: Vec::new(), written };
            places_total = 0;
        }
    }
    if record.places.is_empty() { Ok(()) } else { put_record(repository, &record) }
}

fn put_record(repository: &Repository, record: &LostRecord) -> Result<()> {
    let key = layout::lost(&TombstoneId::new(sys::random()?))?;
    repository.store().put(ObjectKind::Lost, &key, record)
}
