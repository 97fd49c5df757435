//! A stream as a source: standard input, or what a command prints.
//!
//! It is read while it is stored, once, and nothing of it is kept anywhere else: what was read
//! cannot be read again, and its size is known when it has ended. Only when it has ended well is
//! the last piece of it handed out, so a command that fails makes no backup.

use crate::base::cancel::Cancel;
use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::metadata::Detection;
use crate::base::metadata::Kind;
use crate::base::metadata::Metadata;
use crate::base::metadata::Owner;
use crate::base::path::EntryPath;
use crate::base::path::display;
use crate::base::sys;
use crate::base::time::Timestamp;
use crate::source::OpenedEntry;
use crate::source::Scan;
use crate::source::ScanItem;
use crate::source::Source;
use crate::source::SourceEntry;
use crate::source::SourceReader;
use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::ErrorKind as Io;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

/// How long a stream that brings nothing is waited for before somebody who interrupts is heard.
const PATIENCE: Duration = Duration::from_millis(100);

/// A dataset of one file that is a stream: the root, and the file.
///
/// ```
/// use icecore::base::cancel::Cancel;
/// use icecore::base::time::Timestamp;
/// use icecore::source::Source;
/// use icecore::source::stream::StreamSource;
///
/// let (now, cancel) = (Timestamp::new(0, 0), Cancel::new());
/// let source = StreamSource::new(&b"content"[..], b"dump.sql", now, &cancel).unwrap();
/// let items = source.scan(&cancel).unwrap();
/// let paths: Vec<String> = items.map(|item| item.path().to_string()).collect();
/// assert_eq!(paths, ["", "dump.sql"]);
/// ```
#[derive(Debug)]
pub struct StreamSource {
    location: String,
    root: SourceEntry,
    entry: SourceEntry,
    cancel: Cancel,
    feed: Mutex<Feed>,
}

/// The stream and how far it was read.
struct Feed {
    stream: Box<dyn Read + Send>,
    command: Option<Running>,
    offset: u64,
    has_begun: bool,
    has_ended: bool,
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed").field("offset", &self.offset).finish_non_exhaustive()
    }
}

/// A command that prints the stream. It is killed where nobody reads it to its end, as it may wait
/// for ever for that.
struct Running {
    shown: String,
    child: Child,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A pipe that is asked whether there is something before it is read.
struct Pipe(File);

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match sys::wait_readable(&self.0, PATIENCE)? {
            true => self.0.read(buffer),
            false => Err(Io::Interrupted.into()),
        }
    }
}

impl StreamSource {
    /// Shows a stream as the file `name` at the root of a dataset, written `now`.
    ///
    /// # Errors
    /// `InvalidInput` for a name that is none.
    pub fn new(
        stream: impl Read + Send + 'static,
        name: &[u8],
        now: Timestamp,
        cancel: &Cancel,
    ) -> Result<Self> {
        let path = EntryPath::root().join(name)?;
        let (uid, gid) = sys::user();
        let owner = Arc::new(Owner { uid, gid, ..Owner::default() });
        let entry = |path: EntryPath, kind: Kind, mode: u32| SourceEntry {
            path,
            kind,
            size: 0,
            metadata: Metadata { mode, owner: Arc::clone(&owner), mtime: now, xattrs: Vec::new() },
            detection: Detection::default(),
            hard_link: None,
            device: (0, 0),
            maybe_sparse: false,
        };
        Ok(StreamSource {
            location: "stdin:".to_owned(),
            root: entry(EntryPath::root(), Kind::Directory, 0o700),
            entry: entry(path, Kind::File, 0o600),
            cancel: cancel.clone(),
            feed: Mutex::new(Feed {
                stream: Box::new(stream),
                command: None,
                offset: 0,
                has_begun: false,
                has_ended: false,
            }),
        })
    }

    /// Shows what comes on standard input.
    ///
    /// # Errors
    /// Those of [`StreamSource::new`]; when there is no standard input.
    pub fn stdin(name: &[u8], now: Timestamp, cancel: &Cancel) -> Result<Self> {
        let stdin = std::io::stdin().as_fd().try_clone_to_owned();
        let stdin = stdin.map_err(|e| failed("cannot read standard input", e))?;
        StreamSource::new(Pipe(File::from(stdin)), name, now, cancel)
    }

    /// Runs a command, its words given one by one and no shell between, and shows what it prints.
    /// Its standard error stays the terminal's, its standard input is empty.
    ///
    /// # Errors
    /// Those of [`StreamSource::new`]; when the command cannot be run. When it ends otherwise than
    /// with success, the reader tells.
    pub fn run(words: &[OsString], name: &[u8], now: Timestamp, cancel: &Cancel) -> Result<Self> {
        let Some((program, arguments)) = words.split_first() else {
            return Err(Error::invalid("no command is named"));
        };
        let shown = display(program.as_bytes());
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| failed(&format!("cannot run {shown}"), e))?;
        let stdout = child.stdout.take();
        let command = Running { shown, child };
        let stdout = stdout.ok_or_else(|| Error::bug("a command has no output"))?;
        let stdout = Pipe(File::from(std::os::fd::OwnedFd::from(stdout)));
        let mut source = StreamSource::new(stdout, name, now, cancel)?;
        source.location = format!("command:{}", command.shown);
        source.feed().command = Some(command);
        Ok(source)
    }

    fn feed(&self) -> MutexGuard<'_, Feed> {
        self.feed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn failed(doing: &str, cause: std::io::Error) -> Error {
    Error::io(doing, cause).at(Origin::Source)
}

impl Feed {
    /// Begins it, which can be done once.
    fn begin(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.has_begun, true) {
            let message = "the stream has gone by and cannot be read again";
            return Err(Error::new(ErrorKind::Io, message)
                .hint("run the backup once more; what was read is stored and not stored again")
                .at(Origin::Source));
        }
        Ok(())
    }

    fn read(&mut self, buffer: &mut [u8], cancel: &Cancel) -> Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() && !self.has_ended {
            cancel.check()?;
            match self.stream.read(&mut buffer[filled..]) {
                Ok(0) => self.end(cancel)?,
                Ok(length) => filled += length,
                Err(e) if e.kind() == Io::Interrupted => {}
                Err(e) => return Err(failed("cannot read the stream", e)),
            }
        }
        self.offset += filled as u64;
        Ok(filled)
    }

    /// Ends it; of a command only what it says then tells whether that was all.
    fn end(&mut self, cancel: &Cancel) -> Result<()> {
        // Whoever interrupts a pipe ends the one that writes into it, too.
        cancel.check()?;
        self.has_ended = true;
        let Some(command) = &mut self.command else { return Ok(()) };
        let shown = &command.shown;
        let status =
            command.child.wait().map_err(|e| failed(&format!("cannot wait for {shown}"), e))?;
        if status.success() {
            return Ok(());
        }
        let message = format!("the command {shown} failed: {status}");
        Err(Error::new(ErrorKind::Io, message)
            .hint("no backup was made, as its output may be incomplete")
            .at(Origin::Source))
    }
}

impl Source for StreamSource {
    fn location(&self) -> String {
        self.location.clone()
    }

    fn detects_changes(&self) -> bool {
        false
    }

    fn is_stream(&self) -> bool {
        true
    }

    fn scan(&self, _: &Cancel) -> Result<Scan<'_>> {
        let items = [self.root.clone(), self.entry.clone()];
        Ok(Box::new(items.into_iter().map(ScanItem::Entry)))
    }

    fn reader(&self) -> Result<Box<dyn SourceReader + Send + '_>> {
        Ok(Box::new(StreamReader { source: self, open: None }))
    }
}

struct StreamReader<'a> {
    source: &'a StreamSource,
    open: Option<&'a SourceEntry>,
}

fn not_open() -> Error {
    Error::bug("no entry of the stream is open")
}

impl SourceReader for StreamReader<'_> {
    fn open(&mut self, path: &EntryPath) -> Result<OpenedEntry> {
        let source = self.source;
        let entries = [&source.root, &source.entry];
        let entry = entries.into_iter().find(|entry| entry.path == *path).ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("there is no {path}")).at(Origin::Source)
        })?;
        if entry.kind == Kind::File {
            source.feed().begin()?;
        }
        self.open = Some(entry);
        Ok(OpenedEntry::plain(entry.clone()))
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        if self.open.is_none_or(|entry| entry.kind != Kind::File) {
            return Err(not_open());
        }
        let mut feed = self.source.feed();
        if offset != feed.offset {
            return Err(Error::bug("a stream is read out of order"));
        }
        feed.read(buffer, &self.source.cancel)
    }

    fn finish(&mut self) -> Result<SourceEntry> {
        let mut entry = self.open.take().cloned().ok_or_else(not_open)?;
        if entry.kind == Kind::File {
            entry.size = self.source.feed().offset;
        }
        Ok(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::ErrorKind;

    const NOW: Timestamp = Timestamp::new(1_000, 0);

    fn open(source: &StreamSource) -> Box<dyn SourceReader + Send + '_> {
        let mut reader = source.reader().expect("a reader");
        reader.open(&EntryPath::new(b"a").expect("a path")).expect("opens");
        reader
    }

    #[test]
    fn a_stream_is_one_file_that_is_read_once_and_in_order() {
        let content: Vec<u8> = (0..200_000_u32).map(|n| n as u8).collect();
        let stream = std::io::Cursor::new(content.clone());
        let source = StreamSource::new(stream, b"a", NOW, &Cancel::new()).expect("a source");
        let (mut reader, mut piece) = (open(&source), vec![0; 150_000]);

        assert_eq!(reader.read_at(0, &mut piece).expect("reads"), 150_000);
        assert_eq!(piece, content[..150_000]);
        let again = reader.read_at(0, &mut piece).expect_err("out of order");
        assert_eq!(again.kind(), ErrorKind::Bug);
        assert_eq!(reader.read_at(150_000, &mut piece).expect("reads"), 50_000);
        assert_eq!(piece[..50_000], content[150_000..]);
        assert_eq!(reader.finish().expect("finishes").size, 200_000);

        let mut other = source.reader().expect("a reader");
        let error = other.open(&EntryPath::new(b"a").expect("a path")).expect_err("gone by");
        assert!(error.to_string().contains("cannot be read again"), "{error}");
    }

    #[test]
    fn a_command_that_fails_is_told_at_the_end_of_what_it_prints() {
        let run = |line: &[&str]| {
            let words: Vec<OsString> = line.iter().map(OsString::from).collect();
            StreamSource::run(&words, b"a", NOW, &Cancel::new())
        };
        let read = |line: &[&str]| {
            let source = run(line).expect("runs");
            open(&source).read_at(0, &mut [0; 100])
        };
        assert_eq!(read(&["printf", "abc"]).expect("reads"), 3);
        let failing = read(&["sh", "-c", "echo half; exit 3"]).expect_err("fails");
        assert!(failing.to_string().contains('3'), "{failing}");
        let killed = read(&["sh", "-c", "echo half; kill -9 $$"]).expect_err("fails");
        assert!(killed.to_string().contains("signal"), "{killed}");
        assert_eq!(run(&["/no/such"]).expect_err("fails").kind(), ErrorKind::NotFound);
        assert_eq!(run(&[]).expect_err("fails").kind(), ErrorKind::InvalidInput);
    }

    #[test]
    fn a_silent_command_can_be_interrupted() {
        let cancel = Cancel::new();
        let words: Vec<OsString> = ["sleep", "60"].iter().map(OsString::from).collect();
        let source = StreamSource::run(&words, b"a", NOW, &cancel).expect("runs");
        let mut reader = open(&source);
        cancel.cancel();
        let error = reader.read_at(0, &mut [0; 100]).expect_err("interrupted");
        assert_eq!(error.kind(), ErrorKind::Cancelled);
    }

    #[test]
    fn a_name_with_a_slash_is_refused() {
        let source = StreamSource::new(&b""[..], b"a/b", NOW, &Cancel::new());
        assert_eq!(source.expect_err("refused").kind(), ErrorKind::InvalidInput);
    }
}
