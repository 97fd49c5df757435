//! The stored records once more, for another decoder: what stands here must never change.
//!
//! Nothing of the library is used, so that a change of its types cannot hide in both places.

use wincode::SchemaRead;
use wincode::SchemaWrite;
use wincode::config::Configuration;

macro_rules! records {
    ($($(#[$attribute:meta])* $name:ident { $($field:ident: $type:ty,)* })*) => {
        $($(#[$attribute])*
        #[derive(Clone, Debug, PartialEq, SchemaRead, SchemaWrite)]
        pub(crate) struct $name { $(pub(crate) $field: $type,)* })*
    };
}

type Id16 = [u8; 16];
type Id32 = [u8; 32];

records! {
    Time { seconds: i64, nanos: u32, }
    Process { host: String, boot: String, pid: u32, started: u64, namespace: u64, }
    Chunks { average_fine: u32, average_coarse: u32, whole_max: u32, }
    Config {
        id: Id16, format: u32, created: Time, encryption: Encryption, chunks: Chunks,
        block_bytes: u32, pack_bytes: u32, compression: i32, mac: Id32,
    }
    KeyFile { id: Id16, created: Time, about: Vec<u8>, wrapped: Wrapped, }
    About { label: String, host: String, }
    Name { name: String, dataset: Option<Id16>, written: Time, }
    Void { number: u64, reason: String, written: Time, }
    Hidden { number: u64, written: Time, }
    Tags { number: u64, tags: Vec<String>, description: String, written: Time, }
    Floor { floor: u64, remaining: Vec<u64>, written: Time, }
    Lost { blocks: Vec<u8>, places: Vec<Vec<u32>>, written: Time, }
    Lease {
        lease: Id16, dataset: Id16, number: Option<u64>, parent: Option<u64>, process: Process,
        taken: Time, purpose: String,
    }
    Beat { lease: Id16, beat: u64, }
    Mark { lease: Id16, by: String, }
    Tombstone {
        tombstone: Id16, packs: Vec<Id32>, indexes: Vec<Id16>, freed_bytes: u64,
        process: Process, written: Time,
    }
    Parity {
        pack: Id32, pack_bytes: u64, shard_bytes: u32, percent: u8, checks: Vec<u8>,
    }
    Counts {
        added: u64, modified: u64, deleted: u64, files: u64, entries: u64, bytes: u64,
        new_bytes: u64, stored_bytes: u64, chain_rows: u64, errors: u64,
    }
    Header {
        dataset: Id16, number: u64, parent: Option<u64>, lease: Id16, chain: Vec<u64>, host: String,
        source: String, started: Time, read_from: Time, ended: Time, counts: Counts,
        snapshot: Id32, tags: Vec<String>, description: String, original: Option<Original>,
        body: Body,
    }
    Original { repository: Id16, dataset: Id16, number: u64, lease: Id16, }
    Inline { range: Vec<u8>, companion: Vec<u8>, }
    Place { block: u32, place: u32, }
    Places { blocks: Vec<u8>, places: Vec<Place>, }
    RangeList { blocks: Vec<u8>, ranges: Vec<RangeRef>, }
    RangeRef { first: Vec<u8>, rows: u32, range: Place, companion: Place, }
    Owner { uid: u32, gid: u32, user: String, group: String, }
    Xattr { name: Vec<u8>, value: Vec<u8>, }
    Extent { offset: u64, length: u64, }
    Range { blocks: Vec<u8>, owners: Vec<Owner>, rows: Vec<Row>, }
    Row { shared: u32, suffix: Vec<u8>, body: RowBody, }
    Content { listed: bool, runs: Vec<Run>, bytes: Vec<u64>, }
    Run { block_step: i32, place_step: i32, count: u32, }
    Companion { rows: Vec<Detection>, }
    Detection { ctime: Time, inode_step: i64, tag: Vec<u8>, }
    RunList { blocks: Vec<u8>, runs: Vec<Run>, bytes: Vec<u64>, }
    Table {
        places: u32, lengths: Vec<u32>, names: Vec<u8>, dead_groups: Vec<u32>,
        dead_hashes: Vec<u8>, present: Vec<u8>,
    }
    BlockRow {
        block: Id32, offset: u32, length: u32, plain_length: u32, table_offset: u32,
        table_length: u32, places: u32, number: u32, class: u8, present: Vec<u8>,
        hooks: Vec<u64>,
    }
    Footer { tables_offset: u32, blocks: Vec<BlockRow>, }
}

#[derive(Clone, Debug, PartialEq, SchemaRead, SchemaWrite)]
pub(crate) enum Encryption {
    None,
    Password,
}

#[derive(Clone, Debug, PartialEq, SchemaRead, SchemaWrite)]
pub(crate) enum Wrapped {
    Master {
        memory_kib: u32,
        passes: u32,
        lanes: u32,
        salt: Id32,
        commitment: Id32,
        sealed: Vec<u8>,
    },
}

#[derive(Clone, Debug, PartialEq, SchemaRead, SchemaWrite)]
pub(crate) enum Body {
    Inline(Vec<Inline>),
    Ranges(RangeList),
    Lists(Places),
}

#[derive(Clone, Debug, PartialEq, SchemaRead, SchemaWrite)]
pub(crate) enum Change {
    Present,
    Added,
    Modified,
}

#[derive(Clone, Debug, PartialEq, SchemaRead, SchemaWrite)]
pub(crate) enum RowBody {
    Put { change: Change, mode: u32, owner: u32, mtime: Time, xattrs: Vec<Xattr>, node: Node },
    Deleted,
}

#[derive(Clone, Debug, PartialEq, SchemaRead, SchemaWrite)]
pub(crate) enum Node {
    File {
        size: u64,
        cut: u8,
        hard_link: Option<u64>,
        extents: Option<Vec<Extent>>,
        content: Content,
    },
    Directory,
    Symlink(Vec<u8>),
    Fifo,
    CharDevice(u32, u32),
    BlockDevice(u32, u32),
}

/// The configuration that writes what bincode's standard one writes.
macro_rules! standard {
    () => {
        Configuration::default().with_varint_encoding()
    };
}

macro_rules! codecs {
    ($($name:ident)*) => {
        $(impl $name {
            pub(crate) fn decode(bytes: &[u8]) -> Self {
                wincode::config::deserialize_exact(bytes, standard!()).expect("decodes")
            }

            pub(crate) fn encode(&self) -> Vec<u8> {
                wincode::config::serialize(self, standard!()).expect("encodes")
            }
        })*
    };
}

codecs! {
    Config KeyFile About Name Void Hidden Tags Floor Lost Lease Beat Mark Tombstone Parity Header
    RangeList Range Companion RunList Table Footer
}
