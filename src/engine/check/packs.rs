//! Reads packs, one a thread: checksum and name, footer against index, and with data every
//! block and every blob.
//!
//! A pack whose checksum is wrong is looked into in any case, so that the finding tells which of
//! its blocks can still be had.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::id::PackId;
use crate::base::limits::PACK_BYTES_MAX;
use crate::base::progress::Counter;
use crate::base::threads::at_once;
use crate::base::words::counted;
use crate::codec::crypt::Part;
use crate::codec::frame;
use crate::codec::frame::ObjectKind;
use crate::engine::check::Run;
use crate::engine::check::damage_of;
use crate::engine::check::ledger::Ledger;
use crate::engine::check::parity;
use crate::engine::check::parity::BadParity;
use crate::engine::check::parity::Healing;
use crate::engine::check::stock::BadPlaces;
use crate::engine::check::stock::Indexed;
use crate::engine::check::stock::Stock;
use crate::engine::check::stock::pack_object;
use crate::format;
use crate::format::block::Table;
use crate::format::pack;
use crate::format::pack::BlockRow;
use crate::format::pack::PACK_TAIL_BYTES;
use crate::format::pack_index::IndexedPack;
use crate::repository::index::Location;
use crate::repository::layout;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

/// A pack to read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Job {
    pub(crate) pack: PackId,
    pub(crate) size: u64,
    /// Whether to decode its blocks.
    pub(crate) data: bool,
}

/// What was found in one pack.
struct Inspected {
    pack: PackId,
    messages: Vec<String>,
    bad: Vec<(BlockRow, BadPlaces)>,
    /// Whether its footer is sound and tells otherwise than its index.
    is_misindexed: bool,
    /// Why it cannot be judged, if that is so.
    unjudged: Option<String>,
    /// Blobs that were compared with their names.
    blobs: u64,
    /// Of a damaged pack with parity: what heals it, or why nothing does.
    healing: Option<Healing>,
    /// What is wrong with its parity.
    parity: Vec<BadParity>,
}

/// Returns the packs that may have to be read, by name; those with data are chosen later.
pub(crate) fn jobs(run: &Run<'_>, stock: &Stock) -> Vec<Job> {
    if !run.options.read_packs && run.options.read_data.is_none() {
        return Vec::new();
    }
    let named = stock.indexed.keys().filter_map(|pack| Some((*pack, *stock.there.get(pack)?)));
    let mut jobs: Vec<Job> = named.map(|(pack, size)| Job { pack, size, data: false }).collect();
    jobs.sort_unstable_by_key(|job| job.pack);
    jobs
}

/// Returns those that hold a block which a snapshot touched.
pub(crate) fn needed(run: &Run<'_>, stock: &Stock, mut jobs: Vec<Job>) -> Vec<Job> {
    let mut needed = HashSet::new();
    let index = run.repository.index();
    for id in index.ids() {
        // The visit does not fail, as what it calls does not.
        let _ = index.visit(&id, &mut |location| {
            if stock.is_touched(&location.row.block) {
                needed.insert(location.pack.pack);
            }
            Ok(())
        });
    }
    jobs.retain(|job| needed.contains(&job.pack));
    jobs
}

/// Reads the packs and tells the stock what cannot be had of them.
pub(crate) fn read_all(
    run: &Run<'_>,
    stock: &mut Stock,
    jobs: &[Job],
    ledger: &mut Ledger,
) -> Result<()> {
    let next = AtomicUsize::new(0);
    let found: Mutex<Vec<Inspected>> = Mutex::default();
    let failed: Mutex<Option<Error>> = Mutex::default();
    let known = &*stock;
    let work = || {
        while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let inspected = run.context.cancel.check().and_then(|()| inspect(run, known, job));
            match inspected {
                Ok(inspected) => {
                    run.blobs.fetch_add(inspected.blobs, Ordering::Relaxed);
                    if !inspected.messages.is_empty() || !inspected.parity.is_empty() {
                        found.lock().unwrap_or_else(PoisonError::into_inner).push(inspected);
                    }
                }
                Err(e) => {
                    next.store(jobs.len(), Ordering::Relaxed);
                    failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(e);
                }
            }
        }
    };
    at_once(run.context.threads.min(jobs.len()), work);
    if let Some(error) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    for inspected in &mut found {
        let bad_parity = std::mem::take(&mut inspected.parity);
        parity::note(stock, &inspected.pack, bad_parity, ledger);
    }
    found.retain(|inspected| !inspected.messages.is_empty());
    for inspected in &found {
        let bad = inspected.bad.iter().map(|(row, places)| (row.block, places.clone()));
        stock.bad.insert(inspected.pack, bad.collect());
        if inspected.is_misindexed {
            stock.misindexed.insert(inspected.pack);
        }
        if let Some(why) = &inspected.unjudged {
            stock.unjudged.insert(inspected.pack, why.clone());
        }
        if let Some(Healing::By(how)) = inspected.healing.as_ref().filter(|_| stock.heals) {
            stock.bad.insert(inspected.pack, HashMap::new());
            stock.healed.insert(inspected.pack, how.clone());
            run.repository.read_healed(&inspected.pack, stock.parity.of(&inspected.pack));
        }
    }
    // Only now is known which copies are good.
    for inspected in found {
        note(run, stock, inspected, ledger);
    }
    Ok(())
}

fn note(run: &Run<'_>, stock: &Stock, inspected: Inspected, ledger: &mut Ledger) {
    let object = pack_object(&inspected.pack);
    let total = stock.indexed.get(&inspected.pack).map_or(0, |indexed| indexed.rows);
    let bad = inspected.bad.len();
    let mut messages = inspected.messages;
    let copied = inspected.bad.iter().filter(|(row, places)| {
        let copies = run.repository.index().find(&row.block);
        let lost = match places {
            BadPlaces::All => (0..row.places).filter(|&place| row.has_place(place)).collect(),
            BadPlaces::Some(places) => places.clone(),
        };
        lost.iter().all(|&place| copies.iter().any(|copy| stock.can_give(copy, place)))
    });
    let copied = copied.count();
    let of_all = || {
        let blocks = counted(total, "block", "blocks");
        format!("{bad} of its {blocks} {} damaged", if bad == 1 { "is" } else { "are" })
    };
    let summary = match (bad, copied) {
        (0, _) => "every block in it can still be read".to_owned(),
        (_, 0) => of_all(),
        (_, _) if bad == copied => format!("{}, but another good copy exists", of_all()),
        _ => format!("{}; of {copied} another good copy exists", of_all()),
    };
    // Before the single blocks, of which a ledger keeps only some.
    messages.insert(messages.len() - bad, summary);
    if let Some(healing) = inspected.healing {
        messages.insert(messages.len() - bad, healing.message());
    }
    let severity = stock.severity_of(&inspected.pack);
    messages.into_iter().for_each(|message| ledger.add(severity, &object, message));
}

fn inspect(run: &Run<'_>, stock: &Stock, job: &Job) -> Result<Inspected> {
    let mut inspected = Inspected::nothing(job.pack);
    let Some(told) = stock.indexed.get(&job.pack) else { return Ok(inspected) };
    let key = layout::pack(&job.pack)?;
    let mut by_ranges = false;
    let bytes = match run.repository.store().backend().get(&key, PACK_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(e) => {
            // Of a disk that fails in places some blocks can be read.
            by_ranges = e.kind() == ErrorKind::Io;
            inspected.failed(&damage_of(e)?);
            Vec::new()
        }
    };
    run.count_read(bytes.len() as u64);
    let mut rows = None;
    if inspected.messages.is_empty() {
        match compare(run, told, &job.pack, &bytes) {
            Ok((same, true)) => rows = Some(same),
            Ok((told, false)) => {
                inspected.messages.push("its footer and its index differ".to_owned());
                inspected.is_misindexed = true;
                rows = Some(told);
            }
            Err(e) => inspected.failed(&e),
        }
    }
    let is_damaged = !inspected.messages.is_empty();
    if job.data || is_damaged {
        for location in rows.unwrap_or_else(|| rows_of(run, &job.pack)) {
            run.context.cancel.check()?;
            let (bad, blobs) = read_block(run, &location, (!by_ranges).then_some(&bytes));
            inspected.blobs += if job.data { blobs } else { 0 };
            if let Some((places, why)) = bad {
                let message = format!("block {}: {why}", location.row.block.short());
                inspected.messages.push(message);
                inspected.bad.push((location.row, places));
            }
        }
    }
    let objects = stock.parity.of(&job.pack);
    if format::parity::is_pack(&job.pack, &bytes) {
        inspected.parity = parity::inspect(run, objects, job, &bytes)?;
    } else if inspected.unjudged.is_none() && (stock.heals || !stock.doomed.contains(&job.pack)) {
        inspected.healing = parity::healing(run, objects, &job.pack)?;
        if let Some(Healing::Unknown(why)) = &inspected.healing {
            inspected.unjudged = Some(why.clone());
        }
    }
    run.context.progress.count(Counter::Bytes, job.size);
    Ok(inspected)
}

impl Inspected {
    fn nothing(pack: PackId) -> Self {
        Inspected {
            pack,
            messages: Vec::new(),
            bad: Vec::new(),
            is_misindexed: false,
            unjudged: None,
            blobs: 0,
            healing: None,
            parity: Vec::new(),
        }
    }

    fn failed(&mut self, error: &Error) {
        self.messages.push(error.full_message());
        if !error.kind().is_damage() {
            self.unjudged = Some(error.full_message());
        }
    }
}

/// Returns the rows that the indexes have of a pack whose own footer is not to be trusted. Goes
/// through all of them, as they are sorted by block.
fn rows_of(run: &Run<'_>, pack: &PackId) -> Vec<Location> {
    let index = run.repository.index();
    let mut rows: Vec<Location> = index.pending_rows(pack);
    let mut known: HashSet<u32> = rows.iter().map(|location| location.row.offset).collect();
    for id in index.ids() {
        // The visit does not fail, as what it calls does not.
        let _ = index.visit(&id, &mut |location| {
            if location.pack.pack == *pack && known.insert(location.row.offset) {
                rows.push(location);
            }
            Ok(())
        });
    }
    rows.sort_unstable_by_key(|location| location.row.offset);
    rows
}

/// Compares a whole pack with its name, its own checksum and the index. Returns the rows of its
/// footer, and whether the index has the same.
fn compare(
    run: &Run<'_>,
    told: &Indexed,
    id: &PackId,
    bytes: &[u8],
) -> Result<(Vec<Location>, bool)> {
    frame::open(ObjectKind::Pack, bytes, &id.short())?;
    let (pack, footer) = open_pack(run, id, bytes)?;
    let mut is_same = told.rows == footer.len() as u64 && told.salt == pack.salt;
    let mut rows = Vec::with_capacity(footer.len());
    for row in footer {
        let mut copies = run.repository.index().find(&row.block).into_iter();
        is_same &= copies.any(|copy| copy.pack.pack == *id && copy.row == row);
        rows.push(Location { pack, row });
    }
    Ok((rows, is_same))
}

/// Reads the head and the footer of a pack that is in memory.
fn open_pack(run: &Run<'_>, id: &PackId, bytes: &[u8]) -> Result<(IndexedPack, Vec<BlockRow>)> {
    let size = bytes.len() as u64;
    let keys = run.repository.store().sealer().keys();
    let cipher = pack::open_head(id, bytes, &run.repository.id(), keys)?;
    let tail = bytes.get(bytes.len().saturating_sub(PACK_TAIL_BYTES)..).unwrap_or(&[]);
    // This compares the name with the checksum as well.
    let at = pack::footer_range(id, size, tail)?;
    let mut footer = bytes[at.start as usize..at.end as usize].to_vec();
    let rows = pack::decode_footer(id, &cipher, &mut footer, at.start)?;
    let salt = bytes.get(frame::HEAD_BYTES..frame::HEAD_BYTES + 32);
    let salt = salt.and_then(|salt| salt.try_into().ok());
    let salt = salt.ok_or_else(|| Error::corrupt("the pack is too short"))?;
    Ok((IndexedPack { pack: *id, size, salt }, rows))
}

/// What is wrong with a block, and how many of its blobs were compared.
type Read = (Option<(BadPlaces, String)>, u64);

/// Reads a block out of the bytes of its pack, or by asking for its stretch.
fn read_block(run: &Run<'_>, location: &Location, bytes: Option<&Vec<u8>>) -> Read {
    let decoded = match bytes {
        Some(bytes) => decode(run, location, bytes),
        None => run.repository.read_copy(location),
    };
    let block = match decoded {
        Ok(block) => block,
        Err(e) => return (Some((BadPlaces::All, e.full_message())), 0),
    };
    let mut bad = BTreeSet::new();
    let mut why = String::new();
    let mut blobs = 0;
    for (place, _) in block.table.present() {
        blobs += 1;
        if let Err(e) = block.blob(run.repository, place) {
            why = e.full_message();
            bad.insert(place);
        }
    }
    if bad.is_empty() { (None, blobs) } else { (Some((BadPlaces::Some(bad), why)), blobs) }
}

fn decode(
    run: &Run<'_>,
    location: &Location,
    bytes: &[u8],
) -> Result<crate::repository::blocks::Block> {
    let row = &location.row;
    let part = |offset: u32, length: u32| {
        let end = (offset as usize).checked_add(length as usize);
        let part = end.and_then(|end| bytes.get(offset as usize..end));
        part.map(<[u8]>::to_vec).ok_or_else(|| Error::corrupt("the pack ends before it does"))
    };
    let cipher = run.repository.pack_cipher(location)?;
    let mut sealed = part(row.table_offset, row.table_length)?;
    let table = Table::decode(cipher.open(Part::Table, row.number, &mut sealed)?, &row.block)?;
    if table.presence_bits() != row.present || table.places() != row.places {
        return Err(Error::corrupt("its table and its index tell of other places"));
    }
    let mut sealed = part(row.offset, row.length)?;
    run.repository.decode_copy(location, Arc::new(table), &mut sealed, Vec::new())
}
