//! What `icecore backup` tells of itself.

use crate::base::error::Result;
use crate::cli::fields;
use crate::cli::fields::ErrorFields;
use crate::cli::fields::FailureFields;
use crate::cli::output;
use crate::cli::session::Session;
use crate::cli::text;
use crate::engine::backup::BackupKind;
use crate::engine::backup::BackupReport;
use serde::Serialize;

#[derive(Serialize)]
pub(super) struct Document<'a> {
    dataset: &'a str,
    backup: u64,
    kind: &'static str,
    added: u64,
    modified: u64,
    deleted: u64,
    files: u64,
    bytes: u64,
    new_bytes: u64,
    stored_bytes: u64,
    errors: Vec<FailureFields>,
    seconds: f64,
    dry_run: bool,
}

/// One of several sources.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Row<'a> {
    Done(Document<'a>),
    Failed { dataset: &'a str, error: ErrorFields },
}

pub(super) fn document(report: &BackupReport, dry_run: bool) -> Document<'_> {
    let counts = &report.counts;
    Document {
        dataset: report.dataset.as_str(),
        backup: report.backup.0,
        kind: match report.kind {
            BackupKind::Full => "full",
            BackupKind::Partial => "partial",
            BackupKind::Unchanged => "unchanged",
        },
        added: counts.added,
        modified: counts.modified,
        deleted: counts.deleted,
        files: counts.files,
        bytes: counts.bytes,
        new_bytes: counts.new_bytes,
        stored_bytes: counts.stored_bytes,
        errors: fields::failures(&report.errors),
        seconds: report.seconds,
        dry_run,
    }
}

pub(super) fn say(report: &BackupReport, dry_run: bool, session: &mut Session) -> Result<()> {
    let counts = &report.counts;
    let name = format!("{}@{}", report.dataset, report.backup.0);
    let files = text::plural(counts.files, "file", "files");
    let (size, time) = (text::bytes(counts.bytes), text::seconds(report.seconds));
    let sentence = if report.kind == BackupKind::Unchanged {
        format!("{name}: unchanged, {files} ({size}), {time}")
    } else {
        format!(
            "{name}: {} added, {} modified, {} deleted of {files} ({size}); \
             {} new, {} stored, {time}",
            text::count(counts.added),
            text::count(counts.modified),
            text::count(counts.deleted),
            text::bytes(counts.new_bytes),
            text::bytes(counts.stored_bytes),
        )
    };
    let dry = if dry_run { " (dry run: nothing was stored)" } else { "" };
    session.output.sentence(&format!("{sentence}{dry}"))?;
    if !report.errors.is_empty() {
        let entries = text::plural(report.errors.len() as u64, "entry", "entries");
        output::talk(&format!("{name}: {entries} could not be read"));
    }
    Ok(())
}
