//! Several requests under way at a time where each answer is long in coming.

use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::threads::at_once;
use crate::repository::store::Store;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

/// Does something with each item and returns what that gives, in order; at a time as much as is of
/// use, which is one after the other where the store is as quick as this machine. The first error
/// ends it, so that a store which is gone is not asked for the rest.
///
/// # Errors
/// One of those that `act` gave.
pub(crate) fn map<I: Sync, T: Send>(
    store: &Store,
    items: &[I],
    act: &(dyn Fn(&I) -> Result<T> + Sync),
) -> Result<Vec<T>> {
    let count = store.backend().capabilities().ahead().min(items.len());
    if count <= 1 {
        return items.iter().map(act).collect();
    }
    let next = Mutex::new(items.iter().enumerate());
    let done: Mutex<Vec<(usize, T)>> = Mutex::new(Vec::new());
    let failed: Mutex<Option<Error>> = Mutex::new(None);
    let work = || {
        while lock(&failed).is_none() {
            let item = lock(&next).next();
            let Some((number, item)) = item else { return };
            match act(item) {
                Ok(value) => lock(&done).push((number, value)),
                Err(e) => {
                    lock(&failed).get_or_insert(e);
                }
            }
        }
    };
    at_once(count, work);
    if let Some(e) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(e);
    }
    let mut values = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    values.sort_unstable_by_key(|(number, _)| *number);
    Ok(values.into_iter().map(|(_, value)| value).collect())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Backend;
    use crate::backend::Capabilities;
    use crate::backend::memory::MemoryBackend;
    use crate::backend::wrap::Around;
    use crate::backend::wrap::Call;
    use crate::backend::wrap::Outcome;
    use crate::backend::wrap::Wrapper;
    use crate::base::id::RepositoryId;
    use crate::codec::seal::Sealer;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering;

    struct FarAway(usize);

    impl Around for FarAway {
        fn run<T: Outcome>(&self, _: Call<'_>, work: &dyn Fn() -> Result<T>) -> Result<T> {
            work()
        }

        fn capabilities(&self, inner: Capabilities) -> Capabilities {
            Capabilities { uploads: self.0, parallel: 4, ..inner }
        }
    }

    fn store(uploads: usize) -> Store {
        let backend: Arc<dyn Backend> =
            Arc::new(Wrapper::around(Arc::new(MemoryBackend::new()), FarAway(uploads)));
        Store::new(backend, Sealer::new(RepositoryId::new([1; 16]), None))
    }

    #[test]
    fn what_comes_is_in_order_and_no_more_is_asked_than_is_of_use() {
        let items: Vec<usize> = (0..200).collect();
        for (uploads, most_expected) in [(1, 1), (4, 4)] {
            let (running, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let done = map(&store(uploads), &items, &|item| {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                std::thread::yield_now();
                running.fetch_sub(1, Ordering::SeqCst);
                Ok(item * 2)
            });
            assert_eq!(done.expect("all"), items.iter().map(|it| it * 2).collect::<Vec<_>>());
            assert!(most.load(Ordering::SeqCst) <= most_expected);
        }
    }

    #[test]
    fn the_first_error_is_the_end() {
        let items: Vec<usize> = (0..1000).collect();
        for uploads in [1, 4] {
            let asked = AtomicUsize::new(0);
            let done = map(&store(uploads), &items, &|item| {
                asked.fetch_add(1, Ordering::SeqCst);
                if *item < 5 { Ok(()) } else { Err(Error::invalid("no")) }
            });
            assert!(done.is_err());
            assert!(asked.load(Ordering::SeqCst) <= 5 + 2 * 4, "{asked:?}");
        }
    }
}
