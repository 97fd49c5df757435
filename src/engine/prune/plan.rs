//! Chooses the packs that go. Pure but for what is asked of the index.
//!
//! All dead: deleted. Too wasteful: what lives is copied, until no more than the allowed share
//! of the repository is unused. Too small: merged once enough packs of about one size are there,
//! so that a pack is copied again only when it has grown manifold.

use crate::base::id::IndexId;
use crate::base::id::PackId;
use crate::base::limits::FOOTER_BYTES_TARGET;
use crate::base::limits::SMALL_PACKS_MERGED;
use crate::engine::prune::mark::Marked;
use crate::engine::prune::marks::Marks;
use crate::format::pack_index::IndexedPack;
use crate::repository::index::Location;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::collections::HashSet;

/// What is known of the packs at one look.
pub(super) struct Stock {
    /// Packs that were listed before the mark began. Of those that came since the mark cannot tell
    /// whether they are needed.
    pub(super) before: HashSet<PackId>,
    /// Packs that were listed, with their sizes.
    pub(super) there: HashMap<PackId, u64>,
    /// Packs that a tombstone names.
    pub(super) doomed: HashSet<PackId>,
    /// Index objects of leases that are not over: their packs are left alone.
    pub(super) busy_indexes: HashSet<IndexId>,
    /// Whether packs that no index names may be needed: somebody at work may have put them, or
    /// the index is known to lack some.
    pub(super) unnamed_are_busy: bool,
}

/// What one pack holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PackUse {
    pub(super) size: u64,
    /// Stored bytes of places that are live here.
    pub(super) used: u64,
    /// Stored bytes of those that are not.
    pub(super) unused: u64,
    /// Whether some place of it is not live here.
    has_dead: bool,
    /// At most so many bytes of footer.
    footer_bytes: usize,
    /// Whether a writer at work put it, or it may be needed though no index names it.
    pub(super) is_busy: bool,
}

/// What becomes of the packs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Packs that are there, and not doomed already.
    pub packs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes that are needed.
    pub used_bytes: u64,
    /// Bytes that are not.
    pub unused_bytes: u64,
    /// Packs in which nothing lives.
    pub dead: Vec<PackId>,
    /// Their bytes.
    pub dead_bytes: u64,
    /// Packs whose live blocks are copied: too wasteful.
    pub wasteful: Vec<PackId>,
    /// Packs whose live blocks are copied: too small.
    pub small: Vec<PackId>,
    /// Bytes that are copied for both.
    pub copied_bytes: u64,
    /// Unused bytes that go with all of them.
    pub freed_bytes: u64,
    /// Unused bytes that stay, as they are few.
    pub tolerated_bytes: u64,
    /// Unused bytes that stay, as whoever is at work may need them, or backups whose index lacks
    /// them until the next repair.
    pub busy_bytes: u64,
}

impl Plan {
    /// Returns all packs that go.
    pub fn going(&self) -> Vec<PackId> {
        let mut going = self.dead.clone();
        going.extend(&self.wasteful);
        going.extend(&self.small);
        going
    }
}

/// Weighs every pack that is there and not doomed.
pub(super) fn weigh(marks: &Marks, stock: &Stock) -> BTreeMap<PackId, PackUse> {
    let view = marks.view();
    let mut uses: BTreeMap<PackId, PackUse> = BTreeMap::new();
    let told_by = told_by(marks, |pack| stock.there.get(&pack.pack) == Some(&pack.size));
    for (pack, size) in stock.there.iter().filter(|(pack, _)| !stock.doomed.contains(pack)) {
        let is_busy = match told_by.get(pack) {
            Some(index) => stock.busy_indexes.contains(index),
            None => stock.unnamed_are_busy,
        };
        let is_busy = is_busy || !stock.before.contains(pack);
        // Until its blocks are counted, all of it counts as unused.
        let whole = PackUse { size: *size, unused: *size, is_busy, ..PackUse::default() };
        uses.insert(*pack, whole);
    }
    for (index, _, _) in view.objects() {
        for location in view.rows_of(&index) {
            let pack = location.pack.pack;
            if told_by.get(&pack) != Some(&index) {
                continue;
            }
            let Some(one) = uses.get_mut(&pack) else { continue };
            one.take(&location, live_bytes(marks, stock, &location));
        }
    }
    uses.values_mut().for_each(|one| one.unused = one.freed());
    uses
}

/// Returns the first index object that tells of each pack that is asked for: several may, and its
/// blocks count once.
fn told_by(marks: &Marks, is_asked: impl Fn(&IndexedPack) -> bool) -> HashMap<PackId, IndexId> {
    let view = marks.view();
    let mut told_by = HashMap::new();
    for (index, _, _) in view.objects() {
        for pack in view.packs_of(&index).filter(&is_asked) {
            told_by.entry(pack.pack).or_insert(index);
        }
    }
    told_by
}

/// Returns how many bytes of packs are of nothing that lives, here or elsewhere: what goes with
/// them for good.
pub(super) fn dead_bytes(
    marks: &Marks,
    packs: &HashSet<PackId>,
    there: &HashMap<PackId, u64>,
) -> u64 {
    let view = marks.view();
    let sizes = packs.iter().filter_map(|pack| Some((*pack, *there.get(pack)?)));
    // Until its blocks are counted, all of it counts as unused.
    let whole = |size| PackUse { size, unused: size, ..PackUse::default() };
    let mut dead: HashMap<PackId, PackUse> =
        sizes.map(|(pack, size)| (pack, whole(size))).collect();
    let is_asked = |pack: &IndexedPack| dead.get(&pack.pack).is_some_and(|it| it.size == pack.size);
    let told_by = told_by(marks, is_asked);
    let indexes: HashSet<IndexId> = told_by.values().copied().collect();
    for index in indexes {
        for location in view.rows_of(&index) {
            let pack = location.pack.pack;
            let is_told = told_by.get(&pack) == Some(&index);
            if let Some(one) = dead.get_mut(&pack).filter(|_| is_told) {
                one.take(&location, live_in(marks, &location));
            }
        }
    }
    dead.values().map(PackUse::freed).sum()
}

/// Returns the bytes of packs that are gone, as far as the index still tells of them.
pub(super) fn gone_bytes(
    marks: &Marks,
    packs: &HashSet<PackId>,
    there: &HashMap<PackId, u64>,
) -> u64 {
    let view = marks.view();
    let is_gone = |it: &IndexedPack| packs.contains(&it.pack) && !there.contains_key(&it.pack);
    let mut gone: HashMap<PackId, u64> = HashMap::new();
    for (index, _, _) in view.objects() {
        gone.extend(view.packs_of(&index).filter(is_gone).map(|it| (it.pack, it.size)));
    }
    gone.values().sum()
}

impl PackUse {
    /// Counts bytes of one of its blocks as used.
    fn take(&mut self, location: &Location, live: u64) {
        self.has_dead |= live < stored_bytes(location);
        self.footer_bytes += location.row.footer_bytes_max();
        let live = live.min(self.unused);
        self.used += live;
        self.unused -= live;
    }

    /// Says whether packs like this one make fewer when they are merged.
    fn is_small(&self, pack_bytes: u64) -> bool {
        self.size < pack_bytes / 2 && self.footer_bytes < FOOTER_BYTES_TARGET / 2
    }

    /// Returns the bytes that are freed when it goes: head and footer are part of a pack that is
    /// used. Where something in it is dead that is one at least, so that a prune that is to leave
    /// nothing leaves nothing.
    fn freed(&self) -> u64 {
        match self.used {
            0 => self.unused,
            _ => self.unused.saturating_sub(overhead(self)).max(self.has_dead.into()),
        }
    }
}

/// Bytes of a pack that are neither blocks nor tables, as a share of 2 %: not worth a copy.
fn overhead(one: &PackUse) -> u64 {
    one.size / 50 + 256
}

/// Returns the stored bytes of the places that are live in one copy of a block: none when
/// another copy serves.
fn live_bytes(marks: &Marks, stock: &Stock, location: &Location) -> u64 {
    let row = &location.row;
    let live = marks.live(&row.block, row.places);
    if live.count_in(row) == 0 {
        return 0;
    }
    let serving = marks.view().copies(&row.block).into_iter().filter(|copy| {
        let pack = &copy.pack;
        stock.there.get(&pack.pack) == Some(&pack.size)
            && !stock.doomed.contains(&pack.pack)
            && live.is_covered_by(&copy.row)
    });
    let first = serving.map(|copy| (copy.pack.pack, copy.row.offset)).min();
    if first.is_some_and(|first| first != (location.pack.pack, row.offset)) {
        return 0;
    }
    live_in(marks, location)
}

/// Returns the stored bytes of the places that are live in one copy of a block, whatever other
/// copies there are: less than all when one is dead.
fn live_in(marks: &Marks, location: &Location) -> u64 {
    let row = &location.row;
    let here = u64::from(marks.live(&row.block, row.places).count_in(row));
    if here == 0 {
        return 0;
    }
    let stored = stored_bytes(location);
    if here == u64::from(row.places_present()) {
        return stored;
    }
    // By bytes, as places differ in length by a thousand times; a table goes with its places.
    let live = marks.live_bytes(&row.block).clamp(1, u64::from(row.plain_length.max(1)));
    let content = (u64::from(row.length) * live).div_ceil(u64::from(row.plain_length.max(1)));
    let table = (u64::from(row.table_length) * here).div_ceil(u64::from(row.places.max(1)));
    (content + table).min(stored.saturating_sub(1))
}

fn stored_bytes(location: &Location) -> u64 {
    u64::from(location.row.length) + u64::from(location.row.table_length)
}

/// Chooses. `unused_max` is the share of the used bytes that may stay unused; packs are filled
/// up to `pack_bytes`.
pub(super) fn choose(uses: &BTreeMap<PackId, PackUse>, unused_max: f64, pack_bytes: u64) -> Plan {
    let mut plan = Plan { packs: uses.len() as u64, ..Plan::default() };
    let mut unused_left = 0;
    let mut wasteful: Vec<(&PackId, &PackUse)> = Vec::new();
    let mut tiers: BTreeMap<u32, Vec<(&PackId, &PackUse)>> = BTreeMap::new();
    for (pack, one) in uses {
        plan.bytes += one.size;
        plan.used_bytes += one.size - one.unused;
        plan.unused_bytes += one.unused;
        if one.is_busy {
            plan.busy_bytes += one.unused;
        } else if one.used == 0 {
            plan.dead.push(*pack);
            plan.dead_bytes += one.size;
            plan.freed_bytes += one.unused;
        } else {
            unused_left += one.unused;
            wasteful.push((pack, one));
        }
    }
    // The emptiest first: most is freed for what is copied. Exact, as products of sizes.
    wasteful.sort_by_key(|(pack, one)| {
        (std::cmp::Reverse(u128::from(one.unused) * 1_000_000 / u128::from(one.size.max(1))), *pack)
    });
    let allowed = (plan.used_bytes as f64 * unused_max.max(0.0)) as u64;
    for (pack, one) in wasteful {
        if one.unused > 0 && unused_left > allowed {
            unused_left -= one.unused;
            plan.wasteful.push(*pack);
            plan.copied_bytes += one.used;
            plan.freed_bytes += one.unused;
        } else if one.is_small(pack_bytes) {
            tiers.entry(tier(one.size)).or_default().push((pack, one));
        }
    }
    for (pack, one) in tiers.into_values().filter(|t| t.len() >= SMALL_PACKS_MERGED).flatten() {
        unused_left -= one.unused;
        plan.small.push(*pack);
        plan.copied_bytes += one.used;
        plan.freed_bytes += one.unused;
    }
    plan.tolerated_bytes = unused_left;
    plan
}

/// Packs of one tier differ in size by less than eight times.
fn tier(size: u64) -> u32 {
    size.max(1).ilog2() / 3
}

/// Returns packs that indexes name, that are not there, and that nothing needs: each live place
/// of their blocks can be had elsewhere. Others are damage, which is not for a prune to hide.
pub(super) fn stale_packs(marked: &Marked, stock: &Stock) -> Vec<PackId> {
    let view = marked.marks.view();
    let is_there = |copy: &Location| {
        stock.there.get(&copy.pack.pack) == Some(&copy.pack.size)
            && !stock.doomed.contains(&copy.pack.pack)
    };
    let mut needed: HashSet<PackId> = HashSet::new();
    let mut missing: BTreeSet<PackId> = BTreeSet::new();
    for (_, location) in view.all_rows() {
        let (pack, row) = (&location.pack, &location.row);
        if stock.there.contains_key(&pack.pack) || needed.contains(&pack.pack) {
            continue;
        }
        missing.insert(pack.pack);
        let live = marked.marks.live(&row.block, row.places).within(row);
        let live = live.without(|place| marked.lost.contains(&row.block, place));
        let mut copies = view.copies(&row.block).into_iter().filter(is_there);
        if !live.is_empty() && !copies.any(|copy| live.is_covered_by(&copy.row)) {
            needed.insert(pack.pack);
        }
    }
    missing.into_iter().filter(|pack| !needed.contains(pack)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uses(packs: &[(u64, u64)]) -> BTreeMap<PackId, PackUse> {
        let one = |(n, &(used, unused)): (usize, &(u64, u64))| {
            let size = used + unused;
            (PackId::new([n as u8; 32]), PackUse { size, used, unused, ..PackUse::default() })
        };
        packs.iter().enumerate().map(one).collect()
    }

    fn id(n: u8) -> PackId {
        PackId::new([n; 32])
    }

    #[test]
    fn the_emptiest_are_copied_until_little_enough_is_unused() {
        let uses = uses(&[(900, 100), (0, 500), (500, 500), (990, 10), (100, 900)]);
        let plan = choose(&uses, 0.05, 1);
        assert_eq!(plan.dead, [id(1)]);
        assert_eq!(plan.wasteful, [id(4), id(2)]);
        assert_eq!((plan.copied_bytes, plan.freed_bytes), (600, 1900));
        assert_eq!(plan.tolerated_bytes, 110, "of 2490 used, 124 may be unused");
        let plan = choose(&uses, 0.0, 1);
        assert_eq!((plan.wasteful.len(), plan.tolerated_bytes), (4, 0));
        let plan = choose(&uses, 100.0, 1);
        assert_eq!((plan.wasteful.len(), plan.dead.len()), (0, 1), "the dead go in any case");
    }

    #[test]
    fn small_packs_are_merged_when_enough_of_a_size_are_there() {
        let mut packs = vec![(1000, 0); 7];
        packs.push((100_000, 0));
        assert!(choose(&uses(&packs), 0.05, 1 << 20).small.is_empty());
        packs.push((1010, 0));
        let plan = choose(&uses(&packs), 0.05, 1 << 20);
        assert_eq!(plan.small.len(), 8);
        let mut of_tiny_blocks = uses(&packs);
        of_tiny_blocks.values_mut().for_each(|one| one.footer_bytes = FOOTER_BYTES_TARGET);
        let plan = choose(&of_tiny_blocks, 0.05, 1 << 20);
        assert!(plan.small.is_empty(), "they are as full as a pack can be");
        assert!(!plan.small.contains(&id(7)), "a much larger one is left alone");
        assert!(choose(&uses(&packs), 0.05, 1000).small.is_empty(), "they are large enough");
    }

    #[test]
    fn packs_of_a_writer_at_work_are_left_alone() {
        let mut uses = uses(&[(0, 1000), (10, 990)]);
        uses.values_mut().for_each(|one| one.is_busy = true);
        let plan = choose(&uses, 0.0, 1 << 20);
        assert!(plan.going().is_empty());
        assert_eq!(plan.busy_bytes, 1990);
    }
}
