//! The config file that a person writes.

use icecore::base::error::ErrorKind;
use icecore::config::file::ConfigFile;
use icecore::config::tables::Tables;

use super::places::reach;

/// What the seeds come to.
pub const PLACES: &[&str] = &["refused", "read", "profile", "location", "secret"];

fn shows_no_secret(tables: &Tables) {
    for table in tables.credentials.values() {
        let hidden = [&table.password, &table.secret_access_key, &table.session_token];
        for secret in hidden.into_iter().flatten() {
            reach("secret");
            // Not that it does not hold the secret, which may be part of these very words.
            let shown = format!("{secret:?}");
            let at = shown.strip_prefix("Setting { at: ").and_then(|it| it.strip_suffix(", .. }"));
            assert!(at.is_some_and(|at| at.parse::<usize>().is_ok()), "{shown}");
        }
    }
}

/// One execution.
pub fn run(data: &[u8]) {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), data).expect("written");
    let shown = file.path().display().to_string();
    let config = match ConfigFile::read(file.path()) {
        Ok(config) => config,
        Err(e) => {
            assert_eq!(e.kind(), ErrorKind::InvalidInput);
            assert!(e.to_string().contains(&shown), "{e}");
            return reach("refused");
        }
    };
    reach("read");
    let lines = data.iter().filter(|&&byte| byte == b'\n').count() + 1;
    let _ = config.shows_secrets();
    let names: Vec<Option<&str>> = config.profiles().map(Some).chain([None]).collect();
    for name in names {
        let tables = config.tables(name).expect("a profile that is there");
        reach(if name.is_some() { "profile" } else { "read" });
        shows_no_secret(&tables);
        if let Some(location) = &tables.repository.location {
            reach("location");
            assert!((1..=lines).contains(&config.line(location)));
        }
        // What is laid over itself is the same.
        let twice = tables.clone().over(tables.clone());
        assert_eq!(format!("{twice:?}"), format!("{tables:?}"));
    }
}
