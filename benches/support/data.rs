//! The data sets: how each is made, and how it changes.

use crate::support::environment::Trees;
use crate::support::generate::changes;
use crate::support::generate::dump::Dump;
use crate::support::generate::media;
use crate::support::generate::pages;
use crate::support::generate::pages::Pages;
use crate::support::generate::records;
use crate::support::tree;
use std::fs;
use std::fs::File;
use std::io;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Duration;

/// Their names, in the order they are measured.
pub(crate) const NAMES: [&str; 7] =
    ["kernel", "json", "pages", "sql", "typescript", "media", "few"];

const SEED: u64 = 20;
const RECORDS: u64 = 300_000;
/// So few that only what each command costs by itself shows.
const FEW: u64 = 10;
const PAGES: u64 = 65_536;
const DUMP_BYTES: u64 = 400_000_000;
const MEDIA_BYTES: u64 = 3 << 29;
/// Changes of the sets that change more than once.
const CHANGES: u64 = 3;
/// A file of a tree takes so much in a file system.
const CLUSTER_BYTES: u64 = 4_096;
/// The largest version of typescript, unpacked.
const TYPESCRIPT_BYTES: u64 = 70_000_000;
/// More than a tick of the clock by which a file system tells times.
const LATER: Duration = Duration::from_millis(10);

/// One data set.
#[derive(Debug)]
pub(crate) struct Data {
    kind: Kind,
    /// What it is, for the head of its table.
    pub(crate) title: String,
    /// How many versions come after the first.
    pub(crate) changes: u64,
    /// What a change is called.
    pub(crate) change: &'static str,
    /// Bytes of one version in a file system.
    pub(crate) bytes: u64,
    /// Whether it is for what commands cost by themselves.
    pub(crate) is_few: bool,
    /// The most that a tool stores of all versions, as a multiple of `bytes`.
    pub(crate) stored_share: f64,
}

#[derive(Debug)]
enum Kind {
    Kernel(PathBuf),
    Records(u64),
    Pages(Pages),
    Dump(Dump),
    /// Packed versions, oldest first.
    Typescript(Vec<PathBuf>),
    Media(u64),
}

impl Data {
    /// Finds a data set by its name, or says why it cannot be had. What is generated is made
    /// `scale` of its size.
    pub(crate) fn find(name: &str, scale: f64, trees: &Trees) -> Result<Data, String> {
        let scaled = |count: u64| ((count as f64 * scale) as u64).max(1);
        let pages = scaled(PAGES);
        let records = scaled(RECORDS);
        let page_bytes = pages * pages::PAGE_BYTES as u64;
        let (dump, media) = (scaled(DUMP_BYTES), scaled(MEDIA_BYTES));
        let megabytes = |bytes: u64| format!("{:.0} MB", bytes as f64 / 1e6);
        let data = |kind, title: String, changes, change, bytes, stored_share| {
            Ok(Data { kind, title, changes, change, bytes, is_few: name == "few", stored_share })
        };
        let files = "1 % of files changed";
        match name {
            "kernel" => {
                let folder = trees.kernel.clone().filter(|folder| folder.is_dir());
                let folder = folder.ok_or(
                    "there is no kernel tree: set ICECORE_BENCH_KERNEL, or unpack linux-source",
                )?;
                let folder = fs::canonicalize(folder).map_err(|e| e.to_string())?;
                let title = format!("kernel tree {}", folder.display());
                let bytes = clusters(&folder).map_err(|e| e.to_string())?;
                data(Kind::Kernel(folder), title, 1, files, bytes, 0.5)
            }
            "json" => {
                let title = format!("{records} annotation records");
                data(Kind::Records(records), title, 1, files, records * CLUSTER_BYTES, 0.5)
            }
            "few" => {
                let title = format!("{FEW} files");
                data(Kind::Records(FEW), title, 0, "", FEW * CLUSTER_BYTES, 1.0)
            }
            "pages" => {
                let title = format!("database pages, {}", megabytes(page_bytes));
                let kind = Kind::Pages(Pages::new(pages, SEED));
                data(kind, title, CHANGES, "1 % of pages changed", page_bytes, 2.0)
            }
            "sql" => {
                let title = format!("SQL dump, {}", megabytes(dump));
                let kind = Kind::Dump(Dump::new(dump, SEED));
                data(kind, title, CHANGES, "1 % of rows changed, 1 % appended", dump, 1.2)
            }
            "typescript" => {
                let folder = trees.typescript.as_deref();
                let folder = folder.ok_or(
                    "ICECORE_BENCH_TYPESCRIPT names no folder; benches/typescript.sh fetches it",
                )?;
                let mut versions = packed_versions(folder).map_err(|e| e.to_string())?;
                if versions.len() < 2 {
                    return Err(format!("{} has no two versions", folder.display()));
                }
                versions.truncate((scaled(versions.len() as u64) as usize).max(2));
                let title = format!("npm typescript, {} versions", versions.len());
                let changes = versions.len() as u64 - 1;
                let kind = Kind::Typescript(versions);
                data(kind, title, changes, "each next version", TYPESCRIPT_BYTES, 3.0)
            }
            _ => {
                let title = format!("media, {}", megabytes(media));
                data(Kind::Media(media), title, 0, "", media, 1.05)
            }
        }
    }

    /// Makes the first version in an empty folder.
    pub(crate) fn make(&self, source: &Path) -> io::Result<()> {
        match &self.kind {
            // With its own times.
            Kind::Kernel(folder) => {
                let mut from = folder.clone().into_os_string();
                from.push("/.");
                system(Command::new("cp").arg("-a").arg(from).arg(source))?;
            }
            Kind::Records(count) => records::records(source, *count, SEED)?,
            Kind::Pages(pages) => pages.make(&source.join("pages.db"))?,
            Kind::Dump(dump) => dump.write(&source.join("dump.sql"), 0)?,
            Kind::Typescript(versions) => unpack(&versions[0], source)?,
            Kind::Media(bytes) => media::media(source, *bytes, SEED)?,
        }
        if !matches!(self.kind, Kind::Kernel(_)) {
            tree::age(source)?;
        }
        touch_newest(source)
    }

    /// Makes the next version of the one before; versions count from 1.
    pub(crate) fn change(&self, source: &Path, version: u64) -> io::Result<()> {
        match &self.kind {
            Kind::Kernel(_) | Kind::Records(_) => {
                changes::change_files(source, SEED + version)?;
            }
            Kind::Pages(pages) => pages.change(&source.join("pages.db"), version)?,
            Kind::Dump(dump) => dump.write(&source.join("dump.sql"), version)?,
            Kind::Typescript(versions) => {
                for entry in fs::read_dir(source)? {
                    let path = entry?.path();
                    match path.is_dir() {
                        true => fs::remove_dir_all(path)?,
                        false => fs::remove_file(path)?,
                    }
                }
                unpack(&versions[version as usize], source)?;
            }
            Kind::Media(_) => {}
        }
        touch_newest(source)
    }
}

/// Returns what the files of a tree take in a file system.
fn clusters(folder: &Path) -> io::Result<u64> {
    let mut total = 0;
    tree::each_file(folder, &mut |_, length| {
        total += length.next_multiple_of(CLUSTER_BYTES);
        Ok(())
    })?;
    Ok(total)
}

/// Makes a file of one byte the last that changed. borg remembers no file that changed as late as
/// the newest it has seen, and reads those again: of a set of one file all, but hardly any of a
/// user's. To tools that go by the time of the content it is an hour old, as the others are.
fn touch_newest(source: &Path) -> io::Result<()> {
    thread::sleep(LATER);
    let mut file = File::create(source.join("newest"))?;
    file.write_all(b"1")?;
    file.set_modified(tree::hour_ago())
}

/// Returns the packed versions in a folder, oldest first.
fn packed_versions(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut versions = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let version = name.strip_prefix("typescript-").and_then(|name| name.strip_suffix(".tgz"));
        let Some(version) = version else { continue };
        let numbers: Vec<u64> = version.split('.').flat_map(str::parse).collect();
        versions.push((numbers, path));
    }
    versions.sort();
    Ok(versions.into_iter().map(|(_, path)| path).collect())
}

/// Unpacks as npm does, which leaves the archive's times alone: they are the same in all.
fn unpack(packed: &Path, folder: &Path) -> io::Result<()> {
    let mut command = Command::new("tar");
    command.args(["-x", "-z", "-m", "--no-same-owner", "--strip-components=1", "-f"]);
    system(command.arg(packed).arg("-C").arg(folder))
}

fn system(command: &mut Command) -> io::Result<()> {
    let status = command.status()?;
    if status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("{command:?} failed: {status}")))
}
