//! The sorted walk: folders are listed ahead by a few threads, items come out in order.
//!
//! The folder that comes next in order is taken first. When the consumer arrives at a folder
//! that no thread has taken it lists it itself, so there is always progress, whatever the
//! bounds. Memory: the names of the folders from the root to the current one (up to
//! `STAT_BATCH` of each already looked at), and at most about [`READ_AHEAD_ENTRIES`] entries
//! read ahead plus one batch for each thread. A single huge folder costs its names, because
//! they are sorted. No thread outlives the walk.

use crate::base::cancel::Cancel;
use crate::base::error::Result;
use crate::base::path::EntryPath;
use crate::source::ScanItem;
use crate::source::SourceEntry;
use crate::source::filter::FolderRules;
use crate::source::local::Inner;
use crate::source::local::list::Lister;
use crate::source::local::list::Listing;
use crate::source::local::list::Stop;
use crate::source::local::list::Task;
use crate::source::local::list::bug;
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

/// Entries listed ahead of the consumer: some 4 MB, enough to keep the threads busy while the
/// consumer compares.
const READ_AHEAD_ENTRIES: usize = 16 * 1024;
/// Most threads that list ahead; a disk answers that many questions at once, and each may hold
/// as many handles as a tree is deep.
const WALKERS_MAX: usize = 8;

/// The iterator over everything below a source's root.
pub(super) struct Walk {
    shared: Arc<Shared>,
    walkers: Vec<JoinHandle<()>>,
    lister: Lister,
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

    /// Lets the walkers see the folders of a listing.
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
            if queue.entries < READ_AHEAD_ENTRIES
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
        queue.entries += listing.as_ref().map_or(0, Listing::len);
        queue.done.insert(folder, listing);
        self.done.notify_one();
    }
}

fn list_ahead(shared: &Shared, inner: Arc<Inner>) {
    let mut lister = Lister::new(inner);
    while let Some(task) = shared.take() {
        // The consumer waits for this very folder sooner or later, so an answer must come.
        let listing = catch_unwind(AssertUnwindSafe(|| lister.list(&task, &shared.stop)))
            .unwrap_or_else(|_| Err(bug(&task.folder)));
        shared.put(task.folder, listing);
    }
}

impl Walk {
    /// Starts a walk whose first item is `root`.
    pub(super) fn start(inner: &Arc<Inner>, root: SourceEntry, cancel: &Cancel) -> Self {
        let stop = Stop { cancel: cancel.clone(), ..Stop::default() };
        let shared = Arc::new(Shared { stop, ..Shared::default() });
        let wanted = std::thread::available_parallelism().map_or(1, usize::from);
        let spawn = |number: usize| {
            let shared = Arc::clone(&shared);
            let inner = Arc::clone(inner);
            let name = format!("walk-{number}");
            // A machine out of threads walks with fewer; the consumer alone is enough.
            std::thread::Builder::new().name(name).spawn(move || list_ahead(&shared, inner)).ok()
        };
        Walk {
            walkers: (0..wanted.min(WALKERS_MAX)).filter_map(spawn).collect(),
            lister: Lister::new(Arc::clone(inner)),
            shared,
            entering: Some(Task { folder: root.path.clone(), rules: FolderRules::none() }),
            root: Some(root),
            levels: Vec::new(),
        }
    }

    /// Returns the list of a folder: fetched from a walker, or made here when none took it.
    fn obtain(&mut self, task: &Task) -> Result<Listing> {
        let mut queue = self.shared.lock();
        if task.folder.is_root() || queue.waiting.remove(&task.folder).is_some() {
            drop(queue);
            let listing = self.lister.list(task, &self.shared.stop)?;
            self.shared.offer(&listing);
            return Ok(listing);
        }
        loop {
            if let Some(listing) = queue.done.remove(&task.folder) {
                queue.entries -= listing.as_ref().map_or(0, Listing::len);
                drop(queue);
                self.shared.work.notify_all();
                return listing;
            }
            queue = self.shared.done.wait(queue).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
    }

    /// Goes into the folder handed out last; gives an item only when that fails.
    fn enter(&mut self, task: &Task) -> Option<ScanItem> {
        match self.obtain(task) {
            Ok(listing) => {
                self.levels.push(listing);
                None
            }
            Err(error) => Some(ScanItem::Failed(task.folder.clone(), error)),
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
        if let Some(task) = self.entering.take()
            && let Some(failure) = self.enter(&task)
        {
            return Some(failure);
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
                self.lister.extend(listing, &self.shared.stop);
                self.shared.offer(listing);
            }
        }
        None
    }
}

impl Drop for Walk {
    fn drop(&mut self) {
        self.shared.stop.ended.store(true, Ordering::Relaxed);
        // Under the lock, so that no walker checks before and waits after.
        drop(self.shared.lock());
        self.shared.work.notify_all();
        for walker in self.walkers.drain(..) {
            let _panicked = walker.join().is_err();
        }
    }
}
