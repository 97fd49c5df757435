//! Real servers, started by the scripts in `tests/servers` and stopped with the test.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::io::BufReader;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

/// A server that runs until this is dropped: its script stops it when its input closes, so none
/// outlives a test that is killed.
pub(crate) struct Server {
    script: Child,
    said: BTreeMap<String, String>,
}

impl Server {
    /// Starts a script of `tests/servers` and waits until its server is ready.
    pub(crate) fn start(script: &str, arguments: &[&str]) -> Self {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/servers").join(script);
        let mut child = Command::new(&path)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{} does not start: {e}", path.display()));
        let out = child.stdout.take().expect("it is piped");
        let mut said = BTreeMap::new();
        let mut is_ready = false;
        for line in BufReader::new(out).lines() {
            let line = line.expect("the script writes text");
            if line == "ready" {
                is_ready = true;
                break;
            }
            let (key, value) = line.split_once(' ').unwrap_or((&line, ""));
            said.insert(key.to_owned(), value.to_owned());
        }
        assert!(is_ready, "{script} {arguments:?} has no server ready; what it says is above");
        Server { script: child, said }
    }

    /// Returns what the script has said of the server: `host`, `port`, `user`, ...
    pub(crate) fn get(&self, key: &str) -> &str {
        self.said.get(key).unwrap_or_else(|| panic!("the script says no {key}"))
    }

    /// Returns the port.
    pub(crate) fn port(&self) -> u16 {
        self.get("port").parse().expect("a number")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.script.stdin.take());
        let _ = self.script.wait();
    }
}
