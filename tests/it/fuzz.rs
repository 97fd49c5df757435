//! A short run of everything in `fuzz/`: each target over its seeds, and over mutations of them.
//!
//! More: `ICECORE_FUZZ_ROUNDS=100000 cargo test --test it fuzz`, where `ICECORE_FUZZ_SEED=7` takes
//! other mutations. `fuzz/run.sh` goes where coverage leads. What panics is written to a file whose
//! name is told; it belongs into `fuzz/seeds` once the fault is mended. Each body names the places
//! that its seeds must come to; `seeds` makes those anew that are stored objects.

use crate::support::random::Random;
use bodies::TARGETS;
use bodies::Target;
use bodies::places;
use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

#[allow(unreachable_pub, reason = "another package shows them to its programs")]
#[path = "../../fuzz/src/lib.rs"]
mod bodies;
mod seeds;

/// What libFuzzer is told as well.
const INPUT_BYTES_MAX: usize = 16 * 1024;
/// Far beyond what any input takes; a hang, or work that grows with a number it was told.
const SECONDS_MAX: Duration = Duration::from_secs(30);
/// Numbers at which something ends.
const NUMBERS: [u64; 12] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    u64::MAX,
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn seeds(name: &str) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(folder().join("seeds").join(name)).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap())
}

/// Changes an input in one way.
fn mutate(input: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut Random) {
    let mut below = |bound: usize| random.below(bound as u64) as usize;
    let at = below(input.len() + 1);
    let length = below(16) + 1;
    let end = (at + length).min(input.len());
    match below(9) {
        0 => input.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << below(8)),
        1 => input.iter_mut().skip(at).take(1).for_each(|byte| *byte = below(256) as u8),
        2 => input.insert(at, below(256) as u8),
        3 => drop(input.drain(at..end)),
        4 => input.truncate(at),
        5 => {
            let again = input[at..end].to_vec();
            input.splice(at..at, again);
        }
        6 => {
            let width = 1 << below(4);
            let number = NUMBERS[below(NUMBERS.len())];
            let little = number.to_le_bytes();
            let big = number.to_be_bytes();
            let bytes = if below(2) == 0 { &little[..width] } else { &big[8 - width..] };
            let end = (at + width).min(input.len());
            input.splice(at..end, bytes.iter().copied());
        }
        7 => {
            let other = &seeds[below(seeds.len())];
            input.truncate(at);
            input.extend_from_slice(&other[below(other.len() + 1)..]);
        }
        _ => {
            let other = &seeds[below(seeds.len())];
            let from = below(other.len() + 1);
            let end = (from + length).min(other.len());
            input.splice(at..at, other[from..end].iter().copied());
        }
    }
    input.truncate(INPUT_BYTES_MAX);
}

/// Runs a target, and tells how long it took.
fn timed(target: &Target, input: &[u8], what: &str) -> Duration {
    let started = Instant::now();
    if catch_unwind(|| (target.run)(input)).is_err() {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{}", target.name));
        fs::write(&path, input).unwrap();
        panic!("{} panics with {what}: {}", target.name, path.display());
    }
    started.elapsed()
}

fn run_once(target: &Target, input: &[u8], what: &str) {
    // A machine that was put to sleep meanwhile is not so again.
    let mut took = timed(target, input, what);
    if took > SECONDS_MAX {
        took = timed(target, input, what);
    }
    assert!(took < SECONDS_MAX, "{} takes {took:?} with {what}", target.name);
}

/// What the seeds came to, each in this thread, is all that the body names.
fn reaches(target: &Target) {
    let reached = places::taken();
    let named: BTreeSet<&str> = target.places.iter().copied().collect();
    assert!(!named.is_empty() && named.len() == target.places.len(), "{}", target.name);
    let missing: Vec<&&str> = named.difference(&reached).collect();
    assert!(missing.is_empty(), "no seed of {} comes to {missing:?} any more", target.name);
    is_named(target, &reached);
}

fn is_named(target: &Target, reached: &BTreeSet<&str>) {
    let unnamed: Vec<&&str> =
        reached.iter().filter(|place| !target.places.contains(place)).collect();
    assert!(unnamed.is_empty(), "{} comes to {unnamed:?} and does not name it", target.name);
}

fn run(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    let seeds = seeds(name);
    assert!(!seeds.is_empty(), "{name} has no seeds");
    places::taken();
    for (number, seed) in seeds.iter().enumerate() {
        run_once(target, seed, &format!("seed {number}"));
    }
    reaches(target);
    run_once(target, b"", "nothing");
    let first = variable("ICECORE_FUZZ_SEED").unwrap_or(1);
    let rounds = variable("ICECORE_FUZZ_ROUNDS").unwrap_or(u64::from(target.rounds));
    let mut random = Random(first);
    for round in 0..rounds {
        let mut input = seeds[random.below(seeds.len() as u64) as usize].clone();
        for _ in 0..=random.below(4) {
            mutate(&mut input, &seeds, &mut random);
        }
        run_once(target, &input, &format!("seed {first} in round {round}"));
    }
    is_named(target, &places::taken());
}

macro_rules! targets {
    ($($name:ident)*) => {
        const NAMES: &[&str] = &[$(stringify!($name)),*];
        $(#[test] fn $name() { run(stringify!($name)); })*
    };
}

targets! {
    address backup_header block_table cache chunker config config_file entry_path filter frame
    ftp key_file known_hosts logins manifest names net_address pack pack_index parity prune
    quantity records replay repository retention s3 s3_answers serve sftp stream time
}

#[test]
fn every_target_has_its_seeds_and_its_test() {
    let entries = fs::read_dir(folder().join("seeds")).unwrap();
    let seeds: BTreeSet<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let targets: BTreeSet<String> = TARGETS.iter().map(|it| it.name.to_owned()).collect();
    let tests: BTreeSet<String> = NAMES.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(seeds, targets);
    assert_eq!(tests, targets);
}

/// The archives are read for ever; new ones are made only when they are to hold more.
#[test]
fn the_repositories_that_are_damaged_can_be_made_again() {
    let may_write = std::env::var("ICECORE_WRITE_GOLDEN").is_ok_and(|value| value == "1");
    for (name, is_encrypted) in [("plain", false), ("encrypted", true)] {
        let path = folder().join("data").join(format!("{name}.repository"));
        let made = bodies::archives::example(is_encrypted);
        if may_write && fs::read(&path).unwrap().is_empty() {
            fs::write(&path, &made).unwrap();
        }
        let stored = fs::metadata(&path).unwrap().len();
        assert!(stored > 0 && made.len() as u64 > stored / 2, "{name}: {stored}");
    }
}
