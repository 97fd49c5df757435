//! What dead writers have left, and the reserve that a local backend may have set aside.

use crate::backend::files::FilesBackend;
use crate::backend::files::RESERVE;
use crate::backend::files::TEMPORARY;
use crate::backend::files::is_file;
use crate::backend::files::is_lost;
use crate::backend::files::random_name;
use crate::backend::files::way;
use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::limits::REMOTE_NAMES_MAX;
use crate::base::metadata::Kind;
use crate::base::time::Timestamp;
use crate::net::files::Files;
use crate::net::files::Found;
use crate::net::files::Look;
use crate::net::files::Precision;

/// What was written this long ago, in seconds, has no writer any more; one that lives after all
/// finds its file gone and fails.
const LEFTOVER_SECONDS: f64 = 24.0 * 3600.0;

/// Returns a time that ages can be told by.
fn time_of(look: &Look) -> Option<Timestamp> {
    look.modified.filter(|it| it.precision != Precision::Vague).map(|it| it.time)
}

impl FilesBackend {
    /// Gives the reserve up, if there is one.
    pub(super) fn give_up_reserve(&self) -> Result<bool> {
        self.check_writable()?;
        let place = self.path(RESERVE);
        self.pool.repeatable(|files| {
            let is_there = files.look_at(&place)?.as_ref().is_some_and(is_file);
            if is_there {
                files.remove(&place)?;
            }
            Ok(is_there)
        })
    }

    /// Returns the time by the server's clock, where it tells.
    fn server_time(&self, files: &mut dyn Files) -> Result<Option<Timestamp>> {
        let path = self.path(&random_name("")?);
        way::write(files, &path, b"")?;
        let look = files.look_at(&path)?;
        files.remove(&path)?;
        Ok(look.as_ref().and_then(time_of))
    }

    /// Removes what is in `tmp` and over a day old by the server's own clock. Returns how many
    /// bytes that freed. Nothing is removed where the server tells no times.
    pub(super) fn sweep_leftovers(&self) -> Result<u64> {
        self.check_writable()?;
        self.pool.repeatable(|files| {
            let temporary = self.path(TEMPORARY);
            way::make_folder(files, &temporary)?;
            let Some(now) = self.server_time(files)? else { return Ok(0) };
            let mut freed = 0_u64;
            for found in list(files, &temporary)? {
                let age = time_of(&found.look).map(|time| now.seconds_since(time));
                if age.is_none_or(|age| age <= LEFTOVER_SECONDS) {
                    continue;
                }
                let path = [&temporary, b"/".as_slice(), &found.name].concat();
                match sweep_one(files, &path, &found.look) {
                    Err(e) if is_lost(&e) => return Err(e),
                    // What cannot be removed is left to the next one.
                    outcome => freed = freed.saturating_add(outcome.unwrap_or(0)),
                }
            }
            Ok(freed)
        })
    }
}

fn list(files: &mut dyn Files, folder: &[u8]) -> Result<Vec<Found>> {
    let mut all = Vec::new();
    files.list(folder, &mut |found| {
        if all.len() >= REMOTE_NAMES_MAX {
            return Err(Error::new(ErrorKind::Corrupt, "the list of tmp does not end"));
        }
        all.push(found);
        Ok(())
    })?;
    Ok(all)
}

/// Removes a file, or a folder with the files directly in it.
fn sweep_one(files: &mut dyn Files, path: &[u8], look: &Look) -> Result<u64> {
    match look.kind {
        Kind::File => {
            files.remove(path)?;
            Ok(look.size.unwrap_or(0))
        }
        Kind::Directory => {
            let mut freed = 0_u64;
            for found in list(files, path)? {
                files.remove(&[path, b"/", &found.name].concat())?;
                freed = freed.saturating_add(found.look.size.unwrap_or(0));
            }
            files.remove_folder(path)?;
            Ok(freed)
        }
        Kind::Symlink | Kind::Fifo | Kind::CharDevice | Kind::BlockDevice | Kind::Socket => Ok(0),
    }
}
