//! Several machines at one server of files, step by step: every command of the protocol is a step,
//! and an upload has two, so that what is half there is seen by the others.
//!
//! Schedules are gone through by the number of pre-emptions, up to three, as far as the bound
//! goes: `ICECORE_SCHEDULES=20000 cargo test --test it files_backend::steps -- --nocapture`.

use crate::files_backend::ROOT;
use crate::files_backend::key;
use crate::files_backend::steps::turns::Turns;
use crate::support::files::Door;
use crate::support::files::Server;
use crate::support::folder::Folder;
use crate::support::ways::FTP;
use crate::support::ways::SFTP;
use crate::support::ways::Ways;
use icecore::backend::Backend;
use icecore::backend::files::FilesBackend;
use icecore::backend::key::FolderKey;
use icecore::base::error::Error;
use icecore::base::error::ErrorKind;
use icecore::base::error::Result;
use icecore::base::time::FixedClock;
use icecore::base::time::Timestamp;
use icecore::net::files::Abilities;
use icecore::net::files::Connect;
use icecore::net::files::Files;
use icecore::net::files::Found;
use icecore::net::files::Look;
use icecore::net::pool::Pool;
use icecore::net::pool::PoolOptions;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;

mod turns;

/// Sessions of one actor, each command of which waits for its turn.
struct Gated {
    door: Door,
    actor: usize,
    turns: Arc<Turns>,
}

struct Session {
    inner: Box<dyn Files>,
    actor: usize,
    turns: Arc<Turns>,
}

impl Connect for Gated {
    fn connect(&self) -> Result<Box<dyn Files>> {
        let (actor, turns) = (self.actor, Arc::clone(&self.turns));
        Ok(Box::new(Session { inner: self.door.connect()?, actor, turns }))
    }

    fn shown(&self) -> String {
        self.door.shown()
    }
}

impl Session {
    /// Waits for its turn; the reply of what is done then may be lost.
    fn step<T>(&mut self, work: impl FnOnce(&mut dyn Files) -> Result<T>) -> Result<T> {
        let is_lost = self.turns.wait(self.actor);
        let done = work(&mut *self.inner);
        if is_lost {
            return Err(Error::new(ErrorKind::Unreachable, "the reply was lost"));
        }
        done
    }
}

impl Files for Session {
    fn abilities(&self) -> Abilities {
        self.inner.abilities()
    }

    fn list(&mut self, folder: &[u8], visit: &mut dyn FnMut(Found) -> Result<()>) -> Result<()> {
        self.step(|it| it.list(folder, visit))
    }

    fn look_at(&mut self, path: &[u8]) -> Result<Option<Look>> {
        self.step(|it| it.look_at(path))
    }

    fn read_link(&mut self, path: &[u8]) -> Result<Vec<u8>> {
        self.step(|it| it.read_link(path))
    }

    fn open(&mut self, path: &[u8], offset: u64) -> Result<()> {
        self.step(|it| it.open(path, offset))
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        self.step(|it| it.read_at(offset, buffer))
    }

    fn close(&mut self) -> Result<()> {
        self.inner.close()
    }

    fn create(&mut self, path: &[u8]) -> Result<()> {
        self.step(|it| it.create(path))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let (half, rest) = bytes.split_at(bytes.len() / 2);
        self.step(|it| it.write(half))?;
        self.step(|it| it.write(rest))
    }

    fn finish(&mut self) -> Result<()> {
        self.step(|it| it.finish())
    }

    fn rename(&mut self, from: &[u8], to: &[u8]) -> Result<()> {
        self.step(|it| it.rename(from, to))
    }

    fn rename_over(&mut self, from: &[u8], to: &[u8]) -> Result<()> {
        self.step(|it| it.rename_over(from, to))
    }

    fn link(&mut self, from: &[u8], to: &[u8]) -> Result<()> {
        self.step(|it| it.link(from, to))
    }

    fn make_symlink(&mut self, path: &[u8], to: &[u8]) -> Result<()> {
        self.step(|it| it.make_symlink(path, to))
    }

    fn make_folder(&mut self, path: &[u8]) -> Result<()> {
        self.step(|it| it.make_folder(path))
    }

    fn remove_folder(&mut self, path: &[u8]) -> Result<()> {
        self.step(|it| it.remove_folder(path))
    }

    fn remove(&mut self, path: &[u8]) -> Result<()> {
        self.step(|it| it.remove(path))
    }

    fn set_time(&mut self, path: &[u8], time: Timestamp) -> Result<()> {
        self.step(|it| it.set_time(path, time))
    }

    fn set_mode(&mut self, path: &[u8], mode: u32) -> Result<()> {
        self.step(|it| it.set_mode(path, mode))
    }

    fn set_owner(&mut self, path: &[u8], owner: (u32, u32)) -> Result<()> {
        self.step(|it| it.set_owner(path, owner))
    }

    fn keep_alive(&mut self) -> Result<()> {
        self.inner.keep_alive()
    }
}

/// What an actor does, in a word or two that say how it ended.
type Deed = fn(&FilesBackend) -> String;

/// Some who are at one server at a time.
struct Scene {
    title: &'static str,
    ways: Ways,
    prepare: fn(&FilesBackend),
    actors: Vec<Deed>,
    /// Says what is wrong with how they ended, and with what is there then.
    judge: fn(&[String], &FilesBackend) -> Option<String>,
}

/// Another choice than the usual one.
type Turn = (usize, usize);

fn open(folder: &Folder, ways: &Ways, actor: usize, turns: &Arc<Turns>) -> FilesBackend {
    let door = Door(Server::new(folder.path(), ways.clone()));
    let gated = Arc::new(Gated { door, actor, turns: Arc::clone(turns) });
    let options = PoolOptions { sessions_max: 1, ..PoolOptions::default() };
    let pool = Pool::new(gated, Arc::new(FixedClock::default()), options);
    FilesBackend::open(pool, ROOT, "fake://server".to_owned(), None).unwrap()
}

impl Scene {
    /// Runs one schedule; returns how it went, and at which steps it could have gone otherwise.
    fn run(&self, plan: &[Turn], lost: Option<Turn>) -> (Option<String>, Vec<turns::Decision>) {
        let folder = Folder::in_memory();
        let turns = Turns::new(self.actors.len(), plan.to_vec(), lost);
        let server = Server::new(folder.path(), self.ways.clone());
        let clock = Arc::new(FixedClock::default());
        let pool = Pool::new(Arc::new(Door(server)), clock, PoolOptions::default());
        let first = FilesBackend::create(pool, ROOT, "fake://server".to_owned()).unwrap();
        (self.prepare)(&first);
        let each: Vec<FilesBackend> =
            (0..self.actors.len()).map(|actor| open(&folder, &self.ways, actor, &turns)).collect();
        let ended: Vec<Mutex<String>> = each.iter().map(|_| Mutex::default()).collect();
        turns.begin();
        std::thread::scope(|scope| {
            for (actor, (backend, deed)) in each.iter().zip(&self.actors).enumerate() {
                let (turns, ended) = (&turns, &ended[actor]);
                scope.spawn(move || {
                    *ended.lock().unwrap() = deed(backend);
                    turns.end(actor);
                });
            }
            turns.run();
        });
        let ended: Vec<String> = ended.into_iter().map(|it| it.into_inner().unwrap()).collect();
        let found = (self.judge)(&ended, &first);
        (found.map(|what| format!("{what}; they ended as {ended:?}")), turns.decisions())
    }

    /// Goes through the schedules with few pre-emptions first.
    fn explore(&self, lost: Option<Turn>, schedules: usize) -> usize {
        let mut waiting: Vec<VecDeque<Vec<Turn>>> = vec![VecDeque::new(); 4];
        waiting[0].push_back(Vec::new());
        let mut count = 0;
        for cost in 0..waiting.len() {
            while let Some(plan) = waiting[cost].pop_front() {
                if count == schedules {
                    return count;
                }
                count += 1;
                let (found, decisions) = self.run(&plan, lost);
                if let Some(what) = found {
                    panic!("{}: {what}, by {plan:?}, lost {lost:?}", self.title);
                }
                let last = plan.last().map(|turn| turn.0);
                for decision in decisions.iter().filter(|it| last.is_none_or(|at| it.step > at)) {
                    let cost = cost + usize::from(decision.preempts);
                    let Some(queue) = waiting.get_mut(cost) else { continue };
                    for &actor in &decision.others {
                        let turn = (decision.step, actor);
                        queue.push_back(plan.iter().copied().chain([turn]).collect());
                    }
                }
            }
        }
        count
    }

    fn hold(&self, schedules: usize) {
        let wanted = std::env::var("ICECORE_SCHEDULES").ok().and_then(|text| text.parse().ok());
        let count = self.explore(None, wanted.unwrap_or(schedules));
        eprintln!("{}: {count} schedules", self.title);
    }
}

fn word(done: &Result<()>) -> String {
    match done {
        Ok(()) => "done".to_owned(),
        Err(e) => format!("{:?}", e.kind()),
    }
}

fn create(backend: &FilesBackend, content: &[u8]) -> String {
    let mut done = backend.put_new(&key("d/0/7"), content);
    if done.as_ref().is_err_and(|e| e.kind() == ErrorKind::Unreachable) {
        done = backend.put_new(&key("d/0/7"), content);
    }
    let is_taken = done.as_ref().is_err_and(|e| e.kind() == ErrorKind::AlreadyExists);
    // What everybody does whose reply was lost.
    if is_taken && backend.get(&key("d/0/7"), 99).is_ok_and(|there| there == content) {
        return "done".to_owned();
    }
    word(&done)
}

fn create_first(backend: &FilesBackend) -> String {
    create(backend, b"the first")
}

fn create_second(backend: &FilesBackend) -> String {
    create(backend, b"the other one")
}

fn read(backend: &FilesBackend) -> String {
    match backend.get(&key("d/0/7"), 99) {
        Ok(bytes) => String::from_utf8(bytes).unwrap(),
        Err(e) => format!("{:?}", e.kind()),
    }
}

fn look(backend: &FilesBackend) -> String {
    match backend.stat(&key("d/0/7")) {
        Ok(size) => format!("{size:?}"),
        Err(e) => format!("{:?}", e.kind()),
    }
}

fn list(backend: &FilesBackend) -> String {
    let mut rows = Vec::new();
    let listed = icecore::backend::list_all(backend, &FolderKey::top(), &mut |object| {
        rows.push(format!("{} {:?}", object.key, object.size));
        Ok(())
    });
    rows.sort();
    match listed {
        Ok(()) => rows.join(" "),
        Err(e) => format!("{:?}", e.kind()),
    }
}

fn put(backend: &FilesBackend) -> String {
    word(&backend.put(&key("packs/ab/p"), b"of a pack"))
}

fn delete(backend: &FilesBackend) -> String {
    word(&backend.delete(&key("d/0/7")))
}

fn is_one_of(word: &str, words: &[&str]) -> bool {
    words.contains(&word)
}

fn one_wins(ended: &[String], backend: &FilesBackend) -> Option<String> {
    let there = read(backend);
    let winners: Vec<&str> = ["the first", "the other one"]
        .into_iter()
        .zip(ended)
        .filter(|(_, word)| *word == "done")
        .map(|(content, _)| content)
        .collect();
    if winners != [there.as_str()] {
        return Some(format!("{winners:?} won, and {there} is there"));
    }
    let losers = ended[..2].iter().filter(|word| *word == "AlreadyExists").count();
    let seen = ended.get(2).is_none_or(|seen| is_one_of(seen, &["NotFound", &there]));
    (losers != 1 || !seen).then(|| "somebody saw something else".to_owned())
}

#[test]
fn of_two_that_create_one_wins_at_every_step() {
    for (title, ways) in [("by folders", FTP), ("by links", SFTP)] {
        let actors: Vec<Deed> = vec![create_first, create_second, read];
        Scene { title, ways, prepare: |_| {}, actors, judge: one_wins }.hold(150);
    }
}

#[test]
fn of_two_that_create_one_wins_whatever_reply_is_lost() {
    for (title, ways) in [("lost, by folders", FTP), ("lost, by links", SFTP)] {
        let actors: Vec<Deed> = vec![create_first, create_second];
        let scene = Scene { title, ways, prepare: |_| {}, actors, judge: one_wins };
        let mut count = 0;
        for call in 0..12 {
            count += scene.explore(Some((0, call)), 30);
        }
        eprintln!("{title}: {count} schedules");
    }
}

#[test]
fn what_is_uploaded_is_seen_whole_or_not_at_all() {
    for (title, ways) in [("uploads over FTP", FTP), ("uploads over SFTP", SFTP)] {
        let judge = |ended: &[String], backend: &FilesBackend| {
            let whole = "packs/ab/p Some(9)";
            let is_right = ended[..2] == ["done", "done"]
                && is_one_of(&ended[2], &["", whole])
                && list(backend) == whole
                && backend.get(&key("packs/ab/p"), 99).is_ok_and(|it| it == b"of a pack");
            (!is_right).then(|| format!("{} is there", list(backend)))
        };
        let actors: Vec<Deed> = vec![put, put, list];
        Scene { title, ways, prepare: |_| {}, actors, judge }.hold(150);
    }
}

#[test]
fn what_is_deleted_is_seen_whole_or_not_at_all() {
    for (title, ways) in [("deletes over FTP", FTP), ("deletes over SFTP", SFTP)] {
        let judge = |ended: &[String], backend: &FilesBackend| {
            let (read, look, list_now) = (&ended[1], &ended[2], list(backend));
            let is_right = ended[0] == "done"
                && is_one_of(read, &["NotFound", "the first"])
                && is_one_of(look, &["None", "Some(9)"])
                && list_now.is_empty();
            (!is_right).then(|| format!("{list_now:?} is there"))
        };
        let prepare = |backend: &FilesBackend| {
            backend.put_new(&key("d/0/7"), b"the first").unwrap();
        };
        let actors: Vec<Deed> = vec![delete, read, look];
        Scene { title, ways, prepare, actors, judge }.hold(150);
    }
}
