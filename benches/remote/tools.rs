//! The tools that are compared, and the words each wants.

use crate::contest::ServerKind;
use crate::contest::Step;
use crate::servers::Server;
use crate::support;
use crate::support::PASSWORD;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

const BUCKET: &str = "icecore-bench";
/// How often a store is asked whether it takes something, and the wait between.
const READY_TRIES: usize = 100;
const READY_WAIT: Duration = Duration::from_millis(300);

/// Where a tool works.
pub(crate) struct Place<'a> {
    pub(crate) kind: ServerKind,
    pub(crate) server: &'a Server,
    /// The server's port, or that of the proxy before it.
    pub(crate) port: u16,
    pub(crate) round: usize,
    pub(crate) source: &'a Path,
    /// What comes to this machine; of lftp its copy of the tree.
    pub(crate) out: &'a Path,
    pub(crate) home: &'a Path,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Icecore,
    Restic,
    Lftp,
}

/// One tool.
#[derive(Clone, Debug)]
pub(crate) struct Tool {
    kind: Kind,
    program: PathBuf,
}

/// Returns the tools for a server; icecore is the first.
pub(crate) fn of(server: ServerKind) -> io::Result<Vec<Tool>> {
    let own = Tool { kind: Kind::Icecore, program: env!("CARGO_BIN_EXE_icecore").into() };
    let other = if server.has_tree() {
        let clients = Server::start("clients.py", &[]);
        Tool { kind: Kind::Lftp, program: clients.get("lftp").into() }
    } else {
        let program = support::program("restic");
        let program = program.ok_or(io::Error::other("no restic: benches/peers.sh installs it"))?;
        Tool { kind: Kind::Restic, program }
    };
    Ok(vec![own, other])
}

/// Waits until a store takes something: a port that is open is not yet one that does.
pub(crate) fn wait_until_ready(kind: ServerKind, server: &Server) -> io::Result<()> {
    if kind != ServerKind::SeaweedFs {
        return Ok(());
    }
    for number in 0..READY_TRIES {
        let mut command = Command::new(env!("CARGO_BIN_EXE_icecore"));
        aws(&mut command, server, server.port());
        command.args(["init", "--encryption", "none", "--no-cache", "-r"]);
        command.arg(format!("s3://{BUCKET}/ready-{number}"));
        let tried = command.stdout(Stdio::null()).stderr(Stdio::null()).status()?;
        if tried.success() {
            return Ok(());
        }
        thread::sleep(READY_WAIT);
    }
    Err(io::Error::other("the store takes nothing"))
}

fn aws(command: &mut Command, server: &Server, port: u16) {
    command.env("AWS_ACCESS_KEY_ID", server.get("access"));
    command.env("AWS_SECRET_ACCESS_KEY", server.get("secret"));
    command.env("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{port}"));
}

/// Writes down the keys of an SSH server that is reached at a port.
fn known_hosts(place: &Place<'_>) -> io::Result<PathBuf> {
    let folder = place.home.join(".ssh");
    fs::create_dir_all(&folder)?;
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))?;
    let known = fs::read_to_string(place.server.get("known_hosts"))?;
    let known = known.replace(&format!(":{}", place.server.port()), &format!(":{}", place.port));
    let path = folder.join("known_hosts");
    fs::write(&path, known)?;
    Ok(path)
}

impl Place<'_> {
    fn name_there(&self, tool: &Tool) -> String {
        format!("{}-{}", tool.title().split(' ').next().unwrap_or_default(), self.round)
    }

    fn ftp_address(&self, below: &str) -> String {
        format!("ftp://{}@127.0.0.1:{}/{below}", self.server.get("user"), self.port)
    }
}

impl Tool {
    /// Returns how a table calls it.
    pub(crate) fn title(&self) -> &'static str {
        match self.kind {
            Kind::Icecore => "icecore",
            Kind::Restic => "restic",
            Kind::Lftp => "lftp -P 4",
        }
    }

    /// Returns the command that makes its repository, if it has one.
    pub(crate) fn init(&self, place: &Place<'_>) -> Option<Command> {
        match self.kind {
            Kind::Icecore => {
                let encryption = if place.kind.has_tree() { "none" } else { "password" };
                Some(self.icecore(place, &["init", "--encryption", encryption]))
            }
            Kind::Restic => Some(self.restic(place, &["init"])),
            Kind::Lftp => None,
        }
    }

    /// Returns the command of a step.
    pub(crate) fn command(&self, step: Step, place: &Place<'_>) -> Command {
        match self.kind {
            Kind::Icecore => {
                let is_restore = step == Step::Restore;
                let words: &[&str] = if is_restore {
                    &["restore", "data"]
                } else {
                    &["backup", "--dataset", "data"]
                };
                let mut command = self.icecore(place, words);
                match (is_restore, place.kind.has_tree()) {
                    (true, true) => command.arg(place.ftp_address(&self.up(place))),
                    (true, false) => command.arg(place.out),
                    (false, true) => command.arg(place.ftp_address("tree")),
                    (false, false) => command.arg(place.source),
                };
                command
            }
            Kind::Restic if step == Step::Restore => {
                let mut command = self.restic(place, &["restore", "latest", "--target"]);
                command.arg(place.out);
                command
            }
            Kind::Restic => {
                let mut command = self.restic(place, &["backup", "--no-scan"]);
                command.arg(place.source);
                command
            }
            Kind::Lftp => self.lftp(step, place),
        }
    }

    /// Returns the copy of the tree that a step leaves on this machine, if it does.
    pub(crate) fn copy_here(&self, step: Step, place: &Place<'_>) -> Option<PathBuf> {
        let copies = self.kind == Kind::Lftp && step != Step::Restore;
        copies.then(|| place.out.to_path_buf())
    }

    /// Returns where a restore brings the tree.
    pub(crate) fn came_to(&self, place: &Place<'_>) -> PathBuf {
        match self.kind {
            _ if place.kind.has_tree() => Path::new(place.server.get("root")).join(self.up(place)),
            Kind::Restic => place.out.join(place.source.strip_prefix("/").unwrap_or(place.source)),
            Kind::Icecore | Kind::Lftp => place.out.to_path_buf(),
        }
    }

    fn up(&self, place: &Place<'_>) -> String {
        format!("up-{}", place.name_there(self))
    }

    fn icecore(&self, place: &Place<'_>, words: &[&str]) -> Command {
        let mut command = support::command(&self.program, place.home);
        command.args(words).args(["-q", "--no-progress", "-r"]);
        let name = place.name_there(self);
        match place.kind {
            ServerKind::SeaweedFs => {
                aws(&mut command, place.server, place.port);
                command.arg(format!("s3://{BUCKET}/{name}"));
            }
            ServerKind::OpenSsh => {
                // What cannot be written is missed by the tool, which says so.
                let _ = known_hosts(place);
                let (user, data) = (place.server.get("user"), place.server.get("data"));
                command.arg(format!("sftp://{user}@127.0.0.1:{}{data}/{name}", place.port));
                command.env("ICECORE_SFTP_KEY", format!("{}/key", place.server.get("keys")));
            }
            _ => {
                command.arg(place.home.join("repository"));
                command.env("ICECORE_FTP_PASSWORD", place.server.get("password"));
                return command;
            }
        }
        command.env("ICECORE_PASSWORD", PASSWORD);
        command
    }

    fn restic(&self, place: &Place<'_>, words: &[&str]) -> Command {
        let mut command = support::command(&self.program, place.home);
        let name = place.name_there(self);
        if place.kind == ServerKind::SeaweedFs {
            aws(&mut command, place.server, place.port);
            command.arg("-r").arg(format!("s3:http://127.0.0.1:{}/{BUCKET}/{name}", place.port));
        } else {
            let known = known_hosts(place).unwrap_or_default();
            let (user, data) = (place.server.get("user"), place.server.get("data"));
            let ssh = format!(
                "sftp.command=ssh -p {} -i {}/key -o IdentitiesOnly=yes -o UserKnownHostsFile={} \
                 {user}@127.0.0.1 -s sftp",
                place.port,
                place.server.get("keys"),
                known.display(),
            );
            command.args(["-o", &ssh, "-r"]).arg(format!("sftp:{user}@127.0.0.1:{data}/{name}"));
        }
        command.arg("-q").args(words).env("RESTIC_PASSWORD", PASSWORD).env("TMPDIR", place.home);
        command
    }

    fn lftp(&self, step: Step, place: &Place<'_>) -> Command {
        let (user, password) = (place.server.get("user"), place.server.get("password"));
        let out = place.out.display();
        let mirror = match step {
            Step::Restore => format!("mirror -R -P 4 {out} {}", self.up(place)),
            _ => format!("mirror -P 4 tree {out}"),
        };
        let script = format!(
            "set cmd:fail-exit true; set net:max-retries 2; set ftp:ssl-allow false; \
             open -u {user},'{password}' ftp://127.0.0.1:{}; {mirror}",
            place.port
        );
        let mut command = support::command(&self.program, place.home);
        command.args(["--norc", "-c", &script]);
        command
    }
}
