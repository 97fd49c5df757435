//! A bucket as a target: what an object gets, what stays, and a store that fails.

use crate::s3::fake::Reply;
use crate::s3::store::LOST;
use crate::s3::store::Store;
use crate::support::restored::backed_up;
use crate::support::restored::options;
use crate::support::restored::overwriting;
use crate::support::restored::plan;
use crate::support::restored::restore;
use crate::support::restored::rich_source;
use crate::support::restored::small_source;
use crate::support::restored::try_restore;
use crate::support::tree::noise;
use crate::support::world::World;
use icecore::base::error::ErrorKind;
use icecore::base::metadata::Kind;
use icecore::base::path::EntryPath;
use icecore::engine::backup::BackupKind;
use icecore::engine::restore::Overwrite;
use icecore::engine::restore::RestoreOptions;
use icecore::source::bucket::BucketSource;
use icecore::source::memory::MemorySource;
use icecore::target::bucket::BucketTarget;
use icecore::target::memory::MemoryTarget;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use tempfile::TempDir;

pub(crate) struct Scratch(TempDir);

impl Scratch {
    pub(crate) fn new() -> Self {
        Scratch(tempfile::tempdir().unwrap())
    }

    pub(crate) fn target(&self, store: &Store) -> BucketTarget {
        BucketTarget::new(store.client(), "p", self.0.path().to_path_buf())
    }
}

pub(crate) fn source(store: &Store) -> BucketSource {
    BucketSource::new(store.client(), "p")
}

/// Restores into a bucket with nothing that is reported.
pub(crate) fn put_into(store: &Store, world: &World, options: &RestoreOptions) {
    restore(world, 0, &Scratch::new().target(store), options);
}

#[test]
fn what_came_from_a_folder_comes_back_from_a_bucket() {
    let world = backed_up(&rich_source());
    let store = Store::new();

    put_into(&store, &world, &options());

    let notes = world.progress.warnings();
    let copies = |note: &String| note.contains("no second names: 2 further names");
    assert!(notes.iter().any(copies), "{notes:?}");
    let again = World::memory();
    assert_eq!(again.backup(&source(&store)).unwrap().errors, []);
    let unchanged = again.backup(&source(&store)).unwrap();
    assert_eq!(unchanged.kind, BackupKind::Unchanged, "{:?}", unchanged.counts);
    let (one, other) = (MemoryTarget::new(), MemoryTarget::new());
    restore(&world, 0, &one, &options());
    restore(&again, 0, &other, &options());
    let (mut expected, mut found) = (one.entries(), other.entries());
    for (at, entry) in expected.iter_mut().chain(&mut found) {
        entry.inode = 0;
        assert!(entry.kind != Kind::Directory || !at.is_root() || entry.size == 0);
    }
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (at, entry) in &expected {
        assert_eq!(format!("{:?}", found[at]), format!("{entry:?}"), "{at}");
        assert!(one.content(at) == other.content(at), "{at}");
    }
}

#[test]
fn words_are_those_that_other_programs_use() {
    let source = MemorySource::new("m").file("a.html", b"x").symlink("l", "a.html");
    source.edit("a.html", |entry| {
        entry.metadata.mode = 0o640;
        entry.metadata.mtime = icecore::base::time::Timestamp::new(1_700_000_000, 5);
    });
    let world = backed_up(&source);
    let store = Store::new();

    put_into(&store, &world, &options());

    let stored = store.get("p/a.html").unwrap();
    assert_eq!(stored.headers["content-type"], "text/html");
    assert_eq!(stored.word("mtime"), Some("1700000000.000000005"));
    assert_eq!(stored.word("mode"), Some("0100640"));
    let link = store.get("p/l").unwrap();
    assert_eq!((link.bytes.as_slice(), link.word("mode")), (&b"a.html"[..], Some("0120777")));
}

#[test]
fn what_came_from_a_bucket_is_the_same_in_another() {
    let (one, other) = (Store::new(), Store::new());
    one.put("p/a", b"1", &[("content-type", "text/x"), ("x-amz-meta-mtime", "soon")]);
    let more = [("cache-control", "no-store"), ("x-amz-meta-a", "b  c"), ("content-type", "y/z")];
    one.put("p/d/b.html", b"22", &more);
    one.put("p/empty/", b"", &[("content-type", "application/x-directory")]);
    one.put("p/plain", b"", &[]);
    one.client().set_tags("p/a", None, &[("k".into(), "v w".into())]).unwrap();
    let world = World::memory();
    assert_eq!(world.backup(&source(&one)).unwrap().errors, []);

    put_into(&other, &world, &options());

    assert_eq!(other.keys(), one.keys());
    for key in one.keys().iter().filter(|key| *key != "p/plain") {
        let (found, expected) = (other.get(key).unwrap(), one.get(key).unwrap());
        assert_eq!(found.bytes, expected.bytes, "{key}");
        assert_eq!(found.headers, expected.headers, "{key}");
        assert_eq!(found.tags, expected.tags, "{key}");
    }
}

#[test]
fn only_what_differs_is_put_again() {
    let world = backed_up(&rich_source());
    let store = Store::new();
    put_into(&store, &world, &options());
    let puts = || store.count("PUT", "") + store.count("POST", "");
    let gets = || {
        let is_content = |target: &str| !target.contains('?');
        let asked = store.fake.asked();
        asked.iter().filter(|it| it.method == "GET" && is_content(&it.target)).count()
    };
    let links = 2;
    let (before, read) = (puts(), gets());
    let restored = |number: u64| {
        let target = Scratch::new();
        restore(&world, number, &target.target(&store), &overwriting(Overwrite::IfChanged))
    };

    restored(0);

    // Second names are made again, and so are links, pipes and devices.
    let again = puts() - before;
    assert!(again <= links + 4, "{again}");
    assert_eq!(gets(), read, "nothing is read that is marked");

    // Somebody wrote other content of the same length, and took the words along.
    let old = store.get("p/a/twin").unwrap();
    let mut words: Vec<(&str, &str)> =
        old.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    words.retain(|(name, _)| *name != "x-amz-meta-mtime");
    words.push(("x-amz-meta-mtime", "1.5"));
    store.put("p/a/twin", &vec![1; old.bytes.len()], &words);
    store.put("p/c/deep/er/file", b"other", &[]);
    let before = puts();
    restored(0);
    assert_eq!(store.get("p/a/twin").unwrap().bytes, old.bytes);
    assert_eq!(store.get("p/a/twin").unwrap().headers, old.headers);
    assert_eq!(store.get("p/c/deep/er/file").unwrap().bytes, noise(70_000, 3));
    assert_eq!(puts() - before, again + 2);

    // Other content of another length, with all the words: to cut it off makes it no better.
    for length in [old.bytes.len() + 9, old.bytes.len() - 9] {
        let words = old.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        store.put("p/a/twin", &vec![1; length], &words.collect::<Vec<_>>());
        restored(0);
        assert_eq!(store.get("p/a/twin").unwrap().bytes, old.bytes, "{length}");
    }

    // Only what stands beside it differs: the store copies.
    store.put("p/a/one", b"first name", &[]);
    let sent = |store: &Store| {
        store.fake.asked().iter().filter(|it| it.header("x-amz-copy-source").is_some()).count()
    };
    let before = sent(&store);
    restored(0);
    assert_eq!(store.get("p/a/one").unwrap().word("mode"), Some("0100644"));
    assert_eq!(sent(&store) - before, links + 1);
}

#[test]
fn what_is_there_is_treated_by_the_rule() {
    let world = backed_up(&small_source());
    for (rule, a) in [
        (Overwrite::Always, &b"alpha"[..]),
        (Overwrite::IfChanged, b"alpha"),
        (Overwrite::IfNewer, b"mine!"),
        (Overwrite::Never, b"mine!"),
    ] {
        let store = Store::new();
        // Put later than the backup's file was changed.
        store.put("p/a", b"mine!", &[]);
        store.put("p/extra", b"x", &[]);

        put_into(&store, &world, &overwriting(rule));

        assert_eq!(store.get("p/a").unwrap().bytes, a, "{rule:?}");
        assert_eq!(store.get("p/f/c").unwrap().bytes, b"gamma");
        assert!(store.get("p/extra").is_some());
    }
    let store = Store::new();
    store.put("p/extra", b"x", &[]);
    let error = try_restore(&world, 0, &Scratch::new().target(&store), &options()).unwrap_err();
    assert!(error.to_string().contains("s3://b/p is not empty"), "{error}");
}

#[test]
fn a_dry_run_tells_and_does_nothing() {
    let world = backed_up(&small_source());
    let store = Store::new();
    store.put("p/a", b"mine!", &[]);
    store.put("p/x", b"extra", &[]);
    let wanted = RestoreOptions { delete: true, ..overwriting(Overwrite::IfChanged) };

    let (_, rows) = plan(&world, 0, &Scratch::new().target(&store), &wanted);

    let expected = ["update a", "create b", "create f", "create f/c", "create l", "delete x"];
    assert_eq!(rows[1..], expected);
    assert_eq!(store.count("PUT", "") + store.count("POST", "") + store.count("DELETE", ""), 0);
}

#[test]
fn deleting_stays_below_the_prefix_and_spares_what_is_no_path() {
    let world = backed_up(&small_source());
    let store = Store::new();
    let stay = ["p", "pa/x", "q", "p-/y", "p//x", "p/../q/z", "p/./x", "p/gone/../../q2"];
    let go = ["p/extra", "p/gone/a", "p/gone/b/c", "p/f/", "p/f/extra/d", "p/a/below", "p/gone/"];
    for key in stay.iter().chain(&go) {
        store.put(key, b"x", &[]);
    }
    let wanted = RestoreOptions { delete: true, ..overwriting(Overwrite::IfChanged) };

    let report = restore(&world, 0, &Scratch::new().target(&store), &wanted);

    assert_eq!(report.deleted, 4, "a as a folder, extra, gone, f/extra");
    let mut expected: Vec<_> = stay.iter().map(|key| (*key).to_owned()).collect();
    expected.extend(["p/", "p/a", "p/b", "p/f/", "p/f/c", "p/l"].map(str::to_owned));
    expected.sort();
    assert_eq!(store.keys(), expected);
    let notes = world.progress.warnings();
    let is_it = |note: &String| note.contains("no paths of files were left as they are: 4 of them");
    assert!(notes.iter().any(is_it), "{notes:?}");
    for asked in store.fake.asked() {
        assert!(!asked.target.contains("/../"), "a server might take it for another key");
    }
}

/// The keys of all of it were held in memory.
#[test]
fn a_folder_of_many_is_deleted_some_at_a_time() {
    let world = backed_up(&small_source());
    let store = Store::new();
    for number in 0..2500 {
        store.put(&format!("p/many/{number}"), b"1", &[]);
    }
    store.put("p/many/a/../b", b"1", &[]);

    put_into(&store, &world, &RestoreOptions { delete: true, ..overwriting(Overwrite::IfChanged) });

    let left = store.keys().into_iter().filter(|key| key.starts_with("p/many"));
    assert_eq!(left.collect::<Vec<_>>(), ["p/many/a/../b"]);
    let asked = store.fake.asked();
    let deleted: Vec<_> = asked.iter().map(|it| it.method == "DELETE").collect();
    let first = deleted.iter().position(|is_it| *is_it).unwrap();
    let listed = asked[first..].iter().filter(|it| it.has("prefix=p%2Fmany%2F"));
    assert!(listed.count() > 100, "most of it is listed later");
}

#[test]
fn a_folder_in_the_way_stays_without_delete() {
    let world = backed_up(&small_source());
    let store = Store::new();
    store.put("p/a/below", b"mine", &[]);

    let wanted = overwriting(Overwrite::IfNewer);
    let report = try_restore(&world, 0, &Scratch::new().target(&store), &wanted).unwrap();

    let [failure] = report.errors.as_slice() else { panic!("{:?}", report.errors) };
    assert!(failure.message.contains("a folder that is not empty stands there"), "{failure:?}");
    assert_eq!((report.files, report.deleted), (3, 0));
    assert_eq!(store.get("p/a/below").unwrap().bytes, b"mine");
    assert!(store.get("p/a").is_none() && store.get("p/f/c").is_some());
}

#[test]
fn names_that_are_no_keys_fail_and_others_do_not() {
    let long = vec!["x".repeat(250); 5].join("/");
    let mut source = MemorySource::new("m").file("good", b"1").file("z/good", b"2");
    source = source.file(&long, b"3").directory("deep");
    let world = backed_up(&source);
    let store = Store::new();

    let report = try_restore(&world, 0, &Scratch::new().target(&store), &options()).unwrap();

    assert_eq!(report.errors.len(), 1, "{:?}", report.errors);
    assert!(report.errors[0].message.contains("more than 1024 bytes"), "{:?}", report.errors);
    assert!(store.get("p/good").is_some() && store.get("p/z/good").is_some());
    let target = Scratch::new();
    let target = target.target(&store);
    let mut writer = {
        use icecore::target::Target;
        target.prepare().unwrap();
        target.writer().unwrap()
    };
    let name = EntryPath::new(b"\xff").unwrap();
    for refused in [writer.create_file(&name), writer.create_directory(&name)] {
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("not UTF-8"), "{error}");
    }
}

#[test]
fn a_long_file_is_sent_in_parts_as_they_come() {
    let content = noise((36 << 20) + 5, 9);
    let world = backed_up(&MemorySource::new("m").file("big", content.clone()));
    let store = Store::new();
    let scratch = Scratch::new();
    store.trick(|asked| match asked.target.contains("partNumber=2") {
        true => Some(Reply::error(403, "AccessDenied")),
        false => None,
    });
    store.put("p/big", b"old", &[]);
    let wanted = RestoreOptions { verify: true, ..overwriting(Overwrite::Always) };

    let report = try_restore(&world, 0, &scratch.target(&store), &wanted).unwrap();

    assert_eq!(report.errors.len(), 1, "{:?}", report.errors);
    assert_eq!(store.get("p/big").unwrap().bytes, b"old", "it stays until the new one is whole");
    assert_eq!(store.uploads(), 0, "what was begun is given up");

    store.behave();
    restore(&world, 0, &scratch.target(&store), &wanted);
    assert!(store.get("p/big").unwrap().bytes == content);
    assert_eq!(store.uploads(), 0);
    let bodies = store.fake.asked();
    let bodies = bodies.iter().filter(|it| it.has("partNumber")).map(|it| it.body.len());
    assert!(bodies.max() <= Some(16 << 20));
    assert_eq!(store.get("p/big").unwrap().word("mode"), Some("0100644"));
}

#[test]
fn one_object_that_is_refused_keeps_nobody_back() {
    let world = backed_up(&rich_source());
    let store = Store::new();
    store.trick(|asked| match asked.method == "PUT" && asked.target == "/b/p/a/twin" {
        true => Some(Reply::error(403, "AccessDenied")),
        false => None,
    });

    let report = try_restore(&world, 0, &Scratch::new().target(&store), &options()).unwrap();

    let failed: Vec<_> = report.errors.iter().map(|it| format!("{:?}", it.path)).collect();
    assert_eq!(failed.len(), 1, "{:?}", report.errors);
    assert!(store.get("p/a/twin").is_none() && store.get("p/a/twin2").is_some());
}

#[test]
fn a_store_that_stumbles_is_asked_again() {
    let world = backed_up(&rich_source());
    let store = Store::new();
    let asked_for = AtomicUsize::new(0);
    store.trick(move |asked| {
        if asked.method == "HEAD" {
            return None;
        }
        match asked_for.fetch_add(1, Ordering::Relaxed) % 5 {
            1 => Some(Reply::error(503, "SlowDown")),
            3 => Some(Reply::Raw(Vec::new())),
            _ => None,
        }
    });

    put_into(&store, &world, &options());

    store.behave();
    let again = World::memory();
    assert_eq!(again.backup(&source(&store)).unwrap().errors, []);
    assert_eq!(store.get("p/a/one").unwrap().bytes, b"first name");
}

#[test]
fn a_store_that_is_gone_ends_the_restore() {
    let world = backed_up(&rich_source());
    let store = Store::new();
    let asked_for = AtomicUsize::new(0);
    store.trick(move |_| {
        let is_gone = asked_for.fetch_add(1, Ordering::Relaxed) > 9;
        is_gone.then(|| Reply::error(503, "SlowDown"))
    });

    let error = try_restore(&world, 0, &Scratch::new().target(&store), &options()).unwrap_err();

    assert_eq!(error.kind(), ErrorKind::RateLimited, "{error:?}");
    assert_eq!(store.uploads(), 0);
}

/// `rclone serve s3` does so: what stands for a folder would replace all that is in it.
#[test]
fn a_store_that_takes_folders_for_files_gets_none() {
    let world = backed_up(&rich_source());
    let store = Store::new();
    store.take_folders_for_files();

    put_into(&store, &world, &RestoreOptions { verify: true, ..options() });

    assert_eq!(store.get("p/c/deep/er/file").unwrap().bytes, noise(70_000, 3));
    assert!(store.keys().iter().all(|key| !key.ends_with('/') && !key.contains(".icecore")));
    let notes = world.progress.warnings();
    for word in ["keeps no empty folders: 1", "keeps no times and modes of folders"] {
        assert!(notes.iter().any(|note| note.contains(word)), "{notes:?}");
    }
}

#[test]
fn a_missing_bucket_is_told_before_anything_is_done() {
    let world = backed_up(&small_source());
    for (status, code, kind) in
        [(404, "NoSuchBucket", ErrorKind::InvalidInput), (403, "AccessDenied", ErrorKind::Denied)]
    {
        let store = Store::new();
        store.trick(move |asked| (asked.method == "HEAD").then(|| Reply::error(status, code)));
        let error = try_restore(&world, 0, &Scratch::new().target(&store), &options()).unwrap_err();
        assert_eq!(error.kind(), kind, "{error:?}");
        assert!(error.to_string().contains("s3://b/p"), "{error}");
        assert_eq!(store.count("PUT", ""), 0);
    }
}

#[test]
fn an_upload_whose_end_was_not_heard_is_found() {
    let world = backed_up(&MemorySource::new("m").file("big", noise(17 << 20, 3)));
    let store = Store::new();
    let scratch = Scratch::new();
    let done = AtomicUsize::new(0);
    store.trick(move |asked| {
        let is_end = asked.method == "POST" && asked.has("uploadId");
        let is_first = is_end && done.fetch_add(1, Ordering::Relaxed) == 0;
        is_first.then(|| Reply::Raw(LOST.to_vec()))
    });

    restore(&world, 0, &scratch.target(&store), &options());
    assert_eq!(store.get("p/big").unwrap().bytes.len(), 17 << 20);
    assert_eq!(store.uploads(), 0);
}
