//! Goes through the selected entries in order: makes folders and what is no file at once,
//! deletes what is extra, and gathers files into windows.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::metadata::Kind;
use crate::base::path::EntryPath;
use crate::engine::restore::RootWriter;
use crate::engine::restore::bits::Bits;
use crate::engine::restore::decide::Decision;
use crate::engine::restore::decide::There;
use crate::engine::restore::decide::decide;
use crate::engine::restore::decide::metadata_differs;
use crate::engine::restore::decide::node_of;
use crate::engine::restore::dry::Plan;
use crate::engine::restore::folders::Folders;
use crate::engine::restore::folders::Level;
use crate::engine::restore::links::Links;
use crate::engine::restore::links::Name;
use crate::engine::restore::select::Picked;
use crate::engine::restore::select::Selection;
use crate::engine::restore::shared::Shared;
use crate::engine::restore::sweep::Barred;
use crate::engine::restore::sweep::Why;
use crate::engine::restore::window::Before;
use crate::engine::restore::window::FileJob;
use crate::engine::restore::window::How;
use crate::engine::restore::window::LinkJob;
use crate::engine::restore::window::Window;
use crate::engine::restore::work::Work;
use crate::format::entry::Entry;
use crate::format::entry::EntryNode;
use crate::format::entry::FileNode;
use crate::target::TargetEntry;
use crate::target::TargetWriter;
use std::collections::BTreeSet;

/// What the walk leaves behind.
#[derive(Default)]
pub(super) struct Walked {
    /// Which files were restored, by position; kept only for `verify`.
    pub(super) restored: Bits,
}

impl Walked {
    /// Takes back that entries were restored which the target found in the end not to be there.
    /// The selection is gone through once more, as where they stand in it is not kept.
    ///
    /// # Errors
    /// When the snapshot cannot be read.
    pub(super) fn take_back(
        &mut self,
        work: &Work<'_>,
        selection: &Selection<'_>,
        mut lost: BTreeSet<EntryPath>,
    ) -> Result<()> {
        if lost.is_empty() {
            return Ok(());
        }
        for (position, picked) in selection.entries().enumerate() {
            let entry = picked?.entry;
            if lost.remove(&entry.path) {
                work.count_lost(entry.file().map_or(0, |file| file.size));
                self.restored.clear(position as u64);
            }
            if lost.is_empty() {
                break;
            }
        }
        Ok(())
    }
}

/// The walk. It works on one thread; the files of each window are written on all.
pub(super) struct Walker<'w, 'a> {
    pub(super) work: &'w Work<'a>,
    pub(super) selection: &'w Selection<'a>,
    /// None in a dry run into a target that is not there.
    pub(super) writer: Option<RootWriter<'w>>,
    pub(super) folders: Folders,
    pub(super) window: Window,
    pub(super) links: Links,
    pub(super) shared: Shared,
    pub(super) barred: Option<Barred>,
    /// Whether the target tells which names stand for one thing.
    pub(super) tells_inodes: bool,
    /// The folder that could not be made last: nothing in it can be restored.
    lost: Option<EntryPath>,
    position: u64,
    pub(super) walked: Walked,
    /// What a dry run would do.
    pub(super) plan: Option<Plan<'w>>,
}

impl<'w, 'a> Walker<'w, 'a> {
    /// Stands before the first entry.
    pub(super) fn new(
        work: &'w Work<'a>,
        selection: &'w Selection<'a>,
        mut writer: Option<RootWriter<'w>>,
        root_was_there: bool,
        plan: Option<Plan<'w>>,
    ) -> Self {
        let mut folders = Folders::default();
        // Without a rule the root was found empty: nothing in it has to be looked at.
        let may_hold = root_was_there && work.options.overwrite.is_some();
        folders.enter(&EntryPath::root(), None, may_hold, None);
        let root = writer.as_mut().filter(|_| may_hold);
        let root = root.and_then(|writer| writer.stat(&EntryPath::root()).ok().flatten());
        Walker {
            work,
            selection,
            writer,
            folders,
            window: Window::default(),
            links: Links::default(),
            shared: Shared::new(),
            barred: None,
            tells_inodes: root.is_some_and(|root| root.inode.is_some()),
            lost: None,
            position: 0,
            walked: Walked::default(),
            plan,
        }
    }

    /// Restores all that is selected.
    ///
    /// # Errors
    /// What concerns more than one entry. No file is left without all of its content then.
    pub(super) fn run(mut self) -> Result<Walked> {
        match self.walk() {
            Ok(()) => Ok(self.walked),
            Err(e) => {
                self.remove_unfinished();
                self.work.target.break_off();
                Err(e)
            }
        }
    }

    fn walk(&mut self) -> Result<()> {
        if self.selection.covers_root() {
            let names = self.names_to_sweep(&EntryPath::root())?;
            if let Some(root) = self.folders.top() {
                root.extra = names.map(|names| names.into_iter().peekable());
            }
        }
        let mut broken_off = None;
        for picked in self.selection.entries() {
            self.work.context.cancel.check()?;
            match picked {
                Ok(picked) => self.step(picked)?,
                Err(e) => {
                    broken_off = Some(e);
                    break;
                }
            }
            if self.window.is_full(&self.work.bounds) || self.is_plan_full() {
                self.flush(false)?;
            }
        }
        if broken_off.is_some() {
            self.folders.spare_extra();
        }
        self.leave(None)?;
        self.flush(false)?;
        // What came before the break is restored; the rest of the snapshot cannot be known.
        broken_off.map_or(Ok(()), Err)
    }

    pub(super) fn writer(&mut self) -> Result<&mut (dyn TargetWriter + Send + 'w)> {
        match &mut self.writer {
            Some(writer) => Ok(&mut **writer),
            None => Err(Error::bug("a dry run into nothing writes")),
        }
    }

    pub(super) fn is_dry(&self) -> bool {
        self.work.is_dry
    }

    /// Says whether as many rows of a plan wait as may.
    pub(super) fn is_plan_full(&self) -> bool {
        self.plan.as_ref().is_some_and(|plan| plan.is_full(&self.work.bounds))
    }

    /// Adds a row to the plan of a dry run and returns its number.
    pub(super) fn planned(&mut self, path: &EntryPath, action: &'static str) -> usize {
        self.plan.as_mut().map_or(0, |plan| plan.add(path, action))
    }

    fn step(&mut self, picked: Picked) -> Result<()> {
        let Picked { entry, is_above } = picked;
        let position = self.position;
        self.position += 1;
        if self.lost.as_ref().is_some_and(|lost| entry.path.is_within(lost)) {
            self.planned(&entry.path, "skip");
            return Ok(());
        }
        self.lost = None;
        self.leave(Some(&entry.path))?;
        if entry.path.is_root() {
            return self.step_root(entry);
        }
        if !self.folders.is_at(entry.path.parent_bytes()) {
            let why = "the folder it is in is no part of the backup";
            return self.fail(&entry, Error::corrupt(why).at(Origin::Repository));
        }
        self.sweep(&entry.path)?;
        if self.is_left_alone(&entry)? {
            return Ok(());
        }
        let may_be_there = self.folders.top().is_some_and(|folder| folder.was_there);
        let there = match may_be_there {
            true => self.look(&entry),
            false => Ok(None),
        };
        let there = match there {
            Ok(there) => there,
            Err(e) => return self.fail(&entry, e),
        };
        if let Some(there) = &there
            && let Err(e) = self.refuse_taken(&entry.path, &there.entry)
        {
            return self.fail(&entry, e);
        }
        let mut decision = decide(self.work.options, &entry, there.as_ref());
        if let Decision::Refuse(reason) = decision {
            let message = format!("cannot restore {}: {}", entry.path, reason.words());
            let error = Error::new(ErrorKind::AlreadyExists, message).at(Origin::Target);
            return self.fail(&entry, error);
        }
        if let (Decision::Replace | Decision::Clear, Some(node)) = (decision, node_of(&entry.node))
            && let Err(e) = self.writer()?.check_node(&entry.path, &node)
        {
            return self.fail(&entry, e);
        }
        if decision == Decision::Clear {
            if let Err(e) = self.clear(&entry.path) {
                return self.fail(&entry, e);
            }
            decision = Decision::Create;
        }
        let there = there.map(|there| there.entry);
        match &entry.node {
            EntryNode::Directory => self.folder(entry, decision, there.as_ref(), is_above),
            EntryNode::File(_) => self.file(entry, decision, there.as_ref(), position),
            EntryNode::Symlink(_)
            | EntryNode::Fifo
            | EntryNode::CharDevice(..)
            | EntryNode::BlockDevice(..) => self.node(entry, decision),
        }
    }

    /// Looks at what stands in the place of an entry.
    fn look(&mut self, entry: &Entry) -> Result<Option<There>> {
        let writer = self.writer()?;
        let Some(there) = writer.stat(&entry.path)? else { return Ok(None) };
        let in_the_way = there.kind == Kind::Directory && entry.kind() != Kind::Directory;
        let holds = in_the_way && !writer.list(&entry.path)?.is_empty();
        Ok(Some(There { entry: there, holds }))
    }

    /// Leaves an entry out, with all below it.
    pub(super) fn skip(&mut self, entry: &Entry) {
        self.planned(&entry.path, "skip");
        if entry.node == EntryNode::Directory {
            self.lost = Some(entry.path.clone());
        }
    }

    /// Reports that an entry, with all below it, cannot be restored.
    pub(super) fn fail(&mut self, entry: &Entry, error: Error) -> Result<()> {
        self.skip(entry);
        if entry.node != EntryNode::Directory {
            return self.work.fail(&entry.path, error);
        }
        let error = error.context("this folder and all in it are left out");
        self.work.fail(&entry.path, error)
    }

    fn step_root(&mut self, entry: Entry) -> Result<()> {
        let was_there = self.folders.top().is_some_and(|root| root.was_there);
        let there = if was_there { self.look(&entry)? } else { None };
        let decision = decide(self.work.options, &entry, there.as_ref());
        let there = there.map(|there| there.entry);
        self.planned(&entry.path, folder_word(decision, &entry, there.as_ref(), self.work));
        if matches!(decision, Decision::Create | Decision::Merge)
            && let Some(root) = self.folders.top()
        {
            root.metadata = Some(entry.metadata);
        }
        Ok(())
    }

    fn folder(
        &mut self,
        entry: Entry,
        decision: Decision,
        there: Option<&TargetEntry>,
        is_above: bool,
    ) -> Result<()> {
        let was_there = matches!(decision, Decision::Merge | Decision::Keep);
        if was_there && there.is_some_and(|there| there.is_mount) {
            self.bar(&entry.path, Why::Mounted);
        }
        if !self.is_dry()
            && let Err(e) = self.make_folder(&entry.path, decision)
        {
            return self.fail(&entry, e);
        }
        self.planned(&entry.path, folder_word(decision, &entry, there, self.work));
        let names = match was_there && !is_above {
            true => self.names_to_sweep(&entry.path)?,
            false => None,
        };
        let metadata = (decision != Decision::Keep).then_some(entry.metadata);
        self.folders.enter(&entry.path, metadata, was_there, names);
        Ok(())
    }

    fn make_folder(&mut self, path: &EntryPath, decision: Decision) -> Result<()> {
        let writer = self.writer()?;
        match decision {
            Decision::Keep => Ok(()),
            Decision::Merge => writer.create_directory(path),
            _ => {
                if decision == Decision::Replace {
                    writer.remove(path)?;
                }
                writer.create_new_directory(path)?;
                self.note_made(path);
                Ok(())
            }
        }
    }

    fn node(&mut self, entry: Entry, decision: Decision) -> Result<()> {
        if decision == Decision::Keep {
            self.planned(&entry.path, decision.word());
            self.work.count_kept(0);
            return Ok(());
        }
        if !self.is_dry()
            && decision != Decision::Same
            && let Err(e) = self.make_node(&entry, decision)
        {
            return self.fail(&entry, e);
        }
        self.planned(&entry.path, decision.word());
        self.work.count_restored(0);
        Ok(())
    }

    fn make_node(&mut self, entry: &Entry, decision: Decision) -> Result<()> {
        let not_one = || Error::bug("a file or a folder was taken for a node");
        let node = node_of(&entry.node).ok_or_else(not_one)?;
        let rules = self.work.rules();
        let writer = self.writer()?;
        if decision == Decision::Replace {
            writer.remove(&entry.path)?;
        }
        let untold = writer.create_node(&entry.path, &node, &entry.metadata, rules)?;
        self.work.tell(&entry.path, untold);
        self.note_made(&entry.path);
        Ok(())
    }

    fn file(
        &mut self,
        entry: Entry,
        decision: Decision,
        there: Option<&TargetEntry>,
        position: u64,
    ) -> Result<()> {
        let size = entry.size();
        if decision == Decision::Keep {
            self.planned(&entry.path, decision.word());
            self.work.count_kept(size);
            return Ok(());
        }
        let name = Name::of(&entry);
        if decision == Decision::Read
            && let (Some(name), Some(there)) = (name, there)
            && self.is_same(&entry, name, there)?
        {
            self.planned(&entry.path, Decision::Same.word());
            self.work.count_restored(size);
            self.work.count_done(size);
            if self.work.options.verify {
                self.walked.restored.set(position);
            }
            return Ok(());
        }
        let first = match name {
            Some(name) => self.links.first_of(name, &entry, self.selection)?,
            None => None,
        };
        if let Some(first) = first {
            let replace = decision != Decision::Create;
            self.planned(&entry.path, if replace { "overwrite" } else { "create" });
            self.window.add_link(LinkJob { path: entry.path, first, replace, size, position });
            return Ok(());
        }
        let planned = self.planned(&entry.path, decision.word());
        let how = how(&entry, decision, there, self.work);
        if self.is_dry() && !matches!(how, How::Compare(_)) {
            self.work.count_restored(size);
            self.work.count_done(size);
            return Ok(());
        }
        let name = name.filter(|_| !self.is_dry());
        let first = name.map(|name| self.links.remember(name, &entry.path));
        let Entry { path, metadata, node } = entry;
        let EntryNode::File(file) = node else { return Err(Error::bug("this is no file")) };
        let mut job = FileJob::new(path, metadata, &file, how);
        job.first = first;
        (job.position, job.planned) = (position, planned);
        self.gather(job, &file)
    }

    /// Takes a file with all its runs into the window, which may be written in between.
    fn gather(&mut self, job: FileJob, file: &FileNode) -> Result<()> {
        let work = self.work;
        let mut number = self.window.add_file(job);
        let mut offset = 0;
        let mut flushed = Ok(());
        let gathered = work.repository.for_each_run(file, &mut |run| {
            if self.window.is_full(&work.bounds) && self.window.files[number].has_uses {
                flushed = self.flush(true);
                number = 0;
                if flushed.is_err() {
                    return Err(Error::cancelled());
                }
            }
            self.window.add_use(number, run, offset);
            offset += run.bytes;
            Ok(())
        });
        flushed?;
        let job = &self.window.files[number];
        let mut progress = job.progress();
        progress.left -= 1;
        if let Err(e) = gathered {
            progress.lost = true;
            drop(progress);
            work.fail(&job.path, e)?;
        }
        Ok(())
    }

    /// Leaves folders until `next` lies in the one that is left, all of them without a next.
    fn leave(&mut self, next: Option<&EntryPath>) -> Result<()> {
        while let Some((path, mut level)) = self.folders.leave(next)? {
            let names = level.extra_before(None);
            let names = self.without_taken(&mut level.seen, &path, names)?;
            self.remove_extra(&path, names)?;
            let Level { metadata, .. } = level;
            if let Some(metadata) = metadata.filter(|_| !self.is_dry()) {
                self.window.close_folder(path, metadata);
            }
        }
        Ok(())
    }
}

fn how(entry: &Entry, decision: Decision, there: Option<&TargetEntry>, work: &Work<'_>) -> How {
    let (metadata, owner) = (&entry.metadata, work.options.owner);
    match (decision, there) {
        (Decision::Compare, Some(there)) => How::Compare(Before {
            size: there.size,
            opens_as_it_is: there.metadata.mode & 0o600 == 0o600,
            metadata_differs: metadata_differs(metadata, &there.metadata, owner),
        }),
        (Decision::Create, _) => How::Create,
        _ => How::Replace,
    }
}

fn folder_word(
    decision: Decision,
    entry: &Entry,
    there: Option<&TargetEntry>,
    work: &Work<'_>,
) -> &'static str {
    match (decision, there) {
        (Decision::Merge, Some(there))
            if !metadata_differs(&entry.metadata, &there.metadata, work.options.owner) =>
        {
            Decision::Keep.word()
        }
        _ => decision.word(),
    }
}
