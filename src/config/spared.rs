//! What a restore to a place leaves alone: the repository and the cache, which backups from there
//! leave out, so that to the restore they would be extra.
//!
//! Folders are told by device and inode from the one in question upwards, so links and second
//! mounts on the way to either make no difference. Places on servers are told by what is typed,
//! and by who logs in there.

use crate::base::error::Error;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::path::EntryPath;
use crate::base::path::display;
use crate::base::sys;
use crate::config::connect::Location;
use crate::config::connect::Settings;
use crate::engine::restore::Own;
use crate::engine::restore::Spared;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;

impl Settings {
    /// Returns what a restore to a place leaves alone in it.
    ///
    /// # Errors
    /// `InvalidInput` when the place is the repository, or in it, or is the cache; those of
    /// [`Location::parse`] and of credentials.
    pub fn spared(&self, target: &OsStr) -> Result<Vec<Spared>> {
        let repository = Location::parse(&self.place()?.location)?;
        match (Location::parse(target)?, repository) {
            (Location::Folder(target), repository) => {
                let mut spared = Vec::new();
                if let Location::Folder(repository) = repository {
                    if is_in(&target, &repository) {
                        return Err(refused(&shown(&target), Own::Repository));
                    }
                    spared.extend(spared_in(&target, &repository, Own::Repository));
                }
                // It stays also where this run does not use it, if it is there.
                let is_used = |cache: &PathBuf| !self.no_cache || cache.symlink_metadata().is_ok();
                if let Some(cache) = self.kept_cache_folder().ok().filter(is_used) {
                    spared.extend(spared_in(&target, &cache, Own::Cache));
                }
                if spared.iter().any(|spared| spared.path.is_root()) {
                    return Err(refused(&shown(&target), Own::Cache));
                }
                Ok(spared)
            }
            (Location::Remote(target), Location::Remote(repository)) => {
                if self.remote.within(&repository, &target)?.is_some() {
                    return Err(refused(&target.to_string(), Own::Repository));
                }
                let path = self.remote.within(&target, &repository)?;
                Ok(path.map(|path| Spared { path, what: Own::Repository }).into_iter().collect())
            }
            (Location::Remote(_), Location::Folder(_)) => Ok(Vec::new()),
        }
    }
}

fn shown(path: &Path) -> String {
    display(path.as_os_str().as_bytes())
}

fn refused(target: &str, what: Own) -> Error {
    let place = match what {
        Own::Repository => "it is the repository, or in it",
        Own::Cache => "it is the cache",
    };
    Error::invalid(format!("cannot restore to {target}: {place}")).at(Origin::Target)
}

fn is_in(other: &Path, folder: &Path) -> bool {
    below(folder, other).is_some()
}

fn spared_in(target: &Path, other: &Path, what: Own) -> Option<Spared> {
    let path = below(target, other)?;
    EntryPath::new(path.as_os_str().as_bytes()).ok().map(|path| Spared { path, what })
}

/// Returns where below a folder another one is, which need not be there yet.
fn below(folder: &Path, other: &Path) -> Option<PathBuf> {
    let numbers = |path: &Path| fs::metadata(path).map(|it| (it.dev(), it.ino())).ok();
    let (folder, other) = (real(folder), real(other));
    let own = numbers(&folder);
    let is_it = |above: &&Path| *above == folder || (own.is_some() && numbers(above) == own);
    let above = other.ancestors().find(is_it)?;
    other.strip_prefix(above).map(Path::to_path_buf).ok()
}

/// Returns where a path leads to, as far as something is there.
fn real(path: &Path) -> PathBuf {
    let whole = sys::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let found = whole.ancestors().find_map(|above| Some((above, fs::canonicalize(above).ok()?)));
    match found {
        Some((above, real)) => match whole.strip_prefix(above) {
            Ok(rest) if !rest.as_os_str().is_empty() => real.join(rest),
            _ => real,
        },
        None => whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_found_through_links_and_before_they_are_made() {
        let place = tempfile::tempdir().expect("a folder");
        let at = |below: &str| place.path().join(below);
        fs::create_dir_all(at("data/deep/repo")).expect("a folder");
        std::os::unix::fs::symlink("data/deep", at("short")).expect("a link");
        let found = |folder: &str, other: &str| below(&at(folder), &at(other));
        let deep = Some(PathBuf::from("deep/repo"));

        assert_eq!(found("data", "data/deep/repo"), deep);
        assert_eq!(found("data", "short/repo"), deep);
        assert_eq!(found("short", "data/deep/repo"), Some(PathBuf::from("repo")));
        assert_eq!(found("data", "short/new/repo"), Some(PathBuf::from("deep/new/repo")));
        assert_eq!(found("data/deep/repo", "short/repo"), Some(PathBuf::new()));
        assert_eq!(found("new", "new/repo"), Some(PathBuf::from("repo")));
        assert_eq!(found("data/deep/repo", "data"), None);
        assert_eq!(found("data/de", "data/deep/repo"), None);
    }
}
