//! One file of a [`MemoryTarget`](super::MemoryTarget), its content kept by blocks, so that a
//! hole is a block that is not there.

use crate::base::metadata::Kind;
use crate::base::metadata::Metadata;
use crate::target::Node;
use std::collections::BTreeMap;

/// The unit of holes.
pub(super) const BLOCK_BYTES: u64 = 4096;

#[derive(Clone, Debug)]
pub(super) struct Inode {
    pub(super) kind: Kind,
    pub(super) metadata: Metadata,
    pub(super) link_target: Vec<u8>,
    pub(super) device: (u32, u32),
    pub(super) size: u64,
    pub(super) blocks: BTreeMap<u64, Vec<u8>>,
    pub(super) links: u64,
}

impl Inode {
    pub(super) fn new(kind: Kind, mode: u32) -> Self {
        Inode {
            kind,
            metadata: Metadata { mode, ..Metadata::default() },
            link_target: Vec::new(),
            device: (0, 0),
            size: 0,
            blocks: BTreeMap::new(),
            links: 1,
        }
    }

    /// Returns what it is, where it is neither a file nor a folder.
    pub(super) fn node(&self) -> Option<Node> {
        let (major, minor) = self.device;
        match self.kind {
            Kind::Symlink => Some(Node::Symlink(self.link_target.clone())),
            Kind::Fifo => Some(Node::Fifo),
            Kind::CharDevice => Some(Node::CharDevice(major, minor)),
            Kind::BlockDevice => Some(Node::BlockDevice(major, minor)),
            Kind::File | Kind::Directory | Kind::Socket => None,
        }
    }

    /// Splits a stretch of bytes at block borders: block number, place in it, length.
    fn pieces(offset: u64, length: u64) -> impl Iterator<Item = (u64, usize, usize)> {
        let end = offset.saturating_add(length);
        let mut at = offset;
        std::iter::from_fn(move || {
            let within = at % BLOCK_BYTES;
            let count = (BLOCK_BYTES - within).min(end - at);
            let piece = (at / BLOCK_BYTES, within as usize, count as usize);
            at += count;
            (count > 0).then_some(piece)
        })
    }

    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        let mut rest = bytes;
        for (block, within, count) in Inode::pieces(offset, bytes.len() as u64) {
            let stored = self.blocks.entry(block).or_insert_with(|| vec![0; BLOCK_BYTES as usize]);
            stored[within..within + count].copy_from_slice(&rest[..count]);
            rest = &rest[count..];
        }
        self.size = self.size.max(offset + bytes.len() as u64);
    }

    pub(super) fn read(&self, offset: u64, buffer: &mut [u8]) -> usize {
        let length = self.size.saturating_sub(offset).min(buffer.len() as u64);
        let mut filled = 0;
        for (block, within, count) in Inode::pieces(offset, length) {
            let out = &mut buffer[filled..filled + count];
            match self.blocks.get(&block) {
                Some(stored) => out.copy_from_slice(&stored[within..within + count]),
                None => out.fill(0),
            }
            filled += count;
        }
        filled
    }

    pub(super) fn punch(&mut self, offset: u64, length: u64) {
        let length = length.min(self.size.saturating_sub(offset));
        for (block, within, count) in Inode::pieces(offset, length) {
            if count as u64 == BLOCK_BYTES {
                self.blocks.remove(&block);
            } else if let Some(stored) = self.blocks.get_mut(&block) {
                stored[within..within + count].fill(0);
            }
        }
    }

    pub(super) fn set_length(&mut self, length: u64) {
        if length < self.size {
            self.blocks.retain(|&block, _| block * BLOCK_BYTES < length);
            if let Some(last) = self.blocks.get_mut(&(length / BLOCK_BYTES)) {
                last[(length % BLOCK_BYTES) as usize..].fill(0);
            }
        }
        self.size = length;
    }
}
