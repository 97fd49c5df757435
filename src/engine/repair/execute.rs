//! Performs a plan, in the order in which a kill leaves copies too many and never too few.

use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::id::BlockId;
use crate::base::id::IndexId;
use crate::base::id::LeaseId;
use crate::base::id::TombstoneId;
use crate::base::sys;
use crate::codec::frame::ObjectKind;
use crate::engine::Context;
use crate::engine::repair::RepairPlan;
use crate::engine::repair::look::Footer;
use crate::engine::repair::small;
use crate::format::dataset::LostRecord;
use crate::format::pack::BlockRow;
use crate::format::pack_index::IndexedPack;
use crate::repository::Repository;
use crate::repository::doom;
use crate::repository::layout;
use crate::repository::rescue::Copier;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// Packs that one new index object names; as many as a record of a few MB holds.
const PACKS_PER_INDEX: usize = 1000;
/// Blocks that one record of lost places names, so that it stays within what a reader accepts.
const BLOCKS_PER_RECORD: usize = 4096;
/// Places that one record of lost places names at most.
const PLACES_PER_RECORD: usize = 256 * 1024;
/// Packs that one tombstone names.
const PACKS_PER_TOMBSTONE: usize = 10_000;
/// What is put by a repair is put under no lease, as by a prune.
const NO_LEASE: LeaseId = LeaseId::new([0; 16]);

/// Performs all of a plan.
pub(super) fn all(repository: &Repository, plan: &RepairPlan, context: &Context<'_>) -> Result<()> {
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
    salvage(repository, &content.salvage, context)?;
    declare(repository, &content.lost, context)?;
    // What is doomed from here on is needed no more.
    context.cancel.check()?;
    let now = context.clock.now();
    for packs in content.doom.chunks(PACKS_PER_TOMBSTONE) {
        doom::put_tombstone(repository, packs, &[], now)?;
    }
    if !doomed.is_empty() {
        doom::put_tombstone(repository, &[], &doomed, now)?;
    }
    small::execute(repository, &plan.small, context)
}

/// Puts an index object and reads it back: it must name just these packs and rows.
fn put_index(repository: &Repository, footers: &[Footer]) -> Result<()> {
    let (store, cache, index) = (repository.store(), repository.cache(), repository.index());
    let packs: Vec<IndexedPack> = footers.iter().map(|(pack, _)| *pack).collect();
    let numbered = footers.iter().enumerate();
    let rows: Vec<(u32, &BlockRow)> =
        numbered.flat_map(|(n, (_, rows))| rows.iter().map(move |row| (n as u32, row))).collect();
    let (id, _) = index.put(store, cache, NO_LEASE, &packs, &rows)?;
    if index.proves(store, &id, &packs, &rows)? {
        return Ok(());
    }
    let message = format!("pack index {} does not hold what was put into it", id.short());
    Err(Error::corrupt(message).hint("nothing was doomed; repair it again"))
}

/// Copies places to new packs, and proves that an index names them there.
fn salvage(
    repository: &Repository,
    places: &[(BlockId, Vec<u32>)],
    context: &Context<'_>,
) -> Result<()> {
    if places.is_empty() {
        return Ok(());
    }
    let mut copier = Copier::new(repository, NO_LEASE)?;
    for (block, places) in places {
        context.cancel.check()?;
        copier.copy(block, places)?;
    }
    let packs = copier.finish()?;
    for (block, places) in places {
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
