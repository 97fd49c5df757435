//! Puts that are lost, contested or large, what a store can do, and what is swept.

use crate::s3::END;
use crate::s3::backend;
use crate::s3::fake::Asked;
use crate::s3::fake::Fake;
use crate::s3::fake::Reply;
use crate::s3::key;
use crate::s3::opened;
use crate::s3::options;
use crate::s3::page;
use crate::s3::refused;
use crate::s3::store::Store;
use icecore::backend::Backend;
use icecore::backend::s3::S3Backend;
use icecore::backend::wrap::sleeper::NotingSleeper;
use icecore::base::error::ErrorKind;
use icecore::base::time::SystemClock;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

#[test]
fn taken_is_taken() {
    let fake = Fake::start(|_, _| Reply::error(412, "PreconditionFailed"));
    let (backend, _) = backend(&fake);

    let error = refused(backend.put_new(&key("a"), b"1"));

    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    let asked = fake.asked();
    assert_eq!((asked.len(), asked[0].header("if-none-match")), (1, Some("*")));
}

#[test]
fn two_at_a_time_are_told_apart_by_what_is_there() {
    // What there is when it is looked at, and how putting ends.
    for (there, kind) in [
        (Some("mine"), None),
        (Some("theirs"), Some(ErrorKind::AlreadyExists)),
        (Some("mine and more"), Some(ErrorKind::AlreadyExists)),
        (None, None),
    ] {
        let fake = Fake::start(move |number, asked| match (asked.method.as_str(), there) {
            ("PUT", None) if number > 0 => Reply::ok(b""),
            ("PUT", _) => Reply::error(409, "ConditionalRequestConflict"),
            (_, Some(there)) => Reply::ok(there),
            (_, None) => Reply::error(404, "NoSuchKey"),
        });
        let outcome = backend(&fake).0.put_new(&key("a"), b"mine");
        assert_eq!(outcome.err().map(|e| e.kind()), kind, "{there:?}");
    }
    let fake = Fake::start(|_, asked| match asked.method.as_str() {
        "PUT" => Reply::error(409, "ConditionalRequestConflict"),
        _ => Reply::error(404, "NoSuchKey"),
    });
    let error = refused(backend(&fake).0.put_new(&key("a"), b"mine"));
    assert_eq!(error.kind(), ErrorKind::RateLimited, "it may be tried again later");
}

/// A store that takes what is put and then breaks the connection off, so often.
fn losing(answers: usize, taken: Option<&'static [u8]>) -> Fake {
    let there: Mutex<Option<Vec<u8>>> = Mutex::new(taken.map(<[u8]>::to_vec));
    Fake::start(move |number, asked| {
        let mut there = there.lock().unwrap();
        match asked.method.as_str() {
            "PUT" => {
                let is_taken = there.is_some() && asked.header("if-none-match").is_some();
                if !is_taken {
                    *there = Some(asked.body.clone());
                }
                match is_taken {
                    _ if number < answers => Reply::Raw(Vec::new()),
                    true => Reply::error(412, "PreconditionFailed"),
                    false => Reply::ok(b""),
                }
            }
            _ => match &*there {
                Some(bytes) => Reply::ok(bytes.clone()),
                None => Reply::error(404, "NoSuchKey"),
            },
        }
    })
}

#[test]
fn a_lost_answer_is_looked_up() {
    for answers in [1, 2] {
        let fake = losing(answers, None);
        backend(&fake).0.put_new(&key("a"), b"mine").expect("it was ours");
        assert_eq!(fake.asked().last().unwrap().method, "GET");
    }
    let fake = losing(1, Some(b"theirs"));
    let error = refused(backend(&fake).0.put_new(&key("a"), b"mine"));
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);

    let fake = losing(1, None);
    backend(&fake).0.put(&key("a"), b"mine").expect("stored again");
    assert_eq!(fake.asked().len(), 2);
}

/// A store of a few lines that knows the condition, ignores it or refuses it.
fn store(condition: &'static str) -> Fake {
    store_that_changes(&Arc::new(Mutex::new(condition)), &Arc::default())
}

type Objects = Mutex<BTreeMap<String, Vec<u8>>>;

/// The same, whose mind and objects can be changed from outside.
fn store_that_changes(condition: &Arc<Mutex<&'static str>>, objects: &Arc<Objects>) -> Fake {
    let (condition, objects) = (Arc::clone(condition), Arc::clone(objects));
    Fake::start(move |_, asked: &Asked| {
        let mut objects = objects.lock().unwrap();
        let is_conditional = asked.header("if-none-match").is_some();
        match (asked.method.as_str(), *condition.lock().unwrap()) {
            ("HEAD", "no bucket") => Reply::error(404, ""),
            ("HEAD", _) if asked.target == "/b" => Reply::ok(b""),
            ("PUT", "forbidden") => Reply::error(403, "AccessDenied"),
            ("PUT", "refused") if is_conditional => Reply::error(501, "NotImplemented"),
            ("PUT", "odd") if is_conditional => Reply::error(400, "InvalidArgument"),
            ("PUT", "known") if is_conditional && objects.contains_key(&asked.target) => {
                Reply::error(412, "PreconditionFailed")
            }
            ("PUT", _) => {
                objects.insert(asked.target.clone(), asked.body.clone());
                Reply::ok(b"")
            }
            ("DELETE", _) => {
                objects.remove(&asked.target);
                Reply::Whole(204, Vec::new(), Vec::new())
            }
            ("GET", "blind") if asked.has("list-type=2") => page(&[], END),
            ("GET", _) if asked.has("list-type=2") => {
                let keys = objects.keys().filter_map(|key| key.strip_prefix("/b/"));
                // It is what a probe lists.
                page(&keys.filter(|key| key.contains("/probe-")).collect::<Vec<_>>(), END)
            }
            ("GET", _) => match objects.get(&asked.target) {
                Some(bytes) => Reply::ok(bytes.clone()),
                None => Reply::error(404, "NoSuchKey"),
            },
            _ => Reply::error(404, "NoSuchKey"),
        }
    })
}

#[test]
fn the_class_of_a_store_is_tried_when_it_is_opened() {
    for (condition, atomic_create) in
        [("known", true), ("ignored", false), ("refused", false), ("odd", false)]
    {
        let fake = store(condition);
        let backend = opened(&options(fake.port, None)).0.unwrap();

        assert_eq!(backend.capabilities().atomic_create, atomic_create, "{condition}");
        let asked = fake.asked();
        assert!(asked.len() <= 7, "{condition}: {}", asked.len());
        assert_eq!(asked.last().unwrap().method, "DELETE", "nothing is left");
        assert!(asked[2].target.starts_with("/b/p/tmp/probe-"));
        if !atomic_create {
            let error = refused(backend.put_new(&key("a"), b"1"));
            assert_eq!(error.kind(), ErrorKind::Unsupported);
        }
    }
    let known = store("known");
    opened(&options(known.port, Some(true))).0.unwrap();
    assert!(known.asked().is_empty(), "what is known is not tried");
}

/// Who prunes looks for writers by listings.
#[test]
fn a_store_that_does_not_list_what_was_just_put_is_refused() {
    let fake = store("blind");
    let error = refused(opened(&options(fake.port, None)).0);

    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.full_message().contains("does not list what was just put"), "{error:?}");
    assert_eq!(fake.asked().last().unwrap().method, "DELETE", "nothing is left");
}

fn created(fake: &Fake) -> S3Backend {
    let sleeper = Arc::new(NotingSleeper::default());
    S3Backend::create(&options(fake.port, None), Arc::new(SystemClock), sleeper).unwrap()
}

/// Returns what was asked since, shortly: method and the last parts of the place.
fn asked_since(fake: &Fake, before: usize) -> Vec<String> {
    let asked = fake.asked();
    let shown = asked[before..].iter().map(|asked| {
        let condition = if asked.header("if-none-match").is_some() { "?" } else { "" };
        format!("{}{condition} {}", asked.method, asked.target.trim_start_matches("/b/p/"))
    });
    shown.collect()
}

#[test]
fn what_was_found_when_a_repository_was_made_is_kept() {
    for (condition, atomic_create) in [("known", true), ("ignored", false)] {
        let fake = store(condition);
        let made = created(&fake);
        assert_eq!(made.capabilities().atomic_create, atomic_create, "{condition}");

        let before = fake.asked().len();
        let backend = opened(&options(fake.port, None)).0.unwrap();
        assert_eq!(backend.capabilities().atomic_create, atomic_create, "{condition}");
        assert_eq!(asked_since(&fake, before), ["GET tmp/class"]);

        if atomic_create {
            made.put_new(&key("a"), b"1").unwrap();
            assert_eq!(asked_since(&fake, before + 1), ["PUT? a"], "it was tried just now");
            backend.put_new(&key("b"), b"1").unwrap();
            backend.put_new(&key("c"), b"1").unwrap();
            assert_eq!(asked_since(&fake, before + 2), ["PUT? tmp/class", "PUT? b", "PUT? c"]);
        }
    }
}

#[test]
fn a_mark_stays_when_the_store_learns_the_condition() {
    let (condition, objects) = (Arc::new(Mutex::new("ignored")), Arc::default());
    let fake = store_that_changes(&condition, &objects);
    created(&fake);
    *condition.lock().unwrap() = "known";

    for backend in [opened(&options(fake.port, None)).0.unwrap(), created(&fake)] {
        assert!(!backend.capabilities().atomic_create, "others write by the other rules");
    }
}

/// A bucket that was copied to a store of another class: nothing is ever put over something there.
#[test]
fn a_bucket_that_was_moved_to_another_store_is_noticed_before_anything_is_created() {
    let (condition, objects) = (Arc::new(Mutex::new("known")), Arc::<Objects>::default());
    let fake = store_that_changes(&condition, &objects);
    created(&fake).put_new(&key("a"), b"first").unwrap();
    *condition.lock().unwrap() = "ignored";

    let backend = opened(&options(fake.port, None)).0.unwrap();
    let error = refused(backend.put_new(&key("a"), b"second"));

    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(backend.get(&key("a"), 9).unwrap(), b"first");
    assert_eq!(objects.lock().unwrap().len(), 1, "the mark is gone");
    let again = opened(&options(fake.port, None)).0.unwrap();
    assert!(!again.capabilities().atomic_create);
}

/// A 400 of what stands before the store took the mark away, and the next run wrote by the other
/// rules, while others at work went on by the first.
#[test]
fn a_mark_stays_when_it_is_refused() {
    for there in ["refused", "odd"] {
        let (condition, objects) = (Arc::new(Mutex::new("known")), Arc::<Objects>::default());
        let fake = store_that_changes(&condition, &objects);
        created(&fake).put_new(&key("a"), b"first").unwrap();
        *condition.lock().unwrap() = there;

        let backend = opened(&options(fake.port, None)).0.unwrap();
        let error = refused(backend.put_new(&key("a"), b"second"));

        assert!(error.to_string().contains("the store answers"), "{error}");
        assert!(error.hint_text().is_some_and(|hint| hint.contains("s3://b/p/tmp/class")));
        assert_eq!(objects.lock().unwrap().len(), 2, "the mark is there");
        *condition.lock().unwrap() = "known";
        assert!(opened(&options(fake.port, None)).0.unwrap().capabilities().atomic_create);
        backend.put_new(&key("b"), b"1").unwrap();
    }
}

/// A 400 of what stands before the store was taken for its own.
#[test]
fn one_refusal_says_nothing_of_a_store() {
    for number in 0..3 {
        let store = Store::new();
        let asked_for = AtomicUsize::new(0);
        store.trick(move |asked| {
            let is_it = asked.header("if-none-match").is_some()
                && asked_for.fetch_add(1, Ordering::Relaxed) == number;
            is_it.then(|| Reply::error(400, "InvalidArgument"))
        });

        let backend = opened(&options(store.fake.port, None)).0.unwrap();

        assert!(backend.capabilities().atomic_create, "{number}");
    }
}

#[test]
fn a_mark_that_somebody_took_away_is_put_again() {
    let objects = Arc::<Objects>::default();
    let fake = store_that_changes(&Arc::new(Mutex::new("known")), &objects);
    created(&fake);
    let backend = opened(&options(fake.port, None)).0.unwrap();
    objects.lock().unwrap().clear();
    let before = fake.asked().len();

    backend.put_new(&key("a"), b"1").unwrap();

    let asked = asked_since(&fake, before);
    assert_eq!(asked, ["PUT? tmp/class", "PUT? tmp/class", "PUT? a"]);
}

#[test]
fn a_mark_of_a_later_version_is_not_guessed_at() {
    let objects = Arc::<Objects>::default();
    let fake = store_that_changes(&Arc::new(Mutex::new("known")), &objects);
    objects.lock().unwrap().insert("/b/p/tmp/class".to_owned(), b"quantum\n".to_vec());

    let error = refused(opened(&options(fake.port, None)).0);

    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.hint_text().unwrap().contains("newer version"), "{error:?}");
}

#[test]
fn a_missing_bucket_is_said_and_not_made() {
    let fake = store("no bucket");
    let error = refused(opened(&options(fake.port, None)).0);
    assert_eq!(error.kind(), ErrorKind::NoRepository);
    assert!(error.to_string().contains("there is no bucket b"), "{error}");
    assert!(fake.asked().iter().all(|asked| asked.method != "PUT"), "{:?}", fake.asked());
}

#[test]
fn who_may_not_write_reads() {
    let fake = store("forbidden");
    let backend = opened(&options(fake.port, None)).0.unwrap();
    let before = fake.asked().len();

    for error in [
        refused(backend.put(&key("a"), b"1")),
        refused(backend.put_new(&key("a"), b"1")),
        refused(backend.delete(&key("a"))),
    ] {
        assert_eq!(error.kind(), ErrorKind::Denied);
    }

    assert_eq!(fake.asked().len(), before, "nothing is tried");
    assert_eq!(refused(backend.get(&key("a"), 9)).kind(), ErrorKind::NotFound);
}

#[test]
fn a_large_object_is_put_in_parts() {
    let large = vec![7; (64 << 20) + 1];
    let fake = Fake::start(|_, asked| match asked.method.as_str() {
        "POST" if asked.has("uploads=") => Reply::ok(
            "<InitiateMultipartUploadResult><UploadId>u/1</UploadId></\
                       InitiateMultipartUploadResult>",
        ),
        "PUT" => Reply::ok(b"").with("etag", "\"e\""),
        _ => Reply::ok("<CompleteMultipartUploadResult/>"),
    });
    let (store, _) = backend(&fake);

    store.put(&key("a"), &large).unwrap();
    // Several at once may win where it comes in parts.
    store.put_new(&key("a"), &large).unwrap();

    let asked = fake.asked();
    assert_eq!(asked.len(), 7 + 1);
    let parts: Vec<_> = asked[1..6].iter().map(|part| part.body.len()).collect();
    assert_eq!(parts, [16 << 20, 16 << 20, 16 << 20, 16 << 20, 1]);
    assert!(asked[5].has("partNumber=5&uploadId=u%2F1"));
    assert_eq!(asked[6].header("if-none-match"), None);
    assert_eq!(asked[7].header("if-none-match"), Some("*"));
    assert_eq!(asked[7].body.len(), large.len());
}

#[test]
fn parts_that_came_to_nothing_are_given_up() {
    let large = vec![7; (64 << 20) + 1];
    let fake = Fake::start(|_, asked| match asked.method.as_str() {
        "POST" if asked.has("uploads=") => {
            Reply::ok("<InitiateMultipartUpload><UploadId>u</UploadId></InitiateMultipartUpload>")
        }
        "PUT" => Reply::ok(b"").with("etag", "\"e\""),
        // It says yes first and no then.
        "POST" => Reply::ok("<Error><Code>QuotaExceeded</Code></Error>"),
        "DELETE" => Reply::Whole(204, Vec::new(), Vec::new()),
        _ => Reply::error(404, "NoSuchKey"),
    });

    let error = refused(backend(&fake).0.put(&key("a"), &large));

    assert_eq!(error.kind(), ErrorKind::Full);
    let asked = fake.asked();
    let given_up = asked.iter().find(|asked| asked.method == "DELETE").unwrap();
    assert!(given_up.has("uploadId=u"));
}

#[test]
fn only_what_is_old_by_the_stores_clock_is_swept() {
    let fake = Fake::start(|_, asked| match asked.method.as_str() {
        "GET" if asked.has("uploads=") => {
            let row = |key: &str, day: u32| {
                format!(
                    "<Upload><Key>{key}</Key><UploadId>u{day}</UploadId>\
                     <Initiated>1994-11-{day}T08:00:00.000Z</Initiated></Upload>"
                )
            };
            let rows = [row("p/old", 13), row("p/new", 15), row("q/old", 13), row("p/A", 13)];
            Reply::ok(format!(
                "<ListMultipartUploadsResult>{}</ListMultipartUploadsResult>",
                rows.concat()
            ))
            .with("date", "Tue, 15 Nov 1994 08:12:31 GMT")
        }
        "GET" if asked.has("uploadId=") => Reply::ok(
            "<ListPartsResult><Part><Size>5</Size></Part><Part><Size>6</Size></Part>\
             </ListPartsResult>",
        ),
        "GET" => page(&[], END).with("date", "Tue, 15 Nov 1994 08:12:31 GMT"),
        _ => Reply::Whole(204, Vec::new(), Vec::new()),
    });

    assert_eq!(backend(&fake).0.sweep().unwrap(), 11);

    let asked = fake.asked();
    let gone: Vec<_> = asked.iter().filter(|asked| asked.method == "DELETE").collect();
    assert_eq!(gone.len(), 1);
    assert_eq!(gone[0].target, "/b/p/old?uploadId=u13");
}

#[test]
fn every_request_is_signed_and_says_its_hash() {
    let fake = Fake::start(|_, _| Reply::ok(b""));
    let (backend, _) = backend(&fake);

    backend.put(&key("packs/ab/c"), b"hello").unwrap();

    let asked = &fake.asked()[0];
    assert_eq!((asked.method.as_str(), asked.target.as_str()), ("PUT", "/b/p/packs/ab/c"));
    let hash = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    assert_eq!(asked.header("x-amz-content-sha256"), Some(hash));
    let checksum = asked.header("x-amz-checksum-sha256");
    assert_eq!(checksum, Some("LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ="));
    let signature = asked.header("authorization").unwrap();
    assert!(signature.starts_with("AWS4-HMAC-SHA256 Credential=AKIA/"), "{signature}");
    assert!(signature.contains("/us-east-1/s3/aws4_request"), "{signature}");
    assert_eq!(asked.header("host"), Some(format!("127.0.0.1:{}", fake.port).as_str()));
    assert_eq!(backend.location(), "s3://b/p");
}
