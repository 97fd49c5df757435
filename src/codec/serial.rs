//! Records to bytes and back: the only home of bincode.
//!
//! Standard configuration: little endian, variable-length integers. Bytes from outside are
//! decoded under a limit, must be used up to the last one, and must be the only way to write
//! that record (integers have longer spellings that the decoder would take), so that what is
//! named by its hash has one form.

use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::limits::RECORD_BYTES_MAX;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Returns the bytes of a record.
///
/// # Errors
/// `Bug`: only a type that bincode cannot express fails.
pub fn encode<T: Serialize>(record: &T) -> Result<Vec<u8>> {
    bincode::serde::encode_to_vec(record, bincode::config::standard())
        .map_err(|e| Error::bug("cannot encode a record").caused_by(e))
}

/// Reads a record. `object` names it in errors.
///
/// # Errors
/// `Corrupt` when the bytes are not exactly one record in its one spelling, or larger than the
/// limit on records.
pub fn decode<T: DeserializeOwned + Serialize>(bytes: &[u8], object: &str) -> Result<T> {
    let broken = |why: &str| Error::corrupt(format!("cannot decode {object}: {why}"));
    if bytes.len() > RECORD_BYTES_MAX {
        return Err(broken("it is larger than any record"));
    }
    // The limit counts what is claimed from memory; a record of n bytes never honestly needs
    // more than a small multiple, and a hostile length is refused before it allocates.
    let config = bincode::config::standard().with_limit::<{ 8 * RECORD_BYTES_MAX }>();
    let (record, used): (T, usize) = bincode::serde::decode_from_slice(bytes, config)
        .map_err(|e| broken("its bytes make no sense").caused_by(e))?;
    if used != bytes.len() {
        return Err(broken("bytes are left over"));
    }
    if encode(&record)? != bytes {
        return Err(broken("it is not in its one spelling"));
    }
    Ok(record)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::ErrorKind;

    #[test]
    fn a_record_goes_round() {
        let record = (7_u64, Some(vec![1_u8, 2]), "x".to_owned(), -3_i64);
        let bytes = encode(&record).expect("encodes");
        let back: (u64, Option<Vec<u8>>, String, i64) = decode(&bytes, "x").expect("decodes");
        assert_eq!(back, record);
    }

    #[test]
    fn leftovers_long_spellings_and_hostile_lengths_are_refused() {
        let hostile = [&[253_u8][..], &u64::MAX.to_le_bytes()[..]].concat();
        let cases: [&[u8]; 3] = [&[5, 0], &[251, 5, 0], &hostile];
        for bytes in &cases[..2] {
            assert_eq!(decode::<u64>(bytes, "x").expect_err("bad").kind(), ErrorKind::Corrupt);
        }
        let error = decode::<Vec<u64>>(cases[2], "x").expect_err("hostile");
        assert_eq!(error.kind(), ErrorKind::Corrupt);
    }
}
