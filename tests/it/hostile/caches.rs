//! The cache may say where to look, never that something is there: whatever stands in it, what
//! the repository holds comes back.

use crate::hostile::forge::key;
use crate::hostile::forge::put;
use crate::support::world::World;
use icecore::backend::Backend;
use icecore::backend::local::LocalBackend;
use icecore::base::error::ErrorKind;
use icecore::base::id::BackupId;
use icecore::base::id::LeaseId;
use icecore::base::id::PackId;
use icecore::base::path::EntryPath;
use icecore::codec::frame::ObjectKind;
use icecore::engine::backup;
use icecore::engine::backup::BackupOptions;
use icecore::format::dataset::HiddenRecord;
use icecore::format::pack::BlockRow;
use icecore::format::pack_index;
use icecore::format::pack_index::IndexedPack;
use icecore::repository::Repository;
use icecore::repository::layout;
use icecore::source::memory::MemorySource;
use std::path::Path;
use std::sync::Arc;

fn source(name: &str, content: &[u8]) -> MemorySource {
    let source = MemorySource::new("memory");
    source.put_file(name, content);
    source
}

fn paths(repository: &Repository, world: &World, number: u64) -> Vec<String> {
    let dataset = repository.dataset(&world.name()).unwrap();
    let numbers = dataset.all_numbers().unwrap();
    let found = dataset.backup(&numbers, BackupId(number)).unwrap().expect("is there");
    let snapshot = dataset.snapshot(&numbers, Arc::new(found)).unwrap();
    snapshot.entries().map(|tracked| tracked.unwrap().entry.path.to_string()).collect()
}

#[test]
fn cached_headers_that_make_no_sense_are_read_anew() {
    for world in World::both() {
        world.backup(&source("a", b"one")).unwrap();
        assert_eq!(world.paths(0), ["", "a"]);
        let cache = world.repository.cache();
        let mut spoiled = 0;
        for file in cache.list("seen") {
            if !file.starts_with("highest-") {
                cache.write(&format!("seen/{file}"), b"of another repository");
                spoiled += 1;
            }
        }
        assert_eq!(spoiled, 2, "the name and the header were cached");
        assert_eq!(world.paths(0), ["", "a"]);
    }
}

fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let there = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &there);
        } else {
            std::fs::copy(entry.path(), there).unwrap();
        }
    }
}

/// One repository copied to two places, and then put back to an earlier state: the same numbers
/// stand for other backups, and one machine has seen them all.
#[test]
fn backups_of_one_number_in_two_copies_are_not_mixed_up() {
    for new in [World::memory as fn() -> World, World::encrypted] {
        two_copies(new);
    }
}

fn two_copies(new: fn() -> World) {
    let world = new();
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    let at = |path: &Path| Arc::new(LocalBackend::open(path).unwrap()) as Arc<dyn Backend>;
    LocalBackend::create(&first).unwrap();
    for (object, bytes) in world.backend.objects() {
        at(&first).put(&object, &bytes).unwrap();
    }
    let back_up = |repository: &Repository, name: &str| {
        let options = BackupOptions::default();
        backup::run(repository, &world.name(), &source(name, b"x"), &options, &world.context())
            .unwrap();
    };
    back_up(&world.open_beside(at(&first)), "0");
    copy_tree(&first, &second);
    back_up(&new().open_beside(at(&first)), "a");
    back_up(&new().open_beside(at(&second)), "b");

    assert_eq!(paths(&world.open_beside(at(&first)), &world, 1), ["", "a"]);
    assert_eq!(paths(&world.open_beside(at(&second)), &world, 1), ["", "b"]);
    std::fs::rename(&first, folder.path().join("away")).unwrap();
    std::fs::rename(&second, &first).unwrap();
    assert_eq!(paths(&world.open_beside(at(&first)), &world, 1), ["", "b"]);
}

/// A kept index that is sound in itself and leads nowhere.
#[test]
fn a_cached_index_that_lies_is_loaded_anew() {
    for world in World::both() {
        world.backup(&source("a", &[7; 5000])).unwrap();
        let cache = world.repository.cache();
        let pack = IndexedPack { pack: PackId::new([9; 32]), size: 9999, salt: [1; 32] };
        for id in world.repository.index().ids() {
            let mut rows: Vec<BlockRow> = Vec::new();
            let visit = &mut |location: icecore::repository::index::Location| {
                rows.push(location.row);
                Ok(())
            };
            world.repository.index().visit(&id, visit).unwrap();
            let rows: Vec<(u32, &BlockRow)> = rows.iter().map(|row| (0, row)).collect();
            let plain = pack_index::encode(LeaseId::new([0; 16]), &[pack], &rows).unwrap();
            cache.write(&format!("index/{id}"), &plain);
        }
        let shared: Arc<dyn Backend> = Arc::clone(&world.backend) as Arc<dyn Backend>;
        let fooled = world.open_beside(shared);
        let path = EntryPath::new(b"a").unwrap();
        let entry = world.snapshot(0).entry(&path).unwrap().unwrap().entry;
        let run = fooled.runs_of(entry.file().unwrap()).unwrap()[0];
        assert_eq!(fooled.read_blob(&run.block, run.first).unwrap().len() as u64, run.bytes);
    }
}

/// A store without the key puts a marker of its own, or one it was given for another backup.
#[test]
fn a_forget_marker_that_was_forged_hides_nothing() {
    for world in World::both() {
        let is_encrypted = world.is_encrypted();
        world.backup(&source("a", b"one")).unwrap();
        world.backup(&source("b", b"two")).unwrap();
        let dataset = world.repository.dataset(&world.name()).unwrap();
        let marker = |n: u64| {
            let header = layout::header(&dataset.id(), BackupId(n)).unwrap();
            key(format!("{header}.hidden"))
        };
        put(
            &world,
            ObjectKind::Hidden,
            &marker(0),
            &HiddenRecord { number: 0, written: crate::hostile::forge::NOW },
        );
        let given = world.backend.objects()[&marker(0)].clone();
        let forged = [given, b"forged".to_vec()];
        for bytes in forged {
            world.backend.insert_raw(&marker(1), bytes);
            let numbers = dataset.all_numbers().unwrap();
            let outcome = dataset.newest(&numbers).map(|found| found.map(|b| b.header.number.0));
            let error = outcome.expect_err("nobody forgot it");
            assert_eq!(error.kind(), ErrorKind::Corrupt, "encrypted: {is_encrypted}");
        }
        let numbers = dataset.all_numbers().unwrap();
        assert!(dataset.backup(&numbers, BackupId(0)).unwrap().is_none(), "this one is forgotten");
    }
}
