//! Plans for packs, their indexes, and the places of blocks.

use crate::backend::key::ObjectKey;
use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::id::BlockId;
use crate::base::id::IndexId;
use crate::base::id::PackId;
use crate::base::words::counted;
use crate::codec::frame::ObjectKind;
use crate::engine::check::Finding;
use crate::engine::check::Run;
use crate::engine::check::Severity;
use crate::engine::check::stock::index_object;
use crate::engine::check::stock::pack_object;
use crate::engine::repair::Action;
use crate::engine::repair::ActionKind;
use crate::engine::repair::Loss;
use crate::engine::repair::RepairOptions;
use crate::engine::repair::RepairPlan;
use crate::engine::repair::judge::is_damaged;
use crate::engine::repair::look::Footer;
use crate::engine::repair::look::Looked;
use crate::format::pack::BlockRow;
use crate::format::pack_index::IndexedPack;
use crate::repository::layout;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::collections::HashSet;

/// Missing packs from this number on are suspicious when they are more than those there.
const GONE_SUSPICIOUS: usize = 8;

/// What is done about packs, indexes and places.
#[derive(Debug, Default)]
pub(super) struct Content {
    /// Packs for a new index, by their footers.
    pub(super) index: Vec<Footer>,
    /// Index objects with what stands in for each; nothing for one that cannot be read.
    pub(super) replace: Vec<(IndexId, Vec<Footer>)>,
    /// Places to be copied, each list from one copy.
    pub(super) salvage: Vec<(BlockId, Vec<u32>)>,
    /// Places to be copied out of packs that are healed by their parity.
    pub(super) heal: BTreeMap<PackId, Vec<(BlockId, Vec<u32>)>>,
    /// Packs that are bad.
    pub(super) doom: Vec<PackId>,
    /// Places that are lost; none listed means all of the block.
    pub(super) lost: BTreeMap<BlockId, BTreeSet<u32>>,
}

/// Plans for what was found.
pub(super) fn plan(
    run: &Run<'_>,
    looked: &Looked,
    options: &RepairOptions,
    plan: &mut RepairPlan,
    cured: &mut HashSet<String>,
) -> Result<()> {
    let gone = gone(run, looked)?;
    plan.refused = refusal(looked, &gone).filter(|_| !options.force);
    plan_new_index(looked, plan);
    plan_indexes(run, looked, &gone, plan, cured);
    plan_bad_packs(run, looked, plan, cured);
    plan_lost(looked, plan);
    let is_judged = looked.stock.unjudged.is_empty()
        && looked.stock.damaged_indexes.iter().all(|(_, kind)| kind.is_damage())
        && are_records_judged(run, looked);
    let has_lost = !plan.content.lost.is_empty();
    if has_lost && !is_judged {
        // What cannot be judged may hold what is missing.
        plan.content.lost.clear();
        plan.actions.retain(|action| action.kind != ActionKind::DeclareLost);
        plan.lost.clear();
        return Ok(());
    }
    cured.extend(gone.iter().map(pack_object));
    let blocks = plan.content.lost.keys();
    cured.extend(blocks.map(|block| format!("block {block}")).filter(|_| has_lost));
    cured.insert("index".to_owned());
    Ok(())
}

/// Says whether each record of lost places can be read, or never will be: one that may be read
/// another time declares some of them already.
fn are_records_judged(run: &Run<'_>, looked: &Looked) -> bool {
    let records = looked.ledger.damaged_objects().filter(|object| object.starts_with("lost/"));
    let mut keys = records.filter_map(|object| ObjectKey::new(object).ok());
    keys.all(|key| is_damaged(run, ObjectKind::Lost, &key))
}

/// Returns the packs that are not there though an index names them, each asked for once more.
fn gone(run: &Run<'_>, looked: &Looked) -> Result<Vec<PackId>> {
    let stock = &looked.stock;
    let named =
        stock.indexed.keys().filter(|pack| !stock.has(pack) && !stock.doomed.contains(pack));
    let mut gone: Vec<PackId> = named.copied().collect();
    gone.sort_unstable();
    for pack in &gone {
        if run.repository.store().backend().stat(&layout::pack(pack)?)?.is_some() {
            let message = format!("pack {} is there and was not listed", pack.short());
            return Err(Error::corrupt(message)
                .hint("the store shows less than it holds: repair it again in a while"));
        }
    }
    Ok(gone)
}

fn refusal(looked: &Looked, gone: &[PackId]) -> Option<String> {
    let named = looked.stock.indexed.len();
    let is_suspicious =
        gone.len() == named || (gone.len() >= GONE_SUSPICIOUS && gone.len() * 2 > named);
    (is_suspicious && !gone.is_empty()).then(|| {
        let packs = counted(named as u64, "pack", "packs");
        let are = if gone.len() == 1 { "is" } else { "are" };
        format!("{} of {packs} {are} not there: is the whole store shown?", gone.len())
    })
}

fn plan_new_index(looked: &Looked, plan: &mut RepairPlan) {
    for pack in &looked.needed {
        let Some((indexed, rows)) = looked.footers.get(pack) else { continue };
        let blocks = if rows.len() == 1 { "block" } else { "blocks" };
        let n = rows.len();
        let message = format!("backups need it, and no pack index names its {n} {blocks}");
        plan.actions.push(Action::new(ActionKind::Index, pack_object(pack), message));
        plan.content.index.push((*indexed, rows.clone()));
    }
}

fn plan_indexes(
    run: &Run<'_>,
    looked: &Looked,
    gone: &[PackId],
    plan: &mut RepairPlan,
    cured: &mut HashSet<String>,
) {
    for (id, kind) in &looked.stock.damaged_indexes {
        let object = index_object(id);
        if kind.is_damage() {
            let message = "it cannot be read; others name all that backups need and that is there";
            plan.actions.push(Action::new(ActionKind::Doom, object.clone(), message));
            plan.content.replace.push((*id, Vec::new()));
            cured.insert(object);
        }
    }
    let index = run.repository.index();
    for id in index.ids() {
        let packs = index.packs_of(&id);
        let is_wrong = looked.wrong_indexes.contains(&id);
        let names_gone = packs.iter().any(|it| gone.binary_search(&it.pack).is_ok());
        if looked.stock.doomed_indexes.contains(&id) || !(is_wrong || names_gone) {
            continue;
        }
        let object = index_object(&id);
        let message = match is_wrong {
            true => "it tells otherwise than the packs themselves",
            false => {
                "it names packs that are not there; should they come back, another repair \
                      takes them in again"
            }
        };
        plan.actions.push(Action::new(ActionKind::ReplaceIndex, object.clone(), message));
        let stays = packs.iter().filter(|it| looked.stock.has(&it.pack)).copied().collect();
        plan.content.replace.push((id, contents(run, looked, &id, stays)));
        cured.insert(object);
    }
}

/// Returns what stands in for an index object: its packs, as their footers tell where those were
/// read, else as it tells itself.
fn contents(run: &Run<'_>, looked: &Looked, id: &IndexId, packs: Vec<IndexedPack>) -> Vec<Footer> {
    let mut rows: HashMap<PackId, Vec<BlockRow>> = HashMap::new();
    // The visit does not fail, as what it calls does not.
    let _ = run.repository.index().visit(id, &mut |location| {
        rows.entry(location.pack.pack).or_default().push(location.row);
        Ok(())
    });
    let told = packs.into_iter().map(|pack| match looked.footers.get(&pack.pack) {
        Some(footer) => footer.clone(),
        None => (pack, rows.remove(&pack.pack).unwrap_or_default()),
    });
    told.collect()
}

/// Parity that is damaged while its pack is whole costs nothing to make anew. That of a damaged
/// pack stays: as long as the pack is there it may be of use, and it goes with the pack.
pub(super) fn plan_parity(
    looked: &Looked,
    plan: &mut RepairPlan,
    cured: &mut HashSet<String>,
) -> Vec<ObjectKey> {
    let mut bad = looked.stock.bad_parity.clone();
    bad.sort_unstable();
    for key in &bad {
        let message = "it is damaged and its pack is whole: `icecore parity add` makes it anew";
        plan.actions.push(Action::new(ActionKind::Remove, key.as_str(), message));
        cured.insert(key.as_str().to_owned());
    }
    bad
}

/// Packs that were read and are bad: what backups need and only they give is copied, then they
/// are doomed.
fn plan_bad_packs(
    run: &Run<'_>,
    looked: &Looked,
    plan: &mut RepairPlan,
    cured: &mut HashSet<String>,
) {
    let stock = &looked.stock;
    let mut bad: Vec<PackId> = stock.bad.keys().copied().collect();
    bad.sort_unstable();
    bad.retain(|pack| {
        let is_only_misindexed = stock.misindexed.contains(pack) && stock.bad[pack].is_empty();
        if is_only_misindexed {
            cured.insert(pack_object(pack));
        }
        !is_only_misindexed && !stock.doomed.contains(pack) && !stock.unjudged.contains_key(pack)
    });
    let mut salvaged: BTreeMap<PackId, u64> = BTreeMap::new();
    for (block, places) in &looked.gathered.live {
        let copies = run.repository.index().find(block);
        let goes = |pack: &PackId| bad.binary_search(pack).is_ok() || stock.doomed.contains(pack);
        let mut by_pack: BTreeMap<PackId, Vec<u32>> = BTreeMap::new();
        for &place in places {
            let mut givers = copies.iter().filter(|copy| stock.can_give(copy, place));
            if givers.clone().any(|copy| !goes(&copy.pack.pack)) {
                continue;
            }
            // What only doomed packs give is for the prune that doomed them, unless it cannot read
            // them.
            let is_ours = |pack| stock.healed.contains_key(pack) || !stock.doomed.contains(pack);
            if let Some(copy) = givers.find(|copy| is_ours(&copy.pack.pack)) {
                by_pack.entry(copy.pack.pack).or_default().push(place);
            }
        }
        for (pack, places) in by_pack {
            *salvaged.entry(pack).or_default() += places.len() as u64;
            match stock.healed.contains_key(&pack) {
                true => plan.content.heal.entry(pack).or_default().push((*block, places)),
                false => plan.content.salvage.push((*block, places)),
            }
        }
    }
    plan.content.salvage.sort_unstable();
    plan.content.heal.values_mut().for_each(|places| places.sort_unstable());
    plan_copies(looked, &salvaged, plan);
    for pack in &bad {
        let object = pack_object(pack);
        let damaged = stock.bad[pack].len();
        let message = match damaged {
            0 if stock.healed.contains_key(pack) => {
                "it is damaged; what backups need of it was healed".to_owned()
            }
            0 => "it is damaged, and every block in it can be read".to_owned(),
            1 => "1 of its blocks cannot be read whole".to_owned(),
            _ => format!("{damaged} of its blocks cannot be read whole"),
        };
        plan.actions.push(Action::new(ActionKind::Doom, object.clone(), message));
        cured.insert(object);
    }
    plan.content.doom = bad;
}

fn plan_copies(looked: &Looked, salvaged: &BTreeMap<PackId, u64>, plan: &mut RepairPlan) {
    for (pack, places) in salvaged {
        let message = match places {
            1 => "1 blob that backups need is copied to a new pack".to_owned(),
            _ => format!("{places} blobs that backups need are copied to a new pack"),
        };
        let (kind, message) = match looked.stock.healed.get(pack) {
            Some(how) => (ActionKind::Heal, format!("{how}; {message}")),
            None => (ActionKind::Salvage, message),
        };
        plan.actions.push(Action::new(kind, pack_object(pack), message));
    }
}

fn plan_lost(looked: &Looked, plan: &mut RepairPlan) {
    let gathered = &looked.gathered;
    let mut lost = gathered.missing.clone();
    gathered.unknown.iter().for_each(|block| drop(lost.insert(*block, BTreeSet::new())));
    for (block, places) in &lost {
        let what = match places.len() {
            0 => "all of it is".to_owned(),
            1 => "1 blob of it is".to_owned(),
            n => format!("{n} blobs of it are"),
        };
        let message =
            format!("{what} lost; the next backup stores anew what its source still has of it");
        plan.actions.push(Action::new(ActionKind::DeclareLost, format!("block {block}"), message));
    }
    if !lost.is_empty() {
        let losses = looked.ledger.losses();
        plan.lost = losses.map(|(backup, paths)| Loss { backup, paths: paths.to_vec() }).collect();
    }
    plan.content.lost = lost;
}

/// Makes a finding of something that stays.
pub(super) fn stays(object: String, message: String, backups: Vec<String>) -> Finding {
    Finding { severity: Severity::Damage, object, message, backups, paths: Vec::new() }
}
