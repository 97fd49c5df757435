//! What a dry run has counted: what the committer of a backup would have.

use crate::engine::backup::unit::matters;
use crate::format::backup::Counts;
use crate::format::entry::Entry;
use crate::format::entry::EntryNode;
use crate::format::entry::TrackedEntry;

/// What was counted.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) counts: Counts,
    /// Rows that the manifest would have.
    pub(super) rows: u64,
    /// Whether anything but times of folders differs.
    pub(super) is_changed: bool,
}

impl Tally {
    pub(super) fn count(&mut self, entry: &Entry) {
        self.counts.entries += 1;
        self.counts.files += u64::from(!matches!(entry.node, EntryNode::Directory));
        self.counts.bytes += entry.size();
    }

    pub(super) fn put(&mut self, tracked: &TrackedEntry, before: Option<&TrackedEntry>) {
        self.count(&tracked.entry);
        let is_folder = matches!(tracked.entry.node, EntryNode::Directory);
        let Some(before) = before else {
            self.rows += 1;
            self.is_changed = true;
            self.counts.added += u64::from(!is_folder);
            return;
        };
        if before.entry == tracked.entry {
            return;
        }
        self.rows += 1;
        if matters(&before.entry, &tracked.entry) {
            self.is_changed = true;
            self.counts.modified += 1;
        }
    }

    pub(super) fn delete(&mut self, gone: &Entry) {
        self.rows += 1;
        self.is_changed = true;
        self.counts.deleted += u64::from(!matches!(gone.node, EntryNode::Directory));
    }
}
