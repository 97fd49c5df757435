//! Ids to object keys and back; the only file that knows the shape of the folders.
//!
//! Every folder that can grow is split by the first two hex digits, as some servers cut a
//! listing at 10 000 names.

use crate::backend::key::FolderKey;
use crate::backend::key::ObjectKey;
use crate::base::error::Result;
use crate::base::hash::Digest;
use crate::base::id::BackupId;
use crate::base::id::DatasetId;
use crate::base::id::IndexId;
use crate::base::id::KeyId;
use crate::base::id::LeaseId;
use crate::base::id::PackId;
use crate::base::id::ParityId;
use crate::base::id::TombstoneId;
use crate::base::id::to_hex;
use crate::base::limits::NUMBERS_PER_FOLDER;

/// Top folders, in the order `check` looks at them.
pub const FOLDERS: [&str; 9] =
    ["keys", "names", "datasets", "packs", "index", "leases", "tombstones", "lost", "parity"];

/// Says whether these are names in the folder of a repository that has held a backup: nobody else
/// has three of these. It is asked before a folder is deleted, and must know also a repository
/// whose config is lost.
pub fn is_repository<'a>(names: impl IntoIterator<Item = &'a [u8]>) -> bool {
    // Over FTP, and SFTP without links, the config has a sign behind its name.
    let own: [&[u8]; 5] = [b"config", b"config+", b"names", b"datasets", b"packs"];
    names.into_iter().filter(|name| own.contains(name)).count() >= 3
}

/// Returns the key of the config.
pub fn config() -> Result<ObjectKey> {
    ObjectKey::new("config")
}

/// Returns a top folder.
pub fn folder(name: &str) -> Result<FolderKey> {
    FolderKey::new(name)
}

/// Returns the key of a password slot.
pub fn key_slot(id: &KeyId) -> Result<ObjectKey> {
    ObjectKey::new(format!("keys/{id}"))
}

/// Returns the key of a mark by which somebody says that he removes a password slot.
pub fn going(id: &KeyId, by: &LeaseId) -> Result<ObjectKey> {
    ObjectKey::new(format!("keys/{id}.going-{by}"))
}

/// Reads the name of such a mark; None for a foreign one.
pub fn parse_going(name: &str) -> Option<(KeyId, LeaseId)> {
    let (id, by) = name.split_once(".going-")?;
    Some((id.parse().ok()?, by.parse().ok()?))
}

fn split(folder: &str, hex: &str) -> Result<ObjectKey> {
    ObjectKey::new(format!("{folder}/{}/{hex}", &hex[..2]))
}

/// Makes an id of random bytes whose object lies in one of few folders: in so many as are wanted,
/// at most 16. A server is asked for each folder, so what is always listed whole, and is never
/// very many, must not be spread over 256 of them. 15 random bytes are no less unique.
pub fn in_few_folders(mut random: [u8; 16], folders: u8) -> [u8; 16] {
    random[0] %= folders.clamp(1, 16);
    random
}

/// Returns the key of a pack.
pub fn pack(id: &PackId) -> Result<ObjectKey> {
    split("packs", &id.to_string())
}

/// Returns the key of a pack index object.
pub fn index(id: &IndexId) -> Result<ObjectKey> {
    split("index", &id.to_string())
}

/// Returns the key of a lease.
pub fn lease(id: &LeaseId) -> Result<ObjectKey> {
    split("leases", &id.to_string())
}

/// Returns the key of beat `k` of a lease.
pub fn beat(id: &LeaseId, k: u64) -> Result<ObjectKey> {
    ObjectKey::new(format!("{}.beat-{k}", lease(id)?))
}

/// Returns the key of a class B mark on a lease: `r<prune>` or `v`.
pub fn mark(id: &LeaseId, mark: &str) -> Result<ObjectKey> {
    ObjectKey::new(format!("{}.{mark}", lease(id)?))
}

/// Returns the folder a lease is in.
pub fn lease_folder(id: &LeaseId) -> Result<FolderKey> {
    Ok(lease(id)?.folder())
}

/// Returns the key of a tombstone.
pub fn tombstone(id: &TombstoneId) -> Result<ObjectKey> {
    split("tombstones", &id.to_string())
}

/// Returns the key of a record of lost places. Its id has the shape of a tombstone's.
pub fn lost(id: &TombstoneId) -> Result<ObjectKey> {
    ObjectKey::new(format!("lost/{id}"))
}

/// Returns the key of a parity object: its pack, the percentage it was made for, and what makes
/// the key unique.
pub fn parity(pack: &PackId, percent: u8, id: &ParityId) -> Result<ObjectKey> {
    split("parity", &format!("{pack}.{percent}-{id}"))
}

/// Reads the name of a parity object; None for a foreign one.
pub fn parse_parity(name: &str) -> Option<(PackId, u8, ParityId)> {
    let (pack, rest) = name.split_once('.')?;
    let (percent, id) = rest.split_once('-')?;
    let percent = u8::try_from(plain_number(percent)?).ok()?;
    Some((pack.parse().ok()?, percent, id.parse().ok()?))
}

/// Returns the folder with the revisions of a name, given the name's hash.
pub fn name_folder(name: &Digest) -> Result<FolderKey> {
    let hex = to_hex(&name[..16]);
    FolderKey::new(format!("names/{}/{hex}", &hex[..2]))
}

/// Returns the folder of a dataset.
pub fn dataset(id: &DatasetId) -> Result<FolderKey> {
    let hex = id.to_string();
    FolderKey::new(format!("datasets/{}/{hex}", &hex[..2]))
}

/// Returns the folder of a dataset that holds a number.
pub fn thousand(id: &DatasetId, number: BackupId) -> Result<FolderKey> {
    dataset(id)?.folder(&(number.0 / NUMBERS_PER_FOLDER).to_string())
}

/// Returns the key of a header (or void) in class A.
pub fn header(id: &DatasetId, number: BackupId) -> Result<ObjectKey> {
    thousand(id, number)?.object(&number.0.to_string())
}

/// Returns the key of a header in class B, where the lease makes it unique.
pub fn header_of_lease(id: &DatasetId, number: BackupId, lease: &LeaseId) -> Result<ObjectKey> {
    thousand(id, number)?.object(&format!("{}-{lease}", number.0))
}

/// Returns the key of the marker that a backup is forgotten.
pub fn hidden(id: &DatasetId, number: BackupId) -> Result<ObjectKey> {
    thousand(id, number)?.object(&format!("{}.hidden", number.0))
}

/// Returns the key of a revision of a backup's tags.
pub fn tags(id: &DatasetId, number: BackupId, revision: u64) -> Result<ObjectKey> {
    thousand(id, number)?.object(&format!("{}.tags-{revision}", number.0))
}

/// What a name in a thousand folder stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NumberObject {
    /// A header or void; with the lease in class B.
    Header(BackupId, Option<LeaseId>),
    /// A forget marker.
    Hidden(BackupId),
    /// Tags, with their revision.
    Tags(BackupId, u64),
}

/// Reads a name in a thousand folder; None for a foreign one.
pub fn parse_number_object(name: &str) -> Option<NumberObject> {
    let number = |text: &str| plain_number(text).map(BackupId);
    if let Some((n, suffix)) = name.split_once('.') {
        let n = number(n)?;
        if suffix == "hidden" {
            return Some(NumberObject::Hidden(n));
        }
        let revision = plain_number(suffix.strip_prefix("tags-")?)?;
        // Behind the last one there would be none.
        return (revision < u64::MAX).then_some(NumberObject::Tags(n, revision));
    }
    match name.split_once('-') {
        None => Some(NumberObject::Header(number(name)?, None)),
        Some((n, lease)) => Some(NumberObject::Header(number(n)?, Some(lease.parse().ok()?))),
    }
}

/// Returns the key of a floor.
pub fn floor(id: &DatasetId, floor: u64) -> Result<ObjectKey> {
    dataset(id)?.object(&format!("floor-{floor}"))
}

/// Reads `floor-<m>`.
pub fn parse_floor(name: &str) -> Option<u64> {
    plain_number(name.strip_prefix("floor-")?)
}

/// Reads a decimal number in its one spelling.
pub fn plain_number(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let canonical = text == "0" || !text.starts_with('0');
    if plain && canonical { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_numbers_are_read_in_one_spelling_only() {
        let lease = LeaseId::new([1; 16]);
        let n = BackupId(12);
        assert_eq!(parse_number_object("12"), Some(NumberObject::Header(n, None)));
        let with_lease = parse_number_object(&format!("12-{lease}"));
        assert_eq!(with_lease, Some(NumberObject::Header(n, Some(lease))));
        assert_eq!(parse_number_object("12.hidden"), Some(NumberObject::Hidden(n)));
        assert_eq!(parse_number_object("12.tags-3"), Some(NumberObject::Tags(n, 3)));
        for foreign in ["012", "", "x", "12.", "12.tags-", "12-", "-1", "12.hidden.x", "+1"] {
            assert_eq!(parse_number_object(foreign), None, "{foreign:?}");
        }
        assert_eq!(parse_number_object(&format!("12.tags-{}", u64::MAX)), None);
    }

    #[test]
    fn names_of_parity_are_read_in_one_spelling_only() {
        let (pack, id) = (PackId::new([0xab; 32]), ParityId::new([7; 16]));
        let key = parity(&pack, 5, &id).expect("a key");
        assert_eq!(key.as_str(), format!("parity/ab/{pack}.5-{id}"));
        assert_eq!(parse_parity(key.name()), Some((pack, 5, id)));
        let foreign = [
            format!("{pack}"),
            format!("{pack}.5"),
            format!("{pack}.05-{id}"),
            format!("{pack}.300-{id}"),
            format!("{pack}.5-{id}0"),
            format!("{id}.5-{id}"),
        ];
        for name in foreign {
            assert_eq!(parse_parity(&name), None, "{name}");
        }
    }

    #[test]
    fn a_repository_is_known_by_its_names() {
        let is = |names: &[&str]| is_repository(names.iter().map(|name| name.as_bytes()));
        assert!(is(&["config", "datasets", "keys", "names", "packs"]));
        assert!(is(&["datasets", "names", "packs"]), "also without its config");
        assert!(is(&["config+", "keys", "names", "packs", "way+"]), "also over FTP");
        assert!(is(&["config", "datasets", "names"]), "also when nothing in it has content");
        assert!(!is(&["config", "data", "index", "keys", "locks", "packs", "snapshots"]));
        assert!(!is(&["HEAD", "config", "objects", "refs"]) && !is(&[]));
    }

    #[test]
    fn numbers_go_into_folders_of_a_thousand() {
        let key = header(&DatasetId::new([0xab; 16]), BackupId(2345)).expect("a key");
        assert_eq!(key.as_str(), format!("datasets/ab/{}/2/2345", "ab".repeat(16)));
    }
}
