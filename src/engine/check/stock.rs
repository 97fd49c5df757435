//! What is in store: packs that are there, packs that indexes name, and whether a place of a
//! block can be had from any of them.
//!
//! Memory: some 100 bytes for each pack, and some 100 bytes for each block that a snapshot
//! touches, as presence is looked up once a block: 100 MB for a terabyte in blocks of 1 MiB.

use crate::base::id::BlockId;
use crate::base::id::PackId;
use crate::format::entry::Run;
use crate::repository::Repository;
use crate::repository::index::Location;
use crate::repository::layout;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::collections::HashSet;

/// A pack as the indexes name it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Indexed {
    pub(crate) size: u64,
    pub(crate) salt: [u8; 32],
    pub(crate) rows: u64,
}

/// What cannot be had of one copy of a block.
#[derive(Clone, Debug)]
pub(crate) enum BadPlaces {
    All,
    Some(BTreeSet<u32>),
}

/// What can be had of one block from all of its copies.
struct Presence {
    /// How many places the block has; none when no index names it.
    places: Option<u32>,
    /// One bit a place that can be had, or None when all can.
    bits: Option<Vec<u8>>,
}

/// What is in store.
#[derive(Default)]
pub(crate) struct Stock {
    /// Packs that were listed, with their sizes.
    pub(crate) there: HashMap<PackId, u64>,
    /// Packs that an index names.
    pub(crate) indexed: HashMap<PackId, Indexed>,
    /// Packs that a tombstone names.
    pub(crate) doomed: HashSet<PackId>,
    /// Index objects that cannot be read.
    pub(crate) damaged_indexes: Vec<String>,
    /// What was found bad by reading packs.
    pub(crate) bad: HashMap<PackId, HashMap<BlockId, BadPlaces>>,
    touched: HashMap<BlockId, Presence>,
}

/// Returns the key of a pack as text.
pub(crate) fn pack_object(pack: &PackId) -> String {
    layout::pack(pack).map_or_else(|_| pack.to_string(), |key| key.as_str().to_owned())
}

impl Stock {
    /// Says whether a pack is there with the size that the index tells.
    pub(crate) fn is_there(&self, pack: &PackId, size: u64) -> bool {
        self.there.get(pack) == Some(&size)
    }

    /// Says whether a place can be had from one copy, as far as is known.
    pub(crate) fn can_give(&self, location: &Location, place: u32) -> bool {
        let pack = &location.pack;
        let is_bad = match self.bad.get(&pack.pack).and_then(|bad| bad.get(&location.row.block)) {
            Some(BadPlaces::All) => true,
            Some(BadPlaces::Some(places)) => places.contains(&place),
            None => false,
        };
        self.is_there(&pack.pack, pack.size) && location.row.has_place(place) && !is_bad
    }

    /// Says whether a block was asked for by a snapshot.
    pub(crate) fn is_touched(&self, block: &BlockId) -> bool {
        self.touched.contains_key(block)
    }

    /// Forgets what was asked for.
    pub(crate) fn forget_touched(&mut self) {
        self.touched.clear();
    }

    /// Returns how many blocks were asked for that no index names.
    pub(crate) fn unknown_blocks(&self) -> usize {
        self.touched.values().filter(|presence| presence.places.is_none()).count()
    }

    /// Looks whether all places of a run can be had. Returns the objects to blame when not, with
    /// a sentence for those that nothing was said of yet.
    pub(crate) fn blame(
        &mut self,
        repository: &Repository,
        run: &Run,
    ) -> Vec<(String, Option<String>)> {
        if !self.touched.contains_key(&run.block) {
            let presence = self.look_up(repository, &run.block);
            self.touched.insert(run.block, presence);
        }
        let Some(presence) = self.touched.get(&run.block) else { return Vec::new() };
        let Some(places) = presence.places else { return self.blame_indexes() };
        let end = run.first.checked_add(run.count);
        if end.is_none_or(|end| end > places) {
            let why = format!("a run reaches beyond its {places} places");
            return vec![(format!("block {}", run.block), Some(why))];
        }
        let Some(bits) = &presence.bits else { return Vec::new() };
        let has =
            |place: u32| bits.get(place as usize / 8).is_some_and(|b| b >> (place % 8) & 1 == 1);
        match (run.first..run.first + run.count).find(|&place| !has(place)) {
            None => Vec::new(),
            Some(place) => self.blame_packs(repository, &run.block, place),
        }
    }

    fn look_up(&self, repository: &Repository, block: &BlockId) -> Presence {
        let copies = repository.index().find(block);
        let Some(first) = copies.first() else { return Presence { places: None, bits: None } };
        let places = first.row.places;
        let is_whole = |copy: &&Location| {
            let is_bad = self.bad.get(&copy.pack.pack).is_some_and(|bad| bad.contains_key(block));
            self.is_there(&copy.pack.pack, copy.pack.size) && copy.row.present.is_empty() && !is_bad
        };
        if copies.iter().any(|copy| is_whole(&copy)) {
            return Presence { places: Some(places), bits: None };
        }
        let mut bits = vec![0_u8; (places as usize).div_ceil(8)];
        for copy in &copies {
            for place in (0..places).filter(|&place| self.can_give(copy, place)) {
                bits[place as usize / 8] |= 1 << (place % 8);
            }
        }
        Presence { places: Some(places), bits: Some(bits) }
    }

    fn blame_indexes(&self) -> Vec<(String, Option<String>)> {
        if self.damaged_indexes.is_empty() {
            return vec![("index".to_owned(), None)];
        }
        self.damaged_indexes.iter().map(|object| (object.clone(), None)).collect()
    }

    /// Blames every pack that should give the place and does not; else the block itself.
    fn blame_packs(
        &self,
        repository: &Repository,
        block: &BlockId,
        place: u32,
    ) -> Vec<(String, Option<String>)> {
        let copies = repository.index().find(block);
        let blamed: Vec<_> = copies
            .iter()
            .filter(|copy| copy.row.has_place(place) && !self.can_give(copy, place))
            .map(|copy| {
                let is_doomed = self.doomed.contains(&copy.pack.pack);
                let is_gone = is_doomed && !self.there.contains_key(&copy.pack.pack);
                // Of the others the list of packs or the reading of them has spoken.
                let why = is_gone.then(|| "a prune let it go, and backups need it".to_owned());
                (pack_object(&copy.pack.pack), why)
            })
            .collect();
        if blamed.is_empty() {
            let why = format!("no pack holds its place {place}, which backups need");
            return vec![(format!("block {block}"), Some(why))];
        }
        blamed
    }
}
