//! A program as a child, and what it took.

use crate::support::median;
use std::fs;
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::ExitStatus;
use std::process::Stdio;
use std::time::Instant;

/// How much is shown of what a failed program said.
const SAID_BYTES_MAX: usize = 600;

/// What one run took, its own children included.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// From start to end on the clock.
    pub(crate) seconds: f64,
    /// Of all processors together, for the user and for the system.
    pub(crate) cpu_seconds: f64,
    /// The most that was resident: of a pipeline that of its biggest process. The system counts
    /// what the parent held at the moment of the start, so a bench has to stay small itself.
    pub(crate) peak_bytes: u64,
}

/// Returns the medians of wall time, processor time and peak memory.
pub(crate) fn medians(costs: &[Cost]) -> Option<[f64; 3]> {
    let of = |value: fn(&Cost) -> f64| median(costs.iter().map(value));
    let peak = of(|cost| cost.peak_bytes as f64);
    Some([of(|cost| cost.seconds)?, of(|cost| cost.cpu_seconds)?, peak?])
}

/// Shows them as tables do.
pub(crate) fn cell([seconds, cpu, peak]: [f64; 3]) -> String {
    let digits = match seconds {
        ..0.1 => 4,
        ..1.0 => 3,
        _ => 2,
    };
    format!("{seconds:.digits$} . {cpu:.digits$} . {:.0}", peak / 1e6)
}

/// Runs a command to its end; what it says of errors goes through the file `log`.
///
/// # Errors
/// When it cannot be started, or ends with anything but success.
pub(crate) fn run(mut command: Command, log: &Path) -> io::Result<Cost> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(log)?);
    let start = Instant::now();
    let child = command.spawn()?;
    let (status, usage) = wait(&child)?;
    let seconds = start.elapsed().as_secs_f64();
    if !status.success() {
        let said = fs::read(log)?;
        let said = String::from_utf8_lossy(&said[said.len().saturating_sub(SAID_BYTES_MAX)..]);
        let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
        return Err(io::Error::other(format!("{status}: {said}")));
    }
    let time = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    Ok(Cost {
        seconds,
        cpu_seconds: time(usage.ru_utime) + time(usage.ru_stime),
        peak_bytes: usage.ru_maxrss as u64 * 1024,
    })
}

#[allow(unsafe_code, reason = "the wait of std says nothing of what a child took")]
fn wait(child: &Child) -> io::Result<(ExitStatus, libc::rusage)> {
    let pid = libc::pid_t::try_from(child.id()).map_err(io::Error::other)?;
    let mut status = 0;
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    loop {
        // SAFETY: both pointers are to living values of the types that the call fills.
        let waited = unsafe { libc::wait4(pid, &mut status, 0, usage.as_mut_ptr()) };
        if waited == pid {
            // SAFETY: zeros are a value of it, and the call has filled it.
            return Ok((ExitStatus::from_raw(status), unsafe { usage.assume_init() }));
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}
