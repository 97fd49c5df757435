//! A source during whose backup something else happens.

use icecore::base::cancel::Cancel;
use icecore::base::error::Result;
use icecore::source::Scan;
use icecore::source::Source;
use icecore::source::SourceReader;
use icecore::source::memory::MemorySource;
use std::sync::Mutex;

type Event<'a> = Mutex<Option<Box<dyn FnOnce() + Send + 'a>>>;

/// Runs one thing at the first entry of a scan, when the parent is chosen and no lease is taken
/// yet; and one when the first reader is made, under the lease.
pub(crate) struct Hooked<'a> {
    inner: &'a MemorySource,
    at_scan: Event<'a>,
    at_reader: Event<'a>,
}

impl<'a> Hooked<'a> {
    pub(crate) fn at_scan(inner: &'a MemorySource, event: impl FnOnce() + Send + 'a) -> Self {
        Hooked { inner, at_scan: Mutex::new(Some(Box::new(event))), at_reader: Mutex::default() }
    }

    pub(crate) fn at_reader(inner: &'a MemorySource, event: impl FnOnce() + Send + 'a) -> Self {
        Hooked { inner, at_scan: Mutex::default(), at_reader: Mutex::new(Some(Box::new(event))) }
    }

    /// Whether what was to happen did.
    pub(crate) fn has_happened(&self) -> bool {
        self.at_scan.lock().unwrap().is_none() && self.at_reader.lock().unwrap().is_none()
    }
}

fn happen(event: &Event<'_>) {
    let event = event.lock().unwrap().take();
    if let Some(event) = event {
        event();
    }
}

impl Source for Hooked<'_> {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn detects_changes(&self) -> bool {
        self.inner.detects_changes()
    }

    fn scan(&self, cancel: &Cancel) -> Result<Scan<'_>> {
        let mut scan = self.inner.scan(cancel)?;
        Ok(Box::new(std::iter::from_fn(move || {
            happen(&self.at_scan);
            scan.next()
        })))
    }

    fn reader(&self) -> Result<Box<dyn SourceReader + Send + '_>> {
        happen(&self.at_reader);
        self.inner.reader()
    }
}
