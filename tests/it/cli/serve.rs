//! `serve-ftp` as a command: who is let in, what it says, how it ends.

use crate::cli::Home;
use crate::cli::Ran;
use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::Child;
use std::process::ChildStdout;
use std::process::Command;
use std::process::Stdio;

/// A server that is ended with the test.
pub(super) struct Running {
    /// None once it was stopped.
    child: Option<Child>,
    stdout: BufReader<ChildStdout>,
    /// The line that says that it is ready.
    line: String,
}

impl Running {
    pub(super) fn new(home: &Home, arguments: &[&str]) -> Self {
        let mut command = home.command(arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        Running { child: Some(child), stdout, line }
    }

    /// Logs in over a socket and returns the code of the answer to the password.
    fn login(&self, port: u16, user: &str, password: &str) -> String {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
        socket.write_all(format!("USER {user}\r\nPASS {password}\r\nQUIT\r\n").as_bytes()).unwrap();
        let mut text = String::new();
        socket.read_to_string(&mut text).unwrap();
        text.lines().nth(2).unwrap_or_default()[..3].to_owned()
    }

    /// Returns the port that it says it listens on.
    pub(super) fn port(&self) -> u16 {
        let port = self.line.split("127.0.0.1:").nth(1).unwrap();
        port.split(',').next().unwrap().parse().unwrap()
    }

    pub(super) fn stop(mut self, signal: &str) -> Ran {
        let child = self.child.take().unwrap();
        let pid = child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        let mut stdout = self.line.clone();
        self.stdout.read_to_string(&mut stdout).unwrap();
        let mut ran = Ran::of(child.wait_with_output().unwrap());
        ran.stdout = stdout;
        ran
    }
}

impl Drop for Running {
    /// Ends a server that was not stopped, as its test failed or asks nothing more of it.
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn home() -> Home {
    let mut home = Home::new();
    fs::create_dir(home.path("data")).unwrap();
    home.set("ICECORE_SERVE_PASSWORD", "s3cret pw");
    home
}

#[test]
fn it_says_where_it_is_and_ends_when_asked_to() {
    let home = home();
    for signal in ["-TERM", "-INT"] {
        let running = Running::new(&home, &["-v", "serve-ftp", "data", "--listen", "127.0.0.1:0"]);
        let line = running.line.clone();
        let address = "serving data at ftp://icecore@127.0.0.1:";
        let port = line.strip_prefix(address).unwrap_or_else(|| panic!("{line}"));
        let port = port.strip_suffix(", TLS off\n").unwrap().parse().unwrap();
        assert_eq!(running.login(port, "icecore", "s3cret pw"), "230");
        // Somebody is in when it ends.
        let _inside = TcpStream::connect(("127.0.0.1", port)).unwrap();

        let ran = running.stop(signal);

        assert_eq!(ran.code, 0, "{ran:?}");
        assert!(ran.stderr.contains("PASS .. -> 230") && !ran.stderr.contains("s3cret"), "{ran:?}");
    }
    let quiet = Running::new(&home, &["serve-ftp", "data", "--listen", "127.0.0.1:0"]);
    assert_eq!(quiet.stop("-TERM").stderr, "");
}

#[test]
fn json_says_the_same() {
    let home = home();
    let words = ["--json", "serve-ftp", "data", "--listen", "127.0.0.1:0", "--read-only"];
    let running = Running::new(&home, &words);
    let document: Value = serde_json::from_str(&running.line).unwrap();
    let port = document["port"].as_u64().unwrap();
    assert_eq!(document["address"], format!("ftp://icecore@127.0.0.1:{port}"));
    assert_eq!((&document["tls"], &document["rights"]), (&"off".into(), &"read".into()));
    assert_eq!(document["folder"], "data");
    assert_eq!(running.stop("-TERM").code, 0);
}

#[test]
fn a_certificate_of_an_authority_is_told_from_one_that_is_unknown() {
    let home = home();
    let pem = |name: &str| format!("{}/tests/it/serve/{name}", env!("CARGO_MANIFEST_DIR"));
    let (key, tls) = (pem("key.pem"), ["serve-ftp", "data", "--listen", "127.0.0.1:0"]);
    let refused = |certificate: &str, hint: &str| {
        let certificate = pem(certificate);
        let flags = ["--tls-cert", certificate.as_str(), "--tls-key", key.as_str()];
        let running = Running::new(&home, &[&tls[..], &flags].concat());
        let address = format!("ftps://icecore:x@127.0.0.1:{}/", running.port());
        let ran = home.run(&["--tls-ca", &pem("authority.pem"), "backup", &address, "-d", "far"]);
        ran.says(1, "is not trusted");
        ran.says(1, hint);
        running.stop("-TERM");
    };

    refused("authority.pem", "basicConstraints=critical,CA:FALSE");
    refused("cert.pem", "name the certificate of its authority with --tls-ca");
}

#[test]
fn users_come_from_where_they_are_named() {
    let mut home = home();
    home.write("users", b"ann:one\nbob:two\n");
    fs::set_permissions(home.path("users"), PermissionsExt::from_mode(0o600)).unwrap();
    home.write("password", b"three\n");
    let port = |running: &Running| -> u16 {
        let port = running.line.split("127.0.0.1:").nth(1).unwrap();
        port.split(',').next().unwrap().parse().unwrap()
    };
    let base = ["serve-ftp", "data", "--listen", "127.0.0.1:0"];
    let start = |home: &Home, more: &[&str]| Running::new(home, &[&base, more].concat());

    let running = start(&home, &["--users-file", "users"]);
    assert!(running.line.contains("at ftp://127.0.0.1:"), "{}", running.line);
    for (user, password, code) in [
        ("ann", "one", "230"),
        ("bob", "two", "230"),
        ("ann", "two", "530"),
        ("icecore", "s3cret pw", "530"),
    ] {
        assert_eq!(running.login(port(&running), user, password), code, "{user}");
    }
    running.stop("-TERM");
    let running = start(&home, &["--user", "cat", "--password-file", "password"]);
    assert_eq!(running.login(port(&running), "cat", "three"), "230");
    assert_eq!(running.login(port(&running), "anonymous", "x"), "530");
    running.stop("-TERM");
    home.unset("ICECORE_SERVE_PASSWORD");
    let running = start(&home, &["--anonymous"]);
    assert_eq!(running.login(port(&running), "anonymous", "x"), "230");
    running.stop("-TERM");
}

#[test]
fn it_does_not_start_in_doubt() {
    let mut home = home();
    home.write("users", b"ann:one\n");
    fs::set_permissions(home.path("users"), PermissionsExt::from_mode(0o644)).unwrap();
    home.run(&["serve-ftp", "data", "--users-file", "users"]).says(2, "hint: `chmod 600 users`");
    home.run(&["serve-ftp", "nothing"]).says(1, "cannot open the folder nothing");
    home.run(&["serve-ftp", "users"]).says(1, "cannot open the folder users");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    home.run(&["serve-ftp", "data", "--listen", &address]).says(1, "cannot listen at 127.0.0.1:");
    for bad in [
        &["--listen", "nowhere"][..],
        &["--tls-cert", "users"],
        &["--tls-key", "users"],
        &["--require-tls"],
        &["--passive-ports", "9-1"],
        &["--passive-host", "localhost"],
    ] {
        assert_eq!(home.run(&[&["serve-ftp", "data"], bad].concat()).code, 2, "{bad:?}");
    }
    let tls = ["serve-ftp", "data", "--tls-cert", "users", "--tls-key", "users"];
    home.run(&tls).says(2, "certificate");
    home.write("empty", b"\n");
    home.run(&["serve-ftp", "data", "--password-file", "empty"]).says(2, "is empty");
    home.unset("ICECORE_SERVE_PASSWORD");
    home.run(&["serve-ftp", "data"]).says(2, "ICECORE_SERVE_PASSWORD");
    assert_eq!(home.json(2, &["serve-ftp", "data"])["error"]["kind"], "invalid_input");
}

#[test]
fn in_the_clear_on_a_network_is_warned_of() {
    let home = home();
    let running = Running::new(&home, &["serve-ftp", "data", "--listen", "0.0.0.0:0"]);
    assert!(running.stop("-TERM").stderr.contains("in the clear"));
}

/// A path below the home, of any bytes.
fn odd(home: &Home, folder: &str, name: &[u8]) -> PathBuf {
    home.path(folder).join(OsStr::from_bytes(name))
}

/// A home with a server of `data` and one of the empty folder `up`, and their addresses.
fn between(home: &mut Home) -> ([Running; 2], [String; 2]) {
    home.set("ICECORE_FTP_PASSWORD", "s3cret pw");
    fs::create_dir(home.path("up")).unwrap();
    let serve = |folder: &str| {
        let words = ["serve-ftp", folder, "--listen", "127.0.0.1:0"];
        Running::new(home, &words)
    };
    let running = ["data", "up"].map(serve);
    let address = |running: &Running| format!("ftp://icecore@127.0.0.1:{}", running.port());
    let addresses = [address(&running[0]), address(&running[1])];
    (running, addresses)
}

/// Names of which one is another, where 0xFF is heard as Telnet has it. All have content of one
/// length, so that no size tells them apart.
#[test]
fn names_with_0xff_come_and_go_as_they_are() {
    let mut home = home();
    let names: [&[u8]; 7] =
        [b"x\xff", b"x\xff\xff", b"x\xff\xfby", b"x\xffb", b"x", b"d\xff/g", b"d\xff\xff/f"];
    for (digit, name) in (b'0'..).zip(names) {
        let path = odd(&home, "data", name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, [digit; 4]).unwrap();
    }
    let (running, [from, to]) = between(&mut home);

    home.done(&["backup", &from, "--dataset", "d"]);
    home.done(&["restore", "d", "out"]);
    home.done(&["restore", "d", &format!("{to}/t")]);

    for place in ["out", "up/t"] {
        for (digit, name) in (b'0'..).zip(names) {
            let path = odd(&home, place, name);
            let read = fs::read(&path).unwrap_or_else(|e| panic!("{path:?}: {e}"));
            assert_eq!(read, [digit; 4], "{path:?}");
        }
        let count = |folder: &[u8]| fs::read_dir(odd(&home, place, folder)).unwrap().count();
        assert_eq!([count(b"."), count(b"d\xff"), count(b"d\xff\xff")], [7, 1, 1], "{place}");
    }
    for running in running {
        assert_eq!(running.stop("-TERM").code, 0);
    }
}

#[test]
fn a_restore_of_a_name_with_0xff_spares_its_neighbour() {
    let mut home = home();
    fs::write(odd(&home, "data", b"n\xff\xff"), b"AAAA").unwrap();
    home.done(&["backup", "data", "--dataset", "d"]);
    let (_running, [_, to]) = between(&mut home);
    fs::write(odd(&home, "up", b"n\xff"), b"a stranger's").unwrap();

    home.done(&["restore", "d", &to, "--overwrite", "always"]);

    assert_eq!(fs::read(odd(&home, "up", b"n\xff")).unwrap(), b"a stranger's");
    assert_eq!(fs::read(odd(&home, "up", b"n\xff\xff")).unwrap(), b"AAAA");
}

/// A server cannot say the end of a line in a name; what it shows instead is not there.
#[test]
fn what_is_below_a_folder_with_the_end_of_a_line_is_missed_and_told() {
    let mut home = home();
    home.write("data/d\na/f", b"1");
    home.write("data/e/f", b"2");
    let (_running, [from, _]) = between(&mut home);

    let words = "the server lists it, and does not find it when it is asked for";
    home.run(&["backup", &from, "--dataset", "d"]).says(3, words);

    home.done(&["restore", "d", "out"]);
    assert_eq!(fs::read(home.path("out/e/f")).unwrap(), b"2");
}

/// Names that would be shown as one, which no client could list; two are of one file.
#[test]
fn names_with_different_ends_of_lines_leave_their_folder_to_be_listed() {
    let mut home = home();
    for name in ["a\nb", "a\rb", "a?b"] {
        home.write(&format!("data/{name}"), name.as_bytes());
    }
    fs::hard_link(home.path("data/a\nb"), home.path("data/a\n\r")).unwrap();
    fs::hard_link(home.path("data/a\nb"), home.path("data/a\r\n")).unwrap();
    let (_running, [from, _]) = between(&mut home);

    let told = home.json(3, &["backup", &from, "--dataset", "d"]);

    assert_eq!(told["errors"].as_array().map(Vec::len), Some(4), "{told}");
    home.done(&["restore", "d", "out"]);
    let rows = fs::read_dir(home.path("out")).unwrap();
    let names: Vec<_> = rows.map(|row| row.unwrap().file_name()).collect();
    assert_eq!(names, ["a?b"]);
    assert_eq!(fs::read(home.path("out/a?b")).unwrap(), b"a?b");
}

/// It was said to be damaged: "put the file `config` back".
#[test]
fn a_repository_that_was_made_over_ftp_says_so_in_its_folder() {
    let mut home = home();
    home.set("ICECORE_FTP_PASSWORD", "s3cret pw");
    let serve = ["serve-ftp", "data", "--listen", "127.0.0.1:0", "--user", "ann"];
    let server = Running::new(&home, &serve);
    let place = format!("ftp://ann@127.0.0.1:{}/backups", server.port());
    home.write("photos/a", b"x");

    home.done(&["-r", &place, "init", "--encryption", "none"]);
    home.done(&["-r", &place, "backup", "photos"]);
    let ran = home.run(&["-r", "data/backups", "list"]);

    ran.says(1, "data/backups was made over FTP");
    ran.says(1, "ftp://");
    assert!(!ran.stderr.contains("missing"), "{ran:?}");
}

/// Where no way to create an object is exact, its objects are files as they are in a folder.
#[test]
fn a_repository_of_a_server_without_an_exact_way_is_none_to_a_path() {
    let home = home();
    home.write("photos/a", b"x");
    home.done(&["-r", "repo", "init", "--encryption", "none"]);
    home.write("repo/way+", b"nothing\n");

    home.run(&["-r", "repo", "backup", "photos"]).says(1, "repo was made over FTP");
}

#[test]
fn what_would_serve_nobody_is_refused() {
    let home = home();
    // One that is not refused would serve for ever.
    let soon = |words: [&str; 4]| {
        let mut command = home.command_under("timeout", &["60"]);
        Ran::of(command.args(words).output().unwrap())
    };
    for flag in ["--max-sessions", "--max-per-address", "--idle"] {
        soon(["serve-ftp", "data", flag, "0"]).says(2, flag);
    }
    for listen in ["localhost:2121", ":2121", "127.0.0.1"] {
        let ran = soon(["serve-ftp", "data", "--listen", listen]);
        ran.says(2, "write ADDRESS:PORT, as 127.0.0.1:2121 or 0.0.0.0:2121");
    }
}

/// A folder that is served, and its address with all that it takes to log in.
fn served(home: &Home) -> (Running, String) {
    let running = Running::new(home, &["serve-ftp", "data", "--listen", "127.0.0.1:0"]);
    let address = format!("ftp://icecore:s3cret%20pw@127.0.0.1:{}/", running.port());
    (running, address)
}

fn names_in(folder: PathBuf) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|it| it.unwrap().file_name());
    let mut names: Vec<String> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// A backup over FTP has none of them. A restore to where it came from took them away for good, and
/// ended with 0.
#[test]
fn what_a_backup_over_ftp_cannot_have_is_not_deleted() {
    let home = home();
    home.write("data/d/file", b"1");
    let _socket = UnixListener::bind(home.path("data/socket")).unwrap();
    let made = Command::new("mkfifo").arg(home.path("data/pipe")).status().unwrap();
    assert!(made.success());
    let (_running, address) = served(&home);

    home.done(&["backup", &address, "-d", "far"]);
    home.write("data/extra", b"2");
    // Most servers would not have told it.
    symlink("file", home.path("data/d/link")).unwrap();
    let delete = ["--overwrite", "if-changed", "--delete"];
    let restored = home.json(0, &[&["restore", "far", &address][..], &delete].concat());

    assert_eq!(restored["deleted"], 1);
    assert_eq!(names_in(home.path("data")), ["d", "pipe", "socket"]);
    assert_eq!(names_in(home.path("data/d")), ["file", "link"]);
    let data = home.path("data").to_str().unwrap().to_owned();
    let restored = home.json(0, &[&["restore", "far", &data][..], &delete].concat());
    assert_eq!(restored["deleted"], 0);
    assert_eq!(names_in(home.path("data")), ["d", "pipe", "socket"]);
    assert_eq!(names_in(home.path("data/d")), ["file", "link"]);
}

/// Links are stored as this server tells them, and stay where they are as they were. It makes none.
#[test]
fn links_come_along_from_our_own_server() {
    let home = home();
    home.write("data/file", b"1");
    let odd = OsStr::from_bytes(b"no where;\n\xff -> ");
    let links = [("d/up", OsStr::new("../file")), ("odd", odd)];
    fs::create_dir(home.path("data/d")).unwrap();
    for (link, to) in links {
        symlink(to, home.path("data").join(link)).unwrap();
    }
    let (_running, address) = served(&home);
    let backup = home.done(&["backup", &address, "-d", "far"]);
    assert!(!backup.stderr.contains("left out"), "{backup:?}");
    home.done(&["restore", "far", "out"]);
    for (link, to) in links {
        assert_eq!(fs::read_link(home.path("out").join(link)).unwrap(), to);
    }
    assert!(home.done(&["backup", &address, "-d", "far"]).stdout.contains("unchanged"));

    let restore = ["restore", "far", &address, "--overwrite", "if-changed", "--delete"];
    let in_place = home.json(0, &restore);
    assert_eq!((&in_place["deleted"], &in_place["written_bytes"]), (&0.into(), &0.into()));
    fs::remove_file(home.path("data/odd")).unwrap();
    symlink("other", home.path("data/odd")).unwrap();
    home.run(&restore).says(3, "cannot make the link odd");
    assert_eq!(fs::read_link(home.path("data/odd")).unwrap().as_os_str(), "other");
}

/// A name with the end of a line in it is listed as another one, which is "not found" and stays.
#[test]
fn what_cannot_be_named_is_not_counted_as_deleted() {
    let home = home();
    home.write("data/file", b"1");
    let (_running, address) = served(&home);
    home.done(&["backup", &address, "-d", "far"]);
    home.write("data/a\nb", b"2");
    home.write("data/really?", b"3");

    let delete = ["restore", "far", &address, "--overwrite", "if-changed", "--delete"];
    home.run(&delete).says(3, "does not find it when it is to be removed");

    let restored = home.json(3, &delete);
    assert_eq!(restored["deleted"], 0);
    assert_eq!(names_in(home.path("data")), ["a\nb", "file"]);
}

/// Nobody stores sockets.
#[test]
fn a_socket_is_not_deleted_for_not_being_in_a_backup() {
    let home = home();
    home.write("data/file", b"1");
    let _socket = UnixListener::bind(home.path("data/socket")).unwrap();
    home.done(&["backup", "data"]);
    home.write("data/extra", b"2");
    symlink("file", home.path("data/link")).unwrap();

    let delete = ["restore", "data", "data", "--overwrite", "if-changed", "--delete"];
    let restored = home.json(0, &delete);

    assert_eq!(restored["deleted"], 2);
    assert_eq!(names_in(home.path("data")), ["file", "socket"]);
}
