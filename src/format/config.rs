//! The repository's config: id, format version, chunker, sizes, encryption mode.
//!
//! It must be readable before a password is known, so it is never sealed; in an encrypted
//! repository it carries a keyed hash, so that a storage that edits it is found out.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::hash;
use crate::base::hash::Digest;
use crate::base::id::RepositoryId;
use crate::base::limits::BLOCK_BYTES_MAX;
use crate::base::limits::CHUNK_BYTES_MAX;
use crate::base::limits::KIB;
use crate::base::limits::PACK_BYTES_MAX;
use crate::base::limits::RECORD_BYTES_MAX;
use crate::base::time::Timestamp;
use crate::chunk::ChunkParameters;
use crate::codec::frame;
use crate::codec::frame::ObjectKind;
use crate::codec::key::Keys;
use crate::codec::serial;
use serde::Deserialize;
use serde::Serialize;

/// Version of the whole format; a repository with a higher one is refused by name.
pub const FORMAT_VERSION: u32 = 1;

/// Whether and how a repository is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Encryption {
    /// Nothing is.
    None,
    /// Everything but this config is, with AES-256-GCM; passwords open the key slots.
    Password,
}

/// The parameters of one repository; they never change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Random id.
    pub id: RepositoryId,
    /// Version of the whole format.
    pub format: u32,
    /// When it was created.
    pub created: Timestamp,
    /// Encryption mode.
    pub encryption: Encryption,
    /// How files are cut.
    pub chunks: ChunkParameters,
    /// Plaintext gathered into one block, in bytes.
    pub block_bytes: u32,
    /// Size at which a pack is closed, in bytes.
    pub pack_bytes: u32,
    /// zstd level used unless told otherwise.
    pub compression: i32,
}

#[derive(Serialize, Deserialize)]
struct ConfigV1 {
    config: Config,
    /// Keyed BLAKE3 of the encoded config; zeros without encryption.
    mac: Digest,
}

/// Makes the config object.
///
/// # Errors
/// `Bug` of the encoder.
pub fn seal(config: &Config, keys: Option<&Keys>) -> Result<Vec<u8>> {
    let mut bytes = frame::start(ObjectKind::Config, 0);
    let mac = authenticate(config, keys)?;
    bytes.append(&mut serial::encode(&ConfigV1 { config: config.clone(), mac })?);
    frame::finish(&mut bytes);
    Ok(bytes)
}

/// Reads the config object; [`verify`] must follow once the keys are known.
///
/// # Errors
/// `Corrupt` for damage or absurd parameters; `Unsupported` for a later format.
pub fn open(bytes: &[u8]) -> Result<(Config, Digest)> {
    if bytes.len() > RECORD_BYTES_MAX {
        return Err(Error::corrupt("config is too large"));
    }
    let frame = frame::open(ObjectKind::Config, bytes, "of the repository")?;
    let ConfigV1 { config, mac } = serial::decode(frame.body, "the config")?;
    if config.format > FORMAT_VERSION {
        let message = format!("the repository has format version {}", config.format);
        return Err(Error::new(ErrorKind::Unsupported, message)
            .hint(format!("this icecore knows versions up to {FORMAT_VERSION}; use a later one")));
    }
    config.check()?;
    Ok((config, mac))
}

/// Checks that the config is the one that the holder of the keys wrote.
///
/// # Errors
/// `Corrupt` when it is not.
pub fn verify(config: &Config, mac: &Digest, keys: Option<&Keys>) -> Result<()> {
    if hash::same(&authenticate(config, keys)?, mac) {
        return Ok(());
    }
    Err(Error::corrupt("the repository's config was changed by somebody without its key"))
}

fn authenticate(config: &Config, keys: Option<&Keys>) -> Result<Digest> {
    let encoded = serial::encode(config)?;
    Ok(keys.map_or([0; 32], |keys| hash::keyed(keys.config_key(), &encoded)))
}

impl Config {
    /// Refuses parameters that a reader could not bear.
    ///
    /// # Errors
    /// `Corrupt` with the parameter's name.
    pub fn check(&self) -> Result<()> {
        let refuse = |what: &str| Err(Error::corrupt(format!("config has an absurd {what}")));
        if self.format == 0 {
            return refuse("format version");
        }
        self.chunks.check()?;
        if !(KIB..=BLOCK_BYTES_MAX - CHUNK_BYTES_MAX).contains(&(self.block_bytes as usize)) {
            return refuse("block size");
        }
        if !(KIB..=PACK_BYTES_MAX / 4).contains(&(self.pack_bytes as usize)) {
            return refuse("pack size");
        }
        if !(1..=crate::codec::compress::LEVEL_MAX).contains(&self.compression) {
            return refuse("compression level");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::limits::BLOCK_BYTES_TARGET;
    use crate::base::limits::PACK_BYTES_TARGET;

    fn sample() -> Config {
        Config {
            id: RepositoryId::new([4; 16]),
            format: FORMAT_VERSION,
            created: Timestamp::new(1, 2),
            encryption: Encryption::Password,
            chunks: ChunkParameters::default(),
            block_bytes: BLOCK_BYTES_TARGET as u32,
            pack_bytes: PACK_BYTES_TARGET as u32,
            compression: 3,
        }
    }

    #[test]
    fn a_config_goes_round_and_an_edited_one_is_found_out() {
        let keys = Keys::generate().expect("keys");
        let bytes = seal(&sample(), Some(&keys)).expect("seals");
        let (config, mac) = open(&bytes).expect("opens");
        assert_eq!(config, sample());
        verify(&config, &mac, Some(&keys)).expect("genuine");
        let edited = Config { encryption: Encryption::None, ..config };
        assert!(verify(&edited, &mac, Some(&keys)).is_err());
    }

    #[test]
    fn a_later_format_is_refused_by_number() {
        let later = Config { format: 9, ..sample() };
        let error = open(&seal(&later, None).expect("seals")).expect_err("later");
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains('9'), "{error}");
    }

    #[test]
    fn absurd_parameters_are_refused() {
        let zero = Config { block_bytes: 0, ..sample() };
        let huge = Config { pack_bytes: u32::MAX, ..sample() };
        let odd = ChunkParameters { average_fine: 9000, ..ChunkParameters::default() };
        for bad in [zero, huge, Config { chunks: odd, ..sample() }] {
            assert!(open(&seal(&bad, None).expect("seals")).is_err());
        }
    }

    #[test]
    fn parameters_up_to_their_bounds_are_borne() {
        let block_max = (BLOCK_BYTES_MAX - CHUNK_BYTES_MAX) as u32;
        let pack_max = (PACK_BYTES_MAX / 4) as u32;
        let block = |block_bytes: u32| Config { block_bytes, ..sample() };
        let pack = |pack_bytes: u32| Config { pack_bytes, ..sample() };
        let level = |compression: i32| Config { compression, ..sample() };
        let (kib, most) = (KIB as u32, crate::codec::compress::LEVEL_MAX);
        for good in [block(kib), block(block_max), pack(kib), pack(pack_max), level(1), level(most)]
        {
            let (back, _) = open(&seal(&good, None).expect("seals")).expect("opens");
            assert_eq!(back, good);
        }
        let block_bad = [block(kib - 1), block(block_max + 1)];
        let pack_bad = [pack(kib - 1), pack(pack_max + 1)];
        let level_bad = [level(0), level(most + 1)];
        let format_bad = [Config { format: 0, ..sample() }];
        for bad in [&block_bad[..], &pack_bad, &level_bad, &format_bad].concat() {
            let error = open(&seal(&bad, None).expect("seals")).expect_err("absurd");
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{bad:?}");
        }
    }

    #[test]
    fn a_config_of_the_size_of_a_disk_is_not_even_looked_at() {
        let refused = |bytes: usize| open(&vec![0; bytes]).expect_err("no config").to_string();
        assert!(!refused(RECORD_BYTES_MAX).contains("too large"));
        assert!(refused(RECORD_BYTES_MAX + 1).contains("too large"));
        assert!(refused(2 * RECORD_BYTES_MAX).contains("too large"));
    }
}
