//! FTP with vsftpd, proftpd, pure-ftpd and pyftpdlib.

use crate::files_contract::get;
use crate::files_contract::holds;
use crate::files_contract::list;
use crate::files_contract::put;
use crate::support;
use icecore::base::error::Error;
use icecore::base::error::ErrorKind;
use icecore::base::metadata::Kind;
use icecore::base::secret::Secret;
use icecore::base::time::Timestamp;
use icecore::net::files::Connect;
use icecore::net::files::Files;
use icecore::net::files::Precision;
use icecore::net::ftp::Options;
use icecore::net::ftp::Security;
use icecore::net::ftp::Server;
use icecore::net::tls::Roots;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::chown;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::path::PathBuf;

pub(crate) const ALL: [&str; 4] = ["vsftpd", "proftpd", "pure-ftpd", "pyftpdlib"];

/// The user that the servers' files belong to.
const OWNER: Option<u32> = Some(1);

pub(crate) fn start(name: &str, arguments: &[&str]) -> support::Server {
    support::Server::start("ftp.py", &[&[name], arguments].concat())
}

fn options(server: &support::Server, security: Security) -> Options {
    let mut options = Options::new(server.get("host"), server.port(), false);
    options.security = security;
    options.user = Some(server.get("user").to_owned());
    options.password = Some(Secret::new(server.get("password").as_bytes().to_vec()));
    let authority = server.get("ca");
    options.roots = Roots { extra: (!authority.is_empty()).then(|| PathBuf::from(authority)) };
    options
}

pub(crate) fn client(server: &support::Server, security: Security) -> Server {
    Server::new(options(server, security)).expect("good options")
}

fn session(server: &support::Server) -> Box<dyn Files> {
    client(server, Security::None).connect().expect("a session")
}

fn root(server: &support::Server) -> PathBuf {
    PathBuf::from(server.get("root"))
}

/// Makes a file where a server finds it.
fn plant(path: &Path, content: &[u8]) {
    fs::write(path, content).expect("it can be written");
    chown(path, OWNER, OWNER).expect("we are root");
}

fn contract(name: &str, tls: &str, security: Security) {
    let server = start(name, &["--tls", tls]);
    let client = client(&server, security);
    // Relative to the login, and from the root.
    for folder in ["relative", "/from root"] {
        client.connect().expect("a session").make_folder(folder.as_bytes()).expect("made");
        holds(&client, folder.as_bytes());
    }
}

#[test]
fn vsftpd_in_the_clear() {
    contract("vsftpd", "off", Security::None);
}

#[test]
fn vsftpd_within_tls() {
    contract("vsftpd", "required", Security::Explicit);
}

#[test]
fn proftpd_in_the_clear() {
    contract("proftpd", "off", Security::None);
}

#[test]
fn proftpd_within_tls() {
    contract("proftpd", "required", Security::Explicit);
}

#[test]
fn proftpd_within_tls_from_the_first_byte() {
    contract("proftpd", "implicit", Security::Implicit);
}

#[test]
fn pure_ftpd_in_the_clear() {
    contract("pure-ftpd", "off", Security::None);
}

#[test]
fn pure_ftpd_within_tls() {
    contract("pure-ftpd", "required", Security::Explicit);
}

#[test]
fn pyftpdlib_in_the_clear() {
    contract("pyftpdlib", "off", Security::None);
}

#[test]
fn pyftpdlib_within_tls() {
    contract("pyftpdlib", "required", Security::Explicit);
}

/// More transfers than a server gives tickets for at once.
#[test]
fn data_connections_resume_the_session_again_and_again() {
    for version in ["TLSv1.2", "TLSv1.2 TLSv1.3"] {
        let extra = format!("TLSProtocol {version}");
        let server = start("proftpd", &["--tls", "required", "--extra", &extra]);
        let mut session = client(&server, Security::Explicit).connect().expect("a session");
        for round in 0..30 {
            put(&mut *session, b"empty", b"").unwrap_or_else(|e| panic!("{version} {round}: {e}"));
            put(&mut *session, b"file", &[1; 3000]).expect("written");
            assert_eq!(get(&mut *session, b"file").expect("read"), [1; 3000]);
            assert_eq!(get(&mut *session, b"empty").expect("read"), b"");
            assert_eq!(list(&mut *session, b"").expect("listed").len(), 2);
        }
    }
}

#[test]
fn a_server_may_want_the_newest_version_only() {
    let server = start("proftpd", &["--tls", "required", "--extra", "TLSProtocol TLSv1.3"]);
    let mut session = client(&server, Security::Explicit).connect().expect("a session");
    put(&mut *session, b"file", &[1; 3000]).expect("written");
    assert_eq!(get(&mut *session, b"file").expect("read"), [1; 3000]);
}

#[test]
fn certificates_are_checked() {
    let server = start("proftpd", &["--tls", "optional"]);
    let unknown = Options { roots: Roots::default(), ..options(&server, Security::Explicit) };
    let error = Server::new(unknown).expect("fine").connect().err().expect("not trusted");
    assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
    assert!(error.hint_text().is_some_and(|hint| hint.contains("--tls-ca")));
    let mut named = options(&server, Security::Explicit);
    named.host = "localhost".to_owned();
    Server::new(named).expect("fine").connect().expect("the certificate is for localhost, too");
}

#[test]
fn who_may_not_in_hears_why() {
    // At once, as some take their time to say no.
    std::thread::scope(|scope| ALL.map(|name| scope.spawn(move || turned_away(name))).map(drop));
}

fn turned_away(name: &str) {
    let server = start(name, &["--tls", "required"]);
    let wrong = Some(Secret::new(b"hunter2".to_vec()));
    let options = Options { password: wrong, ..options(&server, Security::Explicit) };
    let error = Server::new(options).expect("fine").connect().err().expect("wrong password");
    assert_eq!(error.kind(), ErrorKind::Denied, "{name}: {error:?}");
    assert!(!error.full_message().contains("hunter2"), "{name}");

    let clear = client(&server, Security::None).connect().err().expect("TLS is required");
    assert_eq!(clear.kind(), ErrorKind::Denied, "{name}: {clear:?}");
    assert!(clear.hint_text().is_some_and(|hint| hint.contains("ftps://")), "{name}: {clear:?}");

    let plain = start(name, &[]);
    let options = Options { roots: Roots::default(), ..self::options(&plain, Security::Explicit) };
    let none = Server::new(options).expect("fine").connect().err().expect("no TLS");
    assert_eq!(none.kind(), ErrorKind::Unsupported, "{name}: {none:?}");
}

#[test]
fn guests_that_are_too_many_are_asked_to_wait() {
    for (name, extra) in [
        ("vsftpd", "max_clients=1"),
        ("proftpd", "MaxClients 1"),
        ("pure-ftpd", "-c 1"),
        // The one that waits for guests is one, too.
        ("pyftpdlib", "FTPServer.max_cons = 2"),
    ] {
        let server = start(name, &[&format!("--extra={extra}")]);
        let client = client(&server, Security::None);
        // Whoever looked whether the server is up may still be a guest.
        let mut first = (0..50)
            .find_map(|_| {
                std::thread::sleep(std::time::Duration::from_millis(20));
                client.connect().ok()
            })
            .expect(name);
        let error = client.connect().err().expect("one too many");
        assert_eq!(error.kind(), ErrorKind::RateLimited, "{name}: {error:?}");
        first.keep_alive().expect("the first goes on");
    }
}

#[test]
fn long_listings_are_whole_or_refused() {
    for name in ALL {
        // 10 000 where nobody has said otherwise.
        let extra = if name == "pure-ftpd" { "--extra=-L 1000:5" } else { "--extra=" };
        let server = start(name, &[extra]);
        for at in 0..1_200 {
            fs::write(root(&server).join(format!("f{at:05}")), b"").expect("written");
        }
        let mut session = session(&server);
        let listed = list(&mut *session, b"");
        if name == "pure-ftpd" {
            let error = listed.expect_err("it cuts at 1 000");
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
            session.keep_alive().expect("the session goes on");
        } else {
            assert_eq!(listed.expect(name).len(), 1_200, "{name}");
        }
    }
}

#[test]
fn a_name_with_the_end_of_a_line_hides_nothing() {
    for name in ALL {
        let server = start(name, &[]);
        plant(&root(&server).join("new\nline"), b"x");
        let mut session = session(&server);
        match list(&mut *session, b"") {
            Err(e) => assert_eq!(e.kind(), ErrorKind::Corrupt, "{name}: {e:?}"),
            // pure-ftpd does not show it at all, and says that it shows all.
            Ok(found) if name == "pure-ftpd" => assert!(found.is_empty()),
            // Some show another name, which cannot be read then.
            Ok(found) => {
                assert_eq!(found.len(), 1, "{name}");
                session.open(&found[0].name, 0).expect_err("it has another name");
            }
        }
    }
}

#[test]
fn what_may_not_be_read_is_not_taken_for_missing() {
    for name in ALL {
        let server = start(name, &[]);
        let locked = root(&server).join("locked");
        fs::create_dir(&locked).expect("made");
        fs::write(locked.join("file"), b"x").expect("written");
        fs::write(root(&server).join("secret"), b"x").expect("written");
        for path in [&locked, &root(&server).join("secret")] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o700)).expect("ours");
        }
        let mut session = session(&server);
        let kind = |done: Result<(), Error>| done.err().map_or(ErrorKind::Bug, |e| e.kind());
        assert_eq!(kind(session.open(b"locked/file", 0)), ErrorKind::Denied, "{name}");
        assert_eq!(kind(session.open(b"secret", 0)), ErrorKind::Denied, "{name}");
        assert_eq!(kind(list(&mut *session, b"locked").map(drop)), ErrorKind::Denied, "{name}");
        let look = session.look_at(b"locked/file").map(drop);
        assert_eq!(kind(look), ErrorKind::Denied, "{name}");
        assert_eq!(kind(put(&mut *session, b"locked/new", b"x")), ErrorKind::Denied, "{name}");
        assert_eq!(kind(session.remove(b"locked/file")), ErrorKind::Denied, "{name}");
        let there = session.look_at(b"locked").expect("looked at").expect("there");
        assert_eq!(there.kind, Kind::Directory, "{name}");
    }
}

#[test]
fn a_server_that_puts_content_elsewhere_is_noticed() {
    let server = start("pure-ftpd", &["--extra=-r"]);
    let mut session = session(&server);
    put(&mut *session, b"file", b"first").expect("written");
    let error = put(&mut *session, b"file", b"another").expect_err("it went to file.1");
    // As one that a broken connection cut short, which is worth another try.
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error:?}");
    let mut session = client(&server, Security::None).connect().expect("another session");
    assert_eq!(get(&mut *session, b"file").expect("read"), b"first");
}

#[test]
fn a_server_that_lets_nothing_be_replaced_is_believed() {
    let extra = "AllowOverwrite off\n<Directory />\nAllowOverwrite off\n</Directory>";
    let server = start("proftpd", &["--extra", extra]);
    let mut session = session(&server);
    put(&mut *session, b"file", b"first").expect("written");
    put(&mut *session, b"other", b"second").expect("written");
    let error = session.rename_over(b"other", b"file").expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
    let error = put(&mut *session, b"file", b"third").expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
    assert_eq!(get(&mut *session, b"file").expect("read"), b"first");
}

#[test]
fn an_address_that_is_wrong_is_not_used() {
    let extra = "cmds_denied=EPSV\npasv_address=10.11.12.13";
    let server = start("vsftpd", &["--extra", extra]);
    let mut session = session(&server);
    put(&mut *session, b"file", b"content").expect("written");
    assert_eq!(get(&mut *session, b"file").expect("read"), b"content");
}

/// What one server tells and does, as a row of the table in `src/docs/guarantees.md`.
fn row(name: &str, version: &str) -> String {
    let server = start(name, &[]);
    let place = root(&server);
    plant(&place.join("file"), b"content");
    symlink("file", place.join("link")).expect("made");
    symlink("nowhere", place.join("dangling")).expect("made");
    let status = std::process::Command::new("mkfifo").arg(place.join("pipe")).status();
    assert!(status.expect("mkfifo runs").success());
    let mut session = session(&server);
    let found = list(&mut *session, b"").expect("listed");
    let of = |name: &str| found.iter().find(|found| found.name == name.as_bytes());
    let kind = |name: &str| of(name).map_or("not listed", |found| found.look.kind.as_str());
    let file = &of("file").expect("listed").look;
    let told = |told: bool| if told { "told" } else { "-" };
    let precision = file.modified.map_or("-", |modified| match modified.precision {
        Precision::Second => "second",
        Precision::Minute => "minute, second of one file",
        Precision::Vague => "day, second of one file",
    });
    let works = |done: Result<(), Error>| match done {
        Ok(()) => "yes",
        Err(e) if e.kind() == ErrorKind::AlreadyExists => "refused",
        Err(_) => "no",
    };
    let time = works(session.set_time(b"file", Timestamp::new(1_000_000_000, 0)));
    let mode = works(session.set_mode(b"file", 0o640));
    put(&mut *session, b"second", b"x").expect("written");
    let over = works(session.rename_over(b"second", b"file"));
    for folder in ["one", "two"] {
        session.make_folder(folder.as_bytes()).expect("made");
        put(&mut *session, format!("{folder}/o").as_bytes(), b"x").expect("written");
    }
    let folder_over = works(session.rename(b"one", b"two"));
    let mut refused = Vec::new();
    for (shown, odd) in
        [("0xFF", &b"a\xffb"[..]), ("tab", b"a\tb"), ("blank at the end", b"a "), ("`\\`", b"a\\b")]
    {
        if put(&mut *session, odd, b"x").is_err() {
            refused.push(shown);
        }
    }
    let refused = if refused.is_empty() { "none".to_owned() } else { refused.join(", ") };
    format!(
        "| {name} {version} | {precision} | {} | {} | {} | {}, {}, {} | {time} | {mode} | {over} \
         | {folder_over} | {refused} |",
        told(file.mode.is_some()),
        told(file.owner.is_some()),
        told(!file.unique.is_empty()),
        kind("link"),
        kind("dangling"),
        kind("pipe"),
    )
}

#[test]
fn the_table_of_the_guarantees_is_what_is_seen() {
    let paper = include_str!("../../src/docs/guarantees.md");
    let rows: Vec<String> = [
        ("vsftpd", "3.0.3"),
        ("proftpd", "1.3.8"),
        ("pure-ftpd", "1.0.50"),
        ("pyftpdlib", "2.2.0"),
    ]
    .map(|(name, version)| row(name, version))
    .to_vec();
    for row in &rows {
        assert!(paper.lines().any(|line| line == row), "the table has to say\n{}", rows.join("\n"));
    }
}
