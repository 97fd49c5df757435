//! Clients that mean no good, or that are out of their mind.

use crate::serve::Served;
use crate::serve::client::Client;
use crate::serve::client::Wire;
use crate::serve::short;
use icecore::serve::Limits;
use icecore::serve::Options;
use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;
use std::time::Instant;

fn file(served: &Served, name: &[u8], content: &[u8]) {
    fs::write(served.path("").join(OsStr::from_bytes(name)), content).unwrap();
}

#[test]
fn nothing_is_done_before_the_login() {
    let served = Served::new();
    served.write("a", b"a");
    let mut client = served.connect();
    for command in [
        "PWD",
        "CWD /",
        "EPSV",
        "PASV",
        "LIST",
        "MLSD",
        "NLST",
        "MLST a",
        "RETR a",
        "STOR b",
        "APPE a",
        "DELE a",
        "MKD d",
        "RMD d",
        "RNFR a",
        "RNTO b",
        "SIZE a",
        "MDTM a",
        "MFMT 20000101000000 a",
        "SITE CHMOD 777 a",
        "REST 1",
        "TYPE I",
        "STAT",
        "ABOR",
        "NONSENSE",
    ] {
        client.asks(530, command);
    }
    client.asks(503, "PASS s3cret pw");
    client.asks(331, "USER ann");
    client.asks(530, "RETR a");
    client.login("ann", "s3cret pw");
    // Who says to be somebody else is nobody until it is proven.
    client.asks(331, "USER bob");
    client.asks(530, "RETR a");
    assert_eq!(served.names(), ["a"]);
}

#[test]
fn wrong_passwords_are_slow_and_few() {
    let mut options = short();
    options.limits.delay = Duration::from_millis(100);
    let served = Served::with(options);
    let begin = Instant::now();
    let mut client = served.connect();
    for (user, password) in [("ann", "s3cret"), ("bob", "s3cret pw")] {
        client.asks(331, format!("USER {user}"));
        let said = client.asks(530, format!("PASS {password}"));
        assert_eq!(said, "530 Wrong user or password\r\n");
    }
    client.asks(331, "USER ann");
    client.asks(421, "PASS ");
    client.is_left_alone();
    assert!(begin.elapsed() >= Duration::from_millis(600));
    let log = served.log.lock().unwrap().join("\n");
    assert!(log.contains("PASS .. -> 530") && !log.contains("s3cret"), "{log}");
    for line in
        ["PASS\ts3cret", " PASS s3cret", "PASSs3cret", "s3cret pw", "pass s3cret", "blue s3cret 7"]
    {
        served.connect().ask(line);
    }
    let log = served.log.lock().unwrap().join("\n");
    assert!(log.contains(": .. -> 530") && !log.to_lowercase().contains("s3cret"), "{log}");
}

#[test]
fn who_does_not_log_in_is_left_alone() {
    let mut options = short();
    options.limits.login = Duration::from_secs(1);
    let served = Served::with(options);
    let mut client = served.connect();
    let begin = Instant::now();
    // Talk is no login.
    while begin.elapsed() < Duration::from_secs(5) {
        client.send("NOOP\r\n");
        match client.hear() {
            Some(said) if said.code == 200 => std::thread::sleep(Duration::from_millis(100)),
            Some(said) => {
                assert_eq!(said.code, 421);
                client.is_left_alone();
                return;
            }
            None => return,
        }
    }
    panic!("it may talk for ever");
}

/// Who was in has the time of a login once more, and not what is left of the first.
#[test]
fn who_logs_in_again_may() {
    let mut options = short();
    options.limits.login = Duration::from_secs(1);
    let served = Served::with(options);
    let mut client = served.login();

    std::thread::sleep(Duration::from_millis(1200));

    client.login("ann", "s3cret pw");
    client.asks(200, "NOOP");
}

#[test]
fn who_asks_for_nothing_is_left_alone() {
    let served = Served::with(short());
    let mut client = served.login();
    let mut dripping = served.login();
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(1500) {
        dripping.send("x");
        std::thread::sleep(Duration::from_millis(100));
    }
    client.hears(421);
    client.is_left_alone();
    dripping.hears(421);
    dripping.is_left_alone();
}

#[test]
fn lines_have_an_end() {
    let served = Served::new();
    let mut client = served.login();
    client.asks(500, "x".repeat(20_000));
    client.asks(200, "NOOP");
    let long = format!("CWD {}", "a/".repeat(8_000));
    client.asks(550, long);
    client.asks(553, format!("MKD {}", "n".repeat(256)));
    client.asks(553, b"MKD a\rb");
    client.asks(553, b"MKD a\0b");

    let mut wire = client.into_wire();
    let noise = vec![b'x'; 65_536];
    let refused = (0..200).any(|_| wire.write_all(&noise).is_err());
    assert!(refused, "it listens for ever");
    served.login().asks(200, "NOOP");
}

#[test]
fn a_queue_of_commands_has_an_end() {
    let served = Served::with(short());
    fs::File::create(served.path("big")).unwrap().set_len(1 << 30).unwrap();
    let mut client = served.login();
    let data = client.begin("RETR big");
    // Said while nobody reads the file: some of it waits with the server, the rest in sockets.
    let noops = b"NOOP\r\n".repeat(20_000);
    client.send(&noops);
    client.hears(426);
    for _ in 0..20_000 {
        client.hears(200);
    }
    drop(data);
}

#[test]
fn nobody_is_connected_to() {
    let served = Served::new();
    let mut client = served.login();
    let victim = TcpListener::bind("127.0.0.1:0").unwrap();
    victim.set_nonblocking(true).unwrap();
    let port = victim.local_addr().unwrap().port();
    served.write("a", b"a");
    client.asks(500, format!("PORT 127,0,0,1,{},{}", port >> 8, port & 255));
    client.asks(500, format!("EPRT |1|127.0.0.1|{port}|"));
    client.asks(425, "RETR a");
    assert_eq!(victim.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

/// 127.0.0.2 is this machine, too, but not where the client is.
#[test]
fn data_goes_to_nobody_else() {
    let served = Served::new();
    served.write("a", b"secret");
    let mut client = served.login();
    let address = client.passive();
    let stolen = connected_from("127.0.0.2:0", address);
    client.send("RETR a\r\n");
    let mut bytes = Vec::new();
    let mut stolen = stolen;
    assert!(matches!(stolen.read_to_end(&mut bytes), Ok(0) | Err(_)), "{bytes:?}");

    let mut data = Wire::connect(address);
    client.hears(150);
    data.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, b"secret");
    client.hears(226);
}

#[expect(unsafe_code, reason = "std cannot choose where a connection comes from")]
fn connected_from(from: &str, to: std::net::SocketAddr) -> std::net::TcpStream {
    use std::os::fd::FromRawFd;
    let address = |text: std::net::SocketAddr| {
        let std::net::SocketAddr::V4(v4) = text else { panic!("{text}") };
        libc::sockaddr_in {
            sin_family: libc::AF_INET as libc::sa_family_t,
            sin_port: v4.port().to_be(),
            sin_addr: libc::in_addr { s_addr: u32::from(*v4.ip()).to_be() },
            sin_zero: [0; 8],
        }
    };
    let (from, to) = (address(from.parse().unwrap()), address(to));
    let length = size_of::<libc::sockaddr_in>() as libc::socklen_t;
    // SAFETY: both addresses are values of the type and length that are said, and the socket is
    // new and nobody else's.
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0);
        assert!(socket >= 0);
        assert_eq!(libc::bind(socket, (&raw const from).cast(), length), 0);
        assert_eq!(libc::connect(socket, (&raw const to).cast(), length), 0);
        std::net::TcpStream::from_raw_fd(socket)
    }
}

#[test]
fn sessions_are_counted() {
    let limits = Limits { sessions_of_one: 5, ..Limits::default() };
    let served = Served::with(Options { limits, ..Options::default() });
    let mut inside: Vec<Client> = (0..5).map(|_| served.connect()).collect();
    for _ in 0..50 {
        let mut client = Client::connect(served.address);
        client.hears(421);
        client.is_left_alone();
    }
    inside.pop().unwrap().asks(221, "QUIT");
    let begin = Instant::now();
    loop {
        let mut client = Client::connect(served.address);
        if client.hear().unwrap().code == 220 {
            client.login("ann", "s3cret pw");
            break;
        }
        assert!(begin.elapsed() < Duration::from_secs(10), "nobody makes room");
    }
    for client in &mut inside {
        client.asks(200, "NOOP");
    }
}

#[test]
fn many_clients_at_once_each_get_their_own() {
    let limits = Limits { sessions_of_one: 100, ..Limits::default() };
    let served = Served::with(Options { limits, ..Options::default() });
    std::thread::scope(|scope| {
        for number in 0..40_u8 {
            let served = &served;
            scope.spawn(move || {
                let mut client = served.login();
                for round in 0..5 {
                    let content = vec![number ^ round; 10_000];
                    client.put(format!("STOR {number}"), &content);
                    assert_eq!(client.get(format!("RETR {number}")), content);
                    client.get("MLSD");
                }
            });
        }
    });
    assert_eq!(served.names().len(), 40);
}

#[test]
fn names_are_bytes() {
    let served = Served::new();
    let mut client = served.login();
    // 0xFF is a byte as others are, and not what Telnet has it for.
    client.put(b"STOR a\xffb", b"1");
    client.put(b"STOR a\xff\xffb", b"7");
    client.put(b"STOR a\xff\xfbb", b"8");
    client.put(b"STOR \xffz", b"2");
    client.put(b"STOR \xc3(\xfe\xf0", b"3");
    client.put("STOR  x ", b"4");
    client.put("STOR -la", b"5");
    client.put("STOR a\\b\t*?[", b"6");

    for (name, content) in [
        (&b"a\xffb"[..], b"1"),
        (b"a\xff\xffb", b"7"),
        (b"a\xff\xfbb", b"8"),
        (b"\xffz", b"2"),
        (b"\xc3(\xfe\xf0", b"3"),
        (b" x ", b"4"),
        (b"-la", b"5"),
        (b"a\\b\t*?[", b"6"),
    ] {
        let path = served.path("").join(OsStr::from_bytes(name));
        assert_eq!(fs::read(path).unwrap(), content, "{name:?}");
        let rows = client.get("NLST");
        assert!(
            rows.split(|&byte| byte == b'\n')
                .any(|row| { row.strip_suffix(b"\r").is_some_and(|row| row == name) })
        );
    }
    client.asks(257, b"MKD d\xff\xff");
    client.asks(250, b"CWD d\xff\xff");
    assert!(client.ask("PWD").bytes.starts_with(b"257 \"/d\xff\xff\" "));
    let said = client.ask(b"MLST /a\xff\xffb");
    assert!(said.bytes.windows(6).any(|bytes| bytes == b" /a\xff\xffb"), "{said:?}");
    // By this a client sees how it is heard.
    let said = client.ask(b"SIZE /no\xff\xff");
    assert_eq!(said.bytes, b"550 /no\xff\xff: No such file or directory\r\n");
}

#[test]
fn a_name_with_the_end_of_a_line_forges_nothing() {
    let served = Served::new();
    file(&served, b"a\ntype=file;size=9; forged", b"1");
    file(&served, b"b\rc", b"2");
    file(&served, b"b?c", b"3");
    let mut client = served.login();
    let names = client.get_text("NLST");
    let names: Vec<&str> = names.lines().collect();
    assert_eq!(names.len(), 3, "{names:?}");
    for begin in ["a?type=file;size=9; forged?", "b?c?"] {
        let changed: Vec<&&str> = names.iter().filter(|name| name.starts_with(begin)).collect();
        assert_eq!(changed.len(), 1, "{begin}: {names:?}");
        client.asks(550, format!("RETR {}", changed[0]));
    }
    for command in ["MLSD", "NLST", "LIST"] {
        let rows = client.get_text(command);
        assert_eq!(rows.matches('\n').count(), 3, "{rows}");
        assert_eq!(rows.matches('\r').count(), 3, "{rows}");
        for name in &names {
            assert!(rows.contains(&format!("{name}\r\n")), "{command} {name}: {rows}");
        }
    }
    assert_eq!(client.get("RETR b?c"), b"3");
    // Said as a command, the end of a line is one.
    client.send("DELE b\nNOOP\r\n");
    client.hears(550);
    client.hears(200);
    assert_eq!(served.names().len(), 3);
}

/// Whatever is said, in any order, at any place: the server answers or hangs up, and goes on for
/// others.
#[test]
fn noise_does_no_harm() {
    let mut options = short();
    options.limits.sessions_of_one = 100;
    let served = Served::with(options);
    let words = [
        "USER ann",
        "PASS s3cret pw",
        "EPSV",
        "PASV",
        "RETR a",
        "STOR a",
        "ABOR",
        "REST 9",
        "MLSD",
        "LIST -",
        "RNFR a",
        "RNTO b",
        "\u{ff}",
        "\0",
        "\r",
        "QUIT ",
        "AUTH TLS",
        "OPTS MLST ;;",
        "SITE",
        "MFMT  ",
        "EPSV 9",
        "NLST //",
        "CWD ..",
    ];
    let mut state = 7_u64;
    let mut random = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    for _ in 0..60 {
        let mut bytes = Vec::new();
        for _ in 0..40 {
            match random() % 4 {
                0 => bytes.extend((0..random() % 20).map(|_| (random() & 255) as u8)),
                _ => bytes.extend(words[random() % words.len()].bytes()),
            }
            bytes.extend(if random() % 8 == 0 { &b"\n"[..] } else { b"\r\n" });
        }
        let mut wire = Wire::connect(served.address);
        let _ = wire.write_all(&bytes);
        wire.reset();
    }
    served.login().asks(200, "NOOP");
}
