//! `icecore ls`.

use crate::base::error::Result;
use crate::base::metadata::Kind;
use crate::base::metadata::mode_text;
use crate::base::path::display;
use crate::cli::exit::Exit;
use crate::cli::fields::PathField;
use crate::cli::fields::TargetField;
use crate::cli::session::Session;
use crate::cli::text;
use crate::engine::list;
use crate::engine::list::Depth;
use crate::format::entry::Entry;
use crate::format::entry::EntryNode;
use clap::Args;
use serde::Serialize;
use std::ffi::OsString;

/// List what is in a backup
///
/// Paths are shown from the root of the dataset, folders with a slash at their end.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  icecore ls -l photos@3:2024")]
pub(crate) struct LsArgs {
    /// Backup, and maybe a path in it: DATASET[@VERSION][:PATH]
    #[arg(value_name = "BACKUP[:PATH]")]
    backup: OsString,

    /// Show mode, owner, size and time
    #[arg(short, long)]
    long: bool,

    /// List everything below, too
    #[arg(short = 'R', long)]
    recursive: bool,
}

#[derive(Serialize)]
struct Row<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    path: PathField,
    bytes: u64,
    mode: String,
    uid: u32,
    gid: u32,
    user: &'a str,
    group: &'a str,
    time: String,
    #[serde(flatten)]
    target: TargetField,
}

pub(crate) fn run(args: &LsArgs, session: &mut Session) -> Result<Exit> {
    let at = session.address(&args.backup)?;
    let repository = session.open()?;
    let snapshot = session.find(&repository, &at)?.snapshot()?;
    let depth = if args.recursive { Depth::Tree } else { Depth::Folder };
    for entry in list::entries(&snapshot, &at.path, depth)? {
        session.cancel.check()?;
        let entry = entry?;
        // A folder is not in its own list.
        if entry.path == at.path && entry.kind() == Kind::Directory {
            continue;
        }
        if session.output.is_json() {
            session.output.row(&row(&entry))?;
        } else {
            session.output.line(&line(&entry, args.long))?;
        }
    }
    Ok(Exit::Done)
}

fn size(entry: &Entry) -> u64 {
    if let EntryNode::File(file) = &entry.node { file.size } else { 0 }
}

fn row(entry: &Entry) -> Row<'_> {
    let metadata = &entry.metadata;
    Row {
        kind: entry.kind().as_str(),
        path: PathField::new(&entry.path),
        bytes: size(entry),
        mode: format!("{:04o}", metadata.mode),
        uid: metadata.owner.uid,
        gid: metadata.owner.gid,
        user: &metadata.owner.user,
        group: &metadata.owner.group,
        time: metadata.mtime.to_rfc3339(),
        target: TargetField::of(entry),
    }
}

fn line(entry: &Entry, is_long: bool) -> String {
    let slash = if entry.kind() == Kind::Directory { "/" } else { "" };
    let name = format!("{}{slash}", entry.path);
    if !is_long {
        return name;
    }
    let target = match &entry.node {
        EntryNode::Symlink(target) => format!(" -> {}", display(target)),
        _ => String::new(),
    };
    let size = match &entry.node {
        EntryNode::File(file) => text::bytes(file.size),
        EntryNode::CharDevice(major, minor) | EntryNode::BlockDevice(major, minor) => {
            format!("{major}, {minor}")
        }
        _ => "-".to_owned(),
    };
    let owner = &entry.metadata.owner;
    let named = |name: &str, number: u32| match name {
        "" => number.to_string(),
        name => display(name.as_bytes()),
    };
    format!(
        "{} {:<8} {:<8} {size:>10}  {}  {name}{target}",
        mode_text(entry.kind(), entry.metadata.mode),
        named(&owner.user, owner.uid),
        named(&owner.group, owner.gid),
        entry.metadata.mtime.to_local_text(),
    )
}
