//! One HTTPS request at a time, over HTTP/1.1, with a client certificate, always verified.

use crate::base::spent::{self, On};
use crate::wire::identity::ClientIdentity;
use crate::wire::tls;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

mod connection;
mod message;
#[cfg(test)]
pub(crate) mod rig;
mod socket;
#[cfg(test)]
mod tests;
mod tunnel;
mod url;

use connection::{Connection, Target};
use message::Request;
use url::Url;

pub use crate::settings::proxy::Proxy;

/// Reads an answer that has come whole; `None` when it is none. What the fuzz targets call.
pub fn whole_answer(bytes: &[u8]) -> Option<Response> {
    message::read_answer(bytes).ok().map(|a| a.response)
}

/// How a [`Client`] connects.
#[derive(Debug, Clone)]
pub struct Options {
    /// The pair to present when the server asks.
    pub identity: Option<ClientIdentity>,
    /// PEM file of CAs trusted beside the system's roots.
    pub ca_file: Option<PathBuf>,
    /// Proxy, or direct.
    pub proxy: Option<Proxy>,
    /// `LinuxMonitoringAgent/<version>`.
    pub user_agent: String,
    /// For the TCP and TLS handshake (30 s in the original).
    pub connect_timeout: Duration,
    /// For the whole answer (60 s in the original).
    pub read_timeout: Duration,
}

/// An answer of the server, whatever its status.
#[derive(Debug, Clone)]
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// Header names (lower case) and values.
    pub headers: Vec<(String, String)>,
    /// Body, at most 1 MiB; a longer one is [`Cause::Protocol`].
    pub body: Vec<u8>,
}

impl Response {
    /// The first header of that name, any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.as_str())
    }
}

/// Why there was no answer. One cause, one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The server's name does not resolve.
    Dns,
    /// The proxy's name does not resolve.
    ProxyDns,
    /// No connection to the proxy.
    ProxyConnect,
    /// No TLS with a proxy that is written with `https://`.
    ProxyTls,
    /// The proxy wants other credentials (407).
    ProxyAuth,
    /// The proxy refused the tunnel for another reason.
    ProxyRefused,
    /// No connection to the server (refused, unreachable, reset).
    Connect,
    /// The server's certificate comes from an authority that is not trusted.
    TlsUntrusted,
    /// The certificate is for another name.
    TlsName,
    /// The certificate is expired or not yet valid (often: this host's clock).
    TlsTime,
    /// The server speaks no TLS 1.2 or newer.
    TlsOld,
    /// What answers does not speak TLS.
    NotTls,
    /// Any other TLS failure.
    Tls,
    /// No answer in time.
    Timeout,
    /// The answer was not HTTP, or was cut off.
    Protocol,
    /// Our own side: unreadable CA file, unusable certificate, bad URL.
    Local,
}

impl Cause {
    /// All of them.
    pub const ALL: [Cause; 16] = [
        Cause::Dns,
        Cause::ProxyDns,
        Cause::ProxyConnect,
        Cause::ProxyTls,
        Cause::ProxyAuth,
        Cause::ProxyRefused,
        Cause::Connect,
        Cause::TlsUntrusted,
        Cause::TlsName,
        Cause::TlsTime,
        Cause::TlsOld,
        Cause::NotTls,
        Cause::Tls,
        Cause::Timeout,
        Cause::Protocol,
        Cause::Local,
    ];

    /// The number the original's transport tool would have named, for messages automation
    /// compares (protocol.md 1.9): 5 proxy name, 6 host name, 7 connect, 28 time-out, 35 TLS,
    /// 56 receive (proxy refusals too), 60 certificate, 58 local certificate.
    pub fn legacy_number(self) -> u8 {
        match self {
            Cause::Dns => 6,
            Cause::ProxyDns => 5,
            Cause::ProxyConnect | Cause::Connect => 7,
            Cause::ProxyAuth | Cause::ProxyRefused | Cause::Protocol => 56,
            Cause::ProxyTls | Cause::TlsUntrusted | Cause::TlsName | Cause::TlsTime => 60,
            Cause::TlsOld | Cause::NotTls | Cause::Tls => 35,
            Cause::Timeout => 28,
            Cause::Local => 58,
        }
    }
}

/// A request that got no answer.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{detail}")]
pub struct HttpError {
    /// For decisions.
    pub cause: Cause,
    /// For people: what failed, on what, why. Never holds a secret.
    pub detail: String,
}

impl HttpError {
    pub(crate) fn new(cause: Cause, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        HttpError { cause, detail }
    }
}

/// How long an unused connection is trusted to be alive. Longer than a heartbeat interval (one
/// minute), shorter than what load balancers and firewalls forget after (about four).
const IDLE_LIMIT: Duration = Duration::from_secs(90);

/// What the connections of one client have taught.
#[derive(Default)]
struct Learned {
    /// The server asked for our certificate.
    certificate_asked: Arc<AtomicBool>,
    /// The proxy speaks no TLS although `https://` is written.
    proxy_is_plain: AtomicBool,
    /// Which form of the proxy's user and password was good.
    login: AtomicUsize,
}

/// A connection maker; cheap to keep, reuses one connection while the server lets it.
pub struct Client {
    options: Options,
    tls: Arc<rustls::ClientConfig>,
    idle: Mutex<Option<Idle>>,
    learned: Learned,
}

struct Idle {
    connection: Connection,
    target: Target,
    since: Instant,
}

impl Client {
    /// Reads the CA file and prepares TLS.
    pub fn new(options: Options) -> Result<Self, HttpError> {
        let learned = Learned::default();
        let tls = tls::client_config(
            options.identity.as_ref(),
            options.ca_file.as_deref(),
            &learned.certificate_asked,
        )?;
        Ok(Client {
            options,
            tls: Arc::new(tls),
            idle: Mutex::new(None),
            learned,
        })
    }

    /// Did a server ask for our certificate? One that stands between us and the service, and opens
    /// TLS, cannot pass it on, and does not ask.
    pub fn was_asked_for_certificate(&self) -> bool {
        self.learned.certificate_asked.load(Ordering::Relaxed)
    }

    /// What a person should know of the proxy, when there is something.
    pub fn remark(&self) -> Option<String> {
        let plain = self.learned.proxy_is_plain.load(Ordering::Relaxed);
        let proxy = self.options.proxy.as_ref().filter(|_| plain)?;
        Some(tunnel::plain_proxy(proxy))
    }

    /// POSTs `body` to an https URL. Headers are sent as given; `Host` and `Content-Length` are
    /// added, `User-Agent` and `Accept: */*` too unless given. No redirect is followed.
    ///
    /// A kept connection that turns out to be closed before a byte of answer came is replaced
    /// once; apart from that nothing is sent twice.
    pub fn post<N: AsRef<str>, V: AsRef<str>>(
        &self,
        url: &str,
        headers: &[(N, V)],
        body: &[u8],
    ) -> Result<Response, HttpError> {
        self.send("POST", url, &borrowed(headers), Some(body))
    }

    /// As [`Client::post`], by PUT.
    pub fn put<N: AsRef<str>, V: AsRef<str>>(
        &self,
        url: &str,
        headers: &[(N, V)],
        body: &[u8],
    ) -> Result<Response, HttpError> {
        self.send("PUT", url, &borrowed(headers), Some(body))
    }

    /// As [`Client::post`], without a body.
    pub fn get<N: AsRef<str>, V: AsRef<str>>(
        &self,
        url: &str,
        headers: &[(N, V)],
    ) -> Result<Response, HttpError> {
        self.send("GET", url, &borrowed(headers), None)
    }

    fn send(
        &self,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Result<Response, HttpError> {
        let url = Url::parse(url)?;
        let _waiting = spent::waiting(On::Network);
        let target = url.target();
        let agent = &self.options.user_agent;
        let request = Request::new(method, &url, agent, headers, body)?;
        if let Some(mut connection) = self.take_idle(&target) {
            match connection.exchange(&request, self.options.read_timeout) {
                Ok(done) => return Ok(self.keep(connection, target, done)),
                Err(failure) if failure.nothing_came => {}
                Err(failure) => return Err(failure.error),
            }
        }
        let mut connection =
            Connection::open(&target, &self.options, Arc::clone(&self.tls), &self.learned)?;
        match connection.exchange(&request, self.options.read_timeout) {
            Ok(done) => Ok(self.keep(connection, target, done)),
            Err(failure) => Err(failure.error),
        }
    }

    fn take_idle(&self, target: &Target) -> Option<Connection> {
        let idle = self.lock().take()?;
        let fits = idle.target == *target && idle.since.elapsed() < IDLE_LIMIT;
        let mut connection = idle.connection;
        (fits && connection.is_alive()).then_some(connection)
    }

    fn keep(&self, connection: Connection, target: Target, done: message::Answer) -> Response {
        if done.reusable {
            *self.lock() = Some(Idle {
                connection,
                target,
                since: Instant::now(),
            });
        }
        done.response
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn borrowed<N: AsRef<str>, V: AsRef<str>>(headers: &[(N, V)]) -> Vec<(&str, &str)> {
    headers
        .iter()
        .map(|(name, value)| (name.as_ref(), value.as_ref()))
        .collect()
}
