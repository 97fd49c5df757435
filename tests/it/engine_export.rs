//! Exporting: what others make of the archives, and what is in them when something is broken.

use crate::support::folder::Folder;
use crate::support::folder::skipped;
use crate::support::restored::backed_up;
use crate::support::restored::path;
use crate::support::restored::rich_source;
use crate::support::restored::text;
use crate::support::tree::build_awkward_tree;
use crate::support::tree::difference;
use crate::support::tree::fingerprint;
use crate::support::tree::noise;
use crate::support::world::World;
use icecore::base::error::Error;
use icecore::base::error::ErrorKind;
use icecore::base::error::Origin;
use icecore::base::metadata::Kind;
use icecore::base::time::Timestamp;
use icecore::engine::export;
use icecore::engine::export::ExportReport;
use icecore::engine::export::Format;
use icecore::engine::restore;
use icecore::engine::restore::RestoreOptions;
use icecore::format::entry::Run;
use icecore::repository::layout;
use icecore::source::local::LocalOptions;
use icecore::source::local::LocalSource;
use icecore::source::memory::MemorySource;
use icecore::target::local::LocalTarget;
use std::collections::BTreeMap;
use std::fs;
use std::io::Cursor;
use std::io::Read;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

fn try_export(world: &World, at: &str, format: Format) -> (Vec<u8>, Result<ExportReport, Error>) {
    let mut out = Vec::new();
    let report = export::run(&world.snapshot(0), &path(at), format, &mut out, &world.context());
    let is_lease = |key: &icecore::backend::key::ObjectKey| key.as_str().starts_with("leases/");
    assert!(!world.backend.objects().keys().any(is_lease), "the lease is given back");
    (out, report)
}

fn export(world: &World, at: &str, format: Format) -> Vec<u8> {
    let (out, report) = try_export(world, at, format);
    let report = report.unwrap();
    assert_eq!(report.errors, []);
    assert_eq!(report.written_bytes, out.len() as u64);
    out
}

/// What a tar holds, read by a reader of its own: names with kinds, sizes and records.
#[derive(Clone, Debug, Default)]
struct Member {
    flag: char,
    link: Vec<u8>,
    content: Vec<u8>,
    records: BTreeMap<Vec<u8>, Vec<u8>>,
}

fn read_tar(bytes: &[u8]) -> (BTreeMap<Vec<u8>, Member>, bool) {
    let mut found = BTreeMap::new();
    let mut records: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    let field = |block: &[u8]| block.split(|&b| b == 0).next().unwrap().to_vec();
    let mut rest = bytes;
    while rest.len() >= 512 && rest[0] != 0 {
        let (block, after) = rest.split_at(512);
        let octal = |at: usize, length: usize| {
            let digits = String::from_utf8(field(&block[at..at + length])).unwrap();
            u64::from_str_radix(digits.trim(), 8).unwrap() as usize
        };
        let size = match records.get(&b"size"[..]) {
            Some(size) => String::from_utf8_lossy(size).parse().unwrap(),
            None => octal(124, 12),
        };
        let content = &after[..size.min(after.len())];
        rest = after.get(size.next_multiple_of(512)..).unwrap_or_default();
        let flag = char::from(block[156]);
        if flag == 'x' {
            records = read_records(content);
            continue;
        }
        let own = std::mem::take(&mut records);
        let keys = [&b"GNU.sparse.name"[..], b"path"];
        let told = keys.iter().find_map(|key| own.get(*key).cloned());
        let name = told.unwrap_or_else(|| field(&block[..100]));
        let link = own.get(&b"linkpath"[..]).cloned().unwrap_or_else(|| field(&block[157..257]));
        let read = Member { flag, link, content: content.to_vec(), records: own };
        assert!(found.insert(name, read).is_none(), "each name comes once");
    }
    let has_end = rest.len() >= 1024 && rest.iter().all(|&byte| byte == 0);
    (found, has_end)
}

fn read_records(mut bytes: &[u8]) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut records = BTreeMap::new();
    while !bytes.is_empty() {
        let space = bytes.iter().position(|&b| b == b' ').unwrap();
        let length: usize = std::str::from_utf8(&bytes[..space]).unwrap().parse().unwrap();
        let record = &bytes[space + 1..length - 1];
        let equal = record.iter().position(|&b| b == b'=').unwrap();
        records.insert(record[..equal].to_vec(), record[equal + 1..].to_vec());
        assert_eq!(bytes[length - 1], b'\n');
        bytes = &bytes[length..];
    }
    records
}

fn names(found: &BTreeMap<Vec<u8>, Member>) -> Vec<String> {
    found.keys().map(|name| String::from_utf8_lossy(name).into_owned()).collect()
}

/// Unpacks an archive with the real tar, which must not complain.
fn unpack(archive: &[u8], into: &Path) {
    let file = into.with_extension("tar");
    fs::write(&file, archive).unwrap();
    fs::create_dir(into).unwrap();
    let mut command = Command::new("tar");
    command.args(["--xattrs", "--xattrs-include=*", "--acls", "--numeric-owner", "-S", "-p", "-x"]);
    let ran = command.arg("-f").arg(&file).arg("-C").arg(into).output().unwrap();
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    // Times of long ago and of the future are set all the same.
    let complaints: Vec<&str> = said.lines().filter(|line| !line.contains("time stamp")).collect();
    assert!(ran.status.success() && complaints.is_empty(), "{said}");
}

fn has_gnu_tar() -> bool {
    let told = Command::new("tar").arg("--version").output();
    let is_gnu = told.is_ok_and(|ran| String::from_utf8_lossy(&ran.stdout).contains("GNU tar"));
    if !is_gnu {
        skipped("what GNU tar makes of an archive: there is none");
    }
    is_gnu
}

#[test]
fn tar_makes_of_an_export_what_a_restore_makes() {
    if !has_gnu_tar() {
        return;
    }
    let (from, into) = (Folder::new(), Folder::new());
    build_awkward_tree(from.path());
    // Deeper than tar can go: it has no other way than by whole paths.
    assert!(
        Command::new("rm").arg("-rf").arg(from.path().join("deep")).status().unwrap().success()
    );
    let deep = from.path().join("d".repeat(200)).join("e".repeat(200));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("f".repeat(250)), b"deep").unwrap();
    let huge = fs::File::create(from.path().join("sparse/huge")).unwrap();
    huge.set_len(9 << 30).unwrap();
    huge.write_all_at(b"far out", 8 << 30).unwrap();
    // Everything but reading it back whole: that would take its time.
    drop(huge);
    let world = World::memory();
    world.backup(&LocalSource::open(from.path(), LocalOptions::default()).unwrap()).unwrap();
    let restored = into.path().join("restored");
    let target = LocalTarget::new(&restored);
    let report =
        restore::run(&world.snapshot(0), &target, &RestoreOptions::default(), &world.context());
    assert_eq!(report.unwrap().errors, []);

    let unpacked = into.path().join("unpacked");
    unpack(&export(&world, "", Format::Tar), &unpacked);

    for folder in [&restored, &unpacked] {
        let mut end = [0; 7];
        let huge = fs::File::open(folder.join("sparse/huge")).unwrap();
        assert_eq!(huge.metadata().unwrap().len(), 9 << 30);
        huge.read_exact_at(&mut end, 8 << 30).unwrap();
        assert_eq!(&end, b"far out");
        fs::remove_file(folder.join("sparse/huge")).unwrap();
    }
    let (mut restored, mut unpacked) = (fingerprint(&restored), fingerprint(&unpacked));
    // A file was taken out of it just now.
    restored.remove(&b"sparse"[..]);
    unpacked.remove(&b"sparse"[..]);
    assert_eq!(difference(&restored, &unpacked), [] as [String; 0]);
    fs::remove_file(from.path().join("sparse/huge")).unwrap();
    let mut before = fingerprint(from.path());
    before.retain(|path, fact| fact.kind != rustix::fs::FileType::Socket && path != b"sparse");
    assert_eq!(difference(&before, &unpacked), [] as [String; 0]);
}

#[test]
fn everything_is_in_a_tar() {
    let world = backed_up(&rich_source());
    let (found, has_end) = read_tar(&export(&world, "", Format::Tar));

    assert!(has_end);
    let expected: Vec<String> = world.paths(0);
    assert_eq!(found.len(), expected.len());
    assert_eq!(found[&b"./"[..]].flag, '5');
    assert_eq!(found[&b"c/hollow/"[..]].flag, '5');
    assert_eq!(found[&b"big"[..]].content, noise(5 << 20, 2));
    assert_eq!((found[&b"c/pipe"[..]].flag, found[&b"c/tty"[..]].flag), ('6', '3'));
    assert_eq!(found[&b"c/disk"[..]].flag, '4');
    assert_eq!(
        (found[&b"c/link"[..]].flag, &found[&b"c/link"[..]].link[..]),
        ('2', &b"../a/one"[..])
    );
    for further in [&b"c/again"[..], b"z/last"] {
        assert_eq!((found[further].flag, &found[further].link[..]), ('1', &b"a/one"[..]));
    }
    let holes = &found[&b"holes"[..]];
    assert_eq!(holes.records[&b"GNU.sparse.realsize"[..]], b"1048576");
    assert!(holes.content.starts_with(b"3\n8192\n4096\n524288\n"), "{:?}", &holes.content[..40]);
    assert_eq!(found[&b"nothing but a hole"[..]].content[..12], *b"1\n65536\n0\n\0\0");
    assert_eq!(found[&b"a/twin"[..]].records[&b"SCHILY.xattr.user.colour"[..]], b"blue");
    assert_eq!(found[&b"./"[..]].records[&b"mtime"[..]], b"77.000000005");
}

#[test]
fn a_part_is_exported_as_it_is_restored() {
    let world = backed_up(&rich_source());
    let (found, _) = read_tar(&export(&world, "c", Format::Tar));
    let inside =
        ["again", "deep/", "deep/er/", "deep/er/file", "disk", "hollow/", "link", "pipe", "tty"];
    assert_eq!(names(&found), inside);
    assert_eq!(found[&b"again"[..]].content, b"first name", "its first name is not in it");
    let (found, _) = read_tar(&export(&world, "c/deep/er/file", Format::Tar));
    assert_eq!(names(&found), ["file"]);

    let (_, missing) = try_export(&world, "nowhere", Format::Tar);
    assert_eq!(missing.unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn the_same_backup_gives_the_same_bytes() {
    let mut world = World::encrypted();
    world.backup(&rich_source()).unwrap();
    for format in [Format::Tar, Format::TarZst, Format::Zip] {
        world.threads = 1;
        let first = export(&world, "", format);
        world.threads = 4;
        world.clock.advance(1000);
        world.forget_caches();
        assert!(first == export(&world, "", format), "{format:?}");
    }
    let mut tar = Vec::new();
    let compressed = export(&world, "", Format::TarZst);
    zstd::stream::read::Decoder::new(&compressed[..]).unwrap().read_to_end(&mut tar).unwrap();
    assert!(tar == export(&world, "", Format::Tar));
    assert!(compressed.len() < tar.len());
}

#[test]
fn a_zip_holds_what_a_zip_can() {
    let source = rich_source()
        .file(b"not utf8 \xff\xfe", b"x")
        .directory(b"folder \xff")
        .file("\u{e9}t\u{e9}", b"summer")
        .file("long", text(200_000));
    source.edit("c/deep/er/file", |entry| entry.metadata.mode = 0o4750);
    source.edit("long", |entry| entry.metadata.mtime = Timestamp::new(1_700_000_001, 5));
    let world = backed_up(&source);
    let (bytes, report) = try_export(&world, "", Format::Zip);
    let report = report.unwrap();
    assert_eq!((report.left_out, report.errors), (3, Vec::new()), "a fifo and two devices");
    let warned = world.progress.warnings();
    assert!(warned.iter().any(|line| line.contains("owners")), "{warned:?}");
    assert!(warned.iter().any(|line| line == "c/pipe: a zip archive holds no fifo"), "{warned:?}");

    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).unwrap();
    let mut found = BTreeMap::new();
    for n in 0..archive.len() {
        let mut file = archive.by_index(n).unwrap();
        let mut content = Vec::new();
        file.read_to_end(&mut content).unwrap();
        found.insert(file.name_raw().to_vec(), (content, file.unix_mode().unwrap()));
    }
    let special = ["", "c/pipe", "c/tty", "c/disk"];
    let expected = world.paths(0).into_iter().filter(|path| !special.contains(&path.as_str()));
    assert_eq!(found.len(), expected.count());
    for tracked in world.snapshot(0).entries() {
        let entry = tracked.unwrap().entry;
        if entry.kind() == Kind::File && std::str::from_utf8(entry.path.as_bytes()).is_ok() {
            let (content, mode) = &found[entry.path.as_bytes()];
            assert!(*content == world.content(0, &entry.path.to_string()), "{}", entry.path);
            // The reader shows no more than these.
            assert_eq!(*mode, 0o100_000 | entry.metadata.mode & 0o777);
        }
    }
    assert_eq!(found[&b"not utf8 \xff\xfe"[..]].0, b"x");
    assert_eq!(found[&b"folder \xff/"[..]].1 & 0o170_000, 0o040_000);
    assert_eq!(found[&b"c/link"[..]], (b"../a/one".to_vec(), 0o120_000 | 0o777));
    assert_eq!(found[&b"c/hollow/"[..]].1 & 0o170_000, 0o040_000);
}

#[test]
fn unzip_unpacks_a_zip() {
    if Command::new("unzip").arg("-v").output().is_err() {
        skipped("what unzip makes of an archive: there is none");
        return;
    }
    let source = rich_source();
    source.edit("c/deep/er/file", |entry| entry.metadata.mtime = Timestamp::new(1_700_000_001, 5));
    let world = backed_up(&source);
    let into = Folder::new();
    let file = into.path().join("a.zip");
    fs::write(&file, try_export(&world, "", Format::Zip).0).unwrap();
    let out = into.path().join("out");
    let ran = Command::new("unzip").arg("-q").arg(&file).arg("-d").arg(&out).output().unwrap();
    assert!(ran.status.success(), "{ran:?}");
    let read = |at: &str| fs::read(out.join(at)).unwrap();
    assert!(read("big") == noise(5 << 20, 2));
    assert!(read("holes") == world.content(0, "holes"));
    assert_eq!(read("c/again"), b"first name");
    let link = fs::read_link(out.join("c/link")).unwrap();
    assert_eq!(link, Path::new("../a/one"));
    let file = fs::metadata(out.join("c/deep/er/file")).unwrap();
    let mtime = file.modified().unwrap().duration_since(std::time::UNIX_EPOCH).unwrap();
    assert_eq!(mtime.as_secs(), 1_700_000_001, "to the second, in any zone");
}

fn run_of(world: &World, at: &str, which: impl Fn(&[Run]) -> Run) -> Run {
    let tracked = world.snapshot(0).entry(&path(at)).unwrap().unwrap();
    which(&world.repository.runs_of(tracked.entry.file().unwrap()).unwrap())
}

/// Changes a byte of a block in the pack it is in, and forgets what was read of it.
fn damage(world: &mut World, run: &Run) {
    for location in world.repository.locate_block(&run.block).unwrap() {
        let key = layout::pack(&location.pack.pack).unwrap();
        let mut bytes = world.backend.objects()[&key].clone();
        bytes[location.row.offset as usize + 20] ^= 0x10;
        world.backend.insert_raw(&key, bytes);
    }
    world.forget_caches();
}

#[test]
fn a_damaged_file_is_left_out_with_all_its_names() {
    for format in [Format::Tar, Format::TarZst, Format::Zip] {
        let source = MemorySource::new("s")
            .file("a", text(900))
            .file("bad", noise(3 << 20, 5))
            .hard_link("bad-too", "bad")
            .file("c", text(2 << 20));
        let mut world = backed_up(&source);
        let run = run_of(&world, "bad", |runs| runs[runs.len() - 1]);
        damage(&mut world, &run);

        let (bytes, report) = try_export(&world, "", format);

        let report = report.unwrap();
        let failed: Vec<String> =
            report.errors.iter().map(|e| e.path.as_ref().unwrap().to_string()).collect();
        // What shares the block suffers with it.
        assert!(failed.starts_with(&["bad".to_owned(), "bad-too".to_owned()]), "{failed:?}");
        assert!(report.errors[0].message.starts_with("it is not in the archive: "), "{report:?}");
        if format == Format::Tar {
            let (found, has_end) = read_tar(&bytes);
            assert!(has_end);
            assert!(names(&found).iter().all(|name| !failed.contains(name)));
            assert_eq!(found.len() + failed.len(), 5);
        }
    }
}

#[test]
fn a_large_file_damaged_in_its_middle_ends_the_archive_without_an_end() {
    for format in [Format::Tar, Format::TarZst, Format::Zip] {
        let source = MemorySource::new("s")
            .file("a", text(900))
            .file("large", noise(24 << 20, 5))
            .file("z", text(900));
        let mut world = backed_up(&source);
        let run = run_of(&world, "large", |runs| runs[runs.len() - 1]);
        damage(&mut world, &run);

        let (bytes, report) = try_export(&world, "", format);

        let error = report.unwrap_err();
        assert_eq!((error.kind(), error.origin()), (ErrorKind::Corrupt, Origin::Repository));
        assert!(error.to_string().starts_with("cannot read large, the archive ends"), "{error}");
        match format {
            Format::Tar => {
                let (found, has_end) = read_tar(&bytes);
                assert!(!has_end);
                let large = &found[&b"large"[..]].content;
                assert!(large.len() < 24 << 20, "tar notices that data is missing");
                assert!(noise(24 << 20, 5).starts_with(large), "nothing false is in it");
            }
            Format::TarZst => {
                let mut tar = Vec::new();
                let mut decoder = zstd::stream::read::Decoder::new(&bytes[..]).unwrap();
                assert!(decoder.read_to_end(&mut tar).is_err());
            }
            Format::Zip => assert!(zip::ZipArchive::new(Cursor::new(bytes)).is_err()),
        }
    }
}

#[test]
fn a_large_file_damaged_at_its_beginning_is_left_out() {
    let source = MemorySource::new("s").file("large", noise(24 << 20, 5)).file("z", text(900));
    let mut world = backed_up(&source);
    let run = run_of(&world, "large", |runs| runs[0]);
    damage(&mut world, &run);

    let (bytes, report) = try_export(&world, "", Format::Tar);

    let report = report.unwrap();
    assert_eq!((report.errors.len(), report.files), (1, 1));
    let (found, has_end) = read_tar(&bytes);
    assert_eq!((names(&found), has_end), (vec!["./".to_owned(), "z".to_owned()], true));
}

#[test]
fn large_files_and_lists_of_runs_are_streamed() {
    // Every other piece is known already, so that the runs are short and many.
    let piece = |n: u64| noise(40_000, n);
    let mut long = Vec::new();
    let mut source = MemorySource::new("runs");
    for n in 0..600 {
        source = source.file(format!("{n:03}"), piece(n));
        long.extend_from_slice(&piece(n));
        long.extend_from_slice(&noise(8_000, n + 1000));
    }
    let world = World::memory();
    let source = source.file("zz", &long);
    world.backup(&source).unwrap();

    let (found, has_end) = read_tar(&export(&world, "", Format::Tar));

    assert!(has_end && found[&b"zz"[..]].content == long);
    assert!((0..600).all(|n| found[format!("{n:03}").as_bytes()].content == piece(n)));
}

/// Takes so many bytes, and no more.
struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 = self.0.checked_sub(bytes.len()).ok_or(std::io::ErrorKind::StorageFull)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn what_cannot_be_written_is_an_error() {
    let world = backed_up(&rich_source());
    for format in [Format::Tar, Format::TarZst, Format::Zip] {
        let whole = export_length(&world, format);
        for room in [0, 600, whole / 2, whole - 1] {
            let mut out = Full(room);
            let (at, context) = (path(""), world.context());
            let error = export::run(&world.snapshot(0), &at, format, &mut out, &context);
            let error = error.unwrap_err();
            assert_eq!(
                (error.kind(), error.origin()),
                (ErrorKind::Full, Origin::Target),
                "{format:?} {room}"
            );
        }
    }
}

fn export_length(world: &World, format: Format) -> usize {
    try_export(world, "", format).0.len()
}

#[test]
fn a_cancelled_export_stops() {
    let world = backed_up(&rich_source());
    world.cancel.cancel();
    let (bytes, report) = try_export(&world, "", Format::Tar);
    assert_eq!(report.unwrap_err().kind(), ErrorKind::Cancelled);
    assert_eq!(bytes, b"");
}
