//! The names of datasets: which folder a name stands for, by the highest revision of its record.

use crate::backend::key::FolderKey;
use crate::backend::key::ObjectKey;
use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::hash;
use crate::base::time::Timestamp;
use crate::codec::frame::ObjectKind;
use crate::format::dataset::DatasetName;
use crate::format::dataset::NameRecord;
use crate::repository::Repository;
use crate::repository::datasets::Dataset;
use crate::repository::layout;
use crate::repository::seen;
use crate::repository::seen::Told;
use crate::repository::shown::Shown;

fn holds_another_name(key: &ObjectKey) -> Error {
    Error::corrupt(format!("{key} holds another dataset's name")).at(Origin::Repository)
}

impl Repository {
    pub(super) fn name_hash(&self, name: &DatasetName) -> hash::Digest {
        let bytes = name.as_str().as_bytes();
        match self.store().sealer().keys() {
            Some(keys) => hash::keyed(keys.name_key(), bytes),
            None => hash::derive("icecore 2026-11-21 dataset name v1", bytes),
        }
    }

    /// Returns the folder that holds the revisions of a name.
    ///
    /// # Errors
    /// `Bug`: a hash always makes a folder's key.
    pub fn name_folder(&self, name: &DatasetName) -> Result<FolderKey> {
        layout::name_folder(&self.name_hash(name))
    }

    /// Returns the record of the highest revision of a name, and that revision.
    pub(crate) fn name_record(&self, name: &DatasetName) -> Result<Option<(u64, NameRecord)>> {
        let objects = self.store().objects_below(&self.name_folder(name)?)?;
        let newest = objects
            .iter()
            .filter_map(|object| Some((layout::plain_number(object.key.name())?, object)))
            .max_by_key(|(revision, _)| *revision);
        let Some((revision, object)) = newest else { return Ok(None) };
        let (key, told) = (&object.key, Told::of(object));
        let record: NameRecord = seen::record(self, ObjectKind::Name, key, &told)?;
        if record.name != *name {
            return Err(holds_another_name(key));
        }
        Ok(Some((revision, record)))
    }

    /// Refuses a record that lies in the folder of another name: without encryption nothing else
    /// tells that it is not from there.
    pub(super) fn check_name(&self, key: &ObjectKey, record: NameRecord) -> Result<NameRecord> {
        match self.name_folder(&record.name)? == key.folder() {
            true => Ok(record),
            false => Err(holds_another_name(key)),
        }
    }

    /// Returns a dataset by name.
    ///
    /// # Errors
    /// `NotFound` when there is none of that name.
    pub fn dataset(&self, name: &DatasetName) -> Result<Dataset> {
        match self.name_record(name)? {
            Some((_, NameRecord { dataset: Some(id), .. })) => {
                Ok(Dataset::named(self, id, name.clone()))
            }
            _ => {
                let message = format!("there is no dataset {name} in {}", self.location());
                Err(Error::new(ErrorKind::NotFound, message)
                    .hint("`icecore list` shows the datasets"))
            }
        }
    }

    /// Returns a dataset by name, making it when there is none.
    ///
    /// The id is derived from name and revision, so that two machines that make the same dataset
    /// at once make the same one, on every backend.
    ///
    /// # Errors
    /// Those of the backend; `Corrupt` when one that has lost its name may be meant.
    pub fn dataset_or_new(&self, name: &DatasetName, now: Timestamp) -> Result<Dataset> {
        let revision = match self.name_record(name)? {
            Some((_, NameRecord { dataset: Some(id), .. })) => {
                return Ok(Dataset::named(self, id, name.clone()));
            }
            Some((revision, _)) => revision.checked_add(1).ok_or_else(|| {
                Error::corrupt(format!("the name {name} has no revision left"))
                    .at(Origin::Repository)
            })?,
            None => 0,
        };
        let id = self.derive_dataset_id(name, revision)?;
        if !self.names_are_whole() && self.refuse_second(name, &id)? {
            self.note_whole_names();
        }
        // The first thing in a repository must not outlive the config of an init that was killed.
        self.store().settle()?;
        self.put_name(name, revision, Some(id), now)?;
        self.dataset(name)
    }

    /// Returns all datasets, sorted by name.
    ///
    /// # Errors
    /// Those of the backend; `Corrupt` for a name that cannot be read.
    pub fn datasets(&self) -> Result<Vec<Dataset>> {
        let Shown { readable, problems } = self.named_datasets()?;
        problems.into_iter().next().map_or(Ok(readable), Err)
    }
}
