//! Which backups are copied, and which numbers they get.

use crate::engine_copy::all;
use crate::engine_copy::assert_same;
use crate::engine_copy::copy_all;
use crate::engine_copy::copy_some;
use crate::engine_copy::five_versions;
use crate::engine_copy::numbers;
use crate::engine_copy::some;
use crate::engine_copy::try_copy;
use crate::support::pruning::assert_sound;
use crate::support::pruning::try_prune;
use crate::support::world::World;
use icecore::base::error::ErrorKind;
use icecore::base::time::Timestamp;
use icecore::engine::backup::BackupOptions;
use icecore::source::memory::MemorySource;

/// Backups of so many seconds, each with a file of its own and one that changes.
fn at_times(world: &World, source: &MemorySource, times: &[i64]) {
    for &time in times {
        source.put_file("changing", format!("at {time}"));
        source.put_file(format!("{time}"), b"stays");
        let time = Some(Timestamp::new(time, 0));
        world.backup_with(source, &BackupOptions { time, ..Default::default() }).unwrap();
    }
}

#[test]
fn gaps_that_a_forget_has_left_are_closed() {
    for make in [World::memory, World::class_b] {
        let (mut from, to) = (make(), World::encrypted());
        let source = MemorySource::new("s");
        at_times(&from, &source, &[10, 20, 30, 40]);
        from.hide(1);
        try_prune(&from, false).unwrap();

        assert_eq!(numbers(&copy_all(&from, &to)), [(0, 0), (2, 1), (3, 2)]);

        for (number, copied) in [(0, 0), (2, 1), (3, 2)] {
            assert_same(&from, number, &to, copied);
        }
        // What the target's newest is a copy of is forgotten, at first still there, then not.
        at_times(&from, &source, &[50]);
        from.hide(3);
        let one = copy_all(&from, &to);
        assert_eq!((numbers(&one), one.present), (vec![(4, 3)], 2));
        at_times(&from, &source, &[60]);
        from.hide(4);
        try_prune(&from, false).unwrap();
        from.forget_caches();
        let one = copy_all(&from, &to);
        assert_eq!((numbers(&one), one.present), (vec![(5, 4)], 2));
        assert_same(&from, 5, &to, 4);
        assert_sound(&to);
    }
}

#[test]
fn what_was_forgotten_there_comes_back_only_when_it_is_named() {
    let (from, to) = (World::memory(), World::memory());
    at_times(&from, &MemorySource::new("s"), &[10, 20, 30]);
    copy_all(&from, &to);
    to.hide(1);
    to.hide(2);

    let one = copy_all(&from, &to);

    assert_eq!((one.copied.len(), one.present, one.forgotten), (0, 1, 2));
    let one = copy_some(&from, &to, some(&from.repository, &[2]));
    assert_eq!(numbers(&one), [(2, 3)]);
    assert_same(&from, 2, &to, 3);
    let error = try_copy(&from, &to, some(&from.repository, &[1])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("data@1 is older than the newest"), "{error}");
}

#[test]
fn nothing_older_is_put_on_top() {
    let (from, to) = (World::memory(), World::memory());
    let source = MemorySource::new("s");
    at_times(&from, &source, &[10, 20]);
    // The target has made a backup of its own of the same thing.
    at_times(&to, &source, &[25]);
    at_times(&from, &source, &[30, 28]);

    let one = copy_all(&from, &to);

    // Of one line numbers tell, whatever the clock said.
    assert_eq!((numbers(&one), one.older), (vec![(2, 1), (3, 2)], 2));
    assert_same(&from, 2, &to, 1);
    assert_same(&from, 3, &to, 2);
    let one = copy_all(&from, &to);
    assert_eq!((one.copied.len(), one.present, one.older), (0, 2, 2));
}

#[test]
fn copies_of_copies_are_known() {
    let (a, b, c) = (World::memory(), World::encrypted(), World::memory());
    five_versions(&a);
    copy_some(&a, &b, some(&a.repository, &[0, 1, 2]));
    copy_all(&b, &c);

    let one = copy_all(&a, &c);

    assert_eq!((numbers(&one), one.present), (vec![(3, 3), (4, 4)], 3));
    assert_same(&a, 4, &c, 4);
    let back = copy_all(&c, &b);
    assert_eq!(numbers(&back), [(3, 3), (4, 4)]);
    assert_eq!(copy_all(&b, &a).present, 5, "and the first one knows them again");
}

#[test]
fn two_things_under_one_name_are_not_mixed_up() {
    let (from, to) = (World::memory(), World::memory());
    at_times(&from, &MemorySource::new("s"), &[30]);
    at_times(&to, &MemorySource::new("another"), &[10]);
    let before = to.object_count();

    let error = try_copy(&from, &to, all(&from.repository)).unwrap_err();

    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("another"), "{error}");
    assert_eq!(to.object_count(), before);
}

#[test]
fn a_repository_is_not_copied_into_itself() {
    let from = World::encrypted();
    at_times(&from, &MemorySource::new("s"), &[30]);

    let error = try_copy(&from, &from, all(&from.repository)).unwrap_err();

    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("are one repository"), "{error}");
}
