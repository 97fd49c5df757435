//! Reed-Solomon code over shards of bytes: the only place that names the crate.
//!
//! Data is cut into shards of one size, the last one filled up with zeros. Of `n` shards and `m`
//! recovery shards any `n` give all of the data back; which of them are good is for the caller to
//! know.

use crate::base::error::Error;
use crate::base::error::Result;
use reed_solomon_simd::ReedSolomonDecoder;
use reed_solomon_simd::ReedSolomonEncoder;

/// Returns the recovery shards of some data, side by side.
///
/// # Errors
/// `InvalidInput` for no data, and for counts and sizes that the code does not have.
pub fn encode(data: &[u8], shard_bytes: usize, recovery: usize) -> Result<Vec<u8>> {
    let shards = data.len().div_ceil(shard_bytes.max(1));
    let mut encoder = ReedSolomonEncoder::new(shards, recovery, shard_bytes).map_err(refused)?;
    for shard in data.chunks(shard_bytes) {
        if shard.len() == shard_bytes {
            encoder.add_original_shard(shard).map_err(refused)?;
        } else {
            let mut filled = shard.to_vec();
            filled.resize(shard_bytes, 0);
            encoder.add_original_shard(filled).map_err(refused)?;
        }
    }
    let made = encoder.encode().map_err(refused)?;
    let mut bytes = Vec::with_capacity(shard_bytes.saturating_mul(recovery));
    made.recovery_iter().for_each(|shard| bytes.extend_from_slice(shard));
    Ok(bytes)
}

/// Puts the lost shards of some data back in place. The data is whole shards; `lost` names those
/// whose bytes are not to be trusted, and `good` holds recovery shards with their numbers, of
/// `recovery` that were made.
///
/// # Errors
/// `Corrupt` when there are fewer good recovery shards than lost ones; `InvalidInput` for counts
/// and sizes that the code does not have.
pub fn restore(
    data: &mut [u8],
    shard_bytes: usize,
    lost: &[usize],
    good: &[(usize, &[u8])],
    recovery: usize,
) -> Result<()> {
    if lost.is_empty() {
        return Ok(());
    }
    if good.len() < lost.len() {
        return Err(Error::corrupt("more shards are lost than recovery shards are good"));
    }
    let shards = data.len() / shard_bytes.max(1);
    let mut decoder = ReedSolomonDecoder::new(shards, recovery, shard_bytes).map_err(refused)?;
    let mut is_lost = vec![false; shards];
    for &n in lost {
        *is_lost.get_mut(n).ok_or_else(|| Error::invalid("there is no such shard"))? = true;
    }
    for (n, shard) in data.chunks_exact(shard_bytes).enumerate().filter(|(n, _)| !is_lost[*n]) {
        decoder.add_original_shard(n, shard).map_err(refused)?;
    }
    for (n, shard) in good.iter().take(lost.len()) {
        decoder.add_recovery_shard(*n, shard).map_err(refused)?;
    }
    let restored = decoder.decode().map_err(refused)?;
    for (n, shard) in restored.restored_original_iter() {
        let place = data.get_mut(n * shard_bytes..(n + 1) * shard_bytes);
        place.ok_or_else(|| Error::bug("a shard beyond the data"))?.copy_from_slice(shard);
    }
    Ok(())
}

fn refused(error: reed_solomon_simd::Error) -> Error {
    Error::invalid(format!("no such parity: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(length: usize) -> Vec<u8> {
        (0..length).map(|n| (n * 31 % 251) as u8).collect()
    }

    /// Loses shards and restores them.
    fn heal(length: usize, lost: &[usize], bad: &[usize], recovery: usize) -> Result<bool> {
        let data = data(length);
        let made = encode(&data, 64, recovery)?;
        assert_eq!(made.len(), 64 * recovery);
        let mut hurt = data.clone();
        hurt.resize(length.div_ceil(64) * 64, 0);
        let whole = hurt.clone();
        lost.iter().for_each(|n| hurt[n * 64..(n + 1) * 64].fill(0xee));
        let good = made.chunks(64).enumerate().filter(|(n, _)| !bad.contains(n));
        let good: Vec<(usize, &[u8])> = good.collect();
        restore(&mut hurt, 64, lost, &good, recovery)?;
        Ok(hurt == whole)
    }

    #[test]
    fn as_many_lost_shards_as_recovery_shards_come_back() {
        for (length, recovery) in [(1, 1), (64, 2), (65, 2), (1000, 1), (1000, 3), (5000, 90)] {
            let shards = usize::div_ceil(length, 64);
            let most = recovery.min(shards);
            let last: Vec<usize> = (shards - most..shards).collect();
            let first: Vec<usize> = (0..most).collect();
            assert!(heal(length, &first, &[], recovery).expect("heals"), "{length} {recovery}");
            assert!(heal(length, &last, &[], recovery).expect("heals"), "{length} {recovery}");
            assert!(heal(length, &[], &[], recovery).expect("nothing to do"));
        }
    }

    #[test]
    fn one_more_is_refused() {
        assert!(heal(1000, &[0, 5, 9], &[], 3).expect("heals"));
        assert!(heal(1000, &[0, 5], &[1], 3).expect("heals with what is good"));
        assert!(heal(1000, &[0, 5, 9, 10], &[], 3).is_err());
        assert!(heal(1000, &[0, 5, 9], &[1], 3).is_err());
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        assert!(encode(&[], 64, 2).is_err());
        assert!(encode(&[1], 63, 2).is_err());
        assert!(encode(&[1], 0, 2).is_err());
        assert!(encode(&[1], 64, 0).is_err());
        assert!(restore(&mut [0; 128], 64, &[2], &[(0, &[0; 64])], 2).is_err());
        assert!(restore(&mut [0; 128], 64, &[1], &[(7, &[0; 64])], 2).is_err());
        assert!(restore(&mut [0; 128], 64, &[1], &[(0, &[0; 60])], 2).is_err());
    }
}
