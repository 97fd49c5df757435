//! A connection that is cut at places spread over a whole session, backup and restore, with
//! source, repository and target on the same server. What is asked each time: the command ended
//! well and all is equal, or it failed with a documented code and a sentence; either way within a
//! bounded time; and said again it succeeds, the repository is sound, what is restored is equal.
//!
//! `ICECORE_TEST_CUTS=200` cuts at 200 places for each protocol.

use crate::pairs_home::Home;
use crate::pairs_home::Ran;
use crate::pairs_home::Tree;
use crate::pairs_home::assert_same;
use crate::pairs_home::noise;
use crate::pairs_home::tree;
use crate::pairs_places::By;
use crate::pairs_places::Place;
use crate::pairs_places::date;
use crate::proxy::Proxy;
use crate::proxy::Whom;
use std::fs;
use std::time::Duration;

/// Places in an ordinary run, for each protocol: half of them in a backup, half in a restore.
const CUTS: u64 = 12;
/// The longest that a command may take whose connection was cut once.
const BOUND: Duration = Duration::from_secs(30);

struct Line {
    home: Home,
    place: Place,
    proxy: Proxy,
    count: Count,
}

/// How often what came out.
#[derive(Debug, Default)]
struct Count {
    cuts: u64,
    well: u64,
    partly: u64,
    failed: u64,
    not_met: u64,
    longest: Duration,
    words: Vec<String>,
}

/// A tree of its own for each number, so that all of it has to be stored.
fn data(number: u64) -> Tree {
    let seed = number * 1000;
    let mut tree: Tree = (0..12)
        .map(|file| (format!("some/{file:02} of them"), Some(noise(seed + file, 5000))))
        .collect();
    tree.insert("large".to_owned(), Some(noise(seed + 500, 700_000)));
    tree.insert("empty".to_owned(), Some(Vec::new()));
    tree.insert("some".to_owned(), None);
    tree.insert("hollow".to_owned(), None);
    tree
}

impl Line {
    fn new(kind: &'static str) -> Self {
        let place = Place::start(kind);
        let mut home = Home::new();
        place.admit(&mut home, By::Variables);
        let proxy = Proxy::before(place.port(), place.is_ftp());
        let known = fs::read_to_string(home.path(".ssh/known_hosts")).unwrap_or_default();
        home.knows(&known.replace(&place.port().to_string(), &proxy.port.to_string()));
        let line = Line { home, place, proxy, count: Count::default() };
        line.fill(0);
        let made = line.run(false, &["init", "--encryption", "none"]);
        assert_eq!(made.code, 0, "{made:?}");
        line
    }

    /// Makes the data of a number.
    fn fill(&self, number: u64) {
        let below = format!("data-{number}");
        self.place.fill(&below, &Tree::new(), &data(number));
        if !self.place.is_bucket() {
            for (path, _) in data(number).iter().filter(|(_, content)| content.is_some()) {
                date(&self.place.disk(&below).join(path), 5000, 0o644);
            }
        }
    }

    fn address(&self, is_cut: bool, below: &str) -> String {
        let port = if is_cut { self.proxy.port } else { self.place.port() };
        self.place.address_by(port, below)
    }

    /// Runs a command, by the proxy or directly.
    fn run(&self, by_proxy: bool, words: &[&str]) -> Ran {
        let repository = self.address(by_proxy, "repository");
        let endpoint = match by_proxy {
            true => self.proxy.port,
            false => self.place.port(),
        };
        let endpoint = format!("http://127.0.0.1:{endpoint}");
        let variables =
            if self.place.is_bucket() { &[("AWS_ENDPOINT_URL", &*endpoint)][..] } else { &[] };
        self.home.run_with(variables, &[&["--json", "-r", &repository], words].concat())
    }

    fn backup(&self, by_proxy: bool, number: u64) -> Ran {
        let source = self.address(by_proxy, &format!("data-{number}"));
        self.run(by_proxy, &["backup", "--dataset", &format!("d{number}"), &source])
    }

    /// Restores to the server, or from a bucket to this machine.
    fn restore(&self, by_proxy: bool, below: &str, more: &[&str]) -> Ran {
        let to = match self.place.is_bucket() {
            true => below.to_owned(),
            false => self.address(by_proxy, below),
        };
        self.run(by_proxy, &[&["restore", "--no-owner", "d0", &to], more].concat())
    }

    fn restored(&self, below: &str) -> Tree {
        match self.place.is_bucket() {
            true => tree(&self.home.path(below)),
            false => tree(&self.place.disk(below)),
        }
    }

    /// Notes how a command ended that was cut; returns whether all was done.
    fn judge(&mut self, ran: &Ran, cut: (u64, Whom)) -> bool {
        let (_, was_cut) = self.proxy.passed();
        self.count.cuts += 1;
        self.count.not_met += u64::from(!was_cut);
        self.count.longest = self.count.longest.max(ran.time);
        assert!(ran.time < BOUND, "{} {cut:?}: {ran:?}", self.place.kind);
        let document = ran.document();
        let said = match ran.code {
            0 => {
                self.count.well += 1;
                return true;
            }
            3 => {
                self.count.partly += 1;
                document["errors"][0]["message"].as_str().unwrap_or_default().to_owned()
            }
            1 => {
                self.count.failed += 1;
                document["error"]["message"].as_str().unwrap_or_default().to_owned()
            }
            _ => panic!("{} {cut:?}: {ran:?}", self.place.kind),
        };
        assert!(said.len() > 10, "{} {cut:?}: {ran:?}", self.place.kind);
        self.count.words.push(said);
        false
    }

    fn cut_backup(&mut self, number: u64, cut: (u64, Whom)) {
        let context = format!("{} backup {number} {cut:?}", self.place.kind);
        self.fill(number);
        self.proxy.begin(Some(cut));
        let ran = self.backup(true, number);
        if !self.judge(&ran, cut) {
            let again = self.backup(false, number);
            assert_eq!(again.code, 0, "{context}: {ran:?} {again:?}");
        }
        let checked = self.run(false, &["check"]);
        assert_eq!(checked.code, 0, "{context}: {ran:?} {checked:?}");
        let back = format!("verify-{number}");
        let to = self.home.path(&back);
        let to = to.to_str().unwrap();
        let restored = self.run(false, &["restore", "--no-owner", &format!("d{number}"), to]);
        assert_eq!(restored.code, 0, "{context}: {ran:?} {restored:?}");
        assert_same(&tree(&self.home.path(&back)), &data(number), &context);
        fs::remove_dir_all(self.home.path(&back)).unwrap();
    }

    fn cut_restore(&mut self, number: u64, cut: (u64, Whom)) {
        let context = format!("{} restore {number} {cut:?}", self.place.kind);
        let below = format!("back-{number}");
        self.proxy.begin(Some(cut));
        let ran = self.restore(true, &below, &[]);
        if !self.judge(&ran, cut) {
            let again = self.restore(false, &below, &["--overwrite", "if-changed", "--delete"]);
            assert_eq!(again.code, 0, "{context}: {ran:?} {again:?}");
        }
        let mut restored = self.restored(&below);
        if self.place.kind == "proftpd" {
            forget_cut_names(&mut restored, &data(0));
        }
        assert_same(&restored, &data(0), &context);
    }

    /// Counts the pieces of a whole session: of a backup, and of a restore.
    fn pieces(&self) -> [u64; 2] {
        self.proxy.begin(None);
        let ran = self.backup(true, 0);
        assert_eq!(ran.code, 0, "{ran:?}");
        let (backup, _) = self.proxy.passed();
        self.proxy.begin(None);
        let ran = self.restore(true, "back-0", &[]);
        assert_eq!(ran.code, 0, "{ran:?}");
        let (restore, _) = self.proxy.passed();
        assert_same(&self.restored("back-0"), &data(0), self.place.kind);
        [backup, restore]
    }
}

/// Leaves out what nobody asked for: proftpd takes a line that was cut for a whole one, and makes a
/// folder `so` when `MKD some` breaks off there.
fn forget_cut_names(restored: &mut Tree, wanted: &Tree) {
    let is_cut = |path: &str| {
        let begins = |whole: &&String| whole.starts_with(path);
        !wanted.contains_key(path) && wanted.keys().any(|whole| begins(&whole))
    };
    let cut: Vec<String> = restored.keys().filter(|path| is_cut(path)).cloned().collect();
    assert!(cut.len() <= 1, "one line was cut: {cut:?}");
    cut.iter().for_each(|path| drop(restored.remove(path)));
}

fn cut_everywhere(kind: &'static str) {
    let wanted = std::env::var("ICECORE_TEST_CUTS").ok().and_then(|text| text.parse().ok());
    let half = wanted.unwrap_or(CUTS) / 2;
    let mut line = Line::new(kind);
    let [backup, restore] = line.pieces();
    for number in 0..half {
        let whom = if number % 2 == 0 { Whom::One } else { Whom::All };
        let at = |pieces: u64| (pieces * (2 * number + 1) / (2 * half)).max(1);
        line.cut_backup(number + 1, (at(backup), whom));
        line.cut_restore(number + 1, (at(restore), whom));
    }
    let checked = line.run(false, &["check", "--read-data"]);
    assert_eq!(checked.code, 0, "{kind}: {checked:?}");
    let Count { cuts, well, partly, failed, not_met, longest, words } = &line.count;
    eprintln!(
        "{kind}: {backup} + {restore} pieces; {cuts} cuts: {well} ended well, {partly} in part, \
         {failed} failed and went on when repeated, {not_met} not met; longest {longest:.1?}"
    );
    words.iter().for_each(|words| eprintln!("  {words}"));
    // The session is a little shorter at times; most cuts are in it.
    assert!(*not_met <= cuts / 4, "{kind}: {not_met} of {cuts} cuts were not met");
}

#[test]
fn over_ftp() {
    cut_everywhere("proftpd");
}

#[test]
fn over_sftp() {
    cut_everywhere("openssh");
}

#[test]
fn over_s3() {
    cut_everywhere("seaweedfs");
}
