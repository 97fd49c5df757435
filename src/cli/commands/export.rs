//! `icecore export`.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::path::display;
use crate::cli::exit::Exit;
use crate::cli::fields;
use crate::cli::fields::FailureFields;
use crate::cli::output;
use crate::cli::session::Found;
use crate::cli::session::Session;
use crate::cli::text;
use crate::engine::export;
use crate::engine::export::ExportReport;
use crate::engine::export::Format;
use crate::target::file::WholeFile;
use clap::Args;
use clap::ValueEnum;
use serde::Serialize;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;

/// Write a backup as a tar or zip archive
///
/// A tar keeps everything: `tar --xattrs --acls --numeric-owner -S -x` makes of it what `restore`
/// would. (GNU tar sets attributes beyond `user.` only with --xattrs-include='*'.) A zip keeps
/// names, content, permissions and times to the second. The archive goes to standard output, or
/// to FILE, which only you may read and which is there when it is whole. Of DATASET@3:PATH only
/// what is within PATH is written, without PATH in front.
///
/// A file that turns out to be damaged is left out, and the exit code is 3; where that shows in
/// the middle of a large one, the archive breaks off there, and the exit code is 1.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  icecore export photos@3 | tar --xattrs --acls --numeric-owner -S -x -C ~/restored
  icecore export photos:2024 -o may.tar.zst")]
pub(crate) struct ExportArgs {
    /// Backup, and maybe a path in it: DATASET[@VERSION][:PATH]
    #[arg(value_name = "BACKUP[:PATH]")]
    backup: OsString,

    /// Write to FILE; one that ends in .tar.zst or .zip is of that format
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Write this format [default: what FILE ends in, or tar]
    #[arg(long, value_name = "FORMAT")]
    format: Option<FormatArg>,

    /// Replace FILE when it is there
    #[arg(long, requires = "output")]
    force: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FormatArg {
    #[value(name = "tar")]
    Tar,
    #[value(name = "tar.zst")]
    TarZst,
    #[value(name = "zip")]
    Zip,
}

impl FormatArg {
    fn format(self) -> Format {
        match self {
            FormatArg::Tar => Format::Tar,
            FormatArg::TarZst => Format::TarZst,
            FormatArg::Zip => Format::Zip,
        }
    }
}

#[derive(Serialize)]
struct Document<'a> {
    dataset: &'a str,
    backup: u64,
    format: &'static str,
    output: String,
    files: u64,
    bytes: u64,
    written_bytes: u64,
    left_out: u64,
    errors: Vec<FailureFields>,
    seconds: f64,
}

pub(crate) fn run(args: &ExportArgs, session: &mut Session) -> Result<Exit> {
    let at = session.address(&args.backup)?;
    let format = match (args.format, args.output.as_deref()) {
        (Some(format), _) => format.format(),
        (None, Some(path)) => format_of(path)?,
        (None, None) => Format::Tar,
    };
    if args.output.is_none() {
        refuse_stdout(session)?;
    }
    let repository = session.open()?;
    let found = session.find(&repository, &at)?;
    let snapshot = found.snapshot()?;
    let Some(path) = &args.output else {
        let report = session.work_with_output(|context, output| {
            export::run(&snapshot, &at.path, format, output, context).map_err(not_read)
        })?;
        return Ok(tell(&found, &report, None, session));
    };
    let mut file = WholeFile::create(path, args.force)?;
    let report =
        session.work(|context| export::run(&snapshot, &at.path, format, &mut file, context))?;
    file.finish()?;
    if session.output.is_json() {
        session.output.document(&document(&found, &report, format, path))?;
        return Ok(Exit::of(report.errors.is_empty()));
    }
    Ok(tell(&found, &report, Some(path), session))
}

/// The format that a name stands for: tar, unless it ends in that of another.
fn format_of(path: &Path) -> Result<Format> {
    let name = path.file_name().unwrap_or_default().as_bytes().to_ascii_lowercase();
    let ends_in = |ends: &[&str]| ends.iter().any(|end| name.ends_with(end.as_bytes()));
    if ends_in(&[".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar"]) {
        let shown = display(path.as_os_str().as_bytes());
        return Err(Error::invalid(format!("{shown} is named like what is not written here"))
            .hint("formats are .tar, .tar.zst and .zip; --format says it whatever the name is"));
    }
    Ok(match () {
        () if ends_in(&[".tar.zst", ".tzst"]) => Format::TarZst,
        () if ends_in(&[".zip"]) => Format::Zip,
        () => Format::Tar,
    })
}

fn refuse_stdout(session: &Session) -> Result<()> {
    if session.output.is_json() {
        return Err(Error::invalid("the archive and JSON cannot both go to standard output")
            .hint("`-o FILE` writes the archive to a file"));
    }
    if session.output.is_terminal() {
        return Err(Error::invalid("an archive is nothing to show on a terminal")
            .hint("`-o FILE` writes it to a file, `| tar -x` unpacks it"));
    }
    Ok(())
}

/// Whoever stopped reading an archive has not got all of it: unlike in a listing, that is a
/// failure.
fn not_read(error: Error) -> Error {
    if error.origin() == Origin::Target && error.kind() == ErrorKind::Unreachable {
        return Error::new(ErrorKind::Io, "the archive was not read to its end");
    }
    error
}

fn document<'a>(
    found: &'a Found,
    report: &ExportReport,
    format: Format,
    path: &Path,
) -> Document<'a> {
    Document {
        dataset: found.dataset.name().as_str(),
        backup: found.backup.header.number.0,
        format: format.as_str(),
        output: display(path.as_os_str().as_bytes()),
        files: report.files,
        bytes: report.bytes,
        written_bytes: report.written_bytes,
        left_out: report.left_out,
        errors: fields::failures(&report.errors),
        seconds: report.seconds,
    }
}

/// Tells people how it went, on standard error where the archive is on the other.
fn tell(found: &Found, report: &ExportReport, path: Option<&Path>, session: &Session) -> Exit {
    let name = found.name();
    let into = path.map(|path| format!(" to {}", path.display())).unwrap_or_default();
    session.output.note(&format!(
        "{name}: exported {} ({}){into}, {} written, {}",
        text::plural(report.files, "file", "files"),
        text::bytes(report.bytes),
        text::bytes(report.written_bytes),
        text::seconds(report.seconds),
    ));
    if report.left_out > 0 {
        let entries = text::plural(report.left_out, "entry", "entries");
        session.output.note(&format!("{name}: {entries} left out that a zip archive cannot hold"));
    }
    if !report.errors.is_empty() {
        let entries = text::plural(report.errors.len() as u64, "entry", "entries");
        output::talk(&format!("{name}: {entries} could not be read and left out"));
    }
    Exit::of(report.errors.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_name_says_the_format() {
        let of = |name: &str| format_of(Path::new(name)).ok();
        assert_eq!(of("a.tar"), Some(Format::Tar));
        assert_eq!(of("x/a.TAR.ZST"), Some(Format::TarZst));
        assert_eq!(of("a.zip"), Some(Format::Zip));
        assert_eq!(of("a.zip/b"), Some(Format::Tar));
        assert_eq!(of("a.tar.gz"), None, "no tar goes under the name of something else");
    }
}
