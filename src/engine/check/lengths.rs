//! Compares how long a run says it is with the lengths in its block's table.
//!
//! A reader that skips within a file goes by what runs tell, and a header's writer could have
//! told wrongly. It needs the tables, so it is done where packs are read as well: one read for
//! each block, kept for its neighbours.

use crate::base::error::Result;
use crate::base::path::EntryPath;
use crate::engine::check::damage_of;
use crate::engine::check::rows::Trouble;
use crate::engine::check::stock::Stock;
use crate::format::block::Table;
use crate::format::entry::Run;
use crate::repository::Repository;
use std::sync::Arc;

/// Returns what is wrong with a run whose places can all be had.
///
/// # Errors
/// Only those that concern more than one object.
pub(crate) fn compare(
    repository: &Repository,
    stock: &Stock,
    run: &Run,
    path: &EntryPath,
) -> Result<Option<Trouble>> {
    let told = run.bytes;
    let why = match total(repository, stock, run) {
        Ok(Some(found)) if found != told => {
            format!("a run of {path} tells of {told} bytes, and its blobs have {found}")
        }
        Ok(_) => return Ok(None),
        // The packs were sound when they were read, or were not read.
        Err(e) => format!("its table cannot be read: {}", damage_of(e)?.full_message()),
    };
    Ok(Some(Trouble::damage(format!("block {}", run.block), why, Some(path))))
}

/// Adds the lengths up, each from a copy that has the place; None where no copy does.
fn total(repository: &Repository, stock: &Stock, run: &Run) -> Result<Option<u64>> {
    let Some(end) = run.first.checked_add(run.count) else { return Ok(None) };
    let places = run.first..end;
    let shared = repository.table(&run.block)?;
    if let Some(total) = sum(&shared, places.clone()) {
        return Ok(Some(total));
    }
    // Copies that each lack some places.
    let mut tables: Vec<Arc<Table>> = vec![shared];
    let mut failed = None;
    for copy in repository.index().find(&run.block) {
        if stock.has(&copy.pack.pack) {
            match repository.read_table(&copy) {
                Ok(table) => tables.push(table),
                Err(e) => failed = Some(e),
            }
        }
    }
    let length = |place: u32| tables.iter().find_map(|table| table.locate(place));
    let total: Option<u64> = places.map(|place| length(place).map(|at| u64::from(at.length))).sum();
    match (total, failed) {
        (None, Some(e)) => Err(e),
        (total, _) => Ok(total),
    }
}

fn sum(table: &Table, mut places: std::ops::Range<u32>) -> Option<u64> {
    places.try_fold(0, |sum, place| Some(sum + u64::from(table.locate(place)?.length)))
}
