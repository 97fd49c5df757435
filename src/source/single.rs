//! One file of this machine as a source: the folder it is in, with nothing else in it.

use crate::base::cancel::Cancel;
use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::metadata::Kind;
use crate::base::path::EntryPath;
use crate::base::path::display;
use crate::base::sys;
use crate::source::OpenedEntry;
use crate::source::Scan;
use crate::source::ScanItem;
use crate::source::Source;
use crate::source::SourceEntry;
use crate::source::SourceReader;
use crate::source::filter::FolderRules;
use crate::source::local::LocalOptions;
use crate::source::local::LocalSource;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;

/// A file of this machine. The folder it is in is not listed, however many others it holds.
///
/// ```
/// use icecore::base::cancel::Cancel;
/// use icecore::source::Source;
/// use icecore::source::local::LocalOptions;
/// use icecore::source::single::FileSource;
///
/// let folder = std::env::temp_dir().join(format!("icecore-doc-file-{}", std::process::id()));
/// std::fs::create_dir(&folder).unwrap();
/// std::fs::write(folder.join("a"), b"content").unwrap();
/// std::fs::write(folder.join("b"), b"other").unwrap();
/// let source = FileSource::open(&folder.join("a"), LocalOptions::default()).unwrap();
/// let items = source.scan(&Cancel::new()).unwrap();
/// let paths: Vec<String> = items.map(|item| item.path().to_string()).collect();
/// assert_eq!(paths, ["", "a"]);
/// # std::fs::remove_dir_all(&folder).unwrap();
/// ```
#[derive(Debug)]
pub struct FileSource {
    location: PathBuf,
    folder: LocalSource,
    options: LocalOptions,
    /// Its name as typed ...
    name: EntryPath,
    /// ... and the one it has: a symlink given here is followed, as one to a folder is.
    real: EntryPath,
}

impl FileSource {
    /// Opens the folder that the file is in.
    ///
    /// # Errors
    /// `NotFound` when nothing is there; those of [`LocalSource::open`] on the folder.
    pub fn open(path: &Path, options: LocalOptions) -> Result<Self> {
        let shown = display(path.as_os_str().as_bytes());
        let cannot = |e| Error::io(format!("cannot read {shown}"), e);
        let real = std::fs::canonicalize(path).map_err(cannot)?;
        let no_file = || Error::invalid(format!("cannot read {shown}: it is no file"));
        let entry = |path: &Path| {
            let name = path.file_name().ok_or_else(no_file)?;
            EntryPath::root().join(name.as_bytes())
        };
        Ok(FileSource {
            location: sys::absolute(path).map_err(cannot)?,
            folder: LocalSource::open(real.parent().ok_or_else(no_file)?, options.clone())?,
            options,
            name: entry(path)?,
            real: entry(&real)?,
        })
    }

    fn look(&self, reader: &mut FileReader<'_>, path: &EntryPath) -> Result<SourceEntry> {
        let mut entry = reader.open(path)?.entry;
        // They come when it is opened to be read.
        entry.metadata.xattrs.clear();
        Ok(entry)
    }

    fn file_reader(&self) -> Result<FileReader<'_>> {
        Ok(FileReader { source: self, inner: self.folder.reader()? })
    }
}

impl Source for FileSource {
    fn location(&self) -> String {
        display(self.location.as_os_str().as_bytes())
    }

    fn detects_changes(&self) -> bool {
        true
    }

    fn scan(&self, _: &Cancel) -> Result<Scan<'_>> {
        let mut reader = self.file_reader()?;
        let mut items = vec![ScanItem::Entry(self.look(&mut reader, &EntryPath::root())?)];
        let entry = self.look(&mut reader, &self.name)?;
        let rules = FolderRules::none();
        let filter = self.options.filter.as_ref();
        if entry.kind != Kind::File {
            items.push(ScanItem::Skipped(entry.path, "it is no file any more".to_owned()));
        } else if !filter.is_some_and(|it| it.excludes(&entry.path, entry.kind, entry.size, &rules))
        {
            items.push(ScanItem::Entry(entry));
        }
        Ok(Box::new(items.into_iter()))
    }

    fn reader(&self) -> Result<Box<dyn SourceReader + Send + '_>> {
        Ok(Box::new(self.file_reader()?))
    }
}

struct FileReader<'a> {
    source: &'a FileSource,
    inner: Box<dyn SourceReader + Send + 'a>,
}

impl FileReader<'_> {
    fn as_typed(&self, mut entry: SourceEntry) -> SourceEntry {
        if entry.path == self.source.real {
            entry.path = self.source.name.clone();
        }
        entry
    }
}

impl SourceReader for FileReader<'_> {
    fn open(&mut self, path: &EntryPath) -> Result<OpenedEntry> {
        let is_it = *path == self.source.name;
        let mut opened = self.inner.open(if is_it { &self.source.real } else { path })?;
        opened.entry = self.as_typed(opened.entry);
        Ok(opened)
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        self.inner.read_at(offset, buffer)
    }

    fn finish(&mut self) -> Result<SourceEntry> {
        let entry = self.inner.finish()?;
        Ok(self.as_typed(entry))
    }

    fn close(&mut self) {
        self.inner.close();
    }
}
