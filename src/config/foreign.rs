//! Addresses as other programs write them: `sftp:me@nas:/backups`, `me@nas:/backups`,
//! `s3:https://host/bucket`.
//!
//! To the system they are paths, and to take them for such would make a folder of that name and
//! say that all went well, while a person believes the backups to be on another machine. So what
//! looks like one is refused, unless something of that name is there, or it is written as nothing
//! but a path can be: `./sftp:...`.

use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::path::display;
use crate::net::address::Address;
use crate::net::address::Scheme;
use std::path::Path;

/// What stands before the colon, and no name of a host.
const WORDS: [&str; 25] = [
    "adl", "azure", "b2", "box", "drive", "dropbox", "ftp", "ftps", "gdrive", "gs", "http",
    "https", "nfs", "rclone", "rest", "rsync", "s3", "scp", "sftp", "smb", "ssh", "swift",
    "webdav", "webdavs", "wasb",
];

/// Refuses what looks like an address of another program, unless the path that it is is there.
///
/// # Errors
/// `InvalidInput`, which shows no password.
pub(crate) fn refuse(location: &[u8], path: &Path) -> Result<()> {
    match std::str::from_utf8(location).ok().and_then(refusal) {
        Some(error) if path.symlink_metadata().is_err() => Err(error),
        _ => Ok(()),
    }
}

/// Refuses an address of a scheme that is not known.
pub(crate) fn unknown(scheme: &str) -> Error {
    let small = scheme.to_ascii_lowercase();
    let path = "a path beginning so is written ./PATH";
    let hint = match Meant::of(&small).scheme {
        Some(known) if known.as_str() == small => {
            format!("schemes are written small: {small}://; {path}")
        }
        Some(known) => format!("write {}://; {path}", known.as_str()),
        None => path.to_owned(),
    };
    Error::invalid(format!("nothing is known of {scheme}://")).hint(hint)
}

fn refusal(text: &str) -> Option<Error> {
    let end = text.find(['/', ':']).filter(|&end| text.as_bytes()[end] == b':')?;
    let (word, rest) = (&text[..end], &text[end + 1..]);
    let word = WORDS.into_iter().find(|known| known.eq_ignore_ascii_case(word));
    let mut meant = match word {
        Some("s3") => bucket(rest),
        Some(known) => Meant::of(known).with(address(known, rest)),
        None if is_host(text) => Meant::of("sftp").with(address("sftp", text)),
        None => return None,
    };
    let shown = without_password(word, text);
    let knows_password = |address: &Address| address.password().is_some();
    if shown != text && !meant.address.as_ref().is_some_and(knows_password) {
        // What may be a password was taken for something that is shown.
        meant.address = None;
    }
    let shown = display(shown.as_bytes());
    let hint = format!("{}; a folder of that name is written ./{shown}", meant.hint());
    Some(Error::invalid(format!("{shown} is no address that icecore reads")).hint(hint))
}

/// `me@nas:/x`, `nas:/x` and `me:password@nas:x`.
fn is_host(text: &str) -> bool {
    let first = text.split('/').next().unwrap_or_default();
    let has_user = first.find('@').is_some_and(|at| at > 0 && first[at..].contains(':'));
    has_user || (text.contains(":/") && first.len() > 1 && first.find(':') == Some(first.len() - 1))
}

/// What a person probably wants to say.
struct Meant {
    scheme: Option<Scheme>,
    /// As it is written here, without a password.
    address: Option<Address>,
    /// The address of the store, where one was named.
    endpoint: Option<String>,
}

impl Meant {
    fn of(word: &str) -> Self {
        let scheme = match word {
            "ssh" | "scp" | "rsync" => Some(Scheme::Sftp),
            _ => Scheme::ALL.into_iter().find(|known| known.as_str() == word),
        };
        Meant { scheme, address: None, endpoint: None }
    }

    fn with(self, text: String) -> Self {
        let address = Address::parse(text.as_bytes()).ok().flatten();
        Meant { address: address.filter(|_| self.scheme.is_some()), ..self }
    }

    fn hint(&self) -> String {
        let endpoint = match &self.endpoint {
            Some(endpoint) => format!(" and set AWS_ENDPOINT_URL={endpoint}"),
            None => String::new(),
        };
        match (self.scheme, &self.address) {
            (_, Some(address)) => format!("write {address}{endpoint}"),
            (Some(Scheme::S3), None) => "write s3://BUCKET/PREFIX".to_owned(),
            (Some(scheme), None) => format!("write {}://USER@HOST/PATH", scheme.as_str()),
            (None, None) => "a place is a folder, or behind ftp://, ftps://, sftp:// \
                or s3://"
                .to_owned(),
        }
    }
}

/// Turns `me@nas:/x`, `me@nas:x` or `//me@nas/x` into an address.
fn address(word: &str, rest: &str) -> String {
    let scheme = Meant::of(word).scheme.map_or(word, |known| known.as_str());
    let is_sftp = scheme == Scheme::Sftp.as_str();
    let rest = rest.trim_start_matches('/');
    let slash = rest.find('/').unwrap_or(rest.len());
    // The last colon before the path; one before it belongs to a password.
    let Some(colon) = rest[..slash].rfind(':') else { return format!("{scheme}://{rest}") };
    let (place, path) = (&rest[..colon], &rest[colon + 1..]);
    let port = &rest[colon + 1..slash];
    if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) {
        return format!("{scheme}://{rest}");
    }
    match path.strip_prefix('/') {
        Some(absolute) => format!("{scheme}://{place}/{absolute}"),
        // From the home on, as ssh takes it.
        None if is_sftp => format!("{scheme}://{place}/~/{path}"),
        None => format!("{scheme}://{place}/{path}"),
    }
}

/// Turns `https://host/bucket/x`, `host/bucket/x`, `bucket/x` or `/bucket/x` into an address.
fn bucket(rest: &str) -> Meant {
    let (scheme, place) = match rest.split_once("://") {
        Some((scheme, place)) => (Some(scheme), place),
        None => (None, rest.trim_start_matches('/')),
    };
    let is_host = |first: &str| scheme.is_some() || first.contains(['.', ':']);
    let meant = Meant::of("s3");
    match place.split_once('/') {
        Some((host, path)) if is_host(host) && !path.is_empty() => {
            let host = host.rsplit('@').next().unwrap_or_default();
            let endpoint = format!("{}://{host}", scheme.unwrap_or("https"));
            Meant { endpoint: Some(endpoint), ..meant }.with(format!("s3://{path}"))
        }
        _ if scheme.is_some() => meant,
        _ => meant.with(format!("s3://{place}")),
    }
}

/// Shows what was typed but for what stands between a colon and an `@`, which may be a password.
fn without_password(word: Option<&str>, text: &str) -> String {
    let from = word.map_or(0, |word| word.len() + 1);
    let rest = &text[from..];
    let from = from + rest.find("://").map_or(0, |at| at + "://".len());
    let rest = &text[from..];
    match (rest.find(':'), rest.rfind('@')) {
        (Some(colon), Some(at)) if colon < at => {
            format!("{}{}{}", &text[..from], &rest[..colon], &rest[at..])
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::ErrorKind;

    fn hint(text: &str) -> String {
        let error = refusal(text).unwrap_or_else(|| panic!("{text} was taken"));
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{text}");
        error.hint_text().unwrap_or_default().to_owned()
    }

    #[test]
    fn what_other_programs_write_is_refused_and_told_as_it_is_written_here() {
        for (text, meant) in [
            ("sftp:me@nas:/backups", "write sftp://me@nas/backups;"),
            ("sftp:me@nas:backups", "write sftp://me@nas/~/backups;"),
            ("sftp:nas:2222/x", "write sftp://nas:2222/x;"),
            ("SFTP:me@nas:/x", "write sftp://me@nas/x;"),
            ("me@nas:/backups", "write sftp://me@nas/backups;"),
            ("me@nas:backups", "write sftp://me@nas/~/backups;"),
            ("nas:/backups", "write sftp://nas/backups;"),
            ("ssh:me@nas:/x", "write sftp://me@nas/x;"),
            ("ftp:nas/x", "write ftp://nas/x;"),
            ("ftps:me@nas:", "write ftps://me@nas;"),
            ("ftp:", "write ftp://USER@HOST/PATH;"),
            (
                "s3:https://s3.example.org/bucket/a",
                "write s3://bucket/a and set AWS_ENDPOINT_URL=https://s3.example.org;",
            ),
            (
                "s3:s3.example.org/bucket",
                "write s3://bucket and set AWS_ENDPOINT_URL=https://s3.example.org;",
            ),
            ("s3:/bucket", "write s3://bucket;"),
            ("s3:bucket/a", "write s3://bucket/a;"),
            ("s3:", "write s3://BUCKET/PREFIX;"),
            ("b2:bucket:a", "behind ftp://, ftps://, sftp:// or s3://;"),
            ("rest:https://nas:8000/", "behind ftp://, ftps://, sftp:// or s3://;"),
        ] {
            assert!(hint(text).contains(meant), "{text}: {}", hint(text));
        }
        assert!(hint("nas:/x").ends_with("a folder of that name is written ./nas:/x"));
    }

    #[test]
    fn paths_are_left_alone() {
        for text in [
            "a/b",
            "a:b",
            "./sftp:me@nas:/x",
            "/s3:x",
            "../me@nas:/x",
            "a@b",
            "a@b/c:d",
            "x/y:z",
            "",
            ":",
            "@x:",
            ":/x",
            "photos:",
            "2026-11-20 14:00",
        ] {
            assert!(refusal(text).is_none(), "{text}");
        }
    }

    #[test]
    fn a_scheme_that_is_not_known_is_told_what_is() {
        let hint = |scheme: &str| unknown(scheme).hint_text().unwrap_or_default().to_owned();

        assert!(hint("FTP").starts_with("schemes are written small: ftp://;"));
        assert!(hint("ssh").starts_with("write sftp://;"));
        assert_eq!(hint("gopher"), "a path beginning so is written ./PATH");
    }

    #[test]
    fn what_is_there_is_a_path_whatever_it_is_called() {
        let folder = tempfile::tempdir().expect("a folder");

        assert!(refuse(b"me@nas:/x", folder.path()).is_ok());
        assert!(refuse(b"me@nas:/x", &folder.path().join("x")).is_err());
        assert!(refuse(b"\xff@h:/x", &folder.path().join("x")).is_ok());
    }

    #[test]
    fn no_password_is_repeated() {
        for text in [
            "sftp:me:hunter2@nas:/x",
            "me:hunter2@nas:/x",
            "ftp:me:hun/hunter2@nas",
            "s3:https://KEY:hunter2@s3.example.org/bucket",
            "rest:https://me:hunter2@nas/",
            "s3:KEY:hunter2@bucket/a",
            "s3:https://KEY:hun/hunter2@s3.example.org/bucket",
        ] {
            let error = refusal(text).unwrap_or_else(|| panic!("{text} was taken"));
            let hint = error.hint_text().unwrap_or_default();
            assert!(!error.full_message().contains("hunter2"), "{text}: {error:?}");
            assert!(!hint.contains("hunter2"), "{text}: {hint}");
        }
    }
}
