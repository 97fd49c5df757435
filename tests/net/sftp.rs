//! SFTP with real servers: OpenSSH and mod_sftp of proftpd over SSH, and OpenSSH's over pipes.

use crate::files_contract;
use crate::files_contract::get;
use crate::files_contract::list;
use crate::files_contract::put;
use crate::support::Server;
use icecore::base::error::ErrorKind;
use icecore::base::metadata::Kind;
use icecore::net::files::Connect;
use icecore::net::sftp::process::Program;
use icecore::net::ssh;
use icecore::net::ssh::Hosts;
use icecore::net::ssh::Login;
use icecore::net::ssh::Unknown;
use std::fs;
use std::io::Read;
use std::io::Write;
use std::net::Shutdown;
use std::net::TcpListener;
use std::net::TcpStream;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use std::time::Instant;

/// Logs in with the key, at a port of one's choice.
pub(crate) fn with_key(server: &Server, port: u16) -> ssh::Server {
    let known_hosts = PathBuf::from(server.get("keys")).join("known_here");
    let known = fs::read_to_string(server.get("known_hosts")).expect("written by the script");
    let known = known.replace(server.get("port"), &port.to_string());
    fs::write(&known_hosts, known).expect("written");
    let login = Login {
        user: server.get("user").to_owned(),
        keys: vec![Path::new(server.get("keys")).join("key")],
        ..Login::default()
    };
    let hosts = Hosts { files: vec![known_hosts], unknown: Unknown::Refuse };
    ssh::Server::new(server.get("host"), port, login, hosts)
}

/// Each server as it is reached, with a folder to work in as it names it and where that really is.
fn each(check: impl Fn(&dyn Connect, &[u8], &Path)) {
    let server = Server::start("sftp.py", &["openssh"]);
    let data = PathBuf::from(server.get("data"));
    check(&with_key(&server, server.port()), data.as_os_str().as_bytes(), &data);
    let folder = tempfile::tempdir().expect("a folder");
    let pipes = Program::new(server.get("program"), Vec::new());
    check(&pipes, folder.path().as_os_str().as_bytes(), folder.path());
    drop(server);
    let server = Server::start("sftp.py", &["proftpd"]);
    check(&with_key(&server, server.port()), b"", Path::new(server.get("data")));
}

fn at(folder: &[u8], name: &[u8]) -> Vec<u8> {
    [folder, b"/", name].concat()
}

#[test]
fn sessions_hold_to_the_contract() {
    each(|server, folder, _| files_contract::holds(server, folder));
}

#[test]
fn names_are_bytes() {
    each(|server, folder, local| {
        let mut session = server.connect().expect("a session");
        // Every byte that a name can hold, and the longest name.
        let mut names: Vec<Vec<u8>> =
            (1..=255).filter(|byte| *byte != b'/').map(|byte| vec![b'a', byte, b'b']).collect();
        names.push(vec![0xfe; 255]);
        for name in &names {
            put(&mut *session, &at(folder, name), name).expect("written");
        }

        let mut found: Vec<_> =
            list(&mut *session, folder).expect("listed").into_iter().map(|it| it.name).collect();
        let mut there: Vec<_> = fs::read_dir(local)
            .expect("listed here")
            .map(|entry| entry.expect("an entry").file_name().as_bytes().to_vec())
            .collect();
        for names in [&mut found, &mut there, &mut names] {
            names.sort();
        }
        assert!(found == names && there == names, "{}", server.shown());
        for name in &names {
            assert_eq!(&get(&mut *session, &at(folder, name)).expect("read"), name);
        }
    });
}

#[test]
fn many_names_are_all_listed() {
    each(|server, folder, local| {
        for number in 0..12_000 {
            fs::write(local.join(format!("file {number}")), b"").expect("written");
        }
        let mut session = server.connect().expect("a session");
        let found = list(&mut *session, folder).expect("listed");
        assert_eq!(found.len(), 12_000, "{}", server.shown());
        assert!(found.iter().all(|it| it.look.kind == Kind::File && it.look.size == Some(0)));
    });
}

#[test]
fn offsets_go_beyond_four_gibibytes() {
    const END: u64 = 5 << 30;
    each(|server, folder, local| {
        let file = fs::File::create(local.join("large")).expect("made");
        file.set_len(END).expect("sparse");
        std::os::unix::fs::FileExt::write_at(&file, b"far out", END).expect("written");
        let mut session = server.connect().expect("a session");
        let path = at(folder, b"large");

        let look = session.look_at(&path).expect("looked at").expect("there");
        assert_eq!(look.size, Some(END + 7));
        session.open(&path, END - 3).expect("opens");
        let mut buffer = [1; 100];
        let length = session.read_at(END - 3, &mut buffer).expect("reads");
        assert_eq!(&buffer[..length], b"\0\0\0far out", "{}", server.shown());
        assert_eq!(session.read_at(0, &mut buffer).expect("reads"), 100);
        assert_eq!(buffer, [0; 100]);
        session.close().expect("closes");
    });
}

#[test]
fn a_file_that_is_open_and_one_that_is_written_do_not_mix() {
    each(|server, folder, local| {
        let content: Vec<u8> = (0..9_000_000_u32).map(|at| (at % 251) as u8).collect();
        fs::write(local.join("from"), &content).expect("written");
        let mut session = server.connect().expect("a session");

        session.open(&at(folder, b"from"), 0).expect("opens");
        session.create(&at(folder, b"to")).expect("creates");
        let mut buffer = vec![0; 300_000];
        let mut offset = 0;
        loop {
            let length = session.read_at(offset, &mut buffer).expect("reads");
            session.write(&buffer[..length]).expect("writes");
            offset += length as u64;
            if length < buffer.len() {
                break;
            }
        }
        session.finish().expect("finishes");
        assert!(fs::read(local.join("to")).expect("reads") == content, "{}", server.shown());
    });
}

#[test]
fn links_and_owners_where_they_can_be() {
    each(|server, folder, local| {
        use std::os::unix::fs::MetadataExt;
        let mut session = server.connect().expect("a session");
        std::os::unix::fs::symlink("nowhere", local.join("dangling")).expect("made");
        std::os::unix::fs::symlink("folder", local.join("leading")).expect("made");
        fs::create_dir(local.join("folder")).expect("made");
        for name in [&b"dangling"[..], b"leading"] {
            let look = session.look_at(&at(folder, name)).expect("looked at").expect("there");
            assert_eq!(look.kind, Kind::Symlink, "{}", server.shown());
        }
        if session.abilities().symlinks {
            assert_eq!(session.read_link(&at(folder, b"leading")).expect("read"), b"folder");
            let path = at(folder, b"made");
            session.make_symlink(&path, b"../any\xff").expect("made");
            let there = fs::read_link(local.join("made")).expect("a link");
            assert_eq!(there.as_os_str().as_bytes(), b"../any\xff");
        }
        put(&mut *session, &at(folder, b"mine"), b"x").expect("written");
        let owner = fs::metadata(local.join("mine")).expect("there");
        let same = (owner.uid(), owner.gid());
        session.set_owner(&at(folder, b"mine"), same).expect("it is that already");
        let given = session.set_owner(&at(folder, b"mine"), (1, 1));
        if same.0 == 0 {
            given.expect("root may");
            let look = session.look_at(&at(folder, b"mine")).expect("looked at").expect("there");
            assert_eq!(look.owner, Some((1, 1)));
        } else {
            assert_eq!(given.expect_err("nobody else may").kind(), ErrorKind::Denied);
        }
    });
}

#[test]
fn what_is_not_allowed_is_denied() {
    each(|server, folder, local| {
        use std::os::unix::fs::PermissionsExt;
        let secret = local.join("secret");
        fs::create_dir(&secret).expect("made");
        fs::write(secret.join("file"), b"x").expect("written");
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o700)).expect("set");
        let mut session = server.connect().expect("a session");
        if !server.shown().contains('@') {
            // Over the pipes it is root who asks.
            return;
        }
        let inside = at(folder, b"secret/file");
        let denied = |done: Result<(), icecore::base::error::Error>| {
            assert_eq!(done.expect_err("not ours").kind(), ErrorKind::Denied);
        };
        denied(session.open(&inside, 0));
        denied(session.create(&inside));
        denied(session.look_at(&inside).map(|_| ()));
        denied(list(&mut *session, &at(folder, b"secret")).map(|_| ()));
        denied(session.remove(&inside));
        denied(session.make_folder(&at(folder, b"secret/new")));
        denied(session.set_mode(&at(folder, b"secret"), 0o755));
        session.keep_alive().expect("the session goes on");
    });
}

/// Stands between a client and a server, and passes bytes on, each this much later.
struct Between {
    port: u16,
    streams: Arc<Mutex<Vec<TcpStream>>>,
}

impl Between {
    fn new(port: u16, delay: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let here = listener.local_addr().expect("an address").port();
        let streams = Arc::new(Mutex::new(Vec::new()));
        let all = Arc::clone(&streams);
        thread::spawn(move || {
            while let Ok((near, _)) = listener.accept() {
                let far = TcpStream::connect(("127.0.0.1", port)).expect("the server");
                let copy = |stream: &TcpStream| stream.try_clone().expect("a copy");
                all.lock().expect("nobody panicked").extend([copy(&near), copy(&far)]);
                pass(copy(&near), copy(&far), delay);
                pass(far, near, delay);
            }
        });
        Between { port: here, streams }
    }

    /// Breaks all connections.
    fn cut(&self) {
        for stream in self.streams.lock().expect("nobody panicked").drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, delay: Duration) {
    let (sender, receiver) = mpsc::channel::<(Instant, Vec<u8>)>();
    to.set_nodelay(true).expect("set");
    thread::spawn(move || {
        for (since, bytes) in receiver {
            thread::sleep(delay.saturating_sub(since.elapsed()));
            if to.write_all(&bytes).is_err() {
                return;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    });
    thread::spawn(move || {
        let mut buffer = vec![0; 65_536];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            if sender.send((Instant::now(), buffer[..length].to_vec())).is_err() {
                return;
            }
        }
    });
}

#[test]
fn a_long_way_does_not_slow_large_files_down() {
    const BYTES: usize = 24 << 20;
    let delay = Duration::from_millis(25);
    for kind in ["openssh", "proftpd"] {
        let server = Server::start("sftp.py", &[kind]);
        let folder = server.get("root").as_bytes();
        let between = Between::new(server.port(), delay);
        let connect = with_key(&server, between.port);
        let mut session = connect.connect().expect("a session");
        let content: Vec<u8> = (0..BYTES).map(|at| (at % 253) as u8).collect();

        let begin = Instant::now();
        put(&mut *session, &at(folder, b"large"), &content).expect("written");
        let written = begin.elapsed();
        let begin = Instant::now();
        let read = get(&mut *session, &at(folder, b"large")).expect("read");
        let reading = begin.elapsed();

        assert!(read == content);
        // One piece after the other would take 768 round trips of 50 ms, 38 s.
        eprintln!("{kind}: written in {written:?}, read in {reading:?}");
        assert!(written < Duration::from_secs(12), "{kind}: written in {written:?}");
        assert!(reading < Duration::from_secs(12), "{kind}: read in {reading:?}");
    }
}

#[test]
fn a_connection_that_breaks_is_noticed() {
    let server = Server::start("sftp.py", &["openssh"]);
    let between = Between::new(server.port(), Duration::ZERO);
    let connect = with_key(&server, between.port);
    let path = at(server.get("data").as_bytes(), b"file");
    let mut session = connect.connect().expect("a session");
    put(&mut *session, &path, &[5; 9_000_000]).expect("written");
    session.open(&path, 0).expect("opens");
    session.read_at(0, &mut [0; 1000]).expect("reads");

    between.cut();
    let begin = Instant::now();
    let error = session.read_at(8_000_000, &mut [0; 1000]).expect_err("it is gone");

    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error:?}");
    assert!(error.full_message().contains("sftp://icecore-sftp@127.0.0.1:"), "{error:?}");
    assert!(begin.elapsed() < Duration::from_secs(5));
    let again = session.keep_alive().expect_err("it stays gone");
    assert_eq!(again.kind(), ErrorKind::Unreachable, "{again:?}");
    let mut session = connect.connect().expect("another session");
    assert_eq!(get(&mut *session, &path).expect("read").len(), 9_000_000);
    let direct = with_key(&server, server.port());
    drop(server);
    let nobody = direct.connect().map(|_| ()).expect_err("nobody there");
    assert_eq!(nobody.kind(), ErrorKind::Unreachable, "{nobody:?}");
}

/// A small file system of its own, gone with the test.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m,mode=777", "tmpfs"])
            .arg(folder.path())
            .status();
        assert!(mounted.expect("mount runs").success(), "tmpfs is mounted, as root");
        SmallDisk(folder)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_is_told() {
    let server = Server::start("sftp.py", &["openssh"]);
    let ssh = with_key(&server, server.port());
    let pipes = Program::new(server.get("program"), Vec::new());
    for connect in [&ssh as &dyn Connect, &pipes] {
        let disk = SmallDisk::new();
        let mut session = connect.connect().expect("a session");
        let folder = disk.0.path().as_os_str().as_bytes();
        let full = put(&mut *session, &at(folder, b"large"), &vec![1; 9_000_000]);
        let error = full.expect_err("too large");
        assert_eq!(error.kind(), ErrorKind::Full, "{error:?}");
        // What is there can go, and then there is room.
        session.remove(&at(folder, b"large")).expect("removed");
        put(&mut *session, &at(folder, b"small"), b"x").expect("written");
    }
}
