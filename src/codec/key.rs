//! Keys: password to master key by argon2id, master key to one subkey for each purpose.
//!
//! The master key is random. A password slot wraps it: argon2id turns password and salt into a
//! key-encryption key, which seals the master key. So a password can be added or changed
//! without touching what is stored.

use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::hash;
use crate::base::hash::Digest;
use crate::base::limits::ARGON2_MEMORY_KIB_MAX;
use crate::base::limits::ARGON2_PASSES_MAX;
use crate::base::limits::ARGON2_WORK_KIB_MAX;
use crate::base::secret::Secret;
use crate::base::sys;
use zeroize::Zeroizing;

/// Cost of one password attempt, stored with each slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Argon2Cost {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl Argon2Cost {
    /// 64 MiB, one pass: 82 ms on the machine of the measurement. OWASP's least is 19 MiB.
    pub const DEFAULT: Argon2Cost = Argon2Cost { memory_kib: 64 * 1024, passes: 1, lanes: 1 };

    /// Refuses a cost that a hostile slot could use to exhaust the machine.
    ///
    /// # Errors
    /// `Corrupt` beyond the limits.
    pub fn check(self) -> Result<Self> {
        let fits = self.memory_kib <= ARGON2_MEMORY_KIB_MAX
            && self.memory_kib / 8 >= self.lanes.max(1)
            && (1..=ARGON2_PASSES_MAX).contains(&self.passes)
            && (1..=16).contains(&self.lanes)
            && u64::from(self.memory_kib) * u64::from(self.passes) <= ARGON2_WORK_KIB_MAX;
        if fits { Ok(self) } else { Err(Error::corrupt("a key slot asks for an absurd cost")) }
    }
}

/// Returns the key-encryption key of a password.
///
/// # Errors
/// `Corrupt` for a cost beyond the limits; `Full` when there is no memory for it.
pub fn from_password(
    password: &Secret,
    salt: &[u8; 32],
    cost: Argon2Cost,
) -> Result<Zeroizing<[u8; 32]>> {
    let cost = cost.check()?;
    let parameters = argon2::Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(32))
        .map_err(|e| Error::corrupt(format!("a key slot asks for an impossible cost: {e}")))?;
    let argon2 =
        argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, parameters);
    let mut key = Zeroizing::new([0; 32]);
    argon2
        .hash_password_into(password.expose(), salt, &mut *key)
        .map_err(|e| Error::invalid(format!("cannot make a key of the password: {e}")))?;
    Ok(key)
}

/// A value that is wiped when dropped.
pub type Wiped<T> = Zeroizing<T>;

/// The subkeys of one repository. Cloning shares nothing; each copy is wiped when dropped.
#[derive(Clone)]
pub struct Keys {
    master: Zeroizing<[u8; 32]>,
    packs: Zeroizing<Digest>,
    records: Zeroizing<Digest>,
    blobs: Zeroizing<Digest>,
    names: Zeroizing<Digest>,
    gear: Zeroizing<Digest>,
    config: Zeroizing<Digest>,
}

impl Keys {
    /// Makes a new master key from the system's randomness.
    ///
    /// # Errors
    /// `Io` when the system has none.
    pub fn generate() -> Result<Self> {
        Ok(Keys::from_master(Zeroizing::new(sys::random()?)))
    }

    /// Derives the subkeys of a master key.
    pub fn from_master(master: Zeroizing<[u8; 32]>) -> Self {
        let sub = |context| Zeroizing::new(hash::derive(context, &*master));
        Keys {
            packs: sub("icecore 2026-11-21 pack root key v1"),
            records: sub("icecore 2026-11-21 record root key v1"),
            blobs: sub("icecore 2026-11-21 blob name key v1"),
            names: sub("icecore 2026-11-21 dataset name key v1"),
            gear: sub("icecore 2026-11-21 gear table seed v1"),
            config: sub("icecore 2026-11-21 config key v1"),
            master,
        }
    }

    /// Returns the master key, to be wrapped in a slot and for nothing else.
    pub fn master(&self) -> &[u8; 32] {
        &self.master
    }

    /// Returns the key that names blobs.
    pub fn blob_key(&self) -> &Digest {
        &self.blobs
    }

    /// Returns the key that hides dataset names.
    pub fn name_key(&self) -> &Digest {
        &self.names
    }

    /// Returns the seed of the chunker's table.
    pub fn gear_seed(&self) -> &Digest {
        &self.gear
    }

    /// Returns the key that authenticates the config.
    pub fn config_key(&self) -> &Digest {
        &self.config
    }

    /// Returns the key of the pack with this salt.
    pub fn pack_key(&self, salt: &[u8; 32]) -> Zeroizing<[u8; 32]> {
        salted("icecore 2026-11-21 pack key v1", &self.packs, salt)
    }

    /// Returns the key of the record with this salt.
    pub fn record_key(&self, salt: &[u8; 32]) -> Zeroizing<[u8; 32]> {
        salted("icecore 2026-11-21 record key v1", &self.records, salt)
    }
}

fn salted(context: &'static str, root: &Digest, salt: &[u8; 32]) -> Zeroizing<[u8; 32]> {
    let mut material = Zeroizing::new([0; 64]);
    material[..32].copy_from_slice(root);
    material[32..].copy_from_slice(salt);
    Zeroizing::new(hash::derive(context, &*material))
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_gives_the_same_key_each_time_and_another_gives_another() {
        let cost = Argon2Cost { memory_kib: 64, passes: 1, lanes: 1 };
        let key = |text: &str| {
            from_password(&Secret::new(text.into()), &[1; 32], cost).expect("a key").to_vec()
        };
        assert_eq!(key("a"), key("a"));
        assert_ne!(key("a"), key("b"));
    }

    #[test]
    fn absurd_costs_are_refused_before_they_are_paid() {
        for (memory_kib, passes, lanes) in
            [(u32::MAX, 1, 1), (64, u32::MAX, 1), (64, 0, 1), (64, 1, 0), (64, 1, 4000)]
        {
            assert!(Argon2Cost { memory_kib, passes, lanes }.check().is_err());
        }
    }

    #[test]
    fn subkeys_differ_and_never_show() {
        let keys = Keys::from_master(Zeroizing::new([1; 32]));
        assert_ne!(keys.pack_key(&[2; 32]), keys.record_key(&[2; 32]));
        assert_ne!(keys.blob_key(), keys.name_key());
        assert_eq!(format!("{keys:?}"), "Keys(..)");
    }
}
