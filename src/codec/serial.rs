//! Records to bytes and back: the only home of bincode.
//!
//! Standard configuration: little endian, variable-length integers. Bytes from outside are
//! decoded under a limit, must be used up to the last one, and must be the only way to write
//! that record (integers have longer spellings that the decoder would take), so that what is
//! named by its hash has one form.

use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::limits::RECORD_BYTES_MAX;
use bincode::enc::write::Writer;
use bincode::error::EncodeError;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Returns the bytes of a record.
///
/// # Errors
/// `Bug` for a type that bincode cannot express, and for a record that is larger than any that is
/// read.
pub fn encode<T: Serialize>(record: &T) -> Result<Vec<u8>> {
    let bytes = bincode::serde::encode_to_vec(record, bincode::config::standard())
        .map_err(|e| Error::bug("cannot encode a record").caused_by(e))?;
    if bytes.len() > RECORD_BYTES_MAX {
        let (what, length) = (std::any::type_name::<T>(), bytes.len());
        return Err(Error::bug(format!(
            "a record ({what}) of {length} bytes is larger than any that could be read again"
        )));
    }
    Ok(bytes)
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
    if !encodes_to(&record, bytes) {
        return Err(broken("it is not in its one spelling"));
    }
    Ok(record)
}

fn encodes_to<T: Serialize>(record: &T, bytes: &[u8]) -> bool {
    let mut left = Left(bytes);
    let config = bincode::config::standard();
    let written = bincode::serde::encode_into_writer(record, &mut left, config);
    written.is_ok() && left.0.is_empty()
}

/// What is still to be written of bytes that are known; anything else is refused.
struct Left<'a>(&'a [u8]);

impl Writer for Left<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> std::result::Result<(), EncodeError> {
        self.0 = self.0.strip_prefix(bytes).ok_or(EncodeError::UnexpectedEnd)?;
        Ok(())
    }
}

/// Bytes in a record: `#[serde(with = "crate::codec::serial::bytes")]`. They are stored as any list
/// is, length and bytes, but go in one piece instead of one by one.
pub mod bytes {
    use serde::Deserializer;
    use serde::Serializer;
    use serde::de::Error;
    use serde::de::Visitor;
    use std::fmt;

    /// Writes bytes.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(bytes)
    }

    /// Reads bytes; memory is taken for no more than there are.
    ///
    /// # Errors
    /// Those of the deserializer.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        from.deserialize_bytes(Copied)
    }

    struct Copied;

    impl Visitor<'_> for Copied {
        type Value = Vec<u8>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("bytes")
        }

        fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
            Ok(bytes.to_vec())
        }
    }
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

    #[derive(Debug, PartialEq, Serialize, serde::Deserialize)]
    struct InOnePiece(#[serde(with = "bytes")] Vec<u8>, u8);

    #[test]
    fn bytes_in_one_piece_are_stored_as_a_list_of_bytes_is() {
        for length in [0, 1, 250, 251, 65_535, 65_536] {
            let (list, last) = (vec![7_u8; length], 9_u8);
            let record = InOnePiece(list.clone(), last);
            let bytes = encode(&(list, last)).expect("encodes");
            assert_eq!(encode(&record).expect("encodes"), bytes);
            assert_eq!(decode::<InOnePiece>(&bytes, "x").expect("decodes"), record);
            let mut short = bytes.clone();
            short.pop();
            assert!(decode::<InOnePiece>(&short, "x").is_err());
        }
        let hostile = [&[253_u8][..], &u64::MAX.to_le_bytes()[..]].concat();
        for bytes in [&hostile[..], &[252, 255, 255, 255, 1, 0][..], &[251, 1, 0, 7, 9][..]] {
            let error = decode::<InOnePiece>(bytes, "x").expect_err("bad");
            assert_eq!(error.kind(), ErrorKind::Corrupt);
        }
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
