//! What only a folder on a disk can show of a source.

use super::*;

fn open_local(path: &Path, options: LocalOptions) -> LocalSource {
    LocalSource::open(path, options).unwrap()
}

fn paths(source: &LocalSource) -> Vec<String> {
    source.scan(&Cancel::new()).unwrap().map(|item| item.path().to_string()).collect()
}

#[test]
fn an_awkward_tree_is_scanned_as_the_system_shows_it() {
    let folder = Folder::new();
    tree::build_awkward_tree(folder.path());
    let facts = tree::fingerprint(folder.path());
    let source = open_local(folder.path(), LocalOptions::default());

    let mut reader = source.reader().unwrap();
    let mut seen = 0;
    let mut last: Option<EntryPath> = None;
    for item in source.scan(&Cancel::new()).unwrap() {
        let path = item.path().clone();
        assert!(last.is_none_or(|last| last < path), "{path} is out of order");
        last = Some(path.clone());
        seen += 1;
        let fact = &facts[path.as_bytes()];
        let ScanItem::Entry(_) = item else {
            assert_eq!(fact.kind, FileType::Socket, "{item:?}");
            continue;
        };
        let opened = reader.open(&path).unwrap();
        let entry = &opened.entry;
        assert_eq!(entry.metadata.mode, fact.mode, "{path}");
        assert_eq!((entry.metadata.owner.uid, entry.metadata.owner.gid), fact.owner, "{path}");
        assert_eq!(entry.size, u64::try_from(fact.size).unwrap(), "{path}");
        let mtime = entry.metadata.mtime;
        assert_eq!((mtime.seconds(), u64::from(mtime.nanos())), fact.mtime, "{path}");
        assert_eq!(opened.link_target, fact.link_target, "{path}");
        let names: Vec<_> = opened.xattrs().iter().map(|xattr| &xattr.name).collect();
        assert_eq!(names, fact.xattrs.keys().collect::<Vec<_>>(), "{path}");
        if let Some(extents) = &opened.extents {
            let ends = extents.iter().map(|it| (it.offset, it.offset + it.length));
            assert_eq!(ends.collect::<Vec<_>>(), fact.extents, "{path}");
        }
        assert_eq!(opened.extents.is_some(), path.as_bytes().starts_with(b"sparse/"), "{path}");
        if let Some(expected) = fact.content {
            let mut content = vec![0; usize::try_from(fact.size).unwrap()];
            assert_eq!(reader.read_at(0, &mut content).unwrap(), content.len());
            assert_eq!(*blake3::hash(&content).as_bytes(), expected, "{path}");
        }
    }
    assert_eq!(seen, facts.len());
}

#[test]
fn a_folder_swapped_for_a_symlink_is_not_followed() {
    let folder = Folder::new();
    let outside = Folder::new();
    std::fs::write(outside.path().join("secret"), b"secret").unwrap();
    std::fs::create_dir_all(folder.path().join("a/deep")).unwrap();
    std::fs::write(folder.path().join("a/secret"), b"harmless").unwrap();
    let source = open_local(folder.path(), LocalOptions::default());
    let mut scan = source.scan(&Cancel::new()).unwrap();
    assert!(scan.next().is_some());

    std::fs::rename(folder.path().join("a"), folder.path().join("moved")).unwrap();
    std::os::unix::fs::symlink(outside.path(), folder.path().join("a")).unwrap();

    let error = source.reader().unwrap().open(&path("a/secret")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert_eq!(open(&source, "a").entry.kind, Kind::Symlink);
    let below = scan.filter(|item| item.path().as_bytes().starts_with(b"a/"));
    assert_eq!(below.count(), 0);
}

#[test]
fn a_file_swapped_for_a_symlink_is_read_as_the_link() {
    let folder = Folder::new();
    std::fs::write(folder.path().join("a"), b"content").unwrap();
    let source = open_local(folder.path(), LocalOptions::default());
    std::fs::remove_file(folder.path().join("a")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", folder.path().join("a")).unwrap();

    let mut reader = source.reader().unwrap();

    assert_eq!(reader.open(&path("a")).unwrap().link_target, b"/etc/passwd");
    assert!(reader.read_at(0, &mut [0; 8]).is_err());
}

#[test]
fn a_file_that_changes_while_it_is_read_shows_it_at_the_end() {
    let folder = Folder::new();
    std::fs::write(folder.path().join("a"), b"content").unwrap();
    let source = open_local(folder.path(), LocalOptions::default());
    let mut reader = source.reader().unwrap();
    let opened = reader.open(&path("a")).unwrap();

    std::fs::write(folder.path().join("a"), b"con").unwrap();

    assert_ne!(reader.finish().unwrap(), opened.entry);
}

#[test]
fn an_unreadable_folder_is_shown_and_then_fails() {
    if is_root() {
        skipped("an unreadable folder: root may read all");
        return;
    }
    let folder = Folder::new();
    std::fs::create_dir(folder.path().join("a")).unwrap();
    std::fs::write(folder.path().join("b"), b"").unwrap();
    rustix::fs::chmod(folder.path().join("a"), Mode::empty()).unwrap();

    let source = open_local(folder.path(), LocalOptions::default());
    let items: Vec<ScanItem> = source.scan(&Cancel::new()).unwrap().collect();

    assert!(matches!(&items[1], ScanItem::Entry(entry) if entry.path == path("a")));
    assert!(matches!(&items[2], ScanItem::Failed(failed, error)
        if *failed == path("a") && error.kind() == ErrorKind::Denied));
    assert_eq!(items[3].path(), &path("b"));
    assert_eq!(open(&source, "a").entry.kind, Kind::Directory);
}

#[test]
fn a_huge_folder_is_scanned_in_order() {
    let folder = Folder::new();
    for number in 0..5000 {
        std::fs::create_dir(folder.path().join(format!("{number}"))).unwrap();
        std::fs::write(folder.path().join(format!("{number}/x")), b"").unwrap();
    }
    let source = open_local(folder.path(), LocalOptions::default());

    let mut expected: Vec<EntryPath> =
        (0..5000).flat_map(|n| [path(&format!("{n}")), path(&format!("{n}/x"))]).collect();
    expected.sort();
    let seen = source.scan(&Cancel::new()).unwrap().skip(1).map(|item| item.path().clone());
    assert_eq!(seen.collect::<Vec<_>>(), expected);
}

#[test]
fn a_scan_that_is_dropped_early_ends_its_threads() {
    let folder = Folder::new();
    build_sample(folder.path());
    let source = open_local(folder.path(), LocalOptions::default());

    for count in 0..8 {
        assert_eq!(source.scan(&Cancel::new()).unwrap().take(count).count(), count);
    }
}

#[test]
fn opening_what_is_no_folder_says_so() {
    let folder = Folder::new();
    let file = folder.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let kind = |path: &Path| {
        let error = LocalSource::open(path, LocalOptions::default()).unwrap_err();
        assert_eq!(error.origin(), Origin::Source);
        (error.kind(), error.to_string())
    };

    let missing = folder.path().join("missing");
    let message = format!("cannot read {}: no such folder", missing.display());
    assert_eq!(kind(&missing), (ErrorKind::NotFound, message));
    assert_eq!(kind(&file).0, ErrorKind::InvalidInput);
}

#[test]
fn the_repository_is_left_out_by_whatever_name() {
    let folder = Folder::new();
    build_sample(folder.path());
    let by_link = folder.path().join("link-to-c");
    std::os::unix::fs::symlink("c", &by_link).unwrap();
    let excluded = vec![by_link, PathBuf::from("/no/such/folder")];
    let source = open_local(folder.path(), LocalOptions { excluded, ..LocalOptions::default() });

    let items: Vec<ScanItem> = source.scan(&Cancel::new()).unwrap().collect();
    let skipped = items.iter().find(|item| item.path() == &path("c")).unwrap();

    assert!(matches!(skipped, ScanItem::Skipped(_, why) if why.contains("repository")));
    let all = LocalOptions { excluded: vec![folder.path().into()], ..LocalOptions::default() };
    let error = LocalSource::open(folder.path(), all).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[test]
fn one_file_system_keeps_the_place_of_a_mount_without_what_is_in_it() {
    let source = open_local(
        Path::new("/"),
        LocalOptions {
            one_file_system: true,
            filter: Some(
                Filter::new(&FilterOptions {
                    patterns: vec!["/*".into(), "!/proc".into()],
                    ..FilterOptions::default()
                })
                .unwrap(),
            ),
            ..LocalOptions::default()
        },
    );

    assert_eq!(paths(&source), ["", "proc"]);
}

#[test]
fn a_filter_reads_the_marks_in_the_tree() {
    let folder = Folder::new();
    let write = |name: &str, content: &[u8]| {
        let file = folder.path().join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, content).unwrap();
    };
    write("cache/CACHEDIR.TAG", b"Signature: 8a477f597d28d172789f06886806bc55\n# etc");
    write("cache/sub/file", b"");
    write("no-cache/CACHEDIR.TAG", b"something else");
    write("no-cache/file", b"");
    write("marked/.nobackup", b"");
    write("marked/file", b"");
    write("git/.gitignore", b"*.o\n!keep.o\n/sub/x\n");
    write("git/a.o", b"");
    write("git/sub/b.o", b"");
    write("git/sub/keep.o", b"");
    write("git/sub/x", b"");
    write("a.o", b"");
    let options = FilterOptions {
        gitignore: true,
        exclude_caches: true,
        exclude_if_present: vec![".nobackup".into()],
        ..FilterOptions::default()
    };
    let filter = Some(Filter::new(&options).unwrap());
    let source = open_local(folder.path(), LocalOptions { filter, ..LocalOptions::default() });

    assert_eq!(
        paths(&source),
        [
            "",
            "a.o",
            "cache",
            "cache/CACHEDIR.TAG",
            "git",
            "git/.gitignore",
            "git/sub",
            "git/sub/keep.o",
            "marked",
            "marked/.nobackup",
            "no-cache",
            "no-cache/CACHEDIR.TAG",
            "no-cache/file",
        ]
    );
}
