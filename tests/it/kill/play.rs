//! A repository, the trees that are backed up into it, and what each backup has to give back.

use crate::cli::Home;
use crate::cli::Ran;
use crate::kill::source::Source;
use crate::support::folder::Folder;
use crate::support::folder::files_below;
use crate::support::random::Random;
use crate::support::tree::Fingerprint;
use crate::support::tree::difference;
use crate::support::tree::fingerprint;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::rc::Rc;

pub(super) const DATASETS: [&str; 2] = ["data", "other"];
/// The repository that backups are copied to.
pub(super) const MIRROR: &str = "mirror";
pub(super) const PRUNE: &[&str] = &["prune", "--max-unused", "0%", "--force"];
/// A rule that lets backups go, and how many it keeps.
pub(super) const FORGET: &[&str] = &["forget", "data", "--keep-last", "4"];
const FORGET_KEEPS: usize = 4;

pub(super) struct Play {
    pub(super) home: Home,
    pub(super) random: Random,
    sources: BTreeMap<&'static str, Source>,
    /// The sources as they are now.
    now: BTreeMap<&'static str, Rc<Fingerprint>>,
    /// What each backup holds.
    pub(super) kept: BTreeMap<&'static str, BTreeMap<u64, Rc<Fingerprint>>>,
    /// The same by time, which stays when a backup is copied, also of those that were forgotten.
    at: BTreeMap<(&'static str, String), Rc<Fingerprint>>,
}

fn numbers(rows: &Value) -> Vec<u64> {
    rows.as_array().unwrap().iter().map(|row| row["backup"].as_u64().unwrap()).collect()
}

impl Play {
    pub(super) fn new(seed: u64, is_encrypted: bool) -> Self {
        let mut home = Home::at(Folder::in_memory());
        home.set("ICECORE_REPOSITORY", "repository");
        let passwords = ["repository", MIRROR].map(|name| {
            if is_encrypted {
                return Some(home.init_cheaply(name));
            }
            home.done(&["-r", name, "init"]);
            None
        });
        for (variable, password) in
            ["ICECORE_PASSWORD", "ICECORE_TO_PASSWORD"].iter().zip(passwords)
        {
            password.into_iter().for_each(|password| home.set(variable, password));
        }
        let mut play = Play {
            random: Random(seed),
            sources: BTreeMap::new(),
            now: BTreeMap::new(),
            kept: DATASETS.into_iter().map(|dataset| (dataset, BTreeMap::new())).collect(),
            at: BTreeMap::new(),
            home,
        };
        for (dataset, length) in DATASETS.into_iter().zip([60_000, 20_000]) {
            let source = Source::grow(&play.home.path(dataset), play.random.below(1 << 60), length);
            play.sources.insert(dataset, source);
            play.look_at_sources();
            play.back_up(dataset);
        }
        play
    }

    fn look_at_sources(&mut self) {
        for &dataset in self.sources.keys() {
            self.now.insert(dataset, Rc::new(fingerprint(&self.home.path(dataset))));
        }
    }

    /// Changes both sources.
    pub(super) fn change(&mut self) {
        self.sources.values_mut().for_each(Source::change);
        self.look_at_sources();
    }

    pub(super) fn back_up(&mut self, dataset: &str) {
        let ran = self.home.done(&["--json", "backup", dataset]);
        self.keep(&ran);
    }

    /// Keeps what a backup has to give back that ended well.
    pub(super) fn keep(&mut self, ran: &Ran) {
        let document: Value = serde_json::from_str(&ran.stdout).unwrap();
        let number = document["backup"].as_u64().expect("each run says which backup it made");
        let dataset = DATASETS.into_iter().find(|name| document["dataset"] == *name).unwrap();
        let now = &self.now[dataset];
        let kept = self.kept.get_mut(dataset).unwrap().entry(number);
        let wrong = difference(kept.or_insert_with(|| Rc::clone(now)), now);
        assert!(wrong.is_empty(), "{dataset}@{number} holds what is there now: {wrong:#?}");
    }

    pub(super) fn newest(&self, dataset: &str) -> u64 {
        *self.kept[dataset].keys().next_back().unwrap()
    }

    /// Goes through what is listed: what was not known ended with its commit, just before it
    /// could say so; what was known is still there, but for what a rule may have let go.
    pub(super) fn compare_list(&mut self, is_forgetting: bool) {
        for dataset in DATASETS {
            let rows = self.home.json(0, &["list", dataset]);
            let listed = numbers(&rows);
            let now = &self.now[dataset];
            let kept = self.kept.get_mut(dataset).unwrap();
            for &number in &listed {
                kept.entry(number).or_insert_with(|| Rc::clone(now));
            }
            let newest = kept.keys().rev().take(FORGET_KEEPS).copied().min();
            kept.retain(|number, _| {
                let is_listed = listed.contains(number);
                let may_go = is_forgetting && dataset == "data" && Some(*number) < newest;
                assert!(is_listed || may_go, "{dataset}@{number} is gone: {listed:?}");
                is_listed
            });
            for row in rows.as_array().unwrap() {
                let time = row["time"].as_str().unwrap().to_owned();
                let kept = Rc::clone(&kept[&row["backup"].as_u64().unwrap()]);
                self.at.insert((dataset, time), kept);
            }
        }
    }

    /// Lets the oldest backup but one of each dataset go, when there are several.
    pub(super) fn forget(&mut self) {
        for dataset in DATASETS {
            let numbers: Vec<u64> = self.kept[dataset].keys().copied().collect();
            if let [_, second, _, ..] = numbers[..] {
                self.home.done(&["forget", dataset, "--backup", &second.to_string()]);
                self.kept.get_mut(dataset).unwrap().remove(&second);
            }
        }
    }

    /// Applies the rule once more: it lets go what it says, and nothing else.
    pub(super) fn forget_again(&mut self) {
        self.home.done(FORGET);
        self.compare_list(true);
        assert!(self.kept["data"].len() <= FORGET_KEEPS, "{:?}", self.kept["data"].keys());
    }

    fn one_of(&mut self, folder: &str) -> PathBuf {
        let mut found = files_below(&self.home.path("repository").join(folder));
        found.swap_remove(self.random.below(found.len() as u64) as usize)
    }

    pub(super) fn lose_an_index(&mut self) {
        fs::remove_file(self.one_of("index")).unwrap();
    }

    /// Spoils the checksum of a pack: every block of it can be read all the same.
    pub(super) fn spoil_a_pack(&mut self) {
        let pack = self.one_of("packs");
        let mut bytes = fs::read(&pack).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        // Written beside it, as stored objects are not writable.
        fs::remove_file(&pack).unwrap();
        fs::write(&pack, bytes).unwrap();
    }

    /// Takes away what was restored, whatever modes it has.
    pub(super) fn clear(&mut self, target: &str) {
        let target = self.home.path(target);
        if target.exists() {
            fs::remove_dir_all(target).unwrap();
        }
    }

    /// Puts an older backup, or a part of another dataset, where the newest is to be restored.
    pub(super) fn fill_the_place(&mut self) {
        let count = self.kept["data"].len() as u64;
        let which = self.random.below(count) as usize;
        let other = format!("data@{}", self.kept["data"].keys().nth(which).unwrap());
        let other = if self.random.below(4) == 0 { "other" } else { &other };
        self.home.done(&["restore", other, "place", "--overwrite", "always", "--delete"]);
    }

    /// Compares a folder, with all its metadata, with what a backup has to give.
    pub(super) fn compare(&self, dataset: &str, number: u64, target: &str) {
        let wrong = difference(&self.kept[dataset][&number], &fingerprint(&self.home.path(target)));
        assert!(wrong.is_empty(), "{dataset}@{number} in {target}: {wrong:#?}");
    }

    pub(super) fn restore(&mut self, dataset: &str, number: u64) {
        self.home.done(&["restore", &format!("{dataset}@{number}"), "restored"]);
        self.compare(dataset, number, "restored");
        self.clear("restored");
    }

    /// A repository whose folder holds no lease after a prune that waited for nobody: what died
    /// needs no person.
    pub(super) fn prune(&self, repository: &str) {
        let document = self.home.json(0, &[&["-r", repository], PRUNE].concat());
        for list in ["stuck", "waits_for"] {
            assert_eq!(document[list].as_array().unwrap().len(), 0, "{document}");
        }
        let left = files_below(&self.home.path(repository).join("leases"));
        assert!(left.is_empty(), "{left:?}");
    }

    /// Copies once more, after which the other repository has all that this one has, and nothing
    /// twice.
    pub(super) fn copied_again(&mut self) {
        self.home.done(&["copy", "--to", MIRROR]);
        self.home.done(&["-r", MIRROR, "check", "--read-data"]);
        for dataset in DATASETS {
            let rows = self.home.json(0, &["-r", MIRROR, "list", dataset]);
            let rows = rows.as_array().unwrap();
            let times: Vec<&str> = rows.iter().map(|row| row["time"].as_str().unwrap()).collect();
            for row in self.home.json(0, &["list", dataset]).as_array().unwrap() {
                let time = row["time"].as_str().unwrap();
                let count = times.iter().filter(|other| **other == time).count();
                assert_eq!(count, 1, "{dataset} of {time}: {times:?}");
            }
            let which = self.random.below(rows.len() as u64) as usize;
            let wanted = Rc::clone(&self.at[&(dataset, times[which].to_owned())]);
            let version = format!("{dataset}@{}", rows[which]["backup"]);
            self.home.done(&["-r", MIRROR, "restore", &version, "restored"]);
            let wrong = difference(&wanted, &fingerprint(&self.home.path("restored")));
            assert!(wrong.is_empty(), "{version} of the mirror: {wrong:#?}");
            self.clear("restored");
        }
        self.prune(MIRROR);
    }

    /// Makes a repository again where one may have been made by half, and uses it.
    pub(super) fn made_again(&mut self) {
        let ran = self.home.run(&["-r", "nest", "init"]);
        // It is there already when the one that was killed had ended with it.
        assert!(ran.code == 0 || ran.code == 1 && ran.stderr.contains("already"), "{ran:?}");
        self.home.done(&["-r", "nest", "backup", "other"]);
        self.home.done(&["-r", "nest", "restore", "other", "restored"]);
        let wrong = difference(&self.now["other"], &fingerprint(&self.home.path("restored")));
        assert!(wrong.is_empty(), "{wrong:#?}");
        self.prune("nest");
        self.clear("restored");
    }
}
