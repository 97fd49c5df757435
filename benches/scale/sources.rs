//! Sources that are nowhere: a tree of any number of files, and one file of any length.

use icecore::base::cancel::Cancel;
use icecore::base::error::Error;
use icecore::base::error::Result;
use icecore::base::metadata::Detection;
use icecore::base::metadata::Kind;
use icecore::base::metadata::Metadata;
use icecore::base::path::EntryPath;
use icecore::base::time::Timestamp;
use icecore::source::OpenedEntry;
use icecore::source::Scan;
use icecore::source::ScanItem;
use icecore::source::Source;
use icecore::source::SourceEntry;
use icecore::source::SourceReader;

const FILES_PER_FOLDER: u64 = 1000;
/// What a page of a file begins with is found nowhere else.
const PAGE_BYTES: u64 = 4096;

/// Whether two places of a source hold the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// Every page is unlike all others, and compresses well.
    Unlike,
    /// The same over and over.
    Repeated,
}

/// A tree of files that is made while it is looked at: always the same, and in no place.
#[derive(Debug)]
pub(crate) struct Virtual {
    pub(crate) files: u64,
    pub(crate) file_bytes: u64,
    pub(crate) content: Content,
    /// What repeats: so many bytes.
    pub(crate) pattern: Vec<u8>,
}

impl Virtual {
    fn entry(&self, path: EntryPath, number: Option<u64>) -> SourceEntry {
        let time = Timestamp::new(1_000_000_000, 0);
        let mode = if number.is_some() { 0o644 } else { 0o755 };
        SourceEntry {
            path,
            kind: if number.is_some() { Kind::File } else { Kind::Directory },
            size: number.map_or(0, |_| self.file_bytes),
            metadata: Metadata { mode, mtime: time, ..Metadata::default() },
            detection: Detection { ctime: time, inode: number.unwrap_or(0), tag: Vec::new() },
            hard_link: None,
            device: (0, 0),
            maybe_sparse: false,
        }
    }

    fn items(&self, number: u64) -> Result<Vec<ScanItem>> {
        let folder = folder(number)?;
        let file = folder.join(format!("{:03}", number % FILES_PER_FOLDER).as_bytes())?;
        let mut items = Vec::with_capacity(2);
        if number.is_multiple_of(FILES_PER_FOLDER) {
            items.push(ScanItem::Entry(self.entry(folder, None)));
        }
        items.push(ScanItem::Entry(self.entry(file, Some(number))));
        Ok(items)
    }
}

fn folder(number: u64) -> Result<EntryPath> {
    EntryPath::new(format!("{:06}", number / FILES_PER_FOLDER).as_bytes())
}

impl Source for Virtual {
    fn location(&self) -> String {
        "virtual".to_owned()
    }

    fn detects_changes(&self) -> bool {
        true
    }

    fn scan(&self, _cancel: &Cancel) -> Result<Scan<'_>> {
        let root = ScanItem::Entry(self.entry(EntryPath::root(), None));
        let failed = |e| vec![ScanItem::Failed(EntryPath::root(), e)];
        let files = (0..self.files).flat_map(move |n| self.items(n).unwrap_or_else(failed));
        Ok(Box::new(std::iter::once(root).chain(files)))
    }

    fn reader(&self) -> Result<Box<dyn SourceReader + Send + '_>> {
        Ok(Box::new(Reader { source: self, open: None }))
    }
}

struct Reader<'a> {
    source: &'a Virtual,
    open: Option<(EntryPath, Option<u64>)>,
}

impl Reader<'_> {
    fn now(&self) -> Result<SourceEntry> {
        let (path, number) = self.open.clone().ok_or_else(|| Error::invalid("nothing is open"))?;
        Ok(self.source.entry(path, number))
    }
}

impl SourceReader for Reader<'_> {
    fn open(&mut self, path: &EntryPath) -> Result<OpenedEntry> {
        let digits: String =
            path.as_bytes().iter().filter(|b| b.is_ascii_digit()).map(|&b| b as char).collect();
        let number = if path.depth() == 2 { digits.parse().ok() } else { None };
        self.open = Some((path.clone(), number));
        Ok(OpenedEntry::plain(self.now()?))
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let source = self.source;
        let number = self.open.as_ref().and_then(|open| open.1).unwrap_or(0);
        let left = source.file_bytes.saturating_sub(offset);
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let pattern = &source.pattern;
        let mut filled = 0;
        while filled < length {
            let from = (offset as usize + filled) % pattern.len();
            let count = (pattern.len() - from).min(length - filled);
            buffer[filled..filled + count].copy_from_slice(&pattern[from..from + count]);
            filled += count;
        }
        if source.content == Content::Unlike {
            mark_pages(number, offset, &mut buffer[..length]);
        }
        Ok(length)
    }

    fn finish(&mut self) -> Result<SourceEntry> {
        let entry = self.now();
        self.open = None;
        entry
    }
}

/// Writes at the beginning of each page which it is.
fn mark_pages(number: u64, offset: u64, buffer: &mut [u8]) {
    for page in offset / PAGE_BYTES..=(offset + buffer.len() as u64) / PAGE_BYTES {
        let mark = [number.to_le_bytes(), page.to_le_bytes()].concat();
        for (n, byte) in mark.into_iter().enumerate() {
            let at = (page * PAGE_BYTES + n as u64).checked_sub(offset);
            if let Some(place) = at.and_then(|at| buffer.get_mut(at as usize)) {
                *place = byte;
            }
        }
    }
}
