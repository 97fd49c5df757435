//! Floor 8: a person at a terminal, or a script. Parse flags, call below, print.
//!
//! stdout is data and stderr is talk: `output` alone writes to stdout, and `progress` draws on
//! stderr. Every command is a file below `commands`: its arguments, whose comments are the
//! manual, and a `run` that leaves the work to the engine. What a script may rely on, the names,
//! the JSON fields and the exit codes of `exit`, does not change.

use crate::base::error::ErrorKind;
use crate::base::sys;
use crate::cli::args::Cli;
use crate::cli::output::Output;
use crate::cli::session::Session;
use crate::config::connect;
use crate::config::effective::Config;
use clap::Parser;
use std::ffi::OsString;
use std::process::ExitCode;

mod args;
mod commands;
mod exit;
mod fields;
mod output;
mod progress;
mod session;
mod signals;
mod table;
mod text;

/// What `icecore` says when nothing is asked of it.
const GUIDE: &str = "\
icecore keeps every version of your folders, and gives any version back, exactly

  icecore backup ~/photos              make a backup of a folder
  icecore list                         show what is kept
  icecore list photos                  show the backups of one dataset
  icecore ls photos@3                  look inside a backup
  icecore restore photos ~/restored    bring the newest backup back
  icecore restore photos@2026-11-20 ~/restored
                                       bring back what was there on that day
  icecore check                        look for damage
  icecore repair --dry-run             say what can be done about it

Backups go to ~/.local/share/icecore; `-r LOCATION` or ICECORE_REPOSITORY names
another place, for example a disk: icecore -r /mnt/disk/backups backup ~/photos

`icecore --help` lists all commands, `icecore COMMAND --help` explains one";

/// Runs the program with the process's own arguments, and returns its exit code.
pub fn main() -> ExitCode {
    sys::leave_no_core();
    let arguments: Vec<OsString> = std::env::args_os().collect();
    ExitCode::from(run(&arguments))
}

fn run(arguments: &[OsString]) -> u8 {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(e) => return refuse(arguments, &e),
    };
    let mut output = Output::new(cli.global.json, cli.global.quiet);
    // What only talks about the program does so beside a config file that makes no sense, too.
    let config = match &cli.command {
        Some(command) if command.needs_config() => Config::load(cli.global.flags()),
        _ => Ok(Config::none(cli.global.flags())),
    };
    let config = match config {
        Ok(config) => config,
        Err(e) => {
            output.error(&e);
            return exit::code_of(e.kind());
        }
    };
    if let Some(warning) = config.warning() {
        output.note(&warning);
    }
    if let Some(note) = cli.global.repository.as_deref().and_then(connect::note_on) {
        output.note(&note);
    }
    let mut session = Session::new(cli.global, config, output);
    let done = match &cli.command {
        Some(command) => commands::run(command, &mut session),
        None => session.output.line(GUIDE).map(|()| exit::Exit::Done),
    };
    let flushed = session.output.end();
    let failed = match done {
        Ok(exit) if flushed.is_ok() || session.output.is_broken() => return exit.code(),
        Ok(exit::Exit::Done) if session.output.goes_on() => flushed
            .err()
            .map(|e| e.hint("what was asked is done: only what tells of it could not be written")),
        Ok(_) => flushed.err(),
        // Whoever read the output has seen enough of it.
        Err(e) if e.kind() == ErrorKind::Unreachable && session.output.ends_here() => None,
        Err(e) => Some(e),
    };
    let Some(error) = failed else { return exit::Exit::Done.code() };
    session.output.error(&error);
    exit::code_of(error.kind())
}

/// Takes passwords out of what the parser says, as it repeats arguments.
fn hide_passwords(arguments: &[OsString], mut text: String) -> String {
    for argument in arguments.iter().filter_map(|argument| argument.to_str()) {
        let shown = connect::without_password(argument);
        if shown != argument {
            text = text.replace(argument, &shown);
        }
    }
    connect::without_passwords(&text).into_owned()
}

/// Answers what the parser took for itself: help and version, or arguments that make no sense.
fn refuse(arguments: &[OsString], error: &clap::Error) -> u8 {
    let mut flags = arguments.iter().take_while(|argument| *argument != "--");
    let is_json = flags.any(|argument| argument == "--json");
    let mut output = Output::new(is_json && error.use_stderr(), false);
    let text = error.render();
    if error.use_stderr() {
        // It repeats what was typed, and that may be an address with a password in it.
        let plain = hide_passwords(arguments, text.to_string());
        output.usage_error(&plain, &hide_passwords(arguments, text.ansi().to_string()));
        return exit::USAGE;
    }
    let shown = output.raw(&text.to_string()).and_then(|()| output.finish());
    if shown.is_ok() || output.is_broken() { exit::Exit::Done.code() } else { exit::FAILED }
}
