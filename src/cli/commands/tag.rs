//! `icecore tag`.

use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::path::display;
use crate::cli::exit::Exit;
use crate::cli::session::Session;
use crate::engine::tag;
use crate::engine::tag::TagChange;
use crate::engine::tag::TagReport;
use clap::Args;
use serde::Serialize;
use std::ffi::OsString;

/// Show or change the tags and the description of a backup
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  icecore tag photos@3 --add keep --remove draft --description 'before the move'
  icecore tag photos@3")]
pub(crate) struct TagArgs {
    /// Backup to tag: DATASET[@VERSION]
    #[arg(value_name = "BACKUP")]
    backup: OsString,

    /// Add a tag; may be repeated
    #[arg(long, value_name = "TAG")]
    add: Vec<String>,

    /// Remove a tag, if it is there; may be repeated
    #[arg(long, value_name = "TAG")]
    remove: Vec<String>,

    /// Replace all tags by this one, or by none; may be repeated
    #[arg(long, value_name = "TAG", num_args = 0..=1, conflicts_with_all = ["add", "remove"])]
    set: Option<Vec<String>>,

    /// Describe the backup; an empty text removes the description
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
}

#[derive(Serialize)]
struct Document<'a> {
    dataset: &'a str,
    backup: u64,
    tags: &'a [String],
    description: &'a str,
    changed: bool,
}

pub(crate) fn run(args: &TagArgs, session: &mut Session) -> Result<Exit> {
    let at = session.address(&args.backup)?;
    if !at.path.is_root() {
        return Err(Error::invalid("`tag` is about a whole backup, without a path"));
    }
    let change = args.change()?;
    let repository = session.open()?;
    let found = session.find(&repository, &at)?;
    let number = found.backup.header.number;
    let report = session.work(|context| tag::run(&found.dataset, number, &change, context))?;
    if session.output.is_json() {
        session.output.document(&Document {
            dataset: found.dataset.name().as_str(),
            backup: number.0,
            tags: &report.tags,
            description: &report.description,
            changed: report.is_changed,
        })?;
        return Ok(Exit::Done);
    }
    let sentence = sentence(&found.name(), &report);
    match change == TagChange::default() {
        true => session.output.line(&sentence)?,
        false => session.output.sentence(&sentence)?,
    }
    Ok(Exit::Done)
}

fn sentence(name: &str, report: &TagReport) -> String {
    let tags = match report.tags.as_slice() {
        [] => "no tags".to_owned(),
        tags => format!("tags {}", tags.join(", ")),
    };
    let text = match report.description.as_str() {
        "" => String::new(),
        text => format!("; {text}"),
    };
    display(format!("{name}: {tags}{text}").as_bytes())
}

impl TagArgs {
    fn change(&self) -> Result<TagChange> {
        let change = TagChange {
            set: self.set.clone(),
            add: self.add.clone(),
            remove: self.remove.clone(),
            description: self.description.clone(),
        };
        change.checked()
    }
}
