//! Paths of entries: relative, raw bytes, with a defined total order.
//!
//! Order: two paths are compared as lists of components, bytewise. So a folder stands right
//! before its subtree and the children of a folder stay together, which is what lets scans,
//! comparisons and replays be streaming merges. It equals comparing the bytes with `/` taken
//! as smaller than every other byte.

use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::limits::NAME_BYTES_MAX;
use crate::base::limits::PATH_BYTES_MAX;
use serde::Deserialize;
use serde::Serialize;
use std::cmp::Ordering;
use std::fmt;

/// A path below the root of a dataset; the root itself is the empty path.
///
/// It cannot escape by construction: no empty component, no `.`, no `..`, no NUL byte, no
/// component beyond 255 bytes.
///
/// ```
/// use icecore::base::path::EntryPath;
/// let path = EntryPath::new(b"a/b").unwrap();
/// assert!(path < EntryPath::new(b"a.txt").unwrap(), "a folder's subtree comes first");
/// assert!(EntryPath::new(b"../etc").is_err());
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<u8>", into = "Vec<u8>")]
pub struct EntryPath(Box<[u8]>);

impl EntryPath {
    /// Returns the path of the dataset's root.
    pub fn root() -> Self {
        EntryPath(Box::default())
    }

    /// Checks the bytes and makes a path of them.
    ///
    /// # Errors
    /// `InvalidInput` when a component is empty, `.`, `..`, too long or holds a NUL byte, or
    /// when the whole is longer than the limit.
    pub fn new(bytes: &[u8]) -> Result<Self> {
        check(bytes)?;
        Ok(EntryPath(bytes.into()))
    }

    /// Returns the path of the child `name`.
    ///
    /// # Errors
    /// `InvalidInput` when `name` is no single good component.
    pub fn join(&self, name: &[u8]) -> Result<Self> {
        if name.contains(&b'/') || name.is_empty() {
            return Err(Error::invalid(format!("{} is no file name", display(name))));
        }
        check_component(name)?;
        let mut bytes = Vec::with_capacity(self.0.len() + 1 + name.len());
        bytes.extend_from_slice(&self.0);
        if !self.is_root() {
            bytes.push(b'/');
        }
        bytes.extend_from_slice(name);
        if bytes.len() > PATH_BYTES_MAX {
            return Err(too_long());
        }
        Ok(EntryPath(bytes.into()))
    }

    /// Returns the raw bytes, components joined by `/`.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Says whether this is the dataset's root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the last component; empty for the root.
    pub fn name(&self) -> &[u8] {
        match self.0.iter().rposition(|&byte| byte == b'/') {
            Some(slash) => &self.0[slash + 1..],
            None => &self.0,
        }
    }

    /// Returns the bytes of the folder this is in; the root's is the root.
    pub fn parent_bytes(&self) -> &[u8] {
        match self.0.iter().rposition(|&byte| byte == b'/') {
            Some(slash) => &self.0[..slash],
            None => &[],
        }
    }

    /// Returns the folder this is in, or none for the root.
    pub fn parent(&self) -> Option<EntryPath> {
        if self.is_root() { None } else { Some(EntryPath(self.parent_bytes().into())) }
    }

    /// Returns the components from the top; none for the root.
    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|&byte| byte == b'/').filter(|component| !component.is_empty())
    }

    /// Returns how many components there are.
    pub fn depth(&self) -> usize {
        self.components().count()
    }

    /// Says whether this path is `ancestor` or lies below it.
    pub fn is_within(&self, ancestor: &EntryPath) -> bool {
        ancestor.is_root()
            || self
                .0
                .strip_prefix(&*ancestor.0)
                .is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
    }

    /// Returns this path as seen from `ancestor`, or none when it does not lie within it.
    pub fn relative_to(&self, ancestor: &EntryPath) -> Option<EntryPath> {
        if !self.is_within(ancestor) {
            return None;
        }
        let rest = &self.0[ancestor.0.len()..];
        Some(EntryPath(rest.strip_prefix(b"/").unwrap_or(rest).into()))
    }
}

fn check(bytes: &[u8]) -> Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    if bytes.len() > PATH_BYTES_MAX {
        return Err(too_long());
    }
    bytes.split(|&byte| byte == b'/').try_for_each(check_component)
}

fn check_component(name: &[u8]) -> Result<()> {
    let refuse = |why: &str| Err(Error::invalid(format!("path part {} {why}", display(name))));
    match name {
        b"" => refuse("is empty"),
        b"." | b".." => refuse("would leave its folder"),
        _ if name.len() > NAME_BYTES_MAX => refuse("is too long"),
        _ if name.contains(&0) => refuse("holds a NUL byte"),
        _ => Ok(()),
    }
}

fn too_long() -> Error {
    Error::invalid(format!("a path is longer than {PATH_BYTES_MAX} bytes"))
}

/// Shows raw bytes of a path to a person: UTF-8 as it is, control characters and what is not
/// UTF-8 as `\xNN`, so that a hostile name cannot steer a terminal.
pub fn display(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() || turns_text(character) {
                text.extend(character.escape_default());
            } else {
                text.push(character);
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

/// Says whether a character breaks a line or changes the direction that text is shown in: a name
/// that ends in `exe` could look as if it ended in `jpg`.
fn turns_text(character: char) -> bool {
    let is_mark = matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}');
    is_mark || matches!(character, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

impl Ord for EntryPath {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(&self.0, &other.0)
    }
}

impl PartialOrd for EntryPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Compares two paths as lists of components.
pub fn compare(a: &[u8], b: &[u8]) -> Ordering {
    let common = common_bytes(a, b);
    let rank = |byte: Option<&u8>| match byte {
        None => 0_u16,
        Some(b'/') => 1,
        Some(&other) => u16::from(other) + 2,
    };
    rank(a.get(common)).cmp(&rank(b.get(common)))
}

/// Returns how many bytes two paths begin with in common. Neighbours share most of theirs, so eight
/// are compared at a time.
pub fn common_bytes(a: &[u8], b: &[u8]) -> usize {
    let (words, others) = (a.as_chunks::<8>().0, b.as_chunks::<8>().0);
    let start = 8 * words.iter().zip(others).take_while(|(x, y)| x == y).count();
    start + a[start..].iter().zip(&b[start..]).take_while(|(x, y)| x == y).count()
}

impl fmt::Display for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&display(&self.0))
    }
}

impl fmt::Debug for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", display(&self.0))
    }
}

impl TryFrom<Vec<u8>> for EntryPath {
    type Error = Error;
    fn try_from(bytes: Vec<u8>) -> Result<Self> {
        check(&bytes)?;
        Ok(EntryPath(bytes.into()))
    }
}

impl From<EntryPath> for Vec<u8> {
    fn from(path: EntryPath) -> Self {
        path.0.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> EntryPath {
        EntryPath::new(text.as_bytes()).expect("a good path")
    }

    #[test]
    fn order_equals_that_of_component_lists() {
        let texts = ["", "a", "a/b", "a/b/c", "a/c", "a!", "a.b", "ab", "b", "a\u{1}"];
        for left in texts {
            for right in texts {
                let by_lists = path(left).components().cmp(path(right).components());
                assert_eq!(path(left).cmp(&path(right)), by_lists, "{left:?} {right:?}");
                // What they have in common may end anywhere within eight bytes, or behind them.
                for length in 1..20 {
                    let longer = |text: &str| path(&format!("{}{text}", "x".repeat(length)));
                    let (left, right) = (longer(left), longer(right));
                    let by_lists = left.components().cmp(right.components());
                    assert_eq!(left.cmp(&right), by_lists, "{left:?} {right:?}");
                    let one_by_one = left.as_bytes().iter().zip(right.as_bytes());
                    let common = one_by_one.take_while(|(x, y)| x == y).count();
                    assert_eq!(common_bytes(left.as_bytes(), right.as_bytes()), common);
                }
            }
        }
    }

    #[test]
    fn what_would_escape_is_refused() {
        for bad in ["/a", "a/", "a//b", ".", "..", "a/../b", "a\0b"] {
            assert!(EntryPath::new(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert!(EntryPath::new(&[b'x'; 256]).is_err());
        assert!(path("a").join(b"b/c").is_err());
    }

    #[test]
    fn relative_needs_a_whole_component() {
        assert_eq!(path("a/b/c").relative_to(&path("a/b")), Some(path("c")));
        assert_eq!(path("a/bc").relative_to(&path("a/b")), None);
        assert_eq!(path("a/b").relative_to(&path("a/b")), Some(EntryPath::root()));
        assert_eq!(path("a/b").relative_to(&EntryPath::root()), Some(path("a/b")));
    }

    #[test]
    fn display_cannot_steer_a_terminal() {
        let path = EntryPath::new(b"a\x1b[31m\xff").expect("a good path");
        assert_eq!(path.to_string(), "a\\u{1b}[31m\\xff");
    }
}
