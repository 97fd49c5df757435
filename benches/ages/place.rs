//! A repository with a home and a cache of its own, and the program at work on it.

use crate::support;
use crate::support::process;
use crate::support::process::Cost;
use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

pub(crate) const PASSWORD: &str = "perito moreno";
/// The dataset that holds all versions.
pub(crate) const DATASET: &str = "data";

/// One repository.
#[derive(Debug)]
pub(crate) struct Place {
    home: PathBuf,
}

impl Place {
    /// Makes an empty repository, encrypted.
    pub(crate) fn make(home: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&home)?;
        let place = Place { home };
        place.run(place.command(&["init"]))?;
        Ok(place)
    }

    pub(crate) fn repository(&self) -> PathBuf {
        self.home.join("repository")
    }

    /// Where restores go.
    pub(crate) fn out(&self) -> PathBuf {
        self.home.join("out")
    }

    pub(crate) fn backup(&self, source: &Path) -> io::Result<Cost> {
        let mut command = self.command(&["backup", "--dataset", DATASET]);
        command.arg(source);
        self.run(command)
    }

    pub(crate) fn restore(&self, number: u64) -> io::Result<Cost> {
        let mut command = self.command(&["restore", &format!("{DATASET}@{number}")]);
        command.arg(self.out());
        self.run(command)
    }

    pub(crate) fn cat(&self, number: u64, file: &Path) -> io::Result<Cost> {
        self.run(self.command(&["cat", &format!("{DATASET}@{number}:{}", file.display())]))
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = support::command(Path::new(env!("CARGO_BIN_EXE_icecore")), &self.home);
        command.args(["-q", "--no-progress", "-r"]).arg(self.repository()).args(words);
        command.env("ICECORE_PASSWORD", PASSWORD).env("TMPDIR", &self.home);
        command
    }

    fn run(&self, command: Command) -> io::Result<Cost> {
        process::run(command, &self.home.join("log"))
    }
}
