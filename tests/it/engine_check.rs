//! Check: what it says of every kind of object, damaged in every way, and of a sound repository.

use icecore::backend::key::ObjectKey;
use icecore::backend::memory::MemoryBackend;
use icecore::base::cancel::Cancel;
use icecore::base::error::ErrorKind;
use icecore::base::hash::Hasher;
use icecore::base::id::BackupId;
use icecore::base::id::LeaseId;
use icecore::base::id::SnapshotHash;
use icecore::base::id::TombstoneId;
use icecore::base::metadata::Detection;
use icecore::base::metadata::Metadata;
use icecore::base::path::EntryPath;
use icecore::base::progress::Silent;
use icecore::base::secret::Secret;
use icecore::base::sys::ProcessIdentity;
use icecore::base::time::FixedClock;
use icecore::base::time::Timestamp;
use icecore::codec::compress::Compressor;
use icecore::codec::frame::ObjectKind;
use icecore::codec::key::Argon2Cost;
use icecore::engine::Context;
use icecore::engine::check;
use icecore::engine::check::CheckOptions;
use icecore::engine::check::CheckReport;
use icecore::engine::check::Finding;
use icecore::engine::check::Severity;
use icecore::format::backup::Counts;
use icecore::format::backup::Header;
use icecore::format::dataset::HiddenRecord;
use icecore::format::dataset::LostRecord;
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
use icecore::format::range::Change;
use icecore::format::range::RangeRow;
use icecore::format::tombstone::TombstoneRecord;
use icecore::repository::Repository;
use icecore::repository::cache::CachePlace;
use icecore::repository::layout;
use icecore::repository::open;
use icecore::repository::open::CreateOptions;
use icecore::repository::packer::Packer;
use icecore::repository::ranges::BlockBuilder;
use icecore::repository::ranges::CLASS_CONTENT;
use icecore::repository::ranges::MetadataWriter;
use icecore::repository::ranges::RangeWriter;
use icecore::repository::transaction::Committed;
use icecore::repository::transaction::Transaction;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

const NOW: Timestamp = Timestamp::new(1_800_000_000, 0);
const PASSWORD: &[u8] = b"glacier";

type Tree = BTreeMap<EntryPath, Entry>;

/// A repository in memory, and what was put into it.
struct World {
    backend: Arc<MemoryBackend>,
    repository: Repository,
    is_encrypted: bool,
    caches: tempfile::TempDir,
    /// What each backup holds, by `name@n`.
    trees: BTreeMap<String, Tree>,
    seed: u8,
}

fn path(text: &str) -> EntryPath {
    EntryPath::new(text.as_bytes()).expect("a path")
}

fn name(text: &str) -> icecore::format::dataset::DatasetName {
    text.parse().expect("a name")
}

impl World {
    fn new(is_encrypted: bool) -> Self {
        let backend = Arc::new(MemoryBackend::new());
        let caches = tempfile::tempdir().expect("a folder");
        let options = CreateOptions {
            password: is_encrypted.then(|| Secret::new(PASSWORD.to_vec())),
            cost: Argon2Cost { memory_kib: 64, passes: 1, lanes: 1 },
            pack_bytes: 1024,
            ..CreateOptions::default()
        };
        let cache = CachePlace::Scratch(caches.path().into());
        let to: Arc<dyn icecore::backend::Backend> = Arc::clone(&backend) as _;
        let repository = open::create(to, &options, &cache, NOW).expect("creates");
        World { backend, repository, is_encrypted, caches, trees: BTreeMap::new(), seed: 0 }
    }

    /// A copy of all objects, opened with an empty cache.
    fn copy(&self) -> (Arc<MemoryBackend>, Repository) {
        let backend = Arc::new(self.backend.clone_state());
        let cache = CachePlace::Scratch(self.caches.path().into());
        let password = self.is_encrypted.then(|| Secret::new(PASSWORD.to_vec()));
        let to: Arc<dyn icecore::backend::Backend> = Arc::clone(&backend) as _;
        let repository = open::open(to, password.as_ref(), &cache).expect("opens");
        (backend, repository)
    }

    /// Bytes that do not compress and never come twice.
    fn content(&mut self, length: usize) -> Vec<u8> {
        self.seed += 1;
        let mut bytes = vec![0; length];
        icecore::base::hash::derive_into("test content", &[self.seed], &mut bytes);
        bytes
    }

    /// Writes a backup: `put` are paths that are new or other, each in a block and a pack of its
    /// own; `gone` are those deleted.
    fn back_up(&mut self, dataset: &str, full: bool, put: &[&str], gone: &[&str]) -> String {
        let contents: Vec<_> = put.iter().map(|path| (*path, self.content(1500))).collect();
        let set = self.repository.dataset_or_new(&name(dataset), NOW).expect("a dataset");
        let transaction = Transaction::begin(&set, NOW).expect("begins");
        let parent = transaction.parent().map(|parent| parent.backup().header.clone());
        let mut tree = parent
            .as_ref()
            .map(|parent| self.trees[&format!("{dataset}@{}", parent.number.0)].clone())
            .unwrap_or_default();
        let mut packer = Packer::start(&self.repository, transaction.lease_id()).expect("starts");
        let mut metadata = MetadataWriter::new(&transaction, &mut packer).expect("starts");
        let mut compressor = Compressor::new(3).expect("starts");
        let mut rows = BTreeMap::new();
        let root = entry("", EntryNode::Directory);
        if tree.insert(root.path.clone(), root.clone()).is_none() {
            rows.insert(root.path.clone(), Some(root));
        }
        for (at, content) in &contents {
            let mut block = BlockBuilder::new(CLASS_CONTENT);
            block.next_place(&transaction).expect("a place");
            block.plain.extend_from_slice(content);
            block.take_blob(self.repository.name_blob(content), content.len());
            let sealed = block.seal(&transaction, &mut compressor).expect("seals");
            let sealed = sealed.expect("not empty");
            let bytes = content.len() as u64;
            let run = Run { block: sealed.id, first: 0, count: 1, bytes };
            metadata.add_block(&sealed).expect("adds");
            let node = FileNode {
                size: bytes,
                cut: 0,
                hard_link: None,
                extents: None,
                content: Content::Runs(vec![run]),
            };
            let entry = entry(at, EntryNode::File(node));
            tree.insert(entry.path.clone(), entry.clone());
            rows.insert(entry.path.clone(), Some(entry));
        }
        for at in gone {
            tree.remove(&path(at)).expect("was there");
            rows.insert(path(at), None);
        }
        let is_full = full || parent.is_none();
        let mut ranges = RangeWriter::for_full_index();
        let all: BTreeMap<_, _> = tree.iter().map(|(p, e)| (p.clone(), Some(e.clone()))).collect();
        for (at, entry) in if is_full { all } else { rows } {
            let change = if is_full { Change::Present } else { Change::Added };
            let row = match entry {
                Some(entry) => {
                    RangeRow::Put(change, TrackedEntry { entry, detection: Detection::default() })
                }
                None => RangeRow::Deleted(at),
            };
            ranges.push(&row, &mut metadata).expect("pushes");
        }
        let body = ranges.finish(&mut metadata).expect("finishes");
        metadata.finish().expect("finishes");
        packer.finish().expect("finishes");
        let chain = match &parent {
            Some(parent) if !is_full => {
                parent.chain.iter().copied().chain([parent.number]).collect()
            }
            _ => Vec::new(),
        };
        let number = transaction.number();
        let (snapshot, counts) = summary(&tree);
        let header = Header {
            number,
            parent: parent.map(|parent| parent.number),
            lease: transaction.lease_id(),
            chain,
            host: "here".into(),
            source: "/there".into(),
            started: NOW,
            ended: NOW,
            counts,
            snapshot,
            tags: Vec::new(),
            description: String::new(),
            body,
        };
        assert!(matches!(transaction.commit(&header), Ok(Committed::Yes(_))));
        let label = format!("{dataset}@{}", number.0);
        self.trees.insert(label.clone(), tree);
        label
    }

    fn id(&self, dataset: &str) -> icecore::base::id::DatasetId {
        self.repository.dataset(&name(dataset)).expect("there").id()
    }

    fn header_key(&self, dataset: &str, n: u64) -> ObjectKey {
        layout::header(&self.id(dataset), BackupId(n)).expect("a key")
    }

    fn hide(&mut self, dataset: &str, n: u64) {
        let key = format!("{}.hidden", self.header_key(dataset, n));
        let key = ObjectKey::new(key).expect("a key");
        let record = HiddenRecord { number: n, written: NOW };
        self.repository.store().put(ObjectKind::Hidden, &key, &record).expect("puts");
        self.trees.remove(&format!("{dataset}@{n}"));
    }

    /// The pack that holds the content of a path in a backup.
    fn pack_of(&self, backup: &str, at: &str) -> ObjectKey {
        let entry = &self.trees[backup][&path(at)];
        let block = entry.file().expect("a file").content.direct()[0].block;
        let copies = self.repository.locate_block(&block).expect("located");
        layout::pack(&copies[0].pack.pack).expect("a key")
    }

    /// Which backups and paths have content in a pack: what a naive look at all trees says.
    fn users_of(&self, pack: &ObjectKey) -> (BTreeSet<String>, BTreeSet<String>) {
        let mut users = (BTreeSet::new(), BTreeSet::new());
        for (backup, tree) in &self.trees {
            for entry in tree.values().filter(|entry| entry.file().is_some()) {
                if self.pack_of(backup, &entry.path.to_string()) == *pack {
                    users.0.insert(backup.clone());
                    users.1.insert(entry.path.to_string());
                }
            }
        }
        users
    }
}

fn entry(at: &str, node: EntryNode) -> Entry {
    Entry { path: path(at), metadata: Metadata { mode: 0o644, ..Metadata::default() }, node }
}

fn summary(tree: &Tree) -> (SnapshotHash, Counts) {
    let mut hasher = Hasher::new();
    let mut counts = Counts { entries: tree.len() as u64, ..Counts::default() };
    for entry in tree.values() {
        entry.hash_into(&mut hasher, &mut Vec::new());
        counts.files += u64::from(entry.file().is_some());
        counts.bytes += entry.size();
    }
    (SnapshotHash::new(hasher.finish()), counts)
}

/// Two datasets, a chain with a branch that was forgotten, and shared content.
fn world(is_encrypted: bool) -> World {
    let mut world = World::new(is_encrypted);
    world.back_up("photos", true, &["a", "b", "c"], &[]);
    world.back_up("photos", false, &["d/e"], &["c"]);
    world.back_up("photos", false, &["f"], &[]);
    world.hide("photos", 2);
    world.back_up("photos", false, &["a"], &["b"]);
    world.back_up("photos", true, &["g", "h"], &[]);
    world.back_up("music", true, &["x"], &[]);
    world
}

/// Adds one of each small object that [`world`] has not.
fn add_small_objects(world: &World) {
    let store = world.repository.store();
    let photos = world.id("photos");
    let header = |n| world.header_key("photos", n);
    let (lease, process) = (LeaseId::new([0xaa; 16]), elsewhere());
    let record = LeaseRecord {
        lease,
        dataset: photos,
        number: None,
        parent: Some(BackupId(0)),
        process: process.clone(),
        taken: NOW,
        purpose: "mount".into(),
    };
    let key = layout::lease(&lease).expect("a key");
    store.put(ObjectKind::Lease, &key, &record).expect("puts");
    let key = layout::beat(&lease, 4).expect("a key");
    store.put(ObjectKind::Beat, &key, &BeatRecord { lease, beat: 4 }).expect("puts");
    let void = VoidRecord { number: 5, reason: "dead".into(), written: NOW };
    store.put(ObjectKind::Void, &header(5), &void).expect("puts");
    let key = ObjectKey::new(format!("{}.tags-0", header(0))).expect("a key");
    let tags = TagsRecord { number: 0, tags: vec![], description: String::new(), written: NOW };
    store.put(ObjectKind::Tags, &key, &tags).expect("puts");
    let tombstone = TombstoneId::new([0xbb; 16]);
    let record =
        TombstoneRecord { tombstone, packs: vec![], indexes: vec![], process, written: NOW };
    let key = layout::tombstone(&tombstone).expect("a key");
    store.put(ObjectKind::Tombstone, &key, &record).expect("puts");
}

fn elsewhere() -> ProcessIdentity {
    ProcessIdentity { host: "elsewhere".into(), boot: "x".into(), pid: 7, started: 1, namespace: 1 }
}

fn structure() -> CheckOptions {
    CheckOptions::default()
}

fn packs() -> CheckOptions {
    CheckOptions { read_packs: true, ..CheckOptions::default() }
}

fn data() -> CheckOptions {
    CheckOptions { read_data: Some(100.0), ..CheckOptions::default() }
}

fn try_check(
    repository: &Repository,
    options: &CheckOptions,
) -> icecore::base::error::Result<CheckReport> {
    let clock = FixedClock::new(NOW);
    let context = Context { progress: &Silent, cancel: &Cancel::new(), clock: &clock, threads: 2 };
    check::run(repository, options, &context)
}

fn run(repository: &Repository, options: &CheckOptions) -> CheckReport {
    try_check(repository, options).expect("damage is no error")
}

/// Damages one object of a copy and checks it.
fn check_with(
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

fn flip(backend: &MemoryBackend, key: &ObjectKey, at: usize) {
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
            let is_alike = |other: &[u8]| other.get(4) == bytes.get(4) && other != bytes.as_slice();
            bytes = objects.values().rev().find(|other| is_alike(other))?.clone();
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
                // A plain index does not say which object it is; what it named is missed.
                let is_other_index = matches!(way, Way::Replace)
                    && key.as_str().starts_with("index/")
                    && !is_encrypted;
                let object = if is_other_index { "index" } else { key.as_str() };
                let finding = find(&findings, object)
                    .unwrap_or_else(|| panic!("{way:?} of {key} is not seen: {findings:?}"));
                assert_eq!(finding.severity, Severity::Damage, "{way:?} {finding:?}");
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
                let text = "1 of its 1 blocks are damaged";
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
    let record =
        TombstoneRecord { tombstone, packs: vec![], indexes: vec![], process: dead, written: NOW };
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
    let block =
        world.trees["music@0"][&path("x")].file().expect("a file").content.direct()[0].block;
    let location = world.repository.locate_block(&block).expect("located").remove(0);
    let copy = world.repository.read_copy(&location).expect("reads");
    let mut stored = Vec::new();
    Compressor::new(3).expect("starts").compress(&copy.plain, &mut stored).expect("compresses");
    let mut packer = Packer::start(&world.repository, LeaseId::new([0; 16])).expect("starts");
    let table = (*copy.table).clone();
    packer
        .add(&icecore::format::pack::EncodedBlock { id: block, table, stored, class: 0 })
        .expect("adds");
    packer.finish().expect("finishes");

    let findings = check_with(&world, &data(), |b| flip(b, &key, 500));
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(findings[0].severity, Severity::Damage);
    assert!(findings[0].message.contains("another good copy exists"), "{findings:?}");
    assert!(findings[0].backups.is_empty());
    let findings = check_with(&world, &structure(), |b| lose(b, &key));
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(findings[0].backups.is_empty());
}

#[test]
fn samples_take_turns_until_all_is_covered() {
    let world = world(false);
    let key = world.pack_of("music@0", "x");
    flip(&world.backend, &key, 500);
    let options = CheckOptions { read_data: Some(25.0), ..CheckOptions::default() };
    let reports: Vec<_> = (0..5).map(|_| run(&world.repository, &options)).collect();
    assert!(reports.iter().any(|report| !report.is_ok()), "five quarters cover all");
    assert!(reports.iter().filter(|report| report.is_ok()).count() >= 3, "one quarter each");
    let note = find(&reports[0].findings, "packs").expect("a note");
    assert!(note.message.contains("are covered by this run"), "{}", note.message);
    for percent in [0.0, -1.0, 101.0, f64::NAN] {
        let options = CheckOptions { read_data: Some(percent), ..CheckOptions::default() };
        let error = try_check(&world.repository, &options).expect_err("makes no sense");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
}

#[test]
fn one_dataset_can_be_checked_alone() {
    let world = world(false);
    let pack = world.pack_of("photos@0", "a");
    let (backend, repository) = world.copy();
    flip(&backend, &pack, 500);
    let only = |dataset: &str| CheckOptions { dataset: Some(name(dataset)), ..data() };
    let music = run(&repository, &only("music"));
    assert!(music.is_ok());
    assert_eq!((music.datasets, music.backups), (1, 1));
    let photos = run(&repository, &only("photos"));
    assert_eq!(photos.findings[0].object, pack.as_str());
    let error = try_check(&repository, &only("nothing")).expect_err("is not there");
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[test]
fn a_cancelled_check_stops() {
    let world = world(false);
    let cancel = Cancel::new();
    cancel.cancel();
    let clock = FixedClock::new(NOW);
    let context = Context { progress: &Silent, cancel: &cancel, clock: &clock, threads: 2 };
    let error = check::run(&world.repository, &data(), &context).expect_err("cancelled");
    assert_eq!(error.kind(), ErrorKind::Cancelled);
}
