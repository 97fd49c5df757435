//! What every session with a tree of files has to hold to, whatever its protocol. What a server
//! cannot do is asked of its abilities, and has to be refused as `Unsupported` then.

use icecore::base::error::Error;
use icecore::base::error::ErrorKind;
use icecore::base::metadata::Kind;
use icecore::base::time::Timestamp;
use icecore::net::files::Connect;
use icecore::net::files::Files;
use icecore::net::files::Found;
use icecore::net::files::Marks;
use icecore::net::files::Precision;
use icecore::net::files::Proof;

/// Where a check works: a folder of its own.
pub(crate) struct Place<'a> {
    server: &'a dyn Connect,
    folder: Vec<u8>,
}

type Check = (&'static str, fn(&Place<'_>, &mut dyn Files));

const CHECKS: &[Check] = &[
    ("what is written is read", written_is_read),
    ("parts are read anywhere", parts_are_read),
    ("a transfer may be left", transfers_are_left),
    ("a file is written over", written_over),
    ("what is missing is told", missing_is_told),
    ("folders are made once", folders_are_made),
    ("a listing tells all", listing_tells_all),
    ("a listing may be left", listing_is_left),
    ("files are renamed", files_are_renamed),
    ("folders are renamed", folders_are_renamed),
    ("files and folders are removed", things_are_removed),
    ("times and modes are set", times_and_modes),
    ("a file is finished with time and mode", finished_with_marks),
    ("links are made where they can be", links),
    ("names are kept or refused", names_are_kept),
    ("sessions see each other's work", sessions),
];

/// Runs all checks, each with a session of its own in a folder of its name below `folder`.
pub(crate) fn holds(server: &dyn Connect, folder: &[u8]) {
    for (name, check) in CHECKS {
        let mut session = server.connect().expect("a session");
        let folder = [folder, b"/", name.as_bytes()].concat();
        session.make_folder(&folder).expect("a folder for the check");
        check(&Place { server, folder }, &mut *session);
        session.keep_alive().expect("the session has come through");
    }
}

impl Place<'_> {
    fn at(&self, name: impl AsRef<[u8]>) -> Vec<u8> {
        [&self.folder[..], b"/", name.as_ref()].concat()
    }
}

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 + at / 251) as u8).collect()
}

/// Writes a file in pieces.
pub(crate) fn put(session: &mut dyn Files, path: &[u8], content: &[u8]) -> Result<(), Error> {
    session.create(path)?;
    for piece in content.chunks(100_000) {
        session.write(piece)?;
    }
    session.finish()
}

/// Reads a file to its end, in pieces.
pub(crate) fn get(session: &mut dyn Files, path: &[u8]) -> Result<Vec<u8>, Error> {
    session.open(path, 0)?;
    let mut content = Vec::new();
    let mut piece = vec![0; 70_000];
    loop {
        let count = session.read_at(content.len() as u64, &mut piece)?;
        content.extend_from_slice(&piece[..count]);
        if count < piece.len() {
            break;
        }
    }
    session.close()?;
    Ok(content)
}

/// Lists a folder, by name.
pub(crate) fn list(session: &mut dyn Files, folder: &[u8]) -> Result<Vec<Found>, Error> {
    let mut all = Vec::new();
    session.list(folder, &mut |found| {
        all.push(found);
        Ok(())
    })?;
    all.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(all)
}

fn kind_of<T: std::fmt::Debug>(done: Result<T, Error>) -> ErrorKind {
    let error = done.expect_err("it is refused");
    assert!(!error.to_string().is_empty());
    error.kind()
}

fn written_is_read(place: &Place<'_>, session: &mut dyn Files) {
    for length in [0, 1, 65_536, 1_000_003] {
        let path = place.at(format!("file-{length}"));
        put(session, &path, &bytes(length)).expect("written");
        assert!(get(session, &path).expect("read") == bytes(length), "{length} bytes");
        let look = session.look_at(&path).expect("looked at").expect("there");
        assert_eq!((look.kind, look.size), (Kind::File, Some(length as u64)));
    }
}

fn parts_are_read(place: &Place<'_>, session: &mut dyn Files) {
    let path = place.at("file");
    let content = bytes(1_500_000);
    put(session, &path, &content).expect("written");
    session.open(&path, 700_000).expect("open in the middle");
    let mut buffer = vec![0; 10_000];
    // On, a little ahead, far ahead, back, the very end, and beyond it.
    for offset in [700_000, 710_000, 725_000, 1_400_000, 3, 1_495_000, 1_500_000, 9_000_000, 0] {
        let count = session.read_at(offset as u64, &mut buffer).expect("read");
        let end = content.len().min(offset + buffer.len());
        let wanted = content.get(offset..end).unwrap_or_default();
        assert!(buffer[..count] == *wanted, "at {offset}: {count} bytes");
    }
    session.close().expect("closed");
    session.open(&path, 1_500_000).expect("open at the end");
    assert_eq!(session.read_at(1_500_000, &mut buffer).expect("read"), 0);
    session.close().expect("closed");
    session.close().expect("closed again");
}

fn transfers_are_left(place: &Place<'_>, session: &mut dyn Files) {
    let path = place.at("file");
    let content = bytes(6_000_000);
    put(session, &path, &content).expect("written");
    let mut buffer = vec![0; 1000];
    for read in [0, 1, 3] {
        session.open(&path, 0).expect("open");
        for at in 0..read {
            session.read_at(at * 1000, &mut buffer).expect("read");
        }
        let look = session.look_at(&path).expect("looked at while it is open").expect("there");
        assert_eq!(look.size, Some(6_000_000));
    }
    session.open(&path, 0).expect("open");
    session.open(&place.at("file"), 5_999_999).expect("open another one instead");
    assert_eq!(session.read_at(5_999_999, &mut buffer).expect("read"), 1);
    session.close().expect("closed");
    session.create(&place.at("left")).expect("created");
    session.write(b"some").expect("written");
    assert_eq!(list(session, &place.folder).expect("listed").len(), 2);
}

fn written_over(place: &Place<'_>, session: &mut dyn Files) {
    let path = place.at("file");
    put(session, &path, &bytes(5000)).expect("written");
    put(session, &path, b"short").expect("written over");
    assert_eq!(get(session, &path).expect("read"), b"short");
}

fn missing_is_told(place: &Place<'_>, session: &mut dyn Files) {
    put(session, &place.at("file"), b"x").expect("written");
    for name in ["nothing", "nothing/below", "nothing/below/that", "file/below"] {
        let path = place.at(name);
        assert_eq!(session.look_at(&path).expect("looked at"), None, "{name}");
        assert_eq!(kind_of(session.open(&path, 0)), ErrorKind::NotFound, "{name}");
        assert_eq!(kind_of(list(session, &path)), ErrorKind::NotFound, "{name}");
        session.remove(&path).unwrap_or_else(|e| panic!("{name} is not there: {e}"));
        session.remove_folder(&path).unwrap_or_else(|e| panic!("{name} is not there: {e}"));
        let moved = session.rename(&path, &place.at("new"));
        assert_eq!(kind_of(moved), ErrorKind::NotFound, "{name}");
    }
    for name in ["nothing/new", "nothing/below/new"] {
        let path = place.at(name);
        assert_eq!(kind_of(put(session, &path, b"x")), ErrorKind::NotFound, "{name}");
        assert_eq!(kind_of(session.make_folder(&path)), ErrorKind::NotFound, "{name}");
        let moved = session.rename(&place.at("file"), &path);
        assert_eq!(kind_of(moved), ErrorKind::NotFound, "{name}");
    }
    kind_of(list(session, &place.at("file")));
    kind_of(session.open(&place.folder, 0).and_then(|()| session.read_at(0, &mut [0; 10])));
    assert_eq!(get(session, &place.at("file")).expect("it is still there"), b"x");
}

fn folders_are_made(place: &Place<'_>, session: &mut dyn Files) {
    let path = place.at("folder");
    session.make_folder(&path).expect("made");
    assert_eq!(kind_of(session.make_folder(&path)), ErrorKind::AlreadyExists);
    put(session, &place.at("file"), b"x").expect("written");
    assert_eq!(kind_of(session.make_folder(&place.at("file"))), ErrorKind::AlreadyExists);
    let look = session.look_at(&path).expect("looked at").expect("there");
    assert_eq!((look.kind, look.size), (Kind::Directory, None));
    assert!(list(session, &path).expect("listed").is_empty());
}

fn listing_tells_all(place: &Place<'_>, session: &mut dyn Files) {
    let folder = place.at("st[x] {a,b}");
    session.make_folder(&folder).expect("made");
    let mut names: Vec<Vec<u8>> = (0..60).map(|at| format!("n{at}").into_bytes()).collect();
    for odd in [
        "-dash",
        "~tilde",
        ".hidden",
        "..two",
        "...",
        "a; b=c",
        "q\"uote",
        "sp  ace",
        "%41",
        "a -> b",
        "star*?",
        "{a,b}",
        "\u{fc}\u{1f600}",
        " lead",
    ] {
        names.push(odd.as_bytes().to_vec());
    }
    for (length, name) in names.iter().enumerate() {
        let path = [&folder[..], b"/", name].concat();
        let written = put(session, &path, &bytes(length));
        written.unwrap_or_else(|e| panic!("{}: {e}", String::from_utf8_lossy(name)));
    }
    session.make_folder(&[&folder[..], b"/-sub"].concat()).expect("made");

    let found = list(session, &folder).expect("listed");

    assert_eq!(found.len(), names.len() + 1);
    for (length, name) in names.iter().enumerate() {
        let shown = String::from_utf8_lossy(name);
        let it = found.iter().find(|found| found.name == *name);
        let it = it.unwrap_or_else(|| panic!("{shown} is not listed"));
        assert_eq!((it.look.kind, it.look.size), (Kind::File, Some(length as u64)), "{shown}");
        let path = [&folder[..], b"/", name].concat();
        assert!(get(session, &path).expect("read") == bytes(length), "{shown}");
        let look = session.look_at(&path).expect("looked at").expect("there");
        assert_eq!(look.size, it.look.size, "{shown}");
        if let (Some(a), Some(b)) = (look.modified, it.look.modified)
            && a.precision == Precision::Second
            && b.precision == Precision::Second
        {
            assert_eq!(a.time.seconds(), b.time.seconds(), "{shown}");
        }
    }
    let sub = found.iter().find(|found| found.name == b"-sub").expect("listed");
    assert_eq!(sub.look.kind, Kind::Directory);
}

fn listing_is_left(place: &Place<'_>, session: &mut dyn Files) {
    for at in 0..20 {
        put(session, &place.at(format!("n{at}")), b"").expect("written");
    }
    let mut seen = 0;
    let left = session.list(&place.folder, &mut |_| {
        seen += 1;
        if seen == 3 { Err(Error::cancelled()) } else { Ok(()) }
    });
    assert_eq!(left.expect_err("left").kind(), ErrorKind::Cancelled);
    assert_eq!(list(session, &place.folder).expect("listed").len(), 20);
}

fn files_are_renamed(place: &Place<'_>, session: &mut dyn Files) {
    let can = session.abilities();
    session.make_folder(&place.at("folder")).expect("made");
    put(session, &place.at("a"), b"first").expect("written");
    session.rename(&place.at("a"), &place.at("folder/b")).expect("renamed");
    assert_eq!(session.look_at(&place.at("a")).expect("looked at"), None);
    assert_eq!(get(session, &place.at("folder/b")).expect("read"), b"first");

    put(session, &place.at("c"), b"second").expect("written");
    if can.rename_refuses {
        let taken = session.rename(&place.at("c"), &place.at("folder/b"));
        assert_eq!(kind_of(taken), ErrorKind::AlreadyExists);
        assert_eq!(get(session, &place.at("folder/b")).expect("read"), b"first");
    }
    let over = session.rename_over(&place.at("c"), &place.at("folder/b"));
    if !can.replace {
        assert_eq!(kind_of(over), ErrorKind::Unsupported);
        return;
    }
    over.expect("renamed over");
    assert_eq!(get(session, &place.at("folder/b")).expect("read"), b"second");
    assert_eq!(session.look_at(&place.at("c")).expect("looked at"), None);
}

fn folders_are_renamed(place: &Place<'_>, session: &mut dyn Files) {
    for name in ["one", "two"] {
        session.make_folder(&place.at(name)).expect("made");
        let path = place.at(format!("{name}/o"));
        put(session, &path, name.as_bytes()).expect("written");
    }
    session.rename(&place.at("one"), &place.at("new")).expect("renamed");
    assert_eq!(get(session, &place.at("new/o")).expect("read"), b"one");
    assert_eq!(session.look_at(&place.at("one")).expect("looked at"), None);
    if session.abilities().rename_folder_refuses {
        let taken = session.rename(&place.at("two"), &place.at("new"));
        assert_eq!(kind_of(taken), ErrorKind::AlreadyExists);
        assert_eq!(get(session, &place.at("new/o")).expect("read"), b"one");
        assert_eq!(get(session, &place.at("two/o")).expect("read"), b"two");
    }
}

fn things_are_removed(place: &Place<'_>, session: &mut dyn Files) {
    session.make_folder(&place.at("folder")).expect("made");
    put(session, &place.at("folder/file"), b"x").expect("written");
    kind_of(session.remove_folder(&place.at("folder")));
    kind_of(session.remove(&place.at("folder")));
    assert_eq!(get(session, &place.at("folder/file")).expect("still there"), b"x");
    session.remove(&place.at("folder/file")).expect("removed");
    session.remove(&place.at("folder/file")).expect("removed again");
    session.remove_folder(&place.at("folder")).expect("removed");
    session.remove_folder(&place.at("folder")).expect("removed again");
    assert!(list(session, &place.folder).expect("listed").is_empty());
}

fn times_and_modes(place: &Place<'_>, session: &mut dyn Files) {
    let path = place.at("file");
    put(session, &path, b"x").expect("written");
    for seconds in [1_000_000_000, 0, 1_700_000_037] {
        let time = Timestamp::new(seconds, 0);
        match session.set_time(&path, time) {
            Ok(()) => {
                let look = session.look_at(&path).expect("looked at").expect("there");
                let modified = look.modified.expect("told");
                assert_eq!(modified.precision, Precision::Second);
                assert_eq!(modified.time.seconds(), seconds);
            }
            Err(e) => assert_eq!(e.kind(), ErrorKind::Unsupported, "{e}"),
        }
    }
    let can = session.abilities();
    assert_eq!(session.set_time(&path, Timestamp::new(1, 0)).is_ok(), can.set_time);
    let missing = kind_of(session.set_time(&place.at("nothing"), Timestamp::new(1, 0)));
    assert!(matches!(missing, ErrorKind::NotFound | ErrorKind::Unsupported), "{missing:?}");
    for mode in [0o600, 0o750, 0o644] {
        let set = session.set_mode(&path, mode);
        assert_eq!(set.is_ok(), session.abilities().set_mode, "{set:?}");
        let found = list(session, &place.folder).expect("listed");
        if set.is_ok()
            && let Some(told) = found[0].look.mode
        {
            assert_eq!(told, mode);
        }
    }
    if !can.set_owner {
        assert_eq!(kind_of(session.set_owner(&path, (1, 1))), ErrorKind::Unsupported);
    }
}

fn finished_with_marks(place: &Place<'_>, session: &mut dyn Files) {
    let can = session.abilities();
    for (number, mode) in [0o644, 0o644, 0o600, 0o755, 0o600, 0o644].into_iter().enumerate() {
        let path = place.at(format!("file-{number}"));
        let content = bytes(number * 1000);
        session.create(&path).expect("created");
        session.write(&content).expect("written");
        let time = Timestamp::new(1_000_000_000 + number as i64, 0);
        let proof = if number % 3 == 1 { Proof::Later } else { Proof::Now };
        let marked = session.finish_with(&path, Marks { mode, time }, proof).expect("it is there");
        assert!(marked.is_proven || proof == Proof::Later);
        // Some servers show the mode that a new file has anyway, and set none.
        assert!(marked.mode.is_ok() || !session.abilities().set_mode, "{:?}", marked.mode);
        assert_eq!(marked.time.is_ok(), can.set_time, "{:?}", marked.time);
        let found = list(session, &place.folder).expect("listed");
        let look = &found[number].look;
        assert_eq!(look.size, Some(content.len() as u64));
        if let (Ok(()), Some(told)) = (marked.mode, look.mode) {
            assert_eq!(told, mode, "of file {number}");
        }
        if marked.time.is_ok() {
            let look = session.look_at(&path).expect("looked at").expect("there");
            assert_eq!(look.modified.expect("told").time.seconds(), time.seconds());
        }
        assert!(get(session, &path).expect("read") == content);
    }
}

fn links(place: &Place<'_>, session: &mut dyn Files) {
    let can = session.abilities();
    let path = place.at("file");
    put(session, &path, b"content").expect("written");
    let linked = session.link(&path, &place.at("second"));
    if can.link {
        linked.expect("linked");
        assert_eq!(get(session, &place.at("second")).expect("read"), b"content");
        let again = session.link(&path, &place.at("second"));
        assert_eq!(kind_of(again), ErrorKind::AlreadyExists);
    } else {
        assert_eq!(kind_of(linked), ErrorKind::Unsupported);
    }
    let made = session.make_symlink(&place.at("symlink"), b"nowhere at all");
    if can.symlinks {
        made.expect("made");
        assert_eq!(session.read_link(&place.at("symlink")).expect("read"), b"nowhere at all");
        let look = session.look_at(&place.at("symlink")).expect("looked at").expect("there");
        assert_eq!(look.kind, Kind::Symlink);
        let found = list(session, &place.folder).expect("listed");
        let it = found.iter().find(|found| found.name == b"symlink").expect("listed");
        assert_eq!(it.look.kind, Kind::Symlink);
    } else {
        assert_eq!(kind_of(made), ErrorKind::Unsupported);
        assert_eq!(kind_of(session.read_link(&path)), ErrorKind::Unsupported);
    }
}

/// A server may refuse a name. It may not keep another one in its place unnoticed.
fn names_are_kept(place: &Place<'_>, session: &mut dyn Files) {
    let names: &[&[u8]] = &[
        b"\xff",
        b"a\xffb",
        b"\xff\xff",
        b"a\xff\xfeb",
        b"\xff\xf4x",
        b"bad\xc3",
        b"tab\tx",
        b"trail ",
        b"trail.",
        b"back\\slash",
        b"\x01",
        b"\x7f",
        b"cr\rx",
        b"new\nline",
    ];
    for (number, name) in names.iter().enumerate() {
        let shown = String::from_utf8_lossy(name).escape_debug().to_string();
        let folder = place.at(format!("of-{number}"));
        session.make_folder(&folder).expect("made");
        let path = [&folder[..], b"/", name].concat();
        if let Err(e) = put(session, &path, b"content") {
            assert_ne!(e.kind(), ErrorKind::Unreachable, "{shown}: {e}");
            continue;
        }
        let found = list(session, &folder).expect("listed");
        let listed: Vec<&[u8]> = found.iter().map(|found| &found.name[..]).collect();
        assert_eq!(listed, [*name], "{shown}");
        assert_eq!(get(session, &path).expect("read"), b"content", "{shown}");
        session.rename(&path, &place.at("plain")).expect("renamed");
        session.rename(&place.at("plain"), &path).expect("renamed back");
        session.remove(&path).expect("removed");
        assert!(list(session, &folder).expect("listed").is_empty(), "{shown}");
    }
}

fn sessions(place: &Place<'_>, session: &mut dyn Files) {
    let mut other = place.server.connect().expect("a second session");
    put(session, &place.at("file"), b"by the first").expect("written");
    assert_eq!(get(&mut *other, &place.at("file")).expect("read"), b"by the first");
    session.remove(&place.at("file")).expect("removed");
    assert_eq!(other.look_at(&place.at("file")).expect("looked at"), None);
    other.keep_alive().expect("kept");
}
