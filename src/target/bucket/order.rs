//! The order of versions that were put: looked at, and made right where the store has another one.
//!
//! AWS shows that version as the last whose upload was begun last, whenever it was completed, and
//! uploads begin as content comes. So the versions of a key that came into another order than they
//! had are put once more by the store itself, each copied to the end, and what it was copied from
//! is deleted: all of them are of this run.

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
        if put.len() < 2 || self.is_in_order(key, put)? {
            return Ok(());
        }
        for one in put.iter_mut() {
            self.put_last(key, one)?;
        }
        match self.is_in_order(key, put)? {
            true => Ok(()),
            false => Err(unsupported("the store shows them in another one")),
        }
    }

    fn is_in_order(&self, key: &str, put: &[Put]) -> Result<bool> {
        let shown = self.ask(|| self.last_versions(key, put.len()))?;
        let is_it = |(one, shown): (&Put, &Version)| {
            let has_name = one.version.as_ref().is_none_or(|version| *version == shown.version);
            has_name && one.object.is_none() == shown.is_deletion
        };
        let is_last = shown.first().is_some_and(|version| version.is_latest);
        Ok(is_last && shown.len() == put.len() && put.iter().rev().zip(&shown).all(is_it))
    }

    /// Returns the last versions of a key, newest first.
    fn last_versions(&self, key: &str, count: usize) -> Result<Vec<Version>> {
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

    /// Puts a version once more, behind all others, and deletes the one before.
    fn put_last(&self, key: &str, one: &mut Put) -> Result<()> {
        let nameless = || unsupported("the store does not tell the names of versions");
        let old = one.version.clone().ok_or_else(nameless)?;
        let new = match &one.object {
            None => self.ask(|| self.client.mark_deleted(key))?,
            Some((size, beside)) if *size <= S3_COPY_BYTES_MAX => {
                self.ask(|| self.client.copy_version(key, &old, beside))?
            }
            Some(_) => return Err(unsupported("one of them is too long to be copied")),
        };
        let new = new.filter(|new| *new != old).ok_or_else(nameless)?;
        self.ask(|| self.client.delete_version(key, Some(&old)))?;
        if let Some(placed) = self.state().placed.get_mut(&one.path) {
            placed.version = Some(new.clone());
        }
        one.version = Some(new);
        Ok(())
    }
}

fn unsupported(why: &str) -> Error {
    Error::new(ErrorKind::Unsupported, why)
}
