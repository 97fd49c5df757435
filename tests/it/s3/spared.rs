//! A repository in the bucket that is backed up.

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
