//! An SFTP server made up here: it answers as a test says, and counts round trips.

use icecore::base::error::Result;
use icecore::net::files::Files;
use icecore::net::sftp::begin;
use icecore::net::sftp::wire::Wire;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

pub(crate) const STATUS: u8 = 101;
pub(crate) const HANDLE: u8 = 102;
pub(crate) const DATA: u8 = 103;
pub(crate) const NAMES: u8 = 104;
pub(crate) const ATTRIBUTES: u8 = 105;
pub(crate) const EXTENDED: u8 = 201;

/// A request as a server sees it.
pub(crate) struct Asked {
    pub(crate) code: u8,
    pub(crate) number: u32,
    pub(crate) body: Vec<u8>,
}

impl Asked {
    pub(crate) fn string(&self, at: usize) -> &[u8] {
        let length = u32::from_be_bytes(*self.body[at..].first_chunk().expect("a length")) as usize;
        &self.body[at + 4..at + 4 + length]
    }

    /// Offset and length of a read, behind a handle of one byte.
    pub(crate) fn stretch(&self) -> (u64, usize) {
        let offset = u64::from_be_bytes(*self.body[5..].first_chunk().expect("an offset"));
        let length = u32::from_be_bytes(*self.body[13..].first_chunk().expect("a length"));
        (offset, length as usize)
    }

    pub(crate) fn answer(&self, code: u8, body: &[u8]) -> Vec<u8> {
        let length = (5 + body.len()) as u32;
        [&length.to_be_bytes()[..], &[code], &self.number.to_be_bytes(), body].concat()
    }

    pub(crate) fn status(&self, status: u32) -> Vec<u8> {
        let body = [&status.to_be_bytes()[..], &string(b"as it says"), &string(b"en")].concat();
        self.answer(STATUS, &body)
    }

    pub(crate) fn handle(&self) -> Vec<u8> {
        self.answer(HANDLE, &string(b"h"))
    }

    pub(crate) fn data(&self, bytes: &[u8]) -> Vec<u8> {
        self.answer(DATA, &string(bytes))
    }

    pub(crate) fn file(&self, size: u64) -> Vec<u8> {
        self.answer(ATTRIBUTES, &attributes(0o100_644, size))
    }

    pub(crate) fn names(&self, names: &[&[u8]]) -> Vec<u8> {
        let mut body = (names.len() as u32).to_be_bytes().to_vec();
        for name in names {
            body.extend([string(name), string(b"-rw"), attributes(0o100_644, 5)].concat());
        }
        self.answer(NAMES, &body)
    }
}

fn string(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_be_bytes()[..], bytes].concat()
}

fn attributes(mode: u32, size: u64) -> Vec<u8> {
    [&5_u32.to_be_bytes()[..], &size.to_be_bytes(), &mode.to_be_bytes()].concat()
}

fn version(extensions: &[&str]) -> Vec<u8> {
    let mut body = vec![2, 0, 0, 0, 3];
    for name in extensions {
        body.extend([string(name.as_bytes()), string(b"1")].concat());
    }
    string(&body)
}

/// A server that answers once it is waited for, so that round trips can be counted.
struct Fake<F> {
    extensions: &'static [&'static str],
    answer: F,
    input: Vec<u8>,
    output: VecDeque<Vec<u8>>,
    rounds: Arc<AtomicUsize>,
    /// Bytes after which it hangs up.
    cut: usize,
}

impl<F: FnMut(&Asked) -> Vec<u8>> Fake<F> {
    fn serve(&mut self) {
        if self.input.is_empty() {
            return;
        }
        self.rounds.fetch_add(1, Ordering::Relaxed);
        let input = std::mem::take(&mut self.input);
        let mut left = &input[..];
        while let Some((length, rest)) = left.split_first_chunk::<4>() {
            let (packet, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
            left = rest;
            let answer = match packet[0] {
                1 => version(self.extensions),
                code => {
                    let number = u32::from_be_bytes(*packet[1..].first_chunk().expect("a number"));
                    (self.answer)(&Asked { code, number, body: packet[5..].to_vec() })
                }
            };
            self.output.push_back(answer);
        }
    }
}

impl<F: FnMut(&Asked) -> Vec<u8> + Send> Wire for Fake<F> {
    fn send(&mut self, bytes: Vec<u8>) -> io::Result<()> {
        self.input.extend(bytes);
        Ok(())
    }

    fn receive(&mut self, limit: Duration) -> io::Result<Option<Vec<u8>>> {
        if self.output.is_empty() && !limit.is_zero() {
            self.serve();
        }
        if self.cut == 0 {
            return Ok(None);
        }
        let mut bytes = self.output.pop_front().ok_or(io::ErrorKind::TimedOut)?;
        bytes.truncate(self.cut);
        self.cut -= bytes.len();
        Ok(Some(bytes))
    }
}

pub(crate) fn session(
    extensions: &'static [&'static str],
    answer: impl FnMut(&Asked) -> Vec<u8> + Send + 'static,
) -> (Box<dyn Files>, Arc<AtomicUsize>) {
    let rounds = Arc::new(AtomicUsize::new(0));
    let files = cut_session(extensions, usize::MAX, Arc::clone(&rounds), answer);
    (files.expect("it begins"), rounds)
}

pub(crate) fn cut_session(
    extensions: &'static [&'static str],
    cut: usize,
    rounds: Arc<AtomicUsize>,
    answer: impl FnMut(&Asked) -> Vec<u8> + Send + 'static,
) -> Result<Box<dyn Files>> {
    let (input, output) = (Vec::new(), VecDeque::new());
    let fake = Fake { extensions, answer, input, output, rounds, cut };
    begin(Box::new(fake), "sftp://fake".to_owned(), Duration::from_millis(30))
}

/// Answers whatever concerns one file with this content.
pub(crate) fn of_file(content: &[u8], asked: &Asked) -> Vec<u8> {
    match asked.code {
        3 | 11 => asked.handle(),
        5 => {
            let (offset, length) = asked.stretch();
            let rest = content.get(offset as usize..).unwrap_or_default();
            match rest {
                [] => asked.status(1),
                rest => asked.data(&rest[..rest.len().min(length)]),
            }
        }
        7 | 8 => asked.file(content.len() as u64),
        4 | 6 | 9 => asked.status(0),
        200 if asked.string(0) == b"fsync@openssh.com" => asked.status(0),
        _ => asked.status(8),
    }
}
