//! Replays the visible backups, many of one chain in one pass, and looks at every run.
//!
//! The backups that share a full index are merged together, so each range is decoded once,
//! however many backups it is part of. A row counts when it is the newest of its path for at
//! least one visible backup; content that only forgotten backups had may be gone.

use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::hash;
use crate::base::id::SnapshotHash;
use crate::base::path::EntryPath;
use crate::base::progress::Counter;
use crate::engine::chains;
use crate::engine::chains::Batch;
use crate::engine::check::Run;
use crate::engine::check::damage_of;
use crate::engine::check::datasets;
use crate::engine::check::datasets::View;
use crate::engine::check::ledger::Ledger;
use crate::engine::check::ledger::Sufferer;
use crate::engine::check::lengths;
use crate::engine::check::rows::LastBlock;
use crate::engine::check::rows::Rows;
use crate::engine::check::rows::Trouble;
use crate::engine::check::stock::Stock;
use crate::format::backup::BlobPlace;
use crate::format::entry;
use crate::format::entry::Content;
use crate::format::entry::Entry;
use crate::format::entry::FileNode;
use crate::format::range;
use crate::format::range::RangeRow;
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::collections::BinaryHeap;
use std::ops::ControlFlow;

/// What replaying one backup gives.
struct Tally {
    hasher: hash::Hasher,
    files: u64,
    entries: u64,
    bytes: u64,
}

/// Replays everything that is visible. `counts` says whether progress is told.
pub(crate) fn all(
    run: &Run<'_>,
    views: &[View],
    stock: &mut Stock,
    counts: bool,
) -> Result<Ledger> {
    let mut ledger = Ledger::default();
    for view in views {
        for mut batch in batches(view) {
            let mut found = Replay::new(run, view, &batch, counts)?.run(stock)?;
            // What was forgotten meanwhile may be pruned already, and that is no damage.
            while !found.is_empty() && forgotten_meanwhile(run, view, &mut batch)? {
                found = Replay::new(run, view, &batch, false)?.run(stock)?;
            }
            ledger.merge(found);
        }
    }
    Ok(ledger)
}

fn batches(view: &View) -> Vec<Batch<u64>> {
    let chains = view.visible().filter_map(|n| {
        let chain = &view.headers[n].chain;
        let is_whole = chain.iter().all(|link| view.headers.contains(*link));
        is_whole.then(|| (n, chain.to_vec()))
    });
    chains::batches(chains)
}

/// Takes out of a batch what is not visible any more; says whether there was such.
fn forgotten_meanwhile(run: &Run<'_>, view: &View, batch: &mut Batch<u64>) -> Result<bool> {
    let now = datasets::view(run, &view.named, &mut Ledger::default())?;
    let before = batch.users.len();
    batch.users.retain(|n| !now.is_forgotten(*n));
    let chains = batch.users.iter().flat_map(|n| view.headers[*n].chain.iter().chain([n]));
    batch.streams = chains.copied().collect();
    Ok(batch.users.len() < before)
}

/// One pass over one batch.
struct Replay<'a> {
    run: &'a Run<'a>,
    view: &'a View,
    visible: &'a [u64],
    /// Whether the backup at a position of `visible` needs the stream at a position.
    needs: Vec<Vec<bool>>,
    streams: Vec<Rows>,
    tallies: Vec<Tally>,
    lists: LastBlock,
    ledger: Ledger,
    counts: bool,
    /// Whether tables are read, to compare the lengths in them with what runs tell.
    compares_lengths: bool,
}

impl<'a> Replay<'a> {
    fn new(run: &'a Run<'a>, view: &'a View, batch: &'a Batch<u64>, counts: bool) -> Result<Self> {
        let mut ledger = Ledger::default();
        let mut streams = Vec::new();
        let needs = batch.users.iter().map(|n| {
            let chain = &view.headers[*n].chain;
            batch.streams.iter().map(|link| link == n || chain.contains(link)).collect()
        });
        let needs: Vec<Vec<bool>> = needs.collect();
        for (position, n) in batch.streams.iter().enumerate() {
            let kept = &view.headers[*n];
            match datasets::read_header(run, &kept.key, *n, None) {
                Ok(Some(header)) => streams.push(Rows::new(kept.key.clone(), header.body)),
                other => {
                    let why = match other.map_err(damage_of) {
                        Err(e) => e?.full_message(),
                        Ok(_) => Error::corrupt("it became a void").to_string(),
                    };
                    let users = users(view, &batch.users, |user| needs[user][position]);
                    ledger.damage(kept.key.as_str(), why);
                    ledger.suffer(kept.key.as_str(), users, None);
                    let nothing = crate::format::backup::Body::Inline(Vec::new());
                    let mut rows = Rows::new(kept.key.clone(), nothing);
                    rows.is_broken = true;
                    streams.push(rows);
                }
            }
        }
        let tally = |_| Tally { hasher: entry::snapshot_hasher(), files: 0, entries: 0, bytes: 0 };
        let tallies = batch.users.iter().map(tally).collect();
        let visible = &batch.users;
        let lists = LastBlock::default();
        let compares_lengths = run.options.read_packs || run.options.read_data.is_some();
        Ok(Replay {
            run,
            view,
            visible,
            needs,
            streams,
            tallies,
            lists,
            ledger,
            counts,
            compares_lengths,
        })
    }

    fn users(&self, needs: impl Fn(usize) -> bool) -> Vec<Sufferer> {
        users(self.view, self.visible, needs)
    }

    fn run(mut self, stock: &mut Stock) -> Result<Ledger> {
        let mut heads: BinaryHeap<Reverse<(EntryPath, usize)>> = BinaryHeap::new();
        let mut rows: Vec<Option<RangeRow>> = self.streams.iter().map(|_| None).collect();
        for stream in 0..self.streams.len() {
            self.advance(stream, stock, &mut heads, &mut rows)?;
        }
        let mut scratch = Vec::new();
        while let Some(Reverse((path, first))) = heads.pop() {
            let mut at_path = vec![first];
            while heads.peek().is_some_and(|Reverse((other, _))| *other == path) {
                at_path.extend(heads.pop().map(|Reverse((_, stream))| stream));
            }
            // The newest first; a heap gives equal paths by their streams, the oldest first.
            at_path.reverse();
            let mut left: Vec<usize> = (0..self.visible.len()).collect();
            for &stream in &at_path {
                let (live, rest) = left.into_iter().partition(|&user| self.needs[user][stream]);
                left = rest;
                if let Some(RangeRow::Put(_, tracked)) = &rows[stream] {
                    self.look_at(&tracked.entry, &live, stock, &mut scratch)?;
                }
            }
            for stream in at_path {
                self.advance(stream, stock, &mut heads, &mut rows)?;
            }
        }
        self.compare_with_headers();
        Ok(self.ledger)
    }

    fn advance(
        &mut self,
        stream: usize,
        stock: &mut Stock,
        heads: &mut BinaryHeap<Reverse<(EntryPath, usize)>>,
        rows: &mut [Option<RangeRow>],
    ) -> Result<()> {
        let row = loop {
            let mut troubles = Vec::new();
            let next = self.streams[stream].next(self.run, stock, &mut troubles)?;
            if !troubles.is_empty() {
                let users = self.users(|user| self.needs[user][stream]);
                self.note(troubles, &users);
            }
            if let ControlFlow::Break(row) = next {
                break row;
            }
        };
        heads.extend(row.as_ref().map(|row| Reverse((row.path().clone(), stream))));
        rows[stream] = row;
        Ok(())
    }

    fn note(&mut self, troubles: Vec<Trouble>, users: &[Sufferer]) {
        for trouble in troubles {
            if let Some(message) = trouble.message {
                self.ledger.add(trouble.severity, &trouble.object, message);
            }
            if trouble.hurts {
                let (path, users) = (trouble.path.as_ref(), users.iter().cloned());
                self.ledger.suffer_by(trouble.severity, &trouble.object, users, path);
            }
        }
    }

    /// Counts an entry for the backups that have it, and looks whether its content is there.
    fn look_at(
        &mut self,
        entry: &Entry,
        live: &[usize],
        stock: &mut Stock,
        scratch: &mut Vec<u8>,
    ) -> Result<()> {
        let is_folder = entry.kind() == crate::base::metadata::Kind::Directory;
        for &user in live {
            let tally = &mut self.tallies[user];
            entry.hash_into(&mut tally.hasher, scratch);
            tally.entries += 1;
            tally.files += u64::from(!is_folder);
            tally.bytes = tally.bytes.saturating_add(entry.size());
        }
        if self.counts && !is_folder {
            self.run.context.progress.count(Counter::Files, live.len() as u64);
        }
        let (Some(file), false) = (entry.file(), live.is_empty()) else { return Ok(()) };
        self.look_at_content(&entry.path, file, live, stock)
    }

    fn look_at_content(
        &mut self,
        path: &EntryPath,
        file: &FileNode,
        live: &[usize],
        stock: &mut Stock,
    ) -> Result<()> {
        let mut troubles = Vec::new();
        match &file.content {
            Content::Runs(runs) => {
                for run in runs {
                    self.touch(run, path, stock, &mut troubles)?;
                }
                let total = runs.iter().try_fold(0_u64, |sum, run| sum.checked_add(run.bytes));
                if total != Some(file.data_bytes()) {
                    let why = "the runs of a file do not add up to its length";
                    let object = self.view.headers[self.visible[live[0]]].key.as_str().to_owned();
                    troubles.push(Trouble::damage(object, why.to_owned(), Some(path)));
                }
            }
            Content::Listed(lists) => {
                let total = self.listed(lists, (path, file.data_bytes()), stock, &mut troubles)?;
                if total.is_some_and(|total| total != file.data_bytes()) {
                    let why = "the lists of runs of a file do not add up to its length";
                    let object = self.view.headers[self.visible[live[0]]].key.as_str().to_owned();
                    troubles.push(Trouble::damage(object, why.to_owned(), Some(path)));
                }
            }
        }
        if !troubles.is_empty() {
            let users = self.users(|user| live.contains(&user));
            self.note(troubles, &users);
        }
        Ok(())
    }

    /// Reads lists of runs and looks at what they name, until that is more than the file has.
    /// Returns how many bytes that is, or None when a list cannot be read.
    fn listed(
        &mut self,
        lists: &[entry::Run],
        (path, data_bytes): (&EntryPath, u64),
        stock: &mut Stock,
        troubles: &mut Vec<Trouble>,
    ) -> Result<Option<u64>> {
        let mut total = Some(0_u64);
        let mut told = 0_u64;
        let mut unread = BTreeSet::new();
        for list in lists {
            for place in list.first..list.first.saturating_add(list.count) {
                self.run.context.cancel.check()?;
                // A list may be named ever again; once is enough to say that it cannot be read.
                if unread.contains(&list.block) {
                    break;
                }
                let at = BlobPlace { block: list.block, place };
                let Some(blob) = self.lists.blob(self.run, stock, &at, Some(path), troubles)?
                else {
                    unread.insert(list.block);
                    total = None;
                    break;
                };
                let runs = match range::decode_run_list(&blob) {
                    Ok(runs) => runs,
                    Err(e) => {
                        let object = format!("block {}", list.block);
                        troubles.push(Trouble::damage(object, e.full_message(), Some(path)));
                        return Ok(None);
                    }
                };
                for run in &runs {
                    told = told.saturating_add(run.bytes);
                    if told > data_bytes {
                        return Ok(Some(told));
                    }
                    self.touch(run, path, stock, troubles)?;
                    total = total.map(|total| total + run.bytes);
                }
            }
        }
        Ok(total)
    }

    fn touch(
        &self,
        run: &entry::Run,
        path: &EntryPath,
        stock: &mut Stock,
        troubles: &mut Vec<Trouble>,
    ) -> Result<()> {
        let blamed = stock.blame(self.run.repository, run);
        if blamed.is_empty() && self.compares_lengths {
            troubles.extend(lengths::compare(self.run.repository, stock, run, path)?);
        }
        troubles.extend(blamed.into_iter().map(|blame| Trouble::of(blame, Some(path))));
        Ok(())
    }

    /// Compares what was replayed with what the headers say, but for backups that miss rows.
    fn compare_with_headers(&mut self) {
        for (user, n) in self.visible.iter().enumerate() {
            let misses_rows = self.streams.iter().zip(&self.needs[user]);
            if misses_rows.into_iter().any(|(stream, &needed)| needed && stream.is_broken) {
                continue;
            }
            let kept = &self.view.headers[*n];
            let tally = &self.tallies[user];
            let mut wrong = Vec::new();
            let counts = &kept.counts;
            for (what, told, found) in [
                ("files", counts.files, tally.files),
                ("entries", counts.entries, tally.entries),
                ("bytes", counts.bytes, tally.bytes),
            ] {
                if told != found {
                    wrong.push(format!("it tells of {told} {what}, and a replay gives {found}"));
                }
            }
            if SnapshotHash::new(tally.hasher.finish()) != kept.snapshot {
                wrong.push("the hash over its entries is another than a replay gives".to_owned());
            }
            for message in wrong {
                self.ledger.damage(kept.key.as_str(), message);
                self.ledger.suffer(kept.key.as_str(), [self.view.sufferer(*n)], None);
            }
        }
    }
}

fn users(view: &View, visible: &[u64], needs: impl Fn(usize) -> bool) -> Vec<Sufferer> {
    let used = visible.iter().enumerate().filter(|(user, _)| needs(*user));
    used.map(|(_, &n)| view.sufferer(n)).collect()
}
