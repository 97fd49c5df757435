//! Places that repair declared lost: a writer takes entries that touch them as modified, so that
//! the next backup heals them from the source.

use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::id::BlockId;
use crate::base::id::PackId;
use crate::codec::frame::ObjectKind;
use crate::format::dataset::LostRecord;
use crate::format::entry::Content;
use crate::format::entry::Entry;
use crate::format::entry::Run;
use crate::format::pack_index::IndexedPack;
use crate::repository::Repository;
use crate::repository::doom::Tombstones;
use crate::repository::layout;
use crate::repository::rescue;
use std::collections::HashMap;
use std::collections::HashSet;
use std::fmt;

/// All places that are lost; almost always none.
#[derive(Clone, Default)]
pub struct LostPlaces {
    blocks: HashMap<BlockId, Lost>,
    /// Where lists of runs are read from.
    repository: Option<Repository>,
}

#[derive(Clone, Debug)]
enum Lost {
    /// All places but these, which are back: how many places the block has is not known.
    AllBut(HashSet<u32>),
    Places(HashSet<u32>),
}

impl Lost {
    fn contains(&self, place: u32) -> bool {
        match self {
            Lost::AllBut(back) => !back.contains(&place),
            Lost::Places(places) => places.contains(&place),
        }
    }
}

impl fmt::Debug for LostPlaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(&self.blocks).finish()
    }
}

impl LostPlaces {
    /// Says whether nothing is lost.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Says whether a place of a block is lost.
    pub fn contains(&self, block: &BlockId, place: u32) -> bool {
        self.blocks.get(block).is_some_and(|lost| lost.contains(place))
    }

    /// Says whether any place of a run is lost.
    pub fn touches_run(&self, run: &Run) -> bool {
        match self.blocks.get(&run.block) {
            None => false,
            Some(lost @ Lost::AllBut(_)) => {
                (run.first..run.first.saturating_add(run.count)).any(|place| lost.contains(place))
            }
            Some(Lost::Places(places)) => {
                places.iter().any(|&place| place >= run.first && place - run.first < run.count)
            }
        }
    }

    /// Says whether any content of an entry is lost; of a file with lists of runs the lists are
    /// read for it, and one that cannot be read is lost.
    pub fn touches(&self, entry: &Entry) -> bool {
        let Some(file) = entry.file().filter(|_| !self.is_empty()) else { return false };
        let hits = |runs: &[Run]| runs.iter().any(|run| self.touches_run(run));
        if hits(file.content.direct()) {
            return true;
        }
        match (&file.content, &self.repository) {
            (Content::Listed(_), Some(repository)) => {
                repository.runs_of(file).map_or(true, |runs| hits(&runs))
            }
            _ => false,
        }
    }

    fn declare(&mut self, block: BlockId, places: Vec<u32>) {
        match self.blocks.get_mut(&block) {
            _ if places.is_empty() => {
                drop(self.blocks.insert(block, Lost::AllBut(HashSet::new())));
            }
            Some(Lost::AllBut(_)) => {}
            Some(Lost::Places(known)) => known.extend(places),
            None => drop(self.blocks.insert(block, Lost::Places(places.into_iter().collect()))),
        }
    }
}

impl Repository {
    /// Returns all places that were declared lost and are so still: a backup that reads a file
    /// again may store the very block anew.
    ///
    /// # Errors
    /// Those of the backend; `Corrupt` for a record that cannot be read.
    pub fn lost_places(&self) -> Result<LostPlaces> {
        let mut lost = LostPlaces::default();
        for key in self.store().names_below(&layout::folder("lost")?)? {
            let read = self.store().get::<LostRecord>(ObjectKind::Lost, &key);
            let record = read.map_err(|e| e.hint("`icecore repair` puts it right"))?;
            let ids = record.blocks.chunks_exact(32);
            if ids.len() != record.places.len() {
                return Err(Error::corrupt(format!("{key} contradicts itself")));
            }
            for (id, places) in ids.zip(record.places) {
                lost.declare(BlockId::from_slice(id)?, places);
            }
        }
        if !lost.is_empty() {
            self.leave_out_what_is_back(&mut lost)?;
            lost.repository = Some(self.clone());
        }
        Ok(lost)
    }

    /// A copy in a doomed pack counts when it verifies: nothing new leans on it, but what is live
    /// in it is copied before the pack goes, unless it is taken for lost. That an index names it
    /// is not enough, as repair dooms packs in which some of what an index names cannot be read.
    fn leave_out_what_is_back(&self, lost: &mut LostPlaces) -> Result<()> {
        self.refresh_index()?;
        let doomed = Tombstones::list(self.store())?.packs();
        let mut there: HashMap<PackId, bool> = HashMap::new();
        let mut is_there = |pack: &IndexedPack| match there.get(&pack.pack) {
            Some(&is_there) => Ok(is_there),
            None => {
                let is_there = self.pack_exists(&pack.pack, pack.size)?;
                there.insert(pack.pack, is_there);
                Ok::<bool, Error>(is_there)
            }
        };
        let mut back = Vec::new();
        for (block, declared) in &mut lost.blocks {
            for copy in self.index().find_named(block) {
                if !is_there(&copy.pack)? {
                    continue;
                }
                let places = (0..copy.row.places).filter(|&place| copy.row.has_place(place));
                let places: HashSet<u32> = places.filter(|&it| declared.contains(it)).collect();
                if places.is_empty() {
                    continue;
                }
                if doomed.contains(&copy.pack.pack) {
                    match rescue::verify_copy(self, &copy, &|place| places.contains(&place)) {
                        Ok(()) => {}
                        Err(e) if e.kind().is_unreadable() => {
                            continue;
                        }
                        Err(e) => return Err(e),
                    }
                }
                match declared {
                    Lost::AllBut(_) if copy.row.present.is_empty() => back.push(*block),
                    Lost::AllBut(known) => known.extend(places),
                    Lost::Places(left) => left.retain(|place| !places.contains(place)),
                }
            }
            if matches!(declared, Lost::Places(places) if places.is_empty()) {
                back.push(*block);
            }
        }
        back.iter().for_each(|block| drop(lost.blocks.remove(block)));
        Ok(())
    }
}
