//! What counts: a flag before the environment, that before the config file, that before what is
//! usual. In the file a profile counts before those it uses, and they before the rest.

use crate::backend::wrap::throttle::Bandwidth;
use crate::base::cancel::Cancel;
use crate::base::error::Error;
use crate::base::error::Result;
use crate::config::connect;
use crate::config::connect::Settings;
use crate::config::credentials::Configured;
use crate::config::credentials::ConfiguredSecret;
use crate::config::file::ConfigFile;
use crate::config::file::Setting;
use crate::config::foreign;
use crate::config::places;
use crate::config::remote::RemoteSettings;
use crate::config::secret::ConfiguredPassword;
use crate::config::secret::PASSWORD_VARIABLE;
use crate::config::secret::PasswordPlaces;
use crate::config::tables::BackupTable;
use crate::config::tables::CredentialsTable;
use crate::config::tables::RepositoryTable;
use crate::config::tables::RetentionTable;
use crate::config::tables::Tables;
use crate::config::values;
use crate::config::values::DatasetKey;
use crate::config::values::Hidden;
use crate::config::values::Kept;
use crate::engine::retention::Rules;
use crate::format::dataset::DatasetName;
use crate::net::address::Address;
use crate::net::tcp::Limits;
use std::ffi::OsStr;
use std::ffi::OsString;
use std::fmt;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

/// What was typed.
#[derive(Clone, Default)]
pub struct Flags {
    /// `--config`
    pub config: Option<PathBuf>,
    /// `--profile`
    pub profile: Option<String>,
    /// `--repository`
    pub location: Option<OsString>,
    /// `--password-file`
    pub password_file: Option<PathBuf>,
    /// `--password-command`
    pub password_command: Option<String>,
    /// `--cache-dir`
    pub cache_dir: Option<PathBuf>,
    /// `--no-cache`
    pub no_cache: bool,
    /// `--limit-upload`, in bytes a second.
    pub limit_upload: Option<u64>,
    /// `--limit-download`, in bytes a second.
    pub limit_download: Option<u64>,
    /// `--connect-timeout`, in seconds.
    pub connect_timeout: Option<u64>,
    /// `--timeout`, in seconds.
    pub timeout: Option<u64>,
    /// `--tls-ca`
    pub tls_ca: Option<PathBuf>,
    /// `--accept-new-host-key`
    pub accept_new_host_key: bool,
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whence {
    /// This flag.
    Flag(&'static str),
    /// This variable of the environment.
    Variable(&'static str),
    /// This line of the config file.
    Line(usize),
    /// Nobody said anything.
    Default,
}

/// A value that counts, and where it comes from.
#[derive(Clone, PartialEq, Eq)]
pub struct Given<T> {
    /// The value.
    pub value: T,
    /// Where it comes from.
    pub from: Whence,
}

/// A location may hold a password and a command may print one, so neither is shown.
impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flags").field("profile", &self.profile).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Given<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Given").field("from", &self.from).finish_non_exhaustive()
    }
}

/// Everything that was said, sorted out.
#[derive(Clone, Debug)]
pub struct Config {
    pub(crate) flags: Flags,
    pub(crate) file: Option<ConfigFile>,
    pub(crate) file_from: Whence,
    pub(crate) profile: Option<Given<String>>,
    pub(crate) tables: Tables,
    pub(crate) location: Option<Given<OsString>>,
    pub(crate) cache_dir: Option<Given<PathBuf>>,
    pub(crate) limit_upload: Option<Given<u64>>,
    pub(crate) limit_download: Option<Given<u64>>,
    pub(crate) connect_timeout: Option<Given<u64>>,
    pub(crate) timeout: Option<Given<u64>>,
    configured_password: Option<ConfiguredPassword>,
    credentials: Vec<(Address, Configured)>,
}

/// What a config file says of the backups of one dataset; nothing where it says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BackupDefaults {
    /// As `--exclude`.
    pub excludes: Option<Vec<String>>,
    /// As `--exclude-from`.
    pub exclude_from: Option<Vec<PathBuf>>,
    /// As `--gitignore`.
    pub gitignore: Option<bool>,
    /// As `--exclude-caches`.
    pub exclude_caches: Option<bool>,
    /// As `--exclude-if-present`.
    pub exclude_if_present: Option<Vec<String>>,
    /// As `--exclude-larger-than`.
    pub exclude_larger_than: Option<u64>,
    /// As `--one-file-system`.
    pub one_file_system: Option<bool>,
    /// As `--tag`.
    pub tags: Option<Vec<String>>,
    /// As `--description`.
    pub description: Option<String>,
    /// As `--host`.
    pub host: Option<String>,
    /// As `--full`.
    pub full: Option<bool>,
    /// As `--read-all`.
    pub read_all: Option<bool>,
    /// As `--allow-unchanged`.
    pub allow_unchanged: Option<bool>,
    /// As `--init`.
    pub init: Option<bool>,
}

fn value<T: Clone>(setting: &Option<Setting<T>>) -> Option<T> {
    setting.as_ref().map(|setting| setting.value.clone())
}

impl Config {
    /// Reads the config file, if there is one, and sorts out what counts.
    ///
    /// # Errors
    /// `InvalidInput` when a file that was named is not there, when it makes no sense, or when
    /// it has no such profile.
    pub fn load(flags: Flags) -> Result<Self> {
        let (file, file_from) = find_file(&flags)?;
        let profile = pick(
            flags.profile.clone().map(|name| (name, "--profile")),
            places::variable(places::PROFILE_VARIABLE)
                .map(|name| (name.to_string_lossy().into_owned(), places::PROFILE_VARIABLE)),
            None,
        );
        let name = profile.as_ref().map(|given| given.value.as_str());
        let tables = match (&file, name) {
            (Some(file), name) => file.tables(name)?,
            (None, None) => Tables::default(),
            (None, Some(name)) => {
                let message = format!("there is no config file that could have a profile {name:?}");
                return Err(
                    Error::invalid(message).hint("`--config FILE` or ICECORE_CONFIG names one")
                );
            }
        };
        let mut config = Config { file, file_from, profile, tables, ..Config::none(flags) };
        config.choose()?;
        Ok(config)
    }

    /// Returns what was typed alone, without looking for a file.
    pub fn none(flags: Flags) -> Self {
        Config {
            flags,
            file: None,
            file_from: Whence::Default,
            profile: None,
            tables: Tables::default(),
            location: None,
            cache_dir: None,
            limit_upload: None,
            limit_download: None,
            connect_timeout: None,
            timeout: None,
            configured_password: None,
            credentials: Vec::new(),
        }
    }

    /// Decides for each value of the repository who has the say.
    fn choose(&mut self) -> Result<()> {
        let table = &self.tables.repository;
        let location = table.location.as_ref();
        let location = location.map(|it| Ok((self.location_of(it)?, self.line(it)))).transpose()?;
        let cache = table.cache_dir.as_ref();
        let cache = cache.map(|it| Ok((self.path_of(it)?, self.line(it)))).transpose()?;
        let up = table.limit_upload.as_ref().map(|it| (it.value.0, self.line(it)));
        let down = table.limit_download.as_ref().map(|it| (it.value.0, self.line(it)));
        let password = self.password_of(table)?;
        let connect = table.connect_timeout.as_ref().map(|it| (it.value.0, self.line(it)));
        let silence = table.timeout.as_ref().map(|it| (it.value.0, self.line(it)));
        let flags = &self.flags;
        let named = places::variable(places::REPOSITORY_VARIABLE);
        let flag_location = flags.location.clone().map(|it| (it, "--repository"));
        let flag_cache = flags.cache_dir.clone().map(|it| (it, "--cache-dir"));
        let flag_up = flags.limit_upload.map(|it| (it, "--limit-upload"));
        let flag_down = flags.limit_download.map(|it| (it, "--limit-download"));
        let flag_connect = flags.connect_timeout.map(|it| (it, "--connect-timeout"));
        let flag_silence = flags.timeout.map(|it| (it, "--timeout"));
        let connect_variable = seconds_variable(places::CONNECT_TIMEOUT_VARIABLE)?;
        self.connect_timeout = pick(flag_connect, connect_variable, connect);
        self.timeout = pick(flag_silence, seconds_variable(places::TIMEOUT_VARIABLE)?, silence);
        self.location =
            pick(flag_location, named.map(|it| (it, places::REPOSITORY_VARIABLE)), location);
        self.cache_dir = pick(flag_cache, None, cache);
        self.limit_upload = pick(flag_up, None, up);
        self.limit_download = pick(flag_down, None, down);
        self.configured_password = password;
        let credentials = self.tables.credentials.iter();
        self.credentials = credentials
            .map(|(address, table)| Ok((address.parsed()?, self.credentials_of(table)?)))
            .collect::<Result<_>>()?;
        Ok(())
    }

    pub(crate) fn password_of(
        &self,
        table: &RepositoryTable,
    ) -> Result<Option<ConfiguredPassword>> {
        Ok(match (&table.password_file, &table.password_command) {
            (Some(file), _) => Some(ConfiguredPassword::File(self.path_of(file)?)),
            (None, Some(command)) => Some(ConfiguredPassword::Command(command.value.clone())),
            (None, None) => None,
        })
    }

    fn credentials_of(&self, table: &CredentialsTable) -> Result<Configured> {
        let hidden = |setting: &Option<Setting<Hidden>>| {
            setting.as_ref().map(|setting| setting.value.0.clone())
        };
        let path = |setting: &Option<Setting<String>>| {
            setting.as_ref().map(|setting| self.path_of(setting)).transpose()
        };
        let text = hidden(&table.password).map(ConfiguredSecret::Text);
        let file = path(&table.password_file)?.map(ConfiguredPassword::File);
        let command = value(&table.password_command).map(ConfiguredPassword::Command);
        Ok(Configured {
            user: value(&table.user),
            password: text.or(file.or(command).map(ConfiguredSecret::Elsewhere)),
            key: path(&table.key)?,
            access_key_id: value(&table.access_key_id),
            secret_access_key: hidden(&table.secret_access_key),
            session_token: hidden(&table.session_token),
            region: value(&table.region),
            endpoint: value(&table.endpoint),
        })
    }

    /// Returns how the repository is reached; what waits is woken by `cancel`.
    pub fn settings(&self, cancel: &Cancel) -> Settings {
        Settings {
            location: self.location.as_ref().map(|given| given.value.clone()),
            password: PasswordPlaces {
                file: self.flags.password_file.clone(),
                command: self.flags.password_command.clone(),
                variable: PASSWORD_VARIABLE,
                configured: self.configured_password.clone(),
            },
            cache: self.cache_dir.as_ref().map(|given| given.value.clone()),
            no_cache: self.flags.no_cache,
            bandwidth: self.bandwidth(),
            remote: RemoteSettings {
                limits: self.limits(),
                bandwidth: self.bandwidth(),
                cancel: cancel.clone(),
                tls_ca: self.flags.tls_ca.clone(),
                accept_new_host_key: self.flags.accept_new_host_key,
                configured: self.credentials.clone(),
            },
            cancel: cancel.clone(),
        }
    }

    fn bandwidth(&self) -> Bandwidth {
        Bandwidth {
            bytes_up_per_second: self.limit_upload.as_ref().map(|given| given.value),
            bytes_down_per_second: self.limit_download.as_ref().map(|given| given.value),
        }
    }

    fn limits(&self) -> Limits {
        let usual = Limits::default();
        let seconds = |given: &Option<Given<u64>>| {
            given.as_ref().map(|given| Duration::from_secs(given.value))
        };
        Limits {
            connect: seconds(&self.connect_timeout).unwrap_or(usual.connect),
            silence: seconds(&self.timeout).unwrap_or(usual.silence),
        }
    }

    /// Returns what a person should know of the file, if there is anything.
    pub fn warning(&self) -> Option<String> {
        let file = self.file.as_ref().filter(|file| file.shows_secrets())?;
        let shown = file.path().display();
        Some(format!("others can read {shown}, and it holds a password: `chmod 600` it"))
    }

    pub(crate) fn line<T>(&self, setting: &Setting<T>) -> usize {
        self.file.as_ref().map_or(0, |file| file.line(setting))
    }

    /// Reads a path of the file: `~` is the person's folder, and what is relative begins at the
    /// folder of the file.
    pub(crate) fn path_of(&self, setting: &Setting<String>) -> Result<PathBuf> {
        self.expand(setting, &setting.value)
    }

    fn expand<T>(&self, setting: &Setting<T>, text: &str) -> Result<PathBuf> {
        let Some(file) = &self.file else { return Ok(PathBuf::from(text)) };
        if text.is_empty() {
            return Err(file.refuse(setting, "an empty path names nothing"));
        }
        let in_home = match text {
            "~" => Some(""),
            _ => text.strip_prefix("~/"),
        };
        match in_home {
            None => Ok(file.path().parent().unwrap_or(Path::new("/")).join(text)),
            Some(below) => match places::home() {
                Some(home) => Ok(home.join(below)),
                None => Err(file.refuse(setting, "without HOME nothing says where ~ is")),
            },
        }
    }

    pub(crate) fn location_of(&self, setting: &Setting<String>) -> Result<OsString> {
        self.place_of(setting, &setting.value)
    }

    /// Reads a path of the file, or an address.
    fn place_of<T>(&self, setting: &Setting<T>, text: &str) -> Result<OsString> {
        if text.starts_with("file:") || connect::scheme(OsStr::new(text)).is_some() {
            return Ok(OsString::from(text));
        }
        let path = self.expand(setting, text)?;
        foreign::refuse(text.as_bytes(), &path)?;
        Ok(path.into_os_string())
    }

    fn table_of(&self, dataset: Option<&DatasetName>) -> BackupTable {
        let key = dataset.map(|name| DatasetKey(name.clone()));
        self.tables.backup.for_dataset(key.as_ref())
    }

    /// Returns what the file says of the backups of a dataset, or of those without a table.
    ///
    /// # Errors
    /// `InvalidInput` for a path that cannot be expanded.
    pub fn backup(&self, dataset: Option<&DatasetName>) -> Result<BackupDefaults> {
        let table = self.table_of(dataset);
        let exclude_from = match &table.exclude_from {
            None => None,
            Some(setting) => {
                let paths = setting.value.iter().map(|path| self.expand(setting, path));
                Some(paths.collect::<Result<_>>()?)
            }
        };
        Ok(BackupDefaults {
            excludes: value(&table.excludes),
            exclude_from,
            gitignore: value(&table.gitignore),
            exclude_caches: value(&table.exclude_caches),
            exclude_if_present: value(&table.exclude_if_present),
            exclude_larger_than: table.exclude_larger_than.as_ref().map(|it| it.value.0),
            one_file_system: value(&table.one_file_system),
            tags: value(&table.tags),
            description: value(&table.description),
            host: value(&table.host),
            full: value(&table.full),
            read_all: value(&table.read_all),
            allow_unchanged: value(&table.allow_unchanged),
            init: value(&table.init),
        })
    }

    /// Returns the datasets that have a source in the file, with it.
    ///
    /// # Errors
    /// `InvalidInput` for a path that cannot be expanded.
    pub fn sources(&self) -> Result<Vec<(DatasetName, OsString)>> {
        let mut sources = Vec::new();
        for (name, table) in &self.tables.backup.datasets {
            if let Some(setting) = &table.sources
                && let Some(text) = &setting.value.0
            {
                sources.push((name.0.clone(), self.place_of(setting, text)?));
            }
        }
        Ok(sources)
    }

    /// Returns which backups of a dataset its table keeps; None when it does not say.
    pub fn retention(&self, dataset: &DatasetName) -> Option<Rules> {
        let rules = self.table_of(Some(dataset)).retention.as_ref().map(RetentionTable::rules);
        rules.filter(|rules| *rules != Rules::default())
    }

    /// Says whether the file says of any dataset which backups are kept.
    pub fn has_retention(&self) -> bool {
        self.tables.backup.datasets.keys().any(|name| self.retention(&name.0).is_some())
    }
}

impl RetentionTable {
    fn rules(&self) -> Rules {
        let amount = |setting: &Option<Setting<Kept>>| setting.as_ref().map(|it| it.value.0);
        Rules {
            last: amount(&self.keep_last),
            hourly: amount(&self.keep_hourly),
            daily: amount(&self.keep_daily),
            weekly: amount(&self.keep_weekly),
            monthly: amount(&self.keep_monthly),
            yearly: amount(&self.keep_yearly),
            within: self.keep_within.as_ref().map(|it| it.value.0),
            tags: value(&self.keep_tags).unwrap_or_default(),
        }
    }
}

/// Reads a variable that holds seconds.
fn seconds_variable(name: &'static str) -> Result<Option<(u64, &'static str)>> {
    let Some(text) = places::variable(name) else { return Ok(None) };
    let seconds = text.to_str().map(values::parse_seconds);
    match seconds {
        Some(Ok(seconds)) => Ok(Some((seconds, name))),
        Some(Err(why)) => Err(Error::invalid(format!("{name}: {why}"))),
        None => Err(Error::invalid(format!("{name} is not UTF-8"))),
    }
}

/// Takes the first of a flag, a variable and a line of the file.
fn pick<T>(
    flag: Option<(T, &'static str)>,
    variable: Option<(T, &'static str)>,
    line: Option<(T, usize)>,
) -> Option<Given<T>> {
    let flag = flag.map(|(value, name)| Given { value, from: Whence::Flag(name) });
    let variable = variable.map(|(value, name)| Given { value, from: Whence::Variable(name) });
    let line = line.map(|(value, line)| Given { value, from: Whence::Line(line) });
    flag.or(variable).or(line)
}

/// Finds and reads the config file. The usual one may be missing; one that was named may not.
fn find_file(flags: &Flags) -> Result<(Option<ConfigFile>, Whence)> {
    let variable = places::variable(places::CONFIG_VARIABLE).map(PathBuf::from);
    let named = pick(
        flags.config.clone().map(|path| (path, "--config")),
        variable.map(|path| (path, places::CONFIG_VARIABLE)),
        None,
    );
    if let Some(given) = named {
        return Ok((Some(ConfigFile::read(&given.value)?), given.from));
    }
    let usual = places::default_config().filter(|path| path.symlink_metadata().is_ok());
    let file = usual.map(|path| ConfigFile::read(&path)).transpose()?;
    Ok((file, Whence::Default))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dataset_has_its_sources_and_rules_and_what_holds_for_all() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("c.toml");
        let text = "[backup]\nexcludes = [\"x\"]\nexclude-from = [\"list\", \"/all\"]\n\
            exclude-larger-than = \"1k\"\n\
            [backup.datasets.a]\nsources = [\"data\"]\nexcludes = []\n\
            [backup.datasets.a.retention]\nkeep-last = 2\nkeep-yearly = \"all\"\n\
            keep-within = \"30d\"\nkeep-tags = [\"t\"]\n\
            [backup.datasets.b]\nsources = [\"ftp://h/x\"]\n[backup.datasets.c.retention]\n";
        std::fs::write(&path, text).expect("written");
        let file = ConfigFile::read(&path).expect("a file");
        let tables = file.tables(None).expect("tables");
        let config = Config { file: Some(file), tables, ..Config::none(Flags::default()) };
        let name = |text: &str| text.parse::<DatasetName>().expect("a name");

        let sources = config.sources().expect("sources");
        let data = folder.path().join("data").into_os_string();
        assert_eq!(sources, [(name("a"), data), (name("b"), "ftp://h/x".into())]);
        let of_a = config.backup(Some(&name("a"))).expect("defaults");
        let of_other = config.backup(Some(&name("other"))).expect("defaults");
        assert_eq!((of_a.excludes, of_a.exclude_larger_than), (Some(Vec::new()), Some(1024)));
        assert_eq!(of_other.excludes, Some(vec!["x".to_owned()]));
        let lists = vec![folder.path().join("list"), PathBuf::from("/all")];
        assert_eq!(of_other.exclude_from, Some(lists));
        let amount = |text: &str| Some(text.parse().expect("an amount"));
        let rules = Rules {
            last: amount("2"),
            yearly: amount("all"),
            within: Some("30d".parse().expect("a span")),
            tags: vec!["t".to_owned()],
            ..Rules::default()
        };
        assert_eq!(config.retention(&name("a")), Some(rules));
        assert_eq!((config.retention(&name("c")), config.retention(&name("x"))), (None, None));
    }
}
