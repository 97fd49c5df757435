//! A repository built by hand, block by block, so that every file has a pack of its own.

use icecore::backend::Backend;
use icecore::backend::key::ObjectKey;
use icecore::backend::memory::MemoryBackend;
use icecore::base::id::BackupId;
use icecore::base::id::LeaseId;
use icecore::base::id::PackId;
use icecore::base::id::SnapshotHash;
use icecore::base::id::TombstoneId;
use icecore::base::metadata::Detection;
use icecore::base::metadata::Metadata;
use icecore::base::path::EntryPath;
use icecore::base::secret::Secret;
use icecore::base::sys::ProcessIdentity;
use icecore::base::time::Timestamp;
use icecore::codec::compress::Compressor;
use icecore::codec::frame::ObjectKind;
use icecore::codec::key::Argon2Cost;
use icecore::format::backup::Body;
use icecore::format::backup::Counts;
use icecore::format::backup::Header;
use icecore::format::dataset::HiddenRecord;
use icecore::format::dataset::TagsRecord;
use icecore::format::dataset::VoidRecord;
use icecore::format::entry::Content;
use icecore::format::entry::Entry;
use icecore::format::entry::EntryNode;
use icecore::format::entry::FileNode;
use icecore::format::entry::Run;
use icecore::format::entry::TrackedEntry;
use icecore::format::entry::snapshot_hasher;
use icecore::format::lease::BeatRecord;
use icecore::format::lease::LeaseRecord;
use icecore::format::pack::EncodedBlock;
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

pub(crate) const NOW: Timestamp = Timestamp::new(1_800_000_000, 0);
pub(crate) const PASSWORD: &[u8] = b"glacier";

pub(crate) type Tree = BTreeMap<EntryPath, Entry>;

/// A repository in memory, and what was put into it.
pub(crate) struct World {
    pub(crate) backend: Arc<MemoryBackend>,
    pub(crate) repository: Repository,
    is_encrypted: bool,
    pub(crate) caches: tempfile::TempDir,
    /// What each backup holds, by `name@n`.
    pub(crate) trees: BTreeMap<String, Tree>,
    seed: u8,
}

pub(crate) fn path(text: &str) -> EntryPath {
    EntryPath::new(text.as_bytes()).expect("a path")
}

pub(crate) fn name(text: &str) -> icecore::format::dataset::DatasetName {
    text.parse().expect("a name")
}

impl World {
    pub(crate) fn new(is_encrypted: bool) -> Self {
        let backend = Arc::new(MemoryBackend::new());
        let caches = tempfile::tempdir().expect("a folder");
        let options = CreateOptions {
            password: is_encrypted.then(|| Secret::new(PASSWORD.to_vec())),
            cost: Argon2Cost { memory_kib: 64, passes: 1, lanes: 1 },
            pack_bytes: 1024,
            ..CreateOptions::default()
        };
        let cache = CachePlace::Scratch(caches.path().into());
        let to: Arc<dyn Backend> = Arc::clone(&backend) as _;
        let repository = open::create(to, &options, &cache, NOW).expect("creates");
        World { backend, repository, is_encrypted, caches, trees: BTreeMap::new(), seed: 0 }
    }

    /// A copy of all objects, opened with an empty cache.
    pub(crate) fn copy(&self) -> (Arc<MemoryBackend>, Repository) {
        self.copy_within(|backend| backend)
    }

    /// The same with something around the store.
    pub(crate) fn copy_within(
        &self,
        wrap: impl FnOnce(Arc<dyn Backend>) -> Arc<dyn Backend>,
    ) -> (Arc<MemoryBackend>, Repository) {
        let backend = Arc::new(self.backend.clone_state());
        let cache = CachePlace::Scratch(self.caches.path().into());
        let password = self.is_encrypted.then(|| Secret::new(PASSWORD.to_vec()));
        let to = wrap(Arc::clone(&backend) as _);
        let repository = open::open(to, password.as_ref(), &cache).expect("opens");
        (backend, repository)
    }

    /// Bytes that do not compress and never come twice.
    pub(crate) fn content(&mut self, length: usize) -> Vec<u8> {
        self.seed += 1;
        let mut bytes = vec![0; length];
        icecore::base::hash::derive_into("test content", &[self.seed], &mut bytes);
        bytes
    }

    /// Writes a backup: `put` are paths that are new or other, each in a block and a pack of its
    /// own; `gone` are those deleted.
    pub(crate) fn back_up(
        &mut self,
        dataset: &str,
        full: bool,
        put: &[&str],
        gone: &[&str],
    ) -> String {
        let set = self.repository.dataset_or_new(&name(dataset), NOW).expect("a dataset");
        let transaction = Transaction::begin(&set, NOW).expect("begins");
        let parent = transaction.parent().map(|parent| parent.backup().header.clone());
        let before = parent.as_ref().map(|parent| format!("{dataset}@{}", parent.number.0));
        let mut tree = before.map(|before| self.trees[&before].clone()).unwrap_or_default();
        let mut metadata = MetadataWriter::new(&transaction).expect("starts");
        let mut rows = BTreeMap::new();
        let root = entry("", EntryNode::Directory);
        if tree.insert(root.path.clone(), root.clone()).is_none() {
            rows.insert(root.path.clone(), Some(root));
        }
        for at in put {
            let entry = self.store_file(&transaction, &mut metadata, at);
            tree.insert(entry.path.clone(), entry.clone());
            rows.insert(entry.path.clone(), Some(entry));
        }
        for at in gone {
            tree.remove(&path(at)).expect("was there");
            rows.insert(path(at), None);
        }
        let is_full = full || parent.is_none();
        if is_full {
            rows = tree.iter().map(|(path, entry)| (path.clone(), Some(entry.clone()))).collect();
        }
        let body = write_rows(&mut metadata, rows, is_full);
        metadata.finish().expect("finishes");
        let header = header_of(&transaction, parent, is_full, &tree, body);
        let label = format!("{dataset}@{}", header.number.0);
        assert!(matches!(transaction.commit(&header), Ok(Committed::Yes(_))));
        self.trees.insert(label.clone(), tree);
        label
    }

    pub(crate) fn store_file(
        &mut self,
        transaction: &Transaction,
        metadata: &mut MetadataWriter<'_>,
        at: &str,
    ) -> Entry {
        let content = self.content(1500);
        let mut block = BlockBuilder::new(CLASS_CONTENT);
        block.next_place(transaction).expect("a place");
        block.room(content.len()).copy_from_slice(&content);
        block.take_blob(self.repository.name_blob(&content), content.len());
        let mut compressor = Compressor::new(3).expect("starts");
        let sealed = block.seal(transaction, &mut compressor).expect("seals").expect("not empty");
        let bytes = content.len() as u64;
        let run = Run { block: sealed.id, first: 0, count: 1, bytes };
        metadata.add_block(sealed).expect("adds");
        let content = Content::Runs(vec![run]);
        let node = FileNode { size: bytes, cut: 0, hard_link: None, extents: None, content };
        entry(at, EntryNode::File(node))
    }

    pub(crate) fn id(&self, dataset: &str) -> icecore::base::id::DatasetId {
        self.repository.dataset(&name(dataset)).expect("there").id()
    }

    pub(crate) fn header_key(&self, dataset: &str, n: u64) -> ObjectKey {
        layout::header(&self.id(dataset), BackupId(n)).expect("a key")
    }

    pub(crate) fn hide(&mut self, dataset: &str, n: u64) {
        let key = format!("{}.hidden", self.header_key(dataset, n));
        let key = ObjectKey::new(key).expect("a key");
        let record = HiddenRecord { number: n, written: NOW };
        self.repository.store().put(ObjectKind::Hidden, &key, &record).expect("puts");
        self.trees.remove(&format!("{dataset}@{n}"));
    }

    /// The pack that holds the content of a path in a backup.
    pub(crate) fn pack_of(&self, backup: &str, at: &str) -> ObjectKey {
        let entry = &self.trees[backup][&path(at)];
        let block = entry.file().expect("a file").content.direct()[0].block;
        let copies = self.repository.locate_block(&block).expect("located");
        layout::pack(&copies[0].pack.pack).expect("a key")
    }

    /// Puts every block of a pack into another pack as well, with an index of its own.
    pub(crate) fn copy_blocks_of(&self, pack: &PackId) {
        let index = self.repository.index();
        let mut packer = Packer::start(&self.repository, LeaseId::new([0; 16])).expect("starts");
        let mut compressor = Compressor::new(3).expect("starts");
        let mut copies = Vec::new();
        for id in index.ids() {
            let visited = index.visit(&id, &mut |location| {
                copies.extend((location.pack.pack == *pack).then_some(location));
                Ok(())
            });
            visited.expect("visits");
        }
        for location in copies {
            let copy = self.repository.read_copy(&location).expect("reads");
            let mut stored = Vec::new();
            compressor.compress(&copy.plain, &mut stored).expect("compresses");
            let (id, class) = (location.row.block, location.row.class);
            let table = (*copy.table).clone();
            packer.add(EncodedBlock { id, table, stored, class }).expect("adds");
        }
        packer.finish().expect("finishes");
    }

    /// Which backups and paths have content in a pack: what a naive look at all trees says.
    pub(crate) fn users_of(&self, pack: &ObjectKey) -> (BTreeSet<String>, BTreeSet<String>) {
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

pub(crate) fn entry(at: &str, node: EntryNode) -> Entry {
    Entry { path: path(at), metadata: Metadata { mode: 0o644, ..Metadata::default() }, node }
}

pub(crate) fn write_rows(
    metadata: &mut MetadataWriter<'_>,
    rows: BTreeMap<EntryPath, Option<Entry>>,
    is_full: bool,
) -> Body {
    let mut ranges = RangeWriter::for_full_index();
    let change = if is_full { Change::Present } else { Change::Added };
    for (at, entry) in rows {
        let detection = Detection::default();
        let row = match entry {
            Some(entry) => RangeRow::Put(change, TrackedEntry { entry, detection }),
            None => RangeRow::Deleted(at),
        };
        ranges.push(&row, metadata).expect("pushes");
    }
    ranges.finish(metadata).expect("finishes")
}

pub(crate) fn header_of(
    transaction: &Transaction,
    parent: Option<Header>,
    is_full: bool,
    tree: &Tree,
    body: Body,
) -> Header {
    let chain = match &parent {
        Some(parent) if !is_full => parent.chain.iter().copied().chain([parent.number]).collect(),
        _ => Vec::new(),
    };
    let (snapshot, counts) = summary(tree);
    Header {
        dataset: transaction.dataset().id(),
        number: transaction.number(),
        parent: parent.map(|parent| parent.number),
        lease: transaction.lease_id(),
        chain,
        host: "here".into(),
        source: "/there".into(),
        started: NOW,
        read_from: NOW,
        ended: NOW,
        counts,
        snapshot,
        tags: Vec::new(),
        description: String::new(),
        original: None,
        body,
    }
}

pub(crate) fn summary(tree: &Tree) -> (SnapshotHash, Counts) {
    let mut hasher = snapshot_hasher();
    let mut counts = Counts { entries: tree.len() as u64, ..Counts::default() };
    for entry in tree.values() {
        entry.hash_into(&mut hasher, &mut Vec::new());
        counts.files += u64::from(entry.file().is_some());
        counts.bytes += entry.size();
    }
    (SnapshotHash::new(hasher.finish()), counts)
}

/// Two datasets, a chain with a branch that was forgotten, and shared content.
pub(crate) fn world(is_encrypted: bool) -> World {
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
pub(crate) fn add_small_objects(world: &World) {
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
    let record = TombstoneRecord {
        tombstone,
        packs: vec![],
        indexes: vec![],
        freed_bytes: 0,
        process,
        written: NOW,
    };
    let key = layout::tombstone(&tombstone).expect("a key");
    store.put(ObjectKind::Tombstone, &key, &record).expect("puts");
}

pub(crate) fn elsewhere() -> ProcessIdentity {
    ProcessIdentity { host: "elsewhere".into(), boot: "x".into(), pid: 7, started: 1, namespace: 1 }
}
