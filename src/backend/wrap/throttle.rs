//! Bounds bandwidth, up and down each, so that a backup leaves room on the line.
//!
//! Whole objects are sent at once; what is bounded is the average, as [`crate::net::pace`] says.

use crate::backend::Backend;
use crate::backend::wrap::Around;
use crate::backend::wrap::Call;
use crate::backend::wrap::Outcome;
use crate::backend::wrap::Wrapper;
use crate::backend::wrap::sleeper::Sleeper;
use crate::base::error::Result;
use crate::base::time::Clock;
use crate::net::pace::Pace;
use std::sync::Arc;

/// Bytes per second in each direction; none means unbounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bandwidth {
    /// To the backend.
    pub bytes_up_per_second: Option<u64>,
    /// From the backend.
    pub bytes_down_per_second: Option<u64>,
}

/// The wrapper.
pub type ThrottleBackend = Wrapper<Throttle>;

/// Makes calls wait while the line is owed time.
pub struct Throttle {
    pace: Pace,
}

impl Bandwidth {
    /// Returns the bounds of a line that has this much.
    pub fn pace(self, clock: Arc<dyn Clock>, sleeper: Arc<dyn Sleeper>) -> Pace {
        let wait = Arc::new(move |time| sleeper.sleep(time));
        Pace::new(self.bytes_up_per_second, self.bytes_down_per_second, clock, wait)
    }
}

impl Wrapper<Throttle> {
    /// Puts bounds around `inner`.
    pub fn new(
        inner: Arc<dyn Backend>,
        bandwidth: Bandwidth,
        clock: Arc<dyn Clock>,
        sleeper: Arc<dyn Sleeper>,
    ) -> Self {
        Wrapper::around(inner, Throttle { pace: bandwidth.pace(clock, sleeper) })
    }
}

impl Around for Throttle {
    fn run<T: Outcome>(&self, call: Call<'_>, work: &dyn Fn() -> Result<T>) -> Result<T> {
        self.pace.up(call.bytes_up)?;
        let outcome = work()?;
        // What came down is known only now; the next to come waits for it.
        self.pace.down(outcome.bytes_down())?;
        Ok(outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::key::ObjectKey;
    use crate::backend::memory::MemoryBackend;
    use crate::backend::wrap::sleeper::NotingSleeper;
    use crate::base::time::FixedClock;
    use std::time::Duration;

    #[test]
    fn a_transfer_waits_for_those_before_it() {
        let clock = Arc::new(FixedClock::default());
        let sleeper = Arc::new(NotingSleeper::default());
        let bandwidth =
            Bandwidth { bytes_up_per_second: Some(1000), bytes_down_per_second: Some(500) };
        let backend = ThrottleBackend::new(
            Arc::new(MemoryBackend::new()),
            bandwidth,
            Arc::clone(&clock) as Arc<dyn Clock>,
            Arc::clone(&sleeper) as Arc<dyn Sleeper>,
        );
        let key = |name: &str| ObjectKey::new(name).expect("a good key");

        backend.put(&key("a"), &[0; 3000]).expect("at once");
        clock.advance(1);
        backend.put(&key("b"), &[0; 1000]).expect("after two seconds");
        clock.advance(60);
        backend.put(&key("c"), &[0; 1000]).expect("at once: the line was free");
        backend.get(&key("b"), 1000).expect("at once: the other direction");
        backend.get(&key("b"), 1000).expect("after two seconds");

        assert_eq!(sleeper.waits(), [Duration::from_secs(2), Duration::from_secs(2)]);
    }
}
