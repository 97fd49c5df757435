//! Plans cures for what a check finds damaged, then performs them; it never makes things worse.
//!
//! ```text
//! look     what check looks at; packs that look bad, and packs no index names, are read   [look]
//! plan     packs, indexes, places                                                     [content]
//!          numbers, tags, floors, leases, tombstones                                   [small]
//!          names of datasets                                                           [names]
//! execute  new indexes -> copies of what is good or healed in bad packs -> places declared lost
//!          -> tombstones -> numbers, tags, floors, names -> what is left over        [execute]
//! ```
//!
//! Only new objects are put, and tombstones; what they name goes with the next prune, which
//! copies what still turns out to be needed. A kill at any moment leaves copies too many, never
//! too few, and the next repair goes on. Deleted are only small objects that cannot be read and
//! whose absence means as much: beats, records of lost places, damaged parity, marks on passwords
//! (another takes their place), and, when a person says that nobody else is at work (`force`),
//! tombstones and leases. Packs that are gone are not
//! doomed: should they come back, the next repair takes them in again. A pack that parity heals is
//! not written over, as no object is: what backups need of it goes into a new pack, out of healed
//! bytes that have the name of the damaged one.

mod content;
mod execute;
mod judge;
mod look;
mod names;
mod small;

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::engine::Context;
use crate::engine::check::CheckOptions;
use crate::engine::check::Finding;
use crate::engine::check::Run;
use crate::engine::check::traces;
use crate::engine::repair::content::Content;
use crate::engine::repair::small::Small;
use crate::repository::Repository;
use crate::repository::lease::Lease;
use std::sync::atomic::AtomicU64;

/// How deep a repair looks, and what it may assume.
#[derive(Clone, Debug, Default)]
pub struct RepairOptions {
    /// Read every pack; without, only those that look damaged are read.
    pub read_packs: bool,
    /// Decode every block of every pack.
    pub read_data: bool,
    /// Nobody else is at work on the repository, and what is missing is gone for good.
    pub force: bool,
}

/// What is done about something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ActionKind {
    /// A pack that backups need is named by a new pack index.
    Index,
    /// A pack index is replaced by one that is right, and doomed.
    ReplaceIndex,
    /// A bad pack is healed by its parity, and what backups need of it is copied to a new one.
    Heal,
    /// What is good in a bad pack is copied to a new one.
    Salvage,
    /// An object is named by a tombstone; the next prune deletes it.
    Doom,
    /// Places that no copy can give are declared lost, so that the next backup stores them anew.
    DeclareLost,
    /// A number that is missing is taken by a void.
    Void,
    /// Tags that cannot be read are replaced by those before.
    Tags,
    /// A floor that cannot be read is replaced by a higher one.
    Floor,
    /// A dataset that no name leads to gets a name.
    Name,
    /// A small object that cannot be read, or that nobody needs any more, is deleted.
    Remove,
}

impl ActionKind {
    /// Returns the word for people and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            ActionKind::Index => "index",
            ActionKind::ReplaceIndex => "replace-index",
            ActionKind::Heal => "heal",
            ActionKind::Salvage => "salvage",
            ActionKind::Doom => "doom",
            ActionKind::DeclareLost => "declare-lost",
            ActionKind::Void => "void",
            ActionKind::Tags => "tags",
            ActionKind::Floor => "floor",
            ActionKind::Name => "name",
            ActionKind::Remove => "remove",
        }
    }
}

/// One thing that is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// What.
    pub kind: ActionKind,
    /// To which object.
    pub object: String,
    /// Why, and what suffers.
    pub message: String,
}

impl Action {
    fn new(kind: ActionKind, object: impl Into<String>, message: impl Into<String>) -> Self {
        Action { kind, object: object.into(), message: message.into() }
    }
}

/// A backup that has lost something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The backup, as `photos@3`.
    pub backup: String,
    /// The first paths that cannot be restored from it.
    pub paths: Vec<String>,
}

/// What a repair would do. It can be printed, and executed.
#[derive(Debug, Default)]
pub struct RepairPlan {
    /// What is done, in order.
    pub actions: Vec<Action>,
    /// Who suffers by places that are declared lost.
    pub lost: Vec<Loss>,
    /// Damage that this repair cannot cure.
    pub unrepaired: Vec<Finding>,
    /// Why it is not executed without `force`.
    pub refused: Option<String>,
    content: Content,
    small: Small,
}

impl RepairPlan {
    /// Says whether nothing is wrong.
    fn is_empty(&self) -> bool {
        let is_whole = self.lost.is_empty() && self.unrepaired.is_empty();
        is_whole && self.actions.is_empty() && self.refused.is_none()
    }
}

/// What a repair has done.
#[derive(Clone, Debug)]
pub struct RepairReport {
    /// What was done, in order.
    pub actions: Vec<Action>,
    /// Who suffers by places that were declared lost.
    pub lost: Vec<Loss>,
    /// Damage that is left.
    pub unrepaired: Vec<Finding>,
    /// How long it took, in seconds.
    pub seconds: f64,
}

impl RepairReport {
    /// Says whether nothing is damaged any more.
    pub fn is_whole(&self) -> bool {
        self.lost.is_empty() && self.unrepaired.is_empty()
    }
}

/// Looks at a repository and says what can be done about its damage.
///
/// # Errors
/// Those of the backend that concern more than one object; `Busy` while prunes move what looks
/// damaged; `Cancelled`.
pub fn plan(
    repository: &Repository,
    options: &RepairOptions,
    context: &Context<'_>,
) -> Result<RepairPlan> {
    let mut leases = Vec::new();
    let planned = plan_under(repository, options, context, &mut leases);
    leases.into_iter().for_each(Lease::give_back);
    planned
}

/// Performs a plan.
///
/// # Errors
/// `InvalidInput` for a plan that is refused; those of the backend. What was done until then
/// stays, and the next repair goes on.
pub fn execute(
    repository: &Repository,
    plan: RepairPlan,
    context: &Context<'_>,
) -> Result<RepairReport> {
    let started = context.clock.now();
    if let Some(why) = &plan.refused {
        return Err(Error::invalid(why.clone())
            .hint("make the whole store visible; `repair --force` if it is gone for good"));
    }
    execute::all(repository, &plan, context)?;
    let seconds = context.clock.now().seconds_since(started).max(0.0);
    let RepairPlan { actions, lost, unrepaired, .. } = plan;
    Ok(RepairReport { actions, lost, unrepaired, seconds })
}

/// No plan is made of what a prune was moving while it was looked for.
fn plan_under(
    repository: &Repository,
    options: &RepairOptions,
    context: &Context<'_>,
    leases: &mut Vec<Lease>,
) -> Result<RepairPlan> {
    let options_of_check = CheckOptions {
        read_packs: options.read_packs,
        read_data: options.read_data.then_some(100.0),
        dataset: None,
    };
    let run = Run {
        repository,
        options: &options_of_check,
        context,
        bytes_read: AtomicU64::new(0),
        blobs: AtomicU64::new(0),
    };
    let mut look = || plan_once(&run, options, leases);
    let (plan, is_still) = traces::until_still(&run, &mut look, RepairPlan::is_empty)?;
    if is_still {
        return Ok(plan);
    }
    let message = "prunes move what is stored, so it cannot be told what is damaged";
    Err(Error::new(ErrorKind::Busy, message).hint("repair it again when they are done"))
}

fn plan_once(
    run: &Run<'_>,
    options: &RepairOptions,
    leases: &mut Vec<Lease>,
) -> Result<RepairPlan> {
    let mut overlay = look::Overlay::new(run.repository);
    let looked = look::all(run, &mut overlay, leases)?;
    let mut plan = RepairPlan::default();
    let mut cured = std::collections::HashSet::new();
    content::plan(run, &looked, options, &mut plan, &mut cured)?;
    small::plan(run, &looked, options, &mut plan, &mut cured)?;
    let damage = |finding: &Finding| {
        finding.severity == crate::engine::check::Severity::Damage
            && !cured.contains(&finding.object)
    };
    plan.unrepaired.extend(looked.ledger.into_findings().into_iter().filter(damage));
    plan.actions.sort_by_key(|action| action.kind);
    Ok(plan)
}
