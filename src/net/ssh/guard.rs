//! What is answered to an SSH server that asks or tells something: who it must be, and that it
//! may open nothing here.

use crate::base::limits::SAID_BYTES_MAX;
use crate::net::ssh::known_hosts::KnownHosts;
use crate::net::ssh::known_hosts::Verdict;
use russh::Channel;
use russh::client::ChannelOpenHandle;
use russh::client::DisconnectReason;
use russh::client::Handler;
use russh::client::Msg;
use russh::client::Session;
use russh::keys::HashAlg;
use russh::keys::PublicKeyBase64;
use russh::keys::PublicKeyOrCertificate;
use std::sync::Arc;
use std::sync::Mutex;

/// A key that a host showed, and what is known of it.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    pub(super) algorithm: String,
    pub(super) key: Vec<u8>,
    /// `SHA256:` and base64, as OpenSSH prints it.
    pub(super) fingerprint: String,
    pub(super) verdict: Verdict,
}

/// What a connection told beside its data.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// The key of the host.
    pub(super) shown: Option<Shown>,
    /// Words for people: of the server's errors, and why the connection ended.
    pub(super) words: String,
}

impl Told {
    /// Adds words, as long as there is room.
    pub(super) fn add(&mut self, words: &str) {
        if self.words.len() + words.len() < SAID_BYTES_MAX {
            if !self.words.is_empty() {
                self.words.push(' ');
            }
            self.words.push_str(words.trim());
        }
    }
}

/// The handler of one connection.
pub(super) struct Guard {
    pub(super) known: Arc<KnownHosts>,
    /// What the host is looked up by.
    pub(super) name: String,
    pub(super) told: Arc<Mutex<Told>>,
}

impl Guard {
    fn tell(&self, words: &str) {
        if let Ok(mut told) = self.told.lock() {
            told.add(words);
        }
    }
}

type Done = Result<(), russh::Error>;

/// A channel that a server opens is refused: its handle is dropped. Nobody here asked for one.
impl Handler for Guard {
    type Error = russh::Error;

    async fn check_server_key(
        &mut self,
        shown: &PublicKeyOrCertificate,
    ) -> Result<bool, russh::Error> {
        // Certificates are not offered, and no trust comes from their authorities.
        let is_plain = shown.certificate().is_none();
        let key = shown.public_key();
        let bytes = key.public_key_bytes();
        let verdict = self.known.judge(&self.name, &bytes);
        let is_known = is_plain && verdict == Verdict::Known;
        if let Ok(mut told) = self.told.lock() {
            told.shown = Some(Shown {
                algorithm: key.algorithm().as_str().to_owned(),
                fingerprint: key.fingerprint(HashAlg::Sha256).to_string(),
                key: bytes,
                verdict,
            });
        }
        Ok(is_known)
    }

    async fn disconnected(&mut self, reason: DisconnectReason<russh::Error>) -> Done {
        match reason {
            DisconnectReason::ReceivedDisconnect(told) => {
                self.tell(&told.message);
                Ok(())
            }
            DisconnectReason::Error(error) => {
                // That the other end closed is said by whoever notices it.
                if !matches!(error, russh::Error::Disconnect | russh::Error::HUP) {
                    self.tell(&error.to_string());
                }
                Err(error)
            }
        }
    }

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Done {
        Ok(())
    }

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Done {
        Ok(())
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        _: Channel<Msg>,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Done {
        Ok(())
    }

    async fn server_channel_open_session(
        &mut self,
        _: Channel<Msg>,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Done {
        Ok(())
    }

    async fn server_channel_open_direct_tcpip(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Done {
        Ok(())
    }

    async fn server_channel_open_direct_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Done {
        Ok(())
    }

    async fn server_channel_open_x11(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Done {
        Ok(())
    }
}
