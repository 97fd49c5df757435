//! The worker threads: the only home of rayon.

use crate::base::error::Error;
use crate::base::error::Result;

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
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads.max(1))
        .thread_name(|n| format!("worker-{n}"))
        .build()
        .map_err(|e| Error::new(crate::base::error::ErrorKind::Io, format!("no threads: {e}")))?;
    Ok(pool.in_place_scope(|scope| {
        for n in 0..threads.max(1) {
            let work = &work;
            scope.spawn(move |_| work(n));
        }
        lead()
    }))
}
