//! TLS: the one home of the library that does it.
//!
//! Certificates are checked always, against those the system trusts and, where one is named, those
//! of a file. There is no way to switch that off.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::limits::TLS_REST_BYTES_MAX;
use crate::base::path::display;
use crate::net::tcp::unreachable;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use std::fmt;
use std::io::Read;
use std::io::Write;
use std::net::Shutdown;
use std::net::TcpStream;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

pub mod server;

/// Whom to trust.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roots {
    /// A file with certificates of authorities (PEM), trusted beside those of the system.
    pub extra: Option<PathBuf>,
}

/// Returns what a client needs, with a cache of sessions of its own.
///
/// # Errors
/// As [`Client::new`].
pub fn config(roots: &Roots) -> Result<Arc<rustls::ClientConfig>> {
    Ok(Client::new(roots)?.session().0)
}

/// What all connections with one server have in common. The certificates are read once.
#[derive(Clone)]
pub struct Client {
    newest: rustls::ClientConfig,
    lasting: rustls::ClientConfig,
}

/// What connections have in common that belong together: whoever shows a server the session of
/// another one of them is known to it.
#[derive(Clone)]
pub struct Session(Arc<rustls::ClientConfig>);

impl Client {
    /// Reads the certificates to trust.
    ///
    /// # Errors
    /// `InvalidInput` when the file that was named has none, or there are none at all.
    pub fn new(roots: &Roots) -> Result<Self> {
        let store = Arc::new(store(roots)?);
        let newest = built(&store, rustls::DEFAULT_VERSIONS)?;
        Ok(Client { newest, lasting: built(&store, &[&rustls::version::TLS12])? })
    }

    /// Begins anew: nothing of earlier sessions is shown to the server.
    pub fn session(&self) -> Session {
        begun(&self.newest)
    }

    /// Begins anew, in a way that the session can be taken up any number of times: by TLS 1.2. In
    /// TLS 1.3 each time uses up a ticket, and servers give few.
    pub fn lasting_session(&self) -> Session {
        begun(&self.lasting)
    }
}

fn built(
    store: &Arc<rustls::RootCertStore>,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> Result<rustls::ClientConfig> {
    let builder = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .map_err(|e| Error::bug("TLS has no versions").caused_by(e))?;
    Ok(builder.with_root_certificates(store.clone()).with_no_client_auth())
}

fn begun(config: &rustls::ClientConfig) -> Session {
    let mut config = config.clone();
    config.resumption = rustls::client::Resumption::in_memory_sessions(SESSIONS);
    Session(Arc::new(config))
}

/// Sessions that are remembered for one server.
const SESSIONS: usize = 8;

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client(..)")
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Session(..)")
    }
}

fn store(roots: &Roots) -> Result<rustls::RootCertStore> {
    let mut store = rustls::RootCertStore::empty();
    // A certificate of the system that is too odd to read is one authority less to trust.
    store.add_parsable_certificates(trusted(roots)?);
    Ok(store)
}

/// Returns what encrypts, named instead of left to features.
pub fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Returns the certificates that are trusted, in DER.
///
/// # Errors
/// `NotFound`, `InvalidInput` for a file that cannot be read or holds none; `InvalidInput` when
/// neither the system nor the file has any.
pub fn certificates(roots: &Roots) -> Result<Vec<Vec<u8>>> {
    Ok(trusted(roots)?.into_iter().map(|certificate| certificate.to_vec()).collect())
}

fn trusted(roots: &Roots) -> Result<Vec<CertificateDer<'static>>> {
    // Single files of the system that cannot be read are others' business.
    let mut all = rustls_native_certs::load_native_certs().certs;
    if let Some(path) = &roots.extra {
        all.extend(from_file(path)?);
    }
    if all.is_empty() {
        return Err(Error::invalid("there is no certificate of an authority to trust")
            .hint("install the package ca-certificates, or name a file with --tls-ca"));
    }
    Ok(all)
}

/// Reads the certificates of a file that somebody named: each has to be good.
fn from_file(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let shown = display(path.as_os_str().as_bytes());
    let bad = |why: String| {
        Error::invalid(format!("cannot take the certificates of {shown}: {why}"))
            .hint("it has to hold certificates of authorities as PEM")
    };
    let bytes = std::fs::read(path)
        .map_err(|e| Error::io(format!("cannot read the certificates of {shown}"), e))?;
    let mut store = rustls::RootCertStore::empty();
    let mut all = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(&bytes) {
        let certificate = certificate.map_err(|e| bad(e.to_string()))?;
        store.add(certificate.clone()).map_err(|e| bad(e.to_string()))?;
        all.push(certificate);
    }
    if all.is_empty() { Err(bad("it holds none".to_owned())) } else { Ok(all) }
}

/// A connection within TLS.
pub struct TlsStream(rustls::StreamOwned<rustls::ClientConnection, TcpStream>);

impl TlsStream {
    /// Agrees with the server on keys, and makes sure that it is `host`.
    ///
    /// # Errors
    /// `Denied` for a certificate that is not trusted; `Unsupported` where no version of TLS is
    /// spoken by both; `Unreachable`.
    pub fn connect(session: &Session, host: &str, mut socket: TcpStream) -> Result<Self> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|e| Error::invalid(format!("{host} is no name of a host")).caused_by(e))?;
        let mut connection = rustls::ClientConnection::new(session.0.clone(), name)
            .map_err(|e| Error::bug("TLS cannot begin").caused_by(e))?;
        while connection.is_handshaking() {
            connection.complete_io(&mut socket).map_err(|e| refused(host, e))?;
        }
        Ok(TlsStream(rustls::StreamOwned::new(connection, socket)))
    }

    /// Returns the connection below.
    pub fn socket(&self) -> &TcpStream {
        &self.0.sock
    }

    /// Returns the version that was agreed on.
    pub fn version(&self) -> &'static str {
        match self.0.conn.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_3) => "TLS 1.3",
            Some(rustls::ProtocolVersion::TLSv1_2) => "TLS 1.2",
            _ => "TLS",
        }
    }

    /// Says that nothing more comes, and waits until the other end has closed: a connection closed
    /// with something unread in it is reset, and what was written may be lost. What is read
    /// meanwhile are tickets to resume the session with.
    ///
    /// # Errors
    /// As the connection says.
    pub fn finish(mut self) -> std::io::Result<()> {
        self.0.conn.send_close_notify();
        self.0.flush()?;
        self.0.sock.shutdown(Shutdown::Write)?;
        let mut rest = [0; 4096];
        for _ in 0..TLS_REST_BYTES_MAX / rest.len() {
            // However it ends: the reply on the other connection is what counts.
            if !matches!(self.0.read(&mut rest), Ok(count) if count > 0) {
                break;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsStream(..)")
    }
}

impl Read for TlsStream {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for TlsStream {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

fn refused(host: &str, cause: std::io::Error) -> Error {
    let inner = cause.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(why)) => {
            let message = format!("the certificate of {host} is not trusted");
            let hint = if is_of_authority(why) {
                "the certificate is one of an authority; make it with \
                 -addext basicConstraints=critical,CA:FALSE, as `icecore serve-ftp --help` shows"
            } else {
                "name the certificate of its authority with --tls-ca FILE, if it is yours"
            };
            Error::new(ErrorKind::Denied, message).caused_by(cause).hint(hint)
        }
        Some(
            rustls::Error::PeerIncompatible(_)
            | rustls::Error::AlertReceived(rustls::AlertDescription::ProtocolVersion),
        ) => {
            let message = format!("{host} speaks no version of TLS that is spoken here");
            Error::new(ErrorKind::Unsupported, message).caused_by(cause)
        }
        _ => unreachable(format!("cannot begin TLS with {host}"), cause),
    }
}

/// Says whether a server shows the certificate of an authority, as `openssl req -x509` makes it
/// where nothing else is said. By the text, as the type behind it belongs to another crate, which
/// is named nowhere here.
fn is_of_authority(why: &rustls::CertificateError) -> bool {
    let rustls::CertificateError::Other(other) = why else { return false };
    other.to_string().contains("CaUsedAsEndEntity")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_refused() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        for text in ["", "nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"]
        {
            std::fs::write(file.path(), text).expect("it is ours");
            let roots = Roots { extra: Some(file.path().to_owned()) };
            let error = Client::new(&roots).expect_err(text);
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{text}");
        }
        let roots = Roots { extra: Some(PathBuf::from("/nowhere/at/all")) };
        assert!(config(&roots).is_err());
    }
}
