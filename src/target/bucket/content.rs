//! The content of one file on its way into a bucket: gathered in any order, and what is long sent
//! in parts as they fill, so that of a very long file only the parts at hand take room here.

use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::limits::MIB;
use crate::base::limits::S3_PART_BYTES;
use crate::base::limits::S3_PARTS_MAX;
use crate::net::s3::objects::Beside;
use crate::net::s3::upload::Part;
use crate::target::spool::Spool;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::Path;

/// Content that is gathered.
pub(super) struct Content {
    pub(super) spool: Spool,
    sending: Option<Sending>,
    /// Whether an object may have been made of it.
    pub(super) was_put: bool,
}

/// What is sent while it is gathered.
struct Sending {
    size: u64,
    part_bytes: u64,
    beside: Beside,
    /// The name of the upload, once it was begun.
    upload: Option<String>,
    filled: Ranges,
    /// Parts that were handed out to be sent.
    taken: BTreeSet<u64>,
    sent: BTreeMap<u64, Part>,
}

/// Returns the size of parts for so many bytes: the usual one, unless they would be too many.
fn part_bytes(size: u64) -> u64 {
    let least = size.div_ceil(S3_PARTS_MAX).next_multiple_of(MIB as u64);
    least.max(S3_PART_BYTES as u64)
}

impl Content {
    pub(super) fn new() -> Self {
        Content { spool: Spool::new(), sending: None, was_put: false }
    }

    /// Learns how long it will be, so that what is long is sent while it comes.
    pub(super) fn expect(&mut self, size: u64, beside: impl FnOnce() -> Beside) {
        if self.sending.is_some() || self.spool.len() > 0 || size <= S3_PART_BYTES as u64 {
            return;
        }
        self.sending = Some(Sending::new(size, beside()));
    }

    /// Adds content; returns the numbers of the parts that have all of theirs now.
    pub(super) fn write_at(
        &mut self,
        offset: u64,
        bytes: &[u8],
        scratch: &Path,
    ) -> Result<Vec<u64>> {
        let end = offset.saturating_add(bytes.len() as u64);
        self.check_unsent(offset, end)?;
        self.spool.write_at(offset, bytes, scratch)?;
        let Some(sending) = &mut self.sending else { return Ok(Vec::new()) };
        if offset >= end || end > sending.size {
            return Ok(Vec::new());
        }
        sending.filled.add(offset, end);
        let near = offset / sending.part_bytes + 1..=(end - 1) / sending.part_bytes + 1;
        let whole = near.filter(|number| {
            let (start, end) = sending.stretch(*number);
            !sending.taken.contains(number) && sending.filled.has(start, end)
        });
        let whole: Vec<u64> = whole.collect();
        sending.taken.extend(&whole);
        Ok(whole)
    }

    /// Makes sure that nothing of a stretch was sent.
    fn check_unsent(&self, start: u64, end: u64) -> Result<()> {
        let Some(sending) = &self.sending else { return Ok(()) };
        let is_sent = |number: &u64| {
            let (from, to) = sending.stretch(*number);
            from < end && start < to
        };
        if sending.taken.iter().any(is_sent) {
            return Err(Error::bug("content was sent already that is to change"));
        }
        Ok(())
    }

    pub(super) fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        self.check_unsent(offset, offset.saturating_add(buffer.len() as u64))?;
        self.spool.read_at(offset, buffer)
    }

    pub(super) fn clear(&mut self, offset: u64, length: u64, scratch: &Path) -> Result<()> {
        self.check_unsent(offset, offset.saturating_add(length))?;
        self.spool.clear(offset, length, scratch)
    }

    /// Says what stands beside it, where that was said before.
    pub(super) fn sent_with(&self) -> Option<&Beside> {
        self.sending.as_ref().filter(|it| it.upload.is_some()).map(|it| &it.beside)
    }

    /// Makes all of it an upload of parts, with what is to stand beside it.
    pub(super) fn send_rest(&mut self, beside: &Beside) -> Result<()> {
        let size = self.spool.len();
        if let Some(sending) = self.sending.as_ref().filter(|it| it.upload.is_some()) {
            if sending.size != size {
                return Err(Error::bug("a file has another length than was said"));
            }
            return Ok(());
        }
        self.sending = None;
        self.sending = Some(Sending::new(size, beside.clone()));
        Ok(())
    }

    /// Returns the name of the upload, which `begin` begins where there is none.
    pub(super) fn upload(
        &mut self,
        begin: impl FnOnce(&Beside) -> Result<String>,
    ) -> Result<String> {
        let Some(sending) = &mut self.sending else {
            return Err(Error::bug("this file is not sent in parts"));
        };
        if let Some(upload) = &sending.upload {
            return Ok(upload.clone());
        }
        let upload = begin(&sending.beside)?;
        sending.upload = Some(upload.clone());
        Ok(upload)
    }

    /// Returns the name of an upload that was begun, and forgets it.
    pub(super) fn take_upload(&mut self) -> Option<String> {
        self.sending.as_mut()?.upload.take()
    }

    /// Returns the size of its parts; 0 where it has none.
    pub(super) fn part_bytes(&self) -> u64 {
        self.sending.as_ref().map_or(0, |sending| sending.part_bytes)
    }

    /// Returns the numbers of the parts that were not sent.
    pub(super) fn unsent(&self) -> Vec<u64> {
        let Some(sending) = &self.sending else { return Vec::new() };
        let last = sending.size.div_ceil(sending.part_bytes).max(1);
        (1..=last).filter(|number| !sending.sent.contains_key(number)).collect()
    }

    /// Returns the bytes of a part; what was not written reads as zeros.
    pub(super) fn part(&self, number: u64) -> Result<Vec<u8>> {
        let Some(sending) = &self.sending else {
            return Err(Error::bug("this file is not sent in parts"));
        };
        let (start, end) = sending.stretch(number);
        let mut bytes = vec![0; (end - start) as usize];
        let got = self.spool.read_at(start, &mut bytes)?;
        bytes[got..].fill(0);
        Ok(bytes)
    }

    /// Notes that a part was sent; its room is free.
    pub(super) fn sent(&mut self, part: Part) {
        let Some(sending) = &mut self.sending else { return };
        let (start, end) = sending.stretch(part.number);
        sending.taken.insert(part.number);
        sending.sent.insert(part.number, part);
        self.spool.free(start, end - start);
    }

    /// Returns all parts, in order.
    pub(super) fn parts(&self) -> Vec<Part> {
        self.sending.iter().flat_map(|sending| sending.sent.values().cloned()).collect()
    }
}

impl Sending {
    fn new(size: u64, beside: Beside) -> Self {
        Sending {
            size,
            part_bytes: part_bytes(size),
            beside,
            upload: None,
            filled: Ranges::default(),
            taken: BTreeSet::new(),
            sent: BTreeMap::new(),
        }
    }

    fn stretch(&self, number: u64) -> (u64, u64) {
        let start = (number - 1) * self.part_bytes;
        (start, (start + self.part_bytes).min(self.size))
    }
}

/// Stretches that are apart.
#[derive(Debug, Default)]
struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    /// Adds a stretch, and joins it with those that it touches.
    fn add(&mut self, start: u64, end: u64) {
        let (mut start, mut end) = (start, end);
        while let Some((&from, &to)) = self.0.range(..=end).next_back()
            && to >= start
        {
            self.0.remove(&from);
            start = start.min(from);
            end = end.max(to);
        }
        self.0.insert(start, end);
    }

    /// Says whether all of a stretch is in it.
    fn has(&self, start: u64, end: u64) -> bool {
        self.0.range(..=start).next_back().is_some_and(|(_, &to)| to >= end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prop_assert;
    use proptest::prop_assert_eq;
    use proptest::proptest;

    const PART: u64 = S3_PART_BYTES as u64;

    #[test]
    fn parts_are_whole_when_all_of_them_came() {
        let scratch = tempfile::tempdir().expect("a folder");
        let mut content = Content::new();
        content.expect(2 * PART + 5, Beside::default);
        let half = vec![7; S3_PART_BYTES / 2];
        let mut write =
            |at: u64, bytes: &[u8]| content.write_at(at, bytes, scratch.path()).expect("written");

        assert_eq!(write(PART / 2, &half), [] as [u64; 0]);
        assert_eq!(write(PART, &half), [] as [u64; 0]);
        assert_eq!(write(2 * PART, b"12345"), [3]);
        assert_eq!(write(PART + PART / 2, &half), [2]);
        assert_eq!(write(0, &half), [1]);

        assert_eq!(content.part(3).expect("read"), b"12345");
        assert!(content.part(1).expect("read").iter().all(|&byte| byte == 7));
        let again = content.write_at(3, b"x", scratch.path());
        assert!(again.is_err(), "it may be on its way");
    }

    #[test]
    fn what_is_short_or_was_begun_is_gathered_whole() {
        let scratch = tempfile::tempdir().expect("a folder");
        let mut content = Content::new();
        content.expect(PART, Beside::default);
        content.write_at(0, b"abc", scratch.path()).expect("written");
        content.expect(PART + 1, Beside::default);
        assert!(content.unsent().is_empty());

        content.send_rest(&Beside::default()).expect("begun");
        assert_eq!((content.unsent(), content.part(1).expect("read")), (vec![1], b"abc".to_vec()));
    }

    #[test]
    fn parts_grow_where_they_would_be_too_many() {
        assert_eq!(part_bytes(0), PART);
        assert_eq!(part_bytes(PART * S3_PARTS_MAX), PART);
        for size in [PART * S3_PARTS_MAX + 1, 5 << 40] {
            assert!(size.div_ceil(part_bytes(size)) <= S3_PARTS_MAX);
        }
    }

    proptest! {
        #[test]
        fn ranges_are_as_a_row_of_bytes(
            adds in proptest::collection::vec((0_u64..50, 1_u64..20), 0..20),
            start in 0_u64..60,
            length in 1_u64..20,
        ) {
            let (mut ranges, mut plain) = (Ranges::default(), [false; 100]);
            for (start, length) in adds {
                ranges.add(start, start + length);
                plain[start as usize..(start + length) as usize].fill(true);
            }
            let all = plain[start as usize..(start + length) as usize].iter().all(|it| *it);
            prop_assert_eq!(ranges.has(start, start + length), all);
            let apart: Vec<_> = ranges.0.iter().collect();
            prop_assert!(apart.windows(2).all(|two| two[0].1 < two[1].0));
        }
    }
}
