//! The sorted walk: folders are listed ahead by a few sessions, items come out in order.
//!
//! The folder that comes next in order is taken first. When the consumer arrives at a folder that
//! nobody has taken it lists it itself, so there is always progress, whatever the bounds. Memory:
//! the lists of the folders from the root to the current one, and those read ahead, which hold
//! [`REMOTE_AHEAD_ENTRIES`] entries and one folder for each lister. No thread outlives the walk.

use crate::base::cancel::Cancel;
use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::limits::REMOTE_AHEAD_ENTRIES;
use crate::base::limits::REMOTE_LISTERS_MAX;
use crate::base::path::EntryPath;
use crate::net::files::Look;
use crate::source::ScanItem;
use crate::source::SourceEntry;
use crate::source::files::Inner;
use crate::source::files::ORIGIN;
use crate::source::files::list::Listing;
use crate::source::files::list::Stop;
use crate::source::files::list::Task;
use crate::source::files::list::list;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

/// The iterator over everything below a source's root.
pub(super) struct Walk {
    inner: Arc<Inner>,
    shared: Arc<Shared>,
    listers: Vec<JoinHandle<()>>,
    root: Option<SourceEntry>,
    /// The folder whose entry was handed out last and whose list comes next.
    entering: Option<Task>,
    /// The folders from the root to the current one.
    levels: Vec<Listing>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    stop: Stop,
    work: Condvar,
    done: Condvar,
}

#[derive(Default)]
struct Queue {
    /// Folders nobody has taken, in order.
    waiting: BTreeMap<EntryPath, Task>,
    /// Folders listed and not yet fetched by the consumer.
    done: HashMap<EntryPath, Result<Listing>>,
    /// Entries in `done`.
    entries: usize,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Lets the listers see the folders of a listing.
    fn offer(&self, listing: &Listing) {
        let mut tasks = listing.tasks().peekable();
        if tasks.peek().is_some() {
            self.lock().waiting.extend(tasks.map(|task| (task.folder.clone(), task)));
            self.work.notify_all();
        }
    }

    /// Waits for a folder to list; none when the walk ends.
    fn take(&self) -> Option<Task> {
        let mut queue = self.lock();
        loop {
            if self.stop.is_set() {
                return None;
            }
            if queue.entries < REMOTE_AHEAD_ENTRIES
                && let Some((_, task)) = queue.waiting.pop_first()
            {
                return Some(task);
            }
            queue = self.work.wait(queue).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
    }

    fn put(&self, folder: EntryPath, listing: Result<Listing>) {
        if let Ok(listing) = &listing {
            self.offer(listing);
        }
        let mut queue = self.lock();
        queue.entries += listing.as_ref().map_or(0, |listing| listing.found.len());
        queue.done.insert(folder, listing);
        self.done.notify_one();
    }
}

fn list_ahead(shared: &Shared, inner: &Inner) {
    while let Some(task) = shared.take() {
        // The consumer waits for this very folder sooner or later, so an answer must come.
        let listing = catch_unwind(AssertUnwindSafe(|| list(inner, &task, &shared.stop)));
        let listing = listing.unwrap_or_else(|_| {
            let folder = &task.folder;
            let message = format!("cannot list {folder}: the thread that did it panicked");
            Err(Error::bug(message).at(ORIGIN))
        });
        shared.put(task.folder, listing);
    }
}

impl Walk {
    /// Starts a walk whose first item is `root`.
    pub(super) fn start(
        inner: &Arc<Inner>,
        root: SourceEntry,
        look: &Look,
        cancel: &Cancel,
    ) -> Self {
        let stop = Stop { cancel: cancel.clone(), ..Stop::default() };
        let shared = Arc::new(Shared { stop, ..Shared::default() });
        let spawn = |number: usize| {
            let shared = Arc::clone(&shared);
            let inner = Arc::clone(inner);
            let name = format!("list-{number}");
            // A machine out of threads lists with fewer; the consumer alone is enough.
            std::thread::Builder::new().name(name).spawn(move || list_ahead(&shared, &inner)).ok()
        };
        let wanted = (inner.pool.sessions_max() / 2).min(REMOTE_LISTERS_MAX);
        Walk {
            inner: Arc::clone(inner),
            listers: (0..wanted).filter_map(spawn).collect(),
            shared,
            entering: Some(Task::root(look)),
            root: Some(root),
            levels: Vec::new(),
        }
    }

    /// Returns the list of a folder: fetched from a lister, or made here when none took it.
    fn obtain(&mut self, task: &Task) -> Result<Listing> {
        let mut queue = self.shared.lock();
        if task.folder.is_root() || queue.waiting.remove(&task.folder).is_some() {
            drop(queue);
            let listing = list(&self.inner, task, &self.shared.stop)?;
            self.shared.offer(&listing);
            return Ok(listing);
        }
        loop {
            if let Some(listing) = queue.done.remove(&task.folder) {
                queue.entries -= listing.as_ref().map_or(0, |listing| listing.found.len());
                drop(queue);
                self.shared.work.notify_all();
                return listing;
            }
            queue = self.shared.done.wait(queue).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
    }
}

impl Iterator for Walk {
    type Item = ScanItem;

    fn next(&mut self) -> Option<ScanItem> {
        if self.shared.stop.is_set() {
            return None;
        }
        if let Some(root) = self.root.take() {
            return Some(ScanItem::Entry(root));
        }
        if let Some(task) = self.entering.take() {
            match self.obtain(&task) {
                Ok(listing) => self.levels.push(listing),
                Err(_) if self.shared.stop.is_set() => return None,
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

impl Drop for Walk {
    fn drop(&mut self) {
        self.shared.stop.ended.store(true, Ordering::Relaxed);
        // Under the lock, so that no lister checks before and waits after.
        drop(self.shared.lock());
        self.shared.work.notify_all();
        for lister in self.listers.drain(..) {
            let _panicked = lister.join().is_err();
        }
    }
}
