//! Changes a backup's tags and description after it was made.
//!
//! A change is put as a new revision beside the header. When another change was quicker, this one
//! is made again on top of it, so that two people who add a tag each both find it there.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::id::BackupId;
use crate::base::limits::TAG_TRIES_MAX;
use crate::engine::Context;
use crate::format::dataset::TagsRecord;
use crate::format::dataset::check_description;
use crate::format::dataset::check_tags;
use crate::repository::datasets::Dataset;

/// What to change; the default changes nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TagChange {
    /// Tags that replace all there are, before the others are looked at.
    pub set: Option<Vec<String>>,
    /// Tags to add.
    pub add: Vec<String>,
    /// Tags to take away; one that is not there is passed over.
    pub remove: Vec<String>,
    /// The new description.
    pub description: Option<String>,
}

/// A backup's tags after a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagReport {
    /// Its tags.
    pub tags: Vec<String>,
    /// Its description.
    pub description: String,
    /// Whether anything was changed.
    pub is_changed: bool,
}

impl TagChange {
    /// Returns a change that was looked at before a repository is.
    ///
    /// # Errors
    /// `InvalidInput` for what cannot be a tag or a description, and for a tag that is to be
    /// added and taken away.
    pub fn checked(self) -> Result<Self> {
        check_tags(self.set.iter().flatten().chain(&self.add))?;
        check_description(self.description.as_deref().unwrap_or_default())?;
        let given = self.set.iter().flatten().chain(&self.add);
        if let Some(tag) = given.into_iter().find(|tag| self.remove.contains(tag)) {
            return Err(Error::invalid(format!("tag {tag} is to be added and removed")));
        }
        Ok(self)
    }

    fn apply(&self, tags: &[String], description: &str) -> Result<TagReport> {
        let before = self.set.as_deref().unwrap_or(tags);
        let kept = before.iter().filter(|tag| !self.remove.contains(tag));
        let after: Vec<String> = if self.set.is_none() && self.add.is_empty() {
            // Tags of other rules can be taken away one by one.
            kept.cloned().collect()
        } else {
            check_tags(kept.chain(&self.add))?
        };
        let text = self.description.as_deref().unwrap_or(description);
        let is_changed = after != tags || text != description;
        Ok(TagReport { tags: after, description: text.to_owned(), is_changed })
    }
}

/// Changes the tags of a visible backup.
///
/// # Errors
/// `NotFound` when it is not there or was forgotten; `InvalidInput` when it would have too many
/// tags; `Busy` when others are always quicker; those of the repository.
pub fn run(
    dataset: &Dataset,
    number: BackupId,
    change: &TagChange,
    context: &Context<'_>,
) -> Result<TagReport> {
    for _ in 0..TAG_TRIES_MAX {
        context.cancel.check()?;
        let numbers = dataset.all_numbers()?;
        let Some(backup) = dataset.backup(&numbers, number)? else {
            let message = format!("{} has no {number}, or it was forgotten", dataset.name());
            return Err(Error::new(ErrorKind::NotFound, message));
        };
        let report = change.apply(&backup.tags, &backup.description)?;
        if !report.is_changed {
            // Whoever said so before may have died before it was durable.
            dataset.repository().store().settle()?;
            return Ok(report);
        }
        let record = TagsRecord {
            number: number.0,
            tags: report.tags.clone(),
            description: report.description.clone(),
            written: context.clock.now(),
        };
        let revision = numbers.tags_revision(number).map_or(0, |revision| revision + 1);
        let put = dataset.put_tags(revision, &record);
        let doing = format!("cannot tag {}@{}", dataset.name(), number.0);
        if put.map_err(|e| e.context(doing))? {
            return Ok(report);
        }
    }
    let message = format!("others tagged {}@{} all the time", dataset.name(), number.0);
    Err(Error::new(ErrorKind::Busy, message).hint("try again"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn after(before: &str, set: Option<&str>, add: &str, remove: &str) -> (String, bool) {
        let change = TagChange {
            set: set.map(words),
            add: words(add),
            remove: words(remove),
            description: None,
        };
        let report = change.apply(&words(before), "text").expect("applies");
        assert_eq!(report.description, "text");
        (report.tags.join(" "), report.is_changed)
    }

    #[test]
    fn tags_are_set_added_and_removed_in_that_order() {
        assert_eq!(after("a b", None, "", ""), ("a b".into(), false));
        assert_eq!(after("a b", None, "c a", ""), ("a b c".into(), true));
        assert_eq!(after("a b", None, "b", ""), ("a b".into(), false));
        assert_eq!(after("a b", None, "c", "a x"), ("b c".into(), true));
        assert_eq!(after("a b", Some("c"), "d", ""), ("c d".into(), true));
        assert_eq!(after("a b", Some(""), "", ""), (String::new(), true));
        assert_eq!(after("", Some(""), "", ""), (String::new(), false));
        assert_eq!(after("a,b c", None, "", "a,b"), ("c".into(), true));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let bad = |add: &str, remove: &str| TagChange {
            add: words(add),
            remove: words(remove),
            ..TagChange::default()
        };
        assert!(bad("a", "a").checked().is_err());
        assert!(bad("a,b", "").checked().is_err());
        assert!(bad("a", "b").checked().is_ok());
        let long = TagChange { description: Some("x".repeat(5_000)), ..TagChange::default() };
        assert!(long.checked().is_err());
    }
}
