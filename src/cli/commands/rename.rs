//! `icecore rename`.

use crate::base::error::Result;
use crate::cli::exit::Exit;
use crate::cli::session::Session;
use crate::format::dataset::DatasetName;
use crate::repository::rename;
use crate::repository::rename::Renamed;
use clap::Args;
use serde::Serialize;

/// Give a dataset another name
///
/// Its backups and their numbers stay, and a backup that is running is not disturbed. The next
/// backup of the same folder needs `--dataset NEW`, or it starts a new dataset under the old
/// name. A rename that was interrupted leaves one dataset under both names: run it again.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  icecore rename photos pictures")]
pub(crate) struct RenameArgs {
    /// Dataset to rename
    #[arg(value_name = "DATASET")]
    dataset: DatasetName,

    /// Its new name
    #[arg(value_name = "NEW")]
    new: DatasetName,
}

#[derive(Serialize)]
struct Document<'a> {
    dataset: &'a str,
    before: &'a str,
}

pub(crate) fn run(args: &RenameArgs, session: &mut Session) -> Result<Exit> {
    let (old, new) = (&args.dataset, &args.new);
    rename::refuse_same(old, new)?;
    let now = session.now();
    let repository = session.open()?;
    let renamed = repository.rename(old, new, now)?;
    if session.output.is_json() {
        session.output.document(&Document { dataset: new.as_str(), before: old.as_str() })?;
        return Ok(Exit::Done);
    }
    session.output.sentence(&match renamed {
        Renamed::Whole => format!("{old} is now called {new}"),
        Renamed::Finished => format!("{old} is now called {new}, as an earlier rename began"),
        Renamed::Before => format!("{old} was renamed to {new} before"),
    })?;
    Ok(Exit::Done)
}
