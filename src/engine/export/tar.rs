//! Writes a tar archive: POSIX headers with PAX records, holes as GNU tar's sparse format 1.0.
//!
//! Of what is in a header that others may give for an entry, nothing depends on when or where
//! the archive is made: the same backup gives the same bytes.

use crate::base::error::Error;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::metadata::Extent;
use crate::base::metadata::Metadata;
use crate::base::path::EntryPath;
use crate::engine::export::Archive;
use crate::engine::export::cannot_write;
use crate::engine::export::pax::Pax;
use crate::format::entry::Entry;
use crate::format::entry::EntryNode;
use crate::format::entry::FileNode;
use std::io::Write;

/// Everything in an archive fills blocks of so many bytes.
const BLOCK_BYTES: usize = 512;
/// Bytes for a name or for where a link points.
const NAME_BYTES: usize = 100;
/// Bytes for the name of a user or a group.
const OWNER_BYTES: usize = 32;
/// The largest numbers that fit into fields of 8 and of 12 bytes, as octal digits and a NUL.
const OCTAL_8_MAX: u64 = 0o7_777_777;
const OCTAL_12_MAX: u64 = 0o77_777_777_777;

/// A tar archive in the making.
pub(super) struct Tar<'a> {
    out: &'a mut dyn Write,
    /// Bytes of the entry begun that are still to come, and zeros that fill its last block.
    left: u64,
    padding: usize,
}

/// What a header says of the thing it stands before.
struct Head<'a> {
    flag: u8,
    name: &'a [u8],
    link: &'a [u8],
    size: u64,
    device: (u32, u32),
}

impl<'a> Tar<'a> {
    /// Begins an archive.
    pub(super) fn new(out: &'a mut dyn Write) -> Self {
        Tar { out, left: 0, padding: 0 }
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(cannot_write)
    }

    fn pad(&mut self, length: usize) -> Result<()> {
        self.put(&[0; BLOCK_BYTES][..padding(length as u64)])
    }

    fn put_header(&mut self, head: &Head<'_>, metadata: &Metadata, mut pax: Pax) -> Result<()> {
        let header = header(head, metadata, &mut pax);
        if !pax.bytes().is_empty() {
            let base = head.name.strip_suffix(b"/").unwrap_or(head.name);
            let base = base.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
            let name = [b"PaxHeaders/", &base[..base.len().min(80)]].concat();
            let size = pax.bytes().len() as u64;
            let above = Head { flag: b'x', name: &name, link: b"", size, device: (0, 0) };
            let plain = Metadata { mode: 0o644, ..Metadata::default() };
            // Its own numbers are small: it needs no records.
            let block = self::header(&above, &plain, &mut Pax::default());
            self.put(&block)?;
            self.put(pax.bytes())?;
            self.pad(pax.bytes().len())?;
        }
        self.put(&header)
    }

    fn begin_file(&mut self, entry: &Entry, name: &[u8], file: &FileNode) -> Result<()> {
        let mut pax = Pax::default();
        pax.add_xattrs(&entry.metadata.xattrs);
        let Some(extents) = file.extents.as_ref() else {
            let head = Head { flag: b'0', name, link: b"", size: file.size, device: (0, 0) };
            self.put_header(&head, &entry.metadata, pax)?;
            self.expect(file.size);
            return Ok(());
        };
        pax.add(b"GNU.sparse.major", b"1");
        pax.add(b"GNU.sparse.minor", b"0");
        pax.add(b"GNU.sparse.name", name);
        pax.add_number("GNU.sparse.realsize", file.size);
        let map = sparse_map(extents, file.size);
        let size = map.len() as u64 + padding(map.len() as u64) as u64 + file.data_bytes();
        // Only who does not know the format sees this name.
        let base = Some(entry.path.name()).filter(|base| base.is_ascii()).unwrap_or(b"data");
        let shown = [b"GNUSparseFile.0/", &base[..base.len().min(80)]].concat();
        let head = Head { flag: b'0', name: &shown, link: b"", size, device: (0, 0) };
        self.put_header(&head, &entry.metadata, pax)?;
        self.put(&map)?;
        self.pad(map.len())?;
        self.expect(file.data_bytes());
        Ok(())
    }

    fn expect(&mut self, bytes: u64) {
        self.left = bytes;
        self.padding = padding(bytes);
    }
}

impl Archive for Tar<'_> {
    fn refuses(&self, _: &Entry) -> Option<&'static str> {
        None
    }

    fn begin(&mut self, entry: &Entry, link: Option<&EntryPath>) -> Result<()> {
        let mut name = entry.path.as_bytes().to_vec();
        if entry.path.is_root() {
            name.push(b'.');
        }
        let mut head = Head { flag: b'0', name: &[], link: b"", size: 0, device: (0, 0) };
        match (&entry.node, link) {
            (_, Some(first)) => (head.flag, head.link) = (b'1', first.as_bytes()),
            (EntryNode::File(file), None) => return self.begin_file(entry, &name, file),
            (EntryNode::Directory, None) => {
                name.push(b'/');
                head.flag = b'5';
            }
            (EntryNode::Symlink(target), None) => (head.flag, head.link) = (b'2', target),
            (EntryNode::Fifo, None) => head.flag = b'6',
            (EntryNode::CharDevice(major, minor), None) => {
                (head.flag, head.device) = (b'3', (*major, *minor));
            }
            (EntryNode::BlockDevice(major, minor), None) => {
                (head.flag, head.device) = (b'4', (*major, *minor));
            }
        }
        head.name = &name;
        let mut pax = Pax::default();
        // The first name has told them already.
        if link.is_none() {
            pax.add_xattrs(&entry.metadata.xattrs);
        }
        self.put_header(&head, &entry.metadata, pax)
    }

    fn data(&mut self, bytes: &[u8]) -> Result<()> {
        let left = self.left.checked_sub(bytes.len() as u64);
        self.left = left.ok_or_else(|| wrong_length("more"))?;
        self.put(bytes)
    }

    fn end(&mut self) -> Result<()> {
        if self.left > 0 {
            return Err(wrong_length("less"));
        }
        let padding = std::mem::take(&mut self.padding);
        self.put(&[0; BLOCK_BYTES][..padding])
    }

    fn finish(&mut self) -> Result<()> {
        self.put(&[0; 2 * BLOCK_BYTES])
    }
}

fn wrong_length(word: &str) -> Error {
    Error::corrupt(format!("a file has {word} data than it should")).at(Origin::Repository)
}

fn padding(length: u64) -> usize {
    let over = (length % BLOCK_BYTES as u64) as usize;
    if over == 0 { 0 } else { BLOCK_BYTES - over }
}

/// How many stretches of data, then where each begins and how long it is, a number a line. What
/// ends in a hole has a last one of no length, as GNU tar writes it.
fn sparse_map(extents: &[Extent], size: u64) -> Vec<u8> {
    let ends = extents.last().map_or(0, |last| last.offset + last.length);
    let last = (ends < size || extents.is_empty()).then_some(Extent { offset: size, length: 0 });
    let mut map = format!("{}\n", extents.len() + usize::from(last.is_some()));
    for extent in extents.iter().chain(&last) {
        map.push_str(&format!("{}\n{}\n", extent.offset, extent.length));
    }
    map.into_bytes()
}

/// Fills a header, and adds a record for everything that does not fit.
fn header(head: &Head<'_>, metadata: &Metadata, pax: &mut Pax) -> [u8; BLOCK_BYTES] {
    let mut block = [0; BLOCK_BYTES];
    put_name(&mut block[..NAME_BYTES], head.name, "path", pax);
    put_number(&mut block[100..108], metadata.mode.into());
    let owner = &metadata.owner;
    let ids = [(108, owner.uid, "uid"), (116, owner.gid, "gid")];
    for (at, number, keyword) in ids {
        let number = u64::from(number);
        if number > OCTAL_8_MAX {
            pax.add_number(keyword, number);
        }
        put_number(&mut block[at..at + 8], if number > OCTAL_8_MAX { 0 } else { number });
    }
    if head.size > OCTAL_12_MAX {
        pax.add_number("size", head.size);
    }
    put_number(&mut block[124..136], if head.size > OCTAL_12_MAX { 0 } else { head.size });
    let seconds = u64::try_from(metadata.mtime.seconds()).ok().filter(|it| *it <= OCTAL_12_MAX);
    if seconds.is_none() || metadata.mtime.nanos() > 0 {
        pax.add_time("mtime", metadata.mtime);
    }
    put_number(&mut block[136..148], seconds.unwrap_or(0));
    block[156] = head.flag;
    put_name(&mut block[157..157 + NAME_BYTES], head.link, "linkpath", pax);
    block[257..265].copy_from_slice(b"ustar\x0000");
    put_name(&mut block[265..265 + OWNER_BYTES], owner.user.as_bytes(), "uname", pax);
    put_name(&mut block[297..297 + OWNER_BYTES], owner.group.as_bytes(), "gname", pax);
    if matches!(head.flag, b'3' | b'4') {
        put_device(&mut block[329..337], head.device.0);
        put_device(&mut block[337..345], head.device.1);
    }
    // The sum is taken with spaces in its own place.
    block[148..156].fill(b' ');
    let sum: u64 = block.iter().map(|&byte| u64::from(byte)).sum();
    put_number(&mut block[148..155], sum);
    block[154] = 0;
    block
}

/// Puts text into a field, cut off where it is too long: then a record has it whole. One that
/// is no plain ASCII has a record as well, as readers differ in what they take it for.
fn put_name(field: &mut [u8], text: &[u8], keyword: &str, pax: &mut Pax) {
    // One byte stays free for the NUL that some readers expect.
    if text.len() >= field.len() || !text.is_ascii() {
        pax.add(keyword.as_bytes(), text);
    }
    let length = text.len().min(field.len() - 1);
    field[..length].copy_from_slice(&text[..length]);
}

/// Puts octal digits and a NUL.
fn put_number(field: &mut [u8], number: u64) {
    let width = field.len() - 1;
    let digits = format!("{number:0width$o}");
    field[..width].copy_from_slice(&digits.as_bytes()[digits.len() - width..]);
}

/// Puts the number of a device; one that is too large as binary, as GNU tar does.
fn put_device(field: &mut [u8], number: u32) {
    if u64::from(number) <= OCTAL_8_MAX {
        return put_number(field, number.into());
    }
    field[0] = 0x80;
    field[4..8].copy_from_slice(&number.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sparse_map_is_that_of_gnu_tar() {
        let extent = |offset, length| Extent { offset, length };
        let map =
            |extents: &[Extent], size| String::from_utf8(sparse_map(extents, size)).expect("text");
        assert_eq!(map(&[extent(0, 4)], 10), "2\n0\n4\n10\n0\n");
        assert_eq!(map(&[extent(6, 4)], 10), "1\n6\n4\n");
        assert_eq!(map(&[], 10), "1\n10\n0\n");
    }

    #[test]
    fn what_does_not_fit_stands_in_records() {
        let mut metadata = Metadata { mode: 0o4755, ..Metadata::default() };
        std::sync::Arc::make_mut(&mut metadata.owner).uid = 3_000_000;
        let name = [b'n'; 150];
        let size = 9 << 30;
        let head = Head { flag: b'0', name: &name, link: b"", size, device: (0, 0) };
        let mut pax = Pax::default();

        let block = header(&head, &metadata, &mut pax);

        let records = String::from_utf8_lossy(pax.bytes()).into_owned();
        assert!(records.contains("uid=3000000\n") && records.contains("size=9663676416\n"));
        assert!(records.contains(&format!("path={}\n", "n".repeat(150))), "{records}");
        assert!(!records.contains("mtime") && !records.contains("gid"), "{records}");
        assert_eq!(&block[100..108], b"0004755\0");
        assert_eq!(&block[257..265], b"ustar\x0000");
        let sum: u64 = block[..148].iter().chain(&block[156..]).map(|&b| u64::from(b)).sum();
        let told = std::str::from_utf8(&block[148..154]).expect("digits");
        assert_eq!(u64::from_str_radix(told, 8), Ok(sum + 8 * 32));
    }

    #[test]
    fn data_of_another_length_is_refused() {
        let mut out = Vec::new();
        let mut tar = Tar::new(&mut out);
        tar.expect(3);
        assert!(tar.data(b"abcd").is_err());
        tar.data(b"ab").expect("fits");
        assert!(tar.end().is_err());
        tar.data(b"c").expect("fits");
        tar.end().expect("whole");
        assert_eq!(out.len(), 512);
    }
}
