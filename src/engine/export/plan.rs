//! Turns the entries of a selection into pieces of an archive, each small enough to be held.

use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::limits::EXPORT_ITEM_BYTES;
use crate::base::path::EntryPath;
use crate::engine::export::supply::Supply;
use crate::engine::export::supply::Use;
use crate::engine::export::within::OpenFolders;
use crate::engine::restore::links::Links;
use crate::engine::restore::links::Name;
use crate::engine::restore::select::Picks;
use crate::engine::restore::select::Selection;
use crate::engine::restore::work::stops;
use crate::format::entry::Entry;
use crate::repository::Repository;
use crate::repository::runs::Runs;
use std::sync::Arc;

/// Runs of one piece at most: as many as one entry names without lists.
const PIECE_RUNS_MAX: usize = 1024;

/// A piece of the archive.
pub(super) enum Item {
    /// An entry with all of its content, which a further name of a file has not.
    Whole {
        /// The entry.
        entry: Box<Entry>,
        /// The first name of the file, of which this is a further one.
        link: Option<EntryPath>,
        /// Its content.
        content: Vec<Arc<Use>>,
    },
    /// A large file begins.
    Start(Box<Entry>, Vec<Arc<Use>>),
    /// It goes on.
    Piece(Vec<Arc<Use>>),
    /// It ends, well or not.
    End(Result<()>),
    /// An entry whose content cannot be told.
    Lost(EntryPath, Error),
}

/// Plans one item after the other.
pub(super) struct Planner<'a> {
    repository: &'a Repository,
    selection: &'a Selection<'a>,
    entries: Picks<'a>,
    supply: Supply<'a>,
    keeps_links: bool,
    links: Links,
    folders: OpenFolders,
    /// The rest of the large file that was begun.
    begun: Option<Runs>,
}

/// How far a piece of a file reaches.
enum Reach {
    /// To the end of the file.
    End,
    /// Not so far.
    Further,
}

impl<'a> Planner<'a> {
    /// Stands before the first entry.
    pub(super) fn new(
        repository: &'a Repository,
        selection: &'a Selection<'a>,
        supply: Supply<'a>,
        keeps_links: bool,
    ) -> Self {
        Planner {
            repository,
            selection,
            entries: selection.entries(),
            supply,
            keeps_links,
            links: Links::default(),
            folders: OpenFolders::default(),
            begun: None,
        }
    }

    /// Returns how many bytes are held for the items planned.
    pub(super) fn held_bytes(&self) -> u64 {
        self.supply.held_bytes()
    }

    /// Plans the next item.
    ///
    /// # Errors
    /// Those of the stream of entries, and what concerns more than one of them.
    pub(super) fn next_item(&mut self) -> Result<Option<Item>> {
        if let Some(mut runs) = self.begun.take() {
            let (content, reach) = self.piece(&mut runs);
            return Ok(Some(match reach {
                Err(e) => Item::End(Err(e)),
                Ok(Reach::End) if content.is_empty() => Item::End(Ok(())),
                Ok(_) => {
                    self.begun = Some(runs);
                    Item::Piece(content)
                }
            }));
        }
        let Some(picked) = self.entries.next().transpose()? else { return Ok(None) };
        let entry = Box::new(picked.entry);
        if let Err(e) = self.folders.admit(&entry) {
            return Ok(Some(Item::Lost(entry.path.clone(), e)));
        }
        let Some(file) = entry.file() else {
            return Ok(Some(Item::Whole { entry, link: None, content: Vec::new() }));
        };
        if let Some(name) = Name::of(&entry).filter(|_| self.keeps_links) {
            if let Some(first) = self.links.first_of(name, &entry, self.selection)? {
                let link = self.links.first(first);
                return Ok(Some(Item::Whole { entry, link, content: Vec::new() }));
            }
            self.links.remember(name, &entry.path);
        }
        let mut runs = self.repository.runs(file);
        let (content, reach) = self.piece(&mut runs);
        match reach {
            Ok(Reach::End) => Ok(Some(Item::Whole { entry, link: None, content })),
            Ok(Reach::Further) => {
                self.begun = Some(runs);
                Ok(Some(Item::Start(entry, content)))
            }
            Err(e) if stops(&e) => Err(e),
            Err(e) => Ok(Some(Item::Lost(entry.path.clone(), e))),
        }
    }

    /// Orders runs until they are as much as one piece may be.
    fn piece(&mut self, runs: &mut Runs) -> (Vec<Arc<Use>>, Result<Reach>) {
        let mut content = Vec::new();
        let held_before = self.supply.held_bytes();
        let mut bytes = 0;
        while content.len() < PIECE_RUNS_MAX && bytes < EXPORT_ITEM_BYTES {
            let run = match runs.next() {
                None => return (content, Ok(Reach::End)),
                Some(Err(e)) => return (content, Err(e)),
                Some(Ok(run)) => run,
            };
            bytes += run.bytes;
            match self.supply.order(run) {
                Ok(job) => content.push(job),
                Err(e) => return (content, Err(e)),
            }
            // Runs may be short and lie in very many blocks.
            if self.supply.held_bytes().saturating_sub(held_before) >= EXPORT_ITEM_BYTES {
                break;
            }
        }
        (content, Ok(Reach::Further))
    }
}
