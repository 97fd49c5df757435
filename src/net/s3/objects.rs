//! One object of a bucket: read, looked at, stored, deleted; and its tags.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::time::Timestamp;
use crate::net::http::Answer;
use crate::net::http::Failure;
use crate::net::http::Method;
use crate::net::s3::client::Call;
use crate::net::s3::client::Client;
use crate::net::s3::client::Done;
use crate::net::s3::client::Refused;
use crate::net::s3::refusal;
use crate::net::s3::sign;
use crate::net::s3::xml;
use std::ops::Range;

/// What begins the names of headers that hold a user's own words.
const OWN: &str = "x-amz-meta-";
/// Headers that a store keeps with an object and says again to whoever reads it.
pub const SAID: [&str; 5] =
    ["cache-control", "content-disposition", "content-encoding", "content-language", "expires"];

/// What a store tells of an object before its content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Its size in bytes; of a stretch that was opened, what is left from there.
    pub size: u64,
    /// The store's word for its content, without quotes.
    pub etag: String,
    /// Its name among the versions of its key.
    pub version: Option<String>,
    /// When it was put.
    pub modified: Option<Timestamp>,
    /// What its content is.
    pub content_type: Option<String>,
    /// A user's own words, names in small letters, sorted.
    pub own: Vec<(String, String)>,
    /// Those of [`SAID`] that it has.
    pub said: Vec<(String, String)>,
    /// How many tags it has.
    pub tags: usize,
}

/// What is stored beside the content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Beside {
    /// What the content is.
    pub content_type: Option<String>,
    /// A user's own words, names in small letters.
    pub own: Vec<(String, String)>,
    /// Some of [`SAID`].
    pub said: Vec<(String, String)>,
    /// Tags.
    pub tags: Vec<(String, String)>,
}

impl Beside {
    /// Adds all but the tags to a request.
    pub(crate) fn described<'a>(&self, mut call: Call<'a>) -> Call<'a> {
        if let Some(content_type) = &self.content_type {
            call = call.header("content-type", content_type);
        }
        for (name, value) in &self.said {
            call = call.header(name, value);
        }
        for (name, value) in &self.own {
            call = call.header(&format!("{OWN}{name}"), value);
        }
        call
    }

    fn tagging(&self) -> String {
        let tags: Vec<_> = self.tags.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        sign::query(&tags)
    }
}

/// An object that is being read.
pub struct Opened {
    /// What the store tells of it.
    pub head: Head,
    answer: Answer,
}

impl Opened {
    /// Reads some more; 0 at the end.
    ///
    /// # Errors
    /// `Unreachable` when it breaks off before the end.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        self.answer.read(buffer).map_err(|failure| failure.error)
    }
}

impl Client {
    /// Returns a whole object.
    ///
    /// # Errors
    /// `NotFound`; `Corrupt` when it is longer than `bytes_max`.
    pub fn get(&self, key: &str, bytes_max: usize) -> Result<Vec<u8>> {
        let call = Call::new(Method::Get, "read", key);
        let done = self.run(&call, |mut answer| {
            if answer.length().is_some_and(|length| length > bytes_max as u64) {
                return Ok(None);
            }
            let bytes = answer.read_all(bytes_max)?;
            if bytes.is_some() && !answer.shows_end() {
                return Err(Failure::without_end());
            }
            Ok(bytes)
        });
        done.map_err(Refused::into_error)?.value.ok_or_else(|| {
            let shown = self.shown(key);
            Error::corrupt(format!("cannot read {shown}: it has more than {bytes_max} bytes"))
        })
    }

    /// Returns a stretch of an object, of one version where that is named; it is shorter than
    /// asked where the object ends.
    ///
    /// # Errors
    /// `NotFound`; `Corrupt` where the stretch begins at the end or behind it.
    pub fn get_range(
        &self,
        key: &str,
        version: Option<&str>,
        range: Range<u64>,
    ) -> Result<Vec<u8>> {
        if range.is_empty() {
            return Err(Error::bug("nothing is asked of an object"));
        }
        let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        let query: Vec<_> = version.map(|version| ("versionId", version)).into_iter().collect();
        let call = Call::new(Method::Get, "read", key)
            .header("range", format!("bytes={}-{}", range.start, range.end - 1));
        let call = Call { query: &query, ..call };
        let done = self.run(&call, |mut answer| {
            let is_stretch = answer.header("content-range").is_some();
            match starts_at(&answer) {
                Some(start) if start == range.start && is_stretch => {
                    let bytes = answer.read_all(length)?;
                    let came = bytes.as_ref().map(|bytes| bytes.len() as u64);
                    if came.is_some() && !answer.shows_end() && came != stretch_bytes(&answer) {
                        return Err(Failure::without_end());
                    }
                    Ok(bytes)
                }
                // A store that knows no ranges sends all of it.
                Some(0) => {
                    let bytes = match skip(&mut answer, range.start)? {
                        true => Some(some(&mut answer, length)?),
                        false => None,
                    };
                    let is_all = bytes.as_ref().is_some_and(|bytes| bytes.len() == length);
                    if !is_all && !answer.shows_end() {
                        return Err(Failure::without_end());
                    }
                    Ok(bytes)
                }
                _ => Ok(None),
            }
        });
        done.map_err(Refused::into_error)?.value.ok_or_else(|| {
            let shown = self.shown(key);
            Error::corrupt(format!("cannot read {shown}: it has no bytes {range:?}"))
        })
    }

    /// Begins to read an object, of one version where that is named, at `from`. Where an `etag` is
    /// given it has to be the object's still.
    ///
    /// # Errors
    /// `NotFound`; `AlreadyExists` when there is another object now; as the store says.
    pub fn open(
        &self,
        key: &str,
        version: Option<&str>,
        from: u64,
        etag: Option<&str>,
    ) -> Result<Opened> {
        let query: Vec<_> = version.map(|version| ("versionId", version)).into_iter().collect();
        let mut call = Call { query: &query, ..Call::new(Method::Get, "read", key) };
        if from > 0 {
            call = call.header("range", format!("bytes={from}-"));
        }
        if let Some(etag) = etag {
            call = call.header("if-match", format!("\"{etag}\""));
        }
        let done = self.run(&call, Ok).map_err(Refused::into_error)?;
        let mut answer = done.value;
        let size = answer.length();
        let size = size.ok_or_else(|| xml::garbled("it does not say how long an object is"))?;
        let mut head = Head { size, ..head(&answer) };
        match starts_at(&answer) {
            Some(start) if start == from => {}
            Some(0) => {
                skip(&mut answer, from).map_err(|failure| failure.error)?;
                head.size = head.size.saturating_sub(from);
            }
            _ => return Err(xml::garbled("it is another stretch of an object than was asked")),
        }
        Ok(Opened { head, answer })
    }

    /// Looks at an object, or at one version of it; None when it is not there.
    ///
    /// # Errors
    /// As the store says.
    pub fn head(&self, key: &str, version: Option<&str>) -> Result<Option<Head>> {
        let query: Vec<_> = version.map(|version| ("versionId", version)).into_iter().collect();
        let call = Call { query: &query, ..Call::new(Method::Head, "look at", key) };
        match self.ask(&call) {
            Ok(Done { value: (answer, _), .. }) => {
                let size = answer.length();
                let size = size.ok_or_else(|| xml::garbled("an object's size is missing"))?;
                Ok(Some(Head { size, ..head(&answer) }))
            }
            Err(refused) if refused.error.kind() != ErrorKind::NotFound => Err(refused.error),
            Err(refused) if refused.is_of_store => Ok(None),
            Err(refused) => self.confirm_missing(key, version, refused.error),
        }
    }

    /// Asks for an object that somebody did not find who does not show to be the store: asked for
    /// content the store says so in words.
    fn confirm_missing<T>(
        &self,
        key: &str,
        version: Option<&str>,
        missing: Error,
    ) -> Result<Option<T>> {
        match self.get_range(key, version, 0..1) {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) if e.kind() != ErrorKind::Corrupt => Err(e),
            // It is there, or is an empty one.
            _ => {
                let message =
                    format!("cannot look at {}: it was and was not there", self.shown(key));
                Err(Error::new(ErrorKind::Unreachable, message).caused_by(missing))
            }
        }
    }

    /// Stores an object by one request.
    ///
    /// # Errors
    /// As the store says.
    pub fn put(&self, key: &str, bytes: &[u8], beside: &Beside) -> Result<()> {
        self.put_version(key, bytes, beside).map(|_| ())
    }

    /// Stores an object by one request, and returns its name among the versions of its key, where
    /// the store tells one.
    ///
    /// # Errors
    /// As the store says.
    pub fn put_version(&self, key: &str, bytes: &[u8], beside: &Beside) -> Result<Option<String>> {
        self.put_if(key, bytes, beside, None).map_err(Refused::into_error)
    }

    /// Stores an object by one request unless there is one, on stores that know the condition;
    /// others replace what is there, and say nothing.
    ///
    /// # Errors
    /// `AlreadyExists`; `Busy` when another is being stored there. See [`Refused`] for answers
    /// that were lost.
    pub fn put_new(&self, key: &str, bytes: &[u8]) -> std::result::Result<(), Refused> {
        self.put_if(key, bytes, &Beside::default(), Some("*")).map(|_| ())
    }

    fn put_if(
        &self,
        key: &str,
        bytes: &[u8],
        beside: &Beside,
        none_match: Option<&str>,
    ) -> std::result::Result<Option<String>, Refused> {
        let mut call = Call { body: bytes, ..Call::new(Method::Put, "store", key) };
        call = call.header("x-amz-checksum-sha256", sign::base64(&sign::sha256(bytes)));
        if let Some(none_match) = none_match {
            call = call.header("if-none-match", none_match);
        }
        call = beside.described(call);
        if !beside.tags.is_empty() {
            call = call.header("x-amz-tagging", beside.tagging());
        }
        let done = self.ask(&call)?;
        Ok(version_of(&done.value.0))
    }

    /// Makes an object of another one's content, or anew of its own, of up to
    /// [`crate::base::limits::S3_COPY_BYTES_MAX`]; with what stood beside it, or with `beside`.
    ///
    /// # Errors
    /// `NotFound`; `Unsupported` where the store cannot; `Corrupt` for an answer that does not say
    /// that it was done; as it says.
    pub fn copy(&self, from: &str, to: &str, beside: Option<&Beside>) -> Result<()> {
        self.copy_from(sign::encoded(from, "/"), to, beside).map(drop)
    }

    /// Makes the last version of a key of an older one, with `beside`; returns its name, where the
    /// store tells one.
    ///
    /// # Errors
    /// As [`Client::copy`].
    pub fn copy_version(
        &self,
        key: &str,
        version: &str,
        beside: &Beside,
    ) -> Result<Option<String>> {
        let version = sign::encoded(version, "");
        let from = format!("{}?versionId={version}", sign::encoded(key, "/"));
        self.copy_from(from, key, Some(beside))
    }

    fn copy_from(&self, from: String, to: &str, beside: Option<&Beside>) -> Result<Option<String>> {
        let source = format!("/{}/{from}", self.bucket());
        let mut call = Call::new(Method::Put, "copy to", to).header("x-amz-copy-source", source);
        if let Some(beside) = beside {
            call = beside.described(call).header("x-amz-metadata-directive", "REPLACE");
            call = call.header("x-amz-tagging-directive", "REPLACE");
            if !beside.tags.is_empty() {
                call = call.header("x-amz-tagging", beside.tagging());
            }
        }
        let (answer, body) = self.ask(&call).map_err(Refused::into_error)?.value;
        // A store may find out late, when it has begun to say yes.
        if xml::refusal(&body).is_some() {
            let refused =
                refusal::Refused { status: answer.status(), region: None, body: Some(&body) };
            return Err(refused.error(&format!("copy to {}", self.shown(to))));
        }
        xml::confirmed(&body, "CopyObjectResult")
            .map_err(|e| e.context(format!("cannot copy to {}", self.shown(to))))?;
        Ok(version_of(&answer))
    }

    /// Deletes an object; a missing one is success.
    ///
    /// # Errors
    /// As the store says.
    pub fn delete(&self, key: &str) -> Result<()> {
        self.mark_deleted(key).map(drop)
    }

    /// Deletes an object as [`Client::delete`] does, and returns the name of the mark that stands
    /// for it among the versions of its key, where there is one.
    ///
    /// # Errors
    /// As the store says.
    pub fn mark_deleted(&self, key: &str) -> Result<Option<String>> {
        self.remove(key, None)
    }

    /// Deletes one version for good, or without a name the object; a missing one is success.
    ///
    /// # Errors
    /// As the store says.
    pub fn delete_version(&self, key: &str, version: Option<&str>) -> Result<()> {
        self.remove(key, version).map(drop)
    }

    fn remove(&self, key: &str, version: Option<&str>) -> Result<Option<String>> {
        let query: Vec<_> = version.map(|version| ("versionId", version)).into_iter().collect();
        let call = Call::new(Method::Delete, "delete", key);
        match self.ask(&Call { query: &query, ..call }) {
            Ok(done) => Ok(version_of(&done.value.0)),
            Err(refused) if refused.error.kind() == ErrorKind::NotFound => Ok(None),
            Err(refused) => Err(refused.error),
        }
    }

    /// Returns the tags of an object, or of one version of it.
    ///
    /// # Errors
    /// `NotFound`; `Unsupported` where the store has none.
    pub fn tags(&self, key: &str, version: Option<&str>) -> Result<Vec<(String, String)>> {
        let mut query = vec![("tagging", "")];
        query.extend(version.map(|version| ("versionId", version)));
        let call = Call { query: &query, ..Call::new(Method::Get, "read the tags of", key) };
        let (_, body) = self.ask(&call).map_err(Refused::into_error)?.value;
        xml::tags(&body)
    }

    /// Replaces the tags of an object, or of one version of it.
    ///
    /// # Errors
    /// `NotFound`; `Unsupported` where the store has none.
    pub fn set_tags(
        &self,
        key: &str,
        version: Option<&str>,
        tags: &[(String, String)],
    ) -> Result<()> {
        let rows: String = tags
            .iter()
            .map(|(name, value)| {
                let (name, value) = (xml::escaped(name), xml::escaped(value));
                format!("<Tag><Key>{name}</Key><Value>{value}</Value></Tag>")
            })
            .collect();
        let body = format!("<Tagging><TagSet>{rows}</TagSet></Tagging>");
        let call = Call::new(Method::Put, "set the tags of", key)
            .header("x-amz-checksum-sha256", sign::base64(&sign::sha256(body.as_bytes())));
        let mut query = vec![("tagging", "")];
        query.extend(version.map(|version| ("versionId", version)));
        self.ask(&Call { query: &query, body: body.as_bytes(), ..call })
            .map_err(Refused::into_error)?;
        Ok(())
    }
}

/// Returns the name of a version, where the store tells one.
pub(crate) fn version_of(answer: &Answer) -> Option<String> {
    let version = answer.header("x-amz-version-id").filter(|version| !version.is_empty());
    version.map(str::to_owned)
}

fn head(answer: &Answer) -> Head {
    let text = |name: &str| answer.header(name).map(str::to_owned);
    let own = answer.headers().iter();
    let own = own.filter_map(|(name, value)| {
        Some((name.strip_prefix(OWN)?.to_ascii_lowercase(), value.clone()))
    });
    let mut own: Vec<_> = own.collect();
    own.sort_unstable();
    Head {
        size: 0,
        etag: xml::unquoted(answer.header("etag").unwrap_or_default()),
        version: version_of(answer),
        modified: answer.header("last-modified").and_then(Timestamp::from_http_date),
        content_type: text("content-type"),
        own,
        said: SAID.iter().filter_map(|name| Some(((*name).to_owned(), text(name)?))).collect(),
        tags: answer.header("x-amz-tagging-count").and_then(|it| it.parse().ok()).unwrap_or(0),
    }
}

/// Returns where what is sent begins, as the store says: the number of the answer does not tell, as
/// one store says 200 to a stretch too.
fn starts_at(answer: &Answer) -> Option<u64> {
    let Some(range) = answer.header("content-range") else {
        return (answer.status() != 206).then_some(0);
    };
    range.trim().strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok()
}

/// Returns how many bytes are sent of an object, where the store says which they are.
fn stretch_bytes(answer: &Answer) -> Option<u64> {
    let range = answer.header("content-range")?.trim().strip_prefix("bytes ")?;
    let (first, last) = range.split('/').next()?.split_once('-')?;
    let (first, last): (u64, u64) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    last.checked_sub(first)?.checked_add(1)
}

/// Reads over so many bytes; says whether there were more than that.
fn skip(answer: &mut Answer, bytes: u64) -> std::result::Result<bool, Failure> {
    let mut buffer = [0; 16 * 1024];
    let mut left = bytes;
    while left > 0 {
        let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        match answer.read(&mut buffer[..most])? {
            0 => return Ok(false),
            read => left -= read as u64,
        }
    }
    Ok(true)
}

/// Reads so many bytes, or fewer where the content ends.
fn some(answer: &mut Answer, length: usize) -> std::result::Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 16 * 1024];
    while bytes.len() < length {
        let most = buffer.len().min(length - bytes.len());
        match answer.read(&mut buffer[..most])? {
            0 => break,
            read => bytes.extend_from_slice(&buffer[..read]),
        }
    }
    Ok(bytes)
}
