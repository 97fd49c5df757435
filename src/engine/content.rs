//! The content of a file as parts in order, holes among them, and whether two contents are the
//! same: by the names of blobs as far as these tell, else by bytes.

use crate::base::cancel::Cancel;
use crate::base::error::Error;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::id::BlobId;
use crate::base::id::BlockId;
use crate::base::limits::COMPARE_BYTES;
use crate::base::metadata::Extent;
use crate::format::block::Table;
use crate::format::entry::FileNode;
use crate::format::entry::Run;
use crate::repository::Repository;
use crate::repository::blocks::Block;
use crate::repository::runs::Runs;
use crate::source::SourceReader;
use std::sync::Arc;

/// Where bytes of a blob stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlobPart {
    block: BlockId,
    place: u32,
    blob: BlobId,
    /// Which of its bytes these are, and how long it is.
    start: u32,
    length: u32,
}

/// A stretch of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// Where in the file it begins.
    pub(crate) offset: u64,
    /// How long it is; never 0.
    pub(crate) bytes: u64,
    /// What it holds; None for a hole.
    pub(crate) data: Option<BlobPart>,
}

impl Part {
    /// Returns the name of the blob that it is, if it is a whole one.
    pub(crate) fn whole(&self) -> Option<BlobId> {
        let data = self.data?;
        let is_whole = data.start == 0 && self.bytes == u64::from(data.length);
        is_whole.then_some(data.blob)
    }

    /// Takes the first bytes off.
    fn cut(mut self, bytes: u64) -> Option<Part> {
        self.offset += bytes;
        self.bytes -= bytes;
        if let Some(data) = &mut self.data {
            // No more than the blob is long.
            data.start += bytes as u32;
        }
        (self.bytes > 0).then_some(self)
    }
}

/// Goes through the parts of one file.
pub(crate) struct Parts {
    repository: Repository,
    size: u64,
    runs: Runs,
    extents: std::vec::IntoIter<Extent>,
    /// What is left of the extent begun.
    extent: Option<Extent>,
    run: Option<(Run, Arc<Table>)>,
    /// What is left of the blob begun.
    blob: Option<Part>,
    at: u64,
}

impl Parts {
    /// Stands before the first part of a file.
    pub(crate) fn of(repository: &Repository, file: &FileNode) -> Self {
        Parts {
            repository: repository.clone(),
            size: file.size,
            runs: repository.runs(file),
            extents: file.extents().into_iter(),
            extent: None,
            run: None,
            blob: None,
            at: 0,
        }
    }

    fn next_part(&mut self) -> Result<Option<Part>> {
        if self.extent.is_none() {
            self.extent = self.extents.next();
        }
        let hole_ends = self.extent.map_or(self.size, |extent| extent.offset);
        if self.at < hole_ends {
            let hole = Part { offset: self.at, bytes: hole_ends - self.at, data: None };
            self.at = hole_ends;
            return Ok(Some(hole));
        }
        let Some(extent) = self.extent else {
            // To the end of the runs, which is where they say that they do not add up.
            return self.next_blob()?.map_or(Ok(None), |_| Err(too_much()));
        };
        let Some(mut part) = self.next_blob()? else { return Err(too_little()) };
        self.blob = part.cut(part.bytes.min(extent.length));
        (part.offset, part.bytes) = (self.at, part.bytes.min(extent.length));
        self.at += part.bytes;
        let left = extent.length - part.bytes;
        self.extent = (left > 0).then_some(Extent { offset: self.at, length: left });
        Ok(Some(part))
    }

    fn next_blob(&mut self) -> Result<Option<Part>> {
        if let Some(begun) = self.blob.take() {
            return Ok(Some(begun));
        }
        let (run, table) = match self.run.take() {
            Some(run) => run,
            None => match self.runs.next().transpose()? {
                Some(run) => (run, self.table(&run)?),
                None => return Ok(None),
            },
        };
        let at = table.locate(run.first).ok_or_else(too_little)?;
        let length = u64::from(at.length);
        let (bytes, count) = (run.bytes.checked_sub(length), run.count.checked_sub(1));
        let (Some(bytes), Some(count)) = (bytes, count) else { return Err(too_much()) };
        if length == 0 || (bytes == 0) != (count == 0) {
            return Err(too_little());
        }
        let data = BlobPart {
            block: run.block,
            place: run.first,
            blob: at.blob,
            start: 0,
            length: at.length,
        };
        if count > 0 {
            self.run = Some((Run { first: run.first + 1, count, bytes, ..run }, table));
        }
        Ok(Some(Part { offset: self.at, bytes: length, data: Some(data) }))
    }

    /// Returns a table that has all places of a run.
    fn table(&self, run: &Run) -> Result<Arc<Table>> {
        let table = self.repository.table(&run.block)?;
        let end = run.first.checked_add(run.count).ok_or_else(too_much)?;
        if (run.first..end).all(|place| table.locate(place).is_some()) {
            return Ok(table);
        }
        // A copy that was thinned out; another one has these places.
        let block = self.repository.read_block(&run.block, &[(run.first, run.count)])?;
        Ok(Arc::clone(&block.table))
    }

    fn block(&self, data: &BlobPart) -> Result<Arc<Block>> {
        self.repository.read_block(&data.block, &[(data.place, 1)])
    }
}

impl Iterator for Parts {
    type Item = Result<Part>;
    fn next(&mut self) -> Option<Self::Item> {
        self.next_part().transpose()
    }
}

fn too_much() -> Error {
    Error::corrupt("a file has more data than room for it").at(Origin::Repository)
}

fn too_little() -> Error {
    Error::corrupt("a run is not as long as its entry says").at(Origin::Repository)
}

/// How far a comparison may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Content whose blobs have other names is taken for different.
    Names,
    /// Where names do not tell, as the cuts are elsewhere, bytes are compared.
    Bytes,
}

/// Says whether two files of a repository have the same content; holes read as zeros.
///
/// # Errors
/// Those of the repository; `Cancelled`.
pub(crate) fn is_same(
    repository: &Repository,
    (a, b): (&FileNode, &FileNode),
    depth: Depth,
    cancel: &Cancel,
) -> Result<bool> {
    if a.size != b.size {
        return Ok(false);
    }
    if a.extents == b.extents && a.content == b.content {
        return Ok(true);
    }
    let (mut a, mut b) = (Parts::of(repository, a), Parts::of(repository, b));
    let (mut from_a, mut from_b) = (a.next().transpose()?, b.next().transpose()?);
    while let (Some(one), Some(other)) = (from_a, from_b) {
        cancel.check()?;
        let bytes = one.bytes.min(other.bytes);
        let is_known = match (one.data, other.data) {
            (None, None) => true,
            _ => one.whole().is_some_and(|blob| other.whole() == Some(blob)),
        };
        if !is_known && (depth == Depth::Names || !has_same_bytes((&a, &one), (&b, &other), bytes)?)
        {
            return Ok(false);
        }
        from_a = match one.cut(bytes) {
            None => a.next().transpose()?,
            rest => rest,
        };
        from_b = match other.cut(bytes) {
            None => b.next().transpose()?,
            rest => rest,
        };
    }
    Ok(from_a.is_none() && from_b.is_none())
}

fn has_same_bytes(
    (a, one): (&Parts, &Part),
    (b, other): (&Parts, &Part),
    bytes: u64,
) -> Result<bool> {
    let is_zero = |bytes: &[u8]| bytes.iter().all(|&byte| byte == 0);
    let block = |parts: &Parts, data: Option<BlobPart>| {
        data.map(|data| Ok((parts.block(&data)?, data))).transpose()
    };
    let (one, other) = (block(a, one.data)?, block(b, other.data)?);
    let slice = |(block, data): &(Arc<Block>, BlobPart), parts: &Parts| {
        let blob = block.blob(&parts.repository, data.place)?;
        let start = data.start as usize;
        // Within the blob: a part never reaches beyond its end.
        blob.get(start..start + bytes as usize).map(<[u8]>::to_vec).ok_or_else(too_little)
    };
    Ok(match (&one, &other) {
        (None, None) => true,
        (Some(one), None) => is_zero(&slice(one, a)?),
        (None, Some(other)) => is_zero(&slice(other, b)?),
        (Some(one), Some(other)) => slice(one, a)? == slice(other, b)?,
    })
}

/// Says whether the open file of a source, which is as long, has the content of a file.
///
/// # Errors
/// Those of the repository and of the source; `Cancelled`.
pub(crate) fn is_in_source(
    repository: &Repository,
    file: &FileNode,
    reader: &mut dyn SourceReader,
    scratch: &mut Vec<u8>,
    cancel: &Cancel,
) -> Result<bool> {
    let mut parts = Parts::of(repository, file);
    while let Some(part) = parts.next().transpose()? {
        let mut left = Some(part);
        while let Some(part) = left {
            cancel.check()?;
            // A blob is compared whole, a hole in stretches.
            let bytes =
                if part.data.is_some() { part.bytes } else { part.bytes.min(COMPARE_BYTES) };
            scratch.resize(bytes as usize, 0);
            if (reader.read_at(part.offset, scratch)? as u64) < bytes {
                return Ok(false);
            }
            let same = match (part.whole(), part.data) {
                (Some(blob), _) => repository.name_blob(scratch) == blob,
                (None, None) => scratch.iter().all(|&byte| byte == 0),
                (None, Some(data)) => {
                    let block = parts.block(&data)?;
                    let start = data.start as usize;
                    let blob = block.blob(repository, data.place)?;
                    blob.get(start..start + bytes as usize) == Some(scratch)
                }
            };
            if !same {
                return Ok(false);
            }
            left = part.cut(bytes);
        }
    }
    Ok(true)
}
