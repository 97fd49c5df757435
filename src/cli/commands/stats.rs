//! `icecore stats`.

use crate::base::error::Result;
use crate::base::time::Timestamp;
use crate::cli::exit::Exit;
use crate::cli::session::Session;
use crate::cli::table::Side;
use crate::cli::table::Table;
use crate::cli::text;
use crate::engine::stats;
use crate::engine::stats::DatasetStats;
use crate::engine::stats::RepositoryStats;
use crate::engine::stats::StoredBytes;
use clap::Args;
use serde::Serialize;

/// Show sizes, deduplication and growth of every dataset
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  icecore stats --json")]
pub(crate) struct StatsArgs {}

#[derive(Serialize)]
struct Document<'a> {
    datasets: Vec<DatasetRow<'a>>,
    packs: u64,
    pack_bytes: u64,
    blocks: u64,
    blobs: u64,
    plain_bytes: u64,
    logical_bytes: u64,
    ratio: Option<f64>,
    compression: Option<f64>,
    stored: StoredRow,
}

/// Bytes of everything in the repository, by what they are for.
#[derive(Serialize)]
struct StoredRow {
    content_bytes: u64,
    metadata_bytes: u64,
    table_bytes: u64,
    packing_bytes: u64,
    index_bytes: u64,
    record_bytes: u64,
    overhead: Option<f64>,
}

#[derive(Serialize)]
struct DatasetRow<'a> {
    dataset: &'a str,
    backups: u64,
    latest: Option<u64>,
    first_time: Option<String>,
    time: Option<String>,
    files: u64,
    bytes: u64,
    logical_bytes: u64,
    new_bytes: u64,
    stored_bytes: u64,
    stored_bytes_per_day: Option<f64>,
    growth_bytes: i64,
}

pub(crate) fn run(_: &StatsArgs, session: &mut Session) -> Result<Exit> {
    let repository = session.open()?;
    let stats = stats::run(&repository)?;
    if session.output.is_json() {
        session.output.document(&document(&stats))?;
    } else {
        print(&stats, session)?;
    }
    Ok(Exit::Done)
}

fn document(stats: &RepositoryStats) -> Document<'_> {
    Document {
        datasets: stats.datasets.iter().map(row).collect(),
        packs: stats.packs,
        pack_bytes: stats.pack_bytes,
        blocks: stats.blocks,
        blobs: stats.blobs,
        plain_bytes: stats.plain_bytes,
        logical_bytes: stats.logical_bytes,
        ratio: stats.ratio(),
        compression: stats.compression(),
        stored: StoredRow {
            content_bytes: stats.stored.content,
            metadata_bytes: stats.stored.metadata,
            table_bytes: stats.stored.tables,
            packing_bytes: stats.stored.packing,
            index_bytes: stats.stored.indexes,
            record_bytes: stats.stored.records,
            overhead: stats.stored.overhead(),
        },
    }
}

fn row(dataset: &DatasetStats) -> DatasetRow<'_> {
    DatasetRow {
        dataset: dataset.name.as_str(),
        backups: dataset.backups,
        latest: dataset.latest.map(|latest| latest.0),
        first_time: dataset.first_time.map(Timestamp::to_rfc3339),
        time: dataset.time.map(Timestamp::to_rfc3339),
        files: dataset.files,
        bytes: dataset.bytes,
        logical_bytes: dataset.logical_bytes,
        new_bytes: dataset.new_bytes,
        stored_bytes: dataset.stored_bytes,
        stored_bytes_per_day: dataset.stored_bytes_per_day,
        growth_bytes: dataset.growth_bytes,
    }
}

fn print(stats: &RepositoryStats, session: &mut Session) -> Result<()> {
    let mut table = Table::new(&[
        ("DATASET", Side::Left),
        ("BACKUPS", Side::Right),
        ("FILES", Side::Right),
        ("SIZE", Side::Right),
        ("GROWN", Side::Right),
        ("ALL BACKUPS", Side::Right),
        ("NEW", Side::Right),
        ("STORED", Side::Right),
        ("A DAY", Side::Right),
    ]);
    for dataset in &stats.datasets {
        let sign = if dataset.growth_bytes < 0 { "-" } else { "+" };
        let growth = text::bytes(dataset.growth_bytes.unsigned_abs());
        table.row(vec![
            dataset.name.to_string(),
            text::count(dataset.backups),
            text::count(dataset.files),
            text::bytes(dataset.bytes),
            format!("{sign}{growth}"),
            text::bytes(dataset.logical_bytes),
            text::bytes(dataset.new_bytes),
            text::bytes(dataset.stored_bytes),
            dataset.stored_bytes_per_day.map_or("-".to_owned(), |day| text::bytes(day as u64)),
        ]);
    }
    if !stats.datasets.is_empty() {
        table.print(&mut session.output)?;
    }
    let ratio = |name: &str, ratio: Option<f64>| match ratio {
        Some(ratio) => format!(", {name} {ratio:.1} : 1"),
        None => String::new(),
    };
    session.output.line(&format!(
        "{} ({}) with {}, {} of {}{}{}",
        text::plural(stats.packs, "pack", "packs"),
        text::bytes(stats.pack_bytes),
        text::plural(stats.blocks, "block", "blocks"),
        text::plural(stats.blobs, "blob", "blobs"),
        text::bytes(stats.plain_bytes),
        ratio("compression", stats.compression()),
        ratio("all backups against packs", stats.ratio()),
    ))?;
    let StoredBytes { content, metadata, tables, packing, indexes, records } = stats.stored;
    let Some(overhead) = stats.stored.overhead() else { return Ok(()) };
    session.output.line(&format!(
        "stored: content {}, manifests {}, names of blobs {}, packing {}, pack index {}, \
         records {}; {:.2} % is not content",
        text::bytes(content),
        text::bytes(metadata),
        text::bytes(tables),
        text::bytes(packing),
        text::bytes(indexes),
        text::bytes(records),
        overhead * 100.0,
    ))
}
