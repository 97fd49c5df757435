//! What a restore leaves alone in the target, whatever kind that is: what it is told to spare, and
//! what looks like a repository.

use crate::s3::store::Store;
use crate::support::files::Door;
use crate::support::files::Server;
use crate::support::folder::Folder;
use crate::support::restored::backed_up;
use crate::support::restored::excluding;
use crate::support::restored::overwriting;
use crate::support::restored::path;
use crate::support::restored::try_plan;
use crate::support::restored::try_restore;
use crate::support::ways;
use crate::support::world::World;
use icecore::base::path::EntryPath;
use icecore::base::time::SystemClock;
use icecore::engine::restore::Overwrite;
use icecore::engine::restore::Own;
use icecore::engine::restore::RestoreOptions;
use icecore::engine::restore::RestoreReport;
use icecore::engine::restore::Spared;
use icecore::net::pool::Pool;
use icecore::net::pool::PoolOptions;
use icecore::source::memory::MemorySource;
use icecore::target::Target;
use icecore::target::bucket::BucketTarget;
use icecore::target::files::FilesTarget;
use icecore::target::local::LocalTarget;
use icecore::target::memory::MemoryTarget;
use std::sync::Arc;

const REPOSITORY: [&str; 4] = ["config", "datasets/00/x", "names/11/y", "packs/22/z"];

const KINDS: [&str; 5] = ["memory", "local", "ftp", "sftp", "s3"];

/// Places for a target of each kind.
struct Places {
    memory: MemoryTarget,
    folder: Folder,
    store: Store,
}

impl Places {
    fn new() -> Self {
        let folder = Folder::new();
        for below in ["local", "ftp", "sftp", "scratch"] {
            std::fs::create_dir(folder.path().join(below)).unwrap();
        }
        Places { memory: MemoryTarget::new(), folder, store: Store::new() }
    }

    /// Works with a target that knows nothing of what others did there.
    fn with<T>(&self, kind: &str, work: impl FnOnce(&dyn Target) -> T) -> T {
        let at = |below: &str| self.folder.path().join(below);
        let served = |ways| {
            let door = Arc::new(Door(Server::new(&at(kind), ways)));
            let pool = Pool::new(door, Arc::new(SystemClock), PoolOptions::default());
            FilesTarget::new(pool, b"", format!("fake://{kind}"), at("scratch"))
        };
        match kind {
            "memory" => work(&self.memory),
            "local" => work(&LocalTarget::new(&at(kind))),
            "ftp" => work(&served(ways::FTP)),
            "sftp" => work(&served(ways::SFTP)),
            _ => work(&BucketTarget::new(self.store.client(), "p", at("scratch"))),
        }
    }

    fn restore(
        &self,
        kind: &str,
        world: &World,
        number: u64,
        options: &RestoreOptions,
    ) -> RestoreReport {
        self.with(kind, |target| try_restore(world, number, target, options).unwrap())
    }

    fn plan(&self, kind: &str, world: &World, options: &RestoreOptions) -> RestoreReport {
        self.with(kind, |target| try_plan(world, 0, target, options).unwrap().0)
    }

    /// Returns all paths of files in a target, sorted.
    fn files(&self, kind: &str) -> Vec<String> {
        self.with(kind, |target| {
            let mut writer = target.writer().unwrap();
            let (mut folders, mut files) = (vec![EntryPath::root()], Vec::new());
            while let Some(folder) = folders.pop() {
                for (name, is_folder) in writer.list_folders(&folder).unwrap() {
                    let at = folder.join(&name).unwrap();
                    match is_folder {
                        true => folders.push(at),
                        false => files.push(at.to_string()),
                    }
                }
            }
            files.sort();
            files
        })
    }
}

/// A backup of `old`, and one of all these files.
fn world(files: &[String]) -> World {
    let mut source = MemorySource::new("m").file("old", b"old");
    let world = backed_up(&source);
    for file in files {
        source = source.file(file, b"x");
    }
    assert_eq!(world.backup(&source).unwrap().errors, []);
    world
}

fn options(spared: &[&str]) -> RestoreOptions {
    let spared = spared.iter().map(|at| Spared { path: path(at), what: Own::Repository });
    let delete = RestoreOptions { delete: true, ..overwriting(Overwrite::IfChanged) };
    RestoreOptions { spared: spared.collect(), ..delete }
}

fn below(folder: &str, names: &[&str]) -> Vec<String> {
    names.iter().map(|name| format!("{folder}/{name}")).collect()
}

#[test]
fn what_is_to_be_spared_stays_with_the_folders_above_it() {
    let world = world(&below("d", &["repo/x", "repo/deep/y", "repository", "z"]));
    let places = Places::new();
    for kind in KINDS {
        places.restore(kind, &world, 1, &options(&[]));

        let report = places.restore(kind, &world, 0, &options(&["d/repo"]));

        assert_eq!((report.errors.len(), report.deleted), (0, 2), "{kind}: {report:?}");
        assert_eq!(places.files(kind), ["d/repo/deep/y", "d/repo/x", "old"], "{kind}");
    }
}

/// Without it the repository has no address any more, in the middle of what reads it.
#[test]
fn a_link_that_the_repository_is_behind_stays() {
    let world = world(&below("d", &["z"]));
    let places = Places::new();
    for kind in ["local", "sftp", "ftp"] {
        places.restore(kind, &world, 0, &options(&[]));
        let outside = places.folder.path().join(format!("outside-{kind}"));
        std::fs::create_dir(&outside).unwrap();
        std::fs::create_dir(outside.join("repo")).unwrap();
        let link = places.folder.path().join(kind).join("link");
        std::os::unix::fs::symlink(&outside, &link).unwrap();

        let report = places.restore(kind, &world, 0, &options(&["link/repo"]));

        assert!(report.errors.is_empty(), "{kind}: {report:?}");
        assert!(link.symlink_metadata().is_ok() && outside.join("repo").exists(), "{kind}");
        let report = places.restore(kind, &world, 0, &options(&[]));
        assert_eq!((report.errors.len(), report.deleted), (0, 1), "{kind}: {report:?}");
        assert!(link.symlink_metadata().is_err() && outside.join("repo").exists(), "{kind}");
    }
}

#[test]
fn what_looks_like_a_repository_stays_and_is_an_error() {
    let mut names = below("d/e/repo", &REPOSITORY);
    names.extend(below("d", &["config", "datasets", "e/more/config", "z"]));
    let world = world(&names);
    let places = Places::new();
    for kind in KINDS {
        places.restore(kind, &world, 1, &options(&[]));
        for is_dry in [true, false] {
            let report = match is_dry {
                true => places.plan(kind, &world, &options(&[])),
                false => places.restore(kind, &world, 0, &options(&[])),
            };

            let [failure] = report.errors.as_slice() else { panic!("{kind}: {report:?}") };
            assert_eq!(failure.path, Some(path("d/e/repo")), "{kind}");
            let why = "cannot delete d/e/repo: an icecore repository is there";
            assert!(failure.message.contains(why), "{kind}: {failure:?}");
            assert_eq!(report.deleted, 4, "{kind}: {report:?}");
        }
        let mut left = below("d/e/repo", &REPOSITORY);
        left.push("old".into());
        assert_eq!(places.files(kind), left, "{kind}");
    }
}

#[test]
fn a_file_takes_no_repositorys_place_and_a_filter_deletes_none() {
    let world = world(&below("d/repo", &REPOSITORY));
    let source = MemorySource::new("m").file("d", b"a file now");
    assert_eq!(world.backup(&source).unwrap().errors, []);
    let places = Places::new();
    for kind in KINDS {
        places.restore(kind, &world, 1, &options(&[]));

        let clear = places.restore(kind, &world, 2, &options(&[]));
        let filtered = RestoreOptions { filter: excluding(&["*.o"]), ..options(&[]) };
        let filtered = places.restore(kind, &world, 0, &filtered);

        let [failure] = clear.errors.as_slice() else { panic!("{kind}: {clear:?}") };
        let why = "cannot restore d in the place of d/repo: an icecore repository is there";
        assert!(failure.message.contains(why), "{kind}: {failure:?}");
        assert_eq!(filtered.errors.len(), 1, "{kind}: {filtered:?}");
        let mut left = below("d/repo", &REPOSITORY);
        left.push("old".into());
        assert_eq!(places.files(kind), left, "{kind}");
    }
}

#[test]
fn deleting_objects_looks_at_no_single_one_of_them() {
    let names: Vec<String> = (0..40).map(|number| format!("d/{}/{number}", number % 4)).collect();
    let world = world(&names);
    let places = Places::new();
    places.restore("s3", &world, 1, &options(&[]));
    let before = places.store.count("HEAD", "/p/d/");

    places.restore("s3", &world, 0, &options(&[]));

    assert_eq!(places.store.count("HEAD", "/p/d/"), before);
    assert_eq!(places.files("s3"), ["old"]);
}
