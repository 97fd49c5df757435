//! A tree in memory as a target, for tests and examples; stricter than a real folder.
//!
//! A folder whose mode forbids it takes no new names, two files are never open at once, and
//! each change moves times, so that an engine which works in the wrong order is found out. It
//! fails where it is told to: full after some bytes, or at one path.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::metadata::Extent;
use crate::base::metadata::Kind;
use crate::base::metadata::Metadata;
use crate::base::metadata::Owner;
use crate::base::path::EntryPath;
use crate::base::time::Timestamp;
use crate::target::MetadataRules;
use crate::target::Node;
use crate::target::Target;
use crate::target::TargetEntry;
use crate::target::TargetWriter;
use crate::target::memory::inode::BLOCK_BYTES;
use crate::target::memory::inode::Inode;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;

mod inode;

/// Where the counter that stands for a clock begins: far from any time a test restores.
const FIRST_SECOND: i64 = 5_000_000_000;

/// A tree in memory; cloning shares it.
///
/// ```
/// use icecore::base::path::EntryPath;
/// use icecore::target::Target;
/// use icecore::target::memory::MemoryTarget;
///
/// let target = MemoryTarget::new();
/// target.prepare().unwrap();
/// let mut writer = target.writer().unwrap();
/// let path = EntryPath::new(b"a").unwrap();
/// writer.create_file(&path).unwrap();
/// writer.write_at(0, b"content").unwrap();
/// writer.close_file().unwrap();
/// assert_eq!(target.content(&path).unwrap(), b"content");
/// ```
#[derive(Clone, Debug, Default)]
pub struct MemoryTarget(Arc<Mutex<State>>);

/// What stands at one path, as a test looks at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryEntry {
    /// What it is.
    pub kind: Kind,
    /// Metadata with extended attributes.
    pub metadata: Metadata,
    /// Where a symlink points, else empty.
    pub link_target: Vec<u8>,
    /// Device numbers, of devices.
    pub device: (u32, u32),
    /// Bytes of content with holes counted.
    pub size: u64,
    /// Number of the file itself: equal for all its names.
    pub inode: u64,
}

#[derive(Debug, Default)]
struct State {
    /// Which file each name stands for; the root is missing until it is prepared.
    names: BTreeMap<EntryPath, u64>,
    files: BTreeMap<u64, Inode>,
    ticks: u64,
    bytes_max: Option<u64>,
    owner_denied: bool,
    failures: BTreeMap<EntryPath, ErrorKind>,
    synced: bool,
}

impl State {
    fn tick(&mut self) -> Timestamp {
        self.ticks += 1;
        Timestamp::new(FIRST_SECOND, 0).plus_seconds(self.ticks as i64)
    }

    fn touch(&mut self, inode: u64) {
        let now = self.tick();
        if let Some(file) = self.files.get_mut(&inode) {
            file.metadata.mtime = now;
        }
    }

    fn at(&self, path: &EntryPath) -> Option<&Inode> {
        self.names.get(path).and_then(|inode| self.files.get(inode))
    }

    fn at_mut(&mut self, path: &EntryPath) -> Option<&mut Inode> {
        let inode = self.names.get(path)?;
        self.files.get_mut(inode)
    }

    fn data_bytes(&self) -> u64 {
        let blocks: usize = self.files.values().map(|file| file.blocks.len()).sum();
        blocks as u64 * BLOCK_BYTES
    }

    /// Checks that a name may be added to or removed from the folder it is in.
    fn check_folder_of(&self, path: &EntryPath) -> Result<()> {
        let Some(folder) = path.parent() else { return Ok(()) };
        match self.at(&folder) {
            None => Err(refused(ErrorKind::NotFound, path, "its folder is missing")),
            Some(inode) if inode.kind != Kind::Directory => {
                Err(refused(ErrorKind::AlreadyExists, path, "no folder is where one must be"))
            }
            Some(inode) if inode.metadata.mode & 0o300 != 0o300 => {
                Err(refused(ErrorKind::Denied, path, "its folder cannot be written to"))
            }
            Some(_) => Ok(()),
        }
    }

    fn touch_folder_of(&mut self, path: &EntryPath) {
        let folder = path.parent().and_then(|folder| self.names.get(&folder).copied());
        if let Some(inode) = folder {
            self.touch(inode);
        }
    }

    /// Adds a new thing.
    fn make(&mut self, path: &EntryPath, file: Inode) -> Result<u64> {
        self.check_folder_of(path)?;
        if self.names.contains_key(path) {
            return Err(refused(ErrorKind::AlreadyExists, path, "something stands there"));
        }
        self.tick();
        let inode = self.ticks;
        self.files.insert(inode, file);
        self.names.insert(path.clone(), inode);
        self.touch(inode);
        self.touch_folder_of(path);
        Ok(inode)
    }

    fn set_metadata(
        &mut self,
        inode: u64,
        metadata: &Metadata,
        rules: MetadataRules,
    ) -> Vec<String> {
        let owner_denied = self.owner_denied;
        let Some(file) = self.files.get_mut(&inode) else { return Vec::new() };
        let mut new = metadata.clone();
        new.owner = Arc::clone(&file.metadata.owner);
        if file.kind == Kind::Symlink {
            new.mode = file.metadata.mode;
        }
        let mut trouble = Vec::new();
        let wanted = (metadata.owner.uid, metadata.owner.gid);
        if rules.owner && owner_denied && wanted != (new.owner.uid, new.owner.gid) {
            trouble.push(format!("owner {}:{} was not set: not permitted", wanted.0, wanted.1));
        } else if rules.owner {
            let (uid, gid) = wanted;
            new.owner = Arc::new(Owner { uid, gid, ..Owner::default() });
        }
        file.metadata = new;
        trouble
    }

    fn unlink(&mut self, path: &EntryPath) {
        let Some(inode) = self.names.remove(path) else { return };
        if let Some(file) = self.files.get_mut(&inode) {
            file.links -= 1;
            if file.links == 0 {
                self.files.remove(&inode);
            }
        }
    }
}

fn refused(kind: ErrorKind, path: &EntryPath, why: &str) -> Error {
    Error::new(kind, format!("cannot write {path}: {why}")).at(Origin::Target)
}

impl MemoryTarget {
    /// Makes a target whose root is not there yet.
    pub fn new() -> Self {
        MemoryTarget::default()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Makes it full once it holds this much content.
    pub fn set_bytes_max(&self, bytes_max: Option<u64>) {
        self.lock().bytes_max = bytes_max;
    }

    /// Makes every change of owner fail, as for anybody but root.
    pub fn deny_owner(&self) {
        self.lock().owner_denied = true;
    }

    /// Makes everything done at this path fail.
    pub fn fail(&self, path: &EntryPath, kind: ErrorKind) {
        self.lock().failures.insert(path.clone(), kind);
    }

    /// Returns all that stands in it, in order, the root included.
    pub fn entries(&self) -> BTreeMap<EntryPath, MemoryEntry> {
        let state = self.lock();
        let entry = |(path, &inode): (&EntryPath, &u64)| {
            let file = state.files.get(&inode)?;
            let entry = MemoryEntry {
                kind: file.kind,
                metadata: file.metadata.clone(),
                link_target: file.link_target.clone(),
                device: file.device,
                size: file.size,
                inode,
            };
            Some((path.clone(), entry))
        };
        state.names.iter().filter_map(entry).collect()
    }

    /// Returns a file's content; none when no file is there.
    pub fn content(&self, path: &EntryPath) -> Option<Vec<u8>> {
        let state = self.lock();
        let file = state.at(path).filter(|file| file.kind == Kind::File)?;
        let mut bytes = vec![0; usize::try_from(file.size).ok()?];
        file.read(0, &mut bytes);
        Some(bytes)
    }

    /// Returns where a file has data, in whole blocks; none when no file is there.
    pub fn extents(&self, path: &EntryPath) -> Option<Vec<Extent>> {
        let state = self.lock();
        let file = state.at(path).filter(|file| file.kind == Kind::File)?;
        let mut extents: Vec<Extent> = Vec::new();
        for &block in file.blocks.keys() {
            let offset = block * BLOCK_BYTES;
            let length = BLOCK_BYTES.min(file.size.saturating_sub(offset));
            match extents.last_mut() {
                Some(last) if last.offset + last.length == offset => last.length += length,
                _ => extents.push(Extent { offset, length }),
            }
        }
        Some(extents)
    }

    /// Says whether everything written so far was made durable.
    pub fn is_synced(&self) -> bool {
        self.lock().synced
    }
}

impl Target for MemoryTarget {
    fn location(&self) -> String {
        "memory:".to_owned()
    }

    fn prepare(&self) -> Result<bool> {
        let mut state = self.lock();
        if state.names.contains_key(&EntryPath::root()) {
            return Ok(true);
        }
        state.make(&EntryPath::root(), Inode::new(Kind::Directory, 0o755))?;
        Ok(false)
    }

    fn writer(&self) -> Result<Box<dyn TargetWriter + Send + '_>> {
        if !self.lock().names.contains_key(&EntryPath::root()) {
            return Err(refused(ErrorKind::NotFound, &EntryPath::root(), "it was not prepared"));
        }
        Ok(Box::new(MemoryWriter { target: self, open: None }))
    }
}

struct MemoryWriter<'a> {
    target: &'a MemoryTarget,
    open: Option<(EntryPath, u64)>,
}

impl MemoryWriter<'_> {
    /// Starts an act at a path, unless it is one that shall fail.
    fn begin(&self, path: &EntryPath) -> Result<MutexGuard<'_, State>> {
        let mut state = self.target.lock();
        state.synced = false;
        match state.failures.get(path) {
            Some(&kind) => Err(refused(kind, path, "the test wants it so")),
            None => Ok(state),
        }
    }

    fn check_nothing_open(&self) -> Result<()> {
        match &self.open {
            Some((path, _)) => Err(Error::bug(format!("{path} is still open")).at(Origin::Target)),
            None => Ok(()),
        }
    }

    fn opened(&self) -> Result<(EntryPath, u64)> {
        self.open.clone().ok_or_else(|| Error::bug("no file is open").at(Origin::Target))
    }

    /// Changes the content of the open file.
    fn change(&mut self, change: impl FnOnce(&mut Inode)) -> Result<()> {
        let (path, inode) = self.opened()?;
        let mut state = self.begin(&path)?;
        let before = state.files.get(&inode).cloned();
        if let Some(file) = state.files.get_mut(&inode) {
            change(file);
        }
        let is_full = state.bytes_max.is_some_and(|most| state.data_bytes() > most);
        if is_full {
            state.files.extend(before.map(|file| (inode, file)));
            return Err(refused(ErrorKind::Full, &path, "no space left on the target"));
        }
        state.touch(inode);
        Ok(())
    }
}

impl TargetWriter for MemoryWriter<'_> {
    fn stat(&mut self, path: &EntryPath) -> Result<Option<TargetEntry>> {
        let state = self.begin(path)?;
        let inode = state.names.get(path).copied().unwrap_or_default();
        Ok(state.at(path).map(|file| {
            let is_told = file.metadata.xattrs.is_empty();
            let metadata = Metadata { xattrs: Vec::new(), ..file.metadata.clone() };
            TargetEntry {
                links: file.links,
                inode: Some((0, inode)),
                identity: (is_told && file.links > 1).then_some((0, inode)),
                node: file.node().filter(|_| is_told),
                ..TargetEntry::plain(file.kind, file.size, metadata)
            }
        }))
    }

    fn list(&mut self, path: &EntryPath) -> Result<Vec<Vec<u8>>> {
        let state = self.begin(path)?;
        if state.at(path).is_none_or(|file| file.kind != Kind::Directory) {
            return Err(refused(ErrorKind::NotFound, path, "no folder is there"));
        }
        let children = state.names.keys().filter(|name| name.parent().as_ref() == Some(path));
        Ok(children.map(|name| name.name().to_vec()).collect())
    }

    fn create_directory(&mut self, path: &EntryPath) -> Result<()> {
        let mut state = self.begin(path)?;
        match state.at_mut(path) {
            Some(there) if there.kind == Kind::Directory => there.metadata.mode |= 0o700,
            _ => drop(state.make(path, Inode::new(Kind::Directory, 0o700))?),
        }
        Ok(())
    }

    fn create_file(&mut self, path: &EntryPath) -> Result<()> {
        self.check_nothing_open()?;
        let inode = self.begin(path)?.make(path, Inode::new(Kind::File, 0o600))?;
        self.open = Some((path.clone(), inode));
        Ok(())
    }

    fn open_file(&mut self, path: &EntryPath) -> Result<()> {
        self.check_nothing_open()?;
        let mut state = self.begin(path)?;
        match state.at_mut(path) {
            None => return Err(refused(ErrorKind::NotFound, path, "nothing is there")),
            Some(there) if there.kind != Kind::File => {
                return Err(refused(ErrorKind::InvalidInput, path, "it is no file"));
            }
            Some(there) => there.metadata.mode |= 0o600,
        }
        let inode = state.names.get(path).copied();
        drop(state);
        self.open = inode.map(|inode| (path.clone(), inode));
        Ok(())
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.change(|file| file.write(offset, bytes))
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let (path, inode) = self.opened()?;
        let state = self.begin(&path)?;
        Ok(state.files.get(&inode).map_or(0, |file| file.read(offset, buffer)))
    }

    fn punch_hole(&mut self, offset: u64, length: u64) -> Result<()> {
        self.change(|file| file.punch(offset, length))
    }

    fn set_length(&mut self, length: u64) -> Result<()> {
        self.change(|file| file.set_length(length))
    }

    fn finish_file(&mut self, metadata: &Metadata, rules: MetadataRules) -> Result<Vec<String>> {
        let (path, inode) = self.opened()?;
        self.open = None;
        let mut state = self.begin(&path)?;
        Ok(state.set_metadata(inode, metadata, rules))
    }

    fn close_file(&mut self) -> Result<()> {
        self.opened()?;
        self.open = None;
        Ok(())
    }

    fn create_node(
        &mut self,
        path: &EntryPath,
        node: &Node,
        metadata: &Metadata,
        rules: MetadataRules,
    ) -> Result<Vec<String>> {
        let mut file = match node {
            Node::Symlink(_) => Inode::new(Kind::Symlink, 0o777),
            Node::Fifo => Inode::new(Kind::Fifo, 0o600),
            Node::CharDevice(..) => Inode::new(Kind::CharDevice, 0o600),
            Node::BlockDevice(..) => Inode::new(Kind::BlockDevice, 0o600),
        };
        match node {
            Node::Symlink(target) => file.link_target.clone_from(target),
            Node::CharDevice(major, minor) | Node::BlockDevice(major, minor) => {
                file.device = (*major, *minor);
            }
            Node::Fifo => {}
        }
        let mut state = self.begin(path)?;
        let inode = state.make(path, file)?;
        Ok(state.set_metadata(inode, metadata, rules))
    }

    fn link(&mut self, path: &EntryPath, existing: &EntryPath) -> Result<()> {
        let mut state = self.begin(path)?;
        state.check_folder_of(path)?;
        if state.names.contains_key(path) {
            return Err(refused(ErrorKind::AlreadyExists, path, "something stands there"));
        }
        let Some(&inode) = state.names.get(existing) else {
            return Err(refused(
                ErrorKind::NotFound,
                path,
                "what it shall be a link to is missing",
            ));
        };
        if let Some(file) = state.files.get_mut(&inode) {
            file.links += 1;
        }
        state.names.insert(path.clone(), inode);
        state.touch_folder_of(path);
        Ok(())
    }

    fn set_metadata(
        &mut self,
        path: &EntryPath,
        metadata: &Metadata,
        rules: MetadataRules,
    ) -> Result<Vec<String>> {
        let mut state = self.begin(path)?;
        match state.names.get(path).copied() {
            Some(inode) => Ok(state.set_metadata(inode, metadata, rules)),
            None => Err(refused(ErrorKind::NotFound, path, "nothing is there")),
        }
    }

    fn remove(&mut self, path: &EntryPath) -> Result<()> {
        if path.is_root() {
            return Err(refused(ErrorKind::InvalidInput, path, "the root is not removed"));
        }
        let mut state = self.begin(path)?;
        if !state.names.contains_key(path) {
            return Ok(());
        }
        state.check_folder_of(path)?;
        let within = state.names.keys().filter(|name| name.is_within(path));
        for name in within.cloned().collect::<Vec<_>>() {
            state.unlink(&name);
        }
        state.touch_folder_of(path);
        Ok(())
    }

    fn sync(&mut self) -> Result<()> {
        self.target.lock().synced = true;
        Ok(())
    }
}
