//! Uploads that break off at every kind of place: what was there before stays, and nothing else is
//! left behind.

use crate::serve::Served;
use crate::serve::client::Client;
use crate::serve::client::Wire;
use crate::serve::short;
use crate::support::folder::Folder;
use crate::support::folder::is_root;
use crate::support::folder::skipped;
use icecore::serve::Options;
use std::io::Read;
use std::io::Write;
use std::process::Command;
use std::time::Duration;
use std::time::Instant;

/// More than sockets hold, so that some of it was written when it breaks off.
const MUCH: usize = 20_000_000;

/// Breaks off an upload in one way, for a file that is there and for one that is not.
fn broken_off(options: Options, break_off: impl Fn(&Served, Client, Wire)) {
    let served = Served::with(options);
    served.write("old", b"as it was");
    for name in ["old", "new"] {
        let mut client = served.login();
        let mut data = client.begin(format!("STOR {name}"));
        data.write_all(&vec![1; MUCH]).unwrap();
        break_off(&served, client, data);
        wait_for(|| served.names() == ["old"]);
        assert_eq!(served.read("old"), b"as it was");
    }
}

/// Waits for what happens soon.
fn wait_for(is_so: impl Fn() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < Duration::from_secs(10), "it never happened");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn by_a_connection_that_breaks() {
    broken_off(Options::default(), |_, mut client, data| {
        data.reset();
        client.hears(426);
        client.asks(200, "NOOP");
    });
}

#[test]
fn by_a_client_that_is_killed() {
    broken_off(Options::default(), |_, client, data| {
        drop(client);
        drop(data);
    });
    broken_off(Options::default(), |_, client, data| {
        client.into_wire().reset();
        drop(data);
    });
}

/// It had asked for more, in whole lines or half of one, before it was killed: nobody waits for the
/// answer all the same, and what came of the file is no file. Nor is it where so much was asked for
/// that nobody hears whether the client is there still.
#[test]
fn by_a_client_that_is_killed_with_commands_on_their_way() {
    let served = Served::new();
    let many = "NOOP\r\n".repeat(20_000);
    for (ahead, is_killed) in [("NOOP\r\n", true), ("NOO", true), (&many, true), (&many, false)] {
        served.write("old", b"as it was");
        let mut client = served.login();
        let mut data = client.begin("STOR old");
        data.write_all(&[1; 3000]).unwrap();
        client.send(ahead);
        if is_killed {
            drop(client);
            drop(data);
        } else {
            data.end();
            client.hears(426);
        }
        wait_for(|| served.log.lock().unwrap().iter().any(|line| line.contains("STOR old ->")));
        assert_eq!(served.read("old"), b"as it was", "{} bytes ahead", ahead.len());
        assert_eq!(served.names(), ["old"]);
        served.log.lock().unwrap().clear();
    }
}

/// The control connection goes while the data connection stays: nobody is there to hear.
#[test]
fn by_a_client_that_hangs_up_halfway() {
    broken_off(short(), |_, client, mut data| {
        drop(client);
        // The server closes it: either way of hearing that will do.
        let mut bytes = Vec::new();
        let _ = data.read_to_end(&mut bytes);
    });
}

#[test]
fn by_abor() {
    for abor in [&b"ABOR\r\n"[..], b"\xff\xf4\xff\xf2ABOR\r\n", b"\xf2ABOR\r\n"] {
        broken_off(Options::default(), |_, mut client, data| {
            client.send(abor);
            client.hears(426);
            client.hears(226);
            client.asks(200, "NOOP");
            drop(data);
        });
    }
}

/// The data connection ends right behind ABOR, as if the file ended there.
#[test]
fn by_abor_that_the_end_of_the_data_follows_at_once() {
    let served = Served::new();
    served.write("old", b"as it was");
    for command in ["STOR old", "STOR new", "APPE part"] {
        let mut client = served.login();
        let mut data = client.begin(command);
        data.write_all(&[1; 5000]).unwrap();
        client.send("ABOR\r\n");
        data.end();
        client.hears(426);
        client.hears(226);
        client.asks(200, "NOOP");
    }
    assert_eq!(served.read("old"), b"as it was");
    assert_eq!(served.names(), ["old", "part"]);
}

#[test]
fn by_silence() {
    broken_off(short(), |_, mut client, data| {
        assert!(client.hears(426).text().contains("too long"));
        drop(data);
    });
}

#[test]
fn by_a_server_that_stops() {
    let served = Served::new();
    served.write("old", b"as it was");
    let mut client = served.login();
    let mut data = client.begin("STOR old");
    data.write_all(&vec![1; MUCH]).unwrap();
    let mut idle = served.login();

    served.cancel.cancel();

    client.hears(426);
    client.hears(421);
    client.is_left_alone();
    idle.hears(421);
    idle.is_left_alone();
    assert_eq!(served.read("old"), b"as it was");
    assert_eq!(served.names(), ["old"]);
}

#[test]
fn before_it_began() {
    let served = Served::with(short());
    served.write("old", b"as it was");
    for name in ["old", "new"] {
        // Nobody connects for data.
        let mut client = served.login();
        client.passive();
        client.send(format!("STOR {name}\r\n"));
        drop(client);
        // Somebody does, and the client is gone.
        let mut client = served.login();
        let data = Wire::connect(client.passive());
        client.send(format!("STOR {name}\r\n"));
        drop(client);
        drop(data);
        wait_for(|| served.names() == ["old"]);
        assert_eq!(served.read("old"), b"as it was");
    }
}

/// No file is there of which nothing was sent, as no data connection came about.
#[test]
fn before_a_part_of_it_began() {
    let served = Served::new();
    let mut client = served.login();
    client.asks(425, "APPE new");
    assert_eq!(served.names(), [""; 0]);
    client.put("APPE new", b"");
    assert_eq!(served.names(), ["new"]);
}

/// A client that ends well but does not wait for the answer has asked for what comes after it.
#[test]
fn and_what_only_looks_like_it_is_stored() {
    let served = Served::new();
    let mut client = served.login();
    let mut data = Wire::connect(client.passive());
    client.send("STOR a\r\nQUIT\r\n");
    data.write_all(b"whole").unwrap();
    data.end();
    for code in [150, 226, 221] {
        client.hears(code);
    }
    assert_eq!(served.read("a"), b"whole");
}

#[test]
fn while_under_way_nobody_sees_it() {
    let served = Served::new();
    served.write("old", b"as it was");
    let mut client = served.login();
    let mut data = client.begin("STOR old");
    data.write_all(&vec![1; MUCH]).unwrap();
    let mut other = served.login();

    assert_eq!(served.names().len(), 2);
    assert_eq!(other.get_text("NLST"), "old\r\n");
    assert_eq!(other.get_text("MLSD").lines().count(), 1);
    assert_eq!(other.get("RETR old"), b"as it was");

    data.end();
    client.hears(226);
    assert_eq!(other.get("RETR old").len(), MUCH);
    // What a crash of the server left behind can be seen, and removed.
    served.write(".icecore-upload-0123456789abcdef", b"");
    assert!(other.get_text("NLST").contains(".icecore-upload-"));
    other.asks(250, "DELE .icecore-upload-0123456789abcdef");
}

#[test]
fn a_part_that_came_stays_to_be_gone_on_with() {
    let served = Served::new();
    served.write("a", b"0123456789");
    let mut client = served.login();
    client.asks(350, "REST 5");
    let mut data = client.begin("STOR a");
    data.write_all(&vec![b'x'; MUCH]).unwrap();
    client.send("ABOR\r\n");
    client.hears(426);
    client.hears(226);

    let content = served.read("a");
    assert!(content.len() > 10 && content.starts_with(b"01234xxxxx"), "{}", content.len());
}

#[test]
fn a_download_that_breaks_off_ends_the_transfer_alone() {
    let served = Served::with(short());
    let file = std::fs::File::create(served.path("big")).unwrap();
    file.set_len(1 << 30).unwrap();
    let mut client = served.login();

    client.begin("RETR big").reset();
    client.hears(426);
    let data = client.begin("RETR big");
    client.send("ABOR\r\n");
    client.hears(426);
    client.hears(226);
    drop(data);
    // Nobody reads.
    let data = client.begin("RETR big");
    assert!(client.hears(426).text().contains("too long"));
    drop(data);
    client.asks(200, "NOOP");
}

/// A file that becomes shorter while it is sent would look whole.
#[test]
fn a_file_that_shrinks_meanwhile_is_no_whole_file() {
    let served = Served::new();
    let file = std::fs::File::create(served.path("big")).unwrap();
    file.set_len(1 << 28).unwrap();
    let mut client = served.login();
    let mut data = client.begin("RETR big");
    file.set_len(0).unwrap();
    let mut bytes = Vec::new();
    data.read_to_end(&mut bytes).unwrap();
    client.hears(451);
}

/// A disk of one mebibyte, which only root can make.
#[test]
fn by_a_full_disk() {
    let folder = Folder::new();
    let root = folder.path().join("served");
    std::fs::create_dir(&root).unwrap();
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(&root);
    if !is_root() || !mount.status().is_ok_and(|status| status.success()) {
        skipped("a full disk: it takes the right to mount one");
        return;
    }
    let served = Served::at(folder, &root, Options::default());
    let mounted = Mounted(root);
    let mut client = served.login();
    client.put("STOR old", &[1; 100_000]);

    for name in ["old", "new"] {
        let mut data = client.begin(format!("STOR {name}"));
        // It may hang up at any byte.
        let _ = data.write_all(&vec![2; MUCH]);
        drop(data);
        client.hears(452);
    }
    assert_eq!(served.names(), ["old"]);
    assert_eq!(served.read("old"), [1; 100_000]);
    let mut data = client.begin("APPE old");
    let _ = data.write_all(&vec![3; MUCH]);
    drop(data);
    client.hears(452);
    client.asks(250, "DELE old");
    client.put("STOR new", &[4; 100_000]);
    drop((client, served, mounted));
}

/// A small disk that is in use until this is dropped.
struct Mounted(std::path::PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let status = Command::new("umount").arg("-l").arg(&self.0).status();
        assert!(status.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}
