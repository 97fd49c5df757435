//! The program's arguments: flags that all commands share, and the list of commands.

use crate::cli::commands::Command;
use clap::Args;
use clap::Parser;
use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;

/// Keep every version of your folders, and get any version back, exactly
///
/// A backup is named DATASET[@VERSION][:PATH]. VERSION is a number (photos@3), a place
/// (photos@latest~2) or a time (photos@2026-11-20, "photos@2026-11-20 14:00", photos@2h), which
/// means the last backup at or before it; without one the newest is meant.
///
/// Exit codes: 0 done, 1 failed, 2 bad usage, 3 done but some entries could not be read, written
/// or verified, 10 no repository there, 11 busy, 12 wrong or missing password, 130 interrupted.
#[derive(Debug, Parser)]
#[command(
    name = "icecore",
    version,
    propagate_version = true,
    max_term_width = 100,
    after_help = "Example:\n  icecore backup ~/photos\n  icecore restore photos@2 ~/restored"
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// Flags that every command takes.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct GlobalArgs {
    /// Use the repository at LOCATION [default: ICECORE_REPOSITORY, or ~/.local/share/icecore]
    #[arg(short, long, global = true, value_name = "LOCATION")]
    pub(crate) repository: Option<OsString>,

    /// Read the repository's password from FILE [default: ICECORE_PASSWORD, or ask]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,

    /// Run COMMAND, without a shell, and take what it prints as the password
    #[arg(long, global = true, value_name = "COMMAND", conflicts_with = "password_file")]
    pub(crate) password_command: Option<String>,

    /// Print JSON on stdout, also for errors
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// Say nothing but data and errors
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,

    /// Say what was left out, too
    #[arg(short, long, global = true, conflicts_with = "quiet")]
    pub(crate) verbose: bool,

    /// Show no progress
    #[arg(long, global = true)]
    pub(crate) no_progress: bool,

    /// Write progress to stderr as a JSON line a second
    #[arg(long, global = true)]
    pub(crate) progress_json: bool,

    /// Use N threads [default: as many as the machine runs at once]
    #[arg(long, global = true, value_name = "N")]
    pub(crate) threads: Option<NonZeroUsize>,

    /// Keep caches in DIR [default: ~/.cache/icecore]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) cache_dir: Option<PathBuf>,

    /// Keep no cache
    #[arg(long, global = true)]
    pub(crate) no_cache: bool,
}
