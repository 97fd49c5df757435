//! What only a folder on a disk can show of a target, and a whole copy through both ends.

use super::*;

/// The smallest restore there can be: straight from a source into a target.
fn copy(source: &dyn Source, target: &dyn Target) -> Vec<String> {
    target.prepare().unwrap();
    let mut reader = source.reader().unwrap();
    let mut writer = target.writer().unwrap();
    let mut trouble = Vec::new();
    let mut folders: Vec<(EntryPath, Metadata)> = Vec::new();
    let mut twins: BTreeMap<u64, EntryPath> = BTreeMap::new();
    for item in source.scan(&Cancel::new()).unwrap() {
        let ScanItem::Entry(SourceEntry { path, .. }) = item else { continue };
        let opened = reader.open(&path).unwrap();
        let entry = &opened.entry;
        let (major, minor) = entry.device;
        let node = match entry.kind {
            Kind::Directory => {
                writer.create_directory(&path).unwrap();
                folders.push((path, entry.metadata.clone()));
                continue;
            }
            Kind::File => {
                let first = entry.hard_link.and_then(|group| twins.get(&group));
                match first {
                    Some(first) => writer.link(&path, first).unwrap(),
                    None => {
                        writer.create_file(&path).unwrap();
                        copy_content(&mut *reader, &mut *writer, entry.size, &opened.extents);
                        trouble.extend(writer.finish_file(&entry.metadata, RULES).unwrap());
                        twins.extend(entry.hard_link.map(|group| (group, path)));
                    }
                }
                continue;
            }
            Kind::Symlink => Node::Symlink(opened.link_target.clone()),
            Kind::Fifo => Node::Fifo,
            Kind::CharDevice => Node::CharDevice(major, minor),
            Kind::BlockDevice => Node::BlockDevice(major, minor),
            Kind::Socket => continue,
        };
        trouble.extend(writer.create_node(&path, &node, &entry.metadata, RULES).unwrap());
    }
    for (path, metadata) in folders.iter().rev() {
        trouble.extend(writer.set_metadata(path, metadata, RULES).unwrap());
    }
    writer.sync().unwrap();
    trouble
}

fn copy_content(
    reader: &mut dyn SourceReader,
    writer: &mut dyn TargetWriter,
    size: u64,
    extents: &Option<Vec<Extent>>,
) {
    let whole = vec![Extent { offset: 0, length: size }];
    for extent in extents.as_ref().unwrap_or(&whole) {
        let mut content = vec![0; usize::try_from(extent.length).unwrap()];
        assert_eq!(reader.read_at(extent.offset, &mut content).unwrap(), content.len());
        writer.write_at(extent.offset, &content).unwrap();
    }
    writer.set_length(size).unwrap();
}

#[test]
fn an_awkward_tree_copied_from_source_to_target_is_the_same() {
    let from = Folder::new();
    let to = Folder::new();
    tree::build_awkward_tree(from.path());
    let before = {
        let mut facts = tree::fingerprint(from.path());
        facts.remove(&b"special/socket"[..]);
        facts
    };
    let source = LocalSource::open(from.path(), LocalOptions::default()).unwrap();
    let target = LocalTarget::new(&to.path().join("copy"));

    let trouble = copy(&source, &target);

    assert_eq!(trouble, Vec::<String>::new());
    let after = tree::fingerprint(&to.path().join("copy"));
    assert_eq!(tree::difference(&before, &after), Vec::<String>::new());
    let mut writer = target.writer().unwrap();
    for name in writer.list(&EntryPath::root()).unwrap() {
        writer.remove(&EntryPath::new(&name).unwrap()).unwrap();
    }
    assert_eq!(tree::fingerprint(&to.path().join("copy")).len(), 1);
}

#[test]
fn nothing_is_written_through_a_symlink_to_elsewhere() {
    let inside = Folder::new();
    let outside = Folder::new();
    std::fs::write(outside.path().join("victim"), b"untouched").unwrap();
    std::os::unix::fs::symlink(outside.path(), inside.path().join("d")).unwrap();
    std::os::unix::fs::symlink(outside.path().join("victim"), inside.path().join("f")).unwrap();
    let before = tree::fingerprint(outside.path());
    let target = LocalTarget::new(inside.path());
    let mut writer = target.writer().unwrap();
    let wanted = Metadata {
        xattrs: vec![Xattr { name: b"user.mark".to_vec(), value: b"x".to_vec() }],
        ..metadata(0o777, 1)
    };

    for text in ["d/victim", "d/new", "d/new/deeper"] {
        assert!(writer.create_file(&path(text)).is_err());
        assert!(writer.open_file(&path(text)).is_err());
        assert!(writer.create_directory(&path(text)).is_err());
        assert!(writer.create_node(&path(text), &Node::Fifo, &wanted, RULES).is_err());
        assert!(writer.link(&path(text), &path("f")).is_err());
        assert!(writer.set_metadata(&path(text), &wanted, RULES).is_err());
        assert!(writer.list(&path(text)).is_err());
        writer.remove(&path(text)).unwrap();
    }
    for text in ["d", "f"] {
        assert!(writer.create_directory(&path(text)).is_err());
        assert!(writer.open_file(&path(text)).is_err());
        assert!(writer.list(&path(text)).is_err());
        let _ = writer.set_metadata(&path(text), &wanted, RULES);
        writer.remove(&path(text)).unwrap();
    }

    assert_eq!(tree::difference(&before, &tree::fingerprint(outside.path())), [""; 0]);
    assert!(writer.list(&EntryPath::root()).unwrap().is_empty());
}

#[test]
fn attributes_that_the_entry_has_not_are_removed() {
    let folder = Folder::new();
    let file = folder.path().join("a");
    std::fs::write(&file, b"").unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(&file, "user.old", b"1", flags).unwrap();
    rustix::fs::setxattr(&file, "user.both", b"1", flags).unwrap();
    let target = LocalTarget::new(folder.path());
    let xattr = |name: &[u8]| Xattr { name: name.to_vec(), value: b"2".to_vec() };
    let wanted =
        Metadata { xattrs: vec![xattr(b"user.both"), xattr(b"user.new")], ..metadata(0o600, 1) };

    let trouble = target.writer().unwrap().set_metadata(&path("a"), &wanted, RULES).unwrap();

    assert_eq!(trouble, Vec::<String>::new());
    let fact = &tree::fingerprint(folder.path())[&b"a"[..]];
    let names: Vec<&[u8]> = fact.xattrs.keys().map(Vec::as_slice).collect();
    assert_eq!(names, [&b"user.both"[..], b"user.new"]);
    assert!(fact.xattrs.values().all(|value| value == b"2"));
}

#[test]
fn an_unknown_attribute_is_reported_and_the_rest_is_set() {
    let folder = Folder::new();
    std::fs::write(folder.path().join("a"), b"content").unwrap();
    let target = LocalTarget::new(folder.path());
    let xattrs = vec![Xattr { name: b"nonsense.name".to_vec(), value: b"1".to_vec() }];
    let wanted = Metadata { xattrs, ..metadata(0o640, 77) };

    let trouble = target.writer().unwrap().set_metadata(&path("a"), &wanted, RULES).unwrap();

    assert_eq!(trouble.len(), 1);
    assert!(trouble[0].contains("nonsense.name"), "{trouble:?}");
    let fact = &tree::fingerprint(folder.path())[&b"a"[..]];
    assert_eq!((fact.mode, fact.mtime.0), (0o640, 77));
}

#[test]
fn an_owner_that_may_not_be_set_is_reported_and_takes_the_setuid_bit() {
    if is_root() {
        skipped("an owner that may not be set: root may set all");
        return;
    }
    let folder = Folder::new();
    std::fs::write(folder.path().join("a"), b"").unwrap();
    let target = LocalTarget::new(folder.path());
    let owner = Arc::new(Owner { uid: 0, gid: 0, ..Owner::default() });
    let wanted = Metadata { owner, ..metadata(0o6755, 1) };

    let trouble = target.writer().unwrap().set_metadata(&path("a"), &wanted, RULES).unwrap();

    assert_eq!(trouble.len(), 3, "{trouble:?}");
    assert_eq!(tree::fingerprint(folder.path())[&b"a"[..]].mode, 0o755);
}

#[test]
fn without_owner_the_setuid_bit_is_not_given_to_somebody_else() {
    let folder = Folder::new();
    std::fs::write(folder.path().join("a"), b"").unwrap();
    let target = LocalTarget::new(folder.path());
    let owner = Arc::new(Owner { uid: 12_345, gid: 12_345, ..Owner::default() });
    let wanted = Metadata { owner, ..metadata(0o4755, 1) };
    let rules = MetadataRules { owner: false };

    let trouble = target.writer().unwrap().set_metadata(&path("a"), &wanted, rules).unwrap();

    assert_eq!(trouble.len(), 1, "{trouble:?}");
    let there = std::fs::metadata(folder.path().join("a")).unwrap();
    assert_eq!((there.uid(), there.mode() & 0o7777), (me().uid, 0o755));
}

#[test]
fn a_full_memory_target_is_told_by_its_kind() {
    let target = MemoryTarget::new();
    target.prepare().unwrap();
    target.set_bytes_max(Some(8192));
    let mut writer = target.writer().unwrap();
    writer.create_file(&path("a")).unwrap();
    writer.write_at(0, &[1; 8192]).unwrap();

    refused(writer.write_at(8192, &[1]), ErrorKind::Full);

    writer.close_file().unwrap();
    assert_eq!(target.content(&path("a")).unwrap(), [1; 8192]);
}

/// A small disk of its own is needed, for example a tmpfs in a mount namespace.
#[test]
fn a_full_disk_is_told_by_its_kind() {
    let Some(disk) = std::env::var_os("ICECORE_TEST_SMALL_DISK") else {
        skipped("a full disk: ICECORE_TEST_SMALL_DISK names no folder on a small one");
        return;
    };
    let target = LocalTarget::new(&std::path::Path::new(&disk).join("target"));
    target.prepare().unwrap();
    let mut writer = target.writer().unwrap();
    writer.create_file(&path("a")).unwrap();

    let filled = (0..1 << 20).find_map(|step| writer.write_at(step << 16, &[1; 1 << 16]).err());

    refused::<()>(Err(filled.unwrap()), ErrorKind::Full);
    writer.close_file().unwrap();
    writer.remove(&path("a")).unwrap();
}

#[test]
fn a_folder_that_is_a_file_cannot_be_a_target() {
    let folder = Folder::new();
    let file = folder.path().join("file");
    std::fs::write(&file, b"").unwrap();

    refused(LocalTarget::new(&file).prepare(), ErrorKind::InvalidInput);
    refused(LocalTarget::new(&file.join("below")).prepare(), ErrorKind::InvalidInput);
}

#[test]
fn a_memory_target_tells_an_engine_that_works_in_the_wrong_order() {
    let target = MemoryTarget::new();
    target.prepare().unwrap();
    let mut writer = target.writer().unwrap();
    writer.create_directory(&path("d")).unwrap();
    writer.set_metadata(&path("d"), &metadata(0o500, 1), RULES).unwrap();

    refused(writer.create_file(&path("d/a")), ErrorKind::Denied);

    writer.create_directory(&path("d")).unwrap();
    writer.create_file(&path("d/a")).unwrap();
    refused(writer.create_file(&path("d/b")), ErrorKind::Bug);
    assert_ne!(target.entries()[&path("d")].metadata.mtime, metadata(0, 1).mtime);
    target.fail(&path("d/a"), ErrorKind::Denied);
    refused(writer.write_at(0, b"x"), ErrorKind::Denied);
}
