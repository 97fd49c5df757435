//! How long commands take that nobody kills, so that kills fall inside; and what came of them.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// One command of one victim.
pub(super) type Name = (&'static str, String);

/// The time within which one command is killed.
#[derive(Default)]
pub(super) struct Window {
    usual: Duration,
    /// How many instants were chosen.
    chosen: u64,
    pub(super) killed: usize,
    pub(super) ended: usize,
}

/// The windows of all commands.
#[derive(Default)]
pub(super) struct Windows(BTreeMap<Name, Window>);

impl Windows {
    fn of(&mut self, name: &Name) -> &mut Window {
        self.0.entry(name.clone()).or_default()
    }

    /// Notes how long it took when nobody killed it.
    pub(super) fn measured(&mut self, name: &Name, took: Duration) {
        self.of(name).usual = took;
    }

    /// Chooses an instant: few of them are spread over all of the window, by the golden section.
    pub(super) fn choose(&mut self, name: &Name, offset: u64) -> Duration {
        let window = self.of(name);
        window.chosen += 1;
        let place = window.chosen.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(offset);
        window.usual.mul_f64(place as f64 / u64::MAX as f64)
    }

    /// Notes that it was killed then: if that was close to the end, it may take longer by now.
    pub(super) fn killed(&mut self, name: &Name, after: Duration) {
        let window = self.of(name);
        window.killed += 1;
        if after > window.usual.mul_f64(0.9) {
            window.usual = window.usual.mul_f64(1.1);
        }
    }

    /// Notes that it ended before it was to be killed: that is how long it takes by now.
    pub(super) fn ended(&mut self, name: &Name, took: Duration) {
        let window = self.of(name);
        window.ended += 1;
        window.usual = took;
    }

    /// Returns how many were killed, and how many ended before that.
    pub(super) fn totals(&self) -> (usize, usize) {
        self.0.values().fold((0, 0), |sum, it| (sum.0 + it.killed, sum.1 + it.ended))
    }

    /// Returns the commands that were never killed.
    pub(super) fn never_killed(&self) -> Vec<&Name> {
        self.0.iter().filter(|(_, it)| it.killed == 0).map(|(name, _)| name).collect()
    }

    /// Says whether a command of this victim was never killed.
    pub(super) fn owes(&self, victim: &str) -> bool {
        let mut own = self.0.iter().filter(|((name, _), _)| *name == victim).peekable();
        own.peek().is_none() || own.any(|(_, window)| window.killed == 0)
    }
}

impl fmt::Display for Windows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ((victim, command), it) in &self.0 {
            let Window { usual, killed, ended, .. } = it;
            writeln!(f, "{victim}: {command}: {killed} killed, {ended} ended, {usual:.1?}")?;
        }
        Ok(())
    }
}
