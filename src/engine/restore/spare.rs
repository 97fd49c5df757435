//! What `--delete` leaves alone although the backup does not have it: what it could not have.
//!
//! Nobody stores sockets, few FTP servers tell where links lead, and neither FTP nor SFTP brings
//! pipes and devices. Restored to where it came from, a backup would take away all of them, and no
//! restore brought them back.

use crate::base::metadata::Kind;

/// Says why something stays that a backup of `source` does not have; None where it would have it,
/// had it been there.
pub(super) fn why_spared(source: &str, kind: Kind) -> Option<&'static str> {
    let is_of = |schemes: &[&str]| schemes.iter().any(|scheme| source.starts_with(scheme));
    match kind {
        Kind::File | Kind::Directory => None,
        Kind::Socket => Some("a socket, which no backup has: it stays"),
        Kind::Symlink => is_of(&["ftp://", "ftps://"])
            .then_some("a link, which a backup over FTP may lack: it stays"),
        Kind::Fifo | Kind::CharDevice | Kind::BlockDevice => {
            is_of(&["ftp://", "ftps://", "sftp://"])
                .then_some("no file, folder or link, and so not in a backup of a server: it stays")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_source_could_not_tell_stays() {
        let spared = |source: &str| {
            let all = [Kind::File, Kind::Directory, Kind::Symlink, Kind::Fifo, Kind::BlockDevice];
            let spared = |kind: &Kind| why_spared(source, *kind).is_some();
            (all.map(|kind| spared(&kind)), spared(&Kind::Socket))
        };
        let nothing = [false; 5];
        assert_eq!(spared("/srv/photos"), (nothing, true));
        assert_eq!(spared("sftp://nas/photos"), ([false, false, false, true, true], true));
        for scheme in ["ftp", "ftps"] {
            let source = format!("{scheme}://nas/photos");
            assert_eq!(spared(&source), ([false, false, true, true, true], true));
        }
    }
}
