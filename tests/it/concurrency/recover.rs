//! What must be possible in any state, if everybody in it has died at that moment.

use crate::concurrency::actors::Ended;
use crate::concurrency::actors::free;
use crate::concurrency::actors::store;
use crate::concurrency::actors::told;
use crate::concurrency::backend::bury;
use crate::concurrency::backend::move_away;
use crate::concurrency::world::View;
use crate::concurrency::world::World;
use crate::concurrency::world::at;
use crate::concurrency::world::at_rest;
use icecore::backend::key::ObjectKey;
use icecore::backend::memory::MemoryBackend;
use icecore::base::error::Error;
use icecore::base::time::FixedClock;
use icecore::base::time::Timestamp;
use icecore::codec::seal::Sealer;
use icecore::engine::Context;
use icecore::engine::check;
use icecore::engine::check::CheckOptions;
use icecore::repository::Repository;
use std::sync::Arc;

/// What becomes of the bytes of a lease.
type Change<'a> = &'a dyn Fn(&Sealer, &ObjectKey, &[u8]) -> Vec<u8>;

impl World {
    /// Goes on with a store after everybody in it has died: a backup and a check must do, and
    /// lose nothing that was there.
    pub(super) fn recover(&self, state: MemoryBackend, before: &View) -> Option<String> {
        let backend = self.with_leases(state, &bury);
        let went = self
            .anew(backend, |repository| at_rest(|context| self.go_on(repository, before, context)));
        went.unwrap_or_else(Some)
    }

    /// The same on another machine, which cannot know who is dead: a prune may stop for them, and
    /// must not when they have been silent for hours by this machine's own clock.
    pub(super) fn recover_from_afar(&self, state: MemoryBackend, before: &View) -> Option<String> {
        let move_away =
            |sealer: &Sealer, key: &ObjectKey, bytes: &[u8]| move_away(sealer, key, bytes, "far");
        let backend = self.with_leases(state, &move_away);
        let clock = FixedClock::new(Timestamp::new(1_700_000_000, 0));
        let went = self.anew(backend, |repository| {
            let prune = || at(&clock, |context| free(repository, 0.0, context));
            match prune() {
                Err(e) if is_of_what_went_before(&e) => {}
                Err(e) => return Some(format!("a prune beside the silent fails: {}", told(&e))),
                Ok(_) => {}
            }
            clock.advance(7 * 3600);
            match prune() {
                Ok(Ended::Pruned(_)) => {}
                Ok(_) => return Some("a prune waits for ever for the silent".to_owned()),
                Err(e) => return Some(format!("a prune after the silent fails: {}", told(&e))),
            }
            match self.view(repository) {
                Ok(after) if after.visible == before.visible => {
                    at(&clock, |context| self.go_on(repository, before, context))
                }
                Ok(after) => Some(format!("{:?} became {:?}", before.visible, after.visible)),
                Err(e) => Some(format!("after the silent were ended: {e}")),
            }
        });
        went.unwrap_or_else(Some)
    }

    /// Returns a store with all its leases changed.
    fn with_leases(&self, state: MemoryBackend, change: Change<'_>) -> Arc<MemoryBackend> {
        for (key, bytes) in state.objects() {
            if key.as_str().starts_with("leases/") && !key.name().contains('.') {
                state.insert_raw(&key, change(self.store.sealer(), &key, &bytes));
            }
        }
        Arc::new(state)
    }

    fn go_on(
        &self,
        repository: &Repository,
        before: &View,
        context: &Context<'_>,
    ) -> Option<String> {
        if let Err(e) = store(repository, self, "after", context) {
            return Some(format!("the next backup fails: {}", told(&e)));
        }
        let after = match self.view(repository) {
            Ok(after) => after,
            Err(e) => return Some(format!("after the next backup: {e}")),
        };
        if let Some(what) = after.lacks(before, |_| false) {
            return Some(format!("after the next backup: {what}"));
        }
        if after.newest() != Some("after") {
            return Some(format!("the next backup is not the newest of {:?}", after.visible));
        }
        let damage = find_damage(repository, context);
        if damage.is_some() {
            return damage;
        }
        match free(repository, 0.0, context) {
            Ok(Ended::Pruned(_)) => {}
            Ok(_) => return Some("a prune waits for somebody who is dead".to_owned()),
            Err(e) => return Some(format!("the next prune fails: {}", told(&e))),
        }
        match self.view(repository) {
            Ok(pruned) if pruned.visible == after.visible => find_damage(repository, context),
            Ok(pruned) => Some(format!("{:?} became {:?}", after.visible, pruned.visible)),
            Err(e) => Some(format!("after the next prune: {e}")),
        }
    }
}

/// Says whether a prune misses some of a forgotten backup that was going already when a lease was
/// put for it. Who dies before looking whether it is forgotten holds it as long as he counts as
/// alive, by its packs or, where their index went as well, by what no index names any more.
fn is_of_what_went_before(error: &Error) -> bool {
    let told = error.to_string();
    told.contains("cannot be copied") || told.contains("no pack index names all places")
}

/// Says what a check finds.
fn find_damage(repository: &Repository, context: &Context<'_>) -> Option<String> {
    match check::run(repository, &CheckOptions::default(), context) {
        Ok(report) if report.is_ok() => None,
        Ok(report) => Some(format!("check finds {:?}", report.findings)),
        Err(e) => Some(format!("check fails: {}", told(&e))),
    }
}
