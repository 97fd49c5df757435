//! All maxima and sizes by name, each with its reason. A number that bounds memory, a loop or
//! a length from outside stands here and nowhere else.

/// One kibibyte in bytes.
pub const KIB: usize = 1024;
/// One mebibyte in bytes.
pub const MIB: usize = 1024 * KIB;

/// Longest component of a path: what Linux file systems allow (`NAME_MAX`).
pub const NAME_BYTES_MAX: usize = 255;
/// Longest path: deeper than `PATH_MAX` by far, yet a bound on what an entry may allocate.
pub const PATH_BYTES_MAX: usize = 64 * KIB;
/// Longest symlink target: `PATH_MAX` on Linux is 4096 with its NUL; the rest is room.
pub const LINK_BYTES_MAX: usize = 16 * KIB;
/// Most bytes of one extended attribute: Linux's `XATTR_SIZE_MAX`.
pub const XATTR_VALUE_BYTES_MAX: usize = 64 * KIB;
/// Most bytes of all extended attributes of one entry: a range of one entry must stay a blob.
pub const XATTRS_BYTES_MAX: usize = MIB;
/// Most extended attributes of one entry; Linux bounds the list of names to 64 KiB.
pub const XATTRS_MAX: usize = 4096;

/// Longest name of a dataset in bytes, so that it fits any file system and any listing.
pub const DATASET_NAME_BYTES_MAX: usize = 200;

/// Longest tag in bytes: a word in a table.
pub const TAG_BYTES_MAX: usize = 200;
/// Most tags of one backup.
pub const TAGS_MAX: usize = 100;
/// Longest description of a backup in bytes: it is read with every listing.
pub const DESCRIPTION_BYTES_MAX: usize = 4 * KIB;
/// How often a change of tags starts again after another one was quicker.
pub const TAG_TRIES_MAX: usize = 64;

/// Plaintext gathered into one block. Blocks of 1 MiB compress a source tree within 2 % of
/// 4 MiB ones, and a block is the least that a restore decodes.
pub const BLOCK_BYTES_TARGET: usize = MIB;
/// Most plaintext in one block: a target-sized block and one chunk of the largest size.
pub const BLOCK_BYTES_MAX: usize = 8 * MIB;
/// Most stored bytes of one block: plaintext that does not compress, its method and its tag.
pub const STORED_BLOCK_BYTES_MAX: usize = BLOCK_BYTES_MAX + 4 * KIB;
/// Most stored bytes of one block's table: 37 a place, and the rest.
pub const STORED_TABLE_BYTES_MAX: usize = 4 * MIB;
/// Blocks of metadata are smaller: a replay holds one decoded block for each of up to
/// [`CHAIN_MANIFESTS_MAX`] + 1 streams at a time.
pub const METADATA_BLOCK_BYTES_TARGET: usize = 128 * KIB;
/// Most places in one block; bounds what a hostile table can make a reader allocate.
pub const BLOCK_PLACES_MAX: usize = 64 * KIB;
/// Rows of a block's table under one node of its small tree (PROTOCOL: groups of 16).
pub const TABLE_GROUP_ROWS: usize = 16;

/// A pack is closed once it holds this much. On a local disk one fsync serves 16 MiB; over a
/// network one round trip does.
pub const PACK_BYTES_TARGET: usize = 16 * MIB;
/// Largest pack a reader accepts: the target, one block and its tables, with room to grow.
pub const PACK_BYTES_MAX: usize = 512 * MIB;

/// Largest single chunk; also the bound on a blob.
pub const CHUNK_BYTES_MAX: usize = 4 * MIB;
/// A large file is cut into pieces of this size, each a unit of its own for one thread; part
/// of the chunker's definition, as a cut is forced at each piece's end. With pieces of 16 MiB a
/// backup took 155 MB, as five of them are under way on two threads and may not compress.
pub const PIECE_BYTES: u64 = 8 * MIB as u64;
/// Neighbouring small entries that one thread takes together: plaintext bytes ...
pub const UNIT_BYTES_TARGET: u64 = 4 * MIB as u64;
/// ... and entries, so that a unit of empty files stays small.
pub const UNIT_ENTRIES_MAX: usize = 1024;

/// Entries that pass through a unit at most; unchanged ones cost little but memory.
pub const UNIT_ITEMS_MAX: usize = 4096;

/// Rows of a manifest held back in memory while nothing but the times of folders has changed,
/// so that a run without changes stores nothing.
pub const HELD_BYTES_MAX: usize = 8 * MIB;

/// The blocks of a large file may hold so many hundredths of what is wanted of them ...
pub const FILE_SPREAD_PERCENT_MAX: u64 = 200;
/// ... before some of it is stored again. A smaller file shares its blocks with its neighbours,
/// which want the rest of them.
pub const FILE_SPREAD_BYTES_MIN: u64 = UNIT_BYTES_TARGET;

/// Entries in one range: aimed at (cut where the hash of a path says so) ...
pub const RANGE_ENTRIES_MEAN: u64 = 128;
/// ... never fewer, unless the stream ends ...
pub const RANGE_ENTRIES_MIN: usize = 64;
/// ... and never more: a forced cut.
pub const RANGE_ENTRIES_MAX: usize = 512;
/// A range is also cut when its entries weigh this much, whatever their number, so that long
/// run lists or attributes cannot make a range grow without bound.
pub const RANGE_BYTES_MAX: usize = 512 * KIB;
/// A partial backup's chain goes back at most this many manifests to a full index.
pub const CHAIN_MANIFESTS_MAX: usize = 64;
/// A list of ranges up to this size stays inside the header; a longer one is stored as blobs.
pub const INLINE_BYTES_MAX: usize = 64 * KIB;

/// Largest record (header, lease, tombstone, config, key) a reader accepts.
pub const RECORD_BYTES_MAX: usize = 4 * MIB;
/// Copies of one block that a reader looks at, and that one pack index may name: a prune leaves
/// two for a while, and writers that do not know of each other one more each. Without a bound an
/// index of a million rows for one block makes every look-up walk through them.
pub const BLOCK_COPIES_MAX: usize = 64;
/// A pack index is at most so many times larger than its object: names are as good as random, so
/// a true one halves at best, and zeros that unpack to a gibibyte are none.
pub const INDEX_EXPANSION_MAX: usize = 16;
/// Largest pack index object a reader accepts: 1 GiB covers some ten million blocks.
pub const INDEX_BYTES_MAX: usize = 1024 * MIB;
/// How often the pack index is listed again when objects went while it was read.
pub const INDEX_LOOKS_MAX: usize = 8;
/// How often the numbers of a dataset are listed again when its floor rose meanwhile.
pub const NUMBERS_LOOKS_MAX: usize = 4;
/// A writer puts an interim index each time it has put this many packs, so that a backup that
/// dies can be gone on with.
pub const INTERIM_INDEX_PACKS: usize = 8;

/// Numbers in one folder of a dataset, so that listings stay short (PROTOCOL).
pub const NUMBERS_PER_FOLDER: u64 = 1000;
/// Seconds between two beats of a lease.
pub const BEAT_SECONDS: u64 = 60;
/// A beat is fresh when it changed within this many seconds.
pub const FRESH_SECONDS: u64 = 150;
/// How often a writer starts again after losing its number before it gives up as busy.
pub const COMMIT_TRIES_MAX: usize = 8;

/// Decoded data blocks kept by a reader, in bytes.
pub const BLOCK_CACHE_BYTES: usize = 8 * MIB;
/// Buffers of blocks kept for the next ones, in bytes: a few blocks, as they come and go.
pub const SPARE_BYTES_MAX: usize = 16 * MIB;
/// Rows of newly stored blobs kept in memory before they go to a segment file: some 4 MB.
pub const NAMES_MEMORY_ROWS: usize = 64 * KIB;
/// Rows under one part of a segment's filter: to make one takes some 24 bytes a row, 12 MB.
pub const NAMES_FILTER_PART_ROWS: usize = 512 * KIB;
/// A shorter segment has no filter: its rows fill no more than a few pages.
pub const NAMES_FILTER_ROWS_MIN: usize = KIB;
/// Block tables kept in memory for confirming names, in blobs.
pub const TABLE_CACHE_ROWS: usize = 32 * KIB;

/// Rows of a restore plan held at a time; a window of the snapshot that is written before the
/// next is looked at.
pub const RESTORE_WINDOW_ROWS: usize = 64 * KIB;
/// Bytes of one read from a pack during a restore: neighbouring blocks come together.
pub const RESTORE_READ_BYTES: usize = 4 * MIB;
/// Paths, attributes and extents held by a window of a restore, in bytes; it is written early
/// when they weigh this much.
pub const RESTORE_WINDOW_BYTES: usize = 16 * MIB;
/// Bytes between two wanted blocks of a pack that are read over rather than asked around: less
/// than a round trip costs.
pub const RESTORE_GAP_BYTES: u64 = 64 * KIB as u64;
/// Bytes compared at a time where a file must hold zeros.
pub const RESTORE_ZEROS_BYTES: usize = 256 * KIB;

/// Decoded blocks that an export holds for what it is going to write, in bytes ...
pub const EXPORT_AHEAD_BYTES: u64 = 24 * MIB as u64;
/// ... of entries, as those of empty files weigh nothing else ...
pub const EXPORT_AHEAD_ITEMS: usize = 1024;
/// ... and for one file; one that has more is begun before all of it was verified.
pub const EXPORT_ITEM_BYTES: u64 = 8 * MIB as u64;

/// Bytes of a hole that are compared at a time with what a folder has there.
pub const COMPARE_BYTES: u64 = 256 * KIB as u64;

/// Memory argon2id may ask for when a key slot is read, in KiB: a hostile slot cannot ask for
/// all of the machine.
pub const ARGON2_MEMORY_KIB_MAX: u32 = 1024 * 1024;
/// Passes argon2id may ask for when a key slot is read.
pub const ARGON2_PASSES_MAX: u32 = 64;
/// Memory times passes that argon2id may ask for, in KiB: some five seconds a slot. A slot with
/// the most of both would take minutes, and a hostile storage can put many before the right one.
pub const ARGON2_WORK_KIB_MAX: u64 = 4 * 1024 * 1024;
/// Key slots looked at when a repository is opened.
pub const KEY_SLOTS_MAX: usize = 64;

/// Scratch space up to this size is plain memory; more goes to an unlinked file.
pub const SCRATCH_MEMORY_BYTES: usize = 16 * MIB;
/// Seconds after which two looks at the same beat are evidence that its lease's holder is gone
/// (PROTOCOL: six hours).
pub const SILENT_SECONDS: u64 = 6 * 3600;
/// Packs that one tombstone names at most: 320 KB of names, so that it stays a small record.
pub const TOMBSTONE_PACKS_MAX: usize = 10_000;
/// Stored and plain bytes of blocks that a prune copies at a time.
pub const COPY_WINDOW_BYTES: u64 = 32 * MIB as u64;
/// Rows of one pack index object that a prune puts: some 100 bytes each.
pub const INDEX_ROWS_TARGET: usize = 128 * KIB;
/// Pack index objects with fewer rows than the target are merged once there are so many.
pub const SMALL_INDEXES_MAX: usize = 16;
/// Packs of about one size that a prune merges once there are so many; a pack is merged again
/// only when it has grown so many times.
pub const SMALL_PACKS_MERGED: usize = 8;
/// How often a prune looks again for copies that another prune took away, or marks again when
/// index objects moved under its hands, before it leaves the rest to the next.
pub const PRUNE_ROUNDS_MAX: usize = 8;
/// Longest config file that is read: what people write is a thousand times smaller.
pub const CONFIG_FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Longest list of files to back up, in bytes: it is held in memory.
pub const LIST_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// Longest line of an FTP command that is heard: a path of `PATH_MAX` with every byte doubled, and
/// room.
pub const SERVE_LINE_BYTES_MAX: usize = 16 * KIB;
/// Bytes without an end of line after which nobody listens to an FTP client any more.
pub const SERVE_NOISE_BYTES_MAX: usize = MIB;
/// Commands of an FTP client that wait until the one at work is done, in bytes.
pub const SERVE_QUEUE_BYTES_MAX: usize = 64 * KIB;
/// Bytes moved at a time between a file and a data connection.
pub const SERVE_COPY_BYTES: usize = 256 * KIB;
/// Names of a folder that are sorted and looked at together for an FTP listing; a longer folder is
/// shown in several sorted stretches.
pub const SERVE_LIST_NAMES: usize = 4096;
/// Largest file of users that is read.
pub const USERS_FILE_BYTES_MAX: u64 = MIB as u64;
/// Made-up data that a bench goes through again and again: more than a processor's own caches
/// of one core, so that memory counts.
pub const BENCH_DATA_BYTES: usize = 4 * MIB;
/// Rounds after which a step of a bench ends even when the clock stands still.
pub const BENCH_ROUNDS_MAX: usize = 1_000_000;
