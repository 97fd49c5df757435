//! How an object is created so that it fails where its key is taken, and how it is found out.
//!
//! A hard link refuses a name that is taken, on every file system that has any. Where a protocol
//! has none, the object becomes a folder: no file system lets a folder replace one that is not
//! empty, and the servers that were looked at pass that on. A server that renames by looking first
//! and moving then would let two win, so a mere rename of a file is never trusted to refuse.

use crate::backend::KEYS;
use crate::backend::files::CONTENT;
use crate::backend::files::GONE;
use crate::backend::files::SIGN;
use crate::backend::files::STAGED;
use crate::backend::files::TEMPORARY;
use crate::backend::files::below;
use crate::backend::files::is_lost;
use crate::backend::files::random_name;
use crate::backend::foreign::is_of_a_system;
use crate::backend::foreign::is_random;
use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::metadata::Kind;
use crate::base::path::display;
use crate::net::files::Files;
use crate::net::files::Found;

/// Names the file that says the way, before the sign.
const WAY: &str = "way";
/// Names the folder that must not be replaced, before the sign.
const TAKEN: &str = "taken";
/// Longest content of the mark.
const MARK_BYTES_MAX: usize = 64;

/// How a repository creates objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By hard links.
    Link,
    /// By renaming folders.
    Folder,
    /// Not at all: class B of the protocol.
    Nothing,
    /// By links, and this server makes none: it can be read here and not written.
    Closed,
}

impl Way {
    /// What the mark says; a repository made by links has none.
    fn mark(self) -> Option<&'static [u8]> {
        match self {
            Way::Folder => Some(b"folder\n"),
            Way::Nothing => Some(b"nothing\n"),
            Way::Link | Way::Closed => None,
        }
    }
}

/// Says whether a name of the top folder, without its sign, is one of those kept here.
pub(super) fn is_mark(name: &str) -> bool {
    name == WAY || name == TAKEN
}

fn mark_place(root: &[u8]) -> Vec<u8> {
    below(root, &format!("{WAY}{SIGN}"))
}

fn taken_place(root: &[u8]) -> Vec<u8> {
    below(root, &format!("{TAKEN}{SIGN}"))
}

fn content_of(folder: &[u8]) -> Vec<u8> {
    [folder, b"/", CONTENT.as_bytes()].concat()
}

/// Says whether a path is a folder, or a link, which may lead to one. The folder of the login is.
pub(super) fn is_folder(files: &mut dyn Files, path: &[u8]) -> Result<bool> {
    if path.is_empty() || path == b"/" {
        return Ok(true);
    }
    let look = files.look_at(path)?;
    Ok(look.is_some_and(|look| matches!(look.kind, Kind::Directory | Kind::Symlink)))
}

/// Makes a folder, or finds it made by somebody else.
pub(super) fn make_folder(files: &mut dyn Files, path: &[u8]) -> Result<()> {
    match files.make_folder(path) {
        Err(e) if e.kind() == ErrorKind::AlreadyExists && is_folder(files, path)? => Ok(()),
        other => other,
    }
}

/// Makes a folder and those above it. They are tried from the deepest up, as those far above may
/// be hidden from this user.
fn make_folders(files: &mut dyn Files, path: &[u8]) -> Result<()> {
    let mut missing: Vec<&[u8]> = Vec::new();
    let mut next = path;
    loop {
        if next.is_empty() || next == b"/" {
            break;
        }
        match make_folder(files, next) {
            Ok(()) => break,
            Err(e) if e.kind() == ErrorKind::NotFound => missing.push(next),
            Err(e) => return Err(e),
        }
        let end = next.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
        next = &next[..end];
    }
    missing.into_iter().rev().try_for_each(|folder| make_folder(files, folder))
}

/// Writes a whole file, and makes sure that the server has all of it. What came of one that is
/// refused is taken away: it may be a full disk that it is on.
pub(super) fn write(files: &mut dyn Files, path: &[u8], bytes: &[u8]) -> Result<()> {
    files.create(path)?;
    let written = files.write(bytes).and_then(|()| files.finish());
    if written.as_ref().is_err_and(|e| !is_lost(e)) {
        // What failed is the error to report; what stays is garbage where garbage may lie.
        let _ = files.remove(path);
    }
    written
}

/// Makes a folder that holds an object's bytes.
pub(super) fn stage(files: &mut dyn Files, folder: &[u8], bytes: &[u8]) -> Result<()> {
    files.make_folder(folder)?;
    write(files, &content_of(folder), bytes)
}

/// Removes such a folder, or what there is of it.
pub(super) fn discard(files: &mut dyn Files, folder: &[u8]) -> Result<()> {
    files.remove(&content_of(folder))?;
    files.remove_folder(folder)
}

/// Finds out how a repository that is there creates objects.
pub(super) fn find(files: &mut dyn Files, root: &[u8], location: &str) -> Result<Way> {
    match read_mark(files, root)? {
        Some(mark) => [Way::Folder, Way::Nothing]
            .into_iter()
            .find(|way| way.mark() == Some(mark.as_slice()))
            .ok_or_else(|| {
                let place = display(&mark_place(root));
                let message = format!("{place} in {location} says nothing that is known");
                Error::new(ErrorKind::Unsupported, message)
                    .hint("a newer version may have made this repository")
            }),
        None if !is_folder(files, root)? => {
            let message = format!("there is no folder at {location}");
            Err(Error::new(ErrorKind::NotFound, message))
        }
        None if files.abilities().link => Ok(Way::Link),
        None => Ok(Way::Closed),
    }
}

fn read_mark(files: &mut dyn Files, root: &[u8]) -> Result<Option<Vec<u8>>> {
    let mut bytes = vec![0; MARK_BYTES_MAX];
    match files.open(&mark_place(root), 0) {
        Ok(()) => {}
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    }
    let got = files.read_at(0, &mut bytes)?;
    files.close()?;
    bytes.truncate(got);
    Ok(Some(bytes))
}

/// Makes the folder of a repository, and decides how it creates objects when it is new. Returns
/// whether that was seen to work, too.
pub(super) fn prepare(files: &mut dyn Files, root: &[u8], location: &str) -> Result<(Way, bool)> {
    make_folders(files, root)?;
    // Nothing is made in a folder of somebody else's.
    let is_foreign = foreign(files, root)?.is_some();
    if !is_foreign {
        make_folder(files, &below(root, TEMPORARY))?;
    }
    if is_foreign || read_mark(files, root)?.is_some() {
        return find(files, root, location).map(|way| (way, false));
    }
    let way = choose(files, root)?;
    if let Some(mark) = way.mark() {
        let temporary = below(root, &random_name("")?);
        write(files, &temporary, mark)?;
        files.rename(&temporary, &mark_place(root))?;
    }
    Ok((way, true))
}

/// Returns the name of something that was there before any repository.
pub(super) fn foreign(files: &mut dyn Files, root: &[u8]) -> Result<Option<String>> {
    let marks = [WAY, TAKEN].map(|name| format!("{name}{SIGN}").into_bytes());
    let (mut folders, mut found) = (Vec::new(), None);
    files.list(root, &mut |Found { name, .. }| {
        let is_ours = [TEMPORARY, KEYS].into_iter().find(|ours| ours.as_bytes() == name);
        folders.extend(is_ours);
        if is_ours.is_none() && !marks.contains(&name) && !is_of_a_system(&name) {
            found.get_or_insert(display(&name));
        }
        Ok(())
    })?;
    for folder in folders {
        if found.is_some() {
            break;
        }
        let listed = files.list(&below(root, folder), &mut |Found { name, .. }| {
            if !is_named_by_us(&name) && !is_of_a_system(&name) {
                found.get_or_insert(format!("{folder}/{}", display(&name)));
            }
            Ok(())
        });
        match listed {
            Err(e) if is_lost(&e) => return Err(e),
            // Another creation may be under way, and end.
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            // What cannot be listed is none of our folders.
            Err(_) => found = Some(folder.to_owned()),
            Ok(()) => {}
        }
    }
    Ok(found)
}

/// Says whether a name in `tmp`, or that of a password slot, is one of ours.
fn is_named_by_us(name: &[u8]) -> bool {
    let name = name.strip_suffix(SIGN.as_bytes()).unwrap_or(name);
    let starts = [STAGED, GONE].map(str::as_bytes);
    let random = starts.iter().find_map(|start| name.strip_prefix(*start)).unwrap_or(name);
    is_random(random)
}

fn choose(files: &mut dyn Files, root: &[u8]) -> Result<Way> {
    if files.abilities().link && links_refuse(files, root)? {
        return Ok(Way::Link);
    }
    let staged = below(root, &random_name(STAGED)?);
    let moved = below(root, &random_name(STAGED)?);
    let works = works_by_folder(files, root, &staged, &moved);
    let discarded = discard(files, &staged).and_then(|()| discard(files, &moved));
    let works = works?;
    discarded?;
    Ok(if works { Way::Folder } else { Way::Nothing })
}

fn works_by_folder(
    files: &mut dyn Files,
    root: &[u8],
    staged: &[u8],
    moved: &[u8],
) -> Result<bool> {
    stage(files, staged, b"probe")?;
    // What is refused must be so for being taken: elsewhere it works.
    Ok(is_refused(files, root, staged)? && moves(files, staged, moved)?)
}

fn links_refuse(files: &mut dyn Files, root: &[u8]) -> Result<bool> {
    let [one, name] = [below(root, &random_name("")?), below(root, &random_name("")?)];
    write(files, &one, b"probe")?;
    let mut refuses = true;
    for is_first in [true, false] {
        match files.link(&one, &name) {
            Ok(()) => refuses &= is_first,
            Err(e) if is_lost(&e) => return Err(e),
            Err(e) => refuses &= !is_first && e.kind() == ErrorKind::AlreadyExists,
        }
    }
    files.remove(&one)?;
    files.remove(&name)?;
    Ok(refuses)
}

fn moves(files: &mut dyn Files, from: &[u8], to: &[u8]) -> Result<bool> {
    match files.rename(from, to) {
        Err(e) if is_lost(&e) => Err(e),
        Err(_) => Ok(false),
        Ok(()) => Ok(files.look_at(&content_of(to))?.is_some()),
    }
}

/// Says whether the server refuses to put a folder in the place of one that is not empty. The
/// folder that is tried with stays where it is then.
fn is_refused(files: &mut dyn Files, root: &[u8], staged: &[u8]) -> Result<bool> {
    let taken = taken_place(root);
    make_folder(files, &taken)?;
    if files.look_at(&content_of(&taken))?.is_none() {
        write(files, &content_of(&taken), b"taken")?;
    }
    match files.rename(staged, &taken) {
        Ok(()) => Ok(false),
        Err(e) if is_lost(&e) => Err(e),
        Err(_) => both_stay(files, staged, &taken),
    }
}

fn both_stay(files: &mut dyn Files, staged: &[u8], taken: &[u8]) -> Result<bool> {
    let stays = files.look_at(&content_of(staged))?.is_some();
    Ok(stays && files.look_at(&content_of(taken))?.is_some())
}

/// Says whether the server refuses with the folder that another process has made for that: in as
/// few round trips as that takes. False where it does not, or that folder is not there.
fn stays_refused(files: &mut dyn Files, root: &[u8], staged: &[u8]) -> Result<bool> {
    let taken = taken_place(root);
    match files.rename(staged, &taken) {
        Ok(()) => {
            // Nothing was there, or it was replaced: back to where it was, to find out which.
            files.rename(&taken, staged)?;
            Ok(false)
        }
        Err(e) if is_lost(&e) => Err(e),
        Err(_) => both_stay(files, staged, &taken),
    }
}

/// Makes sure that this server, which may be another one than when the repository was made, still
/// refuses to replace a folder.
pub(super) fn prove(
    files: &mut dyn Files,
    root: &[u8],
    staged: &[u8],
    location: &str,
) -> Result<()> {
    if stays_refused(files, root, staged)? || is_refused(files, root, staged)? {
        return Ok(());
    }
    let message = format!("cannot write to {location}: the server replaces folders that are taken");
    Err(Error::new(ErrorKind::Unsupported, message)
        .hint("the repository was made on a server that does not; write to it through that one"))
}
