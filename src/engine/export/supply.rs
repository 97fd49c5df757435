//! Decodes and verifies content ahead of the writer, on all threads.
//!
//! Every run that is going to be written is a job. A block that several of the runs in hand want
//! is decoded once; how much that is in memory is known at any time, so that the plan can wait.

use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::id::BlockId;
use crate::base::limits::BLOCK_BYTES_MAX;
use crate::base::panic::caught;
use crate::engine::restore::fetch;
use crate::format::entry::Run;
use crate::repository::Repository;
use crate::repository::blocks::Block;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::Weak;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::Sender;
use std::sync::mpsc::channel;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A block that is wanted, decoded by whoever comes first.
struct Slot {
    weight: u64,
    held: Arc<AtomicU64>,
    block: Mutex<Option<Arc<Block>>>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.held.fetch_sub(self.weight, Ordering::Relaxed);
    }
}

/// The bytes of a run, verified.
pub(super) struct Loaded {
    block: Arc<Block>,
    range: Range<usize>,
}

impl Loaded {
    /// Returns them.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.block.plain[self.range.clone()]
    }
}

/// A run on its way.
pub(super) struct Use {
    run: Run,
    slot: Arc<Slot>,
    outcome: Mutex<Option<Result<Loaded>>>,
    ready: Condvar,
}

impl Use {
    /// Waits until the run is decoded and verified.
    ///
    /// # Errors
    /// When no copy of its block is good.
    pub(super) fn wait(&self) -> Result<Loaded> {
        let outcome = lock(&self.outcome);
        let outcome = self.ready.wait_while(outcome, |outcome| outcome.is_none());
        let outcome = outcome.unwrap_or_else(PoisonError::into_inner).take();
        outcome.unwrap_or_else(|| Err(Error::bug("a run was taken twice")))
    }
}

/// What the threads work on.
pub(super) struct Work {
    jobs: Mutex<Receiver<Arc<Use>>>,
    is_stopped: AtomicBool,
}

/// Gives work to the threads. They end when it is dropped.
pub(super) struct Supply<'a> {
    repository: &'a Repository,
    work: &'a Work,
    jobs: Sender<Arc<Use>>,
    slots: HashMap<BlockId, Weak<Slot>>,
    held: Arc<AtomicU64>,
}

/// Makes both ends.
pub(super) fn open() -> (Work, Sender<Arc<Use>>) {
    let (sender, receiver) = channel();
    (Work { jobs: Mutex::new(receiver), is_stopped: AtomicBool::new(false) }, sender)
}

impl Work {
    /// Works until there is nothing more to come.
    pub(super) fn run(&self, repository: &Repository) {
        loop {
            let job = lock(&self.jobs).recv();
            let Ok(job) = job else { return };
            let outcome = match self.is_stopped.load(Ordering::Relaxed) {
                true => Err(Error::cancelled()),
                // Who wants it waits until there is an outcome.
                false => caught("a worker", || load(repository, &job)),
            };
            *lock(&job.outcome) = Some(outcome);
            job.ready.notify_all();
        }
    }
}

impl<'a> Supply<'a> {
    /// Begins with nothing in hand.
    pub(super) fn new(repository: &'a Repository, work: &'a Work, jobs: Sender<Arc<Use>>) -> Self {
        Supply { repository, work, jobs, slots: HashMap::new(), held: Arc::default() }
    }

    /// Returns how many bytes the blocks in hand are, decoded or not yet.
    pub(super) fn held_bytes(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// Orders a run.
    ///
    /// # Errors
    /// Those of loading the index.
    pub(super) fn order(&mut self, run: Run) -> Result<Arc<Use>> {
        let slot = self.slot(&run.block)?;
        let (outcome, ready) = (Mutex::new(None), Condvar::new());
        let job = Arc::new(Use { run, slot, outcome, ready });
        let sent = self.jobs.send(Arc::clone(&job));
        sent.map_err(|_| Error::bug("no thread works any more"))?;
        Ok(job)
    }

    fn slot(&mut self, block: &BlockId) -> Result<Arc<Slot>> {
        if let Some(slot) = self.slots.get(block).and_then(Weak::upgrade) {
            return Ok(slot);
        }
        // Those that are done with do not pile up.
        if self.slots.len() > 4096 {
            self.slots.retain(|_, slot| slot.strong_count() > 0);
        }
        let copies = self.repository.locate_block(block)?;
        let length = copies.iter().map(|copy| copy.row.plain_length as usize).max().unwrap_or(0);
        let weight = length.min(BLOCK_BYTES_MAX) as u64;
        self.held.fetch_add(weight, Ordering::Relaxed);
        let held = Arc::clone(&self.held);
        let slot = Arc::new(Slot { weight, held, block: Mutex::default() });
        self.slots.insert(*block, Arc::downgrade(&slot));
        Ok(slot)
    }
}

impl Drop for Supply<'_> {
    fn drop(&mut self) {
        // What was ordered and is not wanted any more is not worth decoding.
        self.work.is_stopped.store(true, Ordering::Relaxed);
    }
}

fn load(repository: &Repository, job: &Use) -> Result<Loaded> {
    let run = &job.run;
    let places = [(run.first, run.count)];
    let mut slot = lock(&job.slot.block);
    let (block, is_verified) = match &*slot {
        Some(block) => (Arc::clone(block), false),
        None => {
            let block = repository.read_block(&run.block, &places)?;
            *slot = Some(Arc::clone(&block));
            (block, true)
        }
    };
    drop(slot);
    if is_verified || verifies(repository, &block, run) {
        let range = fetch::stretch_of_run(&block, run)?;
        return Ok(Loaded { block, range });
    }
    // Another copy may have what this one has not.
    let block = repository.read_block(&run.block, &places)?;
    let range = fetch::stretch_of_run(&block, run)?;
    Ok(Loaded { block, range })
}

fn verifies(repository: &Repository, block: &Block, run: &Run) -> bool {
    let end = run.first.saturating_add(run.count);
    (run.first..end).all(|place| block.blob(repository, place).is_ok())
}
