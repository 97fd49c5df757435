//! The rows: what is made at each size, and every command that is run over it.

use crate::Bench;
use crate::support;
use crate::support::Numbers;
use crate::support::environment;
use crate::support::tree;
use std::fs;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::MetadataExt;

/// The endless file is made shorter where it would take longer than this.
const ENDLESS_SECONDS_MAX: f64 = 1200.0;
const ENDLESS_SHORT_BYTES: u64 = 64 << 30;
/// Data in the sparse file: stretches of so many bytes, far apart.
const SPARSE_STRETCHES: u64 = 64;
const SPARSE_STRETCH_BYTES: usize = 1 << 20;

/// A row and its size.
type Data = (&'static str, u64);

/// Runs every command that only looks, over a dataset of two versions or more and a file in it.
fn look(bench: &mut Bench, data: Data, dataset: &str, file: &str) -> io::Result<()> {
    let (first, latest) = (&*format!("{dataset}@0"), &*format!("{dataset}@latest"));
    let looks: [(&'static str, &[&str]); 12] = [
        ("list", &["list", dataset]),
        ("show --changes", &["show", latest, "--changes"]),
        ("ls -R", &["ls", "-R", first]),
        ("find", &["find", "called-by-no-name"]),
        ("diff", &["diff", first, latest]),
        ("cat", &["cat", &format!("{first}:{file}")]),
        ("restore --dry-run", &["restore", first, "not-made", "--dry-run"]),
        ("stats", &["stats"]),
        ("check", &["check"]),
        ("repair --dry-run", &["repair", "--dry-run"]),
        ("prune --dry-run", &["prune", "--dry-run"]),
        ("parity status", &["parity", "status"]),
    ];
    looks.iter().try_for_each(|(operation, arguments)| bench.icecore(data, operation, arguments))
}

/// Runs the commands that read all of the content, but for a restore.
fn read(bench: &mut Bench, data: Data, dataset: &str) -> io::Result<()> {
    bench.icecore(data, "check --read-data", &["check", "--read-data"])?;
    bench.icecore(data, "export", &["export", dataset])?;
    bench.icecore(data, "init", &["-r", "copy", "init"])?;
    bench.icecore(data, "copy", &["copy", "--to", "copy"])?;
    bench.icecore(data, "copy, nothing new", &["copy", "--to", "copy"])?;
    fs::remove_dir_all(bench.work.join("copy"))?;
    bench.icecore(data, "parity add", &["parity", "add"])
}

/// Lets all versions but the newest go, and looks whether what is left is whole.
fn let_go(bench: &mut Bench, data: Data, dataset: &str) -> io::Result<()> {
    bench.icecore(data, "forget", &["forget", dataset, "--keep-last", "1"])?;
    bench.icecore(data, "prune", &["prune"])?;
    bench.icecore(data, "check after it", &["check"])
}

/// Real files of 1 KiB.
pub(crate) fn files(bench: &mut Bench, row: &'static str, count: u64) -> io::Result<()> {
    let data = (row, count);
    let source = bench.work.join("source");
    let mut numbers = Numbers::new(1);
    let mut bytes = Vec::new();
    for n in 0..count {
        let folder = source.join(format!("{:04}", n / 500));
        if n.is_multiple_of(500) {
            fs::create_dir_all(&folder)?;
        }
        bytes.clear();
        support::text(&mut numbers, 1024, &mut bytes);
        fs::write(folder.join(format!("{n:07}")), &bytes)?;
    }
    tree::age(&source)?;
    bench.icecore(data, "first backup", &["backup", "source"])?;
    bench.icecore(data, "unchanged", &["backup", "source"])?;
    bench.icecore(data, "restore", &["restore", "source", "out"])?;
    tree::compare(&source, &bench.work.join("out"), true)?;
    bench.icecore(
        data,
        "restore over it",
        &["restore", "source", "out", "--overwrite=if-changed"],
    )?;
    fs::remove_dir_all(bench.work.join("out"))?;
    // Half of them change, and only the second backup is kept.
    for n in (0..count).step_by(2) {
        fs::write(source.join(format!("{:04}/{n:07}", n / 500)), n.to_string().repeat(100))?;
    }
    bench.icecore(data, "half changed", &["backup", "source"])?;
    look(bench, data, "source", "0000/0000001")?;
    read(bench, data, "source")?;
    let_go(bench, data, "source")
}

/// Files that are made while they are looked at.
pub(crate) fn entries(bench: &mut Bench, row: &'static str, count: u64) -> io::Result<()> {
    let data = (row, count);
    bench.step(data, "first backup", "entries")?;
    bench.step(data, "unchanged", "entries")?;
    bench.step(data, "half gone", "entries-half")?;
    look(bench, data, "virtual", "000000/001")?;
    read(bench, data, "virtual@0")?;
    let_go(bench, data, "virtual")
}

pub(crate) fn names(bench: &mut Bench, row: &'static str, count: u64) -> io::Result<()> {
    bench.step((row, count), "build", "names-build")?;
    bench.step((row, count), "look up", "names-look")
}

/// Goes through the data of the sparse file, and where each stretch is.
fn stretches(bytes: u64, mut visit: impl FnMut(&[u8], u64) -> io::Result<()>) -> io::Result<()> {
    let mut numbers = Numbers::new(3);
    for n in 0..SPARSE_STRETCHES {
        let mut stretch = Vec::new();
        support::text(&mut numbers, SPARSE_STRETCH_BYTES, &mut stretch);
        let offset = bytes / SPARSE_STRETCHES * n;
        visit(&stretch, offset - offset % 4096)?;
    }
    Ok(())
}

/// A file that is nearly all hole.
pub(crate) fn sparse(bench: &mut Bench, row: &'static str, bytes: u64) -> io::Result<()> {
    let data = (row, bytes);
    fs::create_dir_all(bench.work.join("source"))?;
    let file = File::create(bench.work.join("source/sparse"))?;
    file.set_len(bytes)?;
    stretches(bytes, |stretch, offset| file.write_all_at(stretch, offset))?;
    drop(file);
    tree::age(&bench.work.join("source"))?;
    bench.icecore(data, "first backup", &["backup", "source"])?;
    bench.icecore(data, "unchanged", &["backup", "source"])?;
    bench.icecore(data, "restore", &["restore", "source", "out"])?;
    let file = File::open(bench.work.join("out/sparse"))?;
    let mut came = vec![0; SPARSE_STRETCH_BYTES];
    stretches(bytes, |stretch, offset| {
        file.read_exact_at(&mut came, offset)?;
        if came == stretch { Ok(()) } else { Err(io::Error::other("what came back differs")) }
    })?;
    let back = file.metadata()?;
    let is_sparse = back.len() == bytes && back.blocks() * 512 < bytes / 2;
    let verdict = if is_sparse { "" } else { ": OUT OF BOUNDS" };
    bench.note(format!("{} bytes, {} MB allocated{verdict}", back.len(), back.blocks() >> 11));
    bench.icecore(data, "check", &["check", "--read-data"])
}

/// One file that gives the same mebibyte over and over.
pub(crate) fn endless(bench: &mut Bench, row: &'static str, mut bytes: u64) -> io::Result<()> {
    let before =
        bench.lines.iter().rfind(|line| line.row == row && line.operation == "first backup");
    let seconds = before.map_or(0.0, |line| line.peak.seconds * bytes as f64 / line.size as f64);
    let is_cut = seconds > ENDLESS_SECONDS_MAX && bytes > ENDLESS_SHORT_BYTES;
    if is_cut {
        bytes = ENDLESS_SHORT_BYTES;
    }
    let data = (row, bytes);
    bench.step(data, "first backup", "endless")?;
    if is_cut {
        bench.note(format!("cut from what would have taken {seconds:.0} s"));
    }
    bench.step(data, "unchanged", "endless")?;
    bench.icecore(data, "check", &["check"])
}

/// A repository of many packs, made small.
pub(crate) fn packs(bench: &mut Bench, row: &'static str, count: u64) -> io::Result<()> {
    let data = (row, count);
    bench.step(data, "first backup", "packs")?;
    let folders = fs::read_dir(bench.work.join(".local/share/icecore/packs"))?;
    let packs = folders.flatten().filter_map(|folder| fs::read_dir(folder.path()).ok());
    let packs = packs.map(Iterator::count).sum::<usize>() as u64;
    let verdict = if packs < count { ": OUT OF BOUNDS" } else { "" };
    bench.note(format!("{packs} packs{verdict}"));
    bench.step(data, "unchanged", "packs")?;
    bench.step(data, "half gone", "packs-half")?;
    look(bench, data, "virtual", "000000/001")?;
    if environment::flag("SCALE_LONG")? {
        read(bench, data, "virtual@0")?;
    }
    let_go(bench, data, "virtual")
}
