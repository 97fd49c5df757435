//! A repository with a home and a cache of its own, and the program at work on it.

use crate::support;
use crate::support::PASSWORD;
use crate::support::process;
use crate::support::process::Cost;
use serde_json::Value;
use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

/// The dataset that holds all versions.
pub(crate) const DATASET: &str = "data";

/// What a prune did.
#[derive(Debug)]
pub(crate) struct Pruned {
    /// Bytes that it wrote once more.
    pub(crate) copied: u64,
    pub(crate) freed: u64,
    pub(crate) seconds: f64,
}

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

    /// Forgets all but the last backup, prunes, and returns what the prune says of itself.
    pub(crate) fn prune_to_the_last(&self) -> io::Result<Pruned> {
        self.run(self.command(&["forget", DATASET, "--keep-last", "1"]))?;
        let output = self.command(&["prune", "--json"]).output()?;
        if !output.status.success() {
            return Err(io::Error::other(
                String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            ));
        }
        let said: Value = serde_json::from_slice(&output.stdout)?;
        let number =
            |name: &str| said[name].as_u64().ok_or_else(|| io::Error::other(name.to_owned()));
        let seconds = said["seconds"].as_f64().unwrap_or_default();
        let (copied, freed) = (number("bytes_copied")?, number("bytes_freed")?);
        Ok(Pruned { copied, freed, seconds })
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
