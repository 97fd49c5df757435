//! A password slot: the master key wrapped by a key made of one password.
//!
//! Never sealed as a whole, as it is what opens everything else. The wrapping is bound to the
//! repository and to the slot, and commits to its key. What tells of people and machines, label
//! and host, is sealed with the repository's own key: the storage learns neither.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::hash;
use crate::base::hash::Digest;
use crate::base::id::KeyId;
use crate::base::id::RepositoryId;
use crate::base::limits::RECORD_BYTES_MAX;
use crate::base::secret::Secret;
use crate::base::sys;
use crate::base::time::Timestamp;
use crate::codec::crypt;
use crate::codec::crypt::Cipher;
use crate::codec::crypt::Part;
use crate::codec::crypt::TAG_BYTES;
use crate::codec::frame;
use crate::codec::frame::ObjectKind;
use crate::codec::key;
use crate::codec::key::Argon2Cost;
use crate::codec::key::Keys;
use crate::codec::key::Wiped;
use crate::codec::serial;
use serde::Deserialize;
use serde::Serialize;

/// What a slot tells without its password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySlot {
    /// Its id.
    pub id: KeyId,
    /// When it was made.
    pub created: Timestamp,
    stored: KeyFileV1,
}

/// What a slot tells only to who has opened the repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// What a person called it.
    pub label: String,
    /// On which machine it was made.
    pub host: String,
}

/// How the wrapped key is to be understood. Room for a write-only mode, whose slots hold data
/// keys sealed to a public key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum WrappedV1 {
    /// The master key, sealed with AES-256-GCM under argon2id of the password.
    Master {
        memory_kib: u32,
        passes: u32,
        lanes: u32,
        salt: Digest,
        commitment: Digest,
        sealed: Vec<u8>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct KeyFileV1 {
    id: KeyId,
    created: Timestamp,
    /// An [`AboutV1`], sealed.
    about: Vec<u8>,
    wrapped: WrappedV1,
}

#[derive(Serialize, Deserialize)]
struct AboutV1 {
    label: String,
    host: String,
}

/// Makes a slot: wraps the master key with a password.
///
/// # Errors
/// `Io` without randomness; those of argon2.
pub fn seal(
    keys: &Keys,
    repository: &RepositoryId,
    password: &Secret,
    cost: Argon2Cost,
    label: &str,
    created: Timestamp,
) -> Result<(KeyId, Vec<u8>)> {
    let id = KeyId::new(sys::random()?);
    let salt: [u8; 32] = sys::random()?;
    let wrapping = key::from_password(password, &salt, cost)?;
    let associated = associated(repository, &id);
    // With room for the tag: a buffer that grows leaves a copy of the key behind.
    let mut sealed = Vec::with_capacity(keys.master().len() + TAG_BYTES);
    sealed.extend_from_slice(keys.master());
    Cipher::new(&wrapping)?.seal(Part::Record, 0, &associated, &mut sealed, 0)?;
    let about = AboutV1 { label: label.to_owned(), host: sys::host_name() };
    let mut about = serial::encode(&about)?;
    // The salt is new, so this key seals nothing else.
    Cipher::new(&keys.record_key(&salt))?.seal(Part::Record, 0, &associated, &mut about, 0)?;
    let wrapped = WrappedV1::Master {
        memory_kib: cost.memory_kib,
        passes: cost.passes,
        lanes: cost.lanes,
        salt,
        commitment: crypt::commitment(&wrapping),
        sealed,
    };
    let stored = KeyFileV1 { id, created, about, wrapped };
    let mut bytes = frame::start(ObjectKind::Key, 0);
    bytes.append(&mut serial::encode(&stored)?);
    frame::finish(&mut bytes);
    Ok((id, bytes))
}

/// Reads a slot.
///
/// # Errors
/// `Corrupt` for damage; `Unsupported` for a later version.
pub fn open(bytes: &[u8], object: &str) -> Result<KeySlot> {
    if bytes.len() > RECORD_BYTES_MAX {
        return Err(Error::corrupt(format!("key {object} is too large")));
    }
    let frame = frame::open(ObjectKind::Key, bytes, object)?;
    let stored: KeyFileV1 = serial::decode(frame.body, &format!("key {object}"))?;
    Ok(KeySlot { id: stored.id, created: stored.created, stored })
}

impl KeySlot {
    /// Unwraps the master key.
    ///
    /// # Errors
    /// `Password` when the password is not this slot's; `Corrupt` for damage.
    pub fn unlock(&self, repository: &RepositoryId, password: &Secret) -> Result<Keys> {
        let WrappedV1::Master { memory_kib, passes, lanes, salt, commitment, sealed } =
            &self.stored.wrapped;
        let cost = Argon2Cost { memory_kib: *memory_kib, passes: *passes, lanes: *lanes };
        let wrapping = key::from_password(password, salt, cost)?;
        if !hash::same(&crypt::commitment(&wrapping), commitment) {
            return Err(Error::new(ErrorKind::Password, "wrong password"));
        }
        let mut bytes = Wiped::new(sealed.clone());
        let associated = associated(repository, &self.id);
        let plain = Cipher::new(&wrapping)?.open(Part::Record, 0, &associated, &mut bytes)?;
        let master: [u8; 32] =
            plain.try_into().map_err(|_| Error::corrupt("a wrapped key has a wrong length"))?;
        Ok(Keys::from_master(Wiped::new(master)))
    }

    /// Opens what the slot says of itself.
    ///
    /// # Errors
    /// `Corrupt` when it was not sealed with these keys for this slot.
    pub fn about(&self, repository: &RepositoryId, keys: &Keys) -> Result<About> {
        let WrappedV1::Master { salt, .. } = &self.stored.wrapped;
        let mut bytes = self.stored.about.clone();
        let associated = associated(repository, &self.id);
        let cipher = Cipher::new(&keys.record_key(salt))?;
        let forged = |e: Error| e.context(format!("key {} says nothing of itself", self.id));
        let plain = cipher.open(Part::Record, 0, &associated, &mut bytes).map_err(forged)?;
        let AboutV1 { label, host } = serial::decode(plain, &format!("key {}", self.id))?;
        Ok(About { label, host })
    }
}

fn associated(repository: &RepositoryId, id: &KeyId) -> Vec<u8> {
    let mut bytes = repository.as_bytes().to_vec();
    bytes.extend_from_slice(&[ObjectKind::Key.code(), ObjectKind::Key.version()]);
    bytes.extend_from_slice(id.as_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHEAP: Argon2Cost = Argon2Cost { memory_kib: 64, passes: 1, lanes: 1 };

    #[test]
    fn the_right_password_in_the_right_repository_unlocks() {
        let keys = Keys::generate().expect("keys");
        let here = RepositoryId::new([1; 16]);
        let password = Secret::new(b"pass".to_vec());
        let (_, bytes) =
            seal(&keys, &here, &password, CHEAP, "mine", Timestamp::default()).expect("seals");
        let slot = open(&bytes, "k").expect("opens");
        let unlocked = slot.unlock(&here, &password).expect("unlocks");
        assert_eq!(unlocked.master(), keys.master());
        let wrong = slot.unlock(&here, &Secret::new(b"word".to_vec())).expect_err("wrong");
        assert_eq!(wrong.kind(), ErrorKind::Password);
        assert!(slot.unlock(&RepositoryId::new([2; 16]), &password).is_err());
    }

    #[test]
    fn label_and_host_are_for_those_who_have_opened_the_repository() {
        let (keys, others) = (Keys::generate().expect("keys"), Keys::generate().expect("keys"));
        let here = RepositoryId::new([1; 16]);
        let password = Secret::new(b"pass".to_vec());
        let (_, bytes) =
            seal(&keys, &here, &password, CHEAP, "in the attic", Timestamp::default()).expect("s");
        let holds = |text: &str| bytes.windows(text.len()).any(|it| it == text.as_bytes());
        assert!(!holds("attic") && !holds(&sys::host_name()));
        let slot = open(&bytes, "k").expect("opens");
        let about = slot.about(&here, &keys).expect("ours");
        assert_eq!((about.label.as_str(), about.host), ("in the attic", sys::host_name()));
        assert!(slot.about(&here, &others).is_err());
        assert!(slot.about(&RepositoryId::new([2; 16]), &keys).is_err());
    }

    #[test]
    fn a_slot_of_the_size_of_a_disk_is_not_even_looked_at() {
        let refused = |bytes: usize| open(&vec![0; bytes], "k").expect_err("no slot").to_string();
        assert!(!refused(RECORD_BYTES_MAX).contains("too large"));
        assert!(refused(RECORD_BYTES_MAX + 1).contains("too large"));
        assert!(refused(2 * RECORD_BYTES_MAX).contains("too large"));
    }

    #[test]
    fn a_wrapped_key_opens_only_in_its_own_slot() {
        let keys = Keys::generate().expect("keys");
        let here = RepositoryId::new([1; 16]);
        let password = Secret::new(b"pass".to_vec());
        let (id, bytes) =
            seal(&keys, &here, &password, CHEAP, "mine", Timestamp::default()).expect("seals");
        let slot = open(&bytes, "k").expect("opens");
        assert_eq!(slot.id, id);
        let moved = KeySlot { id: KeyId::new([7; 16]), ..slot };
        assert!(moved.unlock(&here, &password).is_err());
    }
}
