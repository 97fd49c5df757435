//! How thoroughly cases are gone through: some of them in each `cargo test`, others with another
//! seed, and so many times as many as thousands of states are asked for.

use crate::crash::number;
use crate::support::random::Random;

pub(super) struct Depth {
    times: usize,
    seed: u64,
}

impl Depth {
    pub(super) fn asked() -> Self {
        Depth {
            times: 1 + number("ICECORE_CRASH_STATES").unwrap_or(0) / 1000,
            seed: number("ICECORE_CRASH_SEED").unwrap_or(0) as u64,
        }
    }

    /// Says whether more is asked for than an ordinary run.
    pub(super) fn is_deep(&self) -> bool {
        self.times > 1
    }

    /// Returns numbers below `total`: `some` that are spread over them, or a multiple of that.
    pub(super) fn spread(&self, total: usize, some: usize, nth: usize) -> Vec<usize> {
        let most = some * self.times;
        if total <= most {
            return (0..total).collect();
        }
        let mut random = Random(self.seed.wrapping_mul(1000) + nth as u64);
        let one_of = |part: usize| {
            let (first, end) = (part * total / most, (part + 1) * total / most);
            first + random.below((end - first) as u64) as usize
        };
        (0..most).map(one_of).collect()
    }
}
