//! Opens entries one after the other, for one thread.
//!
//! A session is held from the first byte that is read of a file until that file is finished or a
//! read fails, and not a moment longer: whoever waits for one may be the one that others wait for.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::limits::LINK_BYTES_MAX;
use crate::base::metadata::Kind;
use crate::base::path::EntryPath;
use crate::net::files::Look;
use crate::net::files::Modified;
use crate::net::files::Precision;
use crate::net::pool::Taken;
use crate::source::OpenedEntry;
use crate::source::SourceEntry;
use crate::source::SourceReader;
use crate::source::ahead::Stop;
use crate::source::files::Inner;
use crate::source::files::MINUTE_SECONDS;
use crate::source::files::ORIGIN;
use crate::source::files::failed;
use crate::source::files::gone;
use crate::source::files::list::all_in;
use crate::source::files::list::reason;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::mem;
use std::sync::Arc;

/// How many sessions one read may cost.
const SESSIONS_TRIED: usize = 3;
/// A listing costs a server as much as so many looks at one file ...
const LISTING_LOOKS: usize = 4;
/// ... and each further look as much as so many lines of a listing.
const LINES_FOR_A_LOOK: usize = 8;
/// What marks an entry that was read in parts which may not belong together.
const TORN: &[u8] = b" torn";

/// Reads the entries of a folder for one thread.
pub(super) struct FilesReader {
    inner: Arc<Inner>,
    open: Option<Open>,
    session: Option<Taken>,
    /// Whether the session has the open file open.
    is_streaming: bool,
    /// What was read and is to be looked at once more: what it was when it was opened.
    put_off: BTreeMap<EntryPath, Look>,
}

struct Open {
    entry: SourceEntry,
    look: Look,
    /// Where the next byte would be read.
    next: u64,
    is_torn: bool,
}

impl FilesReader {
    /// Makes a reader that has nothing open.
    pub(super) fn new(inner: &Arc<Inner>) -> Self {
        FilesReader {
            inner: Arc::clone(inner),
            open: None,
            session: None,
            is_streaming: false,
            put_off: BTreeMap::new(),
        }
    }

    /// Gives the session back, if one is held.
    fn release(&mut self) {
        let was_streaming = std::mem::take(&mut self.is_streaming);
        let Some(mut taken) = self.session.take() else { return };
        // One that cannot even be asked to stop is of no use to anybody.
        let is_well = !was_streaming || taken.files().and_then(|files| files.close()).is_ok();
        if is_well {
            taken.give_back();
        }
    }

    /// Ends a session that was lost.
    fn lose(&mut self) {
        self.is_streaming = false;
        self.session = None;
    }

    fn stream(&mut self, place: &[u8], offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let taken = match &mut self.session {
            Some(taken) => taken,
            slot => slot.insert(self.inner.pool.take()?),
        };
        let files = taken.files()?;
        if !self.is_streaming {
            if let Some(open) = &self.open {
                files.expect_size(open.entry.size);
            }
            files.open(place, offset)?;
            self.is_streaming = true;
        }
        let length = buffer.len();
        files.read_at(offset, buffer).map(|got| got.min(length))
    }

    /// Reads, on another session when one breaks. Where something was read before, the file must
    /// be certain to be the same; else what was read is marked as torn, and the engine reads it
    /// again from the start.
    fn read_on(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let Some(open) = &self.open else {
            return Err(Error::bug("cannot read: no file is open"));
        };
        let path = open.entry.path.clone();
        let place = self.inner.place(&path);
        self.inner.check_given_up()?;
        for attempt in 1.. {
            match self.stream(&place, offset, buffer) {
                Err(e) if e.kind() == ErrorKind::Unreachable && attempt < SESSIONS_TRIED => {
                    self.lose()
                }
                Err(e) => {
                    if e.kind() == ErrorKind::Unreachable {
                        self.lose();
                    }
                    return Err(e);
                }
                Ok(got) => return Ok(got),
            }
            let now = self.inner.look_at(&path)?;
            if let Some(open) = &mut self.open
                && open.next > 0
                && !is_certainly_same(&open.look, &now)
            {
                open.is_torn = true;
            }
        }
        Err(Error::bug("the last try returns"))
    }

    /// Reads on to the very end, so that the server ends it, too; says whether there is more.
    fn has_grown(&mut self, open: &Open) -> bool {
        if !self.is_streaming || open.next != open.entry.size {
            return false;
        }
        let place = self.inner.place(&open.entry.path);
        let more = self.stream(&place, open.next, &mut [0]);
        if more.is_err() {
            self.lose();
        }
        more.is_ok_and(|got| got > 0)
    }

    /// Looks at the open file once more.
    fn look_again(&mut self, open: &Open) -> Result<(Look, bool)> {
        let path = &open.entry.path;
        let has_grown = self.has_grown(open);
        if let Some(taken) = &mut self.session {
            let place = self.inner.place(path);
            let look = taken.files().and_then(|files| {
                files.close()?;
                files.look_at(&place)
            });
            self.is_streaming = false;
            match look {
                Ok(look) => return look.map(|it| (it, has_grown)).ok_or_else(|| gone(path)),
                Err(e) if e.kind() == ErrorKind::Unreachable => self.lose(),
                Err(e) => return Err(e),
            }
        }
        Ok((self.inner.look_at(path)?, has_grown))
    }

    /// Looks once more at files of one folder, and returns those that are not certain to be as they
    /// were read. Where they are a good part of it the folder is listed, which costs a server far
    /// less than to be asked for each.
    fn changed_in(&self, folder: &EntryPath, files: &[(EntryPath, Look)]) -> Vec<EntryPath> {
        let entries = self.inner.folders().get(folder).copied();
        let lines_max = files.len().saturating_sub(LISTING_LOOKS) * LINES_FOR_A_LOOK;
        let is_listed = entries.is_some_and(|all| all <= lines_max);
        let listed = is_listed.then(|| all_in(&self.inner, folder, &Stop::default()));
        let now: Option<HashMap<Vec<u8>, Look>> = listed
            .and_then(Result::ok)
            .map(|(all, _)| all.into_iter().map(|it| (it.name, it.look)).collect());
        let is_as_read = |(path, before): &&(EntryPath, Look)| match &now {
            Some(now) => now.get(path.name()).is_some_and(|now| is_same(before, now)),
            None => self.inner.look_at(path).is_ok_and(|now| is_same(before, &now)),
        };
        files.iter().filter(|file| !is_as_read(file)).map(|(path, _)| path.clone()).collect()
    }

    /// Makes the error of an entry that could not be had.
    fn failed(&self, doing: &str, path: &EntryPath, error: Error) -> Error {
        failed(doing, path, reason(&self.inner, path, error, &Stop::default()))
    }

    fn look_for_opening(&self, path: &EntryPath) -> Result<Look> {
        let listed = self.inner.looks().get(path).cloned();
        match listed {
            Some(look) => Ok(look),
            None if path.is_root() => self.inner.look_at_root(),
            None => self.inner.look_at(path),
        }
    }
}

impl SourceReader for FilesReader {
    fn open(&mut self, path: &EntryPath) -> Result<OpenedEntry> {
        self.close();
        let look = self.look_for_opening(path).map_err(|e| self.failed("cannot open", path, e))?;
        let mut opened = OpenedEntry::plain(self.inner.entry(path.clone(), &look));
        if look.kind == Kind::Symlink {
            let place = self.inner.place(path);
            let target = self.inner.ask(|files| files.read_link(&place));
            opened.link_target =
                target.map_err(|e| self.failed("cannot read the link", path, e))?;
            if opened.link_target.len() > LINK_BYTES_MAX {
                let message = format!("cannot read the link {path}: it is too long");
                return Err(Error::invalid(message).at(ORIGIN));
            }
        }
        if look.kind == Kind::File && look.size.is_none() {
            let message = format!("cannot open {path}: the server does not tell its size");
            return Err(Error::new(ErrorKind::Unsupported, message).at(ORIGIN));
        }
        let entry = opened.entry.clone();
        self.open = Some(Open { entry, look, next: 0, is_torn: false });
        Ok(opened)
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let Some(open) = self.open.as_ref().filter(|open| open.entry.kind == Kind::File) else {
            return Err(Error::bug("cannot read: no file is open").at(ORIGIN));
        };
        let path = open.entry.path.clone();
        if offset >= open.entry.size || buffer.is_empty() {
            return Ok(0);
        }
        let length = buffer.len();
        let outcome = self.read_on(offset, buffer);
        match &outcome {
            Ok(got) => {
                if let Some(open) = &mut self.open {
                    open.next = offset + *got as u64;
                }
                if *got < length {
                    self.release();
                }
            }
            Err(_) => self.release(),
        }
        outcome.map_err(|e| self.failed("cannot read", &path, e))
    }

    fn finish(&mut self) -> Result<SourceEntry> {
        let open = self
            .open
            .take()
            .ok_or_else(|| Error::bug("cannot finish: nothing is open").at(ORIGIN))?;
        if open.entry.kind != Kind::File {
            return Ok(open.entry);
        }
        let path = &open.entry.path;
        let looked = self.look_again(&open);
        self.release();
        let (now, has_grown) = looked.map_err(|e| failed("cannot look at", path, e))?;
        if !has_grown && !open.is_torn && is_same(&open.look, &now) {
            return Ok(open.entry);
        }
        // Opened again, it is to be looked at anew.
        self.inner.looks().remove(path);
        let mut entry = self.inner.entry(path.clone(), &now);
        if entry == open.entry {
            entry.detection.tag.extend_from_slice(TORN);
        }
        Ok(entry)
    }

    fn finish_soon(&mut self) -> Result<SourceEntry> {
        let may_wait = |open: &Open| {
            let is_read = open.entry.kind == Kind::File && open.next == open.entry.size;
            is_read && !open.is_torn
        };
        let Some(open) = self.open.take_if(|open| may_wait(open)) else { return self.finish() };
        let was_streaming = self.is_streaming;
        if self.has_grown(&open) || was_streaming != self.is_streaming {
            self.open = Some(open);
            return self.finish();
        }
        self.release();
        self.put_off.insert(open.entry.path.clone(), open.look);
        Ok(open.entry)
    }

    fn settle(&mut self) -> Vec<EntryPath> {
        let mut by_folder: BTreeMap<EntryPath, Vec<(EntryPath, Look)>> = BTreeMap::new();
        for (path, look) in mem::take(&mut self.put_off) {
            let folder = path.parent().unwrap_or_else(EntryPath::root);
            by_folder.entry(folder).or_default().push((path, look));
        }
        let changed = by_folder.iter().flat_map(|(folder, files)| self.changed_in(folder, files));
        let changed: Vec<EntryPath> = changed.collect();
        // Opened again, they are to be looked at anew.
        let mut looks = self.inner.looks();
        changed.iter().for_each(|path| looks.remove(path));
        changed
    }

    fn close(&mut self) {
        self.open = None;
        self.release();
    }
}

/// Says whether two looks show one state, as far as both of them tell. A listing and a look at one
/// file may tell the time in different steps.
fn is_same(before: &Look, now: &Look) -> bool {
    let same_tag = before.unique.is_empty() || now.unique.is_empty() || before.unique == now.unique;
    let same_time = match (before.modified, now.modified) {
        (Some(before), Some(now)) => is_same_time(before, now),
        _ => true,
    };
    before.kind == now.kind && before.size == now.size && same_tag && same_time
}

fn is_same_time(before: Modified, now: Modified) -> bool {
    match before.precision.max(now.precision) {
        Precision::Vague => true,
        Precision::Minute => {
            let minute = |it: Modified| it.time.seconds().div_euclid(MINUTE_SECONDS);
            minute(before) == minute(now)
        }
        Precision::Second if before.time.nanos() == 0 || now.time.nanos() == 0 => {
            before.time.seconds() == now.time.seconds()
        }
        Precision::Second => before.time == now.time,
    }
}

/// Says whether a file is beyond doubt the one that was looked at before.
fn is_certainly_same(before: &Look, now: &Look) -> bool {
    let is_exact =
        |look: &Look| look.modified.is_some_and(|modified| modified.precision == Precision::Second);
    is_exact(before) && is_exact(now) && before.unique == now.unique && is_same(before, now)
}
