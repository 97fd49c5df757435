//! Puts tombstones: what they name goes with the next prune, and nobody leans on it any more.
//!
//! Doom is irrevocable. What turns out to be needed in a doomed pack is copied to a new one
//! before that is deleted, so a tombstone put in error costs work and never data.

use crate::base::error::Result;
use crate::base::id::IndexId;
use crate::base::id::PackId;
use crate::base::id::TombstoneId;
use crate::base::sys;
use crate::base::sys::ProcessIdentity;
use crate::base::time::Timestamp;
use crate::codec::frame::ObjectKind;
use crate::format::tombstone::TombstoneRecord;
use crate::repository::Repository;
use crate::repository::layout;

/// Puts a tombstone for packs and pack index objects.
///
/// # Errors
/// Those of the backend.
pub fn put_tombstone(
    repository: &Repository,
    packs: &[PackId],
    indexes: &[IndexId],
    now: Timestamp,
) -> Result<TombstoneId> {
    let tombstone = TombstoneId::new(sys::random()?);
    let record = TombstoneRecord {
        tombstone,
        packs: packs.to_vec(),
        indexes: indexes.to_vec(),
        process: ProcessIdentity::current(),
        written: now,
    };
    repository.store().put(ObjectKind::Tombstone, &layout::tombstone(&tombstone)?, &record)?;
    Ok(tombstone)
}
