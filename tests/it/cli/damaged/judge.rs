//! What a run on a damaged repository may say and leave.

use crate::cli::Ran;
use crate::cli::damaged::commands::Row;
use crate::cli::damaged::commands::Rule;
use crate::cli::damaged::ground::ARCHIVE;
use crate::cli::damaged::ground::Damage;
use crate::cli::damaged::ground::Ground;
use crate::cli::damaged::ground::NEWER;
use crate::cli::damaged::ground::OLDER;
use crate::cli::damaged::ground::OUT;
use crate::cli::damaged::ground::SAME_SIZE;
use crate::damage::further::untar;
use crate::damage::state;
use crate::damage::state::Label;
use crate::damage::state::Tree;
use crate::damage::ways::Case;
use crate::damage::ways::NEWEST;
use crate::support::folder::files_below;
use icecore::base::metadata::Kind;
use icecore::repository::cache::CachePlace;
use icecore::repository::open;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

/// One run: what was typed on which damage, and what was there before.
pub(super) struct Trial<'a> {
    pub(super) ground: &'a Ground,
    pub(super) row: &'a Row,
    pub(super) case: &'a Case,
    pub(super) damage: Damage,
    pub(super) ran: &'a Ran,
    /// Its standard output as it is.
    pub(super) bytes: &'a [u8],
    /// What it says of the sound repository.
    pub(super) sound: &'a Ran,
    /// What restored before, where the rule asks for it.
    pub(super) before: &'a BTreeSet<Label>,
}

/// Says whether a rule asks what restored before.
pub(super) fn asks_before(rule: Rule) -> bool {
    match rule {
        Rule::Sound(_) | Rule::Planned(_) | Rule::BackedUp(_) => true,
        Rule::Wrote(_) | Rule::Repaired | Rule::Rekeyed => true,
        Rule::Same | Rule::Slots | Rule::Fields(_) | Rule::Restored(_) | Rule::Newest => false,
        Rule::Content | Rule::Archive(_) | Rule::Checksums | Rule::Copied | Rule::Never => false,
    }
}

/// Objects whose loss leaves what was there some time ago, or what nobody misses: a store that
/// takes one away is not seen by a machine that has not seen it ("Who can do what" of
/// guarantees.md), and without encryption nor is an older revision of tags in the place of a newer
/// one. Beside this a look may tell of what was then; all else is held to what is.
fn leaves_the_past(case: &Case, damage: Damage) -> bool {
    let past =
        [NEWEST, "hidden", "tags", "name", "lease", "beat", "tombstone", "lost", "parity", "key"];
    (damage == Damage::Lost && past.contains(&case.kind)) || case.way == OLDER
}

/// The fields of a document that are not the same twice.
fn without_times(text: &str) -> Vec<Value> {
    let rows = text.lines().map(|line| match serde_json::from_str(line) {
        Ok(Value::Object(mut fields)) => {
            fields.remove("seconds");
            Value::Object(fields)
        }
        Ok(other) => other,
        Err(_) => Value::String(line.to_owned()),
    });
    rows.collect()
}

/// All words that a run has for what went wrong.
fn words(ran: &Ran) -> String {
    let error = serde_json::from_str::<Value>(&ran.stdout).ok();
    let told = error.as_ref().and_then(|it| it["error"]["message"].as_str()).unwrap_or_default();
    format!("{}{told}", ran.stderr)
}

/// Judges how a run ended and what it said, whatever it is about.
fn judge_manners(trial: &Trial<'_>, wrong: &mut Vec<String>) {
    let ran = trial.ran;
    let is_of_opening = ["config", "key"].contains(&trial.case.kind);
    match ran.code {
        0 | 1 | 3 => {}
        10 | 12 if is_of_opening => {}
        // What is there is no place for a repository.
        2 if matches!(trial.row.rule, Rule::Never) => {}
        code => wrong.push(format!("ends with {code}")),
    }
    let all = format!("{}{}", ran.stdout, ran.stderr);
    for word in ["panicked", "RUST_BACKTRACE", "stack overflow", "\"kind\":\"bug\"", "ErrorKind"] {
        if all.contains(word) {
            wrong.push(format!("says {word}"));
        }
    }
    // Findings and errors of entries are rows of the document.
    let has_rows =
        ran.stdout.contains("\"message\":\"") || (ran.code == 3 && !ran.stdout.is_empty());
    if ran.code != 0 && words(ran).split_whitespace().count() < 4 && !has_rows {
        wrong.push(format!("ends with {} and says nothing", ran.code));
    }
}

pub(super) fn judge(trial: &Trial<'_>) -> Vec<String> {
    let mut wrong = Vec::new();
    judge_manners(trial, &mut wrong);
    let is_done = trial.ran.code == 0;
    match trial.row.rule {
        Rule::Same if is_done => judge_same(trial, &mut wrong),
        Rule::Slots if is_done && trial.ran.stdout.contains("\"problem\":\"unreadable\"") => {}
        Rule::Slots if is_done => judge_same(trial, &mut wrong),
        Rule::Fields(names) if is_done => judge_fields(trial, names, &mut wrong),
        Rule::Restored(label) => judge_restored(trial, label, &mut wrong),
        Rule::Newest => judge_newest(trial, &mut wrong),
        Rule::Content => judge_content(trial, &mut wrong),
        Rule::Archive(is_file) => judge_archive(trial, is_file, &mut wrong),
        Rule::Sound(reads) if is_done => judge_sound(trial, reads, &mut wrong),
        Rule::Planned(reads) if is_done => {
            let is_idle = ["nothing to repair", "\"actions\":[]"];
            if is_idle.iter().any(|words| trial.ran.stdout.contains(words)) {
                judge_sound(trial, reads, &mut wrong);
            }
        }
        Rule::Checksums if is_done => {
            let has_own_checksum = matches!(trial.damage, Damage::Lost | Damage::Anothers);
            wrong.extend((!has_own_checksum).then(|| "finds nothing wrong".to_owned()));
        }
        Rule::BackedUp(dataset) => judge_backup(trial, dataset, &mut wrong),
        Rule::Copied => judge_copied(trial, &mut wrong),
        Rule::Wrote(goes) => _ = judge_store(trial, goes, &mut wrong),
        Rule::Repaired => {
            let after = judge_store(trial, |_| false, &mut wrong);
            if is_done {
                judge_whole(trial, &after, "calls that repaired", &mut wrong);
            }
        }
        Rule::Rekeyed if is_done => judge_password(trial, &mut wrong),
        Rule::Never if is_done => wrong.push("is done".to_owned()),
        _ => {}
    }
    wrong
}

fn judge_same(trial: &Trial<'_>, wrong: &mut Vec<String>) {
    let is_same = without_times(&trial.ran.stdout) == without_times(&trial.sound.stdout);
    if !is_same && !leaves_the_past(trial.case, trial.damage) {
        wrong.push("ends with 0 and tells something else".to_owned());
    }
}

fn judge_fields(trial: &Trial<'_>, names: &[&str], wrong: &mut Vec<String>) {
    let parse = |ran: &Ran| serde_json::from_str::<Value>(&ran.stdout).unwrap_or_default();
    let (told, wanted) = (parse(trial.ran), parse(trial.sound));
    let is_same = told.is_object() && names.iter().all(|name| told[name] == wanted[name]);
    if !is_same && !leaves_the_past(trial.case, trial.damage) {
        wrong.push("ends with 0 and counts something else".to_owned());
    }
}

/// The paths that a report names as not restored, and those below.
fn is_named(ran: &Ran, path: &str) -> bool {
    let report: Value = serde_json::from_str(&ran.stdout).unwrap_or_default();
    let errors = report["errors"].as_array().cloned().unwrap_or_default();
    errors.iter().any(|error| match error["path"].as_str() {
        None | Some("") => true,
        Some(named) => {
            path == named || path.strip_prefix(named).is_some_and(|it| it.starts_with('/'))
        }
    })
}

/// Compares a folder with what a backup holds; an error for the first entry that is another.
fn compare(folder: &Path, tree: &Tree, is_named: impl Fn(&str) -> bool) -> Result<(), String> {
    let mut known = BTreeSet::new();
    for (path, (entry, bytes)) in tree {
        let name = path.to_string();
        let at = if path.is_root() { folder.to_owned() } else { folder.join(&name) };
        known.insert(at.clone());
        let there = at.symlink_metadata().ok();
        let Some(seen) = there else {
            if is_named(&name) {
                continue;
            }
            return Err(format!("{name} is not there"));
        };
        let is_right = match entry.kind {
            Kind::File => seen.is_file() && fs::read(&at).unwrap() == *bytes,
            Kind::Symlink => fs::read_link(&at)
                .is_ok_and(|target| target.as_os_str().as_bytes() == entry.link_target),
            _ => seen.is_dir() == (entry.kind == Kind::Directory),
        };
        // What is named may lack its time or its mode, never have other bytes.
        if !is_right {
            return Err(format!("{name} is another"));
        }
        let metadata = &entry.metadata;
        let has_mode = entry.kind == Kind::Symlink || seen.mode() & 0o7777 == metadata.mode;
        let has_time = seen.mtime() == metadata.mtime.seconds();
        let is_as_it_was = has_mode && has_time;
        if !is_as_it_was && !is_named(&name) {
            return Err(format!("{name} has another mode or time"));
        }
    }
    match files_below(folder).into_iter().find(|path| !known.contains(path)) {
        Some(path) => Err(format!("{path:?} never was")),
        None => Ok(()),
    }
}

fn judge_restored(trial: &Trial<'_>, label: Label, wrong: &mut Vec<String>) {
    let (out, ran) = (trial.ground.home.path(OUT), trial.ran);
    if ran.code != 0 && !out.exists() {
        return;
    }
    let is_done = ran.code == 0;
    // What ends by an error names one thing, and what is there is right as far as it goes.
    let excuses = |path: &str| !is_done && (ran.code == 1 || is_named(ran, path));
    if let Err(what) = compare(&out, &trial.ground.state.trees[&label], excuses) {
        wrong.push(format!("ends with {} and {what}", ran.code));
    }
}

fn judge_newest(trial: &Trial<'_>, wrong: &mut Vec<String>) {
    let report: Value = serde_json::from_str(&trial.ran.stdout).unwrap_or_default();
    let Some(number) = report["backup"].as_u64() else {
        if trial.ran.code == 0 {
            wrong.push("ends with 0 and no document".to_owned());
        }
        return;
    };
    let newest = newest(trial.ground);
    if number != newest.1 && !leaves_the_past(trial.case, trial.damage) {
        wrong.push("restores another backup".to_owned());
    }
    judge_restored(trial, ("photos", number), wrong);
}

fn newest(ground: &Ground) -> Label {
    *ground.state.visible.iter().rfind(|label| label.0 == "photos").unwrap()
}

fn judge_content(trial: &Trial<'_>, wrong: &mut Vec<String>) {
    let tree = &trial.ground.state.trees[&("photos", 3)];
    let whole = tree.iter().find(|(path, _)| path.to_string() == "text");
    let whole = String::from_utf8(whole.unwrap().1.1.clone()).unwrap();
    let told = &trial.ran.stdout;
    if trial.ran.code == 0 && *told != whole {
        wrong.push("ends with 0 and other content".to_owned());
    }
    if !whole.starts_with(told.as_str()) {
        wrong.push("gives wrong bytes before it fails".to_owned());
    }
}

fn judge_archive(trial: &Trial<'_>, is_file: bool, wrong: &mut Vec<String>) {
    let place = trial.ground.home.path(ARCHIVE);
    let archive = if is_file { fs::read(&place).ok() } else { Some(trial.bytes.to_vec()) };
    let Some(archive) = archive else {
        if trial.ran.code == 0 {
            wrong.push("ends with 0 and no archive".to_owned());
        }
        return;
    };
    let files = untar(&archive);
    let tree = &trial.ground.state.trees[&("photos", 3)];
    for (path, (entry, bytes)) in tree {
        let found = files.get(&path.to_string());
        // Further names of a file are links, and have no content there.
        let is_alone = tree.values().filter(|it| it.0.inode == entry.inode).count() == 1;
        if found.is_some_and(|found| found != bytes && (is_alone || !found.is_empty())) {
            wrong.push(format!("an archive with other bytes in {path}"));
        }
        if trial.ran.code == 0 && found.is_none() && entry.kind == Kind::File && is_alone {
            wrong.push(format!("ends with 0 and an archive without {path}"));
        }
    }
    // A reader takes for whole what has an end.
    if trial.ran.code == 1 && is_file {
        wrong.push("fails and leaves an archive".to_owned());
    }
}

fn judge_sound(trial: &Trial<'_>, reads: bool, wrong: &mut Vec<String>) {
    let is_past = leaves_the_past(trial.case, trial.damage);
    // What is within packs nobody has looked at.
    let is_of_pack = ["pack", "doomed pack"].contains(&trial.case.kind);
    let is_inside = trial.damage == Damage::Flipped || trial.case.way == SAME_SIZE;
    let is_inside = is_of_pack && is_inside;
    if is_past || (is_inside && !reads) {
        return;
    }
    judge_whole(trial, trial.before, "calls that sound", wrong);
}

/// Each backup that should be there restores.
fn judge_whole(trial: &Trial<'_>, there: &BTreeSet<Label>, what: &str, wrong: &mut Vec<String>) {
    let is_past = leaves_the_past(trial.case, trial.damage);
    let missing: Vec<_> =
        trial.ground.state.visible.iter().filter(|label| !there.contains(label)).collect();
    if !missing.is_empty() && !is_past {
        wrong.push(format!("{what}, and backups do not restore: {missing:?}"));
    }
}

fn judge_backup(trial: &Trial<'_>, dataset: &str, wrong: &mut Vec<String>) {
    judge_store(trial, |_| false, wrong);
    if trial.ran.code != 0 {
        return;
    }
    let ground = trial.ground;
    let _ = fs::remove_dir_all(ground.home.path(OUT));
    let (back, _) = ground.run(&["restore", dataset, OUT]);
    let (out, source) = (ground.home.path(OUT), ground.home.path("source"));
    let content = |folder: &Path| {
        let files = files_below(folder).into_iter();
        let named = |file: std::path::PathBuf| {
            (file.strip_prefix(folder).unwrap().to_owned(), fs::read(&file).unwrap())
        };
        files.map(named).collect::<Vec<_>>()
    };
    if back.code != 0 || content(&out) != content(&source) {
        wrong.push(format!("was made and does not restore: {} {}", back.code, back.stderr));
    }
}

/// The new password opens what the other one did.
fn judge_password(trial: &Trial<'_>, wrong: &mut Vec<String>) {
    let ground = trial.ground;
    let (back, _) = ground.run(&["--password-file", NEWER, "restore", "photos@3", OUT]);
    if (back.code == 0) != trial.before.contains(&("photos", 3)) {
        wrong
            .push(format!("ends with 0, and with the new password: {} {}", back.code, back.stderr));
    }
}

/// What restored before does so after, but for what was to go.
fn judge_store(
    trial: &Trial<'_>,
    goes: fn(&Label) -> bool,
    wrong: &mut Vec<String>,
) -> BTreeSet<Label> {
    let (after, complaints) = trial.ground.restored(trial.case);
    // Where the newest is gone, the next backup gets its number.
    if !leaves_the_past(trial.case, trial.damage) {
        wrong.extend(complaints);
    }
    let visible = &trial.ground.state.visible;
    let stays = |label: &&Label| visible.contains(label) && !goes(label);
    let lost: Vec<_> =
        trial.before.iter().filter(stays).filter(|label| !after.contains(label)).collect();
    if !lost.is_empty() {
        wrong.push(format!("ends with {} and loses {lost:?}", trial.ran.code));
    }
    after
}

/// What is in the other repository is as it was, and where all is done all of it is.
fn judge_copied(trial: &Trial<'_>, wrong: &mut Vec<String>) {
    let scratch = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let place = CachePlace::Scratch(scratch.path().into());
    let there = open::open(Arc::new(trial.ground.copied()), None, &place).unwrap();
    let state = &trial.ground.state;
    let mut count = 0;
    for set in there.datasets().unwrap() {
        for backup in set.backups().unwrap() {
            let (target, errors) = state::restore_backup(&set, backup.header.number.0);
            let tree = state::tree_of(&target);
            let mut known = state.trees.iter().filter(|(label, _)| label.0 == set.name().as_str());
            if errors.is_ok_and(|errors| errors.is_empty()) && known.any(|(_, it)| *it == tree) {
                count += 1;
            } else {
                wrong.push(format!("{} was copied and is no backup", backup.header.number.0));
            }
        }
    }
    let is_past = leaves_the_past(trial.case, trial.damage);
    if trial.ran.code == 0 && count != state.visible.len() && !is_past {
        wrong.push(format!("ends with 0 and {count} backups"));
    }
}
