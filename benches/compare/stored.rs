//! Which kinds of bytes icecore stored, looked up in the repository itself.
//!
//! Blocks of content and of metadata (manifests and full indexes of more than 64 KiB) lie in
//! packs together; the pack index tells them apart. Smaller manifests are inside of headers.

use crate::support::PASSWORD;
use crate::support::tree;
use icecore::backend::local::LocalBackend;
use icecore::base::secret::Secret;
use icecore::repository::cache::CachePlace;
use icecore::repository::open;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

/// The word that makes this program look into a repository.
const WORD: &str = "--stored";
/// What blocks of content have for their class.
const CONTENT: u8 = 0;

/// What the local backend keeps so that a prune has room on a full disk.
const RESERVE: &str = "reserve";

pub(crate) const KINDS: [&str; 9] = [
    "content in packs",
    "manifests in packs",
    "tables of blocks",
    "rest of packs",
    "pack index",
    "headers, with small manifests",
    "reserve for a full disk",
    "other",
    "in all",
];

/// Bytes of each kind, in the order of [`KINDS`].
pub(crate) type Stored = [u64; KINDS.len()];

/// Returns the repository that a program of this kind was started for, if it was.
pub(crate) fn asked_for() -> Option<PathBuf> {
    let mut arguments = std::env::args_os().skip(1);
    arguments.next().filter(|first| first == WORD)?;
    arguments.next().map(PathBuf::from)
}

/// Lets a child of this program look; by this path it is there though it was built anew.
pub(crate) fn ask(repository: &Path) -> io::Result<Stored> {
    let output = Command::new("/proc/self/exe").arg(WORD).arg(repository).output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let numbers: Vec<u64> = said.split_whitespace().flat_map(str::parse).collect();
    Stored::try_from(numbers).map_err(|_| io::Error::other(said.trim().to_owned()))
}

/// Looks, and prints the numbers.
pub(crate) fn print(repository: &Path) -> io::Result<()> {
    let numbers = look(repository)?;
    println!("{}", numbers.map(|number| number.to_string()).join(" "));
    Ok(())
}

fn look(path: &Path) -> io::Result<Stored> {
    let mut folders: BTreeMap<String, u64> = BTreeMap::new();
    for name in tree::names(path)? {
        let bytes = tree::bytes_below(&path.join(&name))?;
        folders.insert(name.to_string_lossy().into_owned(), bytes);
    }
    let mut folder = |name: &str| folders.remove(name).unwrap_or(0);
    let (packs, index, headers) = (folder("packs"), folder("index"), folder("datasets"));
    let reserve = folder(RESERVE);
    let other: u64 = folders.values().sum();
    let (content, metadata, tables) = blocks(path)?;
    let rest = packs.saturating_sub(content + metadata + tables);
    let all = packs + index + headers + reserve + other;
    Ok([content, metadata, tables, rest, index, headers, reserve, other, all])
}

/// Returns the bytes of blocks of content, of blocks of metadata, and of the tables of both.
fn blocks(path: &Path) -> io::Result<(u64, u64, u64)> {
    let said = |e: &dyn Display| io::Error::other(format!("{}: {e}", path.display()));
    let backend = Arc::new(LocalBackend::open(path).map_err(|e| said(&e))?);
    let is_sealed = tree::names(&path.join("keys")).is_ok_and(|names| !names.is_empty());
    let password = is_sealed.then(|| Secret::new(PASSWORD.into()));
    let cache = CachePlace::Scratch(std::env::temp_dir());
    let repository = open::open(backend, password.as_ref(), &cache).map_err(|e| said(&e))?;
    repository.refresh_index().map_err(|e| said(&e))?;
    let (mut content, mut metadata, mut tables) = (0, 0, 0);
    for (_, location) in repository.index().view().all_rows() {
        let length = u64::from(location.row.length);
        match location.row.class {
            CONTENT => content += length,
            _ => metadata += length,
        }
        tables += u64::from(location.row.table_length);
    }
    Ok((content, metadata, tables))
}
