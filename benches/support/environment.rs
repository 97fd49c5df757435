//! What a bench was asked for: variables that begin with `ICECORE_BENCH_`.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::path::PathBuf;

/// Memory, so that no disk is measured.
const DIR: &str = "/dev/shm";
/// Of the file systems whose files are memory.
pub(crate) const TMPFS_MAGIC: rustix::fs::FsWord = 0x0102_1994;

/// Data that is not generated: where it is.
#[derive(Debug)]
pub(crate) struct Trees {
    pub(crate) kernel: Option<PathBuf>,
    pub(crate) typescript: Option<PathBuf>,
}

impl Trees {
    pub(crate) fn read() -> Self {
        Trees {
            kernel: variable("KERNEL").map(PathBuf::from).or_else(unpacked_kernel),
            typescript: variable("TYPESCRIPT").map(PathBuf::from),
        }
    }
}

/// Returns a variable; one that is empty counts as not there.
pub(crate) fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(format!("ICECORE_BENCH_{name}")).filter(|value| !value.is_empty())
}

fn unfit(name: &str, value: &str, wanted: &str) -> io::Error {
    io::Error::other(format!("ICECORE_BENCH_{name} is `{value}`, wanted is {wanted}"))
}

/// Reads a number.
pub(crate) fn number<T: std::str::FromStr>(name: &str, default: T) -> io::Result<T> {
    let Some(value) = variable(name) else { return Ok(default) };
    let value = value.to_string_lossy();
    value.parse().map_err(|_| unfit(name, &value, "a number"))
}

/// Reads what is on or off, and is off when nothing is said.
pub(crate) fn flag(name: &str) -> io::Result<bool> {
    let value = variable(name).unwrap_or("0".into());
    match value.as_encoded_bytes() {
        b"0" => Ok(false),
        b"1" => Ok(true),
        _ => Err(unfit(name, &value.to_string_lossy(), "0 or 1")),
    }
}

/// Reads how much of the data is made, 1 for all of it.
pub(crate) fn scale() -> io::Result<f64> {
    let scale: f64 = number("SCALE", 1.0)?;
    if !(scale > 0.0 && scale <= 1.0) {
        return Err(unfit("SCALE", &scale.to_string(), "more than 0 and at most 1"));
    }
    Ok(scale)
}

/// Reads a list of known names; all of them when there is none.
pub(crate) fn chosen(name: &str, known: &[&str]) -> io::Result<Vec<String>> {
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

/// Returns where a bench works: in memory where there is such a place.
pub(crate) fn dir() -> PathBuf {
    let memory = || Some(PathBuf::from(DIR)).filter(|dir| dir.is_dir());
    variable("DIR").map(PathBuf::from).or_else(memory).unwrap_or_else(std::env::temp_dir)
}

/// Returns how many bytes can be written to a folder; one in memory shares it with all others.
pub(crate) fn room(dir: &Path) -> io::Result<u64> {
    let system = rustix::fs::statvfs(dir)?;
    let free = system.f_bavail * system.f_frsize;
    if rustix::fs::statfs(dir)?.f_type != TMPFS_MAGIC {
        return Ok(free);
    }
    let memory = std::fs::read_to_string("/proc/meminfo")?;
    let available = memory.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = available.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    Ok(kib.map_or(free, |kib| free.min(kib * 1024)))
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
