//! An entry: one path with its metadata and its content, as the program works with it.

use crate::base::hash;
use crate::base::id::BlockId;
use crate::base::metadata::Detection;
use crate::base::metadata::Extent;
use crate::base::metadata::Kind;
use crate::base::metadata::Metadata;
use crate::base::path::EntryPath;

/// A stretch of one block's table: `count` places from `first`, `bytes` long in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The block.
    pub block: BlockId,
    /// Its first place.
    pub first: u32,
    /// How many places.
    pub count: u32,
    /// How many bytes of plaintext they are.
    pub bytes: u64,
}

/// The content of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Runs whose blobs, one after the other, are the file's data (holes left out).
    Runs(Vec<Run>),
    /// Runs whose blobs, one after the other, are lists of runs: for files with very many.
    Listed(Vec<Run>),
}

impl Content {
    /// Returns the runs it names directly, of data or of lists.
    pub fn direct(&self) -> &[Run] {
        match self {
            Content::Runs(runs) | Content::Listed(runs) => runs,
        }
    }
}

/// What a file is besides its metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileNode {
    /// Length in bytes with holes counted.
    pub size: u64,
    /// How it was cut, as the chunker's code; kept until its size changes fourfold.
    pub cut: u8,
    /// Group of names of one file, or None for one name.
    pub hard_link: Option<u64>,
    /// Where its data is, when it has holes.
    pub extents: Option<Vec<Extent>>,
    /// Its data.
    pub content: Content,
}

impl FileNode {
    /// Returns how many bytes of data the file has, holes left out.
    pub fn data_bytes(&self) -> u64 {
        match &self.extents {
            None => self.size,
            Some(extents) => extents.iter().map(|extent| extent.length).sum(),
        }
    }

    /// Returns where the data is; one extent for a file without holes, none for an empty one.
    pub fn extents(&self) -> Vec<Extent> {
        match &self.extents {
            Some(extents) => extents.clone(),
            None if self.size == 0 => Vec::new(),
            None => vec![Extent { offset: 0, length: self.size }],
        }
    }
}

/// What an entry is, with what only that kind has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryNode {
    /// A regular file.
    File(FileNode),
    /// A folder.
    Directory,
    /// A symlink with its target.
    Symlink(Vec<u8>),
    /// A named pipe.
    Fifo,
    /// A character device: major, minor.
    CharDevice(u32, u32),
    /// A block device: major, minor.
    BlockDevice(u32, u32),
}

/// One path with its metadata and its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it is.
    pub path: EntryPath,
    /// What a restore sets.
    pub metadata: Metadata,
    /// What it is.
    pub node: EntryNode,
}

impl Entry {
    /// Returns its kind.
    pub fn kind(&self) -> Kind {
        match self.node {
            EntryNode::File(_) => Kind::File,
            EntryNode::Directory => Kind::Directory,
            EntryNode::Symlink(_) => Kind::Symlink,
            EntryNode::Fifo => Kind::Fifo,
            EntryNode::CharDevice(..) => Kind::CharDevice,
            EntryNode::BlockDevice(..) => Kind::BlockDevice,
        }
    }

    /// Returns its length in bytes; 0 for what is not a file.
    pub fn size(&self) -> u64 {
        self.file().map_or(0, |file| file.size)
    }

    /// Returns what it is as a file, if it is one.
    pub fn file(&self) -> Option<&FileNode> {
        match &self.node {
            EntryNode::File(file) => Some(file),
            _ => None,
        }
    }

    /// Feeds the entry into a snapshot's hash: everything but how changes are detected.
    pub fn hash_into(&self, hasher: &mut hash::Hasher, scratch: &mut Vec<u8>) {
        scratch.clear();
        let bytes = |out: &mut Vec<u8>, bytes: &[u8]| {
            out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
            out.extend_from_slice(bytes);
        };
        bytes(scratch, self.path.as_bytes());
        let metadata = &self.metadata;
        for number in [metadata.mode, metadata.owner.uid, metadata.owner.gid] {
            scratch.extend_from_slice(&number.to_le_bytes());
        }
        bytes(scratch, metadata.owner.user.as_bytes());
        bytes(scratch, metadata.owner.group.as_bytes());
        scratch.extend_from_slice(&metadata.mtime.seconds().to_le_bytes());
        scratch.extend_from_slice(&metadata.mtime.nanos().to_le_bytes());
        scratch.extend_from_slice(&(metadata.xattrs.len() as u64).to_le_bytes());
        for xattr in &metadata.xattrs {
            bytes(scratch, &xattr.name);
            bytes(scratch, &xattr.value);
        }
        self.hash_node(scratch);
        hasher.update(scratch);
    }

    fn hash_node(&self, out: &mut Vec<u8>) {
        match &self.node {
            EntryNode::File(file) => hash_file(file, out),
            EntryNode::Directory => out.push(1),
            EntryNode::Symlink(target) => {
                out.push(2);
                out.extend_from_slice(&(target.len() as u64).to_le_bytes());
                out.extend_from_slice(target);
            }
            EntryNode::Fifo => out.push(3),
            EntryNode::CharDevice(major, minor) | EntryNode::BlockDevice(major, minor) => {
                out.push(if self.kind() == Kind::CharDevice { 4 } else { 5 });
                out.extend_from_slice(&major.to_le_bytes());
                out.extend_from_slice(&minor.to_le_bytes());
            }
        }
    }
}

fn hash_file(file: &FileNode, out: &mut Vec<u8>) {
    out.push(0);
    out.extend_from_slice(&file.size.to_le_bytes());
    out.extend_from_slice(&file.hard_link.unwrap_or(0).to_le_bytes());
    let extents = file.extents.as_deref();
    out.extend_from_slice(&extents.map_or(u64::MAX, |list| list.len() as u64).to_le_bytes());
    for extent in extents.unwrap_or(&[]) {
        out.extend_from_slice(&extent.offset.to_le_bytes());
        out.extend_from_slice(&extent.length.to_le_bytes());
    }
    out.push(u8::from(matches!(file.content, Content::Listed(_))));
    out.extend_from_slice(&(file.content.direct().len() as u64).to_le_bytes());
    for run in file.content.direct() {
        out.extend_from_slice(run.block.as_bytes());
        out.extend_from_slice(&run.first.to_le_bytes());
        out.extend_from_slice(&run.count.to_le_bytes());
    }
}

/// Starts the hash over all entries of a snapshot, which [`Entry::hash_into`] feeds in order.
pub fn snapshot_hasher() -> hash::Hasher {
    hash::Hasher::new_derive("icecore 2026-11-21 snapshot hash v1")
}

/// An entry together with what tells whether it changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackedEntry {
    /// The entry.
    pub entry: Entry,
    /// What the source showed when it was read.
    pub detection: Detection,
}
