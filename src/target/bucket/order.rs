//! The order of versions that were put: looked at, and made right where the store has another one.
//!
//! AWS shows that version as the last whose upload was begun last, whenever it was completed, and
//! uploads begin as content comes. So the versions of a key that came into another order than they
//! had are put once more by the store itself, each copied to the end. What they were copied from is
//! deleted when all copies stand in order, and the copies where they cannot: all of them are of
//! this run. Where anything else stands among them nothing is moved.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::limits::S3_COPY_BYTES_MAX;
use crate::base::path::EntryPath;
use crate::net::s3::listing::Depth;
use crate::net::s3::listing::VersionRow;
use crate::net::s3::objects::Beside;
use crate::net::s3::xml::Version;
use crate::target::bucket::BucketTarget;
use std::collections::BTreeSet;

/// A version that was put.
pub(super) struct Put {
    pub(super) path: EntryPath,
    /// Its name, where the store tells it.
    pub(super) version: Option<String>,
    /// How long it is, and what stands beside it; None of a mark of deletion.
    pub(super) object: Option<(u64, Beside)>,
}

impl BucketTarget {
    /// Makes sure that versions of one key stand in the order in which they were put.
    pub(super) fn keep_order(&self, key: &str, put: &mut [Put]) -> Result<()> {
        if put.len() < 2 {
            return Ok(());
        }
        let shown = self.ask(|| self.last_versions(key, put.len()))?;
        if is_in_order(put, &shown) {
            return Ok(());
        }
        let names = put.iter().map(|one| one.version.clone().ok_or_else(nameless));
        let names = names.collect::<Result<Vec<String>>>()?;
        let own: BTreeSet<&String> = names.iter().collect();
        let are_own = shown.iter().map(|it| &it.version).collect::<BTreeSet<_>>() == own;
        if !are_own {
            return Err(unsupported("others stand among them, and nothing was moved"));
        }
        let is_long = |one: &Put| one.object.as_ref().is_some_and(|it| it.0 > S3_COPY_BYTES_MAX);
        if put.iter().any(is_long) {
            return Err(unsupported("one of them is too long to be copied"));
        }
        let mut copies = Vec::with_capacity(put.len());
        if let Err(e) = self.copy_all(key, put, &names, &mut copies) {
            self.take_back(key, put, &names, &copies);
            return Err(e);
        }
        for (one, copy) in put.iter_mut().zip(copies) {
            if let Some(placed) = self.state().placed.get_mut(&one.path) {
                placed.version = Some(copy.clone());
            }
            one.version = Some(copy);
        }
        let delete = |name: &String| self.ask(|| self.client.delete_version(key, Some(name)));
        let deleted = names.iter().try_for_each(delete);
        deleted.map_err(|e| e.context("they stand twice"))
    }

    /// Copies versions to the end, oldest first, and makes sure that they are the last then.
    fn copy_all(
        &self,
        key: &str,
        put: &[Put],
        names: &[String],
        copies: &mut Vec<String>,
    ) -> Result<()> {
        for (one, name) in put.iter().zip(names) {
            copies.push(self.put_last(key, one, name)?);
        }
        let shown = self.ask(|| self.last_versions(key, put.len()))?;
        let copied = put.iter().zip(&*copies).map(|(one, copy)| Put {
            path: one.path.clone(),
            version: Some(copy.clone()),
            object: one.object.clone(),
        });
        match is_in_order(&copied.collect::<Vec<_>>(), &shown) {
            true => Ok(()),
            false => Err(unsupported("the store shows them in another one")),
        }
    }

    /// Deletes copies that did not come into their order, and sees to it that none of the older
    /// ones is the last. What failed before is the error to report.
    fn take_back(&self, key: &str, put: &[Put], names: &[String], copies: &[String]) {
        for copy in copies {
            if self.ask(|| self.client.delete_version(key, Some(copy))).is_err() {
                break;
            }
        }
        let Some((newest, name)) = put.last().zip(names.last()) else { return };
        let Ok(shown) = self.ask(|| self.last_versions(key, 1)) else { return };
        let last = shown.first().map(|it| &it.version);
        let is_older = last.is_some_and(|last| {
            let is_own = names.contains(last) || copies.contains(last);
            is_own && last != name && copies.get(names.len() - 1) != Some(last)
        });
        if is_older {
            let _ = self.put_last(key, newest, name);
        }
    }

    /// Returns the last versions of a key, newest first.
    pub(super) fn last_versions(&self, key: &str, count: usize) -> Result<Vec<Version>> {
        let (mut shown, mut is_enough) = (Vec::new(), false);
        let listed = self.client.list_versions(key, Depth::Folder, &mut |row| {
            let VersionRow::Version(version) = row else { return Ok(()) };
            if version.object.key == key && shown.len() < count {
                shown.push(version);
                return Ok(());
            }
            is_enough = true;
            Err(Error::cancelled())
        });
        match listed {
            Err(e) if !is_enough => Err(e),
            _ => Ok(shown),
        }
    }

    /// Puts a version once more, behind all others, and returns the name of the copy.
    fn put_last(&self, key: &str, one: &Put, name: &str) -> Result<String> {
        let copy = match &one.object {
            None => self.ask(|| self.client.mark_deleted(key))?,
            Some((_, beside)) => self.ask(|| self.client.copy_version(key, name, beside))?,
        };
        copy.filter(|copy| copy != name).ok_or_else(nameless)
    }
}

/// Says whether the last versions that a store shows, newest first, are those that were put. Where
/// marks of deletion are listed apart nothing tells whether one came before or after a version of
/// the same time; the last of all is told.
fn is_in_order(put: &[Put], shown: &[Version]) -> bool {
    let is_it = |one: &Put, shown: &Version| {
        let has_name = one.version.as_ref().is_none_or(|version| *version == shown.version);
        let has_length = one.object.as_ref().is_none_or(|(size, _)| *size == shown.object.size);
        has_name && has_length && one.object.is_none() == shown.is_deletion
    };
    let Some((newest, older)) = put.split_last() else { return shown.is_empty() };
    let Some((last, shown)) = shown.split_first() else { return false };
    if !last.is_latest || !is_it(newest, last) || older.len() != shown.len() {
        return false;
    }
    let mut older = older.iter().rev();
    shown.chunk_by(|one, other| one.object.modified == other.object.modified).all(|shown| {
        let mut of_time: Vec<&Put> = older.by_ref().take(shown.len()).collect();
        let are_they = |put: &[&Put]| put.iter().zip(shown).all(|(one, it)| is_it(one, it));
        are_they(&of_time) || {
            of_time.sort_by_key(|one| one.object.is_none());
            are_they(&of_time)
        }
    })
}

fn nameless() -> Error {
    unsupported("the store does not tell the names of versions")
}

fn unsupported(why: &str) -> Error {
    Error::new(ErrorKind::Unsupported, why)
}
