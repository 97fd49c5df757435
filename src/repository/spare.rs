//! Buffers of blocks, used again: the system clears each page of memory that it hands out, and
//! blocks on their way to packs would ask it for all that a backup stores.

use crate::base::limits::SPARE_BYTES_MAX;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

/// Buffers that nobody uses just now.
#[derive(Default)]
pub(crate) struct Spare(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    buffers: Vec<Vec<u8>>,
    /// What they can hold together.
    bytes: usize,
}

impl Spare {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns an empty buffer, which may have room.
    pub(crate) fn take(&self) -> Vec<u8> {
        let mut kept = self.kept();
        let buffer = kept.buffers.pop().unwrap_or_default();
        kept.bytes -= buffer.capacity();
        buffer
    }

    /// Takes a buffer back, as long as not too much is kept.
    pub(crate) fn give(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        let mut kept = self.kept();
        if kept.bytes + buffer.capacity() <= SPARE_BYTES_MAX {
            kept.bytes += buffer.capacity();
            kept.buffers.push(buffer);
        }
    }

    /// Gives all of them back to the system.
    pub(crate) fn clear(&self) {
        *self.kept() = Kept::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_is_taken_empty_and_no_more_is_kept_than_may_be() {
        let spare = Spare::default();
        assert_eq!(spare.take().capacity(), 0);
        spare.give(vec![7; 1000]);
        let buffer = spare.take();
        assert!(buffer.is_empty() && buffer.capacity() >= 1000);
        assert_eq!(spare.take().capacity(), 0);

        spare.give(Vec::with_capacity(SPARE_BYTES_MAX));
        spare.give(Vec::with_capacity(1000));
        assert!(spare.take().capacity() >= SPARE_BYTES_MAX);
        assert_eq!(spare.take().capacity(), 0);

        spare.give(vec![7; 1000]);
        spare.clear();
        assert_eq!(spare.take().capacity(), 0);
    }
}
