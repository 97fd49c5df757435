//! Verifies every object by its own checksum, which needs no password: what a storage server, or
//! somebody who keeps the disks and not the key, can know of a repository.
//!
//! It finds what has rotted, was cut or stands under the name of another kind. What is missing, and
//! what was put there by somebody who can write, it cannot see.

use crate::backend::Backend;
use crate::backend::ObjectInfo;
use crate::backend::key::ObjectKey;
use crate::backend::list_all;
use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::limits::INDEX_BYTES_MAX;
use crate::base::progress::Counter;
use crate::base::progress::Phase;
use crate::base::progress::Totals;
use crate::codec::frame;
use crate::codec::frame::ObjectKind;
use crate::engine::Context;
use crate::engine::check::CheckReport;
use crate::engine::check::Finding;
use crate::engine::check::Severity;
use crate::engine::check::damage_of;
use crate::engine::pool::Pool;
use crate::format::parity;
use crate::repository::layout;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

/// Reads every object of a repository and verifies its checksum, and the name of each pack.
/// Holds the names of all objects of one top folder, and one object a thread.
///
/// # Errors
/// Those of the backend that concern more than one object; `Cancelled`. Damage is no error but a
/// finding.
pub fn scrub(backend: &dyn Backend, context: &Context<'_>) -> Result<CheckReport> {
    let started = context.clock.now();
    let scrub = Scrub { backend, context, findings: Mutex::default(), bytes: AtomicU64::new(0) };
    let mut packs = 0;
    scrub.read(&layout::config()?)?;
    for folder in layout::FOLDERS {
        let objects = scrub.list(folder)?;
        let bytes = objects.iter().filter_map(|object| object.size).fold(0, u64::saturating_add);
        context.progress.start(Phase::Check, Totals { files: None, bytes: Some(bytes) });
        let done = scrub.read_all(&objects);
        context.progress.finish();
        done?;
        if folder == "packs" {
            packs = objects.len() as u64;
        }
    }
    let mut findings = scrub.findings.into_inner().unwrap_or_else(PoisonError::into_inner);
    findings.sort_by(|a, b| a.object.cmp(&b.object));
    Ok(CheckReport {
        findings,
        datasets: 0,
        backups: 0,
        packs,
        blocks: 0,
        blobs: 0,
        bytes_read: scrub.bytes.into_inner(),
        seconds: context.clock.now().seconds_since(started),
    })
}

struct Scrub<'a> {
    backend: &'a dyn Backend,
    context: &'a Context<'a>,
    findings: Mutex<Vec<Finding>>,
    bytes: AtomicU64,
}

impl Scrub<'_> {
    fn list(&self, folder: &str) -> Result<Vec<ObjectInfo>> {
        let mut objects = Vec::new();
        list_all(self.backend, &layout::folder(folder)?, &mut |object| {
            self.context.cancel.check()?;
            objects.push(object);
            Ok(())
        })?;
        Ok(objects)
    }

    fn read_all(&self, objects: &[ObjectInfo]) -> Result<()> {
        let read = |object: &ObjectInfo| {
            self.context.cancel.check()?;
            self.read(&object.key)?;
            self.context.progress.count(Counter::Bytes, object.size.unwrap_or(0));
            Ok(())
        };
        Pool::new(self.context.threads)?.map(objects, read).into_iter().collect()
    }

    fn read(&self, key: &ObjectKey) -> Result<()> {
        // Nothing is longer than an index.
        let bytes = match self.backend.get(key, INDEX_BYTES_MAX) {
            Ok(bytes) => bytes,
            // A prune, or whoever wrote it, has taken it away meanwhile.
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
            Err(e) => return self.note(key, &damage_of(e)?),
        };
        self.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        verify(key, &bytes).or_else(|e| self.note(key, &e))
    }

    fn note(&self, key: &ObjectKey, error: &Error) -> Result<()> {
        let finding = Finding::of(Severity::Damage, key.as_str(), error.full_message());
        self.findings.lock().unwrap_or_else(PoisonError::into_inner).push(finding);
        Ok(())
    }
}

/// Compares an object with its own checksum, and a pack with its name.
fn verify(key: &ObjectKey, bytes: &[u8]) -> Result<()> {
    let Some(kind) = frame::peek_kind(bytes) else {
        return Err(Error::corrupt("it does not begin like an icecore object"));
    };
    frame::open(kind, bytes, key.name())?;
    let is_its_own = kind != ObjectKind::Pack
        || key.name().parse().is_ok_and(|pack| parity::is_pack(&pack, bytes));
    if is_its_own { Ok(()) } else { Err(Error::corrupt("it is the pack of another name")) }
}
