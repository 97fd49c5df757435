//! A tree with one of everything, and changes of it that spare no kind of entry and no metadata.

use crate::support::folder::is_root;
use crate::support::random::Random;
use crate::support::tree::noise;
use rustix::fs::AtFlags;
use rustix::fs::CWD;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::Timespec;
use rustix::fs::Timestamps;
use rustix::fs::XattrFlags;
use std::fs;
use std::fs::Permissions;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;

/// Ordinary files.
const FILES: u64 = 18;
/// Names behind which now this stands and now that.
const ODD: u64 = 7;
/// Kinds of things that may stand there.
const KINDS: u64 = 8;

pub(super) struct Source {
    root: PathBuf,
    random: Random,
    /// How long files are at most.
    length: u64,
    edits: u64,
}

impl Source {
    /// Makes the tree.
    pub(super) fn grow(root: &Path, seed: u64, length: u64) -> Self {
        let mut source = Source { root: root.to_owned(), random: Random(seed), length, edits: 0 };
        (0..FILES).for_each(|n| source.rewrite(n));
        (0..ODD).for_each(|n| source.turn(n, n));
        (0..FILES).step_by(4).for_each(|n| source.mark(n));
        source
    }

    /// Changes content, kinds and metadata, and makes something new.
    pub(super) fn change(&mut self) {
        for _ in 0..5 {
            let n = self.random.below(FILES);
            self.rewrite(n);
        }
        for _ in 0..2 {
            let (n, kind) = (self.random.below(ODD), self.random.below(KINDS));
            self.turn(n, kind);
        }
        for _ in 0..3 {
            let n = self.random.below(FILES);
            self.mark(n);
        }
        let made = self.root.join(format!("made/{}", self.edits % 9));
        fs::create_dir_all(&made).unwrap();
        self.write(&made.join("new"));
    }

    fn file(&self, n: u64) -> PathBuf {
        self.root.join(format!("d{}/f{n}", n % 5))
    }

    /// Some content compresses, some is there already, and some is none.
    fn bytes(&mut self) -> Vec<u8> {
        self.edits += 1;
        let own = self.random.below(u64::MAX);
        match self.random.below(7) {
            0 => Vec::new(),
            1 => noise(20_000, own % 4),
            2 => format!("line {own}\n").into_bytes().repeat(500),
            _ => noise((self.length / 2 + own % self.length) as usize, own),
        }
    }

    fn write(&mut self, path: &Path) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, self.bytes()).unwrap();
    }

    /// Gives a file other content, as the same inode or as another.
    fn rewrite(&mut self, n: u64) {
        let path = self.file(n);
        if path.exists() && self.random.below(2) == 0 {
            fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        } else {
            let _ = fs::remove_file(&path);
        }
        self.write(&path);
    }

    /// Puts a thing of this kind in the place of another.
    fn turn(&mut self, n: u64, kind: u64) {
        let path = self.root.join(format!("odd/{n}"));
        fs::create_dir_all(self.root.join("odd")).unwrap();
        match path.symlink_metadata().map(|it| it.is_dir()) {
            Ok(true) => fs::remove_dir_all(&path).unwrap(),
            Ok(false) => fs::remove_file(&path).unwrap(),
            Err(_) => {}
        }
        match kind {
            0 => self.write(&path),
            1 => fs::create_dir(&path).unwrap(),
            2 => self.write(&path.join("below/it")),
            3 => std::os::unix::fs::symlink(format!("to-{}", self.edits), &path).unwrap(),
            4 => {
                let mode = Mode::from_raw_mode(0o640);
                rustix::fs::mknodat(CWD, &path, FileType::Fifo, mode, 0).unwrap();
            }
            5 => {
                let twin = self.random.below(FILES);
                fs::hard_link(self.file(twin), &path).unwrap();
            }
            6 => self.dig(&path),
            _ => fs::write(&path, b"").unwrap(),
        }
    }

    /// Makes a file with holes.
    fn dig(&mut self, path: &Path) {
        let file = fs::File::create(path).unwrap();
        file.set_len(1 << 20).unwrap();
        let page = 4096 * (1 + self.random.below(100));
        file.write_all_at(&noise(4096, page), page).unwrap();
        file.write_all_at(&noise(9000, page + 1), 512 * 1024).unwrap();
    }

    /// Changes what is not content: of a file, or of the folder it lies in.
    fn mark(&mut self, n: u64) {
        self.edits += 1;
        let mut path = self.file(n);
        if self.random.below(3) == 0 {
            path.pop();
        }
        let is_folder = path.is_dir();
        match self.random.below(4) {
            0 => {
                let modes =
                    if is_folder { [0o755, 0o2770, 0o1777] } else { [0o600, 0o4755, 0o444] };
                let mode = modes[self.random.below(3) as usize];
                fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            }
            1 => {
                let seconds = self.random.below(4_000_000_000) as i64 - 1_000_000_000;
                let time = Timespec { tv_sec: seconds, tv_nsec: (self.edits % 999_999_999) as _ };
                let times = Timestamps { last_access: time, last_modification: time };
                rustix::fs::utimensat(CWD, &path, &times, AtFlags::empty()).unwrap();
            }
            2 if is_root() => {
                let owner = 1000 + self.random.below(9) as u32;
                std::os::unix::fs::chown(&path, Some(owner), Some(owner + 100)).unwrap();
            }
            _ => {
                let value = self.edits.to_le_bytes();
                // Some file systems have no attributes: nothing is compared there then.
                let flags = XattrFlags::empty();
                let _ = rustix::fs::setxattr(&path, "user.mark", &value, flags);
            }
        }
    }
}
