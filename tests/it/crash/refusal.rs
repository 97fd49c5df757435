//! What a disk in memory refuses: one change, all that need room from then on, or one read.

use crate::crash::disk::Change;
use rustix::io::Errno;

/// What a disk is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Change,
    Read,
}

/// What is refused.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refusal {
    pub(super) of: Asked,
    /// Which of these, counted from 0.
    pub(super) at: usize,
    pub(super) errno: Errno,
    /// Whether all later changes that need room are refused as well.
    pub(super) lasts: bool,
}

impl Refusal {
    pub(super) fn of_change(at: usize, errno: Errno) -> Self {
        Refusal { of: Asked::Change, at, errno, lasts: false }
    }

    pub(super) fn of_read(at: usize) -> Self {
        Refusal { of: Asked::Read, at, errno: Errno::IO, lasts: false }
    }
}

/// How often a disk was asked, what it is to refuse, and what it refused first.
#[derive(Clone, Debug, Default)]
pub(super) struct Account {
    pub(super) refusal: Option<Refusal>,
    pub(super) changes: usize,
    pub(super) reads: usize,
    pub(super) refused: Option<Change>,
}

fn needs_room(change: &Change) -> bool {
    match change {
        Change::MakeFolder(_)
        | Change::Create(_)
        | Change::Write(..)
        | Change::SyncFile(_)
        | Change::Rename(..)
        | Change::Link(..) => true,
        Change::SyncFolder(_) | Change::Remove(_) => false,
    }
}

impl Account {
    /// Counts a change, and says with what it is refused.
    pub(super) fn change(&mut self, change: &Change) -> Option<Errno> {
        let nth = self.changes;
        self.changes += 1;
        let refusal = self.refusal.filter(|it| it.of == Asked::Change)?;
        let is_later = refusal.lasts && nth > refusal.at && needs_room(change);
        if nth != refusal.at && !is_later {
            return None;
        }
        self.refused.get_or_insert_with(|| change.clone());
        Some(refusal.errno)
    }

    /// Counts a read, and says with what it is refused.
    pub(super) fn read(&mut self) -> Option<Errno> {
        let nth = self.reads;
        self.reads += 1;
        let refusal = self.refusal.filter(|it| it.of == Asked::Read && it.at == nth)?;
        Some(refusal.errno)
    }

    /// Says whether it refused anything.
    pub(super) fn has_refused(&self) -> bool {
        let is_past = |it: Refusal| it.of == Asked::Read && it.at < self.reads;
        self.refused.is_some() || self.refusal.is_some_and(is_past)
    }
}
