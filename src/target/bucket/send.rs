//! How content comes into a bucket, and what stands beside it.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::limits::S3_COPY_BYTES_MAX;
use crate::base::limits::S3_PART_BYTES;
use crate::base::path::EntryPath;
use crate::net::s3::objects::Beside;
use crate::net::s3::upload::Part;
use crate::net::s3::upload::Taken;
use crate::target::bucket::Begun;
use crate::target::bucket::BucketTarget;
use crate::target::bucket::content::Content;
use crate::target::bucket::place::is_passing;
use crate::target::bucket::stand::Stand;
use crate::target::bucket::wanted::stands;
use std::sync::PoisonError;
use std::time::Duration;

/// Bytes read at a time of an object that is fetched.
const FETCH_BYTES: usize = 256 * 1024;
/// Waits before an upload is completed again.
const WAITS: [Option<Duration>; 3] =
    [Some(Duration::from_secs(1)), Some(Duration::from_secs(10)), None];

impl BucketTarget {
    /// Sends a part that has all of its content.
    pub(super) fn send_part(&self, key: &str, begun: &Begun, number: u64) -> Result<()> {
        // Parts beyond the usual size are those of files of over 150 GiB.
        let is_large = begun.content().part_bytes() > S3_PART_BYTES as u64;
        let _one_at_a_time =
            is_large.then(|| self.large.lock().unwrap_or_else(PoisonError::into_inner));
        let (upload, bytes) = {
            let mut content = begun.content();
            let upload = content.upload(|beside| self.begin(key, beside))?;
            (upload, content.part(number)?)
        };
        let part = self.ask(|| self.client.put_part(key, &upload, number, &bytes))?;
        begun.content().sent(part);
        Ok(())
    }

    fn begin(&self, key: &str, beside: &Beside) -> Result<String> {
        self.ask(|| self.client.begin_upload(key, beside))
    }

    /// Makes an object of what was gathered.
    pub(super) fn put(
        &self,
        path: &EntryPath,
        content: &mut Content,
        beside: &Beside,
    ) -> Result<()> {
        let key = self.key(path)?;
        let size = content.spool.len();
        content.was_put = true;
        if content.sent_with().is_none() && size <= S3_PART_BYTES as u64 {
            let mut bytes = vec![0; size as usize];
            content.spool.read_at(0, &mut bytes)?;
            self.ask(|| self.client.put(&key, &bytes, beside))?;
        } else {
            self.put_in_parts(&key, content, beside)?;
        }
        self.has_put(path, size);
        Ok(())
    }

    /// Notes an object that was put.
    pub(super) fn has_put(&self, path: &EntryPath, size: u64) {
        self.state().known.put(path, Stand::file(size));
        self.show_folder_of(path);
    }

    /// Notes that the folder a path is in needs nothing more to be seen.
    pub(super) fn show_folder_of(&self, path: &EntryPath) {
        if let Some(parent) = path.parent()
            && let Some(holds_something) = self.state().made.get_mut(&parent)
        {
            *holds_something = true;
        }
    }

    fn put_in_parts(&self, key: &str, content: &mut Content, beside: &Beside) -> Result<()> {
        let size = content.spool.len();
        let (upload, parts) = self.send_all(key, content, beside)?;
        let version = self.complete(key, &upload, &parts, size, beside)?;
        // It is an object now, and nothing to give up.
        let _ = content.take_upload();
        if !beside.tags.is_empty() {
            self.ask(|| self.client.set_tags(key, version.as_deref(), &beside.tags))?;
        }
        Ok(())
    }

    /// Sends all that was not sent yet as parts of an upload.
    pub(super) fn send_all(
        &self,
        key: &str,
        content: &mut Content,
        beside: &Beside,
    ) -> Result<(String, Vec<Part>)> {
        content.send_rest(beside)?;
        let upload = content.upload(|beside| self.begin(key, beside))?;
        for number in content.unsent() {
            let bytes = content.part(number)?;
            content.sent(self.ask(|| self.client.put_part(key, &upload, number, &bytes))?);
        }
        Ok((upload, content.parts()))
    }

    /// Makes an object of parts; returns the name of the version, where the store tells one.
    pub(super) fn complete(
        &self,
        key: &str,
        upload: &str,
        parts: &[Part],
        size: u64,
        beside: &Beside,
    ) -> Result<Option<String>> {
        let mut is_doubtful = false;
        for wait in WAITS {
            let refused = match self.client.complete_upload(key, upload, parts, Taken::Replace) {
                Ok(version) => return Ok(version),
                Err(refused) => refused,
            };
            is_doubtful |= refused.is_doubtful;
            // Nobody else ends an upload of ours: it was completed, and the answer was lost.
            if is_doubtful && refused.error.kind() == ErrorKind::NotFound {
                let head = self.ask(|| self.client.head(key, None))?;
                let head = head.filter(|head| head.size == size && stands(beside, head));
                return head.map(|head| head.version).ok_or(refused.error);
            }
            match wait.filter(|_| is_passing(&refused.error)) {
                Some(wait) => self.client.wait(wait)?,
                None => return Err(refused.error),
            }
        }
        Err(Error::bug("an upload was never completed"))
    }

    /// Gathers an object that stands there.
    pub(super) fn fetch(&self, key: &str, content: &mut Content) -> Result<()> {
        let fetched = self.ask(|| {
            let mut fetched = Content::new();
            let mut opened = self.client.open(key, None, 0, None)?;
            let mut buffer = vec![0; FETCH_BYTES];
            let mut at = 0;
            loop {
                let count = opened.read(&mut buffer)?;
                if count == 0 {
                    return Ok(fetched);
                }
                fetched.write_at(at, &buffer[..count], &self.scratch)?;
                at += count as u64;
            }
        })?;
        content.spool = fetched.spool;
        Ok(())
    }

    /// Puts other things beside an object; where the store cannot, it is put anew.
    pub(super) fn describe(&self, path: &EntryPath, size: u64, beside: &Beside) -> Result<()> {
        let key = self.key(path)?;
        if size <= S3_COPY_BYTES_MAX {
            match self.ask(|| self.client.copy(&key, &key, Some(beside))) {
                Err(e) if may_go_another_way(&e) => {}
                other => {
                    self.state().known.put(path, Stand::file(size));
                    return other;
                }
            }
        }
        let mut content = Content::new();
        self.fetch(&key, &mut content)?;
        self.put(path, &mut content, beside)
    }

    /// Makes an object as another one is.
    pub(super) fn duplicate(&self, existing: &EntryPath, path: &EntryPath) -> Result<()> {
        let (from, to) = (self.key(existing)?, self.key(path)?);
        let head = self.ask(|| self.client.head(&from, None))?;
        let head = head.ok_or_else(|| Error::new(ErrorKind::NotFound, "it is not there"))?;
        if head.size <= S3_COPY_BYTES_MAX {
            match self.ask(|| self.client.copy(&from, &to, None)) {
                Err(e) if may_go_another_way(&e) => {}
                other => {
                    self.has_put(path, head.size);
                    return other;
                }
            }
        }
        let tags = match head.tags {
            0 => Vec::new(),
            _ => self.ask(|| self.client.tags(&from, None))?,
        };
        let (content_type, own, said) = (head.content_type, head.own, head.said);
        let mut content = Content::new();
        self.fetch(&from, &mut content)?;
        self.put(path, &mut content, &Beside { content_type, own, said, tags })
    }
}

/// Says whether a store that does not copy may take the same as content.
fn may_go_another_way(e: &Error) -> bool {
    let kinds = [
        ErrorKind::Unsupported,
        ErrorKind::InvalidInput,
        ErrorKind::Io,
        ErrorKind::Corrupt,
        ErrorKind::Full,
    ];
    kinds.contains(&e.kind())
}
