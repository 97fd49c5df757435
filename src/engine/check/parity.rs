//! Looks at parity: whether each object has its pack, whether it is sound, and whether it is what
//! its pack gives; and says of a damaged pack whether its parity heals it.

use crate::backend::key::ObjectKey;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::id::PackId;
use crate::base::words::counted;
use crate::engine::check::Run;
use crate::engine::check::Severity;
use crate::engine::check::damage_of;
use crate::engine::check::ledger::Ledger;
use crate::engine::check::objects;
use crate::engine::check::packs::Job;
use crate::engine::check::stock::Stock;
use crate::repository::parity;
use crate::repository::parity::ParityObject;

/// What is wrong with one parity object.
pub(super) struct BadParity {
    key: ObjectKey,
    message: String,
    /// Whether its bytes are bad, and not only unknown to this program or out of its reach.
    is_damaged: bool,
}

/// What parity can do for a damaged pack.
pub(super) enum Healing {
    /// It heals it; says how much was damaged.
    By(String),
    /// It does not; says why.
    Not(String),
    /// Some of it cannot be judged, and may heal it; says why.
    Unknown(String),
}

impl Healing {
    pub(super) fn message(self) -> String {
        match self {
            Healing::By(how) => format!("`icecore repair --read-packs` can heal it: {how}"),
            Healing::Not(why) => format!("its parity does not heal it: {why}"),
            Healing::Unknown(why) => {
                format!("whether its parity heals it cannot be told: {why}")
            }
        }
    }
}

/// Notes what the listings tell.
pub(super) fn survey(stock: &Stock, ledger: &mut Ledger) {
    stock.parity.foreign.iter().for_each(|key| objects::foreign(ledger, key.as_str()));
    if stock.parity.by_pack.is_empty() {
        return;
    }
    for (pack, parity) in &stock.parity.by_pack {
        if stock.has(pack) || stock.indexed.contains_key(pack) {
            continue;
        }
        for object in parity {
            let message = "its pack is gone: the next prune deletes it";
            ledger.add(Severity::Garbage, object.key.as_str(), message);
        }
    }
    let stay = || stock.there.keys().filter(|pack| !stock.doomed.contains(*pack));
    let lacking = stay().filter(|pack| stock.parity.of(pack).is_empty()).count();
    if lacking > 0 {
        let packs = counted(stay().count() as u64, "pack", "packs");
        let (have, them) = if lacking == 1 { ("has", "it") } else { ("have", "them") };
        let message =
            format!("{lacking} of {packs} {have} none: `icecore parity add` gives {them} some");
        ledger.add(Severity::Note, "parity", message);
    }
}

/// Looks at the parity of a pack that is whole.
pub(super) fn inspect(
    run: &Run<'_>,
    parity: &[ParityObject],
    job: &Job,
    bytes: &[u8],
) -> Result<Vec<BadParity>> {
    let mut bad = Vec::new();
    for object in parity {
        run.context.cancel.check()?;
        run.count_read(object.bytes);
        let opened = parity::get(run.repository.store(), &job.pack, object);
        let (message, is_damaged) = match opened {
            Err(e) if e.kind() == ErrorKind::NotFound => continue,
            Err(e) => {
                let e = damage_of(e)?;
                (format!("it heals nothing: {}", e.full_message()), e.kind().is_damage())
            }
            Ok(opened) => match opened.damage {
                Some(damage) => (damage, true),
                None if job.data && !opened.is_of(bytes)? => {
                    ("it is not what its pack gives".to_owned(), true)
                }
                None => continue,
            },
        };
        bad.push(BadParity { key: object.key.clone(), message, is_damaged });
    }
    Ok(bad)
}

/// Says what parity can do for a damaged pack; None where there is none.
pub(super) fn healing(
    run: &Run<'_>,
    parity: &[ParityObject],
    pack: &PackId,
) -> Result<Option<Healing>> {
    if parity.is_empty() {
        return Ok(None);
    }
    let healed = parity::heal(run.repository.store(), pack, parity);
    Ok(Some(match healed {
        Ok(healed) => {
            let (damaged, shards) = (healed.damaged, healed.shards);
            let (are, them) = if damaged == 1 { ("is", "it") } else { ("are", "them") };
            let shards = counted(shards as u64, "shard", "shards");
            Healing::By(format!("{damaged} of {shards} {are} damaged, and parity heals {them}"))
        }
        Err(e) => {
            let e = damage_of(e)?;
            let why = e.full_message();
            if e.kind().is_damage() { Healing::Not(why) } else { Healing::Unknown(why) }
        }
    }))
}

/// Takes in what was found wrong with the parity of a pack that is whole.
pub(super) fn note(stock: &mut Stock, pack: &PackId, bad: Vec<BadParity>, ledger: &mut Ledger) {
    let severity = stock.severity_of(pack);
    for parity in bad {
        ledger.add(severity, parity.key.as_str(), parity.message);
        if parity.is_damaged {
            stock.bad_parity.push(parity.key);
        }
    }
}
