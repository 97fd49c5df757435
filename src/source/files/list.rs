//! The list of one folder's entries, sorted and filtered.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::limits::REMOTE_NAMES_MAX;
use crate::base::metadata::Kind;
use crate::base::path::EntryPath;
use crate::net::files::Found as Listed;
use crate::net::files::Look;
use crate::source::ScanItem;
use crate::source::ahead;
use crate::source::ahead::Stop;
use crate::source::files::Inner;
use crate::source::files::ORIGIN;
use crate::source::files::failed;
use crate::source::filter::CACHE_TAG_NAME;
use crate::source::filter::CACHE_TAG_SIGNATURE;
use crate::source::filter::FolderRules;
use crate::source::filter::GITIGNORE_BYTES_MAX;
use crate::source::filter::GITIGNORE_NAME;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A folder still to be listed.
#[derive(Clone, Debug)]
pub(super) struct Task {
    pub(super) folder: EntryPath,
    pub(super) rules: FolderRules,
    /// Tags of the folders on the way, itself included, where the server has them.
    pub(super) above: Arc<Vec<Vec<u8>>>,
}

impl Task {
    /// Makes the task of listing the root.
    pub(super) fn root(look: &Look) -> Self {
        let above = Arc::new(vec![look.unique.clone()]);
        Task { folder: EntryPath::root(), rules: FolderRules::none(), above }
    }
}

/// One item, what the server tells of it, and whether it is a folder to go into.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) item: ScanItem,
    pub(super) look: Option<Look>,
    pub(super) enter: bool,
}

/// What a folder holds, in order.
#[derive(Debug)]
pub(super) struct Listing {
    rules: FolderRules,
    above: Arc<Vec<Vec<u8>>>,
    /// Whether the server tells where links lead.
    tells_links: bool,
    pub(super) found: VecDeque<Found>,
}

impl Listing {
    /// Returns the task of listing one of this folder's folders.
    pub(super) fn task(&self, folder: &Found) -> Task {
        let unique = folder.look.as_ref().map(|look| look.unique.clone()).unwrap_or_default();
        let above: Vec<Vec<u8>> = self.above.iter().cloned().chain([unique]).collect();
        let (folder, rules) = (folder.item.path().clone(), self.rules.clone());
        Task { folder, rules, above: Arc::new(above) }
    }
}

/// Lists folders over the sessions of a pool.
pub(super) struct Lister(pub(super) Arc<Inner>);

impl ahead::Lister for Lister {
    type Task = Task;
    type Listing = Listing;

    fn list(&mut self, task: &Task, stop: &Stop) -> Result<Listing> {
        list(&self.0, task, stop)
    }

    fn folder(task: &Task) -> &EntryPath {
        &task.folder
    }

    fn tasks(listing: &Listing) -> impl Iterator<Item = Task> {
        let entered = listing.found.iter().filter(|found| found.enter);
        entered.map(|found| listing.task(found))
    }

    fn entries(listing: &Listing) -> usize {
        listing.found.len()
    }
}

/// Lists a folder. One that vanished is empty, but the root must be there, and one that is listed
/// still is not empty for that.
fn list(inner: &Inner, task: &Task, stop: &Stop) -> Result<Listing> {
    let (rules, above) = (task.rules.clone(), Arc::clone(&task.above));
    let listed =
        all_in(inner, &task.folder, stop).map_err(|e| reason(inner, &task.folder, e, stop));
    let (mut all, tells_links) = match listed {
        Err(e) if e.kind() == ErrorKind::NotFound && !task.folder.is_root() => (Vec::new(), false),
        other => other.map_err(|e| failed("cannot list", &task.folder, e))?,
    };
    let mut listing = Listing { rules, above, tells_links, found: VecDeque::new() };
    inner.folders().put(&task.folder, all.len());
    all.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    all.dedup_by(|a, b| a.name == b.name);
    apply_marks(inner, task, &mut listing, &mut all);
    for Listed { name, look } in all {
        // A name that no path can hold could not be reported in any other way than this.
        let path = task.folder.join(&name).map_err(|e| failed("cannot list", &task.folder, e))?;
        let found = judge(inner, path, look, &listing);
        listing.found.extend(found);
    }
    Ok(listing)
}

/// Returns all that is in a folder, and whether the server tells where links lead.
pub(super) fn all_in(
    inner: &Inner,
    folder: &EntryPath,
    stop: &Stop,
) -> Result<(Vec<Listed>, bool)> {
    let place = inner.place(folder);
    inner.ask(|files| {
        let mut all: Vec<Listed> = Vec::new();
        files.list(&place, &mut |listed| {
            if stop.is_set() {
                return Err(Error::cancelled());
            }
            if all.len() >= REMOTE_NAMES_MAX {
                let message = format!("it holds over {REMOTE_NAMES_MAX} names");
                return Err(Error::new(ErrorKind::Unsupported, message));
            }
            all.push(listed);
            Ok(())
        })?;
        Ok((all, files.reads_links()))
    })
}

/// Returns why something could not be had. What a server does not find has vanished, unless it is
/// listed still: then its name is shown as another than it is (an end of line as `?`), and to leave
/// it out without a word would lose it.
pub(super) fn reason(inner: &Inner, path: &EntryPath, error: Error, stop: &Stop) -> Error {
    let is_missing = error.kind() == ErrorKind::NotFound && !path.is_root();
    let Some(folder) = path.parent().filter(|_| is_missing) else { return error };
    let all = match all_in(inner, &folder, stop) {
        Ok((all, _)) => all,
        // It went away with the folder that it was in.
        Err(e) if e.kind() == ErrorKind::NotFound => return error,
        // Nobody knows whether it is there.
        Err(e) => return e,
    };
    if !all.iter().any(|listed| listed.name == path.name()) {
        return error;
    }
    let message = "the server lists it, and does not find it when it is asked for";
    Error::new(ErrorKind::Unsupported, message)
        .hint("its name may hold what the server shows as another character")
        .caused_by(error)
}

/// Obeys files in the folder that speak about it.
fn apply_marks(inner: &Inner, task: &Task, listing: &mut Listing, all: &mut Vec<Listed>) {
    let Some(filter) = &inner.options.filter else { return };
    let has = |name: &[u8]| all.iter().any(|it| it.name == name && it.look.kind == Kind::File);
    let start = |name: &[u8], bytes_max: usize| {
        let path = task.folder.join(name).ok()?;
        read_start(inner, &path, bytes_max).ok()
    };
    let is_cache = filter.reads_cache_tags()
        && has(CACHE_TAG_NAME)
        && start(CACHE_TAG_NAME, CACHE_TAG_SIGNATURE.len())
            .is_some_and(|bytes| bytes == CACHE_TAG_SIGNATURE);
    let rules = (filter.reads_gitignore() && has(GITIGNORE_NAME))
        .then(|| start(GITIGNORE_NAME, GITIGNORE_BYTES_MAX))
        .flatten();
    if let Some(content) = rules {
        listing.rules = listing.rules.with_file(&task.folder, &content);
    }
    let is_marked = all.iter().any(|listed| filter.is_marker(&listed.name));
    if is_cache || is_marked {
        all.retain(|listed| {
            filter.is_marker(&listed.name) || (is_cache && listed.name == CACHE_TAG_NAME)
        });
    }
}

/// Reads the first bytes of a file.
fn read_start(inner: &Inner, path: &EntryPath, bytes_max: usize) -> Result<Vec<u8>> {
    let place = inner.place(path);
    inner.ask(|files| {
        let mut bytes = vec![0; bytes_max];
        files.open(&place, 0)?;
        let got = files.read_at(0, &mut bytes)?;
        files.close()?;
        bytes.truncate(got);
        Ok(bytes)
    })
}

/// Decides what becomes of an entry; none when the filter leaves it out.
fn judge(inner: &Inner, path: EntryPath, look: Look, listing: &Listing) -> Option<Found> {
    let filter = inner.options.filter.as_ref();
    let size = look.size.unwrap_or(0);
    if filter.is_some_and(|filter| filter.excludes(&path, look.kind, size, &listing.rules)) {
        return None;
    }
    let note = match look.kind {
        _ if inner.options.excluded.contains(&path) => "the repository itself is left out",
        // A server that shows links as what they lead to would go round for ever.
        Kind::Directory if !look.unique.is_empty() && listing.above.contains(&look.unique) => {
            "it leads back to a folder that it is in"
        }
        Kind::Symlink if !listing.tells_links => {
            inner.links_left_out.fetch_add(1, Ordering::Relaxed);
            "the server does not tell where this link leads, so it is not stored"
        }
        Kind::Socket => "a socket is not stored",
        Kind::Fifo => "a named pipe of another machine is not stored",
        Kind::CharDevice | Kind::BlockDevice => "a device of another machine is not stored",
        Kind::File if look.size.is_none() => {
            let message = format!("cannot look at {path}: the server does not tell its size");
            let error = Error::new(ErrorKind::Unsupported, message).at(ORIGIN);
            return Some(Found { item: ScanItem::Failed(path, error), look: None, enter: false });
        }
        Kind::File | Kind::Directory | Kind::Symlink => {
            let enter = look.kind == Kind::Directory;
            let item = ScanItem::Entry(inner.entry(path, &look));
            return Some(Found { item, look: Some(look), enter });
        }
    };
    Some(Found { item: ScanItem::Skipped(path, note.to_owned()), look: None, enter: false })
}
