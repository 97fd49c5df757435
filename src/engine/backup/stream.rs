//! What is read once, from its beginning to an end that nobody knows before.

use crate::base::error::Result;
use crate::base::limits::PIECE_BYTES;
use crate::base::path::EntryPath;
use crate::base::progress::Counter;
use crate::chunk;
use crate::chunk::Cut;
use crate::codec::compress::Compressor;
use crate::engine::Context;
use crate::engine::backup::sample::compresses;
use crate::format::entry::FileNode;
use crate::repository::Repository;
use crate::source::SourceReader;

/// Reads the next piece; a short one is the last.
///
/// # Errors
/// Those of the source, of which each ends the run; `Cancelled`.
pub(super) fn piece(
    reader: &mut dyn SourceReader,
    path: &EntryPath,
    offset: u64,
    context: &Context<'_>,
) -> Result<Vec<u8>> {
    context.cancel.check()?;
    context.progress.working_on(path);
    let mut data = vec![0; PIECE_BYTES as usize];
    let length = reader.read_at(offset, &mut data)?;
    context.progress.count(Counter::Bytes, length as u64);
    data.truncate(length);
    Ok(data)
}

/// Chooses how a stream is cut by its first piece: as before where that still fits. A longer one is
/// taken to become as large as it was, and its pieces are cut more coarsely the further it goes
/// ([`Cut::grown`]), so that the first cut is the one to keep.
///
/// # Errors
/// Those of the compressor.
pub(super) fn cut(repository: &Repository, first: &[u8], old: Option<&FileNode>) -> Result<Cut> {
    let config = repository.config();
    let came = first.len() as u64;
    let size = match old {
        Some(old) if came == PIECE_BYTES => old.size.max(came),
        _ => came,
    };
    let kept = old.and_then(|old| Cut::from_code(old.cut).ok());
    let kept = kept.filter(|cut| chunk::still_fits(cut.grown(size), size, &config.chunks));
    if let Some(cut) = kept {
        return Ok(cut);
    }
    let mut compressor = Compressor::new(config.compression)?;
    Ok(chunk::choose_cut(size, compresses(first, &mut compressor)?, &config.chunks))
}
