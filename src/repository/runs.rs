//! The runs of a file's data, one after the other, and the blobs that metadata is made of. Lists
//! of runs are read one by one, so that a file with very many takes no more memory than any
//! other, and none once they say too much.

use crate::base::error::Error;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::id::BlockId;
use crate::format::backup;
use crate::format::backup::BlobPlace;
use crate::format::backup::Body;
use crate::format::backup::RangeRef;
use crate::format::entry::Content;
use crate::format::entry::FileNode;
use crate::format::entry::Run;
use crate::format::range;
use crate::repository::Repository;
use crate::repository::lost::LostPlaces;
use std::collections::VecDeque;

/// Streams the runs of a file's data. It ends with the first error.
pub struct Runs {
    repository: Repository,
    /// Stretches of places that hold lists of runs.
    lists: VecDeque<(BlockId, u32, u32)>,
    runs: std::vec::IntoIter<Run>,
    /// Bytes of the file that no run has named yet.
    left: u64,
    is_over: bool,
}

impl Repository {
    /// Streams the runs of a file's data. That they add up to the file shows at the end.
    pub fn runs(&self, file: &FileNode) -> Runs {
        let (lists, runs) = match &file.content {
            Content::Runs(runs) => (VecDeque::new(), runs.clone()),
            Content::Listed(lists) => {
                let stretch = |run: &Run| (run.block, run.first, run.count);
                (lists.iter().map(stretch).collect(), Vec::new())
            }
        };
        let left = file.data_bytes();
        Runs { repository: self.clone(), lists, runs: runs.into_iter(), left, is_over: false }
    }

    /// Returns all runs of a file's data.
    ///
    /// # Errors
    /// Those of reading lists; `Corrupt` when the runs do not add up to the file.
    pub fn runs_of(&self, file: &FileNode) -> Result<Vec<Run>> {
        self.runs(file).collect()
    }

    /// Visits all runs of a file's data.
    ///
    /// # Errors
    /// Those of reading lists and of `visit`; `Corrupt` when the runs do not add up to the file.
    pub fn for_each_run(
        &self,
        file: &FileNode,
        visit: &mut dyn FnMut(&Run) -> Result<()>,
    ) -> Result<()> {
        self.runs(file).try_for_each(|run| visit(&run?))
    }

    /// Shows every blob of metadata that a body names: lists, ranges, companions.
    ///
    /// # Errors
    /// Those of reading lists, and of `visit`.
    pub fn visit_metadata(
        &self,
        body: &Body,
        lost: &LostPlaces,
        visit: &mut dyn FnMut(&BlobPlace) -> Result<()>,
    ) -> Result<()> {
        let ranges = |ranges: &[RangeRef], visit: &mut dyn FnMut(&BlobPlace) -> Result<()>| {
            ranges.iter().try_for_each(|range| {
                visit(&range.range)?;
                visit(&range.companion)
            })
        };
        match body {
            Body::Inline(_) => Ok(()),
            Body::Ranges(named) => ranges(named, visit),
            Body::Lists(lists) => lists.iter().try_for_each(|list| {
                if lost.contains(&list.block, list.place) {
                    return Ok(());
                }
                visit(list)?;
                let blob = self.read_blob(&list.block, list.place)?;
                ranges(&backup::decode_range_list(&blob)?, visit)
            }),
        }
    }

    /// Shows every run that a file needs: its own, its lists of runs, and the runs they name.
    ///
    /// # Errors
    /// Those of reading lists, and of `visit`.
    pub fn visit_runs(
        &self,
        file: &FileNode,
        lost: &LostPlaces,
        visit: &mut dyn FnMut(&Run) -> Result<()>,
    ) -> Result<()> {
        let lists = match &file.content {
            Content::Runs(runs) => return runs.iter().try_for_each(visit),
            Content::Listed(lists) => lists,
        };
        for list in lists {
            visit(list)?;
            for place in list.first..list.first.saturating_add(list.count) {
                if !lost.contains(&list.block, place) {
                    let blob = self.read_blob(&list.block, place)?;
                    range::decode_run_list(&blob)?.iter().try_for_each(&mut *visit)?;
                }
            }
        }
        Ok(())
    }
}

impl Runs {
    fn next_run(&mut self) -> Result<Option<Run>> {
        loop {
            if let Some(run) = self.runs.next() {
                // One of no bytes would cost nothing to write down, and work to read.
                let left = self.left.checked_sub(run.bytes).filter(|_| run.bytes > 0);
                self.left = left.ok_or_else(not_adding_up)?;
                return Ok(Some(run));
            }
            let Some((block, first, count)) = self.lists.pop_front() else {
                return if self.left == 0 { Ok(None) } else { Err(not_adding_up()) };
            };
            if count == 0 {
                continue;
            }
            if let Some(next) = first.checked_add(1) {
                self.lists.push_front((block, next, count - 1));
            }
            let blob = self.repository.read_blob(&block, first)?;
            self.runs = range::decode_run_list(&blob)?.into_iter();
        }
    }
}

impl Iterator for Runs {
    type Item = Result<Run>;
    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let run = self.next_run().map_err(|e| e.at(Origin::Repository)).transpose();
        self.is_over = !matches!(run, Some(Ok(_)));
        run
    }
}

fn not_adding_up() -> Error {
    Error::corrupt("the runs of a file do not add up to its length").at(Origin::Repository)
}
