//! A window: the files that are written together, and where each blob of them goes.

use crate::base::id::BlockId;
use crate::base::metadata::Metadata;
use crate::base::path::EntryPath;
use crate::engine::restore::Bounds;
use crate::engine::restore::layout::Layout;
use crate::format::entry::FileNode;
use crate::format::entry::Run;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

/// What a file in the target was before, when it is brought up to date in place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Before {
    /// Its size.
    pub(super) size: u64,
    /// Whether its owner may read and write it: else opening it changes its mode.
    pub(super) opens_as_it_is: bool,
    /// Whether its metadata has to be set.
    pub(super) metadata_differs: bool,
}

/// How a file is written.
#[derive(Clone, Copy, Debug)]
pub(super) enum How {
    /// Nothing is there.
    Create,
    /// What is there is removed, once there is content to write.
    Replace,
    /// What is there is brought up to date.
    Compare(Before),
}

/// How far a file is.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Uses of blobs that are not written yet, and one more until all uses are known.
    pub(super) left: u64,
    /// Whether it was made by this restore.
    pub(super) made: bool,
    /// Whether it cannot be restored; reported once.
    pub(super) lost: bool,
    /// Whether anything of it was, or in a dry run would be, changed in place.
    pub(super) changed: bool,
    /// Whether it is finished.
    pub(super) done: bool,
}

/// A file to write.
#[derive(Debug)]
pub(super) struct FileJob {
    pub(super) path: EntryPath,
    pub(super) metadata: Metadata,
    pub(super) layout: Layout,
    /// Equal marks are of equal content.
    pub(super) mark: [u8; 16],
    pub(super) how: How,
    /// The number of its name as the first one of a file of several.
    pub(super) first: Option<usize>,
    /// Its position in the selection.
    pub(super) position: u64,
    /// Its row in the plan of a dry run.
    pub(super) planned: usize,
    /// Whether this window holds uses of it.
    pub(super) has_uses: bool,
    progress: Mutex<Progress>,
}

impl FileJob {
    /// Makes the job of a file none of whose uses are known yet.
    pub(super) fn new(path: EntryPath, metadata: Metadata, file: &FileNode, how: How) -> Self {
        FileJob {
            path,
            metadata,
            layout: Layout::of(file),
            mark: file.content_mark(),
            how,
            first: None,
            position: 0,
            planned: 0,
            has_uses: false,
            progress: Mutex::new(Progress { left: 1, ..Progress::default() }),
        }
    }

    /// Locks how far it is.
    pub(super) fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn weight(&self) -> usize {
        let xattrs = self.metadata.xattrs.iter();
        self.path.as_bytes().len()
            + self.layout.weight()
            + xattrs.map(|xattr| xattr.name.len() + xattr.value.len()).sum::<usize>()
    }
}

/// A place where a run is wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Use {
    pub(super) block: BlockId,
    pub(super) first: u32,
    pub(super) count: u32,
    /// Number of the file in the window.
    pub(super) file: u32,
    /// Where in the file's content it begins.
    pub(super) offset: u64,
    pub(super) bytes: u64,
}

/// A further name of a file.
#[derive(Debug)]
pub(super) struct LinkJob {
    pub(super) path: EntryPath,
    /// The number of the first name.
    pub(super) first: usize,
    pub(super) replace: bool,
    pub(super) size: u64,
    /// Its position in the selection.
    pub(super) position: u64,
}

/// What is written together.
#[derive(Debug, Default)]
pub(super) struct Window {
    pub(super) files: Vec<FileJob>,
    pub(super) uses: Vec<Use>,
    pub(super) links: Vec<LinkJob>,
    /// Folders of which everything is in this window or was written before, deepest first.
    pub(super) closed: Vec<(EntryPath, Metadata)>,
    weight: usize,
}

impl Window {
    /// Adds a file and returns its number.
    pub(super) fn add_file(&mut self, job: FileJob) -> usize {
        self.weight += job.weight();
        self.files.push(job);
        self.files.len() - 1
    }

    /// Adds a use of a run by a file.
    pub(super) fn add_use(&mut self, number: usize, run: &Run, offset: u64) {
        let file = &mut self.files[number];
        file.has_uses = true;
        file.progress().left += 1;
        let Run { block, first, count, bytes } = *run;
        // A window has far fewer files than 2^32: `RESTORE_WINDOW_ROWS`.
        self.uses.push(Use { block, first, count, file: number as u32, offset, bytes });
    }

    /// Adds a further name.
    pub(super) fn add_link(&mut self, link: LinkJob) {
        self.weight += link.path.as_bytes().len();
        self.links.push(link);
    }

    /// Adds a folder that is done but for its metadata.
    pub(super) fn close_folder(&mut self, path: EntryPath, metadata: Metadata) {
        let xattrs = metadata.xattrs.iter();
        self.weight += path.as_bytes().len();
        self.weight += xattrs.map(|xattr| xattr.name.len() + xattr.value.len()).sum::<usize>();
        self.closed.push((path, metadata));
    }

    /// Says whether it should be written now.
    pub(super) fn is_full(&self, bounds: &Bounds) -> bool {
        let rows = self.files.len().max(self.uses.len()) + self.links.len() + self.closed.len();
        rows >= bounds.window_rows || self.weight >= bounds.window_bytes
    }

    /// Empties it, but for a file of which more uses are to come.
    pub(super) fn clear(&mut self, carried: Option<FileJob>) {
        self.files.clear();
        self.uses.clear();
        self.links.clear();
        self.closed.clear();
        self.weight = 0;
        if let Some(mut file) = carried {
            file.has_uses = false;
            // It was weighed already: else one that is heavy would fill every window by itself.
            self.files.push(file);
        }
    }
}
