//! Folders listed ahead of a walk by a few threads.
//!
//! The folder that comes next in order is taken first. When the walk arrives at a folder that
//! nobody has taken it lists it itself, so there is always progress, whatever the bounds. No
//! thread outlives the walk.

use crate::base::cancel::Cancel;
use crate::base::error::Error;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::path::EntryPath;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

/// How long the walk waits for a listing before it looks whether it is to give up.
const LOOK_AROUND: Duration = Duration::from_millis(100);

/// Whether to give up: the walk was dropped, or somebody cancelled.
#[derive(Debug, Default)]
pub(super) struct Stop {
    ended: AtomicBool,
    cancel: Cancel,
}

impl Stop {
    pub(super) fn is_set(&self) -> bool {
        self.ended.load(Ordering::Relaxed) || self.cancel.is_cancelled()
    }
}

/// Lists the folders of one kind of source, for one thread.
pub(super) trait Lister: Send + 'static {
    /// A folder still to be listed.
    type Task: Send;
    /// What a folder holds.
    type Listing: Send;

    /// Lists a folder.
    fn list(&mut self, task: &Self::Task, stop: &Stop) -> Result<Self::Listing>;

    /// Returns the folder of a task.
    fn folder(task: &Self::Task) -> &EntryPath;

    /// Returns the folders of a listing to go into.
    fn tasks(listing: &Self::Listing) -> impl Iterator<Item = Self::Task>;

    /// Returns how many entries a listing holds.
    fn entries(listing: &Self::Listing) -> usize;
}

/// How much is listed ahead.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Threads beside the walk's own.
    pub(super) threads: usize,
    /// Entries after which no further folder is begun; each thread may be at one more.
    pub(super) entries: usize,
}

/// Folders listed ahead. Memory: the listings that nobody has fetched yet.
pub(super) struct Ahead<L: Lister> {
    own: L,
    shared: Arc<Shared<L>>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared<L: Lister> {
    queue: Mutex<Queue<L>>,
    entries_max: usize,
    stop: Stop,
    work: Condvar,
    done: Condvar,
}

struct Queue<L: Lister> {
    /// Folders nobody has taken, in order.
    waiting: BTreeMap<EntryPath, L::Task>,
    /// Folders listed and not yet fetched.
    done: HashMap<EntryPath, Result<L::Listing>>,
    /// Entries in `done`.
    entries: usize,
}

impl<L: Lister> Queue<L> {
    fn new() -> Self {
        Queue { waiting: BTreeMap::new(), done: HashMap::new(), entries: 0 }
    }
}

impl<L: Lister> Shared<L> {
    fn lock(&self) -> MutexGuard<'_, Queue<L>> {
        self.queue.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn offer(&self, listing: &L::Listing) {
        let mut tasks = L::tasks(listing).peekable();
        if tasks.peek().is_some() {
            self.lock().waiting.extend(tasks.map(|task| (L::folder(&task).clone(), task)));
            self.work.notify_all();
        }
    }

    /// Waits for a folder to list; none when the walk ends.
    fn take(&self) -> Option<L::Task> {
        let mut queue = self.lock();
        loop {
            if self.stop.is_set() {
                return None;
            }
            if queue.entries < self.entries_max
                && let Some((_, task)) = queue.waiting.pop_first()
            {
                return Some(task);
            }
            queue = self.work.wait(queue).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
    }

    fn put(&self, folder: EntryPath, listing: Result<L::Listing>) {
        if let Ok(listing) = &listing {
            self.offer(listing);
        }
        let mut queue = self.lock();
        queue.entries += listing.as_ref().map_or(0, L::entries);
        queue.done.insert(folder, listing);
        self.done.notify_one();
    }

    fn list_with(&self, mut lister: L) {
        while let Some(task) = self.take() {
            // The walk waits for this very folder sooner or later, so an answer must come.
            let listing = catch_unwind(AssertUnwindSafe(|| lister.list(&task, &self.stop)));
            let folder = L::folder(&task).clone();
            let listing = listing.unwrap_or_else(|_| {
                let message = format!("cannot list {folder}: the thread that did it panicked");
                Err(Error::bug(message).at(Origin::Source))
            });
            self.put(folder, listing);
        }
    }
}

impl<L: Lister> Ahead<L> {
    /// Starts the threads; each gets a lister of its own.
    pub(super) fn start(lister: impl Fn() -> L, bounds: Bounds, cancel: &Cancel) -> Self {
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue::new()),
            entries_max: bounds.entries,
            stop: Stop { cancel: cancel.clone(), ..Stop::default() },
            work: Condvar::new(),
            done: Condvar::new(),
        });
        let spawn = |number: usize| {
            let (shared, lister) = (Arc::clone(&shared), lister());
            let thread = std::thread::Builder::new().name(format!("list-{number}"));
            // A machine out of threads lists with fewer; the walk's own is enough.
            thread.spawn(move || shared.list_with(lister)).ok()
        };
        let threads = (0..bounds.threads).filter_map(spawn).collect();
        Ahead { own: lister(), threads, shared }
    }

    /// Says whether the walk is to give up.
    pub(super) fn is_stopped(&self) -> bool {
        self.shared.stop.is_set()
    }

    /// Returns the listing of a folder: fetched from a thread, or made here when none took it.
    ///
    /// # Errors
    /// Those of the lister; a bug when a thread panicked over it.
    pub(super) fn obtain(&mut self, task: &L::Task) -> Result<L::Listing> {
        let folder = L::folder(task);
        let mut queue = self.shared.lock();
        if folder.is_root() || queue.waiting.remove(folder).is_some() {
            drop(queue);
            let listing = self.own.list(task, &self.shared.stop)?;
            self.shared.offer(&listing);
            return Ok(listing);
        }
        loop {
            if let Some(listing) = queue.done.remove(folder) {
                queue.entries -= listing.as_ref().map_or(0, L::entries);
                drop(queue);
                self.shared.work.notify_all();
                return listing;
            }
            if self.shared.stop.is_set() {
                return Err(Error::cancelled());
            }
            let waited = self.shared.done.wait_timeout(queue, LOOK_AROUND);
            queue = waited.unwrap_or_else(|poisoned| poisoned.into_inner()).0;
        }
    }

    /// Lets the walk's own lister find more of a listing, and the threads see its folders.
    pub(super) fn extend(
        &mut self,
        listing: &mut L::Listing,
        more: impl FnOnce(&mut L, &mut L::Listing, &Stop),
    ) {
        more(&mut self.own, listing, &self.shared.stop);
        self.shared.offer(listing);
    }
}

impl<L: Lister> Drop for Ahead<L> {
    fn drop(&mut self) {
        self.shared.stop.ended.store(true, Ordering::Relaxed);
        // Under the lock, so that no thread checks before and waits after.
        drop(self.shared.lock());
        self.shared.work.notify_all();
        for thread in self.threads.drain(..) {
            let _panicked = thread.join().is_err();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::ErrorKind;

    /// A source of folders two deep, of which one makes its lister panic and one fails.
    struct Tricky;

    impl Lister for Tricky {
        type Task = EntryPath;
        type Listing = Vec<EntryPath>;

        fn list(&mut self, folder: &EntryPath, _: &Stop) -> Result<Vec<EntryPath>> {
            let below = |name: &str| folder.join(name.as_bytes()).expect("a path");
            match folder.to_string().as_str() {
                "" => Ok((0..40).map(|number| below(&format!("{number:02}"))).collect()),
                "13" => panic!("as told"),
                "14" => Err(Error::invalid("as told")),
                _ => Ok(Vec::new()),
            }
        }

        fn folder(task: &EntryPath) -> &EntryPath {
            task
        }

        fn tasks(listing: &Vec<EntryPath>) -> impl Iterator<Item = EntryPath> {
            listing.iter().cloned()
        }

        fn entries(listing: &Vec<EntryPath>) -> usize {
            1 + listing.len()
        }
    }

    #[test]
    fn every_folder_gets_an_answer_however_little_is_listed_ahead() {
        for (threads, entries) in [(0, 0), (3, 0), (1, 1), (3, 5), (3, 1000)] {
            let bounds = Bounds { threads, entries };
            let mut ahead = Ahead::start(|| Tricky, bounds, &Cancel::new());
            let folders = ahead.obtain(&EntryPath::root()).expect("the root");
            for (number, folder) in folders.iter().enumerate() {
                // What the walk's own thread panics over is its caller's.
                let listing = match number {
                    13 if threads == 0 || entries == 0 => continue,
                    13 => match catch_unwind(AssertUnwindSafe(|| ahead.obtain(folder))) {
                        Ok(listing) => listing,
                        Err(_) => continue,
                    },
                    _ => ahead.obtain(folder),
                };
                match number {
                    13 => assert_eq!(listing.expect_err("panics").kind(), ErrorKind::Bug),
                    14 => assert_eq!(listing.expect_err("fails").kind(), ErrorKind::InvalidInput),
                    _ => assert!(listing.expect("listed").is_empty()),
                }
            }
        }
    }

    #[test]
    fn who_waits_for_a_listing_that_nobody_makes_can_be_stopped() {
        let cancel = Cancel::new();
        let mut ahead = Ahead::start(|| Tricky, Bounds { threads: 1, entries: 1 }, &cancel);
        let nobody = EntryPath::new(b"nobody").expect("a path");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(2 * LOOK_AROUND);
                cancel.cancel();
            });
            let error = ahead.obtain(&nobody).expect_err("stopped");
            assert_eq!(error.kind(), ErrorKind::Cancelled);
        });
    }

    #[test]
    fn a_walk_that_is_left_ends_its_threads() {
        let cancel = Cancel::new();
        let mut ahead = Ahead::start(|| Tricky, Bounds { threads: 3, entries: 2 }, &cancel);
        ahead.obtain(&EntryPath::root()).expect("the root");
        assert!(!ahead.is_stopped());
        cancel.cancel();
        assert!(ahead.is_stopped());
    }
}
