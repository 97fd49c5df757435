//! The target holds what an enemy planted, and the backup what an enemy wrote: nothing outside of
//! the target is written, and nothing outside of it is given a second name.

use crate::hostile::forge::back_up;
use crate::hostile::forge::entry;
use crate::hostile::forge::store;
use crate::support::restored::overwriting;
use crate::support::world::World;
use icecore::base::path::EntryPath;
use icecore::base::path::display;
use icecore::base::time::Timestamp;
use icecore::engine::export;
use icecore::engine::export::Format;
use icecore::engine::restore;
use icecore::engine::restore::Overwrite;
use icecore::engine::restore::RestoreOptions;
use icecore::format::entry::Content;
use icecore::format::entry::EntryNode;
use icecore::format::entry::FileNode;
use icecore::format::entry::Run;
use icecore::format::range;
use icecore::target::local::LocalTarget;
use std::os::unix::fs::symlink;

fn file(world: &World, content: &[u8], hard_link: Option<u64>) -> EntryNode {
    let block = store(world, &[content]);
    let bytes = content.len() as u64;
    let content = Content::Runs(vec![Run { block, first: 0, count: 1, bytes }]);
    EntryNode::File(FileNode { size: bytes, cut: 0, hard_link, extents: None, content })
}

/// Links where folders and files shall be, a name shared with the outside, a pipe: for each rule
/// on what is there the outside stays as it was.
#[test]
fn planted_links_lead_nowhere() {
    for world in World::both() {
        back_up(
            &world,
            vec![
                entry("", EntryNode::Directory),
                entry("dir", EntryNode::Directory),
                entry("dir/in", file(&world, b"evil", None)),
                entry("link", EntryNode::Symlink(b"../outside".to_vec())),
                entry("pipe", file(&world, b"evil", None)),
                entry("shared", file(&world, b"evil", Some(1))),
                entry("twin", file(&world, b"evil", Some(1))),
            ],
        );
        for rule in [Overwrite::Always, Overwrite::IfChanged, Overwrite::IfNewer, Overwrite::Never]
        {
            for delete in [false, true] {
                let folder = tempfile::tempdir().expect("a folder");
                let (root, outside) = (folder.path().join("root"), folder.path().join("outside"));
                std::fs::create_dir(&root).expect("makes");
                std::fs::create_dir(&outside).expect("makes");
                std::fs::write(outside.join("in"), b"mine").expect("writes");
                std::fs::write(outside.join("shared"), b"mine").expect("writes");
                symlink("../outside", root.join("dir")).expect("links");
                symlink("../outside/in", root.join("twin")).expect("links");
                symlink("../outside", root.join("extra")).expect("links");
                std::fs::hard_link(outside.join("shared"), root.join("shared")).expect("links");
                rustix_fifo(&root.join("pipe"));
                let options = RestoreOptions { delete, verify: true, ..overwriting(rule) };
                let target = LocalTarget::new(&root);
                restore::run(&world.snapshot(0), &target, &options, &world.context())
                    .expect("runs");
                let mut names: Vec<_> = std::fs::read_dir(&outside)
                    .expect("reads")
                    .map(|entry| entry.expect("an entry").file_name())
                    .collect();
                names.sort();
                assert_eq!(names, ["in", "shared"], "{rule:?}");
                for name in ["in", "shared"] {
                    assert_eq!(
                        std::fs::read(outside.join(name)).expect("reads"),
                        b"mine",
                        "{rule:?}"
                    );
                }
            }
        }
    }
}

fn rustix_fifo(path: &std::path::Path) {
    let made = std::process::Command::new("mkfifo").arg(path).status().expect("runs");
    assert!(made.success());
}

/// Backs up children of what is no folder.
fn put_children_of_no_folder(world: &World) {
    back_up(
        world,
        vec![
            entry("a", EntryNode::Symlink(b"../outside".to_vec())),
            entry("a/child", file(world, b"evil", None)),
            entry("b", file(world, b"x", None)),
            entry("b/child", file(world, b"evil", None)),
            entry("c/orphan", file(world, b"evil", None)),
            entry("d", EntryNode::Directory),
            entry("d/child", file(world, b"good", None)),
        ],
    );
}

/// Children of what is no folder, in one backup: the child is reported, and no link is followed.
#[test]
fn children_of_a_link_or_a_file_are_not_restored() {
    for world in World::both() {
        put_children_of_no_folder(&world);
        let folder = tempfile::tempdir().expect("a folder");
        let (root, outside) = (folder.path().join("root"), folder.path().join("outside"));
        std::fs::create_dir(&outside).expect("makes");
        let target = LocalTarget::new(&root);
        let options = RestoreOptions::default();
        let report =
            restore::run(&world.snapshot(0), &target, &options, &world.context()).expect("runs");
        assert_eq!(report.errors.len(), 3);
        assert_eq!(std::fs::read_dir(&outside).expect("reads").count(), 0);
    }
}

/// Whatever unpacks an archive may follow the link that it has just made.
#[test]
fn children_of_a_link_or_a_file_are_not_exported() {
    for world in World::both() {
        put_children_of_no_folder(&world);
        for format in [Format::Tar, Format::Zip] {
            let (mut out, all) = (Vec::new(), EntryPath::root());
            let report = export::run(&world.snapshot(0), &all, format, &mut out, &world.context());
            let report = report.expect("runs");
            let has = |name: &[u8]| out.windows(name.len()).any(|bytes| bytes == name);
            assert_eq!((report.files, report.errors.len()), (3, 3), "{format:?}: {report:?}");
            assert!(has(b"d/child") && !has(b"a/child"), "{format:?}");
            assert!(!has(b"b/child") && !has(b"c/orphan"), "{format:?}");
        }
    }
}

/// Paths that no encoder writes: raw bytes of a range with `..`, with a slash in front, twice.
#[test]
fn ranges_with_paths_that_leave_are_refused() {
    let good = entry("xx/yy", EntryNode::Fifo);
    let tracked = icecore::format::entry::TrackedEntry {
        entry: good,
        detection: icecore::base::metadata::Detection::default(),
    };
    let mut builder = range::RangeBuilder::default();
    builder.push(&range::RangeRow::Put(range::Change::Present, tracked)).expect("in order");
    let encoded = builder.finish().expect("encodes").expect("a row").range;
    let at = encoded.windows(5).position(|five| five == b"xx/yy").expect("the path is in it");
    for evil in [b"../yy", b"/x/yy", b"xx/..", b"x//yy", b"./xyy", b"xx/y\0"] {
        let mut bytes = encoded.clone();
        bytes[at..at + 5].copy_from_slice(evil);
        assert!(range::decode(&bytes, None).is_err(), "{}", display(evil));
    }
}

/// What can turn a line around or hide in it is shown as what it is.
#[test]
fn names_cannot_steer_a_terminal() {
    let name = "a\x1b[2Jb\u{9b}c\u{202e}gpj.exe\u{2066}\u{200f}\r\u{7f}";
    let shown = EntryPath::new(name.as_bytes()).expect("a name").to_string();
    let turns = ['\u{200f}', '\u{202e}', '\u{2066}'];
    let is_bad = |c: char| c.is_control() || turns.contains(&c);
    assert!(!shown.chars().any(is_bad), "{shown:?}");
}

/// Times at both ends of the calendar and beyond.
#[test]
fn the_first_and_the_last_of_all_times_are_shown() {
    for seconds in [i64::MAX, i64::MIN, 8_210_266_876_799, -8_334_601_228_800] {
        let time = Timestamp::new(seconds, u32::MAX);
        assert!(!time.to_rfc3339().is_empty());
        assert!(!time.to_local_text().is_empty());
    }
}
