//! Where the repository is that many write to.

use crate::s3::Store;
use crate::support::Server;
use std::path::Path;
use std::path::PathBuf;
use tempfile::TempDir;

/// A repository, and what a process needs to reach it.
pub(super) struct Place {
    pub(super) location: String,
    pub(super) variables: Vec<(&'static str, String)>,
    pub(super) known_hosts: Option<PathBuf>,
    /// So many times as many rounds are gone through: more where all is quick.
    pub(super) rounds: usize,
}

/// A local folder, which goes when what is beside it is dropped.
pub(super) fn folder() -> (Place, TempDir) {
    let folder = tempfile::Builder::new().prefix("icecore-many-").tempdir().unwrap();
    let location = folder.path().join("repository").to_str().unwrap().to_owned();
    (Place { location, variables: Vec::new(), known_hosts: None, rounds: 6 }, folder)
}

pub(super) fn bucket(store: &Store) -> Place {
    let (location, variables) = store.as_repository();
    Place { location, variables, known_hosts: None, rounds: 1 }
}

pub(super) fn ftp_place(server: &Server) -> Place {
    let variables = vec![
        ("ICECORE_FTP_USER", server.get("user").to_owned()),
        ("ICECORE_FTP_PASSWORD", server.get("password").to_owned()),
    ];
    let location = format!("ftp://127.0.0.1:{}/repository", server.port());
    Place { location, variables, known_hosts: None, rounds: 1 }
}

pub(super) fn sftp_place(server: &Server) -> Place {
    let key = Path::new(server.get("keys")).join("key");
    let variables = vec![
        ("ICECORE_SFTP_USER", server.get("user").to_owned()),
        ("ICECORE_SFTP_KEY", key.to_str().unwrap().to_owned()),
    ];
    let location = format!("sftp://127.0.0.1:{}{}/repository", server.port(), server.get("root"));
    Place { location, variables, known_hosts: Some(server.get("known_hosts").into()), rounds: 1 }
}
