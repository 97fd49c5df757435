//! What a check was blind to once: lengths that runs tell, and index objects that changed places.

use crate::engine_check::check_with;
use crate::engine_check::data;
use crate::engine_check::packs;
use crate::engine_check::run;
use crate::engine_check::structure;
use crate::engine_check::world::NOW;
use crate::engine_check::world::World;
use crate::engine_check::world::name;
use crate::engine_check::world::world;
use icecore::backend::key::ObjectKey;
use icecore::backend::memory::MemoryBackend;

/// The same entry with a run that tells of more bytes than its blob has.
#[test]
fn a_run_that_tells_of_other_bytes_than_its_table_is_damage() {
    use icecore::format::entry::Content;
    use icecore::format::entry::EntryNode;
    use icecore::repository::ranges::MetadataWriter;
    use icecore::repository::transaction::Transaction;
    let mut world = World::new(false);
    let set = world.repository.dataset_or_new(&name("photos"), NOW).expect("a dataset");
    let transaction = Transaction::begin(&set, NOW).expect("begins");
    let mut metadata = MetadataWriter::new(&transaction).expect("starts");
    let mut lying = world.store_file(&transaction, &mut metadata, "a");
    if let EntryNode::File(file) = &mut lying.node {
        let Content::Runs(runs) = &mut file.content else { panic!("runs") };
        runs[0].bytes += 1;
        file.size += 1;
    }
    let tree: crate::engine_check::world::Tree = [(lying.path.clone(), lying.clone())].into();
    let rows = [(lying.path.clone(), Some(lying))].into();
    let body = crate::engine_check::world::write_rows(&mut metadata, rows, true);
    metadata.finish().expect("finishes");
    let header = crate::engine_check::world::header_of(&transaction, None, true, &tree, body);
    transaction.commit(&header).expect("commits");

    let findings = run(&world.repository, &packs()).findings;

    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(findings[0].message.contains("tells of 1501 bytes, and its blobs have 1500"));
    assert_eq!(
        (&findings[0].backups[..], &findings[0].paths[..]),
        (&["photos@0".to_owned()][..], &["a".to_owned()][..])
    );
}

/// Readers refuse such a header, so a check must not call it sound.
#[test]
fn two_headers_that_changed_places_are_damage() {
    let world = world(false);
    let objects = world.backend.objects();
    let first = |key: &&ObjectKey| key.as_str().starts_with("datasets/") && key.name() == "0";
    let keys: Vec<&ObjectKey> = objects.keys().filter(first).collect();
    assert_eq!(keys.len(), 2, "the first backups of two datasets");
    let swap = |backend: &MemoryBackend| {
        backend.insert_raw(keys[0], objects[keys[1]].clone());
        backend.insert_raw(keys[1], objects[keys[0]].clone());
    };

    let findings = check_with(&world, &structure(), swap);

    for key in keys {
        assert!(findings.iter().any(|it| it.object == key.as_str()), "{key}: {findings:?}");
    }
}

/// A plain index object has no name in it, and needs none: what counts is what all of them say.
#[test]
fn two_plain_index_objects_that_changed_places_say_what_they_said() {
    let world = world(false);
    let objects = world.backend.objects();
    let keys: Vec<&ObjectKey> =
        objects.keys().filter(|key| key.as_str().starts_with("index/")).collect();
    let swap = |backend: &MemoryBackend| {
        backend.insert_raw(keys[0], objects[keys[1]].clone());
        backend.insert_raw(keys[1], objects[keys[0]].clone());
    };
    assert_eq!(check_with(&world, &data(), swap), []);
    // One in the place of another is as if that were gone.
    let replace = |backend: &MemoryBackend| backend.insert_raw(keys[0], objects[keys[1]].clone());
    let findings = check_with(&world, &structure(), replace);
    assert!(findings.iter().any(|it| it.message.contains("no pack index names it")));
}
