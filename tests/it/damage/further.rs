//! Operations that came later: copies, parity, archives, searches.

use crate::damage::operations::Scene;
use crate::damage::state::Tree;
use crate::damage::state::name;
use crate::damage::state::restore_number;
use crate::damage::state::with_context;
use icecore::backend::memory::MemoryBackend;
use icecore::base::error::Error;
use icecore::base::error::Result;
use icecore::base::id::BackupId;
use icecore::base::metadata::Kind;
use icecore::base::path::EntryPath;
use icecore::base::time::Timestamp;
use icecore::engine::address;
use icecore::engine::address::Version;
use icecore::engine::copy as copying;
use icecore::engine::copy::CopyOptions;
use icecore::engine::copy::Wanted;
use icecore::engine::diff as differing;
use icecore::engine::diff::Side;
use icecore::engine::export as exporting;
use icecore::engine::export::Format;
use icecore::engine::find as finding;
use icecore::engine::find::Among;
use icecore::engine::find::FindOptions;
use icecore::engine::list;
use icecore::engine::parity;
use icecore::repository::cache::CachePlace;
use icecore::repository::open;
use icecore::repository::open::CreateOptions;
use icecore::source::filter::Pattern;
use icecore::target::memory::MemoryEntry;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Copies all that can be read to a sound repository: what is there then is as it was.
pub(crate) fn copy(scene: &Scene<'_>) -> Result<()> {
    let scratch = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let place = CachePlace::Scratch(scratch.path().into());
    let backend = Arc::new(MemoryBackend::default());
    let now = Timestamp::new(1_900_000_000, 0);
    let target = open::create(backend, &CreateOptions::default(), &place, now).unwrap();
    let datasets = scene.repository.datasets()?;
    let wanted: Vec<Wanted> =
        datasets.into_iter().map(|dataset| Wanted { dataset, numbers: None }).collect();
    let report = with_context(|context| {
        copying::run(&scene.repository, &target, &wanted, &CopyOptions::default(), context)
    })?;
    for one in report.datasets {
        let mut told: BTreeSet<u64> =
            one.failures.iter().filter_map(|failure| failure.backup).map(|n| n.0).collect();
        for copied in &one.copied {
            let Some(label) = scene.label(&one.dataset, copied.from.0) else {
                scene.complain("a backup is copied that never was");
                continue;
            };
            let (there, errors) = restore_number(&target, (label.0, copied.to.0));
            match errors {
                Ok(errors) if errors.is_empty() => {
                    scene.compare(&there, &scene.state.trees[label], &[]);
                }
                _ => scene.complain("a copy was made and does not restore"),
            }
            told.insert(copied.from.0);
        }
        // Of a number that a listing lacks nobody can say more than that.
        let is_named = |n: u64| {
            let name = BackupId(n).to_string();
            let mut lacks = one.failures.iter().filter(|failure| failure.backup.is_none());
            told.contains(&n) || lacks.any(|failure| failure.message.contains(&name))
        };
        let mut visible = scene.state.visible.iter().filter(|it| it.0 == one.dataset.as_str());
        if one.error.is_none() && !visible.all(|label| is_named(label.1)) {
            scene.complain("a backup is not copied, and nothing says so");
        }
        scene.errors.borrow_mut().extend(one.error);
    }
    Ok(())
}

pub(crate) fn add_parity(scene: &Scene<'_>) -> Result<()> {
    let report = with_context(|context| parity::add(&scene.repository, 20, context))?;
    for (pack, why) in report.failed {
        let text = format!("pack {pack}: {why}");
        scene.errors.borrow_mut().push(Error::corrupt(text));
    }
    Ok(())
}

pub(crate) fn remove_parity(scene: &Scene<'_>) -> Result<()> {
    with_context(|context| parity::remove(&scene.repository, false, context)).map(|_| ())
}

/// Counts what is there by its names.
pub(crate) fn parity_status(scene: &Scene<'_>) -> Result<()> {
    let status = parity::status(&scene.repository)?;
    let keys = scene.backend.objects();
    let count = |folder| keys.keys().filter(|key| key.as_str().starts_with(folder)).count() as u64;
    let is_right = status.objects == count("parity/")
        && status.with_parity <= status.packs.min(status.objects)
        && status.packs <= count("packs/");
    if !is_right {
        scene.complain(format!("parity is counted wrong: {status:?}"));
    }
    Ok(())
}

/// Finds everything in every dataset: no path that never was, and all that a backup holds which
/// no problem names.
pub(crate) fn find(scene: &Scene<'_>) -> Result<()> {
    for dataset in ["photos", "music"] {
        let set = scene.repository.dataset(&name(dataset))?;
        let numbers = set.shown_numbers()?;
        let options = FindOptions::new(Pattern::new("*")?);
        let trees = scene.state.trees.iter().filter(|(label, _)| label.0 == dataset);
        let trees: BTreeMap<u64, &Tree> = trees.map(|(label, tree)| (label.1, tree)).collect();
        let mut seen = BTreeSet::new();
        let report = with_context(|context| {
            finding::run(&set, &numbers, Among::All, &options, context, &mut |found| {
                let path = found.entry.path;
                let holds = |n: BackupId| trees.get(&n.0).is_some_and(|it| it.contains_key(&path));
                for span in found.spans {
                    if !holds(span.first) || !holds(span.last) {
                        scene.complain("a path is found that never was");
                    }
                    let visible = scene.state.visible.iter().filter(|label| label.0 == dataset);
                    let within = visible.filter(|it| (span.first.0..=span.last.0).contains(&it.1));
                    seen.extend(within.map(|label| (label.1, path.clone())));
                }
                Ok(())
            })
        })?;
        let is_named = |n: u64| report.problems.iter().any(|it| it.backup.is_none_or(|b| b.0 == n));
        for (_, n) in scene.state.visible.iter().filter(|label| label.0 == dataset) {
            let mut paths = trees[n].keys().filter(|path| !path.is_root());
            if !is_named(*n) && !paths.all(|path| seen.contains(&(*n, path.clone()))) {
                scene.complain("a path is not found, and nothing says so");
            }
        }
        if let Some(problem) = report.problems.into_iter().next() {
            return Err(problem.error);
        }
    }
    Ok(())
}

/// Compares two backups: the rows are the paths that differ.
pub(crate) fn diff(scene: &Scene<'_>) -> Result<()> {
    let set = scene.repository.dataset(&name("photos"))?;
    let side = |n: u64| {
        let backup = address::resolve(&set, &Version::Number(BackupId(n)))?.backup;
        Ok::<_, Error>(Side { snapshot: list::snapshot(&set, backup)?, path: EntryPath::root() })
    };
    let (a, b) = (side(0)?, side(4)?);
    let trees = [("photos", 0), ("photos", 4)].map(|label| &scene.state.trees[&label]);
    let mut told = BTreeSet::new();
    let report = with_context(|context| {
        differing::run(&a, &b, context, &mut |row| {
            told.insert(row.path);
            Ok(())
        })
    })?;
    for path in trees[0].keys().chain(trees[1].keys()).filter(|path| !path.is_root()) {
        let [one, other] = trees.map(|tree| tree.get(path));
        let is_equal = match (one, other) {
            // Of a folder the time is not told.
            (Some((one, _)), Some((other, _))) if one.kind == Kind::Directory => {
                one.kind == other.kind
            }
            // Which of the names of a file come first says nothing.
            (Some((one, bytes)), Some((other, others))) => {
                bytes == others && MemoryEntry { inode: one.inode, ..other.clone() } == *one
            }
            _ => false,
        };
        if is_equal && told.contains(path) {
            scene.complain(format!("{path} is told to differ"));
        }
        if !is_equal && !told.contains(path) && report.errors.is_empty() {
            scene.complain(format!("{path} is not told to differ, and nothing says so"));
        }
    }
    if told.iter().any(|path| !trees.iter().any(|tree| tree.contains_key(path) || path.is_root())) {
        scene.complain("a path differs that never was");
    }
    Ok(())
}

/// The files of a tar, for as far as it goes.
pub(crate) fn untar(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut at = 0;
    while let Some(head) = archive.get(at..at + 512) {
        let text = |from: usize, to: usize| {
            let field = &head[from..to];
            let end = field.iter().position(|&byte| byte == 0).unwrap_or(field.len());
            String::from_utf8_lossy(&field[..end]).trim().to_owned()
        };
        let size = usize::from_str_radix(&text(124, 136), 8).unwrap_or(0);
        let content = archive.get(at + 512..at + 512 + size);
        if head[156] == b'0'
            && let Some(content) = content
        {
            files.insert(text(0, 100).trim_start_matches("./").to_owned(), content.to_vec());
        }
        at += 512 + size.next_multiple_of(512);
    }
    files
}

/// Writes every backup as an archive: a file in it is whole, and one that is not in it is named.
pub(crate) fn export(scene: &Scene<'_>) -> Result<()> {
    scene.each_backup(|snapshot, tree| {
        let mut out = Vec::new();
        let done = with_context(|context| {
            exporting::run(snapshot, &EntryPath::root(), Format::Tar, &mut out, context)
        });
        let is_silent = done.as_ref().is_ok_and(|report| report.errors.is_empty());
        let files = untar(&out);
        for (at, (entry, bytes)) in tree {
            let found = files.get(&at.to_string());
            if found.is_some_and(|found| found != bytes) {
                scene.complain("an archive holds other bytes");
            }
            // Further names of a file are links, and have no content there.
            let is_alone = tree.values().filter(|it| it.0.inode == entry.inode).count() == 1;
            if is_silent && found.is_none() && entry.kind == Kind::File && is_alone {
                scene.complain("an archive without errors lacks a file");
            }
        }
        scene.errors.borrow_mut().extend(done.err());
        Ok(())
    })
}
