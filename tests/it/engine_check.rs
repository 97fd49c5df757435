//! Check: what it says of every kind of object, damaged in every way, and of a sound repository.

use crate::engine_check::world::NOW;
use crate::engine_check::world::World;
use crate::engine_check::world::add_small_objects;
use crate::engine_check::world::name;
use crate::engine_check::world::world;
use icecore::backend::key::ObjectKey;
use icecore::backend::memory::MemoryBackend;
use icecore::base::cancel::Cancel;
use icecore::base::id::BackupId;
use icecore::base::id::LeaseId;
use icecore::base::id::SnapshotHash;
use icecore::base::id::TombstoneId;
use icecore::base::progress::Silent;
use icecore::base::sys::ProcessIdentity;
use icecore::base::time::FixedClock;
use icecore::codec::frame::ObjectKind;
use icecore::engine::Context;
use icecore::engine::check;
use icecore::engine::check::CheckOptions;
use icecore::engine::check::CheckReport;
use icecore::engine::check::Finding;
use icecore::engine::check::Severity;
use icecore::format::dataset::LostRecord;
use icecore::format::lease::BeatRecord;
use icecore::format::lease::LeaseRecord;
use icecore::format::tombstone::TombstoneRecord;
use icecore::repository::Repository;
use icecore::repository::layout;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

mod backups;
mod beside;
mod blind;
mod sample;
pub(crate) mod world;

pub(crate) fn structure() -> CheckOptions {
    CheckOptions::default()
}

pub(crate) fn packs() -> CheckOptions {
    CheckOptions { read_packs: true, ..CheckOptions::default() }
}

pub(crate) fn data() -> CheckOptions {
    CheckOptions { read_data: Some(100.0), ..CheckOptions::default() }
}

pub(crate) fn try_check(
    repository: &Repository,
    options: &CheckOptions,
) -> icecore::base::error::Result<CheckReport> {
    let clock = FixedClock::new(NOW);
    let context = Context { progress: &Silent, cancel: &Cancel::new(), clock: &clock, threads: 2 };
    check::run(repository, options, &context)
}

pub(crate) fn run(repository: &Repository, options: &CheckOptions) -> CheckReport {
    try_check(repository, options).expect("damage is no error")
}

/// Damages one object of a copy and checks it.
pub(crate) fn check_with(
    world: &World,
    options: &CheckOptions,
    damage: impl Fn(&MemoryBackend),
) -> Vec<Finding> {
    let (backend, repository) = world.copy();
    damage(&backend);
    run(&repository, options).findings
}

fn find<'a>(findings: &'a [Finding], object: &str) -> Option<&'a Finding> {
    findings.iter().find(|finding| finding.object == object)
}

pub(crate) fn flip(backend: &MemoryBackend, key: &ObjectKey, at: usize) {
    let mut bytes = backend.objects()[key].clone();
    let at = at % bytes.len();
    bytes[at] ^= 0x10;
    backend.insert_raw(key, bytes);
}

fn lose(backend: &MemoryBackend, key: &ObjectKey) {
    assert!(backend.remove_raw(key), "{key} was there");
}

fn set(list: &[String]) -> BTreeSet<String> {
    list.iter().cloned().collect()
}

#[test]
fn a_sound_repository_has_no_findings_at_any_depth() {
    for is_encrypted in [false, true] {
        let world = world(is_encrypted);
        add_small_objects(&world);
        for options in [structure(), packs(), data()] {
            let (backend, repository) = world.copy();
            let report = run(&repository, &options);
            assert_eq!(report.findings, []);
            assert!(report.is_ok());
            assert_eq!((report.datasets, report.backups), (2, 5));
            assert_eq!(report.blocks, report.packs, "every block has a pack of its own");
            let reads_data = options.read_data.is_some();
            assert_eq!(report.blobs > 0, reads_data);
            assert_eq!(backend.objects().len(), world.backend.objects().len(), "leaves nothing");
        }
    }
}

#[test]
fn an_empty_repository_is_sound() {
    let world = World::new(false);
    assert_eq!(run(&world.repository, &data()).findings, []);
}

/// What a kind of object is damaged to.
#[derive(Clone, Copy, Debug)]
enum Way {
    Flip(usize),
    Truncate,
    Append,
    Replace,
}

const WAYS: [Way; 8] = [
    Way::Flip(3),
    Way::Flip(9),
    Way::Flip(40),
    Way::Flip(200),
    Way::Flip(usize::MAX),
    Way::Truncate,
    Way::Append,
    Way::Replace,
];

/// Returns the damaged bytes; None when there is no other object of the kind.
fn damaged(objects: &BTreeMap<ObjectKey, Vec<u8>>, key: &ObjectKey, way: Way) -> Option<Vec<u8>> {
    let mut bytes = objects[key].clone();
    match way {
        Way::Flip(at) => {
            let at = at.min(bytes.len() - 1);
            bytes[at] ^= 0x10;
        }
        Way::Truncate => bytes.truncate(bytes.len() - 1),
        Way::Append => bytes.push(0),
        Way::Replace => {
            // Without encryption a header does not say which dataset it belongs to, so that of
            // another dataset with the same number is beyond what check can see.
            let line = |key: &ObjectKey| {
                let parts: Vec<&str> = key.as_str().splitn(4, '/').collect();
                if parts[0] == "datasets" { parts[2].to_owned() } else { parts[0].to_owned() }
            };
            let is_alike = |other: &ObjectKey| {
                let there = &objects[other];
                line(other) == line(key) && there.get(4) == bytes.get(4) && *there != bytes
            };
            let other = objects.keys().rev().find(|other| is_alike(other))?;
            bytes = objects[other].clone();
        }
    }
    Some(bytes)
}

#[test]
fn every_kind_of_object_damaged_in_every_way_is_named() {
    for is_encrypted in [false, true] {
        let world = world(is_encrypted);
        add_small_objects(&world);
        let objects = world.backend.objects();
        let mut kinds = BTreeSet::new();
        for key in objects.keys() {
            kinds.insert(objects[key][4]);
            let is_pack = key.as_str().starts_with("packs/");
            for way in WAYS {
                let Some(bytes) = damaged(&objects, key, way) else { continue };
                let depth = if is_pack { packs() } else { structure() };
                let findings = check_with(&world, &depth, |b| b.insert_raw(key, bytes.clone()));
                // A plain index does not say which object it is; the blocks that it named are
                // missed, if anybody needs them.
                let is_index = key.as_str().starts_with("index/");
                if matches!(way, Way::Replace) && is_index && !is_encrypted {
                    continue;
                }
                let finding = find(&findings, key.as_str())
                    .unwrap_or_else(|| panic!("{way:?} of {key} is not seen: {findings:?}"));
                // Nobody needs the header of what is forgotten.
                let is_forgotten = *key == world.header_key("photos", 2);
                let expected = if is_forgotten { Severity::Garbage } else { Severity::Damage };
                assert_eq!(finding.severity, expected, "{way:?} {finding:?}");
            }
        }
        // Config, key, name, backup, void, hidden, tags, lease, beat, tombstone, pack, index.
        assert_eq!(kinds.len(), if is_encrypted { 12 } else { 11 });
    }
}

#[test]
fn a_pack_whose_content_is_damaged_names_the_backups_and_paths_that_suffer() {
    for is_encrypted in [false, true] {
        let world = world(is_encrypted);
        for (backup, at) in
            [("photos@0", "a"), ("photos@0", "c"), ("photos@1", "d/e"), ("music@0", "x")]
        {
            let key = world.pack_of(backup, at);
            let (backups, paths) = world.users_of(&key);
            let damage = |b: &MemoryBackend| flip(b, &key, 500);
            assert_eq!(check_with(&world, &structure(), damage), [], "not seen by structure");
            for options in [packs(), data()] {
                let findings = check_with(&world, &options, damage);
                assert_eq!(findings.len(), 1, "{findings:?}");
                assert_eq!(findings[0].object, key.as_str());
                assert_eq!(set(&findings[0].backups), backups);
                assert_eq!(set(&findings[0].paths), paths);
                let text = "1 of its 1 block is damaged";
                assert!(findings[0].message.contains(text), "{}", findings[0].message);
            }
        }
    }
}

#[test]
fn a_pack_that_is_gone_or_cut_short_is_seen_by_structure_with_those_who_suffer() {
    let world = world(false);
    let key = world.pack_of("photos@0", "b");
    let (backups, paths) = world.users_of(&key);
    let bytes = world.backend.objects()[&key].clone();
    let gone = check_with(&world, &structure(), |b| lose(b, &key));
    let cut =
        check_with(&world, &structure(), |b| b.insert_raw(&key, bytes[..bytes.len() / 2].to_vec()));
    for findings in [gone, cut] {
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert_eq!(set(&findings[0].backups), backups);
        assert_eq!(set(&findings[0].paths), paths);
    }
}

#[test]
fn a_pack_of_forgotten_content_that_is_gone_hurts_nobody() {
    let world = world(false);
    let (backend, repository) = world.copy();
    let users: Vec<ObjectKey> = backend
        .objects()
        .into_keys()
        .filter(|key| key.as_str().starts_with("packs/") && world.users_of(key).0.is_empty())
        .collect();
    // Those of metadata are among them; the one with the content of `f` is needed by nobody.
    let harmless: Vec<_> = users
        .iter()
        .map(|key| check_with(&world, &structure(), |b| lose(b, key)))
        .filter(|findings| findings[0].backups.is_empty())
        .collect();
    assert!(!harmless.is_empty());
    assert!(harmless.iter().all(|findings| findings.len() == 1));
    assert!(run(&repository, &structure()).is_ok());
}

#[test]
fn damaged_metadata_names_the_backups_that_are_replayed_from_it() {
    for is_encrypted in [false, true] {
        let world = world(is_encrypted);
        let dataset = world.repository.dataset(&name("photos")).expect("there");
        let numbers = dataset.all_numbers().expect("lists");
        let first = dataset.backup(&numbers, BackupId(0)).expect("reads").expect("there");
        let icecore::format::backup::Body::Ranges(ranges) = &first.header.body else {
            panic!("a full index has ranges")
        };
        let copies = world.repository.locate_block(&ranges[0].range.block).expect("located");
        let key = layout::pack(&copies[0].pack.pack).expect("a key");
        for damage in [flip_at(&key, 100), Box::new(|b: &MemoryBackend| lose(b, &key))] {
            let findings = check_with(&world, &structure(), damage);
            let finding = find(&findings, key.as_str()).expect("named");
            assert_eq!(finding.backups, ["photos@0", "photos@1", "photos@3"], "{findings:?}");
            assert_eq!(finding.paths, [""]);
        }
    }
}

fn flip_at(key: &ObjectKey, at: usize) -> Box<dyn Fn(&MemoryBackend) + '_> {
    Box::new(move |backend| flip(backend, key, at))
}

#[test]
fn a_gap_names_its_number_and_the_backups_that_need_it() {
    let world = world(true);
    let key = world.header_key("photos", 1);
    let findings = check_with(&world, &structure(), |b| lose(b, &key));
    let finding = find(&findings, key.as_str()).expect("named");
    assert!(finding.message.contains("number 1 is missing"), "{}", finding.message);
    assert_eq!(finding.backups, ["photos@1", "photos@3"]);
    assert_eq!(findings.len(), 1, "{findings:?}");
}

#[test]
fn a_damaged_header_hides_no_other() {
    let world = world(false);
    let key = world.header_key("photos", 0);
    let pack = world.pack_of("photos@4", "g");
    let findings = check_with(&world, &structure(), |b| {
        flip(b, &key, 90);
        b.remove_raw(&pack);
    });
    let finding = find(&findings, key.as_str()).expect("named");
    assert_eq!(finding.backups, ["photos@0", "photos@1", "photos@3"]);
    let finding = find(&findings, pack.as_str()).expect("named");
    assert_eq!(finding.backups, ["photos@4"]);
    assert_eq!(finding.paths, ["g"]);
}

#[test]
fn the_newest_header_is_missed_where_it_was_seen_before() {
    let world = world(false);
    let key = world.header_key("photos", 4);
    assert_eq!(check_with(&world, &structure(), |b| lose(b, &key)), []);
    world.backend.remove_raw(&key);
    let findings = run(&world.repository, &structure()).findings;
    assert_eq!(findings[0].object, key.as_str());
    assert_eq!(findings[0].backups, ["photos@4"]);
}

#[test]
fn the_store_is_asked_and_not_the_cache() {
    let world = world(true);
    let key = world.header_key("music", 0);
    let dataset = world.repository.dataset(&name("music")).expect("there");
    assert_eq!(dataset.backups().expect("reads").len(), 1, "and keeps them in the cache");
    flip(&world.backend, &key, 90);
    let findings = run(&world.repository, &structure()).findings;
    assert_eq!(findings[0].object, key.as_str());
    assert_eq!(findings[0].backups, ["music@0"]);
}

#[test]
fn lost_and_damaged_indexes_name_who_suffers() {
    let world = world(false);
    let pack = world.pack_of("music@0", "x");
    let objects = world.backend.objects();
    // Backups have an index each; that of the music is the one whose loss music notices.
    for key in objects.keys().filter(|key| key.as_str().starts_with("index/")) {
        let gone = check_with(&world, &structure(), |b| lose(b, key));
        let flipped = check_with(&world, &structure(), |b| flip(b, key, 300));
        let garbage = find(&gone, pack.as_str());
        let of_gone = find(&gone, "index").map(|finding| &finding.backups);
        let of_flipped = find(&flipped, key.as_str()).expect("named");
        assert_eq!(of_gone.cloned().unwrap_or_default(), of_flipped.backups);
        assert_eq!(garbage.is_some(), of_flipped.backups == ["music@0"]);
        assert!(garbage.is_none_or(|finding| finding.severity == Severity::Garbage));
    }
}

#[test]
fn a_dataset_whose_name_is_gone_is_still_checked() {
    let world = world(false);
    let keys = world.backend.objects();
    let id = world.id("music").to_string();
    let mut seen = 0;
    for key in keys.keys().filter(|key| key.as_str().starts_with("names/")) {
        let findings = check_with(&world, &structure(), |b| lose(b, key));
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert!(findings[0].message.contains("no name leads"), "{}", findings[0].message);
        seen += usize::from(findings[0].backups == [format!("{id}@0")]);
        let findings = check_with(&world, &structure(), |b| flip(b, key, 60));
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert!(!findings[0].backups.is_empty());
    }
    assert_eq!(seen, 1);
}

#[test]
fn the_last_key_slot_is_missed() {
    let world = world(true);
    let keys = world.backend.objects();
    let slot = keys.keys().find(|key| key.as_str().starts_with("keys/")).expect("a slot");
    let findings = check_with(&world, &structure(), |b| lose(b, slot));
    assert_eq!(findings.len(), 1);
    assert_eq!((findings[0].object.as_str(), findings[0].severity), ("keys", Severity::Damage));
}

#[test]
fn what_a_dead_run_left_is_garbage_and_no_damage() {
    let world = world(false);
    let mut dead = ProcessIdentity::current();
    dead.boot = "another".into();
    let store = world.repository.store();
    let lease = LeaseId::new([1; 16]);
    let record = LeaseRecord {
        lease,
        dataset: world.id("music"),
        number: Some(BackupId(1)),
        parent: Some(BackupId(0)),
        process: dead.clone(),
        taken: NOW,
        purpose: "backup of music".into(),
    };
    let lease_key = layout::lease(&lease).expect("a key");
    store.put(ObjectKind::Lease, &lease_key, &record).expect("puts");
    let orphan = LeaseId::new([2; 16]);
    let beat_key = layout::beat(&orphan, 1).expect("a key");
    store.put(ObjectKind::Beat, &beat_key, &BeatRecord { lease: orphan, beat: 1 }).expect("puts");
    let tombstone = TombstoneId::new([3; 16]);
    let record = TombstoneRecord {
        tombstone,
        packs: vec![],
        indexes: vec![],
        freed_bytes: 0,
        process: dead,
        written: NOW,
    };
    let tombstone_key = layout::tombstone(&tombstone).expect("a key");
    store.put(ObjectKind::Tombstone, &tombstone_key, &record).expect("puts");
    let lost_key = ObjectKey::new(format!("lost/{}", TombstoneId::new([4; 16]))).expect("a key");
    let lost = LostRecord { blocks: vec![0; 32], places: vec![vec![]], written: NOW };
    store.put(ObjectKind::Lost, &lost_key, &lost).expect("puts");
    let foreign = ObjectKey::new("packs/readme.txt").expect("a key");
    world.backend.insert_raw(&foreign, b"hello".to_vec());

    let (_, repository) = world.copy();
    let report = run(&repository, &data());

    assert!(report.is_ok());
    let severity = |key: &ObjectKey| find(&report.findings, key.as_str()).expect("named").severity;
    for key in [&lease_key, &beat_key, &tombstone_key] {
        assert_eq!(severity(key), Severity::Garbage, "{key}");
    }
    for key in [&lost_key, &foreign] {
        assert_eq!(severity(key), Severity::Note, "{key}");
    }
    assert_eq!(report.findings.len(), 5);
}

#[test]
fn a_header_that_tells_wrong_counts_or_another_hash_is_damage() {
    let mut world = World::new(false);
    world.back_up("photos", true, &["a"], &[]);
    let dataset = world.repository.dataset(&name("photos")).expect("there");
    let numbers = dataset.all_numbers().expect("lists");
    let backup = dataset.backup(&numbers, BackupId(0)).expect("reads").expect("there");
    let mut header = backup.header.clone();
    header.counts.entries += 1;
    header.snapshot = SnapshotHash::new([1; 32]);
    let key = world.header_key("photos", 0);
    let plain = icecore::format::backup::encode(&header).expect("encodes");
    let sealer = world.repository.store().sealer();
    let bytes = sealer.seal(ObjectKind::Backup, key.as_str(), &plain).expect("seals");
    let findings = check_with(&world, &structure(), |b| b.insert_raw(&key, bytes.clone()));
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0].backups, ["photos@0"]);
    for text in ["3 entries, and a replay gives 2", "the hash over its entries"] {
        assert!(findings[0].message.contains(text), "{}", findings[0].message);
    }
}

#[test]
fn another_good_copy_of_a_block_spares_the_backups() {
    let world = world(false);
    let key = world.pack_of("music@0", "x");
    let pack = key.name().parse().expect("an id");
    world.copy_blocks_of(&pack);

    let findings = check_with(&world, &data(), |b| flip(b, &key, 500));
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(findings[0].severity, Severity::Damage);
    assert!(findings[0].message.contains("another good copy exists"), "{findings:?}");
    assert!(findings[0].backups.is_empty());
    let findings = check_with(&world, &structure(), |b| lose(b, &key));
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(findings[0].backups.is_empty());
}
