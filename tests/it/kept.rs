//! Repositories that were written once and are kept, in `data`: each opens, is sound, restores to
//! what it was made of, and goes on being used.
//!
//! `ICECORE_WRITE_GOLDEN=1` makes those that are missing; that is for new ones. A change of the
//! stored format that leaves one behind is followed by a version that reads it, once the format is
//! frozen.

use crate::support::restored::options;
use crate::support::restored::path;
use crate::support::restored::restore;
use crate::support::restored::text;
use crate::support::tree::noise;
use crate::support::world::World;
use icecore::backend::key::ObjectKey;
use icecore::base::id::BackupId;
use icecore::base::metadata::Kind;
use icecore::base::path::EntryPath;
use icecore::base::time::Timestamp;
use icecore::engine::backup;
use icecore::engine::backup::BackupKind;
use icecore::engine::backup::BackupOptions;
use icecore::engine::check;
use icecore::engine::check::CheckOptions;
use icecore::engine::parity;
use icecore::engine::prune;
use icecore::engine::prune::PruneOptions;
use icecore::source::memory::MemorySource;
use icecore::target::memory::MemoryTarget;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

const PARITY_PERCENT: u8 = 10;
/// The backup that was forgotten.
const FORGOTTEN: u64 = 1;

type Objects = BTreeMap<ObjectKey, Vec<u8>>;

/// What was backed up, state by state.
fn states() -> Vec<MemorySource> {
    let first = || {
        let source = MemorySource::new("kept")
            .file("a/text", text(20_000))
            .file("a/empty", b"")
            .file("noise", noise(30_000, 1))
            .sparse_file("holes", 1 << 20, &[(8192, &[7; 4096]), (1 << 19, &[9; 500])])
            .directory("hollow")
            .symlink("link", "a/text")
            .fifo("pipe")
            .device("tty", Kind::CharDevice, (5, 1))
            .hard_link("z/again", "a/text")
            .xattr("noise", "user.colour", "blue");
        source.edit("a", |entry| entry.metadata.mode = 0o750);
        source.edit("noise", |entry| entry.metadata.mtime = Timestamp::new(1_700_000_000, 123));
        source
    };
    let second = || {
        let source = first();
        source.put_file("new", b"new in the second");
        source.remove("hollow");
        source
    };
    let third = || {
        let source = second();
        source.put_file("noise", [noise(30_000, 1), text(3000)].concat());
        source.put_file("b/c/d", noise(900, 2));
        source.remove("new");
        source
    };
    vec![first(), second(), third(), third().file("last", text(900))]
}

fn made(world: &mut World) {
    for (number, state) in states().iter().enumerate() {
        let tags = vec![format!("state-{number}")];
        let description = format!("the state {number}");
        let full = number == 2;
        let options = BackupOptions { full, tags, description, ..BackupOptions::default() };
        assert_eq!(world.backup_with(state, &options).unwrap().errors, []);
    }
    let other = "other".parse().unwrap();
    let source = MemorySource::new("other").file("song", noise(2000, 3));
    let (repository, context) = (&world.repository, world.context());
    backup::run(repository, &other, &source, &BackupOptions::default(), &context).unwrap();
    world.hide(FORGOTTEN);
    prune_all(world);
    parity::add(&world.repository, PARITY_PERCENT, &world.context()).unwrap();
}

fn prune_all(world: &World) {
    let options = PruneOptions { max_unused: 0.0, ..PruneOptions::default() };
    prune::run(&world.repository, &options, &world.context()).unwrap();
}

fn place(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/data").join(name)
}

fn write(place: &Path, objects: &Objects) {
    for (key, bytes) in objects {
        let file = place.join(key.as_str());
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, bytes).unwrap();
    }
}

fn read(place: &Path) -> Objects {
    let mut objects = Objects::new();
    let mut folders = vec![place.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|e| panic!("{folder:?}: {e}")) {
            let file = entry.unwrap().path();
            if file.is_dir() {
                folders.push(file);
                continue;
            }
            let key = file.strip_prefix(place).unwrap().to_str().unwrap();
            objects.insert(ObjectKey::new(key).unwrap(), fs::read(&file).unwrap());
        }
    }
    objects
}

/// All that is told of an entry in a target.
type Told = (Kind, icecore::base::metadata::Metadata, Vec<u8>, (u32, u32), Option<Vec<u8>>);

fn told(target: &MemoryTarget) -> BTreeMap<EntryPath, Told> {
    let entries = target.entries().into_iter();
    let tell = |(path, it): (EntryPath, icecore::target::memory::MemoryEntry)| {
        let content = target.content(&path);
        (path, (it.kind, it.metadata, it.link_target, it.device, content))
    };
    entries.map(tell).collect()
}

/// Checks that the states that were not forgotten restore to what they were.
fn assert_whole(world: &World) {
    for (number, state) in states().iter().enumerate() {
        if number as u64 == FORGOTTEN {
            continue;
        }
        let kept = MemoryTarget::new();
        restore(world, number as u64, &kept, &options());
        let fresh = World::memory();
        assert_eq!(fresh.backup(state).unwrap().errors, []);
        let today = MemoryTarget::new();
        restore(&fresh, 0, &today, &options());
        assert_eq!(told(&kept), told(&today), "state {number}");
        assert_eq!(kept.extents(&path("holes")), today.extents(&path("holes")));
        let inode = |at: &str| kept.entries()[&path(at)].inode;
        assert_eq!(inode("a/text"), inode("z/again"));
    }
}

fn assert_sound(world: &World) {
    let all = CheckOptions { read_data: Some(100.0), ..CheckOptions::default() };
    let report = check::run(&world.repository, &all, &world.context()).unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    assert!(report.blobs > 0);
}

#[test]
fn what_was_kept_is_sound_restores_and_goes_on() {
    for (name, new) in [
        ("version-1-plain", World::memory as fn() -> World),
        ("version-1-encrypted", World::encrypted),
        ("version-1-class-b", World::class_b),
    ] {
        let place = place(name);
        if std::env::var("ICECORE_WRITE_GOLDEN").is_ok_and(|it| it == "1") && !place.exists() {
            let mut world = new();
            made(&mut world);
            write(&place, &world.backend.objects());
        }
        let mut world = new();
        world.reset(&read(&place));

        assert_sound(&world);
        assert_whole(&world);
        let dataset = world.repository.dataset(&world.name()).unwrap();
        let backups = dataset.backups().unwrap();
        let numbers: Vec<BackupId> = backups.iter().map(|it| it.header.number).collect();
        assert_eq!(numbers, [0, 2, 3].map(BackupId));
        assert_eq!(world.full_numbers(), [0, 2]);
        let status = parity::status(&world.repository).unwrap();
        assert_eq!((status.with_parity, status.packs > 0), (status.packs, true));
        assert_eq!(status.percents.keys().collect::<Vec<_>>(), [&PARITY_PERCENT]);

        // It goes on: nothing changed, something changed, and what nobody needs goes.
        let last = states().pop().unwrap();
        let same = world.backup(&last).unwrap();
        assert_eq!((same.backup, same.kind), (BackupId(3), BackupKind::Unchanged), "{name}");
        let report = world.backup(&last.file("b/more", noise(700, 9))).unwrap();
        assert_eq!((report.backup, report.counts.added), (BackupId(4), 1), "{name}");
        prune_all(&world);
        assert_whole(&world);
        assert_eq!(world.content(4, "b/more"), noise(700, 9));
    }
}
