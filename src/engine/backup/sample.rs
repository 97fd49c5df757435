//! Samples of content, which tell how it is to be cut.

use crate::base::error::Result;
use crate::codec::compress::Compressor;

/// Bytes of a large file that are sampled to choose how it is cut.
pub(super) const LARGE_SAMPLE_BYTES: usize = 1024 * 1024;
/// Content is sampled in so many places to see whether it compresses ...
const SAMPLES: usize = 3;
/// ... each one of so many parts of it: to sample more takes as long as to compress it ...
const SAMPLED_SHARE: usize = 64;
/// ... yet of so many bytes at least, and at most.
const SAMPLE_BYTES_MIN: usize = 2 * 1024;
const SAMPLE_BYTES_MAX: usize = 16 * 1024;

/// Says whether a sample of content gets smaller.
///
/// # Errors
/// Those of the compressor.
pub fn compresses(content: &[u8], compressor: &mut Compressor) -> Result<bool> {
    let length = (content.len() / SAMPLED_SHARE).clamp(SAMPLE_BYTES_MIN, SAMPLE_BYTES_MAX);
    let mut sample = Vec::with_capacity(SAMPLES * length);
    for n in 0..SAMPLES {
        let start = content.len() / SAMPLES * n;
        sample.extend_from_slice(&content[start..content.len().min(start + length)]);
    }
    compressor.gains(&sample)
}
