//! One fixed value of each stored object, and its bytes as the library encodes it.

use crate::mirror;
use icecore::base::id::BackupId;
use icecore::base::id::BlobId;
use icecore::base::id::BlockId;
use icecore::base::id::DatasetId;
use icecore::base::id::IndexId;
use icecore::base::id::KeyId;
use icecore::base::id::LeaseId;
use icecore::base::id::PackId;
use icecore::base::id::RepositoryId;
use icecore::base::id::SnapshotHash;
use icecore::base::id::TombstoneId;
use icecore::base::metadata::Detection;
use icecore::base::metadata::Extent;
use icecore::base::metadata::Metadata;
use icecore::base::metadata::Owner;
use icecore::base::metadata::Xattr;
use icecore::base::path::EntryPath;
use icecore::base::secret::Secret;
use icecore::base::sys::ProcessIdentity;
use icecore::base::time::Timestamp;
use icecore::chunk::ChunkParameters;
use icecore::codec::crypt;
use icecore::codec::crypt::Cipher;
use icecore::codec::crypt::Part;
use icecore::codec::frame;
use icecore::codec::frame::ObjectKind;
use icecore::codec::key;
use icecore::codec::key::Argon2Cost;
use icecore::codec::key::Keys;
use icecore::codec::key::Wiped;
use icecore::codec::seal::Sealer;
use icecore::codec::serial;
use icecore::format::backup;
use icecore::format::backup::BlobPlace;
use icecore::format::backup::Body;
use icecore::format::backup::Counts;
use icecore::format::backup::Header;
use icecore::format::backup::Original;
use icecore::format::backup::RangeRef;
use icecore::format::block::Row;
use icecore::format::block::Table;
use icecore::format::block::shorten;
use icecore::format::config;
use icecore::format::config::Config;
use icecore::format::config::Encryption;
use icecore::format::dataset::FloorRecord;
use icecore::format::dataset::HiddenRecord;
use icecore::format::dataset::LostRecord;
use icecore::format::dataset::NameRecord;
use icecore::format::dataset::TagsRecord;
use icecore::format::dataset::VoidRecord;
use icecore::format::entry::Content;
use icecore::format::entry::Entry;
use icecore::format::entry::EntryNode;
use icecore::format::entry::FileNode;
use icecore::format::entry::Run;
use icecore::format::entry::TrackedEntry;
use icecore::format::lease::BeatRecord;
use icecore::format::lease::LeaseRecord;
use icecore::format::lease::MarkRecord;
use icecore::format::pack::EncodedBlock;
use icecore::format::pack::FinishedPack;
use icecore::format::pack::PackBuilder;
use icecore::format::pack_index;
use icecore::format::pack_index::IndexedPack;
use icecore::format::parity;
use icecore::format::parity::Cut;
use icecore::format::range;
use icecore::format::range::Change;
use icecore::format::range::EncodedRange;
use icecore::format::range::RangeBuilder;
use icecore::format::range::RangeRow;
use icecore::format::tombstone::TombstoneRecord;

pub(crate) const REPOSITORY: RepositoryId = RepositoryId::new([0x11; 16]);
pub(crate) const DATASET: DatasetId = DatasetId::new([0x22; 16]);
pub(crate) const LEASE: LeaseId = LeaseId::new([0x33; 16]);
pub(crate) const KEY: KeyId = KeyId::new([0x44; 16]);
pub(crate) const SALT: [u8; 32] = [0x55; 32];
pub(crate) const TIME: Timestamp = Timestamp::new(1_800_000_000, 123_456_789);
pub(crate) const PASSWORD: &[u8] = b"perito moreno";
/// The key that records are bound to when they are sealed.
pub(crate) const HEADER_KEY: &str = "datasets/22/22222222222222222222222222222222/0/7";
const COST: Argon2Cost = Argon2Cost { memory_kib: 64, passes: 2, lanes: 1 };

pub(crate) fn keys() -> Keys {
    Keys::from_master(Wiped::new([0x66; 32]))
}

pub(crate) fn plain() -> Sealer {
    Sealer::new(REPOSITORY, None)
}

pub(crate) fn sealed() -> Sealer {
    Sealer::new(REPOSITORY, Some(keys()))
}

pub(crate) fn path(text: &str) -> EntryPath {
    EntryPath::new(text.as_bytes()).expect("a path")
}

pub(crate) fn config(encryption: Encryption) -> Config {
    Config {
        id: REPOSITORY,
        format: 1,
        created: TIME,
        encryption,
        chunks: ChunkParameters { average_fine: 8192, average_coarse: 524_288, whole_max: 32_768 },
        block_bytes: 1_048_576,
        pack_bytes: 16_777_216,
        compression: 3,
    }
}

pub(crate) fn process() -> ProcessIdentity {
    ProcessIdentity {
        host: "upsala".into(),
        boot: "8c6b".into(),
        pid: 4711,
        started: 90_000,
        namespace: 4_026_531_836,
    }
}

pub(crate) fn name() -> NameRecord {
    NameRecord { name: "photos".parse().expect("a name"), dataset: Some(DATASET), written: TIME }
}

pub(crate) fn void() -> VoidRecord {
    VoidRecord { number: 7, reason: "its writer is dead".into(), written: TIME }
}

pub(crate) fn hidden() -> HiddenRecord {
    HiddenRecord { number: 7, written: TIME }
}

pub(crate) fn tags() -> TagsRecord {
    let tags = vec!["best".into(), "2026".into()];
    TagsRecord { number: 7, tags, description: "before the move".into(), written: TIME }
}

pub(crate) fn floor() -> FloorRecord {
    FloorRecord { floor: 300, remaining: vec![0, 250, 251], written: TIME }
}

pub(crate) fn lost() -> LostRecord {
    let blocks = [[0x77; 32], [0x78; 32]].concat();
    LostRecord { blocks, places: vec![vec![0, 300], vec![]], written: TIME }
}

pub(crate) fn lease() -> LeaseRecord {
    LeaseRecord {
        lease: LEASE,
        dataset: DATASET,
        number: Some(BackupId(7)),
        parent: Some(BackupId(5)),
        process: process(),
        taken: TIME,
        purpose: "backup of photos".into(),
    }
}

pub(crate) fn beat() -> BeatRecord {
    BeatRecord { lease: LEASE, beat: 12 }
}

pub(crate) fn mark() -> MarkRecord {
    MarkRecord { lease: LEASE, by: "prune on upsala".into() }
}

pub(crate) fn tombstone() -> TombstoneRecord {
    TombstoneRecord {
        tombstone: TombstoneId::new([0x88; 16]),
        packs: vec![PackId::new([0x99; 32])],
        indexes: vec![IndexId::new([0xaa; 16])],
        freed_bytes: 300,
        process: process(),
        written: TIME,
    }
}

fn run(block: u8, first: u32, count: u32, bytes: u64) -> Run {
    Run { block: BlockId::new([block; 32]), first, count, bytes }
}

fn put(at: &str, change: Change, mode: u32, node: EntryNode) -> RangeRow {
    let owner = Owner { uid: 1000, gid: 100, user: "ada".into(), group: "users".into() };
    let mut metadata =
        Metadata { mode, owner: owner.into(), mtime: Timestamp::new(-5, 1), xattrs: Vec::new() };
    if at == "a" {
        metadata.xattrs = vec![Xattr { name: b"user.colour".to_vec(), value: b"blue".to_vec() }];
    }
    let detection = Detection { ctime: TIME, inode: 70_000 - mode as u64, tag: b"v1".to_vec() };
    RangeRow::Put(
        change,
        TrackedEntry { entry: Entry { path: path(at), metadata, node }, detection },
    )
}

fn file(
    size: u64,
    hard_link: Option<u64>,
    extents: Option<Vec<Extent>>,
    content: Content,
) -> EntryNode {
    EntryNode::File(FileNode { size, cut: 0x4d, hard_link, extents, content })
}

/// One row of every kind.
pub(crate) fn rows() -> Vec<RangeRow> {
    let runs = vec![run(0xb1, 0, 3, 20_000), run(0xb2, 70, 1, 10_000)];
    let holes = Some(vec![Extent { offset: 4096, length: 100 }]);
    let goes_on = Content::Runs(vec![run(0xb2, 71, 1, 100)]);
    let lists = Content::Listed(vec![run(0xb1, 3, 2, 5_000)]);
    vec![
        put("", Change::Modified, 0o755, EntryNode::Directory),
        put("a", Change::Added, 0o644, file(30_000, None, None, Content::Runs(runs))),
        put("a.holes", Change::Added, 0o600, file(70_000, Some(9), holes, goes_on)),
        put("a.large", Change::Modified, 0o600, file(1 << 40, None, None, lists)),
        put("b", Change::Added, 0o777, EntryNode::Symlink(b"../a\xff".to_vec())),
        put("c", Change::Added, 0o600, EntryNode::CharDevice(1, 3)),
        put("d", Change::Added, 0o600, EntryNode::BlockDevice(8, 300)),
        RangeRow::Deleted(path("e")),
        put("f", Change::Added, 0o600, EntryNode::Fifo),
    ]
}

pub(crate) fn range() -> EncodedRange {
    let mut builder = RangeBuilder::default();
    rows().iter().for_each(|row| builder.push(row).expect("in order"));
    builder.finish().expect("encodes").expect("rows")
}

pub(crate) fn runs() -> Vec<Run> {
    vec![run(0xb1, 5, 2, 300), run(0xb1, 7, 1, 70_000), run(0xb2, 0, 9, 1)]
}

fn place(block: u8, place: u32) -> BlobPlace {
    BlobPlace { block: BlockId::new([block; 32]), place }
}

pub(crate) fn range_list() -> Vec<RangeRef> {
    let range = |first: &str, at: u32| RangeRef {
        first: path(first),
        rows: 128,
        range: place(0xc1, at),
        companion: place(0xc2, at + 250),
    };
    vec![range("", 0), range("m/n", 2)]
}

pub(crate) fn original() -> Original {
    let (repository, lease) = (RepositoryId::new([0x12; 16]), LeaseId::new([0x34; 16]));
    Original { repository, dataset: DatasetId::new([0x23; 16]), number: BackupId(300), lease }
}

pub(crate) fn header(body: Body) -> Header {
    Header {
        dataset: DATASET,
        number: BackupId(7),
        parent: Some(BackupId(5)),
        lease: LEASE,
        chain: vec![BackupId(2), BackupId(5)],
        host: "upsala".into(),
        source: "/home/ada".into(),
        started: TIME,
        read_from: TIME.plus_seconds(1),
        ended: TIME.plus_seconds(60),
        counts: Counts {
            added: 1,
            modified: 2,
            deleted: 3,
            files: 400,
            entries: 500,
            bytes: 70_000,
            new_bytes: 1 << 33,
            stored_bytes: 9,
            chain_rows: 10,
            errors: 0,
        },
        snapshot: SnapshotHash::new([0xdd; 32]),
        tags: vec!["best".into()],
        description: "before the move".into(),
        original: matches!(body, Body::Lists(_)).then(original),
        body,
    }
}

pub(crate) fn inline() -> Body {
    Body::Inline(vec![(vec![1, 2, 3], vec![4, 5])])
}

pub(crate) fn lists() -> Body {
    Body::Lists(vec![place(0xc1, 0), place(0xc2, 1), place(0xc1, 300)])
}

pub(crate) fn table() -> Table {
    let row = |n: u8| Row { blob: BlobId::new([n; 32]), length: u32::from(n) * 100 };
    Table::new(&(1..=20).map(row).collect::<Vec<_>>())
}

/// Names of a repository with a key are short.
pub(crate) fn short() -> Table {
    let row = |n: u8| Row { blob: shorten([n; 32]), length: u32::from(n) * 100 };
    Table::new(&(1..=20).map(row).collect::<Vec<_>>())
}

/// A copy of the same block in which the second group is dead.
pub(crate) fn thinned() -> Table {
    table().retain(|place| place == 2 || place == 9)
}

pub(crate) fn pack(keys: Option<&Keys>) -> FinishedPack {
    let mut builder = PackBuilder::with_salt(&REPOSITORY, keys, Vec::new(), SALT).expect("starts");
    for (n, text) in [(0, &b"ice"[..]), (1, b"core")] {
        let sealer = Sealer::new(REPOSITORY, keys.cloned());
        let blob = BlobId::new(match sealer.keys() {
            Some(keys) => icecore::base::hash::keyed(keys.blob_key(), text),
            None => icecore::base::hash::hash(text),
        });
        let table = Table::new(&[Row { blob, length: text.len() as u32 }]);
        let stored = [&[0], text].concat();
        builder.add(&EncodedBlock { id: table.id(), table, stored, class: n }).expect("adds");
    }
    builder.finish().expect("finishes")
}

/// The key of the parity of the pack.
pub(crate) fn parity_key(pack: &PackId) -> String {
    let pack = pack.to_string();
    format!("parity/{}/{pack}.5-{}", &pack[..2], "77".repeat(16))
}

/// The parity of the pack, in smaller shards than are written.
pub(crate) fn parity(sealer: &Sealer) -> Vec<u8> {
    let pack = pack(sealer.keys());
    let cut = Cut { shard_bytes: 64, recovery: 2 };
    let key = parity_key(&pack.id);
    parity::make_with(sealer, &key, &pack.id, &pack.bytes, cut, &SALT).expect("makes")
}

pub(crate) fn index() -> Vec<u8> {
    let pack = pack(None);
    let indexed = IndexedPack { pack: pack.id, size: pack.bytes.len() as u64, salt: pack.salt };
    let mut rows = pack.rows;
    rows[1].present = vec![1];
    let rows: Vec<_> = rows.iter().map(|row| (0, row)).collect();
    pack_index::encode(LEASE, &[indexed], &rows).expect("encodes")
}

fn slot_associated() -> Vec<u8> {
    let mut associated = REPOSITORY.as_bytes().to_vec();
    associated.extend_from_slice(&[2, 1]);
    associated.extend_from_slice(KEY.as_bytes());
    associated
}

/// What a slot says of itself to those who have the keys.
pub(crate) fn about(slot: &mirror::KeyFile) -> mirror::About {
    let cipher = Cipher::new(&keys().record_key(&SALT)).expect("a cipher");
    let mut bytes = slot.about.clone();
    let plain = cipher.open(Part::Record, 0, &slot_associated(), &mut bytes).expect("opens");
    mirror::About::decode(plain)
}

/// A password slot, put together from its parts, as the library takes random ones.
pub(crate) fn key_file() -> mirror::KeyFile {
    let wrapping = key::from_password(&Secret::new(PASSWORD.to_vec()), &SALT, COST).expect("a key");
    let mut sealed = keys().master().to_vec();
    let associated = slot_associated();
    let cipher = Cipher::new(&wrapping).expect("a cipher");
    cipher.seal(Part::Record, 0, &associated, &mut sealed, 0).expect("seals");
    let about = mirror::About { label: "laptop".into(), host: "upsala".into() };
    let mut about = about.encode();
    let cipher = Cipher::new(&keys().record_key(&SALT)).expect("a cipher");
    cipher.seal(Part::Record, 0, &associated, &mut about, 0).expect("seals");
    mirror::KeyFile {
        id: *KEY.as_bytes(),
        created: mirror::Time { seconds: TIME.seconds(), nanos: TIME.nanos() },
        about,
        wrapped: mirror::Wrapped::Master {
            memory_kib: COST.memory_kib,
            passes: COST.passes,
            lanes: COST.lanes,
            salt: SALT,
            commitment: crypt::commitment(&wrapping),
            sealed,
        },
    }
}

fn framed(kind: ObjectKind, body: &[u8]) -> Vec<u8> {
    let mut bytes = frame::start(kind, 0);
    bytes.extend_from_slice(body);
    frame::finish(&mut bytes);
    bytes
}

fn record<T: serde::Serialize>(kind: ObjectKind, record: &T) -> Vec<u8> {
    let plain_bytes = serial::encode(record).expect("encodes");
    plain().seal_with_salt(kind, "", &plain_bytes, &SALT).expect("frames")
}

fn header_object(sealer: &Sealer, body: Body) -> Vec<u8> {
    let bytes = backup::encode(&header(body)).expect("encodes");
    sealer.seal_with_salt(ObjectKind::Backup, HEADER_KEY, &bytes, &SALT).expect("frames")
}

/// The bytes of every golden file, by its name.
pub(crate) fn all() -> Vec<(&'static str, Vec<u8>)> {
    let range = range();
    let encrypted = config(Encryption::Password);
    vec![
        ("config", config::seal(&config(Encryption::None), None).expect("seals")),
        ("config-encrypted", config::seal(&encrypted, Some(&keys())).expect("seals")),
        ("key", framed(ObjectKind::Key, &key_file().encode())),
        ("name", record(ObjectKind::Name, &name())),
        ("header-inline", header_object(&plain(), inline())),
        ("header-ranges", header_object(&plain(), Body::Ranges(range_list()))),
        ("header-lists", header_object(&plain(), lists())),
        ("header-encrypted", header_object(&sealed(), inline())),
        ("void", record(ObjectKind::Void, &void())),
        ("hidden", record(ObjectKind::Hidden, &hidden())),
        ("tags", record(ObjectKind::Tags, &tags())),
        ("floor", record(ObjectKind::Floor, &floor())),
        ("lease", record(ObjectKind::Lease, &lease())),
        ("beat", record(ObjectKind::Beat, &beat())),
        ("tombstone", record(ObjectKind::Tombstone, &tombstone())),
        ("lost", record(ObjectKind::Lost, &lost())),
        ("revoke", record(ObjectKind::Revoke, &mark())),
        ("verdict", record(ObjectKind::Verdict, &mark())),
        ("range", range.range),
        ("companion", range.companion),
        ("run-list", range::encode_run_list(&runs()).expect("encodes")),
        ("range-list", backup::encode_range_list(&range_list()).expect("encodes")),
        ("table-whole", table().encode().expect("encodes")),
        ("table-short", short().encode().expect("encodes")),
        ("table-thinned", thinned().encode().expect("encodes")),
        ("pack", pack(None).bytes),
        ("pack-encrypted", pack(Some(&keys())).bytes),
        ("parity", parity(&plain())),
        ("parity-encrypted", parity(&sealed())),
        (
            "pack-index",
            plain().seal_with_salt(ObjectKind::PackIndex, "", &index(), &SALT).expect("frames"),
        ),
    ]
}
