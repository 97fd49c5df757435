//! Small records: leases, tombstones, and those of datasets. The first byte says which.

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

fn goes_round<T: DeserializeOwned + Serialize + PartialEq + Debug>(bytes: &[u8]) {
    let Ok(record) = serial::decode::<T>(bytes, "x") else { return };
    let again = serial::encode(&record).expect("what was decoded is encoded");
    assert_eq!(again, bytes);
    assert_eq!(serial::decode::<T>(&again, "x").expect("decodes again"), record);
}

/// One execution.
pub fn run(data: &[u8]) {
    let Some((which, bytes)) = data.split_first() else { return };
    match which % 10 {
        0 => goes_round::<LeaseRecord>(bytes),
        1 => goes_round::<BeatRecord>(bytes),
        2 => goes_round::<MarkRecord>(bytes),
        3 => goes_round::<TombstoneRecord>(bytes),
        4 => goes_round::<NameRecord>(bytes),
        5 => goes_round::<VoidRecord>(bytes),
        6 => goes_round::<HiddenRecord>(bytes),
        7 => goes_round::<TagsRecord>(bytes),
        8 => goes_round::<FloorRecord>(bytes),
        _ => goes_round::<LostRecord>(bytes),
    }
}
