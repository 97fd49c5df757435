//! Whether a store knows an atomic create: tried once, kept beside the objects, and proven again.
//!
//! It cannot be asked. An object is put twice under the condition that nothing is there: a store
//! that ignores the condition (Garage, `rclone serve s3`) takes the second one too, and is of class
//! B. That is done when a repository is made, and a mark says what was found. So to open one takes
//! a single request, and all who write to it go by the same rules, also when the store learns the
//! condition later. A store may also refuse the condition; as somebody before the store may refuse
//! anything for a moment, that counts when it is refused twice, and is taken without it between.
//! The same object has to be listed as soon as it is put: who prunes finds out by
//! listings who is at work, so a store that shows them late is refused.
//!
//! A bucket may be moved to a store that does not know the condition. So before the first create of
//! a run the mark itself is put again under it, which changes nothing whatever the store does, and
//! has to be refused. Where there is no mark, each who opens tries, and leaves none.

use crate::backend::Backend;
use crate::backend::s3::CONFLICT_WAIT;
use crate::backend::s3::S3Backend;
use crate::backend::s3::TEMPORARY;
use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::id::to_hex;
use crate::base::limits::S3_CONFLICTS_MAX;
use crate::base::sys;
use crate::net::s3::client::Refused;
use crate::net::s3::listing::Depth;
use crate::net::s3::listing::Row;
use crate::net::s3::objects::Beside;
use std::sync::atomic::Ordering;

/// Names the mark.
const MARK: &str = "class";
/// Longest content of a mark.
const MARK_BYTES_MAX: usize = 64;

/// What the store can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Atomic create.
    Atomic,
    /// None.
    Plain,
    /// Unknown, as the probe was refused: nothing is written then, as it might be written wrong.
    ReadOnly,
}

impl Class {
    /// What the mark says.
    fn mark(self) -> Option<&'static [u8]> {
        match self {
            Class::Atomic => Some(b"atomic\n"),
            Class::Plain => Some(b"plain\n"),
            Class::ReadOnly => None,
        }
    }
}

impl S3Backend {
    fn mark_place(&self) -> String {
        format!("{}{TEMPORARY}/{MARK}", self.prefix)
    }

    /// Leaves a mark, unless there is one already.
    pub(super) fn leave_mark(&self) -> Result<()> {
        let was_tried = self.is_proven.load(Ordering::Relaxed);
        match self.class.mark().filter(|_| was_tried) {
            Some(mark) => self.client.put(&self.mark_place(), mark, &Beside::default()),
            None => Ok(()),
        }
    }

    /// Reads the mark, if there is one.
    pub(super) fn marked(&self) -> Result<Option<Class>> {
        let mark = match self.client.get(&self.mark_place(), MARK_BYTES_MAX) {
            Ok(mark) => mark,
            Err(e) => match e.kind() {
                // Whoever may not list is told of what is missing that it may not be read.
                ErrorKind::NotFound | ErrorKind::NoRepository | ErrorKind::Denied => {
                    return Ok(None);
                }
                _ => return Err(e),
            },
        };
        let said = |class: &Class| class.mark() == Some(mark.as_slice());
        [Class::Atomic, Class::Plain].into_iter().find(said).map(Some).ok_or_else(|| {
            let place = self.client.shown(&self.mark_place());
            Error::new(ErrorKind::Unsupported, format!("{place} says nothing that is known"))
                .hint("a newer version may have made this repository")
        })
    }

    /// Makes sure before the first create that the store still is what the mark says.
    pub(super) fn prove(&self) -> Result<()> {
        if self.is_proven.load(Ordering::Relaxed) {
            return Ok(());
        }
        let (place, mark) = (self.mark_place(), Class::Atomic.mark().unwrap_or_default());
        let mut taken = 0;
        for _ in 0..S3_CONFLICTS_MAX {
            match self.client.put_new(&place, mark) {
                // Once somebody may have taken the mark away: it stands again then.
                Ok(()) if taken == 0 => taken += 1,
                Ok(()) => return Err(self.is_another_store(&place)),
                Err(Refused { error, .. }) => match error.kind() {
                    ErrorKind::AlreadyExists => {
                        self.is_proven.store(true, Ordering::Relaxed);
                        return Ok(());
                    }
                    ErrorKind::Busy => self.client.wait(CONFLICT_WAIT)?,
                    _ if is_refusal(&error) => return Err(self.is_refused(&place, error)),
                    _ => return Err(error),
                },
            }
        }
        let message = format!("cannot write to {}: others are at it all the time", self.location());
        Err(Error::new(ErrorKind::RateLimited, message))
    }

    /// Takes the mark away that is wrong here, so that the next who opens tries.
    fn is_another_store(&self, mark: &str) -> Error {
        let _ = self.client.delete(mark);
        let message =
            format!("cannot write to {}: its store replaces what it must refuse", self.location());
        Error::new(ErrorKind::Unsupported, message).hint(
            "the repository was made on another store; run this again, and it goes on without an \
             atomic create, when nobody writes to it elsewhere",
        )
    }

    /// Whoever answers for a moment in the place of the store refuses, too: the mark stays.
    fn is_refused(&self, mark: &str, error: Error) -> Error {
        let has_hint = error.hint_text().is_some();
        let error = error.context(format!("cannot write to {}", self.location()));
        if has_hint {
            return error;
        }
        let mark = self.client.shown(mark);
        error.hint(format!(
            "if the repository was moved to a store that refuses `If-None-Match` for good, remove \
             {mark} while nobody writes: it goes on without an atomic create"
        ))
    }

    /// Finds out whether a second conditional put is refused, and whether what is put is listed.
    pub(super) fn probe(&self) -> Result<Class> {
        let key = format!("{}{TEMPORARY}/probe-{}", self.prefix, to_hex(&sys::random::<16>()?));
        let (mut is_there, mut refusals) = (false, 0);
        let class = loop {
            let Err(Refused { error, is_doubtful, .. }) = self.client.put_new(&key, b"probe")
            else {
                if is_there {
                    break Class::Plain;
                }
                is_there = true;
                continue;
            };
            match error.kind() {
                ErrorKind::AlreadyExists if is_there => break Class::Atomic,
                // Its own, of which the answer was lost.
                ErrorKind::AlreadyExists if is_doubtful => is_there = true,
                ErrorKind::Denied if !is_there => return Ok(Class::ReadOnly),
                // Some stores refuse the condition, each with words of its own: what is refused
                // without it, too, or is refused only once, was refused for another reason.
                _ if is_refusal(&error) => {
                    refusals += 1;
                    if refusals > 1 {
                        break Class::Plain;
                    }
                    if self.client.put(&key, b"probe", &Beside::default()).is_err() {
                        return Err(error);
                    }
                    is_there = true;
                }
                _ => return Err(error),
            }
        };
        let is_listed = self.lists(&key);
        // One that stays is swept.
        let _ = self.client.delete(&key);
        match is_listed? {
            true => Ok(class),
            false => {
                let message = format!("{} does not list what was just put", self.location());
                Err(Error::new(ErrorKind::Unsupported, message).hint(
                    "writers and prunes find each other by listings, so a store or gateway whose \
                     listings lag behind cannot keep a repository; switch its listing cache off",
                ))
            }
        }
    }

    /// Says whether an object that was put is listed.
    fn lists(&self, key: &str) -> Result<bool> {
        let mut is_listed = false;
        self.client.list(key, Depth::All, &mut |row| {
            is_listed |= matches!(&row, Row::Object(object) if object.key == key);
            Ok(())
        })?;
        Ok(is_listed)
    }
}

/// Says whether a store may say so that does not know the condition.
fn is_refusal(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::Io | ErrorKind::InvalidInput)
}
