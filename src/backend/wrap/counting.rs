//! Counts calls and bytes, for reports and for tests of what an operation costs.

use crate::backend::Backend;
use crate::backend::wrap::Around;
use crate::backend::wrap::Call;
use crate::backend::wrap::Operation;
use crate::backend::wrap::Outcome;
use crate::backend::wrap::Wrapper;
use crate::base::error::Result;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

/// What was done so far. Calls that failed count too; bytes count when the call succeeded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls of `put`.
    pub puts: u64,
    /// Calls of `put_new`.
    pub puts_new: u64,
    /// Calls of `get`.
    pub gets: u64,
    /// Calls of `get_range`.
    pub range_gets: u64,
    /// Calls of `stat`.
    pub stats: u64,
    /// Calls of `list`.
    pub lists: u64,
    /// Calls of `delete`.
    pub deletes: u64,
    /// Bytes of objects put.
    pub bytes_up: u64,
    /// Bytes of objects got.
    pub bytes_down: u64,
}

/// The wrapper.
pub type CountingBackend = Wrapper<Counting>;

/// Adds up what goes through.
#[derive(Debug, Default)]
pub struct Counting {
    calls: [AtomicU64; 7],
    bytes_up: AtomicU64,
    bytes_down: AtomicU64,
}

impl Wrapper<Counting> {
    /// Counts what is asked of `inner`.
    pub fn new(inner: Arc<dyn Backend>) -> Self {
        Wrapper::around(inner, Counting::default())
    }

    /// Returns the counts so far.
    pub fn counts(&self) -> Counts {
        let calls = |operation| self.around.calls[place(operation)].load(Ordering::Relaxed);
        Counts {
            puts: calls(Operation::Put),
            puts_new: calls(Operation::PutNew),
            gets: calls(Operation::Get),
            range_gets: calls(Operation::GetRange),
            stats: calls(Operation::Stat),
            lists: calls(Operation::List),
            deletes: calls(Operation::Delete),
            bytes_up: self.around.bytes_up.load(Ordering::Relaxed),
            bytes_down: self.around.bytes_down.load(Ordering::Relaxed),
        }
    }
}

fn place(operation: Operation) -> usize {
    match operation {
        Operation::Put => 0,
        Operation::PutNew => 1,
        Operation::Get => 2,
        Operation::GetRange => 3,
        Operation::Stat => 4,
        Operation::List => 5,
        Operation::Delete => 6,
    }
}

impl Around for Counting {
    fn run<T: Outcome>(&self, call: Call<'_>, work: &dyn Fn() -> Result<T>) -> Result<T> {
        self.calls[place(call.operation)].fetch_add(1, Ordering::Relaxed);
        let outcome = work()?;
        self.bytes_up.fetch_add(call.bytes_up, Ordering::Relaxed);
        self.bytes_down.fetch_add(outcome.bytes_down(), Ordering::Relaxed);
        Ok(outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::key::FolderKey;
    use crate::backend::key::ObjectKey;
    use crate::backend::memory::MemoryBackend;

    #[test]
    fn every_call_is_counted_under_its_name() {
        let backend = CountingBackend::new(Arc::new(MemoryBackend::new()));
        let key = ObjectKey::new("a").expect("a good key");

        backend.put(&key, b"123").expect("stored");
        assert!(backend.put_new(&key, b"123").is_err());
        backend.get(&key, 3).expect("there");
        backend.get_range(&key, 0..2).expect("there");
        backend.stat(&key).expect("there");
        backend.list(&FolderKey::top(), &mut |_| Ok(())).expect("listed");
        backend.delete(&key).expect("gone");

        let expected = Counts {
            puts: 1,
            puts_new: 1,
            gets: 1,
            range_gets: 1,
            stats: 1,
            lists: 1,
            deletes: 1,
            bytes_up: 3,
            bytes_down: 5,
        };
        assert_eq!(backend.counts(), expected);
    }
}
