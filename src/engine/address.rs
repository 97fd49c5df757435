//! What a person types for a backup, and which one that is: `DATASET[@VERSION][:PATH]`.
//!
//! Names of datasets hold neither `@` nor `:`, so the first of the two ends the name. Times hold
//! colons themselves: of what follows the `@`, the longest beginning that ends at a colon and
//! reads as a version is the version. `photos@2026-11-20 14:00:05` is a second, and a path of
//! `05` is written `photos@2026-11-20 14:00:/05`.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::id::BackupId;
use crate::base::path::EntryPath;
use crate::base::path::display;
use crate::base::time::Timestamp;
use crate::base::time::parse_until;
use crate::base::words::counted;
use crate::format::dataset::DatasetName;
use crate::repository::datasets::Backup;
use crate::repository::datasets::Dataset;
use crate::repository::datasets::Numbers;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Component;
use std::path::Path;
use std::sync::Arc;

/// No version is longer: a time with nanoseconds and a zone has 35 bytes.
const VERSION_BYTES_MAX: usize = 64;

/// Which backup of a dataset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// The one of this number.
    Number(BackupId),
    /// So many visible backups before the newest.
    Latest(u64),
    /// The last one at or before a time.
    At(Timestamp),
}

impl Default for Version {
    fn default() -> Self {
        Version::Latest(0)
    }
}

impl Version {
    /// Reads `3`, `backup_3`, `latest`, `latest~2` or a time, ages being counted from `now`.
    ///
    /// # Errors
    /// `InvalidInput` when it is none of these.
    pub fn parse(text: &str, now: Timestamp) -> Result<Self> {
        if let Ok(number) = text.parse() {
            return Ok(Version::Number(number));
        }
        if let Some(back) = text.strip_prefix("latest") {
            return match back.strip_prefix('~').map(str::parse::<BackupId>) {
                None if back.is_empty() => Ok(Version::Latest(0)),
                Some(Ok(count)) if !back.contains('_') => Ok(Version::Latest(count.0)),
                _ => Err(no_version(text)),
            };
        }
        parse_until(text, now).map(Version::At).map_err(|_| no_version(text))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Version::Number(number) => write!(f, "{}", number.0),
            Version::Latest(0) => f.write_str("latest"),
            Version::Latest(back) => write!(f, "latest~{back}"),
            Version::At(time) => f.write_str(&time.to_local_text()),
        }
    }
}

fn no_version(text: &str) -> Error {
    Error::invalid(format!("{text:?} is no version of a backup")).hint(
        "write a number as in `photos@3`, `photos@latest~1`, or a time as in \
         `photos@2026-11-20` or `photos@2h`",
    )
}

/// A backup as a person names it, maybe with a path in it.
///
/// ```
/// use icecore::base::id::BackupId;
/// use icecore::base::time::Timestamp;
/// use icecore::engine::address::{BackupAddress, Version};
/// let address = BackupAddress::parse(b"photos@3:2024/may", Timestamp::new(0, 0)).unwrap();
/// assert_eq!(address.dataset.as_str(), "photos");
/// assert_eq!(address.version, Version::Number(BackupId(3)));
/// assert_eq!(address.path.to_string(), "2024/may");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupAddress {
    /// The dataset.
    pub dataset: DatasetName,
    /// Which of its backups.
    pub version: Version,
    /// Whether the version was written out, and is not the default.
    pub has_version: bool,
    /// What in it; the root when nothing is said.
    pub path: EntryPath,
}

impl BackupAddress {
    /// Reads an address; ages are counted from `now`.
    ///
    /// # Errors
    /// `InvalidInput` with the part that makes no sense.
    pub fn parse(text: &[u8], now: Timestamp) -> Result<Self> {
        let end = text.iter().position(|byte| matches!(byte, b'@' | b':')).unwrap_or(text.len());
        let dataset = utf8(&text[..end])?.parse()?;
        let (version, path) = match text[end..].split_first() {
            None => (None, &[][..]),
            Some((b':', path)) => (None, path),
            Some((_, rest)) => {
                let (version, path) = split_version(rest, now)?;
                (Some(version), path)
            }
        };
        Ok(BackupAddress {
            dataset,
            version: version.unwrap_or_default(),
            has_version: version.is_some(),
            path: parse_path(path)?,
        })
    }
}

impl fmt::Display for BackupAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.dataset, self.version)?;
        if self.path.is_root() { Ok(()) } else { write!(f, ":{}", self.path) }
    }
}

fn utf8(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|_| {
        Error::invalid(format!("{} is no name of a dataset: it is not UTF-8", display(bytes)))
    })
}

/// Splits what follows the `@` into version and path.
fn split_version(rest: &[u8], now: Timestamp) -> Result<(Version, &[u8])> {
    if let Some((quoted, after)) = split_quoted(rest) {
        let version = Version::parse(utf8(quoted)?, now)?;
        return match after.split_first() {
            None => Ok((version, after)),
            Some((b':', path)) => Ok((version, path)),
            Some(_) => Err(no_version(&display(rest))),
        };
    }
    let colons = rest.iter().take(VERSION_BYTES_MAX).enumerate().filter(|(_, b)| **b == b':');
    let mut ends: Vec<usize> = colons.map(|(at, _)| at).collect();
    ends.push(rest.len());
    for &end in ends.iter().rev().filter(|&&end| end <= VERSION_BYTES_MAX) {
        let version = std::str::from_utf8(&rest[..end]).ok().map(|text| Version::parse(text, now));
        if let Some(Ok(version)) = version {
            let path = rest.get(end + 1..).unwrap_or_default();
            // Minutes, and behind them neither seconds nor a path: `14:00:60`, `14:00:05 CET`.
            let has_minutes_alone = rest[..end].iter().filter(|&&byte| byte == b':').count() == 1;
            if has_minutes_alone
                && matches!(version, Version::At(_))
                && path.first().is_some_and(u8::is_ascii_digit)
            {
                let error = no_version(&display(rest));
                return Err(error.hint("a path that begins with a digit is written `:/05`"));
            }
            return Ok((version, path));
        }
    }
    // A wrong time of day is no time with a path behind it: `2026-11-22 25:00`.
    let behind = rest.get(ends[0] + 1..).unwrap_or_default();
    let is_of_day = behind.first().is_some_and(u8::is_ascii_digit) && !behind.contains(&b'/');
    Err(no_version(&display(if is_of_day { rest } else { &rest[..ends[0]] })))
}

/// Quotes that a shell would have taken away, from where there is none.
fn split_quoted(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let inside = rest.strip_prefix(b"\"")?;
    let end = inside.iter().position(|&byte| byte == b'"')?;
    Some((&inside[..end], &inside[end + 1..]))
}

/// Reads a path in a backup as a person types it: slashes at both ends and `.` are passed over.
///
/// # Errors
/// `InvalidInput` for `..` and what no path can hold.
pub fn parse_path(bytes: &[u8]) -> Result<EntryPath> {
    let parts = bytes.split(|&byte| byte == b'/');
    let parts: Vec<&[u8]> = parts.filter(|part| !matches!(*part, b"" | b".")).collect();
    EntryPath::new(&parts.join(&b'/'))
}

/// Returns the name a dataset gets from the path of its source: the last part.
///
/// # Errors
/// `InvalidInput` when there is none, or when it cannot be a name.
pub fn default_dataset(source: &Path) -> Result<DatasetName> {
    let hint = "`--dataset NAME` sets a name";
    let Some(Component::Normal(name)) = source.components().next_back() else {
        let shown = display(source.as_os_str().as_bytes());
        return Err(Error::invalid(format!("{shown} has no name for a dataset")).hint(hint));
    };
    let name = utf8(name.as_bytes()).map_err(|e| e.hint(hint))?;
    name.parse()
}

/// A backup that was named and found.
pub struct Resolved {
    /// The backup.
    pub backup: Arc<Backup>,
    /// The numbers that were listed to find it: what its snapshot is made with.
    pub numbers: Numbers,
    /// A note for the person who asked.
    pub note: Option<String>,
}

/// Returns the backup that a version stands for, among those that were not forgotten.
///
/// # Errors
/// `NotFound` that names what there is; those of the backend.
pub fn resolve(dataset: &Dataset, version: &Version) -> Result<Resolved> {
    let numbers = list_for(dataset, &[version])?;
    let (backup, note) = resolve_among(dataset, &numbers, version)?;
    Ok(Resolved { backup, numbers, note })
}

/// Lists as many numbers of a dataset as are needed to tell which backups some versions are.
///
/// # Errors
/// Those of the backend.
pub fn list_for(dataset: &Dataset, versions: &[&Version]) -> Result<Numbers> {
    // A backup that is named by its number is found beside others that are missing.
    let is_number = |version: &&Version| matches!(version, Version::Number(_));
    match versions {
        _ if versions.iter().all(|version| **version == Version::Latest(0)) => {
            dataset.newest_numbers()
        }
        _ if versions.iter().all(is_number) => dataset.shown_numbers(),
        _ => dataset.all_numbers(),
    }
}

/// Returns the backup that a version stands for, and maybe a note, among numbers that
/// [`list_for`] has listed for it.
///
/// # Errors
/// Those of [`resolve`].
pub fn resolve_among(
    dataset: &Dataset,
    numbers: &Numbers,
    version: &Version,
) -> Result<(Arc<Backup>, Option<String>)> {
    match version {
        Version::Number(number) => Ok((by_number(dataset, numbers, *number)?, None)),
        Version::Latest(0) => {
            let newest = dataset.newest(numbers)?;
            newest.map(|backup| (Arc::new(backup), None)).ok_or_else(|| empty(dataset))
        }
        Version::Latest(back) => Ok((before_latest(dataset, numbers, *back)?, None)),
        Version::At(time) => at_or_before(dataset, numbers, *time),
    }
}

fn by_number(dataset: &Dataset, numbers: &Numbers, number: BackupId) -> Result<Arc<Backup>> {
    if let Some(backup) = dataset.backup(numbers, number)? {
        return Ok(Arc::new(backup));
    }
    let name = dataset.name();
    if numbers.is_hidden(number) {
        return Err(not_found(format!("{number} of {name} was forgotten"), dataset));
    }
    match dataset.newest(numbers)? {
        None => Err(empty(dataset)),
        Some(newest) => {
            let newest = newest.header.number;
            Err(not_found(format!("{name} has no {number}; its newest is {newest}"), dataset))
        }
    }
}

fn before_latest(dataset: &Dataset, numbers: &Numbers, back: u64) -> Result<Arc<Backup>> {
    let mut seen = 0;
    for n in numbers.iter().rev() {
        let Some(backup) = dataset.backup(numbers, n)? else { continue };
        if seen == back {
            return Ok(Arc::new(backup));
        }
        seen += 1;
    }
    if seen == 0 {
        return Err(empty(dataset));
    }
    let backups = counted(seen, "backup", "backups");
    let message = format!("{} has only {backups}", dataset.name());
    Err(not_found(message, dataset))
}

/// The highest number counts, not the latest time: a clock that went wrong once must not hide
/// the backups after it.
fn at_or_before(
    dataset: &Dataset,
    numbers: &Numbers,
    time: Timestamp,
) -> Result<(Arc<Backup>, Option<String>)> {
    let backups = dataset.backups_among(numbers)?;
    let Some(first) = backups.first() else { return Err(empty(dataset)) };
    let Some(found) = backups.iter().rfind(|backup| backup.header.started <= time) else {
        let message = format!(
            "{} has no backup at or before {}; its first is {} of {}",
            dataset.name(),
            time.to_local_text(),
            first.header.number,
            first.header.started.to_local_text()
        );
        return Err(not_found(message, dataset));
    };
    let note = backups.windows(2).find(|pair| pair[1].header.started < pair[0].header.started).map(
        |pair| {
            format!(
                "the times of {}'s backups do not ascend: {} is of {}, and {} of {}; \
                 of those at or before {} the highest number is taken: {}",
                dataset.name(),
                pair[0].header.number,
                pair[0].header.started.to_local_text(),
                pair[1].header.number,
                pair[1].header.started.to_local_text(),
                time.to_local_text(),
                found.header.number
            )
        },
    );
    Ok((Arc::clone(found), note))
}

fn empty(dataset: &Dataset) -> Error {
    let message = format!("{} has no backups", dataset.name());
    Error::new(ErrorKind::NotFound, message).hint("`icecore backup` makes one")
}

fn not_found(message: String, dataset: &Dataset) -> Error {
    let hint = format!("`icecore list {}` shows its backups", dataset.name());
    Error::new(ErrorKind::NotFound, message).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::new(1_800_000_000, 0);

    fn parse(text: &str) -> BackupAddress {
        BackupAddress::parse(text.as_bytes(), NOW).expect(text)
    }

    fn parts(text: &str) -> (String, Version, String) {
        let address = parse(text);
        (address.dataset.to_string(), address.version, address.path.to_string())
    }

    fn at(text: &str) -> Version {
        Version::At(parse_until(text, NOW).expect("a time"))
    }

    #[test]
    fn versions_are_numbers_places_or_times() {
        assert_eq!(parse("photos").version, Version::Latest(0));
        assert!(!parse("photos").has_version);
        assert!(parse("photos@latest").has_version);
        assert_eq!(parse("photos@3").version, Version::Number(BackupId(3)));
        assert_eq!(parse("photos@backup_3").version, Version::Number(BackupId(3)));
        assert_eq!(parse("photos@latest~2").version, Version::Latest(2));
        assert_eq!(parse("photos@2026-11-20").version, at("2026-11-20"));
        assert_eq!(parse("photos@2h").version, at("2h"));
    }

    #[test]
    fn colons_of_times_are_told_from_the_one_before_a_path() {
        let minute = "2026-11-20 14:00";
        let second = "2026-11-20 14:00:05";
        let zoned = "2026-11-20T14:00:05+01:00";
        for (text, version, path) in [
            ("p@2026-11-20 14:00", minute, ""),
            ("p@2026-11-20 14:00:a/b", minute, "a/b"),
            ("p@2026-11-20 14:00:05", second, ""),
            ("p@2026-11-20 14:00:/05", minute, "05"),
            ("p@2026-11-20 14:00:05:a:b", second, "a:b"),
            ("p@2026-11-20 14:00:05:05", second, "05"),
            ("p@2026-11-20T14:00:05+01:00:a", zoned, "a"),
            ("p@\"2026-11-20 14:00\":05", minute, "05"),
            ("p@2026-11-20:14:00", "2026-11-20", "14:00"),
        ] {
            assert_eq!(parts(text), ("p".into(), at(version), path.into()), "{text}");
        }
        for bad in ["p@2026-11-20 14:00:60", "p@2026-11-20 14:00:05 CET"] {
            assert!(BackupAddress::parse(bad.as_bytes(), NOW).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_first_at_or_colon_ends_the_name() {
        assert_eq!(parts("p:a@3"), ("p".into(), Version::Latest(0), "a@3".into()));
        assert_eq!(parts("p@3:a@4:b"), ("p".into(), Version::Number(BackupId(3)), "a@4:b".into()));
        assert_eq!(parts("p@3:4"), ("p".into(), Version::Number(BackupId(3)), "4".into()));
        assert_eq!(parts("p:/a//./b/"), ("p".into(), Version::Latest(0), "a/b".into()));
    }

    #[test]
    fn paths_are_bytes_and_names_are_not() {
        let address = BackupAddress::parse(b"p@1:a\xff", NOW).expect("parses");
        assert_eq!(address.path.as_bytes(), b"a\xff");
        assert!(BackupAddress::parse(b"p\xff", NOW).is_err());
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in [
            "",
            "@3",
            ":a",
            "p@",
            "p@:a",
            "p@x",
            "p@latest~",
            "p@latest~x",
            "p@latestish",
            "p@latest~backup_1",
            "p@-1",
            "p:../x",
            "a/b",
            "p@\"3\"a",
        ] {
            let error = BackupAddress::parse(bad.as_bytes(), NOW).expect_err(bad);
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{bad}");
        }
    }

    #[test]
    fn a_dataset_is_named_by_the_last_part_of_the_path() {
        let name = |path: &str| default_dataset(Path::new(path)).map(|name| name.to_string());
        assert_eq!(name("/home/a/photos/").expect("a name"), "photos");
        assert_eq!(name("photos").expect("a name"), "photos");
        for bad in ["/", "..", "/a/b:c", "/a/@"] {
            assert_eq!(name(bad).expect_err(bad).kind(), ErrorKind::InvalidInput);
        }
    }
}
