//! How a server of files behaves, for [`crate::support::files`].

use icecore::base::error::Error;
use icecore::base::error::ErrorKind;
use icecore::base::error::Result;
use icecore::base::metadata::Kind;
use icecore::net::files::Precision;
use std::ffi::OsStr;
use std::ffi::OsString;
use std::fs::FileType;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::path::PathBuf;

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
    /// Where they lead is not told.
    pub(crate) untold_links: bool,
    /// How exactly a listing tells times; a look at one file is to the second.
    pub(crate) listed: Precision,
    /// Files have a tag that stays with them.
    pub(crate) unique: bool,
    /// The size of a file that was written is not asked for when it may be compared later.
    pub(crate) proves_later: bool,
    /// Most sessions at a time.
    pub(crate) sessions_max: usize,
    /// Names that differ in case alone are one.
    pub(crate) folds_case: bool,
    /// Just before a folder gets a name that ends so for the first time, a sweep empties it.
    pub(crate) swept_before: Option<&'static str>,
}

impl Ways {
    /// Refuses to make a file that is there, as OpenSSH does where it is asked to.
    pub(crate) fn refuse_taken(&self, place: &Path) -> Result<()> {
        match self.links && place.exists() {
            true => Err(Error::new(ErrorKind::AlreadyExists, "it is there")),
            false => Ok(()),
        }
    }

    /// Returns where a path is, whose names may be there in other letters.
    pub(crate) fn place(&self, root: &Path, path: &[u8]) -> PathBuf {
        let names: Vec<&[u8]> =
            path.split(|&byte| byte == b'/').filter(|part| !part.is_empty()).collect();
        assert!(!names.contains(&b"..".as_slice()), "a path goes up");
        if !self.folds_case {
            return root.join(OsStr::from_bytes(&names.join(&b'/')));
        }
        names.iter().fold(root.to_owned(), |folder, name| {
            let there = folder.read_dir().into_iter().flatten().map(|it| it.unwrap().file_name());
            let like = |it: &OsString| it.as_bytes().eq_ignore_ascii_case(name);
            let found = there.into_iter().find(like);
            folder.join(found.as_deref().unwrap_or(OsStr::from_bytes(name)))
        })
    }

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
    untold_links: false,
    listed: Precision::Second,
    unique: false,
    proves_later: false,
    sessions_max: 16,
    folds_case: false,
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
    untold_links: false,
    listed: Precision::Second,
    unique: true,
    proves_later: true,
    sessions_max: 16,
    folds_case: false,
    swept_before: None,
};

pub(crate) fn refused(path: &[u8]) -> Error {
    Error::new(ErrorKind::Io, format!("550 {}", String::from_utf8_lossy(path)))
}

/// Returns what a server calls a thing.
pub(crate) fn kind_of(file_type: FileType) -> Kind {
    match file_type {
        it if it.is_file() => Kind::File,
        it if it.is_dir() => Kind::Directory,
        it if it.is_symlink() => Kind::Symlink,
        it if it.is_fifo() => Kind::Fifo,
        _ => Kind::Socket,
    }
}

/// Shows a name as a line of a listing can: without the end of a line in it.
pub(crate) fn in_a_line(name: &OsStr) -> Vec<u8> {
    let shown = |byte: &u8| if *byte == b'\n' { b'?' } else { *byte };
    name.as_bytes().iter().map(shown).collect()
}

pub(crate) fn failed(path: &[u8], e: std::io::Error) -> Error {
    let message = format!("fake://server: {}", String::from_utf8_lossy(path));
    match e.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => {
            Error::new(ErrorKind::NotFound, message)
        }
        std::io::ErrorKind::AlreadyExists => Error::new(ErrorKind::AlreadyExists, message),
        _ => Error::new(ErrorKind::Io, message).caused_by(e),
    }
}
