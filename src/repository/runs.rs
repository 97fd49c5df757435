//! The runs of a file's data, one after the other. Lists of runs are read one by one, so that a
//! file with very many takes no more memory than any other.

use crate::base::error::Error;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::id::BlockId;
use crate::format::entry::Content;
use crate::format::entry::FileNode;
use crate::format::entry::Run;
use crate::format::range;
use crate::repository::Repository;
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
