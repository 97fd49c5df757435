//! The composition root: location strings to open repositories and sources.

use crate::backend::Backend;
use crate::backend::local::LocalBackend;
use crate::backend::memory::MemoryBackend;
use crate::backend::wrap::sleeper::SystemSleeper;
use crate::backend::wrap::throttle::Bandwidth;
use crate::backend::wrap::throttle::ThrottleBackend;
use crate::base::cancel::Cancel;
use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::id::RepositoryId;
use crate::base::path::display;
use crate::base::secret::Secret;
use crate::base::sys;
use crate::base::time::SystemClock;
use crate::base::time::Timestamp;
use crate::config::foreign;
use crate::config::places;
use crate::config::remote;
use crate::config::remote::Purpose;
use crate::config::remote::RemoteSettings;
use crate::config::sealed::SealedPlace;
use crate::config::secret;
use crate::config::secret::PasswordPlaces;
use crate::format::config::Encryption;
use crate::net::address::Address;
use crate::repository::Repository;
use crate::repository::cache::CachePlace;
use crate::repository::open;
use crate::repository::open::CreateOptions;
use crate::target::Target;
use crate::target::local::LocalTarget;
use std::borrow::Cow;
use std::ffi::OsStr;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

/// What a person said of the repository, in flags, in the environment or in a file.
#[derive(Clone)]
pub struct Settings {
    /// Where it is; the default place when not said.
    pub location: Option<OsString>,
    /// Where its password may come from.
    pub password: PasswordPlaces,
    /// The folder for caches; the default one when not said.
    pub cache: Option<PathBuf>,
    /// Whether nothing is kept between runs.
    pub no_cache: bool,
    /// How much may go over the line.
    pub bandwidth: Bandwidth,
    /// What was said of other machines.
    pub remote: RemoteSettings,
    /// Wakes whoever waits for the line.
    pub cancel: Cancel,
}

/// Where a repository is, and how it came to be that place.
#[derive(Clone, PartialEq, Eq)]
pub struct Place {
    /// As it was said.
    pub location: OsString,
    /// Whether nobody named it.
    pub is_default: bool,
}

/// The location may hold a password.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("password", &self.password)
            .field("cache", &self.cache)
            .field("remote", &self.remote)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let location = self.location.to_string_lossy();
        let shown = without_password(&location);
        f.debug_tuple("Place").field(&shown).field(&self.is_default).finish()
    }
}

impl Place {
    /// Says whether it is reached over a network.
    ///
    /// # Errors
    /// Those of [`Location::parse`].
    pub fn is_remote(&self) -> Result<bool> {
        Ok(matches!(Location::parse(&self.location)?, Location::Remote(_)))
    }

    /// Returns the folder of this machine that it is right in, where that is missing: of a disk
    /// that is not mounted, as a rule.
    ///
    /// # Errors
    /// Those of [`Location::parse`].
    pub fn missing_parent(&self) -> Result<Option<PathBuf>> {
        let Location::Folder(path) = Location::parse(&self.location)? else { return Ok(None) };
        let path = sys::absolute(&path).unwrap_or(path);
        Ok(path.parent().filter(|above| !above.exists()).map(Path::to_path_buf))
    }
}

/// A location as it was understood.
#[derive(Clone, Debug)]
pub enum Location {
    /// A folder of this machine.
    Folder(PathBuf),
    /// A place on another one.
    Remote(Address),
}

impl Location {
    /// Reads a location: a path, one after `file:`, or an address.
    ///
    /// # Errors
    /// `InvalidInput` for an address that makes no sense, for an unknown scheme, and for what
    /// other programs take for an address, unless it is there.
    pub fn parse(location: &OsStr) -> Result<Self> {
        let bytes = location.as_bytes();
        if bytes.is_empty() {
            return Err(Error::invalid("an empty location names nothing"));
        }
        if let Some(rest) = bytes.strip_prefix(b"file:") {
            let path = rest.strip_prefix(b"//").filter(|it| it.starts_with(b"/")).unwrap_or(rest);
            return Ok(Location::Folder(Path::new(OsStr::from_bytes(path)).to_path_buf()));
        }
        if let Some(address) = Address::parse(bytes)? {
            return Ok(Location::Remote(address));
        }
        match scheme(location) {
            None => {
                foreign::refuse(bytes, Path::new(location))?;
                Ok(Location::Folder(PathBuf::from(location)))
            }
            Some(other) => Err(foreign::unknown(other)),
        }
    }
}

/// Returns what a person should know of a location that was typed: whoever lists the processes
/// can read a password in it.
pub fn note_on(location: &OsStr) -> Option<String> {
    let address = Address::parse(location.as_bytes()).ok().flatten()?;
    address.password()?;
    let server = address.server();
    Some(format!(
        "others on this machine can see the password of {server} in the list of processes; \
         the config file can hold it: [credentials.\"{server}\"]"
    ))
}

/// Returns the scheme of a location that is an address.
pub(crate) fn scheme(location: &OsStr) -> Option<&str> {
    let text = location.as_bytes();
    let end = text.windows(3).position(|window| window == b"://")?;
    let scheme = std::str::from_utf8(&text[..end]).ok()?;
    // In capitals as well: taken for a folder, the password in it would be a name on the disk.
    let fits = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric());
    fits.then_some(scheme)
}

/// Returns an address as it may be shown: without the password that it may hold.
pub fn without_password(location: &str) -> Cow<'_, str> {
    let Some(start) = location.find("://").map(|at| at + "://".len()) else {
        return Cow::Borrowed(location);
    };
    match password_in(&location[start..]) {
        None => Cow::Borrowed(location),
        Some((from, to)) => {
            Cow::Owned(format!("{}{}", &location[..start + from], &location[start + to..]))
        }
    }
}

/// Returns a text without the passwords of all addresses in it. Whoever makes a message shows
/// none; this is for what others make of what somebody typed.
pub fn without_passwords(text: &str) -> Cow<'_, str> {
    let ends = |c: char| c.is_whitespace() || c.is_control() || "'\"`".contains(c);
    let mut shown = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("://").map(|at| at + "://".len()) {
        let end = rest[start..].find(ends).map_or(rest.len(), |end| start + end);
        let (from, to) = password_in(&rest[start..end]).unwrap_or((end - start, end - start));
        shown.push_str(&rest[..start + from]);
        shown.push_str(&rest[start + to..end]);
        rest = &rest[end..];
    }
    if shown.len() + rest.len() == text.len() {
        return Cow::Borrowed(text);
    }
    shown.push_str(rest);
    Cow::Owned(shown)
}

/// Finds the password, with the colon before it, in what stands behind the `://` of an address.
fn password_in(place: &str) -> Option<(usize, usize)> {
    let end = place.find('/').unwrap_or(place.len());
    let colon = place[..end].find(':')?;
    if let Some(at) = place[..end].rfind('@') {
        return (colon < at).then_some((colon, at));
    }
    // A slash in a password should have been written as %2F, and often is not.
    let is_port = place[colon + 1..end].bytes().all(|byte| byte.is_ascii_digit());
    let at = place.rfind('@').filter(|_| !is_port && !place.starts_with('['))?;
    Some((colon, at))
}

/// Returns the folder that a location names: a path, or one after `file:`.
///
/// # Errors
/// `Unsupported` for what is reached over a network; those of [`Location::parse`].
pub fn local_path(location: &OsStr) -> Result<PathBuf> {
    match Location::parse(location)? {
        Location::Folder(path) => Ok(path),
        Location::Remote(address) => {
            let message = format!("a folder of this machine is wanted, and {address} is none");
            Err(Error::new(ErrorKind::Unsupported, message))
        }
    }
}

impl Settings {
    /// Returns where the repository is: as said, or the default place.
    ///
    /// # Errors
    /// `InvalidInput` when not even a default place is known.
    pub fn place(&self) -> Result<Place> {
        match self.location.clone() {
            Some(location) => Ok(Place { location, is_default: false }),
            None => {
                let location = places::default_repository()?.into_os_string();
                Ok(Place { location, is_default: true })
            }
        }
    }

    /// Returns the folder of the cache, whether it is used or not.
    ///
    /// # Errors
    /// `InvalidInput` when not even a default one is known.
    pub fn cache_folder(&self) -> Result<PathBuf> {
        match &self.cache {
            Some(folder) => Ok(folder.clone()),
            None if self.no_cache => Ok(places::scratch()),
            None => places::default_cache(),
        }
    }

    /// Returns the folder of the cache that is kept, whether this run uses it or not.
    ///
    /// # Errors
    /// `InvalidInput` when not even a default one is known.
    pub fn kept_cache_folder(&self) -> Result<PathBuf> {
        self.cache.clone().map_or_else(places::default_cache, Ok)
    }

    /// Says why the cache that nobody named cannot be used; None where it can, or is not wanted.
    pub fn unusable_cache(&self) -> Option<Error> {
        if self.no_cache || self.cache.is_some() {
            return None;
        }
        let folder = match places::default_cache() {
            Ok(folder) => folder,
            Err(e) => return Some(e),
        };
        let shown = display(folder.as_os_str().as_bytes());
        let failed = |e| Error::io(format!("cannot write to {shown}"), e);
        sys::check_writable(&folder).map_err(failed).err()
    }

    fn cache_place(&self) -> Result<CachePlace> {
        let folder = self.cache_folder()?;
        Ok(if self.no_cache { CachePlace::Scratch(folder) } else { CachePlace::Kept(folder) })
    }

    /// Names a place to restore to: a folder, or one on another machine.
    ///
    /// # Errors
    /// `InvalidInput` for what is no place; those of credentials.
    pub fn target(&self, location: &OsStr) -> Result<Box<dyn Target>> {
        match Location::parse(location)? {
            Location::Folder(path) => Ok(Box::new(LocalTarget::new(&path))),
            Location::Remote(address) => {
                let scratch = self.cache_folder()?;
                sys::make_private_folder(&scratch)?;
                self.remote.target(&address, scratch)
            }
        }
    }

    /// Opens the repository, asking for a password when one is needed and a person is there.
    ///
    /// # Errors
    /// `NoRepository`; `Password`; `Unsupported`; `Corrupt`.
    pub fn open(&self) -> Result<Repository> {
        self.open_keeping().map(|(repository, _)| repository)
    }

    /// Opens the repository, and returns the password that opened it.
    ///
    /// # Errors
    /// Those of [`Settings::open`].
    pub fn open_keeping(&self) -> Result<(Repository, Option<Secret>)> {
        let backend = self.backend(Purpose::Open)?;
        let peeked = open::peek(&*backend)?;
        let is_encrypted = peeked.config.encryption == Encryption::Password;
        let mut password = self.password.find()?;
        let sealed = self.sealed_place()?;
        if let Some(sealed) = &sealed
            && !is_encrypted
            && password.is_none()
            && sealed.is_known()
        {
            return Err(sealed.unsealed(&backend.location()));
        }
        if is_encrypted && password.is_none() && secret::can_ask() {
            password = Some(secret::ask(&format!("password for {}", backend.location()))?);
        }
        let repository =
            open::open_peeked(backend, peeked, password.as_ref(), &self.cache_place()?)?;
        if let Some(sealed) = sealed.filter(|_| is_encrypted && !self.no_cache) {
            sealed.remember();
        }
        Ok((repository, password))
    }

    /// Where it is kept whether the repository was encrypted; nowhere without any cache.
    fn sealed_place(&self) -> Result<Option<SealedPlace>> {
        let place = match Location::parse(&self.place()?.location)? {
            Location::Folder(path) => {
                fs::canonicalize(&path).or_else(|_| std::path::absolute(&path)).unwrap_or(path)
            }
            Location::Remote(address) => PathBuf::from(self.remote.name_of(&address)?),
        };
        let cache = self.kept_cache_folder().ok();
        Ok(cache.map(|cache| SealedPlace::new(&cache, place.as_os_str())))
    }

    /// Returns whether a repository that is made by the way has to be encrypted: on another
    /// machine others read it, and where one was encrypted before nobody wants less.
    ///
    /// # Errors
    /// Those of [`Settings::place`].
    pub fn needs_password(&self) -> Result<bool> {
        Ok(self.place()?.is_remote()? || self.sealed_place()?.is_some_and(|it| it.is_known()))
    }

    /// Opens the place of a repository that is there, for what needs no password.
    ///
    /// # Errors
    /// `NoRepository`; `Unsupported`; `Corrupt`.
    pub fn open_backend(&self) -> Result<Arc<dyn Backend>> {
        let backend = self.backend(Purpose::Open)?;
        open::peek(&*backend)?;
        Ok(backend)
    }

    /// Returns the password for a new repository: one that was given, or when a person is to
    /// choose, one that is typed twice.
    ///
    /// # Errors
    /// `Password` when it is needed and nobody can be asked.
    pub fn new_password(&self, is_needed: bool) -> Result<Option<Secret>> {
        let found = self.password.find()?;
        found.as_ref().map_or(Ok(()), secret::refuse_empty)?;
        if found.is_none() && self.password.is_emptied() {
            return Err(secret::is_empty().hint(format!(
                "{} is set and empty: unset it, or add `--encryption none` to `init`",
                self.password.variable
            )));
        }
        if found.is_some() || !is_needed {
            return Ok(found);
        }
        if secret::can_ask() {
            return secret::ask_new("password for the new repository").map(Some);
        }
        Err(Error::new(ErrorKind::Password, "a new repository needs a password")
            .hint("set ICECORE_PASSWORD, or use --password-file FILE or --password-command CMD"))
    }

    /// Creates the repository.
    ///
    /// # Errors
    /// `AlreadyExists`; `InvalidInput` when other things are there; `Unsupported`.
    pub fn create(&self, options: &CreateOptions, now: Timestamp) -> Result<Repository> {
        let cache = self.cache_place()?;
        let backend = self.backend(Purpose::Create)?;
        let repository = open::create(backend, options, &cache, now)?;
        if let Some(sealed) = self.sealed_place()? {
            match options.password {
                None => sealed.forget(),
                Some(_) if self.no_cache => {}
                Some(_) => sealed.remember(),
            }
        }
        Ok(repository)
    }

    /// Returns the id of the repository, for which no password is needed.
    ///
    /// # Errors
    /// `NoRepository`; `Unsupported`; `Corrupt`.
    pub fn repository_id(&self) -> Result<RepositoryId> {
        Ok(open::peek(&*self.backend(Purpose::Open)?)?.config.id)
    }

    /// Opens the place, or makes it.
    fn backend(&self, purpose: Purpose) -> Result<Arc<dyn Backend>> {
        match Location::parse(&self.place()?.location)? {
            Location::Folder(path) => Ok(self.throttled(match purpose {
                Purpose::Open => Arc::new(open_folder(&path)?),
                Purpose::Create => Arc::new(LocalBackend::create(&path)?),
            })),
            Location::Remote(address) => {
                let backend = self.throttled(self.remote.backend(&address, purpose)?);
                let sleeper = Arc::new(SystemSleeper::new(self.cancel.clone()));
                Ok(remote::patient(backend, sleeper))
            }
        }
    }

    /// Puts the bounds on bandwidth around a backend, if there are any.
    fn throttled(&self, backend: Arc<dyn Backend>) -> Arc<dyn Backend> {
        if self.bandwidth == Bandwidth::default() {
            return backend;
        }
        let clock = Arc::new(SystemClock);
        let sleeper = Arc::new(SystemSleeper::new(self.cancel.clone()));
        Arc::new(ThrottleBackend::new(backend, self.bandwidth, clock, sleeper))
    }

    /// Returns paths that no backup may hold: the repository and the cache.
    ///
    /// # Errors
    /// Those of [`Settings::place`].
    pub fn excluded(&self) -> Result<Vec<PathBuf>> {
        let mut excluded = match Location::parse(&self.place()?.location)? {
            Location::Folder(path) => vec![path],
            Location::Remote(_) => Vec::new(),
        };
        // Whether this run uses it or not: the next one may, and each restore leaves it alone.
        excluded.extend(self.kept_cache_folder());
        Ok(excluded)
    }
}

fn open_folder(path: &Path) -> Result<LocalBackend> {
    let shown = display(path.as_os_str().as_bytes());
    // As the backend for servers without links keeps it. Where none of its ways to create was
    // exact the config is a file as here, and the mark says so: to write as if links were the way
    // would be unseen by those who write over the server.
    let is_there = |name: &str| path.join(name).symlink_metadata().is_ok();
    let sign = if is_there("config") { "way+" } else { "config+" };
    if is_there(sign) {
        let message = format!("the repository at {shown} was made over FTP, or SFTP without links");
        return Err(Error::new(ErrorKind::Unsupported, message)
            .hint("open it through that server: `-r ftp://...` or `-r sftp://...`")
            .at(Origin::Repository));
    }
    LocalBackend::open(path).map_err(|e| match e.kind() {
        ErrorKind::NotFound => {
            Error::new(ErrorKind::NoRepository, format!("there is no repository at {shown}"))
                .at(Origin::Repository)
        }
        _ => e,
    })
}

/// Returns an empty repository that lives in memory: what a dry run stands on before the first
/// backup.
///
/// # Errors
/// Those of the cache's folder.
pub fn imagined(now: Timestamp) -> Result<Repository> {
    let cache = CachePlace::Scratch(places::scratch());
    open::create(Arc::new(MemoryBackend::default()), &CreateOptions::default(), &cache, now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_paths_or_schemes() {
        let path = |text: &str| local_path(OsStr::new(text));
        assert_eq!(path("a/b").expect("a path"), PathBuf::from("a/b"));
        assert_eq!(path("file:a").expect("a path"), PathBuf::from("a"));
        assert_eq!(path("file:/a").expect("a path"), PathBuf::from("/a"));
        assert_eq!(path("file:///a").expect("a path"), PathBuf::from("/a"));
        assert_eq!(path("./x://y").expect("a path"), PathBuf::from("./x://y"));
        for remote in ["ftp://h/p", "ftps://h", "sftp://u@h:22/p", "s3://b/p"] {
            assert_eq!(path(remote).expect_err(remote).kind(), ErrorKind::Unsupported);
        }
        for bad in ["gopher://x", "FTP://x", "", "ftp://h:x/", "s3://b:9000/x"] {
            assert_eq!(path(bad).expect_err(bad).kind(), ErrorKind::InvalidInput);
        }
    }

    #[test]
    fn a_typed_password_is_noted_without_being_shown() {
        let note = note_on(OsStr::new("ftp://me:hunter2@h:2121/x")).expect("a note");
        assert!(note.contains("[credentials.\"ftp://h:2121\"]") && !note.contains("hunter2"));
        for text in ["ftp://me@h/x", "a/b", "ftp://"] {
            assert!(note_on(OsStr::new(text)).is_none(), "{text}");
        }
    }

    #[test]
    fn a_refused_address_shows_no_password() {
        let error = local_path(OsStr::new("ftp://me:hunter2@host/")).expect_err("refused");
        assert!(!error.full_message().contains("hunter2"));
    }

    #[test]
    fn an_address_is_shown_without_its_password() {
        for (location, shown) in [
            ("ftp://me:hunter2@host:21/a@b:c", "ftp://me@host:21/a@b:c"),
            ("sftp://me:hun@ter2@host", "sftp://me@host"),
            ("ftp://me@host:21/x", "ftp://me@host:21/x"),
            ("ftp://host:21/x@y", "ftp://host:21/x@y"),
            ("/a:b@c", "/a:b@c"),
            ("ftp://me:hun/ter2@host/x", "ftp://me@host/x"),
            ("s3://KEY:hun/t/er2@bucket", "s3://KEY@bucket"),
            ("ftp://[::1]:21/x@y", "ftp://[::1]:21/x@y"),
            ("ftp://me@host:21/x:y@z", "ftp://me@host:21/x:y@z"),
        ] {
            assert_eq!(without_password(location), shown);
            assert_eq!(without_passwords(location), shown);
        }
        for (text, shown) in [
            ("no 'ftp://me:hunter2@h/x' in a://b:c@d: it", "no 'ftp://me@h/x' in a://b@d: it"),
            ("cannot reach https://h:9000: user a@b", "cannot reach https://h:9000: user a@b"),
            ("\u{1b}[33mftp://me:hunter2@h\u{1b}[0m", "\u{1b}[33mftp://me@h\u{1b}[0m"),
            ("a b: c@d", "a b: c@d"),
        ] {
            assert_eq!(without_passwords(text), shown);
        }
    }
}
