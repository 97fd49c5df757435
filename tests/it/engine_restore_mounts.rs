//! File systems that are mounted in a target: nothing on them is deleted.
//!
//! A tmpfs and a bind mount, which take root and the right to mount. Where that is missing the test
//! says so; `ICECORE_NO_MOUNT=1` leaves it out on purpose.

use crate::support::folder::Folder;
use crate::support::folder::skipped;
use crate::support::restored::backed_up;
use crate::support::restored::overwriting;
use crate::support::restored::restore_or_plan;
use crate::support::world::World;
use icecore::engine::restore::Overwrite;
use icecore::engine::restore::RestoreOptions;
use icecore::source::memory::MemorySource;
use icecore::target::local::LocalTarget;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

/// Something mounted, until it is dropped.
struct Mount(PathBuf);

impl Mount {
    /// Mounts a tmpfs, or a folder of the same file system; none where that is not allowed.
    fn new(at: &Path, bound: Option<&Path>) -> Option<Self> {
        if std::env::var_os("ICECORE_NO_MOUNT").is_some() {
            skipped("mounts in a target: ICECORE_NO_MOUNT is set");
            return None;
        }
        std::fs::create_dir_all(at).unwrap();
        let mut mount = Command::new("mount");
        match bound {
            None => mount.args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]),
            Some(bound) => mount.arg("--bind").arg(bound),
        };
        let output = mount.arg(at).output().unwrap();
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr);
            skipped(&format!("mounts in a target: {}", why.trim()));
            return None;
        }
        Some(Mount(at.to_path_buf()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn deleting(world: &World, root: &Path, dry_run: bool) -> icecore::engine::restore::RestoreReport {
    let rule = overwriting(Overwrite::IfChanged);
    let wanted = RestoreOptions { delete: true, ..rule };
    restore_or_plan(dry_run, world, &LocalTarget::new(root), &wanted).unwrap()
}

fn reads(path: &Path) -> Option<Vec<u8>> {
    std::fs::read(path).ok()
}

#[test]
fn what_is_mounted_where_the_backup_has_a_folder_stays() {
    let source = MemorySource::new("s").file("a", b"alpha").file("home/kept/old", b"old");
    let world = backed_up(&source.directory("shared"));
    let (folder, aside) = (Folder::new(), Folder::new());
    let root = folder.path();
    std::fs::write(aside.path().join("elsewhere"), b"other").unwrap();
    let Some(_home) = Mount::new(&root.join("home"), None) else { return };
    let Some(_shared) = Mount::new(&root.join("shared"), Some(aside.path())) else { return };
    std::fs::create_dir_all(root.join("home/kept/more")).unwrap();
    for at in ["home/photo", "home/kept/photo", "home/kept/more/photo", "extra"] {
        std::fs::write(root.join(at), b"photo").unwrap();
    }

    for dry_run in [true, false] {
        let report = deleting(&world, root, dry_run);

        assert_eq!((report.errors, report.deleted), (Vec::new(), 1));
        let told: Vec<String> = world.progress.warnings();
        let why = "another file system is mounted there: what the backup does not have stays";
        assert!(told.ends_with(&[format!("home: {why}"), format!("shared: {why}")]), "{told:?}");
    }

    for at in ["home/photo", "home/kept/photo", "home/kept/more/photo"] {
        assert_eq!(reads(&root.join(at)).unwrap(), b"photo", "{at}");
    }
    assert_eq!(reads(&aside.path().join("elsewhere")).unwrap(), b"other");
    assert_eq!(reads(&root.join("home/kept/old")).unwrap(), b"old");
    assert_eq!(reads(&root.join("extra")), None);
}

#[test]
fn what_is_mounted_where_the_backup_has_nothing_or_a_file_stays_and_is_named() {
    let world = backed_up(&MemorySource::new("s").file("a", b"alpha").file("b", b"beta"));
    let folder = Folder::new();
    let root = folder.path();
    let mut mounts = Vec::new();
    for at in ["a", "extra/deep/disk", "other"] {
        let Some(mount) = Mount::new(&root.join(at), None) else { return };
        std::fs::write(root.join(at).join("photo"), b"photo").unwrap();
        mounts.push(mount);
    }

    let report = deleting(&world, root, false);

    let told: Vec<_> = report.errors.iter().map(|failure| failure.message.as_str()).collect();
    let [a, extra, other] = told[..] else { panic!("{told:?}") };
    assert!(a.contains("cannot restore a: the folder there is on a file system of its own"), "{a}");
    assert!(extra.contains("cannot remove extra/deep/disk: another file system is"), "{extra}");
    assert!(other.contains("cannot delete other: another file system is mounted there"), "{other}");
    assert_eq!((report.files, report.deleted), (1, 0));
    for at in ["a", "extra/deep/disk", "other"] {
        assert_eq!(reads(&root.join(at).join("photo")).unwrap(), b"photo", "{at}");
    }
}

#[test]
fn a_target_that_is_a_mount_itself_is_swept() {
    let world = backed_up(&MemorySource::new("s").file("a", b"alpha"));
    let folder = Folder::new();
    let Some(_mount) = Mount::new(&folder.path().join("disk"), None) else { return };
    let root = folder.path().join("disk");
    std::fs::create_dir_all(root.join("extra/deep")).unwrap();

    let report = deleting(&world, &root, false);

    assert_eq!((report.errors, report.deleted, report.files), (Vec::new(), 1, 1));
    assert!(!root.join("extra").exists());
}
