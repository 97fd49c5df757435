//! TLS: whom to trust. The one home of rustls; verification is never off.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::path::display;
use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

/// Who may vouch for a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roots {
    /// A file of certificates (PEM) that are trusted beside those of the system.
    pub extra: Option<PathBuf>,
}

/// Returns what encrypts, named instead of left to features.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Returns a configuration with a fresh memory of sessions.
///
/// # Errors
/// As [`certificates`].
pub fn config(roots: &Roots) -> Result<Arc<ClientConfig>> {
    let mut store = RootCertStore::empty();
    for certificate in trusted(roots)? {
        // One that is too odd to read vouches for nobody.
        let _ = store.add(certificate);
    }
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::bug("no version of TLS is left").caused_by(e))?;
    Ok(Arc::new(builder.with_root_certificates(store).with_no_client_auth()))
}

/// Returns the certificates that are trusted, in DER.
///
/// # Errors
/// `NotFound`, `InvalidInput` for a file that cannot be read or holds none; `NotFound` when
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
        return Err(Error::new(ErrorKind::NotFound, "no trusted certificates are on this machine")
            .hint("install the package ca-certificates, or name a file with --tls-ca"));
    }
    Ok(all)
}

fn from_file(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let shown = display(path.as_os_str().as_bytes());
    let bytes = std::fs::read(path)
        .map_err(|e| Error::io(format!("cannot read the certificates in {shown}"), e))?;
    let found: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(Error::invalid(format!("{shown} holds no certificate"))
            .hint("certificates in PEM begin with -----BEGIN CERTIFICATE-----")),
        Err(e) => {
            Err(Error::invalid(format!("the certificates in {shown} cannot be read")).caused_by(e))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("ca.pem");
        let roots = Roots { extra: Some(file.clone()) };
        assert_eq!(certificates(&roots).expect_err("missing").kind(), ErrorKind::NotFound);

        std::fs::write(&file, "nothing").expect("written");
        assert_eq!(certificates(&roots).expect_err("empty").kind(), ErrorKind::InvalidInput);
        let torn = "-----BEGIN CERTIFICATE-----\n?\n-----END CERTIFICATE-----\n";
        std::fs::write(&file, torn).expect("written");
        assert_eq!(config(&roots).expect_err("garbage").kind(), ErrorKind::InvalidInput);
    }
}
