//! Requests over HTTP: the one home of the HTTP client.
//!
//! Connections are kept and used again. Nothing is followed, unpacked or taken from the environment
//! by itself: redirections are answers, a proxy is named by the caller. Every wait has a limit.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::net::pace::Pace;
use crate::net::tcp::Limits;
use crate::net::tcp::NAME_HINT;
use crate::net::tcp::PORT_HINT;
use crate::net::tls;
use crate::net::tls::Roots;
use std::fmt;
use std::io;
use std::io::ErrorKind as Io;
use std::io::Read;
use std::sync::Arc;
use ureq::http;
use ureq::tls::Certificate;
use ureq::tls::RootCerts;
use ureq::tls::TlsConfig;

/// Connections that are kept, all together: one for each request that is of use at a time.
const IDLE_CONNECTIONS_MAX: usize = 64;

/// How servers are reached.
#[derive(Clone, Default)]
pub struct Options {
    /// Who may vouch for a server.
    pub roots: Roots,
    /// The address of a proxy, as `http://host:3128`.
    pub proxy: Option<String>,
    /// How long to wait.
    pub limits: Limits,
    /// How much may go over the line.
    pub pace: Option<Arc<Pace>>,
}

/// The address of a proxy may hold a password.
impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("roots", &self.roots)
            .field("proxy", &self.proxy.as_ref().map(|_| ".."))
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// For the content.
    Get,
    /// For what stands in front of the content.
    Head,
    /// To store.
    Put,
    /// To do something.
    Post,
    /// To remove.
    Delete,
}

impl Method {
    /// Returns the word of the protocol.
    pub fn as_str(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Put => "PUT",
            Method::Post => "POST",
            Method::Delete => "DELETE",
        }
    }
}

/// One request.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// What is asked.
    pub method: Method,
    /// Of whom and for what, all encoded.
    pub url: &'a str,
    /// What else is said; the server's name and the length are added.
    pub headers: &'a [(String, String)],
    /// What is sent: with PUT and POST only.
    pub body: &'a [u8],
}

/// Headers hold signatures and tokens, of which only the names are shown.
impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("url", &self.url)
            .field("headers", &names)
            .field("body", &self.body.len())
            .finish()
    }
}

/// What came back, its content still to be read.
pub struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Box<dyn Read + Send>,
    pace: Option<Arc<Pace>>,
}

/// Why there is no answer.
#[derive(Debug)]
pub struct Failure {
    /// The error.
    pub error: Error,
    /// Whether the connection broke off, as one that was kept too long does: what may be said
    /// twice can be tried at once on a new one.
    pub broke_off: bool,
}

impl Failure {
    /// Content of which nothing shows whether it came to its end.
    pub fn without_end() -> Self {
        let message = "nothing shows whether the content came to its end";
        Failure { error: Error::new(ErrorKind::Unreachable, message), broke_off: true }
    }
}

/// Sends requests.
#[derive(Clone)]
pub struct Agent {
    agent: ureq::Agent,
    pace: Option<Arc<Pace>>,
}

impl Agent {
    /// Makes an agent; certificates are only looked for where TLS is of use.
    ///
    /// # Errors
    /// `InvalidInput` for a proxy that is none; those of [`tls::certificates`].
    pub fn new(options: &Options, is_tls: bool) -> Result<Self> {
        let proxy = match &options.proxy {
            Some(text) => Some(ureq::Proxy::new(text).map_err(|_| {
                Error::invalid("the address of the proxy cannot be read")
                    .hint("write http://host:port")
            })?),
            None => None,
        };
        let silence = Some(options.limits.silence);
        let mut config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(proxy)
            .timeout_resolve(Some(options.limits.connect))
            .timeout_connect(Some(options.limits.connect))
            .timeout_per_read(silence)
            .timeout_per_write(silence)
            .max_idle_connections(IDLE_CONNECTIONS_MAX)
            .max_idle_connections_per_host(IDLE_CONNECTIONS_MAX)
            .user_agent(concat!("icecore/", env!("CARGO_PKG_VERSION")));
        if is_tls {
            let roots = tls::certificates(&options.roots)?;
            let roots: Vec<_> =
                roots.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
            let tls = TlsConfig::builder()
                .root_certs(RootCerts::Specific(Arc::new(roots)))
                .unversioned_rustls_crypto_provider(tls::provider());
            config = config.tls_config(tls.build());
        }
        let agent = ureq::Agent::new_with_config(config.build());
        Ok(Agent { agent, pace: options.pace.clone() })
    }

    /// Sends a request and waits for what stands in front of the content.
    ///
    /// # Errors
    /// `Unreachable`; `Denied` for a certificate that nobody vouches for; `Unsupported` for an
    /// answer that is no HTTP.
    pub fn send(&self, request: Request<'_>) -> std::result::Result<Answer, Failure> {
        let mut builder = http::Request::builder().method(request.method.as_str()).uri(request.url);
        for (name, value) in request.headers {
            // Bytes beyond ASCII are taken, too, as stores have them in what people call things.
            let value = http::HeaderValue::from_bytes(value.as_bytes());
            let unfit = |_| Failure {
                error: Error::invalid(format!("the header {name} cannot be written")),
                broke_off: false,
            };
            builder = builder.header(name, value.map_err(unfit)?);
        }
        if let Some(pace) = &self.pace {
            let waited = pace.up(request.body.len() as u64);
            waited.map_err(|error| Failure { error, broke_off: false })?;
        }
        let has_body = matches!(request.method, Method::Put | Method::Post);
        let sent = if has_body {
            builder.body(request.body).map_err(ureq::Error::from).and_then(|it| self.agent.run(it))
        } else {
            builder.body(()).map_err(ureq::Error::from).and_then(|it| self.agent.run(it))
        };
        let (parts, body) = sent.map_err(failure)?.into_parts();
        let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into();
        let headers = parts.headers.iter();
        let headers = headers.map(|(name, value)| (name.as_str().to_owned(), text(value)));
        Ok(Answer {
            status: parts.status.as_u16(),
            headers: headers.collect(),
            body: Box::new(body.into_reader()),
            pace: self.pace.clone(),
        })
    }
}

impl Answer {
    /// Returns the number that says how it went.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Returns what was said under a name in small letters.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Returns all that was said, names in small letters.
    pub fn headers(&self) -> &[(String, String)] {
        &self.headers
    }

    /// Returns how long the content is to be, where the server says.
    pub fn length(&self) -> Option<u64> {
        self.header("content-length")?.parse().ok()
    }

    /// Says whether the content shows where it ends: else it ends with the connection, whatever
    /// ended that.
    pub fn shows_end(&self) -> bool {
        let is_chunked = |it: &str| it.to_ascii_lowercase().contains("chunked");
        self.length().is_some() || self.header("transfer-encoding").is_some_and(is_chunked)
    }

    /// Reads the content to its end; None when it has more than `bytes_max`.
    ///
    /// # Errors
    /// `Unreachable` when it breaks off.
    pub fn read_all(&mut self, bytes_max: usize) -> std::result::Result<Option<Vec<u8>>, Failure> {
        let mut bytes = Vec::new();
        let most = (bytes_max as u64).saturating_add(1);
        (&mut self.body).take(most).read_to_end(&mut bytes).map_err(reading)?;
        self.came(bytes.len())?;
        Ok((bytes.len() <= bytes_max).then_some(bytes))
    }

    /// Reads some of the content; 0 at its end.
    ///
    /// # Errors
    /// `Unreachable` when it breaks off.
    pub fn read(&mut self, buffer: &mut [u8]) -> std::result::Result<usize, Failure> {
        let count = self.body.read(buffer).map_err(reading)?;
        self.came(count)?;
        Ok(count)
    }

    fn came(&self, bytes: usize) -> std::result::Result<(), Failure> {
        let Some(pace) = &self.pace else { return Ok(()) };
        pace.down(bytes as u64).map_err(|error| Failure { error, broke_off: false })
    }
}

fn reading(e: io::Error) -> Failure {
    failure(ureq::Error::from(e))
}

fn failure(e: ureq::Error) -> Failure {
    let broke_off = is_break(&e);
    let unreachable = |text: &str| Error::new(ErrorKind::Unreachable, text);
    let untrusted = || {
        Error::new(ErrorKind::Denied, "no safe connection was made")
            .hint("a certificate of your own is named with --tls-ca")
    };
    let error = match &e {
        ureq::Error::Io(cause) if cause.kind() == Io::InvalidData => untrusted(),
        ureq::Error::Io(_) => unreachable("the connection failed").hint(PORT_HINT),
        ureq::Error::Rustls(_) | ureq::Error::Tls(_) => untrusted(),
        ureq::Error::Timeout(_) => unreachable("the server does not answer in time"),
        ureq::Error::HostNotFound => {
            let error = unreachable("there is no host of this name").hint(NAME_HINT);
            return Failure { error, broke_off };
        }
        ureq::Error::ConnectionFailed | ureq::Error::BodyStalled => {
            unreachable("the connection failed").hint(PORT_HINT)
        }
        ureq::Error::ConnectProxyFailed(_) => unreachable("the proxy lets nothing through"),
        ureq::Error::Protocol(_) | ureq::Error::LargeResponseHeader(_, _) => {
            Error::new(ErrorKind::Unsupported, "the answer is no HTTP")
                .hint("is this the address of the right server, and http or https as it wants?")
        }
        ureq::Error::Http(_) | ureq::Error::BadUri(_) => {
            Error::invalid("the request cannot be written")
        }
        _ => Error::new(ErrorKind::Io, "the request failed"),
    };
    Failure { error: error.caused_by(e), broke_off }
}

fn is_break(e: &ureq::Error) -> bool {
    let ureq::Error::Io(cause) = e else { return matches!(e, ureq::Error::BodyStalled) };
    matches!(
        cause.kind(),
        Io::UnexpectedEof | Io::ConnectionReset | Io::ConnectionAborted | Io::BrokenPipe
    )
}
