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
use crate::base::time::SystemClock;
use crate::base::time::Timestamp;
use crate::config::places;
use crate::config::secret;
use crate::config::secret::PasswordPlaces;
use crate::engine::address;
use crate::format::config::Encryption;
use crate::format::dataset::DatasetName;
use crate::repository::Repository;
use crate::repository::cache::CachePlace;
use crate::repository::open;
use crate::repository::open::CreateOptions;
use crate::source::filter::Filter;
use crate::source::local::LocalOptions;
use crate::source::local::LocalSource;
use std::borrow::Cow;
use std::ffi::OsStr;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

/// Schemes that later versions reach over a network.
pub(crate) const REMOTE_SCHEMES: [&str; 4] = ["ftp", "ftps", "sftp", "s3"];

/// What a person said of the repository, in flags, in the environment or in a file.
#[derive(Clone, Debug)]
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
    /// Wakes whoever waits for the line.
    pub cancel: Cancel,
}

/// Where a repository is, and how it came to be that place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// As it was said.
    pub location: OsString,
    /// Whether nobody named it.
    pub is_default: bool,
}

impl Place {
    /// Says whether it is reached over a network, going by its scheme alone.
    pub fn is_remote(&self) -> bool {
        scheme(&self.location).is_some_and(|scheme| REMOTE_SCHEMES.contains(&scheme))
    }
}

/// Returns the scheme of a location that is an address.
pub(crate) fn scheme(location: &OsStr) -> Option<&str> {
    let text = location.as_bytes();
    let end = text.windows(3).position(|window| window == b"://")?;
    let scheme = std::str::from_utf8(&text[..end]).ok()?;
    let fits = scheme.starts_with(|c: char| c.is_ascii_lowercase())
        && scheme.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    fits.then_some(scheme)
}

/// Returns an address as it may be shown: without the password that it may hold.
pub fn without_password(location: &str) -> Cow<'_, str> {
    let shown = |start: usize| {
        let end = location[start..].find('/').map_or(location.len(), |end| start + end);
        let at = start + location[start..end].rfind('@')?;
        let colon = start + location[start..at].find(':')?;
        Some(format!("{}{}", &location[..colon], &location[at..]))
    };
    let start = location.find("://").map(|at| at + "://".len());
    start.and_then(shown).map_or(Cow::Borrowed(location), Cow::Owned)
}

/// Returns the folder that a location names: a path, or one after `file:`.
///
/// # Errors
/// `Unsupported` for what is reached over a network; `InvalidInput` for an unknown scheme.
pub fn local_path(location: &OsStr) -> Result<PathBuf> {
    let bytes = location.as_bytes();
    if bytes.is_empty() {
        return Err(Error::invalid("an empty location names nothing"));
    }
    if let Some(rest) = bytes.strip_prefix(b"file:") {
        let path = rest.strip_prefix(b"//").filter(|path| path.starts_with(b"/")).unwrap_or(rest);
        return Ok(Path::new(OsStr::from_bytes(path)).to_path_buf());
    }
    match scheme(location) {
        None => Ok(PathBuf::from(location)),
        Some(known) if REMOTE_SCHEMES.contains(&known) => {
            let message = format!("{known}:// is not reached by this version");
            Err(Error::new(ErrorKind::Unsupported, message)
                .hint("this version has folders of this machine, mounted ones included"))
        }
        Some(other) => Err(Error::invalid(format!("nothing is known of {other}://"))
            .hint("a path beginning so is written ./PATH")),
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

    fn cache_place(&self) -> Result<CachePlace> {
        let folder = self.cache_folder()?;
        Ok(if self.no_cache { CachePlace::Scratch(folder) } else { CachePlace::Kept(folder) })
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
        let path = local_path(&self.place()?.location)?;
        let backend = self.throttled(Arc::new(open_folder(&path)?));
        let is_encrypted = open::peek(&*backend)?.encryption == Encryption::Password;
        let mut password = self.password.find()?;
        if is_encrypted && password.is_none() && secret::can_ask() {
            password = Some(secret::ask(&format!("password for {}", backend.location()))?);
        }
        let repository = open::open(backend, password.as_ref(), &self.cache_place()?)?;
        Ok((repository, password))
    }

    /// Returns the password for a new repository: one that was given, or when a person is to
    /// choose, one that is typed twice.
    ///
    /// # Errors
    /// `Password` when it is needed and nobody can be asked.
    pub fn new_password(&self, is_needed: bool) -> Result<Option<Secret>> {
        let found = self.password.find()?;
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
        let path = local_path(&self.place()?.location)?;
        let cache = self.cache_place()?;
        let backend = self.throttled(Arc::new(LocalBackend::create(&path)?));
        open::create(backend, options, &cache, now)
    }

    /// Returns the id of the repository, for which no password is needed.
    ///
    /// # Errors
    /// `NoRepository`; `Unsupported`; `Corrupt`.
    pub fn repository_id(&self) -> Result<RepositoryId> {
        let path = local_path(&self.place()?.location)?;
        Ok(open::peek(&open_folder(&path)?)?.id)
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
        let mut excluded = vec![local_path(&self.place()?.location)?];
        if !self.no_cache {
            excluded.push(self.cache_folder()?);
        }
        Ok(excluded)
    }
}

fn open_folder(path: &Path) -> Result<LocalBackend> {
    LocalBackend::open(path).map_err(|e| match e.kind() {
        ErrorKind::NotFound => {
            let shown = display(path.as_os_str().as_bytes());
            Error::new(ErrorKind::NoRepository, format!("there is no repository at {shown}"))
                .hint("`icecore init` makes one there; `-r LOCATION` names another")
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

/// A source as a person names it.
#[derive(Clone, Debug)]
pub struct SourcePlace {
    path: PathBuf,
}

impl SourcePlace {
    /// Reads a location.
    ///
    /// # Errors
    /// `Unsupported` for what is reached over a network.
    pub fn parse(location: &OsStr) -> Result<Self> {
        Ok(SourcePlace { path: local_path(location)? })
    }

    /// Returns the name of its dataset when none is given: the last part of the path, as typed,
    /// so that a link keeps its own name. What ends in no name (`.`, `..`) is looked up.
    ///
    /// # Errors
    /// `InvalidInput` when that cannot be a name.
    pub fn default_dataset(&self) -> Result<DatasetName> {
        if self.path.file_name().is_some() {
            return address::default_dataset(&self.path);
        }
        let real = std::fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        address::default_dataset(&real)
    }

    /// Opens it.
    ///
    /// # Errors
    /// `NotFound`, `InvalidInput` when it is no folder or the repository itself, `Denied`.
    pub fn open(
        &self,
        filter: Filter,
        one_file_system: bool,
        excluded: Vec<PathBuf>,
    ) -> Result<LocalSource> {
        let options = LocalOptions { one_file_system, excluded, filter: Some(filter) };
        LocalSource::open(&self.path, options)
    }
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
        for bad in ["gopher://x", ""] {
            assert_eq!(path(bad).expect_err(bad).kind(), ErrorKind::InvalidInput);
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
        ] {
            assert_eq!(without_password(location), shown);
        }
    }

    #[test]
    fn a_source_without_a_last_part_is_looked_up() {
        let place = tempfile::tempdir().expect("a folder");
        let folder = place.path().join("photos");
        std::fs::create_dir_all(folder.join("sub")).expect("a folder");
        for typed in ["photos", "photos/", "photos/.", "photos/sub/.."] {
            let source = SourcePlace::parse(place.path().join(typed).as_os_str()).expect("parses");
            assert_eq!(source.default_dataset().expect("a name").as_str(), "photos", "{typed}");
        }
    }
}
