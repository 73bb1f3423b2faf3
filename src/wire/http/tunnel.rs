//! The way through a proxy: CONNECT (RFC 9110 section 9.3.6), to a proxy that is spoken to in the
//! clear or over TLS.

use super::connection::{Target, handshake};
use super::message::{self, Failure};
use super::socket::{Role, Timed, dial};
use super::{Cause, HttpError, Learned, Options, Proxy};
use crate::settings::proxy::Scheme;
use crate::wire::tls;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::ServerName;
use std::io::{ErrorKind, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;
use zeroize::Zeroizing;

/// Opens a tunnel to the target. A password that may be meant in two ways is tried in both, the
/// one that was good before first.
pub(super) fn open(
    proxy: &Proxy,
    target: &Target,
    options: &Options,
    deadline: Instant,
    learned: &Learned,
) -> Result<Timed, HttpError> {
    let logins = proxy.logins();
    let good = learned.login.load(Ordering::Relaxed);
    let count = logins.len().max(1);
    let mut refusal = None;
    for which in (0..count).map(|n| (n + good) % count) {
        let mut way = reach(proxy, options, deadline, learned)?;
        let login = logins.get(which).map(|login| login.as_slice());
        match ask(&mut way, proxy, target, login) {
            Ok(()) => {
                learned.login.store(which, Ordering::Relaxed);
                return Ok(way);
            }
            Err(error) if error.cause == Cause::ProxyAuth => refusal = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(refusal.unwrap_or_else(|| HttpError::new(Cause::ProxyAuth, "the proxy wants a user")))
}

fn at(proxy: &Proxy) -> String {
    format!("the proxy `{}` port {}", proxy.host, proxy.port)
}

/// Connects to the proxy itself. `https://` was written for proxies that speak no TLS, too, and
/// the original's agent read it as `http://` (protocol.md 1.10): where what answers is plain HTTP,
/// that is how it is spoken to, and [`Learned`] says so.
fn reach(
    proxy: &Proxy,
    options: &Options,
    deadline: Instant,
    learned: &Learned,
) -> Result<Timed, HttpError> {
    let connect = || {
        let tcp = dial(&proxy.host, proxy.port, deadline, Role::Proxy)?;
        Ok(Timed::tcp(tcp, deadline))
    };
    if proxy.scheme == Scheme::Http || learned.proxy_is_plain.load(Ordering::Relaxed) {
        return connect();
    }
    let failed = |why: &str| {
        let detail = format!("no TLS with {}: {why}", at(proxy));
        HttpError::new(Cause::ProxyTls, detail)
    };
    let name = ServerName::try_from(proxy.host.clone())
        .map_err(|_| failed("that is no name that a certificate can be for"))?;
    // Who we are is the service's to know, not the proxy's.
    let config = tls::client_config(None, options.ca_file.as_deref(), &Arc::default())?;
    match handshake(connect()?, Arc::new(config), name, &proxy.host, options) {
        Ok(session) => Ok(Timed::within(session)),
        Err(error) if error.cause == Cause::NotTls => {
            if !learned.proxy_is_plain.swap(true, Ordering::Relaxed) {
                log::warn!("{}", plain_proxy(proxy));
            }
            connect()
        }
        Err(error) => Err(failed(&error.detail)),
    }
}

/// What is said of a proxy that speaks no TLS although `https://` is written.
pub(super) fn plain_proxy(proxy: &Proxy) -> String {
    let password = match proxy.credentials {
        None => "",
        Some(_) => ", its user and password too",
    };
    format!(
        "{} is written with https:// and speaks no TLS: it is spoken to in the clear{password}; \
         write http:// if that is right",
        at(proxy)
    )
}

/// One CONNECT.
fn ask(
    way: &mut Timed,
    proxy: &Proxy,
    target: &Target,
    login: Option<&[u8]>,
) -> Result<(), HttpError> {
    let at = at(proxy);
    let authority = target.authority();
    let mut head = Zeroizing::new(format!(
        "CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n"
    ));
    if let Some(login) = login {
        let value = Zeroizing::new(format!("Basic {}", *Zeroizing::new(STANDARD.encode(login))));
        message::push_header(&mut head, "Proxy-Authorization", &value)?;
    }
    head.push_str("\r\n");
    let answered = way
        .write_all(head.as_bytes())
        .and_then(|()| way.flush())
        .map_err(|source| Failure::Stream {
            source,
            received: 0,
        })
        .and_then(|()| message::read_connect_answer(way));
    let (cause, detail) = match answered {
        Ok(200..=299) => return Ok(()),
        Ok(407) => {
            let which = match login {
                None => "wants a user and a password",
                Some(_) => "does not accept the user and password given",
            };
            (Cause::ProxyAuth, format!("{at} {which} (407)"))
        }
        Ok(status) => {
            let detail = format!("{at} refuses a connection to `{authority}` ({status})");
            (Cause::ProxyRefused, detail)
        }
        Err(Failure::NotHttp(why)) => {
            let detail = format!("{at} does not answer like a proxy: {why}");
            (Cause::ProxyRefused, detail)
        }
        Err(Failure::Stream { source, .. }) if source.kind() == ErrorKind::TimedOut => {
            let detail = format!("{at} did not connect to `{authority}` in time");
            (Cause::Timeout, detail)
        }
        Err(Failure::Stream { .. }) => {
            let detail = format!("{at} closed the connection when asked for `{authority}`");
            (Cause::ProxyRefused, detail)
        }
    };
    Err(HttpError::new(cause, detail))
}
