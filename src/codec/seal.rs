//! Records sealed and framed, and opened again: the one list of layers for all small objects.
//!
//! Body of a sealed record: salt (32), key commitment (32), ciphertext with tag (16). The
//! associated data is repository id, kind, version, flags and the object's key, so a stored
//! header 3 cannot be handed out as header 7, nor another repository's as this one's.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::hash;
use crate::base::id::RepositoryId;
use crate::base::limits::RECORD_BYTES_MAX;
use crate::base::sys;
use crate::codec::compress;
use crate::codec::crypt;
use crate::codec::crypt::Cipher;
use crate::codec::crypt::Part;
use crate::codec::frame;
use crate::codec::frame::ObjectKind;
use crate::codec::key::Keys;
use crate::codec::serial;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Records below this size are not worth compressing.
const COMPRESS_BYTES_MIN: usize = 512;

/// Seals and opens the records of one repository.
#[derive(Clone, Debug)]
pub struct Sealer {
    repository: RepositoryId,
    keys: Option<Keys>,
}

impl Sealer {
    /// Makes the sealer of a repository; without keys nothing is encrypted.
    pub fn new(repository: RepositoryId, keys: Option<Keys>) -> Self {
        Sealer { repository, keys }
    }

    /// Returns the keys of an encrypted repository.
    pub fn keys(&self) -> Option<&Keys> {
        self.keys.as_ref()
    }

    /// Returns the repository's id.
    pub fn repository(&self) -> RepositoryId {
        self.repository
    }

    /// Encodes a record and makes a whole object of it, bound to the object's key.
    ///
    /// # Errors
    /// `Bug` or `Io` of the layers below.
    pub fn seal_record<T: Serialize>(
        &self,
        kind: ObjectKind,
        object_key: &str,
        record: &T,
    ) -> Result<Vec<u8>> {
        self.seal(kind, object_key, &serial::encode(record)?)
    }

    /// Makes a whole object of encoded bytes, bound to the object's key.
    ///
    /// # Errors
    /// `Bug` or `Io` of the layers below.
    pub fn seal(&self, kind: ObjectKind, object_key: &str, plain: &[u8]) -> Result<Vec<u8>> {
        let salt = if self.keys.is_some() { sys::random()? } else { [0; 32] };
        self.seal_with_salt(kind, object_key, plain, &salt)
    }

    /// Like [`Sealer::seal`] with a salt that is given: for golden files only, as no salt may be
    /// used twice.
    #[doc(hidden)]
    pub fn seal_with_salt(
        &self,
        kind: ObjectKind,
        object_key: &str,
        plain: &[u8],
        salt: &[u8; 32],
    ) -> Result<Vec<u8>> {
        let mut flags = if self.keys.is_some() { frame::SEALED } else { 0 };
        let mut body = Vec::new();
        if plain.len() >= COMPRESS_BYTES_MIN {
            flags |= frame::COMPRESSED;
            body.extend_from_slice(&(plain.len() as u32).to_le_bytes());
            compress::compress_once(compress::LEVEL_DEFAULT, plain, &mut body)?;
        } else {
            body.extend_from_slice(plain);
        }
        let mut bytes = frame::start(kind, flags);
        if let Some(keys) = &self.keys {
            let key = keys.record_key(salt);
            bytes.extend_from_slice(salt);
            bytes.extend_from_slice(&crypt::commitment(&key));
            let associated = self.associated(kind, kind.version(), flags, object_key);
            let start = bytes.len();
            bytes.append(&mut body);
            Cipher::new(&key)?.seal(Part::Record, 0, &associated, &mut bytes, start)?;
        } else {
            bytes.append(&mut body);
        }
        frame::finish(&mut bytes);
        Ok(bytes)
    }

    /// Opens an object and decodes its record.
    ///
    /// # Errors
    /// Those of [`Sealer::open`] and of decoding.
    pub fn open_record<T: DeserializeOwned + Serialize>(
        &self,
        kind: ObjectKind,
        object_key: &str,
        bytes: &[u8],
    ) -> Result<T> {
        let plain = self.open(kind, object_key, bytes, RECORD_BYTES_MAX)?;
        serial::decode(&plain, &format!("{} {object_key}", kind.word()))
    }

    /// Opens an object: checks frame, key and seal, and returns its plain bytes, at most
    /// `plain_bytes_max` of them.
    ///
    /// # Errors
    /// `Corrupt` for damage, for an object that belongs elsewhere, and for one that is not
    /// sealed in an encrypted repository or sealed in a plain one.
    pub fn open(
        &self,
        kind: ObjectKind,
        object_key: &str,
        bytes: &[u8],
        plain_bytes_max: usize,
    ) -> Result<Vec<u8>> {
        let broken = |why: &str| {
            Error::corrupt(format!("{} {object_key} cannot be trusted: {why}", kind.word()))
        };
        let frame = frame::open(kind, bytes, object_key)?;
        let sealed = frame.flags & frame::SEALED != 0;
        let plain = match &self.keys {
            None if sealed => return Err(broken("it is encrypted, this repository is not")),
            None => frame.body.to_vec(),
            Some(_) if !sealed => return Err(broken("it is not encrypted, this repository is")),
            Some(keys) => {
                let associated = self.associated(kind, frame.version, frame.flags, object_key);
                open_body(keys, frame.body, &associated).map_err(|e| {
                    broken("it was not sealed for this place with this key").caused_by(e)
                })?
            }
        };
        if frame.flags & frame::COMPRESSED == 0 {
            return Ok(plain);
        }
        let (length, content) = plain.split_at_checked(4).ok_or_else(|| broken("too short"))?;
        let length = u32::from_le_bytes(length.try_into().unwrap_or([0; 4])) as usize;
        if length > plain_bytes_max {
            return Err(broken("it claims an absurd size"));
        }
        let mut out = Vec::new();
        compress::decompress(content, length, &mut out).map_err(|e| e.context(object_key))?;
        Ok(out)
    }

    fn associated(&self, kind: ObjectKind, version: u8, flags: u8, object_key: &str) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(32 + object_key.len());
        bytes.extend_from_slice(self.repository.as_bytes());
        bytes.extend_from_slice(&[kind.code(), version, flags]);
        bytes.extend_from_slice(object_key.as_bytes());
        bytes
    }
}

fn open_body(keys: &Keys, body: &[u8], associated: &[u8]) -> Result<Vec<u8>> {
    let short = || Error::new(ErrorKind::Corrupt, "it is too short");
    let (salt, rest) = body.split_first_chunk::<32>().ok_or_else(short)?;
    let (committed, sealed) = rest.split_first_chunk::<32>().ok_or_else(short)?;
    let key = keys.record_key(salt);
    if !hash::same(&crypt::commitment(&key), committed) {
        return Err(Error::corrupt("another key was used"));
    }
    let mut plain = sealed.to_vec();
    let length = Cipher::new(&key)?.open(Part::Record, 0, associated, &mut plain)?.len();
    plain.truncate(length);
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealers() -> [Sealer; 2] {
        let id = RepositoryId::new([5; 16]);
        [Sealer::new(id, None), Sealer::new(id, Some(Keys::generate().expect("keys")))]
    }

    #[test]
    fn records_go_round_small_and_large() {
        for sealer in sealers() {
            for size in [0, 10, 100_000] {
                let record = vec![7_u8; size];
                let bytes = sealer.seal_record(ObjectKind::Lease, "k", &record).expect("seals");
                let back: Vec<u8> =
                    sealer.open_record(ObjectKind::Lease, "k", &bytes).expect("opens");
                assert_eq!(back, record);
            }
        }
    }

    #[test]
    fn a_sealed_object_cannot_stand_for_another() {
        let [plain, sealed] = sealers();
        let bytes = sealed.seal(ObjectKind::Backup, "datasets/a/3", b"x").expect("seals");
        let open = |sealer: &Sealer, kind, key| sealer.open(kind, key, &bytes, 100);
        assert!(open(&sealed, ObjectKind::Backup, "datasets/a/3").is_ok());
        assert!(open(&sealed, ObjectKind::Backup, "datasets/a/7").is_err());
        assert!(open(&sealed, ObjectKind::Void, "datasets/a/3").is_err());
        assert!(open(&plain, ObjectKind::Backup, "datasets/a/3").is_err());
        let elsewhere = Sealer::new(RepositoryId::new([6; 16]), sealed.keys().cloned());
        assert!(open(&elsewhere, ObjectKind::Backup, "datasets/a/3").is_err());
    }

    #[test]
    fn an_encrypted_repository_takes_nothing_plain() {
        let [plain, sealed] = sealers();
        let bytes = plain.seal(ObjectKind::Backup, "k", b"x").expect("seals");
        let error = sealed.open(ObjectKind::Backup, "k", &bytes, 100).expect_err("plain");
        assert!(error.to_string().contains("not encrypted"), "{error}");
    }

    #[test]
    fn nothing_of_the_plaintext_shows() {
        let [_, sealed] = sealers();
        let bytes = sealed.seal(ObjectKind::Backup, "k", b"photographs").expect("seals");
        assert!(!bytes.windows(6).any(|window| window == b"photog"));
    }
}
