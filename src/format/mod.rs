//! Floor 2: what is stored, as plain data with encode and decode.
//!
//! | object | file | form |
//! |---|---|---|
//! | config | [`config`] | record, never sealed, authenticated |
//! | password slot | [`key_file`] | record, never sealed, wraps the master key |
//! | dataset name, void, markers, tags, floor, lost places | [`dataset`] | records |
//! | backup header | [`backup`] | record |
//! | lease, beat | [`lease`] | records |
//! | tombstone | [`tombstone`] | record |
//! | block and its table | [`block`] | inside packs |
//! | pack | [`pack`] | frame, blocks, tables, footer |
//! | pack index | [`pack_index`] | fixed-width rows |
//! | parity of a pack | [`parity`] | frame, record, recovery shards, the record again |
//! | ranges of entries (manifest and full index) | [`range`] | blobs inside blocks |
//!
//! [`sound`] says which entries a range can hold. Stored structs (`...V1`) are separate from the
//! types the program works with: fixed order, no usize, no maps, no floats, no recursion, no
//! zero-size elements. The bytes are described in `src/docs/format.md`, and golden files hold them.

pub mod backup;
pub mod block;
pub mod config;
pub mod dataset;
pub mod entry;
pub mod key_file;
pub mod lease;
pub mod pack;
pub mod pack_index;
pub mod parity;
pub mod range;
pub mod sound;
pub mod tombstone;
