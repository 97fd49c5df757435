//! Threads that share one piece of work, as many as the system lets be started.
//!
//! A system that is short of memory or of processes starts no more threads. What is shared is done
//! by those that there are then: slower, and no reason to give up or to panic.

use std::thread::Builder;

/// Does `work` on so many threads, this one among them, and returns when all have ended. Each is to
/// take what it does from what is left for all, as fewer may come than were asked for.
///
/// # Panics
/// Where the work does.
pub fn at_once(threads: usize, work: impl Fn() + Sync) {
    std::thread::scope(|scope| {
        for _ in 1..threads {
            if Builder::new().spawn_scoped(scope, &work).is_err() {
                break;
            }
        }
        work();
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering;

    #[test]
    fn as_many_work_as_are_asked_for_and_one_at_least() {
        for (asked, come) in [(0, 1), (1, 1), (4, 4)] {
            let (count, all) = (AtomicUsize::new(0), Barrier::new(come));
            at_once(asked, || {
                all.wait();
                count.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(count.into_inner(), come);
        }
    }
}
