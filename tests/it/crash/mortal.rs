//! A folder that stops taking what a restore writes: the restore is killed at one of its steps, or
//! the disk refuses one.

use icecore::base::error::Error;
use icecore::base::error::ErrorKind;
use icecore::base::error::Origin;
use icecore::base::error::Result;
use icecore::base::metadata::Metadata;
use icecore::base::path::EntryPath;
use icecore::target::Expected;
use icecore::target::MetadataRules;
use icecore::target::Node;
use icecore::target::Target;
use icecore::target::TargetEntry;
use icecore::target::TargetWriter;
use icecore::target::local::LocalTarget;
use rustix::io::Errno;
use std::path::Path;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

/// What happens at the step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// The process is killed: nobody hears of that step, and none comes after it.
    Dies,
    /// The disk refuses it; and, if that lasts, all later steps that need room.
    Refused { errno: Errno, lasts: bool },
    /// A look at what is there fails once, or a sync: these alone are its steps.
    Blind,
}

/// A folder to which a restore writes that goes wrong at one of its steps.
pub(super) struct Mortal {
    inner: LocalTarget,
    fate: Fate,
    at: usize,
    steps: AtomicUsize,
    /// Steps that needed room and came after the one that was refused.
    later: AtomicUsize,
}

/// What of a step is done.
enum Left {
    All,
    /// It is done, and nobody hears of it; of what is written half.
    Half,
    /// Of what is written half, of the rest nothing.
    Refused(Errno),
    Nothing,
}

/// Whether a step takes room on the disk.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Needs {
    Room,
    Nothing,
}

impl Mortal {
    pub(super) fn new(path: &Path, at: usize, fate: Fate) -> Self {
        let (steps, later) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Mortal { inner: LocalTarget::new(path), fate, at, steps, later }
    }

    /// Returns how many steps were asked for.
    pub(super) fn steps(&self) -> usize {
        self.steps.load(Ordering::Relaxed)
    }

    /// Returns how many of those that need room came after the one that was refused.
    pub(super) fn later(&self) -> usize {
        self.later.load(Ordering::Relaxed)
    }

    fn step(&self, needs: Needs) -> Left {
        let is_counted = self.fate != Fate::Blind;
        let step = self.steps.fetch_add(is_counted.into(), Ordering::Relaxed);
        let is_later = step > self.at;
        if is_later && needs == Needs::Room {
            self.later.fetch_add(1, Ordering::Relaxed);
        }
        match self.fate {
            Fate::Blind => Left::All,
            _ if step < self.at => Left::All,
            Fate::Dies if is_later => Left::Nothing,
            Fate::Dies => Left::Half,
            Fate::Refused { errno, lasts } => {
                let is_refused = !is_later || (lasts && needs == Needs::Room);
                if is_refused { Left::Refused(errno) } else { Left::All }
            }
        }
    }

    fn look(&self) -> Result<()> {
        match self.fate {
            Fate::Dies if self.steps() > self.at => Err(dead()),
            Fate::Blind if self.steps.fetch_add(1, Ordering::Relaxed) == self.at => {
                Err(Error::io("cannot read", Errno::IO.into()).at(Origin::Target))
            }
            _ => Ok(()),
        }
    }
}

fn dead() -> Error {
    Error::new(ErrorKind::Unreachable, "it was killed").at(Origin::Target)
}

fn refused(errno: Errno) -> Error {
    Error::io("cannot write", errno.into()).at(Origin::Target)
}

impl Target for Mortal {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn prepare(&self) -> Result<bool> {
        self.inner.prepare()
    }

    fn writer(&self) -> Result<Box<dyn TargetWriter + Send + '_>> {
        Ok(Box::new(MortalWriter { target: self, inner: self.inner.writer()? }))
    }
}

struct MortalWriter<'a> {
    target: &'a Mortal,
    inner: Box<dyn TargetWriter + Send + 'a>,
}

impl MortalWriter<'_> {
    /// Does a step that is done whole or not at all; the last one is done, and nobody hears of it.
    fn step<T>(
        &mut self,
        needs: Needs,
        work: impl FnOnce(&mut dyn TargetWriter) -> Result<T>,
    ) -> Result<T> {
        match self.target.step(needs) {
            Left::All => work(&mut *self.inner),
            Left::Half => {
                let _ = work(&mut *self.inner);
                Err(dead())
            }
            Left::Refused(errno) => Err(refused(errno)),
            Left::Nothing => Err(dead()),
        }
    }

    fn look<T>(&mut self, work: impl FnOnce(&mut dyn TargetWriter) -> Result<T>) -> Result<T> {
        self.target.look()?;
        work(&mut *self.inner)
    }
}

impl TargetWriter for MortalWriter<'_> {
    fn stat(&mut self, path: &EntryPath) -> Result<Option<TargetEntry>> {
        self.look(|it| it.stat(path))
    }

    fn list(&mut self, path: &EntryPath) -> Result<Vec<Vec<u8>>> {
        self.look(|it| it.list(path))
    }

    fn create_directory(&mut self, path: &EntryPath) -> Result<()> {
        self.step(Needs::Room, |it| it.create_directory(path))
    }

    fn create_file(&mut self, path: &EntryPath) -> Result<()> {
        self.step(Needs::Room, |it| it.create_file(path))
    }

    fn expect(&mut self, expected: &Expected<'_>) {
        self.inner.expect(expected);
    }

    fn holds_expected(&mut self) -> Result<bool> {
        self.look(|it| it.holds_expected())
    }

    fn open_file(&mut self, path: &EntryPath) -> Result<()> {
        self.step(Needs::Nothing, |it| it.open_file(path))
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        let half = &bytes[..bytes.len() / 2];
        match self.target.step(Needs::Room) {
            Left::All => self.inner.write_at(offset, bytes),
            Left::Half => self.inner.write_at(offset, half).and(Err(dead())),
            Left::Refused(errno) => self.inner.write_at(offset, half).and(Err(refused(errno))),
            Left::Nothing => Err(dead()),
        }
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        self.look(|it| it.read_at(offset, buffer))
    }

    fn punch_hole(&mut self, offset: u64, length: u64) -> Result<()> {
        self.step(Needs::Nothing, |it| it.punch_hole(offset, length))
    }

    fn set_length(&mut self, length: u64) -> Result<()> {
        self.step(Needs::Room, |it| it.set_length(length))
    }

    fn finish_file(&mut self, metadata: &Metadata, rules: MetadataRules) -> Result<Vec<String>> {
        self.step(Needs::Nothing, |it| it.finish_file(metadata, rules))
    }

    fn close_file(&mut self) -> Result<()> {
        self.step(Needs::Nothing, |it| it.close_file())
    }

    fn abandon(&mut self, path: &EntryPath) -> Result<()> {
        self.step(Needs::Nothing, |it| it.abandon(path))
    }

    fn create_node(
        &mut self,
        path: &EntryPath,
        node: &Node,
        metadata: &Metadata,
        rules: MetadataRules,
    ) -> Result<Vec<String>> {
        self.step(Needs::Room, |it| it.create_node(path, node, metadata, rules))
    }

    fn link(&mut self, path: &EntryPath, existing: &EntryPath) -> Result<()> {
        self.step(Needs::Room, |it| it.link(path, existing))
    }

    fn set_metadata(
        &mut self,
        path: &EntryPath,
        metadata: &Metadata,
        rules: MetadataRules,
    ) -> Result<Vec<String>> {
        self.step(Needs::Nothing, |it| it.set_metadata(path, metadata, rules))
    }

    fn remove(&mut self, path: &EntryPath) -> Result<()> {
        self.step(Needs::Nothing, |it| it.remove(path))
    }

    fn sync(&mut self) -> Result<()> {
        self.look(|it| it.sync())
    }
}
