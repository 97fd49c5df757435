//! Bytes of three kinds, by seed, and a repository to go through.

use crate::measure::Done;
use crate::settings::Settings;
use crate::support;
use crate::support::Numbers;
use crate::support::PASSWORD;
use crate::support::generate;
use crate::support::generate::pages::PAGE_BYTES;
use crate::support::generate::pages::Pages;
use icecore::backend::memory::MemoryBackend;
use icecore::base::secret::Secret;
use icecore::base::time::Clock;
use icecore::base::time::SystemClock;
use icecore::chunk::ChunkParameters;
use icecore::codec::key::Argon2Cost;
use icecore::repository::Repository;
use icecore::repository::cache::CachePlace;
use icecore::repository::open;
use icecore::repository::open::CreateOptions;
use std::path::Path;
use std::sync::Arc;

pub(crate) const MIB: usize = 1 << 20;
/// More than the caches of most processors, so that memory counts.
const KIND_BYTES: usize = 64 * MIB;
/// To open a repository is no stage, and its password guards nothing.
const COST: Argon2Cost = Argon2Cost { memory_kib: 64, passes: 1, lanes: 1 };

/// Returns the logarithms of the average chunk where content compresses, and where it does not.
pub(crate) fn averages_log2() -> [u8; 2] {
    let usual = ChunkParameters::default();
    [usual.average_fine, usual.average_coarse].map(|average| average.ilog2() as u8)
}

/// Content of one kind.
#[derive(Debug)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    /// A whole number of MiB.
    pub(crate) bytes: Vec<u8>,
}

/// Makes text, database pages, and bytes that nothing compresses.
pub(crate) fn kinds(settings: &Settings) -> [Kind; 3] {
    let length = settings.part(KIND_BYTES / MIB, 4) * MIB;
    let mut text = Vec::with_capacity(length);
    support::text(&mut Numbers::new(1), length, &mut text);
    let made = Pages::new((length / PAGE_BYTES) as u64, 2);
    let pages = (0..(length / PAGE_BYTES) as u64).flat_map(|number| made.page(number, 0)).collect();
    [
        Kind { name: "text", bytes: text },
        Kind { name: "pages", bytes: pages },
        Kind { name: "noise", bytes: noise(length) },
    ]
}

/// Makes bytes that nothing compresses.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut noise = Vec::with_capacity(length + 8);
    generate::noise(&mut Numbers::new(3), length, &mut noise);
    noise
}

/// A repository in memory, which can be opened again with empty caches.
pub(crate) struct Place {
    backend: Arc<MemoryBackend>,
    password: Option<Secret>,
    cache: CachePlace,
}

impl Place {
    /// Makes one, encrypted or plain; its local cache is a folder of its own below `folder`.
    pub(crate) fn create(folder: &Path, is_encrypted: bool) -> Done<(Self, Repository)> {
        let password = is_encrypted.then(|| Secret::new(PASSWORD.into()));
        let options =
            CreateOptions { password: password.clone(), cost: COST, ..CreateOptions::default() };
        let backend = Arc::new(MemoryBackend::new());
        let place = Place { backend, password, cache: CachePlace::Scratch(folder.to_owned()) };
        let backend = Arc::clone(&place.backend);
        let repository = open::create(backend, &options, &place.cache, SystemClock.now())?;
        Ok((place, repository))
    }

    /// Opens it anew, with nothing in memory and an empty cache.
    pub(crate) fn open(&self) -> Done<Repository> {
        let backend = Arc::clone(&self.backend);
        Ok(open::open(backend, self.password.as_ref(), &self.cache)?)
    }
}
