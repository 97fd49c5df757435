//! Floor 3: the content-addressed store on one backend.
//!
//! [`open`] gives a [`Repository`]; [`datasets`] lists what is in it; [`history`] replays a
//! backup; [`transaction`] writes one. The order of writes is always: packs, pack index, then
//! the header, which makes the backup exist.

mod absorb;
pub(crate) mod ahead;
pub mod blocks;
pub mod cache;
pub mod catalog;
pub mod datasets;
pub mod doom;
pub mod fence;
pub mod floor;
pub mod history;
pub mod index;
pub mod known;
pub mod layout;
pub mod lease;
pub mod lost;
pub mod names;
pub mod naming;
mod newest;
pub mod numbers;
pub mod open;
pub mod outset;
pub mod packer;
pub mod parity;
pub mod ranges;
pub mod reader;
pub mod reindex;
pub mod remarks;
pub(crate) mod remembered;
pub mod rename;
pub mod rescue;
pub mod roots;
pub mod runs;
pub mod saved;
pub(crate) mod seen;
pub mod shown;
pub mod slots;
mod spare;
pub mod stock;
pub mod store;
mod tables;
pub mod transaction;

use crate::base::error::Result;
use crate::base::hash;
use crate::base::id::BlobId;
use crate::base::id::RepositoryId;
use crate::chunk::fastcdc::GearTable;
use crate::format::block;
use crate::format::config::Config;
use crate::repository::blocks::Blocks;
use crate::repository::cache::Cache;
use crate::repository::fence::LeasesOver;
use crate::repository::index::PackIndex;
use crate::repository::parity::Healing;
use crate::repository::spare::Spare;
use crate::repository::store::Store;
use crate::repository::tables::KeptTables;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::OnceLock;

/// An open repository. Cheap to clone; all clones share caches and index.
#[derive(Clone)]
pub struct Repository {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    store: Store,
    cache: Cache,
    gear: GearTable,
    index: PackIndex,
    blocks: Blocks,
    spare: Spare,
    healing: Mutex<Healing>,
    tables: KeptTables,
    leases_over: LeasesOver,
    /// Whether this run has seen that each dataset has a name; one look serves many new ones.
    names_are_whole: OnceLock<()>,
}

impl Repository {
    fn assemble(config: Config, store: Store, cache: Cache) -> Self {
        let gear = match store.sealer().keys() {
            Some(keys) => GearTable::from_secret(keys.gear_seed()),
            None => GearTable::public(),
        };
        let inner = Inner {
            gear,
            index: PackIndex::default(),
            blocks: Blocks::default(),
            spare: Spare::default(),
            healing: Mutex::default(),
            tables: KeptTables::default(),
            leases_over: LeasesOver::default(),
            names_are_whole: OnceLock::new(),
            config,
            store,
            cache,
        };
        Repository { inner: Arc::new(inner) }
    }

    /// Returns the parameters.
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    /// Returns the id.
    pub fn id(&self) -> RepositoryId {
        self.inner.config.id
    }

    /// Returns where it is, without credentials.
    pub fn location(&self) -> String {
        self.store().backend().location()
    }

    /// Returns the records on the backend.
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// Returns the local cache.
    pub fn cache(&self) -> &Cache {
        &self.inner.cache
    }

    /// Returns the chunker's table.
    pub fn gear(&self) -> &GearTable {
        &self.inner.gear
    }

    /// Returns the name of a blob: keyed, and then short, when the repository is encrypted.
    pub fn name_blob(&self, bytes: &[u8]) -> BlobId {
        match self.store().sealer().keys() {
            Some(keys) => block::shorten(hash::keyed(keys.blob_key(), bytes)),
            None => BlobId::new(hash::hash(bytes)),
        }
    }

    /// Returns the pack index; it loads itself when first asked.
    pub fn index(&self) -> &PackIndex {
        &self.inner.index
    }

    pub(crate) fn block_caches(&self) -> &Blocks {
        &self.inner.blocks
    }

    /// Returns the leases that are known to be over.
    pub(crate) fn leases_over(&self) -> &LeasesOver {
        &self.inner.leases_over
    }

    /// Says whether this run has seen that each dataset has a name.
    pub(crate) fn names_are_whole(&self) -> bool {
        self.inner.names_are_whole.get().is_some()
    }

    /// Remembers for this run that each dataset has a name.
    pub(crate) fn note_whole_names(&self) {
        self.inner.names_are_whole.get_or_init(|| ());
    }

    /// Returns what this run knows of the tables kept on this machine.
    pub(crate) fn tables_kept(&self) -> &KeptTables {
        &self.inner.tables
    }

    /// Returns the buffers that blocks are compressed into.
    pub(crate) fn spare(&self) -> &Spare {
        &self.inner.spare
    }

    /// Loads what of the pack index is new in the repository.
    ///
    /// # Errors
    /// Those of the backend; `Corrupt` for a damaged index object.
    pub fn refresh_index(&self) -> Result<()> {
        self.inner.index.refresh(self.store(), self.cache())
    }
}
