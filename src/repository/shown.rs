//! What can be shown of datasets and backups beside what is missing or damaged: enough to look
//! and to restore, never to decide what goes or what is next.

use crate::backend::ObjectInfo;
use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::id::BackupId;
use crate::base::id::DatasetId;
use crate::codec::frame::ObjectKind;
use crate::format::dataset::DatasetName;
use crate::format::dataset::NameRecord;
use crate::repository::Repository;
use crate::repository::ahead;
use crate::repository::datasets::Backup;
use crate::repository::datasets::Dataset;
use crate::repository::datasets::Numbers;
use crate::repository::layout;
use crate::repository::seen;
use crate::repository::seen::Told;
use std::collections::BTreeMap;
use std::collections::HashSet;
use std::sync::Arc;

/// A backup, or why it cannot be read.
pub(crate) type Readable = std::result::Result<Arc<Backup>, Error>;

const REPAIR_HINT: &str = "`icecore repair --dry-run` says what can be done about it";

/// Backups as far as they can be read, and what cannot.
#[derive(Debug, Default)]
pub struct Shown<T> {
    /// What can be read.
    pub readable: Vec<T>,
    /// Why the rest cannot.
    pub problems: Vec<Error>,
}

impl Repository {
    /// Returns the datasets whose names can be read, sorted by name, and tells of those that no
    /// name leads to.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn shown_datasets(&self) -> Result<Shown<Dataset>> {
        let (mut shown, nameless) = self.named_and_nameless()?;
        // By which of the names that cannot be read the others went is not known.
        if shown.problems.is_empty() {
            shown.problems.extend(nameless.iter().map(|id| {
                Error::corrupt(format!("no name leads to dataset {id}, which has backups"))
                    .hint(REPAIR_HINT)
                    .at(Origin::Repository)
            }));
        }
        Ok(shown)
    }

    /// Returns the datasets by their names, and the ids of those that no readable name leads to.
    ///
    /// Each has a name before it has anything else, so the folders are listed first; and one that
    /// is renamed meanwhile has one at the second look.
    fn named_and_nameless(&self) -> Result<(Shown<Dataset>, Vec<DatasetId>)> {
        let folders = self.dataset_folders()?;
        let mut shown = self.named_datasets()?;
        let mut nameless = self.nameless_among(folders, &shown)?;
        if !nameless.is_empty() {
            shown = self.named_datasets()?;
            nameless = self.nameless_among(nameless, &shown)?;
        }
        Ok((shown, nameless))
    }

    fn nameless_among(
        &self,
        folders: Vec<DatasetId>,
        shown: &Shown<Dataset>,
    ) -> Result<Vec<DatasetId>> {
        let named: HashSet<DatasetId> = shown.readable.iter().map(Dataset::id).collect();
        let mut nameless = Vec::new();
        for id in folders.into_iter().filter(|id| !named.contains(id)) {
            // A folder that is empty is left over of nothing.
            if !self.store().names_below(&layout::dataset(&id)?)?.is_empty() {
                nameless.push(id);
            }
        }
        Ok(nameless)
    }

    /// Refuses to make a dataset, which would get this id, while one that has lost its name may be
    /// the one that is meant: there would be two of one name. Says whether each has a name.
    pub(super) fn refuse_second(&self, name: &DatasetName, id: &DatasetId) -> Result<bool> {
        let (shown, nameless) = self.named_and_nameless()?;
        // Those behind names that cannot be read have other names.
        if nameless.contains(id) || nameless.len() <= shown.problems.len() {
            return Ok(nameless.is_empty());
        }
        let message = format!(
            "there is no dataset {name}, and no name leads to dataset {}, which may be it",
            nameless[0]
        );
        Err(Error::corrupt(message)
            .hint("`icecore repair` names it again; `icecore check` says what it is")
            .at(Origin::Repository))
    }

    /// Returns the datasets whose names can be read, sorted by name.
    ///
    /// # Errors
    /// Those of the backend.
    pub(super) fn named_datasets(&self) -> Result<Shown<Dataset>> {
        let mut newest: BTreeMap<String, (u64, ObjectInfo)> = BTreeMap::new();
        for object in self.store().objects_below(&layout::folder("names")?)? {
            let Some(revision) = layout::plain_number(object.key.name()) else { continue };
            let folder = object.key.folder().as_str().to_owned();
            if newest.get(&folder).is_none_or(|(known, _)| *known < revision) {
                newest.insert(folder, (revision, object));
            }
        }
        let (mut readable, mut problems) = (Vec::new(), Vec::new());
        for (_, object) in newest.into_values() {
            let told = Told::of(&object);
            let read = seen::record::<NameRecord>(self, ObjectKind::Name, &object.key, &told);
            match read.and_then(|record| self.check_name(&object.key, record)) {
                Ok(NameRecord { name, dataset: Some(id), .. }) => {
                    readable.push(Dataset::named(self, id, name));
                }
                Ok(NameRecord { dataset: None, .. }) => {}
                Err(e) if e.kind() == ErrorKind::Corrupt => problems.push(e.hint(REPAIR_HINT)),
                Err(e) if e.kind().is_of_one_object() => problems.push(e),
                Err(e) => return Err(e),
            }
        }
        readable.sort_by(|a, b| a.name().cmp(b.name()));
        Ok(Shown { readable, problems })
    }
}

impl Dataset {
    /// Returns the backups that were not forgotten and can be read, by number, and what is
    /// missing or damaged.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn shown_backups(&self) -> Result<Shown<Arc<Backup>>> {
        let numbers = self.shown_numbers()?;
        let mut problems = self.gaps(&numbers);
        let mut readable = Vec::new();
        for (_, backup) in self.each_backup(&numbers)? {
            match backup {
                Ok(backup) => readable.push(backup),
                Err(e) => problems.push(e),
            }
        }
        Ok(Shown { readable, problems })
    }

    /// Returns those of the listed backups that were not forgotten, by number, or why a header
    /// cannot be read.
    ///
    /// # Errors
    /// Those of the backend.
    pub(crate) fn each_backup(&self, numbers: &Numbers) -> Result<Vec<(BackupId, Readable)>> {
        let all: Vec<BackupId> = numbers.iter().collect();
        let read = |n: &BackupId| match self.backup(numbers, *n) {
            Err(e) if e.kind() == ErrorKind::Corrupt => Ok(Some((*n, Err(e)))),
            Err(e) => Err(e),
            Ok(backup) => Ok(backup.map(|backup| (*n, Ok(Arc::new(backup))))),
        };
        let read = ahead::map(self.repository().store(), &all, &read)?;
        Ok(read.into_iter().flatten().collect())
    }

    /// Returns what of the listing is missing.
    pub(crate) fn gaps(&self, numbers: &Numbers) -> Vec<Error> {
        numbers.missing.iter().map(|what| self.gap(what)).collect()
    }
}
