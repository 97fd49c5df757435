//! What a store without the key can do to an encrypted repository: nothing of it passes for
//! something else, and what was sealed once for its very place can come back.

use crate::hostile::forge::back_up;
use crate::hostile::forge::confined;
use crate::hostile::forge::key;
use crate::hostile::forge::soon;
use crate::support::pruning::keys;
use crate::support::world::CHEAP;
use crate::support::world::World;
use icecore::backend::Backend;
use icecore::backend::key::ObjectKey;
use icecore::base::error::ErrorKind;
use icecore::base::hash;
use icecore::base::id::BackupId;
use icecore::base::secret::Secret;
use icecore::base::time::Timestamp;
use icecore::codec::frame;
use icecore::codec::frame::ObjectKind;
use icecore::codec::key::Keys;
use icecore::engine::check;
use icecore::engine::check::CheckOptions;
use icecore::engine::check::Finding;
use icecore::engine::check::Severity;
use icecore::engine::tag;
use icecore::engine::tag::TagChange;
use icecore::format::config;
use icecore::format::config::Config;
use icecore::format::config::Encryption;
use icecore::format::key_file;
use icecore::repository::Repository;
use icecore::repository::cache::CachePlace;
use icecore::repository::layout;
use icecore::repository::open;
use icecore::source::memory::MemorySource;
use std::collections::BTreeMap;
use std::sync::Arc;

type Objects = BTreeMap<ObjectKey, Vec<u8>>;

const NOW: Timestamp = Timestamp::new(1_800_000_000, 0);

fn source(name: &str) -> MemorySource {
    MemorySource::new("memory").file(name, name.as_bytes())
}

/// Says whether a look at the backups and a check of all data find nothing wrong.
fn is_content(repository: &Repository, world: &World) -> bool {
    let listed = repository.dataset(&world.name()).and_then(|set| set.backups());
    let options = CheckOptions { read_data: Some(100.0), ..CheckOptions::default() };
    let checked = check::run(repository, &options, &world.context());
    listed.is_ok() && checked.is_ok_and(|report| report.is_ok())
}

/// Says whether another machine opens the repository and finds nothing wrong.
fn is_taken(world: &World) -> bool {
    let scratch = tempfile::tempdir().unwrap();
    let place = CachePlace::Kept(scratch.path().into());
    let backend = Arc::clone(&world.backend) as Arc<dyn Backend>;
    let password = world.is_encrypted().then(|| Secret::new(b"secret".into()));
    let opened = open::open(backend, password.as_ref(), &place);
    opened.is_ok_and(|repository| is_content(&repository, world))
}

/// Three backups, a tag that was changed twice, one backup that is forgotten, a password that was
/// taken away; and what lay there after the first two.
fn history() -> (World, Objects) {
    let world = World::encrypted();
    world.repository.add_key(&Secret::new(b"old".into()), CHEAP, "old", NOW).unwrap();
    world.backup(&source("a")).unwrap();
    world.backup(&source("b")).unwrap();
    let then = world.backend.objects();
    let slot = world.repository.slot_of(&Secret::new(b"old".into())).unwrap();
    world.repository.remove_key(&slot.to_string()).unwrap();
    world.backup(&source("c")).unwrap();
    let set = world.repository.dataset(&world.name()).unwrap();
    for text in ["first", "second"] {
        let change = TagChange { add: vec![text.to_owned()], ..TagChange::default() };
        tag::run(&set, BackupId(1), &change, &world.context()).unwrap();
    }
    world.hide(0);
    (world, then)
}

fn only(world: &World, part: &str) -> ObjectKey {
    let found: Vec<String> =
        keys(world, "").into_iter().filter(|key| key.ends_with(part)).collect();
    assert_eq!(found.len(), 1, "{part}: {found:?}");
    key(found[0].clone())
}

/// What a store does, and who notices.
struct Deed {
    name: &'static str,
    act: fn(&World, &Objects),
    /// On the machine that has seen the repository before; on another one.
    is_noticed: [bool; 2],
}

fn copy(world: &World, from: &str, to: &str) {
    let bytes = world.backend.objects()[&only(world, from)].clone();
    world.backend.insert_raw(&only(world, to), bytes);
}

const DEEDS: [Deed; 11] = [
    Deed { name: "nothing", act: |_, _| {}, is_noticed: [false, false] },
    Deed {
        name: "all is as it was",
        act: |world, then| {
            for key in world.backend.objects().keys().filter(|key| !then.contains_key(*key)) {
                world.backend.remove_raw(key);
            }
            then.iter().for_each(|(key, bytes)| world.backend.insert_raw(key, bytes.clone()));
        },
        is_noticed: [true, false],
    },
    Deed {
        name: "the newest backup is gone",
        act: |world, _| assert!(world.backend.remove_raw(&only(world, "/0/2"))),
        is_noticed: [true, false],
    },
    Deed {
        name: "a backup in the middle is gone",
        act: |world, _| assert!(world.backend.remove_raw(&only(world, "/0/1"))),
        is_noticed: [true, true],
    },
    Deed {
        name: "what was forgotten is back",
        act: |world, _| assert!(world.backend.remove_raw(&only(world, "0.hidden"))),
        is_noticed: [false, false],
    },
    Deed {
        name: "the newest tags are gone",
        act: |world, _| assert!(world.backend.remove_raw(&only(world, "1.tags-1"))),
        is_noticed: [false, false],
    },
    Deed {
        name: "older tags stand for newer ones",
        act: |world, _| copy(world, "1.tags-0", "1.tags-1"),
        is_noticed: [true, true],
    },
    Deed {
        name: "one backup stands for another",
        act: |world, _| copy(world, "/0/1", "/0/2"),
        is_noticed: [true, true],
    },
    Deed {
        name: "a pack is gone",
        act: |world, _| {
            let pack = keys(world, "packs/").remove(0);
            assert!(world.backend.remove_raw(&key(pack)));
        },
        is_noticed: [true, true],
    },
    Deed {
        name: "a password that was taken away is back",
        act: |world, then| {
            let slots = then.iter().filter(|(key, _)| key.as_str().starts_with("keys/"));
            slots.for_each(|(key, bytes)| world.backend.insert_raw(key, bytes.clone()));
        },
        is_noticed: [false, false],
    },
    Deed {
        name: "the key slots are gone",
        act: |world, _| {
            for slot in keys(world, "keys/") {
                world.backend.remove_raw(&key(slot));
            }
        },
        is_noticed: [true, true],
    },
];

/// What can be noticed of a store that shows an earlier state, or parts of one: `guarantees.md`
/// says the same.
#[test]
fn what_comes_back_is_noticed_where_that_can_be() {
    for deed in &DEEDS {
        let (world, then) = history();
        assert!(is_content(&world.repository, &world), "it was sound");
        // The other machine opens before the deed: without a slot it could not.
        let other = world.elsewhere();
        (deed.act)(&world, &then);
        let found = [&world.repository, &other.repository].map(|it| !is_content(it, &world));
        assert_eq!(
            found, deed.is_noticed,
            "{}: on the machine that has seen it, on another",
            deed.name
        );
    }
}

/// A password that was taken away opens again once a store puts its slot back: guarantees.md says
/// to make a new repository when that matters.
#[test]
fn a_slot_that_comes_back_opens_again() {
    let (world, then) = history();
    let old = Secret::new(b"old".into());
    let reopen = || {
        let scratch = tempfile::tempdir().unwrap();
        let backend = Arc::clone(&world.backend) as Arc<dyn Backend>;
        open::open(backend, Some(&old), &CachePlace::Scratch(scratch.path().into())).map(drop)
    };
    assert_eq!(reopen().expect_err("it was taken away").kind(), ErrorKind::Password);
    let slots = then.iter().filter(|(key, _)| key.as_str().starts_with("keys/"));
    slots.for_each(|(key, bytes)| world.backend.insert_raw(key, bytes.clone()));
    reopen().unwrap();
}

/// Sealed objects of another repository with the same password, each under our name of its kind.
#[test]
fn what_another_repository_has_sealed_is_refused() {
    let (ours, others) = (history().0, history().0);
    let foreign = others.backend.objects();
    let before = ours.backend.objects();
    let mut tried = 0;
    for (key, bytes) in &before {
        let kind = frame::peek_kind(bytes);
        let Some(other) = foreign.values().find(|other| frame::peek_kind(other) == kind) else {
            continue;
        };
        // Later tags stand in for these, so nobody looks at them.
        if key.name().ends_with(".tags-0") {
            continue;
        }
        tried += 1;
        ours.backend.insert_raw(key, other.clone());
        assert!(!is_taken(&ours), "{key} is another repository's");
        // Our own is taken in the same way.
        ours.backend.insert_raw(key, bytes.clone());
        assert!(is_taken(&ours), "{key} is ours");
    }
    assert!(tried > 10, "{tried} objects");
}

/// Encryption cannot be turned off from outside.
#[test]
fn a_config_that_says_plain_is_refused() {
    let world = World::encrypted();
    world.backup(&source("a")).unwrap();
    let plain = Config { encryption: Encryption::None, ..world.repository.config().clone() };
    let bytes = config::seal(&plain, None).unwrap();
    world.backend.insert_raw(&layout::config().unwrap(), bytes);
    let scratch = tempfile::tempdir().unwrap();
    let place = CachePlace::Scratch(scratch.path().into());
    let reopen = |password: Option<&Secret>| {
        open::open(Arc::clone(&world.backend) as Arc<dyn Backend>, password, &place)
    };
    let secret = Secret::new(b"secret".into());
    assert_eq!(reopen(Some(&secret)).err().unwrap().kind(), ErrorKind::Password);
    // Without a password there is nothing that it could read.
    let repository = reopen(None).unwrap();
    assert!(!is_content(&repository, &world));
}

/// A slot of a master key of the enemy's own, for a password that the enemy knows.
#[test]
fn a_slot_with_a_foreign_master_key_opens_nothing() {
    let world = World::encrypted();
    back_up(&world, Vec::new());
    let guessed = Secret::new(b"guessed".into());
    let keys = Keys::generate().unwrap();
    let id = world.repository.id();
    let (slot, bytes) = key_file::seal(&keys, &id, &guessed, CHEAP, "", NOW).unwrap();
    world.backend.insert_raw(&layout::key_slot(&slot).unwrap(), bytes);
    let scratch = tempfile::tempdir().unwrap();
    let place = CachePlace::Scratch(scratch.path().into());
    let backend = Arc::clone(&world.backend) as Arc<dyn Backend>;
    let opened = open::open(backend, Some(&guessed), &place);
    assert_eq!(opened.err().unwrap().kind(), ErrorKind::Corrupt, "the config is not of that key");
    let report = check::run(&world.repository, &CheckOptions::default(), &world.context()).unwrap();
    let named: Vec<&Finding> = report.findings.iter().collect();
    let [finding] = named.as_slice() else { panic!("{named:?}") };
    assert_eq!(finding.severity, Severity::Garbage);
    assert!(finding.object.ends_with(&slot.to_string()), "{finding:?}");
}

/// A slot that asks argon2 for a tebibyte costs nothing.
#[test]
fn a_slot_that_asks_for_a_tebibyte_is_refused_at_once() {
    confined("hostile::sealed::a_slot_that_asks_for_a_tebibyte_is_refused_at_once", ask_much);
}

fn ask_much() {
    let world = World::encrypted();
    let slot = key(keys(&world, "keys/").remove(0));
    let bytes = world.backend.objects()[&slot].clone();
    let body = &bytes[frame::HEAD_BYTES..bytes.len() - frame::CHECKSUM_BYTES];
    // Choice 0, 64 KiB, one pass, one lane, as CHEAP is written; the number becomes 2^30 KiB.
    let cheap = [0, 64, 1, 1];
    let at = body.windows(4).rposition(|it| it == cheap).expect("the cost is in it");
    let mut forged = frame::start(ObjectKind::Key, 0);
    forged.extend_from_slice(&body[..=at]);
    forged.extend_from_slice(&[0xfc, 0, 0, 0, 0x40]);
    forged.extend_from_slice(&body[at + 2..]);
    frame::finish(&mut forged);
    key_file::open(&forged, "it reads as a slot").unwrap();
    world.backend.insert_raw(&slot, forged);
    soon(move || {
        let scratch = tempfile::tempdir().unwrap();
        let place = CachePlace::Scratch(scratch.path().into());
        let backend = Arc::clone(&world.backend) as Arc<dyn Backend>;
        let opened = open::open(backend, Some(&Secret::new(b"secret".into())), &place);
        let error = opened.err().unwrap();
        // Another slot might have been the password's.
        assert_eq!(error.kind(), ErrorKind::Password);
        assert!(error.full_message().contains("absurd cost"), "{}", error.full_message());
    });
}

/// Every object says that it is 2^63 bytes long, or 0, with a checksum that is right.
#[test]
fn lengths_in_heads_that_lie_are_refused() {
    for world in [World::memory(), World::encrypted()] {
        world.backup(&source("a")).unwrap();
        for (key, bytes) in world.backend.objects() {
            // The last one is no lie: what is made here in the same way is taken.
            let whole = bytes.len() as u64;
            for length in [1_u64 << 63, u64::MAX, 0, 47, whole + 1, whole] {
                let mut lies = bytes[..bytes.len() - frame::CHECKSUM_BYTES].to_vec();
                lies[8..16].copy_from_slice(&length.to_le_bytes());
                let checksum = hash::hash(&lies);
                lies.extend_from_slice(&checksum);
                world.backend.insert_raw(&key, lies);
                assert_eq!(is_taken(&world), length == whole, "{key} of length {length}");
            }
            world.backend.insert_raw(&key, bytes);
        }
    }
}
