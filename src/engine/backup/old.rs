//! What the backup before holds of a file that is read again: where its chunks are, and which
//! blocks it should not lean on any more.
//!
//! A large file of which a little changes each time comes to lie in the blocks of very many
//! backups, and ever less of each is still wanted, yet a restore has to decode all of them. So
//! once the blocks of a file hold more than [`FILE_SPREAD_PERCENT_MAX`] of what it needs, the
//! chunks in those that hold least of it are stored again with what is new, as few as bring it
//! back to that. What it costs is told in the decisions.

use crate::base::error::Result;
use crate::base::id::BlobId;
use crate::base::id::BlockId;
use crate::base::limits::FILE_SPREAD_BYTES_MIN;
use crate::base::limits::FILE_SPREAD_PERCENT_MAX;
use crate::format::entry::Run;
use crate::format::entry::TrackedEntry;
use crate::repository::Repository;
use crate::repository::lost::LostPlaces;
use crate::repository::transaction::Known;
use crate::repository::transaction::Transaction;
use crate::source::SourceEntry;
use std::collections::HashMap;
use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

/// Blocks that a file should not lean on.
pub(super) type Shunned = Arc<HashSet<BlockId>>;

/// What one worker knows of the file at hand.
#[derive(Default)]
pub(super) struct Old {
    /// Where to look for a chunk first; None when it should be stored again.
    places: HashMap<BlobId, Option<(BlockId, u32)>>,
    shunned: Shunned,
}

impl Old {
    /// Starts with a file of which nothing is known but what it should not lean on.
    pub(super) fn start(&mut self, shunned: Shunned) {
        self.places.clear();
        self.shunned = shunned;
    }

    /// Learns where the chunks of an older version are, for its bytes within `window`.
    pub(super) fn learn(
        &mut self,
        repository: &Repository,
        lost: &LostPlaces,
        runs: &[Run],
        window: Range<u64>,
    ) {
        let mut offset = 0;
        let is_near = |run: &&Run| {
            let start = offset;
            offset += run.bytes;
            offset > window.start && start < window.end
        };
        let near: Vec<&Run> = runs.iter().filter(is_near).collect();
        repository.bring_tables(near.iter().map(|run| &run.block));
        for run in near {
            // A table that cannot be read gives no hints: its blobs are stored again.
            let Ok(table) = repository.table_at_hand(&run.block) else { continue };
            let is_shunned = self.shunned.contains(&run.block);
            for place in run.first..run.first.saturating_add(run.count) {
                match table.locate(place) {
                    Some(at) if is_shunned => _ = self.places.entry(at.blob).or_insert(None),
                    Some(at) if !lost.contains(&run.block, place) => {
                        self.places.insert(at.blob, Some((run.block, place)));
                    }
                    _ => {}
                }
            }
        }
    }

    /// Returns where a chunk is that may be leaned on.
    ///
    /// # Errors
    /// Those of the repository.
    pub(super) fn find(&self, transaction: &Transaction, blob: &BlobId) -> Result<Option<Known>> {
        match self.places.get(blob) {
            Some(&Some((block, place))) => Ok(Some(Known::Stored(block, place))),
            // Not even where it was once before: that block was left for the same reason.
            Some(None) => transaction.look_up(blob, &|_| false),
            None => transaction.look_up(blob, &|block| !self.shunned.contains(block)),
        }
    }
}

/// What a file has of one block.
#[derive(Debug)]
struct Share {
    block: BlockId,
    used: u64,
    /// What the block holds in all.
    plain: u64,
}

/// Returns the blocks that a file should not lean on, given the runs it had before. A block that
/// cannot be found says nothing.
pub(super) fn shunned(
    repository: &Repository,
    before: Option<&TrackedEntry>,
    now: &SourceEntry,
    runs: &[Run],
) -> Shunned {
    let bytes: u64 = runs.iter().map(|run| run.bytes).sum();
    // One that is only read again has to come out as it was.
    let is_changed = before.is_some_and(|before| {
        before.entry.size() != now.size || before.entry.metadata.mtime != now.metadata.mtime
    });
    if !is_changed || bytes < FILE_SPREAD_BYTES_MIN {
        return Shunned::default();
    }
    let mut used: HashMap<BlockId, u64> = HashMap::new();
    for run in runs {
        *used.entry(run.block).or_default() += run.bytes;
    }
    let share = |(block, used): (BlockId, u64)| {
        let locations = repository.locate_block(&block).ok()?;
        let plain = locations.iter().map(|location| u64::from(location.row.plain_length)).max()?;
        // One that says the same again and again has more of it than there is.
        Some(Share { block, used: used.min(plain), plain })
    };
    Arc::new(too_spread(used.into_iter().filter_map(share).collect()))
}

/// Returns those of which least is used, as few as bring down what has to be decoded.
fn too_spread(mut shares: Vec<Share>) -> HashSet<BlockId> {
    let used: u64 = shares.iter().map(|share| share.used).sum();
    let mut decoded: u64 = shares.iter().map(|share| share.plain).sum();
    let limit = used.saturating_mul(FILE_SPREAD_PERCENT_MAX) / 100;
    // By the part that is used: used / plain, without a division.
    shares.sort_by(|a, b| {
        let (a, b) = ((a, b), (b, a));
        let product =
            |(one, other): (&Share, &Share)| u128::from(one.used) * u128::from(other.plain);
        product(a).cmp(&product(b))
    });
    let mut shunned = HashSet::new();
    for share in shares {
        if decoded <= limit {
            break;
        }
        decoded = decoded - share.plain + share.used;
        shunned.insert(share.block);
    }
    shunned
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(block: u8, used: u64, plain: u64) -> Share {
        Share { block: BlockId::new([block; 32]), used, plain }
    }

    fn shunned(shares: &[(u8, u64, u64)]) -> Vec<u8> {
        let shares = shares.iter().map(|&(block, used, plain)| share(block, used, plain));
        let found = too_spread(shares.collect());
        let mut blocks: Vec<u8> = found.iter().map(|block| block.as_bytes()[0]).collect();
        blocks.sort_unstable();
        blocks
    }

    #[test]
    fn blocks_that_hold_little_that_is_not_wanted_are_all_leaned_on() {
        assert!(shunned(&[(1, 100, 100), (2, 1, 72), (3, 1, 4)]).is_empty());
        assert!(shunned(&[]).is_empty());
    }

    #[test]
    fn those_of_which_least_is_wanted_go_first_and_no_more_than_must() {
        let shares = [(1, 100, 100), (2, 30, 200), (3, 10, 200), (4, 60, 100)];

        // 600 for 200; without the third block 410, without the second too 240.
        assert_eq!(shunned(&shares), [2, 3]);
        assert_eq!(shunned(&[(1, 100, 100), (2, 30, 100), (3, 10, 100)]), [3]);
    }
}
