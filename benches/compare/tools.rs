//! The tools that are compared, and the words each wants.

use crate::support;
use crate::support::PASSWORD;
use std::ffi::OsStr;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

/// Their names, in the order of their columns.
pub(crate) const NAMES: [&str; 7] = ["icecore", "restic", "rustic", "borg", "tar", "cp", "find"];
/// What the others are set against.
pub(crate) const OWN: &str = "icecore";

/// All that a tool needs to see whether something changed.
const FIND_FIELDS: &str = "%y %m %U %G %n %i %s %T@ %C@ %P\\n";

/// Where a tool works; its repository and what it restores are in a home of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) source: &'a Path,
    pub(crate) repository: &'a Path,
    /// An empty folder to restore to.
    pub(crate) out: &'a Path,
    pub(crate) home: &'a Path,
    /// The number of the newest backup, which is being made or is restored; the first is 1.
    pub(crate) version: usize,
}

/// What a tool is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Init,
    First,
    Unchanged,
    Changed,
    List,
    Help,
    Restore,
    Prune,
}

impl Action {
    pub(crate) fn is_backup(self) -> bool {
        matches!(self, Action::First | Action::Unchanged | Action::Changed)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Icecore,
    Restic,
    Rustic,
    Borg,
    /// `tar | zstd`: what a backup that neither encrypts nor looks for copies costs.
    Tar,
    Cp,
    /// What a run without changes has to ask of the system.
    Find,
}

/// One tool.
#[derive(Clone, Debug)]
pub(crate) struct Tool {
    pub(crate) name: &'static str,
    kind: Kind,
    program: PathBuf,
    is_plain: bool,
}

/// Returns those of the named tools that do without encryption when asked and are there, and the
/// names of those that are not there.
pub(crate) fn find(names: &[String], is_plain: bool) -> (Vec<Tool>, Vec<&'static str>) {
    let kinds = [
        ("icecore", Kind::Icecore),
        ("restic", Kind::Restic),
        ("rustic", Kind::Rustic),
        ("borg", Kind::Borg),
        ("tar", Kind::Tar),
        ("cp", Kind::Cp),
        ("find", Kind::Find),
    ];
    let chosen = kinds.into_iter().filter(|(name, kind)| {
        let encrypts_always = matches!(kind, Kind::Restic | Kind::Rustic);
        names.iter().any(|chosen| chosen == name) && !(is_plain && encrypts_always)
    });
    let (mut tools, mut missing) = (Vec::new(), Vec::new());
    for (name, kind) in chosen {
        let program = match kind {
            Kind::Icecore => Some(env!("CARGO_BIN_EXE_icecore").into()),
            Kind::Tar => support::program("zstd").and_then(|_| support::program("tar")),
            _ => support::program(name),
        };
        match program {
            Some(program) => tools.push(Tool { name, kind, program, is_plain }),
            None => missing.push(name),
        }
    }
    (tools, missing)
}

impl Tool {
    /// Returns how a table calls it.
    pub(crate) fn title(&self) -> &'static str {
        match self.kind {
            Kind::Tar => "tar, zstd -3",
            Kind::Cp => "cp -a",
            Kind::Find => "find -printf",
            _ => self.name,
        }
    }

    /// Returns the command that makes it say its version.
    pub(crate) fn version(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(if self.kind == Kind::Restic { "version" } else { "--version" });
        command
    }

    /// Says whether times come back with their fractions of a second.
    pub(crate) fn has_fractions(&self) -> bool {
        self.kind != Kind::Tar
    }

    /// Says whether it goes on after the first version was restored: the others keep no history.
    pub(crate) fn has_versions(&self) -> bool {
        !matches!(self.kind, Kind::Tar | Kind::Cp | Kind::Find)
    }

    /// Says whether it holds more memory than this program, whose peak counts as a child's, too.
    pub(crate) fn is_large(&self) -> bool {
        !matches!(self.kind, Kind::Cp | Kind::Find)
    }

    /// Returns where in `out` the source's contents come to be.
    pub(crate) fn came_to(&self, place: &Place<'_>) -> PathBuf {
        match self.kind {
            Kind::Restic | Kind::Rustic | Kind::Borg => whole_path(place),
            _ => place.out.to_path_buf(),
        }
    }

    /// Says whether there is something to do for an action.
    pub(crate) fn does(&self, action: Action) -> bool {
        match self.kind {
            Kind::Tar | Kind::Cp => matches!(action, Action::First | Action::Restore),
            Kind::Find => action == Action::Unchanged,
            _ => true,
        }
    }

    /// Returns the command for an action that the tool does.
    pub(crate) fn command(&self, action: Action, place: &Place<'_>) -> Command {
        let mut command = match self.kind {
            Kind::Icecore => self.icecore(action, place),
            Kind::Restic | Kind::Rustic => self.restic(action, place),
            Kind::Borg => self.borg(action, place),
            Kind::Tar if action == Action::Restore => {
                self.shell(place, r#"zstd -q -d -c "$2" | "$0" -C "$3" -x -p"#)
            }
            Kind::Tar => self.shell(place, r#""$0" -C "$1" -c . | zstd -q -f -3 -T0 -o "$2""#),
            Kind::Cp if action == Action::Restore => self.shell(place, r#""$0" -a "$2/." "$3""#),
            Kind::Cp => self.shell(place, r#""$0" -a "$1" "$2""#),
            Kind::Find => {
                let mut command = self.start::<&Path>(place, &[place.source]);
                command.args(["-printf", FIND_FIELDS]);
                command
            }
        };
        command.env("TMPDIR", place.home);
        command
    }

    fn start<T: AsRef<OsStr>>(&self, place: &Place<'_>, words: &[T]) -> Command {
        let mut command = support::command(&self.program, place.home);
        command.args(words);
        command
    }

    fn shell(&self, place: &Place<'_>, script: &str) -> Command {
        let mut command = support::command(Path::new("/bin/sh"), place.home);
        command.args(["-e", "-c", script]).arg(&self.program);
        command.args([place.source, place.repository, place.out]).current_dir(place.out);
        command
    }

    fn icecore(&self, action: Action, place: &Place<'_>) -> Command {
        let encryption = if self.is_plain { "none" } else { "password" };
        let words: &[&str] = match action {
            Action::Init => &["init", "--encryption", encryption],
            Action::First | Action::Unchanged | Action::Changed => &["backup", "--dataset", "data"],
            Action::List => &["list"],
            Action::Help => &["--help"],
            Action::Restore => &["restore", "data"],
            Action::Prune => &["forget", "data", "--keep-last", "1", "--prune"],
        };
        let mut command = self.start(place, words);
        match action {
            Action::First | Action::Unchanged | Action::Changed => command.arg(place.source),
            Action::Restore => command.arg(place.out),
            Action::Init | Action::List | Action::Help | Action::Prune => &mut command,
        };
        command.args(["-q", "--no-progress", "-r"]).arg(place.repository);
        if !self.is_plain {
            command.env("ICECORE_PASSWORD", PASSWORD);
        }
        command
    }

    /// restic and rustic take nearly the same words.
    fn restic(&self, action: Action, place: &Place<'_>) -> Command {
        let is_restic = self.kind == Kind::Restic;
        let words: &[&str] = match action {
            Action::Init => &["init"],
            Action::First | Action::Unchanged | Action::Changed => &["backup", "--no-scan"],
            Action::List => &["snapshots"],
            Action::Help => &["--help"],
            Action::Restore => &["restore"],
            Action::Prune if is_restic => &["forget", "--keep-last", "1", "--prune"],
            Action::Prune => &["forget", "--keep-last", "1", "--prune", "--instant-delete"],
        };
        let mut command = self.start(place, words);
        match action {
            Action::First | Action::Unchanged | Action::Changed => command.arg(place.source),
            // One restores below the target by itself, the other when asked for the folder.
            Action::Restore if is_restic => command.args(["latest", "--target"]).arg(place.out),
            Action::Restore => {
                command.arg(format!("latest:{}", place.source.display())).arg(whole_path(place))
            }
            Action::Init | Action::List | Action::Help | Action::Prune => &mut command,
        };
        command.arg(if is_restic { "-q" } else { "--no-progress" });
        for prefix in ["RESTIC", "RUSTIC"] {
            command.env(format!("{prefix}_REPOSITORY"), place.repository);
            command.env(format!("{prefix}_PASSWORD"), PASSWORD);
        }
        command
    }

    fn borg(&self, action: Action, place: &Place<'_>) -> Command {
        let encryption = if self.is_plain { "none" } else { "repokey-blake2" };
        let name = format!("::v{}", place.version);
        let mut command = match action {
            Action::Init => self.start(place, &["init", "-e", encryption]),
            Action::First | Action::Unchanged | Action::Changed => {
                let mut command = self.start(place, &["create", "-C", "zstd,3", &name]);
                command.arg(place.source);
                command
            }
            Action::List => self.start(place, &["list"]),
            Action::Help => self.start(place, &["--help"]),
            Action::Restore => self.start(place, &["extract", &name]),
            Action::Prune => self.shell(place, r#""$0" prune --keep-last 1; "$0" compact"#),
        };
        command.env("BORG_REPO", place.repository).env("BORG_PASSPHRASE", PASSWORD);
        command.env("BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK", "yes");
        command.current_dir(place.out);
        command
    }
}

/// The path of the source as tools keep it that keep paths whole.
fn whole_path(place: &Place<'_>) -> PathBuf {
    place.out.join(place.source.strip_prefix("/").unwrap_or(place.source))
}
