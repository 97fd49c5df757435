//! What was asked for, from the environment.

use crate::support::data;
use crate::support::environment;
use crate::support::environment::Trees;
use crate::tools;
use crate::tools::Tool;
use std::io;
use std::path::PathBuf;

const ROUNDS: usize = 3;
pub(crate) const INSTALLS: &str = "benches/peers.sh installs them";

/// What is measured, and how.
#[derive(Debug)]
pub(crate) struct Settings {
    /// Names of data sets.
    pub(crate) sets: Vec<String>,
    /// Those that are there.
    pub(crate) tools: Vec<Tool>,
    /// Names of those that are not.
    pub(crate) missing: Vec<&'static str>,
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
        let named = environment::chosen("TOOLS", &tools::NAMES)?;
        let (tools, missing) = tools::find(&named, is_plain);
        let has_own_alone = tools.iter().all(|tool| tool.name == tools::OWN);
        if environment::variable("TOOLS").is_some() && has_own_alone && !missing.is_empty() {
            let missing = missing.join(", ");
            return Err(io::Error::other(format!("not found: {missing} ({INSTALLS})")));
        }
        Ok(Settings {
            sets: environment::chosen("DATA", &data::NAMES)?,
            tools,
            missing,
            rounds: environment::number("ROUNDS", ROUNDS)?.max(1),
            scale: environment::scale()?,
            is_plain,
            dir: environment::dir(),
            trees: Trees::read(),
        })
    }
}
