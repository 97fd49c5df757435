//! Secrets: what must not be seen is planted, and every byte that somebody else may see is
//! searched for it: repositories, caches, what the program says, what it is started with, what
//! `Debug` shows, its memory.
//!
//! Each search is first shown to find the same things where they may be seen.

mod debug;
mod find;
mod memory;
mod plant;
mod sealed;
mod words;

use crate::cli::Home;
use crate::secrets::find::Needles;
use crate::secrets::plant::Planted;
use crate::support::folder::files_below;
use icecore::backend::Backend;
use icecore::backend::local::LocalBackend;
use icecore::base::secret::Secret;
use icecore::repository::cache::CachePlace;
use icecore::repository::open;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

const REPOSITORY: &str = ".local/share/icecore";
/// Another repository, which gets a copy.
const COPY: &str = "other";
/// Leases as they stood while a backup ran.
const DURING: &str = "during";
const PASSWORD: &str = "Passwort-des-Archivs-77291";
const SECOND: &str = "zweites-Passwort-40518-key";
const OTHER: &str = "Passwort-des-anderen-93355";
const WRONG: &str = "ein-falsches-Passwort-60607";
const THIRD: &str = "drittes-Passwort-85193-kurz";

/// What the runs of the program below leave in repositories at one moment or another. Marks and
/// signs of life take longer, other stores or dead processes.
const KINDS: [&str; 12] = [
    "backup header",
    "config",
    "dataset name",
    "forget marker",
    "key",
    "lease",
    "lost places",
    "pack",
    "pack index",
    "parity",
    "tags",
    "tombstone",
];

/// Every key that a password leads to.
fn keys_of(repository: &Path) -> Vec<(String, Vec<u8>)> {
    let backend: Arc<dyn Backend> = Arc::new(LocalBackend::open(repository).unwrap());
    let scratch = tempfile::tempdir().unwrap();
    let place = CachePlace::Scratch(scratch.path().into());
    let password = Secret::new(PASSWORD.into());
    let opened = open::open(backend, Some(&password), &place).unwrap();
    let keys = opened.store().sealer().keys().unwrap();
    [
        ("master key", keys.master()),
        ("key of blob names", keys.blob_key()),
        ("key of dataset names", keys.name_key()),
        ("seed of the chunker", keys.gear_seed()),
        ("key of the config", keys.config_key()),
    ]
    .map(|(name, key)| (name.to_owned(), key.to_vec()))
    .to_vec()
}

fn passwords() -> Vec<(String, Vec<u8>)> {
    let all = [PASSWORD, SECOND, THIRD, OTHER, WRONG];
    all.map(|password| (format!("password {password}"), password.into())).to_vec()
}

/// What a program said, run after run.
struct Said {
    home: Home,
    runs: Vec<(String, Vec<u8>, Vec<u8>)>,
    is_encrypted: bool,
    /// What an encrypted repository has held after any of the runs.
    kinds: BTreeSet<&'static str>,
}

impl Said {
    fn run(&mut self, code: i32, arguments: &[&str]) {
        self.run_to(&[code], arguments);
    }

    fn run_to(&mut self, codes: &[i32], arguments: &[&str]) {
        let output = self.home.command(arguments).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        let code = output.status.code().unwrap();
        assert!(codes.contains(&code), "{arguments:?} ends with {code}: {told}");
        self.runs.push((arguments.join(" "), output.stdout, output.stderr));
        for place in [REPOSITORY, COPY, DURING].iter().filter(|_| self.is_encrypted) {
            self.kinds.append(&mut sealed::kinds_in(&self.home.path(place)));
        }
    }

    /// Returns a field of the document that the last run has printed.
    fn field(&self, name: &str) -> String {
        let (_, stdout, _) = self.runs.last().unwrap();
        let document: serde_json::Value = serde_json::from_slice(stdout).unwrap();
        document[name].as_str().unwrap().to_owned()
    }
}

/// Two backups and all that comes after, with everything said that can be.
fn live(home: Home, planted: &Planted, is_encrypted: bool) -> Said {
    let mut said = Said { home, runs: Vec::new(), is_encrypted, kinds: BTreeSet::new() };
    if is_encrypted {
        said.home.set("ICECORE_PASSWORD", PASSWORD);
        said.home.set("ICECORE_NEW_PASSWORD", SECOND);
        said.home.set("ICECORE_TO_PASSWORD", OTHER);
    }
    let (source, dataset) = (planted.source, planted.dataset);
    let backup = [
        "backup",
        source,
        "--dataset",
        dataset,
        "--tag",
        planted.tag,
        "--description",
        planted.description,
        "--host",
        planted.host,
    ];
    said.run(0, &["init"]);
    said.run(0, &[&["-v", "--progress-json"][..], &backup].concat());
    planted.change(&said.home);
    said.run(0, &[&["--json", "-v"][..], &backup].concat());
    let old = format!("{dataset}@0");
    for arguments in [
        &["-v", "list"][..],
        &["--json", "list", dataset],
        &["show", dataset, "--changes"],
        &["--json", "ls", "-R", dataset],
        &["find", "*"],
        &["diff", &old, dataset],
        &["stats"],
        &["tag", dataset, "--add", planted.later_tag],
        &["-v", "check", "--read-data"],
        &["--json", "check", "--read-packs"],
        &["-v", "restore", dataset, "out", "--verify"],
        &["parity", "add"],
        &["parity", "status"],
        &["repair", "--dry-run"],
        &["config", "show"],
    ] {
        said.run(0, arguments);
    }
    said
}

/// What only a repository with passwords has, and what would take things out of the other one.
fn go_on(said: &mut Said, planted: &Planted) {
    let Planted { dataset, renamed, piped, label, .. } = *planted;
    said.run(0, &["--json", "key", "add", "--label", label]);
    let second = said.field("added");
    said.run(0, &["--json", "key", "list"]);
    said.run(0, &["key", "list"]);
    for (old, new) in [(PASSWORD, THIRD), (THIRD, PASSWORD)] {
        said.home.set("ICECORE_PASSWORD", old);
        said.home.set("ICECORE_NEW_PASSWORD", new);
        said.run(0, &["-v", "key", "passwd", "--label", label]);
    }
    said.home.set("ICECORE_PASSWORD", OTHER);
    said.run(0, &["-r", COPY, "init"]);
    said.home.set("ICECORE_PASSWORD", PASSWORD);
    said.run(0, &["-v", "copy", "--to", COPY, dataset]);
    said.run(0, &["key", "remove", &second]);
    said.run(0, &["rename", dataset, renamed]);
    said.run(0, &["--json", "rename", renamed, dataset]);
    // A backup takes its lease while the command runs already.
    let wait = format!("until /bin/ls {REPOSITORY}/leases/*/*; do /bin/sleep 0.02; done");
    let look = format!("({wait}) >&2 && /bin/cp -a {REPOSITORY}/leases {DURING} && echo seen");
    let stream = ["backup", "-d", piped, "--stdin-name", piped, "--stdin-from-command", "--"];
    said.run(0, &[&["-v"], &stream[..], &["/bin/sh", "-c", &look]].concat());
    said.run(0, &["cat", &format!("{piped}:{piped}")]);
    said.run(0, &["-v", "export", dataset, "-o", "archive.tar"]);
    said.run(0, &["-v", "parity", "remove"]);
    said.run(0, &["parity", "add"]);
    said.run(0, &["forget", dataset, "--backup", "0"]);
    said.run(0, &["-v", "prune"]);
}

/// What goes wrong, and what is said of it.
fn suffer(said: &mut Said, planted: &Planted) {
    let repository = said.home.path(REPOSITORY);
    said.home.set("ICECORE_PASSWORD", WRONG);
    said.run(12, &["list"]);
    said.run(12, &["--json", "restore", planted.dataset, "no"]);
    said.home.set("ICECORE_PASSWORD", PASSWORD);
    said.run(2, &["list", "--password-command", "'unfinished"]);
    said.run(1, &["ls", "nothing-of-this-name"]);
    let packs = files_below(&repository.join("packs"));
    let largest = packs.iter().max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let whole = std::fs::read(largest).unwrap();
    let mut hurt = whole.clone();
    for at in (200..hurt.len() - 200).step_by(1000) {
        hurt[at] ^= 1;
    }
    std::fs::remove_file(largest).unwrap();
    std::fs::write(largest, hurt).unwrap();
    said.run(3, &["-v", "check", "--read-data"]);
    // With the files or with the list of them.
    said.run_to(&[1, 3], &["-v", "restore", planted.dataset, "out2"]);
    said.run_to(&[1, 3], &["--json", "restore", planted.dataset, "out3"]);
    said.run(2, &["list", "--no-such-flag"]);
    // Declares lost what parity cannot heal, and dooms the pack.
    said.run(3, &["-v", "repair", "--read-data"]);
    said.run(0, &["--json", "check"]);
    std::fs::write(largest, whole).unwrap();
    let config = repository.join("config");
    let whole = std::fs::read(&config).unwrap();
    std::fs::remove_file(&config).unwrap();
    std::fs::write(&config, [&whole[..60], b"x", &whole[61..]].concat()).unwrap();
    said.run(1, &["-v", "list"]);
    std::fs::remove_file(&config).unwrap();
    std::fs::write(&config, whole).unwrap();
    for slot in files_below(&repository.join("keys")) {
        let whole = std::fs::read(&slot).unwrap();
        std::fs::remove_file(&slot).unwrap();
        std::fs::write(&slot, &whole[..whole.len() / 2]).unwrap();
    }
    said.run(12, &["list"]);
}

/// Whoever keeps an encrypted repository learns nothing of names, contents, hashes, machines.
#[test]
fn an_encrypted_repository_shows_nothing_of_what_is_in_it() {
    let (plain, encrypted) = (Home::new(), Home::new());
    let planted = Planted::new();
    planted.write(&plain);
    planted.write(&encrypted);
    let hidden = Needles::new(planted.needles());

    // Where nothing is hidden the same search finds all of it.
    let said = live(plain, &planted, false);
    let found = hidden.in_folder(&said.home.path(REPOSITORY));
    let seen: BTreeSet<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
    let missed: Vec<_> = planted.needles().into_iter().map(|(name, _)| name).collect();
    let missed: Vec<_> = missed.iter().filter(|name| !seen.contains(name.as_str())).collect();
    assert!(missed.is_empty(), "a search that finds too little: {missed:?}");

    let mut said = live(encrypted, &planted, true);
    go_on(&mut said, &planted);
    let repository = said.home.path(REPOSITORY);
    let keys = keys_of(&repository);
    suffer(&mut said, &planted);
    let secrets = Needles::new([passwords(), keys].concat());
    let mut needles = planted.needles();
    for (what, text) in [
        ("label of a key", planted.label),
        ("another name", planted.renamed),
        ("what came through a pipe", planted.piped),
    ] {
        needles.push((what.to_owned(), text.into()));
    }
    let hidden = Needles::new(needles);
    assert_eq!(said.kinds, BTreeSet::from(KINDS));
    for folder in [&repository, &said.home.path(COPY), &said.home.path(DURING)] {
        assert_eq!(hidden.in_folder(folder), BTreeSet::new());
        assert_eq!(secrets.in_folder(folder), BTreeSet::new());
    }
    // The machine's own name, unless it is one that stands everywhere.
    let host = icecore::base::sys::host_name();
    if host.len() >= find::START_BYTES {
        let machine = Needles::new(vec![("this machine".to_owned(), host.into_bytes())]);
        assert_eq!(machine.in_folder(&repository), BTreeSet::new());
        assert_eq!(machine.in_folder(&said.home.path(DURING)), BTreeSet::new());
    }
    of_the_cache(&said, &planted, &secrets);
    of_what_was_said(&said, &planted, &secrets);
}

/// A cache knows names, and is for its owner alone. It knows no keys and no content.
fn of_the_cache(said: &Said, planted: &Planted, secrets: &Needles) {
    let cache = said.home.path(".cache/icecore");
    let contents = Needles::new(planted.contents());
    assert!(files_below(&cache).len() > 3, "there is a cache");
    assert_eq!(secrets.in_folder(&cache), BTreeSet::new());
    assert_eq!(contents.in_folder(&cache), BTreeSet::new());
    for path in files_below(&cache).iter().chain(&find::folders(&cache)) {
        use std::os::unix::fs::PermissionsExt;
        let mode = path.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{path:?} is for its owner alone");
    }
}

fn of_what_was_said(said: &Said, planted: &Planted, secrets: &Needles) {
    let contents = Needles::new(planted.contents());
    assert!(said.runs.iter().any(|(_, stdout, _)| !stdout.is_empty()));
    for (run, stdout, stderr) in &said.runs {
        for (stream, bytes) in [("stdout", stdout), ("stderr", stderr)] {
            assert_eq!(secrets.in_bytes(bytes), BTreeSet::new(), "{stream} of {run}");
            assert_eq!(contents.in_bytes(bytes), BTreeSet::new(), "{stream} of {run}");
        }
    }
}
