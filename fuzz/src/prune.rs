//! What a prune keeps, against a map of what every backup held.
//!
//! A run is steps of one or two bytes: a file changes or goes, a backup is made, one is forgotten,
//! a prune runs. After each prune all that was not forgotten reads back; in the end nothing that
//! is needed is missing, and nothing is stored that no backup needs.

use icecore::backend::memory::MemoryBackend;
use icecore::base::cancel::Cancel;
use icecore::base::id::BackupId;
use icecore::base::id::BlobId;
use icecore::base::id::PackId;
use icecore::base::metadata::Kind;
use icecore::base::path::EntryPath;
use icecore::base::progress::Silent;
use icecore::base::time::FixedClock;
use icecore::base::time::Timestamp;
use icecore::codec::crypt::Part;
use icecore::engine::Context;
use icecore::engine::backup;
use icecore::engine::backup::BackupOptions;
use icecore::engine::check;
use icecore::engine::check::CheckOptions;
use icecore::engine::forget;
use icecore::engine::forget::Selection;
use icecore::engine::list;
use icecore::engine::list::Depth;
use icecore::engine::prune;
use icecore::engine::prune::PruneOptions;
use icecore::format::block::Table;
use icecore::format::dataset::DatasetName;
use icecore::format::pack;
use icecore::format::pack::PACK_TAIL_BYTES;
use icecore::repository::Repository;
use icecore::repository::cache::CachePlace;
use icecore::repository::open;
use icecore::repository::open::CreateOptions;
use icecore::source::memory::MemorySource;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::Bytes;
use super::places::reach;

/// What the seeds come to.
pub const PLACES: &[&str] =
    &["a full backup", "a backup", "forgotten", "pruned between", "a blob went", "read back"];

const STEPS_MAX: usize = 40;
const BACKUPS_MAX: usize = 8;
const PATHS: [&str; 8] = ["a", "b", "d/a", "d/b", "d/e/a", "d.x", "z", "z!"];
/// All of them are one blob each.
const LENGTHS: [usize; 4] = [0, 10, 300, 5_000];

type Files = BTreeMap<EntryPath, Vec<u8>>;

struct World {
    backend: Arc<MemoryBackend>,
    repository: Repository,
    name: DatasetName,
    clock: FixedClock,
    cancel: Cancel,
    source: MemorySource,
    files: Files,
    /// Every content there ever was.
    ever: BTreeSet<Vec<u8>>,
    kept: BTreeMap<BackupId, Files>,
    made: usize,
}

fn content(byte: u8) -> Vec<u8> {
    let mut state = u64::from(byte >> 2 & 15) << 32 | 1;
    let noise = (0..LENGTHS[usize::from(byte & 3)]).map(|_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    });
    noise.collect()
}

impl World {
    fn new() -> Self {
        let backend = Arc::new(MemoryBackend::new());
        let now = Timestamp::new(1_800_000_000, 0);
        // Each block closes its pack, so that there are many.
        let options = CreateOptions { pack_bytes: 1024, ..CreateOptions::default() };
        let scratch = CachePlace::Scratch(std::env::temp_dir());
        let repository = open::create(Arc::clone(&backend) as _, &options, &scratch, now);
        World {
            backend,
            repository: repository.expect("creates"),
            name: "data".parse().expect("a name"),
            clock: FixedClock::new(now),
            cancel: Cancel::new(),
            source: MemorySource::new("data"),
            files: Files::new(),
            ever: BTreeSet::new(),
            kept: BTreeMap::new(),
            made: 0,
        }
    }

    fn context(&self) -> Context<'_> {
        Context { progress: &Silent, cancel: &self.cancel, clock: &self.clock, threads: 1 }
    }

    fn put(&mut self, path: u8, byte: u8) {
        let path = PATHS[usize::from(path & 7)];
        let content = content(byte);
        self.source.put_file(path, &content);
        self.files.insert(EntryPath::new(path.as_bytes()).expect("a path"), content.clone());
        self.ever.insert(content);
    }

    fn remove(&mut self, path: u8) {
        let path = EntryPath::new(PATHS[usize::from(path & 7)].as_bytes()).expect("a path");
        if self.files.remove(&path).is_some() {
            self.source.remove(path.as_bytes());
        }
    }

    fn backup(&mut self, full: bool) {
        if self.made == BACKUPS_MAX {
            return;
        }
        let options = BackupOptions { full, allow_unchanged: true, ..BackupOptions::default() };
        let report =
            backup::run(&self.repository, &self.name, &self.source, &options, &self.context());
        let report = report.expect("a backup");
        assert!(report.errors.is_empty());
        self.kept.insert(report.backup, self.files.clone());
        self.made += 1;
        reach(if full { "a full backup" } else { "a backup" });
    }

    fn forget(&mut self, which: u8) {
        if self.kept.len() < 2 {
            return;
        }
        let number = *self.kept.keys().nth(usize::from(which) % self.kept.len()).expect("one");
        let dataset = self.repository.dataset(&self.name).expect("a dataset");
        let selection = Selection::Numbers(BTreeSet::from([number]));
        let plan = forget::plan(&dataset, &selection, &|_| 0, &self.context()).expect("a plan");
        forget::execute(&plan, &self.context()).expect("forgets");
        self.kept.remove(&number);
        reach("forgotten");
    }

    fn prune(&self, max_unused: f64) {
        // A guard stops a prune by which most would go.
        let options = PruneOptions { max_unused, force: true, ..PruneOptions::default() };
        prune::run(&self.repository, &options, &self.context()).expect("prunes");
    }

    /// All that was not forgotten is there and reads back.
    fn is_whole(&self) {
        if self.made == 0 {
            return;
        }
        let dataset = self.repository.dataset(&self.name).expect("a dataset");
        let backups = dataset.backups().expect("backups");
        let numbers: Vec<BackupId> = backups.iter().map(|it| it.header.number).collect();
        assert_eq!(numbers, self.kept.keys().copied().collect::<Vec<_>>());
        for backup in backups {
            let files = &self.kept[&backup.header.number];
            let snapshot = list::snapshot(&dataset, backup).expect("a snapshot");
            let all = list::entries(&snapshot, &EntryPath::root(), Depth::Tree).expect("lists");
            let mut found = Files::new();
            for entry in all.map(|entry| entry.expect("an entry")) {
                if entry.kind() == Kind::File {
                    let mut out = Vec::new();
                    list::cat(&snapshot, &entry.path, &mut out, &self.cancel).expect("reads");
                    found.insert(entry.path, out);
                }
            }
            assert!(found == *files, "{:?}", snapshot.number());
            reach("read back");
        }
    }

    fn blobs<'a>(&self, contents: impl Iterator<Item = &'a Vec<u8>>) -> BTreeSet<BlobId> {
        let filled = contents.filter(|content| !content.is_empty());
        filled.map(|content| self.repository.name_blob(content)).collect()
    }

    /// Returns the blobs in all packs, as their own footers and tables have it.
    fn stored(&self) -> BTreeSet<BlobId> {
        let mut blobs = BTreeSet::new();
        for (key, bytes) in self.backend.objects() {
            if !key.as_str().starts_with("packs/") {
                continue;
            }
            let tail = &bytes[bytes.len() - PACK_TAIL_BYTES..];
            let id = PackId::from_slice(&tail[4..]).expect("an id");
            let cipher = pack::open_head(&id, &bytes, &self.repository.id(), None).expect("opens");
            let at = pack::footer_range(&id, bytes.len() as u64, tail).expect("a footer");
            let mut footer = bytes[at.start as usize..at.end as usize].to_vec();
            let rows = pack::decode_footer(&id, &cipher, &mut footer, at.start).expect("rows");
            for row in rows {
                let from = row.table_offset as usize;
                let mut table = bytes[from..from + row.table_length as usize].to_vec();
                let table = cipher.open(Part::Table, row.number, &mut table).expect("a table");
                let table = Table::decode(table, &row.block).expect("decodes");
                blobs.extend(table.present().map(|(_, at)| at.blob));
            }
        }
        blobs
    }

    fn end(&self) {
        // What the first has doomed may go with the second.
        self.prune(0.0);
        self.prune(0.0);
        self.is_whole();
        let needed = self.blobs(self.kept.values().flat_map(BTreeMap::values));
        let stored = self.stored();
        assert!(needed.is_subset(&stored), "something that is needed is gone");
        let of_files: BTreeSet<BlobId> =
            self.blobs(self.ever.iter()).intersection(&stored).copied().collect();
        assert_eq!(of_files, needed, "something is kept that nothing needs");
        if self.blobs(self.ever.iter()).len() > needed.len() {
            reach("a blob went");
        }
        let options = CheckOptions { read_packs: true, read_data: Some(100.0), dataset: None };
        let report = check::run(&self.repository, &options, &self.context()).expect("checks");
        assert!(report.is_ok(), "{:?}", report.findings);
    }
}

/// One execution.
pub fn run(data: &[u8]) {
    let mut bytes = Bytes(data);
    let mut world = World::new();
    for _ in 0..STEPS_MAX {
        if bytes.is_empty() {
            break;
        }
        world.clock.advance(3_600);
        let step = bytes.byte();
        match step >> 4 {
            0..=5 => world.put(step, bytes.byte()),
            6 | 7 => world.remove(step),
            8..=10 => world.backup(false),
            11 => world.backup(true),
            12 | 13 => world.forget(step),
            _ => {
                world.prune(f64::from(step & 15) / 16.0);
                world.is_whole();
                reach("pruned between");
            }
        }
    }
    world.end();
}
