//! The tables of the config file, and which of two counts.
//!
//! A table is laid over another one key by key: what it says itself counts, the rest comes from
//! below. A list replaces a list.

use crate::config::file::Setting;
use crate::config::values::Address;
use crate::config::values::Age;
use crate::config::values::DatasetKey;
use crate::config::values::Hidden;
use crate::config::values::Kept;
use crate::config::values::Rate;
use crate::config::values::Seconds;
use crate::config::values::Size;
use crate::config::values::Sources;
use serde::Deserialize;
use std::collections::BTreeMap;

/// What a file, or a profile in it, says.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    /// `[repository]`
    pub repository: RepositoryTable,
    /// `[backup]`
    pub backup: BackupTable,
    /// `[credentials."..."]`
    pub credentials: BTreeMap<Address, CredentialsTable>,
}

/// `[repository]`: where it is and how it is reached.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct RepositoryTable {
    /// As `--repository`.
    pub location: Option<Setting<String>>,
    /// As `--password-file`.
    pub password_file: Option<Setting<String>>,
    /// As `--password-command`.
    pub password_command: Option<Setting<String>>,
    /// As `--cache-dir`.
    pub cache_dir: Option<Setting<String>>,
    /// As `--limit-upload`.
    pub limit_upload: Option<Setting<Rate>>,
    /// As `--limit-download`.
    pub limit_download: Option<Setting<Rate>>,
    /// As `--connect-timeout`.
    pub connect_timeout: Option<Setting<Seconds>>,
    /// As `--timeout`.
    pub timeout: Option<Setting<Seconds>>,
}

/// `[backup]`, and `[backup.datasets.<name>]`: defaults of the flags of `backup`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct BackupTable {
    /// What the dataset is made of; only a dataset has it.
    pub sources: Option<Setting<Sources>>,
    /// As `--exclude`.
    #[serde(alias = "exclude")]
    pub excludes: Option<Setting<Vec<String>>>,
    /// As `--exclude-from`.
    pub exclude_from: Option<Setting<Vec<String>>>,
    /// As `--gitignore`.
    pub gitignore: Option<Setting<bool>>,
    /// As `--exclude-caches`.
    pub exclude_caches: Option<Setting<bool>>,
    /// As `--exclude-if-present`.
    pub exclude_if_present: Option<Setting<Vec<String>>>,
    /// As `--exclude-larger-than`.
    pub exclude_larger_than: Option<Setting<Size>>,
    /// As `--one-file-system`.
    pub one_file_system: Option<Setting<bool>>,
    /// As `--tag`.
    #[serde(alias = "tag")]
    pub tags: Option<Setting<Vec<String>>>,
    /// As `--description`.
    pub description: Option<Setting<String>>,
    /// As `--host`.
    pub host: Option<Setting<String>>,
    /// As `--full`.
    pub full: Option<Setting<bool>>,
    /// As `--read-all`.
    pub read_all: Option<Setting<bool>>,
    /// As `--allow-unchanged`.
    pub allow_unchanged: Option<Setting<bool>>,
    /// As `--init`; only `[backup]` has it.
    pub init: Option<Setting<bool>>,
    /// Which backups `forget` keeps; only a dataset has it.
    pub retention: Option<RetentionTable>,
    /// The datasets; only `[backup]` has them.
    pub datasets: BTreeMap<DatasetKey, BackupTable>,
}

/// `[backup.datasets.<name>.retention]`: which backups of a dataset are kept.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct RetentionTable {
    /// So many newest.
    pub keep_last: Option<Setting<Kept>>,
    /// The last one of so many hours.
    pub keep_hourly: Option<Setting<Kept>>,
    /// The last one of so many days.
    pub keep_daily: Option<Setting<Kept>>,
    /// The last one of so many weeks.
    pub keep_weekly: Option<Setting<Kept>>,
    /// The last one of so many months.
    pub keep_monthly: Option<Setting<Kept>>,
    /// The last one of so many years.
    pub keep_yearly: Option<Setting<Kept>>,
    /// All that are younger.
    pub keep_within: Option<Setting<Age>>,
    /// All with one of these tags.
    #[serde(alias = "keep-tag")]
    pub keep_tags: Option<Setting<Vec<String>>>,
}

/// `[credentials."<address>"]`: how one address is entered.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct CredentialsTable {
    /// Who enters.
    pub user: Option<Setting<String>>,
    /// With which password.
    pub password: Option<Setting<Hidden>>,
    /// A file that holds the password.
    pub password_file: Option<Setting<String>>,
    /// A command that prints the password.
    pub password_command: Option<Setting<String>>,
    /// SFTP: a file that holds the private key.
    pub key: Option<Setting<String>>,
    /// S3: the access key.
    pub access_key_id: Option<Setting<String>>,
    /// S3: the secret that goes with it.
    pub secret_access_key: Option<Setting<Hidden>>,
    /// S3: the token of a session.
    pub session_token: Option<Setting<Hidden>>,
    /// S3: the region.
    pub region: Option<Setting<String>>,
    /// S3: the server, when it is not Amazon's.
    pub endpoint: Option<Setting<String>>,
}

impl Tables {
    /// Lays these tables over others.
    pub fn over(self, below: Tables) -> Tables {
        Tables {
            repository: self.repository.over(below.repository),
            backup: self.backup.over(below.backup),
            credentials: lay(self.credentials, below.credentials, CredentialsTable::over),
        }
    }
}

/// Lays named tables over others of the same names.
fn lay<K: Ord, T: Default>(
    above: BTreeMap<K, T>,
    mut below: BTreeMap<K, T>,
    over: impl Fn(T, T) -> T,
) -> BTreeMap<K, T> {
    for (name, table) in above {
        let other = below.remove(&name).unwrap_or_default();
        below.insert(name, over(table, other));
    }
    below
}

impl RepositoryTable {
    fn over(self, mut below: Self) -> Self {
        // One way to the password replaces the other one.
        if self.password_file.is_some() || self.password_command.is_some() {
            (below.password_file, below.password_command) = (None, None);
        }
        RepositoryTable {
            location: self.location.or(below.location),
            password_file: self.password_file.or(below.password_file),
            password_command: self.password_command.or(below.password_command),
            cache_dir: self.cache_dir.or(below.cache_dir),
            limit_upload: self.limit_upload.or(below.limit_upload),
            limit_download: self.limit_download.or(below.limit_download),
            connect_timeout: self.connect_timeout.or(below.connect_timeout),
            timeout: self.timeout.or(below.timeout),
        }
    }
}

impl BackupTable {
    /// Lays this table over another one.
    pub fn over(self, below: Self) -> Self {
        let retention = match (self.retention, below.retention) {
            (Some(above), Some(below)) => Some(above.over(below)),
            (above, below) => above.or(below),
        };
        BackupTable {
            sources: self.sources.or(below.sources),
            excludes: self.excludes.or(below.excludes),
            exclude_from: self.exclude_from.or(below.exclude_from),
            gitignore: self.gitignore.or(below.gitignore),
            exclude_caches: self.exclude_caches.or(below.exclude_caches),
            exclude_if_present: self.exclude_if_present.or(below.exclude_if_present),
            exclude_larger_than: self.exclude_larger_than.or(below.exclude_larger_than),
            one_file_system: self.one_file_system.or(below.one_file_system),
            tags: self.tags.or(below.tags),
            description: self.description.or(below.description),
            host: self.host.or(below.host),
            full: self.full.or(below.full),
            read_all: self.read_all.or(below.read_all),
            allow_unchanged: self.allow_unchanged.or(below.allow_unchanged),
            init: self.init.or(below.init),
            retention,
            datasets: lay(self.datasets, below.datasets, BackupTable::over),
        }
    }

    /// Returns what holds for one dataset: its own table over this one.
    pub fn for_dataset(&self, name: Option<&DatasetKey>) -> Self {
        let own = name.and_then(|name| self.datasets.get(name)).cloned().unwrap_or_default();
        own.over(BackupTable { datasets: BTreeMap::new(), ..self.clone() })
    }
}

impl RetentionTable {
    fn over(self, below: Self) -> Self {
        RetentionTable {
            keep_last: self.keep_last.or(below.keep_last),
            keep_hourly: self.keep_hourly.or(below.keep_hourly),
            keep_daily: self.keep_daily.or(below.keep_daily),
            keep_weekly: self.keep_weekly.or(below.keep_weekly),
            keep_monthly: self.keep_monthly.or(below.keep_monthly),
            keep_yearly: self.keep_yearly.or(below.keep_yearly),
            keep_within: self.keep_within.or(below.keep_within),
            keep_tags: self.keep_tags.or(below.keep_tags),
        }
    }
}

impl CredentialsTable {
    fn over(self, mut below: Self) -> Self {
        let has_password = self.password.is_some() || self.password_file.is_some();
        if has_password || self.password_command.is_some() {
            (below.password, below.password_file, below.password_command) = (None, None, None);
        }
        CredentialsTable {
            user: self.user.or(below.user),
            password: self.password.or(below.password),
            password_file: self.password_file.or(below.password_file),
            password_command: self.password_command.or(below.password_command),
            key: self.key.or(below.key),
            access_key_id: self.access_key_id.or(below.access_key_id),
            secret_access_key: self.secret_access_key.or(below.secret_access_key),
            session_token: self.session_token.or(below.session_token),
            region: self.region.or(below.region),
            endpoint: self.endpoint.or(below.endpoint),
        }
    }

    /// Says whether a secret stands in it.
    pub fn holds_secret(&self) -> bool {
        self.password.is_some() || self.secret_access_key.is_some() || self.session_token.is_some()
    }
}
