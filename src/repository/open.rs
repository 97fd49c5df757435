//! Creates and opens repositories; refuses what is not one, or came after this program.

use crate::backend::Backend;
use crate::backend::Listed;
use crate::backend::key::FolderKey;
use crate::backend::key::ObjectKey;
use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::id::KeyId;
use crate::base::id::LeaseId;
use crate::base::id::RepositoryId;
use crate::base::limits::BLOCK_BYTES_TARGET;
use crate::base::limits::KEY_SLOTS_MAX;
use crate::base::limits::PACK_BYTES_TARGET;
use crate::base::limits::RECORD_BYTES_MAX;
use crate::base::planted;
use crate::base::planted::Rule;
use crate::base::secret::Secret;
use crate::base::sys;
use crate::base::time::Timestamp;
use crate::chunk::ChunkParameters;
use crate::codec::compress;
use crate::codec::frame::ObjectKind;
use crate::codec::key::Argon2Cost;
use crate::codec::key::Keys;
use crate::codec::seal::Sealer;
use crate::format::config;
use crate::format::config::Config;
use crate::format::config::Encryption;
use crate::format::config::FORMAT_VERSION;
use crate::format::key_file;
use crate::format::key_file::About;
use crate::format::key_file::KeySlot;
use crate::format::lease::MarkRecord;
use crate::repository::Repository;
use crate::repository::cache::Cache;
use crate::repository::cache::CachePlace;
use crate::repository::layout;
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
    config::open(&bytes).map_err(|e| {
        let location = backend.location();
        e.context(format!("cannot open the repository at {location}")).at(Origin::Repository)
    })
}

fn nothing_there(backend: &dyn Backend) -> Error {
    if let Some(folder) = what_a_repository_left(backend) {
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
    Error::new(ErrorKind::NoRepository, message)
        .hint("`icecore init` makes one there; `-r LOCATION` names another")
        .at(Origin::Repository)
}

/// Returns a folder that only a repository has; key slots are what a creation that died has left.
fn what_a_repository_left(backend: &dyn Backend) -> Option<String> {
    let mut found = None;
    let listed = backend.list(&FolderKey::top(), &mut |listed| {
        if let Listed::Folder(folder) = listed
            && matches!(folder.as_str(), "packs" | "index" | "datasets" | "names")
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
    if backend.stat(&layout::config()?)?.is_some() {
        let message = format!("there is a repository at {location} already");
        return Err(Error::new(ErrorKind::AlreadyExists, message)
            .hint("use it as it is, or name another place with `-r LOCATION`")
            .at(Origin::Repository));
    }
    let mut foreign = None;
    backend.list(&FolderKey::top(), &mut |listed| {
        let name = match &listed {
            Listed::Object(object) => object.key.name().to_owned(),
            Listed::Folder(folder) => folder.name().to_owned(),
        };
        // Key slots are what a creation that died has left.
        if name != "keys" {
            foreign.get_or_insert(name);
        }
        Ok(())
    })?;
    match foreign {
        None => Ok(()),
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
        (Encryption::Password, Some(password)) => Some(unlock(&*backend, &config, password)?),
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

fn unlock(backend: &dyn Backend, config: &Config, password: &Secret) -> Result<Keys> {
    let (mut damaged, mut unread) = (None, None);
    let ids = slot_ids(backend)?;
    if ids.is_empty() {
        let message = format!("there is no key slot in the repository at {}", backend.location());
        return Err(Error::corrupt(message)
            .hint(
                "no password opens it without one: put the folder `keys` back from a copy of the \
                 repository",
            )
            .at(Origin::Repository));
    }
    for id in ids {
        let unlocked = read_slot(backend, &id).and_then(|slot| slot.unlock(&config.id, password));
        match unlocked {
            Ok(keys) => return Ok(keys),
            Err(e) if e.kind() == ErrorKind::Password => {}
            Err(e) if matches!(e.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => {
                damaged = Some(e);
            }
            Err(e) => unread = Some(e),
        }
    }
    // It may be this one that the password opens.
    if let Some(e) = unread {
        return Err(e);
    }
    let message = format!("wrong password for the repository at {}", backend.location());
    let error = Error::new(ErrorKind::Password, message);
    Err(match damaged {
        None => error,
        Some(cause) => error.hint("a key slot is damaged as well").caused_by(cause),
    })
}

/// What a listing shows of the passwords.
struct Slots {
    ids: Vec<KeyId>,
    /// Slots that somebody removes, or was about to, with the marks that say so.
    going: Vec<(KeyId, ObjectKey)>,
}

impl Slots {
    fn list(backend: &dyn Backend) -> Result<Self> {
        let mut slots = Slots { ids: Vec::new(), going: Vec::new() };
        backend.list(&layout::folder("keys")?, &mut |listed| {
            if let Listed::Object(object) = listed {
                slots.ids.extend(object.key.name().parse::<KeyId>().ok());
                let marked = layout::parse_going(object.key.name()).map(|(id, _)| id);
                slots.going.extend(marked.map(|id| (id, object.key)));
            }
            Ok(())
        })?;
        slots.ids.sort_unstable();
        Ok(slots)
    }

    /// Says whether another slot than this stays for certain: one that is there without a mark.
    /// It is asked for again, as a listing may show what goes while it goes on, and the mark goes
    /// right behind its slot.
    fn keep_one_without(&self, slot: &KeyId, backend: &dyn Backend) -> Result<bool> {
        let goes = |id: &KeyId| self.going.iter().any(|(going, _)| going == id);
        for id in self.ids.iter().filter(|id| *id != slot && !goes(id)) {
            if backend.stat(&layout::key_slot(id)?)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn slot_ids(backend: &dyn Backend) -> Result<Vec<KeyId>> {
    let mut ids = Slots::list(backend)?.ids;
    ids.truncate(KEY_SLOTS_MAX);
    Ok(ids)
}

fn read_slot(backend: &dyn Backend, id: &KeyId) -> Result<KeySlot> {
    let key = layout::key_slot(id)?;
    let bytes = backend.get(&key, RECORD_BYTES_MAX)?;
    let slot = key_file::open(&bytes, key.as_str()).map_err(|e| e.at(Origin::Repository))?;
    if slot.id != *id {
        return Err(Error::corrupt(format!("key {key} belongs to another slot")));
    }
    Ok(slot)
}

impl Repository {
    /// Returns the password slots, by id.
    ///
    /// # Errors
    /// Those of the backend; `Corrupt` for a damaged slot.
    pub fn key_slots(&self) -> Result<Vec<KeySlot>> {
        let backend = self.store().backend();
        slot_ids(backend)?.iter().map(|id| read_slot(backend, id)).collect()
    }

    /// Returns what a slot says of itself.
    ///
    /// # Errors
    /// `InvalidInput` for a repository that is not encrypted; `Corrupt` for a slot that is not
    /// of this one.
    pub fn about_slot(&self, slot: &KeySlot) -> Result<About> {
        let keys = self.store().sealer().keys().ok_or_else(not_encrypted)?;
        slot.about(&self.id(), keys).map_err(|e| e.at(Origin::Repository))
    }

    /// Adds a password; returns its slot.
    ///
    /// # Errors
    /// `InvalidInput` for a repository that is not encrypted, or with all slots taken.
    pub fn add_key(
        &self,
        password: &Secret,
        cost: Argon2Cost,
        label: &str,
        now: Timestamp,
    ) -> Result<KeyId> {
        let keys = self.store().sealer().keys().ok_or_else(not_encrypted)?;
        if slot_ids(self.store().backend())?.len() >= KEY_SLOTS_MAX {
            return Err(Error::invalid(format!("all {KEY_SLOTS_MAX} key slots are taken"))
                .hint("`icecore key remove ID` frees one"));
        }
        let (id, bytes) = key_file::seal(keys, &self.id(), password, cost, label, now)?;
        let key = layout::key_slot(&id)?;
        self.store().settle()?;
        self.store().backend().put(&key, &bytes).map_err(|e| {
            e.context(format!("cannot write {} {key}", ObjectKind::Key.word()))
                .at(Origin::Repository)
        })?;
        Ok(id)
    }

    /// Removes a password slot, given its id or the beginning of it. The last one stays, also when
    /// several machines remove one each at the same moment.
    ///
    /// # Errors
    /// `NotFound`; `InvalidInput` when the beginning fits several, or for the last slot; `Busy`
    /// when all others are being removed just now.
    pub fn remove_key(&self, id: &str) -> Result<KeyId> {
        self.store().sealer().keys().ok_or_else(not_encrypted)?;
        let slots = Slots::list(self.store().backend())?;
        let fitting: Vec<&KeyId> =
            slots.ids.iter().filter(|slot| slot.to_string().starts_with(id)).collect();
        let (false, [slot]) = (id.is_empty(), fitting.as_slice()) else {
            let message = format!("{} key slots begin with {id:?}", fitting.len());
            let kind =
                if fitting.is_empty() { ErrorKind::NotFound } else { ErrorKind::InvalidInput };
            return Err(Error::new(kind, message).hint("`icecore key list` shows them"));
        };
        if slots.ids.len() == 1 {
            return Err(Error::invalid("the last password cannot be removed")
                .hint("add another one first: `icecore key add`"));
        }
        // The slots that stay must be there for good before this one goes.
        self.store().settle()?;
        let by = LeaseId::new(sys::random()?);
        let mark = layout::going(slot, &by)?;
        let record = MarkRecord { lease: by, by: format!("removed on {}", sys::host_name()) };
        self.store().put(ObjectKind::Revoke, &mark, &record)?;
        // Of two who remove the last two at once, at least one sees the mark of the other here.
        let backend = self.store().backend();
        let looked = Slots::list(backend)
            .and_then(|after| Ok((after.keep_one_without(slot, backend)?, after)));
        let (one_stays, after) = looked.inspect_err(|_| self.take_back(&mark))?;
        if planted::keeps(Rule::KeepsAPassword) && !one_stays {
            self.take_back(&mark);
            let message = "the other passwords are being removed just now";
            return Err(Error::new(ErrorKind::Busy, message).hint(
                "try again in a moment; if a removal was cut off, `icecore key add` puts a \
                 password beside them, and then any of them can be removed",
            ));
        }
        self.store().settle()?;
        self.store().delete(&layout::key_slot(slot)?)?;
        // Marks of slots that are gone say nothing any more; what stays goes with the next one.
        for (marked, key) in &after.going {
            if matches!(backend.stat(&layout::key_slot(marked)?), Ok(None)) {
                self.take_back(key);
            }
        }
        Ok(**slot)
    }

    /// Deletes a mark; one that stays keeps its slot from being the last, and nothing else.
    fn take_back(&self, mark: &ObjectKey) {
        let _ = self.store().delete(mark);
    }

    /// Returns the slot that a password opens.
    ///
    /// # Errors
    /// `Password` when it opens none.
    pub fn slot_of(&self, password: &Secret) -> Result<KeyId> {
        for slot in self.key_slots()? {
            match slot.unlock(&self.id(), password) {
                Ok(_) => return Ok(slot.id),
                Err(e) if e.kind() == ErrorKind::Password => {}
                Err(e) => return Err(e),
            }
        }
        Err(Error::new(ErrorKind::Password, "this password opens no key slot"))
    }
}

fn not_encrypted() -> Error {
    Error::invalid("the repository is not encrypted, so it has no passwords")
        .hint("encryption is chosen when a repository is created: `init --encryption password`")
}
