//! Waiting, as something that is handed in, so that tests do not wait.

use crate::base::cancel::Cancel;
use crate::base::error::Result;
use std::sync::Mutex;
use std::time::Duration;

/// Longest time for which Ctrl-C goes unnoticed.
const SLICE: Duration = Duration::from_millis(100);

/// Lets time pass.
pub trait Sleeper: Send + Sync {
    /// Waits.
    ///
    /// # Errors
    /// `Cancelled` when somebody asked to stop meanwhile.
    fn sleep(&self, time: Duration) -> Result<()>;
}

/// Really waits, until the end or until it is cancelled.
#[derive(Clone, Debug, Default)]
pub struct SystemSleeper {
    cancel: Cancel,
}

impl SystemSleeper {
    /// Makes a sleeper that wakes up when `cancel` is set.
    pub fn new(cancel: Cancel) -> Self {
        SystemSleeper { cancel }
    }
}

impl Sleeper for SystemSleeper {
    fn sleep(&self, time: Duration) -> Result<()> {
        let mut left = time;
        while !left.is_zero() {
            self.cancel.check()?;
            let slice = left.min(SLICE);
            std::thread::sleep(slice);
            left -= slice;
        }
        self.cancel.check()
    }
}

/// Notes how long it should have waited; for tests.
#[derive(Debug, Default)]
pub struct NotingSleeper(Mutex<Vec<Duration>>);

impl NotingSleeper {
    /// Returns the waits so far.
    pub fn waits(&self) -> Vec<Duration> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }
}

impl Sleeper for NotingSleeper {
    fn sleep(&self, time: Duration) -> Result<()> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(time);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::ErrorKind;

    #[test]
    fn a_cancelled_sleeper_does_not_sleep() {
        let cancel = Cancel::new();
        cancel.cancel();

        let woken = SystemSleeper::new(cancel).sleep(Duration::from_secs(3600));

        assert_eq!(woken.expect_err("cancelled").kind(), ErrorKind::Cancelled);
    }
}
