//! `icecore find`.

use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::metadata::Kind;
use crate::base::path::display;
use crate::base::size::parse_bytes;
use crate::base::time::parse_since;
use crate::cli::exit::Exit;
use crate::cli::fields::ErrorFields;
use crate::cli::fields::PathField;
use crate::cli::fields::TargetField;
use crate::cli::output;
use crate::cli::session::Session;
use crate::cli::text;
use crate::engine::find;
use crate::engine::find::Among;
use crate::engine::find::FindOptions;
use crate::engine::find::FindReport;
use crate::engine::find::Found;
use crate::engine::find::Problem;
use crate::engine::list;
use crate::engine::list::Depth;
use crate::format::dataset::DatasetName;
use crate::format::entry::EntryNode;
use crate::repository::Repository;
use crate::repository::datasets::Dataset;
use crate::repository::datasets::Numbers;
use crate::repository::datasets::Shown;
use crate::source::filter::Pattern;
use clap::Args;
use clap::ValueEnum;
use serde::Serialize;
use std::ffi::OsString;

/// Look for entries by name in all backups
///
/// PATTERN is written as those of `backup --exclude`: `*.jpg` matches at any depth, `/2024/*.jpg`
/// from the root of the dataset on, `2024/**` everything below. Each version of an entry is shown
/// once, with the backups that hold it. Backups that were forgotten are not looked at. One that is
/// damaged is told of (exit code 3), and all others are looked at.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  icecore find 'report*.odt'
  icecore find '*.iso' --dataset home --larger-than 1G --type f")]
pub(crate) struct FindArgs {
    /// What to look for
    #[arg(value_name = "PATTERN")]
    pattern: String,

    /// Look only in this dataset [default: in all]
    #[arg(short, long, value_name = "NAME", conflicts_with = "backup")]
    dataset: Option<DatasetName>,

    /// Look only in this backup, and within a path of it: DATASET[@VERSION][:PATH]
    #[arg(short, long, value_name = "BACKUP[:PATH]")]
    backup: Option<OsString>,

    /// Look only for files (f), folders (d), symlinks (l), fifos (p), or devices (c, b)
    #[arg(short = 't', long = "type", value_name = "TYPE")]
    kind: Option<TypeArg>,

    /// Look only for files larger than SIZE
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    larger_than: Option<u64>,

    /// Look only for what was changed at TIME or later: 2026-11-20 (from its beginning), or 2h ago
    #[arg(long, value_name = "TIME")]
    newer_than: Option<String>,
}

/// Kinds by the letters of find(1), and by what they are called.
#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "lower")]
enum TypeArg {
    #[value(alias = "file")]
    F,
    #[value(aliases = ["dir", "directory", "folder"])]
    D,
    #[value(aliases = ["link", "symlink"])]
    L,
    #[value(alias = "fifo")]
    P,
    C,
    B,
}

impl TypeArg {
    fn kind(self) -> Kind {
        match self {
            TypeArg::F => Kind::File,
            TypeArg::D => Kind::Directory,
            TypeArg::L => Kind::Symlink,
            TypeArg::P => Kind::Fifo,
            TypeArg::C => Kind::CharDevice,
            TypeArg::B => Kind::BlockDevice,
        }
    }
}

/// A backup that cannot be looked into.
#[derive(Serialize)]
struct ErrorRow<'a> {
    #[serde(rename = "type")]
    row: &'static str,
    dataset: Option<&'a str>,
    backup: Option<u64>,
    error: ErrorFields,
}

#[derive(Serialize)]
struct Row<'a> {
    #[serde(rename = "type")]
    row: &'static str,
    dataset: &'a str,
    #[serde(flatten)]
    path: PathField,
    kind: &'static str,
    bytes: u64,
    mode: String,
    time: String,
    first: u64,
    last: u64,
    backups: u64,
    spans: Vec<[u64; 2]>,
    #[serde(flatten)]
    target: TargetField,
}

pub(crate) fn run(args: &FindArgs, session: &mut Session) -> Result<Exit> {
    let mut options = FindOptions::new(Pattern::new(&args.pattern)?);
    options.kind = args.kind.map(TypeArg::kind);
    options.larger_than = args.larger_than;
    let now = session.now();
    options.newer_than = args.newer_than.as_ref().map(|time| parse_since(time, now)).transpose()?;
    let at = args.backup.as_ref().map(|backup| session.address(backup)).transpose()?;
    let repository = session.open()?;
    let mut total = FindReport::default();
    if let Some(at) = at {
        options.within = at.path.clone();
        let one = session.find(&repository, &at)?;
        // So that a path that is not there is an error, and not nothing.
        list::entries(&one.snapshot()?, &at.path, Depth::Folder)?;
        let among = Among::One(one.backup);
        look(&one.dataset, &one.numbers, among, &options, &mut total, session)?;
    } else {
        let datasets = datasets(args, &repository)?;
        for error in datasets.problems {
            tell(None, Problem { backup: None, error }, &mut total, session)?;
        }
        for dataset in datasets.readable {
            let looked = dataset.shown_numbers().and_then(|numbers| {
                look(&dataset, &numbers, Among::All, &options, &mut total, session)
            });
            match looked {
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    let name = dataset.name().as_str();
                    tell(Some(name), Problem { backup: None, error }, &mut total, session)?;
                }
                looked => looked?,
            }
        }
    }
    session.output.finish()?;
    if total.found == 0 {
        session.output.note("nothing was found");
    }
    Ok(Exit::of(total.problems.is_empty()))
}

fn datasets(args: &FindArgs, repository: &Repository) -> Result<Shown<Dataset>> {
    match &args.dataset {
        Some(name) => Ok(Shown { readable: vec![repository.dataset(name)?], problems: Vec::new() }),
        None => repository.shown_datasets(),
    }
}

fn look(
    dataset: &Dataset,
    numbers: &Numbers,
    among: Among,
    options: &FindOptions,
    total: &mut FindReport,
    session: &mut Session,
) -> Result<()> {
    let name = dataset.name().as_str();
    let report = session.work_with_output(|context, output| {
        find::run(dataset, numbers, among, options, context, &mut |found| {
            if output.is_json() {
                output.row(&row(name, &found))
            } else {
                output.line(&line(name, &found))
            }
        })
    })?;
    total.found += report.found;
    report.problems.into_iter().try_for_each(|problem| tell(Some(name), problem, total, session))
}

/// Tells of what cannot be looked into, as a row as well where rows are read by a program.
fn tell(
    dataset: Option<&str>,
    problem: Problem,
    total: &mut FindReport,
    session: &mut Session,
) -> Result<()> {
    if session.output.is_json() {
        let backup = problem.backup.map(|number| number.0);
        let error = ErrorFields::new(&problem.error);
        session.output.row(&ErrorRow { row: "error", dataset, backup, error })?;
    }
    session.output.finish()?;
    output::tell(&problem.error);
    total.problems.push(problem);
    Ok(())
}

fn row<'a>(dataset: &'a str, found: &Found) -> Row<'a> {
    let entry = &found.entry;
    let spans: Vec<[u64; 2]> = found.spans.iter().map(|span| [span.first.0, span.last.0]).collect();
    Row {
        row: "entry",
        dataset,
        path: PathField::new(&entry.path),
        kind: entry.kind().as_str(),
        bytes: entry.size(),
        mode: format!("{:04o}", entry.metadata.mode),
        time: entry.metadata.mtime.to_rfc3339(),
        first: spans.first().map_or(0, |span| span[0]),
        last: spans.last().map_or(0, |span| span[1]),
        backups: found.backups,
        spans,
        target: TargetField::of(entry),
    }
}

/// `photos@3..5,7  293.0 KiB  2026-11-21 03:59:49  2025/img_2.jpg`
fn line(dataset: &str, found: &Found) -> String {
    let entry = &found.entry;
    let spans = found.spans.iter().map(|span| match span.first == span.last {
        true => span.first.0.to_string(),
        false => format!("{}..{}", span.first.0, span.last.0),
    });
    let held = format!("{dataset}@{}", spans.collect::<Vec<_>>().join(","));
    let (size, behind) = match &entry.node {
        EntryNode::File(file) => (text::bytes(file.size), String::new()),
        EntryNode::Symlink(target) => ("link".to_owned(), format!(" -> {}", display(target))),
        EntryNode::Directory => ("folder".to_owned(), "/".to_owned()),
        EntryNode::Fifo => ("fifo".to_owned(), String::new()),
        EntryNode::CharDevice(..) | EntryNode::BlockDevice(..) => {
            ("device".to_owned(), String::new())
        }
    };
    let time = entry.metadata.mtime.to_local_text();
    format!("{held:<15} {size:>10}  {time}  {}{behind}", entry.path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::BackupId;
    use crate::base::metadata::Metadata;
    use crate::base::path::EntryPath;
    use crate::engine::find::Span;
    use crate::format::entry::Entry;

    #[test]
    fn the_backups_that_hold_a_version_read_as_an_address() {
        let span = |first, last| Span { first: BackupId(first), last: BackupId(last) };
        let path = EntryPath::new(b"a/b").expect("a path");
        let entry = Entry { path, metadata: Metadata::default(), node: EntryNode::Directory };
        let found = Found { entry, spans: vec![span(3, 7), span(9, 9)], backups: 6 };

        let shown = line("photos", &found);

        assert!(shown.starts_with("photos@3..7,9 "), "{shown}");
        assert!(shown.ends_with(" a/b/"), "{shown}");
        let row = serde_json::to_value(row("photos", &found)).expect("encodes");
        assert_eq!(
            (&row["first"], &row["last"], &row["backups"]),
            (&3.into(), &9.into(), &6.into())
        );
        assert_eq!(row["spans"], serde_json::json!([[3, 7], [9, 9]]));
    }
}
