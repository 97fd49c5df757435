//! What a check has found so far: one issue for each object, with those who suffer by it.
//!
//! Bounded: so many objects are listed by name, so many paths for each; the rest is counted.

use crate::base::path::EntryPath;
use crate::base::words::counted;
use crate::engine::check::Finding;
use crate::engine::check::Severity;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Objects listed by name; a lost disk of a petabyte would name millions.
const ISSUES_MAX: usize = 10_000;
/// Paths listed for one object.
const PATHS_MAX: usize = 20;
/// Sentences kept for one object.
const MESSAGES_MAX: usize = 8;

/// A backup by its dataset's name and its number.
pub(crate) type Sufferer = (Arc<str>, u64);

struct Issue {
    severity: Severity,
    messages: Vec<String>,
    backups: BTreeSet<Sufferer>,
    paths: Vec<String>,
    paths_more: u64,
    last_path: Option<EntryPath>,
}

/// All issues, by object.
#[derive(Default)]
pub(crate) struct Ledger {
    issues: BTreeMap<String, Issue>,
    /// Paths that suffer by damage, for each backup; the first so many.
    losses: BTreeMap<Sufferer, Vec<String>>,
    left_out: u64,
    left_out_damage: bool,
}

impl Ledger {
    /// Notes what is wrong with an object. The worst severity counts.
    pub(crate) fn add(&mut self, severity: Severity, object: &str, message: impl Into<String>) {
        let message = message.into();
        let Some(issue) = self.issue(severity, object) else { return };
        issue.severity = issue.severity.max(severity);
        if !issue.messages.contains(&message) && issue.messages.len() < MESSAGES_MAX {
            issue.messages.push(message);
        }
    }

    /// Notes damage to an object.
    pub(crate) fn damage(&mut self, object: &str, message: impl Into<String>) {
        self.add(Severity::Damage, object, message);
    }

    /// Notes who suffers by what is wrong with an object: backups, and a path in them. A path
    /// counts once in a row, as the runs of one file come one after the other.
    pub(crate) fn suffer(
        &mut self,
        object: &str,
        backups: impl IntoIterator<Item = Sufferer>,
        path: Option<&EntryPath>,
    ) {
        self.suffer_by(Severity::Damage, object, backups, path);
    }

    /// Like [`Ledger::suffer`], by something that may be no damage.
    pub(crate) fn suffer_by(
        &mut self,
        severity: Severity,
        object: &str,
        backups: impl IntoIterator<Item = Sufferer>,
        path: Option<&EntryPath>,
    ) {
        let backups: Vec<Sufferer> = backups.into_iter().collect();
        if let (Severity::Damage, Some(path)) = (severity, path) {
            self.lose(&backups, path);
        }
        let Some(issue) = self.issue(severity, object) else { return };
        // Whatever it was taken for before: somebody needs it.
        issue.severity = issue.severity.max(severity);
        issue.backups.extend(backups);
        let Some(path) = path.filter(|path| issue.last_path.as_ref() != Some(path)) else {
            return;
        };
        issue.last_path = Some(path.clone());
        issue.add_path(path.to_string());
    }

    fn lose(&mut self, backups: &[Sufferer], path: &EntryPath) {
        for backup in backups {
            let paths = self.losses.entry(backup.clone()).or_default();
            if paths.len() < PATHS_MAX {
                let path = path.to_string();
                if !paths.contains(&path) {
                    paths.push(path);
                }
            }
        }
    }

    /// Returns the first paths that suffer by damage, for each backup.
    pub(crate) fn losses(&self) -> impl Iterator<Item = (String, &[String])> {
        let name = |(name, n): &Sufferer| format!("{name}@{n}");
        self.losses.iter().map(move |(backup, paths)| (name(backup), paths.as_slice()))
    }

    fn issue(&mut self, severity: Severity, object: &str) -> Option<&mut Issue> {
        if !self.issues.contains_key(object) {
            if self.issues.len() >= ISSUES_MAX {
                self.left_out += 1;
                self.left_out_damage |= severity == Severity::Damage;
                return None;
            }
            let issue = Issue {
                severity,
                messages: Vec::new(),
                backups: BTreeSet::new(),
                paths: Vec::new(),
                paths_more: 0,
                last_path: None,
            };
            self.issues.insert(object.to_owned(), issue);
        }
        self.issues.get_mut(object)
    }

    /// Goes through the objects that are damaged.
    pub(crate) fn damaged_objects(&self) -> impl Iterator<Item = &str> {
        let damaged = self.issues.iter().filter(|(_, issue)| issue.severity == Severity::Damage);
        damaged.map(|(object, _)| object.as_str())
    }

    /// Says whether nothing was found.
    pub(crate) fn is_empty(&self) -> bool {
        self.issues.is_empty() && self.left_out == 0
    }

    /// Takes over what another ledger holds.
    pub(crate) fn merge(&mut self, other: Ledger) {
        self.left_out += other.left_out;
        self.left_out_damage |= other.left_out_damage;
        for (backup, paths) in other.losses {
            let known = self.losses.entry(backup).or_default();
            for path in paths {
                if known.len() < PATHS_MAX && !known.contains(&path) {
                    known.push(path);
                }
            }
        }
        for (object, theirs) in other.issues {
            for message in theirs.messages {
                self.add(theirs.severity, &object, message);
            }
            let Some(issue) = self.issue(theirs.severity, &object) else { continue };
            issue.severity = issue.severity.max(theirs.severity);
            issue.backups.extend(theirs.backups);
            issue.paths_more += theirs.paths_more;
            theirs.paths.into_iter().for_each(|path| issue.add_path(path));
        }
    }

    /// Returns the findings, the worst first.
    pub(crate) fn into_findings(self) -> Vec<Finding> {
        let mut findings: Vec<Finding> =
            self.issues.into_iter().map(|(object, issue)| issue.into_finding(object)).collect();
        if self.left_out > 0 {
            let severity = if self.left_out_damage { Severity::Damage } else { Severity::Garbage };
            let more = counted(self.left_out, "more thing was", "more things were");
            let message = format!("{more} found beside those listed");
            findings.push(Finding::of(severity, "repository", message));
        }
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        findings
    }
}

impl Issue {
    fn add_path(&mut self, path: String) {
        if self.paths.contains(&path) {
            return;
        }
        if self.paths.len() < PATHS_MAX {
            self.paths.push(path);
        } else {
            self.paths_more += 1;
        }
    }

    fn into_finding(self, object: String) -> Finding {
        let mut message = self.messages.join("; ");
        if message.is_empty() {
            message.push_str("something that backups need is not readable in it");
        }
        if self.paths_more > 0 {
            let more = counted(self.paths_more, "more path suffers", "more paths suffer");
            message.push_str(&format!("; {more}"));
        }
        let backups = self.backups.into_iter().map(|(name, n)| format!("{name}@{n}"));
        Finding {
            severity: self.severity,
            object,
            message,
            backups: backups.collect(),
            paths: self.paths,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_listed_up_to_a_bound_and_then_counted() {
        let mut ledger = Ledger::default();
        ledger.damage("packs/x", "is gone");
        for n in 0..50 {
            let path = EntryPath::new(format!("f{n}").as_bytes()).expect("a path");
            for _ in 0..2 {
                ledger.suffer("packs/x", [("a".into(), 10), ("a".into(), 9)], Some(&path));
            }
        }
        let findings = ledger.into_findings();
        assert_eq!(findings[0].paths.len(), PATHS_MAX);
        assert_eq!(findings[0].backups, ["a@9", "a@10"]);
        assert_eq!(findings[0].message, "is gone; 30 more paths suffer");
    }

    #[test]
    fn the_worst_severity_counts_and_comes_first() {
        let mut ledger = Ledger::default();
        ledger.add(Severity::Note, "a", "one");
        ledger.add(Severity::Garbage, "b", "two");
        let mut other = Ledger::default();
        other.damage("b", "three");
        ledger.merge(other);
        let findings = ledger.into_findings();
        assert_eq!(findings[0].message, "two; three");
        assert_eq!(findings[0].severity, Severity::Damage);
        assert_eq!(findings[1].severity, Severity::Note);
    }

    #[test]
    fn garbage_that_somebody_suffers_by_is_damage() {
        let mut ledger = Ledger::default();
        ledger.add(Severity::Garbage, "packs/x", "is gone");
        ledger.add(Severity::Garbage, "packs/y", "is gone");
        let mut replayed = Ledger::default();
        replayed.suffer("packs/x", [("a".into(), 1)], None);
        ledger.merge(replayed);
        ledger.suffer("packs/y", [("a".into(), 1)], None);
        let findings = ledger.into_findings();
        assert!(findings.iter().all(|finding| finding.severity == Severity::Damage));
    }

    #[test]
    fn a_flood_is_counted() {
        let mut ledger = Ledger::default();
        for n in 0..ISSUES_MAX + 5 {
            ledger.damage(&n.to_string(), "bad");
        }
        let findings = ledger.into_findings();
        assert_eq!(findings.len(), ISSUES_MAX + 1);
        assert!(findings.iter().any(|finding| finding.message.starts_with("5 more")));
    }
}
