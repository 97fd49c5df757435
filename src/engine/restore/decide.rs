//! Decides what happens to one entry, given what stands in its place. Pure: nothing is done.

use crate::base::metadata::Kind;
use crate::base::metadata::Metadata;
use crate::engine::restore::Overwrite;
use crate::engine::restore::RestoreOptions;
use crate::format::entry::Entry;
use crate::format::entry::EntryNode;
use crate::target::Node;
use crate::target::TargetEntry;

/// What is done with one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Nothing is there: it is made.
    Create,
    /// What is there is removed, then it is made.
    Replace,
    /// A folder with all in it is deleted, then it is made.
    Clear,
    /// A file that is compared with what is there, and brought up to date in place.
    Compare,
    /// A file of several names that is read, and replaced when its content differs: in place it
    /// would change under its other names.
    Read,
    /// It is there as the backup has it.
    Same,
    /// A folder that is there and gets the backup's metadata.
    Merge,
    /// What is there stays.
    Keep,
    /// What is there is something else and must stay: the entry cannot be restored.
    Refuse(Reason),
}

/// Why something else must stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// Nothing may be replaced.
    Rule,
    /// It is newer, and in it nothing can be made.
    Newer,
    /// It is a folder that holds something, which only `delete` removes.
    Holds,
}

impl Reason {
    /// Returns the words of a failure.
    pub(super) fn words(self) -> &'static str {
        match self {
            Reason::Rule => "something else stands there",
            Reason::Newer => "something newer that is no folder stands there",
            Reason::Holds => "a folder that is not empty stands there; `--delete` removes it",
        }
    }
}

impl Decision {
    /// Returns the word of a plan. A comparison that finds nothing becomes `keep` later.
    pub(super) fn word(self) -> &'static str {
        match self {
            Decision::Create => "create",
            Decision::Replace | Decision::Clear | Decision::Read => "overwrite",
            Decision::Compare | Decision::Merge => "update",
            Decision::Keep | Decision::Same => "keep",
            Decision::Refuse(_) => "skip",
        }
    }
}

/// What stands in the place of an entry.
#[derive(Debug)]
pub(super) struct There {
    pub(super) entry: TargetEntry,
    /// Whether it is a folder that holds something. Only asked for where the backup has no folder.
    pub(super) holds: bool,
}

/// Decides. Without a rule nothing but the root itself can be there.
pub(super) fn decide(options: &RestoreOptions, entry: &Entry, there: Option<&There>) -> Decision {
    let Some(There { entry: there, holds }) = there else { return Decision::Create };
    let (rule, kind) = (options.overwrite, entry.kind());
    let is_newer = entry.metadata.mtime > there.metadata.mtime;
    if there.kind != kind {
        return match rule {
            Some(Overwrite::Never) | None => Decision::Refuse(Reason::Rule),
            // The time of a folder says nothing of what is in it.
            Some(_) if *holds && options.delete => Decision::Clear,
            Some(_) if *holds => Decision::Refuse(Reason::Holds),
            Some(Overwrite::IfNewer) if !is_newer && kind == Kind::Directory => {
                Decision::Refuse(Reason::Newer)
            }
            Some(Overwrite::IfNewer) if !is_newer => Decision::Keep,
            Some(_) => Decision::Replace,
        };
    }
    let is_same_node = there.node.is_some() && there.node == node_of(&entry.node);
    let update = match kind {
        Kind::Directory => Decision::Merge,
        _ if rule != Some(Overwrite::IfChanged) => Decision::Replace,
        Kind::File if there.links <= 1 => Decision::Compare,
        _ if differs(entry, &there.metadata, options.owner) => Decision::Replace,
        // Where the backup has a file of its own, it is not to stay one with another.
        Kind::File if there.identity.is_some() && is_shared(entry) => Decision::Read,
        _ if is_same_node => Decision::Same,
        _ => Decision::Replace,
    };
    match rule {
        Some(Overwrite::Always | Overwrite::IfChanged) => update,
        Some(Overwrite::IfNewer) if is_newer => update,
        Some(Overwrite::IfNewer | Overwrite::Never) => Decision::Keep,
        None if kind == Kind::Directory => Decision::Merge,
        None => Decision::Refuse(Reason::Rule),
    }
}

fn is_shared(entry: &Entry) -> bool {
    entry.file().is_some_and(|file| file.hard_link.is_some())
}

/// Returns what is made for an entry that is neither a file nor a folder.
pub(super) fn node_of(node: &EntryNode) -> Option<Node> {
    match node {
        EntryNode::Symlink(target) => Some(Node::Symlink(target.clone())),
        EntryNode::Fifo => Some(Node::Fifo),
        EntryNode::CharDevice(major, minor) => Some(Node::CharDevice(*major, *minor)),
        EntryNode::BlockDevice(major, minor) => Some(Node::BlockDevice(*major, *minor)),
        EntryNode::File(_) | EntryNode::Directory => None,
    }
}

/// Says whether metadata has to be set. A target does not show extended attributes, so what has
/// any is always set.
pub(super) fn metadata_differs(wanted: &Metadata, there: &Metadata, owner: bool) -> bool {
    let ids = |metadata: &Metadata| (metadata.owner.uid, metadata.owner.gid);
    wanted.mode != there.mode
        || wanted.mtime != there.mtime
        || !wanted.xattrs.is_empty()
        || (owner && ids(wanted) != ids(there))
}

/// Says the same of an entry: the mode of a symlink is the system's.
fn differs(entry: &Entry, there: &Metadata, owner: bool) -> bool {
    let mut wanted = entry.metadata.clone();
    if entry.kind() == Kind::Symlink {
        wanted.mode = there.mode;
    }
    metadata_differs(&wanted, there, owner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::path::EntryPath;
    use crate::base::time::Timestamp;
    use crate::format::entry::Content;
    use crate::format::entry::FileNode;

    fn file(seconds: i64) -> Entry {
        Entry {
            path: EntryPath::new(b"a").unwrap(),
            metadata: Metadata { mtime: Timestamp::new(seconds, 0), ..Metadata::default() },
            node: EntryNode::File(FileNode {
                size: 0,
                cut: 0,
                hard_link: None,
                extents: None,
                content: Content::Runs(Vec::new()),
            }),
        }
    }

    fn there(kind: Kind, seconds: i64, links: u64) -> There {
        let metadata = Metadata { mtime: Timestamp::new(seconds, 0), ..Metadata::default() };
        let entry = TargetEntry { links, ..TargetEntry::plain(kind, 0, metadata) };
        There { entry, holds: false }
    }

    fn by(overwrite: Option<Overwrite>, entry: &Entry, there: Option<&There>) -> Decision {
        decide(&RestoreOptions { overwrite, ..RestoreOptions::default() }, entry, there)
    }

    #[test]
    fn files_follow_the_rule() {
        let cases = [
            (Overwrite::Always, 5, 1, Decision::Replace),
            (Overwrite::IfChanged, 5, 1, Decision::Compare),
            (Overwrite::IfChanged, 5, 2, Decision::Replace),
            (Overwrite::IfNewer, 4, 1, Decision::Replace),
            (Overwrite::IfNewer, 5, 1, Decision::Keep),
            (Overwrite::Never, 4, 1, Decision::Keep),
        ];
        for (rule, seconds, links, expected) in cases {
            let there = there(Kind::File, seconds, links);
            assert_eq!(by(Some(rule), &file(5), Some(&there)), expected, "{rule:?}");
            assert_eq!(by(Some(rule), &file(5), None), Decision::Create);
        }
    }

    #[test]
    fn what_is_something_else_is_replaced_by_the_same_rules() {
        let (older, newer) = (there(Kind::Symlink, 4, 1), there(Kind::Symlink, 5, 1));
        for rule in [Overwrite::Always, Overwrite::IfChanged] {
            assert_eq!(by(Some(rule), &file(5), Some(&newer)), Decision::Replace);
        }
        let if_newer = Some(Overwrite::IfNewer);
        assert_eq!(by(if_newer, &file(5), Some(&older)), Decision::Replace);
        assert_eq!(by(if_newer, &file(5), Some(&newer)), Decision::Keep);
        let mut folder = file(5);
        folder.node = EntryNode::Directory;
        assert_eq!(by(if_newer, &folder, Some(&older)), Decision::Replace);
        assert_eq!(by(if_newer, &folder, Some(&newer)), Decision::Refuse(Reason::Newer));
        for rule in [Some(Overwrite::Never), None] {
            assert_eq!(by(rule, &file(5), Some(&older)), Decision::Refuse(Reason::Rule));
        }
    }

    #[test]
    fn a_folder_that_holds_something_goes_with_delete_alone() {
        let empty = there(Kind::Directory, 4, 2);
        let full = There { holds: true, ..there(Kind::Directory, 4, 2) };
        for rule in [Overwrite::Always, Overwrite::IfChanged, Overwrite::IfNewer] {
            let overwrite = Some(rule);
            assert_eq!(by(overwrite, &file(5), Some(&empty)), Decision::Replace);
            assert_eq!(by(overwrite, &file(5), Some(&full)), Decision::Refuse(Reason::Holds));
            let options = RestoreOptions { overwrite, delete: true, ..RestoreOptions::default() };
            assert_eq!(decide(&options, &file(5), Some(&full)), Decision::Clear);
        }
        let never = by(Some(Overwrite::Never), &file(5), Some(&full));
        assert_eq!(never, Decision::Refuse(Reason::Rule));
    }

    #[test]
    fn folders_are_never_taken_away_for_folders() {
        let mut entry = file(5);
        entry.node = EntryNode::Directory;
        let folder = there(Kind::Directory, 4, 2);
        let decide = |rule| by(rule, &entry, Some(&folder));

        assert_eq!(decide(Some(Overwrite::Always)), Decision::Merge);
        assert_eq!(decide(Some(Overwrite::IfNewer)), Decision::Merge);
        assert_eq!(decide(Some(Overwrite::Never)), Decision::Keep);
        assert_eq!(decide(None), Decision::Merge);
    }
}
