//! The two calls that a program needs: make a backup of a folder, recover one into a folder.
//!
//! They open the repository by its location, take the password from `ICECORE_PASSWORD` when there
//! is one, use the cache of the user, and wait until all is done. Whoever needs progress, other
//! sources or several operations on one open repository uses [`crate::engine`].

use crate::backend::wrap::throttle::Bandwidth;
use crate::base::cancel::Cancel;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::id::BackupId;
use crate::base::progress::Silent;
use crate::base::time::Clock;
use crate::base::time::SystemClock;
use crate::base::time::Timestamp;
use crate::config::connect::Settings;
use crate::config::remote::RemoteSettings;
use crate::config::secret::PASSWORD_VARIABLE;
use crate::config::secret::PasswordPlaces;
use crate::config::source_place::SourcePlace;
use crate::engine::Context;
use crate::engine::address;
use crate::engine::address::Version;
use crate::engine::backup;
use crate::engine::backup::BackupOptions;
use crate::engine::backup::BackupReport;
use crate::engine::restore;
use crate::engine::restore::RestoreOptions;
use crate::engine::restore::RestoreReport;
use crate::repository::Repository;
use crate::repository::open::CreateOptions;
use crate::source::filter::Filter;
use crate::source::filter::FilterOptions;
use crate::target::local::LocalTarget;
use std::path::Path;

fn settings(repository: &Path) -> Settings {
    Settings {
        location: Some(repository.as_os_str().to_owned()),
        password: PasswordPlaces {
            file: None,
            command: None,
            variable: PASSWORD_VARIABLE,
            configured: None,
        },
        cache: None,
        no_cache: false,
        bandwidth: Bandwidth::default(),
        remote: RemoteSettings::default(),
        cancel: Cancel::new(),
    }
}

fn open_or_create(settings: &Settings, now: Timestamp) -> Result<Repository> {
    match settings.open() {
        Err(e) if e.kind() == ErrorKind::NoRepository => {
            let password = settings.new_password(settings.needs_password()?)?;
            settings.create(&CreateOptions { password, ..CreateOptions::default() }, now)
        }
        other => other,
    }
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Makes the next backup of the folder `source`; the dataset is named by the last part of its
/// path. A repository is made where there is none. With `full` a full index is written.
///
/// Without a change since the last backup none is made; the report says which.
///
/// # Errors
/// Those of [`backup::run`] and of opening the repository. Entries that could not be read stand
/// in the report.
///
/// ```
/// # let place = tempfile::tempdir().unwrap();
/// # let (repository, cats) = (place.path().join("backups"), place.path().join("cats"));
/// # std::fs::create_dir(&cats).unwrap();
/// std::fs::write(cats.join("tom"), "meow").unwrap();
/// let report = icecore::make_backup(&repository, &cats, false).unwrap();
/// assert_eq!(report.backup.to_string(), "backup_0");
/// assert_eq!(report.counts.added, 1);
/// ```
pub fn make_backup(
    repository: impl AsRef<Path>,
    source: impl AsRef<Path>,
    full: bool,
) -> Result<BackupReport> {
    let settings = settings(repository.as_ref());
    let place = SourcePlace::parse(source.as_ref().as_os_str())?;
    let name = place.default_dataset()?;
    let source = place.open(Filter::new(&FilterOptions::default())?, false, &settings)?;
    let opened = open_or_create(&settings, SystemClock.now())?;
    let options = BackupOptions { full, ..BackupOptions::default() };
    let cancel = Cancel::new();
    let context =
        Context { progress: &Silent, cancel: &cancel, clock: &SystemClock, threads: threads() };
    backup::run(&opened, &name, &*source, &options, &context)
}

/// Brings a backup of `dataset` back into the folder `out_folder`, which must be empty or new:
/// the one numbered `backup_id`, else the last one at or before `before`, else the newest.
///
/// # Errors
/// Those of [`restore::run`] and of opening the repository. Entries that could not be written
/// stand in the report.
///
/// ```
/// # let place = tempfile::tempdir().unwrap();
/// # let (repository, cats) = (place.path().join("backups"), place.path().join("cats"));
/// # let out = place.path().join("out");
/// # std::fs::create_dir(&cats).unwrap();
/// # std::fs::write(cats.join("tom"), "meow").unwrap();
/// # icecore::make_backup(&repository, &cats, false).unwrap();
/// let report = icecore::recover_backup(&repository, "cats", &out, None, None).unwrap();
/// assert_eq!(report.files, 1);
/// assert_eq!(std::fs::read(out.join("tom")).unwrap(), b"meow");
/// ```
pub fn recover_backup(
    repository: impl AsRef<Path>,
    dataset: &str,
    out_folder: impl AsRef<Path>,
    backup_id: Option<BackupId>,
    before: Option<Timestamp>,
) -> Result<RestoreReport> {
    let opened = settings(repository.as_ref()).open()?;
    let dataset = opened.dataset(&dataset.parse()?)?;
    let version = match (backup_id, before) {
        (Some(number), _) => Version::Number(number),
        (None, Some(time)) => Version::At(time),
        (None, None) => Version::default(),
    };
    let found = address::resolve(&dataset, &version)?;
    let snapshot = dataset.snapshot(&found.numbers, found.backup)?;
    let cancel = Cancel::new();
    let context =
        Context { progress: &Silent, cancel: &cancel, clock: &SystemClock, threads: threads() };
    let target = LocalTarget::new(out_folder.as_ref());
    restore::run(&snapshot, &target, &RestoreOptions::default(), &context)
}
