//! What tests of prune share: prunes that may fail, and copies of blocks as a prune makes them.

use crate::support::tree::noise;
use crate::support::world::World;
use icecore::engine::backup::BackupOptions;
use icecore::engine::check;
use icecore::engine::check::CheckOptions;
use icecore::engine::prune;
use icecore::engine::prune::PruneOptions;
use icecore::engine::prune::PruneReport;
use icecore::repository::Repository;
use icecore::repository::index::Location;
use icecore::repository::layout;
use icecore::repository::rescue;
use icecore::repository::rescue::Copier;
use icecore::source::memory::MemorySource;
use std::collections::HashSet;

pub(crate) fn try_prune(world: &World, force: bool) -> icecore::base::error::Result<PruneReport> {
    let options = PruneOptions { max_unused: 0.0, force, ..PruneOptions::default() };
    prune::run(&world.repository, &options, &world.context())
}

/// Files `f<n>` of 20 000 bytes, each its own.
pub(crate) fn files(numbers: std::ops::Range<u64>) -> MemorySource {
    let source = MemorySource::new("s");
    for n in numbers {
        source.put_file(format!("f{n}"), noise(20_000, n + 1));
    }
    source
}

pub(crate) fn full_backup(world: &World, source: &MemorySource) {
    let options = BackupOptions { full: true, ..BackupOptions::default() };
    world.backup_with(source, &options).unwrap();
}

pub(crate) fn assert_sound(world: &World) {
    let options = CheckOptions { read_data: Some(100.0), ..CheckOptions::default() };
    let report = check::run(&world.repository, &options, &world.context()).unwrap();
    assert!(report.findings.is_empty(), "{:#?}", report.findings);
}

/// Nothing is damaged; what nobody needs may lie about.
pub(crate) fn assert_undamaged(world: &World) {
    let options = CheckOptions { read_data: Some(100.0), ..CheckOptions::default() };
    let report = check::run(&world.repository, &options, &world.context()).unwrap();
    assert!(report.is_ok(), "{:#?}", report.findings);
}

pub(crate) fn keys(world: &World, folder: &str) -> Vec<String> {
    let objects = world.backend.objects().into_keys();
    objects.map(|key| key.to_string()).filter(|key| key.starts_with(folder)).collect()
}

/// All copies of all blocks.
pub(crate) fn all_rows(repository: &Repository) -> Vec<Location> {
    repository.refresh_index().unwrap();
    repository.index().view().all_rows().map(|(_, location)| location).collect()
}

/// Copies blocks as a prune does, with the places that `keeps` says of each.
pub(crate) fn thin(
    repository: &Repository,
    rows: &[Location],
    keeps: &dyn Fn(&Location, u32) -> bool,
) {
    let mut copier = Copier::start(repository).unwrap();
    for location in rows {
        let keeps = |place: u32| keeps(location, place);
        copier.add(rescue::encode_copy(repository, location, &keeps).unwrap()).unwrap();
    }
    copier.finish().unwrap();
}

/// Takes packs away with the index objects that name them.
pub(crate) fn remove_packs(world: &World, rows: &[Location]) {
    let packs: HashSet<_> = rows.iter().map(|location| location.pack.pack).collect();
    let view = world.repository.index().view();
    for (id, _, _) in view.objects() {
        if view.packs_of(&id).any(|pack| packs.contains(&pack.pack)) {
            world.backend.remove_raw(&layout::index(&id).unwrap());
        }
    }
    for pack in packs {
        world.backend.remove_raw(&layout::pack(&pack).unwrap());
    }
}
