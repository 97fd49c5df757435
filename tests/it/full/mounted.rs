//! A small file system that is mounted for a test, and is gone when the test is, however it ends.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Tmpfs,
    Ext4,
}

/// Names of mounts are this, the process they belong to, and a number.
const PREFIX: &str = "icecore-full-";
/// What takes the room away.
const BALLAST: &str = "ballast";

/// Unmounted when dropped.
pub(crate) struct Mounted {
    kind: Kind,
    path: PathBuf,
    image: Option<PathBuf>,
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|e| format!("{command:?}: {e}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}

impl Mounted {
    /// Mounts a new one of about so many bytes.
    pub(crate) fn new(kind: Kind, bytes: u64) -> Result<Self, String> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        let image = (kind == Kind::Ext4).then(|| path.with_extension("image"));
        // From here on all is cleared away, whatever fails.
        let mounted = Mounted { kind, path, image };
        let mut mount = Command::new("mount");
        match &mounted.image {
            None => mount.args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"]),
            Some(image) => {
                File::create(image).unwrap().set_len(bytes).unwrap();
                // No room is kept for root, and none for a journal.
                let options = ["-q", "-F", "-m", "0", "-O", "^has_journal"];
                run(Command::new("mkfs.ext4").args(options).arg(image))?;
                mount.args(["-o", "loop"]).arg(image)
            }
        };
        run(mount.arg(&mounted.path))?;
        Ok(mounted)
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes all room away but so many bytes.
    pub(crate) fn fill_up(&self, room: u64) {
        let mut file = File::create(self.path.join(BALLAST)).unwrap();
        let (mut written, mut piece) = (0, vec![7; 1 << 16]);
        while !piece.is_empty() {
            match file.write(&piece) {
                Ok(count) => written += count as u64,
                Err(_) => piece.truncate(piece.len() / 2),
            }
        }
        // Blocks of a file that was not written back yet may turn out to have no place.
        file.sync_all().unwrap();
        file.set_len(written.saturating_sub(room)).unwrap();
        file.sync_all().unwrap();
    }

    pub(crate) fn make_room(&self) {
        let _ = std::fs::remove_file(self.path.join(BALLAST));
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        clear_away(&self.path);
    }
}

/// Unmounts it if it is mounted, and removes its folder and its image.
fn clear_away(path: &Path) {
    if run(Command::new("umount").arg(path)).is_err() {
        let _ = run(Command::new("umount").arg("-l").arg(path));
    }
    // A folder in which something is still mounted stays, and is cleared away another time.
    let _ = std::fs::remove_dir(path);
    if !path.exists() {
        let _ = std::fs::remove_file(path.with_extension("image"));
    }
}

/// Clears away what processes have left that died before they could.
pub(crate) fn remove_leftovers() {
    for entry in std::env::temp_dir().read_dir().unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        let Some(owner) = owner.and_then(|text| text.parse::<u32>().ok()) else { continue };
        if !Path::new(&format!("/proc/{owner}")).exists() {
            clear_away(&entry.path().with_extension(""));
        }
    }
}
