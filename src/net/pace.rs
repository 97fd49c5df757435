//! Bounds how much goes over a line, up and down each, so that others have room on it.
//!
//! What is bounded is the average: a transfer waits until those before it would be over at the
//! bound. So the memory of it is one number a direction.

use crate::base::error::Result;
use crate::base::limits::PACE_SECONDS_MAX;
use crate::base::time::Clock;
use crate::base::time::Timestamp;
use crate::net::files::Abilities;
use crate::net::files::Connect;
use crate::net::files::Files;
use crate::net::files::Found;
use crate::net::files::Look;
use crate::net::files::Manner;
use crate::net::files::Marked;
use crate::net::files::Marks;
use crate::net::files::Proof;
use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

/// Lets time pass, and fails where somebody asked to stop.
pub type Wait = Arc<dyn Fn(Duration) -> Result<()> + Send + Sync>;

/// The bounds of a line.
pub struct Pace {
    up: Option<Line>,
    down: Option<Line>,
    start: Timestamp,
    clock: Arc<dyn Clock>,
    wait: Wait,
}

impl fmt::Debug for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = |line: &Option<Line>| line.as_ref().map(|line| line.bytes_per_second);
        write!(f, "Pace({:?}, {:?})", rate(&self.up), rate(&self.down))
    }
}

/// One direction.
struct Line {
    bytes_per_second: f64,
    /// Seconds after the start at which all transfers so far are over.
    free_at: Mutex<f64>,
}

impl Line {
    fn new(bytes_per_second: u64) -> Self {
        Line { bytes_per_second: bytes_per_second.max(1) as f64, free_at: Mutex::new(0.0) }
    }

    /// Adds a transfer and returns how many seconds it has to wait for those before it.
    fn add(&self, bytes: u64, now: f64) -> f64 {
        let mut free_at = self.free_at.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let wait = (*free_at - now).clamp(0.0, PACE_SECONDS_MAX);
        *free_at = now + wait + bytes as f64 / self.bytes_per_second;
        wait
    }
}

impl Pace {
    /// Sets bounds in bytes a second; none is no bound.
    pub fn new(up: Option<u64>, down: Option<u64>, clock: Arc<dyn Clock>, wait: Wait) -> Self {
        let start = clock.now();
        Pace { up: up.map(Line::new), down: down.map(Line::new), start, clock, wait }
    }

    /// Waits before so many bytes go up.
    ///
    /// # Errors
    /// `Cancelled`.
    pub fn up(&self, bytes: u64) -> Result<()> {
        self.pass(self.up.as_ref(), bytes)
    }

    /// Waits after so many bytes came down, for those before them.
    ///
    /// # Errors
    /// `Cancelled`.
    pub fn down(&self, bytes: u64) -> Result<()> {
        self.pass(self.down.as_ref(), bytes)
    }

    fn pass(&self, line: Option<&Line>, bytes: u64) -> Result<()> {
        let Some(line) = line.filter(|_| bytes > 0) else { return Ok(()) };
        let wait = line.add(bytes, self.clock.now().seconds_since(self.start));
        if wait > 0.0 { (self.wait)(Duration::from_secs_f64(wait)) } else { Ok(()) }
    }
}

/// A server whose sessions share the bounds of a line.
pub struct PacedServer {
    server: Arc<dyn Connect>,
    pace: Arc<Pace>,
}

impl PacedServer {
    /// Puts bounds around all sessions with a server.
    pub fn new(server: Arc<dyn Connect>, pace: Arc<Pace>) -> Self {
        PacedServer { server, pace }
    }
}

impl Connect for PacedServer {
    fn connect(&self) -> Result<Box<dyn Files>> {
        let session = self.server.connect()?;
        Ok(Box::new(PacedSession { session, pace: Arc::clone(&self.pace) }))
    }

    fn shown(&self) -> String {
        self.server.shown()
    }
}

/// A session whose content is bounded; names and looks are not.
struct PacedSession {
    session: Box<dyn Files>,
    pace: Arc<Pace>,
}

impl Files for PacedSession {
    fn abilities(&self) -> Abilities {
        self.session.abilities()
    }

    fn reads_links(&self) -> bool {
        self.session.reads_links()
    }

    fn manner(&self) -> Manner {
        self.session.manner()
    }

    fn list(&mut self, folder: &[u8], visit: &mut dyn FnMut(Found) -> Result<()>) -> Result<()> {
        self.session.list(folder, visit)
    }

    fn look_at(&mut self, path: &[u8]) -> Result<Option<Look>> {
        self.session.look_at(path)
    }

    fn read_link(&mut self, path: &[u8]) -> Result<Vec<u8>> {
        self.session.read_link(path)
    }

    fn open(&mut self, path: &[u8], offset: u64) -> Result<()> {
        self.session.open(path, offset)
    }

    fn expect_size(&mut self, size: u64) {
        self.session.expect_size(size);
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let count = self.session.read_at(offset, buffer)?;
        self.pace.down(count as u64)?;
        Ok(count)
    }

    fn close(&mut self) -> Result<()> {
        self.session.close()
    }

    fn create(&mut self, path: &[u8]) -> Result<()> {
        self.session.create(path)
    }

    fn create_new(&mut self, path: &[u8]) -> Result<()> {
        self.session.create_new(path)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.pace.up(bytes.len() as u64)?;
        self.session.write(bytes)
    }

    fn finish(&mut self) -> Result<()> {
        self.session.finish()
    }

    fn finish_with(&mut self, path: &[u8], marks: Marks, proof: Proof) -> Result<Marked> {
        self.session.finish_with(path, marks, proof)
    }

    fn rename(&mut self, from: &[u8], to: &[u8]) -> Result<()> {
        self.session.rename(from, to)
    }

    fn rename_over(&mut self, from: &[u8], to: &[u8]) -> Result<()> {
        self.session.rename_over(from, to)
    }

    fn link(&mut self, from: &[u8], to: &[u8]) -> Result<()> {
        self.session.link(from, to)
    }

    fn make_symlink(&mut self, path: &[u8], to: &[u8]) -> Result<()> {
        self.session.make_symlink(path, to)
    }

    fn make_folder(&mut self, path: &[u8]) -> Result<()> {
        self.session.make_folder(path)
    }

    fn remove_folder(&mut self, path: &[u8]) -> Result<()> {
        self.session.remove_folder(path)
    }

    fn remove(&mut self, path: &[u8]) -> Result<()> {
        self.session.remove(path)
    }

    fn set_time(&mut self, path: &[u8], time: Timestamp) -> Result<()> {
        self.session.set_time(path, time)
    }

    fn set_mode(&mut self, path: &[u8], mode: u32) -> Result<()> {
        self.session.set_mode(path, mode)
    }

    fn set_owner(&mut self, path: &[u8], owner: (u32, u32)) -> Result<()> {
        self.session.set_owner(path, owner)
    }

    fn keep_alive(&mut self) -> Result<()> {
        self.session.keep_alive()
    }
}
