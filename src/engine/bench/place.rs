//! A backup, one without changes, and a restore, in a folder of their own.
//!
//! The folder is removed when all is done, and when it is not: an error or an interruption goes
//! through the same end.

use crate::backend::local::LocalBackend;
use crate::base::cancel::Cancel;
use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::id::to_hex;
use crate::base::secret::Secret;
use crate::base::sys;
use crate::codec::key::Argon2Cost;
use crate::engine::Context;
use crate::engine::backup;
use crate::engine::backup::BackupOptions;
use crate::engine::backup::BackupReport;
use crate::engine::bench::BenchOptions;
use crate::engine::bench::Measured;
use crate::engine::bench::data::Numbers;
use crate::engine::list;
use crate::engine::restore;
use crate::engine::restore::RestoreOptions;
use crate::format::dataset::DatasetName;
use crate::repository::Repository;
use crate::repository::cache::CachePlace;
use crate::repository::open;
use crate::repository::open::CreateOptions;
use crate::source::local::LocalOptions;
use crate::source::local::LocalSource;
use crate::target::local::LocalTarget;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::UNIX_EPOCH;

/// Of so many files one is large, and holds half of the bytes with the others like it.
const SMALL_FOR_EACH_LARGE: u64 = 1_000;
/// Files in one folder.
const FILES_PER_FOLDER: u64 = 100;
/// The time of made-up files, in 2023.
const MADE_UP_AT: Duration = Duration::from_secs(1_700_000_000);
/// Bytes made up at a time.
const PIECE_BYTES: u64 = 1024 * 1024;
/// Opening the repository is not what is measured, and its password guards nothing.
const COST: Argon2Cost = Argon2Cost { memory_kib: 64, passes: 1, lanes: 1 };

/// A folder that is removed when dropped.
struct Place(PathBuf);

impl Place {
    fn new(below: &Path) -> Result<Self> {
        let unique: [u8; 8] = sys::random()?;
        let folder = below.join(format!("icecore-bench-{}", to_hex(&unique)));
        sys::make_private_folder(&folder)?;
        Ok(Place(folder))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Measures backup, backup without changes, and restore of a folder, or of files made up.
///
/// # Errors
/// `Cancelled`; those of the folders.
pub fn run(
    folder: Option<&Path>,
    below: &Path,
    options: &BenchOptions,
    context: &Context<'_>,
) -> Result<Vec<Measured>> {
    let place = Place::new(below)?;
    let made_up = place.0.join("source");
    if folder.is_none() {
        make_up(&made_up, options, context.cancel)?;
    }
    let excluded = vec![place.0.clone()];
    let reading = LocalOptions { excluded, ..LocalOptions::default() };
    let source = LocalSource::open(folder.unwrap_or(&made_up), reading)?;
    let repository = create(&place.0, context)?;
    let name: DatasetName = "bench".parse()?;
    let back_up = || backup::run(&repository, &name, &source, &BackupOptions::default(), context);
    let first = back_up()?;
    let second = back_up()?;
    let dataset = repository.dataset(&name)?;
    let newest = dataset.newest(&dataset.newest_numbers()?)?;
    let newest = newest.ok_or_else(|| Error::bug("the backup that was made is not there"))?;
    let snapshot = list::snapshot(&dataset, newest.into())?;
    let target = LocalTarget::new(&place.0.join("target"));
    // Whoever is not root cannot give files away, and that is no matter here.
    let plain = RestoreOptions { owner: false, ..RestoreOptions::default() };
    let restored = restore::run(&snapshot, &target, &plain, context)?;
    let restore = Measured {
        name: "restore".to_owned(),
        threads: context.threads,
        bytes: restored.bytes,
        files: Some(restored.files),
        stored_bytes: None,
        seconds: restored.seconds,
    };
    let unchanged = "backup without changes";
    Ok(vec![of("backup", &first, context), of(unchanged, &second, context), restore])
}

fn of(name: &str, report: &BackupReport, context: &Context<'_>) -> Measured {
    Measured {
        name: name.to_owned(),
        threads: context.threads,
        bytes: report.counts.bytes,
        files: Some(report.counts.files),
        stored_bytes: Some(report.counts.stored_bytes),
        seconds: report.seconds,
    }
}

fn create(place: &Path, context: &Context<'_>) -> Result<Repository> {
    let unique: [u8; 16] = sys::random()?;
    let password = Some(Secret::new(to_hex(&unique).into_bytes()));
    let options = CreateOptions { password, cost: COST, ..CreateOptions::default() };
    let backend = LocalBackend::create(&place.join("repository"))?;
    let cache = CachePlace::Kept(place.join("cache"));
    open::create(std::sync::Arc::new(backend), &options, &cache, context.clock.now())
}

/// Makes files up: most small, a few large; every other one text, the rest random.
fn make_up(folder: &Path, options: &BenchOptions, cancel: &Cancel) -> Result<()> {
    let mut numbers = Numbers::new(3);
    let large = options.files / SMALL_FOR_EACH_LARGE + 1;
    let small = options.files.saturating_sub(large);
    let small_bytes = (options.bytes / 2).checked_div(small).unwrap_or(0);
    let large_bytes = (options.bytes - small * small_bytes) / large;
    for n in 0..small + large {
        cancel.check()?;
        let below = folder.join(format!("{:04}", n / FILES_PER_FOLDER));
        sys::make_private_folder(&below)?;
        let path = below.join(format!("{n}.{}", if n % 2 == 0 { "txt" } else { "bin" }));
        // Sizes differ by up to half, and are right on average.
        let length = match n < small {
            true => small_bytes / 2 + numbers.draw() % (small_bytes + 1),
            false => large_bytes,
        };
        write(&path, n % 2 == 0, length, &mut numbers, cancel)?;
    }
    Ok(())
}

fn write(
    path: &Path,
    is_text: bool,
    length: u64,
    numbers: &mut Numbers,
    cancel: &Cancel,
) -> Result<()> {
    use std::io::Write;
    let failed = |e| Error::io(format!("cannot make up {}", path.display()), e);
    let mut file = fs::File::create(path).map_err(failed)?;
    let mut left = length;
    while left > 0 {
        cancel.check()?;
        let piece = left.min(PIECE_BYTES) as usize;
        let bytes = if is_text { numbers.text(piece) } else { numbers.noise(piece) };
        file.write_all(&bytes).map_err(failed)?;
        left -= piece as u64;
    }
    // What was written just now is read twice, and hardly anybody's files were.
    file.set_modified(UNIX_EPOCH + MADE_UP_AT).map_err(failed)
}
