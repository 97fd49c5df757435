//! Where a bucket is, who asks, and how a request is sent and sent again.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::limits::S3_ANSWER_BYTES_MAX;
use crate::base::limits::S3_TRIES_MAX;
use crate::base::limits::S3_WAIT_SECONDS_MAX;
use crate::base::sys;
use crate::base::time::Clock;
use crate::base::time::Timestamp;
use crate::net::http;
use crate::net::http::Agent;
use crate::net::http::Answer;
use crate::net::http::Failure;
use crate::net::http::Method;
use crate::net::http::Request;
use crate::net::s3::refusal;
use crate::net::s3::sign;
use crate::net::s3::sign::Credentials;
use crate::net::s3::sign::Signed;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The region that is meant where none is said, and which stores without regions take.
pub const REGION: &str = "us-east-1";
/// The first wait after which a request is made again; each further one doubles.
const FIRST_WAIT: Duration = Duration::from_millis(200);

/// Lets time pass, and fails where somebody asked to stop.
pub type Wait = Arc<dyn Fn(Duration) -> Result<()> + Send + Sync>;

/// Where the name of the bucket stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// In the path: `https://host/bucket/key`.
    Path,
    /// In front of the host: `https://bucket.host/key`.
    Host,
}

/// A bucket, and how it is reached.
#[derive(Clone, Debug)]
pub struct Options {
    /// The store, as `https://host:port`; None for that of AWS.
    pub endpoint: Option<String>,
    /// The region; [`REGION`] where none is said.
    pub region: Option<String>,
    /// The bucket's name.
    pub bucket: String,
    /// Where its name stands: in the path of any store that was named, in the host's name of AWS.
    pub style: Option<Style>,
    /// Who asks; nobody may read what everybody may.
    pub credentials: Option<Credentials>,
    /// How servers are reached.
    pub http: http::Options,
}

impl Options {
    /// Returns a bucket of AWS with nothing else said.
    pub fn new(bucket: impl Into<String>) -> Self {
        Options {
            endpoint: None,
            region: None,
            bucket: bucket.into(),
            style: None,
            credentials: None,
            http: http::Options::default(),
        }
    }
}

/// What was asked of the store so far, for benches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests, those made again with them.
    pub requests: u64,
    /// Requests made again.
    pub repeats: u64,
    /// Bytes of content sent.
    pub bytes_up: u64,
}

#[derive(Debug, Default)]
struct Counters {
    requests: AtomicU64,
    repeats: AtomicU64,
    bytes_up: AtomicU64,
}

/// Asks one bucket. It may be used from many threads at once.
pub struct Client {
    agent: Agent,
    /// The scheme with `://`.
    scheme: &'static str,
    host: String,
    /// What stands before each key, encoded, without a slash at its end.
    path: String,
    region: String,
    bucket: String,
    credentials: Option<Credentials>,
    clock: Arc<dyn Clock>,
    wait: Wait,
    counters: Counters,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({} at {})", self.shown(""), self.host)
    }
}

/// One request to the bucket.
pub(crate) struct Call<'a> {
    pub(crate) method: Method,
    /// What cannot be done where it fails: `read`, `list`.
    pub(crate) doing: &'static str,
    /// The key; empty for the bucket.
    pub(crate) key: &'a str,
    pub(crate) query: &'a [(&'a str, &'a str)],
    /// Names in small letters.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: &'a [u8],
}

impl<'a> Call<'a> {
    pub(crate) fn new(method: Method, doing: &'static str, key: &'a str) -> Self {
        Call { method, doing, key, query: &[], headers: Vec::new(), body: b"" }
    }

    pub(crate) fn header(mut self, name: &str, value: impl AsRef<str>) -> Self {
        self.headers.push((name.to_owned(), value.as_ref().to_owned()));
        self
    }
}

/// A success.
pub(crate) struct Done<T> {
    pub(crate) value: T,
    /// Whether it was made before and may have been done then.
    pub(crate) is_doubtful: bool,
}

/// No success.
#[derive(Debug)]
pub struct Refused {
    /// Why.
    pub error: Error,
    /// Whether an answer was lost on the way: what was asked may have been done all the same.
    pub is_doubtful: bool,
    /// Whether it is certain that the store itself has answered, and nobody before it.
    pub is_of_store: bool,
}

impl Refused {
    /// Returns why.
    pub fn into_error(self) -> Error {
        if self.is_doubtful { self.error.after_a_lost_answer() } else { self.error }
    }
}

/// Why one try failed.
enum Trouble {
    Failed(Failure),
    Refused { error: Error, status: u16, retry_after: Option<Duration>, is_of_store: bool },
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Trouble::Failed(failure)
    }
}

impl Client {
    /// Makes a client; nothing is asked yet.
    ///
    /// # Errors
    /// `InvalidInput` for an endpoint, a region or a bucket that is none; those of
    /// [`Agent::new`].
    pub fn new(options: &Options, clock: Arc<dyn Clock>, wait: Wait) -> Result<Self> {
        let is_word = |text: &str, also: &[u8]| {
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || also.contains(&byte);
            !text.is_empty() && text.bytes().all(fits)
        };
        let bucket = options.bucket.clone();
        if !is_word(&bucket, b"-._") || bucket.starts_with('.') {
            return Err(Error::invalid(format!("{bucket:?} cannot be the name of a bucket")));
        }
        let region = options.region.clone().unwrap_or_else(|| REGION.to_owned());
        if !is_word(&region, b"-_") {
            return Err(Error::invalid(format!("{region:?} cannot be the name of a region")));
        }
        let endpoint = options.endpoint.clone().unwrap_or_else(|| of_aws(&region));
        let (scheme, host, base) = split(&endpoint)?;
        let usual = if options.endpoint.is_some() { Style::Path } else { Style::Host };
        let (host, path) = match options.style.unwrap_or(usual) {
            Style::Path => (host, format!("{base}/{bucket}")),
            Style::Host => (format!("{bucket}.{host}"), base),
        };
        Ok(Client {
            agent: Agent::new(&options.http, scheme == "https://")?,
            scheme,
            host,
            path,
            region,
            bucket,
            credentials: options.credentials.clone(),
            clock,
            wait,
            counters: Counters::default(),
        })
    }

    /// Returns the bucket's name.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// Returns the name of the host that is asked.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns the region that requests are signed for.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// Returns the address of a key, or of the bucket: safe to print.
    pub fn shown(&self, key: &str) -> String {
        match key {
            "" => format!("s3://{}", self.bucket),
            key => format!("s3://{}/{key}", self.bucket),
        }
    }

    /// Returns what was asked so far.
    pub fn counts(&self) -> Counts {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Counters { requests, repeats, bytes_up } = &self.counters;
        Counts { requests: of(requests), repeats: of(repeats), bytes_up: of(bytes_up) }
    }

    /// Lets time pass.
    ///
    /// # Errors
    /// `Cancelled`.
    pub fn wait(&self, time: Duration) -> Result<()> {
        (self.wait)(time)
    }

    /// Makes a request and reads the whole answer, which is a short one.
    pub(crate) fn ask(
        &self,
        call: &Call<'_>,
    ) -> std::result::Result<Done<(Answer, Vec<u8>)>, Refused> {
        let done = self.run(call, |mut answer| {
            let body = answer.read_all(S3_ANSWER_BYTES_MAX)?;
            Ok((answer, body))
        })?;
        let Done { value: (answer, body), is_doubtful } = done;
        let Some(body) = body else {
            let error = Error::corrupt("the answer of the store is too long");
            return Err(Refused { error: self.doing(error, call), is_doubtful, is_of_store: true });
        };
        Ok(Done { value: (answer, body), is_doubtful })
    }

    /// Makes a request, again where that is of use; `take` gets the answer to each try that is a
    /// success, and may read it.
    pub(crate) fn run<T>(
        &self,
        call: &Call<'_>,
        take: impl Fn(Answer) -> std::result::Result<T, Failure>,
    ) -> std::result::Result<Done<T>, Refused> {
        let content_hash = sign::sha256_hex(call.body);
        let (mut is_doubtful, mut broke_off) = (false, false);
        let mut wait = FIRST_WAIT;
        for tries in 1_u32.. {
            let trouble = match self.once(call, &content_hash, &take) {
                Ok(value) => return Ok(Done { value, is_doubtful }),
                Err(trouble) => trouble,
            };
            let (error, pause, is_of_store) = match trouble {
                Trouble::Failed(failure) => {
                    is_doubtful = true;
                    let again = failure.broke_off && !broke_off;
                    broke_off |= failure.broke_off;
                    (self.doing(failure.error, call), again.then_some(Duration::ZERO), false)
                }
                Trouble::Refused { error, status, retry_after, is_of_store } => {
                    is_doubtful |= status >= 500;
                    let kinds = [ErrorKind::RateLimited, ErrorKind::Unreachable];
                    let pause = retry_after.unwrap_or_else(|| with_random_part(wait));
                    wait = wait.saturating_mul(2);
                    let again = kinds.contains(&error.kind());
                    (error, again.then_some(pause), is_of_store)
                }
            };
            match pause {
                Some(pause) if tries < S3_TRIES_MAX => {
                    let longest = Duration::from_secs(S3_WAIT_SECONDS_MAX);
                    let waited = self.wait(pause.min(longest));
                    waited.map_err(|error| Refused { error, is_doubtful, is_of_store })?;
                    self.counters.repeats.fetch_add(1, Ordering::Relaxed);
                }
                _ => return Err(Refused { error, is_doubtful, is_of_store }),
            }
        }
        let error = Error::bug("a request was never made");
        Err(Refused { error, is_doubtful, is_of_store: false })
    }

    fn doing(&self, error: Error, call: &Call<'_>) -> Error {
        error.context(format!("cannot {} {}", call.doing, self.shown(call.key)))
    }

    fn once<T>(
        &self,
        call: &Call<'_>,
        content_hash: &str,
        take: &impl Fn(Answer) -> std::result::Result<T, Failure>,
    ) -> std::result::Result<T, Trouble> {
        let path = match call.key {
            "" if self.path.is_empty() => "/".to_owned(),
            "" => self.path.clone(),
            key => format!("{}/{}", self.path, sign::encoded(key, "/")),
        };
        let query = sign::query(call.query);
        let mut headers = call.headers.clone();
        if let Some(credentials) = &self.credentials {
            let signed = Signed {
                method: call.method.as_str(),
                host: &self.host,
                path: &path,
                query: &query,
                headers: &call.headers,
                content_hash,
            };
            let added = sign::sign(&signed, credentials, &self.region, self.clock.now());
            let fatal = |error| Failure { error, broke_off: false };
            headers.extend(added.map_err(fatal)?);
        }
        let mark = if query.is_empty() { "" } else { "?" };
        let url = format!("{}{}{path}{mark}{query}", self.scheme, self.host);
        self.counters.requests.fetch_add(1, Ordering::Relaxed);
        self.counters.bytes_up.fetch_add(call.body.len() as u64, Ordering::Relaxed);
        let request =
            Request { method: call.method, url: &url, headers: &headers, body: call.body };
        let mut answer = self.agent.send(request)?;
        let status = answer.status();
        if (200..300).contains(&status) {
            return Ok(take(answer)?);
        }
        // What cannot be read of a refusal leaves its number.
        let body = answer.read_all(S3_ANSWER_BYTES_MAX).ok().flatten().unwrap_or_default();
        let region = answer.header("x-amz-bucket-region");
        let body = (call.method != Method::Head).then_some(&body[..]);
        let refused = refusal::Refused { status, region, body };
        let error = refused.error(&format!("{} {}", call.doing, self.shown(call.key)));
        let is_of_store = answer.headers().iter().any(|(name, _)| name.starts_with("x-amz-"));
        Err(Trouble::Refused { error, status, retry_after: retry_after(&answer), is_of_store })
    }
}

/// Returns how long the store asks to wait: seconds, or a date by its own clock.
fn retry_after(answer: &Answer) -> Option<Duration> {
    let text = answer.header("retry-after")?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let now = Timestamp::from_http_date(answer.header("date")?)?;
    let seconds = Timestamp::from_http_date(text)?.seconds().saturating_sub(now.seconds());
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

/// Returns between half of a time and all of it, so that many who wait do not come together.
fn with_random_part(time: Duration) -> Duration {
    let [random] = sys::random().unwrap_or([128]);
    time / 2 + time / 2 * u32::from(random) / 255
}

fn of_aws(region: &str) -> String {
    let end = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    format!("https://s3.{region}.{end}")
}

/// Splits an endpoint into scheme, host and what stands before each bucket.
fn split(endpoint: &str) -> Result<(&'static str, String, String)> {
    let (scheme, rest) = if let Some(rest) = endpoint.strip_prefix("https://") {
        ("https://", rest)
    } else if let Some(rest) = endpoint.strip_prefix("http://") {
        ("http://", rest)
    } else {
        return Err(Error::invalid("the endpoint is no address of a store")
            .hint("write https://host or http://host:port"));
    };
    let (host, base) = match rest.split_once('/') {
        Some((host, base)) => (host, base.trim_matches('/')),
        None => (rest, ""),
    };
    let usual_port = if scheme == "https://" { ":443" } else { ":80" };
    let host = host.strip_suffix(usual_port).unwrap_or(host);
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    if host.is_empty() || !host.bytes().all(is_host) {
        return Err(Error::invalid("the endpoint names no host")
            .hint("write https://host or http://host:port; keys are given apart from it"));
    }
    let base = sign::encoded(base, "/");
    let base = if base.is_empty() { base } else { format!("/{base}") };
    Ok((scheme, host.to_ascii_lowercase(), base))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::FixedClock;

    fn client(options: &Options) -> Result<Client> {
        Client::new(options, Arc::new(FixedClock::default()), Arc::new(|_| Ok(())))
    }

    #[test]
    fn buckets_are_found_by_path_or_by_host() {
        let at = |endpoint: &str, style| {
            let options = Options {
                endpoint: Some(endpoint.into()),
                style,
                http: http::Options::default(),
                ..Options::new("b")
            };
            let client = client(&options).expect(endpoint);
            format!("{}{}{}", client.scheme, client.host, client.path)
        };
        assert_eq!(at("http://h:9000", None), "http://h:9000/b");
        assert_eq!(at("http://H:80/x/", None), "http://h/x/b");
        assert_eq!(at("http://h:9000", Some(Style::Host)), "http://b.h:9000");
        assert_eq!(of_aws("eu-west-1"), "https://s3.eu-west-1.amazonaws.com");
        assert_eq!(of_aws("cn-north-1"), "https://s3.cn-north-1.amazonaws.com.cn");
    }

    #[test]
    fn what_is_no_store_is_refused() {
        for endpoint in ["", "h:9000", "ftp://h", "http://", "http://me:hunter2@h", "http://a b"] {
            let options = Options { endpoint: Some(endpoint.into()), ..Options::new("b") };
            let error = client(&options).expect_err(endpoint);
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{endpoint}");
            assert!(!error.full_message().contains("hunter2"));
        }
        let endpoint = Some("http://h".to_owned());
        for bucket in ["", "a/b", "a b", "..", "a?b"] {
            let options = Options { endpoint: endpoint.clone(), ..Options::new(bucket) };
            assert!(client(&options).is_err(), "{bucket}");
        }
        let region = Some("a/b".to_owned());
        assert!(client(&Options { endpoint, region, ..Options::new("b") }).is_err());
    }

    #[test]
    fn waits_differ_and_keep_their_bounds() {
        let second = Duration::from_secs(1);
        for _ in 0..100 {
            let wait = with_random_part(second);
            assert!(wait >= second / 2 && wait <= second, "{wait:?}");
        }
    }
}
