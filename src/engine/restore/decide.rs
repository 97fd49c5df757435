//! Decides what happens to one entry, given what stands in its place. Pure: nothing is done.

use crate::base::metadata::Kind;
use crate::base::metadata::Metadata;
use crate::engine::restore::Overwrite;
use crate::format::entry::Entry;
use crate::target::TargetEntry;

/// What is done with one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Nothing is there: it is made.
    Create,
    /// What is there is removed, then it is made.
    Replace,
    /// A file that is compared with what is there, and brought up to date in place.
    Compare,
    /// A folder that is there and gets the backup's metadata.
    Merge,
    /// What is there stays.
    Keep,
    /// What is there is something else and must stay: the entry cannot be restored.
    Refuse,
}

impl Decision {
    /// Returns the word of a plan. A comparison that finds nothing becomes `keep` later.
    pub(super) fn word(self) -> &'static str {
        match self {
            Decision::Create => "create",
            Decision::Replace => "overwrite",
            Decision::Compare | Decision::Merge => "update",
            Decision::Keep => "keep",
            Decision::Refuse => "skip",
        }
    }
}

/// Decides. Without a rule nothing but the root itself can be there.
pub(super) fn decide(
    rule: Option<Overwrite>,
    entry: &Entry,
    there: Option<&TargetEntry>,
) -> Decision {
    let Some(there) = there else { return Decision::Create };
    let kind = entry.kind();
    if there.kind != kind {
        return match rule {
            Some(Overwrite::Always | Overwrite::IfChanged | Overwrite::IfNewer) => {
                Decision::Replace
            }
            Some(Overwrite::Never) | None => Decision::Refuse,
        };
    }
    let update = match kind {
        Kind::Directory => Decision::Merge,
        // Other names of the file must not change with this one.
        Kind::File if rule == Some(Overwrite::IfChanged) && there.links <= 1 => Decision::Compare,
        _ => Decision::Replace,
    };
    match rule {
        Some(Overwrite::Always | Overwrite::IfChanged) => update,
        Some(Overwrite::IfNewer) if entry.metadata.mtime > there.metadata.mtime => update,
        Some(Overwrite::IfNewer | Overwrite::Never) => Decision::Keep,
        None if kind == Kind::Directory => Decision::Merge,
        None => Decision::Refuse,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::path::EntryPath;
    use crate::base::time::Timestamp;
    use crate::format::entry::Content;
    use crate::format::entry::EntryNode;
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

    fn there(kind: Kind, seconds: i64, links: u64) -> TargetEntry {
        let metadata = Metadata { mtime: Timestamp::new(seconds, 0), ..Metadata::default() };
        TargetEntry { kind, size: 0, metadata, links }
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
            assert_eq!(decide(Some(rule), &file(5), Some(&there)), expected, "{rule:?}");
            assert_eq!(decide(Some(rule), &file(5), None), Decision::Create);
        }
    }

    #[test]
    fn what_is_something_else_is_replaced_unless_nothing_may_be() {
        let folder = there(Kind::Directory, 9, 2);
        for rule in [Overwrite::Always, Overwrite::IfChanged, Overwrite::IfNewer] {
            assert_eq!(decide(Some(rule), &file(5), Some(&folder)), Decision::Replace);
        }
        assert_eq!(decide(Some(Overwrite::Never), &file(5), Some(&folder)), Decision::Refuse);
        assert_eq!(decide(None, &file(5), Some(&folder)), Decision::Refuse);
    }

    #[test]
    fn folders_are_never_taken_away_for_folders() {
        let mut entry = file(5);
        entry.node = EntryNode::Directory;
        let folder = there(Kind::Directory, 4, 2);
        let decide = |rule| decide(rule, &entry, Some(&folder));

        assert_eq!(decide(Some(Overwrite::Always)), Decision::Merge);
        assert_eq!(decide(Some(Overwrite::IfNewer)), Decision::Merge);
        assert_eq!(decide(Some(Overwrite::Never)), Decision::Keep);
        assert_eq!(decide(None), Decision::Merge);
    }
}
