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
use crate::repository::slots::ListedSlot;
use crate::repository::slots::SlotState;
use clap::Args;
use clap::Subcommand;
use serde::Serialize;
use std::path::PathBuf;

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

#[derive(Default, Serialize)]
struct SlotRow {
    key: String,
    label: String,
    created: Option<String>,
    host: String,
    /// Why no password opens the repository by it.
    problem: Option<&'static str>,
}

#[derive(Serialize)]
struct ChangeDocument {
    added: Option<String>,
    removed: Option<String>,
}

pub(crate) fn run(args: &KeyArgs, session: &mut Session) -> Result<Exit> {
    let opened = session.settings().open_keeping();
    let (repository, password) = opened.map_err(|e| session.tell_how_to_make(e))?;
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
        Some(password) => {
            secret::refuse_empty(&password)?;
            password
        }
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
    if session.output.is_json() {
        return session.output.document(&slots.iter().map(SlotRow::of).collect::<Vec<_>>());
    }
    if slots.is_empty() {
        session.output.note("the repository is not encrypted, so it has no passwords");
        return Ok(());
    }
    let heads =
        [("KEY", Side::Left), ("CREATED", Side::Left), ("HOST", Side::Left), ("LABEL", Side::Left)];
    let mut table = Table::new(&heads);
    for ListedSlot { id, state } in &slots {
        let (created, host, label) = match state {
            SlotState::Ours(slot, about) => (Some(slot.created), &*about.host, &*about.label),
            SlotState::Foreign(slot) => (Some(slot.created), "", ""),
            SlotState::Unreadable(_) => (None, "", ""),
        };
        let created = created.map(|time| time.to_local_text()).unwrap_or_default();
        table.row(vec![id.short(), created, host.to_owned(), label.to_owned()]);
    }
    table.print(&mut session.output)?;
    slots.iter().filter_map(note_on).for_each(|note| session.output.note(&note));
    Ok(())
}

/// Says of a slot that is no password here what is known of it.
fn note_on(slot: &ListedSlot) -> Option<String> {
    let id = slot.id.short();
    let why = match &slot.state {
        SlotState::Ours(..) => return None,
        // A label that was changed looks just so.
        SlotState::Foreign(_) => {
            "was not made with this repository's key: an init that did not come to its end left \
             it, or somebody put it there or changed it"
                .to_owned()
        }
        SlotState::Unreadable(e) => format!("cannot be read: {}", e.full_message()),
    };
    Some(format!("key {id} {why}; it opens nothing here, and `icecore key remove {id}` removes it"))
}

impl SlotRow {
    fn of(slot: &ListedSlot) -> Self {
        let row = SlotRow { key: slot.id.to_string(), ..SlotRow::default() };
        match &slot.state {
            SlotState::Ours(slot, About { label, host }) => SlotRow {
                label: label.clone(),
                created: Some(slot.created.to_rfc3339()),
                host: host.clone(),
                ..row
            },
            SlotState::Foreign(slot) => SlotRow {
                created: Some(slot.created.to_rfc3339()),
                problem: Some("foreign"),
                ..row
            },
            SlotState::Unreadable(_) => SlotRow { problem: Some("unreadable"), ..row },
        }
    }
}
