//! The series: how many versions each has, and how they come into repositories.

use crate::place::Place;
use crate::support::SETTLE;
use crate::support::data::Data;
use crate::support::environment::Trees;
use crate::support::generate::changes;
use crate::support::tree;
use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::thread;

pub(crate) const NAMES: [&str; 5] = ["pages", "sql", "json", "typescript", "tree"];

/// Versions of a series that changes by a hundredth each time ...
const VERSIONS: u64 = 100;
/// ... and of a tree of which a few files change each time.
const TREE_VERSIONS: u64 = 1_000;
const TREE_CHANGES: usize = 20;
/// What is made of the data sets of compare.rs, so that a hundred versions take minutes: 128 MiB
/// of pages, 64 MB of SQL, 20 000 records, and 80 000 where there is no kernel tree.
const PAGES_PART: f64 = 0.125;
const SQL_PART: f64 = 0.16;
const JSON_PART: f64 = 0.0667;
const TREE_PART: f64 = 0.267;
const SEED: u64 = 400;
const SMALL_BYTES: std::ops::Range<u64> = 200..8_000;

/// A data set and how often it changes.
#[derive(Debug)]
pub(crate) struct Series {
    data: Data,
    pub(crate) title: String,
    pub(crate) versions: u64,
    /// Whether only a few files change each time.
    is_tree: bool,
}

/// Repositories of a series.
#[derive(Debug)]
pub(crate) struct Grown {
    /// The one of all versions.
    pub(crate) old: Place,
    /// Those of one version each, and which.
    pub(crate) fresh: Vec<(u64, Place)>,
    /// A small file of the last version.
    pub(crate) small_file: Option<PathBuf>,
}

impl Series {
    /// Finds a series by its name, or says why it cannot be had.
    pub(crate) fn find(name: &str, scale: f64, trees: &Trees) -> Result<Series, String> {
        let is_tree = name == "tree";
        let (set, part) = match name {
            "pages" => ("pages", PAGES_PART),
            "sql" => ("sql", SQL_PART),
            "json" => ("json", JSON_PART),
            "tree" if trees.kernel.as_ref().is_some_and(|path| path.is_dir()) => ("kernel", 1.0),
            "tree" => ("json", TREE_PART),
            other => (other, 1.0),
        };
        let data = Data::find(set, part * scale, trees)?;
        let versions = match name {
            // These cannot be made.
            "typescript" => data.changes + 1,
            "tree" => TREE_VERSIONS,
            _ => VERSIONS,
        };
        let versions = match name {
            "typescript" => versions,
            _ => ((versions as f64 * scale) as u64).max(3),
        };
        let title = match is_tree {
            true => format!("{}, {TREE_CHANGES} files changed each time", data.title),
            false => data.title.clone(),
        };
        Ok(Series { data, title, versions, is_tree })
    }

    /// Backs up all versions.
    pub(crate) fn grow(&self, work: &Path) -> io::Result<Grown> {
        let source = work.join("source");
        fs::create_dir_all(&source)?;
        self.data.make(&source)?;
        thread::sleep(SETTLE);
        let files = if self.is_tree { files_below(&source)? } else { Vec::new() };
        let old = Place::make(work.join("old"))?;
        let mut fresh = Vec::new();
        let last = self.versions - 1;
        for version in 0..self.versions {
            match version {
                0 => {}
                _ if self.is_tree => {
                    changes::change_some(&files, TREE_CHANGES, SEED + version)?;
                }
                _ => self.data.change(&source, version)?,
            }
            old.backup(&source)?;
            if [0, last / 2, last].contains(&version) {
                eprintln!("{}: version {version}", self.title);
                let place = Place::make(work.join(format!("fresh-{version}")))?;
                place.backup(&source)?;
                fresh.push((version, place));
            }
        }
        let small_file = small_file(&source)?;
        fs::remove_dir_all(&source)?;
        Ok(Grown { old, fresh, small_file })
    }
}

fn files_below(source: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    tree::each_file(source, &mut |path, _| {
        files.push(path.to_path_buf());
        Ok(())
    })?;
    Ok(files)
}

/// Returns a small file from the middle of a tree, its path within.
fn small_file(source: &Path) -> io::Result<Option<PathBuf>> {
    let mut small = Vec::new();
    tree::each_file(source, &mut |path, length| {
        if SMALL_BYTES.contains(&length) {
            small.extend(path.strip_prefix(source).map(Path::to_path_buf));
        }
        Ok(())
    })?;
    let middle = small.len() / 2;
    Ok(small.into_iter().nth(middle))
}
