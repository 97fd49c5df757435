//! Backups copied from one kind of server to another, with the program itself: from a repository
//! behind FTP, encrypted, into a bucket that is not, and back into one behind FTP.

use crate::s3::BUCKET;
use crate::s3::SEAWEEDFS;
use crate::serve::PASSWORD;
use crate::serve::Served;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;

/// A home in which the program runs, with what it needs to reach both servers.
struct Home<'a> {
    folder: &'a Path,
    variables: Vec<(&'static str, String)>,
}

impl Home<'_> {
    fn run(&self, arguments: &[&str]) -> String {
        let output = Command::new(env!("CARGO_BIN_EXE_icecore"))
            .args(arguments)
            .env_clear()
            .env("HOME", self.folder)
            .env("ICECORE_FTP_USER", "icecore")
            .env("ICECORE_FTP_PASSWORD", PASSWORD)
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .current_dir(self.folder)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {}\n{text}{errors}", output.status);
        text
    }
}

#[test]
fn backups_go_from_ftp_to_a_bucket_and_back() {
    let served = Served::new(&["--user", "icecore"]);
    let place = tempfile::tempdir().unwrap();
    let store = &*SEAWEEDFS;
    let variables = vec![
        ("AWS_ACCESS_KEY_ID", store.said("access")),
        ("AWS_SECRET_ACCESS_KEY", store.said("secret")),
        ("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{}", store.said("port"))),
        ("AWS_REGION", "us-east-1".to_owned()),
    ];
    let mut home = Home { folder: place.path(), variables };
    let ftp = format!("ftp://127.0.0.1:{}/one", served.port);
    let back = format!("ftp://127.0.0.1:{}/two", served.port);
    let bucket = format!("s3://{BUCKET}/copies");
    fs::write(place.path().join("word"), b"a word").unwrap();
    let keyed = ["-r", &ftp, "--password-file", "word"];
    home.run(&[&keyed[..], &["init"]].concat());
    home.run(&["-r", &bucket, "init", "--encryption", "none"]);
    let data = place.path().join("data");
    fs::create_dir(&data).unwrap();
    let mut noise = Vec::with_capacity(3 << 20);
    let mut state = 1_u64;
    while noise.len() < 3 << 20 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        noise.extend_from_slice(&state.to_be_bytes()[..4]);
    }
    fs::write(data.join("noise"), &noise).unwrap();
    fs::write(data.join("text"), "a line of text\n".repeat(30_000)).unwrap();
    home.run(&[&keyed[..], &["backup", "data", "--tag", "one"]].concat());
    fs::write(data.join("text"), "another line\n".repeat(30_000)).unwrap();
    home.run(&[&keyed[..], &["backup", "data"]].concat());

    let said = home.run(&[&keyed[..], &["copy", "--to", &bucket]].concat());
    assert!(said.starts_with("data: copied 2 backups as data@0 to data@1; "), "{said}");
    fs::write(data.join("third"), b"third").unwrap();
    home.run(&[&keyed[..], &["backup", "data"]].concat());
    let said = home.run(&[&keyed[..], &["--json", "copy", "--to", &bucket]].concat());
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    let one = &said["datasets"][0];
    assert_eq!((&one["present"], &one["copied"][0]["to_backup"]), (&2.into(), &2.into()));
    assert!(one["read_bytes"].as_u64().unwrap() < 10_000, "{one}");
    assert!(one["stored_bytes"].as_u64().unwrap() < 10_000, "{one}");

    home.variables.push(("ICECORE_TO_PASSWORD", "another".to_owned()));
    home.variables.push(("ICECORE_PASSWORD", "another".to_owned()));
    home.run(&["-r", &back, "init"]);
    home.variables.pop();
    home.run(&["-r", &bucket, "copy", "data", "--to", &back]);
    home.variables.push(("ICECORE_PASSWORD", "another".to_owned()));
    home.run(&["-r", &back, "check", "--read-data"]);
    home.run(&["-r", &back, "restore", "data@0", "out"]);
    home.run(&["-r", &back, "restore", "data@2", "last"]);
    let read = |below: &str| fs::read(place.path().join(below)).unwrap();
    assert!(read("out/noise") == noise);
    assert!(read("out/text") == "a line of text\n".repeat(30_000).as_bytes());
    assert!(read("last/noise") == noise);
    assert!(read("last/text") == "another line\n".repeat(30_000).as_bytes());
    assert_eq!(read("last/third"), b"third");
}
