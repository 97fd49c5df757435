//! A file that appears under its name when it is whole, or not at all.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::path::display;
use crate::base::sys;
use std::fs::File;
use std::io::BufWriter;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;

/// Bytes gathered before they go to the system.
const BUFFER_BYTES: usize = 256 * 1024;

/// A file being written. When it is dropped unfinished, nothing of it stays.
#[derive(Debug)]
pub struct WholeFile {
    out: BufWriter<File>,
    path: PathBuf,
    /// Where it is until it is finished; None for what is written to as it is.
    hidden: Option<PathBuf>,
    replaces: bool,
}

impl WholeFile {
    /// Begins a file that only its owner can read. A device or a fifo is written to as it is.
    ///
    /// # Errors
    /// `AlreadyExists` when there is one and it must not be replaced; `InvalidInput` for a
    /// folder; as the system says.
    pub fn create(path: &Path, replaces: bool) -> Result<Self> {
        let there = std::fs::metadata(path).ok();
        if there.as_ref().is_some_and(std::fs::Metadata::is_dir) {
            return Err(Error::invalid(format!("{} is a folder", shown(path))).at(Origin::Target));
        }
        if there.as_ref().is_some_and(|there| !there.is_file()) {
            let file = File::options().write(true).open(path);
            let file = file.map_err(|e| cannot("open", path, e))?;
            return Ok(Self::of(file, path, None, true));
        }
        if !replaces && std::fs::symlink_metadata(path).is_ok() {
            return Err(is_there(path));
        }
        let Some(name) = path.file_name() else {
            return Err(Error::invalid(format!("{} has no name", shown(path))).at(Origin::Target));
        };
        let mut hidden = b".".to_vec();
        // The name may be as long as names can be.
        hidden.extend_from_slice(&name.as_bytes()[..name.len().min(200)]);
        let mark = u64::from_le_bytes(sys::random()?);
        hidden.extend_from_slice(format!(".{mark:016x}.part").as_bytes());
        let hidden = path.with_file_name(std::ffi::OsStr::from_bytes(&hidden));
        let file = sys::create_private(&hidden).map_err(|e| cannot("make", path, e))?;
        Ok(Self::of(file, path, Some(hidden), replaces))
    }

    fn of(file: File, path: &Path, hidden: Option<PathBuf>, replaces: bool) -> Self {
        let out = BufWriter::with_capacity(BUFFER_BYTES, file);
        WholeFile { out, path: path.to_path_buf(), hidden, replaces }
    }

    /// Makes it durable and gives it its name.
    ///
    /// # Errors
    /// `AlreadyExists` when something got the name meanwhile; as the system says.
    pub fn finish(mut self) -> Result<()> {
        let path = &self.path;
        self.out.flush().map_err(|e| cannot("write", path, e))?;
        let Some(hidden) = &self.hidden else { return Ok(()) };
        self.out.get_ref().sync_all().map_err(|e| cannot("write", path, e))?;
        let renamed = match self.replaces {
            true => std::fs::rename(hidden, path),
            false => sys::rename_new(hidden, path),
        };
        renamed.map_err(|e| match e.kind() {
            std::io::ErrorKind::AlreadyExists => is_there(path),
            _ => cannot("make", path, e),
        })?;
        self.hidden = None;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        match sys::sync_folder(folder.unwrap_or(Path::new("."))) {
            // A folder that may not be read was written to all the same.
            Err(e) if e.kind() != std::io::ErrorKind::PermissionDenied => {
                Err(cannot("make", path, e))
            }
            _ => Ok(()),
        }
    }
}

impl Write for WholeFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

impl Drop for WholeFile {
    fn drop(&mut self) {
        if let Some(hidden) = &self.hidden {
            // What cannot be removed is in nobody's way under this name.
            let _ = std::fs::remove_file(hidden);
        }
    }
}

fn shown(path: &Path) -> String {
    display(path.as_os_str().as_bytes())
}

fn cannot(verb: &str, path: &Path, cause: std::io::Error) -> Error {
    Error::io(format!("cannot {verb} {}", shown(path)), cause).at(Origin::Target)
}

fn is_there(path: &Path) -> Error {
    Error::new(ErrorKind::AlreadyExists, format!("{} is there already", shown(path)))
        .hint("--force replaces it")
        .at(Origin::Target)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).expect("a folder");
        entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let place = tempfile::tempdir().expect("a folder");
        let path = place.path().join("a.tar");
        let mut file = WholeFile::create(&path, false).expect("begins");
        file.write_all(b"half").expect("writes");
        assert!(!path.exists());
        drop(file);
        assert_eq!(names(place.path()), [] as [&str; 0]);

        let mut file = WholeFile::create(&path, false).expect("begins");
        file.write_all(b"whole").expect("writes");
        file.finish().expect("finishes");
        assert_eq!(std::fs::read(&path).expect("reads"), b"whole");
        assert_eq!(names(place.path()), ["a.tar"]);
    }

    #[test]
    fn what_is_there_is_replaced_only_on_demand() {
        let place = tempfile::tempdir().expect("a folder");
        let path = place.path().join("a.tar");
        let late = WholeFile::create(&path, false).expect("begins");
        std::fs::write(&path, b"mine").expect("writes");

        let error = WholeFile::create(&path, false).expect_err("is there");
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        let error = late.finish().expect_err("got there meanwhile");
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&path).expect("reads"), b"mine");

        WholeFile::create(&path, true).expect("begins").finish().expect("finishes");
        assert_eq!(std::fs::read(&path).expect("reads"), b"");
        assert_eq!(names(place.path()), ["a.tar"]);
        let error = WholeFile::create(place.path(), true).expect_err("a folder");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }

    #[test]
    fn a_device_is_written_to_as_it_is() {
        let mut file = WholeFile::create(Path::new("/dev/null"), false).expect("opens");
        file.write_all(b"x").expect("writes");
        file.finish().expect("finishes");
        assert!(!std::fs::metadata("/dev/null").expect("is there").is_file());
    }
}
