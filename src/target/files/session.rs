//! What is done with one session, in one go, and may be done again on another.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::metadata::Kind;
use crate::base::path::display;
use crate::net::files::Files;
use crate::net::files::Marked;
use crate::target::files::joined;
use crate::target::files::place::Wish;
use crate::target::spool::Spool;
use std::path::Path;

/// Bytes read at a time of a file that is fetched.
const FETCH_BYTES: usize = 256 * 1024;

/// Acts where the server can.
pub(super) fn able(can: bool, act: impl FnOnce() -> Result<()>) -> Result<()> {
    if can { act() } else { Err(Error::new(ErrorKind::Unsupported, "the server cannot")) }
}

/// Writes a file that is not there whole, and gives it what it is to have where that needs no owner first; says how
/// that went.
pub(super) fn upload(
    files: &mut dyn Files,
    way: &[u8],
    spool: &Spool,
    wish: Option<Wish>,
) -> Result<Option<Marked>> {
    files.create_new(way)?;
    spool.pieces(&mut |piece| files.write(piece))?;
    match wish.and_then(|wish| wish.marks(files)) {
        Some((marks, proof)) => files.finish_with(way, marks, proof).map(Some),
        None => files.finish().map(|()| None),
    }
}

/// Reads a file of the server whole.
pub(super) fn fetch(
    files: &mut dyn Files,
    way: &[u8],
    spool: &mut Spool,
    scratch: &Path,
) -> Result<()> {
    files.open(way, 0)?;
    let mut buffer = vec![0; FETCH_BYTES];
    let mut at = 0;
    loop {
        let count = files.read_at(at, &mut buffer)?;
        spool.write_at(at, &buffer[..count], scratch)?;
        at += count as u64;
        if count < buffer.len() {
            return files.close();
        }
    }
}

/// Removes what is listed as a folder if it is a link that the server shows as what it leads to, or
/// empty; says whether it did. A server takes a link away as a file, and refuses a folder.
pub(super) fn remove_if_link(files: &mut dyn Files, way: &[u8]) -> Result<bool> {
    if files.reads_links() {
        return Ok(false);
    }
    match files.remove(way) {
        // "Not found" is success, and some say so of a folder.
        Ok(()) => Ok(files.look_at(way)?.is_none()),
        Err(e) if has_passed_by(&e) => Err(e),
        Err(_) => match files.remove_folder(way) {
            // It was empty, or a link of Windows, which goes as a folder does.
            Ok(()) => Ok(files.look_at(way)?.is_none()),
            Err(e) if has_passed_by(&e) => Err(e),
            // Whether it is full or may not go is not told by all: of vsftpd it is one answer.
            Err(_) => Ok(false),
        },
    }
}

/// Says of an error that it tells nothing of what it met.
fn has_passed_by(error: &Error) -> bool {
    use ErrorKind::{Busy, Cancelled, RateLimited, Unreachable};
    matches!(error.kind(), Busy | Cancelled | RateLimited | Unreachable)
}

/// Removes a folder with all below it, and no link is gone through: what is behind one is to stay.
/// Where a server shows links as what they lead to, each folder is tried as a link first; one that
/// leads to a folder above and could not be removed so has that one's tag. `above` has those of the
/// folders that `way` is in.
pub(super) fn remove_below(
    files: &mut dyn Files,
    way: &[u8],
    tag: &[u8],
    above: &[Vec<u8>],
) -> Result<()> {
    let mut folders = vec![(way.to_vec(), tag.to_vec(), false)];
    while let Some((folder, tag, is_empty)) = folders.pop() {
        if is_empty {
            files.remove_folder(&folder)?;
            continue;
        }
        if remove_if_link(files, &folder)? {
            continue;
        }
        let is_within = folders.iter().any(|(_, other, is_open)| *is_open && *other == tag);
        if !tag.is_empty() && (is_within || above.contains(&tag)) {
            let shown = display(&folder);
            let message = format!("{shown} leads back to a folder that it is in, which stays");
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        folders.push((folder.clone(), tag, true));
        let mut others = Vec::new();
        let listed = files.list(&folder, &mut |found| {
            let below = joined(&folder, &found.name);
            match found.look.kind {
                Kind::Directory => folders.push((below, found.look.unique, false)),
                _ => others.push(below),
            }
            Ok(())
        });
        match listed {
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            listed => listed?,
        }
        others.iter().try_for_each(|other| files.remove(other))?;
    }
    Ok(())
}

/// Removes what a server lists in a folder. A name with the end of a line in it is shown as another
/// one, mostly with `?` for that: what is "not found" under that, which else is success, stays.
pub(super) fn remove_found(files: &mut dyn Files, folder: &[u8], name: &[u8]) -> Result<()> {
    files.remove(&joined(folder, name))?;
    if !name.contains(&b'?') {
        return Ok(());
    }
    let folder = if folder.is_empty() { b"." } else { folder };
    let mut is_there = false;
    files.list(folder, &mut |found| {
        is_there |= found.name == name;
        Ok(())
    })?;
    if !is_there {
        return Ok(());
    }
    let message = "the server lists it, and does not find it when it is to be removed";
    Err(Error::new(ErrorKind::Unsupported, message)
        .hint("its name may hold what the server shows as another character"))
}

/// Makes a folder, and those above it that are missing.
pub(super) fn make_with_parents(files: &mut dyn Files, way: &[u8]) -> Result<()> {
    let slashes = way.iter().enumerate().filter(|(at, byte)| **byte == b'/' && *at > 0);
    let ends: Vec<usize> = slashes.map(|(at, _)| at).chain([way.len()]).collect();
    // From below upwards until one can be made: a server may show less of what is further up.
    let mut first = ends.len();
    while first > 0 {
        first -= 1;
        match files.make_folder(&way[..ends[first]]) {
            Ok(()) => break,
            Err(e) if e.kind() == ErrorKind::AlreadyExists => break,
            Err(e) if e.kind() == ErrorKind::NotFound && first > 0 => {}
            Err(e) => return Err(e),
        }
    }
    for end in &ends[first + 1..] {
        match files.make_folder(&way[..*end]) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            other => other?,
        }
    }
    Ok(())
}
