//! Floor 4: a folder behind FTP and FTPS, so that a dataset can be on one machine and its backups
//! on another.
//!
//! ```text
//! Server    lets clients in and counts them (gate); a Session each, on a thread of its own
//! Session   commands in, replies out (control, reply), in order; who it is, and TLS (login)
//!   files   what asks for names: CWD, MKD, RNTO, SIZE, MFMT, ...
//!   data    EPSV and PASV (passive); RETR, STOR, APPE (transfer); MLSD, LIST (listing)
//! Tree      the folder, by handles (place, upload): nothing leads out of it
//! ```
//!
//! What it promises: nothing outside of the folder is read or written, whatever a client says and
//! whoever swaps a name for a link meanwhile; a file that is uploaded takes its place whole and
//! durable, or not at all; a data connection comes from where the commands come from; every wait,
//! every line and every count has a bound. Names are bytes.
//!
//! Memory is that of the sessions: [`Limits::sessions`] times a copy buffer of 256 KiB, or the
//! names of one stretch of a listing.

use crate::base::cancel::Cancel;
use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::path::display;
use crate::base::sys;
use crate::base::time::Clock;
use crate::net::tls::server::Side;
use crate::serve::control::Control;
use crate::serve::gate::Gate;
use crate::serve::reply::Reply;
use crate::serve::session::Session;
use crate::serve::session::Shared;
use crate::serve::stream::TICK;
use crate::serve::tree::Tree;
use crate::serve::users::Rights;
use crate::serve::users::Users;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::ops::RangeInclusive;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

mod control;
mod data;
mod files;
mod gate;
mod listing;
mod login;
mod passive;
mod place;
mod reply;
mod session;
mod stamp;
mod stream;
mod transfer;
mod tree;
mod upload;
pub mod users;

/// Who must use TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// Whoever wants to.
    Nobody,
    /// Everybody, for commands and for data.
    Everybody,
    /// Everybody, and each data connection resumes the session of its commands, which proves that
    /// it is the same client's.
    Resumed,
}

/// TLS as a server offers it.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The certificate, and all that goes with it.
    pub side: Side,
    /// Who must use it.
    pub demand: Demand,
}

/// How much clients may take.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Sessions at a time.
    pub sessions: usize,
    /// Sessions at a time from one address.
    pub sessions_of_one: usize,
    /// How long a session may ask for nothing.
    pub idle: Duration,
    /// How long a transfer may stand still.
    pub silence: Duration,
    /// How long a session may take to log in.
    pub login: Duration,
    /// Wrong passwords of one session.
    pub tries: u32,
    /// How long the answer to the first wrong password takes; it grows with each.
    pub delay: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            sessions: 128,
            sessions_of_one: 32,
            idle: Duration::from_secs(300),
            silence: Duration::from_secs(60),
            login: Duration::from_secs(60),
            tries: 3,
            delay: Duration::from_secs(1),
        }
    }
}

/// How a folder is served.
#[derive(Clone, Debug)]
pub struct Options {
    /// The most that anybody may do.
    pub rights: Rights,
    /// TLS, where there is a certificate.
    pub tls: Option<Tls>,
    /// Ports for data connections; None for any that is free.
    pub passive_ports: Option<RangeInclusive<u16>>,
    /// The address that PASV tells; None for the one that the client came to.
    pub passive_host: Option<Ipv4Addr>,
    /// How much clients may take.
    pub limits: Limits,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            rights: Rights::Write,
            tls: None,
            passive_ports: None,
            passive_host: None,
            limits: Limits::default(),
        }
    }
}

/// A folder with a port that is open, ready to be served.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    tree: Tree,
    users: Users,
    options: Options,
}

impl Server {
    /// Opens the folder and the port. Clients are heard once it runs.
    ///
    /// # Errors
    /// When the folder cannot be opened, the port is taken, or nobody may come in.
    pub fn bind(folder: &Path, at: SocketAddr, users: Users, options: Options) -> Result<Self> {
        if users.is_empty() {
            return Err(Error::invalid("nobody may log in")
                .hint("name a user and give a password, or allow guests with --anonymous"));
        }
        let shown = display(folder.as_os_str().as_bytes());
        let tree = Tree::open(folder)
            .map_err(|e| Error::io(format!("cannot open the folder {shown}"), e))?;
        let cannot = |e| Error::io(format!("cannot listen at {at}"), e);
        let listener = TcpListener::bind(at)
            .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
            .map_err(|e| cannot(e).hint("is another program at this port, or is it below 1024?"))?;
        Ok(Server { listener, tree, users, options })
    }

    /// Returns where it listens.
    ///
    /// # Errors
    /// Those of the system.
    pub fn address(&self) -> Result<SocketAddr> {
        self.listener.local_addr().map_err(|e| Error::io("cannot tell where it listens", e))
    }

    /// Serves until somebody asks to stop, and then ends all sessions. `log` gets a line for each
    /// command; no password is in any.
    ///
    /// # Errors
    /// When the port cannot be listened at any more.
    pub fn run(
        &self,
        clock: &dyn Clock,
        cancel: &Cancel,
        log: &(dyn Fn(&str) + Sync),
    ) -> Result<()> {
        let (tree, users, options) = (&self.tree, &self.users, &self.options);
        let shared = Shared { tree, users, options, clock, cancel, log };
        let gate = Gate::new(options.limits.sessions, options.limits.sessions_of_one);
        std::thread::scope(|scope| {
            let mut number = 0;
            while !cancel.is_cancelled() {
                let waited = sys::wait_readable(&self.listener, TICK);
                if !waited.map_err(|e| Error::io("cannot wait for clients", e))? {
                    continue;
                }
                let (socket, peer) = match self.listener.accept() {
                    Ok(accepted) => accepted,
                    Err(e) => {
                        // Gone again, or too many files are open, which passes.
                        log(&format!("cannot let a client in: {e}"));
                        std::thread::sleep(TICK);
                        continue;
                    }
                };
                number += 1;
                let Some(ticket) = gate.enter(peer.ip().to_canonical()) else {
                    log(&format!("{number}: {peer} turned away: too many sessions"));
                    turn_away(socket);
                    continue;
                };
                let (shared, name) = (&shared, format!("session {number}"));
                let begun = std::thread::Builder::new().name(name).spawn_scoped(scope, move || {
                    serve(shared, number, socket, peer);
                    drop(ticket);
                });
                if let Err(e) = begun {
                    log(&format!("{number}: {peer} turned away: no thread: {e}"));
                }
            }
            Ok(())
        })
    }
}

fn serve(shared: &Shared<'_>, number: u64, socket: TcpStream, peer: SocketAddr) {
    (shared.log)(&format!("{number}: {peer} came"));
    match Session::new(shared, number, socket, peer) {
        Ok(session) => session.run(),
        Err(e) => (shared.log)(&format!("{number}: {e}")),
    }
    (shared.log)(&format!("{number}: {peer} left"));
}

/// Tells a client to come back later, and does not wait for it to hear.
fn turn_away(socket: TcpStream) {
    if let Ok(mut control) = Control::new(socket) {
        control.say(&Reply::new(421, "Too many sessions, try again later"));
        control.close();
    }
}
