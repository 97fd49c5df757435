//! Compares how long a run says it is with the lengths in its block's table.
//!
//! A reader that skips within a file goes by what runs tell, and a header's writer could have
//! told wrongly. It needs the tables, so it is done where packs are read as well: one read for
//! each block, kept for its neighbours.

use crate::base::path::EntryPath;
use crate::engine::check::rows::Trouble;
use crate::engine::check::stock::Stock;
use crate::format::block::Table;
use crate::format::entry::Run;
use crate::repository::Repository;
use std::sync::Arc;

/// Returns what is wrong with a run whose places can all be had.
pub(crate) fn compare(
    repository: &Repository,
    stock: &Stock,
    run: &Run,
    path: &EntryPath,
) -> Option<Trouble> {
    let told = run.bytes;
    let found = total(repository, stock, run)?;
    let why = format!("a run of {path} tells of {told} bytes, and its blobs have {found}");
    (found != told).then(|| Trouble::damage(format!("block {}", run.block), why, Some(path)))
}

/// Adds the lengths up, each from a copy that has the place. None when a table cannot be read:
/// reading the packs has told of that.
fn total(repository: &Repository, stock: &Stock, run: &Run) -> Option<u64> {
    let places = run.first..run.first.checked_add(run.count)?;
    let shared = repository.table(&run.block).ok()?;
    if let Some(total) = sum(&shared, places.clone()) {
        return Some(total);
    }
    // Copies that each lack some places.
    let mut tables: Vec<Arc<Table>> = vec![shared];
    for copy in repository.index().find(&run.block) {
        if stock.has(&copy.pack.pack) {
            tables.extend(repository.read_table(&copy).ok());
        }
    }
    let length = |place: u32| tables.iter().find_map(|table| table.locate(place));
    places.map(|place| length(place).map(|at| u64::from(at.length))).sum()
}

fn sum(table: &Table, mut places: std::ops::Range<u32>) -> Option<u64> {
    places.try_fold(0, |sum, place| Some(sum + u64::from(table.locate(place)?.length)))
}
