//! Parity of packs: objects of arbitrary bytes, headers of arbitrary numbers, and packs that are
//! damaged: what comes out is the pack or an error.

use super::Bytes;
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

/// Content is repeated up to this, to have more than a few shards.
const CONTENT_BYTES_MAX: usize = 64 * 1024;
const KEY: &str = "parity/00/00.5-0";
const REPOSITORY: RepositoryId = RepositoryId::new([1; 16]);

/// Makes of any content what ends, as a pack does, with the checksum that is its name.
fn pack_of(content: &[u8]) -> (PackId, Vec<u8>) {
    let checksum = hash::hash(content);
    (PackId::new(checksum), [content, &checksum].concat())
}

/// Opens an object, and heals with it whatever is there.
fn heal(sealer: &Sealer, pack: &PackId, object: &[u8], damaged: &[u8]) -> Option<Vec<u8>> {
    let parity = Parity::open(sealer, KEY, pack, object).ok()?;
    let healed = parity.heal(damaged).ok()?;
    assert!(parity::is_pack(pack, &healed.bytes));
    Some(healed.bytes)
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
    // One wound of one byte is always healed.
    if let [(_, _, by)] = wounds.as_slice()
        && by % 4 != 0
    {
        assert!(healed.is_some(), "one byte is wrong");
    }
}

/// One execution.
pub fn run(data: &[u8]) {
    let keys = Keys::from_master(Wiped::new([7; 32]));
    for sealer in [Sealer::new(REPOSITORY, None), Sealer::new(REPOSITORY, Some(keys))] {
        let (pack, bytes) = pack_of(data);
        heal(&sealer, &pack, data, &bytes);
        heal(&sealer, &pack, &forged(&sealer, pack, Bytes(data)), data);
        damaged(&sealer, data);
    }
}
