//! Who looks for damage beside all that goes on, and never finds any: what others are just about to
//! write, delete or leave behind is none.

use crate::many::PAUSE;
use crate::many::Play;
use crate::many::Ran;
use std::sync::atomic::Ordering;
use std::thread;

const LOOKS: [&[&str]; 3] = [&["check"], &["repair", "--dry-run"], &["check", "--read-data"]];

impl Play<'_> {
    /// Checks, and asks what a repair would do, until the writers are done; of each once at least.
    pub(super) fn inspect(&self) {
        for (turn, words) in LOOKS.iter().cycle().enumerate() {
            if turn >= LOOKS.len() && self.is_over.load(Ordering::SeqCst) {
                break;
            }
            let ran = self.run("inspector", words, None);
            self.ledger().inspections += 1;
            if let Some(wrong) = found_by(&ran) {
                self.wrong(format!("{words:?} beside the writers: {wrong}: {ran:?}"));
            }
            thread::sleep(PAUSE);
        }
    }
}

/// Says what a look has found that is not there.
fn found_by(ran: &Ran) -> Option<String> {
    if ran.code != Some(0) {
        return Some("it fails".to_owned());
    }
    let document = ran.document();
    let lists = ["lost", "unrepaired"].into_iter().filter_map(|name| document[name].as_array());
    let findings = document["findings"].as_array().into_iter().flatten();
    let damage = findings.filter(|finding| finding["severity"] == "damage");
    let found: Vec<String> = lists.flatten().chain(damage).map(|it| it.to_string()).collect();
    (!found.is_empty()).then(|| found.join(", "))
}
