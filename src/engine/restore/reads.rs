//! Plans the reading of a window: by block, blocks by pack, neighbours in one read. Pure.

use crate::base::id::PackId;
use crate::base::limits::RESTORE_GAP_BYTES;
use crate::engine::restore::window::Use;
use std::ops::Range;

/// Reads that each thread should find in a window, so that none waits long for the last one.
const READS_PER_THREAD: u64 = 4;

/// Where the stored bytes of a wanted block stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Spot {
    pub(crate) pack: PackId,
    pub(crate) start: u64,
    pub(crate) end: u64,
}

/// Sorts uses by block, file and offset, and returns the stretch of each block.
pub(super) fn by_block(uses: &mut [Use]) -> Vec<Range<usize>> {
    uses.sort_unstable_by_key(|one| (one.block, one.file, one.offset));
    let mut blocks = Vec::new();
    let mut start = 0;
    for group in uses.chunk_by(|a, b| a.block == b.block) {
        blocks.push(start..start + group.len());
        start += group.len();
    }
    blocks
}

/// Returns the stretches of `within` that belong to one file each.
pub(super) fn by_file(uses: &[Use], within: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let mut start = within.start;
    uses[within].chunk_by(|a, b| a.file == b.file).map(move |group| {
        let range = start..start + group.len();
        start = range.end;
        range
    })
}

/// Returns how long a read should be: as long as allowed, unless threads would have none.
pub(crate) fn read_bytes(spots: &[Spot], threads: usize, bytes_max: u64) -> u64 {
    let total: u64 = spots.iter().map(|spot| spot.end - spot.start).sum();
    let share = total / (threads.max(1) as u64 * READS_PER_THREAD);
    share.clamp(1, bytes_max)
}

/// Joins neighbours, of spots sorted by pack and start, into reads of up to `bytes_max`; a
/// block that is longer is a read of its own.
pub(crate) fn joined(spots: &[Spot], bytes_max: u64) -> Vec<Range<usize>> {
    let mut reads: Vec<Range<usize>> = Vec::new();
    for (number, spot) in spots.iter().enumerate() {
        if let Some(read) = reads.last_mut() {
            let (first, last) = (&spots[read.start], &spots[read.end - 1]);
            let fits = first.pack == spot.pack
                && spot.end.saturating_sub(first.start) <= bytes_max
                && spot.start.saturating_sub(last.end) <= RESTORE_GAP_BYTES;
            if fits {
                read.end += 1;
                continue;
            }
        }
        reads.push(number..number + 1);
    }
    reads
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::BlockId;

    fn one(block: u8, file: u32, offset: u64) -> Use {
        Use { block: BlockId::new([block; 32]), first: 0, count: 1, file, offset, bytes: 1 }
    }

    fn spot(pack: u8, start: u64, end: u64) -> Spot {
        Spot { pack: PackId::new([pack; 32]), start, end }
    }

    #[test]
    fn uses_come_together_by_block_and_then_by_file() {
        let mut uses = [one(2, 0, 0), one(1, 1, 5), one(2, 1, 0), one(1, 1, 2), one(1, 0, 9)];

        let blocks = by_block(&mut uses);

        assert_eq!(blocks, [0..3, 3..5]);
        let order: Vec<_> = uses.iter().map(|one| (one.file, one.offset)).collect();
        assert_eq!(order, [(0, 9), (1, 2), (1, 5), (0, 0), (1, 0)]);
        assert_eq!(by_file(&uses, 0..3).collect::<Vec<_>>(), [0..1, 1..3]);
        assert_eq!(by_file(&uses, 3..5).collect::<Vec<_>>(), [3..4, 4..5]);
    }

    #[test]
    fn neighbours_are_read_together_up_to_a_bound() {
        let far = 60 + RESTORE_GAP_BYTES + 1;
        let spots = [
            spot(1, 0, 10),
            spot(1, 10, 40),
            spot(1, 50, 60),
            spot(1, far, far + 5),
            spot(2, far + 5, far + 9),
            spot(2, far + 9, far + 500),
        ];

        assert_eq!(joined(&spots, 100), [0..3, 3..4, 4..5, 5..6]);
        assert_eq!(joined(&spots, 45), [0..2, 2..3, 3..4, 4..5, 5..6]);
        assert_eq!(joined(&spots, 1), (0..6).map(|n| n..n + 1).collect::<Vec<_>>());
    }

    #[test]
    fn a_small_window_is_shared_among_the_threads() {
        let spots: Vec<Spot> = (0..16).map(|n| spot(1, n * 100, n * 100 + 100)).collect();

        assert_eq!(read_bytes(&spots, 2, 1 << 20), 200);
        assert_eq!(joined(&spots, read_bytes(&spots, 2, 1 << 20)).len(), 8);
        assert_eq!(read_bytes(&spots, 2, 50), 50);
        assert_eq!(read_bytes(&[], 2, 50), 1);
    }
}
