//! The effective configuration, value by value, for people: never a secret.

use crate::base::error::Result;
use crate::base::limits::CONNECT_SECONDS;
use crate::base::limits::SILENCE_SECONDS;
use crate::base::path::display;
use crate::config::connect::without_password;
use crate::config::effective::Config;
use crate::config::effective::Given;
use crate::config::effective::Whence;
use crate::config::file::Setting;
use crate::config::places;
use crate::config::secret::PASSWORD_VARIABLE;
use crate::config::tables::BackupTable;
use crate::config::tables::CredentialsTable;
use crate::config::tables::RetentionTable;
use crate::config::values::Age;
use crate::config::values::Hidden;
use crate::config::values::Kept;
use crate::config::values::Rate;
use crate::config::values::Size;
use crate::config::values::Sources;
use crate::engine::retention::Amount;
use serde::Serialize;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What is shown of a secret.
const HIDDEN: &str = "(set)";

/// A value as it may be shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// Nothing.
    Unset,
    /// Yes or no.
    Switch(bool),
    /// A number.
    Number(u64),
    /// A text, a path, an address; of a secret that it is there.
    Text(String),
    /// Several texts.
    List(Vec<String>),
}

/// One value and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its name: `repository.location`.
    pub key: String,
    /// Its value.
    pub value: Value,
    /// Where it comes from.
    pub from: Whence,
}

/// Values that can be shown.
trait Show {
    fn show(&self) -> Value;
}

impl Show for bool {
    fn show(&self) -> Value {
        Value::Switch(*self)
    }
}

impl Show for u64 {
    fn show(&self) -> Value {
        Value::Number(*self)
    }
}

impl Show for String {
    fn show(&self) -> Value {
        Value::Text(without_password(self).into_owned())
    }
}

impl Show for Vec<String> {
    fn show(&self) -> Value {
        Value::List(self.clone())
    }
}

impl Show for Size {
    fn show(&self) -> Value {
        Value::Number(self.0)
    }
}

impl Show for Rate {
    fn show(&self) -> Value {
        Value::Number(self.0)
    }
}

impl Show for Age {
    fn show(&self) -> Value {
        Value::Text(self.0.to_string())
    }
}

impl Show for Kept {
    fn show(&self) -> Value {
        match self.0 {
            Amount::Most(number) => Value::Number(number.get()),
            Amount::All => Value::Text("all".to_owned()),
        }
    }
}

impl Show for Sources {
    fn show(&self) -> Value {
        let shown = |source: &String| without_password(source).into_owned();
        Value::List(self.0.iter().map(shown).collect())
    }
}

impl Show for Hidden {
    fn show(&self) -> Value {
        Value::Text(HIDDEN.to_owned())
    }
}

fn path_value(path: &Path) -> Value {
    Value::Text(without_password(&display(path.as_os_str().as_bytes())).into_owned())
}

/// Gathers rows below one table.
struct Rows<'a> {
    config: &'a Config,
    rows: Vec<Row>,
    table: String,
    /// Whether what nobody said is shown with what it then is.
    shows_defaults: bool,
}

impl Rows<'_> {
    fn push(&mut self, name: &str, value: Value, from: Whence) {
        let dot = if self.table.is_empty() { "" } else { "." };
        self.rows.push(Row { key: format!("{}{dot}{name}", self.table), value, from });
    }

    fn given<T>(
        &mut self,
        name: &str,
        given: Option<&Given<T>>,
        show: impl Fn(&T) -> Value,
        default: Value,
    ) {
        match given {
            Some(given) => self.push(name, show(&given.value), given.from.clone()),
            None => self.push(name, default, Whence::Default),
        }
    }

    fn setting<T: Show>(&mut self, name: &str, setting: &Option<Setting<T>>, default: Value) {
        match setting {
            Some(setting) => {
                let line = Whence::Line(self.config.line(setting));
                self.push(name, setting.value.show(), line);
            }
            None if self.shows_defaults => self.push(name, default, Whence::Default),
            None => {}
        }
    }

    fn repository(&mut self) {
        let config = self.config;
        let default = |place: Result<std::path::PathBuf>| {
            place.map_or(Value::Unset, |path| path_value(&path))
        };
        let location = default(places::default_repository());
        let show = |it: &std::ffi::OsString| path_value(Path::new(it));
        self.given("location", config.location.as_ref(), show, location);
        self.passwords();
        let cache = default(places::default_cache());
        self.given("cache-dir", config.cache_dir.as_ref(), |it| path_value(it), cache);
        let no_cache = config.flags.no_cache;
        let from = if no_cache { Whence::Flag("--no-cache") } else { Whence::Default };
        self.push("no-cache", Value::Switch(no_cache), from);
        let limits =
            [("limit-upload", &config.limit_upload), ("limit-download", &config.limit_download)];
        for (name, limit) in limits {
            self.given(name, limit.as_ref(), |it| Value::Number(*it), Value::Unset);
        }
        let usual = [("connect-timeout", CONNECT_SECONDS), ("timeout", SILENCE_SECONDS)];
        let given = [&config.connect_timeout, &config.timeout];
        for ((name, usual), limit) in usual.into_iter().zip(given) {
            self.given(name, limit.as_ref(), |it| Value::Number(*it), Value::Number(usual));
        }
    }

    /// Shows the way to the password that is taken. A command may hold a secret in its words, so
    /// only that there is one is shown.
    fn passwords(&mut self) {
        let config = self.config;
        let hidden = || Value::Text(HIDDEN.to_owned());
        let (flags, table) = (&config.flags, &config.tables.repository);
        let mut ways = [
            ("password", Value::Unset, Whence::Default),
            ("password-file", Value::Unset, Whence::Default),
            ("password-command", Value::Unset, Whence::Default),
        ];
        if let Some(file) = &flags.password_file {
            (ways[1].1, ways[1].2) = (path_value(file), Whence::Flag("--password-file"));
        } else if flags.password_command.is_some() {
            (ways[2].1, ways[2].2) = (hidden(), Whence::Flag("--password-command"));
        } else if places::variable(PASSWORD_VARIABLE).is_some() {
            (ways[0].1, ways[0].2) = (hidden(), Whence::Variable(PASSWORD_VARIABLE));
        } else if let Some(setting) = &table.password_file {
            let path = config.path_of(setting).map_or(Value::Unset, |it| path_value(&it));
            (ways[1].1, ways[1].2) = (path, Whence::Line(config.line(setting)));
        } else if let Some(setting) = &table.password_command {
            (ways[2].1, ways[2].2) = (hidden(), Whence::Line(config.line(setting)));
        }
        for (name, value, from) in ways {
            self.push(name, value, from);
        }
    }

    fn backup(&mut self, table: &BackupTable) {
        let none = || Value::List(Vec::new());
        let no = || Value::Switch(false);
        self.shows_defaults = false;
        self.setting("sources", &table.sources, none());
        self.shows_defaults = self.table == "backup";
        self.setting("excludes", &table.excludes, none());
        self.setting("exclude-from", &table.exclude_from, none());
        self.setting("gitignore", &table.gitignore, no());
        self.setting("exclude-caches", &table.exclude_caches, no());
        self.setting("exclude-if-present", &table.exclude_if_present, none());
        self.setting("exclude-larger-than", &table.exclude_larger_than, Value::Unset);
        self.setting("one-file-system", &table.one_file_system, no());
        self.setting("tags", &table.tags, none());
        self.setting("description", &table.description, Value::Unset);
        self.setting("host", &table.host, Value::Unset);
        self.setting("full", &table.full, no());
        self.setting("read-all", &table.read_all, no());
        self.setting("allow-unchanged", &table.allow_unchanged, no());
        self.setting("init", &table.init, no());
        self.shows_defaults = false;
        if let Some(retention) = &table.retention {
            self.table.push_str(".retention");
            self.retention(retention);
        }
    }

    fn retention(&mut self, table: &RetentionTable) {
        self.setting("keep-last", &table.keep_last, Value::Unset);
        self.setting("keep-hourly", &table.keep_hourly, Value::Unset);
        self.setting("keep-daily", &table.keep_daily, Value::Unset);
        self.setting("keep-weekly", &table.keep_weekly, Value::Unset);
        self.setting("keep-monthly", &table.keep_monthly, Value::Unset);
        self.setting("keep-yearly", &table.keep_yearly, Value::Unset);
        self.setting("keep-within", &table.keep_within, Value::Unset);
        self.setting("keep-tags", &table.keep_tags, Value::Unset);
    }

    fn credentials(&mut self, table: &CredentialsTable) {
        let hidden = |line: usize| (Value::Text(HIDDEN.to_owned()), Whence::Line(line));
        self.setting("user", &table.user, Value::Unset);
        self.setting("password", &table.password, Value::Unset);
        self.setting("password-file", &table.password_file, Value::Unset);
        if let Some(setting) = &table.password_command {
            let (value, from) = hidden(self.config.line(setting));
            self.push("password-command", value, from);
        }
        self.setting("key", &table.key, Value::Unset);
        self.setting("access-key-id", &table.access_key_id, Value::Unset);
        self.setting("secret-access-key", &table.secret_access_key, Value::Unset);
        self.setting("session-token", &table.session_token, Value::Unset);
        self.setting("region", &table.region, Value::Unset);
        self.setting("endpoint", &table.endpoint, Value::Unset);
    }
}

impl Config {
    /// Returns every value that counts, and where it comes from.
    pub fn rows(&self) -> Vec<Row> {
        let mut rows =
            Rows { config: self, rows: Vec::new(), table: String::new(), shows_defaults: true };
        let file = self.file.as_ref().map_or(Value::Unset, |file| path_value(file.path()));
        rows.push("config", file, self.file_from.clone());
        let show = |name: &String| Value::Text(name.clone());
        rows.given("profile", self.profile.as_ref(), show, Value::Unset);
        "repository".clone_into(&mut rows.table);
        rows.repository();
        "backup".clone_into(&mut rows.table);
        rows.backup(&self.tables.backup);
        for (name, table) in &self.tables.backup.datasets {
            rows.table = format!("backup.datasets.{}", name.0);
            rows.backup(table);
        }
        for (address, table) in &self.tables.credentials {
            rows.table = format!("credentials.{:?}", address.0);
            rows.credentials(table);
        }
        rows.rows
    }

    /// Says where a value comes from: `--repository`, `ICECORE_REPOSITORY`, `FILE:LINE`, or
    /// `default`.
    pub fn source_of(&self, row: &Row) -> String {
        match (&row.from, &self.file) {
            (Whence::Flag(name) | Whence::Variable(name), _) => (*name).to_owned(),
            (Whence::Line(line), Some(file)) => {
                format!("{}:{line}", display(file.path().as_os_str().as_bytes()))
            }
            (Whence::Line(_) | Whence::Default, _) => "default".to_owned(),
        }
    }
}
