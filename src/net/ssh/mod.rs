//! SSH, to carry SFTP: who the server must be, who we are, and a connection.
//!
//! | file | what |
//! |---|---|
//! | `known_hosts` | which key a host has, from files as OpenSSH keeps them |
//! | `keys` | key files, and signing with an RSA key |
//! | `login` | the agent, keys and the password, one after the other |
//! | `guard` | what is answered to a server that asks or tells something |
//! | `link` | one connection as a wire, in a thread of its own |
//!
//! The key of a host is always checked. One that is not known is taken only by a decision: it is
//! then written to the first file of known hosts, and the connection begins anew, so that whatever
//! is connected with stands in a file. A key other than the one that is known is never taken.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::limits::SSH_LOGINS_MAX;
use crate::base::secret::Secret;
use crate::net::files::Connect;
use crate::net::files::Files;
use crate::net::sftp;
use crate::net::ssh::guard::Shown;
use crate::net::ssh::known_hosts::KnownHosts;
use crate::net::ssh::known_hosts::Verdict;
use crate::net::ssh::link::Failure;
use crate::net::ssh::link::Link;
use crate::net::ssh::link::Plan;
use crate::net::ssh::login::Proofs;
use crate::net::tcp;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;

mod guard;
mod keys;
mod known_hosts;
mod link;
mod login;

/// The key of a host that nothing is known of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostKey {
    /// The host as it will be written down: with the port where it is not 22.
    pub host: String,
    /// The type of the key, such as `ssh-ed25519`.
    pub algorithm: String,
    /// `SHA256:` and base64, as `ssh-keygen -l` prints it.
    pub fingerprint: String,
}

/// Who decides about a host that is not known; true takes its key.
pub type Ask = dyn Fn(&HostKey) -> bool + Send + Sync;

/// What becomes of a host that is not known.
pub enum Unknown {
    /// It is refused.
    Refuse,
    /// Its key is taken and written down.
    Accept,
    /// Somebody is asked.
    Ask(Box<Ask>),
}

/// How to know a host.
pub struct Hosts {
    /// Files of known hosts. New ones are added to the first; one need not be there.
    pub files: Vec<PathBuf>,
    /// What becomes of a host that is in none of them.
    pub unknown: Unknown,
}

/// How to prove who one is. All there is is tried, in this order.
#[derive(Clone, Debug, Default)]
pub struct Login {
    /// The user on the server.
    pub user: String,
    /// The socket of an agent.
    pub agent: Option<PathBuf>,
    /// Files of private keys.
    pub keys: Vec<PathBuf>,
    /// What opens the key files that are encrypted.
    pub passphrase: Option<Secret>,
    /// The password.
    pub password: Option<Secret>,
}

/// A server that offers SFTP over SSH.
pub struct Server {
    host: String,
    port: u16,
    login: Login,
    hosts: Hosts,
    limits: tcp::Limits,
    /// One connection at a time asks about a host; true once it was refused.
    is_refused: Mutex<bool>,
}

impl Server {
    /// Names a server, how to prove who one is, and how to know it.
    pub fn new(host: impl Into<String>, port: u16, login: Login, hosts: Hosts) -> Self {
        let limits = tcp::Limits::default();
        Server { host: host.into(), port, login, hosts, limits, is_refused: Mutex::new(false) }
    }

    /// Sets how long the server may take.
    pub fn limits(mut self, limits: tcp::Limits) -> Self {
        self.limits = limits;
        self
    }

    fn name(&self) -> String {
        known_hosts::name_of(&self.host, self.port)
    }

    /// Connects and logs in, again where the server hung up before all was tried.
    fn link(&self) -> std::result::Result<Link, Failure> {
        let mut tried = Vec::new();
        let mut keys = Vec::new();
        for path in &self.login.keys {
            match keys::load(path, self.login.passphrase.as_ref()) {
                Ok(key) => keys.push(key),
                Err(reason) => tried.push(reason),
            }
        }
        let plan = Arc::new(Plan {
            host: self.host.clone(),
            port: self.port,
            place: self.shown(),
            name: self.name(),
            known: Arc::new(KnownHosts::read(&self.hosts.files)?),
            proofs: Proofs {
                user: self.login.user.clone(),
                agent: self.login.agent.clone(),
                keys,
                password: self.login.password.clone(),
            },
            limits: self.limits,
        });
        let tried = Arc::new(Mutex::new(tried));
        let mut from = 0;
        let mut unanswered = None;
        for _ in 0..SSH_LOGINS_MAX {
            match link::open(&plan, from, &tried) {
                Err(Failure::HungUp(number)) => from = number + 1,
                // A right password is not taken for a wrong one because a connection broke.
                Err(Failure::Unanswered(number)) if unanswered != Some(number) => {
                    (from, unanswered) = (number, Some(number));
                }
                Err(Failure::Unanswered(number)) => from = number + 1,
                done => return done,
            }
        }
        let tried = tried.lock().map(|tried| tried.clone()).unwrap_or_default();
        Err(link::denied(&self.shown(), &tried).into())
    }

    fn open(&self) -> Result<Link> {
        match self.link() {
            Err(Failure::NotKnown(shown)) if self.may_learn(&shown) => {}
            done => return done.map_err(|failure| self.failed(failure)),
        }
        // Alone from here on, as others may have the same question at the same time: whoever
        // comes later finds the answer.
        let Ok(mut is_refused) = self.is_refused.lock() else {
            return Err(Error::bug("somebody who was asked about a host panicked"));
        };
        match self.link() {
            Err(Failure::NotKnown(shown)) if self.may_learn(&shown) => {
                self.decide(&shown, &mut is_refused)?;
                self.link().map_err(|failure| self.failed(failure))
            }
            done => done.map_err(|failure| self.failed(failure)),
        }
    }

    fn may_learn(&self, shown: &Shown) -> bool {
        shown.verdict == Verdict::Unknown && !matches!(self.hosts.unknown, Unknown::Refuse)
    }

    /// Decides about a host that is not known, and writes down its key.
    fn decide(&self, shown: &Shown, is_refused: &mut bool) -> Result<()> {
        let key = HostKey {
            host: self.name(),
            algorithm: shown.algorithm.clone(),
            fingerprint: shown.fingerprint.clone(),
        };
        let is_taken = !*is_refused
            && match &self.hosts.unknown {
                Unknown::Refuse => false,
                Unknown::Accept => true,
                Unknown::Ask(ask) => ask(&key),
            };
        *is_refused = !is_taken;
        match self.hosts.files.first().filter(|_| is_taken) {
            Some(path) => known_hosts::append(path, &key.host, &key.algorithm, &shown.key),
            None => Err(self.failed(Failure::NotKnown(shown.clone()))),
        }
    }

    /// Makes the error of a connection that failed.
    fn failed(&self, failure: Failure) -> Error {
        let shown = match failure {
            Failure::Other(error) => return error,
            Failure::HungUp(_) | Failure::Unanswered(_) => {
                return Error::bug("nobody connected again");
            }
            Failure::NotKnown(shown) => shown,
        };
        let (name, place) = (self.name(), self.shown());
        let key = format!("{} {}", shown.algorithm, shown.fingerprint);
        match &shown.verdict {
            Verdict::Changed(file, line) => {
                let file = file.display();
                let message = format!(
                    "{place} shows the key {key}, which is not the one that {file} has in line \
                     {line}: somebody may be listening in, or the server got a new key"
                );
                Error::new(ErrorKind::Denied, message).hint(format!(
                    "if whoever runs the server says that this is its key, forget the old one: \
                     ssh-keygen -R '{name}' -f '{file}'"
                ))
            }
            Verdict::Revoked(file, line) => {
                let message = format!(
                    "{place} shows the key {key}, which is revoked in line {line} of {}",
                    file.display()
                );
                Error::new(ErrorKind::Denied, message)
                    .hint("whoever has this key may pretend to be the server")
            }
            Verdict::Unknown | Verdict::Known => {
                let message = format!("{place} is not known: it shows the key {key}");
                Error::new(ErrorKind::Denied, message)
                    .hint("if that is the key of the server, take it with --accept-new-host-key")
            }
        }
    }
}

impl Connect for Server {
    fn connect(&self) -> Result<Box<dyn Files>> {
        let link = self.open()?;
        sftp::begin(Box::new(link), self.shown(), self.limits.silence)
    }

    fn shown(&self) -> String {
        let host = match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.clone(),
        };
        let port = if self.port == 22 { String::new() } else { format!(":{}", self.port) };
        format!("sftp://{}@{host}{port}", self.login.user)
    }
}
