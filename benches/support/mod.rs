//! What the benches share: data made by seed, so that every run measures the same bytes.

#![allow(dead_code, reason = "no bench wants all of it")]

pub(crate) mod data;
pub(crate) mod environment;
pub(crate) mod generate;
pub(crate) mod process;
pub(crate) mod tree;
pub(crate) mod work;

use std::fs;
use std::fs::File;
use std::io;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// Of all repositories.
pub(crate) const PASSWORD: &str = "perito moreno";
/// What a file system is kept from: files as young as a backup are read again by the next one.
pub(crate) const SETTLE: Duration = Duration::from_millis(1_100);
/// What a tool may want of memory for itself, beside what it writes.
pub(crate) const TOOL_BYTES: u64 = 512 << 20;
const PEERS: &str = "/opt/peers/bin";
/// Written at once to warm memory.
const WARM_BYTES: usize = 1 << 20;

/// Says whether `cargo bench` asked for the measurement. Under `cargo test --benches` a bench is
/// only started to see that it starts.
pub(crate) fn is_asked(bench: &str) -> bool {
    let is_asked = std::env::args().any(|argument| argument == "--bench");
    if !is_asked {
        println!("{bench}: nothing is measured; `cargo bench --bench {bench}` does");
    }
    is_asked
}

/// Finds a program where `peers.sh` puts what it installs, or on the `PATH`.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(PathBuf::from(PEERS)).chain(std::env::split_paths(&path));
    folders.map(|folder| folder.join(name)).find(|program| program.is_file())
}

/// Returns the value in the middle, or what lies between the two there; None of nothing.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    Some((values[(values.len() - 1) / 2] + upper) / 2.0)
}

/// Makes the system ready for a command that is measured: with nothing left to write to its disk,
/// which the command's own fsync would wait for; and with so much memory that was used before and
/// is free, by a file that comes and goes. A virtual machine gives memory that is idle back to its
/// host, and whoever asks for it next waits for the host at every page: five times as long as
/// copying takes.
pub(crate) fn make_ready(folder: &Path, bytes: u64) -> io::Result<()> {
    let path = folder.join("icecore-bench-warm");
    let buffer = vec![1; WARM_BYTES];
    let mut file = File::create(&path)?;
    let written = (0..bytes.div_ceil(WARM_BYTES as u64)).try_for_each(|_| file.write_all(&buffer));
    drop(file);
    fs::remove_file(&path)?;
    rustix::fs::syncfs(File::open(folder)?)?;
    written
}

/// Lets those of all that take part act one after the other, in each turn another one first.
pub(crate) fn in_turn<T>(
    all: &mut [T],
    turn: usize,
    takes_part: impl Fn(&T) -> bool,
    act: impl FnMut(&mut T),
) {
    let mut those: Vec<&mut T> = all.iter_mut().filter(|one| takes_part(one)).collect();
    let first = turn % those.len().max(1);
    those.rotate_left(first);
    those.into_iter().for_each(act);
}

/// Starts building a command with a home of its own and nothing of the environment but the path.
pub(crate) fn command(program: &Path, home: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("HOME", home).env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command
}

/// Numbers that look random and are the same for the same seed.
#[derive(Clone, Debug)]
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new(seed: u64) -> Self {
        Numbers(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 11) % end
    }

    /// Makes a name or an id that is found nowhere else.
    pub(crate) fn id(&mut self) -> [u8; 32] {
        let mut id = [0; 32];
        id.as_chunks_mut::<8>().0.iter_mut().for_each(|part| *part = self.next().to_be_bytes());
        id
    }
}

const WORDS: [&str; 16] = [
    "glacier", "river", "the", "snow", "of", "core", "north", "bright", "label", "and", "season",
    "a", "measured", "ice", "deep", "valley",
];

/// Appends words and numbers, which compress as prose does, until there are `length` bytes.
pub(crate) fn text(numbers: &mut Numbers, length: usize, out: &mut Vec<u8>) {
    let end = out.len() + length;
    while out.len() < end {
        let number = numbers.next();
        for part in 0..8 {
            out.extend_from_slice(WORDS[(number >> (part * 4)) as usize % WORDS.len()].as_bytes());
            out.push(b' ');
        }
        out.extend_from_slice(&(number >> 44).to_string().into_bytes());
        out.push(b'\n');
    }
    out.truncate(end);
}
