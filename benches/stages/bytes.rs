//! Chunk, hash and compress: content of three kinds, in memory.

use crate::data;
use crate::data::MIB;
use crate::data::Place;
use crate::measure::Done;
use crate::measure::Side;
use crate::measure::Unit;
use crate::measure::ensure;
use crate::measure::row;
use crate::measure::side;
use crate::measure::timed;
use crate::settings::Settings;
use icecore::base::limits::BLOCK_BYTES_TARGET;
use icecore::base::limits::KIB;
use icecore::chunk;
use icecore::chunk::Cut;
use icecore::chunk::fastcdc::GearTable;
use icecore::codec::compress;
use icecore::codec::compress::Compressor;
use icecore::codec::compress::LEVEL_DEFAULT;
use icecore::engine::backup::sample::compresses;
use std::hint::black_box;
use std::path::Path;

/// What each file has that is not cut at all.
const SMALL_FILE_BYTES: usize = 16 * KIB;
/// What is sampled of a file of 1 MiB.
const SAMPLE_BYTES: usize = 3 * 16 * KIB;

/// Reads all of it once, as fast as memory gives it.
fn read_all(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let sum = |sum: u64, word: &[u8; 8]| sum.wrapping_add(u64::from_le_bytes(*word));
    rest.iter().fold(words.iter().fold(0, sum), |sum, byte| sum ^ u64::from(*byte))
}

fn reading(bytes: &[u8]) -> Side<'_> {
    side("reading memory", move || Ok(timed(|| read_all(black_box(bytes))).1))
}

/// Each way to cut. Two of them look at no byte, so they are counted by chunks.
pub(crate) fn chunk(settings: &Settings, _: &Path) -> Done<()> {
    let gear = GearTable::public();
    let kinds = data::kinds(settings);
    for average_log2 in data::averages_log2() {
        for kind in &kinds {
            let name = format!("by content, {} KiB, {}", (1 << average_log2) / KIB, kind.name);
            let ours = side(name, || {
                let ((end, chunks), taken) = timed(|| {
                    let (cut, mut seen) = (Cut::Gear { average_log2 }, (0, 0));
                    chunk::cut_lengths(black_box(&kind.bytes), cut, &gear, |range| {
                        seen = (range.end, seen.1 + 1);
                    });
                    seen
                });
                let is_all = end == kind.bytes.len() && chunks > end >> (average_log2 + 2);
                ensure(is_all, "the chunks do not cover the bytes")?;
                Ok(taken)
            });
            row(settings, "chunk", (Unit::Bytes, kind.bytes.len()), ours, reading(&kind.bytes))?;
        }
    }
    let bytes = &kinds[0].bytes;
    let count = bytes.len() / SMALL_FILE_BYTES;
    let fixed = Cut::Fixed { length_log2: SMALL_FILE_BYTES.ilog2() as u8 };
    let cases = [
        ("at multiples of 16 KiB", fixed, bytes.len()),
        ("not at all, 16 KiB files", Cut::Whole, SMALL_FILE_BYTES),
    ];
    for (name, cut, file_bytes) in cases {
        let ours = side(name, || {
            let (total, taken) = timed(|| {
                let mut total = 0;
                for file in black_box(bytes).chunks(file_bytes) {
                    chunk::cut_lengths(file, cut, &gear, |range| total += black_box(range).len());
                }
                total
            });
            ensure(total == bytes.len(), "the chunks do not cover the bytes")?;
            Ok(taken)
        });
        let limit = side("counting", || {
            Ok(timed(|| (0..black_box(count)).for_each(|n| _ = black_box(n..n + 1))).1)
        });
        row(settings, "chunk", (Unit::Single("chunk"), count), ours, limit)?;
    }
    Ok(())
}

/// Names of blobs, small and large, plain and keyed.
pub(crate) fn hash(settings: &Settings, folder: &Path) -> Done<()> {
    let bytes = data::noise(settings.part(64, 4) * MIB);
    for is_encrypted in [false, true] {
        let (_, repository) = Place::create(folder, is_encrypted)?;
        let kind = if is_encrypted { "keyed" } else { "plain" };
        for (name, blob_bytes) in [("4 KiB", 4 * KIB), ("1 MiB", MIB)] {
            let ours = side(format!("names of blobs of {name}, {kind}"), || {
                let mut blobs = black_box(&bytes).chunks_exact(blob_bytes);
                let name = |blob: &[u8]| _ = black_box(repository.name_blob(blob));
                Ok(timed(|| blobs.by_ref().for_each(name)).1)
            });
            let whole = || Ok(timed(|| blake3::hash(black_box(&bytes))).1);
            let limit = side("BLAKE3 over all of it", whole);
            row(settings, "hash", (Unit::Bytes, bytes.len()), ours, limit)?;
        }
    }
    Ok(())
}

/// Makes zstd as the library has it, at its level.
pub(crate) fn bare_zstd(level: i32) -> Done<zstd::bulk::Compressor<'static>> {
    let mut zstd = zstd::bulk::Compressor::new(level)?;
    zstd.include_checksum(false)?;
    zstd.include_contentsize(true)?;
    Ok(zstd)
}

/// Blocks, with the decoding after each; and samples, which tell whether it is worth while.
pub(crate) fn compress(settings: &Settings, _: &Path) -> Done<()> {
    let kinds = data::kinds(settings);
    for kind in &kinds {
        check(&kind.bytes[..MIB])?;
        let mut compressor = Compressor::new(LEVEL_DEFAULT)?;
        let mut out = Vec::new();
        let ours = side(format!("blocks of 1 MiB, decoded again, {}", kind.name), || {
            let (done, taken) = timed(|| {
                kind.bytes.chunks(BLOCK_BYTES_TARGET).try_for_each(|block| {
                    out.clear();
                    compressor.compress(block, &mut out)
                })
            });
            done?;
            Ok(taken)
        });
        let mut zstd = bare_zstd(LEVEL_DEFAULT)?;
        let mut packed = vec![0; zstd::zstd_safe::compress_bound(BLOCK_BYTES_TARGET)];
        let limit = side(format!("zstd {LEVEL_DEFAULT}"), || {
            let (done, taken) = timed(|| {
                kind.bytes
                    .chunks(BLOCK_BYTES_TARGET)
                    .try_for_each(|block| zstd.compress_to_buffer(block, &mut packed[..]).map(drop))
            });
            done?;
            Ok(taken)
        });
        row(settings, "compress", (Unit::Bytes, kind.bytes.len()), ours, limit)?;
    }
    for kind in &kinds {
        let mut compressor = Compressor::new(LEVEL_DEFAULT)?;
        let wanted = kind.name != "noise";
        let count = kind.bytes.len() / MIB;
        let ours = side(format!("samples of 1 MiB files, {}", kind.name), || {
            let (is_right, taken) = timed(|| {
                kind.bytes.chunks(MIB).all(|file| {
                    compresses(file, &mut compressor).is_ok_and(|gains| gains == wanted)
                })
            });
            ensure(is_right, "a sample tells what is wrong")?;
            Ok(taken)
        });
        let mut copy = vec![0; SAMPLE_BYTES];
        let limit = side("copying 48 KiB of each", || {
            let copy_of = |file: &[u8]| {
                copy.copy_from_slice(&black_box(file)[..SAMPLE_BYTES]);
                black_box(&copy);
            };
            Ok(timed(|| kind.bytes.chunks(MIB).for_each(copy_of)).1)
        });
        row(settings, "compress", (Unit::Single("file"), count), ours, limit)?;
    }
    Ok(())
}

/// What is compressed decodes to what it was.
fn check(plain: &[u8]) -> Done<()> {
    let (mut stored, mut back) = (Vec::new(), Vec::new());
    Compressor::new(LEVEL_DEFAULT)?.compress(plain, &mut stored)?;
    compress::decompress(&stored, plain.len(), &mut back)?;
    ensure(back == plain, "what was compressed decodes to something else")
}
