//! The config file: the only home of TOML.
//!
//! An unknown key, a value of the wrong type, a profile that uses itself are errors that name
//! file and line. No value of the file is repeated in an error but for words that are no secret.

use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::limits::CONFIG_FILE_BYTES_MAX;
use crate::base::path::display;
use crate::config::tables::BackupTable;
use crate::config::tables::CredentialsTable;
use crate::config::tables::RepositoryTable;
use crate::config::tables::Tables;
use crate::config::values::Address;
use crate::net::address::Scheme;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;
use toml::Spanned;

/// Bits of a file's mode that let others than its owner read it.
const READABLE_BY_OTHERS: u32 = 0o044;

/// A value and where in the file it stands.
#[derive(Clone, Deserialize)]
#[serde(from = "Spanned<T>", bound(deserialize = "T: Deserialize<'de>"))]
pub struct Setting<T> {
    /// What is said.
    pub value: T,
    at: usize,
}

/// A location may hold a password, a command may print one: values are for who asks for them.
impl<T> fmt::Debug for Setting<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setting").field("at", &self.at).finish_non_exhaustive()
    }
}

impl<T> From<Spanned<T>> for Setting<T> {
    fn from(spanned: Spanned<T>) -> Self {
        let at = spanned.span().start;
        Setting { value: spanned.into_inner(), at }
    }
}

/// A config file that was read and makes sense.
#[derive(Clone, Debug)]
pub struct ConfigFile {
    path: PathBuf,
    /// Where lines end, to tell the line of a value.
    newlines: Vec<usize>,
    base: Tables,
    profiles: BTreeMap<String, Profile>,
    is_readable_by_others: bool,
}

#[derive(Clone, Debug)]
struct Profile {
    uses: Vec<Setting<String>>,
    tables: Tables,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Top {
    #[serde(default)]
    repository: RepositoryTable,
    #[serde(default)]
    backup: BackupTable,
    #[serde(default)]
    credentials: BTreeMap<Address, CredentialsTable>,
    #[serde(default)]
    profiles: BTreeMap<String, ProfileTop>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProfileTop {
    #[serde(default, rename = "use")]
    uses: Vec<Setting<String>>,
    #[serde(default)]
    repository: RepositoryTable,
    #[serde(default)]
    backup: BackupTable,
    #[serde(default)]
    credentials: BTreeMap<Address, CredentialsTable>,
}

impl ConfigFile {
    /// Reads a file.
    ///
    /// # Errors
    /// `InvalidInput` when it cannot be read or makes no sense.
    pub fn read(path: &Path) -> Result<Self> {
        let shown = display(path.as_os_str().as_bytes());
        let cannot = |e: std::io::Error| {
            Error::invalid(format!("cannot read the config file {shown}")).caused_by(e)
        };
        let file = File::open(path).map_err(cannot)?;
        let mode = file.metadata().map_err(cannot)?.mode();
        let mut text = String::new();
        file.take(CONFIG_FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(cannot)?;
        if text.len() as u64 > CONFIG_FILE_BYTES_MAX {
            return Err(Error::invalid(format!("the config file {shown} is far too large")));
        }
        let absolute = std::path::absolute(path).map_err(cannot)?;
        let mut file = ConfigFile::parse(absolute, &text)?;
        file.is_readable_by_others = mode & READABLE_BY_OTHERS != 0;
        Ok(file)
    }

    fn parse(path: PathBuf, text: &str) -> Result<Self> {
        let newlines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let mut file = ConfigFile {
            path,
            newlines: newlines.map(|(at, _)| at).collect(),
            base: Tables::default(),
            profiles: BTreeMap::new(),
            is_readable_by_others: false,
        };
        let top: Top = toml::from_str(text).map_err(|e| {
            let message = e.message().lines().collect::<Vec<_>>().join(", ");
            file.error(e.span().map_or(0, |span| span.start), &message)
        })?;
        file.base =
            Tables { repository: top.repository, backup: top.backup, credentials: top.credentials };
        let profile = |it: ProfileTop| Profile {
            uses: it.uses,
            tables: Tables {
                repository: it.repository,
                backup: it.backup,
                credentials: it.credentials,
            },
        };
        file.profiles = top.profiles.into_iter().map(|(name, it)| (name, profile(it))).collect();
        file.check()?;
        Ok(file)
    }

    fn check(&self) -> Result<()> {
        for tables in self.all_tables() {
            self.check_repository(&tables.repository)?;
            self.check_backup(&tables.backup)?;
            for (address, table) in &tables.credentials {
                self.check_credentials(address, table)?;
            }
        }
        self.profiles.keys().try_for_each(|name| self.order(name).map(|_| ()))
    }

    fn all_tables(&self) -> impl Iterator<Item = &Tables> {
        std::iter::once(&self.base).chain(self.profiles.values().map(|profile| &profile.tables))
    }

    fn check_repository(&self, table: &RepositoryTable) -> Result<()> {
        if let (Some(_), Some(second)) = (&table.password_file, &table.password_command) {
            return Err(self.error(second.at, "password-file and password-command are both given"));
        }
        Ok(())
    }

    /// Refuses what stands in `[backup]` and belongs to a dataset, and the other way about.
    fn check_backup(&self, table: &BackupTable) -> Result<()> {
        if let Some(sources) = &table.sources {
            let message = "sources belong to a dataset: [backup.datasets.NAME]";
            return Err(self.error(sources.at, message));
        }
        if table.retention.is_some() {
            let message = "retention belongs to a dataset: [backup.datasets.NAME.retention]";
            return Err(self.error_somewhere(message));
        }
        for (name, dataset) in &table.datasets {
            if let Some(init) = &dataset.init {
                return Err(self.error(init.at, "init belongs to [backup]"));
            }
            if !dataset.datasets.is_empty() {
                let message = format!("dataset {} holds datasets itself", name.0);
                return Err(self.error_somewhere(&message));
            }
        }
        Ok(())
    }

    fn check_credentials(&self, address: &Address, table: &CredentialsTable) -> Result<()> {
        let of = |at: &Option<Setting<String>>| at.as_ref().map(|setting| setting.at);
        let hidden = |at: &Option<Setting<_>>| at.as_ref().map(|setting| setting.at);
        let scheme = address.parsed()?.scheme();
        let (is_s3, is_sftp) = (scheme == Scheme::S3, scheme == Scheme::Sftp);
        let places = [
            ("user", of(&table.user), !is_s3),
            ("password", hidden(&table.password), !is_s3),
            ("password-file", of(&table.password_file), !is_s3),
            ("password-command", of(&table.password_command), !is_s3),
            ("key", of(&table.key), is_sftp),
            ("access-key-id", of(&table.access_key_id), is_s3),
            ("secret-access-key", hidden(&table.secret_access_key), is_s3),
            ("session-token", hidden(&table.session_token), is_s3),
            ("region", of(&table.region), is_s3),
            ("endpoint", of(&table.endpoint), is_s3),
        ];
        for (name, at, fits) in places {
            if let (Some(at), false) = (at, fits) {
                let message = format!("{name} is nothing that {}:// knows", scheme.as_str());
                return Err(self.error(at, &message));
            }
        }
        let ways = places[1..4].iter().filter_map(|place| place.1);
        match ways.clone().nth(1) {
            Some(_) => {
                let at = ways.max().unwrap_or(0);
                Err(self.error(at, "password, password-file and password-command: one of them"))
            }
            None => Ok(()),
        }
    }

    /// Returns the file's path, absolute.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the line on which a setting stands.
    pub fn line<T>(&self, setting: &Setting<T>) -> usize {
        self.line_at(setting.at)
    }

    fn line_at(&self, at: usize) -> usize {
        self.newlines.partition_point(|&newline| newline < at) + 1
    }

    /// Makes the error of a setting that makes no sense.
    pub fn refuse<T>(&self, setting: &Setting<T>, message: &str) -> Error {
        self.error(setting.at, message)
    }

    fn error(&self, at: usize, message: &str) -> Error {
        let shown = display(self.path.as_os_str().as_bytes());
        Error::invalid(format!("{shown}:{}: {message}", self.line_at(at)))
    }

    fn error_somewhere(&self, message: &str) -> Error {
        Error::invalid(format!("{}: {message}", display(self.path.as_os_str().as_bytes())))
    }

    /// Returns the names of the profiles.
    pub fn profiles(&self) -> impl Iterator<Item = &str> {
        self.profiles.keys().map(String::as_str)
    }

    /// Returns what holds with a profile, or without any: the profile over those it uses, of
    /// which the first counts most, over the rest of the file.
    ///
    /// # Errors
    /// `InvalidInput` when there is no such profile.
    pub fn tables(&self, profile: Option<&str>) -> Result<Tables> {
        let order = profile.map(|name| self.order(name)).transpose()?.unwrap_or_default();
        let named = order.iter().filter_map(|name| self.profiles.get(*name));
        let tables: Vec<&Tables> = named.map(|profile| &profile.tables).collect();
        let base = self.base.clone();
        Ok(tables.iter().rev().fold(base, |below, above| (*above).clone().over(below)))
    }

    /// Returns a profile and those it uses, by how much they count.
    fn order<'a>(&'a self, name: &'a str) -> Result<Vec<&'a str>> {
        let profile = self.profiles.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.profiles().collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            self.error_somewhere(&format!("there is no profile {name:?}"))
                .hint(format!("its profiles: {known}"))
        })?;
        let mut order = vec![name];
        let mut seen = BTreeSet::from([name]);
        // The way from the profile to the one looked at, with the uses still to be looked at.
        let mut way = vec![(name, profile.uses.iter())];
        while let Some((_, uses)) = way.last_mut() {
            let Some(used) = uses.next() else {
                way.pop();
                continue;
            };
            let next = used.value.as_str();
            if way.iter().any(|(on_way, _)| *on_way == next) {
                return Err(self.error(used.at, &format!("profile {next:?} uses itself")));
            }
            let found = self.profiles.get(next).ok_or_else(|| {
                self.error(used.at, &format!("there is no profile {next:?} to use"))
            })?;
            if seen.insert(next) {
                order.push(next);
                way.push((next, found.uses.iter()));
            }
        }
        Ok(order)
    }

    /// Says whether others than its owner can read a password in it.
    pub fn shows_secrets(&self) -> bool {
        let holds = |tables: &Tables| {
            let location = tables.repository.location.as_ref().map(|it| it.value.as_str());
            let sources = tables.backup.datasets.values().filter_map(|it| it.sources.as_ref());
            let sources = sources.filter_map(|it| it.value.0.as_deref());
            let mut addresses = location.into_iter().chain(sources);
            addresses.any(|it| crate::config::connect::without_password(it) != it)
                || tables.credentials.values().any(CredentialsTable::holds_secret)
        };
        self.is_readable_by_others && self.all_tables().any(holds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::ErrorKind;
    use crate::config::values::Kept;

    fn parse(text: &str) -> Result<ConfigFile> {
        ConfigFile::parse(PathBuf::from("/etc/c.toml"), text)
    }

    fn location(text: &str, profile: Option<&str>) -> Option<String> {
        let tables = parse(text).expect(text).tables(profile).expect(text);
        tables.repository.location.map(|it| it.value)
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_line() {
        for (text, line, words) in [
            ("[repository]\n\nplace = 1", 3, "unknown field `place`"),
            ("[repo]", 1, "unknown field `repo`"),
            ("[backup]\ngitignore = \"yes\"", 2, "expected a boolean"),
            ("[backup]\nexcludes = \"a\"", 2, "expected a sequence"),
            ("[backup]\n[backup.datasets.a]\nsources = [\"a\", \"b\"]", 3, "several sources"),
            ("[backup]\nsources = [\"a\"]", 2, "belong to a dataset"),
            ("[backup.datasets.a]\ninit = true", 2, "belongs to [backup]"),
            ("[backup.datasets.\"a:b\"]", 1, "a:b"),
            ("[backup.datasets.a.retention]\nkeep-last = -1", 2, "from 1 up"),
            ("[backup.datasets.a.retention]\nkeep-within = \"soon\"", 2, "no duration"),
            ("[backup.datasets.a.retention]\nkeep-within = \"6m\"", 2, "no duration"),
            ("[backup.datasets.a.retention]\nkeep-daily = 0", 2, "from 1 up"),
            ("[repository]\nlimit-upload = \"fast\"", 2, "no rate"),
            ("[repository]\nlimit-upload = -3", 2, "a number of bytes"),
            ("[repository]\npassword-file = \"a\"\npassword-command = \"b\"", 3, "both"),
            ("x = ", 1, ""),
            ("[profiles.a]\nuse = [\"b\"]", 2, "no profile \"b\""),
            ("[profiles.a]\nuse = [\"b\"]\n[profiles.b]\nuse = [\"a\"]", 4, "uses itself"),
            ("[profiles.a]\nuse = [\"a\"]", 2, "uses itself"),
            ("[credentials.\"http://h\"]", 1, "credentials are for"),
            ("[credentials.\"ftp://h\"]\nregion = \"x\"", 2, "nothing that ftp:// knows"),
            ("[credentials.\"ftp://h\"]\nkey = \"x\"", 2, "nothing that ftp:// knows"),
            ("[credentials.\"s3://h\"]\npassword = \"x\"", 2, "nothing that s3:// knows"),
            ("[credentials.\"ftp://h\"]\npassword=\"x\"\npassword-file=\"y\"", 3, "one of them"),
        ] {
            let error = parse(text).expect_err(text);
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{text}");
            let message = error.to_string();
            assert!(message.starts_with(&format!("/etc/c.toml:{line}: ")), "{text}: {message}");
            assert!(message.contains(words), "{text}: {message}");
        }
    }

    #[test]
    fn no_secret_stands_in_an_error() {
        for text in [
            "[credentials.\"ftp://h\"]\npassword = 4711",
            "[credentials.\"ftp://h\"]\npassword = 4711.5",
            "[credentials.\"ftp://h\"]\npassword = \"4711",
            "[credentials.\"ftp://h\"]\npassword = 4711x",
            "[credentials.\"ftp://h\"]\npassword = [\"4711\"]",
            "[credentials.\"ftp://u:4711@h\"]",
            "[repository]\npassword = \"4711\"",
            "[credentials.\"s3://h\"]\nsecret-access-key = {a = \"4711\"}",
        ] {
            let message = parse(text).expect_err(text).full_message();
            assert!(!message.contains("4711"), "{text}: {message}");
        }
        let file = parse("[credentials.\"ftp://h\"]\npassword = \"4711\"").expect("a file");
        assert!(!format!("{file:?}").contains("4711"));
        for text in [
            "[repository]\nlocation = \"ftp://me:4711@h\"",
            "[repository]\npassword-command = \"echo 4711\"",
            "[backup.datasets.a]\nsources = [\"ftp://me:4711@h\"]",
        ] {
            let file = parse(text).expect("a file");
            assert!(!format!("{file:?}").contains("4711"), "{text}");
        }
    }

    #[test]
    fn a_profile_counts_more_than_what_it_uses_and_that_more_than_the_rest() {
        let text = "[repository]\nlocation = \"base\"\n\
            [profiles.own]\nuse = [\"first\", \"second\"]\nrepository.location = \"own\"\n\
            [profiles.none]\nuse = [\"first\", \"second\"]\n\
            [profiles.empty]\n\
            [profiles.first]\nuse = [\"deep\"]\n\
            [profiles.deep]\nrepository.location = \"deep\"\n\
            [profiles.second]\nuse = [\"deep\"]\nrepository.location = \"second\"\n";

        assert_eq!(location(text, None).as_deref(), Some("base"));
        assert_eq!(location(text, Some("empty")).as_deref(), Some("base"));
        assert_eq!(location(text, Some("own")).as_deref(), Some("own"));
        assert_eq!(location(text, Some("none")).as_deref(), Some("deep"));
        let missing = parse(text).expect("a file").tables(Some("other")).expect_err("missing");
        assert!(missing.hint_text().is_some_and(|hint| hint.contains("empty, first")));
    }

    #[test]
    fn a_table_is_laid_over_another_key_by_key() {
        let text = "[repository]\npassword-file = \"p\"\nlimit-upload = 5\n\
            [backup]\ntags = [\"all\"]\ngitignore = true\n\
            [backup.datasets.a]\ntags = [\"a\"]\n\
            [backup.datasets.a.retention]\nkeep-daily = 7\nkeep-last = 1\n\
            [profiles.p]\nrepository = { password-command = \"c\" }\n\
            backup = { tags = [\"p\"], datasets = { a = { retention = { keep-last = 3 } } } }\n";
        let tables = parse(text).expect("a file").tables(Some("p")).expect("tables");

        assert!(tables.repository.password_file.is_none(), "the command replaces it");
        assert_eq!(tables.repository.limit_upload.map(|it| it.value.0), Some(5));
        let key = tables.backup.datasets.keys().next().cloned();
        let own = tables.backup.for_dataset(key.as_ref());
        assert_eq!(own.tags.map(|it| it.value), Some(vec!["a".to_owned()]));
        assert_eq!(own.gitignore.map(|it| it.value), Some(true));
        let retention = own.retention.expect("rules");
        let kept = |text: &str| Some(Kept(text.parse().expect("an amount")));
        assert_eq!(retention.keep_last.map(|it| it.value), kept("3"));
        assert_eq!(retention.keep_daily.map(|it| it.value), kept("7"));
        let other = tables.backup.for_dataset(None);
        assert_eq!(other.tags.map(|it| it.value), Some(vec!["p".to_owned()]));
    }
}
