//! The backup header: number, parent, times, counts, and what names its ranges.
//!
//! The header is the last object a backup puts; it exists if and only if the backup does.

use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::id::BackupId;
use crate::base::id::BlockId;
use crate::base::id::DatasetId;
use crate::base::id::LeaseId;
use crate::base::id::RepositoryId;
use crate::base::id::SnapshotHash;
use crate::base::limits::CHAIN_MANIFESTS_MAX;
use crate::base::path::EntryPath;
use crate::base::time::Timestamp;
use crate::codec::serial;
use serde::Deserialize;
use serde::Serialize;

/// What a backup counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Entries that were not there before, folders not counted.
    pub added: u64,
    /// Entries that were otherwise before, folders whose only change is their time not counted.
    pub modified: u64,
    /// Entries that are gone, folders not counted.
    pub deleted: u64,
    /// Entries of the snapshot that are not folders.
    pub files: u64,
    /// All entries of the snapshot.
    pub entries: u64,
    /// Bytes of all files of the snapshot, holes counted.
    pub bytes: u64,
    /// Bytes of blobs that were not known.
    pub new_bytes: u64,
    /// Bytes of the objects that this backup put, its header not counted.
    pub stored_bytes: u64,
    /// Rows of all manifests since the full index; decides when the next is due.
    pub chain_rows: u64,
    /// Entries that could not be read; the backup has what the one before had of them.
    pub errors: u64,
}

/// One blob by its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlobPlace {
    /// The block.
    pub block: BlockId,
    /// The place in its table.
    pub place: u32,
}

/// A range as a list names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeRef {
    /// Path of its first row.
    pub first: EntryPath,
    /// Number of rows.
    pub rows: u32,
    /// The range.
    pub range: BlobPlace,
    /// Its companion.
    pub companion: BlobPlace,
}

/// Where the ranges of a backup are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// In the header itself: range and companion bytes, in order.
    Inline(Vec<(Vec<u8>, Vec<u8>)>),
    /// A list of ranges in the header.
    Ranges(Vec<RangeRef>),
    /// Lists of ranges, each a blob.
    Lists(Vec<BlobPlace>),
}

/// Which backup it was when it was made, wherever it was copied to since. The lease tells apart
/// what two copies of one repository's files have put at the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Original {
    /// The repository.
    pub repository: RepositoryId,
    /// The dataset there.
    pub dataset: DatasetId,
    /// The number there.
    pub number: BackupId,
    /// The lease it was written under.
    pub lease: LeaseId,
}

impl Original {
    /// Says whether two are of one line of backups.
    pub fn is_beside(&self, other: &Original) -> bool {
        (self.repository, self.dataset) == (other.repository, other.dataset)
    }
}

/// The header of one backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The dataset it is of: without encryption nothing else ties it to its place.
    pub dataset: DatasetId,
    /// Its number.
    pub number: BackupId,
    /// The backup it was compared with.
    pub parent: Option<BackupId>,
    /// The lease it was written under; tells a writer whose reply was lost that it won.
    pub lease: LeaseId,
    /// Numbers whose manifests are replayed before this one, the full one first. Empty for a
    /// full backup.
    pub chain: Vec<BackupId>,
    /// Machine that made it.
    pub host: String,
    /// Where the data came from.
    pub source: String,
    /// When it began, or the time it was given: the backup's time.
    pub started: Timestamp,
    /// When reading the source began: a file as young as this may have changed unseen.
    pub read_from: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// What it counted.
    pub counts: Counts,
    /// Hash over the sorted entries, change-detection fields left out.
    pub snapshot: SnapshotHash,
    /// Tags given when it was made.
    pub tags: Vec<String>,
    /// Description given when it was made.
    pub description: String,
    /// Which backup it is a copy of, if it is one.
    pub original: Option<Original>,
    /// Where its ranges are.
    pub body: Body,
}

impl Header {
    /// Says whether it holds a full index.
    pub fn is_full(&self) -> bool {
        self.chain.is_empty()
    }

    /// Returns which backup it is, of a repository or of one it was copied from.
    pub fn origin(&self, repository: RepositoryId) -> Original {
        let Header { dataset, number, lease, .. } = *self;
        self.original.unwrap_or(Original { repository, dataset, number, lease })
    }
}

#[derive(Serialize, Deserialize)]
struct HeaderV1 {
    dataset: DatasetId,
    number: u64,
    parent: Option<u64>,
    lease: LeaseId,
    chain: Vec<u64>,
    host: String,
    source: String,
    started: Timestamp,
    read_from: Timestamp,
    ended: Timestamp,
    counts: Counts,
    snapshot: SnapshotHash,
    tags: Vec<String>,
    description: String,
    original: Option<OriginalV1>,
    body: BodyV1,
}

#[derive(Serialize, Deserialize)]
struct OriginalV1 {
    repository: RepositoryId,
    dataset: DatasetId,
    number: u64,
    lease: LeaseId,
}

#[derive(Serialize, Deserialize)]
enum BodyV1 {
    Inline(Vec<InlineV1>),
    Ranges(RangeListV1),
    Lists(PlacesV1),
}

#[derive(Serialize, Deserialize)]
struct InlineV1 {
    #[serde(with = "crate::codec::serial::bytes")]
    range: Vec<u8>,
    #[serde(with = "crate::codec::serial::bytes")]
    companion: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct PlacesV1 {
    /// Ids of blocks, 32 bytes each, in order of first use.
    #[serde(with = "crate::codec::serial::bytes")]
    blocks: Vec<u8>,
    places: Vec<PlaceV1>,
}

#[derive(Serialize, Deserialize)]
struct PlaceV1 {
    block: u32,
    place: u32,
}

#[derive(Serialize, Deserialize)]
struct RangeListV1 {
    #[serde(with = "crate::codec::serial::bytes")]
    blocks: Vec<u8>,
    ranges: Vec<RangeRefV1>,
}

#[derive(Serialize, Deserialize)]
struct RangeRefV1 {
    first: EntryPath,
    rows: u32,
    range: PlaceV1,
    companion: PlaceV1,
}

#[derive(Default)]
struct Blocks(Vec<u8>);

impl Blocks {
    fn encode(&mut self, at: &BlobPlace) -> PlaceV1 {
        let known = self.0.chunks_exact(32).rposition(|id| id == at.block.as_bytes());
        let block = known.unwrap_or_else(|| {
            self.0.extend_from_slice(at.block.as_bytes());
            self.0.len() / 32 - 1
        });
        PlaceV1 { block: block as u32, place: at.place }
    }
}

fn decode_place(blocks: &[u8], at: &PlaceV1) -> Result<BlobPlace> {
    let id = blocks.chunks_exact(32).nth(at.block as usize);
    let id = id.ok_or_else(|| Error::corrupt("a place names no block"))?;
    Ok(BlobPlace { block: BlockId::from_slice(id)?, place: at.place })
}

fn list_to_v1(ranges: &[RangeRef]) -> RangeListV1 {
    let mut blocks = Blocks::default();
    let ranges = ranges
        .iter()
        .map(|range| RangeRefV1 {
            first: range.first.clone(),
            rows: range.rows,
            range: blocks.encode(&range.range),
            companion: blocks.encode(&range.companion),
        })
        .collect();
    RangeListV1 { blocks: blocks.0, ranges }
}

fn list_from_v1(list: RangeListV1) -> Result<Vec<RangeRef>> {
    let decode = |range: RangeRefV1| {
        Ok(RangeRef {
            first: range.first,
            rows: range.rows,
            range: decode_place(&list.blocks, &range.range)?,
            companion: decode_place(&list.blocks, &range.companion)?,
        })
    };
    let ranges: Vec<RangeRef> = list.ranges.into_iter().map(decode).collect::<Result<_>>()?;
    if ranges.windows(2).any(|pair| pair[0].first >= pair[1].first) {
        return Err(Error::corrupt("ranges are out of order"));
    }
    Ok(ranges)
}

/// Encodes a list of ranges as a blob.
///
/// # Errors
/// `Bug` of the encoder.
pub fn encode_range_list(ranges: &[RangeRef]) -> Result<Vec<u8>> {
    serial::encode(&list_to_v1(ranges))
}

/// Decodes a list of ranges.
///
/// # Errors
/// `Corrupt` when it does not decode, names no block, or is out of order.
pub fn decode_range_list(bytes: &[u8]) -> Result<Vec<RangeRef>> {
    list_from_v1(serial::decode(bytes, "a list of ranges")?)
}

/// Encodes a header.
///
/// # Errors
/// `Bug` of the encoder.
pub fn encode(header: &Header) -> Result<Vec<u8>> {
    let body = match &header.body {
        Body::Inline(ranges) => {
            let inline = |(range, companion): &(Vec<u8>, Vec<u8>)| InlineV1 {
                range: range.clone(),
                companion: companion.clone(),
            };
            BodyV1::Inline(ranges.iter().map(inline).collect())
        }
        Body::Ranges(ranges) => BodyV1::Ranges(list_to_v1(ranges)),
        Body::Lists(places) => {
            let mut blocks = Blocks::default();
            let places = places.iter().map(|at| blocks.encode(at)).collect();
            BodyV1::Lists(PlacesV1 { blocks: blocks.0, places })
        }
    };
    serial::encode(&HeaderV1 {
        dataset: header.dataset,
        number: header.number.0,
        parent: header.parent.map(|parent| parent.0),
        lease: header.lease,
        chain: header.chain.iter().map(|id| id.0).collect(),
        host: header.host.clone(),
        source: header.source.clone(),
        started: header.started,
        read_from: header.read_from,
        ended: header.ended,
        counts: header.counts,
        snapshot: header.snapshot,
        tags: header.tags.clone(),
        description: header.description.clone(),
        original: header.original.map(|original| {
            let Original { repository, dataset, number: BackupId(number), lease } = original;
            OriginalV1 { repository, dataset, number, lease }
        }),
        body,
    })
}

/// Decodes a header. `object` names it in errors.
///
/// # Errors
/// `Corrupt` when it does not decode or contradicts itself.
pub fn decode(bytes: &[u8], object: &str) -> Result<Header> {
    let stored: HeaderV1 = serial::decode(bytes, object)?;
    let broken = || Error::corrupt(format!("{object} contradicts itself"));
    let number = stored.number;
    let chain_is_sound = stored.chain.len() <= CHAIN_MANIFESTS_MAX
        && stored.chain.windows(2).all(|pair| pair[0] < pair[1])
        && stored.chain.last().is_none_or(|last| Some(*last) == stored.parent);
    if !chain_is_sound || stored.parent.is_some_and(|parent| parent >= number) {
        return Err(broken());
    }
    let body = match stored.body {
        BodyV1::Inline(ranges) => {
            Body::Inline(ranges.into_iter().map(|each| (each.range, each.companion)).collect())
        }
        BodyV1::Ranges(list) => Body::Ranges(list_from_v1(list)?),
        BodyV1::Lists(lists) => {
            let decode = |at: &PlaceV1| decode_place(&lists.blocks, at);
            Body::Lists(lists.places.iter().map(decode).collect::<Result<_>>()?)
        }
    };
    Ok(Header {
        dataset: stored.dataset,
        number: BackupId(number),
        parent: stored.parent.map(BackupId),
        lease: stored.lease,
        chain: stored.chain.into_iter().map(BackupId).collect(),
        host: stored.host,
        source: stored.source,
        started: stored.started,
        read_from: stored.read_from,
        ended: stored.ended,
        counts: stored.counts,
        snapshot: stored.snapshot,
        tags: stored.tags,
        description: stored.description,
        original: stored.original.map(|original| {
            let OriginalV1 { repository, dataset, number, lease } = original;
            Original { repository, dataset, number: BackupId(number), lease }
        }),
        body,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(body: Body) -> Header {
        Header {
            dataset: DatasetId::new([9; 16]),
            number: BackupId(7),
            parent: Some(BackupId(5)),
            lease: LeaseId::new([3; 16]),
            chain: vec![BackupId(2), BackupId(5)],
            host: "h".into(),
            source: "/s".into(),
            started: Timestamp::new(-5, 1),
            read_from: Timestamp::new(-4, 0),
            ended: Timestamp::new(9, 0),
            counts: Counts { added: 3, ..Counts::default() },
            snapshot: SnapshotHash::new([8; 32]),
            tags: vec!["t".into()],
            description: String::new(),
            original: None,
            body,
        }
    }

    fn place(n: u8) -> BlobPlace {
        BlobPlace { block: BlockId::new([n; 32]), place: n.into() }
    }

    fn range(first: &str, n: u8) -> RangeRef {
        let first = EntryPath::new(first.as_bytes()).expect("a path");
        RangeRef { first, rows: 4, range: place(n), companion: place(n + 1) }
    }

    #[test]
    fn headers_with_every_body_go_round() {
        for body in [
            Body::Inline(vec![(vec![1], vec![2])]),
            Body::Ranges(vec![range("", 1), range("b", 1)]),
            Body::Lists(vec![place(1), place(2), place(1)]),
        ] {
            let header = header(body);
            let bytes = encode(&header).expect("encodes");
            assert_eq!(decode(&bytes, "x").expect("decodes"), header);
        }
    }

    #[test]
    fn a_copy_says_which_backup_it_is_and_a_copy_of_it_too() {
        let plain = header(Body::Inline(vec![]));
        let origin = plain.origin(RepositoryId::new([1; 16]));
        assert_eq!((origin.number, origin.lease), (BackupId(7), LeaseId::new([3; 16])));
        let copy = Header { original: Some(origin), number: BackupId(8), ..plain };
        let back = decode(&encode(&copy).expect("encodes"), "x").expect("decodes");
        assert_eq!(back, copy);
        assert_eq!(back.origin(RepositoryId::new([2; 16])), origin);
        let other = Original { dataset: DatasetId::new([5; 16]), ..origin };
        assert!(!origin.is_beside(&other));
    }

    #[test]
    fn contradictions_are_refused() {
        let mut late_parent = header(Body::Inline(vec![]));
        late_parent.parent = Some(BackupId(7));
        let mut wrong_chain = header(Body::Inline(vec![]));
        wrong_chain.chain = vec![BackupId(5), BackupId(2)];
        let disorder = header(Body::Ranges(vec![range("b", 1), range("a", 1)]));
        for bad in [late_parent, wrong_chain, disorder] {
            assert!(decode(&encode(&bad).expect("encodes"), "x").is_err());
        }
    }

    #[test]
    fn a_backup_is_full_when_it_needs_no_other() {
        let partial = header(Body::Inline(vec![]));
        assert!(!partial.is_full());
        assert!(Header { chain: vec![], ..partial }.is_full());
    }

    #[test]
    fn a_chain_is_replayed_up_to_the_parent() {
        let decoded = |parent: Option<u64>, chain: Vec<u64>| {
            let number = BackupId(100);
            let parent = parent.map(BackupId);
            let chain = chain.into_iter().map(BackupId).collect();
            let header = Header { number, parent, chain, ..header(Body::Inline(vec![])) };
            decode(&encode(&header).expect("encodes"), "x").map(|back| assert_eq!(back, header))
        };
        let most = CHAIN_MANIFESTS_MAX as u64;
        for (parent, chain) in [
            (None, vec![]),
            (Some(99), vec![]),
            (Some(99), vec![99]),
            (Some(most), (1..=most).collect()),
        ] {
            decoded(parent, chain).expect("sound");
        }
        for (parent, chain) in [
            (Some(100), vec![]),
            (Some(101), vec![3, 101]),
            (Some(5), vec![2, 4]),
            (None, vec![2]),
            (Some(5), vec![5, 2, 5]),
            (Some(5), vec![2, 2, 5]),
            (Some(most + 1), (1..=most + 1).collect()),
        ] {
            let error = decoded(parent, chain.clone()).expect_err("a contradiction");
            assert!(error.to_string().contains("contradicts itself"), "{parent:?} {chain:?}");
        }
    }

    #[test]
    fn a_list_of_ranges_goes_round_and_names_each_block_once() {
        let list = [range("", 1), range("b", 2), range("c", 1)];
        assert_eq!(list_to_v1(&list).blocks.len(), 3 * 32);
        let bytes = encode_range_list(&list).expect("encodes");
        assert_eq!(decode_range_list(&bytes).expect("decodes"), list);
        for disorder in [[range("b", 1), range("a", 1)], [range("b", 1), range("b", 2)]] {
            let bytes = encode_range_list(&disorder).expect("encodes");
            assert!(decode_range_list(&bytes).is_err());
        }
    }

    #[test]
    fn a_place_in_no_block_is_refused() {
        let mut list = list_to_v1(&[range("", 1)]);
        list.ranges[0].companion.block = 2;
        assert!(decode_range_list(&serial::encode(&list).expect("encodes")).is_err());
    }
}
