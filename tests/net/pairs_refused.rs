//! What goes wrong at the door, end to end: wrong host, port, user, password, certificate, host
//! key, bucket and keys; servers that hang up or say what nobody understands; places that may only
//! be read; disks that are full. Each for a repository, a source and a target: a sentence that
//! names the server, a hint, the documented code, and no password anywhere.

use crate::pairs_home::Home;
use crate::pairs_home::Tree;
use crate::pairs_home::assert_same;
use crate::pairs_home::noise;
use crate::pairs_home::tree;
use crate::pairs_places::By;
use crate::pairs_places::Disk;
use crate::pairs_places::Place;
use std::fs;
use std::io::Read;
use std::io::Write;
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

const PASSWORD: &str = "hunter2 and more";

/// What a place is named for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Repository,
    Source,
    Target,
}

const ALL: &[Role] = &[Role::Repository, Role::Source, Role::Target];
/// Buckets are no targets here.
const OF_BUCKETS: &[Role] = &[Role::Repository, Role::Source];

/// What has to come of it.
#[derive(Clone, Copy)]
struct Wanted {
    code: i32,
    kind: &'static str,
    /// Words of the message and of the hint.
    says: &'static str,
    hints: &'static str,
}

/// A home with a local repository and one backup, so that only the place in question is wrong.
fn home() -> Home {
    let mut home = Home::new();
    home.hide("ICECORE_FTP_PASSWORD", PASSWORD);
    home.hide("ICECORE_SFTP_PASSWORD", PASSWORD);
    home.hide("AWS_SECRET_ACCESS_KEY", PASSWORD);
    // However it is written.
    home.conceal("hunter2");
    home.set("ICECORE_FTP_USER", "tester");
    home.set("ICECORE_SFTP_USER", "tester");
    home.set("AWS_ACCESS_KEY_ID", "SOMEKEY");
    fs::create_dir(home.path("data")).unwrap();
    fs::write(home.path("data/file"), "content").unwrap();
    home.json(0, &["-r", "repository", "init", "--encryption", "none"]);
    home.json(0, &["-r", "repository", "backup", "data"]);
    home
}

fn refused(home: &Home, roles: &[Role], address: &str, flags: &[&str], wanted: Wanted) {
    for &role in roles {
        let words: &[&str] = match role {
            Role::Repository => &["-r", address, "list"],
            Role::Source => &["-r", "repository", "backup", "--dataset", "other", address],
            Role::Target => &["-r", "repository", "restore", "data", address],
        };
        let ran = home.run(&[&["--json"], flags, words].concat());
        let context = format!("{role:?} {address}: {ran:?}");
        // Nobody has a repository where nothing can be reached, but only there it has a code.
        assert_eq!(ran.code, wanted.code, "{context}");
        let document = ran.document();
        let error = &document["error"];
        assert_eq!(error["kind"], wanted.kind, "{context}");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(wanted.says), "{:?} is not in {context}", wanted.says);
        let hint = error["hint"].as_str().unwrap_or_default();
        assert!(hint.contains(wanted.hints), "{:?} is not in the hint of {context}", wanted.hints);
        assert!(!hint.is_empty(), "no hint in {context}");
        assert!(ran.time < Duration::from_secs(20), "{context}");
    }
}

/// Returns a port at which nobody listens.
fn nobody() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A server that says something and hangs up.
fn saying(words: &'static [u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            let _ = client.write_all(words);
            // What the client says first is heard, so that what was said here arrives.
            let _ = client.set_read_timeout(Some(Duration::from_millis(50)));
            let _ = client.read(&mut [0; 1000]);
        }
    });
    port
}

fn unreachable(says: &'static str) -> Wanted {
    Wanted { code: 1, kind: "unreachable", says, hints: "" }
}

fn denied(hints: &'static str) -> Wanted {
    Wanted { code: 1, kind: "denied", says: "127.0.0.1", hints }
}

#[test]
fn servers_that_are_none() {
    let home = home();
    // Too long for any name, so that nobody is asked for it.
    let host = format!("{}.example", "x".repeat(80));
    for scheme in ["ftp", "ftps", "sftp"] {
        let at = |host: &str, port: u16| format!("{scheme}://{host}:{port}/place");
        refused(&home, ALL, &at(&host, 2121), &[], unreachable("is not found"));
        refused(&home, ALL, &at("127.0.0.1", nobody()), &[], unreachable("cannot connect"));
        for words in [&b""[..], b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\xff\0\xfe no\r\n\r\n"] {
            let ran = home.run(&["--json", "-r", &at("127.0.0.1", saying(words)), "list"]);
            let document = ran.document();
            let message = document["error"]["message"].as_str().unwrap();
            assert_eq!(ran.code, 1, "{ran:?}");
            assert!(message.contains("127.0.0.1"), "{ran:?}");
            assert!(ran.time < Duration::from_secs(5), "{ran:?}");
        }
    }
}

#[test]
fn guests_that_an_ftp_server_does_not_want() {
    let (clear, secure) = (Place::start("proftpd"), Place::start("proftpd+tls"));
    let mut home = home();
    let (there, within) = (clear.address("place"), secure.address("place"));
    refused(&home, ALL, &there, &[], denied("user and password"));
    refused(&home, ALL, &within, &secure.flags(), denied("user and password"));
    refused(&home, ALL, &within, &[], denied("--tls-ca"));
    let in_the_clear = within.replace("ftps://", "ftp://");
    refused(&home, ALL, &in_the_clear, &[], denied("ftps://"));
    let none = Wanted { code: 1, kind: "unsupported", says: "offers no TLS", hints: "ftp://" };
    refused(&home, ALL, &there.replace("ftp://", "ftps://"), &[], none);
    let typed = there.replace("ftp://", "ftp://tester:hunter2%20and%20more@");
    refused(&home, ALL, &typed, &[], denied("user and password"));

    clear.admit(&mut home, By::Variables);
    let stranger = there.replace("ftp://", "ftp://nobody@");
    refused(&home, ALL, &stranger, &[], denied("ICECORE_FTP_PASSWORD"));
    missing_places(&home, &there);
}

/// With everything else right: no repository, no source, and then both.
fn missing_places(home: &Home, address: &str) {
    let none = Wanted { code: 10, kind: "no_repository", says: "127.0.0.1", hints: " init` makes" };
    refused(home, &[Role::Repository], address, &[], none);
    let ran = home.run(&["--json", "-r", "repository", "backup", address]);
    assert_eq!((ran.code, ran.document()["error"]["kind"].as_str()), (1, Some("not_found")));
    home.json(0, &["-r", address, "init", "--encryption", "none"]);
    home.json(0, &["-r", address, "backup", "data"]);
    let listed = home.json(0, &["-r", address, "list"]);
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
}

#[test]
fn guests_that_an_ssh_server_does_not_want() {
    let place = Place::start("openssh");
    let mut home = home();
    let there = place.address("place");
    refused(&home, ALL, &there, &[], denied("--accept-new-host-key"));
    let known = home.path(".ssh/known_hosts");
    place.admit(&mut home, By::Variables);
    let right = fs::read_to_string(&known).unwrap();

    home.hide("ICECORE_SFTP_PASSWORD", PASSWORD);
    refused(&home, ALL, &there, &[], denied(""));
    home.set("ICECORE_SFTP_USER", "nobody-here");
    refused(&home, ALL, &there, &[], denied(""));
    home.set("ICECORE_SFTP_KEY", home.path("data/file").to_str().unwrap());
    refused(&home, ALL, &there, &[], denied(""));
    home.unset("ICECORE_SFTP_KEY");

    // Each of its keys is another's now.
    let other = fs::read_to_string(place.disk("../key_stranger.pub")).unwrap();
    let other = other.split_whitespace().nth(1).unwrap();
    let changed: Vec<String> = right
        .lines()
        .map(|line| {
            line.split_whitespace().take(1).chain(["ssh-ed25519", other]).collect::<Vec<_>>()
        })
        .map(|words| words.join(" ") + "\n")
        .collect();
    fs::write(&known, changed.concat()).unwrap();
    place.admit(&mut home, By::Variables);
    fs::write(&known, changed.concat()).unwrap();
    refused(&home, ALL, &there, &["--accept-new-host-key"], denied(""));

    fs::write(&known, right).unwrap();
    missing_places(&home, &there);
}

#[test]
fn guests_that_a_store_does_not_want() {
    let store = Place::start("seaweedfs");
    let mut home = home();
    let there = store.address("place");
    let bucket = "s3://icecore-test";
    home.set("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{}", nobody()));
    refused(&home, OF_BUCKETS, &there, &[], unreachable(bucket));
    home.set("AWS_ENDPOINT_URL", format!("http://{}.example:80", "x".repeat(80)));
    refused(&home, OF_BUCKETS, &there, &[], unreachable(bucket));
    for words in [&b""[..], b"220 hello\r\n", b"\xff\0\xfe no\r\n\r\n"] {
        home.set("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{}", saying(words)));
        let ran = home.run(&["--json", "-r", &there, "list"]);
        let document = ran.document();
        assert_eq!(ran.code, 1, "{ran:?}");
        assert!(document["error"]["message"].as_str().unwrap().contains(bucket), "{ran:?}");
        assert!(ran.time < Duration::from_secs(10), "{ran:?}");
    }
    home.set("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{}", store.port()));
    let denied = |hints| Wanted { code: 1, kind: "denied", says: bucket, hints };
    refused(&home, OF_BUCKETS, &there, &[], denied("access key"));
    store.admit(&mut home, By::Variables);
    home.hide("AWS_SECRET_ACCESS_KEY", PASSWORD);
    refused(&home, OF_BUCKETS, &there, &[], denied("secret"));

    store.admit(&mut home, By::Variables);
    let none = Wanted { code: 10, kind: "no_repository", says: "", hints: " init` makes" };
    refused(&home, &[Role::Repository], "s3://icecore-nowhere/place", &[], none);
    refused(&home, &[Role::Repository], &there, &[], none);
    let ran = home.run(&["--json", "-r", "repository", "backup", "s3://icecore-nowhere/place"]);
    assert!(ran.code == 1 || ran.code == 10, "{ran:?}");

    home.set("AWS_ACCESS_KEY_ID", "READER");
    let ran = home.run(&["--json", "-r", &there, "init", "--encryption", "none"]);
    assert_eq!(
        (ran.code, ran.document()["error"]["kind"].as_str()),
        (1, Some("denied")),
        "{ran:?}"
    );
    store.admit(&mut home, By::Variables);
    home.json(0, &["-r", &there, "init", "--encryption", "none"]);
    home.json(0, &["-r", &there, "backup", "data"]);
    home.set("AWS_ACCESS_KEY_ID", "READER");
    home.json(0, &["-r", &there, "list", "data"]);
    fs::write(home.path("data/file"), "changed").unwrap();
    let ran = home.run(&["--json", "-r", &there, "backup", "data"]);
    assert_eq!(
        (ran.code, ran.document()["error"]["kind"].as_str()),
        (1, Some("denied")),
        "{ran:?}"
    );
    store.admit(&mut home, By::Variables);
    let done = home.json(0, &["-r", &there, "backup", "data"]);
    assert_eq!(done["backup"], 1, "{done}");
}

#[test]
fn a_server_that_may_only_be_read() {
    let place = Place::start_with("serve-ftp", "--read-only");
    let mut home = home();
    place.admit(&mut home, By::Variables);
    let there = place.address("place");
    for words in [
        &["-r", &there, "init", "--encryption", "none"][..],
        &["-r", "repository", "restore", "data", &there],
    ] {
        let ran = home.run(&[&["--json"], words].concat());
        let document = ran.document();
        assert_eq!((ran.code, document["error"]["kind"].as_str()), (1, Some("denied")), "{ran:?}");
        assert!(document["error"]["message"].as_str().unwrap().contains("127.0.0.1"), "{ran:?}");
    }
    assert!(!place.disk("place").exists());
    place.fill("read", &Tree::new(), &Tree::from([("a".to_owned(), Some(b"1".to_vec()))]));
    let done = home.json(0, &["-r", "repository", "backup", &place.address("read")]);
    assert_eq!(done["files"], 1, "{done}");
}

/// A repository whose disk is full: what is there stays, and with more room it goes on.
fn full(kind: &'static str, says: &str) {
    let place = Place::start(kind);
    let mut home = Home::new();
    place.admit(&mut home, By::Variables);
    let root = place.disk("small");
    fs::create_dir(&root).unwrap();
    let disk = Disk::mount(root, "2m");
    place.give_away("small");
    let repository = place.address("small/repository");
    let run = |code: i32, words: &[&str]| home.json(code, &[&["-r", &repository], words].concat());
    run(0, &["init", "--encryption", "none"]);
    fs::create_dir(home.path("data")).unwrap();
    fs::write(home.path("data/first"), noise(1, 100_000)).unwrap();
    run(0, &["backup", "data"]);
    let before = tree(&home.path("data"));

    for number in 2..6 {
        fs::write(home.path(&format!("data/{number}")), noise(number, 1_500_000)).unwrap();
    }
    let failed = run(1, &["backup", "data"]);
    let hint = failed["error"]["hint"].as_str().unwrap_or_default();
    let is_told = failed["error"]["kind"] == says;
    assert!(is_told && (says == "full" || hint.contains("full")), "{kind}: {failed}");
    let message = failed["error"]["message"].as_str().unwrap();
    assert!(message.contains("127.0.0.1"), "{kind}: {message}");
    run(0, &["restore", "--no-owner", "data@0", "back"]);
    assert_same(&tree(&home.path("back")), &before, kind);
    assert_eq!(run(0, &["check", "--read-data"])["ok"], true);

    disk.grow("64m");
    assert_eq!(run(0, &["backup", "data"])["backup"], 1);
    run(0, &["restore", "--no-owner", "data", "new"]);
    assert_same(&tree(&home.path("new")), &tree(&home.path("data")), kind);
    assert_eq!(run(0, &["check", "--read-data"])["ok"], true);
}

/// Each server has its own words for a full disk; pyftpdlib at times has none at all, and is left
/// out.
macro_rules! full_disks {
    ($($name:ident: $kind:literal says $says:literal,)*) => {$(
        #[test]
        fn $name() {
            full($kind, $says);
        }
    )*};
}

full_disks! {
    the_disk_of_vsftpd_is_full: "vsftpd" says "io",
    the_disk_of_proftpd_is_full: "proftpd" says "io",
    the_disk_of_pure_ftpd_is_full: "pure-ftpd" says "io",
    the_disk_of_our_own_server_is_full: "serve-ftp" says "full",
    the_disk_of_openssh_is_full: "openssh" says "full",
    the_disk_of_mod_sftp_is_full: "mod_sftp" says "full",
}
