//! What a prune leaves on its way: what looks damaged while one is at work is looked at again, as
//! it may move blocks to other packs while they are looked for in the old ones.

use crate::backend::key::ObjectKey;
use crate::base::error::Result;
use crate::base::planted;
use crate::base::planted::Rule;
use crate::engine::check::Run;
use crate::repository::layout;
use std::collections::HashSet;

/// How often a repository is looked at that prunes change meanwhile.
const LOOKS_MAX: usize = 3;

/// A prune puts a tombstone first, and takes away indexes near the end.
#[derive(PartialEq, Eq)]
struct Traces {
    indexes: HashSet<ObjectKey>,
    tombstones: HashSet<ObjectKey>,
}

impl Traces {
    fn look(run: &Run<'_>) -> Result<Self> {
        let store = run.repository.store();
        let list = |folder| Ok(store.names_below(&layout::folder(folder)?)?.into_iter().collect());
        Ok(Traces { indexes: list("index")?, tombstones: list("tombstones")? })
    }

    /// Says whether a prune has begun, gone on or ended between two looks.
    fn tell_of_a_prune(&self, before: &Traces) -> bool {
        self.tombstones != before.tombstones || !self.indexes.is_superset(&before.indexes)
    }
}

/// Looks until nothing is wrong, or no prune was at work meanwhile. Returns the last look, and
/// says whether it is such a one: after so many the prunes have not come to an end.
pub(crate) fn until_still<T>(
    run: &Run<'_>,
    look: &mut dyn FnMut() -> Result<T>,
    is_whole: impl Fn(&T) -> bool,
) -> Result<(T, bool)> {
    let mut looks = 0;
    loop {
        let before = Traces::look(run)?;
        let seen = look()?;
        let is_still = is_whole(&seen)
            || !planted::keeps(Rule::ChecksTwice)
            || !Traces::look(run)?.tell_of_a_prune(&before);
        looks += 1;
        if is_still || looks == LOOKS_MAX {
            return Ok((seen, is_still));
        }
    }
}
