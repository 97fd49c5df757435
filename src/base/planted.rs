//! Rules of the protocol that a test may switch off, to see that it would notice.
//!
//! Only a build with the feature `planted` can; in every other build [`keeps`] is a constant,
//! and the compiler takes the switches out. The rules stand in `format`, the tests in
//! `tests/it/concurrency/planted.rs` and `tests/it/engine_backup_trouble.rs`.

/// A rule that can be left out. The number in front is that of its counterexample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// N1: a writer is ended by a void at its number, not by deleting its lease.
    VoidsTheDead,
    /// N2: a pack's name never comes again, as a salt is part of what it is made of.
    SaltsPacks,
    /// N3, N10: a lease pins the parent it names.
    PinsParents,
    /// N4: the parent is looked at again after the lease was put.
    LooksAgain,
    /// N5: tombstones are listed before it is asked what is there.
    TombstonesFirst,
    /// N5: what a tombstone names is not leaned on.
    ShunsTheDoomed,
    /// N6: a tombstone is never taken back.
    KeepsDoom,
    /// N7: a copy counts only in a pack that no tombstone names.
    CopiesToTheLiving,
    /// N8: numbers of backups that are gone stay taken.
    KeepsNumbers,
    /// N9: a prune deletes only when all leases that it saw are over.
    WaitsForLeases,
    /// A lease is over when it cannot commit any more, not when a clock says so.
    DistrustsClocks,
    /// Without an atomic create: a mark asks whether a lease stands before another voids it.
    AsksBeforeVoid,
    /// Without an atomic create: a writer looks for such marks before it says that it is done.
    RereadsMarks,
    /// Without an atomic create: a writer ends another one that is dead before it goes on.
    EndsRivals,
    /// A new index has every row that is needed of those that it replaces.
    KeepsRows,
    /// A password goes only when another one stays that nobody else is removing.
    KeepsAPassword,
    /// What looks damaged while a prune moves it is looked at again.
    ChecksTwice,
    /// A full disk where backups are kept ends a backup; it is no file that cannot be read.
    FullEndsIt,
}

#[cfg(feature = "planted")]
static OFF: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);

/// Says whether a rule is kept.
#[cfg(not(feature = "planted"))]
pub const fn keeps(_: Rule) -> bool {
    true
}

/// Says whether a rule is kept.
#[cfg(feature = "planted")]
pub fn keeps(rule: Rule) -> bool {
    OFF.load(std::sync::atomic::Ordering::SeqCst) & (1 << rule as u32) == 0
}

/// Switches these rules off, in the whole process, and all others on.
#[cfg(feature = "planted")]
pub fn switch_off(rules: &[Rule]) {
    let off = rules.iter().fold(0, |off, rule| off | (1 << *rule as u32));
    OFF.store(off, std::sync::atomic::Ordering::SeqCst);
}
