//! Small objects that are sound, and of which one read fails: a repair leaves them alone.

use crate::engine_check::flip;
use crate::engine_check::world::NOW;
use crate::engine_check::world::World;
use crate::engine_check::world::add_small_objects;
use crate::engine_check::world::world;
use crate::engine_repair::FORCE;
use crate::engine_repair::kinds;
use crate::engine_repair::run;
use crate::engine_repair::try_run;
use crate::support::refusing::Refusal;
use crate::support::refusing::Refusing;
use icecore::backend::key::ObjectKey;
use icecore::base::id::BackupId;
use icecore::base::id::TombstoneId;
use icecore::codec::frame::ObjectKind;
use icecore::engine::repair::Action;
use icecore::engine::repair::ActionKind;
use icecore::format::dataset::FloorRecord;
use icecore::format::dataset::LostRecord;
use icecore::format::dataset::TagsRecord;
use icecore::repository::layout;

/// Everything small that there is, two revisions of tags and two floors among it.
fn with_all() -> World {
    let world = world(true);
    add_small_objects(&world);
    let (id, store) = (world.id("photos"), world.repository.store());
    for revision in 0..2 {
        let key = layout::tags(&id, BackupId(3), revision).expect("a key");
        let tags = vec![format!("tag {revision}")];
        let record = TagsRecord { number: 3, tags, description: "d".into(), written: NOW };
        store.put(ObjectKind::Tags, &key, &record).expect("puts");
    }
    for (floor, remaining) in [(1, vec![0]), (3, vec![0, 1, 2])] {
        let key = layout::floor(&id, floor).expect("a key");
        let record = FloorRecord { floor, remaining, written: NOW };
        store.put(ObjectKind::Floor, &key, &record).expect("puts");
    }
    let key = layout::lost(&TombstoneId::new([0xcc; 16])).expect("a key");
    let pack = world.pack_of("photos@4", "g");
    assert!(world.backend.remove_raw(&pack));
    assert!(kinds(&run(&world.repository, &FORCE)).contains(&ActionKind::DeclareLost));
    let record = LostRecord { blocks: vec![7; 32], places: vec![vec![0]], written: NOW };
    store.put(ObjectKind::Lost, &key, &record).expect("puts");
    world
}

fn is_small(key: &ObjectKey) -> bool {
    let folders = ["datasets/", "names/", "leases/", "tombstones/", "lost/"];
    folders.iter().any(|folder| key.as_str().starts_with(folder))
}

/// A forgotten backup showed again, tags and floors were put back, and datasets renamed.
#[test]
fn one_read_that_fails_makes_a_repair_do_nothing_that_it_would_not_do_else() {
    let mut tried = 0;
    let world = with_all();
    // An index that a tombstone names, which cannot be read, is replaced once more by its like.
    let told = |actions: &[Action]| -> Vec<(ActionKind, String)> {
        let is_small = |it: &&Action| it.kind != ActionKind::ReplaceIndex;
        actions.iter().filter(is_small).map(|it| (it.kind, it.object.clone())).collect()
    };
    for key in world.backend.objects().into_keys().filter(is_small) {
        let refusing = Refusing::default();
        let (_, repository) = world.copy_within(|backend| refusing.around(backend));
        refusing.begin(key.as_str(), None);
        let sound = told(&run(&repository, &FORCE).actions);
        let (reads, _) = refusing.end();
        assert!(!reads.is_empty(), "{key} is read");
        // The first look finds something wrong, later ones judge it.
        let once = (0..reads.len().min(3)).map(Refusal::Once);
        for refusal in once.chain([Refusal::ForGood(0)]) {
            let (backend, repository) = world.copy_within(|backend| refusing.around(backend));
            let before = backend.objects();
            refusing.begin(key.as_str(), Some(refusal));

            let done = try_run(&repository, &FORCE);

            let (_, refused) = refusing.end();
            assert!(refused.is_some(), "{key} {refusal:?}");
            let actions = done.map_or(Vec::new(), |report| told(&report.actions));
            let more = actions.iter().find(|action| !sound.contains(action));
            assert_eq!(more, None, "{key} {refusal:?}");
            let gone = |key: &&ObjectKey| !backend.objects().contains_key(*key);
            for key in before.keys().filter(gone) {
                let is_expected = sound.iter().any(|(_, object)| object == key.as_str());
                assert!(is_expected, "{key} is gone, {refusal:?}");
            }
            tried += 1;
        }
    }
    eprintln!("{tried} reads were refused");
    assert!(tried >= 40, "only {tried}");
}

/// The name of a dataset that has lost it may stand in a header that cannot be read just now.
#[test]
fn a_dataset_is_not_called_otherwise_while_a_header_may_tell_its_name() {
    let mut world = crate::support::world::World::encrypted();
    let source = icecore::source::memory::MemorySource::new("data").file("a", b"alpha");
    world.backup(&source).expect("a backup");
    let keys: Vec<ObjectKey> = world.backend.objects().into_keys().collect();
    let name = keys.iter().find(|key| key.as_str().starts_with("names/")).expect("a name");
    let header = keys.iter().find(|key| key.name() == "0" && key.as_str().starts_with("datasets/"));
    let header = header.expect("a header").as_str().to_owned();
    flip(&world.backend, name, 90);
    let refusing = Refusing::default();
    world.forget_caches();
    let repository = world.open_beside(refusing.around(world.backend.clone()));
    refusing.begin(&header, Some(Refusal::ForGood(0)));

    let report = run(&repository, &FORCE);

    assert_eq!(kinds(&report), [], "{report:?}");
    assert!(report.unrepaired.iter().any(|it| it.object == name.as_str()), "{report:?}");
    refusing.end();
    assert_eq!(kinds(&run(&repository, &FORCE)), [ActionKind::Name]);
    assert!(repository.dataset(&world.name()).is_ok(), "its own name, as it is proven");
}
