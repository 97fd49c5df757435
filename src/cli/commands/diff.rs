//! `icecore diff`.

use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::metadata::Kind;
use crate::base::time::Timestamp;
use crate::cli::exit::Exit;
use crate::cli::fields;
use crate::cli::fields::FailureFields;
use crate::cli::fields::PathField;
use crate::cli::output;
use crate::cli::output::Output;
use crate::cli::session::Found;
use crate::cli::session::Session;
use crate::cli::text;
use crate::config::source_place::SourcePlace;
use crate::engine::address::BackupAddress;
use crate::engine::diff;
use crate::engine::diff::DiffReport;
use crate::engine::diff::DiffRow;
use crate::engine::diff::FolderOptions;
use crate::engine::diff::Seen;
use crate::engine::diff::Side;
use crate::engine::list::ChangeKind;
use crate::repository::Repository;
use crate::source::filter::Filter;
use crate::source::filter::FilterOptions;
use clap::Args;
use serde::Serialize;
use std::ffi::OsStr;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

/// Compare two backups, or a backup and a folder
///
/// Shows what B has that A has not (added), the other way round (deleted), and what is otherwise
/// in both: `modified`, or `metadata` when everything but mode, owner, time, attributes or links
/// is the same. A folder is told from a dataset by a `/` in it: `./photos`. DATASET@3:PATH
/// compares what is within PATH, and paths are shown as seen from there.
///
/// Files of a folder that have the length and time they have in the backup are taken for
/// unchanged; where only the time differs the content is read and decides. Folders of which only
/// the time differs are not shown.
///
/// The exit code is 0 whether or not there are differences, and 3 when something could not be
/// compared.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  icecore diff photos@3 photos@5
  icecore diff photos ./photos
  icecore diff photos@latest~1:2024 photos:2024")]
pub(crate) struct DiffArgs {
    /// Backup or folder: DATASET[@VERSION][:PATH], or a path with a `/` in it
    #[arg(value_name = "A")]
    a: OsString,

    /// Backup or folder to compare it with
    #[arg(value_name = "B")]
    b: OsString,

    /// Read every file of a folder, even one that looks unchanged
    #[arg(long)]
    read_all: bool,
}

/// One side as it was typed.
enum Operand {
    Backup(BackupAddress),
    Folder(SourcePlace),
}

#[derive(Serialize)]
struct Row {
    #[serde(rename = "type")]
    change: &'static str,
    #[serde(flatten)]
    path: PathField,
    kind: Option<&'static str>,
    bytes: Option<u64>,
    before: Option<SeenFields>,
    after: Option<SeenFields>,
    changed: Vec<&'static str>,
}

#[derive(Serialize)]
struct SeenFields {
    kind: &'static str,
    bytes: u64,
    time: String,
}

#[derive(Serialize)]
struct Summary {
    #[serde(rename = "type")]
    row: &'static str,
    added: u64,
    modified: u64,
    metadata: u64,
    deleted: u64,
    added_bytes: u64,
    modified_bytes: u64,
    deleted_bytes: u64,
    errors: Vec<FailureFields>,
}

pub(crate) fn run(args: &DiffArgs, session: &mut Session) -> Result<Exit> {
    let now = session.now();
    let report = match (operand(&args.a, now)?, operand(&args.b, now)?) {
        (Operand::Folder(_), Operand::Folder(_)) => {
            return Err(Error::invalid("one of the two has to be a backup")
                .hint("a backup is named DATASET[@VERSION][:PATH]; `diff -r` compares folders"));
        }
        (Operand::Backup(_), Operand::Backup(_)) if args.read_all => {
            return Err(Error::invalid("--read-all is about a folder, and both are backups"));
        }
        (Operand::Backup(a), Operand::Backup(b)) => {
            let repository = session.open()?;
            let (a, b) = sides(&repository, a, b, session)?;
            session.work_with_output(|context, output| {
                diff::run(&a, &b, context, &mut |row| print(&row, output))
            })?
        }
        (Operand::Backup(at), Operand::Folder(place)) => {
            with_folder(&at, &place, FolderOptions::default(), args, session)?
        }
        (Operand::Folder(place), Operand::Backup(at)) => {
            let options = FolderOptions { folder_first: true, ..FolderOptions::default() };
            with_folder(&at, &place, options, args, session)?
        }
    };
    let is_whole = report.errors.is_empty();
    summarize(&report, session)?;
    Ok(Exit::of(is_whole))
}

/// A `/` before anything that ends the name of a dataset makes it a folder.
fn operand(text: &OsStr, now: Timestamp) -> Result<Operand> {
    let bytes = text.as_bytes();
    let end = bytes.iter().position(|byte| matches!(byte, b'@' | b':' | b'/'));
    let is_address = bytes.windows(3).any(|window| window == b"://");
    let is_folder = end.is_some_and(|end| bytes[end] == b'/');
    if is_folder || is_address || matches!(bytes, b"." | b"..") {
        return SourcePlace::parse(text).map(Operand::Folder);
    }
    BackupAddress::parse(bytes, now).map(Operand::Backup)
}

/// Finds both backups; of one dataset the numbers are listed once.
fn sides(
    repository: &Repository,
    a: BackupAddress,
    b: BackupAddress,
    session: &Session,
) -> Result<(Side, Side)> {
    let (one, other) = if a.dataset == b.dataset {
        session.find_two(repository, &a, &b)?
    } else {
        (session.find(repository, &a)?, session.find(repository, &b)?)
    };
    Ok((side(&one, a)?, side(&other, b)?))
}

fn side(found: &Found, at: BackupAddress) -> Result<Side> {
    Ok(Side { snapshot: found.snapshot()?, path: at.path })
}

fn with_folder(
    at: &BackupAddress,
    place: &SourcePlace,
    options: FolderOptions,
    args: &DiffArgs,
    session: &mut Session,
) -> Result<DiffReport> {
    let options = FolderOptions { read_all: args.read_all, ..options };
    let filter = Filter::new(&FilterOptions::default())?;
    let source = place.open(filter, false, &session.settings())?;
    let repository = session.open()?;
    let side = side(&session.find(&repository, at)?, at.clone())?;
    session.work_with_output(|context, output| {
        diff::with_folder(&side, &*source, options, context, &mut |row| print(&row, output))
    })
}

fn print(row: &DiffRow, output: &mut Output) -> Result<()> {
    if output.is_json() { output.row(&fields_of(row)) } else { output.line(&line(row)) }
}

fn fields_of(row: &DiffRow) -> Row {
    let fields = |seen: Seen| SeenFields {
        kind: seen.kind.as_str(),
        bytes: seen.bytes,
        time: seen.time.to_rfc3339(),
    };
    let there = row.after.or(row.before);
    Row {
        change: word(row),
        path: PathField::new(&row.path),
        kind: there.map(|seen| seen.kind.as_str()),
        bytes: there.map(|seen| seen.bytes),
        before: row.before.map(fields),
        after: row.after.map(fields),
        changed: row.what.iter().map(|what| what.as_str()).collect(),
    }
}

/// Returns the word under which the summary counts a row.
fn word(row: &DiffRow) -> &'static str {
    if row.is_metadata_only() { "metadata" } else { row.change.as_str() }
}

/// `modified  2025/img_3.json  (content, time; 10 B -> 11 B)`
fn line(row: &DiffRow) -> String {
    let word = word(row);
    let there = row.after.or(row.before);
    let is_folder = there.is_some_and(|seen| seen.kind == Kind::Directory);
    let path = if row.path.is_root() { ".".to_owned() } else { row.path.to_string() };
    let slash = if is_folder { "/" } else { "" };
    let bytes = |seen: Option<Seen>| {
        seen.filter(|seen| seen.kind == Kind::File).map(|seen| text::bytes(seen.bytes))
    };
    let words: Vec<&str> = row.what.iter().map(|what| what.as_str()).collect();
    let sizes = match (row.change, bytes(row.before), bytes(row.after)) {
        (ChangeKind::Modified, Some(before), Some(after)) if before != after => {
            Some(format!("{before} -> {after}"))
        }
        (ChangeKind::Modified, ..) => None,
        (_, before, after) => before.or(after),
    };
    let kinds = match (row.before, row.after) {
        (Some(before), Some(after)) if before.kind != after.kind => {
            Some(format!("{} -> {}", before.kind.as_str(), after.kind.as_str()))
        }
        _ => None,
    };
    let said = (!words.is_empty()).then(|| words.join(", "));
    let notes: Vec<String> = [said, kinds, sizes].into_iter().flatten().collect();
    let notes = if notes.is_empty() { String::new() } else { format!("  ({})", notes.join("; ")) };
    format!("{word:<8}  {path}{slash}{notes}")
}

fn summarize(report: &DiffReport, session: &mut Session) -> Result<()> {
    if session.output.is_json() {
        return session.output.row(&Summary {
            row: "summary",
            added: report.added,
            modified: report.modified,
            metadata: report.metadata,
            deleted: report.deleted,
            added_bytes: report.added_bytes,
            modified_bytes: report.modified_bytes,
            deleted_bytes: report.deleted_bytes,
            errors: fields::failures(&report.errors),
        });
    }
    session.output.sentence(&format!(
        "{} added ({}), {} modified ({}), {} with other metadata, {} deleted ({})",
        text::count(report.added),
        text::bytes(report.added_bytes),
        text::count(report.modified),
        text::bytes(report.modified_bytes),
        text::count(report.metadata),
        text::count(report.deleted),
        text::bytes(report.deleted_bytes),
    ))?;
    if !report.errors.is_empty() {
        let entries = text::plural(report.errors.len() as u64, "entry", "entries");
        output::talk(&format!("{entries} could not be compared"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::path::EntryPath;
    use crate::engine::diff::What;

    #[test]
    fn folders_are_told_from_backups_by_a_slash() {
        let is_folder = |text: &str| {
            let operand = operand(OsStr::new(text), Timestamp::new(0, 0)).expect(text);
            matches!(operand, Operand::Folder(_))
        };
        for folder in ["./photos", "/a/b@3", "a/b", ".", "..", "photos/", "../x:y"] {
            assert!(is_folder(folder), "{folder}");
        }
        for backup in ["photos", "photos@3", "photos:a/b", "photos@3:a/b", "photos@2h:x/"] {
            assert!(!is_folder(backup), "{backup}");
        }
        assert!(is_folder("sftp://host/x"));
        assert!(operand(OsStr::new("sftp://host:x/y"), Timestamp::new(0, 0)).is_err());
    }

    #[test]
    fn a_line_says_what_differs() {
        let seen = |kind, bytes| Some(Seen { kind, bytes, time: Timestamp::new(0, 0) });
        let path = EntryPath::new(b"a/b").expect("a path");
        let row = |change, before, after, what: &[What]| {
            let path = path.clone();
            line(&DiffRow { change, path, before, after, what: what.to_vec() })
        };
        let file = |bytes| seen(Kind::File, bytes);
        let folder = || seen(Kind::Directory, 0);
        assert_eq!(row(ChangeKind::Added, None, file(5), &[]), "added     a/b  (5 B)");
        assert_eq!(row(ChangeKind::Deleted, folder(), None, &[]), "deleted   a/b/");
        assert_eq!(
            row(ChangeKind::Modified, file(5), file(6), &[What::Content, What::Time]),
            "modified  a/b  (content, time; 5 B -> 6 B)"
        );
        assert_eq!(
            row(ChangeKind::Modified, folder(), folder(), &[What::Mode]),
            "metadata  a/b/  (mode)"
        );
        assert_eq!(
            row(ChangeKind::Modified, file(5), folder(), &[What::Kind]),
            "modified  a/b/  (kind; file -> directory)"
        );
    }
}
