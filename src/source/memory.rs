//! A tree in memory as a source, for tests, examples and doc tests.
//!
//! It is built by chained calls, can be edited between two backups through a shared reference,
//! and fails where it is told to. Its clock is a counter: each edit is one second later.

use crate::base::cancel::Cancel;
use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::metadata::Detection;
use crate::base::metadata::Extent;
use crate::base::metadata::Kind;
use crate::base::metadata::Metadata;
use crate::base::metadata::Xattr;
use crate::base::path::EntryPath;
use crate::base::time::Timestamp;
use crate::source::OpenedEntry;
use crate::source::Scan;
use crate::source::ScanItem;
use crate::source::Source;
use crate::source::SourceEntry;
use crate::source::SourceReader;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;

/// Where the counter that stands for a clock begins: in 2001.
const FIRST_SECOND: i64 = 1_000_000_000;

/// What goes wrong with one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The scan shows a failure instead of the entry; what is below it is hidden.
    Unseen,
    /// The scan shows the folder, but its list of entries cannot be read.
    Unlisted,
    /// The scan shows it, and opening it is denied.
    Unreadable,
    /// The scan shows it, and it is gone when it is opened.
    Vanishes,
    /// Reading at or after this offset fails.
    BreaksAt(u64),
    /// Reading ends at this offset, and the end shows a smaller file.
    ShrinksTo(u64),
    /// The content is read as it was, and the end shows a later time.
    ChangesWhileRead,
    /// The scan shows an empty file, and all of it is there when it is opened.
    GrewSinceScan,
}

/// A tree in memory.
///
/// ```
/// use icecore::base::cancel::Cancel;
/// use icecore::source::Source;
/// use icecore::source::memory::MemorySource;
///
/// let source = MemorySource::new("cats").file("a/b", b"meow").directory("c");
/// source.put_file("d", b"later");
/// let items = source.scan(&Cancel::new()).unwrap();
/// let paths: Vec<String> = items.map(|item| item.path().to_string()).collect();
/// assert_eq!(paths, ["", "a", "a/b", "c", "d"]);
/// ```
#[derive(Debug)]
pub struct MemorySource {
    name: String,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    nodes: BTreeMap<EntryPath, Node>,
    detects_changes: bool,
    edits: u64,
    opened: Vec<EntryPath>,
}

#[derive(Clone, Debug)]
struct Node {
    entry: SourceEntry,
    link_target: Vec<u8>,
    content: Arc<[u8]>,
    extents: Option<Vec<Extent>>,
    failure: Option<Failure>,
}

impl Node {
    fn new(path: &EntryPath, kind: Kind, mode: u32) -> Self {
        Node {
            entry: SourceEntry {
                path: path.clone(),
                kind,
                size: 0,
                metadata: Metadata { mode, ..Metadata::default() },
                detection: Detection::default(),
                hard_link: None,
                device: (0, 0),
                maybe_sparse: false,
            },
            link_target: Vec::new(),
            content: Arc::default(),
            extents: None,
            failure: None,
        }
    }

    fn set_content(&mut self, bytes: &[u8]) {
        self.entry.size = bytes.len() as u64;
        self.content = bytes.into();
    }
}

impl State {
    /// Moves the clock on and marks the node as changed now.
    fn stamp(&mut self, node: &mut Node) {
        self.edits += 1;
        let seconds = i64::try_from(self.edits).unwrap_or(i64::MAX - FIRST_SECOND);
        let now = Timestamp::new(FIRST_SECOND + seconds, 0);
        node.entry.metadata.mtime = now;
        node.entry.detection.ctime = now;
        if node.entry.detection.inode == 0 {
            node.entry.detection.inode = self.edits;
        }
    }

    fn put(&mut self, mut node: Node) {
        let mut above = node.entry.path.parent();
        while let Some(folder) = above.filter(|folder| !self.nodes.contains_key(folder)) {
            let mut parent = Node::new(&folder, Kind::Directory, 0o755);
            self.stamp(&mut parent);
            above = folder.parent();
            self.nodes.insert(folder, parent);
        }
        if let Some(old) = self.nodes.get(&node.entry.path)
            && old.entry.kind == node.entry.kind
        {
            node.entry.detection.inode = old.entry.detection.inode;
        }
        self.stamp(&mut node);
        self.nodes.insert(node.entry.path.clone(), node);
    }
}

/// Makes a path of what a test names.
fn named(path: impl AsRef<[u8]>) -> EntryPath {
    match EntryPath::new(path.as_ref()) {
        Ok(path) => path,
        Err(error) => panic!("a memory source is built with good paths: {error}"),
    }
}

/// Building, by chained calls. All of these panic when a path is no good entry path; folders
/// above a path are made when they are missing.
impl MemorySource {
    /// Makes a tree that holds nothing but its root.
    pub fn new(name: impl Into<String>) -> Self {
        let mut state =
            State { nodes: BTreeMap::new(), detects_changes: true, edits: 0, opened: Vec::new() };
        state.put(Node::new(&EntryPath::root(), Kind::Directory, 0o755));
        MemorySource { name: name.into(), state: Mutex::new(state) }
    }

    /// Makes the source one whose metadata tells nothing about changes.
    pub fn without_change_detection(self) -> Self {
        self.lock().detects_changes = false;
        self
    }

    /// Adds a file.
    pub fn file(self, path: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Self {
        self.put_file(path, content);
        self
    }

    /// Adds a file of `size` bytes that holds data at some offsets and holes elsewhere.
    pub fn sparse_file(self, path: impl AsRef<[u8]>, size: usize, data: &[(usize, &[u8])]) -> Self {
        let mut content = vec![0; size];
        let mut extents = Vec::new();
        for (offset, bytes) in data {
            content[*offset..offset + bytes.len()].copy_from_slice(bytes);
            extents.push(Extent { offset: *offset as u64, length: bytes.len() as u64 });
        }
        let mut node = Node::new(&named(path), Kind::File, 0o644);
        node.set_content(&content);
        node.entry.maybe_sparse = true;
        node.extents = Some(extents);
        self.lock().put(node);
        self
    }

    /// Adds a folder.
    pub fn directory(self, path: impl AsRef<[u8]>) -> Self {
        self.lock().put(Node::new(&named(path), Kind::Directory, 0o755));
        self
    }

    /// Adds a symlink.
    pub fn symlink(self, path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        let mut node = Node::new(&named(path), Kind::Symlink, 0o777);
        node.link_target = target.as_ref().to_vec();
        self.lock().put(node);
        self
    }

    /// Adds a fifo.
    pub fn fifo(self, path: impl AsRef<[u8]>) -> Self {
        self.lock().put(Node::new(&named(path), Kind::Fifo, 0o644));
        self
    }

    /// Adds a character or block device.
    pub fn device(self, path: impl AsRef<[u8]>, kind: Kind, numbers: (u32, u32)) -> Self {
        let mut node = Node::new(&named(path), kind, 0o600);
        node.entry.device = numbers;
        self.lock().put(node);
        self
    }

    /// Adds a socket, which a scan skips.
    pub fn socket(self, path: impl AsRef<[u8]>) -> Self {
        self.lock().put(Node::new(&named(path), Kind::Socket, 0o755));
        self
    }

    /// Gives the file at `existing` one more name.
    pub fn hard_link(self, path: impl AsRef<[u8]>, existing: impl AsRef<[u8]>) -> Self {
        let path = named(path);
        let existing = named(existing);
        let mut copy = None;
        self.edit_node(&existing, |node| {
            node.entry.hard_link = Some(node.entry.detection.inode);
            copy = Some(node.clone());
        });
        let mut state = self.lock();
        if let Some(mut node) = copy {
            node.entry.path = path.clone();
            let original = node.entry.clone();
            // The folders above come by a node of the right path, then both names become one.
            state.put(node);
            if let Some(node) = state.nodes.get_mut(&path) {
                node.entry = original;
            }
        }
        drop(state);
        self
    }

    /// Adds an extended attribute to what is at `path`.
    pub fn xattr(
        self,
        path: impl AsRef<[u8]>,
        name: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Self {
        let xattr = Xattr { name: name.as_ref().to_vec(), value: value.as_ref().to_vec() };
        self.edit(path, |entry| {
            entry.metadata.xattrs.push(xattr);
            entry.metadata.xattrs.sort();
        });
        self
    }

    /// Makes what is at `path` fail.
    pub fn failing(self, path: impl AsRef<[u8]>, failure: Failure) -> Self {
        self.set_failure(path, Some(failure));
        self
    }
}

/// Editing and looking, also between backups.
impl MemorySource {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn edit_node(&self, path: &EntryPath, edit: impl FnOnce(&mut Node)) {
        match self.lock().nodes.get_mut(path) {
            Some(node) => edit(node),
            None => panic!("nothing is at {path} in the memory source {}", self.name),
        }
    }

    /// Adds a file or replaces the content of one, with a later time.
    pub fn put_file(&self, path: impl AsRef<[u8]>, content: impl AsRef<[u8]>) {
        let path = named(path);
        let mut state = self.lock();
        let old = state.nodes.get(&path).filter(|node| node.entry.kind == Kind::File).cloned();
        let mut node = old.unwrap_or_else(|| Node::new(&path, Kind::File, 0o644));
        node.set_content(content.as_ref());
        node.entry.maybe_sparse = false;
        node.extents = None;
        let group = node.entry.hard_link;
        state.put(node);
        // All names of one file show what was done through one of them.
        let Some(new) = state.nodes.get(&path).filter(|_| group.is_some()).cloned() else { return };
        for other in state.nodes.values_mut().filter(|other| other.entry.hard_link == group) {
            let path = other.entry.path.clone();
            *other = new.clone();
            other.entry.path = path;
        }
    }

    /// Changes an entry in any way, without moving its times.
    pub fn edit(&self, path: impl AsRef<[u8]>, edit: impl FnOnce(&mut SourceEntry)) {
        self.edit_node(&named(path), |node| edit(&mut node.entry));
    }

    /// Removes what is at `path` with all below it.
    pub fn remove(&self, path: impl AsRef<[u8]>) {
        let path = named(path);
        self.lock().nodes.retain(|other, _| other.is_root() || !other.is_within(&path));
    }

    /// Makes what is at `path` fail from now on, or no more.
    pub fn set_failure(&self, path: impl AsRef<[u8]>, failure: Option<Failure>) {
        self.edit_node(&named(path), |node| node.failure = failure);
    }

    /// Returns how many paths were opened since [`MemorySource::take_opened`] was last called.
    pub fn opened_count(&self) -> usize {
        self.lock().opened.len()
    }

    /// Returns the paths opened since this was last called, in order of opening.
    pub fn take_opened(&self) -> Vec<EntryPath> {
        std::mem::take(&mut self.lock().opened)
    }
}

fn failure(kind: ErrorKind, doing: &str, path: &EntryPath) -> Error {
    Error::new(kind, format!("{doing} {path}: the test wants it so")).at(Origin::Source)
}

/// What a scan shows of one node: one item, or two for a folder without a list.
fn items_of(node: &Node) -> Vec<ScanItem> {
    let path = node.entry.path.clone();
    let mut entry = node.entry.clone();
    entry.metadata.xattrs.clear();
    match node.failure {
        Some(Failure::Unseen) => {
            let error = failure(ErrorKind::Denied, "cannot look at", &path);
            vec![ScanItem::Failed(path, error)]
        }
        Some(Failure::Unlisted) => {
            let error = failure(ErrorKind::Denied, "cannot list", &path);
            vec![ScanItem::Entry(entry), ScanItem::Failed(path, error)]
        }
        Some(Failure::GrewSinceScan) => {
            entry.size = 0;
            vec![ScanItem::Entry(entry)]
        }
        _ if entry.kind == Kind::Socket => {
            vec![ScanItem::Skipped(path, "a socket is not stored".to_owned())]
        }
        _ => vec![ScanItem::Entry(entry)],
    }
}

impl Source for MemorySource {
    fn location(&self) -> String {
        format!("memory:{}", self.name)
    }

    fn detects_changes(&self) -> bool {
        self.lock().detects_changes
    }

    fn scan(&self, cancel: &Cancel) -> Result<Scan<'_>> {
        let nodes: Vec<Node> = self.lock().nodes.values().cloned().collect();
        let mut hidden: Option<EntryPath> = None;
        let seen = nodes.into_iter().filter(move |node| {
            if hidden.as_ref().is_some_and(|folder| node.entry.path.is_within(folder)) {
                return false;
            }
            if matches!(node.failure, Some(Failure::Unseen | Failure::Unlisted)) {
                hidden = Some(node.entry.path.clone());
            }
            true
        });
        let cancel = cancel.clone();
        let items = seen.flat_map(|node| items_of(&node));
        Ok(Box::new(items.take_while(move |_| !cancel.is_cancelled())))
    }

    fn reader(&self) -> Result<Box<dyn SourceReader + Send + '_>> {
        Ok(Box::new(MemoryReader { source: self, open: None }))
    }
}

struct MemoryReader<'a> {
    source: &'a MemorySource,
    open: Option<Node>,
}

impl SourceReader for MemoryReader<'_> {
    fn open(&mut self, path: &EntryPath) -> Result<OpenedEntry> {
        self.open = None;
        let mut state = self.source.lock();
        state.opened.push(path.clone());
        let node = state.nodes.get(path).filter(|node| node.failure != Some(Failure::Vanishes));
        let Some(node) = node.cloned() else {
            return Err(failure(ErrorKind::NotFound, "cannot open", path));
        };
        if matches!(node.failure, Some(Failure::Unreadable | Failure::Unseen)) {
            return Err(failure(ErrorKind::Denied, "cannot open", path));
        }
        let opened = OpenedEntry {
            entry: node.entry.clone(),
            link_target: node.link_target.clone(),
            extents: node.extents.clone(),
        };
        self.open = Some(node);
        Ok(opened)
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let node = match &self.open {
            Some(node) if node.entry.kind == Kind::File => node,
            _ => return Err(Error::bug("cannot read: no file is open").at(Origin::Source)),
        };
        let end = match node.failure {
            Some(Failure::BreaksAt(place)) if offset + buffer.len() as u64 > place => {
                return Err(failure(ErrorKind::Io, "cannot read", &node.entry.path));
            }
            Some(Failure::ShrinksTo(size)) => size.min(node.entry.size),
            _ => node.entry.size,
        };
        let start = usize::try_from(offset.min(end)).unwrap_or(usize::MAX);
        let rest = &node.content[start..usize::try_from(end).unwrap_or(usize::MAX)];
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    fn finish(&mut self) -> Result<SourceEntry> {
        let open = self.open.take();
        let node = open.ok_or_else(|| Error::bug("cannot finish: nothing is open"))?;
        let path = &node.entry.path;
        let state = self.source.lock();
        let now = state.nodes.get(path);
        let mut entry = now
            .map(|node| node.entry.clone())
            .ok_or_else(|| failure(ErrorKind::NotFound, "cannot look again at", path))?;
        entry.metadata.xattrs.clear();
        let changed = entry.metadata.mtime.plus_seconds(1);
        match node.failure {
            Some(Failure::ShrinksTo(size)) => {
                entry.size = size.min(entry.size);
                entry.metadata.mtime = changed;
            }
            Some(Failure::ChangesWhileRead) => entry.metadata.mtime = changed,
            _ => {}
        }
        Ok(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_one_file_share_a_group_and_nothing_else_has_one() {
        let source = MemorySource::new("x").file("a", b"1").hard_link("b/c", "a").file("d", b"1");
        let items = source.scan(&Cancel::new()).unwrap();
        let groups: Vec<Option<u64>> = items
            .filter_map(|item| match item {
                ScanItem::Entry(entry) if entry.kind == Kind::File => Some(entry.hard_link),
                _ => None,
            })
            .collect();

        assert!(groups[0].is_some());
        assert_eq!(groups[0], groups[1]);
        assert_eq!(groups[2], None);
    }

    #[test]
    fn an_edit_shows_as_a_later_time_on_the_same_inode() {
        let source = MemorySource::new("x").file("a", b"1");
        let look =
            |source: &MemorySource| source.reader().unwrap().open(&named("a")).unwrap().entry;
        let before = look(&source);

        source.put_file("a", b"22");

        let after = look(&source);
        assert!(after.metadata.mtime > before.metadata.mtime);
        assert_eq!(after.detection.inode, before.detection.inode);
        assert_eq!(after.size, 2);
    }

    #[test]
    fn what_cannot_be_listed_hides_what_is_below_it() {
        let source = MemorySource::new("x").file("a/b", b"1").failing("a", Failure::Unlisted);
        let items: Vec<ScanItem> = source.scan(&Cancel::new()).unwrap().collect();

        assert_eq!(items.len(), 3);
        assert!(matches!(&items[1], ScanItem::Entry(entry) if entry.path == named("a")));
        assert!(matches!(&items[2], ScanItem::Failed(path, _) if *path == named("a")));
    }
}
