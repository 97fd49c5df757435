//! Packs and index objects as the store has them: listed, and deleted by a prune.

use crate::backend::list_all;
use crate::backend::size_of;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::id::IndexId;
use crate::base::id::PackId;
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
