//! A segment: sorted rows in a file that is never changed.
//!
//! A row is 16 bytes: eight of the blob's name (big endian, so that rows sort like names), the
//! block's local number and the place, four each, little endian. Look-up is by interpolation, as
//! names are uniform.

use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::id::BlobId;
use crate::base::mapped::Mapped;
use crate::base::sys;
use crate::repository::cache::Cache;
use crate::repository::names::NamePlace;
use std::fs::File;
use std::io::BufWriter;
use std::io::Write;

const ROW_BYTES: usize = 16;
/// Below this many rows left, a plain scan ends the search.
const SCAN_ROWS: usize = 8;

/// A sorted file of rows.
pub struct Segment {
    name: String,
    bytes: Mapped,
}

fn prefix(blob: &BlobId) -> u64 {
    blob.as_bytes().first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

impl Segment {
    /// Opens a segment; None when it is absent or no whole number of rows. Its rows are hints,
    /// so they are not verified.
    pub fn open(cache: &Cache, name: &str) -> Option<Self> {
        let file = File::open(cache.path(name)).ok()?;
        let bytes = Mapped::open(&file).ok()?;
        (bytes.len() % ROW_BYTES == 0).then(|| Segment { name: name.to_owned(), bytes })
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
        let failed = |e| Error::io("cannot write the cache of blob names", e);
        let file = sys::create_private(&cache.path(name)).map_err(failed)?;
        let mut writer = BufWriter::with_capacity(1 << 16, file);
        for row in rows {
            writer.write_all(&row).map_err(failed)?;
        }
        let file = writer.into_inner().map_err(|e| failed(e.into_error()))?;
        Ok(Segment { name: name.to_owned(), bytes: Mapped::open(&file)? })
    }

    /// Writes the rows of several segments as one.
    ///
    /// # Errors
    /// When the cache cannot be written.
    pub fn merge(cache: &Cache, name: &str, segments: &[Segment]) -> Result<Self> {
        let mut cursors = vec![0_usize; segments.len()];
        let rows = std::iter::from_fn(|| {
            let heads = segments.iter().zip(&cursors).enumerate();
            let (which, row) = heads
                .filter_map(|(which, (segment, &at))| Some((which, segment.row(at)?)))
                .min_by_key(|(_, row)| *row)?;
            cursors[which] += 1;
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
        self.bytes.len() / ROW_BYTES
    }

    fn row(&self, n: usize) -> Option<[u8; ROW_BYTES]> {
        let start = n.checked_mul(ROW_BYTES)?;
        self.bytes.get(start..start + ROW_BYTES)?.try_into().ok()
    }

    fn prefix_at(&self, n: usize) -> u64 {
        self.row(n).map_or(u64::MAX, |row| decode(&row).0)
    }

    /// Returns the places of all rows with the beginning of this name.
    pub fn find(&self, blob: &BlobId) -> impl Iterator<Item = NamePlace> + '_ {
        let wanted = prefix(blob);
        let first = self.lower_bound(wanted);
        (first..self.rows())
            .filter_map(|n| self.row(n))
            .map(|row| decode(&row))
            .take_while(move |(found, _)| *found == wanted)
            .map(|(_, at)| at)
    }

    /// Returns the first row whose prefix is not below `wanted`, by interpolation that falls
    /// back to halving, so that hostile bytes cost no more than a binary search.
    fn lower_bound(&self, wanted: u64) -> usize {
        let (mut low, mut high) = (0, self.rows());
        let mut interpolate = true;
        while high - low > SCAN_ROWS {
            let (below, above) = (self.prefix_at(low), self.prefix_at(high - 1));
            if wanted <= below {
                return low;
            }
            let spread = above.saturating_sub(below);
            let middle = if interpolate && spread > 0 && wanted < above {
                let share = u128::from(wanted - below) * (high - 1 - low) as u128;
                low + (share / u128::from(spread)) as usize
            } else {
                low + (high - low) / 2
            };
            interpolate = !interpolate;
            if self.prefix_at(middle) < wanted {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        (low..high).find(|&n| self.prefix_at(n) >= wanted).unwrap_or(high)
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
