//! Places on real servers: how the program is told of them, and where they really are.

use crate::pairs_home::Home;
use crate::pairs_home::Tree;
use crate::pairs_home::tree;
use crate::s3::BUCKET;
use crate::s3::RCLONE;
use crate::s3::SEAWEEDFS;
use crate::s3::Store;
use crate::serve;
use crate::serve::Served;
use crate::support::Server;
use icecore::net::s3::objects::Beside;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::lchown;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::SystemTime;

/// Who answers there.
enum Held {
    /// A server of `tests/servers`.
    Script(Server),
    /// `icecore serve-ftp`.
    Own(Served),
    /// A store and its bucket that all tests share, below a prefix of this one's.
    Bucket(&'static Store, &'static str, String),
}

/// How the program learns how to log in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    Config,
    Variables,
}

/// A place on one server.
pub(crate) struct Place {
    pub(crate) kind: &'static str,
    held: Held,
    scheme: &'static str,
}

/// One of another name, so that the config file can tell two stores apart.
const OTHER_BUCKET: &str = "icecore-other";
/// A number for each prefix in a bucket.
static PREFIXES: AtomicUsize = AtomicUsize::new(0);

impl Place {
    /// Starts a server: `vsftpd`, `proftpd`, `pure-ftpd`, `pyftpdlib`, each with `+tls` as well,
    /// `serve-ftp`, `openssh`, `mod_sftp`, `seaweedfs` or `rclone`.
    pub(crate) fn start(kind: &'static str) -> Self {
        Place::start_with(kind, "")
    }

    /// As [`Place::start`], with more in the server's settings, or flags for our own.
    pub(crate) fn start_with(kind: &'static str, extra: &str) -> Self {
        let prefix = || format!("places/{}", PREFIXES.fetch_add(1, Ordering::Relaxed));
        let (scheme, held) = match kind {
            "seaweedfs" => ("s3", Held::Bucket(&SEAWEEDFS, BUCKET, prefix())),
            "rclone" => {
                // Another test may be quicker.
                let _ = RCLONE.client(OTHER_BUCKET).create_bucket();
                ("s3", Held::Bucket(&RCLONE, OTHER_BUCKET, prefix()))
            }
            "openssh" => ("sftp", Held::Script(Server::start("sftp.py", &["openssh"]))),
            "mod_sftp" => ("sftp", Held::Script(Server::start("sftp.py", &["proftpd"]))),
            "serve-ftp" => {
                let flags: Vec<&str> = extra.split_whitespace().collect();
                ("ftp", Held::Own(Served::new(&flags)))
            }
            _ => {
                let (name, tls) = match kind.strip_suffix("+tls") {
                    Some(name) => (name, "required"),
                    None => (kind, "off"),
                };
                let extra = format!("--extra={extra}");
                let server = Server::start("ftp.py", &[name, "--tls", tls, &extra]);
                (if tls == "off" { "ftp" } else { "ftps" }, Held::Script(server))
            }
        };
        Place { kind, held, scheme }
    }

    pub(crate) fn port(&self) -> u16 {
        match &self.held {
            Held::Script(server) => server.port(),
            Held::Own(served) => served.port,
            Held::Bucket(store, ..) => store.server.port(),
        }
    }

    pub(crate) fn is_bucket(&self) -> bool {
        matches!(self.held, Held::Bucket(..))
    }

    pub(crate) fn is_ftp(&self) -> bool {
        self.scheme.starts_with("ftp")
    }

    /// Returns the address of what is below the place.
    pub(crate) fn address(&self, below: &str) -> String {
        self.address_by(self.port(), below)
    }

    /// As [`Place::address`], through somebody who listens at another port.
    pub(crate) fn address_by(&self, port: u16, below: &str) -> String {
        let (scheme, path) = (self.scheme, encoded(below));
        match &self.held {
            Held::Script(server) if scheme == "sftp" => {
                format!("sftp://127.0.0.1:{port}{}/{path}", server.get("root"))
            }
            Held::Script(_) | Held::Own(_) => format!("{scheme}://127.0.0.1:{port}/{path}"),
            Held::Bucket(_, bucket, prefix) => format!("s3://{bucket}/{prefix}/{below}"),
        }
    }

    /// Returns where that is on this machine.
    pub(crate) fn disk(&self, below: &str) -> PathBuf {
        let root = match &self.held {
            Held::Script(server) if self.scheme == "sftp" => PathBuf::from(server.get("data")),
            Held::Script(server) => PathBuf::from(server.get("root")),
            Held::Own(served) => served.path("served"),
            Held::Bucket(..) => panic!("a bucket is nowhere on this machine"),
        };
        root.join(below)
    }

    /// Lets the program in.
    pub(crate) fn admit(&self, home: &mut Home, by: By) {
        let port = self.port();
        match &self.held {
            Held::Script(server) if self.scheme == "sftp" => {
                let key = format!("{}/key", server.get("keys"));
                home.knows(&fs::read_to_string(server.get("known_hosts")).unwrap());
                match by {
                    By::Config => {
                        let name = format!("sftp://127.0.0.1:{port}");
                        home.configure(&name, &[("user", server.get("user")), ("key", &key)]);
                    }
                    By::Variables => {
                        home.set("ICECORE_SFTP_USER", server.get("user"));
                        home.hide("ICECORE_SFTP_PASSWORD", server.get("password"));
                    }
                }
            }
            Held::Script(server) => {
                self.admit_ftp(home, by, server.get("user"), server.get("password"));
            }
            Held::Own(_) => self.admit_ftp(home, by, "icecore", serve::PASSWORD),
            Held::Bucket(store, bucket, _) => {
                let (access, secret) = (store.server.get("access"), store.server.get("secret"));
                let endpoint = format!("http://127.0.0.1:{port}");
                match by {
                    By::Config => home.configure(
                        &format!("s3://{bucket}"),
                        &[
                            ("access-key-id", access),
                            ("secret-access-key", secret),
                            ("endpoint", &endpoint),
                        ],
                    ),
                    By::Variables => {
                        home.set("AWS_ACCESS_KEY_ID", access);
                        home.hide("AWS_SECRET_ACCESS_KEY", secret);
                        home.set("AWS_ENDPOINT_URL", endpoint);
                    }
                }
            }
        }
    }

    fn admit_ftp(&self, home: &mut Home, by: By, user: &str, password: &str) {
        match by {
            By::Config => {
                let name = format!("{}://127.0.0.1:{}", self.scheme, self.port());
                home.configure(&name, &[("user", user), ("password", password)]);
            }
            By::Variables => {
                home.set("ICECORE_FTP_USER", user);
                home.hide("ICECORE_FTP_PASSWORD", password);
            }
        }
    }

    /// Returns the flags that this server needs, if any.
    pub(crate) fn flags(&self) -> Vec<&str> {
        match &self.held {
            Held::Script(server) if self.scheme == "ftps" => vec!["--tls-ca", server.get("ca")],
            _ => Vec::new(),
        }
    }

    /// Makes `below` hold a tree; `before` is what it holds now. What only has another name is
    /// renamed.
    pub(crate) fn fill(&self, below: &str, before: &Tree, after: &Tree) {
        match &self.held {
            Held::Bucket(store, bucket, prefix) => {
                let client = store.client(bucket);
                let key = |path: &str, is_folder: bool| {
                    let slash = if is_folder { "/" } else { "" };
                    format!("{prefix}/{below}/{path}{slash}")
                };
                // A folder with something in it is there by itself.
                let is_key = |tree: &Tree, path: &str| {
                    let above = format!("{path}/");
                    tree[path].is_some() || !tree.keys().any(|it| it.starts_with(&above))
                };
                for (path, content) in before.iter().filter(|(path, _)| is_key(before, path)) {
                    if after.get(path).is_none_or(|now| now.is_some() != content.is_some()) {
                        client.delete(&key(path, content.is_none())).unwrap();
                    }
                }
                for (path, content) in after.iter().filter(|(path, _)| is_key(after, path)) {
                    if before.get(path) != Some(content) {
                        let bytes = content.as_deref().unwrap_or_default();
                        client
                            .put(&key(path, content.is_none()), bytes, &Beside::default())
                            .unwrap();
                    }
                }
            }
            Held::Script(_) | Held::Own(_) => {
                fs::create_dir_all(self.disk(below)).unwrap();
                fill_disk(&self.disk(below), before, after);
                self.give_away(below);
            }
        }
    }

    /// Lets what is at `below` and in it belong to whom the server's files belong to.
    pub(crate) fn give_away(&self, below: &str) {
        let owner = self.disk("").metadata().unwrap();
        let root = self.disk(below);
        let give = |path: &Path| lchown(path, Some(owner.uid()), Some(owner.gid())).unwrap();
        give(&root);
        tree(&root).keys().for_each(|path| give(&root.join(path)));
    }
}

/// A small file system of a size that can be had, at a place of the server's.
pub(crate) struct Disk(PathBuf);

impl Disk {
    pub(crate) fn mount(at: PathBuf, size: &str) -> Self {
        let options = format!("size={size},mode=0777");
        let words = ["-t", "tmpfs", "-o", &options, "none"];
        let mounted = Command::new("mount").args(words).arg(&at).status().unwrap();
        assert!(mounted.success(), "a small disk is needed, for which one has to be root");
        Disk(at)
    }

    pub(crate) fn grow(&self, size: &str) {
        let options = format!("remount,size={size}");
        let mut mount = Command::new("mount");
        assert!(mount.args(["-o", &options]).arg(&self.0).status().unwrap().success());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Writes and removes what differs.
pub(crate) fn fill_disk(root: &Path, before: &Tree, after: &Tree) {
    for (path, content) in before.iter().rev().filter(|(path, content)| {
        after.get(*path).is_none_or(|now| now.is_some() != content.is_some())
    }) {
        let same = |(_, other): &(&String, &Option<Vec<u8>>)| {
            content.as_ref().is_some_and(|bytes| bytes.len() > 1000) && other == &content
        };
        let renamed = after.iter().filter(|(to, _)| !before.contains_key(*to)).find(same);
        match (content, renamed) {
            (None, _) => fs::remove_dir(root.join(path)).unwrap(),
            (Some(_), Some((to, _))) => {
                fs::create_dir_all(root.join(to).parent().unwrap()).unwrap();
                fs::rename(root.join(path), root.join(to)).unwrap();
            }
            (Some(_), None) => fs::remove_file(root.join(path)).unwrap(),
        }
    }
    for (path, content) in after {
        let place = root.join(path);
        match content {
            None => fs::create_dir_all(place).unwrap(),
            Some(content) if before.get(path) == Some(&Some(content.clone())) => {}
            Some(_) if !before.contains_key(path) && place.exists() => {}
            Some(content) => fs::write(place, content).unwrap(),
        }
    }
}

/// Sets when a file last changed, counted back from now, and its mode.
pub(crate) fn date(path: &Path, seconds_ago: u64, mode: u32) {
    let time = SystemTime::now() - Duration::from_secs(seconds_ago);
    fs::File::open(path).unwrap().set_modified(time).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Writes all but plain letters, digits and slashes as %XX.
fn encoded(path: &str) -> String {
    let mut out = String::new();
    for &byte in path.as_bytes() {
        match byte.is_ascii_alphanumeric() || b"-._/".contains(&byte) {
            true => out.push(char::from(byte)),
            false => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
