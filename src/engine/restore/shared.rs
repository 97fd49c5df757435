//! Files of several names that stand in the target as the backup has them: they are read, and
//! nothing is written.
//!
//! This grows with the number of such files, as the first names of files do.

use crate::base::error::Result;
use crate::base::path::EntryPath;
use crate::engine::restore::links::Name;
use crate::engine::restore::verify;
use crate::engine::restore::walk::Walker;
use crate::engine::restore::work::stops;
use crate::format::entry::Entry;
use crate::format::entry::FileNode;
use crate::target::TargetEntry;
use std::collections::HashMap;

/// Which files of the target were kept, by the numbers of the names they were kept under first.
pub(super) type Shared = HashMap<(u64, u64), usize>;

impl Walker<'_, '_> {
    /// Says whether what stands at a name of a file is that file, with the content of the backup
    /// and under the names that came before.
    ///
    /// # Errors
    /// What concerns more than one entry.
    pub(super) fn is_same(
        &mut self,
        entry: &Entry,
        name: Name,
        there: &TargetEntry,
    ) -> Result<bool> {
        let (Some(file), Some(identity)) = (entry.file(), there.identity) else {
            return Ok(false);
        };
        if let Some(&known) = self.shared.get(&identity) {
            return self.links.is_one(known, name, entry, self.selection);
        }
        // To open it must not change its mode.
        let opens_as_it_is = there.metadata.mode & 0o600 == 0o600;
        if there.size != file.size
            || !opens_as_it_is
            || self.links.first_of(name, entry, self.selection)?.is_some()
        {
            return Ok(false);
        }
        let is_same = match self.holds(&entry.path, file) {
            Err(e) if stops(&e) => return Err(e),
            // What cannot be read is replaced, or reported when that fails.
            holds => holds.unwrap_or(false),
        };
        if is_same {
            let number = self.links.keep(name, &entry.path);
            self.shared.insert(identity, number);
            if !self.work.is_dry {
                self.links.lead(number);
            }
        }
        Ok(is_same)
    }

    fn holds(&mut self, path: &EntryPath, file: &FileNode) -> Result<bool> {
        let work = self.work;
        let writer = self.writer()?;
        writer.open_file(path)?;
        let differs = verify::compare(work, writer, &mut Vec::new(), file);
        writer.close_file()?;
        Ok(differs?.is_none())
    }
}
