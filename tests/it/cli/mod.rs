//! The program as a person or a script meets it: output, errors and exit codes of the real
//! binary, in a home of its own and with nothing of the machine's environment.

mod addresses;
mod bench;
mod choices;
mod config;
mod copy;
mod damaged;
mod dry_run;
mod forget;
mod history;
mod limits;
mod look;
mod parity;
mod passwords;
mod progress;
mod prune;
mod repair;
mod restore;
mod serve;
mod spared;
mod streams;
mod unread;
mod usage;
mod words;

use crate::support::folder::Folder;
use crate::support::world::CHEAP;
use icecore::backend::local::LocalBackend;
use icecore::base::secret::Secret;
use icecore::base::time::Timestamp;
use icecore::repository::cache::CachePlace;
use icecore::repository::open;
use icecore::repository::open::CreateOptions;
use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;

/// A temporary home in which the program runs.
pub(crate) struct Home {
    folder: Folder,
    variables: Vec<(&'static str, String)>,
}

/// What a run gave.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Home {
    pub(crate) fn new() -> Self {
        Home::at(Folder::new())
    }

    pub(crate) fn at(folder: Folder) -> Self {
        Home { folder, variables: Vec::new() }
    }

    /// Makes an encrypted repository whose password costs next to nothing to try, as each run does,
    /// and takes no memory; returns the password.
    pub(crate) fn init_cheaply(&self, name: &str) -> &'static str {
        const PASSWORD: &str = "glacier";
        let password = Some(Secret::new(PASSWORD.as_bytes().to_vec()));
        let options = CreateOptions { password, cost: CHEAP, ..CreateOptions::default() };
        let backend = Arc::new(LocalBackend::create(&self.path(name)).unwrap());
        let cache = CachePlace::Scratch(self.path("scratch"));
        open::create(backend, &options, &cache, Timestamp::new(1_700_000_000, 0)).unwrap();
        PASSWORD
    }

    /// Sets a variable for the runs that follow.
    pub(crate) fn set(&mut self, name: &'static str, value: &str) {
        self.variables.retain(|(known, _)| *known != name);
        self.variables.push((name, value.to_owned()));
    }

    pub(crate) fn unset(&mut self, name: &'static str) {
        self.variables.retain(|(known, _)| *known != name);
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    pub(crate) fn write(&self, below: &str, content: &[u8]) {
        let path = self.path(below);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.at_home(env!("CARGO_BIN_EXE_icecore"));
        command.args(arguments);
        command
    }

    /// The program, started by another one that finds it behind its own arguments.
    pub(crate) fn command_under(&self, other: &str, arguments: &[&str]) -> Command {
        let mut command = self.at_home(other);
        command.args(arguments).arg(env!("CARGO_BIN_EXE_icecore"));
        command
    }

    fn at_home(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("HOME", self.folder.path())
            .env("TZ", "UTC")
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
        command
    }

    /// Runs the program in the home.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(self.command(arguments).output().unwrap())
    }

    /// Runs it with an output that nobody reads.
    pub(crate) fn unread(&self, arguments: &[&str]) -> Ran {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = self.command(arguments);
        Ran::of(command.stdout(writer).stderr(Stdio::piped()).output().unwrap())
    }

    /// Runs it, and expects success.
    pub(crate) fn done(&self, arguments: &[&str]) -> Ran {
        let ran = self.run(arguments);
        assert_eq!(ran.code, 0, "{arguments:?}: {ran:?}");
        ran
    }

    /// Runs it with `--json`, and expects this exit code and one document.
    pub(crate) fn json(&self, code: i32, arguments: &[&str]) -> Value {
        let ran = self.run(&[&["--json"], arguments].concat());
        assert_eq!(ran.code, code, "{arguments:?}: {ran:?}");
        serde_json::from_str(&ran.stdout).unwrap_or_else(|e| panic!("{e}: {ran:?}"))
    }

    /// Runs it with `--json`, and expects success and a document on every line.
    pub(crate) fn rows(&self, arguments: &[&str]) -> Vec<Value> {
        let ran = self.done(&[&["--json"], arguments].concat());
        ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Ran {
    pub(crate) fn of(output: std::process::Output) -> Self {
        Ran {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Expects an exit code, and words on stderr.
    pub(crate) fn says(&self, code: i32, words: &str) {
        assert_eq!(self.code, code, "{self:?}");
        assert!(self.stderr.contains(words), "{words:?} is not in {self:?}");
    }
}

/// Returns one field of every row.
pub(crate) fn column(rows: &[Value], name: &str) -> Vec<String> {
    rows.iter().map(|row| row[name].to_string().trim_matches('"').to_owned()).collect()
}
