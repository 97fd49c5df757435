//! A bucket as a source, where the store misbehaves.

use crate::s3::END;
use crate::s3::fake::Asked;
use crate::s3::fake::Fake;
use crate::s3::fake::Reply;
use crate::s3::options;
use crate::s3::store::Store;
use icecore::base::cancel::Cancel;
use icecore::base::error::Error;
use icecore::base::error::ErrorKind;
use icecore::base::error::Origin;
use icecore::base::metadata::Kind;
use icecore::base::path::EntryPath;
use icecore::base::time::SystemClock;
use icecore::net::s3::client::Client;
use icecore::source::ScanItem;
use icecore::source::Source;
use icecore::source::bucket::BucketSource;
use icecore::source::filter::CACHE_TAG_SIGNATURE;
use icecore::source::filter::Filter;
use icecore::source::filter::FilterOptions;
use std::sync::Arc;

fn source(fake: &Fake) -> BucketSource {
    let bucket = options(fake.port, None).bucket;
    let client = Client::new(&bucket, Arc::new(SystemClock), Arc::new(|_| Ok(()))).unwrap();
    BucketSource::new(client, "p")
}

fn path(text: &str) -> EntryPath {
    EntryPath::new(text.as_bytes()).unwrap()
}

/// Answers a listing of one folder with rows as `key` and `key/`, by the prefix that is asked.
fn folders(asked: &Asked, rows: &[(&str, &[&str])]) -> Reply {
    let query = asked.target.split("prefix=").nth(1).unwrap();
    let prefix = query.split('&').next().unwrap().replace("%2F", "/");
    let found = rows.iter().find(|(known, _)| *known == prefix);
    let rows = found.map_or(&[][..], |(_, rows)| rows);
    let rows: String = rows
        .iter()
        .map(|row| match row.strip_suffix('/') {
            Some(_) if !row.ends_with("//") => {
                format!("<CommonPrefixes><Prefix>{row}</Prefix></CommonPrefixes>")
            }
            _ => {
                let (key, size) = row.split_once('=').unwrap_or((row, "3"));
                format!("<Contents><Key>{key}</Key><Size>{size}</Size><ETag>e</ETag></Contents>")
            }
        })
        .collect();
    Reply::ok(format!("<ListBucketResult>{rows}{END}</ListBucketResult>"))
}

fn scanned(source: &BucketSource) -> (Vec<String>, Vec<(String, Error)>) {
    let (mut entries, mut failed) = (Vec::new(), Vec::new());
    for item in source.scan(&Cancel::new()).unwrap() {
        match item {
            ScanItem::Entry(entry) => entries.push(entry.path.to_string()),
            ScanItem::Failed(path, error) => {
                assert_eq!(error.origin(), Origin::Source, "{error:?}");
                failed.push((path.to_string(), error));
            }
            ScanItem::Skipped(path, _) => panic!("{path}"),
        }
    }
    (entries, failed)
}

#[test]
fn paths_come_in_their_own_order() {
    let fake = Fake::start(|_, asked| {
        folders(
            asked,
            &[
                ("p/", &["p/a-b/", "p/a.txt", "p/a/", "p/b", "p/z/"]),
                ("p/a/", &["p/a/=0", "p/a/x"]),
                ("p/a-b/", &["p/a-b/y"]),
                ("p/z/", &["p/z/=0"]),
            ],
        )
    });

    let (entries, failed) = scanned(&source(&fake));

    assert_eq!(entries[1..], ["a", "a/x", "a-b", "a-b/y", "a.txt", "b", "z"]);
    let mut sorted: Vec<_> = entries[1..].iter().map(|text| path(text)).collect();
    sorted.sort();
    assert_eq!(sorted.iter().map(EntryPath::to_string).collect::<Vec<_>>(), entries[1..]);
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn keys_that_are_no_paths_are_told_of() {
    let long = "x".repeat(300);
    let rows = ["p/../", "p/./", "p//", "p/b", "p/b/", "p/c", &format!("p/{long}")];
    let rows = rows.map(str::to_owned);
    let fake = Fake::start(move |_, asked| {
        if asked.target.contains("prefix=p%2Fb%2F") {
            return folders(asked, &[("p/b/", &["p/b/y"])]);
        }
        let folder = |row: &String| match row.ends_with('/') {
            true => format!("<CommonPrefixes><Prefix>{row}</Prefix></CommonPrefixes>"),
            false => format!("<Contents><Key>{row}</Key><Size>1</Size></Contents>"),
        };
        let rows: String = rows.iter().map(folder).collect();
        Reply::ok(format!("<ListBucketResult>{rows}{END}</ListBucketResult>"))
    });

    let (entries, failed) = scanned(&source(&fake));

    assert_eq!(entries[1..], ["b", "b/y", "c"]);
    assert_eq!(failed.len(), 5, "{failed:?}");
    for (_, error) in &failed {
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("no path of a file"), "{error}");
    }
    let mut paths: Vec<_> = failed.iter().map(|(path, _)| path.clone()).collect();
    paths.dedup();
    assert_eq!(paths.len(), 5);
}

#[test]
fn what_breaks_off_is_gone_on_with_while_it_is_the_same() {
    for (is_same, good) in [(true, true), (false, false)] {
        let fake = Fake::start(move |_, asked| {
            if asked.has("list-type") {
                return folders(asked, &[("p/", &["p/a=10"])]);
            }
            match asked.header("range") {
                None => Reply::Raw(
                    b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\netag: \"e\"\r\n\r\n0123".to_vec(),
                ),
                Some(range) => {
                    assert_eq!((range, asked.header("if-match")), ("bytes=4-", Some("\"e\"")));
                    match is_same {
                        true => Reply::Whole(206, Vec::new(), b"456789".to_vec())
                            .with("content-range", "bytes 4-9/10"),
                        false => Reply::error(412, "PreconditionFailed"),
                    }
                }
            }
        });
        let source = source(&fake);
        scanned(&source);
        let mut reader = source.reader().unwrap();
        let opened = reader.open(&path("a")).unwrap();
        assert_eq!(opened.entry.size, 10);
        let mut buffer = [0; 20];

        let read = reader.read_at(0, &mut buffer);

        if good {
            assert_eq!(&buffer[..read.unwrap()], b"0123456789");
        } else {
            let error = read.unwrap_err();
            assert_eq!((error.kind(), error.origin()), (ErrorKind::Io, Origin::Source));
            assert!(error.to_string().contains("replaced"), "{error}");
        }
    }
}

/// Some stores do not hear `if-match`: two halves of two objects were taken for one.
#[test]
fn what_goes_on_as_another_object_is_not_gone_on_with() {
    for (etag, range) in
        [("e", "bytes 4-9/10"), ("", "bytes 4-9/10"), ("f", "bytes 4-9/10"), ("e", "bytes 4-10/11")]
    {
        let fake = Fake::start(move |_, asked| {
            if asked.has("list-type") {
                return folders(asked, &[("p/", &["p/a=10"])]);
            }
            if asked.header("range").is_none() {
                let head = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\netag: \"e\"\r\n\r\n";
                return Reply::Raw([head, &b"0123"[..]].concat());
            }
            let rest = if range.ends_with("/10") { &b"456789"[..] } else { b"456789+" };
            let rest = Reply::Whole(206, Vec::new(), rest.to_vec());
            let rest = rest.with("content-range", range);
            if etag.is_empty() { rest } else { rest.with("etag", format!("\"{etag}\"")) }
        });
        let source = source(&fake);
        scanned(&source);
        let mut reader = source.reader().unwrap();
        reader.open(&path("a")).unwrap();
        let mut buffer = [0; 20];

        let read = reader.read_at(0, &mut buffer);

        if etag != "f" && range.ends_with("/10") {
            assert_eq!(&buffer[..read.unwrap()], b"0123456789", "{etag} {range}");
        } else {
            let error = read.unwrap_err();
            assert_eq!((error.kind(), error.origin()), (ErrorKind::Io, Origin::Source));
            assert!(error.to_string().contains("replaced"), "{error}");
        }
    }
}

#[test]
fn a_folder_that_cannot_be_listed_hides_no_neighbour() {
    let fake = Fake::start(|_, asked| match asked.target.contains("prefix=p%2Fa%2F") {
        true => Reply::error(403, "AccessDenied"),
        false => folders(asked, &[("p/", &["p/a/", "p/b"])]),
    });

    let (entries, failed) = scanned(&source(&fake));

    assert_eq!(entries[1..], ["b"]);
    assert_eq!((failed[0].0.as_str(), failed[0].1.kind()), ("a", ErrorKind::Denied));
}

#[test]
fn a_prefix_with_nothing_below_is_no_empty_folder() {
    let fake = Fake::start(|_, asked| folders(asked, &[]));
    let error = source(&fake).scan(&Cancel::new()).map(|_| ()).unwrap_err();
    assert_eq!((error.kind(), error.origin()), (ErrorKind::NotFound, Origin::Source));
}

/// Rules that stand in objects count as those in files do, and what is listed stays opened by what
/// it is, whoever asks.
#[test]
fn rules_in_the_bucket_are_obeyed() {
    let store = Store::new();
    for (key, bytes) in [
        (".gitignore", &b"*.o\n"[..]),
        ("a.o", b"1"),
        ("b", b"2"),
        ("cache/CACHEDIR.TAG", CACHE_TAG_SIGNATURE),
        ("cache/x", b"3"),
        ("d/c.o", b"4"),
        ("d/keep", b"5"),
        ("skip/.nobackup", b""),
        ("skip/x", b"6"),
    ] {
        store.put(&format!("p/{key}"), bytes, &[]);
    }
    let filter = Filter::new(&FilterOptions {
        gitignore: true,
        exclude_caches: true,
        exclude_if_present: vec![".nobackup".to_owned()],
        ..FilterOptions::default()
    });
    let source = BucketSource::new(store.client(), "p").filtered(filter.unwrap());

    let (entries, failed) = scanned(&source);

    let expected =
        [".gitignore", "b", "cache", "cache/CACHEDIR.TAG", "d", "d/keep", "skip", "skip/.nobackup"];
    assert_eq!(entries[1..], expected);
    assert!(failed.is_empty(), "{failed:?}");
    // A reader of a source that has scanned nothing asks the store what is there.
    let other = BucketSource::new(store.client(), "p");
    let mut reader = other.reader().unwrap();
    assert_eq!(reader.open(&path("d")).unwrap().entry.kind, Kind::Directory);
    assert_eq!(reader.open(&path("d/keep")).unwrap().entry.kind, Kind::File);
    assert_eq!(reader.open(&path("d/gone")).unwrap_err().kind(), ErrorKind::NotFound);
}
