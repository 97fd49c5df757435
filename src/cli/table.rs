//! Prints rows in aligned columns.
//!
//! What is in a cell may come from anybody's repository, so control characters are escaped.

use crate::base::error::Result;
use crate::base::path::display;
use crate::cli::output::Output;

/// To which side a column is pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// Rows of cells under a head.
#[derive(Debug)]
pub(crate) struct Table {
    sides: Vec<Side>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Begins a table with its head.
    pub(crate) fn new(head: &[(&str, Side)]) -> Self {
        let names = head.iter().map(|(name, _)| (*name).to_owned()).collect();
        Table { sides: head.iter().map(|(_, side)| *side).collect(), rows: vec![names] }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells.iter().map(|cell| display(cell.as_bytes())).collect());
    }

    /// Prints it.
    pub(crate) fn print(&self, output: &mut Output) -> Result<()> {
        self.lines().iter().try_for_each(|line| output.line(line))
    }

    fn lines(&self) -> Vec<String> {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.sides.len()).map(width).collect();
        let line = |row: &Vec<String>| {
            let cells = row.iter().zip(&self.sides).zip(&widths);
            let cells = cells.map(|((cell, side), &width)| match side {
                Side::Left => format!("{cell:<width$}"),
                Side::Right => format!("{cell:>width$}"),
            });
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        self.rows.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_cannot_steer_a_terminal() {
        let mut table = Table::new(&[("NAME", Side::Left), ("SIZE", Side::Right)]);
        table.row(vec!["a\u{1b}".into(), "1 B".into()]);
        table.row(vec!["b".into(), "12.0 KiB".into()]);
        assert_eq!(table.lines(), ["NAME         SIZE", "a\\u{1b}       1 B", "b        12.0 KiB"]);
    }
}
