//! The S3 client and backend against a store that misbehaves on purpose; how they are with real
//! ones is tested by the program `net`.

use crate::s3::fake::Fake;
use crate::s3::fake::Reply;
use icecore::backend::Backend;
use icecore::backend::Listed;
use icecore::backend::key::FolderKey;
use icecore::backend::key::ObjectKey;
use icecore::backend::s3::S3Backend;
use icecore::backend::s3::S3Options;
use icecore::backend::wrap::sleeper::NotingSleeper;
use icecore::backend::wrap::sleeper::Sleeper;
use icecore::base::error::Error;
use icecore::base::error::Origin;
use icecore::base::secret::Secret;
use icecore::base::time::SystemClock;
use icecore::net::s3::client::Options;
use icecore::net::s3::sign::Credentials;
use icecore::net::tcp::Limits;
use std::sync::Arc;
use std::time::Duration;

mod answers;
pub(crate) mod fake;
mod missing;
mod puts;
mod source;
mod spared;
pub(crate) mod store;
mod target;
mod unsaid;
mod versions;

const SECRET: &str = "wJalrXUtnFEMIK7MDENG";

pub(crate) fn options(port: u16, atomic_create: Option<bool>) -> S3Options {
    let mut bucket = Options::new("b");
    bucket.endpoint = Some(format!("http://127.0.0.1:{port}"));
    bucket.credentials = Some(Credentials {
        access_key: "AKIA".into(),
        secret_key: Secret::new(SECRET.into()),
        session_token: None,
    });
    bucket.http.limits =
        Limits { connect: Duration::from_secs(2), silence: Duration::from_millis(400) };
    S3Options { bucket, prefix: "p".into(), atomic_create }
}

pub(crate) fn opened(options: &S3Options) -> (Result<S3Backend, Error>, Arc<NotingSleeper>) {
    let sleeper = Arc::new(NotingSleeper::default());
    let shared = Arc::clone(&sleeper) as Arc<dyn Sleeper>;
    (S3Backend::open(options, Arc::new(SystemClock), shared), sleeper)
}

/// A backend of class A whose waits are noted.
pub(crate) fn backend(fake: &Fake) -> (S3Backend, Arc<NotingSleeper>) {
    let (backend, sleeper) = opened(&options(fake.port, Some(true)));
    (backend.unwrap(), sleeper)
}

pub(crate) fn key(text: &str) -> ObjectKey {
    ObjectKey::new(text).unwrap()
}

pub(crate) fn refused<T: std::fmt::Debug>(outcome: Result<T, Error>) -> Error {
    let error = outcome.expect_err("refused");
    assert_eq!(error.origin(), Origin::Repository, "{error:?}");
    let text = format!("{} {:?}", error.full_message(), error.hint_text());
    assert!(!text.contains(SECRET), "{text}");
    error
}

pub(crate) fn rows(backend: &S3Backend, folder: &str) -> Result<Vec<String>, Error> {
    let mut rows = Vec::new();
    backend.list(&FolderKey::new(folder).unwrap(), &mut |row| {
        rows.push(match row {
            Listed::Object(object) => object.key.to_string(),
            Listed::Folder(folder) => format!("{folder}/"),
        });
        Ok(())
    })?;
    Ok(rows)
}

pub(crate) fn page(keys: &[&str], more: &str) -> Reply {
    let rows: String = keys
        .iter()
        .map(|key| match key.ends_with('/') {
            true => format!("<CommonPrefixes><Prefix>{key}</Prefix></CommonPrefixes>"),
            false => {
                let mut said = key.split(' ');
                let mut next = |unsaid| said.next().unwrap_or(unsaid);
                let (key, size, etag) = (next(""), next("1"), next(""));
                let row = format!("<Key>{key}</Key><Size>{size}</Size><ETag>{etag}</ETag>");
                format!("<Contents>{row}</Contents>")
            }
        })
        .collect();
    Reply::ok(format!("<ListBucketResult>{rows}{more}</ListBucketResult>"))
}

pub(crate) const END: &str = "<IsTruncated>false</IsTruncated>";
