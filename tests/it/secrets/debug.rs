//! `Debug` of everything that holds a secret, or may.

use crate::support::folder::files_below;
use icecore::base::id::RepositoryId;
use icecore::base::secret::Secret;
use icecore::base::time::SystemClock;
use icecore::codec::key::Keys;
use icecore::codec::key::Wiped;
use icecore::codec::seal::Sealer;
use icecore::config::connect::Place;
use icecore::config::connect::Settings;
use icecore::config::credentials;
use icecore::config::credentials::Configured;
use icecore::config::credentials::ConfiguredSecret;
use icecore::config::effective::Config;
use icecore::config::effective::Flags;
use icecore::config::file::ConfigFile;
use icecore::config::netrc::Netrc;
use icecore::config::secret::ConfiguredPassword;
use icecore::config::secret::PasswordPlaces;
use icecore::config::source_place::SourcePlace;
use icecore::net::address::Address;
use icecore::net::ftp;
use icecore::net::http;
use icecore::net::s3::client as s3;
use icecore::net::s3::sign::Credentials;
use icecore::net::ssh;
use icecore::repository::open::CreateOptions;
use icecore::serve::users::Users;
use std::ffi::OsStr;
use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;

const SECRET: &str = "nicht-fuer-fremde-Augen-161803";
const TYPED: &str = "ftp://me:nicht-fuer-fremde-Augen-161803@host/x";

fn secret() -> Secret {
    Secret::new(SECRET.into())
}

fn shown(what: &str, value: &dyn Debug) {
    for text in [format!("{value:?}"), format!("{value:#?}")] {
        assert!(!text.contains("fremde"), "{what}: {text}");
        // As a list of bytes, which is what a plain vector shows.
        let bytes: Vec<String> = SECRET.bytes().take(6).map(|byte| byte.to_string()).collect();
        let compact: String = text.split_whitespace().collect();
        assert!(!compact.contains(&bytes.join(",")), "{what}: {text}");
    }
}

/// A config file with a secret in each place that takes one.
fn file(folder: &Path) -> ConfigFile {
    let text = format!(
        "[repository]\nlocation = \"{TYPED}\"\npassword-command = \"echo {SECRET}\"\n\
         [backup.datasets.a]\nsources = [\"{TYPED}\"]\n\
         [credentials.\"ftp://h\"]\npassword = \"{SECRET}\"\n\
         [credentials.\"sftp://h\"]\npassword-command = \"echo {SECRET}\"\n\
         [credentials.\"s3://b\"]\naccess-key-id = \"AK\"\nsecret-access-key = \"{SECRET}\"\n\
         session-token = \"{SECRET}\"\n"
    );
    let path = folder.join("c.toml");
    std::fs::write(&path, text).unwrap();
    ConfigFile::read(&path).unwrap()
}

#[test]
fn debug_shows_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    shown("a secret", &secret());
    let key: [u8; 32] =
        SECRET.as_bytes().iter().copied().cycle().take(32).collect::<Vec<_>>().try_into().unwrap();
    let keys = Keys::from_master(Wiped::new(key));
    shown("keys", &keys);
    shown("a sealer", &Sealer::new(RepositoryId::new([1; 16]), Some(keys)));
    let options = CreateOptions { password: Some(secret()), ..CreateOptions::default() };
    shown("options of a repository", &options);
    shown("an address", &Address::parse(TYPED.as_bytes()).unwrap().unwrap());
    shown("a source", &SourcePlace::parse(OsStr::new(TYPED)).unwrap());
    shown("a place", &Place { location: TYPED.into(), is_default: false });

    let command = || Some(format!("echo {SECRET}"));
    let configured = || ConfiguredPassword::Command(format!("echo {SECRET}"));
    shown("a configured password", &configured());
    let places = PasswordPlaces {
        file: None,
        command: command(),
        variable: "X",
        configured: Some(configured()),
    };
    shown("places of a password", &places);
    let flags = Flags {
        config: Some(folder.path().join("c.toml")),
        location: Some(TYPED.into()),
        password_command: command(),
        ..Flags::default()
    };
    shown("flags", &flags);
    shown("a config file", &file(folder.path()));
    let tables = file(folder.path()).tables(None).unwrap();
    shown("its tables", &tables);
    shown("its sources", &tables.backup.datasets.values().next().unwrap().sources);
    let config = Config::load(flags).unwrap();
    shown("a config", &config);
    let settings: Settings = config.settings(&icecore::base::cancel::Cancel::new());
    shown("settings", &settings);
    shown("remote settings", &settings.remote);
    shown("what is shown of a config", &config.rows());

    for of in [ConfiguredSecret::Text(secret()), ConfiguredSecret::Elsewhere(configured())] {
        shown(
            "a login that is configured",
            &Configured {
                password: Some(of),
                secret_access_key: Some(secret()),
                session_token: Some(secret()),
                ..Configured::default()
            },
        );
    }
    let login = credentials::Login { password: Some(secret()), ..credentials::Login::default() };
    shown("a login", &login);
    let pair = Some(("AK".to_owned(), secret()));
    let keys =
        credentials::Keys { pair, session_token: Some(secret()), ..credentials::Keys::default() };
    shown("keys of a store", &keys);
    let netrc = format!("machine h login me password {SECRET}");
    shown("a netrc", &Netrc::parse(netrc.as_bytes()).unwrap());
}

#[test]
fn debug_of_clients_and_servers_shows_no_secret() {
    let login = ssh::Login {
        password: Some(secret()),
        passphrase: Some(secret()),
        ..ssh::Login::default()
    };
    shown("a login over SSH", &login);
    let mut options = ftp::Options::new("host", 21, false);
    options.password = Some(secret());
    shown("an FTP server's options", &options);
    shown("an FTP server", &ftp::Server::new(options).unwrap());
    let credentials = Credentials {
        access_key: "AK".into(),
        secret_key: secret(),
        session_token: Some(secret()),
    };
    shown("credentials of a store", &credentials);
    let proxy = Some(format!("http://me:{SECRET}@127.0.0.1:1"));
    let http = http::Options { proxy, ..http::Options::default() };
    shown("options of HTTP", &http);
    let endpoint = Some("http://127.0.0.1:1".to_owned());
    let options = s3::Options {
        endpoint,
        credentials: Some(credentials),
        http,
        ..s3::Options::new("bucket")
    };
    shown("options of a store", &options);
    let client = s3::Client::new(&options, Arc::new(SystemClock), Arc::new(|_| Ok(())));
    shown("a client of a store", &client.unwrap());
    let headers = [("x-amz-security-token".to_owned(), SECRET.to_owned())];
    let request =
        http::Request { method: http::Method::Get, url: "http://h/", headers: &headers, body: b"" };
    shown("a request", &request);
    let mut users = Users::new().unwrap();
    users.add(b"me", &secret()).unwrap();
    shown("users of a server", &users);
}

/// What a field with such a name may be, where `Debug` is derived.
const HARMLESS: [&str; 10] = [
    "Option<Secret>",
    "Secret",
    "bool",
    "Option<ConfiguredSecret>",
    "Option<ConfiguredPassword>",
    "PasswordPlaces",
    "Option<PathBuf>",
    "Option<Credentials>",
    "BTreeMap<Address, CredentialsTable>",
    "Vec<(Address, Configured)>",
];

/// No type with a derived `Debug` has a field that is called like a secret and is plain text. What
/// clap fills in stays within `cli`, where nothing shows it so.
#[test]
fn no_field_that_is_called_a_secret_is_plain_text() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut fields, mut plain) = (0, Vec::new());
    for path in files_below(&root) {
        if path.extension() != Some("rs".as_ref()) || path.starts_with(root.join("cli")) {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        for part in code.split("#[derive(").skip(1) {
            let (derived, rest) = part.split_once(')').unwrap();
            let body = rest.split("\n}").next().unwrap();
            if !derived.contains("Debug") || !body.contains("struct ") {
                continue;
            }
            for line in body.lines() {
                let line = line.trim().trim_end_matches(',');
                let Some((name, kind)) = line.split_once(": ") else { continue };
                let name = name.rsplit(' ').next().unwrap();
                let is_called = ["password", "secret", "token", "passphrase", "credential"]
                    .iter()
                    .any(|word| name.contains(word))
                    && !line.starts_with("//");
                if !is_called {
                    continue;
                }
                fields += 1;
                let is_setting = kind.starts_with("Option<Setting<");
                if !HARMLESS.contains(&kind) && !is_setting {
                    plain.push(format!("{}: {name}: {kind}", path.display()));
                }
            }
        }
    }
    assert!(fields > 20, "only {fields} such fields are seen");
    assert_eq!(plain, [""; 0]);
}
