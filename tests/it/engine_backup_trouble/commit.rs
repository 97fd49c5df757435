//! A header that is refused, or never tried: for certain, or after an answer was lost.

use crate::engine_backup_trouble::source;
use crate::engine_backup_trouble::wrap_faulty;
use crate::support::world::World;
use icecore::backend::wrap::Around;
use icecore::backend::wrap::Call;
use icecore::backend::wrap::Outcome;
use icecore::backend::wrap::Wrapper;
use icecore::backend::wrap::fault::Fault;
use icecore::base::error::Error;
use icecore::base::error::ErrorKind;
use icecore::base::error::Origin;
use icecore::base::error::Result;
use icecore::engine::backup::BackupKind;
use icecore::repository::layout;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

#[test]
fn a_full_repository_stops_the_backup_before_its_header() {
    for write in 1.. {
        let mut world = World::memory();
        let fault = Fault::WritesFrom { write, kind: ErrorKind::Full };
        wrap_faulty(&mut world, fault);

        let result = world.backup(&source());

        if result.is_ok() {
            assert!(write > 4, "name, lease, pack, index and header are writes");
            return;
        }
        let error = result.expect_err("full");
        assert_eq!(error.kind(), ErrorKind::Full, "{error:?}");
        assert_eq!(error.origin(), Origin::Repository, "{error:?}");
        world.forget_caches();
        assert_eq!(world.sound_backups(), 0, "after write {write}");
        // The lease could not be deleted either, and its process, this one, lives.
        world.drop_leases();
        assert_eq!(world.backup(&source()).expect("room again").kind, BackupKind::Full);
        assert_eq!(world.sound_backups(), 1);
    }
}

/// Refuses one call for want of room, counted from the put of a header on.
struct AtCommit {
    calls: AtomicUsize,
    refused: usize,
    was_lost: bool,
}

impl Around for AtCommit {
    fn run<T: Outcome>(&self, call: Call<'_>, work: &dyn Fn() -> Result<T>) -> Result<T> {
        let is_header = call.operation.is_write() && call.key.starts_with("datasets/");
        if is_header || self.calls.load(Ordering::SeqCst) > 0 {
            let number = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
            if number == self.refused {
                let full = Error::new(ErrorKind::Full, "no room");
                return Err(if self.was_lost { full.after_a_lost_answer() } else { full });
            }
        }
        work()
    }
}

/// Returns how many leases and sound backups there are after a refused backup; None when there
/// is no such call.
fn refuse_at_commit(mut world: World, refused: usize, was_lost: bool) -> Option<(usize, usize)> {
    let around = AtCommit { calls: AtomicUsize::new(0), refused, was_lost };
    world.wrap(|inner| Arc::new(Wrapper::around(inner, around)));
    let error = world.backup(&source()).err()?;
    assert_eq!(error.kind(), ErrorKind::Full, "{error:?}");
    let store = world.repository.store();
    let leases = store.names_below(&layout::folder("leases").unwrap()).unwrap();
    let records = leases.iter().filter(|key| !key.name().contains('.')).count();
    world.forget_caches();
    Some((records, world.sound_backups()))
}

/// While a header may still come, its lease keeps what it names: a prune would take it away.
#[test]
fn a_lease_is_given_back_when_its_header_was_refused_and_kept_when_it_may_be_there() {
    for make in [World::memory, World::class_b] {
        assert_eq!(refuse_at_commit(make(), 1, false), Some((0, 0)), "refused for certain");
        assert_eq!(refuse_at_commit(make(), 1, true), Some((1, 0)), "it may come yet");
    }
    let behind: Vec<_> =
        (2..).map_while(|call| refuse_at_commit(World::class_b(), call, false)).collect();
    assert!(behind.len() > 1, "the marks are listed, and one is put");
    assert!(behind.iter().all(|&(_, sound)| sound == 1), "{behind:?}");
    assert_eq!(behind[0], (1, 1), "it is not known yet whether it counts");
    assert_eq!(behind[1], (1, 1), "nobody was told");
}
