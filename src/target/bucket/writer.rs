//! Writes files and folders into a bucket, for one thread.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::limits::MIB;
use crate::base::metadata::Kind;
use crate::base::metadata::Metadata;
use crate::base::path::EntryPath;
use crate::net::s3::kept;
use crate::net::s3::objects::Head;
use crate::target::Expected;
use crate::target::MetadataRules;
use crate::target::Node;
use crate::target::TargetEntry;
use crate::target::TargetWriter;
use crate::target::bucket::Begun;
use crate::target::bucket::BucketTarget;
use crate::target::bucket::ORIGIN;
use crate::target::bucket::failed;
use crate::target::bucket::place::entry_of;
use crate::target::bucket::stand::Stand;
use crate::target::bucket::versions::Held;
use crate::target::bucket::versions::Place;
use crate::target::bucket::versions::Placed;
use crate::target::bucket::wanted::mark_word;
use crate::target::bucket::wanted::wanted;
use crate::target::bucket::wanted::wanted_of;
use crate::target::known::Names;
use std::sync::Arc;

/// Bytes fetched at a time of an object that is read back.
const AHEAD_BYTES: u64 = 4 * MIB as u64;

/// Writes below one prefix.
pub(super) struct BucketWriter<'a> {
    target: &'a BucketTarget,
    open: Option<Open>,
}

/// The file that is open.
struct Open {
    path: EntryPath,
    /// What was gathered of it; None while it is only read.
    begun: Option<Arc<Begun>>,
    /// What stands there, as far as it is known.
    head: Option<Arc<Head>>,
    size: u64,
    /// The key that is read, and the version.
    key: String,
    version: Option<String>,
    /// What it is to hold: how much, and the mark of it.
    expected: Option<(u64, [u8; 16])>,
    /// What was read ahead, and from where.
    ahead: (u64, Vec<u8>),
}

impl Open {
    fn new(path: &EntryPath, begun: Option<Arc<Begun>>) -> Self {
        Open {
            path: path.clone(),
            begun,
            head: None,
            size: 0,
            key: String::new(),
            version: None,
            expected: None,
            ahead: (0, Vec::new()),
        }
    }
}

impl<'a> BucketWriter<'a> {
    pub(super) fn new(target: &'a BucketTarget) -> Self {
        BucketWriter { target, open: None }
    }

    fn opened(&mut self) -> Result<&mut Open> {
        let none = || Error::bug("cannot write: no file is open").at(ORIGIN);
        self.open.as_mut().ok_or_else(none)
    }

    fn take_open(&mut self) -> Result<Open> {
        self.open.take().ok_or_else(|| Error::bug("cannot close: no file is open").at(ORIGIN))
    }

    /// Returns what is gathered of the open file; of one that stands in the bucket all of it is
    /// fetched first.
    fn begun(&mut self) -> Result<Arc<Begun>> {
        let target = self.target;
        let open = self.opened()?;
        if let Some(begun) = &open.begun {
            return Ok(Arc::clone(begun));
        }
        let path = open.path.clone();
        let new = Begun::new(true);
        // Held before anybody finds it and until it is filled: another thread that wants to write
        // waits for the content, and what it writes is not overwritten by it.
        let mut content = new.content();
        let begun =
            Arc::clone(target.state().begun.entry(path.clone()).or_insert(Arc::clone(&new)));
        if Arc::ptr_eq(&begun, &new) {
            let fetched = target.key(&path).and_then(|key| target.fetch(&key, &mut content));
            if let Err(e) = fetched {
                target.state().begun.remove(&path);
                return Err(failed("cannot read back", &path, e));
            }
        }
        self.opened()?.begun = Some(Arc::clone(&begun));
        Ok(begun)
    }

    fn begin(&mut self, path: &EntryPath, replaces: bool) {
        let begun = Begun::new(replaces);
        self.target.state().begun.insert(path.clone(), Arc::clone(&begun));
        self.open = Some(Open::new(path, Some(begun)));
    }
}

impl TargetWriter for BucketWriter<'_> {
    fn stat(&mut self, path: &EntryPath) -> Result<Option<TargetEntry>> {
        let looking = |e| failed("cannot look at", path, e);
        if !path.is_root() {
            self.target.key(path)?;
        }
        let Some(stand) = self.target.look_or_nothing(path).map_err(looking)? else {
            return Ok(None);
        };
        let is_begun = self.target.state().begun.contains_key(path);
        let Some(object) = stand.as_file().filter(|_| !is_begun) else {
            return Ok(Some(entry_of(&stand, None)));
        };
        let head = self.target.see(path, object).map_err(looking)?;
        Ok(head.map(|head| entry_of(&stand, Some(&head))))
    }

    fn list(&mut self, path: &EntryPath) -> Result<Vec<Vec<u8>>> {
        self.target.names(path).map_err(|e| failed("cannot list", path, e))
    }

    fn list_folders(&mut self, path: &EntryPath) -> Result<Vec<(Vec<u8>, bool)>> {
        self.target.list_to_go(path).map_err(|e| failed("cannot list", path, e))
    }

    fn create_directory(&mut self, path: &EntryPath) -> Result<()> {
        if path.is_root() {
            return Ok(());
        }
        self.target.folder_key(path)?;
        match self.target.look(path).map_err(|e| failed("cannot make", path, e))? {
            Some(stand) if stand.is_folder => Ok(()),
            Some(_) => {
                let message = format!("cannot make {path}: something else stands there");
                Err(Error::new(ErrorKind::AlreadyExists, message).at(ORIGIN))
            }
            None => {
                let mut state = self.target.state();
                state.made.insert(path.clone(), false);
                state.known.put(path, Stand::folder());
                state.known.learn(path.as_bytes(), Names::new());
                drop(state);
                self.target.look_for_history(path)
            }
        }
    }

    fn create_file(&mut self, path: &EntryPath) -> Result<()> {
        self.open = None;
        self.target.make_room(path)?;
        self.begin(path, false);
        Ok(())
    }

    fn replace_file(&mut self, path: &EntryPath) -> Result<()> {
        self.open = None;
        let stand = self.target.look_or_nothing(path);
        let stand = stand.map_err(|e| failed("cannot look at", path, e))?;
        if stand.is_some_and(|stand| stand.as_file().is_some()) {
            self.target.key(path)?;
            self.begin(path, true);
            return Ok(());
        }
        self.remove(path)?;
        self.create_file(path)
    }

    fn expect(&mut self, expected: &Expected<'_>) {
        let Some(open) = &mut self.open else { return };
        open.expected = Some((expected.size, expected.mark));
        if let Some(begun) = &open.begun {
            let Expected { size, mark, metadata, rules } = *expected;
            if begun.place.get().is_none() {
                // Where that cannot be found out, it fails when it is finished.
                let place = self.target.place_of(&open.path, metadata);
                let _ = place.map(|place| begun.place.set(place));
            }
            let beside = || wanted_of(&open.path, metadata, rules, Some(&mark)).beside;
            begun.content().expect(size, beside);
        }
    }

    fn holds_expected(&mut self) -> Result<bool> {
        let open = self.opened()?;
        let (Some(head), Some((size, mark)), None) = (&open.head, &open.expected, &open.begun)
        else {
            return Ok(false);
        };
        let word = mark_word(mark, &head.own);
        let has_mark = |(name, value): &(String, String)| name == kept::CONTENT && *value == word;
        // Whoever rewrites an object may carry all its words over.
        let is_whole = head.size == *size;
        Ok(is_whole && kept::is_marked(&head.own) && head.own.iter().any(has_mark))
    }

    fn open_file(&mut self, path: &EntryPath) -> Result<()> {
        self.open = None;
        let opening = |e| failed("cannot open", path, e);
        let begun = self.target.state().begun.get(path).map(Arc::clone);
        if begun.is_some() {
            self.open = Some(Open::new(path, begun));
            return Ok(());
        }
        if let Some(placed) = self.target.state().placed.get(path).cloned() {
            let Placed { key, version, size } = placed;
            self.open = Some(Open { key, version, size, ..Open::new(path, None) });
            return Ok(());
        }
        if self.target.was_left_out(path) {
            let message = format!("{path} was not put, as its object has versions already");
            return Err(Error::new(ErrorKind::Unsupported, message).at(ORIGIN));
        }
        let stand = self.target.look(path).map_err(opening)?;
        let missing = || opening(Error::new(ErrorKind::NotFound, "it is not there"));
        let stand = stand.ok_or_else(missing)?;
        let head = match stand.as_file() {
            None => None,
            Some(object) => Some(self.target.see(path, object).map_err(opening)?),
        };
        let entry = entry_of(&stand, head.as_ref().and_then(|head| head.as_deref()));
        if entry.kind != Kind::File {
            return Err(Error::invalid(format!("cannot open {path}: it is no file")).at(ORIGIN));
        }
        let head = head.flatten().ok_or_else(missing)?;
        let (size, key) = (head.size, self.target.key(path)?);
        self.open = Some(Open { size, key, head: Some(head), ..Open::new(path, None) });
        Ok(())
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        let target = self.target;
        let begun = self.begun()?;
        let whole = begun.content().write_at(offset, bytes, &target.scratch);
        let path = &self.opened()?.path;
        for number in whole.map_err(|e| e.at(ORIGIN))? {
            let key = begun.key(target, path)?;
            let sent = target.send_part(&key, &begun, number);
            sent.map_err(|e| failed("cannot write", path, e))?;
        }
        Ok(())
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let target = self.target;
        let open = self.opened()?;
        if let Some(begun) = &open.begun {
            return begun.content().read_at(offset, buffer).map_err(|e| e.at(ORIGIN));
        }
        let mut filled = 0;
        while filled < buffer.len() {
            let at = offset + filled as u64;
            let (start, ahead) = &open.ahead;
            let have = at.checked_sub(*start).and_then(|skip| ahead.get(skip as usize..));
            match have.filter(|have| !have.is_empty()) {
                Some(have) => {
                    let count = have.len().min(buffer.len() - filled);
                    buffer[filled..filled + count].copy_from_slice(&have[..count]);
                    filled += count;
                }
                None if at >= open.size => break,
                None => {
                    let wanted = (buffer.len() - filled) as u64;
                    let end = at.saturating_add(wanted.max(AHEAD_BYTES)).min(open.size);
                    let (key, version) = (&open.key, open.version.as_deref());
                    let got = target.ask(|| target.client.get_range(key, version, at..end));
                    let got = got.map_err(|e| failed("cannot read back", &open.path, e))?;
                    if got.is_empty() {
                        break;
                    }
                    open.ahead = (at, got);
                }
            }
        }
        Ok(filled)
    }

    fn punch_hole(&mut self, offset: u64, length: u64) -> Result<()> {
        let begun = self.begun()?;
        let cleared = begun.content().clear(offset, length, &self.target.scratch);
        cleared.map_err(|e| e.at(ORIGIN))
    }

    fn set_length(&mut self, length: u64) -> Result<()> {
        let begun = self.begun()?;
        let set = begun.content().spool.set_length(length, &self.target.scratch);
        set.map_err(|e| e.at(ORIGIN))
    }

    fn finish_file(&mut self, metadata: &Metadata, rules: MetadataRules) -> Result<Vec<String>> {
        let open = self.take_open()?;
        let path = &open.path;
        let wanted = wanted_of(path, metadata, rules, open.expected.as_ref().map(|(_, mark)| mark));
        let begun = self.target.state().begun.get(path).map(Arc::clone);
        if let Some(begun) = begun {
            let mut content = begun.content();
            let place = match begun.place.get() {
                Some(place) => place.clone(),
                None => self.target.place_of(path, metadata)?,
            };
            let put = match &place {
                Place::Own => self.target.put(path, &mut content, &wanted.beside),
                place => self.target.hold(path, place, &mut content, metadata, &wanted.beside),
            };
            put.map_err(|e| failed("cannot write", path, e))?;
            self.target.state().begun.remove(path);
        } else if !self.target.state().placed.contains_key(path) {
            let set = self.target.set_beside(path, open.head.as_ref(), &wanted.beside);
            set.map_err(|e| failed("cannot set the metadata of", path, e))?;
        }
        Ok(self.target.tell(wanted.untold))
    }

    fn close_file(&mut self) -> Result<()> {
        let open = self.take_open()?;
        // Others go on with it, and until then it is not to fill the memory.
        if let Some(begun) = &open.begun {
            let mut content = begun.content();
            content.spool.move_to_disk(&self.target.scratch).map_err(|e| e.at(ORIGIN))?;
        }
        Ok(())
    }

    fn abandon(&mut self, path: &EntryPath) -> Result<()> {
        self.open = None;
        self.target.take_begun(path);
        Ok(())
    }

    fn create_node(
        &mut self,
        path: &EntryPath,
        node: &Node,
        metadata: &Metadata,
        rules: MetadataRules,
    ) -> Result<Vec<String>> {
        self.target.make_room(path)?;
        let (kind, device, content): (Kind, (u32, u32), &[u8]) = match node {
            Node::Symlink(to) => (Kind::Symlink, (0, 0), to),
            Node::Fifo => (Kind::Fifo, (0, 0), b""),
            Node::CharDevice(major, minor) => (Kind::CharDevice, (*major, *minor), b""),
            Node::BlockDevice(major, minor) => (Kind::BlockDevice, (*major, *minor), b""),
        };
        let wanted = wanted(path.name(), kind, device, metadata, rules.owner);
        let place = self.target.place_of(path, metadata)?;
        if place != Place::Own {
            let held = Held::Bytes(content.to_vec(), wanted.beside);
            self.target.hold_ready(path, &place, held);
            return Ok(self.target.tell(wanted.untold));
        }
        let key = self.target.key(path)?;
        let put = self.target.ask(|| self.target.client.put(&key, content, &wanted.beside));
        put.map_err(|e| failed("cannot make", path, e))?;
        self.target.has_put(path, content.len() as u64);
        Ok(self.target.tell(wanted.untold))
    }

    /// A bucket has no second names: the store makes another object of the same content.
    fn link(&mut self, path: &EntryPath, existing: &EntryPath) -> Result<()> {
        self.target.make_room(path)?;
        self.target.put_begun(existing)?;
        let copied = self.target.duplicate(existing, path);
        copied.map_err(|e| failed("cannot make", path, e))?;
        self.target.state().copies += 1;
        Ok(())
    }

    fn set_metadata(
        &mut self,
        path: &EntryPath,
        metadata: &Metadata,
        rules: MetadataRules,
    ) -> Result<Vec<String>> {
        let setting = |e| failed("cannot set the metadata of", path, e);
        let stand = self.target.look(path).map_err(setting)?;
        if stand.is_none_or(|stand| stand.is_folder) {
            return self.target.finish_folder(path, metadata, rules).map_err(setting);
        }
        self.open_file(path)?;
        self.finish_file(metadata, rules)
    }

    fn remove(&mut self, path: &EntryPath) -> Result<()> {
        if path.is_root() {
            return Err(Error::invalid("the root of a target is not removed").at(ORIGIN));
        }
        let removing = |e| failed("cannot remove", path, e);
        let begun = self.target.take_begun(path);
        if let Some(own) = begun.iter().find(|(at, _)| at == path).map(|(_, begun)| begun) {
            // What stood there before is not lost when the new one is.
            if own.replaces {
                return Ok(());
            }
            if own.content().was_put {
                let key = self.target.key(path)?;
                self.target.delete_all(&[key]).map_err(removing)?;
            }
        }
        self.target.state().made.retain(|at, _| !at.is_within(path));
        let Some(stand) = self.target.look_or_nothing(path).map_err(removing)? else {
            return Ok(());
        };
        let mut removed = Ok(());
        if stand.is_folder {
            removed = self.target.delete_below(path);
        }
        if stand.object.is_some() {
            let key = self.target.key(path)?;
            removed = removed.and_then(|()| self.target.delete_all(&[key]));
        }
        let mut state = self.target.state();
        match removed {
            Ok(()) => state.known.take(path),
            Err(_) => state.known.forget_folder_of(path),
        }
        drop(state);
        removed.map_err(removing)
    }

    /// Puts what was closed and not finished. What a store has taken is durable.
    fn sync(&mut self) -> Result<()> {
        let state = self.target.state();
        // What was to take another one's place and was not finished is lost: the other one stays.
        let is_new = |(_, begun): &(&EntryPath, &Arc<Begun>)| !begun.replaces;
        let begun = state.begun.iter().filter(is_new).map(|(path, _)| path.clone());
        let begun: Vec<EntryPath> = begun.collect();
        drop(state);
        begun.iter().try_for_each(|path| self.target.put_begun(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::SystemClock;
    use crate::net::s3::client::Client;
    use crate::net::s3::client::Options;
    use std::path::PathBuf;
    use std::sync::atomic::AtomicBool;
    use std::sync::atomic::Ordering;

    /// Another thread found it free and empty, and what it wrote was lost when the content came.
    #[test]
    fn an_object_that_is_changed_is_held_until_it_is_fetched() {
        let (options, clock) = (Options::new("b"), Arc::new(SystemClock));
        let client = Client::new(&options, clock, Arc::new(|_| Ok(()))).expect("a client");
        let target = BucketTarget::new(client, "p", PathBuf::new());
        // No key can be so: it fails before anything is fetched.
        let path = EntryPath::new(b"\xff").expect("a path");
        let (is_done, was_free) = (AtomicBool::new(false), AtomicBool::new(false));
        let mut all_fail = false;

        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_done.load(Ordering::Relaxed) {
                    let state = target.state();
                    let begun = state.begun.get(&path);
                    let is_free = begun.is_some_and(|begun| begun.content.try_lock().is_ok());
                    was_free.fetch_or(is_free, Ordering::Relaxed);
                }
            });
            let fails = |_| {
                let open = Some(Open::new(&path, None));
                let begun = BucketWriter { target: &target, open }.begun();
                begun.is_err_and(|e| e.kind() == ErrorKind::Unsupported)
            };
            all_fail = (0..30_000).all(fails);
            is_done.store(true, Ordering::Relaxed);
        });

        assert!(all_fail && !was_free.into_inner());
    }
}
