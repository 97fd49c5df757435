//! Where runs of a file's former version lie in the target: the same content stands on both sides,
//! so that where two runs begin and end together, their places are the same ones.

use crate::base::id::BlockId;
use crate::base::limits::COPY_HINTS_MAX;
use crate::format::entry::Run;
use std::collections::HashMap;

/// A stretch of places of a block of the source, and where they are in the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pair {
    first: u32,
    count: u32,
    block: BlockId,
    place: u32,
}

/// What the former version of one file tells.
#[derive(Debug, Default)]
pub(super) struct Hints {
    pairs: HashMap<BlockId, Vec<Pair>>,
}

impl Hints {
    /// Lays the runs of both sides beside each other.
    pub(super) fn between(source: &[Run], target: &[Run]) -> Self {
        let mut hints = Hints::default();
        let (mut source, mut target) = (source.iter().peekable(), target.iter().peekable());
        let (mut here, mut there, mut count) = (0, 0, 0);
        while let (Some(a), Some(b)) = (source.peek(), target.peek())
            && count < COPY_HINTS_MAX
        {
            if here == there && (a.bytes, a.count) == (b.bytes, b.count) {
                let pair = Pair { first: a.first, count: a.count, block: b.block, place: b.first };
                hints.pairs.entry(a.block).or_default().push(pair);
                count += 1;
            }
            let (after_a, after_b) = (here + a.bytes, there + b.bytes);
            if after_a <= after_b {
                here = after_a;
                source.next();
            }
            if after_b <= after_a {
                there = after_b;
                target.next();
            }
        }
        hints
    }

    /// Returns where a run lies in the target, if all of it is known.
    pub(super) fn find(&self, run: &Run) -> Option<(BlockId, u32)> {
        let within = |pair: &&Pair| {
            run.first.checked_sub(pair.first).is_some_and(|skipped| {
                u64::from(skipped) + u64::from(run.count) <= u64::from(pair.count)
            })
        };
        let pair = self.pairs.get(&run.block)?.iter().find(within)?;
        Some((pair.block, pair.place.checked_add(run.first - pair.first)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(block: u8, first: u32, count: u32, bytes: u64) -> Run {
        Run { block: BlockId::new([block; 32]), first, count, bytes }
    }

    #[test]
    fn runs_that_lie_beside_each_other_are_the_same() {
        let here = [run(1, 5, 10, 100), run(2, 0, 3, 30), run(3, 0, 1, 10), run(4, 2, 1, 9)];
        let there = [run(11, 0, 10, 100), run(12, 7, 2, 20), run(12, 40, 2, 20), run(13, 1, 1, 9)];

        let hints = Hints::between(&here, &there);

        let at = |block: u8, place: u32| Some((BlockId::new([block; 32]), place));
        assert_eq!(hints.find(&run(1, 5, 10, 100)), at(11, 0));
        assert_eq!(hints.find(&run(1, 7, 2, 20)), at(11, 2));
        assert_eq!(hints.find(&run(4, 2, 1, 9)), at(13, 1), "they are together again");
        for unknown in [run(1, 4, 2, 20), run(1, 14, 2, 20), run(2, 0, 3, 30), run(9, 0, 1, 1)] {
            assert_eq!(hints.find(&unknown), None, "{unknown:?}");
        }
    }

    #[test]
    fn as_many_bytes_in_other_pieces_are_no_hint() {
        let hints = Hints::between(&[run(1, 0, 2, 20)], &[run(2, 0, 3, 20)]);
        assert_eq!(hints.find(&run(1, 0, 2, 20)), None);
    }
}
