//! No cuts: one chunk per file, for small files, in which a cut would cost more than it saves.

use crate::base::limits::CHUNK_BYTES_MAX;
use crate::chunk::fixed;
use std::ops::Range;

/// Shows one range over all of `length`, or several when a file that grew since its cut was
/// chosen exceeds what one chunk may hold.
pub fn cut(length: usize, visit: impl FnMut(Range<usize>)) {
    fixed::cut(length, CHUNK_BYTES_MAX.ilog2() as u8, visit);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_one_chunk_up_to_the_limit() {
        let mut seen = Vec::new();
        cut(CHUNK_BYTES_MAX, |range| seen.push(range));
        cut(CHUNK_BYTES_MAX + 1, |range| seen.push(range));
        cut(0, |range| seen.push(range));

        let limit = CHUNK_BYTES_MAX;
        assert_eq!(seen, [0..limit, 0..limit, limit..limit + 1]);
    }
}
