//! Whether the folder that an entry lies in is in the archive. Where a link stands in its place,
//! whatever unpacks the archive may follow it, and write outside of where it was told to.

use crate::base::error::Error;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::path::EntryPath;
use crate::format::entry::Entry;
use crate::format::entry::EntryNode;

/// The folders that are open at a point of the sorted stream, each in the one before.
#[derive(Default)]
pub(super) struct OpenFolders(Vec<EntryPath>);

impl OpenFolders {
    /// Goes on to the next entry.
    ///
    /// # Errors
    /// `Corrupt` when the folder that it lies in did not come before it.
    pub(super) fn admit(&mut self, entry: &Entry) -> Result<()> {
        while self.0.pop_if(|folder| !entry.path.is_within(folder)).is_some() {}
        let above = self.0.last().map_or(&b""[..], |folder| folder.as_bytes());
        if entry.path.parent_bytes() != above {
            let why = "the folder it is in is no part of the backup";
            return Err(Error::corrupt(why).at(Origin::Repository));
        }
        if entry.node == EntryNode::Directory && !entry.path.is_root() {
            self.0.push(entry.path.clone());
        }
        Ok(())
    }
}
