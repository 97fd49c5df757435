//! Key files, and signing with an RSA key.

use crate::base::secret::Secret;
use crate::net::ssh::known_hosts::read_file;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::RSA_PKCS1_SHA256;
use aws_lc_rs::signature::RSA_PKCS1_SHA512;
use aws_lc_rs::signature::RsaKeyPair;
use russh::SendError;
use russh::Signer;
use russh::keys::HashAlg;
use russh::keys::PrivateKey;
use russh::keys::agent::AgentIdentity;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

/// A private key from a file.
#[derive(Clone)]
pub(super) struct KeyFile {
    pub(super) path: PathBuf,
    pub(super) key: Arc<PrivateKey>,
}

/// Reads a key file.
///
/// # Errors
/// What is wrong with it, as half a sentence: a login may do without it.
pub(super) fn load(path: &Path, passphrase: Option<&Secret>) -> Result<KeyFile, String> {
    let shown = path.display();
    let bytes = Secret::new(read_file(path).map_err(|e| format!("key {shown} ({e})"))?);
    let text = std::str::from_utf8(bytes.expose())
        .map_err(|_| format!("key {shown} (it is no private key)"))?;
    let passphrase = passphrase.and_then(|it| std::str::from_utf8(it.expose()).ok());
    let is_locked = |e: &russh::keys::Error| {
        matches!(e, russh::keys::Error::KeyIsEncrypted) || e.to_string().contains("encrypted")
    };
    let key = russh::keys::decode_secret_key(text, passphrase).map_err(|e| match passphrase {
        None if is_locked(&e) => format!("key {shown} (it is encrypted, and no passphrase given)"),
        Some(_) if is_locked(&e) || text.contains("ENCRYPTED") || is_openssh_locked(text) => {
            format!("key {shown} (the passphrase does not open it)")
        }
        _ => format!("key {shown} (it cannot be read: {e})"),
    })?;
    Ok(KeyFile { path: path.to_path_buf(), key: Arc::new(key) })
}

fn is_openssh_locked(text: &str) -> bool {
    PrivateKey::from_openssh(text).is_ok_and(|key| key.is_encrypted())
}

/// Signs with an RSA key in constant time: RUSTSEC-2023-0071 is about the crate that would sign
/// otherwise, which here does no more than read keys and verify what servers sign.
pub(super) struct RsaSigner(RsaKeyPair);

impl RsaSigner {
    /// Takes the key over.
    ///
    /// # Errors
    /// What is wrong with it, as half a sentence.
    pub(super) fn new(key: &PrivateKey) -> Result<Self, String> {
        let encoded = russh::keys::pkcs8::encode_pkcs8(key).map_err(|e| e.to_string())?;
        let encoded = Secret::new(encoded);
        let pair = RsaKeyPair::from_pkcs8(encoded.expose());
        pair.map(RsaSigner).map_err(|e| format!("not a key of 2048 to 8192 bits: {e}"))
    }
}

/// Why nothing was signed.
#[derive(Debug)]
pub(super) struct NotSigned;

impl From<SendError> for NotSigned {
    fn from(_: SendError) -> Self {
        NotSigned
    }
}

impl Signer for RsaSigner {
    type Error = NotSigned;

    async fn auth_sign(
        &mut self,
        _: &AgentIdentity,
        hash: Option<HashAlg>,
        mut to_sign: Vec<u8>,
    ) -> Result<Vec<u8>, NotSigned> {
        let (name, encoding) = match hash {
            Some(HashAlg::Sha512) => ("rsa-sha2-512", &RSA_PKCS1_SHA512),
            _ => ("rsa-sha2-256", &RSA_PKCS1_SHA256),
        };
        let mut signature = vec![0; self.0.public_modulus_len()];
        let random = SystemRandom::new();
        let signed = self.0.sign(encoding, &random, &to_sign, &mut signature);
        signed.map_err(|_| NotSigned)?;
        // The signature stands behind what it signs: a string of two strings.
        let length = 4 + name.len() + 4 + signature.len();
        to_sign.extend_from_slice(&(length as u32).to_be_bytes());
        for part in [name.as_bytes(), &signature] {
            to_sign.extend_from_slice(&(part.len() as u32).to_be_bytes());
            to_sign.extend_from_slice(part);
        }
        Ok(to_sign)
    }
}
