//! The folder that a run works in.

use crate::support::environment;
use std::fs;
use std::io;
use std::mem;
use std::ops::Deref;
use std::path::Path;
use std::path::PathBuf;

/// A folder of this run. It goes with the value, in a panic as well.
#[derive(Debug)]
pub(crate) struct Work(PathBuf);

impl Work {
    /// Makes an empty one in `ICECORE_BENCH_DIR`, or in memory; takes away those of runs that are
    /// gone, as what was stopped from outside leaves its own.
    pub(crate) fn make(bench: &str) -> io::Result<Self> {
        let place = environment::dir();
        let prefix = format!("icecore-bench-{bench}-");
        for entry in fs::read_dir(&place)?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let number = name.strip_prefix(&prefix).and_then(|pid| pid.parse::<u32>().ok());
            let is_gone = number.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists());
            if is_gone && fs::remove_dir_all(entry.path()).is_ok() {
                println!("removed {}, of a run that is gone", entry.path().display());
            }
        }
        let folder = place.join(format!("{prefix}{}", std::process::id()));
        fs::create_dir(&folder)?;
        Ok(Work(folder))
    }

    /// Leaves the folder there, by a name that no later run takes away, and returns where it is.
    pub(crate) fn keep(self) -> io::Result<PathBuf> {
        let kept = self.with_extension("kept");
        fs::rename(&*self, &kept)?;
        mem::forget(self);
        Ok(kept)
    }
}

impl Deref for Work {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if let Err(e) = fs::remove_dir_all(&self.0) {
            println!("cannot remove {}: {e}", self.0.display());
        }
    }
}
