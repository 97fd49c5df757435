//! `icecore cache`.

use crate::base::error::Result;
use crate::cli::exit::Exit;
use crate::cli::session::Session;
use crate::cli::text;
use crate::repository::cache;
use crate::repository::cache::Cleared;
use clap::Args;
use clap::Subcommand;
use serde::Serialize;

/// Throw the local cache away
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  icecore cache clear")]
pub(crate) struct CacheArgs {
    #[command(subcommand)]
    command: CacheCommand,
}

#[derive(Debug, Subcommand)]
enum CacheCommand {
    /// Throw away what is kept locally of this repository
    ///
    /// That costs time, never data: the next backup reads from the repository what it needs to
    /// know. Backups that run meanwhile go on.
    #[command(after_help = "\
Examples:
  icecore cache clear
  icecore cache clear --all")]
    Clear {
        /// Throw away what is kept of all repositories, even of those that are gone
        #[arg(long)]
        all: bool,
    },
}

#[derive(Serialize)]
struct Document {
    repositories: u64,
    files: u64,
    bytes: u64,
}

pub(crate) fn run(args: &CacheArgs, session: &mut Session) -> Result<Exit> {
    let CacheCommand::Clear { all } = args.command;
    let settings = session.settings();
    let id = || settings.repository_id().map_err(|e| session.tell_how_to_make(e));
    let only = if all { None } else { Some(id()?) };
    let Cleared { repositories, files, bytes } =
        cache::clear(&settings.kept_cache_folder()?, only.as_ref())?;
    if session.output.is_json() {
        session.output.document(&Document { repositories, files, bytes })?;
        return Ok(Exit::Done);
    }
    let of = text::plural(repositories, "repository", "repositories");
    let files = text::plural(files, "file", "files");
    session.output.sentence(&format!("freed {} in {files} of {of}", text::bytes(bytes)))?;
    Ok(Exit::Done)
}
