//! Reads restored files back and compares them with the backup by the names of blobs.
//!
//! The same selection is gone through once more; which of its files were restored was noted.
//! Each file is read by one thread, some hundred at a time are shared among all.

use crate::base::error::Error;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::metadata::Metadata;
use crate::base::path::EntryPath;
use crate::base::progress::Counter;
use crate::engine::restore::compare::is_same_run;
use crate::engine::restore::compare::is_zero;
use crate::engine::restore::layout::Layout;
use crate::engine::restore::select::Selection;
use crate::engine::restore::walk::Walked;
use crate::engine::restore::window::Use;
use crate::engine::restore::work::Work;
use crate::format::entry::EntryNode;
use crate::format::entry::FileNode;
use crate::target::TargetWriter;
use std::sync::Arc;

/// Files shared among the threads at a time.
const FILES_AT_A_TIME: usize = 512;

struct Candidate {
    path: EntryPath,
    metadata: Metadata,
    file: FileNode,
}

/// One thread with its writer and its buffer.
struct Reader<'w> {
    writer: Box<dyn TargetWriter + Send + 'w>,
    scratch: Vec<u8>,
}

/// Verifies what was restored; what differs is reported.
///
/// # Errors
/// What concerns more than one entry.
pub(super) fn run(work: &Work<'_>, selection: &Selection<'_>, walked: &Walked) -> Result<()> {
    let mut candidates: Vec<Candidate> = Vec::new();
    for (position, picked) in selection.entries().enumerate() {
        let entry = picked?.entry;
        if !walked.restored.get(position as u64) {
            continue;
        }
        if let EntryNode::File(file) = entry.node {
            candidates.push(Candidate { path: entry.path, metadata: entry.metadata, file });
        }
        if candidates.len() == FILES_AT_A_TIME {
            verify_all(work, &candidates)?;
            candidates.clear();
        }
    }
    verify_all(work, &candidates)
}

fn verify_all(work: &Work<'_>, candidates: &[Candidate]) -> Result<()> {
    let start = || Ok(Reader { writer: work.target.writer()?, scratch: Vec::new() });
    work.in_parallel(candidates.len(), &start, &|reader, number| {
        let candidate = &candidates[number];
        work.context.progress.working_on(&candidate.path);
        if let Err(e) = verify_one(work, reader, candidate) {
            work.fail(&candidate.path, e.context("cannot verify"))?;
        }
        work.context.progress.count(Counter::Files, 1);
        work.count_done(candidate.file.size);
        Ok(())
    })
}

fn verify_one(work: &Work<'_>, reader: &mut Reader<'_>, candidate: &Candidate) -> Result<()> {
    let Candidate { path, metadata, file } = candidate;
    reader.writer.open_file(path)?;
    let compared =
        compare(work, &mut *reader.writer, &mut reader.scratch, file).and_then(|found| {
            let Some(what) = found else { return Ok(()) };
            let message = format!("what was written reads back otherwise: {what}");
            Err(Error::corrupt(message).at(Origin::Target))
        });
    // Opening a file that its owner may not write has changed its mode. What cannot be set of it
    // was reported when it was written.
    if metadata.mode & 0o600 == 0o600 {
        reader.writer.close_file()?;
    } else if file.hard_link.is_none() {
        let _told = reader.writer.finish_file(metadata, work.rules())?;
    } else {
        // By now it has its other names, and one that has is not finished by its handle.
        reader.writer.close_file()?;
        let there = reader.writer.stat(path)?.filter(|_| compared.is_ok());
        if there.is_some_and(|there| there.metadata.mode != metadata.mode) {
            let _told = reader.writer.set_metadata(path, metadata, work.rules())?;
        }
    }
    compared
}

/// Reads the open file, and says what of it is not as the backup has it, if anything is.
pub(super) fn compare(
    work: &Work<'_>,
    writer: &mut dyn TargetWriter,
    scratch: &mut Vec<u8>,
    file: &FileNode,
) -> Result<Option<&'static str>> {
    let layout = Layout::of(file);
    let mut offset = 0;
    let mut same = true;
    work.repository.for_each_run(file, &mut |run| {
        let mut table = work.repository.table(&run.block)?;
        let is_present = |place| table.locate(place).is_some();
        if !(run.first..run.first.saturating_add(run.count)).all(is_present) {
            // A copy that was thinned out; another one has these places.
            let block = work.repository.read_block(&run.block, &[(run.first, run.count)])?;
            table = Arc::clone(&block.table);
        }
        let (first, count, bytes) = (run.first, run.count, run.bytes);
        let one = Use { block: run.block, first, count, file: 0, offset, bytes };
        same = same && is_same_run(work.repository, writer, &layout, &one, &table, scratch)?;
        offset += run.bytes;
        Ok(())
    })?;
    if !same {
        return Ok(Some("its content"));
    }
    for hole in layout.holes() {
        if !is_zero(writer, hole, scratch)? {
            return Ok(Some("a hole"));
        }
    }
    let is_longer = writer.read_at(file.size, &mut [0])? > 0;
    let is_shorter = file.size > 0 && writer.read_at(file.size - 1, &mut [0])? == 0;
    Ok((is_longer || is_shorter).then_some("its length"))
}
