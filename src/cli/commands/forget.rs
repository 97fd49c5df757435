//! `icecore forget`.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::id::BackupId;
use crate::base::time::local_offset;
use crate::cli::commands::prune;
use crate::cli::exit::Exit;
use crate::cli::fields::ErrorFields;
use crate::cli::output;
use crate::cli::session::Session;
use crate::cli::table::Side;
use crate::cli::table::Table;
use crate::cli::text;
use crate::engine::forget;
use crate::engine::forget::Plan;
use crate::engine::forget::Selection;
use crate::engine::prune::PruneReport;
use crate::engine::retention::Amount;
use crate::engine::retention::Rules;
use crate::engine::retention::Span;
use crate::format::dataset::DatasetName;
use crate::repository::Repository;
use crate::repository::datasets::Dataset;
use clap::Args;
use serde::Serialize;
use std::collections::HashMap;

/// Let backups go, by rule or by number
///
/// Rules add up: a backup is kept when one of them keeps it, and the newest one is always kept.
/// --keep-daily 7 keeps the newest backup of each of the last 7 days that have one, in local
/// time, and so on. What is forgotten is no longer listed, restored or built upon; the space it
/// takes is freed by `icecore prune`, or at once with --prune.
///
/// Without a rule those of the config file count, [backup.datasets.DATASET.retention]; with --all
/// each dataset's own, and one that has none there loses nothing. Typed rules replace them.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  icecore forget photos --keep-daily 7 --keep-weekly 4 --keep-yearly all --dry-run
  icecore forget --all --keep-within 30d --keep-tag release
  icecore forget --all --dry-run
  icecore forget photos --keep-daily 7 --prune
  icecore forget photos --backup 3 4")]
pub(crate) struct ForgetArgs {
    /// Dataset whose backups to go through
    #[arg(value_name = "DATASET", conflicts_with = "all")]
    dataset: Option<DatasetName>,

    /// Go through every dataset; what fails for one does not stop the others
    #[arg(long, conflicts_with = "backups")]
    all: bool,

    /// Forget these backups: 3, backup_3 or DATASET@3
    #[arg(
        long = "backup",
        value_name = "N",
        num_args = 1..,
        value_delimiter = ',',
        conflicts_with_all = [
            "keep_last", "keep_hourly", "keep_daily", "keep_weekly", "keep_monthly",
            "keep_yearly", "keep_within", "keep_tags",
        ]
    )]
    backups: Vec<String>,

    /// Show what would be forgotten and why the rest is kept, and forget nothing
    #[arg(short = 'n', long)]
    dry_run: bool,

    /// Free the space afterwards, as `icecore prune` does
    #[arg(long, conflicts_with = "dry_run")]
    prune: bool,

    // Last, as its heading would stand above whatever follows.
    #[command(flatten)]
    rules: RulesArgs,
}

/// What to keep.
#[derive(Debug, Args)]
#[command(next_help_heading = "What is kept (N is a number from 1 up, or `all`)")]
struct RulesArgs {
    /// Keep the newest N backups
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    keep_last: Option<Amount>,

    /// Keep one backup of each of the last N hours that have one
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    keep_hourly: Option<Amount>,

    /// Keep one backup of each of the last N days that have one
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    keep_daily: Option<Amount>,

    /// Keep one backup of each of the last N weeks that have one
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    keep_weekly: Option<Amount>,

    /// Keep one backup of each of the last N months that have one
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    keep_monthly: Option<Amount>,

    /// Keep one backup of each of the last N years that have one
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    keep_yearly: Option<Amount>,

    /// Keep what is no older than the newest backup by more than DURATION: 36h, 30d, 8w, 2y
    #[arg(long, value_name = "DURATION", allow_negative_numbers = true)]
    keep_within: Option<Span>,

    /// Keep backups with this tag; may be repeated
    #[arg(long = "keep-tag", value_name = "TAG")]
    keep_tags: Vec<String>,
}

#[derive(Serialize)]
struct Document<'a> {
    datasets: Vec<Row<'a>>,
    dry_run: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    prune: Option<prune::Document>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Row<'a> {
    Done { dataset: &'a str, kept: Vec<Kept<'a>>, forgotten: Vec<Forgotten> },
    Failed { dataset: &'a str, error: ErrorFields },
}

#[derive(Serialize)]
struct Kept<'a> {
    backup: u64,
    /// Null where its header cannot be read.
    time: Option<String>,
    reasons: &'a [String],
}

#[derive(Serialize)]
struct Forgotten {
    backup: u64,
    /// Null where its header cannot be read.
    time: Option<String>,
}

/// Who says what is let go.
enum Choice {
    /// The command line.
    Typed(Selection),
    /// The config file, for each dataset.
    Configured,
}

/// One dataset, and what came of it.
struct Outcome {
    dataset: DatasetName,
    done: Result<Plan>,
}

pub(crate) fn run(args: &ForgetArgs, session: &mut Session) -> Result<Exit> {
    let choice = args.choice(session)?;
    let repository = session.open()?;
    let outcomes = forget_each(args, &choice, &repository, session)?;
    // What was let go in one dataset is freed, whatever failed in another.
    let pruned = if args.prune { Some(prune::usual(&repository, session)?) } else { None };
    finish(args, outcomes, pruned.as_ref(), session)
}

/// Forgets in one dataset after the other; only an interruption ends it early.
fn forget_each(
    args: &ForgetArgs,
    choice: &Choice,
    repository: &Repository,
    session: &mut Session,
) -> Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    let datasets = args.datasets(repository)?;
    let is_any = !datasets.is_empty();
    for (dataset, other) in datasets {
        let selection = choice.of(dataset.name(), session);
        if let Some(other) = other.filter(|other| choice.of(other, session) != selection) {
            let error = two_names(dataset.name(), &other);
            output::tell(&error);
            outcomes.push(Outcome { dataset: dataset.name().clone(), done: Err(error) });
            continue;
        }
        let Some(selection) = selection else {
            let name = dataset.name();
            session
                .output
                .note(&format!("{name}: no rule says what to keep, so all of it is kept"));
            continue;
        };
        let done = forget_in(&dataset, &selection, args.dry_run, session);
        if done.as_ref().is_err_and(|e| e.kind() == ErrorKind::Cancelled) {
            return Err(Error::cancelled());
        }
        if let Ok(plan) = &done
            && !session.output.is_json()
        {
            say(plan, args, session)?;
        }
        if let Err(e) = &done
            && args.all
        {
            output::tell(e);
        }
        outcomes.push(Outcome { dataset: dataset.name().clone(), done });
    }
    if outcomes.is_empty() && is_any {
        return Err(no_rule("NAME"));
    }
    Ok(outcomes)
}

/// Which of the rules are meant is for a person to say.
fn two_names(name: &DatasetName, other: &DatasetName) -> Error {
    let message = format!(
        "{name} and {other} are one dataset, as a rename was interrupted, and each has its own \
         rules; nothing of it was forgotten"
    );
    Error::invalid(message).hint(format!(
        "`icecore rename {name} {other}` leaves {other}, `icecore rename {other} {name}` leaves \
         {name}"
    ))
}

fn no_rule(dataset: &str) -> Error {
    Error::invalid("no rule says what to keep, and no backup is named").hint(format!(
        "say for example --keep-daily 7 --keep-weekly 4, or --backup 3; or write rules into the \
         config file: [backup.datasets.{dataset}.retention] with keep-daily = 7"
    ))
}

fn forget_in(
    dataset: &Dataset,
    selection: &Selection,
    dry_run: bool,
    session: &Session,
) -> Result<Plan> {
    session.work(|context| {
        let plan = forget::plan(dataset, selection, &local_offset, context)?;
        if !dry_run {
            forget::execute(&plan, context)?;
        }
        Ok(plan)
    })
}

/// Prints the document, and returns the first of what went wrong.
fn finish(
    args: &ForgetArgs,
    outcomes: Vec<Outcome>,
    pruned: Option<&PruneReport>,
    session: &mut Session,
) -> Result<Exit> {
    if let Some(report) = pruned
        && !session.output.is_json()
    {
        prune::say(report, false, session)?;
    }
    let failed = outcomes.iter().find_map(|outcome| outcome.done.as_ref().err());
    let is_whole = pruned.is_none_or(|report| report.stuck.is_empty());
    let exit = failed.map_or(Exit::of(is_whole), |e| Exit::Failed(e.kind()));
    // The error of the one dataset that was named is the answer.
    let is_answered = args.all || failed.is_none();
    if session.output.is_json() && is_answered {
        let datasets = outcomes.iter().map(row).collect();
        let prune = pruned.map(|report| prune::document(report, false));
        session.output.document(&Document { datasets, dry_run: args.dry_run, prune })?;
    }
    match outcomes.into_iter().find_map(|outcome| outcome.done.err()) {
        Some(e) if !is_answered => Err(e),
        _ => Ok(exit),
    }
}

fn row(outcome: &Outcome) -> Row<'_> {
    let dataset = outcome.dataset.as_str();
    let plan = match &outcome.done {
        Ok(plan) => plan,
        Err(e) => return Row::Failed { dataset, error: ErrorFields::new(e) },
    };
    let kept = plan.kept().map(|it| Kept {
        backup: it.number.0,
        time: it.time.map(|time| time.to_rfc3339()),
        reasons: &it.reasons,
    });
    let forgotten = plan
        .forgotten()
        .map(|it| Forgotten { backup: it.number.0, time: it.time.map(|time| time.to_rfc3339()) });
    Row::Done { dataset, kept: kept.collect(), forgotten: forgotten.collect() }
}

fn say(plan: &Plan, args: &ForgetArgs, session: &mut Session) -> Result<()> {
    let mut table = Table::new(&[
        ("BACKUP", Side::Right),
        ("TIME", Side::Left),
        ("STATE", Side::Left),
        ("WHY", Side::Left),
    ]);
    for verdict in plan.verdicts() {
        table.row(vec![
            verdict.number.0.to_string(),
            verdict.time.map_or("cannot be read".to_owned(), |time| time.to_local_text()),
            if verdict.is_kept() { "kept" } else { "forgotten" }.to_owned(),
            verdict.reasons.join(", "),
        ]);
    }
    if !plan.verdicts().is_empty() {
        table.print(&mut session.output)?;
    }
    let kept = text::count(plan.kept().count() as u64);
    let forgotten = text::count(plan.forgotten().count() as u64);
    let dry = if args.dry_run { " (dry run: nothing was forgotten)" } else { "" };
    let name = plan.dataset().name();
    session.output.sentence(&format!("{name}: {forgotten} forgotten, {kept} kept{dry}"))
}

impl Choice {
    fn of(&self, dataset: &DatasetName, session: &Session) -> Option<Selection> {
        match self {
            Choice::Typed(selection) => Some(selection.clone()),
            Choice::Configured => session.config.retention(dataset).map(Selection::Unless),
        }
    }
}

impl ForgetArgs {
    fn choice(&self, session: &Session) -> Result<Choice> {
        if self.dataset.is_none() && !self.all {
            return Err(Error::invalid("no dataset is named")
                .hint("name a DATASET, or go through all of them with --all"));
        }
        if !self.backups.is_empty() {
            let numbers = self.backups.iter().map(|text| self.number(text));
            return numbers.collect::<Result<_>>().map(|it| Choice::Typed(Selection::Numbers(it)));
        }
        let rules = self.rules.rules();
        if rules != Rules::default() {
            return Ok(Choice::Typed(Selection::Unless(rules)));
        }
        match &self.dataset {
            Some(name) if session.config.retention(name).is_none() => Err(no_rule(name.as_str())),
            None if !session.config.has_retention() => Err(no_rule("NAME")),
            _ => Ok(Choice::Configured),
        }
    }

    fn number(&self, text: &str) -> Result<BackupId> {
        let Some((dataset, number)) = text.split_once('@') else { return text.parse() };
        if self.dataset.as_ref().is_none_or(|name| name.as_str() != dataset) {
            return Err(Error::invalid(format!("{text} is of another dataset"))
                .hint("forget backups of one dataset at a time"));
        }
        number.parse()
    }

    /// The datasets, each with the other name that an interrupted rename shows it under.
    fn datasets(&self, repository: &Repository) -> Result<Vec<(Dataset, Option<DatasetName>)>> {
        let Some(name) = &self.dataset else {
            let mut found: Vec<(Dataset, Option<DatasetName>)> = Vec::new();
            let mut places = HashMap::new();
            for dataset in repository.datasets()? {
                let at = *places.entry(dataset.id()).or_insert(found.len());
                match found.get_mut(at) {
                    Some((_, other)) => *other = Some(dataset.name().clone()),
                    None => found.push((dataset, None)),
                }
            }
            return Ok(found);
        };
        Ok(vec![(repository.dataset(name)?, None)])
    }
}

impl RulesArgs {
    fn rules(&self) -> Rules {
        Rules {
            last: self.keep_last,
            hourly: self.keep_hourly,
            daily: self.keep_daily,
            weekly: self.keep_weekly,
            monthly: self.keep_monthly,
            yearly: self.keep_yearly,
            within: self.keep_within,
            tags: self.keep_tags.clone(),
        }
    }
}
