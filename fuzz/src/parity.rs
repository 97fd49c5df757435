//! Parity of packs: objects of arbitrary bytes, headers of arbitrary numbers, and packs that are
//! damaged: what comes out is the pack or an error.

use super::Bytes;
use super::places::reach;
use icecore::base::error::ErrorKind;
use icecore::base::hash;
use icecore::base::id::PackId;
use icecore::base::id::RepositoryId;
use icecore::codec::frame;
use icecore::codec::frame::ObjectKind;
use icecore::codec::key::Keys;
use icecore::codec::key::Wiped;
use icecore::codec::seal::Sealer;
use icecore::format::parity;
use icecore::format::parity::Parity;
use icecore::format::parity::ParityHeader;

/// What the seeds come to.
pub const PLACES: &[&str] = &[
    "an object is refused",
    "an object opens",
    "a sealed object opens",
    "an object heals",
    "a header of any numbers opens",
    "a pack is healed",
    "a pack is healed by parity that is damaged",
    "a pack cannot be healed",
];
/// Content is repeated up to this, to have more than a few shards.
const CONTENT_BYTES_MAX: usize = 64 * 1024;
/// The object that parity is opened as.
pub const KEY: &str = "parity/00/00.5-0";
/// The repository that the seeds are of.
pub const REPOSITORY: RepositoryId = RepositoryId::new([1; 16]);

/// Makes of any content what ends, as a pack does, with the checksum that is its name.
fn pack_of(content: &[u8]) -> (PackId, Vec<u8>) {
    let checksum = hash::hash(content);
    (PackId::new(checksum), [content, &checksum].concat())
}

/// The pack that objects of the seeds are of.
pub fn pack() -> (PackId, Vec<u8>) {
    pack_of(&b"what a pack holds, ".repeat(30))
}

/// Those that open the seeds, without and with keys.
pub fn sealers() -> [Sealer; 2] {
    let keys = Keys::from_master(Wiped::new([7; 32]));
    [Sealer::new(REPOSITORY, None), Sealer::new(REPOSITORY, Some(keys))]
}

/// Takes the input for an object, and heals with it a pack that has a wound.
fn opens_or_not(sealer: &Sealer, object: &[u8]) {
    let (pack, bytes) = pack();
    let mut wounded = bytes.clone();
    wounded[100] ^= 1;
    if Parity::open(sealer, KEY, &pack, object).is_ok() {
        let is_sealed = sealer.keys().is_some();
        reach(if is_sealed { "a sealed object opens" } else { "an object opens" });
    }
    if let Some(healed) = heal(sealer, &pack, object, &wounded) {
        assert!(healed == bytes, "it is another pack");
        reach("an object heals");
    }
}

/// Opens an object, and heals with it whatever is there.
fn heal(sealer: &Sealer, pack: &PackId, object: &[u8], damaged: &[u8]) -> Option<Vec<u8>> {
    let parity = match Parity::open(sealer, KEY, pack, object) {
        Ok(parity) => parity,
        Err(e) => {
            let fits = matches!(e.kind(), ErrorKind::Corrupt | ErrorKind::Unsupported);
            assert!(fits, "{:?}: {}", e.kind(), e.full_message());
            reach("an object is refused");
            return None;
        }
    };
    match parity.heal(damaged) {
        Ok(healed) => {
            assert!(parity::is_pack(pack, &healed.bytes));
            Some(healed.bytes)
        }
        Err(e) => {
            assert_eq!(e.kind(), ErrorKind::Corrupt, "{}", e.full_message());
            reach("a pack cannot be healed");
            None
        }
    }
}

/// An object whose header says anything.
fn forged(sealer: &Sealer, pack: PackId, mut data: Bytes<'_>) -> Vec<u8> {
    let mut number = || u64::from(data.short()) << (data.byte() % 64);
    let header = ParityHeader {
        pack,
        pack_bytes: number(),
        shard_bytes: number() as u32,
        percent: number() as u8,
        checks: vec![7; (number() % 4096) as usize],
    };
    let sealed = sealer.seal_record(ObjectKind::Parity, KEY, &header).expect("sealed");
    let flags = if sealer.keys().is_some() { frame::SEALED } else { 0 };
    let mut bytes = frame::start(ObjectKind::Parity, flags);
    bytes.extend_from_slice(&sealed);
    bytes.extend_from_slice(data.0);
    bytes.extend_from_slice(&sealed);
    bytes.extend_from_slice(&(sealed.len() as u32).to_le_bytes());
    frame::finish(&mut bytes);
    bytes
}

/// Damages a pack and its parity as the input says, and heals it.
fn damaged(sealer: &Sealer, data: &[u8]) {
    let mut data = Bytes(data);
    let (repeats, percent) = (usize::from(data.byte()), data.byte() % 50 + 1);
    let changes = usize::from(data.byte() % 8);
    let wounds: Vec<(bool, u16, u8)> =
        (0..changes).map(|_| (data.byte() & 1 == 1, data.short(), data.byte())).collect();
    let repeats = 1 + repeats.min(CONTENT_BYTES_MAX / data.0.len().max(1));
    let (pack, bytes) = pack_of(&data.0.repeat(repeats));
    let object = parity::make(sealer, KEY, &pack, &bytes, percent).expect("made");
    let sound = Parity::open(sealer, KEY, &pack, &object).expect("opened");
    assert!(sound.damage.is_none() && sound.is_of(&bytes).expect("compared"));
    let (mut wounded, mut worn) = (bytes.clone(), object);
    for (is_pack, at, by) in &wounds {
        let whole = if *is_pack { &mut wounded } else { &mut worn };
        let at = usize::from(*at) * 7 % whole.len().max(1);
        match by % 4 {
            0 => whole.truncate(at),
            1 => whole.insert(at, *by),
            _ => whole.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= by | 1),
        }
    }
    let healed = heal(sealer, &pack, &worn, &wounded);
    assert!(healed.as_ref().is_none_or(|healed| *healed == bytes));
    if healed.is_some() && wounded != bytes {
        let is_worn = wounds.iter().any(|(is_pack, _, _)| !is_pack);
        reach(if is_worn {
            "a pack is healed by parity that is damaged"
        } else {
            "a pack is healed"
        });
    }
    // One wound of one byte is always healed.
    if let [(_, _, by)] = wounds.as_slice()
        && by % 4 != 0
    {
        assert!(healed.is_some(), "one byte is wrong");
    }
}

/// One execution.
pub fn run(data: &[u8]) {
    for sealer in sealers() {
        opens_or_not(&sealer, data);
        let (pack, _) = pack_of(data);
        let forged = forged(&sealer, pack, Bytes(data));
        if Parity::open(&sealer, KEY, &pack, &forged).is_ok() {
            reach("a header of any numbers opens");
        }
        heal(&sealer, &pack, &forged, data);
        damaged(&sealer, data);
    }
}
