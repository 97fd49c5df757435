//! What a child of the bench does through the library, so that its memory is its own.

use crate::sources::Content;
use crate::sources::Virtual;
use crate::support::Numbers;
use crate::support::text;
use crate::watch::megabytes;
use icecore::backend::wrap::throttle::Bandwidth;
use icecore::base::cancel::Cancel;
use icecore::base::error::ErrorKind;
use icecore::base::error::Result;
use icecore::base::id::BlobId;
use icecore::base::id::BlockId;
use icecore::base::id::RepositoryId;
use icecore::base::progress::Silent;
use icecore::base::time::Clock;
use icecore::base::time::SystemClock;
use icecore::config::connect::Settings;
use icecore::config::remote::RemoteSettings;
use icecore::config::secret::PASSWORD_VARIABLE;
use icecore::config::secret::PasswordPlaces;
use icecore::engine::Context;
use icecore::engine::backup;
use icecore::repository::cache::Cache;
use icecore::repository::cache::CachePlace;
use icecore::repository::names::NameIndex;
use icecore::repository::names::NamePlace;
use icecore::repository::open::CreateOptions;
use std::fs;
use std::path::Path;
use std::time::Instant;

const MIB: u64 = 1 << 20;
/// Names learned at a time, as a cold start does.
const NAMES_AT_ONCE: u64 = 64 << 10;
const NAMES_PER_BLOCK: u64 = 128;
const LOOK_UPS: u64 = 200_000;
const PRESENT: u64 = 1;
const ABSENT: u64 = 2;

/// Does one step: its name, how much, and the home of the run.
pub(crate) fn run(step: &str, count: u64, home: &Path) -> Result<String> {
    match step {
        "names-build" => names_build(count, home),
        "names-look" => names_look(count, home),
        "entries" => backup(home, &files(count, 64, Content::Unlike), None),
        "entries-half" => backup(home, &files(count / 2, 64, Content::Unlike), None),
        "packs-half" => backup(home, &files(count / 2, MIB, Content::Unlike), None),
        // The least that the config allows: every block closes its pack.
        "packs" => backup(home, &files(count, MIB, Content::Unlike), Some(1024)),
        "endless" => backup(home, &files(1, count, Content::Repeated), None),
        _ => Ok(format!("no such step: {step}")),
    }
}

fn files(files: u64, file_bytes: u64, content: Content) -> Virtual {
    let mut pattern = Vec::new();
    let length = if content == Content::Unlike { 4096 } else { MIB };
    text(&mut Numbers::new(7), length as usize, &mut pattern);
    Virtual { files, file_bytes, content, pattern }
}

/// Backs a source up into the repository of `home`, which is made where it is not.
fn backup(home: &Path, source: &Virtual, pack_bytes: Option<u32>) -> Result<String> {
    let settings = Settings {
        location: Some(home.join(".local/share/icecore").into()),
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
    };
    let repository = match settings.open() {
        Err(e) if e.kind() == ErrorKind::NoRepository => {
            let mut options =
                CreateOptions { password: settings.password.find()?, ..CreateOptions::default() };
            options.pack_bytes = pack_bytes.unwrap_or(options.pack_bytes);
            settings.create(&options, SystemClock.now())?
        }
        other => other?,
    };
    let cancel = Cancel::new();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let context = Context { progress: &Silent, cancel: &cancel, clock: &SystemClock, threads };
    let name = "virtual".parse()?;
    let report = backup::run(&repository, &name, source, &Default::default(), &context)?;
    Ok(format!("{:?}", report.kind))
}

fn names_cache(home: &Path) -> Result<Cache> {
    Cache::open(&CachePlace::Kept(home.join("names")), &RepositoryId::new([1; 16]))
}

fn names_build(count: u64, home: &Path) -> Result<String> {
    let cache = names_cache(home)?;
    let names = NameIndex::open(&cache)?;
    let mut numbers = Numbers::new(PRESENT);
    let mut made = 0;
    while made < count {
        let end = count.min(made + NAMES_AT_ONCE);
        let mut rows = Vec::new();
        for n in made..end {
            if n % NAMES_PER_BLOCK == 0 {
                let number = names.allocate();
                names.settle(number, &BlockId::new(Numbers::new(n).id()))?;
            }
            let at = NamePlace {
                number: (n / NAMES_PER_BLOCK) as u32,
                place: (n % NAMES_PER_BLOCK) as u32,
            };
            rows.push((BlobId::new(numbers.id()), at));
        }
        names.learn(&cache, rows)?;
        made = end;
    }
    names.save(&cache)?;
    let bytes = cache.list("names").iter().try_fold(0, |sum, file| {
        fs::metadata(cache.path(&format!("names/{file}"))).map(|metadata| sum + metadata.len())
    });
    let per_name = bytes.unwrap_or(0) as f64 / count as f64;
    Ok(format!("{per_name:.1} bytes a name in {} files", cache.list("names").len()))
}

/// Microseconds that this thread was on a processor.
fn cpu_microseconds() -> f64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split_whitespace().next().and_then(|n| n.parse().ok()).map_or(0.0, |n: f64| n / 1e3)
}

fn names_look(count: u64, home: &Path) -> Result<String> {
    let cache = names_cache(home)?;
    let asked = LOOK_UPS.min(count);
    let start = Instant::now();
    let names = NameIndex::open(&cache)?;
    let open = start.elapsed().as_secs_f64();
    let ((absent, absent_cpu), passed) =
        mean(&names, &mut Numbers::new(ABSENT), asked, count / asked);
    let ((present, present_cpu), found) =
        mean(&names, &mut Numbers::new(PRESENT), asked, count / asked);
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let (now, peak) = (megabytes(&status, "VmRSS:"), megabytes(&status, "VmHWM:"));
    let anonymous = megabytes(&status, "RssAnon:");
    let fits = open < 0.2 && absent < 10.0 && present < 10.0 && peak < 500.0 && found == asked;
    Ok(format!(
        "open {open:.3} s; a look-up of an absent name {absent:.2} us (CPU {absent_cpu:.2}), of a \
         present one {present:.2} us (CPU {present_cpu:.2}); {passed} absent and {found} present \
         of {asked} found; resident {now:.0} MB, at most {peak:.0}, anonymous {anonymous:.0}; \
         {}",
        if fits { "within the bounds" } else { "OUT OF BOUNDS" }
    ))
}

/// Looks up `asked` names, and makes so many more between two that are not asked for. Returns the
/// microseconds of one look-up and how many were found.
fn mean(names: &NameIndex, numbers: &mut Numbers, asked: u64, apart: u64) -> ((f64, f64), u64) {
    let wanted: Vec<BlobId> = (0..asked)
        .map(|_| {
            let wanted = BlobId::new(numbers.id());
            (1..apart).for_each(|_| (0..4).for_each(|_| _ = numbers.next()));
            wanted
        })
        .collect();
    let (start, start_cpu) = (Instant::now(), cpu_microseconds());
    let found = wanted.iter().filter(|blob| !names.find_kept(blob).is_empty()).count();
    let (passed, cpu) = (start.elapsed().as_secs_f64() * 1e6, cpu_microseconds() - start_cpu);
    ((passed / asked as f64, cpu / asked as f64), found as u64)
}
