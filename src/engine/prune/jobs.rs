//! Copies that are to be made, and in which order.

use crate::base::id::BlockId;
use crate::base::limits::COPY_WINDOW_BYTES;
use crate::engine::prune::marks::Live;
use crate::repository::index::Location;
use std::cmp::Reverse;
use std::collections::HashMap;

/// A copy that is to be made: from where, and which places.
pub(super) struct Job {
    pub(super) location: Location,
    pub(super) live: Live,
}

/// Returns jobs in their order, but behind all others those of blocks of which another one has
/// more, the largest first.
pub(super) fn largest_first(jobs: &[Job]) -> Vec<&Job> {
    let mut largest: HashMap<BlockId, usize> = HashMap::new();
    for (nth, job) in jobs.iter().enumerate() {
        let most = largest.entry(job.location.row.block).or_insert(nth);
        if job.live.count() > jobs[*most].live.count() {
            *most = nth;
        }
    }
    let mut ordered: Vec<(usize, &Job)> = jobs.iter().enumerate().collect();
    ordered.sort_by_key(|(nth, job)| {
        let is_largest = largest.get(&job.location.row.block) == Some(nth);
        (!is_largest).then_some(Reverse(job.live.count()))
    });
    ordered.into_iter().map(|(_, job)| job).collect()
}

/// Returns the jobs of the first pack, for which the least has to be copied.
pub(super) fn of_one_pack(jobs: &[Job]) -> &[Job] {
    let mut packs = jobs.chunk_by(|one, next| one.location.pack.pack == next.location.pack.pack);
    packs.next().unwrap_or(jobs)
}

/// Returns how many bytes the blocks of jobs have where they are.
pub(super) fn bytes_of(jobs: &[Job]) -> u64 {
    jobs.iter().map(|job| u64::from(job.location.row.length)).sum()
}

/// Returns how many of the jobs fit into one window; at least one.
pub(super) fn window_of(jobs: &[&Job]) -> usize {
    let mut bytes = 0;
    let fits = jobs.iter().take_while(|job| {
        bytes += u64::from(job.location.row.length) + u64::from(job.location.row.plain_length);
        bytes <= COPY_WINDOW_BYTES
    });
    fits.count().max(1)
}
