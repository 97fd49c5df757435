//! Which places of a body an execution came to: a seed that a decoder refuses at its first check
//! tries next to nothing, and without a count of such places nobody sees that it does.

use std::cell::RefCell;
use std::collections::BTreeSet;

thread_local! {
    static REACHED: RefCell<BTreeSet<&'static str>> = const { RefCell::new(BTreeSet::new()) };
}

/// Notes that an execution came here.
pub fn reach(place: &'static str) {
    REACHED.with_borrow_mut(|reached| reached.insert(place));
}

/// Returns what this thread came to since it was asked last.
pub fn taken() -> BTreeSet<&'static str> {
    REACHED.take()
}
