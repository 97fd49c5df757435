//! What is kept locally between runs; all of it can be thrown away at any time.
//!
//! A cache may say where to look, never that something is there. Every file carries a checksum,
//! and is named by what it stands for; a file that does not verify counts as absent.

use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::hash;
use crate::base::id::RepositoryId;
use crate::base::id::to_hex;
use crate::base::mapped::Mapped;
use crate::base::sys;
use std::ffi::OsString;
use std::fs;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;

/// Bytes of the checksum that each file ends in.
pub(super) const CHECKSUM_BYTES: usize = 32;

/// Where caches are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CachePlace {
    /// A folder that stays; each repository has a folder of its own in it.
    Kept(PathBuf),
    /// A folder below this one for this run only.
    Scratch(PathBuf),
}

/// Returns the error of a part of the cache that a run cannot do without.
pub(in crate::repository) fn cannot_write(what: &str, cause: std::io::Error) -> Error {
    Error::io(format!("cannot write the cache of {what}"), cause)
        .hint("`--cache-dir DIR` names a cache folder on a disk with room")
}

/// Folders in the cache of one repository.
const FOLDERS: [&str; 6] = ["index", "snapshots", "names", "seen", "looks", "tables"];
/// Folder beside the caches: what was learned of servers.
pub const SERVERS_FOLDER: &str = "servers";
/// Folder beside the caches: which places held an encrypted repository.
pub const SEALED_FOLDER: &str = "sealed";
/// The file that says who adds to the index of names. It is empty, and removing it would make
/// two believe that they do.
const LOCK_FILE: &str = "lock";

/// The cache folder of one repository.
#[derive(Debug)]
pub struct Cache {
    folder: PathBuf,
    is_scratch: bool,
}

impl Cache {
    /// Opens the cache of a repository, making its folder.
    ///
    /// # Errors
    /// When neither the place nor, for a kept one, anything else can be written.
    pub fn open(place: &CachePlace, repository: &RepositoryId) -> Result<Self> {
        let (folder, is_scratch) = match place {
            CachePlace::Kept(base) => (base.join(repository.to_string()), false),
            CachePlace::Scratch(base) => {
                let unique: [u8; 8] = sys::random()?;
                (base.join(format!("icecore-{}", to_hex(&unique))), true)
            }
        };
        for below in [""].into_iter().chain(FOLDERS) {
            sys::make_private_folder(&folder.join(below)).map_err(|e| {
                e.hint("`--cache-dir DIR` names another cache folder, `--no-cache` uses none")
            })?;
        }
        Ok(Cache { folder, is_scratch })
    }

    /// Returns the path of a file in the cache.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Writes a file with its checksum, atomically. A cache that cannot be written is no error:
    /// the next run is slower. What was there before stays then, as after a run that died.
    pub fn write(&self, name: &str, content: &[u8]) {
        let path = self.path(name);
        let Ok(temporary) = temporary_beside(&path) else { return };
        let written = sys::create_private(&temporary).and_then(|mut file| {
            file.write_all(content)?;
            file.write_all(&hash::hash(content))?;
            drop(file);
            fs::rename(&temporary, &path)
        });
        if written.is_err() {
            // On a full disk it would take the little room that is left, and stay for ever.
            let _ = fs::remove_file(&temporary);
        }
    }

    /// Returns the content of a file, or None when it is absent or does not verify.
    pub fn read(&self, name: &str) -> Option<Vec<u8>> {
        let mut bytes = fs::read(self.path(name)).ok()?;
        let length = bytes.len().checked_sub(CHECKSUM_BYTES)?;
        if hash::hash(&bytes[..length]) != bytes[length..] {
            return None;
        }
        bytes.truncate(length);
        Some(bytes)
    }

    /// Maps the content of a file, or None when it is absent or does not verify. The checksum
    /// stays at the end of the map.
    pub fn map(&self, name: &str) -> Option<Mapped> {
        let file = File::open(self.path(name)).ok()?;
        let mapped = Mapped::open(&file).ok()?;
        let length = mapped.len().checked_sub(CHECKSUM_BYTES)?;
        (hash::hash(&mapped[..length]) == mapped[length..]).then_some(mapped)
    }

    /// Removes a file.
    pub fn remove(&self, name: &str) {
        let _ = fs::remove_file(self.path(name));
    }

    /// Returns the names of the files in a folder of the cache.
    pub fn list(&self, folder: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path(folder)) else { return Vec::new() };
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }
}

/// What was thrown away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cleared {
    /// How many repositories it was of.
    pub repositories: u64,
    /// How many files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Throws away what is kept below `base` of one repository, or of all.
///
/// Only plain files are removed, and only where a cache keeps its own; links are not followed,
/// and whatever else lies there stays. The empty folders stay as well: a run that is at work
/// goes on writing into them, and what it has open it keeps.
///
/// # Errors
/// Those of the system; a file or folder that is gone is none.
pub fn clear(base: &Path, only: Option<&RepositoryId>) -> Result<Cleared> {
    let mut cleared = Cleared::default();
    if only.is_none() {
        for folder in [SERVERS_FOLDER, SEALED_FOLDER] {
            clear_folder(&base.join(folder), &mut cleared)?;
        }
    }
    for (name, is_folder) in look_into(base)? {
        let id = name.to_str().and_then(|name| name.parse::<RepositoryId>().ok());
        let is_meant = id.is_some_and(|id| only.is_none_or(|only| *only == id));
        if !is_folder || !is_meant {
            continue;
        }
        let before = cleared.files;
        let cache = base.join(&name);
        for (folder, is_folder) in look_into(&cache)? {
            if is_folder && FOLDERS.iter().any(|known| folder == *known) {
                clear_folder(&cache.join(&folder), &mut cleared)?;
            }
        }
        cleared.repositories += u64::from(cleared.files > before);
    }
    Ok(cleared)
}

fn clear_folder(folder: &Path, cleared: &mut Cleared) -> Result<()> {
    for (name, is_folder) in look_into(folder)? {
        if !is_folder && name != LOCK_FILE {
            remove_file(&folder.join(name), cleared)?;
        }
    }
    Ok(())
}

/// Returns the names in a folder and whether they are folders, links not followed.
fn look_into(folder: &Path) -> Result<Vec<(OsString, bool)>> {
    let cannot = |e| Error::io(format!("cannot list the cache {}", folder.display()), e);
    let entries = match fs::read_dir(folder) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(cannot)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(cannot)?;
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        names.push((entry.file_name(), is_folder));
    }
    Ok(names)
}

/// Removes a plain file; anything else, and one that is gone, is passed over.
fn remove_file(path: &Path, cleared: &mut Cleared) -> Result<()> {
    let Some(metadata) = fs::symlink_metadata(path).ok().filter(fs::Metadata::is_file) else {
        return Ok(());
    };
    match fs::remove_file(path) {
        Ok(()) => {
            cleared.files += 1;
            cleared.bytes += metadata.len();
            Ok(())
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(Error::io(format!("cannot remove {} from the cache", path.display()), e)),
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        if self.is_scratch {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

fn temporary_beside(path: &Path) -> std::io::Result<PathBuf> {
    let unique: [u8; 8] = sys::random().map_err(std::io::Error::other)?;
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.tmp", to_hex(&unique)));
    Ok(name.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_file_counts_as_absent() {
        let place = tempfile::tempdir().expect("a folder");
        let kept = CachePlace::Kept(place.path().into());
        let cache = Cache::open(&kept, &RepositoryId::new([1; 16])).expect("opens");
        cache.write("seen/x", b"content");
        assert_eq!(cache.read("seen/x").as_deref(), Some(&b"content"[..]));
        assert_eq!(&cache.map("seen/x").expect("there")[..7], b"content");
        fs::write(cache.path("seen/x"), b"other content of some length, long enough").expect("w");
        assert_eq!(cache.read("seen/x"), None);
        assert!(cache.map("seen/x").is_none());
    }

    #[test]
    fn what_cannot_be_written_leaves_what_was_there_and_nothing_else() {
        let place = tempfile::tempdir().expect("a folder");
        let kept = CachePlace::Kept(place.path().into());
        let cache = Cache::open(&kept, &RepositoryId::new([1; 16])).expect("opens");
        cache.write("seen/x", b"content");
        // The last step fails: a folder stands where the file is to be.
        fs::create_dir(cache.path("seen/y")).expect("a folder");
        cache.write("seen/y", b"content");
        cache.write("nowhere/z", b"content");
        let mut left = cache.list("seen");
        left.sort();
        assert_eq!(left, ["x", "y"]);
        assert_eq!(cache.read("seen/x").as_deref(), Some(&b"content"[..]));
    }

    #[test]
    fn clearing_touches_nothing_but_caches() {
        let place = tempfile::tempdir().expect("a folder");
        let base = place.path().join("caches");
        let (one, two) = (RepositoryId::new([1; 16]), RepositoryId::new([2; 16]));
        let kept = CachePlace::Kept(base.clone());
        for id in [&one, &two] {
            let cache = Cache::open(&kept, id).expect("opens");
            cache.write("seen/x", b"12345");
            cache.write("seen/packs", b"12345");
            fs::write(cache.path("names/lock"), b"").expect("write");
        }
        let outside = place.path().join("outside");
        let of_one = base.join(one.to_string());
        let foreign =
            [base.join("notes"), of_one.join("notes"), of_one.join("seen/deep"), outside.clone()];
        for folder in &foreign {
            fs::create_dir(folder).expect("a folder");
            fs::write(folder.join("precious"), b"x").expect("write");
        }
        fs::write(of_one.join("file"), b"x").expect("write");
        let link = |path: &str, to: &Path| std::os::unix::fs::symlink(to, base.join(path));
        link(&RepositoryId::new([3; 16]).to_string(), &outside).expect("a link");
        link(&format!("{one}/seen/link"), &outside.join("precious")).expect("a link");
        fs::remove_dir(of_one.join("index")).expect("empty");
        link(&format!("{one}/index"), &outside).expect("a link");

        let cleared = clear(&base, Some(&one)).expect("clears");
        assert_eq!(cleared, Cleared { repositories: 1, files: 2, bytes: 2 * (5 + 32) });
        assert!(base.join(two.to_string()).join("seen/x").exists());
        let cleared = clear(&base, None).expect("clears");
        assert_eq!(cleared, Cleared { repositories: 1, files: 2, bytes: 2 * (5 + 32) });
        assert_eq!(clear(&base, None).expect("clears"), Cleared::default());
        assert_eq!(clear(&base.join("none"), None).expect("clears"), Cleared::default());

        for folder in &foreign {
            assert!(folder.join("precious").exists(), "{folder:?}");
        }
        assert!(of_one.join("file").exists() && of_one.join("names/lock").exists());
        assert!(of_one.join("seen/link").is_symlink());
    }

    #[test]
    fn a_scratch_cache_leaves_nothing() {
        let place = tempfile::tempdir().expect("a folder");
        let scratch = CachePlace::Scratch(place.path().into());
        drop(Cache::open(&scratch, &RepositoryId::new([1; 16])).expect("opens"));
        assert_eq!(fs::read_dir(place.path()).expect("list").count(), 0);
    }
}
