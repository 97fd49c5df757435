//! What every client asks for, and what it gets.

use crate::serve::Served;
use icecore::base::secret::Secret;
use icecore::serve::Options;
use icecore::serve::users::Rights;
use icecore::serve::users::Users;
use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::symlink;
use std::time::Duration;
use std::time::SystemTime;

#[test]
fn files_go_up_and_down_byte_for_byte() {
    let served = Served::new();
    let mut client = served.login();
    let content: Vec<u8> =
        (0..3_000_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    client.asks(200, "TYPE I");

    client.put("STOR big", &content);
    client.put("STOR empty", b"");
    client.asks(200, "TYPE A");
    client.put("STOR text", b"a\nb\r\nc");

    assert_eq!(served.read("big"), content);
    assert_eq!(served.names(), ["big", "empty", "text"]);
    assert!(client.get("RETR big") == content);
    assert_eq!(client.get("RETR empty"), b"");
    assert_eq!(client.get("RETR text"), b"a\nb\r\nc");
    assert_eq!(client.asks(213, "SIZE big").trim(), "213 3000000");
    client.asks(350, "REST 2999990");
    assert_eq!(client.get("RETR big"), content[2_999_990..]);
    client.asks(350, "REST 3000000");
    assert_eq!(client.get("RETR big"), b"");
    client.asks(350, "REST 3000001");
    client.asks(554, "RETR big");
    assert_eq!(client.get("RETR text"), b"a\nb\r\nc", "the offset is spent");
}

#[test]
fn a_file_can_be_gone_on_with() {
    let served = Served::new();
    let mut client = served.login();

    client.put("APPE log", b"one");
    client.put("APPE log", b"two");
    client.asks(350, "REST 3");
    client.put("STOR log", b"TW");
    assert_eq!(served.read("log"), b"oneTWo");
    client.asks(350, "REST 6");
    client.put("STOR log", b"!");
    assert_eq!(served.read("log"), b"oneTWo!");

    client.asks(350, "REST 8");
    let said = client.asks(550, "STOR log");
    assert!(said.contains("beyond the end"), "{said}");
    client.asks(350, "REST 1");
    client.asks(550, "STOR new");
    for bad in ["-1", "+1", "x", "", "9223372036854775808", "99999999999999999999"] {
        client.asks(501, format!("REST {bad}"));
    }
}

#[test]
fn folders_are_made_entered_and_removed() {
    let served = Served::new();
    let mut client = served.login();

    assert!(client.asks(257, "PWD").starts_with("257 \"/\" "));
    assert!(client.asks(257, "MKD a \"b\" ").starts_with("257 \"/a \"\"b\"\" \" "));
    client.asks(550, "MKD a \"b\" ");
    client.asks(250, "CWD a \"b\" ");
    assert!(client.asks(257, "PWD").starts_with("257 \"/a \"\"b\"\" \" "));
    client.asks(257, "MKD c");
    client.asks(257, "XMKD /a \"b\" /c/d");
    client.asks(250, "CWD c/d");
    client.asks(250, "CDUP");
    client.asks(250, "CWD ../..");
    client.asks(550, "CWD nothing");
    assert!(client.asks(550, "RMD a \"b\" ").contains("not empty"));
    client.asks(250, "RMD a \"b\" /c/d");
    client.asks(250, "RMD a \"b\" /c");
    client.asks(250, "XRMD a \"b\" ");
    assert!(served.names().is_empty());
    for root in ["/", ".", "..", "a/.."] {
        assert!((500..600).contains(&client.ask(format!("RMD {root}")).code), "{root}");
        assert!((500..600).contains(&client.ask(format!("RNFR {root}")).code), "{root}");
        assert!((500..600).contains(&client.ask(format!("DELE {root}")).code), "{root}");
    }
    assert!(served.path("").exists());
}

#[test]
fn a_rename_replaces_a_file_and_no_folder_that_holds_something() {
    let served = Served::new();
    let mut client = served.login();
    served.write("a", b"a");
    served.write("b", b"b");
    for folder in ["empty", "full", "new"] {
        fs::create_dir(served.path(folder)).unwrap();
    }
    served.write("full/x", b"x");
    served.write("new/o", b"o");

    client.asks(350, "RNFR a");
    client.asks(250, "RNTO b");
    assert_eq!(served.read("b"), b"a");
    client.asks(350, "RNFR new");
    assert!(client.asks(550, "RNTO full").contains("not empty"));
    client.asks(350, "RNFR new");
    client.asks(250, "RNTO empty");
    assert_eq!(served.read("empty/o"), b"o");
    client.asks(350, "RNFR full/x");
    client.asks(250, "RNTO empty/../empty/y");
    assert_eq!(served.read("empty/y"), b"x");

    assert!(client.asks(550, "RNFR nothing").contains("No such file"));
    client.asks(350, "RNFR b");
    client.asks(550, "RNTO nothing/b");
    client.asks(503, "RNTO c");
    client.asks(350, "RNFR b");
    client.asks(200, "NOOP");
    client.asks(503, "RNTO c");
}

/// The commit of a repository over FTP: of many folders renamed to one name, one gets it.
#[test]
fn of_many_renames_of_folders_to_one_name_one_wins() {
    let served = Served::new();
    for round in 0..5 {
        let won = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|number| {
                    let mut client = served.login();
                    let staged = format!("staged-{round}-{number}");
                    client.asks(257, format!("MKD {staged}"));
                    client.put(format!("STOR {staged}/o"), number.to_string().as_bytes());
                    client.asks(350, format!("RNFR {staged}"));
                    scope.spawn(move || client.ask(format!("RNTO n{round}")).code == 250)
                })
                .collect();
            let won = threads.into_iter().map(|thread| thread.join().unwrap());
            won.enumerate().filter(|(_, won)| *won).map(|(number, _)| number).collect::<Vec<_>>()
        });

        assert_eq!(won.len(), 1, "{won:?}");
        assert_eq!(served.read(&format!("n{round}/o")), won[0].to_string().as_bytes());
    }
}

#[test]
fn facts_tell_what_a_backup_looks_at() {
    let served = Served::new();
    let mut client = served.login();
    served.write("file", b"12345");
    fs::set_permissions(served.path("file"), PermissionsExt::from_mode(0o640)).unwrap();
    fs::create_dir(served.path("folder")).unwrap();
    symlink("/etc/passwd", served.path("link")).unwrap();
    symlink("nothing", served.path("dangling")).unwrap();
    let time = SystemTime::UNIX_EPOCH + Duration::new(1_795_274_460, 123_000_000);
    let file = fs::File::options().write(true).open(served.path("file")).unwrap();
    file.set_modified(time).unwrap();
    let metadata = file.metadata().unwrap();

    let rows = client.get_text("MLSD");
    let (unique, uid, gid) =
        (format!("{:x}-{:x}", metadata.dev(), metadata.ino()), metadata.uid(), metadata.gid());
    let wanted = format!(
        "type=file;size=5;modify=20261121152100.123;perm=adfrw;unique={unique};UNIX.mode=0640;\
         UNIX.uid={uid};UNIX.gid={gid}; file\r\n"
    );
    assert!(rows.contains(&wanted), "{rows}");
    assert!(rows.contains("type=dir;modify="), "{rows}");
    assert_eq!(rows.matches("type=OS.unix=symlink;").count(), 2, "{rows}");
    assert_eq!(rows.lines().count(), 4, "{rows}");
    let one = client.asks(250, "MLST file");
    assert!(one.contains(&format!(" {}", wanted.replace("; file", "; /file"))), "{one}");
    assert!(client.asks(250, "MLST").contains("type=dir;"));

    assert_eq!(client.asks(200, "OPTS MLST size;type;").trim(), "200 MLST OPTS type;size;");
    assert!(client.get_text("MLSD /").contains("type=file;size=5; file\r\n"));
    assert!(client.asks(211, "FEAT").contains(" MLST type*;size*;modify;perm;"));
    client.asks(501, "MLSD file");
    client.asks(550, "MLSD nothing");
    client.asks(501, "MLSD link");
}

#[test]
fn unique_stays_with_a_file_and_no_other_has_it() {
    let served = Served::new();
    let mut client = served.login();
    let unique = |client: &mut crate::serve::client::Client, name: &str| {
        let text = client.asks(250, format!("MLST {name}"));
        text.split("unique=").nth(1).unwrap().split(';').next().unwrap().to_owned()
    };
    client.put("STOR a", b"a");
    let before = unique(&mut client, "a");
    client.asks(350, "RNFR a");
    client.asks(250, "RNTO b");
    client.put("APPE b", b"b");
    assert_eq!(unique(&mut client, "b"), before);
    client.put("STOR a", b"a");
    assert_ne!(unique(&mut client, "a"), before);
}

#[test]
fn listings_for_people_and_scripts() {
    let served = Served::new();
    let mut client = served.login();
    fs::create_dir(served.path("d")).unwrap();
    served.write("d/b b", b"12");
    served.write("d/.hidden", b"");
    symlink("b b", served.path("d/link")).unwrap();

    for command in ["LIST d", "LIST -a d", "LIST -la d", "LIST -l -a d"] {
        let rows = client.get_text(command);
        let lines: Vec<&str> = rows.lines().collect();
        assert_eq!(lines.len(), 3, "{command}: {rows}");
        assert!(lines[0].starts_with("-rw") && lines[0].ends_with(" .hidden"), "{rows}");
        assert!(lines[1].contains("   2 ") && lines[1].ends_with(" b b"), "{rows}");
        assert!(lines[2].starts_with("lrwx") && lines[2].ends_with(" link -> b b"), "{rows}");
    }
    assert_eq!(client.get_text("NLST d"), "d/.hidden\r\nd/b b\r\nd/link\r\n");
    client.asks(250, "CWD d");
    assert_eq!(client.get_text("NLST"), ".hidden\r\nb b\r\nlink\r\n");
    assert_eq!(client.get_text("NLST b b"), "b b\r\n");
    assert!(client.get_text("LIST b b").ends_with(" b b\r\n"));
    client.asks(550, "LIST nothing");
    client.asks(550, "NLST nothing");
}

#[test]
fn a_long_folder_is_listed_whole() {
    let folder = crate::support::folder::Folder::in_memory();
    let root = folder.path().join("served");
    fs::create_dir(&root).unwrap();
    let served = Served::at(folder, &root, Options::default());
    let mut client = served.login();
    for number in 0..10_001 {
        served.write(&format!("f{number}"), b"");
    }
    assert_eq!(client.get_text("MLSD").lines().count(), 10_001);
    assert_eq!(client.get_text("LIST").lines().count(), 10_001);
}

#[test]
fn where_links_lead_is_told_to_who_asks() {
    let served = Served::new();
    served.write("file", b"1");
    symlink("a b;", served.path("link")).unwrap();
    let mut client = served.login();
    let fact = "X.link=6120623b;";
    assert!(client.asks(211, "FEAT").contains(";X.link;\r\n"));
    assert!(!client.get_text("MLSD").contains("X.link"));
    assert!(!client.asks(250, "MLST link").contains("X.link"));

    client.asks(200, "OPTS MLST type;x.LINK;");

    let mut rows: Vec<String> = client.get_text("MLSD").lines().map(str::to_owned).collect();
    rows.sort();
    assert_eq!(rows, [format!("type=OS.unix=symlink;{fact} link"), "type=file; file".to_owned()]);
    assert!(client.asks(250, "MLST link").contains(fact));
}

#[test]
fn times_and_modes_are_set() {
    let served = Served::new();
    let mut client = served.login();
    served.write("a", b"");
    fs::create_dir(served.path("d")).unwrap();

    let said = client.asks(213, "MFMT 20200229235959.5 a");
    assert_eq!(said.trim(), "213 Modify=20200229235959.5; a");
    let said = client.asks(213, "MFMT 99991231235959 a");
    let kept = client.asks(213, "MDTM a").trim().replace("213 ", "213 Modify=");
    assert_eq!(said.trim(), format!("{kept}; a"));
    client.asks(213, "MFMT 20200229235959.5 a");
    client.asks(213, "MFMT 19691231235959 d");
    assert_eq!(client.asks(213, "MDTM a").trim(), "213 20200229235959.5");
    assert_eq!(client.asks(213, "MDTM d").trim(), "213 19691231235959");
    for bad in ["2020", "20200230000000 a", "x a", "20200101000000"] {
        client.asks(501, format!("MFMT {bad}"));
    }
    client.asks(550, "MFMT 20200101000000 nothing");

    client.asks(200, "SITE CHMOD 640 a");
    client.asks(200, "SITE CHMOD 1777 d");
    assert_eq!(fs::metadata(served.path("a")).unwrap().mode() & 0o7777, 0o640);
    assert_eq!(fs::metadata(served.path("d")).unwrap().mode() & 0o7777, 0o1777);
    for bad in ["4755 a", "2755 a", "888 a", "-1 a", "a", ""] {
        client.asks(501, format!("SITE CHMOD {bad}"));
    }
    client.asks(504, "SITE EXEC rm");
}

#[test]
fn a_file_that_is_replaced_keeps_its_mode() {
    let served = Served::new();
    let mut client = served.login();
    served.write("secret", b"old");
    fs::set_permissions(served.path("secret"), PermissionsExt::from_mode(0o600)).unwrap();

    client.put("STOR secret", b"new");

    assert_eq!(served.read("secret"), b"new");
    assert_eq!(fs::metadata(served.path("secret")).unwrap().mode() & 0o7777, 0o600);
}

/// What is new is nobody's to read whom the mode keeps from what was there before, from the first
/// byte on.
#[test]
fn a_file_that_is_replaced_is_shown_to_nobody_meanwhile() {
    let served = Served::new();
    let mut client = served.login();
    served.write("secret", b"old");
    fs::set_permissions(served.path("secret"), PermissionsExt::from_mode(0o600)).unwrap();

    let mut data = client.begin("STOR secret");
    data.write_all(b"new").unwrap();
    data.flush().unwrap();

    for name in served.names() {
        let mode = fs::metadata(served.path(&name)).unwrap().mode();
        assert_eq!(mode & 0o077, 0, "{name}");
    }
    data.end();
    client.hears(226);
}

/// Nobody's content runs as somebody else: SITE CHMOD would not have it either.
#[test]
fn a_program_that_is_written_to_runs_as_nobody_else() {
    let served = Served::new();
    let mut client = served.login();
    for (offset, verb) in [(0, "STOR"), (1, "STOR"), (0, "APPE")] {
        served.write("program", b"old");
        fs::set_permissions(served.path("program"), PermissionsExt::from_mode(0o6755)).unwrap();
        client.asks(350, format!("REST {offset}"));

        client.put(format!("{verb} program"), b"new");

        assert_eq!(fs::metadata(served.path("program")).unwrap().mode() & 0o7777, 0o755);
    }
}

#[test]
fn only_who_may_write_writes() {
    let served = Served::with(Options { rights: Rights::Read, ..Options::default() });
    served.write("a", b"a");
    let mut client = served.login();
    let commands = [
        "STOR b",
        "APPE a",
        "DELE a",
        "MKD d",
        "RMD d",
        "RNFR a",
        "RNTO b",
        "SITE CHMOD 777 a",
        "MFMT 20200101000000 a",
        "XMKD d",
        "XRMD d",
    ];
    for command in commands {
        assert!(client.asks(550, command).contains("read only"), "{command}");
    }
    assert_eq!(client.get("RETR a"), b"a");
    assert!(client.get_text("MLSD").contains("perm=r;"));
    assert_eq!(served.names(), ["a"]);
}

#[test]
fn guests_read_where_they_are_let_in() {
    let folder = crate::support::folder::Folder::new();
    let root = folder.path().join("served");
    fs::create_dir(&root).unwrap();
    let mut users = Users::new().unwrap();
    users.open();
    users.add(b"ann", &Secret::new(b"x".to_vec())).unwrap();
    let served = Served::of(folder, &root, users, Options::default());
    served.write("a", b"a");

    let mut guest = served.connect();
    guest.login("anonymous", "me@example.org");
    assert_eq!(guest.get("RETR a"), b"a");
    guest.asks(550, "STOR a");
    let mut ann = served.connect();
    ann.login("ann", "x");
    ann.put("STOR a", b"b");
    assert_eq!(guest.get("RETR a"), b"b");

    let closed = Served::new();
    let mut stranger = closed.connect();
    stranger.asks(331, "USER anonymous");
    stranger.asks(530, "PASS me@example.org");
}

#[test]
fn commands_can_be_said_all_at_once() {
    let served = Served::new();
    let mut client = served.login();

    client.send("MKD a\r\nCWD a\nMKD b\r\nPWD\r\nNOOP\r\n");

    for code in [257, 250, 257] {
        client.hears(code);
    }
    assert!(client.hears(257).text().starts_with("257 \"/a\""));
    client.hears(200);
    // A transfer with the next commands already said.
    served.write("a/x", &[7; 100_000]);
    let mut data = crate::serve::client::Wire::connect(client.passive());
    client.send("RETR x\r\nSIZE x\r\nQUIT\r\n");
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut data, &mut bytes).unwrap();
    assert_eq!(bytes.len(), 100_000);
    for code in [150, 226, 213, 221] {
        client.hears(code);
    }
    client.is_left_alone();
}

#[test]
fn pasv_tells_where_to_connect_to() {
    let host = std::net::Ipv4Addr::new(192, 0, 2, 7);
    let served = Served::with(Options {
        passive_host: Some(host),
        passive_ports: Some(20_700..=20_709),
        ..Options::default()
    });
    let mut client = served.login();
    let text = client.asks(227, "PASV");
    let numbers: Vec<u16> = text[text.find('(').unwrap() + 1..text.find(')').unwrap()]
        .split(',')
        .map(|number| number.parse().unwrap())
        .collect();
    assert_eq!(numbers[..4], [192, 0, 2, 7]);
    assert!((20_700..=20_709).contains(&(numbers[4] * 256 + numbers[5])));
    // All ports of the range are told to others: the next has to wait.
    let mut others: Vec<_> = (0..9).map(|_| served.login()).collect();
    for other in &mut others {
        assert!((20_700..=20_709).contains(&other.passive().port()));
    }
    let mut last = served.login();
    last.asks(425, "EPSV");
    client.asks(221, "QUIT");
    client.is_left_alone();
    last.passive();

    last.asks(522, "EPSV 2");
    last.asks(229, "EPSV 1");
    last.asks(200, "EPSV ALL");
    last.asks(503, "PASV");
}

#[test]
fn what_is_not_done_is_said_so() {
    let served = Served::new();
    let mut client = served.login();
    for (code, command) in [
        (200, "TYPE I"),
        (200, "TYPE A"),
        (200, "TYPE L 8"),
        (504, "TYPE E"),
        (200, "MODE S"),
        (504, "MODE B"),
        (200, "STRU F"),
        (504, "STRU R"),
        (202, "ALLO 100"),
        (215, "SYST"),
        (214, "HELP"),
        (211, "STAT"),
        (200, "OPTS UTF8 ON"),
        (501, "OPTS X"),
        (502, "NONSENSE"),
        (502, ""),
        (501, "RETR"),
        (501, "CWD"),
        (226, "ABOR"),
        (502, "AUTH TLS"),
        (503, "PROT P"),
        (425, "RETR a"),
        (425, "LIST"),
        (550, "SIZE d"),
        (550, "RETR d"),
        (550, "STOR d"),
        (550, "DELE d"),
        (550, "RMD a"),
        (550, "APPE d"),
        (200, "noop"),
    ] {
        served.write("a", b"");
        let _ = fs::create_dir(served.path("d"));
        client.asks(code, command);
    }
}
