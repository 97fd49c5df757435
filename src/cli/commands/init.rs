//! `icecore init`.

use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::limits::CHUNK_BYTES_MAX;
use crate::base::size;
use crate::chunk::ChunkParameters;
use crate::cli::exit::Exit;
use crate::cli::session::Session;
use crate::cli::text;
use crate::codec::compress;
use crate::format::config::Encryption;
use crate::repository::Repository;
use crate::repository::open::CreateOptions;
use clap::Args;
use clap::ValueEnum;
use serde::Serialize;

/// A file up to this many average chunks is kept as one.
const WHOLE_CHUNKS: u32 = 8;

/// Create a repository
///
/// A folder of this machine is not encrypted unless a password is given (ICECORE_PASSWORD,
/// --password-file, --password-command) or asked for by --encryption password. For a remote place
/// the choice must be made.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  icecore -r /mnt/disk/backups init --encryption password")]
pub(crate) struct InitArgs {
    /// Encrypt everything by a password, or nothing
    #[arg(long, value_enum)]
    encryption: Option<Choice>,

    /// Cut files into chunks of SIZE on average, a power of two from 1k to 1M [default: 4k]
    #[arg(long, value_name = "SIZE", value_parser = size::parse_bytes)]
    chunk_size: Option<u64>,

    /// Compress at LEVEL, 1 to 19
    #[arg(long, value_name = "LEVEL", default_value_t = compress::LEVEL_DEFAULT)]
    #[arg(value_parser = clap::value_parser!(i32).range(1..=compress::LEVEL_MAX as i64))]
    compression: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Choice {
    Password,
    None,
}

#[derive(Serialize)]
struct Document {
    repository: String,
    id: String,
    encryption: &'static str,
    created: String,
}

pub(crate) fn run(args: &InitArgs, session: &mut Session) -> Result<Exit> {
    let settings = session.settings();
    let has_password = settings.password.find()?.is_some();
    if settings.place()?.is_remote()? && args.encryption.is_none() && !has_password {
        return Err(Error::invalid("a remote repository needs the choice of its encryption")
            .hint("add `--encryption password` or `--encryption none`"));
    }
    let password = match args.encryption {
        Some(Choice::None) if has_password => {
            return Err(Error::invalid("a password is given, and --encryption none refuses it")
                .hint("unset ICECORE_PASSWORD, or leave --encryption out"));
        }
        Some(Choice::None) => None,
        Some(Choice::Password) => settings.new_password(true)?,
        None => settings.new_password(false)?,
    };
    let options = CreateOptions {
        password,
        chunks: chunks(args.chunk_size)?,
        compression: args.compression,
        ..CreateOptions::default()
    };
    let repository = settings.create(&options, session.now())?;
    report(&repository, args.encryption.is_none(), session)?;
    Ok(Exit::Done)
}

fn chunks(average: Option<u64>) -> Result<ChunkParameters> {
    let Some(average) = average else { return Ok(ChunkParameters::default()) };
    let absurd = || {
        Error::invalid(format!("chunks of {} cannot be", text::bytes(average)))
            .hint("--chunk-size is a power of two from 1k to 1M")
    };
    let average_fine = u32::try_from(average).map_err(|_| absurd())?;
    let usual = ChunkParameters::default();
    let chunks = ChunkParameters {
        average_fine,
        average_coarse: usual.average_coarse.max(average_fine),
        whole_max: average_fine.saturating_mul(WHOLE_CHUNKS).min(CHUNK_BYTES_MAX as u32),
    };
    chunks.check().map_err(|_| absurd())?;
    Ok(chunks)
}

fn report(repository: &Repository, by_default: bool, session: &mut Session) -> Result<()> {
    let is_encrypted = repository.config().encryption == Encryption::Password;
    if session.output.is_json() {
        return session.output.document(&Document {
            repository: repository.location(),
            id: repository.id().to_string(),
            encryption: if is_encrypted { "password" } else { "none" },
            created: repository.config().created.to_rfc3339(),
        });
    }
    session.output.sentence(&created(repository))?;
    if !is_encrypted && by_default {
        session.output.note(
            "whoever can read that folder can read the backups; \
             `icecore init --encryption password` makes a repository that needs a password",
        );
    }
    Ok(())
}

/// Says what was made; also said by a first backup.
pub(crate) fn created(repository: &Repository) -> String {
    let how = match repository.config().encryption {
        Encryption::Password => "encrypted: without its password nobody gets anything back",
        Encryption::None => "not encrypted",
    };
    format!("created a repository at {}, {how}", repository.location())
}
