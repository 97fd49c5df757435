//! One bit for each place of each block that the pack index knows.
//!
//! The bits, where those of each block begin, and how many bytes of each block live, stand in
//! scratch space that the system may write out: 16 MB of bits for a terabyte of 8 KiB chunks, and
//! 12 MB for the rest. To find a block among many index objects takes 4 bytes a row more, in
//! memory (see `IndexView`).

use crate::base::id::BlockId;
use crate::base::mapped::Scratch;
use crate::format::pack::BlockRow;
use crate::repository::index::IndexView;
use crate::repository::index::Location;
use crate::repository::lost::LostPlaces;
use std::ops::Range;
use std::path::Path;

const START_BYTES: usize = 8;
const COUNT_BYTES: usize = 4;

/// Which places are live.
pub(super) struct Marks {
    view: IndexView,
    starts: Scratch,
    bits: Scratch,
    /// Bytes of plaintext that live, a `u32` a row: exact where runs do not overlap.
    bytes: Scratch,
    /// The block that was asked for last: neighbouring files lie in one.
    last: Option<(BlockId, Found)>,
}

/// What the index says of a block.
struct Found {
    copies: Vec<Location>,
    /// The number of its first row, and where its bits begin.
    rank_and_start: Option<(usize, usize)>,
}

impl Marks {
    /// Starts with nothing live; `folder` is where large scratch files may be.
    pub(super) fn new(view: IndexView, folder: &Path) -> Self {
        let mut starts = Scratch::zeroed(folder, view.rows() * START_BYTES);
        let mut places = 0_u64;
        for (row, location) in view.all_rows() {
            starts[row * START_BYTES..][..START_BYTES].copy_from_slice(&places.to_le_bytes());
            places += u64::from(location.row.places);
        }
        let bits = Scratch::zeroed(folder, places.div_ceil(8) as usize);
        let bytes = Scratch::zeroed(folder, view.rows() * COUNT_BYTES);
        Marks { view, starts, bits, bytes, last: None }
    }

    /// Returns the index that the bits are for.
    pub(super) fn view(&self) -> &IndexView {
        &self.view
    }

    fn start(&self, rank: usize) -> Option<usize> {
        let bytes = self.starts.get(rank * START_BYTES..)?.first_chunk::<START_BYTES>()?;
        usize::try_from(u64::from_le_bytes(*bytes)).ok()
    }

    /// Marks places live that hold so many bytes together, where that is known. Says false when
    /// the index knows no copy of one that is not lost: an object that cannot be seen may name
    /// the pack that has it, and that pack looks dead.
    pub(super) fn set(
        &mut self,
        block: &BlockId,
        places: Range<u32>,
        bytes: Option<u64>,
        lost: &LostPlaces,
    ) -> bool {
        let found = match self.last.take() {
            Some((last, found)) if last == *block => found,
            _ => self.find(block),
        };
        let is_known = self.set_found(&found, block, places, bytes, lost);
        self.last = Some((*block, found));
        is_known
    }

    fn find(&self, block: &BlockId) -> Found {
        let rank = self.view.rank(block);
        let rank_and_start = rank.and_then(|rank| Some((rank, self.start(rank)?)));
        Found { copies: self.view.copies(block), rank_and_start }
    }

    fn set_found(
        &mut self,
        found: &Found,
        block: &BlockId,
        places: Range<u32>,
        bytes: Option<u64>,
        lost: &LostPlaces,
    ) -> bool {
        let copies = &found.copies;
        let all = copies.iter().map(|copy| copy.row.places).min().unwrap_or(0);
        if let Some((rank, start)) = found.rank_and_start
            && let Some(first) = copies.first()
        {
            let mut fresh = 0_u64;
            for place in start + places.start as usize..start + places.end.min(all) as usize {
                fresh += u64::from(self.bits[place / 8] >> (place % 8) & 1 == 0);
                self.bits[place / 8] |= 1 << (place % 8);
            }
            let count = u64::from(places.end - places.start).max(1);
            let present = u64::from(first.row.places_present().max(1));
            let average = || u64::from(first.row.plain_length) * count / present;
            self.count(rank, bytes.unwrap_or_else(average).saturating_mul(fresh) / count);
        }
        if places.end <= all && copies.iter().any(|copy| copy.row.present.is_empty()) {
            return true;
        }
        let is_known = |place: u32| copies.iter().any(|copy| copy.row.has_place(place));
        places.into_iter().all(|place| is_known(place) || lost.contains(block, place))
    }

    fn count(&mut self, rank: usize, bytes: u64) {
        let at = rank * COUNT_BYTES;
        if let Some(four) =
            self.bytes.get_mut(at..).and_then(<[u8]>::first_chunk_mut::<COUNT_BYTES>)
        {
            let sum = u64::from(u32::from_le_bytes(*four)).saturating_add(bytes);
            *four = u32::try_from(sum).unwrap_or(u32::MAX).to_le_bytes();
        }
    }

    /// Returns how many bytes of a block's plaintext live.
    pub(super) fn live_bytes(&self, block: &BlockId) -> u64 {
        let four = self.view.rank(block).and_then(|rank| self.bytes.get(rank * COUNT_BYTES..));
        let four = four.and_then(<[u8]>::first_chunk::<COUNT_BYTES>);
        four.map_or(0, |four| u32::from_le_bytes(*four).into())
    }

    /// Returns the live places of a block.
    pub(super) fn live(&self, block: &BlockId, places: u32) -> Live {
        let start = self.view.rank(block).and_then(|rank| self.start(rank));
        let Some(start) = start else { return Live(Vec::new()) };
        let is_live = |place: &u32| {
            let at = start + *place as usize;
            self.bits.get(at / 8).is_some_and(|byte| byte >> (at % 8) & 1 == 1)
        };
        Live((0..places).filter(is_live).collect())
    }
}

/// The live places of one block, ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Live(Vec<u32>);

impl Live {
    /// Says whether nothing of the block is live.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns how many places are live.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// Says whether a place is live.
    pub(super) fn has(&self, place: u32) -> bool {
        self.0.binary_search(&place).is_ok()
    }

    /// Returns how many live places a copy has.
    pub(super) fn count_in(&self, row: &BlockRow) -> u32 {
        self.0.iter().filter(|place| row.has_place(**place)).count() as u32
    }

    /// Returns those that a copy has.
    pub(super) fn within(&self, row: &BlockRow) -> Live {
        Live(self.0.iter().copied().filter(|place| row.has_place(*place)).collect())
    }

    /// Says whether a copy has all of them.
    pub(super) fn is_covered_by(&self, row: &BlockRow) -> bool {
        self.0.iter().all(|place| row.has_place(*place))
    }

    /// Says whether all of them are live in another as well.
    pub(super) fn is_part_of(&self, other: &Live) -> bool {
        self.0.iter().all(|place| other.has(*place))
    }

    /// Returns those that are not lost.
    pub(super) fn without(self, is_lost: impl Fn(u32) -> bool) -> Live {
        Live(self.0.into_iter().filter(|place| !is_lost(*place)).collect())
    }
}
