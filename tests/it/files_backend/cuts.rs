//! Connections cut at every call: whole or nothing, and doing it again comes to the end.

use crate::files_backend::ROOT;
use crate::files_backend::World;
use crate::files_backend::key;
use crate::files_backend::world;
use crate::support::files::Cut;
use crate::support::ways::FTP;
use crate::support::ways::SFTP;
use crate::support::ways::Ways;
use icecore::backend::Backend;
use icecore::backend::files::FilesBackend;
use icecore::backend::key::FolderKey;
use icecore::base::error::ErrorKind;
use icecore::base::error::Result;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is in the repository besides `tmp`, with its bytes.
fn objects(world: &World) -> BTreeMap<String, Vec<u8>> {
    let backend = world.open().unwrap();
    let mut objects = BTreeMap::new();
    icecore::backend::list_all(&backend, &FolderKey::top(), &mut |object| {
        let bytes = backend.get(&object.key, 1 << 20)?;
        assert_eq!(backend.stat(&object.key)?, Some(bytes.len() as u64));
        objects.insert(object.key.to_string(), bytes);
        Ok(())
    })
    .unwrap();
    objects
}

/// Does something with the connection cut at every call it makes, before and after; each time the
/// state must be one of those allowed, and doing it again must come to the last of them.
fn cut_everywhere(
    ways: &Ways,
    prepare: &dyn Fn(&FilesBackend),
    work: &dyn Fn(&FilesBackend) -> Result<()>,
    allowed: &[&[(&str, &[u8])]],
) {
    let states: Vec<BTreeMap<String, Vec<u8>>> = allowed
        .iter()
        .map(|rows| rows.iter().map(|(key, bytes)| ((*key).to_owned(), bytes.to_vec())).collect())
        .collect();
    for number in 1.. {
        let mut is_over = false;
        for cut in [Cut::Before(number), Cut::After(number)] {
            let world = world(ways.clone());
            let backend = world.create();
            prepare(&backend);
            world.pool.drop_idle();
            world.server.cut(Some(cut));
            let first = work(&backend);
            is_over = (world.server.calls().len() as u64) < number;
            world.server.cut(None);
            let there = objects(&world);
            assert!(states.contains(&there), "{cut:?}: {there:?}");
            if let Err(e) = &first {
                assert_eq!(e.kind(), ErrorKind::Unreachable, "{cut:?}: {e:?}");
            } else {
                assert_eq!(Some(&there), states.last(), "{cut:?}: acknowledged");
            }
            let again = work(&backend);
            match again {
                Ok(()) => {}
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
                Err(e) => panic!("{cut:?}: {e:?}"),
            }
            assert_eq!(Some(&objects(&world)), states.last(), "{cut:?}: repeated");
        }
        if is_over {
            assert!(number > 1, "it was cut somewhere");
            return;
        }
    }
}

fn cut_ways() -> [Ways; 4] {
    let no_over = Ways { rename_over: false, ..SFTP };
    [SFTP, FTP, no_over, Ways { empty_folders_refuse: true, ..FTP }]
}

#[test]
fn a_put_cut_anywhere_is_whole_or_nothing_and_can_be_repeated() {
    for ways in cut_ways() {
        let put = |backend: &FilesBackend| backend.put(&key("packs/ab/p"), b"content");
        cut_everywhere(&ways, &|_| {}, &put, &[&[], &[("packs/ab/p", b"content")]]);
    }
}

#[test]
fn a_put_new_cut_anywhere_is_whole_or_nothing_and_can_be_repeated() {
    for ways in cut_ways() {
        let put = |backend: &FilesBackend| backend.put_new(&key("d/0/7"), b"content");
        cut_everywhere(&ways, &|_| {}, &put, &[&[], &[("d/0/7", b"content")]]);
    }
}

#[test]
fn a_put_new_onto_a_taken_key_changes_nothing_wherever_it_is_cut() {
    for ways in cut_ways() {
        let prepare = |backend: &FilesBackend| backend.put_new(&key("d/7"), b"first").unwrap();
        let put = |backend: &FilesBackend| match backend.put_new(&key("d/7"), b"other") {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(()),
            Ok(()) => panic!("it replaced the first one"),
            other => other,
        };
        cut_everywhere(&ways, &prepare, &put, &[&[("d/7", b"first")]]);
    }
}

#[test]
fn a_delete_cut_anywhere_leaves_all_or_nothing_and_can_be_repeated() {
    for ways in cut_ways() {
        for created in [true, false] {
            let prepare = |backend: &FilesBackend| match created {
                true => backend.put_new(&key("d/7"), b"first").unwrap(),
                false => backend.put(&key("d/7"), b"first").unwrap(),
            };
            let delete = |backend: &FilesBackend| backend.delete(&key("d/7"));
            cut_everywhere(&ways, &prepare, &delete, &[&[("d/7", b"first")], &[]]);
        }
    }
}

#[test]
fn making_a_repository_cut_anywhere_is_repeated() {
    for ways in [SFTP, FTP, Ways { folders_refuse: false, ..FTP }] {
        let expected = world(ways.clone()).create().capabilities();
        for number in 1.. {
            let world = world(ways.clone());
            world.server.cut(Some(Cut::After(number)));
            let location = "x".to_owned();
            let first = FilesBackend::create(Arc::clone(&world.pool), ROOT, location);
            let is_over = (world.server.calls().len() as u64) < number;
            world.server.cut(None);
            // By itself, on a new session, and by whoever comes next.
            let first = first.unwrap_or_else(|e| panic!("{number}: {e:?}"));
            for backend in [first, world.create()] {
                assert_eq!(backend.capabilities(), expected, "{number}");
                backend.put(&key("a/b"), b"1").unwrap();
            }
            if is_over {
                break;
            }
        }
    }
}
