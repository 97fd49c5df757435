//! What is not there by the word of the store, and what somebody says who is not the store: a proxy
//! answers 404 while the store behind it starts.

use crate::s3::END;
use crate::s3::backend;
use crate::s3::fake::Asked;
use crate::s3::fake::Fake;
use crate::s3::fake::Reply;
use crate::s3::key;
use crate::s3::page;
use crate::s3::refused;
use crate::s3::store::Store;
use crate::support::world::World;
use icecore::backend::Backend;
use icecore::base::error::ErrorKind;
use icecore::engine::backup::BackupReport;
use icecore::net::s3::objects::Beside;
use icecore::source::bucket::BucketSource;

fn bare(status: u16) -> Reply {
    Reply::Whole(status, Vec::new(), Vec::new())
}

#[test]
fn an_answer_that_is_not_the_stores_says_nothing_of_what_is_there() {
    for reply in [Reply::foreign(), bare(404)] {
        let fake = Fake::start(move |_, _| reply.clone());
        let (backend, sleeper) = backend(&fake);
        for error in [
            refused(backend.get(&key("a"), 9)),
            refused(backend.get_range(&key("a"), 0..9)),
            refused(backend.stat(&key("a"))),
            refused(backend.put(&key("a"), b"1")),
            refused(backend.put_new(&key("a"), b"1")),
            refused(backend.delete(&key("a"))),
        ] {
            assert_eq!(error.kind(), ErrorKind::Unreachable, "{error:?}");
            assert!(error.to_string().contains("what is not the store"), "{error}");
        }
        assert!(sleeper.waits().len() >= 6 * 3, "each was tried again");
    }
}

#[test]
fn who_asks_again_hears_the_store() {
    let fake = Fake::start(|number, _| match number % 3 {
        0 | 1 => Reply::foreign(),
        _ => Reply::ok(b"1"),
    });
    let (backend, _) = backend(&fake);
    assert_eq!(backend.get(&key("a"), 9).unwrap(), b"1");
    backend.delete(&key("a")).unwrap();
    assert_eq!(fake.asked().len(), 6);
}

/// Of a head there are no words: where nothing shows who answers, the content is asked for.
#[test]
fn a_head_is_missing_by_the_word_of_the_store() {
    let of_head = |reply: Reply, content: Reply| {
        let fake = Fake::start(move |_, asked| match asked.method.as_str() {
            "HEAD" => reply.clone(),
            _ => content.clone(),
        });
        let outcome = backend(&fake).0.stat(&key("a"));
        (outcome, fake.asked().len())
    };
    let missing = || Reply::error(404, "NoSuchKey");
    let (told, questions) = of_head(missing(), Reply::ok(b"1"));
    assert_eq!((told.unwrap(), questions), (None, 1));
    let (told, questions) = of_head(bare(404), missing());
    assert_eq!((told.unwrap(), questions), (None, 2));
    for content in [Reply::ok(b"1"), Reply::error(416, "InvalidRange")] {
        let (told, _) = of_head(bare(404), content);
        assert_eq!(refused(told).kind(), ErrorKind::Unreachable, "it is there");
    }
}

/// A bucket of three objects that are in a backup, and have changed since.
fn changed() -> (Store, World) {
    let (store, world) = (Store::new(), World::memory());
    for content in [&b"first"[..], b"second"] {
        for name in ["a", "b", "c"] {
            store.put(&format!("p/{name}"), content, &[]);
        }
        if content == b"first" {
            assert_eq!(back_up(&store, &world).errors, []);
        }
    }
    (store, world)
}

fn back_up(store: &Store, world: &World) -> BackupReport {
    world.backup(&BucketSource::new(store.client(), "p")).unwrap()
}

fn reads(asked: &Asked, name: &str) -> bool {
    asked.method == "GET" && asked.target == format!("/b/p/{name}")
}

/// The backup said that all three were deleted, and ended with 0.
#[test]
fn objects_behind_a_proxy_without_its_store_are_not_deleted() {
    let (store, world) = changed();
    store.trick(|asked| asked.target.starts_with("/b/p/").then(Reply::foreign));

    let report = back_up(&store, &world);

    assert_eq!((report.errors.len(), report.counts.deleted), (3, 0), "{:?}", report.errors);
    store.behave();
    let again = back_up(&store, &world);
    assert_eq!((again.errors.len(), again.counts.modified), (0, 3), "{:?}", again.counts);
}

#[test]
fn an_object_that_is_listed_and_not_found_is_an_error() {
    let (store, world) = changed();
    store.trick(|asked| reads(asked, "b").then(|| Reply::error(404, "NoSuchKey")));

    let report = back_up(&store, &world);

    let [failure] = report.errors.as_slice() else { panic!("{:?}", report.errors) };
    assert!(failure.message.contains("lists it, and does not find it"), "{failure:?}");
    assert_eq!((report.counts.deleted, report.counts.modified), (0, 2));
}

#[test]
fn an_object_that_is_listed_no_more_has_vanished() {
    let (store, world) = changed();
    store.trick(|asked| match asked.has("prefix=p%2Fb") {
        true => Some(page(&["p/bb"], END)),
        false => reads(asked, "b").then(|| Reply::error(404, "NoSuchKey")),
    });

    let report = back_up(&store, &world);

    assert_eq!((report.errors.len(), report.counts.deleted), (0, 1), "{:?}", report.errors);
}

#[test]
fn an_object_whose_tags_are_not_found_is_there_all_the_same() {
    for code in ["NoSuchTagSet", "NoSuchKey"] {
        let (store, world) = changed();
        let tags = vec![("name".to_owned(), "value".to_owned())];
        let beside = Beside { tags, ..Beside::default() };
        store.client().put("p/b", b"third", &beside).unwrap();
        store.trick(|asked| asked.has("tagging").then(|| Reply::error(404, code)));

        let report = back_up(&store, &world);

        let counts = &report.counts;
        assert_eq!((report.errors.len(), counts.deleted), (1, 0), "{:?}", report.errors);
    }
}
