//! Fails on purpose, for tests of what a crash or a bad connection leaves behind.

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
use std::sync::Mutex;
use std::sync::MutexGuard;

/// One way to fail. Calls count from 1, and writes among themselves from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// This one call fails and does nothing.
    Call {
        /// Which.
        call: u64,
        /// How.
        kind: ErrorKind,
    },
    /// This write and all later ones fail and do nothing.
    WritesFrom {
        /// Which is the first.
        write: u64,
        /// How.
        kind: ErrorKind,
    },
    /// This call and all later ones fail as `Unreachable`: the process or the line has died.
    DeadFrom {
        /// Which is the first.
        call: u64,
    },
    /// This one call is made, and yet fails as `Unreachable`: its answer is lost.
    LostReply {
        /// Which.
        call: u64,
    },
    /// Every call for a key that begins so fails.
    Key {
        /// How the key begins.
        prefix: String,
        /// How the call fails.
        kind: ErrorKind,
    },
}

/// The wrapper.
pub type FaultBackend = Wrapper<Faults>;

/// Counts calls and fails the chosen ones.
#[derive(Debug, Default)]
pub struct Faults(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    faults: Vec<Fault>,
    calls: u64,
    writes: u64,
}

/// What happens to one call.
enum Verdict {
    Pass,
    Fail(ErrorKind),
    LoseReply,
}

impl Wrapper<Faults> {
    /// Puts faults around `inner`.
    pub fn new(inner: Arc<dyn Backend>, faults: Vec<Fault>) -> Self {
        let state = State { faults, ..State::default() };
        Wrapper::around(inner, Faults(Mutex::new(state)))
    }

    /// Takes other faults from now on and counts calls from 1 again; none means all is well.
    pub fn set_faults(&self, faults: Vec<Fault>) {
        *self.around.lock() = State { faults, ..State::default() };
    }

    /// Returns how many calls there were, those that failed included.
    pub fn calls(&self) -> u64 {
        self.around.lock().calls
    }

    /// Returns how many writes there were, those that failed included.
    pub fn writes(&self) -> u64 {
        self.around.lock().writes
    }
}

impl Faults {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl State {
    fn judge(&mut self, call: Call<'_>) -> Verdict {
        let is_write = call.operation.is_write();
        self.calls += 1;
        self.writes += u64::from(is_write);
        let verdict = self.faults.iter().find_map(|fault| match fault {
            Fault::Call { call, kind } if *call == self.calls => Some(Verdict::Fail(*kind)),
            Fault::WritesFrom { write, kind } if is_write && *write <= self.writes => {
                Some(Verdict::Fail(*kind))
            }
            Fault::DeadFrom { call } if *call <= self.calls => {
                Some(Verdict::Fail(ErrorKind::Unreachable))
            }
            Fault::LostReply { call } if *call == self.calls => Some(Verdict::LoseReply),
            Fault::Key { prefix, kind } if call.key.starts_with(prefix.as_str()) => {
                Some(Verdict::Fail(*kind))
            }
            _ => None,
        });
        verdict.unwrap_or(Verdict::Pass)
    }
}

impl Around for Faults {
    fn run<T: Outcome>(&self, call: Call<'_>, work: &dyn Fn() -> Result<T>) -> Result<T> {
        let verdict = self.lock().judge(call);
        let fail = |kind| {
            let message = format!("cannot {:?} {}: a fault was planted", call.operation, call.key);
            Err(Error::new(kind, message).at(Origin::Repository))
        };
        match verdict {
            Verdict::Pass => work(),
            Verdict::Fail(kind) => fail(kind),
            Verdict::LoseReply => {
                work()?;
                fail(ErrorKind::Unreachable)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::key::ObjectKey;
    use crate::backend::memory::MemoryBackend;

    fn key(text: &str) -> ObjectKey {
        ObjectKey::new(text).expect("a good key")
    }

    /// Puts four objects and says which puts succeeded and which objects are there.
    fn put_four(fault: Fault) -> (Vec<bool>, usize) {
        let memory = Arc::new(MemoryBackend::new());
        let inner = Arc::clone(&memory) as Arc<dyn Backend>;
        let backend = FaultBackend::new(inner, vec![fault]);
        let names = ["a", "b", "c", "d"];
        let done = names.iter().map(|name| backend.put(&key(name), b"1").is_ok()).collect();
        (done, memory.objects().len())
    }

    #[test]
    fn each_fault_hits_what_it_says() {
        let full = ErrorKind::Full;
        let one = put_four(Fault::Call { call: 2, kind: full });
        assert_eq!(one, (vec![true, false, true, true], 3));
        let later = put_four(Fault::WritesFrom { write: 3, kind: full });
        assert_eq!(later, (vec![true, true, false, false], 2));
        let dead = put_four(Fault::DeadFrom { call: 2 });
        assert_eq!(dead, (vec![true, false, false, false], 1));
        let lost = put_four(Fault::LostReply { call: 2 });
        assert_eq!(lost, (vec![true, false, true, true], 4));
        let keyed = put_four(Fault::Key { prefix: "c".to_owned(), kind: full });
        assert_eq!(keyed, (vec![true, true, false, true], 3));
    }

    #[test]
    fn reads_are_no_writes() {
        let fault = Fault::WritesFrom { write: 1, kind: ErrorKind::Full };
        let backend = FaultBackend::new(Arc::new(MemoryBackend::new()), vec![fault]);

        assert_eq!(backend.stat(&key("a")).expect("a read"), None);
        assert_eq!(backend.put(&key("a"), b"").expect_err("a write").kind(), ErrorKind::Full);
        assert_eq!((backend.calls(), backend.writes()), (2, 1));
        backend.set_faults(Vec::new());
        backend.put(&key("a"), b"").expect("healed");
    }
}
