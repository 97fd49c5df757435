//! Chooses the packs whose blocks are decoded, so that repeated runs take turns.
//!
//! Which packs were read, and whether they were sound, is kept in the cache. It is only a hint:
//! without it the turn begins anew.

use crate::base::id::PackId;
use crate::base::words::counted;
use crate::engine::check::Run;
use crate::engine::check::Severity;
use crate::engine::check::ledger::Ledger;
use crate::engine::check::packs::Job;
use crate::engine::check::stock::Stock;
use crate::repository::remembered::PacksRead;

/// A part of the packs that is read in this run.
pub(crate) struct Sample {
    /// The packs of this turn, those of this run among them.
    covered: PacksRead,
    chosen: Vec<PackId>,
    all: u64,
}

/// Marks the jobs whose data is read, and drops those that nothing is read of. Returns what is to
/// be remembered when they were read, where that is not all.
pub(crate) fn choose(run: &Run<'_>, stock: &Stock, jobs: &mut Vec<Job>) -> Option<Sample> {
    let percent = run.options.read_data?;
    if percent >= 100.0 {
        jobs.iter_mut().for_each(|job| job.data = true);
        return None;
    }
    let mut covered = run.repository.packs_read();
    covered.retain(|pack, _| stock.there.contains_key(pack));
    let total: u64 = jobs.iter().map(|job| job.size).fold(0, u64::saturating_add);
    let wanted = (total as f64 * percent / 100.0).ceil() as u64;
    // First what was damaged, or the next run would find nothing and say so; then what was not
    // read yet. When none of that is left a new turn begins.
    let mut order: Vec<usize> = (0..jobs.len()).collect();
    order.sort_by_key(|&n| match covered.get(&jobs[n].pack) {
        Some(false) => 0,
        None => 1,
        Some(true) => 2,
    });
    let mut chosen = Vec::new();
    let mut bytes = 0;
    for n in order {
        if bytes >= wanted {
            break;
        }
        if jobs.iter().all(|job| covered.contains_key(&job.pack)) {
            covered.clear();
        }
        let job = &mut jobs[n];
        job.data = true;
        covered.insert(job.pack, true);
        bytes += job.size;
        chosen.push(job.pack);
    }
    let all = jobs.len() as u64;
    jobs.retain(|job| job.data || run.options.read_packs);
    Some(Sample { covered, chosen, all })
}

impl Sample {
    /// Takes notice that all of it was read.
    pub(crate) fn was_read(mut self, run: &Run<'_>, stock: &Stock, ledger: &mut Ledger) {
        if !self.chosen.is_empty() {
            let (chosen, covered) = (self.chosen.len(), self.covered.len());
            let all = counted(self.all, "pack", "packs");
            let message = format!(
                "the data of {chosen} of {all} is read; this run and those before it cover \
                 {covered}"
            );
            ledger.add(Severity::Note, "packs", message);
        }
        // A new turn may have begun behind it.
        let hurt = self.chosen.into_iter().filter(|pack| stock.is_hurt(pack));
        self.covered.extend(hurt.map(|pack| (pack, false)));
        run.repository.remember_packs_read(&self.covered);
    }
}
