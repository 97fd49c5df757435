//! One file of database pages: each a number, what does not compress, and what does.

use crate::support::Numbers;
use crate::support::generate;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::BufWriter;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;

pub(crate) const PAGE_BYTES: usize = 16 << 10;
const NOISE_BYTES: usize = 6_000;
/// How many lines the words of all pages are taken from.
const PHRASES: usize = 256;
const PHRASE_WORDS: usize = 8;
/// Of so many pages one is changed.
const ONE_OF: u64 = 100;

/// Pages that are made alike whenever they are asked for.
#[derive(Debug)]
pub(crate) struct Pages {
    seed: u64,
    count: u64,
    phrases: Vec<String>,
}

impl Pages {
    pub(crate) fn new(count: u64, seed: u64) -> Self {
        Pages { seed, count, phrases: generate::phrases(PHRASES, PHRASE_WORDS, seed) }
    }

    /// Writes the first version.
    pub(crate) fn make(&self, path: &Path) -> io::Result<()> {
        let mut out = BufWriter::new(File::create(path)?);
        for number in 0..self.count {
            out.write_all(&self.page(number, 0))?;
        }
        out.flush()
    }

    /// Writes one page of a hundred anew, anywhere; versions count from 1.
    pub(crate) fn change(&self, path: &Path, version: u64) -> io::Result<()> {
        let mut numbers = Numbers::new(self.seed + version);
        let file = OpenOptions::new().write(true).open(path)?;
        for _ in 0..self.count.div_ceil(ONE_OF) {
            let number = numbers.below(self.count);
            file.write_all_at(&self.page(number, version), number * PAGE_BYTES as u64)?;
        }
        Ok(())
    }

    /// Makes one page; versions count from 0.
    pub(crate) fn page(&self, number: u64, version: u64) -> Vec<u8> {
        let mut numbers = Numbers::new(self.seed ^ (number << 20) ^ (version << 8));
        let mut page = Vec::with_capacity(PAGE_BYTES + 200);
        page.extend_from_slice(&number.to_be_bytes());
        generate::noise(&mut numbers, NOISE_BYTES, &mut page);
        while page.len() < PAGE_BYTES {
            let phrase = &self.phrases[numbers.below(PHRASES as u64) as usize];
            for _ in 0..2 {
                page.extend_from_slice(phrase.as_bytes());
                page.push(b' ');
            }
        }
        page.truncate(PAGE_BYTES);
        page
    }
}
