//! The one error type of the crate, with the kinds that decide what happens next.
//!
//! Rules: the message says what could not be done and to which thing, small letter, no full
//! stop. The cause follows by `source`. What to do about it is the `hint`, one sentence for a
//! person. Errors are matched by [`ErrorKind`] and by [`Origin`], never by text. The origin
//! decides whether an operation may go on: an unreadable source entry is skipped and counted,
//! a repository that fails stops the operation (promise 8).

use std::error::Error as StdError;
use std::fmt;

/// What kind of thing went wrong; drives retry, exit code and HTTP status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The thing is not there.
    NotFound,
    /// The thing is there already, and must not be replaced.
    AlreadyExists,
    /// Bytes that do not verify or do not decode.
    Corrupt,
    /// A version, feature or file system that this program does not handle.
    Unsupported,
    /// Somebody else is at work here.
    Busy,
    /// Permission.
    Denied,
    /// A password that is missing or wrong.
    Password,
    /// There is no repository at the place named.
    NoRepository,
    /// The other end does not answer, or the connection broke.
    Unreachable,
    /// The other end asks to slow down.
    RateLimited,
    /// What the caller asked for makes no sense.
    InvalidInput,
    /// The operation was interrupted.
    Cancelled,
    /// No space, no quota, no inodes.
    Full,
    /// A broken invariant of this program.
    Bug,
    /// Any other failure of the system below.
    Io,
}

impl ErrorKind {
    /// Says whether what was to be read is not there, or not what it should be.
    pub(crate) const fn is_unreadable(self) -> bool {
        matches!(self, ErrorKind::Corrupt | ErrorKind::NotFound)
    }

    /// Says whether it means that bytes are bad or gone, and not that they cannot be judged.
    pub(crate) const fn is_damage(self) -> bool {
        matches!(self, ErrorKind::Corrupt | ErrorKind::NotFound | ErrorKind::Io)
    }

    /// Says whether it may be of one object alone, so that others can still be read.
    pub(crate) const fn is_of_one_object(self) -> bool {
        self.is_damage() || matches!(self, ErrorKind::Denied | ErrorKind::Unsupported)
    }
}

/// Which end failed; decides between skipping one entry and stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// The data that is read.
    Source,
    /// The place where backups are kept.
    Repository,
    /// The place a restore writes to.
    Target,
    /// Neither: arguments, this program, the local machine.
    Local,
}

/// Result with the crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

type Cause = Box<dyn StdError + Send + Sync + 'static>;

/// What could not be done, to which thing, and why.
///
/// ```
/// use icecore::base::error::{Error, ErrorKind};
/// let error = Error::new(ErrorKind::NotFound, "cannot read dataset cats: no such dataset")
///     .hint("`icecore list` shows the datasets of a repository");
/// assert_eq!(error.kind(), ErrorKind::NotFound);
/// assert_eq!(error.to_string(), "cannot read dataset cats: no such dataset");
/// ```
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    origin: Origin,
    message: String,
    hint: Option<String>,
    source: Option<Cause>,
    may_be_done: bool,
}

impl Error {
    /// Returns an error of this kind whose origin is [`Origin::Local`].
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error(Box::new(Inner {
            kind,
            origin: Origin::Local,
            message: message.into(),
            hint: None,
            source: None,
            may_be_done: false,
        }))
    }

    /// Returns an error for an operating-system failure, its kind read from the system's.
    pub fn io(message: impl Into<String>, cause: std::io::Error) -> Self {
        Error::new(kind_of_io(&cause), message).caused_by(cause)
    }

    /// Returns a [`ErrorKind::Corrupt`] error.
    pub fn corrupt(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Corrupt, message)
    }

    /// Returns a [`ErrorKind::InvalidInput`] error.
    pub fn invalid(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::InvalidInput, message)
    }

    /// Returns a [`ErrorKind::Bug`] error: an invariant of this program does not hold.
    pub fn bug(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Bug, message)
    }

    /// Returns the error of an interrupted operation.
    pub fn cancelled() -> Self {
        Error::new(ErrorKind::Cancelled, "interrupted")
    }

    /// Says which end failed.
    pub fn at(mut self, origin: Origin) -> Self {
        self.0.origin = origin;
        self
    }

    /// Adds what a person can do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Adds the error that led to this one.
    pub fn caused_by(mut self, cause: impl Into<Cause>) -> Self {
        self.0.source = Some(cause.into());
        self
    }

    /// Says that an earlier try of the same may have been done, or may still be.
    pub fn after_a_lost_answer(mut self) -> Self {
        self.0.may_be_done = true;
        self
    }

    /// Puts what was being done in front: `doing: message`. Kind, origin and hint stay.
    pub fn context(mut self, doing: impl fmt::Display) -> Self {
        self.0.message = format!("{doing}: {}", self.0.message);
        self
    }

    /// Returns the kind.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns which end failed.
    pub fn origin(&self) -> Origin {
        self.0.origin
    }

    /// Says whether what failed may have been done all the same, or may still be: an answer was
    /// lost, of this try or of one before it.
    pub fn may_be_done(&self) -> bool {
        self.0.may_be_done || self.0.kind == ErrorKind::Unreachable
    }

    /// Returns the sentence on what to do, if there is one.
    pub fn hint_text(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// Returns the message with all causes behind it, joined by `: `.
    pub fn full_message(&self) -> String {
        let mut text = self.0.message.clone();
        let mut cause = StdError::source(self);
        while let Some(inner) = cause {
            text.push_str(": ");
            text.push_str(&inner.to_string());
            cause = inner.source();
        }
        text
    }
}

fn kind_of_io(cause: &std::io::Error) -> ErrorKind {
    use std::io::ErrorKind as Io;
    match cause.kind() {
        Io::NotFound => ErrorKind::NotFound,
        Io::AlreadyExists => ErrorKind::AlreadyExists,
        Io::PermissionDenied | Io::ReadOnlyFilesystem => ErrorKind::Denied,
        Io::StorageFull | Io::QuotaExceeded | Io::FileTooLarge => ErrorKind::Full,
        Io::Unsupported => ErrorKind::Unsupported,
        Io::TimedOut | Io::ConnectionRefused | Io::ConnectionReset | Io::BrokenPipe => {
            ErrorKind::Unreachable
        }
        _ => ErrorKind::Io,
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} ({:?}): {}", self.0.kind, self.0.origin, self.full_message())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|cause| cause as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_message_joins_the_causes() {
        let cause = std::io::Error::from(std::io::ErrorKind::NotFound);
        let error = Error::io("cannot open a", cause).context("cannot back up b");
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert_eq!(error.full_message(), "cannot back up b: cannot open a: entity not found");
    }

    #[test]
    fn a_full_disk_is_its_own_kind() {
        let error = Error::io("cannot write", std::io::Error::from_raw_os_error(28));
        assert_eq!(error.kind(), ErrorKind::Full);
    }
}
