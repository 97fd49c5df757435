//! Streams in pieces: whatever pieces content comes in, the same is stored, and it is what it was.
//!
//! The lowest bit of the first byte seals, the second byte says how long pieces are, and the rest
//! is content as that of the chunker.

use super::Bytes;
use super::chunker::content;
use super::places::reach;
use icecore::backend::memory::MemoryBackend;
use icecore::base::cancel::Cancel;
use icecore::base::path::EntryPath;
use icecore::base::progress::Silent;
use icecore::base::secret::Secret;
use icecore::base::time::FixedClock;
use icecore::base::time::Timestamp;
use icecore::codec::compress;
use icecore::codec::compress::Method;
use icecore::codec::compress::StreamCompressor;
use icecore::codec::key::Argon2Cost;
use icecore::engine::Context;
use icecore::engine::backup;
use icecore::engine::backup::BackupOptions;
use icecore::engine::list;
use icecore::repository::Repository;
use icecore::repository::cache::CachePlace;
use icecore::repository::open;
use icecore::repository::open::CreateOptions;
use icecore::source::Source;
use icecore::source::stream::StreamSource;
use std::io;
use std::io::Read;
use std::io::Write;
use std::sync::Arc;

/// What the seeds come to.
pub const PLACES: &[&str] = &["plain", "sealed", "nothing", "in pieces", "stored once"];

const NOW: Timestamp = Timestamp::new(1_800_000_000, 0);
const NAME: &[u8] = b"dump";

/// Gives content in pieces of a few lengths, and is interrupted now and then.
struct Pieces {
    content: Vec<u8>,
    at: usize,
    seed: usize,
    turn: usize,
}

impl Pieces {
    fn new(content: &[u8], seed: u8) -> Self {
        Pieces { content: content.to_vec(), at: 0, seed: usize::from(seed), turn: 0 }
    }

    fn length(&mut self) -> usize {
        self.turn += 1;
        let lengths = [usize::MAX, 1, self.seed * 17 + 1, 4096, self.seed * 1031 + 7];
        lengths[(self.seed + self.turn) % if self.seed == 0 { 1 } else { lengths.len() }]
    }
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.length().min(buffer.len()).min(self.content.len() - self.at);
        if self.seed != 0 && self.turn.is_multiple_of(5) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        buffer[..length].copy_from_slice(&self.content[self.at..self.at + length]);
        self.at += length;
        Ok(length)
    }
}

fn source(content: &[u8], seed: u8, cancel: &Cancel) -> StreamSource {
    StreamSource::new(Pieces::new(content, seed), NAME, NOW, cancel).expect("a source")
}

/// The reader of a stream gives all of it, however much is asked at a time.
fn is_read(content: &[u8], seed: u8) {
    let cancel = Cancel::new();
    let source = source(content, seed, &cancel);
    let mut reader = source.reader().expect("a reader");
    reader.open(&EntryPath::new(NAME).expect("a path")).expect("opens");
    let mut found = Vec::new();
    for turn in 1.. {
        let mut buffer = vec![0; usize::from(seed) * turn % 5000 + 1000];
        let count = reader.read_at(found.len() as u64, &mut buffer).expect("reads");
        found.extend_from_slice(&buffer[..count]);
        if count < buffer.len() {
            break;
        }
    }
    assert!(found == content, "other content is read");
    assert_eq!(reader.finish().expect("ends").size, content.len() as u64);
}

/// What is compressed in pieces is what it was.
fn is_packed(content: &[u8], seed: u8) {
    let code = vec![Method::Zstd.code()];
    let mut packer = StreamCompressor::new(code, compress::LEVEL_DEFAULT).expect("starts");
    let mut pieces = Pieces::new(content, seed);
    let mut rest = content;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(pieces.length().min(rest.len()));
        packer.write_all(piece).expect("packs");
        rest = after;
    }
    let stored = packer.finish().expect("ends");
    let mut plain = Vec::new();
    compress::decompress(&stored, content.len(), &mut plain).expect("unpacks");
    assert!(plain == content, "other content is unpacked");
}

fn repository(is_sealed: bool) -> Repository {
    let options = CreateOptions {
        password: is_sealed.then(|| Secret::new(b"secret".to_vec())),
        cost: Argon2Cost { memory_kib: 64, passes: 1, lanes: 1 },
        ..CreateOptions::default()
    };
    let scratch = CachePlace::Scratch(std::env::temp_dir());
    open::create(Arc::new(MemoryBackend::new()), &options, &scratch, NOW).expect("creates")
}

/// Backs content up in two ways: both are the same entry, and what it was.
fn is_stored(content: &[u8], seed: u8, is_sealed: bool) {
    let (repository, cancel) = (repository(is_sealed), Cancel::new());
    let clock = FixedClock::new(NOW.plus_seconds(60));
    let context = Context { progress: &Silent, cancel: &cancel, clock: &clock, threads: 1 };
    let path = EntryPath::new(NAME).expect("a path");
    let mut nodes = Vec::new();
    for (name, seed) in [("whole", 0), ("pieces", seed)] {
        let name = name.parse().expect("a name");
        let options = BackupOptions::default();
        let source = source(content, seed, &cancel);
        let report = backup::run(&repository, &name, &source, &options, &context);
        let report = report.expect("a backup");
        assert!(report.errors.is_empty());
        let dataset = repository.dataset(&name).expect("a dataset");
        let backup = dataset.backups().expect("backups").pop().expect("one");
        let snapshot = list::snapshot(&dataset, backup).expect("a snapshot");
        let mut found = Vec::new();
        list::cat(&snapshot, &path, &mut found, &cancel).expect("reads");
        assert!(found == content, "other content is stored");
        let entry = snapshot.entry(&path).expect("reads").expect("is there").entry;
        nodes.push(entry);
    }
    assert!(nodes[0] == nodes[1], "pieces make another file");
    reach("stored once");
}

/// One execution.
pub fn run(data: &[u8]) {
    let mut bytes = Bytes(data);
    let (how, seed) = (bytes.byte(), bytes.byte());
    let content = content(&mut bytes);
    reach(if how & 1 == 1 { "sealed" } else { "plain" });
    if content.is_empty() {
        reach("nothing");
    }
    if seed != 0 && content.len() > 5000 {
        reach("in pieces");
    }
    is_read(&content, seed);
    is_packed(&content, seed);
    is_stored(&content, seed, how & 1 == 1);
}
