//! Names from servers, archives, lists and repositories: one that leads outside is refused, and
//! what is taken comes back as it is. NUL bytes stand between them.

use super::places::reach;
use icecore::backend::key::FolderKey;
use icecore::backend::key::ObjectKey;
use icecore::base::error::ErrorKind;
use icecore::base::id::DatasetId;
use icecore::base::path::EntryPath;
use icecore::format::dataset::DatasetName;
use icecore::repository::layout;
use icecore::repository::layout::NumberObject;
use icecore::source::listed::Selection;
use icecore::source::listed::Separator;
use icecore::target::Target;
use icecore::target::local::LocalTarget;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What the seeds come to.
pub const PLACES: &[&str] = &[
    "refused",
    "a key",
    "a dataset",
    "a header",
    "a header of a lease",
    "a marker",
    "tags",
    "a floor",
    "parity",
    "a key that goes",
    "a list",
    "written",
    "written deep",
    "not written over a link",
];

const NAMES_MAX: usize = 12;

/// Keys hold nothing that a file system or a server would take for another place.
fn is_key_or_not(text: &str) {
    let Ok(key) = ObjectKey::new(text) else { return reach("refused") };
    reach("a key");
    assert_eq!(key.as_str(), text);
    assert!(text.split('/').all(|part| !part.is_empty() && !part.starts_with('.')), "{text:?}");
    assert!(text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\'), "{text:?}");
    assert_eq!(key.folder().object(key.name()).expect("its own name"), key);
    let folder = FolderKey::new(text).expect("a key is one of a folder, too");
    assert_eq!(folder.object("a").expect("a name").folder(), folder);
}

/// What stands in the names of objects has one spelling.
fn is_layout_or_not(name: &str) {
    let id = DatasetId::new([7; 16]);
    let again = match layout::parse_number_object(name) {
        Some(NumberObject::Header(number, None)) => {
            reach("a header");
            Some(layout::header(&id, number))
        }
        Some(NumberObject::Header(number, Some(lease))) => {
            reach("a header of a lease");
            Some(layout::header_of_lease(&id, number, &lease))
        }
        Some(NumberObject::Hidden(number)) => {
            reach("a marker");
            Some(layout::hidden(&id, number))
        }
        Some(NumberObject::Tags(number, revision)) => {
            reach("tags");
            Some(layout::tags(&id, number, revision))
        }
        None => None,
    };
    let floor = layout::parse_floor(name).map(|floor| {
        reach("a floor");
        layout::floor(&id, floor)
    });
    let parity = layout::parse_parity(name).map(|(pack, percent, parity)| {
        reach("parity");
        layout::parity(&pack, percent, &parity)
    });
    let going = layout::parse_going(name).map(|(key, lease)| {
        reach("a key that goes");
        layout::going(&key, &lease)
    });
    for key in [again, floor, parity, going].into_iter().flatten() {
        assert_eq!(key.expect("what was read is a key").name(), name);
    }
}

fn is_dataset_or_not(text: &str) {
    let Ok(name) = text.parse::<DatasetName>() else { return };
    reach("a dataset");
    assert_eq!(name.to_string(), text);
    assert!(!text.contains(['/', '@', ':', '\0']) && !matches!(text, "." | ".."), "{text:?}");
}

/// What a list of files names is below the source.
fn is_list_or_not(bytes: &[u8]) {
    match Selection::read(&mut &bytes[..], Separator::Newline) {
        Ok(selection) => {
            reach("a list");
            for line in bytes.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
                assert!(!line.starts_with(b"/"), "an absolute path is taken");
                assert!(line.split(|&byte| byte == b'/').all(|part| part != b".."), "{line:?}");
            }
            assert!(selection.has(&EntryPath::root()), "what is listed is below the root");
        }
        Err(e) => assert_eq!(e.kind(), ErrorKind::InvalidInput, "{}", e.full_message()),
    }
}

/// Makes folders and the file at a path; None where something is in the way.
fn write(target: &LocalTarget, path: &EntryPath, content: &[u8]) -> Option<()> {
    let mut writer = target.writer().expect("a writer");
    let mut folder = EntryPath::root();
    let parts: Vec<&[u8]> = path.components().collect();
    for part in &parts[..parts.len().checked_sub(1)?] {
        folder = folder.join(part).ok()?;
        if writer.stat(&folder).ok()?.is_none() {
            writer.create_directory(&folder).ok()?;
        }
    }
    writer.create_file(path).ok()?;
    writer.write_at(0, content).expect("written");
    writer.close_file().expect("closed");
    reach(if parts.len() > 1 { "written deep" } else { "written" });
    Some(())
}

/// Writes files of all the names that are paths into a folder in which links lead out.
fn writes(names: &[&[u8]]) {
    let base = tempfile::tempdir().expect("a folder");
    let (outside, root) = (base.path().join("outside"), base.path().join("target"));
    fs::create_dir(&outside).expect("a folder");
    fs::write(outside.join("file"), b"outside").expect("written");
    let target = LocalTarget::new(&root);
    target.prepare().expect("prepared");
    std::os::unix::fs::symlink("../outside", root.join("out")).expect("a link");
    std::os::unix::fs::symlink("../outside/file", root.join("link")).expect("a link");
    let mut written: BTreeMap<EntryPath, Vec<u8>> = BTreeMap::new();
    for (number, name) in names.iter().enumerate() {
        let Ok(path) = EntryPath::new(name) else { continue };
        let content = format!("content {number}").into_bytes();
        if write(&target, &path, &content).is_some() {
            written.insert(path, content);
        } else if path.components().next() == Some(b"out") {
            reach("not written over a link");
        }
    }
    for (path, content) in &written {
        let there = root.join(Path::new(OsStr::from_bytes(path.as_bytes())));
        assert!(fs::read(&there).is_ok_and(|found| found == *content), "{path} is not there");
        let real = fs::canonicalize(&there).expect("a path");
        let home = fs::canonicalize(&root).expect("a path");
        assert!(real.starts_with(&home), "{path} is outside");
    }
    let names = |folder: &Path| fs::read_dir(folder).expect("lists").count();
    assert_eq!((names(&outside), names(base.path())), (1, 2), "something new is outside");
    assert_eq!(fs::read(outside.join("file")).expect("reads"), b"outside");
}

/// One execution.
pub fn run(data: &[u8]) {
    let names: Vec<&[u8]> = data.split(|byte| *byte == 0).take(NAMES_MAX).collect();
    for name in &names {
        is_list_or_not(name);
        if let Ok(text) = std::str::from_utf8(name) {
            is_key_or_not(text);
            is_layout_or_not(text);
            is_dataset_or_not(text);
        }
    }
    writes(&names);
}
