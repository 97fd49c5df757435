//! Golden files: the bytes of one of each stored object, as version 1 writes them.
//!
//! They hold three promises: what is written does not change unnoticed; what was once written is
//! read for ever; and another decoder than the library's reads the same from it, so that the
//! format outlives the crate it was written with. `ICECORE_WRITE_GOLDEN=1` writes files that are
//! missing or differ; that is for a new kind of object, and never to make a test green.

use icecore::base::secret::Secret;
use icecore::codec::crypt::Part;
use icecore::codec::frame;
use icecore::codec::frame::ObjectKind;
use icecore::codec::serial;
use icecore::format::backup;
use icecore::format::backup::Body;
use icecore::format::block::Table;
use icecore::format::config;
use icecore::format::config::Encryption;
use icecore::format::key_file;
use icecore::format::pack;
use icecore::format::pack::PACK_TAIL_BYTES;
use icecore::format::pack_index::IndexTable;
use icecore::format::parity::Parity;
use icecore::format::range;
use std::collections::BTreeSet;
use std::path::PathBuf;

// Beside this file and not in it, so that each keeps to the length it asks of others.
#[path = "golden/mirror.rs"]
mod mirror;
#[path = "golden/samples.rs"]
mod samples;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn file(name: &str) -> PathBuf {
    folder().join(format!("{name}.bin"))
}

fn golden(name: &str) -> Vec<u8> {
    std::fs::read(file(name)).unwrap_or_else(|e| panic!("golden file {name}: {e}"))
}

#[test]
fn what_is_encoded_today_are_the_bytes_of_the_golden_files() {
    let may_write = std::env::var("ICECORE_WRITE_GOLDEN").is_ok_and(|value| value == "1");
    for (name, bytes) in samples::all() {
        if may_write && std::fs::read(file(name)).ok().as_ref() != Some(&bytes) {
            std::fs::write(file(name), &bytes).expect("writes");
        }
        assert_eq!(hex(&golden(name)), hex(&bytes), "{name}");
    }
}

#[test]
fn there_is_no_golden_file_that_nothing_reads() {
    let known: BTreeSet<String> =
        samples::all().into_iter().map(|(name, _)| format!("{name}.bin")).collect();
    let entries = std::fs::read_dir(folder()).expect("lists");
    let names = entries.map(|entry| entry.expect("an entry").file_name().into_string());
    let found: BTreeSet<String> = names.map(|name| name.expect("a name")).collect();
    let bins: BTreeSet<_> = found.into_iter().filter(|name| name.ends_with(".bin")).collect();
    assert_eq!(bins, known);
}

fn record<T: serde::Serialize + serde::de::DeserializeOwned>(kind: ObjectKind, name: &str) -> T {
    samples::plain().open_record(kind, "", &golden(name)).expect("opens")
}

#[test]
fn small_records_decode_to_what_they_were_made_of() {
    assert_eq!(samples::name(), record(ObjectKind::Name, "name"));
    assert_eq!(samples::void(), record(ObjectKind::Void, "void"));
    assert_eq!(samples::hidden(), record(ObjectKind::Hidden, "hidden"));
    assert_eq!(samples::tags(), record(ObjectKind::Tags, "tags"));
    assert_eq!(samples::floor(), record(ObjectKind::Floor, "floor"));
    assert_eq!(samples::lease(), record(ObjectKind::Lease, "lease"));
    assert_eq!(samples::beat(), record(ObjectKind::Beat, "beat"));
    assert_eq!(samples::tombstone(), record(ObjectKind::Tombstone, "tombstone"));
    assert_eq!(samples::lost(), record(ObjectKind::Lost, "lost"));
    assert_eq!(samples::mark(), record(ObjectKind::Revoke, "revoke"));
    assert_eq!(samples::mark(), record(ObjectKind::Verdict, "verdict"));
}

#[test]
fn configs_and_keys_open() {
    for (name, encryption, keys) in [
        ("config", Encryption::None, None),
        ("config-encrypted", Encryption::Password, Some(samples::keys())),
    ] {
        let (config, mac) = config::open(&golden(name)).expect("opens");
        assert_eq!(config, samples::config(encryption));
        config::verify(&config, &mac, keys.as_ref()).expect("genuine");
    }
    let slot = key_file::open(&golden("key"), "key").expect("opens");
    assert_eq!(slot.id, samples::KEY);
    let password = Secret::new(samples::PASSWORD.to_vec());
    let keys = slot.unlock(&samples::REPOSITORY, &password).expect("unlocks");
    assert_eq!(keys.master(), samples::keys().master());
    let about = slot.about(&samples::REPOSITORY, &keys).expect("opens");
    assert_eq!((about.label.as_str(), about.host.as_str()), ("laptop", "upsala"));
}

#[test]
fn headers_decode_with_every_body() {
    for (name, sealer, body) in [
        ("header-inline", samples::plain(), samples::inline()),
        ("header-ranges", samples::plain(), Body::Ranges(samples::range_list())),
        ("header-lists", samples::plain(), samples::lists()),
        ("header-encrypted", samples::sealed(), samples::inline()),
    ] {
        let opened = sealer.open(ObjectKind::Backup, samples::HEADER_KEY, &golden(name), 1 << 20);
        let header = backup::decode(&opened.expect("opens"), name).expect("decodes");
        assert_eq!(header, samples::header(body), "{name}");
    }
}

#[test]
fn blobs_of_metadata_and_tables_decode() {
    let rows = range::decode(&golden("range"), Some(&golden("companion"))).expect("decodes");
    assert_eq!(rows, samples::rows());
    assert_eq!(range::decode_run_list(&golden("run-list")).expect("decodes"), samples::runs());
    let list = backup::decode_range_list(&golden("range-list")).expect("decodes");
    assert_eq!(list, samples::range_list());
    let table = |name: &str, of: &Table| Table::decode(&golden(name), &of.id()).expect("decodes");
    assert_eq!(table("table-whole", &samples::table()), samples::table());
    assert_eq!(table("table-short", &samples::short()), samples::short());
    assert_eq!(table("table-thinned", &samples::table()), samples::thinned());
}

#[test]
fn packs_are_read_from_their_ends() {
    for (name, keys) in [("pack", None), ("pack-encrypted", Some(samples::keys()))] {
        let mut bytes = golden(name);
        let made = samples::pack(keys.as_ref());
        let size = bytes.len();
        let cipher = pack::open_head(&made.id, &bytes, &samples::REPOSITORY, keys.as_ref());
        let cipher = cipher.expect("opens");
        let tail = &bytes[size - PACK_TAIL_BYTES..];
        let at = pack::footer_range(&made.id, size as u64, tail).expect("a footer");
        let footer = &mut bytes[at.start as usize..at.end as usize];
        let rows = pack::decode_footer(&made.id, &cipher, footer, at.start).expect("decodes");
        assert_eq!(rows, made.rows);
        for (row, text) in rows.iter().zip([&b"\0ice"[..], b"\0core"]) {
            let start = row.offset as usize;
            let stored = &mut bytes[start..start + row.length as usize];
            assert_eq!(cipher.open(Part::Block, row.number, stored).expect("opens"), text);
            let start = row.table_offset as usize;
            let stored = &mut bytes[start..start + row.table_length as usize];
            let table = cipher.open(Part::Table, row.number, stored).expect("opens");
            assert_eq!(Table::decode(table, &row.block).expect("decodes").places(), 1);
        }
    }
}

#[test]
fn parity_heals_its_pack() {
    for (name, sealer) in [("parity", samples::plain()), ("parity-encrypted", samples::sealed())] {
        let pack = samples::pack(sealer.keys());
        let key = samples::parity_key(&pack.id);
        let parity = Parity::open(&sealer, &key, &pack.id, &golden(name)).expect("opens");
        assert_eq!(parity.damage, None);
        assert!(parity.is_of(&pack.bytes).expect("tells"));
        let mut damaged = pack.bytes.clone();
        damaged[64..140].fill(0);
        assert_eq!(parity.heal(&damaged).expect("heals").bytes, pack.bytes, "{name}");
    }
}

#[test]
fn a_pack_index_is_read() {
    let sealer = samples::plain();
    let plain = sealer.open(ObjectKind::PackIndex, "", &golden("pack-index"), 1 << 20);
    let table = IndexTable::new(plain.expect("opens")).expect("sound");
    let made = samples::pack(None);
    assert_eq!(table.lease(), samples::LEASE);
    for row in &made.rows {
        let (pack, found) = table.find(&row.block).next().expect("there");
        assert_eq!((pack.pack, pack.salt), (made.id, samples::SALT));
        assert_eq!((found.offset, &found.hooks), (row.offset, &row.hooks));
    }
}

/// Returns what stands in the frame of an object that is not sealed.
fn body(kind: ObjectKind, name: &str) -> Vec<u8> {
    let bytes = golden(name);
    let frame = frame::open(kind, &bytes, name).expect("opens");
    assert_eq!((frame.version, frame.flags), (1, 0), "{name}");
    frame.body.to_vec()
}

/// Decodes with the mirror, and encodes again.
macro_rules! mirrored {
    ($type:ident, $bytes:expr) => {{
        let bytes: Vec<u8> = $bytes;
        let value = mirror::$type::decode(&bytes);
        assert_eq!(hex(&value.encode()), hex(&bytes), stringify!($type));
        value
    }};
}

fn time(at: icecore::base::time::Timestamp) -> mirror::Time {
    mirror::Time { seconds: at.seconds(), nanos: at.nanos() }
}

#[test]
fn another_decoder_reads_the_same_of_small_records() {
    let now = || time(samples::TIME);
    let dataset = Some(*samples::DATASET.as_bytes());
    let name = mirrored!(Name, body(ObjectKind::Name, "name"));
    assert_eq!(name, mirror::Name { name: "photos".into(), dataset, written: now() });
    let void = mirrored!(Void, body(ObjectKind::Void, "void"));
    assert_eq!((void.number, void.reason.as_str()), (7, "its writer is dead"));
    let hidden = mirrored!(Hidden, body(ObjectKind::Hidden, "hidden"));
    assert_eq!(hidden, mirror::Hidden { number: 7, written: now() });
    let tags = mirrored!(Tags, body(ObjectKind::Tags, "tags"));
    assert_eq!((tags.tags, tags.description), (samples::tags().tags, "before the move".into()));
    let floor = mirrored!(Floor, body(ObjectKind::Floor, "floor"));
    assert_eq!((floor.floor, floor.remaining), (300, vec![0, 250, 251]));
    let lease = mirrored!(Lease, body(ObjectKind::Lease, "lease"));
    assert_eq!((lease.number, lease.parent, lease.process.pid), (Some(7), Some(5), 4711));
    assert_eq!(lease.process.namespace, 4_026_531_836);
    let beat = mirrored!(Beat, body(ObjectKind::Beat, "beat"));
    assert_eq!(beat, mirror::Beat { lease: [0x33; 16], beat: 12 });
    for (kind, name) in [(ObjectKind::Revoke, "revoke"), (ObjectKind::Verdict, "verdict")] {
        let mark = mirrored!(Mark, body(kind, name));
        assert_eq!(mark, mirror::Mark { lease: [0x33; 16], by: "prune on upsala".into() });
    }
    let tombstone = mirrored!(Tombstone, body(ObjectKind::Tombstone, "tombstone"));
    assert_eq!((tombstone.packs, tombstone.indexes), (vec![[0x99; 32]], vec![[0xaa; 16]]));
    assert_eq!(tombstone.freed_bytes, 300);
    let lost = mirrored!(Lost, body(ObjectKind::Lost, "lost"));
    assert_eq!(lost.places, vec![vec![0, 300], vec![]]);
}

#[test]
fn another_decoder_reads_the_same_of_config_keys_and_headers() {
    let config = mirrored!(Config, body(ObjectKind::Config, "config"));
    assert_eq!((config.encryption, config.mac), (mirror::Encryption::None, [0; 32]));
    assert_eq!((config.block_bytes, config.pack_bytes), (1_048_576, 16_777_216));
    let config = mirrored!(Config, body(ObjectKind::Config, "config-encrypted"));
    assert_eq!((config.encryption, config.compression), (mirror::Encryption::Password, 3));
    let key = mirrored!(KeyFile, body(ObjectKind::Key, "key"));
    assert_eq!(key, samples::key_file());
    let about = samples::about(&key);
    assert_eq!((about.label.as_str(), about.host.as_str()), ("laptop", "upsala"));
    let header = mirrored!(Header, body(ObjectKind::Backup, "header-inline"));
    assert_eq!((header.number, header.parent, &header.chain), (7, Some(5), &vec![2, 5]));
    assert_eq!(header.started, time(samples::TIME));
    assert_eq!((header.counts.new_bytes, header.counts.bytes), (1 << 33, 70_000));
    let inline = mirror::Inline { range: vec![1, 2, 3], companion: vec![4, 5] };
    assert_eq!(header.body, mirror::Body::Inline(vec![inline]));
    let header = mirrored!(Header, body(ObjectKind::Backup, "header-ranges"));
    let list = mirrored!(RangeList, golden("range-list"));
    assert_eq!((list.blocks.len(), list.ranges[1].first.as_slice()), (64, &b"m/n"[..]));
    assert_eq!(list.ranges[1].companion, mirror::Place { block: 1, place: 252 });
    assert_eq!(header.body, mirror::Body::Ranges(list));
    assert_eq!(header.original, None);
    let header = mirrored!(Header, body(ObjectKind::Backup, "header-lists"));
    let original = header.original.as_ref().expect("it is a copy");
    assert_eq!((original.number, original.lease), (300, [0x34; 16]));
    let mirror::Body::Lists(lists) = header.body else { panic!("lists") };
    assert_eq!(lists.places[2], mirror::Place { block: 0, place: 300 });
}

#[test]
fn another_decoder_reads_the_same_of_blobs_tables_and_footers() {
    let range = mirrored!(Range, golden("range"));
    assert_eq!((range.rows.len(), range.blocks.len(), range.owners.len()), (9, 64, 1));
    let mirror::RowBody::Put { mode, mtime, node, xattrs, .. } = &range.rows[1].body else {
        panic!("a put")
    };
    let mirror::Node::File { size, content, .. } = node else { panic!("a file") };
    assert_eq!((*mode, *size, mtime.seconds), (0o644, 30_000, -5));
    assert_eq!(content.bytes, [20_000], "the last run's length is told by the file's");
    let second = mirror::Run { block_step: 1, place_step: 70, count: 1 };
    assert_eq!((&content.runs[1], xattrs[0].value.as_slice()), (&second, &b"blue"[..]));
    assert_eq!(range.rows[7].body, mirror::RowBody::Deleted);
    let companion = mirrored!(Companion, golden("companion"));
    assert_eq!((companion.rows.len(), companion.rows[0].inode_step), (8, 70_000 - 0o755));
    let runs = mirrored!(RunList, golden("run-list"));
    assert_eq!((runs.bytes, runs.runs[1].place_step), (vec![300, 70_000, 1], 0));
    let whole = mirrored!(Table, golden("table-whole"));
    assert_eq!((whole.places, whole.lengths.len(), whole.present.len()), (20, 20, 0));
    let short = mirrored!(Table, golden("table-short"));
    assert_eq!((short.places, short.names.len()), (20, 320));
    let thinned = mirrored!(Table, golden("table-thinned"));
    assert_eq!((thinned.places, thinned.dead_groups, thinned.lengths.len()), (20, vec![1], 16));
    assert_eq!(thinned.present, [4, 2, 0]);
    let bytes = golden("pack");
    let end = bytes.len() - PACK_TAIL_BYTES;
    let length = u32::from_le_bytes(bytes[end..end + 4].try_into().expect("four")) as usize;
    let footer = mirrored!(Footer, bytes[end - length..end].to_vec());
    assert_eq!((footer.blocks.len(), footer.blocks[0].offset), (2, 80));
    let parity = body(ObjectKind::Parity, "parity");
    let header = parity[8..16].try_into().map(u64::from_le_bytes).expect("eight") as usize;
    let header = frame::open(ObjectKind::Parity, &parity[..header], "header").expect("opens");
    let header = mirrored!(Parity, header.body.to_vec());
    assert_eq!((header.pack_bytes, header.shard_bytes, header.percent), (307, 64, 5));
    assert_eq!(header.checks.len(), (5 + 2) * 16);
}

#[test]
fn the_two_decoders_agree_on_every_length_of_integers() {
    for number in [0_u64, 250, 251, 65_535, 65_536, u32::MAX.into(), 1 << 32, u64::MAX] {
        let beat = mirror::Beat { lease: [0; 16], beat: number };
        let lease = icecore::base::id::LeaseId::new([0; 16]);
        let ours = icecore::format::lease::BeatRecord { lease, beat: number };
        assert_eq!(serial::encode(&ours).expect("encodes"), beat.encode(), "{number}");
    }
    for seconds in [0_i64, -1, 125, -126, 126, i64::MIN, i64::MAX] {
        let ours = icecore::base::time::Timestamp::new(seconds, 0);
        let bytes = serial::encode(&ours).expect("encodes");
        let written = time(ours);
        let hidden = mirror::Hidden { number: 0, written };
        assert_eq!(hidden.encode()[1..], bytes, "{seconds}");
    }
}

fn hex(bytes: &[u8]) -> String {
    icecore::base::id::to_hex(bytes)
}

/// The examples in the description of the format are the golden files.
#[test]
fn the_hex_in_the_description_is_that_of_the_golden_files() {
    let text = std::fs::read_to_string(
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/docs/format.md"),
    );
    let text = text.expect("reads");
    let mut shown = BTreeSet::new();
    let mut rest = text.as_str();
    while let Some((_, after)) = rest.split_once("```hex ") {
        let (name, after) = after.split_once('\n').expect("a line");
        let (block, after) = after.split_once("```").expect("an end");
        let digits: String = block.split_whitespace().collect();
        assert_eq!(digits, hex(&golden(name)), "{name}");
        shown.insert(name.to_owned());
        rest = after;
    }
    let all: BTreeSet<String> = samples::all().into_iter().map(|(n, _)| n.to_owned()).collect();
    assert_eq!(shown, all, "each object has an example");
}
