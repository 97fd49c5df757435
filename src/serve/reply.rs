//! What a client is told: a code and words.

use std::io;

/// A reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) code: u16,
    lines: Vec<Vec<u8>>,
}

impl Reply {
    /// Makes one of a line.
    pub(super) fn new(code: u16, text: impl Into<Vec<u8>>) -> Self {
        Reply { code, lines: vec![text.into()] }
    }

    /// Makes one of a first line, lines between, and a last one.
    pub(super) fn of_lines(code: u16, lines: Vec<Vec<u8>>) -> Self {
        Reply { code, lines }
    }

    /// Puts what it is about in front of its first line.
    fn about(mut self, path: &[u8]) -> Self {
        if let Some(line) = self.lines.first_mut() {
            *line = [path, b": ", line].concat();
        }
        self
    }

    /// Returns what goes over the wire: a name cannot end a line, and keeps its other bytes.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let last = self.lines.len().saturating_sub(1);
        for (number, line) in self.lines.iter().enumerate() {
            match number {
                _ if number == last => bytes.extend(format!("{} ", self.code).bytes()),
                0 => bytes.extend(format!("{}-", self.code).bytes()),
                _ => bytes.push(b' '),
            }
            for &byte in line {
                bytes.push(if matches!(byte, b'\r' | b'\n') { b'?' } else { byte });
            }
            bytes.extend(b"\r\n");
        }
        bytes
    }
}

/// Why a command is not done.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The client is told.
    Refused(Reply),
    /// The client was told already.
    Told,
    /// The session is over.
    Over,
}

impl Trouble {
    /// Repeats what a refusal is about.
    pub(super) fn about(self, path: &[u8]) -> Self {
        match self {
            Trouble::Refused(reply) => Trouble::Refused(reply.about(path)),
            told => told,
        }
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Trouble::Refused(reply_to(&error))
    }
}

/// Makes a refusal.
pub(super) fn refuse<T>(code: u16, text: &str) -> Result<T, Trouble> {
    Err(Trouble::Refused(Reply::new(code, text)))
}

/// Returns what a client is told of an error of the file system: words that other servers use, as
/// clients look for them.
pub(super) fn reply_to(error: &io::Error) -> Reply {
    use io::ErrorKind as Kind;
    let (code, text) = match error.kind() {
        Kind::NotFound => (550, "No such file or directory"),
        Kind::AlreadyExists => (550, "File exists"),
        Kind::PermissionDenied => (550, "Permission denied"),
        Kind::DirectoryNotEmpty => (550, "Directory not empty"),
        Kind::NotADirectory => (550, "Not a directory"),
        Kind::IsADirectory => (550, "Is a directory"),
        Kind::ReadOnlyFilesystem => (550, "Read-only file system"),
        Kind::CrossesDevices => (550, "Not within one file system"),
        Kind::InvalidFilename => (553, "File name too long"),
        Kind::StorageFull => (452, "No space left on device"),
        Kind::QuotaExceeded => (552, "Disk quota exceeded"),
        Kind::FileTooLarge => (552, "File too large"),
        Kind::ResourceBusy | Kind::ExecutableFileBusy => (450, "File is busy"),
        Kind::InvalidInput => (550, "Not possible there"),
        // Too many open files, of this program or of the system: it passes.
        _ if matches!(error.raw_os_error(), Some(23 | 24)) => (451, "Too many open files"),
        _ => return Reply::new(550, error.to_string()),
    };
    Reply::new(code, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_forge_a_reply() {
        let reply = Reply::new(257, b"\"/a\r\n230 \xff\"".to_vec());
        assert_eq!(reply.encode(), b"257 \"/a??230 \xff\"\r\n");
    }

    #[test]
    fn lines_between_are_no_last_line() {
        let lines = ["Features:", "SIZE", "End"].map(|line| line.as_bytes().to_vec());
        let bytes = Reply::of_lines(211, lines.to_vec()).encode();
        assert_eq!(bytes, b"211-Features:\r\n SIZE\r\n211 End\r\n");
    }

    #[test]
    fn a_full_disk_has_codes_of_its_own() {
        let code = |number| reply_to(&io::Error::from_raw_os_error(number)).code;
        assert_eq!([code(28), code(122), code(27)], [452, 552, 552]);
    }
}
