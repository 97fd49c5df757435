//! Which repositories were encrypted when last opened from here, by where they are.
//!
//! A storage cannot decrypt, but it can put a repository without encryption in the place of one
//! with it. Who gives the password beforehand is refused there; who is only asked for one where
//! it is needed would not be asked, and store everything in the clear.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Origin;
use crate::base::hash;
use crate::base::id::to_hex;
use crate::base::sys;
use crate::repository::cache::SEALED_FOLDER;
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;

/// What is kept of one place: a file in the cache that is there, or is not.
#[derive(Debug)]
pub(super) struct SealedPlace {
    file: PathBuf,
    place: Vec<u8>,
}

impl SealedPlace {
    /// `place` is the whole path, or the address without its password.
    pub(super) fn new(cache: &Path, place: &OsStr) -> Self {
        let place = place.as_bytes().to_vec();
        let file = cache.join(SEALED_FOLDER).join(to_hex(&hash::hash(&place)[..16]));
        SealedPlace { file, place }
    }

    /// Whether the repository there was encrypted.
    pub(super) fn is_known(&self) -> bool {
        // Half written or not; a cache that cannot be looked into has told nothing.
        fs::symlink_metadata(&self.file).is_ok()
    }

    /// Keeps that it is encrypted. What cannot be written is not known later, which is as before.
    pub(super) fn remember(&self) {
        let Some(folder) = self.file.parent() else { return };
        if !self.is_known() && sys::make_private_folder(folder).is_ok() {
            let _ =
                sys::create_private(&self.file).and_then(|mut file| file.write_all(&self.place));
        }
    }

    /// Forgets it: somebody has made a repository without encryption there.
    pub(super) fn forget(&self) {
        let _ = fs::remove_file(&self.file);
    }

    /// Tells that the repository at `location` is not encrypted any more.
    pub(super) fn unsealed(&self, location: &str) -> Error {
        let message = format!(
            "the repository at {location} is not encrypted, and was when last opened from here"
        );
        let hint = format!(
            "somebody may have put another one in its place; if that was you, or two disks are \
             used there in turn, remove {}",
            self.file.display()
        );
        Error::new(ErrorKind::Password, message).hint(hint).at(Origin::Repository)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_known_once_it_is_remembered_until_it_is_forgotten() {
        let cache = tempfile::tempdir().expect("a folder");
        let place = SealedPlace::new(cache.path(), OsStr::new("/srv/backups"));
        assert!(!place.is_known());

        place.remember();
        place.remember();

        assert!(place.is_known());
        assert!(!SealedPlace::new(cache.path(), OsStr::new("/srv/other")).is_known());
        let error = place.unsealed("x");
        let hint = error.hint_text().expect("a hint");
        assert!(hint.contains(place.file.to_str().expect("text")), "{hint}");
        place.forget();
        assert!(!place.is_known());
        assert!(!SealedPlace::new(Path::new("/dev/null/x"), OsStr::new("/srv")).is_known());
    }
}
