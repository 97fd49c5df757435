//! Bounds bandwidth, up and down each, so that a backup leaves room on the line.
//!
//! Whole objects are sent at once; what is bounded is the average: a transfer first waits until
//! the ones before it would be over at the bound. So the memory of it is one number a direction.

use crate::backend::Backend;
use crate::backend::wrap::Around;
use crate::backend::wrap::Call;
use crate::backend::wrap::Outcome;
use crate::backend::wrap::Wrapper;
use crate::backend::wrap::sleeper::Sleeper;
use crate::base::error::Result;
use crate::base::time::Clock;
use crate::base::time::Timestamp;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

/// Longest single wait: bounds what a clock that was set back can do.
const WAIT_SECONDS_MAX: f64 = 600.0;

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
    up: Option<Line>,
    down: Option<Line>,
    start: Timestamp,
    clock: Arc<dyn Clock>,
    sleeper: Arc<dyn Sleeper>,
}

/// One direction.
struct Line {
    bytes_per_second: f64,
    /// Seconds after the start at which all transfers so far are over.
    free_at: Mutex<f64>,
}

impl Wrapper<Throttle> {
    /// Puts bounds around `inner`.
    pub fn new(
        inner: Arc<dyn Backend>,
        bandwidth: Bandwidth,
        clock: Arc<dyn Clock>,
        sleeper: Arc<dyn Sleeper>,
    ) -> Self {
        let start = clock.now();
        let up = bandwidth.bytes_up_per_second.map(Line::new);
        let down = bandwidth.bytes_down_per_second.map(Line::new);
        Wrapper::around(inner, Throttle { up, down, start, clock, sleeper })
    }
}

impl Line {
    fn new(bytes_per_second: u64) -> Self {
        Line { bytes_per_second: bytes_per_second.max(1) as f64, free_at: Mutex::new(0.0) }
    }

    /// Adds a transfer and returns how many seconds it has to wait for those before it.
    fn add(&self, bytes: u64, now: f64) -> f64 {
        let mut free_at = self.free_at.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let wait = (*free_at - now).clamp(0.0, WAIT_SECONDS_MAX);
        *free_at = now + wait + bytes as f64 / self.bytes_per_second;
        wait
    }
}

impl Throttle {
    fn wait(&self, line: Option<&Line>, bytes: u64) -> Result<()> {
        let Some(line) = line else { return Ok(()) };
        let wait = line.add(bytes, self.clock.now().seconds_since(self.start));
        if wait > 0.0 { self.sleeper.sleep(Duration::from_secs_f64(wait)) } else { Ok(()) }
    }
}

impl Around for Throttle {
    fn run<T: Outcome>(&self, call: Call<'_>, work: &dyn Fn() -> Result<T>) -> Result<T> {
        if call.bytes_up > 0 {
            self.wait(self.up.as_ref(), call.bytes_up)?;
        }
        let outcome = work()?;
        // What came down is known only now; the next to come waits for it.
        if outcome.bytes_down() > 0 {
            self.wait(self.down.as_ref(), outcome.bytes_down())?;
        }
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
