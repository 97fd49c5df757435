//! Memory as the system grants it: the real program goes through all that it does for a tree of
//! very many files with a data segment of [`FILES_MIB`], and for a large file with [`BYTES_MIB`].
//!
//! The limit is `RLIMIT_DATA`: all that a process may write to and nobody shares, threads' stacks
//! among it; not its code, and not what the system keeps of files. Memory that grew with files or
//! bytes would pass it, and does so in a program that is given far too little: that one ends with
//! words, and loses nothing. Benches say how much is taken; here the system refuses more.
//!
//! `ICECORE_TEST_MEMORY=1` makes the trees as large as [`FILES_MANY`] and [`BYTES_MANY`] say.

use crate::cli::Home;
use crate::cli::Ran;
use crate::support::folder::Folder;
use crate::support::random::Random;
use crate::support::tree::noise;
use std::fs;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

/// What a run may take that has many small files.
const FILES_MIB: u64 = 80;
/// With content enough to fill them, units of work and packs under way take 88 MiB of two threads,
/// beside stacks and what the allocator has at hand for each.
const BYTES_MIB: u64 = 144;
const FILES: u64 = 20_000;
const FILES_MANY: u64 = 200_000;
const BYTES: u64 = 192 << 20;
const BYTES_MANY: u64 = 1 << 30;
/// Files in one folder.
const FOLDER_FILES: u64 = 400;
/// Far too little, most of which fail. With less the system does not even start a program.
const FAR_TOO_LITTLE_MIB: [u64; 7] = [4, 5, 6, 8, 11, 15, 20];
/// No run takes so long on the busiest machine: who waits for memory for ever is killed.
const HANGS_AFTER: Duration = Duration::from_secs(600);
const LOOK: Duration = Duration::from_millis(2);

fn is_asked() -> bool {
    std::env::var_os("ICECORE_TEST_MEMORY").is_some_and(|value| value != "0")
}

struct Confined {
    home: Home,
    mib: u64,
}

impl Confined {
    fn new(is_encrypted: bool, mib: u64) -> Self {
        let mut home = Home::at(Folder::in_memory());
        home.set("ICECORE_REPOSITORY", "repository");
        match is_encrypted {
            true => {
                home.set("ICECORE_PASSWORD", home.init_cheaply("repository"));
                home.set("ICECORE_TO_PASSWORD", home.init_cheaply("mirror"));
            }
            false => {
                home.done(&["init"]);
                home.done(&["-r", "mirror", "init"]);
            }
        }
        Confined { home, mib }
    }

    /// Runs the program with so much memory; what it says on stdout is not wanted.
    fn run(&self, mib: u64, arguments: &[&str]) -> Ran {
        let script = "ulimit -d \"$0\" && exec \"$@\"";
        let kib = (mib << 10).to_string();
        let mut command = self.home.command_under("/bin/sh", &["-c", script, &kib]);
        // More threads would take more, by what each has at hand.
        command.args(["--threads", "2"]).args(arguments);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let since = Instant::now();
        while child.try_wait().unwrap().is_none() {
            if since.elapsed() > HANGS_AFTER {
                child.kill().unwrap();
            }
            std::thread::sleep(LOOK);
        }
        assert!(since.elapsed() < HANGS_AFTER, "{mib} MiB: {arguments:?} does not end");
        Ran::of(child.wait_with_output().unwrap())
    }

    fn done(&self, arguments: &[&str]) {
        let ran = self.run(self.mib, arguments);
        assert_eq!(ran.code, 0, "{arguments:?}: {ran:?}");
    }

    /// Does all that is done to the dataset, whose source is changed in between.
    fn live(&self, change: impl FnOnce(&Path)) {
        let source = self.home.path("data");
        self.done(&["backup", "data"]);
        change(&source);
        self.done(&["backup", "data"]);
        for look in [
            &["list", "data"][..],
            &["show", "data", "--changes"],
            &["ls", "-R", "data"],
            &["find", "*7"],
            &["diff", "data@0", "data@1"],
            &["diff", "data@0", "./data"],
            &["stats"],
            &["export", "data", "-o", "data.tar"],
            &["check", "--read-data"],
            &["copy", "--to", "mirror"],
            &["restore", "data@0", "restored"],
            &["restore", "data", "restored", "--overwrite", "if-changed", "--delete", "--verify"],
            &["forget", "data", "--backup", "0"],
            &["prune", "--max-unused", "0%"],
            &["repair", "--read-data"],
        ] {
            self.done(look);
        }
        assert_eq!(compare(&source, &self.home.path("restored")), 0, "entries differ");
    }

    /// Lets the program have far too little for what it does; returns how many runs failed.
    fn starve(&self, arguments: &[&str]) -> usize {
        let mut failed = 0;
        for mib in FAR_TOO_LITTLE_MIB {
            let ran = self.run(mib, arguments);
            eprintln!("{mib} MiB: {arguments:?}: exit {}: {}", ran.code, ran.stderr.trim());
            let is_said = !ran.stderr.trim().is_empty();
            // What the system refuses is an error, but for what libraries make a panic of.
            let is_sound = is_said && !ran.stderr.contains("failed to spawn thread");
            assert!(ran.code == 0 || is_sound, "{mib} MiB: {arguments:?}: {ran:?}");
            failed += usize::from(ran.code != 0);
        }
        failed
    }
}

/// Returns in how many files and folders two trees differ, by names and content.
fn compare(one: &Path, other: &Path) -> usize {
    let names = |folder: &Path| {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let found = names(one);
    if found != names(other) {
        return 1;
    }
    let differs = |name: &std::ffi::OsString| {
        let (one, other) = (one.join(name), other.join(name));
        match one.is_dir() {
            true => compare(&one, &other),
            false => usize::from(fs::read(one).unwrap() != fs::read(other).unwrap()),
        }
    };
    found.iter().map(differs).sum()
}

fn tiny(folder: &Path, number: u64, text: &str) {
    let folder = folder.join(format!("folder-{}", number / FOLDER_FILES));
    if number.is_multiple_of(FOLDER_FILES) {
        fs::create_dir_all(&folder).unwrap();
    }
    fs::write(folder.join(format!("a-file-with-a-name-{number}")), text).unwrap();
}

#[test]
fn very_many_files_take_no_more_memory_than_is_granted() {
    let files = if is_asked() { FILES_MANY } else { FILES };
    for is_encrypted in [true, false].into_iter().take(1 + usize::from(is_asked())) {
        let confined = Confined::new(is_encrypted, FILES_MIB);
        let source = confined.home.path("data");
        (0..files).for_each(|number| tiny(&source, number, &format!("file {number}")));
        confined.live(|source| {
            let changed = (1..files).step_by(3);
            changed.for_each(|number| tiny(source, number, &format!("changed {number}")));
            fs::remove_dir_all(source.join("folder-3")).unwrap();
        });
    }
}

#[test]
fn a_large_file_takes_no_more_memory_than_is_granted() {
    const PIECE: usize = 1 << 20;
    let bytes = if is_asked() { BYTES_MANY } else { BYTES };
    for is_encrypted in [false, true].into_iter().take(1 + usize::from(is_asked())) {
        let confined = Confined::new(is_encrypted, BYTES_MIB);
        let source = confined.home.path("data");
        fs::create_dir_all(&source).unwrap();
        let mut file = File::create(source.join("large")).unwrap();
        let (mut random, pieces) = (Random(5), bytes / PIECE as u64);
        for number in 0..pieces {
            // Some of it comes again, and some compresses.
            let piece = match random.below(4) {
                0 => noise(PIECE, random.below(8)),
                1 => noise(PIECE / 64, number).repeat(64),
                _ => noise(PIECE, number),
            };
            file.write_all(&piece).unwrap();
        }
        drop(file);
        confined.live(|source| {
            let file = File::options().write(true).open(source.join("large")).unwrap();
            for number in (0..pieces).step_by(9) {
                let at = number * PIECE as u64 + 5000;
                file.write_all_at(&noise(3000, number + bytes), at).unwrap();
            }
            file.set_len(bytes + 777).unwrap();
        });
    }
}

/// The limit is one: with far too little of it the program fails, says so, and has lost nothing.
#[test]
fn with_far_too_little_memory_it_fails_with_words_and_loses_nothing() {
    let confined = Confined::new(true, BYTES_MIB);
    let source = confined.home.path("data");
    (0..2000).for_each(|number| tiny(&source, number, &format!("file {number}")));
    fs::write(source.join("large"), noise(12 << 20, 1)).unwrap();
    confined.done(&["backup", "data"]);
    fs::rename(&source, confined.home.path("first")).unwrap();
    (0..2000).for_each(|number| tiny(&source, number, &format!("other {number}")));
    fs::write(source.join("large"), noise(12 << 20, 2)).unwrap();

    let backups = confined.starve(&["backup", "data"]);
    let restores = confined.starve(&["restore", "data@0", "half", "--overwrite", "if-changed"]);
    let checks = confined.starve(&["check", "--read-data"]);
    // A prune with little to do takes next to nothing.
    confined.starve(&["prune", "--max-unused", "0%"]);

    for (what, failed) in [("backup", backups), ("restore", restores), ("check", checks)] {
        assert!(failed >= 3, "{what}: only {failed} failed: the limit does not limit");
    }
    confined.done(&["prune", "--max-unused", "0%"]);
    confined.done(&["check", "--read-data"]);
    confined.done(&["backup", "data"]);
    confined.done(&["restore", "data", "second"]);
    confined.done(&["restore", "data@0", "half", "--overwrite", "if-changed"]);
    assert_eq!(compare(&source, &confined.home.path("second")), 0);
    assert_eq!(compare(&confined.home.path("first"), &confined.home.path("half")), 0);
}
