//! What a store far away is asked for when a little of a large tree changed: each request is a
//! round trip.

use crate::support::hooked::Hooked;
use crate::support::tree::noise;
use crate::support::world::World;
use icecore::backend::Backend;
use icecore::backend::Capabilities;
use icecore::backend::wrap::Around;
use icecore::backend::wrap::Call;
use icecore::backend::wrap::Operation;
use icecore::backend::wrap::Outcome;
use icecore::backend::wrap::Wrapper;
use icecore::base::error::Result;
use icecore::base::id::BackupId;
use icecore::base::id::LeaseId;
use icecore::base::secret::Secret;
use icecore::base::sys::ProcessIdentity;
use icecore::base::time::Timestamp;
use icecore::codec::frame::ObjectKind;
use icecore::engine::backup;
use icecore::engine::backup::BackupKind;
use icecore::engine::backup::BackupOptions;
use icecore::engine::backup::BackupReport;
use icecore::engine::prune;
use icecore::engine::prune::PruneOptions;
use icecore::format::lease::LeaseRecord;
use icecore::repository::Repository;
use icecore::repository::layout;
use icecore::repository::open::CreateOptions;
use icecore::source::memory::MemorySource;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

/// Files of the tree, of which one of a hundred changes each time.
const FILES: usize = 6_000;
/// Bytes of a file that do not compress; it holds them four times, so that there are many blocks
/// (45 of a MiB) in few bytes.
const FILE_BYTES: usize = 2_000;
const PACK_BYTES: u32 = 2 << 20;
/// Requests at a time that are of use.
const PARALLEL: usize = 8;

/// What a store was asked for.
#[derive(Default)]
struct Asked {
    calls: Mutex<Vec<(Operation, String)>>,
    /// Reads that are on their way, and how many there were at a time.
    reads: Mutex<(usize, usize)>,
}

/// A store that tells what it is asked for, and is far away when it takes several packs at a time.
struct Store {
    asked: Arc<Asked>,
    uploads: usize,
}

impl Around for Store {
    fn run<T: Outcome>(&self, call: Call<'_>, work: &dyn Fn() -> Result<T>) -> Result<T> {
        self.asked.calls.lock().unwrap().push((call.operation, call.key.to_owned()));
        if call.operation != Operation::GetRange {
            return work();
        }
        {
            let mut reads = self.asked.reads.lock().unwrap();
            *reads = (reads.0 + 1, reads.1.max(reads.0 + 1));
        }
        // Others get a chance to ask meanwhile.
        std::thread::sleep(Duration::from_millis(2));
        let done = work();
        self.asked.reads.lock().unwrap().0 -= 1;
        done
    }

    fn capabilities(&self, inner: Capabilities) -> Capabilities {
        Capabilities { uploads: self.uploads, parallel: PARALLEL, ..inner }
    }
}

/// What one run asked for.
struct Ran {
    report: BackupReport,
    calls: Vec<(Operation, String)>,
    reads_at_a_time: usize,
}

impl Ran {
    fn count(&self, operation: Operation, below: &str) -> usize {
        let is_meant =
            |(other, key): &&(Operation, String)| *other == operation && key.starts_with(below);
        self.calls.iter().filter(is_meant).count()
    }

    fn reads(&self) -> usize {
        self.count(Operation::GetRange, "") + self.count(Operation::Get, "packs/")
    }
}

struct Distant {
    world: World,
    uploads: usize,
    source: MemorySource,
}

fn path(file: usize) -> String {
    format!("{:02}/{:02}/{file:04}", file / 500, file / 50 % 10)
}

fn content(file: usize, version: usize) -> Vec<u8> {
    noise(FILE_BYTES, (version * FILES + file) as u64).repeat(4)
}

impl Distant {
    fn new(uploads: usize, password: Option<Secret>) -> Self {
        let options =
            CreateOptions { password, pack_bytes: PACK_BYTES, ..CreateOptions::default() };
        let source = MemorySource::new("data");
        (0..FILES).for_each(|file| source.put_file(path(file), content(file, 0)));
        Distant { world: World::with(true, options), uploads, source }
    }

    fn far() -> Self {
        Distant::new(3, None)
    }

    /// Changes one file of a hundred, others each time.
    fn change(&self, version: usize) -> usize {
        let changed = (0..FILES).filter(|file| file % 100 == version * 7 % 100);
        changed.map(|file| self.source.put_file(path(file), content(file, version))).count()
    }

    /// Makes a backup as the next run of the program does.
    fn run(&mut self) -> Ran {
        self.run_with(&BackupOptions::default())
    }

    fn run_with(&mut self, options: &BackupOptions) -> Ran {
        let asked = Arc::new(Asked::default());
        let inner = Arc::clone(&self.world.backend) as Arc<dyn Backend>;
        let store = Store { asked: Arc::clone(&asked), uploads: self.uploads };
        self.world.repository = self.world.open_beside(Arc::new(Wrapper::around(inner, store)));
        self.world.clock.advance(100);
        let report = self.world.backup_with(&self.source, options).expect("a backup");
        let calls = std::mem::take(&mut *asked.calls.lock().unwrap());
        let reads_at_a_time = asked.reads.lock().unwrap().1;
        Ran { report, calls, reads_at_a_time }
    }

    fn packs(&self) -> usize {
        let objects = self.world.backend.objects().into_keys();
        objects.filter(|key| key.as_str().starts_with("packs/")).count()
    }

    /// Files of tables that are kept on this machine.
    fn kept(&self) -> Vec<PathBuf> {
        let folder = self.world.repository.cache().path("tables");
        let files = std::fs::read_dir(folder).expect("a folder");
        files.map(|file| file.expect("a file").path()).collect()
    }

    fn assert_sound(&self, number: u64, version: usize) {
        for file in (0..FILES).step_by(701).chain((0..FILES).filter(|f| f % 100 == version * 7)) {
            let changed = (1..=version).rev().find(|version| file % 100 == version * 7 % 100);
            let expected = content(file, changed.unwrap_or(0));
            assert!(self.world.content(number, &path(file)) == expected, "{file}");
        }
    }
}

#[test]
fn a_small_change_reads_nothing_that_this_machine_has_put() {
    for password in [None, Some(Secret::new(b"secret".to_vec()))] {
        let mut distant = Distant::new(3, password);
        distant.run();
        for version in 1..4 {
            let changed = distant.change(version);
            let ran = distant.run();
            assert_eq!(ran.report.counts.modified, changed as u64);
            assert_eq!(ran.reads(), 0, "{:?}", ran.calls);
        }
        distant.assert_sound(3, 3);
    }
}

#[test]
fn moved_files_read_nothing_that_this_machine_has_put() {
    let mut distant = Distant::far();
    distant.run();
    for file in (0..FILES).step_by(100) {
        distant.source.remove(path(file));
        distant.source.put_file(format!("moved/{file}"), content(file, 0));
    }

    let ran = distant.run();

    assert_eq!((ran.report.counts.added, ran.report.counts.new_bytes), (60, 0));
    assert_eq!(ran.reads(), 0, "{:?}", ran.calls);
    // Each pack that is leaned on is asked for once.
    assert!(ran.count(Operation::Stat, "packs/") <= distant.packs() + 1, "{:?}", ran.calls);
}

#[test]
fn what_is_not_kept_is_one_read_for_each_pack_and_several_at_a_time() {
    let mut distant = Distant::far();
    distant.run();
    let packs = distant.packs();
    assert_eq!(distant.kept().len(), packs);
    for file in distant.kept() {
        std::fs::remove_file(file).expect("removed");
    }
    distant.change(1);

    let ran = distant.run();

    assert!(packs > 4, "{packs}");
    assert!((1..=packs).contains(&ran.reads()), "{} {packs} {:?}", ran.reads(), ran.calls);
    assert!(ran.reads_at_a_time > 1, "{}", ran.reads_at_a_time);
    // And then it is.
    distant.change(2);
    assert_eq!(distant.run().reads(), 0);
    distant.assert_sound(2, 2);
}

#[test]
fn what_is_damaged_on_this_machine_is_read_again_and_stores_nothing_twice() {
    let mut sound = Distant::far();
    sound.run();
    sound.change(1);
    let expected = sound.run().report.counts;
    let spoils: [fn(Vec<u8>) -> Vec<u8>; 4] = [
        |_| Vec::new(),
        |bytes| bytes[..bytes.len() / 2].to_vec(),
        |bytes| bytes.into_iter().map(|byte| !byte).collect(),
        |bytes| noise(bytes.len(), 1),
    ];
    for spoil in spoils {
        let mut distant = Distant::far();
        distant.run();
        let packs = distant.packs();
        for file in distant.kept() {
            let bytes = std::fs::read(&file).expect("read");
            std::fs::write(&file, spoil(bytes)).expect("written");
        }
        distant.change(1);

        let ran = distant.run();

        assert_eq!(ran.report.counts.new_bytes, expected.new_bytes);
        assert!((1..=packs).contains(&ran.reads()), "{} {packs}", ran.reads());
        distant.change(2);
        assert_eq!(distant.run().reads(), 0);
        distant.assert_sound(2, 2);
    }
}

#[test]
fn another_machine_reads_tables_once_for_each_pack() {
    let mut distant = Distant::far();
    distant.run();
    distant.change(1);
    distant.run();
    distant.world.forget_caches();
    distant.change(2);
    let packs = distant.packs();

    let first = distant.run();
    distant.change(3);
    let second = distant.run();

    assert_eq!(first.report.kind, BackupKind::Partial);
    assert_eq!(distant.kept().len(), distant.packs());
    // The snapshot is read as well, block by block.
    let index_bytes: usize = first.count(Operation::GetRange, "packs/");
    assert!(index_bytes <= 3 * packs + 30, "{index_bytes} {packs}");
    assert_eq!(second.reads(), 0, "{:?}", second.calls);
    distant.assert_sound(3, 3);
}

#[test]
fn a_full_index_beside_a_parent_reads_nothing_that_this_machine_has_put() {
    let mut distant = Distant::far();
    distant.run();
    distant.change(1);

    let ran = distant.run_with(&BackupOptions { full: true, ..BackupOptions::default() });

    assert_eq!(ran.report.kind, BackupKind::Full);
    assert_eq!(ran.reads(), 0, "{:?}", ran.calls);
}

/// Reading is quick there, and the disk it would take is the one that the repository is on.
#[test]
fn a_store_on_this_machine_keeps_no_tables() {
    let mut distant = Distant::new(1, None);
    distant.run();
    distant.change(1);

    let ran = distant.run();

    assert!(distant.kept().is_empty());
    eprintln!("{} reads on this machine, {} packs", ran.reads(), distant.packs());
    assert!((30..=60).contains(&ran.reads()), "{}", ran.reads());
    distant.assert_sound(1, 1);
}

/// The protocol lists before the lease, and after it, and looks for a floor after the commit.
#[test]
fn a_run_that_commits_lists_its_dataset_twice() {
    let mut distant = Distant::far();
    distant.run();
    distant.change(1);

    let ran = distant.run();

    // Its top and its last thousand each time, and the top alone for the floor.
    assert_eq!(ran.count(Operation::List, "datasets/"), 2 * 2 + 1, "{:?}", ran.calls);
    eprintln!("{} requests", ran.calls.len());
    // The index once, and the one folder that has an object.
    assert_eq!(ran.count(Operation::List, "index"), 2, "{:?}", ran.calls);
    assert_eq!(ran.report.kind, BackupKind::Partial);
}

/// What was listed before the scan is out of date by then, and this very machine knows it.
#[test]
fn a_backup_made_meanwhile_by_the_same_machine_is_gone_on_from() {
    let world = World::memory();
    let source = MemorySource::new("data").file("a", b"1").file("b", b"1");
    world.backup(&source).expect("a backup");
    world.clock.advance(100);
    source.put_file("a", b"22");
    let beside = world.open_beside(Arc::clone(&world.backend) as Arc<dyn Backend>);
    let hooked = Hooked::at_scan(&source, || {
        let options = BackupOptions::default();
        let (name, context) = (world.name(), world.context());
        backup::run(&beside, &name, &source, &options, &context).expect("a backup");
        source.put_file("b", b"333");
    });

    let report = world.backup(&hooked).expect("a backup");

    assert!(hooked.has_happened());
    assert_eq!(report.backup.0, 2);
    assert_eq!((world.content(1, "a"), world.content(1, "b")), (b"22".to_vec(), b"1".to_vec()));
    assert_eq!((world.content(2, "a"), world.content(2, "b")), (b"22".to_vec(), b"333".to_vec()));
}

/// Puts the lease of a writer that died when it was about to write a number.
fn put_dead_lease(repository: &Repository, dataset: &str, number: u64, of: u8) {
    let lease = LeaseId::new([of; 16]);
    let record = LeaseRecord {
        lease,
        dataset: repository.dataset(&dataset.parse().expect("a name")).expect("a dataset").id(),
        number: Some(BackupId(number)),
        parent: None,
        process: ProcessIdentity { boot: "another boot".to_owned(), ..ProcessIdentity::current() },
        taken: Timestamp::new(1, 0),
        purpose: "backup".to_owned(),
    };
    let key = layout::lease(&lease).expect("a key");
    repository.store().put(ObjectKind::Lease, &key, &record).expect("stored");
}

/// Returns how often a prune looks at datasets, and how many voids it puts.
fn count_of_prune(world: &mut World) -> (usize, usize) {
    let asked = Arc::new(Asked::default());
    let inner = Arc::clone(&world.backend) as Arc<dyn Backend>;
    let store = Store { asked: Arc::clone(&asked), uploads: 3 };
    world.repository = world.open_beside(Arc::new(Wrapper::around(inner, store)));
    prune::run(&world.repository, &PruneOptions::default(), &world.context()).expect("a prune");
    let looks = |(operation, key): &&(Operation, String)| {
        matches!(operation, Operation::Stat | Operation::List) && key.starts_with("datasets/")
    };
    let calls = asked.calls.lock().unwrap();
    let voids = |(operation, key): &&(Operation, String)| {
        *operation == Operation::PutNew && key.starts_with("datasets/")
    };
    (calls.iter().filter(looks).count(), calls.iter().filter(voids).count())
}

#[test]
fn a_prune_asks_once_whether_a_dead_writer_has_committed() {
    const DATASETS: u8 = 12;
    let mut world = World::memory();
    let source = MemorySource::new("data").file("a", b"1");
    let name = |n: u8| format!("data-{n}");
    for n in 0..DATASETS {
        let (name, options) = (name(n).parse().expect("a name"), BackupOptions::default());
        let context = world.context();
        backup::run(&world.repository, &name, &source, &options, &context).expect("a backup");
    }
    let (without, voids) = count_of_prune(&mut world);
    assert_eq!(voids, 0);
    for n in 0..DATASETS {
        put_dead_lease(&world.repository, &name(n), 0, 1 + n);
        put_dead_lease(&world.repository, &name(n), 1, 101 + n);
    }

    let (with, voids) = count_of_prune(&mut world);

    let datasets = usize::from(DATASETS);
    assert_eq!(voids, datasets);
    // Of one that has committed whether its number is there; of one that has not the listing of
    // its dataset as well, and that again before a void takes the number.
    assert!(with <= without + datasets * (1 + 3 + 2), "{without} {with}");
    let leases = world.backend.objects().into_keys().filter(|k| k.as_str().starts_with("leases"));
    assert_eq!(leases.count(), 0);
}
