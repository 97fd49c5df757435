//! What is kept locally between runs; all of it can be thrown away at any time.
//!
//! A cache may say where to look, never that something is there. Every file carries a checksum,
//! and is named by what it stands for; a file that does not verify counts as absent.

use crate::base::error::Result;
use crate::base::hash;
use crate::base::id::RepositoryId;
use crate::base::id::to_hex;
use crate::base::mapped::Mapped;
use crate::base::sys;
use std::fs;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;

const CHECKSUM_BYTES: usize = 32;

/// Where caches are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CachePlace {
    /// A folder that stays; each repository has a folder of its own in it.
    Kept(PathBuf),
    /// A folder below this one for this run only.
    Scratch(PathBuf),
}

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
        for below in ["", "index", "snapshots", "names", "seen", "looks"] {
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
    /// the next run is slower.
    pub fn write(&self, name: &str, content: &[u8]) {
        let path = self.path(name);
        let written = temporary_beside(&path).and_then(|temporary| {
            let mut file = sys::create_private(&temporary)?;
            file.write_all(content)?;
            file.write_all(&hash::hash(content))?;
            drop(file);
            fs::rename(&temporary, &path)
        });
        if written.is_err() {
            let _ = fs::remove_file(&path);
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
    fn a_scratch_cache_leaves_nothing() {
        let place = tempfile::tempdir().expect("a folder");
        let scratch = CachePlace::Scratch(place.path().into());
        drop(Cache::open(&scratch, &RepositoryId::new([1; 16])).expect("opens"));
        assert_eq!(fs::read_dir(place.path()).expect("list").count(), 0);
    }
}
