//! A source of which only listed paths count: what `--files-from` names.
//!
//! The walk is told by a [`Selection`] what to go into, so that a few paths of a large tree cost
//! a few folders. What is listed and not met on the walk is looked at once more: gone or
//! forbidden, it is an error of that entry; there, it was left out by another rule. A list of which
//! nothing is there is refused, as one without a path is.

use crate::base::cancel::Cancel;
use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::limits::LIST_BYTES_MAX;
use crate::base::path::EntryPath;
use crate::base::path::display;
use crate::source::Scan;
use crate::source::ScanItem;
use crate::source::Source;
use crate::source::SourceReader;
use std::io::Read;
use std::iter::Peekable;
use std::sync::Arc;

/// How paths stand in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Separator {
    /// One on each line.
    Newline,
    /// The byte 0 behind each.
    Nul,
}

/// Paths that were listed: each stands for itself, what is below it, and the folders above it.
///
/// ```
/// use icecore::base::path::EntryPath;
/// use icecore::source::listed::{Selection, Separator};
/// let selection = Selection::read(&mut &b"a/b\n./c/\n"[..], Separator::Newline).unwrap();
/// let path = |text: &str| EntryPath::new(text.as_bytes()).unwrap();
/// assert!(selection.has(&path("a")) && selection.has(&path("a/b/x")));
/// assert!(!selection.has(&path("a/x")));
/// ```
#[derive(Clone, Debug)]
pub struct Selection {
    /// All that was listed, sorted.
    listed: Vec<EntryPath>,
    /// Those of them that are below no other one.
    tops: Vec<EntryPath>,
}

impl Selection {
    /// Reads a list of paths, which are taken as they are: nothing is a comment or a pattern.
    /// Empty lines, `.` and slashes too many are passed over.
    ///
    /// # Errors
    /// `InvalidInput` for a list without a path, and for a path that leads outside.
    pub fn read(from: &mut dyn Read, separator: Separator) -> Result<Self> {
        let mut bytes = Vec::new();
        let got = from.take(LIST_BYTES_MAX + 1).read_to_end(&mut bytes);
        got.map_err(|e| Error::io("cannot read the list of files", e))?;
        if bytes.len() as u64 > LIST_BYTES_MAX {
            return Err(Error::invalid("the list of files is too long"));
        }
        let end = match separator {
            Separator::Newline => b'\n',
            Separator::Nul => 0,
        };
        let mut listed = Vec::new();
        for line in bytes.split(|&byte| byte == end).filter(|line| !line.is_empty()) {
            listed.push(path_of(line)?);
        }
        if listed.is_empty() {
            return Err(Error::invalid("the list of files names nothing")
                .hint("a backup of nothing would count all other files as deleted"));
        }
        listed.sort();
        listed.dedup();
        let mut tops: Vec<EntryPath> = Vec::new();
        for path in &listed {
            if !tops.last().is_some_and(|top| path.is_within(top)) {
                tops.push(path.clone());
            }
        }
        Ok(Selection { listed, tops })
    }

    /// Says whether a path is listed, below one that is, or a folder above one.
    pub fn has(&self, path: &EntryPath) -> bool {
        let behind = self.tops.partition_point(|top| top <= path);
        // The tops are apart and a folder stands right before what is in it, so only the
        // neighbours can be above or below.
        let is_below = behind > 0 && path.is_within(&self.tops[behind - 1]);
        is_below || self.tops.get(behind).is_some_and(|top| top.is_within(path))
    }
}

fn path_of(line: &[u8]) -> Result<EntryPath> {
    let refused = |why: &str| {
        Error::invalid(format!("cannot back up {}, which is listed: {why}", display(line)))
            .hint("listed paths are relative to the source")
    };
    if line.starts_with(b"/") {
        return Err(refused("it is absolute"));
    }
    let parts: Vec<&[u8]> =
        line.split(|&byte| byte == b'/').filter(|part| !matches!(*part, b"" | b".")).collect();
    EntryPath::new(&parts.join(&b'/')).map_err(|e| refused(&e.to_string()))
}

/// A source with the listed paths that its scan does not meet shown as failed.
pub struct ListedSource<S> {
    inner: S,
    selection: Arc<Selection>,
}

impl<S: Source> ListedSource<S> {
    /// Puts a list around a source whose filter has the same one.
    ///
    /// # Errors
    /// `InvalidInput` when nothing that is listed is there: paths of another folder, as a rule, and
    /// all files would count as deleted. Those of the source's reader.
    pub fn open(inner: S, selection: Arc<Selection>) -> Result<Self> {
        let mut reader = inner.reader()?;
        // What cannot be looked at for any other reason may be there: the scan tells of it.
        let is_there = |path| !reader.open(path).is_err_and(|e| e.kind() == ErrorKind::NotFound);
        if !selection.listed.iter().any(is_there) {
            let (count, location) = (selection.listed.len(), inner.location());
            let message = format!("none of the listed paths ({count}) is in {location}");
            return Err(Error::invalid(message).hint("listed paths are relative to the source"));
        }
        drop(reader);
        Ok(ListedSource { inner, selection })
    }
}

impl<S: Source> Source for ListedSource<S> {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn detects_changes(&self) -> bool {
        self.inner.detects_changes()
    }

    fn tells_metadata(&self) -> bool {
        self.inner.tells_metadata()
    }

    fn may_be_mapped(&self) -> bool {
        self.inner.may_be_mapped()
    }

    fn parallel(&self) -> usize {
        self.inner.parallel()
    }

    fn notes(&self) -> Vec<String> {
        self.inner.notes()
    }

    fn scan(&self, cancel: &Cancel) -> Result<Scan<'_>> {
        Ok(Box::new(ListedScan {
            items: self.inner.scan(cancel)?.peekable(),
            listed: self.selection.listed.iter().peekable(),
            reader: self.inner.reader()?,
            cancel: cancel.clone(),
        }))
    }

    fn reader(&self) -> Result<Box<dyn SourceReader + Send + '_>> {
        self.inner.reader()
    }
}

struct ListedScan<'a> {
    items: Peekable<Scan<'a>>,
    listed: Peekable<std::slice::Iter<'a, EntryPath>>,
    reader: Box<dyn SourceReader + Send + 'a>,
    cancel: Cancel,
}

impl Iterator for ListedScan<'_> {
    type Item = ScanItem;

    fn next(&mut self) -> Option<ScanItem> {
        while !self.cancel.is_cancelled()
            && let Some(&listed) = self.listed.peek()
        {
            match self.items.peek().map(ScanItem::path) {
                Some(path) if path < listed => break,
                Some(path) if path == listed => {
                    self.listed.next();
                    break;
                }
                _ => {
                    self.listed.next();
                    if let Err(error) = self.reader.open(listed) {
                        return Some(ScanItem::Failed(listed.clone(), error));
                    }
                }
            }
        }
        self.items.next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(list: &[u8], separator: Separator) -> Result<Selection> {
        Selection::read(&mut &list[..], separator)
    }

    #[test]
    fn lines_are_paths_and_nothing_else() {
        let selection = read(b"#x\n\n*.jpg\nb//c/./d/\n a \r\n", Separator::Newline).unwrap();
        let listed: Vec<&[u8]> = selection.listed.iter().map(EntryPath::as_bytes).collect();
        assert_eq!(listed, [&b" a \r"[..], b"#x", b"*.jpg", b"b/c/d"]);
        let selection = read(b"a\nb\0c\0", Separator::Nul).unwrap();
        let listed: Vec<&[u8]> = selection.listed.iter().map(EntryPath::as_bytes).collect();
        assert_eq!(listed, [&b"a\nb"[..], b"c"]);
    }

    #[test]
    fn what_leads_outside_is_refused() {
        for bad in [&b""[..], b"\n\n", b"/etc/passwd", b"a/../../b", b"a\0b"] {
            let error = read(bad, Separator::Newline).expect_err("refused");
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{bad:?}");
        }
    }

    #[test]
    fn a_selection_agrees_with_a_plain_search() {
        let path = |text: &str| EntryPath::new(text.as_bytes()).unwrap();
        let listed = ["a/b", "a/b/c", "a-b", "d", "e/f/g", "e/f-g", "z/z"];
        let selection = read(listed.join("\n").as_bytes(), Separator::Newline).unwrap();
        for text in [
            "a", "a/b", "a/b/x/y", "a/bb", "a/a", "a-b", "a-b/c", "a-", "d", "d/e", "dd", "e",
            "e/f", "e/f/g", "e/f/h", "e/f-g", "e/f-g/x", "e/ff", "z", "z/y", "z/z", "zz",
        ] {
            let plain = listed
                .iter()
                .any(|top| path(text).is_within(&path(top)) || path(top).is_within(&path(text)));
            assert_eq!(selection.has(&path(text)), plain, "{text}");
        }
        assert!(read(b".", Separator::Newline).unwrap().has(&path("any/thing")));
    }
}
