//! What is known of one entry besides its path and its content.

use crate::base::time::Timestamp;
use serde::Deserialize;
use serde::Serialize;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A socket; never stored, skipped with a note.
    Socket,
}

impl Kind {
    /// Returns the word for people and for JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::File => "file",
            Kind::Directory => "directory",
            Kind::Symlink => "symlink",
            Kind::Fifo => "fifo",
            Kind::CharDevice => "char_device",
            Kind::BlockDevice => "block_device",
            Kind::Socket => "socket",
        }
    }
}

/// Shows what an entry is and who may do what, as `ls -l` does: `drwxr-xr-x`.
///
/// ```
/// use icecore::base::metadata::Kind;
/// use icecore::base::metadata::mode_text;
/// assert_eq!(mode_text(Kind::Directory, 0o1755), "drwxr-xr-t");
/// ```
pub fn mode_text(kind: Kind, mode: u32) -> String {
    let kind = match kind {
        Kind::File => '-',
        Kind::Directory => 'd',
        Kind::Symlink => 'l',
        Kind::Fifo => 'p',
        Kind::CharDevice => 'c',
        Kind::BlockDevice => 'b',
        Kind::Socket => 's',
    };
    let mut text = String::from(kind);
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = mode >> shift & 7;
        text.push(if bits & 4 == 0 { '-' } else { 'r' });
        text.push(if bits & 2 == 0 { '-' } else { 'w' });
        text.push(match (mode & special != 0, bits & 1 != 0) {
            (true, true) => letter,
            (true, false) => letter.to_ascii_uppercase(),
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    text
}

/// One extended attribute; ACLs are kept as the raw attributes the system shows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Xattr {
    /// Full name with its namespace, such as `user.colour`.
    pub name: Vec<u8>,
    /// Raw value.
    pub value: Vec<u8>,
}

/// Who owns an entry: numbers, and the names they had where the entry was read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Owner {
    /// User number.
    pub uid: u32,
    /// Group number.
    pub gid: u32,
    /// User name, empty when the number had none.
    pub user: String,
    /// Group name, empty when the number had none.
    pub group: String,
}

/// Metadata that a restore brings back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Permission bits with setuid, setgid and sticky: `mode & 0o7777`.
    pub mode: u32,
    /// Owner.
    pub owner: std::sync::Arc<Owner>,
    /// Time of the last change of content; stored as it was, never clamped.
    pub mtime: Timestamp,
    /// Extended attributes, sorted by name.
    pub xattrs: Vec<Xattr>,
}

/// What tells that an entry changed; never restored, never part of the snapshot hash.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detection {
    /// Time of the last change of the inode. Sources that tell none have the time here from which
    /// on a change would show: what is read before it is read again.
    pub ctime: Timestamp,
    /// Inode number.
    pub inode: u64,
    /// Version tag of sources that have one (ETag, version id, MLSD unique); else empty.
    pub tag: Vec<u8>,
}

/// A stretch of a sparse file that holds data; between extents there are holes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    /// Where the data begins in the file, in bytes.
    pub offset: u64,
    /// How long it is, in bytes; never 0.
    pub length: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_read_as_those_of_ls() {
        assert_eq!(mode_text(Kind::Directory, 0o40755), "drwxr-xr-x");
        assert_eq!(mode_text(Kind::Directory, 0o1777), "drwxrwxrwt");
        assert_eq!(mode_text(Kind::Fifo, 0o4750), "prwsr-x---");
        assert_eq!(mode_text(Kind::Symlink, 0o2640), "lrw-r-S---");
        assert_eq!(mode_text(Kind::File, 0o7777), "-rwsrwsrwt");
        assert_eq!(mode_text(Kind::File, 0o6640), "-rwSr-S---");
        assert_eq!(mode_text(Kind::File, 0o1001), "---------t");
    }
}
