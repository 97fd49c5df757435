//! Places that repair declared lost: a writer takes entries that touch them as modified, so that
//! the next backup heals them from the source.

use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::id::BlockId;
use crate::codec::frame::ObjectKind;
use crate::format::dataset::LostRecord;
use crate::format::entry::Entry;
use crate::format::entry::Run;
use crate::repository::Repository;
use crate::repository::layout;
use std::collections::HashMap;
use std::collections::HashSet;

/// All lost places of a repository; almost always none.
#[derive(Clone, Debug, Default)]
pub struct LostPlaces(HashMap<BlockId, Lost>);

#[derive(Clone, Debug)]
enum Lost {
    Whole,
    Places(HashSet<u32>),
}

impl LostPlaces {
    /// Says whether a place of a block is lost.
    pub fn contains(&self, block: &BlockId, place: u32) -> bool {
        match self.0.get(block) {
            None => false,
            Some(Lost::Whole) => true,
            Some(Lost::Places(places)) => places.contains(&place),
        }
    }

    /// Says whether any place of a run is lost.
    pub fn touches_run(&self, run: &Run) -> bool {
        match self.0.get(&run.block) {
            None => false,
            Some(Lost::Whole) => true,
            Some(Lost::Places(places)) => {
                places.iter().any(|&place| place >= run.first && place - run.first < run.count)
            }
        }
    }

    /// Says whether any content that an entry names directly is lost. For a file with lists of
    /// runs that is the lists; their own runs are looked at by repair, which loses the lists.
    pub fn touches(&self, entry: &Entry) -> bool {
        !self.0.is_empty()
            && entry
                .file()
                .is_some_and(|file| file.content.direct().iter().any(|run| self.touches_run(run)))
    }
}

impl Repository {
    /// Returns all lost places.
    ///
    /// # Errors
    /// Those of the backend; `Corrupt` for a record that cannot be read.
    pub fn lost_places(&self) -> Result<LostPlaces> {
        let mut lost = LostPlaces::default();
        for key in self.store().names_below(&layout::folder("lost")?)? {
            let record: LostRecord = self.store().get(ObjectKind::Lost, &key)?;
            let ids = record.blocks.chunks_exact(32);
            if ids.len() != record.places.len() {
                return Err(Error::corrupt(format!("{key} contradicts itself")));
            }
            for (id, places) in ids.zip(record.places) {
                let block = BlockId::from_slice(id)?;
                match lost.0.get_mut(&block) {
                    _ if places.is_empty() => drop(lost.0.insert(block, Lost::Whole)),
                    Some(Lost::Whole) => {}
                    Some(Lost::Places(known)) => known.extend(places),
                    None => {
                        lost.0.insert(block, Lost::Places(places.into_iter().collect()));
                    }
                }
            }
        }
        Ok(lost)
    }
}
