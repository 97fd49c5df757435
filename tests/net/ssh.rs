//! SSH: who is let in, and which server is trusted.

use crate::files_contract::get;
use crate::files_contract::put;
use crate::sftp::with_key;
use crate::support::Server;
use icecore::base::error::Error;
use icecore::base::error::ErrorKind;
use icecore::base::secret::Secret;
use icecore::net::files::Connect;
use icecore::net::ssh;
use icecore::net::ssh::HostKey;
use icecore::net::ssh::Hosts;
use icecore::net::ssh::Login;
use icecore::net::ssh::Unknown;
use icecore::net::tcp::Limits;
use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use std::time::Instant;

fn start(kind: &str) -> Server {
    Server::start("sftp.py", &[kind])
}

fn key(server: &Server, name: &str) -> PathBuf {
    Path::new(server.get("keys")).join(name)
}

fn nobody(server: &Server) -> Login {
    Login { user: server.get("user").to_owned(), ..Login::default() }
}

fn known(server: &Server) -> Hosts {
    Hosts { files: vec![server.get("known_hosts").into()], unknown: Unknown::Refuse }
}

/// Logs in and looks around.
fn enter(server: &Server, login: Login, hosts: Hosts) -> Result<(), Error> {
    let server = ssh::Server::new(server.get("host"), server.port(), login, hosts);
    server.connect()?.look_at(b"/").map(|_| ())
}

fn denied(done: Result<(), Error>) -> String {
    let error = done.expect_err("it is refused");
    assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
    format!("{} - {}", error.full_message(), error.hint_text().unwrap_or_default())
}

#[test]
fn keys_and_passwords_let_one_in() {
    for kind in ["openssh", "proftpd"] {
        let server = start(kind);
        for name in ["key", "key_rsa", "key_ecdsa"] {
            let login = Login { keys: vec![key(&server, name)], ..nobody(&server) };
            enter(&server, login, known(&server))
                .unwrap_or_else(|e| panic!("{kind}, {name}: {e:?}"));
        }
        let login = Login {
            keys: vec![key(&server, "key_locked")],
            passphrase: Some(Secret::new(b"pass phrase".to_vec())),
            ..nobody(&server)
        };
        enter(&server, login, known(&server)).expect("with a passphrase");
        let login = Login {
            password: Some(Secret::new(server.get("password").as_bytes().to_vec())),
            ..nobody(&server)
        };
        enter(&server, login, known(&server)).expect("with the password");
        // What does not help does not harm.
        let login = Login {
            agent: Some("/nowhere/agent".into()),
            keys: vec![
                "/nowhere/key".into(),
                key(&server, "key_stranger"),
                key(&server, "key.pub"),
            ],
            password: Some(Secret::new(server.get("password").as_bytes().to_vec())),
            ..nobody(&server)
        };
        enter(&server, login, known(&server)).expect("with the password in the end");
    }
}

#[test]
fn a_server_may_want_a_key_and_the_password() {
    let server = Server::start("sftp.py", &["openssh", "--both"]);
    let password = Some(Secret::new(server.get("password").as_bytes().to_vec()));
    let keys = vec![key(&server, "key_stranger"), key(&server, "key")];
    let login = Login { keys: keys.clone(), password, ..nobody(&server) };
    enter(&server, login, known(&server)).expect("with both");
    let told = denied(enter(&server, Login { keys, ..nobody(&server) }, known(&server)));
    assert!(told.contains("key (right, but not enough)"), "{told}");
}

#[test]
fn a_question_for_the_password_is_answered() {
    let server = Server::start("sftp.py", &["openssh", "--keyboard"]);
    let login = |password: &[u8]| Login {
        password: Some(Secret::new(password.to_vec())),
        ..nobody(&server)
    };
    enter(&server, login(server.get("password").as_bytes()), known(&server)).expect("answered");
    let told = denied(enter(&server, login(b"hunter2"), known(&server)));
    assert!(told.contains("typed as if by hand") && !told.contains("hunter2"), "{told}");
}

#[test]
fn a_refusal_tells_what_was_tried_and_no_secret() {
    for kind in ["openssh", "proftpd"] {
        let server = start(kind);
        let told = denied(enter(&server, nobody(&server), known(&server)));
        assert!(told.contains("no key and no password"), "{told}");
        let login = Login {
            agent: Some("/nowhere/agent".into()),
            keys: vec![
                "/nowhere/key".into(),
                key(&server, "key_stranger"),
                key(&server, "key_locked"),
            ],
            password: Some(Secret::new(b"hunter2".to_vec())),
            ..nobody(&server)
        };
        let told = denied(enter(&server, login, known(&server)));
        for part in [
            "agent at /nowhere/agent",
            "/nowhere/key (No such file",
            "key_stranger",
            "key_locked (it is encrypted, and no passphrase given)",
            "the password",
        ] {
            assert!(told.contains(part), "{kind}: no `{part}` in: {told}");
        }
        assert!(!told.contains("hunter2"), "{told}");
        let login = Login {
            keys: vec![key(&server, "key_locked")],
            passphrase: Some(Secret::new(b"another".to_vec())),
            ..nobody(&server)
        };
        let told = denied(enter(&server, login, known(&server)));
        assert!(told.contains("the passphrase does not open it"), "{told}");
    }
}

#[test]
fn many_wrong_keys_do_not_end_a_login() {
    let server = start("openssh");
    // The server hangs up after six.
    let mut keys = Vec::new();
    for number in 0..9 {
        let path = key(&server, &format!("wrong{number}"));
        make_key(&path);
        keys.push(path);
    }
    keys.push(key(&server, "key"));
    let login = Login { keys, ..nobody(&server) };
    enter(&server, login, known(&server)).expect("with the last key");
}

fn make_key(path: &Path) {
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "wrong", "-f"])
        .arg(path)
        .status();
    assert!(made.expect("ssh-keygen runs").success());
}

/// An agent that runs until this is dropped.
struct Agent(Child, PathBuf);

impl Agent {
    fn start(folder: &Path) -> Self {
        let socket = folder.join("agent");
        let child = Command::new("ssh-agent")
            .args(["-D", "-a"])
            .arg(&socket)
            .stdout(Stdio::null())
            .spawn()
            .expect("ssh-agent runs");
        let begin = Instant::now();
        while UnixStream::connect(&socket).is_err() {
            assert!(begin.elapsed() < Duration::from_secs(10), "the agent does not listen");
            thread::sleep(Duration::from_millis(5));
        }
        Agent(child, socket)
    }

    fn add(&self, key: &Path) {
        let mut command = Command::new("ssh-add");
        let added = command.env("SSH_AUTH_SOCK", &self.1).arg("-q").arg(key).status();
        assert!(added.expect("ssh-add runs").success());
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn an_agent_lets_one_in() {
    for kind in ["openssh", "proftpd"] {
        let server = start(kind);
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["key", "key_rsa"] {
            let agent = Agent::start(folder.path());
            agent.add(&key(&server, "key_stranger"));
            agent.add(&key(&server, name));
            let login = Login { agent: Some(agent.1.clone()), ..nobody(&server) };
            enter(&server, login, known(&server))
                .unwrap_or_else(|e| panic!("{kind}, {name}: {e:?}"));
            drop(agent);
            let _ = fs::remove_file(folder.path().join("agent"));
        }
    }
}

#[test]
fn a_host_that_is_not_known_is_refused_with_its_fingerprint() {
    let server = start("openssh");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("known_hosts");
    let login = || Login { keys: vec![key(&server, "key")], ..nobody(&server) };
    let told = denied(enter(
        &server,
        login(),
        Hosts { files: vec![file.clone()], unknown: Unknown::Refuse },
    ));
    let shown = Command::new("ssh-keygen")
        .args(["-l", "-f"])
        .arg(key(&server, "host_ed25519.pub"))
        .output()
        .expect("ssh-keygen runs");
    let shown = String::from_utf8(shown.stdout).expect("text");
    let fingerprint = shown.split(' ').nth(1).expect("a fingerprint");
    assert!(fingerprint.starts_with("SHA256:"));
    assert!(told.contains(fingerprint) && told.contains("--accept-new-host-key"), "{told}");
    assert!(!file.exists(), "nothing is written");

    let asked = Arc::new(AtomicUsize::new(0));
    let ask = |answer: bool| {
        let asked = Arc::clone(&asked);
        let fingerprint = fingerprint.to_owned();
        let host = format!("[127.0.0.1]:{}", server.port());
        Unknown::Ask(Box::new(move |key: &HostKey| {
            asked.fetch_add(1, Ordering::Relaxed);
            assert_eq!((&key.host, &key.fingerprint), (&host, &fingerprint));
            assert_eq!(key.algorithm, "ssh-ed25519");
            answer
        }))
    };
    let hosts = Hosts { files: vec![file.clone()], unknown: ask(false) };
    denied(enter(&server, login(), hosts));
    assert!(!file.exists(), "nothing is written");
    let hosts = Hosts { files: vec![file.clone()], unknown: ask(true) };
    enter(&server, login(), hosts).expect("somebody said yes");
    assert_eq!(asked.load(Ordering::Relaxed), 2);

    let mode = fs::metadata(&file).expect("written").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let hosts = Hosts { files: vec![file], unknown: Unknown::Refuse };
    enter(&server, login(), hosts).expect("it is known now");
}

#[test]
fn sessions_at_once_write_a_new_host_down_once() {
    let server = start("openssh");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("known_hosts");
    let login = Login { keys: vec![key(&server, "key")], ..nobody(&server) };
    let hosts = Hosts { files: vec![file.clone()], unknown: Unknown::Accept };
    let connect = ssh::Server::new(server.get("host"), server.port(), login, hosts);

    thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| connect.connect().expect("a session").keep_alive().expect("alive"));
        }
    });
    let text = fs::read_to_string(&file).expect("written");
    assert_eq!(text.lines().count(), 1, "{text}");
}

#[test]
fn another_key_than_the_known_one_is_never_taken() {
    let server = start("openssh");
    let folder = tempfile::tempdir().expect("a folder");
    let name = format!("[127.0.0.1]:{}", server.port());
    let public = |file: &str| {
        let text = fs::read_to_string(key(&server, file)).expect("there");
        text.split(' ').take(2).collect::<Vec<_>>().join(" ")
    };
    let stranger = public("key_stranger.pub");
    for (number, line) in [
        format!("{name} {stranger}"),
        // It has none of this type: what it shows instead is no proof.
        format!("{name} ssh-dss {}", stranger.split(' ').nth(1).expect("a key")),
        format!("@revoked {name} {0}\n{name} {0}", public("host_ed25519.pub")),
    ]
    .into_iter()
    .enumerate()
    {
        let file = folder.path().join(format!("known{number}"));
        fs::write(&file, format!("# mine\n{line}\n")).expect("written");
        let login = Login { keys: vec![key(&server, "key")], ..nobody(&server) };
        let hosts = Hosts { files: vec![file.clone()], unknown: Unknown::Accept };
        let told = denied(enter(&server, login, hosts));
        assert!(told.contains("line 2"), "{told}");
        let word = if number < 2 { "ssh-keygen -R" } else { "revoked" };
        assert!(told.contains(word), "{told}");
        let after = fs::read_to_string(&file).expect("there");
        assert_eq!(after, format!("# mine\n{line}\n"), "nothing is written");
    }
}

#[test]
fn the_known_type_of_key_is_asked_for() {
    for kind in ["openssh", "proftpd"] {
        let server = start(kind);
        let all = fs::read_to_string(server.get("known_hosts")).expect("there");
        for line in all.lines() {
            let folder = tempfile::tempdir().expect("a folder");
            let file = folder.path().join("known_hosts");
            fs::write(&file, line).expect("written");
            let login = Login { keys: vec![key(&server, "key")], ..nobody(&server) };
            let hosts = Hosts { files: vec![file], unknown: Unknown::Refuse };
            enter(&server, login, hosts).unwrap_or_else(|e| panic!("{kind}, {line}: {e:?}"));
        }
    }
}

#[test]
fn what_is_no_ssh_server_is_said_so() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        for greeting in
            [&b"220 FTP here\r\n"[..], b"", b"Exceeded MaxStartups\r\n", b"SSH-2.0-x\r\n"]
        {
            let (mut stream, _) = listener.accept().expect("somebody");
            stream.write_all(greeting).expect("said");
            if greeting.starts_with(b"SSH") {
                // It says nothing more.
                thread::sleep(Duration::from_secs(3));
            }
        }
    });
    let login = Login { user: "me".to_owned(), ..Login::default() };
    let hosts = Hosts { files: Vec::new(), unknown: Unknown::Refuse };
    let limits = Limits { silence: Duration::from_millis(300), ..Limits::default() };
    let server = ssh::Server::new("127.0.0.1", port, login, hosts).limits(limits);
    let mut errors = (0..4).map(|_| server.connect().map(|_| ()).expect_err("no server"));
    let mut next = |kind: ErrorKind, part: &str| {
        let begin = Instant::now();
        let error = errors.next().expect("an error");
        assert_eq!(error.kind(), kind, "{error:?}");
        assert!(error.full_message().contains(part), "{error:?}");
        assert!(begin.elapsed() < Duration::from_secs(2), "{error:?}");
    };
    next(ErrorKind::Unreachable, "no SSH server: 220 FTP here");
    next(ErrorKind::Unreachable, "hung up");
    next(ErrorKind::RateLimited, "MaxStartups");
    next(ErrorKind::Unreachable, "did not answer within 0.3 s");
}

#[test]
fn a_server_without_sftp_is_said_so() {
    let server = Server::start("sftp.py", &["openssh", "--no-sftp"]);
    let login = Login { keys: vec![key(&server, "key")], ..nobody(&server) };
    let error = enter(&server, login, known(&server)).expect_err("no subsystem");
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
}

#[test]
fn a_session_outlives_a_new_agreement_on_keys() {
    // The server asks for new keys after each mebibyte.
    let server = Server::start("sftp.py", &["openssh", "--rekey"]);
    let mut session = with_key(&server, server.port()).connect().expect("a session");
    let path = format!("{}/large", server.get("data")).into_bytes();
    let content: Vec<u8> = (0..12_000_000_u32).map(|at| (at % 249) as u8).collect();
    put(&mut *session, &path, &content).expect("written");
    assert!(get(&mut *session, &path).expect("read") == content);
}
