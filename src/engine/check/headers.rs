//! The headers of one dataset by number, in a list: a map has room for a dozen from the first one
//! on, and there may be a hundred thousand datasets of one backup each.

use crate::engine::check::datasets::Kept;
use std::ops::Index;

/// Headers by number, in order.
#[derive(Default)]
pub(crate) struct Headers(Vec<(u64, Kept)>);

impl Headers {
    /// Adds a header; one at the same number goes.
    pub(crate) fn insert(&mut self, n: u64, kept: Kept) {
        match self.place(n) {
            Ok(at) => self.0[at] = (n, kept),
            Err(at) => {
                if self.0.is_empty() {
                    self.0.reserve_exact(1);
                }
                self.0.insert(at, (n, kept));
            }
        }
    }

    fn place(&self, n: u64) -> Result<usize, usize> {
        self.0.binary_search_by_key(&n, |(number, _)| *number)
    }

    /// Returns the header at a number.
    pub(crate) fn get(&self, n: u64) -> Option<&Kept> {
        self.place(n).ok().map(|at| &self.0[at].1)
    }

    /// Says whether there is one at a number.
    pub(crate) fn contains(&self, n: u64) -> bool {
        self.place(n).is_ok()
    }

    /// Goes through all of them.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (u64, &Kept)> {
        self.0.iter().map(|(n, kept)| (*n, kept))
    }
}

impl Index<u64> for Headers {
    type Output = Kept;

    /// The number must be one that [`Headers::iter`] gave.
    fn index(&self, n: u64) -> &Kept {
        self.get(n).expect("because a number that `iter` gave stays, as no header is taken out")
    }
}
