//! What actors do beside backups, restores, forgets and prunes, and what it must come to.

use crate::concurrency::actors::Ended;
use crate::concurrency::actors::free;
use crate::concurrency::world::World;
use crate::concurrency::world::dataset;
use crate::support::world::CHEAP;
use icecore::base::error::Error;
use icecore::base::error::ErrorKind;
use icecore::base::error::Result;
use icecore::base::secret::Secret;
use icecore::base::time::Timestamp;
use icecore::engine::Context;
use icecore::engine::check;
use icecore::engine::check::CheckOptions;
use icecore::engine::copy;
use icecore::engine::copy::CopyOptions;
use icecore::engine::copy::CopyReport;
use icecore::engine::copy::Wanted;
use icecore::engine::parity;
use icecore::engine::repair;
use icecore::engine::repair::RepairOptions;
use icecore::repository::Repository;

/// Labels of the backups that another repository holds, by number.
pub(super) const ELSEWHERE: [&str; 2] = ["third", "bare"];

/// Prunes as somebody does who comes again when he was told to wait.
pub(super) fn prune_twice(repository: &Repository, context: &Context<'_>) -> Result<Ended> {
    match free(repository, 0.0, context)? {
        Ended::MadeWay => free(repository, 0.0, context),
        ended => Ok(ended),
    }
}

/// Checks everything: whoever else is at work, there is no damage.
pub(super) fn check_all(repository: &Repository, context: &Context<'_>) -> Result<Ended> {
    let options = CheckOptions { read_data: Some(100.0), ..CheckOptions::default() };
    let report = check::run(repository, &options, context)?;
    if report.is_ok() {
        return Ok(Ended::Done);
    }
    Err(Error::bug(format!("a check finds {:?}", report.findings)))
}

/// Repairs: whoever else is at work, nothing is lost.
pub(super) fn repair_all(repository: &Repository, context: &Context<'_>) -> Result<Ended> {
    let options = RepairOptions { read_packs: true, ..RepairOptions::default() };
    let plan = repair::plan(repository, &options, context)?;
    if !plan.lost.is_empty() || !plan.unrepaired.is_empty() || plan.refused.is_some() {
        return Err(Error::bug(format!("a repair finds {plan:?}")));
    }
    repair::execute(repository, plan, context)?;
    Ok(Ended::Done)
}

pub(super) fn add_parity(repository: &Repository, context: &Context<'_>) -> Result<Ended> {
    let report = parity::add(repository, 20, context)?;
    match report.failed.first() {
        None => Ok(Ended::Done),
        Some((pack, why)) => Err(Error::bug(format!("no parity of {}: {why}", pack.short()))),
    }
}

fn all_of(repository: &Repository) -> Result<[Wanted; 1]> {
    Ok([Wanted { dataset: repository.dataset(&dataset(""))?, numbers: None }])
}

/// Says what is wrong with a copy, if it is more than that something was forgotten meanwhile.
fn judge(report: &mut CopyReport) -> Result<()> {
    for one in &mut report.datasets {
        if let Some(error) = one.error.take() {
            return Err(error);
        }
        let is_forgotten = |message: &str| message.contains("forgotten just now");
        if let Some(failure) = one.failures.iter().find(|it| !is_forgotten(&it.message)) {
            return Err(Error::bug(format!("not copied: {}", failure.message)));
        }
    }
    Ok(())
}

/// Copies into another repository: what arrives there is whole.
pub(super) fn copy_out(
    repository: &Repository,
    world: &World,
    context: &Context<'_>,
) -> Result<Ended> {
    let wanted = all_of(repository)?;
    let elsewhere = world.new_elsewhere(context.clock.now());
    let mut report = copy::run(repository, &elsewhere, &wanted, &CopyOptions::default(), context)?;
    judge(&mut report)?;
    let is_any = report.datasets.iter().any(|one| !one.copied.is_empty());
    match world.view(&elsewhere) {
        Ok(_) => Ok(if is_any { Ended::Done } else { Ended::Gone }),
        Err(what) => Err(Error::bug(format!("the copy: {what}"))),
    }
}

/// Copies the backups of another repository on top of what is there.
pub(super) fn copy_in(
    repository: &Repository,
    world: &World,
    context: &Context<'_>,
) -> Result<Ended> {
    let elsewhere = world.elsewhere();
    let wanted = all_of(&elsewhere)?;
    let mut report = copy::run(&elsewhere, repository, &wanted, &CopyOptions::default(), context)?;
    judge(&mut report)?;
    let copied = report.datasets.iter().flat_map(|one| &one.copied);
    let stored = copied.map(|one| (one.to.0, ELSEWHERE[one.from.0 as usize]));
    Ok(Ended::Stored(stored.collect()))
}

/// Puts a password in the place of another, or just takes one away.
pub(super) fn change_keys(
    repository: &Repository,
    world: &World,
    add: Option<&str>,
    slot: usize,
) -> Result<Ended> {
    if let Some(password) = add {
        let password = Secret::new(password.as_bytes().to_vec());
        repository.add_key(&password, CHEAP, "", Timestamp::new(1_900_000_000, 0))?;
    }
    match repository.remove_key(&world.slots[slot].to_string()) {
        Ok(_) => Ok(Ended::Done),
        // It is the last one, the other is going, or somebody was quicker.
        Err(e) if is_refusal(e.kind()) => Ok(Ended::MadeWay),
        Err(e) => Err(e),
    }
}

fn is_refusal(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::InvalidInput | ErrorKind::Busy | ErrorKind::NotFound)
}
