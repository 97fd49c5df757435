//! The steps of a backup, each alone: hash, cut, compress, seal, and open again.

use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::hash;
use crate::base::limits::BENCH_DATA_BYTES;
use crate::base::limits::BENCH_ROUNDS_MAX;
use crate::base::limits::BLOCK_BYTES_TARGET;
use crate::chunk;
use crate::chunk::ChunkParameters;
use crate::chunk::Cut;
use crate::chunk::fastcdc::GearTable;
use crate::codec::compress::Compressor;
use crate::codec::compress::LEVEL_DEFAULT;
use crate::codec::crypt::Cipher;
use crate::codec::crypt::Part;
use crate::engine::Context;
use crate::engine::bench::Measured;
use crate::engine::bench::data::Numbers;
use crate::engine::pool;
use std::collections::BTreeSet;
use std::hint::black_box;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

/// Bytes that sealing adds.
const TAG_BYTES: usize = 16;

/// A step: what is made once for each thread, and what is done with one block.
type Step<'a> = Box<dyn Fn() -> Result<Work<'a>> + Sync + 'a>;
type Work<'a> = Box<dyn FnMut(&[u8]) -> Result<()> + 'a>;

/// Measures each step on one thread, and where there are more on all.
///
/// # Errors
/// `Cancelled`; `Io` when threads cannot be started.
pub fn run(seconds: f64, context: &Context<'_>) -> Result<Vec<Measured>> {
    let text = Numbers::new(1).text(BENCH_DATA_BYTES);
    let noise = Numbers::new(2).noise(BENCH_DATA_BYTES);
    let sealed = sealed(&noise)?;
    let mut measured = Vec::new();
    let threads: BTreeSet<usize> = BTreeSet::from([1, context.threads.max(1)]);
    for (name, data, step) in steps(&text, &noise, &sealed) {
        for &threads in &threads {
            let (bytes, taken) = measure(data, &step, seconds, threads, context)?;
            let name = name.clone();
            let seconds = taken;
            measured.push(Measured {
                name,
                threads,
                bytes,
                files: None,
                stored_bytes: None,
                seconds,
            });
        }
    }
    Ok(measured)
}

/// Each step with its name and what it works on.
fn steps<'a>(
    text: &'a [u8],
    noise: &'a [u8],
    sealed: &'a [u8],
) -> Vec<(String, &'a [u8], Step<'static>)> {
    let mut steps: Vec<(String, &[u8], Step<'static>)> = vec![
        ("hash (BLAKE3)".to_owned(), noise, Box::new(hashing)),
        ("chunk".to_owned(), text, Box::new(cutting)),
    ];
    for level in BTreeSet::from([1, 3, LEVEL_DEFAULT]) {
        for (kind, data) in [("text", text), ("random", noise)] {
            let step: Step<'static> = Box::new(move || compressing(level));
            steps.push((format!("compress (zstd {level}), {kind}"), data, step));
        }
    }
    steps.push(("seal (AES-256-GCM)".to_owned(), noise, Box::new(sealing)));
    steps.push(("open (AES-256-GCM)".to_owned(), sealed, Box::new(opening)));
    steps
}

fn hashing() -> Result<Work<'static>> {
    Ok(Box::new(|block| {
        black_box(hash::hash(block));
        Ok(())
    }))
}

fn cutting() -> Result<Work<'static>> {
    let gear = GearTable::public();
    let average = ChunkParameters::default().average_fine;
    let cut = Cut::Gear { average_log2: average.ilog2() as u8 };
    Ok(Box::new(move |block| {
        chunk::cut_lengths(block, cut, &gear, |range| {
            black_box(range);
        });
        Ok(())
    }))
}

/// With the comparison that every stored block goes through.
fn compressing(level: i32) -> Result<Work<'static>> {
    let mut compressor = Compressor::new(level)?;
    let mut out = Vec::new();
    Ok(Box::new(move |block| {
        out.clear();
        compressor.compress(block, &mut out)?;
        black_box(&out);
        Ok(())
    }))
}

/// A key and a number that nothing else is ever sealed under: what comes out is thrown away.
fn cipher() -> Result<Cipher> {
    Cipher::new(&[7; 32])
}

fn sealing() -> Result<Work<'static>> {
    let (cipher, mut out) = (cipher()?, Vec::new());
    Ok(Box::new(move |block| {
        out.clear();
        out.extend_from_slice(block);
        cipher.seal(Part::Block, 0, b"bench", &mut out, 0)
    }))
}

fn opening() -> Result<Work<'static>> {
    let (cipher, mut out) = (cipher()?, Vec::new());
    Ok(Box::new(move |block| {
        out.clear();
        out.extend_from_slice(block);
        black_box(cipher.open(Part::Block, 0, b"bench", &mut out)?);
        Ok(())
    }))
}

/// Seals data so that each block's worth of it opens by itself.
fn sealed(plain: &[u8]) -> Result<Vec<u8>> {
    let cipher = cipher()?;
    let mut sealed = Vec::with_capacity(plain.len());
    for block in plain.chunks(BLOCK_BYTES_TARGET) {
        let start = sealed.len();
        sealed.extend_from_slice(&block[..block.len().saturating_sub(TAG_BYTES)]);
        cipher.seal(Part::Block, 0, b"bench", &mut sealed, start)?;
    }
    Ok(sealed)
}

/// Runs a step on so many threads until the time is over, each block by block; returns how many
/// bytes went through and the seconds that took. At least one block goes through each thread.
fn measure(
    data: &[u8],
    step: &Step<'_>,
    seconds: f64,
    threads: usize,
    context: &Context<'_>,
) -> Result<(u64, f64)> {
    let total = AtomicU64::new(0);
    let failed: Mutex<Option<Error>> = Mutex::new(None);
    let start = context.clock.now();
    let elapsed = || context.clock.now().seconds_since(start);
    let work = |_: usize| -> Result<()> {
        let mut work = step()?;
        for block in data.chunks(BLOCK_BYTES_TARGET).cycle().take(BENCH_ROUNDS_MAX) {
            context.cancel.check()?;
            work(block)?;
            total.fetch_add(block.len() as u64, Ordering::Relaxed);
            if elapsed() >= seconds {
                break;
            }
        }
        Ok(())
    };
    let keep = |thread: usize| {
        if let Err(e) = work(thread) {
            *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(e);
        }
    };
    pool::beside(threads, keep, || ())?;
    let taken = elapsed();
    match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(e) => Err(e),
        None => Ok((total.into_inner(), taken)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::cancel::Cancel;
    use crate::base::error::ErrorKind;
    use crate::base::progress::Silent;
    use crate::base::time::Clock;
    use crate::base::time::FixedClock;
    use crate::base::time::Timestamp;

    /// Goes on a second each time it is asked.
    #[derive(Default)]
    struct Ticking(FixedClock);

    impl Clock for Ticking {
        fn now(&self) -> Timestamp {
            self.0.advance(1);
            self.0.now()
        }
    }

    #[test]
    fn every_step_runs_on_one_thread_and_on_all() {
        let (clock, cancel) = (Ticking::default(), Cancel::new());
        let context = Context { progress: &Silent, cancel: &cancel, clock: &clock, threads: 2 };

        let measured = run(3.0, &context).expect("measures");

        let threads: Vec<usize> = measured.iter().map(|it| it.threads).collect();
        assert_eq!(threads, [1, 2].repeat(measured.len() / 2));
        for it in &measured {
            let blocks = it.bytes.div_ceil(BLOCK_BYTES_TARGET as u64);
            assert!((1..=4).contains(&blocks) && it.seconds >= 3.0, "{it:?}");
        }
        for word in ["hash", "chunk", "zstd 1), text", "zstd 3), random", "seal", "open"] {
            assert!(measured.iter().any(|it| it.name.contains(word)), "{word}: {measured:?}");
        }
        cancel.cancel();
        let error = run(3.0, &context).expect_err("cancelled");
        assert_eq!(error.kind(), ErrorKind::Cancelled);
    }
}
