//! References that lead in circles, names that come again and again, names that are one to others.

use crate::hostile::forge::back_up;
use crate::hostile::forge::back_up_edited;
use crate::hostile::forge::compressed;
use crate::hostile::forge::confined;
use crate::hostile::forge::entry;
use crate::hostile::forge::soon;
use crate::hostile::forge::store;
use crate::support::restored::options;
use crate::support::world::World;
use icecore::base::error::ErrorKind;
use icecore::base::id::BackupId;
use icecore::base::path::EntryPath;
use icecore::codec::compress;
use icecore::codec::frame::ObjectKind;
use icecore::engine::check;
use icecore::engine::check::CheckOptions;
use icecore::engine::restore;
use icecore::format::backup;
use icecore::format::backup::BlobPlace;
use icecore::format::backup::Body;
use icecore::format::backup::Header;
use icecore::format::backup::RangeRef;
use icecore::format::entry::Content;
use icecore::format::entry::EntryNode;
use icecore::format::entry::FileNode;
use icecore::format::entry::Run;
use icecore::repository::layout;
use icecore::target::local::LocalTarget;
use icecore::target::memory::MemoryTarget;
use std::sync::Arc;

fn file(world: &World, content: &[u8]) -> EntryNode {
    let block = store(world, &[content]);
    let bytes = content.len() as u64;
    let content = Content::Runs(vec![Run { block, first: 0, count: 1, bytes }]);
    EntryNode::File(FileNode { size: bytes, cut: 0, hard_link: None, extents: None, content })
}

/// A backup that is its own parent, hangs on itself, or on what comes after it.
#[test]
fn backups_that_hang_on_themselves_are_refused() {
    let edits: [fn(&mut Header); 5] = [
        |header| header.chain = vec![header.number],
        |header| header.parent = Some(header.number),
        |header| {
            header.parent = Some(header.number);
            header.chain = vec![header.number];
        },
        |header| {
            header.parent = Some(BackupId(header.number.0 + 1));
            header.chain = vec![BackupId(0), BackupId(header.number.0 + 1)];
        },
        |header| header.chain = vec![BackupId(0), BackupId(0)],
    ];
    for (nth, edit) in edits.into_iter().enumerate() {
        for world in World::both() {
            back_up(&world, Vec::new());
            let number = back_up_edited(&world, Vec::new(), edit);
            soon(move || {
                let set = world.repository.dataset(&world.name()).expect("there");
                let numbers = set.all_numbers().expect("lists");
                let read = set.backup(&numbers, BackupId(number));
                assert_eq!(read.expect_err("refused").kind(), ErrorKind::Corrupt, "edit {nth}");
                let checked =
                    check::run(&world.repository, &CheckOptions::default(), &world.context());
                assert!(!checked.expect("checks").is_ok(), "edit {nth}");
            });
        }
    }
}

/// Where one range is named again and again.
#[derive(Clone, Copy, Debug)]
enum Again {
    Inline,
    Ranges,
    Lists,
}

/// Commits five hundred entries; the range that holds them is named over and over.
fn back_up_again(world: &World, again: Again) -> u64 {
    const NAMES: usize = 500;
    const TIMES: usize = 2000;
    const LISTS: usize = 20_000;
    let node = file(world, b"x");
    let names = if matches!(again, Again::Inline) { 1 } else { NAMES };
    let entries = (0..names).map(|n| entry(&format!("name-{n:03}"), node.clone()));
    back_up_edited(world, entries.collect(), |header| {
        let Body::Inline(ranges) = &header.body else { panic!("inline") };
        let [(range, companion)] = ranges.as_slice() else { panic!("one range") };
        let block = store(world, &[range, companion]);
        let [range_at, companion_at] = [0, 1].map(|place| BlobPlace { block, place });
        let first = EntryPath::new(b"name-000").expect("a path");
        let rows = names as u32;
        let named = RangeRef { first, rows, range: range_at, companion: companion_at };
        header.body = match again {
            Again::Inline => Body::Inline(vec![(range.clone(), companion.clone()); TIMES]),
            Again::Ranges => Body::Ranges(vec![named; TIMES]),
            Again::Lists => {
                let list = backup::encode_range_list(&[named]).expect("encodes");
                let list = BlobPlace { block: store(world, &[&list]), place: 0 };
                Body::Lists(vec![list; LISTS])
            }
        };
    })
}

/// A million entries, each name of them two thousand times, and ten million where a list of ranges
/// is named again as well. (In the header itself, which has less room, two thousand.)
#[test]
fn a_name_that_comes_again_is_refused() {
    confined("hostile::references::a_name_that_comes_again_is_refused", name_again);
}

fn name_again() {
    for again in [Again::Inline, Again::Ranges, Again::Lists] {
        for world in World::both() {
            let number = back_up_again(&world, again);
            soon(move || {
                let set = world.repository.dataset(&world.name()).expect("there");
                let numbers = set.all_numbers().expect("lists");
                let restored = set.backup(&numbers, BackupId(number)).and_then(|found| {
                    let snapshot = set.snapshot(&numbers, Arc::new(found.expect("visible")))?;
                    restore::run(&snapshot, &MemoryTarget::new(), &options(), &world.context())
                });
                let error = restored.expect_err("refused");
                assert_eq!(error.kind(), ErrorKind::Corrupt, "{again:?}: {}", error.full_message());
                let checked =
                    check::run(&world.repository, &CheckOptions::default(), &world.context());
                assert!(!checked.expect("checks").is_ok(), "{again:?}");
            });
        }
    }
}

/// Names that are one to some file systems: here each is a file of its own, or an error.
#[test]
fn names_that_clash_elsewhere_come_back_or_are_told() {
    for world in World::both() {
        let names = ["A", "\u{1e9e}", "a", "e\u{301}", "ss", "\u{df}", "\u{e9}", "\u{fb01}"];
        let mut sorted = names;
        sorted.sort_by_key(|name| name.as_bytes().to_vec());
        let entries = sorted.iter().map(|name| entry(name, file(&world, name.as_bytes())));
        back_up(&world, entries.collect());
        let folder = tempfile::tempdir().expect("a folder");
        let target = LocalTarget::new(folder.path());
        let report =
            restore::run(&world.snapshot(0), &target, &options(), &world.context()).expect("runs");
        for name in names {
            let is_told = report
                .errors
                .iter()
                .any(|it| it.path.as_ref().is_some_and(|path| path.as_bytes() == name.as_bytes()));
            let there = std::fs::read(folder.path().join(name)).expect("reads");
            assert!(is_told || there == name.as_bytes(), "{name} holds another's content");
        }
    }
}

/// Devices are made of what a backup says, and never opened: neither to look at nor to write.
#[test]
fn a_device_where_a_file_shall_be_is_not_written() {
    use crate::support::restored::overwriting;
    use icecore::engine::restore::Overwrite;
    for world in World::both() {
        back_up(&world, vec![entry("device", file(&world, b"content"))]);
        let folder = tempfile::tempdir().expect("a folder");
        let place = folder.path().join("device");
        let made = rustix::fs::mknodat(
            rustix::fs::CWD,
            &place,
            rustix::fs::FileType::CharacterDevice,
            rustix::fs::Mode::RWXU,
            // As /dev/full: a write to it fails, so a restore that does write is seen.
            rustix::fs::makedev(1, 7),
        );
        if made.is_err() {
            return crate::support::folder::skipped("a device in the target");
        }
        for rule in [Overwrite::Never, Overwrite::IfChanged, Overwrite::Always] {
            let target = LocalTarget::new(folder.path());
            let done =
                restore::run(&world.snapshot(0), &target, &overwriting(rule), &world.context());
            let report = done.expect("runs");
            match rule {
                Overwrite::Never => assert_eq!(report.errors.len(), 1, "what is there stays"),
                _ => assert_eq!(report.errors, [], "{rule:?}"),
            }
        }
        assert_eq!(std::fs::read(&place).expect("a file now"), b"content");
    }
}

/// Small records that claim, or decode to, far more than records have.
#[test]
fn records_that_unpack_to_far_more_are_refused() {
    confined("hostile::references::records_that_unpack_to_far_more_are_refused", unpack_records);
}

fn unpack_records() {
    for new in [World::memory as fn() -> World, World::encrypted] {
        for (claimed, zeros) in
            [(u32::MAX, 64 << 20), (1000, 64 << 20), (1 << 20, 16 << 20), (u32::MAX, 10), (0, 10)]
        {
            unpack_record(new(), claimed, zeros);
        }
    }
}

/// A body that says how long it is unpacked.
fn packed(claimed: u32, plain: &[u8]) -> Vec<u8> {
    let mut body = claimed.to_le_bytes().to_vec();
    compress::compress_once(3, plain, &mut body).expect("compresses");
    body
}

fn unpack_record(world: World, claimed: u32, zeros: usize) {
    let number = BackupId(back_up(&world, Vec::new()));
    let set = world.repository.dataset(&world.name()).expect("there");
    let at = layout::header(&set.id(), number).expect("a key");
    let (kind, numbers) = (ObjectKind::Backup, set.all_numbers().expect("lists"));
    // The header itself, made in the same way, is taken.
    let sealer = world.repository.store().sealer();
    let header = world.backend.objects()[&at].clone();
    let plain = sealer.open(kind, at.as_str(), &header, 1 << 20).expect("opens");
    let whole = compressed(&world, kind, &at, packed(plain.len() as u32, &plain));
    world.backend.insert_raw(&at, whole);
    set.backup(&numbers, number).expect("reads").expect("is there");

    let bomb = compressed(&world, kind, &at, packed(claimed, &vec![0; zeros]));
    assert!(bomb.len() < 100_000, "it is small");
    world.backend.insert_raw(&at, bomb);
    // Elsewhere nobody has seen the header.
    let other = world.elsewhere();
    soon(move || {
        let set = other.repository.dataset(&world.name()).expect("there");
        let numbers = set.all_numbers().expect("lists");
        let read = set.backup(&numbers, number);
        assert_eq!(read.expect_err("refused").kind(), ErrorKind::Corrupt, "{claimed}");
    });
}
