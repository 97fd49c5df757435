//! Awkward trees, and fingerprints to compare them by.
//!
//! Everything goes by folder handles, since the trees are deeper than `PATH_MAX`.

use crate::support::folder::is_root;
use crate::support::folder::skipped;
use rustix::fs::AtFlags;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::SeekFrom;
use rustix::fs::Timespec;
use rustix::fs::Timestamps;
use rustix::fs::XattrFlags;
use std::collections::BTreeMap;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::rc::Rc;

/// What is known of one path, read straight from the system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fact {
    pub(crate) kind: FileType,
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    pub(crate) mtime: (i64, u64),
    pub(crate) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(crate) size: i64,
    pub(crate) content: Option<[u8; 32]>,
    pub(crate) link_target: Vec<u8>,
    /// Where the data of a regular file is.
    pub(crate) extents: Vec<(u64, u64)>,
    pub(crate) device: u64,
    /// The first of the names of the same file; its own when it has no other.
    pub(crate) twin_of: Vec<u8>,
}

/// All paths below a folder, and the folder itself as the empty path.
pub(crate) type Fingerprint = BTreeMap<Vec<u8>, Fact>;

const FOLDER: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

fn open_folder(parent: &OwnedFd, name: &[u8]) -> OwnedFd {
    rustix::fs::openat(parent, name, FOLDER, Mode::empty()).unwrap()
}

fn make_folder(parent: &OwnedFd, name: &[u8]) -> OwnedFd {
    rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755)).unwrap();
    open_folder(parent, name)
}

fn open_root(path: &Path) -> OwnedFd {
    rustix::fs::open(path, FOLDER, Mode::empty()).unwrap()
}

fn make_file(parent: &OwnedFd, name: &[u8], content: &[u8]) -> std::fs::File {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o644)).unwrap();
    let file = std::fs::File::from(file);
    file.write_all_at(content, 0).unwrap();
    file
}

/// Bytes that do not compress and differ by seed.
pub(crate) fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    let mut bytes = vec![0; length];
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

fn set_mtime(parent: &OwnedFd, name: &[u8], seconds: i64, nanos: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanos };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(parent, name, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// Fills a folder with everything that a file system can hold and programs trip over.
pub(crate) fn build_awkward_tree(path: &Path) {
    let root = open_root(path);
    build_files(&root);
    build_links(&root);
    build_sparse_files(&root);
    build_special(&root);
    build_xattrs(&root);
    build_deep(&root);
    build_modes(&root);
    build_times(&root);
}

fn build_files(root: &OwnedFd) {
    for (index, size) in [0, 1, 4096, 5 * 1024 * 1024].into_iter().enumerate() {
        make_file(root, format!("size-{size}").as_bytes(), &noise(size, index as u64));
    }
    let names = make_folder(root, b"names");
    let long = [b'n'; 255];
    let awkward: [&[u8]; 11] = [
        b"new\nline",
        b"\xff\xfe",
        b"quo'te\"s",
        b" ",
        b"-rf",
        b"a.b",
        b"a",
        b"a!",
        b"\x01",
        b"*",
        &long,
    ];
    for (index, name) in awkward.into_iter().enumerate() {
        make_file(&names, name, &noise(10, 100 + index as u64));
    }
    // Sorted by components, this folder comes before `a!` and its neighbours of `names`.
    let folder = make_folder(root, b"names.d");
    make_folder(&folder, b"empty");
    make_folder(&folder, b"\xc3\xa9");
}

fn build_links(root: &OwnedFd) {
    let links = make_folder(root, b"links");
    let long = [b'/', b'x'].repeat(2000);
    let targets: [(&[u8], &[u8]); 7] = [
        (b"dangling", b"nowhere/at/all"),
        (b"loop", b"loop"),
        (b"absolute", b"/etc/passwd"),
        (b"folder", b"../names"),
        (b"root", b"/"),
        (b"not-utf8", b"\xff\xfe\n"),
        (b"long", &long),
    ];
    for (name, target) in targets {
        rustix::fs::symlinkat(target, &links, name).unwrap();
    }
    let first = make_folder(root, b"twins-1");
    let second = make_folder(root, b"twins-2");
    make_file(&first, b"one", &noise(5000, 7));
    rustix::fs::linkat(&first, "one", &second, "two", AtFlags::empty()).unwrap();
    rustix::fs::linkat(&first, "one", root, "three", AtFlags::empty()).unwrap();
}

fn build_sparse_files(root: &OwnedFd) {
    let folder = make_folder(root, b"sparse");
    let block = noise(64 * 1024, 9);
    let layouts: [(&[u8], &[u64]); 5] = [
        (b"start", &[900 * 1024]),
        (b"middle", &[0, 900 * 1024]),
        (b"end", &[0]),
        (b"all", &[]),
        (b"both", &[512 * 1024]),
    ];
    for (name, offsets) in layouts {
        let file = make_file(&folder, name, b"");
        for &offset in offsets {
            file.write_all_at(&block, offset).unwrap();
        }
        let ends_in_data = name == b"start" || name == b"middle";
        file.set_len(if ends_in_data { (900 + 64) * 1024 } else { 1_000_001 }).unwrap();
    }
}

fn build_special(root: &OwnedFd) {
    let folder = make_folder(root, b"special");
    let mode = Mode::from_raw_mode(0o640);
    rustix::fs::mknodat(&folder, "fifo", FileType::Fifo, mode, 0).unwrap();
    rustix::fs::mknodat(&folder, "socket", FileType::Socket, mode, 0).unwrap();
    let device = rustix::fs::makedev(1, 3);
    for (name, kind) in
        [(&b"char"[..], FileType::CharacterDevice), (b"block", FileType::BlockDevice)]
    {
        if rustix::fs::mknodat(&folder, name, kind, mode, device).is_err() {
            skipped("devices: mknod is refused");
        }
    }
}

/// An ACL of `u::rwx,u:1234:r--,g::r-x,m::r-x,o::r--` as the system stores it.
fn acl() -> Vec<u8> {
    const NOBODY: u32 = u32::MAX;
    let entries: [(u16, u16, u32); 5] =
        [(1, 7, NOBODY), (2, 4, 1234), (4, 5, NOBODY), (16, 5, NOBODY), (32, 4, NOBODY)];
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(permissions.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

fn build_xattrs(root: &OwnedFd) {
    let folder = make_folder(root, b"xattrs");
    let file = make_file(&folder, b"file", b"with attributes");
    let flags = XattrFlags::empty();
    if rustix::fs::fsetxattr(&file, "user.colour", b"blue", flags).is_err() {
        skipped("extended attributes: the file system has none");
        return;
    }
    rustix::fs::fsetxattr(&file, "user.empty", b"", flags).unwrap();
    rustix::fs::fsetxattr(&file, "user.bytes", b"\0\xff\n", flags).unwrap();
    rustix::fs::fsetxattr(&folder, "user.folder", b"yes", flags).unwrap();
    let has_acls = rustix::fs::fsetxattr(&file, "system.posix_acl_access", &acl(), flags).is_ok();
    if has_acls {
        rustix::fs::fsetxattr(&folder, "system.posix_acl_default", &acl(), flags).unwrap();
        // This one inherits.
        make_file(&folder, b"heir", b"inherits");
        make_folder(&folder, b"heirs");
    } else {
        skipped("ACLs: the file system has none");
    }
    rustix::fs::symlinkat("file", &folder, "link").unwrap();
    let link = format!("/proc/self/fd/{}/link", folder.as_raw_fd());
    if rustix::fs::lsetxattr(link, "trusted.mark", b"on a link", flags).is_err() {
        skipped("attributes of symlinks: not permitted");
    }
}

/// Deeper than `PATH_MAX` by far, and deeper than the handles that are kept.
fn build_deep(root: &OwnedFd) {
    let name = [b'd'; 200];
    let mut folder = make_folder(root, b"deep");
    for level in 0..40 {
        make_file(&folder, b"before", &noise(3, level));
        let next = make_folder(&folder, &name);
        make_file(&folder, b"z-after", &noise(3, 1000 + level));
        folder = next;
    }
    make_file(&folder, b"bottom", b"far down");
    rustix::fs::symlinkat("bottom", &folder, "link").unwrap();
}

fn build_modes(root: &OwnedFd) {
    let folder = make_folder(root, b"modes");
    for mode in [0o4755, 0o2755, 0o1644, 0o777, 0o6711, 0o400, 0o000] {
        if mode == 0o000 && !is_root() {
            skipped("a file of mode 0000: its owner cannot read it");
            continue;
        }
        let file = make_file(&folder, format!("file-{mode:04o}").as_bytes(), b"mode");
        if is_root() {
            rustix::fs::fchown(
                &file,
                Some(rustix::fs::Uid::from_raw(1234)),
                Some(rustix::fs::Gid::from_raw(4321)),
            )
            .unwrap();
        }
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode)).unwrap();
    }
    for mode in [0o1777, 0o2775, 0o500, 0o000] {
        if mode == 0o000 && !is_root() {
            skipped("a folder of mode 0000: its owner cannot read it");
            continue;
        }
        let inner = make_folder(&folder, format!("folder-{mode:04o}").as_bytes());
        make_file(&inner, b"inside", b"a folder");
        rustix::fs::fchmod(&inner, Mode::from_raw_mode(mode)).unwrap();
    }
}

fn build_times(root: &OwnedFd) {
    let folder = make_folder(root, b"times");
    let times = [
        ("before-1970", -1, 500_000_000),
        ("long-before-1970", -2_000_000_000, 1),
        ("zero", 0, 0),
        ("after-2106", 4_400_000_000, 999_999_999),
        ("nanos", 1_700_000_000, 123_456_789),
    ];
    for (name, seconds, nanos) in times {
        make_file(&folder, name.as_bytes(), b"time");
        set_mtime(&folder, name.as_bytes(), seconds, nanos);
    }
    rustix::fs::symlinkat("zero", &folder, "link").unwrap();
    set_mtime(&folder, b"link", 1_600_000_000, 5);
    set_mtime(root, b"times", 1_500_000_000, 42);
}

/// Reads everything below a folder.
pub(crate) fn fingerprint(path: &Path) -> Fingerprint {
    let root = Rc::new(open_root(path));
    let mut facts = Fingerprint::new();
    let mut twins: BTreeMap<(u64, u64), Vec<Vec<u8>>> = BTreeMap::new();
    let stat = rustix::fs::fstat(&*root).unwrap();
    facts.insert(Vec::new(), fact(&root, b".", &stat, b""));
    let mut waiting: Vec<(Vec<u8>, Rc<OwnedFd>, Vec<u8>)> = vec![(Vec::new(), root, b".".into())];
    while let Some((path, parent, name)) = waiting.pop() {
        let folder = Rc::new(open_folder(&parent, &name));
        for entry in rustix::fs::Dir::read_from(&*folder).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let below = if path.is_empty() {
                name.to_vec()
            } else {
                [path.as_slice(), b"/", name].concat()
            };
            let stat = rustix::fs::statat(&*folder, name, AtFlags::SYMLINK_NOFOLLOW).unwrap();
            let fact = fact(&folder, name, &stat, &below);
            if fact.kind == FileType::RegularFile {
                twins.entry((stat.st_dev, stat.st_ino)).or_default().push(below.clone());
            }
            if fact.kind == FileType::Directory {
                waiting.push((below.clone(), Rc::clone(&folder), name.to_vec()));
            }
            facts.insert(below, fact);
        }
    }
    for mut names in twins.into_values() {
        names.sort();
        for name in &names {
            facts.get_mut(name).unwrap().twin_of = names[0].clone();
        }
    }
    facts
}

fn fact(folder: &OwnedFd, name: &[u8], stat: &rustix::fs::Stat, path: &[u8]) -> Fact {
    let kind = FileType::from_raw_mode(stat.st_mode);
    let is_file = kind == FileType::RegularFile;
    let is_device = matches!(kind, FileType::CharacterDevice | FileType::BlockDevice);
    let mut fact = Fact {
        kind,
        mode: stat.st_mode & 0o7777,
        owner: (stat.st_uid, stat.st_gid),
        mtime: (stat.st_mtime, stat.st_mtime_nsec),
        xattrs: xattrs(folder, name),
        size: if is_file { stat.st_size } else { 0 },
        content: None,
        link_target: Vec::new(),
        extents: Vec::new(),
        device: if is_device { stat.st_rdev } else { 0 },
        twin_of: path.to_vec(),
    };
    if kind == FileType::Symlink {
        fact.link_target = rustix::fs::readlinkat(folder, name, vec![]).unwrap().into_bytes();
    }
    if is_file {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = rustix::fs::openat(folder, name, flags, Mode::empty()).unwrap();
        fact.extents = extents(&file);
        let mut content = Vec::new();
        rustix::fs::seek(&file, SeekFrom::Start(0)).unwrap();
        std::fs::File::from(file).read_to_end(&mut content).unwrap();
        fact.content = Some(*blake3::hash(&content).as_bytes());
    }
    fact
}

fn extents(file: &OwnedFd) -> Vec<(u64, u64)> {
    let mut extents = Vec::new();
    let mut at = 0;
    while let Ok(start) = rustix::fs::seek(file, SeekFrom::Data(at)) {
        at = rustix::fs::seek(file, SeekFrom::Hole(start)).unwrap();
        extents.push((start, at));
    }
    extents
}

fn xattrs(folder: &OwnedFd, name: &[u8]) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut path = format!("/proc/self/fd/{}/", folder.as_raw_fd()).into_bytes();
    path.extend_from_slice(name);
    let path = std::ffi::OsStr::from_bytes(&path);
    let mut list = vec![0; 65536];
    let length = rustix::fs::llistxattr(path, &mut list[..]).unwrap_or(0);
    let names = list[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty());
    names
        .map(|name| {
            let mut value = vec![0; 65536];
            let length = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
            (name.to_vec(), value[..length].to_vec())
        })
        .collect()
}

/// Says in words how two trees differ; empty when they do not.
pub(crate) fn difference(before: &Fingerprint, after: &Fingerprint) -> Vec<String> {
    let shown = |path: &[u8]| {
        let text = String::from_utf8_lossy(path);
        if text.len() <= 120 {
            text.into_owned()
        } else {
            format!("..{}", &text[text.len() - 60..])
        }
    };
    let mut lines = Vec::new();
    for (path, old) in before {
        match after.get(path) {
            None => lines.push(format!("{}: missing", shown(path))),
            Some(new) => lines.extend(compare(old, new).map(|it| format!("{}: {it}", shown(path)))),
        }
    }
    for path in after.keys().filter(|path| !before.contains_key(*path)) {
        lines.push(format!("{}: was not there", shown(path)));
    }
    lines
}

fn compare(old: &Fact, new: &Fact) -> impl Iterator<Item = String> {
    let line = |what: &str, old: &dyn std::fmt::Debug, new: &dyn std::fmt::Debug| {
        let (old, new) = (format!("{old:?}"), format!("{new:?}"));
        (old != new).then(|| format!("{what} was {old}, is {new}"))
    };
    [
        line("kind", &old.kind, &new.kind),
        line("mode", &format_args!("{:o}", old.mode), &format_args!("{:o}", new.mode)),
        line("owner", &old.owner, &new.owner),
        line("mtime", &old.mtime, &new.mtime),
        line("xattrs", &old.xattrs, &new.xattrs),
        line("size", &old.size, &new.size),
        line("content", &old.content, &new.content),
        line("link target", &old.link_target, &new.link_target),
        line("extents", &old.extents, &new.extents),
        line("device", &old.device, &new.device),
        line("first of its names", &old.twin_of, &new.twin_of),
    ]
    .into_iter()
    .flatten()
}
