//! Entries of a source as entries of a backup.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::metadata::Detection;
use crate::base::metadata::Kind;
use crate::format::entry::Content;
use crate::format::entry::Entry;
use crate::format::entry::EntryNode;
use crate::format::entry::FileNode;
use crate::format::entry::TrackedEntry;
use crate::format::sound;
use crate::source::OpenedEntry;
use crate::source::SourceEntry;

/// Makes an entry of what was opened; a file's content is filled in later.
///
/// # Errors
/// `InvalidInput` of origin source for what no range can hold, as too many attributes; `NotFound`
/// for a kind that is not stored.
pub fn to_tracked(opened: OpenedEntry, cut: u8) -> Result<TrackedEntry> {
    let OpenedEntry { entry, link_target, extents } = opened;
    let (major, minor) = entry.device;
    let node = match entry.kind {
        Kind::File => EntryNode::File(FileNode {
            size: entry.size,
            cut,
            hard_link: entry.hard_link,
            extents,
            content: Content::Runs(Vec::new()),
        }),
        Kind::Directory => EntryNode::Directory,
        Kind::Symlink => EntryNode::Symlink(link_target),
        Kind::Fifo => EntryNode::Fifo,
        Kind::CharDevice => EntryNode::CharDevice(major, minor),
        Kind::BlockDevice => EntryNode::BlockDevice(major, minor),
        Kind::Socket => {
            return Err(Error::new(ErrorKind::NotFound, "became a socket").at(Origin::Source));
        }
    };
    let entry_now = Entry { path: entry.path, metadata: entry.metadata, node };
    if let Some(why) = sound::refusal(&entry_now) {
        return Err(Error::invalid(why).at(Origin::Source));
    }
    Ok(TrackedEntry { entry: entry_now, detection: entry.detection })
}

/// Makes an entry of a folder as a scan saw it. It looks changed to the next backup, which reads
/// the rest.
pub fn bare_folder(now: &SourceEntry) -> Box<TrackedEntry> {
    let (path, metadata) = (now.path.clone(), now.metadata.clone());
    let entry = Entry { path, metadata, node: EntryNode::Directory };
    Box::new(TrackedEntry { entry, detection: Detection::default() })
}
