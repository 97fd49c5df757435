//! What is in store: packs that are there, packs that indexes name, and whether a place of a
//! block can be had from any of them.
//!
//! Memory: some 100 bytes for each pack, and some 100 bytes for each block that a snapshot
//! touches, as presence is looked up once a block: 100 MB for a terabyte in blocks of 1 MiB.

use crate::backend::key::ObjectKey;
use crate::base::error::ErrorKind;
use crate::base::id::BlockId;
use crate::base::id::IndexId;
use crate::base::id::PackId;
use crate::base::limits::BLOCK_PLACES_MAX;
use crate::engine::check::Severity;
use crate::format::dataset::LostRecord;
use crate::format::entry::Run;
use crate::repository::Repository;
use crate::repository::index::Location;
use crate::repository::layout;
use crate::repository::parity::Listed;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;

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

/// What is to blame for a place that cannot be had.
pub(crate) struct Blame {
    pub(crate) object: String,
    /// What is wrong with it, unless that was said already.
    pub(crate) message: Option<String>,
    pub(crate) severity: Severity,
}

/// What a repair wants to know of a replay.
#[derive(Default)]
pub(crate) struct Gathered {
    /// Places that backups need and no copy gives, but those that were declared lost before.
    pub(crate) missing: BTreeMap<BlockId, BTreeSet<u32>>,
    /// Blocks that backups need and no index names; nobody knows their places.
    pub(crate) unknown: BTreeSet<BlockId>,
    /// Blocks to be watched, with the places of them that backups need.
    pub(crate) live: HashMap<BlockId, BTreeSet<u32>>,
    /// Records of lost places by which a backup still suffers.
    pub(crate) suffered: HashSet<Arc<str>>,
}

/// One record of lost places: its key, and of each block the places, or None for all of them.
type Declared = (Arc<str>, Option<BTreeSet<u32>>);

/// What is in store.
#[derive(Default)]
pub(crate) struct Stock {
    /// Packs that were listed, with their sizes.
    pub(crate) there: HashMap<PackId, u64>,
    /// Packs that an index names, or that are in use by their footers.
    pub(crate) indexed: HashMap<PackId, Indexed>,
    /// Packs that an index names; doomed indexes do not count, as others stand in for them.
    pub(crate) named: HashSet<PackId>,
    /// Packs that a tombstone names.
    pub(crate) doomed: HashSet<PackId>,
    /// Pack index objects that a tombstone named before the index was looked at: others stand in
    /// for them.
    pub(crate) doomed_indexes: HashSet<IndexId>,
    /// Index objects that cannot be read, and why; doomed ones are left out.
    pub(crate) damaged_indexes: Vec<(IndexId, ErrorKind)>,
    /// What was found bad by reading packs.
    pub(crate) bad: HashMap<PackId, HashMap<BlockId, BadPlaces>>,
    /// Packs whose footer tells otherwise than their index, and is right.
    pub(crate) misindexed: HashSet<PackId>,
    /// Packs that cannot be judged, or whose parity cannot: no permission, or made by a later
    /// version.
    pub(crate) unjudged: HashMap<PackId, String>,
    /// What a repair gathers; a check does not.
    pub(crate) gathered: Option<Gathered>,
    /// Parity objects that were listed.
    pub(crate) parity: Listed,
    /// Parity objects that are damaged, of packs that are whole.
    pub(crate) bad_parity: Vec<ObjectKey>,
    /// Whether what parity heals counts as good, and is read so, as for a repair: a check only
    /// tells.
    pub(crate) heals: bool,
    /// Packs that parity heals, and how.
    pub(crate) healed: BTreeMap<PackId, String>,
    declared: HashMap<BlockId, Vec<Declared>>,
    touched: HashMap<BlockId, Presence>,
}

/// Returns the key of a pack index object as text.
pub(crate) fn index_object(id: &IndexId) -> String {
    layout::index(id).map_or_else(|_| id.to_string(), |key| key.as_str().to_owned())
}

/// Returns the key of a pack as text.
pub(crate) fn pack_object(pack: &PackId) -> String {
    layout::pack(pack).map_or_else(|_| pack.to_string(), |key| key.as_str().to_owned())
}

impl Stock {
    /// Says whether a pack is there at all.
    pub(crate) fn has(&self, pack: &PackId) -> bool {
        self.there.contains_key(pack)
    }

    /// Returns the packs that are there and that no index names.
    pub(crate) fn unindexed(&self) -> Vec<PackId> {
        let packs = self.there.keys().filter(|pack| !self.indexed.contains_key(pack));
        let mut packs: Vec<PackId> = packs.copied().collect();
        packs.sort_unstable();
        packs
    }

    /// Says whether a pack is there with the size that the index tells; of one that was read it
    /// is known better which blocks it gives.
    pub(crate) fn is_there(&self, pack: &PackId, size: u64) -> bool {
        let there = self.there.get(pack);
        there == Some(&size) || (there.is_some() && self.bad.contains_key(pack))
    }

    /// Takes in a record of places that a repair has declared lost.
    pub(crate) fn declare(&mut self, key: &str, record: &LostRecord) {
        let key: Arc<str> = key.into();
        for (id, places) in record.blocks.chunks_exact(32).zip(&record.places) {
            let Ok(block) = BlockId::from_slice(id) else { continue };
            let places = (!places.is_empty()).then(|| places.iter().copied().collect());
            self.declared.entry(block).or_default().push((Arc::clone(&key), places));
        }
    }

    /// Returns the keys of the records of lost places.
    pub(crate) fn lost_records(&self) -> BTreeSet<Arc<str>> {
        self.declared.values().flatten().map(|(key, _)| Arc::clone(key)).collect()
    }

    /// Returns the record that has declared a place lost; without a place all of the block.
    fn declared_by(&self, block: &BlockId, place: Option<u32>) -> Option<&Arc<str>> {
        let records = self.declared.get(block)?;
        let (key, _) = records.iter().find(|(_, places)| match (places, place) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(places), Some(place)) => places.contains(&place),
        })?;
        Some(key)
    }

    /// Says how bad it is when a pack is damaged: of one that is doomed nobody expects anything.
    pub(crate) fn severity_of(&self, pack: &PackId) -> Severity {
        if self.doomed.contains(pack) { Severity::Garbage } else { Severity::Damage }
    }

    /// Says whether something of a pack that was read is damaged or cannot be judged.
    pub(crate) fn is_hurt(&self, pack: &PackId) -> bool {
        let is_parity_bad =
            || self.parity.of(pack).iter().any(|parity| self.bad_parity.contains(&parity.key));
        self.bad.contains_key(pack) || self.unjudged.contains_key(pack) || is_parity_bad()
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

    /// Says whether a copy gives a place that was declared lost: one in a pack that was doomed for
    /// it does not.
    fn is_good_again(&self, copy: &Location, place: u32) -> bool {
        let pack = &copy.pack.pack;
        let counts = self.indexed.contains_key(pack) && !self.doomed.contains(pack);
        counts && self.can_give(copy, place)
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
        let unknown = self.touched.iter().filter(|(_, presence)| presence.places.is_none());
        // Of what was declared lost nobody expects an index to tell.
        unknown.filter(|(block, _)| !self.declared.contains_key(*block)).count()
    }

    /// Looks whether all places of a run can be had. Returns the objects to blame when not.
    pub(crate) fn blame(&mut self, repository: &Repository, run: &Run) -> Vec<Blame> {
        if !self.touched.contains_key(&run.block) {
            let presence = self.look_up(repository, &run.block);
            self.touched.insert(run.block, presence);
        }
        let mut gathered = self.gathered.take();
        let blamed = self.blame_gathering(repository, run, gathered.as_mut());
        self.gathered = gathered;
        blamed
    }

    fn blame_gathering(
        &self,
        repository: &Repository,
        run: &Run,
        mut gathered: Option<&mut Gathered>,
    ) -> Vec<Blame> {
        let Some(presence) = self.touched.get(&run.block) else { return Vec::new() };
        let end = run.first.checked_add(run.count);
        if let Some(places) = presence.places
            && end.is_none_or(|end| end > places)
        {
            let why = format!("a run reaches beyond its {places} places");
            return vec![Blame::damage(format!("block {}", run.block), Some(why))];
        }
        // Of a block that nobody knows a run may claim anything.
        let count = run.count.min(BLOCK_PLACES_MAX as u32);
        let stretch = run.first..run.first.saturating_add(count);
        if let Some(gathered) = gathered.as_deref_mut()
            && let Some(live) = gathered.live.get_mut(&run.block)
        {
            live.extend(stretch.clone());
        }
        let is_declared = self.declared.contains_key(&run.block);
        if presence.places.is_some() && presence.bits.is_none() && !is_declared {
            return Vec::new();
        }
        let copies = match is_declared {
            true => repository.index().find(&run.block),
            false => Vec::new(),
        };
        let mut keys: BTreeSet<&Arc<str>> = BTreeSet::new();
        let mut missing = Vec::new();
        for place in stretch {
            match self.declared_by(&run.block, Some(place)) {
                Some(_) if copies.iter().any(|copy| self.is_good_again(copy, place)) => {}
                Some(key) => drop(keys.insert(key)),
                None if presence.has(place) => {}
                None => missing.push(place),
            }
        }
        if let Some(gathered) = gathered {
            gathered.suffered.extend(keys.iter().map(|key| Arc::clone(key)));
            if presence.places.is_none() && !missing.is_empty() {
                gathered.unknown.insert(run.block);
            } else if !missing.is_empty() {
                gathered.missing.entry(run.block).or_default().extend(missing.iter().copied());
            }
        }
        let mut blamed = match (missing.first(), presence.places) {
            (None, _) => Vec::new(),
            (Some(_), None) => self.blame_indexes(),
            (Some(&place), Some(_)) => self.blame_packs(repository, &run.block, place),
        };
        blamed.extend(keys.into_iter().map(|key| Blame {
            object: key.to_string(),
            message: None,
            severity: Severity::Note,
        }));
        blamed
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

    fn blame_indexes(&self) -> Vec<Blame> {
        if self.damaged_indexes.is_empty() {
            return vec![Blame::damage("index".to_owned(), None)];
        }
        let objects = self.damaged_indexes.iter().map(|(id, _)| index_object(id));
        objects.map(|object| Blame::damage(object, None)).collect()
    }

    /// Blames every pack that should give the place and does not; else the block itself.
    fn blame_packs(&self, repository: &Repository, block: &BlockId, place: u32) -> Vec<Blame> {
        let copies = repository.index().find(block);
        let blamed: Vec<Blame> = copies
            .iter()
            .filter(|copy| copy.row.has_place(place) && !self.can_give(copy, place))
            .map(|copy| {
                let is_doomed = self.doomed.contains(&copy.pack.pack);
                let is_gone = !self.there.contains_key(&copy.pack.pack);
                // Of the others the list of packs or the reading of them has spoken.
                let why = match (is_gone, is_doomed) {
                    (true, true) => Some("a prune let it go, and backups need it".to_owned()),
                    (true, false) => Some("it is not there, and backups need it".to_owned()),
                    (false, _) => None,
                };
                Blame::damage(pack_object(&copy.pack.pack), why)
            })
            .collect();
        if blamed.is_empty() {
            let why = format!("no pack holds its place {place}, which backups need");
            return vec![Blame::damage(format!("block {block}"), Some(why))];
        }
        blamed
    }
}

impl Blame {
    fn damage(object: String, message: Option<String>) -> Self {
        Blame { object, message, severity: Severity::Damage }
    }
}

impl Presence {
    fn has(&self, place: u32) -> bool {
        match (self.places, &self.bits) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(_), Some(bits)) => {
                bits.get(place as usize / 8).is_some_and(|bits| bits >> (place % 8) & 1 == 1)
            }
        }
    }
}
