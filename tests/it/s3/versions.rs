//! Versions of a bucket's objects: as entries of a backup, and back in a bucket.

use crate::s3::fake::Reply;
use crate::s3::store::Store;
use crate::s3::target::Scratch;
use crate::support::restored::options;
use crate::support::restored::overwriting;
use crate::support::restored::path;
use crate::support::restored::restore;
use crate::support::restored::try_restore;
use crate::support::world::World;
use icecore::base::cancel::Cancel;
use icecore::base::error::ErrorKind;
use icecore::base::error::Origin;
use icecore::engine::backup::BackupKind;
use icecore::engine::restore::Overwrite;
use icecore::engine::restore::RestoreOptions;
use icecore::source::Source;
use icecore::source::bucket::BucketSource;
use icecore::target::memory::MemoryTarget;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

fn source(store: &Store) -> BucketSource {
    BucketSource::new(store.client(), "p").with_versions()
}

/// Objects with a past: one that came again, one that is gone, one with many, one without any.
fn lived() -> Store {
    let store = Store::with_versions();
    for number in 0..25 {
        store.put("p/many.txt", format!("{number}").as_bytes(), &[("x-amz-meta-n", "x")]);
    }
    store.put("p/d/a.jpg", b"one", &[("content-type", "image/x")]);
    store.put("p/d/a.jpg", b"", &[]);
    store.delete("p/d/a.jpg");
    store.put("p/d/a.jpg", b"three", &[]);
    store.put("p/gone", b"was here", &[]);
    store.delete("p/gone");
    store.put("p/new", b"new", &[]);
    store
}

fn backed_up(store: &Store) -> World {
    let world = World::memory();
    assert_eq!(world.backup(&source(store)).unwrap().errors, []);
    world
}

#[test]
fn versions_are_files_beside_their_object() {
    let store = lived();
    let world = backed_up(&store);

    let target = MemoryTarget::new();
    restore(&world, 0, &target, &options());

    let entries = target.entries();
    let content = |text: &str| target.content(&path(text)).unwrap();
    assert_eq!(content("d/a.jpg"), b"three");
    assert_eq!(content("new"), b"new");
    assert_eq!(content("many.txt"), b"24");
    let below = |folder: &str| -> Vec<String> {
        let within = |at: &&icecore::base::path::EntryPath| {
            at.is_within(&path(folder)) && **at != path(folder)
        };
        entries.keys().filter(within).map(|at| at.to_string()).collect()
    };
    let of_a = below("d/a.jpg@versions");
    assert_eq!(of_a.len(), 3, "{of_a:?}");
    let contents: Vec<_> = of_a.iter().map(|at| content(at)).collect();
    assert_eq!(contents, [&b"one"[..], b"", b""]);
    assert!(of_a[0].ends_with(".jpg") && of_a[2].ends_with(".deleted"), "{of_a:?}");
    let many = below("many.txt@versions");
    let numbers: Vec<_> = many.iter().map(|at| String::from_utf8(content(at)).unwrap()).collect();
    assert_eq!(numbers, (0..24).map(|number| number.to_string()).collect::<Vec<_>>());
    let gone = below("gone@versions");
    assert_eq!((gone.len(), content(&gone[0])), (2, b"was here".to_vec()));
    assert!(!entries.contains_key(&path("gone")) && !entries.contains_key(&path("new@versions")));
    let words: Vec<_> = entries[&path(&of_a[0])].metadata.xattrs.iter().collect();
    let words: Vec<_> = words.iter().map(|it| String::from_utf8_lossy(&it.name)).collect();
    assert_eq!(words, ["user.s3.content-type", "user.s3.version"]);
}

/// Of one key the marks came instead of the versions, without a word.
#[test]
fn versions_and_marks_that_are_listed_apart_are_those_of_one_key() {
    let store = lived();
    // Neighbours that make marks and versions of one key stand apart.
    for key in ["p/d/b.jpg", "p/gone-2", "p/gone-3"] {
        store.put(key, b"1", &[]);
        store.put(key, b"2", &[]);
        store.delete(key);
    }
    let world = backed_up(&store);
    store.show_marks_last();

    let again = world.backup(&source(&store)).unwrap();

    assert_eq!((again.kind, again.errors), (BackupKind::Unchanged, Vec::new()));
    let grouped = backed_up(&store);
    let shown = |world: &World| {
        let target = MemoryTarget::new();
        restore(world, 0, &target, &options());
        let entries = target.entries().into_keys();
        entries.map(|at| (at.to_string(), target.content(&at))).collect::<Vec<_>>()
    };
    assert_eq!(shown(&grouped), shown(&world));
}

/// An object that was deleted and came again; by how much was put before, the mark has the second
/// of the version before it or that of the one behind it.
fn with_marks(puts_before: usize) -> Store {
    let store = Store::with_versions();
    for _ in 0..puts_before {
        store.put("q", b"", &[]);
    }
    store.put("p/back", b"1", &[]);
    store.delete("p/back");
    store.put("p/back", b"2", &[]);
    store
}

/// A version took the time of the mark behind it, and its place: the history became D, 1, 2.
#[test]
fn marks_that_are_listed_behind_all_versions_of_their_key_come_where_they_were() {
    for more in [&[][..], &["p/d"], &["p/a", "p/c"]] {
        let store = with_marks(0);
        for key in more {
            store.put(key, b"1", &[]);
        }
        store.show_marks_last();

        let world = backed_up(&store);

        let target = MemoryTarget::new();
        restore(&world, 0, &target, &options());
        let entries = target.entries();
        let below = entries.keys().filter(|at| at.is_within(&path("back@versions")));
        let below: Vec<_> = below.skip(1).map(|at| at.to_string()).collect();
        assert_eq!(below.len(), 2, "{below:?}");
        assert!(below[1].ends_with(".deleted"), "{below:?}");
        assert_eq!(target.content(&path(&below[0])).unwrap(), b"1");
    }
    for puts_before in 0..2 {
        let store = with_marks(puts_before);
        store.put("p/gone", b"1", &[]);
        store.delete("p/gone");
        store.show_marks_last();

        let world = backed_up(&store);

        let target = MemoryTarget::new();
        restore(&world, 0, &target, &options());
        let entries = target.entries();
        let below = entries.keys().filter(|at| at.is_within(&path("gone@versions")));
        let below: Vec<_> = below.skip(1).map(|at| at.to_string()).collect();
        assert!(below.len() == 2 && below[1].ends_with(".deleted"), "{below:?}");
    }
}

/// All versions were copied and put once more, and it ended with an error.
#[test]
fn versions_that_are_listed_apart_from_marks_are_in_order() {
    for puts_before in 0..2 {
        let (one, other) = (with_marks(0), Store::with_versions());
        one.put("p/gone", b"1", &[]);
        one.delete("p/gone");
        for _ in 0..puts_before {
            other.put("q", b"", &[]);
        }
        let world = backed_up(&one);
        other.show_marks_last();

        let report = try_restore(&world, 0, &Scratch::new().target(&other), &options()).unwrap();

        assert_eq!(report.errors, []);
        for key in ["p/back", "p/gone"] {
            assert_eq!(other.history(key), one.history(key), "{key}");
        }
        let asked = other.fake.asked();
        assert!(!asked.iter().any(|it| it.header("x-amz-copy-source").is_some()));
    }
}

#[test]
fn what_has_no_new_version_is_unchanged() {
    let store = lived();
    let world = backed_up(&store);
    let again = world.backup(&source(&store)).unwrap();
    assert_eq!(again.kind, BackupKind::Unchanged, "{:?}", again.counts);

    // The same content once more is another version.
    store.put("p/new", b"new", &[]);
    let before = store.count("GET", "/b/p/");
    let report = world.backup(&source(&store)).unwrap();

    let counts = report.counts;
    assert_eq!((counts.added, counts.modified, counts.deleted), (1, 1, 0), "{counts:?}");
    assert_eq!(store.count("GET", "/b/p/") - before, 2, "the old one and the new one");
}

#[test]
fn versions_go_back_in_order() {
    let (one, other) = (lived(), Store::with_versions());
    let world = backed_up(&one);
    let wanted = RestoreOptions { verify: true, ..options() };

    restore(&world, 0, &Scratch::new().target(&other), &wanted);

    for key in ["p/many.txt", "p/d/a.jpg", "p/gone", "p/new"] {
        assert_eq!(other.history(key), one.history(key), "{key}");
    }
    assert_eq!((other.keys(), other.uploads()), (one.keys(), 0));
    assert_eq!(other.get("p/many.txt").unwrap().word("n"), Some("x"));

    // Once they are there, they are not put again.
    restore(&world, 0, &Scratch::new().target(&other), &overwriting(Overwrite::IfChanged));
    for key in ["p/many.txt", "p/d/a.jpg", "p/gone", "p/new"] {
        assert_eq!(other.history(key), one.history(key), "{key}");
    }
    assert_eq!((other.keys(), other.uploads()), (one.keys(), 0));
    let notes = world.progress.warnings();
    let is_it = |note: &String| note.contains("have versions there already");
    assert!(notes.iter().any(is_it), "{notes:?}");
}

/// AWS shows that version as the last whose upload was begun last: an object came back deleted.
#[test]
fn versions_go_back_in_order_where_what_was_begun_last_is_the_last() {
    let (one, other) = (lived(), Store::with_versions());
    one.put("p/tagged", b"1", &[]);
    one.client().set_tags("p/tagged", None, &[("k".into(), "v".into())]).unwrap();
    one.delete("p/tagged");
    one.put("p/tagged", b"2", &[]);
    let world = backed_up(&one);
    other.order_by_begin();
    let wanted = RestoreOptions { verify: true, ..options() };

    restore(&world, 0, &Scratch::new().target(&other), &wanted);

    for key in ["p/many.txt", "p/d/a.jpg", "p/gone", "p/new", "p/tagged"] {
        assert_eq!(other.history(key), one.history(key), "{key}");
    }
    assert_eq!((other.keys(), other.uploads()), (one.keys(), 0));
    assert_eq!(other.get("p/many.txt").unwrap().word("n"), Some("x"));
    assert_eq!(other.tags("p/tagged"), one.tags("p/tagged"));
    let asked = other.fake.asked();
    let mut tagged = asked.iter().filter(|it| it.method == "PUT" && it.has("?tagging"));
    assert!(tagged.all(|it| it.has("&versionId=")), "the last one may be another");
}

#[test]
fn versions_in_another_order_are_an_error() {
    let (one, other) = (lived(), Store::with_versions());
    let world = backed_up(&one);
    other.order_by_begin();
    other.trick(|asked| {
        let is_copy = asked.header("x-amz-copy-source").is_some();
        is_copy.then(|| Reply::error(403, "AccessDenied"))
    });

    let report = try_restore(&world, 0, &Scratch::new().target(&other), &options()).unwrap();

    assert_ne!(other.history("p/d/a.jpg"), one.history("p/d/a.jpg"));
    let is_told = report.errors.iter().any(|it| it.path == Some(path("d/a.jpg")));
    assert!(is_told, "{:?}", report.errors);
    let is_of_order = |message: &str| message.contains("cannot keep the order of the versions");
    assert!(report.errors.iter().all(|it| is_of_order(&it.message)), "{:?}", report.errors);
}

/// The older ones were put on top of it.
#[test]
fn a_version_whose_tags_are_refused_stays_the_last() {
    for is_right_missing in [false, true] {
        let (one, other) = (Store::with_versions(), Store::with_versions());
        for content in [b"1", b"2", b"3"] {
            one.put("p/a", content, &[]);
        }
        one.client().set_tags("p/a", None, &[("k".into(), "v".into())]).unwrap();
        let world = backed_up(&one);
        other.trick(move |asked| {
            let is_tagging = asked.method == "PUT" && asked.has("?tagging");
            let is_refused = is_tagging && (is_right_missing || asked.has("&versionId="));
            is_refused.then(|| Reply::error(403, "AccessDenied"))
        });

        let report = try_restore(&world, 0, &Scratch::new().target(&other), &options()).unwrap();

        assert_eq!(other.history("p/a"), one.history("p/a"));
        assert_eq!(report.errors.len(), usize::from(is_right_missing), "{:?}", report.errors);
        assert_eq!(other.tags("p/a") == one.tags("p/a"), !is_right_missing);
    }
}

/// Copies and deletions took turns, oldest first: what came to an end between left an older one.
#[test]
fn the_newest_version_is_the_last_where_the_order_cannot_be_made() {
    let (one, refused) = (lived(), Store::with_versions());
    let world = backed_up(&one);
    refused.order_by_begin();
    refused.trick(|asked| {
        let is_refused = asked.method == "DELETE" && asked.has("?versionId=");
        is_refused.then(|| Reply::error(403, "AccessDenied"))
    });

    let report = try_restore(&world, 0, &Scratch::new().target(&refused), &options()).unwrap();

    for key in ["p/many.txt", "p/d/a.jpg", "p/gone", "p/new"] {
        assert!(refused.history(key).ends_with(&one.history(key)), "{key}");
    }
    let is_told = report.errors.iter().any(|it| it.path == Some(path("d/a.jpg")));
    assert!(is_told, "{:?}", report.errors);

    let missed = Store::with_versions();
    missed.order_by_begin();
    let copies = AtomicU64::new(0);
    missed.trick(move |asked| {
        let is_copy = asked.header("x-amz-copy-source").is_some() && asked.has("/d/a.jpg");
        let is_second = is_copy && copies.fetch_add(1, Ordering::Relaxed) == 1;
        is_second.then(|| Reply::error(403, "AccessDenied"))
    });

    let report = try_restore(&world, 0, &Scratch::new().target(&missed), &options()).unwrap();

    let history = missed.history("p/d/a.jpg");
    assert_eq!(history.last(), Some(&Some(b"three".to_vec())), "{history:?}");
    assert_eq!(history.iter().filter(|it| **it == Some(b"one".to_vec())).count(), 1);
    assert_eq!(report.errors.len(), 1, "{:?}", report.errors);
}

/// It came to lie below all versions of the backup.
#[test]
fn a_version_that_somebody_else_puts_meanwhile_stays_the_last() {
    let (one, other) = (lived(), Arc::new(Store::with_versions()));
    let world = backed_up(&one);
    let store = Arc::clone(&other);
    other.trick(move |asked| {
        let is_look = asked.has("versions") && asked.has("a.jpg");
        if is_look && store.history("p/d/a.jpg").len() == 4 {
            store.put("p/d/a.jpg", b"foreign", &[]);
        }
        None
    });

    let report = try_restore(&world, 0, &Scratch::new().target(&other), &options()).unwrap();

    let [of_backup @ .., last] = &other.history("p/d/a.jpg")[..] else { panic!("nothing there") };
    assert_eq!(*of_backup, one.history("p/d/a.jpg"));
    assert_eq!(*last, Some(b"foreign".to_vec()));
    let [failure] = report.errors.as_slice() else { panic!("{:?}", report.errors) };
    assert!(failure.message.contains("others stand among them"), "{failure:?}");
}

#[test]
fn a_bucket_without_versions_gets_them_as_objects() {
    let (one, other) = (lived(), Store::new());
    let world = backed_up(&one);
    let wanted = RestoreOptions { verify: true, ..options() };

    restore(&world, 0, &Scratch::new().target(&other), &wanted);

    assert_eq!(other.get("p/d/a.jpg").unwrap().bytes, b"three");
    let keys = other.keys();
    let versions: Vec<_> = keys.iter().filter(|key| key.starts_with("p/many.txt@")).collect();
    assert_eq!(versions.len(), 24, "{keys:?}");
    let notes = world.progress.warnings();
    let is_it = |note: &String| note.contains("the bucket keeps no versions");
    assert!(notes.iter().any(is_it), "{notes:?}");
}

#[test]
fn a_store_that_lists_no_versions_is_named() {
    for reply in [
        Reply::error(501, "NotImplemented"),
        Reply::ok("<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"),
    ] {
        let store = Store::new();
        store.put("p/a", b"1", &[]);
        store.trick(move |asked| asked.has("versions").then(|| reply.clone()));
        let source = source(&store);
        let error = source.scan(&Cancel::new()).map(|_| ()).unwrap_err();
        assert_eq!((error.kind(), error.origin()), (ErrorKind::Unsupported, Origin::Source));
        let host = format!("127.0.0.1:{}", store.fake.port);
        assert!(error.to_string().contains(&host), "{error}");
    }
}

/// The one that came first was left out without a word.
#[test]
fn a_folder_that_is_called_as_that_of_versions_is_told_of() {
    for key in ["p/a@versions/x", "p/a@versions"] {
        let store = Store::with_versions();
        for content in [b"1", b"2"] {
            store.put("p/a", content, &[]);
        }
        store.put(key, b"own", &[]);
        let world = World::memory();

        let report = world.backup(&source(&store)).unwrap();

        let [failure] = report.errors.as_slice() else { panic!("{:?}", report.errors) };
        assert!(failure.message.contains("p/a@versions is not stored"), "{failure:?}");
        let target = MemoryTarget::new();
        restore(&world, 0, &target, &options());
        let entries = target.entries();
        let below = entries.keys().filter(|at| at.is_within(&path("a@versions")));
        let below: Vec<_> = below.map(|at| at.to_string()).collect();
        // A folder of keys stays, and of an object and a folder the latter.
        assert_eq!(below.len(), 2, "{below:?}");
        assert_eq!(below[1] == "a@versions/x", key.ends_with('x'), "{below:?}");
    }
}
