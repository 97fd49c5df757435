//! Copies one backup: an attempt as a backup makes one, fed from another repository.

use crate::base::cancel::Cancel;
use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::id::BackupId;
use crate::base::limits::COMMIT_TRIES_MAX;
use crate::engine::Context;
use crate::engine::Failures;
use crate::engine::backup::BackupOptions;
use crate::engine::backup::attempt::Attempt;
use crate::engine::backup::attempt::CopyOf;
use crate::engine::backup::attempt::Ended;
use crate::engine::copy::CopiedBackup;
use crate::engine::copy::Wanted;
use crate::engine::copy::feed::Feed;
use crate::engine::copy::feed::Trouble;
use crate::engine::copy::known::Carried;
use crate::engine::copy::known::Taken;
use crate::engine::copy::plan::Chosen;
use crate::engine::copy::plan::Line;
use crate::format::backup::Original;
use crate::repository::Repository;
use crate::repository::datasets::Backup;
use crate::repository::datasets::Dataset;
use crate::repository::history::Snapshot;
use crate::repository::transaction::LeanOn;
use crate::source::Scan;
use crate::source::Source;
use crate::source::SourceReader;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

/// Where the data of a backup came from, which nobody reads again.
struct Former(String);

impl Source for Former {
    fn location(&self) -> String {
        self.0.clone()
    }

    fn detects_changes(&self) -> bool {
        true
    }

    fn scan(&self, _cancel: &Cancel) -> Result<Scan<'_>> {
        Err(Error::bug("a copy reads no source"))
    }

    fn reader(&self) -> Result<Box<dyn SourceReader + Send + '_>> {
        Err(Error::bug("a copy reads no source"))
    }
}

/// Copies the backups of one dataset, one after the other.
pub(super) struct Copier<'a> {
    source: &'a Repository,
    target: &'a Repository,
    wanted: &'a Wanted,
    context: &'a Context<'a>,
    carried: Carried,
    read_bytes: AtomicU64,
}

/// Where one backup goes.
struct Place<'p> {
    dataset: &'p Dataset,
    /// Which one the newest backup there is.
    newest: Option<Original>,
    /// The number that it must get, or the plan is out of date.
    next: BackupId,
}

impl<'a> Copier<'a> {
    pub(super) fn new(
        source: &'a Repository,
        target: &'a Repository,
        wanted: &'a Wanted,
        context: &'a Context<'a>,
    ) -> Self {
        let carried = Carried::default();
        Copier { source, target, wanted, context, carried, read_bytes: AtomicU64::new(0) }
    }

    /// Returns how many bytes of blocks and tables were read.
    pub(super) fn read_bytes(&self) -> u64 {
        self.read_bytes.load(Ordering::Relaxed)
    }

    /// Returns the dataset that is copied into, which is made when it is new.
    ///
    /// # Errors
    /// Those of the target.
    pub(super) fn target_dataset(&self) -> Result<Dataset> {
        self.target.dataset_or_new(self.wanted.dataset.name(), self.context.clock.now())
    }

    /// Copies a backup; None when it cannot get the number `next` any more.
    ///
    /// # Errors
    /// Of origin source when the backup cannot be read; those of the target; `Busy`; `Cancelled`.
    pub(super) fn copy(
        &mut self,
        dataset: &Dataset,
        line: &Line,
        chosen: &Chosen,
        newest: Option<Original>,
        next: BackupId,
    ) -> Result<Option<CopiedBackup>> {
        let at_source = |e: Error| e.at(Origin::Source);
        let from = &self.wanted.dataset;
        let number = chosen.number;
        let purpose = format!("copy of {}@{}", from.name(), number.0);
        let now = self.context.clock.now();
        // While it stands, no prune takes away what is read here.
        let lease = self.source.read_lease(from, number, &purpose, now).map_err(at_source)?;
        let backup = from.backup(&line.numbers, number).map_err(at_source);
        let place = Place { dataset, newest, next };
        let copied = backup.and_then(|backup| match backup {
            Some(backup) => self.copy_pinned(line, Arc::new(backup), chosen, &place),
            None => {
                let message = format!("{number} of {} was forgotten just now", from.name());
                Err(at_source(Error::new(ErrorKind::NotFound, message)))
            }
        });
        if let Some(lease) = lease {
            lease.give_back();
        }
        copied
    }

    fn copy_pinned(
        &mut self,
        line: &Line,
        backup: Arc<Backup>,
        chosen: &Chosen,
        place: &Place<'_>,
    ) -> Result<Option<CopiedBackup>> {
        let from = &self.wanted.dataset;
        let snapshot = from.snapshot(&line.numbers, backup).map_err(|e| e.at(Origin::Source))?;
        let mut base = self.base(line, place.newest);
        let mut lean_on = LeanOn::Parent;
        for _ in 0..COMMIT_TRIES_MAX {
            let trouble = Trouble::default();
            let mut taken = Taken::default();
            let feed = Feed {
                source: self.source,
                snapshot: &snapshot,
                base: base.as_ref(),
                newest: place.newest,
                next: place.next,
                carried: &self.carried,
                taken: &mut taken,
                read_bytes: &self.read_bytes,
                trouble: &trouble,
            };
            let ended = self.attempt(&snapshot, chosen, place.dataset, lean_on, feed);
            match ended {
                Ok(Ended::Done(report)) => {
                    self.carried.remember(taken.into_iter().map(|(from, (_, to))| (from, to)));
                    let (to, counts) = (report.backup, report.counts);
                    return Ok(Some(CopiedBackup { from: chosen.number, to, counts }));
                }
                Ok(Ended::Again) => return Ok(None),
                Ok(Ended::Unreadable(_)) => lean_on = LeanOn::Nothing,
                Err(_) if trouble.is_overtaken() => return Ok(None),
                // Whatever is wrong with that one, this one may be whole.
                Err(_) if trouble.has_lost_base() && base.is_some() => base = None,
                Err(e) => return Err(e),
            }
        }
        Ok(None)
    }

    fn attempt(
        &self,
        snapshot: &Snapshot,
        chosen: &Chosen,
        dataset: &Dataset,
        lean_on: LeanOn,
        feed: Feed<'_>,
    ) -> Result<Ended> {
        let backup = snapshot.backup();
        let header = &backup.header;
        let options = BackupOptions {
            // Also one that equals the one before is a backup that somebody made.
            allow_unchanged: true,
            tags: backup.tags.clone(),
            description: backup.description.clone(),
            time: Some(header.started),
            host: Some(header.host.clone()),
            ..BackupOptions::default()
        };
        let former = Former(header.source.clone());
        let failures = Failures::new(self.context.progress);
        let mut attempt = Attempt::prepare(
            dataset,
            &former,
            &options,
            self.context,
            &failures,
            header.read_from,
            lean_on,
        )?;
        attempt.copy_of =
            Some(CopyOf { original: chosen.origin, ended: header.ended, counts: header.counts });
        attempt.run_on(|attempt, committer| feed.run(attempt, committer))
    }

    /// Returns the backup of the source that the target's newest is a copy of, as far as it can
    /// still be told.
    fn base(&self, line: &Line, newest: Option<Original>) -> Option<Snapshot> {
        let (newest, from) = (newest?, &self.wanted.dataset);
        let is_from_here = (newest.repository, newest.dataset) == (self.source.id(), from.id());
        let number = match line.known.get(&newest) {
            Some(number) => *number,
            // It may be forgotten and still be there.
            None => is_from_here.then_some(newest.number)?,
        };
        let found = from.even_hidden(&line.numbers, number).ok().flatten()?;
        let is_it = found.header.origin(self.source.id()) == newest;
        is_it.then(|| from.snapshot(&line.numbers, Arc::new(found)).ok()).flatten()
    }
}
