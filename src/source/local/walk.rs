//! The sorted walk: folders are listed ahead by a few threads, items come out in order.
//!
//! Memory: the names of the folders from the root to the current one (up to `STAT_BATCH` of each
//! already looked at), and at most about [`READ_AHEAD_ENTRIES`] entries read ahead plus one batch
//! for each thread. A single huge folder costs its names, because they are sorted.

use crate::base::cancel::Cancel;
use crate::source::ScanItem;
use crate::source::SourceEntry;
use crate::source::ahead::Ahead;
use crate::source::ahead::Bounds;
use crate::source::filter::FolderRules;
use crate::source::local::Inner;
use crate::source::local::list::Lister;
use crate::source::local::list::Listing;
use crate::source::local::list::Task;
use std::sync::Arc;

/// Entries listed ahead of the consumer: some 4 MB, enough to keep the threads busy while the
/// consumer compares.
const READ_AHEAD_ENTRIES: usize = 16 * 1024;
/// Most threads that list ahead; a disk answers that many questions at once, and each may hold
/// as many handles as a tree is deep.
const WALKERS_MAX: usize = 8;

/// The iterator over everything below a source's root.
pub(super) struct Walk {
    ahead: Ahead<Lister>,
    root: Option<SourceEntry>,
    /// The folder whose entry was handed out last and whose list comes next.
    entering: Option<Task>,
    /// The folders from the root to the current one.
    levels: Vec<Listing>,
}

impl Walk {
    /// Starts a walk whose first item is `root`.
    pub(super) fn start(inner: &Arc<Inner>, root: SourceEntry, cancel: &Cancel) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let bounds = Bounds { threads: cores.min(WALKERS_MAX), entries: READ_AHEAD_ENTRIES };
        Walk {
            ahead: Ahead::start(|| Lister::new(Arc::clone(inner)), bounds, cancel),
            entering: Some(Task { folder: root.path.clone(), rules: FolderRules::none() }),
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
                Err(error) => return Some(ScanItem::Failed(task.folder, error)),
            }
        }
        while let Some(listing) = self.levels.last_mut() {
            if let Some(found) = listing.pop() {
                if found.enter {
                    self.entering = Some(listing.task(found.item.path().clone()));
                }
                return Some(found.item);
            }
            if !listing.has_more() {
                self.levels.pop();
            } else {
                self.ahead.extend(listing, Lister::extend);
            }
        }
        None
    }
}
