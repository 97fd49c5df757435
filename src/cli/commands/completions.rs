//! `icecore completions`.

use crate::base::error::Error;
use crate::base::error::Result;
use crate::cli::args::Cli;
use crate::cli::exit::Exit;
use crate::cli::session::Session;
use clap::Args;
use clap::CommandFactory;
use clap_complete::Shell;
use std::io::Write;

/// Print the script that completes arguments in a shell
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  icecore completions bash > ~/.local/share/bash-completion/completions/icecore")]
pub(crate) struct CompletionsArgs {
    /// Shell to print it for
    #[arg(value_enum)]
    shell: Shell,
}

pub(crate) fn run(args: &CompletionsArgs, session: &mut Session) -> Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "icecore", &mut script);
    let written = session.output.write_all(&script);
    written.map_err(|e| Error::io("cannot write to standard output", e))?;
    Ok(Exit::Done)
}
