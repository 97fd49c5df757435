//! A tombstone: packs and index objects that a prune will delete, irrevocably.

use crate::base::id::IndexId;
use crate::base::id::PackId;
use crate::base::id::TombstoneId;
use crate::base::sys::ProcessIdentity;
use crate::base::time::Timestamp;
use serde::Deserialize;
use serde::Serialize;

/// `tombstones/<id>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TombstoneRecord {
    /// Its own id.
    pub tombstone: TombstoneId,
    /// Packs that go.
    pub packs: Vec<PackId>,
    /// Pack index objects that go.
    pub indexes: Vec<IndexId>,
    /// Bytes of the packs that nothing needed when they were doomed: of what one prune dooms all
    /// is said in its first tombstone. What goes beyond it was needed then.
    pub freed_bytes: u64,
    /// Who put it.
    pub process: ProcessIdentity,
    /// When, for people only.
    pub written: Timestamp,
}
