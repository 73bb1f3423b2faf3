//! One TLS connection to one server, direct or through a proxy's tunnel, each step with its
//! deadline and each failure with its cause.

use super::message::{self, Answer, Failure, Request};
use super::socket::{Role, Timed, dial, reason, seconds};
use super::{Cause, HttpError, Learned, Options, tunnel};
use crate::wire::tls;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use std::io::{self, ErrorKind, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// More than a look at what has come already takes.
const GLANCE: Duration = Duration::from_secs(1);

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

    pub(super) fn authority(&self) -> String {
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
        learned: &Learned,
    ) -> Result<Connection, HttpError> {
        let deadline = Instant::now() + options.connect_timeout;
        let host = target.host.clone();
        let name = ServerName::try_from(host.clone()).map_err(|_| {
            let detail = format!("`{host}` is not a host name that a certificate can be for");
            HttpError::new(Cause::Local, detail)
        })?;
        let way = match &options.proxy {
            None => Timed::tcp(dial(&host, target.port, deadline, Role::Server)?, deadline),
            Some(proxy) => tunnel::open(proxy, target, options, deadline, learned)?,
        };
        let stream = handshake(way, tls, name, &host, options)?;
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
        self.stream.sock.ends_by(Instant::now() + sending);
        // A server may answer (413, 403) and close before it has read all: then what it said is
        // worth more than the broken pipe.
        let sent = self.send(request);
        let late = matches!(&sent, Err(e) if e.kind() == ErrorKind::TimedOut);
        let waiting = if late { Duration::ZERO } else { limit };
        self.stream.sock.ends_by(Instant::now() + waiting);
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
        sock.ends_by(Instant::now() + GLANCE);
        if sock.set_nonblocking(true).is_err() {
            return false;
        }
        let open = loop {
            match conn.read_tls(sock) {
                Ok(0) => break false,
                Ok(_) => match conn.process_new_packets() {
                    Ok(state) if state.peer_has_closed() => break false,
                    Ok(state) if state.plaintext_bytes_to_read() > 0 => break false,
                    Ok(_) => {}
                    Err(_) => break false,
                },
                // What "would block" is called here.
                Err(e) if e.kind() == ErrorKind::TimedOut => break true,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => break false,
            }
        };
        open && sock.set_nonblocking(false).is_ok()
    }
}

/// Shakes hands with `host`, by the deadline that `way` has.
pub(super) fn handshake(
    mut way: Timed,
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    host: &str,
    options: &Options,
) -> Result<StreamOwned<ClientConnection, Timed>, HttpError> {
    let mut session = ClientConnection::new(config, name).map_err(|e| tls::refusal(&e, host))?;
    while session.is_handshaking() {
        let step = session.complete_io(&mut way);
        step.map_err(|error| handshake_failure(&error, host, options.connect_timeout))?;
    }
    Ok(StreamOwned::new(session, way))
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
