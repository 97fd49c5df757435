//! Refuses writes, for commands that only look and for repositories that must not change.

use crate::backend::Backend;
use crate::backend::wrap::Around;
use crate::backend::wrap::Call;
use crate::backend::wrap::Outcome;
use crate::backend::wrap::Wrapper;
use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Origin;
use crate::base::error::Result;
use std::sync::Arc;

/// The wrapper.
pub type ReadOnlyBackend = Wrapper<ReadOnly>;

/// Lets only reading calls through.
pub struct ReadOnly;

impl Wrapper<ReadOnly> {
    /// Makes `inner` unchangeable.
    pub fn new(inner: Arc<dyn Backend>) -> Self {
        Wrapper::around(inner, ReadOnly)
    }
}

impl Around for ReadOnly {
    fn run<T: Outcome>(&self, call: Call<'_>, work: &dyn Fn() -> Result<T>) -> Result<T> {
        if !call.operation.is_write() {
            return work();
        }
        let message = format!("cannot change object {}: opened for reading only", call.key);
        Err(Error::new(ErrorKind::Denied, message).at(Origin::Repository))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::key::ObjectKey;
    use crate::backend::memory::MemoryBackend;

    #[test]
    fn writes_are_denied_and_reads_go_through() {
        let key = ObjectKey::new("a").expect("a good key");
        let inner = Arc::new(MemoryBackend::new());
        inner.put(&key, b"1").expect("stored");
        let backend = ReadOnlyBackend::new(inner);

        for denied in [backend.put(&key, b"1"), backend.put_new(&key, b"1"), backend.delete(&key)] {
            assert_eq!(denied.expect_err("denied").kind(), ErrorKind::Denied);
        }
        assert_eq!(backend.get(&key, 1).expect("there"), b"1");
    }
}
