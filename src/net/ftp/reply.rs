//! What an FTP server answers to a command: a number and lines of text.
//!
//! The number alone rarely says why something was refused: 550 is "not there", "no right", "in the
//! way" and more. Many servers end the text with the words of the system's error, and those are
//! read as what they are; where there are none, whoever asked looks again.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::path::display;

/// A reply, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) code: u16,
    /// Its lines without code and end.
    pub(crate) lines: Vec<Vec<u8>>,
}

/// Why a server refused, as far as its words tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    Missing,
    Denied,
    Exists,
    Full,
    NotFolder,
    IsFolder,
    NotEmpty,
}

/// The words of the system's errors. They end a text, so that no name can speak them.
const WORDS: &[(&str, Cause)] = &[
    ("no such file or directory", Cause::Missing),
    ("permission denied", Cause::Denied),
    ("operation not permitted", Cause::Denied),
    ("read-only file system", Cause::Denied),
    ("file exists", Cause::Exists),
    ("no space left on device", Cause::Full),
    ("disk quota exceeded", Cause::Full),
    ("not a directory", Cause::NotFolder),
    ("is a directory", Cause::IsFolder),
    ("directory not empty", Cause::NotEmpty),
];

/// Words of a server that lets nobody else in for now.
const TOO_MANY: &[&str] = &["too many", "maximum", "try again", "try later", "connections"];

impl Reply {
    /// Says whether the command is under way and another reply comes.
    pub(crate) fn is_preliminary(&self) -> bool {
        self.code / 100 == 1
    }

    /// Says whether the command was done.
    pub(crate) fn is_done(&self) -> bool {
        self.code / 100 == 2
    }

    /// Says whether the server does not know the command, or not in this form.
    pub(crate) fn is_unknown(&self) -> bool {
        matches!(self.code, 500 | 501 | 502 | 504)
    }

    /// Returns the text as one line that is safe to show.
    pub(crate) fn text(&self) -> String {
        let lines = self.lines.iter().map(|line| display(line).trim().to_owned());
        let lines: Vec<String> = lines.filter(|line| !line.is_empty()).collect();
        let mut text = lines.join(" ");
        if let Some((end, _)) = text.char_indices().nth(TEXT_CHARACTERS_MAX) {
            text.truncate(end);
            text.push_str("..");
        }
        text
    }

    /// Says whether the text holds a word, which is small.
    pub(crate) fn mentions(&self, word: &str) -> bool {
        let lower = |line: &[u8]| String::from_utf8_lossy(line).to_ascii_lowercase();
        self.lines.iter().any(|line| lower(line).contains(word))
    }

    /// Returns why the server refused, where its text ends in words that say so.
    pub(crate) fn cause(&self) -> Option<Cause> {
        if matches!(self.code, 452 | 552) {
            return Some(Cause::Full);
        }
        let last = self.lines.last().map(Vec::as_slice).unwrap_or_default();
        let last = String::from_utf8_lossy(last).to_ascii_lowercase();
        let last = last.trim_end_matches(['.', ' ']);
        WORDS.iter().find(|(words, _)| last.ends_with(words)).map(|(_, cause)| *cause)
    }

    /// Says whether a listing is refused because there is nothing to list. By the beginning of the
    /// text alone: further behind stands what the server repeats.
    pub(crate) fn is_of_nothing(&self) -> bool {
        let words = b"no files";
        let start = self.lines.first().and_then(|line| line.trim_ascii().get(..words.len()));
        let says_so = start.is_some_and(|start| start.eq_ignore_ascii_case(words));
        matches!(self.code, 450 | 550) && self.cause().is_none() && says_so
    }

    /// Says whether the server has too many guests already.
    pub(crate) fn is_too_many(&self) -> bool {
        matches!(self.code, 421 | 530) && TOO_MANY.iter().any(|word| self.mentions(word))
    }

    /// Makes the error of a refusal.
    pub(crate) fn refusal(&self) -> Error {
        Error::new(self.kind(), self.said())
    }

    /// Makes the error of an upload that was refused or broken off. Few servers say that a disk is
    /// full; most say that something failed with them.
    pub(crate) fn refused_upload(&self) -> Error {
        match self.refusal() {
            e if e.kind() == ErrorKind::Io => e.hint("its disk may be full, or a quota used up"),
            e => e,
        }
    }

    /// Returns number and text for a message.
    pub(crate) fn said(&self) -> String {
        format!("the server answers {} {}", self.code, self.text())
    }

    fn kind(&self) -> ErrorKind {
        match (self.cause(), self.code) {
            // Of pyftpdlib, for a write that failed; of a connection it says what broke it.
            (_, 426) if self.lines.last().is_some_and(|it| it.starts_with(b"None;")) => {
                ErrorKind::Io
            }
            // Also a data connection that did not come about, or broke.
            (_, 421 | 425 | 426) => ErrorKind::Unreachable,
            (Some(Cause::Missing), _) => ErrorKind::NotFound,
            (Some(Cause::Denied), _) => ErrorKind::Denied,
            (Some(Cause::Exists), _) => ErrorKind::AlreadyExists,
            (Some(Cause::Full), _) => ErrorKind::Full,
            (Some(Cause::NotFolder | Cause::IsFolder | Cause::NotEmpty), _) => ErrorKind::Io,
            (None, 500..=504) => ErrorKind::Unsupported,
            // A session of TLS that the server does not take up again; a new login makes one.
            (None, 522) => ErrorKind::Unreachable,
            (None, 530..=536 | 550 | 553) => ErrorKind::Denied,
            (None, _) => ErrorKind::Io,
        }
    }
}

/// What a message shows of a server's text.
const TEXT_CHARACTERS_MAX: usize = 300;

/// The beginning of a line of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) code: u16,
    /// Whether more lines follow.
    pub(crate) goes_on: bool,
}

/// Reads how a reply begins. None for what is no reply.
pub(crate) fn head(line: &[u8]) -> Option<Head> {
    let (digits, rest) = line.split_at_checked(3)?;
    if !digits.iter().all(u8::is_ascii_digit) || !(b'1'..=b'6').contains(&digits[0]) {
        return None;
    }
    let code = digits.iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
    match rest.first() {
        Some(b'-') => Some(Head { code, goes_on: true }),
        Some(b' ') | None => Some(Head { code, goes_on: false }),
        Some(_) => None,
    }
}

/// Returns the port that a 229 names: `(|||6446|)`, with any sign for the bar.
pub(crate) fn extended_port(reply: &Reply) -> Option<u16> {
    let line = reply.lines.last()?;
    let from = line.iter().position(|&byte| byte == b'(')? + 1;
    let inner = line[from..].split(|&byte| byte == b')').next()?;
    let (bar, rest) = inner.split_first()?;
    let mut parts = rest.split(|byte| byte == bar);
    let (network, host) = (parts.next()?, parts.next()?);
    let port = std::str::from_utf8(parts.next()?).ok()?;
    let is_plain = port.bytes().all(|byte| byte.is_ascii_digit()) && !bar.is_ascii_digit();
    let port = port.parse().ok().filter(|&port| port > 0 && is_plain);
    // Another host would be a server that borrows this client.
    port.filter(|_| network.len() <= 1 && host.is_empty())
}

/// Returns the port that a 227 names: the last two of `h1,h2,h3,h4,p1,p2`. The address is not
/// looked at: behind a translating router it is a wrong one, and anywhere else the one that
/// answers already.
pub(crate) fn passive_port(reply: &Reply) -> Option<u16> {
    let line = reply.lines.last()?;
    let text = std::str::from_utf8(line).ok()?;
    let groups = text.split(|c: char| !c.is_ascii_digit() && c != ',');
    let numbers = groups.filter(|group| group.matches(',').count() == 5).find_map(|group| {
        let numbers: Vec<u8> = group.split(',').map_while(|part| part.parse().ok()).collect();
        <[u8; 6]>::try_from(numbers).ok()
    })?;
    let port = u16::from_be_bytes([numbers[4], numbers[5]]);
    (port > 0).then_some(port)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::any;
    use proptest::proptest;

    fn reply(code: u16, text: &str) -> Reply {
        Reply { code, lines: text.lines().map(|line| line.as_bytes().to_vec()).collect() }
    }

    #[test]
    fn an_upload_that_failed_is_told_from_a_connection_that_broke() {
        for (code, text, kind, hints) in [
            (426, "None; transfer aborted.", ErrorKind::Io, true),
            (426, "Connection reset by peer; transfer aborted.", ErrorKind::Unreachable, false),
            (451, "Failure writing to local file.", ErrorKind::Io, true),
            (451, "Transfer aborted. Input/output error", ErrorKind::Io, true),
            (452, "No room", ErrorKind::Full, false),
        ] {
            let error = reply(code, text).refused_upload();
            assert_eq!((error.kind(), error.hint_text().is_some()), (kind, hints), "{text}");
        }
    }

    #[test]
    fn the_words_of_four_servers_are_understood() {
        for (code, text, cause) in [
            (550, "nope: No such file or directory", Some(Cause::Missing)),
            (
                550,
                "Can't change directory to /nope: No such file or directory",
                Some(Cause::Missing),
            ),
            (550, "No such file or directory.", Some(Cause::Missing)),
            (550, "Failed to change directory.", None),
            (550, "Can't check for file existence", None),
            (550, "'nope' cannot be listed", None),
            (550, "/locked: Permission denied", Some(Cause::Denied)),
            (553, "Can't open that file: Permission denied", Some(Cause::Denied)),
            (550, "sp ace: Directory not empty", Some(Cause::NotEmpty)),
            (550, "Can't create directory: File exists", Some(Cause::Exists)),
            (552, "whatever", Some(Cause::Full)),
            (550, "No such file or directory x: Permission denied", Some(Cause::Denied)),
        ] {
            assert_eq!(reply(code, text).cause(), cause, "{code} {text}");
        }
    }

    #[test]
    fn a_listing_of_nothing_is_told_from_what_only_speaks_of_it() {
        for (code, text, is_of_nothing) in [
            (450, "No files found", true),
            (550, "No files found.", true),
            (550, "no files", true),
            (550, "Can't change directory to /no files yet: Permission denied", false),
            (550, "no files yet: Permission denied", false),
            (550, "/no files here", false),
            (451, "No files found", false),
            (550, "", false),
        ] {
            assert_eq!(reply(code, text).is_of_nothing(), is_of_nothing, "{text}");
        }
    }

    #[test]
    fn too_many_guests_are_told_from_a_wrong_password() {
        assert!(reply(421, "There are too many connected users, please try later.").is_too_many());
        assert!(reply(530, "Sorry, the maximum number of clients (1)").is_too_many());
        assert!(reply(421, "50 users (the maximum) are already logged in, sorry").is_too_many());
        assert!(!reply(530, "Login incorrect.").is_too_many());
        assert!(!reply(421, "Timeout.").is_too_many());
    }

    #[test]
    fn ports_are_found() {
        for (text, port) in [
            ("Entering Extended Passive Mode (|||40047|)", Some(40047)),
            ("Entering extended passive mode (!!!40394!).", Some(40394)),
            ("Extended Passive mode OK (|1|10.0.0.1|22|)", None),
            ("(|||0|)", None),
            ("(|||65536|)", None),
            ("(|||+22|)", None),
            ("(", None),
            ("", None),
        ] {
            assert_eq!(extended_port(&reply(229, text)), port, "{text}");
        }
        for (text, port) in [
            ("Entering Passive Mode (127,0,0,1,156,89).", Some(156 * 256 + 89)),
            ("Entering Passive Mode 10,0,0,1,0,21", Some(21)),
            ("Entering Passive Mode (10,0,0,1,0,0)", None),
            ("Entering Passive Mode (10,0,0,1,256,1)", None),
            ("Entering Passive Mode (10,0,0,1,1)", None),
            ("", None),
        ] {
            assert_eq!(passive_port(&reply(227, text)), port, "{text}");
        }
    }

    #[test]
    fn what_is_no_reply_is_none() {
        assert_eq!(head(b"220 ready"), Some(Head { code: 220, goes_on: false }));
        assert_eq!(head(b"220"), Some(Head { code: 220, goes_on: false }));
        assert_eq!(head(b"211-Features"), Some(Head { code: 211, goes_on: true }));
        for line in ["", "22", "2200 x", "x20 ready", " 220", "999 x", "000 x", "SSH-2.0-x"] {
            assert_eq!(head(line.as_bytes()), None, "{line}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(line in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = head(&line);
            let reply = Reply { code: 227, lines: vec![line] };
            let _ = (extended_port(&reply), passive_port(&reply), reply.cause());
            let _ = (reply.text(), reply.refusal(), reply.is_too_many());
        }

        #[test]
        fn digits_and_commas_are_read_or_refused(line in "[(|0-9, ]{0,30}") {
            let _ = (extended_port(&reply(229, &line)), passive_port(&reply(227, &line)));
        }
    }
}
