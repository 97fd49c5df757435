//! Makes sure, before the first object is created, that the store still refuses a taken key: where
//! that is only remembered from another run. Whoever creates nothing asks nothing.

use crate::backend::Backend;
use crate::backend::wrap::Around;
use crate::backend::wrap::Call;
use crate::backend::wrap::Operation;
use crate::backend::wrap::Outcome;
use crate::backend::wrap::Wrapper;
use crate::base::error::Result;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

/// Tries whether a store refuses a taken key, and fails where it does not.
pub type Prove = Box<dyn Fn() -> Result<()> + Send + Sync>;

/// The wrapper.
pub type ProofBackend = Wrapper<Proof>;

/// Tries once.
pub struct Proof {
    prove: Prove,
    is_proven: Mutex<bool>,
}

impl Wrapper<Proof> {
    /// Puts a proof before whatever `inner` creates.
    pub fn new(inner: Arc<dyn Backend>, prove: Prove) -> Self {
        Wrapper::around(inner, Proof { prove, is_proven: Mutex::new(false) })
    }
}

impl Around for Proof {
    fn run<T: Outcome>(&self, call: Call<'_>, work: &dyn Fn() -> Result<T>) -> Result<T> {
        if call.operation == Operation::PutNew {
            let mut is_proven = self.is_proven.lock().unwrap_or_else(PoisonError::into_inner);
            if !*is_proven {
                (self.prove)()?;
                *is_proven = true;
            }
        }
        work()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::key::ObjectKey;
    use crate::backend::memory::MemoryBackend;
    use crate::base::error::Error;
    use crate::base::error::ErrorKind;
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering;

    #[test]
    fn nothing_is_created_before_the_proof_and_one_is_enough() {
        let tried = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&tried);
        let prove = Box::new(move || match counted.fetch_add(1, Ordering::SeqCst) {
            0 => Err(Error::new(ErrorKind::Unsupported, "it replaces what is there")),
            _ => Ok(()),
        });
        let inner = Arc::new(MemoryBackend::new());
        let backend = ProofBackend::new(Arc::clone(&inner) as Arc<dyn Backend>, prove);
        let key = |name: &str| ObjectKey::new(name).expect("a good key");

        backend.put(&key("a"), b"put").expect("needs no proof");
        backend.get(&key("a"), 10).expect("needs no proof");
        assert_eq!(tried.load(Ordering::SeqCst), 0);
        assert!(backend.put_new(&key("b"), b"new").is_err());
        assert_eq!(inner.stat(&key("b")).expect("asked"), None);
        for name in ["b", "c"] {
            backend.put_new(&key(name), b"new").expect("proven now");
        }
        assert_eq!(tried.load(Ordering::SeqCst), 2);
    }
}
