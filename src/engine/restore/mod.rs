//! Brings a backup back into a folder.
//!
//! ```text
//! snapshot --> select --> walk --------------------> window --> reads -> write (all threads)
//!              which      folders, links, devices,   files and  by pack,  read a stretch of a
//!              entries,   what to do with what       where      in offset pack, decode, verify,
//!              renamed    stands in the target       their      order     create, write, set
//!                         already (decide), what     blobs are            metadata, close
//!                         to delete (folders)
//!                                                    then: hard links, metadata of the folders
//!                                                    that are done, deepest first; next window
//! ```
//!
//! A window holds at most `RESTORE_WINDOW_ROWS` runs and `RESTORE_WINDOW_BYTES` of paths, a
//! thread one stretch of a pack (`RESTORE_READ_BYTES`, or one block) and one decoded block; so
//! memory does not grow with the dataset. Two things do: the first path of every file with several
//! names, and one bit an entry with `verify`.
//!
//! Every blob is verified against its name before it is written. A file that lacks some of its
//! content is removed again and reported; the others go on. Only a file that was being brought
//! up to date in place stays as it is, with a word on what it holds, as it is a person's own.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::limits::RESTORE_READ_BYTES;
use crate::base::limits::RESTORE_WINDOW_BYTES;
use crate::base::limits::RESTORE_WINDOW_ROWS;
use crate::base::path::EntryPath;
use crate::base::progress::Phase;
use crate::base::progress::Totals;
use crate::base::progress::Warning;
use crate::engine::Context;
use crate::engine::Failure;
use crate::engine::restore::dry::Plan;
pub use crate::engine::restore::dry::Visit;
use crate::engine::restore::select::Selection;
use crate::engine::restore::walk::Walker;
use crate::engine::restore::work::Work;
use crate::repository::history::Snapshot;
use crate::source::filter::Filter;
use crate::source::filter::FilterOptions;
use crate::source::filter::Pattern;
use crate::target::Target;
use crate::target::TargetWriter;
use std::collections::BTreeSet;
use std::fmt;

mod bits;
mod clash;
mod compare;
mod content;
mod decide;
mod dry;
pub(crate) mod fetch;
mod flush;
mod folders;
mod layout;
pub(crate) mod links;
pub(crate) mod reads;
pub(crate) mod select;
mod shared;
mod spare;
mod sweep;
mod verify;
mod walk;
mod window;
pub(crate) mod work;
mod write;

/// What happens to what stands in the target already. Where that is of another kind the same rules
/// hold, but that a folder which holds something never goes without [`RestoreOptions::delete`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overwrite {
    /// It is removed and made anew.
    Always,
    /// Files are compared by content, and only what differs is written, in place.
    IfChanged,
    /// It is replaced when the backup's is newer.
    IfNewer,
    /// It is kept.
    Never,
}

/// What is restored, and how.
#[derive(Clone, Debug)]
pub struct RestoreOptions {
    /// What happens to what is there; None: a target that is not empty is refused.
    pub overwrite: Option<Overwrite>,
    /// Remove what the backup does not have, also a folder where the backup has something else.
    /// What the selection leaves out is not touched, nor what lies on another file system than
    /// the target's root, nor what no backup of the source could have, as sockets.
    pub delete: bool,
    /// Make the target durable, then read every restored file back and compare.
    pub verify: bool,
    /// Set owners.
    pub owner: bool,
    /// Restore only what lies within it, without it in front; of a file its name is kept.
    pub strip: EntryPath,
    /// Restore only what lies within any of these, whole paths kept. None: everything.
    pub paths: Vec<EntryPath>,
    /// Restore only what matches any of these, with all in a folder that does and the folders above
    /// it, by the paths in the backup. None: everything.
    pub include: Vec<Pattern>,
    /// Leaves entries out, by their paths in the backup.
    pub filter: Filter,
    /// What in the target is neither written to nor deleted.
    pub spared: Vec<Spared>,
}

/// A place in the target that a restore leaves alone, with all in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spared {
    /// Where it is in the target.
    pub path: EntryPath,
    /// What it is.
    pub what: Own,
}

/// What of this program's own a restore leaves alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Own {
    /// The repository that is read.
    Repository,
    /// The cache, which is of use to nobody in a backup.
    Cache,
}

/// In the words of a sentence.
impl fmt::Display for Own {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Own::Repository => "the repository",
            Own::Cache => "the cache",
        })
    }
}

impl Default for RestoreOptions {
    fn default() -> Self {
        let filter = Filter::new(&FilterOptions::default());
        RestoreOptions {
            overwrite: None,
            delete: false,
            verify: false,
            owner: true,
            strip: EntryPath::root(),
            paths: Vec::new(),
            include: Vec::new(),
            filter: filter.expect("because without a pattern none can be bad"),
            spared: Vec::new(),
        }
    }
}

/// What a restore would do with one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedAction {
    /// The path in the target.
    pub path: EntryPath,
    /// One of `create`, `overwrite`, `update`, `keep`, `delete`, `skip`.
    pub action: &'static str,
}

/// What a restore did.
#[derive(Clone, Debug, Default)]
pub struct RestoreReport {
    /// Entries that stand in the target as the backup has them, folders not counted.
    pub files: u64,
    /// Bytes of those, holes counted.
    pub bytes: u64,
    /// Bytes of content that were written.
    pub written_bytes: u64,
    /// Things removed by `delete`; a folder with all below it is one.
    pub deleted: u64,
    /// Entries that could not be restored as they were.
    pub errors: Vec<Failure>,
    /// How long it took, in seconds.
    pub seconds: f64,
}

/// How much a restore holds in memory at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Runs, or entries without any, of one window.
    pub window_rows: usize,
    /// Bytes of paths, attributes and extents of one window.
    pub window_bytes: usize,
    /// Bytes of one read from a pack.
    pub read_bytes: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds {
            window_rows: RESTORE_WINDOW_ROWS,
            window_bytes: RESTORE_WINDOW_BYTES,
            read_bytes: RESTORE_READ_BYTES as u64,
        }
    }
}

/// Restores a snapshot into a target.
///
/// # Errors
/// `InvalidInput` when the target is not empty and nothing says what to do then; `NotFound` for
/// a path that the backup does not have, or when nothing matches; `Full` and other failures of the
/// whole target or the whole repository; `Cancelled`. What concerns one entry stands in the
/// report.
pub fn run(
    snapshot: &Snapshot,
    target: &dyn Target,
    options: &RestoreOptions,
    context: &Context<'_>,
) -> Result<RestoreReport> {
    run_bounded(snapshot, target, options, context, Bounds::default())
}

/// Restores like [`run`], with other bounds on memory: for machines that have little of it.
///
/// # Errors
/// Those of [`run`].
pub fn run_bounded(
    snapshot: &Snapshot,
    target: &dyn Target,
    options: &RestoreOptions,
    context: &Context<'_>,
    bounds: Bounds,
) -> Result<RestoreReport> {
    run_or_plan(snapshot, target, options, context, bounds, None)
}

/// Decides everything and writes nothing: tells what [`run`] would do, row by row in the order of
/// paths, and returns what it would report.
///
/// # Errors
/// Those of [`run`], but for what only writing shows; those of `visit`.
pub fn plan(
    snapshot: &Snapshot,
    target: &dyn Target,
    options: &RestoreOptions,
    context: &Context<'_>,
    visit: &mut Visit<'_>,
) -> Result<RestoreReport> {
    plan_bounded(snapshot, target, options, context, Bounds::default(), visit)
}

/// Plans like [`plan`], with other bounds on memory.
///
/// # Errors
/// Those of [`plan`].
pub fn plan_bounded(
    snapshot: &Snapshot,
    target: &dyn Target,
    options: &RestoreOptions,
    context: &Context<'_>,
    bounds: Bounds,
    visit: &mut Visit<'_>,
) -> Result<RestoreReport> {
    run_or_plan(snapshot, target, options, context, bounds, Some(visit))
}

/// Restores; with somebody to be told of the plan, only plans.
fn run_or_plan(
    snapshot: &Snapshot,
    target: &dyn Target,
    options: &RestoreOptions,
    context: &Context<'_>,
    bounds: Bounds,
    visit: Option<&mut Visit<'_>>,
) -> Result<RestoreReport> {
    let started = context.clock.now();
    let (repository, dataset) = (snapshot.repository(), snapshot.dataset());
    let purpose = format!("restore of {}@{}", dataset.name(), snapshot.number().0);
    // While it stands, no prune takes away what is read here.
    let lease = repository.read_lease(dataset, snapshot.number(), &purpose, started)?;
    let work = Work::new(repository, target, options, *context, bounds, visit.is_some());
    let restored = restore(snapshot, &work, visit);
    if let Some(lease) = lease {
        lease.give_back();
    }
    let seconds = context.clock.now().seconds_since(started);
    let lacks_some = work.lacks_some() || restored.as_ref().is_err_and(work::is_missing);
    if lacks_some && repository.was_forgotten(dataset, snapshot.number()) {
        // It went on in spite of the lease: this process slept for long, or could put none.
        let (number, name) = (snapshot.number(), dataset.name());
        let message = format!(
            "{number} of {name} was forgotten while it was read, and a prune may have taken what \
             is missing"
        );
        context.progress.warn(&Warning::general(message));
    }
    restored.map(|()| work.into_report(seconds))
}

fn restore(snapshot: &Snapshot, work: &Work<'_>, visit: Option<&mut Visit<'_>>) -> Result<()> {
    let Work { target, options, context, is_dry, .. } = *work;
    let selection = Selection::resolve(snapshot, options)?;
    let (mut writer, was_there) = enter(target, is_dry)?;
    if options.overwrite.is_none()
        && let Some(writer) = &mut writer
    {
        refuse_what_is_there(target, &mut **writer)?;
    }
    if let Some(visit) = visit {
        // No phase of progress: it would stand between the rows.
        let plan = Some(Plan::new(visit));
        return Walker::new(work, &selection, writer, was_there, plan).run().map(drop);
    }
    let counts = &snapshot.backup().header.counts;
    let totals = match selection.is_everything() {
        true => Totals { files: Some(counts.files), bytes: Some(counts.bytes) },
        false => Totals::default(),
    };
    context.progress.start(Phase::Restore, totals);
    let walked = Walker::new(work, &selection, writer, was_there, None).run();
    context.progress.finish();
    let mut walked = walked?;
    let finished = target.finish()?;
    let mut lost = BTreeSet::new();
    for (path, error) in finished.failed {
        work.fail(&path, error)?;
        lost.insert(path);
    }
    walked.take_back(work, &selection, lost)?;
    finished.notes.iter().for_each(|note| context.progress.warn(&Warning::general(note)));
    if options.verify {
        target.writer()?.sync()?;
        context.progress.start(Phase::Verify, Totals::default());
        let verified = verify::run(work, &selection, &walked);
        context.progress.finish();
        verified?;
    }
    Ok(())
}

type RootWriter<'a> = Box<dyn TargetWriter + Send + 'a>;

/// Makes the root, and says whether it was there. A dry run makes nothing, and has no writer
/// where there is no root.
fn enter<'a>(target: &'a dyn Target, is_dry: bool) -> Result<(Option<RootWriter<'a>>, bool)> {
    if !is_dry {
        let was_there = target.prepare()?;
        return Ok((Some(target.writer()?), was_there));
    }
    match target.writer() {
        Ok(writer) => Ok((Some(writer), true)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok((None, false)),
        Err(e) => Err(e),
    }
}

fn refuse_what_is_there(target: &dyn Target, writer: &mut dyn TargetWriter) -> Result<()> {
    if writer.list(&EntryPath::root())?.is_empty() {
        return Ok(());
    }
    Err(Error::invalid(format!("{} is not empty", target.location()))
        .hint(
            "--overwrite always, if-changed, if-newer or never says what to do with what is there",
        )
        .at(Origin::Target))
}
