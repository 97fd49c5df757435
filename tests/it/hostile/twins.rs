//! Twins without a seal: objects of an encrypted repository as one without encryption would hold
//! them, in their places. Who can make them needs no key, so nobody may take one.

use crate::damage;
use crate::damage::operations::OPERATIONS;
use crate::damage::operations::Operation;
use crate::damage::state;
use crate::damage::state::Label;
use crate::damage::state::State;
use crate::damage::ways::Case;
use crate::damage::ways::kind_of;
use icecore::backend::key::ObjectKey;
use icecore::base::id::PackId;
use icecore::base::limits::RECORD_BYTES_MAX;
use icecore::codec::compress::Compressor;
use icecore::codec::frame;
use icecore::codec::frame::ObjectKind;
use icecore::codec::seal::Sealer;
use icecore::format::block::Row;
use icecore::format::block::Table;
use icecore::format::pack::EncodedBlock;
use icecore::format::pack::PackBuilder;
use icecore::format::parity;
use icecore::repository::Repository;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Bytes of one of the kinds that are no records.
fn odd_twin(repository: &Repository, sealer: &Sealer, key: &ObjectKey, pack: &[u8]) -> Vec<u8> {
    if key.as_str().starts_with("parity/") {
        let pack_id = PackId::new(pack[pack.len() - 32..].try_into().unwrap());
        return parity::make(sealer, key.as_str(), &pack_id, pack, 10).unwrap();
    }
    let blob = b"what a plain pack holds";
    let name = repository.name_blob(blob);
    let table = Table::new(&[Row { blob: name, length: blob.len() as u32 }]);
    let mut stored = Vec::new();
    Compressor::new(3).unwrap().compress(blob, &mut stored).unwrap();
    let block = EncodedBlock { id: table.id(), table, stored, class: 0 };
    let mut builder = PackBuilder::new(&repository.id(), sealer.keys(), Vec::new()).unwrap();
    builder.add(&block).unwrap();
    builder.finish().unwrap().bytes
}

/// Makes the twin of an object: what is in it, sealed or not sealed.
fn twin(state: &State, repository: &Repository, sealer: &Sealer, key: &ObjectKey) -> Vec<u8> {
    let objects = state.backend.objects();
    let bytes = &objects[key];
    let kind = frame::peek_kind(bytes).unwrap();
    match kind {
        ObjectKind::Pack => odd_twin(repository, sealer, key, &[]),
        ObjectKind::Parity => {
            let (pack, _) = key.name().split_once('.').unwrap();
            let found = objects.iter().find(|(key, _)| key.name() == pack);
            odd_twin(repository, sealer, key, found.unwrap().1)
        }
        _ => {
            let ours = repository.store().sealer();
            let plain = ours.open(kind, key.as_str(), bytes, RECORD_BYTES_MAX).unwrap();
            sealer.seal(kind, key.as_str(), &plain).unwrap()
        }
    }
}

fn operation(name: &str) -> &'static Operation {
    OPERATIONS.iter().find(|operation| operation.name == name).unwrap()
}

/// Says whether a check of all data finds a twin.
fn is_found(state: &State, kind: &'static str, key: &ObjectKey, bytes: Vec<u8>) -> bool {
    let case = Case { kind, way: "twin", changes: vec![(key.clone(), Some(bytes))] };
    let backend = state.backend.clone_state();
    case.apply(&backend);
    let restored = damage::run(state, &case, &backend, operation("restore each"));
    let checked = damage::run(state, &case, &backend, operation("check data"));
    for outcome in [&restored, &checked] {
        assert_eq!(outcome.complaints, [""; 0], "{key}");
    }
    // What packs and indexes lead to is compared with its name, and may be there twice.
    let is_alone = !["pack", "index"].contains(&kind);
    let needs = |label: &&Label| is_alone && state.needs[*label].contains(key);
    let taken: Vec<_> = restored.restored.iter().filter(needs).collect();
    assert!(!checked.is_found || taken.is_empty(), "{key} is damage, and {taken:?} took it");
    checked.is_found
}

/// Each object of an encrypted repository, class A and B.
#[test]
fn twins_that_are_not_sealed_are_refused() {
    let mut tried: BTreeMap<&str, usize> = BTreeMap::new();
    for is_atomic in [true, false] {
        let state = state::build(is_atomic, true, is_atomic);
        let repository = state.open(&Arc::new(state.backend.clone_state())).unwrap();
        let ours = repository.store().sealer();
        let plain = Sealer::new(repository.id(), None);
        let doomed = state.doomed();
        for (key, bytes) in state.backend.objects() {
            let kind = kind_of(&key, &bytes);
            // Of the config `a_config_that_says_plain_is_refused` tells; slots are for passwords.
            // Nobody asks for what a tombstone names, nor for tags that later ones stand in for.
            let is_older = kind == "tags" && key.name().ends_with("-0");
            if ["config", "key"].contains(&kind) || doomed.contains(&key) || is_older {
                continue;
            }
            let forged = twin(&state, &repository, &plain, &key);
            assert!(is_found(&state, kind, &key, forged), "the plain twin of {key} is taken");
            // What is made in the same way with the key is taken.
            if kind != "pack" {
                let sealed = twin(&state, &repository, ours, &key);
                assert!(!is_found(&state, kind, &key, sealed), "{key} sealed anew is refused");
            }
            *tried.entry(kind).or_default() += 1;
        }
    }
    eprintln!("plain twins: {tried:?}");
    assert!(tried.len() > 13, "{tried:?}");
}
