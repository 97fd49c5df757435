//! Writes files, folders and links on a server, for one thread.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::metadata::Kind;
use crate::base::metadata::Metadata;
use crate::base::metadata::Owner;
use crate::base::path::EntryPath;
use crate::net::files::Files;
use crate::net::files::Look;
use crate::net::files::Modified;
use crate::net::files::Precision;
use crate::net::files::Proof;
use crate::net::pool::Taken;
use crate::target::MetadataRules;
use crate::target::Node;
use crate::target::TargetEntry;
use crate::target::TargetWriter;
use crate::target::files::FilesTarget;
use crate::target::files::ORIGIN;
use crate::target::files::failed;
use crate::target::files::joined;
use crate::target::files::lock;
use crate::target::files::new_look;
use crate::target::files::proof::Sent;
use crate::target::files::session::able;
use crate::target::files::session::fetch;
use crate::target::files::session::remove_below;
use crate::target::files::session::remove_found;
use crate::target::files::session::remove_if_link;
use crate::target::files::session::upload;
use crate::target::known::Names;
use crate::target::spool::Spool;
use std::sync::Arc;
use std::sync::Mutex;

/// What a server that does not tell permissions is taken to give.
const MODE_FILE: u32 = 0o644;
const MODE_FOLDER: u32 = 0o755;

/// Writes below one root.
pub(super) struct FilesWriter<'a> {
    target: &'a FilesTarget,
    open: Option<Open>,
    /// The session that reads the open file, from the first read on.
    reading: Option<Taken>,
}

/// The file that is open.
struct Open {
    path: EntryPath,
    /// What was gathered of it; None while it is only read.
    spool: Option<Arc<Mutex<Spool>>>,
    /// Whether something stands there that is to be replaced.
    replaces: bool,
}

impl<'a> FilesWriter<'a> {
    pub(super) fn new(target: &'a FilesTarget) -> Self {
        FilesWriter { target, open: None, reading: None }
    }

    fn opened(&mut self) -> Result<&mut Open> {
        let none = || Error::bug("cannot write: no file is open").at(ORIGIN);
        self.open.as_mut().ok_or_else(none)
    }

    fn take_open(&mut self) -> Result<Open> {
        self.stop_reading()?;
        self.open.take().ok_or_else(|| Error::bug("cannot close: no file is open").at(ORIGIN))
    }

    /// Gives back the session that reads the open file: nobody who holds one may wait for another,
    /// nor for somebody who does.
    fn stop_reading(&mut self) -> Result<()> {
        if let Some(mut session) = self.reading.take()
            && session.files()?.close().is_ok()
        {
            session.give_back();
        }
        Ok(())
    }

    /// Is done with the file that was open, whatever became of it.
    fn drop_open(&mut self) -> Result<()> {
        self.open = None;
        self.stop_reading()
    }

    /// Returns what is gathered of the open file; of one that stands on the server all of it is
    /// fetched first.
    fn spool(&mut self) -> Result<Arc<Mutex<Spool>>> {
        self.stop_reading()?;
        let target = self.target;
        let open = self.opened()?;
        if let Some(spool) = &open.spool {
            return Ok(Arc::clone(spool));
        }
        let path = open.path.clone();
        let new = Arc::new(Mutex::new(Spool::new()));
        // Held before anybody finds it and until it is filled: another thread that wants to write
        // waits for the content, and what it writes is not overwritten by it.
        let mut content = lock(&new);
        let spool =
            Arc::clone(target.state().begun.entry(path.clone()).or_insert(Arc::clone(&new)));
        if Arc::ptr_eq(&spool, &new) {
            let way = target.way(&path);
            let fetched = self.target.ask(|files| {
                *content = Spool::new();
                fetch(files, &way, &mut content, &target.scratch)
            });
            if let Err(e) = fetched {
                target.state().begun.remove(&path);
                return Err(failed("cannot read back", &path, e));
            }
        }
        self.opened()?.spool = Some(Arc::clone(&spool));
        Ok(spool)
    }
}

fn entry_of(look: &Look) -> TargetEntry {
    let default = if look.kind == Kind::Directory { MODE_FOLDER } else { MODE_FILE };
    let (uid, gid) = look.owner.unwrap_or_default();
    let size = look.size.filter(|_| look.kind == Kind::File).unwrap_or(0);
    let metadata = Metadata {
        mode: look.mode.unwrap_or(default),
        owner: Arc::new(Owner { uid, gid, ..Owner::default() }),
        mtime: look.modified.map(|modified| modified.time).unwrap_or_default(),
        xattrs: Vec::new(),
    };
    TargetEntry::plain(look.kind, size, metadata)
}

impl TargetWriter for FilesWriter<'_> {
    fn stat(&mut self, path: &EntryPath) -> Result<Option<TargetEntry>> {
        let look = self.target.look_or_nothing(path);
        let mut look = look.map_err(|e| failed("cannot look at", path, e))?;
        let is_vague = |look: &Look| {
            let is_good = |modified: &Modified| modified.precision == Precision::Second;
            look.kind == Kind::File && !look.modified.as_ref().is_some_and(is_good)
        };
        let is_begun = self.target.state().begun.contains_key(path);
        if !is_begun && look.as_ref().is_some_and(is_vague) {
            let way = self.target.way(path);
            let better = self.target.ask(|files| files.look_at(&way));
            look = better.map_err(|e| failed("cannot look at", path, e))?;
        }
        let Some(mut there) = look.as_ref().map(entry_of) else { return Ok(None) };
        // One that cannot be made again is looked at, as it must not be replaced without need.
        if there.kind == Kind::Symlink {
            let way = self.target.way(path);
            let link = self.target.ask(|files| {
                let is_fixed = files.reads_links() && !files.abilities().symlinks;
                if is_fixed { files.read_link(&way).map(Some) } else { Ok(None) }
            });
            let link = link.map_err(|e| failed("cannot look at", path, e))?;
            there.node = link.map(Node::Symlink);
        }
        Ok(Some(there))
    }

    fn list(&mut self, path: &EntryPath) -> Result<Vec<Vec<u8>>> {
        Ok(self.list_folders(path)?.into_iter().map(|(name, _)| name).collect())
    }

    fn list_folders(&mut self, path: &EntryPath) -> Result<Vec<(Vec<u8>, bool)>> {
        let way = self.target.way(path);
        let listed = self.target.ask(|files| {
            let mut names = Vec::new();
            files.list(&way, &mut |found| {
                names.push((found.name, found.look.kind == Kind::Directory));
                Ok(())
            })?;
            Ok(names)
        });
        let mut names = listed.map_err(|e| failed("cannot list", path, e))?;
        let state = self.target.state();
        let begun = state.begun.keys().filter(|it| it.parent_bytes() == path.as_bytes());
        names.extend(begun.map(|it| (it.name().to_vec(), false)));
        drop(state);
        names.sort_unstable();
        names.dedup_by(|next, kept| next.0 == kept.0);
        Ok(names)
    }

    fn shows_links_as_folders(&mut self) -> Result<bool> {
        self.target.ask(|files| Ok(!files.reads_links()))
    }

    fn remove_link(&mut self, path: &EntryPath) -> Result<bool> {
        let way = self.target.way(path);
        let removed = self.target.ask(|files| remove_if_link(files, &way));
        let was_link = removed.map_err(|e| failed("cannot remove", path, e))?;
        if was_link {
            self.target.state().known.take(path);
        }
        Ok(was_link)
    }

    fn create_directory(&mut self, path: &EntryPath) -> Result<()> {
        let way = self.target.way(path);
        let look = self.target.look(path).map_err(|e| failed("cannot make", path, e))?;
        let Some(look) = look else {
            self.target.claim(path, None)?;
            let made = self.target.ask(|files| match files.make_folder(&way) {
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                    // Made by an attempt whose answer was lost, or by somebody else just now.
                    let look = files.look_at(&way)?;
                    match look.is_some_and(|look| look.kind == Kind::Directory) {
                        true => Ok(false),
                        false => Err(e),
                    }
                }
                made => made.map(|()| true),
            });
            let is_ours = made.map_err(|e| failed("cannot make", path, e))?;
            let mut state = self.target.state();
            state.known.put(path, new_look(Kind::Directory));
            if is_ours {
                state.known.learn(path.as_bytes(), Names::new());
            }
            return Ok(());
        };
        if look.kind != Kind::Directory {
            let message = format!("cannot make {path}: something else stands there");
            return Err(Error::new(ErrorKind::AlreadyExists, message).at(ORIGIN));
        }
        if let Some(mode) = look.mode.filter(|mode| mode & 0o700 != 0o700) {
            let set = self.target.ask(|files| files.set_mode(&way, mode | 0o700));
            set.map_err(|e| failed("cannot make writable", path, e))?;
            self.target.state().known.change(path, |look| look.mode = Some(mode | 0o700));
        }
        Ok(())
    }

    fn create_file(&mut self, path: &EntryPath) -> Result<()> {
        self.drop_open()?;
        let spool = Arc::new(Mutex::new(Spool::new()));
        self.target.make_room(path, Some(&spool))?;
        self.open = Some(Open { path: path.clone(), spool: Some(spool), replaces: false });
        Ok(())
    }

    /// What stands there is replaced when the new one is whole.
    fn replace_file(&mut self, path: &EntryPath) -> Result<()> {
        let look = self.target.look(path).map_err(|e| failed("cannot look at", path, e))?;
        if look.is_none_or(|look| look.kind != Kind::File) {
            self.remove(path)?;
            return self.create_file(path);
        }
        self.drop_open()?;
        let spool = Arc::new(Mutex::new(Spool::new()));
        self.target.state().begun.insert(path.clone(), Arc::clone(&spool));
        self.open = Some(Open { path: path.clone(), spool: Some(spool), replaces: true });
        Ok(())
    }

    fn open_file(&mut self, path: &EntryPath) -> Result<()> {
        self.drop_open()?;
        let spool = self.target.state().begun.get(path).map(Arc::clone);
        let look = self.target.look_there(path).map_err(|e| failed("cannot open", path, e))?;
        let replaces = match &look {
            None if spool.is_some() => false,
            None => {
                let missing = Error::new(ErrorKind::NotFound, "it is not there");
                return Err(failed("cannot open", path, missing));
            }
            Some(look) if look.kind == Kind::File => true,
            Some(_) => {
                let message = format!("cannot open {path}: it is no file");
                return Err(Error::invalid(message).at(ORIGIN));
            }
        };
        self.open = Some(Open { path: path.clone(), spool, replaces });
        Ok(())
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        let spool = self.spool()?;
        lock(&spool).write_at(offset, bytes, &self.target.scratch).map_err(|e| e.at(ORIGIN))
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let target = self.target;
        let open = self.opened()?;
        if let Some(spool) = &open.spool {
            return lock(spool).read_at(offset, buffer).map_err(|e| e.at(ORIGIN));
        }
        let path = open.path.clone();
        let way = target.way(&path);
        let reading = &mut self.reading;
        let read = target.patiently(|| {
            let (mut session, is_new) = match reading.take() {
                Some(session) => (session, false),
                None => (target.pool.take()?, true),
            };
            let was_idle = session.was_idle();
            let files = session.files()?;
            let opened = if is_new { files.open(&way, offset) } else { Ok(()) };
            let read = opened.and_then(|()| files.read_at(offset, buffer));
            match &read {
                Ok(_) => *reading = Some(session),
                // A server that hung up on one has hung up on its neighbours.
                Err(e) if was_idle && e.kind() == ErrorKind::Unreachable => target.pool.drop_idle(),
                Err(_) => {}
            }
            read
        });
        read.map_err(|e| failed("cannot read back", &path, e))
    }

    fn punch_hole(&mut self, offset: u64, length: u64) -> Result<()> {
        let spool = self.spool()?;
        lock(&spool).clear(offset, length, &self.target.scratch).map_err(|e| e.at(ORIGIN))
    }

    fn set_length(&mut self, length: u64) -> Result<()> {
        let spool = self.spool()?;
        lock(&spool).set_length(length, &self.target.scratch).map_err(|e| e.at(ORIGIN))
    }

    fn finish_file(&mut self, metadata: &Metadata, rules: MetadataRules) -> Result<Vec<String>> {
        let Open { path, spool, replaces } = self.take_open()?;
        // It stays until it was sent: what fails is removed, and not what it was to replace.
        let begun = self.target.state().begun.get(&path).map(Arc::clone);
        let mut marked = None;
        if let Some(spool) = begun.or(spool) {
            let mut spool = lock(&spool);
            // What stood there goes only when the new one is seen to be whole.
            let proof = if replaces { Proof::Now } else { self.target.proof_of(&spool) };
            let wish = self.target.wish(metadata, rules, proof);
            let sent = self.target.send(&path, &spool, replaces, Some(wish));
            if sent.as_ref().is_err_and(|e| e.kind() == ErrorKind::AlreadyExists) {
                self.target.note_clash(&path);
            }
            marked = sent.map_err(|e| failed("cannot write", &path, e))?;
            let look = Look { size: Some(spool.len()), ..new_look(Kind::File) };
            {
                let mut state = self.target.state();
                state.begun.remove(&path);
                state.known.put(&path, look);
            }
            if marked.as_ref().is_some_and(|marked| !marked.is_proven) {
                let content = std::mem::replace(&mut *spool, Spool::new());
                self.target.see_later(&path, Sent { content, wish });
            }
        }
        let set = match marked {
            Some(marked) => self.target.was_set(&path, metadata, rules, marked),
            None => self.target.set(&path, Kind::File, metadata, rules),
        };
        set.map_err(|e| failed("cannot set the metadata of", &path, e))
    }

    fn close_file(&mut self) -> Result<()> {
        let open = self.take_open()?;
        // Others go on with it, and until then it is not to fill the memory.
        if let Some(spool) = &open.spool {
            lock(spool).move_to_disk(&self.target.scratch).map_err(|e| e.at(ORIGIN))?;
        }
        Ok(())
    }

    fn abandon(&mut self, path: &EntryPath) -> Result<()> {
        self.drop_open()?;
        self.target.state().begun.remove(path);
        Ok(())
    }

    fn check_node(&mut self, path: &EntryPath, node: &Node) -> Result<()> {
        if !matches!(node, Node::Symlink(_)) {
            let message = format!("cannot make {path}: a server takes no pipes and no devices");
            return Err(Error::new(ErrorKind::Unsupported, message).at(ORIGIN));
        }
        let can = self.target.ask(|files| able(files.abilities().symlinks, || Ok(())));
        can.map_err(|e| failed("cannot make the link", path, e))
    }

    fn create_node(
        &mut self,
        path: &EntryPath,
        node: &Node,
        metadata: &Metadata,
        rules: MetadataRules,
    ) -> Result<Vec<String>> {
        self.target.make_room(path, None)?;
        let Node::Symlink(to) = node else {
            return self.check_node(path, node).map(|()| Vec::new());
        };
        let way = self.target.way(path);
        let make = |files: &mut dyn Files| {
            able(files.abilities().symlinks, || files.make_symlink(&way, to))
        };
        let made = self.target.make_once(&way, make);
        made.map_err(|e| failed("cannot make the link", path, e))?;
        self.target.state().known.put(path, new_look(Kind::Symlink));
        let set = self.target.set(path, Kind::Symlink, metadata, rules);
        set.map_err(|e| failed("cannot set the metadata of", path, e))
    }

    /// Where the server has no second names, the content is sent once more. The first one is seen
    /// to be whole before: a copy would be as short as it is, and a name of what is sent again
    /// would lead to what came first.
    fn link(&mut self, path: &EntryPath, existing: &EntryPath) -> Result<()> {
        self.target.make_room(path, None)?;
        self.target.send_begun(existing)?;
        self.target.see_first(existing).map_err(|e| failed("cannot make", path, e))?;
        let (from, to) = (self.target.way(existing), self.target.way(path));
        let scratch = &self.target.scratch;
        let mut is_copy = false;
        let linked = self.target.make_once(&to, |files| {
            if files.abilities().link {
                return files.link(&from, &to);
            }
            is_copy = true;
            let mut spool = Spool::new();
            fetch(files, &from, &mut spool, scratch)?;
            upload(files, &to, &spool, None).map(drop)
        });
        linked.map_err(|e| failed("cannot make", path, e))?;
        let look = self.target.look(existing).map_err(|e| failed("cannot look at", existing, e))?;
        self.target.state().known.put(path, look.unwrap_or_else(|| new_look(Kind::File)));
        if is_copy && let Some(entry) = self.stat(existing)? {
            // What cannot be set was told of the first one.
            let rules = MetadataRules { owner: false };
            let set = self.target.set(path, Kind::File, &entry.metadata, rules);
            set.map_err(|e| failed("cannot set the metadata of", path, e))?;
        }
        Ok(())
    }

    fn set_metadata(
        &mut self,
        path: &EntryPath,
        metadata: &Metadata,
        rules: MetadataRules,
    ) -> Result<Vec<String>> {
        let look = self.target.look(path).map_err(|e| failed("cannot look at", path, e))?;
        let kind = look.map_or(Kind::File, |look| look.kind);
        if kind == Kind::Directory {
            self.target.see_below(path);
        }
        let set = self.target.set(path, kind, metadata, rules);
        set.map_err(|e| failed("cannot set the metadata of", path, e))
    }

    fn remove(&mut self, path: &EntryPath) -> Result<()> {
        if path.is_root() {
            return Err(Error::invalid("the root of a target is not removed").at(ORIGIN));
        }
        let was_begun = {
            let mut state = self.target.state();
            let was_begun = state.begun.contains_key(path);
            state.begun.retain(|it, _| !it.is_within(path));
            was_begun
        };
        if was_begun {
            // Nothing of it was sent: what stands there, if anything, is what stood there before.
            return Ok(());
        }
        let look = self.target.look_or_nothing(path);
        let Some(look) = look.map_err(|e| failed("cannot look at", path, e))? else {
            return Ok(());
        };
        self.target.check_clash(path)?;
        let way = self.target.way(path);
        let above = match look.kind {
            Kind::Directory if !look.unique.is_empty() => self.target.tags_above(path),
            _ => Ok(Vec::new()),
        };
        let above = above.map_err(|e| failed("cannot remove", path, e))?;
        let removed = self.target.ask(|files| match look.kind {
            Kind::Directory => remove_below(files, &way, &look.unique, &above),
            _ => remove_found(files, &joined(&self.target.root, path.parent_bytes()), path.name()),
        });
        let mut state = self.target.state();
        state.unseen.take(path);
        match removed {
            Ok(()) => state.known.take(path),
            Err(_) => state.known.forget_folder_of(path),
        }
        drop(state);
        removed.map_err(|e| failed("cannot remove", path, e))
    }

    /// Sends what was closed and not finished. Files are made durable when they are sent, where
    /// the server can do so.
    fn sync(&mut self) -> Result<()> {
        let begun: Vec<EntryPath> = self.target.state().begun.keys().cloned().collect();
        begun.iter().try_for_each(|path| self.target.send_begun(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::SystemClock;
    use crate::net::files::Connect;
    use crate::net::pool::Pool;
    use crate::net::pool::PoolOptions;
    use std::path::PathBuf;
    use std::sync::atomic::AtomicBool;
    use std::sync::atomic::Ordering;

    struct Closed;

    impl Connect for Closed {
        fn connect(&self) -> Result<Box<dyn Files>> {
            Err(Error::new(ErrorKind::Denied, "closed"))
        }

        fn shown(&self) -> String {
            "closed".to_owned()
        }
    }

    /// Another thread found it free and empty, and what it wrote was lost when the content came.
    #[test]
    fn a_file_that_is_changed_is_held_until_it_is_fetched() {
        let pool = Pool::new(Arc::new(Closed), Arc::new(SystemClock), PoolOptions::default());
        let target = FilesTarget::new(pool, b"/p", "p".to_owned(), PathBuf::new());
        let path = EntryPath::new(b"a").expect("a path");
        let (is_done, was_free) = (AtomicBool::new(false), AtomicBool::new(false));
        let mut all_fail = false;

        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_done.load(Ordering::Relaxed) {
                    let state = target.state();
                    let spool = state.begun.get(&path);
                    let is_free = spool.is_some_and(|spool| spool.try_lock().is_ok());
                    was_free.fetch_or(is_free, Ordering::Relaxed);
                }
            });
            let fails = |_| {
                let mut writer = FilesWriter::new(&target);
                writer.open = Some(Open { path: path.clone(), spool: None, replaces: true });
                writer.spool().is_err_and(|e| e.kind() == ErrorKind::Denied)
            };
            all_fail = (0..30_000).all(fails);
            is_done.store(true, Ordering::Relaxed);
        });

        assert!(all_fail && !was_free.into_inner());
    }
}
