//! What ends a file or a folder of a bucket: what stands beside it, its place in the folder above,
//! and its removal.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::metadata::Kind;
use crate::base::metadata::Metadata;
use crate::base::path::EntryPath;
use crate::net::s3::objects::Beside;
use crate::net::s3::objects::Head;
use crate::target::MetadataRules;
use crate::target::bucket::Begun;
use crate::target::bucket::BucketTarget;
use crate::target::bucket::failed;
use crate::target::bucket::place::at_a_time;
use crate::target::bucket::wanted::has_words;
use crate::target::bucket::wanted::stands;
use crate::target::bucket::wanted::wanted;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

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
        at_a_time(keys.len(), &|number| {
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
        let keeps_words = self.state().keeps_folder_words != Some(false);
        if !key.is_empty() && (is_empty || keeps_words && has_words(metadata)) {
            let of = wanted(path.name(), Kind::Directory, (0, 0), metadata, rules.owner);
            let head = match made {
                Some(_) => None,
                None => self.ask(|| self.client.head(&key, None))?,
            };
            if !head.is_some_and(|head| stands(&of.beside, &head)) {
                self.put_folder(path, &key, &of.beside, is_empty)?;
            }
            untold = of.untold;
        }
        let mut state = self.state();
        if let Some(parent) = path.parent()
            && let Some(holds_something) = state.made.get_mut(&parent)
        {
            *holds_something = true;
        }
        drop(state);
        Ok(self.tell(untold))
    }

    /// Puts the object that stands for a folder. Stores that keep folders of their own may refuse
    /// it, or keep nothing beside it.
    fn put_folder(
        &self,
        path: &EntryPath,
        key: &str,
        beside: &Beside,
        is_empty: bool,
    ) -> Result<()> {
        let put = self.client.put(key, b"", beside);
        let mut keeps_words = put.is_ok();
        if let Err(e) = put {
            // Where something is in it, it is shown without.
            if is_empty || !self.is_refusal_of_folders(&e, path) {
                self.ask(|| self.client.put(key, b"", beside))?;
                keeps_words = true;
            }
        }
        if self.state().keeps_folder_words.is_some() && keeps_words {
            return Ok(());
        }
        if keeps_words {
            let head = self.ask(|| self.client.head(key, None))?;
            keeps_words = head.is_some_and(|head| head.own == beside.own);
        }
        self.state().keeps_folder_words = Some(keeps_words);
        Ok(())
    }

    /// Says whether a store that is well refused something for good.
    fn is_refusal_of_folders(&self, e: &Error, folder: &EntryPath) -> bool {
        let kinds = [
            ErrorKind::Unreachable,
            ErrorKind::Unsupported,
            ErrorKind::InvalidInput,
            ErrorKind::AlreadyExists,
            ErrorKind::Busy,
            ErrorKind::Io,
        ];
        kinds.contains(&e.kind()) && self.names(folder).is_ok_and(|names| !names.is_empty())
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
