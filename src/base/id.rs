//! Ids as types of their own, so that a pack id can never be passed where a block id is meant.
//!
//! Two families: 32-byte hashes ([`BlobId`], [`BlockId`], [`PackId`], [`SnapshotHash`]) and
//! 16-byte ids ([`RepositoryId`], [`DatasetId`], [`LeaseId`], [`IndexId`], [`TombstoneId`],
//! [`KeyId`]). All print as lower-case hex and parse from it.

use crate::base::error::Error;
use crate::base::error::Result;
use serde::Deserialize;
use serde::Serialize;
use std::fmt;
use std::str::FromStr;

/// Writes bytes as lower-case hex.
pub fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// Reads lower-case hex of exactly `N` bytes.
///
/// # Errors
/// `InvalidInput` for another length or another character; upper case is refused, so that a
/// name has one spelling.
pub fn from_hex<const N: usize>(text: &str) -> Result<[u8; N]> {
    let digits = text.as_bytes();
    let mut bytes = [0_u8; N];
    if digits.len() != N * 2 {
        return Err(Error::invalid(format!(
            "{} hex digits are needed, not {}",
            N * 2,
            digits.len()
        )));
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Ok(bytes)
}

fn nibble(digit: u8) -> Result<u8> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => Err(Error::invalid("only the digits 0-9 and a-f make an id")),
    }
}

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident, $length:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name([u8; $length]);

        impl $name {
            /// How many bytes the id has.
            pub const LENGTH: usize = $length;

            /// Makes the id of these bytes.
            pub const fn new(bytes: [u8; $length]) -> Self {
                $name(bytes)
            }

            /// Makes the id of a slice of exactly the right length.
            ///
            /// # Errors
            /// `Corrupt` when the length is another.
            pub fn from_slice(bytes: &[u8]) -> Result<Self> {
                bytes.try_into().map($name).map_err(|_| {
                    Error::corrupt(format!("an id of {} bytes is needed", $length))
                })
            }

            /// Returns the bytes.
            pub const fn as_bytes(&self) -> &[u8; $length] {
                &self.0
            }

            /// Returns the first eight hex digits, for people.
            pub fn short(&self) -> String {
                to_hex(&self.0[..4])
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&to_hex(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.short())
            }
        }

        impl FromStr for $name {
            type Err = Error;
            fn from_str(text: &str) -> Result<Self> {
                from_hex(text).map($name)
            }
        }
    };
}

id_type!(
    /// Names a blob: BLAKE3 of its plaintext, keyed when the repository is encrypted.
    BlobId, 32
);
id_type!(
    /// Names a block: root of the small tree over its table.
    BlockId, 32
);
id_type!(
    /// Names a pack: BLAKE3 of its bytes before the checksum, which is the same value.
    PackId, 32
);
id_type!(
    /// Hash over the sorted entries of a snapshot, change-detection fields left out.
    SnapshotHash, 32
);
id_type!(
    /// Names a repository; random.
    RepositoryId, 16
);
id_type!(
    /// Names a dataset's folder; stays when the dataset is renamed.
    DatasetId, 16
);
id_type!(
    /// Names a lease; random.
    LeaseId, 16
);
id_type!(
    /// Names a pack index object; random.
    IndexId, 16
);
id_type!(
    /// Names a tombstone; random.
    TombstoneId, 16
);
id_type!(
    /// Names a password slot; random.
    KeyId, 16
);
id_type!(
    /// Names a parity object beside its pack; random.
    ParityId, 16
);

/// The number of a backup in its dataset; prints as `backup_7`.
///
/// ```
/// use icecore::base::id::BackupId;
/// assert_eq!(BackupId(7).to_string(), "backup_7");
/// assert_eq!("backup_7".parse::<BackupId>().unwrap(), BackupId(7));
/// assert_eq!("7".parse::<BackupId>().unwrap(), BackupId(7));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BackupId(pub u64);

impl fmt::Display for BackupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "backup_{}", self.0)
    }
}

impl FromStr for BackupId {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let digits = text.strip_prefix("backup_").unwrap_or(text);
        let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        match digits.parse() {
            Ok(number) if plain => Ok(BackupId(number)),
            _ => Err(Error::invalid(format!("{text:?} is no backup number"))
                .hint("write a number as in `photos@3` or `photos@backup_3`")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_goes_round() {
        let id = LeaseId::new([0xab; 16]);
        assert_eq!(id.to_string().parse::<LeaseId>().expect("parses"), id);
        assert_eq!(id.short(), "abababab");
    }

    #[test]
    fn other_spellings_of_an_id_are_refused() {
        assert!("AB".repeat(16).parse::<LeaseId>().is_err());
        assert!("ab".repeat(15).parse::<LeaseId>().is_err());
        assert!("zz".repeat(16).parse::<LeaseId>().is_err());
    }

    #[test]
    fn backup_numbers_are_plain_digits() {
        assert!("+3".parse::<BackupId>().is_err());
        assert!("backup_".parse::<BackupId>().is_err());
        assert!("99999999999999999999".parse::<BackupId>().is_err());
    }
}
