//! Writes the files of a window, on all threads: each takes one stretch of a pack at a time.
//!
//! Making files is what costs most, so whoever has the content of a file makes it: a file
//! whose content lies in one block, as nearly all do, is made, written, given its metadata and
//! closed by one thread at once. Of any other, the first to have content makes it, and the last
//! one to write finishes it.

use crate::base::error::Error;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::engine::restore::compare::may_open;
use crate::engine::restore::fetch;
use crate::engine::restore::fetch::Member;
use crate::engine::restore::fetch::Stretch;
use crate::engine::restore::reads;
use crate::engine::restore::window::FileJob;
use crate::engine::restore::window::How;
use crate::engine::restore::window::Use;
use crate::engine::restore::window::Window;
use crate::engine::restore::work::Work;
use crate::engine::restore::work::stops;
use crate::repository::blocks::Block;
use crate::target::Expected;
use crate::target::TargetWriter;
use std::ops::Range;

/// Files without content that are made in one go.
const BARE_FILES: usize = 64;

/// Writes the files of a window; what fails is marked in them and reported.
///
/// # Errors
/// What concerns more than one entry.
pub(super) fn run(work: &Work<'_>, window: &mut Window) -> Result<()> {
    let blocks = reads::by_block(&mut window.uses);
    let (members, reads) = plan_reads(work, window, blocks)?;
    let is_bare = |number: &usize| {
        let file = &window.files[*number];
        !file.has_uses && file.progress().left == 0
    };
    let bare: Vec<usize> = (0..window.files.len()).filter(is_bare).collect();
    let bare: Vec<&[usize]> = bare.chunks(BARE_FILES).collect();
    let start = || Worker::start(work, window);
    work.in_parallel(reads.len() + bare.len(), &start, &|worker, number| {
        if let Some(read) = reads.get(number) {
            return worker.read(&members[read.clone()]);
        }
        let files = bare[number - reads.len()].iter().map(|&file| &worker.window.files[file]);
        files.into_iter().try_for_each(|file| worker.visit(file, &[], None))
    })
}

/// Finds the blocks of a window, sorts them by pack and offset, and joins neighbours.
fn plan_reads(
    work: &Work<'_>,
    window: &Window,
    blocks: Vec<Range<usize>>,
) -> Result<(Vec<Member>, Vec<Range<usize>>)> {
    let find = |block| Member::find(work.repository, &window.uses, block);
    let mut members: Vec<Member> = blocks.into_iter().map(find).collect::<Result<_>>()?;
    members.sort_by_key(|member| (member.location.is_none(), member.spot()));
    let spots: Vec<_> = members.iter().filter_map(Member::spot).collect();
    let bytes = match work.is_far {
        true => work.bounds.read_bytes,
        false => reads::read_bytes(&spots, work.threads(), work.bounds.read_bytes),
    };
    let mut reads = reads::joined(&spots, bytes);
    reads.extend((spots.len()..members.len()).map(|number| number..number + 1));
    Ok((members, reads))
}

/// One thread with its writer and its buffers.
pub(super) struct Worker<'w, 'a> {
    pub(super) work: &'w Work<'a>,
    pub(super) window: &'w Window,
    pub(super) writer: Box<dyn TargetWriter + Send + 'w>,
    /// Whether the writer has a file open.
    pub(super) is_open: bool,
    /// Bytes read back from the target.
    pub(super) scratch: Vec<u8>,
    /// A buffer for decoded blocks.
    plain: Vec<u8>,
}

/// A decoded block, and which of its places were verified.
struct Supply {
    block: Block,
    verified: Vec<bool>,
}

impl Supply {
    fn new(block: Block) -> Self {
        let verified = vec![false; block.table.places() as usize];
        Supply { block, verified }
    }

    /// Verifies all blobs of some uses, each once.
    fn verify(&mut self, work: &Work<'_>, uses: &[Use]) -> Result<()> {
        for one in uses {
            for place in one.first..one.first.saturating_add(one.count) {
                if self.verified.get(place as usize) != Some(&true) {
                    self.block.blob(work.repository, place)?;
                    self.verified[place as usize] = true;
                }
            }
            fetch::stretch_of(&self.block, one)?;
        }
        Ok(())
    }
}

/// What is known of a block after its first copy was tried.
enum Source {
    /// A copy, some places of which may be bad.
    Copy(Supply),
    /// This copy is of no use; others may be.
    Untried,
    /// No copy is of any use, and why.
    Gone(String),
}

impl<'w, 'a> Worker<'w, 'a> {
    fn start(work: &'w Work<'a>, window: &'w Window) -> Result<Self> {
        Ok(Worker {
            work,
            window,
            writer: work.target.writer()?,
            is_open: false,
            scratch: Vec::new(),
            plain: Vec::new(),
        })
    }

    /// Writes everything that is wanted of some neighbouring blocks.
    fn read(&mut self, members: &[Member]) -> Result<()> {
        let window = self.window;
        let repository = self.work.repository;
        // A comparison may find that it wants no block at all.
        let compares = |one: &Use| matches!(window.files[one.file as usize].how, How::Compare(_));
        let may_want_none =
            members.iter().any(|m| window.uses[m.uses.clone()].iter().any(compares));
        let mut both = match may_want_none {
            true => None,
            false => Stretch::of_both(repository, members, self.work.bounds.read_bytes),
        };
        let tables = fetch::tables(repository, &window.uses, members, both.as_mut());
        let mut wanted: Vec<(usize, Range<usize>)> = Vec::new();
        for (number, member) in members.iter().enumerate() {
            for uses in reads::by_file(&window.uses, member.uses.clone()) {
                let own = &window.uses[uses.clone()];
                if !self.needs_nothing(own, &tables[number])? {
                    wanted.push((number, uses));
                }
            }
        }
        let (Some((first, _)), Some((last, _))) = (wanted.first(), wanted.last()) else {
            return Ok(());
        };
        let mut stretch =
            both.map_or_else(|| Stretch::of_blocks(repository, &members[*first..=*last]), Ok);
        for group in wanted.chunk_by(|a, b| a.0 == b.0) {
            let number = group[0].0;
            let plain = std::mem::take(&mut self.plain);
            let block = match (&mut stretch, &tables[number]) {
                (Ok(stretch), Ok(table)) => {
                    stretch.decode(repository, &members[number], table, plain).ok()
                }
                _ => None,
            };
            let mut source =
                block.map_or(Source::Untried, |block| Source::Copy(Supply::new(block)));
            for (_, uses) in group {
                self.deliver(&mut source, &window.uses[uses.clone()])?;
            }
            if let Source::Copy(supply) = source {
                self.plain = supply.block.plain;
            }
        }
        Ok(())
    }

    /// Writes what one file wants of one block, from whichever copy is good.
    fn deliver(&mut self, source: &mut Source, uses: &[Use]) -> Result<()> {
        let (work, window) = (self.work, self.window);
        let file = &window.files[uses[0].file as usize];
        if let Source::Copy(supply) = source
            && supply.verify(work, uses).is_ok()
        {
            return self.visit(file, uses, Some(&supply.block));
        }
        if let Source::Gone(why) = source {
            let error = Error::corrupt(why.clone()).at(Origin::Repository);
            return self.settle(file, uses.len(), Err(error));
        }
        let id = uses[0].block;
        let places: Vec<(u32, u32)> = uses.iter().map(|one| (one.first, one.count)).collect();
        let error = match work.repository.read_block(&id, &places) {
            Ok(block) => return self.visit(file, uses, Some(&block)),
            Err(e) if stops(&e) => return Err(e),
            Err(e) => e,
        };
        if matches!(source, Source::Untried) {
            // Not to look for every file anew: either some copy is good for some of them, or
            // none is for any.
            let any = work.repository.with_copy(&id, &mut |at| work.repository.read_copy(at));
            *source = match any {
                Ok(block) => Source::Copy(Supply::new(block)),
                Err(e) => Source::Gone(e.full_message()),
            };
        }
        self.settle(file, uses.len(), Err(error))
    }

    /// Writes some uses of a file, and finishes it when they were the last.
    fn visit(&mut self, file: &FileJob, uses: &[Use], block: Option<&Block>) -> Result<()> {
        let filled = self.fill(file, uses, block);
        self.settle(file, uses.len(), filled)
    }

    fn fill(&mut self, file: &FileJob, uses: &[Use], block: Option<&Block>) -> Result<()> {
        if let How::Compare(before) = &file.how
            && !may_open(before, self.work.is_dry)
        {
            return Ok(());
        }
        self.open(file)?;
        let Some(block) = block.filter(|_| self.is_open) else { return Ok(()) };
        for one in uses {
            let stretch = fetch::stretch_of(block, one)?;
            match file.how {
                How::Create | How::Replace => {
                    self.write(file, one.offset, &block.plain[stretch])?;
                }
                How::Compare(_) => self.rewrite(file, one, block)?,
            }
            self.work.count_done(one.bytes);
        }
        Ok(())
    }

    /// Opens a file, and makes it first where nobody did yet. One that is lost stays closed.
    pub(super) fn open(&mut self, file: &FileJob) -> Result<()> {
        self.work.context.progress.working_on(&file.path);
        let mut progress = file.progress();
        if progress.lost {
            return Ok(());
        }
        let is_there = progress.made || matches!(file.how, How::Compare(_));
        if is_there {
            drop(progress);
            self.writer.open_file(&file.path)?;
        } else {
            match file.how {
                How::Replace => self.writer.replace_file(&file.path)?,
                How::Create | How::Compare(_) => self.writer.create_file(&file.path)?,
            }
            progress.made = true;
        }
        self.is_open = true;
        self.writer.expect(&Expected {
            size: file.layout.size(),
            mark: file.mark,
            metadata: &file.metadata,
            rules: self.work.rules(),
        });
        Ok(())
    }

    /// Closes the file, if one is open.
    pub(super) fn close(&mut self) -> Result<()> {
        if std::mem::take(&mut self.is_open) { self.writer.close_file() } else { Ok(()) }
    }

    /// Writes content where it belongs.
    pub(super) fn write(&mut self, file: &FileJob, offset: u64, bytes: &[u8]) -> Result<()> {
        let mut rest = bytes;
        for piece in file.layout.pieces(offset, bytes.len() as u64) {
            let (now, later) = rest.split_at(piece.length as usize);
            self.writer.write_at(piece.offset, now)?;
            rest = later;
        }
        self.work.count_written(bytes.len() as u64);
        Ok(())
    }

    /// Takes `count` uses of a file for done, well or not, and finishes it after the last.
    pub(super) fn settle(
        &mut self,
        file: &FileJob,
        count: usize,
        outcome: Result<()>,
    ) -> Result<()> {
        if let Err(e) = outcome {
            self.lose(file, e)?;
        }
        let count = count as u64;
        // Whoever is last goes on with the open file; all others close it before they say so.
        let is_last = file.progress().left == count;
        if !is_last && let Err(e) = self.close() {
            self.lose(file, e)?;
        }
        let (left, lost) = {
            let mut progress = file.progress();
            progress.left -= count;
            (progress.left, progress.lost)
        };
        if left > 0 {
            return Ok(());
        }
        if !lost {
            match self.finish(file) {
                Ok(untold) => {
                    file.progress().done = true;
                    self.work.tell(&file.path, untold);
                    self.work.count_restored(file.layout.size());
                    self.work.count_done(holes_bytes(file));
                    return Ok(());
                }
                Err(e) => self.lose(file, e)?,
            }
        }
        self.discard(file)
    }

    /// Reports a file that cannot be restored, once.
    fn lose(&mut self, file: &FileJob, error: Error) -> Result<()> {
        // The failure at hand is the one to report.
        let _ = self.close();
        let mut progress = file.progress();
        if stops(&error) {
            return Err(error);
        }
        let is_at_once = self.work.target.writes_in_place();
        let was_changed = progress.changed && is_at_once && !self.work.is_dry;
        if std::mem::replace(&mut progress.lost, true) {
            return Ok(());
        }
        drop(progress);
        let error = match was_changed {
            true => error.context("it now holds some of the backup and some of what it was"),
            false => error,
        };
        self.work.fail(&file.path, error)
    }

    /// Removes what was made of a file that cannot be restored, or what was to change it.
    fn discard(&mut self, file: &FileJob) -> Result<()> {
        // It goes away.
        let _ = self.close();
        let was_made = file.progress().made;
        let removed = match was_made {
            true => self.writer.remove(&file.path),
            false => self.writer.abandon(&file.path),
        };
        file.progress().done = true;
        removed
            .or_else(|e| self.work.fail(&file.path, e.context("cannot remove an unfinished file")))
    }

    fn finish(&mut self, file: &FileJob) -> Result<Vec<String>> {
        if let How::Compare(before) = &file.how {
            return self.finish_compared(file, before);
        }
        if !self.is_open {
            self.open(file)?;
        }
        if file.layout.size() > file.layout.data_end() {
            self.writer.set_length(file.layout.size())?;
        }
        self.is_open = false;
        self.writer.finish_file(&file.metadata, self.work.rules())
    }
}

fn holes_bytes(file: &FileJob) -> u64 {
    file.layout.holes().map(|hole| hole.length).sum()
}
