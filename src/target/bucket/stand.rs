//! What stands under one name of a bucket.

use crate::base::path::EntryPath;
use crate::base::time::Timestamp;
use crate::net::s3::objects::Head;
use crate::target::known::Known;
use std::ops::Bound;
use std::sync::Arc;

/// What stands under one name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Stand {
    /// Whether keys go on behind it with a slash.
    pub(super) is_folder: bool,
    /// The object with this very key: beside a folder it is one that no path can name.
    pub(super) object: Option<Standing>,
}

/// An object as a listing shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) size: u64,
    pub(super) modified: Option<Timestamp>,
    /// What a look at it showed, if there was one.
    pub(super) head: Option<Arc<Head>>,
}

impl Stand {
    pub(super) fn folder() -> Self {
        Stand { is_folder: true, object: None }
    }

    pub(super) fn file(size: u64) -> Self {
        Stand { is_folder: false, object: Some(Standing { size, ..Standing::default() }) }
    }

    /// Returns the object that stands for a file.
    pub(super) fn as_file(&self) -> Option<&Standing> {
        self.object.as_ref().filter(|_| !self.is_folder)
    }

    /// Notes what a look at its object showed.
    pub(super) fn saw(&mut self, head: &Arc<Head>) {
        if let Some(object) = &mut self.object {
            object.size = head.size;
            object.head = Some(Arc::clone(head));
        }
    }
}

/// Returns files of a folder, from a name on, that were not looked at yet.
pub(super) fn unseen(known: &Known<Stand>, path: &EntryPath, most: usize) -> Vec<Vec<u8>> {
    let Some(names) = known.some_names(path.parent_bytes()) else { return Vec::new() };
    let from = (Bound::Included(path.name().to_vec()), Bound::Unbounded);
    let is_unseen = |stand: &Stand| stand.as_file().is_some_and(|it| it.head.is_none());
    let names = names.range::<Vec<u8>, _>(from).take(most);
    names.filter(|(_, stand)| is_unseen(stand)).map(|(name, _)| name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::known::Names;
    use crate::target::known::Word;

    fn path(text: &str) -> EntryPath {
        EntryPath::new(text.as_bytes()).expect("a path")
    }

    #[test]
    fn what_was_looked_at_is_not_looked_at_again() {
        let mut known = Known::default();
        let names = ["a", "b", "c", "d"].map(|name| (name.as_bytes().to_vec(), Stand::file(1)));
        known.learn(b"", Names::from(names));
        known.put(&path("c"), Stand::folder());
        let head = Arc::new(Head { size: 9, ..Head::default() });
        known.change(&path("b"), |stand| stand.saw(&head));

        assert_eq!(unseen(&known, &path("b"), 9), [b"d"]);
        assert_eq!(unseen(&known, &path("a"), 9), [b"a", b"d"]);
        assert_eq!(unseen(&known, &path("a"), 1), [b"a"]);
        let Word::There(seen) = known.look(&path("b")) else { panic!("it is there") };
        assert_eq!(seen.as_file().map(|it| (it.size, it.head.is_some())), Some((9, true)));
    }
}
