//! What is lost, or cannot be read just now, is told where it is looked for, and nothing is decided
//! as if it had never been.

use crate::support::refusing::Refusal;
use crate::support::refusing::Refusing;
use crate::support::tree::noise;
use crate::support::world::World;
use icecore::backend::key::ObjectKey;
use icecore::backend::memory::MemoryBackend;
use icecore::backend::wrap::Operation;
use icecore::base::error::Error;
use icecore::base::error::ErrorKind;
use icecore::base::error::Result;
use icecore::base::id::BackupId;
use icecore::base::id::TombstoneId;
use icecore::base::path::EntryPath;
use icecore::base::time::Timestamp;
use icecore::codec::frame::ObjectKind;
use icecore::engine::address;
use icecore::engine::address::Version;
use icecore::engine::backup;
use icecore::engine::backup::BackupOptions;
use icecore::engine::check;
use icecore::engine::check::CheckOptions;
use icecore::engine::check::CheckReport;
use icecore::engine::copy;
use icecore::engine::copy::CopyOptions;
use icecore::engine::copy::Wanted;
use icecore::engine::diff;
use icecore::engine::diff::Side;
use icecore::engine::find;
use icecore::engine::find::Among;
use icecore::engine::find::FindOptions;
use icecore::engine::forget;
use icecore::engine::forget::Selection;
use icecore::engine::list;
use icecore::engine::repair;
use icecore::engine::repair::RepairOptions;
use icecore::engine::repair::RepairReport;
use icecore::engine::restore;
use icecore::engine::restore::RestoreOptions;
use icecore::engine::retention::Rules;
use icecore::engine::stats;
use icecore::engine::tag;
use icecore::engine::tag::TagChange;
use icecore::format::dataset::DatasetName;
use icecore::format::dataset::LostRecord;
use icecore::repository::Repository;
use icecore::repository::cache::CachePlace;
use icecore::repository::datasets::Dataset;
use icecore::repository::layout;
use icecore::repository::open;
use icecore::repository::open::CreateOptions;
use icecore::source::filter::Pattern;
use icecore::source::memory::MemorySource;
use icecore::target::memory::MemoryTarget;
use std::sync::Arc;

const NOW: Timestamp = Timestamp::new(1_800_000_000, 0);

/// Full backups of a source that grows by a file each time.
fn world_of(backups: u64, is_atomic: bool) -> (World, MemorySource) {
    let mut world = if is_atomic { World::memory() } else { World::class_b() };
    world.threads = 1;
    let source = MemorySource::new("s");
    for n in 0..backups {
        grow(&source, n);
        let options = BackupOptions { full: true, ..BackupOptions::default() };
        world.backup_with(&source, &options).unwrap();
    }
    (world, source)
}

fn grow(source: &MemorySource, n: u64) {
    source.put_file(format!("f{n}"), noise(3_000, n + 1));
}

fn dataset(world: &World) -> Dataset {
    world.repository.dataset(&world.name()).unwrap()
}

/// Takes away the header of a backup, and what this machine remembers.
fn lose_header(world: &mut World, n: u64) {
    let (plain, of_lease) = (n.to_string(), format!("{n}-"));
    let is_it = |key: &&ObjectKey| {
        let is_header = key.name() == plain || key.name().starts_with(&of_lease);
        key.as_str().starts_with("datasets/") && is_header
    };
    let keys: Vec<ObjectKey> = world.backend.objects().into_keys().collect();
    let header = keys.iter().find(is_it).expect("a header");
    assert!(world.backend.remove_raw(header));
    world.forget_caches();
}

fn repaired(world: &World) -> RepairReport {
    let options = RepairOptions::default();
    let plan = repair::plan(&world.repository, &options, &world.context()).unwrap();
    repair::execute(&world.repository, plan, &world.context()).unwrap()
}

fn checked(world: &World, repository: &Repository, options: &CheckOptions) -> Result<CheckReport> {
    check::run(repository, options, &world.context())
}

fn is_gap<T>(done: Result<T>, n: u64) {
    let error = done.err().expect("it is refused");
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
    assert!(error.to_string().contains(&BackupId(n).to_string()), "{error:?}");
}

fn tell(problems: &[Error]) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}

/// The next backup took the number, and was forgotten or tagged from its first moment on.
#[test]
fn a_number_of_which_a_marker_or_tags_are_left_is_not_given_out_again() {
    for (is_atomic, is_forgotten) in [(true, true), (true, false), (false, true), (false, false)] {
        let (mut world, source) = world_of(3, is_atomic);
        if is_forgotten {
            world.hide(2);
        } else {
            let change = TagChange { add: vec!["old".to_owned()], ..TagChange::default() };
            tag::run(&dataset(&world), BackupId(2), &change, &world.context()).unwrap();
        }
        lose_header(&mut world, 2);

        grow(&source, 3);
        is_gap(world.backup(&source), 2);

        let shown = dataset(&world).shown_backups().unwrap();
        assert_eq!(shown.readable.len(), 2);
        assert!(tell(&shown.problems)[0].contains("backup_2"), "{:?}", shown.problems);
        assert!(!checked(&world, &world.repository, &CheckOptions::default()).unwrap().is_ok());
        repaired(&world);
        let report = world.backup(&source).unwrap();
        assert_eq!(report.backup, BackupId(3));
        let backups = dataset(&world).backups().unwrap();
        let numbers: Vec<u64> = backups.iter().map(|it| it.header.number.0).collect();
        assert_eq!(numbers, [0, 1, 3]);
        assert!(backups[2].tags.is_empty());
        assert!(checked(&world, &world.repository, &CheckOptions::default()).unwrap().is_ok());
    }
}

/// What a floor says to remain below it was missed by prunes, checks and repairs alone.
#[test]
fn a_backup_that_is_lost_below_a_floor_is_told_and_nothing_is_counted_without_it() {
    for is_atomic in [true, false] {
        let (mut world, source) = world_of(5, is_atomic);
        world.hide(1);
        world.elsewhere().prune();
        assert_eq!(dataset(&world).all_numbers().unwrap().floor(), 2);
        lose_header(&mut world, 0);
        let (set, context) = (dataset(&world), world.context());

        let shown = set.shown_backups().unwrap();
        assert!(tell(&shown.problems)[0].contains("backup_0"), "{:?}", shown.problems);
        let datasets = list::shown_datasets(&world.repository, None).unwrap();
        assert_eq!((datasets.readable[0].backups, datasets.problems.len()), (3, 1));
        let numbers = set.shown_numbers().unwrap();
        let options = FindOptions::new(Pattern::new("*").unwrap());
        let found = find::run(&set, &numbers, Among::All, &options, &context, &mut |_| Ok(()));
        assert_eq!(found.unwrap().problems.len(), 1);
        let scratch = CachePlace::Scratch(std::env::temp_dir());
        let there = Arc::new(MemoryBackend::new());
        let there = open::create(there, &CreateOptions::default(), &scratch, NOW).unwrap();
        let wanted = [Wanted { dataset: set.clone(), numbers: None }];
        let copied =
            copy::run(&world.repository, &there, &wanted, &CopyOptions::default(), &context);
        let copied = copied.unwrap().datasets.remove(0);
        assert_eq!((copied.copied.len(), copied.failures.len()), (3, 1));

        let rules = Rules { last: "2".parse().ok(), ..Rules::default() };
        is_gap(forget::plan(&set, &Selection::Unless(rules), &|_| 0, &context), 0);
        is_gap(stats::run(&world.repository), 0);
        is_gap(address::resolve(&set, &Version::Latest(1)), 0);
        let change = TagChange { add: vec!["t".to_owned()], ..TagChange::default() };
        is_gap(tag::run(&set, BackupId(3), &change, &context), 0);

        // What does not count goes on.
        for version in [Version::Latest(0), Version::Number(BackupId(4))] {
            let resolved = address::resolve(&set, &version).unwrap();
            assert_eq!(resolved.backup.header.number, BackupId(4));
            list::changes(&set, resolved.backup).unwrap();
        }
        grow(&source, 5);
        assert_eq!(world.backup(&source).unwrap().backup, BackupId(5));
        repaired(&world);
        let shown = dataset(&world).shown_backups().unwrap();
        assert_eq!((shown.readable.len(), shown.problems.len()), (4, 0));
        stats::run(&world.repository).unwrap();
    }
}

fn back_up(world: &World, repository: &Repository, name: &str, file: &str) -> Result<BackupId> {
    let source = MemorySource::new("m").file(file, b"content");
    let options = BackupOptions { dataset_was_named: true, ..BackupOptions::default() };
    let name: DatasetName = name.parse().unwrap();
    backup::run(repository, &name, &source, &options, &world.context()).map(|done| done.backup)
}

/// `photos`, which was made under another name, and `music`, which was not.
fn two_datasets() -> (World, ObjectKey, ObjectKey) {
    let world = World::memory();
    back_up(&world, &world.repository, "pictures", "a").unwrap();
    back_up(&world, &world.repository, "music", "b").unwrap();
    let name = |text: &str| text.parse::<DatasetName>().unwrap();
    world.repository.rename(&name("pictures"), &name("photos"), NOW).unwrap();
    let key = |text: &str| world.repository.name_folder(&name(text)).unwrap().object("0").unwrap();
    let keys = (key("photos"), key("music"));
    (world, keys.0, keys.1)
}

fn readable(repository: &Repository) -> (Vec<String>, Vec<ErrorKind>) {
    let shown = list::shown_datasets(repository, None).unwrap();
    let names = shown.readable.iter().map(|it| it.name.to_string()).collect();
    (names, shown.problems.iter().map(Error::kind).collect())
}

/// A backup began a second dataset of its name, and nobody saw that one was missing.
#[test]
fn a_dataset_that_has_lost_its_name_is_told_and_is_not_begun_again() {
    let (mut world, photos, music) = two_datasets();
    assert!(world.backend.remove_raw(&photos));
    world.forget_caches();
    let before = world.backend.objects();

    assert_eq!(readable(&world.repository), (vec!["music".into()], vec![ErrorKind::Corrupt]));
    assert!(stats::run(&world.repository).is_err());
    let error = back_up(&world, &world.repository, "photos", "a").expect_err("it may be there");
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
    assert!(error.hint_text().unwrap_or_default().contains("icecore repair"), "{error:?}");
    assert_eq!(world.backend.objects(), before);
    assert_eq!(back_up(&world, &world.repository, "music", "c").unwrap(), BackupId(1));
    // One that still has the name it was made under is found by that.
    assert!(world.backend.remove_raw(&music));
    world.forget_caches();
    assert_eq!(readable(&world.repository).0, [""; 0]);
    assert_eq!(back_up(&world, &world.repository, "music", "d").unwrap(), BackupId(2));
    repaired(&world);
    assert_eq!(readable(&world.repository).1, []);
    assert_eq!(back_up(&world, &world.repository, "new", "e").unwrap(), BackupId(0));
}

/// The disk that failed to read one name kept the others from being listed.
#[test]
fn while_a_name_cannot_be_read_the_other_datasets_are_listed_and_it_is_not_begun_again() {
    let (world, photos, _) = two_datasets();
    let refusing = Refusing::default();
    let scratch = CachePlace::Scratch(std::env::temp_dir());
    let to = refusing.around(world.backend.clone());
    let repository = open::open(to, None, &scratch).unwrap();
    refusing.begin(photos.as_str(), Some(Refusal::ForGood(0)));
    let before = world.backend.objects();

    assert_eq!(readable(&repository), (vec!["music".into()], vec![ErrorKind::Io]));
    let error = back_up(&world, &repository, "photos", "a").expect_err("it is there");
    assert_eq!(error.kind(), ErrorKind::Io, "{error:?}");
    assert_eq!(world.backend.objects(), before);
    assert_eq!(back_up(&world, &repository, "new", "e").unwrap(), BackupId(0));
}

/// A check that reads packs looks at tables again, and passed over those that it could not read.
#[test]
fn whatever_stretch_of_a_pack_cannot_be_read_a_check_of_packs_says_so() {
    let (world, _) = world_of(3, true);
    let packs = CheckOptions { read_packs: true, ..CheckOptions::default() };
    let data = CheckOptions { read_data: Some(100.0), ..CheckOptions::default() };
    for options in [packs, data] {
        let refusing = Refusing::default();
        let run = |refusal: Option<Refusal>| {
            let scratch = CachePlace::Scratch(std::env::temp_dir());
            let to = refusing.around(world.backend.clone());
            let repository = open::open(to, None, &scratch).unwrap();
            refusing.begin("packs/", refusal);
            let report = checked(&world, &repository, &options);
            (report, refusing.end().0)
        };
        let (report, reads) = run(None);
        assert!(report.unwrap().is_ok());
        let is_stretch = |(_, (operation, _)): &(usize, &(Operation, String))| {
            matches!(operation, Operation::Get | Operation::GetRange)
        };
        let stretches: Vec<usize> =
            reads.iter().enumerate().filter(is_stretch).map(|(at, _)| at).collect();
        assert!(stretches.len() >= 6, "packs, tables and ranges are read: {reads:?}");
        for at in stretches {
            let is_told = run(Some(Refusal::ForGood(at))).0.map_or(true, |report| !report.is_ok());
            assert!(is_told, "{at}: {:?}", reads[at]);
        }
    }
}

/// A lease that stayed kept what nobody needed from being pruned for hours.
#[test]
fn whatever_read_fails_no_reader_leaves_its_lease() {
    let (world, _) = world_of(3, true);
    type Look = fn(&Dataset, &World) -> Result<()>;
    let looks: [Look; 2] = [
        |set, world| {
            let backup = address::resolve(set, &Version::Number(BackupId(2)))?.backup;
            let snapshot = list::snapshot(set, backup)?;
            let (target, options) = (MemoryTarget::new(), RestoreOptions::default());
            restore::run(&snapshot, &target, &options, &world.context()).map(drop)
        },
        |set, world| {
            let side = |n: u64| {
                let backup = address::resolve(set, &Version::Number(BackupId(n)))?.backup;
                let snapshot = list::snapshot(set, backup)?;
                Ok::<_, Error>(Side { snapshot, path: EntryPath::root() })
            };
            let (a, b) = (side(0)?, side(2)?);
            diff::run(&a, &b, &world.context(), &mut |_| Ok(())).map(drop)
        },
    ];
    let mut failed = 0;
    for look in looks {
        for at in 0.. {
            let refusing = Refusing::default();
            let scratch = CachePlace::Scratch(std::env::temp_dir());
            let to = refusing.around(world.backend.clone());
            let repository = open::open(to, None, &scratch).unwrap();
            refusing.begin("", Some(Refusal::Once(at)));
            let done = repository.dataset(&world.name()).and_then(|set| look(&set, &world));
            let (_, refused) = refusing.end();
            failed += usize::from(done.is_err());
            let keys = world.backend.objects().into_keys();
            let leases = keys.filter(|key| key.as_str().starts_with("leases/")).count();
            assert_eq!(leases, 0, "{at}: {refused:?}");
            if refused.is_none() {
                break;
            }
        }
    }
    assert!(failed >= 10, "only {failed} failed");
}

/// Whether it is absent or says what is lost, nobody goes on as if it said nothing.
#[test]
fn a_record_of_lost_places_that_cannot_be_read_is_told() {
    let (world, source) = world_of(2, true);
    let key = layout::lost(&TombstoneId::new([0xcc; 16])).unwrap();
    let record = LostRecord { blocks: vec![7; 32], places: vec![vec![0]], written: NOW };
    world.repository.store().put(ObjectKind::Lost, &key, &record).unwrap();
    let refusing = Refusing::default();
    let repository = world.open_beside(refusing.around(world.backend.clone()));
    grow(&source, 2);
    for refusal in [Refusal::Once(0), Refusal::ForGood(0)] {
        refusing.begin(key.as_str(), Some(refusal));
        let report = checked(&world, &repository, &CheckOptions::default()).unwrap();
        assert!(report.findings.iter().any(|it| it.object == key.as_str() && !report.is_ok()));
        refusing.begin(key.as_str(), Some(refusal));
        let options = BackupOptions::default();
        let done = backup::run(&repository, &world.name(), &source, &options, &world.context());
        assert_eq!(done.err().map(|e| e.kind()), Some(ErrorKind::Io));
        assert!(world.backend.objects().contains_key(&key));
    }
}
