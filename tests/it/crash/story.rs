//! What a person does with a repository before the cut, and what was promised to them by then.
//!
//! A new deed is a function here or in `deeds`, and a row in `workloads`; a new promise is a
//! variant of [`Promise`] and a line in `verdict`.

use crate::crash::source;
use crate::support::folder::Folder;
use crate::support::world::CHEAP;
use icecore::backend::Backend;
use icecore::backend::key::ObjectKey;
use icecore::base::cancel::Cancel;
use icecore::base::error::ErrorKind;
use icecore::base::error::Result;
use icecore::base::id::BackupId;
use icecore::base::progress::Silent;
use icecore::base::secret::Secret;
use icecore::base::time::FixedClock;
use icecore::base::time::Timestamp;
use icecore::engine::Context;
use icecore::engine::backup;
use icecore::engine::backup::BackupOptions;
use icecore::engine::backup::BackupReport;
use icecore::engine::forget;
use icecore::engine::forget::Selection;
use icecore::engine::prune;
use icecore::engine::prune::PruneOptions;
use icecore::engine::retention::Amount;
use icecore::engine::retention::Rules;
use icecore::format::dataset::DatasetName;
use icecore::repository::Repository;
use icecore::repository::cache::CachePlace;
use icecore::repository::datasets::Backup;
use icecore::repository::open;
use icecore::repository::open::CreateOptions;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Something that holds a repository and may be cut off.
pub(super) trait Medium: Send + Sync {
    /// Makes a place, as `init` does.
    fn create(&self) -> Result<Arc<dyn Backend>>;

    /// Opens it, as a new process does.
    fn open(&self) -> Result<Arc<dyn Backend>>;

    /// Returns how many writes there were.
    fn position(&self) -> usize;

    /// Dies before an object below this folder is written; None brings it back to life.
    fn kill_before(&self, folder: Option<&'static str>);

    /// Exchanges the bytes of an object behind everybody's back.
    fn replace(&self, key: &ObjectKey, bytes: &[u8]);
}

/// What a person was told, and so relies on.
#[derive(Clone, Debug)]
pub(super) enum Promise {
    /// There is a repository.
    Created,
    /// This backup is there, and holds this version of the source.
    Backup { number: u64, version: usize },
    /// A backup of another dataset is there, and holds this version of the source.
    Elsewhere { number: u64, version: usize },
    /// The other dataset is being renamed: it has a name, or both.
    Renaming,
    /// The other dataset has this name alone.
    Named { name: &'static str },
    /// This backup has a tag.
    Tagged { number: u64, tag: &'static str },
    /// This backup is being forgotten: it may be there or not.
    MayGo { number: u64 },
    /// This backup was forgotten, and is not shown again.
    Forgotten { number: u64 },
    /// Something of it was damaged, which a repair is to make good: whole where all of it can be
    /// derived from the rest.
    Damaged { derivable: bool },
    /// A repair has said that nothing is damaged any more.
    Repaired,
    /// A password opens it, or no longer does; nothing while that is being changed.
    Password { password: &'static str, opens: Option<bool> },
}

pub(super) const FIRST_PASSWORD: &str = "first";
pub(super) const PASSWORDS: [&str; 3] = [FIRST_PASSWORD, "second", "third"];

pub(super) fn secret(password: &str) -> Secret {
    Secret::new(password.as_bytes().to_vec())
}

/// Files of a cache, by their paths in it.
pub(super) type CacheImage = BTreeMap<PathBuf, Vec<u8>>;

pub(super) fn read_cache(folder: &Path) -> CacheImage {
    let mut image = CacheImage::new();
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        // A file may go while the folder is read: another thread of the run removes it.
        for entry in std::fs::read_dir(next).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else if let Ok(bytes) = std::fs::read(&path) {
                image.insert(path.strip_prefix(folder).unwrap().to_owned(), bytes);
            }
        }
    }
    image
}

pub(super) fn write_cache(folder: &Path, image: &CacheImage) {
    for (name, bytes) in image {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

/// A machine with a source and a cache, and what it was told so far.
pub(super) struct Story {
    pub(super) medium: Arc<dyn Medium>,
    pub(super) is_encrypted: bool,
    /// Which version of the source is there now.
    pub(super) version: usize,
    /// With how many writes done each promise was made.
    pub(super) promises: Vec<(usize, Promise)>,
    pub(super) threads: usize,
    pub(super) clock: FixedClock,
    pub(super) wrap: fn(Arc<dyn Backend>) -> Arc<dyn Backend>,
    caches: Folder,
}

impl Story {
    pub(super) fn new(medium: Arc<dyn Medium>, is_encrypted: bool) -> Self {
        Story {
            medium,
            is_encrypted,
            version: 0,
            promises: Vec::new(),
            threads: 2,
            clock: FixedClock::new(Timestamp::new(1_800_000_000, 0)),
            wrap: |backend| backend,
            caches: Folder::in_memory(),
        }
    }

    pub(super) fn cache_folder(&self) -> &Path {
        self.caches.path()
    }

    fn cache(&self) -> CachePlace {
        CachePlace::Kept(self.caches.path().to_owned())
    }

    pub(super) fn promise(&mut self, promise: Promise) {
        self.promises.push((self.medium.position(), promise));
    }

    /// Opens the repository with a password, as a new process does.
    pub(super) fn open_with(&self, password: &str) -> Result<Repository> {
        let backend = (self.wrap)(self.medium.open()?);
        let password = self.is_encrypted.then(|| secret(password));
        open::open(backend, password.as_ref(), &self.cache())
    }

    /// Opens the repository with whatever password opens it.
    pub(super) fn open(&self) -> Result<Repository> {
        let mut opened = self.open_with(PASSWORDS[0]);
        for password in &PASSWORDS[1..] {
            if opened.as_ref().is_err_and(|e| e.kind() == ErrorKind::Password) {
                opened = self.open_with(password);
            }
        }
        opened
    }

    /// Makes a backup of the source as it is now, with its version as the description and a tag.
    pub(super) fn back_up(&mut self, full: bool) -> Result<BackupReport> {
        let report = self.back_up_as(&name(), full)?;
        let (number, version) = (report.backup.0, self.version);
        self.promise(Promise::Backup { number, version });
        Ok(report)
    }

    fn back_up_as(&mut self, name: &DatasetName, full: bool) -> Result<BackupReport> {
        let repository = self.open()?;
        let (source, cancel) = (source::at(self.version), Cancel::new());
        let options = BackupOptions {
            full,
            description: self.version.to_string(),
            tags: vec![tag_of(self.version)],
            ..BackupOptions::default()
        };
        self.clock.advance(100);
        let context = context(&self.clock, &cancel, self.threads);
        backup::run(&repository, name, &*source, &options, &context)
    }
}

pub(super) fn context<'a>(
    clock: &'a FixedClock,
    cancel: &'a Cancel,
    threads: usize,
) -> Context<'a> {
    Context { progress: &Silent, cancel, clock, threads }
}

pub(super) fn name() -> DatasetName {
    "data".parse().unwrap()
}

/// The names of a dataset of which nothing is ever forgotten: the first until it is renamed.
pub(super) const OTHER_NAMES: [&str; 2] = ["other", "moved"];

pub(super) fn other_name() -> DatasetName {
    OTHER_NAMES[0].parse().unwrap()
}

/// The tag that a backup of this version of the source gets.
pub(super) fn tag_of(version: usize) -> String {
    format!("v{version}")
}

/// One thing that is done.
pub(super) type Deed = fn(&mut Story) -> Result<()>;

/// Makes the repository, or goes on with the one that is there.
pub(super) fn init(story: &mut Story) -> Result<()> {
    let options = CreateOptions {
        password: story.is_encrypted.then(|| secret(FIRST_PASSWORD)),
        cost: CHEAP,
        pack_bytes: 1024,
        ..CreateOptions::default()
    };
    let backend = (story.wrap)(story.medium.create()?);
    let now = Timestamp::new(1_800_000_000, 0);
    match open::create(backend, &options, &story.cache(), now) {
        Ok(_) => {}
        // Whoever was cut off may be told so; what is there has to do.
        Err(e) if e.kind() == ErrorKind::AlreadyExists => return Ok(()),
        Err(e) => return Err(e),
    }
    story.promise(Promise::Created);
    story.promise(Promise::Password { password: FIRST_PASSWORD, opens: Some(true) });
    Ok(())
}

pub(super) fn change(story: &mut Story) -> Result<()> {
    story.version += 1;
    Ok(())
}

pub(super) fn grow(story: &mut Story) -> Result<()> {
    story.version = source::GROWN;
    Ok(())
}

pub(super) fn backup(story: &mut Story) -> Result<()> {
    story.back_up(false).map(|_| ())
}

/// Backs up the same source as another dataset, which so needs what the first one may forget.
pub(super) fn backup_elsewhere(story: &mut Story) -> Result<()> {
    let version = story.version;
    let number = story.back_up_as(&other_name(), false)?.backup.0;
    story.promise(Promise::Elsewhere { number, version });
    Ok(())
}

pub(super) fn full_backup(story: &mut Story) -> Result<()> {
    story.back_up(true).map(|_| ())
}

pub(super) fn backup_killed_before_its_header(story: &mut Story) -> Result<()> {
    killed_backup(story, "datasets")
}

pub(super) fn backup_killed_before_its_index(story: &mut Story) -> Result<()> {
    killed_backup(story, "index")
}

fn killed_backup(story: &mut Story, folder: &'static str) -> Result<()> {
    story.medium.kill_before(Some(folder));
    let killed = story.back_up(false);
    story.medium.kill_before(None);
    assert!(killed.is_err(), "it died");
    Ok(())
}

/// A backup of another version that dies before its header, whose lease is that of a dead machine.
pub(super) fn backup_killed(story: &mut Story) -> Result<()> {
    story.version += 1;
    let killed = killed_backup(story, "datasets");
    crate::crash::verdict::bury_the_dead(story);
    killed
}

pub(super) fn forget_first(story: &mut Story) -> Result<()> {
    forget(story, 0)
}

pub(super) fn forget_second(story: &mut Story) -> Result<()> {
    forget(story, 1)
}

fn forget(story: &mut Story, number: u64) -> Result<()> {
    let dataset = story.open()?.dataset(&name())?;
    story.promise(Promise::MayGo { number });
    let is_there = |backup: &Arc<Backup>| backup.header.number.0 == number;
    let cancel = Cancel::new();
    let context = context(&story.clock, &cancel, story.threads);
    let selection = match dataset.backups()?.iter().any(is_there) {
        true => Selection::Numbers(BTreeSet::from([BackupId(number)])),
        // The marker of the run that was cut off is there: a plan by rules leaves it at that, and
        // this run makes it durable.
        false => Selection::Unless(Rules { last: Some(Amount::All), ..Rules::default() }),
    };
    let plan = forget::plan(&dataset, &selection, &|_| 0, &context)?;
    forget::execute(&plan, &context)?;
    story.promise(Promise::Forgotten { number });
    Ok(())
}

/// Prunes all that can be freed, whatever explains it.
pub(super) fn prune(story: &mut Story) -> Result<()> {
    let repository = story.open()?;
    let options = PruneOptions {
        max_unused: 0.0,
        force: true,
        disk_wait: Duration::ZERO,
        ..PruneOptions::default()
    };
    let cancel = Cancel::new();
    let context = context(&story.clock, &cancel, story.threads);
    let report = prune::run(&repository, &options, &context)?;
    assert!(report.stuck.is_empty(), "{report:?}");
    Ok(())
}

pub(super) fn prune_killed(story: &mut Story) -> Result<()> {
    story.medium.kill_before(Some("index"));
    // It may have had nothing to copy, and so have died nowhere.
    let _ = prune(story);
    story.medium.kill_before(None);
    Ok(())
}
