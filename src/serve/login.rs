//! Who a client is, and TLS.

use crate::net::tls::server::ServerStream;
use crate::net::tls::server::Speaker;
use crate::serve::Demand;
use crate::serve::control::Sign;
use crate::serve::listing::Wanted;
use crate::serve::place::Place;
use crate::serve::reply::Reply;
use crate::serve::reply::Trouble;
use crate::serve::reply::refuse;
use crate::serve::session::Answer;
use crate::serve::session::Session;
use crate::serve::stream::TICK;
use crate::serve::stream::is_tick;
use crate::serve::users::Rights;
use std::io;
use std::net::TcpStream;
use std::time::Duration;

/// How long a handshake may take.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(15);

/// How far a client has come.
#[derive(Debug)]
pub(super) enum Login {
    /// It has not said who it is.
    None,
    /// It has.
    Named(Vec<u8>),
    /// It has proven it.
    Done(Rights),
}

impl Session<'_> {
    pub(super) fn user(&mut self, name: &[u8]) -> Answer {
        if self.needs_tls() && !self.control.is_tls() {
            return refuse(530, "TLS is a must: say AUTH TLS first");
        }
        self.log_out(Login::Named(name.to_vec()));
        let is_guest = self.shared.users.is_guest(name);
        let text = if is_guest { "Any password will do" } else { "Now the password" };
        Ok(Reply::new(331, text))
    }

    /// Has a client log in once more. One that was in has as long for that as one that just came.
    fn log_out(&mut self, login: Login) {
        if self.rights().is_some() {
            self.since = self.shared.clock.now();
        }
        self.login = login;
    }

    pub(super) fn password(&mut self, password: &[u8]) -> Answer {
        let Login::Named(name) = std::mem::replace(&mut self.login, Login::None) else {
            return refuse(503, "Say USER first");
        };
        if let Some(rights) = self.shared.users.admit(&name, password) {
            self.login = Login::Done(rights);
            self.tries = 0;
            return Ok(Reply::new(230, "Welcome"));
        }
        self.tries += 1;
        self.wait_longer_each_time();
        match self.tries >= self.shared.options.limits.tries {
            true => refuse(421, "Too many wrong passwords, goodbye"),
            false => refuse(530, "Wrong user or password"),
        }
    }

    /// Makes guessing slow, as long as somebody waits for the answer.
    fn wait_longer_each_time(&mut self) {
        let mut left = self.shared.options.limits.delay.saturating_mul(self.tries);
        while !left.is_zero() && !self.shared.cancel.is_cancelled() {
            let nap = left.min(TICK);
            std::thread::sleep(nap);
            left -= nap;
            if self.control.look() == Sign::Gone {
                return;
            }
        }
    }

    /// Answers AUTH. What a client sent behind it in the clear, somebody else may have put there:
    /// it must not count as said within TLS.
    pub(super) fn secure_commands(&mut self, mechanism: &[u8]) -> Answer {
        let known = ["TLS", "TLS-C", "SSL"];
        let mechanism = mechanism.trim_ascii();
        let Some(tls) = &self.shared.options.tls else {
            return refuse(502, "There is no TLS here");
        };
        if self.control.is_tls() {
            return refuse(503, "TLS is on already");
        }
        if !known.iter().any(|word| mechanism.eq_ignore_ascii_case(word.as_bytes())) {
            return refuse(504, "Only TLS is known");
        }
        if self.control.has_more() {
            return refuse(421, "Commands behind AUTH, goodbye");
        }
        let socket = self.control.socket()?;
        self.family = Some(tls.side.family().map_err(io::Error::other)?);
        if !self.control.say(&Reply::new(234, "Go on within TLS")) {
            return Err(Trouble::Over);
        }
        let Some(stream) = self.shake_hands(socket, Speaker::Server) else {
            return Err(Trouble::Over);
        };
        self.control.upgrade(stream);
        // Whoever sits in between may have said all that was said in the clear.
        self.log_out(Login::None);
        self.is_protected = false;
        self.has_buffer_size = false;
        self.place = Place::default();
        self.wanted = Wanted::usual();
        self.restart = 0;
        self.passive = None;
        self.is_epsv_only = false;
        Err(Trouble::Told)
    }

    /// Does the server's part of a handshake.
    pub(super) fn shake_hands(&self, socket: TcpStream, speaker: Speaker) -> Option<ServerStream> {
        let shared = self.shared;
        let mut stream = ServerStream::new(self.family.as_ref()?, socket, speaker).ok()?;
        let since = shared.clock.now();
        while !shared.cancel.is_cancelled() {
            if shared.clock.now().seconds_since(since) > HANDSHAKE_LIMIT.as_secs_f64() {
                return None;
            }
            match stream.shake_hands() {
                Ok(true) => {}
                Ok(false) => return Some(stream),
                Err(e) if is_tick(&e) => {}
                Err(e) => {
                    self.log(&format!("no TLS: {e}"));
                    return None;
                }
            }
        }
        None
    }

    pub(super) fn buffer_size(&mut self) -> Answer {
        if !self.control.is_tls() {
            return refuse(503, "Say AUTH TLS first");
        }
        self.has_buffer_size = true;
        Ok(Reply::new(200, "PBSZ=0"))
    }

    pub(super) fn protect(&mut self, level: &[u8]) -> Answer {
        if !self.control.is_tls() || !self.has_buffer_size {
            return refuse(503, "Say AUTH TLS and PBSZ 0 first");
        }
        match level.trim_ascii() {
            b"P" | b"p" => {
                self.is_protected = true;
                Ok(Reply::new(200, "Data goes within TLS"))
            }
            b"C" | b"c" if self.needs_tls() => refuse(534, "Data goes within TLS here"),
            b"C" | b"c" => {
                self.is_protected = false;
                Ok(Reply::new(200, "Data goes in the clear"))
            }
            _ => refuse(536, "Only C and P are known"),
        }
    }

    /// Says whether data connections must prove that they are this client's.
    pub(super) fn needs_resumption(&self) -> bool {
        let tls = self.shared.options.tls.as_ref();
        tls.is_some_and(|tls| tls.demand == Demand::Resumed)
    }
}
