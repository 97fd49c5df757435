//! A tree in which everything is something that can be searched for.

use crate::cli::Home;
use crate::support::folder::skipped;
use crate::support::tree::noise;
use icecore::base::hash;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Bytes of a needle that is cut out of something longer.
const PIECE: usize = 24;

/// Words as people choose them, and noise where a file system takes it: noise is not compressed,
/// so it stands in a repository without encryption as it is.
pub(crate) struct Planted {
    pub(crate) source: &'static str,
    pub(crate) dataset: &'static str,
    pub(crate) tag: &'static str,
    pub(crate) later_tag: &'static str,
    pub(crate) description: &'static str,
    pub(crate) host: &'static str,
    pub(crate) label: &'static str,
    /// The name that the dataset has for a while.
    pub(crate) renamed: &'static str,
    /// A dataset, and the file in it, that came through a pipe.
    pub(crate) piped: &'static str,
    has_xattrs: bool,
}

/// Noise that can be a name.
fn name(seed: u64) -> Vec<u8> {
    noise(400, seed).into_iter().filter(|byte| !matches!(byte, 0 | b'/')).take(180).collect()
}

fn small() -> Vec<u8> {
    noise(3000, 11)
}

fn large() -> Vec<u8> {
    noise(300_000, 12)
}

fn pieces(what: &str, bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let last = bytes.len() - PIECE;
    let cuts = [0, last / 2, last];
    cuts.map(|at| (format!("{what} at {at}"), bytes[at..at + PIECE].to_vec())).to_vec()
}

fn set_xattr(path: &std::path::Path) -> bool {
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(path, "user.planted", &noise(300, 15), flags).is_ok()
}

impl Planted {
    pub(crate) fn new() -> Self {
        let probe = tempfile::NamedTempFile::new().unwrap();
        let has_xattrs = set_xattr(probe.path());
        if !has_xattrs {
            skipped("attributes in the search for secrets");
        }
        Planted {
            source: "Quelle-7f3k9q2x8v5z",
            dataset: "Datensatz-Kaltwasserkoralle",
            tag: "Marke-Schneehuhn-5512",
            later_tag: "Nachgetragen-Murmeltier-81",
            description: "Beschreibung: vor dem Umzug nach Dingsda 4471",
            host: "rechner-im-keller-2209",
            label: "Zettel-am-Bildschirm-6120",
            renamed: "Umbenannt-Tordalk-3306",
            piped: "Leitung-Bachstelze-90417",
            has_xattrs,
        }
    }

    fn path(&self, home: &Home, parts: &[&[u8]]) -> PathBuf {
        let mut path = home.path(self.source);
        parts.iter().for_each(|part| path.push(OsStr::from_bytes(part)));
        path
    }

    pub(crate) fn write(&self, home: &Home) {
        let folder = self.path(home, &[&name(1)]);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(self.path(home, &[&name(2)]), small()).unwrap();
        let deep = self.path(home, &[&name(1), &name(3)]);
        std::fs::write(&deep, large()).unwrap();
        std::os::unix::fs::symlink(OsStr::from_bytes(&name(5)), self.path(home, &[b"link"]))
            .unwrap();
        if self.has_xattrs {
            assert!(set_xattr(&deep));
        }
    }

    pub(crate) fn change(&self, home: &Home) {
        std::fs::write(self.path(home, &[&name(4)]), noise(2000, 13)).unwrap();
        std::fs::remove_file(self.path(home, &[&name(2)])).unwrap();
    }

    /// What was in files.
    pub(crate) fn contents(&self) -> Vec<(String, Vec<u8>)> {
        [pieces("small file", &small()), pieces("large file", &large())].concat()
    }

    /// All of it, as a repository without encryption shows it.
    pub(crate) fn needles(&self) -> Vec<(String, Vec<u8>)> {
        let mut needles = self.contents();
        for seed in 1..5 {
            needles.push((format!("name {seed}"), name(seed)[..PIECE].to_vec()));
        }
        needles.push(("target of a link".to_owned(), name(5)[..PIECE].to_vec()));
        if self.has_xattrs {
            needles.push(("attribute".to_owned(), noise(300, 15)[100..100 + PIECE].to_vec()));
        }
        // Small files are one blob each, and that has the plain hash for its name.
        for (what, bytes) in [("small", small()), ("later", noise(2000, 13))] {
            needles.push((format!("hash of the {what} file"), hash::hash(&bytes)[..16].to_vec()));
        }
        let name = hash::derive("icecore 2026-11-21 dataset name v1", self.dataset.as_bytes());
        needles.push(("hash of the dataset's name".to_owned(), name[..16].to_vec()));
        for (what, text) in [
            ("source", self.source),
            ("dataset", self.dataset),
            ("tag", self.tag),
            ("tag of later", self.later_tag),
            ("description", self.description),
            ("host", self.host),
        ] {
            needles.push((what.to_owned(), text.into()));
        }
        needles
    }
}
