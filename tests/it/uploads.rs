//! Packs on their way at the same time, to a store where each waits for a round trip.

use crate::support::tree::noise;
use crate::support::world::World;
use icecore::backend::Backend;
use icecore::backend::Capabilities;
use icecore::backend::wrap::Around;
use icecore::backend::wrap::Call;
use icecore::backend::wrap::Operation;
use icecore::backend::wrap::Outcome;
use icecore::backend::wrap::Wrapper;
use icecore::base::error::Error;
use icecore::base::error::ErrorKind;
use icecore::base::error::Result;
use icecore::base::limits::INTERIM_INDEX_PACKS;
use icecore::source::memory::MemorySource;
use std::sync::Arc;
use std::sync::Barrier;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

const UPLOADS: usize = 3;
/// A block, and so a pack, each.
const BLOCK_BYTES: usize = 1 << 20;
/// Enough for an interim index and some.
const PACKS: usize = INTERIM_INDEX_PACKS + UPLOADS + 1;

/// A store far away: the first packs wait for each other, and one may fail.
struct Far {
    packs: AtomicUsize,
    together: Barrier,
    fails_at: usize,
}

impl Around for Far {
    fn run<T: Outcome>(&self, call: Call<'_>, work: &dyn Fn() -> Result<T>) -> Result<T> {
        if call.operation == Operation::Put && call.key.starts_with("packs/") {
            let number = self.packs.fetch_add(1, Ordering::SeqCst);
            if number < UPLOADS {
                self.together.wait();
            }
            if number == self.fails_at {
                return Err(Error::new(ErrorKind::Denied, "no"));
            }
        }
        work()
    }

    fn capabilities(&self, inner: Capabilities) -> Capabilities {
        Capabilities { uploads: UPLOADS, ..inner }
    }
}

fn far_away(fails_at: usize) -> (World, Arc<Wrapper<Far>>) {
    let mut world = World::with_small_packs();
    let inner = Arc::clone(&world.backend) as Arc<dyn Backend>;
    let (packs, together) = (AtomicUsize::new(0), Barrier::new(UPLOADS));
    let far = Arc::new(Wrapper::around(inner, Far { packs, together, fails_at }));
    world.wrap(|_| Arc::clone(&far) as Arc<dyn Backend>);
    (world, far)
}

fn source() -> MemorySource {
    let file = |source: MemorySource, n: usize| {
        source.file(format!("{n:02}"), noise(BLOCK_BYTES, n as u64))
    };
    (0..PACKS).fold(MemorySource::new("far"), file)
}

#[test]
fn packs_go_up_together_and_all_of_them_are_named_once() {
    let (mut world, _) = far_away(usize::MAX);

    // The barrier opens only for as many packs on their way as the store asked for.
    world.backup(&source()).expect("a backup");

    world.forget_caches();
    let index = world.repository.index();
    index.ensure(world.repository.store(), world.repository.cache()).expect("an index");
    let packs = index.ids().into_iter().flat_map(|id| index.packs_of(&id));
    let mut named: Vec<_> = packs.map(|indexed| indexed.pack).collect();
    let count = named.len();
    named.sort();
    named.dedup();
    assert_eq!(named.len(), count, "no pack is named twice");
    let is_pack = |key: &&icecore::backend::key::ObjectKey| key.as_str().starts_with("packs/");
    assert_eq!(count, world.backend.objects().keys().filter(is_pack).count());
    assert_eq!(world.sound_backups(), 1);
}

#[test]
fn one_that_fails_ends_the_backup_and_the_next_goes_on_from_there() {
    let (mut world, _) = far_away(INTERIM_INDEX_PACKS + UPLOADS);

    let error = world.backup(&source()).expect_err("a pack is refused");

    assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
    assert_eq!(world.sound_backups(), 0);
    world.forget_caches();
    let report = world.backup(&source()).expect("the store is well again");
    let all = (PACKS * BLOCK_BYTES) as u64;
    assert!(report.counts.new_bytes < all / 2, "an index named the first packs");
    assert_eq!(world.sound_backups(), 1);
}
