//! What a restore has put on another machine and does not remember by name, in a size that does not
//! grow: it says no for sure and yes perhaps, so that only what was put is asked for once more.
//!
//! A Bloom filter of four bits a path. Of a million paths one in five hundred others is taken for one
//! of them, of four million one in seven; that costs a question and is never wrong.

use crate::base::limits::TARGET_FORGOTTEN_BITS;
use std::hash::DefaultHasher;
use std::hash::Hash;
use std::hash::Hasher;

/// Bits of one path.
const BITS_EACH: u64 = 4;

/// Paths that were put, without what they are.
#[derive(Default)]
pub(super) struct Forgotten {
    /// Nothing is allocated before the first path.
    words: Vec<u64>,
}

/// Returns the bits of a path, by two halves of one hash.
fn bits(path: &[u8]) -> impl Iterator<Item = u64> {
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    let hash = hasher.finish();
    let (first, step) = (hash >> 32, hash | 1);
    (0..BITS_EACH).map(move |it| first.wrapping_add(step.wrapping_mul(it)) % TARGET_FORGOTTEN_BITS)
}

impl Forgotten {
    /// Notes a path.
    pub(super) fn put(&mut self, path: &[u8]) {
        if self.words.is_empty() {
            self.words.resize(TARGET_FORGOTTEN_BITS.div_ceil(64) as usize, 0);
        }
        bits(path).for_each(|bit| self.words[(bit / 64) as usize] |= 1 << (bit % 64));
    }

    /// Says whether a path was noted; yes is a guess.
    pub(super) fn may_have(&self, path: &[u8]) -> bool {
        let is_set = |bit| self.words[(bit / 64) as usize] >> (bit % 64) & 1 == 1;
        !self.words.is_empty() && bits(path).all(is_set)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_is_known_and_of_other_paths_nearly_none() {
        let mut forgotten = Forgotten::default();
        let path = |number: u64| format!("folder/file {number}").into_bytes();
        assert!(!forgotten.may_have(&path(0)));
        (0..1_000_000).for_each(|number| forgotten.put(&path(number)));
        assert!((0..1_000_000).all(|number| forgotten.may_have(&path(number))));
        let others = (1_000_000..1_100_000).filter(|&it| forgotten.may_have(&path(it))).count();
        assert!((1..1000).contains(&others), "{others} of 100 000");
    }
}
