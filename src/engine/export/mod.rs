//! Writes a backup as an archive: one stream, in the order of paths.
//!
//! ```text
//! snapshot --> select --> plan ------------> a queue of items ------> archive --> out
//!                         entries, and the   their blocks are         tar or zip
//!                         runs of files      decoded and verified
//!                                            on all threads meanwhile
//! ```
//!
//! Nothing stands in the archive that was not verified. A file that is held whole is verified
//! before its header is written, and left out and reported where that fails. A larger one is
//! begun once its first piece is verified; where a later one fails, the archive breaks off in
//! the middle of that file, without an end, and nobody takes it for whole.
//!
//! Memory: `EXPORT_AHEAD_BYTES` of decoded blocks and an item more, one compressed block a
//! thread; the first path of every file with several names; and in a zip, whose list of
//! contents comes last, the name of every entry.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::limits::EXPORT_AHEAD_BYTES;
use crate::base::limits::EXPORT_AHEAD_ITEMS;
use crate::base::path::EntryPath;
use crate::base::progress::Counter;
use crate::base::progress::Phase;
use crate::base::progress::Totals;
use crate::base::progress::Warning;
use crate::codec::compress;
use crate::codec::compress::StreamCompressor;
use crate::engine::Context;
use crate::engine::Failure;
use crate::engine::Failures;
use crate::engine::export::plan::Item;
use crate::engine::export::plan::Planner;
use crate::engine::export::supply::Supply;
use crate::engine::export::supply::Use;
use crate::engine::export::tar::Tar;
use crate::engine::export::zip::Zip;
use crate::engine::pool;
use crate::engine::restore::RestoreOptions;
use crate::engine::restore::select::Selection;
use crate::engine::restore::work::stops;
use crate::format::entry::Entry;
use crate::format::entry::EntryNode;
use crate::repository::history::Snapshot;
use std::collections::HashSet;
use std::collections::VecDeque;
use std::io::Write;
use std::sync::Arc;

mod acl;
mod pax;
mod plan;
mod supply;
mod tar;
mod within;
mod zip;

/// The form of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// tar with PAX records: keeps everything.
    Tar,
    /// The same, compressed by zstd.
    TarZst,
    /// zip: keeps names, content, permissions, and times to the second.
    Zip,
}

impl Format {
    /// Returns the word for people and for JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Format::Tar => "tar",
            Format::TarZst => "tar.zst",
            Format::Zip => "zip",
        }
    }
}

/// What was exported.
#[derive(Clone, Debug, Default)]
pub struct ExportReport {
    /// Entries in the archive, folders not counted.
    pub files: u64,
    /// Bytes of those, holes counted.
    pub bytes: u64,
    /// Bytes of the archive.
    pub written_bytes: u64,
    /// Entries that the form cannot hold.
    pub left_out: u64,
    /// Entries that could not be read.
    pub errors: Vec<Failure>,
    /// How long it took, in seconds.
    pub seconds: f64,
}

/// An archive in the making. What is not finished is no archive.
trait Archive {
    /// Says why it cannot hold an entry, if it cannot.
    fn refuses(&self, entry: &Entry) -> Option<&'static str>;
    /// Begins an entry, or one that is a further name of a file whose first name is given.
    fn begin(&mut self, entry: &Entry, link: Option<&EntryPath>) -> Result<()>;
    /// Adds to the content of the file begun; holes are left out.
    fn data(&mut self, bytes: &[u8]) -> Result<()>;
    /// Ends the entry begun.
    fn end(&mut self) -> Result<()>;
    /// Ends the archive.
    fn finish(&mut self) -> Result<()>;
}

/// Writes what is within a path of a snapshot, the path itself left away, as a restore does.
///
/// # Errors
/// `NotFound` for a path that the backup has not; those of `out`; those of the repository, a
/// file that turned out to be damaged in its middle among them; `Cancelled`. What was written
/// until then is no whole archive.
pub fn run(
    snapshot: &Snapshot,
    path: &EntryPath,
    format: Format,
    out: &mut dyn Write,
    context: &Context<'_>,
) -> Result<ExportReport> {
    let started = context.clock.now();
    let (repository, dataset) = (snapshot.repository(), snapshot.dataset());
    let purpose = format!("export of {}@{}", dataset.name(), snapshot.number().0);
    // While it stands, no prune takes away what is read here.
    let lease = repository.read_lease(dataset, snapshot.number(), &purpose, started)?;
    let failures = Failures::new(context.progress);
    let mut out = Counted { out, bytes: 0 };
    let counts = &snapshot.backup().header.counts;
    let totals = match path.is_root() {
        true => Totals { files: Some(counts.files), bytes: Some(counts.bytes) },
        false => Totals::default(),
    };
    context.progress.start(Phase::Export, totals);
    let exported = write(snapshot, path, format, &mut out, &failures, context);
    context.progress.finish();
    if let Some(lease) = lease {
        lease.give_back();
    }
    let mut report = exported?;
    report.written_bytes = out.bytes;
    report.errors = failures.into_list();
    report.seconds = context.clock.now().seconds_since(started);
    Ok(report)
}

fn write(
    snapshot: &Snapshot,
    path: &EntryPath,
    format: Format,
    out: &mut Counted<'_>,
    failures: &Failures<'_>,
    context: &Context<'_>,
) -> Result<ExportReport> {
    let report = match format {
        Format::Tar => fill(snapshot, path, &mut Tar::new(out), true, failures, context)?,
        Format::TarZst => {
            let mut compressor = StreamCompressor::new(&mut *out, compress::LEVEL_DEFAULT)?;
            let tar = &mut Tar::new(&mut compressor);
            let report = fill(snapshot, path, tar, true, failures, context)?;
            compressor.finish().map_err(cannot_write)?;
            report
        }
        Format::Zip => {
            context.progress.warn(&Warning::general(zip::NOT_KEPT));
            fill(snapshot, path, &mut Zip::new(out), false, failures, context)?
        }
    };
    out.flush().map_err(cannot_write)?;
    Ok(report)
}

fn cannot_write(cause: std::io::Error) -> Error {
    Error::io("cannot write the archive", cause).at(Origin::Target)
}

/// Counts what goes through.
struct Counted<'a> {
    out: &'a mut dyn Write,
    bytes: u64,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

fn fill(
    snapshot: &Snapshot,
    path: &EntryPath,
    archive: &mut dyn Archive,
    keeps_links: bool,
    failures: &Failures<'_>,
    context: &Context<'_>,
) -> Result<ExportReport> {
    let repository = snapshot.repository();
    let options = RestoreOptions { strip: path.clone(), ..RestoreOptions::default() };
    let selection = Selection::resolve(snapshot, &options)?;
    let (work, jobs) = supply::open();
    let lead = || {
        let supply = Supply::new(repository, &work, jobs);
        let planner = Planner::new(repository, &selection, supply, keeps_links);
        Filling {
            planner,
            archive,
            failures,
            context,
            lost: HashSet::new(),
            open: None,
            report: ExportReport::default(),
        }
        .run()
    };
    pool::beside(context.threads, |_| work.run(repository), lead)?
}

/// One archive being filled.
struct Filling<'a> {
    planner: Planner<'a>,
    archive: &'a mut dyn Archive,
    failures: &'a Failures<'a>,
    context: &'a Context<'a>,
    /// First names that are not in the archive: their further ones cannot be, either.
    lost: HashSet<EntryPath>,
    /// The large file that was begun.
    open: Option<Open>,
    report: ExportReport,
}

struct Open {
    path: EntryPath,
    size: u64,
    /// Whether it is left out: the rest of it is passed over.
    is_lost: bool,
}

impl Filling<'_> {
    fn run(mut self) -> Result<ExportReport> {
        let mut queue = VecDeque::new();
        // What comes before a break is still written: more of the archive can be made use of.
        let mut broken_off = None;
        let mut is_planned = false;
        loop {
            self.context.cancel.check()?;
            while !is_planned
                && (queue.is_empty() || self.planner.held_bytes() < EXPORT_AHEAD_BYTES)
                && queue.len() < EXPORT_AHEAD_ITEMS
            {
                match self.planner.next_item() {
                    Ok(Some(item)) => queue.push_back(item),
                    Ok(None) => is_planned = true,
                    Err(e) => (is_planned, broken_off) = (true, Some(e)),
                }
            }
            let Some(item) = queue.pop_front() else { break };
            self.write(item)?;
        }
        match broken_off {
            Some(e) => Err(e.context("the archive ends before its end")),
            None => self.archive.finish().map(|()| self.report),
        }
    }

    fn write(&mut self, item: Item) -> Result<()> {
        match item {
            Item::Whole { entry, link, content } => self.whole(&entry, link.as_ref(), &content),
            Item::Start(entry, content) => self.start(&entry, &content),
            Item::Piece(content) => self.piece(&content),
            Item::End(outcome) => self.end(outcome),
            Item::Lost(path, e) => self.leave_out(path, e),
        }
    }

    /// Reports an entry that cannot be in the archive.
    fn leave_out(&mut self, path: EntryPath, error: Error) -> Result<()> {
        if stops(&error) {
            return Err(error);
        }
        let error = error.context("it is not in the archive");
        self.failures.warn(&Warning::failed(&path, &error));
        self.lost.insert(path);
        Ok(())
    }

    /// Says whether the form cannot hold an entry, with a note.
    fn is_refused(&mut self, entry: &Entry) -> bool {
        let Some(why) = self.archive.refuses(entry) else { return false };
        self.report.left_out += 1;
        self.context.progress.warn(&Warning::note(&entry.path, why));
        true
    }

    fn whole(
        &mut self,
        entry: &Entry,
        link: Option<&EntryPath>,
        content: &[Arc<Use>],
    ) -> Result<()> {
        self.context.progress.working_on(&entry.path);
        if self.is_refused(entry) {
            return Ok(());
        }
        if let Some(first) = link.filter(|first| self.lost.contains(*first)) {
            let message = format!("its content is that of {first}");
            let error = Error::corrupt(message).at(Origin::Repository);
            return self.leave_out(entry.path.clone(), error);
        }
        let loaded: Result<Vec<_>> = content.iter().map(|job| job.wait()).collect();
        let loaded = match loaded {
            Ok(loaded) => loaded,
            Err(e) => return self.leave_out(entry.path.clone(), e),
        };
        self.archive.begin(entry, link)?;
        loaded.iter().try_for_each(|piece| self.archive.data(piece.bytes()))?;
        self.archive.end()?;
        if entry.node != EntryNode::Directory {
            self.count(entry.size());
        }
        Ok(())
    }

    fn count(&mut self, size: u64) {
        self.report.files += 1;
        self.report.bytes += size;
        self.context.progress.count(Counter::Files, 1);
        self.context.progress.count(Counter::Bytes, size);
    }

    fn start(&mut self, entry: &Entry, content: &[Arc<Use>]) -> Result<()> {
        self.context.progress.working_on(&entry.path);
        let mut open = Open { path: entry.path.clone(), size: entry.size(), is_lost: false };
        let first = match content.first().map(|job| job.wait()).transpose() {
            Ok(first) if !self.is_refused(entry) => first,
            outcome => {
                outcome.map_or_else(|e| self.leave_out(entry.path.clone(), e), |_| Ok(()))?;
                open.is_lost = true;
                self.open = Some(open);
                return Ok(());
            }
        };
        self.archive.begin(entry, None)?;
        self.open = Some(open);
        first.map_or(Ok(()), |first| self.archive.data(first.bytes()))?;
        self.piece(content.get(1..).unwrap_or_default())
    }

    fn piece(&mut self, content: &[Arc<Use>]) -> Result<()> {
        let is_lost = self.open.as_ref().is_none_or(|open| open.is_lost);
        for job in content.iter().filter(|_| !is_lost) {
            self.context.cancel.check()?;
            let loaded = job.wait().map_err(|e| self.breaks_off(e))?;
            self.archive.data(loaded.bytes())?;
        }
        Ok(())
    }

    fn breaks_off(&self, error: Error) -> Error {
        if error.kind() == ErrorKind::Cancelled {
            return error;
        }
        let path = self.open.as_ref().map(|open| open.path.to_string()).unwrap_or_default();
        let error = error.at(Origin::Repository);
        error.context(format!("cannot read {path}, the archive ends in the middle of it"))
    }

    fn end(&mut self, outcome: Result<()>) -> Result<()> {
        let is_lost = self.open.as_ref().is_none_or(|open| open.is_lost);
        if !is_lost {
            outcome.map_err(|e| self.breaks_off(e))?;
            self.archive.end()?;
            let size = self.open.as_ref().map_or(0, |open| open.size);
            self.count(size);
        }
        self.open = None;
        Ok(())
    }
}
