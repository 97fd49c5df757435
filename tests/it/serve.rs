//! The FTP server, over real sockets and by hand, so that a test can say what no client would.
//! Real clients are held against it in the tests that need other programs.

mod client;
mod commands;
mod cut;
mod escape;
mod hostile;
mod secure;

use crate::serve::client::Client;
use crate::support::folder::Folder;
use icecore::base::cancel::Cancel;
use icecore::base::secret::Secret;
use icecore::base::time::SystemClock;
use icecore::serve::Limits;
use icecore::serve::Options;
use icecore::serve::Server;
use icecore::serve::users::Users;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::thread::JoinHandle;
use std::time::Duration;

const USER: &str = "ann";
const PASSWORD: &str = "s3cret pw";

/// A folder that is served until this is dropped.
struct Served {
    folder: Folder,
    address: SocketAddr,
    cancel: Cancel,
    thread: Option<JoinHandle<()>>,
    log: Arc<Mutex<Vec<String>>>,
}

impl Served {
    fn new() -> Self {
        Served::with(Options::default())
    }

    fn with(options: Options) -> Self {
        let folder = Folder::new();
        let root = folder.path().join("served");
        std::fs::create_dir(&root).unwrap();
        Served::at(folder, &root, options)
    }

    fn at(folder: Folder, root: &Path, options: Options) -> Self {
        let mut users = Users::new().unwrap();
        users.add(USER.as_bytes(), &Secret::new(PASSWORD.into())).unwrap();
        Served::of(folder, root, users, options)
    }

    fn of(folder: Folder, root: &Path, users: Users, options: Options) -> Self {
        let server = Server::bind(root, ([127, 0, 0, 1], 0).into(), users, options).unwrap();
        let address = server.address().unwrap();
        let cancel = Cancel::new();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (token, lines) = (cancel.clone(), Arc::clone(&log));
        let thread = std::thread::spawn(move || {
            let log = |text: &str| lines.lock().unwrap().push(text.to_owned());
            server.run(&SystemClock, &token, &log).unwrap();
        });
        Served { folder, address, cancel, thread: Some(thread), log }
    }

    /// Returns a path in the served folder.
    fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join("served").join(below)
    }

    fn write(&self, below: &str, content: &[u8]) {
        std::fs::write(self.path(below), content).unwrap();
    }

    fn read(&self, below: &str) -> Vec<u8> {
        std::fs::read(self.path(below)).unwrap()
    }

    /// Returns the names in the served folder, hidden ones too.
    fn names(&self) -> Vec<String> {
        let rows = std::fs::read_dir(self.path("")).unwrap();
        let mut names: Vec<String> =
            rows.map(|row| row.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    fn connect(&self) -> Client {
        let mut client = Client::connect(self.address);
        client.hears(220);
        client
    }

    fn login(&self) -> Client {
        let mut client = self.connect();
        client.login(USER, PASSWORD);
        client
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.cancel.cancel();
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking());
    }
}

/// Limits that a test can wait for.
fn short() -> Options {
    let limits = Limits {
        idle: Duration::from_secs(2),
        silence: Duration::from_secs(1),
        delay: Duration::from_millis(10),
        ..Limits::default()
    };
    Options { limits, ..Options::default() }
}
