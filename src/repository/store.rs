//! Records on a backend: sealed on the way down, opened on the way up.

use crate::backend::Backend;
use crate::backend::ObjectInfo;
use crate::backend::all_below;
use crate::backend::key::FolderKey;
use crate::backend::key::ObjectKey;
use crate::backend::names_below;
use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::limits::RECORD_BYTES_MAX;
use crate::codec::frame::ObjectKind;
use crate::codec::seal::Sealer;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;

/// A backend with the sealer of the repository on it; cloning shares both.
#[derive(Clone)]
pub struct Store {
    backend: Arc<dyn Backend>,
    sealer: Arc<Sealer>,
}

impl Store {
    /// Puts the two together.
    pub fn new(backend: Arc<dyn Backend>, sealer: Sealer) -> Self {
        Store { backend, sealer: Arc::new(sealer) }
    }

    /// Returns the backend.
    pub fn backend(&self) -> &dyn Backend {
        &*self.backend
    }

    /// Returns the sealer.
    pub fn sealer(&self) -> &Sealer {
        &self.sealer
    }

    /// Says whether the backend has an atomic create: class A of the protocol.
    pub fn is_class_a(&self) -> bool {
        self.backend.capabilities().atomic_create
    }

    /// Puts a record.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn put<T: Serialize>(&self, kind: ObjectKind, key: &ObjectKey, record: &T) -> Result<()> {
        let bytes = self.sealer.seal_record(kind, key.as_str(), record)?;
        self.backend.put(key, &bytes).map_err(|e| at_repository(e, "write", kind, key))
    }

    /// Puts a record unless its key is taken; returns whether it was this one that took it.
    ///
    /// # Errors
    /// Those of the backend but `AlreadyExists`.
    pub fn put_new<T: Serialize>(
        &self,
        kind: ObjectKind,
        key: &ObjectKey,
        record: &T,
    ) -> Result<bool> {
        self.put_new_bytes(kind, key, &self.sealer.seal_record(kind, key.as_str(), record)?)
    }

    /// Puts a sealed object unless its key is taken; returns whether it was this one. A reply
    /// that was lost is settled by looking at what is there: every seal has its own salt or
    /// names its lease, so equal bytes are this very call's.
    ///
    /// # Errors
    /// Those of the backend but `AlreadyExists`.
    pub fn put_new_bytes(&self, kind: ObjectKind, key: &ObjectKey, bytes: &[u8]) -> Result<bool> {
        match self.backend.put_new(key, bytes) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                let there = self.backend.get(key, bytes.len().max(RECORD_BYTES_MAX));
                // It may be this one, put by a try whose answer was lost.
                let there =
                    there.map_err(|e| at_repository(e, "read", kind, key).after_a_lost_answer())?;
                Ok(there == bytes)
            }
            Err(e) => Err(at_repository(e, "write", kind, key)),
        }
    }

    /// Puts a record under a key that nobody is to have taken before; returns whether it is this
    /// one that stands there.
    ///
    /// With an atomic create the first wins. Without one the key is looked at before and after:
    /// of two that put at the very same moment the later one may win unnoticed by the first.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn put_first<T: Serialize>(
        &self,
        kind: ObjectKind,
        key: &ObjectKey,
        record: &T,
    ) -> Result<bool> {
        let bytes = self.sealer.seal_record(kind, key.as_str(), record)?;
        if self.is_class_a() {
            return self.put_new_bytes(kind, key, &bytes);
        }
        if self.look(kind, key)?.is_some() {
            return Ok(false);
        }
        let put = self.backend.put(key, &bytes).map_err(|e| at_repository(e, "write", kind, key));
        // A reply that was lost is settled by what is there.
        match (put, self.look(kind, key)) {
            (_, Ok(Some(there))) => Ok(there == bytes),
            (Err(e), _) | (Ok(()), Err(e)) => Err(e),
            (Ok(()), Ok(None)) => {
                let message = format!("{} {key} was written and is not there", kind.word());
                Err(Error::corrupt(message).at(Origin::Repository))
            }
        }
    }

    fn look(&self, kind: ObjectKind, key: &ObjectKey) -> Result<Option<Vec<u8>>> {
        match self.get_bytes(kind, key) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Returns a record and the bytes of its object.
    ///
    /// # Errors
    /// `NotFound`; `Corrupt`; those of the backend.
    pub fn get<T: DeserializeOwned + Serialize>(
        &self,
        kind: ObjectKind,
        key: &ObjectKey,
    ) -> Result<T> {
        let bytes = self.get_bytes(kind, key)?;
        self.sealer.open_record(kind, key.as_str(), &bytes).map_err(|e| e.at(Origin::Repository))
    }

    /// Returns the bytes of a record's object, unopened.
    ///
    /// # Errors
    /// `NotFound`; those of the backend.
    pub fn get_bytes(&self, kind: ObjectKind, key: &ObjectKey) -> Result<Vec<u8>> {
        let got = self.backend.get(key, RECORD_BYTES_MAX);
        got.map_err(|e| at_repository(e, "read", kind, key))
    }

    /// Returns the names of all objects below a folder, at any depth.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn names_below(&self, folder: &FolderKey) -> Result<Vec<ObjectKey>> {
        Ok(self.listed_below(folder)?.into_iter().map(|object| object.key).collect())
    }

    /// Returns what a listing shows of all objects below a folder, at any depth.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn objects_below(&self, folder: &FolderKey) -> Result<Vec<ObjectInfo>> {
        all_below(self.backend(), folder).map_err(|e| cannot_list(e, folder))
    }

    /// Returns the names of all objects below a folder, at any depth, with sizes and times where
    /// these cost nothing more.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn listed_below(&self, folder: &FolderKey) -> Result<Vec<ObjectInfo>> {
        names_below(self.backend(), folder).map_err(|e| cannot_list(e, folder))
    }

    /// Makes durable all that was shown of the repository, before anything leans on it for good.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn settle(&self) -> Result<()> {
        let settled = self.backend.settle();
        settled.map_err(|e| {
            e.context("cannot make durable what is in the repository").at(Origin::Repository)
        })
    }

    /// Deletes an object.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn delete(&self, key: &ObjectKey) -> Result<()> {
        let done = self.backend.delete(key);
        done.map_err(|e| e.context(format!("cannot delete {key}")).at(Origin::Repository))
    }
}

fn cannot_list(error: Error, folder: &FolderKey) -> Error {
    error.context(format!("cannot list {folder}")).at(Origin::Repository)
}

fn at_repository(error: Error, verb: &str, kind: ObjectKind, key: &ObjectKey) -> Error {
    error.context(format!("cannot {verb} {} {key}", kind.word())).at(Origin::Repository)
}
