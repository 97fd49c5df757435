//! A temporary folder that can be removed whatever a test put into it.

use std::path::Path;
use std::path::PathBuf;

/// Removed when dropped, also when what is in it is too deep or forbidden to its owner.
#[derive(Debug)]
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    /// Makes an empty folder.
    pub(crate) fn new() -> Self {
        Folder(tempfile::Builder::new().prefix("icecore-it-").tempdir().unwrap())
    }

    /// Makes an empty folder in memory where the machine has room for one there: for tests that
    /// write much and lose no power.
    pub(crate) fn in_memory() -> Self {
        let mut builder = tempfile::Builder::new();
        builder.prefix("icecore-it-");
        Folder(builder.tempdir_in("/dev/shm").or_else(|_| builder.tempdir()).unwrap())
    }

    /// Returns where it is.
    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !is_root() {
            let mut chmod = std::process::Command::new("chmod");
            let _ = chmod.args(["-R", "u+rwx"]).arg(self.0.path()).status();
        }
    }
}

/// Says whether the tests run as root, who is never denied anything.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Says on stderr that part of a test was left out, so that it can be counted in a log.
pub(crate) fn skipped(what: &str) {
    eprintln!("SKIPPED: {what}");
}

/// Returns all files below a folder, sorted; none when it is not there.
pub(crate) fn files_below(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.unwrap().path();
        match path.symlink_metadata().unwrap().is_dir() {
            true => found.extend(files_below(&path)),
            false => found.push(path),
        }
    }
    found.sort();
    found
}
