//! Ways out of the served folder, none of which is one.

use crate::serve::Served;
use icecore::base::cancel::Cancel;
use std::fs;
use std::io::Read;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::symlink;

/// A served folder beside one that is nobody's business.
fn beside() -> Served {
    let served = Served::new();
    fs::create_dir(served.path("../outside")).unwrap();
    fs::write(served.path("../outside/secret"), b"secret").unwrap();
    fs::write(served.path("../secret"), b"secret").unwrap();
    served
}

fn outside_is_untouched(served: &Served) {
    let names = |below: &str| {
        let rows = fs::read_dir(served.path(below)).unwrap();
        let mut names: Vec<_> = rows.map(|row| row.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(".."), ["outside", "secret", "served"]);
    assert_eq!(names("../outside"), ["secret"]);
    for file in ["../secret", "../outside/secret"] {
        assert_eq!(fs::read(served.path(file)).unwrap(), b"secret");
        let mode = fs::metadata(served.path(file)).unwrap().mode();
        assert_ne!(mode & 0o777, 0o777, "{file}");
    }
}

/// Says everything that names a file, and expects that nothing comes of it; but for a file or a
/// folder inside, where a path may well lead.
fn tried(served: &Served, path: &str, may_be_inside: bool) {
    let mut client = served.login();
    served.write("own", b"own");
    let before = served.path("../secret").metadata().unwrap().modified().unwrap();
    for command in [
        format!("CWD {path}"),
        format!("SIZE {path}"),
        format!("MDTM {path}/secret"),
        format!("RETR {path}"),
        format!("MLSD {path}"),
        format!("NLST {path}/x"),
        format!("DELE {path}/secret"),
        format!("MKD {path}/new"),
        format!("RMD {path}"),
        format!("RNFR {path}/secret"),
        format!("MFMT 20000101000000 {path}/secret"),
        format!("SITE CHMOD 777 {path}"),
        format!("MLST {path}/secret"),
        format!("STOR {path}"),
        format!("STOR {path}/new"),
        format!("APPE {path}"),
    ] {
        // A data connection is there for whatever would want one.
        let data = crate::serve::client::Wire::connect(client.passive());
        let said = client.ask(&command);
        if said.code == 150 && may_be_inside {
            data.end();
            client.hears(226);
            client.asks(250, format!("DELE {path}"));
            continue;
        }
        assert!((500..600).contains(&said.code), "{command}: {said:?}");
    }
    client.asks(350, "RNFR own");
    let said = client.ask(format!("RNTO {path}/own"));
    assert!((500..600).contains(&said.code), "{said:?}");
    assert_eq!(served.path("../secret").metadata().unwrap().modified().unwrap(), before);
    outside_is_untouched(served);
}

#[test]
fn by_paths() {
    let served = beside();
    let absolute = served.path("../secret");
    for path in [
        "../secret",
        "/../secret",
        "../../../../../../etc/passwd",
        "/etc/passwd",
        "//etc/passwd",
        "a/../../secret",
        "..//../secret",
        "./.././secret",
        "/../outside/secret",
        "~/secret",
        "~root",
        absolute.to_str().unwrap(),
    ] {
        tried(&served, path, true);
    }
}

#[test]
fn by_symbolic_links() {
    let served = beside();
    let outside = fs::canonicalize(served.path("../outside")).unwrap();
    fs::create_dir(served.path("d")).unwrap();
    symlink(&outside, served.path("absolute")).unwrap();
    symlink("../outside", served.path("relative")).unwrap();
    symlink("../../outside", served.path("d/deeper")).unwrap();
    symlink("../secret", served.path("file")).unwrap();
    symlink("..", served.path("parent")).unwrap();
    symlink("/proc/self/root", served.path("magic")).unwrap();
    symlink(".", served.path("self")).unwrap();
    for path in ["absolute", "relative", "d/deeper", "file", "parent", "magic", "self", "self/file"]
    {
        tried(&served, path, false);
    }
    // The links themselves are the client's to remove and rename.
    let mut client = served.login();
    client.asks(350, "RNFR file");
    client.asks(250, "RNTO other");
    client.asks(250, "DELE other");
    client.asks(250, "DELE absolute");
    outside_is_untouched(&served);
}

/// A thread swaps a folder and a file for links to what is outside and back, all the time.
#[test]
fn by_a_swap_at_the_right_moment() {
    let served = beside();
    fs::create_dir(served.path("d")).unwrap();
    served.write("d/secret", b"inside");
    served.write("f", b"inside");
    let outside = fs::canonicalize(served.path("../outside")).unwrap();
    let stop = Cancel::new();
    let (mut got, mut stored) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let root = served.path("");
            symlink(&outside, root.join("d-link")).unwrap();
            symlink(outside.join("secret"), root.join("f-link")).unwrap();
            while !stop.is_cancelled() {
                for name in ["d", "f"] {
                    let (own, link) = (root.join(name), root.join(format!("{name}-link")));
                    let aside = root.join(format!("{name}-aside"));
                    fs::rename(&own, &aside).unwrap();
                    fs::rename(&link, &own).unwrap();
                    std::thread::yield_now();
                    fs::rename(&own, &link).unwrap();
                    fs::rename(&aside, &own).unwrap();
                }
            }
        });
        let _end = CancelAtEnd(&stop);
        let mut client = served.login();
        for _ in 0..400 {
            for path in ["d/secret", "f"] {
                let mut data = crate::serve::client::Wire::connect(client.passive());
                if client.ask(format!("RETR {path}")).code == 150 {
                    let mut bytes = Vec::new();
                    data.read_to_end(&mut bytes).unwrap();
                    client.hears(226);
                    assert_eq!(bytes, b"inside");
                    got += 1;
                }
            }
            let mut data = crate::serve::client::Wire::connect(client.passive());
            if client.ask("STOR d/secret").code == 150 {
                data.write_all(b"inside").unwrap();
                data.end();
                stored += i32::from(client.hear().unwrap().code == 226);
            }
            for command in ["SITE CHMOD 600 f", "MFMT 20000101000000 d/secret", "MKD d/new"] {
                client.ask(command);
            }
            client.ask("RMD d/new");
            client.ask("DELE d/nothing");
        }
    });
    assert!(got > 0 && stored > 0, "{got} {stored}");
    outside_is_untouched(&served);
}

/// Ends the other thread, also when this one fails.
struct CancelAtEnd<'a>(&'a Cancel);

impl Drop for CancelAtEnd<'_> {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

#[test]
fn by_what_is_no_file() {
    let served = beside();
    let made = std::process::Command::new("mkfifo").arg(served.path("fifo")).status().unwrap();
    assert!(made.success());
    let _socket = std::os::unix::net::UnixListener::bind(served.path("socket")).unwrap();
    for path in ["fifo", "socket"] {
        let mut client = served.login();
        for command in ["RETR", "STOR", "APPE", "SIZE"] {
            client.asks(550, format!("{command} {path}"));
        }
        assert!(client.asks(250, format!("MLST {path}")).contains("type=OS.unix="));
        client.asks(250, format!("DELE {path}"));
    }
}

#[test]
fn a_link_is_called_one() {
    let served = Served::new();
    served.write("file", b"1");
    symlink("file", served.path("link")).unwrap();
    let mut client = served.login();
    for command in ["RETR link", "STOR link", "APPE link", "SITE CHMOD 600 link"] {
        let said = client.asks(550, command);
        assert_eq!(said, "550 Is a symbolic link, which is not followed\r\n", "{command}");
    }
}
