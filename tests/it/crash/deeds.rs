//! Further deeds: damage and its repair, passwords, and what reads a whole repository or fills it
//! from another one.

use crate::crash::source;
use crate::crash::story::FIRST_PASSWORD;
use crate::crash::story::OTHER_NAMES;
use crate::crash::story::Promise;
use crate::crash::story::Story;
use crate::crash::story::backup;
use crate::crash::story::change;
use crate::crash::story::context;
use crate::crash::story::init;
use crate::crash::story::name;
use crate::crash::story::prune;
use crate::crash::story::secret;
use crate::crash::tape::Tape;
use crate::support::world::CHEAP;
use icecore::backend::Backend;
use icecore::backend::Listed;
use icecore::backend::key::FolderKey;
use icecore::backend::key::ObjectKey;
use icecore::backend::memory::MemoryBackend;
use icecore::base::cancel::Cancel;
use icecore::base::error::Error;
use icecore::base::error::ErrorKind;
use icecore::base::error::Origin;
use icecore::base::error::Result;
use icecore::base::id::BackupId;
use icecore::base::id::PackId;
use icecore::base::time::Clock;
use icecore::base::time::Timestamp;
use icecore::engine::check;
use icecore::engine::check::CheckOptions;
use icecore::engine::copy;
use icecore::engine::copy::CopyOptions;
use icecore::engine::copy::Wanted;
use icecore::engine::parity;
use icecore::engine::repair;
use icecore::engine::repair::Action;
use icecore::engine::repair::ActionKind;
use icecore::engine::repair::RepairOptions;
use icecore::engine::restore;
use icecore::engine::restore::RestoreOptions;
use icecore::engine::tag;
use icecore::engine::tag::TagChange;
use icecore::repository::Repository;
use icecore::repository::doom;
use icecore::target::memory::MemoryTarget;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::LazyLock;

/// Does something to the object of a folder that is the largest, of which all can be derived, or
/// not.
fn hurt(
    story: &mut Story,
    folder: &str,
    derivable: bool,
    work: impl FnOnce(&dyn Backend, &ObjectKey) -> Result<()>,
) -> Result<()> {
    let backend = story.medium.open()?;
    let mut keys = BTreeMap::new();
    for nth in 0..=255 {
        let folder = FolderKey::new(format!("{folder}/{nth:02x}"))?;
        backend.list(&folder, &mut |listed| {
            if let Listed::Object(object) = listed {
                keys.insert((object.size, object.key.as_str().to_owned()), object.key);
            }
            Ok(())
        })?;
    }
    story.promise(Promise::Damaged { derivable });
    work(&*backend, keys.values().next_back().unwrap())
}

pub(super) fn rename_the_other(story: &mut Story) -> Result<()> {
    rename(story, OTHER_NAMES)
}

pub(super) fn rename_it_back(story: &mut Story) -> Result<()> {
    rename(story, [OTHER_NAMES[1], OTHER_NAMES[0]])
}

fn rename(story: &mut Story, [old, name]: [&'static str; 2]) -> Result<()> {
    let repository = story.open()?;
    story.promise(Promise::Renaming);
    repository.rename(&old.parse()?, &name.parse()?, story.clock.now())?;
    story.promise(Promise::Named { name });
    Ok(())
}

/// A rename that was cut off can be done again, whatever it came to.
pub(super) fn finish_renaming(story: &mut Story) -> Result<()> {
    let began = |(_, promise): &(usize, Promise)| matches!(promise, Promise::Renaming);
    if !story.promises.iter().any(began) {
        return Ok(());
    }
    rename_it_back(story).or_else(|e| match e.kind() {
        ErrorKind::NotFound => Ok(()),
        _ => Err(e),
    })?;
    rename_the_other(story)
}

pub(super) fn lose_an_index(story: &mut Story) -> Result<()> {
    hurt(story, "index", true, |backend, key| backend.delete(key))
}

pub(super) fn lose_a_pack(story: &mut Story) -> Result<()> {
    hurt(story, "packs", false, |backend, key| backend.delete(key))
}

/// Spoils the checksum of a pack: every block of it can be read all the same.
pub(super) fn spoil_a_pack(story: &mut Story) -> Result<()> {
    hurt(story, "packs", true, |backend, key| {
        let mut bytes = backend.get(key, 1 << 20)?;
        *bytes.last_mut().unwrap() ^= 1;
        backend.delete(key)?;
        backend.put(key, &bytes)
    })
}

fn indexed_packs(repository: &Repository) -> Result<Vec<PackId>> {
    repository.refresh_index()?;
    let index = repository.index();
    let packs = index.ids().into_iter().flat_map(|id| index.packs_of(&id));
    Ok(packs.map(|pack| pack.pack).collect())
}

/// Dooms the packs that the backups need, as a prune does when a writer has not yet shown what it
/// leans on: the next prune has to rescue what is in them.
pub(super) fn doom_what_is_needed(story: &mut Story) -> Result<()> {
    let repository = story.open()?;
    let packs = indexed_packs(&repository)?;
    let now = Timestamp::new(1_800_000_000, 0);
    doom::put_tombstones(repository.store(), &packs, &[], 0, now).map(|_| ())
}

/// A prune after which nothing of what was doomed is left, needed or not.
pub(super) fn prune_that_rescues(story: &mut Story) -> Result<()> {
    let doomed = doom::Tombstones::list(story.open()?.store())?.packs();
    prune(story)?;
    let left = indexed_packs(&story.open()?)?;
    assert!(left.iter().all(|pack| !doomed.contains(pack)), "{left:?} of {doomed:?}");
    Ok(())
}

/// Repairs all that is damaged, which leaves nothing damaged behind, and loses nothing of which
/// all can be derived.
pub(super) fn repair(story: &mut Story) -> Result<()> {
    let repository = story.open()?;
    let cancel = Cancel::new();
    let context = context(&story.clock, &cancel, story.threads);
    let options = RepairOptions { read_data: true, ..RepairOptions::default() };
    let plan = repair::plan(&repository, &options, &context)?;
    let report = repair::execute(&repository, plan, &context)?;
    if !report.unrepaired.is_empty() {
        return Err(partial("a repair", &report.unrepaired));
    }
    let may_lose =
        |(_, promise): &(usize, Promise)| matches!(promise, Promise::Damaged { derivable: false });
    if !report.lost.is_empty() && !story.promises.iter().any(may_lose) {
        return Err(Error::bug(format!("a repair loses what is there: {:?}", report.lost)));
    }
    story.promise(Promise::Repaired);
    Ok(())
}

/// Repairs what is sound but for garbage: there is nothing to be done.
pub(super) fn repair_the_sound(story: &Story) -> Result<()> {
    let repository = story.open()?;
    let cancel = Cancel::new();
    let context = context(&story.clock, &cancel, story.threads);
    let plan = repair::plan(&repository, &RepairOptions::default(), &context)?;
    // What may be done is to tidy: a record of lost places that nobody needs any more goes, and so
    // does an index that names packs which a prune was about to free.
    let is_harmless = |action: &Action| {
        action.kind == ActionKind::ReplaceIndex || action.object.starts_with("lost/")
    };
    if !plan.actions.iter().all(is_harmless) || !plan.lost.is_empty() || !plan.unrepaired.is_empty()
    {
        return Err(Error::bug(format!("a repair of what is sound: {plan:?}")));
    }
    repair::execute(&repository, plan, &context).map(|_| ())
}

pub(super) fn tag_the_first(story: &mut Story) -> Result<()> {
    tag_first(story, "kept")
}

pub(super) fn tag_it_again(story: &mut Story) -> Result<()> {
    tag_first(story, "again")
}

/// Gives the first backup one more tag; that it has it already is success as well.
fn tag_first(story: &mut Story, tag: &'static str) -> Result<()> {
    let dataset = story.open()?.dataset(&name())?;
    let cancel = Cancel::new();
    let context = context(&story.clock, &cancel, story.threads);
    let change = TagChange { add: vec![tag.to_owned()], ..TagChange::default() };
    tag::run(&dataset, BackupId(0), &change, &context)?;
    story.promise(Promise::Tagged { number: 0, tag });
    Ok(())
}

pub(super) fn add_key(story: &mut Story) -> Result<()> {
    let repository = story.open()?;
    repository.add_key(&secret("second"), CHEAP, "", Timestamp::new(1_800_000_000, 0))?;
    story.promise(Promise::Password { password: "second", opens: Some(true) });
    Ok(())
}

/// Puts a third password in the place of the first, as `key passwd` does.
pub(super) fn change_password(story: &mut Story) -> Result<()> {
    let repository = story.open()?;
    let (old, now) = (secret(FIRST_PASSWORD), Timestamp::new(1_800_000_000, 0));
    let slot = match repository.slot_of(&old) {
        Err(e) if e.kind() == ErrorKind::Password => return Ok(()),
        slot => slot?,
    };
    repository.add_key(&secret("third"), CHEAP, "", now)?;
    story.promise(Promise::Password { password: FIRST_PASSWORD, opens: None });
    repository.remove_key(&slot.to_string())?;
    story.promise(Promise::Password { password: "third", opens: Some(true) });
    story.promise(Promise::Password { password: FIRST_PASSWORD, opens: Some(false) });
    Ok(())
}

/// An operation that told of single failures and went on: what a person sees as exit code 3.
fn partial(what: &str, failures: &dyn std::fmt::Debug) -> Error {
    Error::new(ErrorKind::Io, format!("{what}: {failures:?}")).at(Origin::Repository)
}

/// Restores the newest backup, which must be as its source was.
pub(super) fn restore_newest(story: &mut Story) -> Result<()> {
    let dataset = story.open()?.dataset(&name())?;
    let numbers = dataset.all_numbers()?;
    let newest = dataset.backups()?.pop().expect("there are backups");
    let version = newest.header.description.parse().unwrap();
    let (target, cancel) = (MemoryTarget::new(), Cancel::new());
    let context = context(&story.clock, &cancel, story.threads);
    let snapshot = dataset.snapshot(&numbers, newest)?;
    let report = restore::run(&snapshot, &target, &RestoreOptions::default(), &context)?;
    if !report.errors.is_empty() {
        return Err(partial("a restore", &report.errors));
    }
    assert_eq!(source::things_in(&target), source::things_at(version));
    Ok(())
}

/// Checks everything with all data.
pub(super) fn check_all(story: &mut Story) -> Result<()> {
    let repository = story.open()?;
    let options = CheckOptions { read_data: Some(100.0), ..CheckOptions::default() };
    let cancel = Cancel::new();
    let context = context(&story.clock, &cancel, story.threads);
    let report = check::run(&repository, &options, &context)?;
    if report.is_ok() { Ok(()) } else { Err(partial("a check", &report.findings)) }
}

/// Returns a machine with another repository, in which there are two backups.
fn another() -> Story {
    static MADE: LazyLock<Tape> = LazyLock::new(|| {
        let tape = Tape::new(MemoryBackend::with_atomic_create(true));
        let mut story = Story::new(Arc::new(tape.clone()), false);
        for deed in [init, backup, change, backup] {
            deed(&mut story).unwrap();
        }
        tape
    });
    Story::new(Arc::new(MADE.clone()), false)
}

/// Copies all backups of another repository into this one.
pub(super) fn copy_from_another(story: &mut Story) -> Result<()> {
    let elsewhere = another();
    let from = elsewhere.open()?;
    let to = story.open()?;
    let wanted = [Wanted { dataset: from.dataset(&name())?, numbers: None }];
    let cancel = Cancel::new();
    let context = context(&story.clock, &cancel, story.threads);
    let report = copy::run(&from, &to, &wanted, &CopyOptions::default(), &context)?;
    let one = report.datasets.into_iter().next().expect("one was asked for");
    for copied in &one.copied {
        let (number, version) = (copied.to.0, copied.from.0 as usize);
        story.promise(Promise::Backup { number, version });
    }
    match one.error {
        Some(e) => Err(e),
        None if !one.failures.is_empty() => Err(partial("a copy", &one.failures)),
        None => Ok(()),
    }
}

pub(super) fn add_parity(story: &mut Story) -> Result<()> {
    let repository = story.open()?;
    let cancel = Cancel::new();
    let context = context(&story.clock, &cancel, story.threads);
    let report = parity::add(&repository, 10, &context)?;
    if report.failed.is_empty() { Ok(()) } else { Err(partial("parity", &report.failed)) }
}

pub(super) fn remove_parity(story: &mut Story) -> Result<()> {
    let repository = story.open()?;
    let cancel = Cancel::new();
    let context = context(&story.clock, &cancel, story.threads);
    parity::remove(&repository, false, &context).map(|_| ())
}
