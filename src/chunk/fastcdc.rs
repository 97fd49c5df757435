//! Content-defined cuts: a gear hash rolls over the bytes and cuts where its bits say so.
//!
//! The method is FastCDC as published in 2020 (W. Xia et al., IEEE TPDS 31), with these choices,
//! all part of the stored format:
//!
//! - A chunk is at least a quarter of the average (and 2 KiB), at most four averages.
//! - Normalisation: up to the average, two bits more than log2(average) have to be zero, beyond
//!   it two fewer. So most chunks lie near the average.
//! - The tested bits are the highest of the hash, which depend on the most bytes: the last 64.
//!   The hash is warmed up over the 64 bytes before the shortest chunk's end, so a
//!   cut depends on the content around it alone and not on where the chunk began: cuts fall back
//!   into step at the first common one after a change.
//!
//! ```text
//!   start      min-64   min             average            max
//!     |  skipped  | warm |  strict mask    |  loose mask    | forced
//! ```
//!
//! An own loop and not the `fastcdc` crate's, which cannot warm up and wants a second table for
//! the first of two bytes. Both run as fast: 2.6 GB/s at 8 KiB and 3.0 GB/s at 512 KiB on random
//! bytes with one thread; a loop of single bytes reaches 2.1 and 2.3.

use crate::base::hash;
use crate::base::limits::CHUNK_BYTES_MAX;
use crate::base::limits::KIB;
use std::fmt;
use std::ops::Range;

/// Names the public table; the number counts versions of the format.
const PUBLIC_CONTEXT: &str = "icecore 2026-11-20 public gear table 1";
/// Names tables that belong to one repository.
const SECRET_CONTEXT: &str = "icecore 2026-11-20 secret gear table 1";
/// No chunk but the last of a piece is shorter: a place in a table costs some 20 bytes, 36 without
/// encryption.
const CHUNK_BYTES_MIN: usize = KIB / 2;
/// A byte leaves the hash after so many more.
const WINDOW_BYTES: usize = 64;
/// How many bits the two masks differ from the logarithm of the average.
const NORMALISATION_BITS: u8 = 2;

/// A random number for each byte; decides where cuts fall.
///
/// In an encrypted repository the whole table is derived from a secret, as cut positions under a
/// known table (or a known one with a secret added) tell which files are stored.
#[derive(Clone, PartialEq, Eq)]
pub struct GearTable(Box<[u64; 256]>);

impl GearTable {
    /// Returns the table of repositories without encryption.
    pub fn public() -> Self {
        GearTable::derive(PUBLIC_CONTEXT, &[])
    }

    /// Returns the table of a repository with this secret.
    pub fn from_secret(secret: &[u8; 32]) -> Self {
        GearTable::derive(SECRET_CONTEXT, secret)
    }

    fn derive(context: &'static str, material: &[u8]) -> Self {
        let mut bytes = [0_u8; 256 * 8];
        hash::derive_into(context, material, &mut bytes);
        let mut table = Box::new([0; 256]);
        for (value, bytes) in table.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *value = u64::from_le_bytes(*bytes);
        }
        GearTable(table)
    }
}

impl fmt::Debug for GearTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GearTable(..)")
    }
}

/// Bounds and masks of one average.
struct Shape {
    min: usize,
    average: usize,
    max: usize,
    strict: u64,
    loose: u64,
}

impl Shape {
    fn new(average_log2: u8) -> Self {
        let average = 1_usize << average_log2;
        Shape {
            min: (average / 4).max(CHUNK_BYTES_MIN),
            average,
            max: (average * 4).min(CHUNK_BYTES_MAX),
            strict: mask(average_log2 + NORMALISATION_BITS),
            loose: mask(average_log2 - NORMALISATION_BITS),
        }
    }
}

/// The highest `bits` bits, which depend on the most bytes before.
fn mask(bits: u8) -> u64 {
    u64::MAX << (64 - bits)
}

/// Shows the chunks of `data` with the given average.
pub fn cut(data: &[u8], average_log2: u8, gear: &GearTable, mut visit: impl FnMut(Range<usize>)) {
    let shape = Shape::new(average_log2);
    let mut start = 0;
    while start < data.len() {
        let end = start + first_chunk(&data[start..], &shape, &gear.0);
        visit(start..end);
        start = end;
    }
}

/// Returns the length of the first chunk of `data`, which is not empty.
fn first_chunk(data: &[u8], shape: &Shape, gear: &[u64; 256]) -> usize {
    if data.len() <= shape.min {
        return data.len();
    }
    let end = data.len().min(shape.max);
    let middle = end.min(shape.average);
    let warm = data[shape.min - WINDOW_BYTES..shape.min].iter();
    let hash = warm.fold(0_u64, |hash, &byte| (hash << 1).wrapping_add(gear[usize::from(byte)]));
    match scan(&data[shape.min..middle], hash, shape.strict, gear) {
        Scan::Cut(length) => shape.min + length,
        Scan::End(hash) => match scan(&data[middle..end], hash, shape.loose, gear) {
            Scan::Cut(length) => middle + length,
            Scan::End(_) => end,
        },
    }
}

enum Scan {
    /// Cut after so many bytes.
    Cut(usize),
    /// No cut; the hash at the end.
    End(u64),
}

/// Rolls over `data` until the masked bits are zero. Two bytes are added in one step, so that the
/// long way from hash to hash is one shift and one sum for both.
#[inline]
fn scan(data: &[u8], mut hash: u64, mask: u64, gear: &[u64; 256]) -> Scan {
    let (pairs, rest) = data.as_chunks::<2>();
    for (index, &[one, two]) in pairs.iter().enumerate() {
        let (one, two) = (gear[usize::from(one)], gear[usize::from(two)]);
        let between = (hash << 1).wrapping_add(one);
        hash = (hash << 2).wrapping_add((one << 1).wrapping_add(two));
        if between & mask == 0 {
            return Scan::Cut(2 * index + 1);
        }
        if hash & mask == 0 {
            return Scan::Cut(2 * index + 2);
        }
    }
    for &byte in rest {
        hash = (hash << 1).wrapping_add(gear[usize::from(byte)]);
        if hash & mask == 0 {
            return Scan::Cut(data.len());
        }
    }
    Scan::End(hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::to_hex;
    use proptest::prelude::ProptestConfig;
    use proptest::prelude::any;
    use proptest::prop_assert;
    use proptest::prop_assert_eq;
    use proptest::proptest;

    /// A stream that is the same everywhere and for ever.
    fn stream(seed: u64, length: usize) -> Vec<u8> {
        let mut state = seed | 1;
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.extend_from_slice(&state.to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }

    fn ends(data: &[u8], average_log2: u8, gear: &GearTable) -> Vec<usize> {
        let mut ends = Vec::new();
        cut(data, average_log2, gear, |range| ends.push(range.end));
        ends
    }

    fn fingerprint(data: &[u8], average_log2: u8, gear: &GearTable) -> (usize, String) {
        let ends = ends(data, average_log2, gear);
        let bytes: Vec<u8> = ends.iter().flat_map(|&end| (end as u64).to_le_bytes()).collect();
        (ends.len(), to_hex(&hash::hash(&bytes)[..8]))
    }

    /// The same rule written as plainly as can be: at every place the hash of the 64 bytes before
    /// it, from nothing.
    fn plain(data: &[u8], average_log2: u8, gear: &GearTable) -> Vec<usize> {
        let average = 1 << average_log2;
        let min = (average / 4).max(512);
        let mut ends = Vec::new();
        let mut start = 0;
        for end in 1..=data.len() {
            let length = end - start;
            let bits = if length <= average { average_log2 + 2 } else { average_log2 - 2 };
            let hash = data[end.saturating_sub(64)..end].iter().fold(0_u64, |hash, &byte| {
                hash.wrapping_mul(2).wrapping_add(gear.0[usize::from(byte)])
            });
            let is_zero = hash >> (64 - bits) == 0;
            if (length > min && is_zero) || length == average * 4 || end == data.len() {
                ends.push(end);
                start = end;
            }
        }
        ends
    }

    #[test]
    fn golden_vectors() {
        let data = stream(0x1ce_c04e, 4 << 20);
        let public = GearTable::public();
        let secret = GearTable::from_secret(&[7; 32]);
        let got = [
            fingerprint(&data, 12, &public),
            fingerprint(&data, 13, &public),
            fingerprint(&data, 16, &public),
            fingerprint(&data, 19, &public),
            fingerprint(&data, 13, &secret),
        ];
        let expected = [
            (904, "ab1c8a71d28db050"),
            (446, "59a0e5847d87cdc5"),
            (55, "7551ec473e8302ed"),
            (7, "7ab29d67e46d3a47"),
            (453, "fe400f4357dd32d7"),
        ];
        assert_eq!(got.each_ref().map(|(count, hex)| (*count, hex.as_str())), expected);
    }

    #[test]
    fn bytes_without_content_are_cut_at_the_maximum() {
        let gear = GearTable::public();
        assert_eq!(ends(&[0; 100_000], 13, &gear), [32_768, 65_536, 98_304, 100_000]);
        assert!(ends(&[], 13, &gear).is_empty());
        assert_eq!(ends(&[1], 13, &gear), [1]);
    }

    #[test]
    fn tables_differ_by_secret_and_never_print() {
        assert!(GearTable::public() != GearTable::from_secret(&[0; 32]));
        assert!(GearTable::from_secret(&[1; 32]) != GearTable::from_secret(&[0; 32]));
        assert_eq!(format!("{:?}", GearTable::public()), "GearTable(..)");
    }

    #[test]
    fn the_average_is_near_what_is_asked_for() {
        let data = stream(99, 16 << 20);
        let count = ends(&data, 13, &GearTable::public()).len();
        let average = data.len() / count;
        assert!((7_000..10_500).contains(&average), "{average}");
    }

    #[test]
    fn the_rolled_cuts_are_the_plain_ones() {
        let gear = GearTable::from_secret(&[3; 32]);
        for seed in 0..4 {
            let data = stream(seed, 300_001 + seed as usize);
            assert_eq!(ends(&data, 13, &gear), plain(&data, 13, &gear));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn cuts_cover_the_data_within_bounds(
            seed in any::<u64>(), length in 0_usize..400_000, log2 in 12_u8..=17,
        ) {
            let data = stream(seed, length);
            let shape = Shape::new(log2);
            let mut at = 0;
            let mut lengths = Vec::new();
            cut(&data, log2, &GearTable::public(), |range| {
                assert_eq!(range.start, at);
                at = range.end;
                lengths.push(range.len());
            });
            prop_assert_eq!(at, length);
            let last = lengths.pop();
            prop_assert!(last.is_none_or(|last| last > 0 && last <= shape.max));
            prop_assert!(lengths.iter().all(|&l| l >= shape.min && l <= shape.max));
        }

        #[test]
        fn cuts_fall_into_step_after_an_insertion_at_the_front(
            seed in any::<u64>(), inserted in 1_usize..5_000,
        ) {
            let gear = GearTable::public();
            let data = stream(seed, 1 << 20);
            let mut longer = stream(!seed, inserted);
            longer.extend_from_slice(&data);

            let before = ends(&data, 13, &gear);
            let after = ends(&longer, 13, &gear);

            let shared = before.iter().filter(|&&end| after.contains(&(end + inserted))).count();
            prop_assert!(shared * 10 >= before.len() * 7, "{shared} of {}", before.len());
        }
    }
}
