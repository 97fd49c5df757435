//! Small records of a dataset: its name, voids, markers, tags, floors, lost places.

use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::id::DatasetId;
use crate::base::limits::DATASET_NAME_BYTES_MAX;
use crate::base::time::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use std::fmt;
use std::str::FromStr;

/// The name of a dataset: UTF-8 without `@`, `:`, `/` and control characters, 1 to 200 bytes.
///
/// ```
/// use icecore::format::dataset::DatasetName;
/// assert!("holiday photos".parse::<DatasetName>().is_ok());
/// assert!("photos@3".parse::<DatasetName>().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DatasetName(String);

impl DatasetName {
    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DatasetName {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let fits = !text.is_empty()
            && text.len() <= DATASET_NAME_BYTES_MAX
            && !matches!(text, "." | "..")
            && !text.contains(|c: char| matches!(c, '@' | ':' | '/') || c.is_control());
        if fits {
            return Ok(DatasetName(text.to_owned()));
        }
        Err(Error::invalid(format!("{text:?} cannot be a dataset's name")).hint(
            "a name has 1 to 200 bytes and no `@`, `:`, `/` or control characters; \
             `--dataset NAME` sets one",
        ))
    }
}

impl TryFrom<String> for DatasetName {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<DatasetName> for String {
    fn from(name: DatasetName) -> Self {
        name.0
    }
}

impl fmt::Display for DatasetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `names/<keyed hash>/<rev>`: which folder a name stands for, or that it is retired.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameRecord {
    /// The name in full.
    pub name: DatasetName,
    /// The dataset's id, or none when the name was given up by a rename.
    pub dataset: Option<DatasetId>,
    /// When this was written.
    pub written: Timestamp,
}

/// `<n>` where no backup can be: whoever was to write it starts again with another number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoidRecord {
    /// The number it takes.
    pub number: u64,
    /// Why, for people.
    pub reason: String,
    /// When this was written.
    pub written: Timestamp,
}

/// `<n>.hidden`: the backup is forgotten.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HiddenRecord {
    /// The backup.
    pub number: u64,
    /// When it was forgotten.
    pub written: Timestamp,
}

/// `<n>.tags-<rev>`: tags and description as changed later; the highest revision wins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagsRecord {
    /// The backup.
    pub number: u64,
    /// All of its tags.
    pub tags: Vec<String>,
    /// Its description.
    pub description: String,
    /// When this was written.
    pub written: Timestamp,
}

/// `floor-<m>`: the numbers below `m` that remain; any other below `m` is void whenever it
/// appears. The highest `m` wins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FloorRecord {
    /// The floor.
    pub floor: u64,
    /// Numbers below it that still hold a header, ascending.
    pub remaining: Vec<u64>,
    /// When this was written.
    pub written: Timestamp,
}

/// `lost/<id>`: places that repair declared lost. A writer takes parent entries that touch them
/// as modified, so that the next backup heals them from the source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostRecord {
    /// Ids of blocks, 32 bytes each.
    pub blocks: Vec<u8>,
    /// For each block its lost places; empty means all of them.
    pub places: Vec<Vec<u32>>,
    /// When this was written.
    pub written: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_an_address_could_not_hold_are_refused() {
        for bad in ["", "a@b", "a:b", "a/b", "a\nb", "..", &"x".repeat(201)] {
            assert!(bad.parse::<DatasetName>().is_err(), "{bad:?}");
        }
        for good in ["a", "\u{e9}t\u{e9} 2026", "x.y-z_1", &"x".repeat(200)] {
            assert!(good.parse::<DatasetName>().is_ok(), "{good:?}");
        }
    }
}
