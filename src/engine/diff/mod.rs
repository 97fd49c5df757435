//! What differs between two backups, or between a backup and a folder.
//!
//! Both are streams in order of paths, and are merged. `sides` goes through two backups: of
//! the links that both are made of only what the others touch is read. `folder` goes through
//! a scan. Neither holds more than an entry of each.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::id::BackupId;
use crate::base::metadata::Kind;
use crate::base::metadata::Metadata;
use crate::base::path::EntryPath;
use crate::base::progress::Warning;
use crate::base::time::Timestamp;
use crate::engine::Context;
use crate::engine::Failure;
use crate::engine::Failures;
use crate::engine::content;
use crate::engine::content::Depth;
use crate::engine::diff::sides::Sides;
use crate::engine::list::ChangeKind;
use crate::engine::restore::work::stops;
use crate::format::backup::Original;
use crate::format::entry::Entry;
use crate::format::entry::EntryNode;
use crate::repository::datasets::Dataset;
use crate::repository::history::Snapshot;
use crate::repository::lease::Lease;
use std::cell::LazyCell;

mod folder;
mod sides;

pub use folder::FolderOptions;
pub use folder::with_folder;

/// A backup, or what is within a path of it.
#[derive(Clone)]
pub struct Side {
    /// The backup.
    pub snapshot: Snapshot,
    /// What is compared; the root for all of it.
    pub path: EntryPath,
}

/// What of an entry differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// What it is.
    Kind,
    /// The content of a file.
    Content,
    /// Where a symlink points.
    Target,
    /// The numbers of a device.
    Device,
    /// The permission bits.
    Mode,
    /// The numbers of owner and group.
    Owner,
    /// The time of the last change.
    Time,
    /// Extended attributes, ACLs among them.
    Xattrs,
    /// Whether a file has several names.
    Links,
}

impl What {
    /// Returns the word for people and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            What::Kind => "kind",
            What::Content => "content",
            What::Target => "target",
            What::Device => "device",
            What::Mode => "mode",
            What::Owner => "owner",
            What::Time => "time",
            What::Xattrs => "xattrs",
            What::Links => "links",
        }
    }

    /// Says whether it is about the entry's metadata alone.
    pub const fn is_metadata(self) -> bool {
        match self {
            What::Kind | What::Content | What::Target | What::Device => false,
            What::Mode | What::Owner | What::Time | What::Xattrs | What::Links => true,
        }
    }
}

/// An entry on one side, in a few words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// What it is.
    pub kind: Kind,
    /// Its length in bytes; 0 for what is no file.
    pub bytes: u64,
    /// The time of its last change.
    pub time: Timestamp,
}

impl Seen {
    fn of(entry: &Entry) -> Self {
        Seen { kind: entry.kind(), bytes: entry.size(), time: entry.metadata.mtime }
    }
}

/// One path that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiffRow {
    /// How, as seen from the first side.
    pub change: ChangeKind,
    /// Where, as seen from what is compared; the root is what is compared itself.
    pub path: EntryPath,
    /// The entry on the first side.
    pub before: Option<Seen>,
    /// The entry on the second side.
    pub after: Option<Seen>,
    /// What differs; empty where only one side has the path.
    pub what: Vec<What>,
}

impl DiffRow {
    /// Says whether the entry is the same but for its metadata.
    pub fn is_metadata_only(&self) -> bool {
        self.change == ChangeKind::Modified && self.what.iter().all(|what| what.is_metadata())
    }

    fn flipped(self) -> Self {
        let change = match self.change {
            ChangeKind::Added => ChangeKind::Deleted,
            ChangeKind::Modified => ChangeKind::Modified,
            ChangeKind::Deleted => ChangeKind::Added,
        };
        DiffRow { change, before: self.after, after: self.before, ..self }
    }
}

/// What was found in all; each row is counted once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiffReport {
    /// Rows of what only the second side has.
    pub added: u64,
    /// Rows of what is otherwise in more than its metadata.
    pub modified: u64,
    /// Rows of what differs in its metadata alone.
    pub metadata: u64,
    /// Rows of what only the first side has.
    pub deleted: u64,
    /// Bytes of files that were added.
    pub added_bytes: u64,
    /// Bytes of files that were modified, as the second side has them.
    pub modified_bytes: u64,
    /// Bytes of files that were deleted.
    pub deleted_bytes: u64,
    /// Entries that could not be compared.
    pub errors: Vec<Failure>,
}

impl DiffReport {
    fn count(&mut self, row: &DiffRow) {
        let bytes = |seen: Option<Seen>| seen.map_or(0, |seen| seen.bytes);
        match row.change {
            ChangeKind::Added => {
                self.added += 1;
                self.added_bytes += bytes(row.after);
            }
            ChangeKind::Deleted => {
                self.deleted += 1;
                self.deleted_bytes += bytes(row.before);
            }
            ChangeKind::Modified if row.is_metadata_only() => self.metadata += 1,
            ChangeKind::Modified => {
                self.modified += 1;
                self.modified_bytes += bytes(row.after);
            }
        }
    }
}

/// Receives the rows.
pub type Visit<'a> = dyn FnMut(DiffRow) -> Result<()> + 'a;

/// Compares two backups of one repository. Rows come in order of paths. A folder of which only
/// the time differs is left out.
///
/// Of two backups of one dataset no content is read: files are the same when their blobs are.
/// Of two datasets, and of one into which backups were copied beside those made here, it is read
/// where blobs differ that may yet hold the same bytes.
///
/// # Errors
/// `NotFound` for a path that one of them has not; those of the repository and of `visit`.
pub fn run(a: &Side, b: &Side, context: &Context<'_>, visit: &mut Visit<'_>) -> Result<DiffReport> {
    let of_a = lease(a, context)?;
    let of_b = lease(b, context);
    let (of_b, report) = match of_b {
        Ok(of_b) => (of_b, compare(a, b, context, visit)),
        Err(e) => (None, Err(e)),
    };
    [of_a, of_b].into_iter().flatten().for_each(Lease::give_back);
    report
}

/// While it stands, no prune takes away what is read here.
fn lease(side: &Side, context: &Context<'_>) -> Result<Option<Lease>> {
    let Side { snapshot, .. } = side;
    let purpose = format!("diff of {}@{}", snapshot.dataset().name(), snapshot.number().0);
    let now = context.clock.now();
    snapshot.repository().read_lease(snapshot.dataset(), snapshot.number(), &purpose, now)
}

fn compare(a: &Side, b: &Side, context: &Context<'_>, visit: &mut Visit<'_>) -> Result<DiffReport> {
    let failures = Failures::new(context.progress);
    let mut report = DiffReport::default();
    let repository = a.snapshot.repository();
    let is_one_dataset = a.snapshot.dataset().id() == b.snapshot.dataset().id();
    let depth = if is_one_dataset { Depth::Names } else { Depth::Bytes };
    let cuts_alike = LazyCell::new(|| is_cut_alike(a.snapshot.dataset()));
    for pair in Sides::new(a, b)? {
        context.cancel.check()?;
        let (path, before, after) = pair?;
        let row = match (&before, &after) {
            (None, None) => continue,
            (None, Some(after)) => one_sided(ChangeKind::Added, path, Seen::of(after)),
            (Some(before), None) => one_sided(ChangeKind::Deleted, path, Seen::of(before)),
            (Some(before), Some(after)) => {
                let same_content = || match (before.file(), after.file()) {
                    (Some(one), Some(other)) => {
                        let is_same = |depth| {
                            content::is_same(repository, (one, other), depth, context.cancel)
                        };
                        let may_be = one.size == other.size && depth == Depth::Names;
                        Ok(is_same(depth)? || (may_be && !*cuts_alike && is_same(Depth::Bytes)?))
                    }
                    _ => Ok(true),
                };
                match differences(before, after, same_content) {
                    Ok(what) => modified(path, Seen::of(before), Seen::of(after), what),
                    Err(e) => {
                        fail(&failures, &path, e)?;
                        continue;
                    }
                }
            }
        };
        tell(row, &mut report, visit)?;
    }
    report.errors = failures.into_list();
    Ok(report)
}

/// Says whether equal bytes have equal blobs in all of a dataset: what was copied into it is cut
/// as another repository cuts, and backups made here on top keep that of what did not change.
fn is_cut_alike(dataset: &Dataset) -> bool {
    // Where headers cannot be read bytes decide.
    let Ok(shown) = dataset.shown_backups() else { return false };
    let id = dataset.repository().id();
    let lines: Vec<Original> = shown.readable.iter().map(|it| it.header.origin(id)).collect();
    lines.windows(2).all(|two| two[0].is_beside(&two[1]))
}

fn one_sided(change: ChangeKind, path: EntryPath, seen: Seen) -> DiffRow {
    let (before, after) = match change {
        ChangeKind::Deleted => (Some(seen), None),
        ChangeKind::Added | ChangeKind::Modified => (None, Some(seen)),
    };
    DiffRow { change, path, before, after, what: Vec::new() }
}

fn modified(path: EntryPath, before: Seen, after: Seen, what: Vec<What>) -> DiffRow {
    let (before, after) = (Some(before), Some(after));
    DiffRow { change: ChangeKind::Modified, path, before, after, what }
}

/// Counts and passes on a row, unless it says nothing worth telling.
fn tell(row: DiffRow, report: &mut DiffReport, visit: &mut Visit<'_>) -> Result<()> {
    let is_folder = row.after.is_some_and(|seen| seen.kind == Kind::Directory);
    let is_nothing = row.change == ChangeKind::Modified
        && (row.what.is_empty() || (is_folder && row.what == [What::Time]));
    if is_nothing {
        return Ok(());
    }
    report.count(&row);
    visit(row)
}

/// Reports that an entry could not be compared.
///
/// # Errors
/// The failure itself, when it concerns more than this entry.
fn fail(failures: &Failures<'_>, path: &EntryPath, error: Error) -> Result<()> {
    if stops(&error) {
        return Err(error);
    }
    failures.warn(&Warning::failed(path, &error.context("cannot be compared")));
    Ok(())
}

/// Says what differs between two entries.
fn differences(
    before: &Entry,
    after: &Entry,
    same_content: impl FnOnce() -> Result<bool>,
) -> Result<Vec<What>> {
    if before.kind() != after.kind() {
        return Ok(vec![What::Kind]);
    }
    let mut what = Vec::new();
    if !same_content()? {
        what.push(What::Content);
    }
    if before.kind() != Kind::File && before.node != after.node {
        let is_link = before.kind() == Kind::Symlink;
        what.push(if is_link { What::Target } else { What::Device });
    }
    metadata_differences(before, &after.metadata, &mut what);
    // Which group a file is in says nothing to anybody else.
    let has_twins = |entry: &Entry| entry.file().is_some_and(|file| file.hard_link.is_some());
    if has_twins(before) != has_twins(after) {
        what.push(What::Links);
    }
    Ok(what)
}

/// Names of owners are not compared: a restore goes by the numbers.
fn metadata_differences(entry: &Entry, other: &Metadata, what: &mut Vec<What>) {
    let own = &entry.metadata;
    // Nobody can change the mode of a symlink, and systems show different ones.
    let is_link = matches!(entry.node, EntryNode::Symlink(_));
    if own.mode != other.mode && !is_link {
        what.push(What::Mode);
    }
    if (own.owner.uid, own.owner.gid) != (other.owner.uid, other.owner.gid) {
        what.push(What::Owner);
    }
    if own.mtime != other.mtime {
        what.push(What::Time);
    }
    if own.xattrs != other.xattrs {
        what.push(What::Xattrs);
    }
}

fn nothing_at(snapshot: &Snapshot, path: &EntryPath) -> Error {
    let (BackupId(number), name) = (snapshot.number(), snapshot.dataset().name());
    Error::new(ErrorKind::NotFound, format!("there is no {path} in {name}@{number}"))
        .hint(format!("`icecore ls {name}@{number}` shows what is in it"))
}
