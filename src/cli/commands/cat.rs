//! `icecore cat`.

use crate::base::error::Result;
use crate::cli::exit::Exit;
use crate::cli::session::Session;
use crate::engine::list;
use clap::Args;
use std::ffi::OsString;

/// Print the content of a file of a backup
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  icecore cat notes@2026-11-20:todo.txt")]
pub(crate) struct CatArgs {
    /// File to print: DATASET[@VERSION]:PATH
    #[arg(value_name = "BACKUP:PATH")]
    file: OsString,
}

pub(crate) fn run(args: &CatArgs, session: &mut Session) -> Result<Exit> {
    let at = session.address(&args.file)?;
    let repository = session.open()?;
    let snapshot = session.find(&repository, &at)?.snapshot()?;
    list::cat(&snapshot, &at.path, &mut session.output, &session.cancel)?;
    Ok(Exit::Done)
}
