//! What of an entry a range can hold: what is stored has to be read again.

use crate::base::limits::LINK_BYTES_MAX;
use crate::base::limits::XATTR_VALUE_BYTES_MAX;
use crate::base::limits::XATTRS_BYTES_MAX;
use crate::base::limits::XATTRS_MAX;
use crate::base::metadata::Extent;
use crate::base::metadata::Metadata;
use crate::base::metadata::Xattr;
use crate::format::entry::Content;
use crate::format::entry::Entry;
use crate::format::entry::EntryNode;
use crate::format::entry::Run;

/// Permissions with the setuid, setgid and sticky bits.
const MODE_MAX: u32 = 0o7777;
const TOO_MANY_BYTES: &str = "has more bytes of extended attributes than can be stored";

/// Says what of an entry, but for its content, no range can hold; `None` of one that can be read
/// again. What a source shows is to be asked for it before it is stored.
pub fn refusal(entry: &Entry) -> Option<&'static str> {
    if let Some(why) = odd_metadata(&entry.metadata) {
        return Some(why);
    }
    if xattr_bytes(&entry.metadata.xattrs) > XATTRS_BYTES_MAX {
        return Some(TOO_MANY_BYTES);
    }
    match &entry.node {
        EntryNode::Symlink(target) if target.len() > LINK_BYTES_MAX => {
            Some("leads to a path that is longer than can be stored")
        }
        EntryNode::File(file) if data_bytes(file.size, file.extents.as_deref()).is_none() => {
            Some("has data where it has no bytes")
        }
        _ => None,
    }
}

/// Says what of metadata no row has.
pub(super) fn odd_metadata(metadata: &Metadata) -> Option<&'static str> {
    let xattrs = &metadata.xattrs;
    if xattrs.len() > XATTRS_MAX {
        return Some("has more extended attributes than can be stored");
    }
    if xattrs.iter().any(|xattr| xattr.value.len() > XATTR_VALUE_BYTES_MAX) {
        return Some(TOO_MANY_BYTES);
    }
    if !xattrs.is_sorted_by(|a, b| a.name < b.name) {
        return Some("has an extended attribute twice");
    }
    (metadata.mode > MODE_MAX).then_some("has a mode that makes no sense")
}

fn xattr_bytes(xattrs: &[Xattr]) -> usize {
    xattrs.iter().map(|xattr| xattr.value.len()).sum()
}

/// Says what of a whole entry no range can hold, its content among it: that must be of the length
/// of the file.
pub(super) fn misfit(entry: &Entry) -> Option<&'static str> {
    if let Some(why) = refusal(entry) {
        return Some(why);
    }
    let file = entry.file()?;
    let runs = file.content.direct();
    let is_hollow = |run: &Run| run.count == 0 || run.bytes == 0;
    let ends = |run: &Run| run.first.checked_add(run.count).is_some();
    if runs.iter().any(is_hollow) || !runs.iter().all(ends) {
        return Some("is in blocks that hold nothing of it");
    }
    let told: u64 = runs.iter().map(|run| run.bytes).sum();
    let is_told = matches!(file.content, Content::Runs(_)) || runs.is_empty();
    let differs = is_told && Some(told) != data_bytes(file.size, file.extents.as_deref());
    differs.then_some("has other bytes than were stored of it")
}

/// Returns how many bytes of data a file has; None when its extents overlap or leave it.
pub(super) fn data_bytes(size: u64, extents: Option<&[Extent]>) -> Option<u64> {
    let Some(extents) = extents else { return Some(size) };
    let mut end = 0_u64;
    let mut total = 0_u64;
    for extent in extents {
        if extent.length == 0 || extent.offset < end {
            return None;
        }
        end = extent.offset.checked_add(extent.length)?;
        total += extent.length;
    }
    (end <= size).then_some(total)
}
