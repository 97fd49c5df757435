//! Who is killed: what is done before, what runs, and what must hold afterwards.

use crate::kill::play::DATASETS;
use crate::kill::play::FORGET;
use crate::kill::play::MIRROR;
use crate::kill::play::PRUNE;
use crate::kill::play::Play;

pub(super) struct Victim {
    pub(super) name: &'static str,
    /// What happens before.
    before: fn(&mut Play),
    /// The command lines that run at once.
    pub(super) commands: &'static [&'static [&'static str]],
    /// What is done right afterwards, before anybody looks.
    cure: fn(&mut Play),
    /// What must hold when they were killed, or had ended.
    afterwards: fn(&mut Play),
}

/// A victim that meets a sound repository and leaves one.
const fn victim(
    name: &'static str,
    before: fn(&mut Play),
    commands: &'static [&'static [&'static str]],
    afterwards: fn(&mut Play),
) -> Victim {
    Victim { name, before, commands, cure: |_| {}, afterwards }
}

/// A victim that repairs what was done to the repository before.
const fn repair_victim(
    name: &'static str,
    before: fn(&mut Play),
    commands: &'static [&'static [&'static str]],
) -> Victim {
    Victim { name, before, commands, cure: repaired_again, afterwards: pruned_again }
}

const NOTHING: fn(&mut Play) = |_| {};
const BACKUP: &[&str] = &["backup", "data"];
const REPAIR: &[&str] = &["repair", "--read-data"];
const CHECK: &[&str] = &["check", "--read-data"];
const COPY: &[&str] = &["copy", "--to", MIRROR];
const RENAME: &[&str] = &["rename", "data", "moved"];
const RESTORE: &[&str] = &["restore", "data", "half"];
const OVER: &[&str] = &["restore", "data", "place", "--overwrite", "if-changed", "--delete"];
const OVER_ALL: &[&str] = &["restore", "data", "place", "--overwrite", "always", "--delete"];

/// Those that change the repository.
pub(super) const WRITERS: &[Victim] = &[
    victim("backup", NOTHING, &[BACKUP], NOTHING),
    repair_victim("repair of a lost index", Play::lose_an_index, &[REPAIR]),
    victim("full backup", NOTHING, &[&["backup", "data", "--full"]], NOTHING),
    repair_victim("repair of a bad pack", Play::spoil_a_pack, &[REPAIR]),
    victim("two datasets", NOTHING, &[BACKUP, &["backup", "other"]], NOTHING),
    victim("prune", Play::forget, &[PRUNE], pruned_again),
    victim("forget", grown, &[FORGET], Play::forget_again),
    victim("one dataset twice", NOTHING, &[BACKUP, BACKUP], NOTHING),
    repair_victim("repair beside a backup", Play::lose_an_index, &[REPAIR, BACKUP]),
    victim("prune beside a backup", Play::forget, &[BACKUP, PRUNE], pruned_again),
    victim(
        "forget with prune",
        grown,
        &[&["forget", "data", "--keep-last", "4", "--prune"]],
        Play::forget_again,
    ),
    repair_victim("two repairs", Play::spoil_a_pack, &[REPAIR, REPAIR]),
    victim("two prunes", Play::forget, &[PRUNE, PRUNE], pruned_again),
    victim("forget beside a backup", grown, &[FORGET, BACKUP], Play::forget_again),
    repair_victim("repair beside a prune", Play::forget, &[REPAIR, PRUNE]),
    victim("rename beside a prune", Play::forget, &[RENAME, PRUNE], pruned_again),
    victim("init", |play| play.clear("nest"), &[&["-r", "nest", "init"]], Play::made_again),
];

/// Those that read it, beside such as change it too.
pub(super) const READERS: &[Victim] = &[
    victim("restore", clear_half, &[RESTORE], restored_again),
    victim("restore over another", Play::fill_the_place, &[OVER], restored_over),
    victim("check", NOTHING, &[CHECK], NOTHING),
    victim("copy", backed_up, &[COPY], Play::copied_again),
    victim("restore of all over another", Play::fill_the_place, &[OVER_ALL], restored_over),
    victim(
        "restore beside a prune",
        |play| (clear_half(play), play.forget()).1,
        &[RESTORE, PRUNE],
        restored_again,
    ),
    victim("two copies", backed_up, &[COPY, COPY], Play::copied_again),
    victim("check beside a prune", Play::forget, &[CHECK, PRUNE], pruned_again),
    victim(
        "restore over another beside a backup",
        Play::fill_the_place,
        &[OVER, BACKUP],
        restored_over,
    ),
    victim("copy beside a backup", backed_up, &[COPY, BACKUP], Play::copied_again),
    victim(
        "copy beside a prune",
        |play| (backed_up(play), play.forget()).1,
        &[COPY, PRUNE],
        Play::copied_again,
    ),
];

impl Victim {
    /// Makes ready what it works on, after the sources have changed.
    pub(super) fn prepare(&self, play: &mut Play) {
        play.change();
        (self.before)(play);
    }

    pub(super) fn is_forgetting(&self) -> bool {
        self.commands.iter().any(|command| command[0] == "forget")
    }

    /// Whoever was renamed has its first name again: what was cut off is finished, and done the
    /// other way.
    pub(super) fn name_again(&self, play: &mut Play) {
        if self.commands.contains(&RENAME) {
            play.home.done(RENAME);
            play.home.done(&["rename", "moved", "data"]);
        }
    }

    /// Asks all that must hold now.
    pub(super) fn judge(&self, play: &mut Play) {
        self.name_again(play);
        play.compare_list(self.is_forgetting());
        (self.cure)(play);
        play.home.done(CHECK);
        (self.afterwards)(play);
        for dataset in DATASETS.into_iter().take(self.commands.len()) {
            play.restore(dataset, play.newest(dataset));
        }
        play.change();
        play.back_up("data");
    }
}

/// There are more backups than the rule keeps.
fn grown(play: &mut Play) {
    while play.kept["data"].len() < 5 {
        play.back_up("data");
        play.change();
    }
}

/// There is something to copy that a copy has not seen.
fn backed_up(play: &mut Play) {
    play.back_up("other");
    play.compare_list(false);
}

fn clear_half(play: &mut Play) {
    play.clear("half");
}

/// What a repair has left the next one ends: all that can be derived is there again.
fn repaired_again(play: &mut Play) {
    let document = play.home.json(0, REPAIR);
    for list in ["lost", "unrepaired"] {
        assert_eq!(document[list].as_array().unwrap().len(), 0, "{document}");
    }
}

/// What a prune has left the next one goes on with, and nothing is lost by either.
fn pruned_again(play: &mut Play) {
    play.prune("repository");
    for dataset in DATASETS {
        play.home.done(&["check", "--read-data", "--dataset", dataset]);
    }
}

/// A restore into nothing is done again over what it left, and there is nothing else then.
fn restored_again(play: &mut Play) {
    play.home.done(&["restore", "data", "half", "--overwrite", "if-changed"]);
    play.compare("data", play.newest("data"), "half");
}

fn restored_over(play: &mut Play) {
    play.home.done(OVER);
    play.compare("data", play.newest("data"), "place");
}
