//! Plans and cures for the names of datasets.
//!
//! A dataset's id comes from its name, so a name that its source or an older revision suggests
//! can be proven; else the dataset gets a name that nobody has. What cannot be read is followed
//! by a revision that can, or goes when nothing of its name can be read.

use crate::backend::key::ObjectKey;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::id::DatasetId;
use crate::base::time::Timestamp;
use crate::codec::frame::ObjectKind;
use crate::engine::check::Run;
use crate::engine::check::datasets;
use crate::engine::check::datasets::View;
use crate::engine::repair::Action;
use crate::engine::repair::ActionKind;
use crate::engine::repair::judge::Judged;
use crate::engine::repair::judge::is_damaged;
use crate::engine::repair::judge::judge;
use crate::engine::repair::look::Looked;
use crate::format::dataset::DatasetName;
use crate::format::dataset::NameRecord;
use crate::repository::Repository;
use crate::repository::layout;
use std::collections::HashSet;

/// Backups of a dataset whose sources are asked for its name.
const SOURCES_ASKED: usize = 10;

/// What is done about names.
#[derive(Debug, Default)]
pub(super) struct Names {
    leads: Vec<(DatasetName, DatasetId)>,
    /// Names that led nowhere any more.
    retires: Vec<DatasetName>,
    remove: Vec<ObjectKey>,
}

/// Plans for what was found.
pub(super) fn plan(
    run: &Run<'_>,
    looked: &Looked,
    actions: &mut Vec<Action>,
    cured: &mut HashSet<String>,
) -> Result<Names> {
    let mut names = Names::default();
    let mut damaged: Vec<ObjectKey> = Vec::new();
    let objects = looked.ledger.damaged_objects().filter(|object| object.starts_with("names/"));
    for object in objects {
        damaged.push(ObjectKey::new(object)?);
    }
    // One that may be read another time may lead to any dataset that seems to have no name.
    if !are_judged(run, &damaged)? {
        return Ok(names);
    }
    let mut older: Vec<(ObjectKey, Option<DatasetName>)> = Vec::new();
    for key in &damaged {
        older.push((key.clone(), older_name(run, key)?));
    }
    let nameless: Vec<&View> = looked.views.iter().filter(|view| view.is_nameless()).collect();
    let mut found = Vec::new();
    for view in &nameless {
        found.extend(name_of(run, view, &older)?.map(|name| (name, view.named.id)));
    }
    // Which of the damaged names led to those that stay without one is not known.
    if found.len() < nameless.len() {
        return Ok(names);
    }
    cured.extend(damaged.iter().map(|key| key.as_str().to_owned()));
    for (name, id) in found {
        let folder = layout::dataset(&id)?.as_str().to_owned();
        let message = format!("no readable name leads to this dataset; it is called {name}");
        actions.push(Action::new(ActionKind::Name, folder.clone(), message));
        names.leads.push((name, id));
        cured.insert(folder);
    }
    for (key, name) in older {
        let mut is_led = false;
        for (name, _) in &names.leads {
            is_led |= run.repository.name_folder(name)? == key.folder();
        }
        match name {
            _ if is_led => {}
            Some(name) => {
                let message = format!("the name {name} cannot be read; it is retired");
                actions.push(Action::new(ActionKind::Name, key.as_str(), message));
                names.retires.push(name);
            }
            None => {
                let message = "a name that cannot be read and that no dataset misses";
                actions.push(Action::new(ActionKind::Remove, key.as_str(), message));
                names.remove.push(key);
            }
        }
    }
    Ok(names)
}

/// Says whether these names are damaged indeed, and each other revision of them can be read, or
/// never will be.
fn are_judged(run: &Run<'_>, damaged: &[ObjectKey]) -> Result<bool> {
    for key in damaged {
        if !is_damaged(run, ObjectKind::Name, key) {
            return Ok(false);
        }
        for revision in run.repository.store().names_below(&key.folder())? {
            if judge(run, ObjectKind::Name, &revision) == Judged::Unknown {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// Returns the name that another revision in the same folder tells.
fn older_name(run: &Run<'_>, damaged: &ObjectKey) -> Result<Option<DatasetName>> {
    let store = run.repository.store();
    for key in store.names_below(&damaged.folder())? {
        let record = match store.get::<NameRecord>(ObjectKind::Name, &key) {
            Ok(record) => record,
            Err(e) if e.kind() == ErrorKind::Corrupt => continue,
            Err(e) => return Err(e),
        };
        if run.repository.name_folder(&record.name)? == key.folder() {
            return Ok(Some(record.name));
        }
    }
    Ok(None)
}

/// Returns the name that is proven, or else one that nobody has; None while a header cannot be had
/// that may tell of its name.
fn name_of(
    run: &Run<'_>,
    view: &View,
    older: &[(ObjectKey, Option<DatasetName>)],
) -> Result<Option<DatasetName>> {
    let id = view.named.id;
    let mut all_told =
        view.damaged_headers.values().all(|key| is_damaged(run, ObjectKind::Backup, key));
    let mut candidates: Vec<DatasetName> = older.iter().filter_map(|(_, it)| it.clone()).collect();
    for (n, kept) in view.headers.iter().rev().take(SOURCES_ASKED) {
        let header = match datasets::read_header(run, &kept.key, n, None) {
            Ok(Some(header)) => header,
            Ok(None) => continue,
            Err(e) => {
                all_told &= e.kind() == ErrorKind::Corrupt;
                continue;
            }
        };
        let mut parts = header.source.rsplit(['/', ':']).filter(|part| !part.is_empty());
        candidates.extend(parts.next().and_then(|last| last.parse().ok()));
    }
    for name in candidates {
        if run.repository.is_name_of(&name, &id)? {
            return Ok(Some(name));
        }
    }
    all_told.then(|| format!("recovered-{}", id.short()).parse()).transpose()
}

/// Performs what was planned.
pub(super) fn execute(repository: &Repository, names: &Names, now: Timestamp) -> Result<()> {
    for (name, dataset) in &names.leads {
        repository.name_dataset(name, dataset, now)?;
    }
    names.retires.iter().try_for_each(|name| repository.retire_name(name, now))?;
    names.remove.iter().try_for_each(|key| repository.store().delete(key))
}
