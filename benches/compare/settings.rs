//! What was asked for, from the environment.

use crate::support::data;
use crate::support::environment;
use crate::support::environment::Trees;
use crate::tools;
use crate::tools::Tool;
use std::io;
use std::path::PathBuf;

const ROUNDS: usize = 3;

/// What is measured, and how.
#[derive(Debug)]
pub(crate) struct Settings {
    /// Names of data sets.
    pub(crate) sets: Vec<String>,
    /// Those that are there.
    pub(crate) tools: Vec<Tool>,
    pub(crate) rounds: usize,
    /// What of the generated data is made, 1 for all of it.
    pub(crate) scale: f64,
    pub(crate) is_plain: bool,
    pub(crate) dir: PathBuf,
    pub(crate) trees: Trees,
}

impl Settings {
    pub(crate) fn read() -> io::Result<Self> {
        let is_plain = environment::flag("PLAIN")?;
        Ok(Settings {
            sets: environment::chosen("DATA", &data::NAMES)?,
            tools: tools::installed(&environment::chosen("TOOLS", &tools::NAMES)?, is_plain),
            rounds: environment::number("ROUNDS", ROUNDS)?.max(1),
            scale: environment::scale()?,
            is_plain,
            dir: environment::dir(),
            trees: Trees::read(),
        })
    }
}
