//! All rows of the index in one order.

use crate::base::id::BlockId;
use crate::base::id::IndexId;
use crate::base::id::LeaseId;
use crate::format::pack_index::IndexedPack;
use crate::repository::index::Location;
use crate::repository::index::Segment;
use crate::repository::index::Segments;
use crate::repository::index::loaded::distinct;
use crate::repository::index::segment_rows;
use std::sync::Arc;
use std::sync::OnceLock;

/// The index objects of one moment, which stay what they are while it is held.
pub struct IndexView {
    segments: Vec<(IndexId, Arc<Segment>)>,
    starts: Vec<usize>,
    rows: usize,
    /// For each row the beginning of its block and its number, in order; made when first asked
    /// for. To ask each of hundreds of objects takes a hundred times as long.
    order: OnceLock<Vec<(u32, u32)>>,
}

impl IndexView {
    pub(super) fn of(segments: &Segments) -> Self {
        let segments: Vec<_> = segments.iter().map(|(id, it)| (*id, Arc::clone(it))).collect();
        let mut starts = Vec::with_capacity(segments.len());
        let mut rows = 0;
        for (_, segment) in &segments {
            starts.push(rows);
            rows += segment.len();
        }
        IndexView { segments, starts, rows, order: OnceLock::new() }
    }

    /// Returns how many rows there are in all.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Returns the number of the first row of a block: one for each block, whatever copies it
    /// has.
    pub fn rank(&self, block: &BlockId) -> Option<usize> {
        self.numbers_of(block).next()
    }

    /// Returns all copies of a block; one that several objects name comes once.
    pub fn copies(&self, block: &BlockId) -> Vec<Location> {
        self.copies_up_to(block, usize::MAX)
    }

    /// Returns copies of a block, so many at most.
    pub fn copies_up_to(&self, block: &BlockId, most: usize) -> Vec<Location> {
        let numbers = self.numbers_of(block).filter_map(|number| self.segment_of(number));
        distinct(numbers.filter_map(|(segment, n)| segment.row(n)), most)
    }

    /// Goes through the numbers of the rows of a block, the least first.
    fn numbers_of<'a>(&'a self, block: &'a BlockId) -> impl Iterator<Item = usize> + 'a {
        let order = self.order.get_or_init(|| self.in_order());
        let begin = beginning(block);
        let start = order.partition_point(|(other, _)| *other < begin);
        let alike = order[start..].iter().take_while(move |(other, _)| *other == begin);
        let numbers = alike.map(|(_, number)| *number as usize);
        numbers.filter(move |number| self.block(*number) == Some(*block))
    }

    fn in_order(&self) -> Vec<(u32, u32)> {
        let segments = self.segments.iter().zip(&self.starts);
        let rows = segments.flat_map(|((_, segment), start)| {
            let block = |n: usize| segment.block(n).map_or(0, |block| beginning(&block));
            (0..segment.len()).map(move |n| (block(n), (start + n) as u32))
        });
        let mut rows: Vec<(u32, u32)> = rows.collect();
        rows.sort_unstable();
        rows
    }

    fn segment_of(&self, number: usize) -> Option<(&Segment, usize)> {
        let after = self.starts.partition_point(|start| *start <= number);
        let at = after.checked_sub(1)?;
        Some((&self.segments[at].1, number - self.starts[at]))
    }

    fn block(&self, number: usize) -> Option<BlockId> {
        self.segment_of(number).and_then(|(segment, n)| segment.block(n))
    }

    /// Goes through the objects: id, lease they were put under, number of rows.
    pub fn objects(&self) -> impl Iterator<Item = (IndexId, LeaseId, usize)> + '_ {
        self.segments.iter().map(|(id, segment)| (*id, segment.lease(), segment.len()))
    }

    /// Goes through the packs of one object.
    pub fn packs_of(&self, id: &IndexId) -> impl Iterator<Item = IndexedPack> + '_ {
        let found = self.segments.binary_search_by_key(id, |(other, _)| *other).ok();
        found.into_iter().flat_map(|n| self.segments[n].1.packs())
    }

    /// Goes through the rows of one object.
    pub fn rows_of(&self, id: &IndexId) -> impl Iterator<Item = Location> + '_ {
        let found = self.segments.binary_search_by_key(id, |(other, _)| *other).ok();
        found.into_iter().flat_map(|n| segment_rows(&self.segments[n].1))
    }

    /// Goes through all rows with their numbers.
    pub fn all_rows(&self) -> impl Iterator<Item = (usize, Location)> + '_ {
        self.segments.iter().flat_map(|(_, segment)| segment_rows(segment)).enumerate()
    }
}

/// Returns the beginning of a block's id, which is as good as random.
fn beginning(block: &BlockId) -> u32 {
    block.as_bytes().first_chunk::<4>().map_or(0, |first| u32::from_be_bytes(*first))
}
