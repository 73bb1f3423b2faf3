//! A connected socket whose every operation ends by a deadline, and how one is connected.

use super::{Cause, HttpError};
use rustls::{ClientConnection, StreamOwned};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

/// Most addresses of one name that are tried.
const MAX_ADDRESSES: usize = 8;

/// What a connection stands on.
pub(super) struct Timed {
    carrier: Carrier,
    deadline: Instant,
}

enum Carrier {
    Tcp(TcpStream),
    /// TLS to a proxy.
    Tls(Box<StreamOwned<ClientConnection, Timed>>),
}

impl Timed {
    pub(super) fn tcp(tcp: TcpStream, deadline: Instant) -> Self {
        let carrier = Carrier::Tcp(tcp);
        Timed { carrier, deadline }
    }

    pub(super) fn within(session: StreamOwned<ClientConnection, Timed>) -> Self {
        let deadline = session.sock.deadline;
        let carrier = Carrier::Tls(Box::new(session));
        Timed { carrier, deadline }
    }

    pub(super) fn ends_by(&mut self, deadline: Instant) {
        self.deadline = deadline;
        if let Carrier::Tls(session) = &mut self.carrier {
            session.sock.ends_by(deadline);
        }
    }

    pub(super) fn set_nonblocking(&self, on: bool) -> io::Result<()> {
        match &self.carrier {
            Carrier::Tcp(tcp) => tcp.set_nonblocking(on),
            Carrier::Tls(session) => session.sock.set_nonblocking(on),
        }
    }

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

/// The proxy's TLS is not the server's: what breaks it is told as a broken connection. An end
/// without a goodbye is one; what goes through has its own TLS and would miss what is cut off.
fn of_the_proxy(error: io::Error) -> io::Result<usize> {
    match error.kind() {
        ErrorKind::UnexpectedEof => Ok(0),
        ErrorKind::TimedOut | ErrorKind::Interrupted => Err(error),
        _ => Err(ErrorKind::ConnectionReset.into()),
    }
}

impl Read for Timed {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = self.left()?;
        match &mut self.carrier {
            Carrier::Tcp(tcp) => {
                tcp.set_read_timeout(Some(left))?;
                tcp.read(into).map_err(timed_out)
            }
            Carrier::Tls(session) => session.read(into).or_else(of_the_proxy),
        }
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let left = self.left()?;
        match &mut self.carrier {
            Carrier::Tcp(tcp) => {
                tcp.set_write_timeout(Some(left))?;
                tcp.write(bytes).map_err(timed_out)
            }
            Carrier::Tls(session) => session.write(bytes).or_else(of_the_proxy),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.carrier {
            Carrier::Tcp(tcp) => tcp.flush(),
            Carrier::Tls(session) => session.flush(),
        }
    }
}

/// Who is connected to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
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

/// Resolves and connects by the deadline (the system's resolver apart, which has its own).
pub(super) fn dial(
    host: &str,
    port: u16,
    deadline: Instant,
    role: Role,
) -> Result<TcpStream, HttpError> {
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

/// The system's reason without its number.
pub(super) fn reason(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::ConnectionRefused => "connection refused".into(),
        ErrorKind::ConnectionReset => "connection reset".into(),
        ErrorKind::HostUnreachable => "no route to the host".into(),
        ErrorKind::NetworkUnreachable => "no route to its network".into(),
        ErrorKind::UnexpectedEof => "connection closed".into(),
        _ => error.to_string(),
    }
}

/// A limit as people read it.
pub(super) fn seconds(limit: Duration) -> String {
    match limit.as_millis() {
        ms if ms < 1000 => format!("{ms} ms"),
        _ => format!("{} s", limit.as_secs()),
    }
}
