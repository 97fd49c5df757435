//! Little that claims to be much: time and memory stay bounded. Each runs in a process of its own
//! with a gigabyte of addresses.

use crate::hostile::forge::back_up;
use crate::hostile::forge::block_of;
use crate::hostile::forge::confined;
use crate::hostile::forge::entry;
use crate::hostile::forge::soon;
use crate::hostile::forge::store;
use crate::support::restored::options;
use crate::support::world::World;
use icecore::base::cancel::Cancel;
use icecore::base::error::ErrorKind;
use icecore::base::id::BlockId;
use icecore::base::id::IndexId;
use icecore::base::id::LeaseId;
use icecore::base::id::PackId;
use icecore::base::metadata::Extent;
use icecore::base::path::EntryPath;
use icecore::codec::frame::ObjectKind;
use icecore::engine::check;
use icecore::engine::check::CheckOptions;
use icecore::engine::list;
use icecore::engine::restore;
use icecore::format::entry::Content;
use icecore::format::entry::EntryNode;
use icecore::format::entry::FileNode;
use icecore::format::entry::Run;
use icecore::format::pack::BlockRow;
use icecore::format::pack_index;
use icecore::format::pack_index::IndexedPack;
use icecore::format::range;
use icecore::repository::layout;
use icecore::target::memory::MemoryTarget;

fn run(block: BlockId, first: u32, count: u32, bytes: u64) -> Run {
    Run { block, first, count, bytes }
}

fn file(path: &str, size: u64, content: Content) -> icecore::format::entry::Entry {
    let node = FileNode { size, cut: 0, hard_link: None, extents: None, content };
    entry(path, EntryNode::File(node))
}

/// Runs of no bytes cost nothing to write down and time to follow.
#[test]
fn runs_of_nothing_are_refused() {
    confined("hostile::bombs::runs_of_nothing_are_refused", || {
        for world in World::both() {
            let empty: Vec<&[u8]> = vec![b""; 5000];
            let hollow = store(&world, &empty);
            let nothing = vec![run(hollow, 0, 5000, 0); 2000];
            back_up(&world, vec![file("hollow", 0, Content::Runs(nothing))]);
            let hardly = vec![run(hollow, 0, 5000, 1); 2000];
            back_up(&world, vec![file("hollow", 2000, Content::Runs(hardly))]);
            soon(move || {
                let failed = restore::run(
                    &world.snapshot(0),
                    &MemoryTarget::new(),
                    &options(),
                    &world.context(),
                );
                assert_eq!(failed.expect_err("refused").kind(), ErrorKind::Corrupt);
                let target = MemoryTarget::new();
                let lost = restore::run(&world.snapshot(1), &target, &options(), &world.context());
                assert_eq!(lost.expect("runs").errors.len(), 1, "the file cannot be restored");
                assert!(world.repository.table(&hollow).is_err(), "no block has empty places");
            });
        }
    });
}

/// A file of so many bytes names a list of this run over and over: that is damage, and found soon.
fn is_refused_in_lists(size: u64, run_of: fn(BlockId) -> Run) {
    for world in World::both() {
        let content = store(&world, &[b"x"]);
        let list = range::encode_run_list(&vec![run_of(content); 20_000]).expect("encodes");
        let lists = store(&world, &[&list]);
        let named = vec![run(lists, 0, 1, list.len() as u64); 20_000];
        back_up(&world, vec![file("listed", size, Content::Listed(named))]);
        soon(move || {
            let snapshot = world.snapshot(0);
            let path = EntryPath::new(b"listed").expect("a path");
            let cancel = Cancel::new();
            let error = list::cat(&snapshot, &path, &mut Vec::new(), &cancel).expect_err("refused");
            assert_eq!(error.kind(), ErrorKind::Corrupt);
            let report = check::run(&world.repository, &CheckOptions::default(), &world.context());
            assert!(!report.expect("checks").findings.is_empty());
        });
    }
}

/// Lists of runs that name nothing, named over and over: memory for each of the runs.
#[test]
fn lists_of_runs_of_nothing_are_refused() {
    confined("hostile::bombs::lists_of_runs_of_nothing_are_refused", || {
        is_refused_in_lists(0, |content| run(content, 0, 0, 0));
    });
}

/// A list that is right in itself, named by a small file ever again.
#[test]
fn lists_that_say_more_than_the_file_holds_end_early() {
    confined("hostile::bombs::lists_that_say_more_than_the_file_holds_end_early", || {
        is_refused_in_lists(3, |content| run(content, 0, 1, 1));
    });
}

fn row(block: BlockId, offset: u32) -> BlockRow {
    BlockRow {
        block,
        offset,
        length: 10,
        plain_length: 1,
        table_offset: 1000,
        table_length: 10,
        places: 65536,
        number: 0,
        class: 0,
        present: vec![0x7f; 8192],
        hooks: vec![],
    }
}

fn put_index(world: &World, packs: &[IndexedPack], rows: &[(u32, &BlockRow)]) {
    let plain = pack_index::encode(LeaseId::new([0; 16]), packs, rows).expect("encodes");
    let id = IndexId::new(icecore::base::sys::random().expect("random"));
    let key = layout::index(&id).expect("a key");
    let sealer = world.repository.store().sealer();
    let bytes = sealer.seal(ObjectKind::PackIndex, key.as_str(), &plain).expect("seals");
    world.backend.insert_raw(&key, bytes);
    world.repository.refresh_index().expect("refreshes");
}

/// An index that names a hundred thousand copies of one block, beside the one that is there.
#[test]
fn a_block_with_very_many_copies_is_found_or_given_up_soon() {
    confined("hostile::bombs::a_block_with_very_many_copies_is_found_or_given_up_soon", || {
        for world in World::both() {
            let block = store(&world, &[b"x"]);
            back_up(&world, vec![file("x", 1, Content::Runs(vec![run(block, 0, 1, 1)]))]);
            let pack = IndexedPack { pack: PackId::new([7; 32]), size: 5000, salt: [0; 32] };
            let rows: Vec<BlockRow> =
                (0..200_000).map(|n| BlockRow { present: vec![], ..row(block, n + 100) }).collect();
            let rows: Vec<(u32, &BlockRow)> = rows.iter().map(|row| (0, row)).collect();
            put_index(&world, &[pack], &rows);
            soon(move || {
                let _ = world.repository.read_blob(&block, 0);
                let options = CheckOptions { read_packs: true, ..CheckOptions::default() };
                let report = check::run(&world.repository, &options, &world.context());
                assert!(!report.expect("checks").findings.is_empty());
            });
        }
    });
}

/// Ten kilobytes that claim to be an index of a hundred megabytes of nothing.
#[test]
fn an_index_of_nothing_but_zeros_is_refused() {
    confined("hostile::bombs::an_index_of_nothing_but_zeros_is_refused", || {
        for world in World::both() {
            let block = BlockId::new([0; 32]);
            let pack = IndexedPack { pack: PackId::new([0; 32]), size: 0, salt: [0; 32] };
            let rows: Vec<BlockRow> = (0..300_000_u32)
                .map(|n| {
                    let mut id = *block.as_bytes();
                    id[..4].copy_from_slice(&n.to_be_bytes());
                    BlockRow { present: vec![], ..row(BlockId::new(id), 100) }
                })
                .collect();
            let rows: Vec<(u32, &BlockRow)> = rows.iter().map(|row| (0, row)).collect();
            put_index(&world, &[pack], &rows);
            assert_eq!(
                world.repository.index().damaged().len(),
                1,
                "it is no index to be believed"
            );
        }
    });
}

/// A person who has enough of the zeros of a hole of an exbibyte can stop them.
#[test]
fn endless_zeros_can_be_stopped() {
    confined("hostile::bombs::endless_zeros_can_be_stopped", || {
        for world in World::both() {
            let node = FileNode {
                size: 1 << 60,
                cut: 0,
                hard_link: None,
                extents: Some(vec![]),
                content: Content::Runs(vec![]),
            };
            back_up(&world, vec![entry("hole", EntryNode::File(node))]);
            soon(move || {
                let cancel = Cancel::new();
                let mut out = StopAfter { left: 100, cancel: cancel.clone() };
                let path = EntryPath::new(b"hole").expect("a path");
                let error =
                    list::cat(&world.snapshot(0), &path, &mut out, &cancel).expect_err("stopped");
                assert_eq!(error.kind(), ErrorKind::Cancelled);
            });
        }
    });
}

struct StopAfter {
    left: usize,
    cancel: Cancel,
}

impl std::io::Write for StopAfter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self.left.checked_sub(1) {
            Some(left) => self.left = left,
            None => self.cancel.cancel(),
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Extents that stand at the very end of what can be counted.
#[test]
fn extents_at_the_end_of_all_offsets_are_no_panic() {
    confined("hostile::bombs::extents_at_the_end_of_all_offsets_are_no_panic", || {
        for world in World::both() {
            let block = store(&world, &[b"x"]);
            let node = FileNode {
                size: u64::MAX,
                cut: 0,
                hard_link: None,
                extents: Some(vec![Extent { offset: u64::MAX - 1, length: 1 }]),
                content: Content::Runs(vec![run(block, 0, 1, 1)]),
            };
            back_up(&world, vec![entry("end", EntryNode::File(node))]);
            soon(move || {
                let folder = tempfile::tempdir().expect("a folder");
                let target = icecore::target::local::LocalTarget::new(folder.path());
                let report =
                    restore::run(&world.snapshot(0), &target, &options(), &world.context())
                        .expect("runs");
                assert_eq!(report.errors.len(), 1, "no file system has so long files");
                assert_eq!(std::fs::read_dir(folder.path()).expect("reads").count(), 0);
            });
        }
    });
}

/// A block whose table tells of other bytes than the block has is refused, copy by copy.
#[test]
fn a_block_that_decodes_to_more_than_its_table_says_is_refused() {
    confined("hostile::bombs::a_block_that_decodes_to_more_than_its_table_says_is_refused", || {
        for world in World::both() {
            let mut block = block_of(&[b"x"], &world);
            block.stored = block_of(&[&vec![0; 1 << 20]], &world).stored;
            let mut packer = icecore::repository::packer::Packer::start(
                &world.repository,
                LeaseId::new([0; 16]),
            )
            .expect("starts");
            let id = block.id;
            packer.add(block).expect("adds");
            packer.finish().expect("finishes");
            let error = world.repository.read_blob(&id, 0).expect_err("refused");
            assert_eq!(error.kind(), ErrorKind::Corrupt);
        }
    });
}
