//! Files of known hosts, as OpenSSH writes them: which key a host has.
//!
//! A line is names, the type of a key and the key in base64. Names are patterns with `*` and `?`,
//! `!` in front of one that is not meant, `[name]:port` for another port than 22, or one name that
//! is hashed. `@revoked` in front of a line refuses its key; lines of `@cert-authority` are left
//! out, and nothing is trusted by them. A line that cannot be read is none, as for OpenSSH.

use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::limits::SSH_FILE_BYTES_MAX;
use crate::base::sys;
use aws_lc_rs::hmac;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;

/// What the files say of a key that a host showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is the host's.
    Known,
    /// Nothing is known of the host.
    Unknown,
    /// The host has another key.
    Changed(PathBuf, usize),
    /// The key must not be trusted any more.
    Revoked(PathBuf, usize),
}

/// The lines of the files.
#[derive(Debug, Default)]
pub(super) struct KnownHosts {
    lines: Vec<Line>,
}

#[derive(Debug)]
struct Line {
    file: PathBuf,
    number: usize,
    is_revoked: bool,
    hosts: Hosts,
    algorithm: String,
    key: Vec<u8>,
}

#[derive(Debug)]
enum Hosts {
    Patterns(Vec<String>),
    Hashed { salt: Vec<u8>, hash: Vec<u8> },
}

/// Returns what a host is looked up by.
pub(super) fn name_of(host: &str, port: u16) -> String {
    let host = host.to_ascii_lowercase();
    if port == 22 { host } else { format!("[{host}]:{port}") }
}

impl KnownHosts {
    /// Reads the files; one that is not there has no lines.
    ///
    /// # Errors
    /// When one is there and cannot be read: a key that it revokes could be missed.
    pub(super) fn read(files: &[PathBuf]) -> Result<Self> {
        let mut lines = Vec::new();
        for path in files {
            let bytes = match read_file(path) {
                Ok(bytes) => bytes,
                Err(e) if is_absent(&e) => continue,
                Err(e) => return Err(Error::io(format!("cannot read {}", path.display()), e)),
            };
            for (at, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
                let line = std::str::from_utf8(line).ok().and_then(read_line);
                let Some((is_revoked, hosts, algorithm, key)) = line else { continue };
                let file = path.clone();
                lines.push(Line { file, number: at + 1, is_revoked, hosts, algorithm, key });
            }
        }
        Ok(KnownHosts { lines })
    }

    fn of<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a Line> {
        self.lines.iter().filter(move |line| line.hosts.has(name))
    }

    /// Returns the types of the keys that a host is known to have.
    pub(super) fn algorithms(&self, name: &str) -> Vec<&str> {
        self.of(name).filter(|line| !line.is_revoked).map(|line| line.algorithm.as_str()).collect()
    }

    /// Judges a key that a host showed. One of another type than those that are known is another
    /// key: who cannot show the key that is known could show one of another type.
    pub(super) fn judge(&self, name: &str, key: &[u8]) -> Verdict {
        let of = |line: &Line| (line.file.clone(), line.number);
        // Whatever host it was: a key that got lost is no proof for any.
        if let Some(line) = self.of(name).find(|line| line.is_revoked && line.key == key) {
            let (file, number) = of(line);
            return Verdict::Revoked(file, number);
        }
        let mut good = self.of(name).filter(|line| !line.is_revoked).peekable();
        let first = good.peek().map(|line| of(line));
        match first {
            _ if good.any(|line| line.key == key) => Verdict::Known,
            Some((file, number)) => Verdict::Changed(file, number),
            None => Verdict::Unknown,
        }
    }
}

/// Adds a line for a host, in one write; the file is made where it is not there, for its owner
/// alone.
///
/// # Errors
/// Those of the system.
pub(super) fn append(path: &Path, name: &str, algorithm: &str, key: &[u8]) -> Result<()> {
    let done = append_line(path, &format!("{name} {algorithm} {}\n", encode(key)));
    done.map_err(|e| Error::io(format!("cannot add a host to {}", path.display()), e))
}

fn append_line(path: &Path, line: &str) -> std::io::Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty())
        && !folder.exists()
    {
        sys::make_private_folder(folder).map_err(std::io::Error::other)?;
    }
    match sys::create_private(path) {
        Ok(_) => {}
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(e) => return Err(e),
    }
    let mut file = std::fs::File::options().read(true).append(true).open(path)?;
    let mut last = [b'\n'];
    if file.seek(SeekFrom::End(0))? > 0 {
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
    }
    let begin = if last == *b"\n" { "" } else { "\n" };
    file.write_all(format!("{begin}{line}").as_bytes())?;
    file.sync_all()
}

fn is_absent(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
}

/// Reads a file that is small if it is what it should be.
///
/// # Errors
/// Those of the system; `InvalidData` for one that is too large.
pub(super) fn read_file(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut file = std::fs::File::open(path)?.take(SSH_FILE_BYTES_MAX + 1);
    file.read_to_end(&mut bytes)?;
    if bytes.len() as u64 > SSH_FILE_BYTES_MAX {
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, "it is too large"));
    }
    Ok(bytes)
}

fn read_line(line: &str) -> Option<(bool, Hosts, String, Vec<u8>)> {
    let mut words = line.split_ascii_whitespace().peekable();
    let is_revoked = match words.peek()? {
        &"@revoked" => words.next().is_some(),
        word if word.starts_with(['@', '#']) => return None,
        _ => false,
    };
    let hosts = match words.next()? {
        hashed if hashed.starts_with("|1|") => {
            let (salt, hash) = hashed.strip_prefix("|1|")?.split_once('|')?;
            Hosts::Hashed { salt: decode(salt)?, hash: decode(hash)? }
        }
        names => Hosts::Patterns(names.split(',').map(str::to_ascii_lowercase).collect()),
    };
    let algorithm = words.next()?.to_owned();
    let key = decode(words.next()?)?;
    Some((is_revoked, hosts, algorithm, key))
}

impl Hosts {
    fn has(&self, name: &str) -> bool {
        match self {
            Hosts::Hashed { salt, hash } => {
                let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, salt);
                hmac::sign(&key, name.as_bytes()).as_ref() == hash.as_slice()
            }
            Hosts::Patterns(patterns) => {
                let is_excluded = patterns.iter().any(|pattern| {
                    pattern.strip_prefix('!').is_some_and(|it| fits(it.as_bytes(), name.as_bytes()))
                });
                let fits = |pattern: &String| fits(pattern.as_bytes(), name.as_bytes());
                !is_excluded && patterns.iter().any(fits)
            }
        }
    }
}

/// Says whether a name fits a pattern with `*` and `?`. Linear but for going back to the last `*`.
fn fits(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut seen) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while seen < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, seen));
                at += 1;
            }
            Some(&byte) if byte == b'?' || byte == name[seen] => (at, seen) = (at + 1, seen + 1),
            _ => match star {
                Some((from, taken)) => {
                    star = Some((from, taken + 1));
                    (at, seen) = (from + 1, taken + 1);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|&byte| byte == b'*')
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Writes base64 with its padding.
pub(super) fn encode(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let number = group.iter().fold(0_u32, |number, &byte| number << 8 | u32::from(byte));
        let number = number << (8 * (3 - group.len()));
        for at in 0..4 {
            let digit = DIGITS[(number >> (18 - 6 * at)) as usize & 63];
            out.push(if at <= group.len() { char::from(digit) } else { '=' });
        }
    }
    out
}

/// Reads base64, padded or not.
fn decode(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_end_matches('=');
    let mut out = Vec::with_capacity(text.len() * 3 / 4);
    let (mut number, mut bits) = (0_u32, 0);
    for byte in text.bytes() {
        let digit = DIGITS.iter().position(|&digit| digit == byte)?;
        number = number << 6 | digit as u32;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            out.push((number >> bits) as u8);
            number &= (1 << bits) - 1;
        }
    }
    (bits < 6).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::any;
    use proptest::prop_assert_eq;
    use proptest::proptest;

    const KEY: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    const OTHER: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIA6rWI3G1sz07DnfFlrouTcysQlj2P+jpNSOEWD9OJ3X";

    fn known(text: &str) -> KnownHosts {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("known_hosts");
        std::fs::write(&path, text).expect("written");
        KnownHosts::read(&[path, folder.path().join("absent")]).expect("reads")
    }

    fn judge(text: &str, name: &str, key: &str) -> &'static str {
        match known(text).judge(name, &decode(key).expect("base64")) {
            Verdict::Known => "known",
            Verdict::Unknown => "unknown",
            Verdict::Changed(_, 1) => "changed, line 1",
            Verdict::Changed(..) => "changed",
            Verdict::Revoked(..) => "revoked",
        }
    }

    #[test]
    fn names_are_looked_up_with_their_port() {
        assert_eq!(name_of("Host.Example", 22), "host.example");
        assert_eq!(name_of("::1", 2222), "[::1]:2222");
        let text =
            format!("host,other ssh-ed25519 {KEY} a comment\n[host]:2222 ssh-ed25519 {OTHER}\n");
        assert_eq!(judge(&text, "host", KEY), "known");
        assert_eq!(judge(&text, "other", KEY), "known");
        assert_eq!(judge(&text, "[host]:2222", OTHER), "known");
        assert_eq!(judge(&text, "[host]:2222", KEY), "changed");
        assert_eq!(judge(&text, "[host]:2223", KEY), "unknown");
        assert_eq!(judge(&text, "hos", KEY), "unknown");
    }

    #[test]
    fn a_host_may_have_several_keys() {
        let text = format!("host ssh-ed25519 {OTHER}\nhost ssh-ed25519 {KEY}\n");
        assert_eq!(judge(&text, "host", KEY), "known");
        assert_eq!(judge(&text, "host", OTHER), "known");
        assert_eq!(known(&text).algorithms("host"), ["ssh-ed25519", "ssh-ed25519"]);
    }

    #[test]
    fn a_key_of_another_type_is_another_key() {
        let text = format!("host ssh-rsa {OTHER}\n");
        assert_eq!(judge(&text, "host", KEY), "changed, line 1");
    }

    #[test]
    fn hashed_names_are_found() {
        // `ssh-keygen -H` made both.
        let line = format!(
            "|1|fci3/qVHkRzI9YoC6qGAboQpXBU=|EgiRdqCqPl9T/bqVu6gi5Qr703Q= ssh-ed25519 {KEY}\n\
             |1|ox8HdkCbOnfN7ACABY5y1kcGmGQ=|bRbvzGSNDHplNb/yqDMnL9izbXs= ssh-ed25519 {KEY}\n"
        );
        assert_eq!(judge(&line, "localhost", KEY), "known");
        assert_eq!(judge(&line, "[127.0.0.1]:2222", KEY), "known");
        assert_eq!(judge(&line, "127.0.0.1", KEY), "unknown");
    }

    #[test]
    fn patterns_and_their_opposites() {
        let text = format!("*.example,!bad.example,10.0.0.? ssh-ed25519 {KEY}\n");
        assert_eq!(judge(&text, "a.example", KEY), "known");
        assert_eq!(judge(&text, "bad.example", KEY), "unknown");
        assert_eq!(judge(&text, "10.0.0.7", KEY), "known");
        assert_eq!(judge(&text, "10.0.0.77", KEY), "unknown");
        assert!(fits(b"*a*b", b"xaxxb") && !fits(b"*a*b", b"xaxxbx"));
        assert!(fits(b"**", b"") && !fits(b"?", b""));
    }

    #[test]
    fn what_is_revoked_is_refused_and_authorities_give_no_trust() {
        let text = format!("host ssh-ed25519 {KEY}\n@revoked * ssh-ed25519 {KEY}\n");
        assert_eq!(judge(&text, "host", KEY), "revoked");
        let text = format!("@revoked host ssh-ed25519 {OTHER}\n");
        assert_eq!(judge(&text, "host", KEY), "unknown");
        let text = format!("@cert-authority * ssh-ed25519 {KEY}\n@strange * ssh-ed25519 {KEY}\n");
        assert_eq!(judge(&text, "host", KEY), "unknown");
    }

    #[test]
    fn what_cannot_be_read_is_no_line() {
        let text = format!(
            "# host ssh-ed25519 {KEY}\nhost\nhost ssh-ed25519\nhost ssh-ed25519 ?!\n\u{fffd} x y\n\
             |1|nothing ssh-ed25519 {KEY}\n\n  host\tssh-ed25519  {KEY}\r\n"
        );
        assert_eq!(known(&text).lines.len(), 1);
        assert_eq!(judge(&text, "host", KEY), "known");
    }

    #[test]
    fn a_file_that_cannot_be_read_is_an_error() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(KnownHosts::read(&[folder.path().to_path_buf()]).is_err());
    }

    #[test]
    fn hosts_are_added_to_a_private_file() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("new/known_hosts");
        let key = decode(KEY).expect("base64");

        append(&path, "host", "ssh-ed25519", &key).expect("made");
        let mode = std::fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::write(&path, "other x AAAA").expect("a line without its end");
        append(&path, "host", "ssh-ed25519", &key).expect("added");

        let text = std::fs::read_to_string(&path).expect("reads");
        assert_eq!(text, format!("other x AAAA\nhost ssh-ed25519 {KEY}\n"));
    }

    proptest! {
        #[test]
        fn base64_comes_back(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(decode(&encode(&bytes)), Some(bytes));
        }

        #[test]
        fn any_line_is_read_or_left_out(line in "\\PC{0,60}") {
            let _ = read_line(&line);
            let _ = read_line(&format!("@revoked |1|{line}"));
        }
    }
}
