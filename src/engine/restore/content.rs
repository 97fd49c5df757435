//! Tells whether two files of a snapshot have the same content, however it is cut and wherever it
//! is stored.
//!
//! Blobs that begin at the same place are compared by their names, which takes the tables of their
//! blocks alone; only where the cuts differ is content read, of one blob of each at a time.

use crate::base::error::Error;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::id::BlobId;
use crate::base::id::BlockId;
use crate::format::entry::FileNode;
use crate::format::entry::Run;
use crate::repository::Repository;
use crate::repository::runs::Runs;

/// Compares two files.
///
/// # Errors
/// Those of reading the repository.
pub(super) fn is_same(repository: &Repository, one: &FileNode, other: &FileNode) -> Result<bool> {
    if one.size != other.size || one.extents() != other.extents() {
        return Ok(false);
    }
    let mut left = Blobs::new(repository, one);
    let mut right = Blobs::new(repository, other);
    while let (Some(a), Some(b)) = (left.current()?, right.current()?) {
        let count = a.left().min(b.left());
        if (a.taken, b.taken) == (0, 0) && (a.id == b.id || a.length == b.length) {
            if a.id != b.id {
                return Ok(false);
            }
        } else if a.read(repository, count)? != b.read(repository, count)? {
            return Ok(false);
        }
        a.taken += count;
        b.taken += count;
    }
    Ok(left.current()?.is_none() && right.current()?.is_none())
}

/// The blobs of a file, one after the other.
struct Blobs<'a> {
    repository: &'a Repository,
    runs: Runs,
    run: Option<Run>,
    blob: Option<Blob>,
}

/// One blob, of which some bytes were compared.
struct Blob {
    id: BlobId,
    block: BlockId,
    place: u32,
    length: usize,
    taken: usize,
    bytes: Option<Vec<u8>>,
}

impl<'a> Blobs<'a> {
    fn new(repository: &'a Repository, file: &FileNode) -> Self {
        Blobs { repository, runs: repository.runs(file), run: None, blob: None }
    }

    /// Returns the blob that has bytes which were not compared; none at the end.
    fn current(&mut self) -> Result<Option<&mut Blob>> {
        while self.blob.as_ref().is_none_or(|blob| blob.left() == 0) {
            let Some(run) = self.run.as_mut().filter(|run| run.count > 0) else {
                let Some(next) = self.runs.next().transpose()? else { return Ok(None) };
                self.run = Some(next);
                continue;
            };
            let (block, place) = (run.block, run.first);
            run.count -= 1;
            run.first = run.first.saturating_add(1);
            self.blob = Some(Blob::find(self.repository, block, place)?);
        }
        Ok(self.blob.as_mut())
    }
}

impl Blob {
    fn find(repository: &Repository, block: BlockId, place: u32) -> Result<Self> {
        let mut found = repository.table(&block)?.locate(place);
        if found.is_none() {
            // A copy that was thinned out; another one has this place.
            found = repository.read_block(&block, &[(place, 1)])?.table.locate(place);
        }
        let gone = || Error::corrupt("a block lacks a place").at(Origin::Repository);
        let found = found.ok_or_else(gone)?;
        let (id, length) = (found.blob, found.length as usize);
        Ok(Blob { id, block, place, length, taken: 0, bytes: None })
    }

    fn left(&self) -> usize {
        self.length - self.taken
    }

    /// Returns the next bytes of it.
    fn read(&mut self, repository: &Repository, count: usize) -> Result<&[u8]> {
        if self.bytes.is_none() {
            self.bytes = Some(repository.read_blob(&self.block, self.place)?);
        }
        let next = self.bytes.as_ref().and_then(|all| all.get(self.taken..self.taken + count));
        next.ok_or_else(|| Error::corrupt("a blob is too short").at(Origin::Repository))
    }
}
