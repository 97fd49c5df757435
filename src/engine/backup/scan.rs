//! Source to units: compares the scan with the snapshot before, and gathers neighbouring entries
//! until one thread has enough to do.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::limits::PIECE_BYTES;
use crate::base::limits::UNIT_BYTES_TARGET;
use crate::base::limits::UNIT_ENTRIES_MAX;
use crate::base::limits::UNIT_ITEMS_MAX;
use crate::base::metadata::Extent;
use crate::base::metadata::Kind;
use crate::base::path::EntryPath;
use crate::base::progress::Warning;
use crate::chunk;
use crate::chunk::Cut;
use crate::codec::compress::Compressor;
use crate::engine::backup::attempt::Attempt;
use crate::engine::backup::old;
use crate::engine::backup::read::ends_the_run;
use crate::engine::backup::read::may_resume;
use crate::engine::backup::sample::LARGE_SAMPLE_BYTES;
use crate::engine::backup::sample::compresses;
use crate::engine::backup::stream;
use crate::engine::backup::unit::Item;
use crate::engine::backup::unit::LargeFile;
use crate::engine::backup::unit::Unit;
use crate::engine::compare::Compared;
use crate::engine::compare::Rules;
use crate::engine::compare::reason;
use crate::format::entry::TrackedEntry;
use crate::repository::saved::SavedReader;
use crate::source::OpenedEntry;
use crate::source::SourceEntry;
use crate::source::SourceReader;
use std::iter::Peekable;
use std::sync::Arc;
use std::sync::mpsc;

/// What a backup that died has left, asked in path order.
pub struct Journal {
    entries: Option<Peekable<SavedReader>>,
    rules: Rules,
}

impl Journal {
    /// Asks a journal that may be absent.
    pub fn new(reader: Option<SavedReader>, rules: Rules) -> Self {
        Journal { entries: reader.map(Iterator::peekable), rules }
    }

    /// Returns what the journal has of an entry, if the entry is as it was then.
    fn find(&mut self, now: &SourceEntry) -> Option<Box<TrackedEntry>> {
        let entries = self.entries.as_mut()?;
        while let Some(Ok(tracked)) = entries.peek() {
            if tracked.entry.path >= now.path {
                break;
            }
            entries.next();
        }
        let is_it = matches!(entries.peek(), Some(Ok(t)) if t.entry.path == now.path);
        let tracked = if is_it { entries.next()?.ok()? } else { return None };
        reason(now, &tracked, &self.rules).is_none().then(|| Box::new(tracked))
    }
}

/// Makes units and hands them to the workers, one for each permit.
pub struct Producer<'a> {
    attempt: &'a Attempt<'a>,
    journal: Journal,
    units: mpsc::Sender<Unit>,
    permits: mpsc::Receiver<()>,
    items: Vec<Item>,
    bytes: u64,
    reads: usize,
    number: u64,
    reader: Option<Box<dyn SourceReader + Send + 'a>>,
}

impl<'a> Producer<'a> {
    /// Makes a producer.
    pub fn new(
        attempt: &'a Attempt<'a>,
        journal: Journal,
        units: mpsc::Sender<Unit>,
        permits: mpsc::Receiver<()>,
    ) -> Self {
        Producer {
            attempt,
            journal,
            units,
            permits,
            items: Vec::new(),
            bytes: 0,
            reads: 0,
            number: 0,
            reader: None,
        }
    }

    /// Goes through the comparison to its end. Returns how many units it made.
    ///
    /// # Errors
    /// Those of the repository; `Cancelled`.
    pub fn run(mut self, comparison: impl Iterator<Item = Result<Compared>>) -> Result<u64> {
        for compared in comparison {
            self.take(compared?)?;
            let is_enough = self.bytes >= UNIT_BYTES_TARGET
                || self.reads >= UNIT_ENTRIES_MAX
                || self.items.len() >= UNIT_ITEMS_MAX;
            if is_enough {
                self.flush()?;
            }
        }
        // A scan that was interrupted ends early; what it did not reach is not gone.
        self.attempt.context.cancel.check()?;
        self.flush()?;
        Ok(self.number)
    }

    fn take(&mut self, compared: Compared) -> Result<()> {
        match compared {
            Compared::Same(kept) => self.items.push(Item::Keep(kept)),
            Compared::Unseen(kept) => self.items.push(Item::Unseen(kept)),
            Compared::Skipped(path, why) => {
                self.attempt.failures.warn(&Warning::note(&path, why));
            }
            Compared::Failed(path, error) => self.failed(&path, &error)?,
            Compared::Gone(gone) => {
                self.attempt.transaction()?;
                self.items.push(Item::Delete(gone));
            }
            Compared::Look(now, before, _) => {
                self.attempt.transaction()?;
                self.look(now, before)?;
            }
        }
        Ok(())
    }

    fn failed(&mut self, path: &EntryPath, error: &Error) -> Result<()> {
        if error.kind() == ErrorKind::Cancelled {
            return Err(Error::cancelled());
        }
        self.attempt.failures.warn(&Warning::failed(path, error));
        Ok(())
    }

    fn look(&mut self, now: SourceEntry, before: Option<Box<TrackedEntry>>) -> Result<()> {
        if now.kind == Kind::File && self.attempt.source.is_stream() {
            return self.stream(now, before);
        }
        let journal = self.journal.find(&now);
        if now.kind == Kind::File && now.size > PIECE_BYTES {
            return self.large(now, before, journal);
        }
        self.bytes += now.size;
        self.reads += 1;
        self.items.push(Item::Read { now, before, journal });
        Ok(())
    }

    /// Splits a large file into pieces, each a unit of its own.
    fn large(
        &mut self,
        now: SourceEntry,
        before: Option<Box<TrackedEntry>>,
        journal: Option<Box<TrackedEntry>>,
    ) -> Result<()> {
        if let Some(journal) = journal
            && may_resume(self.attempt.transaction()?, &journal)?
        {
            self.items.push(Item::Read { now, before, journal: Some(journal) });
            return Ok(());
        }
        self.flush()?;
        let path = now.path.clone();
        match self.open_large(now, before.as_deref()) {
            Ok((opened, cut)) => self.send_pieces(opened, before, cut),
            Err(e) if ends_the_run(&e) => Err(e),
            Err(e) => {
                self.failed(&path, &e)?;
                self.items.extend(before.map(Item::Unseen));
                Ok(())
            }
        }
    }

    fn open_large(
        &mut self,
        now: SourceEntry,
        before: Option<&TrackedEntry>,
    ) -> Result<(OpenedEntry, Cut)> {
        let reader = match &mut self.reader {
            Some(reader) => reader,
            slot => slot.insert(self.attempt.source.reader()?),
        };
        let opened = reader.open(&now.path)?;
        if opened.entry.kind != Kind::File {
            return Err(Error::new(ErrorKind::Io, "became something else").at(Origin::Source));
        }
        let size = opened.entry.size;
        let config = self.attempt.dataset.repository().config();
        let kept = before
            .and_then(|before| before.entry.file())
            .and_then(|file| Cut::from_code(file.cut).ok())
            .filter(|cut| chunk::still_fits(*cut, size, &config.chunks));
        if let Some(cut) = kept {
            return Ok((opened, cut));
        }
        let mut sample = vec![0; LARGE_SAMPLE_BYTES];
        let offset = match &opened.extents {
            None => size / 2,
            Some(extents) => extents.first().map_or(0, |extent| extent.offset),
        };
        let got = reader.read_at(offset, &mut sample)?;
        // The workers open it for themselves.
        reader.close();
        let mut compressor = Compressor::new(config.compression)?;
        let compresses = compresses(&sample[..got], &mut compressor)?;
        Ok((opened, chunk::choose_cut(size, compresses, &config.chunks)))
    }

    fn send_pieces(
        &mut self,
        opened: OpenedEntry,
        before: Option<Box<TrackedEntry>>,
        cut: Cut,
    ) -> Result<()> {
        let extents = match &opened.extents {
            Some(extents) => extents.clone(),
            None if opened.entry.size == 0 => Vec::new(),
            None => vec![Extent { offset: 0, length: opened.entry.size }],
        };
        let old = before.as_ref().and_then(|before| before.entry.file());
        // Runs that cannot be read give no hints: their content is stored again.
        let runs = old.and_then(|old| self.attempt.dataset.repository().runs_of(old).ok());
        let runs = runs.unwrap_or_default();
        let repository = self.attempt.dataset.repository();
        let shunned = old::shunned(repository, before.as_deref(), &opened.entry, &runs);
        let file = Arc::new(LargeFile::new(opened, before, runs, shunned, cut));
        let mut pieces = Pieces::of(extents).peekable();
        loop {
            let extents = pieces.next().unwrap_or_default();
            let is_last = pieces.peek().is_none();
            self.items.push(Item::Piece { file: Arc::clone(&file), extents, is_last });
            self.flush()?;
            if is_last {
                return Ok(());
            }
        }
    }

    /// Takes a stream piece by piece, each a unit of its own. There is no second try, so whatever
    /// fails ends the run.
    fn stream(&mut self, now: SourceEntry, before: Option<Box<TrackedEntry>>) -> Result<()> {
        let (attempt, path) = (self.attempt, &now.path);
        // Read by the attempt before this one.
        let journal = attempt.streamed.and_then(|streamed| streamed.get(path));
        if let Some(journal) = journal
            && may_resume(attempt.transaction()?, &journal)?
        {
            self.items.push(Item::Read { now, before, journal: Some(journal) });
            return Ok(());
        }
        self.flush()?;
        let repository = attempt.dataset.repository();
        let mut reader = attempt.source.reader()?;
        let opened = reader.open(path)?;
        let mut data = stream::piece(&mut *reader, path, 0, attempt.context)?;
        let old = before.as_ref().and_then(|before| before.entry.file());
        let cut = stream::cut(repository, &data, old)?;
        // Runs that cannot be read give no hints: their content is stored again.
        let runs = old.and_then(|old| repository.runs_of(old).ok()).unwrap_or_default();
        let shunned = old::shunned(repository, before.as_deref(), &opened.entry, &runs);
        let file = Arc::new(LargeFile::new(opened, before, runs, shunned, cut));
        let mut offset = 0;
        loop {
            let length = data.len() as u64;
            let is_last = length < PIECE_BYTES;
            self.items.push(Item::Streamed { file: Arc::clone(&file), offset, data, is_last });
            self.flush()?;
            if is_last {
                return Ok(());
            }
            offset += length;
            data = stream::piece(&mut *reader, path, offset, attempt.context)?;
        }
    }

    fn flush(&mut self) -> Result<()> {
        if self.items.is_empty() {
            return Ok(());
        }
        self.attempt.context.cancel.check()?;
        // Both ends hang up only when the other side has failed, which is reported there.
        let hung_up = |_| Error::cancelled();
        self.permits.recv().map_err(hung_up)?;
        let unit = Unit { number: self.number, items: std::mem::take(&mut self.items) };
        self.number += 1;
        self.bytes = 0;
        self.reads = 0;
        self.units.send(unit).map_err(|_| Error::cancelled())
    }
}

/// Splits extents at multiples of the piece size, and gathers them until a piece is full.
pub(super) struct Pieces {
    extents: std::vec::IntoIter<Extent>,
    rest: Option<Extent>,
}

impl Pieces {
    pub(super) fn of(extents: Vec<Extent>) -> Self {
        Pieces { extents: extents.into_iter(), rest: None }
    }

    fn next_extent(&mut self) -> Option<Extent> {
        let extent = self.rest.take().or_else(|| self.extents.next())?;
        let boundary = (extent.offset / PIECE_BYTES + 1) * PIECE_BYTES;
        let length = extent.length.min(boundary - extent.offset);
        if length < extent.length {
            self.rest = Some(Extent { offset: boundary, length: extent.length - length });
        }
        Some(Extent { offset: extent.offset, length })
    }
}

impl Iterator for Pieces {
    type Item = Vec<Extent>;
    fn next(&mut self) -> Option<Vec<Extent>> {
        let mut piece = Vec::new();
        let mut bytes = 0;
        while let Some(extent) = self.next_extent() {
            if bytes + extent.length > PIECE_BYTES {
                // The boundary of the next extent is the one of its piece, so it goes back whole.
                self.put_back(extent);
                break;
            }
            bytes += extent.length;
            piece.push(extent);
            if bytes == PIECE_BYTES {
                break;
            }
        }
        (!piece.is_empty()).then_some(piece)
    }
}

impl Pieces {
    fn put_back(&mut self, extent: Extent) {
        let end = extent.offset + extent.length;
        self.rest = Some(match self.rest.take() {
            Some(rest) if rest.offset == end => {
                Extent { offset: extent.offset, length: extent.length + rest.length }
            }
            _ => extent,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(offset: u64, length: u64) -> Extent {
        Extent { offset, length }
    }

    #[test]
    fn a_dense_file_is_cut_at_multiples_of_the_piece() {
        let size = PIECE_BYTES * 2 + 5;
        let pieces: Vec<_> = Pieces::of(vec![extent(0, size)]).collect();
        let expected = [
            vec![extent(0, PIECE_BYTES)],
            vec![extent(PIECE_BYTES, PIECE_BYTES)],
            vec![extent(PIECE_BYTES * 2, 5)],
        ];
        assert_eq!(pieces, expected);
    }

    #[test]
    fn every_byte_of_every_extent_is_in_one_piece() {
        let p = PIECE_BYTES;
        let extents = vec![extent(3, p), extent(p + 10, 7), extent(2 * p - 1, p), extent(9 * p, 1)];
        let pieces: Vec<_> = Pieces::of(extents.clone()).collect();
        let covered: u64 = pieces.iter().flatten().map(|extent| extent.length).sum();
        assert_eq!(covered, extents.iter().map(|extent| extent.length).sum::<u64>());
        assert!(pieces.iter().flatten().all(|e| e.offset / p == (e.offset + e.length - 1) / p));
        assert!(pieces.iter().all(|piece| piece.iter().map(|e| e.length).sum::<u64>() <= p));
        let flat: Vec<u64> = pieces.iter().flatten().map(|extent| extent.offset).collect();
        assert!(flat.is_sorted());
    }
}
