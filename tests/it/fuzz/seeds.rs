//! Seeds that are stored objects. They are made of the golden files, so that a format that changes
//! changes them with it: `ICECORE_TEST_UPDATE=1 cargo test --test it fuzz::seeds` writes those that
//! differ.

use super::bodies;
use super::folder;
use icecore::base::hash;
use icecore::base::id::BlobId;
use icecore::base::id::RepositoryId;
use icecore::base::limits::MIB;
use icecore::codec::compress::Compressor;
use icecore::codec::compress::LEVEL_DEFAULT;
use icecore::codec::frame;
use icecore::codec::frame::ObjectKind;
use icecore::codec::key::Keys;
use icecore::codec::seal::Sealer;
use icecore::format::block::Row;
use icecore::format::block::Table;
use icecore::format::pack::EncodedBlock;
use icecore::format::pack::PackBuilder;
use icecore::format::parity;
use icecore::format::parity::Cut;
use std::fs;
use std::path::Path;

const SALT: [u8; 32] = [0x55; 32];
/// Longer than what is stored without compression.
const TEXT: &[u8] = &[b't'; 1000];

/// A seed: of which body, its name, its bytes.
type Seed = (&'static str, &'static str, Vec<u8>);

fn golden(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{name}.bin"));
    fs::read(path).unwrap()
}

/// Returns what is in the frame of an object that is not sealed.
fn plain(name: &str) -> Vec<u8> {
    let bytes = golden(name);
    let sealer = Sealer::new(RepositoryId::new([0x11; 16]), None);
    sealer.open(frame::peek_kind(&bytes).unwrap(), name, &bytes, MIB).unwrap()
}

/// Returns what is in a frame, whatever it is.
fn body(name: &str) -> Vec<u8> {
    let bytes = golden(name);
    frame::open(frame::peek_kind(&bytes).unwrap(), &bytes, name).unwrap().body.to_vec()
}

fn headers() -> Vec<Seed> {
    let mut seeds: Vec<Seed> = ["header-inline", "header-ranges", "header-lists"]
        .map(|name| ("backup_header", name, plain(name)))
        .to_vec();
    seeds.push(("backup_header", "range-list", golden("range-list")));
    seeds
}

fn tables() -> Vec<Seed> {
    let row = |n: u8| Row { blob: BlobId::new([n; 32]), length: u32::from(n) * 100 };
    let whole = Table::new(&(1..=20).map(row).collect::<Vec<_>>());
    let thinned = whole.retain(|place| place == 2 || place == 9);
    [("table-whole", whole), ("table-thinned", thinned)]
        .map(|(name, table)| {
            let bytes = [table.id().as_bytes().as_slice(), &table.encode().unwrap()].concat();
            ("block_table", name, bytes)
        })
        .to_vec()
}

fn frames() -> Vec<Seed> {
    let [open, sealed] = bodies::frame::sealers();
    let object = |sealer: &Sealer, kind, plain: &[u8]| {
        sealer.seal_with_salt(kind, bodies::frame::OBJECT, plain, &SALT).unwrap()
    };
    let header = plain("header-inline");
    vec![
        ("frame", "lease", golden("lease")),
        ("frame", "name", golden("name")),
        ("frame", "tags", golden("tags")),
        ("frame", "compressed", object(&open, ObjectKind::Tags, TEXT)),
        ("frame", "sealed", object(&sealed, ObjectKind::Backup, &header)),
        ("frame", "sealed-compressed", object(&sealed, ObjectKind::Backup, TEXT)),
    ]
}

fn manifests() -> Vec<Seed> {
    let (range, companion) = (golden("range"), golden("companion"));
    let split = u16::try_from(range.len()).unwrap().to_le_bytes();
    vec![
        ("manifest", "range", [&split[..], &range].concat()),
        ("manifest", "range-and-companion", [&split[..], &range, &companion].concat()),
        ("manifest", "run-list", golden("run-list")),
    ]
}

fn pack(keys: Option<&Keys>) -> Vec<u8> {
    let repository = bodies::pack::REPOSITORY;
    let mut builder = PackBuilder::with_salt(&repository, keys, Vec::new(), SALT).unwrap();
    for text in [&b"ice"[..], TEXT] {
        let blob = BlobId::new(hash::hash(text));
        let table = Table::new(&[Row { blob, length: text.len() as u32 }]);
        let mut stored = Vec::new();
        Compressor::new(LEVEL_DEFAULT).unwrap().compress(text, &mut stored).unwrap();
        builder.add(&EncodedBlock { id: table.id(), table, stored, class: 0 }).unwrap();
    }
    builder.finish().unwrap().bytes
}

fn parities() -> Vec<Seed> {
    let (id, pack) = bodies::parity::pack();
    let cut = Cut { shard_bytes: 64, recovery: 2 };
    let [open, sealed] = bodies::parity::sealers().map(|sealer| {
        parity::make_with(&sealer, bodies::parity::KEY, &id, &pack, cut, &SALT).unwrap()
    });
    // Numbers of 16 bits, each with how far it is moved: 100 bytes in shards of 64, and one more.
    let numbers = [100, 0, 0, 64, 0, 0, 5, 0, 0, 48, 0, 0];
    vec![
        ("parity", "object", open),
        ("parity", "object-encrypted", sealed),
        ("parity", "numbers", [&numbers[..], &[7; 64]].concat()),
    ]
}

fn records() -> Vec<Seed> {
    let kinds = ["lease", "beat", "revoke", "tombstone", "name", "void", "hidden", "tags"];
    let kinds = kinds.into_iter().chain(["floor", "lost"]).enumerate();
    let record = |(which, name)| {
        let seed = if name == "revoke" { "mark" } else { name };
        ("records", seed, [&[which as u8], &plain(name)[..]].concat())
    };
    kinds.map(record).collect()
}

fn made() -> Vec<Seed> {
    let keys = bodies::pack::keys();
    let mut seeds = vec![
        ("config", "config", body("config")),
        ("config", "config-encrypted", body("config-encrypted")),
        ("config", "framed", golden("config")),
        ("key_file", "key", body("key")),
        ("key_file", "framed", golden("key")),
        ("pack", "pack", pack(None)),
        ("pack", "pack-encrypted", pack(Some(&keys))),
        ("pack_index", "index", plain("pack-index")),
        ("pack_index", "cut", plain("pack-index")[..100].to_vec()),
    ];
    for more in [headers(), tables(), frames(), manifests(), parities(), records()] {
        seeds.extend(more);
    }
    seeds
}

#[test]
fn seeds_that_are_stored_objects_are_of_todays_format() {
    let may_write = std::env::var("ICECORE_TEST_UPDATE").is_ok_and(|value| value == "1");
    for (target, name, bytes) in made() {
        let path = folder().join("seeds").join(target).join(name);
        let stored = fs::read(&path).ok();
        if may_write && stored.as_ref() != Some(&bytes) {
            fs::write(&path, &bytes).unwrap();
        } else {
            assert!(stored == Some(bytes), "{target}/{name}: ICECORE_TEST_UPDATE=1 makes it anew");
        }
    }
}
