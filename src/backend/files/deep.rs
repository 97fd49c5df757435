//! All objects below a folder, listed by several sessions at a time: with two hex digits between a
//! top folder and its objects there may be 256 folders, and each costs round trips.

use crate::backend::Listed;
use crate::backend::ObjectInfo;
use crate::backend::files::FilesBackend;
use crate::backend::key::FolderKey;
use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::limits::REMOTE_NAMES_MAX;
use crate::base::threads::at_once;
use std::sync::Mutex;
use std::sync::PoisonError;

/// Folders for which it is worth to log in once more: a login costs as much as some listings.
const FOLDERS_PER_SESSION: usize = 8;

impl FilesBackend {
    /// Returns every object below a folder.
    pub(super) fn list_below(&self, folder: &FolderKey) -> Result<Vec<ObjectInfo>> {
        let mut objects = Vec::new();
        let mut level = vec![folder.clone()];
        while !level.is_empty() {
            let mut next = Vec::new();
            for row in self.rows_of_all(level)? {
                match row {
                    Listed::Object(object) => objects.push(object),
                    Listed::Folder(below) => next.push(below),
                }
            }
            if objects.len() + next.len() > REMOTE_NAMES_MAX {
                return Err(Error::corrupt(format!("the list of {folder} does not end")));
            }
            level = next;
        }
        objects.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        Ok(objects)
    }

    /// Lists folders that are side by side.
    fn rows_of_all(&self, folders: Vec<FolderKey>) -> Result<Vec<Listed>> {
        let sessions = folders.len().div_ceil(FOLDERS_PER_SESSION).min(self.pool.sessions_max());
        let left = Mutex::new(folders.into_iter());
        let gathered = Mutex::new(Ok(Vec::new()));
        let work = || {
            loop {
                let next = left.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some(folder) = next else { return };
                let rows = self.pool.repeatable(|files| self.rows(files, &folder));
                let mut all = gathered.lock().unwrap_or_else(PoisonError::into_inner);
                match (rows, &mut *all) {
                    (Ok(rows), Ok(all)) => all.extend(rows),
                    (Err(e), Ok(_)) => *all = Err(e),
                    (_, Err(_)) => return,
                }
            }
        };
        at_once(sessions, work);
        gathered.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}
