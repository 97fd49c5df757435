//! Brings files up to date in place: compares them with the backup by the names of blobs, so
//! that only blocks of which something differs are read, and writes only what differs.

use crate::base::error::Result;
use crate::base::limits::RESTORE_ZEROS_BYTES;
use crate::engine::restore::fetch;
use crate::engine::restore::layout::Layout;
use crate::engine::restore::layout::Piece;
use crate::engine::restore::window::Before;
use crate::engine::restore::window::FileJob;
use crate::engine::restore::window::How;
use crate::engine::restore::window::Use;
use crate::engine::restore::write::Worker;
use crate::format::block::Table;
use crate::repository::Repository;
use crate::repository::blocks::Block;
use crate::target::TargetWriter;
use std::sync::Arc;

impl Worker<'_, '_> {
    /// Says whether some uses of a file need no content: what is there is right, or this is a
    /// dry run.
    pub(super) fn needs_nothing(
        &mut self,
        uses: &[Use],
        table: &Result<Arc<Table>>,
    ) -> Result<bool> {
        let window = self.window;
        let file = &window.files[uses[0].file as usize];
        let How::Compare(before) = &file.how else { return Ok(false) };
        let is_dry = self.work.is_dry;
        let same = match (table, may_open(before, is_dry)) {
            (Ok(table), true) => self.open(file).and_then(|()| match self.is_open {
                true => self.is_same(file, uses, table),
                // Another thread has lost it meanwhile: nothing is wanted of it any more.
                false => Ok(true),
            }),
            _ => Ok(false),
        };
        match same {
            Ok(true) => {
                self.work.count_done(uses.iter().map(|one| one.bytes).sum());
                self.settle(file, uses.len(), Ok(()))?;
                Ok(true)
            }
            Ok(false) if is_dry => {
                file.progress().changed = true;
                self.settle(file, uses.len(), Ok(()))?;
                Ok(true)
            }
            Ok(false) => {
                let closed = self.close();
                let is_settled = closed.is_err();
                if is_settled {
                    self.settle(file, uses.len(), closed)?;
                }
                Ok(is_settled)
            }
            Err(e) => {
                self.settle(file, uses.len(), Err(e))?;
                Ok(true)
            }
        }
    }

    fn is_same(&mut self, file: &FileJob, uses: &[Use], table: &Table) -> Result<bool> {
        let repository = self.work.repository;
        if self.writer.holds_expected()? {
            return Ok(true);
        }
        for one in uses {
            let same = is_same_run(
                repository,
                &mut *self.writer,
                &file.layout,
                one,
                table,
                &mut self.scratch,
            )?;
            if !same {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Writes those blobs of a run that differ from what is there.
    pub(super) fn rewrite(&mut self, file: &FileJob, one: &Use, block: &Block) -> Result<()> {
        let mut at = fetch::stretch_of(block, one)?.start;
        let mut offset = one.offset;
        for place in one.first..one.first.saturating_add(one.count) {
            let length = block.table.locate(place).map_or(0, |found| found.length as usize);
            let blob = &block.plain[at..at + length];
            let pieces = file.layout.pieces(offset, length as u64);
            let same = read_pieces(&mut *self.writer, pieces, length, &mut self.scratch)?
                && self.scratch == blob;
            if !same {
                file.progress().changed = true;
                self.write(file, offset, blob)?;
            }
            at += length;
            offset += length as u64;
        }
        Ok(())
    }

    /// Brings size, holes and metadata up to date. A dry run only notes whether it would.
    pub(super) fn finish_compared(
        &mut self,
        file: &FileJob,
        before: &Before,
    ) -> Result<Vec<String>> {
        let is_dry = self.work.is_dry;
        let size = file.layout.size();
        let mut changed = file.progress().changed;
        if is_dry && !may_open(before, true) {
            file.progress().changed = true;
            return Ok(Vec::new());
        }
        if !self.is_open {
            self.open(file)?;
        }
        if before.size != size {
            changed = true;
            if !is_dry {
                self.writer.set_length(size)?;
            }
        }
        let holds_all = file.layout.holes().next().is_some() && self.writer.holds_expected()?;
        for hole in file.layout.holes().filter(|_| !holds_all) {
            if !is_zero(&mut *self.writer, hole, &mut self.scratch)? {
                changed = true;
                if is_dry {
                    continue;
                }
                if hole.offset + hole.length == size {
                    // Cut off and grown again: a hole is punched by whole blocks, and the last
                    // one of a file rarely is.
                    self.writer.set_length(hole.offset)?;
                    self.writer.set_length(size)?;
                } else {
                    self.writer.punch_hole(hole.offset, hole.length)?;
                }
            }
        }
        file.progress().changed = changed || before.metadata_differs;
        if is_dry {
            return self.close().map(|()| Vec::new());
        }
        // Always set: the target does not show attributes that the snapshot has not.
        self.is_open = false;
        self.writer.finish_file(&file.metadata, self.work.rules())
    }
}

/// Opening a file that its owner may not read and write changes its mode, which a dry run must
/// not do: such a file it takes for changed.
pub(super) fn may_open(before: &Before, is_dry: bool) -> bool {
    !is_dry || before.opens_as_it_is
}

/// Says whether the open file has all blobs of a run where they belong, by their names.
///
/// # Errors
/// Those of the target.
pub(super) fn is_same_run(
    repository: &Repository,
    writer: &mut dyn TargetWriter,
    layout: &Layout,
    one: &Use,
    table: &Table,
    scratch: &mut Vec<u8>,
) -> Result<bool> {
    let mut offset = one.offset;
    for place in one.first..one.first.saturating_add(one.count) {
        let Some(at) = table.locate(place) else { return Ok(false) };
        let length = at.length as usize;
        let pieces = layout.pieces(offset, length as u64);
        if !read_pieces(writer, pieces, length, scratch)?
            || repository.name_blob(scratch) != at.blob
        {
            return Ok(false);
        }
        offset += length as u64;
    }
    Ok(offset - one.offset == one.bytes)
}

/// Reads pieces of the open file, `length` bytes in all; false when the file ends before.
fn read_pieces(
    writer: &mut dyn TargetWriter,
    pieces: impl Iterator<Item = Piece>,
    length: usize,
    scratch: &mut Vec<u8>,
) -> Result<bool> {
    scratch.resize(length, 0);
    let mut filled = 0;
    for piece in pieces {
        let end = filled + piece.length as usize;
        let Some(out) = scratch.get_mut(filled..end) else { return Ok(false) };
        if writer.read_at(piece.offset, out)? < out.len() {
            return Ok(false);
        }
        filled = end;
    }
    Ok(filled == length)
}

/// Says whether a stretch of the open file reads as zeros; what lies behind its end does.
///
/// # Errors
/// Those of the target.
pub(super) fn is_zero(
    writer: &mut dyn TargetWriter,
    hole: Piece,
    scratch: &mut Vec<u8>,
) -> Result<bool> {
    let end = hole.offset + hole.length;
    let mut at = hole.offset;
    while at < end {
        let length = (end - at).min(RESTORE_ZEROS_BYTES as u64);
        scratch.resize(length as usize, 0);
        let got = writer.read_at(at, scratch)?;
        if scratch[..got].iter().any(|&byte| byte != 0) {
            return Ok(false);
        }
        if (got as u64) < length {
            break;
        }
        at += length;
    }
    Ok(true)
}
