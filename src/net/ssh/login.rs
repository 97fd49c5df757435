//! Logging in: what there is to prove who one is, one after the other.

use crate::base::limits::SSH_AGENT_KEYS_MAX;
use crate::base::path::display;
use crate::base::secret::Secret;
use crate::net::ssh::guard::Guard;
use crate::net::ssh::keys::KeyFile;
use crate::net::ssh::keys::RsaSigner;
use russh::MethodKind;
use russh::MethodSet;
use russh::client::AuthResult;
use russh::client::Handle;
use russh::client::KeyboardInteractiveAuthResponse;
use russh::keys::HashAlg;
use russh::keys::PrivateKeyWithHashAlg;
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::UnixStream;

/// Rounds of questions a server may ask before the password is taken to be of no use.
const ROUNDS_MAX: usize = 8;

/// All that may prove who one is.
pub(super) struct Proofs {
    pub(super) user: String,
    /// The socket of an agent.
    pub(super) agent: Option<PathBuf>,
    pub(super) keys: Vec<KeyFile>,
    pub(super) password: Option<Secret>,
}

/// How a login ended.
pub(super) enum Outcome {
    /// The server lets one in.
    In,
    /// It does not.
    Refused,
    /// It hung up after the proof of this number: the next connection goes on behind it.
    HungUp(usize),
    /// It hung up over the proof of this number without a word on it: one too many before it, or
    /// the connection broke.
    Unanswered(usize),
}

enum Proof<'a> {
    Agent(Box<AgentIdentity>),
    File(&'a KeyFile),
    Password(&'a Secret),
    Keyboard(&'a Secret),
}

impl Proof<'_> {
    fn method(&self) -> MethodKind {
        match self {
            Proof::Agent(_) | Proof::File(_) => MethodKind::PublicKey,
            Proof::Password(_) => MethodKind::Password,
            Proof::Keyboard(_) => MethodKind::KeyboardInteractive,
        }
    }

    fn shown(&self) -> String {
        match self {
            Proof::Agent(identity) => {
                format!("key `{}` of the agent", display(identity.comment().as_bytes()))
            }
            Proof::File(file) => format!("key {}", file.path.display()),
            Proof::Password(_) => "the password".to_owned(),
            Proof::Keyboard(_) => "the password, typed as if by hand".to_owned(),
        }
    }

    fn is_rsa(&self) -> bool {
        match self {
            Proof::Agent(identity) => identity.public_key().algorithm().is_rsa(),
            Proof::File(file) => file.key.algorithm().is_rsa(),
            _ => false,
        }
    }
}

type Agent = AgentClient<UnixStream>;

/// Opens the agent and asks what keys it has.
async fn agent_keys(
    handle: &Handle<Guard>,
    path: &PathBuf,
) -> Result<(Agent, Vec<AgentIdentity>), String> {
    let refused = |e: russh::keys::Error| format!("the agent at {} ({e})", path.display());
    let mut agent = AgentClient::connect_uds(path).await.map_err(refused)?;
    if let Some(binding) = handle.agent_session_binding() {
        // Agents that know this may be told to serve some hosts only; others say no.
        let _ = agent.bind_session(binding, false).await;
    }
    let mut identities = agent.request_identities().await.map_err(refused)?;
    identities.truncate(SSH_AGENT_KEYS_MAX);
    Ok((agent, identities))
}

/// Tries one proof after the other, from the one of number `from` on. What was tried is told.
pub(super) async fn log_in(
    handle: &mut Handle<Guard>,
    proofs: &Proofs,
    from: usize,
    tried: &mut Vec<String>,
) -> Outcome {
    let mut agent = None;
    let mut all = Vec::new();
    if let Some(path) = &proofs.agent {
        match agent_keys(handle, path).await {
            Ok((client, identities)) => {
                agent = Some(client);
                all.extend(identities.into_iter().map(|it| Proof::Agent(Box::new(it))));
            }
            Err(reason) if from == 0 => tried.push(reason),
            Err(_) => {}
        }
    }
    all.extend(proofs.keys.iter().map(Proof::File));
    if let Some(password) = &proofs.password {
        all.push(Proof::Password(password));
        all.push(Proof::Keyboard(password));
    }
    if all.is_empty() {
        return Outcome::Refused;
    }

    let mut allowed: Option<MethodSet> = None;
    let mut rsa_hash = None;
    for (number, proof) in all.iter().enumerate().skip(from) {
        if allowed.as_ref().is_some_and(|methods| !methods.contains(&proof.method())) {
            continue;
        }
        if proof.is_rsa() && rsa_hash.is_none() {
            rsa_hash = Some(best_hash(handle).await);
        }
        let hash = rsa_hash.filter(|_| proof.is_rsa());
        let result = show(handle, &proofs.user, proof, hash, agent.as_mut()).await;
        // A refusal that names no other way may be just the end of the connection.
        let is_answered = match &result {
            Ok(AuthResult::Success) => true,
            Ok(AuthResult::Failure { remaining_methods, .. }) => !remaining_methods.is_empty(),
            Err(_) => false,
        };
        match result {
            Ok(AuthResult::Success) => return Outcome::In,
            Ok(AuthResult::Failure { partial_success: true, remaining_methods }) => {
                tried.push(format!("{} (right, but not enough)", proof.shown()));
                allowed = Some(remaining_methods);
            }
            Ok(AuthResult::Failure { remaining_methods, .. }) => {
                tried.push(proof.shown());
                allowed = Some(remaining_methods).filter(|methods| !methods.is_empty());
            }
            Err(reason) => tried.push(format!("{} ({reason})", proof.shown())),
        }
        match (handle.is_closed(), is_answered) {
            (true, true) => return Outcome::HungUp(number),
            (true, false) => return Outcome::Unanswered(number),
            (false, _) => {}
        }
    }
    Outcome::Refused
}

/// Returns how to sign with an RSA key: never by SHA-1.
async fn best_hash(handle: &Handle<Guard>) -> HashAlg {
    let told = handle.best_supported_rsa_hash().await.ok().flatten().flatten();
    told.unwrap_or(HashAlg::Sha256)
}

async fn show(
    handle: &mut Handle<Guard>,
    user: &str,
    proof: &Proof<'_>,
    hash: Option<HashAlg>,
    agent: Option<&mut Agent>,
) -> Result<AuthResult, String> {
    match proof {
        Proof::Agent(identity) => {
            let Some(agent) = agent else { return Err("the agent is gone".to_owned()) };
            let shown = match &**identity {
                AgentIdentity::PublicKey { key, .. } => {
                    handle.authenticate_publickey_with(user, key.clone(), hash, agent).await
                }
                AgentIdentity::Certificate { certificate, .. } => {
                    let certificate = certificate.clone();
                    handle.authenticate_certificate_with(user, certificate, hash, agent).await
                }
            };
            shown.map_err(|e| e.to_string())
        }
        Proof::File(file) if file.key.algorithm().is_rsa() => {
            let mut signer = RsaSigner::new(&file.key)?;
            let key = file.key.public_key().clone();
            let shown = handle.authenticate_publickey_with(user, key, hash, &mut signer).await;
            shown.map_err(|_| "it could not sign".to_owned())
        }
        Proof::File(file) => {
            let key = PrivateKeyWithHashAlg::new(Arc::clone(&file.key), None);
            handle.authenticate_publickey(user, key).await.map_err(|e| e.to_string())
        }
        Proof::Password(password) => {
            let password = text(password)?;
            handle.authenticate_password(user, password).await.map_err(|e| e.to_string())
        }
        Proof::Keyboard(password) => answer_questions(handle, user, &text(password)?).await,
    }
}

fn text(password: &Secret) -> Result<String, String> {
    let text = std::str::from_utf8(password.expose());
    text.map(str::to_owned).map_err(|_| "it is not UTF-8".to_owned())
}

/// Answers the one question that a password answers.
async fn answer_questions(
    handle: &mut Handle<Guard>,
    user: &str,
    password: &str,
) -> Result<AuthResult, String> {
    let start = handle.authenticate_keyboard_interactive_start(user, None);
    let mut reply = start.await.map_err(|e| e.to_string())?;
    let mut is_given = false;
    for _ in 0..ROUNDS_MAX {
        let answers = match reply {
            KeyboardInteractiveAuthResponse::Success => return Ok(AuthResult::Success),
            KeyboardInteractiveAuthResponse::Failure { remaining_methods, partial_success } => {
                return Ok(AuthResult::Failure { remaining_methods, partial_success });
            }
            // Words without a question.
            KeyboardInteractiveAuthResponse::InfoRequest { prompts, .. } if prompts.is_empty() => {
                Vec::new()
            }
            KeyboardInteractiveAuthResponse::InfoRequest { prompts, .. } => {
                if is_given || prompts.len() > 1 || prompts.iter().any(|prompt| prompt.echo) {
                    let asked = prompts.iter().map(|prompt| prompt.prompt.trim());
                    let asked: String =
                        asked.collect::<Vec<_>>().join(" ").chars().take(200).collect();
                    let asked = display(asked.as_bytes());
                    return Err(format!(
                        "the server asks `{asked}`, which only a person can answer"
                    ));
                }
                is_given = true;
                vec![password.to_owned()]
            }
        };
        let respond = handle.authenticate_keyboard_interactive_respond(answers);
        reply = respond.await.map_err(|e| e.to_string())?;
    }
    Err("the server asks without end".to_owned())
}
