//! Every command that opens a repository, as a row of a table: how it is typed, and by which rule
//! it is judged when it says that it is done.

use crate::damage::state::Label;

/// What must hold where a run ends with 0.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rule {
    /// It only looks: it says what it says of the sound repository.
    Same,
    /// The same, for these fields of its document; others count what is stored.
    Fields(&'static [&'static str]),
    /// It only looks, and a slot that cannot be read is listed as one.
    Slots,
    /// The backup lies in the target as it was.
    Restored(Label),
    /// The newest backup of the photos does.
    Newest,
    /// The file `text` of the photos' backup 3 is what was written.
    Content,
    /// The archive holds backup 3 of the photos, in a file or on standard output.
    Archive(bool),
    /// Each backup restores: it said that nothing is damaged, and whether it has read everything.
    Sound(bool),
    /// It plans something, or each backup restores; and whether it has read everything.
    Planned(bool),
    /// No object's bytes are other than they were.
    Checksums,
    /// The folder that was backed up restores to what it is.
    BackedUp(&'static str),
    /// Each backup is in the other repository, as it was.
    Copied,
    /// Only what was to be forgotten is.
    Wrote(fn(&Label) -> bool),
    /// The same, and each backup that should be there restores.
    Repaired,
    /// The password in use is another, and opens what the one before did.
    Rekeyed,
    /// It has to fail.
    Never,
}

/// One command.
pub(super) struct Row {
    pub(super) arguments: &'static str,
    pub(super) rule: Rule,
    /// Whether it is about passwords.
    pub(super) is_of_keys: bool,
    /// Whether it takes so long that an ordinary run has it beside few kinds of objects only.
    pub(super) is_long: bool,
}

const fn row(arguments: &'static str, rule: Rule) -> Row {
    Row { arguments, rule, is_of_keys: false, is_long: false }
}

const fn of_keys(arguments: &'static str, rule: Rule) -> Row {
    Row { arguments, rule, is_of_keys: true, is_long: false }
}

/// Argon2 as it is for everybody takes its time.
const fn long(row: Row) -> Row {
    Row { is_long: true, ..row }
}

fn nothing(_: &Label) -> bool {
    false
}

fn the_first(label: &Label) -> bool {
    *label == ("photos", 0)
}

/// Which of them depends on how many there seem to be.
fn most_photos(label: &Label) -> bool {
    label.0 == "photos"
}

/// A new command is a row here. `{slot}` is the other password, `{lease}` that of who reads.
pub(super) const ROWS: [Row; 56] = [
    row("list", Rule::Same),
    row("--json list", Rule::Same),
    row("list photos", Rule::Same),
    row("--json list photos", Rule::Same),
    row("show photos@3", Rule::Same),
    row("--json show photos@4", Rule::Same),
    row("show music@1 --changes", Rule::Same),
    row("ls -R photos@3", Rule::Same),
    row("--json ls -l music@0", Rule::Same),
    row("find *", Rule::Same),
    row("--json find t*", Rule::Same),
    row("diff photos@0 photos@3", Rule::Same),
    row("--json diff music@0 music@1", Rule::Same),
    row("diff photos@3 ./source --read-all", Rule::Same),
    row("cat photos@3:text", Rule::Content),
    row("--json restore photos@3 out", Rule::Restored(("photos", 3))),
    row("--json restore photos@0 out --verify", Rule::Restored(("photos", 0))),
    row("--json restore music@0 out --threads 1", Rule::Restored(("music", 0))),
    row("--json restore photos out", Rule::Newest),
    row("restore photos@4 out --dry-run -q", Rule::Same),
    row("--json export photos@3 -o out.tar", Rule::Archive(true)),
    row("export photos@3", Rule::Archive(false)),
    row("--json stats", Rule::Fields(&["datasets"])),
    row("check", Rule::Sound(false)),
    row("--json check --read-packs", Rule::Sound(true)),
    row("check --read-data", Rule::Sound(true)),
    row("--json check --read-data", Rule::Sound(true)),
    row("check --no-password", Rule::Checksums),
    row("--json repair --dry-run --read-data", Rule::Planned(true)),
    row("repair --dry-run", Rule::Planned(false)),
    row("--json repair --read-data", Rule::Repaired),
    row("repair --read-data --force", Rule::Repaired),
    row("--json backup source --dataset photos", Rule::BackedUp("photos")),
    row("backup source --dataset photos --full", Rule::BackedUp("photos")),
    row("backup source --dataset new", Rule::BackedUp("new")),
    row("--json backup source --dataset photos --dry-run", Rule::Wrote(nothing)),
    row("--json tag photos@3 --add another", Rule::Wrote(nothing)),
    row("rename music songs", Rule::Wrote(|label| label.0 == "music")),
    row("--json forget photos --backup 0", Rule::Wrote(the_first)),
    row("forget photos --keep-last 2 --prune", Rule::Wrote(most_photos)),
    row("forget photos --keep-last 2 --dry-run", Rule::Wrote(nothing)),
    row("--json prune", Rule::Wrote(nothing)),
    row("prune --max-unused 0 --end-lease {lease} --force", Rule::Wrote(nothing)),
    row("--json prune --force", Rule::Wrote(nothing)),
    row("prune --dry-run", Rule::Wrote(nothing)),
    row("--json copy --to there", Rule::Copied),
    row("copy --to there photos@3 --dry-run", Rule::Wrote(nothing)),
    row("--json parity status", Rule::Fields(&[])),
    row("--json parity add", Rule::Wrote(nothing)),
    row("parity remove", Rule::Wrote(nothing)),
    row("init", Rule::Never),
    row("cache clear", Rule::Wrote(nothing)),
    of_keys("--json key list", Rule::Slots),
    of_keys("key remove {slot}", Rule::Wrote(nothing)),
    long(of_keys("--json key add --label third", Rule::Wrote(nothing))),
    long(of_keys("key passwd", Rule::Rekeyed)),
];
