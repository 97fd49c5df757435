//! BLAKE3: the only place that names the crate.
//!
//! Every purpose has a context of its own, so that a hash made for one purpose can never be
//! taken for another (domain separation by BLAKE3's key derivation mode).

use std::io::Read;

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
    fn piecewise_equals_whole() {
        let mut hasher = Hasher::new();
        hasher.update(b"ab");
        hasher.update(b"c");
        assert_eq!(hasher.finish(), hash(b"abc"));
    }
}
