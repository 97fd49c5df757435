//! What was learned of servers, kept beside the caches so that it need not be asked each time. A
//! server may be exchanged for another one, so what is remembered saves a question to those who
//! only read, and is made sure of before anything rests on it.

use crate::base::hash;
use crate::base::id::to_hex;
use crate::base::sys;
use crate::repository::cache::SERVERS_FOLDER;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;

/// What is remembered of a store that has an atomic create.
const ATOMIC: &[u8] = b"icecore: has an atomic create\n";

/// The folder of what was learned.
#[derive(Clone, Debug)]
pub struct Memory {
    folder: PathBuf,
}

impl Memory {
    /// Names it, below the folder of the caches. Nothing is looked at yet.
    pub fn below(cache: &Path) -> Self {
        Memory { folder: cache.join(SERVERS_FOLDER) }
    }

    fn path(&self, store: &str) -> PathBuf {
        self.folder.join(to_hex(&hash::hash(store.as_bytes())[..16]))
    }

    /// Says whether a store was seen to have an atomic create.
    pub fn knows_atomic(&self, store: &str) -> bool {
        fs::read(self.path(store)).is_ok_and(|bytes| bytes == ATOMIC)
    }

    /// Remembers that it has. What cannot be kept is asked again.
    pub fn learn_atomic(&self, store: &str) {
        let path = self.path(store);
        if sys::make_private_folder(&self.folder).is_ok() && !self.knows_atomic(store) {
            let _ = fs::remove_file(&path);
            let _ = sys::create_private(&path).and_then(|mut file| file.write_all(ATOMIC));
        }
    }

    /// Forgets a store.
    pub fn forget(&self, store: &str) {
        let _ = fs::remove_file(self.path(store));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_learned_of_one_store_is_known_of_no_other() {
        let cache = tempfile::tempdir().expect("a folder");
        let memory = Memory::below(&cache.path().join("new"));
        assert!(!memory.knows_atomic("a"));
        memory.learn_atomic("a");
        memory.learn_atomic("a");
        assert!(memory.knows_atomic("a") && !memory.knows_atomic("b"));
        fs::write(memory.path("a"), "something else").expect("written");
        assert!(!memory.knows_atomic("a"));
        memory.learn_atomic("a");
        memory.forget("a");
        memory.forget("b");
        assert!(!memory.knows_atomic("a"));
    }
}
