//! Objects as an enemy makes them: with the library's own encoders where those allow it, as raw
//! bytes where not.

use crate::support::world::World;
use icecore::backend::key::ObjectKey;
use icecore::base::id::BlockId;
use icecore::base::id::LeaseId;
use icecore::base::metadata::Detection;
use icecore::base::metadata::Metadata;
use icecore::base::path::EntryPath;
use icecore::base::time::Timestamp;
use icecore::codec::compress::Compressor;
use icecore::codec::crypt;
use icecore::codec::crypt::Cipher;
use icecore::codec::crypt::Part;
use icecore::codec::frame;
use icecore::codec::frame::ObjectKind;
use icecore::format::backup::Body;
use icecore::format::backup::Counts;
use icecore::format::backup::Header;
use icecore::format::block::Row;
use icecore::format::block::Table;
use icecore::format::entry::Entry;
use icecore::format::entry::EntryNode;
use icecore::format::entry::TrackedEntry;
use icecore::format::entry::snapshot_hasher;
use icecore::format::pack::EncodedBlock;
use icecore::format::range::Change;
use icecore::format::range::RangeBuilder;
use icecore::format::range::RangeRow;
use icecore::repository::packer::Packer;
use icecore::repository::transaction::Transaction;
use serde::Serialize;
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

pub(crate) const NOW: Timestamp = Timestamp::new(1_800_000_000, 0);

pub(crate) fn key(text: impl Into<String>) -> ObjectKey {
    ObjectKey::new(text).expect("a key")
}

/// Puts a record that is sealed as it should be, whatever is there already.
pub(crate) fn put<T: Serialize>(world: &World, kind: ObjectKind, key: &ObjectKey, record: &T) {
    let sealer = world.repository.store().sealer();
    let bytes = sealer.seal_record(kind, key.as_str(), record).expect("seals");
    world.backend.insert_raw(key, bytes);
}

/// Makes an object of a compressed body as it is given, sealed where the repository is: what the
/// library's own encoder would not write.
pub(crate) fn compressed(
    world: &World,
    kind: ObjectKind,
    key: &ObjectKey,
    mut body: Vec<u8>,
) -> Vec<u8> {
    let Some(keys) = world.repository.store().sealer().keys() else {
        let mut bytes = frame::start(kind, frame::COMPRESSED);
        bytes.append(&mut body);
        frame::finish(&mut bytes);
        return bytes;
    };
    let flags = frame::COMPRESSED | frame::SEALED;
    let salt = [3; crypt::SALT_BYTES];
    let record_key = keys.record_key(&salt);
    let mut associated = world.repository.id().as_bytes().to_vec();
    associated.extend_from_slice(&[kind.code(), kind.version(), flags]);
    associated.extend_from_slice(key.as_str().as_bytes());
    let mut bytes = frame::start(kind, flags);
    bytes.extend_from_slice(&salt);
    bytes.extend_from_slice(&crypt::commitment(&record_key));
    let start = bytes.len();
    bytes.append(&mut body);
    let cipher = Cipher::new(&record_key).expect("a key");
    cipher.seal(Part::Record, 0, &associated, &mut bytes, start).expect("seals");
    frame::finish(&mut bytes);
    bytes
}

pub(crate) fn entry(path: &str, node: EntryNode) -> Entry {
    let path = EntryPath::new(path.as_bytes()).expect("a path");
    Entry { path, metadata: Metadata { mode: 0o700, ..Metadata::default() }, node }
}

pub(crate) fn block_of(blobs: &[&[u8]], world: &World) -> EncodedBlock {
    let name =
        |blob: &&[u8]| Row { blob: world.repository.name_blob(blob), length: blob.len() as u32 };
    let rows: Vec<Row> = blobs.iter().map(name).collect();
    let table = Table::new(&rows);
    let mut stored = Vec::new();
    let mut compressor = Compressor::new(3).expect("starts");
    compressor.compress(&blobs.concat(), &mut stored).expect("compresses");
    EncodedBlock { id: table.id(), table, stored, class: 0 }
}

/// Stores blobs in a block and a pack of their own.
pub(crate) fn store(world: &World, blobs: &[&[u8]]) -> BlockId {
    let block = block_of(blobs, world);
    let id = block.id;
    let mut packer =
        Packer::start(&world.repository, LeaseId::new([0; 16])).expect("a packer starts");
    packer.add(block).expect("adds");
    packer.finish().expect("finishes");
    id
}

/// Commits a full backup with these entries, which come sorted; `edit` has the last word.
pub(crate) fn back_up_edited(
    world: &World,
    entries: Vec<Entry>,
    edit: impl FnOnce(&mut Header),
) -> u64 {
    let dataset = world.repository.dataset_or_new(&world.name(), NOW).expect("a dataset");
    let transaction = Transaction::begin(&dataset, NOW).expect("begins");
    let mut hasher = snapshot_hasher();
    let mut builder = RangeBuilder::default();
    let mut counts = Counts::default();
    for entry in entries {
        entry.hash_into(&mut hasher, &mut Vec::new());
        counts.entries += 1;
        counts.files += u64::from(!matches!(entry.node, EntryNode::Directory));
        counts.bytes = counts.bytes.saturating_add(entry.size());
        let tracked = TrackedEntry { entry, detection: Detection::default() };
        builder.push_unasked(&RangeRow::Put(Change::Present, tracked)).expect("in order");
    }
    let range = builder.finish().expect("encodes");
    let mut header = Header {
        dataset: dataset.id(),
        number: transaction.number(),
        parent: transaction.parent().map(|parent| parent.number()),
        lease: transaction.lease_id(),
        chain: Vec::new(),
        host: "here".into(),
        source: "/there".into(),
        started: NOW,
        read_from: NOW,
        ended: NOW,
        counts,
        snapshot: icecore::base::id::SnapshotHash::new(hasher.finish()),
        tags: Vec::new(),
        description: String::new(),
        original: None,
        body: Body::Inline(range.into_iter().map(|r| (r.range, r.companion)).collect()),
    };
    edit(&mut header);
    let number = header.number.0;
    transaction.commit(&header).expect("commits");
    number
}

pub(crate) fn back_up(world: &World, entries: Vec<Entry>) -> u64 {
    back_up_edited(world, entries, |_| {})
}

/// Runs something that must end soon; what it does when it does not is left behind.
pub(crate) fn soon<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(work()));
    // What has no end does not come to it in a minute either; a busy machine is slow.
    receiver.recv_timeout(Duration::from_secs(60)).expect("it ends within a minute, sound")
}

/// Addresses that a bomb may take: 1 GiB, in KiB. The program itself takes a tenth of it.
const ADDRESSES_KIB: &str = "1048576";
const CONFINED: &str = "ICECORE_TEST_CONFINED";

/// Runs a test in a process of its own, which dies of an allocation beyond what bombs may take.
/// `name` is that of the test that calls this.
pub(crate) fn confined(name: &str, test: impl FnOnce()) {
    if std::env::var_os(CONFINED).is_some() {
        return test();
    }
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "ulimit -v \"$0\" && exec \"$@\"", ADDRESSES_KIB]);
    command.arg(std::env::current_exe().expect("a program"));
    command.args(["--exact", name, "--nocapture"]).env(CONFINED, "1");
    // Each thread would take 128 MiB of addresses for a heap of its own.
    let output = command.env("MALLOC_ARENA_MAX", "1").output().expect("runs");
    let said = [output.stdout, output.stderr].map(|it| String::from_utf8_lossy(&it).into_owned());
    let is_run = said[0].contains("test result: ok. 1 passed");
    assert!(output.status.success() && is_run, "{}: {}{}", output.status, said[0], said[1]);
}

/// What is not confined is seen: more than bombs may take is refused there.
#[test]
fn an_allocation_beyond_what_bombs_may_take_fails() {
    confined("hostile::forge::an_allocation_beyond_what_bombs_may_take_fails", || {
        let reserve = |bytes: usize| Vec::<u8>::new().try_reserve_exact(bytes);
        assert!(reserve(1 << 30).is_err());
        assert!(reserve(1 << 28).is_ok());
    });
}
