//! A server behind the pipes of a program: `sftp-server` itself, or `ssh HOST -s sftp`.

use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::limits::KIB;
use crate::base::limits::SAID_BYTES_MAX;
use crate::base::limits::SILENCE_SECONDS;
use crate::net::files::Connect;
use crate::net::files::Files;
use crate::net::sftp;
use crate::net::sftp::wire;
use crate::net::sftp::wire::Outlet;
use crate::net::sftp::wire::Wire;
use std::ffi::OsString;
use std::io;
use std::io::Read;
use std::io::Write;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// A program that speaks SFTP on its standard input and output; each session starts one.
#[derive(Clone, Debug)]
pub struct Program {
    program: PathBuf,
    arguments: Vec<OsString>,
    silence: Duration,
}

impl Program {
    /// Names the program and its arguments.
    pub fn new(program: impl Into<PathBuf>, arguments: Vec<OsString>) -> Self {
        let silence = Duration::from_secs(SILENCE_SECONDS);
        Program { program: program.into(), arguments, silence }
    }

    /// Sets how long an answer may take.
    pub fn silence(mut self, limit: Duration) -> Self {
        self.silence = limit;
        self
    }
}

impl Connect for Program {
    fn connect(&self) -> Result<Box<dyn Files>> {
        let wire = Pipes::start(&self.program, &self.arguments)
            .map_err(|cause| Error::io(format!("cannot start {}", self.shown()), cause))?;
        sftp::begin(Box::new(wire), self.shown(), self.silence)
    }

    fn shown(&self) -> String {
        self.program.display().to_string()
    }
}

/// The pipes of a running program.
struct Pipes {
    child: Child,
    /// None once the wire closes.
    sender: Option<mpsc::Sender<Vec<u8>>>,
    outlet: Outlet,
    said: Arc<Mutex<Vec<u8>>>,
}

impl Pipes {
    fn start(program: &PathBuf, arguments: &[OsString]) -> io::Result<Self> {
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let (inlet, outlet) = wire::queue();
        let (sender, receiver) = mpsc::channel::<Vec<u8>>();
        let (input, output, words) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let said = Arc::new(Mutex::new(Vec::new()));
        // From here on the program is ended with the wire.
        let pipes = Pipes { child, sender: Some(sender), outlet, said: Arc::clone(&said) };

        let named = |name: &str| thread::Builder::new().name(name.to_owned());
        named("sftp-out").spawn(move || {
            let Some(mut input) = input else { return };
            for bytes in receiver {
                if input.write_all(&bytes).and_then(|()| input.flush()).is_err() {
                    return;
                }
            }
        })?;
        named("sftp-in").spawn(move || {
            let Some(mut output) = output else { return };
            let mut buffer = vec![0; 256 * KIB];
            loop {
                match output.read(&mut buffer) {
                    Ok(0) => return,
                    Ok(length) if inlet.put(buffer[..length].to_vec()) => {}
                    Ok(_) => return,
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(e) => return inlet.fail(e),
                }
            }
        })?;
        named("sftp-words").spawn(move || {
            let Some(mut words) = words else { return };
            let mut buffer = [0; KIB];
            while let Ok(length @ 1..) = words.read(&mut buffer) {
                let Ok(mut said) = said.lock() else { return };
                let room = SAID_BYTES_MAX.saturating_sub(said.len());
                said.extend_from_slice(&buffer[..length.min(room)]);
            }
        })?;
        Ok(pipes)
    }
}

impl Wire for Pipes {
    fn send(&mut self, bytes: Vec<u8>) -> io::Result<()> {
        let sent = self.sender.as_ref().is_some_and(|sender| sender.send(bytes).is_ok());
        sent.then_some(()).ok_or_else(|| io::ErrorKind::BrokenPipe.into())
    }

    fn receive(&mut self, limit: Duration) -> io::Result<Option<Vec<u8>>> {
        self.outlet.take(limit)
    }

    fn said(&self) -> String {
        let said = self.said.lock().map(|said| said.clone()).unwrap_or_default();
        String::from_utf8_lossy(&said).into_owned()
    }
}

/// What was to be kept was waited for by the session: nothing is lost by ending the program.
impl Drop for Pipes {
    fn drop(&mut self) {
        self.sender = None;
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
