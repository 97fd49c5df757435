//! AES-256-GCM, by aws-lc-rs.
//!
//! A key is used for one object (a record or a pack), derived from a fresh random salt, so a
//! nonce is a plain number that says which part of the object it seals and never repeats.
//! GCM does not commit to its key: [`commitment`] does, and is compared before the first use.

use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::hash;
use aws_lc_rs::aead::AES_256_GCM;
use aws_lc_rs::aead::Aad;
use aws_lc_rs::aead::LessSafeKey;
use aws_lc_rs::aead::Nonce;
use aws_lc_rs::aead::UnboundKey;

/// Bytes that sealing adds.
pub const TAG_BYTES: usize = 16;
/// Bytes of random salt in every sealed object.
pub const SALT_BYTES: usize = 32;

/// Which part of an object is sealed: the first byte of the nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Part {
    /// The body of a record.
    Record = 0,
    /// Block number n of a pack.
    Block = 1,
    /// The table of block number n of a pack.
    Table = 2,
    /// The footer of a pack.
    Footer = 3,
}

/// A cipher for one object.
pub struct Cipher(LessSafeKey);

impl Cipher {
    /// Makes the cipher of a key.
    ///
    /// # Errors
    /// `Bug`: 32 bytes always make a key.
    pub fn new(key: &[u8; 32]) -> Result<Self> {
        let key = UnboundKey::new(&AES_256_GCM, key)
            .map_err(|_| Error::bug("a key of 32 bytes was refused"))?;
        Ok(Cipher(LessSafeKey::new(key)))
    }

    /// Encrypts `bytes[start..]` in place and appends the tag.
    ///
    /// # Errors
    /// `Bug`: only beyond 64 GiB.
    pub fn seal(
        &self,
        part: Part,
        number: u64,
        associated: &[u8],
        bytes: &mut Vec<u8>,
        start: usize,
    ) -> Result<()> {
        let nonce = nonce(part, number);
        let tag = self
            .0
            .seal_in_place_separate_tag(nonce, Aad::from(associated), &mut bytes[start..])
            .map_err(|_| Error::bug("cannot encrypt"))?;
        bytes.extend_from_slice(tag.as_ref());
        Ok(())
    }

    /// Decrypts `bytes` in place and returns the plaintext within it.
    ///
    /// # Errors
    /// `Corrupt` when the bytes are not what was sealed under this key, part and number.
    pub fn open<'a>(
        &self,
        part: Part,
        number: u64,
        associated: &[u8],
        bytes: &'a mut [u8],
    ) -> Result<&'a [u8]> {
        let plain = self
            .0
            .open_in_place(nonce(part, number), Aad::from(associated), bytes)
            .map_err(|_| Error::corrupt("encrypted bytes are damaged or not from here"))?;
        Ok(plain)
    }
}

fn nonce(part: Part, number: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[0] = part as u8;
    bytes[4..].copy_from_slice(&number.to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
}

/// Returns what commits to `key`: stored in the clear, it shows nothing of the key, and only
/// that key has it.
pub fn commitment(key: &[u8; 32]) -> hash::Digest {
    hash::derive("icecore 2026-11-21 key commitment v1", key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sealed_bytes_open_only_in_their_place() {
        let cipher = Cipher::new(&[7; 32]).expect("a key");
        let mut bytes = b"headplain".to_vec();
        cipher.seal(Part::Block, 3, b"here", &mut bytes, 4).expect("seals");
        assert_eq!(&bytes[..4], b"head");
        let open = |part, number, associated: &[u8]| {
            cipher.open(part, number, associated, &mut bytes.clone()[4..]).map(<[u8]>::to_vec)
        };
        assert_eq!(open(Part::Block, 3, b"here").expect("opens"), b"plain");
        assert!(open(Part::Block, 4, b"here").is_err());
        assert!(open(Part::Table, 3, b"here").is_err());
        assert!(open(Part::Block, 3, b"there").is_err());
    }

    #[test]
    fn the_nist_vector_of_aes_256_gcm_comes_out() {
        // All-zero key, nonce and block: test case 14 of the GCM specification.
        let cipher = Cipher::new(&[0; 32]).expect("a key");
        let mut bytes = vec![0; 16];
        cipher.seal(Part::Record, 0, b"", &mut bytes, 0).expect("seals");
        let hex = crate::base::id::to_hex(&bytes);
        assert_eq!(hex, "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919");
    }
}
