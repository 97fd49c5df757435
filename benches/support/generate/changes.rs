//! Changes of files: of one in a hundred, or of a few.

use crate::support;
use crate::support::Numbers;
use crate::support::tree;
use std::fs;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::path::PathBuf;

/// Of so many files one is changed.
const ONE_OF: u64 = 100;
const BYTES_MAX: u64 = 200;

/// Appends to one file of each hundred below a folder, or writes over a stretch of it.
pub(crate) fn change_files(folder: &Path, seed: u64) -> io::Result<()> {
    let mut numbers = Numbers::new(seed);
    let (mut number, mut chosen) = (0, 0);
    tree::each_file(folder, &mut |path, length| {
        if number % ONE_OF == 0 {
            chosen = number + numbers.below(ONE_OF);
        }
        if number == chosen {
            change(path, length, &mut numbers)?;
        }
        number += 1;
        Ok(())
    })
}

/// Changes `count` files of a list, anywhere in it, as above.
pub(crate) fn change_some(files: &[PathBuf], count: usize, seed: u64) -> io::Result<()> {
    let mut numbers = Numbers::new(seed);
    for _ in 0..count {
        let path = &files[numbers.below(files.len() as u64) as usize];
        change(path, fs::symlink_metadata(path)?.len(), &mut numbers)?;
    }
    Ok(())
}

fn change(path: &Path, length: u64, numbers: &mut Numbers) -> io::Result<()> {
    let mut bytes = Vec::new();
    support::text(numbers, 1 + numbers.clone().below(BYTES_MAX) as usize, &mut bytes);
    let is_appended = numbers.below(2) == 0 || length <= bytes.len() as u64;
    let offset = match is_appended {
        true => length,
        false => numbers.below(length - bytes.len() as u64),
    };
    OpenOptions::new().write(true).open(path)?.write_all_at(&bytes, offset)
}
