//! One bit for each selected entry, by its position: which ones were restored.
//!
//! What `verify` reads back is told from what was kept or failed by this alone; a hundred
//! million entries take 12 MB.

/// A growing row of bits, all 0 at first.
#[derive(Debug, Default)]
pub(super) struct Bits(Vec<u64>);

impl Bits {
    /// Makes the bit at a position 1.
    pub(super) fn set(&mut self, position: u64) {
        let word = (position / 64) as usize;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (position % 64);
    }

    /// Makes the bit at a position 0.
    pub(super) fn clear(&mut self, position: u64) {
        if let Some(word) = self.0.get_mut((position / 64) as usize) {
            *word &= !(1 << (position % 64));
        }
    }

    /// Returns the bit at a position.
    pub(super) fn get(&self, position: u64) -> bool {
        let word = self.0.get((position / 64) as usize);
        word.is_some_and(|word| word >> (position % 64) & 1 == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bit_that_was_set_is_found_and_no_other() {
        let mut bits = Bits::default();
        bits.set(3);
        bits.set(4);
        bits.set(130);
        bits.clear(4);
        bits.clear(5000);

        let found: Vec<u64> = (0..300).filter(|&n| bits.get(n)).collect();

        assert_eq!(found, [3, 130]);
    }
}
