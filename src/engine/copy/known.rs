//! Runs of the source whose place in the target is known without a look at their content.

use crate::base::error::Result;
use crate::base::id::BlockId;
use crate::base::limits::COPY_BLOCKS_KEPT_MAX;
use crate::engine::copy::hints::Hints;
use crate::format::entry::Run;
use crate::repository::lost::LostPlaces;
use crate::repository::names::NamePlace;
use crate::repository::transaction::Known;
use crate::repository::transaction::Transaction;
use std::collections::HashMap;

/// Blocks that the backup at hand has taken over whole: local number, and id in the target.
pub(super) type Taken = HashMap<BlockId, (u32, BlockId)>;

/// Blocks that backups copied before have taken over whole, by their ids on both sides.
#[derive(Debug, Default)]
pub(super) struct Carried(HashMap<BlockId, BlockId>);

impl Carried {
    /// Remembers blocks of a backup that was committed.
    pub(super) fn remember(&mut self, blocks: impl Iterator<Item = (BlockId, BlockId)>) {
        if self.0.len() >= COPY_BLOCKS_KEPT_MAX {
            self.0.clear();
        }
        self.0.extend(blocks);
    }
}

/// What can be asked for a run.
pub(super) struct Lookup<'a> {
    pub(super) transaction: &'a Transaction,
    pub(super) lost: &'a LostPlaces,
    pub(super) carried: &'a Carried,
    /// Whether both repositories give one block the same id: neither is encrypted.
    pub(super) same_names: bool,
}

impl Lookup<'_> {
    /// Returns where a run is in the target.
    ///
    /// # Errors
    /// Those of the target.
    pub(super) fn find(&self, run: &Run, hints: &Hints, taken: &Taken) -> Result<Option<Known>> {
        if let Some((number, _)) = taken.get(&run.block) {
            let place = NamePlace { number: *number, place: run.first };
            return Ok(Some(Known::Written(place)));
        }
        // The parent, which the lease pins, has it.
        if let Some((block, first)) = hints.find(run)
            && !self.lost.touches_run(&Run { block, first, ..*run })
        {
            return Ok(Some(Known::Stored(block, first)));
        }
        let carried = self.carried.0.get(&run.block).copied();
        let same = self.same_names.then_some(run.block);
        for block in carried.into_iter().chain(same) {
            let there = Run { block, ..*run };
            if !self.lost.touches_run(&there) && self.transaction.may_lean_on_run(&there)? {
                return Ok(Some(Known::Stored(block, run.first)));
            }
        }
        Ok(None)
    }
}
