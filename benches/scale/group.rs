//! A control group that bounds the memory of what runs in it, pages of files included, by either
//! version of the system's interface.

use crate::support::environment;
use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;

/// Where version 1 stands, and the name of its bound.
const FIRST: &str = "/sys/fs/cgroup/memory";
const FIRST_LIMIT: &str = "memory.limit_in_bytes";
const SECOND: &str = "/sys/fs/cgroup";
const SECOND_LIMIT: &str = "memory.max";

/// A group of this run; it goes with the value.
#[derive(Debug)]
pub(crate) struct Group {
    folder: PathBuf,
    limit: PathBuf,
}

impl Group {
    /// Makes one; says why where that is not possible.
    pub(crate) fn make(work: &Path) -> Result<Self, String> {
        let system = rustix::fs::statfs(work).map_err(|e| e.to_string())?;
        // What is written there counts to whoever writes it.
        if system.f_type == environment::TMPFS_MAGIC {
            return Err(format!("{} is memory, and would count", work.display()));
        }
        let name = format!("icecore-bench-{}", std::process::id());
        let (folder, limit) = place().ok_or("the system has none for memory")?;
        let folder = folder.join(name);
        fs::create_dir(&folder).map_err(|e| format!("cannot make one: {e}"))?;
        let group = Group { limit: folder.join(limit), folder };
        group.set(u64::from(u32::MAX)).map_err(|e| format!("cannot bound one: {e}"))?;
        Ok(group)
    }

    /// Bounds what runs in it from now on.
    pub(crate) fn set(&self, bytes: u64) -> io::Result<()> {
        fs::write(&self.limit, bytes.to_string())
    }

    /// Returns the file that takes in whoever writes its number there.
    pub(crate) fn members(&self) -> PathBuf {
        self.folder.join("cgroup.procs")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.folder);
    }
}

/// Returns the group that we are in, and the name of its bound.
fn place() -> Option<(PathBuf, &'static str)> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let first = own.lines().find_map(|line| line.split_once(":memory:/"));
    if let Some((_, below)) = first {
        return Some((Path::new(FIRST).join(below), FIRST_LIMIT));
    }
    let below = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let folder = Path::new(SECOND).join(below);
    let controllers = fs::read_to_string(folder.join("cgroup.controllers")).ok()?;
    let is_there = controllers.split_whitespace().any(|word| word == "memory");
    is_there.then_some((folder, SECOND_LIMIT))
}
