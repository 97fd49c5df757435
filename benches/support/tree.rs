//! Trees of files: how much they hold, and whether two are equal.

use std::ffi::OsString;
use std::fs;
use std::fs::File;
use std::io;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::SystemTime;

const COMPARED_BYTES: usize = 1 << 16;

/// Returns the names in a folder, sorted.
pub(crate) fn names(folder: &Path) -> io::Result<Vec<OsString>> {
    let entries = fs::read_dir(folder)?;
    let mut names: Vec<_> =
        entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<_>>()?;
    names.sort();
    Ok(names)
}

/// Makes the files below a folder an hour older: what was written within the last minute is read
/// again by the next backup, and hardly any of a user's files were.
pub(crate) fn age(folder: &Path) -> io::Result<()> {
    let time = hour_ago();
    let mut waiting = vec![folder.to_path_buf()];
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(folder)? {
            let (entry, path) = entry.map(|entry| (entry.file_type(), entry.path()))?;
            let kind = entry?;
            if kind.is_dir() {
                waiting.push(path);
            } else if kind.is_file() {
                File::open(path)?.set_modified(time)?;
            }
        }
    }
    Ok(())
}

pub(crate) fn hour_ago() -> SystemTime {
    SystemTime::now() - Duration::from_secs(3_600)
}

/// Returns how many bytes the files below a folder have, or a file itself.
pub(crate) fn bytes_below(path: &Path) -> io::Result<u64> {
    let mut waiting = vec![path.to_path_buf()];
    let mut total = 0;
    while let Some(path) = waiting.pop() {
        let metadata = fs::symlink_metadata(&path)?;
        if metadata.is_dir() {
            for entry in fs::read_dir(&path)? {
                waiting.push(entry?.path());
            }
        } else {
            total += metadata.len();
        }
    }
    Ok(total)
}

/// Goes through the files below a folder in the order of their names, links left out.
pub(crate) fn each_file(
    folder: &Path,
    visit: &mut dyn FnMut(&Path, u64) -> io::Result<()>,
) -> io::Result<()> {
    // Folders wait behind the files of their parent.
    let mut waiting = vec![folder.to_path_buf()];
    while let Some(folder) = waiting.pop() {
        for name in names(&folder)? {
            let path = folder.join(name);
            let metadata = fs::symlink_metadata(&path)?;
            if metadata.is_dir() {
                waiting.push(path);
            } else if metadata.is_file() {
                visit(&path, metadata.len())?;
            }
        }
    }
    Ok(())
}

/// Fails when two trees differ in names, kinds, modes, owners, times, link targets, counts of names
/// of a file, or content. Not every archive keeps fractions of a second. Not looked at are extended
/// attributes, holes, which names are of the same file, and what the root itself has.
pub(crate) fn compare(before: &Path, after: &Path, has_fractions: bool) -> io::Result<()> {
    let mut waiting = vec![PathBuf::new()];
    while let Some(below) = waiting.pop() {
        let (one, other) = (before.join(&below), after.join(&below));
        let differs = |what: &str| Err(io::Error::other(format!("{what} of {below:?} differs")));
        let (old, new) = (fs::symlink_metadata(&one)?, fs::symlink_metadata(&other)?);
        if old.file_type() != new.file_type() {
            return differs("the kind");
        }
        // Not every tool brings the root's own metadata back.
        if !below.as_os_str().is_empty() && told(&old, has_fractions) != told(&new, has_fractions) {
            return differs("the mode, owner, time or count of names");
        }
        if old.is_symlink() {
            if fs::read_link(&one)? != fs::read_link(&other)? {
                return differs("the target");
            }
        } else if old.is_dir() {
            let names = names(&one)?;
            if names != self::names(&other)? {
                return differs("the list");
            }
            waiting.extend(names.iter().map(|name| below.join(name)));
        } else if old.is_file() && !same_content(&one, &other)? {
            return differs("the content");
        }
    }
    Ok(())
}

fn told(metadata: &fs::Metadata, has_fractions: bool) -> (u32, u32, u32, i64, i64, u64) {
    let fraction = if has_fractions { metadata.mtime_nsec() } else { 0 };
    // Of a folder the file system counts as it likes.
    let names = if metadata.is_dir() { 0 } else { metadata.nlink() };
    (metadata.mode(), metadata.uid(), metadata.gid(), metadata.mtime(), fraction, names)
}

fn same_content(one: &Path, other: &Path) -> io::Result<bool> {
    let (mut one, mut other) = (File::open(one)?, File::open(other)?);
    let mut buffers = [vec![0; COMPARED_BYTES], vec![0; COMPARED_BYTES]];
    loop {
        let lengths = [fill(&mut one, &mut buffers[0])?, fill(&mut other, &mut buffers[1])?];
        if lengths[0] != lengths[1] || buffers[0][..lengths[0]] != buffers[1][..lengths[1]] {
            return Ok(false);
        }
        if lengths[0] == 0 {
            return Ok(true);
        }
    }
}

/// Reads until the buffer is full or the file ends.
fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match file.read(&mut buffer[length..])? {
            0 => break,
            more => length += more,
        }
    }
    Ok(length)
}
