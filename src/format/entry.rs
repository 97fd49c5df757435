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

    /// Returns a mark of size, holes and content: equal marks are of equal content. The same one
    /// may have others, where other backups stored it.
    pub fn content_mark(&self) -> [u8; 16] {
        let alone = FileNode { hard_link: None, ..self.clone() };
        let mut bytes = Vec::new();
        hash_file(&alone, &mut bytes);
        let mut hasher = hash::Hasher::new_derive("icecore 2026-11-21 content mark v1");
        hasher.update(&bytes);
        let mut mark = [0; 16];
        mark.copy_from_slice(&hasher.finish()[..16]);
        mark
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::metadata::Xattr;
    use crate::base::time::Timestamp;

    fn run(n: u8) -> Run {
        Run { block: BlockId::new([n; 32]), first: 3, count: 2, bytes: 70 }
    }

    fn file() -> FileNode {
        let content = Content::Runs(vec![run(1), run(2)]);
        FileNode { size: 140, cut: 13, hard_link: None, extents: None, content }
    }

    fn holed() -> FileNode {
        let extents = vec![Extent { offset: 10, length: 40 }, Extent { offset: 90, length: 100 }];
        FileNode { size: 500, extents: Some(extents), ..file() }
    }

    fn entry(node: EntryNode) -> Entry {
        let path = EntryPath::new(b"a/b").expect("a path");
        let xattrs = vec![Xattr { name: b"user.x".to_vec(), value: b"1".to_vec() }];
        let metadata = Metadata { mode: 0o644, xattrs, ..Metadata::default() };
        Entry { path, metadata, node }
    }

    fn hashed(entry: &Entry) -> Vec<u8> {
        let mut hasher = snapshot_hasher();
        entry.hash_into(&mut hasher, &mut b"left over".to_vec());
        hasher.finish().to_vec()
    }

    #[test]
    fn a_file_tells_where_its_data_is_and_how_much_of_it() {
        assert_eq!(file().data_bytes(), 140);
        assert_eq!(file().extents(), [Extent { offset: 0, length: 140 }]);
        assert_eq!(holed().data_bytes(), 140);
        assert_eq!(Some(holed().extents()), holed().extents);
        let empty = FileNode { size: 0, content: Content::Runs(Vec::new()), ..file() };
        assert_eq!((empty.data_bytes(), empty.extents()), (0, Vec::new()));
        let listed = Content::Listed(vec![run(7)]);
        assert_eq!((file().content.direct().len(), listed.direct()), (2, &[run(7)][..]));
    }

    #[test]
    fn only_a_file_has_a_size_and_content() {
        let whole = entry(EntryNode::File(holed()));
        assert_eq!((whole.kind(), whole.size(), whole.file()), (Kind::File, 500, Some(&holed())));
        for (node, kind) in [
            (EntryNode::Directory, Kind::Directory),
            (EntryNode::Symlink(b"x".to_vec()), Kind::Symlink),
            (EntryNode::Fifo, Kind::Fifo),
            (EntryNode::CharDevice(1, 3), Kind::CharDevice),
            (EntryNode::BlockDevice(8, 1), Kind::BlockDevice),
        ] {
            let other = entry(node);
            assert_eq!((other.kind(), other.size(), other.file()), (kind, 0, None));
        }
    }

    #[test]
    fn whatever_a_restore_sets_changes_the_snapshot_hash() {
        let base = entry(EntryNode::File(holed()));
        let mut all = vec![base.clone()];
        let mut change = |change: &dyn Fn(&mut Entry, &mut FileNode)| {
            let (mut entry, mut file) = (base.clone(), holed());
            change(&mut entry, &mut file);
            entry.node = EntryNode::File(file);
            all.push(entry);
        };
        change(&|entry, _| entry.path = EntryPath::new(b"a/c").expect("a path"));
        change(&|entry, _| entry.metadata.mode = 0o600);
        change(&|entry, _| entry.metadata.mtime = Timestamp::new(0, 1));
        change(&|entry, _| entry.metadata.xattrs[0].value = b"2".to_vec());
        change(&|_, file| file.size += 1);
        change(&|_, file| file.hard_link = Some(1));
        change(&|_, file| file.extents = None);
        change(&|_, file| file.extents.iter_mut().for_each(|all| all[1].offset += 1));
        change(&|_, file| file.content = Content::Listed(vec![run(1), run(2)]));
        change(&|_, file| file.content = Content::Runs(vec![run(1), run(3)]));
        for node in [
            EntryNode::Directory,
            EntryNode::Symlink(b"x".to_vec()),
            EntryNode::Symlink(b"y".to_vec()),
            EntryNode::Fifo,
            EntryNode::CharDevice(1, 3),
            EntryNode::CharDevice(1, 5),
            EntryNode::BlockDevice(1, 3),
        ] {
            all.push(entry(node));
        }
        for (n, one) in all.iter().enumerate() {
            assert_eq!(hashed(one), hashed(one), "{one:?}");
            for other in &all[n + 1..] {
                assert_ne!(hashed(one), hashed(other), "{one:?} and {other:?}");
            }
        }
    }

    /// The codes are stored with every snapshot, as part of its hash.
    #[test]
    fn kinds_go_into_the_snapshot_hash_under_their_codes() {
        for (node, code) in [
            (EntryNode::Directory, &[1][..]),
            (EntryNode::Symlink(b"xy".to_vec()), b"\x02\x02\0\0\0\0\0\0\0xy"),
            (EntryNode::Fifo, &[3]),
            (EntryNode::CharDevice(1, 3), &[4, 1, 0, 0, 0, 3, 0, 0, 0]),
            (EntryNode::BlockDevice(8, 1), &[5, 8, 0, 0, 0, 1, 0, 0, 0]),
        ] {
            let mut fed = Vec::new();
            entry(node).hash_into(&mut snapshot_hasher(), &mut fed);
            assert!(fed.ends_with(code), "{fed:?} does not end with {code:?}");
        }
    }

    #[test]
    fn the_snapshot_hash_has_a_context_of_its_own() {
        let one = entry(EntryNode::Fifo);
        let mut fed = Vec::new();
        one.hash_into(&mut snapshot_hasher(), &mut fed);
        let expected = hash::derive("icecore 2026-11-21 snapshot hash v1", &fed);
        assert_eq!(hashed(&one), expected);
        assert_ne!(hashed(&one), hash::hash(&fed));
    }
}
