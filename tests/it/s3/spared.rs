//! A repository in the bucket that is backed up and restored.

use crate::cli::Home;
use crate::cli::column;
use crate::s3::SECRET;
use crate::s3::store::Store;

/// A bucket with objects, a repository among them, and a backup of itself.
fn home(store: &Store) -> Home {
    let mut home = Home::new();
    home.set("AWS_ENDPOINT_URL", &format!("http://127.0.0.1:{}", store.fake.port));
    home.set("AWS_ACCESS_KEY_ID", "AKIA");
    home.set("AWS_SECRET_ACCESS_KEY", SECRET);
    home.set("ICECORE_REPOSITORY", "s3://b/deep/repo");
    for (key, bytes) in [("a", b"alpha"), ("deep/b", b"gamma"), ("deep/repository", b"delta")] {
        store.put(key, bytes, &[]);
    }
    home.done(&["init", "--encryption", "none"]);
    home.done(&["backup", "s3://b"]);
    home
}

/// Names that are no keys of a repository are in none of its lists.
#[test]
fn no_repository_is_made_among_objects_of_any_name() {
    let mut home = Home::new();
    let store = Store::new();
    home.set("AWS_ENDPOINT_URL", &format!("http://127.0.0.1:{}", store.fake.port));
    home.set("AWS_ACCESS_KEY_ID", "AKIA");
    home.set("AWS_SECRET_ACCESS_KEY", SECRET);
    let folders = [
        ("photos", "IMG 1.JPG"),
        ("more", "2024 \u{dc}/a"),
        ("deep", "/a"),
        ("old", "tmp"),
        ("x", "x"),
    ];
    for (folder, name) in folders {
        store.put(&format!("{folder}/{name}"), b"1", &[]);
        let location = format!("s3://b/{folder}");
        let ran = home.run(&["-r", &location, "init", "--encryption", "none"]);
        ran.says(2, &format!("is not empty: it holds {}", name.trim_end_matches("/a")));
    }
    // What was found out of the store is no part of a repository.
    let keys = store.keys();
    assert_eq!(keys.iter().filter(|key| !key.ends_with("/tmp/class")).count(), folders.len());

    for name in ["", ".DS_Store"] {
        store.put(&format!("new/{name}"), b"", &[]);
    }
    home.done(&["-r", "s3://b/new", "init", "--encryption", "none"]);
}

#[test]
fn a_bucket_is_backed_up_without_the_repository_in_it() {
    let mut home = Home::new();
    for words in [&[][..], &["--versions"]] {
        let store = if words.is_empty() { Store::new() } else { Store::with_versions() };
        home = self::home(&store);
        let backup = [&["backup", "s3://b"], words].concat();
        home.done(&backup);
        let before = store.keys();

        home.done(&backup);

        let rows = home.rows(&["ls", "b", "--recursive"]);
        let paths = column(&rows, "path");
        assert_eq!(paths, ["a", "deep", "deep/b", "deep/repository"], "{words:?}");
        assert_eq!(store.keys(), before, "{words:?}: nothing changed, so nothing is stored");
        home.done(&["backup", "s3://b/deep", "--dataset", "below"]);
        assert_eq!(column(&home.rows(&["ls", "below"]), "path"), ["b", "repository"]);
    }
    home.run(&["backup", "s3://b/deep/repo"]).says(2, "it is the repository");
}

#[test]
fn a_restore_into_the_bucket_leaves_the_repository() {
    let store = Store::new();
    let home = home(&store);
    store.put("a", b"other", &[]);
    store.put("deep/extra/c", b"x", &[]);
    let words = ["restore", "b", "s3://b", "--overwrite", "if-changed", "--delete"];
    let repository = || {
        let keys = store.keys().into_iter();
        keys.filter(|key| key.starts_with("deep/repo/") && !key.contains("/leases/"))
            .collect::<Vec<_>>()
    };
    let before = repository();

    let dry = home.json(0, &[&words[..], &["-n"]].concat());
    let ran = home.run(&[&words[..], &["-v"]].concat());

    let plan = column(dry["plan"].as_array().unwrap(), "path");
    assert_eq!(plan[1..], ["a", "deep", "deep/b", "deep/extra", "deep/repository"]);
    ran.says(0, "deep/repo: the repository stays");
    assert_eq!(repository(), before);
    assert_eq!(store.get("a").unwrap().bytes, b"alpha");
    assert!(store.get("deep/extra/c").is_none() && store.get("deep/repository").is_some());
    home.done(&["check", "--read-data"]);
    for target in ["s3://b/deep/repo", "s3://b/deep/repo/packs"] {
        home.run(&["restore", "b", target]).says(2, "it is the repository, or in it");
    }
}
