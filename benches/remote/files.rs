//! The tree behind an FTP server, made by seed: 5 694 files of 129 MB, most of them small, half of
//! them as words are and half as noise is, and all of them two days old: of a server
//! that tells no zone, files are read again for 26 hours, and few of a tree are as young. And what
//! is compared of two trees.

use crate::support;
use crate::support::Numbers;
use crate::support::generate;
use crate::support::tree;
use std::fs;
use std::fs::File;
use std::io;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::SystemTime;

const SEED: u64 = 6;
const FILES_PER_FOLDER: u64 = 60;
const AGE: Duration = Duration::from_secs(48 * 3600);

/// How many files, and the least and the most bytes of one.
const SIZES: [(u64, u64, u64); 3] =
    [(5_400, 300, 8_300), (280, 20_000, 290_000), (14, 2_000_000, 7_000_000)];

/// Makes the tree, or a part of it.
pub(crate) fn make(root: &Path, scale: f64) -> io::Result<()> {
    let mut numbers = Numbers::new(SEED);
    let days_ago = SystemTime::now() - AGE;
    let mut number = 0;
    for (count, least, most) in SIZES {
        for _ in 0..((count as f64 * scale) as u64).max(1) {
            let folder = root.join(format!("part-{:02}", number / FILES_PER_FOLDER));
            if number % FILES_PER_FOLDER == 0 {
                fs::create_dir_all(&folder)?;
            }
            let length = (least + numbers.below(most - least)) as usize;
            let mut bytes = Vec::with_capacity(length);
            if number % 2 == 0 {
                support::text(&mut numbers, length, &mut bytes);
            } else {
                generate::noise(&mut numbers, length, &mut bytes);
            }
            let mut file = File::create(folder.join(format!("file-{number:05}")))?;
            file.write_all(&bytes)?;
            file.set_modified(days_ago)?;
            number += 1;
        }
    }
    Ok(())
}

/// Fails when two trees differ in names, kinds or content: what lftp keeps.
pub(crate) fn compare(before: &Path, after: &Path) -> io::Result<()> {
    let mut waiting = vec![PathBuf::new()];
    while let Some(below) = waiting.pop() {
        let (one, other) = (before.join(&below), after.join(&below));
        let differs = |what: &str| Err(io::Error::other(format!("{what} of {below:?} differs")));
        if one.is_dir() != other.is_dir() {
            return differs("the kind");
        }
        if one.is_dir() {
            let names = tree::names(&one)?;
            if names != tree::names(&other)? {
                return differs("the list");
            }
            waiting.extend(names.iter().map(|name| below.join(name)));
        } else if fs::read(&one)? != fs::read(&other)? {
            return differs("the content");
        }
    }
    Ok(())
}
