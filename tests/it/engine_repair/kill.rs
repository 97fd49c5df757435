//! Repair that dies at any call, twice at once, and beside a backup.

use crate::engine_check;
use crate::engine_check::flip;
use crate::engine_check::world::NOW;
use crate::engine_check::world::PASSWORD;
use crate::engine_check::world::World;
use crate::engine_check::world::world;
use crate::engine_repair::DATA;
use crate::engine_repair::damaged;
use crate::engine_repair::flip_end;
use crate::engine_repair::hurt;
use crate::engine_repair::kinds;
use crate::engine_repair::named;
use crate::engine_repair::plan;
use crate::engine_repair::run;
use crate::engine_repair::try_run;
use crate::engine_repair::with_context;
use crate::support::odd::Odd;
use icecore::backend::Backend;
use icecore::backend::key::ObjectKey;
use icecore::backend::memory::MemoryBackend;
use icecore::backend::wrap::fault::Fault;
use icecore::backend::wrap::fault::FaultBackend;
use icecore::base::id::IndexId;
use icecore::base::secret::Secret;
use icecore::engine::repair;
use icecore::engine::repair::ActionKind;
use icecore::repository::Repository;
use icecore::repository::cache::CachePlace;
use icecore::repository::layout;
use icecore::repository::open;
use icecore::repository::transaction::Transaction;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The index object that names a pack; each backup has one.
fn index_of(world: &World, pack: &ObjectKey) -> ObjectKey {
    let index = world.repository.index();
    let names_it = |id: &IndexId| {
        index.packs_of(id).iter().any(|it| layout::pack(&it.pack).expect("a key") == *pack)
    };
    let id = index.ids().into_iter().find(names_it).expect("an index names it");
    layout::index(&id).expect("a key")
}

/// One of everything: a bad pack with good blocks, a lost one, a lost and a damaged index, a gap.
fn hurt_it(world: &World, backend: &MemoryBackend) {
    flip_end(backend, &world.pack_of("music@0", "x"));
    flip(backend, &world.pack_of("photos@1", "d/e"), 500);
    backend.remove_raw(&world.pack_of("photos@0", "b"));
    backend.remove_raw(&index_of(world, &world.pack_of("photos@4", "g")));
    flip(backend, &index_of(world, &world.pack_of("photos@3", "a")), 300);
    backend.remove_raw(&world.header_key("photos", 2));
}

fn open_with(world: &World, backend: Arc<dyn Backend>) -> Repository {
    let cache = CachePlace::Scratch(world.caches.path().into());
    let password = Secret::new(PASSWORD.to_vec());
    open::open(backend, Some(&password), &cache).expect("opens")
}

fn without_leases(backend: &MemoryBackend) -> Vec<ObjectKey> {
    let keys = backend.objects().into_keys();
    keys.filter(|key| !key.as_str().starts_with("leases/")).collect()
}

#[test]
fn a_repair_killed_at_any_call_loses_nothing_and_the_next_one_ends_it() {
    let world = world(true);
    let (state, repository) = damaged(&world, |backend| hurt_it(&world, backend));
    let (whole, _) = (state.clone_state(), ());
    let undisturbed = run(&repository, &DATA);
    let expected = hurt(&repository, &world);
    assert!(kinds(&undisturbed).len() >= 7, "{undisturbed:?}");
    assert!(named(&undisturbed).is_superset(&expected));
    assert_eq!(undisturbed.unrepaired, [], "{undisturbed:?}");

    let before = without_leases(&whole);
    let mut call = 0;
    let mut deaths = 0;
    loop {
        call += 1;
        let memory = Arc::new(whole.clone_state());
        let fault = Arc::new(FaultBackend::new(Arc::clone(&memory) as _, Vec::new()));
        let dying = open_with(&world, Arc::clone(&fault) as _);
        fault.set_faults(vec![Fault::DeadFrom { call }]);
        let died = try_run(&dying, &DATA).is_err();
        if died && without_leases(&memory) == before {
            continue;
        }
        deaths += 1;
        let repository = open_with(&world, Arc::clone(&memory) as _);
        run(&repository, &DATA);
        assert_eq!(hurt(&repository, &world), expected, "killed at call {call}");
        let checked = engine_check::run(&repository, &engine_check::data());
        assert!(checked.is_ok(), "killed at call {call}: {:?}", checked.findings);
        if !died {
            break;
        }
    }
    assert!(deaths > 10, "{deaths} of {call} kills came between two writes");
}

/// A repair was killed when it had put an index and not yet synced its name. The next one saw the
/// index, had nothing to do and said that all was whole; a power cut took the index away again.
#[test]
fn a_repair_makes_durable_what_it_finds_and_leaves_as_it_is() {
    let world = world(true);
    let (state, _) = damaged(&world, |_| {});
    let odd = Arc::new(Odd::new(state));
    let repository = open_with(&world, Arc::clone(&odd) as _);
    let planned = plan(&repository, &DATA).expect("plans");
    let before = odd.settled();

    let report = with_context(|context| repair::execute(&repository, planned, context));

    assert!(report.expect("repairs").is_whole());
    assert!(odd.settled() > before, "nothing was made durable");
}

#[test]
fn an_answer_that_is_lost_at_any_write_does_no_harm() {
    let world = world(true);
    let (state, repository) = damaged(&world, |backend| hurt_it(&world, backend));
    let whole = state.clone_state();
    run(&repository, &DATA);
    let expected = hurt(&repository, &world);
    for call in (1..).step_by(3) {
        let memory = Arc::new(whole.clone_state());
        let fault = Arc::new(FaultBackend::new(Arc::clone(&memory) as _, Vec::new()));
        let repository = open_with(&world, Arc::clone(&fault) as _);
        fault.set_faults(vec![Fault::LostReply { call }]);
        let ended = try_run(&repository, &DATA);
        let calls = fault.calls();
        fault.set_faults(Vec::new());
        run(&repository, &DATA);
        assert_eq!(hurt(&repository, &world), expected, "call {call}");
        if ended.is_ok() && calls < call {
            break;
        }
    }
}

#[test]
fn two_repairs_at_once_end_like_one() {
    let world = world(true);
    let (state, one) = damaged(&world, |backend| hurt_it(&world, backend));
    let two = open_with(&world, Arc::clone(&state) as _);
    let (first, second) = (plan(&one, &DATA).expect("plans"), plan(&two, &DATA).expect("plans"));

    with_context(|context| {
        repair::execute(&one, first, context).expect("repairs");
        repair::execute(&two, second, context).expect("repairs");
    });

    let checked = engine_check::run(&one, &engine_check::data());
    assert!(checked.is_ok(), "{:?}", checked.findings);
    let lost = hurt(&one, &world);
    assert_eq!(lost, world.trees.keys().filter(|it| *it != "music@0").cloned().collect());
    // Both have declared the same places lost; one record is enough.
    assert_eq!(kinds(&run(&one, &DATA)), [ActionKind::Remove]);
    assert_eq!(kinds(&run(&one, &DATA)), []);
    // At the same time in two threads.
    let (state, one) = damaged(&world, |backend| hurt_it(&world, backend));
    let two = open_with(&world, Arc::clone(&state) as _);
    std::thread::scope(|scope| {
        scope.spawn(|| run(&one, &DATA));
        scope.spawn(|| run(&two, &DATA));
    });
    let fresh = open_with(&world, Arc::clone(&state) as _);
    run(&fresh, &DATA);
    assert_eq!(hurt(&fresh, &world), lost);
}

#[test]
fn a_repair_beside_a_backup_hurts_neither() {
    let mut world = world(false);
    let key = world.pack_of("music@0", "x");
    flip_end(&world.backend, &key);
    let dataset = world.repository.dataset(&crate::engine_check::world::name("music"));
    let dataset = dataset.expect("there");
    // A writer that leans on the pack before it is doomed, and one that begins later.
    let early = Transaction::begin(&dataset, NOW).expect("begins");
    let report = run(&world.repository, &DATA);
    assert!(report.is_whole(), "{report:?}");
    early.abandon();
    world.back_up("music", false, &["y"], &[]);

    assert_eq!(hurt(&world.repository, &world), BTreeSet::new());
    let checked = engine_check::run(&world.repository, &engine_check::data());
    assert!(checked.is_ok(), "{:?}", checked.findings);
}
