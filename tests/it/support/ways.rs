//! How a server of files behaves, for [`crate::support::files`].

use icecore::net::files::Precision;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// How a server behaves.
#[derive(Clone, Debug)]
pub(crate) struct Ways {
    /// Renaming a file over another one replaces it; else it is refused.
    pub(crate) rename_replaces: bool,
    /// There is a rename that replaces by wish.
    pub(crate) rename_over: bool,
    /// There are hard links.
    pub(crate) links: bool,
    /// Renaming a folder over one that is not empty is refused; else it replaces.
    pub(crate) folders_refuse: bool,
    /// Renaming a folder over one that is empty is refused, too.
    pub(crate) empty_folders_refuse: bool,
    /// Symbolic links are told; else they are shown as what they lead to.
    pub(crate) symlinks: bool,
    /// How exactly a listing tells times; a look at one file is to the second.
    pub(crate) listed: Precision,
    /// Files have a tag that stays with them.
    pub(crate) unique: bool,
    /// The size of a file that was written is not asked for when it may be compared later.
    pub(crate) proves_later: bool,
    /// Most sessions at a time.
    pub(crate) sessions_max: usize,
    /// Just before a folder gets a name that ends so for the first time, a sweep empties it.
    pub(crate) swept_before: Option<&'static str>,
}

impl Ways {
    /// Sweeps what is about to be renamed, where that is to happen.
    pub(crate) fn sweep(&self, from: &Path, to: &Path) {
        let is_meant = |end: &&str| to.to_string_lossy().ends_with(*end);
        if self.swept_before.as_ref().is_some_and(is_meant) && !to.exists() {
            std::fs::remove_file(from.join("o")).unwrap();
        }
    }
}

/// As OpenSSH does.
pub(crate) const SFTP: Ways = Ways {
    rename_replaces: false,
    rename_over: true,
    links: true,
    folders_refuse: true,
    empty_folders_refuse: false,
    symlinks: true,
    listed: Precision::Second,
    unique: false,
    proves_later: false,
    sessions_max: 16,
    swept_before: None,
};

/// As an FTP server with MLSD does.
pub(crate) const FTP: Ways = Ways {
    rename_replaces: true,
    rename_over: false,
    links: false,
    folders_refuse: true,
    empty_folders_refuse: false,
    symlinks: false,
    listed: Precision::Second,
    unique: true,
    proves_later: true,
    sessions_max: 16,
    swept_before: None,
};

/// Shows a name as a line of a listing can: without the end of a line in it.
pub(crate) fn in_a_line(name: &OsStr) -> Vec<u8> {
    let shown = |byte: &u8| if *byte == b'\n' { b'?' } else { *byte };
    name.as_bytes().iter().map(shown).collect()
}
