//! Rows of the table for stores that speak S3.

use crate::contract::key;
use crate::s3;
use crate::s3::Store;
use crate::s3::clock;
use crate::s3::sleeper;
use crate::table::ODD;
use crate::table::Row;
use crate::table::SESSIONS;
use crate::table::one_wins;
use crate::table::yes;
use icecore::backend::Backend;
use icecore::backend::s3::S3Backend;
use icecore::base::time::Clock;
use icecore::base::time::SystemClock;
use icecore::net::s3::listing;
use icecore::net::s3::listing::Depth;
use icecore::net::s3::objects::Beside;
use icecore::net::s3::sign;
use icecore::net::s3::sign::Signed;
use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::thread;

/// Asks a store.
pub(super) fn s3_row(server: &'static str, store: &Store) -> Row {
    let options = store.options();
    let opened: Vec<S3Backend> =
        (0..4).map(|_| S3Backend::create(&options, clock(), sleeper()).expect(server)).collect();
    let backend = &opened[0];
    let capabilities = backend.capabilities();
    if capabilities.atomic_create {
        one_wins(&opened.iter().map(|it| it as &dyn Backend).collect::<Vec<_>>());
    }
    backend.put(&key("file"), b"9").expect(server);
    backend.put(&key("file"), b"0123456789").expect(server);
    let bytes = backend.get(&key("file"), 10).expect(server);
    let client = store.client(s3::BUCKET);
    let mut modified = None;
    let mut names = Vec::new();
    let prefix = format!("{}/odd/", options.prefix);
    // Keys are text: what is none cannot be said.
    let odd: Vec<(&str, &str)> = ODD
        .iter()
        .filter_map(|(shown, name)| Some((*shown, std::str::from_utf8(name).ok()?)))
        .collect();
    for (_, name) in &odd {
        let _ = client.put(&format!("{prefix}{name}"), b"x", &Beside::default());
    }
    let visit = &mut |row| {
        if let listing::Row::Object(object) = row {
            modified = modified.max(object.modified);
            names.push(object.key.strip_prefix(&prefix).unwrap_or_default().to_owned());
        }
        Ok(())
    };
    client.list(&prefix, Depth::All, visit).expect(server);
    let lost = ODD.iter().filter(|(shown, _)| {
        let text = odd.iter().find(|(known, _)| known == shown).map(|(_, text)| *text);
        text.is_none_or(|text| !names.iter().any(|name| name == text))
    });
    let lost: Vec<&str> = lost.map(|(shown, _)| *shown).collect();
    Row {
        server,
        create: match capabilities.atomic_create {
            true => "a conditional PUT",
            false => "nothing: class B",
        },
        replace: yes(bytes == b"0123456789"),
        listing: "ListObjectsV2".to_owned(),
        // In pages of 1 000; how many more is tested elsewhere.
        many: "all".to_owned(),
        times: if modified.is_some() { "second" } else { "-" },
        set_time: "no",
        set_mode: "no",
        offset: yes(backend.get_range(&key("file"), 4..10).is_ok_and(|it| it == b"456789")),
        tls: "HTTPS".to_owned(),
        resumed: "-",
        names: if lost.is_empty() { "-".to_owned() } else { lost.join(", ") },
        checksum: if refuses_wrong_checksum(store) { "refused" } else { "taken" },
        sessions: yes(at_once(backend)).to_owned(),
    }
}

fn at_once(backend: &S3Backend) -> bool {
    thread::scope(|scope| {
        let get = || backend.get(&key("file"), 10).is_ok();
        let all: Vec<_> = (0..SESSIONS).map(|_| scope.spawn(get)).collect();
        all.into_iter().all(|one| one.join().expect("it answers"))
    })
}

/// Puts content whose checksum is another's, and says whether the store minds.
fn refuses_wrong_checksum(store: &Store) -> bool {
    let options = store.options();
    let body = b"what is sent";
    let (host, hash) = (format!("127.0.0.1:{}", store.server.port()), sign::sha256_hex(body));
    let path = format!("/{}/{}/wrong", s3::BUCKET, options.prefix);
    let checksum = sign::base64(&sign::sha256(b"what is not sent"));
    let mut headers = vec![("x-amz-checksum-sha256".to_owned(), checksum)];
    let signed = Signed {
        method: "PUT",
        host: &host,
        path: &path,
        query: "",
        headers: &headers,
        content_hash: &hash,
    };
    let credentials = options.bucket.credentials.as_ref().expect("the store has some");
    let added = sign::sign(&signed, credentials, "us-east-1", SystemClock.now()).expect("signed");
    headers.extend(added);
    let mut text = format!("PUT {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n");
    text.push_str(&format!("content-length: {}\r\n", body.len()));
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    let mut stream = TcpStream::connect(&host).expect("it listens");
    stream.write_all(&[text.as_bytes(), b"\r\n", body].concat()).expect("sent");
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    match answer.split(' ').nth(1) {
        Some("200") => false,
        Some("400") => true,
        _ => panic!("{answer}"),
    }
}
