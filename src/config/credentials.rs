//! Who logs in on another machine, and with what: the first place that says it counts.
//!
//! In this order: the address itself; `[credentials."..."]` of the config file; variables of this
//! program; `~/.netrc`; the ssh agent and `~/.ssh`; the variables and files of AWS; a person. A
//! password counts only for the user that it was said with.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::limits::CREDENTIALS_FILE_BYTES_MAX;
use crate::base::path::display;
use crate::base::secret::Secret;
use crate::config::aws::AwsFile;
use crate::config::netrc::Netrc;
use crate::config::secret;
use crate::config::secret::ConfiguredPassword;
use crate::net::address::Address;
use crate::net::address::Scheme;
use std::ffi::OsString;
use std::fs::File;
use std::io::ErrorKind as Io;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::path::PathBuf;

/// Who logs in to an FTP server that nobody names a user for.
const ANONYMOUS: &str = "anonymous";
/// What such servers want to see as a password.
const ANONYMOUS_PASSWORD: &str = "anonymous@";
/// Keys that ssh offers by itself, below `~/.ssh`.
const USUAL_KEYS: [&str; 3] = ["id_ed25519", "id_ecdsa", "id_rsa"];

/// What the config file says of one address.
#[derive(Clone, Debug, Default)]
pub struct Configured {
    /// Who logs in.
    pub user: Option<String>,
    /// Where the password is.
    pub password: Option<ConfiguredSecret>,
    /// SFTP: a file that holds the private key.
    pub key: Option<PathBuf>,
    /// S3: the access key.
    pub access_key_id: Option<String>,
    /// S3: the secret that goes with it.
    pub secret_access_key: Option<Secret>,
    /// S3: the token of a session.
    pub session_token: Option<Secret>,
    /// S3: the region.
    pub region: Option<String>,
    /// S3: the server.
    pub endpoint: Option<String>,
}

/// Where the config file says that a password is.
#[derive(Clone, Debug)]
pub enum ConfiguredSecret {
    /// In it.
    Text(Secret),
    /// Elsewhere.
    Elsewhere(ConfiguredPassword),
}

/// How to log in over FTP or SFTP.
#[derive(Clone, Debug, Default)]
pub struct Login {
    /// Who.
    pub user: String,
    /// With which password, if any.
    pub password: Option<Secret>,
    /// SFTP: files with private keys: the one that was named, else the usual ones that are there.
    pub keys: Vec<PathBuf>,
    /// SFTP: the socket of an ssh agent.
    pub agent: Option<PathBuf>,
    /// SFTP: the file of known hosts, which need not be there.
    pub known_hosts: Option<PathBuf>,
}

/// How to reach a bucket.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    /// The access key and the secret that goes with it; without them nobody signs.
    pub pair: Option<(String, Secret)>,
    /// The token of a session.
    pub session_token: Option<Secret>,
    /// The region.
    pub region: Option<String>,
    /// The server, when it is not Amazon's.
    pub endpoint: Option<String>,
}

/// Where credentials are looked for.
pub struct Wallet<'a> {
    /// What the config file says, by address.
    pub configured: &'a [(Address, Configured)],
    /// The environment.
    pub look: &'a dyn Fn(&str) -> Option<OsString>,
    /// The person's folder.
    pub home: Option<PathBuf>,
    /// Whether a person may be asked.
    pub may_ask: bool,
}

impl Wallet<'_> {
    fn text(&self, variable: &str) -> Result<Option<String>> {
        let value = (self.look)(variable).map(OsString::into_string).transpose();
        value.map_err(|_| Error::invalid(format!("{variable} is not UTF-8")))
    }

    fn secret(&self, variable: &str) -> Option<Secret> {
        (self.look)(variable).map(|value| Secret::new(value.into_vec()))
    }

    /// Returns what the config file says of an address; of several tables the first that fits.
    fn configured(&self, address: &Address) -> Configured {
        let fits = |(it, _): &&(Address, Configured)| {
            let same_user = match (it.user(), address.user()) {
                (Some(it), Some(other)) => it == other,
                _ => true,
            };
            let same_place = (it.scheme(), it.port()) == (address.scheme(), address.port());
            same_user && same_place && it.host().eq_ignore_ascii_case(address.host())
        };
        let found = self.configured.iter().find(fits);
        found
            .map(|(it, configured)| {
                let user = configured.user.clone().or_else(|| it.user().map(str::to_owned));
                Configured { user, ..configured.clone() }
            })
            .unwrap_or_default()
    }

    /// Reads a small file of the person's; None when there is none.
    fn file(&self, path: &Path) -> Result<Option<Vec<u8>>> {
        let shown = display(path.as_os_str().as_bytes());
        let cannot =
            |e: std::io::Error| Error::invalid(format!("cannot read {shown}")).caused_by(e);
        let file = match File::open(path) {
            Ok(file) => file,
            Err(e) if matches!(e.kind(), Io::NotFound | Io::NotADirectory) => return Ok(None),
            Err(e) => return Err(cannot(e)),
        };
        let mut bytes = Vec::new();
        file.take(CREDENTIALS_FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(cannot)?;
        if bytes.len() as u64 > CREDENTIALS_FILE_BYTES_MAX {
            return Err(Error::invalid(format!("{shown} is far too large")));
        }
        Ok(Some(bytes))
    }

    /// Returns how to log in at an FTP or SFTP server.
    ///
    /// # Errors
    /// `InvalidInput` for a file that makes no sense; `Denied` when a password is needed that
    /// nobody says; those of a password that was named and cannot be had.
    pub fn login(&self, address: &Address) -> Result<Login> {
        let is_sftp = address.scheme() == Scheme::Sftp;
        let start = if is_sftp { "ICECORE_SFTP" } else { "ICECORE_FTP" };
        let configured = self.configured(address);
        let mut user = address.user().map(str::to_owned);
        let mut password = address.password().cloned();
        // One place after the other: whoever says a user first decides whose password counts.
        take(&mut user, &mut password, configured.user.clone(), || {
            configured.password.as_ref().map(ConfiguredSecret::get).transpose()
        })?;
        let named = self.text(&format!("{start}_USER"))?;
        take(&mut user, &mut password, named, || Ok(self.secret(&format!("{start}_PASSWORD"))))?;
        if user.is_none() || password.is_none() {
            let (login, found) = self.netrc_of(address.host(), user.as_deref())?;
            take(&mut user, &mut password, login, || Ok(found))?;
        }
        let key = configured
            .key
            .or_else(|| (self.look)("ICECORE_SFTP_KEY").map(PathBuf::from))
            .filter(|_| is_sftp);
        let mut login = Login {
            user: user.unwrap_or_default(),
            password,
            keys: key.into_iter().collect(),
            agent: (self.look)("SSH_AUTH_SOCK").map(PathBuf::from).filter(|_| is_sftp),
            known_hosts: None,
        };
        if is_sftp {
            self.complete_sftp(address, &mut login)?
        } else {
            self.complete_ftp(address, &mut login)?
        }
        Ok(login)
    }

    /// Returns who logs in at an FTP or SFTP server, for which nobody is asked; None where nothing
    /// says it.
    ///
    /// # Errors
    /// `InvalidInput` for a file that makes no sense.
    pub fn user(&self, address: &Address) -> Result<Option<String>> {
        let is_sftp = address.scheme() == Scheme::Sftp;
        let start = if is_sftp { "ICECORE_SFTP" } else { "ICECORE_FTP" };
        let said = address.user().map(str::to_owned);
        let mut user = said.or_else(|| self.configured(address).user);
        if user.is_none() {
            user = self.text(&format!("{start}_USER"))?;
        }
        if user.is_none() {
            user = self.netrc_of(address.host(), None)?.0;
        }
        match user.filter(|user| !user.is_empty()) {
            None if is_sftp => self.user_here(),
            None => Ok(Some(ANONYMOUS.to_owned())),
            user => Ok(user),
        }
    }

    /// Returns who somebody is on this machine.
    fn user_here(&self) -> Result<Option<String>> {
        Ok(self.text("USER")?.or(self.text("LOGNAME")?))
    }

    fn netrc_of(&self, host: &str, user: Option<&str>) -> Result<(Option<String>, Option<Secret>)> {
        let path = match ((self.look)("NETRC"), &self.home) {
            (Some(path), _) => PathBuf::from(path),
            (None, Some(home)) => home.join(".netrc"),
            (None, None) => return Ok((None, None)),
        };
        let Some(text) = self.file(&path)? else { return Ok((None, None)) };
        let shown = display(path.as_os_str().as_bytes());
        let netrc = Netrc::parse(&text).map_err(|e| e.context(shown))?;
        let found = netrc.find(host, user);
        Ok(found.map_or((None, None), |(login, password)| {
            (login.map(str::to_owned), password.cloned())
        }))
    }

    fn complete_ftp(&self, address: &Address, login: &mut Login) -> Result<()> {
        if login.user.is_empty() {
            // A password that was said for nobody in particular is for no stranger.
            ANONYMOUS.clone_into(&mut login.user);
            login.password = None;
        }
        if login.password.is_some() {
            return Ok(());
        }
        login.password = Some(if login.user == ANONYMOUS {
            Secret::new(ANONYMOUS_PASSWORD.into())
        } else {
            self.ask(address, &login.user)?
        });
        Ok(())
    }

    fn complete_sftp(&self, address: &Address, login: &mut Login) -> Result<()> {
        if login.user.is_empty() {
            login.user = self.user_here()?.ok_or_else(|| {
                Error::invalid(format!("nothing says who logs in at {}", address.server()))
                    .hint("write it into the address: sftp://USER@HOST/PATH")
            })?;
        }
        if let Some(home) = &self.home {
            let folder = home.join(".ssh");
            if login.keys.is_empty() {
                let usual = USUAL_KEYS.iter().map(|name| folder.join(name));
                login.keys = usual.filter(|path| path.exists()).collect();
            }
            login.known_hosts = Some(folder.join("known_hosts"));
        }
        if login.password.is_none() && login.keys.is_empty() && login.agent.is_none() {
            login.password = Some(self.ask(address, &login.user)?);
        }
        Ok(())
    }

    fn ask(&self, address: &Address, user: &str) -> Result<Secret> {
        let server = address.server();
        if self.may_ask {
            return secret::ask(&format!("password of {user} at {server}"));
        }
        let variable = if address.scheme() == Scheme::Sftp { "SFTP" } else { "FTP" };
        let message = format!("there is no password for {user} at {server}");
        Err(Error::new(ErrorKind::Denied, message).hint(format!(
            "set ICECORE_{variable}_PASSWORD, or write it into ~/.netrc, or into the config file: \
             [credentials.\"{server}\"]"
        )))
    }

    /// Returns how to reach a bucket. Without keys it is asked for without a signature.
    ///
    /// # Errors
    /// `InvalidInput` for a file that makes no sense, a profile that is not there, or a key without
    /// its secret.
    pub fn keys(&self, address: &Address) -> Result<Keys> {
        let configured = self.configured(address);
        let profile = self.text("AWS_PROFILE")?;
        let files = [
            self.aws_file("AWS_SHARED_CREDENTIALS_FILE", "credentials")?,
            self.aws_file("AWS_CONFIG_FILE", "config")?,
        ];
        if let Some(name) = &profile
            && !files.iter().any(|file| file.has(name))
        {
            return Err(Error::invalid(format!("there is no profile {name:?} in the AWS files"))
                .hint("AWS_PROFILE names it"));
        }
        let name = profile.as_deref().unwrap_or("default");
        let said = |key: &str| files.iter().find_map(|file| file.get(name, key)).map(str::to_owned);
        let hidden = |key: &str| said(key).map(|text| Secret::new(text.into_bytes()));
        let places = [
            (address.user().map(str::to_owned), address.password().cloned(), None),
            (configured.access_key_id, configured.secret_access_key, configured.session_token),
            (
                self.text("AWS_ACCESS_KEY_ID")?,
                self.secret("AWS_SECRET_ACCESS_KEY"),
                self.secret("AWS_SESSION_TOKEN"),
            ),
            (
                said("aws_access_key_id"),
                hidden("aws_secret_access_key"),
                hidden("aws_session_token"),
            ),
        ];
        let mut keys = Keys {
            region: configured.region.or(self.text("AWS_REGION")?),
            endpoint: configured.endpoint.or(self.text("AWS_ENDPOINT_URL_S3")?),
            ..Keys::default()
        };
        keys.region = keys.region.or(self.text("AWS_DEFAULT_REGION")?).or_else(|| said("region"));
        keys.endpoint =
            keys.endpoint.or(self.text("AWS_ENDPOINT_URL")?).or_else(|| said("endpoint_url"));
        for (access, secret, token) in places {
            match (access, secret) {
                (Some(access), Some(secret)) => {
                    (keys.pair, keys.session_token) = (Some((access, secret)), token);
                    return Ok(keys);
                }
                (None, None) => {}
                (Some(_), None) | (None, Some(_)) => {
                    let server = address.server();
                    let message = format!("an access key for {server} lacks its other half");
                    return Err(Error::invalid(message).hint(
                        "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY go together, \
                         access-key-id and secret-access-key do",
                    ));
                }
            }
        }
        Ok(keys)
    }

    fn aws_file(&self, variable: &str, name: &str) -> Result<AwsFile> {
        let path = match ((self.look)(variable), &self.home) {
            (Some(path), _) => PathBuf::from(path),
            (None, Some(home)) => home.join(".aws").join(name),
            (None, None) => return Ok(AwsFile::default()),
        };
        let Some(text) = self.file(&path)? else { return Ok(AwsFile::default()) };
        let shown = display(path.as_os_str().as_bytes());
        AwsFile::parse(&text).map_err(|e| e.context(shown))
    }
}

/// Takes from one place what is still missing, unless it speaks of another user.
fn take(
    user: &mut Option<String>,
    password: &mut Option<Secret>,
    named: Option<String>,
    find: impl FnOnce() -> Result<Option<Secret>>,
) -> Result<()> {
    if user.is_some() && named.is_some() && *user != named {
        return Ok(());
    }
    if password.is_none() {
        *password = find()?;
    }
    if user.is_none() {
        *user = named;
    }
    Ok(())
}

impl ConfiguredSecret {
    fn get(&self) -> Result<Secret> {
        match self {
            ConfiguredSecret::Text(text) => Ok(text.clone()),
            ConfiguredSecret::Elsewhere(place) => place.get(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    struct Desk {
        home: tempfile::TempDir,
        variables: BTreeMap<&'static str, &'static str>,
        configured: Vec<(Address, Configured)>,
    }

    fn address(text: &str) -> Address {
        Address::parse(text.as_bytes()).expect(text).expect(text)
    }

    fn desk(variables: &[(&'static str, &'static str)]) -> Desk {
        Desk {
            home: tempfile::tempdir().expect("a folder"),
            variables: variables.iter().copied().collect(),
            configured: Vec::new(),
        }
    }

    impl Desk {
        fn write(self, name: &str, text: &str) -> Self {
            let path = self.home.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            std::fs::write(path, text).expect("written");
            self
        }

        fn says(mut self, text: &str, user: Option<&str>, password: &str) -> Self {
            let password = ConfiguredSecret::Text(Secret::new(password.as_bytes().to_vec()));
            let user = user.map(str::to_owned);
            let said = Configured { user, password: Some(password), ..Configured::default() };
            self.configured.push((address(text), said));
            self
        }

        fn with<T>(&self, work: impl FnOnce(&Wallet<'_>) -> T) -> T {
            let look = |name: &str| self.variables.get(name).map(OsString::from);
            let home = Some(self.home.path().to_owned());
            let configured = &self.configured;
            work(&Wallet { configured, look: &look, home, may_ask: false })
        }

        fn login(&self, text: &str) -> (String, String) {
            let login = self.with(|wallet| wallet.login(&address(text))).expect(text);
            let user = self.with(|wallet| wallet.user(&address(text))).expect(text);
            assert_eq!(user.as_ref(), Some(&login.user), "{text}");
            let password = login.password.map(|it| String::from_utf8_lossy(it.expose()).into());
            (login.user, password.unwrap_or("-".to_owned()))
        }

        fn refused(&self, text: &str) -> Error {
            self.with(|wallet| wallet.login(&address(text)).map(drop)).expect_err(text)
        }
    }

    fn pair(user: &str, password: &str) -> (String, String) {
        (user.to_owned(), password.to_owned())
    }

    #[test]
    fn the_first_place_counts() {
        let variables = [("ICECORE_FTP_USER", "env"), ("ICECORE_FTP_PASSWORD", "env-pw")];
        let all = desk(&variables)
            .says("ftp://h:2121", Some("file"), "file-pw")
            .write(".netrc", "machine h login net password net-pw\ndefault login d password d-pw");
        assert_eq!(all.login("ftp://me:pw@h:2121"), pair("me", "pw"));
        assert_eq!(all.login("ftp://h:2121"), pair("file", "file-pw"));
        assert_eq!(all.login("ftp://file@h:2121"), pair("file", "file-pw"));
        assert_eq!(all.login("ftp://h"), pair("env", "env-pw"));
        assert_eq!(all.login("ftp://env@h:2121"), pair("env", "env-pw"));
        assert_eq!(all.login("ftps://net@h"), pair("net", "net-pw"));
        let none = desk(&[]).write(".netrc", "machine h login net password net-pw");
        assert_eq!(none.login("ftp://h"), pair("net", "net-pw"));
        assert_eq!(none.login("ftp://other"), pair("anonymous", "anonymous@"));
    }

    #[test]
    fn a_password_counts_only_for_the_user_it_was_said_with() {
        let variables = [("ICECORE_FTP_USER", "env"), ("ICECORE_FTP_PASSWORD", "env-pw")];
        let all = desk(&variables)
            .says("ftp://h", Some("file"), "file-pw")
            .write(".netrc", "machine h login net password net-pw");
        let error = all.refused("ftp://me@h");
        assert_eq!(error.kind(), ErrorKind::Denied);
        assert!(!error.full_message().contains("-pw"));
        assert!(error.hint_text().is_some_and(|it| it.contains("ICECORE_FTP_PASSWORD")));
        // One said without a user is anybody's.
        let any = desk(&[("ICECORE_SFTP_PASSWORD", "pw"), ("USER", "here")]);
        assert_eq!(any.login("sftp://me@h/"), pair("me", "pw"));
        assert_eq!(any.login("sftp://h/"), pair("here", "pw"));
    }

    #[test]
    fn a_stranger_who_lets_in_anybody_hears_no_password() {
        let any = desk(&[("ICECORE_FTP_PASSWORD", "pw")]);
        assert_eq!(any.login("ftp://me@h"), pair("me", "pw"));
        assert_eq!(any.login("ftp://ftp.example.org/pub"), pair("anonymous", "anonymous@"));
        assert_eq!(any.login("ftp://anonymous:mine@h"), pair("anonymous", "mine"));
    }

    #[test]
    fn ports_that_are_not_said_are_the_usual_ones() {
        let all = desk(&[]).says("ftp://H:21", Some("a"), "1").says("ftps://h:990", Some("b"), "2");
        assert_eq!(all.login("ftp://h"), pair("a", "1"));
        assert_eq!(all.login("ftps://h:990"), pair("b", "2"));
        assert_eq!(all.login("ftps://h").0, "anonymous");
    }

    #[test]
    fn sftp_takes_keys_and_an_agent_before_it_asks() {
        let login = |desk: &Desk| desk.with(|wallet| wallet.login(&address("sftp://me@h/")));
        let agent = desk(&[("SSH_AUTH_SOCK", "/run/agent")]);
        assert_eq!(login(&agent).expect("agent").agent, Some("/run/agent".into()));
        let key = desk(&[("ICECORE_SFTP_KEY", "/keys/a")]);
        let key = key.write(".ssh/id_rsa", "x");
        assert_eq!(login(&key).expect("key").keys, [PathBuf::from("/keys/a")]);
        let usual = desk(&[]).write(".ssh/id_ed25519", "x");
        let found = login(&usual).expect("usual");
        let folder = usual.home.path().join(".ssh");
        assert_eq!(found.keys, [folder.join("id_ed25519")]);
        assert_eq!(found.known_hosts, Some(folder.join("known_hosts")));
        assert_eq!(login(&desk(&[])).expect_err("nothing").kind(), ErrorKind::Denied);
        assert!(desk(&[]).with(|wallet| wallet.login(&address("sftp://h/"))).is_err());
    }

    #[test]
    fn a_broken_netrc_is_an_error_that_names_it() {
        let message = desk(&[]).write(".netrc", "machine h\npasword x").refused("ftp://h");
        assert!(message.to_string().contains(".netrc: line 2"), "{message}");
    }

    #[test]
    fn keys_of_a_bucket_come_from_the_first_place_with_both_halves() {
        let keys = |desk: &Desk, text: &str| {
            let keys = desk.with(|wallet| wallet.keys(&address(text))).expect(text);
            let secret = |it: Secret| String::from_utf8_lossy(it.expose()).into_owned();
            let (access, hidden) = keys.pair.map(|(a, b)| (a, secret(b))).unwrap_or_default();
            let token = keys.session_token.map(secret);
            (access, hidden, token, keys.region, keys.endpoint)
        };
        let some = |text: &str| Some(text.to_owned());
        let files = desk(&[("AWS_PROFILE", "work")])
            .write(".aws/credentials", "[work]\naws_access_key_id=AK\naws_secret_access_key=SK\n")
            .write(".aws/config", "[profile work]\nregion=eu\nendpoint_url=http://h:1\n");
        let expected = ("AK".into(), "SK".into(), None, some("eu"), some("http://h:1"));
        assert_eq!(keys(&files, "s3://b/x"), expected);
        let variables = [
            ("AWS_ACCESS_KEY_ID", "EAK"),
            ("AWS_SECRET_ACCESS_KEY", "ESK"),
            ("AWS_SESSION_TOKEN", "T"),
            ("AWS_REGION", "us"),
        ];
        let mut all = desk(&variables).write(".aws/config", "[default]\nregion=eu\n");
        let expected = ("EAK".into(), "ESK".into(), some("T"), some("us"), None);
        assert_eq!(keys(&all, "s3://b"), expected);
        assert_eq!(keys(&all, "s3://me:mine@b").0, "me");
        assert_eq!(keys(&all, "s3://me:mine@b").2, None);
        let said = Configured { region: some("here"), ..Configured::default() };
        all.configured.push((address("s3://b"), said));
        assert_eq!(keys(&all, "s3://b").3, some("here"));
        assert_eq!(keys(&desk(&[]), "s3://b").0, "");

        let half = desk(&[("AWS_ACCESS_KEY_ID", "EAK")]);
        assert!(half.with(|wallet| wallet.keys(&address("s3://b"))).is_err());
        let nobody = desk(&[("AWS_PROFILE", "nobody")]);
        assert!(nobody.with(|wallet| wallet.keys(&address("s3://b"))).is_err());
    }
}
