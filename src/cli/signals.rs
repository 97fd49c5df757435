//! Ctrl-C and SIGTERM: the first asks the work to stop, the second ends the program at once.

use crate::base::cancel::Cancel;
use crate::base::error::Error;
use crate::base::error::Result;
use signal_hook::consts::SIGINT;
use signal_hook::consts::SIGTERM;
use signal_hook::flag;

/// The exit code of an interrupted run.
const INTERRUPTED: i32 = 130;

/// Makes the signals set `cancel`. The order matters: the one that ends the program looks at the
/// flag before the other one sets it.
pub(crate) fn install(cancel: &Cancel) -> Result<()> {
    let cannot = |e| Error::io("cannot listen for signals", e);
    for signal in [SIGINT, SIGTERM] {
        flag::register_conditional_shutdown(signal, INTERRUPTED, cancel.flag()).map_err(cannot)?;
        flag::register(signal, cancel.flag()).map_err(cannot)?;
    }
    Ok(())
}
