//! Folders that a person need not name: the default repository and the cache.
//!
//! They follow the XDG base directories; a variable that is empty or holds a relative path
//! counts as unset, as that standard wants it.

use crate::base::error::Error;
use crate::base::error::Result;
use std::ffi::OsString;
use std::path::PathBuf;

/// The variable that names a repository.
pub const REPOSITORY_VARIABLE: &str = "ICECORE_REPOSITORY";
/// The variable that names a config file.
pub const CONFIG_VARIABLE: &str = "ICECORE_CONFIG";
/// The variable that names a profile of the config file.
pub const PROFILE_VARIABLE: &str = "ICECORE_PROFILE";
/// The variable for `--connect-timeout`.
pub const CONNECT_TIMEOUT_VARIABLE: &str = "ICECORE_CONNECT_TIMEOUT";
/// The variable for `--timeout`.
pub const TIMEOUT_VARIABLE: &str = "ICECORE_TIMEOUT";
/// The folder's name below the XDG folders.
const FOLDER: &str = "icecore";

/// Returns a variable of the environment; an empty one counts as unset.
pub(crate) fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// Says whether a variable of the environment is there and empty.
pub(crate) fn is_empty(name: &str) -> bool {
    std::env::var_os(name).is_some_and(|value| value.is_empty())
}

/// Looks variables up; tests give their own.
type Look<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// Returns the repository used when none is named: `$XDG_DATA_HOME/icecore`, or
/// `~/.local/share/icecore`.
///
/// # Errors
/// `InvalidInput` when neither variable says where that is.
pub fn default_repository() -> Result<PathBuf> {
    below(&variable, "XDG_DATA_HOME", ".local/share").ok_or_else(|| {
        Error::invalid("no repository is named, and without HOME there is no default one")
            .hint("name one with `-r LOCATION` or ICECORE_REPOSITORY")
    })
}

/// Returns the cache folder used when none is named: `$XDG_CACHE_HOME/icecore`, or
/// `~/.cache/icecore`.
///
/// # Errors
/// `InvalidInput` when neither variable says where that is.
pub fn default_cache() -> Result<PathBuf> {
    below(&variable, "XDG_CACHE_HOME", ".cache").ok_or_else(|| {
        Error::invalid("without HOME there is no folder for the cache")
            .hint("`--cache-dir DIR` names one, `--no-cache` uses none")
    })
}

/// Returns the config file that is read when none is named: `$XDG_CONFIG_HOME/icecore/config.toml`,
/// or `~/.config/icecore/config.toml`. None when neither variable says where that is.
pub fn default_config() -> Option<PathBuf> {
    below(&variable, "XDG_CONFIG_HOME", ".config").map(|folder| folder.join("config.toml"))
}

/// Returns the folder of the person, if the environment says which.
pub(crate) fn home() -> Option<PathBuf> {
    variable("HOME").map(PathBuf::from).filter(|path| path.is_absolute())
}

/// Returns the folder for what lives no longer than this run.
pub fn scratch() -> PathBuf {
    std::env::temp_dir()
}

fn below(look: Look<'_>, xdg: &str, in_home: &str) -> Option<PathBuf> {
    let absolute = |name: &str| look(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute(xdg).or_else(|| absolute("HOME").map(|home| home.join(in_home)))?;
    Some(base.join(FOLDER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xdg_comes_before_home_and_must_be_absolute() {
        let folder = |xdg: Option<&str>, home: Option<&str>| {
            let look = |name: &str| {
                let value = if name == "HOME" { home } else { xdg };
                value.map(OsString::from)
            };
            below(&look, "XDG_DATA_HOME", ".local/share")
        };
        assert_eq!(folder(Some("/x"), Some("/h")), Some("/x/icecore".into()));
        assert_eq!(folder(Some("x"), Some("/h")), Some("/h/.local/share/icecore".into()));
        assert_eq!(folder(None, Some("/h")), Some("/h/.local/share/icecore".into()));
        assert_eq!(folder(None, None), None);
    }
}
