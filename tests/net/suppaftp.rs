//! A second opinion on FTP: suppaftp, the client that the owner knows. What our client does to a
//! server it must see, and the other way round; and our server must be to its liking.

use crate::files_contract::get;
use crate::files_contract::list;
use crate::files_contract::put;
use crate::ftp;
use crate::serve::PASSWORD;
use crate::serve::Served;
use crate::serve::pem;
use icecore::base::error::Error;
use icecore::base::error::ErrorKind;
use icecore::net::files::Connect;
use icecore::net::ftp::Security;
use icecore::net::tls;
use icecore::net::tls::Roots;
use std::collections::BTreeMap;
use std::fs;
use std::io::Cursor;
use std::io::Read;
use std::io::Write;
use suppaftp::Encoding;
use suppaftp::FtpStream;
use suppaftp::ImplFtpStream;
use suppaftp::RustlsConnector;
use suppaftp::RustlsFtpStream;
use suppaftp::Status;
use suppaftp::TlsStream;
use suppaftp::types::FileType;

/// Names that are awkward to say; the last is no UTF-8.
const NAMES: [&[u8]; 6] = [
    b"plain",
    b" blanks in it",
    b"-dash",
    b"quote\"'",
    "gr\u{fc}n \u{4e2d}".as_bytes(),
    b"caf\xE9",
];

/// Each byte a character of its own, so that no name is lost.
#[derive(Debug)]
struct Bytes;

impl Encoding for Bytes {
    fn decode(&self, bytes: &[u8]) -> String {
        bytes.iter().copied().map(char::from).collect()
    }

    fn encode(&self, text: &str) -> std::io::Result<Vec<u8>> {
        let byte = |letter| u8::try_from(u32::from(letter)).map_err(std::io::Error::other);
        text.chars().map(byte).collect()
    }
}

fn text(name: &[u8]) -> String {
    Bytes.decode(name)
}

fn content(number: usize) -> Vec<u8> {
    (0..number * 70_001).map(|at| (at * 7 + number) as u8).collect()
}

/// Takes a folder through all that a client does, and leaves it empty.
fn works<T: TlsStream>(ftp: &mut ImplFtpStream<T>) {
    ftp.set_encoding(Bytes);
    ftp.transfer_type(FileType::Binary).expect("binary");
    ftp.mkdir("made").expect("a folder");
    ftp.cwd("made").expect("entered");
    assert_eq!(ftp.pwd().expect("where we are"), "/made");
    for (number, name) in NAMES.iter().enumerate() {
        let sent = ftp.put_file(text(name), &mut Cursor::new(content(number))).expect("stored");
        assert_eq!(sent, content(number).len() as u64);
        assert_eq!(ftp.size(text(name)).expect("its size"), content(number).len());
    }
    let mut found: Vec<String> = ftp.nlst(None).expect("names");
    found.sort();
    let mut wanted: Vec<String> = NAMES.iter().map(|name| text(name)).collect();
    wanted.sort();
    assert_eq!(found, wanted);
    let facts = ftp.mlsd(None).expect("facts");
    assert_eq!(facts.iter().filter(|row| row.contains("type=file")).count(), NAMES.len());
    assert_eq!(ftp.list(None).expect("lines").len(), NAMES.len());

    ftp.resume_transfer(100_000).expect("from within");
    let mut rest = Vec::new();
    let mut transfer = ftp.retr_as_stream("-dash").expect("opened");
    transfer.read_to_end(&mut rest).expect("read");
    transfer.finish().expect("whole");
    assert_eq!(rest, content(2)[100_000..]);

    ftp.custom_command("MFMT 20200203040506 -dash", &[Status::File]).expect("its time is set");
    let time = ftp.mdtm("-dash").expect("its time");
    assert_eq!(time.to_string(), "2020-02-03 04:05:06");
    let mut more = ftp.append_with_stream("plain").expect("opened");
    more.write_all(b"appended").expect("written");
    more.finish().expect("stored");
    assert_eq!(ftp.retr_as_buffer("plain").expect("read").into_inner(), b"appended");
    ftp.rename("plain", "renamed").expect("renamed");
    assert!(ftp.size("plain").is_err());
    assert!(ftp.cwd("../..").is_err() || ftp.pwd().expect("where we are") == "/");
    ftp.cwd("/made").expect("entered");
    for name in ftp.nlst(None).expect("names") {
        ftp.rm(name).expect("removed");
    }
    ftp.cdup().expect("above");
    ftp.rmdir("made").expect("removed");
    ftp.quit().expect("a farewell");
}

#[test]
fn it_works_with_our_server() {
    let served = Served::new(&[]);
    let mut ftp = FtpStream::connect(("127.0.0.1", served.port)).expect("connected");
    assert!(ftp.login("icecore", "wrong").is_err());
    ftp.login("icecore", PASSWORD).expect("logged in");
    works(&mut ftp);
    assert_eq!(fs::read_dir(served.path("served")).expect("a folder").count(), 0);
}

#[test]
fn it_works_with_our_server_within_tls() {
    let served = Served::with_tls(&[]);
    let roots = Roots { extra: Some(pem("cert.pem")) };
    let connector = RustlsConnector::from(tls::config(&roots).expect("the certificate"));
    let ftp = RustlsFtpStream::connect(("127.0.0.1", served.port)).expect("connected");
    let mut ftp = ftp.into_secure(connector, "localhost").expect("the certificate holds");
    ftp.login("icecore", PASSWORD).expect("logged in");
    works(&mut ftp);
}

/// What either client stores on a server the other lists and reads.
#[test]
fn it_and_our_client_see_the_same() {
    for name in ftp::ALL {
        let server = ftp::start(name, &[]);
        let mut ours = ftp::client(&server, Security::None).connect().expect("a session");
        let mut theirs =
            FtpStream::connect((server.get("host"), server.port())).expect("connected");
        theirs.login(server.get("user"), server.get("password")).expect("logged in");
        theirs.set_encoding(Bytes);
        theirs.transfer_type(FileType::Binary).expect("binary");
        ours.make_folder(b"by us").expect("a folder");
        theirs.mkdir("by them").expect("a folder");

        let mut kept = BTreeMap::new();
        for (number, name) in NAMES.iter().enumerate() {
            let stored = put(&mut *ours, &[b"by us/", *name].concat(), &content(number));
            let other = theirs
                .put_file(format!("by them/{}", text(name)), &mut Cursor::new(content(number)));
            match stored {
                Ok(()) => {
                    other.expect("what we may store they may");
                    kept.insert(name.to_vec(), content(number));
                }
                // pyftpdlib makes another name of what is not UTF-8: we refuse, they do not look.
                Err(e) => {
                    assert_eq!(e.kind(), ErrorKind::Unsupported, "{}: {e}", text(name));
                    ours.remove(&[b"by us/", *name].concat()).expect("removed by either name");
                    if other.is_ok() {
                        theirs.rm(format!("by them/{}", text(name))).expect("removed");
                    }
                }
            }
        }
        assert!(kept.len() >= NAMES.len() - 1, "{name}: {}", kept.len());
        for (folder, label) in [(&b"by us"[..], "by us"), (b"by them", "by them")] {
            let mut seen: Vec<Vec<u8>> =
                list(&mut *ours, folder).expect("listed").into_iter().map(|row| row.name).collect();
            seen.sort();
            assert_eq!(seen, kept.keys().cloned().collect::<Vec<_>>(), "{name}: {label}");
            for (file, content) in &kept {
                let path = [folder, b"/", file].concat();
                let read: Result<Vec<u8>, Error> = get(&mut *ours, &path);
                assert!(read.expect("read") == *content, "{name}: {}", text(&path));
                let read = theirs.retr_as_buffer(&text(&path)).expect("read").into_inner();
                assert!(read == *content, "{name}: {}", text(&path));
                let size = theirs.size(text(&path)).expect("its size");
                assert_eq!(size, content.len(), "{name}: {}", text(&path));
            }
        }
        theirs.quit().expect("a farewell");
    }
}
