//! Checks that read a part of the data take turns.

use crate::engine_check::find;
use crate::engine_check::flip;
use crate::engine_check::run;
use crate::engine_check::try_check;
use crate::engine_check::world::NOW;
use crate::engine_check::world::world;
use icecore::backend::local::LocalBackend;
use icecore::base::cancel::Cancel;
use icecore::base::error::ErrorKind;
use icecore::base::path::EntryPath;
use icecore::base::progress::Counter;
use icecore::base::progress::Phase;
use icecore::base::progress::Progress;
use icecore::base::progress::Totals;
use icecore::base::progress::Warning;
use icecore::base::time::FixedClock;
use icecore::engine::Context;
use icecore::engine::check;
use icecore::engine::check::CheckOptions;
use icecore::repository::Repository;
use icecore::repository::cache::CachePlace;
use icecore::repository::open;
use std::sync::Arc;

#[test]
fn samples_take_turns_until_all_is_covered() {
    let world = world(false);
    let key = world.pack_of("music@0", "x");
    flip(&world.backend, &key, 500);
    let options = CheckOptions { read_data: Some(25.0), ..CheckOptions::default() };
    let reports: Vec<_> = (0..8).map(|_| run(&world.repository, &options)).collect();
    let first = reports.iter().position(|report| !report.is_ok()).expect("four quarters cover all");
    assert!(first < 5, "four quarters cover all");
    assert!(reports[first..].iter().all(|report| !report.is_ok()), "what was found stays found");
    let note = find(&reports[0].findings, "packs").expect("a note");
    assert!(note.message.contains("this run and those before it cover"), "{}", note.message);
    for percent in [0.0, -1.0, 101.0, f64::NAN] {
        let options = CheckOptions { read_data: Some(percent), ..CheckOptions::default() };
        let error = try_check(&world.repository, &options).expect_err("makes no sense");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
}

/// Cancels when the reading begins.
struct CancelsAtOnce<'a>(&'a Cancel);

impl Progress for CancelsAtOnce<'_> {
    fn start(&self, _: Phase, _: Totals) {
        self.0.cancel();
    }
    fn count(&self, _: Counter, _: u64) {}
    fn working_on(&self, _: &EntryPath) {}
    fn warn(&self, _: &Warning) {}
    fn finish(&self) {}
}

/// What a check of a quarter of the data says of how far it has come.
fn said_of_a_quarter(repository: &Repository) -> String {
    let options = CheckOptions { read_data: Some(25.0), ..CheckOptions::default() };
    let report = run(repository, &options);
    assert!(report.is_ok(), "{:?}", report.findings);
    find(&report.findings, "packs").expect("a note").message.clone()
}

#[test]
fn what_a_check_did_not_come_to_read_is_not_covered() {
    let world = world(false);
    let (_, undisturbed) = world.copy();
    let options = CheckOptions { read_data: Some(25.0), ..CheckOptions::default() };
    let (cancel, clock) = (Cancel::new(), FixedClock::new(NOW));
    let progress = CancelsAtOnce(&cancel);
    let context = Context { progress: &progress, cancel: &cancel, clock: &clock, threads: 2 };
    let error = check::run(&world.repository, &options, &context).expect_err("cancelled");
    assert_eq!(error.kind(), ErrorKind::Cancelled);

    assert_eq!(said_of_a_quarter(&world.repository), said_of_a_quarter(&undisturbed));
}

#[test]
fn each_copy_of_a_repository_takes_turns_of_its_own() {
    let world = world(false);
    let place = tempfile::tempdir().expect("a folder");
    let cache = CachePlace::Kept(place.path().join("cache"));
    let [one, two] = ["one", "two"].map(|name| {
        let folder = place.path().join(name);
        for (key, bytes) in world.backend.objects() {
            let path = folder.join(key.as_str());
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            std::fs::write(path, bytes).expect("written");
        }
        let backend = LocalBackend::open(&folder).expect("opens");
        open::open(Arc::new(backend), None, &cache).expect("opens")
    });
    let first = said_of_a_quarter(&one);
    assert_eq!(said_of_a_quarter(&two), first);
    assert_ne!(said_of_a_quarter(&two), first, "the second quarter covers more");
}
