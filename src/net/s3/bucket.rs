//! The bucket itself: is it there, where, and make it.

use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::net::http::Method;
use crate::net::s3::client::Call;
use crate::net::s3::client::Client;
use crate::net::s3::client::REGION;
use crate::net::s3::client::Refused;
use crate::net::s3::sign;
use crate::net::s3::xml;

impl Client {
    /// Says whether the bucket is there.
    ///
    /// # Errors
    /// As the store says; `Denied` for a bucket of somebody else.
    pub fn has_bucket(&self) -> Result<bool> {
        match self.ask(&Call::new(Method::Head, "look at", "")).map_err(Refused::into_error) {
            Ok(_) => Ok(true),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Returns the region of the bucket, as the store says.
    ///
    /// # Errors
    /// `NoRepository` without the bucket; as the store says.
    pub fn location(&self) -> Result<String> {
        let call = Call::new(Method::Get, "find the region of", "");
        let (_, body) = self
            .ask(&Call { query: &[("location", "")], ..call })
            .map_err(Refused::into_error)?
            .value;
        let location = xml::location(&body)?;
        Ok(if location.is_empty() { REGION.to_owned() } else { location })
    }

    /// Says whether the bucket keeps versions of what is put into it from now on.
    ///
    /// # Errors
    /// `Unsupported` where the store does not know the question; as it says.
    pub fn keeps_versions(&self) -> Result<bool> {
        let call = Call::new(Method::Get, "ask about the versions of", "");
        let (_, body) = self
            .ask(&Call { query: &[("versioning", "")], ..call })
            .map_err(Refused::into_error)?
            .value;
        xml::keeps_versions(&body)
    }

    /// Has the bucket keep versions of what is put into it from now on.
    ///
    /// # Errors
    /// `Unsupported` where the store keeps none; as it says.
    pub fn keep_versions(&self) -> Result<()> {
        let body = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
        let call = Call::new(Method::Put, "keep the versions of", "")
            .header("x-amz-checksum-sha256", sign::base64(&sign::sha256(body)));
        self.ask(&Call { query: &[("versioning", "")], body, ..call })
            .map_err(Refused::into_error)?;
        Ok(())
    }

    /// Makes the bucket; one that is there and ours is success.
    ///
    /// # Errors
    /// `Denied` where the key may not; `AlreadyExists` when somebody else has one of this name.
    pub fn create_bucket(&self) -> Result<()> {
        let region = xml::escaped(self.region());
        let place = "<LocationConstraint>";
        let body = match self.region() {
            REGION => String::new(),
            _ => format!(
                "<CreateBucketConfiguration>{place}{region}</LocationConstraint>\
                 </CreateBucketConfiguration>"
            ),
        };
        let call = Call { body: body.as_bytes(), ..Call::new(Method::Put, "make the bucket", "") };
        match self.ask(&call).map_err(Refused::into_error) {
            Ok(_) => Ok(()),
            // Somebody made it just now, or had it: which, another look tells.
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                if self.has_bucket()? {
                    Ok(())
                } else {
                    Err(e)
                }
            }
            Err(e) => Err(e),
        }
    }
}
