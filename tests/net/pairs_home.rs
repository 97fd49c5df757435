//! The program as a person or a script meets it, in a home of its own: config file, known hosts,
//! cache and nothing of the machine's environment. No run may say a password or take for ever.

use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::thread;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::Instant;
use tempfile::TempDir;

/// The longest that any run may take: some more than all tries of one call.
const LONGEST: Duration = Duration::from_secs(180);

/// A temporary home in which the program runs.
pub(crate) struct Home {
    folder: TempDir,
    variables: BTreeMap<String, String>,
    secrets: Vec<String>,
}

/// What a run gave.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) time: Duration,
}

impl Home {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join(".ssh")).unwrap();
        fs::create_dir_all(folder.path().join(".config/icecore")).unwrap();
        Home { folder, variables: BTreeMap::new(), secrets: Vec::new() }
    }

    /// Sets a variable for the runs that follow.
    pub(crate) fn set(&mut self, name: &str, value: impl Into<String>) {
        self.variables.insert(name.to_owned(), value.into());
    }

    pub(crate) fn unset(&mut self, name: &str) {
        self.variables.remove(name);
    }

    /// Sets a variable that holds what nobody is to see.
    pub(crate) fn hide(&mut self, name: &str, value: &str) {
        self.secrets.push(value.to_owned());
        self.set(name, value);
    }

    /// Names what nobody is to see.
    pub(crate) fn conceal(&mut self, secret: &str) {
        self.secrets.push(secret.to_owned());
    }

    /// Writes a table of credentials into the config file.
    pub(crate) fn configure(&mut self, server: &str, lines: &[(&str, &str)]) {
        let path = self.path(".config/icecore/config.toml");
        let mut text = fs::read_to_string(&path).unwrap_or_default();
        text.push_str(&format!("[credentials.\"{server}\"]\n"));
        for (key, value) in lines {
            text.push_str(&format!("{key} = \"{value}\"\n"));
            if key.starts_with("password") || key.starts_with("secret") {
                self.secrets.push((*value).to_owned());
            }
        }
        fs::write(&path, text).unwrap();
    }

    /// Lets ssh know hosts.
    pub(crate) fn knows(&self, hosts: &str) {
        let path = self.path(".ssh/known_hosts");
        let known = fs::read_to_string(&path).unwrap_or_default();
        fs::write(&path, known + hosts).unwrap();
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    /// Runs the program, with a limit on its time.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        self.run_with(&[], arguments)
    }

    /// As [`Home::run`], with variables of this run alone.
    pub(crate) fn run_with(&self, variables: &[(&str, &str)], arguments: &[&str]) -> Ran {
        let mut child = Command::new(env!("CARGO_BIN_EXE_icecore"))
            .args(arguments)
            .env_clear()
            .env("HOME", self.folder.path())
            .env("TZ", "UTC")
            .envs(&self.variables)
            .envs(variables.iter().copied())
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (stdout, stderr) = (heard(child.stdout.take()), heard(child.stderr.take()));
        let started = Instant::now();
        let code = ended(&mut child, started);
        let ran = Ran {
            code: code.unwrap_or(-1),
            stdout: stdout.join().unwrap(),
            stderr: stderr.join().unwrap(),
            time: started.elapsed(),
        };
        assert!(code.is_some(), "{arguments:?} does not end: {ran:?}");
        for secret in &self.secrets {
            let is_said = ran.stdout.contains(secret) || ran.stderr.contains(secret);
            assert!(!is_said, "{arguments:?} says a secret: {ran:?}");
        }
        assert!(!ran.stderr.contains("panicked"), "{arguments:?}: {ran:?}");
        ran
    }

    /// Runs it with `--json`, and expects this exit code and one document.
    pub(crate) fn json(&self, code: i32, arguments: &[&str]) -> Value {
        let ran = self.run(&[&["--json"], arguments].concat());
        assert_eq!(ran.code, code, "{arguments:?}: {ran:?}");
        ran.document()
    }

    /// Runs it with `--json`, and expects success and a document on every line.
    pub(crate) fn rows(&self, arguments: &[&str]) -> Vec<Value> {
        let ran = self.run(&[&["--json"], arguments].concat());
        assert_eq!(ran.code, 0, "{arguments:?}: {ran:?}");
        ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Ran {
    /// Returns the one document of a run with `--json`.
    pub(crate) fn document(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}

fn heard(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<String> {
    let mut pipe = pipe.expect("it is piped");
    thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Waits for the end; a program that goes on for ever is ended, and has no code.
fn ended(child: &mut Child, started: Instant) -> Option<i32> {
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status.code().unwrap_or(-1));
        }
        if started.elapsed() > LONGEST {
            let _ = child.kill();
            let _ = child.wait();
            return None;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// What is in a tree: content of files, where links lead to, none for folders; paths with `/`.
pub(crate) type Tree = BTreeMap<String, Option<Vec<u8>>>;

/// Returns what is in a folder of this machine; the root itself is left out.
pub(crate) fn tree(root: &Path) -> Tree {
    let mut found = Tree::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        for entry in root.join(&folder).read_dir().unwrap().map(|entry| entry.unwrap()) {
            let name = entry.file_name().into_string().unwrap();
            let below = if folder.is_empty() { name } else { format!("{folder}/{name}") };
            let file_type = entry.file_type().unwrap();
            if file_type.is_symlink() {
                let to = fs::read_link(entry.path()).unwrap();
                found.insert(below, Some(to.into_os_string().into_encoded_bytes()));
            } else if file_type.is_dir() {
                found.insert(below.clone(), None);
                folders.push(below);
            } else {
                found.insert(below, Some(fs::read(entry.path()).unwrap()));
            }
        }
    }
    found
}

/// Makes sure that two trees are one, and says where not without showing content.
pub(crate) fn assert_same(found: &Tree, wanted: &Tree, of: &str) {
    let names = |tree: &Tree| tree.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(found), names(wanted), "{of}");
    for (path, content) in wanted {
        assert!(found[path] == *content, "{of}: {path} has other content");
    }
}

/// Bytes that do not compress, the same for the same seed.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
