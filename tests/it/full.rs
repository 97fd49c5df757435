//! Real file systems of a few MiB that are filled to the brim: the program says that the disk is
//! full, nothing is lost, and with room again the same command succeeds.
//!
//! A tmpfs and an ext4 in a file, both mounted by the test, which takes root and the right to
//! mount. Where that is missing the test says so; `ICECORE_NO_MOUNT=1` leaves it out on purpose.
//! `ICECORE_FULL=1` tries every command with every rest of room; ordinary runs with two of them.

pub(crate) mod mounted;

use crate::cli::Home;
use crate::cli::Ran;
use crate::full::mounted::Kind;
use crate::full::mounted::Mounted;
use crate::support::folder::Folder;
use crate::support::folder::skipped;
use crate::support::tree::difference;
use crate::support::tree::fingerprint;
use crate::support::tree::noise;
use std::path::Path;
use std::path::PathBuf;

/// What is left of the room when a command begins, in bytes.
const ROOMS: [u64; 6] = [0, 4096, 40_000, 150_000, 400_000, 900_000];

/// A command on a full disk. `@` in an argument is where the small disk is mounted.
struct Case {
    name: &'static str,
    /// What is done before, while there is room.
    before: &'static [&'static [&'static str]],
    command: &'static [&'static str],
    /// What succeeds with room again; the command itself in most cases.
    again: &'static [&'static str],
    /// Where the repository is.
    repository: &'static str,
}

impl Case {
    /// Says whether its repository is the one with the three backups.
    fn has_data(&self) -> bool {
        self.repository.ends_with("repository")
    }
}

const fn case(name: &'static str, command: &'static [&'static str]) -> Case {
    Case { name, before: &[], command, again: command, repository: "@/repository" }
}

/// A command whose repository is elsewhere; what it writes besides is on the small disk.
const fn beside(name: &'static str, command: &'static [&'static str]) -> Case {
    Case { repository: "repository", ..case(name, command) }
}

const FORGET: &[&str] = &["forget", "data", "--backup", "1"];
const PRUNE: &[&str] = &["prune", "--max-unused", "0%", "--force"];
const PASSWORD: &str = "a word";
const NEW_PASSWORD: &str = "another word";

const CASES: &[Case] = &[
    case("backup", &["backup", "data"]),
    case("full backup", &["backup", "data", "--full"]),
    case("forget", FORGET),
    Case { before: &[FORGET], ..case("prune", PRUNE) },
    case("repair", &["repair", "--read-data"]),
    case("restore", &["restore", "data@2", "restored"]),
    case("check", &["check", "--read-data"]),
    case("copy", &["copy", "other", "--to", "@/repository", "-r", "others"]),
    case("parity", &["parity", "add", "--percent", "20"]),
    case("tag", &["tag", "data@1", "--add", "kept"]),
    case("init", &["init", "-r", "@/made"]),
    Case {
        repository: "@/sealed",
        ..case("key add", &["key", "add", "--new-password-file", "new"])
    },
    Case {
        again: &["restore", "data@2", "@/restored", "--overwrite", "if-changed", "--delete"],
        ..beside("restore to it", &["restore", "data@2", "@/restored"])
    },
    beside("check with its cache there", &["check", "--cache-dir", "@/cache"]),
    beside("backup with its cache there", &["backup", "data", "--cache-dir", "@/cache"]),
    beside("restore with its cache there", &["restore", "data", "out", "--cache-dir", "@/cache"]),
];

/// A machine with a small disk beside the one it works on.
struct Play {
    home: Home,
    disk: Mounted,
}

fn copy_tree(from: &Path, to: &Path) {
    let copied = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(copied.unwrap().success(), "{} is copied", from.display());
}

fn remove(path: &Path) {
    match std::fs::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => panic!("{}: {e}", path.display()),
        _ => {}
    }
}

impl Play {
    /// Makes three backups of a dataset, a repository with another one, and an encrypted one.
    fn new(disk: Mounted) -> Self {
        let mut home = Home::at(Folder::in_memory());
        for n in 0..20 {
            home.write(&format!("data/d{}/f{n}", n % 3), &noise(15_000, n));
        }
        home.write("other/large", &noise(600_000, 100));
        home.write("new", NEW_PASSWORD.as_bytes());
        let play = |home: &Home, command: &[&str]| drop(home.done(command));
        play(&home, &["-r", "kept", "init"]);
        play(&home, &["-r", "others", "init"]);
        play(&home, &["-r", "others", "backup", "other"]);
        for version in 0..3 {
            play(&home, &["-r", "kept", "backup", "data"]);
            copy_tree(&home.path("data"), &home.path(&format!("version-{version}")));
            home.write("data/d0/f0", &noise(150_000, 200 + version));
            home.write(&format!("data/new/{version}"), &noise(60_000, 300 + version));
        }
        home.set("ICECORE_PASSWORD", PASSWORD);
        play(&home, &["-r", "sealed", "init"]);
        home.unset("ICECORE_PASSWORD");
        Play { home, disk }
    }

    fn place(&self, argument: &str) -> PathBuf {
        match argument.strip_prefix("@/") {
            Some(below) => self.disk.path().join(below),
            None => self.home.path(argument),
        }
    }

    fn run(&self, repository: &str, command: &[&str]) -> Ran {
        self.run_with(PASSWORD, repository, command)
    }

    /// Runs it with this password, where the repository has one.
    fn run_with(&self, password: &str, repository: &str, command: &[&str]) -> Ran {
        let argument = |argument: &&str| match argument.starts_with("@/") {
            true => self.place(argument).display().to_string(),
            false => (*argument).to_owned(),
        };
        let all: Vec<String> = ["--json"].iter().chain(command).map(argument).collect();
        let arguments: Vec<&str> = all.iter().map(String::as_str).collect();
        let mut command = self.home.command(&arguments);
        command.env("ICECORE_REPOSITORY", self.place(repository));
        if repository.ends_with("sealed") {
            command.env("ICECORE_PASSWORD", password);
        }
        Ran::of(command.output().unwrap())
    }

    fn done(&self, repository: &str, command: &[&str]) -> Ran {
        let ran = self.run(repository, command);
        assert_eq!(ran.code, 0, "{command:?}: {ran:?}");
        ran
    }

    /// Puts everything back to what it was before.
    fn reset(&self) {
        self.disk.make_room();
        for name in ["repository", "sealed", "made", "restored", "cache"] {
            remove(&self.place(&format!("@/{name}")));
        }
        for name in ["repository", "restored", "out", ".cache", "seen"] {
            remove(&self.home.path(name));
        }
        copy_tree(&self.home.path("kept"), &self.disk.path().join("repository"));
        copy_tree(&self.home.path("sealed"), &self.disk.path().join("sealed"));
        copy_tree(&self.home.path("kept"), &self.home.path("repository"));
    }

    fn lose_an_index(&self) {
        let folders = self.place("@/repository/index").read_dir().unwrap();
        let folder = folders.map(|entry| entry.unwrap().path()).min().unwrap();
        let object = folder.read_dir().unwrap().next().unwrap().unwrap().path();
        std::fs::remove_file(object).unwrap();
    }

    fn document(&self, repository: &str, command: &[&str]) -> serde_json::Value {
        serde_json::from_str(&self.done(repository, command).stdout).unwrap()
    }

    fn numbers(&self, repository: &str) -> Vec<u64> {
        let rows = self.document(repository, &["list", "data"]);
        let rows = rows.as_array().unwrap().iter();
        rows.map(|row| row["backup"].as_u64().unwrap()).collect()
    }

    /// No half file is left where objects are written.
    fn is_clean(&self, repository: &str) -> bool {
        let temporary = self.place(repository).join("tmp").read_dir();
        temporary.is_ok_and(|entries| entries.count() == 0)
    }

    /// What a command that ended with 0 was to do is done.
    fn is_done(&self, case: &Case, before: &[u64], what: &str) {
        let repository = case.repository;
        match case.command {
            ["backup", ..] => {
                assert_eq!(self.numbers(repository).len(), before.len() + 1, "{what}")
            }
            ["forget", ..] => assert_eq!(self.numbers(repository), [0, 2], "{what}"),
            ["tag", ..] => {
                let rows = self.document(repository, &["list", "data", "--tag", "kept"]);
                assert_eq!(rows[0]["backup"], 1, "{what}: {rows}");
            }
            ["init", ..] => drop(self.done("@/made", &["check"])),
            ["key", ..] => {
                for (password, code) in [(PASSWORD, 0), (NEW_PASSWORD, 0), ("no word", 12)] {
                    let ran = self.run_with(password, repository, &["list"]);
                    assert_eq!(ran.code, code, "{what}: {password}: {ran:?}");
                }
            }
            ["parity", ..] => {
                let status = self.document(repository, &["parity", "status"]);
                assert_eq!(status["packs_with_parity"], status["packs"], "{what}");
            }
            ["copy", ..] => {
                remove(&self.home.path("seen"));
                self.done(repository, &["restore", "other", "seen"]);
                let wanted = fingerprint(&self.home.path("other"));
                let wrong = difference(&wanted, &fingerprint(&self.home.path("seen")));
                assert!(wrong.is_empty(), "{what}: {wrong:#?}");
            }
            // The rest is compared with what was kept aside.
            _ => {}
        }
        if !matches!(case.command, ["backup" | "forget", ..]) {
            self.has_numbers(case, before, what);
        }
    }

    fn has_numbers(&self, case: &Case, numbers: &[u64], what: &str) {
        if case.has_data() {
            assert_eq!(self.numbers(case.repository), numbers, "{what}");
        }
    }

    /// Runs a case with so much room; returns whether the disk was too full for it.
    fn try_with(&self, case: &Case, room: u64) -> bool {
        self.reset();
        let repository = case.repository;
        for command in case.before {
            self.done(repository, command);
        }
        if case.command[0] == "repair" {
            self.lose_an_index();
        }
        let before = if case.has_data() { self.numbers(repository) } else { Vec::new() };
        self.disk.fill_up(room);
        let ran = self.run(repository, case.command);
        let what = format!("{} with {room} bytes left on {:?}", case.name, self.disk.kind());
        assert!(matches!(ran.code, 0 | 1), "{what}: {ran:?}");
        let is_full = ran.code == 1;
        if is_full {
            let all = format!("{}{}", ran.stdout, ran.stderr);
            assert!(all.contains("No space left on device"), "{what}: {ran:?}");
            assert!(all.contains("\"full\"") || case.name == "copy", "{what}: {ran:?}");
        }
        self.disk.make_room();
        assert!(self.is_clean(repository), "{what}: half files stay");
        let is_made = self.place("@/made/tmp").exists();
        assert!(!is_made || self.is_clean("@/made"), "{what}: half files stay");
        match is_full {
            true => self.has_numbers(case, &before, &what),
            false => self.is_done(case, &before, &what),
        }
        for name in ["restored", "out"] {
            remove(&self.home.path(name));
        }
        if is_full {
            self.done(repository, case.again);
            self.is_done(case, &before, &what);
        }
        self.done(repository, &["check", "--read-data"]);
        if case.has_data() {
            self.compare(repository, &what);
        }
        is_full
    }

    /// Restores the newest backup and one before, and compares them with what was kept aside.
    fn compare(&self, repository: &str, what: &str) {
        if self.place("@/restored").exists() {
            let found = fingerprint(&self.place("@/restored"));
            let wanted = fingerprint(&self.home.path("version-2"));
            assert!(difference(&wanted, &found).is_empty(), "{what}: what was restored to it");
        }
        let numbers = self.numbers(repository);
        for number in [numbers[0], numbers[numbers.len() - 1]] {
            remove(&self.home.path("seen"));
            self.done(repository, &["restore", &format!("data@{number}"), "seen"]);
            let kept = match number {
                0..3 => format!("version-{number}"),
                _ => "data".to_owned(),
            };
            let wanted = fingerprint(&self.home.path(&kept));
            let wrong = difference(&wanted, &fingerprint(&self.home.path("seen")));
            assert!(wrong.is_empty(), "{what}: data@{number}: {wrong:#?}");
        }
    }
}

/// Tries all commands on one kind of disk; returns how often, and how often it was too full.
fn try_all(kind: Kind) -> Option<(usize, usize)> {
    let disk = match Mounted::new(kind, 8 << 20) {
        Ok(disk) => disk,
        Err(why) => {
            skipped(&format!("full disks: {kind:?} cannot be mounted: {why}"));
            return None;
        }
    };
    let play = Play::new(disk);
    let (mut tried, mut full) = (0, 0);
    let is_whole = std::env::var_os("ICECORE_FULL").is_some();
    for (nth, case) in CASES.iter().enumerate() {
        // None at all, and one of the others.
        let other = 1 + (nth + 2 * kind as usize) % (ROOMS.len() - 1);
        let is_tried = |which: usize| which == 0 || which == other;
        let which = (0..ROOMS.len()).filter(|&which| is_whole || is_tried(which));
        let rooms: Vec<u64> = which.map(|which| ROOMS[which]).collect();
        let too_small = rooms.iter().copied().filter(|&room| play.try_with(case, room));
        let too_small: Vec<u64> = too_small.collect();
        eprintln!("{kind:?}, {}: too small of {rooms:?}: {too_small:?}", case.name);
        (tried, full) = (tried + rooms.len(), full + too_small.len());
    }
    Some((tried, full))
}

#[test]
fn on_a_disk_filled_to_the_brim_nothing_is_lost_and_it_is_said() {
    if std::env::var_os("ICECORE_NO_MOUNT").is_some() {
        skipped("full disks: ICECORE_NO_MOUNT is set");
        return;
    }
    mounted::remove_leftovers();
    for kind in [Kind::Tmpfs, Kind::Ext4] {
        let Some((tried, full)) = try_all(kind) else { continue };
        eprintln!("{kind:?}: {tried} commands, for {full} of them the disk was too full");
        assert!(full * 4 >= tried, "{kind:?}: only {full} of {tried} met a full disk");
    }
}
