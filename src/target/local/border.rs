//! Tells where another file system begins: what is there may be on another disk, and belong to
//! somebody else, so that it is never deleted together with what it is mounted in.

use rustix::fs::AtFlags;
use rustix::fs::Stat;
use rustix::fs::StatxAttributes;
use rustix::fs::StatxFlags;
use std::io;
use std::os::fd::BorrowedFd;

/// Says whether a folder is on another device than the one it is in, as file systems and btrfs
/// subvolumes are, or the root of a mount, as a part of the same file system may be.
pub(super) fn is_border(parent: BorrowedFd<'_>, name: &[u8], folder: &Stat) -> io::Result<bool> {
    if rustix::fs::fstat(parent)?.st_dev != folder.st_dev {
        return Ok(true);
    }
    // Kernels before 5.8 do not tell, and some sandboxes forbid to ask.
    let looked = rustix::fs::statx(parent, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::TYPE);
    Ok(looked.is_ok_and(|found| found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)))
}
