//! Which blobs a repository has, for who writes nothing: without a lease, and so without a
//! promise that they stay.

use crate::base::error::Result;
use crate::base::id::BlobId;
use crate::base::id::PackId;
use crate::repository::Repository;
use crate::repository::absorb;
use crate::repository::doom::Tombstones;
use crate::repository::names::NameIndex;
use std::collections::HashSet;

/// What a repository had when it was asked first.
pub struct KnownBlobs {
    repository: Repository,
    names: NameIndex,
    doomed: HashSet<PackId>,
}

impl KnownBlobs {
    /// Brings the name index up to what the repository has now.
    ///
    /// # Errors
    /// Those of the backend; when the cache cannot be written.
    pub fn look(repository: &Repository) -> Result<Self> {
        let doomed = Tombstones::list(repository.store())?.packs();
        let names = NameIndex::open(repository.cache())?;
        absorb::catch_up(repository, &names)?;
        // A cache that cannot be saved costs the next run time, and nothing else.
        let _ = names.save(repository.cache());
        Ok(KnownBlobs { repository: repository.clone(), names, doomed })
    }

    /// Says whether a backup would find a blob here. Whether its pack is there is not asked: that
    /// would be a request for each pack, and a pack that is gone is what a check finds.
    pub fn has(&self, blob: &BlobId) -> bool {
        self.names.find_kept(blob).into_iter().any(|(at, block)| {
            let locations = self.repository.index().find_named(&block);
            let is_kept = locations.iter().any(|location| {
                location.row.has_place(at.place) && !self.doomed.contains(&location.pack.pack)
            });
            // A table that cannot be read confirms nothing.
            is_kept && self.repository.blob_is_at(blob, &block, at.place).unwrap_or(false)
        })
    }
}
