//! Datasets: their names, their numbers, their headers.
//!
//! What exists is asked of the repository in every run, by listing; what was once read of an
//! immutable object is kept in the cache. Numbers are gapless above the floor (voids fill what no
//! backup took), so a truncated listing is noticed: a gap is an error, never a shorter list.

use crate::backend::Listed;
use crate::backend::key::FolderKey;
use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::hash;
use crate::base::id::BackupId;
use crate::base::id::DatasetId;
use crate::base::id::LeaseId;
use crate::base::limits::NUMBERS_LOOKS_MAX;
use crate::base::limits::NUMBERS_PER_FOLDER;
use crate::base::limits::RECORD_BYTES_MAX;
use crate::base::time::Timestamp;
use crate::codec::frame;
use crate::codec::frame::ObjectKind;
use crate::format::backup;
use crate::format::backup::Header;
use crate::format::dataset::DatasetName;
use crate::format::dataset::FloorRecord;
use crate::format::dataset::NameRecord;
use crate::format::dataset::TagsRecord;
use crate::repository::Repository;
use crate::repository::layout;
use crate::repository::layout::NumberObject;
use crate::repository::lease;
use crate::repository::lease::Standing;
use crate::repository::numbers::Slot;
use std::collections::BTreeMap;
use std::sync::Arc;

pub use crate::repository::numbers::Numbers;

/// One named line of backups.
#[derive(Clone)]
pub struct Dataset {
    repository: Repository,
    id: DatasetId,
    name: DatasetName,
}

/// One object that stands at a number.
enum AtNumber {
    Backup(Box<Header>, hash::Digest),
    Void,
}

/// A backup's header with what was said of it later.
#[derive(Clone, Debug)]
pub struct Backup {
    /// The header, as written.
    pub header: Header,
    /// BLAKE3 of its object: what a cached snapshot is named by.
    pub digest: hash::Digest,
    /// Tags in force.
    pub tags: Vec<String>,
    /// Description in force.
    pub description: String,
}

impl Repository {
    fn name_hash(&self, name: &DatasetName) -> hash::Digest {
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
    fn name_record(&self, name: &DatasetName) -> Result<Option<(u64, NameRecord)>> {
        let keys = self.store().names_below(&self.name_folder(name)?)?;
        let newest = keys
            .iter()
            .filter_map(|key| Some((layout::plain_number(key.name())?, key)))
            .max_by_key(|(revision, _)| *revision);
        let Some((revision, key)) = newest else { return Ok(None) };
        let record: NameRecord = self.store().get(ObjectKind::Name, key)?;
        if record.name != *name {
            return Err(Error::corrupt(format!("{key} holds another dataset's name"))
                .at(Origin::Repository));
        }
        Ok(Some((revision, record)))
    }

    /// Returns a dataset by name.
    ///
    /// # Errors
    /// `NotFound` when there is none of that name.
    pub fn dataset(&self, name: &DatasetName) -> Result<Dataset> {
        match self.name_record(name)? {
            Some((_, NameRecord { dataset: Some(id), .. })) => {
                Ok(Dataset { repository: self.clone(), id, name: name.clone() })
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
    /// Those of the backend.
    pub fn dataset_or_new(&self, name: &DatasetName, now: Timestamp) -> Result<Dataset> {
        let revision = match self.name_record(name)? {
            Some((_, NameRecord { dataset: Some(id), .. })) => {
                return Ok(Dataset { repository: self.clone(), id, name: name.clone() });
            }
            Some((revision, _)) => revision + 1,
            None => 0,
        };
        let mut material = self.name_hash(name).to_vec();
        material.extend_from_slice(self.id().as_bytes());
        material.extend_from_slice(&revision.to_le_bytes());
        let digest = hash::derive("icecore 2026-11-21 dataset id v1", &material);
        let id = DatasetId::from_slice(&digest[..16])?;
        let folder = self.name_folder(name)?;
        let key = folder.object(&revision.to_string())?;
        let record = NameRecord { name: name.clone(), dataset: Some(id), written: now };
        if self.store().is_class_a() {
            self.store().put_new(ObjectKind::Name, &key, &record)?;
        } else {
            self.store().put(ObjectKind::Name, &key, &record)?;
        }
        self.dataset(name)
    }

    /// Returns all datasets, sorted by name.
    ///
    /// # Errors
    /// Those of the backend; `Corrupt` for a name that cannot be read.
    pub fn datasets(&self) -> Result<Vec<Dataset>> {
        let mut newest: BTreeMap<String, (u64, _)> = BTreeMap::new();
        for key in self.store().names_below(&layout::folder("names")?)? {
            let Some(revision) = layout::plain_number(key.name()) else { continue };
            let folder = key.folder().as_str().to_owned();
            let slot = newest.entry(folder).or_insert((revision, key.clone()));
            if revision > slot.0 {
                *slot = (revision, key);
            }
        }
        let mut datasets = Vec::new();
        for (_, key) in newest.into_values() {
            let record: NameRecord = self.store().get(ObjectKind::Name, &key)?;
            if let Some(id) = record.dataset {
                datasets.push(Dataset { repository: self.clone(), id, name: record.name });
            }
        }
        datasets.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(datasets)
    }
}

impl Dataset {
    /// Returns the dataset of a folder whose name may not be known; its id serves as one.
    pub(crate) fn of_folder(repository: &Repository, id: DatasetId) -> Result<Self> {
        Ok(Dataset { repository: repository.clone(), id, name: id.to_string().parse()? })
    }

    /// Returns the repository it is in.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// Returns its id, which stays when it is renamed.
    pub fn id(&self) -> DatasetId {
        self.id
    }

    /// Returns its name.
    pub fn name(&self) -> &DatasetName {
        &self.name
    }

    /// Lists the newest numbers: the top of the dataset and its last thousand.
    ///
    /// # Errors
    /// Those of the backend; `Corrupt` when numbers are missing.
    pub fn newest_numbers(&self) -> Result<Numbers> {
        self.list_numbers(Some(1), false)
    }

    /// Lists all numbers.
    ///
    /// # Errors
    /// Those of the backend; `Corrupt` when numbers are missing.
    pub fn all_numbers(&self) -> Result<Numbers> {
        self.list_numbers(None, false)
    }

    /// Lists all numbers for one who will delete what none of them needs: those below the floor
    /// that remain must be there as well.
    ///
    /// # Errors
    /// Those of the backend; `Corrupt` when numbers are missing.
    pub fn surely_all_numbers(&self) -> Result<Numbers> {
        self.list_numbers(None, true)
    }

    /// Lists again when something is missing: a floor may have risen meanwhile.
    fn list_numbers(&self, thousands_max: Option<usize>, surely: bool) -> Result<Numbers> {
        for _ in 1..NUMBERS_LOOKS_MAX {
            match self.look_at_numbers(thousands_max, surely) {
                Err(e) if matches!(e.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => {}
                looked => return looked,
            }
        }
        self.look_at_numbers(thousands_max, surely)
    }

    fn look_at_numbers(&self, thousands_max: Option<usize>, surely: bool) -> Result<Numbers> {
        let store = self.repository.store();
        let top = layout::dataset(&self.id)?;
        let mut thousands = Vec::new();
        let mut floors = Vec::new();
        let listed = store.backend().list(&top, &mut |listed| {
            match listed {
                Listed::Folder(folder) => thousands.extend(layout::plain_number(folder.name())),
                Listed::Object(object) => {
                    floors.extend(layout::parse_floor(object.key.name()).map(|m| (m, object.key)));
                }
            }
            Ok(())
        });
        listed.map_err(|e| self.cannot_list(e))?;
        let floor: Option<FloorRecord> = match floors.into_iter().max_by_key(|(m, _)| *m) {
            Some((_, key)) => Some(store.get(ObjectKind::Floor, &key)?),
            None => None,
        };
        thousands.sort_unstable();
        self.refuse_missing_thousands(&thousands, floor.as_ref())?;
        let skip = thousands_max.map_or(0, |max| thousands.len().saturating_sub(max));
        let mut numbers = Numbers { floor, ..Numbers::default() };
        for thousand in &thousands[skip..] {
            self.list_thousand(&top.folder(&thousand.to_string())?, &mut numbers)?;
        }
        self.refuse_gaps(&numbers, thousands.get(skip).copied().unwrap_or(0))?;
        if surely && let Some(missing) = numbers.missing_below_floor() {
            return Err(self.gap(&missing.to_string()));
        }
        Ok(numbers)
    }

    fn list_thousand(&self, folder: &FolderKey, numbers: &mut Numbers) -> Result<()> {
        let listed = self.repository.store().backend().list(folder, &mut |listed| {
            let Listed::Object(object) = listed else { return Ok(()) };
            match layout::parse_number_object(object.key.name()) {
                Some(NumberObject::Header(n, lease)) => numbers.slot(n).headers.push(lease),
                Some(NumberObject::Hidden(n)) => numbers.slot(n).is_hidden = true,
                Some(NumberObject::Tags(n, revision)) => {
                    let slot = numbers.slot(n);
                    slot.tags_revision = slot.tags_revision.max(Some(revision));
                }
                None => {}
            }
            Ok(())
        });
        listed.map_err(|e| self.cannot_list(e))
    }

    fn cannot_list(&self, error: Error) -> Error {
        error.context(format!("cannot list the backups of {}", self.name)).at(Origin::Repository)
    }

    fn refuse_missing_thousands(&self, sorted: &[u64], floor: Option<&FloorRecord>) -> Result<()> {
        let lowest_needed = floor.map_or(0, |floor| floor.floor / NUMBERS_PER_FOLDER);
        let above: Vec<u64> = sorted.iter().copied().filter(|&t| t >= lowest_needed).collect();
        let expected = (lowest_needed..).take(above.len());
        if above.into_iter().eq(expected) { Ok(()) } else { Err(self.gap("a folder of numbers")) }
    }

    fn refuse_gaps(&self, numbers: &Numbers, first_thousand: u64) -> Result<()> {
        let floor = numbers.floor.as_ref().map_or(0, |floor| floor.floor);
        let mut expected = floor.max(first_thousand * NUMBERS_PER_FOLDER);
        for (&n, slot) in &numbers.slots {
            if n < expected || slot.headers.is_empty() {
                continue;
            }
            if n > expected {
                return Err(self.gap(&BackupId(expected).to_string()));
            }
            expected += 1;
        }
        Ok(())
    }

    fn gap(&self, what: &str) -> Error {
        Error::corrupt(format!("{what} of {} is missing from the listing", self.name))
            .hint("the store shows less than was put there; `icecore check` says what is affected")
            .at(Origin::Repository)
    }

    fn read_object(&self, n: BackupId, lease: Option<LeaseId>) -> Result<AtNumber> {
        let store = self.repository.store();
        let key = match lease {
            None => layout::header(&self.id, n)?,
            Some(lease) => layout::header_of_lease(&self.id, n, &lease)?,
        };
        let cached_name = format!("seen/{}-{}", self.id, key.name());
        let cached = self.repository.cache().read(&cached_name);
        let is_cached = cached.is_some();
        let bytes = match cached {
            Some(bytes) => bytes,
            None => store.get_bytes(ObjectKind::Backup, &key)?,
        };
        let opened = if frame::peek_kind(&bytes) == Some(ObjectKind::Void) {
            let open =
                store.sealer().open(ObjectKind::Void, key.as_str(), &bytes, RECORD_BYTES_MAX);
            open.map(|_| AtNumber::Void)
        } else {
            let open =
                store.sealer().open(ObjectKind::Backup, key.as_str(), &bytes, RECORD_BYTES_MAX);
            open.and_then(|plain| backup::decode(&plain, &format!("the header of {n}")))
                .and_then(|header| self.check_header(header, n, lease))
                .map(|header| AtNumber::Backup(Box::new(header), hash::hash(&bytes)))
        };
        let opened = opened.map_err(|e| {
            e.context(format!("{}@{}", self.name, n.0))
                .hint("`icecore check` says what is affected")
                .at(Origin::Repository)
        })?;
        if !is_cached {
            self.repository.cache().write(&cached_name, &bytes);
        }
        Ok(opened)
    }

    fn check_header(&self, header: Header, n: BackupId, lease: Option<LeaseId>) -> Result<Header> {
        let is_from_here = header.dataset == self.id && header.number == n;
        if !is_from_here || lease.is_some_and(|lease| lease != header.lease) {
            return Err(Error::corrupt(format!("the header of {n} belongs elsewhere")));
        }
        Ok(header)
    }

    /// Returns the backup at a number; None when it is void, was forgotten, or never was.
    ///
    /// # Errors
    /// Those of the backend; `Corrupt` for a header that does not verify.
    pub fn backup(&self, numbers: &Numbers, n: BackupId) -> Result<Option<Backup>> {
        let is_hidden = numbers.slots.get(&n.0).is_some_and(|slot| slot.is_hidden);
        if is_hidden { Ok(None) } else { self.even_hidden(numbers, n) }
    }

    /// Returns the backup at a number even when it was forgotten: what a chain is made of.
    ///
    /// # Errors
    /// Those of the backend; `Corrupt` for a header that does not verify.
    pub fn even_hidden(&self, numbers: &Numbers, n: BackupId) -> Result<Option<Backup>> {
        let Some(slot) = numbers.slots.get(&n.0) else { return Ok(None) };
        if numbers.is_below_floor(n) {
            return Ok(None);
        }
        let found = self.at(n, slot)?.into_iter();
        Ok(found.filter(|(standing, _)| *standing == Standing::Stands).map(|(_, b)| b).next())
    }

    /// Returns every backup at a number that is not void, those first that are shown: without an
    /// atomic create there may be one that is kept and not shown.
    fn at(&self, n: BackupId, slot: &Slot) -> Result<Vec<(Standing, Backup)>> {
        let mut found = Vec::new();
        for lease in &slot.headers {
            let standing = match lease {
                None => Standing::Stands,
                Some(lease) => Standing::of(&lease::marks_on(self.repository.store(), lease)?),
            };
            if standing == Standing::Void {
                continue;
            }
            if let AtNumber::Backup(header, digest) = self.read_object(n, *lease)? {
                let (tags, description) = self.tags(n, slot, &header)?;
                let backup = Backup { header: *header, digest, tags, description };
                found.push((standing, backup));
            }
        }
        found.sort_by_key(|(standing, _)| *standing != Standing::Stands);
        Ok(found)
    }

    /// Returns all backups at a number that a prune must keep unless they are forgotten.
    ///
    /// # Errors
    /// Those of [`Dataset::backup`].
    pub(crate) fn kept_at(&self, numbers: &Numbers, n: BackupId) -> Result<Vec<Backup>> {
        match numbers.slots.get(&n.0) {
            Some(slot) if !numbers.is_below_floor(n) => {
                Ok(self.at(n, slot)?.into_iter().map(|(_, backup)| backup).collect())
            }
            _ => Ok(Vec::new()),
        }
    }

    fn tags(&self, n: BackupId, slot: &Slot, header: &Header) -> Result<(Vec<String>, String)> {
        let Some(revision) = slot.tags_revision else {
            return Ok((header.tags.clone(), header.description.clone()));
        };
        let folder = layout::thousand(&self.id, n)?;
        let key = folder.object(&format!("{}.tags-{revision}", n.0))?;
        let record: TagsRecord = self.repository.store().get(ObjectKind::Tags, &key)?;
        Ok((record.tags, record.description))
    }

    /// Returns the backup at a number that may be in a folder not listed yet.
    ///
    /// # Errors
    /// `NotFound` when it is not there; those of [`Dataset::backup`].
    pub fn chain_link(&self, numbers: &Numbers, n: BackupId) -> Result<Backup> {
        // What a later backup leans on stays readable while a prune asks about it.
        let found = if numbers.slots.contains_key(&n.0) {
            self.kept_at(numbers, n)?
        } else {
            let mut below = Numbers { floor: numbers.floor.clone(), ..Numbers::default() };
            self.list_thousand(&layout::thousand(&self.id, n)?, &mut below)?;
            self.kept_at(&below, n)?
        };
        found.into_iter().next().ok_or_else(|| {
            Error::corrupt(format!("{n} of {} is missing, and later backups need it", self.name))
                .at(Origin::Repository)
        })
    }

    /// Returns the newest backup that was not forgotten.
    ///
    /// # Errors
    /// Those of [`Dataset::backup`].
    pub fn newest(&self, numbers: &Numbers) -> Result<Option<Backup>> {
        for &n in numbers.slots.keys().rev() {
            if let Some(backup) = self.backup(numbers, BackupId(n))? {
                return Ok(Some(backup));
            }
        }
        // The last thousand may hold nothing but voids and forgotten ones.
        let lowest = numbers.slots.keys().next().copied().unwrap_or(0);
        if lowest > 0 && lowest % NUMBERS_PER_FOLDER == 0 {
            let all = self.all_numbers()?;
            for &n in all.slots.range(..lowest).map(|(n, _)| n).rev() {
                if let Some(backup) = self.backup(&all, BackupId(n))? {
                    return Ok(Some(backup));
                }
            }
        }
        Ok(None)
    }

    /// Returns all backups that were not forgotten, by number.
    ///
    /// # Errors
    /// Those of [`Dataset::backup`].
    pub fn backups(&self) -> Result<Vec<Arc<Backup>>> {
        let numbers = self.all_numbers()?;
        let mut backups = Vec::new();
        for n in numbers.iter() {
            backups.extend(self.backup(&numbers, n)?.map(Arc::new));
        }
        Ok(backups)
    }
}
