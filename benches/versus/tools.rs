//! The tools that are compared, and the words each wants.

use crate::support;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

const PASSWORD: &str = "perito moreno";
/// Where `peers.sh` puts what it installs; after it the folders of `PATH` are looked through.
const PEERS: &str = "/opt/peers/bin";

/// Where a round takes place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) source: &'a Path,
    pub(crate) repository: &'a Path,
    /// An empty folder to restore to.
    pub(crate) out: &'a Path,
}

type Make<T> = fn(&Tool, &Place<'_>) -> T;

/// One tool.
#[derive(Clone, Debug)]
pub(crate) struct Tool {
    pub(crate) name: &'static str,
    program: PathBuf,
    pub(crate) init: Make<Vec<Command>>,
    pub(crate) backup: Make<Command>,
    pub(crate) restore: Make<Command>,
    /// Where in `out` the source's contents come to be.
    pub(crate) came_to: fn(&Place<'_>) -> PathBuf,
}

/// Returns icecore, and those of its peers that are there.
pub(crate) fn installed() -> Vec<Tool> {
    let mut tools = vec![Tool {
        name: "icecore",
        program: env!("CARGO_BIN_EXE_icecore").into(),
        init: |tool, place| vec![icecore(tool, place, &["init"])],
        backup: |tool, place| {
            let mut command = icecore(tool, place, &["backup", "--dataset", "data"]);
            command.arg(place.source);
            command
        },
        restore: |tool, place| {
            let mut command = icecore(tool, place, &["restore", "data"]);
            command.arg(place.out);
            command
        },
        came_to: |place| place.out.to_path_buf(),
    }];
    tools.extend([restic("restic"), restic("rustic"), borg(), tar()].into_iter().flatten());
    tools
}

fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = vec![PathBuf::from(PEERS)];
    folders.extend(std::env::split_paths(&path));
    folders.into_iter().map(|folder| folder.join(name)).find(|program| program.is_file())
}

/// The path of the source as tools keep it that keep paths whole.
fn whole_path(place: &Place<'_>) -> PathBuf {
    place.out.join(place.source.strip_prefix("/").unwrap_or(place.source))
}

fn command(tool: &Tool, words: &[&str]) -> Command {
    let mut command = support::command(&tool.program, Path::new("/"));
    command.args(words);
    command
}

fn icecore(tool: &Tool, place: &Place<'_>, words: &[&str]) -> Command {
    let mut command = command(tool, words);
    command.args(["-q", "--no-progress", "-r"]).arg(place.repository);
    command.env("ICECORE_PASSWORD", PASSWORD);
    command
}

/// restic and rustic take the same words.
fn restic(name: &'static str) -> Option<Tool> {
    fn with_repository(tool: &Tool, place: &Place<'_>, words: &[&str]) -> Command {
        let mut command = command(tool, words);
        for prefix in ["RESTIC", "RUSTIC"] {
            command.env(format!("{prefix}_REPOSITORY"), place.repository);
            command.env(format!("{prefix}_PASSWORD"), PASSWORD);
        }
        command
    }
    Some(Tool {
        name,
        program: find(name)?,
        init: |tool, place| vec![with_repository(tool, place, &["init"])],
        backup: |tool, place| {
            let mut command = with_repository(tool, place, &["backup"]);
            command.arg(place.source);
            command
        },
        restore: |tool, place| {
            // restic restores below the target by itself, rustic when asked for the folder.
            let mut command = with_repository(tool, place, &["restore"]);
            let source = place.source.display();
            let folder = if tool.name == "restic" { place.out.into() } else { whole_path(place) };
            match tool.name {
                "restic" => command.args(["latest", "--target"]).arg(folder),
                _ => command.arg(format!("latest:{source}")).arg(folder),
            };
            command
        },
        came_to: whole_path,
    })
}

fn borg() -> Option<Tool> {
    fn with_repository(program: &Path, place: &Place<'_>, words: &[&str]) -> Command {
        let mut command = support::command(program, Path::new("/"));
        command.args(words).env("BORG_REPO", place.repository).env("BORG_PASSPHRASE", PASSWORD);
        command.current_dir(place.out);
        command
    }
    Some(Tool {
        name: "borg",
        program: find("borg")?,
        init: |tool, place| {
            vec![with_repository(&tool.program, place, &["init", "-e", "repokey-blake2"])]
        },
        backup: |tool, place| {
            let words = ["create", "-C", "zstd,3", "::{now:%Y-%m-%dT%H:%M:%S.%f}"];
            let mut command = with_repository(&tool.program, place, &words);
            command.arg(place.source);
            command
        },
        restore: |tool, place| {
            // The newest archive's name has to be asked for; that costs a second start.
            let script = r#""$0" extract "::$("$0" list --last 1 --short)""#;
            let mut command = with_repository(Path::new("/bin/sh"), place, &["-c", script]);
            command.arg(&tool.program);
            command
        },
        came_to: whole_path,
    })
}

/// The floor below which nobody comes: neither encrypted nor deduplicated.
fn tar() -> Option<Tool> {
    find("zstd")?;
    fn shell(script: &str, place: &Place<'_>) -> Command {
        let mut command = support::command(Path::new("/bin/sh"), place.out);
        command.args(["-c", script]).arg("sh").args([place.source, place.repository, place.out]);
        command
    }
    Some(Tool {
        name: "tar + zstd",
        program: find("tar")?,
        init: |_, _| Vec::new(),
        backup: |_, place| shell(r#"tar -C "$1" -c . | zstd -q -f -3 -T0 -o "$2""#, place),
        restore: |_, place| shell(r#"zstd -q -d -c "$2" | tar -C "$3" -x -p"#, place),
        came_to: |place| place.out.to_path_buf(),
    })
}
