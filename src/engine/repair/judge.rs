//! Judges by a second look whether a small object is damaged, or could only not be read just now:
//! only what is damaged may go or be replaced.

use crate::backend::key::ObjectKey;
use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::id::LeaseId;
use crate::base::id::TombstoneId;
use crate::codec::frame::ObjectKind;
use crate::engine::check::Run;
use crate::engine::check::datasets;
use crate::engine::check::objects::belongs;
use crate::format::dataset::FloorRecord;
use crate::format::dataset::HiddenRecord;
use crate::format::dataset::LostRecord;
use crate::format::dataset::NameRecord;
use crate::format::dataset::TagsRecord;
use crate::format::lease::BeatRecord;
use crate::format::lease::LeaseRecord;
use crate::format::lease::MarkRecord;
use crate::format::tombstone::TombstoneRecord;
use crate::repository::layout;
use crate::repository::layout::NumberObject;

/// What a second look shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judged {
    /// It is there, and makes no sense.
    Damaged,
    /// It can be read: whatever went wrong before is no fault of its own.
    Sound,
    /// It cannot be had just now, or was made by a later version.
    Unknown,
}

/// Looks at an object of which damage was told.
pub(super) fn judge(run: &Run<'_>, kind: ObjectKind, key: &ObjectKey) -> Judged {
    match read(run, kind, key) {
        Ok(()) => Judged::Sound,
        Err(e) if e.kind() == ErrorKind::Corrupt => Judged::Damaged,
        Err(_) => Judged::Unknown,
    }
}

/// Says whether an object of which damage was told is damaged for certain.
pub(super) fn is_damaged(run: &Run<'_>, kind: ObjectKind, key: &ObjectKey) -> bool {
    judge(run, kind, key) == Judged::Damaged
}

/// Reads an object as a check does.
fn read(run: &Run<'_>, kind: ObjectKind, key: &ObjectKey) -> Result<()> {
    let store = run.repository.store();
    let nameless = || Error::corrupt(format!("{key} is no name of such an object"));
    let (id, suffix) = key.name().split_once('.').unwrap_or((key.name(), ""));
    match kind {
        ObjectKind::Hidden | ObjectKind::Tags | ObjectKind::Backup => {
            match layout::parse_number_object(key.name()).ok_or_else(nameless)? {
                NumberObject::Hidden(n) => {
                    belongs(store.get::<HiddenRecord>(kind, key)?.number == n.0)
                }
                NumberObject::Tags(n, _) => {
                    belongs(store.get::<TagsRecord>(kind, key)?.number == n.0)
                }
                NumberObject::Header(n, lease) => {
                    datasets::read_header(run, key, n.0, lease).map(drop)
                }
            }
        }
        ObjectKind::Floor => {
            let floor = layout::parse_floor(key.name()).ok_or_else(nameless)?;
            belongs(store.get::<FloorRecord>(kind, key)?.floor == floor)
        }
        ObjectKind::Name => {
            let name = store.get::<NameRecord>(kind, key)?.name;
            belongs(run.repository.name_folder(&name)? == key.folder())
        }
        ObjectKind::Lease => {
            belongs(store.get::<LeaseRecord>(kind, key)?.lease == id.parse::<LeaseId>()?)
        }
        ObjectKind::Beat => {
            let record = store.get::<BeatRecord>(kind, key)?;
            let number = suffix.strip_prefix("beat-").and_then(layout::plain_number);
            belongs(record.lease == id.parse::<LeaseId>()? && number == Some(record.beat))
        }
        ObjectKind::Revoke | ObjectKind::Verdict => {
            let by = match layout::parse_going(key.name()) {
                Some((_, by)) => by,
                None => id.parse::<LeaseId>()?,
            };
            belongs(store.get::<MarkRecord>(kind, key)?.lease == by)
        }
        ObjectKind::Lost => {
            let record = store.get::<LostRecord>(kind, key)?;
            belongs(record.blocks.len() == record.places.len() * 32)
        }
        ObjectKind::Tombstone => {
            let record = store.get::<TombstoneRecord>(kind, key)?;
            belongs(record.tombstone == key.name().parse::<TombstoneId>()?)
        }
        _ => Err(Error::bug(format!("nobody asks whether {key} is damaged"))),
    }
}
