//! A bucket, or what begins with a prefix in it, as a target.
//!
//! Each file is an object whose key is its path, each folder that holds nothing, or of which there
//! is something to keep, an object whose key ends with a slash. Stores take objects from their
//! beginning to their end, and a restore writes as packs come: so content is gathered (see
//! `content`), in memory while it is short, else in a file without a name in the folder of the
//! cache; what is longer than a part is sent part by part as they fill. An object is seen when it
//! is whole, and what stood there stays until then. Uploads that are not completed are given up.
//!
//! What stands beside an object is made of the entry by `wanted`. `known` remembers what stands in
//! the folders at hand, `place` asks the store, `versions` holds back what has to wait for its turn,
//! `writer` does the rest.
//!
//! Nothing is touched whose key does not begin with the prefix and a slash; keys that are no paths
//! of files are left alone, as some stores take `a/../b` for `b`.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::limits::S3_KEY_BYTES_MAX;
use crate::base::path::EntryPath;
use crate::base::words::counted;
use crate::net::s3::client::Client;
use crate::target::Finished;
use crate::target::Target;
use crate::target::TargetWriter;
use crate::target::bucket::content::Content;
use crate::target::bucket::end::Folders;
use crate::target::bucket::stand::Stand;
use crate::target::bucket::versions::History;
use crate::target::bucket::versions::Place;
use crate::target::bucket::versions::Placed;
use crate::target::bucket::writer::BucketWriter;
use crate::target::known::Known;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::OnceLock;
use std::sync::PoisonError;

mod content;
mod end;
mod order;
mod place;
mod send;
mod stand;
mod versions;
mod wanted;
mod writer;

/// Every error is one of the place a restore writes to.
const ORIGIN: Origin = Origin::Target;

/// A bucket, or a part of it.
pub struct BucketTarget {
    client: Client,
    /// Empty, or with a slash at its end.
    prefix: String,
    scratch: PathBuf,
    state: Mutex<State>,
    /// Held while a part is sent that is longer than usual, so that memory has one of them.
    large: Mutex<()>,
}

/// What the writers share.
#[derive(Default)]
struct State {
    known: Known<Stand>,
    /// Folders that were made and have no metadata yet, and whether anything was put in them: a
    /// bucket shows them only then.
    made: BTreeMap<EntryPath, bool>,
    /// Files that were begun and not put yet.
    begun: BTreeMap<EntryPath, Arc<Begun>>,
    /// What was told already that a bucket cannot keep.
    told: BTreeSet<String>,
    /// Further names of files, which became objects of their own.
    copies: u64,
    /// Keys that are no paths of files, and stay.
    unfit: BTreeSet<String>,
    /// What the store makes of objects that stand for folders, once that was tried.
    folders: Option<Folders>,
    /// Empty folders that the store does not keep.
    lost_folders: u64,
    /// Whether the bucket keeps versions, once somebody asked.
    keeps_versions: Option<bool>,
    /// Versions by key that wait for the end.
    held: BTreeMap<String, History>,
    /// Keys whose versions are not put, as they have some.
    kept_histories: BTreeSet<String>,
    /// Whether there are versions that the bucket does not keep as such.
    lost_versions: bool,
    /// Versions that were put.
    placed: BTreeMap<EntryPath, Placed>,
    is_prepared: bool,
}

/// A file that was begun.
struct Begun {
    content: Mutex<Content>,
    /// Whether something stands there that is to be replaced.
    replaces: bool,
    /// Where it belongs, once that is known.
    place: OnceLock<Place>,
}

impl Begun {
    fn new(replaces: bool) -> Arc<Self> {
        let content = Mutex::new(Content::new());
        Arc::new(Begun { content, replaces, place: OnceLock::new() })
    }

    /// Returns the key that its content is sent to.
    fn key(&self, target: &BucketTarget, path: &EntryPath) -> Result<String> {
        match self.place.get() {
            Some(Place::Older(key) | Place::Newest(key)) => Ok(key.clone()),
            Some(Place::Own) | None => target.key(path),
        }
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for BucketTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BucketTarget({})", self.location())
    }
}

impl BucketTarget {
    /// Names the part of a bucket that begins with `prefix` and a slash; all of it where that is
    /// empty. Long files are gathered in the folder `scratch`. Nothing is looked at yet.
    pub fn new(client: Client, prefix: &str, scratch: PathBuf) -> Self {
        let prefix = prefix.trim_matches('/');
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        let (state, large) = (Mutex::default(), Mutex::default());
        BucketTarget { client, prefix, scratch, state, large }
    }

    /// Remembers so many names of folders: for machines that have little memory.
    pub fn remembering(self, names_max: usize) -> Self {
        self.state().known = Known::with_names_max(names_max);
        self
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the key of a file.
    fn key(&self, path: &EntryPath) -> Result<String> {
        let unfit = |why: &str| {
            let message = format!("{path} cannot be the key of an object: {why}");
            Error::new(ErrorKind::Unsupported, message).at(ORIGIN)
        };
        let text = std::str::from_utf8(path.as_bytes()).map_err(|_| unfit("it is not UTF-8"))?;
        let key = format!("{}{text}", self.prefix);
        if key.len() > S3_KEY_BYTES_MAX {
            let why = format!("it has more than {S3_KEY_BYTES_MAX} bytes, the prefix with it");
            return Err(unfit(&why));
        }
        Ok(key)
    }

    /// Returns what the keys of all that is in a folder begin with, which is the key of the object
    /// that stands for the folder.
    fn folder_key(&self, path: &EntryPath) -> Result<String> {
        if path.is_root() {
            return Ok(self.prefix.clone());
        }
        let key = format!("{}/", self.key(path)?);
        if key.len() > S3_KEY_BYTES_MAX {
            let message = format!("{path} cannot be the key of an object: it is too long");
            return Err(Error::new(ErrorKind::Unsupported, message).at(ORIGIN));
        }
        Ok(key)
    }

    /// Gives up what was begun and cannot be seen by anybody.
    fn give_up(&self, path: &EntryPath, begun: &Begun) {
        if let (Some(upload), Ok(key)) = (begun.content().take_upload(), begun.key(self, path)) {
            // What stays is swept by the store's own rules for uploads that were not completed.
            let _ = self.client.abort_upload(&key, &upload);
        }
    }
}

/// The error of doing something to what stands at a path.
fn failed(doing: &str, path: &EntryPath, error: Error) -> Error {
    let path = if path.is_root() { "the target".to_owned() } else { path.to_string() };
    error.context(format!("{doing} {path}")).at(ORIGIN)
}

impl Target for BucketTarget {
    fn location(&self) -> String {
        self.client.shown(self.prefix.trim_end_matches('/'))
    }

    fn prepare(&self) -> Result<bool> {
        let was_there = self.look_at_root();
        let was_prepared = std::mem::replace(&mut self.state().is_prepared, was_there.is_ok());
        Ok(was_there? || was_prepared)
    }

    fn writer(&self) -> Result<Box<dyn TargetWriter + Send + '_>> {
        let is_prepared = self.state().is_prepared;
        // A dry run prepares nothing, and looks at what is there.
        if !is_prepared && !self.look_at_root()? {
            let message = format!("there is nothing in {}", self.location());
            return Err(Error::new(ErrorKind::NotFound, message).at(ORIGIN));
        }
        self.state().is_prepared = true;
        Ok(Box::new(BucketWriter::new(self)))
    }

    fn writes_in_place(&self) -> bool {
        false
    }

    fn finish(&self) -> Result<Finished> {
        let failed = self.put_held();
        let state = self.state();
        let mut notes = Vec::new();
        if !state.kept_histories.is_empty() {
            let keys = state.kept_histories.len() as u64;
            let objects = counted(keys, "object has", "objects have");
            notes.push(format!("{objects} versions there already: older ones were not put again"));
        }
        if state.lost_versions {
            notes.push(
                "the bucket keeps no versions: older ones are objects in folders NAME@versions"
                    .to_owned(),
            );
        }
        if state.folders.is_some_and(|folders| !folders.have_words) {
            notes.push("the store keeps no times and modes of folders".to_owned());
        }
        if state.lost_folders > 0 {
            let lost = state.lost_folders;
            let were = if lost == 1 { "was" } else { "were" };
            notes.push(format!("the store keeps no empty folders: {lost} {were} left out"));
        }
        if state.copies > 0 {
            let copies = match state.copies {
                1 => "1 further name of a file is an object of its own".to_owned(),
                copies => format!("{copies} further names of files are objects of their own"),
            };
            notes.push(format!("a bucket has no second names: {copies}"));
        }
        if let Some(first) = state.unfit.first() {
            notes.push(format!(
                "keys that are no paths of files were left as they are: {} of them, such as {first}",
                state.unfit.len()
            ));
        }
        Ok(Finished { notes, failed })
    }
}

impl Drop for BucketTarget {
    fn drop(&mut self) {
        let begun = std::mem::take(&mut self.state().begun);
        begun.iter().for_each(|(path, begun)| self.give_up(path, begun));
        self.give_up_held();
    }
}
