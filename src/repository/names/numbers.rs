//! Local numbers of blocks: a file of ids, 32 bytes each, only ever added to.
//!
//! A second process reads the numbers that are kept and adds its own to a file that goes with it.

use crate::base::error::Result;
use crate::base::id::BlockId;
use crate::base::id::to_hex;
use crate::base::sys;
use crate::repository::cache;
use crate::repository::cache::Cache;
use std::fs::File;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

const ID_BYTES: u64 = 32;
/// Blocks whose ids are kept in memory, as neighbours ask for the same again and again.
const RECENT: usize = 1024;

/// Numbers blocks.
pub struct BlockNumbers {
    kept: File,
    /// Numbers from here up are in `added`, which is `kept` itself for the process that adds.
    kept_count: u32,
    added: Option<File>,
    next: AtomicU32,
    /// Settled numbers, each at its remainder.
    recent: Mutex<Vec<Option<(u32, BlockId)>>>,
}

impl BlockNumbers {
    /// Opens the numbers of a cache, of which `count` are in use. None when the file is absent
    /// or too short.
    pub fn open(cache: &Cache, count: u32, is_owner: bool) -> Option<Self> {
        let path = cache.path("names/blocks");
        let kept = File::options().read(true).write(is_owner).open(path).ok()?;
        if kept.metadata().ok()?.len() < u64::from(count) * ID_BYTES {
            return None;
        }
        if is_owner {
            // What lies beyond was added by a run that died; its numbers mean nothing.
            kept.set_len(u64::from(count) * ID_BYTES).ok()?;
        }
        let added = if is_owner { None } else { Some(unnamed(cache).ok()?) };
        Some(Self::new(kept, count, added))
    }

    /// Starts with no numbers at all.
    ///
    /// # Errors
    /// When the cache cannot be written.
    pub fn create(cache: &Cache, is_owner: bool) -> Result<Self> {
        let failed = |e| cache::cannot_write("blob names", e);
        let kept = if is_owner {
            let path = cache.path("names/blocks");
            let _ = std::fs::remove_file(&path);
            sys::create_private(&path).map_err(failed)?
        } else {
            unnamed(cache).map_err(failed)?
        };
        Ok(Self::new(kept, 0, None))
    }

    fn new(kept: File, count: u32, added: Option<File>) -> Self {
        let recent = Mutex::new(vec![None; RECENT]);
        BlockNumbers { kept, kept_count: count, added, next: AtomicU32::new(count), recent }
    }

    /// Returns how many numbers are in use.
    pub fn count(&self) -> u32 {
        self.next.load(Ordering::Acquire)
    }

    /// Returns the next number.
    pub fn allocate(&self) -> u32 {
        self.next.fetch_add(1, Ordering::AcqRel)
    }

    fn at(&self, number: u32) -> (&File, u64) {
        match &self.added {
            Some(added) if number >= self.kept_count => {
                (added, u64::from(number - self.kept_count) * ID_BYTES)
            }
            _ => (&self.kept, u64::from(number) * ID_BYTES),
        }
    }

    /// Gives every number that is in use its place in the file: one that was never settled, as its
    /// block was not written, stands for none.
    ///
    /// # Errors
    /// When the cache cannot be written.
    pub fn fill_up(&self) -> Result<()> {
        let length = u64::from(self.count()) * ID_BYTES;
        let has = self.kept.metadata().map(|metadata| metadata.len());
        has.and_then(|has| if has < length { self.kept.set_len(length) } else { Ok(()) })
            .map_err(|e| cache::cannot_write("blob names", e))
    }

    /// Says which block a number stands for.
    ///
    /// # Errors
    /// When the cache cannot be written.
    pub fn settle(&self, number: u32, block: &BlockId) -> Result<()> {
        let (file, offset) = self.at(number);
        sys::write_all_at(file, block.as_bytes(), offset)
            .map_err(|e| cache::cannot_write("blob names", e))?;
        self.remember(number, *block);
        Ok(())
    }

    fn remember(&self, number: u32, block: BlockId) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent[number as usize % RECENT] = Some((number, block));
    }

    /// Returns the block of a number, or None while it is not settled.
    pub fn block(&self, number: u32) -> Option<BlockId> {
        if number >= self.count() {
            return None;
        }
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, block)) = recent[number as usize % RECENT].filter(|(n, _)| *n == number) {
            return Some(block);
        }
        drop(recent);
        let (file, offset) = self.at(number);
        let mut bytes = [0; 32];
        sys::read_exact_at(file, &mut bytes, offset).ok()?;
        let block = (bytes != [0; 32]).then_some(BlockId::new(bytes))?;
        self.remember(number, block);
        Some(block)
    }
}

/// Makes a file without a name, which goes with the process.
fn unnamed(cache: &Cache) -> std::io::Result<File> {
    let unique: [u8; 8] = sys::random().map_err(std::io::Error::other)?;
    let path = cache.path(&format!("names/numbers-{}.tmp", to_hex(&unique)));
    let file = sys::create_private(&path)?;
    std::fs::remove_file(path)?;
    Ok(file)
}
