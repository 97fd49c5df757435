//! What was asked for, from the environment.

use crate::data;
use crate::tools;
use crate::tools::Tool;
use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::path::PathBuf;

const ROUNDS: usize = 3;
/// Memory, so that no disk is measured.
const DIR: &str = "/dev/shm";

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
        let dir = variable("DIR").map(PathBuf::from).or_else(|| {
            let dir = PathBuf::from(DIR);
            dir.is_dir().then_some(dir)
        });
        let kernel = variable("KERNEL").map(PathBuf::from).or_else(unpacked_kernel);
        let scale: f64 = number("SCALE", 1.0)?;
        if !(scale > 0.0 && scale <= 1.0) {
            return Err(unfit("SCALE", &scale.to_string(), "more than 0 and at most 1"));
        }
        Ok(Settings {
            sets: chosen("DATA", &data::NAMES)?,
            tools: tools::installed(&chosen("TOOLS", &tools::NAMES)?, is_plain),
            rounds: number("ROUNDS", ROUNDS)?.max(1),
            scale,
            is_plain,
            dir: dir.unwrap_or_else(std::env::temp_dir),
            kernel,
            typescript: variable("TYPESCRIPT").map(PathBuf::from),
        })
    }
}

fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(format!("ICECORE_BENCH_{name}")).filter(|value| !value.is_empty())
}

fn unfit(name: &str, value: &str, wanted: &str) -> io::Error {
    io::Error::other(format!("ICECORE_BENCH_{name} is `{value}`, wanted is {wanted}"))
}

fn number<T: std::str::FromStr>(name: &str, default: T) -> io::Result<T> {
    let Some(value) = variable(name) else { return Ok(default) };
    let value = value.to_string_lossy();
    value.parse().map_err(|_| unfit(name, &value, "a number"))
}

/// Reads a list of known names; all of them when there is none.
fn chosen(name: &str, known: &[&str]) -> io::Result<Vec<String>> {
    let Some(value) = variable(name) else {
        return Ok(known.iter().map(|name| (*name).to_owned()).collect());
    };
    let value = value.to_string_lossy();
    let names: Vec<&str> = value.split(',').map(str::trim).collect();
    if names.iter().any(|name| !known.contains(name)) {
        return Err(unfit(name, &value, &format!("some of {}", known.join(","))));
    }
    Ok(names.into_iter().map(str::to_owned).collect())
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
