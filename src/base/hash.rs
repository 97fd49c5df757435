//! BLAKE3: the only place that names the crate.
//!
//! Every purpose has a context of its own, so that a hash made for one purpose can never be
//! taken for another (domain separation by BLAKE3's key derivation mode).

use blake3::hazmat;
use blake3::hazmat::ContextKey;
use blake3::hazmat::HasherExt;
use std::io::Read;
use std::sync::OnceLock;

/// A BLAKE3 output of 32 bytes.
pub type Digest = [u8; 32];

/// Returns the plain BLAKE3 of `bytes`.
pub fn hash(bytes: &[u8]) -> Digest {
    *blake3::hash(bytes).as_bytes()
}

/// Returns the BLAKE3 of `bytes` under a key.
pub fn keyed(key: &Digest, bytes: &[u8]) -> Digest {
    *blake3::keyed_hash(key, bytes).as_bytes()
}

/// Returns a key or an id for one purpose: BLAKE3 `derive_key` of `context` over `material`.
pub fn derive(context: &'static str, material: &[u8]) -> Digest {
    blake3::derive_key(context, material)
}

/// A purpose for which very many numbers are made: its context is hashed once.
#[derive(Clone, Debug)]
pub struct Purpose {
    context: &'static str,
    key: OnceLock<ContextKey>,
}

impl Purpose {
    /// Names the purpose.
    pub const fn new(context: &'static str) -> Self {
        Purpose { context, key: OnceLock::new() }
    }

    /// Returns the first eight bytes of what [`derive()`] returns, little endian.
    pub fn number(&self, material: &[u8]) -> u64 {
        let key = self.key.get_or_init(|| hazmat::hash_derive_key_context(self.context));
        let mut hasher = blake3::Hasher::new_from_context_key(key);
        let digest = hasher.update(material).finalize();
        digest.as_bytes().first_chunk().map_or(0, |first| u64::from_le_bytes(*first))
    }
}

/// Fills `out` with bytes derived for one purpose from `material`; any length.
pub fn derive_into(context: &'static str, material: &[u8], out: &mut [u8]) {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    hasher.update(material);
    hasher.finalize_xof().fill(out);
}

/// Compares two digests in a time that does not depend on where they differ.
pub fn same(a: &Digest, b: &Digest) -> bool {
    blake3::Hash::from_bytes(*a) == blake3::Hash::from_bytes(*b)
}

/// A hash that is fed piece by piece.
#[derive(Clone, Debug)]
pub struct Hasher(blake3::Hasher);

impl Hasher {
    /// Starts a plain hash.
    pub fn new() -> Self {
        Hasher(blake3::Hasher::new())
    }

    /// Starts a hash under a key.
    pub fn new_keyed(key: &Digest) -> Self {
        Hasher(blake3::Hasher::new_keyed(key))
    }

    /// Starts a hash for one purpose.
    pub fn new_derive(context: &'static str) -> Self {
        Hasher(blake3::Hasher::new_derive_key(context))
    }

    /// Feeds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Feeds all that `reader` gives.
    ///
    /// # Errors
    /// Those of the reader.
    pub fn update_reader(&mut self, reader: impl Read) -> std::io::Result<()> {
        self.0.update_reader(reader).map(|_| ())
    }

    /// Returns the hash of what was fed so far.
    pub fn finish(&self) -> Digest {
        *self.0.finalize().as_bytes()
    }
}

impl Default for Hasher {
    fn default() -> Self {
        Hasher::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_empty_hash_is_the_published_one() {
        let expected = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
        let hex: String = hash(b"").iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, expected);
    }

    #[test]
    fn contexts_separate() {
        assert_ne!(derive("a", b"x"), derive("b", b"x"));
    }

    #[test]
    fn a_purpose_gives_what_its_context_gives() {
        for length in [0, 1, 64, 65, 5000] {
            let material = vec![7; length];
            let digest = derive("a", &material);
            let number =
                digest.iter().take(8).rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
            assert_eq!(Purpose::new("a").number(&material), number);
        }
    }

    #[test]
    fn piecewise_equals_whole() {
        let mut hasher = Hasher::new();
        hasher.update(b"ab");
        hasher.update(b"c");
        assert_eq!(hasher.finish(), hash(b"abc"));
    }
}
