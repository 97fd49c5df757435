//! The content of one file on its way to a server that takes files only from their beginning to
//! their end: in memory while it is short, else in a file without a name.

use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::limits::SPOOL_MEMORY_BYTES;
use crate::base::sys;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Bytes handed on at a time.
const PIECE_BYTES: usize = 1024 * 1024;

/// Content that is gathered in any order.
pub(in crate::target) enum Spool {
    Memory(Vec<u8>),
    Disk(File, u64),
}

fn failed(cause: std::io::Error) -> Error {
    Error::io("cannot keep a file that is being restored", cause)
        .hint("files on their way to a server are gathered in the folder of the cache: --cache-dir")
}

impl Spool {
    pub(in crate::target) fn new() -> Self {
        Spool::Memory(Vec::new())
    }

    pub(in crate::target) fn len(&self) -> u64 {
        match self {
            Spool::Memory(bytes) => bytes.len() as u64,
            Spool::Disk(_, length) => *length,
        }
    }

    /// Moves it to a file, where it takes no memory while it waits for more.
    pub(in crate::target) fn move_to_disk(&mut self, scratch: &Path) -> Result<&File> {
        if let Spool::Memory(bytes) = self {
            let file = sys::unlinked_file(scratch, (bytes.len() as u64).max(1)).map_err(failed)?;
            file.write_all_at(bytes, 0).map_err(failed)?;
            *self = Spool::Disk(file, bytes.len() as u64);
        }
        match self {
            Spool::Disk(file, _) => Ok(file),
            Spool::Memory(_) => Err(Error::bug("content that was moved to a file is in memory")),
        }
    }

    pub(in crate::target) fn write_at(
        &mut self,
        offset: u64,
        bytes: &[u8],
        scratch: &Path,
    ) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let end = offset.checked_add(bytes.len() as u64);
        let end = end.ok_or_else(|| Error::invalid("content reaches beyond what a file can be"))?;
        if let Spool::Memory(held) = self
            && end <= SPOOL_MEMORY_BYTES
        {
            // Both fit, as they are not beyond a bound that does.
            let (start, end) = (offset as usize, end as usize);
            if held.len() < end {
                held.resize(end, 0);
            }
            held[start..end].copy_from_slice(bytes);
            return Ok(());
        }
        self.move_to_disk(scratch)?.write_all_at(bytes, offset).map_err(failed)?;
        if let Spool::Disk(_, length) = self {
            *length = end.max(*length);
        }
        Ok(())
    }

    pub(in crate::target) fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let left = self.len().saturating_sub(offset);
        let length = left.min(buffer.len() as u64) as usize;
        match self {
            Spool::Memory(held) if length > 0 => {
                let start = offset as usize;
                buffer[..length].copy_from_slice(&held[start..start + length]);
            }
            Spool::Memory(_) => {}
            Spool::Disk(file, _) => {
                file.read_exact_at(&mut buffer[..length], offset).map_err(failed)?;
            }
        }
        Ok(length)
    }

    pub(in crate::target) fn set_length(&mut self, length: u64, scratch: &Path) -> Result<()> {
        if let Spool::Memory(held) = self
            && length <= SPOOL_MEMORY_BYTES
        {
            held.resize(length as usize, 0);
            return Ok(());
        }
        self.move_to_disk(scratch)?.set_len(length).map_err(failed)?;
        if let Spool::Disk(_, now) = self {
            *now = length;
        }
        Ok(())
    }

    /// Makes a stretch read as zeros, within the length.
    pub(in crate::target) fn clear(
        &mut self,
        offset: u64,
        length: u64,
        scratch: &Path,
    ) -> Result<()> {
        let end = offset.saturating_add(length).min(self.len());
        let zeros = vec![0; PIECE_BYTES.min(end.saturating_sub(offset) as usize)];
        let mut at = offset;
        while at < end {
            let count = (end - at).min(zeros.len() as u64) as usize;
            self.write_at(at, &zeros[..count], scratch)?;
            at += count as u64;
        }
        Ok(())
    }

    /// Gives the room of a stretch back that is not wanted any more, where the system can.
    pub(in crate::target) fn free(&self, offset: u64, length: u64) {
        if let Spool::Disk(file, _) = self {
            sys::free_stretch(file, offset, length);
        }
    }

    /// Shows all of it, piece by piece.
    pub(in crate::target) fn pieces(
        &self,
        visit: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let length = match self {
            Spool::Memory(held) if held.is_empty() => return Ok(()),
            Spool::Memory(held) => return visit(held),
            Spool::Disk(_, length) => length,
        };
        let mut buffer = vec![0; PIECE_BYTES.min(usize::try_from(*length).unwrap_or(PIECE_BYTES))];
        let mut at = 0;
        while at < *length {
            let count = self.read_at(at, &mut buffer)?;
            visit(&buffer[..count])?;
            at += count as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(spool: &Spool) -> Vec<u8> {
        let mut bytes = Vec::new();
        spool
            .pieces(&mut |piece| {
                bytes.extend_from_slice(piece);
                Ok(())
            })
            .expect("readable");
        bytes
    }

    #[test]
    fn what_is_long_goes_to_a_file_and_stays_the_same() {
        let scratch = tempfile::tempdir().expect("a folder");
        let mut spool = Spool::new();
        spool.write_at(3, b"abc", scratch.path()).expect("written");
        assert!(matches!(spool, Spool::Memory(_)));

        spool.write_at(SPOOL_MEMORY_BYTES, b"end", scratch.path()).expect("written");

        assert!(matches!(spool, Spool::Disk(..)));
        assert_eq!(spool.len(), SPOOL_MEMORY_BYTES + 3);
        let bytes = all(&spool);
        assert_eq!((&bytes[..6], &bytes[bytes.len() - 3..]), (&b"\0\0\0abc"[..], &b"end"[..]));
        assert_eq!(std::fs::read_dir(scratch.path()).expect("listed").count(), 0, "no name");
    }

    proptest! {
        #[test]
        fn it_is_as_a_file_would_be(
            steps in proptest::collection::vec((0_u8..4, 0_u64..100, 0_usize..50), 0..20),
            moves_at in 0_usize..20,
        ) {
            let scratch = tempfile::tempdir().expect("a folder");
            let (mut spool, mut plain) = (Spool::new(), Vec::new());
            for (number, (step, at, length)) in steps.into_iter().enumerate() {
                if number == moves_at {
                    spool.move_to_disk(scratch.path()).expect("moved");
                }
                let start = at as usize;
                match step {
                    0 | 1 => {
                        if length > 0 && plain.len() < start + length {
                            plain.resize(start + length, 0);
                        }
                        let written = plain.get_mut(start..start + length);
                        written.unwrap_or_default().fill(number as u8 + 1);
                        let bytes = vec![number as u8 + 1; length];
                        spool.write_at(at, &bytes, scratch.path()).expect("written");
                    }
                    2 => {
                        plain.resize(start, 0);
                        spool.set_length(at, scratch.path()).expect("set");
                    }
                    _ => {
                        let end = (start + length).min(plain.len());
                        plain.get_mut(start..end).unwrap_or_default().fill(0);
                        spool.clear(at, length as u64, scratch.path()).expect("cleared");
                    }
                }
                prop_assert_eq!(all(&spool), plain.clone());
            }
        }
    }
}
