//! Copies that die, meet each other, or read what is damaged.

use crate::engine_copy::all;
use crate::engine_copy::assert_same;
use crate::engine_copy::copy_all;
use crate::engine_copy::five_versions;
use crate::engine_copy::numbers;
use crate::engine_copy::try_copy;
use crate::support::pruning::all_rows;
use crate::support::pruning::assert_sound;
use crate::support::pruning::keys;
use crate::support::tree::noise;
use crate::support::world::World;
use icecore::backend::Backend;
use icecore::backend::key::ObjectKey;
use icecore::backend::wrap::Around;
use icecore::backend::wrap::Call;
use icecore::backend::wrap::Outcome;
use icecore::backend::wrap::Wrapper;
use icecore::backend::wrap::fault::Fault;
use icecore::backend::wrap::fault::FaultBackend;
use icecore::base::cancel::Cancel;
use icecore::base::error::ErrorKind;
use icecore::base::id::BackupId;
use icecore::base::progress::Silent;
use icecore::base::time::FixedClock;
use icecore::base::time::Timestamp;
use icecore::engine::Context;
use icecore::engine::backup;
use icecore::engine::backup::BackupOptions;
use icecore::engine::check;
use icecore::engine::check::CheckOptions;
use icecore::engine::copy;
use icecore::engine::copy::CopyOptions;
use icecore::engine::copy::Wanted;
use icecore::engine::repair;
use icecore::engine::repair::RepairOptions;
use icecore::repository::layout;
use icecore::source::memory::MemorySource;
use std::sync::Arc;
use std::sync::Mutex;

fn faulty(world: &mut World) -> Arc<FaultBackend> {
    let backend = Arc::clone(&world.backend) as Arc<dyn Backend>;
    let faulty = Arc::new(FaultBackend::new(backend, Vec::new()));
    let shared = Arc::clone(&faulty) as Arc<dyn Backend>;
    world.wrap(|_| shared);
    faulty
}

/// Three small backups, so that a sweep over all calls is short.
fn three_versions(world: &World) {
    let source = MemorySource::new("s").file("a", noise(40_000, 1)).file("b", noise(9000, 2));
    world.backup(&source).unwrap();
    source.put_file("c", noise(30_000, 3));
    world.backup(&source).unwrap();
    source.put_file("a", noise(40_001, 4));
    source.remove("b");
    world.backup(&source).unwrap();
}

/// What a copy leaves that is killed, or gets no answer, at any call of either side, is gone on
/// with by the next one: nothing is there twice, nothing is missing.
#[test]
fn a_copy_killed_at_any_call_is_gone_on_with() {
    for (make, make_other) in [
        (World::memory as fn() -> World, World::encrypted as fn() -> World),
        (World::encrypted, World::class_b),
    ] {
        let mut from = make();
        three_versions(&from);
        for at_source in [false, true] {
            let mut call = 0;
            loop {
                // Neighbours are much the same; the first calls open and list.
                call += if at_source { 5 } else { 3 };
                let mut to = make_other();
                let fault_to = faulty(&mut to);
                let fault_from = faulty(&mut from);
                let fault = if at_source { &fault_from } else { &fault_to };
                fault.set_faults(vec![match call % 2 {
                    0 => Fault::DeadFrom { call },
                    _ => Fault::LostReply { call },
                }]);
                let done = try_copy(&from, &to, all(&from.repository));
                let calls = fault.calls();
                fault.set_faults(Vec::new());
                let what = format!("call {call} of {calls}, at the source: {at_source}");
                if let Err(e) = &done {
                    assert_eq!(e.kind(), ErrorKind::Unreachable, "{what}: {e:?}");
                }
                to.drop_leases();
                to.forget_caches();

                let one = copy_all(&from, &to);

                assert_eq!(one.present + one.copied.len() as u64, 3, "{what}: {one:?}");
                let dataset = to.repository.dataset(&to.name()).unwrap();
                let copied = dataset.backups().unwrap();
                assert_eq!(copied.len(), 3, "{what}");
                for (number, backup) in copied.iter().enumerate() {
                    let original = backup.header.original.unwrap();
                    assert_eq!(original.number, BackupId(number as u64), "{what}");
                    assert_same(&from, number as u64, &to, backup.header.number.0);
                }
                let options = CheckOptions { read_data: Some(100.0), ..CheckOptions::default() };
                let checked = check::run(&to.repository, &options, &to.context()).unwrap();
                assert!(checked.is_ok(), "{what}: {:?}", checked.findings);
                if calls < call {
                    assert!(done.is_ok(), "{what}: {done:?}");
                    break;
                }
            }
            assert!(call > 15, "a copy makes more calls than {call}");
        }
    }
}

#[test]
fn two_copies_at_once_double_nothing() {
    for make in [World::memory as fn() -> World, World::class_b] {
        for round in 0..4 {
            let (from, to) = (World::encrypted(), make());
            five_versions(&from);
            let both = [to.elsewhere(), to.elsewhere()];
            std::thread::scope(|scope| {
                for one in &both {
                    let from = from.elsewhere();
                    let to_world = &to;
                    scope.spawn(move || {
                        let context = Context { progress: &Silent, ..to_world.context() };
                        let wanted = [all(&from.repository)];
                        let options = CopyOptions::default();
                        let to = &one.repository;
                        let done = copy::run(&from.repository, to, &wanted, &options, &context);
                        let report = done.unwrap();
                        let error = report.datasets[0].error.as_ref();
                        let kind = error.map(icecore::base::error::Error::kind);
                        assert!(matches!(kind, None | Some(ErrorKind::Busy)), "{error:?}");
                    });
                }
            });

            let one = copy_all(&from, &to);

            assert_eq!(one.present + one.copied.len() as u64, 5, "round {round}: {one:?}");
            let dataset = to.repository.dataset(&to.name()).unwrap();
            let copied = dataset.backups().unwrap();
            assert_eq!(copied.len(), 5, "round {round}");
            let originals = copied.iter().map(|it| it.header.original.unwrap().number.0);
            assert_eq!(originals.collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
            for (number, backup) in copied.iter().enumerate() {
                assert_same(&from, number as u64, &to, backup.header.number.0);
            }
            assert_sound(&to);
        }
    }
}

/// Lets something happen before the first lease that is put.
struct AtLease(Mutex<Option<Box<dyn FnOnce() + Send>>>);

impl Around for AtLease {
    fn run<T: Outcome>(
        &self,
        call: Call<'_>,
        work: &dyn Fn() -> icecore::base::error::Result<T>,
    ) -> icecore::base::error::Result<T> {
        if call.operation.is_write() && call.key.starts_with("leases/") {
            let event = self.0.lock().unwrap().take();
            event.into_iter().for_each(|event| event());
        }
        work()
    }
}

/// Between a look at both sides and the first lease all may be copied by somebody else.
#[test]
fn a_copy_that_was_overtaken_looks_again() {
    for make in [World::memory as fn() -> World, World::class_b] {
        let (mut from, to) = (World::memory(), make());
        five_versions(&from);
        let (other_from, other_to) = (from.elsewhere(), to.elsewhere());
        let event = move || {
            let context = Context {
                progress: &Silent,
                cancel: &Cancel::new(),
                clock: &FixedClock::new(Timestamp::new(1_800_000_100, 0)),
                threads: 2,
            };
            let (from, to) = (&other_from.repository, &other_to.repository);
            let wanted = [all(from)];
            let done = copy::run(from, to, &wanted, &CopyOptions::default(), &context);
            assert_eq!(done.unwrap().datasets[0].copied.len(), 5);
        };
        from.wrap(|inner| {
            let event: Box<dyn FnOnce() + Send> = Box::new(event);
            Arc::new(Wrapper::around(inner, AtLease(Mutex::new(Some(event)))))
        });

        let one = copy_all(&from, &to);

        assert_eq!((one.copied.len(), one.present), (0, 5));
        let dataset = to.repository.dataset(&to.name()).unwrap();
        assert_eq!(dataset.backups().unwrap().len(), 5);
    }
}

/// Flips a byte in the middle of the content of the first block that a file lies in.
fn spoil(world: &World, number: u64, path: &str) {
    let path = icecore::base::path::EntryPath::new(path.as_bytes()).unwrap();
    let tracked = world.snapshot(number).entry(&path).unwrap().unwrap();
    let run = tracked.entry.file().unwrap().content.direct()[0];
    let rows = all_rows(&world.repository);
    for location in rows.iter().filter(|location| location.row.block == run.block) {
        let key = layout::pack(&location.pack.pack).unwrap();
        let mut bytes = world.backend.objects()[&key].clone();
        let at = location.row.offset + location.row.length / 2;
        bytes[at as usize] ^= 1;
        world.backend.remove_raw(&key);
        world.backend.insert_raw(&key, bytes);
    }
}

/// The pack that the content of a file lies in.
fn pack_of(world: &World, number: u64, path: &str) -> ObjectKey {
    let path = icecore::base::path::EntryPath::new(path.as_bytes()).unwrap();
    let tracked = world.snapshot(number).entry(&path).unwrap().unwrap();
    let run = tracked.entry.file().unwrap().content.direct()[0];
    let rows = all_rows(&world.repository);
    let copy = rows.iter().find(|location| location.row.block == run.block).unwrap();
    layout::pack(&copy.pack.pack).unwrap()
}

/// Left out, a backup would have no place any more once a later one is there.
#[test]
fn what_only_cannot_be_read_just_now_is_copied_by_the_next_run() {
    for make in [World::memory as fn() -> World, World::encrypted] {
        for kind in [ErrorKind::Denied, ErrorKind::Io, ErrorKind::Unsupported] {
            let (mut from, to) = (make(), World::other());
            three_versions(&from);
            let shut = pack_of(&from, 1, "c");
            let fault = faulty(&mut from);
            fault.set_faults(vec![Fault::Key { prefix: shut.to_string(), kind }]);

            let report = try_copy(&from, &to, all(&from.repository)).unwrap();

            let one = &report.datasets[0];
            assert_eq!(numbers(one), [(0, 0)], "{one:?}");
            assert_eq!(one.failures, []);
            let error = one.error.as_ref().expect("it ends there");
            assert_eq!(error.kind(), kind, "{error:?}");
            assert!(error.to_string().contains("cannot copy data@1"), "{error}");
            assert!(keys(&to, "leases/").is_empty() && keys(&from, "leases/").is_empty());
            from.forget_caches();
            assert_eq!(numbers(&copy_all(&from, &to)), [(1, 1), (2, 2)]);
            (0..3).for_each(|number| assert_same(&from, number, &to, number));
            assert_sound(&to);
        }
    }
}

/// What ends the copy of one dataset does not end that of the next.
#[test]
fn a_dataset_that_cannot_be_read_just_now_keeps_no_other_from_being_copied() {
    // What both say of their folders alike is in a pack of its own.
    let (mut from, to) = (World::with_small_packs(), World::encrypted());
    let source = MemorySource::new("s").file("a", noise(40_000, 1));
    from.backup(&source).unwrap();
    let shut = pack_of(&from, 0, "a");
    let other = MemorySource::new("o").file("b", noise(50_000, 2));
    let name = "other".parse().unwrap();
    let options = BackupOptions::default();
    backup::run(&from.repository, &name, &other, &options, &from.context()).unwrap();
    let fault = faulty(&mut from);
    let kind = ErrorKind::Denied;
    fault.set_faults(vec![Fault::Key { prefix: shut.to_string(), kind }]);
    let second = Wanted { dataset: from.repository.dataset(&name).unwrap(), numbers: None };
    let wanted = [all(&from.repository), second];

    let options = CopyOptions::default();
    let report = copy::run(&from.repository, &to.repository, &wanted, &options, &to.context());

    let datasets = report.unwrap().datasets;
    assert_eq!(datasets[0].error.as_ref().expect("it ends").kind(), kind);
    assert!(datasets[1].error.is_none(), "{:?}", datasets[1]);
    assert_eq!(numbers(&datasets[1]), [(0, 0)]);
}

#[test]
fn damage_is_reported_and_never_copied() {
    for make in [World::memory as fn() -> World, World::encrypted] {
        for make_other in [World::memory as fn() -> World, World::other] {
            let (mut from, to) = (make(), make_other());
            let source = MemorySource::new("s").file("a", noise(90_000, 1));
            from.backup(&source).unwrap();
            source.put_file("hurt", noise(80_000, 2));
            from.backup(&source).unwrap();
            source.put_file("b", noise(70_000, 3));
            from.backup(&source).unwrap();
            source.remove("hurt");
            source.put_file("c", b"after");
            from.backup(&source).unwrap();
            spoil(&from, 1, "hurt");
            from.forget_caches();

            let report = try_copy(&from, &to, all(&from.repository)).unwrap();

            let one = &report.datasets[0];
            assert!(one.error.is_none(), "{one:?}");
            assert_eq!(numbers(one), [(0, 0), (3, 1)]);
            let failed: Vec<_> = one.failures.iter().map(|it| it.backup.unwrap().0).collect();
            assert_eq!(failed, [1, 2]);
            assert!(one.failures[0].message.contains("cannot read hurt"), "{one:?}");
            assert_same(&from, 0, &to, 0);
            assert_same(&from, 3, &to, 1);
            assert_sound(&to);
        }
    }
}

#[test]
fn a_header_or_a_manifest_that_is_damaged_hides_no_other_backup() {
    let (mut from, to) = (World::memory(), World::memory());
    five_versions(&from);
    let dataset = from.repository.dataset(&from.name()).unwrap();
    let key = layout::header(&dataset.id(), BackupId(1)).unwrap();
    let mut bytes = from.backend.objects()[&key].clone();
    bytes[40] ^= 1;
    from.backend.remove_raw(&key);
    from.backend.insert_raw(&key, bytes);
    from.forget_caches();

    let report = try_copy(&from, &to, all(&from.repository)).unwrap();

    let one = &report.datasets[0];
    // Version 2 is a full one, and what comes after goes out from it.
    assert_eq!(numbers(one), [(0, 0), (2, 1), (3, 2), (4, 3)], "{one:?}");
    assert_eq!(one.failures.len(), 1);
    assert_eq!(one.failures[0].backup, Some(BackupId(1)));
    for (number, copied) in [(0, 0), (2, 1), (3, 2), (4, 3)] {
        assert_same(&from, number, &to, copied);
    }
}

#[test]
fn another_copy_of_a_block_serves_where_one_is_damaged() {
    let (mut from, to) = (World::memory(), World::encrypted());
    let source = MemorySource::new("s").file("a", noise(90_000, 1));
    from.backup(&source).unwrap();
    let rows = all_rows(&from.repository);
    let bad = rows.iter().filter(|location| location.row.class == 0).cloned();
    let bad: Vec<_> = bad.collect();
    crate::support::pruning::thin(&from.repository, &bad, &|_, _| true);
    let key = layout::pack(&bad[0].pack.pack).unwrap();
    let mut bytes = from.backend.objects()[&key].clone();
    bytes[bad[0].row.offset as usize + 500] ^= 1;
    from.backend.remove_raw(&key);
    from.backend.insert_raw(&key, bytes);
    from.forget_caches();

    assert_eq!(numbers(&copy_all(&from, &to)), [(0, 0)]);

    assert_same(&from, 0, &to, 0);
    assert_sound(&to);
}

/// What is lost in the target is stored again by a copy, as by a backup.
#[test]
fn a_target_that_lost_content_gets_it_again() {
    for make in [World::memory as fn() -> World, World::encrypted] {
        let (from, mut to) = (World::memory(), make());
        let source = MemorySource::new("s").file("a", noise(90_000, 1));
        from.backup(&source).unwrap();
        copy_all(&from, &to);
        spoil(&to, 0, "a");
        to.forget_caches();
        let options = RepairOptions { read_data: true, ..RepairOptions::default() };
        let planned = repair::plan(&to.repository, &options, &to.context()).unwrap();
        repair::execute(&to.repository, planned, &to.context()).unwrap();
        source.put_file("b", b"beside");
        from.backup(&source).unwrap();

        assert_eq!(numbers(&copy_all(&from, &to)), [(1, 1)]);

        assert_same(&from, 1, &to, 1);
    }
}

/// A backup whose header is gone is missed: the others are copied, and that it is not is told.
#[test]
fn a_backup_that_is_gone_is_told() {
    for make in [World::memory as fn() -> World, World::encrypted, World::class_b] {
        let (mut from, to) = (make(), World::memory());
        let full = BackupOptions { full: true, ..BackupOptions::default() };
        for name in ["a", "b", "c"] {
            let source = MemorySource::new("s").file(name, name.as_bytes());
            from.backup_with(&source, &full).unwrap();
        }
        let header = keys(&from, "datasets/").into_iter().find(|key| {
            let (_, name) = key.rsplit_once('/').unwrap();
            name == "1" || name.starts_with("1-")
        });
        from.backend.remove_raw(&ObjectKey::new(header.unwrap()).unwrap());
        from.forget_caches();

        let report = try_copy(&from, &to, all(&from.repository)).unwrap();

        let one = &report.datasets[0];
        assert_eq!(numbers(one), [(0, 0), (2, 1)]);
        assert_eq!(one.failures.len(), 1);
        assert!(one.failures[0].message.contains("backup_1"), "{:?}", one.failures);
    }
}
