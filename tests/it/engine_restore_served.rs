//! Restoring to a server that keeps less than it was sent and does not say so: what it has in the
//! end is whole, or told once, or not there.

use crate::support::files::Door;
use crate::support::files::Server;
use crate::support::folder::Folder;
use crate::support::restored::TINY;
use crate::support::restored::backed_up;
use crate::support::restored::options;
use crate::support::restored::overwriting;
use crate::support::restored::path;
use crate::support::tree::noise;
use crate::support::ways::FTP;
use crate::support::world::World;
use icecore::base::cancel::Cancel;
use icecore::base::error::ErrorKind;
use icecore::base::path::EntryPath;
use icecore::base::progress::Counter;
use icecore::base::progress::Phase;
use icecore::base::progress::Progress;
use icecore::base::progress::Totals;
use icecore::base::progress::Warning;
use icecore::base::time::SystemClock;
use icecore::engine::Context;
use icecore::engine::restore;
use icecore::engine::restore::Overwrite;
use icecore::engine::restore::RestoreOptions;
use icecore::net::pool::Pool;
use icecore::net::pool::PoolOptions;
use icecore::source::memory::MemorySource;
use icecore::target::files::FilesTarget;
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::time::Duration;

const CONTENT: &[u8] = b"what the backup has";

struct Served {
    folder: Folder,
    server: Arc<Server>,
}

fn served() -> Served {
    let folder = Folder::new();
    std::fs::create_dir_all(folder.path().join("served")).unwrap();
    let server = Server::new(&folder.path().join("served"), FTP);
    Served { folder, server }
}

impl Served {
    fn target(&self) -> FilesTarget {
        let door = Arc::new(Door(Arc::clone(&self.server)));
        let pool = Pool::new(door, Arc::new(SystemClock), PoolOptions::default());
        let scratch = self.folder.path().to_owned();
        let target = FilesTarget::new(pool, b"", "fake://server".to_owned(), scratch);
        target.waiting([Duration::ZERO; 3])
    }

    fn content(&self, at: &str) -> Option<Vec<u8>> {
        std::fs::read(self.folder.path().join("served").join(at)).ok()
    }
}

/// What the server has stays where it takes nothing of the kind that the backup has. It was removed
/// first, and then there was nothing.
#[test]
fn what_stands_where_no_link_can_be_made_stays() {
    let source = MemorySource::new("nodes").symlink("link", "a").fifo("pipe").symlink("full", "a");
    let (world, served) = (backed_up(&source), served());
    for name in ["link", "pipe", "full/file"] {
        let place = served.folder.path().join("served").join(name);
        std::fs::create_dir_all(place.parent().unwrap()).unwrap();
        std::fs::write(place, CONTENT).unwrap();
    }
    let delete = RestoreOptions { delete: true, ..overwriting(Overwrite::Always) };

    let target = served.target();
    let report = restore::run(&world.snapshot(0), &target, &delete, &world.context()).unwrap();

    assert_eq!((report.errors.len(), report.files, report.deleted), (3, 0, 0), "{report:?}");
    for name in ["link", "pipe", "full/file"] {
        assert_eq!(served.content(name).as_deref(), Some(CONTENT), "{name}");
    }
}

/// A server that shows links as what they lead to lists a folder below itself, or one of its
/// neighbours twice. No backup has that, and whoever goes through it deletes what was restored.
#[test]
fn nothing_is_deleted_through_a_way_back() {
    let world = backed_up(&MemorySource::new("loops").file("d/keep", CONTENT));
    let served = served();
    let root = served.folder.path().join("served");
    std::fs::create_dir_all(root.join("d")).unwrap();
    std::fs::create_dir_all(root.join("extra/deeper")).unwrap();
    std::fs::write(root.join("d/keep"), CONTENT).unwrap();
    let outside = served.folder.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("kept"), CONTENT).unwrap();
    let links = [
        ("d/loop", "."),
        ("d/up", ".."),
        ("extra/deeper/up", "../.."),
        ("extra/deeper/again", "."),
        ("zlink", "d"),
        ("zout", "../outside"),
    ];
    for (link, to) in links {
        symlink(to, root.join(link)).unwrap();
    }
    let delete = RestoreOptions { delete: true, ..overwriting(Overwrite::IfChanged) };

    let target = served.target();
    let report = restore::run(&world.snapshot(0), &target, &delete, &world.context()).unwrap();

    assert!(report.errors.is_empty(), "{:?}", report.errors);
    assert_eq!(report.deleted, 5);
    assert_eq!(served.content("d/keep").as_deref(), Some(CONTENT));
    assert!(outside.join("kept").exists() && !root.join("extra").exists());
    assert!(links.iter().all(|(link, _)| root.join(link).symlink_metadata().is_err()));
}

/// Asks to stop when a file was restored.
struct StopAtOnce(Cancel);

impl Progress for StopAtOnce {
    fn start(&self, _: Phase, _: Totals) {}

    fn count(&self, counter: Counter, _: u64) {
        if counter == Counter::Files {
            self.0.cancel();
        }
    }

    fn working_on(&self, _: &EntryPath) {}

    fn warn(&self, _: &Warning) {}

    fn finish(&self) {}
}

/// Many files, so that there are several windows, and a further name of one of them.
fn many() -> World {
    let mut source = MemorySource::new("many").file("d/first", CONTENT);
    for number in 0..20 {
        source = source.file(format!("d/{number:02}"), noise(100, number));
    }
    backed_up(&source)
}

#[test]
fn a_restore_that_is_stopped_leaves_no_file_in_part() {
    for (times, stays) in [(0, true), (1, true), (2, false)] {
        let (world, served) = (many(), served());
        served.server.halve("d/00", times);
        let cancel = Cancel::new();
        let progress = StopAtOnce(cancel.clone());
        let context =
            Context { progress: &progress, cancel: &cancel, clock: &world.clock, threads: 1 };

        let target = served.target();
        let stopped = restore::run_bounded(&world.snapshot(0), &target, &options(), &context, TINY);

        assert_eq!(stopped.unwrap_err().kind(), ErrorKind::Cancelled);
        let wanted = Some(noise(100, 0)).filter(|_| stays);
        assert_eq!(served.content("d/00"), wanted, "halved {times} times");
        assert_eq!(served.content("d/19"), None, "it was stopped before");
    }
}

#[test]
fn what_is_not_seen_in_the_end_is_neither_counted_nor_told_twice() {
    let (world, served) = (many(), served());
    served.server.halve("d/first", 2);

    let verified = RestoreOptions { verify: true, ..options() };
    let target = served.target();
    let report = restore::run(&world.snapshot(0), &target, &verified, &world.context());

    let report = report.unwrap();
    let [failure] = report.errors.as_slice() else { panic!("{:?}", report.errors) };
    assert_eq!(failure.path, Some(path("d/first")));
    assert_eq!(failure.message, "cannot write d/first: 550 another size");
    assert_eq!((report.files, report.bytes), (20, 2000));
}

#[test]
fn each_folder_is_listed_once_and_no_file_asked_for() {
    let mut source = MemorySource::new("folders");
    for number in 0..60 {
        source = source.file(format!("{}/{}/{number}", number % 3, number % 2), CONTENT);
    }
    let (world, served) = (backed_up(&source), served());

    let target = served.target();
    let report = restore::run(&world.snapshot(0), &target, &options(), &world.context());

    assert_eq!(report.unwrap().files, 60);
    let calls = served.server.calls();
    for folder in (0..6).map(|it| format!("list {}/{}", it % 3, it % 2)) {
        assert_eq!(calls.iter().filter(|it| **it == folder).count(), 1, "{folder}: {calls:#?}");
    }
    let looks = calls.iter().filter(|it| it.starts_with("look "));
    assert_eq!(looks.collect::<Vec<_>>(), ["look ."], "the root alone");
}

#[test]
fn a_file_that_came_in_part_is_whole_in_the_end_and_so_is_its_second_name() {
    let source = MemorySource::new("links").file("a", CONTENT).hard_link("b", "a");
    let (world, served) = (backed_up(&source), served());
    served.server.halve("a", 1);

    let target = served.target();
    let report = restore::run(&world.snapshot(0), &target, &options(), &world.context());

    let report = report.unwrap();
    assert_eq!((report.errors.len(), report.files), (0, 2));
    assert_eq!(served.content("a").as_deref(), Some(CONTENT));
    assert_eq!(served.content("b").as_deref(), Some(CONTENT));
}

#[test]
fn of_a_file_that_never_comes_whole_each_name_is_told() {
    let source = MemorySource::new("links").file("a", CONTENT).hard_link("b", "a");
    let (world, served) = (backed_up(&source), served());
    served.server.halve("a", 2);

    let target = served.target();
    let report = restore::run(&world.snapshot(0), &target, &options(), &world.context());

    let report = report.unwrap();
    let mut told: Vec<_> = report.errors.iter().filter_map(|it| it.path.clone()).collect();
    told.sort();
    assert_eq!((told, report.files, report.bytes), (vec![path("a"), path("b")], 0, 0));
    assert_eq!((served.content("a"), served.content("b")), (None, None));
}

#[test]
fn a_folder_in_the_way_goes_with_delete_alone() {
    let (world, served) = (backed_up(&MemorySource::new("one").file("a", CONTENT)), served());
    std::fs::create_dir_all(served.folder.path().join("served/a/b")).unwrap();
    let run = |options: &RestoreOptions| {
        let report = restore::run(&world.snapshot(0), &served.target(), options, &world.context());
        let report = report.unwrap();
        (report.errors.len(), report.files, report.deleted)
    };

    assert_eq!(run(&overwriting(Overwrite::Always)), (1, 0, 0));
    assert!(served.folder.path().join("served/a/b").is_dir());
    let wanted = RestoreOptions { delete: true, ..overwriting(Overwrite::Always) };
    assert_eq!(run(&wanted), (0, 1, 1));
    assert_eq!(served.content("a").as_deref(), Some(CONTENT));
}
