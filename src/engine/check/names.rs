//! The names of datasets as a check sees them, and datasets that no name leads to.

use crate::backend::Listed;
use crate::backend::key::FolderKey;
use crate::backend::key::ObjectKey;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::id::DatasetId;
use crate::codec::frame::ObjectKind;
use crate::engine::check::Run;
use crate::engine::check::damage_of;
use crate::engine::check::datasets::Named;
use crate::engine::check::ledger::Ledger;
use crate::engine::check::objects::belongs;
use crate::engine::check::objects::foreign;
use crate::format::dataset::NameRecord;
use crate::repository::layout;
use crate::repository::layout::NumberObject;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Reads all names; returns the datasets to look at, those that no name leads to included.
pub(crate) fn all(run: &Run<'_>, ledger: &mut Ledger) -> Result<Vec<Named>> {
    if let Some(name) = &run.options.dataset {
        let dataset = run.repository.dataset(name)?;
        return Ok(vec![Named { id: dataset.id(), label: name.as_str().into() }]);
    }
    let mut newest: BTreeMap<FolderKey, (u64, ObjectKey)> = BTreeMap::new();
    for key in run.repository.store().names_below(&layout::folder("names")?)? {
        let Some(revision) = layout::plain_number(key.name()) else {
            foreign(ledger, key.as_str());
            continue;
        };
        let slot = newest.entry(key.folder()).or_insert_with(|| (revision, key.clone()));
        if revision > slot.0 {
            *slot = (revision, key);
        }
    }
    let mut damaged = Vec::new();
    let mut named: BTreeMap<DatasetId, Named> = BTreeMap::new();
    for (_, key) in newest.into_values() {
        let read = run.repository.store().get::<NameRecord>(ObjectKind::Name, &key);
        let checked = read.and_then(|record| {
            belongs(run.repository.name_folder(&record.name)? == key.folder()).map(|()| record)
        });
        let record = match checked {
            Ok(record) => record,
            Err(e) => {
                damaged.push((key, damage_of(e)?.full_message()));
                continue;
            }
        };
        let Some(id) = record.dataset else { continue };
        named.insert(id, Named { id, label: record.name.as_str().into() });
    }
    for id in dataset_folders(run, ledger)? {
        named.entry(id).or_insert_with(|| Named { id, label: id.to_string().into() });
    }
    note_nameless(run, &named, &damaged, ledger)?;
    Ok(named.into_values().collect())
}

/// A dataset without a name is there, but nobody finds it: by which damaged name it went cannot
/// be told, as its id is no hash that could be undone.
fn note_nameless(
    run: &Run<'_>,
    named: &BTreeMap<DatasetId, Named>,
    damaged: &[(ObjectKey, String)],
    ledger: &mut Ledger,
) -> Result<()> {
    for (key, why) in damaged {
        ledger.damage(key.as_str(), why.clone());
    }
    for dataset in named.values().filter(|named| *named.label == *named.id.to_string()) {
        let folder = layout::dataset(&dataset.id)?;
        let mut sufferers = Vec::new();
        for key in run.repository.store().names_below(&folder)? {
            if let Some(NumberObject::Header(n, _)) = layout::parse_number_object(key.name()) {
                sufferers.push((Arc::clone(&dataset.label), n.0));
            }
        }
        if damaged.is_empty() {
            ledger.damage(folder.as_str(), "no name leads to this dataset");
            ledger.suffer(folder.as_str(), sufferers, None);
            continue;
        }
        for (key, _) in damaged {
            ledger.suffer(key.as_str(), sufferers.clone(), None);
        }
    }
    Ok(())
}

/// Returns the datasets that have a folder with something in it.
fn dataset_folders(run: &Run<'_>, ledger: &mut Ledger) -> Result<Vec<DatasetId>> {
    let mut ids = Vec::new();
    for half in folders_in(run, &layout::folder("datasets")?, ledger)? {
        for folder in folders_in(run, &half, ledger)? {
            match folder.name().parse::<DatasetId>() {
                Ok(id) if layout::dataset(&id)? == folder => {
                    if !run.repository.store().names_below(&folder)?.is_empty() {
                        ids.push(id);
                    }
                }
                _ => foreign(ledger, folder.as_str()),
            }
        }
    }
    Ok(ids)
}

fn folders_in(run: &Run<'_>, folder: &FolderKey, ledger: &mut Ledger) -> Result<Vec<FolderKey>> {
    let mut folders = Vec::new();
    let listed = run.repository.store().backend().list(folder, &mut |listed| {
        match listed {
            Listed::Object(object) => foreign(ledger, object.key.as_str()),
            Listed::Folder(below) => folders.push(below),
        }
        Ok(())
    });
    listed.map_err(|e| e.context(format!("cannot list {folder}")).at(Origin::Repository))?;
    Ok(folders)
}
