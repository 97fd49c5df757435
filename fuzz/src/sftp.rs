//! An SFTP server that sends anything: a session is begun over a wire that answers from a script.
//!
//! The first byte says which requests are made. With its highest bit set the rest is what the
//! server sends, as it stands; else it is packets of two bytes of length and so much content,
//! which get their frame here. In those the number 0xffffffff stands for that of a request.

use icecore::base::error::Error;
use icecore::base::error::ErrorKind;
use icecore::base::error::Result;
use icecore::base::time::Timestamp;
use icecore::net::files::Files;
use icecore::net::files::Found;
use icecore::net::files::Marks;
use icecore::net::files::Proof;
use icecore::net::sftp;
use icecore::net::sftp::wire::Wire;
use std::io;
use std::time::Duration;

use super::Bytes;
use super::places::reach;

/// What the seeds come to.
pub const PLACES: &[&str] = &[
    "turned away",
    "refused",
    "begun",
    "a name is listed",
    "all is listed",
    "looked at",
    "a link is read",
    "opened",
    "read",
    "created",
    "written",
    "finished",
    "renamed",
    "linked",
    "a folder is made",
    "removed",
    "a time is set",
    "a mode is set",
    "kept alive",
];

/// Answers from a script.
struct Script {
    rest: Vec<u8>,
    is_raw: bool,
    /// Requests that were not answered yet, oldest first.
    asked: Vec<[u8; 4]>,
    unread: Vec<u8>,
}

impl Script {
    /// Notes the numbers of requests: a packet is length, type, number, and more.
    fn note(&mut self, bytes: &[u8]) {
        self.unread.extend_from_slice(bytes);
        while let Some(head) = self.unread.first_chunk::<9>() {
            let length = 4 + u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
            assert!(length >= 5, "a request without a type");
            if self.unread.len() < length {
                return;
            }
            self.asked.push([head[5], head[6], head[7], head[8]]);
            self.unread.drain(..length);
        }
    }

    fn packet(&mut self) -> Vec<u8> {
        let length = usize::from(u16::from_be_bytes([self.rest[0], self.rest[1]]));
        let end = (2 + length).min(self.rest.len());
        let mut packet: Vec<u8> = self.rest.drain(..end).skip(2).collect();
        if packet.get(1..5) == Some(&[0xff; 4]) && !self.asked.is_empty() {
            packet[1..5].copy_from_slice(&self.asked.remove(0));
        }
        [&(packet.len() as u32).to_be_bytes()[..], &packet].concat()
    }
}

impl Wire for Script {
    fn send(&mut self, bytes: Vec<u8>) -> io::Result<()> {
        // The first packet has no number.
        if !bytes.starts_with(&[0, 0, 0, 5, 1]) {
            self.note(&bytes);
        }
        Ok(())
    }

    fn receive(&mut self, _: Duration) -> io::Result<Option<Vec<u8>>> {
        Ok(match (self.is_raw, self.rest.len()) {
            (_, 0) => None,
            (true, length) => Some(self.rest.drain(..length.min(100)).collect()),
            (false, 1) => Some(std::mem::take(&mut self.rest)),
            (false, _) => Some(self.packet()),
        })
    }
}

fn is_told<T>(done: Result<T>) -> Option<T> {
    let told = |e: &Error| {
        assert_ne!(e.kind(), ErrorKind::Bug, "{}", e.full_message());
        assert!(!e.to_string().contains(char::is_control), "{e:?}");
    };
    if done.is_err() {
        reach("refused");
    }
    done.inspect_err(told).ok()
}

/// Notes that something was done.
fn done<T>(result: Result<T>, place: &'static str) -> Option<T> {
    let done = is_told(result);
    if done.is_some() {
        reach(place);
    }
    done
}

/// A name of a listing is one part of a path.
pub(crate) fn is_a_name(found: &Found) {
    let name = found.name.as_slice();
    assert!(!matches!(name, b"" | b"." | b".."), "{name:?}");
    assert!(!name.contains(&b'/') && !name.contains(&0), "{name:?}");
}

/// Makes the requests that the bits say, whatever comes of each.
pub(crate) fn ask(files: &mut dyn Files, bits: u8) {
    let _ = (files.abilities(), files.manner());
    if bits & 1 != 0 {
        let visit = &mut |found: Found| {
            is_a_name(&found);
            reach("a name is listed");
            Ok(())
        };
        done(files.list(b"/folder", visit), "all is listed");
    }
    if bits & 2 != 0 {
        done(files.look_at(b"/folder/file"), "looked at");
        done(files.read_link(b"/folder/link"), "a link is read");
    }
    if bits & 4 != 0 && done(files.open(b"/folder/file", 0), "opened").is_some() {
        let mut buffer = [0; 300];
        let mut at = 0;
        for _ in 0..8 {
            let Some(count) = is_told(files.read_at(at, &mut buffer)) else { break };
            assert!(count <= buffer.len());
            if count > 0 {
                reach("read");
            }
            at += count as u64;
            if count < buffer.len() {
                break;
            }
        }
        is_told(files.close());
    }
    if bits & 8 != 0 && done(files.create(b"/folder/new"), "created").is_some() {
        let written = done(files.write(&[7; 700]), "written");
        let marks = Marks { mode: 0o640, time: Timestamp::new(1_700_000_000, 0) };
        match written {
            Some(()) if bits & 1 != 0 => {
                drop(done(files.finish_with(b"/folder/new", marks, Proof::Now), "finished"))
            }
            _ => drop(done(files.finish(), "finished")),
        }
    }
    if bits & 16 != 0 {
        done(files.rename(b"/a", b"/b"), "renamed");
        done(files.rename_over(b"/a", b"/b"), "renamed");
        done(files.link(b"/a", b"/b"), "linked");
        is_told(files.make_symlink(b"/a", b"b"));
    }
    if bits & 32 != 0 {
        done(files.make_folder(b"/folder"), "a folder is made");
        done(files.remove(b"/folder/x"), "removed");
        done(files.remove_folder(b"/folder"), "removed");
    }
    if bits & 64 != 0 {
        done(files.set_time(b"/a", Timestamp::new(1_700_000_000, 5)), "a time is set");
        done(files.set_mode(b"/a", 0o600), "a mode is set");
        is_told(files.set_owner(b"/a", (1, 2)));
        done(files.keep_alive(), "kept alive");
    }
}

/// One execution.
pub fn run(data: &[u8]) {
    let mut bytes = Bytes(data);
    let bits = bytes.byte();
    let is_raw = bits & 0x80 != 0;
    let script = Script { rest: bytes.0.to_vec(), is_raw, asked: Vec::new(), unread: Vec::new() };
    let begun = sftp::begin(Box::new(script), "sftp://host".to_owned(), Duration::from_secs(5));
    match is_told(begun) {
        Some(mut files) => {
            reach("begun");
            ask(files.as_mut(), bits);
        }
        None => reach("turned away"),
    }
}
