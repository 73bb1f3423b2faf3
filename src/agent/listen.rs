//! The sockets that messages come in by.

use crate::agent::config::Syslog;
use log::{info, warn};
use serde::{Deserialize, Serialize};
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;

/// Asked of the kernel for datagrams that wait; it gives at most `net.core.rmem_max`.
const DATAGRAM_BUFFER: usize = 8 << 20;
/// Free ports tried when the configuration says port 0.
const TRIES: usize = 16;
/// Datagrams wait that long in the kernel without loss.
const REST: std::time::Duration = std::time::Duration::from_millis(20);

/// After an `accept` that gave nothing. Out of file descriptors or memory the socket stays readable:
/// without a rest its thread would do nothing but ask again.
pub fn rest_after(error: &std::io::Error) {
    use nix::libc::{EMFILE, ENFILE, ENOBUFS, ENOMEM};
    if let Some(EMFILE | ENFILE | ENOBUFS | ENOMEM) = error.raw_os_error() {
        std::thread::sleep(REST);
    }
}

/// Bound sockets, each with the number of its source.
#[derive(Debug, Default)]
pub struct Sockets {
    /// Datagrams.
    pub udp: Vec<(UdpSocket, usize)>,
    /// Streams.
    pub tcp: Vec<(TcpListener, usize)>,
}

/// What a listening socket speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Protocol {
    /// Datagrams.
    Udp,
    /// Streams.
    Tcp,
}

/// A bound socket that outlives its configuration.
#[derive(Debug)]
pub struct Kept {
    /// What it speaks.
    pub protocol: Protocol,
    /// What its source asked for; the port may be 0.
    pub asked: SocketAddr,
    /// The socket.
    pub socket: OwnedFd,
}

impl Sockets {
    /// The same sockets once more, with what their sources asked for.
    pub fn copies(&self, sources: &[Syslog]) -> std::io::Result<Vec<Kept>> {
        let asked = |number: &usize| sources.get(*number).map(Syslog::asked);
        let mut copies = Vec::new();
        for (socket, number) in &self.udp {
            if let Some(asked) = asked(number) {
                let socket = socket.try_clone()?.into();
                let protocol = Protocol::Udp;
                copies.push(Kept {
                    protocol,
                    asked,
                    socket,
                });
            }
        }
        for (socket, number) in &self.tcp {
            if let Some(asked) = asked(number) {
                let socket = socket.try_clone()?.into();
                let protocol = Protocol::Tcp;
                copies.push(Kept {
                    protocol,
                    asked,
                    socket,
                });
            }
        }
        Ok(copies)
    }
}

impl Syslog {
    /// Where it wants to listen.
    pub fn asked(&self) -> SocketAddr {
        SocketAddr::new(self.bind, self.port)
    }
}

/// Takes the one that was asked for out of `kept`.
fn take(kept: &mut Vec<Kept>, protocol: Protocol, asked: SocketAddr) -> Option<OwnedFd> {
    let at = kept
        .iter()
        .position(|k| k.protocol == protocol && k.asked == asked)?;
    Some(kept.swap_remove(at).socket)
}

/// The sockets that `sources` will have: of `kept` those they go on with, and new ones, bound now
/// so that a port that is taken is known in time. A source that moves to another address on a port
/// of ours gets its socket when the old one is gone.
pub fn prepare(sources: &[Syslog], mut kept: Vec<Kept>) -> Result<Vec<Kept>, ListenError> {
    let mut ready = Vec::new();
    let mut new = Vec::new();
    for source in sources {
        let before = ready.len();
        let asked = source.asked();
        for protocol in [Protocol::Udp, Protocol::Tcp] {
            let socket = take(&mut kept, protocol, asked);
            ready.extend(socket.map(|socket| Kept {
                protocol,
                asked,
                socket,
            }));
        }
        if ready.len() == before {
            new.push(source);
        }
    }
    for source in new {
        if source.port != 0 && kept.iter().any(|k| k.asked.port() == source.port) {
            continue;
        }
        let asked = source.asked();
        let (udp, tcp) = bind_one(source)?;
        ready.extend(udp.map(|s| Kept {
            protocol: Protocol::Udp,
            asked,
            socket: s.into(),
        }));
        ready.extend(tcp.map(|s| Kept {
            protocol: Protocol::Tcp,
            asked,
            socket: s.into(),
        }));
    }
    Ok(ready)
}

/// Why a source cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Someone else has the port.
    #[error(
        "{place}: port {port} ({protocol}) on {address} is in use by another program: `ss -{letter}lnp 'sport = :{port}'` names it; stop it, or choose another `port` here and in the syslog daemon's configuration"
    )]
    Busy {
        /// File and line of the source.
        place: String,
        /// UDP or TCP.
        protocol: &'static str,
        /// For `ss`.
        letter: char,
        /// The address.
        address: String,
        /// The port.
        port: u16,
    },
    /// Anything else.
    #[error("{place}: cannot listen on {address} ({protocol}): {reason}")]
    Other {
        /// File and line of the source.
        place: String,
        /// UDP or TCP.
        protocol: &'static str,
        /// Address and port.
        address: SocketAddr,
        /// What the system says.
        reason: String,
    },
}

/// Binds every source. A source that asks for UDP also listens on TCP at the same port, where
/// that is free. Sockets that were kept from before are used where they fit.
pub fn bind(sources: &[Syslog], mut kept: Vec<Kept>) -> Result<Sockets, ListenError> {
    let mut sockets = Sockets::default();
    for (number, source) in sources.iter().enumerate() {
        let udp = take(&mut kept, Protocol::Udp, source.asked()).map(UdpSocket::from);
        let tcp = take(&mut kept, Protocol::Tcp, source.asked()).map(TcpListener::from);
        let (udp, tcp) = match (udp, tcp) {
            (None, None) => bind_one(source)?,
            kept => kept,
        };
        let address = udp
            .as_ref()
            .map(|s| s.local_addr())
            .or(tcp.as_ref().map(|s| s.local_addr()));
        if let Some(Ok(address)) = address {
            let kinds = match (&udp, &tcp) {
                (Some(_), Some(_)) => "udp, tcp",
                (Some(_), None) => "udp",
                _ => "tcp",
            };
            info!("listening for syslog on {address} ({kinds})");
        }
        sockets.udp.extend(udp.map(|s| (s, number)));
        sockets.tcp.extend(tcp.map(|s| (s, number)));
    }
    Ok(sockets)
}

fn bind_one(source: &Syslog) -> Result<(Option<UdpSocket>, Option<TcpListener>), ListenError> {
    let at = |port| SocketAddr::new(source.bind, port);
    if !source.udp {
        let listener = stream(at(source.port)).map_err(|e| failed(source, "TCP", e))?;
        return Ok((None, Some(listener)));
    }
    for last in (0..TRIES).map(|i| i + 1 == TRIES) {
        let socket = datagrams(at(source.port)).map_err(|e| failed(source, "UDP", e))?;
        let port = socket.local_addr().map_or(source.port, |a| a.port());
        match stream(at(port)) {
            Ok(listener) => return Ok((Some(socket), Some(listener))),
            // A free UDP port whose TCP port is taken: another one.
            Err(_) if source.port == 0 && !last => {}
            Err(error) => {
                warn!(
                    "{}; UDP works",
                    failed(source, "TCP", error).to_string().trim_end()
                );
                return Ok((Some(socket), None));
            }
        }
    }
    Ok((None, None))
}

fn datagrams(address: SocketAddr) -> std::io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    socket.set_nonblocking(true)?;
    // Best effort: the default holds some hundred lines.
    let _ =
        nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::RcvBuf, &DATAGRAM_BUFFER);
    Ok(socket)
}

fn stream(address: SocketAddr) -> std::io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn failed(source: &Syslog, protocol: &'static str, error: std::io::Error) -> ListenError {
    match error.kind() {
        ErrorKind::AddrInUse => ListenError::Busy {
            place: source.place.clone(),
            protocol,
            letter: if protocol == "UDP" { 'u' } else { 't' },
            address: source.bind.to_string(),
            port: source.port,
        },
        _ => ListenError::Other {
            place: source.place.clone(),
            protocol,
            address: SocketAddr::new(source.bind, source.port),
            reason: error.to_string(),
        },
    }
}
