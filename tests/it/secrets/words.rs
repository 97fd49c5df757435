//! What the program says of places that want a password, whatever goes wrong with them.

use crate::cli::Home;
use crate::secrets::find::Needles;
use std::collections::BTreeSet;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

const SECRET: &str = "Sesam-oeffne-dich-31415";
/// As people type one who do not know that a slash ends it.
const SLASHED: &str = "Sesam-oeffne/dich-31415";
const TOKEN: &str = "geliehenes-Zeichen-27182818";

fn needles() -> Needles {
    let halves = ["Sesam-oeffne", "dich-31415"];
    let all = [SECRET, TOKEN].into_iter().chain(halves);
    Needles::new(all.map(|text| (text.to_owned(), text.into())).collect())
}

struct Told {
    what: String,
    code: Option<i32>,
    bytes: Vec<u8>,
    /// Whether it had to be stopped.
    is_slow: bool,
}

/// Runs a command for a moment at most: what is not reached is tried again for minutes.
fn run(mut command: Command, what: String) -> Told {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| std::fs::File::create(folder.path().join(name)).unwrap();
    let mut child = command.stdout(file("out")).stderr(file("err")).spawn().unwrap();
    let begin = Instant::now();
    let mut is_slow = false;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if begin.elapsed() > Duration::from_millis(1500) {
            is_slow = true;
            child.kill().unwrap();
            break child.wait().unwrap();
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let read = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
    Told { what, code: status.code(), bytes: [read("out"), read("err")].concat(), is_slow }
}

/// Every place that wants a password, as it is typed.
fn locations() -> Vec<String> {
    let mut all = Vec::new();
    for scheme in ["ftp", "ftps", "sftp", "s3", "FTP", "Sftp", "http", "webdav"] {
        for password in [SECRET, SLASHED] {
            for end in ["@127.0.0.1:1/x", "@127.0.0.1:x/y", "@", "@h h/x", "@127.0.0.1:1/%zz"] {
                all.push(format!("{scheme}://me:{password}{end}"));
            }
        }
    }
    all
}

/// A command line, in which `{}` is the place.
const COMMANDS: [&[&str]; 12] = [
    &["-v", "-r", "{}", "list"],
    &["--json", "-r", "{}", "list"],
    &["--repository={}", "check"],
    &["-r", "{}", "init", "--encryption", "none"],
    &["backup", "{}"],
    &["--json", "backup", "{}", "--dataset", "d"],
    &["restore", "{}", "out"],
    &["restore", "d", "{}"],
    &["copy", "--to", "{}"],
    &["list", "one", "{}"],
    &["check", "--dataset", "{}", "--no-such={}"],
    &["-r", "{}", "config", "show"],
];

#[test]
fn an_address_is_never_shown_with_its_password() {
    let home = Home::new();
    home.write("d/a", b"x");
    home.done(&["backup", "d"]);
    let needles = needles();
    let (mut shown, mut runs, mut slow) = (Vec::new(), 0, 0);
    let mut told = |told: Told| {
        runs += 1;
        slow += usize::from(told.is_slow);
        assert_ne!(told.code, Some(101), "a panic: {}", told.what);
        assert!(told.is_slow || told.code != Some(0) || told.what.contains("config show"));
        let found = needles.in_bytes(&told.bytes);
        if !found.is_empty() {
            shown.push(format!("{}: {}", told.what, String::from_utf8_lossy(&told.bytes)));
        }
    };
    for (nth, location) in locations().into_iter().enumerate() {
        // Some of what is reached is tried again for long, so not with several commands.
        let is_long = location.contains("127.0.0.1:1/x") && !location.contains(SLASHED);
        let all = COMMANDS.iter().cycle().skip(if is_long { 0 } else { 3 * nth });
        for words in all.take(if is_long { 1 } else { 3 }) {
            let words: Vec<String> = words.iter().map(|it| it.replace("{}", &location)).collect();
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            told(run(home.command(&words), words.join(" ")));
        }
    }
    assert!(shown.is_empty(), "{} of {runs} show it:\n{}", shown.len(), shown.join("\n"));
    for entry in std::fs::read_dir(home.path("")).unwrap() {
        let name = entry.unwrap().file_name();
        assert!(needles.in_bytes(name.as_encoded_bytes()).is_empty(), "{name:?} was made");
    }
    eprintln!("{runs} runs with a password in an address, {slow} of them stopped");
}

/// Passwords of places from the environment, the config file and `.netrc`.
#[test]
fn credentials_from_elsewhere_are_never_shown() {
    let needles = needles();
    let config = format!(
        "[repository]\nlocation = \"s3://bucket/x\"\npassword-command = \"/bin/false {SECRET}\"\n\
         [credentials.\"ftp://127.0.0.1:1\"]\nuser = \"me\"\npassword = \"{SECRET}\"\n\
         [credentials.\"s3://bucket\"]\naccess-key-id = \"AK\"\nsecret-access-key = \"{SECRET}\"\n\
         session-token = \"{TOKEN}\"\nendpoint = \"http://127.0.0.1:1\"\n\
         [backup.datasets.far]\nsources = [\"ftp://me:{SLASHED}@127.0.0.1:1/x\"]\n"
    );
    let broken = [
        config.replace("user =", "user"),
        config.replace("session-token", "session-tokem"),
        config.replace(&format!("password = \"{SECRET}\""), &format!("password = \"{SECRET}")),
        config.replace(&format!("\"{TOKEN}\""), &format!("[\"{TOKEN}\"]")),
        config.replace("\"ftp://127.0.0.1:1\"", &format!("\"ftp://u:{SECRET}@127.0.0.1:1\"")),
        config.replace("\"s3://bucket/x\"", &format!("\"ftp://me:{SLASHED}@127.0.0.1:x\"")),
    ];
    let netrc = format!("machine 127.0.0.1 login me password {SECRET}\n{TOKEN}\n");
    let mut texts = Vec::new();
    let mut check = |home: &Home, words: &[&str]| {
        let told = run(home.command(words), words.join(" "));
        assert_ne!(told.code, Some(101), "a panic: {}", told.what);
        let text = String::from_utf8_lossy(&told.bytes).into_owned();
        assert_eq!(needles.in_bytes(&told.bytes), BTreeSet::new(), "{}: {text}", told.what);
        texts.push(text);
    };
    for text in broken.iter().chain([&config]) {
        let home = Home::new();
        home.write("c.toml", text.as_bytes());
        check(&home, &["--config", "c.toml", "config", "show"]);
        check(&home, &["--config", "c.toml", "--json", "config", "show"]);
        check(&home, &["--config", "c.toml", "-r", "r", "list"]);
    }
    let mut home = Home::new();
    home.write("c.toml", config.as_bytes());
    check(&home, &["--config", "c.toml", "-v", "list"]);
    check(&home, &["--config", "c.toml", "-v", "-r", "ftp://127.0.0.1:1/x", "list"]);
    home.write(".netrc", netrc.as_bytes());
    check(&home, &["-v", "-r", "ftp://127.0.0.1:1/x", "list"]);
    home.set("AWS_ACCESS_KEY_ID", "AK");
    home.set("AWS_SECRET_ACCESS_KEY", SECRET);
    home.set("AWS_SESSION_TOKEN", TOKEN);
    home.set("AWS_ENDPOINT_URL", "http://127.0.0.1:1");
    check(&home, &["-v", "-r", "s3://bucket/x", "list"]);
    home.set("AWS_ENDPOINT_URL", &format!("http://me:{SECRET}@127.0.0.1:1"));
    check(&home, &["-v", "-r", "s3://bucket/x", "list"]);
    home.set("HTTP_PROXY", &format!("http://me:{SECRET}@127.0.0.1:1"));
    home.set("ALL_PROXY", &format!("http://me:{SECRET}@127.0.0.1:1"));
    check(&home, &["-v", "-r", "s3://bucket/x", "list"]);
    home.set("ICECORE_REPOSITORY", &format!("ftp://me:{SLASHED}@127.0.0.1:1/x"));
    check(&home, &["config", "show"]);
    check(&home, &["-v", "list"]);
    assert!(texts.iter().all(|text| !text.is_empty()), "each says something");
}

/// A server that says no, and the one that is asked: neither tells the password.
#[test]
fn a_refused_password_is_not_repeated_by_either_side() {
    let mut home = Home::new();
    home.write("served/a", b"x");
    home.set("ICECORE_SERVE_PASSWORD", SECRET);
    let mut server = home
        .command(&["-v", "serve-ftp", "served", "--listen", "127.0.0.1:0", "--user", "me"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut stdout = std::io::BufReader::new(server.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut stdout, &mut line).unwrap();
    let port = line.split("127.0.0.1:").nth(1).unwrap_or_else(|| panic!("{line}"));
    let port: String = port.chars().take_while(char::is_ascii_digit).collect();
    home.unset("ICECORE_SERVE_PASSWORD");
    let needles = needles();
    for (password, is_right) in [(SECRET, true), (TOKEN, false)] {
        let at = format!("ftp://me:{password}@127.0.0.1:{port}/");
        let told = run(home.command(&["-v", "backup", &at, "-d", "x"]), "backup".to_owned());
        let text = String::from_utf8_lossy(&told.bytes).into_owned();
        assert_eq!(told.code == Some(0), is_right, "{text}");
        assert_eq!(needles.in_bytes(&told.bytes), BTreeSet::new(), "{text}");
    }
    server.kill().unwrap();
    let output = server.wait_with_output().unwrap();
    let mut rest = Vec::new();
    std::io::Read::read_to_end(&mut stdout, &mut rest).unwrap();
    let said = [line.into_bytes(), rest, output.stderr].concat();
    let text = String::from_utf8_lossy(&said).into_owned();
    assert_eq!(needles.in_bytes(&said), BTreeSet::new(), "{text}");
}
