//! A child process, watched: how long it takes, and the most memory that it holds.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::Child;
use std::process::ExitStatus;
use std::time::Duration;
use std::time::Instant;

const POLL: Duration = Duration::from_millis(2);
/// By then the password has been dealt with.
const START: Duration = Duration::from_millis(500);
/// `/proc/<pid>/stat` counts in hundredths of a second.
const TICKS_PER_SECOND: f64 = 100.0;

/// What a child took: seconds, and the most that it held in MB.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Peak {
    pub(crate) seconds: f64,
    pub(crate) cpu_seconds: f64,
    pub(crate) anonymous: f64,
    /// The same without the first moments, in which the key is made of the password.
    pub(crate) anonymous_later: f64,
    pub(crate) resident: f64,
}

/// Waits for a child and looks at it all the time.
pub(crate) fn watch(child: &mut Child, start: Instant) -> io::Result<(Peak, ExitStatus)> {
    let folder = PathBuf::from(format!("/proc/{}", child.id()));
    let mut peak = Peak::default();
    loop {
        let text = fs::read_to_string(folder.join("status")).unwrap_or_default();
        let anonymous = megabytes(&text, "RssAnon:");
        peak.anonymous = peak.anonymous.max(anonymous);
        if start.elapsed() > START {
            peak.anonymous_later = peak.anonymous_later.max(anonymous);
        }
        peak.resident = peak.resident.max(megabytes(&text, "VmHWM:"));
        // It stays there with its times until it is waited for.
        let stat = fs::read_to_string(folder.join("stat"))?;
        let fields: Vec<&str> =
            stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |n: usize| fields.get(n).and_then(|text| text.parse::<f64>().ok());
        peak.cpu_seconds = (ticks(11).unwrap_or(0.0) + ticks(12).unwrap_or(0.0)) / TICKS_PER_SECOND;
        if fields.first() == Some(&"Z") {
            break;
        }
        std::thread::sleep(POLL);
    }
    peak.seconds = start.elapsed().as_secs_f64();
    Ok((peak, child.wait()?))
}

/// Reads a line as `RssAnon:      1234 kB`; zero when it is not there.
pub(crate) fn megabytes(status: &str, name: &str) -> f64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or(0.0) * 1024.0 / 1e6
}
