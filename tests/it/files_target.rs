//! A target on a server whose connections break: at each call once, and for good. What stood there
//! is replaced or stays, and nothing lies about where the server was there to the end.

use crate::support::files::Cut;
use crate::support::files::Door;
use crate::support::files::Server;
use crate::support::folder::Folder;
use crate::support::ways;
use crate::support::ways::Ways;
use icecore::base::error::ErrorKind;
use icecore::base::error::Origin;
use icecore::base::error::Result;
use icecore::base::metadata::Metadata;
use icecore::base::path::EntryPath;
use icecore::base::time::SystemClock;
use icecore::base::time::Timestamp;
use icecore::net::pool::Pool;
use icecore::net::pool::PoolOptions;
use icecore::target::MetadataRules;
use icecore::target::Node;
use icecore::target::Target;
use icecore::target::TargetWriter;
use icecore::target::files::FilesTarget;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use std::time::UNIX_EPOCH;

mod clashes;
mod sessions;

const OLD: &[u8] = b"what stood there before";
const NEW: &[u8] = b"what the backup has";

struct World {
    folder: Folder,
    server: Arc<Server>,
    has_links: bool,
}

fn world(ways: Ways) -> World {
    let folder = Folder::new();
    for below in ["served/d", "scratch"] {
        fs::create_dir_all(folder.path().join(below)).unwrap();
    }
    for below in ["served/replaced", "served/d/replaced", "served/gone"] {
        fs::write(folder.path().join(below), OLD).unwrap();
    }
    let has_links = ways.links;
    let server = Server::new(&folder.path().join("served"), ways);
    World { folder, server, has_links }
}

fn path(text: &str) -> EntryPath {
    EntryPath::new(text.as_bytes()).unwrap()
}

impl World {
    fn target(&self) -> FilesTarget {
        self.target_of(PoolOptions::default())
    }

    fn target_of(&self, options: PoolOptions) -> FilesTarget {
        let door = Arc::new(Door(Arc::clone(&self.server)));
        let pool = Pool::new(door, Arc::new(SystemClock), options);
        let scratch = self.folder.path().join("scratch");
        let target = FilesTarget::new(pool, b"", "fake://server".to_owned(), scratch);
        target.waiting([Duration::ZERO; 3])
    }

    fn restore(&self) -> Result<()> {
        let target = self.target();
        target.prepare()?;
        let mut writer = target.writer()?;
        let (metadata, rules) = (Metadata::default(), MetadataRules { owner: false });
        let finish = |writer: &mut dyn TargetWriter, content: &[u8]| {
            writer.write_at(0, content)?;
            writer.finish_file(&metadata, rules).map(drop)
        };
        for name in ["replaced", "d/replaced"] {
            assert!(writer.stat(&path(name))?.is_some());
            writer.replace_file(&path(name))?;
            finish(&mut *writer, NEW)?;
        }
        writer.create_directory(&path("e"))?;
        writer.create_file(&path("e/made"))?;
        finish(&mut *writer, NEW)?;
        writer.link(&path("e/again"), &path("e/made"))?;
        if self.has_links {
            writer.create_node(
                &path("e/link"),
                &Node::Symlink(b"made".into()),
                &metadata,
                rules,
            )?;
        }
        writer.remove(&path("gone"))?;
        writer.set_metadata(&path("e"), &metadata, rules)?;
        // Compared and not changed.
        writer.open_file(&path("replaced"))?;
        let mut back = [0; 100];
        let read = writer.read_at(0, &mut back)?;
        assert_eq!(&back[..read], NEW);
        writer.close_file()?;
        writer.sync()?;
        match target.finish()?.failed.into_iter().next() {
            Some((_, error)) => Err(error),
            None => Ok(()),
        }
    }

    fn tree(&self) -> BTreeMap<String, Vec<u8>> {
        let mut found = BTreeMap::new();
        collect(&self.folder.path().join("served"), "", &mut found);
        found
    }
}

fn collect(folder: &Path, above: &str, found: &mut BTreeMap<String, Vec<u8>>) {
    for entry in folder.read_dir().unwrap().map(|entry| entry.unwrap()) {
        let name = format!("{above}{}", entry.file_name().to_str().unwrap());
        match entry.file_type().unwrap().is_dir() {
            true => collect(&entry.path(), &format!("{name}/"), found),
            false => drop(found.insert(name, fs::read(entry.path()).unwrap())),
        }
    }
}

/// Returns what is there in the end, and how many calls that took.
fn undisturbed(ways: &Ways) -> (BTreeMap<String, Vec<u8>>, u64) {
    let world = world(ways.clone());
    world.server.cut(None);
    world.restore().unwrap();
    let calls = world.server.calls().len() as u64;
    let tree = world.tree();
    let names: Vec<&str> = tree.keys().map(String::as_str).collect();
    let wanted: &[&str] = match world.has_links {
        true => &["d/replaced", "e/again", "e/link", "e/made", "replaced"],
        false => &["d/replaced", "e/again", "e/made", "replaced"],
    };
    assert_eq!(names, wanted);
    assert!(tree.values().all(|content| content == NEW));
    (tree, calls)
}

#[test]
fn a_connection_that_breaks_once_changes_nothing() {
    for ways in [ways::SFTP, ways::FTP] {
        let (tree, calls) = undisturbed(&ways);
        assert!(calls > 20, "{calls}");
        for cut in (1..=calls).flat_map(|call| [Cut::Before(call), Cut::After(call)]) {
            let world = world(ways.clone());
            world.server.cut(Some(cut));
            world.restore().unwrap_or_else(|e| panic!("{cut:?}: {e:?} {:?}", world.server.calls()));
            assert_eq!(world.tree(), tree, "{cut:?}: {:?}", world.server.calls());
        }
    }
}

#[test]
fn a_server_that_dies_has_the_old_file_or_the_new_one() {
    for ways in [ways::SFTP, ways::FTP] {
        let (_, calls) = undisturbed(&ways);
        for call in 1..=calls {
            let world = world(ways.clone());
            world.server.cut(None);
            world.server.die_at(call);
            let error = world.restore().expect_err("it is dead");
            assert_eq!(error.kind(), ErrorKind::Unreachable, "{call}: {error:?}");
            assert_eq!(error.origin(), Origin::Target, "{call}: {error:?}");
            assert!(world.server.calls().len() < call as usize + 10, "{call}: it is asked on");

            let left = world.tree();
            for name in ["replaced", "d/replaced"] {
                let (folder, _) = name.rsplit_once('/').unwrap_or_default();
                let beside = |it: &String| it.starts_with(folder) && it.ends_with("-was");
                let was = left.iter().find(|(it, _)| beside(it)).map(|(_, content)| content);
                let there = left.get(name).or(was).unwrap_or_else(|| panic!("{call}: {left:?}"));
                assert!(there == OLD || there == NEW, "{call}: {name}");
            }
        }
    }
}

/// Writes many short files to one folder, a few to another, and one that is long.
fn write_many(target: &dyn Target) -> Vec<String> {
    target.prepare().unwrap();
    let mut writer = target.writer().unwrap();
    let names: Vec<String> = (0..20).map(|it| format!("many/{it}")).collect();
    let names = [names, vec!["few/a".to_owned(), "few/b".to_owned(), "long".to_owned()]].concat();
    for folder in ["many", "few"] {
        writer.create_directory(&path(folder)).unwrap();
    }
    for name in &names {
        writer.create_file(&path(name)).unwrap();
        let length = if name == "long" { 2 << 20 } else { NEW.len() };
        writer.write_at(0, &NEW.repeat(length / NEW.len())).unwrap();
        writer.finish_file(&Metadata::default(), MetadataRules { owner: false }).unwrap();
    }
    names
}

#[test]
fn short_files_are_seen_together_in_the_end() {
    let world = world(ways::FTP);
    let target = world.target();
    write_many(&target);
    let before = world.server.calls();
    let count =
        |calls: &[String], what: &str| calls.iter().filter(|it| it.starts_with(what)).count();
    assert_eq!(count(&before, "finish"), 1, "only of the long one: {before:#?}");
    let finished = target.finish().unwrap();
    assert!(finished.failed.is_empty(), "{:?}", finished.failed);
    let after = world.server.calls().split_off(before.len());
    assert_eq!((count(&after, "list many"), count(&after, "look few/")), (1, 2), "{after:#?}");
    assert_eq!(after.len(), 3, "{after:#?}");
    assert!(target.finish().unwrap().failed.is_empty(), "told once");
    assert_eq!(world.server.calls().len(), before.len() + after.len());
}

#[test]
fn a_short_file_that_came_in_part_is_sent_once_more() {
    for name in ["many/7", "few/b"] {
        let world = world(ways::FTP);
        world.server.halve(name, 1);
        let target = world.target();
        write_many(&target);
        assert_eq!(world.tree()[name].len(), 9);
        let failed = target.finish().unwrap().failed;
        assert!(failed.is_empty(), "{failed:?}");
        let tree = world.tree();
        assert_eq!(tree[name], NEW);
        assert_eq!(tree.len(), 3 + 23);
    }
}

#[test]
fn one_that_comes_in_part_again_is_told_and_removed() {
    for name in ["many/7", "few/b"] {
        let world = world(ways::FTP);
        world.server.halve(name, 2);
        let target = world.target();
        let names = write_many(&target);
        let failed = target.finish().unwrap().failed;
        let [(at, error)] = failed.as_slice() else { panic!("{failed:?}") };
        assert_eq!(
            (at, error.kind(), error.origin()),
            (&path(name), ErrorKind::Io, Origin::Target)
        );
        assert_eq!(error.full_message(), format!("cannot write {name}: 550 another size"));
        let tree = world.tree();
        assert!(!tree.contains_key(name), "{tree:?}");
        assert!(names.iter().filter(|it| *it != name).all(|it| tree.contains_key(it)));
    }
}

#[test]
fn where_a_folder_is_not_listed_each_file_is_looked_at() {
    let world = world(ways::FTP);
    world.server.halve("many/7", 1);
    let target = world.target();
    write_many(&target);
    world.server.refuse("list many");
    let failed = target.finish().unwrap().failed;
    assert!(failed.is_empty(), "{failed:?}");
    assert_eq!(world.tree()["many/7"], NEW);
}

#[test]
fn what_cannot_be_looked_at_in_the_end_is_told() {
    let world = world(ways::FTP);
    let target = world.target();
    write_many(&target);
    world.server.refuse("look few/b");
    let failed = target.finish().unwrap().failed;
    let [(at, error)] = failed.as_slice() else { panic!("{failed:?}") };
    assert_eq!((at, error.kind()), (&path("few/b"), ErrorKind::Denied));
    assert!(error.full_message().contains("it was sent, and cannot be looked at"), "{error:?}");
    assert_eq!(world.tree().len(), 3 + 23, "what nobody could look at stays");
}

/// Writes a file, and then a second name of it.
fn write_with_a_second_name(target: &FilesTarget) -> Result<()> {
    target.prepare()?;
    let mut writer = target.writer()?;
    writer.create_file(&path("first"))?;
    writer.write_at(0, NEW)?;
    writer.finish_file(&Metadata::default(), MetadataRules { owner: false })?;
    writer.link(&path("second"), &path("first"))
}

#[test]
fn a_second_name_is_made_of_what_is_whole() {
    let linking = Ways { links: true, ..ways::FTP };
    for ways in [ways::FTP, linking] {
        let world = world(ways);
        world.server.halve("first", 1);
        let target = world.target();
        write_with_a_second_name(&target).unwrap();
        assert!(target.finish().unwrap().failed.is_empty());
        let tree = world.tree();
        assert_eq!((tree["first"].as_slice(), tree["second"].as_slice()), (NEW, NEW));
    }
}

#[test]
fn of_a_file_that_never_came_whole_no_second_name_is_made() {
    let world = world(ways::FTP);
    world.server.halve("first", 2);
    let target = world.target();
    let error = write_with_a_second_name(&target).expect_err("the first is not there");
    let message = "cannot make second: it is one file with first, which could not be written";
    assert_eq!((error.kind(), error.origin()), (ErrorKind::Io, Origin::Target));
    assert_eq!(error.full_message(), message);
    let failed = target.finish().unwrap().failed;
    assert_eq!(failed.iter().map(|(at, _)| at).collect::<Vec<_>>(), [&path("first")]);
    assert_eq!(world.tree().len(), 3);
}

#[test]
fn files_are_seen_before_their_folder_gets_its_mode_and_time() {
    let world = world(ways::FTP);
    world.server.halve("many/7", 1);
    let target = world.target();
    write_many(&target);
    let before = world.server.calls().len();
    let metadata =
        Metadata { mode: 0o300, mtime: Timestamp::new(1_000_000, 0), ..Metadata::default() };
    let mut writer = target.writer().unwrap();
    for folder in ["few", "many"] {
        let set = writer.set_metadata(&path(folder), &metadata, MetadataRules { owner: false });
        assert_eq!(set.unwrap(), [""; 0]);
    }
    drop(writer);
    let calls = world.server.calls().split_off(before);
    let at = |what: &str| calls.iter().position(|it| it == what).expect(what);
    assert!(at("list many") < at("set_mode many"), "{calls:#?}");
    assert!(at("look few/b") < at("set_mode few"), "{calls:#?}");
    assert_eq!(calls.iter().filter(|it| it.starts_with("list")).count(), 1, "{calls:#?}");
    assert!(target.finish().unwrap().failed.is_empty());
    assert_eq!(world.server.calls().len(), before + calls.len(), "nothing is left to see");
    let many = world.folder.path().join("served/many");
    let modified = many.metadata().unwrap().modified().unwrap();
    assert_eq!(modified.duration_since(UNIX_EPOCH).unwrap(), Duration::from_secs(1_000_000));
    assert_eq!(world.tree()["many/7"], NEW);
}

#[test]
fn what_is_removed_is_not_looked_for() {
    let world = world(ways::FTP);
    let target = world.target();
    write_many(&target);
    let mut writer = target.writer().unwrap();
    for at in ["many/3", "few"] {
        writer.remove(&path(at)).unwrap();
    }
    drop(writer);
    let failed = target.finish().unwrap().failed;
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn in_a_folder_that_is_not_listed_each_name_is_asked_for() {
    for ways in [ways::SFTP, ways::FTP] {
        let world = world(ways);
        world.server.refuse("list d");
        let target = world.target();
        target.prepare().unwrap();
        let mut writer = target.writer().unwrap();
        assert_eq!(writer.stat(&path("d/replaced")).unwrap().unwrap().size, OLD.len() as u64);
        assert!(writer.stat(&path("d/none")).unwrap().is_none());
        writer.replace_file(&path("d/replaced")).unwrap();
        writer.write_at(0, NEW).unwrap();
        writer.finish_file(&Metadata::default(), MetadataRules { owner: false }).unwrap();
        writer.create_file(&path("d/replaced")).expect_err("something stands there");
        writer.list(&path("d")).expect_err("it is not listed");
        drop(writer);
        assert_eq!(world.tree()["d/replaced"], NEW);
        let calls = world.server.calls();
        let tries = calls.iter().filter(|it| *it == "list d").count();
        assert_eq!(tries, 2, "once to look and once to list: {calls:#?}");
    }
}

#[test]
fn names_that_are_not_remembered_cost_a_question_only_when_they_are_wanted_again() {
    let counts = |names_max: usize| {
        let world = world(ways::FTP);
        let target = world.target().remembering(names_max);
        target.prepare().unwrap();
        world.server.cut(None);
        let mut writer = target.writer().unwrap();
        writer.create_directory(&path("many")).unwrap();
        for number in 0..20 {
            writer.create_file(&path(&format!("many/{number}"))).unwrap();
            writer.write_at(0, NEW).unwrap();
            writer.finish_file(&Metadata::default(), MetadataRules { owner: false }).unwrap();
        }
        let written = world.server.calls().len();
        assert!(writer.stat(&path("many/17")).unwrap().is_some());
        assert!(writer.stat(&path("many/none")).unwrap().is_none());
        writer.link(&path("many/again"), &path("many/17")).unwrap();
        writer.create_file(&path("many/17")).expect_err("something stands there");
        drop(writer);
        assert!(target.finish().unwrap().failed.is_empty());
        assert_eq!(world.tree()["many/again"], NEW);
        (written, world.server.calls().len())
    };
    let (all, few) = (counts(1000), counts(10));
    assert_eq!(all.0, few.0, "to write asks for none");
    assert!(few.1 > all.1, "{few:?} {all:?}");
}

#[test]
fn where_the_proof_costs_no_question_there_is_none_in_the_end() {
    let world = world(ways::SFTP);
    let target = world.target();
    let names = write_many(&target);
    let before = world.server.calls();
    assert_eq!(before.iter().filter(|it| it.starts_with("finish")).count(), names.len());
    assert!(target.finish().unwrap().failed.is_empty());
    assert_eq!(world.server.calls().len(), before.len());
}

#[test]
fn what_stands_there_stays_when_its_successor_cannot_be_sent() {
    for ways in [ways::SFTP, ways::FTP] {
        let world = world(ways);
        let target = world.target();
        target.prepare().unwrap();
        let mut writer = target.writer().unwrap();
        writer.replace_file(&path("replaced")).unwrap();
        writer.write_at(0, NEW).unwrap();
        world.server.refuse("write ");
        let finished = writer.finish_file(&Metadata::default(), MetadataRules { owner: false });
        assert_eq!(finished.expect_err("refused").kind(), ErrorKind::Denied);
        // As a restore does with what it made and could not finish.
        writer.remove(&path("replaced")).unwrap();
        writer.sync().unwrap();
        assert_eq!(world.tree().get("replaced").map(Vec::as_slice), Some(OLD));
        assert_eq!(world.tree().len(), 3, "nothing is left beside it");
    }
}

#[test]
fn what_was_written_to_a_file_and_abandoned_is_never_sent() {
    let world = world(ways::FTP);
    let target = world.target();
    target.prepare().unwrap();
    let mut writer = target.writer().unwrap();
    writer.open_file(&path("replaced")).unwrap();
    writer.write_at(0, NEW).unwrap();
    writer.close_file().unwrap();
    writer.abandon(&path("replaced")).unwrap();
    writer.sync().unwrap();
    assert_eq!(world.tree().get("replaced").map(Vec::as_slice), Some(OLD));
}
