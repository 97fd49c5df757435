//! The worker threads: the only home of rayon.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use rayon::iter::IntoParallelRefIterator;
use rayon::iter::ParallelIterator;

/// Runs `work` on so many threads, and `lead` on this one beside them; returns what `lead`
/// returns once all of them have ended.
///
/// # Errors
/// `Io` when threads cannot be started.
pub fn beside<T>(
    threads: usize,
    work: impl Fn(usize) + Sync,
    lead: impl FnOnce() -> T,
) -> Result<T> {
    Ok(start(threads)?.in_place_scope(|scope| {
        for n in 0..threads.max(1) {
            let work = &work;
            scope.spawn(move |_| work(n));
        }
        lead()
    }))
}

fn start(threads: usize) -> Result<rayon::ThreadPool> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads.max(1))
        .thread_name(|n| format!("worker-{n}"))
        .build()
        .map_err(|e| Error::new(ErrorKind::Io, format!("no threads: {e}")))
}

/// Threads for many small pieces of work, one after the other.
pub struct Pool(rayon::ThreadPool);

impl Pool {
    /// Starts so many threads.
    ///
    /// # Errors
    /// `Io` when threads cannot be started.
    pub fn new(threads: usize) -> Result<Self> {
        start(threads).map(Pool)
    }

    /// Runs `work` on every item and returns what it gives, in order.
    pub fn map<I: Sync, T: Send>(
        &self,
        items: &[I],
        work: impl Fn(&I) -> T + Send + Sync,
    ) -> Vec<T> {
        self.0.install(|| items.par_iter().map(work).collect())
    }
}
