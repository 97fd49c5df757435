//! A server's part of TLS.
//!
//! It shows one certificate. With each client it has keys of its own for the sessions that may be
//! resumed, so that a data connection of FTP can prove that it belongs to the one that commands
//! come from.

use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::path::display;
use rustls::HandshakeKind;
use rustls::ServerConfig;
use rustls::ServerConnection;
use rustls::StreamOwned;
use rustls::crypto::aws_lc_rs as provider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::ServerSessionMemoryCache;
use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

/// Sessions that a client is given at once to resume: some use each only once.
const TICKETS: usize = 8;

/// What a server shows.
#[derive(Clone, Debug)]
pub struct Side(ServerConfig);

/// What connections of one client have in common: only among these is a session resumed, so one
/// that resumes one is that client's.
#[derive(Clone, Debug)]
pub struct Family {
    /// Gives sessions to resume.
    giving: Arc<ServerConfig>,
    /// Gives none.
    quiet: Arc<ServerConfig>,
}

/// Who speaks on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaker {
    /// Both, or the server.
    Server,
    /// The client alone. What the server then says besides, such as sessions to resume, the client
    /// never reads, and when it closes, its system takes that for a connection that broke.
    Client,
}

/// Reads a certificate with those that vouch for it, and its key, both PEM: what a server shows.
///
/// # Errors
/// `InvalidInput` when a file cannot be read, is no PEM, or the two do not belong together.
pub fn side(certificate: &Path, key: &Path) -> Result<Side> {
    let unreadable = |what: &str, path: &Path, e: rustls::pki_types::pem::Error| {
        let shown = display(path.as_os_str().as_bytes());
        Error::invalid(format!("cannot read the {what} in {shown}"))
            .caused_by(e)
            .hint("a PEM file is wanted, as `openssl req -x509` or a certificate authority gives")
    };
    let certificates = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>)
        .map_err(|e| unreadable("certificate", certificate, e))?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|e| unreadable("key", key, e))?;
    let unfit = |e: rustls::Error| {
        Error::invalid("the TLS certificate and its key cannot be used").caused_by(e)
    };
    ServerConfig::builder_with_provider(Arc::new(provider::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(unfit)?
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .map(Side)
        .map_err(unfit)
}

impl Side {
    /// Begins with a client: keys and a memory for its sessions alone.
    ///
    /// # Errors
    /// `Bug` when the system has no random bytes.
    pub fn family(&self) -> Result<Family> {
        let mut config = self.0.clone();
        // Sealed tickets, as a client resumes one session for each file anew, and what a server
        // keeps of a session of TLS 1.3 it gives back once.
        config.ticketer = provider::Ticketer::new()
            .map_err(|e| Error::bug("TLS has no keys for tickets").caused_by(e))?;
        config.session_storage = ServerSessionMemoryCache::new(TICKETS);
        config.send_tls13_tickets = 0;
        let quiet = Arc::new(config.clone());
        config.send_tls13_tickets = TICKETS;
        Ok(Family { giving: Arc::new(config), quiet })
    }
}

/// The server's end of a connection within TLS.
#[derive(Debug)]
pub struct ServerStream(StreamOwned<ServerConnection, TcpStream>);

impl ServerStream {
    /// Prepares TLS on a connection whose next bytes are the client's greeting.
    ///
    /// # Errors
    /// `Bug`: the configuration is of no use.
    pub fn new(family: &Family, socket: TcpStream, speaker: Speaker) -> Result<Self> {
        let config = if speaker == Speaker::Server { &family.giving } else { &family.quiet };
        let connection = ServerConnection::new(Arc::clone(config))
            .map_err(|e| Error::bug("TLS cannot begin").caused_by(e))?;
        Ok(ServerStream(StreamOwned::new(connection, socket)))
    }

    /// Goes a step on with the handshake; false once it is done. A step waits for the socket once,
    /// so that whoever calls can look at the clock between.
    ///
    /// # Errors
    /// `WouldBlock` when the socket's time limit is over; the client's faults; those of the system.
    pub fn shake_hands(&mut self) -> std::io::Result<bool> {
        let StreamOwned { conn, sock } = &mut self.0;
        if conn.wants_write() {
            conn.write_tls(sock)?;
            return Ok(true);
        }
        if !conn.is_handshaking() {
            return Ok(false);
        }
        if conn.read_tls(sock)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if let Err(e) = conn.process_new_packets() {
            // The client is told why, if it still listens.
            let _ = conn.write_tls(sock);
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, e));
        }
        Ok(true)
    }

    /// Says whether the handshake resumed a session of the family.
    pub fn is_resumed(&self) -> bool {
        self.0.conn.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// Returns the connection below.
    pub fn socket(&self) -> &TcpStream {
        &self.0.sock
    }

    /// Says the last word; it goes out with the next flush.
    pub fn say_goodbye(&mut self) {
        self.0.conn.send_close_notify();
    }
}

impl Read for ServerStream {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for ServerStream {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}
