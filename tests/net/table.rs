//! The table of servers in `src/docs/guarantees.md`: what each can do, as the clients and the
//! backends find out by themselves, and by small probes. `ICECORE_TEST_UPDATE=1` writes it anew.

use crate::contract::key;
use crate::files_contract::get;
use crate::files_contract::list;
use crate::files_contract::put;
use crate::ftp;
use crate::s3;
use crate::serve;
use crate::serve::Served;
use crate::sftp::with_key;
use crate::support::Server;
use crate::table::bucket::s3_row;
use icecore::backend::Backend;
use icecore::backend::files::FilesBackend;
use icecore::backend::files::way::Way;
use icecore::base::error::Error;
use icecore::base::error::ErrorKind;
use icecore::base::secret::Secret;
use icecore::base::time::Clock;
use icecore::base::time::SystemClock;
use icecore::base::time::Timestamp;
use icecore::net::files::Connect;
use icecore::net::files::Files;
use icecore::net::files::Precision;
use icecore::net::ftp::Options;
use icecore::net::ftp::Security;
use icecore::net::pool::Pool;
use icecore::net::pool::PoolOptions;
use icecore::net::tls::Roots;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::thread;

mod bucket;

/// Where the table stands.
const PAPER: &str = "src/docs/guarantees.md";
const BEGIN: &str = "<!-- servers: begin -->";
const END: &str = "<!-- servers: end -->";
const COLUMNS: [&str; 14] = [
    "server",
    "an object is created once by",
    "replaced in one step",
    "folders are listed by",
    "10 050 names",
    "times to the",
    "sets times",
    "sets modes",
    "read from an offset",
    "TLS",
    "data must resume its session",
    "names not kept",
    "a wrong checksum",
    "8 sessions at once",
];
/// More names than one server lists.
const NAMES: usize = 10_050;
const SESSIONS: usize = 8;
/// Names that some servers keep as others, or not at all.
const ODD: [(&str, &[u8]); 4] =
    [("0xFF", b"a\xffb"), ("tab", b"a\tb"), ("blank at the end", b"a "), ("`\\`", b"a\\b")];

/// Sends a file by a data connection with a TLS session of its own, and says how it went.
const PROBE: &str = r#"
import ftplib, io, ssl, sys
host, port, user, password, authority = sys.argv[1:]
f = ftplib.FTP_TLS(context=ssl.create_default_context(cafile=authority), timeout=20)
f.connect(host, int(port))
f.login(user, password)
f.prot_p()
try:
    f.storbinary("STOR probe", io.BytesIO(b"x"))
    print("taken")
except (ftplib.Error, OSError) as e:
    print("refused", e)
"#;

/// A row, by column.
#[derive(Default)]
struct Row {
    server: &'static str,
    create: &'static str,
    replace: &'static str,
    listing: String,
    many: String,
    times: &'static str,
    set_time: &'static str,
    set_mode: &'static str,
    offset: &'static str,
    tls: String,
    resumed: &'static str,
    names: String,
    checksum: &'static str,
    sessions: String,
}

impl Row {
    fn text(&self) -> String {
        let cells = [
            self.server,
            self.create,
            self.replace,
            &self.listing,
            &self.many,
            self.times,
            self.set_time,
            self.set_mode,
            self.offset,
            &self.tls,
            self.resumed,
            &self.names,
            self.checksum,
            &self.sessions,
        ];
        format!("| {} |", cells.join(" | "))
    }
}

fn yes(is: bool) -> &'static str {
    if is { "yes" } else { "no" }
}

fn works(done: &Result<(), Error>) -> &'static str {
    match done {
        Ok(()) => "yes",
        Err(e) if e.kind() == ErrorKind::Unsupported => "no",
        Err(e) => panic!("{e:?}"),
    }
}

/// Asks a server with sessions; `folder` is one that is empty, and `there` is where it really is.
fn files_row(server: &'static str, connect: Arc<dyn Connect>, folder: &[u8], there: &Path) -> Row {
    let at = |name: &[u8]| [folder, b"/", name].concat();
    let mut session = connect.connect().expect(server);
    put(&mut *session, &at(b"file"), b"0123456789").expect(server);
    let found = list(&mut *session, folder).expect(server);
    let modified = found[0].look.modified.expect("each tells a time");
    let set_time = session.set_time(&at(b"file"), Timestamp::new(1_000_000_000, 0));
    let set_mode = session.set_mode(&at(b"file"), 0o640);
    put(&mut *session, &at(b"other"), b"9").expect(server);
    let replaced = session.rename_over(&at(b"other"), &at(b"file"));
    let replace = session.abilities().replace && replaced.is_ok();
    assert!(!replace || get(&mut *session, &at(b"file")).expect(server) == b"9");
    put(&mut *session, &at(b"file"), b"0123456789").expect(server);
    let row = Row {
        server,
        create: way(&connect, &at(b"repository")),
        replace: yes(replace),
        listing: session.manner().lists_by.to_owned(),
        many: many_names(&mut *session, &at(b"many"), &there.join("many")),
        times: match modified.precision {
            Precision::Second => "second",
            Precision::Minute => "minute",
            Precision::Vague => "day",
        },
        set_time: works(&set_time),
        set_mode: works(&set_mode),
        offset: yes(reads_on(&mut *session, &at(b"file"))),
        names: names_not_kept(&mut *session, folder),
        // What was written is compared by its size.
        checksum: "-",
        sessions: sessions(&*connect),
        ..Row::default()
    };
    session.keep_alive().expect("the session has come through");
    row
}

/// Has a backend find out how it creates an object once, and holds it to that.
fn way(connect: &Arc<dyn Connect>, root: &[u8]) -> &'static str {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let backend = || {
        let pool = Pool::new(Arc::clone(connect), Arc::clone(&clock), PoolOptions::default());
        FilesBackend::create(pool, root, "here".to_owned()).expect("made")
    };
    let way = match backend().proven() {
        Some(Way::Link) => "a hard link",
        Some(Way::Folder) => "renaming a folder",
        Some(Way::Nothing) => return "nothing: class B",
        Some(Way::Closed) | None => panic!("a new repository has a way that was tried"),
    };
    let backends: Vec<FilesBackend> = (0..4).map(|_| backend()).collect();
    one_wins(&backends.iter().map(|it| it as &dyn Backend).collect::<Vec<_>>());
    way
}

/// Lets backends contest some keys.
fn one_wins(backends: &[&dyn Backend]) {
    for round in 0..3 {
        let contested = key(&format!("datasets/contested/{round}"));
        let won = |backend: &dyn Backend| match backend.put_new(&contested, b"mine") {
            Ok(()) => 1,
            Err(e) if e.kind() == ErrorKind::AlreadyExists => 0,
            Err(e) => panic!("{e:?}"),
        };
        let wins: usize = thread::scope(|scope| {
            let all: Vec<_> =
                backends.iter().map(|backend| scope.spawn(|| won(*backend))).collect();
            all.into_iter().map(|one| one.join().expect("it says who won")).sum()
        });
        assert_eq!(wins, 1, "round {round}");
    }
}

fn many_names(session: &mut dyn Files, folder: &[u8], there: &Path) -> String {
    session.make_folder(folder).expect("made");
    for number in 0..NAMES {
        fs::write(there.join(format!("{number:05}")), b"").expect("written");
    }
    let listed = list(session, folder).map(|found| found.len());
    // Each is looked at by those who come after.
    fs::remove_dir_all(there).expect("removed");
    match listed {
        Ok(NAMES) => "all".to_owned(),
        Ok(some) => panic!("{some} of {NAMES} are listed, and nothing is said"),
        Err(e) if e.kind() == ErrorKind::Unsupported => "cut, and so refused".to_owned(),
        Err(e) => panic!("{e:?}"),
    }
}

fn reads_on(session: &mut dyn Files, path: &[u8]) -> bool {
    let mut buffer = [0; 10];
    session.open(path, 4).expect("opens");
    let length = session.read_at(4, &mut buffer).expect("reads");
    session.close().expect("closes");
    &buffer[..length] == b"456789"
}

fn names_not_kept(session: &mut dyn Files, folder: &[u8]) -> String {
    let at = |name: &[u8]| [folder, b"/", name].concat();
    let refused = ODD.iter().filter(|(_, name)| match put(session, &at(name), b"x") {
        Ok(()) => {
            let found = list(session, folder).expect("listed");
            assert!(found.iter().any(|found| found.name == *name), "{name:?} is kept as another");
            false
        }
        Err(_) => true,
    });
    let refused: Vec<&str> = refused.map(|(shown, _)| *shown).collect();
    if refused.is_empty() { "-".to_owned() } else { refused.join(", ") }
}

fn sessions(connect: &dyn Connect) -> String {
    let open: Vec<_> = (0..SESSIONS).map_while(|_| connect.connect().ok()).collect();
    if open.len() == SESSIONS { "yes".to_owned() } else { format!("{}", open.len()) }
}

/// An FTP server in the clear, and within TLS.
struct FtpPlace {
    host: String,
    port: u16,
    user: String,
    password: String,
    authority: Option<PathBuf>,
}

impl FtpPlace {
    fn of(server: &Server) -> Self {
        let authority = server.get("ca");
        FtpPlace {
            host: server.get("host").to_owned(),
            port: server.port(),
            user: server.get("user").to_owned(),
            password: server.get("password").to_owned(),
            authority: (!authority.is_empty()).then(|| authority.into()),
        }
    }

    fn of_ours(served: &Served, authority: Option<PathBuf>) -> Self {
        FtpPlace {
            host: "localhost".to_owned(),
            port: served.port,
            user: "icecore".to_owned(),
            password: serve::PASSWORD.to_owned(),
            authority,
        }
    }

    fn connect(&self) -> Arc<dyn Connect> {
        let mut options = Options::new(&self.host, self.port, self.authority.is_some());
        if self.authority.is_some() {
            options.security = Security::Explicit;
        }
        options.user = Some(self.user.clone());
        options.password = Some(Secret::new(self.password.clone().into_bytes()));
        options.roots = Roots { extra: self.authority.clone() };
        Arc::new(icecore::net::ftp::Server::new(options).expect("good options"))
    }

    /// Returns the versions of TLS that the server speaks, and the one that the client chose.
    fn tls(&self) -> String {
        let chosen = self.connect().connect().expect("a session").manner().security;
        let speaks = |version: &str| {
            let to = format!("{}:{}", self.host, self.port);
            let mut openssl = Command::new("openssl");
            openssl.args(["s_client", "-starttls", "ftp", "-connect", &to, version]);
            let output = openssl.stdin(Stdio::null()).output().expect("openssl runs");
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            text.contains("Cipher is ") && !text.contains("Cipher is (NONE)")
        };
        let spoken: Vec<&str> = [("-tls1_2", "1.2"), ("-tls1_3", "1.3")]
            .into_iter()
            .filter_map(|(option, version)| speaks(option).then_some(version))
            .collect();
        let short = chosen.strip_prefix("TLS ").expect("it is encrypted");
        assert!(spoken.contains(&short), "{chosen} of {spoken:?}");
        spoken.join(", ")
    }

    /// Says whether a client is refused whose data connections begin sessions of their own, as
    /// Python's do.
    fn wants_resumption(&self) -> bool {
        let authority = self.authority.as_ref().expect("within TLS");
        let mut python = Command::new("/usr/bin/python3");
        python.args(["-c", PROBE, &self.host, &self.port.to_string(), &self.user]);
        let output = python.arg(&self.password).arg(authority).output().expect("python runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        text.starts_with("refused")
    }
}

fn ftp_row(server: &'static str, name: &str) -> Row {
    let plain = ftp::start(name, &[]);
    let secure = ftp::start(name, &["--tls", "required"]);
    let root = PathBuf::from(plain.get("root"));
    let row = files_row(server, FtpPlace::of(&plain).connect(), b"", &root);
    secured(row, &FtpPlace::of(&secure))
}

fn secured(row: Row, place: &FtpPlace) -> Row {
    Row { tls: place.tls(), resumed: yes(place.wants_resumption()), ..row }
}

fn our_row(server: &'static str) -> Row {
    let plain = Served::new(&[]);
    let connect = FtpPlace::of_ours(&plain, None).connect();
    let row = files_row(server, connect, b"", &plain.path("served"));
    let secure = Served::with_tls(&["--require-tls"]);
    secured(row, &FtpPlace::of_ours(&secure, Some(serve::pem("cert.pem"))))
}

fn sftp_row(server: &'static str, name: &str) -> Row {
    let started = Server::start("sftp.py", &[name]);
    let data = PathBuf::from(started.get("data"));
    let connect = Arc::new(with_key(&started, started.port()));
    let row = files_row(server, connect, started.get("root").as_bytes(), &data);
    Row { tls: "SSH".to_owned(), resumed: "-", ..row }
}

type Ask = Box<dyn Fn() -> Row + Send>;

/// All servers of the table, in its order; none for one that is not asked now.
fn servers() -> Vec<(&'static str, Option<Ask>)> {
    fn ask(row: impl Fn() -> Row + Send + 'static) -> Option<Ask> {
        Some(Box::new(row))
    }
    let minio = "MinIO 2026-02-12";
    vec![
        ("vsftpd 3.0.3", ask(|| ftp_row("vsftpd 3.0.3", "vsftpd"))),
        ("proftpd 1.3.8", ask(|| ftp_row("proftpd 1.3.8", "proftpd"))),
        ("pure-ftpd 1.0.50", ask(|| ftp_row("pure-ftpd 1.0.50", "pure-ftpd"))),
        ("pyftpdlib 2.2.0", ask(|| ftp_row("pyftpdlib 2.2.0", "pyftpdlib"))),
        ("`icecore serve-ftp`", ask(|| our_row("`icecore serve-ftp`"))),
        ("OpenSSH 9.2", ask(|| sftp_row("OpenSSH 9.2", "openssh"))),
        ("mod_sftp 1.3.8", ask(|| sftp_row("mod_sftp 1.3.8", "proftpd"))),
        ("SeaweedFS 4.48", ask(|| s3_row("SeaweedFS 4.48", &s3::SEAWEEDFS))),
        (minio, s3::wants_minio().then(|| ask(move || s3_row(minio, &s3::MINIO))).flatten()),
        ("`rclone serve s3` 1.75", ask(|| s3_row("`rclone serve s3` 1.75", &s3::RCLONE))),
    ]
}

#[test]
fn the_table_of_servers_is_what_is_seen() {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAPER);
    let paper = fs::read_to_string(&place).expect("it is there");
    let (before, rest) = paper.split_once(BEGIN).expect("the table has a beginning");
    let (table, after) = rest.split_once(END).expect("the table has an end");
    let asked: Vec<_> = servers()
        .into_iter()
        .map(|(name, ask)| (name, ask.map(|ask| thread::spawn(move || ask().text()))))
        .collect();
    let seen: Vec<String> = asked
        .into_iter()
        .map(|(name, row)| match row {
            Some(row) => row.join().unwrap_or_else(|_| panic!("{name} does not answer")),
            // It stays as it was seen when it was.
            None => {
                let row = table.lines().find(|line| line.starts_with(&format!("| {name} |")));
                row.unwrap_or_else(|| panic!("the table has no {name}")).to_owned()
            }
        })
        .collect();
    let (head, line) = (COLUMNS.join(" | "), "---|".repeat(COLUMNS.len()));
    let seen = format!("\n| {head} |\n|{line}\n{}\n", seen.join("\n"));
    if std::env::var("ICECORE_TEST_UPDATE").is_ok_and(|value| value == "1") && table != seen {
        fs::write(&place, format!("{before}{BEGIN}{seen}{END}{after}")).expect("written");
        return;
    }
    let told = "run it with ICECORE_TEST_UPDATE=1 to write what is seen";
    assert!(table == seen, "{PAPER} says{table}and what is seen is{seen}{told}");
}
