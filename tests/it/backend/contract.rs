//! The contract of a backend as functions over a factory, run for every backend and wrapper.
//!
//! A new backend is done when it passes; the suite is not changed for it.

use icecore::backend::Backend;
use icecore::backend::Listed;
use icecore::backend::ObjectInfo;
use icecore::backend::key::FolderKey;
use icecore::backend::key::ObjectKey;
use icecore::backend::list_all;
use icecore::base::error::Error;
use icecore::base::error::ErrorKind;
use icecore::base::error::Origin;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::Barrier;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

/// After so long no more races are begun.
const RACES_LIMIT: Duration = Duration::from_secs(4);

pub(crate) type Shared = Arc<dyn Backend>;
type Clause = fn(&Shared);

/// Every clause of the contract, by name.
const CONTRACT: &[(&str, Clause)] = &[
    ("an object comes back whole", an_object_comes_back_whole),
    ("putting the same bytes again is success", putting_the_same_bytes_again_is_success),
    ("an empty object is an object", an_empty_object_is_an_object),
    ("what is missing is not found", what_is_missing_is_not_found),
    ("a folder is no object", a_folder_is_no_object),
    ("get is bounded", get_is_bounded),
    ("a range is exactly as long as asked", a_range_is_exactly_as_long_as_asked),
    ("deleting what is missing is success", deleting_what_is_missing_is_success),
    ("a deleted object is gone everywhere", a_deleted_object_is_gone_everywhere),
    ("a listing shows what is directly there", a_listing_shows_what_is_directly_there),
    ("a missing folder is an empty list", a_missing_folder_is_an_empty_list),
    ("list all goes to any depth", list_all_goes_to_any_depth),
    ("the visitor's error ends the listing", the_visitors_error_ends_the_listing),
    ("the visitor may call the backend", the_visitor_may_call_the_backend),
    ("long keys are kept", long_keys_are_kept),
    ("put new refuses a taken key", put_new_refuses_a_taken_key),
    ("of many put new one wins", of_many_put_new_one_wins),
    ("readers never see a part", readers_never_see_a_part),
    ("a listing during puts shows the earlier", a_listing_during_puts_shows_the_earlier),
    ("equal puts at once all succeed", equal_puts_at_once_all_succeed),
];

/// Runs every clause on a fresh backend each.
pub(crate) fn fulfils_the_contract(make: &dyn Fn() -> Shared) {
    for (name, clause) in CONTRACT {
        let backend = make();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| clause(&backend)));
        assert!(outcome.is_ok(), "{}: {name}", backend.location());
    }
}

pub(crate) fn key(text: &str) -> ObjectKey {
    ObjectKey::new(text).expect("a good key")
}

pub(crate) fn folder(text: &str) -> FolderKey {
    FolderKey::new(text).expect("a good folder")
}

pub(crate) fn kind_of<T>(outcome: Result<T, Error>) -> Option<ErrorKind> {
    let error = outcome.err()?;
    assert_eq!(error.origin(), Origin::Repository, "{error:?}");
    Some(error.kind())
}

/// Returns the keys of objects with their sizes, and of folders with none; each must come once.
pub(crate) fn listed(backend: &Shared, text: &str) -> BTreeMap<String, Option<u64>> {
    let mut rows = BTreeMap::new();
    let visit = &mut |row| {
        let (name, size) = match row {
            Listed::Object(ObjectInfo { key, size, .. }) => (key.to_string(), size),
            Listed::Folder(folder) => (folder.to_string(), None),
        };
        assert!(rows.insert(name.clone(), size).is_none(), "{name} is listed twice");
        Ok(())
    };
    backend.list(&folder(text), visit).expect("listed");
    rows
}

fn an_object_comes_back_whole(backend: &Shared) {
    let bytes: Vec<u8> = (0..300_000_u32).map(|number| (number % 251) as u8).collect();
    backend.put(&key("packs/ab/abcd"), &bytes).expect("stored");

    assert_eq!(backend.get(&key("packs/ab/abcd"), bytes.len()).expect("there"), bytes);
    assert_eq!(backend.stat(&key("packs/ab/abcd")).expect("there"), Some(300_000));
    for text in ["packs", "packs/ab"] {
        let (all, mut names) = (listed(backend, text), Vec::new());
        let visit = &mut |row| {
            names.push(match row {
                Listed::Object(object) => object.key.to_string(),
                Listed::Folder(folder) => folder.to_string(),
            });
            Ok(())
        };
        backend.list_names(&folder(text), visit).expect("listed");
        names.sort_unstable();
        assert!(all.keys().eq(&names), "names alone are the same: {names:?}");
    }
}

fn putting_the_same_bytes_again_is_success(backend: &Shared) {
    backend.put(&key("index/a"), b"same").expect("stored");
    backend.put(&key("index/a"), b"same").expect("stored again");

    assert_eq!(backend.get(&key("index/a"), 4).expect("there"), b"same");
    assert_eq!(listed(backend, "index").len(), 1);
}

fn an_empty_object_is_an_object(backend: &Shared) {
    backend.put(&key("empty"), b"").expect("stored");

    assert_eq!(backend.get(&key("empty"), 0).expect("there"), b"");
    assert_eq!(backend.get_range(&key("empty"), 0..0).expect("there"), b"");
    assert_eq!(backend.stat(&key("empty")).expect("there"), Some(0));
    assert_eq!(listed(backend, "")["empty"], Some(0));
}

fn what_is_missing_is_not_found(backend: &Shared) {
    backend.put(&key("file"), b"1").expect("stored");
    for missing in ["none", "no/such/folder", "file/below"] {
        let missing = key(missing);
        assert_eq!(kind_of(backend.get(&missing, 9)), Some(ErrorKind::NotFound), "{missing}");
        let range = backend.get_range(&missing, 0..1);
        assert_eq!(kind_of(range), Some(ErrorKind::NotFound), "{missing}");
        assert_eq!(backend.stat(&missing).expect("no error"), None, "{missing}");
    }
}

fn a_folder_is_no_object(backend: &Shared) {
    backend.put(&key("a/b/c"), b"1").expect("stored");

    assert_eq!(kind_of(backend.get(&key("a/b"), 9)), Some(ErrorKind::NotFound));
    assert_eq!(backend.stat(&key("a/b")).expect("no error"), None);
    backend.delete(&key("a/b")).expect("there is no such object");
    assert_eq!(backend.get(&key("a/b/c"), 9).expect("still there"), b"1");
}

fn get_is_bounded(backend: &Shared) {
    backend.put(&key("five"), b"12345").expect("stored");

    assert_eq!(backend.get(&key("five"), 5).expect("just fits"), b"12345");
    assert_eq!(kind_of(backend.get(&key("five"), 4)), Some(ErrorKind::Corrupt));
    assert_eq!(kind_of(backend.get(&key("five"), 0)), Some(ErrorKind::Corrupt));
    assert_eq!(backend.get(&key("five"), usize::MAX).expect("fits"), b"12345");
}

fn a_range_is_exactly_as_long_as_asked(backend: &Shared) {
    backend.put(&key("five"), b"12345").expect("stored");
    let range = |range| backend.get_range(&key("five"), range);

    assert_eq!(range(0..5).expect("all"), b"12345");
    assert_eq!(range(1..3).expect("some"), b"23");
    assert_eq!(range(5..5).expect("none"), b"");
    for beyond in [0..6, 4..6, 5..6, 6..6, 7..9, 0..u64::MAX, u64::MAX..u64::MAX] {
        assert_eq!(kind_of(range(beyond.clone())), Some(ErrorKind::Corrupt), "{beyond:?}");
    }
    let reversed = std::ops::Range { start: 3, end: 1 };
    assert_eq!(kind_of(range(reversed)), Some(ErrorKind::InvalidInput));
}

fn deleting_what_is_missing_is_success(backend: &Shared) {
    backend.put(&key("file"), b"1").expect("stored");
    for missing in ["none", "no/such/folder", "file/below"] {
        backend.delete(&key(missing)).expect(missing);
    }
}

fn a_deleted_object_is_gone_everywhere(backend: &Shared) {
    backend.put(&key("a/one"), b"1").expect("stored");
    backend.put(&key("a/two"), b"2").expect("stored");
    backend.delete(&key("a/one")).expect("deleted");

    assert_eq!(kind_of(backend.get(&key("a/one"), 9)), Some(ErrorKind::NotFound));
    assert_eq!(backend.stat(&key("a/one")).expect("no error"), None);
    assert_eq!(listed(backend, "a").into_keys().collect::<Vec<_>>(), ["a/two"]);
    backend.delete(&key("a/one")).expect("deleted already");
    backend.put(&key("a/one"), b"1").expect("stored again");
}

fn a_listing_shows_what_is_directly_there(backend: &Shared) {
    for (text, bytes) in [("top", "1"), ("a/one", "12"), ("a/b/two", "123"), ("ab/three", "1")] {
        backend.put(&key(text), bytes.as_bytes()).expect("stored");
    }
    let rows = |rows: &[(&str, Option<u64>)]| -> BTreeMap<String, Option<u64>> {
        rows.iter().map(|(name, size)| ((*name).to_owned(), *size)).collect()
    };

    assert_eq!(listed(backend, ""), rows(&[("a", None), ("ab", None), ("top", Some(1))]));
    assert_eq!(listed(backend, "a"), rows(&[("a/b", None), ("a/one", Some(2))]));
    assert_eq!(listed(backend, "a/b"), rows(&[("a/b/two", Some(3))]));
}

fn a_missing_folder_is_an_empty_list(backend: &Shared) {
    backend.put(&key("file"), b"1").expect("stored");
    for missing in ["none", "no/such/folder", "file", "file/below"] {
        assert!(listed(backend, missing).is_empty(), "{missing}");
    }
}

fn list_all_goes_to_any_depth(backend: &Shared) {
    let names = ["a/1", "a/b/2", "a/b/c/3", "d/4", "5"];
    for name in names {
        backend.put(&key(name), b"1").expect("stored");
    }
    let all = |top: &str| {
        let mut seen = Vec::new();
        let visit = &mut |object: ObjectInfo| {
            seen.push(object.key.to_string());
            Ok(())
        };
        list_all(backend.as_ref(), &folder(top), visit).expect("listed");
        seen.sort();
        seen
    };

    assert_eq!(all(""), ["5", "a/1", "a/b/2", "a/b/c/3", "d/4"]);
    assert_eq!(all("a/b"), ["a/b/2", "a/b/c/3"]);
}

fn the_visitors_error_ends_the_listing(backend: &Shared) {
    backend.put(&key("a"), b"1").expect("stored");
    backend.put(&key("b"), b"1").expect("stored");
    let mut shown = 0;

    let outcome = backend.list(&FolderKey::top(), &mut |_| {
        shown += 1;
        Err(Error::cancelled())
    });

    assert_eq!(outcome.expect_err("ended").kind(), ErrorKind::Cancelled);
    assert_eq!(shown, 1);
}

fn the_visitor_may_call_the_backend(backend: &Shared) {
    for name in ["a", "b", "c"] {
        backend.put(&key(name), name.as_bytes()).expect("stored");
    }

    let deleted = backend.list(&FolderKey::top(), &mut |row| match row {
        Listed::Object(object) => {
            backend.get(&object.key, 1)?;
            backend.delete(&object.key)
        }
        Listed::Folder(_) => Ok(()),
    });

    deleted.expect("all deleted");
    assert!(listed(backend, "").is_empty());
}

fn long_keys_are_kept(backend: &Shared) {
    let long = format!("datasets/{}/{}.tags-0_1", "a".repeat(200), "0".repeat(200));
    backend.put(&key(&long), b"1").expect("stored");

    assert_eq!(backend.get(&key(&long), 1).expect("there"), b"1");
    let above = key(&long).folder();
    assert_eq!(listed(backend, above.as_str()).into_keys().collect::<Vec<_>>(), [long]);
}

fn put_new_refuses_a_taken_key(backend: &Shared) {
    let taken = key("datasets/d/0/7");
    if !backend.capabilities().atomic_create {
        assert_eq!(kind_of(backend.put_new(&taken, b"1")), Some(ErrorKind::Unsupported));
        assert_eq!(backend.stat(&taken).expect("no error"), None);
        return;
    }
    backend.put_new(&taken, b"first").expect("free");

    for bytes in [b"other", b"first"] {
        assert_eq!(kind_of(backend.put_new(&taken, bytes)), Some(ErrorKind::AlreadyExists));
    }
    assert_eq!(backend.get(&taken, 9).expect("there"), b"first");
    backend.put(&key("put"), b"1").expect("stored");
    assert_eq!(kind_of(backend.put_new(&key("put"), b"1")), Some(ErrorKind::AlreadyExists));
    backend.delete(&taken).expect("deleted");
    backend.put_new(&taken, b"second").expect("free again");
}

fn of_many_put_new_one_wins(backend: &Shared) {
    if !backend.capabilities().atomic_create {
        return;
    }
    // Many threads as the contract says; few that run side by side hit closer. A store that lets
    // who meets another wait for a second goes through fewer rounds.
    for (threads, rounds) in [(32, 8), (3, 150)] {
        let began = Instant::now();
        let mut round = 0;
        while round < rounds && (round < 2 || began.elapsed() < RACES_LIMIT) {
            let stretch = round..rounds.min(round + 2);
            for (wins, round) in race(backend, threads, stretch.clone()).into_iter().zip(stretch) {
                let contested = key(&format!("datasets/d/{threads}/{round}"));
                assert_eq!(wins.len(), 1, "{wins:?} of {threads} won round {round}");
                assert_eq!(backend.get(&contested, 2000).expect("there"), [wins[0]; 2000]);
            }
            round += 2;
        }
    }
}

/// Lets threads race for one key after another and returns who won each.
fn race(backend: &Shared, threads: u8, rounds: Range<usize>) -> Vec<Vec<u8>> {
    let barrier = Barrier::new(usize::from(threads));
    let run = |number: u8| -> Vec<bool> {
        let bytes = [number; 2000];
        let mut won = Vec::new();
        for round in rounds.clone() {
            let contested = key(&format!("datasets/d/{threads}/{round}"));
            barrier.wait();
            // Any other failure counts as a win too, so that the count is wrong.
            let outcome = backend.put_new(&contested, &bytes);
            won.push(outcome.map_or_else(|e| e.kind() != ErrorKind::AlreadyExists, |()| true));
        }
        won
    };
    let mut wins = vec![Vec::new(); rounds.len()];
    std::thread::scope(|scope| {
        let run = &run;
        let running: Vec<_> = (0..threads).map(|number| scope.spawn(move || run(number))).collect();
        for (number, thread) in (0..threads).zip(running) {
            let won = thread.join().expect("no panic").into_iter().enumerate();
            won.filter(|(_, won)| *won).for_each(|(round, _)| wins[round].push(number));
        }
    });
    wins
}

fn readers_never_see_a_part(backend: &Shared) {
    let (total, bytes) = (20, vec![7; 200_000]);
    // Without an atomic create, what is on its way may be shown a moment before it is found.
    let may_be_early = !backend.capabilities().atomic_create;
    let stored = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..total {
                backend.put(&key(&format!("packs/{number:02}")), &bytes).expect("stored");
                stored.store(number + 1, Ordering::Release);
            }
        });
        while stored.load(Ordering::Acquire) < total {
            for (number, (name, size)) in listed(backend, "packs").into_iter().enumerate() {
                assert_eq!(size, Some(200_000));
                let is_stored = number < stored.load(Ordering::Acquire);
                match backend.get(&key(&name), 200_000) {
                    Err(e) if e.kind() == ErrorKind::NotFound && may_be_early && !is_stored => {}
                    there => assert_eq!(there.expect("there"), bytes),
                }
            }
        }
    });
}

fn a_listing_during_puts_shows_the_earlier(backend: &Shared) {
    let total = 150;
    let stored = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..total {
                backend.put(&key(&format!("index/{number:04}")), b"1").expect("stored");
                stored.store(number + 1, Ordering::Release);
            }
        });
        loop {
            let before = stored.load(Ordering::Acquire);
            let rows = listed(backend, "index");
            for number in 0..before {
                assert!(rows.contains_key(&format!("index/{number:04}")), "{number} of {before}");
            }
            if before == total {
                return;
            }
        }
    });
}

fn equal_puts_at_once_all_succeed(backend: &Shared) {
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for number in 0..8 {
                    backend.put(&key(&format!("packs/{number:02}/p")), b"same").expect("stored");
                }
            });
        }
    });

    assert_eq!(listed(backend, "packs").len(), 8);
    assert_eq!(listed(backend, "packs/07")["packs/07/p"], Some(4));
}
