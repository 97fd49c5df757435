//! The rows of one backup, range by range; a range that cannot be read is named and left out.

use crate::backend::key::ObjectKey;
use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::id::BlockId;
use crate::base::path::EntryPath;
use crate::engine::check::Run;
use crate::engine::check::Severity;
use crate::engine::check::damage_of;
use crate::engine::check::stock::Blame;
use crate::engine::check::stock::Stock;
use crate::engine::check::stock::pack_object;
use crate::format::backup;
use crate::format::backup::BlobPlace;
use crate::format::backup::Body;
use crate::format::backup::RangeRef;
use crate::format::entry;
use crate::format::range;
use crate::format::range::RangeRow;
use crate::repository::blocks::Block;
use std::collections::VecDeque;
use std::ops::ControlFlow;

/// Something that keeps rows from being read, or that stands in a pack beside a good copy.
pub(crate) struct Trouble {
    pub(crate) severity: Severity,
    pub(crate) object: String,
    pub(crate) message: Option<String>,
    /// First path that cannot be read, when it is known.
    pub(crate) path: Option<EntryPath>,
    /// Whether rows are missing by it.
    pub(crate) hurts: bool,
}

impl Trouble {
    /// Makes the trouble of a place that cannot be had.
    pub(crate) fn of(blame: Blame, path: Option<&EntryPath>) -> Self {
        let Blame { object, message, severity } = blame;
        Trouble { severity, object, message, path: path.cloned(), hurts: true }
    }

    /// Makes the trouble of something damaged by which rows or content are missing.
    pub(crate) fn damage(object: String, message: String, path: Option<&EntryPath>) -> Self {
        let (severity, message) = (Severity::Damage, Some(message));
        Trouble { severity, object, message, path: path.cloned(), hurts: true }
    }
}

/// The block that was read last: neighbouring ranges stand in one.
#[derive(Default)]
pub(crate) struct LastBlock(Option<(BlockId, Block)>);

impl LastBlock {
    /// Returns a blob from whichever copy is good, and tells what is wrong with the others.
    pub(crate) fn blob(
        &mut self,
        run: &Run<'_>,
        stock: &mut Stock,
        at: &BlobPlace,
        path: Option<&EntryPath>,
        troubles: &mut Vec<Trouble>,
    ) -> Result<Option<Vec<u8>>> {
        let wanted = entry::Run { block: at.block, first: at.place, count: 1, bytes: 0 };
        let blamed = stock.blame(run.repository, &wanted);
        if let Some((block, last)) = &self.0
            && *block == at.block
            && let Ok(bytes) = last.blob(run.repository, at.place)
        {
            return Ok(Some(bytes.to_vec()));
        }
        let mut failed = Vec::new();
        for copy in run.repository.index().find(&at.block) {
            if !stock.there.contains_key(&copy.pack.pack) {
                continue;
            }
            let read = run.repository.read_copy(&copy).and_then(|block| {
                run.count_read((copy.row.length + copy.row.table_length).into());
                let bytes = block.blob(run.repository, at.place)?.to_vec();
                Ok((block, bytes))
            });
            match read {
                Ok((block, bytes)) => {
                    self.0 = Some((at.block, block));
                    for (severity, object, why) in failed {
                        let message = Some(format!("{why}; another good copy exists"));
                        let hurts = false;
                        troubles.push(Trouble { severity, object, message, path: None, hurts });
                    }
                    return Ok(Some(bytes));
                }
                // A copy that left the place out is no damaged one.
                Err(_) if !copy.row.has_place(at.place) => {}
                Err(e) => {
                    let why = damage_of(e)?.full_message();
                    let why = format!("block {} cannot be read: {why}", at.block.short());
                    let severity = stock.severity_of(&copy.pack.pack);
                    failed.push((severity, pack_object(&copy.pack.pack), why));
                }
            }
        }
        let is_declared = !blamed.is_empty();
        let failed = failed.into_iter().map(|(severity, object, why)| {
            let hurts = !is_declared;
            let path = path.cloned();
            Trouble { severity, object, message: Some(why), path, hurts }
        });
        troubles.extend(failed);
        troubles.extend(blamed.into_iter().map(|blame| Trouble::of(blame, path)));
        Ok(None)
    }
}

/// So many troubles are gathered before they are noted, where most are only counted: a few bytes
/// can name what is not there without end.
const TROUBLES_MAX: usize = 1000;

/// Streams the rows of one backup.
pub(crate) struct Rows {
    key: ObjectKey,
    inline: VecDeque<(Vec<u8>, Vec<u8>)>,
    lists: VecDeque<BlobPlace>,
    ranges: VecDeque<RangeRef>,
    rows: std::vec::IntoIter<RangeRow>,
    last: Option<EntryPath>,
    /// For lists, ranges and companions each.
    blocks: [LastBlock; 3],
    /// Whether rows are missing.
    pub(crate) is_broken: bool,
}

impl Rows {
    /// Starts at the first range of a header's body.
    pub(crate) fn new(key: ObjectKey, body: Body) -> Self {
        let mut rows = Rows {
            key,
            inline: VecDeque::new(),
            lists: VecDeque::new(),
            ranges: VecDeque::new(),
            rows: Vec::new().into_iter(),
            last: None,
            blocks: Default::default(),
            is_broken: false,
        };
        match body {
            Body::Inline(ranges) => rows.inline = ranges.into(),
            Body::Ranges(ranges) => rows.ranges = ranges.into(),
            Body::Lists(lists) => rows.lists = lists.into(),
        }
        rows
    }

    /// Returns the next row, none at the end; or that there are troubles to note before it is
    /// asked again.
    ///
    /// # Errors
    /// Only those that concern more than one object; damage is added to `troubles`.
    pub(crate) fn next(
        &mut self,
        run: &Run<'_>,
        stock: &mut Stock,
        troubles: &mut Vec<Trouble>,
    ) -> Result<ControlFlow<Option<RangeRow>>> {
        while troubles.len() < TROUBLES_MAX {
            let Some(row) = self.rows.next() else {
                match self.next_range(run, stock, troubles)? {
                    Some(rows) => self.rows = rows.into_iter(),
                    None => return Ok(ControlFlow::Break(None)),
                }
                continue;
            };
            if self.last.as_ref().is_some_and(|last| last >= row.path()) {
                let error = Error::corrupt("its ranges are out of order");
                self.hurt(troubles, &error, Some(row.path().clone()));
                self.end();
                return Ok(ControlFlow::Break(None));
            }
            self.last = Some(row.path().clone());
            return Ok(ControlFlow::Break(Some(row)));
        }
        Ok(ControlFlow::Continue(()))
    }

    /// A restore goes no further, either: a few bytes can name one range without end.
    fn end(&mut self) {
        self.inline.clear();
        self.lists.clear();
        self.ranges.clear();
        self.rows = Vec::new().into_iter();
    }

    /// Notes that the header names something that makes no sense.
    fn hurt(&mut self, troubles: &mut Vec<Trouble>, error: &Error, path: Option<EntryPath>) {
        self.is_broken = true;
        let object = self.key.as_str().to_owned();
        troubles.push(Trouble::damage(object, error.full_message(), path.as_ref()));
    }

    /// Returns the rows of the next range that can be read; empty ones for one that cannot.
    fn next_range(
        &mut self,
        run: &Run<'_>,
        stock: &mut Stock,
        troubles: &mut Vec<Trouble>,
    ) -> Result<Option<Vec<RangeRow>>> {
        run.context.cancel.check()?;
        if let Some((range, companion)) = self.inline.pop_front() {
            return Ok(Some(self.decoded(range::decode(&range, Some(&companion)), None, troubles)));
        }
        if let Some(range) = self.ranges.pop_front() {
            return self.read_range(run, stock, &range, troubles).map(Some);
        }
        let Some(list) = self.lists.pop_front() else { return Ok(None) };
        match self.blocks[0].blob(run, stock, &list, None, troubles)? {
            None => self.is_broken = true,
            Some(blob) => match backup::decode_range_list(&blob) {
                Ok(ranges) => self.ranges = ranges.into(),
                Err(e) => self.hurt(troubles, &e, None),
            },
        }
        Ok(Some(Vec::new()))
    }

    fn read_range(
        &mut self,
        run: &Run<'_>,
        stock: &mut Stock,
        range: &RangeRef,
        troubles: &mut Vec<Trouble>,
    ) -> Result<Vec<RangeRow>> {
        let first = Some(&range.first);
        let bytes = self.blocks[1].blob(run, stock, &range.range, first, troubles)?;
        let companion = self.blocks[2].blob(run, stock, &range.companion, first, troubles)?;
        let (Some(bytes), Some(companion)) = (bytes, companion) else {
            self.is_broken = true;
            return Ok(Vec::new());
        };
        let decoded = range::decode(&bytes, Some(&companion)).and_then(|rows| {
            let fits = rows.len() == range.rows as usize
                && rows.first().is_some_and(|row| *row.path() == range.first);
            if fits { Ok(rows) } else { Err(Error::corrupt("a list names another range")) }
        });
        Ok(self.decoded(decoded, first, troubles))
    }

    fn decoded(
        &mut self,
        decoded: Result<Vec<RangeRow>>,
        first: Option<&EntryPath>,
        troubles: &mut Vec<Trouble>,
    ) -> Vec<RangeRow> {
        decoded.unwrap_or_else(|e| {
            self.hurt(troubles, &e, first.cloned());
            Vec::new()
        })
    }
}
