//! What becomes of a block of the source: taken over as it is, put anew in part, or there already.

use crate::base::error::Error;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::id::BlobId;
use crate::base::id::BlockId;
use crate::base::limits::BLOCK_PLACES_MAX;
use crate::codec::compress::Compressor;
use crate::engine::backup::unit::Stretch;
use crate::engine::backup::unit::UnitResult;
use crate::engine::copy::feed;
use crate::engine::copy::fetch::Wanted;
use crate::engine::restore::fetch;
use crate::format::block::Row;
use crate::format::block::Table;
use crate::format::entry::Run;
use crate::format::pack::EncodedBlock;
use crate::repository::Repository;
use crate::repository::blocks::Block;
use crate::repository::names::NamePlace;
use crate::repository::ranges::BlockBuilder;
use crate::repository::ranges::CLASS_CONTENT;
use crate::repository::transaction::Known;
use crate::repository::transaction::Transaction;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc;

/// A block is taken over when so many hundredths of it are wanted and not there yet: then to
/// compress it again costs more than what of it goes along for nothing.
const TAKEN_PERCENT_MIN: u64 = 90;

/// What became of a block.
pub(super) enum Fate {
    /// It was taken over.
    Taken {
        /// Its local number.
        number: u32,
        /// Its id in the target.
        id: BlockId,
        /// The table of the copy that was read, when places were missing from it: those that were
        /// there have moved together.
        thin: Option<Arc<Table>>,
    },
    /// Its blobs went here and there: where each of them is, and how long it is.
    Pieces(HashMap<u32, (Known, u32)>),
}

impl Fate {
    /// Adds where a run of the block is in the target.
    ///
    /// # Errors
    /// `Bug` when it is nowhere.
    pub(super) fn place(&self, run: &Run, stretches: &mut Vec<Stretch>) -> Result<()> {
        let nowhere = || Error::bug("a run that was copied is nowhere");
        match self {
            Fate::Taken { number, thin, .. } => {
                let place = match thin {
                    None => run.first,
                    Some(table) => {
                        let before = table.present().position(|(place, _)| place == run.first);
                        before.ok_or_else(nowhere)? as u32
                    }
                };
                feed::add(stretches, Known::Written(NamePlace { number: *number, place }), run);
            }
            Fate::Pieces(pieces) => {
                for place in run.first..run.first.saturating_add(run.count) {
                    let (at, bytes) = pieces.get(&place).ok_or_else(nowhere)?;
                    feed::add_place(stretches, *at, u64::from(*bytes));
                }
            }
        }
        Ok(())
    }
}

/// A blob of a block that was read.
struct Checked {
    place: u32,
    /// Its name in the target.
    name: BlobId,
    offset: u32,
    length: u32,
    is_wanted: bool,
}

/// The blobs of a block that verify.
pub(super) struct CheckedBlock {
    blobs: Vec<Checked>,
    /// Whether all that the copy holds do.
    is_sound: bool,
}

/// What one thread has of its own.
pub(super) struct Own<'s> {
    sender: &'s mpsc::SyncSender<UnitResult>,
    builder: BlockBuilder,
    compressor: Option<Compressor>,
    new_bytes: u64,
    /// A buffer for plaintext, used again and again.
    pub(super) plain: Vec<u8>,
}

impl<'s> Own<'s> {
    /// Starts with nothing.
    pub(super) fn new(sender: &'s mpsc::SyncSender<UnitResult>) -> Self {
        let (builder, plain) = (BlockBuilder::new(CLASS_CONTENT), Vec::new());
        Own { sender, builder, compressor: None, new_bytes: 0, plain }
    }

    fn send(&self, block: EncodedBlock, new_bytes: u64) -> Result<()> {
        let outcomes = Vec::new();
        let result = UnitResult { number: 0, outcomes, blocks: vec![block], new_bytes };
        // Nobody takes it any more only when all is over, which is told elsewhere.
        self.sender.send(result).map_err(|_| Error::cancelled())
    }
}

/// Decides what becomes of blocks, and does it.
pub(super) struct Settler<'a> {
    pub(super) source: &'a Repository,
    pub(super) target: &'a Repository,
    pub(super) transaction: &'a Transaction,
    /// Whether both repositories give one blob the same name.
    pub(super) same_names: bool,
    pub(super) read_bytes: &'a AtomicU64,
}

/// Returns for each place of a table whether any run wants it.
fn wanted_places(runs: &[Run], table: &Table) -> Vec<bool> {
    let mut wanted = vec![false; table.places() as usize];
    for run in runs {
        let end = wanted.len().min(run.first.saturating_add(run.count) as usize);
        wanted[(run.first as usize).min(end)..end].fill(true);
    }
    wanted
}

impl Settler<'_> {
    fn look_up(&self, name: &BlobId) -> Result<Option<Known>> {
        self.transaction.look_up(name, &|_| true)
    }

    /// Says where the wanted blobs of a block are, if the target has all of them and their names
    /// there are those in its table: then nothing else of it need be read.
    pub(super) fn settle_by_table(&self, member: &Wanted, table: &Table) -> Result<Option<Fate>> {
        if !self.same_names {
            return Ok(None);
        }
        let mut pieces = HashMap::new();
        for run in &member.runs {
            let mut bytes = 0;
            for place in run.first..run.first.saturating_add(run.count) {
                let Some(at) = table.locate(place) else { return Ok(None) };
                let Some(known) = self.look_up(&at.blob)? else { return Ok(None) };
                pieces.insert(place, (known, at.length));
                bytes += u64::from(at.length);
            }
            if bytes != run.bytes {
                return Ok(None);
            }
        }
        Ok(Some(Fate::Pieces(pieces)))
    }

    /// Compares the blobs of a copy with their names, and names them for the target.
    ///
    /// # Errors
    /// `Corrupt` of origin source when one that is wanted does not verify.
    pub(super) fn check(&self, member: &Wanted, block: &Block) -> Result<CheckedBlock> {
        for run in &member.runs {
            fetch::stretch_of_run(block, run).map_err(|e| e.at(Origin::Source))?;
        }
        let mut checked = CheckedBlock { blobs: Vec::new(), is_sound: true };
        let wanted = wanted_places(&member.runs, &block.table);
        for (place, at) in block.table.present() {
            let is_wanted = wanted[place as usize];
            let bytes = match block.blob(self.source, place) {
                Ok(bytes) => bytes,
                Err(e) if is_wanted => return Err(e.at(Origin::Source)),
                Err(_) => {
                    checked.is_sound = false;
                    continue;
                }
            };
            let name = if self.same_names { at.blob } else { self.target.name_blob(bytes) };
            let (offset, length) = (at.offset, at.length);
            checked.blobs.push(Checked { place, name, offset, length, is_wanted });
        }
        Ok(checked)
    }

    /// Settles a block whose blobs were checked; `stored` is what it was decoded from, with its
    /// class, when it may be taken over.
    ///
    /// # Errors
    /// Those of the target.
    pub(super) fn settle(
        &self,
        checked: &CheckedBlock,
        block: &Block,
        stored: Option<(&[u8], u8)>,
        own: &mut Own<'_>,
    ) -> Result<Fate> {
        let mut pieces = HashMap::new();
        let mut missing = 0;
        for blob in checked.blobs.iter().filter(|blob| blob.is_wanted) {
            match self.look_up(&blob.name)? {
                Some(known) => drop(pieces.insert(blob.place, (known, blob.length))),
                None => missing += u64::from(blob.length),
            }
        }
        let share = block.plain.len() as u64 * TAKEN_PERCENT_MIN;
        if let Some((stored, class)) = stored
            && checked.is_sound
            && missing > 0
            && missing * 100 >= share
        {
            return self.take_over(checked, block, stored, class, own);
        }
        for blob in checked.blobs.iter().filter(|blob| blob.is_wanted) {
            if let Entry::Vacant(piece) = pieces.entry(blob.place) {
                let start = blob.offset as usize;
                let bytes = &block.plain[start..start + blob.length as usize];
                piece.insert((self.put(blob, bytes, own)?, blob.length));
            }
        }
        Ok(Fate::Pieces(pieces))
    }

    /// Takes over a block with its compressed bytes as they are.
    fn take_over(
        &self,
        checked: &CheckedBlock,
        block: &Block,
        stored: &[u8],
        class: u8,
        own: &Own<'_>,
    ) -> Result<Fate> {
        let number = self.transaction.new_block()?;
        for (place, blob) in checked.blobs.iter().enumerate() {
            // Somebody may have put one of them just now; it is in this block all the same.
            let _ = self
                .transaction
                .names()
                .claim(&blob.name, NamePlace { number, place: place as u32 });
        }
        let is_whole = block.table.is_whole();
        let rows = checked.blobs.iter().map(|blob| Row { blob: blob.name, length: blob.length });
        let table = match is_whole && self.same_names {
            true => block.table.as_ref().clone(),
            false => Table::new(&rows.collect::<Vec<_>>()),
        };
        let id = table.id();
        self.transaction.names().settle(number, &id)?;
        self.target.remember_table(id, &Arc::new(table.clone()));
        let mut kept = self.target.spare().take();
        kept.extend_from_slice(stored);
        own.send(EncodedBlock { id, table, stored: kept, class }, block.plain.len() as u64)?;
        let thin = (!is_whole).then(|| Arc::clone(&block.table));
        Ok(Fate::Taken { number, id, thin })
    }

    /// Puts a blob into the block that this thread fills.
    fn put(&self, blob: &Checked, bytes: &[u8], own: &mut Own<'_>) -> Result<Known> {
        let place = own.builder.next_place(self.transaction)?;
        if let Some(theirs) = self.transaction.names().claim(&blob.name, place) {
            return Ok(Known::Written(theirs));
        }
        own.builder.room(bytes.len()).copy_from_slice(bytes);
        own.builder.take_blob(blob.name, bytes.len());
        own.new_bytes += bytes.len() as u64;
        let is_full = own.builder.bytes() >= self.target.config().block_bytes as usize
            || own.builder.len() >= BLOCK_PLACES_MAX;
        if is_full {
            self.seal(own)?;
        }
        Ok(Known::Written(place))
    }

    /// Ends the block that this thread fills.
    ///
    /// # Errors
    /// Those of the compressor and of the target.
    pub(super) fn seal(&self, own: &mut Own<'_>) -> Result<()> {
        if own.builder.is_empty() {
            return Ok(());
        }
        let compressor = match &mut own.compressor {
            Some(compressor) => compressor,
            slot => slot.insert(Compressor::new(self.target.config().compression)?),
        };
        let new_bytes = std::mem::take(&mut own.new_bytes);
        match own.builder.seal(self.transaction, compressor)? {
            Some(block) => own.send(block, new_bytes),
            None => Ok(()),
        }
    }
}
