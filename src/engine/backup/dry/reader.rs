//! What one thread of a dry run does with an entry: opens it, cuts and names its content, and
//! finds out whether that is what the backup before has.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::id::BlobId;
use crate::base::limits::PIECE_BYTES;
use crate::base::metadata::Extent;
use crate::base::metadata::Kind;
use crate::base::path::EntryPath;
use crate::base::progress::Counter;
use crate::chunk;
use crate::chunk::Cut;
use crate::codec::compress::Compressor;
use crate::engine::backup::dry::DryRun;
use crate::engine::backup::sample::LARGE_SAMPLE_BYTES;
use crate::engine::backup::sample::compresses;
use crate::engine::backup::scan::Pieces;
use crate::engine::backup::stream;
use crate::engine::backup::tracked::to_tracked;
use crate::engine::backup::unit;
use crate::engine::content::Parts;
use crate::format::entry::EntryNode;
use crate::format::entry::FileNode;
use crate::format::entry::TrackedEntry;
use crate::repository::Repository;
use crate::source::OpenedEntry;
use crate::source::SourceReader;

/// What one thread reads with.
pub(super) struct Reader<'a> {
    dry: &'a DryRun<'a>,
    reader: Box<dyn SourceReader + Send + 'a>,
    compressor: Compressor,
    buffer: Vec<u8>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(dry: &'a DryRun<'a>) -> Result<Self> {
        Ok(Reader {
            dry,
            reader: dry.source.reader()?,
            compressor: Compressor::new(dry.repository.config().compression)?,
            buffer: Vec::new(),
        })
    }

    /// Returns the entry as a backup would store it. Where its content is that of before, its
    /// runs are, too; else it has none.
    pub(super) fn read(
        &mut self,
        path: &EntryPath,
        before: Option<&TrackedEntry>,
    ) -> Result<TrackedEntry> {
        let mut opened = self.reader.open(path)?;
        if !matches!(opened.entry.kind, Kind::File) {
            return to_tracked(opened, 0);
        }
        let is_stream = self.dry.source.is_stream();
        let (cut, is_same) = match is_stream {
            true => self.read_stream(&mut opened, before)?,
            false => self.read_file(&mut opened, before)?,
        };
        self.reader.close();
        let mut tracked = to_tracked(opened, cut.to_code())?;
        let old = before.and_then(|before| before.entry.file());
        if let (EntryNode::File(file), Some(old), true) = (&mut tracked.entry.node, old, is_same) {
            file.content = old.content.clone();
        }
        if is_stream && let Some(before) = before {
            unit::keep_time(&before.entry, &mut tracked.entry);
        }
        Ok(tracked)
    }

    /// Reads a stream to its end, as [`Reader::read_file`] reads a file.
    fn read_stream(
        &mut self,
        opened: &mut OpenedEntry,
        before: Option<&TrackedEntry>,
    ) -> Result<(Cut, bool)> {
        let (repository, context) = (self.dry.repository, self.dry.context);
        let old = before.and_then(|before| before.entry.file());
        let is_lost = before.is_some_and(|before| self.dry.lost.touches(&before.entry));
        let mut blobs = OldBlobs::of(repository, old);
        let mut first_cut = None;
        let size = &mut opened.entry.size;
        loop {
            self.buffer = stream::piece(&mut *self.reader, &opened.entry.path, *size, context)?;
            let length = self.buffer.len() as u64;
            let cut = match first_cut {
                Some(cut) => cut,
                None => *first_cut.insert(stream::cut(repository, &self.buffer, old)?),
            };
            let piece = [Extent { offset: *size, length }];
            self.name(&piece, length, cut.grown(*size), |dry, blob, length| {
                let is_as_before = blobs.is_next(&blob);
                if is_as_before && !is_lost { Ok(()) } else { dry.take(blob, length) }
            })?;
            *size += length;
            if length < PIECE_BYTES {
                return Ok((cut, blobs.ended()));
            }
        }
    }

    /// Reads a file, and says how it would be cut and whether it holds what it held.
    fn read_file(
        &mut self,
        opened: &mut OpenedEntry,
        before: Option<&TrackedEntry>,
    ) -> Result<(Cut, bool)> {
        let size = opened.entry.size;
        let parameters = &self.dry.repository.config().chunks;
        let old = before.and_then(|before| before.entry.file());
        let kept = old.and_then(|old| Cut::from_code(old.cut).ok());
        let mut cut = kept.filter(|cut| chunk::still_fits(*cut, size, parameters));
        // Lost content is stored once more where it is read, though the file is as it was.
        let is_lost = before.is_some_and(|before| self.dry.lost.touches(&before.entry));
        let mut old = OldBlobs::of(self.dry.repository, old);
        let extents = match &opened.extents {
            Some(extents) => extents.clone(),
            None if size == 0 => Vec::new(),
            None => vec![Extent { offset: 0, length: size }],
        };
        let is_large = size > PIECE_BYTES;
        if cut.is_none() && is_large {
            cut = Some(self.sample(opened)?);
        }
        for piece in Pieces::of(extents) {
            self.dry.context.cancel.check()?;
            let wanted: u64 = piece.iter().map(|extent| extent.length).sum();
            let filled = self.fill(&piece, wanted)?;
            if filled < wanted {
                if is_large || opened.extents.is_some() {
                    return Err(Error::new(ErrorKind::Io, "became shorter while it was read")
                        .at(Origin::Source));
                }
                opened.entry.size = filled;
            }
            let cut = match cut {
                Some(cut) => cut,
                None => *cut.insert(self.choose(filled, size)?),
            };
            self.name(&piece, filled, cut, |dry, blob, length| {
                let is_as_before = old.is_next(&blob);
                if is_as_before && !is_lost { Ok(()) } else { dry.take(blob, length) }
            })?;
        }
        let cut = match cut {
            Some(cut) => cut,
            None => self.choose(0, size)?,
        };
        Ok((cut, old.ended()))
    }

    /// Chooses how a file is cut by what was read of it.
    fn choose(&mut self, filled: u64, size: u64) -> Result<Cut> {
        let compresses = compresses(&self.buffer[..filled as usize], &mut self.compressor)?;
        Ok(chunk::choose_cut(size, compresses, &self.dry.repository.config().chunks))
    }

    /// Chooses how a large file is cut, by the same sample as a backup.
    fn sample(&mut self, opened: &OpenedEntry) -> Result<Cut> {
        let offset = match &opened.extents {
            None => opened.entry.size / 2,
            Some(extents) => extents.first().map_or(0, |extent| extent.offset),
        };
        self.buffer.resize(self.buffer.len().max(LARGE_SAMPLE_BYTES), 0);
        let got = self.reader.read_at(offset, &mut self.buffer[..LARGE_SAMPLE_BYTES])?;
        self.choose(got as u64, opened.entry.size)
    }

    /// Reads the extents of a piece one behind the other; returns how many bytes there were.
    fn fill(&mut self, piece: &[Extent], wanted: u64) -> Result<u64> {
        self.buffer.resize(self.buffer.len().max(wanted as usize), 0);
        let mut filled = 0;
        for extent in piece {
            let end = filled + extent.length as usize;
            filled += self.reader.read_at(extent.offset, &mut self.buffer[filled..end])?;
            if filled < end {
                break;
            }
        }
        self.dry.context.progress.count(Counter::Bytes, filled as u64);
        Ok(filled as u64)
    }

    /// Cuts each extent of the buffer on its own and names the chunks.
    fn name(
        &self,
        piece: &[Extent],
        filled: u64,
        cut: Cut,
        mut visit: impl FnMut(&DryRun<'_>, BlobId, u64) -> Result<()>,
    ) -> Result<()> {
        let repository = self.dry.repository;
        let mut done = Ok(());
        let mut start = 0;
        for extent in piece {
            let end = (start + extent.length as usize).min(filled as usize);
            let data = &self.buffer[start..end];
            chunk::cut_lengths(data, cut, repository.gear(), |range| {
                if done.is_ok() {
                    let length = range.len() as u64;
                    done = visit(self.dry, repository.name_blob(&data[range]), length);
                }
            });
            start = end;
        }
        done
    }
}

/// The chunks that a file had, asked one after the other.
struct OldBlobs {
    parts: Option<Parts>,
}

impl OldBlobs {
    fn of(repository: &Repository, old: Option<&FileNode>) -> Self {
        OldBlobs { parts: old.map(|old| Parts::of(repository, old)) }
    }

    /// Returns the next one. What cannot be read is not as it was.
    fn next(&mut self) -> Option<BlobId> {
        let parts = self.parts.as_mut()?;
        parts.find(|part| part.as_ref().map_or(true, |part| part.data.is_some()))?.ok()?.whole()
    }

    fn is_next(&mut self, blob: &BlobId) -> bool {
        let is_it = self.next().as_ref() == Some(blob);
        if !is_it {
            self.parts = None;
        }
        is_it
    }

    /// Says whether all of them have come, and nothing else.
    fn ended(mut self) -> bool {
        let has_had_all = self.parts.is_some();
        has_had_all && self.next().is_none()
    }
}
