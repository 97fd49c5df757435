//! Floor 1: bytes to bytes, pure.
//!
//! A record goes down as `serial` (struct to bytes), `compress`, `crypt` (when the repository
//! is encrypted), `frame` (magic, kind, version, length, checksum), and comes up the other way.
//! [`seal`] is that list for records; packs use the same layers block by block.

pub mod compress;
pub mod crypt;
pub mod frame;
pub mod key;
pub mod parity;
pub mod seal;
pub mod serial;
