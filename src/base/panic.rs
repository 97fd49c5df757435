//! Turns a panic into an error, for threads that others wait for.
//!
//! A thread that panics ends without a word. Who waits for what it was to hand on waits for ever,
//! and a run that waits for ever keeps its lease.

use crate::base::error::Error;
use crate::base::error::Result;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;

/// Does a piece of work; a panic in it is an error. What the work shares with others may be left
/// half done then, so callers give up after it as after any other.
///
/// # Errors
/// Those of the work; `Bug`, which names who panicked.
pub fn caught<T>(who: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let done = catch_unwind(AssertUnwindSafe(work));
    done.unwrap_or_else(|_| Err(Error::bug(format!("{who} panicked"))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::ErrorKind;

    #[test]
    fn a_panic_is_an_error_and_nothing_else_changes() {
        let panicked = caught::<()>("a clerk", || panic!("on purpose")).unwrap_err();
        assert_eq!(panicked.kind(), ErrorKind::Bug);
        assert_eq!(panicked.to_string(), "a clerk panicked");
        assert_eq!(caught("a clerk", || Ok(7)).unwrap(), 7);
        let failed = caught::<()>("a clerk", || Err(Error::cancelled())).unwrap_err();
        assert_eq!(failed.kind(), ErrorKind::Cancelled);
    }
}
