//! Read-only memory maps of local cache files: the only home of memmap2, and the only unsafe
//! code of the crate.
//!
//! Only files of this program's own cache, written once under a temporary name and never
//! changed after the rename, are mapped. What is read from a map is checked like any other
//! outside bytes.

use crate::base::error::Error;
use crate::base::error::Result;
use std::fs::File;
use std::ops::Deref;

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
