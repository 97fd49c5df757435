//! Parity of a pack: what puts flipped and lost stretches of it back.
//!
//! ```text
//! frame head (16)   kind parity, flag sealed when encrypted
//! header            an object of its own: frame, record (sealed when encrypted), checksum
//! recovery shards   side by side
//! header            the same bytes again
//! header length (4) little endian
//! checksum (32)     BLAKE3 of everything before
//! ```
//!
//! A pack is cut into shards. The header holds a checksum of each, and of each recovery shard, so
//! that what is damaged is located; any so many sound ones as the pack has shards give it back.
//! Parity is made of the stored bytes, so with encryption it tells nothing that the pack does not.
//! It need not be whole itself: one sound header and enough sound recovery shards do. Whatever it
//! says, a healed pack is believed only when its bytes have its name.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::hash;
use crate::base::id::PackId;
use crate::base::limits::PACK_BYTES_MAX;
use crate::base::limits::PARITY_PERCENT_MAX;
use crate::base::limits::PARITY_SHARD_BYTES_MAX;
use crate::base::limits::PARITY_SHARD_BYTES_MIN;
use crate::base::limits::PARITY_SHARDS_MAX;
use crate::base::limits::RECORD_BYTES_MAX;
use crate::codec::frame;
use crate::codec::frame::CHECKSUM_BYTES;
use crate::codec::frame::HEAD_BYTES;
use crate::codec::frame::ObjectKind;
use crate::codec::parity;
use crate::codec::seal::Sealer;
use crate::codec::serial;
use serde::Deserialize;
use serde::Serialize;
use std::ops::Range;

/// Bytes of a shard's checksum: the beginning of its BLAKE3.
const CHECK_BYTES: usize = 16;
/// Bytes behind the second header.
const TAIL_BYTES: usize = 4 + CHECKSUM_BYTES;

/// The header: which pack, how it is cut, and the checksums of all shards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParityHeader {
    /// The pack.
    pub pack: PackId,
    /// Its length in bytes.
    pub pack_bytes: u64,
    /// Bytes of a shard.
    pub shard_bytes: u32,
    /// How many percent of the pack may be damaged, as was asked for.
    pub percent: u8,
    /// Checksums, 16 bytes each: of the pack's shards, the last one without what fills it up, then
    /// of the recovery shards.
    #[serde(with = "crate::codec::serial::bytes")]
    pub checks: Vec<u8>,
}

impl ParityHeader {
    /// Returns how many shards the pack has.
    pub fn shards(&self) -> usize {
        (self.pack_bytes as usize).div_ceil(self.shard_bytes.max(1) as usize)
    }

    /// Returns how many recovery shards there are.
    pub fn recovery(&self) -> usize {
        (self.checks.len() / CHECK_BYTES).saturating_sub(self.shards())
    }

    fn has_check(&self, number: usize, bytes: &[u8]) -> bool {
        let at = number * CHECK_BYTES;
        self.checks.get(at..at + CHECK_BYTES) == Some(&check_of(bytes)[..])
    }

    fn check(&self, pack: &PackId) -> Result<()> {
        let shard_bytes = self.shard_bytes as usize;
        let is_sound = self.pack == *pack
            && self.pack_bytes > 0
            && self.pack_bytes <= PACK_BYTES_MAX as u64
            && shard_bytes.is_power_of_two()
            && (PARITY_SHARD_BYTES_MIN..=PARITY_SHARD_BYTES_MAX).contains(&shard_bytes)
            && self.shards() <= PARITY_SHARDS_MAX
            && self.checks.len().is_multiple_of(CHECK_BYTES)
            && (1..=PARITY_SHARDS_MAX).contains(&self.recovery());
        if is_sound { Ok(()) } else { Err(Error::corrupt("its header makes no sense")) }
    }
}

fn check_of(bytes: &[u8]) -> [u8; CHECK_BYTES] {
    *hash::hash(bytes).first_chunk().unwrap_or(&[0; CHECK_BYTES])
}

/// How a pack is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Bytes of a shard.
    pub shard_bytes: usize,
    /// Recovery shards.
    pub recovery: usize,
}

impl Cut {
    /// Chooses for a pack: shards of 1 KiB, doubled until there are few enough, and so many
    /// recovery shards that one stretch of `percent` of the pack comes back wherever it begins.
    pub fn of(pack_bytes: usize, percent: u8) -> Self {
        let mut shard_bytes = 1024;
        while pack_bytes.div_ceil(shard_bytes) > PARITY_SHARDS_MAX {
            shard_bytes *= 2;
        }
        let shards = pack_bytes.div_ceil(shard_bytes);
        Cut { shard_bytes, recovery: (shards * usize::from(percent)).div_ceil(100) + 1 }
    }
}

/// Makes the parity of a whole pack, for the object of this key.
///
/// # Errors
/// `InvalidInput` for a percentage that is not offered; `Bug` or `Io` of the layers below.
pub fn make(
    sealer: &Sealer,
    object_key: &str,
    pack: &PackId,
    bytes: &[u8],
    percent: u8,
) -> Result<Vec<u8>> {
    if percent == 0 || percent > PARITY_PERCENT_MAX {
        let message = format!("parity is made for 1 to {PARITY_PERCENT_MAX} percent of a pack");
        return Err(Error::invalid(message));
    }
    let (header, shards) = encode(pack, bytes, percent, Cut::of(bytes.len(), percent))?;
    let sealed = sealer.seal_record(ObjectKind::Parity, object_key, &header)?;
    Ok(put_together(&sealed, &shards, sealer.keys().is_some()))
}

/// Like [`make`] with a cut and a salt that are given: for golden files only.
///
/// # Errors
/// As [`make`].
#[doc(hidden)]
pub fn make_with(
    sealer: &Sealer,
    object_key: &str,
    pack: &PackId,
    bytes: &[u8],
    cut: Cut,
    salt: &[u8; 32],
) -> Result<Vec<u8>> {
    let (header, shards) = encode(pack, bytes, 5, cut)?;
    let header = serial::encode(&header)?;
    let sealed = sealer.seal_with_salt(ObjectKind::Parity, object_key, &header, salt)?;
    Ok(put_together(&sealed, &shards, sealer.keys().is_some()))
}

fn encode(pack: &PackId, bytes: &[u8], percent: u8, cut: Cut) -> Result<(ParityHeader, Vec<u8>)> {
    let shards = parity::encode(bytes, cut.shard_bytes, cut.recovery)?;
    let all = bytes.chunks(cut.shard_bytes).chain(shards.chunks(cut.shard_bytes));
    let checks = all.flat_map(check_of).collect();
    let (pack_bytes, shard_bytes) = (bytes.len() as u64, cut.shard_bytes as u32);
    let header = ParityHeader { pack: *pack, pack_bytes, shard_bytes, percent, checks };
    header.check(pack)?;
    Ok((header, shards))
}

fn put_together(header: &[u8], shards: &[u8], is_sealed: bool) -> Vec<u8> {
    let mut bytes = frame::start(ObjectKind::Parity, if is_sealed { frame::SEALED } else { 0 });
    bytes.extend_from_slice(header);
    bytes.extend_from_slice(shards);
    bytes.extend_from_slice(header);
    bytes.extend_from_slice(&(header.len() as u32).to_le_bytes());
    frame::finish(&mut bytes);
    bytes
}

/// A parity object of which enough is sound to be of use.
#[derive(Debug)]
pub struct Parity {
    /// Its header.
    pub header: ParityHeader,
    /// The recovery shards that are sound, with their numbers.
    good: Vec<(usize, Vec<u8>)>,
    /// What is wrong with it, if anything is.
    pub damage: Option<String>,
}

impl Parity {
    /// Opens the parity of a pack, however damaged, as long as one of its headers is sound.
    ///
    /// # Errors
    /// `Corrupt` when neither is, or not of this pack, key and repository; `Unsupported` for one
    /// that a later version wrote.
    pub fn open(sealer: &Sealer, object_key: &str, pack: &PackId, bytes: &[u8]) -> Result<Self> {
        let whole = match frame::open(ObjectKind::Parity, bytes, object_key) {
            // Where a later version puts its headers is not known here.
            Err(e) if e.kind() == ErrorKind::Unsupported => return Err(e),
            opened => opened.err(),
        };
        let header = |at: Option<Range<usize>>| {
            let bytes = at.and_then(|at| bytes.get(at));
            let bytes = bytes.ok_or_else(|| Error::corrupt("it is too short"))?;
            let opened = sealer.open(ObjectKind::Parity, object_key, bytes, RECORD_BYTES_MAX)?;
            let header: ParityHeader = serial::decode(&opened, object_key)?;
            header.check(pack).map(|()| (header, bytes.len()))
        };
        let (first, second) = (header(first_header(bytes)), header(second_header(bytes)));
        let are_equal = matches!((&first, &second), (Ok(first), Ok(second)) if first == second);
        let (header, length) = first.or(second)?;
        let good = good_shards(&header, bytes, length);
        let recovery = header.recovery();
        let damage = if good.len() < recovery {
            let bad = recovery - good.len();
            Some(format!("{bad} of its {recovery} recovery shards are damaged"))
        } else if !are_equal {
            Some("one of its two headers is damaged".to_owned())
        } else {
            whole.map(|e| e.full_message())
        };
        Ok(Parity { header, good, damage })
    }

    /// Says whether this is the parity of these bytes, recovery shards and all.
    ///
    /// # Errors
    /// Those of the code.
    pub fn is_of(&self, pack: &[u8]) -> Result<bool> {
        let recovery = self.header.recovery();
        if pack.len() as u64 != self.header.pack_bytes {
            return Ok(false);
        }
        let cut = Cut { shard_bytes: self.header.shard_bytes as usize, recovery };
        let (header, _) = encode(&self.header.pack, pack, self.header.percent, cut)?;
        Ok(header == self.header)
    }

    /// Heals a pack. Stretches of it that could not be read are zeros. Each shard is looked for in
    /// its place, and in its place moved by what the length is off: so one stretch that was cut
    /// out or put in anywhere costs no more shards than it touches.
    ///
    /// # Errors
    /// `Corrupt` when more is damaged than can be healed, or when what comes out is not the pack.
    pub fn heal(&self, damaged: &[u8]) -> Result<Healed> {
        let header = &self.header;
        let (shards, shard_bytes) = (header.shards(), header.shard_bytes as usize);
        let too_much = |lost: String| {
            let (good, made) = (self.good.len(), header.recovery());
            let left = if good == made { format!("{made}") } else { format!("{good} of {made}") };
            Error::corrupt(format!(
                "{lost} of its {shards} shards are damaged, and its parity heals {left}"
            ))
        };
        if damaged.len() / shard_bytes + 1 + self.good.len() < shards {
            return Err(too_much("most".to_owned()));
        }
        let pack_bytes = header.pack_bytes as usize;
        let moved = damaged.len() as i64 - pack_bytes as i64;
        let mut bytes = vec![0; shards * shard_bytes];
        let mut lost = Vec::new();
        for (n, place) in bytes.chunks_exact_mut(shard_bytes).enumerate() {
            let at = n * shard_bytes;
            let length = shard_bytes.min(pack_bytes - at);
            let places = [at as i64, at as i64 + moved];
            let mut found = places.iter().filter_map(|&at| stretch(damaged, at, length));
            match found.find(|shard| header.has_check(n, shard)) {
                Some(shard) => place[..length].copy_from_slice(shard),
                None => lost.push(n),
            }
        }
        if lost.len() > self.good.len() {
            return Err(too_much(lost.len().to_string()));
        }
        let good: Vec<(usize, &[u8])> = self.good.iter().map(|(n, it)| (*n, &it[..])).collect();
        parity::restore(&mut bytes, shard_bytes, &lost, &good, header.recovery())?;
        bytes.truncate(pack_bytes);
        if !is_pack(&header.pack, &bytes) {
            return Err(Error::corrupt("what its parity makes of it is not the pack"));
        }
        Ok(Healed { bytes, damaged: lost.len(), shards })
    }
}

/// A pack that was healed: its bytes have its name.
pub struct Healed {
    /// The whole pack.
    pub bytes: Vec<u8>,
    /// How many of its shards were damaged.
    pub damaged: usize,
    /// How many it has.
    pub shards: usize,
}

/// Says whether these bytes are the pack of this name.
pub fn is_pack(pack: &PackId, bytes: &[u8]) -> bool {
    let (content, checksum) = bytes.split_at(bytes.len().saturating_sub(CHECKSUM_BYTES));
    checksum == pack.as_bytes() && hash::hash(content) == *pack.as_bytes()
}

fn first_header(bytes: &[u8]) -> Option<Range<usize>> {
    // The length stands in the header's own frame.
    let length = bytes.get(HEAD_BYTES + 8..HEAD_BYTES + 16)?.try_into().ok()?;
    let length = usize::try_from(u64::from_le_bytes(length)).ok()?;
    Some(HEAD_BYTES..HEAD_BYTES.checked_add(length)?)
}

fn second_header(bytes: &[u8]) -> Option<Range<usize>> {
    let end = bytes.len().checked_sub(TAIL_BYTES)?;
    let length = u32::from_le_bytes(bytes.get(end..end + 4)?.try_into().ok()?);
    Some(end.checked_sub(length as usize)?..end)
}

/// Returns the recovery shards that are sound, counted from the front, or where bytes were lost or
/// put in, from the end.
fn good_shards(header: &ParityHeader, bytes: &[u8], length: usize) -> Vec<(usize, Vec<u8>)> {
    let (shard_bytes, recovery) = (header.shard_bytes as usize, header.recovery());
    let from_front = (HEAD_BYTES + length) as i64;
    let from_end = bytes.len() as i64 - (TAIL_BYTES + length + recovery * shard_bytes) as i64;
    let shard = |n: usize| {
        let at = (n * shard_bytes) as i64;
        let places = [from_front + at, from_end + at];
        let mut found = places.iter().filter_map(|&at| stretch(bytes, at, shard_bytes));
        found.find(|shard| header.has_check(header.shards() + n, shard))
    };
    (0..recovery).filter_map(|n| Some((n, shard(n)?.to_vec()))).collect()
}

fn stretch(bytes: &[u8], at: i64, length: usize) -> Option<&[u8]> {
    let at = usize::try_from(at).ok()?;
    bytes.get(at..at.checked_add(length)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::RepositoryId;
    use crate::codec::key::Keys;

    const KEY: &str = "parity/ab/x";

    fn pack(length: usize) -> (PackId, Vec<u8>) {
        let mut bytes: Vec<u8> = (0..length).map(|n| (n * n / 7 % 251) as u8).collect();
        let name = hash::hash(&bytes);
        bytes.extend_from_slice(&name);
        (PackId::new(name), bytes)
    }

    fn sealers() -> [Sealer; 2] {
        let id = RepositoryId::new([5; 16]);
        [Sealer::new(id, None), Sealer::new(id, Some(Keys::generate().expect("keys")))]
    }

    fn opened(sealer: &Sealer, id: &PackId, bytes: &[u8]) -> Parity {
        Parity::open(sealer, KEY, id, bytes).expect("opens")
    }

    #[test]
    fn a_cut_covers_one_stretch_of_so_many_percent_wherever_it_begins() {
        assert_eq!(Cut::of(1, 5), Cut { shard_bytes: 1024, recovery: 2 });
        assert_eq!(Cut::of(4 << 20, 5), Cut { shard_bytes: 1024, recovery: 206 });
        assert_eq!(Cut::of((4 << 20) + 1, 5), Cut { shard_bytes: 2048, recovery: 104 });
        assert_eq!(Cut::of(PACK_BYTES_MAX, 50).shard_bytes, PARITY_SHARD_BYTES_MAX);
        for length in [1, 1023, 1024, 1025, 70_000, 5 << 20] {
            for percent in [1, 5, 33, 50] {
                let cut = Cut::of(length, percent);
                let stretch = length * usize::from(percent) / 100;
                let touched = stretch.div_ceil(cut.shard_bytes) + 1;
                assert!(cut.recovery >= touched, "{length} {percent}");
            }
        }
    }

    #[test]
    fn what_is_whole_opens_and_belongs_to_its_pack_alone() {
        let (id, bytes) = pack(20_000);
        for sealer in sealers() {
            let made = make(&sealer, KEY, &id, &bytes, 5).expect("makes");
            let parity = opened(&sealer, &id, &made);
            assert_eq!(parity.damage, None);
            assert_eq!((parity.header.shards(), parity.header.recovery()), (20, 2));
            assert!(parity.is_of(&bytes).expect("tells"));
            assert!(!parity.is_of(&pack(20_000).1[1..]).expect("tells"));
            assert!(!parity.is_of(&pack(19_999).1).expect("tells"));
            let (other, _) = pack(30_000);
            assert!(Parity::open(&sealer, KEY, &other, &made).is_err());
            let healed = parity.heal(&bytes).expect("nothing to heal");
            assert_eq!((healed.damaged, healed.bytes == bytes), (0, true));
        }
    }

    #[test]
    fn an_encrypted_one_is_bound_to_its_key_and_repository() {
        let (id, bytes) = pack(5_000);
        let [plain, sealed] = sealers();
        let made = make(&sealed, KEY, &id, &bytes, 5).expect("makes");
        assert!(Parity::open(&sealed, "parity/ab/y", &id, &made).is_err());
        assert!(Parity::open(&plain, KEY, &id, &made).is_err());
        let elsewhere = Sealer::new(RepositoryId::new([6; 16]), sealed.keys().cloned());
        assert!(Parity::open(&elsewhere, KEY, &id, &made).is_err());
        let forged = make(&plain, KEY, &id, &bytes, 5).expect("makes");
        assert!(Parity::open(&sealed, KEY, &id, &forged).is_err());
    }

    #[test]
    fn every_flipped_byte_of_parity_is_noticed_and_it_heals_all_the_same() {
        let (id, bytes) = pack(900);
        let mut hurt = bytes.clone();
        hurt[500] ^= 1;
        for sealer in sealers() {
            let cut = Cut { shard_bytes: 64, recovery: 2 };
            let made = make_with(&sealer, KEY, &id, &bytes, cut, &[3; 32]).expect("makes");
            for at in 0..made.len() {
                let mut flipped = made.clone();
                flipped[at] ^= 0x10;
                let parity = opened(&sealer, &id, &flipped);
                assert!(parity.damage.is_some(), "byte {at}");
                // What it heals depends on the part that the byte is in.
                if at % 16 == 0 {
                    assert_eq!(parity.heal(&hurt).expect("heals").bytes, bytes, "byte {at}");
                }
            }
        }
    }

    #[test]
    fn parity_cut_at_either_end_is_of_use_as_long_as_a_header_is_there() {
        let (id, bytes) = pack(3_000);
        let mut hurt = bytes.clone();
        hurt[700] ^= 1;
        for sealer in sealers() {
            let cut = Cut { shard_bytes: 64, recovery: 4 };
            let made = make_with(&sealer, KEY, &id, &bytes, cut, &[3; 32]).expect("makes");
            for length in (0..made.len()).step_by(13) {
                let parts = [&made[..length], &made[made.len() - length..]];
                for part in parts {
                    if let Ok(parity) = Parity::open(&sealer, KEY, &id, part) {
                        assert!(parity.damage.is_some(), "{length}");
                        let _ = parity.heal(&hurt);
                    }
                }
            }
            let second = [b"shifted", &made[..]].concat();
            assert_eq!(opened(&sealer, &id, &second).heal(&hurt).expect("heals").bytes, bytes);
            let zeroed = [&vec![0; made.len() / 3][..], &made[made.len() / 3..]].concat();
            assert_eq!(opened(&sealer, &id, &zeroed).heal(&hurt).expect("heals").bytes, bytes);
        }
    }

    #[test]
    fn stretches_cut_out_put_in_and_zeroed_come_back_up_to_the_bound() {
        let (id, bytes) = pack(200_000);
        let [plain, _] = sealers();
        let parity = opened(&plain, &id, &make(&plain, KEY, &id, &bytes, 5).expect("makes"));
        let bound = 10_000;
        for at in [0, 1, 1023, 1024, 77_777, 190_001] {
            let end = (at + bound).min(bytes.len());
            let zeroed = [&bytes[..at], &vec![0; end - at], &bytes[end..]].concat();
            let out = [&bytes[..at], &bytes[end..]].concat();
            let put_in = [&bytes[..at], &[7; 5_001][..], &bytes[at..]].concat();
            for hurt in [zeroed, out, put_in] {
                assert_eq!(parity.heal(&hurt).expect("heals").bytes, bytes, "at {at}");
            }
        }
        let longer = [&bytes[..], b"garbage"].concat();
        assert_eq!(parity.heal(&longer).expect("heals").damaged, 0);
        let beyond = [&bytes[..50_000], &vec![0; 12_000], &bytes[62_000..]].concat();
        let error = parity.heal(&beyond).map(|_| ()).expect_err("too much");
        assert!(error.to_string().contains("of its 196 shards are damaged"), "{error}");
        assert!(parity.heal(&[]).is_err());
        assert!(parity.heal(&bytes[..100_000]).is_err());
    }

    #[test]
    fn a_header_that_makes_no_sense_is_refused() {
        let (id, bytes) = pack(5_000);
        let cut = Cut { shard_bytes: 1024, recovery: 2 };
        let (sound, _) = encode(&id, &bytes, 5, cut).expect("encodes");
        sound.check(&id).expect("sound");
        type Change = fn(&mut ParityHeader);
        let changes: [(&str, Change); 10] = [
            ("another pack", |it| it.pack = PackId::new([0; 32])),
            ("no pack", |it| it.pack_bytes = 0),
            ("a pack without end", |it| it.pack_bytes = u64::MAX),
            ("shards of nothing", |it| it.shard_bytes = 0),
            ("odd shards", |it| it.shard_bytes = 1000),
            ("tiny shards", |it| it.shard_bytes = 32),
            ("huge shards", |it| it.shard_bytes = 1 << 31),
            ("half a checksum", |it| it.checks.truncate(100)),
            ("no recovery shards", |it| it.checks.truncate(80)),
            ("too many recovery shards", |it| it.checks.resize(16 * 5000, 0)),
        ];
        for (what, change) in changes {
            let mut header = sound.clone();
            change(&mut header);
            assert!(header.check(&id).is_err(), "{what}");
        }
    }

    #[test]
    fn only_some_percentages_are_offered() {
        let (id, bytes) = pack(5_000);
        let [plain, _] = sealers();
        for percent in [0, 51, 255] {
            assert!(make(&plain, KEY, &id, &bytes, percent).is_err(), "{percent}");
        }
        for percent in [1, 50] {
            make(&plain, KEY, &id, &bytes, percent).expect("makes");
        }
    }

    #[test]
    fn a_pack_is_told_by_its_name() {
        let (id, mut bytes) = pack(100);
        assert!(is_pack(&id, &bytes));
        bytes[3] ^= 1;
        assert!(!is_pack(&id, &bytes));
        assert!(!is_pack(&id, &bytes[..20]));
        assert!(!is_pack(&id, &[]));
    }
}
