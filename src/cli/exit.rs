//! The table of exit codes, and the words for kinds of errors.

use crate::base::error::ErrorKind;

/// Failed.
pub(crate) const FAILED: u8 = 1;
/// Bad usage.
pub(crate) const USAGE: u8 = 2;

/// How a command ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done.
    Done,
    /// Done, but some entries could not be read, written or verified.
    Partial,
    /// Some of what was asked failed, which was told already; the first failure counts.
    Failed(ErrorKind),
}

impl Exit {
    /// Returns [`Exit::Partial`] when something went wrong on the way.
    pub(crate) fn of(is_whole: bool) -> Self {
        if is_whole { Exit::Done } else { Exit::Partial }
    }

    /// Returns the code.
    pub(crate) fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Partial => 3,
            Exit::Failed(kind) => code_of(kind),
        }
    }
}

/// Returns the exit code of an error.
pub(crate) fn code_of(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::InvalidInput => USAGE,
        ErrorKind::NoRepository => 10,
        ErrorKind::Busy => 11,
        ErrorKind::Password => 12,
        ErrorKind::Cancelled => 130,
        ErrorKind::NotFound
        | ErrorKind::AlreadyExists
        | ErrorKind::Corrupt
        | ErrorKind::Unsupported
        | ErrorKind::Denied
        | ErrorKind::Unreachable
        | ErrorKind::RateLimited
        | ErrorKind::Full
        | ErrorKind::Bug
        | ErrorKind::Io => FAILED,
    }
}

/// Returns the word for a kind of error in JSON.
pub(crate) fn word(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::NotFound => "not_found",
        ErrorKind::AlreadyExists => "already_exists",
        ErrorKind::Corrupt => "corrupt",
        ErrorKind::Unsupported => "unsupported",
        ErrorKind::Busy => "busy",
        ErrorKind::Denied => "denied",
        ErrorKind::Password => "password",
        ErrorKind::NoRepository => "no_repository",
        ErrorKind::Unreachable => "unreachable",
        ErrorKind::RateLimited => "rate_limited",
        ErrorKind::InvalidInput => "invalid_input",
        ErrorKind::Cancelled => "cancelled",
        ErrorKind::Full => "full",
        ErrorKind::Bug => "bug",
        ErrorKind::Io => "io",
    }
}
