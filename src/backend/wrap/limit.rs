//! Bounds how many requests run at a time, as servers count connections.

use crate::backend::Backend;
use crate::backend::Capabilities;
use crate::backend::wrap::Around;
use crate::backend::wrap::Call;
use crate::backend::wrap::Outcome;
use crate::backend::wrap::Wrapper;
use crate::base::error::Result;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;

/// The wrapper.
pub type LimitBackend = Wrapper<Limit>;

/// Makes calls wait until a place is free.
pub struct Limit {
    places: usize,
    free: Mutex<usize>,
    freed: Condvar,
}

/// A place taken, given back when dropped.
struct Place<'a>(&'a Limit);

impl Wrapper<Limit> {
    /// Lets at most `parallel` requests at a time through to `inner`, and at least one.
    pub fn new(inner: Arc<dyn Backend>, parallel: usize) -> Self {
        let places = parallel.max(1);
        Wrapper::around(inner, Limit { places, free: Mutex::new(places), freed: Condvar::new() })
    }
}

impl Limit {
    fn enter(&self) -> Place<'_> {
        let free = self.free.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let waited = self.freed.wait_while(free, |free| *free == 0);
        *waited.unwrap_or_else(|poisoned| poisoned.into_inner()) -= 1;
        Place(self)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) += 1;
        self.0.freed.notify_one();
    }
}

impl Around for Limit {
    fn run<T: Outcome>(&self, _: Call<'_>, work: &dyn Fn() -> Result<T>) -> Result<T> {
        let _place = self.enter();
        work()
    }

    fn capabilities(&self, inner: Capabilities) -> Capabilities {
        let uploads = inner.uploads.min(self.places);
        Capabilities { parallel: inner.parallel.min(self.places), uploads, ..inner }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::memory::MemoryBackend;
    use crate::backend::wrap::Operation;
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering;

    #[test]
    fn no_more_than_allowed_run_at_a_time() {
        let backend = LimitBackend::new(Arc::new(MemoryBackend::new()), 3);
        let (running, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let call = Call { operation: Operation::Stat, key: "a", bytes_up: 0 };
        let work = || {
            most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            std::thread::yield_now();
            running.fetch_sub(1, Ordering::SeqCst);
            Ok(())
        };

        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| (0..50).for_each(|_| backend.around.run(call, &work).expect("ok")));
            }
        });

        assert!((1..=3).contains(&most.load(Ordering::SeqCst)));
        assert_eq!(backend.capabilities().parallel, 3);
    }
}
