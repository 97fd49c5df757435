//! Seal and decode: blocks into a pack, and out of it again.

use crate::bytes::bare_zstd;
use crate::data;
use crate::data::Kind;
use crate::data::Place;
use crate::measure::Done;
use crate::measure::Unit;
use crate::measure::ensure;
use crate::measure::row;
use crate::measure::side;
use crate::measure::timed;
use crate::settings::Settings;
use aws_lc_rs::aead::AES_256_GCM;
use aws_lc_rs::aead::Aad;
use aws_lc_rs::aead::LessSafeKey;
use aws_lc_rs::aead::Nonce;
use aws_lc_rs::aead::UnboundKey;
use icecore::base::limits::BLOCK_BYTES_TARGET;
use icecore::base::limits::KIB;
use icecore::base::limits::MIB;
use icecore::base::limits::PACK_BYTES_TARGET;
use icecore::chunk;
use icecore::chunk::Cut;
use icecore::codec::compress::Compressor;
use icecore::codec::compress::LEVEL_DEFAULT;
use icecore::codec::crypt::Part;
use icecore::format::block::Row;
use icecore::format::block::Table;
use icecore::format::pack::EncodedBlock;
use icecore::format::pack::PackBuilder;
use icecore::format::pack_index::IndexedPack;
use icecore::repository::Repository;
use icecore::repository::index::Location;
use icecore::repository::ranges::CLASS_CONTENT;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Makes AES as the library has it. What is sealed is thrown away.
pub(crate) fn bare_aes() -> Done<LessSafeKey> {
    let key = UnboundKey::new(&AES_256_GCM, &[7; 32]).map_err(|_| "a key is refused")?;
    Ok(LessSafeKey::new(key))
}

/// Encrypts in place, without the tag.
fn seal_bare(aes: &LessSafeKey, bytes: &mut [u8]) -> bool {
    let nonce = Nonce::assume_unique_for_key([0; 12]);
    aes.seal_in_place_separate_tag(nonce, Aad::empty(), bytes).is_ok()
}

/// Makes blocks of content, as a backup does.
fn blocks(repository: &Repository, kind: &Kind) -> Done<Vec<EncodedBlock>> {
    let mut compressor = Compressor::new(LEVEL_DEFAULT)?;
    let [fine, coarse] = data::averages_log2();
    let average_log2 = if kind.name == "noise" { coarse } else { fine };
    let encode = |plain: &[u8]| {
        let mut rows = Vec::new();
        chunk::cut_lengths(plain, Cut::Gear { average_log2 }, repository.gear(), |range| {
            let length = range.len() as u32;
            rows.push(Row { blob: repository.name_blob(&plain[range]), length });
        });
        let table = Table::new(&rows);
        let mut stored = Vec::new();
        compressor.compress(plain, &mut stored)?;
        Ok(EncodedBlock { id: table.id(), table, stored, class: CLASS_CONTENT })
    };
    kind.bytes.chunks(BLOCK_BYTES_TARGET).map(encode).collect()
}

fn start(repository: &Repository, buffer: Vec<u8>) -> Done<PackBuilder> {
    let keys = repository.store().sealer().keys();
    Ok(PackBuilder::new(&repository.id(), keys, buffer)?)
}

/// Blocks sealed one by one; and whole packs, which are hashed at their end.
pub(crate) fn seal(settings: &Settings, folder: &Path) -> Done<()> {
    let (_, repository) = Place::create(folder, true)?;
    let bytes = data::noise(settings.part(PACK_BYTES_TARGET, BLOCK_BYTES_TARGET));
    let blocks = blocks(&repository, &Kind { name: "noise", bytes })?;
    let count: usize = blocks.iter().map(|block| block.stored.len()).sum();
    let mut plain = data::noise(count);
    let aes = bare_aes()?;
    for is_whole in [false, true] {
        let name = if is_whole {
            format!("packs of {} MiB, from block to name", PACK_BYTES_TARGET / MIB)
        } else {
            format!("blocks of {} MiB into a pack", BLOCK_BYTES_TARGET / MIB)
        };
        let mut buffer = Vec::new();
        let ours = side(name, || {
            let mut builder = start(&repository, std::mem::take(&mut buffer))?;
            let (added, adding) = timed(|| blocks.iter().try_for_each(|block| builder.add(block)));
            added?;
            let (pack, finishing) = timed(|| builder.finish());
            let pack = pack?;
            ensure(pack.rows.len() == blocks.len(), "the pack has not all blocks")?;
            buffer = pack.bytes;
            Ok(if is_whole { adding + finishing } else { adding })
        });
        let name = if is_whole { "AES-256-GCM and BLAKE3" } else { "AES-256-GCM" };
        let limit = side(name, || {
            let (is_done, sealing) = timed(|| seal_bare(&aes, &mut plain));
            ensure(is_done, "nothing was sealed")?;
            let hash = || timed(|| blake3::hash(&plain)).1;
            let hashing = if is_whole { hash() } else { Duration::ZERO };
            Ok(sealing + hashing)
        });
        row(settings, "seal", (Unit::Bytes, count), ours, limit)?;
    }
    Ok(())
}

/// A block as it lies in a pack.
struct Stored {
    location: Location,
    table: Arc<Table>,
    sealed: Vec<u8>,
    sealed_table: Vec<u8>,
}

/// Packs blocks and returns each as a reader gets it.
fn pack(repository: &Repository, blocks: &[EncodedBlock]) -> Done<Vec<Stored>> {
    let mut builder = start(repository, Vec::new())?;
    blocks.iter().try_for_each(|block| builder.add(block))?;
    let pack = builder.finish()?;
    let size = pack.bytes.len() as u64;
    let indexed = IndexedPack { pack: pack.id, size, salt: pack.salt };
    let part =
        |offset: u32, length: u32| pack.bytes[offset as usize..(offset + length) as usize].to_vec();
    let stored = pack.rows.iter().zip(blocks).map(|(row, block)| Stored {
        sealed: part(row.offset, row.length),
        sealed_table: part(row.table_offset, row.table_length),
        table: Arc::new(block.table.clone()),
        location: Location { pack: indexed, row: row.clone() },
    });
    Ok(stored.collect())
}

/// What becomes of a block without us: decrypted, decompressed, hashed in one piece.
struct Bare {
    aes: Option<LessSafeKey>,
    zstd: Option<zstd::bulk::Decompressor<'static>>,
    plain: Vec<u8>,
}

impl Bare {
    /// Makes of a block's plaintext what [`Bare::decode`] takes.
    fn encode(&self, plain: &[u8]) -> Done<Vec<u8>> {
        let mut bytes = match self.zstd {
            Some(_) => bare_zstd(LEVEL_DEFAULT)?.compress(plain)?,
            None => plain.to_vec(),
        };
        if let Some(aes) = &self.aes {
            let nonce = Nonce::assume_unique_for_key([0; 12]);
            aes.seal_in_place_append_tag(nonce, Aad::empty(), &mut bytes)
                .map_err(|_| "nothing was sealed")?;
        }
        Ok(bytes)
    }

    fn decode(&mut self, bytes: &mut [u8]) -> Done<Duration> {
        let (done, taken) = timed(|| -> Done<()> {
            let packed = match &self.aes {
                Some(aes) => aes
                    .open_in_place(Nonce::assume_unique_for_key([0; 12]), Aad::empty(), bytes)
                    .map_err(|_| "nothing was opened")?,
                None => bytes,
            };
            match &mut self.zstd {
                Some(zstd) => _ = zstd.decompress_to_buffer(packed, &mut self.plain[..])?,
                None => self.plain.copy_from_slice(packed),
            }
            black_box(blake3::hash(&self.plain));
            Ok(())
        });
        done?;
        Ok(taken)
    }
}

/// Blocks to verified blobs.
pub(crate) fn decode(settings: &Settings, folder: &Path) -> Done<()> {
    let kinds = data::kinds(settings);
    let cases = [(&kinds[0], false), (&kinds[0], true), (&kinds[1], true), (&kinds[2], true)];
    for (kind, is_encrypted) in cases {
        let (_, repository) = Place::create(folder, is_encrypted)?;
        let blocks = blocks(&repository, kind)?;
        let stored = pack(&repository, &blocks)?;
        let way = if is_encrypted { "encrypted" } else { "plain" };
        let mut buffer = Vec::new();
        let ours = side(format!("blocks of 1 MiB, {}, {way}", kind.name), || {
            let mut taken = Duration::ZERO;
            for (at, wanted) in stored.iter().zip(kind.bytes.chunks(BLOCK_BYTES_TARGET)) {
                let (mut sealed, table) = (at.sealed.clone(), Arc::clone(&at.table));
                let plain = std::mem::take(&mut buffer);
                let (decoded, seconds) = timed(|| {
                    let block = repository.decode_copy(&at.location, table, &mut sealed, plain)?;
                    let mut places = 0..block.table.places();
                    places.try_for_each(|place| block.blob(&repository, place).map(drop))?;
                    Ok::<_, icecore::base::error::Error>(block)
                });
                taken += seconds;
                let block = decoded?;
                ensure(block.plain == wanted, "a block decodes to something else")?;
                buffer = block.plain;
            }
            Ok(taken)
        });
        let aes = if is_encrypted { Some(bare_aes()?) } else { None };
        let compresses = kind.name != "noise";
        let zstd = compresses.then(zstd::bulk::Decompressor::new).transpose()?;
        let mut bare = Bare { aes, zstd, plain: vec![0; BLOCK_BYTES_TARGET] };
        let plain = kind.bytes.chunks(BLOCK_BYTES_TARGET);
        let encoded: Vec<Vec<u8>> = plain.map(|plain| bare.encode(plain)).collect::<Done<_>>()?;
        let name = match (kind.name, is_encrypted) {
            ("noise", _) => "AES-256-GCM, a copy, BLAKE3",
            (_, true) => "AES-256-GCM, zstd, BLAKE3",
            (_, false) => "zstd, BLAKE3",
        };
        let limit = side(name, || {
            let mut taken = Duration::ZERO;
            for (block, wanted) in encoded.iter().zip(kind.bytes.chunks(BLOCK_BYTES_TARGET)) {
                taken += bare.decode(&mut block.clone())?;
                ensure(bare.plain == wanted, "a bare block decodes to something else")?;
            }
            Ok(taken)
        });
        row(settings, "decode", (Unit::Bytes, kind.bytes.len()), ours, limit)?;
        if kind.name == "text" && is_encrypted {
            tables(settings, &repository, &stored)?;
        }
    }
    Ok(())
}

/// Tables out of a pack, verified against the ids of their blocks.
fn tables(settings: &Settings, repository: &Repository, stored: &[Stored]) -> Done<()> {
    let rows: usize = stored.iter().map(|at| at.table.places() as usize).sum();
    let blob_kib = (1 << data::averages_log2()[0]) / KIB;
    let ours = side(format!("tables, each verified, {blob_kib} KiB blobs"), || {
        let mut taken = Duration::ZERO;
        for at in stored {
            let mut sealed = at.sealed_table.clone();
            let (decoded, seconds) = timed(|| {
                let cipher = repository.pack_cipher(&at.location)?;
                let plain = cipher.open(Part::Table, at.location.row.number, &mut sealed)?;
                Table::decode(plain, &at.location.row.block)
            });
            taken += seconds;
            ensure(decoded? == *at.table, "a table decodes to something else")?;
        }
        Ok(taken)
    });
    let aes = bare_aes()?;
    let limit = side("AES-256-GCM and BLAKE3", || {
        let mut taken = Duration::ZERO;
        for at in stored {
            let mut sealed = at.sealed_table.clone();
            let both = timed(|| (seal_bare(&aes, &mut sealed), blake3::hash(&sealed)));
            taken += both.1;
        }
        Ok(taken)
    });
    row(settings, "decode", (Unit::Things("rows"), rows), ours, limit)
}
