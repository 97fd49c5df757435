//! `icecore key`.

use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::id::KeyId;
use crate::base::secret::Secret;
use crate::cli::exit::Exit;
use crate::cli::session::Session;
use crate::cli::table::Side;
use crate::cli::table::Table;
use crate::codec::key::Argon2Cost;
use crate::config::secret;
use crate::config::secret::NEW_PASSWORD_VARIABLE;
use crate::config::secret::PasswordPlaces;
use crate::format::key_file::About;
use crate::repository::Repository;
use clap::Args;
use clap::Subcommand;
use serde::Serialize;
use std::path::PathBuf;

/// Stands for the label of a slot that was not made with the repository's key.
const NOT_OURS: &str = "(of no use here)";

/// Show and change the passwords of a repository
///
/// Each password opens a slot that holds the repository's key; any of them opens the repository.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  icecore key add --label 'office'")]
pub(crate) struct KeyArgs {
    #[command(subcommand)]
    command: KeyCommand,
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// Show the password slots
    #[command(after_help = "Example:\n  icecore key list")]
    List,
    /// Add a password
    #[command(after_help = "Example:\n  icecore key add --label office")]
    Add {
        #[command(flatten)]
        new: NewPasswordArgs,
    },
    /// Remove a password slot
    #[command(after_help = "Example:\n  icecore key remove 3fa9")]
    Remove {
        /// Slot to remove, by its id or the beginning of it
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Replace the password in use by another
    #[command(after_help = "Example:\n  icecore key passwd")]
    Passwd {
        #[command(flatten)]
        new: NewPasswordArgs,
    },
}

#[derive(Debug, Args)]
struct NewPasswordArgs {
    /// Read the new password from FILE [default: ICECORE_NEW_PASSWORD, or ask]
    #[arg(long, value_name = "FILE")]
    new_password_file: Option<PathBuf>,

    /// Call the slot so
    #[arg(long, value_name = "TEXT")]
    label: Option<String>,
}

#[derive(Serialize)]
struct SlotRow<'a> {
    key: String,
    label: &'a str,
    created: String,
    host: &'a str,
}

#[derive(Serialize)]
struct ChangeDocument {
    added: Option<String>,
    removed: Option<String>,
}

pub(crate) fn run(args: &KeyArgs, session: &mut Session) -> Result<Exit> {
    let (repository, password) = session.settings().open_keeping()?;
    match &args.command {
        KeyCommand::List => list(&repository, session)?,
        KeyCommand::Add { new } => {
            refuse_plain(password.as_ref())?;
            let added = add(&repository, new, session)?;
            report(Some(added), None, session)?;
        }
        KeyCommand::Remove { id } => {
            let removed = repository.remove_key(id)?;
            report(None, Some(removed), session)?;
        }
        KeyCommand::Passwd { new } => {
            let old = repository.slot_of(refuse_plain(password.as_ref())?)?;
            let added = add(&repository, new, session)?;
            // The new one is there before the old one goes: at no time does no password open.
            let removed = repository.remove_key(&old.to_string())?;
            report(Some(added), Some(removed), session)?;
        }
    }
    Ok(Exit::Done)
}

fn refuse_plain(password: Option<&Secret>) -> Result<&Secret> {
    password.ok_or_else(|| {
        Error::invalid("the repository is not encrypted, so it has no passwords")
            .hint("encryption is chosen when a repository is created: `init --encryption password`")
    })
}

fn add(repository: &Repository, new: &NewPasswordArgs, session: &Session) -> Result<KeyId> {
    let places = PasswordPlaces {
        file: new.new_password_file.clone(),
        command: None,
        variable: NEW_PASSWORD_VARIABLE,
        configured: None,
    };
    let password = match places.find()? {
        Some(password) => password,
        None if secret::can_ask() => secret::ask_new("new password")?,
        None => {
            let kind = crate::base::error::ErrorKind::Password;
            return Err(Error::new(kind, "a new password is needed")
                .hint("set ICECORE_NEW_PASSWORD, or use --new-password-file FILE"));
        }
    };
    repository.add_key(
        &password,
        Argon2Cost::DEFAULT,
        new.label.as_deref().unwrap_or_default(),
        session.now(),
    )
}

fn report(added: Option<KeyId>, removed: Option<KeyId>, session: &mut Session) -> Result<()> {
    if session.output.is_json() {
        return session.output.document(&ChangeDocument {
            added: added.map(|id| id.to_string()),
            removed: removed.map(|id| id.to_string()),
        });
    }
    for (word, id) in [("added", added), ("removed", removed)] {
        if let Some(id) = id {
            session.output.sentence(&format!("{word} key {}", id.short()))?;
        }
    }
    Ok(())
}

fn list(repository: &Repository, session: &mut Session) -> Result<()> {
    let slots = repository.key_slots()?;
    // One that an init left which did not come to its end tells nothing.
    let unknown = || About { label: NOT_OURS.to_owned(), host: String::new() };
    let about = slots.iter().map(|slot| repository.about_slot(slot).unwrap_or_else(|_| unknown()));
    let about: Vec<About> = about.collect();
    let rows = slots.iter().zip(&about);
    if session.output.is_json() {
        let rows = rows.map(|(slot, about)| SlotRow {
            key: slot.id.to_string(),
            label: &about.label,
            created: slot.created.to_rfc3339(),
            host: &about.host,
        });
        return session.output.document(&rows.collect::<Vec<_>>());
    }
    if slots.is_empty() {
        session.output.note("the repository is not encrypted, so it has no passwords");
        return Ok(());
    }
    let heads =
        [("KEY", Side::Left), ("CREATED", Side::Left), ("HOST", Side::Left), ("LABEL", Side::Left)];
    let mut table = Table::new(&heads);
    for (slot, about) in rows {
        table.row(vec![
            slot.id.short(),
            slot.created.to_local_text(),
            about.host.clone(),
            about.label.clone(),
        ]);
    }
    table.print(&mut session.output)
}
