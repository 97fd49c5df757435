//! The whole way of the data through the real program: an awkward tree through ten versions, and
//! each of them back by every name it has; an interrupt; places that make no sense.

use crate::cli::Home;
use crate::cli::Ran;
use crate::cli::column;
use crate::support::folder::is_root;
use crate::support::folder::skipped;
use crate::support::tree::Fingerprint;
use crate::support::tree::build_awkward_tree;
use crate::support::tree::difference;
use crate::support::tree::fingerprint;
use crate::support::tree::noise;
use rustix::fs::FallocateFlags;
use rustix::fs::FileType;
use rustix::fs::Gid;
use rustix::fs::Uid;
use rustix::fs::XattrFlags;
use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::kill_process;
use std::fs;
use std::fs::File;
use std::fs::Permissions;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Child;
use std::process::Stdio;
use std::time::Duration;
use std::time::SystemTime;

/// How a version comes of the one before.
type Edit = fn(&Path);

const VERSIONS: [Edit; 10] = [
    build_awkward_tree,
    contents,
    additions_and_removals,
    swaps,
    renames,
    holes,
    attributes,
    names_of_one_file,
    what_is_left_of_much,
    back_again,
];

fn contents(tree: &Path) {
    fs::write(tree.join("size-4096"), noise(5000, 50)).unwrap();
    fs::write(tree.join("size-0"), b"no longer empty").unwrap();
    fs::write(tree.join("size-1"), b"").unwrap();
    let large = tree.join("size-5242880");
    let mut bytes = fs::read(&large).unwrap();
    bytes.splice(2_000_000..2_000_000, *b"put in between");
    fs::write(large, bytes).unwrap();
}

fn additions_and_removals(tree: &Path) {
    fs::create_dir_all(tree.join("new/deep/er")).unwrap();
    (0..300).for_each(|n| fs::write(tree.join(format!("new/{n}")), noise(n, 60)).unwrap());
    fs::write(tree.join("new/deep/er/text"), "a line of text\n".repeat(20_000)).unwrap();
    symlink("deep", tree.join("new/link")).unwrap();
    fs::remove_file(tree.join("names/*")).unwrap();
    fs::remove_file(tree.join("names/new\nline")).unwrap();
    fs::remove_dir(tree.join("names.d/empty")).unwrap();
}

/// What was one kind is another, under the same name.
fn swaps(tree: &Path) {
    fs::remove_file(tree.join("size-1")).unwrap();
    fs::create_dir(tree.join("size-1")).unwrap();
    fs::write(tree.join("size-1/below"), b"what was a file").unwrap();
    fs::remove_file(tree.join("links/dangling")).unwrap();
    fs::write(tree.join("links/dangling"), b"what was a link").unwrap();
    fs::remove_file(tree.join("special/fifo")).unwrap();
    symlink("char", tree.join("special/fifo")).unwrap();
    fs::remove_dir_all(tree.join("names.d")).unwrap();
    fs::write(tree.join("names.d"), b"what was a folder").unwrap();
    fs::remove_file(tree.join("size-4096")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, tree.join("size-4096"), FileType::Fifo, 0o640.into(), 0)
        .unwrap();
}

fn renames(tree: &Path) {
    let rename = |from: &str, to: &str| fs::rename(tree.join(from), tree.join(to)).unwrap();
    rename("size-5242880", "new/large");
    rename("new/deep", "moved");
    rename("twins-1", "twins-3");
    rename("deep", "new/deep");
    rename("new/1", "new/2");
}

fn holes(tree: &Path) {
    let open = |name: &str| {
        File::options().read(true).write(true).open(tree.join("sparse").join(name)).unwrap()
    };
    open("all").write_all_at(&noise(8192, 70), 128 * 1024).unwrap();
    open("middle").write_all_at(b"in the hole", 500 * 1024).unwrap();
    open("end").set_len(3_000_000).unwrap();
    open("start").set_len(910 * 1024).unwrap();
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    if rustix::fs::fallocate(open("both"), punch, 520 * 1024, 16 * 1024).is_err() {
        skipped("holes in data: the file system makes none");
    }
    let file = File::create(tree.join("sparse/huge")).unwrap();
    file.set_len(48 << 20).unwrap();
    file.write_all_at(b"a little data far out", 30 << 20).unwrap();
}

fn attributes(tree: &Path) {
    let mode = |name: &str, bits| {
        fs::set_permissions(tree.join(name), Permissions::from_mode(bits)).unwrap();
    };
    mode("new/3", 0o600);
    mode("new", 0o711);
    mode("modes/file-0777", 0o070);
    if is_root() {
        let (uid, gid) = (Uid::from_raw(77), Gid::from_raw(78));
        rustix::fs::chown(tree.join("new/4"), Some(uid), Some(gid)).unwrap();
    }
    let file = tree.join("xattrs/file");
    if rustix::fs::setxattr(&file, "user.colour", b"red", XattrFlags::empty()).is_ok() {
        rustix::fs::removexattr(&file, "user.empty").unwrap();
        rustix::fs::setxattr(tree, "user.root", b"of the tree", XattrFlags::empty()).unwrap();
    }
    let time = SystemTime::UNIX_EPOCH + Duration::new(1_234_567_890, 987_654_321);
    File::open(tree.join("new/5")).unwrap().set_modified(time).unwrap();
    File::open(tree.join("moved")).unwrap().set_modified(time).unwrap();
    File::open(tree).unwrap().set_modified(time).unwrap();
}

fn names_of_one_file(tree: &Path) {
    fs::remove_file(tree.join("three")).unwrap();
    fs::copy(tree.join("twins-2/two"), tree.join("three")).unwrap();
    fs::hard_link(tree.join("new/large"), tree.join("links/large")).unwrap();
    fs::hard_link(tree.join("moved/er/text"), tree.join("also text")).unwrap();
    fs::hard_link(tree.join("links/absolute"), tree.join("links/absolute too")).unwrap();
    fs::write(tree.join("twins-3/one"), b"both names have this now").unwrap();
}

fn what_is_left_of_much(tree: &Path) {
    fs::remove_dir_all(tree.join("new")).unwrap();
    fs::remove_dir_all(tree.join("names")).unwrap();
    fs::remove_dir_all(tree.join("modes")).unwrap();
    fs::create_dir(tree.join("names")).unwrap();
}

/// Contents and kinds that were there before, some under other names.
fn back_again(tree: &Path) {
    fs::remove_dir_all(tree.join("size-1")).unwrap();
    fs::write(tree.join("size-1"), noise(1, 1)).unwrap();
    fs::remove_file(tree.join("names.d")).unwrap();
    fs::create_dir_all(tree.join("names.d/empty")).unwrap();
    fs::rename(tree.join("links/large"), tree.join("size-5242880")).unwrap();
    fs::remove_file(tree.join("size-4096")).unwrap();
    fs::write(tree.join("size-4096"), noise(4096, 2)).unwrap();
    (0..300).for_each(|n| fs::write(tree.join(format!("names/{n}")), noise(n, 60)).unwrap());
    fs::remove_file(tree.join("sparse/huge")).unwrap();
}

/// What a restore has to bring back: sockets are left out.
fn restorable(tree: &Path) -> Fingerprint {
    let mut facts = fingerprint(tree);
    facts.retain(|_, fact| fact.kind != FileType::Socket);
    facts
}

/// The tree's versions, and the repository that has them all.
struct Story {
    home: Home,
    versions: Vec<Fingerprint>,
    times: Vec<String>,
}

impl Story {
    /// Backs up every version, a day apart by what the backups are told.
    fn tell(home: Home) -> Self {
        let tree = home.path("tree");
        fs::create_dir(&tree).unwrap();
        let mut versions: Vec<Fingerprint> = Vec::new();
        for (number, edit) in VERSIONS.iter().enumerate() {
            edit(&tree);
            let facts = restorable(&tree);
            assert!(versions.last() != Some(&facts), "version {number} is like the one before");
            versions.push(facts);
            let time = format!("2026-03-{:02}T10:00:00Z", number + 1);
            let report = home.json(0, &["backup", "tree", "--time", &time]);
            assert_eq!(report["backup"], number, "{report}");
            assert_eq!(report["errors"], serde_json::json!([]), "{report}");
        }
        let rows = home.json(0, &["list", "tree"]);
        let times = column(rows.as_array().unwrap(), "time");
        Story { home, versions, times }
    }

    fn assert_is(&self, number: usize, folder: &Path, how: &str) {
        let faults = difference(&self.versions[number], &restorable(folder));
        assert!(faults.is_empty(), "version {number} by {how}:\n{}", faults.join("\n"));
    }

    /// Restores a version into a new folder, and lets go of it.
    fn comes_back(&self, number: usize, words: &[&str]) {
        let out = self.home.path("out");
        let report = self.home.json(0, &[&["restore"], words, &["out"]].concat());
        assert_eq!(report["backup"], number, "{words:?}: {report}");
        self.assert_is(number, &out, &words.join(" "));
        fs::remove_dir_all(out).unwrap();
    }

    fn is_sound(&self) {
        let report = self.home.json(0, &["check", "--read-data"]);
        assert_eq!(report["findings"], serde_json::json!([]), "{report}");
        assert_eq!((&report["ok"], &report["backups"]), (&true.into(), &10.into()), "{report}");
    }
}

#[test]
fn every_version_comes_back_by_every_name_it_has() {
    let story = Story::tell(Home::new());

    for (number, time) in story.times.iter().enumerate() {
        story.comes_back(number, &[&format!("tree@{number}")]);
        match number % 5 {
            0 => story.comes_back(number, &[&format!("tree@backup_{number}")]),
            1 => story.comes_back(number, &[&format!("tree@{time}")]),
            2 => story.comes_back(number, &["tree", "--before", time]),
            3 => story.comes_back(number, &[&format!("tree@latest~{}", 9 - number)]),
            // Any time of the day it was made on names it as well.
            _ => story.comes_back(number, &["tree", "--before", &time[..10]]),
        }
    }
    story.comes_back(7, &["tree@latest~2"]);
    story.comes_back(9, &["tree"]);
    story.is_sound();
}

#[test]
fn every_version_of_an_encrypted_repository_comes_back_over_another() {
    let mut home = Home::new();
    home.set("ICECORE_PASSWORD", "perito moreno");
    let mut story = Story::tell(home);

    let out = story.home.path("out");
    for number in [0, 3, 1, 9, 5, 4, 8, 2, 7, 6] {
        let backup = format!("tree@{number}");
        let over = ["--overwrite", "if-changed", "--delete"];
        let words = [&["restore", &backup, "out"], &over[..]].concat();
        story.home.json(0, &words);
        story.assert_is(number, &out, "a restore over another version");
    }
    story.is_sound();
    story.home.set("ICECORE_PASSWORD", "another");
    assert_eq!(story.home.run(&["restore", "tree", "more"]).code, 12);
}

/// Waits until the repository's folder holds a pack, while the program runs.
fn wait_for_a_pack(home: &Home, child: &mut Child) {
    let packs = home.path(".local/share/icecore/packs");
    let has_file = |folder: fs::DirEntry| {
        fs::read_dir(folder.path()).is_ok_and(|mut entries| entries.next().is_some())
    };
    while !fs::read_dir(&packs).is_ok_and(|mut folders| folders.any(|it| it.is_ok_and(has_file))) {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it was interrupted");
        std::thread::yield_now();
    }
}

#[test]
fn an_interrupted_backup_is_none_and_the_next_one_is_whole() {
    let home = Home::new();
    let tree = home.path("tree");
    fs::create_dir(&tree).unwrap();
    (0..60).for_each(|n| fs::write(tree.join(format!("{n}")), noise(1 << 20, n)).unwrap());
    let mut command = home.command(&["--json", "backup", "tree", "--init"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();

    wait_for_a_pack(&home, &mut child);
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let ran = Ran::of(child.wait_with_output().unwrap());

    assert_eq!(ran.code, 130, "{ran:?}");
    assert!(ran.stdout.contains(r#""kind":"cancelled""#), "{ran:?}");
    assert_eq!(home.json(0, &["list", "tree"]), serde_json::json!([]));
    assert_eq!(home.json(0, &["backup", "tree"])["backup"], 0);
    home.done(&["restore", "tree", "out"]);
    let faults = difference(&restorable(&tree), &restorable(&home.path("out")));
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert_eq!(home.json(0, &["check", "--read-data"])["ok"], true);
}

#[test]
fn a_repository_inside_its_source_is_left_out_and_said_to_be() {
    let mut home = Home::new();
    home.set("ICECORE_REPOSITORY", "d/below/repository");
    home.write("d/below/file", b"1");
    home.done(&["init", "--encryption", "none"]);

    let ran = home.done(&["-v", "backup", "d"]);

    assert!(ran.stderr.contains("below/repository"), "{ran:?}");
    assert_eq!(home.done(&["ls", "-R", "d"]).stdout, "below/\nbelow/file\n");
    assert_eq!(home.json(0, &["backup", "d"])["kind"], "unchanged");
}

#[test]
fn foreign_files_in_a_repository_do_no_harm() {
    let home = Home::new();
    home.write("d/file", b"1");
    home.done(&["backup", "d"]);
    for place in ["README", "packs/lost+found", "packs/00/x.tmp", "datasets/.DS_Store", "new/a"] {
        home.write(&format!(".local/share/icecore/{place}"), b"not a stored object");
    }
    home.write("d/file", b"12");

    assert_eq!(home.json(0, &["backup", "d"])["backup"], 1);

    for (backup, content) in [("d@0", "1"), ("d@1", "12")] {
        home.done(&["restore", backup, "out", "--overwrite", "always"]);
        assert_eq!(fs::read_to_string(home.path("out/file")).unwrap(), content);
    }
    assert_eq!(home.json(0, &["check", "--read-data"])["ok"], true);
    assert!(home.path(".local/share/icecore/README").exists());
}

#[test]
fn places_that_make_no_sense_are_refused() {
    let home = Home::new();
    home.write("d/file", b"1");
    home.write("plain", b"a file");

    assert_eq!(home.json(1, &["backup", "missing"])["error"]["kind"], "not_found");
    home.run(&["backup", "/dev/null"]).says(2, "/dev/null: it is no folder");
    assert!(!home.path(".local").exists(), "a source that is none makes no repository");
    home.done(&["backup", "d"]);
    let restored = home.run(&["restore", "d", "plain", "--overwrite", "always"]);
    restored.says(2, "plain: it is no folder");
    assert_eq!(fs::read(home.path("plain")).unwrap(), b"a file");
    home.run(&["-r", "plain", "backup", "d", "--init"]).says(2, "plain: it is no folder");
}

#[test]
fn a_repository_that_cannot_be_written_fails_the_backup() {
    if is_root() {
        return skipped("nothing is denied to root");
    }
    let home = Home::new();
    home.write("d/file", b"1");
    home.done(&["backup", "d"]);
    home.write("d/more", b"2");
    let forbid = |mode: &str| {
        let place = home.path(".local/share/icecore");
        let mut chmod = std::process::Command::new("chmod");
        assert!(chmod.args(["-R", mode]).arg(place).status().unwrap().success());
    };

    forbid("a-w");
    assert_eq!(home.json(1, &["backup", "d"])["error"]["kind"], "denied");

    forbid("u+w");
    assert_eq!(home.json(0, &["backup", "d"])["backup"], 1);
}
