//! A store that does odd things when told to: hides objects from listings, runs something between
//! two calls, and has little room.

use icecore::backend::Backend;
use icecore::backend::Capabilities;
use icecore::backend::Durability;
use icecore::backend::Listed;
use icecore::backend::key::FolderKey;
use icecore::backend::key::ObjectKey;
use icecore::backend::wrap::Operation;
use icecore::base::error::Error;
use icecore::base::error::ErrorKind;
use icecore::base::error::Origin;
use icecore::base::error::Result;
use std::ops::Range;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

type Hides = Box<dyn Fn(&str) -> bool + Send>;
/// Is shown each call before it is made; says whether it wants to see more.
type Between = Box<dyn FnMut(Operation, &str) -> bool + Send>;

pub(crate) struct Odd {
    inner: Arc<dyn Backend>,
    hides: Mutex<Option<Hides>>,
    /// What is listed, and not found by those who read it.
    loses: Mutex<Option<Hides>>,
    between: Mutex<Option<Between>>,
    /// Puts of keys that begin so fail as `Full` while the reserve is there.
    full_for: Mutex<Option<String>>,
    durability: Mutex<Durability>,
    settled: AtomicUsize,
}

impl Odd {
    pub(crate) fn new(inner: Arc<dyn Backend>) -> Self {
        let (hides, loses) = (Mutex::new(None), Mutex::new(None));
        let (between, full_for) = (Mutex::new(None), Mutex::new(None));
        let (durability, settled) = (Mutex::new(Durability::Whole), AtomicUsize::new(0));
        Odd { inner, hides, loses, between, full_for, durability, settled }
    }

    /// From now on listings lack what `hides` says.
    pub(crate) fn hide(&self, hides: impl Fn(&str) -> bool + Send + 'static) {
        *self.hides.lock().unwrap() = Some(Box::new(hides));
    }

    /// From now on what `loses` says is listed and cannot be read.
    pub(crate) fn lose(&self, loses: impl Fn(&str) -> bool + Send + 'static) {
        *self.loses.lock().unwrap() = Some(Box::new(loses));
    }

    pub(crate) fn between(&self, between: impl FnMut(Operation, &str) -> bool + Send + 'static) {
        *self.between.lock().unwrap() = Some(Box::new(between));
    }

    /// From now on it says that a power cut takes so much back.
    pub(crate) fn lose_power(&self, durability: Durability) {
        *self.durability.lock().unwrap() = durability;
    }

    pub(crate) fn fill_up(&self, prefix: &str) {
        *self.full_for.lock().unwrap() = Some(prefix.to_owned());
    }

    /// Returns how often it was asked to make durable what it has shown.
    pub(crate) fn settled(&self) -> usize {
        self.settled.load(Ordering::Relaxed)
    }

    pub(crate) fn behave(&self) {
        *self.hides.lock().unwrap() = None;
        *self.loses.lock().unwrap() = None;
        *self.between.lock().unwrap() = None;
        *self.full_for.lock().unwrap() = None;
    }

    fn show(&self, operation: Operation, key: &str) {
        // Taken out, so that what it does may call this very store.
        let taken = self.between.lock().unwrap().take();
        if let Some(mut between) = taken
            && between(operation, key)
        {
            self.between.lock().unwrap().get_or_insert(between);
        }
    }

    fn refuse_full(&self, key: &ObjectKey) -> Result<()> {
        let full_for = self.full_for.lock().unwrap();
        if full_for.as_ref().is_some_and(|prefix| key.as_str().starts_with(prefix.as_str())) {
            return Err(Error::new(ErrorKind::Full, "no room").at(Origin::Repository));
        }
        Ok(())
    }
}

impl Backend for Odd {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn capabilities(&self) -> Capabilities {
        let durability = *self.durability.lock().unwrap();
        Capabilities { durability, ..self.inner.capabilities() }
    }

    fn put(&self, key: &ObjectKey, bytes: &[u8]) -> Result<()> {
        self.show(Operation::Put, key.as_str());
        self.refuse_full(key)?;
        self.inner.put(key, bytes)
    }

    fn put_new(&self, key: &ObjectKey, bytes: &[u8]) -> Result<()> {
        self.show(Operation::PutNew, key.as_str());
        self.refuse_full(key)?;
        self.inner.put_new(key, bytes)
    }

    fn get(&self, key: &ObjectKey, bytes_max: usize) -> Result<Vec<u8>> {
        self.show(Operation::Get, key.as_str());
        if self.loses.lock().unwrap().as_ref().is_some_and(|loses| loses(key.as_str())) {
            return Err(Error::new(ErrorKind::NotFound, "no such object").at(Origin::Repository));
        }
        self.inner.get(key, bytes_max)
    }

    fn get_range(&self, key: &ObjectKey, range: Range<u64>) -> Result<Vec<u8>> {
        self.show(Operation::GetRange, key.as_str());
        self.inner.get_range(key, range)
    }

    fn stat(&self, key: &ObjectKey) -> Result<Option<u64>> {
        self.show(Operation::Stat, key.as_str());
        self.inner.stat(key)
    }

    fn list(&self, folder: &FolderKey, visit: &mut dyn FnMut(Listed) -> Result<()>) -> Result<()> {
        self.show(Operation::List, folder.as_str());
        self.inner.list(folder, &mut |listed| {
            let hides = self.hides.lock().unwrap();
            let is_hidden = |key: &str| hides.as_ref().is_some_and(|hides| hides(key));
            if let Listed::Object(object) = &listed
                && is_hidden(object.key.as_str())
            {
                return Ok(());
            }
            drop(hides);
            visit(listed)
        })
    }

    fn settle(&self) -> Result<()> {
        self.settled.fetch_add(1, Ordering::Relaxed);
        self.inner.settle()
    }

    fn delete(&self, key: &ObjectKey) -> Result<()> {
        self.show(Operation::Delete, key.as_str());
        self.inner.delete(key)
    }

    fn release_reserve(&self) -> Result<bool> {
        Ok(self.full_for.lock().unwrap().take().is_some())
    }
}
