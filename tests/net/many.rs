//! Many writers at once, as real processes on real servers: several back up one dataset, others
//! their own, while backups are forgotten, pruned, restored and checked beside them, and any of
//! them but those that only look is killed at any instant and started again. So it is in a local
//! folder too, which needs no server.
//!
//! In the end every backup that was acknowledged and not forgotten is listed and holds byte for
//! byte what it was made of, no number was given out twice, nobody waited for ever, and a check of
//! all data is clean after one more prune. Each writer has a home, and so a cache, of its own, and
//! where the system lets it a machine's name of its own.
//!
//! `ICECORE_TEST_MANY=1` lets ten writers go through more rounds; `ICECORE_TEST_SEED=S` begins
//! elsewhere. Both are printed.

use crate::ftp;
use crate::many::places::Place;
use crate::many::places::bucket;
use crate::many::places::folder;
use crate::many::places::ftp_place;
use crate::many::places::sftp_place;
use crate::random::Random;
use crate::s3;
use crate::support::Server;
use serde_json::Value;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use std::time::Instant;
use tempfile::TempDir;

mod inspector;
mod judge;
mod places;

/// Longest time that one run of the program may take here: retries of a full server take minutes.
const RUN_LIMIT: Duration = Duration::from_secs(240);
/// How often a writer is told that another is at work before that counts as waiting for ever.
const BUSY_MAX: usize = 400;
/// How often a writer is killed at most before it has made the next backup.
const KILLS_MAX: usize = 2;
/// What those beside the writers wait after each run, so that they do not take the whole machine.
const PAUSE: Duration = Duration::from_millis(100);
/// Contents that files have: few, so that what was forgotten comes again while it is pruned.
const CONTENTS: u64 = 48;
const FILES: u64 = 14;

/// A folder: contents by name.
type Files = BTreeMap<String, u64>;
/// A backup: dataset and number.
type Name = (String, u64);

/// How much is done.
struct Plan {
    seed: u64,
    rounds: usize,
    /// The dataset of each writer.
    writers: Vec<&'static str>,
    /// Of a hundred runs so many are killed.
    kills: u64,
    /// Whether each writer has a machine's name of its own.
    has_hosts: bool,
}

impl Plan {
    fn new(times: usize) -> Self {
        let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
        let seed = number("ICECORE_TEST_SEED").unwrap_or(1);
        if number("ICECORE_TEST_MANY").is_none_or(|wanted| wanted == 0) {
            let writers = vec!["shared", "shared", "own"];
            return Plan { seed, rounds: 2 * times, writers, kills: 34, has_hosts: false };
        }
        let shared = ["shared"; 4].into_iter().chain(["pair"; 2]);
        let writers = shared.chain(["one", "two", "three", "four"]).collect();
        Plan { seed, rounds: 4 * times, writers, kills: 50, has_hosts: may_name_machines() }
    }

    fn is_shared(&self, dataset: &str) -> bool {
        self.writers.iter().filter(|other| **other == dataset).count() > 1
    }
}

/// Says whether processes can have a machine's name of their own here.
fn may_name_machines() -> bool {
    let tried = Command::new("unshare").args(["--uts", "hostname", "icecore-test"]).status();
    let may = tried.is_ok_and(|status| status.success());
    if !may {
        eprintln!("all writers are on one machine: names of machines cannot be set here");
    }
    may
}

/// Who is at work, and what is known of the repository.
struct Play<'a> {
    plan: Plan,
    place: &'a Place,
    folder: TempDir,
    ledger: Mutex<Ledger>,
    is_over: AtomicBool,
    began: Instant,
}

#[derive(Default)]
struct Ledger {
    /// What backups hold that were acknowledged.
    acknowledged: BTreeMap<Name, Files>,
    /// Numbers that a run said it had made.
    made: BTreeSet<Name>,
    /// What runs that were killed may have made.
    possible: BTreeMap<String, Vec<Files>>,
    /// Backups that were forgotten, or may have been.
    forgotten: BTreeSet<Name>,
    runs: usize,
    kills: usize,
    inspections: usize,
    busy: usize,
    waited: usize,
    slowest: Duration,
    wrong: Vec<String>,
}

/// How a run of the program ended.
#[derive(Debug)]
struct Ran {
    /// None when it was killed.
    code: Option<i32>,
    stdout: String,
    #[expect(dead_code, reason = "it is shown when something is wrong")]
    stderr: String,
}

impl Ran {
    fn document(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}

fn content(seed: u64) -> Vec<u8> {
    let mut random = Random(seed);
    let length = 500 + random.below(40_000) as usize;
    (0..length.div_ceil(8)).flat_map(|_| random.below(u64::MAX).to_le_bytes()).collect()
}

/// Reads a folder back; a content that is none is told.
fn read(folder: &Path, known: &BTreeMap<Vec<u8>, u64>) -> Result<Files, String> {
    let mut files = Files::new();
    for entry in fs::read_dir(folder).map_err(|e| e.to_string())? {
        let path = entry.map_err(|e| e.to_string())?.path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let bytes = fs::read(&path).map_err(|e| e.to_string())?;
        let seed = known.get(&bytes).ok_or_else(|| format!("{name} holds what was never there"))?;
        files.insert(name, *seed);
    }
    Ok(files)
}

impl<'a> Play<'a> {
    fn new(place: &'a Place) -> Self {
        let folder = tempfile::Builder::new().prefix("icecore-many-").tempdir().unwrap();
        let ledger = Mutex::default();
        let (is_over, began) = (AtomicBool::new(false), Instant::now());
        let play = Play { plan: Plan::new(place.rounds), place, folder, ledger, is_over, began };
        let done = play.run("keeper", &["init", "--encryption", "none"], None);
        assert_eq!(done.code, Some(0), "{done:?}");
        play
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    /// Returns the machine that somebody is on. Those who share a dataset are on one, but for the
    /// pair: after a kill each of its two machines waits until the other's lease looks old, unless
    /// the other goes on.
    fn machine<'w>(&self, who: &'w str) -> &'w str {
        let number = who.strip_prefix("writer-").and_then(|number| number.parse().ok());
        match number.and_then(|number: usize| self.plan.writers.get(number)) {
            Some(&dataset) if dataset != "pair" => dataset,
            _ => who,
        }
    }

    fn wrong(&self, text: String) {
        eprintln!("WRONG: {text}");
        self.ledger().wrong.push(text);
    }

    /// Makes the command for somebody, with a home and maybe a machine of its own.
    fn command(&self, who: &str, words: &[&str]) -> Command {
        let home = self.path(who);
        fs::create_dir_all(home.join(".ssh")).unwrap();
        if let Some(known) = &self.place.known_hosts {
            fs::copy(known, home.join(".ssh/known_hosts")).unwrap();
        }
        let program = env!("CARGO_BIN_EXE_icecore");
        let mut command = if self.plan.has_hosts {
            let mut command = Command::new("unshare");
            // The program takes the place of the shell, so that it is what is killed.
            let script = "hostname \"$0\" && exec \"$@\"";
            command.args(["--uts", "sh", "-c", script, self.machine(who), program]);
            command
        } else {
            Command::new(program)
        };
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", &home)
            .env("TZ", "UTC")
            .env("ICECORE_REPOSITORY", &self.place.location)
            .envs(self.place.variables.iter().map(|(name, value)| (name, value)))
            .args(["--json", "--threads", "2"])
            .args(words)
            .current_dir(&home)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs the program, and kills it after a while where that is wanted.
    fn run(&self, who: &str, words: &[&str], kill: Option<Duration>) -> Ran {
        let began = Instant::now();
        let mut child = self.command(who, words).spawn().unwrap();
        let limit = kill.unwrap_or(RUN_LIMIT);
        let is_cut = !ended_within(&mut child, limit);
        if is_cut {
            let _ = child.kill();
        }
        let output = child.wait_with_output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        let ran = Ran { code: output.status.code(), stdout, stderr };
        if is_cut && kill.is_none() {
            self.wrong(format!("{who} {words:?} took over {RUN_LIMIT:?}: {ran:?}"));
        }
        let mut ledger = self.ledger();
        ledger.runs += 1;
        ledger.kills += usize::from(ran.code.is_none());
        ledger.slowest = ledger.slowest.max(began.elapsed());
        ran
    }

    /// Changes some files of a folder, takes some away and makes others.
    fn change(&self, who: &str, files: &mut Files, random: &mut Random) -> PathBuf {
        let folder = self.path(&format!("{who}/data"));
        fs::create_dir_all(&folder).unwrap();
        let changes = if files.is_empty() { FILES } else { 4 };
        for _ in 0..changes {
            let name = format!("f{}", random.below(FILES));
            if files.len() > 4 && random.below(5) == 0 {
                if files.remove(&name).is_some() {
                    fs::remove_file(folder.join(&name)).unwrap();
                }
                continue;
            }
            let seed = random.below(CONTENTS);
            fs::write(folder.join(&name), content(seed)).unwrap();
            files.insert(name, seed);
        }
        folder
    }

    /// Backs a folder up that changes, round after round, whatever happens meanwhile.
    fn write(&self, number: usize, dataset: &str) {
        let who = format!("writer-{number}");
        let mut random = Random(self.plan.seed << 8 | number as u64);
        let mut files = Files::new();
        let mut usual = Duration::from_millis(600);
        for round in 0..self.plan.rounds {
            let folder = self.change(&who, &mut files, &mut random);
            let words = ["backup", folder.to_str().unwrap(), "--dataset", dataset];
            let (mut told_busy, mut killed) = (0, 0);
            loop {
                let is_killed = killed < KILLS_MAX && random.below(100) < self.plan.kills;
                let moment = usual.mul_f64(random.below(130) as f64 / 100.0);
                let began = Instant::now();
                let ran = self.run(&who, &words, is_killed.then_some(moment));
                match ran.code {
                    None => {
                        killed += 1;
                        self.note_possible(dataset, &files);
                    }
                    Some(0) => {
                        usual = began.elapsed();
                        self.note_done(dataset, &files, &ran, round);
                        break;
                    }
                    Some(11) if self.plan.is_shared(dataset) && told_busy < BUSY_MAX => {
                        told_busy += 1;
                        self.ledger().busy += 1;
                        thread::sleep(Duration::from_millis(20 + random.below(200)));
                    }
                    Some(_) => return self.wrong(format!("{who} {dataset}: {ran:?}")),
                }
            }
        }
    }

    fn note_possible(&self, dataset: &str, files: &Files) {
        self.ledger().possible.entry(dataset.to_owned()).or_default().push(files.clone());
    }

    fn note_done(&self, dataset: &str, files: &Files, ran: &Ran, round: usize) {
        let document = ran.document();
        let name = (dataset.to_owned(), document["backup"].as_u64().unwrap());
        let is_new = document["kind"] != "unchanged";
        let mut ledger = self.ledger();
        if is_new && !ledger.made.insert(name.clone()) {
            ledger.wrong.push(format!("{name:?} was given out twice, in round {round}"));
        }
        let known = ledger.acknowledged.entry(name.clone()).or_insert_with(|| files.clone());
        if known != files {
            ledger.wrong.push(format!("{name:?} is said to hold two things"));
        }
    }

    /// Lets backups go and frees space, until the writers are done.
    fn tidy(&self) {
        let mut random = Random(self.plan.seed << 8 | 0xaa);
        let mut usual = Duration::from_millis(800);
        while !self.is_over.load(Ordering::SeqCst) {
            if let Some(name) = self.one_to_forget(&mut random) {
                self.ledger().forgotten.insert(name.clone());
                let number = name.1.to_string();
                let ran = self.run("keeper", &["forget", &name.0, "--backup", &number], None);
                if ran.code != Some(0) {
                    self.wrong(format!("forget {name:?}: {ran:?}"));
                }
            }
            let is_killed = random.below(100) < self.plan.kills;
            let moment = usual.mul_f64(random.below(130) as f64 / 100.0);
            let began = Instant::now();
            let words = ["prune", "--max-unused", "0%", "--disk-wait", "0"];
            let ran = self.run("keeper", &words, is_killed.then_some(moment));
            match ran.code {
                None => {}
                Some(0) => {
                    usual = began.elapsed();
                    let waits = ran.document()["waits_for"].as_array().map_or(0, Vec::len);
                    self.ledger().waited += usize::from(waits > 0);
                }
                Some(_) => self.wrong(format!("prune: {ran:?}")),
            }
            thread::sleep(PAUSE);
        }
    }

    /// Chooses a backup that is not among the newest two of its dataset.
    fn one_to_forget(&self, random: &mut Random) -> Option<Name> {
        let ledger = self.ledger();
        let mut kept: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        for name in ledger.acknowledged.keys().filter(|name| !ledger.forgotten.contains(*name)) {
            kept.entry(&name.0).or_default().push(name.1);
        }
        let old: Vec<Name> = kept
            .into_iter()
            .flat_map(|(dataset, mut numbers)| {
                numbers.truncate(numbers.len().saturating_sub(2));
                numbers.into_iter().map(|number| (dataset.to_owned(), number))
            })
            .collect();
        old.get(random.below(old.len() as u64) as usize).cloned()
    }

    /// Restores backups while others are forgotten and pruned.
    fn look(&self, known: &BTreeMap<Vec<u8>, u64>) {
        let mut random = Random(self.plan.seed << 8 | 0xbb);
        while !self.is_over.load(Ordering::SeqCst) {
            let one = {
                let ledger = self.ledger();
                let all: Vec<(Name, Files)> =
                    ledger.acknowledged.iter().map(|(a, b)| (a.clone(), b.clone())).collect();
                all.get(random.below(all.len() as u64) as usize).cloned()
            };
            if let Some((name, files)) = one {
                self.compare("reader", &name, &files, known);
            }
            thread::sleep(PAUSE);
        }
    }
}

/// Waits until a process ends; says whether it did in time.
fn ended_within(child: &mut Child, limit: Duration) -> bool {
    let began = Instant::now();
    loop {
        if child.try_wait().unwrap().is_some() {
            return true;
        }
        let Some(left) = limit.checked_sub(began.elapsed()) else { return false };
        thread::sleep(left.min(Duration::from_millis(3)));
    }
}

/// Lets all of them at one repository.
fn many_write(what: &str, place: &Place) {
    let play = Play::new(place);
    let known: BTreeMap<Vec<u8>, u64> = (0..CONTENTS).map(|seed| (content(seed), seed)).collect();
    let Plan { seed, rounds, writers, has_hosts, .. } = &play.plan;
    let many = writers.len();
    eprintln!("{what}: seed {seed}, {many} writers, {rounds} rounds, own machines: {has_hosts}");
    thread::scope(|scope| {
        let look = scope.spawn(|| play.look(&known));
        let beside = [scope.spawn(|| play.tidy()), look, scope.spawn(|| play.inspect())];
        let play = &play;
        let writing: Vec<_> = writers
            .iter()
            .enumerate()
            .map(|(number, dataset)| scope.spawn(move || play.write(number, dataset)))
            .collect();
        let ended: Vec<bool> = writing.into_iter().map(|it| it.join().is_ok()).collect();
        play.is_over.store(true, Ordering::SeqCst);
        assert!(ended.into_iter().all(|well| well), "a writer panicked");
        assert!(beside.into_iter().all(|it| it.join().is_ok()), "who is beside panicked");
    });
    play.judge(&known);
    let ledger = play.ledger();
    eprintln!(
        "{what}: seed {seed}: {} runs, {} killed, {} inspections, {} times busy, {} prunes stopped \
         for somebody, {} backups acknowledged, {} forgotten, slowest run {:?}, {:?} in all",
        ledger.runs,
        ledger.kills,
        ledger.inspections,
        ledger.busy,
        ledger.waited,
        ledger.acknowledged.len(),
        ledger.forgotten.len(),
        ledger.slowest,
        play.began.elapsed(),
    );
    assert!(ledger.wrong.is_empty(), "{what}, seed {seed}: {:#?}", ledger.wrong);
    assert!(ledger.acknowledged.len() >= rounds * many / 2, "too few were acknowledged");
    assert!(ledger.inspections > 0, "nobody looked for damage");
}

#[test]
fn many_write_to_a_local_folder() {
    let (place, _gone_with_it) = folder();
    many_write("local folder", &place);
}

#[test]
fn many_write_to_a_bucket_with_an_atomic_create() {
    many_write("SeaweedFS", &bucket(&s3::SEAWEEDFS));
}

#[test]
fn many_write_to_a_bucket_of_minio() {
    if s3::wants_minio() {
        many_write("MinIO", &bucket(&s3::MINIO));
    }
}

#[test]
fn many_write_to_a_bucket_without_an_atomic_create() {
    many_write("rclone serve s3", &bucket(&s3::RCLONE));
}

#[test]
fn many_write_over_ftp() {
    let server = ftp::start("proftpd", &[]);
    many_write("proftpd", &ftp_place(&server));
}

#[test]
fn many_write_over_sftp() {
    let server = Server::start("sftp.py", &["openssh"]);
    many_write("OpenSSH", &sftp_place(&server));
}
