//! The arguments of `icecore backup`, and what they come to with the config file.

use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::size;
use crate::base::time::Timestamp;
use crate::base::time::parse_since;
use crate::config::effective::BackupDefaults;
use crate::engine::backup::BackupOptions;
use crate::format::dataset::DatasetName;
use crate::source::filter::Filter;
use crate::source::filter::FilterOptions;
use crate::source::filter::says_nothing;
use crate::source::listed::Selection;
use crate::source::listed::Separator;
use clap::Args;
use std::ffi::OsString;
use std::fs::File;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

/// Make a backup of folders and files
///
/// Each SOURCE becomes the next backup of a dataset of its own, named by the last part of its
/// path. Only what changed since the backup before is read and stored; when nothing did, no
/// backup is made. `-` reads standard input. Without SOURCE the sources of the config file are
/// backed up, or with --dataset the one of that dataset. What a flag says counts instead of what
/// the config file says; `--gitignore=false` and the like turn off what is on there.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  icecore backup ~/photos --exclude '*.tmp'
  pg_dump shop | icecore backup - --stdin-name shop.sql --dataset shop
  icecore backup --dataset shop --stdin-name shop.sql --stdin-from-command -- pg_dump shop")]
pub(crate) struct BackupArgs {
    /// Folders and files to back up [default: those of the config file], `-` for standard input, or
    /// the command of --stdin-from-command
    #[arg(value_name = "SOURCE")]
    pub(super) sources: Vec<OsString>,

    /// Name the dataset [default: the last part of SOURCE]
    #[arg(short, long, value_name = "NAME")]
    pub(super) dataset: Option<DatasetName>,

    /// Write a full index, so that this backup stands without those before it
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_name = "BOOL", hide_possible_values = true)]
    full: Option<bool>,

    /// Keep folders on other file systems without their contents
    #[arg(short = 'x', long)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_name = "BOOL", hide_possible_values = true)]
    one_file_system: Option<bool>,

    /// Tag the backup; may be repeated
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,

    /// Describe the backup
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,

    /// Give the backup this time instead of now
    #[arg(long, value_name = "TIME")]
    time: Option<String>,

    /// Give the backup this machine's name instead of the real one
    #[arg(long, value_name = "NAME")]
    host: Option<String>,

    /// Read and compare, and store nothing
    #[arg(short = 'n', long)]
    pub(super) dry_run: bool,

    /// Read every file, even one that looks unchanged
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_name = "BOOL", hide_possible_values = true)]
    read_all: Option<bool>,

    /// Make a backup even when nothing changed
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_name = "BOOL", hide_possible_values = true)]
    allow_unchanged: Option<bool>,

    /// Create the repository when there is none
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_name = "BOOL", hide_possible_values = true)]
    pub(super) init: Option<bool>,

    /// Back up only the paths that FILE names, `-` for standard input
    ///
    /// One path a line, relative to the one SOURCE and taken as it is; a folder brings all that
    /// is below it. The backup has only these: other files that the backup before has count as
    /// deleted. A path that is not there is an error of that entry; where none is there, nothing
    /// is backed up.
    #[arg(long, value_name = "FILE", conflicts_with = "stdin_from_command")]
    files_from: Option<PathBuf>,

    /// As --files-from, with the byte 0 behind each path, as `find -print0` writes them
    #[arg(long, value_name = "FILE", conflicts_with_all = ["files_from", "stdin_from_command"])]
    files_from0: Option<PathBuf>,

    /// Back up older versions of a bucket's objects, too
    ///
    /// Those of NAME become files in a folder NAME@versions beside it, named by their times;
    /// marks of deletion are kept as well. A restore into a bucket that keeps versions puts them
    /// back in order.
    #[arg(long, conflicts_with = "stdin_from_command")]
    pub(super) versions: bool,

    /// Name the file that standard input or the command's output becomes [default: stdin]
    #[arg(long, value_name = "NAME")]
    pub(super) stdin_name: Option<OsString>,

    /// Back up what a command prints, given after `--`; when it fails, no backup is made
    #[arg(long)]
    pub(super) stdin_from_command: bool,

    // Last, as its heading would stand above whatever follows.
    #[command(flatten)]
    filter: FilterArgs,
}

/// What a backup leaves out.
#[derive(Debug, Args)]
#[command(next_help_heading = "What is left out")]
struct FilterArgs {
    /// Leave out what matches GLOB, written as in a .gitignore file; may be repeated
    #[arg(short, long, value_name = "GLOB")]
    exclude: Vec<String>,

    /// Leave out what matches the lines of FILE, `-` for standard input
    #[arg(long, value_name = "FILE")]
    exclude_from: Vec<PathBuf>,

    /// Obey .gitignore files in the source
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_name = "BOOL", hide_possible_values = true)]
    gitignore: Option<bool>,

    /// Keep folders marked by a CACHEDIR.TAG without their contents
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_name = "BOOL", hide_possible_values = true)]
    exclude_caches: Option<bool>,

    /// Keep folders that hold a file NAME without their contents; may be repeated
    #[arg(long, value_name = "NAME")]
    exclude_if_present: Vec<String>,

    /// Leave out files larger than SIZE
    #[arg(long, value_name = "SIZE", value_parser = size::parse_bytes)]
    exclude_larger_than: Option<u64>,
}

/// Says whether a list comes from standard input.
fn is_stdin(file: &Path) -> bool {
    file.as_os_str() == "-"
}

/// How one dataset is backed up.
#[derive(Clone, Debug)]
pub(super) struct Chosen {
    pub(super) options: BackupOptions,
    pub(super) filter: Filter,
    pub(super) one_file_system: bool,
}

impl BackupArgs {
    /// Puts flags before what the config file says of a dataset.
    ///
    /// # Errors
    /// `InvalidInput` for a pattern that makes no sense, at all or of what is at `root`.
    pub(super) fn choose(
        &self,
        below: BackupDefaults,
        lines: Option<&[String]>,
        root: Option<&Path>,
        now: Timestamp,
    ) -> Result<Chosen> {
        let filter = self.filter.filter(&below, lines, root)?;
        let on = |flag: Option<bool>, below: Option<bool>| flag.or(below).unwrap_or(false);
        let options = BackupOptions {
            full: on(self.full, below.full),
            read_all: on(self.read_all, below.read_all),
            allow_unchanged: on(self.allow_unchanged, below.allow_unchanged),
            dry_run: self.dry_run,
            tags: typed(&self.tags).or(below.tags).unwrap_or_default(),
            description: self.description.clone().or(below.description).unwrap_or_default(),
            time: self.time.as_deref().map(|time| parse_since(time, now)).transpose()?,
            host: self.host.clone().or(below.host),
            dataset_was_named: self.dataset.is_some(),
        };
        let one_file_system = on(self.one_file_system, below.one_file_system);
        Ok(Chosen { options, filter, one_file_system })
    }

    /// Says whether a repository is made where there is none.
    pub(super) fn creates(&self, below: &BackupDefaults) -> bool {
        self.init.or(below.init).unwrap_or(false)
    }

    /// Says whether only listed paths are backed up.
    pub(super) fn has_list(&self) -> bool {
        self.files_from.is_some() || self.files_from0.is_some()
    }

    /// Says how many lists come from standard input.
    pub(super) fn lists_from_stdin(&self) -> usize {
        let lists = [&self.files_from, &self.files_from0].into_iter().flatten();
        lists.chain(&self.filter.exclude_from).filter(|file| is_stdin(file)).count()
    }

    /// Reads the files of patterns that were typed, if there are any.
    pub(super) fn exclude_lines(&self) -> Result<Option<Vec<String>>> {
        let files = typed(&self.filter.exclude_from);
        files.map(|files| lines_of(&files)).transpose()
    }

    /// Reads the list of what is backed up, if there is one.
    pub(super) fn selection(&self) -> Result<Option<Arc<Selection>>> {
        let (file, separator) = match (&self.files_from, &self.files_from0) {
            (Some(file), _) => (file, Separator::Newline),
            (None, Some(file)) => (file, Separator::Nul),
            (None, None) => return Ok(None),
        };
        let selection = if is_stdin(file) {
            Selection::read(&mut std::io::stdin().lock(), separator)?
        } else {
            let opened = File::open(file).map_err(|e| {
                let shown = file.display();
                Error::invalid(format!("cannot read the list of files {shown}")).caused_by(e)
            });
            Selection::read(&mut opened?, separator)?
        };
        Ok(Some(Arc::new(selection)))
    }
}

/// Returns a list that was typed; an empty one was not.
fn typed<T: Clone>(list: &[T]) -> Option<Vec<T>> {
    if list.is_empty() { None } else { Some(list.to_vec()) }
}

fn lines_of(files: &[PathBuf]) -> Result<Vec<String>> {
    let mut patterns = Vec::new();
    for file in files {
        let read = match is_stdin(file) {
            true => std::io::read_to_string(std::io::stdin().lock()),
            false => std::fs::read_to_string(file),
        };
        let shown = file.display();
        let lines = read.map_err(|e| {
            Error::invalid(format!("cannot read the patterns of {shown}")).caused_by(e)
        })?;
        patterns.extend(lines.lines().map(str::to_owned));
    }
    Ok(patterns)
}

/// Refuses a pattern that names the source itself: patterns begin there, so it would never match.
fn refuse_absolute(pattern: &str, root: &Path) -> Result<()> {
    let path = Path::new(pattern.strip_prefix('!').unwrap_or(pattern));
    match path.strip_prefix(root) {
        Ok(below) if root != Path::new("/") => {
            let (root, below) = (root.display(), below.display());
            Err(Error::invalid(format!("{pattern:?} matches nothing: patterns begin at {root}"))
                .hint(format!("what is there is written \"/{below}\"")))
        }
        _ => Ok(()),
    }
}

impl FilterArgs {
    fn filter(
        &self,
        below: &BackupDefaults,
        lines: Option<&[String]>,
        root: Option<&Path>,
    ) -> Result<Filter> {
        let mut patterns = match (lines, &below.exclude_from) {
            (Some(lines), _) => lines.to_vec(),
            (None, Some(files)) => lines_of(files)?,
            (None, None) => Vec::new(),
        };
        let excludes = typed(&self.exclude).or_else(|| below.excludes.clone());
        let excludes = excludes.unwrap_or_default();
        if let Some(nothing) = excludes.iter().find(|pattern| says_nothing(pattern)) {
            return Err(Error::invalid(format!("{nothing:?} matches nothing"))
                .hint("a name that begins with # is written \\#"));
        }
        patterns.extend(excludes);
        if let Some(root) = root {
            patterns.iter().try_for_each(|pattern| refuse_absolute(pattern, root))?;
        }
        let markers = typed(&self.exclude_if_present).or(below.exclude_if_present.clone());
        let caches = self.exclude_caches.or(below.exclude_caches);
        Filter::new(&FilterOptions {
            patterns,
            gitignore: self.gitignore.or(below.gitignore).unwrap_or(false),
            exclude_caches: caches.unwrap_or(false),
            exclude_if_present: markers.unwrap_or_default(),
            exclude_larger_than: self.exclude_larger_than.or(below.exclude_larger_than),
        })
    }
}
