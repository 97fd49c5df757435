//! Keys of objects and of folders, validated on the way in and on the way out.
//!
//! A key is lower-case ASCII letters, digits, `-`, `_` and `.`, in parts joined by `/`; no part
//! is empty or begins with a dot. So every file system, server and shell agrees on it.

use crate::base::error::Error;
use crate::base::error::Result;
use std::borrow::Borrow;
use std::fmt;

/// Longest key; the deepest the layout makes has some 100 bytes.
const KEY_BYTES_MAX: usize = 512;

/// Names one object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey(String);

/// Names a folder of objects; the empty one is the top.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FolderKey(String);

fn is_good(text: &str) -> bool {
    let part_is_good = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part
                .bytes()
                .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.'))
    };
    text.len() <= KEY_BYTES_MAX && text.split('/').all(part_is_good)
}

impl ObjectKey {
    /// Checks the text and makes a key of it.
    ///
    /// # Errors
    /// `InvalidInput` when it is no good key.
    pub fn new(text: impl Into<String>) -> Result<Self> {
        let text = text.into();
        if is_good(&text) {
            return Ok(ObjectKey(text));
        }
        Err(Error::invalid(format!("{text:?} cannot be an object's key")))
    }

    /// Returns the whole key.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the last part.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// Returns the folder it is in.
    pub fn folder(&self) -> FolderKey {
        FolderKey(self.0.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned())
    }
}

impl FolderKey {
    /// Returns the top folder.
    pub fn top() -> Self {
        FolderKey(String::new())
    }

    /// Checks the text and makes a folder key of it; the empty text is the top.
    ///
    /// # Errors
    /// `InvalidInput` when it is no good key.
    pub fn new(text: impl Into<String>) -> Result<Self> {
        let text = text.into();
        if text.is_empty() || is_good(&text) {
            return Ok(FolderKey(text));
        }
        Err(Error::invalid(format!("{text:?} cannot be a folder's key")))
    }

    /// Returns the whole key.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the last part.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// Returns the key of an object in this folder.
    ///
    /// # Errors
    /// `InvalidInput` when the name is no good part of a key.
    pub fn object(&self, name: &str) -> Result<ObjectKey> {
        ObjectKey::new(self.join(name))
    }

    /// Returns the key of a folder in this folder.
    ///
    /// # Errors
    /// `InvalidInput` when the name is no good part of a key.
    pub fn folder(&self, name: &str) -> Result<FolderKey> {
        FolderKey::new(self.join(name))
    }

    fn join(&self, name: &str) -> String {
        if self.0.is_empty() { name.to_owned() } else { format!("{}/{name}", self.0) }
    }
}

/// Keys sort as their texts do, so sorted ones can be searched by a beginning.
impl Borrow<str> for ObjectKey {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// As those of objects.
impl Borrow<str> for FolderKey {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for FolderKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "/" } else { &self.0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_could_escape_or_clash_are_refused() {
        for bad in ["", "/a", "a/", "a//b", "../a", "a/..", ".tmp", "A", "a b", "a\\b", "\u{e9}"] {
            assert!(ObjectKey::new(bad).is_err(), "{bad:?}");
        }
        assert!(ObjectKey::new("x".repeat(513)).is_err());
    }

    #[test]
    fn folder_and_name_make_the_key_again() {
        let key = ObjectKey::new("packs/ab/abcd").expect("good");
        assert_eq!(key.folder().object(key.name()).expect("good"), key);
        assert_eq!(ObjectKey::new("config").expect("good").folder(), FolderKey::top());
    }
}
