//! The workloads over the clients of servers: requests that get lost, replies that get lost,
//! uploads of which half came, machines that die in the middle, requests that come again late.
//!
//! The client, its sessions and its tries are those of the program; the servers are the folder
//! with the ways of FTP or SFTP, and the bucket in memory. A single lost request or reply must
//! not even be noticed; after a death all is judged as after a power cut.

use crate::crash::depth::Depth;
use crate::crash::story::Medium;
use crate::crash::story::Promise;
use crate::crash::story::Story;
use crate::crash::tape::Hasty;
use crate::crash::tape::Tape;
use crate::crash::tape::Write;
use crate::crash::verdict::Wreck;
use crate::crash::verdict::bury_the_dead;
use crate::crash::workloads::Workload;
use crate::files_backend::pool;
use crate::s3;
use crate::s3::fake::Asked;
use crate::s3::fake::Reply;
use crate::s3::store::LOST;
use crate::s3::store::Store;
use crate::support::files::Cut;
use crate::support::files::Server;
use crate::support::folder::Folder;
use crate::support::ways::Ways;
use icecore::backend::Backend;
use icecore::backend::files::FilesBackend;
use icecore::backend::key::ObjectKey;
use icecore::backend::memory::MemoryBackend;
use icecore::backend::s3::S3Backend;
use icecore::backend::s3::S3Options;
use icecore::backend::wrap::sleeper::NotingSleeper;
use icecore::base::error::ErrorKind;
use icecore::base::error::Result;
use icecore::base::time::SystemClock;
use icecore::config::remote::patient;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// What goes wrong at one request, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It is not done, or half of it when it is an upload, and the connection breaks.
    LostRequest(usize),
    /// It is done, and the connection breaks.
    LostReply(usize),
    /// As a lost request, and nothing comes through any more.
    Dead(usize),
    /// As a lost reply, and nothing comes through any more.
    DeadAfter(usize),
    /// As a lost request, but it comes after all when everybody has gone on.
    Late(usize),
    /// From here on there is no room for what is written.
    Full(usize),
}

impl Fault {
    fn at(self) -> usize {
        match self {
            Fault::LostRequest(at)
            | Fault::LostReply(at)
            | Fault::Dead(at)
            | Fault::DeadAfter(at)
            | Fault::Late(at)
            | Fault::Full(at) => at,
        }
    }

    fn is_death(self) -> bool {
        matches!(self, Fault::Dead(_) | Fault::DeadAfter(_))
    }
}

/// A place behind a server, at which requests can go wrong.
pub(super) trait Served: Medium {
    /// Returns a place of the same kind with the same in it, where all goes well.
    fn copied(&self) -> Arc<dyn Served>;

    /// Counts requests from 1 again, and lets one of them go wrong.
    fn let_go_wrong(&self, fault: Option<Fault>);

    /// Returns how many requests there were since.
    fn requests(&self) -> usize;

    /// Returns the paths of what was begun and not finished, which has bytes.
    fn unfinished(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    /// Says whether a request may come late: only one that is sent as a whole.
    fn has_late(&self) -> bool {
        false
    }

    /// Lets the late request come.
    fn come_late(&self) {}

    fn as_medium(self: Arc<Self>) -> Arc<dyn Medium>;
}

fn patiently(backend: impl Backend + 'static) -> Arc<dyn Backend> {
    patient(Arc::new(backend), Arc::new(NotingSleeper::default()))
}

/// A folder behind a server of files.
pub(super) struct Shelf {
    folder: Folder,
    ways: Ways,
    server: Mutex<Arc<Server>>,
}

const ROOT: &str = "repository";

impl Shelf {
    pub(super) fn new(ways: Ways) -> Self {
        Shelf::at(Folder::in_memory(), ways)
    }

    fn at(folder: Folder, ways: Ways) -> Self {
        let server = Mutex::new(Server::new(folder.path(), ways.clone()));
        Shelf { folder, ways, server }
    }

    fn server(&self) -> Arc<Server> {
        Arc::clone(&self.server.lock().unwrap())
    }
}

fn copy_tree(from: &Path, to: &Path) {
    let mut open = vec![(from.to_owned(), to.to_owned())];
    while let Some((from, to)) = open.pop() {
        for entry in std::fs::read_dir(from).unwrap() {
            let path = entry.unwrap().path();
            let place = to.join(path.file_name().unwrap());
            if path.is_dir() {
                std::fs::create_dir(&place).unwrap();
                open.push((path, place));
            } else {
                std::fs::copy(path, place).unwrap();
            }
        }
    }
}

impl Medium for Shelf {
    fn create(&self) -> Result<Arc<dyn Backend>> {
        let (pool, shown) = (pool(&self.server(), 4), "fake://server".to_owned());
        Ok(patiently(FilesBackend::create(pool, ROOT.as_bytes(), shown)?))
    }

    fn open(&self) -> Result<Arc<dyn Backend>> {
        let (pool, shown) = (pool(&self.server(), 4), "fake://server".to_owned());
        Ok(patiently(FilesBackend::open(pool, ROOT.as_bytes(), shown, None)?))
    }

    fn position(&self) -> usize {
        self.requests()
    }

    fn kill_before(&self, folder: Option<&'static str>) {
        assert_eq!(folder, None, "what comes before was done elsewhere");
    }

    fn replace(&self, key: &ObjectKey, bytes: &[u8]) {
        let place = self.folder.path().join(ROOT).join(key.as_str());
        // One that was created is a folder with the object in it.
        let created = place.with_file_name(format!("{}+", key.name()));
        let place = if created.is_dir() { created.join("o") } else { place };
        assert!(place.is_file(), "{key} is there");
        std::fs::write(place, bytes).unwrap();
    }
}

impl Served for Shelf {
    fn copied(&self) -> Arc<dyn Served> {
        let folder = Folder::in_memory();
        copy_tree(self.folder.path(), folder.path());
        Arc::new(Shelf::at(folder, self.ways.clone()))
    }

    fn let_go_wrong(&self, fault: Option<Fault>) {
        // Another process of the server, which has heard of no fault.
        let server = Server::new(self.folder.path(), self.ways.clone());
        *self.server.lock().unwrap() = Arc::clone(&server);
        let Some(fault) = fault else { return };
        let at = fault.at() as u64;
        match fault {
            Fault::LostReply(_) | Fault::DeadAfter(_) => server.cut(Some(Cut::After(at))),
            Fault::LostRequest(_) | Fault::Dead(_) | Fault::Late(_) => {
                server.cut(Some(Cut::Before(at)));
            }
            Fault::Full(_) => server.fill_from(at),
        }
        if fault.is_death() {
            server.die_at(at + 1);
        }
    }

    fn unfinished(&self) -> Vec<PathBuf> {
        let (mut found, mut open) = (Vec::new(), vec![self.folder.path().join(ROOT).join("tmp")]);
        while let Some(folder) = open.pop() {
            for entry in folder.read_dir().into_iter().flatten() {
                let path = entry.unwrap().path();
                match path.metadata().unwrap() {
                    it if it.is_dir() => open.push(path),
                    it if it.len() > 0 => found.push(path),
                    _ => {}
                }
            }
        }
        found
    }

    fn requests(&self) -> usize {
        self.server().calls().len()
    }

    fn as_medium(self: Arc<Self>) -> Arc<dyn Medium> {
        self
    }
}

#[derive(Default)]
struct Line {
    requests: usize,
    fault: Option<Fault>,
    late: Option<Asked>,
}

/// A bucket.
pub(super) struct Bucket {
    store: Store,
    line: Arc<Mutex<Line>>,
    is_atomic: bool,
}

impl Bucket {
    /// Makes one that knows conditions, or not.
    pub(super) fn new(is_atomic: bool) -> Self {
        let (store, line) = (Store::new(), Arc::new(Mutex::new(Line::default())));
        if !is_atomic {
            store.ignore_conditions();
        }
        let own = Arc::clone(&line);
        store.trick(move |asked| own.lock().unwrap().hear(asked));
        Bucket { store, line, is_atomic }
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap()
    }

    fn options(&self) -> S3Options {
        let mut options = s3::options(self.store.fake.port, None);
        // A busy machine is no store that hangs.
        options.bucket.http.limits.silence = Duration::from_secs(20);
        options
    }
}

impl Line {
    fn hear(&mut self, asked: &Asked) -> Option<Reply> {
        self.requests += 1;
        let fault = self.fault?;
        let (is_it, is_after) = (self.requests == fault.at(), self.requests > fault.at());
        if matches!(fault, Fault::Full(_)) {
            let is_write = matches!(&*asked.method, "PUT" | "POST");
            let is_refused = (is_it || is_after) && is_write && !asked.target.contains("delete");
            return is_refused.then(|| Reply::error(507, "InsufficientStorage"));
        }
        if is_it && matches!(fault, Fault::LostReply(_) | Fault::DeadAfter(_)) {
            return Some(Reply::Raw(LOST.to_vec()));
        }
        if is_it && fault == Fault::Late(self.requests) {
            self.late = Some(asked.clone());
        }
        (is_it || is_after && fault.is_death()).then(|| Reply::Raw(Vec::new()))
    }
}

impl Medium for Bucket {
    fn create(&self) -> Result<Arc<dyn Backend>> {
        let sleeper = Arc::new(NotingSleeper::default());
        Ok(patiently(S3Backend::create(&self.options(), Arc::new(SystemClock), sleeper)?))
    }

    fn open(&self) -> Result<Arc<dyn Backend>> {
        let sleeper = Arc::new(NotingSleeper::default());
        Ok(patiently(S3Backend::open(&self.options(), Arc::new(SystemClock), sleeper)?))
    }

    fn position(&self) -> usize {
        self.requests()
    }

    fn kill_before(&self, folder: Option<&'static str>) {
        assert_eq!(folder, None, "what comes before was done elsewhere");
    }

    fn replace(&self, key: &ObjectKey, bytes: &[u8]) {
        self.store.put(&format!("p/{key}"), bytes, &[]);
    }
}

impl Served for Bucket {
    fn copied(&self) -> Arc<dyn Served> {
        let copy = Bucket::new(self.is_atomic);
        for key in self.store.keys() {
            copy.store.put(&key, &self.store.get(&key).unwrap().bytes, &[]);
        }
        Arc::new(copy)
    }

    fn let_go_wrong(&self, fault: Option<Fault>) {
        let mut line = self.line();
        (line.requests, line.fault) = (0, fault);
    }

    fn requests(&self) -> usize {
        self.line().requests
    }

    fn has_late(&self) -> bool {
        true
    }

    /// Without a condition a late config takes the place of another one's: see `calls`.
    fn come_late(&self) {
        let late = self.line().late.take();
        if let Some(asked) = late.filter(|it| self.is_atomic || !it.target.ends_with("/config")) {
            self.store.answer(&asked);
        }
    }

    fn as_medium(self: Arc<Self>) -> Arc<dyn Medium> {
        self
    }
}

/// A workload that is about to be done at a place.
struct Scene {
    workload: &'static Workload,
    place: Arc<dyn Served>,
    version: usize,
    promises: Vec<(usize, Promise)>,
    wrap: fn(Arc<dyn Backend>) -> Arc<dyn Backend>,
    /// How often it failed as there was no room.
    refused: AtomicUsize,
}

impl Scene {
    /// Does in memory what comes before, and puts what that has left where it is served.
    fn of(workload: &'static Workload, place: Arc<dyn Served>, is_atomic: bool) -> Self {
        let tape = Tape::new(MemoryBackend::with_atomic_create(is_atomic));
        let mut story = Story::new(Arc::new(tape.clone()), workload.is_encrypted);
        story.threads = 1;
        for deed in workload.before {
            deed(&mut story).unwrap();
            bury_the_dead(&story);
        }
        if !workload.before.is_empty() {
            let backend = place.create().unwrap();
            assert_eq!(backend.capabilities().atomic_create, is_atomic);
            for write in tape.log() {
                match write {
                    Write::Put(key, bytes) => backend.put(&key, &bytes).unwrap(),
                    Write::PutNew(key, bytes) => backend.put_new(&key, &bytes).unwrap(),
                    Write::Delete(key) => backend.delete(&key).unwrap(),
                }
            }
            // Leases of those that were buried were exchanged.
            for (key, bytes) in tape.store.objects() {
                if backend.get(&key, 1 << 24).unwrap() != bytes {
                    place.replace(&key, &bytes);
                }
            }
        }
        let promises = story.promises.iter().map(|(_, promise)| (0, promise.clone())).collect();
        let (version, refused) = (story.version, AtomicUsize::new(0));
        Scene { workload, place, version, promises, wrap: |backend| backend, refused }
    }

    fn story_at(&self, place: &Arc<dyn Served>) -> Story {
        let mut story = Story::new(Arc::clone(place).as_medium(), self.workload.is_encrypted);
        story.threads = 1;
        story.version = self.version;
        story.promises.clone_from(&self.promises);
        story.clock.advance(1000);
        story.wrap = self.wrap;
        story
    }

    /// Does the workload; returns how it ended.
    fn play(&self, place: &Arc<dyn Served>) -> (Story, Result<()>) {
        let mut story = self.story_at(place);
        let done = self.workload.deeds.iter().try_for_each(|deed| deed(&mut story));
        (story, done)
    }

    fn requests(&self) -> usize {
        let place = self.place.copied();
        place.let_go_wrong(None);
        self.play(&place).1.unwrap();
        place.requests()
    }

    fn judge(&self, fault: Fault) -> std::result::Result<(), String> {
        let place = self.place.copied();
        place.let_go_wrong(Some(fault));
        let (story, done) = self.play(&place);
        place.let_go_wrong(None);
        match done {
            Err(e) if matches!(fault, Fault::Full(_)) && e.kind() == ErrorKind::Full => {
                let left = place.unfinished();
                if !left.is_empty() {
                    return Err(format!("half of it takes room: {left:?}"));
                }
                self.refused.fetch_add(1, Ordering::Relaxed);
            }
            Err(e) if !fault.is_death() => return Err(format!("it fails: {}", e.full_message())),
            Err(e) if e.kind() != ErrorKind::Unreachable => {
                return Err(format!("{:?}: {}", e.kind(), e.full_message()));
            }
            _ => {}
        }
        let late = Arc::clone(&place);
        let wreck = Wreck {
            medium: place.as_medium(),
            is_encrypted: self.workload.is_encrypted,
            version: story.version,
            promises: story.promises.iter().map(|(_, promise)| promise.clone()).collect(),
            cache: None,
            late: Some(Box::new(move || late.come_late())),
            is_repaired: true,
        };
        wreck.judge()
    }
}

/// Does each workload at a place with faults spread over its requests; returns how many.
pub(super) fn go_wrong(
    title: &str,
    make: &dyn Fn() -> Arc<dyn Served>,
    is_atomic: bool,
    workloads: &'static [Workload],
    depth: &Depth,
) -> usize {
    let (mut count, mut refused) = (0, 0);
    for (nth, workload) in workloads.iter().enumerate() {
        let scene = Scene::of(workload, make(), is_atomic);
        let late = if scene.place.has_late() { Fault::Late } else { Fault::LostRequest };
        let faults: [fn(usize) -> Fault; 6] = [
            Fault::Dead,
            Fault::LostReply,
            late,
            Fault::DeadAfter,
            Fault::LostRequest,
            Fault::Full,
        ];
        for case in depth.spread(scene.requests() * faults.len(), 4, nth) {
            let fault = faults[case % faults.len()](case / faults.len() + 1);
            let judged = scene.judge(fault);
            judged.unwrap_or_else(|what| {
                panic!("{what}, with {fault:?}, {}, {title}", workload.name)
            });
            count += 1;
        }
        refused += scene.refused.into_inner();
    }
    assert!(refused > 0, "there was room for all");
    eprintln!("{title}: {count} cases, {refused} times no room");
    count
}

/// Does a workload at a place with a writer that does not wait for its packs, and lets it die at
/// each request; returns what was noticed.
pub(super) fn noticed_of_haste(
    workload: &'static Workload,
    place: Arc<dyn Served>,
    is_atomic: bool,
) -> Vec<String> {
    let wrap = |backend| Arc::new(Hasty::new(backend)) as Arc<dyn Backend>;
    let scene = Scene { wrap, ..Scene::of(workload, place, is_atomic) };
    let deaths = (1..=scene.requests()).map(Fault::Dead);
    deaths.filter_map(|fault| scene.judge(fault).err()).collect()
}
