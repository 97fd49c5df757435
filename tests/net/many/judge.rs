//! What has to hold when all who were at work have ended.

use crate::many::Files;
use crate::many::Name;
use crate::many::Play;
use crate::many::read;
use serde_json::Value;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;

impl Play<'_> {
    /// Restores a backup and compares it with what it was made of. One that was forgotten may be
    /// gone, and is never another.
    pub(super) fn compare(
        &self,
        who: &str,
        name: &Name,
        files: &Files,
        known: &BTreeMap<Vec<u8>, u64>,
    ) {
        let version = format!("{}@{}", name.0, name.1);
        let target = self.path(&format!("{who}-restored"));
        let ran = self.run(who, &["restore", &version, target.to_str().unwrap()], None);
        let found = (ran.code == Some(0)).then(|| read(&target, known));
        let _ = fs::remove_dir_all(&target);
        let is_forgotten = self.ledger().forgotten.contains(name);
        match found {
            Some(Ok(found)) if found == *files => {}
            None if is_forgotten => {}
            other => self.wrong(format!("{version} restores to {other:?}: {ran:?}")),
        }
    }

    /// Looks at what is left when all have ended.
    pub(super) fn judge(&self, known: &BTreeMap<Vec<u8>, u64>) {
        // Each machine tells of its own dead for certain.
        let who = |number| format!("writer-{number}");
        let machines = (0..self.plan.writers.len()).map(who).filter(|_| self.plan.has_hosts);
        for who in machines.chain(["keeper".to_owned()]) {
            let ran = self.run(&who, &["prune", "--max-unused", "0%", "--disk-wait", "0"], None);
            if ran.code != Some(0) {
                self.wrong(format!("the last prune of {who}: {ran:?}"));
            }
        }
        let ran = self.run("keeper", &["prune", "--max-unused", "0%", "--disk-wait", "0"], None);
        let document = if ran.code == Some(0) { ran.document() } else { Value::Null };
        if document["waits_for"].as_array().is_none_or(|waits| !waits.is_empty()) {
            self.wrong(format!("somebody is waited for, and all are gone: {ran:?}"));
        }
        let ran = self.run("keeper", &["check", "--read-data"], None);
        match ran.code {
            // What is told beside is garbage that another prune takes.
            Some(0) => eprintln!("a check of all data tells {}", ran.document()["findings"]),
            _ => self.wrong(format!("check: {ran:?}")),
        }
        let datasets: BTreeSet<&str> = self.plan.writers.iter().copied().collect();
        for dataset in datasets {
            let ran = self.run("keeper", &["list", dataset], None);
            if ran.code != Some(0) {
                self.wrong(format!("list {dataset}: {ran:?}"));
                continue;
            }
            self.judge_dataset(dataset, &ran.document(), known);
        }
    }

    fn judge_dataset(&self, dataset: &str, rows: &Value, known: &BTreeMap<Vec<u8>, u64>) {
        let numbers: Vec<u64> =
            rows.as_array().unwrap().iter().map(|row| row["backup"].as_u64().unwrap()).collect();
        let listed: BTreeSet<u64> = numbers.iter().copied().collect();
        if listed.len() != numbers.len() {
            self.wrong(format!("{dataset} lists a number twice: {numbers:?}"));
        }
        let (acknowledged, forgotten, possible) = {
            let ledger = self.ledger();
            let possible = ledger.possible.get(dataset).cloned().unwrap_or_default();
            (ledger.acknowledged.clone(), ledger.forgotten.clone(), possible)
        };
        for name in acknowledged.keys().filter(|name| name.0 == dataset) {
            if !forgotten.contains(name) && !listed.contains(&name.1) {
                self.wrong(format!("{name:?} was acknowledged and is gone: {numbers:?}"));
            }
        }
        for number in listed {
            let name = (dataset.to_owned(), number);
            if let Some(files) = acknowledged.get(&name) {
                self.compare("keeper", &name, files, known);
                continue;
            }
            // Its writer was killed between the commit and the word of it.
            let version = format!("{dataset}@{number}");
            let target = self.path("keeper-unknown");
            let ran = self.run("keeper", &["restore", &version, target.to_str().unwrap()], None);
            let found = read(&target, known);
            let _ = fs::remove_dir_all(&target);
            if !found.as_ref().is_ok_and(|found| possible.contains(found)) {
                self.wrong(format!("{version} holds what nobody stored: {found:?} {ran:?}"));
            }
        }
    }
}
