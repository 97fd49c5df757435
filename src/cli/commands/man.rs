//! `icecore man`.

use crate::base::error::Error;
use crate::base::error::Result;
use crate::cli::args::Cli;
use crate::cli::exit::Exit;
use crate::cli::session::Session;
use clap::Args;
use clap::CommandFactory;
use clap_mangen::Man;

/// Print the manual page of the program, or of a command
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  icecore man backup | man -l -")]
pub(crate) struct ManArgs {
    /// Command the page is about
    #[arg(value_name = "COMMAND")]
    command: Vec<String>,
}

pub(crate) fn run(args: &ManArgs, session: &mut Session) -> Result<Exit> {
    let mut command = Cli::command();
    // Global options reach the pages of the commands, too.
    command.build();
    let mut name = command.get_name().to_owned();
    for word in &args.command {
        let below = command.find_subcommand(word).cloned();
        command = below.ok_or_else(|| {
            Error::invalid(format!("there is no command {word:?}"))
                .hint("`icecore --help` lists them")
        })?;
        name = format!("{name}-{word}");
    }
    let page = Man::new(command).title(name);
    let rendered = page.render(&mut session.output);
    rendered.map_err(|e| Error::io("cannot write to standard output", e))?;
    Ok(Exit::Done)
}
