//! The contract of targets, run over each kind, and what only a local folder can show.

use crate::s3::store::Store;
use crate::support::files::Door;
use crate::support::files::Server;
use crate::support::folder::Folder;
use crate::support::folder::is_root;
use crate::support::folder::skipped;
use crate::support::tree;
use crate::support::ways;
use crate::support::ways::Ways;
use icecore::base::cancel::Cancel;
use icecore::base::error::ErrorKind;
use icecore::base::error::Origin;
use icecore::base::metadata::Extent;
use icecore::base::metadata::Kind;
use icecore::base::metadata::Metadata;
use icecore::base::metadata::Owner;
use icecore::base::metadata::Xattr;
use icecore::base::path::EntryPath;
use icecore::base::time::SystemClock;
use icecore::base::time::Timestamp;
use icecore::net::pool::Pool;
use icecore::net::pool::PoolOptions;
use icecore::source::ScanItem;
use icecore::source::Source;
use icecore::source::SourceEntry;
use icecore::source::SourceReader;
use icecore::source::local::LocalOptions;
use icecore::source::local::LocalSource;
use icecore::target::MetadataRules;
use icecore::target::Node;
use icecore::target::Target;
use icecore::target::TargetWriter;
use icecore::target::bucket::BucketTarget;
use icecore::target::files::FilesTarget;
use icecore::target::local::LocalTarget;
use icecore::target::memory::MemoryTarget;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

mod on_disk;

/// What a kind of target can keep; the suite asks for no more.
#[derive(Clone, Copy)]
pub(crate) struct Keeps {
    pub(crate) links: bool,
    pub(crate) modes: bool,
    pub(crate) times: bool,
    pub(crate) symlinks: bool,
}

/// An empty target that was not prepared yet.
pub(crate) struct World {
    pub(crate) target: Box<dyn Target>,
    pub(crate) keeps: Keeps,
    _folder: Option<Folder>,
}

const ALL: Keeps = Keeps { links: true, modes: true, times: true, symlinks: true };

fn local() -> World {
    let folder = Folder::new();
    let target = LocalTarget::new(&folder.path().join("not/there/yet"));
    World { target: Box::new(target), keeps: ALL, _folder: Some(folder) }
}

fn memory() -> World {
    World { target: Box::new(MemoryTarget::new()), keeps: ALL, _folder: None }
}

fn served(ways: Ways, keeps: Keeps) -> World {
    served_as(ways, keeps, |target| target)
}

/// A server with the ways of others; it tells times in whole seconds.
fn served_as(ways: Ways, keeps: Keeps, make: impl Fn(FilesTarget) -> FilesTarget) -> World {
    let folder = Folder::new();
    let server = Server::new(folder.path(), ways);
    let clock = Arc::new(SystemClock);
    let pool = Pool::new(Arc::new(Door(server)), clock, PoolOptions::default());
    let scratch = folder.path().join("scratch");
    std::fs::create_dir(&scratch).unwrap();
    let target = FilesTarget::new(pool, b"not/there/yet", "sftp://h/x".to_owned(), scratch);
    World { target: Box::new(make(target)), keeps, _folder: Some(folder) }
}

fn sftp() -> World {
    served(ways::SFTP, Keeps { times: false, ..ALL })
}

fn bucket() -> World {
    let folder = Folder::new();
    let target = BucketTarget::new(Store::new().client(), "p", folder.path().to_path_buf());
    let keeps = Keeps { links: false, modes: true, times: true, symlinks: true };
    World { target: Box::new(target), keeps, _folder: Some(folder) }
}

const BY_FTP: Keeps = Keeps { links: false, modes: true, times: false, symlinks: false };

fn ftp() -> World {
    served(ways::FTP, BY_FTP)
}

/// Those that remember none of the names that they put, as in a folder of very many.
fn forgetful_ftp() -> World {
    served_as(ways::FTP, BY_FTP, |target| target.remembering(0))
}

fn forgetful_sftp() -> World {
    served_as(ways::SFTP, Keeps { times: false, ..ALL }, |target| target.remembering(0))
}

fn forgetful_bucket() -> World {
    let folder = Folder::new();
    let target = BucketTarget::new(Store::new().client(), "p", folder.path().to_path_buf());
    let keeps = Keeps { links: false, modes: true, times: true, symlinks: true };
    World { target: Box::new(target.remembering(0)), keeps, _folder: Some(folder) }
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

contract!(local, memory; [
    preparing_makes_the_root_once,
    a_file_holds_what_was_written_in_any_order,
    holes_read_as_zeros,
    what_is_there_is_not_replaced,
    a_folder_is_kept_and_made_writable,
    opening_what_is_no_file_is_refused,
    metadata_is_kept,
    a_link_is_a_second_name,
    nodes_are_made_with_their_metadata,
    a_list_is_sorted_bytewise,
    removing_takes_all_below_and_what_is_missing_is_success,
    a_folder_removed_by_one_writer_is_made_again_for_another,
    what_lies_in_something_that_is_no_folder_is_refused,
]);

contract!(sftp, ftp, bucket, forgetful_sftp, forgetful_ftp, forgetful_bucket; [
    preparing_makes_the_root_once,
    a_file_holds_what_was_written_in_any_order,
    holes_read_as_zeros,
    what_is_there_is_not_replaced,
    a_folder_is_kept_and_made_writable,
    opening_what_is_no_file_is_refused,
    a_list_is_sorted_bytewise,
    removing_takes_all_below_and_what_is_missing_is_success,
    a_folder_removed_by_one_writer_is_made_again_for_another,
    what_lies_in_something_that_is_no_folder_is_refused,
]);

/// A dry run once told that all would be made anew, whatever was on the server.
#[test]
fn on_a_server_what_is_there_is_seen_without_preparing() {
    let folder = Folder::new();
    let server = Server::new(folder.path(), ways::FTP);
    let scratch = folder.path().join("scratch");
    std::fs::create_dir(&scratch).unwrap();
    let target = |root: &[u8]| {
        let (door, clock) = (Arc::new(Door(Arc::clone(&server))), Arc::new(SystemClock));
        let pool = Pool::new(door, clock, PoolOptions::default());
        FilesTarget::new(pool, root, "ftp://h/x".to_owned(), scratch.clone())
    };
    std::fs::create_dir(folder.path().join("there")).unwrap();
    std::fs::write(folder.path().join("there/a"), b"content").unwrap();

    let there = target(b"there");
    let mut writer = there.writer().unwrap();

    assert_eq!(writer.list(&EntryPath::root()).unwrap(), [b"a"]);
    refused(target(b"missing").writer().map(drop), ErrorKind::NotFound);
}

#[test]
fn over_sftp_metadata_and_second_names_are_kept() {
    metadata_is_kept(&sftp());
    let world = sftp();
    let mut writer = writer(&world);
    put(&mut *writer, "a", b"content");
    writer.link(&path("b"), &path("a")).unwrap();
    assert_eq!(get(&mut *writer, "b"), b"content");
    refused(writer.link(&path("c"), &path("missing")), ErrorKind::NotFound);
}

#[test]
fn what_a_server_cannot_keep_is_told_at_the_end() {
    let world = ftp();
    let mut writer = writer(&world);
    let mut told = Vec::new();
    for text in ["a", "b"] {
        writer.create_file(&path(text)).unwrap();
        let xattrs = vec![Xattr { name: b"user.x".to_vec(), value: b"1".to_vec() }];
        let wanted = Metadata { xattrs, ..metadata(0o600, 1) };
        told.extend(writer.finish_file(&wanted, RULES).unwrap());
    }
    assert!(told.is_empty(), "nobody failed: {told:?}");
    let finished = world.target.finish().unwrap();
    assert_eq!(finished.notes, ["the server keeps no extended attributes"]);
    assert!(finished.failed.is_empty());
}

fn path(text: &str) -> EntryPath {
    EntryPath::new(text.as_bytes()).unwrap()
}

fn me() -> Arc<Owner> {
    let uid = rustix::process::geteuid().as_raw();
    let gid = rustix::process::getegid().as_raw();
    Arc::new(Owner { uid, gid, ..Owner::default() })
}

fn metadata(mode: u32, seconds: i64) -> Metadata {
    let mtime = Timestamp::new(seconds, 123_456_789);
    Metadata { mode, owner: me(), mtime, xattrs: Vec::new() }
}

const RULES: MetadataRules = MetadataRules { owner: true };

fn writer(world: &World) -> Box<dyn TargetWriter + Send + '_> {
    world.target.prepare().unwrap();
    world.target.writer().unwrap()
}

fn put(writer: &mut dyn TargetWriter, text: &str, content: &[u8]) {
    writer.create_file(&path(text)).unwrap();
    writer.write_at(0, content).unwrap();
    writer.close_file().unwrap();
}

fn get(writer: &mut dyn TargetWriter, text: &str) -> Vec<u8> {
    let size = writer.stat(&path(text)).unwrap().unwrap().size;
    let mut content = vec![0; usize::try_from(size).unwrap() + 1];
    writer.open_file(&path(text)).unwrap();
    let length = writer.read_at(0, &mut content).unwrap();
    writer.close_file().unwrap();
    assert_eq!(length as u64, size);
    content.truncate(length);
    content
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: icecore::base::error::Result<T>, kind: ErrorKind) {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), kind, "{error:?}");
    assert_eq!(error.origin(), Origin::Target, "{error:?}");
}

fn preparing_makes_the_root_once(world: &World) {
    refused(world.target.writer().map(drop), ErrorKind::NotFound);
    assert!(!world.target.prepare().unwrap());
    assert!(world.target.prepare().unwrap());

    let mut writer = world.target.writer().unwrap();
    assert_eq!(writer.stat(&EntryPath::root()).unwrap().unwrap().kind, Kind::Directory);
    assert!(writer.list(&EntryPath::root()).unwrap().is_empty());
    writer.create_directory(&EntryPath::root()).unwrap();
    writer.sync().unwrap();
}

fn a_file_holds_what_was_written_in_any_order(world: &World) {
    let mut writer = writer(world);
    let content = tree::noise(200_000, 3);
    writer.create_file(&path("a")).unwrap();
    writer.write_at(150_000, &content[150_000..]).unwrap();
    writer.write_at(0, &content[..150_000]).unwrap();
    writer.close_file().unwrap();
    assert_eq!(get(&mut *writer, "a"), content);

    writer.open_file(&path("a")).unwrap();
    writer.write_at(10, b"changed").unwrap();
    writer.set_length(20).unwrap();
    writer.close_file().unwrap();

    let expected = [&content[..10], b"changed", &content[17..20]].concat();
    assert_eq!(get(&mut *writer, "a"), expected);
}

fn holes_read_as_zeros(world: &World) {
    let mut writer = writer(world);
    writer.create_file(&path("a")).unwrap();
    writer.write_at(0, &[7; 300_000]).unwrap();
    writer.punch_hole(4096, 100_000).unwrap();
    writer.punch_hole(299_000, 1_000_000).unwrap();
    writer.punch_hole(0, 0).unwrap();
    writer.set_length(400_000).unwrap();
    writer.close_file().unwrap();

    let mut expected = vec![7; 300_000];
    expected[4096..104_096].fill(0);
    expected[299_000..].fill(0);
    expected.resize(400_000, 0);
    assert!(get(&mut *writer, "a") == expected);
}

fn what_is_there_is_not_replaced(world: &World) {
    let mut writer = writer(world);
    put(&mut *writer, "a", b"content");
    writer.create_directory(&path("d")).unwrap();
    let fifo = metadata(0o644, 1);

    for there in ["a", "d"] {
        refused(writer.create_file(&path(there)), ErrorKind::AlreadyExists);
        let made = writer.create_node(&path(there), &Node::Fifo, &fifo, RULES);
        refused(made, ErrorKind::AlreadyExists);
        refused(writer.link(&path(there), &path("a")), ErrorKind::AlreadyExists);
    }
    refused(writer.create_directory(&path("a")), ErrorKind::AlreadyExists);
    assert_eq!(get(&mut *writer, "a"), b"content");
}

fn a_folder_is_kept_and_made_writable(world: &World) {
    let mut writer = writer(world);
    writer.create_directory(&path("d")).unwrap();
    put(&mut *writer, "d/a", b"content");
    writer.set_metadata(&path("d"), &metadata(0o500, 1), RULES).unwrap();

    writer.create_directory(&path("d")).unwrap();

    put(&mut *writer, "d/b", b"more");
    assert_eq!(get(&mut *writer, "d/a"), b"content");
}

fn opening_what_is_no_file_is_refused(world: &World) {
    let mut writer = writer(world);
    writer.create_directory(&path("d")).unwrap();
    if world.keeps.symlinks {
        let link = Node::Symlink(b"d".to_vec());
        writer.create_node(&path("l"), &link, &metadata(0o777, 1), RULES).unwrap();
        refused(writer.open_file(&path("l")), ErrorKind::InvalidInput);
    }

    refused(writer.open_file(&path("d")), ErrorKind::InvalidInput);
    refused(writer.open_file(&path("missing")), ErrorKind::NotFound);
    refused(writer.write_at(0, b"x"), ErrorKind::Bug);
}

fn metadata_is_kept(world: &World) {
    let mut writer = writer(world);
    writer.create_directory(&path("d")).unwrap();
    writer.create_file(&path("d/a")).unwrap();
    writer.write_at(0, b"content").unwrap();
    let file = metadata(0o4751, -5);
    assert_eq!(writer.finish_file(&file, RULES).unwrap(), Vec::<String>::new());
    let folder = metadata(0o1750, 4_400_000_000);
    assert_eq!(writer.set_metadata(&path("d"), &folder, RULES).unwrap(), Vec::<String>::new());

    for (text, expected) in [("d/a", file), ("d", folder)] {
        let there = writer.stat(&path(text)).unwrap().unwrap().metadata;
        assert_eq!(there.owner, expected.owner);
        if world.keeps.modes {
            assert_eq!(there.mode, expected.mode, "{text}");
        }
        if world.keeps.times {
            assert_eq!(there.mtime, expected.mtime, "{text}");
        }
    }
}

fn a_link_is_a_second_name(world: &World) {
    let mut writer = writer(world);
    if !world.keeps.links {
        return;
    }
    writer.create_directory(&path("d")).unwrap();
    put(&mut *writer, "a", b"content");

    writer.link(&path("d/b"), &path("a")).unwrap();

    writer.open_file(&path("d/b")).unwrap();
    // A target that others write in, too, may refuse what could reach a file outside.
    let written = writer.write_at(0, b"C");
    writer.close_file().unwrap();
    let expected = match written {
        Ok(()) => b"Content",
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::AlreadyExists);
            b"content"
        }
    };
    assert_eq!(get(&mut *writer, "a"), expected);
    assert_eq!(get(&mut *writer, "d/b"), expected);
    assert_eq!(writer.stat(&path("a")).unwrap().unwrap().links, 2);
    refused(writer.link(&path("c"), &path("missing")), ErrorKind::NotFound);
}

fn nodes_are_made_with_their_metadata(world: &World) {
    let mut writer = writer(world);
    let nodes = [
        ("link", Node::Symlink(b"/no\xff/where".to_vec()), Kind::Symlink),
        ("fifo", Node::Fifo, Kind::Fifo),
    ];
    for (text, node, kind) in nodes {
        let wanted = metadata(0o640, 1_000_000);
        let trouble = writer.create_node(&path(text), &node, &wanted, RULES).unwrap();
        let there = writer.stat(&path(text)).unwrap().unwrap();

        assert_eq!(trouble, Vec::<String>::new());
        assert_eq!(there.kind, kind);
        assert_eq!(there.metadata.mtime, wanted.mtime, "{text}");
        if kind == Kind::Fifo {
            assert_eq!(there.metadata.mode, 0o640);
        }
    }
}

fn a_list_is_sorted_bytewise(world: &World) {
    let mut writer = writer(world);
    for text in ["b", "a.b", "a", "B"] {
        put(&mut *writer, text, b"");
    }
    writer.create_directory(&path("a!")).unwrap();
    put(&mut *writer, "a!/below", b"");

    let names = writer.list(&EntryPath::root()).unwrap();

    assert_eq!(names, [&b"B"[..], b"a", b"a!", b"a.b", b"b"]);
}

fn removing_takes_all_below_and_what_is_missing_is_success(world: &World) {
    let mut writer = writer(world);
    for folder in ["keep", "d", "d/e", "d/e/f", "d/g"] {
        writer.create_directory(&path(folder)).unwrap();
    }
    put(&mut *writer, "keep/a", b"kept");
    put(&mut *writer, "d/e/f/a", b"");
    put(&mut *writer, "d/b", b"");
    if world.keeps.symlinks {
        let link = Node::Symlink(b"../keep".to_vec());
        writer.create_node(&path("d/link"), &link, &metadata(0o777, 1), RULES).unwrap();
    }
    writer.set_metadata(&path("d/e"), &metadata(0o000, 1), RULES).unwrap();

    writer.remove(&path("d")).unwrap();
    writer.remove(&path("d")).unwrap();
    writer.remove(&path("d/e/f")).unwrap();

    assert_eq!(writer.list(&EntryPath::root()).unwrap(), [b"keep"]);
    assert_eq!(get(&mut *writer, "keep/a"), b"kept");
    assert_eq!(writer.stat(&path("d/b")).unwrap(), None);
}

fn a_folder_removed_by_one_writer_is_made_again_for_another(world: &World) {
    let mut first = writer(world);
    let mut second = world.target.writer().unwrap();
    for text in ["d", "d/e"] {
        first.create_directory(&path(text)).unwrap();
    }
    put(&mut *first, "d/e/a", b"");

    second.remove(&path("d")).unwrap();
    for text in ["d", "d/e"] {
        second.create_directory(&path(text)).unwrap();
    }

    assert_eq!(first.stat(&path("d/e/a")).unwrap(), None);
    put(&mut *first, "d/e/b", b"content");
    first.link(&path("d/e/c"), &path("d/e/b")).unwrap();
    assert_eq!(get(&mut *second, "d/e/c"), b"content");
}

fn what_lies_in_something_that_is_no_folder_is_refused(world: &World) {
    let mut writer = writer(world);
    writer.create_directory(&path("d")).unwrap();
    put(&mut *writer, "a", b"");
    if world.keeps.symlinks {
        let link = Node::Symlink(b"d".to_vec());
        writer.create_node(&path("l"), &link, &metadata(0o777, 1), RULES).unwrap();
    }

    for text in if world.keeps.symlinks { &["a/x", "l/x"][..] } else { &["a/x"] } {
        assert_eq!(writer.stat(&path(text)).unwrap(), None);
        refused(writer.create_file(&path(text)), ErrorKind::AlreadyExists);
        refused(writer.create_directory(&path(text)), ErrorKind::AlreadyExists);
        writer.remove(&path(text)).unwrap();
    }
    refused(writer.create_file(&path("missing/x")), ErrorKind::NotFound);
    assert!(writer.list(&path("d")).unwrap().is_empty());
}
