//! Files of several names that stand in the target as the backup has them: they are read, and
//! nothing is written.
//!
//! This grows with the number of such files, as the first names of files do.

use crate::base::error::Result;
use crate::base::path::EntryPath;
use crate::engine::restore::verify;
use crate::engine::restore::walk::Walker;
use crate::engine::restore::work::stops;
use crate::format::entry::FileNode;
use crate::target::TargetEntry;
use std::collections::HashMap;

/// Which file of the target each group of names stands for, of those that were kept.
pub(super) type Shared = HashMap<(u64, u64), u64>;

impl Walker<'_, '_> {
    /// Says whether what stands at a name of a file is that file, with the content of the backup
    /// and under the names that came before.
    ///
    /// # Errors
    /// What concerns more than one entry.
    pub(super) fn is_same(
        &mut self,
        path: &EntryPath,
        file: &FileNode,
        there: &TargetEntry,
    ) -> Result<bool> {
        let (Some(group), Some(identity)) = (file.hard_link, there.identity) else {
            return Ok(false);
        };
        if let Some(known) = self.shared.get(&identity) {
            return Ok(*known == group);
        }
        // To open it must not change its mode.
        let opens_as_it_is = there.metadata.mode & 0o600 == 0o600;
        if self.links.has(group) || there.size != file.size || !opens_as_it_is {
            return Ok(false);
        }
        let is_same = match self.holds(path, file) {
            Err(e) if stops(&e) => return Err(e),
            // What cannot be read is replaced, or reported when that fails.
            holds => holds.unwrap_or(false),
        };
        if is_same {
            self.shared.insert(identity, group);
            if !self.work.options.dry_run {
                self.links.remember(group, path);
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
