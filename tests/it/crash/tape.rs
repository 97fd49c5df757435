//! Backends that write down every write with its bytes, lose replies, and put packs too late.

use crate::crash::story::Medium;
use icecore::backend::Backend;
use icecore::backend::Capabilities;
use icecore::backend::Listed;
use icecore::backend::key::FolderKey;
use icecore::backend::key::ObjectKey;
use icecore::backend::memory::MemoryBackend;
use icecore::base::error::Error;
use icecore::base::error::ErrorKind;
use icecore::base::error::Origin;
use icecore::base::error::Result;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;

/// One write that was done.
#[derive(Clone, Debug)]
pub(super) enum Write {
    Put(ObjectKey, Vec<u8>),
    PutNew(ObjectKey, Vec<u8>),
    Delete(ObjectKey),
}

impl Write {
    /// Does it to a store, as the store would: a taken number stays as it is.
    pub(super) fn apply(&self, store: &MemoryBackend) {
        match self {
            Write::Put(key, bytes) => store.insert_raw(key, bytes.clone()),
            Write::PutNew(key, bytes) => drop(store.put_new(key, bytes)),
            Write::Delete(key) => drop(store.remove_raw(key)),
        }
    }
}

/// Objects in memory, and how they came to be.
#[derive(Clone)]
pub(super) struct Tape {
    pub(super) store: Arc<MemoryBackend>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    log: Vec<Write>,
    is_off: bool,
    kill_before: Option<&'static str>,
    loses_reply_of: Option<usize>,
}

impl Tape {
    pub(super) fn new(store: MemoryBackend) -> Self {
        Tape::on(Arc::new(store))
    }

    pub(super) fn on(store: Arc<MemoryBackend>) -> Self {
        Tape { store, state: Arc::default() }
    }

    pub(super) fn log(&self) -> Vec<Write> {
        self.lock().log.clone()
    }

    /// Does this write and yet fails.
    pub(super) fn lose_reply_of(&self, write: usize) {
        self.lock().loses_reply_of = Some(write);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn write(
        &self,
        key: &ObjectKey,
        write: Write,
        work: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let mut state = self.lock();
        if state.kill_before.is_some_and(|folder| key.as_str().starts_with(folder)) {
            state.is_off = true;
        }
        state.refuse_when_off()?;
        work()?;
        state.log.push(write);
        if state.loses_reply_of == Some(state.log.len() - 1) {
            return Err(unreachable("the reply is lost"));
        }
        Ok(())
    }
}

fn unreachable(why: &str) -> Error {
    Error::new(ErrorKind::Unreachable, why).at(Origin::Repository)
}

impl State {
    fn refuse_when_off(&self) -> Result<()> {
        if self.is_off { Err(unreachable("the line is dead")) } else { Ok(()) }
    }
}

impl Medium for Tape {
    fn create(&self) -> Result<Arc<dyn Backend>> {
        Ok(Arc::new(self.clone()))
    }

    fn open(&self) -> Result<Arc<dyn Backend>> {
        Ok(Arc::new(self.clone()))
    }

    fn position(&self) -> usize {
        self.lock().log.len()
    }

    fn kill_before(&self, folder: Option<&'static str>) {
        let mut state = self.lock();
        state.kill_before = folder;
        state.is_off = false;
    }

    fn replace(&self, key: &ObjectKey, bytes: &[u8]) {
        self.store.insert_raw(key, bytes.to_vec());
    }
}

impl Backend for Tape {
    fn location(&self) -> String {
        self.store.location()
    }

    fn capabilities(&self) -> Capabilities {
        self.store.capabilities()
    }

    fn put(&self, key: &ObjectKey, bytes: &[u8]) -> Result<()> {
        self.write(key, Write::Put(key.clone(), bytes.to_vec()), || self.store.put(key, bytes))
    }

    fn put_new(&self, key: &ObjectKey, bytes: &[u8]) -> Result<()> {
        let write = Write::PutNew(key.clone(), bytes.to_vec());
        self.write(key, write, || self.store.put_new(key, bytes))
    }

    fn get(&self, key: &ObjectKey, bytes_max: usize) -> Result<Vec<u8>> {
        self.lock().refuse_when_off()?;
        self.store.get(key, bytes_max)
    }

    fn get_range(&self, key: &ObjectKey, range: Range<u64>) -> Result<Vec<u8>> {
        self.lock().refuse_when_off()?;
        self.store.get_range(key, range)
    }

    fn stat(&self, key: &ObjectKey) -> Result<Option<u64>> {
        self.lock().refuse_when_off()?;
        self.store.stat(key)
    }

    fn list(&self, folder: &FolderKey, visit: &mut dyn FnMut(Listed) -> Result<()>) -> Result<()> {
        self.lock().refuse_when_off()?;
        self.store.list(folder, visit)
    }

    fn delete(&self, key: &ObjectKey) -> Result<()> {
        self.write(key, Write::Delete(key.clone()), || self.store.delete(key))
    }
}

/// A backend that says of each pack that it is put, and puts it only when the next one comes, or
/// after the header: what a writer would do that did not wait for its packs.
pub(super) struct Hasty {
    inner: Arc<dyn Backend>,
    late: Mutex<BTreeMap<ObjectKey, Vec<u8>>>,
}

impl Hasty {
    pub(super) fn new(inner: Arc<dyn Backend>) -> Self {
        Hasty { inner, late: Mutex::default() }
    }

    fn flush(&self) -> Result<()> {
        let late = std::mem::take(&mut *self.late.lock().unwrap());
        late.iter().try_for_each(|(key, bytes)| self.inner.put(key, bytes))
    }

    fn held(&self, key: &ObjectKey) -> Option<Vec<u8>> {
        self.late.lock().unwrap().get(key).cloned()
    }
}

impl Backend for Hasty {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn put(&self, key: &ObjectKey, bytes: &[u8]) -> Result<()> {
        if !key.as_str().starts_with("packs/") {
            return self.inner.put(key, bytes);
        }
        self.flush()?;
        self.late.lock().unwrap().insert(key.clone(), bytes.to_vec());
        Ok(())
    }

    fn put_new(&self, key: &ObjectKey, bytes: &[u8]) -> Result<()> {
        self.inner.put_new(key, bytes)?;
        if key.as_str().starts_with("datasets/") { self.flush() } else { Ok(()) }
    }

    fn get(&self, key: &ObjectKey, bytes_max: usize) -> Result<Vec<u8>> {
        self.held(key).map_or_else(|| self.inner.get(key, bytes_max), Ok)
    }

    fn get_range(&self, key: &ObjectKey, range: Range<u64>) -> Result<Vec<u8>> {
        match self.held(key) {
            Some(bytes) => Ok(bytes[range.start as usize..range.end as usize].to_vec()),
            None => self.inner.get_range(key, range),
        }
    }

    fn stat(&self, key: &ObjectKey) -> Result<Option<u64>> {
        match self.held(key) {
            Some(bytes) => Ok(Some(bytes.len() as u64)),
            None => self.inner.stat(key),
        }
    }

    fn list(&self, folder: &FolderKey, visit: &mut dyn FnMut(Listed) -> Result<()>) -> Result<()> {
        self.inner.list(folder, visit)
    }

    fn delete(&self, key: &ObjectKey) -> Result<()> {
        self.inner.delete(key)
    }
}
