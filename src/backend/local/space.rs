//! Space: a reserve for a prune on a full disk, what dead writers have left, and what is nobody's.

use crate::backend::KEYS;
use crate::backend::foreign::is_of_a_system;
use crate::backend::foreign::is_random;
use crate::backend::local::LocalBackend;
use crate::backend::local::RESERVE;
use crate::backend::local::TEMPORARY;
use crate::backend::local::Taken;
use crate::backend::local::disk::DiskKind;
use crate::backend::local::failed;
use crate::backend::local::sync_folder;
use crate::base::error::Result;
use crate::base::limits::MIB;
use crate::base::path::display;
use crate::base::sys;
use crate::base::time::Timestamp;
use std::io::ErrorKind as Io;
use std::os::unix::ffi::OsStrExt;

/// Enough for the tombstone, void and floor objects of a prune, small beside any repository.
const RESERVE_BYTES: usize = MIB;
/// A temporary file this old, in seconds, has no writer any more; one that lives after all finds
/// its file gone and fails.
const LEFTOVER_SECONDS: f64 = 24.0 * 3600.0;

impl LocalBackend {
    /// Sets a little space aside, unless it is there already. A prune that finds the disk full
    /// calls [`give_up_reserve`](Self::give_up_reserve), so that it can write what it must write
    /// before it may delete, and calls this again when it is done.
    ///
    /// # Errors
    /// Those of `put`.
    pub fn create_reserve(&self) -> Result<()> {
        let place = self.root.join(RESERVE);
        if self.disk.look(&place).is_ok() {
            return Ok(());
        }
        // Random, as a file system may compress zeros to nothing.
        let mut bytes = vec![0; RESERVE_BYTES];
        sys::fill_random(&mut bytes)?;
        self.write_into(&place, &bytes, Taken::Replace)?;
        sync_folder(&*self.disk, self.root.path())
    }

    /// Gives the space up, and says whether there was any.
    ///
    /// # Errors
    /// As the file system says.
    pub fn give_up_reserve(&self) -> Result<bool> {
        let place = self.root.join(RESERVE);
        match self.disk.remove(&place) {
            Ok(()) => sync_folder(&*self.disk, self.root.path()).map(|()| true),
            Err(e) if e.kind() == Io::NotFound => Ok(false),
            Err(e) => Err(failed("remove", &place, e)),
        }
    }

    /// Returns the name of something that was there before any repository.
    pub(super) fn foreign_name(&self) -> Result<Option<String>> {
        let path = self.root.path();
        for name in self.disk.names(path).map_err(|e| failed("list", path, e))? {
            let found = match name.to_str() {
                Some(folder @ (TEMPORARY | KEYS)) => self.foreign_in(folder)?,
                _ if is_of_a_system(name.as_bytes()) => None,
                _ => Some(display(name.as_bytes())),
            };
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Looks for what has no name of ours in a folder that has one.
    fn foreign_in(&self, folder: &str) -> Result<Option<String>> {
        let path = self.root.join(folder);
        let names = match self.disk.names(&path) {
            Ok(names) => names,
            Err(e) if e.kind() == Io::NotFound => return Ok(None),
            Err(e) if e.kind() == Io::NotADirectory => return Ok(Some(folder.to_owned())),
            Err(e) => return Err(failed("list", &path, e)),
        };
        let may_be_there = |name: &[u8]| is_random(name) || is_of_a_system(name);
        let foreign = names.iter().find(|name| !may_be_there(name.as_bytes()));
        Ok(foreign.map(|name| format!("{folder}/{}", display(name.as_bytes()))))
    }

    /// Returns the time by the file system's clock.
    fn store_time(&self) -> Result<Timestamp> {
        let path = self.write_temporary(b"")?;
        let look = self.disk.look(&path);
        // A file that stays is garbage, where garbage may lie.
        let _ = self.disk.remove(&path);
        look.map(|look| look.modified).map_err(|e| failed("look at", &path, e))
    }

    /// Removes temporary files that are over a day old by the file system's clock. Returns how
    /// many bytes that freed.
    ///
    /// # Errors
    /// As the file system says.
    pub(super) fn sweep_leftovers(&self) -> Result<u64> {
        let now = self.store_time()?;
        let folder = self.root.join(TEMPORARY);
        let names = self.disk.names(&folder).map_err(|e| failed("list", &folder, e))?;
        let mut freed = 0;
        for path in names.iter().map(|name| folder.join(name)) {
            // One that is gone or that cannot be looked at is left to its writer.
            let Ok(look) = self.disk.look(&path) else { continue };
            let is_old = now.seconds_since(look.modified) > LEFTOVER_SECONDS;
            if look.kind == DiskKind::File && is_old && self.disk.remove(&path).is_ok() {
                freed += look.size;
            }
        }
        Ok(freed)
    }
}
