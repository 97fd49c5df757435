//! Floor 2: places for whole objects.
//!
//! A backend knows keys and bytes: no hashes, no datasets, no encryption. Objects are written
//! once, whole, and never changed. The contract stands at [`Backend`]; one suite in
//! `tests/it/backend.rs` holds every implementation to it.

use crate::backend::key::FolderKey;
use crate::backend::key::ObjectKey;
use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::time::Timestamp;
use std::ops::Range;

pub mod files;
mod foreign;
pub mod key;
pub mod local;
pub mod memory;
pub mod s3;
pub mod wrap;

/// The folder of password slots: a creation that died has left what is in it.
const KEYS: &str = "keys";

/// What a backend can do beyond put, get, list and delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Whether `put_new` is an atomic create that carries content: class A of the protocol.
    /// Without it the repository uses class B and never calls `put_new`.
    pub atomic_create: bool,
    /// How many requests at a time are of use.
    pub parallel: usize,
    /// How many packs it is worth to have on their way at a time: one where a put is as quick as
    /// the machine, more where each waits for a round trip. Each holds its pack in memory.
    pub uploads: usize,
    /// What a power cut of the store may take back of what was put.
    pub durability: Durability,
}

/// What a power cut of a store may take back of what was put there, whatever the contract asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Nothing.
    Whole,
    /// Names of the last seconds: what is in an object was made durable.
    Content,
    /// Objects of the last half minute or so, until the machine there has written them to its disk.
    Nothing,
}

impl Capabilities {
    /// Returns how many requests it is worth to have under way for somebody who could make them
    /// one after the other: one where an answer is as quick as the machine.
    pub fn ahead(&self) -> usize {
        if self.uploads > 1 { self.parallel.max(1) } else { 1 }
    }
}

/// One row of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listed {
    /// An object directly in the folder.
    Object(ObjectInfo),
    /// A folder directly in the folder that holds, or once held, objects.
    Folder(FolderKey),
}

/// An object as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its key.
    pub key: ObjectKey,
    /// Its size in bytes, where a listing tells it: an object that is kept as a folder shows none,
    /// and [`Backend::stat`] does.
    pub size: Option<u64>,
    /// When it was put, by the store's own clock, where the store tells.
    pub modified: Option<Timestamp>,
}

/// A place for whole objects.
///
/// Contract:
/// - `put` is atomic and durable when it returns: a later `get`, `stat` and `list`, from any
///   machine and after a power cut, shows the whole object. A reader never sees a part of it. How
///   far a store falls short of the power cut says [`Capabilities::durability`].
///   Putting the same key again with the same bytes is success.
/// - `put_new` does the same, but fails with `AlreadyExists` when the key is taken; of many
///   that race, exactly one wins. Only with [`Capabilities::atomic_create`].
/// - What is shown may not be durable until its `put` has returned; see [`Backend::settle`].
///   Without an atomic create it may not even be found yet, though a listing shows it.
/// - `get` of a missing key is `NotFound`; `delete` of one is success.
/// - `list` shows every object that was put before it began and not deleted, exactly once, or
///   fails: an error is an error, never a shorter list. A missing folder is an empty list.
/// - Everything may be called from many threads.
pub trait Backend: Send + Sync {
    /// Returns where it is, without credentials: safe to print.
    fn location(&self) -> String;

    /// Says what it can do.
    fn capabilities(&self) -> Capabilities;

    /// Stores a whole object.
    ///
    /// # Errors
    /// `Full`, `Denied`, `Unreachable`, ...; the object is then not visible, or whole.
    fn put(&self, key: &ObjectKey, bytes: &[u8]) -> Result<()>;

    /// Stores a whole object unless the key is taken.
    ///
    /// # Errors
    /// `AlreadyExists` when the key is taken; `Unsupported` without an atomic create.
    fn put_new(&self, key: &ObjectKey, bytes: &[u8]) -> Result<()>;

    /// Returns a whole object, which may be at most `bytes_max` long.
    ///
    /// # Errors
    /// `NotFound`; `Corrupt` when the object is longer than `bytes_max`.
    fn get(&self, key: &ObjectKey, bytes_max: usize) -> Result<Vec<u8>>;

    /// Returns a stretch of an object, exactly as long as asked.
    ///
    /// # Errors
    /// `NotFound`; `Corrupt` when the object ends before the stretch does.
    fn get_range(&self, key: &ObjectKey, range: Range<u64>) -> Result<Vec<u8>>;

    /// Returns an object's size in bytes, or None when it is not there.
    ///
    /// # Errors
    /// As the store says.
    fn stat(&self, key: &ObjectKey) -> Result<Option<u64>>;

    /// Shows what is directly in a folder, in any order.
    ///
    /// # Errors
    /// As the store says, or as `visit` says, which ends the listing.
    fn list(&self, folder: &FolderKey, visit: &mut dyn FnMut(Listed) -> Result<()>) -> Result<()>;

    /// Shows what is directly in a folder like [`Backend::list`], and may leave out size and time
    /// where they are asked of each object alone.
    ///
    /// # Errors
    /// As [`Backend::list`].
    fn list_names(
        &self,
        folder: &FolderKey,
        visit: &mut dyn FnMut(Listed) -> Result<()>,
    ) -> Result<()> {
        self.list(folder, visit)
    }

    /// Whether [`Backend::list_deep`] is offered.
    fn lists_deep(&self) -> bool {
        false
    }

    /// Returns every object below a folder, at any depth, by fewer requests or at a time: where
    /// each folder costs a round trip.
    ///
    /// # Errors
    /// As [`Backend::list`]; `Unsupported` where it is not offered.
    fn list_deep(&self, folder: &FolderKey) -> Result<Vec<ObjectInfo>> {
        let message = format!("{} lists folder by folder", self.location());
        Err(Error::new(ErrorKind::Unsupported, format!("cannot list {folder}: {message}")))
    }

    /// Returns the name of something, seen or hidden by [`Backend::list`], that keeps a repository
    /// from being made here: what is no system's, and not left by a creation that died.
    ///
    /// # Errors
    /// As [`Backend::list`].
    fn foreign(&self) -> Result<Option<String>> {
        let mut found = None;
        self.list(&FolderKey::top(), &mut |listed| {
            let name = match &listed {
                Listed::Object(object) => object.key.name(),
                Listed::Folder(folder) => folder.name(),
            };
            if name != KEYS {
                found.get_or_insert(name.to_owned());
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// Makes durable all that this backend has shown so far, whoever put it: on some stores an
    /// object is shown a moment before it is durable, and who put it may have died just then.
    /// To be called before anything is promised or deleted that leans on what was shown. Does
    /// nothing where only what is durable is shown.
    ///
    /// # Errors
    /// As the store says; then nothing may be promised.
    fn settle(&self) -> Result<()> {
        Ok(())
    }

    /// Removes an object for good.
    ///
    /// # Errors
    /// As the store says; a missing object is success.
    fn delete(&self, key: &ObjectKey) -> Result<()>;

    /// Sets a little space aside for a prune that finds no room, where the store can; does
    /// nothing when some is set aside already.
    ///
    /// # Errors
    /// As the store says.
    fn keep_reserve(&self) -> Result<()> {
        Ok(())
    }

    /// Gives up the space that was set aside; says whether there was any.
    ///
    /// # Errors
    /// As the store says.
    fn release_reserve(&self) -> Result<bool> {
        Ok(false)
    }

    /// Removes what writers that died have left unfinished, if it is over a day old by the
    /// store's own clock. Returns how many bytes that freed.
    ///
    /// # Errors
    /// As the store says.
    fn sweep(&self) -> Result<u64> {
        Ok(0)
    }
}

/// Returns the size of an object that was listed, asked for where the listing does not tell it.
/// None when it went away since.
///
/// # Errors
/// Those of [`Backend::stat`].
pub fn size_of(backend: &dyn Backend, object: &ObjectInfo) -> Result<Option<u64>> {
    match object.size {
        Some(size) => Ok(Some(size)),
        None => backend.stat(&object.key),
    }
}

/// Returns every object below a folder, at any depth: for folders of which all is held in memory
/// anyway.
///
/// # Errors
/// Those of [`Backend::list`].
pub fn all_below(backend: &dyn Backend, folder: &FolderKey) -> Result<Vec<ObjectInfo>> {
    gather(backend, folder, &|folder, visit| backend.list(folder, visit))
}

/// Returns every object below a folder like [`all_below`], maybe without sizes and times: for
/// folders that hold a hundred thousand names, and who asks for no more.
///
/// # Errors
/// Those of [`Backend::list_names`].
pub fn names_below(backend: &dyn Backend, folder: &FolderKey) -> Result<Vec<ObjectInfo>> {
    gather(backend, folder, &|folder, visit| backend.list_names(folder, visit))
}

/// Shows every object below a folder, at any depth.
///
/// # Errors
/// Those of [`Backend::list`].
pub fn list_all(
    backend: &dyn Backend,
    folder: &FolderKey,
    visit: &mut dyn FnMut(ObjectInfo) -> Result<()>,
) -> Result<()> {
    walk(folder, &|folder, visit| backend.list(folder, visit), visit)
}

/// Lists one folder.
type List<'a> = dyn Fn(&FolderKey, &mut dyn FnMut(Listed) -> Result<()>) -> Result<()> + 'a;

fn gather(backend: &dyn Backend, folder: &FolderKey, list: &List<'_>) -> Result<Vec<ObjectInfo>> {
    if backend.lists_deep() {
        return backend.list_deep(folder);
    }
    let mut objects = Vec::new();
    walk(folder, list, &mut |object| {
        objects.push(object);
        Ok(())
    })?;
    Ok(objects)
}

fn walk(
    folder: &FolderKey,
    list: &List<'_>,
    visit: &mut dyn FnMut(ObjectInfo) -> Result<()>,
) -> Result<()> {
    let mut folders = vec![folder.clone()];
    while let Some(next) = folders.pop() {
        list(&next, &mut |listed| match listed {
            Listed::Object(object) => visit(object),
            Listed::Folder(below) => {
                folders.push(below);
                Ok(())
            }
        })?;
    }
    Ok(())
}
