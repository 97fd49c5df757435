//! Places on other machines: from an address to sessions, backends and sources.
//!
//! `connect` and `bucket` are the one spot where the clients are named.

use crate::backend::Backend;
use crate::backend::files::FilesBackend;
use crate::backend::s3::S3Backend;
use crate::backend::s3::S3Options;
use crate::backend::wrap::retry::RetryBackend;
use crate::backend::wrap::retry::RetryPolicy;
use crate::backend::wrap::retry::while_busy;
use crate::backend::wrap::sleeper::Sleeper;
use crate::backend::wrap::sleeper::SystemSleeper;
use crate::backend::wrap::throttle::Bandwidth;
use crate::base::cancel::Cancel;
use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::path::EntryPath;
use crate::base::time::SystemClock;
use crate::config::credentials::Configured;
use crate::config::credentials::Keys;
use crate::config::credentials::Login;
use crate::config::credentials::Wallet;
use crate::config::places;
use crate::config::secret;
use crate::net::address::Address;
use crate::net::address::Scheme;
use crate::net::address::Start;
use crate::net::files::Connect;
use crate::net::ftp;
use crate::net::http;
use crate::net::pace::Pace;
use crate::net::pace::PacedServer;
use crate::net::pool::Pool;
use crate::net::pool::PoolOptions;
use crate::net::s3::client as s3;
use crate::net::s3::client::Client;
use crate::net::s3::sign::Credentials;
use crate::net::ssh;
use crate::net::tcp::Limits;
use crate::net::tls::Roots;
use crate::source::Source;
use crate::source::bucket::BucketSource;
use crate::source::files::FilesOptions;
use crate::source::files::FilesSource;
use crate::source::filter::Filter;
use crate::target::Target;
use crate::target::bucket::BucketTarget;
use crate::target::files::FilesTarget;
use std::path::PathBuf;
use std::sync::Arc;

/// Hosts that the whole machine knows.
const SSH_KNOWN_HOSTS: &str = "/etc/ssh/ssh_known_hosts";
const SSH_PORT: u16 = 22;
const FTP_PORT: u16 = 21;

/// What was said of other machines, in flags or in a file.
#[derive(Clone, Debug, Default)]
pub struct RemoteSettings {
    /// `--connect-timeout` and `--timeout`: how long a server may take.
    pub limits: Limits,
    /// `--limit-upload` and `--limit-download`, for sources and targets: each has them for itself.
    /// Those of a repository are around its backend.
    pub bandwidth: Bandwidth,
    /// Wakes whoever waits for the line.
    pub cancel: Cancel,
    /// `--tls-ca`: a file with certificates to trust besides those of the system.
    pub tls_ca: Option<PathBuf>,
    /// `--accept-new-host-key`: whether the key of an SSH server that was never met is taken.
    pub accept_new_host_key: bool,
    /// What the config file says, by address.
    pub configured: Vec<(Address, Configured)>,
}

/// Whether a repository is made or must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// It must be there.
    Open,
    /// It is made.
    Create,
}

/// Which versions of a bucket's objects are backed up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Versions {
    /// Those that a plain look shows.
    Newest,
    /// Older ones, too.
    All,
}

/// Makes what opens sessions with an FTP or SFTP server.
fn connect(address: &Address, login: Login, settings: &RemoteSettings) -> Result<Arc<dyn Connect>> {
    match address.scheme() {
        Scheme::Sftp => Ok(Arc::new(ssh_server(address, login, settings))),
        Scheme::Ftp | Scheme::Ftps => ftp_server(address, login, settings),
        Scheme::S3 => Err(Error::bug("a bucket has no sessions")),
    }
}

fn ftp_server(
    address: &Address,
    login: Login,
    settings: &RemoteSettings,
) -> Result<Arc<dyn Connect>> {
    let is_secure = address.scheme() == Scheme::Ftps;
    let port = address.port().unwrap_or(FTP_PORT);
    let mut options = ftp::Options::new(address.host(), port, is_secure);
    options.user = Some(login.user).filter(|user| !user.is_empty());
    options.password = login.password;
    options.roots = Roots { extra: settings.tls_ca.clone() };
    options.limits = settings.limits;
    Ok(Arc::new(ftp::Server::new(options)?))
}

fn ssh_server(address: &Address, login: Login, settings: &RemoteSettings) -> ssh::Server {
    let unknown = match settings.accept_new_host_key {
        true => ssh::Unknown::Accept,
        false if secret::can_ask() => ssh::Unknown::Ask(Box::new(takes_host)),
        false => ssh::Unknown::Refuse,
    };
    let Login { user, password, keys, agent, known_hosts } = login;
    let files = known_hosts.into_iter().chain([PathBuf::from(SSH_KNOWN_HOSTS)]).collect();
    let hosts = ssh::Hosts { files, unknown };
    // What somebody types for a key opens the key as well.
    let passphrase = password.clone();
    let login = ssh::Login { user, agent, keys, passphrase, password };
    let port = address.port().unwrap_or(SSH_PORT);
    ssh::Server::new(address.host(), port, login, hosts).limits(settings.limits)
}

fn takes_host(host: &ssh::HostKey) -> bool {
    let ssh::HostKey { host, algorithm, fingerprint } = host;
    secret::confirm(&format!(
        "{host} is not known: it shows the key {algorithm} {fingerprint}. Is that its key?"
    ))
}

fn bucket_options(address: &Address, keys: Keys, settings: &RemoteSettings) -> s3::Options {
    let Keys { pair, session_token, region, endpoint } = keys;
    let credentials =
        pair.map(|(access_key, secret_key)| Credentials { access_key, secret_key, session_token });
    let roots = Roots { extra: settings.tls_ca.clone() };
    let http = http::Options { roots, limits: settings.limits, ..http::Options::default() };
    let bucket = address.host().to_owned();
    s3::Options { endpoint, region, bucket, style: None, credentials, http }
}

/// Opens a bucket as a backend.
fn bucket(
    address: &Address,
    keys: Keys,
    settings: &RemoteSettings,
    purpose: Purpose,
) -> Result<Arc<dyn Backend>> {
    let options = S3Options {
        bucket: bucket_options(address, keys, settings),
        prefix: String::from_utf8_lossy(address.path()).into_owned(),
        atomic_create: None,
    };
    let (clock, sleeper) = (Arc::new(SystemClock), Arc::new(SystemSleeper::new(Cancel::new())));
    let opened = match purpose {
        Purpose::Open => S3Backend::open(&options, clock, sleeper)?,
        Purpose::Create => S3Backend::create(&options, clock, sleeper)?,
    };
    Ok(Arc::new(opened))
}

fn bucket_client(address: &Address, keys: Keys, settings: &RemoteSettings) -> Result<Client> {
    let mut options = bucket_options(address, keys, settings);
    options.http.pace = settings.pace();
    let sleeper = SystemSleeper::new(Cancel::new());
    let wait = Arc::new(move |time| sleeper.sleep(time));
    Client::new(&options, Arc::new(SystemClock), wait)
}

impl RemoteSettings {
    fn wallet<T>(&self, work: impl FnOnce(&Wallet<'_>) -> Result<T>) -> Result<T> {
        work(&Wallet {
            configured: &self.configured,
            look: &places::variable,
            home: places::home(),
            may_ask: secret::can_ask(),
        })
    }

    /// Returns the bounds on the line to a source or a target, if there are any.
    fn pace(&self) -> Option<Arc<Pace>> {
        let sleeper = Arc::new(SystemSleeper::new(self.cancel.clone()));
        let is_bound = self.bandwidth != Bandwidth::default();
        is_bound.then(|| Arc::new(self.bandwidth.pace(Arc::new(SystemClock), sleeper)))
    }

    /// Makes the sessions with the server of a source or a target.
    fn paced_pool(&self, address: &Address) -> Result<Arc<Pool>> {
        let login = self.wallet(|wallet| wallet.login(address))?;
        let mut connect = connect(address, login, self)?;
        if let Some(pace) = self.pace() {
            connect = Arc::new(PacedServer::new(connect, pace));
        }
        let (clock, options) = (Arc::new(SystemClock), PoolOptions::default());
        Ok(Pool::stoppable(connect, clock, options, self.cancel.clone()))
    }

    fn pool(&self, address: &Address) -> Result<Arc<Pool>> {
        let login = self.wallet(|wallet| wallet.login(address))?;
        let connect = connect(address, login, self)?;
        Ok(Pool::new(connect, Arc::new(SystemClock), PoolOptions::default()))
    }

    /// Opens a repository's backend, or makes it.
    ///
    /// # Errors
    /// `NoRepository` when it has to be there and is not; those of credentials and servers.
    pub fn backend(&self, address: &Address, purpose: Purpose) -> Result<Arc<dyn Backend>> {
        let opened: Result<Arc<dyn Backend>> = if address.scheme() == Scheme::S3 {
            let keys = self.wallet(|wallet| wallet.keys(address))?;
            bucket(address, keys, self, purpose)
        } else {
            let (pool, shown) = (self.pool(address)?, address.to_string());
            // Others at work may have taken all the sessions that the server gives.
            let sleeper = SystemSleeper::new(Cancel::new());
            let backend = while_busy(RetryPolicy::default(), &sleeper, || match purpose {
                Purpose::Open => {
                    FilesBackend::open(Arc::clone(&pool), address.path(), shown.clone(), None)
                }
                Purpose::Create => {
                    FilesBackend::create(Arc::clone(&pool), address.path(), shown.clone())
                }
            });
            backend.map(|backend| Arc::new(backend) as Arc<dyn Backend>)
        };
        opened.map_err(|e| match e.kind() {
            ErrorKind::NotFound => {
                Error::new(ErrorKind::NoRepository, format!("there is no repository at {address}"))
                    .at(Origin::Repository)
            }
            _ => e.at(Origin::Repository),
        })
    }

    /// Returns where in a place another one is, when both are on one server.
    ///
    /// # Errors
    /// Those of credentials, which say where a bucket is, and who logs in.
    pub(super) fn within(&self, folder: &Address, other: &Address) -> Result<Option<EntryPath>> {
        self.wallet(|wallet| within(folder, other, wallet))
    }

    /// Returns what names a place on another machine: buckets of one name are others at other
    /// stores.
    ///
    /// # Errors
    /// Those of credentials.
    pub fn name_of(&self, address: &Address) -> Result<String> {
        if address.scheme() != Scheme::S3 {
            return Ok(address.to_string());
        }
        let endpoint = self.wallet(|wallet| wallet.keys(address))?.endpoint;
        let endpoint = endpoint.as_deref().unwrap_or_default().trim_end_matches('/');
        let prefix = String::from_utf8_lossy(address.path());
        Ok(format!("s3://{}/{} {endpoint}", address.host(), prefix.trim_matches('/')))
    }

    /// Opens a source; `repository` is left out when it is in it.
    ///
    /// # Errors
    /// Those of credentials and servers.
    pub fn source(
        &self,
        address: &Address,
        filter: Filter,
        repository: Option<&Address>,
        versions: Versions,
    ) -> Result<Box<dyn Source>> {
        let at_source = |e: Error| e.at(Origin::Source);
        let excluded = match repository {
            Some(repository) => self.within(address, repository)?,
            None => None,
        };
        if address.scheme() == Scheme::S3 {
            let keys = self.wallet(|wallet| wallet.keys(address))?;
            let client = bucket_client(address, keys, self).map_err(at_source)?;
            let prefix = String::from_utf8_lossy(address.path());
            let source = BucketSource::new(client, &prefix).filtered(filter);
            let source = match excluded {
                Some(folder) if folder.is_root() => {
                    let message = format!("cannot read {address}: it is the repository");
                    return Err(at_source(Error::invalid(message)));
                }
                Some(folder) => source.without(folder),
                None => source,
            };
            return Ok(Box::new(match versions {
                Versions::Newest => source,
                Versions::All => source.with_versions(),
            }));
        }
        let pool = self.paced_pool(address).map_err(at_source)?;
        let excluded = excluded.into_iter().collect();
        let options = FilesOptions { filter: Some(filter), excluded, ..FilesOptions::default() };
        let source = FilesSource::open(pool, address.path(), address.to_string(), options)?;
        Ok(Box::new(source))
    }

    /// Names a place to restore to; long files are gathered in the folder `scratch` on their way.
    ///
    /// # Errors
    /// Those of credentials.
    pub fn target(&self, address: &Address, scratch: PathBuf) -> Result<Box<dyn Target>> {
        let at_target = |e: Error| e.at(Origin::Target);
        if address.scheme() == Scheme::S3 {
            let keys = self.wallet(|wallet| wallet.keys(address))?;
            let client = bucket_client(address, keys, self).map_err(at_target)?;
            let prefix = String::from_utf8_lossy(address.path());
            return Ok(Box::new(BucketTarget::new(client, &prefix, scratch)));
        }
        let pool = self.paced_pool(address).map_err(at_target)?;
        let target = FilesTarget::new(pool, address.path(), address.to_string(), scratch);
        Ok(Box::new(target))
    }
}

/// Puts tries around a backend that is reached over a network.
pub fn patient(backend: Arc<dyn Backend>, sleeper: Arc<dyn Sleeper>) -> Arc<dyn Backend> {
    Arc::new(RetryBackend::new(backend, RetryPolicy::default(), sleeper))
}

/// Returns where in a folder another one is, when both are on one server. Where two users land
/// may be two places, whoever named them, and buckets of two stores are two.
fn within(folder: &Address, other: &Address, wallet: &Wallet<'_>) -> Result<Option<EntryPath>> {
    let Some(path) = within_server(folder, other) else { return Ok(None) };
    let is_one = if folder.scheme() == Scheme::S3 {
        let store = |it: &Address| wallet.keys(it).map(|it| store_of(it.endpoint.as_deref()));
        store(folder)? == store(other)?
    } else {
        folder.start() == Start::Root || wallet.user(folder)? == wallet.user(other)?
    };
    Ok(is_one.then_some(path))
}

/// Returns where in a folder another one is, as far as what is typed tells.
fn within_server(folder: &Address, other: &Address) -> Option<EntryPath> {
    let server = |it: &Address| {
        let scheme = if it.scheme() == Scheme::Ftps { Scheme::Ftp } else { it.scheme() };
        (scheme, it.host().to_ascii_lowercase(), it.port(), it.start())
    };
    if server(folder) != server(other) {
        return None;
    }
    let part = |path: &[u8]| {
        let start = path.iter().take_while(|&&byte| byte == b'/').count();
        EntryPath::new(&path[start..]).ok()
    };
    part(other.path())?.relative_to(&part(folder.path())?)
}

/// Returns what tells one store from another. Amazon's are one, whatever they are called.
fn store_of(endpoint: Option<&str>) -> String {
    let host = endpoint.unwrap_or_default().trim_end_matches('/').to_ascii_lowercase();
    let host = host.split_once("://").map(|(_, host)| host.to_owned()).unwrap_or(host);
    if host.contains("amazonaws.com") { String::new() } else { host }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        Address::parse(text.as_bytes()).expect(text).expect(text)
    }

    #[test]
    fn a_bucket_is_known_by_its_store_and_a_prefix_without_slashes_around() {
        let named = |endpoint: &str, text: &str| {
            let endpoint = Some(endpoint.to_owned());
            let configured = Configured { endpoint, ..Configured::default() };
            let configured = vec![(address("s3://b"), configured)];
            let settings = RemoteSettings { configured, ..RemoteSettings::default() };
            settings.name_of(&address(text)).expect("a name")
        };
        let one = named("https://one", "s3://b/p");
        assert_eq!(named("https://one/", "s3://b/p/"), one);
        assert_ne!(named("https://other", "s3://b/p"), one);
        assert_ne!(named("https://one", "s3://b/q"), one);
        assert_eq!(named("https://one", "ftp://h/p"), "ftp://h/p");
    }

    #[test]
    fn a_repository_within_its_source_is_found() {
        let found = |folder: &str, other: &str| {
            let alice = Configured { user: Some("alice".to_owned()), ..Configured::default() };
            let configured = ["ftp://nas", "sftp://nas"].map(|it| (address(it), alice.clone()));
            let wallet =
                Wallet { configured: &configured, look: &|_| None, home: None, may_ask: false };
            let path = within(&address(folder), &address(other), &wallet).expect("told");
            path.map(|path| path.to_string())
        };
        assert_eq!(found("ftp://h/data", "ftp://H/data/b/c"), Some("b/c".to_owned()));
        assert_eq!(found("ftp://nas/", "ftp://alice@nas/photos"), Some("photos".to_owned()));
        assert_eq!(found("ftp://nas/", "ftp://bob@nas/photos"), None, "of another user");
        assert_eq!(found("ftp://h/", "ftp://bob@h/photos"), None, "nobody logs in as bob");
        assert_eq!(found("sftp://nas/~/a", "sftp://bob@nas/~/a/b"), None);
        assert_eq!(found("sftp://nas/~/a", "sftp://alice@nas/~/a/b"), Some("b".to_owned()));
        assert_eq!(found("sftp://nas/a", "sftp://bob@nas/a/b"), Some("b".to_owned()));
        assert_eq!(found("sftp://h/~/a", "sftp://h/~/a/b"), Some("b".to_owned()));
        assert_eq!(found("ftp://h", "ftps://h/b"), Some("b".to_owned()));
        assert_eq!(found("sftp://h/a", "sftp://h/a"), Some(String::new()));
        assert_eq!(found("sftp://h/a", "sftp://h/ab"), None);
        assert_eq!(found("sftp://h/a", "sftp://h/~/a/b"), None);
        assert_eq!(found("sftp://h/a", "ftp://h/%2Fa/b"), None);
        assert_eq!(found("ftp://h:2121/a", "ftp://h/a/b"), None);
        assert_eq!(found("ftp://h:2121/a", "ftps://h:2121/a/b"), Some("b".to_owned()));
        assert_eq!(found("ftp://me@h/", "ftp://you@h/a"), None, "each has a folder");
        assert_eq!(found("sftp://me@h/a", "sftp://you@h/a/b"), Some("b".to_owned()));
        assert_eq!(found("s3://b", "s3://b/a"), Some("a".to_owned()));
        assert_eq!(found("s3://b/a/", "s3://b/a/b/c"), Some("b/c".to_owned()));
        assert_eq!(found("s3://b/a", "s3://b/ab"), None);
        assert_eq!(found("s3://b", "s3://c/a"), None);
        assert_eq!(found("s3://b", "ftp://b/a"), None);
    }

    #[test]
    fn stores_are_told_by_their_hosts() {
        let stores = [Some("https://H:9000/"), Some("http://h:9000"), None].map(store_of);
        assert_eq!(stores, ["h:9000", "h:9000", ""]);
        assert_eq!(store_of(Some("https://s3.eu-west-1.amazonaws.com")), store_of(None));
        assert_ne!(store_of(Some("http://h:9001")), store_of(Some("http://h:9000")));
    }
}
