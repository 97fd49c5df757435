//! What must hold of every state that a cut may leave: promises are kept, there is garbage but no
//! damage, and the next run goes on as if nothing had been.

use crate::crash::deeds;
use crate::crash::source;
use crate::crash::story;
use crate::crash::story::CacheImage;
use crate::crash::story::Medium;
use crate::crash::story::OTHER_NAMES;
use crate::crash::story::Promise;
use crate::crash::story::Story;
use crate::crash::story::context;
use crate::crash::story::init;
use crate::crash::story::name;
use crate::crash::story::write_cache;
use icecore::backend::key::ObjectKey;
use icecore::base::cancel::Cancel;
use icecore::base::error::Error;
use icecore::base::error::ErrorKind;
use icecore::base::id::LeaseId;
use icecore::codec::frame::ObjectKind;
use icecore::engine::check;
use icecore::engine::check::CheckOptions;
use icecore::engine::check::Severity;
use icecore::engine::restore;
use icecore::engine::restore::RestoreOptions;
use icecore::format::dataset::DatasetName;
use icecore::format::lease::LeaseRecord;
use icecore::repository::Repository;
use icecore::repository::datasets::Dataset;
use icecore::repository::layout;
use icecore::target::memory::MemoryTarget;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What is done to a repository that was found whole, after which all must still be there.
type Aftermath = fn(&mut Story) -> icecore::base::error::Result<()>;

/// Whatever else a person may do next is added here.
const AFTERMATHS: &[Aftermath] = &[deeds::finish_renaming, story::prune];

/// A machine as it is found after the cut.
pub(super) struct Wreck {
    pub(super) medium: Arc<dyn Medium>,
    pub(super) is_encrypted: bool,
    /// The newest version of the source that any run has seen.
    pub(super) version: usize,
    pub(super) promises: Vec<Promise>,
    /// What is left of the cache.
    pub(super) cache: Option<Arc<CacheImage>>,
    /// A write of the dead run that reaches the store only after the next run.
    pub(super) late: Option<Box<dyn Fn() + Send + Sync>>,
    /// Whether a repair goes first, which must find nothing to do.
    pub(super) is_repaired: bool,
}

fn refused(what: &str, error: &Error) -> String {
    format!("{what}: {}", error.full_message())
}

impl Wreck {
    /// Says what does not hold, if anything.
    pub(super) fn judge(&self) -> Result<(), String> {
        let mut story = Story::new(Arc::clone(&self.medium), self.is_encrypted);
        story.promises = self.promises.iter().map(|promise| (0, promise.clone())).collect();
        story.threads = 1;
        story.version = self.version;
        story.clock.advance(100_000);
        if let Some(image) = &self.cache {
            write_cache(story.cache_folder(), image);
        }
        self.judge_passwords(&story)?;
        let repository = self.open(&mut story)?;
        if self.is_damaged() {
            deeds::repair(&mut story).map_err(|e| refused("it cannot be repaired", &e))?;
        }
        let mut backups = self.promised_backups();
        let lost = self.excused(judge_damage(&story, &repository)?);
        self.judge_backups(&story, &repository, &backups, &lost)?;
        drop(repository);
        if self.is_repaired {
            deeds::repair_the_sound(&story).map_err(|e| refused("repair fails", &e))?;
        }
        bury_the_dead(&story);
        story.version += 1;
        let next = story.back_up(false).map_err(|e| refused("the next backup fails", &e))?;
        backups.insert(next.backup.0, story.version);
        if let Some(late) = &self.late {
            late();
        }
        for aftermath in AFTERMATHS {
            aftermath(&mut story).map_err(|e| refused("going on fails", &e))?;
        }
        let repository = story.open().map_err(|e| refused("it opens no more", &e))?;
        let lost = self.excused(judge_damage(&story, &repository)?);
        self.judge_backups(&story, &repository, &backups, &lost)?;
        judge_forgotten(&repository, &self.forgotten())
    }

    /// Says whether a repair is owed.
    fn is_damaged(&self) -> bool {
        let last = |wanted: fn(&Promise) -> bool| self.promises.iter().rposition(wanted);
        let damaged = last(|promise| matches!(promise, Promise::Damaged { .. }));
        damaged.is_some() && damaged > last(|promise| matches!(promise, Promise::Repaired))
    }

    /// Of backups that have lost something, those that were there before something was damaged
    /// that cannot be derived: all others have to be whole.
    fn excused(&self, lost: BTreeSet<u64>) -> BTreeSet<u64> {
        let is_loss = |promise: &Promise| matches!(promise, Promise::Damaged { derivable: false });
        let damaged = self.promises.iter().position(is_loss).unwrap_or(0);
        let before = self.promises[..damaged].iter().filter_map(|promise| match promise {
            Promise::Backup { number, .. } => Some(*number),
            _ => None,
        });
        before.filter(|number| lost.contains(number)).collect()
    }

    fn is_created(&self) -> bool {
        self.promises
            .iter()
            .any(|promise| matches!(promise, Promise::Created | Promise::Backup { .. }))
    }

    fn open(&self, story: &mut Story) -> Result<Repository, String> {
        match story.open() {
            Err(e) if is_nothing_there(&e) && !self.is_created() => {
                init(story).map_err(|e| refused("it cannot be created again", &e))?;
                story.open().map_err(|e| refused("created again it does not open", &e))
            }
            opened => opened.map_err(|e| refused("it does not open", &e)),
        }
    }

    fn judge_passwords(&self, story: &Story) -> Result<(), String> {
        let mut known = BTreeMap::new();
        for promise in &self.promises {
            if let Promise::Password { password, opens } = promise {
                known.insert(*password, *opens);
            }
        }
        if !self.is_encrypted {
            return Ok(());
        }
        for (password, opens) in known {
            let opened = story.open_with(password);
            match (opens, opened) {
                (Some(true), Err(e)) => {
                    return Err(refused(&format!("{password} must open it"), &e));
                }
                (Some(false), Ok(_)) => return Err(format!("{password} opens it again")),
                _ => {}
            }
        }
        Ok(())
    }

    fn promised_backups(&self) -> BTreeMap<u64, usize> {
        let mut backups = BTreeMap::new();
        for promise in &self.promises {
            match promise {
                Promise::Backup { number, version } => drop(backups.insert(*number, *version)),
                Promise::MayGo { number } | Promise::Forgotten { number } => {
                    backups.remove(number);
                }
                Promise::Created
                | Promise::Damaged { .. }
                | Promise::Repaired
                | Promise::Elsewhere { .. }
                | Promise::Renaming
                | Promise::Named { .. }
                | Promise::Tagged { .. }
                | Promise::Password { .. } => {}
            }
        }
        backups
    }

    /// Judges the backups of both datasets, and their tags.
    fn judge_backups(
        &self,
        story: &Story,
        repository: &Repository,
        backups: &BTreeMap<u64, usize>,
        lost: &BTreeSet<u64>,
    ) -> Result<(), String> {
        judge_backups(story, repository, &name(), backups, lost)?;
        judge_the_other(story, repository)?;
        for promise in &self.promises {
            let Promise::Tagged { number, tag } = promise else { continue };
            let dataset = repository.dataset(&name()).map_err(|e| refused("no dataset", &e))?;
            let shown = dataset.backups().map_err(|e| refused("cannot be listed", &e))?;
            let backup = shown.iter().find(|backup| backup.header.number.0 == *number);
            if !backup.is_some_and(|backup| backup.tags.iter().any(|it| it == tag)) {
                return Err(format!("backup_{number} was tagged {tag}, and is not any more"));
            }
        }
        Ok(())
    }

    fn forgotten(&self) -> Vec<u64> {
        let forgotten = self.promises.iter().filter_map(|promise| match promise {
            Promise::Forgotten { number } => Some(*number),
            _ => None,
        });
        forgotten.collect()
    }
}

fn is_nothing_there(e: &Error) -> bool {
    matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NoRepository)
}

/// Every backup that is shown comes back as its source was, and all that were promised are shown.
/// One that has lost something says what, and the rest of it is as it was.
fn judge_backups(
    story: &Story,
    repository: &Repository,
    name: &DatasetName,
    promised: &BTreeMap<u64, usize>,
    lost: &BTreeSet<u64>,
) -> Result<(), String> {
    let dataset = match repository.dataset(name) {
        Err(e) if e.kind() == ErrorKind::NotFound && promised.is_empty() => return Ok(()),
        dataset => dataset.map_err(|e| refused("the dataset is not there", &e))?,
    };
    let numbers = dataset.all_numbers().map_err(|e| refused("numbers cannot be listed", &e))?;
    let backups = dataset.backups().map_err(|e| refused("backups cannot be listed", &e))?;
    let cancel = Cancel::new();
    for number in promised.keys() {
        if !backups.iter().any(|backup| backup.header.number.0 == *number) {
            return Err(format!("{name}, backup_{number} was promised and is not there"));
        }
    }
    for backup in backups {
        let number = backup.header.number.0;
        let version = backup.header.description.parse().unwrap();
        let what = format!("{name}, backup_{number} cannot be restored");
        if !backup.tags.contains(&story::tag_of(version)) {
            return Err(format!("{name}, backup_{number} has lost its tag: {:?}", backup.tags));
        }
        let snapshot = dataset.snapshot(&numbers, backup).map_err(|e| refused(&what, &e))?;
        let target = MemoryTarget::new();
        let context = context(&story.clock, &cancel, story.threads);
        let report = restore::run(&snapshot, &target, &RestoreOptions::default(), &context);
        let report = report.map_err(|e| refused(&what, &e))?;
        if !report.errors.is_empty() && !lost.contains(&number) {
            return Err(format!("{what}: {:?}", report.errors));
        }
        let mut found = source::things_in(&target);
        let mut expected = source::things_at(version);
        for path in report.errors.iter().filter_map(|error| error.path.as_ref()) {
            expected.remove(&path.to_string());
            found.remove(&path.to_string());
        }
        if found != expected {
            let paths: BTreeSet<&String> = found.keys().chain(expected.keys()).collect();
            let wrong = paths.into_iter().filter(|path| found.get(*path) != expected.get(*path));
            let wrong: Vec<&String> = wrong.collect();
            let what = format!("{name}, backup_{number} is not version {version} of the source");
            return Err(format!("{what}: {wrong:?}"));
        }
        if let Some(&promised) = promised.get(&number)
            && promised != version
        {
            return Err(format!("backup_{number} holds {version}, promised was {promised}"));
        }
    }
    Ok(())
}

/// Judges the dataset that is renamed: under all names it has, and it has those it was given.
fn judge_the_other(story: &Story, repository: &Repository) -> Result<(), String> {
    let (mut backups, mut names) = (BTreeMap::new(), vec![OTHER_NAMES[0]]);
    for (_, promise) in &story.promises {
        match promise {
            Promise::Elsewhere { number, version } => _ = backups.insert(*number, *version),
            Promise::Renaming => names = OTHER_NAMES.to_vec(),
            Promise::Named { name } => names = vec![name],
            _ => {}
        }
    }
    let shown = repository.datasets().map_err(|e| refused("datasets cannot be listed", &e))?;
    let shown: Vec<&DatasetName> = shown.iter().map(Dataset::name).collect();
    let has = |name: &str| shown.iter().any(|shown| shown.to_string() == name);
    let found: Vec<&str> = OTHER_NAMES.into_iter().filter(|name| has(name)).collect();
    if let Some(name) = found.iter().find(|name| !names.contains(name)) {
        return Err(format!("the other dataset is named {name}, and was to be one of {names:?}"));
    }
    if found.is_empty() && !backups.is_empty() {
        return Err(format!("the other dataset has no name of {names:?}"));
    }
    found.into_iter().try_for_each(|name| {
        judge_backups(story, repository, &name.parse().unwrap(), &backups, &BTreeSet::new())
    })
}

fn judge_forgotten(repository: &Repository, forgotten: &[u64]) -> Result<(), String> {
    if forgotten.is_empty() {
        return Ok(());
    }
    let dataset = repository.dataset(&name()).map_err(|e| refused("no dataset", &e))?;
    let backups = dataset.backups().map_err(|e| refused("backups cannot be listed", &e))?;
    let shown = backups.iter().map(|backup| backup.header.number.0);
    match shown.into_iter().find(|number| forgotten.contains(number)) {
        Some(number) => Err(format!("backup_{number} was forgotten and is shown again")),
        None => Ok(()),
    }
}

/// A check of everything finds no damage; returns the backups that have lost something.
fn judge_damage(story: &Story, repository: &Repository) -> Result<BTreeSet<u64>, String> {
    let options = CheckOptions { read_data: Some(100.0), ..CheckOptions::default() };
    let cancel = Cancel::new();
    let context = context(&story.clock, &cancel, story.threads);
    let report = check::run(repository, &options, &context);
    let report = report.map_err(|e| refused("check fails", &e))?;
    let damage = report.findings.iter().filter(|finding| finding.severity == Severity::Damage);
    let damage: Vec<String> = damage.map(|f| format!("{}: {}", f.object, f.message)).collect();
    if !damage.is_empty() {
        return Err(format!("check finds damage: {damage:?}"));
    }
    let lost = report.findings.iter().filter(|finding| finding.object.starts_with("lost/"));
    let backups = lost.flat_map(|finding| &finding.backups);
    Ok(backups.map(|backup| backup.rsplit('@').next().unwrap().parse().unwrap()).collect())
}

/// Lets every lease be of a boot before: the process that took it is this one, and looks alive.
/// What cannot be opened or read is left as it is, for the run that follows to stumble over.
pub(super) fn bury_the_dead(story: &Story) {
    let Ok(repository) = story.open() else { return };
    let store = repository.store();
    for key in store.names_below(&layout::folder("leases").unwrap()).unwrap_or_default() {
        if key.name().parse::<LeaseId>().is_err() {
            continue;
        }
        let Ok(mut record) = store.get::<LeaseRecord>(ObjectKind::Lease, &key) else { continue };
        record.process.boot = "before the cut".to_owned();
        story.medium.replace(&key, &sealed(&repository, &key, &record));
    }
}

fn sealed(repository: &Repository, key: &ObjectKey, record: &LeaseRecord) -> Vec<u8> {
    repository.store().sealer().seal_record(ObjectKind::Lease, key.as_str(), record).unwrap()
}
