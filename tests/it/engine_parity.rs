//! Parity: what is damaged up to the bound is healed whole, what is beyond it is said plainly, and
//! parity itself is never in the way of anything.
//!
//! `ICECORE_PARITY_ROUNDS=N` damages so many times as many repositories at random.

use crate::support::pruning::keys;
use crate::support::random::Random;
use crate::support::tree::noise;
use crate::support::world::World;
use icecore::backend::key::ObjectKey;
use icecore::base::id::PackId;
use icecore::engine::check;
use icecore::engine::check::CheckOptions;
use icecore::engine::check::Finding;
use icecore::engine::check::Severity;
use icecore::engine::parity;
use icecore::engine::parity::AddReport;
use icecore::engine::repair;
use icecore::engine::repair::ActionKind;
use icecore::engine::repair::RepairOptions;
use icecore::engine::repair::RepairPlan;
use icecore::engine::repair::RepairReport;
use icecore::format::parity::Cut;
use icecore::source::memory::MemorySource;

mod objects;
mod trouble;

const DATA: RepairOptions = RepairOptions { read_packs: false, read_data: true, force: false };
const QUICK: RepairOptions = RepairOptions { read_packs: false, read_data: false, force: false };

fn add(world: &World, percent: u8) -> AddReport {
    parity::add(&world.repository, percent, &world.context()).unwrap()
}

fn plan(world: &World, options: &RepairOptions) -> RepairPlan {
    repair::plan(&world.repository, options, &world.context()).unwrap()
}

fn run(world: &World, options: &RepairOptions) -> RepairReport {
    let plan = plan(world, options);
    repair::execute(&world.repository, plan, &world.context()).unwrap()
}

fn findings(world: &World, options: &CheckOptions) -> Vec<Finding> {
    check::run(&world.repository, options, &world.context()).unwrap().findings
}

fn packs_read() -> CheckOptions {
    CheckOptions { read_packs: true, ..CheckOptions::default() }
}

fn data_read() -> CheckOptions {
    CheckOptions { read_data: Some(100.0), ..CheckOptions::default() }
}

fn damage(findings: &[Finding]) -> Vec<&Finding> {
    findings.iter().filter(|finding| finding.severity == Severity::Damage).collect()
}

/// Three backups with files of several sizes, so that there are packs of several sizes.
fn filled(world: World) -> World {
    let source = MemorySource::new("s").file("a", noise(300_000, 1)).file("b", b"small");
    world.backup(&source).unwrap();
    source.put_file("c", noise(70_000, 2));
    source.put_file("d", vec![7; 100_000]);
    world.backup(&source).unwrap();
    source.put_file("e", noise(1_500_000, 3));
    source.put_file("b", b"changed");
    world.backup(&source).unwrap();
    world
}

/// Two small backups, for what is done very often.
fn small(world: World) -> World {
    let source = MemorySource::new("s").file("a", noise(20_000, 1));
    world.backup(&source).unwrap();
    source.put_file("b", noise(9_000, 2));
    world.backup(&source).unwrap();
    world
}

fn assert_content(world: &World) {
    assert_eq!(world.sound_backups(), 3);
    assert_eq!(world.content(0, "a"), noise(300_000, 1));
    assert_eq!(world.content(0, "b"), b"small");
    assert_eq!(world.content(2, "b"), b"changed");
    assert_eq!(world.content(1, "c"), noise(70_000, 2));
    assert_eq!(world.content(2, "d"), vec![7; 100_000]);
    assert_eq!(world.content(2, "e"), noise(1_500_000, 3));
}

fn pack_keys(world: &World) -> Vec<ObjectKey> {
    keys(world, "packs/").into_iter().map(|key| ObjectKey::new(key).unwrap()).collect()
}

fn largest_pack(world: &World) -> ObjectKey {
    let objects = world.backend.objects();
    pack_keys(world).into_iter().max_by_key(|key| objects[key].len()).unwrap()
}

fn id_of(key: &ObjectKey) -> PackId {
    key.name().parse().unwrap()
}

fn parity_of(world: &World, pack: &ObjectKey) -> ObjectKey {
    let found = keys(world, "parity/").into_iter().find(|key| key.contains(pack.name()));
    ObjectKey::new(found.expect("it has parity")).unwrap()
}

fn change(world: &World, key: &ObjectKey, change: impl FnOnce(Vec<u8>) -> Vec<u8>) {
    let bytes = world.backend.objects()[key].clone();
    world.backend.insert_raw(key, change(bytes));
}

/// Damages bytes within what parity for so many percent heals, in one of the ways of disks.
fn damaged(bytes: &[u8], percent: u8, random: &mut Random) -> Vec<u8> {
    let cut = Cut::of(bytes.len(), percent);
    let length = bytes.len() as u64;
    let stretch = (length * u64::from(percent) / 100).max(1);
    let at = random.below(length) as usize;
    let some = 1 + random.below(stretch) as usize;
    let end = (at + some).min(bytes.len());
    let mut hurt = bytes.to_vec();
    match random.below(7) {
        // Single bits, each in a shard of its own at the worst.
        0 => {
            for _ in 0..=random.below(cut.recovery as u64 - 1) {
                hurt[random.below(length) as usize] ^= 1 << random.below(8);
            }
        }
        // As many as can be, all of them whole shards.
        1 => {
            let shards = bytes.len().div_ceil(cut.shard_bytes) as u64;
            for _ in 0..cut.recovery {
                let start = random.below(shards) as usize * cut.shard_bytes;
                let end = (start + cut.shard_bytes).min(bytes.len());
                hurt[start..end].iter_mut().for_each(|byte| *byte ^= 0x5a);
            }
        }
        2 => hurt[at..end].fill(0),
        3 => drop(hurt.drain(at..end)),
        4 => drop(hurt.splice(at..at, noise(some, at as u64))),
        5 => hurt.truncate(bytes.len() - some),
        _ => hurt.extend(noise(some, at as u64)),
    }
    hurt
}

#[test]
fn packs_that_are_damaged_up_to_the_bound_are_all_healed() {
    let rounds = std::env::var("ICECORE_PARITY_ROUNDS").ok().and_then(|n| n.parse().ok());
    let rounds: u64 = rounds.unwrap_or(1);
    let mut healed = 0;
    for seed in 0..8 * rounds {
        let make = [World::memory, World::encrypted, World::class_b, World::with_small_packs];
        let make = make[seed as usize % make.len()];
        let mut random = Random(seed);
        let percent = [5, 1, 20, 50][random.below(4) as usize];
        let mut world = filled(make());
        let added = add(&world, percent);
        assert_eq!((added.packs as usize, added.had), (pack_keys(&world).len(), 0));
        let mut hurt = 0;
        for key in pack_keys(&world) {
            let bytes = world.backend.objects()[&key].clone();
            let changed = damaged(&bytes, percent, &mut random);
            hurt += usize::from(changed != bytes);
            world.backend.insert_raw(&key, changed);
            if random.below(2) == 0 {
                // One header of the parity, too.
                let parity = parity_of(&world, &key);
                let back = random.below(2) == 0;
                change(&world, &parity, |mut bytes| {
                    let at = if back { bytes.len() - 60 } else { 40 };
                    bytes[at] ^= 0x80;
                    bytes
                });
            }
        }
        world.forget_caches();
        let report = run(&world, &DATA);
        assert!(report.is_whole(), "seed {seed}: {report:#?}");
        let heals = report.actions.iter().filter(|it| it.kind == ActionKind::Heal).count();
        assert!(heals > 0, "seed {seed}: {report:#?}");
        let lost = report.actions.iter().filter(|it| it.kind == ActionKind::DeclareLost);
        assert_eq!(lost.count(), 0, "seed {seed}: {report:#?}");
        world.forget_caches();
        let found = findings(&world, &data_read());
        assert!(damage(&found).is_empty(), "seed {seed}: {found:#?}");
        assert_content(&world);
        healed += hurt;
    }
    assert!(healed > 20 * rounds as usize, "only {healed} packs were damaged");
    if rounds > 1 {
        eprintln!("{healed} damaged packs were healed");
    }
}

#[test]
fn beyond_the_bound_it_says_so_and_gives_nothing_false() {
    for make in [World::memory, World::encrypted] {
        let mut world = filled(make());
        add(&world, 5);
        let key = largest_pack(&world);
        let before = world.backend.objects()[&key].len();
        let shard = Cut::of(before, 5).shard_bytes;
        let limit = Cut::of(before, 5).recovery;
        let zero = |shards: usize| {
            move |mut bytes: Vec<u8>| {
                bytes[shard * 3..shard * (3 + shards)].fill(0);
                bytes
            }
        };
        let whole = world.backend.objects();
        change(&world, &key, zero(limit));
        world.forget_caches();
        let found = findings(&world, &packs_read());
        let of_pack = damage(&found);
        assert_eq!(of_pack.len(), 1, "{found:#?}");
        assert!(
            of_pack[0].message.contains("`icecore repair --read-packs` can heal it"),
            "{of_pack:?}"
        );

        world.reset(&whole);
        change(&world, &key, zero(limit + 1));
        world.forget_caches();
        let found = findings(&world, &packs_read());
        let told = format!("its parity heals {limit}");
        let of_pack = found.iter().find(|it| it.object == key.as_str()).expect("found");
        assert!(of_pack.message.contains("its parity does not heal it"), "{of_pack:?}");
        assert!(of_pack.message.contains(&told), "{of_pack:?}");
        let report = run(&world, &DATA);
        let kinds: Vec<ActionKind> = report.actions.iter().map(|it| it.kind).collect();
        assert!(!kinds.contains(&ActionKind::Heal), "{report:#?}");
        assert!(kinds.contains(&ActionKind::DeclareLost), "{report:#?}");
        assert_eq!(report.lost.len(), 1, "{report:#?}");
        assert!(report.lost[0].paths.contains(&"e".to_owned()), "{report:#?}");
        assert_eq!(world.content(0, "a"), noise(300_000, 1));
    }
}

#[test]
fn a_pack_that_is_gone_is_not_healed_and_its_parity_stays_until_it_is_let_go() {
    let mut world = filled(World::memory());
    add(&world, 50);
    let key = largest_pack(&world);
    let bytes = world.backend.objects()[&key].clone();
    world.backend.remove_raw(&key);
    world.forget_caches();
    let found = findings(&world, &data_read());
    assert!(damage(&found).iter().any(|it| it.object == key.as_str()), "{found:#?}");
    assert!(found.iter().all(|it| !it.object.starts_with("parity/")), "{found:#?}");
    let report = plan(&world, &DATA);
    assert!(report.actions.iter().all(|it| it.kind != ActionKind::Heal));
    assert!(!report.lost.is_empty());
    // Should it come back damaged, its parity is still there.
    world.backend.insert_raw(&key, bytes);
    change(&world, &key, |mut bytes| {
        bytes[5000] ^= 1;
        bytes
    });
    world.forget_caches();
    assert!(run(&world, &DATA).is_whole());
    assert_content(&world);
}

#[test]
fn a_repair_that_reads_no_packs_heals_those_that_look_damaged() {
    let mut world = filled(World::encrypted());
    add(&world, 5);
    let key = largest_pack(&world);
    change(&world, &key, |mut bytes| {
        bytes.truncate(bytes.len() - 3000);
        bytes
    });
    world.forget_caches();
    let report = run(&world, &QUICK);
    assert!(report.is_whole(), "{report:#?}");
    assert!(report.actions.iter().any(|it| it.kind == ActionKind::Heal), "{report:#?}");
    assert_content(&world);
    // The damaged one is doomed, and goes with the next prune, and its parity with it.
    crate::support::pruning::try_prune(&world, false).unwrap();
    assert!(!pack_keys(&world).contains(&key));
    assert!(keys(&world, "parity/").iter().all(|it| !it.contains(key.name())));
    world.forget_caches();
    assert!(damage(&findings(&world, &data_read())).is_empty());
    assert_content(&world);
}

#[test]
fn a_dry_run_names_what_it_would_heal_and_writes_nothing() {
    let mut world = filled(World::memory());
    add(&world, 5);
    let key = largest_pack(&world);
    change(&world, &key, |mut bytes| {
        bytes[60_000] ^= 1;
        bytes
    });
    world.forget_caches();
    let before = world.backend.objects();
    let planned = plan(&world, &DATA);
    let heals = planned.actions.iter().find(|it| it.kind == ActionKind::Heal).expect("planned");
    assert_eq!(heals.object, key.as_str());
    assert!(heals.message.starts_with("1 of "), "{heals:?}");
    assert!(planned.lost.is_empty() && planned.unrepaired.is_empty());
    world.drop_leases();
    let leases = |key: &ObjectKey| key.as_str().starts_with("leases/");
    let mut before = before;
    before.retain(|key, _| !leases(key));
    assert_eq!(world.backend.objects(), before);
}

#[test]
fn a_healed_pack_is_never_written_over_the_damaged_one() {
    let mut world = filled(World::memory());
    add(&world, 5);
    let key = largest_pack(&world);
    change(&world, &key, |mut bytes| {
        bytes[60_000] ^= 1;
        bytes
    });
    world.forget_caches();
    let before = world.backend.objects();
    run(&world, &DATA);
    let after = world.backend.objects();
    let is_kept = |(key, bytes): (&ObjectKey, &Vec<u8>)| {
        key.as_str().starts_with("leases/") || after.get(key) == Some(bytes)
    };
    assert!(before.iter().all(is_kept), "nothing that was there is gone or otherwise");
    assert!(after.len() > before.len());
    // A second one has nothing left to do.
    assert!(run(&world, &DATA).actions.is_empty());
}
