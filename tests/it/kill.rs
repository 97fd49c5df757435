//! The real program, killed with `kill -9` at random moments, again and again, on one repository.
//!
//! After each kill: `check` ends with 0, all backups that are listed restore to plain copies kept
//! aside, none is missing whose process ended with 0, and the next backup succeeds. A victim is a
//! row in [`VICTIMS`]: what is run, one process or several at once, and what must hold afterwards.
//! `ICECORE_KILLS=N` kills more often, `ICECORE_KILL_SEED=S` at other moments; both are printed.
//! With an odd seed, as the ordinary one is, the repository is encrypted.

use crate::cli::Home;
use crate::cli::Ran;
use crate::support::folder::Folder;
use crate::support::random::Random;
use crate::support::tree::noise;
use crate::support::world::CHEAP;
use icecore::backend::local::LocalBackend;
use icecore::base::secret::Secret;
use icecore::base::time::Timestamp;
use icecore::repository::cache::CachePlace;
use icecore::repository::open;
use icecore::repository::open::CreateOptions;
use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

/// Kills in the ordinary test.
const KILLS: usize = 25;
const DATASETS: [&str; 2] = ["data", "other"];

/// A folder as it was: files by path, and folders by their paths with a slash.
type Files = BTreeMap<String, Arc<Vec<u8>>>;

struct Victim {
    name: &'static str,
    /// What happens to the repository before.
    before: fn(&mut Play),
    /// The command lines that run at once.
    commands: &'static [&'static [&'static str]],
    /// What is done right afterwards, before anybody looks.
    cure: fn(&Play),
    /// What must hold when they were killed, or had ended.
    afterwards: fn(&Play),
}

const NOTHING: fn(&Play) = |_| {};

/// A victim that meets a sound repository and leaves one.
const fn victim(
    name: &'static str,
    commands: &'static [&'static [&'static str]],
    afterwards: fn(&Play),
) -> Victim {
    Victim { name, before: |_| {}, commands, cure: NOTHING, afterwards }
}

const fn prune_victim(name: &'static str, commands: &'static [&'static [&'static str]]) -> Victim {
    Victim { name, before: Play::forget, commands, cure: NOTHING, afterwards: pruned_again }
}

/// A victim that repairs what was done to the repository before.
const fn repair_victim(
    name: &'static str,
    before: fn(&mut Play),
    commands: &'static [&'static [&'static str]],
) -> Victim {
    Victim { name, before, commands, cure: repaired_again, afterwards: pruned_again }
}

const BACKUP: &[&str] = &["backup", "data"];
const PRUNE: &[&str] = &["prune", "--max-unused", "0%", "--force"];
const REPAIR: &[&str] = &["repair", "--read-data"];

const VICTIMS: &[Victim] = &[
    victim("backup", &[BACKUP], NOTHING),
    repair_victim("repair of a lost index", Play::lose_an_index, &[REPAIR]),
    victim("full backup", &[&["backup", "data", "--full"]], NOTHING),
    repair_victim("repair of a bad pack", Play::spoil_a_pack, &[REPAIR]),
    victim("two datasets at once", &[BACKUP, &["backup", "other"]], NOTHING),
    victim("one dataset twice at once", &[BACKUP, BACKUP], NOTHING),
    victim(
        "restore beside a backup",
        &[&["restore", "data@0", "half"], BACKUP],
        restored_over_the_half,
    ),
    prune_victim("prune", &[PRUNE]),
    repair_victim("repair beside a backup", Play::lose_an_index, &[REPAIR, BACKUP]),
    prune_victim("prune beside a backup", &[BACKUP, PRUNE]),
    repair_victim("two repairs at once", Play::spoil_a_pack, &[REPAIR, REPAIR]),
    prune_victim("two prunes at once", &[PRUNE, PRUNE]),
    repair_victim("repair beside a prune", Play::forget, &[REPAIR, PRUNE]),
];

/// What a repair has left the next one ends: all that can be derived is there again.
fn repaired_again(play: &Play) {
    let document = play.home.json(0, REPAIR);
    for list in ["lost", "unrepaired"] {
        assert_eq!(document[list].as_array().unwrap().len(), 0, "{document}");
    }
}

/// What a prune has left the next one goes on with, and nothing is lost by either.
fn pruned_again(play: &Play) {
    let document = play.home.json(0, PRUNE);
    assert_eq!(document["stuck"].as_array().unwrap().len(), 0, "{document}");
    for dataset in DATASETS {
        play.home.done(&["check", "--read-data", "--dataset", dataset]);
    }
}

/// A restore that was killed is done again over what it left.
fn restored_over_the_half(play: &Play) {
    play.home.done(&["restore", "data@0", "half", "--overwrite", "if-changed", "--delete"]);
    assert!(read(&play.home.path("half")) == play.kept["data"][&0], "data@0 over a half restore");
    std::fs::remove_dir_all(play.home.path("half")).unwrap();
}

struct Play {
    home: Home,
    random: Random,
    /// The sources as they are now, by dataset.
    now: BTreeMap<&'static str, Files>,
    /// Copies of what each backup holds.
    kept: BTreeMap<&'static str, BTreeMap<u64, Files>>,
    /// How long the last backup took that nobody killed; kills come within that.
    usual: Duration,
    edits: u64,
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().and_then(|text| text.parse().ok())
}

fn read(folder: &Path) -> Files {
    let mut files = Files::new();
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
            if path.is_dir() {
                files.insert(name + "/", Arc::default());
                open.push(path);
                continue;
            }
            files.insert(name, Arc::new(std::fs::read(&path).unwrap()));
        }
    }
    files
}

/// Makes a repository whose password costs next to nothing to try: each run does.
fn init_encrypted(home: &mut Home) {
    let password = Secret::new(b"glacier".to_vec());
    let options =
        CreateOptions { password: Some(password), cost: CHEAP, ..CreateOptions::default() };
    let backend = Arc::new(LocalBackend::create(&home.path("repository")).unwrap());
    let cache = CachePlace::Scratch(home.path("scratch"));
    open::create(backend, &options, &cache, Timestamp::new(1_700_000_000, 0)).unwrap();
    home.set("ICECORE_PASSWORD", "glacier");
}

impl Play {
    fn new(seed: u64) -> Self {
        let mut home = Home::at(Folder::in_memory());
        home.set("ICECORE_REPOSITORY", "repository");
        let mut play = Play {
            home,
            random: Random(seed),
            now: DATASETS.into_iter().map(|dataset| (dataset, Files::new())).collect(),
            kept: DATASETS.into_iter().map(|dataset| (dataset, BTreeMap::new())).collect(),
            usual: Duration::ZERO,
            edits: 0,
        };
        match seed.is_multiple_of(2) {
            true => drop(play.home.done(&["init"])),
            false => init_encrypted(&mut play.home),
        }
        for n in 0..24 {
            play.put("data", &format!("d{}/f{n}", n % 5), 100_000);
            play.put("other", &format!("f{n}"), 20_000);
        }
        play.back_up("data");
        play.back_up("other");
        play
    }

    fn put(&mut self, dataset: &'static str, name: &str, length: usize) {
        self.edits += 1;
        let bytes = noise(length, self.edits);
        self.home.write(&format!("{dataset}/{name}"), &bytes);
        let now = self.now.get_mut(dataset).unwrap();
        for (at, _) in name.match_indices('/') {
            now.insert(name[..=at].to_owned(), Arc::default());
        }
        now.insert(name.to_owned(), Arc::new(bytes));
    }

    fn names(&self, dataset: &str) -> Vec<String> {
        self.now[dataset].keys().filter(|name| !name.ends_with('/')).cloned().collect()
    }

    /// Changes some files, makes one, an empty one and an empty folder, and removes one at times.
    fn change(&mut self, dataset: &'static str) {
        for _ in 0..6 {
            let n = self.random.below(24);
            let name = self.names(dataset).swap_remove(n as usize % 20);
            self.put(dataset, &name, 60_000);
        }
        let made = format!("made/{}", self.edits);
        self.put(dataset, &made, 1000);
        self.put(dataset, &format!("{made}.empty"), 0);
        let hollow = format!("{made}.hollow");
        std::fs::create_dir(self.home.path(&format!("{dataset}/{hollow}"))).unwrap();
        self.now.get_mut(dataset).unwrap().insert(hollow + "/", Arc::default());
        if self.random.below(2) == 0 {
            let name = self.names(dataset).pop().unwrap();
            std::fs::remove_file(self.home.path(&format!("{dataset}/{name}"))).unwrap();
            self.now.get_mut(dataset).unwrap().remove(&name);
        }
    }

    fn back_up(&mut self, dataset: &'static str) {
        let started = Instant::now();
        let ran = self.home.done(&["--json", "backup", dataset]);
        self.usual = started.elapsed();
        self.keep(&ran);
    }

    /// Keeps a copy of what a backup holds that ended well.
    fn keep(&mut self, ran: &Ran) {
        let document: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        let number = document["backup"].as_u64().expect("each run says which backup it made");
        let dataset = DATASETS.into_iter().find(|name| document["dataset"] == *name).unwrap();
        let files = self.now[dataset].clone();
        let kept =
            self.kept.get_mut(dataset).unwrap().entry(number).or_insert_with(|| files.clone());
        assert!(*kept == files, "{dataset}@{number} is said to hold what is there now");
    }

    /// Lets the oldest backup but one of each dataset go, when there are several.
    fn forget(&mut self) {
        for dataset in DATASETS {
            let numbers: Vec<u64> = self.kept[dataset].keys().copied().collect();
            if let [_, second, _, ..] = numbers[..] {
                self.home.done(&["forget", dataset, "--backup", &second.to_string()]);
                self.kept.get_mut(dataset).unwrap().remove(&second);
            }
        }
    }

    /// Returns the files below a folder of the repository.
    fn objects(&self, folder: &str) -> Vec<PathBuf> {
        let mut found: Vec<PathBuf> = Vec::new();
        let mut open = vec![self.home.path("repository").join(folder)];
        while let Some(next) = open.pop() {
            for entry in std::fs::read_dir(next).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { open.push(path) } else { found.push(path) }
            }
        }
        found.sort();
        found
    }

    fn lose_an_index(&mut self) {
        let found = self.objects("index");
        let which = self.random.below(found.len() as u64) as usize;
        std::fs::remove_file(&found[which]).unwrap();
    }

    /// Spoils the checksum of a pack: every block of it can be read all the same.
    fn spoil_a_pack(&mut self) {
        let found = self.objects("packs");
        let which = self.random.below(found.len() as u64) as usize;
        let mut bytes = std::fs::read(&found[which]).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        // Written beside it, as stored objects are not writable.
        std::fs::remove_file(&found[which]).unwrap();
        std::fs::write(&found[which], bytes).unwrap();
    }

    fn spawn(&self, command: &[&str]) -> Child {
        let command = [&["--json"], command].concat();
        let mut command = self.home.command(&command);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Runs a victim and kills each of its processes at a moment of its own.
    fn kill(&mut self, victim: &Victim) -> usize {
        let children: Vec<Child> =
            victim.commands.iter().map(|command| self.spawn(command)).collect();
        let (mut killed, started) = (0, Instant::now());
        let mut ended = Vec::new();
        for (mut child, command) in children.into_iter().zip(victim.commands) {
            let within = self.usual.as_micros() as u64;
            let delay = Duration::from_micros(self.random.below(within));
            std::thread::sleep(delay.saturating_sub(started.elapsed()));
            child.kill().unwrap();
            let ran = Ran::of(child.wait_with_output().unwrap());
            eprintln!("  {command:?} killed after {delay:?}: exit {}", ran.code);
            // Busy is what one of two writers of a dataset is told.
            assert!(matches!(ran.code, -1 | 0 | 11), "{ran:?}");
            killed += usize::from(ran.code == -1);
            if ran.code == 0 && command[0] == "backup" {
                ended.push(ran);
            }
        }
        ended.iter().for_each(|ran| self.keep(ran));
        killed
    }

    /// Goes through what is listed: what was not known ended with its commit, just before it
    /// could say so; what was known is still there.
    fn compare_list(&mut self) {
        for dataset in DATASETS {
            let rows = self.home.json(0, &["list", dataset]);
            let numbers: Vec<u64> = rows
                .as_array()
                .unwrap()
                .iter()
                .map(|row| row["backup"].as_u64().unwrap())
                .collect();
            let kept = self.kept.get_mut(dataset).unwrap();
            for &number in &numbers {
                kept.entry(number).or_insert_with(|| self.now[dataset].clone());
            }
            for number in kept.keys() {
                assert!(numbers.contains(number), "{dataset}@{number} is gone: {numbers:?}");
            }
        }
    }

    fn restore(&self, dataset: &str, number: u64) {
        let version = format!("{dataset}@{number}");
        self.home.done(&["restore", &version, "restored"]);
        assert!(
            read(&self.home.path("restored")) == self.kept[dataset][&number],
            "{version} is not as it was"
        );
        std::fs::remove_dir_all(self.home.path("restored")).unwrap();
    }

    fn round(&mut self, victim: &Victim) -> usize {
        DATASETS.into_iter().for_each(|dataset| self.change(dataset));
        (victim.before)(self);
        let killed = self.kill(victim);
        self.compare_list();
        (victim.cure)(self);
        self.home.done(&["check", "--read-data"]);
        (victim.afterwards)(self);
        for dataset in DATASETS.into_iter().take(victim.commands.len()) {
            let newest = *self.kept[dataset].keys().next_back().unwrap();
            self.restore(dataset, newest);
        }
        self.change("data");
        self.back_up("data");
        killed
    }
}

#[test]
fn killed_at_any_moment_it_loses_nothing_that_was_acknowledged() {
    let seed = number("ICECORE_KILL_SEED").unwrap_or(1);
    let wanted = number("ICECORE_KILLS").map_or(KILLS, |kills| kills as usize);
    let mut play = Play::new(seed);
    let mut killed = 0;
    // On a busy machine many end before they are killed; that is no reason to go on for ever.
    for victim in VICTIMS.iter().cycle().take(6 * wanted) {
        eprintln!("seed {seed}, {killed} killed, next: {}", victim.name);
        killed += play.round(victim);
        if killed >= wanted {
            break;
        }
    }
    assert!(killed >= wanted, "only {killed} were killed");
    for dataset in DATASETS {
        for number in play.kept[dataset].keys() {
            play.restore(dataset, *number);
        }
    }
    play.home.done(&["check", "--read-data"]);
}
