//! Writes down every call, for tests of the order of writes.

use crate::backend::Backend;
use crate::backend::wrap::Around;
use crate::backend::wrap::Call;
use crate::backend::wrap::Operation;
use crate::backend::wrap::Outcome;
use crate::backend::wrap::Wrapper;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;

/// One call as it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The method.
    pub operation: Operation,
    /// The key of the object or folder.
    pub key: String,
    /// Bytes that went up.
    pub bytes_up: u64,
    /// Bytes that came down.
    pub bytes_down: u64,
    /// How it failed, if it did.
    pub failed: Option<ErrorKind>,
}

/// The wrapper.
pub type RecordBackend = Wrapper<Record>;

/// Keeps all calls in the order in which they ended.
#[derive(Debug, Default)]
pub struct Record(Mutex<Vec<Recorded>>);

impl Wrapper<Record> {
    /// Writes down what is asked of `inner`.
    pub fn new(inner: Arc<dyn Backend>) -> Self {
        Wrapper::around(inner, Record::default())
    }

    /// Returns all calls so far.
    pub fn calls(&self) -> Vec<Recorded> {
        self.around.lock().clone()
    }

    /// Returns the keys of successful writes so far, in order.
    pub fn written_keys(&self) -> Vec<String> {
        let is_write = |call: &&Recorded| call.operation.is_write() && call.failed.is_none();
        self.around.lock().iter().filter(is_write).map(|call| call.key.clone()).collect()
    }

    /// Forgets all calls so far.
    pub fn clear(&self) {
        self.around.lock().clear();
    }
}

impl Record {
    fn lock(&self) -> MutexGuard<'_, Vec<Recorded>> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Around for Record {
    fn run<T: Outcome>(&self, call: Call<'_>, work: &dyn Fn() -> Result<T>) -> Result<T> {
        let outcome = work();
        self.lock().push(Recorded {
            operation: call.operation,
            key: call.key.to_owned(),
            bytes_up: call.bytes_up,
            bytes_down: outcome.as_ref().map_or(0, Outcome::bytes_down),
            failed: outcome.as_ref().err().map(|e| e.kind()),
        });
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::key::ObjectKey;
    use crate::backend::memory::MemoryBackend;

    #[test]
    fn calls_stand_in_order_with_their_outcome() {
        let backend = RecordBackend::new(Arc::new(MemoryBackend::new()));
        let key = |text: &str| ObjectKey::new(text).expect("a good key");

        backend.put(&key("b"), b"12").expect("stored");
        backend.put(&key("a"), b"1").expect("stored");
        assert!(backend.put_new(&key("a"), b"1").is_err());
        backend.get(&key("b"), 9).expect("there");

        assert_eq!(backend.written_keys(), ["b", "a"]);
        let calls = backend.calls();
        assert_eq!(calls[2].failed, Some(ErrorKind::AlreadyExists));
        assert_eq!(calls[3].bytes_down, 2);
        backend.clear();
        assert!(backend.calls().is_empty());
    }
}
