//! TLS: who must use it, what an attacker in between cannot do, and whose data connection it is.

use crate::serve::Served;
use crate::serve::client::Client;
use crate::serve::client::Wire;
use icecore::net::tls::server;
use icecore::serve::Demand;
use icecore::serve::Options;
use icecore::serve::Tls;
use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::SupportedProtocolVersion;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::io::Read;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

fn pem(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/serve").join(name)
}

fn options(demand: Demand) -> Options {
    let side = server::side(&pem("cert.pem"), &pem("key.pem")).unwrap();
    Options { tls: Some(Tls { side, demand }), ..Options::default() }
}

/// A client with a memory of its own for sessions to resume.
fn config(versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(pem("cert.pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_protocol_versions(versions).unwrap();
    Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
}

fn secured(served: &Served, config: &Arc<ClientConfig>) -> Client {
    let mut client = served.connect();
    client.secure(config);
    client.login("ann", "s3cret pw");
    client.asks(200, "PBSZ 0");
    client.asks(200, "PROT P");
    client.data_tls = Some(Arc::clone(config));
    client
}

#[test]
fn files_go_up_and_down_within_tls() {
    for versions in [&[&rustls::version::TLS12], &[&rustls::version::TLS13]] {
        let served = Served::with(options(Demand::Everybody));
        let config = config(versions);
        let mut client = secured(&served, &config);
        let content: Vec<u8> = (0..2_000_000_u32).map(|i| (i / 7) as u8).collect();

        client.put("STOR a", &content);
        assert!(client.get("RETR a") == content);
        client.put("STOR empty", b"");
        assert_eq!(client.get("RETR empty"), b"");
        assert!(client.get_text("MLSD").contains("; a\r\n"));
        assert!(served.read("a") == content);
        client.asks(221, "QUIT");
        client.is_left_alone();
    }
}

#[test]
fn where_tls_is_a_must_nothing_goes_without() {
    let served = Served::with(options(Demand::Everybody));
    served.write("a", b"a");
    let mut client = served.connect();
    assert!(client.asks(211, "FEAT").contains(" AUTH TLS\r\n"));
    client.asks(530, "USER ann");
    client.asks(503, "PASS s3cret pw");
    client.asks(503, "PBSZ 0");
    client.asks(504, "AUTH KERBEROS");
    let config = config(rustls::ALL_VERSIONS);
    client.secure(&config);
    client.asks(503, "AUTH TLS");
    client.login("ann", "s3cret pw");
    client.passive();
    client.asks(521, "RETR a");
    client.asks(503, "PROT P");
    client.asks(200, "PBSZ 0");
    client.asks(534, "PROT C");
    client.asks(536, "PROT S");
    client.asks(200, "PROT P");
    client.asks(533, "CCC");
    client.data_tls = Some(config);
    assert_eq!(client.get("RETR a"), b"a");
}

#[test]
fn where_tls_is_offered_both_ways_work() {
    let served = Served::with(options(Demand::Nobody));
    served.write("a", b"a");
    assert_eq!(served.login().get("RETR a"), b"a");
    let config = config(rustls::ALL_VERSIONS);
    let mut client = secured(&served, &config);
    assert_eq!(client.get("RETR a"), b"a");
    client.asks(200, "PROT C");
    client.data_tls = None;
    assert_eq!(client.get("RETR a"), b"a");
}

/// Somebody in between adds commands behind AUTH, to be taken for what the client says within TLS.
#[test]
fn what_was_said_in_the_clear_does_not_count_within() {
    let served = Served::with(options(Demand::Nobody));
    for injected in ["AUTH TLS\r\nUSER ann\r\n", "AUTH TLS\r\nUS"] {
        let mut client = served.connect();
        client.send(injected);
        client.hears(421);
        client.is_left_alone();
    }
    // A login in the clear is none within TLS.
    let mut client = served.login();
    client.secure(&config(rustls::ALL_VERSIONS));
    client.asks(530, "PWD");
}

/// Nor does what it asked for then: what a listing says to be all would lack sizes and times.
#[test]
fn what_was_chosen_in_the_clear_is_forgotten_within() {
    let served = Served::with(options(Demand::Nobody));
    served.write("a", b"content");
    std::fs::create_dir(served.path("d")).unwrap();
    let config = config(rustls::ALL_VERSIONS);
    let mut client = served.login();
    client.asks(200, "OPTS MLST type;");
    client.asks(250, "CWD d");
    client.asks(350, "REST 3");
    client.asks(200, "EPSV ALL");

    client.secure(&config);
    client.login("ann", "s3cret pw");

    assert!(client.asks(250, "MLST a").contains("size=7;"));
    assert!(client.asks(257, "PWD").contains("\"/\""));
    assert_eq!(client.get("RETR a"), b"content");
    client.asks(227, "PASV");
    let mut client = served.login();
    client.passive();
    client.secure(&config);
    client.login("ann", "s3cret pw");
    client.asks(425, "RETR a");
}

#[test]
fn a_handshake_that_is_none_ends_the_session() {
    let served = Served::with(options(Demand::Nobody));
    let mut client = served.connect();
    client.asks(234, "AUTH TLS");
    client.send("USER ann\r\nPASS s3cret pw\r\n");
    let mut rest = Vec::new();
    let _ = client.wire().read_to_end(&mut rest);
    assert!(!rest.starts_with(b"331"), "{rest:?}");
    served.login().asks(200, "NOOP");
}

#[test]
fn an_upload_without_the_last_word_is_cut() {
    let served = Served::with(options(Demand::Everybody));
    served.write("old", b"as it was");
    let mut client = secured(&served, &config(rustls::ALL_VERSIONS));
    for name in ["old", "new"] {
        let mut data = client.begin(format!("STOR {name}"));
        data.write_all(&[1; 1_000_000]).unwrap();
        data.flush().unwrap();
        // Somebody in between ends the connection, which anybody can.
        drop(data);
        client.hears(426);
    }
    assert_eq!(served.read("old"), b"as it was");
    assert_eq!(served.names(), ["old"]);
}

#[test]
fn a_data_connection_proves_whose_it_is() {
    for versions in [&[&rustls::version::TLS12], &[&rustls::version::TLS13]] {
        let served = Served::with(options(Demand::Resumed));
        served.write("a", b"a");
        let own = config(versions);
        let mut client = secured(&served, &own);
        for _ in 0..20 {
            assert_eq!(client.get("RETR a"), b"a");
        }
        // A client that sends much and hears nothing on its data connections.
        for _ in 0..4 {
            client.put("STOR b", b"b");
        }

        // A session of its own is not enough, and one of another client's neither. What such a
        // connection was given to resume is no good for the next one.
        let foreign = config(versions);
        secured(&served, &foreign).asks(200, "NOOP");
        for (stranger, command) in
            [(config(versions), "RETR a"), (foreign, "RETR a"), (config(versions), "STOR b")]
        {
            let mut client = secured(&served, &config(versions));
            client.data_tls = Some(stranger);
            let mut data = client.begin(command);
            let mut bytes = Vec::new();
            let _ = data.write_all(b"forged");
            let _ = data.read_to_end(&mut bytes);
            assert_eq!(bytes, b"");
            client.hears(522);
            client.passive();
            client.asks(522, command);
        }
        assert_eq!(served.read("b"), b"b");
    }
}

#[test]
fn a_data_connection_in_the_clear_where_tls_was_said_is_none() {
    let served = Served::with(options(Demand::Nobody));
    served.write("old", b"as it was");
    let mut client = secured(&served, &config(rustls::ALL_VERSIONS));
    let mut data = Wire::connect(client.passive());
    client.asks(150, "STOR old");
    let _ = data.write_all(b"in the clear");
    drop(data);
    client.hears(425);
    assert_eq!(served.read("old"), b"as it was");
}

#[test]
fn certificates_that_are_none_are_refused() {
    let error = |certificate: &str, key: &str| {
        server::side(&pem(certificate), &pem(key)).unwrap_err().full_message()
    };
    assert!(error("nothing.pem", "key.pem").contains("nothing.pem"));
    assert!(error("cert.pem", "nothing.pem").contains("nothing.pem"));
    assert!(error("cert.pem", "cert.pem").contains("cannot read the key"));
    assert!(error("key.pem", "key.pem").contains("cannot be used"));
}
