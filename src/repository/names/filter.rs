//! A filter beside a segment: it says of most names that the segment does not have them.
//!
//! Most names that a backup asks for are new. Without a filter each costs some pages of every
//! segment; with it three bytes, and one of 256 new names is looked for in vain. It is a binary
//! fuse filter with fingerprints of eight bits (T. M. Graf and D. Lemire, "Binary Fuse Filters:
//! Fast and Smaller Than Xor Filters", ACM Journal of Experimental Algorithmics 27, 2022): every
//! name has a slot in each of three windows side by side, and the three slots, joined by exclusive
//! or, give its fingerprint. That is some 9.1 bits a name.
//!
//! To make one, all slots and names have to be in memory. So the sorted rows are parted, and the
//! filter of a part is written as soon as its rows have passed: some 12 MB, however long the
//! segment is.
//!
//! ```text
//! fingerprints of all parts | a row of 32 bytes for each part | rows, parts, checksum, magic
//! ```
//!
//! Numbers are little endian. The checksum covers the rows of the parts, not the fingerprints:
//! reading 112 MB before the first look-up would cost more than it is worth. A damaged fingerprint
//! hides a name that is known, whose blob is stored once more; it can make nothing else wrong, as
//! the filter never says that a name is there. A filter that is absent or does not verify is not
//! used, and made again when the index is kept.

use crate::base::hash;
use crate::base::limits::NAMES_FILTER_PART_ROWS;
use crate::base::limits::NAMES_FILTER_ROWS_MIN;
use crate::base::mapped::Mapped;
use crate::base::sys;
use crate::repository::cache::Cache;
use std::fs::File;
use std::io::BufWriter;
use std::io::Write;
use std::ops::Range;
use std::path::PathBuf;

const PART_BYTES: usize = 32;
const MAGIC: [u8; 8] = *b"icefuse1";
/// Rows, parts, checksum, magic.
const FOOTER_BYTES: usize = 8 + 8 + 32 + 8;
/// Seeds tried for one part. The first fails about once in a hundred parts.
const TRIES_MAX: u64 = 24;
/// Windows of more slots gain nothing for parts of any size used here.
const WINDOW_BITS_MAX: u32 = 16;
const MULTIPLIERS: [u64; 2] = [0x8f3c_51d6_b92e_a47b, 0xd1b5_4a32_9e07_6cf3];

/// The filter of one segment.
#[derive(Debug)]
pub struct Filter {
    bytes: Mapped,
    parts: Vec<Part>,
    rows: usize,
}

/// Rows side by side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Which.
    pub rows: Range<usize>,
    /// The least that their names begin with ...
    pub first: u64,
    /// ... and what none of them goes beyond.
    pub last: u64,
}

/// A stretch of the sorted rows with a filter of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    /// The beginning of its first name.
    first: u64,
    /// Which row that is.
    row: usize,
    /// Where its fingerprints begin.
    offset: usize,
    shape: Shape,
}

/// How names are laid on slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    /// Which of the tries it was; it gives the seed.
    attempt: u8,
    window_bits: u8,
    /// In how many windows a name may have its first slot; 0 when no try was a success, and then
    /// the filter says of every name that it may be there.
    starts: u32,
}

/// The three slots of a name, and what they hold together.
struct Slots {
    at: [usize; 3],
    fingerprint: u8,
}

/// Multiplies, and folds what is above 64 bits back in.
fn fold(a: u64, b: u64) -> u64 {
    let wide = u128::from(a) * u128::from(b);
    (wide as u64) ^ ((wide >> 64) as u64)
}

impl Shape {
    /// Chooses windows for so many names: sizes as the paper found them by experiment.
    fn choose(names: usize, attempt: u8) -> Self {
        let log = (names.max(2) as f64).ln();
        let window_bits = ((log / 3.33_f64.ln() + 2.25) as u32).min(WINDOW_BITS_MAX);
        let factor = (0.875 + 0.25 * 1e6_f64.ln() / log).max(1.125);
        let slots = (names as f64 * factor) as usize;
        let windows = slots.div_ceil(1 << window_bits);
        let starts = windows.saturating_sub(2).max(1) as u32;
        Shape { attempt, window_bits: window_bits as u8, starts }
    }

    /// Returns how many slots there are.
    fn slots(self) -> usize {
        if self.starts == 0 { 0 } else { (self.starts as usize + 2) << self.window_bits }
    }

    fn of(self, name: u64) -> Slots {
        let seed = u64::from(self.attempt).wrapping_mul(MULTIPLIERS[1]);
        let first = fold(name ^ seed ^ MULTIPLIERS[1], MULTIPLIERS[0]);
        let second = fold(first ^ MULTIPLIERS[0], MULTIPLIERS[1]);
        let window = ((first >> 32) * u64::from(self.starts)) >> 32;
        let slot = |n: u64| {
            let within = (second >> (16 * n)) & ((1 << self.window_bits) - 1);
            (((window + n) << self.window_bits) | within) as usize
        };
        Slots { at: [slot(0), slot(1), slot(2)], fingerprint: (second >> 56) as u8 }
    }
}

impl Filter {
    fn path(cache: &Cache, segment: &str) -> PathBuf {
        cache.path(&file_name(segment))
    }

    /// Opens the filter of a segment of so many rows; None when it is absent or not sound.
    pub fn open(cache: &Cache, segment: &str, rows: usize) -> Option<Self> {
        let file = File::open(Self::path(cache, segment)).ok()?;
        Self::map(&file).filter(|filter| filter.rows == rows)
    }

    fn map(file: &File) -> Option<Self> {
        let bytes = Mapped::open(file).ok()?;
        let footer = bytes.len().checked_sub(FOOTER_BYTES)?;
        let number = |at: usize| {
            let bytes: [u8; 8] = bytes.get(at..at + 8)?.try_into().ok()?;
            usize::try_from(u64::from_le_bytes(bytes)).ok()
        };
        let (rows, count) = (number(footer)?, number(footer + 8)?);
        let directory = footer.checked_sub(count.checked_mul(PART_BYTES)?)?;
        let sum = &bytes[footer + 16..footer + 48];
        if bytes[footer + 48..] != MAGIC || hash::hash(&bytes[directory..footer + 16]) != *sum {
            return None;
        }
        let parts: Vec<Part> = bytes[directory..footer]
            .as_chunks()
            .0
            .iter()
            .map(Part::decode)
            .collect::<Option<_>>()?;
        let is_ordered = parts.is_sorted_by(|a, b| a.first < b.first && a.row < b.row);
        let is_within = parts.iter().all(|part| {
            let end = part.offset.checked_add(part.shape.slots());
            part.row < rows && end.is_some_and(|end| end <= directory)
        });
        (is_ordered && is_within).then_some(Filter { bytes, parts, rows })
    }

    /// Returns the rows among which a name may be by its beginning; None when it is in none.
    pub fn look(&self, name: u64) -> Option<Stretch> {
        let after = self.parts.partition_point(|part| part.first <= name);
        let part = self.parts.get(after.checked_sub(1)?)?;
        let next = self.parts.get(after);
        let stretch = Stretch {
            rows: part.row..next.map_or(self.rows, |next| next.row),
            first: part.first,
            last: next.map_or(u64::MAX, |next| next.first),
        };
        if part.shape.starts == 0 {
            return Some(stretch);
        }
        let Slots { at, fingerprint } = part.shape.of(name);
        let found = at.iter().fold(0, |found, slot| found ^ self.bytes[part.offset + slot]);
        (found == fingerprint).then_some(stretch)
    }
}

/// Returns the name of the filter's file for that of its segment.
pub fn file_name(segment: &str) -> String {
    format!("{segment}.filter")
}

impl Part {
    fn encode(&self) -> [u8; PART_BYTES] {
        let mut out = [0; PART_BYTES];
        out[..8].copy_from_slice(&self.first.to_le_bytes());
        out[8..16].copy_from_slice(&(self.row as u64).to_le_bytes());
        out[16..24].copy_from_slice(&(self.offset as u64).to_le_bytes());
        out[24..28].copy_from_slice(&self.shape.starts.to_le_bytes());
        out[28] = self.shape.window_bits;
        out[29] = self.shape.attempt;
        out
    }

    fn decode(bytes: &[u8; PART_BYTES]) -> Option<Self> {
        let [head @ .., s0, s1, s2, s3, window_bits, attempt, _, _] = *bytes;
        let numbers: &[[u8; 8]] = head.as_chunks().0;
        let [first, row, offset] = numbers else { return None };
        let starts = u32::from_le_bytes([s0, s1, s2, s3]);
        let shape = Shape { attempt, window_bits, starts };
        (u32::from(window_bits) <= WINDOW_BITS_MAX).then_some(Part {
            first: u64::from_le_bytes(*first),
            row: usize::try_from(u64::from_le_bytes(*row)).ok()?,
            offset: usize::try_from(u64::from_le_bytes(*offset)).ok()?,
            shape,
        })
    }
}

/// Makes a filter of the beginnings of names that come sorted.
///
/// A filter that cannot be written is none: the segment is looked up without.
pub struct Builder {
    path: PathBuf,
    file: Option<BufWriter<File>>,
    /// Names of the part that is being gathered, each once.
    names: Vec<u64>,
    parts: Vec<Part>,
    part_row: usize,
    rows: usize,
    offset: usize,
    has_failed: bool,
}

impl Builder {
    /// Begins the filter of a segment.
    pub fn new(cache: &Cache, segment: &str) -> Self {
        Builder {
            path: Filter::path(cache, segment),
            file: None,
            names: Vec::new(),
            parts: Vec::new(),
            part_row: 0,
            rows: 0,
            offset: 0,
            has_failed: false,
        }
    }

    /// Adds the beginning of the next row's name.
    pub fn push(&mut self, name: u64) {
        let last = self.names.last().copied();
        // Rows of one beginning stay in one part, as the look-up goes through all of them.
        if last != Some(name) {
            // Rows of a damaged segment may be in no order; what is made of them finds nothing.
            self.has_failed |= last.is_some_and(|last| last > name);
            if self.names.len() == NAMES_FILTER_PART_ROWS {
                self.end_part();
            }
            if self.names.is_empty() {
                self.part_row = self.rows;
            }
            self.names.push(name);
        }
        self.rows += 1;
    }

    fn end_part(&mut self) {
        let Some(&first) = self.names.first() else { return };
        if self.has_failed {
            self.names.clear();
            return;
        }
        let (shape, fingerprints) = build(&self.names);
        self.parts.push(Part { first, row: self.part_row, offset: self.offset, shape });
        self.offset += fingerprints.len();
        self.names.clear();
        self.has_failed = self.write(&fingerprints).is_err();
    }

    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        if self.file.is_none() {
            let file = sys::create_private(&self.path.with_extension("filter-tmp"))?;
            self.file = Some(BufWriter::new(file));
        }
        self.file.as_mut().map_or(Ok(()), |file| file.write_all(bytes))
    }

    /// Ends the filter and maps it. None when the rows are too few to be worth one.
    pub fn finish(mut self) -> Option<Filter> {
        if self.rows < NAMES_FILTER_ROWS_MIN {
            return None;
        }
        self.end_part();
        let filter = self.complete();
        if filter.is_none() {
            let _ = std::fs::remove_file(self.path.with_extension("filter-tmp"));
        }
        filter
    }

    fn complete(&mut self) -> Option<Filter> {
        if self.has_failed {
            return None;
        }
        let mut end: Vec<u8> = self.parts.iter().flat_map(Part::encode).collect();
        end.extend_from_slice(&(self.rows as u64).to_le_bytes());
        end.extend_from_slice(&(self.parts.len() as u64).to_le_bytes());
        end.extend_from_slice(&hash::hash(&end));
        end.extend_from_slice(&MAGIC);
        self.write(&end).ok()?;
        let file = self.file.take()?.into_inner().ok()?;
        std::fs::rename(self.path.with_extension("filter-tmp"), &self.path).ok()?;
        Filter::map(&file)
    }
}

/// Makes the fingerprints of distinct names.
fn build(names: &[u64]) -> (Shape, Vec<u8>) {
    for attempt in 0..TRIES_MAX {
        let shape = Shape::choose(names.len(), attempt as u8);
        if let Some(order) = peel(names, shape) {
            return (shape, assign(names, shape, &order));
        }
    }
    (Shape { attempt: 0, window_bits: 0, starts: 0 }, Vec::new())
}

/// Takes away one name after the other that has a slot alone, until none is left. Returns the
/// slots and the numbers of the names in that order, or None when names are left over.
fn peel(names: &[u64], shape: Shape) -> Option<Vec<(u32, u32)>> {
    // How many names have a slot, and their numbers joined: of a single one it is the number.
    let mut counts = vec![0_u8; shape.slots()];
    let mut joined = vec![0_u32; shape.slots()];
    for (number, &name) in names.iter().enumerate() {
        for slot in shape.of(name).at {
            counts[slot] = counts[slot].checked_add(1)?;
            joined[slot] ^= number as u32;
        }
    }
    let mut order: Vec<(u32, u32)> = Vec::with_capacity(names.len());
    let mut alone: Vec<u32> = Vec::new();
    for start in 0..counts.len() {
        alone.push(start as u32);
        while let Some(slot) = alone.pop() {
            if counts[slot as usize] != 1 {
                continue;
            }
            let number = joined[slot as usize];
            order.push((slot, number));
            for slot in shape.of(names[number as usize]).at {
                counts[slot] -= 1;
                joined[slot] ^= number;
                if counts[slot] == 1 {
                    alone.push(slot as u32);
                }
            }
        }
    }
    (order.len() == names.len()).then_some(order)
}

/// Sets the slots, the last taken first: then the other two of a name have what they will have.
fn assign(names: &[u64], shape: Shape, order: &[(u32, u32)]) -> Vec<u8> {
    let mut fingerprints = vec![0; shape.slots()];
    for &(own, number) in order.iter().rev() {
        let Slots { at, fingerprint } = shape.of(names[number as usize]);
        fingerprints[own as usize] =
            at.iter().fold(fingerprint, |joined, slot| joined ^ fingerprints[*slot]);
    }
    fingerprints
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::RepositoryId;
    use crate::repository::cache::CachePlace;
    use proptest::collection::vec;
    use proptest::prelude::any;
    use proptest::prop_assert;
    use proptest::prop_assert_eq;
    use proptest::proptest;

    const SEGMENT: &str = "names/segment-1";

    fn cache(folder: &std::path::Path) -> Cache {
        let kept = CachePlace::Kept(folder.into());
        Cache::open(&kept, &RepositoryId::new([1; 16])).expect("opens")
    }

    fn name(n: u64) -> u64 {
        hash::hash(&n.to_le_bytes()).first_chunk().copied().map_or(0, u64::from_be_bytes)
    }

    fn sorted(range: Range<u64>) -> Vec<u64> {
        let mut names: Vec<u64> = range.map(name).collect();
        names.sort_unstable();
        names
    }

    fn make(cache: &Cache, names: &[u64]) -> Option<Filter> {
        let mut builder = Builder::new(cache, SEGMENT);
        names.iter().for_each(|&name| builder.push(name));
        builder.finish()
    }

    fn expect_all_found(filter: &Filter, names: &[u64]) {
        for (row, &name) in names.iter().enumerate() {
            assert!(filter.look(name).is_some_and(|found| found.rows.contains(&row)), "row {row}");
        }
    }

    #[test]
    fn no_name_is_missed_and_few_strangers_pass() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = cache(folder.path());
        let count = 2 * NAMES_FILTER_PART_ROWS as u64 + 70_000;
        let names = sorted(0..count);
        let made = make(&cache, &names).expect("a filter");
        let filter = Filter::open(&cache, SEGMENT, names.len()).expect("opens");
        assert_eq!(filter.parts, made.parts);
        assert_eq!(filter.parts.len(), 3);
        expect_all_found(&filter, &names);
        let strangers = count..count + 200_000;
        let passed = strangers.filter(|&n| filter.look(name(n)).is_some()).count();
        assert!((1..1200).contains(&passed), "{passed} of 200000");
        let bits = filter.bytes.len() as f64 * 8.0 / names.len() as f64;
        assert!(bits < 9.5, "{bits} bits a name");
    }

    proptest! {
        #[test]
        fn any_set_of_names_is_found_whole(
            mut names in vec(any::<u64>(), 1..3000),
            narrow in 0_u32..50,
        ) {
            // Names in a narrow range stand side by side, and many come twice.
            names.iter_mut().for_each(|name| *name >>= narrow);
            names.sort_unstable();
            names.dedup();
            let (shape, fingerprints) = build(&names);
            prop_assert!(shape.starts > 0);
            for name in names {
                let Slots { at, fingerprint } = shape.of(name);
                let found = at.iter().fold(0, |found, &slot| found ^ fingerprints[slot]);
                prop_assert_eq!(found, fingerprint);
            }
        }
    }

    #[test]
    fn rows_of_one_beginning_stay_in_one_part() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = cache(folder.path());
        let mut names: Vec<u64> = (0..NAMES_FILTER_PART_ROWS as u64).collect();
        let last = names.len() as u64 - 1;
        names.extend([last, last, last + 1, last + 2, last + 2]);
        let filter = make(&cache, &names).expect("a filter");
        assert_eq!(filter.parts.len(), 2);
        expect_all_found(&filter, &names);
        assert_eq!(filter.look(last).map(|found| found.rows), Some(0..names.len() - 3));
    }

    #[test]
    fn few_rows_and_rows_in_no_order_have_no_filter() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = cache(folder.path());
        assert!(make(&cache, &[]).is_none());
        assert!(make(&cache, &sorted(0..NAMES_FILTER_ROWS_MIN as u64 - 1)).is_none());
        let mut names = sorted(0..3000);
        names.swap(1, 2);
        assert!(make(&cache, &names).is_none());
        assert!(cache.list("names").is_empty());
    }

    #[test]
    fn a_name_with_no_filter_made_is_always_looked_for() {
        let shape = Shape { attempt: 0, window_bits: 0, starts: 0 };
        let part = Part { first: 10, row: 0, offset: 0, shape };
        let filter = Filter { bytes: Mapped::Memory(Vec::new()), parts: vec![part], rows: 7 };
        assert_eq!(filter.look(9), None);
        assert_eq!(filter.look(10).map(|found| found.rows), Some(0..7));
        assert_eq!(Part::decode(&part.encode()), Some(part));
    }

    /// A damaged fingerprint may hide a name; anything else that is damaged is noticed.
    #[test]
    fn damage_never_makes_a_look_leave_the_rows() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = cache(folder.path());
        let names = sorted(0..2000);
        make(&cache, &names).expect("a filter");
        let path = Filter::path(&cache, SEGMENT);
        let sound = std::fs::read(&path).expect("read");
        let directory = sound.len() - FOOTER_BYTES - PART_BYTES;
        for at in (0..sound.len()).step_by(7).chain(directory..sound.len()) {
            let mut bytes = sound.clone();
            bytes[at] ^= 1 << (at % 8);
            std::fs::write(&path, &bytes).expect("write");
            let filter = Filter::open(&cache, SEGMENT, names.len());
            assert_eq!(filter.is_some(), at < directory, "byte {at}");
            let Some(filter) = filter else { continue };
            let missed = names.iter().filter(|&&name| filter.look(name).is_none()).count();
            assert!(missed <= 20, "{missed} hidden by byte {at}");
            assert!(
                names.iter().filter_map(|&name| filter.look(name)).all(|r| r.rows == (0..2000))
            );
        }
        for length in (0..sound.len()).step_by(11) {
            std::fs::write(&path, &sound[..length]).expect("write");
            assert!(Filter::open(&cache, SEGMENT, names.len()).is_none(), "{length} bytes");
        }
        std::fs::write(&path, &sound).expect("write");
        assert!(Filter::open(&cache, SEGMENT, names.len() + 1).is_none(), "of another segment");
        expect_all_found(&Filter::open(&cache, SEGMENT, 2000).expect("sound"), &names);
    }
}
