//! Files of known hosts, read and searched as by every connection, with a server that says hello
//! and no more.
//!
//! What is done with a key that a host shows needs a host that shows one, and is left to the tests
//! of the module.

use icecore::base::error::ErrorKind;
use icecore::net::files::Connect;
use icecore::net::ssh::Hosts;
use icecore::net::ssh::Login;
use icecore::net::ssh::Server;
use icecore::net::ssh::Unknown;
use icecore::net::tcp::Limits;
use std::io::Write;
use std::net::TcpListener;
use std::sync::OnceLock;
use std::time::Duration;

use super::places::reach;

/// What the seeds come to.
pub const PLACES: &[&str] = &["hung up", "no text"];

/// Returns the port of a server that hangs up after its greeting.
fn port() -> u16 {
    static PORT: OnceLock<u16> = OnceLock::new();
    *PORT.get_or_init(|| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                let _ = stream.write_all(b"SSH-2.0-fuzz\r\n");
            }
        });
        port
    })
}

/// One execution.
pub fn run(data: &[u8]) {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), data).expect("written");
    let hosts = Hosts { files: vec![file.path().to_path_buf()], unknown: Unknown::Refuse };
    let limits = Limits { connect: Duration::from_secs(5), silence: Duration::from_secs(5) };
    let server = Server::new("127.0.0.1", port(), Login::default(), hosts).limits(limits);
    let error = server.connect().err().expect("nobody is logged in by a greeting");
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{}", error.full_message());
    reach(if std::str::from_utf8(data).is_ok() { "hung up" } else { "no text" });
    assert!(std::fs::read(file.path()).expect("reads") == data, "the file is as it was");
}
