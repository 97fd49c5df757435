//! Wrappers: backends around backends, each adding one thing.
//!
//! How they are stacked, outermost first: [`read_only`], [`counting`] (what was asked for),
//! [`retry`], [`throttle`], [`limit`], then the backend. [`retry`] stands outside the
//! others so that a waiting request holds no place of [`limit`]. [`fault`] and [`record`] are for
//! tests.
//!
//! All are one type, [`Wrapper`], with one thing of their own: an [`Around`] that runs each call.
//! A listing is gathered before its rows are shown, so that a listing that is tried again shows
//! no row twice, and a visitor may itself call the backend without holding a place of a limit.

use crate::backend::Backend;
use crate::backend::Capabilities;
use crate::backend::Listed;
use crate::backend::ObjectInfo;
use crate::backend::key::FolderKey;
use crate::backend::key::ObjectKey;
use crate::base::error::Result;
use std::ops::Range;
use std::sync::Arc;

pub mod counting;
pub mod fault;
pub mod limit;
pub mod read_only;
pub mod record;
pub mod retry;
pub mod sleeper;
pub mod throttle;

/// Which method of a backend is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// [`Backend::put`]
    Put,
    /// [`Backend::put_new`]
    PutNew,
    /// [`Backend::get`]
    Get,
    /// [`Backend::get_range`]
    GetRange,
    /// [`Backend::stat`]
    Stat,
    /// [`Backend::list`]
    List,
    /// [`Backend::delete`]
    Delete,
}

impl Operation {
    /// Says whether the operation changes what is stored.
    pub fn is_write(self) -> bool {
        match self {
            Operation::Put | Operation::PutNew | Operation::Delete => true,
            Operation::Get | Operation::GetRange | Operation::Stat | Operation::List => false,
        }
    }
}

/// One call as a wrapper sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call<'a> {
    /// The method.
    pub operation: Operation,
    /// The key of the object or folder.
    pub key: &'a str,
    /// Bytes that go up with it.
    pub bytes_up: u64,
}

/// What a call gives back, for weighing.
pub trait Outcome {
    /// Returns how many bytes of objects came down with it.
    fn bytes_down(&self) -> u64;
}

impl Outcome for () {
    fn bytes_down(&self) -> u64 {
        0
    }
}

impl Outcome for bool {
    fn bytes_down(&self) -> u64 {
        0
    }
}

impl Outcome for u64 {
    fn bytes_down(&self) -> u64 {
        0
    }
}

impl Outcome for Vec<u8> {
    fn bytes_down(&self) -> u64 {
        self.len() as u64
    }
}

impl Outcome for Option<u64> {
    fn bytes_down(&self) -> u64 {
        0
    }
}

impl Outcome for Option<String> {
    fn bytes_down(&self) -> u64 {
        0
    }
}

impl Outcome for Vec<ObjectInfo> {
    fn bytes_down(&self) -> u64 {
        0
    }
}

impl Outcome for Vec<Listed> {
    fn bytes_down(&self) -> u64 {
        0
    }
}

/// What a wrapper does around a call.
pub trait Around: Send + Sync {
    /// Runs `work`, which makes the call, no time, once, or again.
    ///
    /// # Errors
    /// Those of `work`, and the wrapper's own.
    fn run<T: Outcome>(&self, call: Call<'_>, work: &dyn Fn() -> Result<T>) -> Result<T>;

    /// Returns what is left of what the inner backend can do.
    fn capabilities(&self, inner: Capabilities) -> Capabilities {
        inner
    }
}

/// A backend around a backend.
pub struct Wrapper<A> {
    inner: Arc<dyn Backend>,
    around: A,
}

impl<A: Around> Wrapper<A> {
    /// Puts `around` around `inner`.
    pub fn around(inner: Arc<dyn Backend>, around: A) -> Self {
        Wrapper { inner, around }
    }

    fn run<T: Outcome>(
        &self,
        operation: Operation,
        key: &str,
        bytes_up: usize,
        work: &dyn Fn() -> Result<T>,
    ) -> Result<T> {
        self.around.run(Call { operation, key, bytes_up: bytes_up as u64 }, work)
    }
}

impl<A: Around> Backend for Wrapper<A> {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn capabilities(&self) -> Capabilities {
        self.around.capabilities(self.inner.capabilities())
    }

    fn put(&self, key: &ObjectKey, bytes: &[u8]) -> Result<()> {
        self.run(Operation::Put, key.as_str(), bytes.len(), &|| self.inner.put(key, bytes))
    }

    fn put_new(&self, key: &ObjectKey, bytes: &[u8]) -> Result<()> {
        self.run(Operation::PutNew, key.as_str(), bytes.len(), &|| self.inner.put_new(key, bytes))
    }

    fn get(&self, key: &ObjectKey, bytes_max: usize) -> Result<Vec<u8>> {
        self.run(Operation::Get, key.as_str(), 0, &|| self.inner.get(key, bytes_max))
    }

    fn get_range(&self, key: &ObjectKey, range: Range<u64>) -> Result<Vec<u8>> {
        let work = || self.inner.get_range(key, range.clone());
        self.run(Operation::GetRange, key.as_str(), 0, &work)
    }

    fn stat(&self, key: &ObjectKey) -> Result<Option<u64>> {
        self.run(Operation::Stat, key.as_str(), 0, &|| self.inner.stat(key))
    }

    fn list(&self, folder: &FolderKey, visit: &mut dyn FnMut(Listed) -> Result<()>) -> Result<()> {
        let gather = || gathered(|push| self.inner.list(folder, push));
        let rows = self.run(Operation::List, folder.as_str(), 0, &gather)?;
        rows.into_iter().try_for_each(visit)
    }

    fn list_names(
        &self,
        folder: &FolderKey,
        visit: &mut dyn FnMut(Listed) -> Result<()>,
    ) -> Result<()> {
        let gather = || gathered(|push| self.inner.list_names(folder, push));
        let rows = self.run(Operation::List, folder.as_str(), 0, &gather)?;
        rows.into_iter().try_for_each(visit)
    }

    fn lists_deep(&self) -> bool {
        self.inner.lists_deep()
    }

    fn list_deep(&self, folder: &FolderKey) -> Result<Vec<ObjectInfo>> {
        self.run(Operation::List, folder.as_str(), 0, &|| self.inner.list_deep(folder))
    }

    fn foreign(&self) -> Result<Option<String>> {
        self.run(Operation::List, "", 0, &|| self.inner.foreign())
    }

    /// Not run as a call of its own: it changes nothing that anybody sees.
    fn settle(&self) -> Result<()> {
        self.inner.settle()
    }

    fn delete(&self, key: &ObjectKey) -> Result<()> {
        self.run(Operation::Delete, key.as_str(), 0, &|| self.inner.delete(key))
    }

    fn keep_reserve(&self) -> Result<()> {
        self.run(Operation::Put, "reserve", 0, &|| self.inner.keep_reserve())
    }

    fn release_reserve(&self) -> Result<bool> {
        self.run(Operation::Delete, "reserve", 0, &|| self.inner.release_reserve())
    }

    fn sweep(&self) -> Result<u64> {
        self.run(Operation::Delete, "tmp", 0, &|| self.inner.sweep())
    }
}

/// What a listing shows its rows to.
type Visit<'a> = dyn FnMut(Listed) -> Result<()> + 'a;

/// Returns the rows of a listing.
fn gathered(list: impl FnOnce(&mut Visit<'_>) -> Result<()>) -> Result<Vec<Listed>> {
    let mut rows = Vec::new();
    list(&mut |row| {
        rows.push(row);
        Ok(())
    })?;
    Ok(rows)
}
