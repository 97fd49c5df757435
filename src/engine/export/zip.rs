//! Writes a zip archive, deflated: the only home of the crate that does so.
//!
//! The archive is a stream: the length and the sum of a file stand behind it, and the list of
//! contents at the end of all. Names are bytes as they are; kind and permissions stand where
//! Info-ZIP has them; times to two seconds in UTC, and to the second in the field that Unix tools
//! read. What is larger than the old fields hold is written as ZIP64.

use crate::base::error::Error;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::limits::KIB;
use crate::base::metadata::Extent;
use crate::base::path::EntryPath;
use crate::base::time::Timestamp;
use crate::engine::export::Archive;
use crate::engine::export::cannot_write;
use crate::format::entry::Entry;
use crate::format::entry::EntryNode;
use flate2::Compression;
use flate2::Crc;
use flate2::write::DeflateEncoder;
use std::io::Write;

/// What people are told beforehand.
pub(super) const NOT_KEPT: &str = "a zip archive keeps names, content, permissions and times to \
     the second; owners, attributes, links between files, holes, fifos and devices are not kept";

/// Longest name: its length has 16 bits, and readers want the rest of the header to fit too.
const NAME_BYTES_MAX: usize = 60 * KIB;
/// Files from here on are written as ZIP64: 4 GiB, less what incompressible data gains.
const LARGE_BYTES: u64 = 0xf000_0000;
/// Zeros written at a time for a hole.
const ZEROS: [u8; 16 * KIB] = [0; 16 * KIB];

/// Marks of the parts of an archive.
const LOCAL: u32 = 0x0403_4b50;
const DESCRIPTOR: u32 = 0x0807_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const END_64: u32 = 0x0606_4b50;
const LOCATOR_64: u32 = 0x0706_4b50;
const END: u32 = 0x0605_4b50;

/// Versions of the format that a reader needs, and who wrote it: Unix.
const VERSION: u16 = 20;
const VERSION_64: u16 = 45;
const MADE_BY: u16 = 3 << 8 | VERSION_64;

/// Flags: the length stands behind the content; the name is UTF-8.
const FLAG_DESCRIPTOR: u16 = 1 << 3;
const FLAG_UTF8: u16 = 1 << 11;
const STORED: u16 = 0;
const DEFLATED: u16 = 8;

/// Extra fields: numbers of 64 bits; times as Unix has them, of which the last change's is told.
const FIELD_64: u16 = 1;
const FIELD_TIMES: u16 = 0x5455;
const HAS_MTIME: u8 = 1;

/// Kinds as they stand above the permissions, and the mark of a folder for DOS.
const KIND_FILE: u32 = 0o100_000;
const KIND_FOLDER: u32 = 0o040_000;
const KIND_LINK: u32 = 0o120_000;
const DOS_FOLDER: u32 = 0x10;

/// A zip archive in the making.
pub(super) struct Zip<'a> {
    out: &'a mut dyn Write,
    /// Bytes of the archive so far.
    at: u64,
    /// The list of contents so far, and how many there are.
    central: Vec<u8>,
    entries: u64,
    deflate: DeflateEncoder<Vec<u8>>,
    open: Option<Member>,
}

/// The entry begun.
struct Member {
    name: Vec<u8>,
    method: u16,
    attributes: u32,
    time: Timestamp,
    is_large: bool,
    /// Where in the archive it begins.
    start: u64,
    sum: Crc,
    packed_bytes: u64,
    /// How long the file is, how far it is written, and where its data is from there on.
    size: u64,
    written: u64,
    extents: std::vec::IntoIter<Extent>,
    extent: Option<Extent>,
}

impl<'a> Zip<'a> {
    /// Begins an archive.
    pub(super) fn new(out: &'a mut dyn Write) -> Self {
        let deflate = DeflateEncoder::new(Vec::new(), Compression::default());
        Zip { out, at: 0, central: Vec::new(), entries: 0, deflate, open: None }
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(cannot_write)?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// Adds to the content of the entry begun.
    fn pack(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(open) = &mut self.open else { return Err(Error::bug("no entry is begun")) };
        open.sum.update(bytes);
        open.written += bytes.len() as u64;
        self.deflate.write_all(bytes).map_err(cannot_write)?;
        let packed = std::mem::take(self.deflate.get_mut());
        self.put_packed(&packed)?;
        // So that it need not be allocated anew.
        let mut packed = packed;
        packed.clear();
        *self.deflate.get_mut() = packed;
        Ok(())
    }

    fn put_packed(&mut self, packed: &[u8]) -> Result<()> {
        if let Some(open) = &mut self.open {
            open.packed_bytes += packed.len() as u64;
        }
        self.put(packed)
    }

    fn zeros(&mut self, until: u64) -> Result<()> {
        while let Some(left) = self.open.as_ref().and_then(|open| until.checked_sub(open.written))
            && left > 0
        {
            self.pack(&ZEROS[..left.min(ZEROS.len() as u64) as usize])?;
        }
        Ok(())
    }

    /// Says where the next data belongs and how long it may be.
    fn next_extent(&mut self) -> Option<Extent> {
        let open = self.open.as_mut()?;
        open.extent.take().or_else(|| open.extents.next())
    }
}

impl Archive for Zip<'_> {
    fn refuses(&self, entry: &Entry) -> Option<&'static str> {
        match entry.node {
            EntryNode::Fifo => Some("a zip archive holds no fifo"),
            EntryNode::CharDevice(..) | EntryNode::BlockDevice(..) => {
                Some("a zip archive holds no device")
            }
            _ if entry.path.as_bytes().len() > NAME_BYTES_MAX => {
                Some("a zip archive holds no name as long as this")
            }
            EntryNode::File(_) | EntryNode::Directory | EntryNode::Symlink(_) => None,
        }
    }

    fn begin(&mut self, entry: &Entry, _: Option<&EntryPath>) -> Result<()> {
        if entry.path.is_root() {
            // The folder it is unpacked into; zip has no name for it.
            return Ok(());
        }
        let mut member = Member::of(entry);
        member.start = self.at;
        let header = member.local_header();
        self.put(&header)?;
        self.open = Some(member);
        match &entry.node {
            EntryNode::Symlink(target) => self.pack(target),
            _ => Ok(()),
        }
    }

    fn data(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let Some(extent) = self.next_extent() else {
                let error = Error::corrupt("a file has more data than room for it");
                return Err(error.at(Origin::Repository));
            };
            self.zeros(extent.offset)?;
            let length = bytes.len().min(usize::try_from(extent.length).unwrap_or(usize::MAX));
            self.pack(&bytes[..length])?;
            bytes = &bytes[length..];
            let (offset, length) = (extent.offset + length as u64, extent.length - length as u64);
            if let Some(open) = &mut self.open {
                open.extent = (length > 0).then_some(Extent { offset, length });
            }
        }
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        let Some(size) = self.open.as_ref().map(|open| open.size) else { return Ok(()) };
        self.zeros(size)?;
        let is_packed = self.open.as_ref().is_some_and(|open| open.method == DEFLATED);
        if is_packed {
            let rest = self.deflate.reset(Vec::new()).map_err(cannot_write)?;
            self.put_packed(&rest)?;
        }
        let Some(member) = self.open.take() else { return Ok(()) };
        if is_packed {
            let descriptor = member.descriptor();
            self.put(&descriptor)?;
        }
        member.list(&mut self.central);
        self.entries += 1;
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        let (start, count) = (self.at, self.entries);
        let central = std::mem::take(&mut self.central);
        self.put(&central)?;
        let length = self.at - start;
        let is_large = count >= 0xffff || start >= 0xffff_ffff || length >= 0xffff_ffff;
        let mut end = Record::default();
        if is_large {
            end.u32(END_64).u64(44).u16(MADE_BY).u16(VERSION_64).u32(0).u32(0);
            end.u64(count).u64(count).u64(length).u64(start);
            end.u32(LOCATOR_64).u32(0).u64(self.at).u32(1);
        }
        end.u32(END).u16(0).u16(0).u16_or_max(count).u16_or_max(count);
        end.u32_or_max(length).u32_or_max(start).u16(0);
        self.put(&end.0)
    }
}

impl Member {
    fn of(entry: &Entry) -> Self {
        let mut name = entry.path.as_bytes().to_vec();
        let (kind, method, size) = match &entry.node {
            EntryNode::Directory => {
                name.push(b'/');
                (KIND_FOLDER, STORED, 0)
            }
            EntryNode::Symlink(target) => (KIND_LINK, DEFLATED, target.len() as u64),
            _ => (KIND_FILE, DEFLATED, entry.size()),
        };
        let for_dos = if kind == KIND_FOLDER { DOS_FOLDER } else { 0 };
        Member {
            name,
            method,
            attributes: (kind | entry.metadata.mode) << 16 | for_dos,
            time: entry.metadata.mtime,
            is_large: size >= LARGE_BYTES,
            start: 0,
            sum: Crc::new(),
            packed_bytes: 0,
            size,
            written: 0,
            extents: entry.file().map(|file| file.extents()).unwrap_or_default().into_iter(),
            extent: None,
        }
    }

    fn version(&self) -> u16 {
        if self.is_large { VERSION_64 } else { VERSION }
    }

    fn flags(&self) -> u16 {
        let is_utf8 = !self.name.is_ascii() && std::str::from_utf8(&self.name).is_ok();
        let later = if self.method == DEFLATED { FLAG_DESCRIPTOR } else { 0 };
        later | if is_utf8 { FLAG_UTF8 } else { 0 }
    }

    /// The field for the time of the last change; empty where it does not fit.
    fn times(&self) -> Record {
        let mut field = Record::default();
        if let Ok(seconds) = i32::try_from(self.time.seconds()) {
            field.u16(FIELD_TIMES).u16(5).u8(HAS_MTIME).u32(seconds as u32);
        }
        field
    }

    fn local_header(&self) -> Vec<u8> {
        let mut extra = self.times();
        if self.is_large {
            extra.u16(FIELD_64).u16(16).u64(0).u64(0);
        }
        let (date, clock) = dos_time(self.time);
        let unknown = if self.is_large { u32::MAX } else { 0 };
        let mut header = Record::default();
        header.u32(LOCAL).u16(self.version()).u16(self.flags()).u16(self.method);
        header.u16(clock).u16(date).u32(0).u32(unknown).u32(unknown);
        // Neither is longer than that: `NAME_BYTES_MAX`.
        header.u16(self.name.len() as u16).u16(extra.0.len() as u16);
        header.bytes(&self.name).bytes(&extra.0);
        header.0
    }

    fn descriptor(&self) -> Vec<u8> {
        let mut descriptor = Record::default();
        descriptor.u32(DESCRIPTOR).u32(self.sum.sum());
        if self.is_large {
            descriptor.u64(self.packed_bytes).u64(self.written);
        } else {
            descriptor.u32(self.packed_bytes as u32).u32(self.written as u32);
        }
        descriptor.0
    }

    /// Adds it to the list of contents.
    fn list(&self, central: &mut Vec<u8>) {
        let mut large = Record::default();
        if self.is_large {
            large.u64(self.written).u64(self.packed_bytes);
        }
        if self.start >= 0xffff_ffff {
            large.u64(self.start);
        }
        let mut extra = self.times();
        if !large.0.is_empty() {
            extra.u16(FIELD_64).u16(large.0.len() as u16).bytes(&large.0);
        }
        let version = if large.0.is_empty() { VERSION } else { VERSION_64 };
        let size = |bytes: u64| if self.is_large { u32::MAX } else { bytes as u32 };
        let (date, clock) = dos_time(self.time);
        let mut record = Record::default();
        record.u32(CENTRAL).u16(MADE_BY).u16(version).u16(self.flags()).u16(self.method);
        record.u16(clock).u16(date).u32(self.sum.sum());
        record.u32(size(self.packed_bytes)).u32(size(self.written));
        record.u16(self.name.len() as u16).u16(extra.0.len() as u16).u16(0).u16(0).u16(0);
        record.u32(self.attributes).u32_or_max(self.start);
        record.bytes(&self.name).bytes(&extra.0);
        central.extend_from_slice(&record.0);
    }
}

/// Numbers one after the other, the least byte first.
#[derive(Default)]
struct Record(Vec<u8>);

impl Record {
    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn u8(&mut self, number: u8) -> &mut Self {
        self.bytes(&[number])
    }

    fn u16(&mut self, number: u16) -> &mut Self {
        self.bytes(&number.to_le_bytes())
    }

    fn u32(&mut self, number: u32) -> &mut Self {
        self.bytes(&number.to_le_bytes())
    }

    fn u64(&mut self, number: u64) -> &mut Self {
        self.bytes(&number.to_le_bytes())
    }

    /// What does not fit stands elsewhere, and the largest number says so.
    fn u16_or_max(&mut self, number: u64) -> &mut Self {
        self.u16(u16::try_from(number).unwrap_or(u16::MAX))
    }

    fn u32_or_max(&mut self, number: u64) -> &mut Self {
        self.u32(u32::try_from(number).unwrap_or(u32::MAX))
    }
}

/// Date and time as DOS has them, from 1980 to 2107; what is outside gets the nearest end.
fn dos_time(time: Timestamp) -> (u16, u16) {
    let first = [1980, 1, 1, 0, 0, 0];
    let calendar = time.to_calendar().unwrap_or(first);
    let [year, month, day, hour, minute, second] = match calendar[0] {
        ..1980 => first,
        1980..=2107 => calendar,
        _ => [2107, 12, 31, 23, 59, 58],
    };
    let date = (year - 1980) << 9 | month << 5 | day;
    let clock = hour << 11 | minute << 5 | (second / 2);
    // Every part has its bits, so both have 16.
    (date as u16, clock as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_outside_of_what_dos_knows_get_the_nearest() {
        let shown = |seconds| {
            let (date, clock) = dos_time(Timestamp::new(seconds, 5));
            let date = (1980 + (date >> 9), date >> 5 & 15, date & 31);
            (date, (clock >> 11, clock >> 5 & 63, (clock & 31) * 2))
        };
        assert_eq!(shown(1_700_000_001), ((2023, 11, 14), (22, 13, 20)));
        assert_eq!(shown(-5), ((1980, 1, 1), (0, 0, 0)));
        assert_eq!(shown(10_000_000_000), ((2107, 12, 31), (23, 59, 58)));
        assert_eq!(shown(i64::MAX), ((1980, 1, 1), (0, 0, 0)), "no calendar reaches so far");
    }

    #[test]
    fn what_is_large_has_its_numbers_in_a_field() {
        let path = EntryPath::new(b"a").expect("a path");
        let node = EntryNode::Symlink(b"x".to_vec());
        let mut member = Member::of(&Entry { path, metadata: Default::default(), node });
        (member.is_large, member.written, member.packed_bytes) = (true, 5 << 30, 6 << 30);
        member.start = 7 << 30;

        let mut central = Vec::new();
        member.list(&mut central);

        let field = &central[46 + 1 + 9..];
        let mut expected = Record::default();
        expected.u16(FIELD_64).u16(24).u64(5 << 30).u64(6 << 30).u64(7 << 30);
        assert_eq!(field, expected.0);
        assert_eq!(central[20..28], [255; 8]);
        assert_eq!(central[42..46], [255; 4]);
        assert_eq!(member.local_header().len(), 30 + 1 + 9 + 20);
        assert_eq!(member.descriptor().len(), 24);
    }

    #[test]
    fn many_entries_get_the_larger_end() {
        let mut out = Vec::new();
        let mut zip = Zip::new(&mut out);
        zip.entries = 70_000;
        zip.finish().expect("an end");
        assert_eq!(out.len(), 56 + 20 + 22);
        assert_eq!(out[56 + 20 + 8..56 + 20 + 12], [255; 4]);
    }
}
