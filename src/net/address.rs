//! Addresses of places on other machines: read once, never shown with a password.
//!
//! ```text
//! ftp://user:password@host:port/below/the/login     ftp://host/%2Ffrom/the/root
//! ftps://host/path                                  explicit TLS; on port 990 from the first byte
//! sftp://user@host/from/the/root                    sftp://user@host/~/below/the/home
//! s3://bucket/prefix                                keys are literal
//! ```
//!
//! User, password and path are percent-decoded, but for S3, whose keys are taken as they stand. A
//! path may hold any bytes that can be said to the server: no NUL and no end of a line, which
//! would be a command of its own to an FTP server.

use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::path::display;
use crate::base::secret::Secret;
use std::fmt;

/// How a place is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scheme {
    /// FTP in the clear.
    Ftp,
    /// FTP within TLS.
    Ftps,
    /// Files over SSH.
    Sftp,
    /// A bucket of an S3-compatible store.
    S3,
}

impl Scheme {
    /// All of them.
    pub const ALL: [Scheme; 4] = [Scheme::Ftp, Scheme::Ftps, Scheme::Sftp, Scheme::S3];

    /// Returns the word before `://`.
    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Ftp => "ftp",
            Scheme::Ftps => "ftps",
            Scheme::Sftp => "sftp",
            Scheme::S3 => "s3",
        }
    }

    /// Returns the port that is meant where none is said; a bucket has none.
    pub fn port(self) -> Option<u16> {
        match self {
            Scheme::Ftp | Scheme::Ftps => Some(21),
            Scheme::Sftp => Some(22),
            Scheme::S3 => None,
        }
    }
}

/// Where a path begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the root of what the server shows.
    Root,
    /// Where the login lands.
    Login,
}

/// A place on another machine.
#[derive(Clone)]
pub struct Address {
    scheme: Scheme,
    user: Option<String>,
    password: Option<Secret>,
    host: String,
    port: Option<u16>,
    start: Start,
    path: Vec<u8>,
}

impl Address {
    /// Reads an address. None for what is none: a path, or an unknown scheme.
    ///
    /// # Errors
    /// `InvalidInput`, which shows no password.
    pub fn parse(text: &[u8]) -> Result<Option<Self>> {
        let Some((scheme, rest)) = split_scheme(text) else { return Ok(None) };
        let Some(scheme) = Scheme::ALL.into_iter().find(|known| known.as_str() == scheme) else {
            return Ok(None);
        };
        read(scheme, rest).map(Some).map_err(|e| e.context("an address cannot be read"))
    }

    /// Returns how it is reached.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Returns the user that the address names; for S3 an access key.
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// Returns the password within the address.
    pub fn password(&self) -> Option<&Secret> {
        self.password.as_ref()
    }

    /// Returns the host; for S3 the bucket.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns the port; a bucket has none.
    pub fn port(&self) -> Option<u16> {
        self.port.or(self.scheme.port())
    }

    /// Returns where the path begins.
    pub fn start(&self) -> Start {
        self.start
    }

    /// Returns the path as the server is to hear it: for S3 a prefix of keys without a slash at
    /// either end, for the others a path that is absolute from the root, and else relative.
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// Returns the last part of the path, or the host where there is none.
    pub fn last_part(&self) -> &[u8] {
        let last = self.path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
        if last.is_empty() { self.host.as_bytes() } else { last }
    }

    /// Returns what credentials are looked up by: `ftp://host`, with the port where one was said.
    pub fn server(&self) -> String {
        let port = self.port.map(|port| format!(":{port}")).unwrap_or_default();
        format!("{}://{}{port}", self.scheme.as_str(), bracketed(&self.host))
    }
}

/// Shows no password. What is shown can be read again.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = self.user.as_deref().filter(|_| self.scheme != Scheme::S3);
        let user =
            user.map(|user| format!("{}@", encoded(user.as_bytes(), b""))).unwrap_or_default();
        let port = self.port.map(|port| format!(":{port}")).unwrap_or_default();
        write!(f, "{}://{user}{}{port}", self.scheme.as_str(), bracketed(&self.host))?;
        match (self.scheme, self.start) {
            (Scheme::S3, _) if self.path.is_empty() => Ok(()),
            (Scheme::S3, _) => write!(f, "/{}", String::from_utf8_lossy(&self.path)),
            (Scheme::Sftp, Start::Login) => write!(f, "/~/{}", encoded(&self.path, b"/")),
            (Scheme::Sftp, Start::Root) => write!(f, "/{}", no_home(&self.path[1..])),
            (_, Start::Login) if self.path.is_empty() => Ok(()),
            (_, Start::Login) => write!(f, "/{}", no_home(&self.path)),
            (_, Start::Root) => write!(f, "/%2F{}", encoded(&self.path[1..], b"/")),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

/// Splits what begins with a scheme.
fn split_scheme(text: &[u8]) -> Option<(&str, &[u8])> {
    let end = text.windows(3).position(|window| window == b"://")?;
    let scheme = std::str::from_utf8(&text[..end]).ok()?;
    let fits = scheme.starts_with(|c: char| c.is_ascii_lowercase())
        && scheme.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    fits.then_some((scheme, &text[end + 3..]))
}

fn read(scheme: Scheme, rest: &[u8]) -> Result<Address> {
    let end = rest.iter().position(|&byte| byte == b'/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let authority = std::str::from_utf8(authority)
        .map_err(|_| Error::invalid("user, host and port are not UTF-8"))?;
    // The last one, as a password that somebody typed as it is may hold others.
    let (login, place) = match authority.rsplit_once('@') {
        Some((login, place)) => (Some(login), place),
        None => (None, authority),
    };
    let (user, password) = match login.map(|login| login.split_once(':').unwrap_or((login, ""))) {
        None => (None, None),
        Some(("", _)) => return Err(Error::invalid("there is no user before the @")),
        Some((user, password)) => {
            let user = String::from_utf8(decoded(user.as_bytes())?)
                .map_err(|_| Error::invalid("the user's name is not UTF-8"))?;
            if user.bytes().any(|byte| byte.is_ascii_control()) {
                return Err(Error::invalid("the user's name holds a control character"));
            }
            let is_said = login.is_some_and(|login| login.contains(':'));
            (Some(user), is_said.then(|| secret(password)).transpose()?)
        }
    };
    let (host, port) = split_port(scheme, place)?;
    let (start, path) = read_path(scheme, path)?;
    Ok(Address { scheme, user, password, host, port, start, path })
}

fn secret(text: &str) -> Result<Secret> {
    let bytes = decoded(text.as_bytes())?;
    if bytes.iter().any(|&byte| matches!(byte, b'\0' | b'\r' | b'\n')) {
        return Err(Error::invalid("the password holds the end of a line"));
    }
    Ok(Secret::new(bytes))
}

fn split_port(scheme: Scheme, place: &str) -> Result<(String, Option<u16>)> {
    let (host, port) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => {
            let is_good = host.parse::<std::net::Ipv6Addr>().is_ok();
            let port = rest.strip_prefix(':');
            if !is_good || !(rest.is_empty() || port.is_some()) {
                return Err(Error::invalid(format!("{place} is no host")));
            }
            (host, port)
        }
        None => match place.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (place, None),
        },
    };
    if host.is_empty() {
        let what = if scheme == Scheme::S3 { "bucket" } else { "host" };
        return Err(Error::invalid(format!("there is no {what} behind {}://", scheme.as_str())));
    }
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    // What stood in brackets was looked at above.
    if !host.contains(':') && !host.bytes().all(is_name) {
        return Err(Error::invalid(format!("{} is no host", display(host.as_bytes()))));
    }
    match port {
        Some(_) if scheme == Scheme::S3 => Err(Error::invalid("a bucket has no port")
            .hint("the store's own address is an endpoint: set AWS_ENDPOINT_URL")),
        Some(port) => match port.parse::<u16>() {
            Ok(number) if number > 0 && port.bytes().all(|byte| byte.is_ascii_digit()) => {
                Ok((host.to_owned(), Some(number)))
            }
            // It may be the beginning of a password, and so is not shown.
            _ => Err(Error::invalid("what stands behind the colon is no port")
                .hint("in a password / is written as %2F, @ as %40, : as %3A")),
        },
        None => Ok((host.to_owned(), None)),
    }
}

/// Reads what stands behind the host: nothing, or a slash and more.
fn read_path(scheme: Scheme, text: &[u8]) -> Result<(Start, Vec<u8>)> {
    let text = text.strip_prefix(b"/").unwrap_or(text);
    if scheme == Scheme::S3 {
        let prefix = std::str::from_utf8(trimmed(text));
        let prefix = prefix.map_err(|_| Error::invalid("keys of a bucket are UTF-8"))?;
        return Ok((Start::Root, prefix.as_bytes().to_vec()));
    }
    let is_home = text == b"~" || text.starts_with(b"~/");
    let is_absolute = match scheme {
        Scheme::Sftp => !is_home,
        // As the standard writes it, and as people type it.
        _ => text.starts_with(b"%2F") || text.starts_with(b"%2f") || text.starts_with(b"/"),
    };
    let text = if is_home { &text[1..] } else { text };
    let bytes = decoded(text)?;
    if bytes.iter().any(|&byte| matches!(byte, b'\0' | b'\r' | b'\n')) {
        return Err(Error::invalid("the path holds a NUL or the end of a line"));
    }
    let mut parts = Vec::new();
    for part in bytes.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                return Err(Error::invalid("the path goes up by `..`")
                    .hint("write where it leads to, as the server may follow links"));
            }
            part => parts.push(part),
        }
    }
    let joined = parts.join(&b'/');
    if is_absolute {
        return Ok((Start::Root, [b"/", &joined[..]].concat()));
    }
    Ok((Start::Login, joined))
}

fn trimmed(mut text: &[u8]) -> &[u8] {
    while let Some(rest) = text.strip_suffix(b"/") {
        text = rest;
    }
    text
}

fn decoded(text: &[u8]) -> Result<Vec<u8>> {
    let bad = || Error::invalid("a % is not followed by two digits").hint("a % itself is %25");
    let digit =
        |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16)).ok_or_else(bad);
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => (digit(bytes.next())? * 16 + digit(bytes.next())?) as u8,
            byte => byte,
        });
    }
    Ok(out)
}

/// Writes all but plain letters, digits and `also` as %XX.
fn encoded(bytes: &[u8], also: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || also.contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Writes a path whose first part is a name, and not where the login lands.
fn no_home(path: &[u8]) -> String {
    let shown = encoded(path, b"/");
    match shown.strip_prefix('~') {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => format!("%7E{rest}"),
        _ => shown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::ErrorKind;
    use proptest::prelude::any;
    use proptest::prop_assert_eq;
    use proptest::proptest;

    fn address(text: &str) -> Address {
        Address::parse(text.as_bytes()).expect(text).expect(text)
    }

    #[test]
    fn parts_are_found() {
        let it = address("ftp://me:hun%40ter2@host:2121/data/sets");
        assert_eq!((it.scheme(), it.user(), it.host()), (Scheme::Ftp, Some("me"), "host"));
        assert_eq!(it.password().expect("one").expose(), b"hun@ter2");
        assert_eq!(
            (it.port(), it.start(), it.path()),
            (Some(2121), Start::Login, &b"data/sets"[..])
        );
        assert_eq!((it.last_part(), it.server().as_str()), (&b"sets"[..], "ftp://host:2121"));
        assert_eq!(it.to_string(), "ftp://me@host:2121/data/sets");
    }

    #[test]
    fn paths_begin_where_each_protocol_says() {
        for (text, start, path) in [
            ("ftp://h", Start::Login, ""),
            ("ftp://h/", Start::Login, ""),
            ("ftp://h/a//b/./c/", Start::Login, "a/b/c"),
            ("ftp://h/%2Fa/b", Start::Root, "/a/b"),
            ("ftps://h//a", Start::Root, "/a"),
            ("ftp://h/%2f", Start::Root, "/"),
            ("sftp://h/a%20b", Start::Root, "/a b"),
            ("sftp://h", Start::Root, "/"),
            ("sftp://h/~/a", Start::Login, "a"),
            ("sftp://h/~", Start::Login, ""),
            ("sftp://h/~x", Start::Root, "/~x"),
            ("sftp://h/%7E/x", Start::Root, "/~/x"),
            ("sftp://h/%7E", Start::Root, "/~"),
            ("sftp://h/~/~/x", Start::Login, "~/x"),
            ("ftp://h/~", Start::Login, ""),
            ("ftp://h/~/a", Start::Login, "a"),
            ("ftp://h/~x/a", Start::Login, "~x/a"),
            ("ftp://h/%7E/a", Start::Login, "~/a"),
            ("ftp://h/~a~", Start::Login, "~a~"),
            ("s3://bucket", Start::Root, ""),
            ("s3://bucket/a%20b/../c//", Start::Root, "a%20b/../c"),
        ] {
            let it = address(text);
            assert_eq!((it.start(), it.path()), (start, path.as_bytes()), "{text}");
            let again = address(&it.to_string());
            assert_eq!((again.start(), again.path()), (start, path.as_bytes()), "{text} as {it}");
        }
    }

    #[test]
    fn ports_are_those_of_the_protocol_unless_said() {
        assert_eq!(address("ftp://h").port(), Some(21));
        assert_eq!(address("ftps://h:990").port(), Some(990));
        assert_eq!(address("sftp://[::1]:2222/x").port(), Some(2222));
        assert_eq!(address("sftp://[::1]:2222/x").host(), "::1");
        assert_eq!(address("sftp://[::1]:2222/x").to_string(), "sftp://[::1]:2222/x");
        assert_eq!(address("s3://b/x").port(), None);
    }

    #[test]
    fn what_is_no_address_is_left_alone() {
        for text in ["a/b", "./ftp://x", "gopher://x", "FTP://x", "file:///a", "://x", ""] {
            assert!(Address::parse(text.as_bytes()).expect(text).is_none(), "{text}");
        }
    }

    #[test]
    fn bad_addresses_are_refused_and_show_no_password() {
        for text in [
            "ftp://",
            "ftp:///a",
            "ftp://me:hunter2@",
            "ftp://:hunter2@h",
            "ftp://me:hunter2%@h",
            "ftp://me:hunter2%0a@h",
            "ftp://me%0d:hunter2@h",
            "ftp://me:hunter2@h:0",
            "ftp://me:hunter2@h:65536",
            "ftp://me:hunter2@h:+21",
            "ftp://me:hunter2@h:x",
            "ftp://me:hunter2/x@h",
            "sftp://me:hunter2/@h/y",
            "s3://KEY:hunter2/x@bucket",
            "ftp://me:hunter2@[::1",
            "ftp://me:hunter2@[::1]x",
            "ftp://me:hunter2@[",
            "ftp://me:hunter2@[h",
            "ftp://me:hunter2@h h",
            "ftp://me:hunter2@h/%zz",
            "ftp://me:hunter2@h/a/../b",
            "ftp://me:hunter2@h/a%0D%0ADELE%20b",
            "ftp://me:hunter2@h/%00",
            "sftp://",
            "s3://",
            "s3://bucket:9000/x",
        ] {
            let error = Address::parse(text.as_bytes()).expect_err(text);
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{text}");
            assert!(!error.full_message().contains("hunter2"), "{text}");
        }
        assert!(Address::parse(b"ftp://\xff@h").is_err());
        assert!(Address::parse(b"s3://bucket/\xff").is_err());
    }

    proptest! {
        #[test]
        fn what_is_shown_can_be_read_again(
            scheme in 0..4_usize,
            user in proptest::option::of("[a-z@:/ %]{1,8}"),
            parts in proptest::collection::vec(proptest::collection::vec(1..=255_u8, 1..6), 0..4),
        ) {
            let scheme = Scheme::ALL[scheme];
            let path = parts.iter().map(|part| encoded(part, b"")).collect::<Vec<_>>().join("/");
            let user = user.map(|user| encoded(user.as_bytes(), b"") + "@").unwrap_or_default();
            let text = format!("{}://{user}host/{path}", scheme.as_str());
            if let Ok(Some(first)) = Address::parse(text.as_bytes()) {
                let again = address(&first.to_string());
                prop_assert_eq!(again.path(), first.path());
                prop_assert_eq!(again.start(), first.start());
                prop_assert_eq!(again.to_string(), first.to_string());
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(text in proptest::collection::vec(any::<u8>(), 0..40)) {
            let text = [b"ftp://", &text[..]].concat();
            let _ = Address::parse(&text);
        }
    }
}
