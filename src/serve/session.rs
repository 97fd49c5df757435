//! One client's session: commands in, replies out, in order.

use crate::base::cancel::Cancel;
use crate::base::limits::SERVE_COPY_BYTES;
use crate::base::path::display;
use crate::base::time::Clock;
use crate::base::time::Timestamp;
use crate::net::tls::server::Family;
use crate::serve::Demand;
use crate::serve::Options;
use crate::serve::control::Control;
use crate::serve::control::Next;
use crate::serve::control::without_marks;
use crate::serve::listing::Wanted;
use crate::serve::login::Login;
use crate::serve::passive::Passive;
use crate::serve::place::Place;
use crate::serve::reply::Reply;
use crate::serve::reply::Trouble;
use crate::serve::reply::refuse;
use crate::serve::tree::Tree;
use crate::serve::users::Rights;
use crate::serve::users::Users;
use std::io;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::time::Duration;

/// What all sessions share.
pub(super) struct Shared<'a> {
    pub(super) tree: &'a Tree,
    pub(super) users: &'a Users,
    pub(super) options: &'a Options,
    pub(super) clock: &'a dyn Clock,
    pub(super) cancel: &'a Cancel,
    pub(super) log: &'a (dyn Fn(&str) + Sync),
}

/// What a command comes to.
pub(super) type Answer = Result<Reply, Trouble>;

/// A session.
pub(super) struct Session<'a> {
    pub(super) shared: &'a Shared<'a>,
    pub(super) number: u64,
    /// Since when it may log in.
    pub(super) since: Timestamp,
    pub(super) control: Control,
    /// Where the client is, and the address that it came to.
    pub(super) peer: IpAddr,
    pub(super) local: IpAddr,
    /// Ties data connections to this session, once it is within TLS.
    pub(super) family: Option<Family>,
    pub(super) login: Login,
    pub(super) tries: u32,
    /// Whether data connections are within TLS, and whether that was prepared.
    pub(super) is_protected: bool,
    pub(super) has_buffer_size: bool,
    /// Where it stands.
    pub(super) place: Place,
    pub(super) wanted: Wanted,
    pub(super) restart: u64,
    pub(super) renamed: Option<Place>,
    pub(super) passive: Option<Passive>,
    pub(super) is_epsv_only: bool,
    pub(super) buffer: Vec<u8>,
}

impl<'a> Session<'a> {
    /// Takes a client over.
    pub(super) fn new(
        shared: &'a Shared<'a>,
        number: u64,
        socket: TcpStream,
        peer: SocketAddr,
    ) -> io::Result<Self> {
        Ok(Session {
            local: socket.local_addr()?.ip().to_canonical(),
            peer: peer.ip().to_canonical(),
            control: Control::new(socket)?,
            family: None,
            since: shared.clock.now(),
            shared,
            number,
            login: Login::None,
            tries: 0,
            is_protected: false,
            has_buffer_size: false,
            place: Place::default(),
            wanted: Wanted::usual(),
            restart: 0,
            renamed: None,
            passive: None,
            is_epsv_only: false,
            buffer: vec![0; SERVE_COPY_BYTES],
        })
    }

    /// Serves the client until it leaves.
    pub(super) fn run(mut self) {
        let mut reply = Some(Reply::new(220, "icecore serves a folder"));
        loop {
            if let Some(reply) = reply.take() {
                let is_last = matches!(reply.code, 221 | 421);
                if !self.control.say(&reply) || is_last {
                    break;
                }
            }
            let (clock, cancel) = (self.shared.clock, self.shared.cancel);
            reply = match self.control.next(self.patience(), clock, cancel) {
                Next::Line(line) => match self.obey(&line) {
                    Ok(reply) | Err(Trouble::Refused(reply)) => Some(reply),
                    Err(Trouble::Told) => None,
                    Err(Trouble::Over) => break,
                },
                Next::TooLong => Some(Reply::new(500, "Line is too long")),
                Next::Idle => Some(Reply::new(421, "Nothing was asked for too long, goodbye")),
                Next::Stopping => Some(Reply::new(421, "Server is stopping, goodbye")),
                Next::Gone => break,
            };
        }
        self.control.close();
    }

    /// Returns how long to wait for the next command: who has not logged in has one time for all.
    fn patience(&self) -> Duration {
        let limits = &self.shared.options.limits;
        if self.rights().is_some() {
            return limits.idle;
        }
        let spent = self.shared.clock.now().seconds_since(self.since).max(0.0);
        let spent = Duration::try_from_secs_f64(spent).unwrap_or(Duration::MAX);
        limits.login.saturating_sub(spent)
    }

    /// Returns what the client may do; None before it has logged in.
    pub(super) fn rights(&self) -> Option<Rights> {
        match &self.login {
            Login::Done(Rights::Write) => Some(self.shared.options.rights),
            Login::Done(Rights::Read) => Some(Rights::Read),
            Login::None | Login::Named(_) => None,
        }
    }

    /// Says whether TLS is a must.
    pub(super) fn needs_tls(&self) -> bool {
        let tls = self.shared.options.tls.as_ref();
        tls.is_some_and(|tls| tls.demand != Demand::Nobody)
    }

    /// Returns where a path leads from here.
    pub(super) fn place_of(&self, path: &[u8]) -> Result<Place, Trouble> {
        if path.is_empty() {
            return refuse(501, "A name is missing");
        }
        let refused = || Trouble::Refused(Reply::new(553, "Name is not allowed"));
        self.place.at(path).ok_or_else(refused)
    }

    /// Tells what happens beside.
    pub(super) fn log(&self, text: &str) {
        (self.shared.log)(&format!("{}: {text}", self.number));
    }

    fn obey(&mut self, line: &[u8]) -> Answer {
        let line = without_marks(line);
        let end = line.iter().position(|&byte| byte == b' ').unwrap_or(line.len());
        let verb = String::from_utf8_lossy(&line[..end]).to_ascii_uppercase();
        let argument = line.get(end + 1..).unwrap_or_default();
        if verb != "RNTO" {
            self.renamed = None;
        }
        let answer = match self.rights() {
            None if !is_for_all(&verb) => refuse(530, "Log in with USER and PASS first"),
            Some(Rights::Read) if is_writing(&verb) => refuse(550, "Permission denied: read only"),
            _ => self.dispatch(&verb, argument),
        };
        let code = match &answer {
            Ok(reply) | Err(Trouble::Refused(reply)) => reply.code.to_string(),
            Err(Trouble::Told) => "done".to_owned(),
            Err(Trouble::Over) => "over".to_owned(),
        };
        let shown = match is_known(&verb) {
            true if verb == "PASS" => "PASS ..".to_owned(),
            true => format!("{verb} {}", display(argument)),
            // It may be a password all the same: behind a tab, or words without a PASS.
            false => "..".to_owned(),
        };
        self.log(&format!("{shown} -> {code}"));
        answer
    }

    fn dispatch(&mut self, verb: &str, argument: &[u8]) -> Answer {
        match verb {
            "USER" => self.user(argument),
            "PASS" => self.password(argument),
            "AUTH" => self.secure_commands(argument),
            "PBSZ" => self.buffer_size(),
            "PROT" => self.protect(argument),
            "CCC" => refuse(533, "Commands stay within TLS"),
            "QUIT" => Ok(Reply::new(221, "Goodbye")),
            "NOOP" => Ok(Reply::new(200, "Still here")),
            "SYST" => Ok(Reply::new(215, "UNIX Type: L8")),
            "FEAT" => Ok(self.features()),
            "HELP" => Ok(Reply::of_lines(214, lines(&["Commands:", COMMANDS, "End"]))),
            "OPTS" => self.choose(argument),
            "CLNT" => Ok(Reply::new(200, "Welcome")),
            "STAT" => Ok(Reply::new(211, "All is well")),
            "ABOR" => Ok(Reply::new(226, "Nothing is under way")),
            "ALLO" => Ok(Reply::new(202, "Not necessary")),
            // Content goes as it is in both types: a byte more or less is not the same file.
            "TYPE" => one_of(argument, &["A", "A N", "I", "L 8"], "Content goes as it is"),
            "MODE" => one_of(argument, &["S"], "Mode is stream"),
            "STRU" => one_of(argument, &["F"], "Structure is file"),
            "PORT" | "EPRT" => refuse(500, "Only passive transfers: use EPSV or PASV"),
            "PASV" => self.pasv(),
            "EPSV" => self.epsv(argument),
            "REST" => self.restart(argument),
            "RETR" => self.retrieve(argument),
            "STOR" => self.store(argument),
            "APPE" => self.append(argument),
            "LIST" => self.list_long(argument),
            "NLST" => self.list_names(argument),
            "MLSD" => self.list_facts(argument),
            "MLST" => self.one_fact(argument),
            "PWD" | "XPWD" => Ok(self.print_place()),
            "CWD" | "XCWD" => self.go(argument),
            "CDUP" | "XCUP" => self.go(b".."),
            "SIZE" => self.size(argument),
            "MDTM" => self.modified(argument),
            "MFMT" => self.set_modified(argument),
            "DELE" => self.remove_file(argument),
            "MKD" | "XMKD" => self.make_folder(argument),
            "RMD" | "XRMD" => self.remove_folder(argument),
            "RNFR" => self.rename_from(argument),
            "RNTO" => self.rename_to(argument),
            "SITE" => self.site(argument),
            _ => refuse(502, "Command is not known here"),
        }
    }

    fn features(&self) -> Reply {
        let mut features = vec!["Features:".to_owned()];
        if self.shared.options.tls.is_some() {
            features.extend(["AUTH TLS", "PBSZ", "PROT"].map(str::to_owned));
        }
        features.extend(["EPSV", "MDTM", "MFMT"].map(str::to_owned));
        features.push(format!("MLST {}", self.wanted.shown(Some('*'))));
        features.extend(["REST STREAM", "SIZE", "TVFS", "UTF8", "End"].map(str::to_owned));
        Reply::of_lines(211, features.into_iter().map(String::into_bytes).collect())
    }

    fn choose(&mut self, argument: &[u8]) -> Answer {
        let text = String::from_utf8_lossy(argument).into_owned();
        let (word, rest) = text.split_once(' ').unwrap_or((&text, ""));
        match word.to_ascii_uppercase().as_str() {
            // Names are bytes, and as good as always UTF-8.
            "UTF8" | "UTF-8" => Ok(Reply::new(200, "Names are bytes")),
            "MLST" => {
                self.wanted = Wanted::parse(rest);
                Ok(Reply::new(200, format!("MLST OPTS {}", self.wanted.shown(None))))
            }
            _ => refuse(501, "Option is not known"),
        }
    }
}

const COMMANDS: &str = "ABOR ALLO APPE AUTH CDUP CWD DELE EPSV FEAT HELP LIST MDTM MFMT MKD MLSD \
    MLST MODE NLST NOOP OPTS PASS PASV PBSZ PROT PWD QUIT REST RETR RMD RNFR RNTO SITE SIZE STAT \
    STOR STRU SYST TYPE USER";
/// What is answered as well: older names, and what is refused by its own reason.
const OTHER_COMMANDS: &str = "CCC CLNT EPRT PORT XCUP XCWD XMKD XPWD XRMD";

/// Says whether something is a command that the server knows.
fn is_known(verb: &str) -> bool {
    [COMMANDS, OTHER_COMMANDS].iter().any(|known| known.split(' ').any(|word| word == verb))
}

/// Says whether a command is for those, too, who have not logged in.
fn is_for_all(verb: &str) -> bool {
    let known = ["USER", "PASS", "AUTH", "PBSZ", "PROT", "FEAT", "OPTS", "SYST", "HELP", "NOOP"];
    known.contains(&verb) || matches!(verb, "QUIT" | "CLNT")
}

/// Says whether a command changes something.
fn is_writing(verb: &str) -> bool {
    let known = ["STOR", "APPE", "DELE", "RNFR", "RNTO", "MKD", "XMKD", "RMD", "XRMD", "MFMT"];
    known.contains(&verb) || verb == "SITE"
}

fn one_of(argument: &[u8], known: &[&str], text: &str) -> Answer {
    let argument = argument.trim_ascii();
    match known.iter().any(|word| argument.eq_ignore_ascii_case(word.as_bytes())) {
        true => Ok(Reply::new(200, text)),
        false => refuse(504, "Not done here"),
    }
}

fn lines(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}
