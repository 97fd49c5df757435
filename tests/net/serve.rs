//! `icecore serve-ftp` under clients that people use: lftp, curl and Python's ftplib, in the clear
//! and within TLS.

use crate::support::Server;
use std::fs;
use std::io::BufRead;
use std::io::BufReader;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use tempfile::TempDir;

pub(crate) const PASSWORD: &str = "s3cret pw";

/// The program at work for one folder.
pub(crate) struct Served {
    place: TempDir,
    program: Child,
    pub(crate) port: u16,
}

impl Served {
    pub(crate) fn new(flags: &[&str]) -> Self {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir(place.path().join("served")).unwrap();
        let mut program = Command::new(env!("CARGO_BIN_EXE_icecore"))
            .args(["--json", "serve-ftp", "--listen", "127.0.0.1:0"])
            .args(flags)
            .arg(place.path().join("served"))
            .env("ICECORE_SERVE_PASSWORD", PASSWORD)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(program.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.split("\"port\":").nth(1).unwrap_or_else(|| panic!("{line}"));
        let port = port.split(',').next().unwrap().parse().unwrap();
        Served { place, program, port }
    }

    pub(crate) fn with_tls(flags: &[&str]) -> Self {
        let (cert, key) = (pem("cert.pem"), pem("key.pem"));
        let tls = ["--tls-cert", cert.to_str().unwrap(), "--tls-key", key.to_str().unwrap()];
        Served::new(&[&tls, flags].concat())
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.place.path().join(below)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let mut kill = Command::new("kill");
        let killed = kill.args(["-TERM", &self.program.id().to_string()]).status();
        let ended = self.program.wait();
        let is_well = killed.is_ok() && ended.is_ok_and(|status| status.success());
        assert!(is_well || std::thread::panicking(), "it does not end well");
    }
}

pub(crate) fn pem(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/serve").join(name)
}

/// Runs a client and returns what it prints; a failure is one of the test.
fn ran(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{text}{errors}", output.status);
    text
}

/// A tree with names that are awkward to say, and some size.
fn make_tree(root: &Path) {
    fs::create_dir_all(root.join("a folder/deeper")).unwrap();
    fs::create_dir(root.join("empty")).unwrap();
    let names = ["plain", " blanks ", "-dash", "quote\"'", "star*?[x]", "gr\u{fc}n", "back\\slash"];
    for (number, name) in names.iter().enumerate() {
        let content = vec![number as u8; number * 50_000];
        fs::write(root.join(name), &content).unwrap();
        fs::write(root.join("a folder/deeper").join(name), &content).unwrap();
    }
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_600_000_000);
    fs::File::options().write(true).open(root.join("plain")).unwrap().set_modified(time).unwrap();
}

/// Returns all files below a folder with their content.
fn tree(root: &Path) -> Vec<(PathBuf, Option<Vec<u8>>)> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for row in fs::read_dir(folder).unwrap() {
            let path = row.unwrap().path();
            let below = path.strip_prefix(root).unwrap().to_owned();
            let is_folder = fs::symlink_metadata(&path).unwrap().is_dir();
            found.push((below, (!is_folder).then(|| fs::read(&path).unwrap())));
            if is_folder {
                folders.push(path);
            }
        }
    }
    found.sort();
    found
}

fn lftp(clients: &Server, served: &Served, tls: bool, script: &str) -> String {
    let security = match tls {
        true => format!(
            "set ftp:ssl-force true; set ftp:ssl-protect-data true; set ssl:ca-file {};",
            pem("cert.pem").display()
        ),
        false => "set ftp:ssl-allow false;".to_owned(),
    };
    let script = format!(
        "set cmd:fail-exit true; set net:max-retries 1; set net:timeout 10; {security}
         open -u icecore,'{PASSWORD}' ftp://127.0.0.1:{}; {script}",
        served.port
    );
    ran(Command::new(clients.get("lftp")).args(["--norc", "-c", &script]).env("HOME", "/nowhere"))
}

fn mirrored(clients: &Server, served: &Served, tls: bool) {
    let (from, back) = (served.path("from"), served.path("back"));
    fs::create_dir(&from).unwrap();
    make_tree(&from);
    let (from_text, back_text) = (from.display(), back.display());

    lftp(clients, served, tls, &format!("mirror -R -P 4 {from_text} up"));
    assert_eq!(tree(&served.path("served/up")), tree(&from));
    let time = |path: &str| fs::metadata(served.path(path)).unwrap().mtime();
    assert_eq!(time("served/up/plain"), 1_600_000_000);
    lftp(clients, served, tls, &format!("mirror -P 4 up {back_text}"));
    assert_eq!(tree(&back), tree(&from));
    assert_eq!(time("back/plain"), 1_600_000_000);
    // Nothing is to be done again, as times and sizes are told.
    let again = lftp(clients, served, tls, &format!("mirror -v -R {from_text} up"));
    assert!(!again.contains("Transferring"), "{again}");
    fs::write(from.join("plain"), b"new content").unwrap();
    fs::remove_file(from.join("-dash")).unwrap();
    lftp(clients, served, tls, &format!("mirror -R -e {from_text} up"));
    assert_eq!(tree(&served.path("served/up")), tree(&from));
}

#[test]
fn lftp_mirrors_a_tree_there_and_back() {
    let clients = Server::start("clients.py", &[]);
    mirrored(&clients, &Served::new(&[]), false);
    mirrored(&clients, &Served::with_tls(&["--require-tls-reuse"]), true);
}

#[test]
fn lftp_lists_renames_and_goes_on() {
    let clients = Server::start("clients.py", &[]);
    let served = Served::new(&[]);
    make_tree(&served.path("served"));
    symlink("plain", served.path("served/link")).unwrap();
    let big: Vec<u8> = (0..3_000_000_u32).map(|i| (i / 251) as u8).collect();
    fs::write(served.path("served/big"), &big).unwrap();
    fs::write(served.path("part"), &big[..1_234_567]).unwrap();

    let rows = lftp(&clients, &served, false, "ls");
    assert!(rows.contains("big") && rows.contains("link -> plain"), "{rows}");
    let part = served.path("part");
    lftp(&clients, &served, false, &format!("get -c big -o {}", part.display()));
    assert!(fs::read(&part).unwrap() == big);
    fs::write(served.path("served/half"), &big[..2_000_000]).unwrap();
    lftp(&clients, &served, false, &format!("put -c {} -o half", part.display()));
    assert!(fs::read(served.path("served/half")).unwrap() == big);
    lftp(&clients, &served, false, "mv half whole; chmod 600 whole; mkdir d; rm plain; rmdir d");
    assert_eq!(fs::metadata(served.path("served/whole")).unwrap().mode() & 0o777, 0o600);
    assert!(!served.path("served/plain").exists() && !served.path("served/d").exists());
}

fn curl(clients: &Server, served: &Served, tls: bool, words: &[&str], path: &str) -> String {
    let mut command = Command::new(clients.get("curl"));
    command.args(["-q", "-sS", "--max-time", "20", "-u", &format!("icecore:{PASSWORD}")]);
    if tls {
        command.arg("--ssl-reqd").arg("--cacert").arg(pem("cert.pem"));
    }
    ran(command.args(words).arg(format!("ftp://127.0.0.1:{}/{path}", served.port)))
}

#[test]
fn curl_lists_and_carries_files() {
    let clients = Server::start("clients.py", &[]);
    for (tls, flags) in
        [(false, &[][..]), (true, &["--require-tls"]), (true, &["--require-tls-reuse"])]
    {
        let served = if tls { Served::with_tls(flags) } else { Served::new(flags) };
        make_tree(&served.path("served"));
        let run = |words: &[&str], path: &str| curl(&clients, &served, tls, words, path);

        let rows = run(&[], "a%20folder/");
        assert!(rows.contains(" deeper"), "{rows}");
        let names = run(&["--list-only"], "a%20folder/deeper/");
        assert!(names.contains("plain\n") && names.contains("star*?[x]\n"), "{names}");
        let (file, got) = (served.path("file"), served.path("got"));
        let big: Vec<u8> = (0..5_000_000_u32).map(|i| (i / 13) as u8).collect();
        fs::write(&file, &big).unwrap();
        let (file, got_text) = (file.to_str().unwrap(), got.to_str().unwrap());
        run(&["-T", file, "--ftp-create-dirs"], "new/folder/big");
        assert!(fs::read(served.path("served/new/folder/big")).unwrap() == big);
        run(&["-o", got_text], "new/folder/big");
        assert!(fs::read(&got).unwrap() == big);
        run(&["-o", got_text, "-r", "1000-1999"], "new/folder/big");
        assert!(fs::read(&got).unwrap() == big[1000..2000]);
        let head = run(&["-I"], "plain");
        assert!(head.contains("Last-Modified: Sun, 13 Sep 2020 12:26:40 GMT"), "{head}");
        run(&["-Q", "DELE plain", "-Q", "-NOOP"], "");
        assert!(!served.path("served/plain").exists());
        run(&["-a", "-T", file], "new/folder/big");
        assert_eq!(fs::metadata(served.path("served/new/folder/big")).unwrap().len(), 10_000_000);
    }
}

const FTPLIB: &str = r#"
import ftplib, io, ssl, sys
port, ca, tls = int(sys.argv[1]), sys.argv[2], sys.argv[3] == "True"
if tls:
    f = ftplib.FTP_TLS(context=ssl.create_default_context(cafile=ca), timeout=20)
else:
    f = ftplib.FTP(timeout=20)
f.connect("localhost" if tls else "127.0.0.1", port)
f.login("icecore", "s3cret pw")
if tls:
    f.prot_p()
data = bytes(range(256)) * 20000
assert f.mkd("d") == "/d"
f.cwd("d")
assert f.pwd() == "/d"
f.storbinary("STOR a b", io.BytesIO(data))
got = io.BytesIO()
f.retrbinary("RETR a b", got.write)
assert got.getvalue() == data
got = io.BytesIO()
f.retrbinary("RETR a b", got.write, rest=5000000)
assert got.getvalue() == data[5000000:]
f.voidcmd("TYPE I")
assert f.size("a b") == len(data)
assert "20200102030405" in f.sendcmd("MFMT 20200102030405 a b")
rows = dict(f.mlsd())
assert list(rows) == ["a b"], rows
assert rows["a b"]["modify"] == "20200102030405" and rows["a b"]["size"] == str(len(data))
assert f.nlst() == ["a b"]
lines = []
f.retrlines("LIST", lines.append)
assert len(lines) == 1 and lines[0].endswith(" a b"), lines
f.rename("a b", "c")
try:
    f.size("a b")
    sys.exit("it is still there")
except ftplib.error_perm as e:
    assert str(e) == "550 a b: No such file or directory", e
conn = f.transfercmd("RETR c")
conn.recv(10)
if not tls:
    # Two answers: one to the transfer, one to ABOR itself.
    f.abort()
    f.voidresp()
conn.close()
if tls:
    f.close()
else:
    assert f.voidcmd("NOOP").startswith("200")
    f.delete("c")
    f.cwd("..")
    f.rmd("d")
    f.quit()
print("well")
"#;

#[test]
fn ftplib_does_all_it_can() {
    let clients = Server::start("clients.py", &[]);
    for tls in [false, true] {
        let served = if tls { Served::with_tls(&["--require-tls"]) } else { Served::new(&[]) };
        let tls = if tls { "True" } else { "False" };
        let (port, ca) = (served.port.to_string(), pem("cert.pem"));
        let mut python = Command::new(clients.get("python"));
        let text = ran(python.args(["-c", FTPLIB, &port, ca.to_str().unwrap(), tls]));
        assert_eq!(text, "well\n");
    }
}
