//! Answers that are late, cut, wrong or endless.

use crate::s3::END;
use crate::s3::backend;
use crate::s3::fake::Fake;
use crate::s3::fake::Reply;
use crate::s3::key;
use crate::s3::opened;
use crate::s3::options;
use crate::s3::page;
use crate::s3::refused;
use crate::s3::rows;
use icecore::backend::Backend;
use icecore::backend::key::FolderKey;
use icecore::base::error::ErrorKind;
use icecore::base::time::SystemClock;
use icecore::net::s3::client::Client;
use icecore::net::s3::listing::Depth;
use std::sync::Arc;
use std::time::Duration;

#[test]
fn a_store_that_asks_to_slow_down_is_waited_for() {
    let fake = Fake::start(|number, _| match number {
        0 => Reply::error(503, "SlowDown").with("retry-after", "7"),
        1 => Reply::error(503, "SlowDown").with("retry-after", "3600"),
        2 => Reply::error(429, ""),
        _ => Reply::ok(b"1"),
    });
    let (backend, sleeper) = backend(&fake);

    assert_eq!(backend.get(&key("a"), 9).unwrap(), b"1");

    let waits = sleeper.waits();
    assert_eq!(waits[..2], [Duration::from_secs(7), Duration::from_secs(10)]);
    assert!(waits[2] >= Duration::from_millis(400) && waits[2] <= Duration::from_millis(800));
    assert_eq!((waits.len(), backend.counts().repeats, backend.counts().requests), (3, 3, 4));
}

#[test]
fn a_date_to_come_back_is_reckoned_by_the_stores_own_clock() {
    let fake = Fake::start(|number, _| match number {
        0 => Reply::error(503, "")
            .with("date", "Tue, 15 Nov 1994 08:12:31 GMT")
            .with("retry-after", "Tue, 15 Nov 1994 08:12:34 GMT"),
        _ => Reply::ok(b"1"),
    });
    let (backend, sleeper) = backend(&fake);

    backend.get(&key("a"), 9).unwrap();

    assert_eq!(sleeper.waits(), [Duration::from_secs(3)]);
}

#[test]
fn patience_ends_and_says_what_it_met() {
    for (status, kind) in [(503, ErrorKind::RateLimited), (500, ErrorKind::Unreachable)] {
        let fake = Fake::start(move |_, _| Reply::error(status, ""));
        let (backend, sleeper) = backend(&fake);

        let error = refused(backend.put(&key("a"), b"1"));

        assert_eq!(error.kind(), kind);
        assert_eq!((fake.asked().len(), sleeper.waits().len()), (4, 3));
    }
}

/// A store that keeps folders showed a name twice while two processes put it, and the backups of
/// both failed.
#[test]
fn a_key_that_is_shown_twice_for_a_moment_is_looked_at_again() {
    let fake = Fake::start(|number, _| match number {
        0 | 1 => page(&["p/a/x", "p/a/x 2", "p/a/y"], END),
        _ => page(&["p/a/x", "p/a/y"], END),
    });
    assert_eq!(rows(&backend(&fake).0, "a").unwrap(), ["a/x", "a/y"]);

    // Also where a folder is listed with all below it.
    let fake = Fake::start(|number, _| match number {
        0 | 1 => page(&["p/a/b/x", "p/a/b/x 2", "p/a/y"], END),
        _ => page(&["p/a/b/x", "p/a/y"], END),
    });
    let deep = backend(&fake).0.list_deep(&FolderKey::new("a").unwrap()).unwrap();
    let keys: Vec<&str> = deep.iter().map(|it| it.key.as_str()).collect();
    assert_eq!(keys, ["a/b/x", "a/y"]);

    let fake = Fake::start(|_, _| page(&["p/a/x", "p/a/x 2"], END));
    let error = refused(rows(&backend(&fake).0, "a"));
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert_eq!(fake.asked().len(), 4);
}

#[test]
fn an_object_that_is_shown_twice_is_one() {
    for twins in [["p/a/x", "p/a/x"], ["p/a/x 1 e", "p/a/x 1 e"], ["p/a/x 1", "p/a/x 1 e"]] {
        let fake = Fake::start(move |_, _| page(&[twins[0], "p/a/y", twins[1]], END));
        assert_eq!(rows(&backend(&fake).0, "a").unwrap(), ["a/x", "a/y"]);
        assert_eq!(fake.asked().len(), 1);
    }
    for others in [["p/a/b/", "p/a/b/"], ["p/a/x 1 e", "p/a/x 1 f"], ["p/a/x 1 e", "p/a/x 2"]] {
        let fake = Fake::start(move |_, _| page(&others, END));
        assert_eq!(refused(rows(&backend(&fake).0, "a")).kind(), ErrorKind::Corrupt);
    }
}

#[test]
fn a_wrong_region_is_named_at_once() {
    let fake = Fake::start(|_, _| {
        Reply::error(301, "PermanentRedirect").with("x-amz-bucket-region", "eu-west-2")
    });
    let (backend, _) = backend(&fake);

    for error in [
        refused(backend.get(&key("a"), 9)),
        refused(backend.stat(&key("a"))),
        refused(backend.put(&key("a"), b"1")),
    ] {
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert_eq!(error.hint_text(), Some("the bucket is in the region eu-west-2"));
    }
    assert_eq!(fake.asked().len(), 3);
}

#[test]
fn what_a_store_refuses_has_a_kind_and_a_hint() {
    for (status, code, kind, hint) in [
        (403, "AccessDenied", ErrorKind::Denied, "permission"),
        (403, "SignatureDoesNotMatch", ErrorKind::Denied, "secret"),
        (403, "InvalidAccessKeyId", ErrorKind::Denied, "does not know"),
        (403, "RequestTimeTooSkewed", ErrorKind::Denied, "clock"),
        (404, "NoSuchBucket", ErrorKind::NoRepository, "name"),
    ] {
        let fake = Fake::start(move |_, _| Reply::error(status, code));
        let (backend, _) = backend(&fake);
        for error in [refused(backend.get(&key("a"), 9)), refused(rows(&backend, ""))] {
            assert_eq!(error.kind(), kind, "{code}");
            assert!(error.hint_text().unwrap().contains(hint), "{error:?}");
        }
    }
    for (status, code) in [(507, ""), (400, "EntityTooLarge"), (403, "QuotaExceeded")] {
        let fake = Fake::start(move |_, _| Reply::error(status, code));
        let error = refused(backend(&fake).0.put(&key("a"), b"1"));
        assert_eq!(error.kind(), ErrorKind::Full, "{status} {code}");
        assert_eq!(fake.asked().len(), 1);
    }
}

#[test]
fn content_that_breaks_off_is_no_content() {
    let cut = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n0123456789";
    let fake = Fake::start(move |_, _| Reply::Raw(cut.to_vec()));
    let (backend, sleeper) = backend(&fake);

    assert_eq!(refused(backend.get(&key("a"), 1000)).kind(), ErrorKind::Unreachable);
    assert_eq!(fake.asked().len(), 2, "it is asked for once more");
    let stretch = refused(backend.get_range(&key("a"), 0..100));
    assert_eq!(stretch.kind(), ErrorKind::Unreachable);
    assert_eq!(refused(rows(&backend, "")).kind(), ErrorKind::Unreachable);
    assert!(sleeper.waits().iter().all(Duration::is_zero));
}

#[test]
fn a_connection_that_was_kept_too_long_goes_unnoticed() {
    let fake = Fake::start(|number, _| match number {
        1 => Reply::Raw(Vec::new()),
        _ => Reply::ok(b"1"),
    });
    let (backend, _) = backend(&fake);

    backend.get(&key("a"), 9).unwrap();
    backend.get(&key("b"), 9).unwrap();

    let asked: Vec<_> = fake.asked().into_iter().map(|asked| asked.target).collect();
    assert_eq!(asked, ["/b/p/a", "/b/p/b", "/b/p/b"]);
}

#[test]
fn answers_that_make_no_sense_are_errors() {
    for (reply, kind) in [
        (Reply::ok("<ListBucketResult><IsTruncated>false</IsTrunc"), ErrorKind::Corrupt),
        (Reply::ok("not XML at all"), ErrorKind::Corrupt),
        (Reply::ok(""), ErrorKind::Corrupt),
        (Reply::ok("<html><body>Welcome</body></html>"), ErrorKind::Corrupt),
        (Reply::ok("<ListBucketResult></ListBucketResult>"), ErrorKind::Corrupt),
        (Reply::ok(b"<ListBucketResult>\xff</ListBucketResult>"), ErrorKind::Corrupt),
        (Reply::ok("<a>".repeat(100)), ErrorKind::Corrupt),
        (Reply::ok(format!("<a>{}</a>", "<b/>".repeat(200_000))), ErrorKind::Corrupt),
        (Reply::Raw(b"220 ready\r\n".to_vec()), ErrorKind::Unsupported),
    ] {
        let shown = format!("{reply:.60?}");
        let fake = Fake::start(move |_, _| reply.clone());
        let (backend, _) = backend(&fake);
        assert_eq!(refused(rows(&backend, "")).kind(), kind, "{shown}");
    }
}

#[test]
fn a_listing_is_whole_or_an_error() {
    for cut in [
        page(&["p/a"], "<IsTruncated>true</IsTruncated>"),
        page(&["p/a"], "<IsTruncated>true</IsTruncated><NextContinuationToken/>"),
        page(&["p/a"], "<IsTruncated>false</IsTruncated><KeyCount>2</KeyCount>"),
        page(&["p/a"], "<IsTruncated>perhaps</IsTruncated>"),
        page(&["p/a", "p/a 2"], END),
        page(&["elsewhere"], END),
    ] {
        let shown = format!("{cut:?}");
        let fake = Fake::start(move |_, _| cut.clone());
        let error = refused(rows(&backend(&fake).0, ""));
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{shown}");
    }
}

#[test]
fn a_listing_without_an_end_ends() {
    let next = |number: usize| {
        format!(
            "<IsTruncated>true</IsTruncated>\
             <NextContinuationToken>{number}</NextContinuationToken>"
        )
    };
    let circles = Fake::start(move |number, _| page(&["p/a", "p/b"], &next(number)));
    let (first, _) = backend(&circles);
    assert_eq!(refused(rows(&first, "")).kind(), ErrorKind::Corrupt);
    assert_eq!(circles.asked().len(), 2);

    let empty = Fake::start(move |number, _| page(&[], &next(number)));
    let (second, _) = backend(&empty);
    assert_eq!(refused(rows(&second, "")).kind(), ErrorKind::Corrupt);
    assert!(empty.asked().len() < 2000);
}

/// The rows of one key may be of many pages, so that the key tells nothing.
#[test]
fn pages_of_one_key_that_alternate_end() {
    let fake = Fake::start(|number, asked| {
        let (root, row, id) = match asked.has("uploads=") {
            true => ("ListMultipartUploadsResult", "Upload", "UploadId"),
            false => ("ListVersionsResult", "Version", "VersionId"),
        };
        let name = number % 2;
        Reply::ok(format!(
            "<{root}><{row}><Key>p/a</Key><{id}>{name}</{id}><Size>1</Size></{row}>\
             <IsTruncated>true</IsTruncated><NextKeyMarker>p/a</NextKeyMarker>\
             <Next{id}Marker>{name}</Next{id}Marker></{root}>"
        ))
    });
    let options = options(fake.port, None).bucket;
    let client = Client::new(&options, Arc::new(SystemClock), Arc::new(|_| Ok(()))).unwrap();

    let versions = client.list_versions("p/", Depth::Folder, &mut |_| Ok(()));
    assert_eq!(versions.unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(fake.asked().len(), 3);
    assert_eq!(client.list_uploads("p/").unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(fake.asked().len(), 6);
}

#[test]
fn pages_in_either_order_are_one_listing() {
    for pages in [
        [&["p/a-b", "p/a.c"][..], &["p/a/", "p/b"][..]],
        [&["p/a/", "p/a-b"][..], &["p/a.c", "p/b"][..]],
    ] {
        let fake = Fake::start(move |_, asked| match asked.has("continuation-token=next%2F%3D") {
            true => page(pages[1], END),
            false => page(
                pages[0],
                "<IsTruncated>true</IsTruncated>\
                 <NextContinuationToken>next/=</NextContinuationToken>",
            ),
        });
        let (backend, _) = backend(&fake);
        let mut all = rows(&backend, "").unwrap();
        all.sort();
        assert_eq!(all, ["a-b", "a.c", "a/", "b"]);
    }
}

#[test]
fn what_is_no_key_is_not_shown() {
    let fake = Fake::start(|_, _| {
        let keys = ["p/", "p/A", "p/a", "p/b/", "p/c%20d", "p/tmp/", "p/.x/", "p//"];
        page(&keys, &format!("{END}<EncodingType>url</EncodingType>"))
    });
    assert_eq!(rows(&backend(&fake).0, "").unwrap(), ["a", "b/"]);
    let (backend, _) = backend(&fake);
    assert!(rows(&backend, "tmp").unwrap().is_empty());
    assert_eq!(refused(backend.put(&key("tmp/x"), b"1")).kind(), ErrorKind::InvalidInput);
}

#[test]
fn a_store_that_hangs_is_given_up() {
    let fake = Fake::start(|_, _| Reply::Hang);
    let (backend, sleeper) = backend(&fake);
    let started = std::time::Instant::now();

    assert_eq!(refused(backend.get(&key("a"), 9)).kind(), ErrorKind::Unreachable);

    assert!(started.elapsed() < Duration::from_secs(5));
    assert_eq!((fake.asked().len(), sleeper.waits().len()), (1, 0), "no patience twice over");
}

#[test]
fn nobody_at_home_is_unreachable() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);

    let (closed, _) = opened(&options(port, None));
    assert_eq!(refused(closed).kind(), ErrorKind::Unreachable);
    let mut nowhere = options(port, None);
    nowhere.bucket.endpoint = Some("http://no-such-host.invalid".into());
    assert_eq!(refused(opened(&nowhere).0).kind(), ErrorKind::Unreachable);
}

#[test]
fn more_than_was_asked_is_not_read() {
    let huge = b"HTTP/1.1 200 OK\r\ncontent-length: 999999999999\r\n\r\n0123456789";
    let fake = Fake::start(move |_, _| Reply::Raw(huge.to_vec()));
    let error = refused(backend(&fake).0.get(&key("a"), 1000));
    assert_eq!(error.kind(), ErrorKind::Corrupt);

    let chunks = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n8\r\n01234567\r\n";
    let endless = Fake::start(move |_, _| Reply::Raw([&chunks[..], &[b'8'; 100]].concat()));
    let error = refused(backend(&endless).0.get(&key("a"), 4));
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}

#[test]
fn a_stretch_comes_however_a_store_sends_it() {
    for (status, range, body, good) in [
        (206, Some("bytes 2-4/9"), "234", true),
        (200, Some("bytes 2-4/9"), "234", true),
        (200, None, "012345678", true),
        (206, Some("bytes 0-2/9"), "012", false),
        (206, Some("bytes 2-5/9"), "2345", false),
        (206, Some("bytes 2-3/9"), "23", false),
        (200, None, "0", false),
    ] {
        let fake = Fake::start(move |_, asked| {
            assert_eq!(asked.header("range"), Some("bytes=2-4"));
            let reply = Reply::Whole(status, Vec::new(), body.into());
            range.map_or(reply.clone(), |range| reply.with("content-range", range))
        });
        match backend(&fake).0.get_range(&key("a"), 2..5) {
            Ok(bytes) => assert!(good && bytes == b"234", "{status} {range:?} {body}"),
            Err(e) => assert!(!good && e.kind() == ErrorKind::Corrupt, "{e:?} {range:?} {body}"),
        }
    }
}

/// Of the first bytes it was taken for a stretch that is too long.
#[test]
fn a_store_that_knows_no_ranges_tells_the_first_bytes_too() {
    for (body, good) in [("012345678", true), ("012", true), ("01", false), ("", false)] {
        let fake = Fake::start(move |_, _| Reply::ok(body));
        match backend(&fake).0.get_range(&key("a"), 0..3) {
            Ok(bytes) => assert!(good && bytes == b"012", "{body}"),
            Err(e) => assert!(!good && e.kind() == ErrorKind::Corrupt, "{e:?} {body}"),
        }
    }
}
