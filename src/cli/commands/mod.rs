//! The list of commands.

use crate::base::error::Result;
use crate::cli::exit::Exit;
use crate::cli::session::Session;
use clap::Subcommand;

mod backup;
mod bench;
mod cache;
mod cat;
mod check;
mod completions;
mod config;
mod copy;
mod diff;
mod export;
mod find;
mod forget;
mod init;
mod key;
mod list;
mod ls;
mod man;
mod parity;
mod prune;
mod rename;
mod repair;
mod restore;
mod serve_ftp;
mod show;
mod stats;
mod tag;

/// One command with its arguments; the comments of the arguments are their help.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Init(init::InitArgs),
    Backup(Box<backup::BackupArgs>),
    Restore(restore::RestoreArgs),
    List(list::ListArgs),
    Show(show::ShowArgs),
    Ls(ls::LsArgs),
    Cat(cat::CatArgs),
    Tag(tag::TagArgs),
    Rename(rename::RenameArgs),
    Forget(forget::ForgetArgs),
    Find(find::FindArgs),
    Diff(diff::DiffArgs),
    Export(export::ExportArgs),
    Check(check::CheckArgs),
    Prune(prune::PruneArgs),
    Repair(repair::RepairArgs),
    Parity(parity::ParityArgs),
    Copy(copy::CopyArgs),
    Stats(stats::StatsArgs),
    Key(key::KeyArgs),
    Cache(cache::CacheArgs),
    Config(config::ConfigArgs),
    Bench(bench::BenchArgs),
    ServeFtp(Box<serve_ftp::ServeFtpArgs>),
    Completions(completions::CompletionsArgs),
    Man(man::ManArgs),
}

impl Command {
    /// Says whether the command is about repositories, and not about the program itself, or a
    /// folder that is no repository.
    pub(crate) fn needs_config(&self) -> bool {
        !matches!(self, Command::Completions(_) | Command::Man(_) | Command::ServeFtp(_))
    }

    /// Says whether the command does more than look: nobody has to read what it says for it to go
    /// on to its end.
    fn does_work(&self) -> bool {
        match self {
            Command::Init(_)
            | Command::Backup(_)
            | Command::Tag(_)
            | Command::Rename(_)
            | Command::Forget(_)
            | Command::Check(_)
            | Command::Prune(_)
            | Command::Repair(_)
            | Command::Parity(_)
            | Command::Copy(_)
            | Command::Key(_)
            | Command::Cache(_) => true,
            Command::Restore(args) => args.writes(),
            Command::List(_)
            | Command::Show(_)
            | Command::Ls(_)
            | Command::Cat(_)
            | Command::Find(_)
            | Command::Diff(_)
            | Command::Export(_)
            | Command::Stats(_)
            | Command::Config(_)
            | Command::Bench(_)
            | Command::ServeFtp(_)
            | Command::Completions(_)
            | Command::Man(_) => false,
        }
    }
}

/// Runs a command.
pub(crate) fn run(command: &Command, session: &mut Session) -> Result<Exit> {
    if command.does_work() {
        session.output.go_on();
    }
    match command {
        Command::Init(args) => init::run(args, session),
        Command::Backup(args) => backup::run(args, session),
        Command::Restore(args) => restore::run(args, session),
        Command::List(args) => list::run(args, session),
        Command::Show(args) => show::run(args, session),
        Command::Ls(args) => ls::run(args, session),
        Command::Cat(args) => cat::run(args, session),
        Command::Tag(args) => tag::run(args, session),
        Command::Rename(args) => rename::run(args, session),
        Command::Forget(args) => forget::run(args, session),
        Command::Find(args) => find::run(args, session),
        Command::Diff(args) => diff::run(args, session),
        Command::Export(args) => export::run(args, session),
        Command::Check(args) => check::run(args, session),
        Command::Prune(args) => prune::run(args, session),
        Command::Repair(args) => repair::run(args, session),
        Command::Parity(args) => parity::run(args, session),
        Command::Copy(args) => copy::run(args, session),
        Command::Stats(args) => stats::run(args, session),
        Command::Key(args) => key::run(args, session),
        Command::Cache(args) => cache::run(args, session),
        Command::Config(args) => config::run(args, session),
        Command::Bench(args) => bench::run(args, session),
        Command::ServeFtp(args) => serve_ftp::run(args, session),
        Command::Completions(args) => completions::run(args, session),
        Command::Man(args) => man::run(args, session),
    }
}
