//! The frame around every stored object: magic, kind, version, flags, length, checksum.
//!
//! ```text
//!  0  4  magic  "icec"
//!  4  1  kind
//!  5  1  version of the kind
//!  6  1  flags: 1 sealed (encrypted), 2 compressed; others are unknown and refused
//!  7  1  0
//!  8  8  length of the whole object, little endian
//! 16  n  body
//!     32 BLAKE3 of everything before
//! ```
//!
//! The checksum needs no key, so that a storage server can scrub what it holds.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::hash;

const MAGIC: &[u8; 4] = b"icec";
/// Bytes before the body.
pub const HEAD_BYTES: usize = 16;
/// Bytes after the body.
pub const CHECKSUM_BYTES: usize = 32;
/// Flag: the body is encrypted.
pub const SEALED: u8 = 1;
/// Flag: the plaintext of the body is zstd.
pub const COMPRESSED: u8 = 2;
const KNOWN_FLAGS: u8 = SEALED | COMPRESSED;

macro_rules! object_kinds {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $version:literal, $word:literal;)*) => {
        /// What a stored object is. Codes are never used twice.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ObjectKind { $($(#[$doc])* $name,)* }

        impl ObjectKind {
            /// All kinds, in the order of their codes.
            pub const ALL: &[ObjectKind] = &[$(ObjectKind::$name,)*];

            /// Returns the byte that stands for it.
            pub const fn code(self) -> u8 {
                match self { $(ObjectKind::$name => $code,)* }
            }

            /// Returns the highest version this program writes and reads.
            pub const fn version(self) -> u8 {
                match self { $(ObjectKind::$name => $version,)* }
            }

            /// Returns the word for people.
            pub const fn word(self) -> &'static str {
                match self { $(ObjectKind::$name => $word,)* }
            }

            const fn from_code(code: u8) -> Option<ObjectKind> {
                match code { $($code => Some(ObjectKind::$name),)* _ => None }
            }
        }
    };
}

object_kinds! {
    /// The repository's parameters.
    Config = 1, 1, "config";
    /// One password slot.
    Key = 2, 1, "key";
    /// A dataset's name and its id.
    Name = 3, 1, "dataset name";
    /// A backup's header, with its manifest or full index or what names it.
    Backup = 4, 1, "backup header";
    /// Takes a number so that no backup can.
    Void = 5, 1, "void";
    /// Marker: the backup is forgotten.
    Hidden = 6, 1, "forget marker";
    /// Tags and description as changed later.
    Tags = 7, 1, "tags";
    /// Numbers below it that remain.
    Floor = 8, 1, "floor";
    /// Who is writing or reading what.
    Lease = 9, 1, "lease";
    /// A sign of life of a lease.
    Beat = 10, 1, "beat";
    /// Packs and index objects that go.
    Tombstone = 11, 1, "tombstone";
    /// Places that repair declared lost.
    Lost = 12, 1, "lost places";
    /// Blocks and their tables.
    Pack = 13, 1, "pack";
    /// Which pack and offset hold a block.
    PackIndex = 14, 1, "pack index";
    /// Side object that heals bit rot in a pack.
    Parity = 15, 1, "parity";
    /// Class B: a prune asks whether a lease stands.
    Revoke = 16, 1, "revoke mark";
    /// Class B: a lease is over, its header is void.
    Verdict = 17, 1, "void mark";
}

/// A frame taken apart; the checksum was right.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// Version of the kind; never above [`ObjectKind::version`].
    pub version: u8,
    /// Known flags only.
    pub flags: u8,
    /// What stands between head and checksum.
    pub body: &'a [u8],
}

/// Starts an object: its head, with the length still 0; [`finish`] fills it in.
pub fn start(kind: ObjectKind, flags: u8) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256);
    start_in(&mut bytes, kind, flags);
    bytes
}

/// Like [`start`], into an empty buffer that is used again.
pub fn start_in(bytes: &mut Vec<u8>, kind: ObjectKind, flags: u8) {
    debug_assert!(bytes.is_empty(), "an object starts in an empty buffer");
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&[kind.code(), kind.version(), flags, 0]);
    bytes.extend_from_slice(&[0; 8]);
}

/// Ends an object: writes its length into the head, and the checksum behind the body.
pub fn finish(bytes: &mut Vec<u8>) -> hash::Digest {
    let length = (bytes.len() + CHECKSUM_BYTES) as u64;
    bytes[8..HEAD_BYTES].copy_from_slice(&length.to_le_bytes());
    let checksum = hash::hash(bytes);
    bytes.extend_from_slice(&checksum);
    checksum
}

/// Returns the kind of an object by its head, without verifying more.
pub fn peek_kind(bytes: &[u8]) -> Option<ObjectKind> {
    if bytes.get(..4) != Some(MAGIC) {
        return None;
    }
    ObjectKind::from_code(*bytes.get(4)?)
}

/// Checks an object's head: magic, kind, version, flags. `object` names it in errors. Returns
/// version, flags and the length that the head tells.
///
/// # Errors
/// `Corrupt` for anything but an icecore object of this kind; `Unsupported` for a version or a
/// flag that came after this program.
pub fn open_head(kind: ObjectKind, bytes: &[u8], object: &str) -> Result<(u8, u8, u64)> {
    let broken = |why: &str| Error::corrupt(format!("{} {object} is damaged: {why}", kind.word()));
    if bytes.len() < HEAD_BYTES {
        return Err(broken("it is too short"));
    }
    if &bytes[..4] != MAGIC {
        return Err(broken("it does not begin like an icecore object"));
    }
    if bytes[4] != kind.code() {
        let other = ObjectKind::from_code(bytes[4]).map_or("something unknown", ObjectKind::word);
        return Err(broken(&format!("it holds a {other} instead")));
    }
    let (version, flags) = (bytes[5], bytes[6]);
    if version == 0 || version > kind.version() {
        let message =
            format!("{} {object} has version {version}, which is unknown here", kind.word());
        return Err(Error::new(ErrorKind::Unsupported, message)
            .hint("a newer icecore wrote it; use that one or a later one"));
    }
    if flags & !KNOWN_FLAGS != 0 || bytes[7] != 0 {
        let message = format!("{} {object} uses flags that are unknown here", kind.word());
        return Err(Error::new(ErrorKind::Unsupported, message)
            .hint("a newer icecore wrote it; use that one or a later one"));
    }
    let length = u64::from_le_bytes(bytes[8..16].try_into().unwrap_or([0; 8]));
    Ok((version, flags, length))
}

/// Checks a whole object and takes it apart.
///
/// # Errors
/// Those of [`open_head`], and `Corrupt` for a wrong length or checksum.
pub fn open<'a>(kind: ObjectKind, bytes: &'a [u8], object: &str) -> Result<Frame<'a>> {
    let broken = |why: &str| Error::corrupt(format!("{} {object} is damaged: {why}", kind.word()));
    let (version, flags, length) = match open_head(kind, bytes, object) {
        // What is not whole tells nothing of a newer program.
        Err(e) if e.kind() == ErrorKind::Unsupported && !is_whole(bytes) => {
            return Err(broken("its checksum is wrong"));
        }
        head => head?,
    };
    if length != bytes.len() as u64 || bytes.len() < HEAD_BYTES + CHECKSUM_BYTES {
        return Err(broken(&format!("{} bytes are there, {length} expected", bytes.len())));
    }
    if !is_whole(bytes) {
        return Err(broken("its checksum is wrong"));
    }
    let body = &bytes[HEAD_BYTES..bytes.len() - CHECKSUM_BYTES];
    Ok(Frame { version, flags, body })
}

fn is_whole(bytes: &[u8]) -> bool {
    let content = bytes.len().saturating_sub(CHECKSUM_BYTES);
    let (content, checksum) = bytes.split_at(content);
    hash::hash(content) == checksum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let mut bytes = start(ObjectKind::Lease, 0);
        bytes.extend_from_slice(b"body");
        finish(&mut bytes);
        bytes
    }

    /// Gives changed bytes a right checksum.
    fn finish_again(bytes: &mut Vec<u8>) {
        bytes.truncate(bytes.len() - CHECKSUM_BYTES);
        let checksum = hash::hash(bytes);
        bytes.extend_from_slice(&checksum);
    }

    #[test]
    fn a_flipped_version_or_flag_is_damage_and_not_a_newer_program() {
        for at in 5..8 {
            let mut bytes = sample();
            bytes[at] ^= 0x10;
            let error = open(ObjectKind::Lease, &bytes, "x").expect_err("refused");
            assert_eq!(error.kind(), ErrorKind::Corrupt, "byte {at}");
            finish_again(&mut bytes);
            let error = open(ObjectKind::Lease, &bytes, "x").expect_err("refused");
            assert_eq!(error.kind(), ErrorKind::Unsupported, "byte {at}, whole");
        }
    }

    #[test]
    fn what_was_framed_opens() {
        let bytes = sample();
        let frame = open(ObjectKind::Lease, &bytes, "x").expect("opens");
        assert_eq!(frame.body, b"body");
        assert_eq!(peek_kind(&bytes), Some(ObjectKind::Lease));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let bytes = sample();
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(open(ObjectKind::Lease, &damaged, "x").is_err(), "bit {bit}");
        }
    }

    #[test]
    fn every_truncation_is_noticed() {
        let bytes = sample();
        for length in 0..bytes.len() {
            assert!(open(ObjectKind::Lease, &bytes[..length], "x").is_err(), "{length} bytes");
        }
    }

    #[test]
    fn another_kind_and_a_later_version_are_told_apart() {
        let error = open(ObjectKind::Pack, &sample(), "x").expect_err("another kind");
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        let mut later = sample();
        later[5] = 9;
        finish_again(&mut later);
        let error = open(ObjectKind::Lease, &later, "x").expect_err("a later version");
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("version 9"), "{error}");
    }

    #[test]
    fn codes_are_unique() {
        for kind in ObjectKind::ALL {
            assert_eq!(ObjectKind::from_code(kind.code()), Some(*kind));
        }
    }
}
