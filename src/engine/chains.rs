//! Groups backups whose chains share a full index, so that one pass replays many of them.

use crate::base::limits::CHAIN_MANIFESTS_MAX;
use std::collections::BTreeSet;

/// Backups replayed in one pass, and the backups whose rows they need.
#[derive(Debug, Default)]
pub(crate) struct Batch<K> {
    /// Those that are replayed, in order.
    pub(crate) users: Vec<K>,
    /// Those whose rows are merged: the users and their chains.
    pub(crate) streams: BTreeSet<K>,
}

/// Makes batches of backups, each given with the chain before it, in order. A batch has at most
/// as many streams as one longest chain, so that its memory is that of one replay.
pub(crate) fn batches<K: Copy + Ord>(
    backups: impl IntoIterator<Item = (K, Vec<K>)>,
) -> Vec<Batch<K>> {
    let mut batches: Vec<Batch<K>> = Vec::new();
    for (backup, mut needed) in backups {
        let root = needed.first().copied().unwrap_or(backup);
        needed.push(backup);
        let fitting = batches.iter_mut().rev().find(|batch| {
            let new = needed.iter().filter(|link| !batch.streams.contains(link)).count();
            batch.streams.contains(&root) && batch.streams.len() + new <= CHAIN_MANIFESTS_MAX + 1
        });
        let batch = match fitting {
            Some(batch) => batch,
            None => {
                batches.push(Batch { users: Vec::new(), streams: BTreeSet::new() });
                let last = batches.len() - 1;
                &mut batches[last]
            }
        };
        batch.users.push(backup);
        batch.streams.extend(needed);
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backups_of_one_full_index_come_together_up_to_a_bound() {
        let chain = |n: u64| (n, (n / 70 * 70..n).collect::<Vec<_>>());
        let backups: Vec<_> = (0..65).map(chain).chain([chain(70), chain(71)]).collect();
        let batches = batches(backups);
        let users: Vec<usize> = batches.iter().map(|batch| batch.users.len()).collect();
        assert_eq!(users, [65, 2]);
        assert!(batches.iter().all(|batch| batch.streams.len() <= CHAIN_MANIFESTS_MAX + 1));
    }
}
