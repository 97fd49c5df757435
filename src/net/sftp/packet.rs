//! SFTP version 3 on the wire: requests to bytes, bytes to answers. Names are bytes.
//!
//! After `draft-ietf-secsh-filexfer-02` and OpenSSH's `PROTOCOL`. A packet is its length (`u32`,
//! big endian), a type, for all but the first a number that ties an answer to its request, and
//! the rest. Whatever a server sends, nothing here panics, and nothing is allocated beyond the
//! packet's own length.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;

const VERSION: u32 = 3;

const INIT: u8 = 1;
const ANSWER_VERSION: u8 = 2;
const OPEN: u8 = 3;
const CLOSE: u8 = 4;
const READ: u8 = 5;
const WRITE: u8 = 6;
const LSTAT: u8 = 7;
const FSTAT: u8 = 8;
const SETSTAT: u8 = 9;
const OPENDIR: u8 = 11;
const READDIR: u8 = 12;
const REMOVE: u8 = 13;
const MKDIR: u8 = 14;
const RMDIR: u8 = 15;
const REALPATH: u8 = 16;
const RENAME: u8 = 18;
const READLINK: u8 = 19;
const SYMLINK: u8 = 20;
const ANSWER_STATUS: u8 = 101;
const ANSWER_HANDLE: u8 = 102;
const ANSWER_DATA: u8 = 103;
const ANSWER_NAME: u8 = 104;
const ANSWER_ATTRIBUTES: u8 = 105;
const EXTENDED: u8 = 200;
const ANSWER_EXTENDED: u8 = 201;

/// The extension of [`Request::SetLink`].
pub(super) const EXTENSION_SET_LINK: &str = "lsetstat@openssh.com";

const HAS_SIZE: u32 = 1;
const HAS_OWNER: u32 = 2;
const HAS_MODE: u32 = 4;
const HAS_TIMES: u32 = 8;
const HAS_MORE: u32 = 0x8000_0000;

/// To read.
pub(super) const OPEN_READ: u32 = 1;
/// To write.
pub(super) const OPEN_WRITE: u32 = 2;
/// Made where it is not there.
pub(super) const OPEN_CREATE: u32 = 8;
/// Emptied first.
pub(super) const OPEN_TRUNCATE: u32 = 16;
/// Refused where it is there.
pub(super) const OPEN_EXCLUSIVE: u32 = 32;

/// What a server tells of a file, or is asked to set; what it does not tell is None.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Attributes {
    /// Bytes.
    pub(super) size: Option<u64>,
    /// Numbers of user and group.
    pub(super) owner: Option<(u32, u32)>,
    /// Kind and permissions, as `st_mode`.
    pub(super) mode: Option<u32>,
    /// Last access and last change of content, in whole seconds since 1970.
    pub(super) times: Option<(u32, u32)>,
}

/// A name in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    /// The bytes of the name.
    pub(super) name: Vec<u8>,
    /// What the server tells of it: of a link, of the link itself.
    pub(super) attributes: Attributes,
}

/// What was read from a file: the packet that it came in, so that it is not copied, and where in
/// it the content begins.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Content {
    packet: Vec<u8>,
    from: usize,
}

impl Content {
    /// Returns what is left of the bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        self.packet.get(self.from..).unwrap_or_default()
    }

    /// Leaves the first bytes out from now on.
    pub(super) fn skip(&mut self, length: usize) {
        self.from = self.from.saturating_add(length).min(self.packet.len());
    }
}

/// What a server answers.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Done, or why not.
    Status(u32, String),
    Handle(Vec<u8>),
    Data(Content),
    Names(Vec<Name>),
    Attributes(Attributes),
    Extended(Vec<u8>),
}

/// A request without its number.
#[derive(Debug)]
pub(super) enum Request<'a> {
    Open {
        path: &'a [u8],
        flags: u32,
        attributes: Attributes,
    },
    Close {
        handle: &'a [u8],
    },
    Read {
        handle: &'a [u8],
        offset: u64,
        length: u32,
    },
    Write {
        handle: &'a [u8],
        offset: u64,
        data: &'a [u8],
    },
    /// Of what the path names, links not followed.
    LookAt {
        path: &'a [u8],
    },
    LookAtHandle {
        handle: &'a [u8],
    },
    Set {
        path: &'a [u8],
        attributes: Attributes,
    },
    OpenFolder {
        path: &'a [u8],
    },
    ReadFolder {
        handle: &'a [u8],
    },
    Remove {
        path: &'a [u8],
    },
    MakeFolder {
        path: &'a [u8],
    },
    RemoveFolder {
        path: &'a [u8],
    },
    RealPath {
        path: &'a [u8],
    },
    Rename {
        from: &'a [u8],
        to: &'a [u8],
    },
    ReadLink {
        path: &'a [u8],
    },
    /// OpenSSH takes the two in the opposite order of the draft, and others follow it.
    MakeLink {
        to: &'a [u8],
        path: &'a [u8],
    },
    /// An extension: its name, and strings.
    Extended {
        name: &'a str,
        strings: &'a [&'a [u8]],
    },
    /// As [`Request::Set`], but of a link and not of what it leads to.
    SetLink {
        path: &'a [u8],
        attributes: Attributes,
    },
}

fn put_u32(out: &mut Vec<u8>, number: u32) {
    out.extend_from_slice(&number.to_be_bytes());
}

fn put_string(out: &mut Vec<u8>, bytes: &[u8]) {
    put_u32(out, bytes.len() as u32);
    out.extend_from_slice(bytes);
}

impl Attributes {
    fn put(&self, out: &mut Vec<u8>) {
        let mut flags = 0;
        for (flag, is_there) in [
            (HAS_SIZE, self.size.is_some()),
            (HAS_OWNER, self.owner.is_some()),
            (HAS_MODE, self.mode.is_some()),
            (HAS_TIMES, self.times.is_some()),
        ] {
            flags |= if is_there { flag } else { 0 };
        }
        put_u32(out, flags);
        if let Some(size) = self.size {
            out.extend_from_slice(&size.to_be_bytes());
        }
        let pair = |out: &mut Vec<u8>, pair: Option<(u32, u32)>| {
            if let Some((first, second)) = pair {
                put_u32(out, first);
                put_u32(out, second);
            }
        };
        pair(out, self.owner);
        self.mode.into_iter().for_each(|mode| put_u32(out, mode));
        pair(out, self.times);
    }
}

/// Returns the packet that begins a session.
pub(super) fn init() -> Vec<u8> {
    let mut out = Vec::with_capacity(9);
    put_u32(&mut out, 5);
    out.push(INIT);
    put_u32(&mut out, VERSION);
    out
}

impl Request<'_> {
    /// Appends the packet of a request with its number.
    pub(super) fn put(&self, number: u32, out: &mut Vec<u8>) {
        let start = out.len();
        put_u32(out, 0);
        out.push(self.code());
        put_u32(out, number);
        self.put_body(out);
        let length = (out.len() - start - 4) as u32;
        out[start..start + 4].copy_from_slice(&length.to_be_bytes());
    }

    fn code(&self) -> u8 {
        match self {
            Request::Open { .. } => OPEN,
            Request::Close { .. } => CLOSE,
            Request::Read { .. } => READ,
            Request::Write { .. } => WRITE,
            Request::LookAt { .. } => LSTAT,
            Request::LookAtHandle { .. } => FSTAT,
            Request::Set { .. } => SETSTAT,
            Request::OpenFolder { .. } => OPENDIR,
            Request::ReadFolder { .. } => READDIR,
            Request::Remove { .. } => REMOVE,
            Request::MakeFolder { .. } => MKDIR,
            Request::RemoveFolder { .. } => RMDIR,
            Request::RealPath { .. } => REALPATH,
            Request::Rename { .. } => RENAME,
            Request::ReadLink { .. } => READLINK,
            Request::MakeLink { .. } => SYMLINK,
            Request::Extended { .. } | Request::SetLink { .. } => EXTENDED,
        }
    }

    fn put_body(&self, out: &mut Vec<u8>) {
        match *self {
            Request::Open { path, flags, attributes } => {
                put_string(out, path);
                put_u32(out, flags);
                attributes.put(out);
            }
            Request::Read { handle, offset, length } => {
                put_string(out, handle);
                out.extend_from_slice(&offset.to_be_bytes());
                put_u32(out, length);
            }
            Request::Write { handle, offset, data } => {
                put_string(out, handle);
                out.extend_from_slice(&offset.to_be_bytes());
                put_string(out, data);
            }
            Request::Set { path, attributes } => {
                put_string(out, path);
                attributes.put(out);
            }
            Request::MakeFolder { path } => {
                put_string(out, path);
                Attributes::default().put(out);
            }
            Request::Rename { from: first, to: second }
            | Request::MakeLink { to: first, path: second } => {
                put_string(out, first);
                put_string(out, second);
            }
            Request::Extended { name, strings } => {
                put_string(out, name.as_bytes());
                strings.iter().for_each(|string| put_string(out, string));
            }
            Request::SetLink { path, attributes } => {
                put_string(out, EXTENSION_SET_LINK.as_bytes());
                put_string(out, path);
                attributes.put(out);
            }
            Request::Close { handle }
            | Request::LookAtHandle { handle }
            | Request::ReadFolder { handle } => put_string(out, handle),
            Request::LookAt { path }
            | Request::OpenFolder { path }
            | Request::Remove { path }
            | Request::RemoveFolder { path }
            | Request::RealPath { path }
            | Request::ReadLink { path } => put_string(out, path),
        }
    }
}

/// What is left of a packet.
struct Left<'a>(&'a [u8]);

fn cut_short() -> Error {
    Error::new(ErrorKind::Unreachable, "the server sent a packet that makes no sense")
        .hint("it may be no SFTP server; a login that prints text does this")
}

impl<'a> Left<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (taken, left) = self.0.split_at_checked(length).ok_or_else(cut_short)?;
        self.0 = left;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    fn u32(&mut self) -> Result<u32> {
        let bytes = self.take(4)?.first_chunk::<4>().ok_or_else(cut_short)?;
        Ok(u32::from_be_bytes(*bytes))
    }

    fn u64(&mut self) -> Result<u64> {
        let bytes = self.take(8)?.first_chunk::<8>().ok_or_else(cut_short)?;
        Ok(u64::from_be_bytes(*bytes))
    }

    fn string(&mut self) -> Result<&'a [u8]> {
        let length = self.u32()? as usize;
        self.take(length)
    }

    fn attributes(&mut self) -> Result<Attributes> {
        let flags = self.u32()?;
        let mut it = Attributes::default();
        if flags & HAS_SIZE != 0 {
            it.size = Some(self.u64()?);
        }
        if flags & HAS_OWNER != 0 {
            it.owner = Some((self.u32()?, self.u32()?));
        }
        if flags & HAS_MODE != 0 {
            it.mode = Some(self.u32()?);
        }
        if flags & HAS_TIMES != 0 {
            it.times = Some((self.u32()?, self.u32()?));
        }
        if flags & HAS_MORE != 0 {
            for _ in 0..self.u32()? {
                self.string()?;
                self.string()?;
            }
        }
        Ok(it)
    }

    fn names(&mut self) -> Result<Vec<Name>> {
        let count = self.u32()?;
        let mut names = Vec::new();
        for _ in 0..count {
            let name = self.string()?.to_vec();
            // The line that `ls -l` would print: for people, and not to be read by programs.
            self.string()?;
            names.push(Name { name, attributes: self.attributes()? });
        }
        Ok(names)
    }
}

/// Reads the answer to [`init`]: the version, and the extensions with their data.
pub(super) fn read_version(packet: &[u8]) -> Result<Vec<(String, Vec<u8>)>> {
    let mut left = Left(packet);
    if left.byte()? != ANSWER_VERSION || left.u32()? < VERSION {
        return Err(cut_short());
    }
    let mut extensions = Vec::new();
    while !left.0.is_empty() {
        let name = String::from_utf8_lossy(left.string()?).into_owned();
        extensions.push((name, left.string()?.to_vec()));
    }
    Ok(extensions)
}

/// Reads an answer, and the number of the request that it is for.
pub(super) fn read_answer(packet: Vec<u8>) -> Result<(u32, Answer)> {
    let mut left = Left(&packet);
    let code = left.byte()?;
    let number = left.u32()?;
    let answer = match code {
        ANSWER_STATUS => {
            let status = left.u32()?;
            // Some servers leave the message out.
            let message = left.string().unwrap_or_default();
            Answer::Status(status, String::from_utf8_lossy(message).into_owned())
        }
        ANSWER_HANDLE => Answer::Handle(left.string()?.to_vec()),
        ANSWER_DATA => {
            let length = left.string()?.len();
            // What follows the content belongs to later versions of the protocol.
            let end = packet.len() - left.0.len();
            let mut packet = packet;
            packet.truncate(end);
            return Ok((number, Answer::Data(Content { packet, from: end - length })));
        }
        ANSWER_NAME => Answer::Names(left.names()?),
        ANSWER_ATTRIBUTES => Answer::Attributes(left.attributes()?),
        ANSWER_EXTENDED => Answer::Extended(left.0.to_vec()),
        _ => return Err(cut_short()),
    };
    Ok((number, answer))
}

/// Reads the answer of an extension that is a row of numbers.
pub(super) fn read_numbers(bytes: &[u8]) -> Vec<u64> {
    let words = bytes.chunks_exact(8).filter_map(|word| word.first_chunk::<8>());
    words.map(|word| u64::from_be_bytes(*word)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::any;
    use proptest::prop_assert_eq;
    use proptest::proptest;

    fn packet(request: &Request<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        request.put(7, &mut out);
        let length = u32::from_be_bytes(*out.first_chunk().expect("a length"));
        assert_eq!(length as usize, out.len() - 4);
        out.split_off(4)
    }

    #[test]
    fn requests_are_as_the_draft_writes_them() {
        assert_eq!(init(), [0, 0, 0, 5, 1, 0, 0, 0, 3]);
        let read = Request::Read { handle: b"h", offset: 258, length: 5 };
        let expected = b"\x05\0\0\0\x07\0\0\0\x01h\0\0\0\0\0\0\x01\x02\0\0\0\x05";
        assert_eq!(packet(&read), expected);
        let attributes =
            Attributes { mode: Some(0o644), times: Some((1, 2)), ..Default::default() };
        let set = Request::Set { path: b"\xff/a", attributes };
        let expected = b"\x09\0\0\0\x07\0\0\0\x03\xff/a\0\0\0\x0c\0\0\x01\xa4\0\0\0\x01\0\0\0\x02";
        assert_eq!(packet(&set), expected);
    }

    #[test]
    fn names_and_attributes_are_read_as_they_are() {
        let mut bytes = vec![104, 0, 0, 0, 9, 0, 0, 0, 1];
        put_string(&mut bytes, b"a\xff\n");
        put_string(&mut bytes, b"-rw-r--r-- 1 me");
        put_u32(&mut bytes, HAS_SIZE | HAS_OWNER | HAS_MODE | HAS_TIMES | HAS_MORE);
        bytes.extend_from_slice(&5_000_000_000_u64.to_be_bytes());
        [3, 4, 0o100_644, 10, 11, 1].iter().for_each(|number| put_u32(&mut bytes, *number));
        put_string(&mut bytes, b"x@y");
        put_string(&mut bytes, b"z");
        let attributes = Attributes {
            size: Some(5_000_000_000),
            owner: Some((3, 4)),
            mode: Some(0o100_644),
            times: Some((10, 11)),
        };
        let name = Name { name: b"a\xff\n".to_vec(), attributes };
        assert_eq!(read_answer(bytes.clone()).expect("reads"), (9, Answer::Names(vec![name])));
        for end in 0..bytes.len() {
            assert!(read_answer(bytes[..end].to_vec()).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn a_count_that_lies_takes_no_memory() {
        for code in [ANSWER_NAME, ANSWER_DATA, ANSWER_HANDLE] {
            let bytes = vec![code, 0, 0, 0, 9, 255, 255, 255, 255];
            assert!(read_answer(bytes).is_err(), "{code}");
        }
        // As many extensions of attributes as can be said, and none there.
        let bytes = [&[ANSWER_ATTRIBUTES, 0, 0, 0, 9][..], &[0x80, 0, 0, 0], &[255; 4]].concat();
        assert!(read_answer(bytes).is_err());
    }

    #[test]
    fn content_is_what_stands_in_the_packet() {
        let mut bytes = vec![ANSWER_DATA, 0, 0, 0, 9];
        put_string(&mut bytes, b"content");
        bytes.push(1);
        let Ok((9, Answer::Data(mut content))) = read_answer(bytes) else { panic!("no content") };
        assert_eq!(content.bytes(), b"content");
        content.skip(3);
        assert_eq!(content.bytes(), b"tent");
        content.skip(9);
        assert_eq!(content.bytes(), b"");
    }

    #[test]
    fn a_version_comes_with_extensions() {
        let mut bytes = vec![2, 0, 0, 0, 3];
        put_string(&mut bytes, b"hardlink@openssh.com");
        put_string(&mut bytes, b"1");
        let extensions = read_version(&bytes).expect("reads");
        assert_eq!(extensions, [("hardlink@openssh.com".to_owned(), b"1".to_vec())]);
        assert!(read_version(&[2, 0, 0, 0, 2]).is_err());
        assert!(read_version(b"Welcome to this machine").is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_answer_or_refused(
            code in 100..106_u8,
            bytes in proptest::collection::vec(any::<u8>(), 0..80),
        ) {
            let _ = read_answer([&[code, 0, 0, 0, 1], &bytes[..]].concat());
            let _ = read_answer(bytes.clone());
            let _ = read_version(&bytes);
            let _ = read_numbers(&bytes);
        }

        #[test]
        fn names_come_back_as_they_were_sent(
            names in proptest::collection::vec(
                (
                    proptest::collection::vec(any::<u8>(), 0..20),
                    proptest::option::of(any::<u64>()),
                    proptest::option::of(any::<(u32, u32)>()),
                    proptest::option::of(any::<u32>()),
                    proptest::option::of(any::<(u32, u32)>()),
                ),
                0..6,
            ),
        ) {
            let mut bytes = vec![ANSWER_NAME, 0, 0, 0, 3];
            put_u32(&mut bytes, names.len() as u32);
            let mut expected = Vec::new();
            for (name, size, owner, mode, times) in names {
                let attributes = Attributes { size, owner, mode, times };
                put_string(&mut bytes, &name);
                put_string(&mut bytes, b"as ls shows it");
                attributes.put(&mut bytes);
                expected.push(Name { name, attributes });
            }
            prop_assert_eq!(read_answer(bytes).expect("reads"), (3, Answer::Names(expected)));
        }
    }
}
