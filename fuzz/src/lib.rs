//! What is fuzzed: bodies that take arbitrary bytes, and panic where the program is wrong.
//!
//! Each stands in a file of its own, with seeds in `seeds/<name>`, and is run in two ways: by
//! libFuzzer (`run.sh`), which goes where coverage leads it, and by the ordinary tests
//! (`tests/it/fuzz.rs`), over the seeds and over mutations of them. They use what the library
//! shows to everybody and nothing else: private decoders are reached through whoever uses them.
//! Each says which places its seeds come to, and the tests hold that they do: seeds grow stale
//! without a sound when a format changes.

pub mod address;
pub mod archives;
pub mod backup_header;
pub mod block_table;
pub mod cache;
pub mod chunker;
pub mod config;
pub mod config_file;
pub mod entry_path;
pub mod filter;
pub mod frame;
pub mod ftp;
pub mod key_file;
pub mod known_hosts;
pub mod logins;
pub mod manifest;
pub mod names;
pub mod net_address;
pub mod pack;
pub mod pack_index;
pub mod parity;
pub mod places;
pub mod prune;
pub mod quantity;
pub mod records;
pub mod replay;
pub mod repository;
pub mod retention;
pub mod s3;
pub mod s3_answers;
pub mod serve;
pub mod sftp;
pub mod stream;
pub mod time;

/// One thing that is fuzzed.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name, and that of its folder of seeds.
    pub name: &'static str,
    /// Runs it once.
    pub run: fn(&[u8]),
    /// Which places its seeds come to.
    pub places: &'static [&'static str],
    /// How many mutations the ordinary tests try: some tenths of a second.
    pub rounds: u32,
}

const fn target(
    name: &'static str,
    run: fn(&[u8]),
    places: &'static [&'static str],
    rounds: u32,
) -> Target {
    Target { name, run, places, rounds }
}

/// All of them.
pub const TARGETS: [Target; 32] = [
    target("address", address::run, address::PLACES, 2000),
    target("backup_header", backup_header::run, backup_header::PLACES, 2000),
    target("block_table", block_table::run, block_table::PLACES, 1000),
    target("cache", cache::run, cache::PLACES, 10),
    target("chunker", chunker::run, chunker::PLACES, 100),
    target("config", config::run, config::PLACES, 2000),
    target("config_file", config_file::run, config_file::PLACES, 300),
    target("entry_path", entry_path::run, entry_path::PLACES, 2000),
    target("filter", filter::run, filter::PLACES, 300),
    target("frame", frame::run, frame::PLACES, 500),
    target("ftp", ftp::run, ftp::PLACES, 40),
    target("key_file", key_file::run, key_file::PLACES, 2000),
    target("known_hosts", known_hosts::run, known_hosts::PLACES, 300),
    target("logins", logins::run, logins::PLACES, 2000),
    target("manifest", manifest::run, manifest::PLACES, 1000),
    target("names", names::run, names::PLACES, 100),
    target("net_address", net_address::run, net_address::PLACES, 2000),
    target("pack", pack::run, pack::PLACES, 200),
    target("pack_index", pack_index::run, pack_index::PLACES, 2000),
    target("parity", parity::run, parity::PLACES, 200),
    target("prune", prune::run, prune::PLACES, 10),
    target("quantity", quantity::run, quantity::PLACES, 2000),
    target("records", records::run, records::PLACES, 2000),
    target("replay", replay::run, replay::PLACES, 20),
    target("repository", repository::run, repository::PLACES, 60),
    target("retention", retention::run, retention::PLACES, 1000),
    target("s3", s3::run, s3::PLACES, 1000),
    target("s3_answers", s3_answers::run, s3_answers::PLACES, 40),
    target("serve", serve::run, serve::PLACES, 20),
    target("sftp", sftp::run, sftp::PLACES, 500),
    target("stream", stream::run, stream::PLACES, 20),
    target("time", time::run, time::PLACES, 2000),
];

/// Takes bytes one after the other; zeros once there are none.
pub struct Bytes<'a>(pub &'a [u8]);

impl<'a> Bytes<'a> {
    /// Takes a byte.
    pub fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    /// Takes two bytes.
    pub fn short(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    /// Takes so many bytes, or what is left.
    pub fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// Says whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
