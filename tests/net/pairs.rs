//! End to end: data behind one server, the repository on another, in all nine pairs of FTP, SFTP
//! and S3, by the program itself, with all that it finds out about logins, certificates and hosts.

use crate::pairs_home::Home;
use crate::pairs_home::Tree;
use crate::pairs_home::assert_same;
use crate::pairs_home::noise;
use crate::pairs_home::tree;
use crate::pairs_places::By;
use crate::pairs_places::Place;
use crate::pairs_places::date;
use crate::proxy::Proxy;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Where the data lies: a name that has to be written in another way in an address.
const DATA: &str = "data of #1 50%";
const BIG: &str = "gr\u{fc}n/big.bin";
/// An hour and more: a change a moment ago would have each file read again.
const LONG_AGO_SECONDS: u64 = 5000;

/// How exactly a server's times come back.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Times {
    Second,
    /// vsftpd lists them to the minute.
    Minute,
}

fn file(content: impl AsRef<[u8]>) -> Option<Vec<u8>> {
    Some(content.as_ref().to_vec())
}

/// Adds the folders above what is there.
fn with_folders(mut tree: Tree) -> Tree {
    let paths: Vec<String> = tree.keys().cloned().collect();
    for path in paths {
        for (at, _) in path.match_indices('/') {
            tree.entry(path[..at].to_owned()).or_insert(None);
        }
    }
    tree
}

fn first() -> Tree {
    let mut tree: Tree = [
        ("plain.txt", file("plain")),
        ("with blank/inner file.txt", file("inner")),
        ("gr\u{fc}n/\u{6f22}\u{5b57}.txt", file("far away")),
        ("100% #1?.txt", file("signs")),
        ("%41/%2F;x=1&y", file("as if encoded")),
        (BIG, file(noise(1, 5_000_000))),
        ("empty", file("")),
        ("hollow", None),
        ("deep/er/and/deeper/file", file("down here")),
        ("private", file("for one alone")),
    ]
    .map(|(path, content)| (path.to_owned(), content))
    .into();
    for number in 0..30 {
        tree.insert(format!("many/{number:02} of them"), file(noise(number, 3000)));
    }
    with_folders(tree)
}

/// Added, modified, deleted, renamed, an empty file, an empty folder.
fn second() -> Tree {
    let mut tree = first();
    tree.remove("with blank/inner file.txt");
    let big = tree.remove(BIG).unwrap();
    tree.insert("with blank/big, moved & kept.bin".to_owned(), big);
    tree.insert("plain.txt".to_owned(), file("changed, and longer"));
    tree.insert("new #file 50%.txt".to_owned(), file("new"));
    tree.insert("also empty".to_owned(), file(""));
    tree.insert("hollow too".to_owned(), None);
    tree
}

/// A file becomes a folder, a folder a file, and one changes without another size.
fn third() -> Tree {
    let mut tree = second();
    tree.insert("plain.txt".to_owned(), None);
    tree.insert("plain.txt/x".to_owned(), file("below"));
    tree.retain(|path, _| !path.starts_with("deep"));
    tree.insert("deep".to_owned(), file("a file now"));
    tree.insert("100% #1?.txt".to_owned(), file("SIGNS"));
    tree
}

/// The three versions, as a kind of source can have them.
fn versions(kind: &str) -> [Tree; 3] {
    let mut all = [first(), second(), third()];
    if kind == "seaweedfs" {
        // It shows a folder for a while of which all is gone.
        all[2].remove("deep");
        let stays = second().into_iter().filter(|(path, _)| path.starts_with("deep"));
        all[2].extend(stays);
    }
    if kind == "rclone" {
        // It makes a file of a key for a folder.
        all.iter_mut().for_each(|tree| tree.retain(|path, _| !path.starts_with("hollow")));
    }
    all
}

fn files(tree: &Tree) -> u64 {
    tree.values().flatten().count() as u64
}

struct Pair {
    home: Home,
    source: Place,
    kept: Place,
    repository: String,
    flags: Vec<String>,
}

impl Pair {
    fn new(source: &'static str, repository: &'static str) -> Self {
        let (source, kept) = (Place::start(source), Place::start(repository));
        let mut home = Home::new();
        source.admit(&mut home, By::Variables);
        kept.admit(&mut home, By::Config);
        home.hide("ICECORE_PASSWORD", "repository's own");
        home.hide("ICECORE_TO_PASSWORD", "repository's own");
        let flags = source.flags().into_iter().chain(kept.flags()).map(str::to_owned).collect();
        let address = kept.address("kept here/repository");
        Pair { home, source, kept, repository: address, flags }
    }

    fn arguments<'a>(&'a self, words: &[&'a str]) -> Vec<&'a str> {
        self.arguments_at(&self.repository, words)
    }

    fn arguments_at<'a>(&'a self, repository: &'a str, words: &[&'a str]) -> Vec<&'a str> {
        let mut all = vec!["-r", repository];
        all.extend(self.flags.iter().map(String::as_str));
        all.extend(words);
        all
    }

    fn json(&self, words: &[&str]) -> serde_json::Value {
        self.home.json(0, &self.arguments(words))
    }

    fn backup(&self) -> serde_json::Value {
        self.json(&["backup", "--dataset", "data", &self.source.address(DATA)])
    }

    fn holds(&self) {
        let [one, two, three] = versions(self.source.kind);
        self.json(&["init"]);

        self.source.fill(DATA, &Tree::new(), &one);
        if !self.source.is_bucket() {
            let root = self.source.disk(DATA);
            for path in one.iter().filter(|(_, content)| content.is_some()).map(|(path, _)| path) {
                let mode = if path == "private" { 0o600 } else { 0o644 };
                date(&root.join(path), LONG_AGO_SECONDS, mode);
            }
        }
        let done = self.backup();
        assert_eq!((done["backup"].as_u64(), done["kind"].as_str()), (Some(0), Some("full")));
        assert_eq!(done["files"], files(&one), "{done}");
        let done = self.backup();
        assert_eq!(done["kind"], "unchanged", "{done}");
        assert_eq!((&done["new_bytes"], &done["stored_bytes"]), (&0.into(), &0.into()), "{done}");

        self.source.fill(DATA, &one, &two);
        let done = self.backup();
        assert_eq!(done["backup"], 1, "{done}");
        // Of what was moved nothing is stored again.
        assert!(done["new_bytes"].as_u64().unwrap() < 100_000, "{done}");
        self.source.fill(DATA, &two, &three);
        let done = self.backup();
        assert_eq!(done["backup"], 2, "{done}");
        assert_eq!(done["files"], files(&three), "{done}");

        self.looked_at(&one, &three);
        self.restored("data@0", "back again/first #", &one);
        self.restored("data", "back again/last", &three);
        let checked = self.json(&["check", "--read-data"]);
        assert_eq!((&checked["ok"], &checked["backups"]), (&true.into(), &3.into()), "{checked}");
        assert_eq!(checked["findings"].as_array().map(Vec::len), Some(0), "{checked}");
        if self.source.is_bucket() {
            self.restored_to_the_bucket(&three);
        }
        self.copied(&one);
    }

    /// Brings the last backup back into the bucket it came from, under another prefix. What is
    /// there then is seen by a backup of it.
    fn restored_to_the_bucket(&self, wanted: &Tree) {
        let to = self.source.address("back again/last");
        let done = self.json(&["restore", "--no-owner", "data", &to]);
        assert_eq!(done["files"], files(wanted), "{done}");
        self.json(&["backup", "--dataset", "again", &to]);
        self.json(&["restore", "--no-owner", "again", "again"]);
        assert_same(&tree(&self.home.path("again")), wanted, &format!("in {}", self.source.kind));
    }

    /// Copies all backups into a repository on the server that the data is on.
    fn copied(&self, one: &Tree) {
        let to = self.source.address("copied here/repository");
        let there = |words: &[&str]| self.home.json(0, &self.arguments_at(&to, words));
        there(&["init"]);
        let done = self.json(&["copy", "data", "--to", &to]);
        let copied = done["datasets"][0]["copied"].as_array().map(Vec::len);
        assert_eq!(copied, Some(3), "{done}");
        let checked = there(&["check", "--read-data"]);
        assert_eq!((&checked["ok"], &checked["backups"]), (&true.into(), &3.into()), "{checked}");
        there(&["restore", "--no-owner", "data@0", "from the copy"]);
        let place = self.home.path("from the copy");
        assert_same(&tree(&place), one, &format!("a copy on {}", self.source.kind));
    }

    fn looked_at(&self, one: &Tree, three: &Tree) {
        let listed = self.json(&["list", "data"]);
        let backups: Vec<u64> =
            listed.as_array().unwrap().iter().map(|row| row["backup"].as_u64().unwrap()).collect();
        assert_eq!(backups.iter().copied().collect::<BTreeSet<_>>(), BTreeSet::from([0, 1, 2]));
        for (backup, tree) in [("data@0", one), ("data", three)] {
            let rows = self.home.rows(&self.arguments(&["ls", "-R", backup]));
            let listed: Vec<&str> = rows.iter().map(|row| row["path"].as_str().unwrap()).collect();
            let listed: BTreeSet<&str> = listed.into_iter().collect();
            let wanted: BTreeSet<&str> = tree.keys().map(String::as_str).collect();
            assert_eq!(listed, wanted, "{backup}");
        }
    }

    /// Brings a backup back to the server that the data is on; of a bucket to this machine.
    fn restored(&self, backup: &str, below: &str, wanted: &Tree) {
        let (to, place) = match self.source.is_bucket() {
            true => (below.to_owned(), self.home.path(below)),
            false => (self.source.address(below), self.source.disk(below)),
        };
        let ran = self.home.run(&self.arguments(&["--json", "restore", "--no-owner", backup, &to]));
        let done = ran.document();
        // What a server cannot keep is no failure.
        assert_eq!(ran.code, 0, "{ran:?}");
        assert_eq!(done["errors"].as_array().map(Vec::len), Some(0), "{done}");
        assert_eq!(done["files"], files(wanted), "{done}");
        assert_same(&tree(&place), wanted, &format!("{backup} of {}", self.source.kind));
        if !self.source.is_bucket() && backup == "data" {
            self.kept(&place, wanted);
        }
    }

    /// Times and modes of files, as exactly as the protocol has them.
    fn kept(&self, place: &Path, wanted: &Tree) {
        let times = if self.source.kind == "vsftpd" { Times::Minute } else { Times::Second };
        for path in wanted.iter().filter(|(_, content)| content.is_some()).map(|(path, _)| path) {
            let of = |root: &Path| {
                let metadata = root.join(path).metadata().unwrap();
                let step = if times == Times::Minute { 60 } else { 1 };
                // Of a source that tells no modes they are what most files have.
                let mode = if self.source.kind == "pyftpdlib" { 0 } else { metadata.mode() };
                (metadata.mtime().div_euclid(step), mode & 0o7777)
            };
            assert_eq!(
                of(place),
                of(&self.source.disk(DATA)),
                "{} and {}: {path}",
                self.source.kind,
                self.kept.kind
            );
        }
    }
}

fn holds(source: &'static str, repository: &'static str) {
    Pair::new(source, repository).holds();
}

#[test]
fn from_ftp_to_ftp() {
    holds("vsftpd", "proftpd+tls");
}

#[test]
fn from_ftp_to_sftp() {
    holds("pyftpdlib", "openssh");
}

#[test]
fn from_ftp_to_s3() {
    holds("serve-ftp", "seaweedfs");
}

#[test]
fn from_sftp_to_ftp() {
    holds("openssh", "pure-ftpd");
}

#[test]
fn from_sftp_to_sftp() {
    holds("mod_sftp", "openssh");
}

#[test]
fn from_sftp_to_s3() {
    holds("openssh", "rclone");
}

#[test]
fn from_s3_to_ftp() {
    holds("seaweedfs", "serve-ftp");
}

#[test]
fn from_s3_to_sftp() {
    holds("seaweedfs", "mod_sftp");
}

#[test]
fn from_s3_to_s3() {
    holds("rclone", "seaweedfs");
}

#[test]
fn from_ftp_within_tls() {
    holds("pure-ftpd+tls", "proftpd");
}

#[test]
fn a_source_is_connected_with_once() {
    for kind in ["proftpd", "openssh"] {
        let place = Place::start(kind);
        let mut home = Home::new();
        place.admit(&mut home, By::Variables);
        let proxy = Proxy::before(place.port(), place.is_ftp());
        let known = fs::read_to_string(home.path(".ssh/known_hosts")).unwrap_or_default();
        home.knows(&known.replace(&place.port().to_string(), &proxy.port.to_string()));
        place.fill("data", &Tree::new(), &Tree::new());
        let source = place.address_by(proxy.port, "data");
        home.json(0, &["-r", "repository", "backup", "--init", &source]);
        assert_eq!(proxy.clients(), 1, "{kind}");
    }
}
