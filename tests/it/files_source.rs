//! A source on another machine: what counts as changed, connections that break at any call, and
//! servers that mean no good.

mod later;

use crate::support::files::Cut;
use crate::support::files::Door;
use crate::support::files::Server;
use crate::support::folder::Folder;
use crate::support::tree::noise;
use crate::support::ways::FTP;
use crate::support::ways::SFTP;
use crate::support::ways::Ways;
use crate::support::world::World as Repository;
use icecore::base::cancel::Cancel;
use icecore::base::error::ErrorKind;
use icecore::base::error::Origin;
use icecore::base::limits::PIECE_BYTES;
use icecore::base::metadata::Kind;
use icecore::base::path::EntryPath;
use icecore::base::time::FixedClock;
use icecore::base::time::Timestamp;
use icecore::engine::Context;
use icecore::engine::backup;
use icecore::engine::backup::BackupKind;
use icecore::engine::backup::BackupOptions;
use icecore::engine::backup::BackupReport;
use icecore::engine::restore;
use icecore::engine::restore::RestoreOptions;
use icecore::net::files::Precision;
use icecore::net::pool::Pool;
use icecore::net::pool::PoolOptions;
use icecore::source::ScanItem;
use icecore::source::Source;
use icecore::source::files::FilesOptions;
use icecore::source::files::FilesSource;
use icecore::source::filter::Filter;
use icecore::source::filter::FilterOptions;
use icecore::target::local::LocalTarget;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;

struct World {
    server: Arc<Server>,
    folder: Folder,
}

fn path(text: &str) -> EntryPath {
    EntryPath::new(text.as_bytes()).unwrap()
}

fn world(ways: Ways) -> World {
    let folder = Folder::new();
    let server = Server::new(folder.path(), ways);
    World { server, folder }
}

impl World {
    fn write(&self, name: &str, bytes: &[u8]) {
        let place = self.folder.path().join(name);
        std::fs::create_dir_all(place.parent().unwrap()).unwrap();
        std::fs::write(place, bytes).unwrap();
    }

    /// Sets the time of a file to so many seconds since 1970.
    fn date(&self, name: &str, seconds: u64) {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let file = std::fs::File::open(self.folder.path().join(name)).unwrap();
        file.set_modified(time).unwrap();
    }

    fn source_at(&self, root: &[u8], options: FilesOptions) -> FilesSource {
        self.try_source(root, options).unwrap()
    }

    fn try_source(
        &self,
        root: &[u8],
        options: FilesOptions,
    ) -> icecore::base::error::Result<FilesSource> {
        let door = Arc::new(Door(Arc::clone(&self.server)));
        let pool = PoolOptions { sessions_max: 4, ..PoolOptions::default() };
        let pool = Pool::new(door, Arc::new(FixedClock::default()), pool);
        let options = FilesOptions { waits: [Duration::ZERO; 3], ..options };
        FilesSource::open(pool, root, "fake://server".to_owned(), options)
    }

    fn source(&self) -> FilesSource {
        self.source_at(b"", FilesOptions::default())
    }
}

fn scanned(source: &dyn Source) -> Vec<String> {
    let told = |item| match item {
        ScanItem::Entry(entry) => entry.path.to_string(),
        ScanItem::Failed(path, e) => format!("! {path}: {:?}", e.kind()),
        ScanItem::Skipped(path, why) => format!("~ {path}: {why}"),
    };
    source.scan(&Cancel::new()).unwrap().map(told).collect()
}

/// A backup at a time; the clock of the repository's machine is what counts for it.
fn back_up(repository: &Repository, source: &dyn Source, seconds: i64) -> BackupReport {
    let context = Context {
        progress: &repository.progress,
        cancel: &repository.cancel,
        clock: &FixedClock::new(Timestamp::new(seconds, 0)),
        threads: 2,
    };
    let name = "data".parse().unwrap();
    backup::run(&repository.repository, &name, source, &BackupOptions::default(), &context).unwrap()
}

fn restored(repository: &Repository, number: u64) -> Folder {
    let out = Folder::new();
    let context = Context {
        progress: &repository.progress,
        cancel: &repository.cancel,
        clock: &repository.clock,
        threads: 2,
    };
    let target = LocalTarget::new(&out.path().join("out"));
    let snapshot = repository.snapshot(number);
    let report = restore::run(&snapshot, &target, &RestoreOptions::default(), &context).unwrap();
    assert!(report.errors.is_empty(), "{:?}", report.errors);
    out
}

fn same_content(a: &Path, b: &Path) {
    let mut names: Vec<_> = a.read_dir().unwrap().map(|it| it.unwrap().file_name()).collect();
    let mut others: Vec<_> = b.read_dir().unwrap().map(|it| it.unwrap().file_name()).collect();
    names.sort();
    others.sort();
    assert_eq!(names, others);
    for name in names {
        let (a, b) = (a.join(&name), b.join(&name));
        if a.is_dir() {
            same_content(&a, &b);
        } else {
            assert!(std::fs::read(&a).unwrap() == std::fs::read(&b).unwrap(), "{name:?}");
        }
    }
}

fn reads(world: &World) -> usize {
    world.server.calls().iter().filter(|call| call.starts_with("open")).count()
}

#[test]
fn what_did_not_change_is_not_read_again() {
    for ways in [FTP, SFTP] {
        let world = world(ways);
        for name in ["a", "b/c", "b/d/e"] {
            world.write(name, name.as_bytes());
            world.date(name, 1_700_000_000);
        }
        let repository = Repository::memory();
        let first = back_up(&repository, &world.source(), 1_800_000_000);
        assert_eq!((first.counts.added, first.errors.len()), (3, 0));

        world.server.cut(None);
        let again = back_up(&repository, &world.source(), 1_800_001_000);
        assert_eq!(again.kind, BackupKind::Unchanged);
        assert_eq!(reads(&world), 0);

        world.write("b/c", b"C/B");
        world.date("b/c", 1_700_000_001);
        world.server.cut(None);
        let third = back_up(&repository, &world.source(), 1_800_002_000);
        assert_eq!((third.counts.modified, reads(&world)), (1, 1));
        same_content(
            &restored(&repository, third.backup.0).path().join("out"),
            world.folder.path(),
        );
    }
}

#[test]
fn a_file_that_may_have_changed_without_a_sign_is_read_again() {
    let at = 1_800_000_000;
    let cases = [
        (Precision::Second, at - 13, false),
        (Precision::Second, at - 5, true),
        (Precision::Second, at + 100, true),
        (Precision::Minute, at - 26 * 3600 - 240, false),
        (Precision::Minute, at - 26 * 3600 - 60, true),
        // Changed a moment ago, by a server that tells its local time, five hours behind.
        (Precision::Minute, at - 5 * 3600 - 10, true),
        (Precision::Minute, at - 60, true),
        (Precision::Vague, at - 100_000_000, true),
    ];
    for (listed, time, is_read) in cases {
        let world = world(Ways { listed, unique: false, ..FTP });
        world.write("a", b"first");
        world.date("a", time);
        let repository = Repository::memory();
        back_up(&repository, &world.source(), at as i64);
        // Changed at once, with the same length and the same time.
        world.write("a", b"other");
        world.date("a", time);
        world.server.cut(None);

        let report = back_up(&repository, &world.source(), at as i64 + 1000);
        assert_eq!(report.counts.modified, u64::from(is_read), "{listed:?} {time}");
        assert_eq!(reads(&world), usize::from(is_read), "{listed:?} {time}");
    }
}

#[test]
fn another_file_in_the_same_place_is_noticed_by_its_tag() {
    let world = world(FTP);
    world.write("a", b"first");
    world.date("a", 1_700_000_000);
    let repository = Repository::memory();
    back_up(&repository, &world.source(), 1_800_000_000);
    world.write("new", b"other");
    world.date("new", 1_700_000_000);
    std::fs::rename(world.folder.path().join("new"), world.folder.path().join("a")).unwrap();

    let report = back_up(&repository, &world.source(), 1_800_001_000);
    assert_eq!(report.counts.modified, 1);
}

#[test]
fn a_connection_cut_at_any_call_costs_nothing() {
    for ways in [FTP, SFTP, Ways { sessions_max: 1, ..FTP }] {
        let world = world(ways);
        // Two pieces, so that a large file is opened by several.
        let large = noise(PIECE_BYTES as usize + 1000, 3);
        let files = [("a", b"a".to_vec()), ("b/small", b"small".to_vec()), ("b/z/large", large)];
        for (name, bytes) in &files {
            world.write(name, bytes);
            world.date(name, 1_700_000_000);
        }
        for number in 1.. {
            let mut is_over = false;
            for cut in [Cut::Before(number), Cut::After(number)] {
                let repository = Repository::memory();
                world.server.cut(Some(cut));
                let report = back_up(&repository, &world.source(), 1_800_000_000);
                is_over = (world.server.calls().len() as u64) < number;
                assert!(report.errors.is_empty(), "{cut:?}: {:?}", report.errors);
                world.server.cut(None);
                for (name, bytes) in &files {
                    assert!(repository.content(report.backup.0, name) == *bytes, "{cut:?} {name}");
                }
            }
            if is_over {
                assert!(number > 8);
                break;
            }
        }
    }
}

#[test]
fn a_file_is_read_on_only_when_it_is_the_same() {
    for change in [false, true] {
        let world = world(FTP);
        world.write("a", &noise(1000, 1));
        world.date("a", 1_700_000_000);
        let source = world.source();
        let mut reader = source.reader().unwrap();
        let opened = reader.open(&path("a")).unwrap();
        let mut half = [0; 500];
        assert_eq!(reader.read_at(0, &mut half).unwrap(), 500);
        world.server.hang_up();
        if change {
            world.write("a", &noise(1000, 2));
            world.date("a", 1_700_000_001);
        }
        assert_eq!(reader.read_at(500, &mut half).unwrap(), 500);
        let after = reader.finish().unwrap();
        assert_eq!(after == opened.entry, !change);
        // Changed back or not, a second reading begins anew.
        assert_eq!(reader.open(&path("a")).unwrap().entry == opened.entry, !change);
    }
}

#[test]
fn where_times_are_too_vague_to_be_sure_a_torn_file_is_read_again() {
    let world = world(Ways { listed: Precision::Minute, ..FTP });
    world.write("a", &noise(1000, 1));
    let source = world.source();
    // The listing is what the file is compared with.
    assert_eq!(scanned(&source), ["", "a"]);
    let mut reader = source.reader().unwrap();
    let opened = reader.open(&path("a")).unwrap();
    let mut half = [0; 500];
    reader.read_at(0, &mut half).unwrap();
    world.server.hang_up();
    reader.read_at(500, &mut half).unwrap();
    assert_ne!(reader.finish().unwrap(), opened.entry);
}

#[test]
fn a_file_that_grows_or_vanishes_while_it_is_read_is_noticed() {
    let world = world(FTP);
    world.write("a", b"12345");
    let source = world.source();
    let mut reader = source.reader().unwrap();
    let opened = reader.open(&path("a")).unwrap();
    let mut buffer = [0; 5];
    assert_eq!(reader.read_at(0, &mut buffer).unwrap(), 5);
    world.write("a", b"1234567");
    assert_ne!(reader.finish().unwrap(), opened.entry);

    reader.open(&path("a")).unwrap();
    reader.read_at(0, &mut buffer).unwrap();
    std::fs::remove_file(world.folder.path().join("a")).unwrap();
    let error = reader.finish().unwrap_err();
    assert_eq!((error.kind(), error.origin()), (ErrorKind::NotFound, Origin::Source));
}

/// Servers show a name with an end of a line in it as another one, which then is not there.
#[test]
fn a_file_that_is_listed_and_not_found_is_an_error() {
    let world = world(FTP);
    world.write("a\nb", b"12345");
    world.write("c", b"1");
    let repository = Repository::memory();

    let report = back_up(&repository, &world.source(), 1_900_000_000);

    assert_eq!(report.errors.len(), 1, "{report:?}");
    let restored = restored(&repository, 0);
    assert!(restored.path().join("out/c").exists());

    let source = world.source();
    assert_eq!(scanned(&source), ["", "a?b", "c"]);
    let mut reader = source.reader().unwrap();
    let opened = reader.open(&path("a?b"));
    let error = opened.and_then(|_| reader.read_at(0, &mut [0; 5])).unwrap_err();
    assert_eq!((error.kind(), error.origin()), (ErrorKind::Unsupported, Origin::Source));
    assert!(error.full_message().contains("the server lists it"), "{error:?}");
}

/// As above; what a backup knows of such a folder it keeps.
#[test]
fn a_folder_that_is_listed_and_not_found_is_an_error() {
    let world = world(FTP);
    world.write("d?a/f", b"12345");
    world.write("d?a/deep/g", b"123");
    world.write("e", b"1");
    let repository = Repository::memory();
    assert_eq!(back_up(&repository, &world.source(), 1_900_000_000).errors.len(), 0);
    let place = |name: &str| world.folder.path().join(name);
    std::fs::rename(place("d?a"), place("d\na")).unwrap();
    world.write("new", b"1");

    let report = back_up(&repository, &world.source(), 1_900_001_000);

    assert_eq!(report.errors.len(), 1, "{report:?}");
    assert_eq!(scanned(&world.source()), ["", "d?a", "! d?a: Unsupported", "e", "new"]);
    let restored = restored(&repository, 1);
    for (name, content) in [("d?a/f", &b"12345"[..]), ("d?a/deep/g", b"123"), ("new", b"1")] {
        assert_eq!(std::fs::read(restored.path().join("out").join(name)).unwrap(), content);
    }
}

#[test]
fn a_dead_server_ends_a_scan_with_errors_and_soon() {
    let world = world(FTP);
    for number in 0..40 {
        world.write(&format!("{number:02}/a"), b"1");
    }
    let source = world.source();
    world.server.die_at(5);
    let rows = scanned(&source);
    let failed = rows.iter().filter(|row| row.ends_with(": Unreachable")).count();
    assert!((30..40).contains(&failed), "{failed}");
    assert_eq!(rows.iter().filter(|row| row.len() == 2).count(), 40, "{rows:?}");
    assert!(world.server.calls().len() < 30, "it is not asked for each folder");
}

#[test]
fn a_listing_that_fails_hides_nothing_else() {
    let world = world(FTP);
    world.write("a/x", b"1");
    world.write("b/x", b"1");
    std::fs::write(world.folder.path().join("c"), b"1").unwrap();
    world.server.refuse("list a");
    let source = world.source();
    assert_eq!(scanned(&source), ["", "a", "! a: Denied", "b", "b/x", "c"]);
}

#[test]
fn roots_are_folders_or_links_to_them() {
    let world = world(SFTP);
    world.write("d/a", b"1");
    std::os::unix::fs::symlink("d", world.folder.path().join("link")).unwrap();
    for root in [&b"d"[..], b"/d", b"link"] {
        assert_eq!(scanned(&world.source_at(root, FilesOptions::default())), ["", "a"]);
    }
    for (root, kind) in [(&b"none"[..], ErrorKind::NotFound), (b"d/a", ErrorKind::InvalidInput)] {
        let error = world.try_source(root, FilesOptions::default()).err().unwrap();
        assert_eq!((error.kind(), error.origin()), (kind, Origin::Source));
        assert!(error.to_string().contains("fake://server"), "{error}");
    }
}

#[test]
fn links_that_lead_back_are_not_followed_for_ever() {
    let world = world(FTP);
    world.write("a/b/x", b"1");
    std::os::unix::fs::symlink("..", world.folder.path().join("a/b/up")).unwrap();
    let rows = scanned(&world.source());
    let back = "~ a/b/up: it leads back to a folder that it is in";
    assert_eq!(rows, ["", "a", "a/b", back, "a/b/x"]);
}

#[test]
fn what_no_protocol_brings_back_is_left_out_with_a_note() {
    let world = world(SFTP);
    world.write("a", b"1");
    world.write("own/config", b"1");
    let pipe = world.folder.path().join("pipe");
    let mode = rustix::fs::Mode::from_raw_mode(0o644);
    let kind = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, pipe, kind, mode, 0).unwrap();
    let options = FilesOptions { excluded: vec![path("own")], ..FilesOptions::default() };
    let notes = [
        "~ own: the repository itself is left out",
        "~ pipe: a named pipe of another machine is not stored",
    ];
    assert_eq!(scanned(&world.source_at(b"", options)), ["", "a", notes[0], notes[1]]);
    let itself = FilesOptions { excluded: vec![EntryPath::root()], ..FilesOptions::default() };
    assert_eq!(world.try_source(b"", itself).err().unwrap().kind(), ErrorKind::InvalidInput);
}

#[test]
fn filters_hold_as_on_a_local_folder() {
    let world = world(FTP);
    for name in ["a.o", "keep", "cache/x", "git/a.log", "git/b", "mark/x"] {
        world.write(name, b"1");
    }
    world.write("cache/CACHEDIR.TAG", b"Signature: 8a477f597d28d172789f06886806bc55\n");
    world.write("git/.gitignore", b"*.log\n");
    world.write("mark/.skip", b"");
    let filter = Filter::new(&FilterOptions {
        patterns: vec!["*.o".to_owned()],
        gitignore: true,
        exclude_caches: true,
        exclude_if_present: vec![".skip".to_owned()],
        ..FilterOptions::default()
    });
    let options = FilesOptions { filter: Some(filter.unwrap()), ..FilesOptions::default() };
    let rows = scanned(&world.source_at(b"", options));
    let expected = ["", "cache", "cache/CACHEDIR.TAG", "git", "git/.gitignore", "git/b"];
    assert_eq!(rows[..6], expected);
    assert_eq!(rows[6..], ["keep", "mark", "mark/.skip"]);
}

#[test]
fn modes_are_those_told_and_what_is_not_told_is_usual() {
    let world = world(SFTP);
    world.write("a", b"1");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o640);
    std::fs::set_permissions(world.folder.path().join("a"), mode).unwrap();
    let source = world.source();
    let items: Vec<ScanItem> = source.scan(&Cancel::new()).unwrap().collect();
    let [ScanItem::Entry(root), ScanItem::Entry(file)] = items.as_slice() else {
        panic!("{items:?}");
    };
    assert_eq!((root.kind, root.metadata.mode), (Kind::Directory, 0o755));
    assert_eq!((file.metadata.mode, file.metadata.owner.uid), (0o640, 0));
    assert_eq!(file.metadata.owner.user, "");
}

/// Whoever backs up such a server is told without having to ask for it.
#[test]
fn links_that_are_left_out_are_counted() {
    let world = world(Ways { untold_links: true, ..SFTP });
    world.write("a", b"a");
    world.write("d/b", b"b");
    for link in ["d/link", "link"] {
        std::os::unix::fs::symlink("a", world.folder.path().join(link)).unwrap();
    }
    let repository = Repository::memory();

    back_up(&repository, &world.source(), 1_000);

    let told = "2 symbolic links are left out, as the server does not tell where they lead";
    assert!(repository.progress.warnings().iter().any(|it| it == told));
    assert!(
        scanned(&world.source()).iter().any(|it| it.starts_with("~ link: the server does not"))
    );
}
