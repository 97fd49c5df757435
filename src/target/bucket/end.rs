//! What ends a file or a folder of a bucket: what stands beside it, its place in the folder above,
//! and its removal.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::id::to_hex;
use crate::base::limits::S3_AT_A_TIME;
use crate::base::metadata::Kind;
use crate::base::metadata::Metadata;
use crate::base::path::EntryPath;
use crate::base::sys;
use crate::net::s3::kept;
use crate::net::s3::listing::Depth;
use crate::net::s3::listing::Row;
use crate::net::s3::objects::Beside;
use crate::net::s3::objects::Head;
use crate::target::MetadataRules;
use crate::target::at_a_time;
use crate::target::bucket::Begun;
use crate::target::bucket::BucketTarget;
use crate::target::bucket::failed;
use crate::target::bucket::wanted::has_words;
use crate::target::bucket::wanted::stands;
use crate::target::bucket::wanted::wanted;
use std::cell::Cell;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

/// What a store makes of objects whose keys end with a slash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Folders {
    /// Whether they stay what they are.
    pub(super) are_kept: bool,
    /// Whether they have words beside them.
    pub(super) have_words: bool,
}

impl BucketTarget {
    /// Returns words on what cannot be kept, each the first time.
    pub(super) fn tell(&self, untold: Vec<String>) -> Vec<String> {
        let mut state = self.state();
        let told = untold.into_iter().filter(|text| state.told.insert(text.clone()));
        told.map(|text| format!("{text}; this is told once")).collect()
    }

    /// Brings what stands beside an object up to date whose content is right.
    pub(super) fn set_beside(
        &self,
        path: &EntryPath,
        head: Option<&Arc<Head>>,
        wanted: &Beside,
    ) -> Result<()> {
        let key = self.key(path)?;
        let head = match head {
            Some(head) => Some(Arc::clone(head)),
            None => self.ask(|| self.client.head(&key, None))?.map(Arc::new),
        };
        let Some(head) = head else {
            return Err(Error::new(ErrorKind::NotFound, "it is not there any more"));
        };
        let mut same = stands(wanted, &head) && (wanted.tags.is_empty() == (head.tags == 0));
        if same && !wanted.tags.is_empty() {
            let mut tags = self.ask(|| self.client.tags(&key, None))?;
            tags.sort_unstable();
            same = tags == wanted.tags;
        }
        if same { Ok(()) } else { self.describe(path, head.size, wanted) }
    }

    /// Deletes objects; the first failure is the one that is told.
    pub(super) fn delete_all(&self, keys: &[String]) -> Result<()> {
        let trouble: Mutex<Option<Error>> = Mutex::new(None);
        at_a_time(keys.len(), S3_AT_A_TIME, &|number| {
            if let Err(e) = self.ask(|| self.client.delete(&keys[number])) {
                trouble.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(e);
            }
        });
        trouble.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }

    /// Ends a folder: an object stands for it where nothing else shows it, or where there is
    /// something to keep of it.
    pub(super) fn finish_folder(
        &self,
        path: &EntryPath,
        metadata: &Metadata,
        rules: MetadataRules,
    ) -> Result<Vec<String>> {
        let made = self.state().made.remove(path);
        let key = self.folder_key(path)?;
        let is_empty = made == Some(false);
        let mut untold = Vec::new();
        let wants_one = !key.is_empty() && (is_empty || has_words(metadata));
        if wants_one {
            let of = wanted(path.name(), Kind::Directory, (0, 0), metadata, rules.owner);
            let head = match made {
                Some(_) => None,
                None => self.ask(|| self.client.head(&key, None))?,
            };
            if !head.is_some_and(|head| stands(&of.beside, &head)) {
                let folders = self.folders()?;
                if folders.are_kept && (is_empty || folders.have_words) {
                    self.ask(|| self.client.put(&key, b"", &of.beside))?;
                } else if is_empty {
                    self.state().lost_folders += 1;
                }
            }
            untold = of.untold;
        }
        self.show_folder_of(path);
        Ok(self.tell(untold))
    }

    /// Says what the store makes of objects that stand for folders, which is tried once: one store
    /// puts them as files in the place of the folder with all that is in it.
    fn folders(&self) -> Result<Folders> {
        if let Some(known) = self.state().folders {
            return Ok(known);
        }
        let name = format!(".icecore-{}", to_hex(&sys::random::<8>()?));
        let key = format!("{}{name}/", self.prefix);
        let word = ("icecore-probe".to_owned(), "1".to_owned());
        let beside = Beside {
            content_type: Some(kept::FOLDER_TYPE.to_owned()),
            own: vec![word],
            ..Beside::default()
        };
        let found = match self.try_folder(&key, &beside)? {
            None => Folders::default(),
            Some(version) => {
                let is_shown = Cell::new(false);
                self.ask(|| {
                    self.client.list(&key, Depth::Folder, &mut |row| {
                        is_shown.set(matches!(row, Row::Object(object) if object.key == key));
                        Ok(())
                    })
                })?;
                let head = self.ask(|| self.client.head(&key, None))?;
                let words = head.is_some_and(|head| head.own == beside.own);
                self.ask(|| self.client.delete_version(&key, version.as_deref()))?;
                if !is_shown.get() {
                    // What such a store makes of it has the name without the slash.
                    self.ask(|| self.client.delete(key.trim_end_matches('/')))?;
                }
                Folders { are_kept: is_shown.get(), have_words: is_shown.get() && words }
            }
        };
        self.state().folders = Some(found);
        Ok(found)
    }

    /// Puts an object that stands for a folder, and returns the name of its version, if it has one;
    /// None where it is the slash that the store cannot take.
    fn try_folder(&self, key: &str, beside: &Beside) -> Result<Option<Option<String>>> {
        for _ in 0..2 {
            let put = self.ask(|| match self.client.put_version(key, b"", beside) {
                Err(e) if e.kind() == ErrorKind::RateLimited => Err(e),
                other => Ok(other),
            })?;
            let kinds = [ErrorKind::Denied, ErrorKind::Full, ErrorKind::Cancelled];
            match put {
                Err(e) if kinds.contains(&e.kind()) => return Err(e),
                Err(_) => {}
                Ok(version) => return Ok(Some(version)),
            }
            // One store answers 500 for ever, and one that is away for a moment may answer the
            // same: what is refused has to be taken without the slash, before and after.
            let plain = key.trim_end_matches('/');
            let version = self.ask(|| self.client.put_version(plain, b"", beside))?;
            self.ask(|| self.client.delete_version(plain, version.as_deref()))?;
        }
        Ok(None)
    }

    /// Puts a file that was closed and not finished.
    pub(super) fn put_begun(&self, path: &EntryPath) -> Result<()> {
        let begun = self.state().begun.get(path).map(Arc::clone);
        let Some(begun) = begun else { return Ok(()) };
        let beside = begun.content().sent_with().cloned().unwrap_or_default();
        let put = self.put(path, &mut begun.content(), &beside);
        put.map_err(|e| failed("cannot write", path, e))?;
        self.state().begun.remove(path);
        Ok(())
    }

    /// Forgets files that were begun at a path or below it, and gives up what was sent of them.
    pub(super) fn take_begun(&self, path: &EntryPath) -> Vec<(EntryPath, Arc<Begun>)> {
        let mut state = self.state();
        let within = state.begun.keys().filter(|at| at.is_within(path)).cloned();
        let within: Vec<EntryPath> = within.collect();
        let taken =
            within.into_iter().filter_map(|at| Some((at.clone(), state.begun.remove(&at)?)));
        let taken: Vec<_> = taken.collect();
        drop(state);
        taken.iter().for_each(|(at, begun)| self.give_up(at, begun));
        taken
    }
}
