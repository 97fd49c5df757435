//! `icecore config`.

use crate::base::error::Result;
use crate::cli::exit::Exit;
use crate::cli::session::Session;
use crate::cli::table::Side;
use crate::cli::table::Table;
use crate::config::effective::Whence;
use crate::config::show::Row;
use crate::config::show::Value;
use clap::Args;
use clap::Subcommand;
use serde::Serialize;

/// Show what flags, environment and config file come to
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  icecore config show
  icecore --profile work config show --json")]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Show every value that counts, and where it comes from
    ///
    /// A flag counts before the environment, that before the profile, that before the profiles
    /// it uses, they before the rest of the file, and that before the default. Secrets are
    /// shown as `(set)`.
    #[command(after_help = "Example:\n  icecore config show")]
    Show,
}

#[derive(Serialize)]
struct Document<'a> {
    key: &'a str,
    value: &'a Value,
    source: &'static str,
    from: String,
    line: Option<usize>,
}

pub(crate) fn run(args: &ConfigArgs, session: &mut Session) -> Result<Exit> {
    let ConfigCommand::Show = args.command;
    let rows = session.config.rows();
    if session.output.is_json() {
        let documents: Vec<Document<'_>> = rows.iter().map(|row| document(row, session)).collect();
        session.output.document(&documents)?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&[("KEY", Side::Left), ("VALUE", Side::Left), ("FROM", Side::Left)]);
    for row in &rows {
        table.row(vec![row.key.clone(), shown(&row.value), session.config.source_of(row)]);
    }
    table.print(&mut session.output)?;
    Ok(Exit::Done)
}

fn document<'a>(row: &'a Row, session: &Session) -> Document<'a> {
    let (source, line) = match row.from {
        Whence::Flag(_) => ("flag", None),
        Whence::Variable(_) => ("environment", None),
        Whence::Line(line) => ("file", Some(line)),
        Whence::Default => ("default", None),
    };
    let from = session.config.source_of(row);
    Document { key: &row.key, value: &row.value, source, from, line }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Unset => "-".to_owned(),
        Value::Switch(is_on) => if *is_on { "yes" } else { "no" }.to_owned(),
        Value::Number(number) => number.to_string(),
        Value::Text(text) => text.clone(),
        Value::List(texts) if texts.is_empty() => "-".to_owned(),
        Value::List(texts) => texts.join(", "),
    }
}
