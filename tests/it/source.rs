//! The contract of sources, run over each kind, and what only a local folder can show.

use crate::support::files::Door;
use crate::support::files::Server;
use crate::support::folder::Folder;
use crate::support::folder::is_root;
use crate::support::folder::skipped;
use crate::support::tree;
use crate::support::ways::FTP;
use crate::support::ways::SFTP;
use crate::support::ways::Ways;
use icecore::base::cancel::Cancel;
use icecore::base::error::ErrorKind;
use icecore::base::error::Origin;
use icecore::base::metadata::Extent;
use icecore::base::metadata::Kind;
use icecore::base::path::EntryPath;
use icecore::base::time::FixedClock;
use icecore::net::files::Precision;
use icecore::net::pool::Pool;
use icecore::net::pool::PoolOptions;
use icecore::source::OpenedEntry;
use icecore::source::ScanItem;
use icecore::source::Source;
use icecore::source::SourceEntry;
use icecore::source::SourceReader;
use icecore::source::files::FilesOptions;
use icecore::source::files::FilesSource;
use icecore::source::filter::Filter;
use icecore::source::filter::FilterOptions;
use icecore::source::local::LocalOptions;
use icecore::source::local::LocalSource;
use icecore::source::memory::MemorySource;
use rustix::fs::FileType;
use rustix::fs::Mode;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

mod on_disk;

/// What a kind of source can show; the suite asks for no more.
#[derive(Clone, Copy)]
pub(crate) struct Shows {
    pub(crate) symlinks: bool,
    pub(crate) fifos: bool,
    pub(crate) hard_links: bool,
    pub(crate) holes: bool,
    pub(crate) xattrs: bool,
}

/// A source that holds the sample tree: files `a` (empty), `b/large` (300 000 bytes), `b/small`
/// ("small"), the empty folder `c`, and as far as it can show them the symlink `link` to
/// `b/small`, the fifo `pipe`, `twin` as a second name of `b/small`, `holes` (1 MiB with data
/// in 65536..131072), and the attribute `user.colour` = "blue" on `a`; `b.txt` sorts after `b/`.
pub(crate) struct World {
    pub(crate) source: Box<dyn Source>,
    pub(crate) shows: Shows,
    /// Removes the file at a path.
    pub(crate) remove: Box<dyn Fn(&str)>,
}

const ALL: Shows =
    Shows { symlinks: true, fifos: true, hard_links: true, holes: true, xattrs: true };

fn path(text: &str) -> EntryPath {
    EntryPath::new(text.as_bytes()).unwrap()
}

fn large() -> Vec<u8> {
    tree::noise(300_000, 1)
}

fn build_sample(root: &Path) {
    std::fs::create_dir(root.join("b")).unwrap();
    std::fs::create_dir(root.join("c")).unwrap();
    std::fs::write(root.join("a"), b"").unwrap();
    std::fs::write(root.join("b.txt"), b"text").unwrap();
    std::fs::write(root.join("b/large"), large()).unwrap();
    std::fs::write(root.join("b/small"), b"small").unwrap();
    std::os::unix::fs::symlink("b/small", root.join("link")).unwrap();
    std::fs::hard_link(root.join("b/small"), root.join("twin")).unwrap();
    let mode = Mode::from_raw_mode(0o644);
    rustix::fs::mknodat(rustix::fs::CWD, root.join("pipe"), FileType::Fifo, mode, 0).unwrap();
    let holes = std::fs::File::create(root.join("holes")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&holes, &[1; 65_536], 65_536).unwrap();
    holes.set_len(1 << 20).unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(root.join("a"), "user.colour", b"blue", flags).unwrap();
}

fn local() -> World {
    let folder = Folder::new();
    build_sample(folder.path());
    let source = LocalSource::open(folder.path(), LocalOptions::default()).unwrap();
    let remove = move |path: &str| std::fs::remove_file(folder.path().join(path)).unwrap();
    World { source: Box::new(source), shows: ALL, remove: Box::new(remove) }
}

/// Lets a test keep a source and edit it.
struct Shared(std::sync::Arc<MemorySource>);

impl Source for Shared {
    fn location(&self) -> String {
        self.0.location()
    }
    fn detects_changes(&self) -> bool {
        self.0.detects_changes()
    }
    fn scan(&self, cancel: &Cancel) -> icecore::base::error::Result<icecore::source::Scan<'_>> {
        self.0.scan(cancel)
    }
    fn reader(&self) -> icecore::base::error::Result<Box<dyn SourceReader + Send + '_>> {
        self.0.reader()
    }
}

fn memory() -> World {
    let source = MemorySource::new("sample")
        .file("a", b"")
        .file("b/large", large())
        .file("b/small", b"small")
        .file("b.txt", b"text")
        .directory("c")
        .symlink("link", "b/small")
        .hard_link("twin", "b/small")
        .fifo("pipe")
        .sparse_file("holes", 1 << 20, &[(65_536, &[1; 65_536])])
        .xattr("a", "user.colour", "blue");
    let source = std::sync::Arc::new(source);
    let editor = std::sync::Arc::clone(&source);
    let remove = move |path: &str| editor.remove(path);
    World { source: Box::new(Shared(source)), shows: ALL, remove: Box::new(remove) }
}

/// Makes a module of tests out of a way to make a [`World`].
macro_rules! contract {
    ($($make:ident),*; $tests:tt) => { $( contract!(@one $make $tests); )* };
    (@one $make:ident [$($test:ident),* $(,)?]) => {
        mod $make {
            $(
                #[test]
                fn $test() {
                    super::$test(&super::$make());
                }
            )*
        }
    };
}

/// The sample as a server of files shows it.
fn served(ways: Ways) -> World {
    let folder = Folder::new();
    build_sample(folder.path());
    let shows = Shows {
        symlinks: ways.symlinks,
        fifos: false,
        hard_links: false,
        holes: false,
        xattrs: false,
    };
    // Nothing but what the suite asks for: the link is not followed where links are told.
    if !ways.symlinks {
        std::fs::remove_file(folder.path().join("link")).unwrap();
    }
    for unseen in ["pipe", "holes", "twin"] {
        std::fs::remove_file(folder.path().join(unseen)).unwrap();
    }
    let server = Server::new(folder.path(), ways);
    let options = PoolOptions { sessions_max: 4, ..PoolOptions::default() };
    let pool = Pool::new(Arc::new(Door(server)), Arc::new(FixedClock::default()), options);
    let options = FilesOptions::default();
    let source = FilesSource::open(pool, b"", "fake://server".to_owned(), options).unwrap();
    let remove = move |path: &str| std::fs::remove_file(folder.path().join(path)).unwrap();
    World { source: Box::new(source), shows, remove: Box::new(remove) }
}

fn sftp() -> World {
    served(SFTP)
}

fn ftp() -> World {
    served(FTP)
}

fn ftp_with_minutes_and_one_session() -> World {
    served(Ways { listed: Precision::Minute, sessions_max: 1, ..FTP })
}

contract!(local, memory, sftp, ftp, ftp_with_minutes_and_one_session; [
    a_scan_is_sorted_and_complete,
    two_scans_show_the_same,
    content_is_read_whole_and_in_parts,
    finishing_an_unchanged_entry_shows_what_opening_showed,
    links_are_read_and_not_followed,
    a_fifo_is_only_looked_at,
    two_names_of_one_file_are_a_group,
    holes_are_told_apart_from_data,
    attributes_come_with_opening,
    what_vanished_is_not_found,
    a_cancelled_scan_ends,
    reading_without_opening_is_an_error,
]);

fn entries(source: &dyn Source) -> Vec<SourceEntry> {
    let entry = |item| match item {
        ScanItem::Entry(entry) => entry,
        other => panic!("no entry: {other:?}"),
    };
    source.scan(&Cancel::new()).unwrap().map(entry).collect()
}

fn find(source: &dyn Source, text: &str) -> SourceEntry {
    entries(source).into_iter().find(|entry| entry.path == path(text)).unwrap()
}

fn open(source: &dyn Source, text: &str) -> OpenedEntry {
    source.reader().unwrap().open(&path(text)).unwrap()
}

fn a_scan_is_sorted_and_complete(world: &World) {
    let paths: Vec<String> =
        entries(&*world.source).iter().map(|entry| entry.path.to_string()).collect();

    let mut expected = vec!["", "a", "b", "b/large", "b/small", "b.txt", "c"];
    expected.extend(world.shows.holes.then_some("holes"));
    expected.extend(world.shows.symlinks.then_some("link"));
    expected.extend(world.shows.fifos.then_some("pipe"));
    expected.extend(world.shows.hard_links.then_some("twin"));
    assert_eq!(paths, expected);
}

fn two_scans_show_the_same(world: &World) {
    assert_eq!(entries(&*world.source), entries(&*world.source));
}

fn content_is_read_whole_and_in_parts(world: &World) {
    let mut reader = world.source.reader().unwrap();
    let opened = reader.open(&path("b/large")).unwrap();
    assert_eq!(opened.entry.size, 300_000);

    let mut buffer = vec![0; 400_000];
    assert_eq!(reader.read_at(0, &mut buffer).unwrap(), 300_000);
    assert_eq!(&buffer[..300_000], large());
    assert_eq!(reader.read_at(299_990, &mut buffer[..5]).unwrap(), 5);
    assert_eq!(&buffer[..5], &large()[299_990..299_995]);
    assert_eq!(reader.read_at(299_990, &mut buffer).unwrap(), 10);
    assert_eq!(reader.read_at(300_000, &mut buffer).unwrap(), 0);
    assert_eq!(reader.read_at(1 << 40, &mut buffer).unwrap(), 0);
}

fn finishing_an_unchanged_entry_shows_what_opening_showed(world: &World) {
    let mut reader = world.source.reader().unwrap();
    for scanned in entries(&*world.source) {
        let mut opened = reader.open(&scanned.path).unwrap().entry;
        opened.metadata.xattrs.clear();
        assert_eq!(opened, scanned);
        assert_eq!(reader.finish().unwrap(), scanned);
    }
}

fn links_are_read_and_not_followed(world: &World) {
    if world.shows.symlinks {
        let opened = open(&*world.source, "link");
        assert_eq!(opened.entry.kind, Kind::Symlink);
        assert_eq!(opened.link_target, b"b/small");
        assert_eq!(opened.entry.size, 0);
    }
}

fn a_fifo_is_only_looked_at(world: &World) {
    if world.shows.fifos {
        assert_eq!(open(&*world.source, "pipe").entry.kind, Kind::Fifo);
    }
}

fn two_names_of_one_file_are_a_group(world: &World) {
    if world.shows.hard_links {
        let group = find(&*world.source, "twin").hard_link;
        assert!(group.is_some());
        assert_eq!(find(&*world.source, "b/small").hard_link, group);
        assert_eq!(find(&*world.source, "b/large").hard_link, None);
        assert_eq!(find(&*world.source, "b").hard_link, None);
    }
}

fn holes_are_told_apart_from_data(world: &World) {
    assert_eq!(open(&*world.source, "b/large").extents, None);
    if world.shows.holes {
        assert!(find(&*world.source, "holes").maybe_sparse);
        let expected = vec![Extent { offset: 65_536, length: 65_536 }];
        assert_eq!(open(&*world.source, "holes").extents, Some(expected));
    }
}

fn attributes_come_with_opening(world: &World) {
    assert!(find(&*world.source, "a").metadata.xattrs.is_empty());
    if world.shows.xattrs {
        let opened = open(&*world.source, "a");
        let colour = opened.xattrs().iter().find(|xattr| xattr.name == b"user.colour");
        assert_eq!(colour.unwrap().value, b"blue");
    }
}

fn what_vanished_is_not_found(world: &World) {
    let mut reader = world.source.reader().unwrap();
    reader.open(&path("b/large")).unwrap();
    (world.remove)("b/small");

    for missing in ["b/small", "b/small/below", "no/such/folder"] {
        let error = reader.open(&path(missing)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        assert_eq!(error.origin(), Origin::Source);
        assert!(error.to_string().contains(missing), "{error}");
    }
}

fn a_cancelled_scan_ends(world: &World) {
    let cancel = Cancel::new();
    let mut scan = world.source.scan(&cancel).unwrap();
    assert!(scan.next().is_some());

    cancel.cancel();

    assert!(scan.next().is_none());
}

fn reading_without_opening_is_an_error(world: &World) {
    let mut reader = world.source.reader().unwrap();
    assert_eq!(reader.read_at(0, &mut [0; 4]).unwrap_err().kind(), ErrorKind::Bug);
    assert_eq!(reader.finish().unwrap_err().kind(), ErrorKind::Bug);
}
