//! zstd: the only home of the crate. Keeps the original when compressing gains too little.

use crate::base::error::Error;
use crate::base::error::Result;
use std::cell::RefCell;
use std::io::Write;

/// zstd's default level, and ours: 203 MB for the Linux 6.1 tree, where 2 gives 214 and 5 gives
/// 187 in 2.3 times the time.
pub const LEVEL_DEFAULT: i32 = 3;
/// Highest level that zstd calls ordinary.
pub const LEVEL_MAX: i32 = 19;
/// Quick, and enough to see whether content compresses.
const LEVEL_QUICKEST: i32 = 1;
/// Bits a byte below which coding the bytes one by one gains an eighth: no need to try.
const ENTROPY_SURE: f64 = 7.0;
/// Gains below 3 % are not worth decoding for.
const GAIN_PERCENT_MIN: usize = 3;

/// How bytes are stored; the code stands before them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// As they are.
    Raw,
    /// One zstd frame.
    Zstd,
}

impl Method {
    /// Returns the byte that stands for the method. 2 is kept for a block compressed against an
    /// older block.
    pub const fn code(self) -> u8 {
        match self {
            Method::Raw => 0,
            Method::Zstd => 1,
        }
    }

    /// Returns the method that a byte stands for.
    ///
    /// # Errors
    /// `Unsupported` for a code that came after this program.
    pub fn from_code(code: u8) -> Result<Self> {
        match code {
            0 => Ok(Method::Raw),
            1 => Ok(Method::Zstd),
            _ => Err(Error::new(
                crate::base::error::ErrorKind::Unsupported,
                format!("compression method {code} is unknown here"),
            )),
        }
    }
}

/// A compressor with its working memory, for one thread.
pub struct Compressor {
    inner: zstd::bulk::Compressor<'static>,
    /// Tries samples, at the quickest level.
    sampler: zstd::bulk::Compressor<'static>,
    check: zstd::bulk::Decompressor<'static>,
    /// Only ever grow, as bytes that are about to be overwritten need not be cleared each time.
    packed: Vec<u8>,
    unpacked: Vec<u8>,
}

/// Returns the first `length` bytes of a buffer that only ever grows.
fn grown(buffer: &mut Vec<u8>, length: usize) -> &mut [u8] {
    if buffer.len() < length {
        buffer.resize(length, 0);
    }
    &mut buffer[..length]
}

impl Compressor {
    /// Makes a compressor for one level.
    ///
    /// # Errors
    /// `Io` when zstd has no memory; `InvalidInput` for a level out of range.
    pub fn new(level: i32) -> Result<Self> {
        if !(1..=LEVEL_MAX).contains(&level) {
            return Err(Error::invalid(format!(
                "compression level {level} is not in 1..={LEVEL_MAX}"
            )));
        }
        let failed = |e| Error::io("cannot start zstd", e);
        let mut inner = zstd::bulk::Compressor::new(level).map_err(failed)?;
        inner.include_checksum(false).map_err(failed)?;
        inner.include_contentsize(true).map_err(failed)?;
        let sampler = zstd::bulk::Compressor::new(LEVEL_QUICKEST).map_err(failed)?;
        let check = zstd::bulk::Decompressor::new().map_err(failed)?;
        Ok(Compressor { inner, sampler, check, packed: Vec::new(), unpacked: Vec::new() })
    }

    /// Appends `plain` to `out`, compressed where that gains, behind its method's code. What
    /// was compressed is decoded and compared before this returns.
    ///
    /// # Errors
    /// `Bug` when zstd gives something that does not decode to the same bytes.
    pub fn compress(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<()> {
        let bound = zstd::zstd_safe::compress_bound(plain.len());
        let length = self
            .inner
            .compress_to_buffer(plain, grown(&mut self.packed, bound))
            .map_err(|e| Error::io("cannot compress", e))?;
        if !is_gain(plain.len(), length) {
            out.reserve_exact(1 + plain.len());
            out.push(Method::Raw.code());
            out.extend_from_slice(plain);
            return Ok(());
        }
        self.compare(plain, length)?;
        out.reserve_exact(1 + length);
        out.push(Method::Zstd.code());
        out.extend_from_slice(&self.packed[..length]);
        Ok(())
    }

    /// Says whether a sample gets smaller by more than what decoding costs. Text and tables show
    /// it by how often each byte comes; what is left is tried.
    ///
    /// # Errors
    /// `Io` when zstd fails.
    pub fn gains(&mut self, sample: &[u8]) -> Result<bool> {
        if entropy(sample) < ENTROPY_SURE {
            return Ok(true);
        }
        let bound = zstd::zstd_safe::compress_bound(sample.len());
        let length = self
            .sampler
            .compress_to_buffer(sample, grown(&mut self.packed, bound))
            .map_err(|e| Error::io("cannot compress", e))?;
        Ok(is_gain(sample.len(), length))
    }

    fn compare(&mut self, plain: &[u8], length: usize) -> Result<()> {
        let unpacked = grown(&mut self.unpacked, plain.len());
        match self.check.decompress_to_buffer(&self.packed[..length], unpacked) {
            Ok(length) if length == plain.len() && self.unpacked[..length] == *plain => Ok(()),
            _ => Err(Error::bug("what zstd compressed does not decode to the same bytes")
                .hint("memory or processor may be failing; nothing was stored")),
        }
    }
}

/// Returns bits a byte, by Shannon's formula over how often each byte comes: 8 for noise.
fn entropy(sample: &[u8]) -> f64 {
    let mut counts = [0_u32; 256];
    for &byte in sample {
        counts[usize::from(byte)] += 1;
    }
    let total = sample.len() as f64;
    let share = |&count: &u32| f64::from(count) / total;
    counts.iter().filter(|&&count| count > 0).map(share).map(|p| -p * p.log2()).sum()
}

fn is_gain(plain: usize, compressed: usize) -> bool {
    compressed + plain * GAIN_PERCENT_MIN / 100 < plain
}

/// Compresses a stream into one zstd frame with a checksum. What is dropped unfinished is no
/// whole frame, and every reader notices.
pub struct StreamCompressor<W: Write>(zstd::stream::write::Encoder<'static, W>);

impl<W: Write> StreamCompressor<W> {
    /// Starts a frame.
    ///
    /// # Errors
    /// `Io` when zstd has no memory.
    pub fn new(out: W, level: i32) -> Result<Self> {
        let failed = |e| Error::io("cannot start zstd", e);
        let mut encoder = zstd::stream::write::Encoder::new(out, level).map_err(failed)?;
        encoder.include_checksum(true).map_err(failed)?;
        Ok(StreamCompressor(encoder))
    }

    /// Ends the frame.
    ///
    /// # Errors
    /// Those of what is written to.
    pub fn finish(self) -> std::io::Result<W> {
        self.0.finish()
    }
}

impl<W: Write> Write for StreamCompressor<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

thread_local! {
    static COMPRESSOR: RefCell<Option<(i32, Compressor)>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<zstd::bulk::Decompressor<'static>>> =
        const { RefCell::new(None) };
}

/// Compresses as [`Compressor::compress`] does, with a compressor that the thread keeps.
///
/// # Errors
/// Those of [`Compressor::new`] and [`Compressor::compress`].
pub fn compress_once(level: i32, plain: &[u8], out: &mut Vec<u8>) -> Result<()> {
    COMPRESSOR.with(|slot| {
        let mut slot = slot.borrow_mut();
        let compressor = match slot.take() {
            Some((kept, compressor)) if kept == level => compressor,
            _ => Compressor::new(level)?,
        };
        slot.insert((level, compressor)).1.compress(plain, out)
    })
}

/// Decodes what [`Compressor::compress`] made into `out`, which must get exactly `length` bytes.
///
/// # Errors
/// `Corrupt` when the bytes do not decode, or to another length.
pub fn decompress(stored: &[u8], length: usize, out: &mut Vec<u8>) -> Result<()> {
    let broken = || Error::corrupt("compressed bytes do not decode to their length");
    let (&code, content) = stored.split_first().ok_or_else(broken)?;
    out.clear();
    match Method::from_code(code)? {
        Method::Raw if content.len() == length => {
            out.extend_from_slice(content);
            Ok(())
        }
        Method::Raw => Err(broken()),
        Method::Zstd => {
            // Into what was reserved, which need not be cleared first.
            out.reserve_exact(length);
            let decoded = with_decompressor(|zstd| zstd.decompress_to_buffer(content, out))?;
            match decoded {
                Ok(got) if got == length => Ok(()),
                Ok(_) => Err(broken()),
                Err(e) => Err(broken().caused_by(e)),
            }
        }
    }
}

fn with_decompressor<T>(
    work: impl FnOnce(&mut zstd::bulk::Decompressor<'static>) -> T,
) -> Result<T> {
    DECOMPRESSOR.with(|slot| {
        let mut slot = slot.borrow_mut();
        if slot.is_none() {
            let new = zstd::bulk::Decompressor::new();
            *slot = Some(new.map_err(|e| Error::io("cannot start zstd", e))?);
        }
        let zstd = slot.as_mut().ok_or_else(|| Error::bug("zstd is there after it was made"))?;
        Ok(work(zstd))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(plain: &[u8]) -> Vec<u8> {
        let mut stored = vec![9];
        Compressor::new(3).expect("starts").compress(plain, &mut stored).expect("compresses");
        let mut back = Vec::new();
        decompress(&stored[1..], plain.len(), &mut back).expect("decodes");
        assert_eq!(back, plain);
        stored.split_off(1)
    }

    #[test]
    fn text_shrinks_and_noise_stays_raw() {
        assert!(round(&b"snow ".repeat(1000)).len() < 100);
        let mut noise = vec![0; 5000];
        crate::base::sys::fill_random(&mut noise).expect("random");
        assert_eq!(round(&noise)[0], Method::Raw.code());
        assert_eq!(round(b""), [Method::Raw.code()]);
    }

    #[test]
    fn a_sample_tells_what_gains() {
        let mut compressor = Compressor::new(3).expect("starts");
        let mut noise = vec![0; 6000];
        crate::base::sys::fill_random(&mut noise).expect("random");
        assert!(!compressor.gains(&noise).expect("samples"));
        assert!(compressor.gains(&b"snow ".repeat(1000)).expect("samples"));
        // All bytes come equally often, and yet it repeats itself.
        let twice = [&noise[..3000], &noise[..3000]].concat();
        assert!(entropy(&twice) > ENTROPY_SURE);
        assert!(compressor.gains(&twice).expect("samples"));
    }

    #[test]
    fn a_wrong_length_or_method_is_an_error() {
        let stored = round(&b"snow ".repeat(1000));
        let mut out = Vec::new();
        assert!(decompress(&stored, 4999, &mut out).is_err());
        assert!(decompress(&stored, 5001, &mut out).is_err());
        assert!(decompress(&[7, 1, 2], 2, &mut out).is_err());
        assert!(decompress(&[], 0, &mut out).is_err());
    }
}
