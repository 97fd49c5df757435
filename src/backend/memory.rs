//! Objects in memory, for tests and examples; stricter than real backends.
//!
//! Why stricter: what works here must work everywhere. So it refuses what no backend has to bear
//! (other bytes under a taken key, a key that is an object and a folder at once), lists in
//! reverse order, keeps folders whose objects are gone, and shows as `modified` a mere counter.

use crate::backend::Backend;
use crate::backend::Capabilities;
use crate::backend::Durability;
use crate::backend::Listed;
use crate::backend::ObjectInfo;
use crate::backend::key::FolderKey;
use crate::backend::key::ObjectKey;
use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::time::Timestamp;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::ops::Bound;
use std::ops::Range;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;

/// Requests at a time that tests shall try.
const PARALLEL: usize = 8;

/// A map of objects.
///
/// ```
/// use icecore::backend::{Backend, key::ObjectKey, memory::MemoryBackend};
/// let backend = MemoryBackend::new();
/// let key = ObjectKey::new("packs/ab/abcd").unwrap();
/// backend.put(&key, b"bytes").unwrap();
/// assert_eq!(backend.get(&key, 100).unwrap(), b"bytes");
/// ```
#[derive(Debug)]
pub struct MemoryBackend {
    atomic_create: bool,
    state: Mutex<State>,
}

#[derive(Clone, Debug, Default)]
struct State {
    objects: BTreeMap<ObjectKey, Stored>,
    folders: BTreeSet<FolderKey>,
    puts: i64,
}

#[derive(Clone, Debug)]
struct Stored {
    bytes: Arc<Vec<u8>>,
    modified: Timestamp,
}

impl Default for MemoryBackend {
    fn default() -> Self {
        MemoryBackend::new()
    }
}

impl MemoryBackend {
    /// Makes an empty one with an atomic create: class A.
    pub fn new() -> Self {
        MemoryBackend::with_atomic_create(true)
    }

    /// Makes an empty one, of class A or of class B.
    pub fn with_atomic_create(atomic_create: bool) -> Self {
        MemoryBackend { atomic_create, state: Mutex::default() }
    }

    /// Returns all objects, for tests to look at and to damage.
    pub fn objects(&self) -> BTreeMap<ObjectKey, Vec<u8>> {
        let state = self.lock();
        state.objects.iter().map(|(key, stored)| (key.clone(), stored.bytes.to_vec())).collect()
    }

    /// Puts bytes under a key whatever is there: damage, for tests.
    pub fn insert_raw(&self, key: &ObjectKey, bytes: Vec<u8>) {
        self.lock().insert(key, bytes);
    }

    /// Takes an object away, and says whether there was one: loss, for tests.
    pub fn remove_raw(&self, key: &ObjectKey) -> bool {
        self.lock().objects.remove(key).is_some()
    }

    /// Returns an independent copy of all that is there: what a crash at this moment leaves.
    pub fn clone_state(&self) -> Self {
        MemoryBackend { atomic_create: self.atomic_create, state: Mutex::new(self.lock().clone()) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn find(&self, key: &ObjectKey) -> Result<Arc<Vec<u8>>> {
        let state = self.lock();
        match state.objects.get(key) {
            Some(stored) => Ok(Arc::clone(&stored.bytes)),
            None => Err(failed(ErrorKind::NotFound, "read", key, "no such object")),
        }
    }
}

impl State {
    fn insert(&mut self, key: &ObjectKey, bytes: Vec<u8>) {
        let mut folder = key.folder();
        while self.folders.insert(folder.clone()) && folder != FolderKey::top() {
            folder = folder_of(&folder);
        }
        self.puts += 1;
        let modified = Timestamp::new(self.puts, 0);
        self.objects.insert(key.clone(), Stored { bytes: Arc::new(bytes), modified });
    }

    /// Refuses what a file system could not hold.
    fn check_shape(&self, key: &ObjectKey) -> Result<()> {
        if FolderKey::new(key.as_str()).is_ok_and(|folder| self.folders.contains(&folder)) {
            return Err(failed(ErrorKind::InvalidInput, "store", key, "the key is a folder"));
        }
        let mut folder = key.folder();
        while folder != FolderKey::top() {
            if ObjectKey::new(folder.as_str()).is_ok_and(|part| self.objects.contains_key(&part)) {
                return Err(failed(ErrorKind::InvalidInput, "store", key, "a part is an object"));
            }
            folder = folder_of(&folder);
        }
        Ok(())
    }
}

/// Returns the folder that a folder is in; the top is in itself.
fn folder_of(folder: &FolderKey) -> FolderKey {
    match ObjectKey::new(folder.as_str()) {
        Ok(key) => key.folder(),
        Err(_) => FolderKey::top(),
    }
}

fn failed(kind: ErrorKind, doing: &str, key: &ObjectKey, why: &str) -> Error {
    Error::new(kind, format!("cannot {doing} object {key} in memory: {why}")).at(Origin::Repository)
}

impl Backend for MemoryBackend {
    fn location(&self) -> String {
        "memory:".to_owned()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            atomic_create: self.atomic_create,
            parallel: PARALLEL,
            uploads: 1,
            durability: Durability::Whole,
        }
    }

    fn put(&self, key: &ObjectKey, bytes: &[u8]) -> Result<()> {
        let mut state = self.lock();
        if let Some(stored) = state.objects.get(key) {
            if stored.bytes.as_slice() == bytes {
                return Ok(());
            }
            return Err(failed(ErrorKind::Bug, "store", key, "it has other bytes already"));
        }
        state.check_shape(key)?;
        state.insert(key, bytes.to_vec());
        Ok(())
    }

    fn put_new(&self, key: &ObjectKey, bytes: &[u8]) -> Result<()> {
        if !self.atomic_create {
            return Err(failed(ErrorKind::Unsupported, "create", key, "no atomic create here"));
        }
        let mut state = self.lock();
        if state.objects.contains_key(key) {
            return Err(failed(ErrorKind::AlreadyExists, "create", key, "it exists"));
        }
        state.check_shape(key)?;
        state.insert(key, bytes.to_vec());
        Ok(())
    }

    fn get(&self, key: &ObjectKey, bytes_max: usize) -> Result<Vec<u8>> {
        let bytes = self.find(key)?;
        if bytes.len() > bytes_max {
            return Err(failed(ErrorKind::Corrupt, "read", key, "it is longer than it may be"));
        }
        Ok(bytes.to_vec())
    }

    fn get_range(&self, key: &ObjectKey, range: Range<u64>) -> Result<Vec<u8>> {
        if range.start > range.end {
            return Err(failed(ErrorKind::InvalidInput, "read", key, "the stretch is reversed"));
        }
        let bytes = self.find(key)?;
        let start = usize::try_from(range.start).unwrap_or(usize::MAX);
        let end = usize::try_from(range.end).unwrap_or(usize::MAX);
        match bytes.get(start..end) {
            Some(stretch) => Ok(stretch.to_vec()),
            None => Err(failed(ErrorKind::Corrupt, "read", key, "it ends too early")),
        }
    }

    fn stat(&self, key: &ObjectKey) -> Result<Option<u64>> {
        Ok(self.lock().objects.get(key).map(|stored| stored.bytes.len() as u64))
    }

    fn list(&self, folder: &FolderKey, visit: &mut dyn FnMut(Listed) -> Result<()>) -> Result<()> {
        // Gathered before anything is shown: the visitor may call this backend.
        let rows: Vec<Listed> = {
            let state = self.lock();
            // What is below a folder stands together, so that the rest is not looked at.
            let prefix = folder.as_str();
            let from = (Bound::Excluded(prefix), Bound::Unbounded);
            let objects = state.objects.range::<str, _>(from);
            let objects = objects.take_while(|(key, _)| key.as_str().starts_with(prefix));
            let objects: Vec<_> = objects.filter(|(key, _)| key.folder() == *folder).collect();
            let folders = state.folders.range::<str, _>(from);
            let folders = folders.take_while(|below| below.as_str().starts_with(prefix));
            let folders: Vec<_> = folders.filter(|below| folder_of(below) == *folder).collect();
            let objects = objects.into_iter().rev().map(|(key, stored)| {
                let size = Some(stored.bytes.len() as u64);
                let modified = Some(stored.modified);
                Listed::Object(ObjectInfo { key: key.clone(), size, modified })
            });
            let folders = folders.into_iter().rev();
            objects.chain(folders.map(|below| Listed::Folder(below.clone()))).collect()
        };
        rows.into_iter().try_for_each(visit)
    }

    fn delete(&self, key: &ObjectKey) -> Result<()> {
        self.lock().objects.remove(key);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> ObjectKey {
        ObjectKey::new(text).expect("a good key")
    }

    #[test]
    fn replacing_an_object_is_a_bug_of_the_caller() {
        let backend = MemoryBackend::new();
        backend.put(&key("a"), b"1").expect("stored");

        assert_eq!(backend.put(&key("a"), b"2").expect_err("refused").kind(), ErrorKind::Bug);
        backend.put(&key("a"), b"1").expect("the same bytes are fine");
    }

    #[test]
    fn a_key_is_no_object_and_folder_at_once() {
        let backend = MemoryBackend::new();
        backend.put(&key("a/b"), b"1").expect("stored");

        for bad in ["a", "a/b/c", "a/b/c/d"] {
            let error = backend.put(&key(bad), b"1").expect_err("refused");
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{bad}");
        }
    }

    #[test]
    fn a_clone_goes_its_own_way() {
        let backend = MemoryBackend::new();
        backend.put(&key("a"), b"1").expect("stored");

        let copy = backend.clone_state();
        backend.insert_raw(&key("a"), b"damaged".to_vec());

        assert_eq!(copy.objects()[&key("a")], b"1");
        assert_eq!(backend.objects()[&key("a")], b"damaged");
        assert!(copy.remove_raw(&key("a")));
        assert!(!copy.remove_raw(&key("a")));
    }
}
