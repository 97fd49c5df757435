//! What is said of a backup after it was made: that it is forgotten, and how it is tagged.
//!
//! Headers are never written again. Each remark is an object of its own beside the header; of
//! tags the highest revision counts, of a marker that it is there.

use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::id::BackupId;
use crate::base::time::Timestamp;
use crate::codec::frame::ObjectKind;
use crate::format::dataset::HiddenRecord;
use crate::format::dataset::TagsRecord;
use crate::repository::datasets::Dataset;
use crate::repository::layout;

impl Dataset {
    /// Forgets a backup: puts its marker, and nothing else. That somebody else has done so before
    /// is success as well.
    ///
    /// # Errors
    /// Those of the backend; the backup is still visible then, unless only the reply was lost.
    pub fn hide(&self, number: BackupId, now: Timestamp) -> Result<()> {
        let record = HiddenRecord { number: number.0, written: now };
        let key = layout::hidden(&self.id(), number)?;
        // Whose marker it is does not matter: all of them say the same.
        match self.repository().store().put_first(ObjectKind::Hidden, &key, &record) {
            // A prune was quicker than the look at the marker, and has taken it away with its
            // header.
            Err(e) if is_gone(&e) && self.is_retired(number)? => Ok(()),
            put => put.map(drop),
        }
    }

    /// Puts a revision of a backup's tags; returns false when somebody else was quicker, with tags
    /// of his own or by taking the backup away.
    ///
    /// Without an atomic create one of two changes made at the very same moment may be lost.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn put_tags(&self, revision: u64, record: &TagsRecord) -> Result<bool> {
        let key = layout::tags(&self.id(), BackupId(record.number), revision)?;
        match self.repository().store().put_first(ObjectKind::Tags, &key, record) {
            Err(e) if is_gone(&e) && self.is_retired(BackupId(record.number))? => Ok(false),
            put => put,
        }
    }
}

/// Says whether an error may tell no more than that an object was taken away.
fn is_gone(error: &Error) -> bool {
    error.kind().is_unreadable()
}
