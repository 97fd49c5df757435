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
use crate::codec::frame;
use crate::codec::frame::ObjectKind;
use crate::format::backup;
use crate::format::backup::Header;
use crate::format::dataset::DatasetName;
use crate::format::dataset::FloorRecord;
use crate::format::dataset::HiddenRecord;
use crate::format::dataset::TagsRecord;
use crate::repository::Repository;
use crate::repository::ahead;
use crate::repository::layout;
use crate::repository::layout::NumberObject;
use crate::repository::lease;
use crate::repository::lease::Standing;
use crate::repository::numbers::Slot;
use crate::repository::seen;
use crate::repository::seen::Told;
use std::sync::Arc;

pub use crate::repository::numbers::Numbers;
pub use crate::repository::shown::Shown;

/// One named line of backups.
#[derive(Clone)]
pub struct Dataset {
    pub(super) repository: Repository,
    pub(super) id: DatasetId,
    pub(super) name: DatasetName,
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

impl Dataset {
    /// Returns a dataset that a name record tells of.
    pub(super) fn named(repository: &Repository, id: DatasetId, name: DatasetName) -> Self {
        Dataset { repository: repository.clone(), id, name }
    }

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
        self.refuse_missing(self.list_numbers(Some(1))?)
    }

    /// Lists all numbers; those below the floor that remain must be there as well.
    ///
    /// # Errors
    /// Those of the backend; `Corrupt` when numbers are missing.
    pub fn all_numbers(&self) -> Result<Numbers> {
        self.refuse_missing(self.list_numbers(None)?)
    }

    /// Lists all numbers that are shown, whatever is missing: enough to read what is there, never
    /// to decide what goes or what is next. What is missing below the floor counts as missing, too.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn shown_numbers(&self) -> Result<Numbers> {
        self.list_numbers(None)
    }

    /// What was shown whole is remembered: whoever looks later must not be shown less.
    fn refuse_missing(&self, numbers: Numbers) -> Result<Numbers> {
        if let Some(what) = numbers.missing.first() {
            return Err(self.gap(what));
        }
        self.remember(numbers.next());
        Ok(numbers)
    }

    /// Lists numbers. A prune may put a higher floor and delete what is below it between two of
    /// these listings: then it is not the store that shows too little, and this looks again.
    pub(super) fn list_numbers(&self, thousands_max: Option<usize>) -> Result<Numbers> {
        for _ in 1..NUMBERS_LOOKS_MAX {
            let mut floor_seen = None;
            let looked = self.look_at_numbers(thousands_max, &mut floor_seen);
            let is_odd = match &looked {
                Ok(numbers) => {
                    !numbers.missing.is_empty() || numbers.next().0 < self.highest_seen()
                }
                Err(e) => e.kind().is_unreadable(),
            };
            // A backup may come and be forgotten while it is listed.
            let may_be_late = looked.as_ref().is_ok_and(Numbers::shows_remarks_alone);
            if !is_odd || !may_be_late && self.floors()?.into_iter().max() <= floor_seen {
                return looked;
            }
        }
        self.look_at_numbers(thousands_max, &mut None)
    }

    fn look_at_numbers(
        &self,
        thousands_max: Option<usize>,
        floor_seen: &mut Option<u64>,
    ) -> Result<Numbers> {
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
        *floor_seen = floors.iter().map(|(m, _)| *m).max();
        let floor: Option<FloorRecord> = match floors.into_iter().max_by_key(|(m, _)| *m) {
            Some((_, key)) => {
                let mut floor: FloorRecord = store.get(ObjectKind::Floor, &key)?;
                // As it should be already; there may be many, and each number is looked for.
                floor.remaining.sort_unstable();
                Some(floor)
            }
            None => None,
        };
        thousands.sort_unstable();
        let skip = thousands_max.map_or(0, |max| thousands.len().saturating_sub(max));
        let mut numbers = Numbers { floor, is_cut: skip > 0, ..Numbers::default() };
        if numbers.misses_thousands(&thousands) {
            numbers.missing.push("a folder of numbers".to_owned());
        }
        for thousand in &thousands[skip..] {
            self.list_thousand(&top.folder(&thousand.to_string())?, &mut numbers)?;
        }
        numbers.note_missing(thousands.get(skip).copied().unwrap_or(0)).ok_or_else(|| {
            let message = format!("{} has numbers beyond the last one", self.name);
            Error::corrupt(message).at(Origin::Repository)
        })?;
        if thousands_max.is_none() {
            numbers.note_missing_below_floor();
        }
        Ok(numbers)
    }

    fn list_thousand(&self, folder: &FolderKey, numbers: &mut Numbers) -> Result<()> {
        let listed = self.repository.store().backend().list(folder, &mut |listed| {
            let Listed::Object(object) = listed else { return Ok(()) };
            match layout::parse_number_object(object.key.name()) {
                Some(NumberObject::Header(n, lease)) => {
                    numbers.slot(n).headers.push((lease, Told::of(&object)));
                }
                Some(NumberObject::Hidden(n)) => numbers.slot(n).hidden = Some(Told::of(&object)),
                Some(NumberObject::Tags(n, revision)) => {
                    numbers.slot(n).tags.insert(revision, Told::of(&object));
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

    pub(super) fn gap(&self, what: &str) -> Error {
        Error::corrupt(format!("{what} of {} is missing from the listing", self.name))
            .hint(
                "the store shows less than was put there; `icecore check` says what is affected, \
                 `icecore repair` what can be done",
            )
            .at(Origin::Repository)
    }

    fn read_object(&self, n: BackupId, lease: Option<LeaseId>, told: &Told) -> Result<AtNumber> {
        let store = self.repository.store();
        let key = match lease {
            None => layout::header(&self.id, n)?,
            Some(lease) => layout::header_of_lease(&self.id, n, &lease)?,
        };
        let open = |bytes: &[u8]| {
            let open = |kind| store.sealer().open(kind, key.as_str(), bytes, RECORD_BYTES_MAX);
            if frame::peek_kind(bytes) == Some(ObjectKind::Void) {
                return open(ObjectKind::Void).map(|_| AtNumber::Void);
            }
            let plain = open(ObjectKind::Backup)?;
            let header = backup::decode(&plain, &format!("the header of {n}"))?;
            let header = self.check_header(header, n, lease)?;
            Ok(AtNumber::Backup(Box::new(header), hash::hash(bytes)))
        };
        let found = (ObjectKind::Backup, &key, told);
        seen::read(&self.repository, found, &open).map_err(|e| self.suspect(n, e))
    }

    fn suspect(&self, n: BackupId, error: Error) -> Error {
        error
            .context(format!("{}@{}", self.name, n.0))
            .hint("`icecore check` says what is affected")
            .at(Origin::Repository)
    }

    /// Says whether a backup was forgotten, which only who has the key can say.
    fn is_forgotten(&self, n: BackupId, slot: &Slot) -> Result<bool> {
        let Some(told) = &slot.hidden else { return Ok(false) };
        let name = format!("{}.hidden", n.0);
        let key = layout::thousand(&self.id, n)?.object(&name)?;
        let open = |bytes: &[u8]| {
            let sealer = self.repository.store().sealer();
            let record: HiddenRecord =
                sealer.open_record(ObjectKind::Hidden, key.as_str(), bytes)?;
            match record.number == n.0 {
                true => Ok(()),
                false => Err(Error::corrupt(format!("the marker {key} belongs elsewhere"))),
            }
        };
        let found = (ObjectKind::Hidden, &key, told);
        match seen::read(&self.repository, found, &open) {
            Ok(()) => Ok(true),
            // A prune took it away since the listing, and the backup before it: then a floor has
            // passed the number. Else a repair has taken away what was damaged.
            Err(e) if e.kind() == ErrorKind::NotFound => self.is_retired(n),
            Err(e) => Err(self.suspect(n, e)),
        }
    }

    /// Returns the numbers that are forgotten, each marker read: whoever could put one without the
    /// key could have a backup deleted.
    pub(crate) fn forgotten_numbers(&self) -> Result<Vec<u64>> {
        let numbers = self.all_numbers()?;
        let mut forgotten = Vec::new();
        for (n, slot) in &numbers.slots {
            if self.is_forgotten(BackupId(*n), slot)? {
                forgotten.push(*n);
            }
        }
        Ok(forgotten)
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
        match numbers.slots.get(&n.0) {
            Some(slot) if self.is_forgotten(n, slot)? => Ok(None),
            _ => self.even_hidden(numbers, n),
        }
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
        for (lease, told) in &slot.headers {
            let standing = match lease {
                None => Standing::Stands,
                Some(lease) => lease::standing(self.repository.store(), lease)?,
            };
            if standing == Standing::Void {
                continue;
            }
            let there = match self.read_object(n, *lease, told) {
                // Forgotten before, and retired by a prune since it was listed.
                Err(e) if e.kind() == ErrorKind::NotFound && self.is_retired(n)? => continue,
                there => there?,
            };
            if let AtNumber::Backup(header, digest) = there {
                let (tags, description) = self.tags(n, slot, &header)?;
                let backup = Backup { header: *header, digest, tags, description };
                found.push((standing, backup));
            }
        }
        found.sort_by_key(|(standing, _)| *standing != Standing::Stands);
        Ok(found)
    }

    /// Returns all backups at a number that a prune must keep unless they are forgotten. Tags are
    /// as in the header, as no chain leans on those that came later.
    ///
    /// # Errors
    /// Those of [`Dataset::backup`].
    pub(crate) fn kept_at(&self, numbers: &Numbers, n: BackupId) -> Result<Vec<Backup>> {
        match numbers.slots.get(&n.0) {
            Some(slot) if !numbers.is_below_floor(n) => self.kept_in(n, &slot.bare()),
            _ => Ok(Vec::new()),
        }
    }

    /// Returns all backups that a listing showed at a number, as [`Dataset::kept_at`] does.
    pub(super) fn kept_in(&self, n: BackupId, bare: &Slot) -> Result<Vec<Backup>> {
        Ok(self.at(n, bare)?.into_iter().map(|(_, backup)| backup).collect())
    }

    fn tags(&self, n: BackupId, slot: &Slot, header: &Header) -> Result<(Vec<String>, String)> {
        let Some((revision, told)) = slot.tags.last_key_value() else {
            return Ok((header.tags.clone(), header.description.clone()));
        };
        let key = layout::tags(&self.id, n, *revision)?;
        let record: TagsRecord = seen::record(&self.repository, ObjectKind::Tags, &key, told)?;
        Ok((record.tags, record.description))
    }

    /// Returns the links of a chain, some of which may be in folders not listed yet.
    ///
    /// # Errors
    /// Those of [`Dataset::chain_link`].
    pub(super) fn chain_links(&self, numbers: &Numbers, chain: &[BackupId]) -> Result<Vec<Backup>> {
        let is_missing = |n: &&BackupId| !numbers.slots.contains_key(&n.0);
        let mut thousands: Vec<BackupId> = chain.iter().filter(is_missing).copied().collect();
        thousands.dedup_by_key(|n| n.0 / NUMBERS_PER_FOLDER);
        let mut listed = numbers.clone();
        for n in thousands {
            self.list_thousand(&layout::thousand(&self.id, n)?, &mut listed)?;
        }
        let link = |n: &BackupId| self.chain_link(&listed, *n);
        ahead::map(self.repository.store(), chain, &link)
    }

    /// Returns the backup at a number that may be in a folder not listed yet.
    ///
    /// # Errors
    /// `NotFound` when a prune has taken it away since; `Corrupt` when it is missing; those of
    /// [`Dataset::backup`].
    pub fn chain_link(&self, numbers: &Numbers, n: BackupId) -> Result<Backup> {
        // What a later backup leans on stays readable while a prune asks about it.
        let found = if numbers.slots.contains_key(&n.0) {
            self.kept_at(numbers, n)?
        } else {
            let mut below = Numbers { floor: numbers.floor.clone(), ..Numbers::default() };
            self.list_thousand(&layout::thousand(&self.id, n)?, &mut below)?;
            self.kept_at(&below, n)?
        };
        if found.is_empty() && self.is_retired(n)? {
            let message = format!("{n} of {} was forgotten just now, and what needs it", self.name);
            return Err(Error::new(ErrorKind::NotFound, message).at(Origin::Repository));
        }
        found.into_iter().next().ok_or_else(|| {
            Error::corrupt(format!("{n} of {} is missing, and later backups need it", self.name))
                .at(Origin::Repository)
        })
    }

    /// Returns all backups that were not forgotten, by number.
    ///
    /// # Errors
    /// Those of [`Dataset::backup`]; `Corrupt` when numbers are missing, those below the floor
    /// that remain among them.
    pub fn backups(&self) -> Result<Vec<Arc<Backup>>> {
        self.backups_among(&self.all_numbers()?)
    }

    /// Returns those of the listed backups that were not forgotten, by number.
    ///
    /// # Errors
    /// Those of [`Dataset::backup`].
    pub fn backups_among(&self, numbers: &Numbers) -> Result<Vec<Arc<Backup>>> {
        let all: Vec<BackupId> = numbers.iter().collect();
        let read = |n: &BackupId| self.backup(numbers, *n);
        let backups = ahead::map(self.repository.store(), &all, &read)?;
        Ok(backups.into_iter().flatten().map(Arc::new).collect())
    }
}
