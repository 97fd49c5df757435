//! Compares a backup with a folder, or whatever else a source shows.
//!
//! What the source shows as it was when it was backed up is taken for the same. A file of the
//! same length and time is, too, unless it is the very file that was backed up and its inode
//! says that something happened to it, or it was as young as that backup. Where only the time
//! differs the content decides.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::metadata::Kind;
use crate::base::path::EntryPath;
use crate::base::progress::Warning;
use crate::engine::Context;
use crate::engine::Failures;
use crate::engine::compare::Compared;
use crate::engine::compare::Comparison;
use crate::engine::compare::Reason;
use crate::engine::compare::Rules;
use crate::engine::content;
use crate::engine::diff::DiffReport;
use crate::engine::diff::DiffRow;
use crate::engine::diff::Seen;
use crate::engine::diff::Side;
use crate::engine::diff::Visit;
use crate::engine::diff::What;
use crate::engine::diff::fail;
use crate::engine::diff::lease;
use crate::engine::diff::metadata_differences;
use crate::engine::diff::modified;
use crate::engine::diff::nothing_at;
use crate::engine::diff::one_sided;
use crate::engine::diff::tell;
use crate::engine::list::ChangeKind;
use crate::format::entry::EntryNode;
use crate::format::entry::TrackedEntry;
use crate::repository::Repository;
use crate::repository::history::Entries;
use crate::repository::lost::LostPlaces;
use crate::source::OpenedEntry;
use crate::source::Source;
use crate::source::SourceEntry;
use crate::source::SourceReader;

/// How a backup is compared with a folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FolderOptions {
    /// Read every file, whatever its time says.
    pub read_all: bool,
    /// The folder is the first side, and the backup the second.
    pub folder_first: bool,
}

/// Compares a backup, or what is within a path of it, with what a source shows. Rows come in
/// order of paths; what cannot be read stands in the report.
///
/// # Errors
/// `NotFound` for a path that the backup has not; those of the repository, of the source as a
/// whole, and of `visit`.
pub fn with_folder(
    side: &Side,
    source: &dyn Source,
    options: FolderOptions,
    context: &Context<'_>,
    visit: &mut Visit<'_>,
) -> Result<DiffReport> {
    let lease = lease(side, context)?;
    let report = compare(side, source, options, context, visit);
    if let Some(lease) = lease {
        lease.give_back();
    }
    report
}

fn compare(
    side: &Side,
    source: &dyn Source,
    options: FolderOptions,
    context: &Context<'_>,
    visit: &mut Visit<'_>,
) -> Result<DiffReport> {
    let Side { snapshot, path } = side;
    if !path.is_root() && snapshot.entry(path)?.is_none() {
        return Err(nothing_at(snapshot, path));
    }
    let read_all = options.read_all || !source.detects_changes();
    let checked = snapshot.backup().header.read_from;
    let rules = Rules::of(source, read_all, checked, LostPlaces::default());
    let failures = Failures::new(context.progress);
    let mut judge = Judge {
        repository: snapshot.repository(),
        reader: source.reader()?,
        read_all: rules.read_all,
        scratch: Vec::new(),
        context,
        failures: &failures,
    };
    let mut report = DiffReport::default();
    let before = Within { entries: snapshot.entries_from(path), path: path.clone() };
    for compared in Comparison::new(source.scan(context.cancel)?, before, rules) {
        context.cancel.check()?;
        let row = match compared? {
            Compared::Same(_) | Compared::Unseen(_) => None,
            Compared::Gone(gone) => {
                let seen = Seen::of(&gone.entry);
                Some(one_sided(ChangeKind::Deleted, gone.entry.path, seen))
            }
            Compared::Look(now, None, _) => {
                let seen = seen(&now);
                Some(one_sided(ChangeKind::Added, now.path, seen))
            }
            Compared::Look(now, Some(before), reason) => judge.look(&now, &before, reason)?,
            Compared::Failed(path, e) => {
                fail(&failures, &path, e)?;
                None
            }
            Compared::Skipped(path, why) => {
                context.progress.warn(&Warning::note(&path, why));
                None
            }
        };
        let flip = |row: DiffRow| if options.folder_first { row.flipped() } else { row };
        row.map_or(Ok(()), |row| tell(flip(row), &mut report, visit))?;
    }
    context.cancel.check()?;
    drop(judge);
    report.errors = failures.into_list();
    Ok(report)
}

/// The entries within a path, as seen from there.
struct Within {
    entries: Entries,
    path: EntryPath,
}

impl Iterator for Within {
    type Item = Result<TrackedEntry>;
    fn next(&mut self) -> Option<Self::Item> {
        let mut tracked = match self.entries.next()? {
            Ok(tracked) => tracked,
            Err(e) => return Some(Err(e)),
        };
        tracked.entry.path = tracked.entry.path.relative_to(&self.path)?;
        Some(Ok(tracked))
    }
}

fn seen(now: &SourceEntry) -> Seen {
    Seen { kind: now.kind, bytes: now.size, time: now.metadata.mtime }
}

/// Looks closer at what may differ.
struct Judge<'a> {
    repository: &'a Repository,
    reader: Box<dyn SourceReader + Send + 'a>,
    read_all: bool,
    scratch: Vec<u8>,
    context: &'a Context<'a>,
    failures: &'a Failures<'a>,
}

impl Judge<'_> {
    fn look(
        &mut self,
        now: &SourceEntry,
        before: &TrackedEntry,
        reason: Reason,
    ) -> Result<Option<DiffRow>> {
        let old = Seen::of(&before.entry);
        if now.kind != before.entry.kind() {
            return Ok(Some(modified(now.path.clone(), old, seen(now), vec![What::Kind])));
        }
        match self.differences(now, before, reason) {
            Ok((what, opened)) => {
                Ok(Some(modified(now.path.clone(), old, seen(&opened.entry), what)))
            }
            Err(e) if e.kind() == ErrorKind::NotFound && e.origin() == Origin::Source => {
                // Gone since it was listed.
                Ok(Some(one_sided(ChangeKind::Deleted, now.path.clone(), old)))
            }
            Err(e) => fail(self.failures, &now.path, e).map(|()| None),
        }
    }

    fn differences(
        &mut self,
        now: &SourceEntry,
        before: &TrackedEntry,
        reason: Reason,
    ) -> Result<(Vec<What>, OpenedEntry)> {
        let opened = self.reader.open(&now.path)?;
        let entry = &before.entry;
        let mut what = Vec::new();
        match &entry.node {
            EntryNode::File(file) => {
                if opened.entry.size != file.size {
                    what.push(What::Content);
                } else if self.is_in_doubt(&opened.entry, before, reason) {
                    let (repository, cancel) = (self.repository, self.context.cancel);
                    let (reader, scratch) = (&mut *self.reader, &mut self.scratch);
                    if !content::is_in_source(repository, file, reader, scratch, cancel)? {
                        what.push(What::Content);
                    }
                    self.refuse_changing(&opened.entry)?;
                }
                if file.hard_link.is_some() != opened.entry.hard_link.is_some() {
                    what.push(What::Links);
                }
            }
            EntryNode::Symlink(target) if *target != opened.link_target => what.push(What::Target),
            EntryNode::CharDevice(major, minor) | EntryNode::BlockDevice(major, minor)
                if (*major, *minor) != opened.entry.device =>
            {
                what.push(What::Device);
            }
            _ => {}
        }
        metadata_differences(entry, &opened.entry.metadata, &mut what);
        Ok((what, opened))
    }

    /// Says whether the content of a file of the same length may differ.
    fn is_in_doubt(&self, now: &SourceEntry, before: &TrackedEntry, reason: Reason) -> bool {
        let (detected, known) = (&now.detection, &before.detection);
        let is_very_file = detected.inode == known.inode && now.kind == Kind::File;
        self.read_all
            || reason == Reason::Racy
            || now.metadata.mtime != before.entry.metadata.mtime
            || (is_very_file && detected.ctime != known.ctime)
            || detected.tag != known.tag
    }

    fn refuse_changing(&mut self, opened: &SourceEntry) -> Result<()> {
        let after = self.reader.finish()?;
        if after.size == opened.size && after.detection == opened.detection {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Io, "it changed while it was read").at(Origin::Source))
    }
}
