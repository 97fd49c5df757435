//! Answers of a bucket that neither say that something was done nor that it cannot be.

use crate::s3;
use crate::s3::backend;
use crate::s3::fake::Asked;
use crate::s3::fake::Fake;
use crate::s3::fake::Reply;
use crate::s3::key;
use crate::s3::refused;
use crate::s3::store::Store;
use crate::s3::target::Scratch;
use crate::s3::target::put_into;
use crate::support::restored::backed_up;
use crate::support::restored::options;
use crate::support::restored::rich_source;
use crate::support::restored::try_restore;
use crate::support::tree::noise;
use icecore::backend::Backend;
use icecore::base::error::ErrorKind;
use icecore::base::time::SystemClock;
use icecore::net::s3::client::Client;
use icecore::source::memory::MemorySource;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

/// Says whether an object is put that stands for a folder, to see what the store makes of it.
fn tries_folder(asked: &Asked) -> bool {
    asked.method == "PUT" && asked.has("/.icecore-") && asked.target.ends_with('/')
}

#[test]
fn a_store_that_refuses_what_stands_for_folders_gets_none() {
    let world = backed_up(&rich_source());
    for (status, code) in [(500, "InternalError"), (400, "InvalidArgument")] {
        let store = Store::new();
        store.trick(move |asked| {
            let is_folder = asked.method == "PUT" && asked.target.ends_with('/');
            is_folder.then(|| Reply::error(status, code))
        });

        put_into(&store, &world, &options());

        assert!(store.keys().iter().all(|key| !key.ends_with('/') && !key.contains(".icecore")));
        let notes = world.progress.warnings();
        assert!(notes.iter().any(|note| note.contains("keeps no empty folders: 1")), "{notes:?}");
    }
}

/// All empty folders were left out, with a note that the store keeps none, and exit code 0.
#[test]
fn a_store_that_stumbles_at_the_first_folder_is_not_said_to_keep_none() {
    let world = backed_up(&rich_source());
    let store = Store::new();
    store.trick(|asked| tries_folder(asked).then(|| Reply::error(503, "SlowDown")));
    let error = try_restore(&world, 0, &Scratch::new().target(&store), &options()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RateLimited, "{error:?}");

    // One that answers nobody for a while, and then does.
    for away in [5, 30] {
        let store = Store::new();
        let asked_for = AtomicUsize::new(0);
        store.trick(move |asked| {
            let is_away = asked.method == "PUT" && asked.has("/.icecore-");
            let is_away = is_away && asked_for.fetch_add(1, Ordering::Relaxed) < away;
            is_away.then(|| Reply::error(500, "InternalError"))
        });

        let restored = try_restore(&world, 0, &Scratch::new().target(&store), &options());

        match restored {
            Ok(report) => {
                assert_eq!((away, report.errors.len()), (5, 0), "{:?}", report.errors);
                assert!(store.get("p/c/hollow/").is_some());
            }
            Err(e) => assert_eq!((away, e.kind()), (30, ErrorKind::Unreachable), "{e:?}"),
        }
    }
}

/// Answers that nobody before the store means as a yes, and the beginning of one.
const NO_WORDS: [&str; 3] = ["", "<html><body>Welcome</body></html>", "<CompleteMultipartUplo"];

/// A proxy says 200 to all. The file counted as restored.
#[test]
fn an_upload_is_done_when_the_store_says_so() {
    let content = noise(17 << 20, 3);
    let world = backed_up(&MemorySource::new("m").file("big", content.clone()));
    for said in NO_WORDS {
        for away in [1, usize::MAX] {
            let store = Store::new();
            let asked_for = AtomicUsize::new(0);
            store.trick(move |asked| {
                let is_end = asked.method == "POST" && asked.has("uploadId");
                let is_tricked = is_end && asked_for.fetch_add(1, Ordering::Relaxed) < away;
                is_tricked.then(|| Reply::ok(said))
            });

            let restored = try_restore(&world, 0, &Scratch::new().target(&store), &options());

            if away == 1 {
                assert_eq!(restored.unwrap().errors, []);
                assert!(store.get("p/big").unwrap().bytes == content);
            } else {
                let error = restored.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Unreachable, "{error:?}");
            }
            assert_eq!(store.uploads(), 0);
        }
    }
}

/// What was not copied is put as content.
#[test]
fn a_copy_is_made_when_the_store_says_so() {
    let world = backed_up(&rich_source());
    for said in NO_WORDS {
        let store = Store::new();
        store.trick(move |asked| {
            asked.header("x-amz-copy-source").is_some().then(|| Reply::ok(said))
        });

        put_into(&store, &world, &options());

        assert_eq!(store.get("p/c/again").unwrap().bytes, b"first name", "{:?}", store.keys());
    }
}

/// The connection of a server that does not say how much comes may end at any byte.
#[test]
fn content_that_may_have_broken_off_is_asked_for_again() {
    for head in ["200 OK", "200 OK\r\nconnection: close"] {
        let reply = format!("HTTP/1.1 {head}\r\n\r\n01234").into_bytes();
        let fake = Fake::start(move |_, _| Reply::Raw(reply.clone()));
        let store = backend(&fake).0;

        assert_eq!(refused(store.get(&key("a"), 9)).kind(), ErrorKind::Unreachable);
        assert_eq!(fake.asked().len(), 2, "it is asked for once more");
        let cut = refused(store.get_range(&key("a"), 2..9));
        assert_eq!(cut.kind(), ErrorKind::Unreachable);
        assert_eq!(store.get_range(&key("a"), 2..5).unwrap(), b"234", "all of it came");
    }
    for (range, good) in [("0-4/9", true), ("0-4/*", true), ("0-5/9", false), ("0-8/9", false)] {
        let head = format!("HTTP/1.1 206 Part\r\ncontent-range: bytes {range}\r\n\r\n");
        let fake = Fake::start(move |_, _| Reply::Raw([head.as_bytes(), b"01234"].concat()));
        let options = s3::options(fake.port, None).bucket;
        let client = Client::new(&options, Arc::new(SystemClock), Arc::new(|_| Ok(()))).unwrap();
        match client.get_range("p/a", None, 0..9) {
            Ok(bytes) => assert!(good && bytes == b"01234", "{range}"),
            Err(e) => assert!(!good && e.kind() == ErrorKind::Unreachable, "{e:?} {range}"),
        }
    }
    let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n01234\r\n0\r\n\r\n";
    let fake = Fake::start(|_, _| Reply::Raw(chunked.to_vec()));
    assert_eq!(backend(&fake).0.get(&key("a"), 9).unwrap(), b"01234");
}
