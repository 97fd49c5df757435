//! Writes a window and what can follow only then: further names of files, metadata of folders.

use crate::base::error::Error;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::metadata::Metadata;
use crate::base::path::EntryPath;
use crate::engine::restore::walk::Walker;
use crate::engine::restore::window::LinkJob;
use crate::engine::restore::write;

impl Walker<'_, '_> {
    /// Writes the window: files, then further names of files, then metadata of folders. With
    /// `carry` more of its last file is to come.
    pub(super) fn flush(&mut self, carry: bool) -> Result<()> {
        write::run(self.work, &mut self.window)?;
        for number in 0..self.window.files.len() - usize::from(carry) {
            self.settle(number);
        }
        for link in std::mem::take(&mut self.window.links) {
            self.link(&link)?;
        }
        for (path, metadata) in std::mem::take(&mut self.window.closed) {
            self.set_metadata(&path, &metadata)?;
        }
        let carried = if carry { self.window.files.pop() } else { None };
        if let Some(plan) = &mut self.plan {
            plan.tell(carried.as_ref().map(|file| file.planned))?;
        }
        self.window.clear(carried);
        Ok(())
    }

    /// Takes notice of how a file of the window ended.
    fn settle(&mut self, number: usize) {
        let job = &self.window.files[number];
        let progress = job.progress();
        if progress.lost
            && let Some(first) = job.first
        {
            self.links.forget(first);
        }
        let is_whole = progress.done && !progress.lost;
        if self.work.options.verify && is_whole {
            self.walked.restored.set(job.position);
        }
        if let Some(plan) = &mut self.plan {
            let action = match (progress.lost, progress.changed) {
                (true, _) => "skip",
                (false, true) => "update",
                (false, false) => "keep",
            };
            plan.change(job.planned, action);
        }
        if progress.made && is_whole {
            let path = job.path.clone();
            drop(progress);
            self.note_made(&path);
        }
    }

    fn link(&mut self, link: &LinkJob) -> Result<()> {
        let path = &link.path;
        let linked = match self.links.first(link.first) {
            Some(first) => {
                let writer = self.writer()?;
                let cleared = if link.replace { writer.remove(path) } else { Ok(()) };
                cleared.and_then(|()| writer.link(path, &first))
            }
            None => {
                let message = format!(
                    "cannot restore {path}: it is one file with another name, \
                                       which could not be restored"
                );
                Err(Error::corrupt(message).at(Origin::Repository))
            }
        };
        if let Err(e) = linked {
            return self.work.fail(path, e);
        }
        self.note_made(path);
        if self.work.options.verify {
            self.walked.restored.set(link.position);
        }
        self.work.count_restored(link.size);
        self.work.count_done(link.size);
        Ok(())
    }

    fn set_metadata(&mut self, path: &EntryPath, metadata: &Metadata) -> Result<()> {
        let rules = self.work.rules();
        match self.writer()?.set_metadata(path, metadata, rules) {
            Ok(untold) => self.work.tell(path, untold),
            Err(e) => self.work.fail(path, e)?,
        }
        Ok(())
    }

    /// Removes files that were made and are not whole, when a restore ends early.
    pub(super) fn remove_unfinished(&mut self) {
        let Some(writer) = &mut self.writer else { return };
        for job in &self.window.files {
            let progress = job.progress();
            if progress.made && !progress.done {
                // The restore has failed already, and its error says why.
                let _ = writer.remove(&job.path);
            }
        }
    }
}
