//! Floor 1: where to cut a file into chunks; same bytes, same cuts.
//!
//! Why: two versions of a file share what lies between two cuts, so the cuts have to follow the
//! content and not the offsets. How a file is cut is chosen once by [`choose_cut`] and kept in
//! its entry as one byte ([`Cut::to_code`]); [`keeps_class`] and [`still_fits`] say when to
//! choose again, as every change of it moves all cuts of the file.
//!
//! A file is cut piece by piece, [`PIECE_BYTES`](crate::base::limits::PIECE_BYTES) each: the end
//! of a piece is a forced cut, so that pieces are independent work for several threads. All of
//! this is part of the stored format: golden vectors in the tests of [`fastcdc`] hold it.
//!
//! | kind | file | for |
//! |---|---|---|
//! | [`Cut::Whole`] | [`whole`] | small files: one blob each |
//! | [`Cut::Gear`] | [`fastcdc`] | all other files |
//! | [`Cut::Fixed`] | [`fixed`] | images and database pages; never chosen by itself |

use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::limits::CHUNK_BYTES_MAX;
use crate::chunk::fastcdc::GearTable;
use serde::Deserialize;
use serde::Serialize;
use std::ops::Range;

pub mod fastcdc;
pub mod fixed;
pub mod whole;

/// Smallest average of content-defined cuts, 1 KiB: below it names outweigh what they save.
const GEAR_LOG2_MIN: u8 = 10;
/// Largest average, 1 MiB, so that four averages are the largest chunk.
const GEAR_LOG2_MAX: u8 = CHUNK_BYTES_MAX.ilog2() as u8 - 2;
/// Smallest fixed length, a page of memory and of most databases.
const FIXED_LOG2_MIN: u8 = 12;
/// Largest fixed length: the largest chunk.
const FIXED_LOG2_MAX: u8 = CHUNK_BYTES_MAX.ilog2() as u8;
/// Chunks of one file that its average grows for: 2^20 names of 32 bytes are 32 MiB of tables.
const FILE_CHUNKS_LOG2: u32 = 20;
/// A size changes its class when it changes by this factor.
const CLASS_FACTOR: u64 = 4;

const CODE_WHOLE: u8 = 0;
const CODE_GEAR: u8 = 0x40;
const CODE_FIXED: u8 = 0x80;

/// The sizes a repository cuts by; fixed when it is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ChunkParameters {
    /// Average chunk of content that compresses, in bytes, a power of two.
    pub average_fine: u32,
    /// Average chunk of content that does not compress, in bytes, a power of two.
    pub average_coarse: u32,
    /// Files up to this many bytes are one blob.
    pub whole_max: u32,
}

impl Default for ChunkParameters {
    /// Fine: half of it would save little more but for versions of one package, and make every
    /// first backup larger and slower; the table is in `src/docs/decisions.md`.
    /// Coarse: what does not compress mostly changes as a whole, so its names are kept few; but
    /// where a file is cut, grown or edited, some ten chunks are stored until cuts are in step.
    fn default() -> Self {
        ChunkParameters { average_fine: 4 << 10, average_coarse: 128 << 10, whole_max: 32 << 10 }
    }
}

impl ChunkParameters {
    /// Checks what was read from a repository's config.
    ///
    /// # Errors
    /// `Corrupt` when an average is no power of two in range, or whole files exceed a chunk.
    pub fn check(&self) -> Result<()> {
        let is_good = |average: u32| {
            average.is_power_of_two()
                && (GEAR_LOG2_MIN..=GEAR_LOG2_MAX).contains(&(average.ilog2() as u8))
        };
        if !is_good(self.average_fine) || !is_good(self.average_coarse) {
            return Err(Error::corrupt(format!(
                "chunk averages {} and {} are out of range",
                self.average_fine, self.average_coarse
            )));
        }
        if self.whole_max as usize > CHUNK_BYTES_MAX {
            return Err(Error::corrupt(format!(
                "whole files of {} bytes are larger than a chunk",
                self.whole_max
            )));
        }
        Ok(())
    }
}

/// How one file is cut.
///
/// ```
/// use icecore::chunk::Cut;
/// let cut = Cut::Gear { average_log2: 13 };
/// assert_eq!(Cut::from_code(cut.to_code()).unwrap(), cut);
/// assert!(Cut::from_code(255).is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cut {
    /// Not at all, but for the limit of a chunk.
    Whole,
    /// Where the content says so.
    Gear {
        /// Logarithm of the average chunk's length, 10 to 20.
        average_log2: u8,
    },
    /// At multiples of a length.
    Fixed {
        /// Logarithm of every chunk's length, 12 to 22.
        length_log2: u8,
    },
}

impl Cut {
    /// Returns the byte that stands for it in an entry.
    pub fn to_code(self) -> u8 {
        match self {
            Cut::Whole => CODE_WHOLE,
            Cut::Gear { average_log2 } => CODE_GEAR | average_log2,
            Cut::Fixed { length_log2 } => CODE_FIXED | length_log2,
        }
    }

    /// Returns how a file of which so much has come is cut from there on, where its size is not
    /// known beforehand: with an average that doubles as [`choose_cut`] has it do.
    pub fn grown(self, size: u64) -> Self {
        match self {
            Cut::Gear { average_log2 } => {
                let needed = needed_log2(size).min(GEAR_LOG2_MAX);
                Cut::Gear { average_log2: average_log2.max(needed) }
            }
            other => other,
        }
    }

    /// Reads the byte of an entry.
    ///
    /// # Errors
    /// `Corrupt` when no cut has this code.
    pub fn from_code(code: u8) -> Result<Self> {
        let log2 = code & 0x3f;
        match code & 0xc0 {
            0 if code == CODE_WHOLE => Ok(Cut::Whole),
            CODE_GEAR if (GEAR_LOG2_MIN..=GEAR_LOG2_MAX).contains(&log2) => {
                Ok(Cut::Gear { average_log2: log2 })
            }
            CODE_FIXED if (FIXED_LOG2_MIN..=FIXED_LOG2_MAX).contains(&log2) => {
                Ok(Cut::Fixed { length_log2: log2 })
            }
            _ => Err(Error::corrupt(format!("{code:#04x} is no way to cut a file"))),
        }
    }
}

/// Chooses how to cut a new file: whole up to the limit, else by content, with an average that
/// doubles for each doubling of the size beyond 2^20 chunks, as long as chunks may grow.
pub fn choose_cut(size: u64, compresses: bool, parameters: &ChunkParameters) -> Cut {
    if size <= u64::from(parameters.whole_max) {
        return Cut::Whole;
    }
    let average = if compresses { parameters.average_fine } else { parameters.average_coarse };
    let chosen = average.max(1).ilog2() as u8;
    let average_log2 = chosen.max(needed_log2(size));
    Cut::Gear { average_log2: average_log2.clamp(GEAR_LOG2_MIN, GEAR_LOG2_MAX) }
}

/// Returns the average at which a file of this size has 2^20 chunks.
fn needed_log2(size: u64) -> u8 {
    size.div_ceil(1 << FILE_CHUNKS_LOG2).next_power_of_two().ilog2() as u8
}

/// Says whether a file whose cut was chosen at `old_size` keeps it at `new_size`: the two differ
/// by less than fourfold.
pub fn keeps_class(old_size: u64, new_size: u64) -> bool {
    let smaller = old_size.min(new_size);
    let larger = old_size.max(new_size);
    larger == smaller || larger / CLASS_FACTOR < smaller
}

/// Says whether a file of this size can go on with the cut it has: the size is less than fourfold
/// away from the sizes the cut is chosen for. Unlike [`keeps_class`] it needs no memory of the
/// size at which the cut was chosen, so a file that doubles again and again cannot creep past it.
pub fn still_fits(cut: Cut, size: u64, parameters: &ChunkParameters) -> bool {
    let whole_max = u64::from(parameters.whole_max);
    match cut {
        Cut::Whole => size < whole_max.saturating_mul(CLASS_FACTOR),
        Cut::Fixed { .. } => true,
        Cut::Gear { average_log2 } => {
            let grown = average_log2 > parameters.average_coarse.max(1).ilog2() as u8;
            let files_max = 1_u64 << (u32::from(average_log2) + FILE_CHUNKS_LOG2);
            let files_min = if grown { files_max / 2 } else { whole_max };
            let may_grow = average_log2 < GEAR_LOG2_MAX;
            let is_small = size < files_min / CLASS_FACTOR;
            let is_large = may_grow && size >= files_max.saturating_mul(CLASS_FACTOR);
            !is_small && !is_large
        }
    }
}

/// Shows the chunks of `data`, a whole file or one piece of it, in order: ranges that cover it
/// without a gap, none longer than the limit of a chunk. Empty data has no chunk.
pub fn cut_lengths(data: &[u8], cut: Cut, gear: &GearTable, visit: impl FnMut(Range<usize>)) {
    match cut {
        Cut::Whole => whole::cut(data.len(), visit),
        Cut::Gear { average_log2 } => fastcdc::cut(data, average_log2, gear, visit),
        Cut::Fixed { length_log2 } => fixed::cut(data.len(), length_log2, visit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    /// A stream of a tebibyte has some five million chunks, and not 2^28 of 4 KiB.
    #[test]
    fn what_comes_late_in_a_stream_is_cut_more_coarsely() {
        let fine = Cut::Gear { average_log2: 12 };
        let averages = [0, 1 << 32, (1 << 32) + 1, 1 << 36, 1 << 40, 1 << 50].map(|size| {
            let Cut::Gear { average_log2 } = fine.grown(size) else { panic!("no gear") };
            average_log2
        });
        assert_eq!(averages, [12, 12, 13, 16, 20, 20]);
        assert_eq!(Cut::Whole.grown(1 << 40), Cut::Whole);
        let coarse = Cut::Gear { average_log2: 19 };
        assert_eq!(coarse.grown(1 << 36), coarse);
    }

    #[test]
    fn every_code_goes_round_or_is_refused() {
        let good = (0..=u8::MAX).filter(|&code| match Cut::from_code(code) {
            Ok(cut) => cut.to_code() == code,
            Err(_) => false,
        });
        assert_eq!(good.count(), 1 + 11 + 11);
    }

    #[test]
    fn codes_are_part_of_the_format() {
        assert_eq!(Cut::Whole.to_code(), 0);
        assert_eq!(Cut::Gear { average_log2: 13 }.to_code(), 0x4d);
        assert_eq!(Cut::Fixed { length_log2: 22 }.to_code(), 0x96);
    }

    #[test]
    fn the_average_grows_with_very_large_files() {
        let parameters = ChunkParameters::default();
        let log2 = |size, compresses| match choose_cut(size, compresses, &parameters) {
            Cut::Gear { average_log2 } => average_log2,
            _ => 0,
        };
        assert_eq!(log2(32 << 10, true), 0);
        assert_eq!(log2((32 << 10) + 1, true), 12);
        assert_eq!(log2(4 * GIB, true), 12);
        assert_eq!(log2(4 * GIB + 1, true), 13);
        assert_eq!(log2(1 << 20, false), 17);
        assert_eq!(log2(128 * GIB, false), 17);
        assert_eq!(log2(512 * GIB, false), 19);
        assert_eq!(log2(u64::MAX, true), 20);
    }

    #[test]
    fn a_class_is_kept_until_the_size_changes_fourfold() {
        assert!(keeps_class(100, 399));
        assert!(!keeps_class(100, 400));
        assert!(keeps_class(399, 100));
        assert!(!keeps_class(400, 100));
        assert!(keeps_class(0, 0));
        assert!(!keeps_class(0, 1));
        assert!(keeps_class(u64::MAX, u64::MAX / 2));
    }

    #[test]
    fn every_chosen_cut_fits_and_creeping_growth_is_noticed() {
        let parameters = ChunkParameters::default();
        for log2 in 0..60 {
            for size in [1_u64 << log2, (1 << log2) + 1, (1 << log2) * 3 / 2] {
                for compresses in [false, true] {
                    let cut = choose_cut(size, compresses, &parameters);
                    assert!(still_fits(cut, size, &parameters), "{cut:?} at {size}");
                }
            }
        }
        assert!(still_fits(Cut::Whole, (128 << 10) - 1, &parameters));
        assert!(!still_fits(Cut::Whole, 128 << 10, &parameters));
        assert!(!still_fits(Cut::Gear { average_log2: 13 }, 32 * GIB, &parameters));
        assert!(!still_fits(Cut::Gear { average_log2: 13 }, 1 << 10, &parameters));
        assert!(!still_fits(Cut::Gear { average_log2: 20 }, 1 << 20, &parameters));
    }

    #[test]
    fn parameters_from_outside_are_checked() {
        let good = ChunkParameters::default();
        assert!(good.check().is_ok());
        assert!(ChunkParameters { average_fine: 0, ..good }.check().is_err());
        assert!(ChunkParameters { average_fine: 10_000, ..good }.check().is_err());
        assert!(ChunkParameters { average_coarse: 1 << 21, ..good }.check().is_err());
        assert!(ChunkParameters { whole_max: 5 << 20, ..good }.check().is_err());
    }
}
