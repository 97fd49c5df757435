//! Large objects, put in parts: begun, filled, and completed or given up.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::limits::S3_PART_BYTES;
use crate::net::http::Method;
use crate::net::s3::client::Call;
use crate::net::s3::client::Client;
use crate::net::s3::client::Refused;
use crate::net::s3::objects::Beside;
use crate::net::s3::objects::version_of;
use crate::net::s3::refusal;
use crate::net::s3::sign;
use crate::net::s3::xml;

/// An upload under way. Nothing is shown before it is completed.
#[derive(Debug)]
pub struct Parts<'a> {
    client: &'a Client,
    key: &'a str,
    upload: String,
    parts: Vec<Part>,
}

/// A part that was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its place, from 1.
    pub number: u64,
    etag: String,
    /// SHA-256 in base 64.
    checksum: String,
}

/// Whether what is there is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is.
    Replace,
    /// It is not, on stores that know the condition.
    Refuse,
}

impl<'a> Parts<'a> {
    /// Begins.
    ///
    /// # Errors
    /// As the store says.
    pub fn begin(client: &'a Client, key: &'a str, beside: &Beside) -> Result<Self> {
        let upload = client.begin_upload(key, beside)?;
        Ok(Parts { client, key, upload, parts: Vec::new() })
    }

    /// Adds a part; each but the last has the same size, 5 MiB at least.
    ///
    /// # Errors
    /// As the store says.
    pub fn add(&mut self, bytes: &[u8]) -> Result<()> {
        let number = self.parts.len() as u64 + 1;
        self.parts.push(self.client.put_part(self.key, &self.upload, number, bytes)?);
        Ok(())
    }

    /// Makes an object of the parts.
    ///
    /// # Errors
    /// `AlreadyExists` where that is refused; as the store says. See [`Refused`] for answers that
    /// were lost.
    pub fn complete(&self, taken: Taken) -> std::result::Result<(), Refused> {
        self.client.complete_upload(self.key, &self.upload, &self.parts, taken).map(|_| ())
    }

    /// Gives up what was stored.
    ///
    /// # Errors
    /// As the store says.
    pub fn abort(&self) -> Result<()> {
        self.client.abort_upload(self.key, &self.upload)
    }
}

impl Client {
    /// Begins an upload and returns its name; tags are not part of it.
    ///
    /// # Errors
    /// As the store says.
    pub fn begin_upload(&self, key: &str, beside: &Beside) -> Result<String> {
        let call = Call::new(Method::Post, "begin to store", key);
        let call = Call { query: &[("uploads", "")], ..call };
        let call = beside.described(call.header("x-amz-checksum-algorithm", "SHA256"));
        let (_, body) = self.ask(&call).map_err(Refused::into_error)?.value;
        xml::upload_id(&body)
    }

    /// Stores a part of an upload, in any order; each but the last has the same size, 5 MiB at
    /// least.
    ///
    /// # Errors
    /// As the store says.
    pub fn put_part(&self, key: &str, upload: &str, number: u64, bytes: &[u8]) -> Result<Part> {
        let text = number.to_string();
        let query = [("partNumber", text.as_str()), ("uploadId", upload)];
        let checksum = sign::base64(&sign::sha256(bytes));
        let call = Call::new(Method::Put, "store a part of", key)
            .header("x-amz-checksum-sha256", &checksum);
        let (answer, _) = self
            .ask(&Call { query: &query, body: bytes, ..call })
            .map_err(Refused::into_error)?
            .value;
        let etag = answer.header("etag").map(xml::unquoted).filter(|etag| !etag.is_empty());
        let etag = etag.ok_or_else(|| xml::garbled("a part has no ETag"))?;
        Ok(Part { number, etag, checksum })
    }

    /// Makes an object of parts, in the order of their numbers; returns its name among the versions
    /// of its key, where the store tells one.
    ///
    /// # Errors
    /// As [`Parts::complete`].
    pub fn complete_upload(
        &self,
        key: &str,
        upload: &str,
        parts: &[Part],
        taken: Taken,
    ) -> std::result::Result<Option<String>, Refused> {
        let rows = parts.iter().map(|part| {
            let Part { number, etag, checksum } = part;
            let etag = xml::escaped(&format!("\"{etag}\""));
            format!(
                "<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag>\
                 <ChecksumSHA256>{checksum}</ChecksumSHA256></Part>"
            )
        });
        let rows: String = rows.collect();
        let body = format!("<CompleteMultipartUpload>{rows}</CompleteMultipartUpload>");
        let query = [("uploadId", upload)];
        let call = Call::new(Method::Post, "store", key);
        let mut call = Call { query: &query, body: body.as_bytes(), ..call };
        if taken == Taken::Refuse {
            call = call.header("if-none-match", "*");
        }
        let done = self.ask(&call)?;
        let (answer, body) = done.value;
        // A store may find out late, when it has begun to say yes.
        let doing = format!("store {}", self.shown(key));
        let error = if xml::refusal(&body).is_some() {
            refusal::Refused { status: answer.status(), region: None, body: Some(&body) }
                .error(&doing)
        } else if let Err(e) = xml::confirmed(&body, "CompleteMultipartUploadResult") {
            // Whoever answers so, nobody has said that it was stored.
            let message = format!("cannot {doing}: the answer does not say that it is done");
            Error::new(ErrorKind::Unreachable, message).caused_by(e)
        } else {
            return Ok(version_of(&answer));
        };
        Err(Refused { error, is_doubtful: true, is_of_store: true })
    }

    /// Stores an object in parts.
    ///
    /// # Errors
    /// As [`Client::put`] and [`Client::put_new`]. Whatever happens, parts that are of no use are
    /// given up; where that fails too they stay until [`Client::abort_upload`].
    pub fn put_in_parts(
        &self,
        key: &str,
        bytes: &[u8],
        taken: Taken,
    ) -> std::result::Result<(), Refused> {
        let sure = |error| Refused { error, is_doubtful: false, is_of_store: false };
        let mut parts = Parts::begin(self, key, &Beside::default()).map_err(sure)?;
        let mut filled = bytes.chunks(S3_PART_BYTES).map(|part| parts.add(part));
        let outcome = filled.try_for_each(|outcome| outcome).map_err(sure);
        let outcome = outcome.and_then(|()| parts.complete(taken));
        if outcome.is_err() {
            let _ = parts.abort();
        }
        outcome
    }

    /// Returns how many bytes an upload holds; what is beyond its first thousand parts is not
    /// counted.
    ///
    /// # Errors
    /// `NotFound`; as the store says.
    pub fn upload_bytes(&self, key: &str, upload: &str) -> Result<u64> {
        let query = [("uploadId", upload)];
        let call = Call { query: &query, ..Call::new(Method::Get, "list the parts of", key) };
        let (_, body) = self.ask(&call).map_err(Refused::into_error)?.value;
        xml::parts_bytes(&body)
    }

    /// Gives up an upload; a missing one is success.
    ///
    /// # Errors
    /// As the store says.
    pub fn abort_upload(&self, key: &str, upload: &str) -> Result<()> {
        let query = [("uploadId", upload)];
        let call = Call { query: &query, ..Call::new(Method::Delete, "give up a part of", key) };
        match self.ask(&call).map_err(Refused::into_error) {
            Ok(_) => Ok(()),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
            Err(e) => Err(e),
        }
    }
}
