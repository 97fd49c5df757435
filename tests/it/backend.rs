//! Backends of this machine and wrappers held to the contract, and what is theirs alone.

use contract::Shared;
use contract::folder;
pub(crate) use contract::fulfils_the_contract;
use contract::key;
use contract::kind_of;
use contract::listed;
use icecore::backend::Backend;
use icecore::backend::key::FolderKey;
use icecore::backend::key::ObjectKey;
use icecore::backend::local::LocalBackend;
use icecore::backend::memory::MemoryBackend;
use icecore::backend::wrap::counting::CountingBackend;
use icecore::backend::wrap::fault::FaultBackend;
use icecore::backend::wrap::limit::LimitBackend;
use icecore::backend::wrap::read_only::ReadOnlyBackend;
use icecore::backend::wrap::record::RecordBackend;
use icecore::backend::wrap::retry::RetryBackend;
use icecore::backend::wrap::retry::RetryPolicy;
use icecore::backend::wrap::sleeper::NotingSleeper;
use icecore::backend::wrap::throttle::Bandwidth;
use icecore::backend::wrap::throttle::ThrottleBackend;
use icecore::base::error::ErrorKind;
use icecore::base::time::FixedClock;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use tempfile::TempDir;

// Included by the tests with real servers too.
mod contract;
mod linkless;
mod settle;
mod unmounted;

/// Local folders that live as long as the test.
fn local() -> (TempDir, LocalBackend) {
    let folder = tempfile::tempdir().expect("a folder");
    let backend = LocalBackend::create(&folder.path().join("repository")).expect("created");
    (folder, backend)
}

fn memory() -> Shared {
    Arc::new(MemoryBackend::new())
}

#[test]
fn local_folders_fulfil_the_contract() {
    let folders = tempfile::tempdir().expect("a folder");
    let count = AtomicUsize::new(0);
    fulfils_the_contract(&|| {
        let name = count.fetch_add(1, Ordering::Relaxed).to_string();
        Arc::new(LocalBackend::create(&folders.path().join(name)).expect("created"))
    });
}

#[test]
fn memory_fulfils_the_contract_in_both_classes() {
    fulfils_the_contract(&memory);
    fulfils_the_contract(&|| Arc::new(MemoryBackend::with_atomic_create(false)));
}

#[test]
fn wrappers_fulfil_the_contract() {
    let sleeper = || Arc::new(NotingSleeper::default());
    let bandwidth =
        Bandwidth { bytes_up_per_second: Some(1 << 30), bytes_down_per_second: Some(1 << 30) };
    let clock = || Arc::new(FixedClock::default());
    let makers: [&dyn Fn() -> Shared; 6] = [
        &|| Arc::new(RetryBackend::new(memory(), RetryPolicy::default(), sleeper())),
        &|| Arc::new(ThrottleBackend::new(memory(), bandwidth, clock(), sleeper())),
        &|| Arc::new(LimitBackend::new(memory(), 1)),
        &|| Arc::new(CountingBackend::new(memory())),
        &|| Arc::new(FaultBackend::new(memory(), Vec::new())),
        &|| Arc::new(RecordBackend::new(memory())),
    ];
    for make in makers {
        fulfils_the_contract(make);
    }
}

#[test]
fn a_read_only_view_shows_all_and_changes_nothing() {
    let inner = memory();
    inner.put(&key("a/b"), b"1").expect("stored");
    let view: Shared = Arc::new(ReadOnlyBackend::new(Arc::clone(&inner)));

    assert_eq!(kind_of(view.put(&key("c"), b"1")), Some(ErrorKind::Denied));
    assert_eq!(kind_of(view.delete(&key("a/b"))), Some(ErrorKind::Denied));
    assert_eq!(listed(&view, "a"), listed(&inner, "a"));
    assert_eq!(view.stat(&key("a/b")).expect("there"), Some(1));
}

#[test]
fn what_a_killed_writer_leaves_is_not_shown() {
    let (folder, backend) = local();
    let root = folder.path().join("repository");
    let backend: Shared = Arc::new(backend);
    backend.put(&key("packs/ab/whole"), b"whole").expect("stored");
    std::fs::write(root.join("tmp/00ff"), b"torn").expect("left behind");

    assert_eq!(listed(&backend, "").into_keys().collect::<Vec<_>>(), ["packs"]);
    assert!(listed(&backend, "tmp").is_empty());
    assert!(kind_of(backend.get(&key("tmp/00ff"), 9)).is_some());
    let again = LocalBackend::open(&root).expect("opens all the same");
    assert_eq!(again.get(&key("packs/ab/whole"), 9).expect("there"), b"whole");
}

#[test]
fn foreign_files_are_neither_shown_nor_touched() {
    let (folder, backend) = local();
    let root = folder.path().join("repository");
    let backend: Shared = Arc::new(backend);
    backend.put(&key("packs/ab/c"), b"1").expect("stored");
    for foreign in [".DS_Store", "packs/Thumbs.db", "packs/a b", "packs/ab/c~"] {
        std::fs::write(root.join(foreign), b"foreign").expect("written");
    }
    std::fs::create_dir(root.join("lost+found")).expect("made");
    std::fs::create_dir(root.join("packs/.snapshot")).expect("made");
    std::os::unix::fs::symlink("nowhere", root.join("packs/dangling")).expect("linked");

    assert_eq!(listed(&backend, "").into_keys().collect::<Vec<_>>(), ["packs"]);
    assert_eq!(listed(&backend, "packs").into_keys().collect::<Vec<_>>(), ["packs/ab"]);
    assert_eq!(listed(&backend, "packs/ab").into_keys().collect::<Vec<_>>(), ["packs/ab/c"]);
    assert!(root.join("packs/Thumbs.db").exists());
}

#[test]
fn a_folder_that_cannot_be_read_is_an_error() {
    let (place, backend) = local();
    let root = place.path().join("repository");
    // A loop, as permissions do not stop a superuser who runs the tests.
    std::os::unix::fs::symlink("packs", root.join("packs")).expect("linked");

    assert_eq!(kind_of(backend.list(&folder("packs"), &mut |_| Ok(()))), Some(ErrorKind::Io));
    assert_eq!(kind_of(backend.list(&folder(""), &mut |_| Ok(()))), Some(ErrorKind::Io));
    assert_eq!(kind_of(backend.stat(&key("packs/a"))), Some(ErrorKind::Io));
    assert_eq!(kind_of(backend.get(&key("packs/a"), 9)), Some(ErrorKind::Io));
    assert_eq!(kind_of(backend.delete(&key("packs/a"))), Some(ErrorKind::Io));
}

#[test]
fn keys_that_would_leave_the_folder_cannot_be_made() {
    for bad in ["../escape", "/etc/passwd", "a/../b", "", ".hidden", "a//b", "A"] {
        assert!(ObjectKey::new(bad).is_err(), "{bad}");
        assert!(FolderKey::top().object(bad).is_err(), "{bad}");
    }
}
