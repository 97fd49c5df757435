//! What a scan saw of entries, kept for a reader that comes to them soon.

use crate::base::limits::REMOTE_LOOKS_MAX;
use crate::base::path::EntryPath;
use std::collections::HashMap;
use std::collections::VecDeque;

/// What was seen last, by path; the oldest goes where there are too many.
#[derive(Debug)]
pub(super) struct Looks<L> {
    by_path: HashMap<EntryPath, L>,
    order: VecDeque<EntryPath>,
}

impl<L> Default for Looks<L> {
    fn default() -> Self {
        Looks { by_path: HashMap::new(), order: VecDeque::new() }
    }
}

impl<L> Looks<L> {
    pub(super) fn get(&self, path: &EntryPath) -> Option<&L> {
        self.by_path.get(path)
    }

    pub(super) fn put(&mut self, path: &EntryPath, look: L) {
        if self.by_path.insert(path.clone(), look).is_none() {
            self.order.push_back(path.clone());
        }
        while self.order.len() > REMOTE_LOOKS_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.by_path.remove(&oldest);
            }
        }
    }

    pub(super) fn remove(&mut self, path: &EntryPath) {
        self.by_path.remove(path);
    }
}
