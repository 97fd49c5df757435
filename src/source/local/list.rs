//! The list of one folder's entries, looked at and filtered.
//!
//! Names are read whole, since they are sorted; `stat` is called for at most
//! [`STAT_BATCH`] of them at a time, so that a folder of a million files costs its names.

use crate::base::error::Result;
use crate::base::handles::Handles;
use crate::base::metadata::Kind;
use crate::base::path::EntryPath;
use crate::source::ScanItem;
use crate::source::ahead;
use crate::source::ahead::Stop;
use crate::source::filter::CACHE_TAG_NAME;
use crate::source::filter::CACHE_TAG_SIGNATURE;
use crate::source::filter::FolderRules;
use crate::source::filter::GITIGNORE_BYTES_MAX;
use crate::source::filter::GITIGNORE_NAME;
use crate::source::local::Inner;
use crate::source::local::ORIGIN;
use crate::source::local::entry::entry_of;
use crate::source::local::entry::kind_of;
use crate::source::local::failed;
use crate::source::local::open_quietly;
use crate::source::local::owners::OwnerCache;
use rustix::fs::AtFlags;
use rustix::fs::OFlags;
use rustix::fs::RawDir;
use rustix::fs::Stat;
use std::collections::VecDeque;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Bytes of one `getdents`: as much as the C library asks for.
const GETDENTS_BYTES: usize = 32 * 1024;
/// Entries looked at before the first is handed out; few folders hold more.
const STAT_BATCH: usize = 2048;

/// A folder still to be listed.
#[derive(Clone, Debug)]
pub(super) struct Task {
    pub(super) folder: EntryPath,
    pub(super) rules: FolderRules,
}

/// One item, and whether it is a folder to go into.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) item: ScanItem,
    pub(super) enter: bool,
}

/// What a folder holds, in order.
#[derive(Debug)]
pub(super) struct Listing {
    folder: EntryPath,
    rules: FolderRules,
    names: Names,
    found: VecDeque<Found>,
    /// The names once more, listed when some could not be found, and how often.
    again: Option<Names>,
    sought: u8,
}

impl Listing {
    /// Hands out the next item that was looked at.
    pub(super) fn pop(&mut self) -> Option<Found> {
        self.found.pop_front()
    }

    /// Says whether there are names that nobody looked at yet.
    pub(super) fn has_more(&self) -> bool {
        self.names.next < self.names.spans.len()
    }

    /// Returns the task of listing one of this folder's folders.
    pub(super) fn task(&self, folder: EntryPath) -> Task {
        Task { folder, rules: self.rules.clone() }
    }
}

/// Names of one folder in one piece of memory.
#[derive(Debug, Default)]
struct Names {
    bytes: Vec<u8>,
    /// Start and length of each name, in the order of the names.
    spans: Vec<(usize, u16)>,
    /// The first that nobody looked at.
    next: usize,
}

/// How often a folder is listed again for names that cannot be found in it: one of very many names
/// may be emptied just now. Later ones that the last listing has are told as there.
const SOUGHT_MAX: u8 = 8;

impl Names {
    fn push(&mut self, name: &[u8]) {
        let length = u16::try_from(name.len()).expect("because a directory record is that short");
        self.spans.push((self.bytes.len(), length));
        self.bytes.extend_from_slice(name);
    }

    fn get(&self, span: (usize, u16)) -> &[u8] {
        &self.bytes[span.0..span.0 + usize::from(span.1)]
    }

    /// Sorts them, each once: while a folder changes the system may list a name twice.
    fn sort(&mut self) {
        let bytes = &self.bytes;
        let name = |span: &(usize, u16)| &bytes[span.0..span.0 + usize::from(span.1)];
        self.spans.sort_unstable_by(|a, b| name(a).cmp(name(b)));
        self.spans.dedup_by(|a, b| name(a) == name(b));
    }

    /// A folder with a name that no path can hold counts as unreadable as a whole, since that
    /// name could not be reported in any other way.
    fn check_lengths(&self, folder: &EntryPath) -> Result<()> {
        let longest = self.spans.iter().max_by_key(|span| span.1);
        let joined = longest.map_or(Ok(folder.clone()), |&span| folder.join(self.get(span)));
        joined.map(drop).map_err(|e| e.context(format!("cannot list {folder}")).at(ORIGIN))
    }

    fn find(&self, wanted: &[u8]) -> bool {
        self.spans.binary_search_by(|&span| self.get(span).cmp(wanted)).is_ok()
    }

    fn retain(&mut self, keep: impl Fn(&[u8]) -> bool) {
        let mut spans = std::mem::take(&mut self.spans);
        spans.retain(|&span| keep(self.get(span)));
        self.spans = spans;
    }
}

/// Lists folders for one thread.
pub(super) struct Lister {
    inner: Arc<Inner>,
    handles: Handles,
    owners: OwnerCache,
    buffer: Vec<MaybeUninit<u8>>,
}

impl Lister {
    /// Makes a lister.
    pub(super) fn new(inner: Arc<Inner>) -> Self {
        Lister {
            handles: Handles::new(Arc::clone(&inner.root)),
            owners: OwnerCache::new(Arc::clone(&inner.owners)),
            buffer: vec![MaybeUninit::uninit(); GETDENTS_BYTES],
            inner,
        }
    }

    /// Looks at the next entries of a listing.
    pub(super) fn extend(&mut self, listing: &mut Listing, stop: &Stop) {
        match self.open(&listing.folder) {
            Ok(folder) => self.look(listing, folder.as_fd(), stop),
            Err(cause) => {
                let from = std::mem::replace(&mut listing.names.next, listing.names.spans.len());
                if is_gone(&cause) {
                    return;
                }
                // One failure for each name: the folder's own would say that nothing in it is
                // known, and part of it was handed out already.
                let code = cause.raw_os_error().unwrap_or(0);
                for &span in &listing.names.spans[from..] {
                    let Ok(path) = listing.folder.join(listing.names.get(span)) else { continue };
                    let cause = io::Error::from_raw_os_error(code);
                    listing.found.push_back(unseen(path, cause));
                }
            }
        }
    }

    fn open(&mut self, folder: &EntryPath) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        if folder.is_root() {
            return open_quietly(self.inner.root.as_fd(), b".", flags);
        }
        let parent = self.handles.enter(folder.parent_bytes())?;
        open_quietly(parent, folder.name(), flags)
    }

    /// Obeys files in the folder that speak about it.
    fn apply_marks(&self, listing: &mut Listing, folder: BorrowedFd<'_>) {
        let Some(filter) = &self.inner.options.filter else { return };
        let names = &mut listing.names;
        let is_cache = filter.reads_cache_tags()
            && names.find(CACHE_TAG_NAME)
            && read_start(folder, CACHE_TAG_NAME, CACHE_TAG_SIGNATURE.len())
                .is_ok_and(|start| start == CACHE_TAG_SIGNATURE);
        let is_marked = names.spans.iter().any(|&span| filter.is_marker(names.get(span)));
        if is_cache || is_marked {
            names.retain(|name| filter.is_marker(name) || (is_cache && name == CACHE_TAG_NAME));
        }
        if filter.reads_gitignore()
            && names.find(GITIGNORE_NAME)
            && let Ok(content) = read_start(folder, GITIGNORE_NAME, GITIGNORE_BYTES_MAX)
        {
            listing.rules = listing.rules.with_file(&listing.folder, &content);
        }
    }

    /// Looks at up to [`STAT_BATCH`] entries.
    fn look(&mut self, listing: &mut Listing, folder: BorrowedFd<'_>, stop: &Stop) {
        let first = listing.names.next;
        let last = listing.names.spans.len().min(first + STAT_BATCH);
        listing.found.reserve(last - first);
        listing.names.next = last;
        let mut ghosts = Vec::new();
        for index in first..last {
            if stop.is_set() {
                break;
            }
            let name = listing.names.get(listing.names.spans[index]);
            // Cannot fail: `check_lengths` looked at the longest.
            let Ok(path) = listing.folder.join(name) else { continue };
            match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => listing.found.extend(self.judge(path, &stat, &listing.rules)),
                Err(_) if self.leaves_out(&path, &listing.rules) => {}
                Err(errno) => {
                    if errno == rustix::io::Errno::NOENT {
                        ghosts.push(listing.found.len());
                    }
                    listing.found.push_back(unseen(path, errno.into()));
                }
            }
        }
        if !ghosts.is_empty() {
            self.forget_vanished(listing, folder, ghosts, stop);
        }
    }

    /// Of names that could not be found, leaves those that the folder still lists: they are there,
    /// whatever the file system says.
    fn forget_vanished(
        &mut self,
        listing: &mut Listing,
        folder: BorrowedFd<'_>,
        ghosts: Vec<usize>,
        stop: &Stop,
    ) {
        let name = |ghost: &usize| listing.found[*ghost].item.path().name();
        let is_told = listing
            .again
            .as_ref()
            .is_some_and(|names| !ghosts.iter().any(|ghost| names.find(name(ghost))));
        if !is_told && listing.sought < SOUGHT_MAX {
            listing.sought += 1;
            listing.again = self.names_again(folder, stop).ok();
        }
        // What cannot be listed any more was listed before, and so counts as there.
        let Some(names) = &listing.again else { return };
        let mut ghosts = ghosts.into_iter().peekable();
        let mut number = 0;
        listing.found.retain(|found| {
            let is_ghost = ghosts.next_if_eq(&number).is_some();
            number += 1;
            !is_ghost || names.find(found.item.path().name())
        });
    }

    fn names_again(&mut self, folder: BorrowedFd<'_>, stop: &Stop) -> io::Result<Names> {
        rustix::fs::seek(folder, rustix::fs::SeekFrom::Start(0))?;
        let mut names = read_names(folder, &mut self.buffer, stop)?;
        names.sort();
        Ok(names)
    }

    /// Whether the filter leaves something out of which no more is known than its name.
    fn leaves_out(&self, path: &EntryPath, rules: &FolderRules) -> bool {
        let filter = self.inner.options.filter.as_ref();
        let excludes = |kind| filter.is_some_and(|it| it.excludes(path, kind, 0, rules));
        excludes(Kind::File) && excludes(Kind::Directory)
    }

    /// Decides what becomes of an entry; none when the filter leaves it out.
    fn judge(&mut self, path: EntryPath, stat: &Stat, rules: &FolderRules) -> Option<Found> {
        let options = &self.inner.options;
        let Some(kind) = kind_of(stat) else {
            return Some(skipped(path, "a thing of a kind that is not known is not stored"));
        };
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let filter = options.filter.as_ref();
        if filter.is_some_and(|filter| filter.excludes(&path, kind, size, rules)) {
            return None;
        }
        if kind == Kind::Socket {
            return Some(skipped(path, "a socket is not stored"));
        }
        if self.inner.is_excluded(stat) {
            return Some(skipped(path, "the repository or its cache is left out"));
        }
        // Only folders are compared: on layered file systems a file's device is another than
        // its folder's. The folder something is mounted on stays, empty.
        let is_elsewhere = options.one_file_system && stat.st_dev != self.inner.device;
        let enter = kind == Kind::Directory && !is_elsewhere;
        let entry = entry_of(path, kind, stat, &mut self.owners);
        Some(Found { item: ScanItem::Entry(entry), enter })
    }
}

impl ahead::Lister for Lister {
    type Task = Task;
    type Listing = Listing;

    /// Lists a folder and looks at its first entries. A folder that vanished is empty.
    fn list(&mut self, task: &Task, stop: &Stop) -> Result<Listing> {
        let mut listing = Listing {
            folder: task.folder.clone(),
            rules: task.rules.clone(),
            names: Names::default(),
            found: VecDeque::new(),
            again: None,
            sought: 0,
        };
        let folder = match self.open(&task.folder) {
            Ok(folder) => folder,
            Err(cause) if is_gone(&cause) => return Ok(listing),
            Err(cause) => return Err(failed("cannot list", &task.folder, cause)),
        };
        listing.names = read_names(folder.as_fd(), &mut self.buffer, stop)
            .map_err(|cause| failed("cannot list", &task.folder, cause))?;
        listing.names.check_lengths(&task.folder)?;
        listing.names.sort();
        self.apply_marks(&mut listing, folder.as_fd());
        self.look(&mut listing, folder.as_fd(), stop);
        Ok(listing)
    }

    fn folder(task: &Task) -> &EntryPath {
        &task.folder
    }

    fn tasks(listing: &Listing) -> impl Iterator<Item = Task> {
        let entered = listing.found.iter().filter(|found| found.enter);
        entered.map(|found| listing.task(found.item.path().clone()))
    }

    fn entries(listing: &Listing) -> usize {
        listing.found.len()
    }
}

fn skipped(path: EntryPath, why: &str) -> Found {
    Found { item: ScanItem::Skipped(path, why.to_owned()), enter: false }
}

fn unseen(path: EntryPath, cause: io::Error) -> Found {
    let error = failed("cannot look at", &path, cause);
    Found { item: ScanItem::Failed(path, error), enter: false }
}

/// Whether the thing vanished, or something else stands in the place of a folder by now.
fn is_gone(cause: &io::Error) -> bool {
    matches!(
        rustix::io::Errno::from_io_error(cause),
        Some(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP)
    )
}

fn read_names(
    folder: BorrowedFd<'_>,
    buffer: &mut [MaybeUninit<u8>],
    stop: &Stop,
) -> io::Result<Names> {
    let mut names = Names::default();
    let mut entries = RawDir::new(folder, buffer);
    while let Some(entry) = entries.next() {
        let entry = match entry {
            Ok(entry) => entry,
            // A folder that is deleted while it is read ends there.
            Err(rustix::io::Errno::NOENT) => break,
            Err(rustix::io::Errno::INTR) => continue,
            Err(errno) => return Err(errno.into()),
        };
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name);
        }
        if stop.is_set() {
            break;
        }
    }
    Ok(names)
}

/// Reads the first bytes of a regular file.
fn read_start(folder: BorrowedFd<'_>, name: &[u8], bytes_max: usize) -> io::Result<Vec<u8>> {
    use std::io::Read;
    let stat = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if kind_of(&stat) != Some(Kind::File) {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    let file = std::fs::File::from(open_quietly(folder, name, OFlags::RDONLY | OFlags::NONBLOCK)?);
    let mut bytes = Vec::new();
    file.take(bytes_max as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::filter::Filter;
    use crate::source::filter::FilterOptions;
    use crate::source::local::LocalOptions;
    use crate::source::local::LocalSource;

    #[test]
    fn a_name_that_is_listed_twice_is_one() {
        let mut names = Names::default();
        [b"b".as_slice(), b"a", b"b", b"ab", b"b"].iter().for_each(|name| names.push(name));

        names.sort();

        let all: Vec<&[u8]> = names.spans.iter().map(|&span| names.get(span)).collect();
        assert_eq!(all, [b"a".as_slice(), b"ab", b"b"]);
    }

    #[test]
    fn what_a_filter_might_keep_is_not_left_out_by_its_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let filter = Filter::new(&FilterOptions {
            patterns: vec!["*".to_owned(), "!*/".to_owned(), "!*.jpg".to_owned()],
            ..FilterOptions::default()
        });
        let filter = Some(filter.expect("makes sense"));
        let options = LocalOptions { filter, ..LocalOptions::default() };
        let source = LocalSource::open(folder.path(), options).expect("opens");
        let lister = Lister::new(Arc::clone(&source.inner));
        let leaves_out = |name: &str| {
            let path = EntryPath::new(name.as_bytes()).expect("a path");
            lister.leaves_out(&path, &FolderRules::default())
        };
        // It may be a folder with pictures.
        assert!(!leaves_out("src") && !leaves_out("a.jpg"));
    }

    #[test]
    fn what_cannot_be_found_and_is_still_listed_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["a", "ghost", "z"] {
            std::fs::write(folder.path().join(name), name).expect("written");
        }
        let source = LocalSource::open(folder.path(), LocalOptions::default()).expect("opens");
        let mut lister = Lister::new(Arc::clone(&source.inner));
        let task = Task { folder: EntryPath::root(), rules: FolderRules::default() };
        let stop = Stop::default();
        let mut listing = ahead::Lister::list(&mut lister, &task, &stop).expect("lists");
        let path = |name: &str| EntryPath::new(name.as_bytes()).expect("a path");
        let missing = || io::Error::from(io::ErrorKind::NotFound);
        listing.found.insert(1, unseen(path("gone"), missing()));
        listing.found[2] = unseen(path("ghost"), missing());
        let root = source.inner.root.clone();

        lister.forget_vanished(&mut listing, root.as_fd(), vec![1, 2], &stop);

        let shown: Vec<String> =
            listing.found.iter().map(|found| found.item.path().to_string()).collect();
        assert_eq!(shown, ["a", "ghost", "z"]);
        assert!(matches!(listing.found[1].item, ScanItem::Failed(..)));
        assert_eq!(listing.sought, 1);
    }
}
