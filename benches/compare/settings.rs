//! What was asked for, from the environment.

use crate::data;
use crate::support::environment;
use crate::support::environment::chosen;
use crate::support::environment::number;
use crate::support::environment::variable;
use crate::tools;
use crate::tools::Tool;
use std::io;
use std::path::Path;
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
    pub(crate) kernel: Option<PathBuf>,
    pub(crate) typescript: Option<PathBuf>,
}

impl Settings {
    pub(crate) fn read() -> io::Result<Self> {
        let is_plain = variable("PLAIN").is_some_and(|value| value != "0");
        let kernel = variable("KERNEL").map(PathBuf::from).or_else(unpacked_kernel);
        Ok(Settings {
            sets: chosen("DATA", &data::NAMES)?,
            tools: tools::installed(&chosen("TOOLS", &tools::NAMES)?, is_plain),
            rounds: number("ROUNDS", ROUNDS)?.max(1),
            scale: environment::scale()?,
            is_plain,
            dir: environment::dir(),
            kernel,
            typescript: variable("TYPESCRIPT").map(PathBuf::from),
        })
    }
}

/// Returns where Debian's package of the sources was unpacked.
fn unpacked_kernel() -> Option<PathBuf> {
    let entries = std::fs::read_dir(Path::new("/usr/src")).ok()?;
    let mut found: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    found.retain(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("linux-source-") && path.is_dir()
    });
    found.sort();
    found.pop()
}
