//! A database written out as INSERT statements, one a row.

use crate::support::Numbers;
use crate::support::generate;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::io::BufWriter;
use std::io::Write;
use std::path::Path;

/// Rows that lie together and are changed together.
const RUN_ROWS: u64 = 50;
/// Of so many runs one is changed, and one row to so many is appended.
const ONE_OF: u64 = 100;
const PHRASES: usize = 4_096;
const PHRASE_WORDS: usize = 3;
const NAMES: [&str; 12] = [
    "Anna", "Bela", "Chen", "Dara", "Emil", "Fatou", "Goran", "Hana", "Ines", "Jonas", "Kofi",
    "Lena",
];
const STATES: [&str; 4] = ["open", "paid", "shipped", "returned"];

/// A dump that is made alike whenever it is asked for.
#[derive(Debug)]
pub(crate) struct Dump {
    seed: u64,
    rows: u64,
    phrases: Vec<String>,
}

impl Dump {
    /// Prepares a dump whose first version has about so many bytes.
    pub(crate) fn new(bytes: u64, seed: u64) -> Self {
        let mut dump =
            Dump { seed, rows: 1, phrases: generate::phrases(PHRASES, PHRASE_WORDS, seed) };
        let mut sample = Vec::new();
        (0..RUN_ROWS).for_each(|number| dump.row(number, 0, &mut sample));
        dump.rows = (bytes * RUN_ROWS / sample.len() as u64).max(RUN_ROWS);
        dump
    }

    /// Writes a version whole, as a dump is; versions count from 0.
    pub(crate) fn write(&self, path: &Path, version: u64) -> io::Result<()> {
        let changed = self.changed_runs(version);
        let mut out = BufWriter::new(File::create(path)?);
        let mut line = Vec::new();
        for number in 0..self.rows_at(version) {
            line.clear();
            let of = changed.get(&(number / RUN_ROWS)).copied().unwrap_or(0);
            self.row(number, of, &mut line);
            out.write_all(&line)?;
        }
        out.flush()
    }

    fn rows_at(&self, version: u64) -> u64 {
        self.rows + version * self.rows.div_ceil(ONE_OF)
    }

    /// Returns by which version each run was changed last.
    fn changed_runs(&self, version: u64) -> BTreeMap<u64, u64> {
        let mut changed = BTreeMap::new();
        for version in 1..=version {
            let mut numbers = Numbers::new(self.seed + version);
            let runs = self.rows_at(version - 1) / RUN_ROWS;
            for _ in 0..runs.div_ceil(ONE_OF) {
                changed.insert(numbers.below(runs), version);
            }
        }
        changed
    }

    fn row(&self, number: u64, version: u64, line: &mut Vec<u8>) {
        let mut numbers = Numbers::new(self.seed ^ (number << 20) ^ (version << 8));
        let name = generate::pick(&mut numbers, &NAMES);
        let (day, second) = (1 + numbers.below(28), numbers.below(86_400));
        let amount = numbers.below(50_000);
        let phrase = &self.phrases[numbers.below(PHRASES as u64) as usize];
        let state = generate::pick(&mut numbers, &STATES);
        let text = format!(
            "INSERT INTO `orders` VALUES ({number},'{name}','{state}',{}.{:02},\
             '2026-03-{day:02} {:02}:{:02}:{:02}','{phrase}');\n",
            amount / 100,
            amount % 100,
            second / 3600,
            second / 60 % 60,
            second % 60
        );
        line.extend_from_slice(text.as_bytes());
    }
}
