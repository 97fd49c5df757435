//! Who may come in. Passwords are kept as digests under a key of this run alone, and compared in a
//! time that tells nothing.

use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::hash;
use crate::base::hash::Digest;
use crate::base::limits::USERS_FILE_BYTES_MAX;
use crate::base::path::display;
use crate::base::secret::Secret;
use crate::base::sys;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What somebody who came in may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// Read and list.
    Read,
    /// All.
    Write,
}

/// Everybody who may come in.
pub struct Users {
    key: Digest,
    named: BTreeMap<Vec<u8>, Digest>,
    is_open: bool,
}

impl Users {
    /// Knows nobody.
    ///
    /// # Errors
    /// `Io` when the system has no random bytes.
    pub fn new() -> Result<Self> {
        Ok(Users { key: sys::random()?, named: BTreeMap::new(), is_open: false })
    }

    /// Lets somebody in who knows the password.
    ///
    /// # Errors
    /// `InvalidInput` for a name or a password that cannot be said, or an empty one.
    pub fn add(&mut self, name: &[u8], password: &Secret) -> Result<()> {
        let is_sayable = |text: &[u8]| {
            !text.is_empty() && !text.iter().any(|byte| matches!(byte, 0 | b'\r' | b'\n'))
        };
        if !is_sayable(name) {
            return Err(Error::invalid(format!("{:?} is no name for a user", display(name))));
        }
        if !is_sayable(password.expose()) {
            let name = display(name);
            return Err(Error::invalid(format!(
                "the password of {name} is empty or holds the end of a line"
            )));
        }
        self.named.insert(name.to_vec(), hash::keyed(&self.key, password.expose()));
        Ok(())
    }

    /// Lets everybody in who says to be `anonymous` or `ftp`, to read.
    pub fn open(&mut self) {
        self.is_open = true;
    }

    /// Adds those of a file: a line `name:password` each, empty lines and those that begin with
    /// `#` left out. Nobody but its owner may have any right to it.
    ///
    /// # Errors
    /// `Password` when others may read it, or when it cannot be read; `InvalidInput` for a line
    /// that makes no sense.
    pub fn add_file(&mut self, path: &Path) -> Result<()> {
        let shown = display(path.as_os_str().as_bytes());
        let unreadable = |e| Error::io(format!("cannot read the file of users {shown}"), e);
        let file = File::open(path).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        if metadata.mode() & 0o077 != 0 {
            return Err(Error::invalid(format!("others may look into the file of users {shown}"))
                .hint(format!("`chmod 600 {shown}`")));
        }
        let mut bytes = Vec::new();
        file.take(USERS_FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        let text = Secret::new(bytes);
        if text.expose().len() as u64 > USERS_FILE_BYTES_MAX {
            return Err(Error::invalid(format!("the file of users {shown} is too large")));
        }
        for (index, line) in text.expose().split(|&byte| byte == b'\n').enumerate() {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            let at = || format!("line {} of the file of users {shown}", index + 1);
            let colon = line.iter().position(|&byte| byte == b':');
            let colon =
                colon.ok_or_else(|| Error::invalid(format!("{} is not name:password", at())))?;
            let password = Secret::new(line[colon + 1..].to_vec());
            self.add(&line[..colon], &password).map_err(|e| e.context(at()))?;
        }
        Ok(())
    }

    /// Says whether nobody may come in.
    pub fn is_empty(&self) -> bool {
        self.named.is_empty() && !self.is_open
    }

    /// Says whether a name is that of a guest, who needs no password.
    pub(super) fn is_guest(&self, name: &[u8]) -> bool {
        let is_one = name.eq_ignore_ascii_case(b"anonymous") || name.eq_ignore_ascii_case(b"ftp");
        is_one && self.is_open && !self.named.contains_key(name)
    }

    /// Says what somebody may do; None for who may not come in.
    pub(super) fn admit(&self, name: &[u8], password: &[u8]) -> Option<Rights> {
        if self.is_guest(name) {
            return Some(Rights::Read);
        }
        // The same is done for a name that nobody has.
        let given = hash::keyed(&self.key, password);
        let known = self.named.get(name);
        let is_right = hash::same(&given, known.unwrap_or(&self.key));
        (is_right && known.is_some()).then_some(Rights::Write)
    }
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Users({} named)", self.named.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text.as_bytes().to_vec())
    }

    #[test]
    fn only_the_right_password_lets_in() {
        let mut users = Users::new().unwrap();
        assert!(users.is_empty());
        users.add(b"ann", &secret("a b:c")).unwrap();

        assert_eq!(users.admit(b"ann", b"a b:c"), Some(Rights::Write));
        for (name, password) in [("ann", ""), ("ann", "a b:"), ("bob", "a b:c"), ("anonymous", "")]
        {
            assert_eq!(users.admit(name.as_bytes(), password.as_bytes()), None, "{name}");
        }
        users.open();
        assert_eq!(users.admit(b"Anonymous", b"me@home"), Some(Rights::Read));
    }

    #[test]
    fn a_guest_by_the_name_of_a_user_needs_the_password() {
        let mut users = Users::new().unwrap();
        users.add(b"ftp", &secret("x")).unwrap();
        users.open();
        assert_eq!(users.admit(b"ftp", b"y"), None);
    }

    #[test]
    fn what_cannot_be_said_is_no_password() {
        let mut users = Users::new().unwrap();
        for (name, password) in [("", "x"), ("a\nb", "x"), ("a", ""), ("a", "x\ry")] {
            assert!(users.add(name.as_bytes(), &secret(password)).is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_file_of_users_is_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        std::fs::write(&path, "# who\n\nann:a:b\r\nbob:c\n").unwrap();
        let mut users = Users::new().unwrap();
        for mode in [0o644, 0o640, 0o606] {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            assert!(users.add_file(&path).unwrap_err().hint_text().unwrap().contains("chmod 600"));
        }
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        users.add_file(&path).unwrap();
        assert_eq!(users.admit(b"ann", b"a:b"), Some(Rights::Write));
        assert_eq!(users.admit(b"bob", b"c"), Some(Rights::Write));

        std::fs::write(&path, "ann:a\nnobody\n").unwrap();
        let error = users.add_file(&path).unwrap_err();
        assert!(error.full_message().contains("line 2"), "{error:?}");
    }
}
