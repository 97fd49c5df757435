//! How names lead to datasets: ids that are derived from names, and names that lead again to what
//! lost its own.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::hash;
use crate::base::id::DatasetId;
use crate::base::time::Timestamp;
use crate::codec::frame::ObjectKind;
use crate::format::dataset::DatasetName;
use crate::format::dataset::NameRecord;
use crate::repository::Repository;
use crate::repository::layout;

/// Revisions of a name that are tried when a dataset's id is compared with it.
const NAME_REVISIONS_TRIED: u64 = 16;

impl Repository {
    pub(super) fn derive_dataset_id(&self, name: &DatasetName, revision: u64) -> Result<DatasetId> {
        let mut material = self.name_hash(name).to_vec();
        material.extend_from_slice(self.id().as_bytes());
        material.extend_from_slice(&revision.to_le_bytes());
        let digest = hash::derive("icecore 2026-11-21 dataset id v1", &material);
        DatasetId::from_slice(&digest[..16])
    }

    pub(super) fn put_name(
        &self,
        name: &DatasetName,
        revision: u64,
        dataset: Option<DatasetId>,
        now: Timestamp,
    ) -> Result<()> {
        let key = self.name_folder(name)?.object(&revision.to_string())?;
        let record = NameRecord { name: name.clone(), dataset, written: now };
        self.store().put_first(ObjectKind::Name, &key, &record).map(|_| ())
    }

    /// Says whether a dataset was made under a name, as its id tells: its first revisions are
    /// tried.
    ///
    /// # Errors
    /// `Bug`: a hash always makes an id.
    pub fn is_name_of(&self, name: &DatasetName, id: &DatasetId) -> Result<bool> {
        for revision in 0..NAME_REVISIONS_TRIED {
            if self.derive_dataset_id(name, revision)? == *id {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Lets a name lead to a dataset that lost its own, unless the name leads to another.
    ///
    /// # Errors
    /// `AlreadyExists` when it does; those of the backend.
    pub fn name_dataset(&self, name: &DatasetName, id: &DatasetId, now: Timestamp) -> Result<()> {
        match self.name_record(name) {
            Ok(Some((_, NameRecord { dataset: Some(there), .. }))) if there == *id => Ok(()),
            Ok(Some((_, NameRecord { dataset: Some(_), .. }))) => {
                let message = format!("there is another dataset {name}");
                Err(Error::new(ErrorKind::AlreadyExists, message).at(Origin::Repository))
            }
            // A record that cannot be read is followed by one that can.
            Err(e) if e.kind() != ErrorKind::Corrupt => Err(e),
            _ => self.put_name(name, self.next_revision(name)?, Some(*id), now),
        }
    }

    /// Retires a name whose newest record cannot be read.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn retire_name(&self, name: &DatasetName, now: Timestamp) -> Result<()> {
        match self.name_record(name) {
            Ok(_) => Ok(()),
            Err(e) if e.kind() != ErrorKind::Corrupt => Err(e),
            Err(_) => self.put_name(name, self.next_revision(name)?, None, now),
        }
    }

    fn next_revision(&self, name: &DatasetName) -> Result<u64> {
        let keys = self.store().names_below(&self.name_folder(name)?)?;
        let highest = keys.iter().filter_map(|key| layout::plain_number(key.name())).max();
        let next = highest.map_or(Some(0), |highest| highest.checked_add(1));
        next.ok_or_else(|| Error::corrupt(format!("the name {name} has no revision left")))
    }
}
