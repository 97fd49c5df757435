//! A lease: who is writing which number on which parent, or reading what; and its beats.

use crate::base::id::BackupId;
use crate::base::id::DatasetId;
use crate::base::id::LeaseId;
use crate::base::sys::ProcessIdentity;
use crate::base::time::Timestamp;
use serde::Deserialize;
use serde::Serialize;

/// `leases/<id>`: immutable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRecord {
    /// Its own id.
    pub lease: LeaseId,
    /// The dataset.
    pub dataset: DatasetId,
    /// The number that a writer will commit; none for a reader.
    pub number: Option<BackupId>,
    /// The backup it leans on or reads, which is pinned as long as the lease lives.
    pub parent: Option<BackupId>,
    /// Who holds it.
    pub process: ProcessIdentity,
    /// When it was taken, by the holder's clock; for people only.
    pub taken: Timestamp,
    /// What is being done, for people.
    pub purpose: String,
}

/// `leases/<id>.beat-<k>`: a sign of life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BeatRecord {
    /// The lease.
    pub lease: LeaseId,
    /// Which beat.
    pub beat: u64,
}

/// Class B: `leases/<id>.r<prune>` asks whether the lease stands, `leases/<id>.v` says that it
/// does not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MarkRecord {
    /// The lease.
    pub lease: LeaseId,
    /// Who put the mark, for people.
    pub by: String,
}
