//! Searches bytes for many things at once.

use crate::support::folder::files_below;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::path::Path;
use std::path::PathBuf;

/// No needle is shorter.
pub(crate) const START_BYTES: usize = 8;

/// What is searched for: each as it is, in hex and in base64.
pub(crate) struct Needles {
    rows: Vec<(String, Vec<u8>)>,
    by_start: HashMap<[u8; START_BYTES], Vec<usize>>,
    /// Which first two bytes any of them has, to look closer at few places only.
    starts: Vec<bool>,
}

fn base64(bytes: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = Vec::new();
    // Whole groups alone, as what follows changes the last digits.
    for group in bytes.chunks_exact(3) {
        let bits = u32::from(group[0]) << 16 | u32::from(group[1]) << 8 | u32::from(group[2]);
        text.extend((0..4).map(|digit| DIGITS[(bits >> (18 - 6 * digit) & 63) as usize]));
    }
    text
}

impl Needles {
    pub(crate) fn new(wanted: Vec<(String, Vec<u8>)>) -> Self {
        let mut needles =
            Needles { rows: Vec::new(), by_start: HashMap::new(), starts: vec![false; 1 << 16] };
        for (name, bytes) in wanted {
            let hex = icecore::base::id::to_hex(&bytes).into_bytes();
            let base64 = base64(&bytes);
            for form in [bytes, hex, base64] {
                let start = form[..START_BYTES].try_into().expect("it is long enough");
                needles.by_start.entry(start).or_default().push(needles.rows.len());
                needles.starts[usize::from(form[0]) << 8 | usize::from(form[1])] = true;
                needles.rows.push((name.clone(), form));
            }
        }
        needles
    }

    /// Returns the names of what is in some bytes.
    pub(crate) fn in_bytes(&self, bytes: &[u8]) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for at in 0..bytes.len().saturating_sub(START_BYTES - 1) {
            if !self.starts[usize::from(bytes[at]) << 8 | usize::from(bytes[at + 1])] {
                continue;
            }
            let start: [u8; START_BYTES] = bytes[at..at + START_BYTES].try_into().expect("eight");
            for row in self.by_start.get(&start).into_iter().flatten() {
                let (name, needle) = &self.rows[*row];
                if bytes[at..].starts_with(needle) {
                    found.insert(name.clone());
                }
            }
        }
        found
    }

    /// Returns what is in the files of a folder, and in their names, with where it is.
    pub(crate) fn in_folder(&self, folder: &Path) -> BTreeSet<(String, PathBuf)> {
        let files = files_below(folder);
        assert!(!files.is_empty(), "there is nothing in {folder:?}");
        let mut found = BTreeSet::new();
        for path in files {
            let below = path.strip_prefix(folder).unwrap().to_owned();
            let name = self.in_bytes(below.as_os_str().as_encoded_bytes());
            let content = self.in_bytes(&std::fs::read(&path).unwrap());
            found.extend(name.into_iter().chain(content).map(|what| (what, below.clone())));
        }
        found
    }
}

/// Returns all folders below a folder.
pub(crate) fn folders(folder: &Path) -> Vec<PathBuf> {
    walk(folder).into_iter().filter(|path| path.is_dir()).collect()
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.unwrap().path();
        let is_folder = path.symlink_metadata().unwrap().is_dir();
        found.push(path.clone());
        if is_folder {
            found.extend(walk(&path));
        }
    }
    found
}

#[test]
fn what_is_there_is_found_in_each_form() {
    let needles = Needles::new(vec![("it".to_owned(), b"0123456789abc".to_vec())]);
    for text in ["x0123456789abcx", "30313233343536373839616263", "MDEyMzQ1Njc4OWFi"] {
        assert_eq!(needles.in_bytes(text.as_bytes()).len(), 1, "{text}");
    }
    assert_eq!(needles.in_bytes(b"0123456789ab"), BTreeSet::new());
    assert_eq!(needles.in_bytes(b""), BTreeSet::new());
}
