//! Ctrl-C, SIGTERM and the end of a terminal: the first asks the work to stop, a second Ctrl-C or
//! SIGTERM ends the program at once.

use crate::base::cancel::Cancel;
use crate::base::error::Error;
use crate::base::error::Result;
use signal_hook::consts::SIGHUP;
use signal_hook::consts::SIGINT;
use signal_hook::consts::SIGTERM;
use signal_hook::flag;
use std::fs;

/// The exit code of an interrupted run.
const INTERRUPTED: i32 = 130;

/// Makes the signals set `cancel`. The order matters: the one that ends the program looks at the
/// flag before the other one sets it.
pub(crate) fn install(cancel: &Cancel) -> Result<()> {
    let cannot = |e| Error::io("cannot listen for signals", e);
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    for signal in [SIGINT, SIGTERM] {
        flag::register_conditional_shutdown(signal, INTERRUPTED, cancel.flag()).map_err(cannot)?;
        flag::register(signal, cancel.flag()).map_err(cannot)?;
    }
    // A terminal that closes sends two of these at once, its shell's and its own, and nobody is
    // there any more to be impatient.
    if !ignored(&status, SIGHUP) {
        flag::register(SIGHUP, cancel.flag()).map_err(cannot)?;
    }
    Ok(())
}

/// Whether the program was started with `signal` ignored, as `nohup` does, by the text of its
/// `/proc/self/status`: what is not known counts as ignored.
fn ignored(status: &str, signal: i32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok());
    mask.is_none_or(|mask| mask >> (signal - 1) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_ignored_where_its_bit_says_so() {
        let status = "SigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\nSigCgt:\t0\n";

        assert!(ignored(status, SIGHUP));
        assert!(!ignored(status, SIGINT));
        assert!(ignored(&status.replace("1001", "1000"), 13));
        assert!(!ignored(&status.replace("1001", "1000"), SIGHUP));
    }

    #[test]
    fn what_is_not_known_counts_as_ignored() {
        assert!(ignored("", SIGHUP));
        assert!(ignored("SigIgn:\tnoise", SIGHUP));
    }
}
