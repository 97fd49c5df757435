//! Real servers as places to restore to: again and again, over what was changed meanwhile, into
//! folders that are closed and disks that are full, and what a protocol cannot keep.

use crate::pairs_home::Home;
use crate::pairs_home::Ran;
use crate::pairs_home::Tree;
use crate::pairs_home::assert_same;
use crate::pairs_home::noise;
use crate::pairs_home::tree;
use crate::pairs_places::By;
use crate::pairs_places::Disk;
use crate::pairs_places::Place;
use crate::pairs_places::date;
use std::cell::Cell;
use std::fs;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::chown;
use std::os::unix::fs::symlink;
use std::path::Path;

const SPARSE_BYTES: u64 = 6_000_000;
/// Days ago, so that servers that list times tell the day alone.
const OLD_SECONDS: u64 = 300 * 86_400;
const REPLACE: &[&str] = &["--overwrite", "if-changed", "--delete"];

struct World {
    home: Home,
    place: Place,
    wanted: Tree,
    flags: Vec<String>,
    /// Whether the last restore said nothing else.
    sets_times_of_folders: Cell<bool>,
}

fn make_data(root: &Path, kind: &str) {
    for folder in ["some/deeper", "hollow", "shut", "with blank #1 50%"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    fs::write(root.join("plain"), "plain").unwrap();
    fs::write(root.join("empty"), "").unwrap();
    fs::write(root.join("with blank #1 50%/gr\u{fc}n %41"), "odd").unwrap();
    fs::write(root.join("large"), noise(1, 9_000_000)).unwrap();
    for number in 0..20 {
        fs::write(root.join(format!("some/{number:02}")), noise(number, 2000)).unwrap();
    }
    for number in 0..5 {
        fs::write(root.join(format!("shut/{number}")), noise(number, 100)).unwrap();
    }
    fs::hard_link(root.join("plain"), root.join("some/deeper/again")).unwrap();
    let sparse = fs::File::create(root.join("sparse")).unwrap();
    sparse.set_len(SPARSE_BYTES).unwrap();
    sparse.write_at(b"first", 0).unwrap();
    sparse.write_at(b"last", SPARSE_BYTES - 4).unwrap();
    for (path, content) in tree(root) {
        let mode = match (path.as_str(), content) {
            ("some/03", _) => 0o600,
            // Nobody can list it afterwards. That one sets no mode of a folder that it cannot list.
            ("shut", _) => {
                if kind == "pure-ftpd" {
                    0o500
                } else {
                    0o300
                }
            }
            (_, Some(_)) => 0o644,
            (_, None) => 0o755,
        };
        date(&root.join(path), OLD_SECONDS, mode);
    }
    // The others make none.
    if kind == "openssh" {
        symlink("plain", root.join("link")).unwrap();
    }
    date(root, OLD_SECONDS, 0o755);
}

impl World {
    fn new(kind: &'static str) -> Self {
        let place = Place::start(kind);
        let mut home = Home::new();
        place.admit(&mut home, By::Config);
        let root = home.path("data");
        make_data(&root, kind);
        let wanted = tree(&root);
        let flags = place.flags().into_iter().map(str::to_owned).collect();
        let world = World { home, place, wanted, flags, sets_times_of_folders: Cell::new(true) };
        world.json(0, &["init", "--encryption", "none"]);
        world.json(0, &["backup", "data"]);
        world
    }

    fn words<'a>(&'a self, words: &[&'a str]) -> Vec<&'a str> {
        let flags = self.flags.iter().map(String::as_str);
        ["--json", "-r", "repository"].into_iter().chain(flags).chain(words.to_vec()).collect()
    }

    fn json(&self, code: i32, words: &[&str]) -> serde_json::Value {
        let ran = self.home.run(&self.words(words));
        assert_eq!(ran.code, code, "{}: {words:?} {ran:?}", self.place.kind);
        ran.document()
    }

    fn restore(&self, below: &str, more: &[&str]) -> Ran {
        let address = self.place.address(below);
        let words = [&["restore", "--no-owner", "data", &address], more].concat();
        self.home.run(&self.words(&words))
    }

    /// Restores, and expects that all that can be kept is; returns the document.
    fn restored(&self, below: &str, more: &[&str]) -> serde_json::Value {
        let (kind, ran) = (self.place.kind, self.restore(below, more));
        let done = ran.document();
        assert_eq!(ran.code, 0, "{kind}: {ran:?}");
        assert!(messages(&done).is_empty(), "{kind}: {done}");
        let told = "the server does not set times of folders";
        let times = ran.stderr.matches(told).count();
        assert!(times <= 1, "{kind} tells it {times} times: {ran:?}");
        self.sets_times_of_folders.set(times == 0);
        assert_same(&tree(&self.place.disk(below)), &self.wanted, kind);
        done
    }

    /// Times and modes are those of the backup; of folders, too, where all servers' words say so.
    fn is_kept(&self, below: &str) {
        let (from, to) = (self.home.path("data"), self.place.disk(below));
        for (path, content) in &self.wanted {
            let of = |root: &Path| {
                let metadata = root.join(path).symlink_metadata().unwrap();
                (metadata.mtime(), metadata.mode() & 0o7777)
            };
            let ((old_time, old_mode), (time, mode)) = (of(&from), of(&to));
            let is_link = from.join(path).is_symlink();
            assert_eq!(is_link, to.join(path).is_symlink(), "{}: {path}", self.place.kind);
            let context = format!("{}: {path}", self.place.kind);
            let is_set = content.is_some() || self.sets_times_of_folders.get();
            assert!(is_link || !is_set || time == old_time, "{context}");
            assert!(is_link || mode == old_mode, "{context}: {mode:o}");
        }
    }
}

fn messages(done: &serde_json::Value) -> Vec<String> {
    let errors = done["errors"].as_array().unwrap_or_else(|| panic!("{done}"));
    errors.iter().map(|error| error["message"].as_str().unwrap().to_owned()).collect()
}

/// Spoils what was restored in ways that a restore has to find.
fn spoil(root: &Path) {
    let time = root.join("plain").metadata().unwrap().modified().unwrap();
    // The same size and the same time: only its content tells.
    fs::write(root.join("some/01"), noise(77, 2000)).unwrap();
    fs::File::open(root.join("some/01")).unwrap().set_modified(time).unwrap();
    fs::remove_file(root.join("some/02")).unwrap();
    fs::File::options().write(true).open(root.join("large")).unwrap().set_len(5_000_000).unwrap();
    fs::create_dir_all(root.join("foreign/deeper")).unwrap();
    fs::write(root.join("foreign/deeper/file"), "not of the backup").unwrap();
    fs::write(root.join("some/foreign"), "not of the backup").unwrap();
    fs::remove_dir(root.join("hollow")).unwrap();
    fs::write(root.join("hollow"), "a file where a folder was").unwrap();
    fs::remove_file(root.join("plain")).unwrap();
    fs::create_dir(root.join("plain")).unwrap();
    fs::write(root.join("plain/below"), "a folder where a file was").unwrap();
}

fn goes_there(kind: &'static str) {
    let world = World::new(kind);
    let below = "to #1/here";
    world.restored(below, &[]);
    world.is_kept(below);
    let size: u64 = world.wanted.values().flatten().map(|content| content.len() as u64).sum();

    let again = world.restored(below, REPLACE);
    assert_eq!((&again["written_bytes"], &again["deleted"]), (&0.into(), &0.into()), "{again}");

    spoil(&world.place.disk(below));
    world.place.give_away(below);
    let mended = world.restored(below, REPLACE);
    world.is_kept(below);
    let written = mended["written_bytes"].as_u64().unwrap();
    assert!(written > 4_000_000 && written < size, "{mended}");
    // Two that the backup does not have, and a folder that stood where a file was.
    assert_eq!(mended["deleted"], 3, "{mended}");

    let anew = world.restored(below, &["--overwrite", "always"]);
    assert!(anew["written_bytes"].as_u64().unwrap() > 9_000_000, "{anew}");
    world.is_kept(below);

    if kind != "serve-ftp" {
        closed_folder(&world);
    }
    // Of a full disk this one says nothing at all at times, so that only the limit of silence ends
    // it: its write fails once more when it closes the file, and the answer is lost in that.
    if kind != "pyftpdlib" {
        full_disk(&world);
    }
}

/// A folder that the server's user may not write to: what goes elsewhere is there all the same.
fn closed_folder(world: &World) {
    let (kind, root) = (world.place.kind, world.place.disk("closed"));
    fs::create_dir_all(root.join("some")).unwrap();
    world.place.give_away("closed");
    chown(root.join("some"), Some(0), Some(0)).unwrap();
    fs::set_permissions(root.join("some"), fs::Permissions::from_mode(0o755)).unwrap();

    let ran = world.restore("closed", REPLACE);
    assert_eq!(ran.code, 3, "{kind}: {ran:?}");
    let told = messages(&ran.document());
    assert!(told.iter().any(|message| message.contains("some/00")), "{kind}: {told:#?}");
    let there = tree(&root);
    for path in world.wanted.keys().filter(|path| !path.starts_with("some/")) {
        assert!(there.contains_key(path), "{kind}: {path} {told:#?}");
    }

    world.place.give_away("closed");
    world.restored("closed", REPLACE);
}

/// A disk that is full: the restore says so, and goes on when there is room.
fn full_disk(world: &World) {
    let (kind, root) = (world.place.kind, world.place.disk("small"));
    fs::create_dir(&root).unwrap();
    let disk = Disk::mount(root.clone(), "3m");
    world.place.give_away("small");

    let ran = world.restore("small", REPLACE);
    assert!(matches!(ran.code, 1 | 3), "{kind}: {ran:?}");
    let done = ran.document();
    if ran.code == 1 {
        assert_eq!(done["error"]["kind"], "full", "{kind}: {done}");
    } else {
        assert!(messages(&done).iter().any(|it| it.contains("large")), "{kind}: {done}");
    }
    // Whatever has a file's name is that file.
    for (path, content) in tree(&root) {
        assert!(world.wanted.get(&path) == Some(&content), "{kind}: {path} is left");
    }

    disk.grow("64m");
    world.restored("small", REPLACE);
}

#[test]
fn to_vsftpd() {
    goes_there("vsftpd");
}

#[test]
fn to_proftpd() {
    goes_there("proftpd");
}

#[test]
fn to_pure_ftpd() {
    goes_there("pure-ftpd");
}

#[test]
fn to_pyftpdlib() {
    goes_there("pyftpdlib");
}

#[test]
fn to_our_own_server() {
    goes_there("serve-ftp");
}

#[test]
fn to_openssh() {
    goes_there("openssh");
}

#[test]
fn to_mod_sftp() {
    goes_there("mod_sftp");
}

/// A server that does not rename over what is there: the old one is moved aside.
#[test]
fn to_a_server_that_replaces_nothing() {
    let place = Place::start_with("proftpd", "AllowOverwrite off");
    let mut home = Home::new();
    place.admit(&mut home, By::Variables);
    fs::create_dir(home.path("data")).unwrap();
    for name in ["a", "b", "c"] {
        fs::write(home.path("data").join(name), name).unwrap();
    }
    let run = |words: &[&str]| home.json(0, &[&["-r", "repository"], words].concat());
    run(&["init", "--encryption", "none"]);
    run(&["backup", "data"]);
    let to = place.address("to");
    run(&["restore", "--no-owner", "data", &to]);
    for name in ["a", "c"] {
        fs::write(place.disk("to").join(name), "another").unwrap();
    }
    place.give_away("to");
    run(&["restore", "--no-owner", "data", &to, "--overwrite", "if-changed"]);
    assert_same(&tree(&place.disk("to")), &tree(&home.path("data")), "replaced");
    fs::write(home.path("data/b"), "longer than before").unwrap();
    run(&["backup", "data"]);
    run(&["restore", "--no-owner", "data", &to, "--overwrite", "always"]);
    assert_same(&tree(&place.disk("to")), &tree(&home.path("data")), "replaced");
}
