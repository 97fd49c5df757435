//! Real servers, started by the scripts under `tests/servers`.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::io::BufReader;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

/// A running server. It ends with the input that is held here: at the latest with this program.
pub(crate) struct Server {
    child: Child,
    said: BTreeMap<String, String>,
}

impl Server {
    /// Runs a script with its arguments and waits until the server is ready.
    pub(crate) fn start(script: &str, arguments: &[&str]) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/servers").join(script);
        let mut child = Command::new("python3")
            .arg(&path)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{} cannot be run: {e}", path.display()));
        let mut said = BTreeMap::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            if line == "ready" {
                return Server { child, said };
            }
            if let Some((name, value)) = line.split_once(['=', ' ']) {
                said.insert(name.to_owned(), value.to_owned());
            }
        }
        let _ = child.wait();
        panic!("{script} {arguments:?} did not start a server; what it says stands above");
    }

    /// Returns what the script said under a name.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.said.get(name).unwrap_or_else(|| panic!("the script says no {name}"))
    }

    pub(crate) fn port(&self) -> u16 {
        self.get("port").parse().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
