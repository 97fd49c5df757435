//! Memory maps of local cache files, and of scratch files that nobody else sees: the only home
//! of memmap2, and the only unsafe code of the crate.
//!
//! Only files of this program's own cache, written once under a temporary name and never
//! changed after the rename, are mapped. What is read from a map is checked like any other
//! outside bytes.

use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::limits::SCRATCH_MEMORY_BYTES;
use crate::base::sys;
use std::fs::File;
use std::ops::Deref;
use std::ops::DerefMut;
use std::path::Path;

/// A file shown as bytes, or bytes in memory where there is no file.
#[derive(Debug)]
pub enum Mapped {
    /// Pages of a file.
    File(memmap2::Mmap),
    /// Plain memory.
    Memory(Vec<u8>),
}

impl Mapped {
    /// Maps a whole file.
    ///
    /// # Errors
    /// `Io` when the system refuses.
    pub fn open(file: &File) -> Result<Self> {
        let length = file.metadata().map_err(|e| Error::io("cannot stat a cache file", e))?.len();
        if length == 0 {
            return Ok(Mapped::Memory(Vec::new()));
        }
        #[expect(unsafe_code, reason = "mapping is unsafe only if the file shrinks; see above")]
        // SAFETY: cache files are written once, renamed into place and never changed; unlinking
        // one leaves the mapped pages as they were.
        let map = unsafe { memmap2::Mmap::map(file) };
        map.map(Mapped::File).map_err(|e| Error::io("cannot map a cache file", e))
    }
}

impl Deref for Mapped {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match self {
            Mapped::File(map) => map,
            Mapped::Memory(bytes) => bytes,
        }
    }
}

/// Zeroed bytes for a while: in memory when they are few, else in an unlinked file, whose pages
/// the system may take back when it needs the memory.
#[derive(Debug)]
pub enum Scratch {
    /// Pages of a file that has no name.
    File(memmap2::MmapMut),
    /// Plain memory.
    Memory(Vec<u8>),
}

impl Scratch {
    /// Makes so many zeroed bytes, in a file in `folder` when they are many. Where the folder has
    /// no room for the file, memory serves.
    pub fn zeroed(folder: &Path, length: usize) -> Self {
        if length > SCRATCH_MEMORY_BYTES
            && let Ok(file) = sys::unlinked_file(folder, length as u64)
        {
            #[expect(unsafe_code, reason = "mapping is unsafe only if the file shrinks")]
            // SAFETY: the file has no name and no other handle, so nobody can shrink it; its
            // blocks are allocated, so no write to it can find the disk full.
            let map = unsafe { memmap2::MmapMut::map_mut(&file) };
            if let Ok(map) = map {
                return Scratch::File(map);
            }
        }
        Scratch::Memory(vec![0; length])
    }
}

impl Deref for Scratch {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match self {
            Scratch::File(map) => map,
            Scratch::Memory(bytes) => bytes,
        }
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            Scratch::File(map) => map,
            Scratch::Memory(bytes) => bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scratch_is_zeroed_and_leaves_no_name() {
        let place = tempfile::tempdir().expect("a folder");
        let mut scratch = Scratch::zeroed(place.path(), SCRATCH_MEMORY_BYTES + 1);
        assert!(matches!(scratch, Scratch::File(_)));
        assert!(scratch.iter().all(|&byte| byte == 0));
        scratch[SCRATCH_MEMORY_BYTES] = 7;
        assert_eq!(scratch[SCRATCH_MEMORY_BYTES], 7);
        assert_eq!(std::fs::read_dir(place.path()).expect("list").count(), 0);
        let nowhere = Scratch::zeroed(&place.path().join("x"), SCRATCH_MEMORY_BYTES + 1);
        assert!(matches!(nowhere, Scratch::Memory(_)));
    }
}
