//! A tree of files on another machine, and one session with the server that keeps it: what FTP and
//! SFTP have in common.
//!
//! A session does one thing at a time, for one thread; whoever wants more opens more. Paths are
//! bytes as the server is to hear them: from its root where they begin with a slash, else from
//! where the login landed. Nothing here knows of repositories, datasets or retries.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::metadata::Kind;
use crate::base::time::Timestamp;

/// How exactly a server tells a time. A change within one step of it cannot be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Precision {
    /// To the second.
    Second,
    /// To the minute, in a zone that was established.
    Minute,
    /// To the day, or in a zone that nobody knows: of no use to tell a change.
    Vague,
}

/// When content last changed, as a server tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Modified {
    /// The time.
    pub time: Timestamp,
    /// What it is good for.
    pub precision: Precision,
}

/// What a server tells of a file, a folder or a link; what it does not tell is None.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// What it is. Where a server cannot tell a link from what it leads to, what it leads to.
    pub kind: Kind,
    /// Bytes of content; None for what is no file, too.
    pub size: Option<u64>,
    /// Last change of content.
    pub modified: Option<Modified>,
    /// Permission bits, `mode & 0o7777`.
    pub mode: Option<u32>,
    /// Numbers of user and group.
    pub owner: Option<(u32, u32)>,
    /// A tag that stays with a file and that another file in its place would not have (`unique`
    /// of MLSD); else empty.
    pub unique: Vec<u8>,
}

/// A name in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The bytes of the name: one part of a path, neither `.` nor `..`, without slash or NUL.
    pub name: Vec<u8>,
    /// What the server tells of it; links are not followed where the server can tell.
    pub look: Look,
}

/// What a server can do beyond reading, writing, listing and deleting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Abilities {
    /// [`Files::rename_over`] replaces in one step.
    pub replace: bool,
    /// [`Files::link`] gives a file a second name, and fails where that name is taken.
    pub link: bool,
    /// [`Files::rename`] of a file fails where the new name is taken.
    pub rename_refuses: bool,
    /// [`Files::rename`] of a folder fails where the new name is a folder that is not empty. Only
    /// a probe can tell; a session says what its protocol lets one hope for.
    pub rename_folder_refuses: bool,
    /// [`Files::finish`] makes content durable, as far as a server's word goes.
    pub sync: bool,
    /// [`Files::set_time`] works.
    pub set_time: bool,
    /// [`Files::set_mode`] works.
    pub set_mode: bool,
    /// [`Files::set_owner`] works.
    pub set_owner: bool,
    /// Symbolic links are told, read and made.
    pub symlinks: bool,
}

/// What a file is to have beside its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks {
    /// Permission bits, `mode & 0o7777`.
    pub mode: u32,
    /// Last change of content.
    pub time: Timestamp,
}

/// When it is made sure that a server has all that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Before the file counts as finished.
    Now,
    /// Whoever wrote it compares its size later, with those of others: it is not asked for where
    /// that would be a question of its own.
    Later,
}

/// How it went to give a file its [`Marks`].
#[derive(Debug)]
pub struct Marked {
    /// Whether the server has shown that it has all of the content: always with [`Proof::Now`].
    pub is_proven: bool,
    /// As [`Files::set_mode`].
    pub mode: Result<()>,
    /// As [`Files::set_time`].
    pub time: Result<()>,
}

impl Marked {
    /// Fails when the session was lost over it.
    pub(crate) fn on_a_session(self) -> Result<Self> {
        let is_lost = |e: &Error| e.kind() == ErrorKind::Unreachable;
        match self {
            Marked { mode: Err(e), .. } | Marked { time: Err(e), .. } if is_lost(&e) => Err(e),
            marked => Ok(marked),
        }
    }
}

/// How a server is spoken with. It is told to whoever wants to know; nothing is decided by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Manner {
    /// The word by which folders are listed, as far as is known yet.
    pub lists_by: &'static str,
    /// What the line is encrypted by; empty in the clear.
    pub security: &'static str,
}

/// One session with a server.
///
/// Contract:
/// - An error of kind `Unreachable` ends the session: it is dropped, and another opened. After any
///   other error, a refusal of the server, it goes on.
/// - A missing thing is `NotFound` (or None), a full disk or quota `Full`, a lack of rights
///   `Denied`. Where a server's words leave open which, the session looks again until it knows.
/// - A listing is whole or an error, never shorter: servers that cut it are noticed.
/// - Nothing waits for ever: each wait has a limit, after which it is `Unreachable`.
/// - What a server sends is not trusted: no panic, no name with a slash or `..`, no allocation by
///   a length it claims.
pub trait Files: Send {
    /// Says what the server can do.
    fn abilities(&self) -> Abilities;

    /// Says whether symbolic links are told and read; a server may do so that makes none.
    fn reads_links(&self) -> bool {
        self.abilities().symlinks
    }

    /// Says how the server is spoken with.
    fn manner(&self) -> Manner {
        Manner::default()
    }

    /// Shows what is directly in a folder, in any order.
    ///
    /// # Errors
    /// `NotFound`; as the server says, or as `visit` says, which ends the listing.
    fn list(&mut self, folder: &[u8], visit: &mut dyn FnMut(Found) -> Result<()>) -> Result<()>;

    /// Looks at what a path names, links not followed where the server can tell. None where there
    /// is nothing.
    ///
    /// # Errors
    /// As the server says.
    fn look_at(&mut self, path: &[u8]) -> Result<Option<Look>>;

    /// Returns where a symbolic link points.
    ///
    /// # Errors
    /// `Unsupported` where links are not told.
    fn read_link(&mut self, path: &[u8]) -> Result<Vec<u8>>;

    /// Opens a file to read, at once from `offset` on; what was open is closed. It costs nothing
    /// to open and to read to the end in one go.
    ///
    /// # Errors
    /// As the server says.
    fn open(&mut self, path: &[u8], offset: u64) -> Result<()>;

    /// Says how large the file is that is opened next, as a listing has told: a session that would
    /// ask for it need not, and asks when it turns out to be wrong.
    fn expect_size(&mut self, _size: u64) {}

    /// Reads the open file at `offset` until `buffer` is full or the file ends; returns how many
    /// bytes that were, fewer than asked only at the end. Cheap where `offset` is where the last
    /// read ended.
    ///
    /// # Errors
    /// As the server says; `Unreachable` when the stream breaks off before the end.
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize>;

    /// Closes the file that is open to read.
    ///
    /// # Errors
    /// As the server says.
    fn close(&mut self) -> Result<()>;

    /// Makes an empty file, or empties the one that is there, and opens it to write.
    ///
    /// # Errors
    /// As the server says; that may also come with the first writes, or with [`Files::finish`].
    fn create(&mut self, path: &[u8]) -> Result<()>;

    /// As [`Files::create`] of a file that is not there: where the server can, it refuses one that
    /// is, as it may be under a name that it takes for the same.
    ///
    /// # Errors
    /// `AlreadyExists`; those of [`Files::create`].
    fn create_new(&mut self, path: &[u8]) -> Result<()> {
        self.create(path)
    }

    /// Appends to the file that is open to write.
    ///
    /// # Errors
    /// As the server says.
    fn write(&mut self, bytes: &[u8]) -> Result<()>;

    /// Closes the file that is open to write, and makes sure that the server has all of it: it is
    /// made durable where the server can, and its size is asked for and compared.
    ///
    /// # Errors
    /// As the server says; the file may be there in part then.
    fn finish(&mut self) -> Result<()>;

    /// As [`Files::finish`] of a file that is new, and gives it, which is `path`, mode and time,
    /// with fewer round trips where the protocol lets them be asked for together.
    ///
    /// # Errors
    /// Those of [`Files::finish`], and `Unreachable`. What else kept the server from setting one
    /// is within what is returned.
    fn finish_with(&mut self, path: &[u8], marks: Marks, _proof: Proof) -> Result<Marked> {
        self.finish()?;
        let mode = self.set_mode(path, marks.mode);
        // The time comes last, as the mode may move it.
        let time = self.set_time(path, marks.time);
        Marked { is_proven: true, mode, time }.on_a_session()
    }

    /// Renames a file or a folder. Whether what stands at the new name is replaced or refuses is
    /// told by [`Files::abilities`].
    ///
    /// # Errors
    /// As the server says; `AlreadyExists` only where the server's answer, or another look, tells.
    fn rename(&mut self, from: &[u8], to: &[u8]) -> Result<()>;

    /// Renames a file, in one step over what stands at the new name.
    ///
    /// # Errors
    /// `Unsupported` where the server cannot.
    fn rename_over(&mut self, from: &[u8], to: &[u8]) -> Result<()>;

    /// Gives a file a second name.
    ///
    /// # Errors
    /// `AlreadyExists`; `Unsupported` where the server cannot.
    fn link(&mut self, from: &[u8], to: &[u8]) -> Result<()>;

    /// Makes a symbolic link.
    ///
    /// # Errors
    /// `Unsupported` where the server cannot.
    fn make_symlink(&mut self, path: &[u8], to: &[u8]) -> Result<()>;

    /// Makes a folder in one that is there.
    ///
    /// # Errors
    /// `AlreadyExists`; `NotFound` without the folder above.
    fn make_folder(&mut self, path: &[u8]) -> Result<()>;

    /// Removes an empty folder. One that is not there is success.
    ///
    /// # Errors
    /// As the server says.
    fn remove_folder(&mut self, path: &[u8]) -> Result<()>;

    /// Removes a file or a link. What is not there is success.
    ///
    /// # Errors
    /// As the server says.
    fn remove(&mut self, path: &[u8]) -> Result<()>;

    /// Sets when content last changed, as exactly as the server can.
    ///
    /// # Errors
    /// `Unsupported` where it cannot.
    fn set_time(&mut self, path: &[u8], time: Timestamp) -> Result<()>;

    /// Sets permission bits.
    ///
    /// # Errors
    /// `Unsupported` where the server cannot.
    fn set_mode(&mut self, path: &[u8], mode: u32) -> Result<()>;

    /// Sets the numbers of user and group.
    ///
    /// # Errors
    /// `Unsupported` where the server cannot.
    fn set_owner(&mut self, path: &[u8], owner: (u32, u32)) -> Result<()>;

    /// Asks the server something that changes nothing, so that it does not hang up.
    ///
    /// # Errors
    /// `Unreachable` when it did.
    fn keep_alive(&mut self) -> Result<()>;
}

/// Opens sessions with one server, as one user.
pub trait Connect: Send + Sync {
    /// Opens a session.
    ///
    /// # Errors
    /// `Unreachable`; `Denied` for a login that is refused; `RateLimited` where the server lets no
    /// more sessions in, which ends nothing: those that are open go on.
    fn connect(&self) -> Result<Box<dyn Files>>;

    /// Returns the server and the user without a password: safe to print.
    fn shown(&self) -> String;
}
