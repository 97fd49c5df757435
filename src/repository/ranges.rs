//! Writes sorted rows as ranges: inside the header when they are few, else as blobs, whose lists
//! are blobs again when there are very many. Also gathers blobs into blocks.

use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::hash;
use crate::base::id::BlobId;
use crate::base::id::BlockId;
use crate::base::limits::HELD_BYTES_MAX;
use crate::base::limits::INLINE_BYTES_MAX;
use crate::base::limits::METADATA_BLOCK_BYTES_TARGET;
use crate::base::path::EntryPath;
use crate::codec::compress::Compressor;
use crate::format::backup;
use crate::format::backup::BlobPlace;
use crate::format::backup::Body;
use crate::format::backup::RangeRef;
use crate::format::block::Row;
use crate::format::block::Table;
use crate::format::entry::Content;
use crate::format::entry::Run;
use crate::format::pack::EncodedBlock;
use crate::format::range;
use crate::format::range::EncodedRange;
use crate::format::range::RangeBuilder;
use crate::format::range::RangeRow;
use crate::repository::names::NamePlace;
use crate::repository::packer::PackedReport;
use crate::repository::packer::Packer;
use crate::repository::transaction::Known;
use crate::repository::transaction::Transaction;
use std::collections::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;

/// Class of blocks that hold content.
pub const CLASS_CONTENT: u8 = 0;
/// Class of blocks that hold ranges and lists.
pub const CLASS_METADATA: u8 = 1;
/// Ranges that one list blob aims to hold: lists are cut where the hash of a range's first path
/// says so, so that unchanged stretches of lists are shared as well.
const LIST_RANGES_MEAN: u64 = 128;
const LIST_RANGES_MAX: usize = 1024;
/// A list ends here too: first paths may be as long as paths can be.
const LIST_BYTES_MAX: usize = 256 * 1024;
/// What a range takes in a list beside its first path, at most.
const RANGE_REF_BYTES: usize = 96;
/// Runs of one file up to this many stay in its entry; more become lists of runs.
const RUNS_INLINE_MAX: usize = 1024;
/// Runs that one list of runs aims to hold, cut where the hash of a run's block says so.
const LIST_RUNS_MEAN: u8 = 64;
const LIST_RUNS_MAX: usize = 1024;

/// A block being filled with new blobs.
pub struct BlockBuilder {
    number: Option<u32>,
    class: u8,
    rows: Vec<Row>,
    /// Plaintext of the blobs, and room behind it that is not cleared between blocks.
    buffer: Vec<u8>,
    /// How much of the buffer is plaintext.
    filled: usize,
}

impl BlockBuilder {
    /// Makes an empty one.
    pub fn new(class: u8) -> Self {
        BlockBuilder { number: None, class, rows: Vec::new(), buffer: Vec::new(), filled: 0 }
    }

    /// Returns where the next blob will be.
    ///
    /// # Errors
    /// Those of [`Transaction::new_block`].
    pub fn next_place(&mut self, transaction: &Transaction) -> Result<NamePlace> {
        let number = match self.number {
            Some(number) => number,
            None => *self.number.insert(transaction.new_block()?),
        };
        Ok(NamePlace { number, place: self.rows.len() as u32 })
    }

    /// Returns room behind the plaintext, to read a blob into before it is taken. What is in it
    /// is of no meaning.
    pub fn room(&mut self, length: usize) -> &mut [u8] {
        let end = self.filled + length;
        if self.buffer.len() < end {
            self.buffer.resize(end, 0);
        }
        &mut self.buffer[self.filled..end]
    }

    /// Takes the first `length` bytes of the room as the next blob.
    pub fn take_blob(&mut self, blob: BlobId, length: usize) {
        self.rows.push(Row { blob, length: length as u32 });
        self.filled += length;
    }

    /// Returns how many bytes of plaintext there are.
    pub fn bytes(&self) -> usize {
        self.filled
    }

    /// Says whether there are no blobs.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Returns how many blobs there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Compresses the block, tells its id to the name index, and starts anew; None when it is
    /// empty.
    ///
    /// # Errors
    /// Those of the compressor and of the cache.
    pub fn seal(
        &mut self,
        transaction: &Transaction,
        compressor: &mut Compressor,
    ) -> Result<Option<EncodedBlock>> {
        let Some(number) = self.number.take() else { return Ok(None) };
        let table = Table::new(&std::mem::take(&mut self.rows));
        debug_assert_eq!(table.plain_bytes(), self.filled as u64, "rows cover the plaintext");
        let id = table.id();
        let mut stored = transaction.repository().spare().take();
        compressor.compress(&self.buffer[..self.filled], &mut stored)?;
        self.filled = 0;
        transaction.names().settle(number, &id)?;
        transaction.repository().remember_table(id, &Arc::new(table.clone()));
        Ok(Some(EncodedBlock { id, table, stored, class: self.class }))
    }
}

/// Stores blobs of metadata, each once; owns the packs that a backup fills.
pub struct MetadataWriter<'a> {
    transaction: &'a Transaction,
    packer: Packer,
    compressor: Compressor,
    block: BlockBuilder,
    /// Blobs of the block being filled. Others learn of them when it has an id, so that content
    /// never waits for a block of metadata.
    filling: HashMap<BlobId, NamePlace>,
}

impl<'a> MetadataWriter<'a> {
    /// Starts writing.
    ///
    /// # Errors
    /// Those of the compressor.
    pub fn new(transaction: &'a Transaction) -> Result<Self> {
        let level = transaction.repository().config().compression;
        Ok(MetadataWriter {
            transaction,
            packer: Packer::start(transaction.repository(), transaction.lease_id())?,
            compressor: Compressor::new(level)?,
            block: BlockBuilder::new(CLASS_METADATA),
            filling: HashMap::new(),
        })
    }

    /// Hands a block of content through to the packs.
    ///
    /// # Errors
    /// Those of the packer.
    pub fn add_block(&mut self, block: EncodedBlock) -> Result<()> {
        self.packer.add(block)
    }

    /// Stores a blob unless it is known.
    ///
    /// # Errors
    /// Those of the backend and the cache.
    pub fn store(&mut self, bytes: &[u8]) -> Result<Known> {
        let blob = self.transaction.repository().name_blob(bytes);
        if let Some(known) = self.transaction.look_up_metadata(&blob)? {
            return Ok(known);
        }
        let place = self.block.next_place(self.transaction)?;
        if let Some(&theirs) = self.filling.get(&blob) {
            return Ok(Known::Written(theirs));
        }
        self.filling.insert(blob, place);
        self.block.room(bytes.len()).copy_from_slice(bytes);
        self.block.take_blob(blob, bytes.len());
        if self.block.bytes() >= METADATA_BLOCK_BYTES_TARGET {
            self.seal_block()?;
        }
        Ok(Known::Written(place))
    }

    fn seal_block(&mut self) -> Result<()> {
        let Some(block) = self.block.seal(self.transaction, &mut self.compressor)? else {
            return Ok(());
        };
        for (blob, place) in self.filling.drain() {
            self.transaction.names().claim(&blob, place);
        }
        self.packer.add(block)
    }

    /// Returns the block and place of a blob that was stored, or None while its block is filled.
    fn settled(&self, known: &Known) -> Option<BlobPlace> {
        match known {
            Known::Stored(block, place) => Some(BlobPlace { block: *block, place: *place }),
            Known::Written(at) => {
                let block = self.transaction.names().block(at.number)?;
                Some(BlobPlace { block, place: at.place })
            }
        }
    }

    /// Like [`MetadataWriter::settled`], ending the block when it must.
    fn settle(&mut self, known: &Known) -> Result<BlobPlace> {
        if let Some(at) = self.settled(known) {
            return Ok(at);
        }
        self.seal_block()?;
        self.settled(known).ok_or_else(|| Error::bug("a sealed block has an id"))
    }

    /// Returns the content of a file: its runs, or lists of them when there are very many.
    ///
    /// # Errors
    /// Those of the backend and the cache.
    pub fn content(&mut self, runs: Vec<Run>) -> Result<Content> {
        if runs.len() <= RUNS_INLINE_MAX {
            return Ok(Content::Runs(runs));
        }
        let mut lists = Vec::new();
        let mut start = 0;
        for (n, run) in runs.iter().enumerate() {
            let length = n + 1 - start;
            let cut = run.block.as_bytes()[0] % LIST_RUNS_MEAN == 0 || length >= LIST_RUNS_MAX;
            if cut || n + 1 == runs.len() {
                let bytes = range::encode_run_list(&runs[start..=n])?;
                lists.push((self.store(&bytes)?, bytes.len() as u64));
                start = n + 1;
            }
        }
        let mut settled: Vec<Run> = Vec::new();
        for (known, bytes) in lists {
            let at = self.settle(&known)?;
            push_run(&mut settled, at.block, at.place, bytes);
        }
        Ok(Content::Listed(settled))
    }

    /// Ends the last block and puts what is left; all is durable then.
    ///
    /// # Errors
    /// Those of the packer.
    pub fn finish(mut self) -> Result<PackedReport> {
        self.seal_block()?;
        self.packer.finish()
    }
}

/// Adds one blob to a list of runs, going on with the last run where it can.
pub fn push_run(runs: &mut Vec<Run>, block: BlockId, place: u32, bytes: u64) {
    if let Some(last) = runs.last_mut()
        && last.block == block
        && last.first.checked_add(last.count) == Some(place)
    {
        last.count += 1;
        last.bytes += bytes;
        return;
    }
    runs.push(Run { block, first: place, count: 1, bytes });
}

struct PendingRange {
    first: EntryPath,
    rows: u32,
    range: Known,
    companion: Known,
}

/// Writes rows as ranges.
#[derive(Default)]
pub struct RangeWriter {
    builder: RangeBuilder,
    /// Ranges held back as long as all of them fit into the header.
    inline: Vec<EncodedRange>,
    inline_bytes: usize,
    spilled: bool,
    pending: VecDeque<PendingRange>,
    ready: Vec<RangeRef>,
    /// About what they take in a list.
    ready_bytes: usize,
    lists: Vec<Known>,
    rows: u64,
}

impl RangeWriter {
    /// Makes one that never puts ranges into the header: for full indexes, which are shared.
    pub fn for_full_index() -> Self {
        RangeWriter { spilled: true, ..RangeWriter::default() }
    }

    /// Adds the next row.
    ///
    /// # Errors
    /// Those of storing a range.
    pub fn push(&mut self, row: &RangeRow, metadata: &mut MetadataWriter<'_>) -> Result<()> {
        self.builder.push(row)?;
        self.rows += 1;
        if !self.builder.is_full() {
            return Ok(());
        }
        self.end_range()?;
        self.relieve(metadata)
    }

    /// Adds a row that is held in memory for now: perhaps none will be needed. Returns false when
    /// more is held than is bearable.
    ///
    /// # Errors
    /// `Bug` when rows are out of order.
    pub fn hold(&mut self, row: &RangeRow) -> Result<bool> {
        self.builder.push(row)?;
        self.rows += 1;
        if self.builder.is_full() {
            self.end_range()?;
        }
        Ok(self.inline_bytes <= HELD_BYTES_MAX)
    }

    /// Returns how many rows were added.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    fn end_range(&mut self) -> Result<()> {
        if let Some(range) = self.builder.finish()? {
            self.inline_bytes += range.range.len() + range.companion.len();
            self.inline.push(range);
        }
        Ok(())
    }

    /// Stores what is too much for the header.
    fn relieve(&mut self, metadata: &mut MetadataWriter<'_>) -> Result<()> {
        if !self.spilled && self.inline_bytes <= INLINE_BYTES_MAX {
            return Ok(());
        }
        self.spilled = true;
        self.inline_bytes = 0;
        for range in std::mem::take(&mut self.inline) {
            self.store(&range, metadata)?;
        }
        Ok(())
    }

    fn store(&mut self, range: &EncodedRange, metadata: &mut MetadataWriter<'_>) -> Result<()> {
        self.pending.push_back(PendingRange {
            first: range.first.clone(),
            rows: range.rows,
            range: metadata.store(&range.range)?,
            companion: metadata.store(&range.companion)?,
        });
        self.drain(metadata)
    }

    /// Moves ranges whose blocks have ids to the list, and ends the list where it is cut.
    fn drain(&mut self, metadata: &mut MetadataWriter<'_>) -> Result<()> {
        while let Some(next) = self.pending.front() {
            let places = metadata.settled(&next.range).zip(metadata.settled(&next.companion));
            let Some((range, companion)) = places else { return Ok(()) };
            let Some(PendingRange { first, rows, .. }) = self.pending.pop_front() else {
                return Ok(());
            };
            let cut = cuts_list_after(&first);
            self.ready_bytes += first.as_bytes().len() + RANGE_REF_BYTES;
            self.ready.push(RangeRef { first, rows, range, companion });
            let is_full = self.ready.len() >= LIST_RANGES_MAX || self.ready_bytes >= LIST_BYTES_MAX;
            if cut || is_full {
                self.end_list(metadata)?;
            }
        }
        Ok(())
    }

    fn end_list(&mut self, metadata: &mut MetadataWriter<'_>) -> Result<()> {
        self.ready_bytes = 0;
        let list = backup::encode_range_list(&std::mem::take(&mut self.ready))?;
        self.lists.push(metadata.store(&list)?);
        Ok(())
    }

    /// Ends the last range and returns where all of them are.
    ///
    /// # Errors
    /// Those of storing.
    pub fn finish(mut self, metadata: &mut MetadataWriter<'_>) -> Result<Body> {
        self.end_range()?;
        self.relieve(metadata)?;
        if !self.spilled {
            let inline = self.inline.into_iter().map(|range| (range.range, range.companion));
            return Ok(Body::Inline(inline.collect()));
        }
        metadata.seal_block()?;
        self.drain(metadata)?;
        if self.lists.is_empty() {
            return Ok(Body::Ranges(self.ready));
        }
        if !self.ready.is_empty() {
            self.end_list(metadata)?;
        }
        let lists = self.lists.iter().map(|known| metadata.settle(known));
        Ok(Body::Lists(lists.collect::<Result<_>>()?))
    }
}

fn cuts_list_after(first: &EntryPath) -> bool {
    let digest = hash::derive("icecore 2026-11-21 range list cut v1", first.as_bytes());
    let number = u64::from_le_bytes([
        digest[0], digest[1], digest[2], digest[3], digest[4], digest[5], digest[6], digest[7],
    ]);
    number.is_multiple_of(LIST_RANGES_MEAN)
}
