//! Packs and index objects as the store has them: listed, and deleted by a prune.

use crate::backend::list_all;
use crate::backend::size_of;
use crate::base::error::Error;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::id::IndexId;
use crate::base::id::PackId;
use crate::codec::frame;
use crate::format::pack;
use crate::format::pack::BlockRow;
use crate::format::pack::PACK_HEAD_BYTES;
use crate::format::pack::PACK_TAIL_BYTES;
use crate::format::pack_index::IndexedPack;
use crate::repository::Repository;
use crate::repository::layout;
use crate::repository::store::Store;
use std::collections::HashMap;

/// Lists all packs with their sizes in bytes.
///
/// # Errors
/// Those of the backend.
pub fn packs(store: &Store) -> Result<HashMap<PackId, u64>> {
    let mut there = HashMap::new();
    let listed = list_all(store.backend(), &layout::folder("packs")?, &mut |object| {
        if let Ok(pack) = object.key.name().parse() {
            there.extend(size_of(store.backend(), &object)?.map(|size| (pack, size)));
        }
        Ok(())
    });
    listed.map_err(|e| e.context("cannot list packs").at(Origin::Repository))?;
    Ok(there)
}

/// Says whether a pack is there, whatever listings show.
///
/// # Errors
/// Those of the backend.
pub fn is_there(store: &Store, pack: &PackId) -> Result<bool> {
    let size = store.backend().stat(&layout::pack(pack)?);
    Ok(size.map_err(|e| e.at(Origin::Repository))?.is_some())
}

/// A pack as its own footer tells of it.
pub type Footer = (IndexedPack, Vec<BlockRow>);

/// Reads the footer of a pack of so many bytes; returns how many bytes were read as well.
///
/// # Errors
/// `Corrupt` when it does not verify; those of the backend.
pub fn read_footer(repository: &Repository, id: &PackId, size: u64) -> Result<(Footer, u64)> {
    let short = || Error::corrupt("the pack is too short");
    let key = layout::pack(id)?;
    let backend = repository.store().backend();
    let tail_start = size.checked_sub(PACK_TAIL_BYTES as u64).ok_or_else(short)?;
    if tail_start < PACK_HEAD_BYTES as u64 {
        return Err(short());
    }
    let head = backend.get_range(&key, 0..PACK_HEAD_BYTES as u64)?;
    let keys = repository.store().sealer().keys();
    let cipher = pack::open_head(id, &head, &repository.id(), keys)?;
    let salt = head.get(frame::HEAD_BYTES..frame::HEAD_BYTES + 32);
    let salt = salt.and_then(|salt| salt.try_into().ok()).ok_or_else(short)?;
    let mut tail = backend.get_range(&key, tail_start..size)?;
    // A pack whose checksum is damaged may be sound but for that. What backups need of it is read
    // whole, and what its footer says is proven by the tables and the blobs.
    if let Some(checksum) = tail.get_mut(4..) {
        checksum.copy_from_slice(id.as_bytes());
    }
    let at = pack::footer_range(id, size, &tail)?;
    let mut footer = backend.get_range(&key, at.clone())?;
    let rows = pack::decode_footer(id, &cipher, &mut footer, at.start)?;
    let bytes = PACK_HEAD_BYTES as u64 + (size - at.start);
    Ok(((IndexedPack { pack: *id, size, salt }, rows), bytes))
}

/// Adds up the bytes of the config and of all objects below each top folder, as far as listings
/// tell: small objects whose size takes a question each are left out.
///
/// # Errors
/// Those of the backend.
pub fn bytes_by_folder(store: &Store) -> Result<Vec<(&'static str, u64)>> {
    let config = store.backend().stat(&layout::config()?).map_err(|e| e.at(Origin::Repository))?;
    let mut bytes = vec![("config", config.unwrap_or(0))];
    for folder in layout::FOLDERS {
        let mut total = 0_u64;
        let listed = list_all(store.backend(), &layout::folder(folder)?, &mut |object| {
            total = total.saturating_add(object.size.unwrap_or(0));
            Ok(())
        });
        listed.map_err(|e| e.context(format!("cannot list {folder}")).at(Origin::Repository))?;
        bytes.push((folder, total));
    }
    Ok(bytes)
}

/// Deletes a pack, which a tombstone names and nothing needs.
///
/// # Errors
/// Those of the backend.
pub fn delete_pack(store: &Store, pack: &PackId) -> Result<()> {
    store.delete(&layout::pack(pack)?)
}

/// Deletes an index object, which a tombstone names and whose rows others hold.
///
/// # Errors
/// Those of the backend.
pub fn delete_index(store: &Store, index: &IndexId) -> Result<()> {
    store.delete(&layout::index(index)?)
}
