//! Where files are cut. Three bytes say how, the rest is stretches of noise, zeros and a text
//! that comes again, so that short input makes long content.

use icecore::base::limits::CHUNK_BYTES_MAX;
use icecore::chunk::Cut;
use icecore::chunk::cut_lengths;
use icecore::chunk::fastcdc::GearTable;
use std::ops::Range;

use super::Bytes;
use super::places::reach;

/// What the seeds come to.
pub const PLACES: &[&str] =
    &["whole", "fixed", "gear", "secret", "cut many times", "cut at the most", "begun again"];

const CONTENT_BYTES_MAX: usize = 256 * 1024;
/// At how many places it is begun again, and ended earlier.
const TRIES: usize = 6;
/// What a content-defined chunk has at least, as the format has it.
const GEAR_BYTES_MIN: usize = 512;

pub(crate) fn content(bytes: &mut Bytes<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    while !bytes.is_empty() && out.len() < CONTENT_BYTES_MAX {
        let kind = bytes.byte();
        let length = usize::from(bytes.byte()) * if kind & 0x80 == 0 { 1 } else { 64 };
        match kind & 3 {
            0 => out.extend_from_slice(bytes.take(length)),
            1 => out.resize(out.len() + length, kind),
            2 => {
                // The same noise for the same number, whatever was before.
                let mut state = u64::from(kind >> 2 & 31) << 32 | 1;
                out.extend((0..length).map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (state >> 56) as u8
                }));
            }
            _ => {
                let from = out.len().saturating_sub(length * 3);
                out.extend_from_within(from..(from + length).min(out.len()));
            }
        }
    }
    out.truncate(CONTENT_BYTES_MAX);
    out
}

fn cuts(data: &[u8], cut: Cut, gear: &GearTable) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    cut_lengths(data, cut, gear, |range| ranges.push(range));
    ranges
}

/// Returns the least and the most that a chunk which is not the last may have.
fn bounds(cut: Cut) -> (usize, usize) {
    match cut {
        Cut::Whole => (CHUNK_BYTES_MAX, CHUNK_BYTES_MAX),
        Cut::Fixed { length_log2 } => (1 << length_log2, 1 << length_log2),
        Cut::Gear { average_log2 } => {
            let average = 1_usize << average_log2;
            ((average / 4).max(GEAR_BYTES_MIN), (average * 4).min(CHUNK_BYTES_MAX))
        }
    }
}

/// One execution.
pub fn run(data: &[u8]) {
    let mut bytes = Bytes(data);
    let code = bytes.byte();
    let Ok(cut) = Cut::from_code(code) else { return };
    assert_eq!(cut.to_code(), code);
    let secret = bytes.byte();
    let gear = match secret {
        0 => GearTable::public(),
        secret => GearTable::from_secret(&[secret; 32]),
    };
    reach(match (cut, secret) {
        (Cut::Whole, _) => "whole",
        (Cut::Fixed { .. }, _) => "fixed",
        (Cut::Gear { .. }, 0) => "gear",
        (Cut::Gear { .. }, _) => "secret",
    });
    let place = usize::from(bytes.byte());
    let content = content(&mut bytes);

    let found = cuts(&content, cut, &gear);
    let joined: Vec<u8> =
        found.iter().flat_map(|range| content[range.clone()].iter().copied()).collect();
    assert!(joined == content, "the chunks are not the content");
    let starts: Vec<usize> = found.iter().map(|range| range.start).collect();
    let ends: Vec<usize> = found.iter().map(|range| range.end).collect();
    assert!(starts.iter().zip([0].iter().chain(&ends)).all(|(start, end)| start == end));
    let (least, most) = bounds(cut);
    assert!(found.iter().all(|range| (1..=most).contains(&range.len())), "{cut:?}: {found:?}");
    if found.len() > 3 {
        reach("cut many times");
    }
    if matches!(cut, Cut::Gear { .. }) && found.iter().any(|range| range.len() == most) {
        reach("cut at the most");
    }
    let (_, but_last) = found.split_last().unwrap_or((&(0..0), &[]));
    assert!(but_last.iter().all(|range| range.len() >= least), "{cut:?}: {found:?}");

    // Begun at any cut, it goes on as it did.
    for from in starts.iter().skip(place % starts.len().max(1)).take(TRIES) {
        let rest: Vec<usize> =
            cuts(&content[*from..], cut, &gear).iter().map(|range| range.end + from).collect();
        let expected: Vec<usize> = ends.iter().copied().filter(|end| end > from).collect();
        assert_eq!(rest, expected);
        if *from > 0 {
            reach("begun again");
        }
    }
    // Of content that ends earlier all cuts are the same, but that the end is one, too.
    for part in 1..=TRIES {
        let end = content.len() * place * part / TRIES / 255;
        let before: Vec<usize> =
            cuts(&content[..end], cut, &gear).iter().map(|range| range.end).collect();
        let mut expected: Vec<usize> = ends.iter().copied().filter(|it| *it < end).collect();
        expected.extend((end > 0).then_some(end));
        assert_eq!(before, expected);
    }
}
