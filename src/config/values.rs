//! Single values of the config file, each checked where it is read, so that an error names the
//! line.
//!
//! A secret is never part of an error: a value of the wrong type is not repeated there.

use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::secret::Secret;
use crate::base::size;
use crate::engine::retention::Amount;
use crate::engine::retention::Span;
use crate::format::dataset::DatasetName;
use crate::net::address;
use serde::Deserialize;
use serde::Deserializer;
use serde::de::Error as Refuse;
use serde::de::Visitor;
use std::fmt;

/// Reads a text and makes a value of it.
fn parsed<'de, D: Deserializer<'de>, T>(
    from: D,
    parse: impl Fn(&str) -> Result<T>,
) -> std::result::Result<T, D::Error> {
    let text = String::deserialize(from)?;
    parse(&text).map_err(|e| D::Error::custom(e.full_message()))
}

/// A text that nobody may see.
#[derive(Clone, Debug)]
pub struct Hidden(pub Secret);

/// Takes a text over; anything else is refused without being repeated.
struct HiddenVisitor;

impl Visitor<'_> for HiddenVisitor {
    type Value = Hidden;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text in quotes")
    }

    fn visit_str<E: Refuse>(self, text: &str) -> std::result::Result<Hidden, E> {
        Ok(Hidden(Secret::new(text.as_bytes().to_vec())))
    }

    fn visit_i64<E: Refuse>(self, _: i64) -> std::result::Result<Hidden, E> {
        Err(E::custom("a secret is written as a text in quotes"))
    }

    fn visit_u64<E: Refuse>(self, _: u64) -> std::result::Result<Hidden, E> {
        self.visit_i64(0)
    }

    fn visit_i128<E: Refuse>(self, _: i128) -> std::result::Result<Hidden, E> {
        self.visit_i64(0)
    }

    fn visit_u128<E: Refuse>(self, _: u128) -> std::result::Result<Hidden, E> {
        self.visit_i64(0)
    }

    fn visit_f64<E: Refuse>(self, _: f64) -> std::result::Result<Hidden, E> {
        self.visit_i64(0)
    }

    fn visit_bool<E: Refuse>(self, _: bool) -> std::result::Result<Hidden, E> {
        self.visit_i64(0)
    }
}

impl<'de> Deserialize<'de> for Hidden {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        from.deserialize_any(HiddenVisitor)
    }
}

/// A number of bytes: a whole number, or a text such as `"20M"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

/// Bytes a second: a whole number, or a text such as `"10M"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate(pub u64);

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a number of bytes, or a text as \"20M\"")]
enum NumberOrText {
    Number(u64),
    Text(String),
}

impl NumberOrText {
    fn text(self) -> String {
        match self {
            NumberOrText::Number(number) => number.to_string(),
            NumberOrText::Text(text) => text,
        }
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        let text = NumberOrText::deserialize(from)?.text();
        size::parse_bytes(&text).map(Size).map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        let text = NumberOrText::deserialize(from)?.text();
        size::parse_rate(&text).map(Rate).map_err(D::Error::custom)
    }
}

/// Seconds until a server is given up: a whole number from 1 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seconds(pub u64);

/// Longest time limit, in seconds: a day is as good as none.
const SECONDS_MAX: u64 = 24 * 3600;

/// Reads a time limit.
///
/// # Errors
/// A sentence for people.
pub fn parse_seconds(text: &str) -> std::result::Result<u64, String> {
    let seconds = text.parse().ok().filter(|seconds| (1..=SECONDS_MAX).contains(seconds));
    seconds.ok_or_else(|| format!("{text:?} is no time limit: write seconds, 1 to {SECONDS_MAX}"))
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        let number = u64::deserialize(from)?;
        parse_seconds(&number.to_string()).map(Seconds).map_err(D::Error::custom)
    }
}

/// An age, written as `--keep-within` takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Age(pub Span);

impl<'de> Deserialize<'de> for Age {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        parsed(from, |text| text.parse().map(Age))
    }
}

/// How many backups a rule keeps: a whole number from 1 on, or `"all"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept(pub Amount);

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a number from 1 up, or \"all\"")]
enum CountOrText {
    Count(i64),
    Text(String),
}

impl<'de> Deserialize<'de> for Kept {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        let text = match CountOrText::deserialize(from)? {
            CountOrText::Count(count) => count.to_string(),
            CountOrText::Text(text) => text,
        };
        text.parse().map(Kept).map_err(|e: Error| D::Error::custom(e.full_message()))
    }
}

/// The source of a dataset: a list, so that the file reads like the command, with one in it.
#[derive(Clone, PartialEq, Eq)]
pub struct Sources(pub Option<String>);

/// An address may hold a password.
impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sources(..)")
    }
}

impl<'de> Deserialize<'de> for Sources {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        let mut sources: Vec<String> = Vec::deserialize(from)?;
        let source = sources.pop();
        if !sources.is_empty() {
            return Err(D::Error::custom(
                "several sources cannot go to one dataset: give each a table of its own",
            ));
        }
        Ok(Sources(source))
    }
}

/// The name of a dataset, as a key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DatasetKey(pub DatasetName);

impl<'de> Deserialize<'de> for DatasetKey {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        parsed(from, |text| text.parse().map(DatasetKey))
    }
}

/// The address that credentials are for: `ftp://host:port`, `sftp://host`, `s3://bucket`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address(pub String);

impl Address {
    /// Reads it.
    ///
    /// # Errors
    /// `InvalidInput` when it is none.
    pub fn parsed(&self) -> Result<address::Address> {
        address::Address::parse(self.0.as_bytes())?.ok_or_else(|| {
            Error::invalid(
                "credentials are for an address as ftp://host:port, sftp://host or s3://bucket",
            )
        })
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        let address = Address(String::deserialize(from)?);
        let parsed = address.parsed().map_err(|e| D::Error::custom(e.full_message()))?;
        if parsed.password().is_some() {
            return Err(D::Error::custom("the address holds a password: write it as `password`"));
        }
        Ok(address)
    }
}
