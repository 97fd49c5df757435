//! `icecore show`.

use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::metadata::Kind;
use crate::base::path::display;
use crate::cli::commands::list::BackupRow;
use crate::cli::commands::list::kind;
use crate::cli::exit::Exit;
use crate::cli::fields::PathField;
use crate::cli::session::Found;
use crate::cli::session::Session;
use crate::cli::text;
use crate::engine::list;
use crate::engine::list::ChangeRow;
use crate::format::entry::EntryNode;
use clap::Args;
use serde::Serialize;
use std::ffi::OsString;
use std::sync::Arc;

/// Show one backup: when, from where, how much, and what changed
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  icecore show photos@3 --changes")]
pub(crate) struct ShowArgs {
    /// Backup to show: DATASET[@VERSION]
    #[arg(value_name = "BACKUP")]
    backup: OsString,

    /// List what was added, modified and deleted
    #[arg(long)]
    changes: bool,
}

#[derive(Serialize)]
struct Document<'a> {
    dataset: &'a str,
    #[serde(flatten)]
    row: BackupRow<'a>,
    parent: Option<u64>,
    chain: Vec<u64>,
    ended: String,
    entries: u64,
    snapshot: String,
    copy_of: Option<CopyOf>,
}

/// Which backup a copy is.
#[derive(Serialize)]
struct CopyOf {
    repository: String,
    dataset_id: String,
    backup: u64,
}

#[derive(Serialize)]
struct Row {
    #[serde(rename = "type")]
    change: &'static str,
    #[serde(flatten)]
    path: PathField,
    kind: Option<&'static str>,
    bytes: Option<u64>,
}

pub(crate) fn run(args: &ShowArgs, session: &mut Session) -> Result<Exit> {
    let at = session.address(&args.backup)?;
    if !at.path.is_root() {
        return Err(Error::invalid("`show` is about a whole backup, without a path")
            .hint("`icecore ls BACKUP:PATH` looks inside"));
    }
    let repository = session.open()?;
    let found = session.find(&repository, &at)?;
    if session.output.is_json() {
        // One kind of document at a time: rows with --changes, the header without.
        if !args.changes {
            session.output.document(&document(&found))?;
        }
    } else {
        print_header(&found, session)?;
    }
    if args.changes {
        for change in list::changes(&found.dataset, Arc::clone(&found.backup))? {
            session.cancel.check()?;
            print_change(&change?, session)?;
        }
    }
    Ok(Exit::Done)
}

fn document(found: &Found) -> Document<'_> {
    let header = &found.backup.header;
    Document {
        dataset: found.dataset.name().as_str(),
        row: BackupRow::new(&found.backup),
        parent: header.parent.map(|parent| parent.0),
        chain: header.chain.iter().map(|link| link.0).collect(),
        ended: header.ended.to_rfc3339(),
        entries: header.counts.entries,
        snapshot: header.snapshot.to_string(),
        copy_of: header.original.map(|original| CopyOf {
            repository: original.repository.to_string(),
            dataset_id: original.dataset.to_string(),
            backup: original.number.0,
        }),
    }
}

fn print_header(found: &Found, session: &mut Session) -> Result<()> {
    let (backup, header) = (&found.backup, &found.backup.header);
    let counts = &header.counts;
    let seconds = header.ended.seconds_since(header.started);
    let mut rows = vec![
        ("backup", format!("{}, {}", found.name(), kind(backup))),
        ("time", format!("{}, took {}", header.started.to_local_text(), text::seconds(seconds))),
        ("source", format!("{} on {}", header.source, header.host)),
        (
            "holds",
            format!(
                "{} ({})",
                text::plural(counts.files, "file", "files"),
                text::bytes(counts.bytes)
            ),
        ),
        (
            "changes",
            format!(
                "{} added, {} modified, {} deleted",
                text::count(counts.added),
                text::count(counts.modified),
                text::count(counts.deleted)
            ),
        ),
        (
            "cost",
            format!(
                "{} new, {} stored",
                text::bytes(counts.new_bytes),
                text::bytes(counts.stored_bytes)
            ),
        ),
    ];
    if counts.errors > 0 {
        let entries = text::plural(counts.errors, "entry", "entries");
        rows.push(("errors", format!("{entries} could not be read")));
    }
    if !backup.tags.is_empty() {
        rows.push(("tags", backup.tags.join(", ")));
    }
    if !backup.description.is_empty() {
        rows.push(("description", backup.description.clone()));
    }
    if let Some(original) = header.original {
        let repository = original.repository.short();
        rows.push(("copy of", format!("{} in repository {repository}", original.number)));
    }
    rows.push(("snapshot", header.snapshot.to_string()));
    for (name, value) in rows {
        session.output.line(&format!("{name:<11}  {}", display(value.as_bytes())))?;
    }
    Ok(())
}

fn print_change(change: &ChangeRow, session: &mut Session) -> Result<()> {
    let entry = change.entry.as_ref();
    if session.output.is_json() {
        return session.output.row(&Row {
            change: change.change.as_str(),
            path: PathField::new(&change.path),
            kind: entry.map(|entry| entry.kind().as_str()),
            bytes: entry.and_then(|entry| match &entry.node {
                EntryNode::File(file) => Some(file.size),
                _ => None,
            }),
        });
    }
    let is_folder = entry.is_some_and(|entry| entry.kind() == Kind::Directory);
    let slash = if is_folder { "/" } else { "" };
    session.output.line(&format!("{:<8}  {}{slash}", change.change.as_str(), change.path))
}
