//! What stops a prune: a store that shows less than it holds makes what is hidden look unneeded.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::id::LeaseId;
use crate::base::id::PackId;
use crate::engine::prune::Work;
use crate::engine::prune::mark::Marked;
use crate::engine::prune::plan;
use crate::engine::prune::plan::Stock;
use crate::repository::doom::Tombstones;
use crate::repository::lease::SeenLease;
use std::collections::HashMap;
use std::collections::HashSet;

impl Work<'_> {
    /// A dataset that this machine has seen and that is not listed now: the store may be showing
    /// less than it holds.
    pub(super) fn guard_datasets(&self, marked: &Marked) -> Result<()> {
        self.expect_own(&marked.roots.leases)?;
        let Some(missing) = marked.roots.missing.first() else { return Ok(()) };
        if self.options.force {
            return Ok(());
        }
        let message = format!(
            "dataset {missing} had backups when last seen from here and shows fewer or none now; \
             nothing was deleted"
        );
        Err(Error::new(ErrorKind::Denied, message).hint(
            "if the store lost it, `icecore check` says what is affected; --force prunes all the \
             same, and deletes what only that dataset needs",
        ))
    }

    /// Most of the repository would go, and no forgotten backup or dead writer explains it.
    pub(super) fn guard_share(&self, marked: &Marked, stock: &Stock) -> Result<()> {
        let plan = &self.report.plan;
        let explained = marked.roots.forgotten_bytes();
        let explained = explained.saturating_add(self.left_by_the_dead(marked, &stock.there));
        self.refuse_most(plan.freed_bytes.saturating_sub(explained), plan.bytes)
    }

    /// What an earlier prune doomed went through the guard then, and may have lost since what it
    /// was to be copied for: only what that prune meant to free is explained by it.
    pub(super) fn guard_doomed(
        &self,
        olds: &Tombstones,
        marked: &Marked,
        there: &HashMap<PackId, u64>,
    ) -> Result<()> {
        let doomed = olds.packs();
        let freed = plan::dead_bytes(&marked.marks, &doomed, there);
        let meant = olds.records.iter().fold(0_u64, |sum, it| sum.saturating_add(it.freed_bytes));
        let gone = plan::gone_bytes(&marked.marks, &doomed, there);
        let explained = meant.saturating_sub(gone).saturating_add(marked.roots.forgotten_bytes());
        let explained = explained.saturating_add(self.left_by_the_dead(marked, there));
        self.refuse_most(freed.saturating_sub(explained), there.values().sum())
    }

    fn refuse_most(&self, unexplained: u64, bytes: u64) -> Result<()> {
        if self.options.force || unexplained <= bytes / 2 {
            return Ok(());
        }
        let message = format!(
            "{unexplained} of {bytes} bytes would go, and no forgotten backup explains it; \
             nothing was deleted"
        );
        Err(Error::new(ErrorKind::Denied, message).hint(
            "an interrupted backup leaves such bytes, and running it again goes on with them; \
             `icecore list` shows whether a dataset is missing; --force deletes them",
        ))
    }

    /// Bytes of packs under leases that were ended, or not named by any index while such lie
    /// about: what their writers left.
    fn left_by_the_dead(&self, marked: &Marked, there: &HashMap<PackId, u64>) -> u64 {
        let view = marked.marks.view();
        let is_left = |lease: &LeaseId| marked.roots.leases.contains_key(lease);
        let mut named = HashSet::new();
        let mut bytes = 0_u64;
        for (index, lease, _) in view.objects() {
            for pack in view.packs_of(&index) {
                if named.insert(pack.pack) && is_left(&lease) {
                    bytes = bytes.saturating_add(pack.size);
                }
            }
        }
        let is_writer = |seen: &SeenLease| seen.record.number.is_some();
        if marked.roots.leases.values().any(is_writer) {
            let unnamed = there.iter().filter(|(pack, _)| !named.contains(*pack));
            bytes = unnamed.fold(bytes, |sum, (_, size)| sum.saturating_add(*size));
        }
        bytes
    }
}
