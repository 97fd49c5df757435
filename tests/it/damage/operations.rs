//! Every operation, as a row of a table: it fails, or what it says is held against the truth.

use crate::damage::further;
use crate::damage::state::Label;
use crate::damage::state::State;
use crate::damage::state::Tree;
use crate::damage::state::name;
use crate::damage::state::restore_backup;
use crate::damage::state::restore_number;
use crate::damage::state::tree_of;
use crate::damage::state::with_context;
use icecore::backend::memory::MemoryBackend;
use icecore::base::cancel::Cancel;
use icecore::base::error::Result;
use icecore::base::id::BackupId;
use icecore::base::metadata::Kind;
use icecore::base::path::EntryPath;
use icecore::engine::Failure;
use icecore::engine::address;
use icecore::engine::address::Version;
use icecore::engine::backup;
use icecore::engine::backup::BackupOptions;
use icecore::engine::check;
use icecore::engine::check::CheckOptions;
use icecore::engine::check::Severity;
use icecore::engine::forget;
use icecore::engine::forget::Selection;
use icecore::engine::list;
use icecore::engine::list::Depth;
use icecore::engine::prune;
use icecore::engine::prune::PruneOptions;
use icecore::engine::repair;
use icecore::engine::repair::RepairOptions;
use icecore::engine::repair::RepairReport;
use icecore::engine::restore;
use icecore::engine::restore::RestoreOptions;
use icecore::engine::stats;
use icecore::engine::stats::DatasetStats;
use icecore::engine::tag;
use icecore::engine::tag::TagChange;
use icecore::format::dataset::DatasetName;
use icecore::repository::Repository;
use icecore::repository::history::Snapshot;
use icecore::target::memory::MemoryEntry;
use icecore::target::memory::MemoryTarget;
use std::cell::Cell;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A damaged repository, opened anew, and what is found out about it.
pub(crate) struct Scene<'a> {
    pub(crate) state: &'a State,
    pub(crate) repository: Repository,
    pub(crate) backend: Arc<MemoryBackend>,
    pub(crate) complaints: RefCell<Vec<String>>,
    /// Errors met inside of an operation that goes on to the next backup.
    pub(crate) errors: RefCell<Vec<icecore::base::error::Error>>,
    pub(crate) restored: RefCell<BTreeSet<Label>>,
    /// Whether a check has seen damage.
    pub(crate) is_found: Cell<bool>,
}

/// One row of the table.
pub(crate) struct Operation {
    pub(crate) name: &'static str,
    /// Whether it writes: then all that could be restored before must be so afterwards.
    pub(crate) writes: bool,
    /// Whether it takes so long that an ordinary run does it in few cases only.
    pub(crate) is_long: bool,
    pub(crate) run: fn(&Scene<'_>) -> Result<()>,
}

const fn reads(name: &'static str, run: fn(&Scene<'_>) -> Result<()>) -> Operation {
    Operation { name, writes: false, is_long: false, run }
}

const fn writes(name: &'static str, run: fn(&Scene<'_>) -> Result<()>) -> Operation {
    Operation { name, writes: true, is_long: false, run }
}

const fn long(mut operation: Operation) -> Operation {
    operation.is_long = true;
    operation
}

/// `restore each` comes first: what it restores is what others must not spoil. A new operation
/// is a row here and a function below.
pub(crate) const OPERATIONS: [Operation; 24] = [
    reads("restore each", restore_each),
    reads("restore latest", restore_latest),
    reads("list", list_all),
    reads("show", show),
    reads("cat", cat),
    reads("stats", stats),
    reads("check", check_structure),
    reads("check data", check_data),
    writes("backup", back_up),
    writes("tag", tag),
    writes("forget", forget),
    writes("prune", prune),
    writes("prune by force", prune_by_force),
    writes("forget and prune", forget_and_prune),
    long(reads("repair --dry-run", plan_repair)),
    long(writes("repair", repair)),
    long(writes("repair by force", repair_by_force)),
    long(reads("find", further::find)),
    long(reads("diff", further::diff)),
    long(reads("export", further::export)),
    long(reads("copy", further::copy)),
    reads("parity status", further::parity_status),
    long(writes("parity add", further::add_parity)),
    long(writes("parity remove", further::remove_parity)),
];

/// What `forget` forgets.
pub(crate) const FORGOTTEN: Label = ("photos", 0);

impl Scene<'_> {
    /// Returns the label of a backup that once was.
    pub(crate) fn label(&self, dataset: &DatasetName, number: u64) -> Option<&Label> {
        let mut labels = self.state.trees.keys();
        labels.find(|label| label.0 == dataset.as_str() && label.1 == number)
    }

    /// Opens each backup that is shown and has a plain copy, with that copy.
    pub(crate) fn each_backup(
        &self,
        mut visit: impl FnMut(&Snapshot, &Tree) -> Result<()>,
    ) -> Result<()> {
        for dataset in ["photos", "music"] {
            let set = self.repository.dataset(&name(dataset))?;
            for backup in set.backups()? {
                let label = (dataset, backup.header.number.0);
                let Some(tree) = self.state.trees.get(&label) else { continue };
                visit(&list::snapshot(&set, backup)?, tree)?;
            }
        }
        Ok(())
    }

    pub(crate) fn complain(&self, text: impl Into<String>) {
        self.complaints.borrow_mut().push(text.into());
    }

    /// Compares a restore with the plain copy; true when it is all there.
    pub(crate) fn compare(&self, target: &MemoryTarget, wanted: &Tree, errors: &[Failure]) -> bool {
        let found = tree_of(target);
        if errors.is_empty() {
            let is_equal = found == *wanted;
            if !is_equal {
                self.complain("a restore without errors is not what was backed up");
            }
            return is_equal;
        }
        let names = |at: &EntryPath| {
            errors.iter().any(|error| match &error.path {
                Some(path) => at == path || path.is_root() || below(at, path),
                None => true,
            })
        };
        for (at, (entry, bytes)) in wanted {
            // Which of its names come first says nothing.
            let is_same = |(there, _): &(MemoryEntry, _)| {
                MemoryEntry { inode: entry.inode, ..there.clone() } == *entry
            };
            match found.get(at) {
                // What is named is left out, never put in place in part.
                Some((_, there)) if there != bytes => self.complain("wrong bytes are left"),
                there if !there.is_some_and(is_same) && !names(at) => {
                    self.complain("an entry is not as it was, and no error names it");
                }
                _ => {}
            }
        }
        if found.keys().any(|at| !wanted.contains_key(at)) {
            self.complain("a restore makes entries up");
        }
        false
    }

    pub(crate) fn restore(&self, label: Label) -> Result<bool> {
        let (target, report) = restore_number(&self.repository, label);
        let errors = report?;
        Ok(self.compare(&target, &self.state.trees[&label], &errors))
    }
}

fn below(at: &EntryPath, folder: &EntryPath) -> bool {
    at.as_bytes().strip_prefix(folder.as_bytes()).is_some_and(|rest| rest.first() == Some(&b'/'))
}

fn restore_each(scene: &Scene<'_>) -> Result<()> {
    for &label in scene.state.trees.keys() {
        match scene.restore(label) {
            Ok(true) => _ = scene.restored.borrow_mut().insert(label),
            Ok(false) => {}
            // That a forgotten backup is not found is no news.
            Err(_) if !scene.state.visible.contains(&label) => {}
            Err(error) => scene.errors.borrow_mut().push(error),
        }
    }
    Ok(())
}

fn newest(state: &State) -> Label {
    *state.visible.iter().rfind(|label| label.0 == "photos").unwrap()
}

fn restore_latest(scene: &Scene<'_>) -> Result<()> {
    let set = scene.repository.dataset(&name("photos"))?;
    let backup = address::resolve(&set, &Version::Latest(0))?.backup;
    let number = backup.header.number.0;
    if number != newest(scene.state).1 {
        scene.complain("another backup is taken for the latest");
    }
    let target = MemoryTarget::new();
    let snapshot = list::snapshot(&set, backup)?;
    let options = RestoreOptions::default();
    let report = with_context(|context| restore::run(&snapshot, &target, &options, context))?;
    scene.compare(&target, &scene.state.trees[&("photos", number)], &report.errors);
    Ok(())
}

fn list_all(scene: &Scene<'_>) -> Result<()> {
    let mut count = 0;
    for dataset in list::datasets(&scene.repository)? {
        count += dataset.backups;
    }
    if count != scene.state.visible.len() as u64 {
        scene.complain("a list tells another number of backups");
    }
    Ok(())
}

fn show(scene: &Scene<'_>) -> Result<()> {
    for set in scene.repository.datasets()? {
        for backup in set.backups()? {
            let Some(label) = scene.label(set.name(), backup.header.number.0) else {
                scene.complain("a backup is shown that never was");
                continue;
            };
            let snapshot = list::snapshot(&set, backup)?;
            let mut paths = Vec::new();
            for entry in list::entries(&snapshot, &EntryPath::root(), Depth::Tree)? {
                paths.push(entry?.path);
            }
            let wanted = scene.state.trees[label].keys();
            if !paths.iter().eq(wanted.clone().filter(|path| !path.is_root())) {
                scene.complain("a backup is shown with other entries");
            }
        }
    }
    Ok(())
}

fn cat(scene: &Scene<'_>) -> Result<()> {
    scene.each_backup(|snapshot, tree| {
        for (at, (entry, bytes)) in tree {
            if entry.kind != Kind::File {
                continue;
            }
            let mut out = Vec::new();
            match list::cat(snapshot, at, &mut out, &Cancel::new()) {
                Ok(_) if out != *bytes => scene.complain("cat gives other bytes"),
                Ok(_) => {}
                Err(error) => {
                    if !bytes.starts_with(&out) {
                        scene.complain("cat gives wrong bytes before it fails");
                    }
                    scene.errors.borrow_mut().push(error);
                }
            }
        }
        Ok(())
    })
}

/// What is told of the datasets is what headers tell; of packs there may be fewer or more.
fn stats(scene: &Scene<'_>) -> Result<()> {
    let told = stats::run(&scene.repository)?.datasets;
    let sound = scene.state.open(&Arc::new(scene.state.backend.clone_state()))?;
    let wanted = stats::run(&sound)?.datasets;
    let count = |all: &[DatasetStats]| all.iter().map(|it| it.backups).sum::<u64>();
    if count(&told) != count(&wanted) {
        scene.complain("stats tell another number of backups");
    } else if told != wanted {
        scene.complain("stats tell other sizes");
    }
    Ok(())
}

fn check_structure(scene: &Scene<'_>) -> Result<()> {
    check_with(scene, &CheckOptions::default())
}

fn check_data(scene: &Scene<'_>) -> Result<()> {
    check_with(scene, &CheckOptions { read_data: Some(100.0), ..CheckOptions::default() })
}

fn check_with(scene: &Scene<'_>, options: &CheckOptions) -> Result<()> {
    let report = with_context(|context| check::run(&scene.repository, options, context));
    scene.is_found.set(report.as_ref().map_or(true, |report| !report.is_ok()));
    report.map(|_| ())
}

fn back_up(scene: &Scene<'_>) -> Result<()> {
    let options = BackupOptions::default();
    let (set, source) = (name("photos"), &scene.state.source);
    let report =
        with_context(|context| backup::run(&scene.repository, &set, source, &options, context))?;
    if !report.errors.is_empty() {
        scene.complain("a backup counts damage as errors of the source");
    }
    let (target, errors) = restore_number(&scene.repository, ("photos", report.backup.0));
    match errors {
        Err(error) => {
            scene.complain(format!("a backup was made and does not restore: {error}"));
        }
        Ok(errors) if !errors.is_empty() => {
            scene.compare(&target, &scene.state.next, &errors);
            for error in errors {
                let path = error.path.unwrap_or_else(EntryPath::root);
                let path = path.to_string();
                let is_new = matches!(path.as_str(), "" | "text" | "d/new");
                let what = if is_new { "what it has stored" } else { "what it took over" };
                scene.complain(format!("a backup was made and {what} does not restore: {path}"));
            }
        }
        Ok(errors) => _ = scene.compare(&target, &scene.state.next, &errors),
    }
    Ok(())
}

fn tag(scene: &Scene<'_>) -> Result<()> {
    let set = scene.repository.dataset(&name("photos"))?;
    let change = TagChange { add: vec!["third".to_owned()], ..TagChange::default() };
    with_context(|context| tag::run(&set, BackupId(3), &change, context)).map(|_| ())
}

fn forget(scene: &Scene<'_>) -> Result<()> {
    let set = scene.repository.dataset(&name(FORGOTTEN.0))?;
    let selection = Selection::Numbers([BackupId(FORGOTTEN.1)].into());
    with_context(|context| {
        let plan = forget::plan(&set, &selection, &|_| 0, context)?;
        forget::execute(&plan, context)
    })
}

fn prune_with(scene: &Scene<'_>, force: bool) -> Result<()> {
    let options = PruneOptions { max_unused: 0.0, force, ..PruneOptions::default() };
    with_context(|context| prune::run(&scene.repository, &options, context)).map(|_| ())
}

fn prune(scene: &Scene<'_>) -> Result<()> {
    prune_with(scene, false)
}

fn prune_by_force(scene: &Scene<'_>) -> Result<()> {
    prune_with(scene, true)
}

fn forget_and_prune(scene: &Scene<'_>) -> Result<()> {
    forget(scene)?;
    prune_with(scene, false)
}

const REPAIR: RepairOptions = RepairOptions { read_packs: false, read_data: true, force: false };

fn plan_repair(scene: &Scene<'_>) -> Result<()> {
    let before = scene.backend.objects();
    let planned = with_context(|context| repair::plan(&scene.repository, &REPAIR, context));
    if scene.backend.objects() != before {
        scene.complain("a plan changes the repository");
    }
    planned.map(|_| ())
}

fn repair(scene: &Scene<'_>) -> Result<()> {
    repair_with(scene, &REPAIR)
}

fn repair_by_force(scene: &Scene<'_>) -> Result<()> {
    repair_with(scene, &RepairOptions { force: true, ..REPAIR })
}

fn repair_with(scene: &Scene<'_>, options: &RepairOptions) -> Result<()> {
    let repaired = with_context(|context| {
        let plan = repair::plan(&scene.repository, options, context)?;
        repair::execute(&scene.repository, plan, context)
    });
    let report = repaired?;
    judge_losses(scene, &report)?;
    judge_rest(scene, &report)?;
    if report.unrepaired.is_empty() {
        go_on(scene)?;
    }
    Ok(())
}

/// Each backup that does not restore after a repair is one that the repair has named.
fn judge_losses(scene: &Scene<'_>, report: &RepairReport) -> Result<()> {
    let lost = report.lost.iter().map(|loss| &loss.backup);
    let named: BTreeSet<&String> =
        lost.chain(report.unrepaired.iter().flat_map(|finding| &finding.backups)).collect();
    let readable = scene.repository.shown_datasets()?.readable;
    for label in &scene.state.visible {
        // A dataset may have got another name.
        let id = scene.state.ids[label.0];
        let set = readable.iter().find(|set| set.id() == id);
        let is_whole = set.is_some_and(|set| {
            let (target, errors) = restore_backup(set, label.1);
            errors.is_ok_and(|errors| scene.compare(&target, &scene.state.trees[label], &errors))
        });
        // One whose name cannot be read is called by its id.
        let names = [label.0.to_owned(), id.to_string()];
        let is_named = names.iter().any(|name| named.contains(&format!("{name}@{}", label.1)));
        if !is_whole && report.is_whole() {
            scene.complain("a repair says that all is whole, and a backup does not restore");
        } else if !is_whole && !is_named {
            let what = "a repair does not name a backup that does not restore";
            scene.complain(format!("{what}: {names:?} {} is not of {named:?}", label.1));
        }
    }
    Ok(())
}

/// What a check of everything still finds damaged is what the repair has said to stay so.
fn judge_rest(scene: &Scene<'_>, report: &RepairReport) -> Result<()> {
    let options = CheckOptions { read_data: Some(100.0), ..CheckOptions::default() };
    let checked = with_context(|context| check::run(&scene.repository, &options, context))?;
    let told: BTreeSet<&String> = report.unrepaired.iter().map(|it| &it.object).collect();
    for finding in checked.findings.iter().filter(|it| it.severity == Severity::Damage) {
        if !told.contains(&finding.object) {
            let (object, message) = (&finding.object, &finding.message);
            scene.complain(format!("a check finds what a repair has left: {object} {message}"));
        }
    }
    Ok(())
}

/// Where nothing stays damaged the next backup is whole, whatever was lost, and a prune goes.
fn go_on(scene: &Scene<'_>) -> Result<()> {
    let options = BackupOptions::default();
    let (set, source) = (name("photos"), &scene.state.source);
    let report =
        with_context(|context| backup::run(&scene.repository, &set, source, &options, context))?;
    let (target, errors) = restore_number(&scene.repository, ("photos", report.backup.0));
    let errors = errors?;
    if !errors.is_empty() || !scene.compare(&target, &scene.state.next, &errors) {
        scene.complain(format!("the backup after a repair is not whole: {errors:?}"));
    }
    prune_with(scene, true)
}
