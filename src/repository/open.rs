//! Creates and opens repositories; refuses what is not one, or came after this program.

use crate::backend::Backend;
use crate::backend::Listed;
use crate::backend::key::FolderKey;
use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::id::RepositoryId;
use crate::base::limits::BLOCK_BYTES_TARGET;
use crate::base::limits::PACK_BYTES_TARGET;
use crate::base::limits::RECORD_BYTES_MAX;
use crate::base::secret::Secret;
use crate::base::sys;
use crate::base::time::Timestamp;
use crate::chunk::ChunkParameters;
use crate::codec::compress;
use crate::codec::frame;
use crate::codec::key::Argon2Cost;
use crate::codec::key::Keys;
use crate::codec::seal::Sealer;
use crate::format::config;
use crate::format::config::Config;
use crate::format::config::Encryption;
use crate::format::config::FORMAT_VERSION;
use crate::format::key_file;
use crate::repository::Repository;
use crate::repository::cache::Cache;
use crate::repository::cache::CachePlace;
use crate::repository::layout;
use crate::repository::slots;
use crate::repository::store::Store;
use std::sync::Arc;

/// How a repository is created.
#[derive(Clone, Debug)]
pub struct CreateOptions {
    /// Encrypt everything, opened by this password.
    pub password: Option<Secret>,
    /// Cost of one password attempt.
    pub cost: Argon2Cost,
    /// How files are cut.
    pub chunks: ChunkParameters,
    /// zstd level.
    pub compression: i32,
    /// Size at which a pack is closed, in bytes.
    pub pack_bytes: u32,
}

impl Default for CreateOptions {
    fn default() -> Self {
        CreateOptions {
            password: None,
            cost: Argon2Cost::DEFAULT,
            chunks: ChunkParameters::default(),
            compression: compress::LEVEL_DEFAULT,
            pack_bytes: PACK_BYTES_TARGET as u32,
        }
    }
}

/// The config of a repository as it was found, before any password was asked for.
#[derive(Clone, Debug)]
pub struct Peeked {
    /// What it says; without a password nobody knows whether it is true.
    pub config: Config,
    mac: [u8; 32],
}

/// Reads the config of what is on a backend, to see whether a password is needed.
///
/// # Errors
/// `NoRepository` when nothing is there; `Unsupported` for a later format; `Corrupt`.
pub fn peek(backend: &dyn Backend) -> Result<Peeked> {
    read_config(backend).map(|(config, mac)| Peeked { config, mac })
}

fn read_config(backend: &dyn Backend) -> Result<(Config, [u8; 32])> {
    let bytes = match backend.get(&layout::config()?, RECORD_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == ErrorKind::NotFound => return Err(nothing_there(backend)),
        Err(e) => return Err(e.context("cannot read the config").at(Origin::Repository)),
    };
    refuse_foreign(backend, &bytes)?;
    config::open(&bytes).map_err(|e| {
        let location = backend.location();
        e.context(format!("cannot open the repository at {location}")).at(Origin::Repository)
    })
}

/// Folders of a repository, those first without which it is none any more.
const REMAINS: [&str; 8] =
    ["packs", "index", "datasets", "names", "leases", "tombstones", "lost", "parity"];

fn nothing_there(backend: &dyn Backend) -> Error {
    if let Some(folder) = what_a_repository_left(backend, &REMAINS[..4]) {
        let message = format!(
            "the config of the repository at {} is missing, and {folder} is there",
            backend.location()
        );
        return Error::corrupt(message)
            .hint(
                "nothing can be read without it: put the file `config` back from a copy of the \
                 repository",
            )
            .at(Origin::Repository);
    }
    let message = format!("there is no repository at {}", backend.location());
    Error::new(ErrorKind::NoRepository, message).at(Origin::Repository)
}

/// Refuses a config of another program, which was no config of ours before it was damaged, either.
fn refuse_foreign(backend: &dyn Backend, bytes: &[u8]) -> Result<()> {
    // Others have an `index`, too.
    let ours = ["packs", "datasets", "names"];
    if frame::peek_kind(bytes).is_some() || what_a_repository_left(backend, &ours).is_some() {
        return Ok(());
    }
    let message = format!("the config at {} was not made by icecore", backend.location());
    Err(Error::new(ErrorKind::Unsupported, message)
        .hint("another program (restic, borg?) keeps its files there: name another place")
        .at(Origin::Repository))
}

/// Returns one of the folders that only a repository has, if it is there; key slots are what a
/// creation that died has left.
fn what_a_repository_left(backend: &dyn Backend, ours: &[&str]) -> Option<String> {
    let mut found = None;
    let listed = backend.list(&FolderKey::top(), &mut |listed| {
        if let Listed::Folder(folder) = listed
            && ours.contains(&folder.as_str())
        {
            found.get_or_insert(folder.as_str().to_owned());
        }
        Ok(())
    });
    // What cannot be listed tells nothing.
    listed.ok().and(found)
}

/// Creates a repository where none is, and opens it.
///
/// # Errors
/// `AlreadyExists` when one is there; `InvalidInput` when foreign things are; those of the
/// backend.
pub fn create(
    backend: Arc<dyn Backend>,
    options: &CreateOptions,
    cache: &CachePlace,
    now: Timestamp,
) -> Result<Repository> {
    refuse_what_is_there(&*backend)?;
    let encryption = match options.password {
        Some(_) => Encryption::Password,
        None => Encryption::None,
    };
    let config = Config {
        id: RepositoryId::new(sys::random()?),
        format: FORMAT_VERSION,
        created: now,
        encryption,
        chunks: options.chunks,
        block_bytes: BLOCK_BYTES_TARGET as u32,
        pack_bytes: options.pack_bytes,
        compression: options.compression,
    };
    config.check().map_err(|e| Error::invalid(e.to_string()))?;
    let keys = options.password.as_ref().map(|_| Keys::generate()).transpose()?;
    let failed = |e: Error| {
        let location = backend.location();
        e.context(format!("cannot create a repository at {location}")).at(Origin::Repository)
    };
    if let (Some(keys), Some(password)) = (&keys, &options.password) {
        let (id, bytes) = key_file::seal(keys, &config.id, password, options.cost, "", now)?;
        backend.put(&layout::key_slot(&id)?, &bytes).map_err(failed)?;
    }
    // The config comes last: with it the repository exists, and its keys are there already.
    let bytes = config::seal(&config, keys.as_ref())?;
    let key = layout::config()?;
    let put = if backend.capabilities().atomic_create {
        backend.put_new(&key, &bytes)
    } else {
        backend.put(&key, &bytes)
    };
    put.map_err(failed)?;
    // A store that can set no space aside is a store all the same.
    let _ = backend.keep_reserve();
    let cache = Cache::open(cache, &config.id)?;
    let sealer = Sealer::new(config.id, keys);
    Ok(Repository::assemble(config, Store::new(backend, sealer), cache))
}

fn refuse_what_is_there(backend: &dyn Backend) -> Result<()> {
    let location = backend.location();
    let config = layout::config()?;
    if backend.stat(&config)?.is_some() {
        if let Ok(bytes) = backend.get(&config, RECORD_BYTES_MAX) {
            refuse_foreign(backend, &bytes)?;
        }
        let message = format!("there is a repository at {location} already");
        return Err(Error::new(ErrorKind::AlreadyExists, message)
            .hint("use it as it is, or name another place with `-r LOCATION`")
            .at(Origin::Repository));
    }
    match backend.foreign()? {
        None => Ok(()),
        Some(name) if REMAINS.contains(&name.as_str()) => Err(Error::invalid(format!(
            "{location} is not empty: it holds {name}, as a repository does, and no config"
        ))
        .hint("put the file `config` back from a copy of the repository, or name another folder")
        .at(Origin::Repository)),
        Some(name) => Err(Error::invalid(format!(
            "{location} is not empty: it holds {name}, which is no part of a repository"
        ))
        .hint("name an empty or a new folder")
        .at(Origin::Repository)),
    }
}

/// Opens a repository. A password given means that it must be encrypted.
///
/// # Errors
/// `NoRepository`; `Password` when it is missing, wrong, or given for a repository that is not
/// encrypted; `Unsupported`; `Corrupt`.
pub fn open(
    backend: Arc<dyn Backend>,
    password: Option<&Secret>,
    cache: &CachePlace,
) -> Result<Repository> {
    let peeked = peek(&*backend)?;
    open_peeked(backend, peeked, password, cache)
}

/// Opens a repository like [`open`], whose config was read already: over a network that is a
/// round trip or two.
///
/// # Errors
/// Those of [`open`].
pub fn open_peeked(
    backend: Arc<dyn Backend>,
    Peeked { config, mac }: Peeked,
    password: Option<&Secret>,
    cache: &CachePlace,
) -> Result<Repository> {
    let keys = match (config.encryption, password) {
        (Encryption::None, None) => None,
        (Encryption::Password, Some(password)) => {
            Some(slots::unlock(&*backend, &config.id, password)?.1)
        }
        (Encryption::Password, None) => {
            let message = format!("the repository at {} needs a password", backend.location());
            return Err(Error::new(ErrorKind::Password, message).hint(
                "set ICECORE_PASSWORD, or use --password-file FILE or --password-command CMD",
            ));
        }
        (Encryption::None, Some(_)) => {
            let location = backend.location();
            let message =
                format!("a password was given, but the repository at {location} is not encrypted");
            return Err(Error::new(ErrorKind::Password, message)
                .hint("if it should be, somebody replaced it; if not, unset ICECORE_PASSWORD"));
        }
    };
    config::verify(&config, &mac, keys.as_ref()).map_err(|e| e.at(Origin::Repository))?;
    let cache = Cache::open(cache, &config.id)?;
    let sealer = Sealer::new(config.id, keys);
    Ok(Repository::assemble(config, Store::new(backend, sealer), cache))
}
