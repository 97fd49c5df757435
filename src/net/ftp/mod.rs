//! FTP (RFC 959, 2228, 2389, 2428, 3659, 4217): sessions with a server, in the clear or within TLS.
//!
//! | file | what |
//! |---|---|
//! | `control` | commands and replies |
//! | `reply` | what a reply says |
//! | `data` | the connection that content goes over |
//! | `login` | from a connection to a session |
//! | `session` | a session: what is under way, and how a transfer begins and ends |
//! | `write` | writing a file |
//! | `list` | listings, and looking at one thing |
//! | `facts`, `row` | lines of MLSD and of LIST |
//! | `change` | renaming, deleting, times and rights |
//! | `learn` | what only trying tells of a server |
//!
//! What a server says is believed only where it can be: a listing counts when the server's last
//! word says that it is whole, a file when its end was confirmed, what was written when its size is
//! asked for and right. A refusal whose reason is open is looked into.

mod change;
mod control;
mod data;
mod facts;
mod learn;
mod list;
mod login;
mod reply;
mod row;
mod session;
mod write;

use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::secret::Secret;
use crate::base::time::Clock;
use crate::base::time::SystemClock;
use crate::net::files::Connect;
use crate::net::files::Files;
use crate::net::tcp;
use crate::net::tls;
use std::fmt;
use std::sync::Arc;

/// Whether what is said can be read by others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// It can: FTP as it was.
    None,
    /// The connection begins in the clear and goes on within TLS, before the login; never without.
    Explicit,
    /// TLS from the first byte, as on port 990.
    Implicit,
}

/// How a server is reached, and as whom.
#[derive(Clone)]
pub struct Options {
    /// Name or address of the server. A certificate has to be for it.
    pub host: String,
    /// Where it listens.
    pub port: u16,
    /// The user; anonymous where there is none.
    pub user: Option<String>,
    /// The user's password.
    pub password: Option<Secret>,
    /// TLS or not.
    pub security: Security,
    /// Whose certificates are trusted.
    pub roots: tls::Roots,
    /// How long the server may take.
    pub limits: tcp::Limits,
    /// Tells the year of a listing that leaves it out.
    pub clock: Arc<dyn Clock>,
}

impl Options {
    /// Says how to reach a server, with nothing special; within TLS from the first byte when the
    /// port is the one for that and `is_secure`.
    pub fn new(host: impl Into<String>, port: u16, is_secure: bool) -> Self {
        let security = match (is_secure, port) {
            (false, _) => Security::None,
            (true, 990) => Security::Implicit,
            (true, _) => Security::Explicit,
        };
        Options {
            host: host.into(),
            port,
            user: None,
            password: None,
            security,
            roots: tls::Roots::default(),
            limits: tcp::Limits::default(),
            clock: Arc::new(SystemClock),
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Options({}, {:?})", self.shown(), self.security)
    }
}

impl Options {
    fn shown(&self) -> String {
        let scheme = if self.security == Security::None { "ftp" } else { "ftps" };
        let user = self.user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
        let host = match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.clone(),
        };
        let port = match (self.security, self.port) {
            (Security::None | Security::Explicit, 21) => String::new(),
            (_, port) => format!(":{port}"),
        };
        format!("{scheme}://{user}{host}{port}")
    }
}

/// An FTP server, as one user sees it.
#[derive(Debug)]
pub struct Server {
    options: Options,
    tls: Option<tls::Client>,
}

impl Server {
    /// Takes the options; connects with nothing yet.
    ///
    /// # Errors
    /// `InvalidInput` for names that cannot be said, and for certificates that cannot be read.
    pub fn new(options: Options) -> Result<Self> {
        let password = options.password.as_ref().map(Secret::expose).unwrap_or_default();
        for word in [options.user.as_deref().unwrap_or_default().as_bytes(), password] {
            control::sayable(word).map_err(|_| {
                Error::invalid(format!(
                    "user or password of {} hold the end of a line",
                    options.host
                ))
            })?;
        }
        let tls = match options.security {
            Security::None => None,
            Security::Explicit | Security::Implicit => Some(tls::Client::new(&options.roots)?),
        };
        Ok(Server { options, tls })
    }
}

impl Connect for Server {
    fn connect(&self) -> Result<Box<dyn Files>> {
        Ok(Box::new(login::open(&self.options, self.tls.as_ref())?))
    }

    fn shown(&self) -> String {
        self.options.shown()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::ErrorKind;

    #[test]
    fn what_is_shown_holds_no_password() {
        let mut options = Options::new("host", 2121, true);
        options.user = Some("me".to_owned());
        options.password = Some(Secret::new(b"hunter2".to_vec()));
        assert_eq!(format!("{options:?}"), "Options(ftps://me@host:2121, Explicit)");
        let server = Server::new(Options { security: Security::None, ..options }).expect("fine");
        assert!(!format!("{server:?}").contains("hunter2"));
        assert_eq!(server.shown(), "ftp://me@host:2121");
    }

    #[test]
    fn port_990_is_tls_from_the_first_byte() {
        assert_eq!(Options::new("h", 990, true).security, Security::Implicit);
        assert_eq!(Options::new("h", 21, true).security, Security::Explicit);
        assert_eq!(Options::new("h", 990, false).security, Security::None);
    }

    #[test]
    fn a_user_with_the_end_of_a_line_is_refused() {
        for (user, password) in [("a\r\nDELE b", "x"), ("a", "hunter2\n")] {
            let mut options = Options::new("host", 21, false);
            options.user = Some(user.to_owned());
            options.password = Some(Secret::new(password.as_bytes().to_vec()));
            let error = Server::new(options).expect_err(user);
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(!error.full_message().contains("hunter2"));
        }
    }
}
