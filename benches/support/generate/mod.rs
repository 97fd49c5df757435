//! Data sets made by seed, and the changes that make versions of them.
//!
//! Nothing here holds more than some MB at a time, however large the data is.

pub(crate) mod changes;
pub(crate) mod dump;
pub(crate) mod media;
pub(crate) mod pages;
pub(crate) mod records;

use crate::support::Numbers;

/// Appends bytes that nothing compresses.
pub(crate) fn noise(numbers: &mut Numbers, length: usize, out: &mut Vec<u8>) {
    let end = out.len() + length;
    while out.len() < end {
        out.extend_from_slice(&numbers.next().to_le_bytes());
    }
    out.truncate(end);
}

/// Returns one of a list.
pub(crate) fn pick<'a, T: ?Sized>(numbers: &mut Numbers, of: &[&'a T]) -> &'a T {
    of[numbers.below(of.len() as u64) as usize]
}

/// Returns the lines that rows and pages say again and again.
pub(crate) fn phrases(count: usize, words: usize, seed: u64) -> Vec<String> {
    let mut numbers = Numbers::new(seed);
    let mut phrases = Vec::with_capacity(count);
    for _ in 0..count {
        let words: Vec<&str> = (0..words).map(|_| pick(&mut numbers, &WORDS)).collect();
        phrases.push(words.join(" "));
    }
    phrases
}

const WORDS: [&str; 32] = [
    "glacier",
    "river",
    "snow",
    "north",
    "bright",
    "label",
    "season",
    "measured",
    "ice",
    "deep",
    "valley",
    "delivered",
    "station",
    "after",
    "request",
    "customer",
    "morning",
    "blue",
    "order",
    "sample",
    "window",
    "returned",
    "sensor",
    "record",
    "open",
    "closed",
    "late",
    "second",
    "copy",
    "of",
    "the",
    "and",
];
