//! What one backup has otherwise than the one that the target's newest is a copy of, merged with
//! the target's entries.

use crate::base::error::Error;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::path::EntryPath;
use crate::format::entry::TrackedEntry;
use crate::format::range::RangeRow;
use crate::repository::history::Entries;
use crate::repository::history::RowStream;
use crate::repository::history::Snapshot;
use std::cmp::Ordering;
use std::iter::Peekable;

/// Entries that are passed over before a stream is opened anew where it should go on.
const SKIP_MAX: usize = 1024;

/// What is to be done about one path.
pub(super) enum Step {
    /// Nothing: the target's entry stays.
    Keep(Box<TrackedEntry>),
    /// The target's entry goes.
    Gone(Box<TrackedEntry>),
    /// It is new or changed.
    Look(Look),
}

/// An entry that may be otherwise.
pub(super) struct Look {
    /// As the backup has it; blocks are those of the source.
    pub(super) now: Box<TrackedEntry>,
    /// As the backup before had it, with blocks of the source.
    pub(super) base: Option<Box<TrackedEntry>>,
    /// The same, as the target has it.
    pub(super) before: Option<Box<TrackedEntry>>,
}

/// What the source says of one path.
enum Row {
    Put(Box<TrackedEntry>, Option<Box<TrackedEntry>>),
    Gone(EntryPath),
}

impl Row {
    fn path(&self) -> &EntryPath {
        match self {
            Row::Put(tracked, _) => &tracked.entry.path,
            Row::Gone(path) => path,
        }
    }
}

enum Kind<'a> {
    /// The backup's own manifest, which was written on the base.
    Own(RowStream, Seeker<'a>),
    /// Two snapshots, compared.
    Between(Peekable<Entries>, Peekable<Entries>),
    /// All entries: there is no base.
    All(Entries),
}

/// The rows of the source, by path.
struct Changes<'a> {
    kind: Kind<'a>,
    has_lost_base: bool,
}

/// Finds entries of a snapshot by ascending paths.
struct Seeker<'a> {
    snapshot: &'a Snapshot,
    entries: Peekable<Entries>,
}

impl Seeker<'_> {
    fn find(&mut self, path: &EntryPath) -> Result<Option<Box<TrackedEntry>>> {
        for _ in 0..SKIP_MAX {
            match self.entries.peek() {
                Some(Ok(tracked)) => match tracked.entry.path.cmp(path) {
                    Ordering::Less => drop(self.entries.next()),
                    Ordering::Equal => return self.next(),
                    Ordering::Greater => return Ok(None),
                },
                Some(Err(_)) => return self.next(),
                None => return Ok(None),
            }
        }
        self.entries = self.snapshot.entries_from(path).peekable();
        match self.entries.peek() {
            Some(Ok(tracked)) if tracked.entry.path != *path => Ok(None),
            _ => self.next(),
        }
    }

    fn next(&mut self) -> Result<Option<Box<TrackedEntry>>> {
        Ok(self.entries.next().transpose()?.map(Box::new))
    }
}

impl<'a> Changes<'a> {
    fn new(snapshot: &Snapshot, base: Option<&'a Snapshot>) -> Self {
        let kind = match base {
            None => Kind::All(snapshot.entries()),
            Some(base) if snapshot.backup().header.chain.last() == Some(&base.number()) => {
                let seeker = Seeker { snapshot: base, entries: base.entries().peekable() };
                Kind::Own(snapshot.own_rows(), seeker)
            }
            Some(base) => Kind::Between(snapshot.entries().peekable(), base.entries().peekable()),
        };
        Changes { kind, has_lost_base: false }
    }

    fn next_row(&mut self) -> Result<Option<Row>> {
        match &mut self.kind {
            Kind::All(entries) => {
                let tracked = entries.next().transpose()?;
                Ok(tracked.map(|tracked| Row::Put(Box::new(tracked), None)))
            }
            Kind::Own(rows, seeker) => {
                let Some(row) = rows.next().transpose()? else { return Ok(None) };
                let tracked = match row {
                    RangeRow::Deleted(path) => return Ok(Some(Row::Gone(path))),
                    RangeRow::Put(_, tracked) => Box::new(tracked),
                };
                if tracked.entry.file().is_none() {
                    return Ok(Some(Row::Put(tracked, None)));
                }
                let base = seeker.find(&tracked.entry.path);
                self.has_lost_base |= base.is_err();
                base.map(|base| Some(Row::Put(tracked, base)))
            }
            Kind::Between(now, base) => {
                let (row, has_lost_base) = next_difference(now, base);
                self.has_lost_base |= has_lost_base;
                row
            }
        }
    }
}

/// Returns the next row in which two snapshots differ, and whether it was the second that could
/// not be read.
fn next_difference(
    now: &mut Peekable<Entries>,
    base: &mut Peekable<Entries>,
) -> (Result<Option<Row>>, bool) {
    let put = |now: Option<Result<TrackedEntry>>, base: Option<TrackedEntry>| {
        let row = |now: TrackedEntry| Row::Put(Box::new(now), base.map(Box::new));
        (now.transpose().map(|now| now.map(row)), false)
    };
    let gone = |base: Option<Result<TrackedEntry>>| {
        let base = base.transpose();
        let has_lost_base = base.is_err();
        (base.map(|base| base.map(|base| Row::Gone(base.entry.path))), has_lost_base)
    };
    loop {
        let order = match (now.peek(), base.peek()) {
            (None | Some(Ok(_)), Some(Err(_))) => Ordering::Greater,
            (Some(Err(_)), _) | (Some(_), None) | (None, None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(Ok(now)), Some(Ok(base))) => now.entry.path.cmp(&base.entry.path),
        };
        match order {
            Ordering::Less => return put(now.next(), None),
            Ordering::Greater => return gone(base.next()),
            Ordering::Equal => {
                let (now, base) = (now.next(), base.next().and_then(Result::ok));
                let is_same = matches!((&now, &base), (Some(Ok(now)), Some(base)) if now == base);
                if !is_same {
                    return put(now, base);
                }
            }
        }
    }
}

/// Goes through the rows of the source and the entries of the target's newest together.
pub(super) struct Steps<'a, P: Iterator<Item = Result<TrackedEntry>>> {
    changes: Changes<'a>,
    row: Option<Row>,
    previous: Peekable<P>,
    /// Whether the target's entries of which the source says nothing stay.
    keeps_rest: bool,
    is_started: bool,
}

impl<'a, P: Iterator<Item = Result<TrackedEntry>>> Steps<'a, P> {
    /// Stands before the first path.
    pub(super) fn new(snapshot: &Snapshot, base: Option<&'a Snapshot>, previous: P) -> Self {
        Steps {
            changes: Changes::new(snapshot, base),
            row: None,
            previous: previous.peekable(),
            keeps_rest: base.is_some(),
            is_started: false,
        }
    }

    /// Says whether what could not be read is the backup before the one that is copied.
    pub(super) fn has_lost_base(&self) -> bool {
        self.changes.has_lost_base
    }

    fn advance(&mut self) -> Result<Option<Row>> {
        let at_source = |e: Error| e.context("cannot read its entries").at(Origin::Source);
        let next = self.changes.next_row().map_err(at_source)?;
        Ok(std::mem::replace(&mut self.row, next))
    }

    fn previous(&mut self) -> Result<Option<Box<TrackedEntry>>> {
        Ok(self.previous.next().transpose()?.map(Box::new))
    }

    fn step(&mut self) -> Result<Option<Step>> {
        if !std::mem::replace(&mut self.is_started, true) {
            self.advance()?;
        }
        loop {
            let order = match (&self.row, self.previous.peek()) {
                (None, None) => return Ok(None),
                (_, Some(Err(_))) | (None, Some(_)) => Ordering::Greater,
                (Some(_), None) => Ordering::Less,
                (Some(row), Some(Ok(before))) => row.path().cmp(&before.entry.path),
            };
            if order == Ordering::Greater {
                let rest = self.previous()?;
                return Ok(rest.map(|it| match self.keeps_rest {
                    true => Step::Keep(it),
                    false => Step::Gone(it),
                }));
            }
            let before = if order == Ordering::Equal { self.previous()? } else { None };
            match (self.advance()?, before) {
                (Some(Row::Put(now, base)), before) => {
                    let base = base.filter(|_| before.is_some());
                    return Ok(Some(Step::Look(Look { now, base, before })));
                }
                (Some(Row::Gone(_)), Some(before)) => return Ok(Some(Step::Gone(before))),
                (Some(Row::Gone(_)) | None, _) => {}
            }
        }
    }
}

impl<P: Iterator<Item = Result<TrackedEntry>>> Iterator for Steps<'_, P> {
    type Item = Result<Step>;
    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}
