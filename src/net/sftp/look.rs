//! What a server tells of a name, in the words of [`crate::net::files`].

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::metadata::Kind;
use crate::base::time::Timestamp;
use crate::net::files::Look;
use crate::net::files::Modified;
use crate::net::files::Precision;
use crate::net::sftp::packet::Attributes;

const KIND_BITS: u32 = 0o170_000;

/// Returns what the bits of a mode say a thing is.
pub(super) fn kind_of(mode: u32) -> Option<Kind> {
    match mode & KIND_BITS {
        0o100_000 => Some(Kind::File),
        0o040_000 => Some(Kind::Directory),
        0o120_000 => Some(Kind::Symlink),
        0o010_000 => Some(Kind::Fifo),
        0o020_000 => Some(Kind::CharDevice),
        0o060_000 => Some(Kind::BlockDevice),
        0o140_000 => Some(Kind::Socket),
        _ => None,
    }
}

/// Reads attributes.
///
/// # Errors
/// `Unsupported` where the server does not tell what a thing is.
pub(super) fn look(attributes: &Attributes) -> Result<Look> {
    let Some(kind) = attributes.mode.and_then(kind_of) else {
        let message = "the server does not tell whether it is a file or a folder";
        return Err(Error::new(ErrorKind::Unsupported, message));
    };
    let modified = attributes.times.map(|(_, changed)| Modified {
        time: Timestamp::new(i64::from(changed), 0),
        precision: Precision::Second,
    });
    Ok(Look {
        kind,
        size: attributes.size.filter(|_| kind == Kind::File),
        modified,
        mode: attributes.mode.map(|mode| mode & 0o7777),
        owner: attributes.owner,
        unique: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read() {
        let attributes = Attributes {
            size: Some(7),
            owner: Some((1, 2)),
            mode: Some(0o104_755),
            times: Some((5, 4_000_000_000)),
        };
        let it = look(&attributes).expect("a file");
        assert_eq!((it.kind, it.size, it.mode), (Kind::File, Some(7), Some(0o4755)));
        let modified = it.modified.expect("a time");
        assert_eq!(modified.time, Timestamp::new(4_000_000_000, 0));
        assert_eq!(modified.precision, Precision::Second);

        let folder = Attributes { mode: Some(0o040_755), ..attributes };
        assert_eq!(look(&folder).expect("a folder").size, None);
        let bare = Attributes { mode: Some(0o644), ..attributes };
        assert_eq!(look(&bare).expect_err("no kind").kind(), ErrorKind::Unsupported);
        let none = Attributes { mode: None, ..attributes };
        assert_eq!(look(&none).expect_err("no kind").kind(), ErrorKind::Unsupported);
    }
}
