//! Everything but datasets and the inside of packs: what is listed, and whether it decodes.

use crate::backend::Listed;
use crate::backend::key::FolderKey;
use crate::backend::key::ObjectKey;
use crate::backend::list_all;
use crate::backend::size_of;
use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::id::IndexId;
use crate::base::id::KeyId;
use crate::base::id::LeaseId;
use crate::base::id::PackId;
use crate::base::id::TombstoneId;
use crate::base::limits::RECORD_BYTES_MAX;
use crate::base::words::counted;
use crate::codec::frame::ObjectKind;
use crate::engine::check::Run;
use crate::engine::check::Severity;
use crate::engine::check::damage_of;
use crate::engine::check::ledger::Ledger;
use crate::engine::check::parity;
use crate::engine::check::stock::Indexed;
use crate::engine::check::stock::Stock;
use crate::engine::check::stock::index_object;
use crate::engine::check::stock::pack_object;
use crate::format::config;
use crate::format::config::Encryption;
use crate::format::dataset::LostRecord;
use crate::format::lease::BeatRecord;
use crate::format::lease::LeaseRecord;
use crate::format::lease::MarkRecord;
use crate::format::tombstone::TombstoneRecord;
use crate::repository;
use crate::repository::layout;
use crate::repository::lease;
use crate::repository::slots::SlotState;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::HashSet;

/// How often indexes and key slots are looked at that others replace meanwhile.
const LOOKS_MAX: usize = 4;

/// Looks at all small objects, loads the indexes, and lists the packs. Returns what is in store
/// and how many rows the indexes have.
pub(crate) fn survey(run: &Run<'_>, ledger: &mut Ledger) -> Result<(Stock, u64)> {
    top(run, ledger)?;
    config_object(run, ledger)?;
    keys(run, ledger)?;
    let somebody_writes = leases(run, ledger)?;
    let (mut stock, found, blocks) = packs_and_indexes(run)?;
    lost(run, &mut stock, ledger)?;
    ledger.merge(found);
    parity::survey(&stock, ledger);
    let message = if somebody_writes {
        "no pack index names it: left by an interrupted run, or by one that is at work"
    } else {
        "no pack index names it: left by an interrupted run"
    };
    let severity = if somebody_writes { Severity::Note } else { Severity::Garbage };
    for pack in stock.unindexed() {
        ledger.add(severity, &pack_object(&pack), message);
    }
    Ok((stock, blocks))
}

/// Adds the finding for blocks that no readable index names.
pub(crate) fn report_unknown_blocks(stock: &Stock, ledger: &mut Ledger) {
    let count = stock.unknown_blocks();
    if count == 0 {
        return;
    }
    let blocks = counted(count as u64, "block", "blocks");
    let message = format!("no readable pack index names {blocks} that backups need");
    let objects = &stock.damaged_indexes;
    if objects.is_empty() {
        ledger.damage("index", format!("{message}: an object of this folder is missing"));
    }
    objects.iter().for_each(|(id, _)| ledger.damage(&index_object(id), message.clone()));
}

pub(crate) fn foreign(ledger: &mut Ledger, object: &str) {
    ledger.add(Severity::Note, object, "it is no part of a repository");
}

fn top(run: &Run<'_>, ledger: &mut Ledger) -> Result<()> {
    let backend = run.repository.store().backend();
    let listed = backend.list(&FolderKey::top(), &mut |listed| {
        match listed {
            Listed::Object(object) if object.key.as_str() == "config" => {}
            Listed::Folder(folder) if layout::FOLDERS.contains(&folder.as_str()) => {}
            Listed::Object(object) => foreign(ledger, object.key.as_str()),
            Listed::Folder(folder) => foreign(ledger, folder.as_str()),
        }
        Ok(())
    });
    listed.map_err(|e| e.context("cannot list the repository").at(Origin::Repository))
}

/// The config was sound when the repository was opened; it may have changed since.
fn config_object(run: &Run<'_>, ledger: &mut Ledger) -> Result<()> {
    let repository = run.repository;
    let key = layout::config()?;
    let read = repository.store().backend().get(&key, RECORD_BYTES_MAX).and_then(|bytes| {
        let (config, mac) = config::open(&bytes)?;
        config::verify(&config, &mac, repository.store().sealer().keys())?;
        if config == *repository.config() {
            return Ok(());
        }
        Err(Error::corrupt("it is not the one that the repository was opened with"))
    });
    note_unreadable(read, key.as_str(), ledger).map(|_| ())
}

/// Turns a failed read of one object into damage. Returns None then.
pub(crate) fn note_unreadable<T>(
    read: Result<T>,
    object: &str,
    ledger: &mut Ledger,
) -> Result<Option<T>> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(e) => {
            ledger.damage(object, damage_of(e)?.full_message());
            Ok(None)
        }
    }
}

/// Looks at passwords. Where one is put while another goes, a listing may show neither, or the one
/// that is gone when it is read: only what stays so is damage.
fn keys(run: &Run<'_>, ledger: &mut Ledger) -> Result<()> {
    let is_encrypted = run.repository.config().encryption == Encryption::Password;
    let mut found = Ledger::default();
    let mut opening = key_slots(run, is_encrypted, &mut found)?;
    for _ in 1..LOOKS_MAX {
        if opening > 0 || !is_encrypted {
            break;
        }
        found = Ledger::default();
        opening = key_slots(run, is_encrypted, &mut found)?;
    }
    ledger.merge(found);
    if opening == 0 && is_encrypted {
        let message = "no password opens the repository any more once this run ends: there is no \
                       key slot that can be read and was made with its key";
        ledger.damage("keys", message);
    }
    Ok(())
}

/// Looks at what is in the folder of passwords. Returns how many open the repository.
fn key_slots(run: &Run<'_>, is_encrypted: bool, ledger: &mut Ledger) -> Result<u64> {
    let store = run.repository.store();
    let mut opening = 0;
    for key in store.names_below(&layout::folder("keys")?)? {
        if let Some((_, by)) = layout::parse_going(key.name()).filter(|_| is_encrypted) {
            let is_right = |mark: &MarkRecord| mark.lease == by;
            if record(run, ObjectKind::Revoke, &key, is_right, ledger)?.is_some() {
                let message = "the removal of this password was begun";
                ledger.add(Severity::Note, key.as_str(), message);
            }
            continue;
        }
        let Some(id) = key.name().parse::<KeyId>().ok().filter(|_| is_encrypted) else {
            foreign(ledger, key.as_str());
            continue;
        };
        match run.repository.slot_state(&id) {
            Ok(SlotState::Ours(..)) => opening += 1,
            Ok(SlotState::Foreign(_)) => {
                let message = "it was not made with this repository's key: an init that did not \
                               come to its end left it, or somebody put it there or changed it";
                ledger.add(Severity::Garbage, key.as_str(), message);
            }
            // It was removed since it was listed.
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Ok(SlotState::Unreadable(e)) | Err(e) => {
                ledger.damage(key.as_str(), damage_of(e)?.full_message());
            }
        }
    }
    Ok(opening)
}

/// Refuses what says of itself that it belongs elsewhere.
pub(crate) fn belongs(it_does: bool) -> Result<()> {
    if it_does { Ok(()) } else { Err(Error::corrupt("it belongs elsewhere")) }
}

/// Reads a record that may go while it is being looked at; None when it went or is damaged.
fn record<T: DeserializeOwned + Serialize>(
    run: &Run<'_>,
    kind: ObjectKind,
    key: &ObjectKey,
    is_right: impl Fn(&T) -> bool,
    ledger: &mut Ledger,
) -> Result<Option<T>> {
    let read = run.repository.store().get::<T>(kind, key);
    if read.as_ref().is_err_and(|e| e.kind() == ErrorKind::NotFound) {
        return Ok(None);
    }
    let checked = read.and_then(|record| belongs(is_right(&record)).map(|()| record));
    note_unreadable(checked, key.as_str(), ledger)
}

/// Looks at leases, beats and marks. Says whether somebody may be writing.
fn leases(run: &Run<'_>, ledger: &mut Ledger) -> Result<bool> {
    let mut somebody_writes = false;
    let mut leases = HashSet::new();
    let mut others = Vec::new();
    for key in run.repository.store().names_below(&layout::folder("leases")?)? {
        let (id, suffix) = key.name().split_once('.').unwrap_or((key.name(), ""));
        let (id, suffix) = (id.parse::<LeaseId>(), suffix.to_owned());
        let id = match id {
            Ok(id) if layout::lease(&id)?.folder() == key.folder() => id,
            _ => {
                foreign(ledger, key.as_str());
                continue;
            }
        };
        if !suffix.is_empty() {
            others.push((id, suffix, key));
            continue;
        }
        leases.insert(id);
        let is_right = |record: &LeaseRecord| record.lease == id;
        let Some(record) = record(run, ObjectKind::Lease, &key, is_right, ledger)? else {
            continue;
        };
        if record.process.is_certainly_dead() {
            let process = &record.process;
            let message = format!(
                "its holder is dead: process {} on {}, {}",
                process.pid, process.host, record.purpose
            );
            ledger.add(Severity::Garbage, key.as_str(), message);
        } else {
            somebody_writes |= record.number.is_some();
        }
    }
    for (id, suffix, key) in others {
        beat_or_mark(run, &id, &suffix, &key, ledger)?;
        let is_beat = suffix.starts_with("beat-");
        let is_left = is_beat && !leases.contains(&id);
        // The lease may have been put after the listing began.
        if is_left && run.repository.store().backend().stat(&layout::lease(&id)?)?.is_none() {
            ledger.add(Severity::Garbage, key.as_str(), "its lease is gone");
        }
    }
    Ok(somebody_writes)
}

fn beat_or_mark(
    run: &Run<'_>,
    id: &LeaseId,
    suffix: &str,
    key: &ObjectKey,
    ledger: &mut Ledger,
) -> Result<()> {
    let mark = |kind, ledger: &mut Ledger| {
        let is_right = |record: &MarkRecord| record.lease == *id;
        record(run, kind, key, is_right, ledger).map(|_| ())
    };
    if let Some(number) = suffix.strip_prefix("beat-").and_then(layout::plain_number) {
        let is_right = |record: &BeatRecord| record.lease == *id && record.beat == number;
        return record(run, ObjectKind::Beat, key, is_right, ledger).map(|_| ());
    }
    match suffix {
        lease::MARK_VOID | lease::MARK_ACKNOWLEDGED => mark(ObjectKind::Verdict, ledger),
        revoke if revoke.starts_with(lease::MARK_ASKED) => mark(ObjectKind::Revoke, ledger),
        _ => {
            foreign(ledger, key.as_str());
            Ok(())
        }
    }
}

fn lost(run: &Run<'_>, stock: &mut Stock, ledger: &mut Ledger) -> Result<()> {
    for key in run.repository.store().names_below(&layout::folder("lost")?)? {
        // Its id has the same shape as a tombstone's.
        if key.name().parse::<TombstoneId>().is_err() {
            foreign(ledger, key.as_str());
            continue;
        }
        let is_right = |record: &LostRecord| record.blocks.len() == record.places.len() * 32;
        let found = record(run, ObjectKind::Lost, &key, is_right, ledger)?;
        if let Some(record) = found {
            stock.declare(key.as_str(), &record);
            let message = format!(
                "blocks of which a repair declared places lost {}: {}; the next backup stores anew \
                 what its source still has",
                record.written,
                record.places.len()
            );
            ledger.add(Severity::Note, key.as_str(), message);
        }
    }
    Ok(())
}

/// Loads the indexes, then lists packs, then tombstones: in this order a pack that an index
/// names is there, unless a tombstone that is still there names it, or the index is gone.
fn packs_and_indexes(run: &Run<'_>) -> Result<(Stock, Ledger, u64)> {
    let mut look = 0;
    loop {
        look += 1;
        run.context.cancel.check()?;
        let mut ledger = Ledger::default();
        let mut stock = Stock::default();
        // What stands in for a doomed index was put before the tombstone, so the tombstones are
        // read before the indexes for this, and again behind the packs.
        tombstones(run, &mut stock, &mut Ledger::default())?;
        let ids = load_indexes(run, &mut stock, &mut ledger)?;
        // Before the packs: each is put after its pack.
        stock.parity = repository::parity::list(run.repository.store())?;
        list_packs(run, &mut stock, &mut ledger)?;
        let doomed_indexes = std::mem::take(&mut stock.doomed_indexes);
        tombstones(run, &mut stock, &mut ledger)?;
        stock.doomed_indexes = doomed_indexes;
        let (blocks, naming_missing) = index_rows(run, &ids, &mut stock, &mut ledger);
        let mut was_replaced = false;
        for id in naming_missing {
            let there = run.repository.store().backend().stat(&layout::index(&id)?)?;
            was_replaced |= there.is_none();
        }
        if !was_replaced || look == LOOKS_MAX {
            return Ok((stock, ledger, blocks));
        }
    }
}

fn load_indexes(run: &Run<'_>, stock: &mut Stock, ledger: &mut Ledger) -> Result<Vec<IndexId>> {
    let (store, cache) = (run.repository.store(), run.repository.cache());
    let mut ids = Vec::new();
    for key in store.names_below(&layout::folder("index")?)? {
        match key.name().parse::<IndexId>() {
            Ok(id) if layout::index(&id)? == key => ids.push(id),
            _ => foreign(ledger, key.as_str()),
        }
    }
    let (bytes, damaged) = run.repository.index().load_anew(store, cache, &ids);
    run.count_read(bytes);
    for (id, error) in damaged {
        let error = damage_of(error)?;
        // One that went while it was being read was replaced.
        if error.kind() == ErrorKind::NotFound {
            continue;
        }
        if stock.doomed_indexes.contains(&id) {
            let message = format!("doomed by a repair or a prune: {}", error.full_message());
            ledger.add(Severity::Garbage, &index_object(&id), message);
            continue;
        }
        ledger.damage(&index_object(&id), error.full_message());
        stock.damaged_indexes.push((id, error.kind()));
    }
    Ok(ids)
}

fn list_packs(run: &Run<'_>, stock: &mut Stock, ledger: &mut Ledger) -> Result<()> {
    let backend = run.repository.store().backend();
    let listed = list_all(backend, &layout::folder("packs")?, &mut |object| {
        run.context.cancel.check()?;
        match object.key.name().parse::<PackId>() {
            Ok(id) if layout::pack(&id)? == object.key => {
                stock.there.extend(size_of(backend, &object)?.map(|size| (id, size)));
            }
            _ => foreign(ledger, object.key.as_str()),
        }
        Ok(())
    });
    listed.map_err(|e| e.context("cannot list the packs").at(Origin::Repository))
}

fn tombstones(run: &Run<'_>, stock: &mut Stock, ledger: &mut Ledger) -> Result<()> {
    for key in run.repository.store().names_below(&layout::folder("tombstones")?)? {
        let id = match key.name().parse::<TombstoneId>() {
            Ok(id) if layout::tombstone(&id)? == key => id,
            _ => {
                foreign(ledger, key.as_str());
                continue;
            }
        };
        let is_right = |record: &TombstoneRecord| record.tombstone == id;
        let Some(record) = record(run, ObjectKind::Tombstone, &key, is_right, ledger)? else {
            continue;
        };
        if record.process.is_certainly_dead() {
            let message =
                "left by a repair, or by a prune that died; the next prune goes on with it";
            ledger.add(Severity::Garbage, key.as_str(), message);
        }
        stock.doomed.extend(record.packs);
        stock.doomed_indexes.extend(record.indexes);
    }
    Ok(())
}

/// Goes through the rows of all indexes. Returns how many there are, and which indexes name
/// packs that are not there.
fn index_rows(
    run: &Run<'_>,
    ids: &[IndexId],
    stock: &mut Stock,
    ledger: &mut Ledger,
) -> (u64, HashSet<IndexId>) {
    let mut blocks = 0;
    let mut naming_missing = HashSet::new();
    let index = run.repository.index();
    for id in ids {
        let object = index_object(id);
        let is_doomed = stock.doomed_indexes.contains(id);
        let mut rows = std::collections::HashMap::<PackId, u64>::new();
        let mut reaches_beyond = false;
        let visited = index.visit(id, &mut |location| {
            let row = &location.row;
            let end = u64::from(row.offset) + u64::from(row.length);
            let table_end = u64::from(row.table_offset) + u64::from(row.table_length);
            reaches_beyond |= end.max(table_end) > location.pack.size;
            *rows.entry(location.pack.pack).or_default() += 1;
            Ok(())
        });
        if !is_doomed && (visited.is_err() || reaches_beyond) {
            ledger.damage(&object, "it places blocks beyond the ends of their packs");
        }
        for pack in index.packs_of(id) {
            let rows = rows.get(&pack.pack).copied().unwrap_or(0);
            blocks += rows;
            let told = Indexed { size: pack.size, salt: pack.salt, rows };
            if is_doomed {
                continue;
            }
            stock.named.insert(pack.pack);
            let known = stock.indexed.insert(pack.pack, told);
            let agrees = |other: Indexed| {
                other.size == told.size && other.salt == told.salt && other.rows == told.rows
            };
            if !known.is_none_or(agrees) {
                let message = format!("it tells otherwise of pack {} than another", pack.pack);
                ledger.damage(&object, message);
            }
            if missing_pack(stock, &pack.pack, pack.size, ledger) {
                naming_missing.insert(*id);
            }
        }
    }
    (blocks, naming_missing)
}

/// Notes a pack that is not there as the index says. Says whether it is not there at all.
fn missing_pack(stock: &Stock, pack: &PackId, size: u64, ledger: &mut Ledger) -> bool {
    match stock.there.get(pack) {
        None if stock.doomed.contains(pack) => false,
        None => {
            // A writer that was taken for dead may put its index after a prune took its packs. If
            // a backup needs the pack, the replay says who suffers, and it becomes damage.
            let message = "it is not there, and a pack index names it";
            ledger.add(Severity::Garbage, &pack_object(pack), message);
            true
        }
        Some(&there) if there != size => {
            let message = format!("it has {there} bytes, and its pack index tells {size}");
            ledger.add(stock.severity_of(pack), &pack_object(pack), message);
            false
        }
        Some(_) => false,
    }
}
