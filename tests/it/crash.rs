//! What a crash leaves: thousands of states, each judged as a person would who comes back.
//!
//! A workload is done on a disk in memory that writes down every system call and knows what is
//! durable. Then for every moment of it, and for every subset of what was not durable then
//! (within a bound), the disk is found anew and judged: it opens, without a cache and with the
//! one that the dead run left; all backups that were acknowledged come back byte for byte, and so
//! does any other that is shown; `check` with all data finds no damage; `repair` finds nothing
//! lost, and nothing to do but to tidy what a prune was about to free; the next backup and a
//! prune succeed, and all of that holds again. Where something was damaged on purpose, a repair
//! comes first, which ends what one that was cut off may have begun. The same is done one floor
//! up, with calls to a backend that break off, whose replies are lost, or that come late; and for
//! the real program with `kill -9` in `kill.rs`.
//!
//! | what would go wrong | caught by |
//! |---|---|
//! | bytes of an object not synced | `each_sync_that_is_left_out_is_noticed`, first backup |
//! | the name of an object not synced | the same, first backup |
//! | the name of a folder not synced | the same, first backup |
//! | the repository's own folder not synced | the same, init |
//! | a deleted password slot back after a power cut | the same, passwords |
//! | what a repair copies not synced before the damaged pack goes | the same, a bad pack |
//! | leaning on what a killed run left unsynced | the same, each killed and done again |
//! | a repair that calls that whole | `whatever_a_power_cut_leaves_is_sound`, a lost index |
//! | header before its last pack | `a_header_before_its_last_pack_is_noticed` |
//! | a reply lost, a call that comes late | `whatever_calls_are_lost_or_late_all_is_sound` |
//! | going on after a read that failed | `a_read_that_fails_is_told_or_changes_nothing` |
//! | the same over FTP, SFTP and S3 | `whatever_gets_lost_on_the_way_to_...` |
//!
//! `ICECORE_CRASH_STATES=N` goes on with other seeds until there were N states, and through so
//! many times as many of the other cases as N has thousands; `ICECORE_CRASH_READS=all` refuses
//! each read of each command, instead of some;
//! `ICECORE_CRASH_SEED=S` begins with another one. A state that is found wanting is printed with
//! its seed, its moment, and what was lost; `ICECORE_CRASH_ONLY='...'` judges it alone.

mod calls;
mod cuts;
mod deeds;
mod depth;
mod disk;
mod explore;
mod full;
mod looks;
mod mortal;
mod reading;
mod refusal;
mod restore;
mod served;
mod source;
mod story;
mod tape;
mod verdict;
mod workloads;

use crate::backend::fulfils_the_contract;
use crate::crash::calls::Calls;
use crate::crash::cuts::Cut;
use crate::crash::depth::Depth;
use crate::crash::disk::Change;
use crate::crash::disk::MemoryDisk;
use crate::crash::disk::REPOSITORY;
use crate::crash::disk::Site;
use crate::crash::disk::Tree;
use crate::crash::explore::Manner;
use crate::crash::explore::Recording;
use crate::crash::explore::Stage;
use crate::crash::explore::Violation;
use crate::crash::full::open_with_reads_refused;
use crate::crash::full::refuse_one_by_one;
use crate::crash::reading::refuse_each_read;
use crate::crash::restore::blind_each_look;
use crate::crash::restore::die_at_each_step;
use crate::crash::restore::refuse_each_step;
use crate::crash::served::Bucket;
use crate::crash::served::Served;
use crate::crash::served::Shelf;
use crate::crash::served::go_wrong;
use crate::crash::served::noticed_of_haste;
use crate::crash::story::Medium;
use crate::crash::tape::Hasty;
use crate::crash::workloads::WORKLOADS;
use crate::crash::workloads::Workload;
use crate::support::random::Random;
use crate::support::ways::FTP;
use crate::support::ways::SFTP;
use crate::support::ways::Ways;
use icecore::backend::Backend;
use icecore::backend::key::ObjectKey;
use icecore::backend::local::LocalBackend;
use icecore::base::error::Result;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

/// Fewer would mean that the harness sees less than it did.
const STATES_MIN: usize = 1000;
/// Of so many states one is judged in an ordinary run: others each time, as names are random.
const ONE_STATE_OF: u8 = 3;

fn number(variable: &str) -> Option<usize> {
    std::env::var(variable).ok().and_then(|text| text.parse().ok())
}

/// Judges one workload under one seed: every moment of it; and, after a kill at each moment that
/// matters and at some others, what another process that does it again leaves after each deed,
/// or thoroughly, at times, at every moment of its own.
fn explore(
    workload: &Workload,
    seed: u64,
    is_thorough: bool,
    stage: &mut Stage,
) -> std::result::Result<(), Violation> {
    // With one thread the calls come in the same order each time.
    let manner = Manner { threads: 1 + (seed % 2) as usize, ..Manner::default() };
    let recording = Recording::of(workload, seed, manner);
    recording.all_scenes(&mut |scene| stage.add(scene));
    let mut random = Random(seed);
    let names = recording.moments_of_names();
    for moment in recording.moments() {
        if !names.contains(&moment) && random.below(5) > 0 {
            continue;
        }
        let again = recording.killed_and_done_again(moment, manner);
        if is_thorough && random.below(4) == 0 {
            again.all_scenes(&mut |scene| stage.add(scene));
        } else {
            again.scenes_after_deeds(&mut |scene| stage.add(scene));
        }
        if is_thorough {
            stage.judge()?;
        }
    }
    stage.judge()
}

#[test]
fn whatever_a_power_cut_leaves_is_sound() {
    let first = number("ICECORE_CRASH_SEED").unwrap_or(0) as u64;
    let wanted = number("ICECORE_CRASH_STATES").unwrap_or(0);
    let only = std::env::var("ICECORE_CRASH_ONLY").ok();
    let is_short = wanted == 0 && only.is_none();
    let mut stage = Stage::new(only.clone(), is_short.then_some(ONE_STATE_OF));
    'seeds: for seed in first.. {
        for workload in WORKLOADS {
            let before = stage.count();
            let sound = explore(workload, seed, wanted > 0, &mut stage);
            sound.unwrap_or_else(|violation| panic!("{violation}"));
            eprintln!("seed {seed}, {}: {} states", workload.name, stage.count() - before);
            if wanted > 0 && stage.count() >= wanted {
                break 'seeds;
            }
        }
        if wanted == 0 {
            break;
        }
    }
    eprintln!("{} states were judged", stage.count());
    let enough = if only.is_some() { 1 } else { STATES_MIN };
    assert!(stage.count() >= enough, "only {} states", stage.count());
}

#[test]
fn whatever_calls_are_lost_or_late_all_is_sound() {
    let mut states = 0;
    for workload in WORKLOADS {
        for is_atomic in [true, false] {
            let mut calls = Calls::of(workload, is_atomic, |backend| backend);
            calls.break_off().unwrap();
            calls.lose_replies().unwrap();
            states += calls.count();
        }
    }
    eprintln!("{states} states were judged");
    assert!(states >= 200, "only {states} states");
}

/// Does the workloads over one kind of server.
fn serve(title: &str, make: &dyn Fn() -> Arc<dyn Served>, is_atomic: bool) {
    let count = go_wrong(title, make, is_atomic, WORKLOADS, &Depth::asked());
    assert!(count >= 2 * WORKLOADS.len(), "only {count} cases");
}

#[test]
fn whatever_gets_lost_on_the_way_to_sftp_all_is_sound() {
    serve("SFTP", &|| Arc::new(Shelf::new(SFTP)), true);
}

#[test]
fn whatever_gets_lost_on_the_way_to_ftp_all_is_sound() {
    serve("FTP", &|| Arc::new(Shelf::new(FTP)), true);
    let replaces = Ways { folders_refuse: false, ..FTP };
    serve("FTP, class B", &|| Arc::new(Shelf::new(replaces.clone())), false);
}

#[test]
fn whatever_gets_lost_on_the_way_to_a_bucket_all_is_sound() {
    for (title, is_atomic) in [("S3", true), ("S3, class B", false)] {
        serve(title, &|| Arc::new(Bucket::new(is_atomic)), is_atomic);
    }
}

#[test]
fn whatever_a_full_or_failing_disk_refuses_nothing_is_lost() {
    let (writes, reads) = refuse_one_by_one(WORKLOADS, &Depth::asked());
    eprintln!("{writes} writes and {reads} reads were refused");
    assert!(writes >= 9 * WORKLOADS.len(), "only {writes} writes");
    // A few come to nothing, as runs do not read equally much each time.
    assert!(reads >= 3 * WORKLOADS.len() / 2, "only {reads} reads");
}

/// Repairs acted on what was sound, checks called clean what they could not read, and readers left
/// their leases.
#[test]
fn a_read_that_fails_is_told_or_changes_nothing() {
    let is_all = std::env::var("ICECORE_CRASH_READS").is_ok_and(|text| text == "all");
    let refused = refuse_each_read(&Depth::asked(), is_all);
    eprintln!("{refused} reads were refused");
    assert!(refused >= 80, "only {refused} reads");
}

/// A disk that failed to read the key slot was told as a wrong password.
#[test]
fn a_key_slot_that_cannot_be_read_is_no_wrong_password() {
    assert!(open_with_reads_refused() >= 3, "root, config and slot are read");
}

#[test]
fn a_restore_that_was_killed_and_is_done_again_ends_equal() {
    let count = die_at_each_step();
    eprintln!("{count} restores were killed");
    assert!(count >= 100, "only {count}");
}

#[test]
fn a_restore_whose_disk_refuses_a_step_says_so_and_ends_equal_when_done_again() {
    let count = refuse_each_step(&Depth::asked());
    eprintln!("{count} restores were refused a step");
    assert!(count >= 100, "only {count}");
}

#[test]
fn a_restore_that_cannot_look_at_its_target_says_so_and_ends_equal_when_done_again() {
    let count = blind_each_look(&Depth::asked());
    eprintln!("{count} looks at a target failed");
    assert!(count >= 100, "only {count}");
}

fn workload(name: &str) -> &'static Workload {
    WORKLOADS.iter().find(|workload| workload.name == name).unwrap()
}

/// Planted: the backend does not call one kind of sync.
#[test]
fn each_sync_that_is_left_out_is_noticed() {
    let planted = [
        (Site::Data, "first backup"),
        (Site::ObjectName, "first backup"),
        (Site::FolderName, "first backup"),
        (Site::AboveRoot, "init"),
        (Site::Removal, "passwords"),
        // What can be derived must not be given up for lost.
        (Site::Data, "repair of a bad pack"),
        (Site::ObjectName, "repair of a bad pack"),
    ];
    for (site, name) in planted {
        let manner = Manner { skip: Some(site), ..Manner::default() };
        let mut stage = Stage::default();
        Recording::of(workload(name), 0, manner).all_scenes(&mut |scene| stage.add(scene));
        let violation = stage.judge().expect_err("it must be noticed");
        eprintln!("{site:?} left out: {violation}");
    }
}

/// Planted: a process syncs its own names only, and leans on those of one that was killed before
/// it synced them. Dataset names, indexes and headers were lost that way, each with backups that
/// had been acknowledged.
#[test]
fn leaning_on_what_a_killed_run_left_unsynced_is_noticed() {
    let recording = Recording::of(workload("first backup"), 0, Manner::default());
    let manner = Manner { skip: Some(Site::Others), ..Manner::default() };
    let mut noticed = Vec::new();
    for moment in recording.moments_of_names() {
        let mut stage = Stage::default();
        let again = recording.killed_and_done_again(moment, manner);
        again.scenes_after_deeds(&mut |scene| stage.add(scene));
        noticed.extend(stage.judge().err().map(|violation| violation.to_string()));
    }
    for what in ["/names/", "/index/", "/datasets/"] {
        assert!(noticed.iter().any(|text| text.contains(what)), "{what}: {noticed:#?}");
    }
}

/// Planted: a writer that does not wait until its packs are there.
#[test]
fn a_header_before_its_last_pack_is_noticed() {
    let wrap = |backend| Arc::new(Hasty::new(backend)) as Arc<dyn Backend>;
    for is_atomic in [true, false] {
        let mut calls = Calls::of(workload("first backup"), is_atomic, wrap);
        let what = calls.break_off().expect_err("it must be noticed");
        assert!(what.contains("packs/"), "{what}");
    }
    let mut stage = Stage::default();
    let manner = Manner { wrap, ..Manner::default() };
    Recording::of(workload("first backup"), 0, manner).all_scenes(&mut |scene| stage.add(scene));
    let violation = stage.judge().expect_err("it must be noticed");
    eprintln!("{violation}");
}

/// The same over the clients of servers.
#[test]
fn a_header_before_its_last_pack_is_noticed_behind_servers() {
    let shelf: Arc<dyn Served> = Arc::new(Shelf::new(FTP));
    for place in [shelf, Arc::new(Bucket::new(true))] {
        let noticed = noticed_of_haste(workload("first backup"), place, true);
        assert!(noticed.iter().any(|what| what.contains("packs/")), "{noticed:#?}");
    }
}

/// What the disk in memory shows while it runs is what a real one shows.
#[test]
fn a_local_backend_on_the_disk_in_memory_fulfils_the_contract() {
    let count = AtomicUsize::new(0);
    let disk = MemoryDisk::new(Tree::new());
    fulfils_the_contract(&|| {
        let path = format!("/disk/{}", count.fetch_add(1, Ordering::Relaxed));
        let on = Arc::new(disk.clone());
        Arc::new(LocalBackend::create_on(on, Path::new(&path)).unwrap())
    });
}

fn key(text: &str) -> ObjectKey {
    ObjectKey::new(text).unwrap()
}

/// Returns the disk after a power cut that takes all it may take.
fn worst(disk: &MemoryDisk) -> MemoryDisk {
    let tree = disk.tree();
    let cut = Cut::of(&tree);
    MemoryDisk::new(cut.wake(&cut.nothing_kept()))
}

type Deed<'a> = dyn Fn(&dyn Backend) -> Result<()> + 'a;

/// Puts an object with a backend that is killed after so many changes, for every number of them;
/// then does something with another backend on the same disk, and hands over what is left of that
/// by the worst cut.
fn after_every_kill(then: &Deed<'_>, look: &dyn Fn(&dyn Backend, usize)) {
    for kill in 0.. {
        let disk = MemoryDisk::new(Tree::new());
        let first = disk.create().unwrap();
        disk.kill_after(Some(kill));
        let was_killed = first.put(&key("packs/ab/first"), b"first").is_err();
        disk.kill_after(None);
        let second = disk.open().unwrap();
        if then(&*second).is_ok() {
            look(&*worst(&disk).open().unwrap(), kill);
        }
        if !was_killed {
            assert!(kill > 7, "two folders, a file, its name and their syncs");
            return;
        }
    }
}

/// Two backends on one disk: the folder that the first has made and not synced is there for good
/// when the second has put something into it.
#[test]
fn a_folder_that_another_process_made_is_synced_all_the_same() {
    let put = |second: &dyn Backend| second.put(&key("packs/ab/second"), b"second");
    after_every_kill(&put, &|left, kill| {
        let found = left.get(&key("packs/ab/second"), 99);
        assert_eq!(found.expect("it was acknowledged"), b"second", "{kill}");
    });
}

/// What the first has shown by giving it a name, and not synced, is there for good when the
/// second has seen it and settled.
#[test]
fn an_object_that_was_seen_and_settled_is_there_for_good() {
    let there = |second: &dyn Backend| second.get(&key("packs/ab/first"), 99).map(|_| ());
    let sights: [&Deed<'_>; 4] = [
        &there,
        &|second| second.get_range(&key("packs/ab/first"), 0..1).map(|_| ()),
        &|second| match second.stat(&key("packs/ab/first"))? {
            Some(_) => Ok(()),
            None => there(second),
        },
        &|second| {
            let mut rows = 0;
            second.list(&key("packs/ab/first").folder(), &mut |_| {
                rows += 1;
                Ok(())
            })?;
            if rows > 0 { Ok(()) } else { there(second) }
        },
    ];
    for see in sights {
        let settle = |second: &dyn Backend| see(second).and_then(|()| second.settle());
        after_every_kill(&settle, &|left, kill| {
            let found = left.get(&key("packs/ab/first"), 99);
            assert_eq!(found.expect("it was seen and settled"), b"first", "{kill}");
        });
    }
}

/// Each sync may wait for the disk, and a backup settles many folders that lie side by side.
#[test]
fn a_settle_syncs_the_folders_above_once() {
    let disk = MemoryDisk::new(Tree::new());
    let first = disk.create().unwrap();
    let keys = ["packs/ab/1", "packs/cd/2", "packs/ef/3"].map(key);
    for key in &keys {
        first.put(key, b"content").unwrap();
    }
    let second = disk.open().unwrap();
    for key in &keys {
        second.get(key, 99).unwrap();
    }
    let before = disk.log().len();

    second.settle().unwrap();

    let root = Path::new(REPOSITORY);
    let is_above =
        |change: &&Change| matches!(change, Change::SyncFolder(folder) if folder == root);
    assert_eq!(disk.log()[before..].iter().filter(is_above).count(), 1);
    assert_eq!(worst(&disk).open().unwrap().get(&keys[2], 99).unwrap(), b"content");
}

/// An `init` that was killed right after making the folder, and another one that finds it.
#[test]
fn a_root_that_a_killed_process_made_is_synced_by_the_next() {
    for kill in 0..6 {
        let disk = MemoryDisk::new(Tree::new());
        disk.kill_after(Some(kill));
        let _ = disk.create();
        disk.kill_after(None);
        disk.create().unwrap().put(&key("config"), b"1").unwrap();
        let left = worst(&disk).open().unwrap_or_else(|e| panic!("{REPOSITORY} {kill}: {e}"));
        assert_eq!(left.get(&key("config"), 9).unwrap(), b"1");
    }
}
