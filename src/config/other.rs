//! The second repository of a command that has two.

use crate::base::cancel::Cancel;
use crate::base::error::Error;
use crate::base::error::Result;
use crate::config::connect::Settings;
use crate::config::effective::Config;
use crate::config::secret::PasswordPlaces;
use crate::config::secret::TO_PASSWORD_VARIABLE;
use crate::config::tables::RepositoryTable;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

/// What was typed of the second repository of a command.
#[derive(Clone, Default)]
pub struct OtherFlags {
    /// `--to`
    pub location: Option<OsString>,
    /// `--to-profile`
    pub profile: Option<String>,
    /// `--to-password-file`
    pub password_file: Option<PathBuf>,
    /// `--to-password-command`
    pub password_command: Option<String>,
}

/// A location may hold a password and a command may print one, so neither is shown.
impl fmt::Debug for OtherFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OtherFlags").field("profile", &self.profile).finish_non_exhaustive()
    }
}

impl Config {
    /// Returns how the second repository of a command is reached: what a profile says counts after
    /// what was typed, as with `--profile`. Without one, nothing that was said of the first one's
    /// place or password counts.
    ///
    /// # Errors
    /// `InvalidInput` when nothing says where it is, or when there is no such profile.
    pub fn settings_of_other(&self, other: &OtherFlags, cancel: &Cancel) -> Result<Settings> {
        let table = match (&other.profile, &self.file) {
            (None, _) => RepositoryTable::default(),
            (Some(profile), Some(file)) => file.tables(Some(profile))?.repository,
            (Some(profile), None) => {
                let message =
                    format!("there is no config file that could have a profile {profile:?}");
                return Err(Error::invalid(message));
            }
        };
        let configured = table.location.as_ref().map(|it| self.location_of(it)).transpose()?;
        let Some(location) = other.location.clone().or(configured) else {
            return Err(Error::invalid("nothing says where the other repository is")
                .hint("`--to LOCATION` names it"));
        };
        let mut settings = self.settings(cancel);
        settings.location = Some(location);
        settings.password = PasswordPlaces {
            file: other.password_file.clone(),
            command: other.password_command.clone(),
            variable: TO_PASSWORD_VARIABLE,
            configured: self.password_of(&table)?,
        };
        Ok(settings)
    }
}
