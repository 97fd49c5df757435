//! Older versions of objects as entries.
//!
//! All versions of an object but the one that a plain look at its key shows, and marks that it was
//! deleted, are files in a folder `NAME@versions` beside it. Each is named by when it was put and,
//! among those of one second, by its number from the oldest: `2026-11-21T10-00-00Z.0000.jpg`, a
//! mark `2026-11-21T11-00-00Z.0000.deleted`, without content. So the names go in the order of
//! time, stay as they are when there are new ones, and say to a person what they are. The attribute
//! `user.s3.version` has the name that the store gave; `user.s3.version-deleted` says that it is
//! a mark. The object itself has `user.s3.version` where it has older versions.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::path::EntryPath;
use crate::net::s3::listing::Depth;
use crate::net::s3::listing::VersionRow;
use crate::net::s3::xml::Version;
use crate::source::bucket::BucketSource;
use crate::source::bucket::Look;
use crate::source::bucket::at_source;
use crate::source::bucket::detection;
use crate::source::bucket::file;
use crate::source::bucket::list::Child;
use crate::source::bucket::whole_seconds;

/// What ends the name of the folder of an object's versions.
pub(super) const SUFFIX: &[u8] = b"@versions";
/// Longest ending of a name that is taken for one.
const EXTENSION_BYTES_MAX: usize = 12;

/// A version, as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) key: String,
    pub(super) version: Version,
}

/// Returns the folder of the versions of an object.
pub(super) fn folder_of(path: &EntryPath) -> Result<EntryPath> {
    let name = [path.name(), SUFFIX].concat();
    path.parent().unwrap_or_else(EntryPath::root).join(&name)
}

/// Returns entries for versions of one key, given newest first, the current one not among them.
pub(super) fn files(folder: &EntryPath, versions: &[Version]) -> Result<Vec<Child>> {
    let object_name = folder.name().strip_suffix(SUFFIX).unwrap_or_default();
    let extension = extension(object_name);
    let mut files = Vec::with_capacity(versions.len());
    let (mut last, mut number) = (None, 0_u64);
    for version in versions.iter().rev() {
        // Where a clock was set back the order counts, in which they came.
        let time = whole_seconds(version.object.modified);
        let time = last.map_or(time, |last| time.max(last));
        number = if last == Some(time) { number + 1 } else { 0 };
        last = Some(time);
        let when = time.to_rfc3339().replace(':', "-");
        let ending = if version.is_deletion { ".deleted" } else { extension };
        let path = folder.join(format!("{when}.{number:04}{ending}").as_bytes())?;
        let object = &version.object;
        let tells = detection(object.modified, &object.etag, Some(&version.version));
        let named = Named { key: object.key.clone(), version: version.clone() };
        let entry = Box::new(file(path, object.size, tells));
        files.push(Child::File(entry, Look::Version(named)));
    }
    // Years beyond four digits are not in order as text.
    files.sort_by(|one, other| one.path().cmp(other.path()));
    Ok(files)
}

fn extension(name: &[u8]) -> &str {
    let dot = name.iter().rposition(|&byte| byte == b'.').filter(|&dot| dot > 0);
    let extension = dot.map(|dot| &name[dot..]).unwrap_or_default();
    let fits = extension.len() <= EXTENSION_BYTES_MAX
        && extension.iter().skip(1).all(u8::is_ascii_alphanumeric);
    std::str::from_utf8(extension).ok().filter(|_| fits).unwrap_or_default()
}

impl BucketSource {
    /// Says whether there are older versions of the object at a path.
    pub(super) fn has_older(&self, path: &EntryPath) -> Result<bool> {
        let mut versions = self.versions_of(&self.key(path)?)?;
        older(&mut versions);
        Ok(!versions.is_empty())
    }

    /// Returns all versions of a key, newest first.
    pub(super) fn versions_of(&self, key: &str) -> Result<Vec<Version>> {
        let mut versions = Vec::new();
        let listed = self.client.list_versions(key, Depth::Folder, &mut |row| {
            match row {
                VersionRow::Version(version) if version.object.key == key => versions.push(version),
                // Keys that go on behind it.
                VersionRow::Version(_) => return Err(Error::cancelled()),
                VersionRow::Folder(_) => {}
            }
            Ok(())
        });
        match listed {
            Err(e) if e.kind() != ErrorKind::Cancelled => Err(at_source(e)),
            _ => Ok(versions),
        }
    }

    /// Finds a version again by the path that a scan gave it.
    pub(super) fn find_version(&self, path: &EntryPath) -> Result<Option<Named>> {
        let Some(folder) = path.parent() else { return Ok(None) };
        let Some(name) = folder.name().strip_suffix(SUFFIX) else { return Ok(None) };
        let Ok(object) = folder.parent().unwrap_or_else(EntryPath::root).join(name) else {
            return Ok(None);
        };
        let mut versions = self.versions_of(&self.key(&object)?)?;
        older(&mut versions);
        let files = files(&folder, &versions)?;
        let found = files.into_iter().find(|child| child.path() == path);
        Ok(found.and_then(|child| match child {
            Child::File(_, Look::Version(named)) => Some(named),
            _ => None,
        }))
    }
}

/// Takes the version out that a plain look at the key shows, if it is no mark, and returns it.
pub(super) fn older(versions: &mut Vec<Version>) -> Option<Version> {
    let is_current = |it: &Version| it.is_latest && !it.is_deletion;
    let at = versions.iter().position(is_current)?;
    Some(versions.remove(at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::Timestamp;
    use crate::net::s3::xml::Object;

    fn version(name: &str, seconds: i64, is_latest: bool, is_deletion: bool) -> Version {
        let modified = Some(Timestamp::new(seconds, 500));
        let object = Object { key: "a.jpg".into(), size: 1, modified, etag: "e".into() };
        Version { object, version: name.into(), is_latest, is_deletion }
    }

    #[test]
    fn names_go_in_the_order_of_time() {
        let mut versions: Vec<Version> = (0..12)
            .rev()
            .map(|number| version(&format!("v{number}"), 7, number == 11, false))
            .collect();
        versions.insert(1, version("gone", 7, false, true));
        versions.push(version("first", 5, false, false));
        assert_eq!(older(&mut versions).map(|it| it.version).as_deref(), Some("v11"));

        let folder = folder_of(&EntryPath::new(b"d/a.jpg").expect("a path")).expect("a folder");
        let files = files(&folder, &versions).expect("files");

        let shown: Vec<_> = files.iter().map(|child| child.path().to_string()).collect();
        assert_eq!(shown[0], "d/a.jpg@versions/1970-01-01T00-00-05Z.0000.jpg");
        assert_eq!(shown[1], "d/a.jpg@versions/1970-01-01T00-00-07Z.0000.jpg");
        assert!(shown.contains(&"d/a.jpg@versions/1970-01-01T00-00-07Z.0011.deleted".to_owned()));
        assert!(shown.is_sorted() && shown.len() == 13, "{shown:?}");
    }

    /// Two had one name, and one of them was lost without a word.
    #[test]
    fn names_are_apart_where_a_clock_was_set_back() {
        let versions = [(4, 6, true), (3, 5, false), (2, 7, false), (1, 5, false)];
        let versions = versions.map(|(number, seconds, is_deletion)| {
            version(&format!("v{number}"), seconds, is_deletion, is_deletion)
        });
        let folder = EntryPath::new(b"a.jpg@versions").expect("a path");

        let files = files(&folder, &versions).expect("files");

        let shown: Vec<_> =
            files.iter().map(|it| String::from_utf8_lossy(it.path().name())).collect();
        let names = ["05Z.0000.jpg", "07Z.0000.jpg", "07Z.0001.jpg", "07Z.0002.deleted"];
        assert_eq!(shown, names.map(|name| format!("1970-01-01T00-00-{name}")));
    }

    #[test]
    fn endings_are_short_and_plain() {
        for (name, ending) in
            [("a.tar.gz", ".gz"), ("a", ""), (".profile", ""), ("a.b c", ""), ("a.", ".")]
        {
            assert_eq!(extension(name.as_bytes()), ending, "{name}");
        }
        assert_eq!(extension(format!("a.{}", "x".repeat(50)).as_bytes()), "");
    }
}
