//! One TLS connection to one server, direct or through a proxy's tunnel, each step with its
//! deadline and each failure with its cause.

use super::message::{self, Answer, Failure, Request};
use super::{Cause, HttpError, Options, Proxy};
use crate::wire::tls;
use base64::Engine;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// Most addresses of one name that are tried.
const MAX_ADDRESSES: usize = 8;

/// The slowest line, in bytes a second, on which a request is sent to its end.
const SLOWEST_LINE: u64 = 4096;

/// Whom to talk to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) host: String,
    pub(super) port: u16,
}

impl Target {
    /// `host`, `host:port` when not 443; a v6 address in brackets.
    pub(super) fn host_header(&self) -> String {
        match self.port {
            443 => self.bracketed(),
            _ => self.authority(),
        }
    }

    fn authority(&self) -> String {
        format!("{}:{}", self.bracketed(), self.port)
    }

    fn bracketed(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        }
    }
}

/// An exchange that came to nothing.
pub(super) struct Broken {
    pub(super) error: HttpError,
    /// The connection was closed before a byte of answer: an idle one had died, or was refused.
    pub(super) nothing_came: bool,
}

/// An open connection.
pub(super) struct Connection {
    stream: StreamOwned<ClientConnection, Timed>,
    host: String,
}

impl Connection {
    /// Resolves, connects, opens the tunnel and shakes hands, all within `connect_timeout`
    /// (the system's resolver apart, which has its own).
    pub(super) fn open(
        target: &Target,
        options: &Options,
        tls: Arc<ClientConfig>,
    ) -> Result<Connection, HttpError> {
        let limit = options.connect_timeout;
        let deadline = Instant::now() + limit;
        let host = target.host.clone();
        let name = ServerName::try_from(host.clone()).map_err(|_| {
            let detail = format!("`{host}` is not a host name that a certificate can be for");
            HttpError::new(Cause::Local, detail)
        })?;
        let tcp = match &options.proxy {
            None => dial(&host, target.port, deadline, Role::Server)?,
            Some(proxy) => tunnel(proxy, target, deadline)?,
        };
        let mut session = ClientConnection::new(tls, name).map_err(|e| tls::refusal(&e, &host))?;
        let mut tcp = Timed { tcp, deadline };
        while session.is_handshaking() {
            let step = session.complete_io(&mut tcp);
            step.map_err(|error| handshake_failure(&error, &host, limit))?;
        }
        let stream = StreamOwned::new(session, tcp);
        Ok(Connection { stream, host })
    }

    /// Sends a request and reads the answer.
    pub(super) fn exchange(
        &mut self,
        request: &Request<'_>,
        limit: Duration,
    ) -> Result<Answer, Broken> {
        let length = (request.head.len() + request.body.len()) as u64;
        let sending = limit + Duration::from_secs(length / SLOWEST_LINE);
        self.stream.sock.deadline = Instant::now() + sending;
        // A server may answer (413, 403) and close before it has read all: then what it said is
        // worth more than the broken pipe.
        let sent = self.send(request);
        let late = matches!(&sent, Err(e) if e.kind() == ErrorKind::TimedOut);
        let waiting = if late { Duration::ZERO } else { limit };
        self.stream.sock.deadline = Instant::now() + waiting;
        let answer = match message::read_answer(&mut self.stream) {
            Ok(answer) => answer,
            Err(failure) => return Err(self.broken(failure, sent.err(), limit)),
        };
        Ok(Answer {
            reusable: answer.reusable && sent.is_ok(),
            ..answer
        })
    }

    fn send(&mut self, request: &Request<'_>) -> io::Result<()> {
        self.stream.write_all(&request.head)?;
        self.stream.write_all(request.body)?;
        self.stream.flush()
    }

    fn broken(&self, failure: Failure, sending: Option<io::Error>, limit: Duration) -> Broken {
        let host = &self.host;
        let (source, received) = match failure {
            Failure::NotHttp(why) => {
                let detail = format!("the answer of `{host}` cannot be used: {why}");
                let error = HttpError::new(Cause::Protocol, detail);
                let nothing_came = false;
                return Broken {
                    error,
                    nothing_came,
                };
            }
            Failure::Stream { source, received } => (source, received),
        };
        // The reading end often knows more (an alert of TLS) than the writing end (broken pipe).
        let told = tls_error(&source).or(sending.as_ref().and_then(tls_error));
        if let Some(error) = told {
            return Broken {
                error: tls::refusal(error, host),
                nothing_came: false,
            };
        }
        let late = |e: &io::Error| e.kind() == ErrorKind::TimedOut;
        let (cause, detail) = if sending.as_ref().is_some_and(late) {
            let detail = format!("`{host}` did not take the whole request in time");
            (Cause::Timeout, detail)
        } else if late(&source) {
            let detail = format!("`{host}` did not answer within {}", seconds(limit));
            (Cause::Timeout, detail)
        } else if received > 0 {
            let detail = format!("the answer of `{host}` was cut off after {received} bytes");
            (Cause::Protocol, detail)
        } else {
            let detail = format!("`{host}` closed the connection without an answer");
            (Cause::Protocol, detail)
        };
        let nothing_came = received == 0 && cause == Cause::Protocol;
        Broken {
            error: HttpError::new(cause, detail),
            nothing_came,
        }
    }

    /// Has the server kept this idle connection open? What it may have said meanwhile (session
    /// tickets, a goodbye) is digested.
    pub(super) fn is_alive(&mut self) -> bool {
        let StreamOwned { conn, sock } = &mut self.stream;
        if sock.tcp.set_nonblocking(true).is_err() {
            return false;
        }
        let open = loop {
            match conn.read_tls(&mut sock.tcp) {
                Ok(0) => break false,
                Ok(_) => match conn.process_new_packets() {
                    Ok(state) if state.peer_has_closed() => break false,
                    Ok(state) if state.plaintext_bytes_to_read() > 0 => break false,
                    Ok(_) => {}
                    Err(_) => break false,
                },
                Err(e) if e.kind() == ErrorKind::WouldBlock => break true,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => break false,
            }
        };
        open && sock.tcp.set_nonblocking(false).is_ok()
    }
}

/// A socket whose every operation ends by the deadline.
struct Timed {
    tcp: TcpStream,
    deadline: Instant,
}

impl Timed {
    fn left(&self) -> io::Result<Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        Ok(left)
    }
}

/// A socket with a time limit says "would block" when it is over.
fn timed_out(error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::WouldBlock => ErrorKind::TimedOut.into(),
        _ => error,
    }
}

impl Read for Timed {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.tcp.set_read_timeout(Some(self.left()?))?;
        self.tcp.read(into).map_err(timed_out)
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.tcp.set_write_timeout(Some(self.left()?))?;
        self.tcp.write(bytes).map_err(timed_out)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.tcp.flush()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Server,
    Proxy,
}

impl Role {
    /// How the other side is called in messages, and the causes for its name and its port.
    fn words(self) -> (&'static str, Cause, Cause) {
        match self {
            Role::Server => ("", Cause::Dns, Cause::Connect),
            Role::Proxy => ("the proxy ", Cause::ProxyDns, Cause::ProxyConnect),
        }
    }
}

fn dial(host: &str, port: u16, deadline: Instant, role: Role) -> Result<TcpStream, HttpError> {
    let (who, unresolved, unreachable) = role.words();
    let not_found = |why: &str| {
        let owner = match role {
            Role::Server => "",
            Role::Proxy => "of the proxy ",
        };
        let why = why.trim_start_matches("failed to lookup address information: ");
        let detail = format!("the name `{host}` {owner}does not resolve ({why})");
        HttpError::new(unresolved, detail)
    };
    let addresses = (host, port).to_socket_addrs();
    let addresses = addresses.map_err(|e| not_found(&e.to_string()))?;
    let addresses: Vec<SocketAddr> = addresses.take(MAX_ADDRESSES).collect();
    let mut refusal: Option<io::Error> = None;
    for (i, address) in addresses.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        // One silent address must not use up the time of those that would answer.
        let share = left / u32::try_from(addresses.len() - i).unwrap_or(1);
        if share.is_zero() {
            break;
        }
        match TcpStream::connect_timeout(address, share) {
            Ok(tcp) => {
                let _ = tcp.set_nodelay(true);
                return Ok(tcp);
            }
            Err(e) if e.kind() == ErrorKind::TimedOut => {}
            Err(e) => refusal = Some(e),
        }
    }
    let at = format!("{who}`{host}` port {port}");
    Err(match (refusal, addresses.is_empty()) {
        (_, true) => not_found("no address"),
        (Some(error), _) => {
            let detail = format!("cannot connect to {at}: {}", reason(&error));
            HttpError::new(unreachable, detail)
        }
        (None, _) if role == Role::Proxy => {
            let detail = format!("cannot connect to {at}: it does not answer");
            HttpError::new(unreachable, detail)
        }
        (None, _) => {
            let detail = format!("{at} does not answer (a firewall may drop the connection)");
            HttpError::new(Cause::Timeout, detail)
        }
    })
}

/// Asks the proxy for a tunnel to the target (RFC 9110 section 9.3.6).
fn tunnel(proxy: &Proxy, target: &Target, deadline: Instant) -> Result<TcpStream, HttpError> {
    let tcp = dial(&proxy.host, proxy.port, deadline, Role::Proxy)?;
    let at = format!("the proxy `{}` port {}", proxy.host, proxy.port);
    let authority = target.authority();
    let mut head = Zeroizing::new(format!(
        "CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n"
    ));
    if let Some((user, password)) = &proxy.credentials {
        let pair = Zeroizing::new(format!("{user}:{}", password.expose()));
        let coded = base64::engine::general_purpose::STANDARD.encode(pair.as_bytes());
        let value = Zeroizing::new(format!("Basic {}", *Zeroizing::new(coded)));
        message::push_header(&mut head, "Proxy-Authorization", &value)?;
    }
    head.push_str("\r\n");
    let mut timed = Timed { tcp, deadline };
    let answered = timed
        .write_all(head.as_bytes())
        .map_err(|source| Failure::Stream {
            source,
            received: 0,
        })
        .and_then(|()| message::read_connect_answer(&mut timed));
    let (cause, detail) = match answered {
        Ok(200..=299) => return Ok(timed.tcp),
        Ok(407) => {
            let which = match proxy.credentials {
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

fn handshake_failure(error: &io::Error, host: &str, limit: Duration) -> HttpError {
    if let Some(told) = tls_error(error) {
        return tls::refusal(told, host);
    }
    if error.kind() == ErrorKind::TimedOut {
        let within = seconds(limit);
        let detail = format!("`{host}` did not finish the TLS handshake within {within}");
        return HttpError::new(Cause::Timeout, detail);
    }
    let detail = format!(
        "`{host}` broke off the TLS handshake ({}); a firewall that blocks this name does so",
        reason(error)
    );
    HttpError::new(Cause::Connect, detail)
}

fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref::<rustls::Error>()
}

/// The system's reason without its number.
fn reason(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::ConnectionRefused => "connection refused".into(),
        ErrorKind::ConnectionReset => "connection reset".into(),
        ErrorKind::HostUnreachable => "no route to the host".into(),
        ErrorKind::NetworkUnreachable => "no route to its network".into(),
        ErrorKind::UnexpectedEof => "connection closed".into(),
        _ => error.to_string(),
    }
}

fn seconds(limit: Duration) -> String {
    match limit.as_millis() {
        ms if ms < 1000 => format!("{ms} ms"),
        _ => format!("{} s", limit.as_secs()),
    }
}
