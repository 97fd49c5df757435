//! The program's arguments: flags that all commands share, and the list of commands.

use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::size;
use crate::cli::commands::Command;
use crate::config::effective::Flags;
use crate::config::values::parse_seconds;
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

    /// Read the config file FILE [default: ICECORE_CONFIG, or ~/.config/icecore/config.toml]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Let profile NAME of the config file count [default: ICECORE_PROFILE]
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) profile: Option<String>,

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
    #[arg(long, global = true, value_name = "N", value_parser = parse_threads)]
    #[arg(allow_negative_numbers = true)]
    pub(crate) threads: Option<NonZeroUsize>,

    /// Keep caches in DIR [default: ~/.cache/icecore]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) cache_dir: Option<PathBuf>,

    /// Keep no cache
    #[arg(long, global = true)]
    pub(crate) no_cache: bool,

    /// Write at most RATE bytes a second to the repository or another server, as 500k or 10M
    #[arg(long, global = true, value_name = "RATE", value_parser = size::parse_rate)]
    pub(crate) limit_upload: Option<u64>,

    /// Read at most RATE bytes a second from the repository or another server
    #[arg(long, global = true, value_name = "RATE", value_parser = size::parse_rate)]
    pub(crate) limit_download: Option<u64>,

    /// Give a server up that is not connected with in SECONDS [default: 15]
    #[arg(long, global = true, value_name = "SECONDS", value_parser = parse_seconds)]
    pub(crate) connect_timeout: Option<u64>,

    /// Give a server up that is silent for SECONDS [default: 60]
    #[arg(long, global = true, value_name = "SECONDS", value_parser = parse_seconds)]
    pub(crate) timeout: Option<u64>,

    /// Trust the certificates in FILE, too, when a server proves by TLS who it is
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) tls_ca: Option<PathBuf>,

    /// Take the key of an SSH server that was never met before as it is, and remember it
    #[arg(long, global = true)]
    pub(crate) accept_new_host_key: bool,
}

fn parse_threads(text: &str) -> Result<NonZeroUsize> {
    let threads = text.parse();
    threads.map_err(|_| Error::invalid(format!("{text} is no number of threads: 1 or more")))
}

impl GlobalArgs {
    /// Returns what was typed of what a config file may say, too.
    pub(crate) fn flags(&self) -> Flags {
        Flags {
            config: self.config.clone(),
            profile: self.profile.clone(),
            location: self.repository.clone(),
            password_file: self.password_file.clone(),
            password_command: self.password_command.clone(),
            cache_dir: self.cache_dir.clone(),
            no_cache: self.no_cache,
            limit_upload: self.limit_upload,
            limit_download: self.limit_download,
            connect_timeout: self.connect_timeout,
            timeout: self.timeout,
            tls_ca: self.tls_ca.clone(),
            accept_new_host_key: self.accept_new_host_key,
        }
    }
}
