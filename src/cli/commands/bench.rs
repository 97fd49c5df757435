//! `icecore bench`.

use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::size;
use crate::cli::exit::Exit;
use crate::cli::session::Session;
use crate::cli::signals;
use crate::cli::table::Side;
use crate::cli::table::Table;
use crate::cli::text;
use crate::engine::bench;
use crate::engine::bench::BenchOptions;
use crate::engine::bench::Measured;
use clap::Args;
use serde::Serialize;
use std::path::PathBuf;

/// Measure this machine: hash, chunk, compress, cipher, backup and restore
///
/// Each step runs on made-up data, on one thread and on all. Then a folder is backed up, backed
/// up again without a change, and restored, all in a temporary folder that is removed at the
/// end: FOLDER, or made-up files. The temporary repository is encrypted.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  icecore bench
  icecore bench ~/photos --dir /mnt/disk")]
pub(crate) struct BenchArgs {
    /// Folder to back up and restore [default: made-up files]
    #[arg(value_name = "FOLDER", conflicts_with_all = ["files", "size"])]
    folder: Option<PathBuf>,

    /// Make repository and restored files below DIR [default: the system's temporary folder]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,

    /// Run each step for N seconds
    #[arg(long, value_name = "N", default_value_t = 1.0)]
    seconds: f64,

    /// Make N files up
    #[arg(long, value_name = "N", default_value_t = BenchOptions::default().files)]
    files: u64,

    /// Make SIZE bytes up
    #[arg(long, value_name = "SIZE", default_value = "256M", value_parser = size::parse_bytes)]
    size: u64,
}

#[derive(Serialize)]
struct Row<'a> {
    name: &'a str,
    threads: usize,
    bytes: u64,
    files: Option<u64>,
    stored_bytes: Option<u64>,
    seconds: f64,
    bytes_per_second: u64,
    files_per_second: Option<u64>,
}

pub(crate) fn run(args: &BenchArgs, session: &mut Session) -> Result<Exit> {
    if !(args.seconds > 0.0 && args.seconds <= 3_600.0) {
        return Err(Error::invalid("--seconds is more than nothing and at most an hour"));
    }
    let options = BenchOptions { seconds: args.seconds, files: args.files, bytes: args.size };
    let place = args.dir.clone().unwrap_or_else(std::env::temp_dir);
    signals::install(&session.cancel)?;
    let folder = args.folder.as_deref();
    let measured = session.work(|context| bench::run(folder, &place, &options, context))?;
    if session.output.is_json() {
        let rows: Vec<Row<'_>> = measured.iter().map(row).collect();
        session.output.document(&rows)?;
    } else {
        print(&measured, session)?;
    }
    Ok(Exit::Done)
}

/// Returns so many a second; what took no time that can be told gives nothing.
fn rate(amount: u64, seconds: f64) -> u64 {
    if seconds > 0.0 { (amount as f64 / seconds) as u64 } else { 0 }
}

fn row(measured: &Measured) -> Row<'_> {
    Row {
        name: &measured.name,
        threads: measured.threads,
        bytes: measured.bytes,
        files: measured.files,
        stored_bytes: measured.stored_bytes,
        seconds: measured.seconds,
        bytes_per_second: rate(measured.bytes, measured.seconds),
        files_per_second: measured.files.map(|files| rate(files, measured.seconds)),
    }
}

fn print(measured: &[Measured], session: &mut Session) -> Result<()> {
    let mut table = Table::new(&[
        ("WHAT", Side::Left),
        ("THREADS", Side::Right),
        ("MB/S", Side::Right),
        ("FILES/S", Side::Right),
        ("BYTES", Side::Right),
        ("STORED", Side::Right),
        ("TIME", Side::Right),
    ]);
    for row in measured.iter().map(row) {
        let megabytes = row.bytes_per_second as f64 / 1e6;
        table.row(vec![
            row.name.to_owned(),
            row.threads.to_string(),
            format!("{megabytes:.0}"),
            row.files_per_second.map_or("-".to_owned(), text::count),
            text::bytes(row.bytes),
            row.stored_bytes.map_or("-".to_owned(), text::bytes),
            format!("{:.2} s", row.seconds),
        ]);
    }
    table.print(&mut session.output)
}
