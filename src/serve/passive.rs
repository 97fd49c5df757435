//! Where a client is told to connect to for data, and who is let in there.

use crate::base::cancel::Cancel;
use crate::base::sys;
use crate::serve::control::Control;
use crate::serve::control::Sign;
use crate::serve::stream::Silence;
use crate::serve::stream::TICK;
use std::io;
use std::net::IpAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::ops::RangeInclusive;
use std::time::Duration;

/// How long a client may take to connect for data.
const CONNECT_LIMIT: Duration = Duration::from_secs(20);
/// Connections from other machines that are turned away before the client's own is given up.
const STRANGERS_MAX: usize = 64;

/// A port that one client was told.
#[derive(Debug)]
pub(super) struct Passive {
    listener: TcpListener,
}

impl Passive {
    /// Opens a port of the range, begun at random, or any free one.
    pub(super) fn open(ip: IpAddr, ports: Option<&RangeInclusive<u16>>) -> io::Result<Self> {
        let Some(ports) = ports else { return Self::bind(ip, 0) };
        let start = usize::from(u16::from_le_bytes(sys::random().map_err(io::Error::other)?));
        let count = ports.clone().count().max(1);
        let mut last = io::Error::from(io::ErrorKind::AddrInUse);
        for port in ports.clone().cycle().skip(start % count).take(count) {
            match Self::bind(ip, port) {
                Err(e) if e.kind() == io::ErrorKind::AddrInUse => last = e,
                done => return done,
            }
        }
        Err(last)
    }

    fn bind(ip: IpAddr, port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((ip, port))?;
        listener.set_nonblocking(true)?;
        Ok(Passive { listener })
    }

    /// Returns the port.
    pub(super) fn port(&self) -> io::Result<u16> {
        Ok(self.listener.local_addr()?.port())
    }

    /// Waits for the client's connection. Who comes from another address is turned away: without
    /// that, whoever is quickest could take a file, or put one in the client's name.
    pub(super) fn accept(
        self,
        peer: IpAddr,
        control: &mut Control,
        cancel: &Cancel,
    ) -> Option<TcpStream> {
        let mut silence = Silence::new(CONNECT_LIMIT);
        let mut strangers = 0;
        while strangers < STRANGERS_MAX {
            if sys::wait_readable(&self.listener, TICK).ok()? {
                match self.listener.accept() {
                    Ok((socket, from)) if from.ip().to_canonical() == peer => return Some(socket),
                    Ok(_) => strangers += 1,
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                    Err(_) => strangers += 1,
                }
                continue;
            }
            if cancel.is_cancelled() || control.look() != Sign::None || !silence.lasts() {
                return None;
            }
        }
        None
    }
}
