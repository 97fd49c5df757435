//! A stream as a source: standard input, or what a command prints.
//!
//! A backup may start again, and its threads read at offsets, so the stream is first written to
//! a temporary file in a folder that the caller names, which needs room for all of it. The file
//! has no name from the moment it is open: nothing is left behind, whatever happens. Only when
//! the stream has ended well is there a source, so a command that fails makes no backup.

use crate::base::cancel::Cancel;
use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::id::to_hex;
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
use std::fs::File;
use std::io::ErrorKind as Io;
use std::io::Read;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;

/// Bytes read from the stream at a time.
const PIECE_BYTES: usize = 64 * 1024;

/// A dataset of one file that was a stream: the root, and the file.
///
/// ```
/// use icecore::base::cancel::Cancel;
/// use icecore::source::Source;
/// use icecore::source::stream::StreamSource;
///
/// let folder = std::env::temp_dir();
/// let mut stream = &b"content"[..];
/// let source = StreamSource::read(&mut stream, b"dump.sql", &folder, &Cancel::new()).unwrap();
/// let items = source.scan(&Cancel::new()).unwrap();
/// let paths: Vec<String> = items.map(|item| item.path().to_string()).collect();
/// assert_eq!(paths, ["", "dump.sql"]);
/// ```
#[derive(Debug)]
pub struct StreamSource {
    location: String,
    file: File,
    root: SourceEntry,
    entry: SourceEntry,
}

impl StreamSource {
    /// Reads a stream to its end into an unnamed file in `folder`, and shows it as the file
    /// `name` at the root of a dataset.
    ///
    /// # Errors
    /// `InvalidInput` for a name that is none; `Full` without room for all of it; `Cancelled`;
    /// those of the stream.
    pub fn read(
        stream: &mut dyn Read,
        name: &[u8],
        folder: &Path,
        cancel: &Cancel,
    ) -> Result<Self> {
        let path = EntryPath::root().join(name)?;
        let mut file = unnamed(folder)?;
        let size = spool(stream, &mut file, cancel)?;
        let metadata =
            file.metadata().map_err(|e| failed("cannot look at the spooled stream", e))?;
        let time = Timestamp::new(metadata.mtime(), metadata.mtime_nsec() as u32);
        let owner = Owner { uid: metadata.uid(), gid: metadata.gid(), ..Owner::default() };
        let entry = |path: EntryPath, kind: Kind, size: u64, mode: u32| SourceEntry {
            path,
            kind,
            size,
            metadata: Metadata {
                mode,
                owner: Arc::new(owner.clone()),
                mtime: time,
                xattrs: Vec::new(),
            },
            detection: Detection { ctime: time, ..Detection::default() },
            hard_link: None,
            device: (0, 0),
            maybe_sparse: false,
        };
        Ok(StreamSource {
            location: "stdin:".to_owned(),
            root: entry(EntryPath::root(), Kind::Directory, 0, 0o700),
            entry: entry(path, Kind::File, size, 0o600),
            file,
        })
    }

    /// Runs a command, its words given one by one and no shell between, and reads what it
    /// prints. Its standard error stays the terminal's, its standard input is empty.
    ///
    /// # Errors
    /// Those of [`StreamSource::read`]; when the command cannot be run, or ends otherwise than
    /// with success.
    pub fn run(words: &[OsString], name: &[u8], folder: &Path, cancel: &Cancel) -> Result<Self> {
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
        let read = match child.stdout.take() {
            Some(mut stdout) => StreamSource::read(&mut stdout, name, folder, cancel),
            None => Err(Error::bug("a command has no output")),
        };
        if read.is_err() {
            // It may wait for ever for somebody to read what it prints.
            let _ = child.kill();
        }
        let status = child.wait().map_err(|e| failed(&format!("cannot wait for {shown}"), e))?;
        let mut source = read?;
        if !status.success() {
            let message = format!("the command {shown} failed: {status}");
            return Err(Error::new(ErrorKind::Io, message)
                .hint("nothing was stored, as its output may be incomplete")
                .at(Origin::Source));
        }
        source.location = format!("command:{shown}");
        Ok(source)
    }
}

fn failed(doing: &str, cause: std::io::Error) -> Error {
    Error::io(doing, cause).at(Origin::Source)
}

fn unnamed(folder: &Path) -> Result<File> {
    sys::make_private_folder(folder)?;
    let unique: [u8; 8] = sys::random()?;
    let path = folder.join(format!("icecore-stream-{}.tmp", to_hex(&unique)));
    let opened = sys::create_private(&path).and_then(|file| {
        std::fs::remove_file(&path)?;
        Ok(file)
    });
    opened.map_err(|e| {
        let shown = display(folder.as_os_str().as_bytes());
        failed(&format!("cannot make a temporary file in {shown}"), e)
    })
}

fn spool(stream: &mut dyn Read, file: &mut File, cancel: &Cancel) -> Result<u64> {
    let mut piece = vec![0; PIECE_BYTES];
    let mut size = 0;
    loop {
        cancel.check()?;
        let length = match stream.read(&mut piece) {
            Ok(0) => return Ok(size),
            Ok(length) => length,
            Err(e) if e.kind() == Io::Interrupted => continue,
            Err(e) => return Err(failed("cannot read the stream", e)),
        };
        file.write_all(&piece[..length])
            .map_err(|e| failed("cannot keep the stream in a temporary file", e))?;
        size += length as u64;
    }
}

impl Source for StreamSource {
    fn location(&self) -> String {
        self.location.clone()
    }

    fn detects_changes(&self) -> bool {
        false
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
        let entries = [&self.source.root, &self.source.entry];
        let entry = entries.into_iter().find(|entry| entry.path == *path).ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("there is no {path}")).at(Origin::Source)
        })?;
        self.open = Some(entry);
        Ok(OpenedEntry::plain(entry.clone()))
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        if self.open.is_none_or(|entry| entry.kind != Kind::File) {
            return Err(not_open());
        }
        let mut filled = 0;
        while filled < buffer.len() {
            match self.source.file.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(length) => filled += length,
                Err(e) if e.kind() == Io::Interrupted => {}
                Err(e) => return Err(failed("cannot read the spooled stream", e)),
            }
        }
        Ok(filled)
    }

    fn finish(&mut self) -> Result<SourceEntry> {
        self.open.take().cloned().ok_or_else(not_open)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::ErrorKind;

    fn words(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    #[test]
    fn a_stream_is_one_file_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().expect("a folder");
        let content: Vec<u8> = (0..200_000_u32).map(|n| n as u8).collect();

        let cancel = Cancel::new();
        let source = StreamSource::read(&mut &content[..], b"a", folder.path(), &cancel);
        let source = source.expect("reads");

        assert_eq!(std::fs::read_dir(folder.path()).expect("lists").count(), 0);
        let mut reader = source.reader().expect("a reader");
        let opened = reader.open(&EntryPath::new(b"a").expect("a path")).expect("opens");
        assert_eq!(opened.entry.size, content.len() as u64);
        let mut tail = vec![0; 100];
        let length = reader.read_at(content.len() as u64 - 40, &mut tail).expect("reads");
        assert_eq!(tail[..length], content[content.len() - 40..]);
        assert_eq!(reader.finish().expect("finishes"), opened.entry);
    }

    #[test]
    fn a_command_that_fails_makes_no_source() {
        let folder = tempfile::tempdir().expect("a folder");
        let run =
            |line: &[&str]| StreamSource::run(&words(line), b"a", folder.path(), &Cancel::new());
        assert_eq!(run(&["printf", "abc"]).expect("runs").entry.size, 3);
        let failing = run(&["sh", "-c", "echo half; exit 3"]).expect_err("fails");
        assert!(failing.to_string().contains('3'), "{failing}");
        assert_eq!(run(&["/no/such"]).expect_err("fails").kind(), ErrorKind::NotFound);
        assert_eq!(run(&[]).expect_err("fails").kind(), ErrorKind::InvalidInput);
    }

    #[test]
    fn a_name_with_a_slash_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let read = StreamSource::read(&mut &b""[..], b"a/b", folder.path(), &Cancel::new());
        assert_eq!(read.expect_err("refused").kind(), ErrorKind::InvalidInput);
    }
}
