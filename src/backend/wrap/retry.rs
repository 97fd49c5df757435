//! Tries again what failed on the way: a broken connection, a server that asks to slow down.
//!
//! A put whose answer was lost may have been done. For `put` nothing changes: the same bytes under
//! the same key are success. But a `put_new` that is tried again then meets its own object and
//! fails with `AlreadyExists`. This cannot be told apart here; the caller resolves it by getting
//! the object and looking for its own lease id in it, as it must after any lost answer.
//!
//! There is no random part in the waits: repositories have few writers at a time.

use crate::backend::Backend;
use crate::backend::wrap::Around;
use crate::backend::wrap::Call;
use crate::backend::wrap::Outcome;
use crate::backend::wrap::Wrapper;
use crate::backend::wrap::sleeper::Sleeper;
use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

/// How often and how patiently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How often a call is made at most, the first time included.
    pub tries_max: u32,
    /// The wait before the second try; each further one is three times as long ...
    pub first_wait: Duration,
    /// ... up to this.
    pub longest_wait: Duration,
}

impl Default for RetryPolicy {
    /// Some two minutes in all: a router that starts anew is back by then. The first try again
    /// comes at once, as most broken connections are just that.
    fn default() -> Self {
        RetryPolicy {
            tries_max: 9,
            first_wait: Duration::from_millis(50),
            longest_wait: Duration::from_secs(60),
        }
    }
}

/// How many times as long each wait is as the one before.
const WAITS_GROW: u32 = 3;

/// The wrapper.
pub type RetryBackend = Wrapper<Retry>;

/// Runs a call again while it fails with an error of the way.
pub struct Retry {
    policy: RetryPolicy,
    sleeper: Arc<dyn Sleeper>,
}

impl Wrapper<Retry> {
    /// Puts retries around `inner`.
    pub fn new(inner: Arc<dyn Backend>, policy: RetryPolicy, sleeper: Arc<dyn Sleeper>) -> Self {
        Wrapper::around(inner, Retry { policy, sleeper })
    }
}

impl Around for Retry {
    fn run<T: Outcome>(&self, _: Call<'_>, work: &dyn Fn() -> Result<T>) -> Result<T> {
        again(self.policy, &*self.sleeper, is_worth_a_try, work)
    }
}

/// Does work again while a server asks to come back later: for what is done before there is a
/// backend to put retries around. Other failures are told at once, as they may be those of a name
/// or a port that is wrong.
///
/// # Errors
/// Those of the work and of the sleeper.
pub fn while_busy<T>(
    policy: RetryPolicy,
    sleeper: &dyn Sleeper,
    work: impl Fn() -> Result<T>,
) -> Result<T> {
    again(policy, sleeper, |e| e.kind() == ErrorKind::RateLimited, work)
}

fn again<T>(
    policy: RetryPolicy,
    sleeper: &dyn Sleeper,
    is_worth_a_try: impl Fn(&Error) -> bool,
    work: impl Fn() -> Result<T>,
) -> Result<T> {
    let is_doubtful = Cell::new(false);
    let tries = || {
        let mut wait = policy.first_wait;
        for _ in 1..policy.tries_max {
            match work() {
                Err(e) if is_worth_a_try(&e) => {
                    is_doubtful.set(is_doubtful.get() || e.may_be_done())
                }
                other => return other,
            }
            sleeper.sleep(wait)?;
            wait = wait.saturating_mul(WAITS_GROW).min(policy.longest_wait);
        }
        work()
    };
    let tried = tries();
    if is_doubtful.get() { tried.map_err(Error::after_a_lost_answer) } else { tried }
}

fn is_worth_a_try(error: &Error) -> bool {
    match error.kind() {
        ErrorKind::Unreachable | ErrorKind::RateLimited => true,
        ErrorKind::NotFound
        | ErrorKind::AlreadyExists
        | ErrorKind::Corrupt
        | ErrorKind::Unsupported
        | ErrorKind::Busy
        | ErrorKind::Denied
        | ErrorKind::Password
        | ErrorKind::NoRepository
        | ErrorKind::InvalidInput
        | ErrorKind::Cancelled
        | ErrorKind::Full
        | ErrorKind::Bug
        | ErrorKind::Io => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::key::ObjectKey;
    use crate::backend::memory::MemoryBackend;
    use crate::backend::wrap::fault::Fault;
    use crate::backend::wrap::fault::FaultBackend;
    use crate::backend::wrap::sleeper::NotingSleeper;

    fn retrying(faults: Vec<Fault>) -> (RetryBackend, Arc<NotingSleeper>, Arc<FaultBackend>) {
        let sleeper = Arc::new(NotingSleeper::default());
        let faulty = Arc::new(FaultBackend::new(Arc::new(MemoryBackend::new()), faults));
        let policy = RetryPolicy {
            tries_max: 4,
            first_wait: Duration::from_secs(1),
            longest_wait: Duration::from_secs(5),
        };
        let inner = Arc::clone(&faulty) as Arc<dyn Backend>;
        let clock = Arc::clone(&sleeper) as Arc<dyn Sleeper>;
        (RetryBackend::new(inner, policy, clock), sleeper, faulty)
    }

    fn key() -> ObjectKey {
        ObjectKey::new("a").expect("a good key")
    }

    #[test]
    fn what_follows_a_lost_answer_may_be_done() {
        for (first, may_be_done) in
            [(ErrorKind::Unreachable, true), (ErrorKind::RateLimited, false)]
        {
            let faults = [(1, first), (2, ErrorKind::Full)];
            let faults = faults.map(|(call, kind)| Fault::Call { call, kind });
            let (backend, _, _) = retrying(faults.into());
            let error = backend.put(&key(), b"x").expect_err("full");
            assert_eq!((error.kind(), error.may_be_done()), (ErrorKind::Full, may_be_done));
        }
    }

    #[test]
    fn a_passing_failure_goes_unnoticed() {
        let fault = |call| Fault::Call { call, kind: ErrorKind::Unreachable };
        let (backend, sleeper, _) = retrying(vec![fault(1), fault(2)]);

        backend.put(&key(), b"1").expect("the third try");

        assert_eq!(sleeper.waits(), [Duration::from_secs(1), Duration::from_secs(3)]);
    }

    #[test]
    fn it_gives_up_in_the_end() {
        let (backend, sleeper, faulty) = retrying(vec![Fault::DeadFrom { call: 1 }]);

        let error = backend.get(&key(), 9).expect_err("dead");

        assert_eq!(error.kind(), ErrorKind::Unreachable);
        assert_eq!(faulty.calls(), 4);
        let seconds: Vec<u64> = sleeper.waits().iter().map(Duration::as_secs).collect();
        assert_eq!(seconds, [1, 3, 5]);
    }

    #[test]
    fn the_usual_waits_begin_short_and_are_two_minutes_in_all() {
        let sleeper = Arc::new(NotingSleeper::default());
        let dead =
            FaultBackend::new(Arc::new(MemoryBackend::new()), vec![Fault::DeadFrom { call: 1 }]);
        let clock = Arc::clone(&sleeper) as Arc<dyn Sleeper>;
        let backend = RetryBackend::new(Arc::new(dead), RetryPolicy::default(), clock);

        backend.get(&key(), 9).expect_err("dead");

        let waits = sleeper.waits();
        assert!(waits[0] < Duration::from_millis(100), "{waits:?}");
        let whole: Duration = waits.iter().sum();
        assert!((100..130).contains(&whole.as_secs()), "{waits:?}");
    }

    #[test]
    fn other_failures_are_not_tried_again() {
        for kind in [ErrorKind::NotFound, ErrorKind::Full, ErrorKind::Denied, ErrorKind::Io] {
            let (backend, _, faulty) = retrying(vec![Fault::Call { call: 1, kind }]);
            assert_eq!(backend.stat(&key()).expect_err("fails").kind(), kind);
            assert_eq!(faulty.calls(), 1);
        }
    }

    #[test]
    fn a_server_that_is_full_is_asked_again_and_one_that_is_not_there_is_not() {
        for (kind, tries) in [(ErrorKind::RateLimited, 3), (ErrorKind::Unreachable, 1)] {
            let sleeper = NotingSleeper::default();
            let tried = std::cell::Cell::new(0);

            let opened = while_busy(RetryPolicy::default(), &sleeper, || {
                tried.set(tried.get() + 1);
                if tried.get() < 3 { Err(Error::new(kind, "not now")) } else { Ok(()) }
            });

            assert_eq!((tried.get(), opened.is_ok()), (tries, tries == 3));
            assert_eq!(sleeper.waits().len(), tries - 1);
        }
    }

    #[test]
    fn a_lost_answer_to_put_new_shows_as_already_exists() {
        let (backend, _, _) = retrying(vec![Fault::LostReply { call: 1 }]);

        let error = backend.put_new(&key(), b"mine").expect_err("its own object is there");

        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        assert_eq!(backend.get(&key(), 9).expect("there"), b"mine");
    }
}
