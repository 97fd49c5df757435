//! The plan of a dry run. A row waits until the files of its window were compared, and is then
//! told; so many rows and bytes of paths wait as a window may have.

use crate::base::error::Result;
use crate::base::path::EntryPath;
use crate::engine::restore::Bounds;
use crate::engine::restore::PlannedAction;
use std::collections::VecDeque;

/// Who is told of each row.
pub type Visit<'v> = dyn FnMut(&PlannedAction) -> Result<()> + 'v;

/// The rows that are not told yet.
pub(super) struct Plan<'v> {
    visit: &'v mut Visit<'v>,
    rows: VecDeque<PlannedAction>,
    /// Bytes of their paths.
    bytes: usize,
    told: usize,
}

impl<'v> Plan<'v> {
    pub(super) fn new(visit: &'v mut Visit<'v>) -> Self {
        Plan { visit, rows: VecDeque::new(), bytes: 0, told: 0 }
    }

    /// Adds a row and returns its number.
    pub(super) fn add(&mut self, path: &EntryPath, action: &'static str) -> usize {
        self.bytes += path.as_bytes().len();
        self.rows.push_back(PlannedAction { path: path.clone(), action });
        self.told + self.rows.len() - 1
    }

    /// Changes a row that is not told yet.
    pub(super) fn change(&mut self, number: usize, action: &'static str) {
        let row = number.checked_sub(self.told).and_then(|at| self.rows.get_mut(at));
        row.into_iter().for_each(|row| row.action = action);
    }

    /// Says whether as much waits as may.
    pub(super) fn is_full(&self, bounds: &Bounds) -> bool {
        self.rows.len() >= bounds.window_rows || self.bytes >= bounds.window_bytes
    }

    /// Tells all rows; with a number, those before it.
    ///
    /// # Errors
    /// Those of whoever is told.
    pub(super) fn tell(&mut self, before: Option<usize>) -> Result<()> {
        while before.is_none_or(|number| self.told < number)
            && let Some(row) = self.rows.pop_front()
        {
            self.told += 1;
            self.bytes -= row.path.as_bytes().len();
            (self.visit)(&row)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_told_in_order_and_changed_only_before() {
        let mut told = Vec::new();
        let mut visit = |row: &PlannedAction| {
            told.push(format!("{} {}", row.action, row.path));
            Ok(())
        };
        let mut plan = Plan::new(&mut visit);
        let path = |text: &str| EntryPath::new(text.as_bytes()).expect("a path");
        let numbers = ["a", "b", "c"].map(|name| plan.add(&path(name), "keep"));
        assert_eq!(numbers, [0, 1, 2]);

        plan.change(1, "update");
        plan.tell(Some(2)).expect("told");
        let waits = |rows, bytes| Bounds { window_rows: rows, window_bytes: bytes, read_bytes: 1 };
        let is_full = [waits(1, 9), waits(9, 1), waits(2, 2)].map(|bounds| plan.is_full(&bounds));
        assert_eq!(is_full, [true, true, false], "one row of one byte");
        plan.change(0, "skip");
        plan.change(2, "skip");
        assert_eq!(plan.add(&path("d"), "create"), 3);
        plan.tell(None).expect("told");

        assert_eq!(told, ["keep a", "update b", "skip c", "create d"]);
    }
}
