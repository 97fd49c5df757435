//! Whole files on their way to a server, so that a restore that dies in between, or a connection
//! that breaks, leaves what stood there or what was to stand there, and never neither.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::id::to_hex;
use crate::base::metadata::Kind;
use crate::base::path::EntryPath;
use crate::base::sys;
use crate::net::files::Files;
use crate::net::files::Look;
use crate::net::files::Marked;
use crate::target::files::FilesTarget;
use crate::target::files::failed;
use crate::target::files::joined;
use crate::target::files::lock;
use crate::target::files::new_look;
use crate::target::files::place::Wish;
use crate::target::files::session::able;
use crate::target::files::session::upload;
use crate::target::spool::Spool;
use std::mem;

impl FilesTarget {
    /// Sends a file that was closed and not finished.
    pub(super) fn send_begun(&self, path: &EntryPath) -> Result<()> {
        let Some(spool) = self.state().begun.remove(path) else { return Ok(()) };
        let there = self.look_there(path).map_err(|e| failed("cannot look at", path, e))?;
        let spool = lock(&spool);
        let sent = self.send(path, &spool, there.is_some(), None);
        sent.map_err(|e| failed("cannot write", path, e))?;
        let look = Look { size: Some(spool.len()), ..new_look(Kind::File) };
        self.state().known.put(path, look);
        Ok(())
    }

    /// Sends a file; one that replaces another takes its place once it is whole. Says how it went to
    /// give it what it is to have; None where that is still to be done.
    pub(super) fn send(
        &self,
        path: &EntryPath,
        spool: &Spool,
        replaces: bool,
        wish: Option<Wish>,
    ) -> Result<Option<Marked>> {
        let way = self.way(path);
        if !replaces {
            return self.upload_anew(&way, spool, wish);
        }
        let name = format!(".icecore-{}", to_hex(&sys::random::<8>()?));
        let folder = joined(&self.root, path.parent_bytes());
        let beside = joined(&folder, name.as_bytes());
        let marked = self.upload_anew(&beside, spool, wish)?;
        if let Err(e) = self.replace(&beside, &way) {
            // What failed is the error to report.
            let _ = self.ask(|files| files.remove(&beside));
            return Err(e);
        }
        Ok(marked)
    }

    /// Writes a file where nothing is, whole or not at all.
    fn upload_anew(&self, way: &[u8], spool: &Spool, wish: Option<Wish>) -> Result<Option<Marked>> {
        let sent = self.make_once(way, |files| upload(files, way, spool, wish));
        // What was there is not ours to remove.
        if sent.as_ref().is_err_and(|e| e.kind() != ErrorKind::AlreadyExists) {
            // A disk that is full has room again; what failed is the error to report.
            let _ = self.ask(|files| files.remove(way));
        }
        sent
    }

    /// Puts one file in the place of another: in one step where the server does that. Else the
    /// other is moved aside first and removed last, so that at each moment both are there, or the
    /// new one is in its place.
    fn replace(&self, new: &[u8], way: &[u8]) -> Result<()> {
        if !self.state().moves_aside {
            let over = |files: &mut dyn Files| {
                able(files.abilities().replace, || files.rename_over(new, way))
            };
            match self.move_by(new, way, over) {
                Err(e) if e.kind() == ErrorKind::Unsupported => self.state().moves_aside = true,
                other => return other,
            }
        }
        let aside = [new, b"-was".as_slice()].concat();
        self.move_by(way, &aside, |files| files.rename(way, &aside))?;
        if let Err(e) = self.move_by(new, way, |files| files.rename(new, way)) {
            // As it was, where it can be; what failed is the error to report.
            let _ = self.move_by(&aside, way, |files| files.rename(&aside, way));
            return Err(e);
        }
        self.ask(|files| files.remove(&aside))
    }

    /// Makes something where nothing is. After an attempt without an answer what stands there is
    /// taken away first: that one made it, and not every server lets one write over it.
    pub(super) fn make_once<T>(
        &self,
        way: &[u8],
        mut make: impl FnMut(&mut dyn Files) -> Result<T>,
    ) -> Result<T> {
        let mut was_tried = false;
        self.ask(|files| {
            if mem::replace(&mut was_tried, true) {
                files.remove(way)?;
            }
            make(files)
        })
    }

    /// Renames, and takes it for done when an attempt without an answer has done it.
    fn move_by(
        &self,
        from: &[u8],
        to: &[u8],
        mut rename: impl FnMut(&mut dyn Files) -> Result<()>,
    ) -> Result<()> {
        let mut was_tried = false;
        self.ask(|files| {
            let was_tried = mem::replace(&mut was_tried, true);
            let moved = rename(files);
            match moved {
                Err(e) if was_tried && is_refusal(&e) => {
                    let is_done = files.look_at(from)?.is_none() && files.look_at(to)?.is_some();
                    if is_done { Ok(()) } else { Err(e) }
                }
                moved => moved,
            }
        })
    }
}

fn is_refusal(error: &Error) -> bool {
    error.kind() != ErrorKind::Unreachable
}
