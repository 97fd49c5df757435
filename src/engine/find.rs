//! Looks for entries in many backups of a dataset at once.
//!
//! The manifests and full indexes of all backups that are looked at are merged by path, each
//! read once; no snapshot is replayed. For each path that matches, the backups are gone through
//! in order: each takes what its own row says, or else what its parent has.
//!
//! Memory: for each backup its header and a decoded range, of which only the rows that match
//! are kept; it does not grow with the dataset.

use crate::base::error::Error;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::id::BackupId;
use crate::base::metadata::Kind;
use crate::base::path::EntryPath;
use crate::base::time::Timestamp;
use crate::engine::Context;
use crate::engine::restore::work::stops;
use crate::format::entry::Entry;
use crate::format::range::RangeRow;
use crate::repository::blocks::DAMAGE_HINT;
use crate::repository::datasets::Backup;
use crate::repository::datasets::Dataset;
use crate::repository::datasets::Numbers;
use crate::repository::history::Merge;
use crate::repository::history::Wanted;
use crate::source::filter::Pattern;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;
use std::sync::Arc;

/// What is looked for.
#[derive(Clone, Debug)]
pub struct FindOptions {
    /// What the paths look like.
    pub pattern: Pattern,
    /// Look only within this path.
    pub within: EntryPath,
    /// Look only for entries of this kind.
    pub kind: Option<Kind>,
    /// Look only for files of more bytes.
    pub larger_than: Option<u64>,
    /// Look only for entries changed after this time.
    pub newer_than: Option<Timestamp>,
}

impl FindOptions {
    /// Looks for a pattern, everywhere and for everything.
    pub fn new(pattern: Pattern) -> Self {
        let within = EntryPath::root();
        FindOptions { pattern, within, kind: None, larger_than: None, newer_than: None }
    }

    fn may_match(&self, path: &EntryPath) -> bool {
        path.is_within(&self.within)
            && (self.pattern.matches(path, false) || self.pattern.matches(path, true))
    }

    fn matches(&self, entry: &Entry) -> bool {
        let is_directory = entry.kind() == Kind::Directory;
        self.kind.is_none_or(|kind| entry.kind() == kind)
            && self.larger_than.is_none_or(|least| entry.file().is_some() && entry.size() > least)
            && self.newer_than.is_none_or(|time| entry.metadata.mtime >= time)
            && self.pattern.matches(&entry.path, is_directory)
    }
}

/// Backups one after the other; what was forgotten in between does not part them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first.
    pub first: BackupId,
    /// The last.
    pub last: BackupId,
}

/// One version of a path, and the backups that hold it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The entry.
    pub entry: Entry,
    /// Which backups hold it just so; at least one.
    pub spans: Vec<Span>,
    /// How many backups that are.
    pub backups: u64,
}

/// Where in a dataset is looked.
#[derive(Clone)]
pub enum Among {
    /// In all backups that were not forgotten.
    All,
    /// In one backup.
    One(Arc<Backup>),
}

/// What came of a search.
#[derive(Debug, Default)]
pub struct FindReport {
    /// Versions that were found.
    pub found: u64,
    /// What could not be looked into, or not whole.
    pub problems: Vec<Problem>,
}

/// A backup that cannot be looked into, or not whole.
#[derive(Debug)]
pub struct Problem {
    /// Which one; none where the listing does not tell.
    pub backup: Option<BackupId>,
    /// Why.
    pub error: Error,
}

/// Passes on every version of every path that matches, in the order of paths and then of the
/// backups that first hold it. Backups that are damaged are reported, and the others looked into.
///
/// # Errors
/// What concerns more than one backup; those of `visit`; `Cancelled`.
pub fn run(
    dataset: &Dataset,
    numbers: &Numbers,
    among: Among,
    options: &FindOptions,
    context: &Context<'_>,
    visit: &mut dyn FnMut(Found) -> Result<()>,
) -> Result<FindReport> {
    let mut report = FindReport::default();
    let visible = match among {
        Among::All => report.readable(dataset, numbers)?,
        Among::One(backup) => vec![backup],
    };
    let Some(newest) = visible.last().map(|backup| backup.header.number) else {
        return Ok(report);
    };
    let purpose = format!("find in {}", dataset.name());
    let repository = dataset.repository();
    // It pins the newest; an older one that is forgotten and pruned meanwhile is an error.
    let lease = repository.read_lease(dataset, newest, &purpose, context.clock.now())?;
    let found = Line::new(dataset, numbers, visible, &mut report)
        .and_then(|line| look(line, dataset, options, context, visit, &mut report));
    if let Some(lease) = lease {
        lease.give_back();
    }
    found.map(|()| report)
}

impl FindReport {
    /// Returns the backups whose headers can be read.
    fn readable(&mut self, dataset: &Dataset, numbers: &Numbers) -> Result<Vec<Arc<Backup>>> {
        let mut readable = Vec::new();
        let gaps = dataset.gaps(numbers).into_iter();
        self.problems.extend(gaps.map(|error| Problem { backup: None, error }));
        for (number, backup) in dataset.each_backup(numbers)? {
            match backup {
                Ok(backup) => readable.push(backup),
                Err(e) => self.tell(dataset, number, &e),
            }
        }
        Ok(readable)
    }

    fn tell(&mut self, dataset: &Dataset, number: BackupId, cause: &Error) {
        let name = dataset.name();
        let why = cause.full_message();
        let message = format!("{name}@{} cannot be looked into: {why}", number.0);
        let hint = cause.hint_text().unwrap_or(DAMAGE_HINT);
        let error = Error::new(cause.kind(), message).hint(hint).at(cause.origin());
        self.problems.push(Problem { backup: Some(number), error });
    }
}

/// The backups that are looked at and those they are made of, by number.
struct Line {
    links: Vec<Link>,
}

struct Link {
    backup: Arc<Backup>,
    /// Position of the backup this one was written on; none for a full one.
    parent: Option<usize>,
    /// Whether it is looked at, and is not only there for others.
    is_visible: bool,
    /// Whether it, or one that it is made of, cannot be read any further.
    is_broken: bool,
}

impl Line {
    fn new(
        dataset: &Dataset,
        numbers: &Numbers,
        visible: Vec<Arc<Backup>>,
        report: &mut FindReport,
    ) -> Result<Self> {
        let mut all: BTreeMap<BackupId, (Arc<Backup>, bool)> = BTreeMap::new();
        for backup in visible {
            for &link in &backup.header.chain {
                if let Slot::Vacant(slot) = all.entry(link) {
                    match dataset.chain_link(numbers, link) {
                        Ok(link) => {
                            slot.insert((Arc::new(link), false));
                        }
                        Err(e) if stops(&e) => return Err(e),
                        // The chain is broken then, which is found below.
                        Err(_) => {}
                    }
                }
            }
            all.insert(backup.header.number, (backup, true));
        }
        let places: BTreeMap<BackupId, usize> =
            all.keys().enumerate().map(|(place, number)| (*number, place)).collect();
        let mut links: Vec<Link> = Vec::with_capacity(all.len());
        for (backup, is_visible) in all.into_values() {
            let (number, chain) = (backup.header.number, &backup.header.chain);
            let parent = chain.last().and_then(|parent| places.get(parent)).copied();
            // A chain ascends, so the parent is here already.
            let above = parent.and_then(|parent| links.get(parent));
            let header = above.map(|link| &link.backup.header);
            let whole = header.iter().flat_map(|above| above.chain.iter().chain([&above.number]));
            let is_whole = whole.eq(chain);
            let is_broken = !is_whole || above.is_some_and(|link| link.is_broken);
            if is_broken && is_visible {
                let missing = chain.iter().find(|link| !places.contains_key(link));
                let message = match missing {
                    Some(missing) => format!("{missing}, which it needs, is missing or damaged"),
                    None => "the chain of backups that it needs is broken".to_owned(),
                };
                report.tell(dataset, number, &Error::corrupt(message).at(Origin::Repository));
            }
            links.push(Link { backup, parent, is_visible, is_broken });
        }
        Ok(Line { links })
    }

    /// Takes a backup, and all that are made of it, for broken, and reports those looked at.
    fn lose(&mut self, place: usize, dataset: &Dataset, why: &Error, report: &mut FindReport) {
        for at in place..self.links.len() {
            let parent = self.links[at].parent;
            let is_hit = at == place || parent.is_some_and(|parent| self.links[parent].is_broken);
            let link = &mut self.links[at];
            if is_hit && !std::mem::replace(&mut link.is_broken, true) && link.is_visible {
                report.tell(dataset, link.backup.header.number, why);
            }
        }
    }

    fn merge(&self, dataset: &Dataset, options: &FindOptions) -> Merge {
        let for_rows = options.clone();
        // A deletion does not say of what kind the entry was, and another kind replaces one that
        // may have matched: so what decides here is the path alone.
        let wanted: Wanted = Arc::new(move |row: &RangeRow| for_rows.may_match(row.path()));
        let repository = dataset.repository();
        let rows =
            |link: &Link| repository.rows(&link.backup, &options.within).only(Arc::clone(&wanted));
        Merge::new(self.links.iter().map(rows).collect())
    }
}

fn look(
    mut line: Line,
    dataset: &Dataset,
    options: &FindOptions,
    context: &Context<'_>,
    visit: &mut dyn FnMut(Found) -> Result<()>,
    report: &mut FindReport,
) -> Result<()> {
    let mut merge = line.merge(dataset, options);
    let mut states = States::default();
    loop {
        context.cancel.check()?;
        let rows = match merge.next_rows() {
            Ok(rows) => rows,
            Err((_, e)) if stops(&e) => return Err(e),
            Err((place, e)) => {
                line.lose(place, dataset, &e, report);
                continue;
            }
        };
        if rows.is_empty() {
            return Ok(());
        }
        for found in states.follow(&line, rows, options) {
            report.found += 1;
            visit(found)?;
        }
    }
}

/// What each backup has at one path.
#[derive(Default)]
struct States {
    /// For each backup the number of the version it has, if it has one that matches.
    held: Vec<Option<usize>>,
    versions: Vec<Version>,
}

struct Version {
    found: Found,
    /// Which of the visible backups held it last.
    last: u64,
}

impl States {
    /// Follows one path through the backups.
    fn follow<'a>(
        &'a mut self,
        line: &Line,
        rows: Vec<(usize, RangeRow)>,
        options: &FindOptions,
    ) -> impl Iterator<Item = Found> + 'a {
        self.held.clear();
        let mut rows = rows.into_iter().peekable();
        let mut visible = 0;
        for (place, link) in line.links.iter().enumerate() {
            let own = rows.next_if(|(stream, _)| *stream == place).map(|(_, row)| row);
            let held = match own {
                Some(RangeRow::Put(_, tracked)) => self.version(tracked.entry, options),
                Some(RangeRow::Deleted(_)) => None,
                None => link.parent.and_then(|parent| self.held[parent]),
            };
            self.held.push(held);
            if link.is_visible {
                visible += 1;
                if let Some(held) = held.filter(|_| !link.is_broken) {
                    self.versions[held].hold(link.backup.header.number, visible);
                }
            }
        }
        // A version that only forgotten backups have is held by none.
        let held = |version: &Version| version.found.backups > 0;
        self.versions.sort_by_key(|version| version.found.spans.first().map(|span| span.first));
        self.versions.drain(..).filter(held).map(|version| version.found)
    }

    /// Returns the number of a version, which is new or was seen in an earlier backup.
    fn version(&mut self, entry: Entry, options: &FindOptions) -> Option<usize> {
        if !options.matches(&entry) {
            return None;
        }
        let is_same = |version: &Version| {
            // The time tells most of them apart at once.
            let known = &version.found.entry;
            known.metadata.mtime == entry.metadata.mtime && *known == entry
        };
        if let Some(known) = self.versions.iter().rposition(is_same) {
            return Some(known);
        }
        let found = Found { entry, spans: Vec::new(), backups: 0 };
        self.versions.push(Version { found, last: 0 });
        Some(self.versions.len() - 1)
    }
}

impl Version {
    fn hold(&mut self, number: BackupId, visible: u64) {
        let Found { spans, backups, .. } = &mut self.found;
        *backups += 1;
        match spans.last_mut() {
            Some(span) if self.last + 1 == visible => span.last = number,
            _ => spans.push(Span { first: number, last: number }),
        }
        self.last = visible;
    }
}
