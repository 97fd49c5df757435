//! Small records of a dataset: its name, voids, markers, tags, floors, lost places.

use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::id::DatasetId;
use crate::base::limits::DATASET_NAME_BYTES_MAX;
use crate::base::limits::DESCRIPTION_BYTES_MAX;
use crate::base::limits::TAG_BYTES_MAX;
use crate::base::limits::TAGS_MAX;
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
        // Within the message, as not all who show it show a hint.
        let rule = match text.split_once('@') {
            Some((name, version)) if !name.is_empty() && !version.is_empty() => {
                format!("behind an `@` stands which backup; `icecore show {text}` shows that one")
            }
            _ => "a name has 1 to 200 bytes and no `@`, `:`, `/` or control characters".to_owned(),
        };
        Err(Error::invalid(format!("{text:?} cannot be a dataset's name: {rule}"))
            .hint("`icecore list` shows the datasets; `backup --dataset NAME` sets a name"))
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

/// Checks tags that are about to be written, and returns each once, in the order given.
///
/// A comma is refused because it stands between tags where they are shown.
///
/// # Errors
/// `InvalidInput` for a tag that is empty, too long, or has a comma or a control character in it,
/// and for too many.
pub fn check_tags<'a>(tags: impl IntoIterator<Item = &'a String>) -> Result<Vec<String>> {
    let mut checked: Vec<String> = Vec::new();
    for tag in tags {
        let is_plain = !tag.contains(|c: char| c == ',' || c.is_control());
        if tag.trim().is_empty() || tag.len() > TAG_BYTES_MAX || !is_plain {
            let hint = format!(
                "a tag has 1 to {TAG_BYTES_MAX} bytes and no comma or control character; \
                 several tags are given one by one"
            );
            return Err(Error::invalid(format!("{tag:?} cannot be a tag")).hint(hint));
        }
        if !checked.contains(tag) {
            checked.push(tag.clone());
        }
        if checked.len() > TAGS_MAX {
            return Err(Error::invalid(format!("a backup has at most {TAGS_MAX} tags")));
        }
    }
    Ok(checked)
}

/// Checks a description that is about to be written.
///
/// # Errors
/// `InvalidInput` when it is too long.
pub fn check_description(text: &str) -> Result<()> {
    if text.len() <= DESCRIPTION_BYTES_MAX {
        return Ok(());
    }
    let message = format!("a description has at most {DESCRIPTION_BYTES_MAX} bytes");
    Err(Error::invalid(message).hint("put the text into a file of the source"))
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

    #[test]
    fn tags_are_words_and_each_is_there_once() {
        let tags = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(|&text| text.to_owned()).collect();
            check_tags(&texts)
        };
        assert_eq!(tags(&["b", "a", "b"]).expect("tags"), ["b", "a"]);
        assert!(tags(&["release 1.2", "\u{e9}t\u{e9}", &"x".repeat(200)]).is_ok());
        for bad in ["", " ", "a,b", "a\nb", &"x".repeat(201)] {
            assert!(tags(&["good", bad]).is_err(), "{bad:?}");
        }
        let many: Vec<String> = (0..=TAGS_MAX).map(|n| n.to_string()).collect();
        assert!(check_tags(&many[1..]).is_ok());
        assert!(check_tags(&many).is_err());
    }

    #[test]
    fn a_description_is_no_file() {
        assert!(check_description(&"x".repeat(DESCRIPTION_BYTES_MAX)).is_ok());
        assert!(check_description(&"x".repeat(DESCRIPTION_BYTES_MAX + 1)).is_err());
    }

    #[test]
    fn a_name_reads_as_it_was_written() {
        let name: DatasetName = "holiday photos".parse().expect("a name");
        assert_eq!(name.as_str(), "holiday photos");
        assert_eq!(name.to_string(), "holiday photos");
        assert_eq!(String::from(name), "holiday photos");
    }
}
