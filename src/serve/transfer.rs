//! Bytes over a data connection, one way, with an eye on the commands meanwhile.

use crate::base::cancel::Cancel;
use crate::base::limits::MIB;
use crate::serve::control::Control;
use crate::serve::control::Sign;
use crate::serve::reply::Reply;
use crate::serve::stream::Silence;
use crate::serve::stream::Stream;
use crate::serve::stream::is_tick;
use std::io;
use std::io::Read;
use std::io::Write;
use std::time::Duration;

/// Why a transfer broke off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// The client asked for it.
    Aborted,
    /// The data connection broke, or ended without TLS's last word.
    Lost,
    /// The client is gone.
    Gone,
    /// Nothing moved for too long.
    Silent,
    /// The server stops.
    Stopping,
}

impl Cut {
    /// Returns what the client is told.
    pub(super) fn reply(self) -> Reply {
        let text = match self {
            Cut::Aborted => "Transfer aborted",
            Cut::Lost | Cut::Gone => "Data connection broke off; transfer aborted",
            Cut::Silent => "Nothing was transferred for too long; transfer aborted",
            Cut::Stopping => "Server is stopping; transfer aborted",
        };
        Reply::new(426, text)
    }
}

/// A data connection in use.
pub(super) struct Transfer<'a> {
    stream: Stream,
    control: &'a mut Control,
    cancel: &'a Cancel,
    silence: Silence,
    unwatched: usize,
}

impl<'a> Transfer<'a> {
    /// Begins. `limit` is how long nothing may move.
    pub(super) fn new(
        stream: Stream,
        control: &'a mut Control,
        cancel: &'a Cancel,
        limit: Duration,
    ) -> Self {
        Transfer { stream, control, cancel, silence: Silence::new(limit), unwatched: 0 }
    }

    /// Sends all of `bytes`.
    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<(), Cut> {
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.stream.write(rest) {
                // TLS has no room for more; as good as a tick.
                Ok(0) => self.failed(&io::ErrorKind::WouldBlock.into())?,
                Ok(sent) => {
                    rest = &rest[sent..];
                    self.moved(sent)?;
                }
                Err(e) => self.failed(&e)?,
            }
        }
        Ok(())
    }

    /// Receives some bytes; none at the end of what the client sends.
    pub(super) fn receive(&mut self, buffer: &mut [u8]) -> Result<usize, Cut> {
        loop {
            match self.stream.read(buffer) {
                Ok(received) => {
                    self.moved(received)?;
                    return Ok(received);
                }
                Err(e) => self.failed(&e)?,
            }
        }
    }

    /// Ends the connection well, so that the client knows it has all.
    pub(super) fn finish(mut self) -> Result<(), Cut> {
        self.stream.say_goodbye();
        while let Err(e) = self.stream.flush() {
            self.failed(&e)?;
        }
        self.stream.shut();
        Ok(())
    }

    /// Makes sure that the client means the end of the data to be the end of the file. One that was
    /// killed, or that says ABOR and then hangs up, leaves a data connection that looks as if it
    /// had ended well; so does one that had said more commands before it was killed.
    pub(super) fn confirm(&mut self) -> Result<(), Cut> {
        self.look()?;
        if self.control.can_be_heard() { Ok(()) } else { Err(Cut::Gone) }
    }

    /// Breaks off where the client wants that, or went and has nothing more to ask.
    fn look(&mut self) -> Result<(), Cut> {
        match self.control.look() {
            Sign::None => Ok(()),
            Sign::Abort => Err(Cut::Aborted),
            Sign::Gone => Err(Cut::Gone),
        }
    }

    fn moved(&mut self, bytes: usize) -> Result<(), Cut> {
        self.silence.break_off();
        self.unwatched += bytes;
        if self.unwatched < MIB {
            return Ok(());
        }
        self.unwatched = 0;
        self.watch()
    }

    fn failed(&mut self, error: &io::Error) -> Result<(), Cut> {
        match error.kind() {
            io::ErrorKind::Interrupted => Ok(()),
            _ if !is_tick(error) => Err(Cut::Lost),
            _ if !self.silence.lasts() => Err(Cut::Silent),
            _ => self.watch(),
        }
    }

    fn watch(&mut self) -> Result<(), Cut> {
        if self.cancel.is_cancelled() {
            return Err(Cut::Stopping);
        }
        self.look()
    }
}
