//! Small immutable objects of a dataset, kept in the cache once they were read.
//!
//! Which ones count is asked of the repository by listing. A kept one stands only for the object
//! that is listed: a repository may be copied or put back to an earlier state, and then another
//! backup takes the same number. So a kept object goes by where the repository is, and by size
//! and time as listed; where a store tells no time, nothing is kept.

use crate::backend::ObjectInfo;
use crate::backend::key::ObjectKey;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::hash;
use crate::base::id::to_hex;
use crate::base::time::Timestamp;
use crate::codec::frame::ObjectKind;
use crate::repository::Repository;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What a listing tells of an object besides its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    size: Option<u64>,
    modified: Option<Timestamp>,
}

impl Told {
    /// Takes what is told of a listed object.
    pub(crate) fn of(object: &ObjectInfo) -> Self {
        Told { size: object.size, modified: object.modified }
    }
}

/// Reads an object of a dataset, from the cache when it is kept there and `open` makes sense of
/// it, else from the repository, and keeps it then.
///
/// # Errors
/// Those of the backend and of `open`.
pub(crate) fn read<T>(
    repository: &Repository,
    (kind, key, told): (ObjectKind, &ObjectKey, &Told),
    open: &dyn Fn(&[u8]) -> Result<T>,
) -> Result<T> {
    let name = name(repository, key, told);
    let kept = name.as_ref().and_then(|name| repository.cache().read(name));
    if let Some(opened) = kept.and_then(|bytes| open(&bytes).ok()) {
        return Ok(opened);
    }
    let bytes = repository.store().get_bytes(kind, key)?;
    let opened = open(&bytes)?;
    // A header that a power cut takes back leaves its number to another one, which the cache must
    // not hide.
    if let Some(name) = name
        && repository.store().settle().is_ok()
    {
        repository.cache().write(&name, &bytes);
    }
    Ok(opened)
}

/// Reads a record like [`read`].
///
/// # Errors
/// Those of the backend; `Corrupt`.
pub(crate) fn record<T: DeserializeOwned + Serialize>(
    repository: &Repository,
    kind: ObjectKind,
    key: &ObjectKey,
    told: &Told,
) -> Result<T> {
    let open = |bytes: &[u8]| {
        let sealer = repository.store().sealer();
        sealer.open_record(kind, key.as_str(), bytes).map_err(|e| e.at(Origin::Repository))
    };
    read(repository, (kind, key, told), &open)
}

fn name(repository: &Repository, key: &ObjectKey, told: &Told) -> Option<String> {
    let modified = told.modified?;
    let mut hasher = hash::Hasher::new();
    hasher.update(&told.size.unwrap_or(u64::MAX).to_le_bytes());
    hasher.update(&modified.seconds().to_le_bytes());
    hasher.update(&modified.nanos().to_le_bytes());
    hasher.update(repository.location().as_bytes());
    let digest = hasher.finish();
    let key = key.as_str().replace('/', "-");
    Some(format!("seen/{key}-{}", to_hex(&digest[..8])))
}
