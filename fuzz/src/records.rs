//! Small records: leases, tombstones, and those of datasets. The first byte says which.

use icecore::base::error::ErrorKind;
use icecore::codec::serial;
use icecore::format::dataset::FloorRecord;
use icecore::format::dataset::HiddenRecord;
use icecore::format::dataset::LostRecord;
use icecore::format::dataset::NameRecord;
use icecore::format::dataset::TagsRecord;
use icecore::format::dataset::VoidRecord;
use icecore::format::lease::BeatRecord;
use icecore::format::lease::LeaseRecord;
use icecore::format::lease::MarkRecord;
use icecore::format::tombstone::TombstoneRecord;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;

use super::places::reach;

/// What the seeds come to.
pub const PLACES: &[&str] = &[
    "refused",
    "lease",
    "beat",
    "mark",
    "tombstone",
    "name",
    "void",
    "hidden",
    "tags",
    "floor",
    "lost",
];

fn goes_round<T: DeserializeOwned + Serialize + PartialEq + Debug>(
    bytes: &[u8],
    what: &'static str,
) {
    let record = match serial::decode::<T>(bytes, "x") {
        Ok(record) => record,
        Err(e) => {
            assert_eq!(e.kind(), ErrorKind::Corrupt, "{}", e.full_message());
            return reach("refused");
        }
    };
    reach(what);
    let again = serial::encode(&record).expect("what was decoded is encoded");
    assert_eq!(again, bytes);
    assert_eq!(serial::decode::<T>(&again, "x").expect("decodes again"), record);
}

/// One execution.
pub fn run(data: &[u8]) {
    let Some((which, bytes)) = data.split_first() else { return };
    match which % 10 {
        0 => goes_round::<LeaseRecord>(bytes, "lease"),
        1 => goes_round::<BeatRecord>(bytes, "beat"),
        2 => goes_round::<MarkRecord>(bytes, "mark"),
        3 => goes_round::<TombstoneRecord>(bytes, "tombstone"),
        4 => goes_round::<NameRecord>(bytes, "name"),
        5 => goes_round::<VoidRecord>(bytes, "void"),
        6 => goes_round::<HiddenRecord>(bytes, "hidden"),
        7 => goes_round::<TagsRecord>(bytes, "tags"),
        8 => goes_round::<FloorRecord>(bytes, "floor"),
        _ => goes_round::<LostRecord>(bytes, "lost"),
    }
}
