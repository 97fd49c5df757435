//! A segment: sorted rows in a file that is never changed.
//!
//! A row is 16 bytes: eight of the blob's name (big endian, so that rows sort like names), the
//! block's local number and the place, four each, little endian. A [`Filter`] beside the file tells
//! most names that are not in it; the others are looked up by interpolation, as names are uniform.
//!
//! Rows are read, not mapped: of 100 million a process that looks many up would be counted all
//! 1.6 GB, and letting go of the pages costs more than reading does.

use crate::base::error::Result;
use crate::base::id::BlobId;
use crate::base::limits::NAMES_FILTER_ROWS_MIN;
use crate::base::sys;
use crate::repository::cache;
use crate::repository::cache::Cache;
use crate::repository::names::NamePlace;
use crate::repository::names::filter::Builder;
use crate::repository::names::filter::Filter;
use crate::repository::names::filter::Stretch;
use std::fs::File;
use std::io::BufWriter;
use std::io::Write;

const ROW_BYTES: usize = 16;
/// Rows read at a time by a look-up, a page of memory ...
const LOOK_ROWS: usize = 256;
/// ... and by a merge.
const MERGE_ROWS: usize = 4096;
/// A name is mostly no farther than this from where interpolation in half a million rows puts it.
const NEAR_ROWS: usize = 512;

/// A sorted file of rows.
pub struct Segment {
    name: String,
    file: File,
    rows: usize,
    filter: Option<Filter>,
}

fn prefix(blob: &BlobId) -> u64 {
    blob.as_bytes().first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

impl Segment {
    /// Opens a segment; None when it is absent or no whole number of rows. Its rows are hints,
    /// so they are not verified.
    pub fn open(cache: &Cache, name: &str) -> Option<Self> {
        let file = File::open(cache.path(name)).ok()?;
        let length = usize::try_from(file.metadata().ok()?.len()).ok()?;
        let rows = length / ROW_BYTES;
        let filter = Filter::open(cache, name, rows);
        (length % ROW_BYTES == 0).then(|| Segment { name: name.to_owned(), file, rows, filter })
    }

    /// Writes a segment of rows that come sorted by name.
    ///
    /// # Errors
    /// When the cache cannot be written.
    pub fn write(
        cache: &Cache,
        name: &str,
        rows: impl Iterator<Item = (BlobId, NamePlace)>,
    ) -> Result<Self> {
        let rows = rows.map(|(blob, at)| encode(prefix(&blob), at));
        Self::write_rows(cache, name, rows)
    }

    fn write_rows(
        cache: &Cache,
        name: &str,
        rows: impl Iterator<Item = [u8; ROW_BYTES]>,
    ) -> Result<Self> {
        let failed = |e| cache::cannot_write("blob names", e);
        let file = sys::create_private(&cache.path(name)).map_err(failed)?;
        let mut writer = BufWriter::with_capacity(1 << 16, file);
        let mut filter = Builder::new(cache, name);
        let mut count = 0;
        for row in rows {
            writer.write_all(&row).map_err(failed)?;
            filter.push(decode(&row).0);
            count += 1;
        }
        let file = writer.into_inner().map_err(|e| failed(e.into_error()))?;
        Ok(Segment { name: name.to_owned(), file, rows: count, filter: filter.finish() })
    }

    /// Makes the filter again where it is missing.
    pub fn add_filter(&mut self, cache: &Cache) {
        if self.filter.is_some() || self.rows < NAMES_FILTER_ROWS_MIN {
            return;
        }
        let mut filter = Builder::new(cache, &self.name);
        let mut reader = Reader::new(self, MERGE_ROWS);
        (0..self.rows).for_each(|n| filter.push(reader.prefix(n)));
        self.filter = filter.finish();
    }

    /// Writes the rows of several segments as one.
    ///
    /// # Errors
    /// When the cache cannot be written.
    pub fn merge(cache: &Cache, name: &str, segments: &[Segment]) -> Result<Self> {
        let mut cursors: Vec<(usize, Reader<'_>)> =
            segments.iter().map(|segment| (0, Reader::new(segment, MERGE_ROWS))).collect();
        let rows = std::iter::from_fn(|| {
            let heads = cursors.iter_mut().enumerate();
            let (which, row) = heads
                .filter_map(|(which, (at, reader))| Some((which, reader.row(*at)?)))
                .min_by_key(|(_, row)| *row)?;
            cursors[which].0 += 1;
            Some(row)
        });
        Self::write_rows(cache, name, rows)
    }

    /// Returns its name in the cache.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns how many rows it has.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Returns the places of all rows with the beginning of this name.
    pub fn find(&self, blob: &BlobId) -> Vec<NamePlace> {
        let wanted = prefix(blob);
        let stretch = match &self.filter {
            Some(filter) => filter.look(wanted),
            None => Some(Stretch { rows: 0..self.rows, first: 0, last: u64::MAX }),
        };
        let Some(stretch) = stretch else { return Vec::new() };
        let mut reader = Reader::new(self, LOOK_ROWS);
        (reader.lower_bound(wanted, &stretch)..stretch.rows.end)
            .map_while(|n| reader.row(n))
            .map(|row| decode(&row))
            .take_while(|(found, _)| *found == wanted)
            .map(|(_, at)| at)
            .collect()
    }
}

/// Reads rows of a segment, neighbours together.
struct Reader<'a> {
    segment: &'a Segment,
    /// How many rows are read at a time.
    at_once: usize,
    /// The first of those that were read last.
    first: usize,
    bytes: Vec<u8>,
}

impl<'a> Reader<'a> {
    fn new(segment: &'a Segment, at_once: usize) -> Self {
        Reader { segment, at_once, first: 0, bytes: Vec::new() }
    }

    /// Returns a row; None beyond the last one, or when it cannot be read.
    fn row(&mut self, n: usize) -> Option<[u8; ROW_BYTES]> {
        if n >= self.segment.rows {
            return None;
        }
        let is_read = n >= self.first && (n - self.first) * ROW_BYTES < self.bytes.len();
        if !is_read {
            self.first = n - n % self.at_once;
            let count = self.at_once.min(self.segment.rows - self.first);
            self.bytes.resize(count * ROW_BYTES, 0);
            let offset = self.first as u64 * ROW_BYTES as u64;
            if sys::read_exact_at(&self.segment.file, &mut self.bytes, offset).is_err() {
                self.bytes.clear();
                return None;
            }
        }
        let start = (n - self.first) * ROW_BYTES;
        self.bytes.get(start..start + ROW_BYTES)?.try_into().ok()
    }

    fn prefix(&mut self, n: usize) -> u64 {
        self.row(n).map_or(u64::MAX, |row| decode(&row).0)
    }

    /// Returns the first row of a stretch whose prefix is not below `wanted`.
    ///
    /// A guess by interpolation is followed by a look on the other side of what is wanted, at
    /// first close by; at most half way, so that hostile rows cost little more than halving does.
    fn lower_bound(&mut self, wanted: u64, stretch: &Stretch) -> usize {
        let (mut low, mut high) = (stretch.rows.start, stretch.rows.end);
        let (mut below, mut above) = (stretch.first, stretch.last);
        let mut near = NEAR_ROWS;
        let mut guessed = None;
        while low < high {
            let left = high - low;
            let row = match guessed.take() {
                _ if left <= NEAR_ROWS => low + left / 2,
                Some(guess) => {
                    near *= 2;
                    let beyond = (near / 2).min(left / 2);
                    if guess < low { low + beyond } else { high - 1 - beyond }
                }
                None => {
                    let spread = u128::from(above.saturating_sub(below)) + 1;
                    let share = u128::from(wanted.saturating_sub(below)) * left as u128 / spread;
                    let guess = low + (share as usize).min(left - 1);
                    guessed = Some(guess);
                    guess
                }
            };
            let found = self.prefix(row);
            if found < wanted {
                (low, below) = (row + 1, found);
            } else {
                (high, above) = (row, found);
            }
        }
        low
    }
}

fn encode(prefix: u64, at: NamePlace) -> [u8; ROW_BYTES] {
    let mut row = [0; ROW_BYTES];
    row[..8].copy_from_slice(&prefix.to_be_bytes());
    row[8..12].copy_from_slice(&at.number.to_le_bytes());
    row[12..].copy_from_slice(&at.place.to_le_bytes());
    row
}

fn decode(row: &[u8; ROW_BYTES]) -> (u64, NamePlace) {
    let [p @ .., n0, n1, n2, n3, q0, q1, q2, q3] = *row;
    let number = u32::from_le_bytes([n0, n1, n2, n3]);
    let place = u32::from_le_bytes([q0, q1, q2, q3]);
    (u64::from_be_bytes(p), NamePlace { number, place })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::hash;
    use crate::base::id::RepositoryId;
    use crate::repository::cache::CachePlace;

    /// Names that are uniform, that stand close together, and that are all but a few the same.
    #[test]
    fn every_row_is_found_however_the_names_lie() {
        let folder = tempfile::tempdir().expect("a folder");
        let kept = CachePlace::Kept(folder.path().into());
        let cache = Cache::open(&kept, &RepositoryId::new([1; 16])).expect("opens");
        let uniform = |n: u64| {
            hash::hash(&n.to_le_bytes()).first_chunk().copied().map_or(0, u64::from_be_bytes)
        };
        let kinds: [&dyn Fn(u64) -> u64; 4] =
            [&uniform, &|n| n, &|n| u64::MAX - n * n * n, &|n| if n < 40 { n } else { 1 << 50 }];
        for (kind, name) in kinds.into_iter().enumerate() {
            for count in [0, 1, 9, 1023, 1024, 30_000] {
                let mut names: Vec<u64> = (0..count).map(name).collect();
                names.sort_unstable();
                let row =
                    |name: u64, n: usize| encode(name, NamePlace { number: n as u32, place: 0 });
                let rows = names.iter().enumerate().map(|(n, &name)| row(name, n));
                let path = format!("names/segment-{kind}-{count}");
                let mut segment = Segment::write_rows(&cache, &path, rows).expect("written");
                for _ in ["with a filter", "without"] {
                    for n in (0..names.len()).step_by(1 + names.len() / 500) {
                        let mut bytes = [0; 32];
                        bytes[..8].copy_from_slice(&names[n].to_be_bytes());
                        let found = segment.find(&BlobId::new(bytes));
                        let first = names.partition_point(|&name| name < names[n]);
                        let alike = names[first..].iter().filter(|&&name| name == names[n]).count();
                        assert_eq!(found.first().map(|at| at.number as usize), Some(first));
                        assert_eq!(found.len(), alike);
                    }
                    assert!(segment.find(&BlobId::new([0x5a; 32])).is_empty());
                    segment.filter = None;
                }
            }
        }
    }
}
