//! What was asked for, from the environment.

use crate::support::environment;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Odd, so that the median is one of them.
const ROUNDS: usize = 7;
const SECONDS: f64 = 0.1;

/// What is measured, and how.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) stages: Vec<String>,
    pub(crate) rounds: usize,
    /// What one round of one side takes at least.
    pub(crate) round: Duration,
    /// What of the data is made, 1 for all of it.
    pub(crate) scale: f64,
    pub(crate) dir: PathBuf,
}

impl Settings {
    pub(crate) fn read(stages: &[&str]) -> io::Result<Self> {
        let seconds: f64 = environment::number("SECONDS", SECONDS)?;
        Ok(Settings {
            stages: environment::chosen("STAGES", stages)?,
            rounds: environment::number("ROUNDS", ROUNDS)?.max(1),
            round: Duration::try_from_secs_f64(seconds).map_err(io::Error::other)?,
            scale: environment::scale()?,
            dir: environment::dir(),
        })
    }

    /// Returns the scaled part of a whole, but never fewer than `least`.
    pub(crate) fn part(&self, whole: usize, least: usize) -> usize {
        ((whole as f64 * self.scale) as usize).max(least)
    }
}
