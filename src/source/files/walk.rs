//! The sorted walk: folders are listed ahead by a few sessions, items come out in order.
//!
//! Memory: the lists of the folders from the root to the current one, and those read ahead, which
//! hold [`REMOTE_AHEAD_ENTRIES`] entries and one folder for each lister.

use crate::base::cancel::Cancel;
use crate::base::limits::REMOTE_AHEAD_ENTRIES;
use crate::base::limits::REMOTE_LISTERS_MAX;
use crate::net::files::Look;
use crate::source::ScanItem;
use crate::source::SourceEntry;
use crate::source::ahead::Ahead;
use crate::source::ahead::Bounds;
use crate::source::files::Inner;
use crate::source::files::list::Lister;
use crate::source::files::list::Listing;
use crate::source::files::list::Task;
use std::sync::Arc;

/// The iterator over everything below a source's root.
pub(super) struct Walk {
    inner: Arc<Inner>,
    ahead: Ahead<Lister>,
    root: Option<SourceEntry>,
    /// The folder whose entry was handed out last and whose list comes next.
    entering: Option<Task>,
    /// The folders from the root to the current one.
    levels: Vec<Listing>,
}

impl Walk {
    /// Starts a walk whose first item is `root`.
    pub(super) fn start(
        inner: &Arc<Inner>,
        root: SourceEntry,
        look: &Look,
        cancel: &Cancel,
    ) -> Self {
        let threads = (inner.pool.sessions_max() / 2).min(REMOTE_LISTERS_MAX);
        let bounds = Bounds { threads, entries: REMOTE_AHEAD_ENTRIES };
        Walk {
            inner: Arc::clone(inner),
            ahead: Ahead::start(|| Lister(Arc::clone(inner)), bounds, cancel),
            entering: Some(Task::root(look)),
            root: Some(root),
            levels: Vec::new(),
        }
    }
}

impl Iterator for Walk {
    type Item = ScanItem;

    fn next(&mut self) -> Option<ScanItem> {
        if self.ahead.is_stopped() {
            return None;
        }
        if let Some(root) = self.root.take() {
            return Some(ScanItem::Entry(root));
        }
        if let Some(task) = self.entering.take() {
            match self.ahead.obtain(&task) {
                Ok(listing) => self.levels.push(listing),
                Err(_) if self.ahead.is_stopped() => return None,
                Err(error) => return Some(ScanItem::Failed(task.folder, error)),
            }
        }
        while let Some(listing) = self.levels.last_mut() {
            let Some(found) = listing.found.pop_front() else {
                self.levels.pop();
                continue;
            };
            if found.enter {
                self.entering = Some(listing.task(&found));
            }
            if let Some(look) = found.look {
                self.inner.looks().put(found.item.path(), look);
            }
            return Some(found.item);
        }
        None
    }
}
