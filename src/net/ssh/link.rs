//! One SSH connection with an `sftp` channel, as a wire: a thread with a runtime of its own.
//!
//! The thread takes from the channel whatever comes, so that nothing else of the connection ever
//! waits for the session, and puts into it what the session sends, as its window allows. It asks
//! the server for a sign of life when it hears nothing, and ends with the connection, or a moment
//! after the session.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::limits::SSH_WINDOW_BYTES;
use crate::base::path::display;
use crate::net::sftp::wire;
use crate::net::sftp::wire::Inlet;
use crate::net::sftp::wire::Outlet;
use crate::net::sftp::wire::Wire;
use crate::net::ssh::guard::Guard;
use crate::net::ssh::guard::Shown;
use crate::net::ssh::guard::Told;
use crate::net::ssh::known_hosts::KnownHosts;
use crate::net::ssh::known_hosts::Verdict;
use crate::net::ssh::login;
use crate::net::ssh::login::Outcome;
use crate::net::ssh::login::Proofs;
use crate::net::tcp;
use russh::ChannelMsg;
use russh::ChannelReadHalf;
use russh::ChannelWriteHalf;
use russh::Disconnect;
use russh::Preferred;
use russh::client;
use russh::client::Handle;
use russh::client::Msg;
use russh::keys::Algorithm;
use std::borrow::Cow;
use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::timeout;

/// How often the thread looks whether the session is still there, when nothing else happens.
const LOOK: Duration = Duration::from_millis(500);
/// How long the rest of a word may take that came in part.
const BLINK: Duration = Duration::from_millis(10);
/// Looks after which a connection whose session ended is dropped without a word.
const LOOKS_MAX: usize = 4;

/// What a connection is made of.
pub(super) struct Plan {
    pub(super) host: String,
    pub(super) port: u16,
    /// The server, for messages.
    pub(super) place: String,
    /// What the host is looked up by.
    pub(super) name: String,
    pub(super) known: Arc<KnownHosts>,
    pub(super) proofs: Proofs,
    pub(super) limits: tcp::Limits,
}

/// Why there is no connection.
pub(super) enum Failure {
    /// The host showed a key that is not known.
    NotKnown(Shown),
    /// The server hung up after the proof of this number.
    HungUp(usize),
    /// It hung up over that proof, and nobody knows what it thinks of it.
    Unanswered(usize),
    Other(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Other(error)
    }
}

/// A connection as a wire.
pub(super) struct Link {
    sender: UnboundedSender<Vec<u8>>,
    outlet: Outlet,
    told: Arc<Mutex<Told>>,
    is_left: Arc<AtomicBool>,
}

impl Wire for Link {
    fn send(&mut self, bytes: Vec<u8>) -> io::Result<()> {
        self.sender.send(bytes).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn receive(&mut self, limit: Duration) -> io::Result<Option<Vec<u8>>> {
        self.outlet.take(limit)
    }

    fn said(&self) -> String {
        self.told.lock().map(|told| told.words.clone()).unwrap_or_default()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.is_left.store(true, Ordering::Relaxed);
    }
}

/// Connects, checks who answers, logs in and opens the channel. Proofs before the one of number
/// `from` were tried before; what is tried is added to `tried`.
///
/// # Errors
/// See [`Failure`].
pub(super) fn open(
    plan: &Arc<Plan>,
    from: usize,
    tried: &Arc<Mutex<Vec<String>>>,
) -> Result<Link, Failure> {
    let stream = tcp::connect(&plan.host, plan.port, &plan.limits)?;
    greet(plan, &stream)?;
    let (inlet, outlet) = wire::queue();
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    let (ready, is_ready) = mpsc::sync_channel(1);
    let told = Arc::new(Mutex::new(Told::default()));
    let is_left = Arc::new(AtomicBool::new(false));
    let thread = Thread {
        plan: Arc::clone(plan),
        from,
        tried: Arc::clone(tried),
        told: Arc::clone(&told),
        is_left: Arc::clone(&is_left),
        inlet,
        receiver,
        ready,
    };
    thread::Builder::new()
        .name("ssh".to_owned())
        .spawn(move || thread.run(stream))
        .map_err(|e| Error::io("cannot start a thread", e))?;
    let link = Link { sender, outlet, told, is_left };
    match is_ready.recv() {
        Ok(Ok(())) => Ok(link),
        Ok(Err(failure)) => Err(failure),
        Err(_) => Err(Error::bug("the thread of an SSH connection ended").into()),
    }
}

/// Looks at what the server says first, and leaves it there: servers that are no SSH servers, or
/// let nobody else in, say so.
fn greet(plan: &Plan, stream: &TcpStream) -> Result<(), Failure> {
    let mut greeting = [0; 256];
    let mut length = 0;
    for _ in 0..=plan.limits.silence.div_duration_f32(BLINK) as u64 {
        length = stream.peek(&mut greeting).map_err(|e| tcp::unreachable(&plan.place, e))?;
        if length == 0 || length >= 4 {
            break;
        }
        thread::sleep(BLINK);
    }
    let greeting = greeting.get(..length).unwrap_or_default();
    if greeting.starts_with(b"SSH-") {
        return Ok(());
    }
    let text = String::from_utf8_lossy(greeting);
    let said = display(text.lines().next().unwrap_or_default().as_bytes());
    let error = if said.starts_with("Exceeded MaxStartups") || said.starts_with("Not allowed at") {
        Error::new(ErrorKind::RateLimited, format!("{} lets nobody else in: {said}", plan.place))
    } else if length == 0 {
        Error::new(ErrorKind::Unreachable, format!("{} hung up at once", plan.place))
            .hint("it may let in no more connections, or none from here")
    } else {
        // Lines before the version are allowed, and hardly any server has them.
        if text.contains("\nSSH-") {
            return Ok(());
        }
        Error::new(ErrorKind::Unreachable, format!("{} is no SSH server: {said}", plan.place))
            .hint("look at the port: SSH is mostly at 22")
    };
    Err(error.into())
}

/// What the thread of a connection holds.
struct Thread {
    plan: Arc<Plan>,
    from: usize,
    tried: Arc<Mutex<Vec<String>>>,
    told: Arc<Mutex<Told>>,
    is_left: Arc<AtomicBool>,
    inlet: Inlet,
    receiver: UnboundedReceiver<Vec<u8>>,
    ready: mpsc::SyncSender<Result<(), Failure>>,
}

type Channel = (Handle<Guard>, ChannelReadHalf, ChannelWriteHalf<Msg>);

impl Thread {
    fn run(self, stream: TcpStream) {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
        match runtime {
            Ok(runtime) => {
                runtime.block_on(self.serve(stream));
                runtime.shutdown_background();
            }
            Err(e) => {
                let _ = self.ready.send(Err(Error::io("cannot start a runtime", e).into()));
            }
        }
    }

    async fn serve(mut self, stream: TcpStream) {
        let (handle, mut reads, writes) = match self.open(stream).await {
            Ok(channel) => channel,
            Err(failure) => {
                let _ = self.ready.send(Err(failure));
                return;
            }
        };
        let _ = self.ready.send(Ok(()));
        let mut receiver = self.receiver;
        let writer = tokio::spawn(async move {
            while let Some(bytes) = receiver.recv().await {
                if writes.data_bytes(bytes).await.is_err() {
                    return;
                }
            }
            // The session is gone: so is the connection.
            let _ = handle.disconnect(Disconnect::ByApplication, "", "").await;
        });
        let mut looks = 0;
        while looks < LOOKS_MAX {
            match timeout(LOOK, reads.wait()).await {
                Ok(Some(ChannelMsg::Data { data })) => {
                    if !self.inlet.put(Vec::from(data)) {
                        break;
                    }
                }
                Ok(Some(ChannelMsg::ExtendedData { data, .. })) => {
                    if let Ok(mut told) = self.told.lock() {
                        told.add(&String::from_utf8_lossy(&data));
                    }
                }
                Ok(Some(ChannelMsg::Eof | ChannelMsg::Close) | None) => break,
                Ok(Some(_)) => {}
                Err(_) if self.is_left.load(Ordering::Relaxed) => looks += 1,
                Err(_) => {}
            }
        }
        if self.is_left.load(Ordering::Relaxed) {
            // The last words may be on their way.
            let _ = timeout(LOOK, writer).await;
        } else {
            writer.abort();
        }
    }

    async fn open(&mut self, stream: TcpStream) -> Result<Channel, Failure> {
        let plan = Arc::clone(&self.plan);
        let silence = plan.limits.silence;
        let late = |_| late(&plan);
        let stream =
            stream.set_nonblocking(true).and_then(|()| tokio::net::TcpStream::from_std(stream));
        let stream = stream.map_err(|e| tcp::unreachable(&plan.place, e))?;
        let guard = Guard {
            known: Arc::clone(&plan.known),
            name: plan.name.clone(),
            told: Arc::clone(&self.told),
        };
        let config = Arc::new(config(&plan));
        let started = timeout(silence, client::connect_stream(config, stream, guard)).await;
        let mut handle = match started.map_err(late)? {
            Ok(handle) => handle,
            Err(error) => return Err(self.not_started(error)),
        };

        let mut tried = Vec::new();
        let login = login::log_in(&mut handle, &plan.proofs, self.from, &mut tried);
        // Agents may ask a person: they get longer than a server.
        let outcome = timeout(silence * 2, login).await;
        if let Ok(mut all) = self.tried.lock() {
            all.append(&mut tried);
        }
        match outcome.map_err(late)? {
            Outcome::In => {}
            Outcome::HungUp(number) => return Err(Failure::HungUp(number)),
            Outcome::Unanswered(number) => return Err(Failure::Unanswered(number)),
            Outcome::Refused => {
                let _ = handle.disconnect(Disconnect::ByApplication, "", "").await;
                return Err(self.denied().into());
            }
        }
        let channel = timeout(silence, open_channel(&handle)).await.map_err(late)?;
        let (reads, writes) = channel.map_err(|cause| self.no_channel(cause))?;
        Ok((handle, reads, writes))
    }

    /// Makes the error of a connection that never stood.
    fn not_started(&self, error: russh::Error) -> Failure {
        let place = &self.plan.place;
        match error {
            russh::Error::UnknownKey => {
                let shown = self.told.lock().ok().and_then(|told| told.shown.clone());
                match shown {
                    Some(shown) if shown.verdict != Verdict::Known => Failure::NotKnown(shown),
                    _ => {
                        let message =
                            format!("{place} shows a certificate, which is not supported");
                        Error::new(ErrorKind::Unsupported, message).into()
                    }
                }
            }
            russh::Error::NoCommonAlgo { kind, ours, theirs } => {
                let theirs = display(theirs.join(", ").as_bytes());
                let message = format!("{place} knows no {kind:?} that is safe: only {theirs}");
                let hint = format!("it has to know one of {}", ours.join(", "));
                Error::new(ErrorKind::Unsupported, message).hint(hint).into()
            }
            error => {
                let message = format!("cannot connect with {place}");
                Error::new(ErrorKind::Unreachable, message).caused_by(error).into()
            }
        }
    }

    /// Makes the error of a login that was refused.
    fn denied(&self) -> Error {
        let tried = self.tried.lock().map(|tried| tried.clone()).unwrap_or_default();
        denied(&self.plan.place, &tried)
    }

    fn no_channel(&self, cause: russh::Error) -> Error {
        use russh::Error as Cause;
        if !matches!(cause, Cause::RequestDenied | Cause::ChannelOpenFailure(_)) {
            // It broke at this moment, which says nothing of what the server has.
            let message = format!("cannot open a session with {}", self.plan.place);
            return Error::new(ErrorKind::Unreachable, message).caused_by(cause);
        }
        let message = format!("{} offers no SFTP: {cause}", self.plan.place);
        Error::new(ErrorKind::Unsupported, message)
            .hint("the server has to have the subsystem `sftp`, and let this user have it")
    }
}

/// Makes the error of a login that was refused, with all that was tried.
pub(super) fn denied(place: &str, tried: &[String]) -> Error {
    let message = match tried {
        [] => format!("cannot log in to {place}: there is no key and no password to try"),
        tried => format!("cannot log in to {place}: tried {}", tried.join(", ")),
    };
    Error::new(ErrorKind::Denied, message)
        .hint("give a key that the server knows, an agent that has it, or the password")
}

fn late(plan: &Plan) -> Failure {
    let seconds = plan.limits.silence.as_secs_f32();
    let message = format!("{} did not answer within {seconds} s", plan.place);
    Error::new(ErrorKind::Unreachable, message).into()
}

async fn open_channel(
    handle: &Handle<Guard>,
) -> Result<(ChannelReadHalf, ChannelWriteHalf<Msg>), russh::Error> {
    let channel = handle.channel_open_session().await?;
    let (mut reads, writes) = channel.split();
    writes.request_subsystem(true, "sftp").await?;
    loop {
        match reads.wait().await {
            Some(ChannelMsg::Success) => return Ok((reads, writes)),
            Some(ChannelMsg::Failure | ChannelMsg::Eof | ChannelMsg::Close) => {
                return Err(russh::Error::RequestDenied);
            }
            None => return Err(russh::Error::HUP),
            Some(_) => {}
        }
    }
}

/// Returns the type of a key as it stands in files of known hosts.
fn type_of(algorithm: &Algorithm) -> &str {
    match algorithm {
        Algorithm::Rsa { .. } => "ssh-rsa",
        other => other.as_str(),
    }
}

fn config(plan: &Plan) -> client::Config {
    let known = plan.known.algorithms(&plan.name);
    let is_safe = |algorithm: &&Algorithm| **algorithm != Algorithm::Rsa { hash: None };
    let all = Preferred::DEFAULT.key.iter().filter(is_safe).cloned();
    // A server shows a key of the first type that it has: one that can be compared, if there is.
    let (mut order, rest): (Vec<_>, Vec<_>) = all.partition(|it| known.contains(&type_of(it)));
    order.extend(rest);
    client::Config {
        window_size: SSH_WINDOW_BYTES,
        maximum_packet_size: 65_535,
        keepalive_interval: Some(plan.limits.silence / 4),
        keepalive_max: 3,
        nodelay: true,
        preferred: Preferred { key: Cow::Owned(order), ..Preferred::DEFAULT },
        ..client::Config::default()
    }
}
