//! Snapshots saved in the cache: the state of a dataset at its newest backup, or as far as a
//! backup that died has come.
//!
//! A file is named by the dataset and holds the digest of the header it stands for, so another
//! repository's or last year's is not taken for it. Its ranges carry a checksum each; a file that
//! is damaged, cut short or of another header counts as absent. What it says of blocks is
//! believed only for the header's own; a journal's blocks must pass the protocol's step 5.
//!
//! Runs that share a cache may rename or remove each other's files, so a name proves nothing: the
//! head says what a file is, and only who wrote its entries makes a snapshot of a journal, through
//! the file that it holds open.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::hash;
use crate::base::hash::Digest;
use crate::base::id::DatasetId;
use crate::base::sys;
use crate::base::time::Timestamp;
use crate::format::entry::TrackedEntry;
use crate::format::range;
use crate::format::range::Change;
use crate::format::range::RangeBuilder;
use crate::format::range::RangeRow;
use crate::repository::cache::Cache;
use std::fs::File;
use std::io::BufReader;
use std::io::BufWriter;
use std::io::Read;
use std::io::Seek;
use std::io::Write;
use std::path::PathBuf;

/// Bytes of a head: what kind of file it is, the digest, the time.
const HEAD_BYTES: usize = 8 + 32 + 12;
/// Longest range or companion in a file; more than any range has.
const PART_BYTES_MAX: u32 = 16 * 1024 * 1024;

/// What a saved snapshot is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SavedKind {
    /// All entries of a backup.
    Snapshot,
    /// The entries that a backup has stored so far.
    Journal,
}

fn magic(kind: SavedKind) -> &'static [u8; 8] {
    match kind {
        SavedKind::Snapshot => b"icesnap2",
        SavedKind::Journal => b"icejrnl2",
    }
}

fn name(kind: SavedKind, dataset: &DatasetId) -> String {
    match kind {
        SavedKind::Snapshot => format!("snapshots/{dataset}"),
        SavedKind::Journal => format!("snapshots/{dataset}.journal"),
    }
}

/// Writes a saved snapshot, entry by entry. Failures are kept and make it void: a cache is never
/// a reason to fail.
///
/// While it is written it is a journal under the digest of the parent's header, so that what a
/// killed backup has done is found by the next one.
pub struct SavedWriter {
    path: PathBuf,
    file: Option<BufWriter<File>>,
    builder: RangeBuilder,
    entries: u64,
}

impl SavedWriter {
    /// Starts a journal for a backup that is compared with the parent of this digest.
    pub fn start(cache: &Cache, dataset: &DatasetId, parent: &Digest, started: Timestamp) -> Self {
        let path = cache.path(&name(SavedKind::Journal, dataset));
        // A reader of the journal before keeps its file; this is another one of the same name.
        let _ = std::fs::remove_file(&path);
        let file = sys::create_private(&path).and_then(|file| {
            let mut writer = BufWriter::with_capacity(1 << 16, file);
            writer.write_all(&head(SavedKind::Journal, parent, started))?;
            Ok(writer)
        });
        SavedWriter { path, file: file.ok(), builder: RangeBuilder::default(), entries: 0 }
    }

    /// Adds the next entry.
    pub fn push(&mut self, tracked: &TrackedEntry) {
        if self.file.is_none() {
            return;
        }
        // The clone is cheap beside the encoding; entries are small.
        let pushed = self.builder.push(&RangeRow::Put(Change::Present, tracked.clone()));
        self.entries += 1;
        if pushed.is_err() || (self.builder.is_full() && self.write_range().is_err()) {
            self.file = None;
        }
    }

    fn write_range(&mut self) -> Result<()> {
        let Some(range) = self.builder.finish()? else { return Ok(()) };
        let failed = |e| Error::io("cannot write the cache", e);
        let Some(file) = &mut self.file else { return Ok(()) };
        let mut hasher = hash::Hasher::new();
        for part in [&range.range, &range.companion] {
            file.write_all(&(part.len() as u32).to_le_bytes()).map_err(failed)?;
            file.write_all(part).map_err(failed)?;
            hasher.update(part);
        }
        file.write_all(&hasher.finish()[..16]).map_err(failed)
    }

    /// Ends the stream of entries.
    pub fn end(&mut self) {
        let written = self.write_range();
        let end = [&0_u32.to_le_bytes()[..], &self.entries.to_le_bytes()[..]].concat();
        if let Some(file) = &mut self.file
            && (written.is_err() || file.write_all(&end).is_err() || file.flush().is_err())
        {
            self.file = None;
        }
    }

    /// Reads back what was written, after [`SavedWriter::end`].
    ///
    /// # Errors
    /// When the cache could not be written.
    pub fn read_back(&self) -> Result<SavedReader> {
        // By the handle: somebody may have cleared the cache meanwhile.
        let file = self.file.as_ref().and_then(|writer| {
            let mut file = writer.get_ref().try_clone().ok()?;
            file.rewind().ok()?;
            Some(file)
        });
        let opened = file.and_then(|file| SavedReader::of(file, SavedKind::Journal, None));
        // It has come to its end, so nothing of it may be missing.
        let whole = opened.map(|reader| SavedReader { kind: SavedKind::Snapshot, ..reader });
        whole.ok_or_else(|| {
            Error::new(ErrorKind::Io, "cannot write the local cache, which a full index needs")
                .hint("`--cache-dir DIR` names a folder on a disk with room")
        })
    }

    /// Takes the ended file into use for a header, as checked at a time.
    pub fn finish(mut self, cache: &Cache, dataset: &DatasetId, of: &Digest, checked: Timestamp) {
        let kept = name(SavedKind::Snapshot, dataset);
        let file = self.file.take().and_then(|file| file.into_inner().ok());
        let finished = file.is_some_and(|file| {
            sys::write_all_at(&file, &head(SavedKind::Snapshot, of, checked), 0).is_ok()
                && std::fs::rename(&self.path, cache.path(&kept)).is_ok()
        });
        if !finished {
            cache.remove(&kept);
            let _ = std::fs::remove_file(&self.path);
        }
    }

    /// Leaves the journal as it is for the next backup to go on with.
    pub fn leave(mut self) {
        let _ = self.write_range();
        if let Some(file) = &mut self.file {
            let _ = file.flush();
        }
    }

    /// Removes the journal.
    pub fn discard(self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Removes the saved snapshot of a dataset: it was found to be damaged.
pub fn remove(cache: &Cache, dataset: &DatasetId) {
    cache.remove(&name(SavedKind::Snapshot, dataset));
    cache.remove(&name(SavedKind::Journal, dataset));
}

/// Says that the entries of the snapshot saved for one header were found to be those of another,
/// or of the same, at a later time.
pub fn touch(cache: &Cache, dataset: &DatasetId, before: &Digest, of: &Digest, checked: Timestamp) {
    let path = cache.path(&name(SavedKind::Snapshot, dataset));
    // By one handle: another run may put another file there in between.
    let Ok(mut file) = File::options().read(true).write(true).open(path) else { return };
    let mut bytes = [0; HEAD_BYTES];
    let is_read = file.read_exact(&mut bytes).is_ok();
    if is_read && is_head_of(&bytes, SavedKind::Snapshot, Some(before)) {
        let _ = sys::write_all_at(&file, &head(SavedKind::Snapshot, of, checked), 0);
    }
}

fn is_head_of(head: &[u8; HEAD_BYTES], kind: SavedKind, digest: Option<&Digest>) -> bool {
    head[..8] == *magic(kind) && digest.is_none_or(|digest| head[8..40] == *digest)
}

fn head(kind: SavedKind, digest: &Digest, checked: Timestamp) -> Vec<u8> {
    let mut head = magic(kind).to_vec();
    head.extend_from_slice(digest);
    head.extend_from_slice(&checked.seconds().to_le_bytes());
    head.extend_from_slice(&checked.nanos().to_le_bytes());
    head
}

/// Streams a saved snapshot.
pub struct SavedReader {
    file: BufReader<File>,
    kind: SavedKind,
    checked: Timestamp,
    rows: std::vec::IntoIter<RangeRow>,
    entries: u64,
    is_done: bool,
}

impl SavedReader {
    /// Opens the saved snapshot of a dataset; None when there is none for this header.
    pub fn open(
        cache: &Cache,
        kind: SavedKind,
        dataset: &DatasetId,
        digest: &Digest,
    ) -> Option<Self> {
        let file = File::open(cache.path(&name(kind, dataset))).ok()?;
        SavedReader::of(file, kind, Some(digest))
    }

    fn of(file: File, kind: SavedKind, digest: Option<&Digest>) -> Option<Self> {
        let mut file = BufReader::with_capacity(1 << 16, file);
        let mut bytes = [0; HEAD_BYTES];
        file.read_exact(&mut bytes).ok()?;
        if !is_head_of(&bytes, kind, digest) {
            return None;
        }
        let seconds = i64::from_le_bytes(bytes[40..48].try_into().ok()?);
        let nanos = u32::from_le_bytes(bytes[48..52].try_into().ok()?);
        let checked = Timestamp::new(seconds, nanos);
        let rows = Vec::new().into_iter();
        Some(SavedReader { file, kind, checked, rows, entries: 0, is_done: false })
    }

    /// Returns when its entries were last found to be as they are.
    pub fn checked(&self) -> Timestamp {
        self.checked
    }

    fn next_range(&mut self) -> Result<Option<Vec<RangeRow>>> {
        let broken = || Error::corrupt("a saved snapshot is damaged");
        let Some(range) = self.part()? else { return Ok(None) };
        let companion = self.part()?.ok_or_else(broken)?;
        let mut hasher = hash::Hasher::new();
        hasher.update(&range);
        hasher.update(&companion);
        let mut checksum = [0; 16];
        self.file.read_exact(&mut checksum).map_err(|e| broken().caused_by(e))?;
        if hasher.finish()[..16] != checksum {
            return Err(broken());
        }
        range::decode(&range, Some(&companion)).map(Some)
    }

    /// Reads one length and so many bytes; None at the end.
    fn part(&mut self) -> Result<Option<Vec<u8>>> {
        let broken = |e| Error::corrupt("a saved snapshot is cut short").caused_by(e);
        let mut length = [0; 4];
        self.file.read_exact(&mut length).map_err(broken)?;
        let length = u32::from_le_bytes(length);
        if length == 0 {
            let mut total = [0; 8];
            self.file.read_exact(&mut total).map_err(broken)?;
            let is_whole = u64::from_le_bytes(total) == self.entries;
            return if is_whole { Ok(None) } else { Err(Error::corrupt("entries are missing")) };
        }
        if length > PART_BYTES_MAX {
            return Err(Error::corrupt("a saved snapshot is damaged"));
        }
        let mut bytes = vec![0; length as usize];
        self.file.read_exact(&mut bytes).map_err(broken)?;
        Ok(Some(bytes))
    }

    fn next_entry(&mut self) -> Result<Option<TrackedEntry>> {
        loop {
            match self.rows.next() {
                Some(RangeRow::Put(_, tracked)) => {
                    self.entries += 1;
                    return Ok(Some(tracked));
                }
                Some(RangeRow::Deleted(_)) => {}
                None if self.is_done => return Ok(None),
                None => match self.next_range() {
                    Ok(Some(rows)) => self.rows = rows.into_iter(),
                    Ok(None) => self.is_done = true,
                    // A journal ends where its writer died.
                    Err(_) if self.kind == SavedKind::Journal => self.is_done = true,
                    Err(e) => return Err(e),
                },
            }
        }
    }
}

impl Iterator for SavedReader {
    type Item = Result<TrackedEntry>;
    fn next(&mut self) -> Option<Self::Item> {
        self.next_entry().transpose()
    }
}
