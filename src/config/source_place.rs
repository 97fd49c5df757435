//! A source as a person names it, and how it is opened.

use crate::base::error::Error;
use crate::base::error::Result;
use crate::config::connect::Location;
use crate::config::connect::Settings;
use crate::config::remote::Versions;
use crate::engine::address;
use crate::format::dataset::DatasetName;
use crate::net::address::Scheme;
use crate::source::Source;
use crate::source::filter::Filter;
use crate::source::local::LocalOptions;
use crate::source::local::LocalSource;
use crate::source::single::FileSource;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A source as a person names it.
#[derive(Clone, Debug)]
pub struct SourcePlace {
    location: Location,
    versions: Versions,
}

impl SourcePlace {
    /// Reads a location.
    ///
    /// # Errors
    /// Those of [`Location::parse`].
    pub fn parse(location: &OsStr) -> Result<Self> {
        Ok(SourcePlace { location: Location::parse(location)?, versions: Versions::Newest })
    }

    /// Has older versions of a bucket's objects backed up, too.
    ///
    /// # Errors
    /// `InvalidInput` for what is no bucket.
    pub fn with_versions(mut self) -> Result<Self> {
        match &self.location {
            Location::Remote(address) if address.scheme() == Scheme::S3 => {
                self.versions = Versions::All;
                Ok(self)
            }
            _ => Err(Error::invalid("--versions goes with a bucket: s3://BUCKET/PREFIX")),
        }
    }

    /// Says whether it is reached over a network.
    pub fn is_remote(&self) -> bool {
        matches!(self.location, Location::Remote(_))
    }

    /// Returns its path on this machine.
    pub fn local(&self) -> Option<&Path> {
        let Location::Folder(path) = &self.location else { return None };
        Some(path)
    }

    /// Returns the name of its dataset when none is given: the last part of the path, as typed,
    /// so that a link keeps its own name. What ends in no name (`.`, `..`) is looked up. Of an
    /// address without a path it is the host or the bucket.
    ///
    /// # Errors
    /// `InvalidInput` when that cannot be a name.
    pub fn default_dataset(&self) -> Result<DatasetName> {
        let path = match &self.location {
            Location::Folder(path) => path,
            Location::Remote(address) => {
                return address::default_dataset(Path::new(OsStr::from_bytes(address.last_part())));
            }
        };
        if path.file_name().is_some() {
            return address::default_dataset(path);
        }
        let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.clone());
        address::default_dataset(&real)
    }

    /// Opens it. What is left out beside the filter's is the repository and the cache.
    ///
    /// # Errors
    /// `NotFound`, `InvalidInput` when it is neither folder nor file, or the repository itself,
    /// `Denied`; those of servers.
    pub fn open(
        &self,
        filter: Filter,
        one_file_system: bool,
        settings: &Settings,
    ) -> Result<Box<dyn Source>> {
        match &self.location {
            Location::Folder(path) => {
                let excluded = settings.excluded()?;
                let options = LocalOptions { one_file_system, excluded, filter: Some(filter) };
                Ok(match path.is_file() {
                    true => Box::new(FileSource::open(path, options)?),
                    false => Box::new(LocalSource::open(path, options)?),
                })
            }
            Location::Remote(address) => {
                let repository = match Location::parse(&settings.place()?.location)? {
                    Location::Remote(repository) => Some(repository),
                    Location::Folder(_) => None,
                };
                settings.remote.source(address, filter, repository.as_ref(), self.versions)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datasets_of_other_machines_are_named_by_the_last_part_or_the_host() {
        for (text, name) in [
            ("ftp://h/data/photos/", "photos"),
            ("ftp://host.example", "host.example"),
            ("sftp://me@h/~/a%20b", "a b"),
            ("s3://bucket", "bucket"),
        ] {
            let place = SourcePlace::parse(OsStr::new(text)).expect(text);
            assert_eq!(place.default_dataset().expect(text).as_str(), name);
        }
        let unfit = SourcePlace::parse(OsStr::new("ftp://h/a%3Ab")).expect("parses");
        assert!(unfit.default_dataset().is_err());
    }

    #[test]
    fn a_source_without_a_last_part_is_looked_up() {
        let place = tempfile::tempdir().expect("a folder");
        let folder = place.path().join("photos");
        std::fs::create_dir_all(folder.join("sub")).expect("a folder");
        for typed in ["photos", "photos/", "photos/.", "photos/sub/.."] {
            let source = SourcePlace::parse(place.path().join(typed).as_os_str()).expect("parses");
            assert_eq!(source.default_dataset().expect("a name").as_str(), "photos", "{typed}");
        }
    }
}
