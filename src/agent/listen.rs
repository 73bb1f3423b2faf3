//! The sockets that messages come in by.

use crate::agent::config::{Listen, Syslog};
use log::{info, warn};
use serde::{Deserialize, Serialize};
use std::io::{Error, ErrorKind, Read, Result};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// Asked of the kernel for datagrams that wait; it gives at most `net.core.rmem_max`.
const DATAGRAM_BUFFER: usize = 8 << 20;
/// Free ports tried when the configuration says port 0.
const TRIES: usize = 16;
/// For the service account and its group: who may write the configuration may send.
const SOCKET_MODE: u32 = 0o660;
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
    /// Datagrams that are lost when nobody takes them.
    pub udp: Vec<(UdpSocket, usize)>,
    /// Datagrams whose senders wait.
    pub local: Vec<(LocalDatagrams, usize)>,
    /// Streams.
    pub streams: Vec<(Listener, usize)>,
}

/// A listener for streams.
#[derive(Debug)]
pub enum Listener {
    /// At a port.
    Tcp(TcpListener),
    /// At a name in the file system.
    Unix(UnixListener, SocketFile),
}

/// An accepted stream.
#[derive(Debug)]
pub enum Stream {
    /// From a port.
    Tcp(TcpStream),
    /// From a name in the file system.
    Unix(UnixStream),
}

/// A socket for datagrams at a name in the file system.
#[derive(Debug)]
pub struct LocalDatagrams {
    socket: UnixDatagram,
    _file: SocketFile,
}

/// The name of a socket in the file system, which goes with it.
#[derive(Debug)]
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Listener {
    /// The next stream; it does not block.
    pub fn accept(&self) -> Result<Stream> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_nonblocking(true)?;
                let keep = nix::sys::socket::sockopt::KeepAlive;
                let _ = nix::sys::socket::setsockopt(&stream, keep, &true);
                Ok(Stream::Tcp(stream))
            }
            Listener::Unix(listener, _) => {
                let (stream, _) = listener.accept()?;
                stream.set_nonblocking(true)?;
                Ok(Stream::Unix(stream))
            }
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Listener::Tcp(listener) => listener.as_fd(),
            Listener::Unix(listener, _) => listener.as_fd(),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(buffer),
            Stream::Unix(stream) => stream.read(buffer),
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Stream::Tcp(stream) => stream.as_fd(),
            Stream::Unix(stream) => stream.as_fd(),
        }
    }
}

impl LocalDatagrams {
    /// One datagram.
    pub fn recv(&self, buffer: &mut [u8]) -> Result<usize> {
        self.socket.recv(buffer)
    }
}

impl AsFd for LocalDatagrams {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
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
        for (listener, number) in &self.streams {
            let Listener::Tcp(socket) = listener else {
                continue;
            };
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

/// What was kept for a port; `None` when the source has to bind it.
fn take_both(kept: &mut Vec<Kept>, source: &Syslog) -> Option<Bound> {
    let udp = take(kept, Protocol::Udp, source.asked()).map(UdpSocket::from);
    let tcp = take(kept, Protocol::Tcp, source.asked()).map(TcpListener::from);
    match source.listen {
        Listen::Tcp => tcp.map(|tcp| (None, Some(tcp))),
        _ => udp.map(|udp| (Some(udp), tcp)),
    }
}

/// The sockets that `sources` will have: of `kept` those they go on with, and new ones, bound now
/// so that a port that is taken is known in time. A source that moves to another address on a port
/// of ours gets its socket when the old one is gone.
pub fn prepare(
    sources: &[Syslog],
    mut kept: Vec<Kept>,
) -> std::result::Result<Vec<Kept>, ListenError> {
    let mut ready = Vec::new();
    let mut new = Vec::new();
    let at_port = |source: &&Syslog| !matches!(source.listen, Listen::Unix(_));
    for source in sources.iter().filter(at_port) {
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
        let (udp, tcp) = bind_port(source)?;
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
        /// UDP, TCP or unix.
        protocol: &'static str,
        /// Address and port, or the name in the file system.
        address: String,
        /// What the system says.
        reason: String,
    },
}

/// Binds every source. A source that asks for UDP also listens on TCP at the same port, where
/// that is free; one that names a socket beside its port takes datagrams there, where it can. Ports
/// that were kept from before are used where they fit.
pub fn bind(sources: &[Syslog], mut kept: Vec<Kept>) -> std::result::Result<Sockets, ListenError> {
    let mut sockets = Sockets::default();
    for (number, source) in sources.iter().enumerate() {
        match &source.listen {
            Listen::Unix(path) => {
                let listener = local_stream(path).map_err(|e| local_failed(source, path, &e))?;
                info!("listening for syslog on {} (streams)", path.display());
                sockets.streams.push((listener, number));
            }
            Listen::Udp | Listen::Tcp => {
                let (udp, tcp) = match take_both(&mut kept, source) {
                    Some(both) => both,
                    None => bind_port(source)?,
                };
                tell(&udp, &tcp);
                sockets.udp.extend(udp.map(|s| (s, number)));
                let tcp = tcp.map(|s| (Listener::Tcp(s), number));
                sockets.streams.extend(tcp);
            }
        }
        if let Some(path) = &source.datagrams {
            match local_datagrams(path) {
                Ok(socket) => {
                    info!("listening for syslog on {} (datagrams)", path.display());
                    sockets.local.push((socket, number));
                }
                Err(error) => warn!("{}; the port works", local_failed(source, path, &error)),
            }
        }
    }
    Ok(sockets)
}

fn tell(udp: &Option<UdpSocket>, tcp: &Option<TcpListener>) {
    let address = udp.as_ref().map(UdpSocket::local_addr);
    let address = address.or(tcp.as_ref().map(TcpListener::local_addr));
    if let Some(Ok(address)) = address {
        let kinds = match (udp, tcp) {
            (Some(_), Some(_)) => "udp, tcp",
            (Some(_), None) => "udp",
            _ => "tcp",
        };
        info!("listening for syslog on {address} ({kinds})");
    }
}

type Bound = (Option<UdpSocket>, Option<TcpListener>);

fn bind_port(source: &Syslog) -> std::result::Result<Bound, ListenError> {
    let at = |port| SocketAddr::new(source.bind, port);
    if source.listen == Listen::Tcp {
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

fn datagrams(address: SocketAddr) -> Result<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    socket.set_nonblocking(true)?;
    // Best effort: the default holds some hundred lines.
    let _ =
        nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::RcvBuf, &DATAGRAM_BUFFER);
    Ok(socket)
}

fn stream(address: SocketAddr) -> Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn local_datagrams(path: &Path) -> Result<LocalDatagrams> {
    make_room(path, |path| {
        UnixDatagram::unbound()
            .and_then(|s| s.connect(path))
            .is_ok()
    })?;
    let socket = UnixDatagram::bind(path)?;
    let file = SocketFile(path.to_owned());
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(SOCKET_MODE))?;
    socket.set_nonblocking(true)?;
    Ok(LocalDatagrams {
        socket,
        _file: file,
    })
}

fn local_stream(path: &Path) -> Result<Listener> {
    make_room(path, |path| UnixStream::connect(path).is_ok())?;
    let listener = UnixListener::bind(path)?;
    let file = SocketFile(path.to_owned());
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(SOCKET_MODE))?;
    listener.set_nonblocking(true)?;
    Ok(Listener::Unix(listener, file))
}

/// Takes away what an earlier run left; nothing else, and no socket that somebody listens on.
fn make_room(path: &Path, is_in_use: impl Fn(&Path) -> bool) -> Result<()> {
    let meta = match std::fs::symlink_metadata(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    if !meta.file_type().is_socket() {
        return Err(Error::other("something that is no socket has this name"));
    }
    if is_in_use(path) {
        return Err(Error::other("another program listens there"));
    }
    std::fs::remove_file(path)
}

fn local_failed(source: &Syslog, path: &Path, error: &Error) -> ListenError {
    ListenError::Other {
        place: source.place.clone(),
        protocol: "unix",
        address: path.display().to_string(),
        reason: error.to_string(),
    }
}

fn failed(source: &Syslog, protocol: &'static str, error: Error) -> ListenError {
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
            address: SocketAddr::new(source.bind, source.port).to_string(),
            reason: error.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn source(listen: Listen, datagrams: Option<&Path>) -> Syslog {
        Syslog {
            bind: Ipv4Addr::LOCALHOST.into(),
            port: 0,
            listen,
            datagrams: datagrams.map(Path::to_owned),
            tag: "oms.syslog".into(),
            default_priority: None,
            place: "t.conf:1".into(),
        }
    }

    #[test]
    fn sockets_in_the_file_system_come_and_go() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        let sources = [
            source(Listen::Udp, Some(&one)),
            source(Listen::Unix(two.clone()), None),
        ];
        // What a killed agent left.
        drop(UnixDatagram::bind(&one).unwrap());
        drop(UnixListener::bind(&two).unwrap());
        let sockets = bind(&sources, Vec::new()).unwrap();
        assert_eq!(
            (
                sockets.udp.len(),
                sockets.local.len(),
                sockets.streams.len()
            ),
            (1, 1, 2)
        );
        for path in [&one, &two] {
            let mode = std::fs::metadata(path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, SOCKET_MODE);
        }
        let sender = UnixDatagram::unbound().unwrap();
        sender.send_to(b"<13>x", &one).unwrap();
        let mut buffer = [0; 64];
        assert_eq!(sockets.local[0].0.recv(&mut buffer).unwrap(), 5);
        assert!(UnixStream::connect(&two).is_ok());
        assert!(sockets.streams[1].0.accept().is_ok());
        // A second agent: an addition is a warning, all there is an error.
        assert_eq!(bind(&sources[..1], Vec::new()).unwrap().local.len(), 0);
        let told = bind(&sources[1..], Vec::new()).unwrap_err().to_string();
        assert!(told.contains("another program listens there"), "{told}");
        assert!(one.exists() && two.exists());
        drop(sockets);
        assert!(!one.exists() && !two.exists());
        std::fs::write(&two, "mine").unwrap();
        let told = bind(&sources[1..], Vec::new()).unwrap_err().to_string();
        assert!(told.contains("no socket"), "{told}");
        assert_eq!(std::fs::read(&two).unwrap(), b"mine");
    }
}
