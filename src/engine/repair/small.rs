//! Plans and cures for everything small: numbers, tags, floors, names, leases, tombstones,
//! records of lost places, marks on passwords.

use crate::backend::Listed;
use crate::backend::key::ObjectKey;
use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::id::BackupId;
use crate::base::id::DatasetId;
use crate::base::id::KeyId;
use crate::base::id::LeaseId;
use crate::base::sys;
use crate::base::time::Timestamp;
use crate::base::words::counted;
use crate::codec::frame::ObjectKind;
use crate::engine::Context;
use crate::engine::check::Run;
use crate::engine::check::datasets;
use crate::engine::check::datasets::View;
use crate::engine::repair::Action;
use crate::engine::repair::ActionKind;
use crate::engine::repair::Loss;
use crate::engine::repair::RepairOptions;
use crate::engine::repair::RepairPlan;
use crate::engine::repair::content;
use crate::engine::repair::content::stays;
use crate::engine::repair::judge::is_damaged;
use crate::engine::repair::look::Looked;
use crate::engine::repair::names;
use crate::format::dataset::FloorRecord;
use crate::format::dataset::TagsRecord;
use crate::format::dataset::VoidRecord;
use crate::format::lease::MarkRecord;
use crate::repository::Repository;
use crate::repository::fence::Observer;
use crate::repository::fence::VOIDS_MAX;
use crate::repository::layout;
use crate::repository::layout::NumberObject;
use crate::repository::lease;
use crate::repository::lease::Standing;
use std::collections::HashSet;

/// What is done about small objects.
#[derive(Debug, Default)]
pub(super) struct Small {
    voids: Vec<(DatasetId, u64)>,
    tags: Vec<(ObjectKey, TagsRecord)>,
    floors: Vec<(DatasetId, FloorRecord)>,
    names: names::Names,
    marks: Vec<(ObjectKey, MarkRecord)>,
    remove: Vec<ObjectKey>,
}

/// Plans for what was found.
pub(super) fn plan(
    run: &Run<'_>,
    looked: &Looked,
    options: &RepairOptions,
    plan: &mut RepairPlan,
    cured: &mut HashSet<String>,
) -> Result<()> {
    for view in &looked.views {
        plan_numbers(view, plan, cured)?;
        plan_headers(run, view, plan, cured)?;
        plan_tags(run, view, plan, cured)?;
        plan_floor(run, view, plan, cured)?;
    }
    plan.small.names = names::plan(run, looked, &mut plan.actions, cured)?;
    plan.small.remove = content::plan_parity(looked, plan, cured);
    plan_removals(run, looked, options, plan, cured)
}

/// A number that holds nothing is taken by a void, so that numbers are gapless again.
fn plan_numbers(view: &View, plan: &mut RepairPlan, cured: &mut HashSet<String>) -> Result<()> {
    for &(first, end) in &view.gaps {
        let object = layout::header(&view.named.id, BackupId(first))?.as_str().to_owned();
        cured.insert(object.clone());
        let planned = plan.small.voids.len() as u64;
        if planned.saturating_add(end - first) > VOIDS_MAX {
            let message = format!(
                "numbers {first} to {} are missing, more than one repair fills; this machine's \
                 cache may be wrong: --no-cache",
                end - 1
            );
            plan.unrepaired.push(stays(object, message, Vec::new()));
            continue;
        }
        for n in first..end {
            plan.small.voids.push((view.named.id, n));
            // What stood there may have been a void as well; nobody can tell.
            let backup = format!("{}@{n}", view.named.label);
            plan.lost.push(Loss { backup, paths: Vec::new() });
            let key = layout::header(&view.named.id, BackupId(n))?;
            let users = labels(view, n);
            let message = match users.is_empty() {
                true => "the number is missing; a void takes it".to_owned(),
                false => format!(
                    "the number is missing; a void takes it, and what was replayed from it stays \
                     unreadable: {}",
                    users.join(", ")
                ),
            };
            plan.actions.push(Action::new(ActionKind::Void, key.as_str(), message));
            if !users.is_empty() {
                let message = "its header is gone, and these backups are replayed from it; \
                               `icecore forget` lets them go";
                plan.unrepaired.push(stays(key.as_str().to_owned(), message.to_owned(), users));
            }
        }
    }
    Ok(())
}

fn labels(view: &View, n: u64) -> Vec<String> {
    let users = view.users_of(n).into_iter().filter(|(_, user)| *user != n);
    users.map(|(name, user)| format!("{name}@{user}")).collect()
}

/// A header that does not verify cannot be replaced: what it named is unknown, and no object is
/// ever overwritten. Its number stays taken.
fn plan_headers(
    run: &Run<'_>,
    view: &View,
    plan: &mut RepairPlan,
    cured: &mut HashSet<String>,
) -> Result<()> {
    for (&n, key) in &view.damaged_headers {
        // Nobody should forget a backup that may be read another time.
        if !is_damaged(run, ObjectKind::Backup, key) {
            continue;
        }
        cured.insert(key.as_str().to_owned());
        let message = format!(
            "what backup_{n} holds is unknown, as its header cannot be read; `icecore forget {} \
             --backup {n}` lets it go",
            view.named.label
        );
        let users = std::iter::once(format!("{}@{n}", view.named.label)).chain(labels(view, n));
        plan.unrepaired.push(stays(key.as_str().to_owned(), message, users.collect()));
    }
    Ok(())
}

/// The highest revision that can be read stands again, as one higher than all.
fn plan_tags(
    run: &Run<'_>,
    view: &View,
    plan: &mut RepairPlan,
    cured: &mut HashSet<String>,
) -> Result<()> {
    let store = run.repository.store();
    for (&n, &highest) in &view.damaged_tags {
        let Some(kept) = view.headers.get(n) else { continue };
        let damaged = layout::tags(&view.named.id, BackupId(n), highest)?;
        let mut may_replace = is_damaged(run, ObjectKind::Tags, &damaged);
        let mut found = None;
        for revision in (0..highest).rev().take(100) {
            let key = layout::tags(&view.named.id, BackupId(n), revision)?;
            match store.get::<TagsRecord>(ObjectKind::Tags, &key) {
                Ok(record) if record.number == n => {
                    found = Some(record);
                    break;
                }
                Ok(_) => {}
                Err(e) => {
                    may_replace &= e.kind().is_unreadable();
                }
            }
        }
        // It, or one that would stand again, may be read another time.
        if !may_replace {
            continue;
        }
        let (tags, description) = match found {
            Some(record) => (record.tags, record.description),
            None => match datasets::read_header(run, &kept.key, n, None) {
                Ok(Some(header)) => (header.tags, header.description),
                _ => continue,
            },
        };
        let key = layout::tags(&view.named.id, BackupId(n), highest + 1)?;
        let label = &view.named.label;
        let message = format!(
            "the tags of {label}@{n} cannot be read; those before stand again: [{}]",
            tags.join(", ")
        );
        plan.actions.push(Action::new(ActionKind::Tags, key.as_str(), message));
        let written = run.context.clock.now();
        plan.small.tags.push((key, TagsRecord { number: n, tags, description, written }));
        cured.insert(damaged.as_str().to_owned());
    }
    Ok(())
}

/// A floor one higher names what is there below it. What was void by the lost floor alone may
/// show again then; that is better than to hide what is there.
fn plan_floor(
    run: &Run<'_>,
    view: &View,
    plan: &mut RepairPlan,
    cured: &mut HashSet<String>,
) -> Result<()> {
    let Some(m) = view.damaged_floor else { return Ok(()) };
    let damaged = layout::floor(&view.named.id, m)?;
    if !is_damaged(run, ObjectKind::Floor, &damaged) {
        return Ok(());
    }
    let floor = m.saturating_add(1);
    let key = layout::floor(&view.named.id, floor)?;
    let there = view.headers.iter().map(|(n, _)| n).chain(view.damaged_headers.keys().copied());
    let mut remaining: Vec<u64> = there.filter(|&n| n < floor).collect();
    remaining.sort_unstable();
    let message = format!(
        "the floor below it cannot be read; {} there below this one, of {}",
        counted(remaining.len() as u64, "backup is", "backups are"),
        view.named.label
    );
    plan.actions.push(Action::new(ActionKind::Floor, key.as_str(), message));
    let written = run.context.clock.now();
    plan.small.floors.push((view.named.id, FloorRecord { floor, remaining, written }));
    cured.insert(damaged.as_str().to_owned());
    Ok(())
}

/// Small objects that cannot be read, and whose absence means as much.
fn plan_removals(
    run: &Run<'_>,
    looked: &Looked,
    options: &RepairOptions,
    plan: &mut RepairPlan,
    cured: &mut HashSet<String>,
) -> Result<()> {
    let mut remove = |key: ObjectKey, message: &str| {
        plan.actions.push(Action::new(ActionKind::Remove, key.as_str(), message));
        plan.small.remove.push(key);
    };
    let (mut stays_without_force, mut marks) = (Vec::new(), Vec::new());
    for object in looked.ledger.damaged_objects() {
        let Ok(key) = ObjectKey::new(object) else { continue };
        let Some(kind) = removable(&key) else { continue };
        if !is_damaged(run, kind, &key) {
            continue;
        }
        cured.insert(object.to_owned());
        if let Some((slot, _)) = layout::parse_going(key.name()) {
            remove(key, plan_mark(run, &slot, &mut marks)?);
            continue;
        }
        match kind {
            ObjectKind::Lost => {
                remove(key, "it cannot be read; what of it is still missing is declared anew");
            }
            ObjectKind::Beat => remove(key, "a beat that cannot be read tells as much as none"),
            ObjectKind::Hidden => {
                let why = "a marker that cannot be read; the backup shows again, and `icecore \
                           forget` lets it go again";
                remove(key, why);
            }
            ObjectKind::Lease | ObjectKind::Revoke | ObjectKind::Verdict if options.force => {
                remove(key, "what it says cannot be read; nobody is at work, as was said");
            }
            ObjectKind::Lease | ObjectKind::Revoke | ObjectKind::Verdict => {
                stays_without_force.push(stays(object.to_owned(), lease_hint(), Vec::new()));
            }
            _ if options.force => {
                let why = "what it dooms is unknown; nobody is at work, as was said, so nothing \
                           is deleted for it any more";
                remove(key, why);
            }
            _ => {
                stays_without_force.push(stays(object.to_owned(), tombstone_hint(), Vec::new()));
            }
        }
    }
    // Where something is damaged a replay may not have come to who suffers.
    if looked.ledger.damaged_objects().next().is_none() {
        for object in looked.stock.lost_records() {
            if !looked.gathered.suffered.contains(&object) {
                remove(ObjectKey::new(&*object)?, "no backup needs any more what it declared lost");
            }
        }
    }
    plan.unrepaired.append(&mut stays_without_force);
    plan.small.marks = marks;
    Ok(())
}

/// A mark that a password is being removed counts by its name. Whoever put it may have looked at
/// the other passwords already and sleep, so while its slot is there another mark takes its place:
/// else somebody could remove the others and count on this one. Returns why it goes.
fn plan_mark(
    run: &Run<'_>,
    slot: &KeyId,
    marks: &mut Vec<(ObjectKey, MarkRecord)>,
) -> Result<&'static str> {
    if run.repository.store().backend().stat(&layout::key_slot(slot)?)?.is_none() {
        return Ok("a mark that cannot be read, on a password that is gone");
    }
    let by = LeaseId::new(sys::random()?);
    let record = MarkRecord { lease: by, by: format!("repaired on {}", sys::host_name()) };
    marks.push((layout::going(slot, &by)?, record));
    Ok("a mark that cannot be read; another says as well that the removal of this password was \
        begun, and `icecore key remove` ends it")
}

/// Returns the kind of an object that may go when it cannot be read.
fn removable(key: &ObjectKey) -> Option<ObjectKind> {
    let (id, suffix) = key.name().split_once('.').unwrap_or((key.name(), ""));
    let is_of_lease = id.parse::<LeaseId>().is_ok();
    match key.as_str().split('/').next()? {
        "keys" => layout::parse_going(key.name()).map(|_| ObjectKind::Revoke),
        "lost" => Some(ObjectKind::Lost),
        "tombstones" => Some(ObjectKind::Tombstone),
        "datasets" if suffix == "hidden" => Some(ObjectKind::Hidden),
        "leases" if !is_of_lease => None,
        "leases" if suffix.is_empty() => Some(ObjectKind::Lease),
        "leases" if suffix.starts_with("beat-") => Some(ObjectKind::Beat),
        "leases" if suffix.starts_with(lease::MARK_ASKED) => Some(ObjectKind::Revoke),
        "leases" => Some(ObjectKind::Verdict),
        _ => None,
    }
}

fn lease_hint() -> String {
    "what it says of its holder is unknown, so no prune can go on; when nobody is at work on the \
     repository, on any machine, `icecore repair --force` takes it away"
        .to_owned()
}

fn tombstone_hint() -> String {
    "what it dooms is unknown, so nobody can write; when nobody is at work on the repository, on \
     any machine, `icecore repair --force` takes it away"
        .to_owned()
}

/// Performs what was planned.
pub(super) fn execute(repository: &Repository, small: &Small, context: &Context<'_>) -> Result<()> {
    let now: Timestamp = context.clock.now();
    for (dataset, n) in &small.voids {
        context.cancel.check()?;
        let reason = "repair found nothing at this number".to_owned();
        let record = VoidRecord { number: *n, reason, written: now };
        let key = layout::header(dataset, BackupId(*n))?;
        put_unless_there(repository, ObjectKind::Void, &key, &record)?;
    }
    for (key, record) in &small.tags {
        put_unless_there(repository, ObjectKind::Tags, key, record)?;
    }
    for (dataset, record) in &small.floors {
        put_floor(repository, dataset, record.clone(), now)?;
    }
    names::execute(repository, &small.names, now)?;
    for (key, record) in &small.marks {
        repository.store().put(ObjectKind::Revoke, key, record)?;
    }
    small.remove.iter().try_for_each(|key| repository.store().delete(key))
}

/// Puts a floor one above that which cannot be read. No backup begins meanwhile, but a writer that
/// began before may commit the very number of the damaged one, which the plan does not know.
fn put_floor(
    repository: &Repository,
    dataset: &DatasetId,
    mut record: FloorRecord,
    now: Timestamp,
) -> Result<()> {
    let damaged = BackupId(record.floor.saturating_sub(1));
    if !record.remaining.contains(&damaged.0) && close_number(repository, dataset, damaged, now)? {
        record.remaining.push(damaged.0);
    }
    let key = layout::floor(dataset, record.floor)?;
    put_unless_there(repository, ObjectKind::Floor, &key, &record)
}

/// Sees to it that nobody takes a number any more, and says whether somebody has.
fn close_number(
    repository: &Repository,
    dataset: &DatasetId,
    n: BackupId,
    now: Timestamp,
) -> Result<bool> {
    let store = repository.store();
    if store.is_class_a() {
        let reason = "repair puts a floor above this number".to_owned();
        let record = VoidRecord { number: n.0, reason, written: now };
        let key = layout::header(dataset, n)?;
        return Ok(!store.put_new(ObjectKind::Void, &key, &record)?);
    }
    let observer = Observer { now, store_now: None, ended: &[] };
    let taken_by = |lease: &LeaseId| -> Result<bool> {
        let key = layout::header_of_lease(dataset, n, lease)?;
        Ok(store.backend().stat(&key)?.is_some())
    };
    for (id, lease) in &lease::list(store)? {
        let names_it = lease.record.dataset == *dataset && lease.record.number == Some(n);
        let is_void = Standing::of(&lease.marks) == Standing::Void;
        if !names_it || is_void || taken_by(id)? {
            continue;
        }
        if !repository.end_standing_lease(lease, &observer)? {
            let message =
                format!("a backup under way may take {n}, above which a floor is to rise");
            return Err(Error::new(ErrorKind::Busy, message)
                .hint("repair it again when that backup is done"));
        }
    }
    let mut is_taken = false;
    store.backend().list(&layout::thousand(dataset, n)?, &mut |listed| {
        if let Listed::Object(object) = listed {
            let parsed = layout::parse_number_object(object.key.name());
            is_taken |= matches!(parsed, Some(NumberObject::Header(at, _)) if at == n);
        }
        Ok(())
    })?;
    Ok(is_taken)
}

/// Another repair may have put it meanwhile, or the store may have shown too little.
fn put_unless_there<T: serde::Serialize>(
    repository: &Repository,
    kind: ObjectKind,
    key: &ObjectKey,
    record: &T,
) -> Result<()> {
    let store = repository.store();
    if store.is_class_a() {
        return store.put_new(kind, key, record).map(|_| ());
    }
    if store.backend().stat(key)?.is_some() {
        return Ok(());
    }
    store.put(kind, key, record)
}
