//! Objects as they are read, listed and taken away: in either form, as a file or as a folder.

use crate::backend::Listed;
use crate::backend::ObjectInfo;
use crate::backend::files::CONTENT;
use crate::backend::files::FilesBackend;
use crate::backend::files::GONE;
use crate::backend::files::RESERVE;
use crate::backend::files::SIGN;
use crate::backend::files::TEMPORARY;
use crate::backend::files::exact;
use crate::backend::files::is_file;
use crate::backend::files::is_lost;
use crate::backend::files::lock;
use crate::backend::files::random_name;
use crate::backend::files::way;
use crate::backend::files::way::Way;
use crate::backend::key::FolderKey;
use crate::backend::key::ObjectKey;
use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::limits::KIB;
use crate::base::limits::KNOWN_FOLDERS_MAX;
use crate::base::limits::MIB;
use crate::base::limits::REMOTE_NAMES_MAX;
use crate::base::metadata::Kind;
use crate::net::files::Files;
use crate::net::files::Found;
use std::collections::BTreeMap;
use std::ops::Range;

/// First room for an object whose size is not known; it grows with what comes.
const FIRST_BYTES: usize = 64 * KIB;
/// First room for a stretch: no more, as whoever asks may be wrong about the size.
const STRETCH_BYTES: usize = 16 * MIB;

/// Reads an object at a place.
type Read<'a, T> = dyn Fn(&mut dyn Files, &[u8]) -> Result<T> + 'a;

/// Appends what follows of the open file to `bytes`, up to `wanted` in all. Returns whether that
/// much came.
fn fill(
    files: &mut dyn Files,
    start: u64,
    wanted: u64,
    first: usize,
    bytes: &mut Vec<u8>,
) -> Result<bool> {
    while (bytes.len() as u64) < wanted {
        let have = bytes.len();
        let left = usize::try_from(wanted - have as u64).unwrap_or(usize::MAX);
        let step = left.min(have.max(first));
        bytes.resize(have + step, 0);
        let got = files.read_at(start + have as u64, &mut bytes[have..])?.min(step);
        bytes.truncate(have + got);
        if got < step {
            return Ok(false);
        }
    }
    Ok(true)
}

impl FilesBackend {
    /// Returns where an object may be, the likelier place first.
    pub(super) fn forms(&self, key: &ObjectKey) -> Result<Vec<Vec<u8>>> {
        let mut places = vec![self.place(key.as_str())?];
        if self.way == Way::Folder {
            places.push(self.content_place(key.as_str())?);
            // What stands right at the top was created once and for all, as its marks were.
            let is_at_top = key.folder() == FolderKey::top();
            if is_at_top || lock(&self.known_folders).contains(key) {
                places.reverse();
            }
        }
        Ok(places)
    }

    pub(super) fn no_size(&self, key: &ObjectKey) -> Error {
        let message = format!("{} does not tell the size of {key}", self.location);
        Error::new(ErrorKind::Unsupported, message)
    }

    fn missing(&self, key: &ObjectKey) -> Error {
        let message = format!("cannot read {key}: it is not in {}", self.location);
        Error::new(ErrorKind::NotFound, message)
    }

    /// Reads an object in the first form that is there.
    fn read_form<T>(
        &self,
        files: &mut dyn Files,
        key: &ObjectKey,
        read: &Read<'_, T>,
    ) -> Result<T> {
        for place in self.forms(key)? {
            match read(files, &place) {
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                Err(e) if is_lost(&e) || e.kind() == ErrorKind::Corrupt => return Err(e),
                // A server has many words for a folder that is asked for its bytes.
                Err(e) => match files.look_at(&place)? {
                    Some(look) if look.kind != Kind::Directory => return Err(e),
                    _ => {}
                },
                done => return done,
            }
        }
        self.check_root(files)?;
        Err(self.missing(key))
    }

    pub(super) fn get_whole(&self, key: &ObjectKey, bytes_max: usize) -> Result<Vec<u8>> {
        let read = |files: &mut dyn Files, place: &[u8]| {
            files.open(place, 0)?;
            let mut bytes = Vec::new();
            // One byte more than allowed tells that it is too long.
            let wanted = (bytes_max as u64).saturating_add(1);
            fill(files, 0, wanted, FIRST_BYTES, &mut bytes)?;
            files.close()?;
            if bytes.len() > bytes_max {
                let message = format!("cannot read {key}: it is over {bytes_max} bytes");
                return Err(Error::corrupt(message));
            }
            Ok(bytes)
        };
        self.pool.repeatable(|files| self.read_form(files, key, &read))
    }

    pub(super) fn get_stretch(&self, key: &ObjectKey, range: Range<u64>) -> Result<Vec<u8>> {
        if range.start > range.end {
            return Err(Error::invalid(format!("cannot read {key}: the stretch is reversed")));
        }
        let ends_early =
            || Error::corrupt(format!("cannot read {key}: it ends before {}", range.end));
        let length = range.end - range.start;
        let read = |files: &mut dyn Files, place: &[u8]| {
            let mut bytes = Vec::new();
            let is_whole = if length == 0 {
                // There is nothing to read that would tell whether it ends before.
                let look = files.look_at(place)?.filter(is_file);
                look.ok_or_else(|| self.missing(key))?.size.is_some_and(|it| it >= range.end)
            } else {
                match files.open(place, range.start) {
                    Ok(()) => {}
                    // Some servers refuse to begin behind the end.
                    Err(e) if range.start > 0 && !is_lost(&e) => {
                        let size = files.look_at(place)?.filter(is_file).and_then(|it| it.size);
                        let is_behind = size.is_some_and(|size| size < range.end);
                        return Err(if is_behind { ends_early() } else { e });
                    }
                    Err(e) => return Err(e),
                }
                let is_whole = fill(files, range.start, length, STRETCH_BYTES, &mut bytes)?;
                files.close()?;
                is_whole
            };
            if is_whole { Ok(bytes) } else { Err(ends_early()) }
        };
        self.pool.repeatable(|files| self.read_form(files, key, &read))
    }

    /// Returns what is directly in a folder; nothing when it is missing.
    pub(super) fn rows(&self, files: &mut dyn Files, folder: &FolderKey) -> Result<Vec<Listed>> {
        let first = folder.as_str().split('/').next().unwrap_or_default();
        if first == TEMPORARY || first == RESERVE {
            return Ok(Vec::new());
        }
        let path = if *folder == FolderKey::top() {
            self.root.clone()
        } else {
            self.path(folder.as_str())
        };
        let mut found = Vec::new();
        let listed = files.list(&path, &mut |row| {
            if found.len() >= REMOTE_NAMES_MAX {
                return Err(Error::corrupt(format!("the list of {folder} does not end")));
            }
            found.push(row);
            Ok(())
        });
        match listed {
            Ok(()) => {
                self.remember_folder(folder);
                self.keep_keys(files, folder, found)
            }
            Err(e) if is_lost(&e) || e.kind() == ErrorKind::Corrupt => Err(e),
            // Whoever makes it meanwhile has put nothing into it before this began.
            Err(e) if e.kind() == ErrorKind::NotFound => {
                self.check_root(files).map(|()| Vec::new())
            }
            Err(e) => match files.look_at(&path)? {
                None => self.check_root(files).map(|()| Vec::new()),
                Some(look) if is_file(&look) => Ok(Vec::new()),
                Some(_) => Err(e),
            },
        }
    }

    /// Makes rows of what is a key's, each key once, and leaves out what is foreign.
    fn keep_keys(
        &self,
        files: &mut dyn Files,
        folder: &FolderKey,
        found: Vec<Found>,
    ) -> Result<Vec<Listed>> {
        let mut rows: BTreeMap<String, Listed> = BTreeMap::new();
        for Found { name, look } in found {
            let Ok(name) = String::from_utf8(name) else { continue };
            let (plain, is_signed) = match name.strip_suffix(SIGN) {
                Some(plain) => (plain, true),
                None => (name.as_str(), false),
            };
            let is_ours = *folder == FolderKey::top() && (plain == TEMPORARY || plain == RESERVE);
            let Ok(key) = folder.object(plain) else { continue };
            if plain.contains('/') || is_ours || is_signed && self.way != Way::Folder {
                continue;
            }
            let is_folder = match look.kind {
                Kind::Directory => true,
                Kind::Symlink if is_signed => continue,
                // Somebody may have put a part of it on another disk; a list that leaves it out
                // would be shorter than it is.
                Kind::Symlink => self.leads_to_folder(files, key.as_str())?,
                Kind::File => false,
                Kind::Fifo | Kind::CharDevice | Kind::BlockDevice | Kind::Socket => continue,
            };
            let is_top_mark = *folder == FolderKey::top() && way::is_mark(plain);
            match (is_folder, is_signed) {
                (true, true) if is_top_mark => {}
                (true, true) => {
                    self.remember(&key);
                    let modified = exact(&look);
                    let object = Listed::Object(ObjectInfo { key, size: None, modified });
                    rows.entry(plain.to_owned()).or_insert(object);
                }
                (true, false) => {
                    let below = folder.folder(plain)?;
                    self.remember_folder(&below);
                    let below = Listed::Folder(below);
                    rows.entry(plain.to_owned()).or_insert(below);
                }
                (false, true) => {}
                (false, false) if look.kind == Kind::Symlink => {}
                (false, false) => {
                    let modified = exact(&look);
                    let object = Listed::Object(ObjectInfo { key, size: look.size, modified });
                    rows.insert(plain.to_owned(), object);
                }
            }
        }
        Ok(rows.into_values().collect())
    }

    fn leads_to_folder(&self, files: &mut dyn Files, key: &str) -> Result<bool> {
        match files.list(&self.path(key), &mut |_| Ok(())) {
            Ok(()) => Ok(true),
            Err(e) if is_lost(&e) => Err(e),
            Err(_) => Ok(false),
        }
    }

    fn remember(&self, key: &ObjectKey) {
        let mut known = lock(&self.known_folders);
        if known.len() >= KNOWN_FOLDERS_MAX {
            known.clear();
        }
        known.insert(key.clone());
    }

    /// Takes an object away that is a folder: in one step, so that no half of it is ever shown.
    pub(super) fn delete_folder(&self, files: &mut dyn Files, key: &ObjectKey) -> Result<()> {
        let folder = self.folder_place(key.as_str())?;
        let gone = self.path(&random_name(GONE)?);
        for _ in 0..2 {
            match files.rename(&folder, &gone) {
                // What stays of it is garbage, where garbage may lie.
                Ok(()) => return way::discard(files, &gone).or_else(forgive),
                Err(e) if is_lost(&e) => return Err(e),
                Err(e) => {
                    let content = self.content_place(key.as_str())?;
                    if files.look_at(&content)?.is_none() {
                        return Ok(());
                    }
                    if e.kind() != ErrorKind::NotFound {
                        return Err(e);
                    }
                    way::make_folder(files, &self.path(TEMPORARY))?;
                }
            }
        }
        Err(Error::bug(format!("{CONTENT} of {key} is there and cannot be found")))
    }
}

/// Passes over a failure to tidy up, but for a lost session.
fn forgive(e: Error) -> Result<()> {
    if is_lost(&e) { Err(e) } else { Ok(()) }
}
