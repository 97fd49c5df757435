//! A disk in memory that remembers what of it is durable, and writes down every change.
//!
//! Each name in a folder and each file's content has a list of values: the durable one first, the
//! one that the running machine shows last. Syncing drops all but the last. A power cut leaves
//! any of them, each on its own: names of one folder come and go independently, a renamed file
//! may stand at both names or at neither, and what was removed may be back.

use crate::crash::refusal::Account;
use crate::crash::refusal::Refusal;
use icecore::backend::local::disk::Disk;
use icecore::backend::local::disk::DiskFile;
use icecore::backend::local::disk::DiskKind;
use icecore::backend::local::disk::Look;
use icecore::base::time::Timestamp;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::Component;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;

pub(super) type Inode = usize;
pub(super) type Bytes = Arc<Vec<u8>>;

const ROOT: Inode = 0;

/// One change, as it was asked for.
#[derive(Clone, Debug)]
pub(super) enum Change {
    MakeFolder(PathBuf),
    Create(PathBuf),
    Write(Inode, Bytes),
    SyncFile(Inode),
    SyncFolder(PathBuf),
    Rename(PathBuf, PathBuf),
    Link(PathBuf, PathBuf),
    Remove(PathBuf),
}

/// Which of the backend's calls a sync comes from; told by what was done in the folder last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Site {
    /// The bytes of a file.
    Data,
    /// The name of an object that was just given it.
    ObjectName,
    /// The name of a folder that was just made.
    FolderName,
    /// The name of the repository's folder, or of one above it.
    AboveRoot,
    /// A name that was just removed.
    Removal,
    /// Names that somebody else has made.
    Others,
}

#[derive(Clone, Debug)]
pub(super) enum Node {
    File(Vec<Bytes>),
    Folder(BTreeMap<OsString, Vec<Option<Inode>>>),
}

/// A file system with what of it is durable. The first node is the root.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    pub(super) nodes: Vec<Node>,
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl Tree {
    /// A disk with one folder, `/disk`, that has always been there.
    pub(super) fn new() -> Self {
        let mut tree = Tree { nodes: vec![Node::Folder(BTreeMap::new())] };
        tree.apply(&Change::MakeFolder("/disk".into())).unwrap();
        tree.apply(&Change::SyncFolder("/".into())).unwrap();
        tree
    }

    fn find(&self, path: &Path) -> io::Result<Inode> {
        let mut at = ROOT;
        for part in path.components() {
            let Component::Normal(name) = part else { continue };
            let Node::Folder(names) = &self.nodes[at] else {
                return Err(io::ErrorKind::NotADirectory.into());
            };
            let found = names.get(name).and_then(|values| *values.last().unwrap());
            at = found.ok_or_else(not_found)?;
        }
        Ok(at)
    }

    fn folder(&mut self, path: &Path) -> io::Result<&mut BTreeMap<OsString, Vec<Option<Inode>>>> {
        let inode = self.find(path)?;
        match &mut self.nodes[inode] {
            Node::Folder(names) => Ok(names),
            Node::File(_) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn set(&mut self, path: &Path, value: Option<Inode>) -> io::Result<()> {
        let name = path.file_name().unwrap().to_owned();
        let folder = self.folder(path.parent().unwrap())?;
        folder.entry(name).or_insert_with(|| vec![None]).push(value);
        Ok(())
    }

    fn refuse_taken(&self, path: &Path) -> io::Result<()> {
        match self.find(path) {
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(e),
        }
    }

    fn refuse_folder(&self, path: &Path) -> io::Result<Inode> {
        let inode = self.find(path)?;
        match &self.nodes[inode] {
            Node::File(_) => Ok(inode),
            Node::Folder(_) => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    fn add(&mut self, path: &Path, node: Node) -> io::Result<()> {
        self.refuse_taken(path)?;
        self.set(path, Some(self.nodes.len()))?;
        self.nodes.push(node);
        Ok(())
    }

    /// Makes a change, or refuses it as a file system does.
    pub(super) fn apply(&mut self, change: &Change) -> io::Result<()> {
        match change {
            Change::MakeFolder(path) => self.add(path, Node::Folder(BTreeMap::new())),
            Change::Create(path) => self.add(path, Node::File(vec![Bytes::default()])),
            Change::Write(inode, bytes) => {
                let Node::File(values) = &mut self.nodes[*inode] else { return Err(not_found()) };
                let longer = [values.last().unwrap().as_slice(), bytes].concat();
                values.push(Arc::new(longer));
                Ok(())
            }
            Change::SyncFile(inode) => {
                let Node::File(values) = &mut self.nodes[*inode] else { return Err(not_found()) };
                values.drain(..values.len() - 1);
                Ok(())
            }
            Change::SyncFolder(path) => {
                let folder = self.folder(path)?;
                folder.values_mut().for_each(|values| drop(values.drain(..values.len() - 1)));
                folder.retain(|_, values| values[0].is_some());
                Ok(())
            }
            Change::Rename(from, to) => {
                let inode = self.refuse_folder(from)?;
                if self.find(to).is_ok() {
                    self.refuse_folder(to)?;
                }
                self.set(to, Some(inode))?;
                self.set(from, None)
            }
            Change::Link(existing, name) => {
                self.refuse_taken(name)?;
                let inode = self.refuse_folder(existing)?;
                self.set(name, Some(inode))
            }
            Change::Remove(path) => {
                self.refuse_folder(path)?;
                self.set(path, None)
            }
        }
    }

    /// Goes through all that is shown, as paths with the bytes of files.
    pub(super) fn visit(&self, visit: &mut dyn FnMut(&Path, Option<&Bytes>)) {
        let mut open = vec![(PathBuf::from("/"), ROOT)];
        while let Some((path, inode)) = open.pop() {
            match &self.nodes[inode] {
                Node::File(values) => visit(&path, values.last()),
                Node::Folder(names) => {
                    visit(&path, None);
                    for (name, values) in names {
                        open.extend(values.last().unwrap().map(|inode| (path.join(name), inode)));
                    }
                }
            }
        }
    }

    fn look(&self, inode: Inode) -> Look {
        let (kind, size) = match &self.nodes[inode] {
            Node::File(values) => (DiskKind::File, values.last().unwrap().len() as u64),
            Node::Folder(_) => (DiskKind::Folder, 0),
        };
        Look { kind, size, modified: Timestamp::new(inode as i64, 0), identity: (1, inode as u64) }
    }
}

/// What is called before each change, with how many there were.
type Watch = Box<dyn FnMut(usize) + Send>;

struct State {
    tree: Tree,
    account: Account,
    log: Vec<Change>,
    is_off: bool,
    kill_before: Option<&'static str>,
    kill_after: Option<usize>,
    skips: Option<Site>,
    watch: Option<Watch>,
}

/// The disk of a machine that may lose its power.
#[derive(Clone)]
pub(super) struct MemoryDisk(Arc<Mutex<State>>);

impl fmt::Debug for MemoryDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryDisk after {} changes", self.lock().log.len())
    }
}

impl MemoryDisk {
    pub(super) fn new(tree: Tree) -> Self {
        let state = State {
            tree,
            account: Account::default(),
            log: Vec::new(),
            is_off: false,
            kill_before: None,
            kill_after: None,
            skips: None,
            watch: None,
        };
        MemoryDisk(Arc::new(Mutex::new(state)))
    }

    /// Leaves out every sync of one site, as if the backend did not call it.
    pub(super) fn skip(&self, site: Option<Site>) {
        self.lock().skips = site;
    }

    /// Dies before an object is given a name below this folder; None brings it back to life.
    pub(super) fn kill_before(&self, folder: Option<&'static str>) {
        let mut state = self.lock();
        state.kill_before = folder;
        state.is_off = false;
    }

    /// Dies when so many more changes were made; None brings it back to life.
    pub(super) fn kill_after(&self, changes: Option<usize>) {
        let mut state = self.lock();
        state.kill_after = changes.map(|changes| state.log.len() + changes);
        state.is_off = false;
    }

    /// Counts what is asked from 0 again, and refuses some of it; returns the account until now.
    pub(super) fn refuse(&self, refusal: Option<Refusal>) -> Account {
        let account = Account { refusal, ..Account::default() };
        std::mem::replace(&mut self.lock().account, account)
    }

    pub(super) fn watch(&self, watch: impl FnMut(usize) + Send + 'static) {
        self.lock().watch = Some(Box::new(watch));
    }

    /// Returns how many changes there were.
    pub(super) fn position(&self) -> usize {
        self.lock().log.len()
    }

    pub(super) fn log(&self) -> Vec<Change> {
        self.lock().log.clone()
    }

    pub(super) fn tree(&self) -> Tree {
        self.lock().tree.clone()
    }

    /// Exchanges the bytes of a file, wherever they are, without writing it down.
    pub(super) fn replace_bytes(&self, path: &Path, bytes: &[u8]) {
        let mut state = self.lock();
        let inode = state.tree.find(path).unwrap();
        if let Node::File(values) = &mut state.tree.nodes[inode] {
            values.fill(Arc::new(bytes.to_vec()));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn change(&self, change: Change) -> io::Result<()> {
        let mut state = self.lock();
        state.refuse_when_off()?;
        if state.kill_after.is_some_and(|last| state.log.len() >= last) {
            state.is_off = true;
            return state.refuse_when_off();
        }
        if let (Some(folder), Change::Link(_, to) | Change::Rename(_, to)) =
            (state.kill_before, &change)
            && to.components().any(|part| part.as_os_str() == OsStr::new(folder))
        {
            state.is_off = true;
            return state.refuse_when_off();
        }
        state.refuse_change(&change)?;
        if state.skips.is_some() && state.site(&change) == state.skips {
            return Ok(());
        }
        let position = state.log.len();
        if let Some(watch) = &mut state.watch {
            watch(position);
        }
        state.tree.apply(&change)?;
        state.log.push(change);
        Ok(())
    }
}

impl State {
    fn refuse_when_off(&self) -> io::Result<()> {
        if self.is_off { Err(io::Error::other("the machine is off")) } else { Ok(()) }
    }

    /// Refuses a change; half of a write is done all the same.
    fn refuse_change(&mut self, change: &Change) -> io::Result<()> {
        let Some(errno) = self.account.change(change) else { return Ok(()) };
        if let Change::Write(inode, bytes) = change {
            let half = bytes[..bytes.len() / 2].to_vec();
            self.tree.apply(&Change::Write(*inode, Arc::new(half)))?;
        }
        Err(errno.into())
    }

    fn refuse_read(&mut self) -> io::Result<()> {
        self.refuse_when_off()?;
        self.account.read().map_or(Ok(()), |errno| Err(errno.into()))
    }

    fn site(&self, change: &Change) -> Option<Site> {
        let folder = match change {
            Change::SyncFile(_) => return Some(Site::Data),
            Change::SyncFolder(folder) => folder,
            _ => return None,
        };
        if !folder.starts_with(REPOSITORY) {
            return Some(Site::AboveRoot);
        }
        let is_in = |path: &PathBuf| path.parent() == Some(folder);
        let site = self.log.iter().rev().find_map(|before| match before {
            Change::MakeFolder(path) if is_in(path) => Some(Site::FolderName),
            Change::Rename(_, path) | Change::Link(_, path) if is_in(path) => {
                Some(Site::ObjectName)
            }
            Change::Remove(path) if is_in(path) => Some(Site::Removal),
            Change::SyncFolder(path) if path == folder => Some(Site::Others),
            _ => None,
        });
        Some(site.unwrap_or(Site::Others))
    }
}

/// Where the repository is on the disk: below a folder that has to be made first.
pub(super) const REPOSITORY: &str = "/disk/above/repository";

impl Disk for MemoryDisk {
    fn make_folder(&self, path: &Path) -> io::Result<()> {
        self.change(Change::MakeFolder(path.to_owned()))
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.change(Change::SyncFolder(path.to_owned()))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.change(Change::Create(path.to_owned()))?;
        let inode = self.lock().tree.find(path)?;
        Ok(Box::new(MemoryFile { disk: self.clone(), inode }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change(Change::Rename(from.to_owned(), to.to_owned()))
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.lock().tree.refuse_taken(to)?;
        self.rename(from, to)
    }

    fn link(&self, existing: &Path, name: &Path) -> io::Result<()> {
        self.change(Change::Link(existing.to_owned(), name.to_owned()))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.change(Change::Remove(path.to_owned()))
    }

    fn look(&self, path: &Path) -> io::Result<Look> {
        let mut state = self.lock();
        state.refuse_read()?;
        state.tree.find(path).map(|inode| state.tree.look(inode))
    }

    fn names(&self, path: &Path) -> io::Result<Vec<OsString>> {
        let mut state = self.lock();
        state.refuse_read()?;
        let names = state.tree.folder(path)?.iter();
        let shown = names.filter(|(_, values)| values.last().unwrap().is_some());
        Ok(shown.map(|(name, _)| name.clone()).collect())
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.lock();
        state.refuse_read()?;
        let inode = state.tree.find(path)?;
        Ok(Box::new(MemoryFile { disk: self.clone(), inode }))
    }
}

struct MemoryFile {
    disk: MemoryDisk,
    inode: Inode,
}

impl MemoryFile {
    fn bytes(&self) -> io::Result<Bytes> {
        let mut state = self.disk.lock();
        state.refuse_read()?;
        match &state.tree.nodes[self.inode] {
            Node::File(values) => Ok(Arc::clone(values.last().unwrap())),
            Node::Folder(_) => Err(io::ErrorKind::IsADirectory.into()),
        }
    }
}

impl DiskFile for MemoryFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.disk.change(Change::Write(self.inode, Arc::new(bytes.to_vec())))
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.change(Change::SyncFile(self.inode))
    }

    fn look(&self) -> io::Result<Look> {
        Ok(self.disk.lock().tree.look(self.inode))
    }

    fn read_to_end(&mut self, bytes_max: u64, buffer: &mut Vec<u8>) -> io::Result<()> {
        let bytes = self.bytes()?;
        buffer.extend_from_slice(&bytes[..bytes.len().min(bytes_max as usize)]);
        Ok(())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let bytes = self.bytes()?;
        let start = usize::try_from(offset).unwrap();
        let stretch = bytes.get(start..start + buffer.len());
        buffer.copy_from_slice(stretch.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}
