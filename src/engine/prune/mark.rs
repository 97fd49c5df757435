//! The second half of a mark: replays what must stay, and marks every place it needs.
//!
//! Full index and manifests of a chain are merged in one sorted pass. A row is live when it is
//! the newest of its path for at least one root; so the content of forgotten versions is freed,
//! although their manifests stay as long as a root needs them.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::id::BlockId;
use crate::base::limits::PRUNE_ROUNDS_MAX;
use crate::base::path::EntryPath;
use crate::engine::Context;
use crate::engine::chains;
use crate::engine::chains::Batch;
use crate::engine::prune::marks::Marks;
use crate::format::entry::TrackedEntry;
use crate::format::range::RangeRow;
use crate::repository::Repository;
use crate::repository::fence::Observer;
use crate::repository::history::RowStream;
use crate::repository::lost::LostPlaces;
use crate::repository::roots::DatasetRoots;
use crate::repository::roots::HeaderAt;
use crate::repository::roots::Roots;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

/// What must stay, and the places it needs.
pub(super) struct Marked {
    pub(super) roots: Roots,
    pub(super) marks: Marks,
    pub(super) lost: Arc<LostPlaces>,
    /// Whether the index is known to lack packs: an object of it cannot be read, or something is
    /// lost, and repair has taken out of it the packs that were gone. Should they come back, the
    /// next repair names them again. With what holds lost ranges or lists those may be gone that
    /// only these name, so this goes for any pack.
    pub(super) index_lacks_some: bool,
}

/// Why a mark failed.
enum Trouble {
    /// The index does not know all of a block: it may have moved to another object just now.
    Unknown(BlockId),
    Other(Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Trouble::Other(error)
    }
}

/// Marks.
///
/// # Errors
/// Those of the backend; `Corrupt` when something that must stay cannot be read, as what it
/// needs is unknown then; `Busy` when that is so only of forgotten backups that leases name.
pub(super) fn mark(
    repository: &Repository,
    observer: &Observer<'_>,
    context: &Context<'_>,
) -> Result<Marked> {
    let (mut round, mut has_failed) = (0, false);
    let error = loop {
        round += 1;
        let roots = repository.roots(observer).map_err(cannot_tell)?;
        match mark_from(repository, roots, context) {
            Ok(marked) => return Ok(marked),
            Err(Trouble::Unknown(_)) if round < PRUNE_ROUNDS_MAX => {}
            // A backup that was forgotten and freed since the roots were listed is none any more.
            Err(Trouble::Other(error)) if error.kind().is_unreadable() && !has_failed => {
                has_failed = true
            }
            Err(Trouble::Unknown(block)) => {
                let message =
                    format!("no pack index names all places of block {block} that are needed");
                break cannot_tell(Error::corrupt(message));
            }
            Err(Trouble::Other(error)) => break error,
        }
    };
    match error.kind().is_unreadable() {
        true => Err(blamed(repository, observer, context, error)?),
        false => Err(error),
    }
}

/// Tells damage from what only forgotten backups lack that leases hold. Whoever put a lease when
/// its backup, or its parent, was forgotten and freed already sees that when it looks again, and
/// lets go: until then, or when it has died in between, that backup is not whole.
fn blamed(
    repository: &Repository,
    observer: &Observer<'_>,
    context: &Context<'_>,
    error: Error,
) -> Result<Error> {
    let mut roots = repository.roots(observer).map_err(cannot_tell)?;
    let held = held_by(&roots);
    if held.is_empty() {
        return Ok(error);
    }
    roots.leave_out_held();
    match mark_from(repository, roots, context) {
        Err(Trouble::Other(e)) if !e.kind().is_unreadable() => Err(e),
        Err(_) => Ok(error),
        Ok(_) => Ok(busy(&held, error)),
    }
}

/// Says which forgotten backups leases hold, and whose they are.
fn held_by(roots: &Roots) -> Vec<String> {
    let mut held = Vec::new();
    for dataset in &roots.datasets {
        for (n, lease) in &dataset.held {
            let Some(record) = roots.leases.get(lease).map(|seen| &seen.record) else { continue };
            let (name, process) = (dataset.dataset.name(), &record.process);
            held.push(format!(
                "{name}@{n} by process {} on {} ({}; lease {lease})",
                process.pid, process.host, record.purpose
            ));
        }
    }
    held
}

fn busy(held: &[String], why: Error) -> Error {
    let which =
        if held.len() == 1 { "a forgotten backup" } else { "one of these forgotten backups" };
    let message = format!("{which} is not whole any more, and still held: {}", held.join("; "));
    Error::new(ErrorKind::Busy, message)
        .hint(
            "whoever has just begun lets go in a moment, others when they end; where one has \
             died, `icecore prune --end-lease LEASE` says so",
        )
        .at(Origin::Repository)
        .caused_by(why)
}

fn cannot_tell(error: Error) -> Error {
    if !error.kind().is_unreadable() {
        return error;
    }
    error
        .context("cannot tell what must stay, so nothing is deleted")
        .hint("`icecore check` says what is damaged, `icecore repair` cures what can be")
        .at(Origin::Repository)
}

fn mark_from(
    repository: &Repository,
    roots: Roots,
    context: &Context<'_>,
) -> std::result::Result<Marked, Trouble> {
    let lost = Arc::new(repository.lost_places()?);
    // After the headers: whatever a header needs was indexed before the header was put.
    repository.refresh_index()?;
    let index_lacks_some = !lost.is_empty() || !repository.index().damaged().is_empty();
    let marks = Marks::new(repository.index().view(), &repository.cache().path(""));
    let mut marking = Marking { repository, context, marks, lost };
    for dataset in &roots.datasets {
        let named = dataset.roots.iter().map(|(root, chain)| {
            let chain: Vec<HeaderAt> = chain.iter().map(|link| (*link, 0)).collect();
            (*root, chain)
        });
        for batch in chains::batches(named) {
            marking.replay(dataset, &batch)?;
        }
    }
    Ok(Marked { marks: marking.marks, lost: marking.lost, index_lacks_some, roots })
}

struct Marking<'a> {
    repository: &'a Repository,
    context: &'a Context<'a>,
    marks: Marks,
    lost: Arc<LostPlaces>,
}

impl Marking<'_> {
    fn replay(
        &mut self,
        dataset: &DatasetRoots,
        batch: &Batch<HeaderAt>,
    ) -> std::result::Result<(), Trouble> {
        let mut streams: Vec<RowStream> = Vec::new();
        for at in &batch.streams {
            let header = dataset.header(*at).map_err(cannot_tell)?.header;
            self.mark_metadata(&header.body)?;
            streams.push(self.repository.rows_of(&header.body, &self.lost));
        }
        let needs: Vec<Vec<bool>> = batch
            .users
            .iter()
            .map(|user| {
                let chain = dataset.chain(*user);
                let is_in = |link: &HeaderAt| link.1 == 0 && chain.contains(&link.0);
                batch.streams.iter().map(|link| link == user || is_in(link)).collect()
            })
            .collect();
        self.merge(&mut streams, &needs).map_err(|trouble| match trouble {
            Trouble::Other(e) => {
                let name = dataset.dataset.name();
                Trouble::Other(cannot_tell(e.context(format!("cannot replay {name}"))))
            }
            unknown @ Trouble::Unknown(_) => unknown,
        })
    }

    /// Merges the streams, the newest row of a path first, and marks those that some user needs.
    fn merge(
        &mut self,
        streams: &mut [RowStream],
        needs: &[Vec<bool>],
    ) -> std::result::Result<(), Trouble> {
        let mut heads: BinaryHeap<Reverse<(EntryPath, Reverse<usize>)>> = BinaryHeap::new();
        let mut rows: Vec<Option<RangeRow>> = streams.iter().map(|_| None).collect();
        let mut starved: Vec<usize> = (0..streams.len()).collect();
        loop {
            for stream in starved.drain(..) {
                let row = streams[stream].next().transpose()?;
                let path = row.as_ref().map(|row| row.path().clone());
                heads.extend(path.map(|path| Reverse((path, Reverse(stream)))));
                rows[stream] = row;
            }
            let Some(Reverse((path, Reverse(newest)))) = heads.pop() else { return Ok(()) };
            self.context.cancel.check()?;
            starved.push(newest);
            while let Some(Reverse((other, Reverse(stream)))) = heads.peek()
                && *other == path
            {
                starved.push(*stream);
                heads.pop();
            }
            let mut left: Vec<usize> = (0..needs.len()).collect();
            for &stream in &starved {
                let before = left.len();
                left.retain(|&user| !needs[user][stream]);
                if left.len() == before {
                    continue;
                }
                if let Some(RangeRow::Put(_, tracked)) = &rows[stream] {
                    self.mark_entry(tracked)?;
                }
            }
        }
    }

    fn mark_metadata(
        &mut self,
        body: &crate::format::backup::Body,
    ) -> std::result::Result<(), Trouble> {
        let (marks, lost) = (&mut self.marks, &self.lost);
        let mut unknown = None;
        self.repository
            .visit_metadata(body, lost, &mut |at| {
                let end = at.place.saturating_add(1);
                if !marks.set(&at.block, at.place..end, None, lost) {
                    unknown.get_or_insert(at.block);
                }
                Ok(())
            })
            .map_err(cannot_tell)?;
        unknown.map_or(Ok(()), |block| Err(Trouble::Unknown(block)))
    }

    fn mark_entry(&mut self, tracked: &TrackedEntry) -> std::result::Result<(), Trouble> {
        let Some(file) = tracked.entry.file() else { return Ok(()) };
        let (marks, lost) = (&mut self.marks, &self.lost);
        let mut unknown = None;
        self.repository.visit_runs(file, lost, &mut |run| {
            let end = run.first.checked_add(run.count);
            let places = end.map(|end| run.first..end);
            let set = |places| marks.set(&run.block, places, Some(run.bytes), lost);
            if !places.is_some_and(set) {
                unknown.get_or_insert(run.block);
            }
            Ok(())
        })?;
        unknown.map_or(Ok(()), |block| Err(Trouble::Unknown(block)))
    }
}
