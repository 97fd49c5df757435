//! A range: a stretch of sorted entries, the unit in which manifests and full indexes are
//! stored, each a blob.
//!
//! A full index is ranges of [`Change::Present`] rows; a manifest is ranges of the other three.
//! Ranges are cut where the hash of a path says so, so that unchanged stretches of two full
//! indexes are the same blobs. A range names the blocks its runs use once, in a list of its own.
//! What detects changes lives in a companion blob with one row for each row of the range that is
//! not a deletion; it is no part of the range, so that a new inode number makes no range differ.

use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::hash::Purpose;
use crate::base::id::BlockId;
use crate::base::limits::LINK_BYTES_MAX;
use crate::base::limits::RANGE_BYTES_MAX;
use crate::base::limits::RANGE_ENTRIES_MAX;
use crate::base::limits::RANGE_ENTRIES_MEAN;
use crate::base::limits::RANGE_ENTRIES_MIN;
use crate::base::metadata::Detection;
use crate::base::metadata::Extent;
use crate::base::metadata::Metadata;
use crate::base::metadata::Owner;
use crate::base::metadata::Xattr;
use crate::base::path::EntryPath;
use crate::base::time::Timestamp;
use crate::codec::serial;
use crate::format::entry::Content;
use crate::format::entry::Entry;
use crate::format::entry::EntryNode;
use crate::format::entry::FileNode;
use crate::format::entry::Run;
use crate::format::entry::TrackedEntry;
use crate::format::sound;
use crate::format::sound::data_bytes;
use serde::Deserialize;
use serde::Serialize;
use std::collections::HashMap;
use std::sync::Arc;

/// How a row stands to the backup before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// It is there; nothing is said of before. Rows of a full index.
    Present,
    /// It was not there before.
    Added,
    /// It was there, otherwise.
    Modified,
}

/// One row of a manifest or a full index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RangeRow {
    /// The entry is there now.
    Put(Change, TrackedEntry),
    /// The entry is gone.
    Deleted(EntryPath),
}

impl RangeRow {
    /// Returns the path it is about.
    pub fn path(&self) -> &EntryPath {
        match self {
            RangeRow::Put(_, tracked) => &tracked.entry.path,
            RangeRow::Deleted(path) => path,
        }
    }
}

/// An encoded range and its companion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedRange {
    /// Path of its first row.
    pub first: EntryPath,
    /// Number of rows.
    pub rows: u32,
    /// The range.
    pub range: Vec<u8>,
    /// Its companion.
    pub companion: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct RangeV1 {
    /// Ids of the blocks that runs name, 32 bytes each, in order of first use.
    #[serde(with = "crate::codec::serial::bytes")]
    blocks: Vec<u8>,
    owners: Vec<Owner>,
    rows: Vec<RowV1>,
}

#[derive(Serialize, Deserialize)]
struct RowV1 {
    /// Bytes shared with the path of the row before, and the rest.
    shared: u32,
    #[serde(with = "crate::codec::serial::bytes")]
    suffix: Vec<u8>,
    body: BodyV1,
}

#[derive(Serialize, Deserialize)]
enum BodyV1 {
    Put {
        change: Change,
        mode: u32,
        owner: u32,
        mtime: Timestamp,
        xattrs: Vec<Xattr>,
        node: NodeV1,
    },
    Deleted,
}

#[derive(Serialize, Deserialize)]
enum NodeV1 {
    File {
        size: u64,
        cut: u8,
        hard_link: Option<u64>,
        extents: Option<Vec<Extent>>,
        content: ContentV1,
    },
    Directory,
    Symlink(Vec<u8>),
    Fifo,
    CharDevice(u32, u32),
    BlockDevice(u32, u32),
}

#[derive(Serialize, Deserialize)]
struct ContentV1 {
    listed: bool,
    runs: Vec<RunV1>,
    /// Length in bytes of every run; for content that is not listed the last one is left out,
    /// as the file's length tells it.
    bytes: Vec<u64>,
}

#[derive(Serialize, Deserialize)]
struct RunV1 {
    /// Block number against that of the run before in this range: 0 goes on in the same.
    block_step: i32,
    /// First place against where the run before ended (same block) or 0 (another).
    place_step: i32,
    count: u32,
}

#[derive(Serialize, Deserialize)]
struct CompanionV1 {
    rows: Vec<DetectionV1>,
}

#[derive(Serialize, Deserialize)]
struct DetectionV1 {
    ctime: Timestamp,
    /// Inode number against that of the row before.
    inode_step: i64,
    tag: Vec<u8>,
}

/// Gathers sorted rows and says when a range is full.
#[derive(Default)]
pub struct RangeBuilder {
    rows: Vec<RowV1>,
    detections: Vec<DetectionV1>,
    owners: Vec<Owner>,
    owner_numbers: HashMap<Arc<Owner>, u32>,
    blocks: BlockList,
    first: Option<EntryPath>,
    last: Vec<u8>,
    last_inode: u64,
    weight: usize,
    cut_here: bool,
}

/// The block list of a record, and where the run before ended.
#[derive(Default)]
struct BlockList {
    ids: Vec<u8>,
    numbers: HashMap<BlockId, u32>,
    at: RunCursor,
}

#[derive(Clone, Copy, Default)]
struct RunCursor {
    block: u32,
    place: u32,
}

impl BlockList {
    fn encode(&mut self, run: &Run) -> RunV1 {
        let next = self.numbers.len() as u32;
        let number = *self.numbers.entry(run.block).or_insert_with(|| {
            self.ids.extend_from_slice(run.block.as_bytes());
            next
        });
        let expected = if number == self.at.block { self.at.place } else { 0 };
        let step = RunV1 {
            block_step: number.wrapping_sub(self.at.block) as i32,
            place_step: run.first.wrapping_sub(expected) as i32,
            count: run.count,
        };
        self.at = RunCursor { block: number, place: run.first.wrapping_add(run.count) };
        step
    }
}

impl RunCursor {
    fn decode(&mut self, step: &RunV1, bytes: u64, blocks: &[u8]) -> Option<Run> {
        let number = self.block.wrapping_add(step.block_step as u32);
        let expected = if number == self.block { self.place } else { 0 };
        let first = expected.wrapping_add(step.place_step as u32);
        let start = (number as usize).checked_mul(32)?;
        let block = BlockId::from_slice(blocks.get(start..start.checked_add(32)?)?).ok()?;
        // What takes no room could be followed for ever.
        let end = first.checked_add(step.count).filter(|_| step.count > 0 && bytes > 0)?;
        *self = RunCursor { block: number, place: end };
        Some(Run { block, first, count: step.count, bytes })
    }
}

impl RangeBuilder {
    /// Adds the next row, which must come after the one before.
    ///
    /// # Errors
    /// `Bug` when rows are out of order, or when this one could not be read again.
    pub fn push(&mut self, row: &RangeRow) -> Result<()> {
        if let RangeRow::Put(_, tracked) = row
            && let Some(why) = sound::misfit(&tracked.entry)
        {
            return Err(Error::bug(format!("{} {why}", row.path())));
        }
        self.push_unasked(row)
    }

    /// Adds a row whether or not it could be read again, to try decoders; `Bug` when it is out of
    /// order.
    pub fn push_unasked(&mut self, row: &RangeRow) -> Result<()> {
        let path = row.path();
        let bytes = path.as_bytes();
        let in_order =
            self.rows.is_empty() || crate::base::path::compare(&self.last, bytes).is_lt();
        if !in_order {
            return Err(Error::bug(format!("entries are out of order at {path}")));
        }
        let shared = crate::base::path::common_bytes(&self.last, bytes);
        let body = match row {
            RangeRow::Deleted(_) => BodyV1::Deleted,
            RangeRow::Put(change, tracked) => self.encode_put(*change, tracked),
        };
        self.weight += 24 + bytes.len() - shared;
        self.first.get_or_insert_with(|| path.clone());
        self.rows.push(RowV1 { shared: shared as u32, suffix: bytes[shared..].to_vec(), body });
        self.last.clear();
        self.last.extend_from_slice(bytes);
        self.cut_here = cuts_after(bytes);
        Ok(())
    }

    fn encode_put(&mut self, change: Change, tracked: &TrackedEntry) -> BodyV1 {
        let TrackedEntry { entry, detection } = tracked;
        let metadata = &entry.metadata;
        let next = self.owners.len() as u32;
        let owner = *self.owner_numbers.entry(Arc::clone(&metadata.owner)).or_insert_with(|| {
            self.owners.push((*metadata.owner).clone());
            next
        });
        self.detections.push(DetectionV1 {
            ctime: detection.ctime,
            inode_step: detection.inode.wrapping_sub(self.last_inode) as i64,
            tag: detection.tag.clone(),
        });
        self.last_inode = detection.inode;
        self.weight += detection.tag.len();
        self.weight += metadata.xattrs.iter().map(|x| x.name.len() + x.value.len()).sum::<usize>();
        BodyV1::Put {
            change,
            mode: metadata.mode,
            owner,
            mtime: metadata.mtime,
            xattrs: metadata.xattrs.clone(),
            node: self.encode_node(&entry.node),
        }
    }

    fn encode_node(&mut self, node: &EntryNode) -> NodeV1 {
        match node {
            EntryNode::Directory => NodeV1::Directory,
            EntryNode::Fifo => NodeV1::Fifo,
            EntryNode::CharDevice(major, minor) => NodeV1::CharDevice(*major, *minor),
            EntryNode::BlockDevice(major, minor) => NodeV1::BlockDevice(*major, *minor),
            EntryNode::Symlink(target) => {
                self.weight += target.len();
                NodeV1::Symlink(target.clone())
            }
            EntryNode::File(file) => {
                let named = self.blocks.ids.len();
                let content = encode_content(&file.content, &mut self.blocks);
                self.weight += content.runs.len() * 8 + self.blocks.ids.len() - named;
                self.weight += file.extents.as_ref().map_or(0, Vec::len) * 8;
                NodeV1::File {
                    size: file.size,
                    cut: file.cut,
                    hard_link: file.hard_link,
                    extents: file.extents.clone(),
                    content,
                }
            }
        }
    }

    /// Says whether the range should end here.
    pub fn is_full(&self) -> bool {
        let rows = self.rows.len();
        rows >= RANGE_ENTRIES_MAX
            || self.weight >= RANGE_BYTES_MAX
            || (rows >= RANGE_ENTRIES_MIN && self.cut_here)
    }

    /// Says whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Ends the range and starts the next; None when there are no rows.
    ///
    /// # Errors
    /// `Bug` of the encoder.
    pub fn finish(&mut self) -> Result<Option<EncodedRange>> {
        let Some(first) = self.first.take() else { return Ok(None) };
        let done = std::mem::take(self);
        let rows = done.rows.len() as u32;
        let range = RangeV1 { blocks: done.blocks.ids, owners: done.owners, rows: done.rows };
        Ok(Some(EncodedRange {
            first,
            rows,
            range: serial::encode(&range)?,
            companion: serial::encode(&CompanionV1 { rows: done.detections })?,
        }))
    }
}

fn encode_content(content: &Content, blocks: &mut BlockList) -> ContentV1 {
    let runs = content.direct();
    let listed = matches!(content, Content::Listed(_));
    let told = if listed { runs.len() } else { runs.len().saturating_sub(1) };
    ContentV1 {
        listed,
        bytes: runs[..told].iter().map(|run| run.bytes).collect(),
        runs: runs.iter().map(|run| blocks.encode(run)).collect(),
    }
}

/// Says whether a range may end behind this path, by the path alone: a question for every row.
fn cuts_after(path: &[u8]) -> bool {
    static CUT: Purpose = Purpose::new("icecore 2026-11-21 range cut v1");
    CUT.number(path).is_multiple_of(RANGE_ENTRIES_MEAN - RANGE_ENTRIES_MIN as u64)
}

/// Decodes a range and its companion. Without a companion detection is left at its default.
///
/// # Errors
/// `Corrupt` when bytes do not decode, rows are out of order, or a run names no block.
pub fn decode(range: &[u8], companion: Option<&[u8]>) -> Result<Vec<RangeRow>> {
    let broken = |why: &str| Error::corrupt(format!("a range of entries makes no sense: {why}"));
    let range: RangeV1 = serial::decode(range, "a range of entries")?;
    let companion: Option<CompanionV1> =
        companion.map(|bytes| serial::decode(bytes, "a range's companion")).transpose()?;
    if range.rows.len() > RANGE_ENTRIES_MAX {
        return Err(broken("too many rows"));
    }
    let owners: Vec<Arc<Owner>> = range.owners.into_iter().map(Arc::new).collect();
    let mut decoder = RowDecoder { blocks: range.blocks, owners, cursor: RunCursor::default() };
    let mut detections = companion.map(|companion| companion.rows.into_iter());
    let mut inode = 0_u64;
    let mut path: Vec<u8> = Vec::new();
    let mut rows: Vec<RangeRow> = Vec::with_capacity(range.rows.len().min(RANGE_ENTRIES_MAX));
    for row in range.rows {
        path.truncate(row.shared as usize);
        path.extend_from_slice(&row.suffix);
        let entry_path = EntryPath::new(&path).map_err(|e| broken("a path").caused_by(e))?;
        if rows.last().is_some_and(|before: &RangeRow| *before.path() >= entry_path) {
            return Err(broken("rows are out of order"));
        }
        let mut decoded =
            decoder.decode_row(entry_path, row.body).ok_or_else(|| broken("a row"))?;
        if let (Some(detections), RangeRow::Put(_, tracked)) = (&mut detections, &mut decoded) {
            let next = detections.next().ok_or_else(|| broken("its companion is too short"))?;
            inode = inode.wrapping_add(next.inode_step as u64);
            tracked.detection = Detection { ctime: next.ctime, inode, tag: next.tag };
        }
        rows.push(decoded);
    }
    if detections.is_some_and(|mut rest| rest.next().is_some()) {
        return Err(broken("its companion is too long"));
    }
    Ok(rows)
}

struct RowDecoder {
    blocks: Vec<u8>,
    owners: Vec<Arc<Owner>>,
    cursor: RunCursor,
}

impl RowDecoder {
    fn decode_row(&mut self, path: EntryPath, body: BodyV1) -> Option<RangeRow> {
        let BodyV1::Put { change, mode, owner, mtime, xattrs, node } = body else {
            return Some(RangeRow::Deleted(path));
        };
        let owner = Arc::clone(self.owners.get(owner as usize)?);
        let metadata = Metadata { mode, owner, mtime, xattrs };
        if sound::odd_metadata(&metadata).is_some() {
            return None;
        }
        let node = self.decode_node(node)?;
        let entry = Entry { path, metadata, node };
        Some(RangeRow::Put(change, TrackedEntry { entry, detection: Detection::default() }))
    }

    fn decode_node(&mut self, node: NodeV1) -> Option<EntryNode> {
        Some(match node {
            NodeV1::Directory => EntryNode::Directory,
            NodeV1::Fifo => EntryNode::Fifo,
            NodeV1::CharDevice(major, minor) => EntryNode::CharDevice(major, minor),
            NodeV1::BlockDevice(major, minor) => EntryNode::BlockDevice(major, minor),
            NodeV1::Symlink(target) if target.len() <= LINK_BYTES_MAX => EntryNode::Symlink(target),
            NodeV1::Symlink(_) => return None,
            NodeV1::File { size, cut, hard_link, extents, content } => {
                let data = data_bytes(size, extents.as_deref())?;
                let content = self.decode_content(&content, data)?;
                EntryNode::File(FileNode { size, cut, hard_link, extents, content })
            }
        })
    }

    fn decode_content(&mut self, content: &ContentV1, data_bytes: u64) -> Option<Content> {
        let expected =
            if content.listed { content.runs.len() } else { content.runs.len().saturating_sub(1) };
        if content.bytes.len() != expected || (content.runs.is_empty() && data_bytes > 0) {
            return None;
        }
        let mut left = data_bytes;
        let mut runs = Vec::with_capacity(content.runs.len());
        for (n, step) in content.runs.iter().enumerate() {
            let bytes = match content.bytes.get(n) {
                Some(&bytes) if content.listed => bytes,
                Some(&bytes) => {
                    left = left.checked_sub(bytes)?;
                    bytes
                }
                None => left,
            };
            runs.push(self.cursor.decode(step, bytes, &self.blocks)?);
        }
        Some(if content.listed { Content::Listed(runs) } else { Content::Runs(runs) })
    }
}

#[derive(Serialize, Deserialize)]
struct RunListV1 {
    #[serde(with = "crate::codec::serial::bytes")]
    blocks: Vec<u8>,
    runs: Vec<RunV1>,
    bytes: Vec<u64>,
}

/// Encodes a list of runs as a blob of its own, for files with very many.
///
/// # Errors
/// `Bug` of the encoder.
pub fn encode_run_list(runs: &[Run]) -> Result<Vec<u8>> {
    let mut blocks = BlockList::default();
    let steps = runs.iter().map(|run| blocks.encode(run)).collect();
    let bytes = runs.iter().map(|run| run.bytes).collect();
    serial::encode(&RunListV1 { blocks: blocks.ids, runs: steps, bytes })
}

/// Decodes a list of runs.
///
/// # Errors
/// `Corrupt` when it does not decode or names no block.
pub fn decode_run_list(bytes: &[u8]) -> Result<Vec<Run>> {
    let list: RunListV1 = serial::decode(bytes, "a list of runs")?;
    let broken = || Error::corrupt("a list of runs makes no sense");
    if list.runs.len() != list.bytes.len() {
        return Err(broken());
    }
    let mut cursor = RunCursor::default();
    let decode = |(step, &bytes): (&RunV1, &u64)| cursor.decode(step, bytes, &list.blocks);
    list.runs.iter().zip(&list.bytes).map(decode).collect::<Option<_>>().ok_or_else(broken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::limits::XATTR_VALUE_BYTES_MAX;
    use crate::base::limits::XATTRS_MAX;
    use proptest::prop_assert_eq;
    use proptest::proptest;

    fn file(path: &str, runs: Vec<Run>) -> RangeRow {
        let size = runs.iter().map(|run| run.bytes).sum();
        let node = EntryNode::File(FileNode {
            size,
            cut: 13,
            hard_link: None,
            extents: None,
            content: Content::Runs(runs),
        });
        put(path, node)
    }

    fn put(path: &str, node: EntryNode) -> RangeRow {
        let path = EntryPath::new(path.as_bytes()).expect("a path");
        let detection = Detection { inode: 77, ..Detection::default() };
        let entry = Entry { path, metadata: Metadata::default(), node };
        RangeRow::Put(Change::Added, TrackedEntry { entry, detection })
    }

    fn run(block: u8, first: u32, count: u32, bytes: u64) -> Run {
        Run { block: BlockId::new([block; 32]), first, count, bytes }
    }

    fn encode_all(rows: &[RangeRow]) -> EncodedRange {
        let mut builder = RangeBuilder::default();
        rows.iter().for_each(|row| builder.push_unasked(row).expect("in order"));
        builder.finish().expect("encodes").expect("rows")
    }

    /// A row of a few bytes can share a path of many with the one before.
    #[test]
    fn more_rows_than_a_range_has_are_refused() {
        let rows = |count: usize| -> Vec<RangeRow> {
            (0..count).map(|n| file(&format!("{n:04}"), vec![])).collect()
        };
        assert!(decode(&encode_all(&rows(RANGE_ENTRIES_MAX)).range, None).is_ok());
        assert!(decode(&encode_all(&rows(RANGE_ENTRIES_MAX + 1)).range, None).is_err());
    }

    #[test]
    fn what_could_not_be_read_again_is_not_taken() {
        let refuses = |row: &RangeRow| RangeBuilder::default().push(row).is_err();
        let spoiled = |spoil: &dyn Fn(&mut Entry)| {
            let mut row = file("f", vec![run(1, 0, 3, 100)]);
            assert!(!refuses(&row));
            let RangeRow::Put(_, tracked) = &mut row else { unreachable!("it is put") };
            spoil(&mut tracked.entry);
            refuses(&row)
        };
        let with_xattrs = |count: usize, bytes: usize| {
            spoiled(&|entry| {
                let xattr =
                    |n| Xattr { name: format!("user.{n:05}").into(), value: vec![0; bytes] };
                entry.metadata.xattrs = (0..count).map(xattr).collect();
            })
        };
        assert!(!with_xattrs(XATTRS_MAX, 0) && with_xattrs(XATTRS_MAX + 1, 0));
        assert!(
            !with_xattrs(1, XATTR_VALUE_BYTES_MAX) && with_xattrs(1, XATTR_VALUE_BYTES_MAX + 1)
        );
        assert!(!with_xattrs(16, XATTR_VALUE_BYTES_MAX) && with_xattrs(17, XATTR_VALUE_BYTES_MAX));
        let one = || Xattr { name: b"user.a".to_vec(), value: vec![] };
        assert!(spoiled(&|entry| entry.metadata.xattrs = vec![one(), one()]));
        assert!(spoiled(&|entry| entry.metadata.mode = 0o10_000));
        assert!(spoiled(&|entry| entry.node = EntryNode::Symlink(vec![b'x'; LINK_BYTES_MAX + 1])));
        let with_file = |spoil: &dyn Fn(&mut FileNode)| {
            spoiled(&|entry| match &mut entry.node {
                EntryNode::File(file) => spoil(file),
                _ => unreachable!("it is a file"),
            })
        };
        assert!(with_file(&|file| file.size = 101));
        assert!(with_file(&|file| file.extents = Some(vec![Extent { offset: 1, length: 100 }])));
        assert!(with_file(&|file| file.extents = Some(vec![])));
        assert!(with_file(&|file| file.content = Content::Runs(vec![])));
        assert!(with_file(&|file| file.content = Content::Runs(vec![run(1, 0, 0, 100)])));
        assert!(!with_file(&|file| {
            file.size = 200;
            file.extents = Some(vec![Extent { offset: 1, length: 100 }]);
        }));
    }

    #[test]
    fn rows_of_every_kind_go_round() {
        let rows = [
            put("", EntryNode::Directory),
            put("a", EntryNode::Symlink(b"../x\xff".to_vec())),
            file("b", vec![run(1, 0, 3, 100), run(1, 3, 1, 7), run(2, 9, 2, 1), run(1, 5, 1, 1)]),
            put("c", EntryNode::CharDevice(1, 3)),
            RangeRow::Deleted(EntryPath::new(b"cc").expect("a path")),
            file("d", vec![]),
        ];
        let encoded = encode_all(&rows);
        let back = decode(&encoded.range, Some(&encoded.companion)).expect("decodes");
        assert_eq!(back, rows);
        assert_eq!(encoded.rows, 6);
    }

    #[test]
    fn detection_makes_no_range_differ() {
        let row = file("a", vec![]);
        let mut other = row.clone();
        if let RangeRow::Put(_, tracked) = &mut other {
            tracked.detection.inode += 1;
        }
        assert_eq!(encode_all(&[row]).range, encode_all(&[other]).range);
    }

    #[test]
    fn a_run_that_goes_on_costs_three_bytes() {
        let one = encode_all(&[file("a", vec![run(1, 0, 1, 10)])]).range.len();
        let with_path_and_metadata =
            encode_all(&[file("a", vec![run(1, 0, 1, 10)]), file("b", vec![])]).range.len() - one;
        let both =
            encode_all(&[file("a", vec![run(1, 0, 1, 10)]), file("b", vec![run(1, 1, 1, 10)])]);
        assert_eq!(both.range.len() - one - with_path_and_metadata, 3);
    }

    #[test]
    fn disorder_is_refused_on_both_ways() {
        let mut builder = RangeBuilder::default();
        builder.push(&file("b", vec![])).expect("the first");
        assert!(builder.push(&file("a", vec![])).is_err());
        assert!(builder.push(&file("b", vec![])).is_err());
    }

    #[test]
    fn cuts_come_at_the_mean_aimed_at() {
        let paths = (0..100_000).filter(|n: &u32| cuts_after(&n.to_le_bytes())).count();
        assert!((1_300..1_850).contains(&paths), "{paths} of 100000 with one in 64 expected");
    }

    proptest! {
        #[test]
        fn damaged_bytes_never_panic(at in 0_usize..400, bit in 0_u8..8) {
            let rows = [file("a", vec![run(1, 0, 3, 100), run(2, 0, 1, 5)]), file("b", vec![])];
            let mut encoded = encode_all(&rows);
            let at = at % encoded.range.len();
            encoded.range[at] ^= 1 << bit;
            let _ = decode(&encoded.range, Some(&encoded.companion));
        }

        #[test]
        fn run_lists_go_round(
            seeds in proptest::collection::vec((0_u8..9, 0_u32..999, 1_u32..9), 0..50)
        ) {
            let runs: Vec<Run> =
                seeds.iter().map(|&(b, first, count)| run(b, first, count, 8)).collect();
            let bytes = encode_run_list(&runs).expect("encodes");
            prop_assert_eq!(decode_run_list(&bytes).expect("decodes"), runs);
        }
    }

    fn tracked(row: &mut RangeRow) -> &mut TrackedEntry {
        match row {
            RangeRow::Put(_, tracked) => tracked,
            RangeRow::Deleted(path) => panic!("{path} is deleted"),
        }
    }

    fn changed_file(row: &RangeRow, change: impl Fn(&mut FileNode)) -> RangeRow {
        let mut row = row.clone();
        match &mut tracked(&mut row).entry.node {
            EntryNode::File(file) => change(file),
            other => panic!("{other:?} is no file"),
        }
        row
    }

    fn comes_back(row: &RangeRow) -> bool {
        let encoded = encode_all(std::slice::from_ref(row));
        let back = decode(&encoded.range, Some(&encoded.companion));
        let comes_back = back.is_ok_and(|rows| rows == [row.clone()]);
        let is_taken = RangeBuilder::default().push(row).is_ok();
        assert_eq!(is_taken, comes_back, "what is taken can be read again: {row:?}");
        comes_back
    }

    fn extents(list: &[(u64, u64)]) -> Option<Vec<Extent>> {
        Some(list.iter().map(|&(offset, length)| Extent { offset, length }).collect())
    }

    #[test]
    fn every_field_of_a_file_goes_round() {
        let plain = file("a/b", vec![run(1, 0, 3, 100), run(2, 4, 1, 50)]);
        let mut full = changed_file(&plain, |file| {
            file.size = 1000;
            file.hard_link = Some(9);
            file.extents = extents(&[(0, 100), (500, 50)]);
        });
        let it = tracked(&mut full);
        let owner = Owner { uid: 5, gid: 6, user: "u".into(), group: "g".into() };
        let xattr = |n: u8| Xattr { name: vec![n], value: vec![n; 9] };
        let mtime = Timestamp::new(-7, 3);
        let xattrs = vec![xattr(1), xattr(2)];
        it.entry.metadata = Metadata { mode: 0o4755, owner: Arc::new(owner), mtime, xattrs };
        let ctime = Timestamp::new(8, 9);
        it.detection = Detection { ctime, inode: u64::MAX, tag: b"etag".to_vec() };
        // What lists of runs take has nothing to do with what the file has.
        let listed = changed_file(&plain, |file| {
            file.content = Content::Listed(vec![run(1, 0, 2, 9_000), run(1, 7, 1, 8_000)]);
        });
        let fifo = put("c", EntryNode::Fifo);
        let device = put("d", EntryNode::BlockDevice(8, 1));
        for row in [plain, full, listed, fifo, device] {
            assert!(comes_back(&row), "{row:?}");
        }
    }

    #[test]
    fn a_range_without_its_companion_has_the_entries_alone() {
        let mut row = file("a", vec![]);
        let encoded = encode_all(&[row.clone()]);
        tracked(&mut row).detection = Detection::default();
        assert_eq!(decode(&encoded.range, None).expect("decodes"), [row]);
    }

    #[test]
    fn a_companion_has_a_row_for_each_entry_that_is_there() {
        let gone = RangeRow::Deleted(EntryPath::new(b"b").expect("a path"));
        let (one, two) = (file("a", vec![]), file("c", vec![]));
        let short = encode_all(&[one.clone(), gone.clone()]);
        let long = encode_all(&[one, gone, two]);
        assert!(decode(&short.range, Some(&short.companion)).is_ok());
        assert!(decode(&short.range, Some(&long.companion)).is_err());
        assert!(decode(&long.range, Some(&short.companion)).is_err());
    }

    #[test]
    fn metadata_beyond_its_limits_is_refused() {
        let with = |change: &dyn Fn(&mut Metadata)| {
            let mut row = put("a", EntryNode::Directory);
            change(&mut tracked(&mut row).entry.metadata);
            comes_back(&row)
        };
        let xattr = |n: usize, bytes: usize| Xattr {
            name: (n as u32).to_be_bytes().to_vec(),
            value: vec![1; bytes],
        };
        let many = |count: usize| (0..count).map(|n| xattr(n, 0)).collect::<Vec<_>>();
        assert!(with(&|metadata| metadata.mode = 0o7777));
        assert!(!with(&|metadata| metadata.mode = 0o10000));
        assert!(!with(&|metadata| metadata.mode = 0o10001));
        assert!(with(&|metadata| metadata.xattrs = many(XATTRS_MAX)));
        assert!(!with(&|metadata| metadata.xattrs = many(XATTRS_MAX + 1)));
        assert!(with(&|metadata| metadata.xattrs = vec![xattr(0, XATTR_VALUE_BYTES_MAX)]));
        assert!(!with(&|metadata| metadata.xattrs = vec![xattr(0, XATTR_VALUE_BYTES_MAX + 1)]));
        assert!(!with(&|metadata| metadata.xattrs = vec![xattr(1, 0), xattr(0, 0)]));
        assert!(!with(&|metadata| metadata.xattrs = vec![xattr(1, 0), xattr(1, 1)]));
        assert!(comes_back(&put("a", EntryNode::Symlink(vec![b'x'; LINK_BYTES_MAX]))));
        assert!(!comes_back(&put("a", EntryNode::Symlink(vec![b'x'; LINK_BYTES_MAX + 1]))));
    }

    #[test]
    fn a_file_has_as_much_data_as_its_extents_say() {
        let with = |size: u64, list: &[(u64, u64)]| {
            comes_back(&changed_file(&file("a", vec![run(1, 0, 1, 30)]), |file| {
                file.size = size;
                file.extents = extents(list);
            }))
        };
        assert!(with(30, &[(0, 30)]), "as long as the file");
        assert!(with(99, &[(5, 10), (15, 20)]), "side by side");
        assert!(with(99, &[(5, 10), (79, 20)]), "up to the end");
        assert!(!with(98, &[(5, 10), (79, 20)]), "beyond the end");
        assert!(!with(99, &[(5, 10), (14, 20)]), "one over the other");
        assert!(!with(99, &[(15, 20), (5, 10)]), "out of order");
        assert!(!with(99, &[(5, 10), (15, 20), (40, 0)]), "of nothing");
        assert!(!with(99, &[(5, u64::MAX)]), "without end");
        assert!(!with(99, &[]), "data without a place");
    }

    #[test]
    fn runs_that_do_not_add_up_are_refused() {
        let with = |size: u64, runs: &[Run]| {
            comes_back(&changed_file(&file("a", runs.to_vec()), |file| file.size = size))
        };
        let (one, two) = (run(1, 0, 1, 10), run(2, 0, 1, 20));
        assert!(with(30, &[one, two]));
        assert!(with(0, &[]));
        assert!(!with(1, &[]), "data without a run");
        assert!(!with(10, &[one, two]), "a run without data");
        assert!(!with(9, &[one, two]), "more than there is");
        assert!(!with(20, &[run(1, 0, 0, 10), two]), "a run of no places");
        assert!(!with(20, &[run(1, 0, 1, 0), two]), "a run of no bytes");
        assert!(!with(10, &[run(1, u32::MAX, 1, 10)]), "places without end");
    }

    #[test]
    fn lengths_of_runs_are_told_once() {
        let row = file("a", vec![run(1, 0, 1, 10), run(2, 0, 1, 20)]);
        let encoded = encode_all(&[row]).range;
        let with = |change: fn(&mut ContentV1)| {
            let mut range: RangeV1 = serial::decode(&encoded, "x").expect("decodes");
            match &mut range.rows[0].body {
                BodyV1::Put { node: NodeV1::File { content, .. }, .. } => change(content),
                _ => panic!("no file"),
            }
            decode(&serial::encode(&range).expect("encodes"), None).is_ok()
        };
        assert!(with(|_| {}));
        assert!(!with(|content| content.bytes.push(20)));
        assert!(!with(|content| content.bytes.clear()));
        assert!(!with(|content| content.listed = true));
    }

    #[test]
    fn what_points_nowhere_is_refused() {
        let encoded = encode_all(&[file("a", vec![run(1, 0, 1, 10)]), file("b", vec![])]).range;
        let with = |change: fn(&mut RangeV1)| {
            let mut range: RangeV1 = serial::decode(&encoded, "x").expect("decodes");
            change(&mut range);
            decode(&serial::encode(&range).expect("encodes"), None).is_ok()
        };
        assert!(with(|_| {}));
        assert!(!with(|range| range.blocks.clear()));
        assert!(!with(|range| range.owners.clear()));
        assert!(!with(|range| range.rows.swap(0, 1)));
        assert!(!with(|range| range.rows[1].suffix = b"a".to_vec()));
    }

    #[test]
    fn a_list_of_runs_that_makes_no_sense_is_refused() {
        let runs = [run(1, 5, 1, 10), run(2, 0, 1, 20)];
        let encoded = encode_run_list(&runs).expect("encodes");
        let with = |change: fn(&mut RunListV1)| {
            let mut list: RunListV1 = serial::decode(&encoded, "x").expect("decodes");
            change(&mut list);
            decode_run_list(&serial::encode(&list).expect("encodes")).is_ok()
        };
        assert!(with(|_| {}));
        assert!(!with(|list| list.bytes.push(1)));
        assert!(!with(|list| list.bytes.truncate(1)));
        assert!(!with(|list| list.bytes[0] = 0));
        assert!(!with(|list| list.runs[0].count = 0));
        assert!(!with(|list| list.blocks.clear()));
    }

    fn weight_of(row: &RangeRow) -> usize {
        let mut builder = RangeBuilder::default();
        builder.push_unasked(&file("A", vec![])).expect("in order");
        let before = builder.weight;
        builder.push_unasked(row).expect("in order");
        builder.weight - before
    }

    #[test]
    fn whatever_makes_a_row_long_counts_towards_the_size_of_its_range() {
        let plain = file("b", vec![]);
        let base = weight_of(&plain);
        assert!(base > 0, "a row is never for nothing");
        assert_eq!(weight_of(&file("b123", vec![])), base + 3);
        assert_eq!(weight_of(&file("A123", vec![])), base + 2, "what is shared is not stored");
        let mut tagged = plain.clone();
        tracked(&mut tagged).detection.tag = vec![1; 50];
        assert_eq!(weight_of(&tagged), base + 50);
        let mut marked = plain.clone();
        let xattr = |n: u8| Xattr { name: vec![n; 7], value: vec![n; 40] };
        tracked(&mut marked).entry.metadata.xattrs = vec![xattr(1), xattr(2)];
        assert_eq!(weight_of(&marked), base + 2 * 47);
        assert_eq!(weight_of(&put("b", EntryNode::Symlink(vec![b'x'; 60]))), base + 60);
        let runs: Vec<Run> = (0..5).map(|n| run(n, 0, 1, 10)).collect();
        let cut = file("b", runs);
        assert_eq!(weight_of(&cut), base + 5 * (8 + 32));
        let holed =
            changed_file(&cut, |file| file.extents = extents(&[(0, 10), (20, 40), (70, 1)]));
        assert_eq!(weight_of(&holed), base + 5 * (8 + 32) + 3 * 8);
    }

    #[test]
    fn a_range_ends_at_a_cut_or_when_it_is_too_long() {
        let mut builder = RangeBuilder::default();
        assert!(builder.is_empty() && !builder.is_full());
        assert_eq!(builder.finish().expect("nothing to encode"), None);
        let paths = || (0..5000).map(|n| format!("{n:05}"));
        let (mut rows, mut ends) = (0, 0);
        for path in paths() {
            builder.push(&file(&path, vec![])).expect("in order");
            rows += 1;
            let ends_here = rows >= RANGE_ENTRIES_MIN && cuts_after(path.as_bytes());
            assert_eq!(builder.is_full(), ends_here || rows == RANGE_ENTRIES_MAX, "{rows} rows");
            assert!(!builder.is_empty());
            if builder.is_full() {
                let range = builder.finish().expect("encodes").expect("rows");
                assert_eq!((range.rows as usize, builder.is_empty()), (rows, true));
                (rows, ends) = (0, ends + 1);
            }
        }
        assert!(ends > 20, "{ends} ranges");
        let mut builder = RangeBuilder::default();
        let smooth = paths().filter(|path| !cuts_after(path.as_bytes())).take(RANGE_ENTRIES_MAX);
        for (n, path) in smooth.enumerate() {
            builder.push(&file(&path, vec![])).expect("in order");
            assert_eq!(builder.is_full(), n + 1 == RANGE_ENTRIES_MAX);
        }
    }

    #[test]
    fn a_range_of_few_long_rows_ends_by_its_bytes() {
        let mut builder = RangeBuilder::default();
        let target = vec![b'x'; LINK_BYTES_MAX];
        let mut rows = 0;
        while !builder.is_full() {
            let row = put(&format!("{rows:03}"), EntryNode::Symlink(target.clone()));
            builder.push(&row).expect("in order");
            rows += 1;
            assert!(rows <= RANGE_ENTRIES_MIN, "only bytes can end it here");
        }
        let bytes = builder.finish().expect("encodes").expect("rows").range.len();
        let about = RANGE_BYTES_MAX - LINK_BYTES_MAX..RANGE_BYTES_MAX + LINK_BYTES_MAX;
        assert!(about.contains(&bytes), "{bytes} bytes in {rows} rows");
    }
}
