//! Sessions with one server, kept to be used again.
//!
//! A session does one thing at a time, so whoever wants to work takes one out and gives it back.
//! More are opened up to a limit. A server that lets no more in lowers the limit to what is open,
//! and whoever asked waits for one of those. A session that lay idle is asked whether it still
//! lives before it is handed out, and what may be done twice is done once more on a new session
//! when an old one turns out to be dead: servers hang up on who is silent, and say nothing.
//!
//! Sessions are opened one after the other where that is quick: whoever comes meanwhile waits a
//! moment, and takes what is given back by then.
//!
//! Nobody who holds a session may wait for another one: with a limit of one that would be for ever.
//! A wait lasts as long as others are at work, be that hours: each of them ends, at the latest when
//! the server falls silent, and a server that lets few in and is busy is none that is silent. It
//! ends when somebody asks to stop.

use crate::base::cancel::Cancel;
use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::limits::BROKE_AT_ONCE_SECONDS;
use crate::base::limits::REMOTE_SESSIONS_MAX;
use crate::base::limits::SESSION_LOOK_MILLIS;
use crate::base::limits::SESSION_QUIET_SECONDS;
use crate::base::limits::SESSIONS_APART_MILLIS;
use crate::base::time::Clock;
use crate::base::time::Timestamp;
use crate::net::files::Connect;
use crate::net::files::Files;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::time::Duration;

/// A server on the same machine answers in less, one on another hardly ever.
const HERE_SECONDS: f64 = 0.000_2;
/// One that takes so long is on another machine for certain.
const FAR_SECONDS: f64 = 0.01;
/// A machine that is busy may be late with some.
const ANSWERS_TRIED: usize = 5;

/// How many sessions, and how old they get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolOptions {
    /// Most sessions at a time, and at least one.
    pub sessions_max: usize,
    /// A session that was idle for so many seconds is asked whether it still lives.
    pub quiet_seconds: i64,
    /// So long a new session waits for another one that is being opened.
    pub apart: Duration,
}

impl Default for PoolOptions {
    fn default() -> Self {
        PoolOptions {
            sessions_max: REMOTE_SESSIONS_MAX,
            quiet_seconds: SESSION_QUIET_SECONDS,
            apart: Duration::from_millis(SESSIONS_APART_MILLIS),
        }
    }
}

/// Sessions with one server, as one user.
pub struct Pool {
    connect: Arc<dyn Connect>,
    clock: Arc<dyn Clock>,
    quiet_seconds: i64,
    apart: Duration,
    /// Ends the wait for a session.
    cancel: Cancel,
    state: Mutex<State>,
    freed: Condvar,
}

struct State {
    /// The one given back last is taken first, so that those that are too many grow old.
    idle: Vec<Idle>,
    /// Idle ones, those taken out, and those being opened.
    open: usize,
    /// Those being opened.
    opening: usize,
    limit: usize,
}

struct Idle {
    files: Box<dyn Files>,
    since: Timestamp,
}

/// What there is for somebody who asks for a session.
enum Claim {
    Idle(Idle),
    /// Room for a new one, which is counted already.
    Room,
}

/// A session that was taken out. Unless it is given back, it is ended when dropped.
pub struct Taken {
    pool: Arc<Pool>,
    files: Option<Box<dyn Files>>,
    was_idle: bool,
}

impl Pool {
    /// Makes a pool without any session yet.
    pub fn new(
        connect: Arc<dyn Connect>,
        clock: Arc<dyn Clock>,
        options: PoolOptions,
    ) -> Arc<Self> {
        Pool::stoppable(connect, clock, options, Cancel::new())
    }

    /// The same, of which nobody waits for a session any more once somebody asked to stop.
    pub fn stoppable(
        connect: Arc<dyn Connect>,
        clock: Arc<dyn Clock>,
        options: PoolOptions,
        cancel: Cancel,
    ) -> Arc<Self> {
        let limit = options.sessions_max.max(1);
        Arc::new(Pool {
            connect,
            clock,
            quiet_seconds: options.quiet_seconds,
            apart: options.apart,
            cancel,
            state: Mutex::new(State { idle: Vec::new(), open: 0, opening: 0, limit }),
            freed: Condvar::new(),
        })
    }

    /// Returns the server and the user without a password: safe to print.
    pub fn shown(&self) -> String {
        self.connect.shown()
    }

    /// Returns how many sessions there may be, by what is known of the server so far.
    pub fn sessions_max(&self) -> usize {
        self.lock().limit
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Takes a session out, opens one, or waits for one.
    ///
    /// # Errors
    /// Those of [`Connect::connect`], but `RateLimited` only when no session is open at all;
    /// `Cancelled` where one would have to be waited for.
    pub fn take(self: &Arc<Self>) -> Result<Taken> {
        loop {
            match self.claim()? {
                Claim::Idle(idle) => {
                    let quiet = self.clock.now().seconds_since(idle.since);
                    let mut taken = self.taken(idle.files, true);
                    // A clock that was set back tells nothing.
                    let is_young = (0.0..self.quiet_seconds as f64).contains(&quiet);
                    if is_young || taken.files()?.keep_alive().is_ok() {
                        return Ok(taken);
                    }
                }
                Claim::Room => match self.open() {
                    Ok(files) => return Ok(self.taken(files, false)),
                    Err(e) => {
                        let is_limit = e.kind() == ErrorKind::RateLimited;
                        if !self.give_up_room(is_limit) {
                            return Err(e);
                        }
                    }
                },
            }
        }
    }

    fn open(&self) -> Result<Box<dyn Files>> {
        let opened = self.connect.connect();
        self.lock().opening -= 1;
        self.freed.notify_all();
        opened
    }

    fn taken(self: &Arc<Self>, files: Box<dyn Files>, was_idle: bool) -> Taken {
        Taken { pool: Arc::clone(self), files: Some(files), was_idle }
    }

    fn claim(&self) -> Result<Claim> {
        let mut state = self.lock();
        let mut patience = self.apart;
        loop {
            if let Some(idle) = state.idle.pop() {
                return Ok(Claim::Idle(idle));
            }
            let has_room = state.open < state.limit;
            if has_room && (state.opening == 0 || patience.is_zero()) {
                state.open += 1;
                state.opening += 1;
                return Ok(Claim::Room);
            }
            let look = Duration::from_millis(SESSION_LOOK_MILLIS);
            let wait = if has_room { patience } else { look };
            let waited = self.freed.wait_timeout(state, wait);
            let (guard, time) = waited.unwrap_or_else(|poisoned| poisoned.into_inner());
            state = guard;
            if has_room {
                // Woken too often it is over as well.
                patience = if time.timed_out() { Duration::ZERO } else { patience / 2 };
            } else if time.timed_out() && state.idle.is_empty() && state.open >= state.limit {
                self.cancel.check()?;
            }
        }
    }

    /// Takes back the room for a session that could not be opened. With `is_limit` the limit
    /// becomes what is open, if anything is; returns whether it did.
    fn give_up_room(&self, is_limit: bool) -> bool {
        let mut state = self.lock();
        state.open -= 1;
        let is_lowered = is_limit && state.open > 0;
        if is_lowered {
            state.limit = state.limit.min(state.open);
        } else {
            self.freed.notify_one();
        }
        is_lowered
    }

    /// Does work on a session, once. The session is given back unless it was lost.
    ///
    /// # Errors
    /// Those of [`Pool::take`] and of the work.
    pub fn with<T>(self: &Arc<Self>, work: impl FnOnce(&mut dyn Files) -> Result<T>) -> Result<T> {
        self.take()?.run(work)
    }

    /// Returns the time by this machine's clock.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Does work on a session, and once more on a new one when it was lost after it had been idle.
    /// For work that may be done twice.
    ///
    /// # Errors
    /// Those of [`Pool::take`] and of the work.
    pub fn repeatable<T>(
        self: &Arc<Self>,
        mut work: impl FnMut(&mut dyn Files) -> Result<T>,
    ) -> Result<T> {
        let taken = self.take()?;
        let was_idle = taken.was_idle;
        match taken.run(&mut work) {
            Err(e) if was_idle && e.kind() == ErrorKind::Unreachable => {
                // A server that hung up on one has hung up on its neighbours.
                self.drop_idle();
                let again = self.take().and_then(|taken| taken.run(&mut work));
                again.map_err(Error::after_a_lost_answer)
            }
            other => other,
        }
    }

    /// Does what may be done twice on a server that was not met before: once more when the
    /// connection broke at once. What takes its time to fail may be a name that is wrong.
    ///
    /// # Errors
    /// Those of [`Pool::repeatable`].
    pub fn meet<T>(
        self: &Arc<Self>,
        mut work: impl FnMut(&mut dyn Files) -> Result<T>,
    ) -> Result<T> {
        let begun = self.clock.now();
        let met = self.repeatable(&mut work);
        let is_quick = self.clock.now().seconds_since(begun) < BROKE_AT_ONCE_SECONDS;
        match met {
            Err(e) if is_quick && e.kind() == ErrorKind::Unreachable => self.repeatable(work),
            met => met,
        }
    }

    /// Says whether the server answers as quickly as only one on the same machine does, by the
    /// quickest of a few answers.
    ///
    /// # Errors
    /// Those of [`Pool::take`]; `Unreachable`.
    pub fn is_here(self: &Arc<Self>) -> Result<bool> {
        self.with(|files| {
            for _ in 0..ANSWERS_TRIED {
                let asked = self.clock.now();
                files.keep_alive()?;
                let seconds = self.clock.now().seconds_since(asked);
                if seconds < HERE_SECONDS {
                    return Ok(true);
                }
                if seconds > FAR_SECONDS {
                    break;
                }
            }
            Ok(false)
        })
    }

    /// Ends the sessions that nobody uses.
    pub fn drop_idle(&self) {
        let idle = {
            let mut state = self.lock();
            state.open -= state.idle.len();
            std::mem::take(&mut state.idle)
        };
        // Not under the lock: to say goodbye may take a while.
        drop(idle);
        self.freed.notify_all();
    }

    fn put_back(&self, files: Box<dyn Files>) {
        let since = self.clock.now();
        let mut state = self.lock();
        let surplus = if state.open > state.limit {
            state.open -= 1;
            Some(files)
        } else {
            state.idle.push(Idle { files, since });
            None
        };
        drop(state);
        self.freed.notify_one();
        drop(surplus);
    }
}

impl Taken {
    /// Returns the session.
    ///
    /// # Errors
    /// Never, until it was given back.
    pub fn files(&mut self) -> Result<&mut dyn Files> {
        match &mut self.files {
            Some(files) => Ok(&mut **files),
            None => Err(Error::bug("a session is used that was given back")),
        }
    }

    /// Says whether it was used before.
    pub fn was_idle(&self) -> bool {
        self.was_idle
    }

    /// Gives it back for others to use.
    pub fn give_back(mut self) {
        if let Some(files) = self.files.take() {
            self.pool.put_back(files);
        }
    }

    fn run<T>(mut self, work: impl FnOnce(&mut dyn Files) -> Result<T>) -> Result<T> {
        let outcome = self.files().and_then(work);
        let is_lost = outcome.as_ref().is_err_and(|e| e.kind() == ErrorKind::Unreachable);
        if !is_lost {
            self.give_back();
        }
        outcome
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some(files) = self.files.take() {
            drop(files);
            self.pool.lock().open -= 1;
            self.pool.freed.notify_one();
        }
    }
}
