//! What one `stat` of the system means as a [`SourceEntry`].

use crate::base::metadata::Detection;
use crate::base::metadata::Kind;
use crate::base::metadata::Metadata;
use crate::base::path::EntryPath;
use crate::base::time::Timestamp;
use crate::source::SourceEntry;
use crate::source::local::owners::OwnerCache;
use rustix::fs::FileType;
use rustix::fs::Stat;

/// What the system calls the thing, in our words; none for kinds that no Linux knows today.
pub(super) fn kind_of(stat: &Stat) -> Option<Kind> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Some(Kind::File),
        FileType::Directory => Some(Kind::Directory),
        FileType::Symlink => Some(Kind::Symlink),
        FileType::Fifo => Some(Kind::Fifo),
        FileType::CharacterDevice => Some(Kind::CharDevice),
        FileType::BlockDevice => Some(Kind::BlockDevice),
        FileType::Socket => Some(Kind::Socket),
        FileType::Unknown => None,
    }
}

/// Makes the entry of `path` from what the system says of it.
#[expect(clippy::unnecessary_cast, reason = "the fields of stat differ between machines")]
pub(super) fn entry_of(
    path: EntryPath,
    kind: Kind,
    stat: &Stat,
    owners: &mut OwnerCache,
) -> SourceEntry {
    let is_file = kind == Kind::File;
    let is_device = matches!(kind, Kind::CharDevice | Kind::BlockDevice);
    let size = if is_file { u64::try_from(stat.st_size).unwrap_or(0) } else { 0 };
    let device = stat.st_rdev as u64;
    SourceEntry {
        path,
        kind,
        size,
        metadata: Metadata {
            mode: stat.st_mode as u32 & 0o7777,
            owner: owners.get(stat.st_uid as u32, stat.st_gid as u32),
            mtime: Timestamp::new(stat.st_mtime as i64, stat.st_mtime_nsec as u32),
            xattrs: Vec::new(),
        },
        detection: Detection {
            ctime: Timestamp::new(stat.st_ctime as i64, stat.st_ctime_nsec as u32),
            inode: stat.st_ino as u64,
            tag: Vec::new(),
        },
        hard_link: (is_file && stat.st_nlink > 1).then(|| link_group(stat)),
        device: if is_device {
            (rustix::fs::major(device), rustix::fs::minor(device))
        } else {
            (0, 0)
        },
        maybe_sparse: is_file && (stat.st_blocks as u64).saturating_mul(512) < size,
    }
}

/// Mixes the device into the inode number. On one file system the numbers differ for certain,
/// since the same value is xored onto each; between two they differ but for a freak of chance.
#[expect(clippy::unnecessary_cast, reason = "the fields of stat differ between machines")]
fn link_group(stat: &Stat) -> u64 {
    stat.st_ino as u64 ^ (stat.st_dev as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
