//! Cuts at multiples of a length, for images and database pages, which change in place.

use std::ops::Range;

/// Shows ranges of 2^`length_log2` bytes that cover `length`; the last one may be shorter.
pub fn cut(length: usize, length_log2: u8, mut visit: impl FnMut(Range<usize>)) {
    let step = 1_usize << length_log2;
    let mut start = 0;
    while start < length {
        let end = length.min(start + step);
        visit(start..end);
        start = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_equal_but_the_last() {
        let mut seen = Vec::new();
        cut(10_000, 12, |range| seen.push(range));
        assert_eq!(seen, [0..4096, 4096..8192, 8192..10_000]);
    }
}
