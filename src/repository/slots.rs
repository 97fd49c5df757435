//! Password slots: which there are, which of them a password opens, and how one goes.
//!
//! A slot counts by what is in it and never by its name: an `init` that did not come to its end
//! leaves one that opens nothing here, a storage can put any, and one that is damaged is no
//! password. Where one goes, another one stays that was made with the repository's own key.

use crate::backend::Backend;
use crate::backend::Listed;
use crate::backend::key::ObjectKey;
use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::id::KeyId;
use crate::base::id::LeaseId;
use crate::base::id::RepositoryId;
use crate::base::limits::KEY_SLOTS_MAX;
use crate::base::limits::RECORD_BYTES_MAX;
use crate::base::planted;
use crate::base::planted::Rule;
use crate::base::secret::Secret;
use crate::base::sys;
use crate::base::time::Timestamp;
use crate::codec::frame::ObjectKind;
use crate::codec::key::Argon2Cost;
use crate::codec::key::Keys;
use crate::format::key_file;
use crate::format::key_file::About;
use crate::format::key_file::KeySlot;
use crate::format::lease::MarkRecord;
use crate::repository::Repository;
use crate::repository::layout;

/// A password slot as a listing shows it.
#[derive(Debug)]
pub struct ListedSlot {
    /// Its id, by its name.
    pub id: KeyId,
    /// What lies there.
    pub state: SlotState,
}

/// What lies at the name of a password slot.
#[derive(Debug)]
pub enum SlotState {
    /// It was made with the repository's key, so its password opens the repository.
    Ours(KeySlot, About),
    /// It was not made with the repository's key, or was changed since: it is no password here.
    Foreign(KeySlot),
    /// It cannot be read.
    Unreadable(Error),
}

/// Finds the slot that a password opens, and what it gives. One that cannot be read, or that is
/// of another repository, hides no other.
///
/// # Errors
/// `Password` when it opens none; `Corrupt` when there is none; those of the backend.
pub(super) fn unlock(
    backend: &dyn Backend,
    repository: &RepositoryId,
    password: &Secret,
) -> Result<(KeyId, Keys)> {
    let (mut damaged, mut unread) = (None, None);
    let ids = slot_ids(backend)?;
    if ids.is_empty() {
        let message = format!("there is no key slot in the repository at {}", backend.location());
        return Err(Error::corrupt(message)
            .hint(
                "no password opens it without one: put the folder `keys` back from a copy of the \
                 repository",
            )
            .at(Origin::Repository));
    }
    for id in ids {
        let unlocked = read_slot(backend, &id).and_then(|slot| slot.unlock(repository, password));
        match unlocked {
            Ok(keys) => return Ok((id, keys)),
            Err(e) if e.kind() == ErrorKind::Password => {}
            Err(e) if e.kind().is_unreadable() => {
                damaged = Some(e);
            }
            Err(e) => unread = Some(e),
        }
    }
    // It may be this one that the password opens.
    if let Some(e) = unread {
        return Err(e);
    }
    let message = format!("wrong password for the repository at {}", backend.location());
    let error = Error::new(ErrorKind::Password, message);
    Err(match damaged {
        None => error,
        Some(cause) => error
            .hint("a key slot is damaged as well, or is not of this repository")
            .caused_by(cause),
    })
}

/// What a listing shows of the passwords.
struct Slots {
    ids: Vec<KeyId>,
    /// Slots that somebody removes, or was about to, with the marks that say so.
    going: Vec<(KeyId, ObjectKey)>,
}

/// What opens the repository when a slot is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    /// Nothing.
    Nothing,
    /// Slots alone that somebody removes, or was about to.
    Going,
    /// A slot that nobody is removing.
    Sure,
}

impl Slots {
    fn list(backend: &dyn Backend) -> Result<Self> {
        let mut slots = Slots { ids: Vec::new(), going: Vec::new() };
        backend.list(&layout::folder("keys")?, &mut |listed| {
            if let Listed::Object(object) = listed {
                slots.ids.extend(object.key.name().parse::<KeyId>().ok());
                let marked = layout::parse_going(object.key.name()).map(|(id, _)| id);
                slots.going.extend(marked.map(|id| (id, object.key)));
            }
            Ok(())
        })?;
        slots.ids.sort_unstable();
        Ok(slots)
    }

    /// Says what is left without a slot. Each other one is read, as only what is in it tells
    /// whether it opens this repository; and read now, as a listing may show what goes while it
    /// goes on, and a mark goes right behind its slot.
    fn left_without(&self, slot: &KeyId, repository: &Repository) -> Result<Left> {
        let mut left = Left::Nothing;
        let mut unread = None;
        // Those that are tried when a repository is opened.
        for id in self.ids.iter().filter(|id| *id != slot).take(KEY_SLOTS_MAX) {
            let is_going = self.going.iter().any(|(going, _)| going == id);
            match repository.slot_state(id) {
                Ok(SlotState::Ours(..)) if !is_going => return Ok(Left::Sure),
                Ok(SlotState::Ours(..)) => left = Left::Going,
                Ok(SlotState::Foreign(_) | SlotState::Unreadable(_)) => {}
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                Err(e) => unread = Some(e),
            }
        }
        unread.map_or(Ok(left), Err)
    }
}

fn slot_ids(backend: &dyn Backend) -> Result<Vec<KeyId>> {
    let mut ids = Slots::list(backend)?.ids;
    ids.truncate(KEY_SLOTS_MAX);
    Ok(ids)
}

fn read_slot(backend: &dyn Backend, id: &KeyId) -> Result<KeySlot> {
    let key = layout::key_slot(id)?;
    let failed = |e: Error| e.context(format!("cannot read {} {key}", ObjectKind::Key.word()));
    let bytes = backend.get(&key, RECORD_BYTES_MAX).map_err(failed)?;
    let slot = key_file::open(&bytes, key.as_str()).map_err(|e| e.at(Origin::Repository))?;
    if slot.id != *id {
        return Err(Error::corrupt(format!("key {key} belongs to another slot")));
    }
    Ok(slot)
}

impl Repository {
    /// Returns the password slots, by id, each as far as it can be read.
    ///
    /// # Errors
    /// Those of the backend that concern more than one object.
    pub fn key_slots(&self) -> Result<Vec<ListedSlot>> {
        let mut listed = Vec::new();
        for id in slot_ids(self.store().backend())? {
            let state = match self.slot_state(&id) {
                Ok(state) => state,
                // It was removed since it was listed.
                Err(e) if e.kind() == ErrorKind::NotFound => continue,
                Err(e) if matches!(e.kind(), ErrorKind::Denied | ErrorKind::Io) => {
                    SlotState::Unreadable(e)
                }
                Err(e) => return Err(e),
            };
            listed.push(ListedSlot { id, state });
        }
        Ok(listed)
    }

    /// Returns what lies at the name of a slot.
    ///
    /// # Errors
    /// `NotFound` when nothing does; those of the backend.
    pub(crate) fn slot_state(&self, id: &KeyId) -> Result<SlotState> {
        let slot = match read_slot(self.store().backend(), id) {
            Ok(slot) => slot,
            Err(e) if matches!(e.kind(), ErrorKind::Corrupt | ErrorKind::Unsupported) => {
                return Ok(SlotState::Unreadable(e));
            }
            Err(e) => return Err(e),
        };
        let about = self.store().sealer().keys().map(|keys| slot.about(&self.id(), keys));
        Ok(match about {
            Some(Ok(about)) => SlotState::Ours(slot, about),
            Some(Err(_)) | None => SlotState::Foreign(slot),
        })
    }

    /// Adds a password; returns its slot.
    ///
    /// # Errors
    /// `InvalidInput` for a repository that is not encrypted, or with all slots taken.
    pub fn add_key(
        &self,
        password: &Secret,
        cost: Argon2Cost,
        label: &str,
        now: Timestamp,
    ) -> Result<KeyId> {
        let keys = self.store().sealer().keys().ok_or_else(not_encrypted)?;
        if slot_ids(self.store().backend())?.len() >= KEY_SLOTS_MAX {
            return Err(Error::invalid(format!("all {KEY_SLOTS_MAX} key slots are taken"))
                .hint("`icecore key remove ID` frees one"));
        }
        let (id, bytes) = key_file::seal(keys, &self.id(), password, cost, label, now)?;
        let key = layout::key_slot(&id)?;
        self.store().settle()?;
        self.store().backend().put(&key, &bytes).map_err(|e| {
            e.context(format!("cannot write {} {key}", ObjectKind::Key.word()))
                .at(Origin::Repository)
        })?;
        Ok(id)
    }

    /// Removes a password slot, given its id or the beginning of it. The last one that opens the
    /// repository stays, also when several machines remove one each at the same moment.
    ///
    /// # Errors
    /// `NotFound`; `InvalidInput` when the beginning fits several, or when no other slot opens the
    /// repository; `Busy` when all that do are being removed just now.
    pub fn remove_key(&self, id: &str) -> Result<KeyId> {
        self.store().sealer().keys().ok_or_else(not_encrypted)?;
        let slots = Slots::list(self.store().backend())?;
        let fitting: Vec<&KeyId> =
            slots.ids.iter().filter(|slot| slot.to_string().starts_with(id)).collect();
        let (false, [slot]) = (id.is_empty(), fitting.as_slice()) else {
            let message = match fitting.len() {
                0 => format!("no key slot begins with {id:?}"),
                many => format!("{many} key slots begin with {id:?}"),
            };
            let kind =
                if fitting.is_empty() { ErrorKind::NotFound } else { ErrorKind::InvalidInput };
            return Err(Error::new(kind, message).hint("`icecore key list` shows them"));
        };
        if slots.left_without(slot, self)? == Left::Nothing {
            return Err(the_last());
        }
        // The slots that stay must be there for good before this one goes.
        self.store().settle()?;
        let by = LeaseId::new(sys::random()?);
        let mark = layout::going(slot, &by)?;
        let record = MarkRecord { lease: by, by: format!("removed on {}", sys::host_name()) };
        self.store().put(ObjectKind::Revoke, &mark, &record)?;
        // Of two who remove the last two at once, at least one sees the mark of the other here.
        let backend = self.store().backend();
        let looked =
            Slots::list(backend).and_then(|after| Ok((after.left_without(slot, self)?, after)));
        let (left, after) = looked.inspect_err(|_| self.take_back(&mark))?;
        if planted::keeps(Rule::KeepsAPassword) && left != Left::Sure {
            self.take_back(&mark);
            return Err(if left == Left::Going { others_go() } else { the_last() });
        }
        self.store().settle()?;
        self.store().delete(&layout::key_slot(slot)?)?;
        // Marks of slots that are gone say nothing any more; what stays goes with the next one.
        for (marked, key) in &after.going {
            if matches!(backend.stat(&layout::key_slot(marked)?), Ok(None)) {
                self.take_back(key);
            }
        }
        Ok(**slot)
    }

    /// Deletes a mark; one that stays keeps its slot from being the last, and nothing else.
    fn take_back(&self, mark: &ObjectKey) {
        let _ = self.store().delete(mark);
    }

    /// Returns the slot that a password opens.
    ///
    /// # Errors
    /// `Password` when it opens none; `Corrupt` when there is none; those of the backend.
    pub fn slot_of(&self, password: &Secret) -> Result<KeyId> {
        unlock(self.store().backend(), &self.id(), password).map(|(id, _)| id)
    }
}

fn not_encrypted() -> Error {
    Error::invalid("the repository is not encrypted, so it has no passwords")
        .hint("encryption is chosen when a repository is created: `init --encryption password`")
}

fn the_last() -> Error {
    Error::invalid("the last password cannot be removed").hint(
        "add another one first: `icecore key add`; a slot that `icecore key list` shows with a \
         problem is none",
    )
}

fn others_go() -> Error {
    Error::new(ErrorKind::Busy, "the other passwords are being removed just now").hint(
        "try again in a moment; if a removal was cut off, `icecore key add` puts a password \
         beside them, and then any of them can be removed",
    )
}
