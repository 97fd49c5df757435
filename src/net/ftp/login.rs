//! From a connection to a session: greeting, TLS, login, and what the server offers.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::secret::Secret;
use crate::net::ftp::Options;
use crate::net::ftp::Security;
use crate::net::ftp::control::Command;
use crate::net::ftp::control::Control;
use crate::net::ftp::control::Wire;
use crate::net::ftp::facts::WANTED;
use crate::net::ftp::reply::Reply;
use crate::net::ftp::session::Session;
use crate::net::tcp;
use crate::net::tls;

/// Servers that lose commands when they are told several at once, by words of their greeting.
const ONE_BY_ONE: &[&str] = &["microsoft ftp service", "madgoat"];

/// Most signs of a server that it wants TLS.
const WANTS_TLS: &[&str] = &["tls", "ssl", "encrypt", "cleartext", "secure"];

/// What a server says that it can do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Features {
    /// Whether it says anything at all.
    pub(crate) is_told: bool,
    /// Facts of MLSD and MLST: name in small letters, and whether it is on.
    pub(crate) facts: Option<Vec<(String, bool)>>,
    words: Vec<String>,
}

impl Features {
    pub(crate) fn has(&self, word: &str) -> bool {
        self.words.iter().any(|known| known == word)
    }

    /// Says whether MLST tells a fact: one that is offered is asked for.
    pub(crate) fn shows(&self, fact: &str) -> bool {
        self.facts.as_ref().is_some_and(|facts| facts.iter().any(|(name, _)| name == fact))
    }
}

/// Reads the reply to FEAT.
pub(crate) fn features(reply: &Reply) -> Features {
    let mut features = Features { is_told: reply.code == 211, ..Features::default() };
    if !features.is_told || reply.lines.len() < 2 {
        return features;
    }
    for line in &reply.lines[1..reply.lines.len() - 1] {
        let line = String::from_utf8_lossy(line).trim().to_ascii_uppercase();
        if let Some(facts) = line.strip_prefix("MLST") {
            let facts = facts.trim().split(';').filter(|fact| !fact.is_empty());
            let facts = facts.map(|fact| match fact.strip_suffix('*') {
                Some(fact) => (fact.to_ascii_lowercase(), true),
                None => (fact.to_ascii_lowercase(), false),
            });
            features.facts = Some(facts.collect());
        }
        features.words.push(line);
    }
    features
}

/// Opens a session.
pub(crate) fn open(options: &Options, client: Option<&tls::Client>) -> Result<Session> {
    let place = options.shown();
    let mut greeted = meet(options, client.map(tls::Client::lasting_session));
    if let (Some(client), Err(e)) = (client, &greeted)
        && e.kind() == ErrorKind::Unsupported
    {
        // A server that wants the newest version only gives no more than it gives tickets.
        greeted = meet(options, Some(client.session()));
    }
    let (control, tls) =
        greeted.map_err(|e| e.context(format!("cannot open a session with {place}")))?;
    begin(options, control, tls).map_err(|e| e.context(format!("cannot log in to {place}")))
}

/// Connects, hears the greeting, and goes on within TLS.
fn meet(
    options: &Options,
    session: Option<tls::Session>,
) -> Result<(Control, Option<tls::Session>)> {
    let socket = tcp::connect(&options.host, options.port, &options.limits)?;
    let mut control = Control::new(Wire::Plain(socket));
    if let (Security::Implicit, Some(session)) = (options.security, &session) {
        control = control.secure(session, &options.host)?;
    }
    let mut greeting = control.reply().map_err(|e| match options.security {
        Security::Explicit => e.hint(
            "a server that waits for TLS from the first byte on is heard at port 990 only: \
             ftps://HOST:990",
        ),
        _ => e,
    })?;
    if greeting.code == 120 {
        // Ready in a few minutes, which the limit of silence ends.
        greeting = control.reply()?;
    }
    if greeting.code != 220 {
        return Err(turned_away(&greeting));
    }
    let ahead = !ONE_BY_ONE.iter().any(|word| greeting.mentions(word));
    if let (Security::Explicit, Some(session)) = (options.security, &session) {
        let reply = control.ask("AUTH", b"TLS")?;
        if reply.code != 234 {
            let error = Error::new(ErrorKind::Unsupported, "the server offers no TLS");
            return Err(error.caused_by(reply.said()).hint(
                "ftp:// goes without, and shows password and content to whoever can listen",
            ));
        }
        control = control.secure(session, &options.host)?;
    }
    control.ahead = ahead;
    Ok((control, session))
}

fn begin(options: &Options, mut control: Control, tls: Option<tls::Session>) -> Result<Session> {
    log_in(options, &mut control)?;
    control.is_open = true;
    let mut commands = Vec::new();
    if tls.is_some() {
        commands.extend([Command::new("PBSZ", b"0"), Command::new("PROT", b"P")]);
    }
    commands.extend([Command::bare("FEAT"), Command::new("TYPE", b"I"), Command::bare("PWD")]);
    let mut replies = control.ask_all(&commands)?;
    let home = replies.pop().and_then(|reply| home_of(&reply));
    if let Some(refused) = replies.pop().filter(|reply| !reply.is_done()) {
        return Err(refused.refusal().context("content cannot be had as it is"));
    }
    let features = replies.pop().map(|reply| features(&reply)).unwrap_or_default();
    if let Some(refused) = replies.pop().filter(|reply| !reply.is_done()) {
        return Err(refused.refusal().context("content cannot be protected"));
    }
    let Some(home) = home else {
        return Err(Error::new(ErrorKind::Unsupported, "the server does not tell its folder"));
    };
    let mut commands = Vec::new();
    if features.has("UTF8") {
        // Whether it does or not: some do it always, and know no way to be asked.
        commands.push(Command::new("OPTS", b"UTF8 ON"));
    }
    let facts = wanted_facts(&features);
    if let Some(facts) = &facts {
        commands.push(Command::new("OPTS", facts));
    }
    if !commands.is_empty() {
        control.mention(&commands)?;
    }
    let secure = tls.map(|session| (session, options.host.clone()));
    let limits = options.limits;
    Ok(Session::new(
        control,
        options.shown(),
        secure,
        limits,
        features,
        home,
        options.clock.clone(),
    ))
}

/// Asks for facts that are offered and not on.
fn wanted_facts(features: &Features) -> Option<Vec<u8>> {
    let facts = features.facts.as_ref()?;
    let wanted = |name: &str| WANTED.contains(&name);
    facts.iter().find(|(name, is_on)| wanted(name) && !is_on)?;
    let names = facts.iter().filter(|(name, _)| wanted(name)).map(|(name, _)| format!("{name};"));
    Some(format!("MLST {}", names.collect::<String>()).into_bytes())
}

fn log_in(options: &Options, control: &mut Control) -> Result<()> {
    let anonymous = Secret::new(b"anonymous@".to_vec());
    let user = options.user.as_deref().unwrap_or("anonymous");
    let password = match (&options.password, &options.user) {
        (Some(password), _) => Some(password),
        (None, None) => Some(&anonymous),
        (None, Some(_)) => None,
    };
    let reply = control.ask("USER", user.as_bytes())?;
    match reply.code {
        230 | 232 => return Ok(()),
        331 => {}
        332 => return Err(Error::new(ErrorKind::Unsupported, "the server asks for an account")),
        _ => return Err(turned_away(&reply)),
    }
    let Some(password) = password else {
        return Err(Error::new(ErrorKind::Denied, format!("user {user} has no password"))
            .hint("set ICECORE_FTP_PASSWORD, or name the credentials in the config file"));
    };
    let mut reply = control.ask("PASS", password.expose())?;
    if reply.code == 230 || reply.code == 202 {
        return Ok(());
    }
    // A server that says the password aloud is not repeated.
    let holds = |line: &Vec<u8>| {
        let secret = password.expose();
        !secret.is_empty() && line.windows(secret.len()).any(|window| window == secret)
    };
    if reply.lines.iter().any(holds) {
        reply.lines = vec![b"(more is not shown)".to_vec()];
    }
    Err(turned_away(&reply))
}

/// Makes the error of a server that does not let us in.
fn turned_away(reply: &Reply) -> Error {
    let said = reply.said();
    if WANTS_TLS.iter().any(|word| reply.mentions(word)) {
        return Error::new(ErrorKind::Denied, said).hint("ftps:// goes within TLS");
    }
    if reply.is_too_many() || reply.code == 421 {
        return Error::new(ErrorKind::RateLimited, said)
            .hint("it serves as many sessions as it wants to; others have to end first");
    }
    match reply.code {
        430 | 530..=532 => Error::new(ErrorKind::Denied, said).hint("check user and password"),
        _ => reply.refusal(),
    }
}

/// Reads the folder of a 257: within quotes, of which those inside stand twice.
fn home_of(reply: &Reply) -> Option<Vec<u8>> {
    let line = reply.lines.last().filter(|_| reply.code == 257)?;
    let from = line.iter().position(|&byte| byte == b'"')? + 1;
    let mut home = Vec::new();
    let mut bytes = line[from..].iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match (byte, bytes.peek()) {
            (b'"', Some(b'"')) => {
                home.push(byte);
                bytes.next();
            }
            (b'"', _) => return Some(home).filter(|home| home.first() == Some(&b'/')),
            _ => home.push(byte),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(code: u16, text: &str) -> Reply {
        Reply { code, lines: text.split('\n').map(|line| line.as_bytes().to_vec()).collect() }
    }

    #[test]
    fn features_of_two_servers() {
        let vsftpd = features(&reply(211, "Features:\n EPRT\n EPSV\n MDTM\n REST STREAM\nEnd"));
        assert!(vsftpd.is_told && vsftpd.has("MDTM") && vsftpd.has("REST STREAM"));
        assert_eq!((vsftpd.facts.clone(), wanted_facts(&vsftpd)), (None, None));

        let text =
            "Features supported:\n MLST type*;perm*;size*;modify*;unique*;unix.mode;\n UTF8\nEnd";
        let pyftpdlib = features(&reply(211, text));
        assert!(pyftpdlib.has("UTF8"));
        let facts = wanted_facts(&pyftpdlib).expect("unix.mode is off");
        assert_eq!(facts, b"MLST type;size;modify;unique;unix.mode;");

        assert!(!features(&reply(500, "what?")).is_told);
        assert!(features(&reply(211, "no features")).is_told);
    }

    #[test]
    fn the_folder_of_the_login_is_read() {
        assert_eq!(home_of(&reply(257, "\"/\" is the current directory")), Some(b"/".to_vec()));
        let quoted = home_of(&reply(257, "\"/a \"\"b\"\"\" is it, not \"x\""));
        assert_eq!(quoted, Some(b"/a \"b\"".to_vec()));
        for bad in ["", "\"", "\"/a", "none", "\"\"", "\"C:\\\""] {
            assert_eq!(home_of(&reply(257, bad)), None, "{bad}");
        }
        assert_eq!(home_of(&reply(550, "\"/\" no")), None);
    }

    #[test]
    fn who_is_turned_away_hears_why() {
        for (code, text, kind) in [
            (421, "There are too many connected users, please try later.", ErrorKind::RateLimited),
            (421, "Service not available", ErrorKind::RateLimited),
            (530, "Sorry, the maximum number of clients (1)", ErrorKind::RateLimited),
            (530, "Login incorrect.", ErrorKind::Denied),
            (530, "Non-anonymous sessions must use encryption.", ErrorKind::Denied),
            (421, "Sorry, cleartext sessions are not accepted", ErrorKind::Denied),
            (550, "SSL/TLS required on the control channel", ErrorKind::Denied),
            (500, "what?", ErrorKind::Unsupported),
        ] {
            let error = turned_away(&reply(code, text));
            assert_eq!(error.kind(), kind, "{code} {text}");
        }
        let error = turned_away(&reply(530, "Non-anonymous sessions must use encryption."));
        assert!(error.hint_text().is_some_and(|hint| hint.contains("ftps://")));
    }
}
