//! Parity when things die, and on disks that cannot read what they hold.

use crate::engine_parity::DATA;
use crate::engine_parity::add;
use crate::engine_parity::assert_content;
use crate::engine_parity::change;
use crate::engine_parity::damage;
use crate::engine_parity::data_read;
use crate::engine_parity::filled;
use crate::engine_parity::findings;
use crate::engine_parity::id_of;
use crate::engine_parity::largest_pack;
use crate::engine_parity::pack_keys;
use crate::engine_parity::parity_of;
use crate::engine_parity::run;
use crate::engine_parity::small;
use crate::support::pruning::keys;
use crate::support::pruning::try_prune;
use crate::support::world::World;
use icecore::backend::Backend;
use icecore::backend::Capabilities;
use icecore::backend::Listed;
use icecore::backend::key::FolderKey;
use icecore::backend::key::ObjectKey;
use icecore::backend::wrap::fault::Fault;
use icecore::backend::wrap::fault::FaultBackend;
use icecore::base::error::Error;
use icecore::base::error::ErrorKind;
use icecore::base::error::Result;
use icecore::base::time::Clock;
use icecore::engine::parity;
use icecore::engine::prune;
use icecore::engine::prune::PruneOptions;
use icecore::engine::repair;
use icecore::engine::repair::ActionKind;
use icecore::repository::doom;
use std::ops::Range;
use std::sync::Arc;

/// Runs something on a copy of a store that dies at each call in turn; `after` looks at what is
/// left. Returns how often it died.
fn killed_everywhere(
    world: &mut World,
    mut work: impl FnMut(&World) -> Result<()>,
    mut after: impl FnMut(&World, u64),
) -> u64 {
    let whole = world.backend.objects();
    for call in 1.. {
        world.reset(&whole);
        let mut fault = None;
        world.wrap(|inner| {
            let made = Arc::new(FaultBackend::new(inner, Vec::new()));
            fault = Some(Arc::clone(&made));
            made
        });
        fault.unwrap().set_faults(vec![Fault::DeadFrom { call }]);
        let died = work(world).is_err();
        world.forget_caches();
        after(world, call);
        if !died {
            return call - 1;
        }
    }
    0
}

#[test]
fn an_add_killed_at_any_call_is_ended_by_the_next() {
    let mut world = small(World::encrypted());
    world.threads = 1;
    let packs = pack_keys(&world).len() as u64;
    let deaths = killed_everywhere(
        &mut world,
        |world| parity::add(&world.repository, 5, &world.context()).map(|_| ()),
        |world, call| {
            let there = keys(world, "parity/").len() as u64;
            let report = add(world, 5);
            assert_eq!((report.packs, report.had), (packs - there, there), "call {call}");
        },
    );
    assert!(deaths >= 2 * packs, "{deaths}");
}

#[test]
fn raising_the_share_never_leaves_a_pack_without_parity() {
    let mut world = small(World::memory());
    world.threads = 1;
    add(&world, 5);
    let packs = pack_keys(&world).len() as u64;
    killed_everywhere(
        &mut world,
        |world| parity::add(&world.repository, 20, &world.context()).map(|_| ()),
        |world, call| {
            let status = parity::status(&world.repository).unwrap();
            assert_eq!(status.with_parity, packs, "call {call}");
            add(world, 20);
            let found = findings(world, &data_read());
            assert!(found.is_empty(), "call {call}: {found:#?}");
        },
    );
}

#[test]
fn a_healing_killed_at_any_call_is_ended_by_the_next() {
    let mut world = small(World::memory());
    world.threads = 1;
    add(&world, 5);
    for key in pack_keys(&world) {
        change(&world, &key, |mut bytes| {
            let at = bytes.len() / 2;
            bytes[at] ^= 1;
            bytes
        });
    }
    world.forget_caches();
    let deaths = killed_everywhere(
        &mut world,
        |world| {
            let plan = repair::plan(&world.repository, &DATA, &world.context())?;
            repair::execute(&world.repository, plan, &world.context()).map(|_| ())
        },
        |world, call| {
            let report = run(world, &DATA);
            assert!(report.is_whole(), "call {call}: {report:#?}");
            let found = findings(world, &data_read());
            assert!(damage(&found).is_empty(), "call {call}: {found:#?}");
            assert_eq!(world.sound_backups(), 2, "call {call}");
        },
    );
    assert!(deaths > 20, "{deaths}");
}

#[test]
fn a_prune_killed_at_any_call_leaves_at_most_garbage() {
    let mut world = small(World::memory());
    world.threads = 1;
    add(&world, 5);
    world.hide(1);
    let options = PruneOptions { max_unused: 0.0, force: true, ..PruneOptions::default() };
    killed_everywhere(
        &mut world,
        |world| prune::run(&world.repository, &options, &world.context()).map(|_| ()),
        |world, call| {
            let found = findings(world, &data_read());
            assert!(damage(&found).is_empty(), "call {call}: {found:#?}");
            prune::run(&world.repository, &options, &world.context()).unwrap();
            let packs = pack_keys(world);
            for key in keys(world, "parity/") {
                assert!(packs.iter().any(|pack| key.contains(pack.name())), "call {call}: {key}");
            }
        },
    );
}

/// A disk that cannot read some stretches.
struct BadSectors {
    inner: Arc<dyn Backend>,
    bad: Vec<(ObjectKey, Range<u64>)>,
}

impl BadSectors {
    fn refuse(&self, key: &ObjectKey, range: &Range<u64>) -> Result<()> {
        let is_hit = |bad: &Range<u64>| range.start < bad.end && bad.start < range.end;
        if self.bad.iter().any(|(of, bad)| of == key && is_hit(bad)) {
            return Err(Error::new(ErrorKind::Io, format!("cannot read {key}: bad sector")));
        }
        Ok(())
    }
}

impl Backend for BadSectors {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn put(&self, key: &ObjectKey, bytes: &[u8]) -> Result<()> {
        self.inner.put(key, bytes)
    }

    fn put_new(&self, key: &ObjectKey, bytes: &[u8]) -> Result<()> {
        self.inner.put_new(key, bytes)
    }

    fn get(&self, key: &ObjectKey, bytes_max: usize) -> Result<Vec<u8>> {
        self.refuse(key, &(0..u64::MAX))?;
        self.inner.get(key, bytes_max)
    }

    fn get_range(&self, key: &ObjectKey, range: Range<u64>) -> Result<Vec<u8>> {
        self.refuse(key, &range)?;
        self.inner.get_range(key, range)
    }

    fn stat(&self, key: &ObjectKey) -> Result<Option<u64>> {
        self.inner.stat(key)
    }

    fn list(&self, folder: &FolderKey, visit: &mut dyn FnMut(Listed) -> Result<()>) -> Result<()> {
        self.inner.list(folder, visit)
    }

    fn delete(&self, key: &ObjectKey) -> Result<()> {
        self.inner.delete(key)
    }
}

#[test]
fn sectors_that_cannot_be_read_are_healed_by_parity_that_has_some_too() {
    for make in [World::memory, World::encrypted] {
        let mut world = filled(make());
        add(&world, 5);
        let key = largest_pack(&world);
        let parity = parity_of(&world, &key);
        let length = world.backend.objects()[&key].len() as u64;
        // Of the parity its first header and some of its shards.
        let bad = vec![(key, 300_123..300_123 + length / 50), (parity, 20..40_000)];
        world.wrap(|inner| Arc::new(BadSectors { inner, bad }));
        let report = run(&world, &DATA);
        assert!(report.is_whole(), "{report:#?}");
        assert!(report.actions.iter().any(|it| it.kind == ActionKind::Heal), "{report:#?}");
        let found = findings(&world, &data_read());
        assert!(damage(&found).is_empty(), "{found:#?}");
        assert_content(&world);
    }
}

#[test]
fn what_a_prune_cannot_read_of_a_doomed_pack_is_healed_for_it() {
    for make in [World::memory, World::encrypted] {
        let mut world = filled(make());
        add(&world, 5);
        let key = largest_pack(&world);
        let store = world.repository.store();
        doom::put_tombstones(store, &[id_of(&key)], &[], 0, world.clock.now()).unwrap();
        change(&world, &key, |mut bytes| {
            let end = bytes.len() / 50;
            bytes[..end].fill(0);
            bytes
        });
        world.forget_caches();
        assert!(!try_prune(&world, true).unwrap().stuck.is_empty(), "it cannot read it");
        world.forget_caches();
        let report = run(&world, &DATA);
        assert!(report.is_whole(), "{report:#?}");
        assert!(report.actions.iter().any(|it| it.kind == ActionKind::Heal), "{report:#?}");
        assert!(run(&world, &DATA).actions.is_empty(), "once is enough");
        assert_eq!(try_prune(&world, true).unwrap().stuck, []);
        assert!(!pack_keys(&world).contains(&key));
        world.forget_caches();
        let found = findings(&world, &data_read());
        assert!(damage(&found).is_empty(), "{found:#?}");
        assert_content(&world);
    }
}
