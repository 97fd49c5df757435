//! All that looks at a repository and changes nothing in it, and all that acts on it, each as a
//! function that says what it has seen and whether it has said that something is wrong.

use crate::engine_check::world::NOW;
use icecore::backend::memory::MemoryBackend;
use icecore::base::cancel::Cancel;
use icecore::base::error::Error;
use icecore::base::error::Result;
use icecore::base::id::BackupId;
use icecore::base::path::EntryPath;
use icecore::engine::Context;
use icecore::engine::address;
use icecore::engine::address::Version;
use icecore::engine::backup;
use icecore::engine::backup::BackupOptions;
use icecore::engine::check;
use icecore::engine::check::CheckOptions;
use icecore::engine::copy;
use icecore::engine::copy::CopyOptions;
use icecore::engine::copy::Wanted;
use icecore::engine::diff;
use icecore::engine::diff::Side;
use icecore::engine::export;
use icecore::engine::export::Format;
use icecore::engine::find;
use icecore::engine::find::Among;
use icecore::engine::find::FindOptions;
use icecore::engine::forget;
use icecore::engine::forget::Selection;
use icecore::engine::list;
use icecore::engine::list::Depth;
use icecore::engine::parity;
use icecore::engine::prune;
use icecore::engine::prune::PruneOptions;
use icecore::engine::repair;
use icecore::engine::repair::RepairOptions;
use icecore::engine::restore;
use icecore::engine::restore::RestoreOptions;
use icecore::engine::retention::Rules;
use icecore::engine::stats;
use icecore::repository::Repository;
use icecore::repository::cache::CachePlace;
use icecore::repository::datasets::Dataset;
use icecore::repository::history::Snapshot;
use icecore::repository::open;
use icecore::repository::open::CreateOptions;
use icecore::source::filter::Pattern;
use icecore::source::memory::MemorySource;
use icecore::target::memory::MemoryEntry;
use icecore::target::memory::MemoryTarget;
use std::fmt::Debug;
use std::sync::Arc;

/// What came of it.
pub(super) struct Seen {
    /// What was seen, to be compared.
    pub(super) text: String,
    /// Whether nothing was said to be wrong: exit code 0.
    pub(super) is_whole: bool,
}

impl Seen {
    fn whole(seen: &dyn Debug) -> Result<Self> {
        Seen::of(true, seen)
    }

    fn of(is_whole: bool, seen: &dyn Debug) -> Result<Self> {
        Ok(Seen { text: format!("{seen:?}"), is_whole })
    }
}

/// A repository that was opened, and what of the world is not in it.
pub(super) struct Scene<'a> {
    pub(super) repository: Repository,
    pub(super) source: &'a MemorySource,
    pub(super) context: Context<'a>,
}

type Look = fn(&Scene<'_>) -> Result<Seen>;

/// A command.
pub(super) struct Deed {
    pub(super) name: &'static str,
    pub(super) run: Look,
}

pub(super) const LOOKS: &[Deed] = &[
    Deed { name: "list", run: list_all },
    Deed { name: "list of a dataset", run: list_one },
    Deed { name: "show", run: show },
    Deed { name: "ls", run: ls },
    Deed { name: "find", run: find_all },
    Deed { name: "cat", run: cat },
    Deed { name: "restore", run: |scene| restore(scene, Version::Latest(0)) },
    Deed { name: "restore of the one before", run: |scene| restore(scene, Version::Latest(1)) },
    Deed { name: "restore of a number", run: |scene| restore(scene, Version::Number(BackupId(4))) },
    Deed { name: "diff", run: diff_two },
    Deed { name: "export", run: export_one },
    Deed { name: "check", run: |scene| check(scene, &CheckOptions::default()) },
    Deed { name: "check of packs", run: check_packs },
    Deed { name: "check of data", run: check_data },
    Deed { name: "stats", run: |scene| Seen::whole(&stats::run(&scene.repository)?) },
    Deed { name: "copy", run: copy_all },
    Deed {
        name: "status of parity",
        run: |scene| Seen::whole(&parity::status(&scene.repository)?),
    },
    Deed { name: "plan of a repair", run: plan_repair },
];

pub(super) const ACTS: &[Deed] = &[
    Deed { name: "repair", run: |scene| repair_with(scene, RepairOptions::default()) },
    Deed { name: "repair by force", run: repair_by_force },
    Deed { name: "forget", run: forget_one },
    Deed { name: "forget by rules", run: forget_by_rules },
    Deed { name: "prune", run: prune_all },
    Deed { name: "backup", run: back_up },
];

impl Scene<'_> {
    pub(super) fn dataset(&self) -> Result<Dataset> {
        self.repository.dataset(&"data".parse()?)
    }

    fn snapshot(&self, version: Version) -> Result<Snapshot> {
        let set = self.dataset()?;
        let resolved = address::resolve(&set, &version)?;
        set.snapshot(&resolved.numbers, resolved.backup)
    }

    fn newest(&self) -> Result<Snapshot> {
        self.snapshot(Version::Latest(0))
    }
}

fn list_all(scene: &Scene<'_>) -> Result<Seen> {
    let shown = list::shown_datasets(&scene.repository, None)?;
    Seen::of(shown.problems.is_empty(), &shown.readable)
}

fn list_one(scene: &Scene<'_>) -> Result<Seen> {
    let shown = scene.dataset()?.shown_backups()?;
    Seen::of(shown.problems.is_empty(), &shown.readable)
}

fn show(scene: &Scene<'_>) -> Result<Seen> {
    let set = scene.dataset()?;
    let backup = address::resolve(&set, &Version::Latest(0))?.backup;
    let changes: Vec<_> = list::changes(&set, backup)?.collect::<Result<_>>()?;
    Seen::whole(&changes)
}

fn ls(scene: &Scene<'_>) -> Result<Seen> {
    let listing = list::entries(&scene.newest()?, &EntryPath::root(), Depth::Tree)?;
    Seen::whole(&listing.collect::<Result<Vec<_>>>()?)
}

fn find_all(scene: &Scene<'_>) -> Result<Seen> {
    let set = scene.dataset()?;
    let numbers = set.shown_numbers()?;
    let options = FindOptions::new(Pattern::new("*")?);
    let mut found = Vec::new();
    let report = find::run(&set, &numbers, Among::All, &options, &scene.context, &mut |one| {
        found.push(one);
        Ok(())
    })?;
    Seen::of(report.problems.is_empty(), &found)
}

fn cat(scene: &Scene<'_>) -> Result<Seen> {
    let (mut out, path) = (Vec::new(), EntryPath::new(b"f0")?);
    list::cat(&scene.newest()?, &path, &mut out, &Cancel::new())?;
    Seen::whole(&out)
}

fn restore(scene: &Scene<'_>, version: Version) -> Result<Seen> {
    let (target, options) = (MemoryTarget::new(), RestoreOptions::default());
    let report = restore::run(&scene.snapshot(version)?, &target, &options, &scene.context)?;
    Seen::of(report.errors.is_empty(), &content_of(&target))
}

/// All that was restored, with its bytes.
pub(super) fn content_of(target: &MemoryTarget) -> Vec<(String, String)> {
    let entries = target.entries().into_iter();
    let tell = |(path, entry): (EntryPath, MemoryEntry)| {
        // It tells in which order entries were made.
        let entry = MemoryEntry { inode: 0, ..entry };
        let bytes = target.content(&path).map(|bytes| blake3::hash(&bytes));
        (path.to_string(), format!("{entry:?} {bytes:?}"))
    };
    entries.map(tell).collect()
}

fn diff_two(scene: &Scene<'_>) -> Result<Seen> {
    let side = |back| {
        let snapshot = scene.snapshot(Version::Latest(back))?;
        Ok::<_, Error>(Side { snapshot, path: EntryPath::root() })
    };
    let (a, b, mut rows) = (side(1)?, side(0)?, Vec::new());
    let report = diff::run(&a, &b, &scene.context, &mut |row| {
        rows.push(row);
        Ok(())
    })?;
    Seen::of(report.errors.is_empty(), &rows)
}

fn export_one(scene: &Scene<'_>) -> Result<Seen> {
    let (mut out, root) = (Vec::new(), EntryPath::root());
    let report = export::run(&scene.newest()?, &root, Format::Tar, &mut out, &scene.context)?;
    Seen::of(report.errors.is_empty(), &out)
}

fn check(scene: &Scene<'_>, options: &CheckOptions) -> Result<Seen> {
    let report = check::run(&scene.repository, options, &scene.context)?;
    // Notes may be of what others do meanwhile.
    Seen::of(report.is_ok(), &(report.datasets, report.backups, report.packs, report.blobs))
}

fn check_packs(scene: &Scene<'_>) -> Result<Seen> {
    check(scene, &CheckOptions { read_packs: true, ..CheckOptions::default() })
}

fn check_data(scene: &Scene<'_>) -> Result<Seen> {
    check(scene, &CheckOptions { read_data: Some(100.0), ..CheckOptions::default() })
}

fn copy_all(scene: &Scene<'_>) -> Result<Seen> {
    let scratch = CachePlace::Scratch(std::env::temp_dir());
    let there = Arc::new(MemoryBackend::new());
    let there = open::create(there, &CreateOptions::default(), &scratch, NOW)?;
    let shown = scene.repository.shown_datasets()?;
    let wanted: Vec<Wanted> =
        shown.readable.into_iter().map(|dataset| Wanted { dataset, numbers: None }).collect();
    let options = CopyOptions::default();
    let report = copy::run(&scene.repository, &there, &wanted, &options, &scene.context)?;
    let is_whole = report.datasets.iter().all(|it| it.error.is_none() && it.failures.is_empty());
    let copied: Vec<_> = report
        .datasets
        .iter()
        .map(|it| it.copied.iter().map(|one| (one.from, one.to)).collect::<Vec<_>>())
        .collect();
    Seen::of(is_whole && shown.problems.is_empty(), &copied)
}

fn plan_repair(scene: &Scene<'_>) -> Result<Seen> {
    let options = RepairOptions { read_packs: true, ..RepairOptions::default() };
    let plan = repair::plan(&scene.repository, &options, &scene.context)?;
    let is_whole = plan.unrepaired.is_empty() && plan.lost.is_empty() && plan.refused.is_none();
    // What is planned is said.
    Seen::of(is_whole && plan.actions.is_empty(), &plan.actions)
}

fn repair_with(scene: &Scene<'_>, options: RepairOptions) -> Result<Seen> {
    let plan = repair::plan(&scene.repository, &options, &scene.context)?;
    let report = repair::execute(&scene.repository, plan, &scene.context)?;
    Seen::of(report.is_whole() && report.actions.is_empty(), &report.actions)
}

fn repair_by_force(scene: &Scene<'_>) -> Result<Seen> {
    repair_with(scene, RepairOptions { force: true, ..RepairOptions::default() })
}

fn forget_with(scene: &Scene<'_>, selection: &Selection) -> Result<Seen> {
    let plan = forget::plan(&scene.dataset()?, selection, &|_| 0, &scene.context)?;
    let numbers: Vec<BackupId> = plan.forgotten().map(|verdict| verdict.number).collect();
    forget::execute(&plan, &scene.context)?;
    Seen::whole(&numbers)
}

fn forget_one(scene: &Scene<'_>) -> Result<Seen> {
    forget_with(scene, &Selection::Numbers([BackupId(4)].into()))
}

fn forget_by_rules(scene: &Scene<'_>) -> Result<Seen> {
    let rules = Rules { last: "2".parse().ok(), ..Rules::default() };
    forget_with(scene, &Selection::Unless(rules))
}

fn prune_all(scene: &Scene<'_>) -> Result<Seen> {
    let options = PruneOptions { max_unused: 0.0, ..PruneOptions::default() };
    let report = prune::run(&scene.repository, &options, &scene.context)?;
    Seen::of(report.stuck.is_empty() && report.waits_for.is_empty(), &report.headers_retired)
}

fn back_up(scene: &Scene<'_>) -> Result<Seen> {
    let options = BackupOptions::default();
    let name = "data".parse()?;
    let report = backup::run(&scene.repository, &name, scene.source, &options, &scene.context)?;
    Seen::of(report.errors.is_empty(), &report.backup)
}
