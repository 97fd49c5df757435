//! From a scan to the committer: one thread makes units, others work on them, and this one takes
//! what comes of them, in order.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::panic::caught;
use crate::engine::backup::attempt::Attempt;
use crate::engine::backup::read::Worker;
use crate::engine::backup::scan::Journal;
use crate::engine::backup::scan::Producer;
use crate::engine::backup::store::Committer;
use crate::engine::backup::unit::Unit;
use crate::engine::backup::unit::UnitResult;
use crate::engine::backup::unit::is_kept;
use crate::engine::backup::unit::kept;
use crate::engine::compare::Comparison;
use crate::engine::pool;
use crate::repository::saved::SavedKind;
use crate::repository::saved::SavedReader;
use crate::source::Scan;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::mpsc;
use std::thread::Builder;

/// Units under way for each worker: one being worked on, one waiting to be committed.
const UNITS_PER_WORKER: usize = 2;

impl Attempt<'_> {
    /// Drives producer, workers and committer until all units are in.
    ///
    /// # Errors
    /// Those of the repository; `Cancelled`.
    pub(super) fn pump(&self, scan: Scan<'_>, committer: &mut Committer<'_>) -> Result<()> {
        if self.source.is_stream() {
            // What cannot be read twice is not begun on a parent that turns out unreadable later.
            self.previous_entries()?.try_for_each(|tracked| tracked.map(drop))?;
        }
        let threads = self.context.threads.max(self.source.parallel()).max(1);
        let checked = self.checked();
        let journal = self.saved(SavedKind::Journal);
        let journal_rules = self.rules(journal.as_ref().map_or(checked, SavedReader::checked));
        let journal = Journal::new(journal, journal_rules);
        let comparison = Comparison::new(scan, self.previous_entries()?, self.rules(checked));
        let (to_workers, units) = mpsc::channel::<Unit>();
        let units = Mutex::new(units);
        let (to_committer, results) = mpsc::channel::<Result<UnitResult>>();
        let (permit, permits) = mpsc::channel::<()>();
        for _ in 0..threads * UNITS_PER_WORKER + 1 {
            // The receiver is right here.
            let _ = permit.send(());
        }
        let producer = Producer::new(self, journal, to_workers, permits);
        // Each worker takes one sender and drops it when it ends, so that the committer sees the
        // end of all of them.
        let senders = Mutex::new(vec![to_committer; threads]);
        std::thread::scope(|scope| {
            let producing = Builder::new()
                .spawn_scoped(scope, || producer.run(comparison))
                .map_err(|e| Error::new(ErrorKind::Io, format!("no threads: {e}")))?;
            let work = |_| {
                let sender = senders.lock().unwrap_or_else(PoisonError::into_inner).pop();
                if let Some(sender) = sender {
                    self.work(&units, &sender);
                }
            };
            let collected = pool::beside(threads, work, || collect(results, permit, committer));
            let produced = producing.join().unwrap_or_else(|_| Err(Error::bug("scan panicked")));
            collected?.and_then(|units| match produced {
                Ok(made) if made == units => Ok(()),
                Ok(_) => Err(Error::bug("units were lost on the way")),
                Err(e) => Err(e),
            })
        })
    }

    fn work(
        &self,
        units: &Mutex<mpsc::Receiver<Unit>>,
        results: &mpsc::Sender<Result<UnitResult>>,
    ) {
        let mut worker = None;
        loop {
            let next = units.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(unit) = next else { return };
            // A unit of which nothing is heard would be waited for.
            let result = caught("a worker", || self.process(unit, &mut worker));
            let failed = result.is_err();
            if results.send(result).is_err() || failed {
                return;
            }
        }
    }

    fn process<'s>(&'s self, unit: Unit, worker: &mut Option<Worker<'s>>) -> Result<UnitResult> {
        if unit.items.iter().all(is_kept) {
            return Ok(kept(unit));
        }
        let worker = match worker {
            Some(worker) => worker,
            slot => slot.insert(Worker::new(
                self.transaction()?,
                &self.lost,
                self.source.reader()?,
                self.failures,
                self.context,
            )?),
        };
        worker.process(unit)
    }
}

/// Takes results as they come and hands them on in order; each lets the producer make one more
/// unit. Returns how many there were.
fn collect(
    results: mpsc::Receiver<Result<UnitResult>>,
    permit: mpsc::Sender<()>,
    committer: &mut Committer<'_>,
) -> Result<u64> {
    let mut early: BTreeMap<u64, UnitResult> = BTreeMap::new();
    let mut next = 0;
    while let Ok(result) = results.recv() {
        let result = result?;
        early.insert(result.number, result);
        while let Some(result) = early.remove(&next) {
            committer.take(result)?;
            next += 1;
            // The producer may have made its last unit.
            let _ = permit.send(());
        }
    }
    if early.is_empty() {
        return Ok(next);
    }
    Err(Error::bug("a unit was lost on the way"))
}
