//! Chooses the packs whose blocks are decoded, so that repeated runs take turns.
//!
//! Which packs were covered is kept in the cache. It is only a hint: without it the turn begins
//! anew.

use crate::base::id::PackId;
use crate::base::words::counted;
use crate::engine::check::Run;
use crate::engine::check::Severity;
use crate::engine::check::ledger::Ledger;
use crate::engine::check::packs::Job;
use crate::engine::check::stock::Stock;
use crate::repository::cache::CHECK_FILE;
use std::collections::HashSet;

/// Marks the jobs whose data is read, and drops those that nothing is read of.
pub(crate) fn choose(run: &Run<'_>, stock: &Stock, jobs: &mut Vec<Job>, ledger: &mut Ledger) {
    let Some(percent) = run.options.read_data else { return };
    if percent >= 100.0 {
        jobs.iter_mut().for_each(|job| job.data = true);
        return;
    }
    let mut covered: HashSet<PackId> = remembered(run);
    covered.retain(|pack| stock.there.contains_key(pack));
    let total: u64 = jobs.iter().map(|job| job.size).fold(0, u64::saturating_add);
    let wanted = (total as f64 * percent / 100.0).ceil() as u64;
    // Those that were not read yet come first; when none is left a new turn begins.
    let mut order: Vec<usize> = (0..jobs.len()).collect();
    order.sort_by_key(|&n| covered.contains(&jobs[n].pack));
    let mut chosen = 0;
    let mut bytes = 0;
    for n in order {
        if bytes >= wanted {
            break;
        }
        if jobs.iter().all(|job| covered.contains(&job.pack)) {
            covered.clear();
        }
        let job = &mut jobs[n];
        job.data = true;
        covered.insert(job.pack);
        bytes += job.size;
        chosen += 1;
    }
    let all = counted(jobs.len() as u64, "pack", "packs");
    let done = jobs.iter().filter(|job| covered.contains(&job.pack)).count();
    if chosen > 0 {
        let message = format!(
            "the data of {chosen} of {all} is read; this run and those before it cover {done}"
        );
        ledger.add(Severity::Note, "packs", message);
    }
    remember(run, &covered);
    jobs.retain(|job| job.data || run.options.read_packs);
}

fn remembered(run: &Run<'_>) -> HashSet<PackId> {
    let bytes = run.repository.cache().read(CHECK_FILE).unwrap_or_default();
    bytes.chunks_exact(PackId::LENGTH).filter_map(|id| PackId::from_slice(id).ok()).collect()
}

fn remember(run: &Run<'_>, covered: &HashSet<PackId>) {
    let mut ids: Vec<&PackId> = covered.iter().collect();
    ids.sort_unstable();
    let bytes: Vec<u8> = ids.into_iter().flat_map(|id| *id.as_bytes()).collect();
    run.repository.cache().write(CHECK_FILE, &bytes);
}
