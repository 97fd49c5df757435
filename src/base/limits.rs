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
/// Bytes of tables that are read from one pack at once, and as many packs at a time as a store
/// makes use of: 37 a place, some 200 KB for a pack of the usual size. A pack with more has files
/// of a few bytes; its tables are read one by one.
pub const STORED_TABLES_BYTES_MAX: usize = 2 * MIB;
/// Bytes of tables kept on this machine for a repository far away: those of some 60 GB of content
/// that is cut finely. Those kept longest go; to read them again is one request for each pack.
pub const KEPT_TABLES_BYTES_MAX: u64 = 256 * MIB as u64;
/// Blocks of metadata are smaller: a replay holds one decoded block for each of up to
/// [`CHAIN_MANIFESTS_MAX`] + 1 streams at a time.
pub const METADATA_BLOCK_BYTES_TARGET: usize = 128 * KIB;
/// Most places in one block; bounds what a hostile table can make a reader allocate.
pub const BLOCK_PLACES_MAX: usize = 64 * KIB;
/// Rows of a block's table under one node of its small tree (PROTOCOL: groups of 16).
pub const TABLE_GROUP_ROWS: usize = 16;

/// A pack is closed once it holds this much: one fsync serves it, over a network one round
/// trip. Two are under way at a time.
pub const PACK_BYTES_TARGET: usize = 8 * MIB;
/// A pack is closed once its footer has about this much: a footer is a record, and with it is read
/// whole. Only blocks of a few hundred bytes come to that.
pub const FOOTER_BYTES_TARGET: usize = 2 * MIB;
/// Largest pack a reader accepts: the target, one block and its tables, with room to grow.
pub const PACK_BYTES_MAX: usize = 512 * MIB;

/// Shards that a pack is cut into for its parity, at most, and recovery shards at most: their
/// checksums stand twice in the parity object, 130 KB of a pack's 8 MiB.
pub const PARITY_SHARDS_MAX: usize = 4096;
/// Smallest shard a reader accepts.
pub const PARITY_SHARD_BYTES_MIN: usize = 64;
/// Largest shard: the largest pack in as many as there may be.
pub const PARITY_SHARD_BYTES_MAX: usize = PACK_BYTES_MAX / PARITY_SHARDS_MAX;
/// Largest share of a pack that its parity is made for, in percent.
pub const PARITY_PERCENT_MAX: u8 = 50;

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
pub const INTERIM_INDEX_PACKS: usize = 16;

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
pub const SPARE_BYTES_MAX: usize = 8 * MIB;
/// A file on its way to a server is gathered in memory up to this; longer ones go through a file.
pub const SPOOL_MEMORY_BYTES: u64 = 4 * MIB as u64;
/// Rows of newly stored blobs kept in memory before they go to a segment file: some 4 MB.
pub const NAMES_MEMORY_ROWS: usize = 64 * KIB;
/// Names of new chunks that a dry run remembers, to count each once: some 40 MB at most.
pub const DRY_RUN_NAMES_MAX: usize = MIB;
/// Places of tables that are read at a time into the index of names, over a network: some 20 MB.
pub const ABSORB_PLACES: usize = 512 * KIB;
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
/// Bytes of one read from a pack that is far away: all of a pack of the usual size, with its
/// tables, as each read costs round trips, and over FTP one that ends before its file does makes
/// the server send more in vain.
pub const FAR_READ_BYTES: u64 = (PACK_BYTES_TARGET + 2 * MIB) as u64;
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

/// Runs of files that a copy into another repository looks at together; their blocks are read
/// pack by pack, so more of them are fewer round trips.
pub const COPY_RUNS_MAX: usize = 32 * KIB;
/// Places of blocks that these runs name together: where each went is kept while they are copied.
pub const COPY_PLACES_MAX: u64 = 128 * KIB as u64;
/// Entries that wait for them at most.
pub const COPY_ENTRIES_MAX: usize = 16 * KIB;
/// Blocks of which a copy remembers where they went, some 100 bytes each.
pub const COPY_BLOCKS_KEPT_MAX: usize = 64 * KIB;
/// Runs of one file's former version that a copy compares on both sides.
pub const COPY_HINTS_MAX: usize = 64 * KIB;
/// Threads that read packs for a copy where each waits for a round trip.
pub const COPY_READERS_MAX: usize = 8;

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
/// Where a power cut may take back what was put, a prune waits so many seconds between what it
/// copies and what it deletes: Linux writes what is dirty to its disk after 30, looking each five.
pub const DISK_WAIT_SECONDS: u64 = 40;
/// Where a power cut may take back what was put, packs put so many seconds ago are looked for
/// before anything names them for good: no machine is cut and up again sooner.
pub const CUT_SECONDS_MIN: u64 = 10;
/// How often a prune looks again for copies that another prune took away, or marks again when
/// index objects moved under its hands, before it leaves the rest to the next.
pub const PRUNE_ROUNDS_MAX: usize = 8;
/// Longest config file that is read: what people write is a thousand times smaller.
pub const CONFIG_FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Longest list of files to back up, in bytes: it is held in memory.
pub const LIST_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// Longest line of an FTP command that is heard: four times `PATH_MAX`.
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

/// Sessions with one server at a time: what common servers let one address have, and enough to
/// hide a round trip behind the others.
pub const REMOTE_SESSIONS_MAX: usize = 8;
/// A session with a server that was idle for so many seconds is asked whether it still lives:
/// routers forget a silent connection after a minute, servers end it after five.
pub const SESSION_QUIET_SECONDS: i64 = 30;
/// A session is opened while another one still is only when that takes longer than this: servers
/// let some wait that come at once (proftpd for 200 ms, until a lock of its own is free), and the
/// first may be back by then. A far one's login takes longer, and is not waited for.
pub const SESSIONS_APART_MILLIS: u64 = 50;
/// Whoever waits for a session to come free looks so often whether somebody asked to stop.
pub const SESSION_LOOK_MILLIS: u64 = 1000;
/// A first connection that fails within so many seconds is tried once more: it broke. One that
/// takes longer leads nowhere, and who typed it waits for the answer.
pub const BROKE_AT_ONCE_SECONDS: f64 = 2.0;
/// Names in one folder of another machine: its list is held in memory, and a hostile server's has
/// no end.
pub const REMOTE_NAMES_MAX: usize = 2 * 1024 * 1024;
/// Looks of a listing that are kept for the readers that open what was listed.
pub const REMOTE_LOOKS_MAX: usize = 32 * KIB;
/// Entries of another machine listed ahead of who compares them.
pub const REMOTE_AHEAD_ENTRIES: usize = 16 * KIB;
/// Sessions that list folders ahead; the others are left to those who read files.
pub const REMOTE_LISTERS_MAX: usize = 4;
/// Threads that read files of another machine, or a repository there: each waits for round trips
/// most of its time, and holds a piece of a file and a block meanwhile.
pub const REMOTE_READERS_MAX: usize = 4;
/// By how much the clocks of two machines that are set over the network may differ, in seconds,
/// and both count as right.
pub const CLOCKS_APART_SECONDS: i64 = 10;
/// By how much the times of two zones differ at most: a server that tells its own local time may be
/// so far behind, in seconds.
pub const ZONES_APART_SECONDS: i64 = 26 * 3600;
/// Objects that are known to be kept as folders, so that they are asked for by one question.
pub const KNOWN_FOLDERS_MAX: usize = 16 * KIB;
/// Longest ~/.netrc or file of ~/.aws that is read: what people have is a thousand times smaller.
pub const CREDENTIALS_FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Seconds until a connection has to stand, for each address of a host.
pub const CONNECT_SECONDS: u64 = 15;
/// Seconds without a byte after which the other end of a connection is given up.
pub const SILENCE_SECONDS: u64 = 60;

/// Longest single wait for a line whose use is bounded, in seconds: bounds what a clock that was
/// set back can do.
pub const PACE_SECONDS_MAX: f64 = 600.0;

/// Longest packet taken from an SFTP server: OpenSSH sends at most 256 KiB and a little more.
pub const SFTP_PACKET_BYTES_MAX: usize = 320 * KIB;
/// Bytes of one read or write that every SFTP server takes (the draft asks for 32 KiB).
pub const SFTP_TRANSFER_BYTES: usize = 32 * KIB;
/// Most bytes of one read or write where a server tells that it takes more: what OpenSSH tells.
pub const SFTP_TRANSFER_BYTES_MAX: usize = 255 * KIB;
/// Bytes of an open file that are under way at a time: they fill a line of 80 MB/s at 50 ms.
pub const SFTP_UNDER_WAY_BYTES: usize = 4 * MIB;
/// Requests under way at a time, so that a server need not remember without bound.
pub const SFTP_UNDER_WAY_MAX: usize = 256;
/// Requests for more names of one folder under way at a time; OpenSSH answers 100 names each.
pub const SFTP_LISTS_UNDER_WAY_MAX: usize = 32;
/// Names of one folder after which a server is taken to make them up.
pub const SFTP_NAMES_MAX: u64 = 1 << 28;
/// Bytes from a server that wait to be looked at: more than all that can have been asked for.
pub const SFTP_WAITING_BYTES_MAX: usize = 64 * MIB;
/// Bytes kept of what a server says in words: enough for a sentence or two.
pub const SAID_BYTES_MAX: usize = 4 * KIB;

/// Window of an SSH channel: all reads under way fit, with room for what else is answered.
pub const SSH_WINDOW_BYTES: u32 = 8 * MIB as u32;
/// Largest file of known hosts or of a key that is read; more is no such file.
pub const SSH_FILE_BYTES_MAX: u64 = 16 * MIB as u64;
/// How often an SSH login starts again because the server hung up over too many wrong keys.
pub const SSH_LOGINS_MAX: usize = 8;
/// Keys of an agent that are tried: people have a handful.
pub const SSH_AGENT_KEYS_MAX: usize = 32;
/// Longest answer of a store that is no object: a page of 1000 keys of 1024 bytes, encoded.
pub const S3_ANSWER_BYTES_MAX: usize = 16 * MIB;
/// Most elements of one answer: some dozen for each of the 1000 keys of a page.
pub const S3_ELEMENTS_MAX: usize = 128 * KIB;
/// Deepest nesting of an answer; stores use five.
pub const S3_DEPTH_MAX: usize = 16;
/// How often a request is made at most when the store asks to slow down.
pub const S3_TRIES_MAX: u32 = 4;
/// Longest wait before a request is made again, whatever the store asks for, in seconds; the
/// longer waits are those of the retries around a backend.
pub const S3_WAIT_SECONDS_MAX: u64 = 10;
/// An object up to this size is put by one request; a larger one in parts.
pub const S3_PUT_BYTES_MAX: usize = 64 * MIB;
/// Bytes of one part: stores want 5 MiB at least.
pub const S3_PART_BYTES: usize = 16 * MIB;
/// Most bytes of a user's own words beside an object, names with them: S3 takes no more.
pub const S3_OWN_BYTES_MAX: usize = 2048;
/// Longest key of an object in bytes.
pub const S3_KEY_BYTES_MAX: usize = 1024;
/// Most parts of an object that is put in parts.
pub const S3_PARTS_MAX: u64 = 10_000;
/// An object up to this size is copied by the store in one request.
pub const S3_COPY_BYTES_MAX: u64 = 5 * 1024 * MIB as u64;
/// Requests of one kind that a restore into a bucket makes at a time: looks, deletions.
pub const S3_AT_A_TIME: usize = 16;
/// Names in folders of another machine that a restore to it remembers.
pub const TARGET_NAMES_KNOWN_MAX: usize = 256 * 1024;
/// Bits by which it knows names that it put beyond that: 2 MiB, good for some millions.
pub const TARGET_FORGOTTEN_BITS: u64 = 16 * 1024 * 1024;
/// Pages in a row that show nothing, after which a listing is taken for endless.
pub const S3_EMPTY_PAGES_MAX: usize = 1000;
/// Rows of one folder of a bucket that are held in memory to be sorted.
pub const S3_FOLDER_ROWS_MAX: usize = 2 * 1024 * 1024;
/// How often an object that is read is opened again where the connection broke off.
pub const S3_OPENS_MAX: usize = 5;
/// How often a folder of a bucket is listed before a list that makes no sense is believed.
pub const S3_LISTS_MAX: usize = 4;
/// How often a conditional put is begun again when the store says that another is under way.
pub const S3_CONFLICTS_MAX: usize = 8;
/// Longest line that an FTP server may send: a path and what there is to say about it.
pub const FTP_LINE_BYTES_MAX: usize = PATH_BYTES_MAX + 16 * KIB;
/// Longest reply of an FTP server, all of its lines: greetings are the longest.
pub const FTP_REPLY_BYTES_MAX: usize = 512 * KIB;
/// Most names in one folder that is listed by FTP: they are held in memory until the end of the
/// listing shows that it is whole.
pub const FTP_LISTING_NAMES_MAX: usize = 4_000_000;
/// Most bytes of one listing, so that names of 64 KiB cannot fill the memory.
pub const FTP_LISTING_BYTES_MAX: usize = 1024 * MIB;
/// Bytes of a file that are read over rather than asked around: a new transfer costs three round
/// trips.
pub const FTP_SKIP_BYTES_MAX: u64 = 256 * KIB as u64;
/// Bytes of a file that are read for nothing rather than broken off within TLS, where proftpd ends
/// the session then, and pure-ftpd may hang: those of a pack.
pub const FTP_DRAIN_BYTES_MAX: usize = PACK_BYTES_TARGET;
/// Seconds that an FTP server may take to notice that a transfer was broken off: most do at once,
/// and a new session is better than one that does not.
pub const FTP_LEAVE_SECONDS: u64 = 5;
/// Content of an FTP server is waited for so long before its word on it is.
pub const FTP_FIRST_BYTE_MILLIS: u64 = 20;
/// So many bytes are sent to an FTP server that has not yet said that it takes them: less than what
/// a connection holds that nobody reads from.
pub const FTP_UNHEARD_BYTES_MAX: u64 = 64 * KIB as u64;
/// Replies that an FTP server may be ahead by after a transfer that was broken off.
pub const FTP_REPLIES_AHEAD_MAX: usize = 3;
/// Bytes that the other end may still send over TLS after it was told that nothing more comes.
pub const TLS_REST_BYTES_MAX: usize = 256 * KIB;
