//! What others on the machine may see of a process: its arguments, its memory once it has died.
//!
//! Best effort, and said as such in `guarantees.md`: the keys are in memory while they are used.

use crate::cli::Home;
use crate::secrets::REPOSITORY;
use crate::secrets::find::Needles;
use crate::support::folder::is_root;
use crate::support::folder::skipped;
use crate::support::tree::noise;
use std::collections::BTreeSet;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

/// A user whom every Linux has.
const NOBODY: u32 = 65534;

const PASSWORD: &str = "nur-einen-Augenblick-8675309";

/// A process that has opened its repository and waits for somebody to read what it prints.
struct Waiting(Child);

impl Waiting {
    fn new(home: &Home, arguments: &[&str]) -> Self {
        Waiting::start(&mut home.command(arguments)).unwrap()
    }

    fn start(command: &mut Command) -> std::io::Result<Self> {
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let mut first = [0];
        child.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
        Ok(Waiting(child))
    }

    /// Returns what the system tells of it; None of what only root is told.
    fn read(&self, name: &str) -> Option<Vec<u8>> {
        let read = std::fs::read(format!("/proc/{}/{name}", self.0.id()));
        if is_root() { Some(read.unwrap()) } else { read.ok() }
    }

    /// Returns all memory that can be written, as a core dump holds it.
    fn memory(&self) -> Option<Vec<u8>> {
        let file = std::fs::File::open(format!("/proc/{}/mem", self.0.id())).ok()?;
        let maps = String::from_utf8(self.read("maps")?).unwrap();
        let mut memory = Vec::new();
        for line in maps.lines().filter(|line| line.contains(" rw")) {
            let (range, _) = line.split_once(' ').unwrap();
            let (start, end) = range.split_once('-').unwrap();
            let number = |text: &str| u64::from_str_radix(text, 16).unwrap();
            let (start, end) = (number(start), number(end));
            let mut page = [0; 4096];
            for at in (start..end).step_by(page.len()) {
                if file.read_exact_at(&mut page, at).is_ok() && page.iter().any(|&it| it != 0) {
                    memory.extend_from_slice(&page);
                }
            }
        }
        Some(memory)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn home() -> Home {
    let home = Home::new();
    home.write("d/big", &noise(3 << 20, 1));
    home.write("password", PASSWORD.as_bytes());
    home.done(&["init", "--password-file", "password"]);
    home.done(&["backup", "d", "--password-file", "password"]);
    home
}

/// A password that came from a file or a command is forgotten once the repository is open, is in
/// no argument and no variable, and a process that dies leaves no core.
#[test]
fn a_password_is_forgotten_once_it_has_done_its_work() {
    let home = home();
    assert!(home.path(REPOSITORY).join("config").exists());
    let password = Needles::new(vec![("password".to_owned(), PASSWORD.into())]);
    for way in [["--password-file", "password"], ["--password-command", "/bin/cat password"]] {
        let process = Waiting::new(&home, &["cat", "d:big", way[0], way[1]]);
        for seen in ["cmdline", "environ", "status", "stat"] {
            let told = process.read(seen).unwrap_or_default();
            assert_eq!(password.in_bytes(&told), BTreeSet::new(), "{seen}");
        }
        let limits = String::from_utf8(process.read("limits").unwrap()).unwrap();
        let cores = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        assert_eq!(cores.split_whitespace().nth(4), Some("0"), "{cores}");
        let Some(memory) = process.memory() else {
            return skipped("the memory of another process");
        };
        // What must be there shows that the search sees this memory.
        let control = Needles::new(vec![("argument".to_owned(), way[0].into())]);
        assert!(!control.in_bytes(&memory).is_empty());
        assert_eq!(password.in_bytes(&memory), BTreeSet::new(), "{} keeps it", way[0]);
        eprintln!("{}: {} bytes of memory without the password", way[0], memory.len());
    }
}

/// Gives everything to a user without rights, as whom root tries things.
fn give_away(path: &Path) {
    chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    if path.is_dir() {
        let entries = std::fs::read_dir(path).unwrap();
        entries.for_each(|entry| give_away(&entry.unwrap().path()));
    }
}

/// Of a process whose memory no other of its user may read, and of which no core is written
/// wherever cores go, the system shows the files that tell of it as root's.
#[test]
fn a_process_gives_no_memory_to_others_of_its_user() {
    let home = home();
    let mut command = home.command(&["cat", "d:big", "--password-file", "password"]);
    if is_root() {
        give_away(&home.path(""));
        command.uid(NOBODY).gid(NOBODY);
    }
    let Ok(process) = Waiting::start(&mut command) else {
        return skipped("a process of a user without rights");
    };
    let seen = std::fs::metadata(format!("/proc/{}/environ", process.0.id())).unwrap();
    assert_eq!(seen.uid(), 0, "it is dumpable");
}

/// Programs that are started for a password, or for a stream, are told nothing of the others.
#[test]
fn no_password_is_handed_to_another_program() {
    let mut home = home();
    home.set("ICECORE_TO_PASSWORD", PASSWORD);
    let script = "cat /proc/$$/cmdline /proc/$PPID/cmdline > arguments";
    let start = ["backup", "--password-file", "password", "-d", "s", "--stdin-from-command", "--"];
    home.done(&[&start[..], &["/bin/sh", "-c", script]].concat());
    let password = Needles::new(vec![("password".to_owned(), PASSWORD.into())]);
    let arguments = std::fs::read(home.path("arguments")).unwrap();
    assert!(arguments.windows(7).any(|it| it == b"icecore"));
    assert_eq!(password.in_bytes(&arguments), BTreeSet::new());
}
