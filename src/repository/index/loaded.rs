//! The index objects in use, and how a block is found in them.
//!
//! Few are asked one after the other. When the looks have cost as much as it would, one order is
//! made over all rows. Each backup adds an object, and a process may make many: the order stays
//! in use, and the few objects that came since are asked one by one.

use crate::base::id::BlockId;
use crate::base::id::IndexId;
use crate::base::id::PackId;
use crate::base::limits::BLOCK_COPIES_MAX;
use crate::format::pack::BlockRow;
use crate::format::pack_index::IndexedPack;
use crate::repository::index::IndexView;
use crate::repository::index::Location;
use crate::repository::index::Segment;
use crate::repository::index::Segments;
use crate::repository::index::stretches::TableStretches;
use std::ops::Range;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

/// So many segments are always asked one after the other.
const SEGMENTS_FEW: usize = 8;
/// So many may come before the order is made anew: then it costs each of them a 64th.
const SEGMENTS_SINCE_MAX: usize = 64;

/// The objects in use.
#[derive(Default)]
pub(super) struct Loaded {
    segments: Segments,
    rows: usize,
    /// How many blocks were looked for in all segments, one after the other.
    looks: AtomicUsize,
    /// Rows in one order, made when the looks have cost as much as making it.
    view: OnceLock<IndexView>,
    /// What came since the order was made.
    since: Vec<Arc<Segment>>,
    /// Made when a writer far away first asks for the tables of a whole pack.
    stretches: OnceLock<TableStretches>,
}

impl Loaded {
    /// Takes these into use.
    pub(super) fn new(segments: Segments) -> Self {
        let rows = segments.values().map(|segment| segment.len()).sum();
        Loaded { segments, rows, ..Loaded::default() }
    }

    /// Returns all segments.
    pub(super) fn segments(&self) -> &Segments {
        &self.segments
    }

    /// Takes one more into use.
    pub(super) fn add(&mut self, id: IndexId, segment: Arc<Segment>) {
        self.rows += segment.len();
        self.stretches = OnceLock::new();
        if self.view.get().is_some() {
            self.since.push(Arc::clone(&segment));
        }
        if self.since.len() > SEGMENTS_SINCE_MAX {
            self.since.clear();
            self.view = OnceLock::new();
            self.looks = AtomicUsize::new(0);
        }
        self.segments.insert(id, segment);
    }

    /// Returns copies of a block.
    pub(super) fn find(&self, block: &BlockId) -> Vec<Location> {
        let looks = self.looks.fetch_add(1, Ordering::Relaxed);
        let are_many = self.segments.len() > SEGMENTS_FEW;
        if are_many && looks.saturating_mul(self.segments.len()) >= self.rows {
            let view = self.view.get_or_init(|| IndexView::of(&self.segments));
            let found = view.copies_up_to(block, BLOCK_COPIES_MAX).into_iter();
            let found = found.map(|location| (location.pack, location.row));
            let since = self.since.iter().flat_map(|segment| segment.find(block));
            return distinct(found.chain(since), BLOCK_COPIES_MAX);
        }
        let segments = self.segments.values();
        distinct(segments.flat_map(|segment| segment.find(block)), BLOCK_COPIES_MAX)
    }

    /// Returns the bytes of a pack in which its tables are.
    pub(super) fn tables_of(&self, pack: &PackId) -> Option<Range<u32>> {
        self.stretches.get_or_init(|| TableStretches::of(&self.segments)).find(pack)
    }
}

/// Takes so many copies at most, each once whatever objects name it.
pub(super) fn distinct(
    copies: impl Iterator<Item = (IndexedPack, BlockRow)>,
    most: usize,
) -> Vec<Location> {
    let mut found: Vec<Location> = Vec::new();
    for (pack, row) in copies {
        let is_known = found.iter().any(|l| l.pack.pack == pack.pack && l.row.offset == row.offset);
        if !is_known {
            found.push(Location { pack, row });
        }
        if found.len() == most {
            break;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::hash;
    use crate::format::pack_index::IndexTable;
    use crate::format::pack_index::samples;
    use crate::repository::index::Slice;

    fn block(n: u8) -> BlockId {
        // Some begin alike.
        let mut bytes = hash::hash(&[n / 3]);
        bytes[31] = n % 3;
        BlockId::new(bytes)
    }

    fn segment(n: u8, blocks: &[u8]) -> (IndexId, Arc<Segment>) {
        let rows = blocks.iter().map(|&number| samples::row(block(number), number.into()));
        let plain = samples::table(n / 2, &rows.collect::<Vec<_>>());
        let table = IndexTable::new(Slice::memory(plain));
        (IndexId::new([n; 16]), Arc::new(table.expect("sound")))
    }

    /// Segments by twos name the same pack, so that half of the copies come twice.
    #[test]
    fn many_segments_are_asked_at_once_with_the_same_answer() {
        let segments: Segments = (0..40).map(|n| segment(n, &[n / 4, 100 + n / 2, 200])).collect();
        let loaded = Loaded::new(segments);
        let all: Vec<BlockId> = (0..=255).map(block).collect();
        let asked = |loaded: &Loaded| all.iter().map(|id| loaded.find(id)).collect::<Vec<_>>();
        loaded.looks.store(0, Ordering::Relaxed);
        let one_by_one: Vec<Vec<Location>> = all
            .iter()
            .map(|id| distinct(loaded.segments.values().flat_map(|it| it.find(id)), usize::MAX))
            .map(|mut found| {
                found.truncate(BLOCK_COPIES_MAX);
                found
            })
            .collect();
        assert_eq!(one_by_one.iter().filter(|found| !found.is_empty()).count(), 10 + 20 + 1);
        assert!(one_by_one.iter().all(|found| found.len() <= 20));
        assert!(loaded.view.get().is_none());
        assert_eq!(asked(&loaded), one_by_one);
        assert!(loaded.view.get().is_some(), "they were asked often enough");
        assert_eq!(asked(&loaded), one_by_one);
    }

    #[test]
    fn what_came_since_the_order_was_made_is_found_as_well() {
        let mut loaded = Loaded::new((0..40).map(|n| segment(n, &[n / 4, 200])).collect());
        (0..50).for_each(|n| drop(loaded.find(&block(n))));
        assert!(loaded.view.get().is_some());
        let mut since_most = 0;
        for n in 40..240_u8 {
            let (id, segment) = segment(n, &[n / 4]);
            loaded.add(id, segment);
            let copies = loaded.find(&block(n / 4));
            let expected = usize::from(n % 4 / 2 + 1);
            assert_eq!(copies.len(), expected, "{n}: each pack is named by two");
            since_most = since_most.max(loaded.since.len());
        }
        assert_eq!(since_most, SEGMENTS_SINCE_MAX);
        assert_eq!(loaded.find(&block(0)).len(), 2);
        assert!(loaded.find(&block(60)).is_empty());
        assert_eq!(loaded.rows, 40 * 2 + 200);
    }
}
