//! Datasets as a check sees them: names, numbers, headers, chains, straight from the store.
//!
//! Nothing here uses the cached headers, and a gap or a damaged header hides no other.

use crate::backend::key::ObjectKey;
use crate::backend::list_all;
use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::id::BackupId;
use crate::base::id::DatasetId;
use crate::base::id::LeaseId;
use crate::base::id::SnapshotHash;
use crate::base::limits::RECORD_BYTES_MAX;
use crate::base::planted;
use crate::base::planted::Rule;
use crate::codec::frame;
use crate::codec::frame::ObjectKind;
use crate::codec::serial;
use crate::engine::check::Run;
use crate::engine::check::Severity;
use crate::engine::check::damage_of;
use crate::engine::check::headers::Headers;
use crate::engine::check::ledger::Ledger;
use crate::engine::check::ledger::Sufferer;
use crate::engine::check::objects::belongs;
use crate::engine::check::objects::foreign;
use crate::format::backup;
use crate::format::backup::Counts;
use crate::format::backup::Header;
use crate::format::dataset::FloorRecord;
use crate::format::dataset::HiddenRecord;
use crate::format::dataset::TagsRecord;
use crate::format::dataset::VoidRecord;
use crate::repository::floor;
use crate::repository::layout;
use crate::repository::layout::NumberObject;
use crate::repository::lease;
use crate::repository::lease::Lease;
use crate::repository::lease::Standing;
use std::collections::BTreeMap;
use std::collections::HashSet;
use std::sync::Arc;

/// Leases taken by one check.
const LEASES_MAX: usize = 64;
/// How often a dataset is looked at whose floor rises meanwhile.
const LOOKS_MAX: usize = 3;

/// A dataset and what to call it.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    pub(crate) id: DatasetId,
    /// Its name; its id when no name leads to it.
    pub(crate) label: Arc<str>,
}

/// What a check keeps of a header; the rest is read again when it is replayed.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) key: ObjectKey,
    pub(crate) chain: Vec<u64>,
    pub(crate) counts: Counts,
    pub(crate) snapshot: SnapshotHash,
    pub(crate) is_hidden: bool,
}

/// A dataset with its headers.
pub(crate) struct View {
    pub(crate) named: Named,
    pub(crate) headers: Headers,
    /// Numbers that hold something which cannot be read, and their objects.
    pub(crate) damaged_headers: BTreeMap<u64, ObjectKey>,
    /// Stretches of numbers that hold nothing, each with its end.
    pub(crate) gaps: Vec<(u64, u64)>,
    /// Numbers whose tags cannot be read, with the highest revision there is.
    pub(crate) damaged_tags: BTreeMap<u64, u64>,
    /// The highest floor, if it cannot be read.
    pub(crate) damaged_floor: Option<u64>,
    forgotten: HashSet<u64>,
    floor: u64,
    remaining: HashSet<u64>,
}

impl View {
    /// Goes through the backups that were not forgotten.
    pub(crate) fn visible(&self) -> impl Iterator<Item = u64> + '_ {
        self.headers.iter().filter(|(_, kept)| !kept.is_hidden).map(|(n, _)| n)
    }

    /// Says whether a backup was forgotten or pruned.
    pub(crate) fn is_forgotten(&self, n: u64) -> bool {
        self.forgotten.contains(&n) || (n < self.floor && !self.remaining.contains(&n))
    }

    /// Returns how many entries that are no folders a replay of all visible backups gives.
    pub(crate) fn files(&self) -> u64 {
        self.visible().map(|n| self.headers[n].counts.files).fold(0, u64::saturating_add)
    }

    /// Names a backup.
    pub(crate) fn sufferer(&self, n: u64) -> Sufferer {
        (Arc::clone(&self.named.label), n)
    }

    /// Says whether a dataset has no name that leads to it.
    pub(crate) fn is_nameless(&self) -> bool {
        *self.named.label == *self.named.id.to_string()
    }

    /// Returns the visible backups that a number is replayed for.
    pub(crate) fn users_of(&self, n: u64) -> Vec<Sufferer> {
        let uses = |user: &u64| *user == n || self.headers[*user].chain.contains(&n);
        self.visible().filter(uses).map(|user| self.sufferer(user)).collect()
    }
}

/// Takes reader's leases, best effort, on the newest visible backup of each dataset, so that a
/// prune that begins meanwhile keeps what is read here. A lease has a thread for its beat, so
/// their number is bounded; what is forgotten of the other datasets meanwhile is noticed later.
pub(crate) fn take_leases(run: &Run<'_>, names: &[Named], leases: &mut Vec<Lease>) {
    let store = run.repository.store();
    for named in names.iter().take(LEASES_MAX) {
        let Ok(listed) = list_numbers(run, named, &mut Ledger::default()) else { continue };
        let newest = listed.slots.iter().rev().find(|(n, slot)| {
            let is_backup = |(key, _): &(ObjectKey, Option<LeaseId>)| {
                let bytes = store.get_bytes(ObjectKind::Backup, key);
                bytes.is_ok_and(|bytes| frame::peek_kind(&bytes) == Some(ObjectKind::Backup))
            };
            !slot.is_hidden && !listed.is_below_floor(**n) && slot.headers.iter().any(is_backup)
        });
        let Some((&n, _)) = newest else { continue };
        let now = run.context.clock.now();
        let purpose = format!("check of {}", named.label);
        leases.extend(Lease::take(store, named.id, None, Some(BackupId(n)), &purpose, now));
    }
}

#[derive(Default)]
struct Slot {
    headers: Vec<(ObjectKey, Option<LeaseId>)>,
    is_hidden: bool,
}

#[derive(Default)]
struct Listing {
    slots: BTreeMap<u64, Slot>,
    /// The heights of all floors, whether they can be read or not.
    floors: Vec<u64>,
    floor: u64,
    remaining: HashSet<u64>,
    /// The highest floor if it could not be read: then no number is known to be missing below
    /// the lowest that is there.
    damaged_floor: Option<u64>,
    /// Numbers whose tags cannot be read, with the highest revision there is.
    damaged_tags: BTreeMap<u64, u64>,
    /// Below which number this machine had seen backups before it listed them.
    highest_seen: u64,
}

impl Listing {
    fn is_below_floor(&self, n: u64) -> bool {
        n < self.floor && !self.remaining.contains(&n)
    }

    /// Returns the number after the highest that was ever taken.
    fn next(&self) -> u64 {
        let marked = self.slots.keys().next_back().map_or(0, |n| n.saturating_add(1));
        marked.max(self.floor)
    }

    /// Returns the stretches of numbers that should hold a header or a void and do not.
    fn gaps(&self) -> Vec<(u64, u64)> {
        let is_there = |n: &u64| self.slots.get(n).is_some_and(|slot| !slot.headers.is_empty());
        let present: Vec<u64> = self.slots.keys().copied().filter(is_there).collect();
        let is_known = self.damaged_floor.is_none();
        let missing = self.remaining.iter().copied().filter(|n| is_known && !is_there(n));
        let mut gaps: Vec<(u64, u64)> = missing.map(|n| (n, n.saturating_add(1))).collect();
        // Of what is below a floor that cannot be read nothing is known to be missing.
        let lowest = self.damaged_floor.unwrap_or(self.floor);
        let mut expected = lowest;
        // A marker outlives its header only below the floor.
        let end = self.next().max(self.highest_seen);
        for n in present.into_iter().filter(|&n| n >= lowest).chain([end]) {
            if n > expected {
                gaps.push((expected, n));
            }
            expected = expected.max(n.saturating_add(1));
        }
        gaps.sort_unstable();
        gaps
    }
}

/// Lists a dataset and reads its small records.
fn list_numbers(run: &Run<'_>, named: &Named, ledger: &mut Ledger) -> Result<Listing> {
    let store = run.repository.store();
    // What this machine has seen before is only a hint, but no store may show less. Whatever is
    // put and remembered from here on need not be listed.
    let highest_seen = run.repository.highest_seen_of(&named.id);
    let mut listing = Listing { highest_seen, ..Listing::default() };
    let mut floors = BTreeMap::new();
    let mut small = Vec::new();
    let folder = layout::dataset(&named.id)?;
    list_all(store.backend(), &folder, &mut |object| {
        let key = object.key;
        if key.folder() == folder {
            match layout::parse_floor(key.name()) {
                Some(m) => drop(floors.insert(m, key)),
                None => foreign(ledger, key.as_str()),
            }
            return Ok(());
        }
        let parsed = layout::parse_number_object(key.name());
        let number = parsed.map(|parsed| match parsed {
            NumberObject::Header(n, _) | NumberObject::Hidden(n) | NumberObject::Tags(n, _) => n,
        });
        let (Some(parsed), Some(n)) = (parsed, number) else {
            foreign(ledger, key.as_str());
            return Ok(());
        };
        if layout::thousand(&named.id, n)? != key.folder() {
            foreign(ledger, key.as_str());
            return Ok(());
        }
        let slot = listing.slots.entry(n.0).or_default();
        match parsed {
            NumberObject::Header(_, lease) => slot.headers.push((key, lease)),
            NumberObject::Hidden(_) => {
                slot.is_hidden = true;
                small.push((parsed, n.0, key));
            }
            NumberObject::Tags(..) => small.push((parsed, n.0, key)),
        }
        Ok(())
    })
    .map_err(|e| e.context(format!("cannot list {folder}")).at(Origin::Repository))?;
    listing.floors = floors.keys().copied().collect();
    read_floors(run, floors, &mut listing, ledger)?;
    small_records(run, named, small, &mut listing, ledger)?;
    Ok(listing)
}

/// Reads all floors in order, so that the highest has the last word.
fn read_floors(
    run: &Run<'_>,
    floors: BTreeMap<u64, ObjectKey>,
    listing: &mut Listing,
    ledger: &mut Ledger,
) -> Result<()> {
    let mut damaged = Vec::new();
    for (m, key) in floors {
        let read = run.repository.store().get::<FloorRecord>(ObjectKind::Floor, &key);
        match read.and_then(|record| belongs(record.floor == m).map(|()| record)) {
            Ok(record) => {
                listing.floor = m;
                listing.remaining = record.remaining.into_iter().collect();
                for (_, key, error) in damaged.drain(..) {
                    // It was listed just now: a prune takes it away behind this one.
                    if Error::kind(&error) == ErrorKind::NotFound {
                        continue;
                    }
                    let message = "it cannot be read, and a higher floor stands in for it";
                    ledger.add(Severity::Garbage, ObjectKey::as_str(&key), message);
                }
            }
            Err(e) => damaged.push((m, key, damage_of(e)?)),
        }
    }
    for (m, key, error) in damaged {
        listing.damaged_floor = Some(m);
        ledger.damage(key.as_str(), error.full_message());
    }
    Ok(())
}

/// Reads markers and tags; of tags the highest revision counts.
fn small_records(
    run: &Run<'_>,
    named: &Named,
    small: Vec<(NumberObject, u64, ObjectKey)>,
    listing: &mut Listing,
    ledger: &mut Ledger,
) -> Result<()> {
    let store = run.repository.store();
    let mut newest: BTreeMap<u64, u64> = BTreeMap::new();
    for (parsed, n, _) in &small {
        if let NumberObject::Tags(_, revision) = parsed {
            let highest = newest.entry(*n).or_default();
            *highest = (*highest).max(*revision);
        }
    }
    for (parsed, n, key) in small {
        let read = match parsed {
            NumberObject::Tags(..) => {
                store.get::<TagsRecord>(ObjectKind::Tags, &key).map(|record| record.number)
            }
            _ => store.get::<HiddenRecord>(ObjectKind::Hidden, &key).map(|record| record.number),
        };
        let Err(error) = read.and_then(|number| belongs(number == n)) else { continue };
        let is_forgotten = listing.slots.get(&n).is_some_and(|slot| slot.is_hidden);
        if is_forgotten && error.kind() == ErrorKind::NotFound {
            // It was listed just now: a prune takes it away, as it does with the backup.
            continue;
        }
        let why = damage_of(error)?.full_message();
        match parsed {
            NumberObject::Tags(_, revision) if newest.get(&n) == Some(&revision) => {
                listing.damaged_tags.insert(n, revision);
                ledger.damage(key.as_str(), why);
                ledger.suffer(key.as_str(), [(Arc::clone(&named.label), n)], None);
            }
            NumberObject::Tags(..) => {
                let message = format!("a later revision stands in for it: {why}");
                ledger.add(Severity::Garbage, key.as_str(), message);
            }
            _ => {
                ledger.damage(key.as_str(), why);
                ledger.suffer(key.as_str(), [(Arc::clone(&named.label), n)], None);
                // A repair lets the backup show again, so what it needs is needed.
                if let Some(slot) = listing.slots.get_mut(&n) {
                    slot.is_hidden = false;
                }
            }
        }
    }
    Ok(())
}

/// Reads a dataset's headers from the store and looks whether their chains are there.
///
/// A prune puts a higher floor before it takes away headers below it, and the floor before last
/// of all. So what is missing is looked for again while the floors are not those that were listed.
pub(crate) fn view(run: &Run<'_>, named: &Named, ledger: &mut Ledger) -> Result<View> {
    let mut looks = 0;
    loop {
        let mut found = Ledger::default();
        let listing = list_numbers(run, named, &mut found)?;
        let view = view_of(run, named, &listing, &mut found)?;
        looks += 1;
        if found.damaged_objects().next().is_none()
            || looks == LOOKS_MAX
            || !planted::keeps(Rule::ChecksTwice)
            || floor::heights(run.repository.store(), &named.id)? == listing.floors
        {
            ledger.merge(found);
            if view.gaps.is_empty() {
                run.repository.remember_highest(&named.id, listing.next());
            }
            return Ok(view);
        }
    }
}

fn view_of(run: &Run<'_>, named: &Named, listing: &Listing, ledger: &mut Ledger) -> Result<View> {
    let mut view = View {
        named: named.clone(),
        headers: Headers::default(),
        damaged_headers: BTreeMap::new(),
        gaps: Vec::new(),
        damaged_tags: listing.damaged_tags.clone(),
        damaged_floor: listing.damaged_floor,
        forgotten: listing.slots.iter().filter(|(_, s)| s.is_hidden).map(|(&n, _)| n).collect(),
        floor: listing.floor,
        remaining: listing.remaining.clone(),
    };
    for (&n, slot) in &listing.slots {
        run.context.cancel.check()?;
        if listing.is_below_floor(n) {
            let message = "it stands below the floor and is void";
            let keys = slot.headers.iter().map(|(key, _)| key.as_str());
            keys.for_each(|key| ledger.add(Severity::Garbage, key, message));
            continue;
        }
        for (key, lease) in &slot.headers {
            let header = match read_header(run, key, n, *lease) {
                Ok(Some(header)) => header,
                Ok(None) => continue,
                Err(e) if slot.is_hidden => {
                    let message = format!("it was forgotten: {}", damage_of(e)?.full_message());
                    ledger.add(Severity::Garbage, key.as_str(), message);
                    continue;
                }
                Err(e) => {
                    ledger.damage(key.as_str(), damage_of(e)?.full_message());
                    ledger.suffer(key.as_str(), [view.sufferer(n)], None);
                    view.damaged_headers.insert(n, key.clone());
                    continue;
                }
            };
            if is_marked(run, *lease)? || view.headers.contains(n) {
                continue;
            }
            let kept = Kept {
                key: key.clone(),
                chain: header.chain.iter().map(|link| link.0).collect(),
                counts: header.counts,
                snapshot: header.snapshot,
                is_hidden: slot.is_hidden,
            };
            view.headers.insert(n, kept);
        }
    }
    view.gaps = note_gaps(&view, listing, ledger)?;
    check_chains(&view, ledger)?;
    Ok(view)
}

/// Class B: says whether a header is void or not shown by the marks on its lease.
fn is_marked(run: &Run<'_>, lease: Option<LeaseId>) -> Result<bool> {
    let Some(lease) = lease else { return Ok(false) };
    Ok(lease::standing(run.repository.store(), &lease)? != Standing::Stands)
}

/// Reads what stands at a number, past the cache; None for a void.
pub(crate) fn read_header(
    run: &Run<'_>,
    key: &ObjectKey,
    n: u64,
    lease: Option<LeaseId>,
) -> Result<Option<Header>> {
    let store = run.repository.store();
    let bytes = store.get_bytes(ObjectKind::Backup, key)?;
    let open = |kind| store.sealer().open(kind, key.as_str(), &bytes, RECORD_BYTES_MAX);
    if frame::peek_kind(&bytes) == Some(ObjectKind::Void) {
        let record: VoidRecord = serial::decode(&open(ObjectKind::Void)?, "a void")?;
        belongs(record.number == n)?;
        return Ok(None);
    }
    let header = backup::decode(&open(ObjectKind::Backup)?, &format!("header {key}"))?;
    let its_folder = layout::dataset(&header.dataset)?;
    let is_here = key.as_str().starts_with(&format!("{}/", its_folder.as_str()));
    belongs(is_here && header.number.0 == n && lease.is_none_or(|lease| lease == header.lease))?;
    Ok(Some(header))
}

fn note_gaps(view: &View, listing: &Listing, ledger: &mut Ledger) -> Result<Vec<(u64, u64)>> {
    let gaps = listing.gaps();
    for &(first, end) in &gaps {
        let key = layout::header(&view.named.id, BackupId(first))?;
        let numbers = match end - first {
            1 => format!("number {first} is"),
            _ => format!("numbers {first} to {} are", end - 1),
        };
        ledger.damage(key.as_str(), format!("{numbers} missing: neither backup nor void"));
        let dependent = (first..end.min(first.saturating_add(1000))).flat_map(|n| view.users_of(n));
        ledger.suffer(key.as_str(), dependent.chain([view.sufferer(first)]), None);
    }
    Ok(gaps)
}

/// Every backup of a chain must be there, with the beginning of the chain as its own.
fn check_chains(view: &View, ledger: &mut Ledger) -> Result<()> {
    for n in view.visible() {
        let kept = &view.headers[n];
        for (position, link) in kept.chain.iter().enumerate() {
            let Some(found) = view.headers.get(*link) else {
                let key = layout::header(&view.named.id, BackupId(*link))?;
                ledger.damage(key.as_str(), "it is not readable, and later backups need it");
                ledger.suffer(key.as_str(), [view.sufferer(n)], None);
                continue;
            };
            if found.chain != kept.chain[..position] {
                let error = Error::corrupt(format!("{link} is not the link it was written on"));
                ledger.damage(kept.key.as_str(), error.to_string());
                ledger.suffer(kept.key.as_str(), [view.sufferer(n)], None);
            }
        }
    }
    Ok(())
}
