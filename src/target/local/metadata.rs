//! Owner, attributes, mode and times of what stands in a target.
//!
//! The order matters: a change of owner clears setuid bits and capabilities, an ACL shares
//! bits with the mode, and everything moves times. What cannot be set becomes a sentence.

use crate::base::limits::XATTR_VALUE_BYTES_MAX;
use crate::base::metadata::Kind;
use crate::base::metadata::Metadata;
use crate::base::metadata::Xattr;
use crate::base::path::display;
use crate::base::time::Timestamp;
use crate::target::MetadataRules;
use rustix::fs::AtFlags;
use rustix::fs::FileType;
use rustix::fs::Gid;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::Stat;
use rustix::fs::Timespec;
use rustix::fs::Timestamps;
use rustix::fs::UTIME_OMIT;
use rustix::fs::Uid;
use rustix::fs::XattrFlags;
use rustix::io::Errno;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;

const SETUID: u32 = 0o4000;
const SETGID: u32 = 0o2000;

/// The thing whose metadata is set: an open file or folder, or a name in a folder, which is
/// never followed.
#[derive(Clone, Copy)]
pub(super) enum Subject<'a> {
    Handle(BorrowedFd<'a>),
    Name(BorrowedFd<'a>, &'a [u8]),
}

/// Sets all that `rules` ask for and returns what could not be set.
pub(super) fn set(
    subject: Subject<'_>,
    metadata: &Metadata,
    rules: MetadataRules,
) -> io::Result<Vec<String>> {
    let mut trouble = Vec::new();
    let before = subject.stat()?;
    let is_link = FileType::from_raw_mode(before.st_mode) == FileType::Symlink;
    if rules.owner {
        set_owner(subject, &before, metadata, &mut trouble);
    }
    set_xattrs(subject, &metadata.xattrs, &mut trouble);
    if !is_link {
        // Looked at again only when the outcome of the change of owner matters.
        let is_risky = metadata.mode & (SETUID | SETGID) != 0;
        let now = if is_risky { subject.stat()? } else { before };
        let mode = safe_mode(&now, metadata, &mut trouble);
        if let Err(cause) = subject.set_mode(mode) {
            trouble.push(format!("mode {mode:04o} was not set: {cause}"));
        }
    }
    set_mtime(subject, metadata.mtime, &mut trouble);
    Ok(trouble)
}

impl Subject<'_> {
    pub(super) fn stat(self) -> io::Result<Stat> {
        Ok(match self {
            Subject::Handle(handle) => rustix::fs::fstat(handle)?,
            Subject::Name(folder, name) => {
                rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?
            }
        })
    }

    /// Sets the mode of what is no symlink.
    pub(super) fn set_mode(self, mode: u32) -> io::Result<()> {
        let mode = Mode::from_raw_mode(mode);
        match self {
            Subject::Handle(handle) => rustix::fs::fchmod(handle, mode)?,
            Subject::Name(folder, name) => {
                // The old chmod follows links, and this way round works without the right to
                // read the thing.
                let thing = pin(folder, name)?;
                let path = format!("/proc/self/fd/{}", thing.as_fd().as_raw_fd());
                rustix::fs::chmod(path, mode)?;
            }
        }
        Ok(())
    }

    fn chown(self, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
        let uid = uid.map(Uid::from_raw);
        let gid = gid.map(Gid::from_raw);
        let done = match self {
            Subject::Handle(handle) => rustix::fs::fchown(handle, uid, gid),
            Subject::Name(folder, name) => {
                rustix::fs::chownat(folder, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
            }
        };
        Ok(done?)
    }
}

/// Holds on to a thing without opening it; a symlink is refused.
fn pin(folder: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let thing = rustix::fs::openat(folder, name, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&thing)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
        return Err(Errno::LOOP.into());
    }
    Ok(thing)
}

/// Returns what the system says a thing is, as one of our kinds.
pub(super) fn kind_of(stat: &Stat) -> Kind {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink,
        FileType::Fifo => Kind::Fifo,
        FileType::CharacterDevice => Kind::CharDevice,
        FileType::BlockDevice => Kind::BlockDevice,
        FileType::Socket => Kind::Socket,
        FileType::RegularFile | FileType::Unknown => Kind::File,
    }
}

fn set_owner(subject: Subject<'_>, now: &Stat, metadata: &Metadata, trouble: &mut Vec<String>) {
    let owner = &metadata.owner;
    if (now.st_uid, now.st_gid) == (owner.uid, owner.gid) {
        return;
    }
    let Err(cause) = subject.chown(Some(owner.uid), Some(owner.gid)) else { return };
    // Who may not give files away may still set a group of their own.
    let group_alone = now.st_gid != owner.gid && subject.chown(None, Some(owner.gid)).is_ok();
    if group_alone && now.st_uid == owner.uid {
        return;
    }
    trouble.push(format!("owner {}:{} was not set: {cause}", owner.uid, owner.gid));
}

/// A setuid program must not run as somebody it was never given to, so the bit stays off when
/// the owner is another than the one stored.
fn safe_mode(now: &Stat, metadata: &Metadata, trouble: &mut Vec<String>) -> u32 {
    let mut mode = metadata.mode & 0o7777;
    let is_file = FileType::from_raw_mode(now.st_mode) == FileType::RegularFile;
    if is_file && mode & SETUID != 0 && now.st_uid != metadata.owner.uid {
        mode &= !SETUID;
        trouble.push("the setuid bit was left off: the owner is another".to_owned());
    }
    if is_file && mode & SETGID != 0 && now.st_gid != metadata.owner.gid {
        mode &= !SETGID;
        trouble.push("the setgid bit was left off: the group is another".to_owned());
    }
    mode
}

fn set_mtime(subject: Subject<'_>, mtime: Timestamp, trouble: &mut Vec<String>) {
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: mtime.seconds(), tv_nsec: mtime.nanos().into() },
    };
    let done = match subject {
        Subject::Handle(handle) => rustix::fs::futimens(handle, &times),
        Subject::Name(folder, name) => {
            rustix::fs::utimensat(folder, name, &times, AtFlags::SYMLINK_NOFOLLOW)
        }
    };
    if let Err(errno) = done {
        let cause = io::Error::from(errno);
        trouble.push(format!("time {mtime} was not set: {cause}"));
        return;
    }
    // A time that the file system has no room for is replaced by the nearest it has, silently.
    let is_usual = (0..i64::from(i32::MAX)).contains(&mtime.seconds());
    if !is_usual
        && let Ok(now) = subject.stat()
        && now.st_mtime != mtime.seconds()
    {
        trouble.push(format!("time {mtime} was not set: the file system cannot hold it"));
    }
}

/// Says whether a thing has attributes that a restore might take away; where nobody knows, it has.
pub(super) fn has_attributes(subject: Subject<'_>) -> bool {
    let names = Place::of(subject).list();
    names.map_or(true, |names| names.iter().any(|name| !is_kept(name)))
}

/// Attributes that belong to the machine rather than to the file, and others that can only be
/// changed by means of their own; they are not taken away.
fn is_kept(name: &[u8]) -> bool {
    let is_acl = name == b"system.posix_acl_access" || name == b"system.posix_acl_default";
    let is_label = [&b"security.selinux"[..], b"security.ima", b"security.evm"].contains(&name)
        || name.starts_with(b"security.SMACK64");
    (name.starts_with(b"system.") && !is_acl) || is_label
}

fn set_xattrs(subject: Subject<'_>, wanted: &[Xattr], trouble: &mut Vec<String>) {
    let place = Place::of(subject);
    let present = match place.list() {
        Ok(names) => names,
        Err(cause) => {
            trouble.push(format!("extended attributes cannot be listed: {cause}"));
            Vec::new()
        }
    };
    for name in &present {
        let is_wanted = wanted.iter().any(|xattr| xattr.name == *name);
        if !is_wanted
            && !is_kept(name)
            && let Err(cause) = place.remove(name)
        {
            trouble.push(format!("attribute {} was not removed: {cause}", display(name)));
        }
    }
    for xattr in wanted {
        let is_right = present.contains(&xattr.name)
            && place.get(&xattr.name).is_ok_and(|value| value == xattr.value);
        if !is_right && let Err(cause) = place.set(xattr) {
            trouble.push(format!("attribute {} was not set: {cause}", display(&xattr.name)));
        }
    }
}

/// How attributes are reached: the system has no call for them by folder handle, and the way
/// through `/proc` with calls that do not follow a link in the last place is as good.
enum Place<'a> {
    Handle(BorrowedFd<'a>),
    Path(Vec<u8>),
}

impl<'a> Place<'a> {
    fn of(subject: Subject<'a>) -> Self {
        match subject {
            Subject::Handle(handle) => Place::Handle(handle),
            Subject::Name(folder, name) => {
                let mut path = format!("/proc/self/fd/{}/", folder.as_raw_fd()).into_bytes();
                path.extend_from_slice(name);
                Place::Path(path)
            }
        }
    }

    fn list(&self) -> io::Result<Vec<Vec<u8>>> {
        let mut buffer = [0_u8; 1024];
        let mut large = Vec::new();
        let names = match self.list_into(&mut buffer) {
            Ok(length) => &buffer[..length],
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => &[],
            Err(Errno::RANGE) => {
                large.resize(XATTR_VALUE_BYTES_MAX, 0);
                let length = self.list_into(&mut large)?;
                &large[..length]
            }
            Err(errno) => return Err(errno.into()),
        };
        let names = names.split(|&byte| byte == 0).filter(|name| !name.is_empty());
        Ok(names.map(<[u8]>::to_vec).collect())
    }

    fn list_into(&self, buffer: &mut [u8]) -> rustix::io::Result<usize> {
        match self {
            Place::Handle(handle) => rustix::fs::flistxattr(handle, buffer),
            Place::Path(path) => rustix::fs::llistxattr(path, buffer),
        }
    }

    fn get(&self, name: &[u8]) -> io::Result<Vec<u8>> {
        let mut value = vec![0; XATTR_VALUE_BYTES_MAX];
        let length = match self {
            Place::Handle(handle) => rustix::fs::fgetxattr(handle, name, &mut value[..])?,
            Place::Path(path) => rustix::fs::lgetxattr(path, name, &mut value[..])?,
        };
        value.truncate(length);
        Ok(value)
    }

    fn set(&self, xattr: &Xattr) -> io::Result<()> {
        let flags = XattrFlags::empty();
        let done = match self {
            Place::Handle(handle) => {
                rustix::fs::fsetxattr(handle, &xattr.name[..], &xattr.value, flags)
            }
            Place::Path(path) => rustix::fs::lsetxattr(path, &xattr.name[..], &xattr.value, flags),
        };
        Ok(done?)
    }

    fn remove(&self, name: &[u8]) -> io::Result<()> {
        let done = match self {
            Place::Handle(handle) => rustix::fs::fremovexattr(handle, name),
            Place::Path(path) => rustix::fs::lremovexattr(path, name),
        };
        match done {
            Err(Errno::NODATA) => Ok(()),
            other => Ok(other?),
        }
    }
}
