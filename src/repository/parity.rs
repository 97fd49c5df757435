//! Parity objects in the store: listed, put, read, deleted; packs healed by them.
//!
//! A parity object is derived from its pack, and nothing leans on it: no lease pins it and no
//! tombstone names it. Its key is unique, as every key is, so a pack may have several for a while;
//! a late delete or a put that comes again harms none. It is deleted when a person says so, when
//! a better one is there, and by a prune once its pack is gone.

use crate::backend::key::ObjectKey;
use crate::backend::list_all;
use crate::backend::size_of;
use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::id::PackId;
use crate::base::id::ParityId;
use crate::base::limits::PACK_BYTES_MAX;
use crate::base::sys;
use crate::format::parity;
use crate::format::parity::Healed;
use crate::format::parity::Parity;
use crate::repository::Repository;
use crate::repository::layout;
use crate::repository::stock;
use crate::repository::store::Store;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::MutexGuard;
use std::sync::PoisonError;

/// Bytes that are asked for at a time of a pack that cannot be read at once.
const STRETCH_BYTES: u64 = 256 * 1024;
/// Bytes that are given up at a time where a stretch cannot be read: a sector.
const SECTOR_BYTES: u64 = 4096;

/// A parity object as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParityObject {
    /// Its key.
    pub key: ObjectKey,
    /// How many percent of the pack it was made for.
    pub percent: u8,
    /// Its size in bytes.
    pub bytes: u64,
}

/// Damaged packs whose blocks are read out of what parity makes of them, while a repair looks.
#[derive(Default)]
pub(crate) struct Healing {
    packs: HashMap<PackId, Vec<ParityObject>>,
    /// The one that was healed last; the others are healed again when they are asked for.
    last: Option<(PackId, Arc<Vec<u8>>)>,
}

impl Repository {
    /// From now on blocks of a damaged pack are read out of what parity makes of it.
    pub(crate) fn read_healed(&self, pack: &PackId, objects: &[ParityObject]) {
        self.healing().packs.insert(*pack, objects.to_vec());
    }

    /// From now on all packs are read as they are stored.
    pub(crate) fn read_as_stored(&self) {
        *self.healing() = Healing::default();
    }

    /// Returns the bytes of a pack that is read as healed.
    ///
    /// # Errors
    /// Those of [`heal`].
    pub(crate) fn healed(&self, pack: &PackId) -> Result<Option<Arc<Vec<u8>>>> {
        // Held while healing: one pack at a time is in memory.
        let mut healing = self.healing();
        let Some(objects) = healing.packs.get(pack) else { return Ok(None) };
        if let Some((last, bytes)) = &healing.last
            && last == pack
        {
            return Ok(Some(Arc::clone(bytes)));
        }
        let bytes = Arc::new(heal(self.store(), pack, objects)?.bytes);
        healing.last = Some((*pack, Arc::clone(&bytes)));
        Ok(Some(bytes))
    }

    fn healing(&self) -> MutexGuard<'_, Healing> {
        self.inner.healing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Parity objects by their packs, the best for each first, and what is foreign beside them.
#[derive(Clone, Debug, Default)]
pub struct Listed {
    /// By pack.
    pub by_pack: BTreeMap<PackId, Vec<ParityObject>>,
    /// Objects that are none.
    pub foreign: Vec<ObjectKey>,
}

impl Listed {
    /// Returns the parity objects of a pack.
    pub fn of(&self, pack: &PackId) -> &[ParityObject] {
        self.by_pack.get(pack).map_or(&[], Vec::as_slice)
    }

    /// Returns the objects that belong to packs of which nobody knows: neither are they in
    /// `known`, nor does an index name them.
    fn orphans(&self, is_known: impl Fn(&PackId) -> bool) -> Vec<&ParityObject> {
        let orphans = self.by_pack.iter().filter(|(pack, _)| !is_known(pack));
        orphans.flat_map(|(_, objects)| objects).collect()
    }
}

/// Lists all parity objects.
///
/// # Errors
/// Those of the backend.
pub fn list(store: &Store) -> Result<Listed> {
    let mut found = Listed::default();
    let listed = list_all(store.backend(), &layout::folder("parity")?, &mut |object| {
        let parsed = layout::parse_parity(object.key.name());
        let Some((pack, percent, _)) = parsed.filter(|(pack, percent, id)| {
            layout::parity(pack, *percent, id).is_ok_and(|key| key == object.key)
        }) else {
            found.foreign.push(object.key);
            return Ok(());
        };
        if let Some(bytes) = size_of(store.backend(), &object)? {
            let object = ParityObject { key: object.key, percent, bytes };
            found.by_pack.entry(pack).or_default().push(object);
        }
        Ok(())
    });
    listed.map_err(|e| e.context("cannot list parity").at(Origin::Repository))?;
    for objects in found.by_pack.values_mut() {
        objects.sort_by(|a, b| b.percent.cmp(&a.percent).then_with(|| a.key.cmp(&b.key)));
    }
    Ok(found)
}

/// Makes parity of a whole pack, proves that it opens, and puts it.
///
/// # Errors
/// `Corrupt` when the bytes are not those of the pack; `InvalidInput` for a percentage that is
/// not offered; those of the backend.
pub fn put(store: &Store, pack: &PackId, bytes: &[u8], percent: u8) -> Result<ParityObject> {
    if !parity::is_pack(pack, bytes) {
        return Err(Error::corrupt(format!("pack {} is damaged", pack.short()))
            .hint("`icecore repair --read-packs` says what can be done about it"));
    }
    let key = layout::parity(pack, percent, &ParityId::new(sys::random()?))?;
    let made = parity::make(store.sealer(), key.as_str(), pack, bytes, percent)?;
    let opened = Parity::open(store.sealer(), key.as_str(), pack, &made)?;
    if let Some(damage) = opened.damage {
        return Err(Error::bug(format!("parity of pack {} is not sound: {damage}", pack.short())));
    }
    let backend = store.backend();
    let size = made.len() as u64;
    let put = backend.put(&key, &made).and_then(|()| backend.stat(&key));
    let there = put.map_err(|e| e.context(format!("cannot write {key}")).at(Origin::Repository))?;
    if there != Some(size) {
        let message = format!("{key} was written and has {there:?} of {size} bytes");
        return Err(Error::corrupt(message).at(Origin::Repository));
    }
    Ok(ParityObject { key, percent, bytes: size })
}

/// Reads a parity object and opens it, as far as it is sound and can be read.
///
/// # Errors
/// Those of [`Parity::open`] and of the backend.
pub fn get(store: &Store, pack: &PackId, object: &ParityObject) -> Result<Parity> {
    let bytes = read_what_can_be(store, &object.key)?;
    Parity::open(store.sealer(), object.key.as_str(), pack, &bytes)
}

/// Heals a pack by the first of its parity objects that can. Nothing is written.
///
/// # Errors
/// `NotFound` when the pack is not there or has no parity; `Corrupt` when more is damaged than any
/// of it heals; those of the backend. Of several the first that is no damage, as what only cannot
/// be judged might heal.
pub fn heal(store: &Store, pack: &PackId, objects: &[ParityObject]) -> Result<Healed> {
    let none = || Error::new(ErrorKind::NotFound, format!("pack {} has no parity", pack.short()));
    if objects.is_empty() {
        return Err(none());
    }
    let damaged = read_what_can_be(store, &layout::pack(pack)?)?;
    let mut failed: Option<Error> = None;
    for object in objects {
        match get(store, pack, object).and_then(|parity| parity.heal(&damaged)) {
            Ok(healed) => return Ok(healed),
            Err(e) => {
                let tells_more = |than: &Error| than.kind().is_damage() && !e.kind().is_damage();
                if failed.as_ref().is_none_or(tells_more) {
                    failed = Some(e);
                }
            }
        }
    }
    Err(failed.unwrap_or_else(none))
}

/// Reads an object; zeros stand for stretches that cannot be read.
fn read_what_can_be(store: &Store, key: &ObjectKey) -> Result<Vec<u8>> {
    let backend = store.backend();
    match backend.get(key, PACK_BYTES_MAX) {
        Err(e) if e.kind() == ErrorKind::Io => {}
        got => return got.map_err(|e| e.at(Origin::Repository)),
    }
    let size = backend.stat(key).map_err(|e| e.at(Origin::Repository))?.unwrap_or(0);
    if size > PACK_BYTES_MAX as u64 {
        return Err(Error::corrupt(format!("{key} is too long")));
    }
    let mut bytes = Vec::with_capacity(size as usize);
    while (bytes.len() as u64) < size {
        let at = bytes.len() as u64;
        let end = (at + STRETCH_BYTES).min(size);
        match backend.get_range(key, at..end) {
            Ok(stretch) => bytes.extend_from_slice(&stretch),
            Err(e) if e.kind() == ErrorKind::Io => {
                let mut at = at;
                while at < end {
                    let sector = at..(at + SECTOR_BYTES).min(end);
                    let length = (sector.end - sector.start) as usize;
                    at = sector.end;
                    match backend.get_range(key, sector) {
                        Ok(read) => bytes.extend_from_slice(&read),
                        Err(e) if e.kind() == ErrorKind::Io => {
                            bytes.resize(bytes.len() + length, 0);
                        }
                        Err(e) => return Err(e.at(Origin::Repository)),
                    }
                }
            }
            Err(e) => return Err(e.at(Origin::Repository)),
        }
    }
    Ok(bytes)
}

/// Deletes a parity object.
///
/// # Errors
/// Those of the backend.
pub fn delete(store: &Store, object: &ParityObject) -> Result<()> {
    store.delete(&object.key)
}

/// Deletes the parity of packs that are gone: neither are they there, nor does an index name
/// them. Returns how many objects that were, and their bytes.
///
/// # Errors
/// Those of the backend.
pub fn sweep(repository: &Repository) -> Result<(u64, u64)> {
    let store = repository.store();
    // Before the packs: each was put after its pack.
    let listed = list(store)?;
    if listed.by_pack.is_empty() {
        return Ok((0, 0));
    }
    let there = stock::packs(store)?;
    repository.refresh_index()?;
    let index = repository.index();
    let ids = index.ids();
    let named: HashSet<PackId> =
        ids.iter().flat_map(|id| index.packs_of(id)).map(|pack| pack.pack).collect();
    let (mut objects, mut bytes) = (0, 0);
    for orphan in listed.orphans(|pack| there.contains_key(pack) || named.contains(pack)) {
        delete(store, orphan)?;
        objects += 1;
        bytes += orphan.bytes;
    }
    Ok((objects, bytes))
}
