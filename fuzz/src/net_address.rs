//! Addresses of places on other machines as a person types them.

use icecore::base::error::ErrorKind;
use icecore::net::address::Address;
use icecore::net::address::Scheme;
use icecore::net::address::Start;
use std::net::Ipv6Addr;

use super::places::reach;

/// What the seeds come to.
pub const PLACES: &[&str] = &[
    "refused",
    "a local path",
    "Ftp",
    "Ftps",
    "Sftp",
    "S3",
    "a password",
    "a port",
    "from the root",
    "from where a login lands",
];

fn is_sound(address: &Address) {
    let host = address.host();
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    assert!(!host.is_empty());
    assert!(host.bytes().all(is_name) || host.parse::<Ipv6Addr>().is_ok(), "{host:?}");
    assert_ne!(address.port(), Some(0));
    assert!(!address.last_part().is_empty());
    assert_ne!(address.user(), Some(""));
    if address.scheme() == Scheme::S3 {
        assert!(std::str::from_utf8(address.path()).is_ok());
        return;
    }
    let path = address.path();
    assert!(!path.iter().any(|byte| matches!(byte, b'\0' | b'\r' | b'\n')));
    assert!(path.split(|&byte| byte == b'/').all(|part| part != b".." && part != b"."));
    assert_eq!(path.starts_with(b"/"), address.start() == Start::Root);
}

/// One execution.
pub fn run(data: &[u8]) {
    let address = match Address::parse(data) {
        Ok(Some(address)) => address,
        Ok(None) => return reach("a local path"),
        Err(e) => {
            assert_eq!(e.kind(), ErrorKind::InvalidInput, "{}", e.full_message());
            return reach("refused");
        }
    };
    is_sound(&address);
    reach(match address.scheme() {
        Scheme::Ftp => "Ftp",
        Scheme::Ftps => "Ftps",
        Scheme::Sftp => "Sftp",
        Scheme::S3 => "S3",
    });
    reach(match address.start() {
        Start::Root => "from the root",
        Start::Login => "from where a login lands",
    });
    if address.password().is_some() {
        reach("a password");
    }
    if address.port().is_some() {
        reach("a port");
    }

    let shown = address.to_string();
    let again = Address::parse(shown.as_bytes()).expect("what is shown is read").expect("as one");
    assert!(again.password().is_none(), "{shown}");
    assert_eq!(again.to_string(), shown);
    assert_eq!(again.scheme(), address.scheme());
    assert_eq!((again.host(), again.port()), (address.host(), address.port()));
    assert_eq!((again.start(), again.path()), (address.start(), address.path()), "{shown}");
    if address.scheme() != Scheme::S3 {
        assert_eq!(again.user(), address.user());
    }

    let server = Address::parse(address.server().as_bytes()).expect("a server").expect("is one");
    assert_eq!((server.host(), server.port()), (address.host(), address.port()));
    assert!(server.user().is_none() && server.password().is_none());
}
